/* SPDX-License-Identifier: MIT */
/*
 * eviction_and_last_use.c - what is on its way out of memory: a sync waits for an inode that is being
 * evicted, and the last user's leaving takes nothing from the one who comes next.
 */
#include "wrapped_driver.h"

#include <pthread.h>
#include <stdatomic.h>
#include <time.h>

#define B 4096
/* how long a wrong order has time to show; the right one passes however long it takes */
#define WAIT_MS 200

static const struct hf_driver *real;

/* Sleeps until the flag is set, or for WAIT_MS. */
static void wait_a_while(_Atomic bool *flag)
{
    for (int i = 0; i < WAIT_MS && !atomic_load(flag); i++)
        nanosleep(&(struct timespec){.tv_nsec = 1000000}, NULL);
}

/* ---- sync and eviction */

static struct {
    uint64_t ino;
    _Atomic bool slow, begun, ended, synced;
    _Atomic bool too_early; /* the driver's sync began before the eviction had written */
} evicted;

static int slow_write(struct hf_inode *inode, const void *buf, size_t len, hf_off_t off)
{
    int r;

    if (inode->ino == evicted.ino && atomic_load(&evicted.slow)) {
        atomic_store(&evicted.begun, true);
        wait_a_while(&evicted.synced);
    }
    r = real->write(inode, buf, len, off);
    if (inode->ino == evicted.ino)
        atomic_store(&evicted.ended, true);
    return r;
}

static int watched_sync(struct hf_super *sb)
{
    if (atomic_load(&evicted.begun) && !atomic_load(&evicted.ended))
        atomic_store(&evicted.too_early, true);
    atomic_store(&evicted.synced, true);
    return real->sync(sb);
}

static void *open_many(void *arg)
{
    struct wrapped *w = arg;
    char name[16];

    for (int i = 0; i < 300; i++) { /* more than may stay in memory unused */
        snprintf(name, sizeof(name), "/g%d", i);
        assert_ok(hf_close(wrapped_file(w, name, -1)));
    }
    return NULL;
}

static void a_sync_waits_for_what_is_leaving(void **state)
{
    struct wrapped w;
    struct hf_file *file;
    struct stat st;
    pthread_t thread;

    (void)state;
    wrapped_memfs(&w, 4 << 20, B);
    real = w.real;
    w.driver.write = slow_write;
    w.driver.sync = watched_sync;
    wrapped_open(&w, NULL);
    file = wrapped_file(&w, "/f", 0);
    assert_ok(hf_fstat(file, &st));
    evicted.ino = st.st_ino;
    assert_int_equal(hf_pwrite(file, "data", 4, 0), 4);
    assert_ok(hf_close(file));
    atomic_store(&evicted.slow, true);
    assert_int_equal(pthread_create(&thread, NULL, open_many, &w), 0);
    while (!atomic_load(&evicted.begun))
        nanosleep(&(struct timespec){.tv_nsec = 100000}, NULL);
    assert_ok(hf_volume_sync(w.volume));
    assert_false(atomic_load(&evicted.too_early));
    assert_int_equal(pthread_join(thread, NULL), 0);
    assert_ok(wrapped_close(&w));
}

/* ---- the last user, and the next */

static struct {
    _Atomic bool slow, begun, reserved;
} kept;

static void slow_unreserve(struct hf_inode *inode, uint64_t nr)
{
    if (atomic_exchange(&kept.slow, false)) {
        atomic_store(&kept.begun, true);
        wait_a_while(&kept.reserved);
    }
    real->unreserve(inode, nr);
}

struct user {
    struct hf_file *file;
    uint8_t *at;
};

static struct user user_come(struct wrapped *w)
{
    struct user u = {.file = wrapped_file(w, "/f", 32 * B)};
    void *at;

    assert_ok(hf_mmap(u.file, NULL, 32 * B, PROT_READ | PROT_WRITE, MAP_SHARED, 0, &at));
    u.at = at;
    return u;
}

static void user_leave(struct user *u)
{
    assert_ok(hf_munmap(u->at, 32 * B));
    assert_ok(hf_close(u->file));
}

static void *leave(void *arg)
{
    user_leave(arg);
    return NULL;
}

static void the_next_user_keeps_what_he_reserves(void **state)
{
    struct hf_statfs st;
    struct user last, next;
    struct wrapped w;
    pthread_t thread;

    (void)state;
    wrapped_memfs(&w, 4 << 20, B);
    real = w.real;
    w.driver.unreserve = slow_unreserve;
    wrapped_open(&w, NULL);
    last = user_come(&w);
    assert_ok(hf_reserve(last.at, B)); /* the first page, which is let go of first */
    atomic_store(&kept.slow, true);
    assert_int_equal(pthread_create(&thread, NULL, leave, &last), 0);
    while (!atomic_load(&kept.begun))
        nanosleep(&(struct timespec){.tv_nsec = 100000}, NULL);
    next = user_come(&w);
    assert_ok(hf_reserve(next.at + 8 * B, 16 * B));
    atomic_store(&kept.reserved, true);
    assert_int_equal(pthread_join(thread, NULL), 0);
    assert_ok(hf_volume_statfs(w.volume, &st));
    assert_int_equal(st.blocks_reserved, 16);
    wrapped_fill_but(&w, "/ballast", 0);
    for (int b = 8; b < 24; b++)
        assert_ok(hf_store(next.at + b * B, "x", 1, NULL));
    user_leave(&next);
    assert_ok(wrapped_close(&w));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_sync_waits_for_what_is_leaving),
        cmocka_unit_test(the_next_user_keeps_what_he_reserves),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
