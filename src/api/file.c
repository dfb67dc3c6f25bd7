/* SPDX-License-Identifier: MIT */
/*
 * file.c - public calls on open files.
 */
#include "api/api.h"

#include <errno.h>
#include <limits.h>

static int open_file(struct hf_volume *vol, const char *path, int flags, mode_t mode,
                     struct hf_file **ret_file)
{
    struct hf_file *file;
    int r = hf_vfs_open(vol, path, flags, mode, &file);

    if (r < 0)
        return r;
    r = hf_api_hand_over(ret_file, &file, sizeof(file));
    if (r < 0)
        hf_vfs_close(file);
    return r;
}

int hf_open(struct hf_volume *vol, const char *path, int flags, mode_t mode, struct hf_file **ret_file)
{
    if (vol == NULL || path == NULL || ret_file == NULL)
        return -EINVAL;
    return HF_CALL(int, open_file(vol, path, flags, mode, ret_file));
}

int hf_close(struct hf_file *file)
{
    return file == NULL ? -EBADF : HF_CALL(int, hf_vfs_close(file));
}

ssize_t hf_pread(struct hf_file *file, void *buf, size_t len, hf_off_t off)
{
    return file == NULL ? -EBADF : HF_CALL(ssize_t, hf_vfs_pread(file, buf, len, off));
}

ssize_t hf_pwrite(struct hf_file *file, const void *buf, size_t len, hf_off_t off)
{
    return file == NULL ? -EBADF : HF_CALL(ssize_t, hf_vfs_pwrite(file, buf, len, off));
}

ssize_t hf_read(struct hf_file *file, void *buf, size_t len)
{
    return file == NULL ? -EBADF : HF_CALL(ssize_t, hf_vfs_read(file, buf, len));
}

ssize_t hf_write(struct hf_file *file, const void *buf, size_t len)
{
    return file == NULL ? -EBADF : HF_CALL(ssize_t, hf_vfs_write(file, buf, len));
}

hf_off_t hf_lseek(struct hf_file *file, hf_off_t off, int whence)
{
    return file == NULL ? -EBADF : HF_CALL(hf_off_t, hf_vfs_lseek(file, off, whence));
}

int hf_ftruncate(struct hf_file *file, hf_off_t size)
{
    if (file == NULL)
        return -EBADF;
    if (!file->vm.writable)
        return -EINVAL; /* as ftruncate(2) on a descriptor that is not open for writing */
    return HF_CALL(int, hf_vnode_truncate(file->vnode, size));
}

int hf_fallocate(struct hf_file *file, int mode, hf_off_t off, hf_off_t len)
{
    return file == NULL ? -EBADF : HF_CALL(int, hf_vfs_fallocate(file, mode, off, len));
}

int hf_fsync(struct hf_file *file)
{
    return file == NULL ? -EBADF : HF_CALL(int, hf_vfs_fsync(file, 0, HF_FILE_SIZE_MAX, false));
}

int hf_fdatasync(struct hf_file *file)
{
    return file == NULL ? -EBADF : HF_CALL(int, hf_vfs_fsync(file, 0, HF_FILE_SIZE_MAX, true));
}

int hf_flink(struct hf_file *file, const char *path)
{
    if (file == NULL || path == NULL)
        return file == NULL ? -EBADF : -EINVAL;
    return HF_CALL(int, hf_vfs_link_vnode(file->vnode, path));
}

static int stat_vnode(struct hf_vnode *v, struct stat *ret_stat)
{
    hf_vnode_stat(v, ret_stat);
    return 0;
}

int hf_fstat(struct hf_file *file, struct stat *ret_stat)
{
    struct stat st; /* the caller's is written when the call is over: it may lie in a mapping */
    int r;

    if (file == NULL || ret_stat == NULL)
        return file == NULL ? -EBADF : -EINVAL;
    r = HF_CALL(int, stat_vnode(file->vnode, &st));
    if (r == 0)
        *ret_stat = st;
    return r;
}

static int setattr(struct hf_file *file, const struct hf_attr *attr)
{
    return file == NULL ? -EBADF : HF_CALL(int, hf_vnode_setattr(file->vnode, attr));
}

int hf_fchmod(struct hf_file *file, mode_t mode)
{
    return setattr(file, &(struct hf_attr){.valid = HF_ATTR_MODE, .mode = mode});
}

int hf_fchown(struct hf_file *file, uid_t uid, gid_t gid)
{
    return setattr(file, &(struct hf_attr){.valid = HF_ATTR_OWNER, .uid = uid, .gid = gid});
}

static const struct timespec times_now[2] = {{.tv_nsec = UTIME_NOW}, {.tv_nsec = UTIME_NOW}};

int hf_futimens(struct hf_file *file, const struct timespec times[2])
{
    const struct timespec *t = times != NULL ? times : times_now;

    return setattr(file, &(struct hf_attr){.valid = HF_ATTR_TIMES, .times = {t[0], t[1]}});
}

int hf_page_map(struct hf_file *file, uint64_t first, unsigned count, struct hf_page_info *ret_pages)
{
    if (file == NULL || ret_pages == NULL)
        return file == NULL ? -EBADF : -EINVAL;
    if (count > INT_MAX)
        count = INT_MAX;
    return HF_CALL(int, hf_mapping_page_info(&file->vnode->mapping, first, count, ret_pages));
}
