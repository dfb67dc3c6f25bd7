/* SPDX-License-Identifier: MIT */
/* crash_check.c - crash_check() of crash_util.h: opens what cuts leave, and holds it against the model. */
#include "crash_model.h"

#include <holdfast/maintain.h>

#include <fcntl.h>

#define GROWTH 9000 /* bytes that each file gets at its end, to see that they are zeros */

/* One image: everything that a message needs to say which. */
struct image {
    const struct crash *crash;
    const struct model *model;
    struct hf_powercut_cut cut;
    struct hf_volume *volume;
    uint64_t found_blocks; /* of 512 bytes: sum of st_blocks */
    uint8_t *buf;
};

#define image_that(image, cond, ...) ((cond) ? (void)0 : image_fail(image, __LINE__, #cond, __VA_ARGS__))

__attribute__((format(printf, 4, 5))) static void image_fail(const struct image *image, int line,
                                                             const char *cond, const char *format, ...)
{
    static const char *const orders[] = {"all", "none", "torn", "reorder"};
    char text[256];
    va_list args;

    va_start(args, format);
    vsnprintf(text, sizeof(text), format, args);
    va_end(args);
    check_fail(__FILE__, line, cond, "%s [cut after %llu of %llu events, %s, seed %llu; B %u, P %u]", text,
               (unsigned long long)image->cut.events,
               (unsigned long long)hf_device_powercut_count(image->crash->record), orders[image->cut.order],
               (unsigned long long)image->cut.seed, image->crash->config.block_size,
               image->crash->config.page_size);
}

static void bytes_check(const struct image *image, unsigned nr, hf_off_t size)
{
    const struct model_file *file = &image->model->files[nr];

    for (hf_off_t at = 0; at < size; at++) {
        uint8_t value = image->buf[at], bit = model_bit(nr, value);

        if (bit & file->may[at])
            continue;
        image_that(image, bit != 0, "file %u of %lld bytes shows at %lld a foreign byte: %#x%s", nr,
                   (long long)size, (long long)at, value, value == CRASH_SOIL ? ", of a free block" : "");
        image_that(image, bit & file->may[at], "file %u of %lld bytes, at %lld: bit %#x, may be %#x", nr,
                   (long long)size, (long long)at, bit, file->may[at]);
    }
}

static void file_check(struct image *image, const char *name, unsigned nr)
{
    struct hf_file *file;
    struct stat st;

    image_that(image, hf_open(image->volume, name, O_RDWR, 0, &file) == 0, "file %u does not open", nr);
    assert_ok(hf_fstat(file, &st));
    image->found_blocks += (uint64_t)st.st_blocks;
    image_that(image, model_size_ok(&image->model->files[nr], st.st_size),
               "file %u has %lld bytes; %u sizes are possible, the last is %lld", nr, (long long)st.st_size,
               image->model->files[nr].nr_sizes, (long long)image->model->files[nr].size);
    image_that(image, hf_pread(file, image->buf, CRASH_FILE_MAX, 0) == st.st_size,
               "file %u is not read whole", nr);
    bytes_check(image, nr, st.st_size);
    assert_ok(hf_close(file));
}

/* HOLD-9: what lies behind the end on the device does not show when the file grows. */
static void growth_check(struct image *image, const char *name, unsigned nr)
{
    struct hf_file *file;
    struct stat st;

    assert_ok(hf_open(image->volume, name, O_RDWR, 0, &file));
    assert_ok(hf_fstat(file, &st));
    assert_ok(hf_ftruncate(file, st.st_size + GROWTH));
    assert_count(hf_pread(file, image->buf, GROWTH, st.st_size), GROWTH);
    for (int i = 0; i < GROWTH; i++)
        image_that(image, image->buf[i] == 0, "file %u of %lld bytes grows over %#x at %lld", nr,
                   (long long)st.st_size, image->buf[i], (long long)st.st_size + i);
    assert_ok(hf_close(file));
}

/* The number of a file + 1; 0: there is no such name. */
static uint8_t name_find(const struct image *image, const char *name)
{
    struct stat st;
    int ret = hf_stat(image->volume, name, &st);

    if (ret == -ENOENT)
        return 0;
    assert_ok(ret);
    for (unsigned nr = 0; nr < image->crash->nr_files; nr++)
        if (image->crash->files[nr].ino == st.st_ino)
            return (uint8_t)(nr + 1);
    image_that(image, false, "%s is inode %llu, which never was", name, (unsigned long long)st.st_ino);
    return 0;
}

static void names_check(const struct image *image, uint8_t ret_dir[CRASH_NAMES])
{
    const struct model *model = image->model;
    unsigned nr_names = 0, entries = 0;
    struct hf_dirent entry;
    struct hf_dir *dir;
    bool match = false;

    for (unsigned name = 0; name < CRASH_NAMES; name++) {
        ret_dir[name] = name_find(image, (char[]){'n', (char)('0' + name), 0});
        nr_names += ret_dir[name] != 0;
    }
    for (size_t i = model->dir_low; i <= model->dir_high && !match; i++)
        match = memcmp(ret_dir, image->crash->dirs[i], CRASH_NAMES) == 0;
    image_that(image, match, "the directory is as it never was from change %zu to %zu: %u %u %u %u %u %u",
               model->dir_low, model->dir_high, ret_dir[0], ret_dir[1], ret_dir[2], ret_dir[3], ret_dir[4],
               ret_dir[5]);
    assert_ok(hf_opendir(image->volume, "/", &dir));
    while (assert_ok(hf_readdir(dir, &entry)) == 1)
        entries++;
    assert_ok(hf_closedir(dir));
    image_that(image, entries == nr_names + 2, "%u entries, but %u names", entries, nr_names);
}

