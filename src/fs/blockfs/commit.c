/* SPDX-License-Identifier: MIT */
/*
 * commit.c - how things become durable, in order (STORE-PATH 9/9), and for all who wait at once.
 *
 * A commit
 *   1. notes for each dirty inode its row, then marks its PENDING extents SYNC: what was write()n or
 *      preallocated until now
 *   2. flushes the device: the data of all SYNC extents is durable
 *   3. puts the rows of SYNC extents, then the noted inode rows, then grace times of quotas, into the running
 * transaction, with the names ops and the like that are there already. Data beyond the size that is stored
 * then waits for a later commit
 *   4. commits it; SQLite flushes again. What the transaction freed can be used again; with sb->discard the
 * device is told before.
 * Rows are noted before extents are marked, so no noted size covers data that the flush does not. If the WAL
 * gets full in 3, what is there is committed and a new transaction begins; the size then goes as far as the
 * data that is there.
 *
 * Tickets: whoever wants a commit takes the number of the next one to start; any commit with that number or a
 * later one has all that the caller did before. One runs at a time; the others wait, and most find their
 * ticket served when it ends.
 */
#include "fs/blockfs/blockfs.h"
#include "fs/blockfs/testing.h"

#include "dev/device_io.h"

#include <assert.h>
#include <errno.h>
#include <limits.h>

#define SYNC_BATCH 64

void hf_blockfs_mark_dirty(struct hf_blockfs *fs, struct hf_blockfs_inode *fi)
{
    hf_mutex_lock(&fs->dirty_lock);
    if (!fi->listed && !fi->dead) {
        fi->listed = true;
        hf_list_add_tail(&fs->dirty, &fi->dirty);
    }
    hf_mutex_unlock(&fs->dirty_lock);
}

uint64_t hf_blockfs_ticket(struct hf_blockfs *fs)
{
    return atomic_load(&fs->commits_started) + 1;
}

/* ---- step 1 */

static struct hf_blockfs_inode *snapshot(struct hf_blockfs *fs)
{
    struct hf_blockfs_inode *chain = NULL, *fi;

    hf_mutex_lock(&fs->dirty_lock);
    while (!hf_list_empty(&fs->dirty)) {
        fi = hf_list_entry(fs->dirty.next, struct hf_blockfs_inode, dirty);
        hf_list_del(&fi->dirty);
        fi->listed = false;
        fi->committing = true;
        if (fi->row_dirty) {
            fi->commit_row = fi->row;
            fi->commit_row_dirty = true;
            fi->row_dirty = fi->size_dirty = false;
        }
        fi->commit_next = chain;
        chain = fi;
    }
    hf_mutex_unlock(&fs->dirty_lock);
    for (fi = chain; fi != NULL; fi = fi->commit_next) {
        hf_rwlock_wrlock(&fi->extents.lock);
        hf_extmap_mark_sync(&fi->extents);
        hf_rwlock_wrunlock(&fi->extents.lock);
    }
    return chain;
}

/* ---- step 3. Under sql_lock. */

static uint32_t flags_stored(uint32_t flags)
{
    assert(flags & HF_EXT_SYNC);
    (void)flags;
    return HF_EXT_DATA | HF_EXT_ROW;
}

/* Part of it may have been written since it was looked at: that is for the next commit. */
static uint32_t flags_stored_unwritten(uint32_t flags)
{
    return flags & HF_EXT_DATA ? flags | HF_EXT_ROW : HF_EXT_ROW;
}

static int txn_commit(struct hf_blockfs *fs)
{
    int rc = hf_txn_commit(&fs->txn);

    if (rc == 0)
        hf_space_commit(&fs->space);
    return rc;
}

/* The transaction has rows of data below end, and is to be committed although more are to come: the size goes
 * with it as far as that, so that no data is beyond it. */
static int size_so_far(struct hf_blockfs *fs, struct hf_blockfs_inode *fi, uint64_t end)
{
    hf_off_t size = (hf_off_t)(end * fs->block_size);
    struct hf_blockfs_row row;
    bool more;

    hf_mutex_lock(&fs->dirty_lock);
    row = fi->commit_row;
    more = fi->commit_row_dirty && size > fi->stored_size;
    if (row.size > size)
        row.size = size;
    if (more)
        fi->stored_size = row.size;
    hf_mutex_unlock(&fs->dirty_lock);
    return more ? hf_blockfs_post_row(fs, fi->ino, &row) : 0;
}

