/* SPDX-License-Identifier: MIT */
/* crash_util.c - see crash_util.h: the volume, and what is noted of the work on it. */
#define _GNU_SOURCE
#include "crash_model.h"

#include "dev/device_io.h"
#include "fs/blockfs/format.h"

#include <fcntl.h>
#include <linux/falloc.h>
#include <sys/mman.h>

#define DEVICE_BYTES (2u << 20)
#define NEVER_MS (3600u * 1000u)
#define MAX_DIRS 512

/* ---- a device that takes its time to flush, so that threads have time to write meanwhile */

struct slow_device {
    struct hf_device base;
    struct hf_device *lower;
    unsigned flush_us;
};

static int slow_read(struct hf_device *dev, void *buf, size_t len, hf_off_t off)
{
    return hf_dev_read(((struct slow_device *)dev)->lower, buf, len, off);
}

static int slow_write(struct hf_device *dev, const void *buf, size_t len, hf_off_t off)
{
    return hf_dev_write(((struct slow_device *)dev)->lower, buf, len, off);
}

static int slow_flush(struct hf_device *dev)
{
    if (((struct slow_device *)dev)->flush_us)
        usleep(((struct slow_device *)dev)->flush_us);
    return hf_dev_flush(((struct slow_device *)dev)->lower);
}

static int slow_discard(struct hf_device *dev, hf_off_t off, hf_off_t len)
{
    return hf_dev_discard(((struct slow_device *)dev)->lower, off, len);
}

static void slow_close(struct hf_device *dev)
{
    hf_dev_close(((struct slow_device *)dev)->lower);
    free(dev);
}

static struct hf_device *slow_new(struct hf_device *lower, unsigned flush_us)
{
    static const struct hf_device_ops ops = {.read = slow_read,
                                             .write = slow_write,
                                             .flush = slow_flush,
                                             .discard = slow_discard,
                                             .close = slow_close};
    struct slow_device *slow = malloc(sizeof(*slow));

    assert_non_null(slow);
    *slow = (struct slow_device){.base = *lower, .lower = lower, .flush_us = flush_us};
    slow->base.ops = &ops;
    return &slow->base;
}

/* ---- the volume */

/* Fills the data region with bytes that look like somebody's secrets. */
static void soil(struct hf_device *dev)
{
    struct hf_blockfs_header header;
    char err[HF_BLOCKFS_ERR];
    char *buf;

    assert_ok(hf_blockfs_header_read(dev, false, &header, NULL, err));
    buf = malloc(header.data_len);
    assert_non_null(buf);
    memset(buf, CRASH_SOIL, header.data_len);
    assert_ok(hf_dev_write(dev, buf, header.data_len, (hf_off_t)header.data_off));
    free(buf);
}

struct hf_open_options crash_options(const struct crash *crash)
{
    return (struct hf_open_options){
        .flags = crash->config.discard ? HF_OPEN_DISCARD : 0,
        .page_size = crash->config.page_size,
        .isize_sync = crash->config.isize_sync,
        .writeback_ms = crash->config.writeback_ms ? crash->config.writeback_ms : NEVER_MS,
    };
}

void crash_init(struct crash *crash, const struct crash_config *config, uint64_t seed)
{
    struct hf_mkfs_options mkfs = {.block_size = config->block_size, .thin = config->discard};
    struct hf_open_options opts;
    struct hf_device *mem, *dev;
    const char *more = getenv("CRASH_SEED");
    char err[HF_BLOCKFS_ERR];
    int ret;

    *crash =
        (struct crash){.config = *config, .random = seed + (more ? strtoull(more, NULL, 10) * 1000003 : 0)};
    pthread_mutex_init(&crash->lock, NULL);
    crash->dirs = calloc(MAX_DIRS, sizeof(*crash->dirs));
    assert_non_null(crash->dirs);
    crash->nr_dirs = 1; /* empty */
    assert_ok(hf_device_mem_new(config->device_bytes ? config->device_bytes : DEVICE_BYTES, &mem));
    ret = hf_blockfs_mkfs(mem, &mkfs, err);
    assert_that(ret == 0, "mkfs: %s (%d)", err, ret);
    soil(mem);
    assert_ok(hf_device_powercut_new(slow_new(mem, config->flush_us), &dev, &crash->record));
    opts = crash_options(crash);
    ret = hf_volume_open_device(dev, &opts, &crash->volume);
    assert_that(ret == 0, "open: %s (%d)", hf_volume_error_text(), ret);
}

void crash_close(struct crash *crash)
{
    size_t op;

    for (unsigned nr = 0; nr < crash->nr_files; nr++)
        crash_close_file(crash, nr);
    op = crash_op_begin(crash, (struct crash_op){.kind = OP_SYNC});
    assert_ok(hf_volume_close(crash->volume));
    crash_op_end(crash, op);
    crash->volume = NULL;
}

