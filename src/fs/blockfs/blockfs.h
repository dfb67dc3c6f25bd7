/* SPDX-License-Identifier: MIT */
/*
 * blockfs.h - the default volume: an open volume and an inode as the files of this folder share them.
 *
 * Files: super.c (mount, unmount) schema.c (tables) txn.c (statements, the redo log) commit.c (ordered group
 * commit) names.c xattr.c inode.c data.c (map, read, write, allocate) free.c (truncate, punch, orphans)
 * space.c (counters, reservations) thin.c (asking the device for space) discard.c trim.c (telling it what is
 * free) accounts.c quota.c (who has how much, and may) freemap.c extmap.c. Below them: metadb.c (SQLite on the
 * device), header.c.
 *
 * Invariants
 *   1. available + reserved + allocated + pending + unasked == blocks of the data region (space.c).
 *   2. A row of "extents" that says written is inserted only after a device flush that began when write() of
 * the data had returned (commit.c).
 *   3. A block that rows name is used again, or discarded, only after the commit that removed them (space.c,
 * pending).
 *   4. What an op put into the redo log happens in this order, as a whole, or (crash) not at all (txn.c).
 *
 * Lock order: space.trim_lock > sql_lock > extents.lock of an inode > dirty_lock, space.lock, accounts.lock.
 * No SQL is run and no memory allocated under extents.lock. reserve, unreserve, map, read, write and allocate
 * never take sql_lock, except that a reserve that may block commits when that is what makes room.
 */
#ifndef HF_FS_BLOCKFS_BLOCKFS_H
#define HF_FS_BLOCKFS_BLOCKFS_H

#include "base/list.h"
#include "base/lock.h"
#include "fs/blockfs/accounts.h"
#include "fs/blockfs/extmap.h"
#include "fs/blockfs/metadb.h"
#include "fs/blockfs/space.h"
#include "fs/blockfs/txn.h"

#include <holdfast/driver.h>

extern const struct hf_driver hf_blockfs_driver;

#define HF_BLOCKFS_ROOT_INO 1u
#define HF_BLOCKFS_FIRST_ID 16u /* the first number for other inodes, and for cookies */
#define HF_BLOCKFS_SCHEMA 2     /* meta.schema_version */
#define HF_BLOCKFS_BUCKETS 1024u
#define HF_BLOCKFS_NO_CUT UINT64_MAX
#define HF_BLOCKFS_LOG_MAX (8u << 20) /* bytes of redo log; above it an op commits before it begins */

#define HF_BLOCKFS_INHERIT 0x1u /* inodes.flags: what is made in the directory gets its project */

/* The part of an inode's row that write_inode() moves. */
struct hf_blockfs_row {
    uint32_t mode, uid, gid, project, flags; /* flags: HF_BLOCKFS_INHERIT */
    int64_t atime_ns, mtime_ns, ctime_ns;
    hf_off_t size;
};

struct hf_blockfs_inode {
    uint64_t ino; /* set at init */
    struct hf_extmap extents;
    struct hf_owner owner; /* whom its blocks are charged to: accounts.h */
    /* guarded by sql_lock */
    struct hf_list bucket;
    bool attached; /* some hf_inode has it; else it waits for the commit that stores what it holds */
    uint64_t cut;  /* blocks from here on are beyond EOF and could not be freed yet; or HF_BLOCKFS_NO_CUT */
    /* guarded by dirty_lock */
    struct hf_list dirty; /* in fs->dirty while listed */
    bool listed, committing, dead;
    bool row_dirty;        /* row waits for a commit */
    bool commit_row_dirty; /* commit_row belongs to the commit that runs */
    bool size_dirty;       /* ... and its size is news */
    struct hf_blockfs_row row, commit_row;
    hf_off_t stored_size;
    struct hf_blockfs_inode *commit_next; /* the commit's own */
    /* atomic */
    _Atomic uint64_t txn; /* the last transaction that changed rows of it; 0: none */
};

struct hf_blockfs {
    /* set at mount */
    struct hf_super *sb;
    struct hf_device *dev;
    struct hf_blockfs_header header;
    enum hf_blockfs_copy header_copy; /* which one was read */
    uint32_t block_size;
    bool read_only;
    uint64_t nr_extents_found; /* rows of "extents" at mount */
    struct hf_space space;
    struct hf_accounts accounts;

