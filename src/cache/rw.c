/* SPDX-License-Identifier: MIT */
/*
 * rw.c - copies between a caller's buffer and the cache: hf_pread() and hf_pwrite() below their locks.
 *
 * The buffer is user memory, and may lie in one of our own mappings, even in the page that is being copied.
 * So the copy is a system call on the memfd: a fault in it is EFAULT or a short count, never a signal under a
 * page lock (R3). Then everything is unlocked, the buffer is faulted in, and the rest is tried again. Where a
 * fault would block instead (mappings of the thread engine), the copy goes through a buffer of ours, with no
 * lock held.
 *
 * A write that extends the file keeps its pages locked until i_size has moved: writeback cuts at i_size.
 */
#include "base/trace.h"
#include "cache/mapping.h"

#include <assert.h>
#include <errno.h>
#include <string.h>
#include <sys/uio.h>
#include <unistd.h>

#define CHUNK_PAGES 16u

struct chunk {
    struct hf_mapping *m;
    hf_off_t off;
    size_t len;
    struct hf_page *pages[CHUNK_PAGES];
    hf_bits_t fresh[CHUNK_PAGES]; /* reserved for this write */
    unsigned nr;
    /* after a short copy: every block is filled first, so that a part of one is progress, too */
    bool careful;
    struct hf_isize_grow grow;
};

/* The bytes from off that one chunk covers: it ends at a page. */
static size_t chunk_len(const struct hf_mapping *m, hf_off_t off, size_t len)
{
    hf_off_t end = hf_page_off(m, hf_page_index(m, off) + CHUNK_PAGES);
    size_t most = (size_t)(end - off);

    if (most > HF_IO_BYTES)
        most = HF_IO_BYTES;
    return len < most ? len : most;
}

static void chunk_unlock(struct chunk *c) HF_NO_TSA
{
    for (unsigned i = 0; i < c->nr; i++)
        if (c->pages[i] != c->grow.page)
            hf_mutex_unlock(&c->pages[i]->lock);
    c->nr = 0;
}

static int chunk_lock(struct chunk *c) HF_NO_TSA
{
    hf_pgoff_t first = hf_page_index(c->m, c->off), last = hf_page_index(c->m, c->off + (hf_off_t)c->len - 1);

    for (hf_pgoff_t i = first; i <= last; i++) {
        struct hf_page *page = hf_page_get(c->m, i);

        if (page == NULL) {
            chunk_unlock(c);
            return -ENOMEM;
        }
        if (page != c->grow.page)
            hf_mutex_lock(&page->lock);
        c->fresh[c->nr] = 0;
        c->pages[c->nr++] = page;
    }
    return 0;
}

/* The error for a buffer that could not be reached: 0 means it is there now. */
static int buffer_fault_in(const void *buf, size_t len, bool write)
{
    uintptr_t hw = hf_hw_page_size();
    size_t first = hw - ((uintptr_t)buf & (hw - 1));

    return hf_mm_ops->user_fault_in(buf, len < first ? len : first, write) == 0 ? 0 : -EFAULT;
}

/* ---- reading */

/* Makes the chunk uptodate; shortens it to what is. */
static int read_prepare(struct chunk *c)
{
    for (unsigned i = 0; i < c->nr; i++) {
        int r = hf_page_fill(c->m, c->pages[i],
                             hf_page_blocks_of(c->m, c->pages[i], c->off, (hf_off_t)c->len), 0);

        if (r < 0 && i == 0)
            return r;
        if (r < 0) {
            c->len = (size_t)(hf_page_off(c->m, c->pages[i]->index) - c->off);
            return 0;
        }
    }
    return 0;
}

static ssize_t read_chunk(struct hf_mapping *m, void *buf, size_t len, hf_off_t off)
{
    struct chunk c = {.m = m, .off = off, .len = len};
    ssize_t n;
    int r;

    if (hf_cache_over_limit(m->cache))
        hf_cache_reclaim(m->cache);
    hf_rwlock_rdlock(&m->map_lock);
    hf_mapping_readahead(m, hf_page_index(m, off), (unsigned)(len >> m->cache->page_shift) + 1);
    r = chunk_lock(&c);
    if (r == 0)
        r = read_prepare(&c);
    n = r;
    if (r == 0)
        n = pread(atomic_load(&m->memfd), buf, c.len, off);
    if (r == 0 && n <= 0)
        n = n == 0 ? -EIO : -errno;
    chunk_unlock(&c);
    hf_rwlock_rdunlock(&m->map_lock);
    return n;
}

