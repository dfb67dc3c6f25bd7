/* SPDX-License-Identifier: MIT */
/*
 * no_sql_in_a_fault.c - the trap that all tests of mappings rely on: a thread that is inside a fault, and
 * runs a statement, ends the process and says which.
 */
#include "check.h"

#include "base/fault_mark.h"
#include "fs/blockfs/format.h"

#include <holdfast/device.h>

#include <fcntl.h>
#include <signal.h>
#include <sys/resource.h>
#include <sys/wait.h>

enum act { ASK_THE_DATABASE, COMMIT, STAY_IN_MEMORY };

static void child_main(enum act act, bool marked, int say)
{
    struct hf_device *dev;
    struct hf_volume *vol;
    struct hf_file *file;
    char byte, err[HF_BLOCKFS_ERR];

    setrlimit(RLIMIT_CORE, &(struct rlimit){0, 0});
    CHILD_CHECK(dup2(say, STDERR_FILENO) >= 0);
    CHILD_CHECK(hf_device_mem_new(4 << 20, &dev) == 0);
    CHILD_CHECK(hf_blockfs_mkfs(dev, &(struct hf_mkfs_options){.block_size = 4096}, err) == 0);
    CHILD_CHECK(hf_volume_open_device(dev, NULL, &vol) == 0);
    CHILD_CHECK(hf_open(vol, "/f", O_RDWR | O_CREAT, 0600, &file) == 0);
    CHILD_CHECK(hf_pwrite(file, "x", 1, 0) == 1);
    if (marked)
        hf_fault_mark_enter();
    if (act == ASK_THE_DATABASE)
        CHILD_CHECK(hf_unlink(vol, "/none") == -ENOENT);
    else if (act == COMMIT)
        CHILD_CHECK(hf_fsync(file) == 0);
    else
        CHILD_CHECK(hf_pread(file, &byte, 1, 0) == 1);
    if (marked)
        hf_fault_mark_leave();
    CHILD_CHECK(hf_unlink(vol, "/f") == 0);
    CHILD_CHECK(hf_close(file) == 0);
    CHILD_CHECK(hf_volume_close(vol) == 0);
    _exit(0);
}

/* The wait status of a child that does that, and what it said. */
static int act_in_child(enum act act, bool marked, char said[512])
{
    size_t len = 0;
    ssize_t got;
    int pipes[2], status;
    pid_t child;

    assert_int_equal(pipe(pipes), 0);
    child = fork();
    assert_true(child >= 0);
    if (child == 0)
        child_main(act, marked, pipes[1]);
    close(pipes[1]);
    while (len < 511 && (got = read(pipes[0], said + len, 511 - len)) > 0)
        len += (size_t)got;
    said[len] = 0;
    close(pipes[0]);
    assert_int_equal(waitpid(child, &status, 0), child);
    return status;
}

static void it_is_trapped(void **state)
{
    static const enum act acts[] = {ASK_THE_DATABASE, COMMIT};
    char said[512];

    (void)state;
    for (size_t i = 0; i < sizeof(acts) / sizeof(acts[0]); i++) {
        int status = act_in_child(acts[i], true, said);

        assert_that(WIFSIGNALED(status) && WTERMSIG(status) == SIGABRT, "status %#x: %s", (unsigned)status,
                    said);
        assert_that(strncmp(said, "holdfast: on the fault path: ", 29) == 0, "it says: %s", said);
    }
}

static void elsewhere_it_is_not(void **state)
{
    char said[512];

    (void)state;
    for (enum act act = ASK_THE_DATABASE; act <= STAY_IN_MEMORY; act++) {
        int status = act_in_child(act, false, said);

        assert_that(status == 0, "status %#x: %s", (unsigned)status, said);
    }
}

static void what_needs_no_sql_is_not(void **state)
{
    char said[512];
    int status;

    (void)state;
    status = act_in_child(STAY_IN_MEMORY, true, said);
    assert_that(status == 0, "status %#x: %s", (unsigned)status, said);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(it_is_trapped),
        cmocka_unit_test(elsewhere_it_is_not),
        cmocka_unit_test(what_needs_no_sql_is_not),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
