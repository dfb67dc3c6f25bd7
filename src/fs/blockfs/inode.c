/* SPDX-License-Identifier: MIT */
/*
 * inode.c - inodes in memory: reading, attributes, and the last use.
 *
 * The driver's part of an inode (struct hf_blockfs_inode) may outlive the framework's: extents that were
 * written but not committed yet have no row, so what holds them stays on the dirty list, detached, until a
 * commit has stored them; a read_inode() in between finds it in the table again.
 *
 * Attributes wait in memory (row, guarded by dirty_lock) for the next commit, so that write_inode() is cheap
 * and a size is never durable before the extents below it. Names ops and truncate change rows at once, in
 * their transaction, and bring a waiting row up to date.
 */
#include "fs/blockfs/blockfs.h"

#include <errno.h>
#include <stdlib.h>
#include <sys/stat.h>

#define DETACHED_MAX 4096u /* then evict_inode() commits, so that they do not pile up */
#define SCAN_BATCH 64

/* ---- rows */

struct hf_blockfs_row hf_blockfs_row_of(struct hf_inode *inode, hf_off_t size)
{
    return (struct hf_blockfs_row){
        .mode = inode->mode,
        .uid = inode->uid,
        .gid = inode->gid,
        .project = inode->project,
        .flags = inode->project_inherit ? HF_BLOCKFS_INHERIT : 0,
        .atime_ns = atomic_load(&inode->atime_ns),
        .mtime_ns = atomic_load(&inode->mtime_ns),
        .ctime_ns = atomic_load(&inode->ctime_ns),
        .size = size,
    };
}

int hf_blockfs_post_row(struct hf_blockfs *fs, uint64_t ino, const struct hf_blockfs_row *row)
{
    return hf_txn_post(&fs->txn, HF_STMT_INODE_SET,
                       HF_ARGS(HF_INT(ino), HF_INT(row->mode), HF_INT(row->uid), HF_INT(row->gid),
                               HF_INT(row->atime_ns), HF_INT(row->mtime_ns), HF_INT(row->ctime_ns),
                               HF_INT(row->size), HF_INT(row->project), HF_INT(row->flags)));
}

void hf_blockfs_inode_changed(struct hf_blockfs *fs, struct hf_inode *inode)
{
    struct hf_blockfs_inode *fi = hf_blockfs_inode_of(inode);

    atomic_store(&fi->txn, fs->txn.id);
    hf_mutex_lock(&fs->dirty_lock);
    fi->row.mtime_ns = fi->commit_row.mtime_ns = atomic_load(&inode->mtime_ns);
    fi->row.ctime_ns = fi->commit_row.ctime_ns = atomic_load(&inode->ctime_ns);
    hf_mutex_unlock(&fs->dirty_lock);
}

int hf_blockfs_write_inode(struct hf_inode *inode, hf_off_t disk_size)
{
    struct hf_blockfs *fs = hf_blockfs_of(inode->sb);
    struct hf_blockfs_inode *fi = hf_blockfs_inode_of(inode);

    if (fs->read_only)
        return -EROFS;
    hf_mutex_lock(&fs->dirty_lock);
    fi->row = hf_blockfs_row_of(inode, disk_size);
    fi->row_dirty = true;
    fi->size_dirty = disk_size != fi->stored_size;
    hf_mutex_unlock(&fs->dirty_lock);
    hf_blockfs_mark_dirty(fs, fi);
    return 0;
}

/* ---- the table */

static struct hf_list *bucket_of(struct hf_blockfs *fs, uint64_t ino)
{
    return &fs->buckets[ino % HF_BLOCKFS_BUCKETS];
}

static struct hf_blockfs_inode *table_find(struct hf_blockfs *fs, uint64_t ino)
{
    struct hf_list *l, *bucket = bucket_of(fs, ino);

    hf_list_for_each (l, bucket) {
        struct hf_blockfs_inode *fi = hf_list_entry(l, struct hf_blockfs_inode, bucket);

        if (fi->ino == ino)
            return fi;
    }
    return NULL;
}

void hf_blockfs_inode_free(struct hf_blockfs *fs, struct hf_blockfs_inode *fi)
{
    if (!fi->dead)
        fs->nr_detached--;
    hf_list_del(&fi->bucket);
    hf_extmap_done(&fi->extents);
    hf_owner_put(&fs->accounts, &fi->owner);
    free(fi);
}

