/* SPDX-License-Identifier: MIT */
/* header_mkfs.c - mkfs makes a whole volume, or none; and touches nothing it was not asked to. */
#define _GNU_SOURCE
#include "dev_tmpfs.h"
#include "metadb_util.h"

#include <fcntl.h>
#include <sys/stat.h>

#define VOLUME_BYTES (1 << 20)

static char err[HF_BLOCKFS_ERR];
static char path[64];

static hf_off_t file_size(void)
{
    struct stat st;

    return stat(path, &st) ? -errno : st.st_size;
}

static hf_off_t file_allocated(void)
{
    struct stat st;

    assert_ok(stat(path, &st));
    return (hf_off_t)st.st_blocks * 512;
}

static void a_volume_is_not_overwritten_without_force(void **state)
{
    struct hf_blockfs_header first, second;
    struct hf_device *dev = volume_new(VOLUME_BYTES, 512, &first), *before;

    (void)state;
    before = image_copy(dev);
    assert_err(hf_blockfs_mkfs(dev, NULL, err), EEXIST);
    assert_true(image_same(dev, before));
    /* Not even one of which only the copy is left. */
    image_flip(dev, 0, 0xff);
    assert_err(hf_blockfs_mkfs(dev, NULL, err), EEXIST);
    assert_ok(hf_blockfs_mkfs(dev, &(struct hf_mkfs_options){.force = true, .label = "new"}, err));
    assert_ok(hf_blockfs_header_read(dev, false, &second, NULL, err));
    assert_string_equal(second.label, "new");
    assert_int_equal(second.block_size, 4096);
    assert_memory_not_equal(first.uuid, second.uuid, 16);
    assert_int_equal(second.uuid[6] & 0xf0, 0x40);
    hf_metadb_close(metadb_open(dev, &second));
    hf_dev_close(before);
    hf_dev_close(dev);
}

static void options_are_refused_with_nothing_written(void **state)
{
    struct hf_mkfs_options bad[] = {{.block_size = 1000},
                                    {.size_bytes = VOLUME_BYTES + 1},
                                    {.size_bytes = 5000},
                                    {.metadata_bytes = 4096}};
    int wanted[] = {EINVAL, ENOSPC, ENOSPC, EINVAL};
    struct hf_device *lower, *dev;
    struct hf_device_counts counts;

    (void)state;
    assert_ok(hf_device_mem_new(VOLUME_BYTES, &lower));
    assert_ok(hf_device_fault_new(lower, &dev));
    for (size_t i = 0; i < 4; i++)
        assert_err(hf_blockfs_mkfs(dev, &bad[i], err), wanted[i]);
    hf_device_fault_counts(dev, &counts);
    assert_int_equal(counts.writes + counts.discards + counts.guarantees, 0);
    hf_dev_close(dev);
}

/* Old contents that would like to be taken for ours: a volume of another block size. */
static void cut_anywhere_it_is_the_old_no_or_the_new_volume(void **state)
{
    struct hf_mkfs_options opts = {.force = true, .label = "new"};
    struct hf_blockfs_header old, header;
    struct hf_device *base = volume_new(VOLUME_BYTES, 512, &old), *dev, *image;
    struct write_log *log;
    size_t none = 0;

    (void)state;
    dev = log_new(image_copy(base), &log);
    assert_ok(hf_blockfs_mkfs(dev, &opts, err));
    for (size_t nr = 0; nr <= log_count(log); nr++) {
        for (unsigned seed = 0; seed < 6; seed++) {
            enum log_cut cut = seed == 0 ? LOG_CUT_ALL : seed == 1 ? LOG_CUT_NONE : LOG_CUT_RANDOM;
            int ret;

            image = log_image(log, base, nr, cut, seed);
            ret = hf_blockfs_header_read(image, false, &header, NULL, err);
            if (ret == 0) { /* then it is a whole one */
                struct hf_metadb *db = metadb_open(image, &header);

                assert_int_equal(header.block_size, header.label[0] ? 4096 : 512);
                assert_ok(hf_metadb_quick_check(db, err));
                assert_ok(hf_metadb_close(db));
            } else {
                assert_true(ret == -EMEDIUMTYPE || ret == -EUCLEAN);
                none++;
            }
            if (nr == log_count(log)) {
                assert_string_equal(header.label, "new");
            }
            hf_dev_close(image);
        }
    }
    assert_true(none > log_count(log)); /* most of the time there is none */
    hf_dev_close(dev);
    hf_dev_close(base);
}

static void a_failing_device_leaves_no_volume(void **state)
{
    uint64_t nr_writes = 1, nr_flushes = 1;

    (void)state;
    for (int what = 0; what < 3; what++) {
        for (uint64_t n = 1; n <= (what == 0 ? nr_writes : nr_flushes); n++) {
            struct hf_blockfs_header header;
            struct hf_device_counts counts;
            struct hf_device *lower, *dev;
            int ret;

            assert_ok(hf_device_mem_new(VOLUME_BYTES, &lower));
            assert_ok(hf_device_fault_new(lower, &dev));
            hf_device_fault_set(dev, &(struct hf_device_faults){.fail_write_at = what == 0 ? n : 0,
                                                                .fail_flush_at = what == 1 ? n : 0,
                                                                .count = 1});
            ret = hf_blockfs_mkfs(dev, NULL, err);
            hf_device_fault_counts(dev, &counts);
            if (what == 2) {
                assert_ok(ret);
            } else if (ret == 0) { /* n is beyond the last */
                assert_true(n > 5);
            } else {
                assert_that(ret == -EIO, "%d at %d, %llu: %s", ret, what, (unsigned long long)n, err);
                assert_true(err[0]);
                assert_err(hf_blockfs_header_read(lower, false, &header, NULL, err), EMEDIUMTYPE);
                if (what == 0)
                    nr_writes = n + 1;
                else
                    nr_flushes = n + 1;
            }
            hf_dev_close(dev);
        }
    }
    assert_true(nr_writes > 10 && nr_flushes > 3);
}

