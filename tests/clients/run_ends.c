/* SPDX-License-Identifier: MIT */
/*
 * run_ends.c - holdfast run: how it ends. What is sent to it reaches the program; if it is killed, its server
 * keeps everything and leaves nothing behind; its status says why a program was not run.
 */
#include "mounted.h"
#include "target.h"

#include <signal.h>
#include <time.h>

#define TRIES 3000 /* of 20 ms */
#define SAID_MAX 4096

static struct mounted own; /* only its volume and directory: run serves it */
static char said[SAID_MAX];

static int setup(void **state)
{
    (void)state;
    mounted_make(&own, 2 << 20, 0);
    return 0;
}

static int teardown(void **state)
{
    (void)state;
    mounted_clear(&own);
    return 0;
}

/* A shell under holdfast run on the volume, whose parent is holdfast run itself. */
static void expect_script(const char *script, int status)
{
    const char *args[] = {"run", "--volume", own.volume, "--at", own.dir, "--", "sh", "-uc", script, NULL};
    int got = mounted_command(args, said, sizeof(said));

    assert_that(got == status, "%s: status %d, not %d; it said: %s", script, got, status, said);
}

static void expect_program(const char *with, const char *program, int status)
{
    const char *args[] = {"run", "--volume", own.volume, "--at", own.dir, with, "--", program, NULL};
    int got = mounted_command(args, said, sizeof(said));

    assert_that(got == status, "%s: status %d, not %d; it said: %s", program, got, status, said);
}

/* Does it come true within a minute? */
static bool comes(bool (*is_so)(void))
{
    const struct timespec pause = {.tv_nsec = 20 * 1000 * 1000};

    for (int i = 0; i < TRIES; i++) {
        if (is_so())
            return true;
        nanosleep(&pause, NULL);
    }
    return false;
}

static bool is_kept(void)
{
    const char *cat[] = {"cat", own.volume, "f", NULL};

    return mounted_command(cat, said, sizeof(said)) == 0; /* not as long as somebody serves it */
}

static char place[256];

static bool is_gone(void)
{
    return access(place, F_OK) < 0 && errno == ENOENT;
}

/* ------------------------------------------------------------------ tests */

static void signals_reach_the_program(void **state)
{
    static const char *const names[] = {"TERM", "HUP", "INT", "QUIT"};
    char script[200];

    (void)state;
    for (size_t i = 0; i < sizeof(names) / sizeof(names[0]); i++) {
        snprintf(
            script, sizeof(script),
            "trap 'echo %s >\"$HOLDFAST_DIR/f\"; exit 5' %s; kill -%s $PPID; while :; do sleep 0.02; done",
            names[i], names[i], names[i]);
        expect_script(script, 5);
        assert_true(is_kept());
        assert_int_equal(strncmp(said, names[i], strlen(names[i])), 0);
    }
    expect_script("kill -TERM $PPID; while :; do sleep 0.02; done", 128 + SIGTERM);
    assert_true(is_kept());
}

static void killed_it_keeps_everything(void **state)
{
    (void)state;
    expect_script("echo kept >\"$HOLDFAST_DIR/f\"; kill -KILL $PPID", 128 + SIGKILL);
    assert_true(comes(is_kept));
    assert_string_equal(said, "kept\n");
}

static void killed_it_leaves_nothing(void **state)
{
    const char *args[] = {
        "run", "--size", "2M", "--", "sh", "-uc", "printf %s \"$HOLDFAST_DIR\"; kill -KILL $PPID", NULL};

    (void)state;
    assert_int_equal(mounted_command(args, place, sizeof(place)), 128 + SIGKILL);
    assert_that(place[0] == '/' && strrchr(place, '/') > place + 5, "it said: %s", place);
    *strrchr(place, '/') = '\0';
    assert_true(comes(is_gone));
}

static void programs_on_the_volume(void **state)
{
    char path[400];

    (void)state;
    expect_script("printf '#!/bin/sh\\nexit 9\\n' >\"$HOLDFAST_DIR/p\"; chmod 755 \"$HOLDFAST_DIR/p\"", 0);
    expect_program("--inside", "./p", 9);
    snprintf(path, sizeof(path), "%s/p", own.dir);
    expect_program("--stats", path, 9);
}

static void programs_that_cannot_be_run(void **state)
{
    (void)state;
    expect_program("--inside", "./none", 127);
    expect_program("--inside", "no-such-program-anywhere", 127);
    expect_program("--inside", "/dev/null", 126);
}

static void places_that_cannot_be_used(void **state)
{
    const char *run[] = {"run", "--at", own.volume, "--", "true", NULL};
    const char *mount[] = {"mount", own.volume, own.volume, NULL};
    const char *there[] = {"info", own.volume, NULL};
    char spaced[400];

    (void)state;
    assert_int_equal(mounted_command(run, said, sizeof(said)), 1);
    assert_non_null(strstr(said, strerror(ENOTDIR)));
    assert_int_equal(mounted_command(mount, said, sizeof(said)), 1);
    assert_non_null(strstr(said, strerror(ENOTDIR)));
    assert_int_equal(mounted_command(there, said, sizeof(said)), 0);
    /* LD_PRELOAD has no way to name it */
    snprintf(spaced, sizeof(spaced), "%s/a library.so", own.dir);
    assert_int_equal(close(open(spaced, O_WRONLY | O_CREAT | O_CLOEXEC, 0755)), 0);
    assert_int_equal(setenv("HOLDFAST_PRELOAD", spaced, 1), 0);
    run[2] = own.dir;
    assert_int_equal(mounted_command(run, said, sizeof(said)), 1);
    assert_non_null(strstr(said, "space or colon"));
    assert_int_equal(unsetenv("HOLDFAST_PRELOAD"), 0);
    assert_int_equal(unlink(spaced), 0);
}

int main(int argc, char **argv)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(signals_reach_the_program, setup, teardown),
        cmocka_unit_test_setup_teardown(killed_it_keeps_everything, setup, teardown),
        cmocka_unit_test(killed_it_leaves_nothing),
        cmocka_unit_test_setup_teardown(programs_on_the_volume, setup, teardown),
        cmocka_unit_test_setup_teardown(programs_that_cannot_be_run, setup, teardown),
        cmocka_unit_test_setup_teardown(places_that_cannot_be_used, setup, teardown),
    };
    const char *why;

    /* a shell cannot trap what was ignored before it (nohup, background jobs) */
    for (const int *s = (const int[]){SIGTERM, SIGHUP, SIGINT, SIGQUIT, 0}; *s != 0; s++)
        signal(*s, SIG_DFL);
    why = argc == 2 ? mounted_init(argv[1]) : "usage: run_ends HOLDFAST";

    if (why) {
        printf("skipped: %s\n", why);
        return 77;
    }
    return cmocka_run_group_tests(tests, NULL, NULL);
}
