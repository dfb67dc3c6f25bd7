/* SPDX-License-Identifier: MIT */
/*
 * ops_files.c - requests on open files.
 *
 * O_APPEND comes with each write: the kernel's idea of where a file ends may be late, ours is not. A write
 * from the kernel's page cache (what a mapping dirtied) is all or an error: the kernel looks at no count
 * there.
 */
#include "server.h"

#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#define COPY_BYTES ((size_t)256 * 1024)

/* ---- opening */

struct hf_fuse_file *hf_fuse_file_new(struct hf_fuse *fuse, struct hf_file *file, struct hf_dir *dir)
{
    struct hf_fuse_file *f = calloc(1, sizeof(*f));

    if (f == NULL)
        return NULL;
    f->file = file;
    f->dir = dir;
    pthread_mutex_init(&f->dir_lock, NULL);
    pthread_mutex_lock(&fuse->files_lock);
    f->next = fuse->files;
    if (f->next != NULL)
        f->next->prev = f;
    fuse->files = f;
    pthread_mutex_unlock(&fuse->files_lock);
    return f;
}

int hf_fuse_file_free(struct hf_fuse *fuse, struct hf_fuse_file *f)
{
    int r;

    pthread_mutex_lock(&fuse->files_lock);
    if (f->next != NULL)
        f->next->prev = f->prev;
    if (f->prev != NULL)
        f->prev->next = f->next;
    else
        fuse->files = f->next;
    pthread_mutex_unlock(&fuse->files_lock);
    hf_server_revoke(fuse->server, f->file);
    r = f->file != NULL ? hf_close(f->file) : hf_closedir(f->dir);
    pthread_mutex_destroy(&f->dir_lock);
    free(f);
    return r;
}

int hf_fuse_files_close(struct hf_fuse *fuse)
{
    int first = 0;

    while (fuse->files != NULL) {
        int r = hf_fuse_file_free(fuse, fuse->files);

        first = first != 0 ? first : r;
    }
    return first;
}

int hf_fuse_files_call_in(struct hf_fuse *fuse)
{
    fuse_ino_t *inos = NULL;
    size_t nr = 0, i = 0;

    pthread_mutex_lock(&fuse->files_lock);
    for (const struct hf_fuse_file *f = fuse->files; f != NULL; f = f->next)
        nr += f->file != NULL;
    inos = calloc(nr + 1, sizeof(*inos));
    for (const struct hf_fuse_file *f = fuse->files; inos != NULL && f != NULL; f = f->next)
        if (f->file != NULL && f->ino != 0)
            inos[i++] = f->ino;
    pthread_mutex_unlock(&fuse->files_lock);
    if (inos == NULL)
        return -ENOMEM;
    while (i > 0) /* one that was closed meanwhile is known no more, or has nothing to write */
        fuse_lowlevel_notify_inval_inode(fuse->session, inos[--i], 0, 0);
    free(inos);
    return 0;
}

/* The flags that the library is to know; O_APPEND is looked at in each write. */
static int open_flags(const struct fuse_file_info *fi)
{
    return fi->flags & (O_ACCMODE | O_TRUNC | O_SYNC | O_DSYNC | O_DIRECTORY | O_EXCL | O_NOATIME);
}

/* The last step of every open: promises, the handle, and how the kernel is to treat it. Takes over file. */
static int finish_open(struct hf_fuse *fuse, struct hf_file *file, fuse_ino_t ino, struct fuse_file_info *fi)
{
    struct hf_fuse_file *f = NULL;
    unsigned tries = 0;
    int r = 0;

    /* Only what is open for both can be mapped writable. */
    if (fuse->opts->mmap == HF_FUSE_MMAP_RESERVE && (fi->flags & O_ACCMODE) == O_RDWR)
        do {
            r = hf_file_promise(file);
        } while (hf_fuse_again(fuse, r, &tries));
    if (r == 0) {
        f = hf_fuse_file_new(fuse, file, NULL);
        r = f == NULL ? -ENOMEM : 0;
    }
    if (r < 0) {
        hf_fuse_count(fuse, open_refused, 1);
        hf_close(file);
        return r;
    }
    f->ino = ino;
    fi->fh = (uintptr_t)f;
    fi->direct_io = fuse->agreed.direct;
    fi->keep_cache = !fuse->agreed.direct;
    return 0;
}

