/* SPDX-License-Identifier: MIT */
/*
 * promise.c - a whole file promised: every hole inside i_size has its space, before anybody stores to it.
 *
 * For frontends that are not asked at a store (a kernel's page cache writes back later). While promisers > 0:
 *
 *   promised == holes of the driver inside i_size that no page has reserved
 *
 * Pages take from it and give back to it instead of asking the driver (reserve.c), so a store cannot be
 * refused. What changes the number of holes keeps the equation: growth promises more before i_size moves, a
 * cut and a preallocation use promises up, a punched block is promised again before it is punched. Counted by
 * extents: the cost of a sparse file goes with its extents, not with its size.
 *
 * promisers changes under io_lock exclusive and map_lock exclusive, and is read under either.
 */
#include "cache/mapping.h"

#include <assert.h>
#include <errno.h>

static const struct hf_driver *driver_of(const struct hf_mapping *m)
{
    return m->cache->sb->driver;
}

static hf_blk_t blk_ceil(const struct hf_mapping *m, hf_off_t off)
{
    return (hf_blk_t)hf_round_up(off, hf_block_bytes(m->cache)) >> m->cache->block_shift;
}

/* The next run of holes in [*at, end): *at moves behind it. 1: found; 0: none; or the driver's error.
 * map_lock held. */
static int next_hole(struct hf_mapping *m, hf_blk_t *at, hf_blk_t end, hf_blk_t *ret_first, uint64_t *ret_nr)
{
    while (*at < end) {
        struct hf_extent ext;
        int r = driver_of(m)->map(m->inode, *at, 0, &ext);

        if (r < 0)
            return r;
        *ret_first = *at;
        *ret_nr = ext.nr - (*at - ext.blk);
        if (*ret_nr > end - *at)
            *ret_nr = end - *at;
        *at += *ret_nr;
        if (ext.kind == HF_EXTENT_HOLE)
            return 1;
    }
    return 0;
}

static int count_holes(struct hf_mapping *m, hf_blk_t start, hf_blk_t end, uint64_t *ret_nr)
{
    uint64_t nr = 0, run;
    hf_blk_t first;
    int r;

    while ((r = next_hole(m, &start, end, &first, &run)) == 1)
        nr += run;
    if (r == 0)
        *ret_nr = nr;
    return r;
}

static int take(struct hf_mapping *m, uint64_t nr)
{
    int r = nr == 0 ? 0 : driver_of(m)->reserve(m->inode, nr, 0);

    if (r < 0 || nr == 0)
        return r;
    atomic_fetch_add(&m->promised, nr);
    atomic_fetch_add(&m->cache->nr_reserved, nr);
    return 0;
}

static void give_back(struct hf_mapping *m, uint64_t nr)
{
    assert(atomic_load(&m->promised) >= nr);
    if (nr == 0)
        return;
    atomic_fetch_sub(&m->promised, nr);
    atomic_fetch_sub(&m->cache->nr_reserved, nr);
    driver_of(m)->unreserve(m->inode, nr);
}

bool hf_mapping_is_promised(const struct hf_mapping *m)
{
    return m->promisers > 0;
}

bool hf_mapping_promise_sane(struct hf_mapping *m)
{
    uint64_t holes = 0;

    if (m->promisers == 0)
        return atomic_load(&m->promised) == 0;
    if (count_holes(m, 0, blk_ceil(m, hf_isize_read(m)), &holes) < 0)
        return true;
    return holes <= atomic_load(&m->promised) + atomic_load(&m->nr_reserved);
}

/* ---- the first and the last that wants it. Caller: io x. */

static int promise_once(struct hf_mapping *m)
{
    uint64_t holes = 0;
    int r = 0;

    hf_rwlock_wrlock(&m->map_lock);
    if (m->promisers == 0)
        r = count_holes(m, 0, blk_ceil(m, hf_isize_read(m)), &holes);
    if (r == 0 && m->promisers == 0)
        r = take(m, holes - atomic_load(&m->nr_reserved));
    if (r == 0)
        m->promisers++;
    hf_rwlock_wrunlock(&m->map_lock);
    return r;
}

int hf_mapping_promise(struct hf_mapping *m)
{
    int r;

    do {
        r = promise_once(m);
    } while (hf_is_full(r) && hf_cache_squeeze(m->cache));
    return r;
}

void hf_mapping_unpromise(struct hf_mapping *m)
{
    hf_rwlock_wrlock(&m->map_lock);
    assert(m->promisers > 0 && hf_mapping_promise_sane(m));
    if (--m->promisers == 0)
        give_back(m, atomic_load(&m->promised));
    hf_rwlock_wrunlock(&m->map_lock);
}

/* ---- growth. Caller: io x. */

