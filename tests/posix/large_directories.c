/* SPDX-License-Identifier: MIT */
/*
 * large_directories.c - a directory with many entries: made, read with cookies while others are removed,
 * looked up, removed. HF_TEST_ENTRIES sets how many (a soak takes 1000000).
 */
#define _GNU_SOURCE
#include "check.h"

#include <holdfast/holdfast.h>

#include <fcntl.h>
#include <sys/stat.h>

#define ENTRIES 20000ul
#define BYTES_AN_ENTRY 1024ul /* of metadata, generously */

static unsigned long nr_entries(void)
{
    const char *text = getenv("HF_TEST_ENTRIES");

    return text ? strtoul(text, NULL, 0) : ENTRIES;
}

static void name_of(char path[64], unsigned long i)
{
    snprintf(path, 64, "/d/entry-%lu", i);
}

/* Reads all, starting again from a cookie now and then; every 8th entry seen removes one that is odd. How
 * often each was seen is in seen[]. */
static void read_and_remove(struct hf_volume *volume, unsigned long nr, uint8_t *seen)
{
    struct hf_dirent entry;
    struct hf_dir *dir;
    unsigned long i, count = 0, victim = 1;
    char path[64];

    assert_ok(hf_opendir(volume, "/d", &dir));
    while (assert_ok(hf_readdir(dir, &entry)) == 1) {
        if (sscanf(entry.name, "entry-%lu", &i) != 1)
            continue;
        assert_true(i < nr);
        seen[i]++;
        if (++count % 8 == 0 && victim < nr) {
            name_of(path, victim);
            assert_ok(hf_unlink(volume, path));
            victim += 2;
        }
        if (count % 1000 == 0)
            hf_seekdir(dir, entry.cookie);
    }
    assert_ok(hf_closedir(dir));
    for (i = 0; i < nr; i++) /* what stayed is seen once; what went, at most once */
        assert_that(seen[i] == 1 || (seen[i] == 0 && i % 2 == 1 && i < victim), "entry %lu was read %u times",
                    i, seen[i]);
    for (i = 0; i < nr; i++) {
        struct stat st;
        bool gone = i % 2 == 1 && i < victim;

        name_of(path, i);
        assert_that(hf_stat(volume, path, &st) == (gone ? -ENOENT : 0), "entry %lu", i);
        if (!gone)
            assert_ok(hf_unlink(volume, path));
    }
}

static void many_entries(void **state)
{
    unsigned long nr = nr_entries();
    const struct hf_open_options opts = {.writeback_ms = 3600 * 1000};
    const struct hf_mkfs_options mo = {
        .size_bytes = nr * BYTES_AN_ENTRY * 2 + (64u << 20),
        .metadata_bytes = nr * BYTES_AN_ENTRY,
        .block_size = 4096,
        .thin = true,
        .force = true,
    };
    char volume_path[] = "/tmp/holdfast-entries-XXXXXX", path[64];
    uint8_t *seen = calloc(nr, 1);
    struct hf_volume *volume;
    struct hf_file *file;
    struct stat st;
    int fd = mkstemp(volume_path);

    (void)state;
    assert_true(fd >= 0 && seen != NULL);
    close(fd);
    assert_ok(hf_mkfs(volume_path, &mo));
    assert_ok(hf_volume_open(volume_path, &opts, &volume));
    unlink(volume_path);
    assert_ok(hf_mkdir(volume, "/d", 0755));
    for (unsigned long i = 0; i < nr; i++) {
        name_of(path, i);
        assert_ok(hf_open(volume, path, O_RDWR | O_CREAT | O_EXCL, 0600, &file));
        assert_ok(hf_close(file));
    }
    assert_err(hf_rmdir(volume, "/d"), ENOTEMPTY);
    read_and_remove(volume, nr, seen);
    assert_ok(hf_rmdir(volume, "/d"));
    assert_err(hf_stat(volume, "/d", &st), ENOENT);
    assert_ok(hf_volume_close(volume));
    free(seen);
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(many_entries)};

    return cmocka_run_group_tests(tests, NULL, NULL);
}
