/* SPDX-License-Identifier: MIT */
/* images.c - see fuzz.h: the volumes that inputs begin with, made by the library itself. */
#define _GNU_SOURCE
#include "fuzz.h"

#include "dev/device_io.h"
#include "fs/blockfs/format.h"

#include <fcntl.h>
#include <linux/falloc.h>
#include <string.h>

#define must(expr) fuzz_that((expr) >= 0, "while the images are made")

static uint8_t images[FUZZ_IMAGES][FUZZ_BYTES];
static bool made[FUZZ_IMAGES];

/* The library closes the device with the volume; this one lives on. */
struct kept {
    struct hf_device base;
    struct hf_device *lower;
};

static int kept_read(struct hf_device *dev, void *buf, size_t len, hf_off_t off)
{
    return hf_dev_read(((struct kept *)dev)->lower, buf, len, off);
}

static int kept_write(struct hf_device *dev, const void *buf, size_t len, hf_off_t off)
{
    return hf_dev_write(((struct kept *)dev)->lower, buf, len, off);
}

static int kept_flush(struct hf_device *dev)
{
    return hf_dev_flush(((struct kept *)dev)->lower);
}

static void kept_close(struct hf_device *dev)
{
    (void)dev;
}

static struct hf_file *file_make(struct hf_volume *vol, const char *path, size_t len, uint8_t value)
{
    static uint8_t buf[65536];
    struct hf_file *file;

    memset(buf, value, len);
    must(hf_open(vol, path, O_RDWR | O_CREAT, 0640, &file));
    must(hf_pwrite(file, buf, len, 0));
    return file;
}

static void fragmented_make(struct hf_volume *vol, uint32_t block_size)
{
    struct hf_file *file = file_make(vol, "/sub/holes", 12 * block_size, 'h');

    must(hf_fsync(file));
    for (hf_off_t i = 1; i < 12; i += 2)
        must(hf_fallocate(file, FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE, i * block_size, block_size));
    must(hf_fallocate(file, 0, 20 * block_size, 3 * block_size));
    must(hf_close(file));
}

static void content_make(struct hf_volume *vol, uint32_t block_size)
{
    char path[32];

    must(hf_mkdir(vol, "/sub", 0755));
    must(hf_mkdir(vol, "/sub/deeper", 0700));
    must(hf_close(file_make(vol, "/short", 11, 's')));
    must(hf_close(file_make(vol, "/sub/long", 20000, 'l')));
    must(hf_link(vol, "/sub/long", "/again"));
    must(hf_symlink(vol, "sub/long", "/link"));
    fragmented_make(vol, block_size);
    for (int i = 0; i < 6; i++) {
        snprintf(path, sizeof(path), "/sub/deeper/file-%d", i);
        must(hf_close(file_make(vol, path, (size_t)i * 100, (uint8_t)('0' + i))));
    }
    must(hf_volume_sync(vol));
}

/* What only a volume in use has: names gone and files still open, a log with several commits in it. */
static void life_make(struct hf_volume *vol, struct hf_file **ret_open)
{
    struct hf_file *file = file_make(vol, "/orphan", 9000, 'o');

    must(hf_fsync(file));
    must(hf_unlink(vol, "/orphan"));
    must(hf_volume_sync(vol));
    must(hf_close(file_make(vol, "/sub/late", 3000, 'L')));
    must(hf_truncate(vol, "/sub/long", 5000));
    must(hf_rename(vol, "/short", "/sub/short", 0));
    must(hf_volume_sync(vol));
    must(hf_close(file_make(vol, "/never", 100, 'n'))); /* no commit has seen this one */
    *ret_open = file;
}

static void image_make(enum fuzz_image which, bool large, bool content, bool crashed)
{
    const struct hf_mkfs_options mkfs = {.block_size = large ? 4096 : 512, .label = "fuzz"};
    const struct hf_open_options opts = {.writeback_ms = 3600000};
    struct kept kept;
    static const struct hf_device_ops ops = {
        .read = kept_read, .write = kept_write, .flush = kept_flush, .close = kept_close};
    char err[HF_BLOCKFS_ERR];
    struct hf_file *open = NULL;
    struct hf_volume *vol;

    must(hf_device_mem_new(FUZZ_BYTES, &kept.lower));
    must(hf_blockfs_mkfs(kept.lower, &mkfs, err));
    kept.base = *kept.lower;
    kept.base.ops = &ops;
    must(hf_volume_open_device(&kept.base, &opts, &vol));
    if (content)
        content_make(vol, mkfs.block_size);
    if (crashed) {
        life_make(vol, &open);
        must(hf_dev_read(kept.lower, images[which], FUZZ_BYTES, 0));
        must(hf_close(open));
    }
    must(hf_volume_close(vol));
    if (!crashed)
        must(hf_dev_read(kept.lower, images[which], FUZZ_BYTES, 0));
    hf_dev_close(kept.lower);
}

const uint8_t *fuzz_image_bytes(enum fuzz_image which)
{
    bool empty = which == FUZZ_EMPTY_512 || which == FUZZ_EMPTY_4096;

    if (!made[which])
        image_make(which, which == FUZZ_CLEAN_4096 || which == FUZZ_CRASHED_4096 || which == FUZZ_EMPTY_4096,
                   !empty, which == FUZZ_CRASHED_512 || which == FUZZ_CRASHED_4096);
    made[which] = true;
    return images[which];
}
