/* SPDX-License-Identifier: MIT */
/*
 * preallocated_for_good.c - fallocate over blocks that hf_reserve() has promised: it uses up those promises
 * and no other space, it is there after a power cut, and when it is refused every promise is as it was.
 */
#include "wrapped_driver.h"

#define B 4096
#define BLOCKS 16
#define SIZE ((size_t)BLOCKS * B)

static struct hf_statfs statfs_of(struct wrapped *w)
{
    struct hf_statfs st;

    assert_ok(hf_volume_statfs(w->volume, &st));
    return st;
}

static uint8_t *map(struct hf_file *file)
{
    void *at;

    assert_ok(hf_mmap(file, NULL, SIZE, PROT_READ | PROT_WRITE, MAP_SHARED, 0, &at));
    return at;
}

static int store(uint8_t *at, uint8_t value)
{
    return hf_store(at, &value, 1, NULL);
}

static void both_drivers(void (*fn)(struct wrapped *w))
{
    struct wrapped w;

    wrapped_blockfs(&w, 4 << 20, B);
    wrapped_open(&w, NULL);
    fn(&w);
    wrapped_free(&w);
    wrapped_memfs(&w, 1 << 20, B);
    wrapped_open(&w, NULL);
    fn(&w);
    wrapped_free(&w);
}

/* 10 blocks are promised, 3 are free: a range that wants 3 more gets them. */
static void promises_are_used_up(struct wrapped *w)
{
    struct hf_file *file = wrapped_file(w, "/f", SIZE);
    uint8_t *at = map(file);
    struct stat st;

    assert_ok(hf_reserve(at + 2 * B, 10 * B));
    assert_ok(store(at + 3 * B, 'a')); /* promised and dirty */
    wrapped_fill_but(w, "/ballast", 3);
    assert_ok(hf_fallocate(file, 0, B, 12 * B + 100));
    assert_int_equal(statfs_of(w).blocks_free, 0);
    assert_int_equal(statfs_of(w).blocks_reserved, 0);
    assert_ok(hf_fstat(file, &st));
    assert_int_equal(st.st_blocks, 13 * (B / 512));
    for (int b = 1; b < 14; b++)
        assert_ok(store(at + b * B, 'b'));
    assert_err(store(at, 'x'), ENOSPC);
    assert_err(store(at + 14 * B, 'x'), ENOSPC);
    assert_ok(hf_fsync(file));
    assert_ok(hf_munmap(at, SIZE));
    assert_ok(hf_close(file));
    assert_ok(wrapped_close(w));
}

static void refused_changes_nothing(struct wrapped *w)
{
    struct hf_file *file = wrapped_file(w, "/f", SIZE);
    uint8_t *at = map(file);
    struct hf_statfs before, after;

    assert_ok(hf_reserve(at + 2 * B, 10 * B));
    assert_ok(store(at + 3 * B, 'a'));
    wrapped_fill_but(w, "/ballast", 3);
    before = statfs_of(w);
    assert_err(hf_fallocate(file, 0, 0, SIZE), ENOSPC); /* 6 more are wanted */
    after = statfs_of(w);
    assert_int_equal(after.blocks_free, before.blocks_free);
    assert_int_equal(after.blocks_reserved, before.blocks_reserved);
    assert_int_equal(after.blocks_reserved, 10);
    for (int b = 2; b < 12; b++)
        assert_ok(store(at + b * B, 'b'));
    assert_ok(hf_fsync(file));
    assert_ok(hf_munmap(at, SIZE));
    assert_ok(hf_close(file));
    assert_ok(wrapped_close(w));
}

/* The image is what a power cut right after fsync leaves.
 * `stored`: blocks that were written before the cut. */
static void cut_after_fsync(bool reserved, bool keep_size, int stored)
{
    struct hf_powercut *record;
    struct hf_powercut_cut cut = {.order = HF_POWERCUT_NONE};
    struct hf_device *below;
    struct wrapped w, later;
    struct hf_file *file;
    struct stat st;
    uint8_t *at;

    wrapped_blockfs(&w, 4 << 20, B);
    below = w.dev;
    assert_ok(hf_device_powercut_new(below, &w.dev, &record));
    wrapped_open(&w, NULL);
    file = wrapped_file(&w, "/f", keep_size ? 4 * B : SIZE);
    at = map(file);
    if (reserved)
        assert_ok(hf_reserve(at, keep_size ? 4 * B : SIZE));
    assert_ok(hf_fallocate(file, keep_size ? FALLOC_FL_KEEP_SIZE : 0, 0, SIZE));
    for (int b = 0; b < stored; b++)
        assert_ok(store(at + b * B, 'a'));
    assert_ok(hf_fsync(file));
    cut.events = hf_device_powercut_count(record);
    later = (struct wrapped){.driver = hf_blockfs_driver, .real = &hf_blockfs_driver};
    assert_ok(hf_device_powercut_image(record, &cut, &later.dev));
    assert_ok(hf_munmap(at, SIZE));
    assert_ok(hf_close(file));
    assert_ok(wrapped_close(&w));
    wrapped_free(&w);
    hf_device_powercut_free(record);

    wrapped_open(&later, NULL);
    assert_ok(hf_stat(later.volume, "/f", &st));
    assert_int_equal(st.st_blocks, BLOCKS * (B / 512));
    assert_int_equal(st.st_size, keep_size ? 4 * B : (off_t)SIZE);
    wrapped_fill_but(&later, "/ballast", 0);
    file = wrapped_file(&later, "/f", SIZE);
    at = map(file);
    for (int b = 0; b < BLOCKS; b++) {
        assert_int_equal(at[b * B], b < stored ? 'a' : 0);
        assert_ok(store(at + b * B, 'b'));
    }
    assert_ok(hf_fsync(file));
    assert_ok(hf_munmap(at, SIZE));
    assert_ok(hf_close(file));
    assert_ok(wrapped_close(&later));
    wrapped_free(&later);
}

static void they_are_used_up(void **state)
{
    (void)state;
    both_drivers(promises_are_used_up);
}

static void a_refusal_changes_nothing(void **state)
{
    (void)state;
    both_drivers(refused_changes_nothing);
}

static void there_after_a_power_cut(void **state)
{
    (void)state;
    for (int i = 0; i < 8; i++)
        cut_after_fsync(i & 1, i & 2, i & 4 ? 3 : 0);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(they_are_used_up),
        cmocka_unit_test(a_refusal_changes_nothing),
        cmocka_unit_test(there_after_a_power_cut),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