/* Takes for as many blocks of [first, end) as there is
 * space for, from the first on; returns where that ends. */
static hf_blk_t take_some(struct hf_mapping *m, hf_blk_t first, hf_blk_t end)
{
    uint64_t nr = end - first, holes = 0;

    while (nr > 0) {
        if (nr > end - first)
            nr = end - first;
        if (nr == 0 || count_holes(m, first, first + nr, &holes) < 0)
            return first;
        if (take(m, holes) == 0)
            first += nr;
        else
            nr /= 2;
    }
    return first;
}

int hf_mapping_promise_more(struct hf_mapping *m, hf_off_t new_size)
{
    uint64_t holes = 0;
    int r = 0;

    if (m->promisers == 0 || new_size <= hf_isize_read(m))
        return 0;
    do {
        hf_rwlock_rdlock(&m->map_lock);
        r = count_holes(m, blk_ceil(m, hf_isize_read(m)), blk_ceil(m, new_size), &holes);
        if (r == 0)
            r = take(m, holes);
        hf_rwlock_rdunlock(&m->map_lock);
    } while (hf_is_full(r) && hf_cache_squeeze(m->cache));
    return r;
}

int hf_mapping_promise_some(struct hf_mapping *m, hf_off_t off, hf_off_t new_size, hf_off_t *ret_size)
{
    int r = hf_mapping_promise_more(m, new_size);
    hf_off_t size;
    hf_blk_t end;

    if (!hf_is_full(r)) {
        *ret_size = new_size;
        return r;
    }
    hf_rwlock_rdlock(&m->map_lock);
    end = take_some(m, blk_ceil(m, hf_isize_read(m)), blk_ceil(m, new_size));
    hf_rwlock_rdunlock(&m->map_lock);
    size = (hf_off_t)end << m->cache->block_shift;
    if (size > new_size)
        size = new_size;
    if (size <= off) { /* a hole before it took all there was */
        hf_mapping_promise_settle(m, size);
        return r;
    }
    *ret_size = size;
    return 0;
}

void hf_mapping_promise_settle(struct hf_mapping *m, hf_off_t promised_size)
{
    uint64_t holes = 0;

    if (m->promisers == 0 || promised_size <= hf_isize_read(m))
        return;
    hf_rwlock_rdlock(&m->map_lock);
    if (count_holes(m, blk_ceil(m, hf_isize_read(m)), blk_ceil(m, promised_size), &holes) == 0)
        give_back(m, holes);
    hf_rwlock_rdunlock(&m->map_lock);
}

/* ---- holes that go and come. Caller: io x, map x. */

int hf_mapping_promise_cut(struct hf_mapping *m, hf_off_t new_size, uint64_t *ret_holes)
{
    *ret_holes = 0;
    return m->promisers == 0
               ? 0
               : count_holes(m, blk_ceil(m, new_size), blk_ceil(m, hf_isize_read(m)), ret_holes);
}

void hf_mapping_promise_cut_done(struct hf_mapping *m, uint64_t holes)
{
    give_back(m, holes);
}

int hf_mapping_promise_punch(struct hf_mapping *m, hf_blk_t first, hf_blk_t last, uint64_t *ret_taken)
{
    hf_blk_t end = blk_ceil(m, hf_isize_read(m));
    uint64_t holes = 0;
    int r;

    *ret_taken = 0;
    if (last > end)
        last = end;
    if (m->promisers == 0 || first >= last)
        return 0;
    r = count_holes(m, first, last, &holes);
    if (r == 0)
        r = take(m, last - first - holes);
    if (r == 0)
        *ret_taken = last - first - holes;
    return r;
}

void hf_mapping_promise_punch_failed(struct hf_mapping *m, hf_blk_t first, hf_blk_t last, uint64_t taken)
{
    hf_blk_t end = blk_ceil(m, hf_isize_read(m));
    uint64_t holes = 0;

    if (last > end)
        last = end;
    if (taken != 0 && count_holes(m, first, last, &holes) == 0)
        give_back(m, last - first - holes); /* what is allocated still */
}

int hf_mapping_promise_holes(struct hf_mapping *m, hf_blk_t first, hf_blk_t last, hf_off_t promised_size,
                             uint64_t *ret_holes)
{
    hf_blk_t end = blk_ceil(m, promised_size);

    *ret_holes = 0;
    return m->promisers == 0 ? 0 : count_holes(m, first, last < end ? last : end, ret_holes);
}

void hf_mapping_promise_used(struct hf_mapping *m, uint64_t nr)
{
    assert(atomic_load(&m->promised) >= nr);
    atomic_fetch_sub(&m->promised, nr);
    atomic_fetch_sub(&m->cache->nr_reserved, nr);
}
