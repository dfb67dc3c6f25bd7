/* SPDX-License-Identifier: MIT */
/*
 * map_source.c - see map_source.h.
 */
#include "map_source.h"

#include "../fuse/control_map.h"
#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <sys/ioctl.h>
#include <unistd.h>

/* hf_page_info has a pointer to the name of the state: they live here. */
static const char *state_name(const char *name)
{
    static char known[32][HF_CONTROL_MAP_STATE];
    static unsigned nr;

    for (unsigned i = 0; i < nr; i++)
        if (!strncmp(known[i], name, HF_CONTROL_MAP_STATE - 1))
            return known[i];
    if (nr == sizeof(known) / sizeof(known[0]))
        return "other";
    memcpy(known[nr], name, HF_CONTROL_MAP_STATE - 1);
    return known[nr++];
}

static int ask(int fd, uint64_t first, unsigned count, struct hf_control_map *map)
{
    memset(map, 0, sizeof(*map));
    map->first = first;
    map->count = count < HF_CONTROL_MAP_PAGES ? count : HF_CONTROL_MAP_PAGES;
    if (ioctl(fd, (unsigned long)HF_CONTROL_IOC_MAP, map) < 0)
        return -errno;
    return map->count > HF_CONTROL_MAP_PAGES ? -EPROTO : 0;
}

int hf_map_source_mounted(int fd, struct hf_map_source *ret_source)
{
    struct hf_control_map map;
    int error = ask(fd, 0, 0, &map);

    if (error)
        return error;
    if (map.page_size == 0 || map.block_size == 0)
        return -ENOTTY; /* somebody else's ioctl of that number */
    *ret_source = (struct hf_map_source){.fd = fd, .page_size = map.page_size, .block_size = map.block_size};
    return 0;
}

int hf_map_source_stat(const struct hf_map_source *source, struct stat *ret_stat)
{
    if (source->file)
        return hf_fstat(source->file, ret_stat);
    return fstat(source->fd, ret_stat) < 0 ? -errno : 0;
}

static void page_of(const struct hf_control_page *told, uint64_t index, struct hf_page_info *ret_page)
{
    struct hf_page_info page = {
        .index = index,
        .state = state_name(told->state),
        .nr_blocks = told->nr_blocks < HF_BLOCKS_PER_PAGE_MAX ? told->nr_blocks : HF_BLOCKS_PER_PAGE_MAX,
        .straddling = told->straddling,
        .writable = told->writable,
    };

    for (unsigned i = 0; i < page.nr_blocks; i++) {
        page.block_state[i] = told->blocks[i] & HF_CONTROL_MAP_BLOCK;
        page.block_dirty[i] = (told->blocks[i] & HF_CONTROL_MAP_DIRTY) != 0;
        page.block_uptodate[i] = (told->blocks[i] & HF_CONTROL_MAP_UPTODATE) != 0;
    }
    *ret_page = page;
}

int hf_map_source_pages(const struct hf_map_source *source, uint64_t first, unsigned count,
                        struct hf_page_info *ret_pages)
{
    struct hf_control_map map;
    int error;

    if (source->file)
        return hf_page_map(source->file, first, count, ret_pages);
    error = ask(source->fd, first, count, &map);
    if (error)
        return error;
    for (unsigned i = 0; i < map.count; i++)
        page_of(&map.pages[i], first + i, &ret_pages[i]);
    return (int)map.count;
}

hf_off_t hf_map_source_data(const struct hf_map_source *source, hf_off_t off)
{
    off_t data;

    if (source->file)
        return hf_lseek(source->file, off, SEEK_DATA);
    data = lseek(source->fd, off, SEEK_DATA);
    return data < 0 ? -errno : data;
}