    struct hf_mutex sql_lock; /* rank SQL */
    /* guarded by sql_lock */
    struct hf_txn txn;
    uint64_t next_id, stored_next_id; /* inode numbers and cookies; what the database knows of it */
    uint64_t nr_inodes;
    uint64_t nr_detached;
    struct hf_list buckets[HF_BLOCKFS_BUCKETS]; /* inodes in memory */
    bool committing;

    struct hf_mutex dirty_lock; /* rank SPACE */
    /* guarded by dirty_lock */
    struct hf_list dirty;

    /* atomic */
    _Atomic uint64_t commits_started; /* a ticket is this + 1 */
    _Atomic uint64_t commits_ok;      /* the number of the last that succeeded */
    _Atomic uint32_t commit_word;     /* futex: moves when a commit ends */
    _Atomic uint64_t data_writes; /* writes of data that have ended; those that a flush has made durable: */
    _Atomic uint64_t data_flushed;
};

/* ---- super.c */
/* Notes in sb->error_text what is damaged; returns -EUCLEAN. Caller: sql_lock. */
int hf_blockfs_damaged(struct hf_blockfs *fs, const char *format, ...) __attribute__((format(printf, 2, 3)));

/* ---- grow.c */
int hf_blockfs_grow(struct hf_super *sb, uint64_t size_bytes, char err[HF_BLOCKFS_ERR]);
/* The same for a volume that nobody has open; size_bytes 0: all of the device. As hf_grow(). */
int hf_blockfs_grow_device(struct hf_device *dev, uint64_t size_bytes, char err[HF_BLOCKFS_ERR]);

/* ---- thin.c: nothing to do of thick volumes */
/* sql_lock held. At mount: the blocks that are allocated are covered, and the device is asked for what
 * metadata needs. 0; -EIO. A device without the space is no error: whatever needs new space is refused. */
int hf_blockfs_thin_begin(struct hf_blockfs *fs);
/* sql_lock held. The running transaction may take new_pages of metadata: the device has guaranteed them, and
 * what is kept besides. room: as it is. 0, -ENOSPC, -EIO. */
int hf_blockfs_thin_own(struct hf_blockfs *fs, const struct hf_metadb_room *room, unsigned new_pages);
/* Makes some of nr blocks available, by asking the device. Takes sql_lock. 0, -ENOSPC, -EIO. */
int hf_blockfs_thin_ask(struct hf_blockfs *fs, uint64_t nr);

/* ---- trim.c */
/* 0; -EROFS, -EOPNOTSUPP with a reason. */
int hf_blockfs_can_discard(const struct hf_blockfs *fs, char err[HF_BLOCKFS_ERR]);
int hf_blockfs_trim(struct hf_super *sb, uint64_t min_bytes, uint64_t *ret_bytes, char err[HF_BLOCKFS_ERR]);
/* hf_trim_device() */
int hf_blockfs_trim_device(struct hf_device *dev, uint64_t *ret_bytes, char err[HF_BLOCKFS_ERR]);

/* ---- commit.c */
/* What a commit that starts from now on will have. */
uint64_t hf_blockfs_ticket(struct hf_blockfs *fs);
/* Returns when a commit with at least that number has succeeded, running it if nobody does; or its error.
 * No lock of rank SQL or below is held. */
int hf_blockfs_commit(struct hf_blockfs *fs, uint64_t ticket);
/* sql_lock held: makes room in the WAL for about `rows` row changes, if needed by a commit, for which the
 * lock is dropped; starts the transaction. */
int hf_blockfs_make_room(struct hf_blockfs *fs, unsigned rows);
/* sql_lock held, inside a commit: the same for a few rows, by committing what is there. end: of the data of
 * the inode that it has so far, in blocks; fi NULL: of no inode in particular. */
int hf_blockfs_room_inside(struct hf_blockfs *fs, struct hf_blockfs_inode *fi, uint64_t end);
/* Puts the inode on the list of the next commit. */
void hf_blockfs_mark_dirty(struct hf_blockfs *fs, struct hf_blockfs_inode *fi);
int hf_blockfs_fsync(struct hf_inode *inode, bool datasync);
int hf_blockfs_sync(struct hf_super *sb);

/* ---- inode.c */
int hf_blockfs_read_inode(struct hf_inode *inode);
int hf_blockfs_write_inode(struct hf_inode *inode, hf_off_t disk_size);
int hf_blockfs_evict_inode(struct hf_inode *inode);
/* sql_lock held. A private inode with its extents, in the table; attached. owner: whom its row names; NULL:
 * not known. */
int hf_blockfs_inode_get(struct hf_blockfs *fs, uint64_t ino, const struct hf_owner_ids *owner,
                         struct hf_blockfs_inode **ret_fi);
