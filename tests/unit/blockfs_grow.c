/* SPDX-License-Identifier: MIT */
/*
 * blockfs_grow.c - a volume that grows: all of its new blocks can be used, metadata never runs out before, a
 * power cut or a failing device leaves the old volume or the new one.
 *
 * The volumes lie on memory devices that are larger than they are, so that shims need not grow.
 */
#include "blockfs_util.h"

#include <holdfast/maintain.h>

#include <fcntl.h>
#include <pthread.h>
#include <sys/mman.h>
#include <sys/stat.h>

#define MIB (1 << 20)

/* A volume of `bytes` on a device of `max`. */
static struct hf_device *volume(hf_off_t bytes, hf_off_t max, uint32_t block_size, bool thin)
{
    struct hf_mkfs_options opts = {.size_bytes = (uint64_t)bytes, .block_size = block_size, .thin = thin};
    struct hf_device *dev;
    char err[HF_BLOCKFS_ERR] = "";
    int rc;

    assert_ok(hf_device_mem_new(max, &dev));
    rc = hf_blockfs_mkfs(dev, &opts, err);
    assert_that(rc == 0, "mkfs: %s (%d)", err, rc);
    return dev;
}

static struct hf_blockfs_header header_of(struct hf_device *dev)
{
    struct hf_blockfs_header header;
    char err[HF_BLOCKFS_ERR] = "";
    int rc = hf_blockfs_header_read(dev, false, &header, NULL, err);

    assert_that(rc == 0, "header: %s (%d)", err, rc);
    return header;
}

static void tell(void *arg, const struct hf_check_problem *problem)
{
    (void)arg;
    assert_that(problem == NULL, "the checker says: %s", problem->text);
}

static void assert_clean(struct hf_device *dev)
{
    struct hf_check_options opts = {.report = tell};
    struct hf_check_result result;
    int rc = hf_check_device(dev, &opts, &result);

    assert_that(rc == 0, "check: %s (%d)", hf_volume_error_text(), rc);
    assert_int_equal(result.problems, 0);
}

static int grow(struct vol *vol, uint64_t bytes)
{
    char err[256] = "";
    int rc = vol->ops->grow(&vol->sb, bytes, err);

    assert_that(rc == 0 || err[0] != 0, "no reason for %d", rc);
    return rc;
}

/* Writes block after block, each an extent of its own, until the volume is full. Returns how many. */
static uint64_t fill(struct vol *vol, struct hf_inode *inode, uint64_t from)
{
    uint64_t nr = 0;
    int rc;

    while ((rc = file_write(inode, from + 2 * nr, 1, (int)(nr % 200 + 1))) == 0) {
        nr++;
        if (nr % 64 == 0)
            assert_ok(vol->ops->sync(&vol->sb));
    }
    assert_err(rc, ENOSPC);
    assert_ok(vol->ops->sync(&vol->sb));
    assert_int_equal(vol_free(vol), 0);
    return nr;
}

static void fill_check(struct hf_inode *inode, uint64_t from, uint64_t nr)
{
    for (uint64_t i = 0; i < nr; i++)
        assert_int_equal(file_byte(inode, from + 2 * i), (int)(i % 200 + 1));
}

