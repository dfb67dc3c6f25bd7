/* SPDX-License-Identifier: MIT */
/*
 * cli_run.h - runs the command line as a program of its own, in surroundings that a test makes.
 *
 * The program is holdfast-control, whose library is linked in: it is opened before the surroundings are made,
 * so that it runs where the tree cannot be seen.
 */
#ifndef TESTS_CLI_RUN_H
#define TESTS_CLI_RUN_H

#include <stdbool.h>

struct cli_run {
    int status;      /* of exit; 128 + n: signal n */
    char *out, *err; /* NUL-terminated; freed by cli_run_free() */
};

/* The path of holdfast-control, once, in main(). */
void cli_program(const char *path);

/*
 * Runs it with args (NULL-terminated, without argv[0]) and prepare() called in the child before: 0, or the
 * child exits with CLI_CANNOT and the caller skips. prepare may be NULL.
 */
#define CLI_CANNOT 77
struct cli_run cli_run(int (*prepare)(void), const char *const *args);
void cli_run_free(struct cli_run *run);

/* The same with stdout on a terminal of its own. status is -1 where no terminal can be had. */
struct cli_run cli_run_on_terminal(const char *const *args);
/* The same with stdin there, too, keys typed once something is shown, and so many rows. */
struct cli_run cli_run_with_keys(const char *const *args, const char *keys, unsigned short rows);

/* Surroundings, for prepare(). Each returns 0 or -errno. */
int cli_refuse_call(long nr);     /* the system call fails with EPERM */
int cli_refuse_userfaultfd(void); /* also by its device */
int cli_become_nobody(void);      /* user 65534, if root */
int cli_hide(const char *dir);    /* an empty directory there, in a mount namespace of its own */

#endif