/* Commits what is in the transaction if there may be no room for some more rows in it. end: of the data of
 * the inode that it has so far, in blocks. */
int hf_blockfs_room_inside(struct hf_blockfs *fs, struct hf_blockfs_inode *fi, uint64_t end)
{
    int rc = hf_txn_start(&fs->txn);

    if (rc != 0 || hf_metadb_wal_room(fs->txn.db) >= 4 * HF_METADB_ROW_PAGES || fs->txn.log_len == 0)
        return rc;
    if (fi != NULL)
        rc = size_so_far(fs, fi, end);
    if (rc == 0)
        rc = txn_commit(fs);
    return rc != 0 ? rc : hf_txn_start(&fs->txn);
}

static int store_extent(struct hf_blockfs *fs, struct hf_blockfs_inode *fi, const struct hf_ext *ext,
                        uint64_t *end) HF_NO_TSA
{
    bool unwritten = !(ext->flags & HF_EXT_DATA);
    size_t mark;
    int rc = hf_blockfs_room_inside(fs, fi, *end);

    if (rc != 0)
        return rc;
    mark = hf_txn_mark(&fs->txn);
    rc = hf_blockfs_put_row(fs, fi, ext, unwritten);
    if (rc != 0) {
        hf_txn_cancel(&fs->txn, mark);
        return rc == -EEXIST ? hf_blockfs_damaged(fs, "inode %llu has two extents at block %llu",
                                                  (unsigned long long)fi->ino, (unsigned long long)ext->lblk)
                             : rc;
    }
    /* A whole extent, and nothing but what sql_lock guards takes it away: no split, so no memory is needed
     * (write() may have cut it, and needed the memory itself). */
    hf_rwlock_wrlock(&fi->extents.lock);
    hf_extmap_change(&fi->extents, ext->lblk, hf_ext_end(ext),
                     unwritten ? flags_stored_unwritten : flags_stored);
    hf_extmap_unlock(&fi->extents);
    if (!unwritten && hf_ext_end(ext) > *end)
        *end = hf_ext_end(ext);
    return 0;
}

static int store_extents(struct hf_blockfs *fs, struct hf_blockfs_inode *fi, uint64_t *end)
{
    struct hf_ext exts[SYNC_BATCH];
    int rc = 0;

    for (;;) {
        size_t n;

        hf_rwlock_rdlock(&fi->extents.lock);
        n = hf_extmap_collect_sync(&fi->extents, SYNC_BATCH, exts);
        hf_rwlock_rdunlock(&fi->extents.lock);
        if (n == 0)
            return 0;
        for (size_t i = 0; i < n && rc == 0; i++)
            rc = store_extent(fs, fi, &exts[i], end);
        if (rc != 0)
            return rc;
    }
}

static uint32_t flags_not_now(uint32_t flags)
{
    return flags & HF_EXT_DATA ? flags & ~HF_EXT_SYNC : flags;
}

/* Data beyond the size that this commit stores (nobody has told a larger one yet) stays pending: a row for it
 * would show its bytes when the file grows after a power cut (HOLD-9). */
static int leave_beyond(struct hf_blockfs *fs, struct hf_blockfs_inode *fi, hf_off_t size)
{
    uint64_t first = ((uint64_t)size + fs->block_size - 1) / fs->block_size;
    struct hf_ext ext;
    bool any;
    int rc;

    hf_rwlock_rdlock(&fi->extents.lock);
    any = hf_extmap_find(&fi->extents, first, &ext);
    hf_rwlock_rdunlock(&fi->extents.lock);
    if (!any || HF_BROKEN(store_beyond_size))
        return 0;
    rc = hf_extmap_lock_for(&fi->extents, 2);
    if (rc != 0)
        return rc;
    hf_extmap_change(&fi->extents, first, UINT64_MAX, flags_not_now);
    hf_extmap_unlock(&fi->extents);
    return 0;
}

