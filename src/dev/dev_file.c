/* SPDX-License-Identifier: MIT */
/*
 * dev_file.c - a regular file or block device as a device.
 *
 * Invariant: while the device is open the file is locked by flock(2), exclusively, or shared if read only;
 * nothing is changed before the lock is held. No locks of ours: pread and pwrite carry their offset.
 *
 * Thick and thin: a regular file opened with HF_DEV_THIN has guarantee(), and discard() gives its blocks back
 * to the host. Opened without, it has neither: punching a hole would take back what preallocation promised
 * (HOLD-10). A block device is thick as far as anybody can tell from here.
 */
#define _GNU_SOURCE
#include "dev/dev_file.h"
#include "base/fsize.h"
#include "dev/device_io.h"

#include <fcntl.h>
#include <linux/fs.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <sys/ioctl.h>
#include <unistd.h>

#define DISCARD_ALIGN 4096

#ifdef HF_TESTING
struct hf_dev_host hf_test_dev_host = {pread, pwrite, fdatasync};
#define HOST(call) hf_test_dev_host.call
#else
#define HOST(call) call
#endif

struct hf_device_file {
    struct hf_device base;
    int fd; /* set at init; -1 in a forked child */
    /* A flush failed: the host may have dropped what was written before it, and a later fsync(2) would say
     * nothing of that. So no flush succeeds any more until the volume is opened again. */
    atomic_bool flush_failed;
};

static struct hf_device_file *to_file(struct hf_device *dev)
{
    return (struct hf_device_file *)dev;
}

/* The errnos a device may answer with. A host quota is a full disk to us. */
static int file_error(int error)
{
    return error == ENOSPC || error == EDQUOT ? -ENOSPC : -EIO;
}

static int file_read(struct hf_device *dev, void *buf, size_t len, hf_off_t off)
{
    char *to = buf;

    if (!hf_dev_range_ok(dev, off, len))
        return -EIO;
    while (len) {
        ssize_t got = HOST(pread)(to_file(dev)->fd, to, len, off);

        if (got < 0 && errno == EINTR)
            continue;
        if (got <= 0) /* 0: somebody cut the file */
            return -EIO;
        to += got;
        off += got;
        len -= (size_t)got;
    }
    return 0;
}

static int file_write(struct hf_device *dev, const void *buf, size_t len, hf_off_t off)
{
    const char *from = buf;
    struct rlimit old;

    if (dev->read_only)
        return -EROFS;
    if (!hf_dev_range_ok(dev, off, len))
        return -EIO;
    while (len) {
        ssize_t put = HOST(pwrite)(to_file(dev)->fd, from, len, off);

        if (put < 0 && errno == EFBIG && hf_fsize_lift(&old)) {
            put = HOST(pwrite)(to_file(dev)->fd, from, len, off);
            hf_fsize_restore(&old);
        }
        if (put < 0 && errno == EINTR)
            continue;
        if (put <= 0)
            return put ? file_error(errno) : -EIO;
        from += put;
        off += put;
        len -= (size_t)put;
    }
    return 0;
}

static int file_flush(struct hf_device *dev)
{
    int ret;

    if (atomic_load(&to_file(dev)->flush_failed))
        return -EIO;
    do
        ret = HOST(fdatasync)(to_file(dev)->fd);
    while (ret < 0 && errno == EINTR);
    if (ret < 0)
        atomic_store(&to_file(dev)->flush_failed, true);
    return ret < 0 ? -EIO : 0;
}

/*
 * For hosts without fallocate(2): writing back what is there allocates it. Nobody else may write to the range
 * meanwhile; the range of a reservation has no owner yet, so nobody does.
 */
static int file_rewrite(struct hf_device *dev, hf_off_t off, hf_off_t len)
{
    const hf_off_t chunk = 1 << 20;
    char *buf = malloc((size_t)chunk);
    int ret = buf ? 0 : -EIO;

    while (!ret && len) {
        hf_off_t part = len < chunk ? len : chunk;

        ret = file_read(dev, buf, (size_t)part, off);
        if (!ret)
            ret = file_write(dev, buf, (size_t)part, off);
        off += part;
        len -= part;
    }
    free(buf);
    return ret;
}

