/* SPDX-License-Identifier: MIT */
/*
 * thin_metadata.c - the metadata of a thin volume takes from its device what it needs, before it needs it: on
 * a device that gets full only new blocks and new names are refused, when they are asked for; everything
 * still commits, closes, opens and checks. And a volume of 16 TiB costs no more to open than one of 16 MiB.
 */
#include "blockfs_util.h"
#include "dev_thin.h"
#include "dev_tmpfs.h"

#include <holdfast/holdfast.h>
#include <holdfast/maintain.h>

#include <fcntl.h>

#define VOLUME_BYTES (256 << 20)
#define CHUNKS 4000u /* what a device has for such a volume: the WAL takes 1024 of them */
#define UNLIMITED (1u << 30)
#define SYNC_EVERY 300

static struct hf_device *thin_format(hf_off_t bytes, uint32_t block_size, uint64_t chunks)
{
    struct hf_mkfs_options opts = {.block_size = block_size, .thin = true};
    struct hf_device *dev = dev_thin_new(bytes, chunks);
    char err[HF_BLOCKFS_ERR] = "";
    int rc = hf_blockfs_mkfs(dev, &opts, err);

    assert_that(rc == 0, "mkfs: %s (%d)", err, rc);
    return dev;
}

/* Nothing was written that had not been guaranteed; what is there is whole. */
static void close_and_check(struct vol *vol, struct hf_device *dev, struct hf_check_result *ret_result)
{
    vol_unmount(vol);
    assert_count(dev_thin_counts(dev).late, 0);
    assert_ok(hf_check_device(dev, NULL, ret_result));
    assert_count(ret_result->problems, 0);
}

/* ---- blocks */

/* Writes single blocks from the last to the first, with holes between them, until one is refused. */
static uint64_t fill(struct vol *vol, struct hf_inode *file)
{
    uint64_t made = 0;

    for (uint64_t blk = 1u << 20;; blk -= 2) {
        int rc = vol->ops->reserve(file, 1, 0);

        if (rc != 0) {
            assert_err(rc, ENOSPC);
            return made;
        }
        vol->ops->unreserve(file, 1);
        assert_ok(file_write(file, blk, 1, 'f'));
        if (++made % SYNC_EVERY == 0)
            assert_ok(vol->ops->sync(&vol->sb));
    }
}

static void data_is_refused_at_the_reservation(void **state)
{
    static const uint32_t sizes[] = {512, 4096};

    (void)state;
    for (size_t i = 0; i < sizeof(sizes) / sizeof(sizes[0]); i++) {
        struct hf_device *dev = thin_format(VOLUME_BYTES, sizes[i], CHUNKS);
        struct hf_check_result result;
        struct hf_inode *root, *file;
        struct vol vol;
        uint64_t made;

        vol_mount(&vol, dev);
        root = root_get(&vol);
        file = file_create(&vol, root, "f");
        made = fill(&vol, file);
        assert_true(made > 100);
        assert_count(dev_thin_counts(dev).chunks, CHUNKS);
        assert_ok(vol.ops->sync(&vol.sb));
        inode_put(file);
        inode_put(root);
        close_and_check(&vol, dev, &result);
        assert_count(result.extents, made);

        vol_mount(&vol, dev);
        root = root_get(&vol);
        file_unlink(&vol, root, "f");
        assert_ok(vol.ops->sync(&vol.sb));
        file = file_create(&vol, root, "g");
        assert_ok(file_write(file, 0, 8, 'g'));
        inode_put(file);
        inode_put(root);
        close_and_check(&vol, dev, &result);
        hf_dev_close(dev);
    }
}

/* Somebody else takes what the device has, just before a block is asked for. */
static void whenever_the_device_gets_full(void **state)
{
    (void)state;
    for (uint64_t blocks = 0; blocks < 4096; blocks += 512) {
        struct hf_device *dev = thin_format(VOLUME_BYTES, 512, UNLIMITED);
        struct hf_check_result result;
        struct hf_inode *root, *file;
        struct vol vol;

        vol_mount(&vol, dev);
        root = root_get(&vol);
        file = file_create(&vol, root, "f");
        for (uint64_t blk = 0; blk < blocks; blk++)
            assert_ok(file_write(file, 2 * blk, 1, 'f'));
        dev_thin_limit(dev, dev_thin_counts(dev).chunks);
        fill(&vol, file);
        assert_ok(vol.ops->sync(&vol.sb));
        inode_put(file);
        inode_put(root);
        close_and_check(&vol, dev, &result);
        hf_dev_close(dev);
    }
}

