/* SPDX-License-Identifier: MIT */
/*
 * read_write_offsets.c - bytes, counts and positions of read, write, pread, pwrite and lseek.
 */
#include "target.h"

#include <pthread.h>
#include <sys/vfs.h>

#define EXT4_MAGIC 0xEF53

static void counts_at_the_end(struct target *t)
{
    struct target_file file = open_new(t, "f");
    char buf[64];

    assert_count(t_pread(&file, buf, sizeof(buf), 0), 0);
    fill_range(&file, 0, 10, 'a');
    assert_count(t_pread(&file, buf, sizeof(buf), 0), 10);
    assert_count(t_pread(&file, buf, sizeof(buf), 7), 3);
    assert_count(t_pread(&file, buf, sizeof(buf), 10), 0);
    assert_count(t_pread(&file, buf, sizeof(buf), 1 << 20), 0);
    assert_count(t_pread(&file, buf, 0, 0), 0);
    assert_count(t_pwrite(&file, buf, 0, 5000), 0);
    assert_count(stat_of(&file).st_size, 10);
    close_ok(&file);
}

static void holes_read_zero(struct target *t)
{
    struct target_file file = open_new(t, "f");

    fill_range(&file, 3 * UNIT + 17, 100, 'h');
    assert_count(stat_of(&file).st_size, 3 * UNIT + 117);
    expect_range(&file, 0, 3 * UNIT + 17, 0);
    expect_range(&file, 3 * UNIT + 17, 100, 'h');
    fill_range(&file, 1, 1, '1');
    expect_range(&file, 0, 1, 0);
    expect_range(&file, 1, 1, '1');
    expect_range(&file, 2, 3 * UNIT, 0);
    close_ok(&file);
}

static void unaligned_overwrites(struct target *t)
{
    static const struct {
        hf_off_t off;
        size_t len;
    } writes[] = {{0, 70000}, {511, 2}, {4095, 2}, {1023, 1026}, {65535, 2}, {69999, 5}, {12345, 54321}};
    struct target_file file = open_new(t, "f");
    uint8_t *shadow = calloc(1, 80000), *got = calloc(1, 80000);
    hf_off_t size = 0;

    assert_non_null(shadow);
    assert_non_null(got);
    for (size_t i = 0; i < ARRAY_LEN(writes); i++) {
        hf_off_t end = writes[i].off + (hf_off_t)writes[i].len;

        fill_range(&file, writes[i].off, writes[i].len, (uint8_t)('A' + i));
        memset(shadow + writes[i].off, (int)('A' + i), writes[i].len);
        if (end > size)
            size = end;
        if (i % 2)
            assert_ok(t_fsync(&file));
        assert_count(t_pread(&file, got, 80000, 0), size);
        assert_memory_equal(got, shadow, (size_t)size);
    }
    free(shadow);
    free(got);
    close_ok(&file);
}

static void positions(struct target *t)
{
    struct target_file file = open_new(t, "f"), other;
    char buf[16] = {0};

    assert_count(t_lseek(&file, 0, SEEK_CUR), 0);
    assert_count(t_write(&file, "hello", 5), 5);
    assert_count(t_lseek(&file, 0, SEEK_CUR), 5);
    assert_count(t_read(&file, buf, 4), 0);
    assert_count(t_lseek(&file, -4, SEEK_CUR), 1);
    assert_count(t_read(&file, buf, 2), 2);
    assert_memory_equal(buf, "el", 2);
    assert_count(t_pread(&file, buf, 1, 0), 1);
    assert_count(t_pwrite(&file, "J", 1, 0), 1);
    assert_count(t_lseek(&file, 0, SEEK_CUR), 3);
    assert_count(t_lseek(&file, 10, SEEK_END), 15);
    assert_count(t_read(&file, buf, 2), 0);
    assert_count(stat_of(&file).st_size, 5);
    assert_count(t_write(&file, "!", 1), 1);
    assert_count(stat_of(&file).st_size, 16);
    expect_range(&file, 5, 10, 0);
    other = open_old(t, "f", O_RDONLY);
    assert_count(t_lseek(&other, 0, SEEK_CUR), 0);
    close_ok(&other);
    close_ok(&file);
}

static void bad_positions(struct target *t)
{
    struct target_file file = open_new(t, "f");
    char buf[4];

    fill_range(&file, 0, 10, 'a');
    assert_count(t_lseek(&file, 3, SEEK_SET), 3);
    assert_err(t_lseek(&file, -1, SEEK_SET), EINVAL);
    assert_err(t_lseek(&file, -4, SEEK_CUR), EINVAL);
    assert_err(t_lseek(&file, -11, SEEK_END), EINVAL);
    assert_err(t_lseek(&file, 0, 77), EINVAL);
    assert_count(t_lseek(&file, 0, SEEK_CUR), 3);
    assert_err(t_pread(&file, buf, 1, -1), EINVAL);
    assert_err(t_pwrite(&file, buf, 1, -1), EINVAL);
    assert_err(t_ftruncate(&file, -1), EINVAL);
    assert_err(t_truncate(t, "f", -1), EINVAL);
    close_ok(&file);
}

