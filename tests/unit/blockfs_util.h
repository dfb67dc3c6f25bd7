/* SPDX-License-Identifier: MIT */
/*
 * blockfs_util.h - what the tests of drivers share: a volume driven directly through struct hf_driver, as the
 * framework would, with nothing of the framework in between.
 */
#ifndef TESTS_UNIT_BLOCKFS_UTIL_H
#define TESTS_UNIT_BLOCKFS_UTIL_H

#include "metadb_util.h"

#include "fs/blockfs/blockfs.h"
#include "fs/memfs/memfs.h"

#include <holdfast/driver.h>

struct vol {
    struct hf_super sb;
    const struct hf_driver *ops;
    struct hf_memfs_options memfs;
    int64_t now_ns; /* ticks at every op */
};

/* A formatted volume on a memory device. */
struct hf_device *vol_format(hf_off_t bytes, uint32_t block_size, bool thin);
/* Mounts what is on dev, which stays the caller's. Returns what mount() does. */
int vol_try_mount(struct vol *vol, struct hf_device *dev, bool read_only);
void vol_mount(struct vol *vol, struct hf_device *dev);
/* As with HF_OPEN_DISCARD. */
void vol_mount_discard(struct vol *vol, struct hf_device *dev);
void vol_mount_memfs(struct vol *vol, uint64_t bytes, uint32_t block_size);
/* The sums of all quotas agree with a full scan. */
void vol_check_quota(struct vol *vol);
/* Unmounts, after a check that nothing is reserved, and of the quotas. */
void vol_unmount(struct vol *vol);

struct hf_statfs vol_statfs(struct vol *vol);
/* Blocks that are free, and all accounts of a blockfs volume add up. */
uint64_t vol_free(struct vol *vol);

struct hf_inode *inode_get(struct vol *vol, uint64_t ino);
void inode_put(struct hf_inode *inode);
struct hf_inode *root_get(struct vol *vol);

/* Makes name in dir; returns the inode. */
struct hf_inode *node_create(struct vol *vol, struct hf_inode *dir, const char *name, uint32_t mode,
                             const char *target);
struct hf_inode *file_create(struct vol *vol, struct hf_inode *dir, const char *name);
/* Looks name up; NULL: it is not there. */
struct hf_inode *node_find(struct vol *vol, struct hf_inode *dir, const char *name);
void file_unlink(struct vol *vol, struct hf_inode *dir, const char *name);

/* Reserves, allocates and writes blocks as writeback does; every byte is `byte`. The size grows to their end,
 * and goes to the driver. Returns the first error. */
int file_write(struct hf_inode *inode, uint64_t blk, uint64_t nr, int byte);
/* Cuts the file to that many blocks. */
int file_truncate(struct hf_inode *inode, uint64_t nr);
/* Every byte of the blocks is `byte`. */
void file_check(struct hf_inode *inode, uint64_t blk, uint64_t nr, int byte);
/* The value of the bytes of a block, which must all be equal. */
int file_byte(struct hf_inode *inode, uint64_t blk);
enum hf_extent_kind file_kind(struct hf_inode *inode, uint64_t blk);
/* The file's size in blocks. */
uint64_t file_blocks(struct hf_inode *inode);

/* xorshift; the state must not be 0. */
uint64_t random_next(uint64_t *state);
/* 0 ... n - 1 */
uint64_t random_below(uint64_t *state, uint64_t n);

#endif