static int extent_load(struct hf_blockfs *fs, struct hf_blockfs_inode *fi, sqlite3_stmt *stmt, uint64_t *end)
{
    int64_t lblk = sqlite3_column_int64(stmt, 0), pblk = sqlite3_column_int64(stmt, 1);
    int64_t len = sqlite3_column_int64(stmt, 2), unwritten = sqlite3_column_int64(stmt, 3);
    struct hf_ext ext;
    int rc;

    if (len <= 0 || len > UINT32_MAX || lblk < 0 || (uint64_t)lblk < *end || lblk > INT64_MAX - len ||
        pblk < 0 || (uint64_t)pblk >= fs->space.total || (uint64_t)len > fs->space.total - (uint64_t)pblk ||
        unwritten >> 1)
        return hf_blockfs_damaged(fs, "table extents: inode %llu has a bad extent at block %lld",
                                  (unsigned long long)fi->ino, (long long)lblk);
    ext = (struct hf_ext){.lblk = (uint64_t)lblk,
                          .pblk = (uint64_t)pblk,
                          .len = (uint32_t)len,
                          .flags = HF_EXT_ROW | (unwritten ? 0 : HF_EXT_DATA)};
    rc = hf_extmap_lock_for(&fi->extents, 1);
    if (rc != 0)
        return rc;
    hf_extmap_insert(&fi->extents, &ext);
    hf_extmap_unlock(&fi->extents);
    atomic_fetch_add(&fi->owner.word, ext.len); /* its accounts have them since mount */
    *end = hf_ext_end(&ext);
    return 0;
}

static int extents_load(struct hf_blockfs *fs, struct hf_blockfs_inode *fi)
{
    sqlite3_stmt *stmt;
    uint64_t end = 0;
    int rc = hf_txn_query(&fs->txn, HF_STMT_EXTENT_OF, HF_ARGS(HF_INT(fi->ino)), &stmt);

    if (rc != 0)
        return rc;
    for (;;) {
        rc = hf_txn_step(stmt);
        if (rc > 0)
            rc = extent_load(fs, fi, stmt, &end);
        else
            break;
        if (rc != 0)
            break;
    }
    sqlite3_reset(stmt);
    return rc;
}

int hf_blockfs_inode_get(struct hf_blockfs *fs, uint64_t ino, const struct hf_owner_ids *owner,
                         struct hf_blockfs_inode **ret_fi)
{
    struct hf_blockfs_inode *fi = table_find(fs, ino);
    int rc;

    if (fi != NULL) {
        if (fi->attached)
            return -EBUSY;
        fi->attached = true;
        fs->nr_detached--;
        *ret_fi = fi;
        return 0;
    }
    fi = calloc(1, sizeof(*fi));
    if (fi == NULL)
        return -ENOMEM;
    fi->ino = ino;
    fi->cut = HF_BLOCKFS_NO_CUT;
    hf_list_init(&fi->bucket);
    hf_list_init(&fi->dirty);
    hf_extmap_init(&fi->extents);
    rc = owner != NULL ? hf_blockfs_owner_switch(fs, owner, &fi->owner)
                       : hf_blockfs_owner_load(fs, ino, &fi->owner);
    if (rc == 0)
        rc = extents_load(fs, fi);
    if (rc != 0) {
        hf_extmap_done(&fi->extents);
        hf_owner_put(&fs->accounts, &fi->owner);
        free(fi);
        return rc;
    }
    fi->attached = true;
    hf_list_add_tail(bucket_of(fs, ino), &fi->bucket);
    *ret_fi = fi;
    return 0;
}

void hf_blockfs_inode_put(struct hf_blockfs *fs, struct hf_blockfs_inode *fi)
{
    bool unused;

    hf_mutex_lock(&fs->dirty_lock);
    if (fi->dead && fi->listed) {
        hf_list_del(&fi->dirty);
        fi->listed = false;
    }
    unused = !fi->listed && !fi->committing;
    hf_mutex_unlock(&fs->dirty_lock);
    fi->attached = false;
    if (!fi->dead)
        fs->nr_detached++;
    if (unused)
        hf_blockfs_inode_free(fs, fi);
}

