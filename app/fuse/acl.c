/* SPDX-License-Identifier: MIT */
/*
 * acl.c - POSIX access control lists. The kernel reads them (getxattr) and decides by them; what is left to a
 * server is to keep mode and list of an inode in step, and what a new inode inherits (acl(5); the kernel's
 * fs/posix_acl.c is the model).
 *
 * Mode and list are two steps of the volume, and power may go between them: the order is such that nobody has
 * more rights in between than before or after. The kernel holds the inode's lock over each of these requests,
 * so no two of them meet at one inode.
 */
#include "server.h"

#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/xattr.h>

/* The bytes: a version, then entries of tag, permissions, id; all little endian (linux/posix_acl_xattr.h). */
#define VERSION 2u
#define HEADER 4u
#define ENTRY 8u
#define BYTES_MAX 65536u

enum tag { USER_OBJ = 0x01, USER = 0x02, GROUP_OBJ = 0x04, GROUP = 0x08, MASK = 0x10, OTHER = 0x20 };

static size_t nr_entries(const struct hf_fuse_acl *acl)
{
    return acl->size < HEADER ? 0 : (acl->size - HEADER) / ENTRY;
}

static uint8_t *entry_at(const struct hf_fuse_acl *acl, size_t i)
{
    return acl->bytes + HEADER + i * ENTRY;
}

static unsigned tag_of(const uint8_t *entry)
{
    return entry[0] | (unsigned)entry[1] << 8;
}

static unsigned perm_of(const uint8_t *entry)
{
    return entry[2] & 7u;
}

/* The entry of a tag that comes once; NULL: none. */
static uint8_t *entry_of(const struct hf_fuse_acl *acl, unsigned tag)
{
    for (size_t i = 0; i < nr_entries(acl); i++)
        if (tag_of(entry_at(acl, i)) == tag)
            return entry_at(acl, i);
    return NULL;
}

/* Whether it says no more than a mode can. */
static bool is_minimal(const struct hf_fuse_acl *acl)
{
    return nr_entries(acl) == 3;
}

static bool is_valid(const struct hf_fuse_acl *acl)
{
    unsigned count[MASK + 1] = {0}, others = 0;
    size_t nr = nr_entries(acl);

    if (acl->size != HEADER + nr * ENTRY || acl->bytes[0] != VERSION || acl->bytes[1] != 0 ||
        acl->bytes[2] != 0 || acl->bytes[3] != 0)
        return false;
    for (size_t i = 0; i < nr; i++) {
        const uint8_t *entry = entry_at(acl, i);
        unsigned tag = tag_of(entry);

        if (entry[2] > 7 || entry[3] != 0 || tag == 0 || (tag & (tag - 1)) != 0 || tag > OTHER)
            return false;
        if (tag == OTHER)
            others++;
        else
            count[tag]++;
    }
    return count[USER_OBJ] == 1 && count[GROUP_OBJ] == 1 && others == 1 && count[MASK] <= 1 &&
           (count[USER] + count[GROUP] == 0 || count[MASK] == 1);
}

/* The permission bits that stand for it: the group's are the most that any group or named user can have. */
static mode_t mode_of(const struct hf_fuse_acl *acl)
{
    const uint8_t *group = entry_of(acl, MASK);

    if (group == NULL)
        group = entry_of(acl, GROUP_OBJ);
    return perm_of(entry_of(acl, USER_OBJ)) << 6 | perm_of(group) << 3 | perm_of(entry_of(acl, OTHER));
}

static void set_perm(uint8_t *entry, unsigned perm)
{
    entry[2] = (uint8_t)(perm & 7u);
}

/* The other way round: the list as chmod(mode) leaves it. */
static void set_mode(const struct hf_fuse_acl *acl, mode_t mode)
{
    uint8_t *group = entry_of(acl, MASK);

    if (group == NULL)
        group = entry_of(acl, GROUP_OBJ);
    set_perm(entry_of(acl, USER_OBJ), mode >> 6);
    set_perm(group, mode >> 3);
    set_perm(entry_of(acl, OTHER), mode);
}

