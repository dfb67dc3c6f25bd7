/* SPDX-License-Identifier: MIT */
/*
 * super.c - mount, unmount, statfs, and the driver's table of ops.
 *
 * Mounting reads every extent once: that gives the free map, and shows extents that overlap, lie outside, or
 * belong to nobody. Nothing is written before all of that has been found good, and nothing at all read-only.
 */
#include "fs/blockfs/blockfs.h"
#include "fs/blockfs/testing.h"

#include <errno.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

/* Databases up to this size are checked as a whole at every mount: it takes some milliseconds. */
#define CHECK_BYTES (4u << 20)
/* meta.next_id never gets there: numbers beyond would be negative before long. */
#define MAX_ID (1ll << 62)
/* For statfs: rows and index entries of an inode with one name. */
#define INODE_BYTES 288u

#ifdef HF_TESTING
_Atomic int hf_test_break;
_Atomic unsigned hf_test_commit_waiters;
#endif

int hf_blockfs_damaged(struct hf_blockfs *fs, const char *format, ...)
{
    static const char advice[] = "; run holdfast check";
    char *text = fs->sb->error_text;
    va_list args;

    va_start(args, format);
    vsnprintf(text, sizeof(fs->sb->error_text) - sizeof(advice) + 1, format, args);
    va_end(args);
    strcat(text, advice);
    return -EUCLEAN;
}

/* ---- mount: checks */

struct extent_row {
    int64_t ino, lblk, pblk, len, unwritten;
};

/* owner: of prev; afterwards of row, and charged for it. */
static int extent_check(struct hf_blockfs *fs, const struct extent_row *prev, const struct extent_row *row,
                        struct hf_owner *owner)
{
    int rc = 0;

    if (row->ino <= 0 || row->len <= 0 || row->len > UINT32_MAX || row->lblk < 0 || row->lblk > (1ll << 62) ||
        row->pblk < 0 || (uint64_t)row->pblk >= fs->space.total ||
        (uint64_t)row->len > fs->space.total - (uint64_t)row->pblk || row->unwritten >> 1)
        return hf_blockfs_damaged(
            fs, "table extents: inode %lld, block %lld: %lld blocks at %lld are out of bounds",
            (long long)row->ino, (long long)row->lblk, (long long)row->len, (long long)row->pblk);
    if (prev->ino == row->ino && prev->lblk + prev->len > row->lblk)
        return hf_blockfs_damaged(fs, "table extents: inode %lld has two extents at block %lld",
                                  (long long)row->ino, (long long)row->lblk);
    if (prev->ino != row->ino)
        rc = hf_blockfs_owner_load(fs, (uint64_t)row->ino, owner);
    if (rc == -ENOENT)
        return hf_blockfs_damaged(fs, "table extents: inode %lld has blocks, but no row in table inodes",
                                  (long long)row->ino);
    if (rc != 0)
        return rc;
    rc = hf_space_claim(&fs->space, (uint64_t)row->pblk, (uint64_t)row->len);
    if (rc == -EEXIST)
        return hf_blockfs_damaged(fs,
                                  "table extents: inode %lld, block %lld: another extent has its blocks, too",
                                  (long long)row->ino, (long long)row->lblk);
    if (rc == 0)
        hf_owner_count(owner, (uint64_t)row->len, 0);
    return rc;
}

static int load_extents(struct hf_blockfs *fs)
{
    struct extent_row prev = {.ino = 0};
    struct hf_owner owner = {0};
    sqlite3_stmt *stmt;
    uint64_t nr = 0;
    int rc = hf_txn_query(&fs->txn, HF_STMT_EXTENT_ALL, NULL, 0, &stmt);

    if (rc != 0)
        return rc;
    while ((rc = hf_txn_step(stmt)) > 0) {
        struct extent_row row = {.ino = sqlite3_column_int64(stmt, 0),
                                 .lblk = sqlite3_column_int64(stmt, 1),
                                 .pblk = sqlite3_column_int64(stmt, 2),
                                 .len = sqlite3_column_int64(stmt, 3),
                                 .unwritten = sqlite3_column_int64(stmt, 4)};

        rc = extent_check(fs, &prev, &row, &owner);
        if (rc != 0)
            break;
        prev = row;
        nr++;
    }
    sqlite3_reset(stmt);
    hf_owner_put(&fs->accounts, &owner);
    fs->nr_extents_found = nr;
    hf_freemap_trim(&fs->space.pool);
    if (fs->space.thin)
        hf_freemap_trim(&fs->space.raw);
    return rc;
}

