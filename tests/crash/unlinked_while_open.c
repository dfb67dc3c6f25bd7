/* SPDX-License-Identifier: MIT */
/*
 * unlinked_while_open.c - a file without a name keeps its blocks as long as it is open, and a power cut gives
 * them back; whoever gets them next never shows its bytes.
 */
#include "crash_util.h"

#define OPEN_AT_ONCE 3

/* A file that goes on being written after its name went. */
static unsigned lose_a_file(struct crash *crash, unsigned name)
{
    unsigned nr = crash_create(crash, name, 0);

    crash_append(crash, nr, 2000 + (hf_off_t)crash_random(crash, 15000));
    if (crash_random(crash, 2))
        crash_fsync(crash, nr);
    crash_unlink(crash, name);
    crash_append(crash, nr, 1 + (hf_off_t)crash_random(crash, 8000));
    if (crash_random(crash, 2))
        crash_store(crash, nr, 100, 1500);
    if (crash_random(crash, 2))
        crash_fsync(crash, nr);
    return nr;
}

static void unlinks(const struct crash_config *config, uint64_t seed)
{
    struct crash crash;
    unsigned open[OPEN_AT_ONCE] = {0}, nr_open = 0, stays;

    crash_init(&crash, config, seed);
    stays = crash_create(&crash, 1, 0);
    for (int i = 0; i < 14; i++) {
        if (nr_open == OPEN_AT_ONCE) {
            crash_close_file(&crash, open[crash_random(&crash, OPEN_AT_ONCE)]);
            memmove(open, open + 1, sizeof(open) - sizeof(open[0]));
            nr_open--;
        }
        open[nr_open++] = lose_a_file(&crash, 0);
        /* Takes blocks that have just become free. */
        crash_truncate(&crash, stays, 0);
        crash_append(&crash, stays, 9000);
        if (crash_random(&crash, 2))
            crash_fsync(&crash, stays);
    }
    crash_check(&crash, crash_points(15)); /* with some still open */
    crash_close(&crash);
    crash_check(&crash, crash_points(25));
    crash_done(&crash);
}

int main(void)
{
    return crash_main_usual(unlinks, 1);
}