/* ---- the ops */

static int row_check(struct hf_blockfs *fs, const struct hf_inode *inode, int64_t nlink, int64_t size)
{
    bool type_ok = S_ISREG(inode->mode) || S_ISDIR(inode->mode) || S_ISLNK(inode->mode) ||
                   S_ISCHR(inode->mode) || S_ISBLK(inode->mode) || S_ISFIFO(inode->mode) ||
                   S_ISSOCK(inode->mode);

    if (!type_ok)
        return hf_blockfs_damaged(fs, "table inodes: inode %llu has the impossible mode %#o",
                                  (unsigned long long)inode->ino, inode->mode);
    if (nlink < 0 || nlink > UINT32_MAX || size < 0 || size > HF_FILE_SIZE_MAX)
        return hf_blockfs_damaged(fs, "table inodes: inode %llu has %lld links and size %lld",
                                  (unsigned long long)inode->ino, (long long)nlink, (long long)size);
    return 0;
}

static int row_load(struct hf_blockfs *fs, struct hf_inode *inode)
{
    sqlite3_stmt *stmt;
    int64_t nlink, size;
    int rc = hf_txn_query(&fs->txn, HF_STMT_INODE_GET, HF_ARGS(HF_INT(inode->ino)), &stmt);

    if (rc != 0)
        return rc;
    rc = hf_txn_step(stmt);
    if (rc <= 0) {
        sqlite3_reset(stmt);
        return rc != 0 ? rc : -ENOENT;
    }
    inode->mode = (uint32_t)sqlite3_column_int64(stmt, 0);
    inode->uid = (uint32_t)sqlite3_column_int64(stmt, 1);
    inode->gid = (uint32_t)sqlite3_column_int64(stmt, 2);
    nlink = sqlite3_column_int64(stmt, 3);
    inode->rdev = (uint64_t)sqlite3_column_int64(stmt, 4);
    inode->parent_ino = (uint64_t)sqlite3_column_int64(stmt, 5);
    size = sqlite3_column_int64(stmt, 6);
    atomic_store(&inode->atime_ns, sqlite3_column_int64(stmt, 7));
    atomic_store(&inode->mtime_ns, sqlite3_column_int64(stmt, 8));
    atomic_store(&inode->ctime_ns, sqlite3_column_int64(stmt, 9));
    inode->btime_ns = sqlite3_column_int64(stmt, 10);
    inode->project = (uint32_t)sqlite3_column_int64(stmt, 11);
    inode->project_inherit = sqlite3_column_int64(stmt, 12) & HF_BLOCKFS_INHERIT;
    sqlite3_reset(stmt);
    inode->nlink = (uint32_t)nlink;
    atomic_store(&inode->size, size);
    return row_check(fs, inode, nlink, size);
}

/* What a detached inode still had to store is newer than its row. */
static void row_overlay(struct hf_blockfs *fs, struct hf_blockfs_inode *fi, struct hf_inode *inode)
{
    const struct hf_blockfs_row *row = NULL;

    hf_mutex_lock(&fs->dirty_lock);
    if (fi->row_dirty)
        row = &fi->row;
    else if (fi->commit_row_dirty)
        row = &fi->commit_row;
    else
        fi->stored_size = atomic_load(&inode->size);
    if (row != NULL) {
        inode->mode = row->mode;
        inode->uid = row->uid;
        inode->gid = row->gid;
        inode->project = row->project;
        inode->project_inherit = row->flags & HF_BLOCKFS_INHERIT;
        atomic_store(&inode->atime_ns, row->atime_ns);
        atomic_store(&inode->mtime_ns, row->mtime_ns);
        atomic_store(&inode->ctime_ns, row->ctime_ns);
        atomic_store(&inode->size, row->size);
    }
    hf_mutex_unlock(&fs->dirty_lock);
}

uint64_t hf_blockfs_count_blocks(struct hf_blockfs_inode *fi)
{
    struct hf_ext exts[SCAN_BATCH];
    uint64_t start = 0, nr = 0;
    size_t n;

    do {
        hf_rwlock_rdlock(&fi->extents.lock);
        n = hf_extmap_collect(&fi->extents, start, UINT64_MAX, SCAN_BATCH, exts);
        hf_rwlock_rdunlock(&fi->extents.lock);
        for (size_t i = 0; i < n; i++)
            nr += exts[i].len;
        if (n != 0)
            start = hf_ext_end(&exts[n - 1]);
    } while (n == SCAN_BATCH);
    return nr;
}

