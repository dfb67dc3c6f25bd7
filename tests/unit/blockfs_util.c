/* SPDX-License-Identifier: MIT */
/* blockfs_util.c - see blockfs_util.h. */
#include "blockfs_util.h"

#include <sys/stat.h>

struct hf_device *vol_format(hf_off_t bytes, uint32_t block_size, bool thin)
{
    struct hf_mkfs_options opts = {.block_size = block_size, .thin = thin};
    struct hf_device *dev;
    char err[HF_BLOCKFS_ERR] = "";
    int rc;

    assert_ok(hf_device_mem_new(bytes, &dev));
    rc = hf_blockfs_mkfs(dev, &opts, err);
    assert_that(rc == 0, "mkfs: %s (%d)", err, rc);
    return dev;
}

int vol_try_mount(struct vol *vol, struct hf_device *dev, bool read_only)
{
    *vol = (struct vol){.ops = &hf_blockfs_driver, .now_ns = 1000};
    vol->sb.driver = vol->ops;
    vol->sb.dev = dev;
    vol->sb.read_only = read_only;
    return vol->ops->mount(&vol->sb);
}

void vol_mount(struct vol *vol, struct hf_device *dev)
{
    int rc = vol_try_mount(vol, dev, false);

    assert_that(rc == 0, "mount: %s (%d)", vol->sb.error_text, rc);
}

void vol_mount_discard(struct vol *vol, struct hf_device *dev)
{
    *vol = (struct vol){.ops = &hf_blockfs_driver, .now_ns = 1000};
    vol->sb.driver = vol->ops;
    vol->sb.dev = dev;
    vol->sb.discard = true;
    assert_ok(vol->ops->mount(&vol->sb));
}

void vol_mount_memfs(struct vol *vol, uint64_t bytes, uint32_t block_size)
{
    *vol = (struct vol){.ops = &hf_memfs_driver, .now_ns = 1000};
    vol->memfs = (struct hf_memfs_options){.size_bytes = bytes, .block_size = block_size};
    vol->sb.driver = vol->ops;
    vol->sb.fs = &vol->memfs;
    assert_ok(vol->ops->mount(&vol->sb));
}

struct hf_statfs vol_statfs(struct vol *vol)
{
    struct hf_statfs st;

    assert_ok(vol->ops->statfs(&vol->sb, &st));
    return st;
}

void vol_check_quota(struct vol *vol)
{
    struct hf_quota_check check = {0};

    if (vol->ops->quota_check == NULL)
        return;
    assert_that(
        vol->ops->quota_check(&vol->sb, &check) == 0,
        "quota type %d id %u: %llu blocks kept, %llu found; %llu inodes kept, %llu found; %llu reserved, "
        "%llu promised",
        (int)check.type, check.id, (unsigned long long)check.blocks_kept,
        (unsigned long long)check.blocks_found, (unsigned long long)check.inodes_kept,
        (unsigned long long)check.inodes_found, (unsigned long long)check.reserved_kept,
        (unsigned long long)check.reserved_found);
}

void vol_unmount(struct vol *vol)
{
    assert_int_equal(vol_statfs(vol).blocks_reserved, 0);
    vol_check_quota(vol);
    assert_ok(vol->ops->unmount(&vol->sb));
}

uint64_t vol_free(struct vol *vol)
{
    struct hf_statfs st = vol_statfs(vol);

    if (vol->ops == &hf_blockfs_driver) {
        struct hf_space *space = &hf_blockfs_of(&vol->sb)->space;
        uint64_t freed = 0;

        hf_mutex_lock(&space->lock);
        assert_true(hf_freemap_sane(&space->pool));
        assert_int_equal(space->pool.nr_free, atomic_load(&space->available) + atomic_load(&space->reserved));
        for (size_t i = 0; i < space->freed.nr; i++)
            freed += space->freed.v[i].nr;
        for (size_t i = 0; i < space->durable.nr; i++)
            freed += space->durable.v[i].nr;
        assert_int_equal(freed, atomic_load(&space->pending));
        if (space->thin) {
            assert_true(hf_freemap_sane(&space->raw));
            assert_int_equal(space->raw.nr_free, atomic_load(&space->unasked));
        }
        hf_mutex_unlock(&space->lock);
    }
    return st.blocks_free;
}

struct hf_inode *inode_get(struct vol *vol, uint64_t ino)
{
    struct hf_inode *inode = calloc(1, sizeof(*inode));
    int rc;

    assert_non_null(inode);
    inode->sb = &vol->sb;
    inode->ino = ino;
    rc = vol->ops->read_inode(inode);
    assert_that(rc == 0, "read_inode(%llu): %d %s", (unsigned long long)ino, rc, vol->sb.error_text);
    return inode;
}

void inode_put(struct hf_inode *inode)
{
    assert_ok(inode->sb->driver->evict_inode(inode));
    free(inode);
}

struct hf_inode *root_get(struct vol *vol)
{
    return inode_get(vol, vol->sb.root_ino);
}