/* Reads one into fresh memory. -ENODATA: there is none; -EIO: those are the bytes of none. */
static int read_acl(struct hf_node *node, const char *name, struct hf_fuse_acl *ret_acl)
{
    struct hf_fuse_acl acl = {.bytes = malloc(BYTES_MAX)};
    ssize_t n = acl.bytes == NULL ? -ENOMEM : hf_node_getxattr(node, name, acl.bytes, BYTES_MAX);

    if (n >= 0) {
        acl.size = (size_t)n;
        if (is_valid(&acl)) {
            *ret_acl = acl;
            return 0;
        }
        n = -EIO;
    }
    free(acl.bytes);
    return (int)n;
}

static int set_node_mode(struct hf_node *node, mode_t mode)
{
    const struct hf_attr attr = {.valid = HF_ATTR_MODE, .mode = mode & 07777};

    return hf_node_setattr(node, &attr);
}

static int remove_if_there(struct hf_node *node, const char *name)
{
    int r = hf_node_removexattr(node, name);

    return r == -ENODATA ? 0 : r;
}

/* ---- setfacl */

bool hf_fuse_acl_is_name(const char *name)
{
    return strcmp(name, HF_FUSE_ACL_ACCESS) == 0 || strcmp(name, HF_FUSE_ACL_DEFAULT) == 0;
}

/* Whether the caller may leave a set-group-ID bit on a file of this group. */
static bool may_keep_sgid(fuse_req_t req, gid_t gid)
{
    const struct fuse_ctx *ctx = fuse_req_ctx(req);
    gid_t groups[256];
    int nr;

    if (ctx->uid == 0 || ctx->gid == gid)
        return true;
    nr = fuse_req_getgroups(req, (int)(sizeof(groups) / sizeof(groups[0])), groups);
    for (int i = 0; i < nr && (size_t)i < sizeof(groups) / sizeof(groups[0]); i++)
        if (groups[i] == gid)
            return true;
    return false;
}

static int set_access(fuse_req_t req, struct hf_node *node, const struct hf_fuse_acl *acl, int flags)
{
    struct stat st;
    mode_t mode;
    int r = hf_node_stat(node, &st);

    if (r < 0)
        return r;
    mode = (st.st_mode & 07000) | mode_of(acl);
    if (S_ISREG(st.st_mode) && !may_keep_sgid(req, st.st_gid))
        mode &= (mode_t)~S_ISGID;
    r = set_node_mode(node, st.st_mode & (mode | 07000)); /* what both allow, until both are there */
    if (r < 0)
        return r;
    r = is_minimal(acl) ? remove_if_there(node, HF_FUSE_ACL_ACCESS)
                        : hf_node_setxattr(node, HF_FUSE_ACL_ACCESS, acl->bytes, acl->size, flags);
    if (r < 0) {
        (void)set_node_mode(node, st.st_mode);
        return r;
    }
    return set_node_mode(node, mode);
}

int hf_fuse_acl_set(fuse_req_t req, struct hf_node *node, const char *name, const void *value, size_t size,
                    int flags)
{
    struct hf_fuse_acl acl = {.size = size};
    struct stat st;
    int r = hf_node_stat(node, &st);

    if (r < 0)
        return r;
    if (size > BYTES_MAX)
        return -E2BIG;
    if (S_ISLNK(st.st_mode))
        return -EOPNOTSUPP;
    if (strcmp(name, HF_FUSE_ACL_DEFAULT) == 0 && !S_ISDIR(st.st_mode))
        return -EACCES;
    if (size == HEADER) /* an empty one takes it away */
        return remove_if_there(node, name);
    acl.bytes = malloc(size + 1);
    if (acl.bytes == NULL)
        return -ENOMEM;
    memcpy(acl.bytes, value, size);
    if (!is_valid(&acl))
        r = -EINVAL;
    else if (strcmp(name, HF_FUSE_ACL_DEFAULT) == 0)
        r = hf_node_setxattr(node, name, value, size, flags);
    else
        r = set_access(req, node, &acl, flags);
    free(acl.bytes);
    return r;
}

