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

static void with_blocks_smaller_than_pages(void **state)
{
    (void)state;
    for (uint64_t seed = 1; seed <= 2; seed++)
        sizes(&(struct crash_config){.block_size = 1024, .page_size = 4096}, seed);
}

static void with_blocks_as_large_as_pages(void **state)
{
    (void)state;
    sizes(&(struct crash_config){.block_size = 4096, .page_size = 4096}, 3);
}

static void with_large_pages_and_the_hole_lock(void **state)
{
    (void)state;
    sizes(&(struct crash_config){.block_size = 512, .page_size = 16384, .isize_sync = HF_ISIZE_HOLE_LOCK}, 4);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(with_blocks_smaller_than_pages),
        cmocka_unit_test(with_blocks_as_large_as_pages),
        cmocka_unit_test(with_large_pages_and_the_hole_lock),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
