/* SPDX-License-Identifier: MIT */
/*
 * full_volume_at_the_store.c - a store that gets no block is refused there and then, and can be recovered
 * from: hf_guard(), hf_store(), hf_last_fault(), and the SIGBUS handler of the program.
 */
#include "mmap_test.h"

#include <pthread.h>
#include <sys/syscall.h>

#define PAGES 8

static void do_store(void *arg)
{
    *(volatile uint8_t *)arg = 'x';
}

/* A sparse mapping on a volume with this many free blocks. */
static uint8_t *map_on_full(struct target *t, struct target_file *ret_file, uint64_t free_blocks)
{
    uint8_t *map = map_sparse(t, "f", PAGES, ret_file);

    target_fill_but(t, "ballast", free_blocks);
    return map;
}

static void unmap_full(struct target *t, uint8_t *map, struct target_file *file)
{
    unmap_ok(t, map, PAGES * t->page_size);
    close_ok(file);
}

static void guard_returns_the_errno(struct target *t)
{
    struct target_file file;
    uint8_t *map = map_on_full(t, &file, 0), *at = map + 2 * t->page_size + 777;
    struct hf_fault fault, last;

    memset(&fault, 0, sizeof(fault));
    assert_err(hf_guard(do_store, at, &fault), ENOSPC);
    assert_int_equal(fault.error, ENOSPC);
    assert_true(fault.write);
    assert_ptr_equal(fault.addr, at);
    assert_int_equal(fault.offset, 2 * t->page_size + 777);
    assert_int_equal(fault.ino, stat_of(&file).st_ino);
    assert_int_equal(fault.tid, syscall(SYS_gettid));
    hf_last_fault(&last);
    assert_int_equal(last.error, ENOSPC);
    assert_ptr_equal(last.addr, at);
    assert_int_equal(last.offset, fault.offset);
    assert_err(hf_guard(do_store, at, NULL), ENOSPC);
    unmap_full(t, map, &file);
}

static void nothing_changes_when_refused(struct target *t)
{
    struct target_file file;
    uint8_t *map = map_on_full(t, &file, 0), *other = map_shared(&file, 0, PAGES * t->page_size);
    struct stat before = stat_of(&file), after;
    struct hf_statfs sfs;

    for (size_t i = 0; i < 50; i++)
        assert_err(store_byte(map + i % PAGES * t->page_size, 'x'), ENOSPC);
    assert_bytes(map, 0, PAGES * t->page_size);
    assert_bytes(other, 0, PAGES * t->page_size);
    expect_range(&file, 0, PAGES * t->page_size, 0);
    after = stat_of(&file);
    assert_count(after.st_size, before.st_size);
    assert_count(after.st_blocks, before.st_blocks);
    sfs = target_statfs(t);
    assert_count(sfs.blocks_free, 0);
    assert_count(sfs.blocks_reserved, 0);
    assert_ok(t_fsync(&file));
    assert_true(target_stats(t).faults_refused >= 50);
    unmap_ok(t, other, PAGES * t->page_size);
    unmap_full(t, map, &file);
}

static void the_same_store_succeeds_with_room(struct target *t)
{
    struct target_file file;
    uint8_t *map = map_on_full(t, &file, 0);

    for (int round = 0; round < 3; round++) {
        uint8_t *at = map + (size_t)round * t->page_size + 5;

        assert_err(hf_guard(do_store, at, NULL), ENOSPC);
        assert_ok(t_unlink(t, "ballast"));
        assert_ok(hf_guard(do_store, at, NULL));
        assert_int_equal(byte_at(at), 'x');
        assert_ok(t_fsync(&file));
        target_fill_but(t, "ballast", 0);
    }
    unmap_full(t, map, &file);
}

static void what_has_blocks_is_never_refused(struct target *t)
{
    struct target_file file, hole;
    size_t page = t->page_size;
    uint8_t *map = map_sparse(t, "f", PAGES, &file), *bare = map_sparse(t, "hole", 1, &hole);

    memset(map, 'a', PAGES * page);
    target_fill_but(t, "ballast", 0);
    for (int round = 0; round < 4; round++) {
        for (size_t off = 0; off < PAGES * page; off += t->block_size)
            assert_ok(store_byte(map + off, (uint8_t)('b' + round)));
        assert_ok(t_fsync(&file));
    }
    assert_err(store_byte(bare, 'z'), ENOSPC);
    unmap_ok(t, bare, page);
    close_ok(&hole);
    unmap_full(t, map, &file);
}