static int store_inode(struct hf_blockfs *fs, struct hf_blockfs_inode *fi) HF_NO_TSA
{
    struct hf_blockfs_row row;
    bool has_row, dead;
    uint64_t end = 0;
    hf_off_t size;
    int rc;

    hf_mutex_lock(&fs->dirty_lock);
    dead = fi->dead;
    size = fi->commit_row_dirty ? fi->commit_row.size : fi->stored_size;
    hf_mutex_unlock(&fs->dirty_lock);
    if (dead)
        return 0;
    rc = leave_beyond(fs, fi, size);
    if (rc == 0)
        rc = store_extents(fs, fi, &end);
    if (rc == 0)
        rc = hf_blockfs_room_inside(fs, fi, end);
    if (rc != 0)
        return rc;
    hf_mutex_lock(&fs->dirty_lock); /* sql_lock keeps truncate, which settles the row itself, away */
    row = fi->commit_row;
    has_row = fi->commit_row_dirty;
    hf_mutex_unlock(&fs->dirty_lock);
    if (!has_row)
        return 0;
    rc = hf_blockfs_post_row(fs, fi->ino, &row);
    hf_mutex_lock(&fs->dirty_lock);
    fi->commit_row_dirty = false;
    fi->stored_size = row.size;
    hf_mutex_unlock(&fs->dirty_lock);
    return rc;
}

/* An inode leaves the commit: what it could not store goes to the next one. */
static void release_inode(struct hf_blockfs *fs, struct hf_blockfs_inode *fi)
{
    bool pending, unused;

    hf_rwlock_rdlock(&fi->extents.lock);
    pending = hf_extmap_has_pending(&fi->extents);
    hf_rwlock_rdunlock(&fi->extents.lock);
    hf_mutex_lock(&fs->dirty_lock);
    fi->committing = false;
    if (fi->commit_row_dirty) {
        if (!fi->row_dirty)
            fi->row = fi->commit_row;
        fi->row_dirty = fi->size_dirty = true;
        fi->commit_row_dirty = false;
        pending = true;
    }
    hf_mutex_unlock(&fs->dirty_lock);
    if (pending)
        hf_blockfs_mark_dirty(fs, fi);
    hf_mutex_lock(&fs->dirty_lock);
    unused = !fi->attached && !fi->listed;
    hf_mutex_unlock(&fs->dirty_lock);
    if (unused)
        hf_blockfs_inode_free(fs, fi);
}

/* ---- the whole */

/* Data whose write() had returned is durable afterwards. */
static int flush_data(struct hf_blockfs *fs)
{
    uint64_t writes = atomic_load(&fs->data_writes), flushed = atomic_load(&fs->data_flushed);
    int rc = hf_dev_flush(fs->dev);

    while (rc == 0 && flushed < writes && !atomic_compare_exchange_weak(&fs->data_flushed, &flushed, writes))
        ;
    return rc;
}

static int commit_run(struct hf_blockfs *fs) HF_NO_TSA
{
    struct hf_blockfs_inode *chain = snapshot(fs), *next;
    int rc = HF_BROKEN(skip_data_flush) || HF_BROKEN(flush_after_commit) ? 0 : flush_data(fs);

    hf_mutex_lock(&fs->sql_lock);
    for (struct hf_blockfs_inode *fi = chain; fi != NULL && rc == 0; fi = fi->commit_next)
        rc = store_inode(fs, fi);
    if (rc == 0)
        rc = hf_blockfs_quota_store(fs);
    if (rc == 0)
        rc = txn_commit(fs);
    if (rc == 0 && HF_BROKEN(flush_after_commit))
        rc = flush_data(fs);
    for (; chain != NULL; chain = next) {
        next = chain->commit_next;
        release_inode(fs, chain);
    }
    return rc;
}