int hf_blockfs_read_inode(struct hf_inode *inode)
{
    struct hf_blockfs *fs = hf_blockfs_of(inode->sb);
    struct hf_blockfs_inode *fi;
    struct hf_owner_ids owner;
    int rc;

    hf_mutex_lock(&fs->sql_lock);
    rc = row_load(fs, inode);
    owner = (struct hf_owner_ids){
        {[HF_QUOTA_USER] = inode->uid, [HF_QUOTA_GROUP] = inode->gid, [HF_QUOTA_PROJECT] = inode->project}};
    if (rc == 0)
        rc = hf_blockfs_inode_get(fs, inode->ino, &owner, &fi);
    if (rc == 0) {
        row_overlay(fs, fi, inode);
        /* Whether the running transaction made or changed it is not known: assume so. */
        atomic_store(&fi->txn, fs->txn.log_len != 0 ? atomic_load(&fs->txn.id) : 0);
        atomic_store(&inode->blocks, hf_blockfs_count_blocks(fi));
        inode->fs = fi;
    }
    hf_mutex_unlock(&fs->sql_lock);
    return rc;
}

/*
 * Blocks that were allocated and never written have no row and no data: nobody will miss them. Nor data
 * without a row if the file is deleted: of one whose deletion failed half way, rows are all that the next
 * mount finds. Returns how many.
 */
static uint64_t free_rowless(struct hf_blockfs *fs, struct hf_blockfs_inode *fi, bool deleted) HF_NO_TSA
{
    struct hf_ext exts[SCAN_BATCH];
    uint64_t start = 0, nr = 0;
    size_t n;

    do {
        hf_rwlock_rdlock(&fi->extents.lock);
        n = hf_extmap_collect(&fi->extents, start, UINT64_MAX, SCAN_BATCH, exts);
        hf_rwlock_rdunlock(&fi->extents.lock);
        for (size_t i = 0; i < n; i++) {
            start = hf_ext_end(&exts[i]);
            /* Without memory for bookkeeping they stay allocated until the next mount. */
            if ((deleted ? exts[i].flags & HF_EXT_ROW : exts[i].flags) != 0 ||
                hf_space_prepare_free(&fs->space, 1) != 0)
                continue;
            hf_rwlock_wrlock(&fi->extents.lock);
            hf_extmap_remove(&fi->extents, exts[i].lblk, start);
            hf_extmap_unlock(&fi->extents);
            hf_space_free_now(&fs->space, exts[i].pblk, exts[i].len);
            hf_owner_release(&fs->accounts, &fi->owner, exts[i].len, 0);
            nr += exts[i].len;
        }
    } while (n == SCAN_BATCH);
    return nr;
}

int hf_blockfs_evict_inode(struct hf_inode *inode)
{
    struct hf_blockfs *fs = hf_blockfs_of(inode->sb);
    struct hf_blockfs_inode *fi = hf_blockfs_inode_of(inode);
    uint64_t freed = 0;
    bool full;
    int rc = 0;

    hf_mutex_lock(&fs->sql_lock);
    if (!fs->read_only && inode->nlink == 0) {
        rc = hf_blockfs_delete_inode(fs, fi, &freed);
        if (rc != 0)
            freed += free_rowless(fs, fi, true);
    } else if (!fs->read_only) {
        freed = free_rowless(fs, fi, false);
        if (fi->cut != HF_BLOCKFS_NO_CUT)
            rc = hf_blockfs_finish_cut(fs, fi, true, &freed);
    }
    atomic_fetch_sub(&inode->blocks, freed); /* what is left when this fails, the next mount frees */
    hf_blockfs_inode_put(fs, fi);
    full = fs->nr_detached > DETACHED_MAX;
    hf_mutex_unlock(&fs->sql_lock);
    inode->fs = NULL;
    if (full && rc == 0)
        rc = hf_blockfs_commit(fs, hf_blockfs_ticket(fs));
    return rc;
}
