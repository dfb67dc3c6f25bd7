/* SPDX-License-Identifier: MIT */
/*
 * names.c - public calls on paths and directories.
 */
#include "api/api.h"

#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <unistd.h>

/* Runs fn on what path names. */
static int with_vnode(struct hf_volume *vol, const char *path, unsigned walk_flags,
                      int (*fn)(struct hf_vnode *v, const void *arg), const void *arg)
{
    struct hf_vnode *v;
    int r = hf_vfs_lookup(vol, path, walk_flags, &v);

    if (r < 0)
        return r;
    r = fn(v, arg);
    hf_vnode_put(v);
    return r;
}

static int stat_into(struct hf_vnode *v, const void *arg)
{
    hf_vnode_stat(v, *(struct stat *const *)arg);
    return 0;
}

static int stat_path(struct hf_volume *vol, const char *path, unsigned walk_flags, struct stat *ret_stat)
{
    struct stat st, *into = &st; /* the caller's is written when the call is over: it may lie in a mapping */
    int r;

    if (vol == NULL || path == NULL || ret_stat == NULL)
        return -EINVAL;
    r = HF_CALL(int, with_vnode(vol, path, walk_flags, stat_into, &into));
    if (r == 0)
        *ret_stat = st;
    return r;
}

int hf_stat(struct hf_volume *vol, const char *path, struct stat *ret_stat)
{
    return stat_path(vol, path, HF_WALK_FOLLOW, ret_stat);
}

int hf_lstat(struct hf_volume *vol, const char *path, struct stat *ret_stat)
{
    return stat_path(vol, path, 0, ret_stat);
}

static int truncate_to(struct hf_vnode *v, const void *arg)
{
    return hf_vnode_truncate(v, *(const hf_off_t *)arg);
}

int hf_truncate(struct hf_volume *vol, const char *path, hf_off_t size)
{
    if (vol == NULL || path == NULL)
        return -EINVAL;
    return HF_CALL(int, with_vnode(vol, path, HF_WALK_FOLLOW, truncate_to, &size));
}

static int setattr_to(struct hf_vnode *v, const void *arg)
{
    return hf_vnode_setattr(v, arg);
}

static int setattr_path(struct hf_volume *vol, const char *path, unsigned walk_flags,
                        const struct hf_attr *attr)
{
    if (vol == NULL || path == NULL)
        return -EINVAL;
    return HF_CALL(int, with_vnode(vol, path, walk_flags, setattr_to, attr));
}

int hf_chmod(struct hf_volume *vol, const char *path, mode_t mode)
{
    return setattr_path(vol, path, HF_WALK_FOLLOW, &(struct hf_attr){.valid = HF_ATTR_MODE, .mode = mode});
}

int hf_chown(struct hf_volume *vol, const char *path, uid_t uid, gid_t gid)
{
    return setattr_path(vol, path, HF_WALK_FOLLOW,
                        &(struct hf_attr){.valid = HF_ATTR_OWNER, .uid = uid, .gid = gid});
}

int hf_lchown(struct hf_volume *vol, const char *path, uid_t uid, gid_t gid)
{
    return setattr_path(vol, path, 0, &(struct hf_attr){.valid = HF_ATTR_OWNER, .uid = uid, .gid = gid});
}

int hf_utimens(struct hf_volume *vol, const char *path, const struct timespec times[2], int flags)
{
    struct hf_attr attr = {.valid = HF_ATTR_TIMES, .times = {{.tv_nsec = UTIME_NOW}, {.tv_nsec = UTIME_NOW}}};

    if (flags & ~AT_SYMLINK_NOFOLLOW)
        return -EINVAL;
    if (times != NULL) {
        attr.times[0] = times[0];
        attr.times[1] = times[1];
    }
    return setattr_path(vol, path, flags & AT_SYMLINK_NOFOLLOW ? 0 : HF_WALK_FOLLOW, &attr);
}

static int access_path(struct hf_volume *vol, const char *path, const struct hf_caller *who, int mask)
{
    struct hf_vnode *v;
    int r = hf_vfs_lookup_as(vol, path, HF_WALK_FOLLOW, who, &v);

    if (r < 0)
        return r;
    r = hf_vnode_access(v, who, mask);
    hf_vnode_put(v);
    return r;
}

int hf_access(struct hf_volume *vol, const char *path, const struct hf_caller *who, int mask)
{
    if (vol == NULL || path == NULL || who == NULL || (mask & ~(R_OK | W_OK | X_OK)))
        return -EINVAL;
    return HF_CALL(int, access_path(vol, path, who, mask));
}

