/* SPDX-License-Identifier: MIT */
/*
 * page.c - page states and their transitions. See page.h.
 */
#include "cache/page.h"

#include <assert.h>

#define S(name) (1u << HF_PAGE_##name)

static const unsigned may_follow[HF_PAGE_STATE_MAX] = {
#define X(name, meaning, next) [HF_PAGE_##name] = next,
    HF_PAGE_STATES(X)
#undef X
};

static const char *const names[HF_PAGE_STATE_MAX] = {
#define X(name, meaning, next) [HF_PAGE_##name] = #name,
    HF_PAGE_STATES(X)
#undef X
};

const char *hf_page_state_name(enum hf_page_state state)
{
    return names[state];
}

void hf_page_set_state(struct hf_page *page, enum hf_page_state next)
{
    if (page->state == next)
        return;
    assert(hf_mutex_is_locked(&page->lock));
    assert(may_follow[page->state] & (1u << next));
    page->state = (uint8_t)next;
}

bool hf_page_sane(const struct hf_page *page, unsigned nr_blocks)
{
    hf_bits_t inside = hf_bits_range(0, nr_blocks);

    if (page->state == HF_PAGE_ABSENT)
        return !page->uptodate && !page->dirty && !page->writeback && !page->writable;
    if ((page->reserved & page->allocated) || (page->dirty & ~page->uptodate))
        return false;
    if (page->dirty & inside & ~(page->reserved | page->allocated))
        return false; /* HOLD-1 */
    if (hf_page_is_writable(page) != (page->writable != 0) || hf_page_is_dirty(page) != (page->dirty != 0))
        return false;
    return hf_page_is_writeback(page) || page->writeback == 0;
}
