/* SPDX-License-Identifier: MIT */
/*
 * dev_file.h - what the library itself may do with a device from hf_device_file_open(), beyond device.h.
 */
#ifndef HF_DEV_DEV_FILE_H
#define HF_DEV_DEV_FILE_H

#include <holdfast/device.h>

/*
 * Sets the size of a regular file, under the lock the device holds. No other call on dev may be running.
 * Returns 0; -EOPNOTSUPP: not a regular file, or not a file device; -EROFS; or what ftruncate(2) returned.
 */
int hf_device_file_resize(struct hf_device *dev, hf_off_t size_bytes);

#ifdef HF_TESTING
#include <sys/types.h>

/* The host's calls below a file device: tests put others there, which are short or fail. */
struct hf_dev_host {
    ssize_t (*pread)(int fd, void *buf, size_t len, off_t off);
    ssize_t (*pwrite)(int fd, const void *buf, size_t len, off_t off);
    int (*fdatasync)(int fd);
};
extern struct hf_dev_host hf_test_dev_host;
#endif

#endif