static void store_stops_at_the_refusal(struct target *t)
{
    struct target_file file;
    size_t page = t->page_size, done = 0;
    uint8_t *map = map_on_full(t, &file, 3 * blocks_per_page(t));
    uint8_t *buf = malloc(PAGES * page);

    assert_non_null(buf);
    memset(buf, 's', PAGES * page);
    assert_err(hf_store(map, buf, PAGES * page, &done), ENOSPC);
    assert_count(done, 3 * page);
    assert_bytes(map, 's', 3 * page);
    assert_bytes(map + 3 * page, 0, (PAGES - 3) * page);
    assert_ok(t_unlink(t, "ballast"));
    assert_ok(hf_store(map + done, buf + done, PAGES * page - done, &done));
    assert_count(done, (PAGES - 3) * page);
    assert_bytes(map, 's', PAGES * page);
    free(buf);
    unmap_full(t, map, &file);
}

struct nest {
    struct target *target;
    uint8_t *map;
    int inner, inner_again;
    volatile bool went_on;
};

static void inner_and_outer(void *arg)
{
    struct nest *nest = arg;
    uint8_t byte = 1;

    nest->inner = hf_guard(do_store, nest->map, NULL);
    nest->inner_again = hf_store(nest->map + 1, &byte, 1, NULL);
    nest->went_on = true;
    nest->map[2] = 3;
    nest->went_on = false;
}

static void guards_nest(struct target *t)
{
    struct target_file file;
    struct nest nest = {.target = t};
    struct hf_fault fault;

    nest.map = map_on_full(t, &file, 0);
    assert_err(hf_guard(inner_and_outer, &nest, &fault), ENOSPC);
    assert_err(nest.inner, ENOSPC);
    assert_err(nest.inner_again, ENOSPC);
    assert_true(nest.went_on);
    assert_ptr_equal(fault.addr, nest.map + 2);
    unmap_full(t, nest.map, &file);
}

static void count_calls(void *arg)
{
    (*(int *)arg)++;
}

static void a_guard_without_refusal(struct target *t)
{
    struct hf_fault fault;
    int calls = 0;

    (void)t;
    memset(&fault, 0xa5, sizeof(fault));
    assert_ok(hf_guard(count_calls, &calls, &fault));
    assert_int_equal(calls, 1);
    assert_bytes(&fault, 0xa5, sizeof(fault));
}

static void block_and_store(void *arg)
{
    sigset_t set;

    sigemptyset(&set);
    sigaddset(&set, SIGUSR1);
    sigaddset(&set, SIGUSR2);
    pthread_sigmask(SIG_BLOCK, &set, NULL);
    do_store(arg);
}

static void the_signal_mask_is_restored(struct target *t)
{
    struct target_file file;
    uint8_t *map = map_on_full(t, &file, 0);
    sigset_t mine, before, after;

    sigemptyset(&mine);
    sigaddset(&mine, SIGUSR2);
    pthread_sigmask(SIG_BLOCK, &mine, NULL);
    pthread_sigmask(SIG_BLOCK, NULL, &before);
    for (int i = 0; i < 3; i++) {
        assert_err(hf_guard(block_and_store, map, NULL), ENOSPC);
        pthread_sigmask(SIG_BLOCK, NULL, &after);
        for (int signo = 1; signo < 32; signo++)
            assert_that(sigismember(&before, signo) == sigismember(&after, signo), "signal %d", signo);
    }
    assert_false(sigismember(&after, SIGBUS));
    assert_false(sigismember(&after, SIGUSR1));
    pthread_sigmask(SIG_UNBLOCK, &mine, NULL);
    unmap_full(t, map, &file);
}

struct side {
    uint8_t *at;
    pthread_barrier_t *armed, *done;
    struct caught caught;
    struct hf_fault before, after;
};

static void wait_armed(void *arg)
{
    struct side *side = arg;

    pthread_barrier_wait(side->armed);
    pthread_barrier_wait(side->done);
}

/* Has a guard armed, and stores nothing. */
static void *guarded_thread(void *arg)
{
    struct side *side = arg;

    hf_last_fault(&side->before);
    side->caught.signo = hf_guard(wait_armed, side, NULL);
    hf_last_fault(&side->after);
    return NULL;
}

static void guards_are_per_thread(struct target *t)
{
    struct target_file file;
    uint8_t *map = map_on_full(t, &file, 0);
    pthread_barrier_t armed, done;
    struct side other = {.armed = &armed, .done = &done};
    struct caught mine;
    pthread_t thread;

    pthread_barrier_init(&armed, NULL, 2);
    pthread_barrier_init(&done, NULL, 2);
    assert_int_equal(pthread_create(&thread, NULL, guarded_thread, &other), 0);
    pthread_barrier_wait(&armed);
    assert_int_equal(catch_fault(do_store, map, &mine), SIGBUS);
    assert_int_equal(mine.fault.error, ENOSPC);
    assert_int_equal(mine.fault.tid, syscall(SYS_gettid));
    pthread_barrier_wait(&done);
    pthread_join(thread, NULL);
    assert_int_equal(other.caught.signo, 0);
    assert_int_equal(other.before.error, 0);
    assert_int_equal(other.after.error, 0);
    pthread_barrier_destroy(&armed);
    pthread_barrier_destroy(&done);
    unmap_full(t, map, &file);
}

