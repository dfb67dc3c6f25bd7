/* SPDX-License-Identifier: MIT */
/*
 * reserve.c - promises of blocks (STORE-PATH 5/9): taken, turned into blocks, given back.
 *
 * The driver holds the counters of the volume; the cache's own sum over pages (nr_reserved) is kept beside
 * them, so that a leak on either side shows (HOLD-8).
 */
#include "base/trace.h"
#include "cache/mapping.h"

#include <assert.h>
#include <errno.h>
#include <stdlib.h>

static const struct hf_driver *driver_of(const struct hf_mapping *m)
{
    return m->cache->sb->driver;
}

/* From the file's own promise if it has one, else from the driver. */
static int take(struct hf_mapping *m, uint64_t nr, unsigned flags)
{
    int r;

    if (hf_mapping_is_promised(m)) {
        assert(atomic_load(&m->promised) >= nr);
        atomic_fetch_sub(&m->promised, nr);
    } else {
        /* STORE-PATH 5/9: the driver promises blocks and quota, or refuses the store */
        r = driver_of(m)->reserve(m->inode, nr, flags);
        if (r < 0)
            return r;
        atomic_fetch_add(&m->cache->nr_reserved, nr);
        if (flags & HF_SPECULATIVE)
            atomic_fetch_add(&m->cache->nr_speculative, nr);
    }
    atomic_fetch_add(&m->nr_reserved, nr);
    return 0;
}

int hf_page_reserve(struct hf_mapping *m, struct hf_page *page, hf_bits_t need, unsigned flags,
                    hf_bits_t *ret_new)
{
    hf_bits_t missing;
    int r = 0;

    if (!(page->flags & HF_PAGE_MAPPED))
        r = hf_page_map_blocks(m, page, flags, NULL);
    if (r < 0)
        return r;
    missing = need & ~page->allocated & ~page->reserved;
    if (missing != 0) {
        r = take(m, hf_bits_count(missing), flags);
        if (r < 0)
            return r;
        page->reserved |= missing;
        hf_trace(RESERVE, m->inode->ino, page->index, (uint64_t)missing, flags);
    }
    if (ret_new != NULL)
        *ret_new = missing;
    return 0;
}

void hf_page_unreserve(struct hf_mapping *m, struct hf_page *page, hf_bits_t blocks)
{
    uint64_t nr;

    blocks &= page->reserved;
    if (blocks == 0)
        return;
    nr = hf_bits_count(blocks);
    page->reserved &= ~blocks;
    atomic_fetch_sub(&m->nr_reserved, nr);
    if (hf_mapping_is_promised(m)) {
        atomic_fetch_add(&m->promised, nr);
    } else {
        driver_of(m)->unreserve(m->inode, nr);
        atomic_fetch_sub(&m->cache->nr_reserved, nr);
    }
    hf_trace(RELEASE, m->inode->ino, page->index, (uint64_t)blocks, nr);
}

int hf_page_convert(struct hf_mapping *m, struct hf_page *page, hf_bits_t blocks)
{
    struct hf_bits_runs run = {.left = blocks};

    assert((blocks & ~page->reserved) == 0);
    while (hf_bits_next_run(&run)) {
        int r = driver_of(m)->allocate(m->inode, hf_page_blk(m, page) + run.first, run.nr);

        assert(r != -ENOSPC && r != -EDQUOT); /* HOLD-2 */
        if (r < 0)
            return r;
        page->reserved &= ~hf_bits_range(run.first, run.nr);
        page->allocated |= hf_bits_range(run.first, run.nr);
        atomic_fetch_sub(&m->nr_reserved, run.nr);
        atomic_fetch_sub(&m->cache->nr_reserved, run.nr);
    }
    return 0;
}

/* ---- hf_reserve(): reservations that stay */

struct kept {
    hf_bits_t fresh; /* reserved by this call */
    bool flagged;    /* HF_PAGE_KEEP set by this call */
};

static int reserve_one(struct hf_mapping *m, struct hf_page *page, hf_off_t off, hf_off_t end,
                       struct kept *kept)
{
    hf_off_t size = hf_isize_read(m);
    hf_bits_t need;
    int r;

