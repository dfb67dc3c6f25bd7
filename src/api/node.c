/* SPDX-License-Identifier: MIT */
/*
 * node.c - public calls on nodes: a struct hf_node is a struct hf_vnode whose reference a frontend holds.
 *
 * Names and targets are copied first: drivers read them under their locks, and the caller's may lie in a
 * mapping.
 */
#include "api/api.h"

#include <errno.h>
#include <fcntl.h>
#include <holdfast/node.h>
#include <string.h>
#include <unistd.h>

static struct hf_vnode *vnode_of(struct hf_node *node)
{
    return (struct hf_vnode *)node;
}

/* A name in a directory, from the caller's. */
static int name_init(struct hf_node *dir, const char *name, struct hf_name *ret_at)
{
    size_t len;

    if (dir == NULL || name == NULL)
        return -EINVAL;
    if (!S_ISDIR(vnode_of(dir)->inode.mode))
        return -ENOTDIR;
    len = strnlen(name, HF_NAME_MAX + 1);
    if (len > HF_NAME_MAX)
        return -ENAMETOOLONG;
    if (len == 0 || memchr(name, '/', len) != NULL)
        return -EINVAL;
    ret_at->dir = vnode_of(dir);
    ret_at->must_be_dir = false;
    memcpy(ret_at->name, name, len);
    ret_at->name[len] = '\0';
    return 0;
}

/* r is what a lookup or a creation returned with v; where the caller wants no node, the reference goes. */
static int to_node(int r, struct hf_vnode *v, struct hf_node **ret_node)
{
    if (r < 0)
        return r;
    if (ret_node != NULL) {
        struct hf_node *node = hf_vnode_to_node(v);

        r = hf_api_hand_over(ret_node, &node, sizeof(node));
        if (r < 0)
            hf_vnode_put_nodes(v, 1);
    } else {
        hf_vnode_put(v);
        r = 0;
    }
    return r;
}

static int root_node(struct hf_volume *vol, struct hf_node **ret_node)
{
    return to_node(0, hf_vnode_get(vol->root), ret_node);
}

int hf_node_root(struct hf_volume *vol, struct hf_node **ret_node)
{
    return vol == NULL || ret_node == NULL ? -EINVAL : HF_CALL(int, root_node(vol, ret_node));
}

static int get_node(struct hf_node *node)
{
    hf_vnode_to_node(hf_vnode_get(vnode_of(node)));
    return 0;
}

struct hf_node *hf_node_get(struct hf_node *node)
{
    return node == NULL || HF_CALL(int, get_node(node)) < 0 ? NULL : node;
}

static int put_node(struct hf_node *node, uint64_t count)
{
    hf_vnode_put_nodes(vnode_of(node), count);
    return 0;
}

void hf_node_put(struct hf_node *node, uint64_t count)
{
    if (node != NULL)
        (void)HF_CALL(int, put_node(node, count));
}

static int put_all(struct hf_volume *vol)
{
    hf_icache_put_all_nodes(vol);
    return 0;
}

void hf_node_put_all(struct hf_volume *vol)
{
    if (vol != NULL)
        (void)HF_CALL(int, put_all(vol));
}

int hf_node_any_unlinked(struct hf_volume *vol)
{
    return vol == NULL ? -EINVAL : HF_CALL(int, hf_icache_has_unlinked_nodes(vol));
}

static int lookup(const struct hf_name *at, struct hf_node **ret_node)
{
    struct hf_vnode *v = NULL;
    int r;

    if (strcmp(at->name, ".") == 0)
        return to_node(0, hf_vnode_get(at->dir), ret_node);
    r = hf_vnode_lookup(at->dir, at->name, &v);
    return to_node(r, v, ret_node);
}

int hf_node_lookup(struct hf_node *dir, const char *name, struct hf_node **ret_node)
{
    struct hf_name at;
    int r = ret_node == NULL ? -EINVAL : name_init(dir, name, &at);

    return r < 0 ? r : HF_CALL(int, lookup(&at, ret_node));
}

static int stat_node(struct hf_node *node, struct stat *ret_stat)
{
    hf_vnode_stat(vnode_of(node), ret_stat);
    return 0;
}