static void the_old_handler_hears_of_it(struct target *t)
{
    struct target_file file;
    uint8_t *map = map_on_full(t, &file, 0);
    struct caught caught;

    for (int i = 0; i < 5; i++) {
        uint8_t *at = map + (size_t)i * t->page_size + 33;

        assert_int_equal(catch_fault(do_store, at, &caught), SIGBUS);
        assert_ptr_equal(caught.addr, at);
        assert_int_equal(caught.fault.error, ENOSPC);
        assert_ptr_equal(caught.fault.addr, at);
        assert_int_equal(caught.fault.offset, at - map);
        assert_true(caught.fault.write);
    }
    assert_ok(t_unlink(t, "ballast"));
    assert_int_equal(catch_fault(do_store, map, &caught), 0);
    assert_int_equal(byte_at(map), 'x');
    unmap_full(t, map, &file);
}

#define STORERS 4

struct contender {
    struct target *target;
    uint8_t *map;
    int id;
    uint64_t accepted;
    bool wrong;
};

/* Each thread takes every STORERS-th page until refused. */
static void *contend(void *arg)
{
    struct contender *me = arg;

    for (size_t page = (size_t)me->id; page < 256; page += STORERS) {
        uint8_t byte = (uint8_t)(me->id + 1);
        int ret = hf_store(me->map + page * me->target->page_size, &byte, 1, NULL);

        if (ret == 0)
            me->accepted++;
        else if (ret != -ENOSPC)
            me->wrong = true;
    }
    return NULL;
}

static void threads_share_what_is_left(struct target *t)
{
    struct contender contenders[STORERS];
    pthread_t threads[STORERS];
    struct target_file file;
    uint8_t *map = map_sparse(t, "f", 256, &file);
    uint64_t accepted = 0;

    target_fill_but(t, "ballast", 100 * blocks_per_page(t));
    for (int i = 0; i < STORERS; i++) {
        contenders[i] = (struct contender){.target = t, .map = map, .id = i};
        assert_int_equal(pthread_create(&threads[i], NULL, contend, &contenders[i]), 0);
    }
    for (int i = 0; i < STORERS; i++) {
        pthread_join(threads[i], NULL);
        assert_false(contenders[i].wrong);
        accepted += contenders[i].accepted;
    }
    /* Each store costs one block in the end. */
    assert_true(accepted >= 100 - STORERS);
    assert_true(accepted <= 100 * blocks_per_page(t));
    assert_ok(t_fsync(&file));
    for (size_t page = 0; page < 256; page++)
        accepted -= byte_at(map + page * t->page_size) != 0;
    assert_count(accepted, 0);
    unmap_ok(t, map, 256 * t->page_size);
    close_ok(&file);
}

/* The thread engine refuses in its thread, and is asked again by the storing one: that is one refusal. (If
 * the storing thread is kept from running for a while, it faults once more; so a single pair must do.) */
static void a_refusal_is_counted_once(struct target *t)
{
    struct target_file file;
    uint8_t *map = map_on_full(t, &file, 0);
    bool once = false;

    for (int tries = 0; tries < 2000 && !once; tries++) {
        uint64_t before = target_stats(t).faults_refused;

        assert_err(store_byte(map, 'x'), ENOSPC);
        once = target_stats(t).faults_refused == before + 1;
        assert_true(target_stats(t).faults_refused > before);
    }
    assert_true(once);
    unmap_full(t, map, &file);
}

static const struct test_body bodies[] = {
    BODY(guard_returns_the_errno, ON_HOLDFAST),
    BODY(nothing_changes_when_refused, ON_HOLDFAST),
    BODY(the_same_store_succeeds_with_room, ON_HOLDFAST),
    BODY(what_has_blocks_is_never_refused, ON_HOLDFAST),
    BODY(store_stops_at_the_refusal, ON_HOLDFAST),
    BODY(guards_nest, ON_HOLDFAST),
    BODY(a_guard_without_refusal, ON_HOLDFAST),
    BODY(the_signal_mask_is_restored, ON_HOLDFAST),
    BODY(guards_are_per_thread, ON_HOLDFAST),
    BODY(the_old_handler_hears_of_it, ON_HOLDFAST),
    BODY(threads_share_what_is_left, ON_HOLDFAST),
    BODY(a_refusal_is_counted_once, ON_HOLDFAST),
};

MMAP_TEST_MAIN("full_volume_at_the_store", bodies)