static void no_space_to_guarantee_is_enospc_and_nothing_changed(void **state)
{
    struct hf_blockfs_header header;
    struct hf_device *dev;

    (void)state;
    assert_ok(hf_device_fault_new(volume_new(VOLUME_BYTES, 4096, &header), &dev));
    hf_device_fault_set(dev, &(struct hf_device_faults){.fail_guarantee_at = 1, .error = ENOSPC});
    assert_err(hf_blockfs_mkfs(dev, &(struct hf_mkfs_options){.force = true}, err), ENOSPC);
    assert_ok(hf_blockfs_header_read(dev, false, &header, NULL, err));
    hf_dev_close(dev);
}

static void by_path_thick_is_allocated_and_thin_is_not(void **state)
{
    struct hf_mkfs_options opts = {.size_bytes = 8 << 20};

    (void)state;
    unlink(path);
    assert_ok(hf_blockfs_mkfs_path(path, &opts, err));
    assert_true(file_size() == 8 << 20 && file_allocated() >= 8 << 20);
    opts.force = true;
    opts.thin = true;
    unlink(path);
    assert_ok(hf_blockfs_mkfs_path(path, &opts, err));
    assert_true(file_size() == 8 << 20 && file_allocated() < 4 << 20);
    /* Formatted anew, thick, with its size kept: now it is allocated. */
    opts = (struct hf_mkfs_options){.force = true};
    assert_ok(hf_blockfs_mkfs_path(path, &opts, err));
    assert_true(file_size() == 8 << 20 && file_allocated() >= 8 << 20);
    unlink(path);
}

static void by_path_a_failure_leaves_the_file_as_it_was(void **state)
{
    struct hf_mkfs_options opts = {.size_bytes = 8 << 20};
    struct hf_device *dev;

    (void)state;
    unlink(path);
    assert_err(hf_blockfs_mkfs_path(path, NULL, err), ENOENT);
    opts.block_size = 3;
    assert_err(hf_blockfs_mkfs_path(path, &opts, err), EINVAL);
    opts.block_size = 0;
    opts.size_bytes = 100;
    assert_err(hf_blockfs_mkfs_path(path, &opts, err), ENOSPC);
    assert_err(file_size(), ENOENT);
    assert_err(hf_blockfs_mkfs_path("/tmp", &opts, err), ENOSPC);

    opts.size_bytes = 8 << 20;
    assert_err(hf_blockfs_mkfs_path("/tmp", &opts, err), EISDIR);
    assert_ok(hf_blockfs_mkfs_path(path, &opts, err));
    opts.size_bytes = 4 << 20;
    assert_err(hf_blockfs_mkfs_path(path, &opts, err), EEXIST);
    opts.size_bytes = 16 << 20;
    assert_err(hf_blockfs_mkfs_path(path, &opts, err), EEXIST);
    assert_true(file_size() == 8 << 20);
    assert_ok(hf_device_file_open(path, HF_DEV_READ_ONLY, 0, &dev));
    opts.force = true;
    assert_err(hf_blockfs_mkfs_path(path, &opts, err), EBUSY);
    assert_true(file_size() == 8 << 20);
    hf_dev_close(dev);
    assert_ok(hf_blockfs_mkfs_path(path, &opts, err));
    assert_true(file_size() == 16 << 20);
    unlink(path);
}

/* On a tmpfs of 4 MiB of our own. */
static void full_host_child(void)
{
    struct hf_mkfs_options opts = {.size_bytes = 8 << 20};
    int fd;

    tmpfs_mount("4m");
    snprintf(path, sizeof(path), TMPFS_DIR "/v");
    CHILD_CHECK(hf_blockfs_mkfs_path(path, &opts, err) == -ENOSPC);
    CHILD_CHECK(strstr(err, "allocate"));
    CHILD_CHECK(file_size() == -ENOENT);
    fd = open(path, O_CREAT | O_WRONLY, 0600);
    CHILD_CHECK(fd >= 0 && write(fd, "keep me", 7) == 7 && close(fd) == 0);
    CHILD_CHECK(hf_blockfs_mkfs_path(path, &opts, err) == -ENOSPC);
    CHILD_CHECK(file_size() == 7);
    opts.thin = true;
    CHILD_CHECK(hf_blockfs_mkfs_path(path, &opts, err) == 0);
    CHILD_CHECK(file_size() == 8 << 20);
}

static void by_path_a_full_host_is_enospc_and_leaves_no_file(void **state)
{
    (void)state;
    tmpfs_run(full_host_child);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_volume_is_not_overwritten_without_force),
        cmocka_unit_test(options_are_refused_with_nothing_written),
        cmocka_unit_test(cut_anywhere_it_is_the_old_no_or_the_new_volume),
        cmocka_unit_test(a_failing_device_leaves_no_volume),
        cmocka_unit_test(no_space_to_guarantee_is_enospc_and_nothing_changed),
        cmocka_unit_test(by_path_thick_is_allocated_and_thin_is_not),
        cmocka_unit_test(by_path_a_failure_leaves_the_file_as_it_was),
        cmocka_unit_test(by_path_a_full_host_is_enospc_and_leaves_no_file),
    };
    int failed;

    snprintf(path, sizeof(path), "/tmp/hf-mkfs-%d", (int)getpid());
    failed = cmocka_run_group_tests_name("header_mkfs", tests, NULL, NULL);
    unlink(path);
    return failed;
}
