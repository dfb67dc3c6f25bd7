/* SPDX-License-Identifier: MIT */
/*
 * setattr.c - attributes, and the truncate sequence (DESIGN 6).
 *
 * The three faults of the old ->truncate, each cured here: it returns its errors; the driver is asked, with
 * the old and the new size, before i_size moves, and may refuse; and the last partial page is known, and
 * write-protected.
 */
#include "base/fsize.h"
#include "vfs/vfs.h"

#include <errno.h>
#include <fcntl.h>
#include <sys/sysmacros.h>

void hf_vnode_touch(struct hf_vnode *v)
{
    int64_t now = hf_now_ns();

    atomic_store(&v->inode.mtime_ns, now);
    atomic_store(&v->inode.ctime_ns, now);
    atomic_store(&v->attr_dirty, true);
}

#define DAY_NS ((int64_t)24 * 3600 * 1000000000)

void hf_vnode_accessed(struct hf_vnode *v)
{
    int64_t old = atomic_load(&v->inode.atime_ns), now = hf_now_ns();
    uint32_t flags = v->volume->open_flags;

    if (v->volume->sb.read_only || (flags & HF_OPEN_NOATIME) || now == old)
        return;
    if (!(flags & HF_OPEN_STRICTATIME) && old > atomic_load(&v->inode.mtime_ns) &&
        old > atomic_load(&v->inode.ctime_ns) && now - old < DAY_NS)
        return;
    atomic_store(&v->inode.atime_ns, now);
    atomic_store(&v->atime_dirty, true);
}

void hf_file_accessed(struct hf_file *f)
{
    if (!(f->flags & O_NOATIME))
        hf_vnode_accessed(f->vnode);
}

/* ---- privileges that a change takes */

static uint32_t without_set_ids(uint32_t mode)
{
    mode &= ~(uint32_t)S_ISUID;
    return mode & S_IXGRP ? mode & ~(uint32_t)S_ISGID : mode; /* else it is no set-group-ID bit */
}

static int drop_file_caps(struct hf_vnode *v)
{
    static const char name[] = "security.capability";
    const struct hf_driver *driver = hf_vnode_driver(v);
    ssize_t n;
    int r;

    if (driver->getxattr == NULL || atomic_load(&v->file_caps) == HF_CAPS_NONE)
        return 0;
    if (atomic_load(&v->file_caps) == HF_CAPS_UNKNOWN) {
        n = driver->getxattr(&v->inode, name, NULL, 0);
        if (n < 0 && n != -ENODATA)
            return (int)n;
        atomic_store(&v->file_caps, n < 0 ? HF_CAPS_NONE : HF_CAPS_SOME);
    }
    if (atomic_load(&v->file_caps) == HF_CAPS_NONE)
        return 0;
    r = driver->removexattr(&v->inode, name);
    if (r < 0 && r != -ENODATA)
        return r;
    atomic_store(&v->file_caps, HF_CAPS_NONE);
    return 0;
}

void hf_vnode_drop_set_ids(struct hf_vnode *v)
{
    if (without_set_ids(v->inode.mode) == v->inode.mode)
        return;
    v->inode.mode = without_set_ids(v->inode.mode);
    atomic_store(&v->inode.ctime_ns, hf_now_ns());
    atomic_store(&v->attr_dirty, true);
}

int hf_vnode_drop_privileges(struct hf_vnode *v)
{
    if (!(v->volume->open_flags & HF_OPEN_KEEP_SUID))
        hf_vnode_drop_set_ids(v);
    return drop_file_caps(v);
}

static int shrink(struct hf_vnode *v, hf_off_t old_size, hf_off_t new_size)
{
    struct hf_mapping *m = &v->mapping;
    uint64_t holes;
    int r = hf_mapping_shrink_prepare(m, new_size);

    if (r < 0)
        return r; /* HOLD-6: nothing has changed */
    hf_rwlock_wrlock(&m->map_lock);
    r = hf_mapping_promise_cut(m, new_size, &holes);
    if (r == 0) {
        hf_mapping_shrink(m, new_size);
        hf_mapping_promise_cut_done(m, holes);
        r = hf_vnode_driver(v)->truncate(&v->inode, old_size, new_size);
        /* After an error nobody knows which size the driver has: it is told the new one, never the old one
         * again. */
        atomic_store(&v->disk_size, r == 0 ? new_size : -1);
    }
    hf_rwlock_wrunlock(&m->map_lock);
    return r;
}

int hf_vnode_size_prepare(struct hf_vnode *v, hf_off_t new_size)
{
    const struct hf_driver *driver = hf_vnode_driver(v);

    if (new_size > hf_isize_read(&v->mapping) && new_size > hf_fsize_limit()) {
        hf_fsize_exceeded();
        return -EFBIG;
    }
    if (driver->setattr_prepare == NULL)
        return 0;
    return driver->setattr_prepare(&v->inode, hf_isize_read(&v->mapping), new_size);
}

static int grow(struct hf_vnode *v, hf_off_t new_size)
{
    int r = hf_mapping_promise_more(&v->mapping, new_size);

    if (r < 0)
        return r;
    r = hf_isize_grow_to(&v->mapping, new_size);
    hf_mapping_promise_settle(&v->mapping, new_size);
    return r;
}