/* A row of two numbers. 0, -ENOENT. */
static int read_pair(struct hf_blockfs *fs, enum hf_txn_stmt id, int64_t *ret_a, int64_t *ret_b)
{
    sqlite3_stmt *stmt;
    int rc = hf_txn_query(&fs->txn, id, NULL, 0, &stmt);

    if (rc != 0)
        return rc;
    rc = hf_txn_step(stmt);
    if (rc > 0) {
        *ret_a = sqlite3_column_int64(stmt, 0);
        *ret_b = sqlite3_column_int64(stmt, 1);
    }
    sqlite3_reset(stmt);
    if (rc < 0)
        return rc;
    return rc > 0 ? 0 : -ENOENT;
}

static int load_meta(struct hf_blockfs *fs)
{
    int64_t version, next_id, nr_inodes, max_ino;
    int rc = read_pair(fs, HF_STMT_META_GET, &version, &next_id);

    if (rc == -ENOENT)
        return hf_blockfs_damaged(fs, "table meta is empty");
    if (rc == 0 && version > HF_BLOCKFS_SCHEMA) {
        snprintf(fs->sb->error_text, sizeof(fs->sb->error_text),
                 "the volume's tables have version %lld; this program knows %d: use a newer one",
                 (long long)version, HF_BLOCKFS_SCHEMA);
        return -EPROTONOSUPPORT;
    }
    if (rc == 0 && version > 0 && version < HF_BLOCKFS_SCHEMA) {
        snprintf(fs->sb->error_text, sizeof(fs->sb->error_text),
                 "the volume's tables have version %lld, of before the first release; this program knows %d: "
                 "copy its files out with the program that made it",
                 (long long)version, HF_BLOCKFS_SCHEMA);
        return -EPROTONOSUPPORT;
    }
    if (rc == 0)
        rc = read_pair(fs, HF_STMT_INODE_COUNT, &nr_inodes, &max_ino);
    if (rc != 0)
        return rc;
    if (version != HF_BLOCKFS_SCHEMA || next_id < HF_BLOCKFS_FIRST_ID || next_id > MAX_ID ||
        max_ino >= next_id)
        return hf_blockfs_damaged(fs, "table meta: version %lld, next_id %lld, but inode %lld exists",
                                  (long long)version, (long long)next_id, (long long)max_ino);
    fs->next_id = fs->stored_next_id = (uint64_t)next_id;
    fs->nr_inodes = (uint64_t)nr_inodes;
    return 0;
}

static int check_root(struct hf_blockfs *fs)
{
    int64_t mode;
    int rc = hf_txn_number(&fs->txn, HF_STMT_INODE_GET, HF_ARGS(HF_INT(HF_BLOCKFS_ROOT_INO)), &mode);

    if (rc == -ENOENT || (rc == 0 && !S_ISDIR(mode)))
        return hf_blockfs_damaged(fs, "table inodes: the root directory, inode %u, is missing",
                                  HF_BLOCKFS_ROOT_INO);
    return rc;
}

static int load(struct hf_blockfs *fs)
{
    char err[HF_BLOCKFS_ERR] = "";
    int rc = 0;

    if (hf_blockfs_metadb_bytes(&fs->header) <= CHECK_BYTES)
        rc = hf_metadb_quick_check(fs->txn.db, err);
    if (rc != 0)
        return rc == -EUCLEAN ? hf_blockfs_damaged(fs, "%s", err) : rc;
    rc = load_meta(fs);
    if (rc == 0)
        rc = check_root(fs);
    if (rc == 0)
        rc = load_extents(fs);
    return rc != 0 ? rc : hf_blockfs_quota_load(fs);
}

/* ---- mount and unmount */

static void fs_free(struct hf_blockfs *fs)
{
    for (size_t b = 0; b < HF_BLOCKFS_BUCKETS; b++) {
        while (!hf_list_empty(&fs->buckets[b])) {
            struct hf_blockfs_inode *fi = hf_list_entry(fs->buckets[b].next, struct hf_blockfs_inode, bucket);

            hf_blockfs_inode_free(fs, fi);
        }
    }
    hf_space_done(&fs->space);
    hf_accounts_done(&fs->accounts);
    free(fs);
}

static struct hf_blockfs *fs_new(struct hf_super *sb)
{
    struct hf_blockfs *fs = calloc(1, sizeof(*fs));

