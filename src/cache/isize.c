/* SPDX-License-Identifier: MIT */
/*
 * isize.c - keeping i_size and the straddling page together: the seed's problem, both of its cures, and none.
 *
 * The case: a page holds EOF, and some mapping may store to it without a fault; only its blocks inside i_size
 * are promised. If i_size grew now, the other blocks would be storable, and promised by nobody. So (HOLD-4)
 * i_size grows only while the straddling page is held: write-protected everywhere, zero from the old size to
 * its end; the next store faults, and page_mkwrite sees the new size.
 *
 *   page-lock  (Piggin) the page lock itself is held from write-protecting to setting i_size. page_mkwrite
 * runs under it, and so sees either the old size and the old protection, or the new size. hole-lock  (Kara) a
 * lock of its own on the straddling index. page_mkwrite on that index, under the page lock, finds it held,
 * lets go of the page, waits, and starts again. The page lock is held only to protect and zero. none the
 * negative control, in test builds: i_size just grows.
 *
 * Caller: io_lock exclusive (one size change at a time), map_lock shared.
 */
#include "base/trace.h"
#include "cache/mapping.h"

#include <assert.h>
#include <errno.h>

/* Write-protects the straddling page and zeroes it from the old size on. Page locked. */
static int straddle_close(struct hf_isize_grow *g, struct hf_page *page)
{
    struct hf_mapping *m = g->m;
    hf_off_t partial = g->old_size & (hf_block_bytes(m->cache) - 1);
    int r = 0;

    if (partial != 0)
        r = hf_page_fill(m, page, hf_page_blocks_of(m, page, g->old_size, 1), 0);
    if (r < 0)
        return r;
    hf_page_mkclean(m, page);
    if (page->flags & HF_PAGE_TAIL)
        hf_memfd_zero(m, g->old_size, hf_page_off(m, g->index + 1));
    page->flags &= (uint8_t)~HF_PAGE_TAIL;
    return 0;
}

static int straddle_lock(struct hf_isize_grow *g, struct hf_page **ret_page) HF_NO_TSA
{
    struct hf_page *page = hf_page_get(g->m, g->index);
    int r;

    if (page == NULL)
        return -ENOMEM;
    hf_mutex_lock(&page->lock);
    r = straddle_close(g, page);
    if (r < 0) {
        hf_mutex_unlock(&page->lock);
        return r;
    }
    *ret_page = page;
    return 0;
}

/* ---- page-lock */

static int page_lock_begin(struct hf_isize_grow *g) HF_NO_TSA
{
    return straddle_lock(g, &g->page);
}

static void page_lock_end(struct hf_isize_grow *g) HF_NO_TSA
{
    hf_mutex_unlock(&g->page->lock);
}

static bool page_lock_may_mkwrite(struct hf_mapping *m, struct hf_page *page)
{
    (void)m;
    (void)page;
    return true; /* whoever holds the page lock has the right size */
}

static void page_lock_wait(struct hf_mapping *m, hf_pgoff_t index)
{
    (void)m;
    (void)index;
}

/* ---- hole-lock */

static int hole_lock_begin(struct hf_isize_grow *g) HF_NO_TSA
{
    struct hf_page *page = NULL;
    int r;

    hf_mutex_lock(&g->m->hole_lock);
    atomic_store(&g->m->hole_index, g->index + 1);
    r = straddle_lock(g, &page);
    if (r < 0) {
        atomic_store(&g->m->hole_index, 0);
        hf_mutex_unlock(&g->m->hole_lock);
        return r;
    }
    hf_mutex_unlock(&page->lock);
    return 0;
}

static void hole_lock_end(struct hf_isize_grow *g) HF_NO_TSA
{
    atomic_store(&g->m->hole_index, 0);
    hf_mutex_unlock(&g->m->hole_lock);
}

static bool hole_lock_may_mkwrite(struct hf_mapping *m, struct hf_page *page)
{
    return atomic_load(&m->hole_index) != page->index + 1;
}

static void hole_lock_wait(struct hf_mapping *m, hf_pgoff_t index)
{
    (void)index;
    hf_mutex_lock(&m->hole_lock);
    hf_mutex_unlock(&m->hole_lock);
}

static const struct hf_isize_ops page_lock_ops = {"page-lock", page_lock_begin, page_lock_end,
                                                  page_lock_may_mkwrite, page_lock_wait};
static const struct hf_isize_ops hole_lock_ops = {"hole-lock", hole_lock_begin, hole_lock_end,
                                                  hole_lock_may_mkwrite, hole_lock_wait};

#ifdef HF_TESTING
static int none_begin(struct hf_isize_grow *g)
{
    (void)g;
    return 0;
}
static void none_end(struct hf_isize_grow *g)
{
    (void)g;
}
static const struct hf_isize_ops none_ops = {"none", none_begin, none_end, page_lock_may_mkwrite,
                                             page_lock_wait};
#endif

const struct hf_isize_ops *hf_isize_ops_get(enum hf_isize_sync which)
{
    switch (which) {
    case HF_ISIZE_DEFAULT:
    case HF_ISIZE_PAGE_LOCK:
        return &page_lock_ops;
    case HF_ISIZE_HOLE_LOCK:
        return &hole_lock_ops;
    case HF_ISIZE_NONE:
#ifdef HF_TESTING
        return &none_ops;
#endif
    default:
        return NULL;
    }
}

int hf_isize_grow_begin(struct hf_mapping *m, struct hf_isize_grow *g)
{
    int r;

    *g = (struct hf_isize_grow){.m = m, .old_size = hf_isize_read(m)};
    g->index = hf_page_index(m, g->old_size);
    if ((g->old_size & (hf_page_bytes(m->cache) - 1)) == 0)
        return 0; /* EOF at the end of a page: nothing straddles */
    r = m->cache->isize->grow_begin(g);
    g->active = r == 0;
    return r;
}

void hf_isize_set(struct hf_mapping *m, hf_off_t size)
{
    hf_trace(SIZE, m->inode->ino, hf_page_index(m, size), (uint64_t)size, (uint64_t)hf_isize_read(m));
    atomic_store_explicit(&m->inode->size, size, memory_order_release);
}

void hf_isize_grow_end(struct hf_isize_grow *g)
{
    if (g->active)
        g->m->cache->isize->grow_end(g);
    g->active = false;
}

int hf_isize_grow_to(struct hf_mapping *m, hf_off_t new_size)
{
    struct hf_isize_grow g;
    int r;

    assert(new_size >= hf_isize_read(m));
    r = hf_mapping_grow_memfd(m, new_size);
    if (r < 0)
        return r;
    hf_rwlock_rdlock(&m->map_lock);
    r = hf_isize_grow_begin(m, &g);
    if (r == 0) {
        hf_isize_set(m, new_size);
        hf_isize_grow_end(&g);
    }
    hf_rwlock_rdunlock(&m->map_lock);
    return r;
}
