/* SPDX-License-Identifier: MIT */
/*
 * space.c - counters, reservations, and the maps behind them; see space.h.
 *
 * Invariants (under space.lock): pool.nr_free == available + reserved, up to counts that are just moving;
 * raw.nr_free <= unasked. The pool never has fewer free blocks than are reserved.
 */
#include "fs/blockfs/space.h"

#include "dev/device_io.h"

#include <assert.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>

/* thin: what the device is asked for at once, so that not every fault waits for it */
#define ASK_BYTES (4u << 20)

void hf_runs_init(struct hf_runs *runs)
{
    runs->v = runs->fixed;
    runs->nr = 0;
    runs->max = sizeof(runs->fixed) / sizeof(runs->fixed[0]);
}

void hf_runs_done(struct hf_runs *runs)
{
    if (runs->v != runs->fixed)
        free(runs->v);
    hf_runs_init(runs);
}

int hf_runs_grow(struct hf_runs *runs, size_t nr)
{
    struct hf_run *v;
    size_t max = runs->max;

    if (runs->max - runs->nr >= nr)
        return 0;
    while (max - runs->nr < nr)
        max *= 2;
    v = malloc(max * sizeof(*v));
    if (v == NULL)
        return -ENOMEM;
    memcpy(v, runs->v, runs->nr * sizeof(*v));
    if (runs->v != runs->fixed)
        free(runs->v);
    runs->v = v;
    runs->max = max;
    return 0;
}

/* hf_runs_grow() has made room. A run that continues the last one is joined to it. */
static void runs_add(struct hf_runs *runs, uint64_t blk, uint64_t nr)
{
    struct hf_run *last = runs->nr > 0 ? &runs->v[runs->nr - 1] : NULL;

    if (last != NULL && last->blk + last->nr == blk) {
        last->nr += nr;
        return;
    }
    assert(runs->nr < runs->max);
    runs->v[runs->nr++] = (struct hf_run){blk, nr};
}

int hf_space_init(struct hf_space *space, uint64_t total, bool thin, struct hf_device *dev, uint64_t data_off,
                  uint32_t block_size)
{
    int rc;

    *space = (struct hf_space){
        .total = total, .thin = thin, .dev = dev, .data_off = data_off, .block_size = block_size};
    hf_mutex_init(&space->trim_lock, HF_RANK_TRIM);
    hf_mutex_init(&space->lock, HF_RANK_SPACE);
    hf_runs_init(&space->freed);
    hf_runs_init(&space->durable);
    atomic_store(thin ? &space->unasked : &space->available, total);
    rc = thin ? hf_freemap_init_used(&space->pool, total) : hf_freemap_init(&space->pool, total);
    if (rc == 0 && thin)
        rc = hf_freemap_init(&space->raw, total);
    if (rc != 0)
        hf_space_done(space);
    return rc;
}

void hf_space_done(struct hf_space *space)
{
    hf_freemap_done(&space->pool);
    hf_freemap_done(&space->raw);
    hf_runs_done(&space->freed);
    hf_runs_done(&space->durable);
}

int hf_space_claim(struct hf_space *space, uint64_t blk, uint64_t nr)
{
    int rc;

    hf_mutex_lock(&space->lock);
    rc = hf_freemap_take(space->thin ? &space->raw : &space->pool, blk, nr);
    hf_mutex_unlock(&space->lock);
    if (rc == 0)
        atomic_fetch_sub(space->thin ? &space->unasked : &space->available, nr);
    return rc;
}

int hf_space_hole(struct hf_space *space, uint64_t blk, uint64_t nr)
{
    int rc = nr != 0 ? hf_space_claim(space, blk, nr) : 0;

    if (rc == 0)
        atomic_fetch_add(&space->holes, nr);
    return rc;
}

int hf_space_extend(struct hf_space *space, uint64_t total)
{
    int rc;

    hf_mutex_lock(&space->lock);
    rc = hf_freemap_extend(&space->pool, total);
    if (rc == 0 && space->thin)
        rc = hf_freemap_extend(&space->raw, total);
    hf_mutex_unlock(&space->lock);
    return rc;
}

