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

#endif