static int file_guarantee(struct hf_device *dev, hf_off_t off, hf_off_t len)
{
    int ret;

    if (dev->read_only)
        return -EROFS;
    if (len < 0 || !hf_dev_range_ok(dev, off, (uint64_t)len))
        return -EIO;
    do
        ret = fallocate(to_file(dev)->fd, FALLOC_FL_KEEP_SIZE, off, len);
    while (ret < 0 && errno == EINTR);
    if (ret < 0 && (errno == EOPNOTSUPP || errno == ENOSYS))
        return file_rewrite(dev, off, len);
    return ret < 0 ? file_error(errno) : 0;
}

/* Rounds a range inwards; false if nothing is left. */
static bool discard_align(hf_off_t *off, hf_off_t *len)
{
    hf_off_t first = (*off + DISCARD_ALIGN - 1) / DISCARD_ALIGN * DISCARD_ALIGN;
    hf_off_t end = (*off + *len) / DISCARD_ALIGN * DISCARD_ALIGN;

    *off = first;
    *len = end - first;
    return end > first;
}

static int file_discard(struct hf_device *dev, hf_off_t off, hf_off_t len)
{
    int ret;

    if (dev->read_only)
        return -EROFS;
    if (len < 0 || !hf_dev_range_ok(dev, off, (uint64_t)len))
        return -EIO;
    if (!discard_align(&off, &len))
        return 0;
    do
        ret = fallocate(to_file(dev)->fd, FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE, off, len);
    while (ret < 0 && errno == EINTR);
    if (ret < 0)
        return errno == EOPNOTSUPP || errno == ENOSYS ? -EOPNOTSUPP : -EIO;
    return 0;
}

static int blk_discard(struct hf_device *dev, hf_off_t off, hf_off_t len)
{
    uint64_t range[2];

    if (dev->read_only)
        return -EROFS;
    if (len < 0 || !hf_dev_range_ok(dev, off, (uint64_t)len))
        return -EIO;
    if (!discard_align(&off, &len))
        return 0;
    range[0] = (uint64_t)off;
    range[1] = (uint64_t)len;
    if (ioctl(to_file(dev)->fd, BLKDISCARD, range) < 0)
        return errno == EOPNOTSUPP || errno == ENOTTY || errno == EINVAL ? -EOPNOTSUPP : -EIO;
    return 0;
}

static void set_size(struct hf_device *dev, hf_off_t size_bytes)
{
    __atomic_store_n(&dev->size_bytes, size_bytes, __ATOMIC_RELAXED);
}

static int file_resize(struct hf_device *dev, hf_off_t size_bytes)
{
    int ret;

    do
        ret = ftruncate(to_file(dev)->fd, size_bytes);
    while (ret < 0 && errno == EINTR);
    if (ret < 0)
        return file_error(errno == EFBIG ? ENOSPC : errno);
    set_size(dev, size_bytes);
    return 0;
}

/* A disk is as large as it is; it may have grown since it was opened. */
static int blk_resize(struct hf_device *dev, hf_off_t size_bytes)
{
    uint64_t bytes;

    if (ioctl(to_file(dev)->fd, BLKGETSIZE64, &bytes) < 0)
        return -EIO;
    if ((uint64_t)size_bytes > bytes)
        return -ENOSPC;
    set_size(dev, (hf_off_t)bytes);
    return 0;
}

/* The parent's open file description keeps the lock; this lets go of the child's reference to it. */
static void file_forked(struct hf_device *dev)
{
    if (to_file(dev)->fd >= 0)
        close(to_file(dev)->fd);
    to_file(dev)->fd = -1;
}

static void file_close(struct hf_device *dev)
{
    file_forked(dev);
    free(dev);
}

static const struct hf_device_ops thick_ops = {
    .read = file_read,
    .write = file_write,
    .flush = file_flush,
    .resize = file_resize,
    .forked = file_forked,
    .close = file_close,
};

static const struct hf_device_ops thin_ops = {
    .read = file_read,
    .write = file_write,
    .flush = file_flush,
    .guarantee = file_guarantee,
    .discard = file_discard,
    .resize = file_resize,
    .forked = file_forked,
    .close = file_close,
};

static const struct hf_device_ops blk_ops = {
    .read = file_read,
    .write = file_write,
    .flush = file_flush,
    .discard = blk_discard,
    .resize = blk_resize,
    .forked = file_forked,
    .close = file_close,
};