void hf_space_add(struct hf_space *space, uint64_t blk, uint64_t nr)
{
    int rc;

    hf_mutex_lock(&space->lock);
    rc = hf_freemap_give(space->thin ? &space->raw : &space->pool, blk, nr);
    hf_mutex_unlock(&space->lock);
    if (rc == 0)
        atomic_fetch_add(space->thin ? &space->unasked : &space->available, nr);
}

/* ---- counters */

bool hf_space_try_reserve(struct hf_space *space, uint64_t nr, uint64_t leave)
{
    uint64_t have = atomic_load(&space->available);

    do {
        if (have < leave || have - leave < nr)
            return false;
    } while (!atomic_compare_exchange_weak(&space->available, &have, have - nr));
    atomic_fetch_add(&space->reserved, nr);
    return true;
}

void hf_space_unreserve(struct hf_space *space, uint64_t nr)
{
    uint64_t had = atomic_fetch_sub(&space->reserved, nr);

    assert(had >= nr && "more is given back than was reserved");
    (void)had;
    atomic_fetch_add(&space->available, nr);
}

uint64_t hf_space_possible(struct hf_space *space)
{
    uint64_t pending = atomic_load(&space->pending), unasked = atomic_load(&space->unasked);

    return pending + unasked + atomic_load(&space->available); /* in this order: space.h */
}

bool hf_space_may_have(struct hf_space *space, uint64_t nr)
{
    uint32_t moves = atomic_load(&space->moves);

    return hf_space_possible(space) >= nr || moves % 2 != 0 || moves != atomic_load(&space->moves);
}

/* ---- thin volumes */

/* The map may have more blocks than the volume: of growth that is going on, or has failed. */
static uint64_t asked_locked(const struct hf_space *space)
{
    uint64_t taken = atomic_load(&space->total) - space->raw.nr_free, holes = atomic_load(&space->holes);

    return taken > holes ? taken - holes : 0;
}

uint64_t hf_space_asked(struct hf_space *space)
{
    uint64_t nr;

    hf_mutex_lock(&space->lock);
    nr = asked_locked(space);
    hf_mutex_unlock(&space->lock);
    return nr;
}

uint64_t hf_space_covered(struct hf_space *space)
{
    uint64_t nr;

    hf_mutex_lock(&space->lock);
    nr = space->covered;
    hf_mutex_unlock(&space->lock);
    return nr;
}

void hf_space_cover(struct hf_space *space, uint64_t nr)
{
    hf_mutex_lock(&space->lock);
    if (space->covered < nr)
        space->covered = nr;
    hf_mutex_unlock(&space->lock);
}

/* Takes a run of at most want blocks from the raw map, asks, and puts it into the pool or back. */
static int ask_run(struct hf_space *space, uint64_t want, uint64_t *ret_nr)
{
    uint64_t blk, nr, asked;
    int rc = -EAGAIN;

    hf_mutex_lock(&space->lock);
    asked = asked_locked(space);
    if (asked < space->covered && space->covered - asked < want)
        want = space->covered - asked;
    if (asked < space->covered)
        rc = hf_freemap_alloc(&space->raw, space->raw.cursor, want, &blk, &nr);
    hf_mutex_unlock(&space->lock);
    if (rc != 0)
        return rc;
    rc = hf_dev_guarantee(space->dev, (hf_off_t)(space->data_off + blk * space->block_size),
                          (hf_off_t)(nr * space->block_size));
    hf_mutex_lock(&space->lock);
    if (rc == 0)
        rc = hf_freemap_give(&space->pool, blk, nr);
    if (rc != 0 && hf_freemap_give(&space->raw, blk, nr) != 0)
        assert(false && "giving back what was just taken needs no memory");
    if (rc == 0) {
        atomic_fetch_add(&space->available, nr);
        atomic_fetch_sub(&space->unasked, nr);
        *ret_nr = nr;
    }
    hf_mutex_unlock(&space->lock);
    return rc;
}