/* Several times, in use or not; full of single blocks each time, so that metadata is as large as it gets. */
static void full_again_and_again(uint32_t block_size, bool thin, bool online)
{
    static const hf_off_t sizes[] = {1 * MIB + 300 * 1024, 2 * MIB, 3 * MIB};
    struct hf_device *dev = volume(MIB, 3 * MIB, block_size, thin);
    uint64_t from[4], nr[4] = {0}, blocks, used = 0;
    struct vol vol;

    for (unsigned i = 0; i < 4; i++) {
        struct hf_inode *root, *file;
        char name[8];

        vol_mount(&vol, dev);
        blocks = vol_statfs(&vol).blocks;
        if (i > 0 && online) {
            assert_ok(grow(&vol, (uint64_t)sizes[i - 1]));
            assert_err(grow(&vol, (uint64_t)sizes[i - 1]), EALREADY);
            assert_true(vol_statfs(&vol).blocks > blocks);
        } else if (i > 0) {
            vol_unmount(&vol);
            assert_ok(hf_grow_device(dev, (uint64_t)sizes[i - 1]));
            assert_err(hf_grow_device(dev, (uint64_t)sizes[i - 1]), EALREADY);
            vol_mount(&vol, dev);
            assert_true(vol_statfs(&vol).blocks > blocks);
        }
        assert_int_equal(vol_statfs(&vol).blocks - vol_free(&vol), used);
        root = root_get(&vol);
        snprintf(name, sizeof(name), "f%u", i);
        file = file_create(&vol, root, name);
        from[i] = 1000 * i;
        nr[i] = fill(&vol, file, from[i]);
        used += nr[i];
        assert_true(i == 0 || nr[i] > (block_size > 4096 ? 4u : 40u));
        assert_int_equal(vol_statfs(&vol).blocks, used);
        inode_put(file);
        for (unsigned j = 0; j <= i; j++) {
            snprintf(name, sizeof(name), "f%u", j);
            file = node_find(&vol, root, name);
            fill_check(file, from[j], nr[j]);
            inode_put(file);
        }
        inode_put(root);
        vol_unmount(&vol);
        assert_clean(dev);
    }
    assert_int_equal(header_of(dev).nr_segments, 3);
    assert_int_equal(header_of(dev).incompat, HF_BLOCKFS_INCOMPAT_SEGMENTS);
    hf_dev_close(dev);
}

static void offline(void **state)
{
    (void)state;
    full_again_and_again(4096, false, false);
    full_again_and_again(512, true, false);
}

static void online(void **state)
{
    (void)state;
    full_again_and_again(4096, true, true);
    full_again_and_again(512, false, true);
    full_again_and_again(16384, false, true);
}

static void refusals(void **state)
{
    struct hf_device *dev = volume(2 * MIB, 4 * MIB, 4096, false), *before = image_copy(dev);
    struct vol vol;

    (void)state;
    assert_err(hf_grow_device(NULL, 0), EINVAL);
    assert_err(hf_grow_device(dev, MIB), EINVAL);
    assert_err(hf_grow_device(dev, 2 * MIB), EALREADY);
    assert_err(hf_grow_device(dev, 2 * MIB + 100), EALREADY);
    assert_err(hf_grow_device(dev, 5 * MIB), ENOSPC); /* memory devices stay as they are */
    assert_err(hf_grow_device(dev, UINT64_MAX), EINVAL);
    dev->read_only = true;
    assert_err(hf_grow_device(dev, 4 * MIB), EROFS);
    dev->read_only = false;
    assert_true(image_same(dev, before));
    assert_ok(vol_try_mount(&vol, dev, true));
    assert_err(grow(&vol, 4 * MIB), EROFS);
    vol_unmount(&vol);
    assert_true(image_same(dev, before));
    image_flip(dev, 80, 1);
    assert_err(hf_grow_device(dev, 4 * MIB), EUCLEAN); /* the copy is not at the device's end */
    image_flip(dev, 80, 1);
    assert_ok(hf_grow_device(dev, 0));
    assert_int_equal(header_of(dev).volume_bytes, 4 * MIB);
    assert_clean(dev);
    /* Now it is; but with one copy left, it is not written. */
    image_flip(dev, 80, 1);
    assert_int_equal(header_of(dev).volume_bytes, 4 * MIB);
    assert_err(hf_grow_device(dev, 0), EUCLEAN);
    hf_dev_close(before);
    hf_dev_close(dev);
}

static void too_often(void **state)
{
    struct hf_device *dev = volume(MIB, MIB + 80 * 128 * 1024, 4096, false);
    uint64_t bytes = MIB;
    unsigned nr = 0;
    int rc;

    (void)state;
    while ((rc = hf_grow_device(dev, bytes += 128 * 1024)) == 0)
        nr++;
    assert_err(rc, ENOSPC);
    assert_int_equal(nr, HF_BLOCKFS_SEGMENTS_MAX);
    assert_clean(dev);
    hf_dev_close(dev);
}

/* ---- power cuts */

