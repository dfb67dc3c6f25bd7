/* SPDX-License-Identifier: MIT */
/*
 * ops_dirs.c - reading directories. The kernel's offset is the cookie of the entry before.
 */
#include "server.h"

#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>

static struct hf_fuse_file *dir_of(const struct fuse_file_info *fi)
{
    return (struct hf_fuse_file *)(uintptr_t)fi->fh;
}

void hf_fuse_op_opendir(fuse_req_t req, fuse_ino_t ino, struct fuse_file_info *fi)
{
    struct hf_fuse *fuse = hf_fuse_of(req);
    struct hf_fuse_file *d = NULL;
    struct hf_dir *dir;
    int r = hf_node_opendir(hf_fuse_node(req, ino), &dir);

    if (r == 0) {
        d = hf_fuse_file_new(fuse, NULL, dir);
        r = d == NULL ? -ENOMEM : 0;
        if (r < 0)
            hf_closedir(dir);
    }
    if (r < 0) {
        fuse_reply_err(req, -r);
        return;
    }
    fi->fh = (uintptr_t)d;
    if (fuse_reply_open(req, fi) != 0)
        hf_fuse_file_free(fuse, d);
}

void hf_fuse_op_releasedir(fuse_req_t req, fuse_ino_t ino, struct fuse_file_info *fi)
{
    (void)ino;
    hf_fuse_file_free(hf_fuse_of(req), dir_of(fi));
    fuse_reply_err(req, 0);
}

void hf_fuse_op_fsyncdir(fuse_req_t req, fuse_ino_t ino, int datasync, struct fuse_file_info *fi)
{
    struct hf_file *file;
    int r = hf_node_open(hf_fuse_node(req, ino), O_RDONLY | O_DIRECTORY, &file);

    (void)fi;
    if (r == 0) {
        r = datasync ? hf_fdatasync(file) : hf_fsync(file);
        hf_close(file);
    }
    fuse_reply_err(req, -r);
}

/* An answer under construction. */
struct listing {
    fuse_req_t req;
    struct hf_node *dir;
    bool plus;
    char *buf;
    size_t size, used;
    struct hf_node **nodes; /* told to the kernel with the entries, if plus */
    size_t nr_nodes;
};

/* The node of an entry, if the kernel shall be told of it; ino 0: only its name and type are known. */
static struct hf_node *entry_node(struct listing *l, const struct hf_dirent *entry,
                                  struct fuse_entry_param *e)
{
    struct hf_node *node = NULL;

    *e = (struct fuse_entry_param){.attr.st_ino = entry->ino, .attr.st_mode = (mode_t)entry->type << 12};
    if (!l->plus || strcmp(entry->name, ".") == 0 || strcmp(entry->name, "..") == 0 ||
        hf_node_lookup(l->dir, entry->name, &node) < 0)
        return NULL; /* gone since: its name was there when it was read */
    if (hf_fuse_entry(hf_fuse_of(l->req), l->dir, entry->name, node, e) == 0)
        return node;
    hf_node_put(node, 1);
    return NULL;
}

/* False: it did not fit. */
static bool add_entry(struct listing *l, const struct hf_dirent *entry)
{
    struct fuse_entry_param e;
    struct hf_node *node = entry_node(l, entry, &e);
    size_t left = l->size - l->used, n;

    if (l->plus)
        n = fuse_add_direntry_plus(l->req, l->buf + l->used, left, entry->name, &e, (off_t)entry->cookie);
    else
        n = fuse_add_direntry(l->req, l->buf + l->used, left, entry->name, &e.attr, (off_t)entry->cookie);
    if (n > left) {
        hf_node_put(node, 1);
        return false;
    }
    if (node != NULL)
        l->nodes[l->nr_nodes++] = node;
    l->used += n;
    return true;
}

static int list(struct listing *l, struct hf_fuse_file *d, off_t off)
{
    uint64_t at = (uint64_t)off;
    int r;

    pthread_mutex_lock(&d->dir_lock);
    hf_seekdir(d->dir, at);
    for (;;) {
        struct hf_dirent entry;

        r = hf_readdir(d->dir, &entry);
        if (r != 1 || !add_entry(l, &entry))
            break;
    }
    pthread_mutex_unlock(&d->dir_lock);
    return r < 0 && l->used == 0 ? r : 0;
}

static void reply_listing(fuse_req_t req, fuse_ino_t ino, size_t size, off_t off, struct hf_fuse_file *d,
                          bool plus)
{
    struct listing l = {.req = req, .dir = hf_fuse_node(req, ino), .plus = plus, .size = size};
    int r = 0;

    hf_fuse_count(hf_fuse_of(req), readdir, 1);
    l.buf = malloc(size);
    l.nodes =
        plus ? malloc((size / sizeof(struct fuse_entry_param) + 1) * 2 * sizeof(struct hf_node *)) : NULL;
    if (l.buf == NULL || (plus && l.nodes == NULL))
        r = -ENOMEM;
    if (r == 0)
        r = list(&l, d, off);
    if (r < 0)
        fuse_reply_err(req, -r);
    else if (fuse_reply_buf(req, l.buf, l.used) != 0)
        for (size_t i = 0; i < l.nr_nodes; i++)
            hf_node_put(l.nodes[i], 1);
    free(l.nodes);
    free(l.buf);
}

void hf_fuse_op_readdir(fuse_req_t req, fuse_ino_t ino, size_t size, off_t off, struct fuse_file_info *fi)
{
    reply_listing(req, ino, size, off, dir_of(fi), false);
}

void hf_fuse_op_readdirplus(fuse_req_t req, fuse_ino_t ino, size_t size, off_t off, struct fuse_file_info *fi)
{
    reply_listing(req, ino, size, off, dir_of(fi), true);
}
