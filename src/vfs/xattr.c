/* SPDX-License-Identifier: MIT */
/*
 * xattr.c - extended attributes: rules of xattr(7) that no driver has to know.
 *
 * The driver keeps names and values as they are given. What they mean, and who may see them, is a frontend's
 * affair: trusted. is not for the unprivileged, security. and system. are opaque here. Names and values are
 * copied before a lock is taken, because the caller's may lie in a mapping.
 */
#include "vfs/vfs.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/xattr.h>

static const char *const namespaces[] = {"user.", "trusted.", "security.", "system."};

static bool is_user(const char *name)
{
    return strncmp(name, namespaces[0], strlen(namespaces[0])) == 0;
}

int hf_xattr_check(const char *name, size_t size, int flags, char ret_copy[HF_XATTR_NAME_MAX + 1])
{
    size_t len;

    if (flags & ~(XATTR_CREATE | XATTR_REPLACE))
        return -EINVAL;
    len = strnlen(name, HF_XATTR_NAME_MAX + 1);
    if (len == 0 || len > HF_XATTR_NAME_MAX)
        return -ERANGE;
    if (size > HF_XATTR_SIZE_MAX)
        return -E2BIG;
    memcpy(ret_copy, name, len);
    ret_copy[len] = '\0';
    return 0;
}

/* The namespace exists, and this kind of inode has it. absent: the answer for user. where it cannot be. */
static int check_namespace(const struct hf_vnode *v, const char *name, int absent)
{
    bool known = false;

    if (is_user(name) && !S_ISREG(v->inode.mode) && !S_ISDIR(v->inode.mode))
        return absent;
    for (size_t i = 0; i < sizeof(namespaces) / sizeof(namespaces[0]); i++) {
        size_t len = strlen(namespaces[i]);

        if (strncmp(name, namespaces[i], len) != 0)
            continue;
        if (name[len] == '\0')
            return -EINVAL;
        known = true;
    }
    return known && hf_vnode_driver(v)->getxattr != NULL ? 0 : -EOPNOTSUPP;
}

/* Copies what was read to the caller, once no lock is held: as getxattr(2), size 0 asks how much it is. */
static ssize_t give(void *buf, size_t size, const void *data, ssize_t len)
{
    if (len <= 0 || size == 0)
        return len;
    if ((size_t)len > size)
        return -ERANGE;
    memcpy(buf, data, (size_t)len);
    return len;
}

ssize_t hf_vnode_getxattr(struct hf_vnode *v, const char *name, void *buf, size_t size)
{
    char copy[HF_XATTR_NAME_MAX + 1];
    size_t room = size < HF_XATTR_SIZE_MAX ? size : HF_XATTR_SIZE_MAX;
    void *data = NULL;
    ssize_t n = hf_xattr_check(name, 0, 0, copy);

    if (n == 0)
        n = check_namespace(v, copy, -ENODATA);
    if (n < 0)
        return n;
    data = malloc(room + 1);
    if (data == NULL)
        return -ENOMEM;
    hf_rwlock_rdlock(&v->io_lock);
    n = hf_vnode_driver(v)->getxattr(&v->inode, copy, data, room);
    hf_rwlock_rdunlock(&v->io_lock);
    n = give(buf, size, data, n);
    free(data);
    return n;
}

ssize_t hf_vnode_listxattr(struct hf_vnode *v, char *buf, size_t size)
{
    char *data = NULL;
    ssize_t n = 0;

    if (hf_vnode_driver(v)->listxattr == NULL)
        return -EOPNOTSUPP;
    /* The list may grow between asking and reading: then once more. */
    for (size_t room = 1024;; room = (size_t)n + 1024) {
        free(data);
        data = malloc(room);
        if (data == NULL)
            return -ENOMEM;
        hf_rwlock_rdlock(&v->io_lock);
        n = hf_vnode_driver(v)->listxattr(&v->inode, data, room);
        hf_rwlock_rdunlock(&v->io_lock);
        if (n < 0 || (size_t)n <= room)
            break;
    }
    n = give(buf, size, data, n);
    free(data);
    return n;
}

static void changed_locked(struct hf_vnode *v)
{
    atomic_store(&v->file_caps, HF_CAPS_UNKNOWN);
    atomic_store(&v->inode.ctime_ns, hf_now_ns());
    atomic_store(&v->attr_dirty, true);
}

int hf_vnode_setxattr(struct hf_vnode *v, const char *name, const void *value, size_t size, int flags)
{
    char copy[HF_XATTR_NAME_MAX + 1];
    void *data = NULL;
    int r = hf_xattr_check(name, size, flags, copy);

    if (r == 0 && v->volume->sb.read_only)
        r = -EROFS;
    if (r == 0)
        r = check_namespace(v, copy, -EPERM);
    if (r < 0)
        return r;
    data = malloc(size + 1);
    if (data == NULL)
        return -ENOMEM;
    if (size > 0)
        memcpy(data, value, size);
    hf_rwlock_wrlock(&v->io_lock);
    r = hf_vnode_driver(v)->setxattr(&v->inode, copy, data, size, flags);
    if (r == 0)
        changed_locked(v);
    hf_rwlock_wrunlock(&v->io_lock);
    free(data);
    return r;
}

int hf_vnode_removexattr(struct hf_vnode *v, const char *name)
{
    char copy[HF_XATTR_NAME_MAX + 1];
    int r = hf_xattr_check(name, 0, 0, copy);

    if (r == 0 && v->volume->sb.read_only)
        r = -EROFS;
    if (r == 0)
        r = check_namespace(v, copy, -EPERM);
    if (r < 0)
        return r;
    hf_rwlock_wrlock(&v->io_lock);
    r = hf_vnode_driver(v)->removexattr(&v->inode, copy);
    if (r == 0)
        changed_locked(v);
    hf_rwlock_wrunlock(&v->io_lock);
    return r;
}