/* ---- names */

static uint64_t create_until_refused(struct vol *vol, struct hf_inode *root, uint64_t first)
{
    for (uint64_t i = first;; i++) {
        struct hf_create how = {.mode = S_IFREG | 0644, .now_ns = ++vol->now_ns};
        uint64_t ino;
        char name[64];
        int rc;

        snprintf(name, sizeof(name), "a-file-with-a-name-of-its-own-%llu", (unsigned long long)i);
        rc = vol->ops->create(root, name, &how, &ino);
        if (rc != 0) {
            assert_err(rc, ENOSPC);
            return i;
        }
    }
}

/* Every row gets longer, first those that lie far apart: each makes SQLite split a full page. */
static void make_rows_longer(struct vol *vol, uint64_t nr)
{
    for (uint64_t start = 0; start < 40; start++) {
        for (uint64_t i = start; i < nr; i += 40) {
            struct hf_inode *inode = inode_get(vol, HF_BLOCKFS_FIRST_ID + 2 * i);

            assert_ok(vol->ops->change_owner(inode, 1u << 31, 1u << 31, 1u << 31));
            inode->uid = inode->gid = inode->project = 1u << 31;
            inode->size = (hf_off_t)1 << 54;
            assert_ok(vol->ops->write_inode(inode, inode->size));
            inode_put(inode);
        }
        assert_ok(vol->ops->sync(&vol->sb));
    }
}

static void names_are_refused_when_they_are_made(void **state)
{
    struct hf_device *dev = thin_format(VOLUME_BYTES, 4096, 1800);
    struct hf_check_result result;
    struct hf_inode *root;
    struct vol vol;
    uint64_t nr;

    (void)state;
    vol_mount(&vol, dev);
    root = root_get(&vol);
    nr = create_until_refused(&vol, root, 0);
    assert_true(nr > 1000);
    make_rows_longer(&vol, nr);
    for (uint64_t i = 0; i < nr; i += 2) {
        char name[64];

        snprintf(name, sizeof(name), "a-file-with-a-name-of-its-own-%llu", (unsigned long long)i);
        file_unlink(&vol, root, name);
    }
    inode_put(root);
    close_and_check(&vol, dev, &result);

    vol_mount(&vol, dev);
    root = root_get(&vol);
    assert_true(create_until_refused(&vol, root, nr) > nr);
    inode_put(root);
    close_and_check(&vol, dev, &result);
    hf_dev_close(dev);
}

/* Of a thick volume as well: what a name has taken for its row's growth, data does not miss. */
static void thick_volumes_keep_room_for_longer_rows(void **state)
{
    static const uint32_t sizes[] = {512, 65536};

    (void)state;
    for (size_t i = 0; i < sizeof(sizes) / sizeof(sizes[0]); i++) {
        struct hf_device *dev = vol_format(64 << 20, sizes[i], false);
        struct hf_check_result result;
        struct hf_inode *root, *file;
        struct vol vol;
        uint64_t nr;

        vol_mount(&vol, dev);
        root = root_get(&vol);
        nr = create_until_refused(&vol, root, 0);
        assert_true(nr > 100);
        make_rows_longer(&vol, nr);
        file = inode_get(&vol, HF_BLOCKFS_FIRST_ID);
        fill(&vol, file);
        assert_ok(vol.ops->sync(&vol.sb));
        inode_put(file);
        inode_put(root);
        vol_unmount(&vol);
        assert_ok(hf_check_device(dev, NULL, &result));
        assert_count(result.problems, 0);
        hf_dev_close(dev);
    }
}

/* ---- a real host, and all of the library */

/* Blocks with holes between them, and names, until each is refused. */
static void fill_volume(struct hf_volume *volume, const char *name)
{
    char byte = 'f', path[64];
    struct hf_file *file;
    ssize_t n = 1;
    int rc = 0;

    CHILD_CHECK(hf_open(volume, name, O_RDWR | O_CREAT, 0600, &file) == 0);
    for (hf_off_t blk = 0; n == 1; blk += 2)
        n = hf_pwrite(file, &byte, 1, blk * 512);
    CHILD_CHECK(n == -ENOSPC);
    CHILD_CHECK(hf_fsync(file) == 0);
    CHILD_CHECK(hf_close(file) == 0);
    for (int i = 0; rc == 0; i++) {
        snprintf(path, sizeof(path), "%s-and-a-directory-with-a-name-of-its-own-%d", name, i);
        rc = hf_mkdir(volume, path, 0700);
    }
    CHILD_CHECK(rc == -ENOSPC);
}

