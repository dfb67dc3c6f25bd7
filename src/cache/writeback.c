/* SPDX-License-Identifier: MIT */
/*
 * writeback.c - dirty pages to the driver (STORE-PATH 7/9).
 *
 * A run of neighbouring dirty pages is locked, write-protected everywhere in one go, copied to a buffer, and
 * unlocked; then the buffer is written. So what is written does not change under the device, stores go on
 * meanwhile (they fault once, and make the page WB_WRITABLE), and the zero check, the conversion of
 * reservations and the bytes all speak of one moment. HOLD-2: nothing here asks for space. HOLD-7: what
 * failed is dirty again and keeps its blocks. HOLD-9: bytes beyond i_size are zeroed in the buffer.
 */
#include "base/trace.h"
#include "cache/mapping.h"

#include <assert.h>
#include <errno.h>
#include <limits.h>
#include <string.h>

#define RUN_MAX (HF_IO_BYTES / 4096)

struct wb {
    struct hf_mapping *m;
    unsigned flags;
    hf_pgoff_t last; /* stop after this page */
    uint64_t left;   /* pages that may still be written */
    int error;       /* the first */
    char *buf;
    struct hf_page *run[RUN_MAX];
    unsigned nr;
};

static const struct hf_driver *driver_of(const struct hf_mapping *m)
{
    return m->cache->sb->driver;
}

static bool block_is_zero(const char *p, size_t len)
{
    return *p == 0 && memcmp(p, p + 1, len - 1) == 0;
}

/* The blocks of set that are all zero in the page's bytes. */
static hf_bits_t zero_blocks(const struct hf_mapping *m, hf_bits_t set, const char *bytes)
{
    size_t block = (size_t)1 << m->cache->block_shift;
    hf_bits_t zero = 0;

    for (unsigned i = 0; i < m->cache->blocks_per_page; i++)
        if ((set & hf_bit(i)) && block_is_zero(bytes + i * block, block))
            zero |= hf_bit(i);
    return zero;
}

/* Hole blocks that are still all zero give back what they hold instead of being allocated. */
static void release_zero_blocks(struct hf_mapping *m, struct hf_page *page, const char *bytes)
{
    hf_bits_t zero = zero_blocks(m, page->dirty & page->reserved, bytes);

    if (zero == 0)
        return;
    if (!(page->flags & HF_PAGE_KEEP))
        hf_page_unreserve(m, page, zero);
    hf_page_undirty(m, page, zero);
    hf_stat_add(m->cache, zero_blocks_released, hf_bits_count(zero));
}

/* have: bytes holds the page's already. Reading them before i_size is as good: what growth brings inside is
 * zero by then (isize.c). */
static int page_bytes_inside(struct hf_mapping *m, struct hf_page *page, char *bytes, bool have)
{
    size_t len = (size_t)hf_page_bytes(m->cache);
    hf_off_t off = hf_page_off(m, page->index), size = hf_isize_read(m);
    int r = have ? 0 : hf_memfd_read(m, bytes, len, off);

    if (r == 0 && size < off + (hf_off_t)len) {
        size_t keep = size <= off ? 0 : (size_t)(size - off);
        memset(bytes + keep, 0, len - keep); /* HOLD-9 */
    }
    return r;
}

/* Takes one locked, write-protected dirty page into WRITEBACK, or finds that it has nothing to write. */
static int page_begin(struct hf_mapping *m, struct hf_page *page, char *bytes, bool have)
{
    hf_bits_t beyond = ~hf_bits_range(0, hf_page_nr_blocks(m, page, hf_isize_read(m)));
    int r = page_bytes_inside(m, page, bytes, have);

    if (r < 0)
        return r;
    hf_page_undirty(m, page, page->dirty & beyond);
    release_zero_blocks(m, page, bytes);
    if (page->dirty == 0)
        return 0;
    /* STORE-PATH 7/9: promises become blocks */
    r = hf_page_convert(m, page, page->dirty & page->reserved);
    if (r < 0)
        return r;
    page->writeback = page->dirty;
    page->dirty = 0;
    hf_page_move(m, page, HF_PAGE_WRITEBACK);
    hf_trace(WRITEBACK, m->inode->ino, page->index, (uint64_t)page->writeback, 0);
    return 0;
}

