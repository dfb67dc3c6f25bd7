/* SPDX-License-Identifier: MIT */
/*
 * xattr.c - public calls on extended attributes: by path, by path without following a symlink, by open
 * file, by node.
 */
#include "api/api.h"

#include <errno.h>

/* One call on an attribute, whatever names the inode. The arguments are checked before the path is walked. */
struct call {
    enum { GET, SET, LIST, REMOVE } what;
    const char *name;
    void *buf;         /* GET, LIST */
    const void *value; /* SET */
    size_t size;
    int flags; /* SET */
};

static ssize_t run(struct hf_vnode *v, const struct call *c)
{
    switch (c->what) {
    case GET:
        return hf_vnode_getxattr(v, c->name, c->buf, c->size);
    case SET:
        return hf_vnode_setxattr(v, c->name, c->value, c->size, c->flags);
    case LIST:
        return hf_vnode_listxattr(v, c->buf, c->size);
    default:
        return hf_vnode_removexattr(v, c->name);
    }
}

static ssize_t run_path(struct hf_volume *vol, const char *path, unsigned walk_flags, const struct call *c)
{
    char name[HF_XATTR_NAME_MAX + 1];
    struct hf_vnode *v;
    ssize_t n = 0;

    if (c->what != LIST)
        n = hf_xattr_check(c->name, c->what == SET ? c->size : 0, c->flags, name);
    if (n == 0)
        n = hf_vfs_lookup(vol, path, walk_flags, &v);
    if (n < 0)
        return n;
    n = run(v, c);
    hf_vnode_put(v);
    return n;
}

static bool is_bad(const struct call *c)
{
    return (c->what != LIST && c->name == NULL) ||
           (c->size > 0 && (c->what == SET ? c->value == NULL : c->buf == NULL));
}

static ssize_t on_path(struct hf_volume *vol, const char *path, unsigned walk_flags, const struct call *c)
{
    if (vol == NULL || path == NULL || is_bad(c))
        return -EINVAL;
    return HF_CALL(ssize_t, run_path(vol, path, walk_flags, c));
}

static ssize_t on_vnode(struct hf_vnode *v, const struct call *c)
{
    return is_bad(c) ? -EINVAL : HF_CALL(ssize_t, run(v, c));
}

static ssize_t on_file(struct hf_file *file, const struct call *c)
{
    return file == NULL ? -EBADF : on_vnode(file->vnode, c);
}

static ssize_t on_node(struct hf_node *node, const struct call *c)
{
    return node == NULL ? -EINVAL : on_vnode((struct hf_vnode *)node, c);
}

#define CALL(...) (&(struct call){__VA_ARGS__})
#define CALL_GET CALL(.what = GET, .name = name, .buf = buf, .size = size)
#define CALL_SET CALL(.what = SET, .name = name, .value = value, .size = size, .flags = flags)
#define CALL_LIST CALL(.what = LIST, .buf = buf, .size = size)
#define CALL_REMOVE CALL(.what = REMOVE, .name = name)

ssize_t hf_getxattr(struct hf_volume *vol, const char *path, const char *name, void *buf, size_t size)
{
    return on_path(vol, path, HF_WALK_FOLLOW, CALL_GET);
}

ssize_t hf_lgetxattr(struct hf_volume *vol, const char *path, const char *name, void *buf, size_t size)
{
    return on_path(vol, path, 0, CALL_GET);
}

ssize_t hf_fgetxattr(struct hf_file *file, const char *name, void *buf, size_t size)
{
    return on_file(file, CALL_GET);
}

int hf_setxattr(struct hf_volume *vol, const char *path, const char *name, const void *value, size_t size,
                int flags)
{
    return (int)on_path(vol, path, HF_WALK_FOLLOW, CALL_SET);
}

int hf_lsetxattr(struct hf_volume *vol, const char *path, const char *name, const void *value, size_t size,
                 int flags)
{
    return (int)on_path(vol, path, 0, CALL_SET);
}

int hf_fsetxattr(struct hf_file *file, const char *name, const void *value, size_t size, int flags)
{
    return (int)on_file(file, CALL_SET);
}

ssize_t hf_listxattr(struct hf_volume *vol, const char *path, char *buf, size_t size)
{
    return on_path(vol, path, HF_WALK_FOLLOW, CALL_LIST);
}

ssize_t hf_llistxattr(struct hf_volume *vol, const char *path, char *buf, size_t size)
{
    return on_path(vol, path, 0, CALL_LIST);
}

ssize_t hf_flistxattr(struct hf_file *file, char *buf, size_t size)
{
    return on_file(file, CALL_LIST);
}

int hf_removexattr(struct hf_volume *vol, const char *path, const char *name)
{
    return (int)on_path(vol, path, HF_WALK_FOLLOW, CALL_REMOVE);
}

int hf_lremovexattr(struct hf_volume *vol, const char *path, const char *name)
{
    return (int)on_path(vol, path, 0, CALL_REMOVE);
}

int hf_fremovexattr(struct hf_file *file, const char *name)
{
    return (int)on_file(file, CALL_REMOVE);
}

ssize_t hf_node_getxattr(struct hf_node *node, const char *name, void *buf, size_t size)
{
    return on_node(node, CALL_GET);
}

ssize_t hf_node_listxattr(struct hf_node *node, char *buf, size_t size)
{
    return on_node(node, CALL_LIST);
}

int hf_node_setxattr(struct hf_node *node, const char *name, const void *value, size_t size, int flags)
{
    return (int)on_node(node, CALL_SET);
}

int hf_node_removexattr(struct hf_node *node, const char *name)
{
    return (int)on_node(node, CALL_REMOVE);
}
