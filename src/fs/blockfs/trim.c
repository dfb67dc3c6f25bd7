/* SPDX-License-Identifier: MIT */
/*
 * trim.c - tells the device of a volume that nobody has open which blocks hold nothing.
 *
 * What is told is free in every state that a power cut could bring back: the device is flushed first, so the
 * log that is read is durable, and nothing is written. All extents are seen to be in order before the first
 * block is given away. A thick volume in a file is refused: its space would go back to the host (HOLD-10).
 * The free blocks of a thin one are asked for anew by the next mount, as all free blocks are.
 */
#include "fs/blockfs/blockfs.h"

#include "dev/device_io.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>

static int trim_fail(int ret, char *err, const char *what)
{
    snprintf(err, HF_BLOCKFS_ERR, "%s", what);
    return ret;
}

/* Takes what extents and segments have. */
static int load_used(struct hf_freemap *map, const struct hf_blockfs_header *header, sqlite3 *sql, char *err)
{
    sqlite3_stmt *stmt = NULL;
    int rc = sqlite3_prepare_v2(sql, "SELECT pblk, len FROM extents", -1, &stmt, NULL), ret = 0;

    for (uint32_t i = 0; i < header->nr_segments && ret == 0; i++) {
        uint64_t blk, nr = hf_blockfs_hole(header, i, &blk);

        ret = nr != 0 ? hf_freemap_take(map, blk, nr) : 0;
    }
    while (rc == SQLITE_OK && ret == 0 && (rc = sqlite3_step(stmt)) == SQLITE_ROW) {
        int64_t blk = sqlite3_column_int64(stmt, 0), nr = sqlite3_column_int64(stmt, 1);

        ret = blk < 0 || nr <= 0 ? -ERANGE : hf_freemap_take(map, (uint64_t)blk, (uint64_t)nr);
        rc = SQLITE_OK;
    }
    sqlite3_finalize(stmt);
    if (ret == 0 && rc != SQLITE_DONE)
        ret = hf_metadb_errno(rc);
    if (ret == -ERANGE || ret == -EEXIST || ret == -EUCLEAN)
        return trim_fail(-EUCLEAN, err, "table extents is damaged; run holdfast check");
    return ret;
}

static int discard_free(struct hf_device *dev, const struct hf_blockfs_header *header,
                        const struct hf_freemap *map, uint64_t *ret_bytes)
{
    uint64_t total = header->data_blocks, bytes = 0;

    for (uint64_t blk = 0; blk < total;) {
        uint64_t nr = hf_freemap_run(map, blk, total - blk);
        int ret = 0;

        if (nr != 0)
            ret = hf_dev_discard(dev, (hf_off_t)(header->data_off + blk * header->block_size),
                                 (hf_off_t)(nr * header->block_size));
        if (ret != 0)
            return ret;
        bytes += nr * header->block_size;
        blk += nr != 0 ? nr : 1;
    }
    *ret_bytes = bytes;
    return 0;
}

static int trim(struct hf_device *dev, const struct hf_blockfs_header *header, uint64_t *ret_bytes, char *err)
{
    struct hf_freemap map = {0};
    struct hf_metadb *db;
    int ret = hf_dev_flush(dev);

    if (ret == 0)
        ret = hf_metadb_open(dev, header, true, err, &db);
    if (ret != 0)
        return ret;
    err[0] = 0;
    ret = hf_freemap_init(&map, header->data_blocks);
    if (ret == 0)
        ret = load_used(&map, header, hf_metadb_handle(db), err);
    hf_metadb_close(db);
    if (ret == 0)
        ret = discard_free(dev, header, &map, ret_bytes);
    hf_freemap_done(&map);
    return ret;
}

int hf_blockfs_trim_device(struct hf_device *dev, uint64_t *ret_bytes, char err[HF_BLOCKFS_ERR])
{
    struct hf_blockfs_header header;
    int ret = hf_blockfs_header_read(dev, false, &header, NULL, err);

    if (ret != 0)
        return ret;
    err[0] = 0;
    if (dev->read_only)
        return trim_fail(-EROFS, err, "the device is read-only");
    if (!dev->ops->discard)
        return trim_fail(-EOPNOTSUPP, err, "the device has no use for it");
    if (!(header.flags & HF_BLOCKFS_THIN) && dev->ops->guarantee)
        return trim_fail(-EOPNOTSUPP, err, "the volume is thick: its space stays its own");
    return trim(dev, &header, ret_bytes, err);
}