    if (fs == NULL)
        return NULL;
    fs->sb = sb;
    fs->dev = sb->dev;
    fs->read_only = sb->read_only;
    hf_mutex_init(&fs->sql_lock, HF_RANK_SQL);
    hf_mutex_init(&fs->dirty_lock, HF_RANK_SPACE);
    hf_list_init(&fs->dirty);
    hf_accounts_init(&fs->accounts);
    for (size_t b = 0; b < HF_BLOCKFS_BUCKETS; b++)
        hf_list_init(&fs->buckets[b]);
    return fs;
}

static int mount_header(struct hf_blockfs *fs)
{
    struct hf_super *sb = fs->sb;
    char unused[HF_BLOCKFS_ERR];
    int rc = hf_blockfs_header_read(fs->dev, fs->read_only, &fs->header, &fs->header_copy, sb->error_text);

    if (rc != 0)
        return rc;
    fs->block_size = fs->header.block_size;
    if (sb->page_size != 0 && sb->page_size < fs->block_size) {
        snprintf(sb->error_text, sizeof(sb->error_text),
                 "the volume has blocks of %u bytes: open it with pages at least as large, not %u",
                 fs->block_size, sb->page_size);
        return -EINVAL;
    }
    if (fs->dev->read_only && !fs->read_only) {
        snprintf(sb->error_text, sizeof(sb->error_text),
                 "the device is read-only: open the volume read-only");
        return -EROFS;
    }
    rc = hf_space_init(&fs->space, fs->header.data_blocks, (fs->header.flags & HF_BLOCKFS_THIN) != 0, fs->dev,
                       fs->header.data_off, fs->block_size);
    for (uint32_t i = 0; i < fs->header.nr_segments && rc == 0; i++) {
        uint64_t blk, nr = hf_blockfs_hole(&fs->header, i, &blk);

        rc = hf_space_hole(&fs->space, blk, nr);
    }
    if (rc == 0 && sb->discard)
        atomic_store(&fs->space.discard, hf_blockfs_can_discard(fs, unused) == 0);
    return rc;
}

/* Looks at everything through a read-only connection, which writes nothing, not even what closing another one
 * would. */
static int mount_look(struct hf_blockfs *fs)
{
    char err[HF_BLOCKFS_ERR] = "";
    struct hf_metadb *db;
    int rc = hf_metadb_open(fs->dev, &fs->header, true, err, &db);

    if (rc == -EUCLEAN)
        return hf_blockfs_damaged(fs, "%s", err);
    if (rc != 0) {
        snprintf(fs->sb->error_text, sizeof(fs->sb->error_text), "%s", err);
        return rc;
    }
    hf_txn_init(&fs->txn, db, true);
    hf_mutex_lock(&fs->sql_lock);
    rc = load(fs);
    hf_mutex_unlock(&fs->sql_lock);
    if (rc == 0 && fs->read_only)
        return 0;
    hf_txn_done(&fs->txn);
    hf_metadb_close(db);
    return rc;
}

/* What mount_look() found good is opened for writing, and what a crash left is cleaned up. */
static int mount_writable(struct hf_blockfs *fs)
{
    uint64_t nr_extents = fs->nr_extents_found;
    struct hf_metadb *db;
    int rc = hf_metadb_open(fs->dev, &fs->header, false, fs->sb->error_text, &db);

    if (rc != 0)
        return rc;
    hf_txn_init(&fs->txn, db, false);
    fs->txn.nr_extents = fs->txn.nr_extents_committed = nr_extents;
    hf_mutex_lock(&fs->sql_lock);
    rc = hf_blockfs_thin_begin(fs);
    if (rc == 0)
        rc = hf_blockfs_free_orphans(fs);
    hf_mutex_unlock(&fs->sql_lock);
    if (rc == 0)
        rc = hf_blockfs_commit(fs, hf_blockfs_ticket(fs));
    if (rc != 0) {
        hf_txn_done(&fs->txn);
        hf_metadb_close(db);
    } else if (fs->header_copy == HF_BLOCKFS_COPY_PRIMARY) {
        hf_blockfs_header_mend_copy(fs->dev, &fs->header);
    }
    return rc;
}

static int blockfs_mount(struct hf_super *sb)
{
    struct hf_blockfs *fs = fs_new(sb);
    int rc;

    sb->error_text[0] = 0;
    if (fs == NULL)
        return -ENOMEM;
    rc = mount_header(fs);
    if (rc == 0)
        rc = mount_look(fs);
    if (rc == 0 && !fs->read_only)
        rc = mount_writable(fs);
    if (rc != 0) {
        if (sb->error_text[0] == 0 && rc == -EUCLEAN)
            hf_blockfs_damaged(fs, "metadata database: a table cannot be read");
        else if (sb->error_text[0] == 0)
            snprintf(sb->error_text, sizeof(sb->error_text), "the volume's metadata could not be read: %s",
                     strerror(-rc));
        fs_free(fs);
        return rc;
    }
    sb->block_size = fs->block_size;
    sb->root_ino = HF_BLOCKFS_ROOT_INO;
    sb->fs = fs;
    return 0;
}