static void space_check(const struct image *image)
{
    struct hf_statfs st;

    assert_ok(hf_volume_statfs(image->volume, &st));
    image_that(image, st.blocks_reserved == 0, "%llu blocks are reserved",
               (unsigned long long)st.blocks_reserved);
    image_that(image, (st.blocks - st.blocks_free) * (st.block_size / 512) == image->found_blocks,
               "%llu blocks are in use, but files have %llu sectors",
               (unsigned long long)(st.blocks - st.blocks_free), (unsigned long long)image->found_blocks);
}

static void problem_fail(void *arg, const struct hf_check_problem *problem)
{
    const struct image *image = arg;

    image_that(image, problem == NULL, "the checker says: %s", problem->text);
}

/* The checker finds nothing, whatever the moment of the cut. */
static void whole_check(struct image *image, struct hf_device *dev)
{
    struct hf_check_options opts = {.report = problem_fail, .arg = image};
    int ret = hf_check_device(dev, &opts, NULL);

    image_that(image, ret == 0, "check: %s (%d)", hf_volume_error_text(), ret);
}

/* All that must hold of an image. dev is used up. */
static void image_check(struct image *image, struct hf_device *dev)
{
    struct hf_open_options opts = crash_options(image->crash);
    uint8_t dir[CRASH_NAMES];
    int ret;

    whole_check(image, dev);
    ret = hf_volume_open_device(dev, &opts, &image->volume);
    image_that(image, ret == 0, "open: %s (%d)", hf_volume_error_text(), ret);
    names_check(image, dir);
    for (unsigned name = 0; name < CRASH_NAMES; name++)
        if (dir[name])
            file_check(image, (char[]){'n', (char)('0' + name), 0}, dir[name] - 1u);
    space_check(image);
    for (unsigned name = 0; name < CRASH_NAMES; name++)
        if (dir[name])
            growth_check(image, (char[]){'n', (char)('0' + name), 0}, dir[name] - 1u);
    ret = hf_volume_close(image->volume);
    image_that(image, ret == 0, "close: %d", ret);
}

/* The power goes again while what the first cut left is opened and closed. */
static void second_cut(struct image *image, struct hf_device *dev)
{
    struct hf_open_options opts = crash_options(image->crash);
    struct hf_powercut_cut cut = {.order = HF_POWERCUT_REORDER, .seed = image->cut.seed};
    struct hf_powercut *record;
    struct hf_device *shim, *again;

    assert_ok(hf_device_powercut_new(dev, &shim, &record));
    image_that(image, hf_volume_open_device(shim, &opts, &image->volume) == 0, "open: %s",
               hf_volume_error_text());
    assert_ok(hf_volume_close(image->volume));
    cut.events = image->cut.seed * 2654435761u % (hf_device_powercut_count(record) + 1);
    assert_ok(hf_device_powercut_image(record, &cut, &again));
    hf_device_powercut_free(record);
    image_check(image, again);
}

static void cut_check(struct image *image, bool twice)
{
    struct hf_device *dev;

    assert_ok(hf_device_powercut_image(image->crash->record, &image->cut, &dev));
    image->found_blocks = 0;
    if (twice)
        second_cut(image, dev);
    else
        image_check(image, dev);
}

void crash_check(struct crash *crash, unsigned nr_points)
{
    static const enum hf_powercut_order orders[] = {HF_POWERCUT_ALL,     HF_POWERCUT_NONE,
                                                    HF_POWERCUT_TORN,    HF_POWERCUT_REORDER,
                                                    HF_POWERCUT_REORDER, HF_POWERCUT_REORDER};
    const unsigned nr_orders = sizeof(orders) / sizeof(orders[0]);
    uint64_t count = hf_device_powercut_count(crash->record) + 1;
    struct model *model = malloc(sizeof(*model));
    struct image image = {.crash = crash, .model = model, .buf = malloc(CRASH_FILE_MAX + GROWTH)};

    assert_non_null(model);
    assert_non_null(image.buf);
    for (unsigned point = 0; point < nr_points; point++) {
        uint64_t low = count * point / nr_points, high = count * (point + 1) / nr_points;

        image.cut.events = low + (high > low ? crash_random(crash, high - low) : 0);
        model_make(model, crash, image.cut.events);
        for (unsigned i = 0; i < nr_orders; i++) {
            image.cut.order = orders[i];
            image.cut.seed = point * nr_orders + i + crash_random(crash, 1 << 20);
            cut_check(&image, i == nr_orders - 1 && point % 4 == 0);
        }
    }
    free(image.buf);
    free(model);
}

unsigned crash_points(unsigned wanted)
{
    const char *share = getenv("CRASH_SHARE"); /* per cent */
    unsigned points = share ? wanted * (unsigned)strtoul(share, NULL, 10) / 100 : wanted;

    return points ? points : 1;
}
