/* SPDX-License-Identifier: MIT */
/*
 * volume_close_errors.c - what hf_volume_close() reports: data that could not be written before a promise
 * that leaked (HOLD-8), and each of them alone.
 */
#include "wrapped_driver.h"

static const struct hf_driver *real;

static int write_fails(struct hf_inode *inode, const void *buf, size_t len, hf_off_t off)
{
    (void)inode;
    (void)buf;
    (void)len;
    (void)off;
    return -EIO;
}

static int statfs_leaks(struct hf_super *sb, struct hf_statfs *ret_statfs)
{
    int r = real->statfs(sb, ret_statfs);

    ret_statfs->blocks_reserved++;
    return r;
}

static int close_with(bool fails, bool leaks)
{
    struct hf_file *file;
    struct wrapped w;

    wrapped_memfs(&w, 1 << 20, 4096);
    real = w.real;
    if (fails)
        w.driver.write = write_fails;
    if (leaks)
        w.driver.statfs = statfs_leaks;
    wrapped_open(&w, NULL);
    file = wrapped_file(&w, "/f", 0);
    assert_int_equal(hf_pwrite(file, "data", 4, 0), 4);
    assert_ok(hf_close(file));
    return wrapped_close(&w);
}

static void each_error_and_both(void **state)
{
    (void)state;
    assert_ok(close_with(false, false));
    assert_err(close_with(true, false), EIO);
    assert_err(close_with(false, true), ENOTRECOVERABLE);
    assert_err(close_with(true, true), EIO);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(each_error_and_both),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
