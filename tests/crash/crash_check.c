/* SPDX-License-Identifier: MIT */
/* crash_check.c - crash_check() of crash_util.h: opens what cuts leave, and holds it against the model. */
#include "crash_model.h"

#include "dev/device_io.h"

#include <holdfast/maintain.h>

#include <fcntl.h>
#include <holdfast/quota.h>

#define GROWTH 9000     /* bytes that each file gets at its end, to see that they are zeros */
#define SUBSET_WRITES 6 /* up to so many every subset is tried */

/* One image: everything that a message needs to say which. */
struct image {
    struct crash *crash;
    const struct model *model;
    struct hf_powercut_cut cut;
    struct hf_volume *volume;
    uint64_t found_blocks; /* of 512 bytes: sum of st_blocks */
    uint8_t *buf;
};

static const struct image *current; /* for crash_fail() */

void crash_fail(const char *file, int line, const char *cond, const char *format, ...)
{
    static const char *const orders[] = {"all", "none", "torn", "reorder", "subset"};
    const struct image *image = current;
    char text[256];
    va_list args;

    va_start(args, format);
    vsnprintf(text, sizeof(text), format, args);
    va_end(args);
    check_fail(file, line, cond, "%s [cut after %llu of %llu events, %s, seed %llu; B %u, P %u]", text,
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
        crash_that(bit != 0, "file %u of %lld bytes shows at %lld a foreign byte: %#x%s", nr, (long long)size,
                   (long long)at, value, value == CRASH_SOIL ? ", of a free block" : "");
        crash_that(bit & file->may[at], "file %u of %lld bytes, at %lld: bit %#x, may be %#x", nr,
                   (long long)size, (long long)at, bit, file->may[at]);
    }
}

