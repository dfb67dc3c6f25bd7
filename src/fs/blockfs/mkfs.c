/* SPDX-License-Identifier: MIT */
/*
 * mkfs.c - making a volume.
 *
 * Order of writes: space is asked for, the old headers go, flush, the database, flush, the new headers,
 * primary last. Whatever interrupts it leaves the old volume, no volume, or the new one; and until the old
 * headers go nothing of what was there has been touched. Neighbours: header.c, metadb.c; hf_mkfs() in src/api
 * calls hf_blockfs_mkfs_path().
 */
#define _GNU_SOURCE
#include "dev/dev_file.h"
#include "dev/device_io.h"
#include "fs/blockfs/metadb.h"

#include <inttypes.h>
#include <stdio.h>
#include <string.h>
#include <sys/random.h>
#include <time.h>
#include <unistd.h>

static int header_fill(struct hf_blockfs_header *header, char *err)
{
    struct timespec now;

    if (getrandom(header->uuid, sizeof(header->uuid), 0) != (ssize_t)sizeof(header->uuid)) {
        snprintf(err, HF_BLOCKFS_ERR, "no random numbers for the UUID: %s", strerror(errno));
        return -EIO;
    }
    header->uuid[6] = (uint8_t)((header->uuid[6] & 0x0f) | 0x40); /* RFC 4122: version 4 */
    header->uuid[8] = (uint8_t)((header->uuid[8] & 0x3f) | 0x80);
    clock_gettime(CLOCK_REALTIME, &now);
    header->created_ns = (int64_t)now.tv_sec * 1000000000 + now.tv_nsec;
    header->generation = 1;
    return 0;
}

static int refuse_volume(struct hf_device *dev, const struct hf_mkfs_options *opts, char *err)
{
    int ret = opts && opts->force ? 0 : hf_blockfs_header_probe(dev);

    if (ret > 0) {
        snprintf(err, HF_BLOCKFS_ERR, "holds a volume already: force is needed to overwrite it");
        return -EEXIST;
    }
    if (ret < 0)
        snprintf(err, HF_BLOCKFS_ERR, "cannot read the header: %s", strerror(-ret));
    return ret;
}

#define THIN_METADB_BYTES (512u << 10) /* of the metadata region: so that the first mount need not ask */

/* Thin volumes own their headers and the WAL; the metadata region's space is asked for before it is needed
 * (HOLD-10, thin.c). */
static int guarantee_space(struct hf_device *dev, const struct hf_blockfs_header *header, char *err)
{
    hf_off_t all = (hf_off_t)header->volume_bytes;
    int ret;

    if (header->flags & HF_BLOCKFS_THIN) {
        hf_off_t first =
            header->metadb_len < THIN_METADB_BYTES ? (hf_off_t)header->metadb_len : THIN_METADB_BYTES;

        ret = hf_dev_guarantee(dev, 0, (hf_off_t)header->metadb_off + first);
        if (!ret)
            ret = hf_dev_guarantee(dev, (hf_off_t)header->wal_off, (hf_off_t)header->wal_len);
        if (!ret)
            ret = hf_dev_guarantee(dev, all - HF_BLOCKFS_HEADER_BYTES, HF_BLOCKFS_HEADER_BYTES);
    } else {
        ret = hf_dev_guarantee(dev, 0, all);
    }
    if (ret)
        snprintf(err, HF_BLOCKFS_ERR, "cannot allocate %" PRIu64 " bytes: %s", header->volume_bytes,
                 strerror(-ret));
    return ret;
}

static int mkfs_write(struct hf_device *dev, const struct hf_blockfs_header *header, char *err)
{
    int ret = hf_blockfs_header_erase(dev);

    if (!ret) {
        ret = hf_metadb_format(dev, header, err);
        if (ret)
            return ret;
        ret = hf_blockfs_header_write(dev, header);
    }
    if (ret) {
        snprintf(err, HF_BLOCKFS_ERR, "cannot write the header: %s", strerror(-ret));
        /* One copy may stand; a volume whose making failed must not. Best effort: the device is failing. */
        hf_blockfs_header_erase(dev);
    }
    return ret;
}

int hf_blockfs_mkfs(struct hf_device *dev, const struct hf_mkfs_options *opts, char err[HF_BLOCKFS_ERR])
{
    uint64_t bytes = opts && opts->size_bytes ? opts->size_bytes : (uint64_t)dev->size_bytes;
    struct hf_blockfs_header header;
    int ret;

    if (dev->read_only) {
        snprintf(err, HF_BLOCKFS_ERR, "the device is read-only");
        return -EROFS;
    }
    if (bytes > (uint64_t)dev->size_bytes) {
        snprintf(err, HF_BLOCKFS_ERR, "a volume of %" PRIu64 " bytes does not fit: the device has %" PRId64,
                 bytes, dev->size_bytes);
        return -ENOSPC;
    }
    ret = hf_blockfs_layout(bytes, opts, &header, err);
    if (!ret)
        ret = refuse_volume(dev, opts, err);
    if (!ret)
        ret = header_fill(&header, err);
    if (!ret)
        ret = guarantee_space(dev, &header, err);
    return ret ? ret : mkfs_write(dev, &header, err);
}

/* ---- by path */

static int open_fail(char *err, int error)
{
    snprintf(err, HF_BLOCKFS_ERR, "%s", error == -EBUSY ? "in use: somebody has it open" : strerror(-error));
    return error;
}

/* A file that exists: nothing of it changes, its size included, before it is known not to be a volume. */
static int mkfs_existing(struct hf_device *dev, const struct hf_mkfs_options *opts, char *err)
{
    hf_off_t old_bytes = dev->size_bytes;
    hf_off_t bytes = opts && opts->size_bytes ? (hf_off_t)opts->size_bytes : old_bytes;
    int ret = refuse_volume(dev, opts, err);

    if (ret)
        return ret;
    if (bytes != old_bytes) {
        ret = hf_device_file_resize(dev, bytes);
        if (ret && ret != -EOPNOTSUPP) /* a block device stays as large as it is */
            return open_fail(err, ret);
    }
    ret = hf_blockfs_mkfs(dev, opts, err);
    if (ret && dev->size_bytes > old_bytes)
        hf_device_file_resize(dev, old_bytes);
    return ret;
}

int hf_blockfs_mkfs_path(const char *path, const struct hf_mkfs_options *opts, char err[HF_BLOCKFS_ERR])
{
    uint64_t bytes = opts ? opts->size_bytes : 0;
    struct hf_blockfs_header header;
    struct hf_device *dev;
    int ret;

    ret = bytes ? hf_blockfs_layout(bytes, opts, &header, err) : 0;
    if (ret)
        return ret;
    /* HF_DEV_THIN: so that the device has guarantee(), which preallocates a thick volume as well. */
    ret = hf_device_file_open(path, HF_DEV_THIN, 0, &dev);
    if (!ret) {
        ret = mkfs_existing(dev, opts, err);
        hf_dev_close(dev);
        return ret;
    }
    if (ret != -ENOENT || bytes == 0) {
        open_fail(err, ret);
        if (ret == -ENOENT)
            snprintf(err, HF_BLOCKFS_ERR, "does not exist: a size is needed to create it");
        return ret;
    }
    ret = hf_device_file_open(path, HF_DEV_THIN | HF_DEV_CREATE, (hf_off_t)bytes, &dev);
    if (ret)
        return open_fail(err, ret);
    ret = hf_blockfs_mkfs(dev, opts, err);
    if (ret)
        unlink(path);
    hf_dev_close(dev);
    return ret;
}
