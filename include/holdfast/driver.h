/* SPDX-License-Identifier: MIT */
/*
 * driver.h - for authors of filesystems: what stands behind the cache and the names.
 *
 * A driver is one struct hf_driver. The framework owns pages, locks, i_size, mappings and the promise;
 * the driver owns names, attributes, blocks and their durability. Every op says which locks its caller holds:
 *   dir io, inode io   io_lock of that inode, exclusive ("x") or shared ("s")
 *   map                map_lock of that inode, exclusive or shared
 *   page               the page lock of the pages concerned: the op must not touch user memory, and must
 *                      not wait for anything that needs a page lock
 * Ops with HF_NOWAIT among their flags may be running inside a fault in any thread: with it set they must
 * not block on I/O, not call malloc, not take a lock that a malloc user or an I/O waiter holds for long;
 * they return -EAGAIN and are called again without the flag from a service thread.
 * Ops are required unless they are marked optional. All return 0 or a negative errno.
 */
#ifndef HOLDFAST_DRIVER_H
#define HOLDFAST_DRIVER_H

#include <holdfast/device.h>
#include <holdfast/holdfast.h>
#include <holdfast/quota.h>

/* A block number, in units of B, in a file or on a device. */
typedef uint64_t hf_blk_t;

#define HF_NOWAIT 0x1u      /* see above */
#define HF_SPECULATIVE 0x2u /* reserve(): for mkwrite-around; refuse unless space is plentiful */

/* An open volume as its driver sees it. */
struct hf_super {
    const struct hf_driver *driver; /* set by the framework before mount() */
    struct hf_device *dev;          /* likewise; NULL for drivers without a device. Closed by the framework */
    uint32_t page_size;   /* likewise: the P asked for, bytes; 0: not chosen yet, the driver leaves it */
    bool read_only;       /* likewise */
    bool discard;         /* likewise: HF_OPEN_DISCARD */
    uint32_t block_size;  /* set by mount(): B, bytes */
    uint64_t root_ino;    /* set by mount() */
    void *fs;             /* the driver's own */
    char error_text[256]; /* set by mount() when it fails: what is wrong, and what to do */
};

/*
 * An inode in memory. Fields are read under io_lock (s) or more, and written by the framework or, in the ops
 * that say so, by the driver, under io_lock (x); the atomics by anybody.
 */
struct hf_inode {
    struct hf_super *sb;
    uint64_t ino;
    _Atomic uint32_t mode; /* type and permissions, as st_mode; the type never changes: read by anybody */
    uint32_t uid, gid;
    uint32_t project;       /* quota.h */
    bool project_inherit;   /* directories: of what is made in it */
    _Atomic uint32_t nlink; /* as the other fields, but read by anybody */
    uint64_t rdev;
    uint64_t parent_ino;                /* directories: of ".." (kept by the driver) */
    int64_t btime_ns;                   /* since the epoch, as the next ones */
    _Atomic int64_t mtime_ns, ctime_ns; /* page_mkwrite moves them, too */
    _Atomic int64_t atime_ns;           /* reads move it under io_lock (s), or under none */
    _Atomic int64_t size;               /* i_size, bytes: only the framework writes it (after read_inode()) */
    _Atomic uint64_t blocks;            /* allocated, in units of B (kept by the driver) */
    void *fs;                           /* the driver's own; set in read_inode(), freed in evict_inode() */
};

enum hf_extent_kind { HF_EXTENT_HOLE = 0, HF_EXTENT_UNWRITTEN, HF_EXTENT_WRITTEN };

/* A run of blocks of one kind in a file. */
struct hf_extent {
    hf_blk_t blk; /* first, in the file */
    uint64_t nr;  /* how many; holes may run up to 2^62 */
    enum hf_extent_kind kind;
};

struct hf_create {
    uint32_t mode; /* type and permissions */
    uint32_t uid, gid;
    uint64_t rdev;
    int64_t now_ns;
    const char *target; /* symlinks: NUL-terminated */
};

struct hf_driver {
    const char *name;