static void file_check(struct image *image, const char *name, unsigned nr)
{
    struct hf_file *file;
    struct stat st;

    crash_that(hf_open(image->volume, name, O_RDWR, 0, &file) == 0, "file %u does not open", nr);
    assert_ok(hf_fstat(file, &st));
    image->found_blocks += (uint64_t)st.st_blocks;
    crash_that(model_size_ok(&image->model->files[nr], st.st_size),
               "file %u has %lld bytes; %u sizes are possible, the last is %lld", nr, (long long)st.st_size,
               image->model->files[nr].nr_sizes, (long long)image->model->files[nr].size);
    crash_that(hf_pread(file, image->buf, CRASH_FILE_MAX, 0) == st.st_size, "file %u is not read whole", nr);
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
        crash_that(image->buf[i] == 0, "file %u of %lld bytes grows over %#x at %lld", nr,
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
    crash_that(false, "%s is inode %llu, which never was", name, (unsigned long long)st.st_ino);
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
    crash_that(match, "the directory is as it never was from change %zu to %zu: %u %u %u %u %u %u",
               model->dir_low, model->dir_high, ret_dir[0], ret_dir[1], ret_dir[2], ret_dir[3], ret_dir[4],
               ret_dir[5]);
    assert_ok(hf_opendir(image->volume, "/", &dir));
    while (assert_ok(hf_readdir(dir, &entry)) == 1)
        entries += entry.name[0] == 'n';
    assert_ok(hf_closedir(dir));
    crash_that(entries == nr_names, "%u entries, but %u names", entries, nr_names);
}

static void space_check(const struct image *image)
{
    struct hf_quota_check quota;
    struct hf_statfs st;

    crash_that(hf_quota_check(image->volume, &quota) == 0, "quotas do not agree with a scan");

    assert_ok(hf_volume_statfs(image->volume, &st));
    crash_that(st.blocks_reserved == 0, "%llu blocks are reserved", (unsigned long long)st.blocks_reserved);
    crash_that((st.blocks - st.blocks_free) * (st.block_size / 512) == image->found_blocks,
               "%llu blocks are in use, but files have %llu sectors",
               (unsigned long long)(st.blocks - st.blocks_free), (unsigned long long)image->found_blocks);
}

static void problem_show(void *arg, const struct hf_check_problem *problem)
{
    (void)arg;
    print_error("check: %s: %s\n", problem->kind, problem->text);
}

/* What hf_check_device() finds; it reads only. */
static void device_check(struct hf_device *dev)
{
    const struct hf_check_options opts = {.report = problem_show};
    struct hf_check_result result = {0};
    int ret = hf_check_device(dev, &opts, &result);

    crash_that(ret == 0, "check: %s (%d)", hf_volume_error_text(), ret);
    crash_that(result.problems == 0 && !result.incomplete, "%llu problems",
               (unsigned long long)result.problems);
}

/* All that must hold of an image. dev is used up. */
static void image_check(struct image *image, struct hf_device *dev)
{
    struct hf_open_options opts = crash_options(image->crash);
    uint8_t dir[CRASH_NAMES];
    int ret;

    device_check(dev);
    ret = hf_volume_open_device(dev, &opts, &image->volume);
    crash_that(ret == 0, "open: %s (%d)", hf_volume_error_text(), ret);
    names_check(image, dir);
    for (unsigned name = 0; name < CRASH_NAMES; name++)
        if (dir[name])
            file_check(image, (char[]){'n', (char)('0' + name), 0}, dir[name] - 1u);
    if (image->crash->extra)
        image->found_blocks += image->crash->extra(image->crash, image->volume, image->cut.events);
    space_check(image);
    for (unsigned name = 0; name < CRASH_NAMES; name++)
        if (dir[name])
            growth_check(image, (char[]){'n', (char)('0' + name), 0}, dir[name] - 1u);
    ret = hf_volume_close(image->volume);
    crash_that(ret == 0, "close: %d", ret);
}

/* The power goes again while what the first cut left is opened and closed. */
static void second_cut(struct image *image, struct hf_device *dev)
{
    struct hf_open_options opts = crash_options(image->crash);
    struct hf_powercut_cut cut = {.order = HF_POWERCUT_REORDER, .seed = image->cut.seed};
    struct hf_powercut *record;
    struct hf_device *shim, *again;

    assert_ok(hf_device_powercut_new(dev, &shim, &record));
    crash_that(hf_volume_open_device(shim, &opts, &image->volume) == 0, "open: %s", hf_volume_error_text());
    assert_ok(hf_volume_close(image->volume));
    cut.events = image->cut.seed * 2654435761u % (hf_device_powercut_count(record) + 1);
    assert_ok(hf_device_powercut_image(record, &cut, &again));
    hf_device_powercut_free(record);
    image_check(image, again);
}

/* What images were looked at already. */
struct seen {
    uint64_t *keys;
    size_t nr, max;
};

static void image_begin(struct image *image, struct crash *crash)
{
    struct model *model = malloc(sizeof(*model));

    *image = (struct image){.crash = crash, .model = model, .buf = malloc(CRASH_FILE_MAX + GROWTH)};
    assert_non_null(model);
    assert_non_null(image->buf);
    current = image;
}

static void image_end(struct image *image)
{
    free(image->buf);
    free((void *)(uintptr_t)image->model);
}

static void cut_make(struct image *image, uint64_t events)
{
    image->cut.events = events;
    model_make((struct model *)(uintptr_t)image->model, image->crash, events);
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
    struct image image;

    image_begin(&image, crash);
    for (unsigned point = 0; point < nr_points; point++) {
        uint64_t low = count * point / nr_points, high = count * (point + 1) / nr_points;

        cut_make(&image, low + (high > low ? crash_random(crash, high - low) : 0));
        for (unsigned i = 0; i < nr_orders; i++) {
            image.cut.order = orders[i];
            image.cut.seed = point * nr_orders + i + crash_random(crash, 1 << 20);
            cut_check(&image, i == nr_orders - 1 && point % 4 == 0);
        }
    }
    image_end(&image);
}

/* ---- every cut */

static uint64_t hash_mix(uint64_t hash, uint64_t word)
{
    hash = (hash ^ word) * 0x9e3779b97f4a7c15u;
    return hash ^ hash >> 29;
}

static uint64_t device_hash(struct hf_device *dev)
{
    static uint64_t words[8192];
    uint64_t hash = 1;

    for (hf_off_t off = 0; off < dev->size_bytes; off += (hf_off_t)sizeof(words)) {
        assert_ok(hf_dev_read(dev, words, sizeof(words), off));
        for (size_t i = 0; i < sizeof(words) / sizeof(words[0]); i++)
            hash = hash_mix(hash, words[i]);
    }
    return hash;
}

/* What had begun and what had returned by then: the same for two cuts that promise the same. */
static uint64_t ops_hash(const struct crash *crash, uint64_t events)
{
    uint64_t hash = 2;

    for (size_t i = 0; i < crash->nr_ops; i++)
        hash = hash_mix(hash, (crash->ops[i].begin <= events) + 2u * (crash->ops[i].end <= events));
    return hash;
}

/* Looks at the image unless one with the same bytes and the same promises was looked at. */
static void cut_check_new(struct image *image, struct seen *seen, enum hf_powercut_order order, uint64_t seed)
{
    struct hf_device *dev;
    uint64_t key;

    image->cut.order = order;
    image->cut.seed = seed;
    assert_ok(hf_device_powercut_image(image->crash->record, &image->cut, &dev));
    key = device_hash(dev) ^ ops_hash(image->crash, image->cut.events);
    for (size_t i = 0; i < seen->nr; i++) {
        if (seen->keys[i] == key) {
            hf_dev_close(dev);
            return;
        }
    }
    if (seen->nr == seen->max) {
        seen->max = seen->max ? 2 * seen->max : 256;
        seen->keys = realloc(seen->keys, seen->max * sizeof(*seen->keys));
        assert_non_null(seen->keys);
    }
    seen->keys[seen->nr++] = key;
    image->found_blocks = 0;
    image_check(image, dev);
}

void crash_check_all(struct crash *crash)
{
    uint64_t count = hf_device_powercut_count(crash->record);
    struct seen seen = {0};
    struct image image;

    image_begin(&image, crash);
    for (uint64_t events = 0; events <= count; events++) {
        uint64_t open = hf_device_powercut_open(crash->record, events);
        bool ends = events == count || hf_device_powercut_open(crash->record, events + 1) <= open;

        cut_make(&image, events);
        cut_check_new(&image, &seen, HF_POWERCUT_ALL, 0);
        cut_check_new(&image, &seen, HF_POWERCUT_NONE, 0);
        for (uint64_t seed = 0; seed < 2; seed++)
            cut_check_new(&image, &seen, HF_POWERCUT_TORN, seed + 2 * events);
        /* A flush follows: what any order before it could leave is a subset of these writes. */
        for (uint64_t bits = 1; ends && open <= SUBSET_WRITES && bits < (1ull << open); bits++)
            cut_check_new(&image, &seen, HF_POWERCUT_SUBSET, bits);
        for (uint64_t seed = 0; ends && seed < 8; seed++)
            cut_check_new(&image, &seen, HF_POWERCUT_REORDER, seed + 8 * events);
    }
    if (getenv("CRASH_VERBOSE"))
        print_message("%zu images of %llu events\n", seen.nr, (unsigned long long)count);
    free(seen.keys);
    image_end(&image);
}

unsigned crash_points(unsigned wanted)
{
    const char *share = getenv("CRASH_SHARE"); /* per cent */
    unsigned points = share ? wanted * (unsigned)strtoul(share, NULL, 10) / 100 : wanted;

    return points ? points : 1;
}
