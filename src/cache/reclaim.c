/* SPDX-License-Identifier: MIT */
/*
 * reclaim.c - keeping the cache under its limit, so that a mapping may be much larger than memory.
 *
 * A clean page that holds no reservation leaves: its hole is punched in the memfd, which takes it out of
 * every page table in every process; the next touch is a fault and reads it again. Pages used since the last
 * pass are spared once (CLOCK). When clean pages do not suffice, dirty ones are written first. Only trylocks:
 * reclaim never waits for a page or for a truncate.
 */
#include "base/trace.h"
#include "cache/mapping.h"

#include <fcntl.h>

struct pass {
    struct hf_cache *cache;
    uint64_t dropped, want;
};

static bool droppable(struct hf_page *page)
{
    if (page->state != HF_PAGE_CLEAN || page->reserved != 0)
        return false;
    if (page->flags & HF_PAGE_REFERENCED) {
        page->flags &= (uint8_t)~HF_PAGE_REFERENCED;
        return false;
    }
    return true;
}

void hf_page_drop(struct hf_mapping *m, struct hf_page *page)
{
    hf_mm_ops->zap(m, page->index, 1);
    fallocate(atomic_load(&m->memfd), FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE, hf_page_off(m, page->index),
              hf_page_bytes(m->cache));
    hf_page_discard(m, page);
    hf_stat_add(m->cache, pages_reclaimed, 1);
    hf_trace(RECLAIM, m->inode->ino, page->index, 0, 0);
}

static int reclaim_group(struct hf_mapping *m, struct hf_page_group *g, void *arg)
{
    struct pass *p = arg;

    for (unsigned i = 0; i < HF_GROUP_PAGES && p->dropped < p->want; i++) {
        struct hf_page *page = &g->pages[i];

        if (!hf_mutex_trylock(&page->lock))
            continue;
        if (droppable(page)) {
            hf_page_drop(m, page);
            p->dropped++;
        }
        hf_mutex_unlock(&page->lock);
    }
    if (p->dropped < p->want)
        return 0;
    m->reclaim_hand = g->first;
    return 1;
}

/* From the hand to the end, then from the start to the hand. */
static void reclaim_clean(struct hf_mapping *m, struct pass *p)
{
    hf_pgoff_t hand = m->reclaim_hand;

    if (atomic_load(&m->nr_pages) == 0 || !hf_rwlock_tryrdlock(&m->map_lock))
        return;
    if (hf_tree_walk(m, hand, UINT64_MAX, reclaim_group, p) == 0) {
        m->reclaim_hand = 0;
        if (hand > 0)
            hf_tree_walk(m, 0, hand - 1, reclaim_group, p);
    }
    hf_rwlock_rdunlock(&m->map_lock);
}

/* Page descriptors of a large file that passed through go, too. */
static void prune(struct hf_mapping *m)
{
    if (atomic_load(&m->nr_groups) < 64 + atomic_load(&m->nr_pages) / 4 || !hf_rwlock_trywrlock(&m->map_lock))
        return;
    hf_tree_prune(m);
    hf_rwlock_wrunlock(&m->map_lock);
}

static void reclaim_mapping(struct hf_mapping *m, void *arg)
{
    struct pass *p = arg;

    if (p->dropped < p->want)
        reclaim_clean(m, p);
    prune(m);
}

static void write_mapping(struct hf_mapping *m, void *arg)
{
    struct pass *p = arg;

    if (p->dropped < p->want)
        hf_mapping_writeback(m, 0, HF_FILE_SIZE_MAX, 0, p->want);
}

void hf_cache_reclaim(struct hf_cache *c)
{
    uint64_t now = atomic_load(&c->nr_pages), goal = c->limit_pages - c->limit_pages / 8;
    struct pass p = {.cache = c, .want = now > goal ? now - goal : 0};

    if (now < c->limit_pages)
        return;
    hf_cache_each_mapping(c, reclaim_mapping, &p);
    hf_cache_each_mapping(c, reclaim_mapping, &p); /* the first pass took the REFERENCED marks away */
    if (p.dropped < p.want) {
        hf_cache_each_mapping(c, write_mapping, &p);
        hf_cache_each_mapping(c, reclaim_mapping, &p);
    }
}
