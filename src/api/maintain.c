/* SPDX-License-Identifier: MIT */
/*
 * maintain.c - what maintain.h offers: volumes that nobody has open, by path or by device.
 */
#include "api/api.h"
#include "dev/device_io.h"
#include "fs/blockfs/blockfs.h"
#include "fs/blockfs/check.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>

static const struct hf_check_options no_options;

static int check_options(const struct hf_check_options *opts)
{
    if (opts->flags & ~HF_CHECK_REPAIR)
        return hf_api_fail(-EINVAL, "check flags %#x are not known", opts->flags);
    return 0;
}

static int check_device(struct hf_device *dev, const struct hf_check_options *opts,
                        struct hf_check_result *ret_result)
{
    char err[HF_BLOCKFS_ERR] = "";
    struct hf_check_result result;
    int r = hf_blockfs_check(dev, opts, &result, err);

    if (r < 0)
        return hf_api_fail(r, "%s: %s", dev->name, err[0] != '\0' ? err : strerror(-r));
    if (ret_result != NULL)
        *ret_result = result;
    return 0;
}

int hf_check_device(struct hf_device *dev, const struct hf_check_options *opts,
                    struct hf_check_result *ret_result)
{
    int r = hf_api_init();

    opts = opts != NULL ? opts : &no_options;
    hf_api_fail(0, "%s", "");
    if (dev == NULL)
        return hf_api_fail(-EINVAL, "no device");
    if (r == 0)
        r = check_options(opts);
    return r < 0 ? r : HF_CALL(int, check_device(dev, opts, ret_result));
}

/* Opens the device of a volume for maintenance. */
static int open_device(const char *path, bool read_only, struct hf_device **ret_dev)
{
    int r = hf_device_file_open(path, read_only ? HF_DEV_READ_ONLY : HF_DEV_THIN, 0, ret_dev);

    if (r == -EBUSY)
        return hf_api_fail(r, "%s: open already, by this or another process: close it there first", path);
    return r < 0 ? hf_api_fail(r, "%s: %s", path, strerror(-r)) : 0;
}

static int check_path(const char *path, const struct hf_check_options *opts,
                      struct hf_check_result *ret_result)
{
    struct hf_device *dev;
    int r = open_device(path, (opts->flags & HF_CHECK_REPAIR) == 0, &dev);

    if (r < 0)
        return r;
    r = check_device(dev, opts, ret_result);
    hf_dev_close(dev);
    return r;
}

int hf_check(const char *path, const struct hf_check_options *opts, struct hf_check_result *ret_result)
{
    int r = hf_api_init();

    opts = opts != NULL ? opts : &no_options;
    hf_api_fail(0, "%s", "");
    if (path == NULL || path[0] == '\0')
        return hf_api_fail(-EINVAL, "no volume named");
    if (r == 0)
        r = check_options(opts);
    return r < 0 ? r : HF_CALL(int, check_path(path, opts, ret_result));
}

/* ---- the header */

static int fail_text(const char *path, int r, const char *err)
{
    return hf_api_fail(r, "%s: %s", path, err[0] != '\0' ? err : strerror(-r));
}

static void info_fill(const struct hf_blockfs_header *header, const struct hf_device *dev,
                      enum hf_blockfs_copy copy, struct hf_header_info *ret_info)
{
    *ret_info = (struct hf_header_info){
        .version = header->version,
        .block_size = header->block_size,
        .compat = header->compat,
        .ro_compat = header->ro_compat,
        .incompat = header->incompat,
        .thin = (header->flags & HF_BLOCKFS_THIN) != 0,
        .from_copy = copy == HF_BLOCKFS_COPY_BACKUP,
        .generation = header->generation,
        .volume_bytes = header->volume_bytes,
        .device_bytes = (uint64_t)dev->size_bytes,
        .metadb_off = header->metadb_off,
        .metadb_len = header->metadb_len,
        .wal_off = header->wal_off,
        .wal_len = header->wal_len,
        .data_off = header->data_off,
        .data_len = header->data_len,
        .data_blocks = header->data_blocks,
        .created_ns = header->created_ns,
    };
    ret_info->nr_segments = header->nr_segments;
    for (uint32_t i = 0; i < header->nr_segments; i++) {
        ret_info->segment_off[i] = header->segments[i].off;
        ret_info->segment_len[i] = header->segments[i].len;
    }
    memcpy(ret_info->uuid, header->uuid, sizeof(ret_info->uuid));
    memcpy(ret_info->label, header->label, sizeof(ret_info->label));
}

