/* SPDX-License-Identifier: MIT */
/*
 * dev_mem.c - anonymous memory as a device, for tests.
 *
 * Reads as zeros where nothing was written; costs memory only for what was touched. flush() has nothing to
 * do. No locks: as on a disk, two writes that race for the same bytes leave either's.
 */
#define _GNU_SOURCE
#include "dev/device_io.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>

struct hf_device_mem {
    struct hf_device base;
    char *bytes; /* set at init; NULL in a forked child */
};

static struct hf_device_mem *to_mem(struct hf_device *dev)
{
    return (struct hf_device_mem *)dev;
}

static int mem_read(struct hf_device *dev, void *buf, size_t len, hf_off_t off)
{
    struct hf_device_mem *mem = to_mem(dev);

    if (!mem->bytes || !hf_dev_range_ok(dev, off, len))
        return -EIO;
    memcpy(buf, mem->bytes + off, len);
    return 0;
}

static int mem_write(struct hf_device *dev, const void *buf, size_t len, hf_off_t off)
{
    struct hf_device_mem *mem = to_mem(dev);

    if (!mem->bytes || !hf_dev_range_ok(dev, off, len))
        return -EIO;
    memcpy(mem->bytes + off, buf, len);
    return 0;
}

static int mem_flush(struct hf_device *dev)
{
    return to_mem(dev)->bytes ? 0 : -EIO;
}

static int mem_discard(struct hf_device *dev, hf_off_t off, hf_off_t len)
{
    struct hf_device_mem *mem = to_mem(dev);

    if (!mem->bytes || !hf_dev_range_ok(dev, off, (uint64_t)len))
        return -EIO;
    memset(mem->bytes + off, 0, (size_t)len);
    return 0;
}

static void mem_forked(struct hf_device *dev)
{
    struct hf_device_mem *mem = to_mem(dev);

    if (mem->bytes)
        munmap(mem->bytes, (size_t)dev->size_bytes);
    mem->bytes = NULL;
}

static void mem_close(struct hf_device *dev)
{
    mem_forked(dev);
    free(dev);
}

static const struct hf_device_ops mem_ops = {
    .read = mem_read,
    .write = mem_write,
    .flush = mem_flush,
    .discard = mem_discard,
    .forked = mem_forked,
    .close = mem_close,
};

int hf_device_mem_new(hf_off_t size_bytes, struct hf_device **ret_dev)
{
    struct hf_device_mem *mem;

    if (size_bytes <= 0)
        return -EINVAL;
    mem = calloc(1, sizeof(*mem));
    if (!mem)
        return -ENOMEM;
    mem->bytes = mmap(NULL, (size_t)size_bytes, PROT_READ | PROT_WRITE,
                      MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
    if (mem->bytes == MAP_FAILED) {
        free(mem);
        return -ENOMEM;
    }
    mem->base.ops = &mem_ops;
    mem->base.size_bytes = size_bytes;
    snprintf(mem->base.name, sizeof(mem->base.name), "memory");
    *ret_dev = &mem->base;
    return 0;
}
