/* SPDX-License-Identifier: MIT */
/*
 * fill.c - bringing blocks into the memfd, one page at a fault or a run of pages ahead.
 *
 * Bytes beyond i_size are zeroed on the way in, whatever the device holds there (HOLD-9). If they were not
 * zero, the block is dirtied, so that growth may trust the device's copy: a crash between a truncate's commit
 * and the write of its zeroed tail leaves such blocks behind.
 */
#include "base/trace.h"
#include "cache/mapping.h"

#include <errno.h>
#include <string.h>

static const struct hf_driver *driver_of(const struct hf_mapping *m)
{
    return m->cache->sb->driver;
}

int hf_page_map_blocks(struct hf_mapping *m, struct hf_page *page, unsigned flags, hf_bits_t *ret_written)
{
    hf_blk_t first = hf_page_blk(m, page), blk = first, end = first + m->cache->blocks_per_page;
    hf_bits_t allocated = 0, written = 0;

    while (blk < end) {
        struct hf_extent ext;
        hf_bits_t bits;
        int r = driver_of(m)->map(m->inode, blk, flags, &ext);

        if (r < 0)
            return r;
        if (ext.nr > end - blk)
            ext.nr = end - blk;
        bits = hf_bits_range((unsigned)(blk - first), (unsigned)ext.nr);
        if (ext.kind != HF_EXTENT_HOLE)
            allocated |= bits;
        if (ext.kind == HF_EXTENT_WRITTEN)
            written |= bits;
        blk += ext.nr;
    }
    page->allocated = allocated & ~page->reserved;
    page->flags |= HF_PAGE_MAPPED;
    if (ret_written != NULL)
        *ret_written = written;
    return 0;
}

static bool all_zero(const char *p, size_t len)
{
    return len == 0 || (*p == 0 && memcmp(p, p + 1, len - 1) == 0);
}

/* Zeroes what lies beyond size in a run of bytes read from off on. Returns true if there was something. */
static bool cut_tail(char *buf, size_t len, hf_off_t off, hf_off_t size)
{
    size_t keep = size <= off ? 0 : (size_t)(size - off);

    if (keep >= len || all_zero(buf + keep, len - keep))
        return false;
    memset(buf + keep, 0, len - keep);
    return true;
}

/* Reads one run of blocks of the page. */
static int fill_run(struct hf_mapping *m, struct hf_page *page, const struct hf_bits_runs *run, char *buf)
{
    hf_off_t off = hf_page_off(m, page->index) + ((hf_off_t)run->first << m->cache->block_shift);
    size_t len = (size_t)run->nr << m->cache->block_shift;
    hf_bits_t bits = hf_bits_range(run->first, run->nr);
    bool cut;
    int r;

    r = driver_of(m)->read(m->inode, buf, len, off);
    if (r < 0)
        return r;
    cut = cut_tail(buf, len, off, hf_isize_read(m));
    r = hf_memfd_write(m, buf, len, off);
    if (r < 0)
        return r;
    page->uptodate |= bits;
    if (page->state == HF_PAGE_ABSENT)
        hf_page_move(m, page, HF_PAGE_CLEAN);
    if (cut && !m->cache->sb->read_only)
        hf_page_dirty(m, page, hf_bit(run->first + run->nr - 1));
    return 0;
}

static int fill_read(struct hf_mapping *m, struct hf_page *page, hf_bits_t blocks)
{
    struct hf_bits_runs run = {.left = blocks};
    char *buf = hf_cache_buffer_get(m->cache);
    int r = buf == NULL ? -ENOMEM : 0;

    while (r == 0 && hf_bits_next_run(&run))
        r = fill_run(m, page, &run, buf);
    hf_cache_buffer_put(m->cache, buf);
    page->flags |= HF_PAGE_READ;
    hf_stat_add(m->cache, pages_read, 1);
    hf_trace(FILL, m->inode->ino, page->index, (uint64_t)blocks, r);
    return r;
}

int hf_page_fill(struct hf_mapping *m, struct hf_page *page, hf_bits_t want, unsigned flags)
{
    hf_bits_t inside = hf_bits_range(0, hf_page_nr_blocks(m, page, hf_isize_read(m)));
    hf_bits_t written = 0;
    int r;

    page->flags |= HF_PAGE_REFERENCED;
    want &= ~page->uptodate;
    if (want == 0 && page->state != HF_PAGE_ABSENT)
        return 0;
    r = hf_page_map_blocks(m, page, flags, &written);
    if (r < 0)
        return r;
    written &= want & inside;
    if (written != 0 && (flags & HF_NOWAIT))
        return -EAGAIN;
    if (written != 0) {
        r = fill_read(m, page, written);
        if (r < 0)
            return r;
    }
    page->uptodate |= want; /* of holes the memfd's bytes are zero already (R4) */
    if (page->state == HF_PAGE_ABSENT)
        hf_page_move(m, page, HF_PAGE_CLEAN);
    return 0;
}

/* ---- read-ahead: one read for a run of absent pages */

struct ahead {
    struct hf_page *pages[HF_IO_BYTES / 4096];
    hf_pgoff_t first;
    unsigned nr;
};

static bool page_wants_read(struct hf_mapping *m, struct hf_page *page)
{
    hf_bits_t written;

    if (page->state != HF_PAGE_ABSENT || hf_page_off(m, page->index + 1) > hf_isize_read(m))
        return false;
    return hf_page_map_blocks(m, page, 0, &written) == 0 && written != 0;
}

/* Locks a run of absent pages that have something on the device. */
static void ahead_lock(struct hf_mapping *m, struct ahead *a, hf_pgoff_t index, unsigned nr) HF_NO_TSA
{
    a->first = index;
    a->nr = 0;
    while (a->nr < nr) {
        struct hf_page *page = hf_page_get(m, index + a->nr);

        if (page == NULL || !hf_mutex_trylock(&page->lock))
            return;
        if (!page_wants_read(m, page)) {
            hf_mutex_unlock(&page->lock);
            return;
        }
        a->pages[a->nr++] = page;
    }
}

static int ahead_read(struct hf_mapping *m, const struct ahead *a)
{
    size_t len = (size_t)a->nr << m->cache->page_shift;
    hf_off_t off = hf_page_off(m, a->first);
    char *buf = hf_cache_buffer_get(m->cache);
    int r;

    if (buf == NULL)
        return -ENOMEM;
    r = driver_of(m)->read(m->inode, buf, len, off);
    if (r == 0)
        r = hf_memfd_write(m, buf, len, off);
    hf_cache_buffer_put(m->cache, buf);
    return r;
}

bool hf_mapping_readahead(struct hf_mapping *m, hf_pgoff_t index, unsigned nr) HF_NO_TSA
{
    unsigned most = (unsigned)(HF_IO_BYTES >> m->cache->page_shift);
    struct ahead a;
    int r;

    ahead_lock(m, &a, index, nr < most ? nr : most);
    if (a.nr == 0)
        return false;
    r = ahead_read(m, &a);
    for (unsigned i = 0; i < a.nr; i++) {
        if (r == 0) {
            a.pages[i]->uptodate = hf_bits_range(0, m->cache->blocks_per_page);
            hf_page_move(m, a.pages[i], HF_PAGE_CLEAN);
        }
        hf_mutex_unlock(&a.pages[i]->lock);
    }
    if (r == 0)
        hf_stat_add(m->cache, pages_read, a.nr);
    return r == 0;
}
