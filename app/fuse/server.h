/* SPDX-License-Identifier: MIT */
/*
 * server.h - one mounted volume: what the files of this folder share.
 *
 * The kernel names inodes by the address of their struct hf_node, and holds one reference for each time it
 * was told of it; open files are struct hf_fuse_file. Worker threads take requests; the main thread waits for
 * signals and for the control socket.
 */
#ifndef HF_FUSE_SERVER_H
#define HF_FUSE_SERVER_H

#define FUSE_USE_VERSION 35
#include "fuse.h"
#include <fuse_lowlevel.h>
#include <holdfast/node.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdio.h>

#define HF_FUSE_WORKERS 8
#define HF_FUSE_MAX_WRITE (1u << 20)

/* Requests that are counted: X(name). */
/* clang-format off */
#define HF_FUSE_COUNTERS(X) \
    X(lookup) X(forget) X(getattr) X(setattr) X(readlink) X(create) X(unlink) X(rename) X(link) \
    X(open) X(open_refused) X(release) X(read) X(write) X(write_cached) X(write_cached_lost) X(flush) X(fsync) \
    X(fallocate) X(lseek) X(copy_file_range) X(readdir) X(statfs) X(xattr) X(read_bytes) X(write_bytes)
/* clang-format on */

/* An open file or directory of the kernel's. */
struct hf_fuse_file {
    struct hf_file *file;
    struct hf_dir *dir; /* guarded by dir_lock */
    fuse_ino_t ino;     /* of a file; 0 until it is open */
    pthread_mutex_t dir_lock;
    struct hf_fuse_file *prev, *next; /* guarded by files_lock */
};

/* What kernel and server agreed on in INIT. */
struct hf_fuse_agreed {
    uint32_t proto_major, proto_minor;
    uint64_t offered, wanted; /* FUSE_* flags of the protocol, both words */
    bool allow_mmap;          /* FUSE_DIRECT_IO_ALLOW_MMAP */
    bool direct;              /* files are opened with FOPEN_DIRECT_IO */
    bool acl;                 /* the kernel decides by POSIX ACLs, and leaves umasks to us */
};

struct hf_fuse {
    /* set at init */
    const struct hf_fuse_options *opts;
    const char *volume_path;
    char directory[4096];
    struct hf_volume *volume;
    struct hf_server *server; /* of mappings; NULL: not served */
    bool serves_mappings;     /* shared ones are ours, and the kernel makes none */
    struct hf_node *root;
    struct fuse_session *session;
    int worker_left; /* eventfd: a worker has left its loop */
    int control;     /* listening socket, or -1 */
    int helper;      /* to a fusermount3 that stays, or -1 */
    bool attached;   /* mounted by fusermount3, not by libfuse */
    bool read_only;

    /* written by the worker that answers INIT, before answered */
    struct hf_fuse_agreed agreed;
    uint64_t init_unique;
    _Atomic bool init_seen, answered;

    _Atomic int lost_error; /* the last one of a write of the kernel's cache; beside write_cached_lost */
    _Atomic int untold;     /* -errno of a file that nobody had open any more; 0: none */

    _Atomic unsigned workers_running;
    pthread_t workers[HF_FUSE_WORKERS];
    unsigned nr_workers;

    pthread_t seeker;
    pthread_mutex_t seek_lock;
    pthread_cond_t seek_more;
    struct hf_fuse_seek *seeks; /* guarded by seek_lock: waiting; likewise seek_stop */
    bool seek_stop;

    pthread_mutex_t files_lock;
    struct hf_fuse_file *files; /* guarded by files_lock: all that is open */

    struct hf_fuse_names *names; /* set at init; NULL: nothing is injected */

#define X(name) _Atomic uint64_t nr_##name;
    HF_FUSE_COUNTERS(X)
#undef X
};