void hf_fuse_op_open(fuse_req_t req, fuse_ino_t ino, struct fuse_file_info *fi)
{
    struct hf_fuse *fuse = hf_fuse_of(req);
    struct hf_file *file;
    int r = hf_node_open(hf_fuse_node(req, ino), open_flags(fi), &file);

    hf_fuse_count(fuse, open, 1);
    if (r == 0)
        r = finish_open(fuse, file, ino, fi);
    if (r < 0)
        fuse_reply_err(req, -r);
    else if (fuse_reply_open(req, fi) != 0)
        hf_fuse_file_free(fuse, (struct hf_fuse_file *)(uintptr_t)fi->fh);
}

/* Makes a file and opens it; one that is there already is opened, and inherits nothing. */
static int create_once(fuse_req_t req, struct hf_node *dir, const char *name, int flags,
                       const struct hf_fuse_birth *birth, struct hf_node **ret_node,
                       struct hf_file **ret_file)
{
    const struct hf_cred cred = hf_fuse_cred(req);
    const bool inherits = birth->acl.bytes != NULL, nameless = strcmp(name, "/") == 0; /* init.c: O_TMPFILE */
    int r;

    if (nameless)
        r = hf_node_tmpfile(dir, flags, birth->first_mode, &cred, ret_node, ret_file);
    else
        r = hf_node_create(dir, name, inherits ? flags | O_EXCL : flags, birth->first_mode, &cred, ret_node,
                           ret_file);
    if (r == -EEXIST && inherits && !(flags & O_EXCL))
        return hf_node_create(dir, name, flags, birth->mode, &cred, ret_node, ret_file);
    if (r < 0)
        return r;
    r = hf_fuse_acl_bequeath(*ret_node, birth);
    if (r < 0) {
        hf_close(*ret_file);
        if (!nameless)
            (void)hf_node_unlink(dir, name);
        hf_node_put(*ret_node, 1);
        *ret_node = NULL;
    }
    return r;
}

void hf_fuse_op_create(fuse_req_t req, fuse_ino_t parent, const char *name, mode_t mode,
                       struct fuse_file_info *fi)
{
    struct hf_fuse *fuse = hf_fuse_of(req);
    struct hf_node *dir = hf_fuse_node(req, parent), *node = NULL;
    struct hf_fuse_birth birth;
    struct fuse_entry_param e;
    struct hf_file *file;
    unsigned tries = 0;
    int r = hf_fuse_acl_inherit(req, dir, mode, &birth);

    while (r == 0) {
        r = create_once(req, dir, name, open_flags(fi), &birth, &node, &file);
        if (!hf_fuse_again(fuse, r, &tries))
            break;
        r = 0;
    }
    hf_fuse_acl_done(&birth);
    hf_fuse_count(fuse, create, 1);
    if (r == 0) {
        r = hf_fuse_entry(fuse, dir, name, node, &e);
        if (r == 0)
            r = finish_open(fuse, file, (fuse_ino_t)(uintptr_t)node, fi);
        else
            hf_close(file);
    }
    if (r < 0) {
        hf_node_put(node, 1);
        fuse_reply_err(req, -r);
    } else if (fuse_reply_create(req, &e, fi) != 0) {
        hf_fuse_file_free(fuse, (struct hf_fuse_file *)(uintptr_t)fi->fh);
        hf_node_put(node, 1);
    }
}

void hf_fuse_op_release(fuse_req_t req, fuse_ino_t ino, struct fuse_file_info *fi)
{
    struct hf_fuse *fuse = hf_fuse_of(req);
    int r;

    (void)ino;
    hf_fuse_count(fuse, release, 1);
    /* What close() was to be told, flush told. What munmap() wrote back after it, nobody was: the end says so. */
    r = hf_fuse_file_free(fuse, (struct hf_fuse_file *)(uintptr_t)fi->fh);
    if (r < 0)
        atomic_store(&fuse->untold, r);
    fuse_reply_err(req, 0);
}

/* ---- errors and durability */

void hf_fuse_op_flush(fuse_req_t req, fuse_ino_t ino, struct fuse_file_info *fi)
{
    (void)ino;
    hf_fuse_count(hf_fuse_of(req), flush, 1);
    fuse_reply_err(req, -hf_file_error(hf_fuse_file(fi)));
}

void hf_fuse_op_fsync(fuse_req_t req, fuse_ino_t ino, int datasync, struct fuse_file_info *fi)
{
    struct hf_file *file = hf_fuse_file(fi);

    hf_fuse_count(hf_fuse_of(req), fsync, 1);
    if (hf_fuse_refuse(req, HF_FUSE_CALL_FSYNC, ino))
        return;
    fuse_reply_err(req, -(datasync ? hf_fdatasync(file) : hf_fsync(file)));
}

