/* SPDX-License-Identifier: MIT */
/*
 * discards.c - a volume that tells its device what is free, at every commit and all at once: what a cut
 * leaves refers to no block that the device was told to forget.
 */
#include "crash_util.h"

#define NAMES 4

static hf_off_t below(struct crash *crash, hf_off_t n)
{
    return (hf_off_t)crash_random(crash, (uint64_t)n);
}

/* The file of a name; a new one if there is none. */
static unsigned file_of(struct crash *crash, unsigned name)
{
    uint8_t shown = crash->dirs[crash->nr_dirs - 1][name];

    return shown != 0 ? shown - 1u : crash_create(crash, name, 0);
}

static void step(struct crash *crash)
{
    unsigned name = (unsigned)crash_random(crash, NAMES), nr = file_of(crash, name);
    hf_off_t size = crash->files[nr].size;

    switch (crash_random(crash, 9)) {
    case 0:
        crash_truncate(crash, nr, below(crash, size + 1));
        break;
    case 1:
        if (size > 1)
            crash_punch(crash, nr, below(crash, size - 1), 1 + below(crash, size));
        break;
    case 2:
        if (crash->nr_files < CRASH_FILES) {
            crash_close_file(crash, nr);
            crash_unlink(crash, name);
        }
        break;
    case 3:
        crash_preallocate(crash, nr, below(crash, 20000), 1 + below(crash, 8000));
        break;
    case 4:
        crash_trim(crash);
        break;
    case 5:
    case 6:
        crash_fsync(crash, nr);
        break;
    default:
        crash_write(crash, nr, below(crash, 16000), 1 + below(crash, 16000));
        break;
    }
}

static void discards(const struct crash_config *config, uint64_t seed)
{
    struct crash_config thin = *config;
    struct crash crash;

    thin.discard = true;
    crash_init(&crash, &thin, seed);
    for (int i = 0; i < 80; i++)
        step(&crash);
    crash_close(&crash);
    crash_check(&crash, crash_points(24));
    crash_done(&crash);
}

/* Short, and the power goes after every event. */
static void every_cut(const struct crash_config *config, uint64_t seed)
{
    struct crash_config thin = *config;
    struct crash crash;
    unsigned old, new;

    thin.discard = true;
    thin.device_bytes = 1 << 20;
    crash_init(&crash, &thin, seed);
    old = crash_create(&crash, 0, 0);
    crash_append(&crash, old, 17000);
    crash_fsync(&crash, old);
    crash_truncate(&crash, old, 9000);
    crash_sync_dir(&crash);
    new = crash_create(&crash, 1, 0);
    crash_append(&crash, new, 9000);
    crash_fsync(&crash, new);
    crash_close_file(&crash, old);
    crash_unlink(&crash, 0);
    crash_trim(&crash);
    crash_append(&crash, new, 9000);
    crash_fsync(&crash, new);
    crash_close(&crash);
    crash_check_all(&crash);
    crash_done(&crash);
}

int main(void)
{
    static const struct crash_config small = {.block_size = 1024, .page_size = 4096};
    static const struct crash_config same = {.block_size = 4096, .page_size = 4096};
    static const struct crash_case cases[] = {
        {"discards", &small, discards, 1},
        {"every_cut", &same, every_cut, 1},
    };

    return crash_main(cases, sizeof(cases) / sizeof(cases[0]));
}
