/* SPDX-License-Identifier: MIT */
/*
 * file.c - open file descriptions: opened, positioned, referenced by their handle and by vmas.
 */
#include "vfs/vfs.h"

#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <unistd.h>

static void file_get(struct hf_vm_file *vm)
{
    struct hf_file *f = hf_container_of(vm, struct hf_file, vm);

    atomic_fetch_add(&f->refs, 1u);
}

static void file_put(struct hf_vm_file *vm)
{
    struct hf_file *f = hf_container_of(vm, struct hf_file, vm);
    struct hf_vnode *v = f->vnode;

    if (atomic_fetch_sub(&f->refs, 1u) != 1)
        return;
    if (f->promised) {
        hf_rwlock_wrlock(&v->io_lock);
        hf_mapping_unpromise(&v->mapping);
        hf_rwlock_wrunlock(&v->io_lock);
    }
    free(f);
    hf_vnode_user_remove(v);
    hf_vnode_put(v);
}

/* Takes over the caller's reference to v. */
static int file_new(struct hf_vnode *v, int flags, struct hf_file **ret_file)
{
    struct hf_file *f = calloc(1, sizeof(*f));
    int access = flags & O_ACCMODE;

    if (f == NULL) {
        hf_vnode_put(v);
        return -ENOMEM;
    }
    f->vm = (struct hf_vm_file){.mapping = &v->mapping,
                                .readable = access != O_WRONLY,
                                .writable = access != O_RDONLY,
                                .get = file_get,
                                .put = file_put};
    f->vnode = v;
    f->flags = flags;
    atomic_init(&f->refs, 1u);
    atomic_init(&f->wb_since, hf_errseq_sample(&v->mapping.wb_err));
    hf_mutex_init(&f->pos_lock, HF_RANK_FILE);
    hf_vnode_user_add(v);
    *ret_file = f;
    return 0;
}

/* Looks the last component up, or creates it; follows symlinks there, as open(2). */
static int open_last(struct hf_walk *w, int flags, mode_t mode, struct hf_vnode **ret_vnode,
                     bool *ret_created)
{
    struct hf_create how = {
        .mode = S_IFREG | (mode & 07777), .uid = geteuid(), .gid = getegid(), .now_ns = hf_now_ns()};

    for (;;) {
        struct hf_vnode *v;
        int r = hf_walk_last(w, &v);

        if (r == -ENOENT && (flags & O_CREAT) && w->at.name[0] != '\0') {
            if (w->at.must_be_dir)
                return -EISDIR;
            r = hf_name_create(&w->at, &how, ret_vnode);
            *ret_created = r == 0;
            if (r == -EEXIST && !(flags & O_EXCL))
                continue; /* somebody was faster */
            return r;
        }
        if (r < 0)
            return r;
        if (!S_ISLNK(v->inode.mode) || ((flags & O_CREAT) && (flags & O_EXCL))) {
            *ret_vnode = v;
            return 0;
        }
        r = flags & O_NOFOLLOW && !w->at.must_be_dir ? -ELOOP : hf_walk_symlink(w, v);
        hf_vnode_put(v);
        if (r < 0)
            return r;
    }
}

static int open_check(struct hf_vnode *v, int flags, bool must_be_dir)
{
    bool writes = (flags & O_ACCMODE) != O_RDONLY || (flags & O_TRUNC);

    if ((flags & O_CREAT) && (flags & O_EXCL))
        return -EEXIST;
    if (S_ISLNK(v->inode.mode))
        return -ELOOP;
    if (S_ISDIR(v->inode.mode))
        return writes || (flags & O_CREAT) ? -EISDIR : 0;
    if (must_be_dir || (flags & O_DIRECTORY))
        return -ENOTDIR;
    if (!S_ISREG(v->inode.mode))
        return -ENXIO; /* special files live on volumes, their drivers in kernels */
    return writes && v->volume->sb.read_only ? -EROFS : 0;
}

/* The rest of every open, once it is allowed. Takes over the caller's reference to v. */
static int open_vnode(struct hf_vnode *v, int flags, struct hf_file **ret_file)
{
    int r = (flags & O_TRUNC) && S_ISREG(v->inode.mode) ? hf_vnode_truncate(v, 0) : 0;

    if (r < 0) {
        hf_vnode_put(v);
        return r;
    }
    return file_new(v, flags, ret_file);
}