/* ---- bytes */

void hf_fuse_op_read(fuse_req_t req, fuse_ino_t ino, size_t size, off_t off, struct fuse_file_info *fi)
{
    char *buf = malloc(size > 0 ? size : 1);
    ssize_t n = buf == NULL ? -ENOMEM : hf_pread(hf_fuse_file(fi), buf, size, off);

    (void)ino;
    hf_fuse_count(hf_fuse_of(req), read, 1);
    if (n < 0) {
        fuse_reply_err(req, (int)-n);
    } else {
        hf_fuse_count(hf_fuse_of(req), read_bytes, n);
        fuse_reply_buf(req, buf, (size_t)n);
    }
    free(buf);
}

void hf_fuse_op_write(fuse_req_t req, fuse_ino_t ino, const char *buf, size_t size, off_t off,
                      struct fuse_file_info *fi)
{
    struct hf_fuse *fuse = hf_fuse_of(req);
    unsigned flags = fi->writepage ? HF_WRITE_CACHED : fi->flags & O_APPEND ? HF_WRITE_APPEND : 0;
    unsigned tries = 0;
    ssize_t n;

    hf_fuse_count(fuse, write, 1);
    if (hf_fuse_refuse(req, HF_FUSE_CALL_WRITE, ino))
        return;
    if (!fi->writepage &&
        fuse_req_ctx(req)->uid != 0) /* the kernel leaves it to us where it caches nothing */
        flags |= HF_WRITE_KILL_SUID;
    do {
        n = hf_file_write(hf_fuse_file(fi), buf, size, off, flags);
    } while (hf_fuse_again(fuse, n, &tries));
    if (fi->writepage) {
        hf_fuse_count(fuse, write_cached, 1);
        if (n < 0)
            atomic_store(&fuse->lost_error, (int)n);
        hf_fuse_count(fuse, write_cached_lost, n < 0);
        if (fuse->opts->kernel_wrote != NULL)
            fuse->opts->kernel_wrote(n < 0 ? (int)n : 0, fuse->opts->arg);
    }
    if (n < 0) {
        fuse_reply_err(req, (int)-n);
        return;
    }
    hf_fuse_count(fuse, write_bytes, n);
    fuse_reply_write(req, (size_t)n);
}

void hf_fuse_op_fallocate(fuse_req_t req, fuse_ino_t ino, int mode, off_t off, off_t len,
                          struct fuse_file_info *fi)
{
    struct hf_fuse *fuse = hf_fuse_of(req);
    unsigned tries = 0;
    int r;

    (void)ino;
    hf_fuse_count(fuse, fallocate, 1);
    do {
        r = hf_fallocate(hf_fuse_file(fi), mode, off, len);
    } while (hf_fuse_again(fuse, r, &tries));
    fuse_reply_err(req, -r);
}

/* Copies at most len bytes; returns how many, or the error of the first. */
static ssize_t copy_range(struct hf_file *in, off_t off_in, struct hf_file *out, off_t off_out, size_t len)
{
    char *buf = malloc(COPY_BYTES);
    ssize_t n = buf == NULL ? -ENOMEM : 0;
    size_t done = 0;

    while (buf != NULL && done < len) {
        size_t want = len - done < COPY_BYTES ? len - done : COPY_BYTES;
        ssize_t got = hf_pread(in, buf, want, off_in + (off_t)done);

        n = got > 0 ? hf_pwrite(out, buf, (size_t)got, off_out + (off_t)done) : got;
        if (n <= 0)
            break;
        done += (size_t)n;
        if (n < got)
            break;
    }
    free(buf);
    return done > 0 ? (ssize_t)done : n;
}

void hf_fuse_op_copy_file_range(fuse_req_t req, fuse_ino_t ino_in, off_t off_in, struct fuse_file_info *fi_in,
                                fuse_ino_t ino_out, off_t off_out, struct fuse_file_info *fi_out, size_t len,
                                int flags)
{
    ssize_t n = -EINVAL;

    (void)ino_in;
    (void)ino_out;
    hf_fuse_count(hf_fuse_of(req), copy_file_range, 1);
    if (len > (size_t)1 << 30)
        len = (size_t)1 << 30;
    if (flags == 0)
        n = copy_range(hf_fuse_file(fi_in), off_in, hf_fuse_file(fi_out), off_out, len);
    if (n < 0)
        fuse_reply_err(req, (int)-n);
    else
        fuse_reply_write(req, (size_t)n);
}
