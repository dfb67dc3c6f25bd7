/* SPDX-License-Identifier: MIT */
/*
 * memfs.h - a filesystem in memory: for tests and scratch, and the smallest complete driver.
 *
 * It shows what struct hf_driver asks for with nothing else in the way; docs/driver-guide.md walks through
 * it. memfs.c has the volume, names and inodes, memfs_blocks.c the blocks and the space, memfs_xattr.c the
 * extended attributes.
 *
 * Locks: names_lock (rank SQL: what the driver's names live under) > node->lock (rank EXTENTS). The second is
 * taken in faults, so nothing is allocated or freed while it is held. Space is one atomic counter.
 */
#ifndef HF_FS_MEMFS_MEMFS_H
#define HF_FS_MEMFS_MEMFS_H

#include "base/list.h"
#include "base/lock.h"

#include <holdfast/driver.h>

/* How large the volume is. The framework sets sb->fs = &options before mount(), which copies them. */
struct hf_memfs_options {
    uint64_t size_bytes;
    uint32_t block_size; /* B: a power of two, HF_BLOCK_SIZE_MIN ... HF_BLOCK_SIZE_MAX */
};

extern const struct hf_driver hf_memfs_driver;

/* ---- shared by the two files */

#define HF_MEMFS_XATTR_BYTES (16u << 20) /* of all extended attributes together */
#define HF_MEMFS_GROUP 64u               /* blocks of a group, one bit each in a word */
#define HF_MEMFS_END (1ull << 62)        /* beyond the last block a file can have */

/* 64 neighbouring blocks of a file, of which one exists at least or did once. */
struct hf_memfs_group {
    uint64_t index;   /* first block / 64 */
    uint64_t present; /* allocated */
    uint64_t written; /* of those: hold data; the others read as zeros */
    uint64_t kept;    /* of those: preallocated, so they stay even if never written */
    void *block[HF_MEMFS_GROUP];
};

/* What a disk would keep of an inode. */
struct hf_memfs_node {
    uint64_t ino; /* set at init */
    /* guarded by names_lock */
    struct hf_list all;     /* in volume->nodes */
    struct hf_list entries; /* directories: of struct hf_memfs_entry, by cookie */
    struct hf_list xattrs;  /* of struct hf_memfs_xattr */
    char *target;           /* symlinks */
    uint64_t rdev, parent_ino;
    uint32_t mode, uid, gid, nlink;
    int64_t atime_ns, mtime_ns, ctime_ns, btime_ns;
    hf_off_t size;

    struct hf_rwlock lock;
    /* guarded by lock */
    struct hf_memfs_group **groups; /* sorted by index */
    size_t nr_groups, max_groups;
    uint64_t nr_blocks;
};

struct hf_memfs_volume {
    /* set at mount */
    uint32_t block_size;
    uint64_t total; /* blocks */
    /* atomic: available + reserved + blocks of all nodes == total */
    _Atomic uint64_t available, reserved;

    struct hf_mutex names_lock;
    /* guarded by names_lock */
    struct hf_list nodes;
    uint64_t nr_nodes;
    uint64_t xattr_bytes; /* of all nodes */
    uint64_t next_id;     /* of inodes and cookies */
};

static inline struct hf_memfs_volume *hf_memfs_volume_of(const struct hf_inode *inode)
{
    return inode->sb->fs;
}
static inline struct hf_memfs_node *hf_memfs_node_of(const struct hf_inode *inode)
{
    return inode->fs;
}

/* Frees the blocks in [blk, end) and gives their space back. */
void hf_memfs_free_blocks(struct hf_memfs_volume *volume, struct hf_memfs_node *node, uint64_t blk,
                          uint64_t end);
/* Frees those that were allocated and never written. */
void hf_memfs_free_unwritten(struct hf_memfs_volume *volume, struct hf_memfs_node *node);

ssize_t hf_memfs_getxattr(struct hf_inode *inode, const char *name, void *buf, size_t size);
ssize_t hf_memfs_listxattr(struct hf_inode *inode, char *buf, size_t size);
int hf_memfs_setxattr(struct hf_inode *inode, const char *name, const void *value, size_t size, int flags);
int hf_memfs_removexattr(struct hf_inode *inode, const char *name);
/* All of them. names_lock held. */
void hf_memfs_free_xattrs(struct hf_memfs_volume *volume, struct hf_memfs_node *node);

int hf_memfs_truncate(struct hf_inode *inode, hf_off_t old_size, hf_off_t new_size);
int hf_memfs_map(struct hf_inode *inode, hf_blk_t blk, unsigned flags, struct hf_extent *ret_extent);
int hf_memfs_reserve(struct hf_inode *inode, uint64_t nr, unsigned flags);
void hf_memfs_unreserve(struct hf_inode *inode, uint64_t nr);
int hf_memfs_allocate(struct hf_inode *inode, hf_blk_t blk, uint64_t nr);
int hf_memfs_preallocate(struct hf_inode *inode, hf_blk_t blk, uint64_t nr, uint64_t promised);
int hf_memfs_punch(struct hf_inode *inode, hf_blk_t blk, uint64_t nr);
int hf_memfs_read(struct hf_inode *inode, void *buf, size_t len, hf_off_t off);
int hf_memfs_write(struct hf_inode *inode, const void *buf, size_t len, hf_off_t off);

#endif
