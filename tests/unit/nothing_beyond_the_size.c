/* SPDX-License-Identifier: MIT */
/*
 * nothing_beyond_the_size.c - data is written (by msync(MS_ASYNC), or because too much is dirty) before the
 * driver has been told the size, another file's fsync commits, the power goes: when the file grows, none of
 * that data shows (HOLD-9); and what is preallocated beyond the size is still there.
 */
#include "wrapped_driver.h"

#define B 1024
#define BLOCKS 64
#define SIZE ((size_t)BLOCKS * B)

struct cut {
    struct wrapped w, later;
    struct hf_powercut *record;
};

static void cut_open(struct cut *c)
{
    struct hf_device *below;

    wrapped_blockfs(&c->w, 4 << 20, B);
    below = c->w.dev;
    assert_ok(hf_device_powercut_new(below, &c->w.dev, &c->record));
    wrapped_open(&c->w, NULL);
}

/* The power goes now; what has arrived without a flush is there, or is not. */
static void cut_image(struct cut *c, enum hf_powercut_order order)
{
    struct hf_powercut_cut cut = {.events = hf_device_powercut_count(c->record), .order = order};

    c->later = (struct wrapped){.driver = hf_blockfs_driver, .real = &hf_blockfs_driver};
    assert_ok(hf_device_powercut_image(c->record, &cut, &c->later.dev));
}

static void cut_done(struct cut *c)
{
    assert_ok(wrapped_close(&c->w));
    wrapped_free(&c->w);
    hf_device_powercut_free(c->record);
    wrapped_free(&c->later);
}

static uint8_t *map(struct hf_file *file)
{
    void *at;

    assert_ok(hf_mmap(file, NULL, SIZE, PROT_READ | PROT_WRITE, MAP_SHARED, 0, &at));
    return at;
}

static void sync_another(struct wrapped *w)
{
    struct hf_file *file = wrapped_file(w, "/other", 100);

    assert_ok(hf_fsync(file));
    assert_ok(hf_close(file));
}

/* `told` bytes are in the file when it is grown, and stay the last that fsync knows; blocks of the hole
 * between are stored to and written. */
static void written_but_not_told(hf_off_t told, bool kept, enum hf_powercut_order order)
{
    struct hf_file *file;
    struct cut c;
    struct stat st;
    uint8_t *at;

    cut_open(&c);
    file = wrapped_file(&c.w, "/f", told);
    at = map(file);
    if (told > 0)
        memset(at, 'a', (size_t)told);
    if (kept)
        assert_ok(hf_fallocate(file, FALLOC_FL_KEEP_SIZE, 0, SIZE));
    assert_ok(hf_fsync(file));
    assert_ok(hf_ftruncate(file, SIZE));
    memset(at + told, 'b', SIZE - (size_t)told);
    assert_ok(hf_msync(at, SIZE, MS_ASYNC));
    sync_another(&c.w);
    sync_another(&c.w);
    cut_image(&c, order);
    assert_ok(hf_munmap(at, SIZE));
    assert_ok(hf_close(file));

    wrapped_open(&c.later, NULL);
    assert_ok(hf_stat(c.later.volume, "/f", &st));
    assert_int_equal(st.st_size, told);
    if (kept)
        assert_int_equal(st.st_blocks, SIZE / 512);
    else /* HOLD-3 */
        assert_true(st.st_blocks <= (told + B - 1) / B * (B / 512));
    file = wrapped_file(&c.later, "/f", SIZE);
    at = map(file);
    assert_bytes(at, 'a', (size_t)told);
    assert_bytes(at + told, 0, SIZE - (size_t)told);
    assert_ok(hf_munmap(at, SIZE));
    assert_ok(hf_close(file));
    assert_ok(wrapped_close(&c.later));
    cut_done(&c);
}

static void data_beyond_the_size_does_not_show(void **state)
{
    (void)state;
    written_but_not_told(0, false, HF_POWERCUT_NONE);
    written_but_not_told(0, false, HF_POWERCUT_ALL);
    written_but_not_told(3 * B, false, HF_POWERCUT_NONE);
    written_but_not_told(5 * B + 100, false, HF_POWERCUT_ALL);
    written_but_not_told(5 * B + 100, true, HF_POWERCUT_NONE);
    written_but_not_told(0, true, HF_POWERCUT_ALL);
}

