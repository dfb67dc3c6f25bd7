/* SPDX-License-Identifier: MIT */
/*
 * fork_leaves_mappings.c - after fork() the child has no mapping and no volume of the parent's; the parent
 * notices nothing.
 */
#include "mmap_test.h"

#include <pthread.h>
#include <stdatomic.h>

struct shared_state {
    struct target *target;
    struct target_file file;
    uint8_t *map;
};

static struct shared_state start(struct target *t)
{
    struct shared_state state = {.target = t, .file = open_new(t, "f")};

    assert_ok(t_ftruncate(&state.file, 4 * UNIT));
    state.map = map_shared(&state.file, 0, 4 * UNIT);
    state.map[0] = 'p';
    return state;
}

static void finish(struct shared_state *state)
{
    state->map[1] = 'q';
    state->map[2 * UNIT] = 'r';
    expect_range(&state->file, 0, 1, 'p');
    expect_range(&state->file, 1, 1, 'q');
    expect_range(&state->file, 2 * UNIT, 1, 'r');
    assert_ok(t_fsync(&state->file));
    state->map[1] = 's';
    expect_range(&state->file, 1, 1, 's');
    unmap_ok(state->target, state->map, 4 * UNIT);
    close_ok(&state->file);
}

static int child_stores(void *arg)
{
    struct shared_state *state = arg;

    *(volatile uint8_t *)state->map = 'x';
    return 0;
}

static int child_loads(void *arg)
{
    struct shared_state *state = arg;

    return *(volatile uint8_t *)state->map;
}

static int child_stores_elsewhere(void *arg)
{
    struct shared_state *state = arg;

    *(volatile uint8_t *)(state->map + 3 * UNIT) = 'x';
    return 0;
}

static void a_touch_in_the_child_is_sigsegv(struct target *t)
{
    struct shared_state state = start(t);

    expect_death_by(fork_child(child_stores, &state), SIGSEGV);
    expect_death_by(fork_child(child_loads, &state), SIGSEGV);
    expect_death_by(fork_child(child_stores_elsewhere, &state), SIGSEGV);
    assert_int_equal(byte_at(state.map), 'p');
    assert_int_equal(byte_at(state.map + 3 * UNIT), 0);
    finish(&state);
}

static int child_calls(void *arg)
{
    struct shared_state *state = arg;
    struct hf_volume *volume = state->target->volume;
    struct hf_file *file = state->file.hf, *other = NULL;
    struct hf_statfs sfs;
    struct stat st;
    void *map = NULL;
    char byte = 'c';

    CHILD_CHECK(hf_pread(file, &byte, 1, 0) == -ESTALE);
    CHILD_CHECK(hf_pwrite(file, &byte, 1, 0) == -ESTALE);
    CHILD_CHECK(hf_read(file, &byte, 1) == -ESTALE);
    CHILD_CHECK(hf_write(file, &byte, 1) == -ESTALE);
    CHILD_CHECK(hf_lseek(file, 0, SEEK_SET) == -ESTALE);
    CHILD_CHECK(hf_ftruncate(file, 0) == -ESTALE);
    CHILD_CHECK(hf_fallocate(file, 0, 0, 10) == -ESTALE);
    CHILD_CHECK(hf_fsync(file) == -ESTALE);
    CHILD_CHECK(hf_fstat(file, &st) == -ESTALE);
    CHILD_CHECK(hf_mmap(file, NULL, UNIT, PROT_READ, MAP_SHARED, 0, &map) == -ESTALE);
    CHILD_CHECK(hf_msync(state->map, UNIT, MS_SYNC) < 0);
    CHILD_CHECK(hf_munmap(state->map, UNIT) < 0);
    CHILD_CHECK(hf_reserve(state->map, UNIT) < 0);
    CHILD_CHECK(hf_open(volume, "f", O_RDWR, 0, &other) == -ESTALE);
    CHILD_CHECK(hf_stat(volume, "f", &st) == -ESTALE);
    CHILD_CHECK(hf_mkdir(volume, "d", 0755) == -ESTALE);
    CHILD_CHECK(hf_unlink(volume, "f") == -ESTALE);
    CHILD_CHECK(hf_volume_statfs(volume, &sfs) == -ESTALE);
    CHILD_CHECK(hf_volume_sync(volume) == -ESTALE);
    CHILD_CHECK(hf_close(file) == -ESTALE);
    CHILD_CHECK(hf_volume_close(volume) == -ESTALE);
    return 0;
}

