/* SPDX-License-Identifier: MIT */
/* memfs_space.c - the filesystem in memory promises exactly the blocks it has, and knows its options. */
#include "blockfs_util.h"

#include <pthread.h>

static void the_last_block(void **state)
{
    static const uint32_t sizes[] = {512, 4096, 65536};

    (void)state;
    for (size_t i = 0; i < 3; i++) {
        struct hf_inode *root, *a;
        uint64_t total, nr = 0;
        struct vol vol;

        vol_mount_memfs(&vol, 4 << 20, sizes[i]);
        root = root_get(&vol);
        a = file_create(&vol, root, "a");
        total = (4u << 20) / sizes[i];
        assert_int_equal(vol_free(&vol), total);
        while (vol.ops->reserve(a, 1, HF_SPECULATIVE | HF_NOWAIT) == 0)
            nr++;
        assert_int_equal(nr, total - total / 8);
        vol.ops->unreserve(a, nr);
        assert_err(vol.ops->reserve(a, total + 1, 0), ENOSPC);
        for (nr = 0; file_write(a, 3 * nr, 1, 'x') == 0; nr++)
            ;
        assert_int_equal(nr, total);
        assert_err(vol.ops->preallocate(a, 1, 1, 0), ENOSPC);
        assert_int_equal(vol_statfs(&vol).blocks_reserved, 0);
        for (uint64_t b = 0; b < nr; b++)
            assert_int_equal(file_byte(a, 3 * b), 'x');
        inode_put(a);
        file_unlink(&vol, root, "a");
        assert_int_equal(vol_free(&vol), total);
        inode_put(root);
        vol_unmount(&vol);
    }
}

static void a_file_without_a_name_lives_until_its_last_use(void **state)
{
    struct hf_inode *root, *a;
    struct vol vol;

    (void)state;
    vol_mount_memfs(&vol, 1 << 20, 4096);
    root = root_get(&vol);
    a = file_create(&vol, root, "a");
    assert_ok(file_write(a, 0, 9, 'a'));
    assert_ok(vol.ops->unlink(root, "a", a, ++vol.now_ns));
    file_check(a, 0, 9, 'a');
    assert_int_equal(vol_free(&vol), 256 - 9);
    inode_put(a);
    assert_int_equal(vol_free(&vol), 256);
    assert_int_equal(vol_statfs(&vol).inodes, 1);
    inode_put(root);
    vol_unmount(&vol);
}

static void impossible_block_sizes_are_refused(void **state)
{
    static const uint32_t sizes[] = {0, 256, 1000, 131072};

    (void)state;
    for (size_t i = 0; i < 4; i++) {
        struct hf_memfs_options options = {.size_bytes = 1 << 20, .block_size = sizes[i]};
        struct hf_super sb = {.driver = &hf_memfs_driver, .fs = &options};

        assert_err(hf_memfs_driver.mount(&sb), EINVAL);
        assert_true(sb.error_text[0] != 0);
    }
}

/* Two threads fill neighbouring blocks of one file: groups appear under their feet. */
static void *fill(void *arg)
{
    struct hf_inode *inode = ((struct hf_inode **)arg)[0];
    uint64_t first = (uint64_t)(uintptr_t)((void **)arg)[1];
    char buf[512];

    memset(buf, (int)('a' + first), sizeof(buf));
    for (uint64_t b = first; b < 20000; b += 2)
        if (inode->sb->driver->reserve(inode, 1, HF_NOWAIT) != 0 ||
            inode->sb->driver->allocate(inode, b, 1) != 0 ||
            inode->sb->driver->write(inode, buf, sizeof(buf), (hf_off_t)(b * 512)) != 0)
            return (void *)"a block";
    return NULL;
}

static void threads_fill_one_file(void **state)
{
    struct hf_inode *root, *a;
    pthread_t threads[2];
    struct vol vol;

    (void)state;
    vol_mount_memfs(&vol, 20000 * 512, 512);
    root = root_get(&vol);
    a = file_create(&vol, root, "a");
    {
        void *args[2][2] = {{a, (void *)0}, {a, (void *)1}};

        for (int t = 0; t < 2; t++)
            assert_int_equal(pthread_create(&threads[t], NULL, fill, args[t]), 0);
        for (int t = 0; t < 2; t++) {
            void *what;

            pthread_join(threads[t], &what);
            assert_null(what);
        }
    }
    assert_int_equal(vol_free(&vol), 0);
    for (uint64_t b = 0; b < 20000; b++)
        assert_int_equal(file_byte(a, b), 'a' + (int)(b % 2));
    inode_put(a);
    inode_put(root);
    vol_unmount(&vol);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(the_last_block),
        cmocka_unit_test(a_file_without_a_name_lives_until_its_last_use),
        cmocka_unit_test(impossible_block_sizes_are_refused),
        cmocka_unit_test(threads_fill_one_file),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