static struct hf_create create_now(mode_t mode)
{
    return (struct hf_create){.mode = mode, .uid = geteuid(), .gid = getegid(), .now_ns = hf_now_ns()};
}

int hf_mkdir(struct hf_volume *vol, const char *path, mode_t mode)
{
    struct hf_create how = create_now(S_IFDIR | (mode & 07777));

    return vol == NULL || path == NULL ? -EINVAL : HF_CALL(int, hf_vfs_mknod(vol, path, &how));
}

int hf_mknod(struct hf_volume *vol, const char *path, mode_t mode, dev_t rdev)
{
    struct hf_create how = create_now(mode & (S_IFMT | 07777));

    if (vol == NULL || path == NULL)
        return -EINVAL;
    if ((mode & S_IFMT) == 0)
        how.mode |= S_IFREG;
    if (S_ISDIR(how.mode))
        return -EPERM;
    if (!S_ISREG(how.mode) && !S_ISFIFO(how.mode) && !S_ISSOCK(how.mode) && !S_ISCHR(how.mode) &&
        !S_ISBLK(how.mode))
        return -EINVAL;
    if (S_ISCHR(how.mode) || S_ISBLK(how.mode))
        how.rdev = rdev;
    return HF_CALL(int, hf_vfs_mknod(vol, path, &how));
}

int hf_symlink(struct hf_volume *vol, const char *target, const char *path)
{
    struct hf_create how = create_now(S_IFLNK | 0777);
    char copy[HF_PATH_MAX]; /* the driver reads it under its locks; the caller's may lie in a mapping */

    if (vol == NULL || path == NULL || target == NULL)
        return -EINVAL;
    if (target[0] == '\0')
        return -ENOENT;
    if (strnlen(target, HF_PATH_MAX) == HF_PATH_MAX)
        return -ENAMETOOLONG;
    strcpy(copy, target);
    how.target = copy;
    return HF_CALL(int, hf_vfs_mknod(vol, path, &how));
}

int hf_rmdir(struct hf_volume *vol, const char *path)
{
    return vol == NULL || path == NULL ? -EINVAL : HF_CALL(int, hf_vfs_unlink(vol, path, true));
}

int hf_unlink(struct hf_volume *vol, const char *path)
{
    return vol == NULL || path == NULL ? -EINVAL : HF_CALL(int, hf_vfs_unlink(vol, path, false));
}

int hf_rename(struct hf_volume *vol, const char *from, const char *to, unsigned flags)
{
    return vol == NULL || from == NULL || to == NULL ? -EINVAL
                                                     : HF_CALL(int, hf_vfs_rename(vol, from, to, flags));
}

int hf_link(struct hf_volume *vol, const char *from, const char *to)
{
    return vol == NULL || from == NULL || to == NULL ? -EINVAL : HF_CALL(int, hf_vfs_link(vol, from, to));
}

ssize_t hf_readlink(struct hf_volume *vol, const char *path, char *buf, size_t size)
{
    char target[HF_PATH_MAX];
    ssize_t n;

    if (vol == NULL || path == NULL || buf == NULL)
        return -EINVAL;
    n = HF_CALL(ssize_t, hf_vfs_readlink(vol, path, target, sizeof(target)));
    if (n > 0)
        memcpy(buf, target, (size_t)n < size ? (size_t)n : size);
    return n;
}

static int open_dir(struct hf_volume *vol, const char *path, struct hf_dir **ret_dir)
{
    struct hf_dir *dir;
    int r = hf_vfs_opendir(vol, path, &dir);

    if (r < 0)
        return r;
    r = hf_api_hand_over(ret_dir, &dir, sizeof(dir));
    if (r < 0)
        hf_vfs_closedir(dir);
    return r;
}

int hf_opendir(struct hf_volume *vol, const char *path, struct hf_dir **ret_dir)
{
    return vol == NULL || path == NULL || ret_dir == NULL ? -EINVAL
                                                          : HF_CALL(int, open_dir(vol, path, ret_dir));
}

int hf_readdir(struct hf_dir *dir, struct hf_dirent *ret_entry)
{
    return dir == NULL || ret_entry == NULL ? -EINVAL : HF_CALL(int, hf_vfs_readdir(dir, ret_entry));
}

void hf_seekdir(struct hf_dir *dir, uint64_t cookie)
{
    if (dir != NULL)
        dir->cookie = cookie;
}

static int close_dir(struct hf_dir *dir)
{
    hf_vfs_closedir(dir);
    return 0;
}

int hf_closedir(struct hf_dir *dir)
{
    return dir == NULL ? -EBADF : HF_CALL(int, close_dir(dir));
}
