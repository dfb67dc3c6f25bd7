/* SPDX-License-Identifier: MIT */
/*
 * access.c - who may do what, for frontends that ask: permission bits and the sticky bit, as the kernel's
 * generic_permission() and may_delete(). Nothing in the library calls these by itself. User 0 stands for
 * CAP_DAC_OVERRIDE and CAP_FOWNER. Access control lists are opaque and not looked at.
 */
#include "vfs/vfs.h"

#include <errno.h>
#include <unistd.h>

static bool in_group(const struct hf_caller *who, uint32_t gid)
{
    if (who->gid == gid)
        return true;
    for (size_t i = 0; i < who->nr_groups; i++)
        if (who->groups[i] == gid)
            return true;
    return false;
}

int hf_vnode_access(struct hf_vnode *v, const struct hf_caller *who, int mask)
{
    uint32_t mode, uid, gid, bits;

    hf_rwlock_rdlock(&v->io_lock);
    mode = v->inode.mode;
    uid = v->inode.uid;
    gid = v->inode.gid;
    hf_rwlock_rdunlock(&v->io_lock);
    if ((mask & W_OK) && v->volume->sb.read_only && (S_ISREG(mode) || S_ISDIR(mode) || S_ISLNK(mode)))
        return -EROFS;
    if (who->uid == 0)
        return (mask & X_OK) && !S_ISDIR(mode) && !(mode & 0111) ? -EACCES : 0;
    if (who->uid == uid)
        bits = mode >> 6;
    else
        bits = in_group(who, gid) ? mode >> 3 : mode;
    return ((uint32_t)mask & ~bits & 7u) != 0 ? -EACCES : 0;
}

int hf_vnode_may_delete(struct hf_vnode *dir, struct hf_vnode *v, const struct hf_caller *who)
{
    int r = hf_vnode_access(dir, who, W_OK | X_OK);
    uint32_t mode, dir_uid, uid;

    if (r < 0 || who->uid == 0)
        return r;
    hf_rwlock_rdlock(&dir->io_lock);
    mode = dir->inode.mode;
    dir_uid = dir->inode.uid;
    hf_rwlock_rdunlock(&dir->io_lock);
    hf_rwlock_rdlock(&v->io_lock);
    uid = v->inode.uid;
    hf_rwlock_rdunlock(&v->io_lock);
    return (mode & S_ISVTX) && who->uid != dir_uid && who->uid != uid ? -EPERM : 0;
}