    /* ---- the volume. mount() .. unmount() bracket all other calls. */
    /* Reads what is on sb->dev, frees orphans, sets sb->{block_size,root_ino,fs}; on failure sets error_text
     * and leaves the device as it was. -EMEDIUMTYPE, -EPROTONOSUPPORT, -EUCLEAN, -EIO, -EINVAL (P < B). */
    int (*mount)(struct hf_super *sb);
    /* Commits and frees sb->fs, whatever happens. Every inode has been evicted. */
    int (*unmount)(struct hf_super *sb);
    /* Makes all that the ops below have done durable. No locks held. Called every few seconds (half of
     * writeback_ms), too: leaves the device alone when all is durable already. */
    int (*sync)(struct hf_super *sb);
    int (*statfs)(struct hf_super *sb, struct hf_statfs *ret_statfs);
    /* Optional. The volume gets size_bytes (0: all that its device has) while it is in use. err: 256 bytes,
     * why not. 0; -EALREADY: it has them; -EINVAL: fewer, or hardly more; -ENOSPC, -EIO, -EROFS, -ENOMEM:
     * nothing has changed. No locks held. */
    int (*grow)(struct hf_super *sb, uint64_t size_bytes, char *err);
    /* Optional. Tells the device of all free runs of at least min_bytes while the volume is in use. err: 256
     * bytes, why not. *ret_bytes: how much. 0; -EOPNOTSUPP, -EIO, -EROFS, -ENOMEM. No locks held. */
    int (*trim)(struct hf_super *sb, uint64_t min_bytes, uint64_t *ret_bytes, char *err);

    /* ---- names. Caller: dir io x, and io x of every inode given. Each op is atomic in a crash, and the
     * driver updates nlink, parent_ino, ctime of the inodes, and mtime, ctime of the directories, to now_ns.
     * Names are 1 ... 255 bytes without '/' and NUL and not "." or "..". The framework has checked types,
     * existence, emptiness is checked by the driver. */
    int (*lookup)(struct hf_inode *dir, const char *name, uint64_t *ret_ino); /* dir io s or x; -ENOENT */
    /* name NULL: a file without a name (O_TMPFILE): as if it had one and unlink() had taken it; dir is not
     * changed. */
    int (*create)(struct hf_inode *dir, const char *name, const struct hf_create *how, uint64_t *ret_ino);
    /* An inode with nlink 0 leaves the orphan list in the same transaction. */
    int (*link)(struct hf_inode *dir, const char *name, struct hf_inode *inode, int64_t now_ns);
    /* Last name gone: the inode goes on the orphan list in the same transaction; evict_inode() frees it. */
    int (*unlink)(struct hf_inode *dir, const char *name, struct hf_inode *inode, int64_t now_ns);
    int (*rmdir)(struct hf_inode *dir, const char *name, struct hf_inode *inode,
                 int64_t now_ns); /* -ENOTEMPTY */
    /* target: what newname names now, or NULL. flags: 0 (target is replaced: as unlink or rmdir; -ENOTEMPTY)
     * or RENAME_EXCHANGE (target is not NULL). olddir == newdir is possible. */
    int (*rename)(struct hf_inode *olddir, const char *oldname, struct hf_inode *inode,
                  struct hf_inode *newdir, const char *newname, struct hf_inode *target, unsigned flags,
                  int64_t now_ns);
    /* The entry with the smallest cookie > cookie (cookies are >= 3 and never change while the entry lives).
     * Without "." and "..". dir io s. Returns 1, or 0 at the end. */
    int (*readdir)(struct hf_inode *dir, uint64_t cookie, struct hf_dirent *ret_entry);
    /* Up to size bytes, no NUL; returns the whole length. */
    ssize_t (*readlink)(struct hf_inode *inode, char *buf, size_t size);

    /* ---- extended attributes. Optional: all four, or none (then callers get -EOPNOTSUPP). Names are 1 ...
     * HF_XATTR_NAME_MAX bytes, values up to HF_XATTR_SIZE_MAX, both opaque; buffers are the framework's. They
     * are durable as what names ops do is: with the next fsync of the inode, or sync. They go with the inode.
     * Caller: io s for the first two, io x for the others. */
    /* Up to size bytes of the value; returns its whole length. -ENODATA. */
    ssize_t (*getxattr)(struct hf_inode *inode, const char *name, void *buf, size_t size);
    /* The names, each with its NUL, as far as whole ones fit into size; returns the length of all. */
    ssize_t (*listxattr)(struct hf_inode *inode, char *buf, size_t size);
    /* flags: XATTR_CREATE (-EEXIST), XATTR_REPLACE (-ENODATA). -ENOSPC with nothing changed. */
    int (*setxattr)(struct hf_inode *inode, const char *name, const void *value, size_t size, int flags);
    int (*removexattr)(struct hf_inode *inode, const char *name); /* -ENODATA */