int hf_space_ask(struct hf_space *space, uint64_t nr)
{
    uint64_t batch = ASK_BYTES / space->block_size, want = nr > batch ? nr : batch, left = nr, got;
    int rc;

    /* Free space may be in pieces; and the device may be nearly full, too: then exactly what is needed, then
     * what there is. */
    do {
        rc = ask_run(space, want, &got);
        if (rc == 0) {
            left -= got < left ? got : left;
            if (want > left && want > batch)
                want = left > batch ? left : batch;
        } else if (rc == -ENOSPC && want > 1) {
            want = want > left ? left : want / 2;
            rc = 0;
        }
    } while (rc == 0 && left != 0);
    return left != nr ? 0 : rc;
}

/* ---- taking and giving */

static void give_back(struct hf_space *space, struct hf_runs *runs)
{
    hf_mutex_lock(&space->lock);
    for (size_t i = 0; i < runs->nr; i++)
        if (hf_freemap_give(&space->pool, runs->v[i].blk, runs->v[i].nr) != 0)
            assert(false && "giving back what was just taken needs no memory");
    hf_mutex_unlock(&space->lock);
    runs->nr = 0;
}

int hf_space_alloc(struct hf_space *space, uint64_t goal, uint64_t nr, struct hf_runs *runs)
{
    uint64_t left = nr, had;
    int rc = 0;

    assert(runs->nr == 0);
    while (left > 0 && rc == 0) {
        uint64_t blk, got;

        rc = hf_runs_grow(runs, 1);
        if (rc != 0)
            break;
        hf_mutex_lock(&space->lock);
        while (left > 0 && runs->nr < runs->max) {
            rc = hf_freemap_alloc(&space->pool, goal, left, &blk, &got);
            assert(rc != -ENOSPC && "HOLD-2: a reserved block is not there");
            if (rc != 0)
                break;
            runs_add(runs, blk, got);
            left -= got;
            goal = blk + got;
        }
        hf_mutex_unlock(&space->lock);
    }
    if (rc != 0) {
        give_back(space, runs);
        return rc;
    }
    had = atomic_fetch_sub(&space->reserved, nr);
    assert(had >= nr && "more is allocated than was reserved");
    (void)had;
    return 0;
}

void hf_space_unalloc(struct hf_space *space, uint64_t nr, struct hf_runs *runs)
{
    give_back(space, runs);
    atomic_fetch_add(&space->reserved, nr);
}

int hf_space_prepare_free(struct hf_space *space, size_t nr)
{
    int rc;

    hf_mutex_lock(&space->lock);
    rc = hf_runs_grow(&space->freed, nr);
    hf_mutex_unlock(&space->lock);
    return rc;
}

void hf_space_free_later(struct hf_space *space, uint64_t blk, uint64_t nr)
{
    atomic_fetch_add(&space->pending, nr);
    hf_mutex_lock(&space->lock);
    runs_add(&space->freed, blk, nr);
    hf_mutex_unlock(&space->lock);
}

void hf_space_free_now(struct hf_space *space, uint64_t blk, uint64_t nr)
{
    int rc;

    hf_mutex_lock(&space->lock);
    rc = hf_freemap_give(&space->pool, blk, nr);
    hf_mutex_unlock(&space->lock);
    if (rc == 0)
        atomic_fetch_add(&space->available, nr);
    else
        hf_space_free_later(space, blk, nr);
}

/* Under space.lock. All of it, or nothing for want of memory: then it is not discarded. */
static void leave_to_discard(struct hf_space *space)
{
    if (hf_runs_grow(&space->durable, space->freed.nr) != 0)
        return;
    for (size_t i = 0; i < space->freed.nr; i++)
        runs_add(&space->durable, space->freed.v[i].blk, space->freed.v[i].nr);
    space->freed.nr = 0;
}

void hf_space_commit(struct hf_space *space)
{
    uint64_t nr = 0;
    size_t kept = 0;

    hf_mutex_lock(&space->lock);
    if (atomic_load(&space->discard))
        leave_to_discard(space);
    for (size_t i = 0; i < space->freed.nr; i++) {
        struct hf_run run = space->freed.v[i];

        if (hf_freemap_give(&space->pool, run.blk, run.nr) == 0)
            nr += run.nr;
        else
            space->freed.v[kept++] = run; /* no memory for a bitmap: the next commit tries again */
    }
    space->freed.nr = kept;
    atomic_fetch_add(&space->available, nr);
    atomic_fetch_sub(&space->pending, nr);
    hf_mutex_unlock(&space->lock);
}
