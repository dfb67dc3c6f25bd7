/* SPDX-License-Identifier: MIT */
/*
 * fuse.h - serving a volume to a kernel: what the command line needs of it.
 */
#ifndef HF_FUSE_FUSE_H
#define HF_FUSE_FUSE_H

#include <holdfast/serve.h>

/* What happens to a store through the kernel's page cache when there is no space (docs/semantics.md). */
enum hf_fuse_mmap {
    HF_FUSE_MMAP_RESERVE = 0, /* cannot happen: opening for writing, and growing, promise the whole file */
    HF_FUSE_MMAP_LATE,        /* an error from msync, fsync and close */
};

/* Where read() and write() of programs meet the file. */
enum hf_fuse_cache {
    HF_FUSE_CACHE_DIRECT = 0, /* here, always: coherent with every mapping */
    HF_FUSE_CACHE_KERNEL,     /* in the kernel's page cache: faster reads */
};

/* What can be made to fail. */
enum hf_fuse_call { HF_FUSE_CALL_STORE = 0, HF_FUSE_CALL_WRITE, HF_FUSE_CALL_FSYNC };

struct hf_fuse_options {
    enum hf_fuse_mmap mmap;
    enum hf_fuse_cache cache;
    bool no_acl; /* POSIX ACLs are neither kept nor asked */
    struct hf_open_options open;
    char kernel[1024]; /* for libfuse, after a comma each */
    bool by_helper;    /* by fusermount3, also if mount(2) would do */
    bool *ret_refused; /* set if it failed because mounting was refused; may be NULL */

    /* Mappings in other processes (<holdfast/serve.h>): a socket to serve them on, or NULL. */
    const char *serve_at;
    struct hf_server_options serve;
    /* Before a write, fsync or msync of a program, and before a store of it that faults: 0, or -errno that it
     * gets (of a store: as hf_server_options.inject, which this is instead of). path: of the file as it is
     * called now, absolute; "" if it has no name. From any thread. May be NULL. */
    int (*inject)(enum hf_fuse_call call, const char *path, void *arg);
    /* The kernel has written back what a program stored through a mapping that is the kernel's: 0, or -errno: it
     * is lost, and msync, fsync or close will say so. By any thread; may be NULL. */
    void (*kernel_wrote)(int error, void *arg);
    /* At the end, before clients are taken leave of; may be NULL. */
    void (*served)(const struct hf_server_stats *stats, void *arg);
    void *arg; /* of all */
};

#define HF_FUSE_TEXT 512

/* Takes one option of -o ("ro", "mmap=late"). Returns 0; -EINVAL: not known, or its value makes no sense. */
int hf_fuse_option(struct hf_fuse_options *opts, const char *option);

/*
 * Mounts the volume at path on directory, calls ready(arg) when the kernel has been answered, and serves
 * until it is unmounted or SIGTERM, SIGINT or SIGHUP arrive (blocked by the call; they unmount). Then
 * everything is written and the volume closed. Returns 0: nothing was lost; else a negative errno and one
 * line in error. If it failed before ready() was called, nothing is mounted.
 */
int hf_fuse_serve(const struct hf_fuse_options *opts, const char *path, const char *directory,
                  void (*ready)(void *arg), void *arg, char error[HF_FUSE_TEXT]);

#endif
