/* SPDX-License-Identifier: MIT */
/*
 * free.c - blocks leave a file: truncate, punch, deletion, and what is left of those at mount.
 *
 * A file may have a million extents, a transaction has the room of the WAL: so blocks go in batches, with
 * commits between them when the WAL asks for it. Within a batch rows and memory change together under
 * sql_lock.
 *
 * truncate (DESIGN 6): the new size and a row in "orphans" go into one transaction; then come the batches,
 * then the row in "orphans" goes. A crash in between leaves that row, and the next mount finishes. So does an
 * error, but until then the inode remembers where it was cut (fi->cut): the file cannot grow over the
 * remains, because setattr_prepare() and preallocate() finish first or refuse. A deleted inode has been in
 * "orphans" since its last name went.
 */
#include "fs/blockfs/blockfs.h"
#include "fs/blockfs/testing.h"

#include "dev/device_io.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#define FREE_BATCH 64
#define FREE_ROWS 4u /* as much as so many single rows far apart: those of a batch are neighbours */
#define BLOCKS_END (1ull << 62)

/* ---- batches. Under sql_lock. */

int hf_blockfs_remove_rows(struct hf_blockfs *fs, struct hf_blockfs_inode *fi, uint64_t start, uint64_t end,
                           hf_txn_run_fn *run)
{
    const struct {
        enum hf_txn_stmt id;
        uint64_t at;
    } cuts[] = {{HF_STMT_EXTENT_SPLIT, start},
                {HF_STMT_EXTENT_TRIM, start},
                {HF_STMT_EXTENT_SPLIT, end},
                {HF_STMT_EXTENT_TRIM, end}};
    int first = 0, rc;

    for (size_t i = 0; i < sizeof(cuts) / sizeof(cuts[0]); i++) {
        rc = run(&fs->txn, cuts[i].id, HF_ARGS(HF_INT(fi->ino), HF_INT(cuts[i].at)));
        if (rc != 0 && run != hf_txn_post)
            return rc;
        first = first != 0 ? first : rc;
    }
    rc = run(&fs->txn, HF_STMT_EXTENT_DELETE, HF_ARGS(HF_INT(fi->ino), HF_INT(start), HF_INT(end)));
    return first != 0 ? first : rc;
}

static bool have_rows(const struct hf_ext *exts, size_t n)
{
    for (size_t i = 0; i < n; i++)
        if (exts[i].flags & HF_EXT_ROW)
            return true;
    return false;
}

static size_t batch_collect(struct hf_blockfs_inode *fi, uint64_t start, uint64_t end,
                            struct hf_ext *ret_exts)
{
    size_t n;

    hf_rwlock_rdlock(&fi->extents.lock);
    n = hf_extmap_collect(&fi->extents, start, end, FREE_BATCH, ret_exts);
    hf_rwlock_rdunlock(&fi->extents.lock);
    return n;
}

/* Frees a batch from start on; *ret_next: where the next one begins. -ENOMEM: nothing was done; other errors:
 * all was, and the rows are removed when the database can be reached. */
static int batch_free(struct hf_blockfs *fs, struct hf_blockfs_inode *fi, uint64_t start, uint64_t end,
                      uint64_t *freed, uint64_t *ret_next)
{
    struct hf_ext exts[FREE_BATCH];
    size_t n = batch_collect(fi, start, end, exts);
    uint64_t nr = 0;
    int rc;

    if (n == FREE_BATCH)
        end = hf_ext_end(&exts[n - 1]);
    rc = hf_txn_reserve(&fs->txn, 5);
    if (rc == 0)
        rc = hf_space_prepare_free(&fs->space, n);
    if (rc == 0)
        rc = hf_extmap_lock_for(&fi->extents, 2);
    if (rc != 0)
        return rc;
    hf_extmap_remove(&fi->extents, start, end);
    hf_extmap_unlock(&fi->extents);
    if (have_rows(exts, n))
        rc = hf_blockfs_remove_rows(fs, fi, start, end, hf_txn_post);
    for (size_t i = 0; i < n; i++) {
        if ((exts[i].flags & HF_EXT_ROW) && !HF_BROKEN(reuse_before_commit))
            hf_space_free_later(&fs->space, exts[i].pblk, exts[i].len);
        else
            hf_space_free_now(&fs->space, exts[i].pblk, exts[i].len);
        if (HF_BROKEN(discard_before_commit))
            hf_dev_discard(fs->dev, hf_blockfs_addr(fs, exts[i].pblk),
                           (hf_off_t)exts[i].len * fs->block_size);
        nr += exts[i].len;
    }
    hf_owner_release(&fs->accounts, &fi->owner, nr, 0);
    *freed += nr;
    *ret_next = end;
    return rc;
}