/* With the bounce buffer when a direct copy could block. */
static ssize_t read_some(struct hf_mapping *m, void *buf, size_t len, hf_off_t off)
{
    void *bounce;
    ssize_t n;

    if (!hf_mm_ops->user_may_block(buf, len))
        return read_chunk(m, buf, len, off);
    bounce = hf_cache_buffer_get(m->cache);
    if (bounce == NULL)
        return -ENOMEM;
    n = read_chunk(m, bounce, len, off);
    if (n > 0) {
        struct iovec from = {bounce, (size_t)n}, to = {buf, (size_t)n};
        ssize_t copied = process_vm_writev(getpid(), &from, 1, &to, 1, 0);
        n = copied > 0 ? copied : -EFAULT;
    }
    hf_cache_buffer_put(m->cache, bounce);
    return n;
}

ssize_t hf_mapping_read(struct hf_mapping *m, void *buf, size_t len, hf_off_t off)
{
    char *at = buf;
    size_t done = 0;
    int fd = hf_mapping_memfd(m);

    if (fd < 0)
        return fd;
    while (done < len) {
        ssize_t n =
            read_some(m, at + done, chunk_len(m, off + (hf_off_t)done, len - done), off + (hf_off_t)done);

        if (n == -EINTR)
            continue;
        if (n == -EFAULT)
            n = buffer_fault_in(at + done, len - done, true);
        if (n < 0)
            return done > 0 ? (ssize_t)done : n;
        done += (size_t)n;
    }
    return (ssize_t)done;
}

/* ---- writing */

/* Takes back the promises that this write took for blocks it did not dirty. */
static void write_undo(struct chunk *c)
{
    for (unsigned i = 0; i < c->nr; i++)
        hf_page_unreserve(c->m, c->pages[i], c->fresh[i] & ~c->pages[i]->dirty);
}

/* Reserves as many of the page's blocks as there is space
 * for, from the first on; the write then ends there. */
static int reserve_partly(struct chunk *c, unsigned i, hf_bits_t touched)
{
    struct hf_page *page = c->pages[i];
    int r = 0;

    for (unsigned b = hf_bits_first(touched); b < c->m->cache->blocks_per_page && (touched & hf_bit(b));
         b++) {
        hf_off_t at = hf_page_off(c->m, page->index) + ((hf_off_t)b << c->m->cache->block_shift);
        hf_bits_t one = 0;

        r = hf_page_reserve(c->m, page, hf_bit(b), 0, &one);
        c->fresh[i] |= one;
        if (r == 0)
            continue;
        if (at <= c->off)
            return r;
        c->len = (size_t)(at - c->off);
        return 0;
    }
    return r;
}

/* The bytes of the chunk in this page may be copied in: edges are uptodate, every block is promised. */
static int write_prepare_page(struct chunk *c, unsigned i)
{
    struct hf_mapping *m = c->m;
    struct hf_page *page = c->pages[i];
    hf_off_t end = c->off + (hf_off_t)c->len, unit = hf_block_bytes(m->cache);
    hf_bits_t touched = hf_page_blocks_of(m, page, c->off, (hf_off_t)c->len), edges = 0;
    int r;

    if (c->careful)
        edges = touched;
    if (c->off & (unit - 1))
        edges |= hf_page_blocks_of(m, page, c->off, 1);
    if (end & (unit - 1))
        edges |= hf_page_blocks_of(m, page, end - 1, 1);
    r = hf_page_fill(m, page, edges & touched, 0);
    if (r == 0)
        r = hf_page_reserve(m, page, touched, 0, &c->fresh[i]);
    if (hf_is_full(r))
        r = reserve_partly(c, i, touched);
    return r;
}

static int write_prepare(struct chunk *c)
{
    for (unsigned i = 0; i < c->nr; i++) {
        int r;

        if (hf_page_off(c->m, c->pages[i]->index) >= c->off + (hf_off_t)c->len)
            return 0;
        r = write_prepare_page(c, i);
        if (r < 0 && i == 0)
            return r;
        if (r < 0) {
            c->len = (size_t)(hf_page_off(c->m, c->pages[i]->index) - c->off);
            return 0;
        }
    }
    return 0;
}

/* n bytes have arrived. A block that was meant to be covered whole, and was not, has no valid rest: the copy
 * is cut back to its start, and its bytes are zero again (R4). */
static size_t write_cut(struct chunk *c, size_t n)
{
    struct hf_mapping *m = c->m;
    hf_off_t end = c->off + (hf_off_t)n, floor = end & ~(hf_block_bytes(m->cache) - 1);
    struct hf_page *page;

    if (n == 0 || n == c->len || end == floor)
        return n;
    page = c->pages[hf_page_index(m, end) - c->pages[0]->index];
    if (page->uptodate & hf_page_blocks_of(m, page, floor, 1))
        return n;
    if (floor < c->off)
        floor = c->off;
    hf_memfd_zero(m, floor, end);
    return (size_t)(floor - c->off);
}

