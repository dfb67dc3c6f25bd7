/* SPDX-License-Identifier: MIT */
/*
 * ops_xattr.c - requests on extended attributes. Who may use which name, the kernel has checked; only a list
 * it passes on as it is, so what is root's is left out of it for others.
 */
#include "server.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#define XATTR_BYTES_MAX 65536u

/* Answers with a size if that was asked for, else with the bytes. n: the size, or an error. */
static void reply_bytes(fuse_req_t req, const char *buf, ssize_t n, size_t asked)
{
    if (n < 0)
        fuse_reply_err(req, (int)-n);
    else if (asked == 0)
        fuse_reply_xattr(req, (size_t)n);
    else if ((size_t)n > asked)
        fuse_reply_err(req, ERANGE);
    else
        fuse_reply_buf(req, buf, (size_t)n);
}

/* An ACL that nobody asks would look as if it protected something. */
static bool is_unasked_acl(fuse_req_t req, const char *name)
{
    return !hf_fuse_of(req)->agreed.acl && hf_fuse_acl_is_name(name);
}

void hf_fuse_op_getxattr(fuse_req_t req, fuse_ino_t ino, const char *name, size_t size)
{
    char *buf = malloc(size > 0 ? size : 1);
    ssize_t n = buf == NULL ? -ENOMEM : -EOPNOTSUPP;

    if (buf != NULL && !is_unasked_acl(req, name))
        n = hf_node_getxattr(hf_fuse_node(req, ino), name, buf, size);
    hf_fuse_count(hf_fuse_of(req), xattr, 1);
    reply_bytes(req, buf, n, size);
    free(buf);
}

/* Takes the names of trusted. out of a list; returns its size then. */
static ssize_t without_trusted(char *list, ssize_t n)
{
    char *in = list, *out = list;

    while (in < list + n) {
        size_t len = strlen(in) + 1;

        if (strncmp(in, "trusted.", strlen("trusted.")) != 0) {
            memmove(out, in, len);
            out += len;
        }
        in += len;
    }
    return out - list;
}

void hf_fuse_op_listxattr(fuse_req_t req, fuse_ino_t ino, size_t size)
{
    char *buf = malloc(XATTR_BYTES_MAX);
    ssize_t n = buf == NULL ? -ENOMEM : hf_node_listxattr(hf_fuse_node(req, ino), buf, XATTR_BYTES_MAX);

    hf_fuse_count(hf_fuse_of(req), xattr, 1);
    if (n > 0 && fuse_req_ctx(req)->uid != 0)
        n = without_trusted(buf, n);
    reply_bytes(req, buf, n, size);
    free(buf);
}

void hf_fuse_op_setxattr(fuse_req_t req, fuse_ino_t ino, const char *name, const char *value, size_t size,
                         int flags)
{
    struct hf_node *node = hf_fuse_node(req, ino);
    int r;

    hf_fuse_count(hf_fuse_of(req), xattr, 1);
    if (is_unasked_acl(req, name))
        r = -EOPNOTSUPP;
    else if (hf_fuse_acl_is_name(name))
        r = hf_fuse_acl_set(req, node, name, value, size, flags);
    else
        r = hf_node_setxattr(node, name, value, size, flags);
    fuse_reply_err(req, -r);
}

void hf_fuse_op_removexattr(fuse_req_t req, fuse_ino_t ino, const char *name)
{
    hf_fuse_count(hf_fuse_of(req), xattr, 1);
    fuse_reply_err(req, -hf_node_removexattr(hf_fuse_node(req, ino), name));
}
