/* SPDX-License-Identifier: MIT */
/*
 * busy_files.c - hf_volume_each_file(): what each file in memory has and has counted, and where it was seen.
 */
#include "check.h"

#include <fcntl.h>
#include <holdfast/stats.h>
#include <stdio.h>
#include <string.h>
#include <sys/mman.h>

#ifndef RENAME_EXCHANGE
#define RENAME_EXCHANGE (1 << 1)
#endif

#define P 4096u

static struct hf_volume *volume;

static int start(void **state)
{
    const struct hf_open_options options = {.page_size = P, .writeback_ms = 3600 * 1000};

    (void)state;
    return hf_volume_open("mem:8M", &options, &volume);
}

static int stop(void **state)
{
    (void)state;
    return hf_volume_close(volume);
}

struct search {
    uint64_t ino;
    struct hf_file_stats *found;
    unsigned times;
};

static int look_at(const struct hf_file_stats *file, void *arg)
{
    struct search *search = arg;

    if (file->ino == search->ino) {
        *search->found = *file;
        search->times++;
    }
    return 0;
}

static struct hf_file_stats stats_of(struct hf_file *file)
{
    struct hf_file_stats stats = {0};
    struct search search = {.found = &stats};
    struct stat st;

    assert_ok(hf_fstat(file, &st));
    search.ino = st.st_ino;
    assert_ok(hf_volume_each_file(volume, look_at, &search));
    assert_count(search.times, 1);
    return stats;
}

static struct hf_file *new_file(const char *path, hf_off_t size)
{
    struct hf_file *file;

    assert_ok(hf_open(volume, path, O_RDWR | O_CREAT | O_EXCL, 0600, &file));
    assert_int_equal(hf_pwrite(file, "x", 1, size - 1), 1); /* has a page in memory */
    return file;
}

static void expect_path(struct hf_file *file, const char *path)
{
    assert_string_equal(stats_of(file).path, path);
}

static void counters(void **state)
{
    struct hf_file *busy = new_file("/busy", 8 * P), *idle = new_file("/idle", P);
    struct hf_file_stats before, after;
    volatile char *map, *again;
    void *addr;

    (void)state;
    assert_ok(hf_mmap(busy, NULL, 8 * P, PROT_READ | PROT_WRITE, MAP_SHARED, 0, &addr));
    map = addr;
    assert_ok(hf_mmap(busy, NULL, 8 * P, PROT_READ, MAP_SHARED, 0, &addr));
    again = addr;
    assert_ok(hf_fsync(busy));
    before = stats_of(busy);
    assert_count(before.size, 8 * P);
    assert_count(before.cached_pages, 1);
    assert_count(before.dirty_pages, 0);
    assert_count(before.blocks_reserved, 0);
    assert_count(before.mappings, 2);
    assert_count(before.opens, 1);
    assert_count(before.faults_load + before.faults_store, 0);
    map[6 * P] = 1; /* downwards: no windows */
    map[4 * P] = 1;
    (void)again[2 * P];
    after = stats_of(busy);
    assert_count(after.cached_pages, 4);
    assert_count(after.dirty_pages, 2);
    assert_count(after.blocks_reserved, 2);
    assert_count(after.mkwrites, 2);
    assert_true(after.faults_load >= 1 && after.faults_store >= 2);
    assert_count(after.faults_refused, 0);
    assert_count(stats_of(idle).faults_load + stats_of(idle).faults_store + stats_of(idle).mappings, 0);
    assert_ok(hf_close(busy));
    assert_ok(hf_munmap((void *)(uintptr_t)again, 8 * P));
    assert_ok(hf_munmap((void *)(uintptr_t)map, 8 * P));
    assert_ok(hf_close(idle));
}

static void where_it_was_seen(void **state)
{
    char name[HF_NAME_MAX + 2] = "/", cut[64] = "/";
    struct hf_file *file, *other, *longer;

    (void)state;
    assert_ok(hf_mkdir(volume, "/dir", 0700));
    assert_ok(hf_mkdir(volume, "/dir/below", 0700));
    file = new_file("/dir/below/file", 1);
    other = new_file("/other", 1);
    expect_path(file, "/dir/below/file");
    assert_ok(hf_rename(volume, "/dir/below", "/moved", 0));
    expect_path(file, "/moved/file");
    assert_ok(hf_rename(volume, "/moved/file", "/other", RENAME_EXCHANGE));
    expect_path(file, "/other");
    expect_path(other, "/moved/file");
    assert_ok(hf_rename(volume, "/moved/file", "/other", 0)); /* replaces */
    expect_path(file, "");
    expect_path(other, "/other");
    assert_ok(hf_link(volume, "/other", "/second"));
    expect_path(other, "/second");
    assert_ok(hf_unlink(volume, "/second"));
    expect_path(other, "");
    assert_ok(hf_close(file));
    assert_ok(hf_open(volume, "/moved/../other", O_RDONLY, 0, &file));
    expect_path(file, "/other");
    memset(name + 1, 'n', HF_NAME_MAX);
    memset(cut + 1, 'n', 47);
    longer = new_file(name, 1);
    expect_path(longer, cut);
    assert_ok(hf_close(longer));
    assert_ok(hf_close(file));
    assert_ok(hf_close(other));
}

/* A path too long for its place shows its end. */
static void far_down(void **state)
{
    char path[1200] = "";
    struct hf_file_stats stats;
    struct hf_file *file;

    (void)state;
    for (int i = 0; i < 30; i++) {
        size_t len = strlen(path);

        snprintf(path + len, sizeof(path) - len, "/directory-of-some-%d", i);
        assert_ok(hf_mkdir(volume, path, 0700));
    }
    strcat(path, "/file");
    file = new_file(path, 1);
    stats = stats_of(file);
    assert_non_null(strstr(stats.path, "?/directory-of-some-"));
    assert_non_null(strstr(stats.path, "/directory-of-some-28/directory-of-some-29/file"));
    assert_true(strlen(stats.path) < sizeof(stats.path));
    assert_ok(hf_close(file));
}

static int stop_at_once(const struct hf_file_stats *file, void *arg)
{
    (void)file;
    ++*(int *)arg;
    return -7;
}

static void ends_when_told(void **state)
{
    struct hf_file *one = new_file("/one", 1), *two = new_file("/two", 1);
    int calls = 0;

    (void)state;
    assert_int_equal(hf_volume_each_file(volume, stop_at_once, &calls), -7);
    assert_int_equal(calls, 1);
    assert_err(hf_volume_each_file(volume, NULL, NULL), EINVAL);
    assert_err(hf_volume_each_file(NULL, stop_at_once, &calls), EINVAL);
    assert_ok(hf_close(one));
    assert_ok(hf_close(two));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(counters, start, stop),
        cmocka_unit_test_setup_teardown(where_it_was_seen, start, stop),
        cmocka_unit_test_setup_teardown(far_down, start, stop),
        cmocka_unit_test_setup_teardown(ends_when_told, start, stop),
    };

    return cmocka_run_group_tests_name("busy_files", tests, NULL, NULL);
}