static void cuts(bool in_use)
{
    struct hf_device *dev = volume(MIB, 2 * MIB, 4096, false), *shim;
    struct hf_powercut *record;
    struct hf_inode *root, *file;
    uint64_t nr, grown = 0;
    struct vol vol;

    vol_mount(&vol, dev);
    root = root_get(&vol);
    file = file_create(&vol, root, "f");
    assert_ok(file_write(file, 0, 8, 'f'));
    inode_put(file);
    inode_put(root);
    vol_unmount(&vol);
    assert_ok(hf_device_powercut_new(dev, &shim, &record));
    if (in_use) {
        vol_mount(&vol, shim);
        root = root_get(&vol);
        file = file_create(&vol, root, "g");
        assert_ok(file_write(file, 0, 4, 'g'));
        assert_ok(grow(&vol, 2 * MIB));
        fill(&vol, file, 100);
        inode_put(file);
        inode_put(root);
        vol_unmount(&vol);
    } else {
        assert_ok(hf_grow_device(shim, 2 * MIB));
    }
    nr = hf_device_powercut_count(record);
    for (uint64_t events = 0; events <= nr; events += in_use && events > 30 ? 17 : 1) {
        for (int i = 0; i < 6; i++) {
            struct hf_powercut_cut cut = {.events = events,
                                          .order = i < HF_POWERCUT_REORDER ? (enum hf_powercut_order)i
                                                                           : HF_POWERCUT_REORDER,
                                          .seed = (uint64_t)i};
            struct hf_check_options opts = {.flags = HF_CHECK_REPAIR};
            struct hf_check_result result;
            struct hf_device *image;

            assert_ok(hf_device_powercut_image(record, &cut, &image));
            assert_ok(hf_check_device(image, &opts, &result));
            assert_int_equal(result.left, 0);
            /* Nothing but the copy of the header may be behind. */
            assert_true(result.problems <= 1);
            grown += header_of(image).volume_bytes == 2 * MIB;
            vol_mount(&vol, image);
            root = root_get(&vol);
            file = node_find(&vol, root, "f");
            file_check(file, 0, 8, 'f');
            inode_put(file);
            inode_put(root);
            vol_unmount(&vol);
            assert_clean(image);
            hf_dev_close(image);
        }
    }
    assert_true(grown >= 6);
    hf_dev_close(shim);
    hf_device_powercut_free(record);
}

static void power_cuts(void **state)
{
    (void)state;
    cuts(false);
    cuts(true);
}

/* ---- failing devices */

static void fail_at(uint64_t nth, int what, bool *ret_failed)
{
    struct hf_device *dev = volume(MIB, 2 * MIB, 4096, false), *shim;
    struct hf_device_faults faults = {.count = 1};
    struct hf_inode *root, *file;
    uint64_t blocks, bytes;
    struct vol vol;
    int rc;

    assert_ok(hf_device_fault_new(dev, &shim));
    vol_mount(&vol, shim);
    blocks = vol_statfs(&vol).blocks;
    faults.fail_write_at = what == 0 ? nth : 0;
    faults.fail_flush_at = what == 1 ? nth : 0;
    faults.fail_guarantee_at = what == 2 ? nth : 0;
    faults.error = what == 2 ? ENOSPC : EIO;
    hf_device_fault_set(shim, &faults);
    rc = grow(&vol, 2 * MIB);
    hf_device_fault_set(shim, &(struct hf_device_faults){0});
    *ret_failed = rc != 0;
    if (rc != 0) {
        assert_err(rc, what == 2 ? ENOSPC : EIO);
        assert_int_equal(vol_statfs(&vol).blocks, blocks);
    }
    /* The volume goes on, and can grow when the device is well again. */
    root = root_get(&vol);
    file = file_create(&vol, root, "f");
    if (rc != 0) {
        assert_int_equal(fill(&vol, file, 0), blocks);
        assert_ok(grow(&vol, 2 * MIB));
    }
    assert_true(fill(&vol, file, 10000) > 100);
    bytes = header_of(dev).volume_bytes;
    assert_int_equal(bytes, 2 * MIB);
    inode_put(file);
    inode_put(root);
    vol_unmount(&vol);
    assert_clean(dev);
    hf_dev_close(shim);
}

static void failing_devices(void **state)
{
    (void)state;
    for (int what = 0; what < 3; what++) {
        bool failed = true;
        uint64_t nth = 1;

        for (; failed; nth++)
            fail_at(nth, what, &failed);
        assert_true(nth > 2);
    }
}

