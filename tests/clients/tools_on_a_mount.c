/* SPDX-License-Identifier: MIT */
/*
 * tools_on_a_mount.c - holdfast map, grow, stat and top on a mount that is in use, under holdfast run, and where
 * the server is gone or never was.
 */
#include "mounted.h"
#include "target.h"

#include <cjson/cJSON.h>
#include <sys/statvfs.h>

#define BLOCK 1024
#define PAGE 4096
#define VOLUME_BYTES (8 << 20)

static const char *program;
static bool can_run; /* holdfast run: what is preloaded goes into this build's programs */

static int setup(void **state)
{
    return mounted_setup(state, VOLUME_BYTES, BLOCK);
}

static char said[1 << 17];

#define command(...) mounted_command((const char *const[]){__VA_ARGS__, NULL}, said, sizeof(said))

static void expect_said(const char *text)
{
    assert_that(strstr(said, text), "no '%s' in %s", text, said);
}

/* A failure is one line. */
static void expect_refused(int status, const char *why)
{
    assert_that(status == 1, "status %d: %s", status, said);
    expect_said(why);
    assert_that(strchr(said, '\n') == said + strlen(said) - 1, "not one line: %s", said);
}

/* Pages 0 and 1 written and clean, a hole, page 4 dirty, a hole, and a page that straddles. */
static void make_letter(const char *path)
{
    char text[2 * PAGE];
    int fd = open(path, O_RDWR | O_CREAT | O_EXCL | O_CLOEXEC, 0644);

    assert_true(fd >= 0);
    memset(text, 'l', sizeof(text));
    assert_int_equal(pwrite(fd, text, sizeof(text), 0), sizeof(text));
    assert_int_equal(fsync(fd), 0);
    assert_int_equal(pwrite(fd, "d", 1, 4 * PAGE), 1);
    assert_int_equal(ftruncate(fd, 9 * PAGE + 100), 0);
    assert_int_equal(close(fd), 0);
}

static const cJSON *at(const cJSON *object, const char *key)
{
    const cJSON *value = cJSON_GetObjectItemCaseSensitive(object, key);

    assert_that(value, "no %s", key);
    return value;
}

static const char *block_of(const cJSON *run, int block)
{
    return cJSON_GetArrayItem(at(run, "blocks"), block)->valuestring;
}

static void live_file(void **state)
{
    struct mounted *m = *state;
    char path[400];
    const cJSON *runs;
    cJSON *root;

    mounted_start(m, "writeback_ms=3600000,mmap=late");
    snprintf(path, sizeof(path), "%s/letter", m->dir);
    make_letter(path);
    assert_int_equal(command("map", path, "--json"), 0);
    root = cJSON_Parse(said);
    assert_that(root, "not JSON: %s", said);
    assert_true(cJSON_IsTrue(at(root, "live")));
    assert_int_equal(at(root, "page_size")->valueint, PAGE);
    assert_int_equal(at(root, "block_size")->valueint, BLOCK);
    assert_int_equal(at(root, "size")->valueint, 9 * PAGE + 100);
    runs = at(root, "runs");
    assert_string_equal(block_of(cJSON_GetArrayItem(runs, 0), 0), "written");
    assert_int_equal(at(cJSON_GetArrayItem(runs, 0), "count")->valueint, 2);
    assert_string_equal(block_of(cJSON_GetArrayItem(runs, 1), 0), "hole");
    assert_string_equal(at(cJSON_GetArrayItem(runs, 2), "state")->valuestring, "dirty");
    assert_int_equal(at(cJSON_GetArrayItem(runs, 2), "page")->valueint, 4);
    assert_string_equal(block_of(cJSON_GetArrayItem(runs, 2), 0), "dirty");
    assert_true(cJSON_IsTrue(at(cJSON_GetArrayItem(runs, cJSON_GetArraySize(runs) - 1), "straddling")));
    assert_null(cJSON_GetObjectItem(root, "rest_from"));
    cJSON_Delete(root);
    assert_int_equal(command("map", path), 0);
    expect_said(", as the server has it now\n");
    expect_said("dirty");
    assert_int_equal(command("map", path, "--from", "16K", "--runs", "1"), 0);
    expect_said("not all of it: more with --from 20480\n");
    assert_int_equal(command("map", path, "--page-size", "4K"), 2);
    expect_refused(command("map", m->dir), "Is a directory");
    expect_refused(command("map", program), "no file of a mounted volume");
    assert_int_equal(mounted_stop(m), 0);
    /* the same at rest: what was dirty is written */
    assert_int_equal(command("map", m->volume, "/letter", "--json", "--from", "16K", "--runs", "1"), 0);
    expect_said("\"written\"");
    expect_said("\"rest_from\":\t20480");
}

