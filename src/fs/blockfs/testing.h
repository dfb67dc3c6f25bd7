/* SPDX-License-Identifier: MIT */
/*
 * testing.h - rules of the write order (docs/format.md) that test builds can break, one at a time: the
 * negative controls of tests/crash, each of which passes only if a power cut shows the breach. And a count
 * that tests wait for.
 */
#ifndef HF_FS_BLOCKFS_TESTING_H
#define HF_FS_BLOCKFS_TESTING_H

/* name, what is done wrong */
#define HF_BLOCKFS_BREAKS(X)                                                                     \
    X(skip_data_flush, "a commit does not flush the data before its rows")                       \
    X(flush_after_commit, "a commit flushes the data after its rows")                            \
    X(fsync_without_commit, "fsync flushes, and leaves the rows to somebody else")               \
    X(skip_log_flush, "a commit does not flush the log")                                         \
    X(skip_checkpoint_flush, "the log is begun anew before its pages are durable in the tables") \
    X(reuse_before_commit, "freed blocks are used again while durable rows name them")           \
    X(discard_before_commit, "freed blocks are discarded while durable rows name them")          \
    X(unlink_without_orphan, "the last name goes, and nothing says that the inode has to go")    \
    X(preallocate_as_written, "preallocated blocks are said to hold data")                       \
    X(store_beyond_size, "data beyond the size gets rows")

#ifdef HF_TESTING
#include <stdatomic.h>

enum hf_blockfs_break {
    HF_BREAK_none = 0,
#define X(name, text) HF_BREAK_##name,
    HF_BLOCKFS_BREAKS(X)
#undef X
};

extern _Atomic int hf_test_break; /* enum hf_blockfs_break */

/* Threads that wait, their ticket in hand, for a commit under way. */
extern _Atomic unsigned hf_test_commit_waiters;

#define HF_TEST_COUNT(counter, by) ((void)atomic_fetch_add(&hf_test_##counter, (by)))
#define HF_BROKEN(name) (atomic_load(&hf_test_break) == HF_BREAK_##name)
#else
#define HF_TEST_COUNT(counter, by) ((void)0)
#define HF_BROKEN(name) 0
#endif

#endif
