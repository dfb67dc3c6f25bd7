/* SPDX-License-Identifier: MIT */
/*
 * killed_after_fsync.c - SIGKILL at any moment: every byte that fsync or msync returned for is there when
 * another process opens the volume, and the volume is whole.
 */
#include "mmap_test.h"

#include <sys/wait.h>

#define FILE_PAGES 16
#define ROUNDS 40

static struct hf_open_options options_from(char **argv)
{
    return (struct hf_open_options){.page_size = (uint32_t)strtoul(argv[1], NULL, 10)};
}

static void tell(uint32_t round)
{
    CHILD_CHECK(write(STDOUT_FILENO, &round, sizeof(round)) == sizeof(round));
}

/*
 * Round r stores r into page r % FILE_PAGES by mapping and r into its neighbour half a page on by pwrite,
 * syncs, and says so. argv: volume, page size, "fsync" or "msync". Goes on until it is killed.
 */
static int child_stores_until_killed(int argc, char **argv)
{
    struct hf_open_options opts = options_from(argv);
    size_t page = opts.page_size, len = FILE_PAGES * page;
    struct hf_volume *volume = NULL;
    struct hf_file *file = NULL;
    void *at = NULL;
    uint8_t *map;

    (void)argc;
    CHILD_CHECK(hf_volume_open(argv[0], &opts, &volume) == 0);
    CHILD_CHECK(hf_open(volume, "f", O_RDWR | O_CREAT, 0600, &file) == 0);
    CHILD_CHECK(hf_ftruncate(file, (hf_off_t)len) == 0);
    CHILD_CHECK(hf_mmap(file, NULL, len, PROT_READ | PROT_WRITE, MAP_SHARED, 0, &at) == 0);
    map = at;
    for (uint32_t round = 1;; round++) {
        uint8_t *mine = map + round % FILE_PAGES * page;

        memcpy(mine, &round, sizeof(round));
        CHILD_CHECK(hf_pwrite(file, &round, sizeof(round), (mine - map) + (hf_off_t)page / 2) ==
                    sizeof(round));
        if (strcmp(argv[2], "msync") == 0)
            CHILD_CHECK(hf_msync(mine, page, MS_SYNC) == 0);
        else
            CHILD_CHECK(hf_fsync(file) == 0);
        tell(round);
        /* Something unsynced, for the kill to catch. */
        map[(round + 5) % FILE_PAGES * page + 100] = (uint8_t)round;
    }
    return 0;
}

static const struct test_child children[] = {{"stores", child_stores_until_killed}};

/* Runs the child, kills it after it told of some rounds; returns the last one it told of. */
static uint32_t run_and_kill(struct target *t, const char *how, uint32_t rounds)
{
    char page[16];
    char *args[] = {t->path, page, (char *)how, NULL};
    int ends[2], saved = dup(STDOUT_FILENO);
    uint32_t round, last = 0;
    pid_t pid;

    snprintf(page, sizeof(page), "%u", t->page_size);
    assert_int_equal(pipe2(ends, O_CLOEXEC), 0);
    fflush(stdout);
    dup2(ends[1], STDOUT_FILENO);
    pid = exec_child("stores", args);
    dup2(saved, STDOUT_FILENO);
    close(saved);
    close(ends[1]);
    while (last < rounds && read(ends[0], &round, sizeof(round)) == sizeof(round))
        last = round;
    kill(pid, SIGKILL);
    expect_death_by(pid, SIGKILL);
    while (read(ends[0], &round, sizeof(round)) == sizeof(round))
        last = round;
    close(ends[0]);
    assert_true(last >= rounds);
    return last;
}

static void check_round(struct target *t, struct target_file *file, uint32_t round, uint32_t last)
{
    hf_off_t at = (hf_off_t)(round % FILE_PAGES) * t->page_size;
    uint32_t stored = 0, written = 0;

    assert_count(t_pread(file, &stored, sizeof(stored), at), sizeof(stored));
    assert_count(t_pread(file, &written, sizeof(written), at + t->page_size / 2), sizeof(written));
    /* The round after the last one told may have come so far, too. */
    assert_that(stored == round || stored == last + 1, "stored %u, wanted %u of %u", stored, round, last);
    assert_that(written == round || written == last + 1, "written %u, wanted %u of %u", written, round, last);
}

static void kill_and_check(struct target *t, const char *how)
{
    struct target_file file;
    uint32_t last;

    assert_ok(hf_volume_close(t->volume));
    t->volume = NULL;
    last = run_and_kill(t, how, ROUNDS);
    assert_ok(hf_volume_open(t->path, &t->spec->open, &t->volume));
    file = open_old(t, "f", O_RDWR);
    assert_count(stat_of(&file).st_size, FILE_PAGES * t->page_size);
    for (uint32_t round = last - FILE_PAGES + 1; round <= last; round++)
        check_round(t, &file, round, last);
    assert_count(target_statfs(t).blocks_reserved, 0);
    fill_range(&file, 0, 100, 'w');
    close_ok(&file);
}

static void after_fsync(struct target *t)
{
    kill_and_check(t, "fsync");
}

static void after_msync(struct target *t)
{
    kill_and_check(t, "msync");
}

/* Killed and opened again and again: no space is lost on the way. */
static void no_space_leaks_over_kills(struct target *t)
{
    uint64_t free_before = target_statfs(t).blocks_free;

    for (int i = 0; i < 3; i++) {
        kill_and_check(t, "fsync");
        assert_ok(t_unlink(t, "f"));
        assert_ok(hf_volume_sync(t->volume));
        assert_count(target_statfs(t).blocks_free, free_before);
    }
}

static const struct test_body bodies[] = {
    BODY(after_fsync, ON(TARGET_BLOCKFS)),
    BODY(after_msync, ON(TARGET_BLOCKFS)),
    BODY(no_space_leaks_over_kills, ON(TARGET_BLOCKFS)),
};

MMAP_TEST_MAIN_CHILDREN("killed_after_fsync", bodies, children)
