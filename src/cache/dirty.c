/* SPDX-License-Identifier: MIT */
/*
 * dirty.c - which pages and blocks are newer than the device (STORE-PATH 6/9), and the counters that follow
 * from it.
 *
 * The group's dirty word has a bit for each page that writeback must look at (dirty, or being written); it is
 * what fsync walks. All under the page lock.
 */
#include "base/trace.h"
#include "cache/mapping.h"

#include <assert.h>

static bool wants_writeback(enum hf_page_state state)
{
    return state != HF_PAGE_ABSENT && state != HF_PAGE_CLEAN;
}

static void account_dirty(struct hf_mapping *m, struct hf_page *page, bool now)
{
    struct hf_page_group *g = hf_page_group_of(page);
    uint32_t bit = 1u << (page->index & (HF_GROUP_PAGES - 1));

    if (now) {
        atomic_fetch_or(&g->dirty, bit);
        atomic_fetch_add(&m->cache->nr_dirty, 1);
        if (atomic_fetch_add(&m->nr_dirty, 1) == 0)
            atomic_store(&m->dirtied_ns, hf_now_ns());
        return;
    }
    atomic_fetch_and(&g->dirty, ~bit);
    atomic_fetch_sub(&m->cache->nr_dirty, 1);
    if (atomic_fetch_sub(&m->nr_dirty, 1) == 1)
        atomic_store(&m->dirtied_ns, 0);
}

void hf_page_move(struct hf_mapping *m, struct hf_page *page, enum hf_page_state next)
{
    enum hf_page_state before = page->state;

    hf_page_set_state(page, next);
    if ((before == HF_PAGE_ABSENT) != (next == HF_PAGE_ABSENT)) {
        uint64_t one = next == HF_PAGE_ABSENT ? UINT64_MAX : 1;
        atomic_fetch_add(&m->cache->nr_pages, one);
        atomic_fetch_add(&m->nr_pages, one);
    }
    if (wants_writeback(before) != wants_writeback(next))
        account_dirty(m, page, wants_writeback(next));
}

void hf_page_dirty(struct hf_mapping *m, struct hf_page *page, hf_bits_t blocks)
{
    assert((blocks & ~(page->allocated | page->reserved)) == 0); /* HOLD-1 */
    assert((blocks & ~page->uptodate) == 0);
    if (blocks == 0)
        return;
    hf_page_newer(page, blocks);
    if (page->state == HF_PAGE_CLEAN)
        hf_page_move(m, page, HF_PAGE_DIRTY);
    else if (page->state == HF_PAGE_WRITEBACK)
        hf_page_move(m, page, HF_PAGE_WB_DIRTY);
    hf_trace(WRITE, m->inode->ino, page->index, (uint64_t)page->dirty, page->state);
}

void hf_page_undirty(struct hf_mapping *m, struct hf_page *page, hf_bits_t blocks)
{
    assert(!hf_page_is_writable(page));
    page->dirty &= ~blocks;
    if (page->dirty != 0)
        return;
    if (page->state == HF_PAGE_DIRTY)
        hf_page_move(m, page, HF_PAGE_CLEAN);
    else if (page->state == HF_PAGE_WB_DIRTY)
        hf_page_move(m, page, HF_PAGE_WRITEBACK);
}

void hf_page_discard(struct hf_mapping *m, struct hf_page *page)
{
    assert(!hf_page_is_writeback(page));
    hf_page_unreserve(m, page, page->reserved);
    page->dirty = page->uptodate = page->allocated = 0;
    page->writable = 0;
    page->flags = 0;
    if (page->state == HF_PAGE_WRITABLE)
        hf_page_move(m, page, HF_PAGE_DIRTY);
    if (page->state == HF_PAGE_DIRTY)
        hf_page_move(m, page, HF_PAGE_CLEAN);
    if (page->state == HF_PAGE_CLEAN)
        hf_page_move(m, page, HF_PAGE_ABSENT);
}