int hf_node_stat(struct hf_node *node, struct stat *ret_stat)
{
    return node == NULL || ret_stat == NULL ? -EINVAL : HF_CALL(int, stat_node(node, ret_stat));
}

int hf_node_setattr(struct hf_node *node, const struct hf_attr *attr)
{
    const unsigned known = HF_ATTR_MODE | HF_ATTR_OWNER | HF_ATTR_TIMES | HF_ATTR_SIZE;
    struct hf_attr copy;

    if (node == NULL || attr == NULL || (attr->valid & ~known))
        return -EINVAL;
    copy = *attr;
    return HF_CALL(int, hf_vnode_setattr(vnode_of(node), &copy));
}

int hf_node_access(struct hf_node *node, const struct hf_caller *who, int mask)
{
    if (node == NULL || who == NULL || (mask & ~(R_OK | W_OK | X_OK)))
        return -EINVAL;
    return HF_CALL(int, hf_vnode_access(vnode_of(node), who, mask));
}

int hf_node_may_delete(struct hf_node *dir, struct hf_node *node, const struct hf_caller *who)
{
    if (dir == NULL || node == NULL || who == NULL)
        return -EINVAL;
    return HF_CALL(int, hf_vnode_may_delete(vnode_of(dir), vnode_of(node), who));
}

/* ---- names */

static int create(const struct hf_name *at, const struct hf_create *how, struct hf_node **ret_node)
{
    struct hf_vnode *v = NULL;
    int r = hf_name_create(at, how, ret_node != NULL ? &v : NULL);

    return ret_node != NULL ? to_node(r, v, ret_node) : r;
}

int hf_node_mknod(struct hf_node *dir, const char *name, mode_t mode, dev_t rdev, const struct hf_cred *cred,
                  struct hf_node **ret_node)
{
    struct hf_name at;
    struct hf_create how;
    int r = cred == NULL || S_ISLNK(mode) ? -EINVAL : name_init(dir, name, &at);

    if (r < 0)
        return r;
    if ((mode & S_IFMT) == 0)
        mode |= S_IFREG;
    how = (struct hf_create){
        .mode = mode, .uid = cred->uid, .gid = cred->gid, .rdev = rdev, .now_ns = hf_now_ns()};
    return HF_CALL(int, create(&at, &how, ret_node));
}

int hf_node_symlink(struct hf_node *dir, const char *name, const char *target, const struct hf_cred *cred,
                    struct hf_node **ret_node)
{
    struct hf_create how = {.mode = S_IFLNK | 0777, .now_ns = hf_now_ns()};
    char copy[HF_PATH_MAX];
    struct hf_name at;
    size_t len;
    int r = cred == NULL || target == NULL ? -EINVAL : name_init(dir, name, &at);

    if (r < 0)
        return r;
    len = strnlen(target, sizeof(copy));
    if (len == 0 || len == sizeof(copy))
        return len == 0 ? -ENOENT : -ENAMETOOLONG;
    memcpy(copy, target, len);
    copy[len] = '\0';
    how.uid = cred->uid;
    how.gid = cred->gid;
    how.target = copy;
    return HF_CALL(int, create(&at, &how, ret_node));
}

int hf_node_link(struct hf_node *node, struct hf_node *dir, const char *name)
{
    struct hf_name at;
    int r = node == NULL ? -EINVAL : name_init(dir, name, &at);

    return r < 0 ? r : HF_CALL(int, hf_name_link(&at, vnode_of(node)));
}

static int unlink_node(struct hf_node *dir, const char *name, bool directory)
{
    struct hf_name at;
    int r = name_init(dir, name, &at);

    return r < 0 ? r : HF_CALL(int, hf_name_unlink(&at, directory));
}

int hf_node_unlink(struct hf_node *dir, const char *name)
{
    return unlink_node(dir, name, false);
}

int hf_node_rmdir(struct hf_node *dir, const char *name)
{
    return unlink_node(dir, name, true);
}

int hf_node_rename(struct hf_node *dir, const char *name, struct hf_node *newdir, const char *newname,
                   unsigned flags)
{
    struct hf_name from, to;
    int r = name_init(dir, name, &from);

    if (r == 0)
        r = name_init(newdir, newname, &to);
    return r < 0 ? r : HF_CALL(int, hf_name_rename(&from, &to, flags));
}

