/* SPDX-License-Identifier: MIT */
/*
 * mapping.c - an inode's mapping: its memfd, its geometry, its end.
 *
 * The memfd is made when a page is first needed, so directories and files that are only looked at have none.
 * It is written and read through its descriptor alone: no mapping of the library's own has to be kept in
 * step.
 */
#include "cache/mapping.h"
#include "base/fsize.h"

#include <assert.h>
#include <errno.h>
#include <fcntl.h>
#include <sched.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <unistd.h>

void hf_mapping_init(struct hf_mapping *m, struct hf_cache *cache, struct hf_inode *inode)
{
    memset(m, 0, sizeof(*m));
    m->cache = cache;
    m->inode = inode;
    hf_rwlock_init(&m->map_lock, HF_RANK_MAP);
    hf_mutex_init(&m->hole_lock, HF_RANK_HOLE);
    hf_mutex_init(&m->i_mmap_lock, HF_RANK_I_MMAP);
    hf_list_init(&m->i_mmap);
    hf_list_init(&m->cache_link);
    atomic_init(&m->memfd, -1);
}

static int discard_group(struct hf_mapping *m, struct hf_page_group *g, void *arg)
{
    (void)arg;
    for (unsigned i = 0; i < HF_GROUP_PAGES; i++) {
        struct hf_page *page = &g->pages[i];

        hf_mutex_lock(&page->lock);
        hf_page_discard(m, page);
        hf_mutex_unlock(&page->lock);
    }
    return 0;
}

void hf_mapping_done(struct hf_mapping *m)
{
    int fd = atomic_exchange(&m->memfd, -1);

    assert(hf_list_empty(&m->i_mmap));
    hf_mutex_lock(&m->cache->list_lock);
    hf_list_del(&m->cache_link);
    hf_mutex_unlock(&m->cache->list_lock);
    while (atomic_load(&m->reclaim_users) != 0)
        sched_yield(); /* reclaim holds no lock that we hold, and lets go after one pass */
    hf_rwlock_wrlock(&m->map_lock);
    hf_mapping_wait_writeback(m, 0);
    hf_tree_walk(m, 0, UINT64_MAX, discard_group, NULL);
    hf_tree_free(m);
    hf_rwlock_wrunlock(&m->map_lock);
    if (fd >= 0)
        close(fd);
}

int hf_memfd_error(int error)
{
    /* The host has no memory, which is not to say that the volume is full. */
    if (error == ENOSPC)
        return -ENOMEM;
    return -error;
}

/* ftruncate(2), whatever the program's RLIMIT_FSIZE is. */
static int memfd_resize(int fd, hf_off_t bytes)
{
    struct rlimit old;
    int r = ftruncate(fd, bytes) < 0 ? hf_memfd_error(errno) : 0;

    if (r == -EFBIG && hf_fsize_lift(&old)) {
        r = ftruncate(fd, bytes) < 0 ? hf_memfd_error(errno) : 0;
        hf_fsize_restore(&old);
    }
    return r;
}

ssize_t hf_memfd_pwrite(struct hf_mapping *m, const void *buf, size_t len, hf_off_t off)
{
    int fd = atomic_load(&m->memfd);
    struct rlimit old;
    ssize_t n = pwrite(fd, buf, len, off);

    if (n < 0 && errno == EFBIG && hf_fsize_lift(&old)) {
        n = pwrite(fd, buf, len, off);
        hf_fsize_restore(&old);
    }
    return n > 0 ? n : hf_memfd_error(n < 0 ? errno : EIO);
}

static int memfd_new(hf_off_t bytes)
{
    int fd = (int)syscall(SYS_memfd_create, "holdfast", MFD_CLOEXEC), r;

    if (fd < 0)
        return -errno;
    r = bytes > 0 ? memfd_resize(fd, bytes) : 0;
    if (r < 0)
        close(fd);
    return r < 0 ? r : fd;
}

int hf_mapping_memfd(struct hf_mapping *m)
{
    int fd = atomic_load(&m->memfd);
    hf_off_t bytes;

    if (fd >= 0)
        return fd;
    hf_mutex_lock(&m->cache->list_lock);
    fd = atomic_load(&m->memfd);
    if (fd < 0) {
        bytes = hf_round_up(hf_isize_read(m), hf_page_bytes(m->cache));
        fd = memfd_new(bytes);
        if (fd >= 0) {
            atomic_store(&m->memfd_bytes, bytes);
            atomic_store(&m->memfd, fd);
            hf_list_add_tail(&m->cache->mappings, &m->cache_link);
        }
    }
    hf_mutex_unlock(&m->cache->list_lock);
    return fd;
}