static void write_commit(struct chunk *c, size_t n)
{
    struct hf_mapping *m = c->m;
    hf_off_t end = c->off + (hf_off_t)n;

    for (unsigned i = 0; i < c->nr && n > 0; i++) {
        struct hf_page *page = c->pages[i];
        hf_bits_t blocks = hf_page_blocks_of(m, page, c->off, (hf_off_t)n);

        if (blocks == 0)
            break;
        page->uptodate |= blocks;
        page->flags |= HF_PAGE_REFERENCED;
        if (page->state == HF_PAGE_ABSENT)
            hf_page_move(m, page, HF_PAGE_CLEAN);
        hf_page_dirty(m, page, blocks);
    }
    if (n > 0 && end > hf_isize_read(m))
        hf_isize_set(m, end);
}

static ssize_t write_locked(struct chunk *c, const void *buf) HF_NO_TSA
{
    ssize_t n;
    int r = chunk_lock(c);

    if (r < 0)
        return r;
    r = write_prepare(c);
    n = r;
    if (r == 0)
        n = hf_memfd_pwrite(c->m, buf, c->len, c->off);
    if (n > 0) {
        n = (ssize_t)write_cut(c, (size_t)n);
        write_commit(c, (size_t)n);
        n = n == 0 ? -EFAULT : n;
    }
    write_undo(c);
    chunk_unlock(c);
    return n;
}

/* One chunk; the straddling page of the old size, if the file grows, is the first that is locked. */
static ssize_t write_chunk(struct hf_mapping *m, const void *buf, size_t len, hf_off_t off, bool careful)
{
    struct chunk c = {.m = m, .off = off, .len = len, .careful = careful};
    bool extends = off + (hf_off_t)len > hf_isize_read(m);
    ssize_t n;
    int r = 0;

    if (extends)
        r = hf_mapping_grow_memfd(m, off + (hf_off_t)len);
    if (r < 0)
        return r;
    hf_rwlock_rdlock(&m->map_lock);
    if (extends)
        r = hf_isize_grow_begin(m, &c.grow);
    n = r;
    if (r == 0)
        n = write_locked(&c, buf);
    if (extends && r == 0)
        hf_isize_grow_end(&c.grow);
    hf_rwlock_rdunlock(&m->map_lock);
    hf_trace(WRITE, m->inode->ino, hf_page_index(m, off), (uint64_t)off, (uint64_t)n);
    return n;
}

/* A chunk must not begin below the straddling page and extend beyond it (R2: that page is locked first). */
static size_t write_chunk_len(struct hf_mapping *m, hf_off_t off, size_t len)
{
    hf_off_t size = hf_isize_read(m), straddle = hf_page_off(m, hf_page_index(m, size));
    size_t n = chunk_len(m, off, len);

    if (off < straddle && off + (hf_off_t)n > straddle)
        n = (size_t)(straddle - off);
    return n;
}

static ssize_t write_some(struct hf_mapping *m, const void *buf, size_t len, hf_off_t off, bool careful)
{
    void *bounce;
    ssize_t n;

    if (!hf_mm_ops->user_may_block(buf, len))
        return write_chunk(m, buf, len, off, careful);
    bounce = hf_cache_buffer_get(m->cache);
    if (bounce == NULL)
        return -ENOMEM;
    {
        struct iovec to = {bounce, len}, from = {(void *)(uintptr_t)buf, len};
        n = process_vm_readv(getpid(), &to, 1, &from, 1, 0);
    }
    n = n > 0 ? write_chunk(m, bounce, (size_t)n, off, careful) : -EFAULT;
    hf_cache_buffer_put(m->cache, bounce);
    return n;
}

ssize_t hf_mapping_write(struct hf_mapping *m, const void *buf, size_t len, hf_off_t off)
{
    const char *at = buf;
    bool careful = false;
    size_t done = 0;
    int fd = hf_mapping_memfd(m);

    if (fd < 0)
        return fd;
    while (done < len) {
        hf_off_t pos = off + (hf_off_t)done;
        ssize_t n;

        if (hf_cache_over_limit(m->cache))
            hf_cache_reclaim(m->cache);
        if (hf_cache_over_dirty(m->cache))
            hf_mapping_writeback(m, 0, HF_FILE_SIZE_MAX, 0, m->cache->dirty_limit_pages / 4 + 1);
        n = write_some(m, at + done, write_chunk_len(m, pos, len - done), pos, careful);
        if (n == -EINTR || (hf_is_full((int)n) && hf_cache_squeeze(m->cache)))
            continue;
        careful = n == -EFAULT;
        if (n == -EFAULT)
            n = buffer_fault_in(at + done, len - done, false);
        if (n < 0)
            return done > 0 ? (ssize_t)done : n;
        done += (size_t)n;
    }
    return (ssize_t)done;
}
