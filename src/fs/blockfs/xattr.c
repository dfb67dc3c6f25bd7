/* SPDX-License-Identifier: MIT */
/*
 * xattr.c - extended attributes: one row each in table "xattrs", keyed by inode and name.
 *
 * They live in the metadata region, in the share that is not kept for extents: setting one is refused with
 * -ENOSPC when its pages would come from there (op_begin). An op is one statement of the running
 * transaction, so it is durable with the next commit, as a whole or not at all. They go with the inode, in
 * batches that fit into the WAL; a crash in between leaves the inode on the orphan list.
 */
#include "fs/blockfs/blockfs.h"

#include <errno.h>
#include <string.h>
#include <sys/xattr.h>

#define OVERFLOW_BYTES (HF_METADB_PAGE - 4u) /* of a value on each page of its own */
#define SET_ROWS 3u                          /* a row goes, one comes, and what the free list touches */
#define DELETE_ROWS 4u                       /* of a batch of eight: their pages go unread to the free list */

static int64_t exists(struct hf_blockfs *fs, uint64_t ino, const char *name)
{
    int64_t one;
    int rc =
        hf_txn_number(&fs->txn, HF_STMT_XATTR_HAS, HF_ARGS(HF_INT(ino), HF_BYTES(name, strlen(name))), &one);

    if (rc == -ENOENT)
        return 0;
    return rc < 0 ? rc : 1;
}

ssize_t hf_blockfs_getxattr(struct hf_inode *inode, const char *name, void *buf, size_t size)
{
    struct hf_blockfs *fs = hf_blockfs_of(inode->sb);
    sqlite3_stmt *stmt;
    ssize_t len = -ENODATA;
    int rc;

    hf_mutex_lock(&fs->sql_lock);
    rc = hf_txn_query(&fs->txn, HF_STMT_XATTR_GET, HF_ARGS(HF_INT(inode->ino), HF_BYTES(name, strlen(name))),
                      &stmt);
    if (rc == 0) {
        rc = hf_txn_step(stmt);
        if (rc > 0) {
            const void *value = sqlite3_column_blob(stmt, 0);

            len = sqlite3_column_bytes(stmt, 0);
            if (len > 0 && value == NULL)
                rc = -ENOMEM;
            else if (len > 0 && size > 0)
                memcpy(buf, value, (size_t)len < size ? (size_t)len : size);
        }
        sqlite3_reset(stmt);
    }
    hf_mutex_unlock(&fs->sql_lock);
    return rc < 0 ? rc : len;
}

ssize_t hf_blockfs_listxattr(struct hf_inode *inode, char *buf, size_t size)
{
    struct hf_blockfs *fs = hf_blockfs_of(inode->sb);
    sqlite3_stmt *stmt;
    size_t total = 0;
    int rc;

    hf_mutex_lock(&fs->sql_lock);
    rc = hf_txn_query(&fs->txn, HF_STMT_XATTR_LIST, HF_ARGS(HF_INT(inode->ino)), &stmt);
    if (rc == 0) {
        while ((rc = hf_txn_step(stmt)) > 0) {
            size_t len = (size_t)sqlite3_column_bytes(stmt, 0);

            if (len == 0 || len > HF_XATTR_NAME_MAX) {
                rc = hf_blockfs_damaged(fs, "table xattrs: inode %llu has a name of %zu bytes",
                                        (unsigned long long)inode->ino, len);
                break;
            }
            if (total + len + 1 <= size) {
                memcpy(buf + total, sqlite3_column_blob(stmt, 0), len);
                buf[total + len] = '\0';
            }
            total += len + 1;
        }
        sqlite3_reset(stmt);
    }
    hf_mutex_unlock(&fs->sql_lock);
    return rc < 0 ? rc : (ssize_t)total;
}

int hf_blockfs_setxattr(struct hf_inode *inode, const char *name, const void *value, size_t size, int flags)
{
    struct hf_blockfs *fs = hf_blockfs_of(inode->sb);
    unsigned pages = (unsigned)(size / OVERFLOW_BYTES + 1);
    size_t mark;
    int64_t had;
    int rc = hf_blockfs_op_begin(fs, SET_ROWS + pages / HF_METADB_ROW_PAGES, pages, &mark);

    if (rc == 0) {
        had = exists(fs, inode->ino, name);
        if (had < 0)
            rc = (int)had;
        else if (had && (flags & XATTR_CREATE))
            rc = -EEXIST;
        else if (!had && (flags & XATTR_REPLACE))
            rc = -ENODATA;
    }
    if (rc == 0)
        rc = hf_txn_exec(&fs->txn, HF_STMT_XATTR_SET,
                         HF_ARGS(HF_INT(inode->ino), HF_BYTES(name, strlen(name)), HF_BYTES(value, size)));
    if (rc == 0)
        atomic_store(&hf_blockfs_inode_of(inode)->txn, atomic_load(&fs->txn.id));
    return hf_blockfs_op_end(fs, mark, rc);
}

int hf_blockfs_removexattr(struct hf_inode *inode, const char *name)
{
    struct hf_blockfs *fs = hf_blockfs_of(inode->sb);
    size_t mark;
    int rc = hf_blockfs_op_begin(fs, SET_ROWS, 0, &mark);

    if (rc == 0)
        rc = hf_txn_exec(&fs->txn, HF_STMT_XATTR_DELETE,
                         HF_ARGS(HF_INT(inode->ino), HF_BYTES(name, strlen(name))));
    if (rc == 0 && fs->txn.changes == 0)
        rc = -ENODATA;
    if (rc == 0)
        atomic_store(&hf_blockfs_inode_of(inode)->txn, atomic_load(&fs->txn.id));
    return hf_blockfs_op_end(fs, mark, rc);
}

int hf_blockfs_free_xattrs(struct hf_blockfs *fs, uint64_t ino)
{
    int64_t one;
    int rc;

    while ((rc = hf_txn_number(&fs->txn, HF_STMT_XATTR_ANY, HF_ARGS(HF_INT(ino)), &one)) == 0) {
        rc = hf_blockfs_make_room(fs, DELETE_ROWS);
        if (rc == 0)
            rc = hf_txn_exec(&fs->txn, HF_STMT_XATTR_DELETE_SOME, HF_ARGS(HF_INT(ino)));
        if (rc != 0)
            return rc;
    }
    return rc == -ENOENT ? 0 : rc;
}
