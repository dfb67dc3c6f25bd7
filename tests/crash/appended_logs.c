/* SPDX-License-Identifier: MIT */
/*
 * appended_logs.c - records appended to logs are there once fsync, fdatasync, or a write of O_DSYNC returned.
 */
#include "crash_util.h"

#include <fcntl.h>

#define LOGS 3

static void append_some(struct crash *crash, const unsigned logs[LOGS])
{
    unsigned log = logs[crash_random(crash, LOGS)];

    if (crash->files[log].size > CRASH_FILE_MAX - 2000)
        return;
    crash_append(crash, log, 1 + (hf_off_t)crash_random(crash, 1500));
    switch (crash_random(crash, 5)) {
    case 0:
    case 1:
        crash_fsync(crash, log);
        break;
    case 2:
        crash_fdatasync(crash, log);
        break;
    default: /* the next one does */
        break;
    }
}

static void logs_grow(const struct crash_config *config, uint64_t seed)
{
    struct crash crash;
    unsigned logs[LOGS], old;

    crash_init(&crash, config, seed);
    /* Another file's bytes lie where the logs will be. */
    old = crash_create(&crash, 3, 0);
    crash_append(&crash, old, 30000);
    crash_fsync(&crash, old);
    for (unsigned i = 0; i < LOGS; i++)
        logs[i] = crash_create(&crash, i, i == 2 ? O_DSYNC : 0);
    crash_close_file(&crash, old);
    crash_unlink(&crash, 3);
    for (int i = 0; i < 60; i++)
        append_some(&crash, logs);
    crash_check(&crash, crash_points(15)); /* with all still open */
    crash_close(&crash);
    crash_check(&crash, crash_points(25));
    crash_done(&crash);
}

int main(void)
{
    return crash_main_usual(logs_grow, 1);
}
