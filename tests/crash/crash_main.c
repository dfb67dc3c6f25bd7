/* SPDX-License-Identifier: MIT */
/* crash_main.c - crash_main() of crash_util.h: workloads as cmocka cases. */
#include "crash_util.h"

#define MAX_CASES 8

static void run_case(void **state)
{
    const struct crash_case *c = *state;

    for (uint64_t seed = 1; seed <= c->nr_seeds; seed++)
        c->workload(c->config, seed);
}

int crash_main(const struct crash_case *cases, size_t nr)
{
    struct CMUnitTest tests[MAX_CASES] = {0};

    assert_true(nr <= MAX_CASES);
    for (size_t i = 0; i < nr; i++)
        tests[i] = (struct CMUnitTest){
            .name = cases[i].name, .test_func = run_case, .initial_state = (void *)(uintptr_t)&cases[i]};
    return _cmocka_run_group_tests("tests", tests, nr, NULL, NULL);
}

int crash_main_usual(void (*workload)(const struct crash_config *config, uint64_t seed), unsigned nr_seeds)
{
    static const struct crash_config small = {.block_size = 1024, .page_size = 4096};
    static const struct crash_config same = {.block_size = 4096, .page_size = 4096};
    static const struct crash_config large = {
        .block_size = 512, .page_size = 16384, .isize_sync = HF_ISIZE_HOLE_LOCK};
    const struct crash_case cases[] = {
        {"with_blocks_smaller_than_pages", &small, workload, nr_seeds},
        {"with_blocks_as_large_as_pages", &same, workload, nr_seeds},
        {"with_large_pages_and_the_hole_lock", &large, workload, nr_seeds},
    };

    return crash_main(cases, sizeof(cases) / sizeof(cases[0]));
}
