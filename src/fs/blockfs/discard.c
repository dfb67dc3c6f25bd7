/* SPDX-License-Identifier: MIT */
/*
 * discard.c - free blocks are told to the device, while the volume is in use.
 *
 * Invariants
 *   1. What is discarded is free in every state that a power cut could bring back: it comes from the maps of
 *      free blocks, or from a transaction that is durable. Promised blocks stay: of the pool no more is taken
 *      than is available.
 *   2. While the device is told, the blocks are in no map: nobody can get them. They count as pending.
 *   3. Afterwards the blocks of a thin volume are unasked, whatever the device answered: it may have taken
 *      their space back, and has to guarantee it anew (HOLD-10).
 *
 * Locks: trim_lock while blocks are on their way, so that whoever needs the last ones waits instead of being
 * told that there are none; space.lock only around the maps, never during I/O. Above: commit.c, trim.c.
 */
#include "fs/blockfs/space.h"

#include "dev/device_io.h"

#include <assert.h>
#include <errno.h>
#include <sched.h>

#define CHUNK_BYTES (256ull << 20) /* on their way at once, at most */
#define YIELDS 1000                /* to those who wait for space, between two chunks */

static struct hf_freemap *map_of(struct hf_space *space, bool raw)
{
    return raw ? &space->raw : &space->pool;
}

static int discard_run(struct hf_space *space, struct hf_run run)
{
    return hf_dev_discard(space->dev, (hf_off_t)(space->data_off + run.blk * space->block_size),
                          (hf_off_t)(run.nr * space->block_size));
}

/* hf_freemap_prepare_give() has seen to the memory, and used blocks keep it. */
static void put_back(struct hf_space *space, struct hf_run run)
{
    int rc;

    hf_mutex_lock(&space->lock);
    rc = hf_freemap_give(map_of(space, space->thin), run.blk, run.nr);
    assert(rc == 0);
    (void)rc;
    atomic_fetch_add(space->thin ? &space->unasked : &space->available, run.nr);
    atomic_fetch_sub(&space->pending, run.nr);
    hf_mutex_unlock(&space->lock);
}

/* ---- what commits have freed */

static bool next_durable(struct hf_space *space, struct hf_run *ret_run)
{
    bool found;

    hf_mutex_lock(&space->lock);
    found = space->durable.nr != 0;
    if (found) {
        *ret_run = space->durable.v[space->durable.nr - 1];
        /* Without memory for it the run stays on the list. */
        found = hf_freemap_prepare_give(map_of(space, space->thin), ret_run->blk, ret_run->nr) == 0;
        space->durable.nr -= found;
    }
    hf_mutex_unlock(&space->lock);
    return found;
}

void hf_space_settle(struct hf_space *space)
{
    struct hf_run run;

    while (next_durable(space, &run)) {
        if (atomic_load(&space->discard) && discard_run(space, run) == -EOPNOTSUPP)
            atomic_store(&space->discard, false);
        put_back(space, run);
    }
}

void hf_space_discard_freed(struct hf_space *space)
{
    if (!atomic_load(&space->discard) || !hf_mutex_trylock(&space->trim_lock))
        return;
    hf_space_settle(space);
    hf_mutex_unlock(&space->trim_lock);
}

void hf_space_trim_lock(struct hf_space *space)
{
    atomic_fetch_add(&space->waiting, 1);
    hf_mutex_lock(&space->trim_lock);
    atomic_fetch_sub(&space->waiting, 1);
    hf_space_settle(space);
}

void hf_space_trim_unlock(struct hf_space *space)
{
    hf_mutex_unlock(&space->trim_lock);
}

/* ---- all that is free */

/* A walk over one of the maps. */
struct walk {
    bool raw;
    uint64_t min, chunk;
    uint64_t blk;  /* looked at up to here */
    uint64_t part; /* what begins here continues a run that was long enough */
};

