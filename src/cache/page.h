/* SPDX-License-Identifier: MIT */
/*
 * page.h - one cached page: its state, and what is known of each of its blocks.
 *
 * Everything in a page is guarded by its lock. The state says who may change the bytes; four sets say it for
 * each block (up to 128 of them, DESIGN 1):
 *   uptodate   the bytes in the memfd are the file's. Of other blocks the memfd's bytes are zero
 *   dirty      newer than on the device, to be written
 *   reserved   a hole for which the driver has promised a block (HOLD-8 counts them)
 *   allocated  the driver has a block for it; valid once MAPPED is set
 * reserved and allocated are disjoint; dirty is within uptodate; dirty and within i_size implies reserved or
 * allocated (HOLD-1).
 */
#ifndef HF_CACHE_PAGE_H
#define HF_CACHE_PAGE_H

#include "base/bits.h"
#include "base/lock.h"
#include "base/types.h"

/* X(state, meaning, states that may follow). One function changes them: hf_page_set_state(). */
#define HF_PAGE_STATES(X)                                                                             \
    X(ABSENT, "not in the memfd, mapped nowhere", S(CLEAN))                                           \
    X(CLEAN, "as on the device; mappings may load", S(ABSENT) | S(DIRTY) | S(WRITABLE))               \
    X(DIRTY, "newer than the device; a store faults", S(CLEAN) | S(WRITABLE) | S(WRITEBACK))          \
    X(WRITABLE, "newer, and a mapping may store", S(DIRTY))                                           \
    X(WRITEBACK, "being written; a store faults", S(CLEAN) | S(DIRTY) | S(WB_DIRTY) | S(WB_WRITABLE)) \
    X(WB_DIRTY, "being written, and newer again", S(DIRTY) | S(WRITEBACK) | S(WB_WRITABLE))           \
    X(WB_WRITABLE, "being written, and a mapping may store", S(WRITABLE) | S(WB_DIRTY))

enum hf_page_state {
#define X(name, meaning, next) HF_PAGE_##name,
    HF_PAGE_STATES(X)
#undef X
        HF_PAGE_STATE_MAX,
};

#define HF_PAGE_MAPPED 0x1u     /* allocated is what the driver says */
#define HF_PAGE_REFERENCED 0x2u /* used since the last pass of reclaim */
#define HF_PAGE_KEEP 0x4u       /* hf_reserve(): zero blocks keep their reservation at writeback */
#define HF_PAGE_ERROR 0x8u      /* the last writeback failed (HOLD-7) */
#define HF_PAGE_TAIL 0x10u      /* somebody may have stored beyond EOF in it (HOLD-9) */
#define HF_PAGE_READ 0x20u      /* the device was read for it; for the fault that looks */

struct hf_page {
    struct hf_mutex lock; /* rank PAGE */
    uint8_t state;        /* enum hf_page_state */
    uint8_t flags;        /* HF_PAGE_* */
    uint16_t writable;    /* hardware pages that some mapping may store to, a bit each */
    hf_pgoff_t index;     /* set at init */
    hf_bits_t uptodate, dirty, reserved, allocated;
    hf_bits_t writeback; /* blocks being written now */
};

const char *hf_page_state_name(enum hf_page_state state);
void hf_page_set_state(struct hf_page *page, enum hf_page_state next);
/* Of the states: may some mapping store without a fault? is it under writeback? newer than the device? */
static inline bool hf_page_is_writable(const struct hf_page *page)
{
    return page->state == HF_PAGE_WRITABLE || page->state == HF_PAGE_WB_WRITABLE;
}
static inline bool hf_page_is_writeback(const struct hf_page *page)
{
    return page->state >= HF_PAGE_WRITEBACK;
}
static inline bool hf_page_is_dirty(const struct hf_page *page)
{
    return page->state == HF_PAGE_DIRTY || page->state == HF_PAGE_WRITABLE || page->state > HF_PAGE_WRITEBACK;
}
/* The blocks are newer than the device, or about to be:
 * if writing them fails, that is another error to tell. */
static inline void hf_page_newer(struct hf_page *page, hf_bits_t blocks)
{
    page->dirty |= blocks;
    page->flags &= (uint8_t)~HF_PAGE_ERROR;
}
/* Checks the invariants above; for asserts. nr_blocks: how many of the page lie inside i_size. */
bool hf_page_sane(const struct hf_page *page, unsigned nr_blocks);

#endif