static int truncate_locked(struct hf_vnode *v, hf_off_t new_size)
{
    hf_off_t old_size = hf_isize_read(&v->mapping);
    int r = hf_vnode_size_prepare(v, new_size);

    if (r == 0)
        r = hf_vnode_drop_privileges(v);
    if (r < 0)
        return r;
    if (new_size < old_size)
        r = shrink(v, old_size, new_size);
    else if (new_size > old_size)
        r = grow(v, new_size);
    if (hf_isize_read(&v->mapping) == new_size)
        hf_vnode_touch(v);
    return r;
}

int hf_vnode_truncate(struct hf_vnode *v, hf_off_t size)
{
    int r;

    if (S_ISDIR(v->inode.mode))
        return -EISDIR;
    if (!S_ISREG(v->inode.mode) || size < 0)
        return -EINVAL;
    if (size > HF_FILE_SIZE_MAX)
        return -EFBIG;
    if (v->volume->sb.read_only)
        return -EROFS;
    hf_rwlock_wrlock(&v->io_lock);
    r = truncate_locked(v, size);
    hf_rwlock_wrunlock(&v->io_lock);
    return r;
}

static int time_check(const struct timespec *ts)
{
    if (ts->tv_nsec == UTIME_NOW || ts->tv_nsec == UTIME_OMIT)
        return 0;
    return ts->tv_nsec < 0 || ts->tv_nsec > 999999999 ? -EINVAL : 0;
}

static int64_t time_value(const struct timespec *ts, int64_t now, int64_t old)
{
    if (ts->tv_nsec == UTIME_OMIT)
        return old;
    if (ts->tv_nsec == UTIME_NOW)
        return now;
    return (int64_t)ts->tv_sec * 1000000000 + ts->tv_nsec;
}

static void setattr_locked(struct hf_vnode *v, const struct hf_attr *attr)
{
    struct hf_inode *i = &v->inode;
    int64_t now = hf_now_ns();

    if ((attr->valid & HF_ATTR_OWNER) && !S_ISDIR(i->mode))
        i->mode = without_set_ids(i->mode);
    if (attr->valid & HF_ATTR_MODE)
        i->mode = (i->mode & S_IFMT) | (attr->mode & 07777);
    if (attr->valid & HF_ATTR_TIMES) {
        atomic_store(&i->atime_ns, time_value(&attr->times[0], now, atomic_load(&i->atime_ns)));
        atomic_store(&i->mtime_ns, time_value(&attr->times[1], now, atomic_load(&i->mtime_ns)));
    }
    atomic_store(&i->ctime_ns, now);
    atomic_store(&v->attr_dirty, true);
}

int hf_vnode_setattr(struct hf_vnode *v, const struct hf_attr *attr)
{
    int r = 0;

    if (v->volume->sb.read_only)
        return -EROFS;
    if ((attr->valid & HF_ATTR_TIMES) && (time_check(&attr->times[0]) < 0 || time_check(&attr->times[1]) < 0))
        return -EINVAL;
    if (attr->valid & HF_ATTR_SIZE)
        r = hf_vnode_truncate(v, attr->size);
    if (r < 0 || (attr->valid & ~HF_ATTR_SIZE) == 0)
        return r;
    hf_rwlock_wrlock(&v->io_lock);
    if (attr->valid & HF_ATTR_OWNER)
        r = hf_vnode_change_owner(v, attr->uid == (uid_t)-1 ? v->inode.uid : attr->uid,
                                  attr->gid == (gid_t)-1 ? v->inode.gid : attr->gid, v->inode.project);
    if (r == 0 && (attr->valid & HF_ATTR_OWNER) && !S_ISDIR(v->inode.mode))
        r = drop_file_caps(v);
    if (r == 0)
        setattr_locked(v, attr);
    hf_rwlock_wrunlock(&v->io_lock);
    return r;
}

static struct timespec to_timespec(int64_t ns)
{
    struct timespec ts = {.tv_sec = ns / 1000000000, .tv_nsec = ns % 1000000000};

    if (ts.tv_nsec < 0) {
        ts.tv_sec--;
        ts.tv_nsec += 1000000000;
    }
    return ts;
}

void hf_vnode_stat(struct hf_vnode *v, struct stat *ret_stat)
{
    struct hf_inode *i = &v->inode;
    struct stat st; /* the caller's may lie in a mapping: it is written without locks */
    uint64_t blocks;

    hf_rwlock_rdlock(&v->io_lock);
    /* Promised ones first: those that become blocks meanwhile are counted twice rather than not at all. */
    blocks = atomic_load(&v->mapping.nr_reserved);
    blocks += atomic_load(&i->blocks);
    st = (struct stat){
        .st_ino = i->ino,
        .st_mode = i->mode,
        .st_nlink = i->nlink,
        .st_uid = i->uid,
        .st_gid = i->gid,
        .st_rdev = i->rdev,
        .st_size = atomic_load(&i->size),
        .st_blksize = (blksize_t)v->volume->sb.block_size,
        .st_blocks = (blkcnt_t)(blocks * (v->volume->sb.block_size / 512)),
        .st_atim = to_timespec(atomic_load(&i->atime_ns)),
        .st_mtim = to_timespec(atomic_load(&i->mtime_ns)),
        .st_ctim = to_timespec(atomic_load(&i->ctime_ns)),
    };
    hf_rwlock_rdunlock(&v->io_lock);
    *ret_stat = st;
}