/* sql_lock held. The inode's hf_inode, or whoever had it from inode_get(), is gone. */
void hf_blockfs_inode_put(struct hf_blockfs *fs, struct hf_blockfs_inode *fi);
/* sql_lock held, not attached, in no list: out of the table, and freed. */
void hf_blockfs_inode_free(struct hf_blockfs *fs, struct hf_blockfs_inode *fi);
/* sql_lock held. Rows of the inode were changed by the running transaction, its times moved in memory. */
void hf_blockfs_inode_changed(struct hf_blockfs *fs, struct hf_inode *inode);
/* sql_lock held. The running transaction sets the row as the inode and size say. */
int hf_blockfs_post_row(struct hf_blockfs *fs, uint64_t ino, const struct hf_blockfs_row *row);
struct hf_blockfs_row hf_blockfs_row_of(struct hf_inode *inode, hf_off_t size);

/* Blocks that the inode has. Takes extents.lock. */
uint64_t hf_blockfs_count_blocks(struct hf_blockfs_inode *fi);

/* ---- quota.c */
/* A row of table "quotas": limits, 0: none; grace in seconds, 0: the default; when grace times end. */
struct hf_blockfs_quota_row {
    int64_t type, id, blocks_soft, blocks_hard, inodes_soft, inodes_hard, grace, blocks_end, inodes_end;
};
/* The row that a statement stands on; columns in that order. */
struct hf_blockfs_quota_row hf_blockfs_quota_row_read(sqlite3_stmt *stmt);
/* NULL, or what is impossible about it in a few words. */
const char *hf_blockfs_quota_row_fault(const struct hf_blockfs_quota_row *row);
struct hf_quota_limits hf_blockfs_quota_row_limits(const struct hf_blockfs_quota_row *row);
/* sql_lock held. Who owns the inode, by its row; references as hf_owner_get() (those before are put).
 * -ENOENT. */
int hf_blockfs_owner_load(struct hf_blockfs *fs, uint64_t ino, struct hf_owner *owner);
/* The owner becomes those ids, unless it is them. Nothing is charged to it. 0, -ENOMEM. */
int hf_blockfs_owner_switch(struct hf_blockfs *fs, const struct hf_owner_ids *ids, struct hf_owner *owner);
/* sql_lock held. At mount, after blocks were counted: counts inodes, loads limits. */
int hf_blockfs_quota_load(struct hf_blockfs *fs);
/* sql_lock held, inside a commit: grace times that began or ended since the last. */
int hf_blockfs_quota_store(struct hf_blockfs *fs);
/* sql_lock held. There are such. */
bool hf_blockfs_quota_has_news(struct hf_blockfs *fs);
int hf_blockfs_quota_get(struct hf_super *sb, enum hf_quota_type type, uint32_t id,
                         struct hf_quota *ret_quota);
int hf_blockfs_quota_set(struct hf_super *sb, const struct hf_quota_limits *limits);
int hf_blockfs_quota_list(struct hf_super *sb, uint64_t *cursor, unsigned max, struct hf_quota *ret_quotas);
int hf_blockfs_quota_check(struct hf_super *sb, struct hf_quota_check *ret_check);
int hf_blockfs_change_owner(struct hf_inode *inode, uint32_t uid, uint32_t gid, uint32_t project);

/* ---- names.c */
/*
 * An op that adds or removes rows, all or nothing. begin takes sql_lock, whatever it returns, and makes room
 * for about `rows` changed rows in the WAL; new_pages, if not 0: and for so many pages beyond what a few rows
 * take in the metadata region, without what is kept there for extents (-ENOSPC). end undoes the op unless rc
 * is 0, unlocks, and returns rc.
 */
int hf_blockfs_op_begin(struct hf_blockfs *fs, unsigned rows, unsigned new_pages, size_t *ret_mark);
int hf_blockfs_op_end(struct hf_blockfs *fs, size_t mark, int rc);
int hf_blockfs_lookup(struct hf_inode *dir, const char *name, uint64_t *ret_ino);
int hf_blockfs_create(struct hf_inode *dir, const char *name, const struct hf_create *how, uint64_t *ret_ino);
int hf_blockfs_link(struct hf_inode *dir, const char *name, struct hf_inode *inode, int64_t now_ns);
int hf_blockfs_unlink(struct hf_inode *dir, const char *name, struct hf_inode *inode, int64_t now_ns);
int hf_blockfs_rmdir(struct hf_inode *dir, const char *name, struct hf_inode *inode, int64_t now_ns);
int hf_blockfs_readdir(struct hf_inode *dir, uint64_t cookie, struct hf_dirent *ret_entry);
ssize_t hf_blockfs_readlink(struct hf_inode *inode, char *buf, size_t size);
int hf_blockfs_rename(struct hf_inode *olddir, const char *oldname, struct hf_inode *inode,
                      struct hf_inode *newdir, const char *newname, struct hf_inode *target, unsigned flags,
                      int64_t now_ns);