void crash_done(struct crash *crash)
{
    hf_device_powercut_free(crash->record);
    free(crash->ops);
    free(crash->dirs);
    pthread_mutex_destroy(&crash->lock);
}

uint64_t crash_random(struct crash *crash, uint64_t n)
{
    crash->random = crash->random * 6364136223846793005u + 1442695040888963407u;
    return (crash->random >> 33) % n;
}

uint64_t crash_events(struct crash *crash)
{
    return hf_device_powercut_count(crash->record);
}

/* ---- the notes */

size_t crash_op_begin(struct crash *crash, struct crash_op op)
{
    size_t nr;

    op.begin = hf_device_powercut_count(crash->record);
    op.end = UINT64_MAX;
    pthread_mutex_lock(&crash->lock);
    if (crash->nr_ops == crash->max_ops) {
        crash->max_ops = crash->max_ops ? 2 * crash->max_ops : 256;
        crash->ops = realloc(crash->ops, crash->max_ops * sizeof(*crash->ops));
        assert_non_null(crash->ops);
    }
    nr = crash->nr_ops++;
    crash->ops[nr] = op;
    pthread_mutex_unlock(&crash->lock);
    return nr;
}

void crash_op_end(struct crash *crash, size_t nr)
{
    uint64_t end = hf_device_powercut_count(crash->record);

    pthread_mutex_lock(&crash->lock);
    crash->ops[nr].end = end;
    pthread_mutex_unlock(&crash->lock);
}

/* ---- the work */

static void name_text(unsigned name, char ret_text[8])
{
    snprintf(ret_text, 8, "n%u", name);
}

/* The directory is going to change so that this name shows that file (its number + 1). */
static size_t dir_change(struct crash *crash, struct crash_op op, unsigned name, uint8_t shown, int vanishes)
{
    uint8_t *dir = crash->dirs[crash->nr_dirs];

    assert_true(crash->nr_dirs < MAX_DIRS);
    memcpy(dir, crash->dirs[crash->nr_dirs - 1], CRASH_NAMES);
    dir[name] = shown;
    if (vanishes >= 0)
        dir[vanishes] = 0;
    op.kind = OP_DIR;
    op.dir = crash->nr_dirs++;
    return crash_op_begin(crash, op);
}

unsigned crash_create(struct crash *crash, unsigned name, int flags)
{
    unsigned nr = crash->nr_files++;
    struct crash_file *file = &crash->files[nr];
    char text[8];
    struct stat st;
    size_t op;

    assert_true(nr < CRASH_FILES);
    name_text(name, text);
    op = dir_change(crash, (struct crash_op){.file = nr, .creates = true}, name, (uint8_t)(nr + 1), -1);
    assert_ok(hf_open(crash->volume, text, O_RDWR | O_CREAT | O_EXCL | flags, 0600, &file->file));
    crash_op_end(crash, op);
    assert_ok(hf_fstat(file->file, &st));
    file->ino = st.st_ino;
    file->dsync = flags & O_DSYNC;
    return nr;
}

void crash_close_file(struct crash *crash, unsigned nr)
{
    struct crash_file *file = &crash->files[nr];

    if (file->map)
        assert_ok(hf_munmap(file->map, CRASH_FILE_MAX));
    if (file->file)
        assert_ok(hf_close(file->file));
    file->map = NULL;
    file->file = NULL;
}

static uint8_t *values(struct crash *crash, unsigned nr, hf_off_t len, uint8_t *ret_value)
{
    uint8_t value = (uint8_t)(1 + nr * CRASH_VALUES + crash->files[nr].written++ % CRASH_VALUES);
    uint8_t *buf = malloc((size_t)len);

    assert_non_null(buf);
    memset(buf, value, (size_t)len);
    *ret_value = value;
    return buf;
}

void crash_write(struct crash *crash, unsigned nr, hf_off_t off, hf_off_t len)
{
    struct crash_file *file = &crash->files[nr];
    struct crash_op op = {.kind = OP_WRITE, .file = nr, .off = off, .len = len, .confirms = file->dsync};
    uint8_t *buf = values(crash, nr, len, &op.value);
    size_t at;

    assert_true(off + len <= CRASH_FILE_MAX);
    at = crash_op_begin(crash, op);
    assert_count(hf_pwrite(file->file, buf, (size_t)len, off), len);
    crash_op_end(crash, at);
    free(buf);
    if (file->size < off + len)
        file->size = off + len;
}

void crash_append(struct crash *crash, unsigned nr, hf_off_t len)
{
    crash_write(crash, nr, crash->files[nr].size, len);
}

