/* SPDX-License-Identifier: MIT */
/*
 * device_io.h - how the library calls a device.
 *
 * Every caller of struct hf_device_ops goes through these: they check the range and read_only once, here, so
 * that a wrong offset never becomes I/O on the host, and they know what a missing optional op means.
 */
#ifndef HF_DEV_DEVICE_IO_H
#define HF_DEV_DEVICE_IO_H

#include <holdfast/device.h>

#include <errno.h>

static inline hf_off_t hf_dev_size(const struct hf_device *dev)
{
    return __atomic_load_n(&dev->size_bytes, __ATOMIC_RELAXED);
}

/* True if [off, off+len) lies on the device. */
static inline bool hf_dev_range_ok(const struct hf_device *dev, hf_off_t off, uint64_t len)
{
    hf_off_t size = hf_dev_size(dev);

    return off >= 0 && off <= size && len <= (uint64_t)(size - off);
}

static inline int hf_dev_read(struct hf_device *dev, void *buf, size_t len, hf_off_t off)
{
    if (!hf_dev_range_ok(dev, off, len))
        return -EIO;
    return len ? dev->ops->read(dev, buf, len, off) : 0;
}

static inline int hf_dev_write(struct hf_device *dev, const void *buf, size_t len, hf_off_t off)
{
    if (dev->read_only)
        return -EROFS;
    if (!hf_dev_range_ok(dev, off, len))
        return -EIO;
    return len ? dev->ops->write(dev, buf, len, off) : 0;
}

/* A read-only device has nothing to flush. */
static inline int hf_dev_flush(struct hf_device *dev)
{
    return dev->read_only ? 0 : dev->ops->flush(dev);
}

/* A device without guarantee() is thick: the promise holds already. */
static inline int hf_dev_guarantee(struct hf_device *dev, hf_off_t off, hf_off_t len)
{
    if (dev->read_only)
        return -EROFS;
    if (len < 0 || !hf_dev_range_ok(dev, off, (uint64_t)len))
        return -EIO;
    return len && dev->ops->guarantee ? dev->ops->guarantee(dev, off, len) : 0;
}

static inline int hf_dev_discard(struct hf_device *dev, hf_off_t off, hf_off_t len)
{
    if (dev->read_only)
        return -EROFS;
    if (len < 0 || !hf_dev_range_ok(dev, off, (uint64_t)len))
        return -EIO;
    if (!dev->ops->discard)
        return -EOPNOTSUPP;
    return len ? dev->ops->discard(dev, off, len) : 0;
}

/* -ENOSPC: it cannot be made larger. */
static inline int hf_dev_resize(struct hf_device *dev, hf_off_t size_bytes)
{
    if (dev->read_only)
        return -EROFS;
    if (!dev->ops->resize)
        return -ENOSPC;
    return dev->ops->resize(dev, size_bytes);
}

static inline void hf_dev_forked(struct hf_device *dev)
{
    if (dev->ops->forked)
        dev->ops->forked(dev);
}

/* NULL is fine. */
static inline void hf_dev_close(struct hf_device *dev)
{
    if (dev)
        dev->ops->close(dev);
}

#endif
