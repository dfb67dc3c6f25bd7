/* SPDX-License-Identifier: MIT */
/*
 * txn.h - the running transaction of a volume: prepared statements, and a log of them that can do it again.
 *
 * SQLite answers some errors (a device that fails, no memory) by rolling the whole transaction back, and a
 * failed COMMIT does. The ops in it have succeeded, though, and memory agrees with them. So every statement
 * that changes a row is noted with its arguments; when the transaction was lost, or one op in it has to be
 * undone, the rest of the log is run again on the state of the last commit, which gives the same rows,
 * because no statement depends on anything but its arguments and the rows. A transient device error at a
 * commit thus loses nothing.
 *
 *   hf_txn_exec   a change that may fail: then it is not in the log, and the op calls hf_txn_cancel(its mark)
 *   hf_txn_post   a change that is decided: it is in the log even if it cannot be run now
 *
 * Locking: everything here under the volume's sql_lock.
 */
#ifndef HF_FS_BLOCKFS_TXN_H
#define HF_FS_BLOCKFS_TXN_H

#include "fs/blockfs/metadb.h"

#include <stdatomic.h>

/* X(name, rows of "extents" it adds (+1) or removes (-1), text) */
#define HF_TXN_STMTS(X)                                                                                     \
    X(META_GET, 0, "SELECT schema_version, next_id FROM meta")                                              \
    X(META_SET, 0, "UPDATE meta SET next_id = ?1")                                                          \
    X(INODE_COUNT, 0, "SELECT count(*), coalesce(max(ino), 0) FROM inodes")                                 \
    X(INODE_GET, 0,                                                                                         \
      "SELECT mode, uid, gid, nlink, rdev, parent, size, atime, mtime, ctime, btime, project, flags"        \
      " FROM inodes WHERE ino = ?1")                                                                        \
    X(INODE_NLINK, 0, "SELECT nlink FROM inodes WHERE ino = ?1")                                            \
    X(INODE_INSERT, 0,                                                                                      \
      "INSERT INTO inodes(ino, mode, uid, gid, nlink, rdev, parent, size, atime, mtime, ctime, btime,"      \
      " project, flags) VALUES(?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?9, ?9, ?9, ?10, ?11)")                  \
    X(INODE_SET, 0,                                                                                         \
      "UPDATE inodes SET mode = ?2, uid = ?3, gid = ?4, atime = ?5, mtime = ?6, ctime = ?7, size = ?8,"     \
      " project = ?9, flags = ?10 WHERE ino = ?1")                                                          \
    X(INODE_LINKS, 0, "UPDATE inodes SET nlink = ?2, parent = ?3, mtime = ?4, ctime = ?5 WHERE ino = ?1")   \
    X(INODE_DELETE, 0, "DELETE FROM inodes WHERE ino = ?1")                                                 \
    X(INODE_OWNER, 0, "SELECT uid, gid, project FROM inodes WHERE ino = ?1")                                \
    X(INODE_OWNERS, 0, "SELECT uid, gid, project FROM inodes")                                              \
    X(INODE_CHARGES, 0,                                                                                     \
      "SELECT uid, gid, project, ino, (SELECT coalesce(sum(len), 0) FROM extents WHERE ino = inodes.ino)"   \
      " FROM inodes")                                                                                       \
    X(QUOTA_ALL, 0,                                                                                         \
      "SELECT type, id, blocks_soft, blocks_hard, inodes_soft, inodes_hard, grace, blocks_end, inodes_end"  \
      " FROM quotas")                                                                                       \
    X(QUOTA_SET, 0, "INSERT OR REPLACE INTO quotas VALUES(?1, ?2, ?3, ?4, ?5, ?6, ?7, 0, 0)")               \
    X(QUOTA_GRACE, 0, "UPDATE quotas SET blocks_end = ?3, inodes_end = ?4 WHERE type = ?1 AND id = ?2")     \
    X(QUOTA_DELETE, 0, "DELETE FROM quotas WHERE type = ?1 AND id = ?2")                                    \
    X(NAME_GET, 0, "SELECT ino, cookie, type FROM names WHERE dir = ?1 AND name = ?2")                      \
    X(NAME_INSERT, 0, "INSERT INTO names(dir, cookie, name, ino, type) VALUES(?1, ?2, ?3, ?4, ?5)")         \
    X(NAME_MOVE, 0, "UPDATE names SET dir = ?3, cookie = ?4, name = ?5 WHERE dir = ?1 AND cookie = ?2")     \
    X(NAME_SET_INO, 0, "UPDATE names SET ino = ?3, type = ?4 WHERE dir = ?1 AND name = ?2")                 \
    X(NAME_DELETE, 0, "DELETE FROM names WHERE dir = ?1 AND name = ?2")                                     \
    X(NAME_NEXT, 0,                                                                                         \
      "SELECT cookie, name, ino, type FROM names WHERE dir = ?1 AND cookie > ?2 ORDER BY cookie LIMIT 1")   \
    X(SYMLINK_GET, 0, "SELECT target FROM symlinks WHERE ino = ?1")                                         \
    X(SYMLINK_INSERT, 0, "INSERT INTO symlinks(ino, target) VALUES(?1, ?2)")                                \
    X(SYMLINK_DELETE, 0, "DELETE FROM symlinks WHERE ino = ?1")                                             \
    X(XATTR_HAS, 0, "SELECT 1 FROM xattrs WHERE ino = ?1 AND name = ?2")                                    \
    X(XATTR_ANY, 0, "SELECT 1 FROM xattrs WHERE ino = ?1 LIMIT 1")                                          \
    X(XATTR_GET, 0, "SELECT value FROM xattrs WHERE ino = ?1 AND name = ?2")                                \
    X(XATTR_LIST, 0, "SELECT name FROM xattrs WHERE ino = ?1 ORDER BY name")                                \
    X(XATTR_SET, 0, "INSERT OR REPLACE INTO xattrs(ino, name, value) VALUES(?1, ?2, ?3)")                   \
    X(XATTR_DELETE, 0, "DELETE FROM xattrs WHERE ino = ?1 AND name = ?2")                                   \
    X(XATTR_DELETE_SOME, 0,                                                                                 \
      "DELETE FROM xattrs WHERE ino = ?1"                                                                   \
      " AND name IN (SELECT name FROM xattrs WHERE ino = ?1 ORDER BY name LIMIT 8)")                        \
    X(ORPHAN_NEXT, 0, "SELECT ino, size FROM orphans ORDER BY ino LIMIT 1")                                 \
    X(ORPHAN_SET, 0, "INSERT OR REPLACE INTO orphans(ino, size) VALUES(?1, ?2)")                            \
    X(ORPHAN_DELETE, 0, "DELETE FROM orphans WHERE ino = ?1")                                               \
    X(EXTENT_ALL, 0, "SELECT ino, lblk, pblk, len, unwritten FROM extents ORDER BY ino, lblk")              \
    X(EXTENT_OF, 0, "SELECT lblk, pblk, len, unwritten FROM extents WHERE ino = ?1 ORDER BY lblk")          \
    X(EXTENT_INSERT, +1, "INSERT INTO extents(ino, lblk, pblk, len, unwritten) VALUES(?1, ?2, ?3, ?4, ?5)") \
    /* The row before (ino, lblk), if it continues to (lblk, pblk), grows by len. */                        \
    X(EXTENT_GROW, 0,                                                                                       \
      "UPDATE extents SET len = len + ?4 WHERE ino = ?1"                                                    \
      " AND lblk = (SELECT max(lblk) FROM extents WHERE ino = ?1 AND lblk < ?2)"                            \
      " AND lblk + len = ?2 AND pblk + len = ?3 AND unwritten = ?5 AND len + ?4 < 4294967296")              \
    /* The row at (ino, lblk) is joined to the one before: first that one grows, then this one goes. */     \
    X(EXTENT_JOIN, 0,                                                                                       \
      "UPDATE extents SET len = len + (SELECT n.len FROM extents AS n WHERE n.ino = ?1 AND n.lblk = ?2)"    \
      " WHERE ino = ?1 AND lblk = (SELECT max(lblk) FROM extents WHERE ino = ?1 AND lblk < ?2)"             \
      " AND EXISTS(SELECT 1 FROM extents AS n WHERE n.ino = ?1 AND n.lblk = ?2"                             \
      "  AND n.lblk = extents.lblk + extents.len AND n.pblk = extents.pblk + extents.len"                   \
      "  AND n.unwritten = extents.unwritten AND n.len + extents.len < 4294967296)")                        \
    X(EXTENT_DROP, -1, "DELETE FROM extents WHERE ino = ?1 AND lblk = ?2")                                  \
    /* Make lblk a boundary between rows: first the part behind it, then the part before it. */             \
    X(EXTENT_SPLIT, +1,                                                                                     \
      "INSERT INTO extents(ino, lblk, pblk, len, unwritten)"                                                \
      " SELECT ino, ?2, pblk + (?2 - lblk), lblk + len - ?2, unwritten FROM extents WHERE ino = ?1"         \
      " AND lblk = (SELECT max(lblk) FROM extents WHERE ino = ?1 AND lblk < ?2) AND lblk + len > ?2")       \
    X(EXTENT_TRIM, 0,                                                                                       \
      "UPDATE extents SET len = ?2 - lblk WHERE ino = ?1"                                                   \
      " AND lblk = (SELECT max(lblk) FROM extents WHERE ino = ?1 AND lblk < ?2) AND lblk + len > ?2")       \
    X(EXTENT_DELETE, -1, "DELETE FROM extents WHERE ino = ?1 AND lblk >= ?2 AND lblk < ?3")

