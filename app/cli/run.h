/* SPDX-License-Identifier: MIT */
/*
 * run.h - holdfast run: what its files share.
 */
#ifndef HF_CLI_RUN_H
#define HF_CLI_RUN_H

#include "../fuse/fuse.h"
#include "cli.h"
#include <stdatomic.h>

enum hf_run_where { HF_RUN_STORE = 0, HF_RUN_WRITE, HF_RUN_FSYNC };

/* --inject */
struct hf_run_inject {
    int error; /* negative; 0: nothing */
    enum hf_run_where where;
    uint64_t nth;
    const char *glob; /* NULL: any file */
    _Atomic uint64_t seen;
};

struct hf_run {
    const char *volume; /* NULL: a temporary one */
    uint64_t size_bytes;
    uint32_t block_size;
    const char *at; /* NULL: a temporary directory */
    enum hf_on_full on_full;
    bool stats;
    struct hf_run_inject inject;
    char temp[64]; /* our directory */
    char socket[108];
    char volume_path[512], dir[4096]; /* absolute */
};

/* Could the program be run with a library preloaded? HF_CLI_OK, or HF_CLI_FAILED, said. */
int hf_run_check(const char *name);
/* "ENOSPC@store:3:*.db". False: not that. */
bool hf_run_inject_parse(char *text, struct hf_run_inject *ret_inject);
/*
 * In a process of its own, that has called nothing of the library: formats the volume if it is a temporary
 * one, mounts, writes a byte to ready when programs can use it, and serves until SIGTERM. Returns its exit
 * status.
 */
int hf_run_serve(struct hf_run *run, int ready);

#endif
