/* SPDX-License-Identifier: MIT */
/*
 * full_volume.c - on a volume without a free block everything new lands where something old was; the old file
 * is as it was, or gone, but never shows the new one's bytes.
 */
#define _GNU_SOURCE
#include "crash_util.h"

#include <fcntl.h>

#define LEFT 6 /* blocks that stay free */

/* "filler", which is not in the model, takes all but some blocks. */
static void fill(struct crash *crash)
{
    struct hf_statfs st;
    struct hf_file *file;

    assert_ok(hf_volume_statfs(crash->volume, &st));
    assert_ok(hf_open(crash->volume, "/filler", O_RDWR | O_CREAT, 0600, &file));
    assert_ok(
        hf_fallocate(file, FALLOC_FL_KEEP_SIZE, 0, (hf_off_t)((st.blocks_free - LEFT) * st.block_size)));
    crash_sync(crash);
    assert_ok(hf_close(file));
}

static uint64_t filler_sectors(struct crash *crash, struct hf_volume *volume, uint64_t events)
{
    struct stat st;
    int ret = hf_stat(volume, "/filler", &st);

    (void)crash;
    (void)events;
    crash_that(ret == 0 || ret == -ENOENT, "stat gives %d", ret);
    return ret == 0 ? (uint64_t)st.st_blocks : 0;
}

static void works_on_what_others_leave(const struct crash_config *config, uint64_t seed)
{
    const hf_off_t len = LEFT * config->block_size;
    unsigned nr[3];
    struct crash crash;

    crash_init(&crash, config, seed);
    crash.extra = filler_sectors;
    for (unsigned i = 0; i < 3; i++)
        nr[i] = crash_create(&crash, i, 0);
    fill(&crash);
    crash_append(&crash, nr[0], len);
    crash_fsync(&crash, nr[0]);
    for (unsigned i = 0; i < 6; i++) {
        unsigned old = nr[i % 3], new = nr[(i + 1) % 3];

        if (crash_random(&crash, 2))
            crash_truncate(&crash, old, 0);
        else
            crash_punch(&crash, old, 0, len);
        crash_write(&crash, new, 0, len);
        crash_fsync(&crash, new);
    }
    crash_check(&crash, crash_points(25));
    crash_close(&crash);
    crash_done(&crash);
}

int main(void)
{
    static const struct crash_config small = {.block_size = 1024, .page_size = 4096, .device_bytes = 1 << 20};
    static const struct crash_config same = {.block_size = 4096, .page_size = 4096, .device_bytes = 1 << 20};
    static const struct crash_case cases[] = {
        {"with_blocks_smaller_than_pages", &small, works_on_what_others_leave, 1},
        {"with_blocks_as_large_as_pages", &same, works_on_what_others_leave, 1},
    };

    return crash_main(cases, sizeof(cases) / sizeof(cases[0]));
}