static int header_read(const char *path, struct hf_header_info *ret_info)
{
    struct hf_blockfs_header header;
    char err[HF_BLOCKFS_ERR] = "";
    enum hf_blockfs_copy copy;
    struct hf_device *dev;
    int r = open_device(path, true, &dev);

    if (r < 0)
        return r;
    r = hf_blockfs_header_read(dev, true, &header, &copy, err);
    if (r == 0)
        info_fill(&header, dev, copy, ret_info);
    hf_dev_close(dev);
    return r < 0 ? fail_text(path, r, err) : 0;
}

int hf_header_read(const char *path, struct hf_header_info *ret_info)
{
    int r = hf_api_init();

    hf_api_fail(0, "%s", "");
    if (path == NULL || path[0] == '\0' || ret_info == NULL)
        return hf_api_fail(-EINVAL, "no volume named");
    return r < 0 ? r : HF_CALL(int, header_read(path, ret_info));
}

static int header_set(struct hf_device *dev, const char *label, const uint8_t *uuid)
{
    struct hf_blockfs_header header;
    char err[HF_BLOCKFS_ERR] = "";
    enum hf_blockfs_copy copy;
    int r;

    if (label != NULL && strlen(label) >= sizeof(header.label))
        return hf_api_fail(-EINVAL, "the label is longer than %zu bytes", sizeof(header.label) - 1);
    r = hf_blockfs_header_read(dev, false, &header, &copy, err);
    if (r < 0)
        return fail_text(dev->name, r, err);
    /* With one copy left, writing it could lose it. */
    if (copy == HF_BLOCKFS_COPY_BACKUP)
        return hf_api_fail(-EUCLEAN, "%s: the primary header is damaged; repair it first", dev->name);
    if (label != NULL) {
        memset(header.label, 0, sizeof(header.label));
        memcpy(header.label, label, strlen(label));
    }
    if (uuid != NULL)
        memcpy(header.uuid, uuid, sizeof(header.uuid));
    header.generation++;
    r = hf_blockfs_header_write(dev, &header);
    return r < 0 ? fail_text(dev->name, r, "") : 0;
}

int hf_header_set_device(struct hf_device *dev, const char *label, const uint8_t *uuid)
{
    int r = hf_api_init();

    hf_api_fail(0, "%s", "");
    if (dev == NULL)
        return hf_api_fail(-EINVAL, "no device");
    return r < 0 ? r : HF_CALL(int, header_set(dev, label, uuid));
}

static int header_set_path(const char *path, const char *label, const uint8_t *uuid)
{
    struct hf_device *dev;
    int r = open_device(path, false, &dev);

    if (r < 0)
        return r;
    r = header_set(dev, label, uuid);
    hf_dev_close(dev);
    return r;
}

static int set_path(const char *path, const char *label, const uint8_t *uuid)
{
    int r = hf_api_init();

    hf_api_fail(0, "%s", "");
    if (path == NULL || path[0] == '\0')
        return hf_api_fail(-EINVAL, "no volume named");
    return r < 0 ? r : HF_CALL(int, header_set_path(path, label, uuid));
}

int hf_label_set(const char *path, const char *label)
{
    return label == NULL ? -EINVAL : set_path(path, label, NULL);
}

int hf_uuid_set(const char *path, const uint8_t uuid[16])
{
    return uuid == NULL ? -EINVAL : set_path(path, NULL, uuid);
}

/* ---- growing */

static int grow_volume(struct hf_volume *volume, uint64_t new_bytes)
{
    char err[HF_BLOCKFS_ERR] = "";
    int r = hf_vfs_grow(volume, new_bytes, err);

    return r < 0 ? hf_api_fail(r, "%s", err[0] != '\0' ? err : strerror(-r)) : 0;
}

int hf_volume_grow(struct hf_volume *volume, uint64_t new_bytes)
{
    return volume == NULL ? -EINVAL : HF_CALL(int, grow_volume(volume, new_bytes));
}