/* What a thin volume did not get is not missing from what it has. */
static void failing_thin_devices(void **state)
{
    const hf_off_t more = 2 * MIB + 256 * 1024;
    struct hf_device *dev = volume(2 * MIB, more, 4096, true), *shim;
    struct hf_inode *root, *file;
    struct vol vol;
    uint64_t blocks;

    (void)state;
    assert_ok(hf_device_fault_new(dev, &shim));
    vol_mount(&vol, shim);
    blocks = vol_statfs(&vol).blocks;
    hf_device_fault_set(shim, &(struct hf_device_faults){.fail_write_at = 1, .count = 1});
    assert_err(grow(&vol, (uint64_t)more), EIO);
    assert_int_equal(vol_statfs(&vol).blocks, blocks);
    root = root_get(&vol);
    file = file_create(&vol, root, "f");
    assert_int_equal(fill(&vol, file, 0), blocks);
    assert_ok(grow(&vol, (uint64_t)more));
    blocks = vol_statfs(&vol).blocks - blocks;
    assert_true(blocks > 20);
    assert_int_equal(fill(&vol, file, 10000), blocks);
    inode_put(file);
    inode_put(root);
    vol_unmount(&vol);
    assert_clean(dev);
    hf_dev_close(shim);
}

/* ---- damage */

static void damaged_segments(void **state)
{
    static const struct {
        uint32_t nr;
        uint64_t incompat, off, len;
    } bad[] = {
        {1, 0, 0, 0},
        {0, 1, 0, 0},
        {65, 1, 0, 0},
        {1, 1, 1, 0},
        {1, 1, 0, 1},
        {1, 1, 8192, 0},
        {1, 1, 1ull << 62, 0},
        {1, 1, 0, UINT64_MAX & ~4095ull},
        {1, 1, 2 * MIB - 4096, 0},
        {UINT32_MAX, 1, 0, 0},
    };
    struct hf_device *dev = volume(MIB, 2 * MIB, 4096, false);
    struct hf_blockfs_header good, header;
    char err[HF_BLOCKFS_ERR];

    (void)state;
    assert_ok(hf_grow_device(dev, 0));
    good = header_of(dev);
    for (size_t i = 0; i < sizeof(bad) / sizeof(bad[0]); i++) {
        header = good;
        header.nr_segments = bad[i].nr;
        header.incompat = bad[i].incompat;
        header.segments[0].off = bad[i].off ? bad[i].off : good.segments[0].off;
        header.segments[0].len = bad[i].len ? bad[i].len : good.segments[0].len;
        assert_ok(hf_blockfs_header_write(dev, &header));
        assert_err(hf_blockfs_header_read(dev, false, &header, NULL, err), EUCLEAN);
        assert_non_null(strstr(err, "segment"));
    }
    /* Blocks that a segment covers are nobody's. */
    assert_ok(hf_blockfs_header_write(dev, &good));
    hf_dev_close(dev);
}

static void an_extent_in_the_metadata(void **state)
{
    struct hf_device *dev = volume(MIB, 3 * MIB, 4096, false);
    struct hf_check_options opts = {.flags = HF_CHECK_REPAIR};
    struct hf_check_result result;
    struct hf_blockfs_header header;
    struct hf_inode *root, *file;
    struct hf_metadb *db;
    struct vol vol;
    uint64_t blk;
    char text[128];

    (void)state;
    assert_ok(hf_grow_device(dev, 2 * MIB));
    assert_ok(hf_grow_device(dev, 3 * MIB));
    header = header_of(dev);
    assert_true(hf_blockfs_hole(&header, 0, &blk) > 2);
    assert_int_equal(hf_blockfs_hole(&header, 1, &(uint64_t){0}), 0);
    vol_mount(&vol, dev);
    root = root_get(&vol);
    file = file_create(&vol, root, "f");
    assert_ok(file_write(file, 0, 4, 'f'));
    inode_put(file);
    inode_put(root);
    vol_unmount(&vol);
    db = metadb_open(dev, &header);
    snprintf(text, sizeof(text), "UPDATE extents SET pblk = %llu", (unsigned long long)blk - 2);
    sql(db, text);
    assert_ok(hf_metadb_close(db));
    assert_err(vol_try_mount(&vol, dev, false), EUCLEAN);
    assert_ok(hf_check_device(dev, &opts, &result));
    assert_int_equal(result.problems, 1);
    assert_int_equal(result.left, 0);
    assert_int_equal(result.blocks_used, 2);
    vol_mount(&vol, dev);
    vol_unmount(&vol);
    hf_dev_close(dev);
}

