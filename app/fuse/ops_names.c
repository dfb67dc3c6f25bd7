/* SPDX-License-Identifier: MIT */
/*
 * ops_names.c - requests on names and attributes.
 *
 * Names change only through the kernel that asks here, so it may keep what it was told of them. Attributes of
 * regular files move without it (writeback allocates blocks, stores move mtime), so those it asks for again.
 */
#include "server.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#define KEEP_SECONDS 86400.0

static double attr_timeout(const struct stat *st)
{
    return S_ISREG(st->st_mode) ? 0 : KEEP_SECONDS;
}

int hf_fuse_entry(struct hf_fuse *fuse, struct hf_node *dir, const char *name, struct hf_node *node,
                  struct fuse_entry_param *ret_entry)
{
    struct fuse_entry_param e = {.entry_timeout = KEEP_SECONDS};
    int r = hf_node_stat(node, &e.attr);

    if (r < 0)
        return r;
    hf_fuse_name_note(fuse, dir, name, e.attr.st_ino);
    e.ino = node == fuse->root ? FUSE_ROOT_ID : (fuse_ino_t)(uintptr_t)node;
    e.attr_timeout = attr_timeout(&e.attr);
    *ret_entry = e;
    return 0;
}

/* Answers with the node that is called name in dir, whose reference becomes the kernel's, or with the error r. */
static void reply_node(fuse_req_t req, int r, struct hf_node *dir, const char *name, struct hf_node *node)
{
    struct fuse_entry_param e;

    if (r == 0) {
        r = hf_fuse_entry(hf_fuse_of(req), dir, name, node, &e);
        if (r < 0)
            hf_node_put(node, 1);
    }
    if (r < 0)
        fuse_reply_err(req, -r);
    else if (fuse_reply_entry(req, &e) != 0)
        hf_node_put(node, 1); /* the kernel no longer waits for it */
}

static void reply_status(fuse_req_t req, int r)
{
    fuse_reply_err(req, r < 0 ? -r : 0);
}

void hf_fuse_op_lookup(fuse_req_t req, fuse_ino_t parent, const char *name)
{
    struct hf_node *dir = hf_fuse_node(req, parent), *node = NULL;
    int r = hf_node_lookup(dir, name, &node);

    hf_fuse_count(hf_fuse_of(req), lookup, 1);
    if (r == -ENOENT) {
        const struct fuse_entry_param nobody = {.entry_timeout = KEEP_SECONDS};

        fuse_reply_entry(req, &nobody);
        return;
    }
    reply_node(req, r, dir, name, node);
}

void hf_fuse_op_forget(fuse_req_t req, fuse_ino_t ino, uint64_t nlookup)
{
    hf_fuse_count(hf_fuse_of(req), forget, 1);
    if (ino != FUSE_ROOT_ID)
        hf_node_put(hf_fuse_node(req, ino), nlookup);
    fuse_reply_none(req);
}

void hf_fuse_op_forget_multi(fuse_req_t req, size_t count, struct fuse_forget_data *forgets)
{
    hf_fuse_count(hf_fuse_of(req), forget, count);
    for (size_t i = 0; i < count; i++)
        if (forgets[i].ino != FUSE_ROOT_ID)
            hf_node_put(hf_fuse_node(req, forgets[i].ino), forgets[i].nlookup);
    fuse_reply_none(req);
}

static void reply_attr(fuse_req_t req, struct hf_node *node)
{
    struct stat st;
    int r = hf_node_stat(node, &st);

    if (r < 0)
        fuse_reply_err(req, -r);
    else
        fuse_reply_attr(req, &st, attr_timeout(&st));
}

void hf_fuse_op_getattr(fuse_req_t req, fuse_ino_t ino, struct fuse_file_info *fi)
{
    (void)fi;
    hf_fuse_count(hf_fuse_of(req), getattr, 1);
    reply_attr(req, hf_fuse_node(req, ino));
}

static struct timespec time_to_set(int to_set, int flag, int now_flag, struct timespec given)
{
    if (to_set & now_flag)
        return (struct timespec){.tv_nsec = UTIME_NOW};
    return to_set & flag ? given : (struct timespec){.tv_nsec = UTIME_OMIT};
}

static struct hf_attr attr_to_set(const struct stat *attr, int to_set)
{
    const int times =
        FUSE_SET_ATTR_ATIME | FUSE_SET_ATTR_ATIME_NOW | FUSE_SET_ATTR_MTIME | FUSE_SET_ATTR_MTIME_NOW;
    struct hf_attr a = {.mode = attr->st_mode & 07777, .size = attr->st_size};

    if (to_set & FUSE_SET_ATTR_MODE)
        a.valid |= HF_ATTR_MODE;
    if (to_set & (FUSE_SET_ATTR_UID | FUSE_SET_ATTR_GID))
        a.valid |= HF_ATTR_OWNER;
    if (to_set & FUSE_SET_ATTR_SIZE)
        a.valid |= HF_ATTR_SIZE;
    if (to_set & times)
        a.valid |= HF_ATTR_TIMES;
    a.uid = to_set & FUSE_SET_ATTR_UID ? attr->st_uid : (uid_t)-1;
    a.gid = to_set & FUSE_SET_ATTR_GID ? attr->st_gid : (gid_t)-1;
    a.times[0] = time_to_set(to_set, FUSE_SET_ATTR_ATIME, FUSE_SET_ATTR_ATIME_NOW, attr->st_atim);
    a.times[1] = time_to_set(to_set, FUSE_SET_ATTR_MTIME, FUSE_SET_ATTR_MTIME_NOW, attr->st_mtim);
    return a;
}