struct hf_inode *node_create(struct vol *vol, struct hf_inode *dir, const char *name, uint32_t mode,
                             const char *target)
{
    struct hf_create how = {.mode = mode, .uid = 7, .gid = 8, .now_ns = ++vol->now_ns, .target = target};
    uint64_t ino;

    assert_ok(vol->ops->create(dir, name, &how, &ino));
    return inode_get(vol, ino);
}

struct hf_inode *file_create(struct vol *vol, struct hf_inode *dir, const char *name)
{
    return node_create(vol, dir, name, S_IFREG | 0644, NULL);
}

struct hf_inode *node_find(struct vol *vol, struct hf_inode *dir, const char *name)
{
    uint64_t ino;
    int rc = vol->ops->lookup(dir, name, &ino);

    if (rc == -ENOENT)
        return NULL;
    assert_ok(rc);
    return inode_get(vol, ino);
}

void file_unlink(struct vol *vol, struct hf_inode *dir, const char *name)
{
    struct hf_inode *inode = node_find(vol, dir, name);

    assert_non_null(inode);
    assert_ok(vol->ops->unlink(dir, name, inode, ++vol->now_ns));
    inode_put(inode);
}

/* Allocates the holes of the range, each with a reservation of its own, as writeback would have them. */
static int fill_holes(struct hf_inode *inode, uint64_t blk, uint64_t end)
{
    const struct hf_driver *ops = inode->sb->driver;

    while (blk < end) {
        struct hf_extent extent;
        uint64_t nr;
        int rc = ops->map(inode, blk, HF_NOWAIT, &extent);

        if (rc != 0)
            return rc;
        nr = extent.nr < end - blk ? extent.nr : end - blk;
        if (extent.kind == HF_EXTENT_HOLE) {
            rc = ops->reserve(inode, nr, HF_NOWAIT);
            if (rc == -EAGAIN)
                rc = ops->reserve(inode, nr, 0);
            if (rc == 0)
                rc = ops->allocate(inode, blk, nr);
            if (rc != 0)
                return rc;
        }
        blk += nr;
    }
    return 0;
}

int file_write(struct hf_inode *inode, uint64_t blk, uint64_t nr, int byte)
{
    uint32_t size = inode->sb->block_size;
    hf_off_t end = (hf_off_t)((blk + nr) * size);
    char *buf = malloc(nr * size);
    int rc;

    assert_non_null(buf);
    memset(buf, byte, nr * size);
    rc = fill_holes(inode, blk, blk + nr);
    if (rc == 0)
        rc = inode->sb->driver->write(inode, buf, nr * size, (hf_off_t)(blk * size));
    free(buf);
    if (rc != 0)
        return rc;
    if (end > atomic_load(&inode->size))
        atomic_store(&inode->size, end);
    return inode->sb->driver->write_inode(inode, atomic_load(&inode->size));
}

int file_truncate(struct hf_inode *inode, uint64_t nr)
{
    const struct hf_driver *ops = inode->sb->driver;
    hf_off_t old = atomic_load(&inode->size), new = (hf_off_t)(nr * inode->sb->block_size);
    int rc = ops->setattr_prepare != NULL ? ops->setattr_prepare(inode, old, new) : 0;

    if (rc != 0)
        return rc;
    atomic_store(&inode->size, new);
    return new < old ? ops->truncate(inode, old, new) : ops->write_inode(inode, new);
}

void file_check(struct hf_inode *inode, uint64_t blk, uint64_t nr, int byte)
{
    uint32_t size = inode->sb->block_size;
    char *buf = malloc(nr * size);

    assert_non_null(buf);
    memset(buf, byte + 1, nr * size);
    assert_ok(inode->sb->driver->read(inode, buf, nr * size, (hf_off_t)(blk * size)));
    assert_bytes(buf, byte, nr * size);
    free(buf);
}

int file_byte(struct hf_inode *inode, uint64_t blk)
{
    uint32_t size = inode->sb->block_size;
    unsigned char *buf = malloc(size);
    int byte;

    assert_non_null(buf);
    assert_ok(inode->sb->driver->read(inode, buf, size, (hf_off_t)(blk * size)));
    byte = buf[0];
    assert_bytes(buf, byte, size);
    free(buf);
    return byte;
}

enum hf_extent_kind file_kind(struct hf_inode *inode, uint64_t blk)
{
    struct hf_extent extent;

    assert_ok(inode->sb->driver->map(inode, blk, HF_NOWAIT, &extent));
    assert_int_equal(extent.blk, blk);
    assert_true(extent.nr > 0);
    return extent.kind;
}

uint64_t file_blocks(struct hf_inode *inode)
{
    return (uint64_t)atomic_load(&inode->size) / inode->sb->block_size;
}

uint64_t random_next(uint64_t *state)
{
    *state ^= *state << 13;
    *state ^= *state >> 7;
    *state ^= *state << 17;
    return *state;
}

uint64_t random_below(uint64_t *state, uint64_t n)
{
    return (random_next(state) >> 8) % n;
}
