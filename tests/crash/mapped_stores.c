/* SPDX-License-Identifier: MIT */
/*
 * mapped_stores.c - what was stored to a mapping is there once msync or fsync returned for it.
 */
#include "crash_util.h"

#define FILES 3

static void step(struct crash *crash, const unsigned files[FILES])
{
    unsigned nr = files[crash_random(crash, FILES)];
    hf_off_t size = crash->files[nr].size, off = (hf_off_t)crash_random(crash, (uint64_t)size - 1);
    hf_off_t len = 1 + (hf_off_t)crash_random(crash, (uint64_t)(size - off < 5000 ? size - off : 5000));

    switch (crash_random(crash, 9)) {
    case 0: /* holes for stores to fill */
        if (size < CRASH_FILE_MAX - 9000)
            crash_truncate(crash, nr, size + 1 + (hf_off_t)crash_random(crash, 9000));
        break;
    case 1:
        if (crash->files[nr].map)
            crash_msync(crash, nr, off, len);
        break;
    case 2:
        if (crash->files[nr].map)
            crash_msync(crash, nr, 0, size);
        break;
    case 3:
        crash_fsync(crash, nr);
        break;
    case 4:
        if (crash->files[nr].map)
            crash_msync_async(crash, nr);
        break;
    default:
        crash_store(crash, nr, off, len);
        break;
    }
}

static void stores(const struct crash_config *config, uint64_t seed)
{
    struct crash crash;
    unsigned files[FILES];

    crash_init(&crash, config, seed);
    for (unsigned i = 0; i < FILES; i++) {
        files[i] = crash_create(&crash, i, 0);
        crash_truncate(&crash, files[i], 3000 + 4000 * (hf_off_t)i);
    }
    for (int i = 0; i < 90; i++)
        step(&crash, files);
    crash_check(&crash, crash_points(15)); /* with all still mapped */
    crash_close(&crash);
    crash_check(&crash, crash_points(25));
    crash_done(&crash);
}

int main(void)
{
    return crash_main_usual(stores, 1);
}
