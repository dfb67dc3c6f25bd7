/* SPDX-License-Identifier: MIT */
/*
 * editor_saves.c - a save by temporary file, fsync and rename leaves the old text or the new one, whole.
 */
#include "crash_util.h"

static void save(struct crash *crash, unsigned name, unsigned tmp, bool sync_dir)
{
    unsigned nr = crash_create(crash, tmp, 0);
    hf_off_t left = 1 + (hf_off_t)crash_random(crash, 12000);

    while (left > 0) {
        hf_off_t part = left < 5000 ? left : 5000;

        crash_append(crash, nr, part);
        left -= part;
    }
    crash_fsync(crash, nr);
    crash_close_file(crash, nr);
    crash_rename(crash, tmp, name);
    if (sync_dir)
        crash_sync_dir(crash);
}

static void saves(const struct crash_config *config, uint64_t seed)
{
    struct crash crash;

    crash_init(&crash, config, seed);
    for (int i = 0; i < 16; i++)
        save(&crash, (unsigned)crash_random(&crash, 2), 2, i % 3 == 2);
    crash_unlink(&crash, 0); /* and one that is not confirmed */
    crash_close(&crash);
    crash_check(&crash, crash_points(45));
    crash_done(&crash);
}

int main(void)
{
    return crash_main_usual(saves, 1);
}