enum hf_txn_stmt {
#define X(name, rows, text) HF_STMT_##name,
    HF_TXN_STMTS(X)
#undef X
        HF_STMT_NR,
};

/* An argument of a statement: a number, or with bytes set that many bytes. */
struct hf_txn_arg {
    int64_t number;
    const void *bytes;
};
#define HF_INT(n) ((struct hf_txn_arg){.number = (int64_t)(n)})
#define HF_BYTES(p, n) ((struct hf_txn_arg){.number = (int64_t)(n), .bytes = (p)})
#define HF_ARGS(...)                          \
    (const struct hf_txn_arg[]){__VA_ARGS__}, \
        sizeof((const struct hf_txn_arg[]){__VA_ARGS__}) / sizeof(struct hf_txn_arg)

struct hf_txn {
    struct hf_metadb *db;
    bool read_only;
    sqlite3_stmt *stmts[HF_STMT_NR]; /* prepared when first used */
    unsigned char *log;
    size_t log_len, log_max;
    bool applied;        /* the database's transaction holds the whole log */
    _Atomic uint64_t id; /* of the running transaction, from 1; read without the lock, too */
    uint64_t nr_extents; /* rows of "extents" */
    uint64_t nr_extents_committed;
    int64_t changes; /* rows that the last statement changed */
};

