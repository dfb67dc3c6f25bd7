/* SPDX-License-Identifier: MIT */
/*
 * quota.c - holdfast quota as a command: limits set by name and number, shown, met, and projects of trees.
 */
#include "check.h"
#include "cli_run.h"

#include <cjson/cJSON.h>
#include <fcntl.h>

static char dir[] = "/tmp/holdfast-quota-XXXXXX";
static char box[64], host[64];

static struct cli_run run(int status, const char *const *args)
{
    struct cli_run done = cli_run(NULL, args);

    assert_that(done.status == status, "holdfast %s: status %d: %s%s", args[0], done.status, done.out,
                done.err);
    return done;
}

#define ARGS(...) ((const char *const[]){__VA_ARGS__, NULL})

/* The command ends with that status, and says these words, on stdout if it is 0, else on stderr. */
static void says(int status, const char *words, const char *const *args)
{
    struct cli_run done = run(status, args);
    const char *text = status == 0 ? done.out : done.err;

    assert_that(strstr(text, words) != NULL, "no \"%s\" in: %s", words, text);
    assert_that(status == 0 || strchr(text, '\n') == strrchr(text, '\n'), "more than a line: %s", text);
    cli_run_free(&done);
}

/* An entry of show --json; the caller frees *ret_root. */
static const cJSON *entry_of(const char *type, double id, cJSON **ret_root)
{
    struct cli_run done = run(0, ARGS("quota", box, "--json"));
    const cJSON *entry, *found = NULL;

    *ret_root = cJSON_Parse(done.out);
    assert_non_null(*ret_root);
    cJSON_ArrayForEach (entry, cJSON_GetObjectItem(*ret_root, "quotas")) {
        if (strcmp(cJSON_GetStringValue(cJSON_GetObjectItem(entry, "type")), type) == 0 &&
            cJSON_GetNumberValue(cJSON_GetObjectItem(entry, "id")) == id)
            found = entry;
    }
    cli_run_free(&done);
    return found;
}

static double amount(const char *type, double id, const char *what, const char *key)
{
    cJSON *root;
    const cJSON *entry = entry_of(type, id, &root);
    double value =
        entry ? cJSON_GetNumberValue(cJSON_GetObjectItem(cJSON_GetObjectItem(entry, what), key)) : -1;

    cJSON_Delete(root);
    return value;
}

static int setup(void **state)
{
    char bytes[20000];
    int fd;

    (void)state;
    assert_non_null(mkdtemp(dir));
    snprintf(box, sizeof(box), "%s/box.hf", dir);
    snprintf(host, sizeof(host), "%s/letter", dir);
    memset(bytes, 'l', sizeof(bytes));
    fd = open(host, O_WRONLY | O_CREAT, 0600);
    assert_int_equal(write(fd, bytes, sizeof(bytes)), sizeof(bytes));
    close(fd);
    says(0, "", ARGS("mkfs", box, "--size", "4M"));
    says(0, "", ARGS("mkdir", box, "/letters"));
    says(0, "", ARGS("put", box, host, "/letters/a"));
    return 0;
}

static int teardown(void **state)
{
    (void)state;
    unlink(box);
    unlink(host);
    rmdir(dir);
    return 0;
}

static void limits_are_set_and_shown(void **state)
{
    (void)state;
    says(0, "root (0)",
         ARGS("quota", box, "set", "user", "root", "--blocks-soft", "100000", "--blocks-hard", "1M"));
    says(0, "root (0)", ARGS("quota", box, "set", "group", "0", "--inodes-hard", "77", "--grace", "2h"));
    assert_int_equal(amount("user", 0, "blocks", "soft"), 25); /* blocks of 4096, rounded up */
    assert_int_equal(amount("user", 0, "blocks", "hard"), 256);
    assert_int_equal(amount("group", 0, "inodes", "hard"), 77);
    says(0, "", ARGS("quota", box, "set", "user", "0", "--blocks-soft", "none", "--inodes-soft", "9"));
    assert_int_equal(amount("user", 0, "blocks", "soft"), 0); /* the others stay */
    assert_int_equal(amount("user", 0, "blocks", "hard"), 256);
    assert_int_equal(amount("user", 0, "inodes", "soft"), 9);
    says(0, "1 MiB", ARGS("quota", box));
    says(0, "user", ARGS("quota", box, "show"));
    says(0, "the sums of all", ARGS("quota", box, "check"));
}

static void projects_of_trees(void **state)
{
    (void)state;
    says(0, "2 inodes are in project 7", ARGS("quota", box, "project", "7", "/letters"));
    assert_int_equal(amount("project", 7, "blocks", "used"), 5);
    assert_int_equal(amount("project", 7, "inodes", "used"), 2);
    says(0, "", ARGS("put", box, host, "/letters/b"));
    assert_int_equal(amount("project", 7, "blocks", "used"), 10);
    says(0, "7", ARGS("quota", box, "set", "project", "7", "--blocks-hard", "48K"));
    says(1, "Disk quota exceeded", ARGS("put", box, host, "/letters/c"));
    says(0, "", ARGS("put", box, host, "/c"));
    says(0, "", ARGS("mkdir", box, "/letters/sub"));
    says(0, "", ARGS("quota", box, "project", "0", "/letters"));
    assert_int_equal(amount("project", 7, "blocks", "used"), 0);
    says(0, "", ARGS("quota", box, "check"));
}

static void wrong_usage(void **state)
{
    (void)state;
    says(2, "not one of user", ARGS("quota", box, "set", "robot", "1", "--blocks-hard", "1M"));
    says(2, "no user 'no-such-user-here'",
         ARGS("quota", box, "set", "user", "no-such-user-here", "--blocks-hard", "1M"));
    says(2, "4294967295", ARGS("quota", box, "set", "project", "4294967296", "--blocks-hard", "1M"));
    says(2, "no size", ARGS("quota", box, "set", "user", "1", "--blocks-hard", "much"));
    says(2, "no number of inodes", ARGS("quota", box, "set", "user", "1", "--inodes-hard", "-3"));
    says(2, "no grace time", ARGS("quota", box, "set", "user", "1", "--inodes-hard", "3", "--grace", "soon"));
    says(2, "no grace time",
         ARGS("quota", box, "set", "user", "1", "--inodes-hard", "3", "--grace", "200000w"));
    says(2, "above the hard one",
         ARGS("quota", box, "set", "user", "1", "--blocks-hard", "1M", "--blocks-soft", "2M"));
    says(2, "set wants a limit", ARGS("quota", box, "set", "user", "1"));
    says(2, "limits go with set", ARGS("quota", box, "check", "--blocks-hard", "1M"));
    says(2, "not one of show", ARGS("quota", box, "sing"));
    says(2, "a number and a directory", ARGS("quota", box, "project", "5"));
    says(2, "--json goes with show", ARGS("quota", box, "check", "--json"));
    says(1, "cannot move /nowhere", ARGS("quota", box, "project", "5", "/nowhere"));
    says(1, "not supported", ARGS("quota", "mem:1M", "check"));
    says(0, "EDQUOT", ARGS("quota", "--help"));
}

int main(int argc, char **argv)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(limits_are_set_and_shown),
        cmocka_unit_test(projects_of_trees),
        cmocka_unit_test(wrong_usage),
    };

    if (argc != 2)
        return 1;
    cli_program(argv[1]);
    return cmocka_run_group_tests(tests, setup, teardown);
}
