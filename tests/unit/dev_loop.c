/* SPDX-License-Identifier: MIT */
/*
 * dev_loop.c - a volume on a real block device: it grows after the device has, in use and closed, and what it
 * trims reaches the device, which gives the space back to the file behind it.
 *
 * The loop device goes with its last descriptor, so none is left behind however this ends. Whoever looks at
 * new block devices (udev) locks them for a moment: an open that meets that is tried again.
 */
#define _GNU_SOURCE
#include "check.h"

#include <holdfast/maintain.h>

#include <fcntl.h>
#include <linux/loop.h>
#include <sys/ioctl.h>
#include <sys/stat.h>

#define MIB (1 << 20)
#define TRIES 3000 /* of 10 ms */

struct loop {
    char path[32], file[64];
    int fd, file_fd;
};

/* A free loop device gets the file. 0, or a negative errno. */
static int loop_attach(struct loop *loop)
{
    int control = open("/dev/loop-control", O_RDWR | O_CLOEXEC), ret = -EBUSY;
    struct loop_info64 info = {.lo_flags = LO_FLAGS_AUTOCLEAR};

    if (control < 0)
        return -errno;
    for (int tries = 0; tries < 100 && ret == -EBUSY; tries++) {
        int nr = ioctl(control, LOOP_CTL_GET_FREE);

        snprintf(loop->path, sizeof(loop->path), "/dev/loop%d", nr);
        loop->fd = nr < 0 ? -1 : open(loop->path, O_RDWR | O_CLOEXEC);
        ret = loop->fd < 0 ? -errno : 0;
        if (ret == 0 && ioctl(loop->fd, LOOP_SET_FD, loop->file_fd) < 0) {
            ret = -errno; /* EBUSY: somebody else was faster */
            close(loop->fd);
        }
    }
    close(control);
    if (ret == 0 && ioctl(loop->fd, LOOP_SET_STATUS64, &info) < 0) {
        ret = -errno;
        ioctl(loop->fd, LOOP_CLR_FD);
        close(loop->fd);
    }
    return ret;
}

static void loop_detach(struct loop *loop)
{
    close(loop->fd);
    close(loop->file_fd);
}

/* Skips the test where there are no loop devices. */
static void loop_begin(struct loop *loop, off_t bytes)
{
    int ret;

    snprintf(loop->file, sizeof(loop->file), "/tmp/holdfast-loop-XXXXXX");
    loop->file_fd = mkostemp(loop->file, O_CLOEXEC);
    assert_true(loop->file_fd >= 0);
    unlink(loop->file);
    assert_ok(ftruncate(loop->file_fd, bytes));
    ret = loop_attach(loop);
    if (ret < 0) {
        close(loop->file_fd);
        print_message("skipped: no loop device can be had here: %s\n", strerror(-ret));
        skip();
    }
}

static void loop_grow(struct loop *loop, off_t bytes)
{
    assert_ok(ftruncate(loop->file_fd, bytes));
    assert_ok(ioctl(loop->fd, LOOP_SET_CAPACITY, 0));
}

/* Bytes that the host has allocated for the file. */
static off_t host_bytes(struct loop *loop)
{
    struct stat st;

    assert_ok(fsync(loop->file_fd));
    assert_ok(fstat(loop->file_fd, &st));
    return st.st_blocks * 512;
}

