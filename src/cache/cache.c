/* SPDX-License-Identifier: MIT */
/*
 * cache.c - the cache of one volume: limits, memory, I/O buffers.
 */
#include "cache/mapping.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#define NODE_BYTES (64 * sizeof(uintptr_t)) /* struct node of tree.c */

const struct hf_mm_ops *hf_mm_ops;

void hf_mm_ops_set(const struct hf_mm_ops *ops)
{
    hf_mm_ops = ops;
}

static uint32_t log2_of(uint32_t power_of_two)
{
    return (uint32_t)__builtin_ctz(power_of_two);
}

static uint64_t default_cache_bytes(void)
{
    return (uint64_t)sysconf(_SC_PHYS_PAGES) * (uint64_t)sysconf(_SC_PAGESIZE) / 8;
}

static void cache_limits(struct hf_cache *c, const struct hf_cache_config *config)
{
    uint64_t bytes = config->cache_bytes != 0 ? config->cache_bytes : default_cache_bytes();
    uint64_t dirty = config->dirty_bytes != 0 ? config->dirty_bytes : bytes / 4;

    c->limit_pages = bytes >> c->page_shift;
    if (c->limit_pages < 64)
        c->limit_pages = 64;
    c->dirty_limit_pages = dirty >> c->page_shift;
    if (c->dirty_limit_pages < 16)
        c->dirty_limit_pages = 16;
}

int hf_cache_new(struct hf_super *sb, const struct hf_cache_config *config, struct hf_cache **ret_cache)
{
    const struct hf_isize_ops *isize = hf_isize_ops_get(config->isize_sync);
    struct hf_cache *c;
    int r;

    if (isize == NULL)
        return -EINVAL;
    c = calloc(1, sizeof(*c));
    if (c == NULL)
        return -ENOMEM;
    c->sb = sb;
    c->isize = isize;
    c->page_shift = log2_of(sb->page_size);
    c->block_shift = log2_of(sb->block_size);
    c->hw_shift = log2_of(hf_hw_page_size());
    c->blocks_per_page = sb->page_size / sb->block_size;
    cache_limits(c, config);
    hf_slab_init(&c->group_slab, sizeof(struct hf_page_group));
    hf_slab_init(&c->node_slab, NODE_BYTES);
    hf_mutex_init(&c->list_lock, HF_RANK_ICACHE);
    hf_mutex_init(&c->squeeze_lock, HF_RANK_SQUEEZE);
    hf_list_init(&c->mappings);
    r = hf_service_new(&c->service);
    if (r < 0) {
        free(c);
        return r;
    }
    *ret_cache = c;
    return 0;
}

uint64_t hf_cache_free(struct hf_cache *c)
{
    uint64_t leaked = atomic_load(&c->nr_reserved);
    void *next;

    hf_service_free(c->service);
    for (void *b = c->io_buffers; b != NULL; b = next) {
        next = *(void **)b;
        munmap(b, HF_IO_BYTES);
    }
    hf_slab_done(&c->group_slab);
    hf_slab_done(&c->node_slab);
    free(c);
    return leaked;
}

void *hf_cache_buffer_get(struct hf_cache *c)
{
    void *b;

    hf_mutex_lock(&c->list_lock);
    b = c->io_buffers;
    if (b != NULL)
        c->io_buffers = *(void **)b;
    hf_mutex_unlock(&c->list_lock);
    if (b != NULL)
        return b;
    b = mmap(NULL, HF_IO_BYTES, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    return b == MAP_FAILED ? NULL : b;
}

void hf_cache_buffer_put(struct hf_cache *c, void *buffer)
{
    if (buffer == NULL)
        return;
    hf_mutex_lock(&c->list_lock);
    *(void **)buffer = c->io_buffers;
    c->io_buffers = buffer;
    hf_mutex_unlock(&c->list_lock);
}

/* The next mapping of the list, pinned against eviction; the list turns. */
static struct hf_mapping *mapping_next(struct hf_cache *c)
{
    struct hf_mapping *m = NULL;

    hf_mutex_lock(&c->list_lock);
    if (!hf_list_empty(&c->mappings)) {
        m = hf_list_entry(c->mappings.next, struct hf_mapping, cache_link);
        hf_list_del(&m->cache_link);
        hf_list_add_tail(&c->mappings, &m->cache_link);
        atomic_fetch_add(&m->reclaim_users, 1u);
    }
    hf_mutex_unlock(&c->list_lock);
    return m;
}

static unsigned count_mappings(struct hf_cache *c)
{
    struct hf_list *at;
    unsigned nr = 0;

    hf_mutex_lock(&c->list_lock);
    hf_list_for_each (at, &c->mappings)
        nr++;
    hf_mutex_unlock(&c->list_lock);
    return nr;
}

void hf_cache_each_mapping(struct hf_cache *c, void (*fn)(struct hf_mapping *m, void *arg), void *arg)
{
    for (unsigned left = count_mappings(c); left > 0; left--) {
        struct hf_mapping *m = mapping_next(c);

        if (m == NULL)
            return;
        fn(m, arg);
        atomic_fetch_sub(&m->reclaim_users, 1u);
    }
}
