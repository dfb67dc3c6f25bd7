/* SPDX-License-Identifier: MIT */
/* wrapped_driver.c - see wrapped_driver.h. */
#include "wrapped_driver.h"

#define NEVER_MS (3600u * 1000u)

/* The volume closes its device; ours is a handle to one that stays. */
struct borrowed {
    struct hf_device base;
    struct hf_device *owner;
};

static struct hf_device *owner_of(struct hf_device *dev)
{
    return ((struct borrowed *)dev)->owner;
}

static int borrowed_read(struct hf_device *dev, void *buf, size_t len, hf_off_t off)
{
    return owner_of(dev)->ops->read(owner_of(dev), buf, len, off);
}

static int borrowed_write(struct hf_device *dev, const void *buf, size_t len, hf_off_t off)
{
    return owner_of(dev)->ops->write(owner_of(dev), buf, len, off);
}

static int borrowed_flush(struct hf_device *dev)
{
    return owner_of(dev)->ops->flush(owner_of(dev));
}

static void borrowed_close(struct hf_device *dev)
{
    free(dev);
}

static const struct hf_device_ops borrowed_ops = {
    .read = borrowed_read, .write = borrowed_write, .flush = borrowed_flush, .close = borrowed_close};

static struct hf_device *borrow(struct hf_device *owner)
{
    struct borrowed *b = calloc(1, sizeof(*b));

    assert_non_null(b);
    b->base = *owner;
    b->base.ops = &borrowed_ops;
    b->owner = owner;
    return &b->base;
}

void wrapped_blockfs(struct wrapped *w, hf_off_t bytes, uint32_t block_size)
{
    *w = (struct wrapped){.driver = hf_blockfs_driver, .real = &hf_blockfs_driver};
    w->dev = vol_format(bytes, block_size, false);
}

void wrapped_memfs(struct wrapped *w, uint64_t bytes, uint32_t block_size)
{
    *w = (struct wrapped){.driver = hf_memfs_driver, .real = &hf_memfs_driver};
    w->memfs = (struct hf_memfs_options){.size_bytes = bytes, .block_size = block_size};
}

void wrapped_open(struct wrapped *w, const struct hf_open_options *opts)
{
    static const struct hf_open_options quiet = {.writeback_ms = NEVER_MS};
    char error_text[256];
    struct hf_mount_options how = {.driver = &w->driver,
                                   .dev = w->dev != NULL ? borrow(w->dev) : NULL,
                                   .driver_options = w->dev != NULL ? NULL : &w->memfs,
                                   .open = opts != NULL ? opts : &quiet,
                                   .error_text = error_text};

    assert_ok(hf_api_init());
    assert_ok(hf_vfs_mount(&how, &w->volume));
    hf_api_register(w->volume);
}

int wrapped_close(struct wrapped *w)
{
    int r = hf_volume_close(w->volume);

    w->volume = NULL;
    return r;
}

void wrapped_free(struct wrapped *w)
{
    if (w->dev != NULL)
        w->dev->ops->close(w->dev);
}

struct hf_file *wrapped_file(struct wrapped *w, const char *path, hf_off_t size)
{
    struct hf_file *file;

    assert_ok(hf_open(w->volume, path, O_RDWR | O_CREAT, 0600, &file));
    if (size >= 0)
        assert_ok(hf_ftruncate(file, size));
    return file;
}

uint64_t wrapped_free_blocks(struct wrapped *w)
{
    struct hf_statfs st;

    assert_ok(hf_volume_statfs(w->volume, &st));
    return st.blocks_free;
}

void wrapped_fill_but(struct wrapped *w, const char *path, uint64_t blocks)
{
    struct hf_file *file = wrapped_file(w, path, 0);
    uint64_t have = wrapped_free_blocks(w);

    assert_true(have >= blocks);
    if (have > blocks)
        assert_ok(hf_fallocate(file, 0, 0, (hf_off_t)((have - blocks) * w->volume->sb.block_size)));
    assert_ok(hf_close(file));
    assert_int_equal(wrapped_free_blocks(w), blocks);
}