/* The kernel's answers come from ext4, whose limit is known; tmpfs takes every offset. */
static hf_off_t size_limit(struct target *t)
{
    struct statfs fs;

    if (!target_is_host(t))
        return HF_FILE_SIZE_MAX;
    if (statfs(t->path, &fs) == 0 && fs.f_type == EXT4_MAGIC && fs.f_bsize == 4096)
        return ((hf_off_t)1 << 44) - 4096;
    return 0;
}

static void too_far(struct target *t)
{
    struct target_file file = open_new(t, "f");
    hf_off_t limit = size_limit(t);
    char buf[100] = {0};

    if (limit == 0) {
        close_ok(&file);
        skip();
    }
    assert_err(t_ftruncate(&file, limit + 1), EFBIG);
    assert_err(t_truncate(t, "f", INT64_MAX), EFBIG);
    assert_err(t_pwrite(&file, buf, 10, limit), EFBIG);
    assert_err(t_pwrite(&file, buf, 10, limit + 5), EFBIG);
    assert_count(stat_of(&file).st_size, 0);
    assert_count(t_pwrite(&file, buf, 100, limit - 10), 10);
    assert_count(stat_of(&file).st_size, limit);
    assert_count(t_pread(&file, buf, 100, limit - 10), 10);
    assert_count(t_pread(&file, buf, 100, limit), 0);
    assert_err(t_fallocate(&file, 0, limit, 4096), EFBIG);
    assert_ok(t_ftruncate(&file, 0));
    close_ok(&file);
}

static void very_sparse(struct target *t)
{
    struct target_file file;

    if (t->spec->kind == TARGET_MOUNT)
        skip(); /* there, holes of an open file have their space */
    file = open_new(t, "f");
    fill_range(&file, (hf_off_t)1 << 40, 5, 'z');
    assert_count(stat_of(&file).st_size, ((hf_off_t)1 << 40) + 5);
    expect_range(&file, ((hf_off_t)1 << 40) - 100, 100, 0);
    expect_range(&file, (hf_off_t)1 << 40, 5, 'z');
    assert_ok(t_fsync(&file));
    expect_range(&file, (hf_off_t)1 << 40, 5, 'z');
    assert_true(stat_of(&file).st_blocks <= 256);
    close_ok(&file);
}

#define APPENDERS 4
#define APPENDS 200

struct appender {
    struct target *target;
    int id;
    int error;
};

static void *append_records(void *arg)
{
    struct appender *me = arg;
    struct target_file file;
    char record[64];

    me->error = t_open(me->target, "log", O_WRONLY | O_APPEND, 0, &file);
    if (me->error)
        return NULL;
    memset(record, 'a' + me->id, sizeof(record));
    for (int i = 0; i < APPENDS && !me->error; i++)
        me->error = t_write(&file, record, sizeof(record)) == sizeof(record) ? 0 : -EIO;
    t_close(&file);
    return NULL;
}

static void appends_are_atomic(struct target *t)
{
    struct appender appenders[APPENDERS];
    pthread_t threads[APPENDERS];
    int seen[APPENDERS] = {0};
    struct target_file file;
    char record[64];

    make_file(t, "log", 0, 0);
    for (int i = 0; i < APPENDERS; i++) {
        appenders[i] = (struct appender){.target = t, .id = i};
        assert_int_equal(pthread_create(&threads[i], NULL, append_records, &appenders[i]), 0);
    }
    for (int i = 0; i < APPENDERS; i++)
        pthread_join(threads[i], NULL);
    for (int i = 0; i < APPENDERS; i++)
        assert_ok(appenders[i].error);
    file = open_old(t, "log", O_RDONLY);
    assert_count(stat_of(&file).st_size, APPENDERS * APPENDS * 64);
    for (int i = 0; i < APPENDERS * APPENDS; i++) {
        assert_count(t_read(&file, record, sizeof(record)), sizeof(record));
        assert_bytes(record, record[0], sizeof(record));
        seen[record[0] - 'a']++;
    }
    for (int i = 0; i < APPENDERS; i++)
        assert_int_equal(seen[i], APPENDS);
    close_ok(&file);
}

static const struct test_body bodies[] = {
    BODY(counts_at_the_end, ON_ALL),    BODY(holes_read_zero, ON_ALL),
    BODY(unaligned_overwrites, ON_ALL), BODY(positions, ON_ALL),
    BODY(bad_positions, ON_ALL),        BODY(too_far, ON_HOLDFAST | ON(TARGET_DISK)),
    BODY(very_sparse, ON_ALL),          BODY(appends_are_atomic, ON_ALL),
};

TEST_MAIN("read_write_offsets", bodies)
