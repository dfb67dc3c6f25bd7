/* SPDX-License-Identifier: MIT */
/*
 * every_cut.c - short pieces of work, and the power goes after every single write: whole or torn, and between
 * two flushes with every subset of the writes that were on their way.
 */
#include "crash_util.h"

static struct crash_config small_device(const struct crash_config *config)
{
    struct crash_config small = *config;

    small.device_bytes = 1 << 20;
    return small;
}

static void begin(struct crash *crash, const struct crash_config *config, uint64_t seed)
{
    const struct crash_config small = small_device(config);

    crash_init(crash, &small, seed);
}

static void end(struct crash *crash)
{
    crash_close(crash);
    crash_check_all(crash);
    crash_done(crash);
}

/* An editor: a new file, fsync, rename over the old one. */
static void a_save(const struct crash_config *config, uint64_t seed)
{
    struct crash crash;
    unsigned nr;

    begin(&crash, config, seed);
    nr = crash_create(&crash, 0, 0);
    crash_append(&crash, nr, 3000);
    crash_fsync(&crash, nr);
    nr = crash_create(&crash, 1, 0);
    crash_append(&crash, nr, 5000);
    crash_fsync(&crash, nr);
    crash_rename(&crash, 1, 0);
    crash_sync_dir(&crash);
    end(&crash);
}

/* A log whose last block is written again and again. */
static void a_log(const struct crash_config *config, uint64_t seed)
{
    struct crash crash;
    unsigned nr;

    begin(&crash, config, seed);
    nr = crash_create(&crash, 0, 0);
    for (hf_off_t len = 700; len < 2300; len += 500) {
        crash_append(&crash, nr, len);
        crash_fdatasync(&crash, nr);
    }
    crash_write(&crash, nr, 100, 900); /* in place */
    crash_fdatasync(&crash, nr);
    end(&crash);
}

/* A mapped file that grows, is punched and cut under its mapping. */
static void a_mapped_file(const struct crash_config *config, uint64_t seed)
{
    struct crash crash;
    unsigned nr;

    begin(&crash, config, seed);
    nr = crash_create(&crash, 0, 0);
    crash_truncate(&crash, nr, 1500);
    crash_store(&crash, nr, 200, 1300);
    crash_msync(&crash, nr, 0, 1500);
    crash_truncate(&crash, nr, 9000); /* the straddling page is mapped writable */
    crash_store(&crash, nr, 1400, 6000);
    crash_fsync(&crash, nr);
    crash_punch(&crash, nr, 1000, 5000);
    crash_store(&crash, nr, 3000, 100);
    crash_truncate(&crash, nr, 3050);
    crash_fsync(&crash, nr);
    crash_truncate(&crash, nr, 6000);
    crash_fsync(&crash, nr);
    end(&crash);
}

/* Blocks that one file gives back and another gets. */
static void a_deleted_file(const struct crash_config *config, uint64_t seed)
{
    struct crash crash;
    unsigned old, new;

    begin(&crash, config, seed);
    old = crash_create(&crash, 0, 0);
    crash_append(&crash, old, 9000);
    crash_fsync(&crash, old);
    crash_unlink(&crash, 0);
    crash_append(&crash, old, 3000);
    crash_close_file(&crash, old);
    new = crash_create(&crash, 1, 0);
    crash_append(&crash, new, 9000);
    crash_fsync(&crash, new);
    end(&crash);
}

/* Data that is written before anybody has told its size, and another file's commit. */
static void a_file_written_early(const struct crash_config *config, uint64_t seed)
{
    struct crash crash;
    unsigned early, other;

    begin(&crash, config, seed);
    early = crash_create(&crash, 0, 0);
    other = crash_create(&crash, 1, 0);
    crash_fsync(&crash, early);
    crash_truncate(&crash, early, 9000);
    crash_preallocate(&crash, other, 0, 6000);
    crash_store(&crash, early, 2000, 7000);
    crash_msync_async(&crash, early);
    crash_fsync(&crash, other);
    crash_fsync(&crash, early);
    end(&crash);
}

int main(void)
{
    static const struct crash_config small = {.block_size = 1024, .page_size = 4096};
    static const struct crash_config same = {.block_size = 4096, .page_size = 4096};
    static const struct crash_case cases[] = {
        {"a_save_small_blocks", &small, a_save, 1},
        {"a_log_small_blocks", &small, a_log, 1},
        {"a_mapped_file_small_blocks", &small, a_mapped_file, 1},
        {"a_mapped_file", &same, a_mapped_file, 1},
        {"a_deleted_file_small_blocks", &small, a_deleted_file, 1},
        {"a_file_written_early_small_blocks", &small, a_file_written_early, 1},
        {"a_deleted_file", &same, a_deleted_file, 1},
    };

    return crash_main(cases, sizeof(cases) / sizeof(cases[0]));
}