    if (end > hf_round_up(size, (hf_off_t)1 << m->cache->hw_shift))
        return -ENXIO;
    need = hf_page_blocks_of(m, page, off, end - off) & hf_bits_range(0, hf_page_nr_blocks(m, page, size));
    r = hf_page_fill(m, page, need, 0);
    if (r == 0)
        r = hf_page_reserve(m, page, need, 0, &kept->fresh);
    if (r < 0)
        return r;
    kept->flagged = !(page->flags & HF_PAGE_KEEP);
    page->flags |= HF_PAGE_KEEP;
    return 0;
}

static void reserve_undo(struct hf_mapping *m, hf_pgoff_t first, const struct kept *kept, uint64_t nr)
{
    for (uint64_t i = 0; i < nr; i++) {
        struct hf_page *page = hf_page_find(m, first + i);

        hf_mutex_lock(&page->lock);
        hf_page_unreserve(m, page, kept[i].fresh & ~page->dirty);
        if (kept[i].flagged)
            page->flags &= (uint8_t)~HF_PAGE_KEEP;
        hf_mutex_unlock(&page->lock);
    }
}

static int reserve_range_once(struct hf_mapping *m, hf_off_t off, hf_off_t end)
{
    hf_pgoff_t first = hf_page_index(m, off), last = hf_page_index(m, end - 1);
    struct kept *kept = calloc(last - first + 1, sizeof(*kept));
    uint64_t done = 0;
    int r = kept == NULL ? -ENOMEM : 0;

    hf_rwlock_rdlock(&m->map_lock);
    while (r == 0 && first + done <= last) {
        struct hf_page *page = hf_page_get(m, first + done);

        if (page == NULL) {
            r = -ENOMEM;
            break;
        }
        hf_mutex_lock(&page->lock);
        r = reserve_one(m, page, off,
                        end < hf_page_off(m, page->index + 1) ? end : hf_page_off(m, page->index + 1),
                        &kept[done]);
        hf_mutex_unlock(&page->lock);
        done += r == 0 ? 1 : 0;
    }
    if (r < 0 && kept != NULL)
        reserve_undo(m, first, kept, done);
    hf_rwlock_rdunlock(&m->map_lock);
    free(kept);
    return r;
}

int hf_mapping_reserve_range(struct hf_mapping *m, hf_off_t off, hf_off_t len)
{
    int r;

    if (len <= 0)
        return 0;
    r = hf_mapping_memfd(m);
    if (r < 0)
        return r;
    do {
        r = reserve_range_once(m, off, off + len);
    } while (hf_is_full(r) && hf_cache_squeeze(m->cache));
    return r;
}

static int drop_kept_group(struct hf_mapping *m, struct hf_page_group *g, void *arg)
{
    (void)arg;
    for (unsigned i = 0; i < HF_GROUP_PAGES; i++) {
        struct hf_page *page = &g->pages[i];

        hf_mutex_lock(&page->lock);
        if (page->flags & HF_PAGE_KEEP) {
            page->flags &= (uint8_t)~HF_PAGE_KEEP;
            hf_page_unreserve(m, page, page->reserved & ~page->dirty);
        }
        hf_mutex_unlock(&page->lock);
    }
    return 0;
}

void hf_mapping_drop_kept(struct hf_mapping *m)
{
    hf_rwlock_rdlock(&m->map_lock);
    hf_tree_walk(m, 0, UINT64_MAX, drop_kept_group, NULL);
    hf_rwlock_rdunlock(&m->map_lock);
}

/* ---- taking back what windows did not use */

static void release_zero(struct hf_mapping *m, void *arg)
{
    (void)arg;
    hf_mapping_release_zero(m);
}

bool hf_cache_squeeze(struct hf_cache *c) HF_NO_TSA
{
    bool waited = !hf_mutex_trylock(&c->squeeze_lock);
    uint64_t taken;

    if (waited)
        hf_mutex_lock(&c->squeeze_lock);
    taken = atomic_exchange(&c->nr_speculative, 0);
    if (taken != 0)
        hf_cache_each_mapping(c, release_zero, NULL);
    hf_mutex_unlock(&c->squeeze_lock);
    return taken != 0 || waited;
}
