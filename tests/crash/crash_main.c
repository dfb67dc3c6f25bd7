/* SPDX-License-Identifier: MIT */
/*
 * crash_main.c - crash_main() of crash_util.h: workloads as cmocka cases, and as negative controls.
 *
 * A control runs the cases in a child with one rule of the write order broken. Its output is nobody's
 * business: only whether a check failed counts. A child that a signal ends has not been caught by a check,
 * and does not count.
 */
#include "crash_util.h"

#include "fs/blockfs/testing.h"

#include <fcntl.h>
#include <sys/wait.h>

#define MAX_CASES 8

static const struct {
    const char *name, *text;
} breaks[] = {
#define X(name, text) {#name, text},
    HF_BLOCKFS_BREAKS(X)
#undef X
};

static void run_case(void **state)
{
    const struct crash_case *c = *state;

    for (uint64_t seed = 1; seed <= c->nr_seeds; seed++)
        c->workload(c->config, seed);
}

static int run_cases(const struct crash_case *cases, size_t nr)
{
    struct CMUnitTest tests[MAX_CASES] = {0};

    for (size_t i = 0; i < nr && i < MAX_CASES; i++)
        tests[i] = (struct CMUnitTest){
            .name = cases[i].name, .test_func = run_case, .initial_state = (void *)(uintptr_t)&cases[i]};
    return nr > MAX_CASES ? 99 : _cmocka_run_group_tests("tests", tests, nr, NULL, NULL);
}

/* Case after case until one fails. */
static void run_broken(const struct crash_case *cases, size_t nr, int which)
{
    int null = open("/dev/null", O_WRONLY);
    int failed = 0;

    dup2(null, STDOUT_FILENO);
    dup2(null, STDERR_FILENO);
    atomic_store(&hf_test_break, which);
    for (size_t i = 0; i < nr && !failed; i++)
        failed = run_cases(&cases[i], 1);
    _exit(failed ? 1 : 0);
}

static int control(const struct crash_case *cases, size_t nr, const char *name)
{
    int which = 0, status;
    pid_t child;

    for (size_t i = 0; i < sizeof(breaks) / sizeof(breaks[0]); i++)
        if (strcmp(breaks[i].name, name) == 0)
            which = (int)i + 1;
    if (!which) {
        fprintf(stderr, "there is no rule %s\n", name);
        return 2;
    }
    child = fork();
    if (child == 0)
        run_broken(cases, nr, which);
    if (child < 0 || waitpid(child, &status, 0) != child) {
        perror("fork");
        return 2;
    }
    if (WIFEXITED(status) && WEXITSTATUS(status) == 1)
        return 0;
    fprintf(stderr, "%s, and no case fails for it (status %#x)\n", breaks[which - 1].text, (unsigned)status);
    return 1;
}

int crash_main(const struct crash_case *cases, size_t nr)
{
    const char *name = getenv("CRASH_BREAK");

    return name ? control(cases, nr, name) : run_cases(cases, nr);
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
