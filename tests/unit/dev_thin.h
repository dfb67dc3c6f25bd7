/* SPDX-License-Identifier: MIT */
/*
 * dev_thin.h - a thin device of any size in memory, which counts: it has so many chunks of 4096 bytes to give
 * away, to guarantee() and to writes; then both are -ENOSPC. What was never written reads as zeros. For one
 * thread.
 */
#ifndef TESTS_UNIT_DEV_THIN_H
#define TESTS_UNIT_DEV_THIN_H

#include "dev/device_io.h"

#define DEV_THIN_CHUNK 4096u

struct hf_device *dev_thin_new(hf_off_t size_bytes, uint64_t chunks);

struct dev_thin_counts {
    uint64_t reads, read_bytes;
    uint64_t chunks; /* given away */
    uint64_t late;   /* of them to writes, which had not been guaranteed */
};
struct dev_thin_counts dev_thin_counts(struct hf_device *dev);
/* Has so many chunks from now on. */
void dev_thin_limit(struct hf_device *dev, uint64_t chunks);

#endif
