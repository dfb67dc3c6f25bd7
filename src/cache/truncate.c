/* SPDX-License-Identifier: MIT */
/*
 * truncate.c - the cache's part of shrinking, punching and preallocating (DESIGN 6).
 *
 * All of it runs under io_lock exclusive; the parts that remove pages also under map_lock exclusive, which
 * keeps faults, fills and new writeback out (the kernel's invalidate_lock). A store through a page table
 * entry that still stands lands before the page is zapped, or faults and waits. Pages leave the memfd first
 * (no entry can stand after that), then what was known of them is forgotten.
 */
#include "base/trace.h"
#include "cache/mapping.h"

#include <assert.h>
#include <errno.h>
#include <fcntl.h>
#include <unistd.h>

struct range {
    hf_off_t start, end; /* bytes */
};

static hf_off_t block_floor(const struct hf_mapping *m, hf_off_t off)
{
    return off & ~(hf_block_bytes(m->cache) - 1);
}

/* Takes [start, end) (pages or hardware pages) out of the memfd and so out of every page table. */
static void memfd_punch(struct hf_mapping *m, hf_off_t start, hf_off_t end)
{
    int fd = atomic_load(&m->memfd);
    hf_pgoff_t first = hf_page_index(m, start);

    if (fd < 0 || start >= end)
        return;
    hf_mm_ops->zap(m, first, hf_page_index(m, end - 1) - first + 1);
    fallocate(fd, FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE, start, end - start);
}

/* The block at off, in a page that exists after this, is uptodate: -EIO if it cannot be read. */
static int block_fill(struct hf_mapping *m, hf_off_t off)
{
    struct hf_page *page;
    int r = hf_mapping_memfd(m);

    if (r < 0)
        return r;
    page = hf_page_get(m, hf_page_index(m, off));
    if (page == NULL)
        return -ENOMEM;
    hf_mutex_lock(&page->lock);
    r = hf_page_fill(m, page, hf_page_blocks_of(m, page, off, 1), 0);
    hf_mutex_unlock(&page->lock);
    return r;
}

int hf_mapping_shrink_prepare(struct hf_mapping *m, hf_off_t new_size)
{
    int r = 0;

    if (new_size == block_floor(m, new_size))
        return 0;
    hf_rwlock_rdlock(&m->map_lock);
    r = block_fill(m, new_size);
    hf_rwlock_rdunlock(&m->map_lock);
    return r;
}

/* The page that holds the new EOF: its tail becomes zero, its blocks beyond EOF holes. */
static void shrink_straddle(struct hf_mapping *m, struct hf_page *page, hf_off_t size)
{
    hf_off_t hw = (hf_off_t)1 << m->cache->hw_shift, page_end = hf_page_off(m, page->index + 1);
    hf_bits_t inside = hf_bits_range(0, hf_page_nr_blocks(m, page, size)), tail;

    hf_mutex_lock(&page->lock);
    hf_page_mkclean(m, page);
    memfd_punch(m, hf_round_up(size, hw), page_end);
    hf_memfd_zero(m, size, hf_round_up(size, hw));
    page->flags &= (uint8_t)~HF_PAGE_TAIL;
    hf_page_undirty(m, page, page->dirty & ~inside);
    hf_page_unreserve(m, page, page->reserved & ~inside);
    page->allocated &= inside;
    if (size != block_floor(m, size)) {
        tail = hf_page_blocks_of(m, page, size, 1);
        hf_page_dirty(m, page, tail & page->uptodate & (page->allocated | page->reserved));
    }
    assert(hf_page_sane(page, hf_page_nr_blocks(m, page, size)));
    hf_mutex_unlock(&page->lock);
}

static int discard_group(struct hf_mapping *m, struct hf_page_group *g, void *arg)
{
    const struct range *range = arg;

    for (unsigned i = 0; i < HF_GROUP_PAGES; i++) {
        struct hf_page *page = &g->pages[i];

        if (hf_page_off(m, page->index) < range->start || hf_page_off(m, page->index + 1) > range->end)
            continue;
        hf_mutex_lock(&page->lock);
        hf_page_discard(m, page);
        hf_mutex_unlock(&page->lock);
    }
    return 0;
}