/* Takes over nothing: db stays the caller's. */
void hf_txn_init(struct hf_txn *txn, struct hf_metadb *db, bool read_only);
/* Finalizes the statements. */
void hf_txn_done(struct hf_txn *txn);

/* Begins the transaction, or brings a lost one back. 0, -EROFS, or why it cannot be. */
int hf_txn_start(struct hf_txn *txn);
static inline size_t hf_txn_mark(const struct hf_txn *txn)
{
    return txn->log_len;
}
/* Memory for nr posts without bytes, which then cannot fail for it. 0, -ENOMEM. */
int hf_txn_reserve(struct hf_txn *txn, unsigned nr);
typedef int hf_txn_run_fn(struct hf_txn *txn, enum hf_txn_stmt id, const struct hf_txn_arg *args, size_t nr);
hf_txn_run_fn hf_txn_exec, hf_txn_post;
/* Undoes what came after mark. */
void hf_txn_cancel(struct hf_txn *txn, size_t mark);
/* Makes the log durable, and empties it. On failure it is kept for the next. */
int hf_txn_commit(struct hf_txn *txn);

/*
 * A statement that reads: bound, to be stepped with hf_txn_step() (1: a row, 0: no more, or an error) and
 * always to be given to sqlite3_reset().
 */
int hf_txn_query(struct hf_txn *txn, enum hf_txn_stmt id, const struct hf_txn_arg *args, size_t nr,
                 sqlite3_stmt **ret_stmt);
int hf_txn_step(sqlite3_stmt *stmt);
/* The first column of the first row. 0; -ENOENT: no row. */
int hf_txn_number(struct hf_txn *txn, enum hf_txn_stmt id, const struct hf_txn_arg *args, size_t nr,
                  int64_t *ret_number);

#endif
