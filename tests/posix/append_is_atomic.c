/* SPDX-License-Identifier: MIT */
/*
 * append_is_atomic.c - O_APPEND: records of several threads, each with an open file of its own or sharing
 * one, lie in the file whole, once, and in the order in which their thread wrote them.
 */
#include "target.h"

#include <pthread.h>

#define THREADS 4
#define RECORDS 300
#define HEAD 8 /* thread, number, length */

struct appender {
    pthread_t thread;
    struct target_file *file;
    int id;
    int64_t error;
};

/* They straddle blocks and pages, and some are longer than a page. */
static size_t record_length(int id, int number)
{
    return HEAD + (size_t)((number * 37 + id * 1009) % 900) + (number % 50 == 0 ? 5000u : 0u);
}

static void record_make(uint8_t *rec, int id, int number)
{
    size_t len = record_length(id, number);

    memset(rec, 'a' + (id + number) % 26, len);
    rec[0] = (uint8_t)id;
    rec[1] = (uint8_t)(number & 0xff);
    rec[2] = (uint8_t)(number >> 8);
    memcpy(rec + 3, "\nrec\n", 5);
}

static void *appender_main(void *arg)
{
    struct appender *a = arg;
    uint8_t rec[8192];

    for (int i = 0; i < RECORDS && a->error == 0; i++) {
        size_t len = record_length(a->id, i);
        ssize_t ret;

        record_make(rec, a->id, i);
        ret = t_write(a->file, rec, len);
        a->error = ret < 0 ? ret : ret != (ssize_t)len;
    }
    return NULL;
}

static void check_records(struct target *t)
{
    struct target_file file = open_old(t, "log", O_RDONLY);
    hf_off_t size = stat_of(&file).st_size, off = 0;
    int next[THREADS] = {0};
    uint8_t got[8192], want[8192];

    while (off < size) {
        int id, number;
        size_t len;

        assert_count(t_pread(&file, got, HEAD, off), HEAD);
        id = got[0];
        number = got[1] | got[2] << 8;
        assert_that(id < THREADS && number == next[id], "at %lld: record %d of thread %d", (long long)off,
                    number, id);
        next[id]++;
        len = record_length(id, number);
        record_make(want, id, number);
        assert_count(t_pread(&file, got, len, off), len);
        assert_memory_equal(got, want, len);
        off += (hf_off_t)len;
    }
    for (int i = 0; i < THREADS; i++)
        assert_count(next[i], RECORDS);
    close_ok(&file);
}

static void appended(struct target *t, int nr_files)
{
    struct appender appenders[THREADS];
    struct target_file files[THREADS];

    make_file(t, "log", 0, 0);
    for (int i = 0; i < nr_files; i++)
        files[i] = open_old(t, "log", O_WRONLY | O_APPEND);
    for (int i = 0; i < THREADS; i++)
        appenders[i] = (struct appender){.file = &files[i % nr_files], .id = i};
    for (int i = 0; i < THREADS; i++)
        assert_int_equal(pthread_create(&appenders[i].thread, NULL, appender_main, &appenders[i]), 0);
    for (int i = 0; i < THREADS; i++)
        pthread_join(appenders[i].thread, NULL);
    for (int i = 0; i < THREADS; i++)
        assert_count(appenders[i].error, 0);
    check_records(t);
    for (int i = 0; i < nr_files; i++)
        close_ok(&files[i]);
}

static void by_open_files_of_their_own(struct target *t)
{
    appended(t, THREADS);
}

static void by_threads_that_share_open_files(struct target *t)
{
    appended(t, 2);
}

static const struct test_body bodies[] = {
    BODY(by_open_files_of_their_own, ON_HOLDFAST),
    BODY(by_threads_that_share_open_files, ON_HOLDFAST),
};

TEST_MAIN("append_is_atomic", bodies)