/* O_EXCL on a block device: not while it is mounted. ret_created: we made the file. */
static int file_open_fd(const char *path, uint32_t flags, bool *ret_created)
{
    int oflags = O_CLOEXEC | O_NOCTTY | (flags & HF_DEV_READ_ONLY ? O_RDONLY : O_RDWR);
    struct stat st;
    int fd;

    if (stat(path, &st) == 0) {
        if (!S_ISREG(st.st_mode) && !S_ISBLK(st.st_mode))
            return S_ISDIR(st.st_mode) ? -EISDIR : -EINVAL;
        if (S_ISBLK(st.st_mode) && !(flags & HF_DEV_READ_ONLY))
            oflags |= O_EXCL;
    } else if (errno == ENOENT && flags & HF_DEV_CREATE) {
        oflags |= O_CREAT | O_EXCL;
    }
    do
        fd = open(path, oflags, 0666);
    while (fd < 0 && errno == EINTR);
    if (fd < 0)
        return -errno;
    *ret_created = oflags & O_CREAT;
    return fd;
}

static int file_lock(int fd, bool read_only)
{
    int ret;

    do
        ret = flock(fd, (read_only ? LOCK_SH : LOCK_EX) | LOCK_NB);
    while (ret < 0 && errno == EINTR);
    if (ret < 0)
        return errno == EWOULDBLOCK ? -EBUSY : -errno;
    return 0;
}

/* Under the lock: finds the size, or sets it; chooses the ops. */
static int file_setup(struct hf_device_file *file, uint32_t flags, hf_off_t create_bytes)
{
    struct stat st;
    uint64_t bytes;
    int ret;

    if (fstat(file->fd, &st) < 0)
        return -errno;
    if (S_ISBLK(st.st_mode)) {
        if (ioctl(file->fd, BLKGETSIZE64, &bytes) < 0)
            return -errno;
        file->base.ops = &blk_ops;
        file->base.size_bytes = (hf_off_t)bytes;
        return 0;
    }
    if (!S_ISREG(st.st_mode))
        return -EINVAL;
    file->base.ops = flags & HF_DEV_THIN ? &thin_ops : &thick_ops;
    file->base.size_bytes = st.st_size;
    if (!(flags & HF_DEV_CREATE))
        return 0;
    if (st.st_size != create_bytes && ftruncate(file->fd, create_bytes) < 0)
        return -errno;
    file->base.size_bytes = create_bytes;
    ret = flags & HF_DEV_THIN ? 0 : file_guarantee(&file->base, 0, create_bytes);
    /* Growth is undone; a file that was cut cannot be mended. */
    if (ret && st.st_size < create_bytes && ftruncate(file->fd, st.st_size) < 0)
        return -EIO;
    return ret;
}

int hf_device_file_open(const char *path, uint32_t flags, hf_off_t create_bytes, struct hf_device **ret_dev)
{
    struct hf_device_file *file;
    bool created = false;
    int ret;

    if (flags & ~(HF_DEV_READ_ONLY | HF_DEV_CREATE | HF_DEV_THIN))
        return -EINVAL;
    if (flags & HF_DEV_CREATE && (flags & HF_DEV_READ_ONLY || create_bytes <= 0))
        return -EINVAL;
    file = calloc(1, sizeof(*file));
    if (!file)
        return -ENOMEM;
    file->base.read_only = flags & HF_DEV_READ_ONLY;
    /* Names longer than a message can bear lose their beginning: the end tells more. */
    snprintf(file->base.name, sizeof(file->base.name), "%s",
             path +
                 (strlen(path) < sizeof(file->base.name) ? 0 : strlen(path) - sizeof(file->base.name) + 1));
    file->fd = file_open_fd(path, flags, &created);
    if (file->fd < 0) {
        ret = file->fd;
        free(file);
        return ret;
    }
    ret = file_lock(file->fd, file->base.read_only);
    if (!ret)
        ret = file_setup(file, flags, create_bytes);
    if (ret) {
        if (created)
            unlink(path);
        file_close(&file->base);
        return ret;
    }
    *ret_dev = &file->base;
    return 0;
}

int hf_device_file_resize(struct hf_device *dev, hf_off_t size_bytes)
{
    if (dev->ops != &thick_ops && dev->ops != &thin_ops)
        return -EOPNOTSUPP;
    if (dev->read_only)
        return -EROFS;
    if (size_bytes < 0 || ftruncate(to_file(dev)->fd, size_bytes) < 0)
        return size_bytes < 0 ? -EINVAL : -errno;
    dev->size_bytes = size_bytes;
    return 0;
}