int hf_blockfs_commit(struct hf_blockfs *fs, uint64_t ticket) HF_NO_TSA
{
    uint64_t number;
    int rc = 0;

    if (fs->read_only)
        return 0;
    hf_mutex_lock(&fs->sql_lock);
    HF_TEST_COUNT(commit_waiters, 1u);
    while (fs->committing && atomic_load(&fs->commits_ok) < ticket) {
        uint32_t word = atomic_load(&fs->commit_word);

        hf_mutex_unlock(&fs->sql_lock);
        hf_futex_wait(&fs->commit_word, word, -1);
        hf_mutex_lock(&fs->sql_lock);
    }
    HF_TEST_COUNT(commit_waiters, -1u);
    if (atomic_load(&fs->commits_ok) >= ticket) {
        hf_mutex_unlock(&fs->sql_lock);
        return 0;
    }
    fs->committing = true;
    number = atomic_fetch_add(&fs->commits_started, 1) + 1;
    assert(number >= ticket);
    hf_mutex_unlock(&fs->sql_lock);

    rc = commit_run(fs);

    if (rc == 0)
        atomic_store(&fs->commits_ok, number);
    fs->committing = false;
    atomic_fetch_add(&fs->commit_word, 1);
    hf_mutex_unlock(&fs->sql_lock);
    hf_futex_wake(&fs->commit_word, INT_MAX);
    if (rc == 0)
        hf_space_discard_freed(&fs->space);
    return rc;
}

int hf_blockfs_make_room(struct hf_blockfs *fs, unsigned rows) HF_NO_TSA
{
    int rc = hf_txn_start(&fs->txn);

    if (rc != 0 || fs->txn.log_len == 0 ||
        (hf_metadb_wal_room(fs->txn.db) >= rows * HF_METADB_ROW_PAGES &&
         fs->txn.log_len < HF_BLOCKFS_LOG_MAX))
        return rc;
    hf_mutex_unlock(&fs->sql_lock);
    rc = hf_blockfs_commit(fs, hf_blockfs_ticket(fs));
    hf_mutex_lock(&fs->sql_lock);
    return rc != 0 ? rc : hf_txn_start(&fs->txn);
}

/* ---- the ops */

static bool needs_commit(struct hf_blockfs *fs, struct hf_blockfs_inode *fi, bool datasync)
{
    bool need;

    hf_rwlock_rdlock(&fi->extents.lock);
    need = hf_extmap_has_pending(&fi->extents);
    hf_rwlock_rdunlock(&fi->extents.lock);
    hf_mutex_lock(&fs->dirty_lock);
    need = need || fi->committing || fi->size_dirty || (fi->row_dirty && !datasync);
    hf_mutex_unlock(&fs->dirty_lock);
    /* txn.id moves under sql_lock; a transaction that ends right now has the inode's changes, so a stale
     * answer only commits once more. */
    return need || atomic_load(&fi->txn) == atomic_load(&fs->txn.id);
}

int hf_blockfs_fsync(struct hf_inode *inode, bool datasync)
{
    struct hf_blockfs *fs = hf_blockfs_of(inode->sb);
    uint64_t ticket = hf_blockfs_ticket(fs);

    if (fs->read_only)
        return 0;
    if (!needs_commit(fs, hf_blockfs_inode_of(inode), datasync) || HF_BROKEN(fsync_without_commit))
        return flush_data(fs);
    return hf_blockfs_commit(fs, ticket);
}

/* A commit would find nothing, and none is running. Caller: sql_lock. */
static bool is_durable(struct hf_blockfs *fs) HF_NO_TSA
{
    bool listed;

    hf_mutex_lock(&fs->dirty_lock);
    listed = !hf_list_empty(&fs->dirty);
    hf_mutex_unlock(&fs->dirty_lock);
    return !fs->committing && !listed && fs->txn.log_len == 0 && atomic_load(&fs->space.pending) == 0 &&
           atomic_load(&fs->data_flushed) == atomic_load(&fs->data_writes) && !hf_blockfs_quota_has_news(fs);
}

/* The flusher calls it every few seconds: without news, the device is left alone. */
int hf_blockfs_sync(struct hf_super *sb)
{
    struct hf_blockfs *fs = hf_blockfs_of(sb);
    uint64_t ticket = hf_blockfs_ticket(fs);
    bool durable;

    hf_mutex_lock(&fs->sql_lock);
    durable = is_durable(fs);
    hf_mutex_unlock(&fs->sql_lock);
    return durable ? 0 : hf_blockfs_commit(fs, ticket);
}