int hf_blockfs_free_range(struct hf_blockfs *fs, struct hf_blockfs_inode *fi, uint64_t start, uint64_t end,
                          uint64_t *freed)
{
    struct hf_ext exts[FREE_BATCH];

    while (start < end) {
        size_t n = batch_collect(fi, start, end, exts);
        int rc = 0;

        if (n == 0)
            return 0;
        if (have_rows(exts, n))
            rc = hf_blockfs_make_room(fs, FREE_ROWS);
        if (rc == 0)
            rc = batch_free(fs, fi, start, end, freed, &start);
        if (rc != 0)
            return rc;
    }
    return 0;
}

/* ---- truncate */

int hf_blockfs_finish_cut(struct hf_blockfs *fs, struct hf_blockfs_inode *fi, bool linked, uint64_t *freed)
{
    int rc = hf_blockfs_free_range(fs, fi, fi->cut, BLOCKS_END, freed);

    if (rc == 0)
        rc = hf_txn_reserve(&fs->txn, 1);
    if (rc != 0)
        return rc;
    fi->cut = HF_BLOCKFS_NO_CUT;
    return linked ? hf_txn_post(&fs->txn, HF_STMT_ORPHAN_DELETE, HF_ARGS(HF_INT(fi->ino))) : 0;
}

int hf_blockfs_setattr_prepare(struct hf_inode *inode, hf_off_t old_size, hf_off_t new_size)
{
    struct hf_blockfs *fs = hf_blockfs_of(inode->sb);
    struct hf_blockfs_inode *fi = hf_blockfs_inode_of(inode);
    uint64_t freed = 0;
    int rc = 0;

    if (fs->read_only)
        return -EROFS;
    if (new_size == old_size || (new_size > old_size && fi->cut == HF_BLOCKFS_NO_CUT))
        return 0;
    hf_mutex_lock(&fs->sql_lock);
    if (new_size > old_size) {
        rc = hf_blockfs_finish_cut(fs, fi, inode->nlink != 0, &freed);
    } else {
        /* What truncate() could fail for is better found now, when nothing has changed. */
        rc = hf_txn_start(&fs->txn);
        if (rc == 0)
            rc = hf_txn_reserve(&fs->txn, 8);
    }
    hf_mutex_unlock(&fs->sql_lock);
    atomic_fetch_sub(&inode->blocks, freed);
    return rc;
}

/* The row says the new size from here on, and nothing older that waits for a commit may undo that. */
static int truncate_row(struct hf_blockfs *fs, struct hf_inode *inode, hf_off_t new_size)
{
    struct hf_blockfs_inode *fi = hf_blockfs_inode_of(inode);
    struct hf_blockfs_row row = hf_blockfs_row_of(inode, new_size);

    hf_mutex_lock(&fs->dirty_lock);
    fi->row_dirty = fi->size_dirty = fi->commit_row_dirty = false;
    fi->stored_size = new_size;
    hf_mutex_unlock(&fs->dirty_lock);
    atomic_store(&fi->txn, atomic_load(&fs->txn.id));
    return hf_blockfs_post_row(fs, fi->ino, &row);
}

int hf_blockfs_truncate(struct hf_inode *inode, hf_off_t old_size, hf_off_t new_size)
{
    struct hf_blockfs *fs = hf_blockfs_of(inode->sb);
    struct hf_blockfs_inode *fi = hf_blockfs_inode_of(inode);
    uint64_t first = ((uint64_t)new_size + fs->block_size - 1) / fs->block_size, freed = 0;
    bool linked = inode->nlink != 0;
    struct hf_ext ext;
    int rc, err = 0;

    (void)old_size;
    if (fs->read_only)
        return -EROFS;
    hf_mutex_lock(&fs->sql_lock);
    rc = hf_txn_reserve(&fs->txn, 2);
    hf_rwlock_rdlock(&fi->extents.lock);
    if (hf_extmap_find(&fi->extents, first, &ext) && first < fi->cut)
        fi->cut = first;
    hf_rwlock_rdunlock(&fi->extents.lock);
    if (rc == 0)
        rc = truncate_row(fs, inode, new_size);
    if (rc != -ENOMEM && fi->cut != HF_BLOCKFS_NO_CUT && linked)
        err = hf_txn_post(&fs->txn, HF_STMT_ORPHAN_SET, HF_ARGS(HF_INT(fi->ino), HF_INT(new_size)));
    rc = rc != 0 ? rc : err;
    if (rc != -ENOMEM && fi->cut != HF_BLOCKFS_NO_CUT) {
        err = hf_blockfs_finish_cut(fs, fi, linked, &freed);
        rc = rc != 0 ? rc : err;
    }
    hf_mutex_unlock(&fs->sql_lock);
    atomic_fetch_sub(&inode->blocks, freed);
    return rc;
}