    /* ---- inodes */
    /* Fills a zeroed inode (sb and ino are set). -ENOENT, -EUCLEAN, -EIO. No locks held. */
    int (*read_inode)(struct hf_inode *inode);
    /* Puts attributes and this size into the running transaction (durable with the next fsync or sync). All
     * data below disk_size has been write()n (the framework saw to it). Caller: io s or x. */
    int (*write_inode)(struct hf_inode *inode, hf_off_t disk_size);
    /* Last use: frees inode->fs; with nlink == 0 also its blocks and its row. Blocks that were allocated and
     * never write()n go back to free space. Cannot keep the inode: on error the volume's orphan list frees it
     * later. */
    int (*evict_inode)(struct hf_inode *inode);
    /* Everything write_inode(), write(), and the names ops did for this inode becomes durable: device flush
     * first, then commit. datasync: attributes that are not needed to read the data may stay behind. No locks
     * held. */
    int (*fsync)(struct hf_inode *inode, bool datasync);

    /* ---- size (DESIGN 6). Caller: io x. */
    /* Optional. May refuse a size change, before anything has changed. */
    int (*setattr_prepare)(struct hf_inode *inode, hf_off_t old_size, hf_off_t new_size);
    /* new_size < old_size: frees the blocks at and beyond new_size rounded up to B, and records the size in
     * the running transaction. i_size has moved already. On error the blocks are freed at next mount. Caller:
     * io x, map x. */
    int (*truncate)(struct hf_inode *inode, hf_off_t old_size, hf_off_t new_size);

    /* ---- blocks. Space is counted in blocks: free = total - allocated - reserved. */
    /* The run that contains blk, from blk on. flags: HF_NOWAIT. Caller: page or map s. */
    int (*map)(struct hf_inode *inode, hf_blk_t blk, unsigned flags, struct hf_extent *ret_extent);
    /* Promises nr blocks (and their quota) to the inode: all or nothing. -ENOSPC, -EDQUOT, -EIO (guarantee
     * failed), -EAGAIN (NOWAIT; freed blocks that only wait for a commit must be made available when it is
     * not set). flags: HF_NOWAIT, HF_SPECULATIVE. Caller: page. */
    int (*reserve)(struct hf_inode *inode, uint64_t nr, unsigned flags);
    /* Gives back. Never fails, never blocks on I/O, may be called in a fault. Caller: page. */
    void (*unreserve)(struct hf_inode *inode, uint64_t nr);
    /* Turns nr reservations into blocks at blk, which are holes (HOLD-2: cannot fail for want of space; 0, or
     * -ENOMEM with nothing changed). New blocks become reachable after a crash only once write() of them is
     * durable. Caller: page; not in a fault. */
    int (*allocate)(struct hf_inode *inode, hf_blk_t blk, uint64_t nr);
    /* fallocate: the holes in the range become UNWRITTEN blocks (reading zero, surviving crashes) that need
     * no reservation; blocks that allocate() gave and nobody has written stay from now on, too. promised: so
     * many of the holes have been reserved before; on success those promises are used up. All or nothing.
     * -ENOSPC, -EDQUOT. Durable with fsync() or sync(). Caller: io x, map x. */
    int (*preallocate)(struct hf_inode *inode, hf_blk_t blk, uint64_t nr, uint64_t promised);
    /* The blocks in the range become holes; their space is free when that is durable. On error any of them
     * may have become holes, as map() says. Caller: io x, map x. */
    int (*punch)(struct hf_inode *inode, hf_blk_t blk, uint64_t nr);
    /* Transfer whole blocks: off and len are multiples of B. Holes and unwritten blocks read as zeros.
     * write(): every block is allocated or unwritten, and becomes written. They may come from several threads
     * at once for different blocks; the pages concerned are locked or under writeback. -EIO, also for a block
     * that is a hole after all. */
    int (*read)(struct hf_inode *inode, void *buf, size_t len, hf_off_t off);
    int (*write)(struct hf_inode *inode, const void *buf, size_t len, hf_off_t off);

    /* ---- quotas (quota.h): optional, all or none. Then reserve(), preallocate() and
     * create() charge whom the inode belongs to, truncate(), punch(), unreserve() and
     * evict_inode() give back, and create() gives a new inode the project of a
     * directory that has project_inherit. Calls without an inode: no locks held. */
    /* What the inode is charged for goes to these ids, or stays, all of it, where it is: -EDQUOT, -ENOMEM.
     * The framework sets uid, gid and project afterwards, before it lets go of the locks. Caller: io x, map
     * x. */
    int (*change_owner)(struct hf_inode *inode, uint32_t uid, uint32_t gid, uint32_t project);
    /* As hf_quota_get() and its like; types have been checked. */
    int (*quota_get)(struct hf_super *sb, enum hf_quota_type type, uint32_t id, struct hf_quota *ret_quota);
    int (*quota_set)(struct hf_super *sb, const struct hf_quota_limits *limits);
    int (*quota_list)(struct hf_super *sb, uint64_t *cursor, unsigned max, struct hf_quota *ret_quotas);
    int (*quota_check)(struct hf_super *sb, struct hf_quota_check *ret_check);
};

#endif