static void calls_in_the_child_are_stale(struct target *t)
{
    struct shared_state state = start(t);

    expect_exit_0(fork_child(child_calls, &state));
    finish(&state);
}

static int child_has_its_own(void *arg)
{
    struct hf_volume *volume = NULL;
    struct hf_file *file = NULL;
    void *map = NULL;
    char byte = 0;
    int ret = hf_volume_open("mem:1M", NULL, &volume);

    (void)arg;
    if (ret == -ESTALE)
        return 0;
    CHILD_CHECK(ret == 0);
    CHILD_CHECK(hf_open(volume, "g", O_RDWR | O_CREAT, 0600, &file) == 0);
    CHILD_CHECK(hf_ftruncate(file, UNIT) == 0);
    CHILD_CHECK(hf_mmap(file, NULL, UNIT, PROT_READ | PROT_WRITE, MAP_SHARED, 0, &map) == 0);
    *(volatile char *)map = 'c';
    CHILD_CHECK(hf_pread(file, &byte, 1, 0) == 1 && byte == 'c');
    CHILD_CHECK(hf_munmap(map, UNIT) == 0);
    CHILD_CHECK(hf_close(file) == 0);
    CHILD_CHECK(hf_volume_close(volume) == 0);
    return 0;
}

/* Either the library refuses to work in the child, or it works. */
static void a_volume_of_the_childs_own(struct target *t)
{
    struct shared_state state = start(t);

    expect_exit_0(fork_child(child_has_its_own, &state));
    finish(&state);
}

struct storer {
    uint8_t *map;
    atomic_bool stop;
    atomic_uint rounds;
};

static void *store_on(void *arg)
{
    struct storer *storer = arg;

    for (unsigned i = 0; !atomic_load(&storer->stop); i++) {
        storer->map[3 * UNIT + i % UNIT] = (uint8_t)i;
        atomic_fetch_add(&storer->rounds, 1);
    }
    return NULL;
}

static int child_leaves(void *arg)
{
    (void)arg;
    return 0;
}

/* fork() while other threads fault, write and sync: the parent must neither hang nor lose. */
static void forking_while_threads_store(struct target *t)
{
    struct shared_state state = start(t);
    struct storer storer = {.map = state.map};
    pthread_t thread;

    assert_int_equal(pthread_create(&thread, NULL, store_on, &storer), 0);
    for (int i = 0; i < 20; i++) {
        pid_t pid = fork_child(child_leaves, NULL);

        assert_ok(t_fsync(&state.file));
        fill_range(&state.file, UNIT + i, 1, (uint8_t)(i + 1));
        expect_exit_0(pid);
        assert_int_equal(byte_at(state.map + UNIT + i), i + 1);
    }
    while (atomic_load(&storer.rounds) < 1000)
        sched_yield();
    atomic_store(&storer.stop, true);
    pthread_join(thread, NULL);
    finish(&state);
}

static const struct test_body bodies[] = {
    BODY(a_touch_in_the_child_is_sigsegv, ON_HOLDFAST),
    BODY(calls_in_the_child_are_stale, ON_HOLDFAST),
    BODY(a_volume_of_the_childs_own, ON_HOLDFAST),
    BODY(forking_while_threads_store, ON_HOLDFAST),
};

MMAP_TEST_MAIN("fork_leaves_mappings", bodies)