/* Forgets all pages that lie wholly in [start, end). */
static void discard_pages(struct hf_mapping *m, hf_off_t start, hf_off_t end)
{
    struct range range = {.start = start, .end = end};

    if (start < end)
        hf_tree_walk(m, hf_page_index(m, start), hf_page_index(m, end - 1), discard_group, &range);
}

void hf_mapping_shrink(struct hf_mapping *m, hf_off_t new_size)
{
    hf_off_t kept = hf_round_up(new_size, hf_page_bytes(m->cache));
    struct hf_page *straddle = NULL;
    int fd = atomic_load(&m->memfd);

    hf_mapping_wait_writeback(m, hf_page_index(m, new_size));
    if (kept != new_size)
        straddle = hf_page_find(m, hf_page_index(m, new_size));
    hf_isize_set(m, new_size);
    if (straddle != NULL)
        shrink_straddle(m, straddle, new_size);
    if (fd >= 0 && atomic_load(&m->memfd_bytes) > kept) {
        hf_off_t gone = atomic_load(&m->memfd_bytes);

        hf_mm_ops->zap(m, hf_page_index(m, kept), hf_page_index(m, gone - 1) - hf_page_index(m, kept) + 1);
        if (ftruncate(fd, kept) == 0)
            atomic_store(&m->memfd_bytes, kept);
        else
            memfd_punch(m, kept, gone);
    }
    discard_pages(m, kept, HF_FILE_SIZE_MAX);
    atomic_fetch_add(&m->truncations, 1);
    hf_tree_prune(m);
}

/* ---- punching */

int hf_mapping_punch_prepare(struct hf_mapping *m, hf_off_t start, hf_off_t end)
{
    int r = 0;

    if (start != block_floor(m, start) && start < hf_isize_read(m))
        r = block_fill(m, start);
    if (r == 0 && end != block_floor(m, end) && block_floor(m, end) < hf_isize_read(m))
        r = block_fill(m, end);
    return r;
}

/* A page of which only a part is punched. */
static void punch_partial(struct hf_mapping *m, struct hf_page *page, const struct range *range)
{
    hf_off_t off = hf_page_off(m, page->index), end = hf_page_off(m, page->index + 1);
    hf_off_t from = range->start > off ? range->start : off, to = range->end < end ? range->end : end;
    hf_off_t first_whole = hf_round_up(from, hf_block_bytes(m->cache)), last_whole = block_floor(m, to);
    hf_bits_t inside = hf_bits_range(0, hf_page_nr_blocks(m, page, hf_isize_read(m)));
    hf_bits_t touched = hf_page_blocks_of(m, page, from, to - from) & inside, whole = 0;

    if (last_whole > first_whole)
        whole = hf_page_blocks_of(m, page, first_whole, last_whole - first_whole);
    hf_page_mkclean(m, page);
    hf_memfd_zero(m, from, to);
    hf_page_undirty(m, page, page->dirty & whole);
    hf_page_unreserve(m, page, page->reserved & whole);
    page->allocated &= ~whole;
    page->uptodate |= whole;
    hf_page_dirty(m, page, touched & ~whole & page->uptodate & (page->allocated | page->reserved));
    hf_trace(PUNCH, m->inode->ino, page->index, (uint64_t)from, (uint64_t)to);
}

static int punch_group(struct hf_mapping *m, struct hf_page_group *g, void *arg)
{
    const struct range *range = arg;

    for (unsigned i = 0; i < HF_GROUP_PAGES; i++) {
        struct hf_page *page = &g->pages[i];
        hf_off_t off = hf_page_off(m, page->index), end = hf_page_off(m, page->index + 1);

        if (end <= range->start || off >= range->end)
            continue;
        hf_mutex_lock(&page->lock);
        if (range->start <= off && end <= range->end)
            hf_page_discard(m, page);
        else if (page->state != HF_PAGE_ABSENT)
            punch_partial(m, page, range);
        hf_mutex_unlock(&page->lock);
    }
    return 0;
}

void hf_mapping_punch(struct hf_mapping *m, hf_off_t start, hf_off_t end)
{
    hf_off_t page = hf_page_bytes(m->cache), pages_end = hf_round_up(hf_isize_read(m), page);
    struct range range = {.start = start, .end = end < pages_end ? end : pages_end};

    end = range.end; /* no page lies beyond */
    if (start >= end)
        return;
    hf_mapping_wait_writeback(m, hf_page_index(m, start));
    memfd_punch(m, hf_round_up(start, page), end & ~(page - 1));
    hf_tree_walk(m, hf_page_index(m, start), hf_page_index(m, end - 1), punch_group, &range);
}