/* Locks page if it is to be written now. wait: may block on its lock and on its writeback. */
static bool page_lock_dirty(struct wb *w, struct hf_page *page, bool wait) HF_NO_TSA
{
    for (;;) {
        uint32_t seen = atomic_load(&w->m->wb_done);

        if (!wait && !hf_mutex_trylock(&page->lock))
            return false;
        if (wait)
            hf_mutex_lock(&page->lock);
        if (!hf_page_is_writeback(page)) {
            if (hf_page_is_dirty(page))
                return true;
            hf_mutex_unlock(&page->lock);
            return false;
        }
        hf_mutex_unlock(&page->lock);
        if (!wait || !(w->flags & HF_WB_SYNC))
            return false;
        hf_futex_wait(&w->m->wb_done, seen, -1);
    }
}

static void run_end_page(struct wb *w, struct hf_page *page, int error)
{
    struct hf_mapping *m = w->m;

    hf_mutex_lock(&page->lock);
    if (error != 0) {
        page->dirty |= page->writeback; /* HOLD-7 */
        if (!(page->flags & HF_PAGE_ERROR)) {
            page->flags |= HF_PAGE_ERROR;
            hf_errseq_set(&m->wb_err, error);
        }
        hf_stat_add(m->cache, writeback_errors, 1);
        if (page->state == HF_PAGE_WRITEBACK)
            hf_page_move(m, page, HF_PAGE_WB_DIRTY);
    } else {
        page->flags &= (uint8_t)~HF_PAGE_ERROR;
    }
    page->writeback = 0;
    if (page->state == HF_PAGE_WRITEBACK)
        hf_page_move(m, page, HF_PAGE_CLEAN);
    else if (page->state == HF_PAGE_WB_DIRTY)
        hf_page_move(m, page, HF_PAGE_DIRTY);
    else
        hf_page_move(m, page, HF_PAGE_WRITABLE);
    assert(hf_page_sane(page, hf_page_nr_blocks(m, page, hf_isize_read(m))));
    hf_trace(WRITTEN, m->inode->ino, page->index, page->state, error);
    hf_mutex_unlock(&page->lock);
}

/* Writes the blocks under writeback of the run, neighbouring ones at once, also across pages. */
static int run_write(struct wb *w, const hf_bits_t *blocks, hf_off_t base)
{
    struct hf_mapping *m = w->m;
    unsigned per_page = m->cache->blocks_per_page, nr = w->nr * per_page, start = 0;
    int error = 0;

    while (start < nr) {
        unsigned end = start;

        while (end < nr && (blocks[end / per_page] & hf_bit(end % per_page)))
            end++;
        if (end > start) {
            size_t at = (size_t)start << m->cache->block_shift;
            size_t len = (size_t)(end - start) << m->cache->block_shift;
            /* STORE-PATH 8/9: the driver maps blocks */
            int r = driver_of(m)->write(m->inode, w->buf + at, len, base + (hf_off_t)at);
            error = error != 0 ? error : r;
        }
        start = end + 1;
    }
    return error;
}

static void wb_fail(struct wb *w, int r)
{
    if (r < 0 && w->error == 0)
        w->error = r;
}

/* The pages w->run[0 .. nr) are locked and dirty. Unlocks and writes them. */
static void run_submit(struct wb *w) HF_NO_TSA
{
    struct hf_mapping *m = w->m;
    hf_off_t base = hf_page_off(m, w->run[0]->index); /* read while run[0] is ours */
    hf_bits_t blocks[RUN_MAX];
    bool have;
    int r;

    hf_pages_mkclean(m, w->run, w->nr);
    /* One system call for the run; if it fails, page by
     * page, so that only the page that cannot be read fails. */
    have = hf_memfd_read(m, w->buf, (size_t)w->nr << m->cache->page_shift, base) == 0;
    for (unsigned i = 0; i < w->nr; i++) {
        r = page_begin(m, w->run[i], w->buf + ((size_t)i << m->cache->page_shift), have);
        wb_fail(w, r);
        blocks[i] = w->run[i]->writeback;
        hf_mutex_unlock(&w->run[i]->lock);
    }
    hf_rwlock_rdunlock(&m->map_lock);
    r = run_write(w, blocks, base);
    wb_fail(w, r);
    for (unsigned i = 0; i < w->nr; i++)
        if (blocks[i] != 0)
            run_end_page(w, w->run[i], r);
    hf_stat_add(m->cache, pages_written, w->nr);
    atomic_fetch_add(&m->wb_done, 1u);
    hf_futex_wake(&m->wb_done, INT_MAX);
    hf_rwlock_rdlock(&m->map_lock);
}

struct scan {
    hf_pgoff_t from;
    hf_pgoff_t found;
};

static int find_dirty_group(struct hf_mapping *m, struct hf_page_group *g, void *arg)
{
    struct scan *s = arg;
    uint32_t dirty = atomic_load(&g->dirty);

    (void)m;
    if (s->from > g->first)
        dirty &= ~0u << (s->from - g->first);
    if ((dirty & 0xffffu) == 0)
        return 0;
    s->found = g->first + (hf_pgoff_t)__builtin_ctz(dirty);
    return 1;
}

