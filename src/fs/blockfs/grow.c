/* SPDX-License-Identifier: MIT */
/*
 * grow.c - a volume gets larger: one that nobody has open, or one in use.
 *
 * The data region goes on where it ended, over the old copy of the header. The metadata region stays large
 * enough for an extent per block (DESIGN 8): a segment at the new end is added to it (format.h).
 *
 * Order: the device grows and guarantees the space; the copy of the new header at the new end, flush; the
 * primary, flush. Until the primary is there the volume is the old one, whose copy lies untouched where it
 * was; nothing is put into the new part before. So a power cut leaves the old volume or the new one.
 *
 * In use: sql_lock is held from the first to the last step, so that no row can name a new block too early.
 * Stores and writes go on meanwhile.
 */
#include "fs/blockfs/blockfs.h"

#include "dev/device_io.h"

#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <string.h>

static int grow_fail(int ret, char *err, const char *what)
{
    snprintf(err, HF_BLOCKFS_ERR, "%s: %s", what, strerror(-ret));
    return ret;
}

/* The device gets the bytes, and guarantees them: of
 * thin volumes only the header's (thin.c asks for more). */
static int grow_space(struct hf_device *dev, const struct hf_blockfs_header *old,
                      const struct hf_blockfs_header *new, char *err)
{
    hf_off_t from = (hf_off_t)old->volume_bytes - HF_BLOCKFS_HEADER_BYTES, to = (hf_off_t) new->volume_bytes;
    int ret = hf_dev_size(dev) < to ? hf_dev_resize(dev, to) : 0;

    if (ret == -ENOSPC) {
        snprintf(err, HF_BLOCKFS_ERR, "the device cannot have %" PRIu64 " bytes: it has %" PRId64,
                 new->volume_bytes, hf_dev_size(dev));
        return ret;
    }
    if (ret)
        return grow_fail(ret, err, "the device does not grow");
    if (new->flags & HF_BLOCKFS_THIN)
        from = to - HF_BLOCKFS_HEADER_BYTES;
    ret = hf_dev_guarantee(dev, from, to - from);
    return ret ? grow_fail(ret, err, "the space cannot be allocated") : 0;
}

/* Nothing was written yet: the device gets its old size back, as far as it can. */
static void shrink_back(struct hf_device *dev, hf_off_t size_bytes)
{
    if (hf_dev_size(dev) > size_bytes)
        hf_dev_resize(dev, size_bytes);
}

/*
 * From the first header on the new end must stay: a write that was told as failed may have arrived. If the
 * primary is in doubt, the old one is written over it; either is a header of this volume.
 */
static int grow_headers(struct hf_device *dev, const struct hf_blockfs_header *old,
                        const struct hf_blockfs_header *new, char *err)
{
    int ret = hf_blockfs_header_write_copy(dev, new, HF_BLOCKFS_COPY_BACKUP);

    if (!ret) {
        ret = hf_blockfs_header_write_copy(dev, new, HF_BLOCKFS_COPY_PRIMARY);
        if (ret)
            hf_blockfs_header_write_copy(dev, old, HF_BLOCKFS_COPY_PRIMARY);
    }
    return ret ? grow_fail(ret, err, "the header cannot be written") : 0;
}

int hf_blockfs_grow_device(struct hf_device *dev, uint64_t size_bytes, char err[HF_BLOCKFS_ERR])
{
    hf_off_t old_bytes = hf_dev_size(dev);
    struct hf_blockfs_header old, new;
    enum hf_blockfs_copy copy;
    int ret = hf_blockfs_header_read(dev, false, &old, &copy, err);

    if (ret)
        return ret;
    if (dev->read_only)
        return grow_fail(-EROFS, err, "the device");
    if (copy == HF_BLOCKFS_COPY_BACKUP) {
        snprintf(err, HF_BLOCKFS_ERR, "the primary header is damaged: repair it first");
        return -EUCLEAN;
    }
    ret = hf_blockfs_layout_grown(&old, size_bytes ? size_bytes : (uint64_t)old_bytes, &new, err);
    if (ret)
        return ret;
    ret = grow_space(dev, &old, &new, err);
    if (ret) {
        shrink_back(dev, old_bytes);
        return ret;
    }
    return grow_headers(dev, &old, &new, err);
}

/* ---- in use. Under sql_lock. */

/* The new blocks that no segment covers become free. */
static void publish(struct hf_blockfs *fs, const struct hf_blockfs_header *new)
{
    uint64_t from = fs->header.data_blocks, holes = 0;

    /* First: who counts what is not free may find too much of that for a moment, not too little. */
    atomic_store(&fs->space.total, new->data_blocks);
    for (uint32_t i = 0; i <= new->nr_segments; i++) {
        uint64_t blk = new->data_blocks, nr = 0;

        if (i < new->nr_segments)
            nr = hf_blockfs_hole(new, i, &blk);
        holes += nr;
        if (blk > from)
            hf_space_add(&fs->space, from, blk - from);
        from = blk + nr > from ? blk + nr : from;
    }
    atomic_store(&fs->space.holes, holes);
    /* What others read without the lock stays what it is, and is not written. */
    fs->header.generation = new->generation;
    fs->header.incompat = new->incompat;
    fs->header.volume_bytes = new->volume_bytes;
    fs->header.data_len = new->data_len;
    fs->header.data_blocks = new->data_blocks;
    fs->header.nr_segments = new->nr_segments;
    memcpy(fs->header.segments, new->segments, sizeof(new->segments));
}

static int grow_locked(struct hf_blockfs *fs, const struct hf_blockfs_header *new, char *err)
{
    hf_off_t old_bytes = hf_dev_size(fs->dev);
    int ret = grow_space(fs->dev, &fs->header, new, err);

    if (!ret) {
        ret = hf_space_extend(&fs->space, new->data_blocks);
        if (!ret)
            ret = hf_metadb_resize(fs->txn.db, new);
        if (ret)
            grow_fail(ret, err, "metadata");
    }
    if (ret) {
        shrink_back(fs->dev, old_bytes);
        return ret;
    }
    ret = grow_headers(fs->dev, &fs->header, new, err);
    if (ret) /* pages of the new segment are not in use: this cannot fail for want of anything but memory */
        hf_metadb_resize(fs->txn.db, &fs->header);
    else
        publish(fs, new);
    return ret;
}

int hf_blockfs_grow(struct hf_super *sb, uint64_t size_bytes, char err[HF_BLOCKFS_ERR])
{
    struct hf_blockfs *fs = hf_blockfs_of(sb);
    struct hf_blockfs_header new;
    int ret;

    if (fs->read_only)
        return grow_fail(-EROFS, err, "the volume");
    hf_mutex_lock(&fs->sql_lock);
    if (size_bytes == 0) {
        hf_dev_resize(fs->dev, hf_dev_size(fs->dev)); /* a disk may have grown since it was opened */
        size_bytes = (uint64_t)hf_dev_size(fs->dev);
    }
    ret = hf_blockfs_layout_grown(&fs->header, size_bytes, &new, err);
    if (!ret)
        ret = grow_locked(fs, &new, err);
    hf_mutex_unlock(&fs->sql_lock);
    return ret;
}