/* ---- a punch that failed half way */

/* The driver freed some of the page's blocks, and says which. They are holes now, as if they alone had been
 * punched; the others keep their bytes, and what was promised to them. */
static void remap_page(struct hf_mapping *m, struct hf_page *page)
{
    hf_bits_t had = page->allocated, gone;
    struct hf_bits_runs run;

    /* If it cannot say: what it still calls allocated is kept, and write() will tell. */
    if (!(page->flags & HF_PAGE_MAPPED) || hf_page_map_blocks(m, page, 0, NULL) < 0)
        return;
    gone = had & ~page->allocated;
    if (gone == 0 || page->state == HF_PAGE_ABSENT)
        return;
    hf_page_mkclean(m, page);
    run = (struct hf_bits_runs){.left = gone};
    while (hf_bits_next_run(&run)) {
        hf_off_t at = hf_page_off(m, page->index) + ((hf_off_t)run.first << m->cache->block_shift);

        hf_memfd_zero(m, at, at + ((hf_off_t)run.nr << m->cache->block_shift));
    }
    page->uptodate |= gone;
    hf_page_undirty(m, page, page->dirty & gone);
    hf_trace(PUNCH, m->inode->ino, page->index, (uint64_t)gone, 0);
}

static int remap_group(struct hf_mapping *m, struct hf_page_group *g, void *arg)
{
    const struct range *range = arg;

    for (unsigned i = 0; i < HF_GROUP_PAGES; i++) {
        struct hf_page *page = &g->pages[i];

        if (hf_page_off(m, page->index + 1) <= range->start || hf_page_off(m, page->index) >= range->end)
            continue;
        hf_mutex_lock(&page->lock);
        remap_page(m, page);
        hf_mutex_unlock(&page->lock);
    }
    return 0;
}

void hf_mapping_remap(struct hf_mapping *m, hf_off_t start, hf_off_t end)
{
    struct range range = {.start = start, .end = end};

    hf_tree_walk(m, hf_page_index(m, start), hf_page_index(m, end - 1), remap_group, &range);
}

/* ---- preallocating */

struct promises {
    hf_off_t start, end; /* bytes */
    uint64_t nr;
};

static int count_group(struct hf_mapping *m, struct hf_page_group *g, void *arg)
{
    struct promises *p = arg;

    for (unsigned i = 0; i < HF_GROUP_PAGES; i++) {
        struct hf_page *page = &g->pages[i];

        hf_mutex_lock(&page->lock);
        p->nr += hf_bits_count(page->reserved & hf_page_blocks_of(m, page, p->start, p->end - p->start));
        hf_mutex_unlock(&page->lock);
    }
    return 0;
}

uint64_t hf_mapping_count_promises(struct hf_mapping *m, hf_off_t start, hf_off_t end)
{
    struct promises p = {.start = start, .end = end};

    hf_tree_walk(m, hf_page_index(m, start), hf_page_index(m, end - 1), count_group, &p);
    return p.nr;
}

static int allocated_group(struct hf_mapping *m, struct hf_page_group *g, void *arg)
{
    const struct range *range = arg;

    for (unsigned i = 0; i < HF_GROUP_PAGES; i++) {
        struct hf_page *page = &g->pages[i];
        hf_bits_t blocks, promised;

        hf_mutex_lock(&page->lock);
        blocks = hf_page_blocks_of(m, page, range->start, range->end - range->start);
        promised = page->reserved & blocks;
        page->reserved &= ~promised;
        atomic_fetch_sub(&m->nr_reserved, hf_bits_count(promised));
        atomic_fetch_sub(&m->cache->nr_reserved, hf_bits_count(promised));
        if (page->flags & HF_PAGE_MAPPED)
            page->allocated |= blocks;
        hf_mutex_unlock(&page->lock);
    }
    return 0;
}

void hf_mapping_preallocated(struct hf_mapping *m, hf_off_t start, hf_off_t end)
{
    struct range range = {.start = start, .end = end};

    hf_tree_walk(m, hf_page_index(m, start), hf_page_index(m, end - 1), allocated_group, &range);
}