void hf_fuse_op_setattr(fuse_req_t req, fuse_ino_t ino, struct stat *attr, int to_set,
                        struct fuse_file_info *fi)
{
    struct hf_node *node = hf_fuse_node(req, ino);
    struct hf_attr a = attr_to_set(attr, to_set);
    unsigned tries = 0;
    int r;

    do {
        r = a.valid != 0 ? hf_node_setattr(node, &a) : 0;
    } while (hf_fuse_again(hf_fuse_of(req), r, &tries));
    if (r == 0 && (a.valid & HF_ATTR_MODE) && hf_fuse_of(req)->agreed.acl)
        r = hf_fuse_acl_chmod(node, a.mode);
    (void)fi;
    hf_fuse_count(hf_fuse_of(req), setattr, 1);
    if (r < 0)
        fuse_reply_err(req, -r);
    else
        reply_attr(req, node);
}

void hf_fuse_op_readlink(fuse_req_t req, fuse_ino_t ino)
{
    char target[HF_PATH_MAX + 1];
    ssize_t n = hf_node_readlink(hf_fuse_node(req, ino), target, HF_PATH_MAX);

    hf_fuse_count(hf_fuse_of(req), readlink, 1);
    if (n < 0 || n > HF_PATH_MAX) {
        fuse_reply_err(req, n < 0 ? (int)-n : ENAMETOOLONG);
        return;
    }
    target[n] = '\0';
    fuse_reply_readlink(req, target);
}

void hf_fuse_op_mknod(fuse_req_t req, fuse_ino_t parent, const char *name, mode_t mode, dev_t rdev)
{
    struct hf_node *dir = hf_fuse_node(req, parent), *node = NULL;
    struct hf_cred cred = hf_fuse_cred(req);
    struct hf_fuse_birth birth;
    int r = hf_fuse_acl_inherit(req, dir, mode, &birth);

    if (r == 0)
        r = hf_node_mknod(dir, name, birth.first_mode, rdev, &cred, &node);
    if (r == 0) {
        r = hf_fuse_acl_bequeath(node, &birth);
        if (r < 0) {
            (void)(S_ISDIR(mode) ? hf_node_rmdir(dir, name) : hf_node_unlink(dir, name));
            hf_node_put(node, 1);
        }
    }
    hf_fuse_acl_done(&birth);
    hf_fuse_count(hf_fuse_of(req), create, 1);
    reply_node(req, r, dir, name, node);
}

void hf_fuse_op_mkdir(fuse_req_t req, fuse_ino_t parent, const char *name, mode_t mode)
{
    hf_fuse_op_mknod(req, parent, name, S_IFDIR | (mode & 07777), 0);
}

void hf_fuse_op_symlink(fuse_req_t req, const char *target, fuse_ino_t parent, const char *name)
{
    struct hf_cred cred = hf_fuse_cred(req);
    struct hf_node *dir = hf_fuse_node(req, parent), *node = NULL;
    int r = hf_node_symlink(dir, name, target, &cred, &node);

    hf_fuse_count(hf_fuse_of(req), create, 1);
    reply_node(req, r, dir, name, node);
}

void hf_fuse_op_link(fuse_req_t req, fuse_ino_t ino, fuse_ino_t newparent, const char *newname)
{
    struct hf_node *node = hf_fuse_node(req, ino), *dir = hf_fuse_node(req, newparent);
    int r = hf_node_link(node, dir, newname);

    hf_fuse_count(hf_fuse_of(req), link, 1);
    reply_node(req, r, dir, newname, r == 0 ? hf_node_get(node) : NULL);
}

void hf_fuse_op_unlink(fuse_req_t req, fuse_ino_t parent, const char *name)
{
    hf_fuse_count(hf_fuse_of(req), unlink, 1);
    reply_status(req, hf_node_unlink(hf_fuse_node(req, parent), name));
}

void hf_fuse_op_rmdir(fuse_req_t req, fuse_ino_t parent, const char *name)
{
    hf_fuse_count(hf_fuse_of(req), unlink, 1);
    reply_status(req, hf_node_rmdir(hf_fuse_node(req, parent), name));
}

void hf_fuse_op_rename(fuse_req_t req, fuse_ino_t parent, const char *name, fuse_ino_t newparent,
                       const char *newname, unsigned flags)
{
    struct hf_node *dir = hf_fuse_node(req, parent), *newdir = hf_fuse_node(req, newparent);
    int r = hf_node_rename(dir, name, newdir, newname, flags);

    hf_fuse_count(hf_fuse_of(req), rename, 1);
    if (r == 0) {
        hf_fuse_name_look(hf_fuse_of(req), newdir, newname);
        hf_fuse_name_look(hf_fuse_of(req), dir, name); /* RENAME_EXCHANGE */
    }
    reply_status(req, r);
}

void hf_fuse_op_statfs(fuse_req_t req, fuse_ino_t ino)
{
    struct hf_fuse *fuse = hf_fuse_of(req);
    struct statvfs st = {0};
    struct hf_statfs hf;
    int r = hf_volume_statfs(fuse->volume, &hf);

    (void)ino;
    hf_fuse_count(fuse, statfs, 1);
    if (r < 0) {
        fuse_reply_err(req, -r);
        return;
    }
    st.f_bsize = st.f_frsize = hf.block_size;
    st.f_blocks = hf.blocks;
    st.f_bfree = st.f_bavail = hf.blocks_free;
    st.f_files = hf.inodes + hf.inodes_free;
    st.f_ffree = st.f_favail = hf.inodes_free;
    st.f_namemax = HF_NAME_MAX;
    fuse_reply_statfs(req, &st);
}