/* ---- xattr.c */
ssize_t hf_blockfs_getxattr(struct hf_inode *inode, const char *name, void *buf, size_t size);
ssize_t hf_blockfs_listxattr(struct hf_inode *inode, char *buf, size_t size);
int hf_blockfs_setxattr(struct hf_inode *inode, const char *name, const void *value, size_t size, int flags);
int hf_blockfs_removexattr(struct hf_inode *inode, const char *name);
/* sql_lock held, dropped and retaken. The running transaction, or several, remove all of an inode's. */
int hf_blockfs_free_xattrs(struct hf_blockfs *fs, uint64_t ino);

/* ---- data.c */
int hf_blockfs_map(struct hf_inode *inode, hf_blk_t blk, unsigned flags, struct hf_extent *ret_extent);
int hf_blockfs_reserve(struct hf_inode *inode, uint64_t nr, unsigned flags);
void hf_blockfs_unreserve(struct hf_inode *inode, uint64_t nr);
int hf_blockfs_allocate(struct hf_inode *inode, hf_blk_t blk, uint64_t nr);
int hf_blockfs_preallocate(struct hf_inode *inode, hf_blk_t blk, uint64_t nr, uint64_t promised);
int hf_blockfs_read(struct hf_inode *inode, void *buf, size_t len, hf_off_t off);
int hf_blockfs_write(struct hf_inode *inode, const void *buf, size_t len, hf_off_t off);
/* sql_lock held. Inserts or converts the rows for one extent, joining them with their neighbours. */
int hf_blockfs_put_row(struct hf_blockfs *fs, struct hf_blockfs_inode *fi, const struct hf_ext *ext,
                       bool unwritten);

/* ---- free.c */
int hf_blockfs_setattr_prepare(struct hf_inode *inode, hf_off_t old_size, hf_off_t new_size);
int hf_blockfs_truncate(struct hf_inode *inode, hf_off_t old_size, hf_off_t new_size);
int hf_blockfs_punch(struct hf_inode *inode, hf_blk_t blk, uint64_t nr);
/* sql_lock held. The running transaction removes the rows of [start, end), cutting those at its ends; run is
 * hf_txn_exec or hf_txn_post. */
int hf_blockfs_remove_rows(struct hf_blockfs *fs, struct hf_blockfs_inode *fi, uint64_t start, uint64_t end,
                           hf_txn_run_fn *run);
/* sql_lock held, dropped and retaken. Makes [start, end) a hole. *freed grows by the number of blocks. On
 * failure the part from some block on is as it was. */
int hf_blockfs_free_range(struct hf_blockfs *fs, struct hf_blockfs_inode *fi, uint64_t start, uint64_t end,
                          uint64_t *freed);
/* sql_lock held, dropped and retaken. Removes an inode that has no name left, with its blocks. */
int hf_blockfs_delete_inode(struct hf_blockfs *fs, struct hf_blockfs_inode *fi, uint64_t *freed);
/* sql_lock held, dropped and retaken. Frees what a truncate left beyond EOF. linked: the inode has a name, so
 * its row in "orphans" is about the truncate. */
int hf_blockfs_finish_cut(struct hf_blockfs *fs, struct hf_blockfs_inode *fi, bool linked, uint64_t *freed);
/* sql_lock held, dropped and retaken. At mount: deleted inodes and truncations that a crash interrupted. */
int hf_blockfs_free_orphans(struct hf_blockfs *fs);

static inline struct hf_blockfs *hf_blockfs_of(const struct hf_super *sb)
{
    return sb->fs;
}
static inline struct hf_blockfs_inode *hf_blockfs_inode_of(const struct hf_inode *inode)
{
    return inode->fs;
}
/* Byte address on the device of a block of the data region. */
static inline hf_off_t hf_blockfs_addr(const struct hf_blockfs *fs, uint64_t pblk)
{
    return (hf_off_t)(fs->header.data_off + pblk * fs->block_size);
}

#endif