int hf_mapping_grow_memfd(struct hf_mapping *m, hf_off_t bytes)
{
    int fd = hf_mapping_memfd(m);
    hf_off_t want = hf_round_up(bytes, hf_page_bytes(m->cache));
    int r;

    if (fd < 0)
        return fd;
    if (atomic_load(&m->memfd_bytes) >= want)
        return 0;
    r = memfd_resize(fd, want);
    if (r < 0)
        return r;
    atomic_store(&m->memfd_bytes, want);
    return 0;
}

int hf_memfd_read(struct hf_mapping *m, void *buf, size_t len, hf_off_t off)
{
    int fd = atomic_load(&m->memfd);
    char *at = buf;

    while (len > 0) {
        ssize_t n = pread(fd, at, len, off);

        if (n < 0 && errno == EINTR)
            continue;
        if (n <= 0)
            return -EIO;
        at += n;
        len -= (size_t)n;
        off += n;
    }
    return 0;
}

int hf_memfd_write(struct hf_mapping *m, const void *buf, size_t len, hf_off_t off)
{
    const char *at = buf;

    while (len > 0) {
        ssize_t n = hf_memfd_pwrite(m, at, len, off);

        if (n == -EINTR)
            continue;
        if (n < 0)
            return (int)n;
        at += n;
        len -= (size_t)n;
        off += n;
    }
    return 0;
}

void hf_memfd_zero(struct hf_mapping *m, hf_off_t start, hf_off_t end)
{
    int fd = atomic_load(&m->memfd);

    /* Parts of pages that are there are zeroed where they lie, and nothing is made: so nothing can be
     * missing. */
    if (fd >= 0 && start < end)
        fallocate(fd, FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE, start, end - start);
}

int hf_mapping_instantiate(struct hf_mapping *m, hf_off_t off, hf_off_t len)
{
    int saved = errno;
    int r = fallocate(atomic_load(&m->memfd), FALLOC_FL_KEEP_SIZE, off, len) < 0 ? -ENOMEM : 0;

    errno = saved;
    return r;
}

void hf_mapping_vma_added(struct hf_mapping *m)
{
    atomic_fetch_add(&m->nr_vmas, 1u);
}

void hf_mapping_vma_removed(struct hf_mapping *m)
{
    atomic_fetch_sub(&m->nr_vmas, 1u);
}

uint32_t hf_mapping_page_size(const struct hf_mapping *m)
{
    return 1u << m->cache->page_shift;
}

hf_off_t hf_mapping_size(const struct hf_mapping *m)
{
    return hf_isize_read(m);
}

uint64_t hf_mapping_ino(const struct hf_mapping *m)
{
    return m->inode->ino;
}

struct hf_list *hf_mapping_i_mmap(struct hf_mapping *m)
{
    return &m->i_mmap;
}

struct hf_mutex *hf_mapping_i_mmap_lock(struct hf_mapping *m)
{
    return &m->i_mmap_lock;
}

unsigned hf_page_nr_blocks(const struct hf_mapping *m, const struct hf_page *page, hf_off_t size)
{
    hf_off_t start = hf_page_off(m, page->index);
    hf_off_t blocks;

    if (size <= start)
        return 0;
    blocks = (size - start + hf_block_bytes(m->cache) - 1) >> m->cache->block_shift;
    return blocks > (hf_off_t)m->cache->blocks_per_page ? m->cache->blocks_per_page : (unsigned)blocks;
}

hf_bits_t hf_page_blocks_of(const struct hf_mapping *m, const struct hf_page *page, hf_off_t off,
                            hf_off_t len)
{
    hf_off_t start = hf_page_off(m, page->index), end = start + hf_page_bytes(m->cache);
    unsigned first, last;

    if (off < start) {
        len -= start - off;
        off = start;
    }
    if (len <= 0 || off >= end)
        return 0;
    if (off + len > end)
        len = end - off;
    first = (unsigned)((off - start) >> m->cache->block_shift);
    last = (unsigned)((off + len - 1 - start) >> m->cache->block_shift);
    return hf_bits_range(first, last - first + 1);
}
