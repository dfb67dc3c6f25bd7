/* SPDX-License-Identifier: MIT */
/* dev_file_lock_and_space.c - a file device is locked, and knows thick from thin. */
#define _GNU_SOURCE
#include "check.h"
#include "dev_tmpfs.h"

#include "dev/dev_file.h"
#include "dev/device_io.h"

#include <fcntl.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/wait.h>

#define DEV_BYTES ((hf_off_t)4 << 20)

static char path[64];

static hf_off_t allocated(void)
{
    struct stat st;

    assert_ok(stat(path, &st));
    return (hf_off_t)st.st_blocks * 512;
}

static struct hf_device *create(uint32_t flags)
{
    struct hf_device *dev;

    unlink(path);
    assert_ok(hf_device_file_open(path, HF_DEV_CREATE | flags, DEV_BYTES, &dev));
    assert_true(dev->size_bytes == DEV_BYTES);
    assert_string_equal(dev->name, path);
    return dev;
}

static void a_second_opener_is_refused(void **state)
{
    struct hf_device *dev = create(0), *other = NULL;

    (void)state;
    assert_err(hf_device_file_open(path, 0, 0, &other), EBUSY);
    assert_err(hf_device_file_open(path, HF_DEV_READ_ONLY, 0, &other), EBUSY);
    assert_err(hf_device_file_open(path, HF_DEV_CREATE, 100, &other), EBUSY);
    assert_true(allocated() >= DEV_BYTES); /* the refused create cut nothing */
    hf_dev_close(dev);
    assert_ok(hf_device_file_open(path, HF_DEV_READ_ONLY, 0, &dev));
    assert_ok(hf_device_file_open(path, HF_DEV_READ_ONLY, 0, &other));
    hf_dev_close(other);
    assert_err(hf_device_file_open(path, 0, 0, &other), EBUSY);
    hf_dev_close(dev);
    assert_ok(hf_device_file_open(path, 0, 0, &dev));
    hf_dev_close(dev);
}

static void a_forked_child_lets_go_and_the_parent_keeps_the_lock(void **state)
{
    struct hf_device *dev = create(0), *other;
    char byte = 0;
    int status;
    pid_t pid;

    (void)state;
    pid = fork();
    if (pid == 0) {
        hf_dev_forked(dev);
        CHILD_CHECK(hf_dev_read(dev, &byte, 1, 0) == -EIO);
        CHILD_CHECK(hf_device_file_open(path, 0, 0, &other) == -EBUSY);
        _exit(0);
    }
    assert_ok(waitpid(pid, &status, 0));
    assert_int_equal(status, 0);
    assert_err(hf_device_file_open(path, 0, 0, &other), EBUSY);
    assert_ok(hf_dev_write(dev, &byte, 1, 0));
    hf_dev_close(dev);
}

static void thick_is_allocated_at_creation(void **state)
{
    struct hf_device *dev = create(0);

    (void)state;
    assert_true(allocated() >= DEV_BYTES);
    assert_null(dev->ops->guarantee);
    assert_err(hf_dev_discard(dev, 0, DEV_BYTES), EOPNOTSUPP); /* would undo it */
    hf_dev_close(dev);
}

static void thin_is_allocated_when_guaranteed(void **state)
{
    struct hf_device *dev = create(HF_DEV_THIN);
    char byte = 7;

    (void)state;
    assert_true(allocated() == 0);
    assert_ok(hf_dev_write(dev, &byte, 1, 1 << 20));
    assert_ok(hf_dev_guarantee(dev, 1 << 20, 1 << 20));
    assert_true(allocated() >= 1 << 20 && allocated() < 2 << 20);
    assert_ok(hf_dev_read(dev, &byte, 1, 1 << 20));
    assert_int_equal(byte, 7); /* what was there stays */
    assert_true(dev->size_bytes == DEV_BYTES);
    assert_ok(hf_dev_discard(dev, 1 << 20, 1 << 20));
    assert_true(allocated() == 0);
    hf_dev_close(dev);
}

static void discard_spares_what_shares_a_sector(void **state)
{
    struct hf_device *dev = create(HF_DEV_THIN);
    char buf[3 * 4096];

    (void)state;
    memset(buf, 7, sizeof(buf));
    assert_ok(hf_dev_write(dev, buf, sizeof(buf), 0));
    assert_ok(hf_dev_discard(dev, 100, 4096)); /* no whole 4096 in it */
    assert_ok(hf_dev_discard(dev, 4000, 5000));
    assert_ok(hf_dev_read(dev, buf, sizeof(buf), 0));
    assert_bytes(buf, 7, 4000);
    assert_bytes(buf + 9000, 7, sizeof(buf) - 9000);
    hf_dev_close(dev);
}