int hf_vnode_open(struct hf_vnode *v, int flags, struct hf_file **ret_file)
{
    int r = (flags & O_ACCMODE) == O_ACCMODE ? -EINVAL : 0;

    flags &= ~(O_CREAT | O_EXCL | O_NOFOLLOW);
    if (r == 0)
        r = open_check(v, flags, false);
    return r < 0 ? r : open_vnode(hf_vnode_get(v), flags, ret_file);
}

static int open_tmpfile(struct hf_volume *vol, const char *path, int flags, mode_t mode,
                        struct hf_file **ret_file)
{
    struct hf_create how = {
        .mode = S_IFREG | (mode & 07777), .uid = geteuid(), .gid = getegid(), .now_ns = hf_now_ns()};
    struct hf_vnode *dir, *v = NULL;
    int r;

    if ((flags & O_ACCMODE) == O_RDONLY || (flags & O_ACCMODE) == O_ACCMODE || (flags & O_CREAT))
        return -EINVAL;
    r = hf_vfs_lookup(vol, path, flags & O_NOFOLLOW ? 0 : HF_WALK_FOLLOW, &dir);
    if (r < 0)
        return r;
    r = hf_vnode_tmpfile(dir, &how, !(flags & O_EXCL), &v);
    hf_vnode_put(dir);
    return r < 0 ? r : file_new(v, flags & ~O_TMPFILE, ret_file);
}

int hf_vfs_open(struct hf_volume *vol, const char *path, int flags, mode_t mode, struct hf_file **ret_file)
{
    struct hf_vnode *v = NULL;
    bool created = false;
    struct hf_walk w;
    int r;

    if ((flags & O_TMPFILE) == O_TMPFILE)
        return open_tmpfile(vol, path, flags, mode, ret_file);
    if ((flags & O_ACCMODE) == O_ACCMODE || ((flags & O_CREAT) && (flags & O_DIRECTORY)))
        return -EINVAL;
    r = hf_walk_parent(vol, path, &w);
    if (r < 0)
        return r;
    r = open_last(&w, flags, mode, &v, &created);
    if (r == 0 && !created)
        r = open_check(v, flags, w.at.must_be_dir);
    hf_walk_done(&w);
    if (r < 0) {
        hf_vnode_put(v);
        return r;
    }
    return open_vnode(v, created ? flags & ~O_TRUNC : flags, ret_file);
}

int hf_vfs_promise(struct hf_file *f)
{
    struct hf_vnode *v = f->vnode;
    int r = 0;

    if (!f->vm.writable || !S_ISREG(v->inode.mode))
        return -EBADF;
    hf_rwlock_wrlock(&v->io_lock);
    if (!f->promised)
        r = hf_mapping_promise(&v->mapping);
    f->promised |= r == 0;
    hf_rwlock_wrunlock(&v->io_lock);
    return r;
}

int hf_vfs_error(struct hf_file *f)
{
    return hf_errseq_check_advance(&f->vnode->mapping.wb_err, &f->wb_since); /* HOLD-7 */
}

int hf_vfs_close(struct hf_file *f)
{
    int told = hf_vfs_error(f);

    file_put(&f->vm);
    return told;
}

/* base + off, or -EINVAL below zero, -EOVERFLOW above everything: as lseek(2). */
static hf_off_t seek_from(hf_off_t base, hf_off_t off)
{
    hf_off_t at;

    if (__builtin_add_overflow(base, off, &at))
        return -EOVERFLOW;
    return at < 0 ? -EINVAL : at;
}

hf_off_t hf_vfs_lseek(struct hf_file *f, hf_off_t off, int whence)
{
    hf_off_t at = -EINVAL;

    if (whence == SEEK_DATA || whence == SEEK_HOLE) /* takes io_lock, which ranks above pos_lock */
        at = S_ISREG(f->vnode->inode.mode) ? hf_vnode_seek(f->vnode, off, whence) : -EINVAL;
    hf_mutex_lock(&f->pos_lock);
    if (whence == SEEK_SET)
        at = seek_from(0, off);
    else if (whence == SEEK_CUR)
        at = seek_from(f->pos, off);
    else if (whence == SEEK_END)
        at = seek_from(hf_isize_read(&f->vnode->mapping), off);
    if (at >= 0)
        f->pos = at;
    hf_mutex_unlock(&f->pos_lock);
    return at;
}
