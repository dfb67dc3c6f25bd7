/* SPDX-License-Identifier: MIT */
/* dev_ranges.c - devices transfer exactly what lies on them, at any alignment, and refuse the rest. */
#include "check.h"

#include "dev/device_io.h"

#include <sys/stat.h>

#define DEV_BYTES (1 << 20)

static char path[64];

static struct hf_device *make_mem(void)
{
    struct hf_device *dev;

    assert_ok(hf_device_mem_new(DEV_BYTES, &dev));
    return dev;
}

static struct hf_device *make_file(void)
{
    struct hf_device *dev;

    assert_ok(hf_device_file_open(path, HF_DEV_CREATE | HF_DEV_THIN, DEV_BYTES, &dev));
    return dev;
}

/* Any offset, any length: what was written last is what is read. */
static void round_trip(struct hf_device *dev)
{
    uint8_t *model = calloc(1, DEV_BYTES), *buf = malloc(DEV_BYTES);

    assert_non_null(model);
    assert_non_null(buf);
    srand(1);
    for (int i = 0; i < 500; i++) {
        hf_off_t off = rand() % DEV_BYTES;
        size_t len = (size_t)(rand() % 20000);

        if (len > (size_t)(DEV_BYTES - off))
            len = (size_t)(DEV_BYTES - off);
        memset(model + off, i, len);
        assert_ok(hf_dev_write(dev, model + off, len, off));
        if (i % 50 == 0)
            assert_ok(hf_dev_flush(dev));
    }
    assert_ok(hf_dev_read(dev, buf, DEV_BYTES, 0));
    assert_memory_equal(buf, model, DEV_BYTES);
    free(model);
    free(buf);
    hf_dev_close(dev);
}

/* Straight to the ops as well: a device does not count on its caller. */
static void out_of_range(struct hf_device *dev)
{
    static const struct {
        hf_off_t off;
        size_t len;
    } bad[] = {
        {-1, 1},        {DEV_BYTES, 1}, {DEV_BYTES - 1, 2}, {0, DEV_BYTES + 1},
        {INT64_MAX, 1}, {1, SIZE_MAX},  {-1, SIZE_MAX},
    };
    char byte = 0;

    for (size_t i = 0; i < sizeof(bad) / sizeof(bad[0]); i++) {
        assert_err(hf_dev_read(dev, &byte, bad[i].len, bad[i].off), EIO);
        assert_err(hf_dev_write(dev, &byte, bad[i].len, bad[i].off), EIO);
        assert_err(dev->ops->read(dev, &byte, bad[i].len, bad[i].off), EIO);
        assert_err(dev->ops->write(dev, &byte, bad[i].len, bad[i].off), EIO);
    }
    assert_err(hf_dev_guarantee(dev, 0, -1), EIO);
    assert_err(hf_dev_guarantee(dev, DEV_BYTES, 1), EIO);
    assert_err(hf_dev_discard(dev, DEV_BYTES - 1, 2), EIO);
    assert_ok(hf_dev_read(dev, &byte, 0, DEV_BYTES));
    assert_ok(hf_dev_read(dev, &byte, 1, DEV_BYTES - 1));
    hf_dev_close(dev);
}

static void mem_round_trip(void **state)
{
    (void)state;
    round_trip(make_mem());
}

static void file_round_trip(void **state)
{
    (void)state;
    round_trip(make_file());
}

static void mem_out_of_range(void **state)
{
    (void)state;
    out_of_range(make_mem());
}

static void file_out_of_range_leaves_the_host_alone(void **state)
{
    struct stat st;

    (void)state;
    out_of_range(make_file());
    assert_ok(stat(path, &st));
    assert_int_equal(st.st_size, DEV_BYTES);
}

static void mem_reads_zeros_and_forgets_what_is_discarded(void **state)
{
    struct hf_device *dev = make_mem();
    char buf[8192];

    (void)state;
    assert_ok(hf_dev_read(dev, buf, sizeof(buf), 12345));
    assert_bytes(buf, 0, sizeof(buf));
    memset(buf, 7, sizeof(buf));
    assert_ok(hf_dev_write(dev, buf, sizeof(buf), 0));
    assert_ok(hf_dev_discard(dev, 0, 4096));
    assert_ok(hf_dev_read(dev, buf, 1, 4096));
    assert_bytes(buf, 7, 1);
    hf_dev_close(dev);
}

static void mem_refuses_no_size(void **state)
{
    struct hf_device *dev = NULL;

    (void)state;
    assert_err(hf_device_mem_new(0, &dev), EINVAL);
    assert_err(hf_device_mem_new(-1, &dev), EINVAL);
    assert_null(dev);
}

static void read_only_is_never_written(void **state)
{
    struct hf_device *dev;
    char byte = 1;

    (void)state;
    hf_dev_close(make_file());
    assert_ok(hf_device_file_open(path, HF_DEV_READ_ONLY | HF_DEV_THIN, 0, &dev));
    assert_true(dev->read_only);
    assert_err(hf_dev_write(dev, &byte, 1, 0), EROFS);
    assert_err(dev->ops->write(dev, &byte, 1, 0), EROFS);
    assert_err(hf_dev_discard(dev, 0, 4096), EROFS);
    assert_err(dev->ops->discard(dev, 0, 4096), EROFS);
    assert_err(hf_dev_guarantee(dev, 0, 4096), EROFS);
    assert_ok(hf_dev_flush(dev));
    assert_ok(hf_dev_read(dev, &byte, 1, 0));
    hf_dev_close(dev);
}

static void file_that_was_cut_gives_eio(void **state)
{
    struct hf_device *dev = make_file();
    char buf[100];

    (void)state;
    assert_ok(truncate(path, 50));
    assert_err(hf_dev_read(dev, buf, sizeof(buf), 0), EIO);
    assert_ok(hf_dev_read(dev, buf, 50, 0));
    hf_dev_close(dev);
    unlink(path);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(mem_round_trip),
        cmocka_unit_test(file_round_trip),
        cmocka_unit_test(mem_out_of_range),
        cmocka_unit_test(file_out_of_range_leaves_the_host_alone),
        cmocka_unit_test(mem_reads_zeros_and_forgets_what_is_discarded),
        cmocka_unit_test(mem_refuses_no_size),
        cmocka_unit_test(read_only_is_never_written),
        cmocka_unit_test(file_that_was_cut_gives_eio),
    };
    int failed;

    snprintf(path, sizeof(path), "/tmp/hf-dev-ranges-%d", (int)getpid());
    failed = cmocka_run_group_tests_name("dev_ranges", tests, NULL, NULL);
    unlink(path);
    return failed;
}
