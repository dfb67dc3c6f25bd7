/* SPDX-License-Identifier: MIT */
/*
 * space.h - the blocks of a volume: who has them, and how they are promised.
 *
 * Every block of the data region is in one place:
 *   available  free, in the pool, promised to nobody
 *   reserved   free, in the pool, promised (HOLD-2: allocating these cannot fail for want of space)
 *   allocated  belongs to an inode
 *   pending    in no map: given back by an inode, but rows that are still durable may name it: usable after
 *              the next commit; or free, and just being told to the device (discard.c)
 *   unasked    thin volumes: free, but the device has not guaranteed it yet (HOLD-10); not in the pool
 *
 * Of a thin volume no more blocks leave unasked than covered says: so many extents have room in metadata
 * that the device has guaranteed (thin.c).
 *
 * Locking: the counters are atomic, so that reserving in a fault takes no lock; space.lock (rank SPACE)
 * guards the maps and the lists of pending runs. A count moves *into* available before it leaves pending or
 * unasked, under space.lock, and readers read in the opposite order: without the lock a block on the way may
 * be seen twice, never not at all. What goes the other way, to the device, moves under trim_lock and between
 * two changes of `moves`.
 */
#ifndef HF_FS_BLOCKFS_SPACE_H
#define HF_FS_BLOCKFS_SPACE_H

#include "base/lock.h"
#include "fs/blockfs/freemap.h"

#include <holdfast/driver.h>

struct hf_run {
    uint64_t blk, nr;
};

/* A growing list of runs; fixed serves the usual case. */
struct hf_runs {
    struct hf_run *v;
    size_t nr, max;
    struct hf_run fixed[8];
};

struct hf_space {
    _Atomic uint64_t total; /* blocks of the data region, with its holes; grows */
    _Atomic uint64_t holes; /* of them never used: metadata segments lie there */
    /* set at init */
    bool thin;
    struct hf_device *dev; /* thin: whose guarantee() is asked */
    uint64_t data_off;
    uint32_t block_size;
    /* atomic */
    _Atomic uint64_t available, reserved, pending, unasked;
    _Atomic uint32_t moves;   /* odd: counts are on their way into pending */
    _Atomic uint32_t waiting; /* for trim_lock, to reserve */
    _Atomic bool discard;     /* what a commit frees is told to the device before it can be used again */

    struct hf_mutex trim_lock; /* rank TRIM: nobody discards, and what is free is in its place */
    struct hf_mutex lock;
    /* guarded by lock */
    struct hf_freemap pool;
    /* thin: blocks that are not free in it are in the pool, or were taken from there */
    struct hf_freemap raw;
    uint64_t covered;       /* thin: so many may be taken from raw; holes do not count */
    struct hf_runs freed;   /* pending: of the running transaction */
    struct hf_runs durable; /* pending: freed by commits, the device is to be told */
};

void hf_runs_init(struct hf_runs *runs);
void hf_runs_done(struct hf_runs *runs);
/* Room for nr more. 0, -ENOMEM. */
int hf_runs_grow(struct hf_runs *runs, size_t nr);

/* All blocks are free: available, or unasked if thin. 0, -ENOMEM. */
int hf_space_init(struct hf_space *space, uint64_t total, bool thin, struct hf_device *dev, uint64_t data_off,
                  uint32_t block_size);
void hf_space_done(struct hf_space *space);

/* At mount: an inode has these. As hf_freemap_take(). */
int hf_space_claim(struct hf_space *space, uint64_t blk, uint64_t nr);

/* At mount: these are a hole of the data region. As hf_freemap_take(). */
int hf_space_hole(struct hf_space *space, uint64_t blk, uint64_t nr);

/* Growing: memory for `total` blocks in the maps, the new ones still used. 0, -ENOMEM. */
int hf_space_extend(struct hf_space *space, uint64_t total);
/* ... and these are free from now on. Without memory they stay unused until the next mount. */
void hf_space_add(struct hf_space *space, uint64_t blk, uint64_t nr);

/* Takes nr blocks off the available ones if there are
 * so many, leaving at least `leave`. Async-signal-safe. */
bool hf_space_try_reserve(struct hf_space *space, uint64_t nr, uint64_t leave);
void hf_space_unreserve(struct hf_space *space, uint64_t nr);
/* How many blocks could be reserved at most, after a commit and after asking the device. */
uint64_t hf_space_possible(struct hf_space *space);
/* The same at any moment without a lock: false only if it
 * is certain that there are not nr. Async-signal-safe. */
bool hf_space_may_have(struct hf_space *space, uint64_t nr);
/* Thin: has the device guarantee nr blocks, or more at once, or as many as it can, and makes them available.
 * 0: some; -EAGAIN: no more are covered; -ENOSPC, -EIO. Caller: trim_lock. */
int hf_space_ask(struct hf_space *space, uint64_t nr);
/* Thin: blocks that are not unasked, those that the device is just asked for among them. */
uint64_t hf_space_asked(struct hf_space *space);
uint64_t hf_space_covered(struct hf_space *space);
/* Thin: so many are covered from now on; never fewer than before. Caller: sql_lock. */
void hf_space_cover(struct hf_space *space, uint64_t nr);

/* Takes nr blocks, which the caller has reserved, out of the pool, near goal; the reservation is used up.
 * runs is empty. 0, or -ENOMEM with nothing changed. */
int hf_space_alloc(struct hf_space *space, uint64_t goal, uint64_t nr, struct hf_runs *runs);
/* Undoes hf_space_alloc(): the runs go back to the pool, and nr blocks are reserved again. */
void hf_space_unalloc(struct hf_space *space, uint64_t nr, struct hf_runs *runs);

/* Blocks that no row names, durable or not: available at once. */
void hf_space_free_now(struct hf_space *space, uint64_t blk, uint64_t nr);
/* Room for nr calls of the two free functions. 0, -ENOMEM. Caller: sql_lock, held until after them. */
int hf_space_prepare_free(struct hf_space *space, size_t nr);
/* Blocks whose rows the running transaction removes: pending. Caller: sql_lock. */
void hf_space_free_later(struct hf_space *space, uint64_t blk, uint64_t nr);
/* The transaction is durable: what was pending becomes
 * available, or waits to be discarded. Caller: sql_lock. */
void hf_space_commit(struct hf_space *space);

/* ---- discard.c */
/* Until unlock, no free block is on its way to the device, and what commits freed is in its place. */
void hf_space_trim_lock(struct hf_space *space) HF_ACQUIRE(space->trim_lock);
void hf_space_trim_unlock(struct hf_space *space) HF_RELEASE(space->trim_lock);
/* Tells the device what commits have freed; errors are nobody's concern. Caller: trim_lock. */
void hf_space_settle(struct hf_space *space);
/* The same after a commit, unless somebody is at it. No locks of rank TRIM or below are held. */
void hf_space_discard_freed(struct hf_space *space);
/* Tells the device all free runs of at least min blocks. 0, -EIO, -EOPNOTSUPP, -ENOMEM. No locks held. */
int hf_space_trim(struct hf_space *space, uint64_t min, uint64_t *ret_nr);

#endif