ssize_t hf_node_readlink(struct hf_node *node, char *buf, size_t size)
{
    return node == NULL || buf == NULL ? -EINVAL
                                       : HF_CALL(ssize_t, hf_vnode_readlink(vnode_of(node), buf, size));
}

/* ---- opening */

int hf_node_open(struct hf_node *node, int flags, struct hf_file **ret_file)
{
    return node == NULL || ret_file == NULL ? -EINVAL
                                            : HF_CALL(int, hf_vnode_open(vnode_of(node), flags, ret_file));
}

static int create_open(const struct hf_name *at, int flags, const struct hf_create *how,
                       struct hf_node **ret_node, struct hf_file **ret_file)
{
    struct hf_vnode *v = NULL;
    int r;

    do {
        r = hf_name_create(at, how, &v);
        if (r == 0)
            flags &= ~O_TRUNC;
        else if (r == -EEXIST && !(flags & O_EXCL))
            r = hf_vnode_lookup(at->dir, at->name, &v);
    } while (r == -ENOENT && at->dir->inode.nlink > 0); /* unlinked between the two */
    if (r < 0)
        return r;
    r = hf_vnode_open(v, flags, ret_file);
    if (r < 0) {
        hf_vnode_put(v);
        return r;
    }
    return to_node(0, v, ret_node);
}

int hf_node_create(struct hf_node *dir, const char *name, int flags, mode_t mode, const struct hf_cred *cred,
                   struct hf_node **ret_node, struct hf_file **ret_file)
{
    struct hf_create how = {.mode = S_IFREG | (mode & 07777), .now_ns = hf_now_ns()};
    struct hf_name at;
    int r = cred == NULL || ret_file == NULL ? -EINVAL : name_init(dir, name, &at);

    if (r < 0)
        return r;
    how.uid = cred->uid;
    how.gid = cred->gid;
    return HF_CALL(int, create_open(&at, flags, &how, ret_node, ret_file));
}

ssize_t hf_file_write(struct hf_file *file, const void *buf, size_t len, hf_off_t off, unsigned flags)
{
    if (file == NULL)
        return -EBADF;
    if (flags & ~(HF_WRITE_APPEND | HF_WRITE_CACHED | HF_WRITE_KILL_SUID))
        return -EINVAL;
    return HF_CALL(ssize_t, hf_vfs_write_at(file, buf, len, off, flags));
}

int hf_file_error(struct hf_file *file)
{
    return file == NULL ? -EBADF : HF_CALL(int, hf_vfs_error(file));
}

int hf_file_promise(struct hf_file *file)
{
    return file == NULL ? -EBADF : HF_CALL(int, hf_vfs_promise(file));
}

static int tmpfile_open(struct hf_vnode *dir, int flags, const struct hf_create *how,
                        struct hf_node **ret_node, struct hf_file **ret_file)
{
    struct hf_vnode *v = NULL;
    int r = hf_vnode_tmpfile(dir, how, !(flags & O_EXCL), &v);

    if (r == 0)
        r = hf_vnode_open(v, flags & ~(O_TMPFILE | O_TRUNC), ret_file);
    if (r < 0) {
        hf_vnode_put(v);
        return r;
    }
    return to_node(0, v, ret_node);
}

int hf_node_tmpfile(struct hf_node *dir, int flags, mode_t mode, const struct hf_cred *cred,
                    struct hf_node **ret_node, struct hf_file **ret_file)
{
    struct hf_create how = {.mode = S_IFREG | (mode & 07777), .now_ns = hf_now_ns()};

    if (dir == NULL || cred == NULL || ret_file == NULL)
        return -EINVAL;
    how.uid = cred->uid;
    how.gid = cred->gid;
    return HF_CALL(int, tmpfile_open(vnode_of(dir), flags, &how, ret_node, ret_file));
}

int hf_node_opendir(struct hf_node *node, struct hf_dir **ret_dir)
{
    return node == NULL || ret_dir == NULL ? -EINVAL
                                           : HF_CALL(int, hf_vnode_opendir(vnode_of(node), ret_dir));
}
