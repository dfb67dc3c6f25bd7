/* SPDX-License-Identifier: MIT */
/*
 * mount.c - a volume from mount to unmount.
 *
 * Unmount writes everything, evicts every inode, and then looks whether a reservation is left (HOLD-8): by
 * the cache's own count and by the driver's.
 */
#include "vfs/vfs.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static int check_page_size(struct hf_super *sb, char *error_text)
{
    uint32_t hw = hf_hw_page_size(), p = sb->page_size;

    if (p == 0)
        sb->page_size = p = sb->block_size > hw ? sb->block_size : hw;
    if (p >= hw && p <= HF_PAGE_SIZE_MAX && (p & (p - 1)) == 0 && p >= sb->block_size)
        return 0;
    snprintf(error_text, 256,
             "page size %u: must be a power of two, %u ... %u, and at least the block size %u", p, hw,
             HF_PAGE_SIZE_MAX, sb->block_size);
    return -EINVAL;
}

static int start_cache(struct hf_volume *vol, const struct hf_open_options *open, char *error_text)
{
    struct hf_cache_config config = {
        .isize_sync = open->isize_sync, .cache_bytes = open->cache_bytes, .dirty_bytes = open->dirty_bytes};
    int r = check_page_size(&vol->sb, error_text);

    if (r == 0)
        r = hf_cache_new(&vol->sb, &config, &vol->cache);
    if (r == -EINVAL && error_text[0] == '\0')
        snprintf(error_text, 256, "isize_sync=none loses data on purpose: it exists in test builds only");
    return r;
}

static int start_running(struct hf_volume *vol)
{
    int r = hf_vnode_iget(vol, vol->sb.root_ino, &vol->root);

    if (r == 0)
        r = hf_flusher_start(vol);
    return r;
}

static struct hf_volume *volume_new(const struct hf_mount_options *how)
{
    struct hf_volume *vol = calloc(1, sizeof(*vol));

    if (vol == NULL)
        return NULL;
    vol->sb.driver = how->driver;
    vol->sb.dev = how->dev;
    vol->sb.page_size = how->open->page_size;
    vol->sb.read_only = how->open->flags & HF_OPEN_READ_ONLY;
    vol->sb.discard = how->open->flags & HF_OPEN_DISCARD;
    vol->open_flags = how->open->flags;
    vol->sb.fs = how->driver_options;
    vol->writeback_ms = how->open->writeback_ms != 0 ? how->open->writeback_ms : 5000;
    hf_mutex_init(&vol->names_lock, HF_RANK_VOLUME);
    hf_mutex_init(&vol->icache_lock, HF_RANK_ICACHE);
    for (unsigned i = 0; i < HF_ICACHE_BUCKETS; i++)
        hf_list_init(&vol->buckets[i]);
    hf_list_init(&vol->idle);
    hf_list_init(&vol->all_link);
    return vol;
}

/* Ends what hf_vfs_mount() and the volume's life have built. Returns the blocks still reserved. */
static uint64_t volume_free(struct hf_volume *vol, bool mounted, int *ret_error)
{
    uint64_t leaked = 0;

    hf_flusher_stop(vol);
    hf_vnode_put(vol->root);
    if (vol->cache != NULL) {
        int r = hf_icache_drain(vol, true);
        *ret_error = *ret_error != 0 ? *ret_error : r;
        leaked = hf_cache_free(vol->cache);
    }
    if (mounted) {
        struct hf_statfs st = {0};
        int r;

        if (vol->sb.driver->statfs(&vol->sb, &st) == 0)
            leaked += st.blocks_reserved;
        r = vol->sb.driver->unmount(&vol->sb);
        *ret_error = *ret_error != 0 ? *ret_error : r;
    }
    if (vol->sb.dev != NULL)
        vol->sb.dev->ops->close(vol->sb.dev);
    free(vol);
    return leaked;
}

int hf_vfs_mount(const struct hf_mount_options *how, struct hf_volume **ret_volume)
{
    struct hf_volume *vol = volume_new(how);
    bool mounted;
    int r, ignored = 0;

    how->error_text[0] = '\0';
    if (vol == NULL) {
        if (how->dev != NULL)
            how->dev->ops->close(how->dev);
        return -ENOMEM;
    }
    r = how->driver->mount(&vol->sb);
    mounted = r == 0;
    memcpy(how->error_text, vol->sb.error_text, sizeof(vol->sb.error_text));
    if (r == 0)
        r = start_cache(vol, how->open, how->error_text);
    if (r == 0)
        r = start_running(vol);
    if (r < 0 && how->error_text[0] == '\0') /* the driver has said what is wrong with the root */
        memcpy(how->error_text, vol->sb.error_text, sizeof(vol->sb.error_text));
    if (r < 0) {
        volume_free(vol, mounted, &ignored);
        return r;
    }
    *ret_volume = vol;
    return 0;
}

int hf_vfs_unmount(struct hf_volume *vol)
{
    uint64_t leaked;
    int r = 0;

    hf_mutex_lock(&vol->icache_lock);
    if (vol->nr_handles != 0)
        r = -EBUSY;
    hf_mutex_unlock(&vol->icache_lock);
    if (r < 0)
        return r;
    hf_flusher_stop(vol);
    r = hf_vfs_sync(vol);
    leaked = volume_free(vol, true, &r);
    return r == 0 && leaked != 0 ? -ENOTRECOVERABLE : r; /* data that is lost weighs more */
}

int hf_vfs_statfs(struct hf_volume *vol, struct hf_statfs *ret_statfs)
{
    struct hf_statfs st = {0};
    int r = vol->sb.driver->statfs(&vol->sb, &st);

    if (r < 0)
        return r;
    st.block_size = vol->sb.block_size;
    st.page_size = vol->sb.page_size;
    snprintf(st.driver, sizeof(st.driver), "%s", vol->sb.driver->name);
    *ret_statfs = st;
    return 0;
}

int hf_vfs_stats(struct hf_volume *vol, struct hf_volume_stats *ret_stats)
{
    struct hf_cache *c = vol->cache;

    *ret_stats = (struct hf_volume_stats){
#define X(name) .name = atomic_load(&c->stats.name),
        HF_CACHE_STATS(X)
#undef X
            .cached_pages = atomic_load(&c->nr_pages),
        .dirty_pages = atomic_load(&c->nr_dirty),
    };
    return 0;
}

void hf_vfs_latency(struct hf_volume *vol, enum hf_fault_kind kind, struct hf_latency *ret_latency)
{
    hf_histogram_read(&vol->cache->latency[kind], ret_latency);
}

int hf_vfs_grow(struct hf_volume *vol, uint64_t size_bytes, char error_text[256])
{
    const struct hf_driver *driver = vol->sb.driver;

    if (driver->grow == NULL)
        return -EOPNOTSUPP;
    return vol->sb.read_only ? -EROFS : driver->grow(&vol->sb, size_bytes, error_text);
}

int hf_vfs_trim(struct hf_volume *vol, uint64_t min_bytes, uint64_t *ret_bytes, char error_text[256])
{
    const struct hf_driver *driver = vol->sb.driver;

    return driver->trim == NULL ? -EOPNOTSUPP : driver->trim(&vol->sb, min_bytes, ret_bytes, error_text);
}
