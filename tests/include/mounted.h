/* SPDX-License-Identifier: MIT */
/*
 * mounted.h - a volume mounted by `holdfast mount -f`, served by a process of its own.
 *
 * The mounts and processes of a test program are in namespaces of its own: nothing is left behind however it
 * ends. Every wait has a bound.
 */
#ifndef TESTS_MOUNTED_H
#define TESTS_MOUNTED_H

#include <stdbool.h>
#include <stdint.h>
#include <sys/types.h>

struct mounted {
    char volume[256], dir[300];
    pid_t server; /* 0: none runs */
};

/* What TARGET_MOUNT runs on. */
extern struct mounted target_mount;

/* NULL: mounts can be had, with this holdfast command. Else why not, in words. Once, in main(), before
 * threads. */
const char *mounted_init(const char *program);

/* NULL: the kernel can serve mappings in other processes, as holdfast run does. Else why not, in words. */
const char *mounted_serves_mappings(void);

/* A new volume, not yet served; mounted_start() serves it. options: for -o; NULL: none. Each asserts. */
void mounted_make(struct mounted *m, uint64_t size_bytes, uint32_t block_size);
/* A second one needs a name of its own. */
void mounted_make_named(struct mounted *m, const char *name, uint64_t size_bytes, uint32_t block_size);
void mounted_start(struct mounted *m, const char *options);
/* SIGTERM, and the server's exit status; 128 + n: signal n. */
int mounted_stop(struct mounted *m);
/* Waits for a server that ends by itself. */
int mounted_wait(struct mounted *m);
/* Ends what runs by force and removes volume and directory: for teardown, whatever state it is in. */
void mounted_clear(struct mounted *m);

/* Setup and teardown of a cmocka test whose state is a volume of its own, not yet served. */
int mounted_setup(void **state, uint64_t size_bytes, uint32_t block_size);
int mounted_teardown(void **state);

/* The path of a name in the mount; valid for the next three calls. */
const char *mounted_path(const struct mounted *m, const char *name);

/* Runs the holdfast command with these arguments (NULL-terminated, without argv[0]); stdout and stderr go to
 * out (may be NULL). Returns its exit status. */
int mounted_command(const char *const *args, char *out, size_t out_size);

/* Runs any program: its exit status; 128 + n: signal n; 127: cannot be run; -1: killed after seconds. */
int mounted_run(const char *const *argv, const char *in_dir, unsigned seconds);

#endif
