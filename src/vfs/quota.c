/* SPDX-License-Identifier: MIT */
/*
 * quota.c - quotas as the framework sees them: handed to the driver, which counts.
 *
 * A change of owner or project moves what the inode is charged for, promises included. It runs under io_lock
 * and map_lock exclusive, so nothing takes or gives back a promise for this inode meanwhile: no fault, no
 * write, no writeback. Stores to its mappings wait for that moment.
 */
#include "vfs/vfs.h"

#include <errno.h>

int hf_vfs_quota_get(struct hf_volume *vol, enum hf_quota_type type, uint32_t id, struct hf_quota *ret_quota)
{
    const struct hf_driver *driver = vol->sb.driver;

    return driver->quota_get == NULL ? -EOPNOTSUPP : driver->quota_get(&vol->sb, type, id, ret_quota);
}

int hf_vfs_quota_set(struct hf_volume *vol, const struct hf_quota_limits *limits)
{
    const struct hf_driver *driver = vol->sb.driver;

    if (driver->quota_set == NULL)
        return -EOPNOTSUPP;
    return vol->sb.read_only ? -EROFS : driver->quota_set(&vol->sb, limits);
}

int hf_vfs_quota_list(struct hf_volume *vol, uint64_t *cursor, unsigned max, struct hf_quota *ret_quotas)
{
    const struct hf_driver *driver = vol->sb.driver;

    return driver->quota_list == NULL ? -EOPNOTSUPP : driver->quota_list(&vol->sb, cursor, max, ret_quotas);
}

int hf_vfs_quota_check(struct hf_volume *vol, struct hf_quota_check *ret_check)
{
    const struct hf_driver *driver = vol->sb.driver;

    return driver->quota_check == NULL ? -EOPNOTSUPP : driver->quota_check(&vol->sb, ret_check);
}

/* ---- owners and projects */

int hf_vnode_change_owner(struct hf_vnode *v, uint32_t uid, uint32_t gid, uint32_t project)
{
    const struct hf_driver *driver = hf_vnode_driver(v);
    struct hf_inode *i = &v->inode;
    int r = 0;

    if (uid == i->uid && gid == i->gid && project == i->project)
        return 0;
    hf_rwlock_wrlock(&v->mapping.map_lock);
    if (driver->change_owner != NULL)
        r = driver->change_owner(i, uid, gid, project);
    if (r == 0) {
        i->uid = uid;
        i->gid = gid;
        i->project = project;
    }
    hf_rwlock_wrunlock(&v->mapping.map_lock);
    return r;
}

int hf_vnode_set_project(struct hf_vnode *v, uint32_t project, unsigned flags)
{
    bool inherit = flags & HF_PROJECT_INHERIT;
    int r;

    if (flags & ~HF_PROJECT_INHERIT)
        return -EINVAL;
    if (inherit && !S_ISDIR(v->inode.mode))
        return -ENOTDIR;
    if (hf_vnode_driver(v)->change_owner == NULL)
        return -EOPNOTSUPP;
    if (v->volume->sb.read_only)
        return -EROFS;
    hf_rwlock_wrlock(&v->io_lock);
    r = hf_vnode_change_owner(v, v->inode.uid, v->inode.gid, project);
    if (r == 0) {
        v->inode.project_inherit = inherit;
        atomic_store(&v->inode.ctime_ns, hf_now_ns());
        atomic_store(&v->attr_dirty, true);
    }
    hf_rwlock_wrunlock(&v->io_lock);
    return r;
}

void hf_vnode_get_project(struct hf_vnode *v, uint32_t *ret_project, unsigned *ret_flags)
{
    unsigned flags;
    uint32_t project; /* the caller's places may lie in a mapping: they are written without locks */

    hf_rwlock_rdlock(&v->io_lock);
    project = v->inode.project;
    flags = v->inode.project_inherit ? HF_PROJECT_INHERIT : 0;
    hf_rwlock_rdunlock(&v->io_lock);
    if (ret_project != NULL)
        *ret_project = project;
    if (ret_flags != NULL)
        *ret_flags = flags;
}

int hf_vnode_project_check(const struct hf_vnode *dir, const struct hf_vnode *v)
{
    return dir->inode.project_inherit && dir->inode.project != v->inode.project ? -EXDEV : 0;
}