/* ---- chmod */

int hf_fuse_acl_chmod(struct hf_node *node, mode_t mode)
{
    struct hf_fuse_acl acl = {0};
    mode_t was;
    int r = read_acl(node, HF_FUSE_ACL_ACCESS, &acl);

    if (r < 0)
        return r == -ENODATA ? 0 : r;
    was = mode_of(&acl);
    set_mode(&acl, mode);
    r = hf_node_setxattr(node, HF_FUSE_ACL_ACCESS, acl.bytes, acl.size, XATTR_REPLACE);
    if (r < 0) /* the list still decides: the mode goes on saying what it says */
        (void)set_node_mode(node, (mode & 07000) | was);
    free(acl.bytes);
    return r;
}

/* ---- new inodes */

/* mode and list each keep only what the other allows, too. */
static mode_t meet(const struct hf_fuse_acl *acl, mode_t mode)
{
    set_mode(acl, mode & mode_of(acl));
    return (mode & ~(mode_t)0777) | mode_of(acl);
}

int hf_fuse_acl_inherit(fuse_req_t req, struct hf_node *dir, mode_t mode, struct hf_fuse_birth *ret_birth)
{
    struct hf_fuse_birth birth = {.is_dir = S_ISDIR(mode)};
    int r = hf_fuse_of(req)->agreed.acl ? read_acl(dir, HF_FUSE_ACL_DEFAULT, &birth.acl) : -ENODATA;

    if (r == -ENODATA) {
        if (hf_fuse_of(req)->agreed.acl) /* else the kernel has applied it */
            mode &= ~fuse_req_ctx(req)->umask;
        *ret_birth = (struct hf_fuse_birth){.mode = mode, .first_mode = mode};
        return 0;
    }
    if (r < 0) {
        *ret_birth = (struct hf_fuse_birth){0};
        return r;
    }
    if (birth.is_dir) {
        birth.for_children = malloc(birth.acl.size);
        if (birth.for_children == NULL) {
            free(birth.acl.bytes);
            *ret_birth = (struct hf_fuse_birth){0};
            return -ENOMEM;
        }
        memcpy(birth.for_children, birth.acl.bytes, birth.acl.size);
    }
    birth.mode = meet(&birth.acl, mode);
    /* Without its list, the group of a file would have the mask's rights. */
    birth.first_mode = is_minimal(&birth.acl) ? birth.mode : birth.mode & ~(mode_t)S_IRWXG;
    *ret_birth = birth;
    return 0;
}

int hf_fuse_acl_bequeath(struct hf_node *node, const struct hf_fuse_birth *birth)
{
    struct stat st;
    int r = 0;

    if (birth->acl.bytes == NULL)
        return 0;
    if (birth->is_dir)
        r = hf_node_setxattr(node, HF_FUSE_ACL_DEFAULT, birth->for_children, birth->acl.size, 0);
    if (r < 0 || is_minimal(&birth->acl))
        return r;
    r = hf_node_setxattr(node, HF_FUSE_ACL_ACCESS, birth->acl.bytes, birth->acl.size, 0);
    if (r == 0)
        r = hf_node_stat(node, &st); /* a directory may have inherited its set-group-ID bit */
    return r < 0 ? r : set_node_mode(node, (st.st_mode & 07000) | (birth->mode & 0777));
}

void hf_fuse_acl_done(struct hf_fuse_birth *birth)
{
    free(birth->acl.bytes);
    free(birth->for_children);
    *birth = (struct hf_fuse_birth){0};
}