/* A hole of a petabyte is not looked at page by page. */
static void huge_file(void **state)
{
    struct mounted *m = *state;
    char path[400];
    int fd;

    mounted_start(m, "mmap=late");
    snprintf(path, sizeof(path), "%s/huge", m->dir);
    fd = open(path, O_RDWR | O_CREAT | O_CLOEXEC, 0644);
    assert_true(fd >= 0);
    assert_int_equal(ftruncate(fd, (off_t)1 << 50), 0);
    assert_int_equal(pwrite(fd, "x", 1, (off_t)1 << 49), 1);
    assert_int_equal(fsync(fd), 0);
    assert_int_equal(close(fd), 0);
    assert_int_equal(command("map", path), 0);
    expect_said("skipped, not looked at one by one");
    expect_said("562949953421312 - 562949953425407");
    assert_int_equal(mounted_stop(m), 0);
}

static void grows_in_use(void **state)
{
    struct mounted *m = *state;
    struct statvfs before, after;

    mounted_start(m, NULL);
    assert_int_equal(statvfs(m->dir, &before), 0);
    assert_int_equal(command("grow", m->dir, "--size", "16M"), 0);
    expect_said(" blocks more, now room for ");
    assert_int_equal(statvfs(m->dir, &after), 0);
    assert_that(after.f_blocks >= before.f_blocks + (7 << 20) / BLOCK, "%llu blocks, then %llu",
                (unsigned long long)before.f_blocks, (unsigned long long)after.f_blocks);
    assert_int_equal(command("grow", m->dir, "--size", "16M"), 0);
    expect_said("nothing to do: ");
    expect_refused(command("grow", m->dir, "--size", "4M"), "cannot become");
    expect_refused(command("grow", m->volume, "--size", "32M"), "open already");
    assert_int_equal(mounted_stop(m), 0);
    assert_int_equal(command("check", m->volume), 0);
}

static void what_was_agreed(void **state)
{
    struct mounted *m = *state;
    cJSON *root;
    bool allowed, direct;

    mounted_start(m, NULL);
    assert_int_equal(command("stat", m->dir, "--json"), 0);
    root = cJSON_Parse(said);
    assert_that(root, "not JSON: %s", said);
    allowed = cJSON_IsTrue(at(root, "direct_io_allow_mmap"));
    direct = strcmp(at(root, "cache")->valuestring, "direct") == 0;
    assert_true(direct == allowed);
    at(at(at(root, "latency"), "refused"), "p99_ns");
    cJSON_Delete(root);
    assert_int_equal(command("top", m->dir, "--once"), 0);
    expect_said("faults ");
    assert_int_equal(mounted_stop(m), 0);
    mounted_start(m, "cache=kernel");
    assert_int_equal(command("stat", m->dir), 0);
    expect_said("cache                        kernel\n");
    assert_int_equal(mounted_stop(m), 0);
}

static void nobody_serves(void **state)
{
    struct mounted *m = *state;
    const char *none = "no volume is mounted there";

    expect_refused(command("stat", m->dir), none);
    expect_refused(command("top", m->dir), none);
    expect_refused(command("grow", m->dir, "--size", "16M"), none);
    expect_refused(command("stat", "/nonexistent"), "No such file");
    mounted_start(m, NULL);
    kill(m->server, SIGKILL);
    assert_int_equal(mounted_wait(m), 128 + SIGKILL);
    for (const char *const *name = (const char *const[]){"stat", "top", "grow", "umount", NULL}; *name;
         name++)
        expect_refused(command(*name, m->dir), "its server is gone");
}

/* The server of holdfast run: the same, from inside. */
static void under_run(void **state)
{
    static const char script[] =
        "set -e; printf letter > letter; truncate -s 1M letter\n"
        "\"$0\" map letter; \"$0\" grow . --size 24M; \"$0\" stat .; \"$0\" top . --once";

    (void)state;
    if (!can_run)
        skip();
    assert_int_equal(command("run", "--size", "8M", "--inside", "--", "sh", "-c", script, program), 0);
    expect_said("letter: 1048576 bytes (1 MiB), ");
    expect_said(", as the server has it now\n");
    expect_said(" blocks more, now room for ");
    expect_said("latency_store ");
    expect_said("  /letter\n");
}

#define CASE(fn) cmocka_unit_test_setup_teardown(fn, setup, mounted_teardown)

int main(int argc, char **argv)
{
    const struct CMUnitTest tests[] = {
        CASE(live_file),       CASE(huge_file),     CASE(grows_in_use),
        CASE(what_was_agreed), CASE(nobody_serves), CASE(under_run),
    };
    const char *refused = argc > 1 ? mounted_init(argv[1]) : "no holdfast command given";

    if (refused) {
        printf("skipped: nothing can be mounted: %s\n", refused);
        return 77;
    }
    program = realpath(argv[1], NULL); /* it is run elsewhere */
    assert_non_null(program);
    can_run = argc > 2 && strcmp(argv[2], "run") == 0;
    return cmocka_run_group_tests_name("tools_on_a_mount", tests, NULL, NULL);
}
