/* SPDX-License-Identifier: MIT */
/*
 * run.h - holdfast run: what its files share.
 */
#ifndef HF_CLI_RUN_H
#define HF_CLI_RUN_H

#include "../fuse/fuse.h"
#include "cli.h"
#include <stdatomic.h>

/* --inject */
struct hf_run_inject {
    int error; /* negative; 0: nothing */
    enum hf_fuse_call where;
    uint64_t nth;
    const char *glob; /* NULL: any file */
    _Atomic uint64_t seen;
};

/* Whom to ask for the mount. */
enum hf_run_mount {
    HF_RUN_MOUNT_ANY = 0,    /* privileged: the kernel; else fusermount3, else a namespace */
    HF_RUN_MOUNT_DIRECT,     /* the kernel, here */
    HF_RUN_MOUNT_FUSERMOUNT, /* the program that is setuid root */
    HF_RUN_MOUNT_NAMESPACE,  /* the kernel, in namespaces of this program's own */
};

struct hf_run {
    const char *volume; /* NULL: a temporary one */
    uint64_t size_bytes;
    uint32_t block_size;
    const char *at; /* NULL: a temporary directory */
    enum hf_on_full on_full;
    bool stats;
    enum hf_run_mount mount_with;
    struct hf_run_inject inject;
    char temp[64]; /* our directory */
    char socket[108];
    char volume_path[512], dir[4096]; /* absolute */
};

/* Exit statuses as those of env(1). */
#define HF_RUN_NOT_RUN 126
#define HF_RUN_NOT_FOUND 127

/* Could the program be run with a library preloaded? HF_CLI_OK; else said, HF_CLI_FAILED or
 * HF_RUN_NOT_FOUND. */
int hf_run_check(const char *name);
/* Takes away what was made in run->temp. */
void hf_run_places_remove(const struct hf_run *run);
/* "ENOSPC@fsync:3:*.db". False: not that. */
bool hf_run_inject_parse(char *text, struct hf_run_inject *ret_inject);
/*
 * Starts the process that serves, in each way to mount that mount_with allows until one works. Returns its
 * id when programs can use the mount; -1: nothing serves, said. If this process dies, that one unmounts,
 * writes everything, and takes the places away.
 */
pid_t hf_run_server_start(struct hf_run *run);
/*
 * In a process of its own, that has called nothing of the library: formats the volume if it is a temporary
 * one, mounts, writes a byte of 0 to ready when programs can use it, and serves until SIGTERM. If mounting is
 * refused, it says nothing, but writes why to ready. Returns its exit status.
 */
int hf_run_serve(struct hf_run *run, bool by_helper, int ready);
/* Waits for the end of a process; its exit status, or 128 + n: signal n. */
int hf_run_status_of(pid_t pid);

#endif