void crash_store(struct crash *crash, unsigned nr, hf_off_t off, hf_off_t len)
{
    struct crash_file *file = &crash->files[nr];
    struct crash_op op = {.kind = OP_WRITE, .file = nr, .off = off, .len = len};
    uint8_t *buf = values(crash, nr, len, &op.value);
    void *at = file->map;
    size_t note;

    assert_true(off + len <= file->size);
    if (!at)
        assert_ok(hf_mmap(file->file, NULL, CRASH_FILE_MAX, PROT_READ | PROT_WRITE, MAP_SHARED, 0, &at));
    file->map = at;
    note = crash_op_begin(crash, op);
    assert_ok(hf_store(file->map + off, buf, (size_t)len, NULL));
    crash_op_end(crash, note);
    free(buf);
}

void crash_truncate(struct crash *crash, unsigned nr, hf_off_t size)
{
    size_t op = crash_op_begin(crash, (struct crash_op){.kind = OP_TRUNCATE, .file = nr, .off = size});

    assert_true(size <= CRASH_FILE_MAX);
    assert_ok(hf_ftruncate(crash->files[nr].file, size));
    crash_op_end(crash, op);
    crash->files[nr].size = size;
}

void crash_punch(struct crash *crash, unsigned nr, hf_off_t off, hf_off_t len)
{
    size_t op =
        crash_op_begin(crash, (struct crash_op){.kind = OP_PUNCH, .file = nr, .off = off, .len = len});

    assert_ok(hf_fallocate(crash->files[nr].file, FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE, off, len));
    crash_op_end(crash, op);
}

/* Inside the size, or growing it with zeros. */
void crash_preallocate(struct crash *crash, unsigned nr, hf_off_t off, hf_off_t len)
{
    struct crash_file *file = &crash->files[nr];
    hf_off_t size = off + len > file->size ? off + len : file->size;
    size_t op = crash_op_begin(crash, (struct crash_op){.kind = OP_TRUNCATE, .file = nr, .off = size});

    assert_true(size <= CRASH_FILE_MAX);
    assert_ok(hf_fallocate(file->file, 0, off, len));
    crash_op_end(crash, op);
    file->size = size;
}

void crash_rename(struct crash *crash, unsigned from, unsigned to)
{
    uint8_t shown = crash->dirs[crash->nr_dirs - 1][from];
    char from_text[8], to_text[8];
    size_t op = dir_change(crash, (struct crash_op){0}, to, shown, (int)from);

    name_text(from, from_text);
    name_text(to, to_text);
    assert_ok(hf_rename(crash->volume, from_text, to_text, 0));
    crash_op_end(crash, op);
}

void crash_unlink(struct crash *crash, unsigned name)
{
    char text[8];
    size_t op = dir_change(crash, (struct crash_op){0}, name, 0, -1);

    name_text(name, text);
    assert_ok(hf_unlink(crash->volume, text));
    crash_op_end(crash, op);
}

/* ---- what confirms */

void crash_fsync(struct crash *crash, unsigned nr)
{
    size_t op =
        crash_op_begin(crash, (struct crash_op){.kind = OP_SYNC_FILE, .file = nr, .len = CRASH_FILE_MAX});

    assert_ok(hf_fsync(crash->files[nr].file));
    crash_op_end(crash, op);
}

void crash_fdatasync(struct crash *crash, unsigned nr)
{
    size_t op =
        crash_op_begin(crash, (struct crash_op){.kind = OP_SYNC_FILE, .file = nr, .len = CRASH_FILE_MAX});

    assert_ok(hf_fdatasync(crash->files[nr].file));
    crash_op_end(crash, op);
}

void crash_msync(struct crash *crash, unsigned nr, hf_off_t off, hf_off_t len)
{
    hf_off_t start = off / sysconf(_SC_PAGESIZE) * sysconf(_SC_PAGESIZE);
    size_t op = crash_op_begin(
        crash, (struct crash_op){.kind = OP_SYNC_FILE, .file = nr, .off = start, .len = off + len - start});

    assert_ok(hf_msync(crash->files[nr].map + start, (size_t)(off + len - start), MS_SYNC));
    crash_op_end(crash, op);
}

void crash_msync_async(struct crash *crash, unsigned nr)
{
    assert_ok(hf_msync(crash->files[nr].map, CRASH_FILE_MAX, MS_ASYNC));
}

void crash_sync_dir(struct crash *crash)
{
    size_t op = crash_op_begin(crash, (struct crash_op){.kind = OP_SYNC_DIR});
    struct hf_file *dir;

    assert_ok(hf_open(crash->volume, "/", O_RDONLY | O_DIRECTORY, 0, &dir));
    assert_ok(hf_fsync(dir));
    crash_op_end(crash, op);
    assert_ok(hf_close(dir));
}

void crash_sync(struct crash *crash)
{
    size_t op = crash_op_begin(crash, (struct crash_op){.kind = OP_SYNC});

    assert_ok(hf_volume_sync(crash->volume));
    crash_op_end(crash, op);
}

/* Confirms nothing, although it commits. */
void crash_trim(struct crash *crash)
{
    uint64_t bytes;

    assert_ok(hf_volume_trim(crash->volume, 0, &bytes));
}