/* ---- punch */

int hf_blockfs_punch(struct hf_inode *inode, hf_blk_t blk, uint64_t nr)
{
    struct hf_blockfs *fs = hf_blockfs_of(inode->sb);
    struct hf_blockfs_inode *fi = hf_blockfs_inode_of(inode);
    uint64_t freed = 0;
    int rc;

    if (fs->read_only)
        return -EROFS;
    hf_mutex_lock(&fs->sql_lock);
    rc = hf_blockfs_free_range(fs, fi, blk, blk + nr, &freed);
    atomic_store(&fi->txn, atomic_load(&fs->txn.id));
    hf_mutex_unlock(&fs->sql_lock);
    atomic_fetch_sub(&inode->blocks, freed);
    return rc;
}

/* ---- deletion */

int hf_blockfs_delete_inode(struct hf_blockfs *fs, struct hf_blockfs_inode *fi, uint64_t *freed)
{
    static const enum hf_txn_stmt last[] = {HF_STMT_SYMLINK_DELETE, HF_STMT_INODE_DELETE,
                                            HF_STMT_ORPHAN_DELETE};
    int rc, first = 0;

    hf_mutex_lock(&fs->dirty_lock);
    fi->dead = true;
    fi->row_dirty = fi->size_dirty = fi->commit_row_dirty = false;
    hf_mutex_unlock(&fs->dirty_lock);
    rc = hf_blockfs_free_range(fs, fi, 0, BLOCKS_END, freed);
    if (rc == 0)
        rc = hf_blockfs_free_xattrs(fs, fi->ino);
    if (rc == 0)
        rc = hf_txn_reserve(&fs->txn, 3);
    if (rc != 0)
        return rc;
    for (size_t i = 0; i < sizeof(last) / sizeof(last[0]); i++) {
        rc = hf_txn_post(&fs->txn, last[i], HF_ARGS(HF_INT(fi->ino)));
        first = first != 0 ? first : rc;
    }
    fs->nr_inodes--;
    hf_owner_release(&fs->accounts, &fi->owner, 0, 1);
    return first;
}

/* ---- mount */

/* 1 and an orphan, 0, or an error. */
static int orphan_next(struct hf_blockfs *fs, uint64_t *ret_ino, int64_t *ret_size)
{
    sqlite3_stmt *stmt;
    int rc = hf_txn_query(&fs->txn, HF_STMT_ORPHAN_NEXT, NULL, 0, &stmt);

    if (rc != 0)
        return rc;
    rc = hf_txn_step(stmt);
    if (rc > 0) {
        *ret_ino = (uint64_t)sqlite3_column_int64(stmt, 0);
        *ret_size = sqlite3_column_int64(stmt, 1);
    }
    sqlite3_reset(stmt);
    return rc;
}

static int orphan_free(struct hf_blockfs *fs, uint64_t ino, int64_t size)
{
    struct hf_blockfs_inode *fi;
    uint64_t freed = 0;
    int64_t nlink;
    int rc = hf_txn_number(&fs->txn, HF_STMT_INODE_NLINK, HF_ARGS(HF_INT(ino)), &nlink);

    if (rc == -ENOENT || (rc == 0 && (size < 0 || size > HF_FILE_SIZE_MAX)))
        return hf_blockfs_damaged(fs, "table orphans: inode %llu is missing, or %lld is no size",
                                  (unsigned long long)ino, (long long)size);
    if (rc == 0)
        rc = hf_blockfs_make_room(fs, FREE_ROWS);
    if (rc == 0)
        rc = hf_blockfs_inode_get(fs, ino, NULL, &fi);
    if (rc != 0)
        return rc;
    if (nlink == 0) {
        rc = hf_blockfs_delete_inode(fs, fi, &freed);
    } else {
        fi->cut = ((uint64_t)size + fs->block_size - 1) / fs->block_size;
        rc = hf_blockfs_finish_cut(fs, fi, true, &freed);
    }
    hf_blockfs_inode_put(fs, fi);
    return rc;
}

int hf_blockfs_free_orphans(struct hf_blockfs *fs)
{
    uint64_t ino;
    int64_t size;
    int rc = orphan_next(fs, &ino, &size);

    while (rc > 0) {
        rc = orphan_free(fs, ino, size);
        if (rc == 0)
            rc = orphan_next(fs, &ino, &size);
    }
    return rc;
}