/* A call that opens the device, again while somebody holds a lock on it. */
#define PATIENTLY(call)                                                                       \
    do {                                                                                      \
        int patiently = (call);                                                               \
        for (int i_ = 0; i_ < TRIES && patiently == -EBUSY; i_++) {                           \
            usleep(10000);                                                                    \
            patiently = (call);                                                               \
        }                                                                                     \
        assert_that(patiently == 0, "%s: %d (%s)", #call, patiently, hf_volume_error_text()); \
    } while (0)

static void file_put(struct hf_volume *volume, const char *name, size_t bytes, int value)
{
    struct hf_file *file;
    char *data = malloc(bytes);

    assert_non_null(data);
    memset(data, value, bytes);
    assert_ok(hf_open(volume, name, O_RDWR | O_CREAT, 0600, &file));
    assert_count(hf_pwrite(file, data, bytes, 0), bytes);
    assert_ok(hf_fsync(file));
    assert_ok(hf_close(file));
    free(data);
}

static void file_is(struct hf_volume *volume, const char *name, size_t bytes, int value)
{
    struct hf_file *file;
    char *data = malloc(bytes);

    assert_non_null(data);
    assert_ok(hf_open(volume, name, O_RDONLY, 0, &file));
    assert_count(hf_pread(file, data, bytes, 0), bytes);
    for (size_t i = 0; i < bytes; i++)
        assert_int_equal(data[i], value);
    assert_ok(hf_close(file));
    free(data);
}

static void check_clean(struct loop *loop)
{
    struct hf_check_result result;

    PATIENTLY(hf_check(loop->path, NULL, &result));
    assert_int_equal(result.problems, 0);
}

static uint64_t blocks(struct hf_volume *volume)
{
    struct hf_statfs st;

    assert_ok(hf_volume_statfs(volume, &st));
    return st.blocks;
}

static void grows_and_trims_in_use(struct loop *loop)
{
    struct hf_volume *volume;
    uint64_t before, bytes;
    off_t full;
    int ret;

    PATIENTLY(hf_volume_open(loop->path, NULL, &volume));
    file_put(volume, "/kept", 2 * MIB, 'k');
    before = blocks(volume);
    assert_err(hf_volume_grow(volume, 0), EALREADY);
    assert_err(hf_volume_grow(volume, 16 * MIB), ENOSPC);
    loop_grow(loop, 16 * MIB);
    assert_ok(hf_volume_grow(volume, 0));
    assert_true(blocks(volume) > before + 6 * MIB / 4096);
    file_put(volume, "/gone", 8 * MIB, 'g');
    full = host_bytes(loop);
    assert_ok(hf_unlink(volume, "/gone"));
    ret = hf_volume_trim(volume, 0, &bytes);
    if (ret == -EOPNOTSUPP) {
        print_message("not looked at: this loop device has no discard\n");
    } else {
        assert_ok(ret);
        assert_true(bytes >= 8 * MIB);
        assert_true(host_bytes(loop) <= full - 7 * MIB);
    }
    file_is(volume, "/kept", 2 * MIB, 'k');
    file_put(volume, "/new", 8 * MIB, 'n');
    assert_ok(hf_volume_close(volume));
}

static void grows_and_trims_closed(struct loop *loop)
{
    struct hf_volume *volume;
    uint64_t bytes;
    int ret = -EBUSY;

    loop_grow(loop, 24 * MIB);
    PATIENTLY(hf_grow(loop->path, 0));
    for (int i = 0; i < TRIES && (ret = hf_trim(loop->path, &bytes)) == -EBUSY; i++)
        usleep(10000);
    assert_true(ret == 0 || ret == -EOPNOTSUPP);
    check_clean(loop);
    PATIENTLY(hf_volume_open(loop->path, NULL, &volume));
    assert_true(blocks(volume) > 20 * MIB / 4096);
    file_is(volume, "/kept", 2 * MIB, 'k');
    file_is(volume, "/new", 8 * MIB, 'n');
    assert_ok(hf_volume_close(volume));
}

static void grows_and_trims(void **state)
{
    struct loop loop;

    (void)state;
    loop_begin(&loop, 8 * MIB);
    PATIENTLY(hf_mkfs(loop.path, NULL));
    grows_and_trims_in_use(&loop);
    check_clean(&loop);
    grows_and_trims_closed(&loop);
    loop_detach(&loop);
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(grows_and_trims)};

    return cmocka_run_group_tests(tests, NULL, NULL);
}