/* ---- a file on the host, and stores that go on */

struct storing {
    struct hf_volume *volume;
    const char *name;
    unsigned char value;
    uint64_t stored; /* bytes, when the volume was full at last */
    atomic_bool *grown;
};

/* Stores page after page until there is no space, and
 * once more when the volume has grown for the last time. */
static void *store_all(void *arg)
{
    const size_t len = 16 * MIB, page = 4096;
    struct storing *s = arg;
    struct hf_file *file;
    unsigned char buf[4096];
    void *map;
    int r;

    memset(buf, s->value, sizeof(buf));
    if (hf_open(s->volume, s->name, O_RDWR | O_CREAT, 0600, &file) || hf_ftruncate(file, (hf_off_t)len) ||
        hf_mmap(file, NULL, len, PROT_READ | PROT_WRITE, MAP_SHARED, 0, &map))
        return s;
    while (s->stored < len) {
        bool grown = atomic_load(s->grown);

        r = hf_store((char *)map + s->stored, buf, page, NULL);
        if (r == 0)
            s->stored += page;
        else if (r != -ENOSPC || grown)
            break;
    }
    return hf_munmap(map, len) || hf_close(file) ? s : NULL;
}

static void stores_go_on(void **state)
{
    char dir[] = "/tmp/holdfast-grow-XXXXXX", path[64];
    struct hf_mkfs_options mkfs = {.size_bytes = 2 * MIB};
    atomic_bool grown = false;
    struct storing storing[2] = {{.name = "a", .value = 'a', .grown = &grown},
                                 {.name = "b", .value = 'b', .grown = &grown}};
    struct hf_volume *volume;
    struct hf_statfs st;
    pthread_t threads[2];
    struct stat host;
    void *failed;

    (void)state;
    assert_non_null(mkdtemp(dir));
    snprintf(path, sizeof(path), "%s/box.hf", dir);
    assert_ok(hf_mkfs(path, &mkfs));
    assert_ok(hf_volume_open(path, NULL, &volume));
    for (int i = 0; i < 2; i++) {
        storing[i].volume = volume;
        assert_int_equal(pthread_create(&threads[i], NULL, store_all, &storing[i]), 0);
    }
    for (uint64_t bytes = 3 * MIB; bytes <= 6 * MIB; bytes += MIB)
        assert_ok(hf_volume_grow(volume, bytes));
    atomic_store(&grown, true);
    for (int i = 0; i < 2; i++) {
        assert_int_equal(pthread_join(threads[i], &failed), 0);
        assert_null(failed);
    }
    assert_ok(hf_volume_statfs(volume, &st));
    assert_int_equal(st.blocks_free, 0);
    assert_int_equal(storing[0].stored + storing[1].stored, st.blocks * st.block_size);
    assert_true(st.blocks * st.block_size > 4 * MIB);
    assert_ok(hf_volume_close(volume));
    assert_int_equal(stat(path, &host), 0);
    assert_int_equal(host.st_size, 6 * MIB);
    assert_ok(hf_grow(path, 7 * MIB));
    assert_err(hf_grow(path, 2 * MIB), EINVAL);
    assert_int_equal(stat(path, &host), 0);
    assert_int_equal(host.st_size, 7 * MIB);
    assert_ok(hf_volume_open(path, NULL, &volume));
    for (int i = 0; i < 2; i++) {
        char *buf = malloc(storing[i].stored);
        struct hf_file *file;

        assert_non_null(buf);
        assert_ok(hf_open(volume, storing[i].name, O_RDONLY, 0, &file));
        assert_count(hf_pread(file, buf, storing[i].stored, 0), (ssize_t)storing[i].stored);
        assert_bytes(buf, storing[i].value, storing[i].stored);
        assert_ok(hf_close(file));
        free(buf);
    }
    assert_ok(hf_volume_close(volume));
    assert_ok(hf_check(path, NULL, NULL));
    unlink(path);
    rmdir(dir);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(offline),          cmocka_unit_test(online),
        cmocka_unit_test(stores_go_on),     cmocka_unit_test(refusals),
        cmocka_unit_test(too_often),        cmocka_unit_test(power_cuts),
        cmocka_unit_test(failing_devices),  cmocka_unit_test(failing_thin_devices),
        cmocka_unit_test(damaged_segments), cmocka_unit_test(an_extent_in_the_metadata),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