static int grow_device(struct hf_device *dev, uint64_t new_bytes)
{
    char err[HF_BLOCKFS_ERR] = "";
    int r = hf_blockfs_grow_device(dev, new_bytes, err);

    return r < 0 ? fail_text(dev->name, r, err) : 0;
}

int hf_grow_device(struct hf_device *dev, uint64_t new_bytes)
{
    int r = hf_api_init();

    hf_api_fail(0, "%s", "");
    if (dev == NULL)
        return hf_api_fail(-EINVAL, "no device");
    return r < 0 ? r : HF_CALL(int, grow_device(dev, new_bytes));
}

static int grow_path(const char *path, uint64_t new_bytes)
{
    struct hf_device *dev;
    int r = open_device(path, false, &dev);

    if (r < 0)
        return r;
    r = grow_device(dev, new_bytes);
    hf_dev_close(dev);
    return r;
}

int hf_grow(const char *path, uint64_t new_bytes)
{
    int r = hf_api_init();

    hf_api_fail(0, "%s", "");
    if (path == NULL || path[0] == '\0')
        return hf_api_fail(-EINVAL, "no volume named");
    return r < 0 ? r : HF_CALL(int, grow_path(path, new_bytes));
}

/* ---- trimming */

static int trim_volume(struct hf_volume *volume, uint64_t min_bytes, uint64_t *ret_bytes)
{
    char err[HF_BLOCKFS_ERR] = "";
    int r = hf_vfs_trim(volume, min_bytes, ret_bytes, err);

    return r < 0 ? hf_api_fail(r, "%s", err[0] != '\0' ? err : strerror(-r)) : 0;
}

int hf_volume_trim(struct hf_volume *volume, uint64_t min_bytes, uint64_t *ret_bytes)
{
    if (volume == NULL || ret_bytes == NULL)
        return -EINVAL;
    return HF_CALL(int, trim_volume(volume, min_bytes, ret_bytes));
}

static int trim_device(struct hf_device *dev, uint64_t *ret_bytes)
{
    char err[HF_BLOCKFS_ERR] = "";
    int r = hf_blockfs_trim_device(dev, ret_bytes, err);

    return r < 0 ? fail_text(dev->name, r, err) : 0;
}

int hf_trim_device(struct hf_device *dev, uint64_t *ret_bytes)
{
    int r = hf_api_init();

    hf_api_fail(0, "%s", "");
    if (dev == NULL || ret_bytes == NULL)
        return hf_api_fail(-EINVAL, "no device");
    return r < 0 ? r : HF_CALL(int, trim_device(dev, ret_bytes));
}

static int trim_path(const char *path, uint64_t *ret_bytes)
{
    struct hf_device *dev;
    int r = open_device(path, false, &dev);

    if (r < 0)
        return r;
    r = trim_device(dev, ret_bytes);
    hf_dev_close(dev);
    return r;
}

int hf_trim(const char *path, uint64_t *ret_bytes)
{
    int r = hf_api_init();

    hf_api_fail(0, "%s", "");
    if (path == NULL || path[0] == '\0' || ret_bytes == NULL)
        return hf_api_fail(-EINVAL, "no volume named");
    return r < 0 ? r : HF_CALL(int, trim_path(path, ret_bytes));
}

/* ---- the tables */

static int dump_path(const char *path, const char *table, const struct hf_dump_ops *ops, void *arg)
{
    char err[HF_BLOCKFS_ERR] = "";
    struct hf_device *dev;
    int r = open_device(path, true, &dev);

    if (r < 0)
        return r;
    r = hf_blockfs_dump(dev, table, ops, arg, err);
    hf_dev_close(dev);
    return r < 0 ? fail_text(path, r, err) : r;
}

int hf_dump(const char *path, const char *table, const struct hf_dump_ops *ops, void *arg)
{
    int r = hf_api_init();

    hf_api_fail(0, "%s", "");
    if (path == NULL || path[0] == '\0' || ops == NULL)
        return hf_api_fail(-EINVAL, "no volume named");
    return r < 0 ? r : HF_CALL(int, dump_path(path, table, ops, arg));
}