static void create_sets_the_size_and_resize_changes_it(void **state)
{
    struct hf_device *dev = create(HF_DEV_THIN), *mem;
    struct stat st;

    (void)state;
    assert_ok(hf_device_file_resize(dev, 8192));
    assert_true(dev->size_bytes == 8192);
    assert_err(hf_device_file_resize(dev, -1), EINVAL);
    hf_dev_close(dev);
    assert_ok(stat(path, &st));
    assert_int_equal(st.st_size, 8192);
    assert_ok(hf_device_file_open(path, HF_DEV_CREATE, 12288, &dev));
    assert_true(dev->size_bytes == 12288);
    hf_dev_close(dev);
    assert_ok(hf_device_mem_new(100, &mem));
    assert_err(hf_device_file_resize(mem, 200), EOPNOTSUPP);
    hf_dev_close(mem);
}

static void what_cannot_be_opened(void **state)
{
    struct hf_device *dev = NULL;

    (void)state;
    unlink(path);
    assert_err(hf_device_file_open(path, 0, 0, &dev), ENOENT);
    assert_err(hf_device_file_open("/tmp", 0, 0, &dev), EISDIR);
    assert_err(hf_device_file_open("/dev/null", 0, 0, &dev), EINVAL);
    assert_err(hf_device_file_open(path, HF_DEV_CREATE, 0, &dev), EINVAL);
    assert_err(hf_device_file_open(path, HF_DEV_CREATE | HF_DEV_READ_ONLY, 100, &dev), EINVAL);
    assert_err(hf_device_file_open(path, 0x80, 0, &dev), EINVAL);
    assert_null(dev);
    assert_err(access(path, F_OK) ? -errno : 0, ENOENT);
}

static void a_file_that_cannot_get_its_size_is_not_left_behind(void **state)
{
    struct rlimit old, small;
    struct hf_device *dev = NULL;

    (void)state;
    unlink(path);
    signal(SIGXFSZ, SIG_IGN);
    assert_ok(getrlimit(RLIMIT_FSIZE, &old));
    small = old;
    small.rlim_cur = 1 << 20;
    assert_ok(setrlimit(RLIMIT_FSIZE, &small));
    assert_err(hf_device_file_open(path, HF_DEV_CREATE, DEV_BYTES, &dev), EFBIG);
    assert_ok(setrlimit(RLIMIT_FSIZE, &old));
    assert_err(access(path, F_OK) ? -errno : 0, ENOENT);
}

/* On a tmpfs of 1 MiB of our own. */
static void full_host_child(void)
{
    struct hf_device *dev;
    static char buf[1 << 20];
    int ret;

    tmpfs_mount("1m");
    CHILD_CHECK(hf_device_file_open(TMPFS_DIR "/v", HF_DEV_CREATE, DEV_BYTES, &dev) == -ENOSPC);
    CHILD_CHECK(access(TMPFS_DIR "/v", F_OK) < 0);
    CHILD_CHECK(hf_device_file_open(TMPFS_DIR "/v", HF_DEV_CREATE | HF_DEV_THIN, DEV_BYTES, &dev) == 0);
    CHILD_CHECK(hf_dev_guarantee(dev, 0, 512 << 10) == 0);
    CHILD_CHECK(hf_dev_guarantee(dev, 1 << 20, 1 << 20) == -ENOSPC);
    CHILD_CHECK(hf_dev_write(dev, buf, 512 << 10, 0) == 0);
    do
        ret = hf_dev_write(dev, buf, sizeof(buf), 1 << 20);
    while (ret == 0);
    CHILD_CHECK(ret == -ENOSPC);
    hf_dev_close(dev);
    /* A file that was there and could not be extended is as it was. */
    CHILD_CHECK(truncate(TMPFS_DIR "/v", 4096) == 0);
    CHILD_CHECK(hf_device_file_open(TMPFS_DIR "/v", HF_DEV_CREATE, DEV_BYTES, &dev) == -ENOSPC);
    CHILD_CHECK(hf_device_file_open(TMPFS_DIR "/v", 0, 0, &dev) == 0);
    CHILD_CHECK(dev->size_bytes == 4096);
}

static void a_full_host_says_enospc(void **state)
{
    (void)state;
    tmpfs_run(full_host_child);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_second_opener_is_refused),
        cmocka_unit_test(a_forked_child_lets_go_and_the_parent_keeps_the_lock),
        cmocka_unit_test(thick_is_allocated_at_creation),
        cmocka_unit_test(thin_is_allocated_when_guaranteed),
        cmocka_unit_test(discard_spares_what_shares_a_sector),
        cmocka_unit_test(create_sets_the_size_and_resize_changes_it),
        cmocka_unit_test(what_cannot_be_opened),
        cmocka_unit_test(a_file_that_cannot_get_its_size_is_not_left_behind),
        cmocka_unit_test(a_full_host_says_enospc),
    };
    int failed;

    snprintf(path, sizeof(path), "/tmp/hf-dev-file-%d", (int)getpid());
    failed = cmocka_run_group_tests_name("dev_file_lock_and_space", tests, NULL, NULL);
    unlink(path);
    return failed;
}