bool hf_mapping_next_dirty(struct hf_mapping *m, hf_pgoff_t from, hf_pgoff_t *ret_index)
{
    struct scan s = {.from = from};

    if (hf_tree_walk(m, from, UINT64_MAX, find_dirty_group, &s) != 1)
        return false;
    *ret_index = s.found;
    return true;
}

/* Gathers neighbours of the locked page run[0] that are dirty and free. */
static void run_extend(struct wb *w)
{
    unsigned most = (unsigned)(HF_IO_BYTES >> w->m->cache->page_shift);

    if (most > w->left)
        most = (unsigned)w->left;
    while (w->nr < most && w->run[0]->index + w->nr <= w->last) {
        struct hf_page *page = hf_page_find(w->m, w->run[0]->index + w->nr);

        if (page == NULL || !page_lock_dirty(w, page, false))
            return;
        w->run[w->nr++] = page;
    }
}

static void wb_walk(struct wb *w, hf_pgoff_t first) HF_NO_TSA
{
    struct hf_mapping *m = w->m;
    struct scan s = {.from = first};

    hf_rwlock_rdlock(&m->map_lock);
    while (w->left > 0 && s.from <= w->last && hf_tree_walk(m, s.from, w->last, find_dirty_group, &s) == 1 &&
           s.found <= w->last) {
        struct hf_page *page = hf_page_find(m, s.found);

        s.from = s.found + 1;
        if (!page_lock_dirty(w, page, true))
            continue;
        w->run[0] = page;
        w->nr = 1;
        run_extend(w);
        s.from = s.found + w->nr;
        w->left -= w->nr;
        run_submit(w);
    }
    hf_rwlock_rdunlock(&m->map_lock);
}

int hf_mapping_writeback(struct hf_mapping *m, hf_off_t start, hf_off_t end, unsigned flags,
                         uint64_t max_pages)
{
    struct wb w = {.m = m, .flags = flags, .left = max_pages};

    if (end <= start || atomic_load(&m->nr_dirty) == 0)
        return 0;
    w.last = hf_page_index(m, end - 1);
    w.buf = hf_cache_buffer_get(m->cache);
    if (w.buf == NULL)
        return -ENOMEM;
    wb_walk(&w, hf_page_index(m, start));
    hf_cache_buffer_put(m->cache, w.buf);
    return w.error;
}

/* ---- the rest of what needs a page's bytes under its lock */

static int release_zero_group(struct hf_mapping *m, struct hf_page_group *g, void *arg)
{
    char *buf = arg;

    for (uint32_t dirty = atomic_load(&g->dirty); dirty != 0; dirty &= dirty - 1) {
        struct hf_page *page = &g->pages[__builtin_ctz(dirty)];

        hf_mutex_lock(&page->lock);
        if (page->dirty & page->reserved) {
            hf_page_mkclean(m, page);
            if (page_bytes_inside(m, page, buf, false) == 0)
                release_zero_blocks(m, page, buf);
        }
        hf_mutex_unlock(&page->lock);
    }
    return 0;
}

void hf_mapping_release_zero(struct hf_mapping *m)
{
    char *buf;

    if (atomic_load(&m->nr_dirty) == 0)
        return;
    buf = hf_cache_buffer_get(m->cache);
    if (buf == NULL)
        return;
    hf_rwlock_rdlock(&m->map_lock);
    hf_tree_walk(m, 0, UINT64_MAX, release_zero_group, buf);
    hf_rwlock_rdunlock(&m->map_lock);
    hf_cache_buffer_put(m->cache, buf);
}

static int wait_group(struct hf_mapping *m, struct hf_page_group *g, void *arg)
{
    hf_pgoff_t first = *(hf_pgoff_t *)arg;

    for (unsigned i = 0; i < HF_GROUP_PAGES; i++) {
        struct hf_page *page = &g->pages[i];
        bool busy = page->index >= first;

        while (busy) {
            uint32_t seen = atomic_load(&m->wb_done);

            hf_mutex_lock(&page->lock);
            busy = hf_page_is_writeback(page);
            hf_mutex_unlock(&page->lock);
            if (busy)
                hf_futex_wait(&m->wb_done, seen, -1);
        }
    }
    return 0;
}

void hf_mapping_wait_writeback(struct hf_mapping *m, hf_pgoff_t first)
{
    if (atomic_load(&m->nr_dirty) != 0)
        hf_tree_walk(m, first, UINT64_MAX, wait_group, &first);
}