static void full_host_child(void)
{
    struct hf_mkfs_options opts = {.size_bytes = VOLUME_BYTES, .block_size = 512, .thin = true};
    const char *path = TMPFS_DIR "/v";
    struct hf_check_result result;
    struct hf_volume *volume;

    tmpfs_mount("8m");
    CHILD_CHECK(hf_mkfs(path, &opts) == 0);
    CHILD_CHECK(hf_volume_open(path, NULL, &volume) == 0);
    fill_volume(volume, "/f");
    CHILD_CHECK(hf_volume_close(volume) == 0);
    CHILD_CHECK(hf_check(path, NULL, &result) == 0 && result.problems == 0);
    CHILD_CHECK(hf_volume_open(path, NULL, &volume) == 0);
    CHILD_CHECK(hf_unlink(volume, "/f") == 0);
    CHILD_CHECK(hf_volume_sync(volume) == 0);
    fill_volume(volume, "/g");
    CHILD_CHECK(hf_volume_close(volume) == 0);
    CHILD_CHECK(hf_check(path, NULL, &result) == 0 && result.problems == 0);
}

static void a_host_that_gets_full(void **state)
{
    (void)state;
    tmpfs_run(full_host_child);
}

/* ---- size */

struct cost {
    struct dev_thin_counts opening;
    uint64_t chunks;
};

static struct cost cost_of(hf_off_t bytes, hf_off_t grown)
{
    struct hf_device *dev = thin_format(bytes, 4096, UNLIMITED);
    char err[HF_BLOCKFS_ERR] = "";
    struct hf_check_result result;
    struct hf_inode *root, *file;
    struct vol vol;
    struct cost cost;

    if (grown != 0)
        assert_ok(hf_blockfs_grow_device(dev, (uint64_t)grown, err));
    vol_mount(&vol, dev);
    root = root_get(&vol);
    file = file_create(&vol, root, "f");
    assert_ok(file_write(file, 3, 40, 'f'));
    inode_put(file);
    inode_put(root);
    vol_unmount(&vol);

    cost.opening = dev_thin_counts(dev);
    vol_mount(&vol, dev);
    cost.opening.reads = dev_thin_counts(dev).reads - cost.opening.reads;
    cost.opening.read_bytes = dev_thin_counts(dev).read_bytes - cost.opening.read_bytes;
    root = root_get(&vol);
    file = node_find(&vol, root, "f");
    file_check(file, 3, 40, 'f');
    assert_ok(file_write(file, 43, 10, 'g'));
    inode_put(file);
    inode_put(root);
    close_and_check(&vol, dev, &result);
    assert_count(result.extents, 1);
    cost.chunks = dev_thin_counts(dev).chunks;
    hf_dev_close(dev);
    return cost;
}

static void sixteen_tib_open_like_sixteen_mib(void **state)
{
    struct cost small = cost_of(16 << 20, 0), large = cost_of((hf_off_t)1 << 44, 0);
    struct cost grown = cost_of(16 << 20, (hf_off_t)1 << 44);

    (void)state;
    assert_true(small.opening.reads > 0);
    assert_true(large.opening.reads <= 2 * small.opening.reads);
    assert_true(large.opening.read_bytes <= 2 * small.opening.read_bytes);
    assert_true(grown.opening.reads <= 2 * small.opening.reads);
    assert_true(grown.opening.read_bytes <= 2 * small.opening.read_bytes);
    /* The log takes 64 MiB; metadata and data some more. */
    assert_true(large.chunks * DEV_THIN_CHUNK < 80 << 20);
    assert_true(grown.chunks * DEV_THIN_CHUNK < 16 << 20);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_host_that_gets_full), /* first: the library must not be in use when it forks */
        cmocka_unit_test(data_is_refused_at_the_reservation),
        cmocka_unit_test(whenever_the_device_gets_full),
        cmocka_unit_test(names_are_refused_when_they_are_made),
        cmocka_unit_test(thick_volumes_keep_room_for_longer_rows),
        cmocka_unit_test(sixteen_tib_open_like_sixteen_mib),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
