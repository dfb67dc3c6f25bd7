/* SPDX-License-Identifier: MIT */
/*
 * mkwrite.c - page_mkwrite and page_mkclean (STORE-PATH 4/9): the only two functions that open and close a
 * page to stores.
 *
 * HOLD-1 is made here: before a hardware page becomes storable, every block of it inside i_size is allocated
 * or reserved. HOLD-5: both run under the page lock, and i_size is read there.
 */
#include "base/trace.h"
#include "cache/mapping.h"
#include "cache/testing.h"

#include <assert.h>
#include <errno.h>

#ifdef HF_TESTING
_Atomic bool hf_test_skip_mkclean;
#endif

/* The blocks that the hardware pages hw (a run of bits) touch. */
static hf_bits_t blocks_of_hw(const struct hf_mapping *m, const struct hf_page *page, unsigned hw)
{
    unsigned first = (unsigned)__builtin_ctz(hw);
    unsigned nr = (unsigned)__builtin_popcount(hw);
    hf_off_t off = hf_page_off(m, page->index) + ((hf_off_t)first << m->cache->hw_shift);

    return hf_page_blocks_of(m, page, off, (hf_off_t)nr << m->cache->hw_shift);
}

static void touch_times(struct hf_inode *inode)
{
    int64_t now = hf_now_ns();

    atomic_store_explicit(&inode->mtime_ns, now, memory_order_relaxed);
    atomic_store_explicit(&inode->ctime_ns, now, memory_order_relaxed);
}

int hf_page_mkwrite(struct hf_mapping *m, struct hf_page *page, unsigned hw, unsigned flags)
{
    hf_off_t size = hf_isize_read(m); /* STORE-PATH 4/9: re-checked under the page lock */
    hf_bits_t need = blocks_of_hw(m, page, hw) & hf_bits_range(0, hf_page_nr_blocks(m, page, size));
    uint16_t was;
    int r;

    assert(hf_mutex_is_locked(&page->lock));
    if (need == 0)
        return -ENXIO;
    r = hf_page_reserve(m, page, need, flags, NULL);
    if (r < 0)
        return r;
    /* STORE-PATH 6/9: dirty from now on, whatever the program
     * stores, until writeback write-protects the page */
    hf_page_newer(page, need);
    was = page->writable;
    page->writable |= (uint16_t)hw;
    if (page->state == HF_PAGE_CLEAN || page->state == HF_PAGE_DIRTY)
        hf_page_move(m, page, HF_PAGE_WRITABLE);
    else if (page->state == HF_PAGE_WRITEBACK || page->state == HF_PAGE_WB_DIRTY) {
        if (page->state == HF_PAGE_WRITEBACK)
            hf_page_move(m, page, HF_PAGE_WB_DIRTY);
        hf_page_move(m, page, HF_PAGE_WB_WRITABLE);
    }
    if (hf_page_off(m, page->index + 1) > size)
        page->flags |= HF_PAGE_TAIL;
    touch_times(m->inode);
    hf_file_stat_add(m, mkwrites, was == 0 ? 1 : 0);
    hf_trace(MKWRITE, m->inode->ino, page->index, (uint64_t)need, hw);
    assert(hf_page_sane(page, hf_page_nr_blocks(m, page, size)));
    return 0;
}

static void protect(struct hf_mapping *m, hf_pgoff_t first, hf_pgoff_t nr)
{
#ifdef HF_TESTING
    if (atomic_load(&hf_test_skip_mkclean))
        return;
#endif
    hf_mm_ops->mkclean(m, first, nr);
    hf_stat_add(m->cache, mkcleans, nr);
    hf_trace(MKCLEAN, m->inode->ino, first, nr, 0);
}

void hf_pages_mkclean(struct hf_mapping *m, struct hf_page **pages, unsigned nr)
{
    unsigned start = 0;

    for (unsigned i = 0; i < nr; i = start) {
        while (start < nr && !hf_page_is_writable(pages[start]))
            start++;
        i = start;
        while (start < nr && hf_page_is_writable(pages[start]) &&
               pages[start]->index - pages[i]->index == start - i)
            start++;
        if (start > i)
            protect(m, pages[i]->index, start - i);
    }
    for (unsigned i = 0; i < nr; i++) {
        pages[i]->writable = 0;
        if (pages[i]->state == HF_PAGE_WRITABLE)
            hf_page_move(m, pages[i], HF_PAGE_DIRTY);
        else if (pages[i]->state == HF_PAGE_WB_WRITABLE)
            hf_page_move(m, pages[i], HF_PAGE_WB_DIRTY);
    }
}

void hf_page_mkclean(struct hf_mapping *m, struct hf_page *page)
{
    hf_pages_mkclean(m, &page, 1);
}

static int protect_group(struct hf_mapping *m, struct hf_page_group *g, void *arg)
{
    (void)arg;
    for (uint32_t dirty = atomic_load(&g->dirty); dirty != 0; dirty &= dirty - 1) {
        struct hf_page *page = &g->pages[__builtin_ctz(dirty)];

        hf_mutex_lock(&page->lock);
        hf_page_mkclean(m, page);
        hf_mutex_unlock(&page->lock);
    }
    return 0;
}

void hf_mapping_protect_all(struct hf_mapping *m)
{
    hf_rwlock_rdlock(&m->map_lock);
    hf_tree_walk(m, 0, UINT64_MAX, protect_group, NULL);
    hf_rwlock_rdunlock(&m->map_lock);
}
