/* SPDX-License-Identifier: MIT */
/*
 * info.c - the cache as seen from outside: pages for the map drawing, data for SEEK_DATA.
 */
#include "cache/mapping.h"

#include <string.h>

static void block_info(struct hf_mapping *m, struct hf_page *page, unsigned nr_inside, hf_bits_t written,
                       struct hf_page_info *info)
{
    for (unsigned i = 0; i < m->cache->blocks_per_page; i++) {
        enum hf_block_state state = HF_BLOCK_HOLE;

        if (i >= nr_inside)
            state = HF_BLOCK_BEYOND;
        else if (page->reserved & hf_bit(i))
            state = HF_BLOCK_RESERVED;
        else if (written & hf_bit(i))
            state = HF_BLOCK_WRITTEN;
        else if (page->allocated & hf_bit(i))
            state = HF_BLOCK_UNWRITTEN;
        info->block_state[i] = (uint8_t)state;
        info->block_dirty[i] = ((page->dirty | page->writeback) & hf_bit(i)) != 0;
        info->block_uptodate[i] = (page->uptodate & hf_bit(i)) != 0;
    }
}

static int page_info(struct hf_mapping *m, struct hf_page *page, hf_off_t size, struct hf_page_info *info)
{
    hf_off_t end = hf_page_off(m, page->index + 1);
    hf_bits_t written = 0;
    int r;

    memset(info, 0, sizeof(*info));
    hf_mutex_lock(&page->lock);
    r = hf_page_map_blocks(m, page, 0, &written);
    info->index = page->index;
    info->state = hf_page_state_name((enum hf_page_state)page->state);
    info->nr_blocks = (uint16_t)m->cache->blocks_per_page;
    info->straddling = size > hf_page_off(m, page->index) && size < end;
    info->writable = hf_page_is_writable(page);
    if (r == 0)
        block_info(m, page, hf_page_nr_blocks(m, page, size), written, info);
    hf_mutex_unlock(&page->lock);
    return r;
}

int hf_mapping_page_info(struct hf_mapping *m, hf_pgoff_t first, unsigned count,
                         struct hf_page_info *ret_pages)
{
    hf_off_t size = hf_isize_read(m);
    unsigned n = 0;
    int r = 0;

    while (r == 0 && n < count && first + n < (UINT64_MAX >> 16) && hf_page_off(m, first + n) < size) {
        struct hf_page_info info; /* the caller's may lie in a mapping: it is written without locks */
        struct hf_page *found, absent = {.index = first + n};

        hf_rwlock_rdlock(&m->map_lock);
        found = hf_page_find(m, first + n);
        if (found == NULL)
            hf_mutex_init(&absent.lock, HF_RANK_PAGE);
        r = page_info(m, found != NULL ? found : &absent, size, &info);
        hf_rwlock_rdunlock(&m->map_lock);
        if (r == 0)
            ret_pages[n++] = info;
    }
    return r < 0 ? r : (int)n;
}

/* A dirty block over a hole is data unless it is all zero: a window's page that nobody stored to is still a
 * hole. */
static bool block_nonzero(struct hf_mapping *m, hf_off_t off)
{
    char buf[4096];
    hf_off_t end = off + hf_block_bytes(m->cache);

    for (; off < end; off += (hf_off_t)sizeof(buf)) {
        size_t n = end - off < (hf_off_t)sizeof(buf) ? (size_t)(end - off) : sizeof(buf);

        if (hf_memfd_read(m, buf, n, off) < 0 || buf[0] != 0 || memcmp(buf, buf + 1, n - 1) != 0)
            return true;
    }
    return false;
}

bool hf_mapping_block_has_data(struct hf_mapping *m, hf_off_t off)
{
    struct hf_page *page = hf_page_find(m, hf_page_index(m, off));
    hf_off_t block = off & ~(hf_block_bytes(m->cache) - 1);
    hf_bits_t bit;
    bool data;

    if (page == NULL)
        return false;
    hf_mutex_lock(&page->lock);
    bit = hf_page_blocks_of(m, page, block, 1);
    data = ((page->dirty | page->writeback) & bit) != 0 && block_nonzero(m, block);
    hf_mutex_unlock(&page->lock);
    return data;
}