/* What waited for the size is stored with it. */
static void the_size_brings_the_data(void **state)
{
    struct hf_file *file;
    struct cut c;
    struct stat st;
    uint8_t *at;

    (void)state;
    cut_open(&c);
    file = wrapped_file(&c.w, "/f", SIZE);
    at = map(file);
    memset(at, 'b', SIZE);
    assert_ok(hf_msync(at, SIZE, MS_ASYNC));
    sync_another(&c.w);
    assert_ok(hf_fdatasync(file)); /* nothing is dirty any more, but the size is news */
    cut_image(&c, HF_POWERCUT_NONE);
    assert_ok(hf_munmap(at, SIZE));
    assert_ok(hf_close(file));

    wrapped_open(&c.later, NULL);
    assert_ok(hf_stat(c.later.volume, "/f", &st));
    assert_int_equal(st.st_size, SIZE);
    assert_int_equal(st.st_blocks, SIZE / 512);
    file = wrapped_file(&c.later, "/f", -1);
    at = map(file);
    assert_bytes(at, 'b', SIZE);
    assert_ok(hf_munmap(at, SIZE));
    assert_ok(hf_close(file));
    assert_ok(wrapped_close(&c.later));
    cut_done(&c);
}

/* ---- a commit that is divided */

#define FRAGMENTS 58000u
#define SMALL 512u
#define CUTS 6u

/* The size is some block's end; below it is data or, where it has not arrived, zeros; above it is nothing. */
static bool image_is_partly_there(struct hf_device *image, hf_off_t big)
{
    struct wrapped later = {.driver = hf_blockfs_driver, .real = &hf_blockfs_driver, .dev = image};
    struct hf_file *file;
    struct stat st;
    static char bytes[256 * SMALL];
    ssize_t n;

    wrapped_open(&later, NULL);
    assert_ok(hf_stat(later.volume, "/f", &st));
    assert_true(st.st_size <= big);
    file = wrapped_file(&later, "/f", big);
    n = hf_pread(file, bytes, sizeof(bytes), st.st_size);
    assert_ok(n);
    assert_bytes(bytes, 0, (size_t)n);
    assert_ok(hf_close(file));
    assert_ok(wrapped_close(&later));
    wrapped_free(&later);
    return st.st_size > 0 && st.st_size < big;
}

/* So many extents that one transaction cannot take them, cut all through the fsync. */
static void a_divided_commit_shows_nothing_beyond(void **state)
{
    const hf_off_t big = (hf_off_t)2 * FRAGMENTS * SMALL;
    char bytes[SMALL];
    struct hf_file *file;
    struct hf_device *below;
    uint64_t first, last;
    unsigned partly = 0;
    struct cut c;
    void *at;

    (void)state;
    wrapped_blockfs(&c.w, 40 << 20, SMALL);
    below = c.w.dev;
    assert_ok(hf_device_powercut_new(below, &c.w.dev, &c.record));
    wrapped_open(&c.w, NULL);
    file = wrapped_file(&c.w, "/f", 0);
    assert_ok(hf_fsync(file));
    memset(bytes, 'b', sizeof(bytes));
    for (hf_off_t off = SMALL; off < big; off += 2 * SMALL)
        assert_int_equal(hf_pwrite(file, bytes, SMALL, off), SMALL);
    assert_ok(hf_mmap(file, NULL, (size_t)big, PROT_READ, MAP_SHARED, 0, &at));
    assert_ok(
        hf_msync(at, (size_t)big, MS_ASYNC)); /* the data is written: what follows is the commit alone */
    assert_ok(hf_munmap(at, (size_t)big));
    first = hf_device_powercut_count(c.record);
    assert_ok(hf_fsync(file));
    last = hf_device_powercut_count(c.record);
    for (unsigned i = 0; i <= CUTS; i++) {
        struct hf_powercut_cut cut = {.events = first + (last - first) * i / CUTS, .order = HF_POWERCUT_NONE};
        struct hf_device *image;

        assert_ok(hf_device_powercut_image(c.record, &cut, &image));
        partly += image_is_partly_there(image, big);
    }
    assert_true(partly > 0); /* or the commit was not divided, and this test shows nothing */
    assert_ok(hf_close(file));
    assert_ok(wrapped_close(&c.w));
    wrapped_free(&c.w);
    hf_device_powercut_free(c.record);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(data_beyond_the_size_does_not_show),
        cmocka_unit_test(a_divided_commit_shows_nothing_beyond),
        cmocka_unit_test(the_size_brings_the_data),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
