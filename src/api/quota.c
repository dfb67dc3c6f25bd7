/* SPDX-License-Identifier: MIT */
/*
 * quota.c - public calls on quotas and projects.
 */
#include "api/api.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

static bool type_ok(enum hf_quota_type type)
{
    return (unsigned)type < HF_QUOTA_TYPES;
}

int hf_quota_get(struct hf_volume *vol, enum hf_quota_type type, uint32_t id, struct hf_quota *ret_quota)
{
    struct hf_quota quota; /* the caller's may lie in a mapping: it is written without locks */
    int r;

    if (vol == NULL || ret_quota == NULL || !type_ok(type))
        return -EINVAL;
    r = HF_CALL(int, hf_vfs_quota_get(vol, type, id, &quota));
    if (r == 0)
        *ret_quota = quota;
    return r;
}

int hf_quota_set(struct hf_volume *vol, const struct hf_quota_limits *limits)
{
    struct hf_quota_limits copy;

    if (vol == NULL || limits == NULL)
        return -EINVAL;
    copy = *limits;
    if (!type_ok(copy.type))
        return -EINVAL;
    return HF_CALL(int, hf_vfs_quota_set(vol, &copy));
}

#define LIST_MAX 1024u

int hf_quota_list(struct hf_volume *vol, uint64_t *cursor, unsigned max, struct hf_quota *ret_quotas)
{
    struct hf_quota *quotas;
    uint64_t at;
    int r;

    if (vol == NULL || cursor == NULL || max == 0 || ret_quotas == NULL)
        return -EINVAL;
    if (max > LIST_MAX)
        max = LIST_MAX;
    at = *cursor;
    quotas = malloc(max * sizeof(*quotas));
    if (quotas == NULL)
        return -ENOMEM;
    r = HF_CALL(int, hf_vfs_quota_list(vol, &at, max, quotas));
    if (r > 0) {
        memcpy(ret_quotas, quotas, (size_t)r * sizeof(*quotas));
        *cursor = at;
    }
    free(quotas);
    return r;
}

int hf_quota_check(struct hf_volume *vol, struct hf_quota_check *ret_check)
{
    struct hf_quota_check check;
    int r;

    if (vol == NULL || ret_check == NULL)
        return -EINVAL;
    r = HF_CALL(int, hf_vfs_quota_check(vol, &check));
    if (r >= 0)
        *ret_check = check;
    return r;
}

/* ---- projects */

static int set_at(struct hf_volume *vol, const char *path, uint32_t project, unsigned flags)
{
    struct hf_vnode *v;
    int r = hf_vfs_lookup(vol, path, 0, &v);

    if (r < 0)
        return r;
    r = hf_vnode_set_project(v, project, flags);
    hf_vnode_put(v);
    return r;
}

static int get_at(struct hf_volume *vol, const char *path, uint32_t *ret_project, unsigned *ret_flags)
{
    struct hf_vnode *v;
    int r = hf_vfs_lookup(vol, path, 0, &v);

    if (r < 0)
        return r;
    hf_vnode_get_project(v, ret_project, ret_flags);
    hf_vnode_put(v);
    return 0;
}

int hf_set_project(struct hf_volume *vol, const char *path, uint32_t project, unsigned flags)
{
    return vol == NULL || path == NULL ? -EINVAL : HF_CALL(int, set_at(vol, path, project, flags));
}

int hf_get_project(struct hf_volume *vol, const char *path, uint32_t *ret_project, unsigned *ret_flags)
{
    return vol == NULL || path == NULL ? -EINVAL : HF_CALL(int, get_at(vol, path, ret_project, ret_flags));
}

int hf_fset_project(struct hf_file *file, uint32_t project, unsigned flags)
{
    return file == NULL ? -EBADF : HF_CALL(int, hf_vnode_set_project(file->vnode, project, flags));
}

static int get_of(struct hf_file *file, uint32_t *ret_project, unsigned *ret_flags)
{
    hf_vnode_get_project(file->vnode, ret_project, ret_flags);
    return 0;
}

int hf_fget_project(struct hf_file *file, uint32_t *ret_project, unsigned *ret_flags)
{
    return file == NULL ? -EBADF : HF_CALL(int, get_of(file, ret_project, ret_flags));
}
