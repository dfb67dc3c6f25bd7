/* SPDX-License-Identifier: MIT */
/*
 * dev_fault.c - a shim over another device that fails the n-th operation, and counts them.
 *
 * A failed operation does not reach the device below: a failed write has written nothing.
 * Locks: `lock`, a leaf: it is never held while the device below is called.
 * Neighbours: owns the device below; anything may stand above, another shim too.
 */
#include "dev/device_io.h"

#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum fault_op { OP_READ, OP_WRITE, OP_FLUSH, OP_GUARANTEE, OP_DISCARD, NR_OPS };

struct hf_device_fault {
    struct hf_device base;
    /* set at init */
    struct hf_device *lower;
    struct hf_device_ops ops; /* optional ones only where the device below has them */
    /* guarded by lock */
    pthread_mutex_t lock;
    struct hf_device_faults faults;
    uint64_t since_set[NR_OPS]; /* operations that count, since hf_device_fault_set() */
    uint64_t total[NR_OPS];
};

static struct hf_device_fault *to_fault(struct hf_device *dev)
{
    return (struct hf_device_fault *)dev;
}

static uint64_t fault_at(const struct hf_device_faults *faults, enum fault_op op)
{
    switch (op) {
    case OP_READ:
        return faults->fail_read_at;
    case OP_WRITE:
        return faults->fail_write_at;
    case OP_FLUSH:
        return faults->fail_flush_at;
    case OP_GUARANTEE:
        return faults->fail_guarantee_at;
    case OP_DISCARD:
        return faults->fail_discard_at;
    default:
        return 0;
    }
}

/* A flush concerns the whole device, so a range does not spare it. */
static bool fault_in_range(const struct hf_device_faults *faults, enum fault_op op, hf_off_t off,
                           hf_off_t len)
{
    if (op == OP_FLUSH || (faults->range_start == 0 && faults->range_end == 0))
        return true;
    return off < faults->range_end && off + len > faults->range_start;
}

/* Counts one operation; returns 0 or the error it has to fail with. */
static int fault_check(struct hf_device_fault *fault, enum fault_op op, hf_off_t off, hf_off_t len)
{
    const struct hf_device_faults *faults = &fault->faults;
    int ret = 0;

    pthread_mutex_lock(&fault->lock);
    fault->total[op]++;
    if (fault_in_range(faults, op, off, len)) {
        uint64_t at = fault_at(faults, op);
        uint64_t nth = ++fault->since_set[op];

        if (at && nth >= at && (faults->count == 0 || nth - at < faults->count))
            ret = faults->error ? -faults->error : -EIO;
    }
    pthread_mutex_unlock(&fault->lock);
    return ret;
}

static int fault_read(struct hf_device *dev, void *buf, size_t len, hf_off_t off)
{
    int ret = fault_check(to_fault(dev), OP_READ, off, (hf_off_t)len);

    return ret ? ret : hf_dev_read(to_fault(dev)->lower, buf, len, off);
}

static int fault_write(struct hf_device *dev, const void *buf, size_t len, hf_off_t off)
{
    int ret = fault_check(to_fault(dev), OP_WRITE, off, (hf_off_t)len);

    return ret ? ret : hf_dev_write(to_fault(dev)->lower, buf, len, off);
}

static int fault_flush(struct hf_device *dev)
{
    int ret = fault_check(to_fault(dev), OP_FLUSH, 0, 0);

    return ret ? ret : hf_dev_flush(to_fault(dev)->lower);
}

static int fault_guarantee(struct hf_device *dev, hf_off_t off, hf_off_t len)
{
    int ret = fault_check(to_fault(dev), OP_GUARANTEE, off, len);

    return ret ? ret : hf_dev_guarantee(to_fault(dev)->lower, off, len);
}

static int fault_discard(struct hf_device *dev, hf_off_t off, hf_off_t len)
{
    int ret = fault_check(to_fault(dev), OP_DISCARD, off, len);

    return ret ? ret : hf_dev_discard(to_fault(dev)->lower, off, len);
}

static int fault_resize(struct hf_device *dev, hf_off_t size_bytes)
{
    struct hf_device *lower = to_fault(dev)->lower;
    int ret = hf_dev_resize(lower, size_bytes);

    if (!ret)
        __atomic_store_n(&dev->size_bytes, hf_dev_size(lower), __ATOMIC_RELAXED);
    return ret;
}

static void fault_forked(struct hf_device *dev)
{
    hf_dev_forked(to_fault(dev)->lower);
}

static void fault_close(struct hf_device *dev)
{
    struct hf_device_fault *fault = to_fault(dev);

    hf_dev_close(fault->lower);
    pthread_mutex_destroy(&fault->lock);
    free(fault);
}

int hf_device_fault_new(struct hf_device *lower, struct hf_device **ret_dev)
{
    struct hf_device_fault *fault = calloc(1, sizeof(*fault));

    if (!fault) {
        hf_dev_close(lower);
        return -ENOMEM;
    }
    pthread_mutex_init(&fault->lock, NULL);
    fault->lower = lower;
    fault->ops = (struct hf_device_ops){
        .read = fault_read,
        .write = fault_write,
        .flush = fault_flush,
        /* A device that has no guarantee() may still be made to break its promise. */
        .guarantee = fault_guarantee,
        .discard = lower->ops->discard ? fault_discard : NULL,
        .resize = lower->ops->resize ? fault_resize : NULL,
        .forked = fault_forked,
        .close = fault_close,
    };
    fault->base = *lower;
    fault->base.ops = &fault->ops;
    *ret_dev = &fault->base;
    return 0;
}

void hf_device_fault_set(struct hf_device *dev, const struct hf_device_faults *faults)
{
    struct hf_device_fault *fault = to_fault(dev);

    pthread_mutex_lock(&fault->lock);
    fault->faults = *faults;
    memset(fault->since_set, 0, sizeof(fault->since_set));
    pthread_mutex_unlock(&fault->lock);
}

void hf_device_fault_counts(struct hf_device *dev, struct hf_device_counts *ret_counts)
{
    struct hf_device_fault *fault = to_fault(dev);

    pthread_mutex_lock(&fault->lock);
    *ret_counts = (struct hf_device_counts){
        .reads = fault->total[OP_READ],
        .writes = fault->total[OP_WRITE],
        .flushes = fault->total[OP_FLUSH],
        .guarantees = fault->total[OP_GUARANTEE],
        .discards = fault->total[OP_DISCARD],
    };
    pthread_mutex_unlock(&fault->lock);
}
