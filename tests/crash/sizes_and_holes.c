/* SPDX-License-Identifier: MIT */
/*
 * sizes_and_holes.c - files that shrink, grow, are punched and preallocated show no bytes of their
 * neighbours, nor their own from before.
 */
#include "crash_util.h"

#define FILES 3

static hf_off_t below(struct crash *crash, hf_off_t n)
{
    return (hf_off_t)crash_random(crash, (uint64_t)n);
}

static void step(struct crash *crash, const unsigned files[FILES])
{
    unsigned nr = files[crash_random(crash, FILES)];
    hf_off_t size = crash->files[nr].size, off = below(crash, CRASH_FILE_MAX - 9000);

    switch (crash_random(crash, 9)) {
    case 0:
        crash_truncate(crash, nr, below(crash, size + 1));
        break;
    case 1:
        crash_truncate(crash, nr, off);
        break;
    case 2:
        if (size > 1) {
            off = below(crash, size - 1);
            crash_punch(crash, nr, off, 1 + below(crash, size - off));
        }
        break;
    case 3:
        crash_preallocate(crash, nr, off, 1 + below(crash, 8000));
        break;
    case 4:
    case 5:
        crash_fsync(crash, nr);
        break;
    default:
        crash_write(crash, nr, off, 1 + below(crash, 8000));
        break;
    }
}

static void sizes(const struct crash_config *config, uint64_t seed)
{
    struct crash crash;
    unsigned files[FILES];

    crash_init(&crash, config, seed);
    for (unsigned i = 0; i < FILES; i++)
        files[i] = crash_create(&crash, i, 0);
    for (int i = 0; i < 90; i++)
        step(&crash, files);
    crash_close(&crash);
    crash_check(&crash, crash_points(40));
    crash_done(&crash);
}

int main(void)
{
    return crash_main_usual(sizes, 1);
}
