/* SPDX-License-Identifier: MIT */
/*
 * locks_wake_all.c - a read-write lock under readers and writers of every kind: nobody sleeps for ever, and
 * writers are alone. Also the state of an inode that many look up while it is evicted: each that waits for it
 * goes on.
 */
#include "check.h"

#include "base/lock.h"

#include <holdfast/holdfast.h>

#include <fcntl.h>
#include <pthread.h>
#include <sys/stat.h>

#define THREADS 6
#define ROUNDS 20000u

static struct hf_rwlock lock;
static uint64_t a, b; /* guarded by lock; always equal */

static bool read_once(void) HF_NO_TSA
{
    bool same = a == b;

    hf_rwlock_rdunlock(&lock);
    return same;
}

static void write_once(void) HF_NO_TSA
{
    a++;
    b++;
    hf_rwlock_wrunlock(&lock);
}

static void *work(void *arg) HF_NO_TSA
{
    uint64_t id = (uint64_t)(uintptr_t)arg, written = 0;

    for (uint64_t i = 0; i < ROUNDS; i++) {
        switch ((i * 2654435761u + id * 40503u) >> 7 & 7) {
        case 0:
            hf_rwlock_wrlock(&lock);
            write_once();
            written++;
            break;
        case 1:
            if (hf_rwlock_trywrlock(&lock)) {
                write_once();
                written++;
            }
            break;
        case 2:
            if (hf_rwlock_tryrdlock(&lock) && !read_once())
                return (void *)UINTPTR_MAX;
            break;
        default:
            hf_rwlock_rdlock(&lock);
            if (!read_once())
                return (void *)UINTPTR_MAX;
        }
    }
    return (void *)(uintptr_t)written;
}

static void readers_and_writers_all_get_through(void **state)
{
    pthread_t threads[THREADS];
    uint64_t sum = 0;

    (void)state;
    hf_rwlock_init(&lock, HF_RANK_IO);
    for (uintptr_t t = 0; t < THREADS; t++)
        assert_int_equal(pthread_create(&threads[t], NULL, work, (void *)t), 0);
    for (int t = 0; t < THREADS; t++) {
        void *written;

        pthread_join(threads[t], &written);
        assert_true(written != (void *)UINTPTR_MAX);
        sum += (uintptr_t)written;
    }
    assert_true(a == sum && b == sum);
    assert_int_equal(atomic_load(&lock.word), 0);
}

/* ---- inodes that come and go */

#define FILES 1500ul /* more than stay in memory without a user */

static void *look(void *arg)
{
    struct hf_volume *volume = arg;
    struct stat st;
    char path[32];

    for (unsigned long i = 0; i < 2 * FILES; i++) {
        snprintf(path, sizeof(path), "/f%lu", i % FILES);
        if (hf_stat(volume, path, &st) != 0)
            return (void *)1;
    }
    return NULL;
}

static void inodes_are_evicted_under_those_who_look(void **state)
{
    pthread_t threads[THREADS];
    struct hf_volume *volume;
    struct hf_file *file;
    char path[32];

    (void)state;
    assert_ok(hf_volume_open("mem:16M", NULL, &volume));
    for (unsigned long i = 0; i < FILES; i++) {
        snprintf(path, sizeof(path), "/f%lu", i);
        assert_ok(hf_open(volume, path, O_RDWR | O_CREAT, 0600, &file));
        assert_ok(hf_close(file));
    }
    for (int t = 0; t < THREADS; t++)
        assert_int_equal(pthread_create(&threads[t], NULL, look, volume), 0);
    for (int t = 0; t < THREADS; t++) {
        void *failed;

        pthread_join(threads[t], &failed);
        assert_null(failed);
    }
    assert_ok(hf_volume_close(volume));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(readers_and_writers_all_get_through),
        cmocka_unit_test(inodes_are_evicted_under_those_who_look),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