/* Moves up to nr blocks from a count into pending, as many as it has. Under space.lock. */
static uint64_t count_out(struct hf_space *space, bool raw, uint64_t nr)
{
    _Atomic uint64_t *count = raw ? &space->unasked : &space->available;
    uint64_t have = atomic_load(count);

    atomic_fetch_add(&space->moves, 1);
    do {
        if (nr > have)
            nr = have;
    } while (!atomic_compare_exchange_weak(count, &have, have - nr));
    atomic_fetch_add(&space->pending, nr);
    atomic_fetch_add(&space->moves, 1);
    return nr;
}

/* Takes the run out of its map, or less of it: others have been promised the rest. Under space.lock. */
static int run_out(struct hf_space *space, bool raw, struct hf_run *run)
{
    int rc;

    run->nr = count_out(space, raw, run->nr);
    if (run->nr == 0)
        return 0;
    rc = hf_freemap_take(map_of(space, raw), run->blk, run->nr);
    if (rc == 0 && !raw && space->thin) {
        rc = hf_freemap_prepare_give(&space->raw, run->blk, run->nr);
        if (rc != 0 && hf_freemap_give(&space->pool, run->blk, run->nr) != 0)
            assert(false && "giving back what was just taken needs no memory");
    }
    if (rc == 0)
        return 0;
    atomic_fetch_add(raw ? &space->unasked : &space->available, run->nr);
    atomic_fetch_sub(&space->pending, run->nr);
    return rc;
}

/* Takes out the next free run that is long enough, or a part of it. 0: nr is 0 at the end; -ENOMEM. */
static int next_free_run(struct hf_space *space, struct walk *walk, struct hf_run *ret_run)
{
    struct hf_run run = {0};
    struct hf_freemap *map;
    int rc = 0;

    hf_mutex_lock(&space->lock);
    map = map_of(space, walk->raw);
    while (run.nr == 0 && rc == 0 && (run.blk = hf_freemap_next(map, walk->blk)) < map->nr_blocks) {
        /* Parts end where leaves do, so that whole leaves need no bitmap. */
        uint64_t most = HF_FREEMAP_LEAF_BLOCKS - run.blk % HF_FREEMAP_LEAF_BLOCKS, found;

        most = most < walk->chunk ? most : walk->chunk;
        found = hf_freemap_run(map, run.blk, most < walk->min ? walk->min : most);
        run.nr = found < most ? found : most;
        walk->blk = run.blk + run.nr;
        if (found < walk->min && run.blk != walk->part) {
            walk->blk = run.blk + found;
            run.nr = 0;
            continue;
        }
        walk->part = walk->blk;
        rc = run_out(space, walk->raw, &run);
    }
    hf_mutex_unlock(&space->lock);
    if (rc == 0)
        *ret_run = run;
    return rc;
}

static int trim_map(struct hf_space *space, bool raw, uint64_t min, uint64_t *nr)
{
    struct walk walk = {.raw = raw, .min = min, .chunk = CHUNK_BYTES / space->block_size, .part = UINT64_MAX};
    struct hf_run run;
    int rc;

    do {
        run.nr = 0;
        hf_mutex_lock(&space->trim_lock);
        rc = next_free_run(space, &walk, &run);
        if (rc == 0 && run.nr != 0) {
            rc = discard_run(space, run);
            put_back(space, run);
        }
        hf_mutex_unlock(&space->trim_lock);
        if (rc == 0)
            *nr += run.nr;
        for (int i = 0; i < YIELDS && atomic_load(&space->waiting) != 0; i++)
            sched_yield();
    } while (rc == 0 && run.nr != 0);
    return rc;
}

int hf_space_trim(struct hf_space *space, uint64_t min, uint64_t *ret_nr)
{
    uint64_t nr = 0;
    /* First what nobody has asked for: what is in the pool joins it. */
    int rc = space->thin ? trim_map(space, true, min, &nr) : 0;

    if (rc == 0)
        rc = trim_map(space, false, min, &nr);
    if (rc == 0)
        *ret_nr = nr;
    return rc;
}
