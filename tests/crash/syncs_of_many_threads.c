/* SPDX-License-Identifier: MIT */
/*
 * syncs_of_many_threads.c - threads that share commits, with a flusher among them, are each told the truth.
 */
#include "crash_util.h"

#define THREADS 4
#define STEPS 20

struct worker {
    pthread_t thread;
    struct crash *crash;
    unsigned nr;
    uint64_t random;
};

static uint64_t worker_random(struct worker *worker, uint64_t n)
{
    worker->random = worker->random * 6364136223846793005u + 1442695040888963407u;
    return (worker->random >> 33) % n;
}

static void worker_step(struct worker *worker)
{
    struct crash *crash = worker->crash;
    hf_off_t off = (hf_off_t)worker_random(worker, CRASH_FILE_MAX - 5000);
    hf_off_t len = 1 + (hf_off_t)worker_random(worker, 4000);

    switch (worker_random(worker, 6)) {
    case 0:
        crash_truncate(crash, worker->nr, off);
        break;
    case 1:
    case 2:
        crash_fsync(crash, worker->nr);
        break;
    case 3:
        if (crash->files[worker->nr].size > 100)
            crash_store(crash, worker->nr, 0, 100);
        break;
    default:
        crash_write(crash, worker->nr, off, len);
        break;
    }
}

static void *worker_main(void *arg)
{
    for (int i = 0; i < STEPS; i++)
        worker_step(arg);
    return NULL;
}

static void every_thread_keeps_what_was_confirmed_to_it(void **state)
{
    const struct crash_config config = {
        .block_size = 1024, .page_size = 4096, .writeback_ms = 2, .flush_us = 300, .threads = true};
    struct worker workers[THREADS];
    struct crash crash;

    (void)state;
    crash_init(&crash, &config, 1);
    for (unsigned i = 0; i < THREADS; i++)
        workers[i] = (struct worker){.crash = &crash, .nr = crash_create(&crash, i, 0), .random = i};
    for (unsigned i = 0; i < THREADS; i++)
        assert_int_equal(pthread_create(&workers[i].thread, NULL, worker_main, &workers[i]), 0);
    for (unsigned i = 0; i < THREADS; i++)
        pthread_join(workers[i].thread, NULL);
    crash_close(&crash);
    crash_check(&crash, crash_points(80));
    crash_done(&crash);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(every_thread_keeps_what_was_confirmed_to_it),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
