/* SPDX-License-Identifier: MIT */
/*
 * io.c - read and write: io_lock, limits, positions; the copies are the cache's (cache/rw.c).
 */
#include "base/fsize.h"
#include "vfs/vfs.h"

#include <errno.h>
#include <fcntl.h>

#define HF_RW_MAX ((size_t)0x7ffff000) /* as the kernel's MAX_RW_COUNT */

static int rw_check(const struct hf_file *f, bool allowed, hf_off_t off)
{
    if (!allowed)
        return -EBADF;
    if (S_ISDIR(f->vnode->inode.mode))
        return -EISDIR;
    return off < 0 ? -EINVAL : 0;
}

/* io_lock shared held, or exclusive. */
static ssize_t read_locked(struct hf_vnode *v, void *buf, size_t len, hf_off_t off)
{
    hf_off_t size = hf_isize_read(&v->mapping);

    if (off >= size || len == 0)
        return 0;
    if ((hf_off_t)len > size - off)
        len = (size_t)(size - off);
    return hf_mapping_read(&v->mapping, buf, len, off);
}

ssize_t hf_vfs_pread(struct hf_file *f, void *buf, size_t len, hf_off_t off)
{
    struct hf_vnode *v = f->vnode;
    ssize_t n = rw_check(f, f->vm.readable, off);

    if (n < 0)
        return n;
    hf_rwlock_rdlock(&v->io_lock);
    n = read_locked(v, buf, len > HF_RW_MAX ? HF_RW_MAX : len, off);
    hf_rwlock_rdunlock(&v->io_lock);
    if (n >= 0 && len > 0)
        hf_file_accessed(f);
    return n;
}

/* io_lock exclusive held. */
static ssize_t write_locked(struct hf_vnode *v, const void *buf, size_t len, hf_off_t off)
{
    hf_off_t grown = 0;
    hf_off_t limit = hf_fsize_limit(), most = limit < HF_FILE_SIZE_MAX ? limit : HF_FILE_SIZE_MAX;
    ssize_t n;

    if (len == 0)
        return 0;
    if (off >= most && limit < HF_FILE_SIZE_MAX)
        hf_fsize_exceeded();
    if (off >= most)
        return -EFBIG;
    if ((hf_off_t)len > most - off)
        len = (size_t)(most - off);
    n = hf_vnode_drop_privileges(v);
    if (n < 0)
        return n;
    if (off + (hf_off_t)len > hf_isize_read(&v->mapping)) {
        int r = hf_vnode_size_prepare(v, off + (hf_off_t)len);
        if (r == 0)
            r = hf_mapping_promise_some(&v->mapping, off, off + (hf_off_t)len, &grown);
        if (r < 0)
            return r;
        len = (size_t)(grown - off);
    }
    n = hf_mapping_write(&v->mapping, buf, len, off);
    hf_mapping_promise_settle(&v->mapping, grown);
    if (n > 0)
        hf_vnode_touch(v);
    return n;
}

/* io_lock exclusive held. What a frontend's kernel has cached of a mapping's stores: inside i_size, all of
 * it, or an error that every open file is told. */
static ssize_t write_cached_locked(struct hf_vnode *v, const char *buf, size_t len, hf_off_t off)
{
    hf_off_t size = hf_isize_read(&v->mapping);
    size_t inside = off >= size ? 0 : (hf_off_t)len > size - off ? (size_t)(size - off) : len;
    size_t done = 0;

    while (done < inside) {
        ssize_t n = write_locked(v, buf + done, inside - done, off + (hf_off_t)done);

        if (n < 0) {
            hf_errseq_set(&v->mapping.wb_err, (int)n);
            return n;
        }
        done += (size_t)n;
    }
    return (ssize_t)len;
}

/* O_SYNC and O_DSYNC: what was written is durable before the call returns. */
static ssize_t write_sync(struct hf_file *f, ssize_t n, hf_off_t off)
{
    int r;

    if (n <= 0 || !(f->flags & (O_SYNC | O_DSYNC)))
        return n;
    r = hf_vfs_fsync(f, off, off + n, (f->flags & O_SYNC) != O_SYNC);
    return r < 0 ? r : n;
}

ssize_t hf_vfs_pwrite(struct hf_file *f, const void *buf, size_t len, hf_off_t off)
{
    return hf_vfs_write_at(f, buf, len, off, f->flags & O_APPEND ? HF_WRITE_APPEND : 0);
}

ssize_t hf_vfs_write_at(struct hf_file *f, const void *buf, size_t len, hf_off_t off, unsigned flags)
{
    struct hf_vnode *v = f->vnode;
    ssize_t n = rw_check(f, f->vm.writable, off);

    if (n < 0)
        return n;
    if (len > HF_RW_MAX)
        len = HF_RW_MAX;
    hf_rwlock_wrlock(&v->io_lock);
    if ((flags & HF_WRITE_KILL_SUID) && len > 0)
        hf_vnode_drop_set_ids(v);
    if (flags & HF_WRITE_APPEND)
        off = hf_isize_read(&v->mapping); /* as Linux does; pwrite(2), BUGS */
    n = flags & HF_WRITE_CACHED ? write_cached_locked(v, buf, len, off) : write_locked(v, buf, len, off);
    hf_rwlock_wrunlock(&v->io_lock);
    return write_sync(f, n, off);
}

static hf_off_t pos_read(struct hf_file *f)
{
    hf_off_t pos;

    hf_mutex_lock(&f->pos_lock);
    pos = f->pos;
    hf_mutex_unlock(&f->pos_lock);
    return pos;
}

static void pos_set(struct hf_file *f, hf_off_t pos)
{
    hf_mutex_lock(&f->pos_lock);
    f->pos = pos;
    hf_mutex_unlock(&f->pos_lock);
}

/* Two reads at once through one file description get different bytes: io_lock exclusive keeps the position
 * still. */
ssize_t hf_vfs_read(struct hf_file *f, void *buf, size_t len)
{
    struct hf_vnode *v = f->vnode;
    hf_off_t pos;
    ssize_t n = rw_check(f, f->vm.readable, 0);

    if (n < 0)
        return n;
    hf_rwlock_wrlock(&v->io_lock);
    pos = pos_read(f);
    n = read_locked(v, buf, len > HF_RW_MAX ? HF_RW_MAX : len, pos);
    if (n > 0)
        pos_set(f, pos + n);
    hf_rwlock_wrunlock(&v->io_lock);
    if (n >= 0 && len > 0)
        hf_file_accessed(f);
    return n;
}

ssize_t hf_vfs_write(struct hf_file *f, const void *buf, size_t len)
{
    struct hf_vnode *v = f->vnode;
    hf_off_t pos;
    ssize_t n = rw_check(f, f->vm.writable, 0);

    if (n < 0)
        return n;
    if (len > HF_RW_MAX)
        len = HF_RW_MAX;
    hf_rwlock_wrlock(&v->io_lock);
    pos = f->flags & O_APPEND ? hf_isize_read(&v->mapping) : pos_read(f);
    n = write_locked(v, buf, len, pos);
    if (n > 0)
        pos_set(f, pos + n);
    hf_rwlock_wrunlock(&v->io_lock);
    return write_sync(f, n, pos);
}