static int blockfs_unmount(struct hf_super *sb)
{
    struct hf_blockfs *fs = hf_blockfs_of(sb);
    int rc = hf_blockfs_sync(sb), err;
    struct hf_metadb *db = fs->txn.db;

    hf_txn_done(&fs->txn);
    err = hf_metadb_close(db);
    fs_free(fs);
    sb->fs = NULL;
    return rc != 0 ? rc : err;
}

static uint64_t free_blocks(struct hf_space *space)
{
    uint64_t nr;

    hf_mutex_lock(&space->lock); /* what is free moves from count to count under it */
    nr = hf_space_possible(space);
    hf_mutex_unlock(&space->lock);
    return nr;
}

static int blockfs_statfs(struct hf_super *sb, struct hf_statfs *ret_statfs)
{
    struct hf_blockfs *fs = hf_blockfs_of(sb);
    struct hf_statfs st = {.block_size = fs->block_size,
                           .page_size = sb->page_size,
                           .blocks_reserved = atomic_load(&fs->space.reserved),
                           .thin = fs->space.thin};
    struct hf_metadb_room room;
    uint64_t kept;
    int rc;

    memcpy(st.uuid, fs->header.uuid, sizeof(st.uuid));
    memcpy(st.label, fs->header.label, sizeof(st.label));
    snprintf(st.driver, sizeof(st.driver), "%s", hf_blockfs_driver.name);
    hf_mutex_lock(&fs->sql_lock); /* under which volumes grow */
    st.blocks = fs->space.total - fs->space.holes;
    st.blocks_free = free_blocks(&fs->space);
    st.inodes = fs->nr_inodes;
    rc = hf_metadb_room(fs->txn.db, &room);
    kept = (uint64_t)hf_metadb_extent_pages(fs->space.total, fs->txn.nr_extents) +
           hf_metadb_growth_pages(fs->nr_inodes);
    hf_mutex_unlock(&fs->sql_lock);
    if (rc != 0)
        return rc;
    if (room.db_pages > kept)
        st.inodes_free = (room.db_pages - kept) * (uint64_t)(HF_METADB_PAGE / INODE_BYTES);
    *ret_statfs = st;
    return 0;
}

const struct hf_driver hf_blockfs_driver = {
    .name = "blockfs",
    .mount = blockfs_mount,
    .unmount = blockfs_unmount,
    .sync = hf_blockfs_sync,
    .statfs = blockfs_statfs,
    .grow = hf_blockfs_grow,
    .trim = hf_blockfs_trim,
    .lookup = hf_blockfs_lookup,
    .create = hf_blockfs_create,
    .link = hf_blockfs_link,
    .unlink = hf_blockfs_unlink,
    .rmdir = hf_blockfs_rmdir,
    .rename = hf_blockfs_rename,
    .readdir = hf_blockfs_readdir,
    .readlink = hf_blockfs_readlink,
    .getxattr = hf_blockfs_getxattr,
    .listxattr = hf_blockfs_listxattr,
    .setxattr = hf_blockfs_setxattr,
    .removexattr = hf_blockfs_removexattr,
    .read_inode = hf_blockfs_read_inode,
    .write_inode = hf_blockfs_write_inode,
    .evict_inode = hf_blockfs_evict_inode,
    .fsync = hf_blockfs_fsync,
    .setattr_prepare = hf_blockfs_setattr_prepare,
    .truncate = hf_blockfs_truncate,
    .map = hf_blockfs_map,
    .reserve = hf_blockfs_reserve,
    .unreserve = hf_blockfs_unreserve,
    .allocate = hf_blockfs_allocate,
    .preallocate = hf_blockfs_preallocate,
    .punch = hf_blockfs_punch,
    .read = hf_blockfs_read,
    .write = hf_blockfs_write,
    .change_owner = hf_blockfs_change_owner,
    .quota_get = hf_blockfs_quota_get,
    .quota_set = hf_blockfs_quota_set,
    .quota_list = hf_blockfs_quota_list,
    .quota_check = hf_blockfs_quota_check,
};