#define hf_fuse_count(fuse, name, n) \
    atomic_fetch_add_explicit(&(fuse)->nr_##name, (uint64_t)(n), memory_order_relaxed)

static inline struct hf_fuse *hf_fuse_of(fuse_req_t req)
{
    return fuse_req_userdata(req);
}
static inline struct hf_node *hf_fuse_node(fuse_req_t req, fuse_ino_t ino)
{
    return ino == FUSE_ROOT_ID ? hf_fuse_of(req)->root : (struct hf_node *)(uintptr_t)ino;
}
static inline struct hf_file *hf_fuse_file(const struct fuse_file_info *fi)
{
    return ((struct hf_fuse_file *)(uintptr_t)fi->fh)->file;
}
static inline struct hf_cred hf_fuse_cred(fuse_req_t req)
{
    const struct fuse_ctx *ctx = fuse_req_ctx(req);

    return (struct hf_cred){.uid = ctx->uid, .gid = ctx->gid};
}

/* ---- init.c */
void hf_fuse_op_init(void *userdata, struct fuse_conn_info *conn);
/* Takes over the session's reads and writes where that is needed to agree on more than libfuse knows. */
int hf_fuse_io_install(struct hf_fuse *fuse);

/* ---- status.c: what a server says of itself, NAME VALUE a line */
void hf_fuse_status_print(FILE *out, struct hf_fuse *fuse);
/* ---- busy.c: a line for each file in memory, and for each process that maps some */
void hf_fuse_files_print(FILE *out, struct hf_fuse *fuse);
void hf_fuse_clients_print(FILE *out, struct hf_fuse *fuse);

/* ---- mount.c */
/* Mounts by fusermount3, with these options. Returns the connection's descriptor, or a negative errno and the
 * helper's line. */
int hf_fuse_mount_by_helper(struct hf_fuse *fuse, const char *options, char said[HF_FUSE_TEXT]);
/* False: the mount of this connection is gone. */
bool hf_fuse_connected(int fd);

/* ---- unmount.c */
/* Takes the mount away; lazy: also if it is in use. 0, -EBUSY, or what failed. Workers must be running. */
int hf_fuse_unmount(struct hf_fuse *fuse, bool lazy);

/* ---- ops_names.c */
/* Fills what the kernel is told of the node that is called name in dir. Takes over no reference. */
int hf_fuse_entry(struct hf_fuse *fuse, struct hf_node *dir, const char *name, struct hf_node *node,
                  struct fuse_entry_param *ret_entry);
void hf_fuse_op_lookup(fuse_req_t req, fuse_ino_t parent, const char *name);
void hf_fuse_op_forget(fuse_req_t req, fuse_ino_t ino, uint64_t nlookup);
void hf_fuse_op_forget_multi(fuse_req_t req, size_t count, struct fuse_forget_data *forgets);
void hf_fuse_op_getattr(fuse_req_t req, fuse_ino_t ino, struct fuse_file_info *fi);
void hf_fuse_op_setattr(fuse_req_t req, fuse_ino_t ino, struct stat *attr, int to_set,
                        struct fuse_file_info *fi);
void hf_fuse_op_readlink(fuse_req_t req, fuse_ino_t ino);
void hf_fuse_op_mknod(fuse_req_t req, fuse_ino_t parent, const char *name, mode_t mode, dev_t rdev);
void hf_fuse_op_mkdir(fuse_req_t req, fuse_ino_t parent, const char *name, mode_t mode);
void hf_fuse_op_symlink(fuse_req_t req, const char *target, fuse_ino_t parent, const char *name);
void hf_fuse_op_link(fuse_req_t req, fuse_ino_t ino, fuse_ino_t newparent, const char *newname);
void hf_fuse_op_unlink(fuse_req_t req, fuse_ino_t parent, const char *name);
void hf_fuse_op_rmdir(fuse_req_t req, fuse_ino_t parent, const char *name);
void hf_fuse_op_rename(fuse_req_t req, fuse_ino_t parent, const char *name, fuse_ino_t newparent,
                       const char *newname, unsigned flags);
void hf_fuse_op_statfs(fuse_req_t req, fuse_ino_t ino);

/* ---- ops_files.c */
void hf_fuse_op_create(fuse_req_t req, fuse_ino_t parent, const char *name, mode_t mode,
                       struct fuse_file_info *fi);
void hf_fuse_op_open(fuse_req_t req, fuse_ino_t ino, struct fuse_file_info *fi);
void hf_fuse_op_release(fuse_req_t req, fuse_ino_t ino, struct fuse_file_info *fi);
void hf_fuse_op_flush(fuse_req_t req, fuse_ino_t ino, struct fuse_file_info *fi);
void hf_fuse_op_fsync(fuse_req_t req, fuse_ino_t ino, int datasync, struct fuse_file_info *fi);
void hf_fuse_op_read(fuse_req_t req, fuse_ino_t ino, size_t size, off_t off, struct fuse_file_info *fi);
void hf_fuse_op_write(fuse_req_t req, fuse_ino_t ino, const char *buf, size_t size, off_t off,
                      struct fuse_file_info *fi);
void hf_fuse_op_fallocate(fuse_req_t req, fuse_ino_t ino, int mode, off_t off, off_t len,
                          struct fuse_file_info *fi);
void hf_fuse_op_copy_file_range(fuse_req_t req, fuse_ino_t ino_in, off_t off_in, struct fuse_file_info *fi_in,
                                fuse_ino_t ino_out, off_t off_out, struct fuse_file_info *fi_out, size_t len,
                                int flags);
/* A handle for what the library has opened, one of the two; NULL: no memory. */
struct hf_fuse_file *hf_fuse_file_new(struct hf_fuse *fuse, struct hf_file *file, struct hf_dir *dir);
int hf_fuse_file_free(struct hf_fuse *fuse, struct hf_fuse_file *f);
/* Has the kernel write all that mappings of open files stored, and waits for it. Workers must be running, and
 * this must be none. 0, or -ENOMEM: not all. */
int hf_fuse_files_call_in(struct hf_fuse *fuse);
/* Closes what the kernel has not; returns the first error. Workers have ended. */
int hf_fuse_files_close(struct hf_fuse *fuse);

/* ---- inject.c: where opts->inject is NULL, these do nothing */
int hf_fuse_names_new(struct hf_fuse *fuse); /* 0 or -ENOMEM */
void hf_fuse_names_free(struct hf_fuse *fuse);
/* ino is called name in dir from now on. */
void hf_fuse_name_note(struct hf_fuse *fuse, struct hf_node *dir, const char *name, uint64_t ino);
/* The same, of what has that name by now. */
void hf_fuse_name_look(struct hf_fuse *fuse, struct hf_node *dir, const char *name);
/* True: the request was answered with an error. */
bool hf_fuse_refuse(fuse_req_t req, enum hf_fuse_call call, fuse_ino_t ino);
void hf_fuse_inject_serve(struct hf_fuse *fuse, struct hf_server_options *serve);

/* ---- space.c */
/* r is what a request for space returned. True: it may
 * be different now, ask once more. *tries: 0 at first. */
bool hf_fuse_again(struct hf_fuse *fuse, ssize_t r, unsigned *tries);

/* ---- ops_ioctl.c */
void hf_fuse_op_ioctl(fuse_req_t req, fuse_ino_t ino, unsigned cmd, void *arg, struct fuse_file_info *fi,
                      unsigned flags, const void *in, size_t in_size, size_t out_size);
/* If opts want it. 0 or -errno. */
int hf_fuse_mappings_start(struct hf_fuse *fuse);
void hf_fuse_mappings_stop(struct hf_fuse *fuse);

/* ---- seek.c */
int hf_fuse_seek_start(struct hf_fuse *fuse);
void hf_fuse_seek_stop(struct hf_fuse *fuse); /* while workers run, or the connection is gone */
void hf_fuse_op_lseek(fuse_req_t req, fuse_ino_t ino, off_t off, int whence, struct fuse_file_info *fi);

/* ---- ops_xattr.c */
void hf_fuse_op_getxattr(fuse_req_t req, fuse_ino_t ino, const char *name, size_t size);
void hf_fuse_op_listxattr(fuse_req_t req, fuse_ino_t ino, size_t size);
void hf_fuse_op_setxattr(fuse_req_t req, fuse_ino_t ino, const char *name, const char *value, size_t size,
                         int flags);
void hf_fuse_op_removexattr(fuse_req_t req, fuse_ino_t ino, const char *name);

/* ---- acl.c: POSIX ACLs, where they were agreed on */
#define HF_FUSE_ACL_ACCESS "system.posix_acl_access"
#define HF_FUSE_ACL_DEFAULT "system.posix_acl_default"
/* One list, as the bytes of its attribute. */
struct hf_fuse_acl {
    uint8_t *bytes;
    size_t size;
};
/* What a new inode gets from the directory it is made in. */
struct hf_fuse_birth {
    mode_t first_mode; /* to be made with */
    mode_t mode;       /* in the end */
    bool is_dir;
    struct hf_fuse_acl acl; /* bytes NULL: no list */
    uint8_t *for_children;  /* of a directory: the default list, as large */
};
bool hf_fuse_acl_is_name(const char *name);
int hf_fuse_acl_set(fuse_req_t req, struct hf_node *node, const char *name, const void *value, size_t size,
                    int flags);
/* Brings the list of a node into step with a mode that was just set. */
int hf_fuse_acl_chmod(struct hf_node *node, mode_t mode);
/* mode: type and permissions that were asked for. To be followed by hf_fuse_acl_done(). */
int hf_fuse_acl_inherit(fuse_req_t req, struct hf_node *dir, mode_t mode, struct hf_fuse_birth *ret_birth);
/* Gives a node, made with first_mode, the rest. If it fails, the node is to be taken away again. */
int hf_fuse_acl_bequeath(struct hf_node *node, const struct hf_fuse_birth *birth);
void hf_fuse_acl_done(struct hf_fuse_birth *birth);

/* ---- ops_dirs.c */
void hf_fuse_op_opendir(fuse_req_t req, fuse_ino_t ino, struct fuse_file_info *fi);
void hf_fuse_op_readdir(fuse_req_t req, fuse_ino_t ino, size_t size, off_t off, struct fuse_file_info *fi);
void hf_fuse_op_readdirplus(fuse_req_t req, fuse_ino_t ino, size_t size, off_t off,
                            struct fuse_file_info *fi);
void hf_fuse_op_releasedir(fuse_req_t req, fuse_ino_t ino, struct fuse_file_info *fi);
void hf_fuse_op_fsyncdir(fuse_req_t req, fuse_ino_t ino, int datasync, struct fuse_file_info *fi);

#endif
