/* SPDX-License-Identifier: MIT */
/*
 * signals_are_passed_on.c - a signal that is not ours, or that nobody guards, gets what it would have got
 * without Holdfast: the handler installed before, SIG_DFL, SIG_IGN.
 *
 * The cases that end a process run in a newly executed child, where the library is in its first state.
 */
#include "mmap_test.h"

#include <setjmp.h>

static void do_store(void *arg)
{
    *(volatile uint8_t *)arg = 'x';
}

/* ------------------------------------------------------------------ in this process */

static void foreign_faults_reach_the_old_handler(struct target *t)
{
    struct target_file file;
    uint8_t *map = map_sparse(t, "f", 1, &file);
    uint8_t *anon = mmap(NULL, 8192, PROT_READ, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    int fd = memfd_create("foreign", MFD_CLOEXEC);
    uint8_t *foreign = mmap(NULL, 8192, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
    struct caught caught;

    assert_ptr_not_equal(anon, MAP_FAILED);
    assert_ptr_not_equal(foreign, MAP_FAILED);
    map[0] = 1;
    assert_int_equal(catch_fault(do_store, anon + 4097, &caught), SIGSEGV);
    assert_ptr_equal(caught.addr, anon + 4097);
    assert_int_equal(caught.code, SEGV_ACCERR);
    assert_int_equal(catch_fault(do_store, foreign + 5, &caught), SIGBUS);
    assert_ptr_equal(caught.addr, foreign + 5);
    assert_int_equal(caught.code, BUS_ADRERR);
    map[1] = 2;
    munmap(anon, 8192);
    munmap(foreign, 8192);
    close(fd);
    unmap_ok(t, map, t->page_size);
    close_ok(&file);
}

static void raise_it(void *arg)
{
    raise(*(int *)arg);
}

static void sent_signals_reach_the_old_handler(struct target *t)
{
    static int signals[] = {SIGBUS, SIGSEGV};
    struct caught caught;

    (void)t;
    for (size_t i = 0; i < ARRAY_LEN(signals); i++) {
        assert_int_equal(catch_fault(raise_it, &signals[i], &caught), signals[i]);
        assert_int_equal(caught.code, SI_TKILL);
    }
}

/* ------------------------------------------------------------------ in children */

struct victim {
    struct hf_volume *volume;
    struct hf_file *file;
    uint8_t *map;
};

/* A read-only or writable mapping of two pages' worth, on a volume without a free block. */
static struct victim start_victim(int prot)
{
    struct victim v = {0};
    struct hf_statfs sfs;
    struct hf_file *ballast;
    void *map = NULL;

    CHILD_CHECK(hf_volume_open("mem:1M", NULL, &v.volume) == 0);
    CHILD_CHECK(hf_open(v.volume, "f", O_RDWR | O_CREAT, 0600, &v.file) == 0);
    CHILD_CHECK(hf_ftruncate(v.file, UNIT) == 0);
    CHILD_CHECK(hf_mmap(v.file, NULL, 2 * UNIT, prot, MAP_SHARED, 0, &map) == 0);
    CHILD_CHECK(hf_volume_statfs(v.volume, &sfs) == 0);
    CHILD_CHECK(hf_open(v.volume, "ballast", O_RDWR | O_CREAT, 0600, &ballast) == 0);
    CHILD_CHECK(hf_fallocate(ballast, 0, 0, (hf_off_t)(sfs.blocks_free * sfs.block_size)) == 0);
    v.map = map;
    return v;
}

static void all_default(void)
{
    signal(SIGBUS, SIG_DFL);
    signal(SIGSEGV, SIG_DFL);
}

static int refused_store(int argc, char **argv)
{
    struct victim v;

    (void)argc;
    (void)argv;
    all_default();
    v = start_victim(PROT_READ | PROT_WRITE);
    do_store(v.map);
    return 0;
}

static int store_beyond_the_end(int argc, char **argv)
{
    struct victim v;

    (void)argc;
    (void)argv;
    all_default();
    v = start_victim(PROT_READ | PROT_WRITE);
    do_store(v.map + UNIT);
    return 0;
}

static int refused_store_ignored(int argc, char **argv)
{
    struct victim v;

    (void)argc;
    (void)argv;
    all_default();
    signal(SIGBUS, SIG_IGN);
    v = start_victim(PROT_READ | PROT_WRITE);
    do_store(v.map);
    return 0;
}

static int read_only_store(int argc, char **argv)
{
    struct victim v;

    (void)argc;
    (void)argv;
    all_default();
    v = start_victim(PROT_READ);
    CHILD_CHECK(byte_at(v.map) == 0);
    do_store(v.map);
    return 0;
}

static int foreign_segv(int argc, char **argv)
{
    uint8_t *anon = mmap(NULL, 4096, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);

    (void)argc;
    (void)argv;
    all_default();
    start_victim(PROT_READ);
    do_store(anon);
    return 0;
}

static int foreign_bus(int argc, char **argv)
{
    int fd = memfd_create("foreign", MFD_CLOEXEC);
    uint8_t *foreign = mmap(NULL, 4096, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);

    (void)argc;
    (void)argv;
    all_default();
    start_victim(PROT_READ);
    do_store(foreign);
    return 0;
}

static int sent_ignored(int argc, char **argv)
{
    (void)argc;
    (void)argv;
    all_default();
    signal(SIGBUS, SIG_IGN);
    start_victim(PROT_READ);
    raise(SIGBUS);
    return 0;
}

static int sent_default(int argc, char **argv)
{
    (void)argc;
    (void)argv;
    all_default();
    start_victim(PROT_READ);
    raise(SIGSEGV);
    return 0;
}

static sigjmp_buf plain_jump;
static volatile sig_atomic_t plain_calls;

/* A handler of the old kind, without SA_SIGINFO. */
static void plain_handler(int signo)
{
    (void)signo;
    plain_calls++;
    siglongjmp(plain_jump, 1);
}

static int plain_handlers(int argc, char **argv)
{
    struct victim v;

    (void)argc;
    (void)argv;
    all_default();
    signal(SIGBUS, plain_handler);
    v = start_victim(PROT_READ | PROT_WRITE);
    for (int i = 1; i <= 10; i++) {
        if (sigsetjmp(plain_jump, 1) == 0) {
            do_store(v.map + i * 4096);
            return 2;
        }
        CHILD_CHECK(plain_calls == i);
    }
    CHILD_CHECK(hf_unlink(v.volume, "ballast") == 0);
    return 0;
}

static uint8_t alt_stack[256 << 10];
static volatile sig_atomic_t on_alt_stack;

static void stack_handler(int signo, siginfo_t *info, void *context)
{
    uint8_t here;
    uint8_t *at = &here;

    (void)signo;
    (void)info;
    (void)context;
    on_alt_stack = at >= alt_stack && at < alt_stack + sizeof(alt_stack);
    siglongjmp(plain_jump, 1);
}

/* SA_ONSTACK of the old handler is kept: a stack overflow can be handled as before. */
static int alternate_stack(int argc, char **argv)
{
    struct sigaction act = {.sa_sigaction = stack_handler, .sa_flags = SA_SIGINFO | SA_ONSTACK};
    stack_t stack = {.ss_sp = alt_stack, .ss_size = sizeof(alt_stack)};
    uint8_t *anon = mmap(NULL, 4096, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);

    (void)argc;
    (void)argv;
    all_default();
    CHILD_CHECK(sigaltstack(&stack, NULL) == 0);
    CHILD_CHECK(sigaction(SIGSEGV, &act, NULL) == 0);
    start_victim(PROT_READ);
    if (sigsetjmp(plain_jump, 1) == 0)
        do_store(anon);
    CHILD_CHECK(on_alt_stack);
    return 0;
}

static const struct test_child children[] = {
    {"refused_store", refused_store},
    {"store_beyond_the_end", store_beyond_the_end},
    {"refused_store_ignored", refused_store_ignored},
    {"read_only_store", read_only_store},
    {"foreign_segv", foreign_segv},
    {"foreign_bus", foreign_bus},
    {"sent_ignored", sent_ignored},
    {"sent_default", sent_default},
    {"plain_handlers", plain_handlers},
    {"alternate_stack", alternate_stack},
};

static void without_a_handler_the_process_dies(struct target *t)
{
    (void)t;
    expect_death_by(exec_child("refused_store", NULL), SIGBUS);
    expect_death_by(exec_child("store_beyond_the_end", NULL), SIGBUS);
    expect_death_by(exec_child("refused_store_ignored", NULL), SIGBUS);
    expect_death_by(exec_child("read_only_store", NULL), SIGSEGV);
    expect_death_by(exec_child("foreign_segv", NULL), SIGSEGV);
    expect_death_by(exec_child("foreign_bus", NULL), SIGBUS);
    expect_death_by(exec_child("sent_default", NULL), SIGSEGV);
    expect_exit_0(exec_child("sent_ignored", NULL));
}

static void handlers_of_every_kind(struct target *t)
{
    (void)t;
    expect_exit_0(exec_child("plain_handlers", NULL));
    expect_exit_0(exec_child("alternate_stack", NULL));
}

static const struct test_body bodies[] = {
    BODY(foreign_faults_reach_the_old_handler, ON_HOLDFAST),
    BODY(sent_signals_reach_the_old_handler, ON_HOLDFAST),
    BODY(without_a_handler_the_process_dies, ON(TARGET_MEMFS)),
    BODY(handlers_of_every_kind, ON(TARGET_MEMFS)),
};

MMAP_TEST_MAIN_CHILDREN("signals_are_passed_on", bodies, children)
