/* SPDX-License-Identifier: MIT */
/*
 * volume.c - hf_mkfs() and volumes: names of drivers and devices to a mounted volume, and errors to one line
 * for people.
 */
#include "api/api.h"
#include "fs/blockfs/blockfs.h"
#include "fs/memfs/memfs.h"

#include <errno.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static _Thread_local char error_text[512];

int hf_api_fail(int error, const char *format, ...)
{
    va_list args;

    va_start(args, format);
    vsnprintf(error_text, sizeof(error_text), format, args);
    for (char *at = error_text; *at != '\0'; at++) /* some of it may be what a damaged volume says */
        if ((unsigned char)*at < 0x20 || *at == 0x7f)
            *at = '?';
    va_end(args);
    return error;
}

const char *hf_volume_error_text(void)
{
    return error_text;
}

static int mkfs(const char *path, const struct hf_mkfs_options *opts)
{
    char err[HF_BLOCKFS_ERR] = "";
    int r = hf_blockfs_mkfs_path(path, opts, err);

    return r < 0 ? hf_api_fail(r, "%s: %s", path, err[0] != '\0' ? err : strerror(-r)) : 0;
}

int hf_mkfs(const char *path, const struct hf_mkfs_options *opts)
{
    int r = hf_api_init();

    error_text[0] = '\0';
    if (path == NULL || path[0] == '\0')
        return hf_api_fail(-EINVAL, "no volume named");
    return r < 0 ? r : HF_CALL(int, mkfs(path, opts));
}

static const struct hf_open_options default_options;

static int mount(const struct hf_driver *driver, struct hf_device *dev, void *driver_options,
                 const char *name, const struct hf_open_options *opts, struct hf_volume **ret_volume)
{
    char err[256] = "";
    struct hf_mount_options how = {.driver = driver,
                                   .dev = dev,
                                   .driver_options = driver_options,
                                   .open = opts != NULL ? opts : &default_options,
                                   .error_text = err};
    char
        named[sizeof(((struct hf_device *)NULL)->name)]; /* name may be the device's, which goes on failure */
    struct hf_volume *vol;
    int r;

    snprintf(named, sizeof(named), "%s", name);
    r = hf_vfs_mount(&how, &vol);
    if (r < 0)
        return hf_api_fail(r, "%s: %s", named, err[0] != '\0' ? err : strerror(-r));
    hf_api_register(vol);
    *ret_volume = vol;
    return 0;
}

static int open_options_check(const struct hf_open_options *opts)
{
    if (opts == NULL)
        return 0;
    if (opts->flags &
        ~(HF_OPEN_READ_ONLY | HF_OPEN_NOATIME | HF_OPEN_STRICTATIME | HF_OPEN_KEEP_SUID | HF_OPEN_DISCARD))
        return hf_api_fail(-EINVAL, "open flags %#x are not known", opts->flags);
    if ((opts->flags & HF_OPEN_NOATIME) && (opts->flags & HF_OPEN_STRICTATIME))
        return hf_api_fail(-EINVAL, "noatime and strictatime exclude each other");
    if ((unsigned)opts->isize_sync > HF_ISIZE_NONE)
        return hf_api_fail(-EINVAL, "isize_sync %d is not known", (int)opts->isize_sync);
    return 0;
}

/* "64M" or "1048576": bytes; 0: not a size. */
static uint64_t size_parse(const char **at)
{
    char *end;
    unsigned long long n;
    unsigned shift = 0;

    errno = 0;
    n = strtoull(*at, &end, 10);
    if (errno != 0 || end == *at || **at == '-')
        return 0;
    if (*end == 'K' || *end == 'M' || *end == 'G')
        shift = *end == 'K' ? 10 : *end == 'M' ? 20 : 30;
    *at = end + (shift != 0);
    return n >> (63 - shift) != 0 ? 0 : (uint64_t)n << shift;
}

/* mem:SIZE[,BLOCKSIZE] */
static int open_mem(const char *spec, const struct hf_open_options *opts, struct hf_volume **ret_volume)
{
    const char *at = spec + strlen("mem:");
    struct hf_memfs_options mem = {.block_size = 4096};

    mem.size_bytes = size_parse(&at);
    if (mem.size_bytes != 0 && *at == ',') {
        at++;
        mem.block_size = (uint32_t)size_parse(&at);
    }
    if (mem.size_bytes == 0 || *at != '\0')
        return hf_api_fail(-EINVAL, "%s: expected mem:SIZE or mem:SIZE,BLOCKSIZE, for example mem:64M,1K",
                           spec);
    return mount(&hf_memfs_driver, NULL, &mem, spec, opts, ret_volume);
}

static int open_path(const char *path, const struct hf_open_options *opts, struct hf_volume **ret_volume)
{
    bool read_only = opts != NULL && (opts->flags & HF_OPEN_READ_ONLY);
    struct hf_device *dev;
    int r;

    if (strncmp(path, "mem:", 4) == 0)
        return open_mem(path, opts, ret_volume);
    /* HF_DEV_THIN only offers guarantee() and discard(): the driver asks for them on thin volumes alone */
    r = hf_device_file_open(path, read_only ? HF_DEV_READ_ONLY : HF_DEV_THIN, 0, &dev);
    if (r == -EBUSY)
        return hf_api_fail(r, "%s: open already, by this or another process: close it there first", path);
    if (r < 0)
        return hf_api_fail(r, "%s: %s", path, strerror(-r));
    return mount(&hf_blockfs_driver, dev, NULL, path, opts, ret_volume);
}

int hf_volume_open(const char *path, const struct hf_open_options *opts, struct hf_volume **ret_volume)
{
    int r = hf_api_init();

    error_text[0] = '\0';
    if (path == NULL || path[0] == '\0' || ret_volume == NULL)
        return hf_api_fail(-EINVAL, "no volume named");
    if (r == 0)
        r = open_options_check(opts);
    return r < 0 ? r : HF_CALL(int, open_path(path, opts, ret_volume));
}

int hf_volume_open_device(struct hf_device *dev, const struct hf_open_options *opts,
                          struct hf_volume **ret_volume)
{
    int r = hf_api_init();

    error_text[0] = '\0';
    if (dev == NULL)
        return hf_api_fail(-EINVAL, "no device");
    if (r == 0)
        r = ret_volume == NULL ? hf_api_fail(-EINVAL, "no place for the volume") : open_options_check(opts);
    if (r < 0) {
        dev->ops->close(dev);
        return r;
    }
    return HF_CALL(int, mount(&hf_blockfs_driver, dev, NULL, dev->name, opts, ret_volume));
}

static int close_volume(struct hf_volume *vol)
{
    int r;

    hf_api_unregister(vol);
    r = hf_vfs_unmount(vol);
    if (r == -EBUSY)
        hf_api_register(vol);
    return r;
}

int hf_volume_close(struct hf_volume *vol)
{
    return vol == NULL ? -EINVAL : HF_CALL(int, close_volume(vol));
}

int hf_volume_sync(struct hf_volume *vol)
{
    return vol == NULL ? -EINVAL : HF_CALL(int, hf_vfs_sync(vol));
}

int hf_volume_statfs(struct hf_volume *vol, struct hf_statfs *ret_statfs)
{
    return vol == NULL || ret_statfs == NULL ? -EINVAL : HF_CALL(int, hf_vfs_statfs(vol, ret_statfs));
}

int hf_volume_stats(struct hf_volume *vol, struct hf_volume_stats *ret_stats)
{
    return vol == NULL || ret_stats == NULL ? -EINVAL : HF_CALL(int, hf_vfs_stats(vol, ret_stats));
}
