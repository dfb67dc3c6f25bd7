/* SPDX-License-Identifier: MIT */
/*
 * maintain.c - holdfast check, dump, label and uuid as commands: what they print, and their exit statuses.
 */
#include "check.h"
#include "cli_run.h"

#include <cjson/cJSON.h>
#include <fcntl.h>
#include <holdfast/maintain.h>

static char dir[] = "/tmp/holdfast-maintain-XXXXXX";
static char box[64];

/* Runs it; the status must be this. */
static struct cli_run run(int status, const char *const *args)
{
    struct cli_run done = cli_run(NULL, args);

    assert_that(done.status == status, "holdfast %s: status %d: %s%s", args[0], done.status, done.out,
                done.err);
    return done;
}

static void run_only(int status, const char *const *args)
{
    struct cli_run done = run(status, args);

    cli_run_free(&done);
}

#define ARGS(...) ((const char *const[]){__VA_ARGS__, NULL})

static void flip(off_t off)
{
    int fd = open(box, O_RDWR);
    char byte;

    assert_true(fd >= 0);
    assert_int_equal(pread(fd, &byte, 1, off), 1);
    byte ^= 0x55;
    assert_int_equal(pwrite(fd, &byte, 1, off), 1);
    close(fd);
}

static int setup(void **state)
{
    (void)state;
    assert_non_null(mkdtemp(dir));
    snprintf(box, sizeof(box), "%s/box.hf", dir);
    run_only(0, ARGS("mkfs", box, "--size", "4M", "--label", "first"));
    run_only(0, ARGS("mkdir", box, "/letters"));
    return 0;
}

static int teardown(void **state)
{
    (void)state;
    unlink(box);
    rmdir(dir);
    return 0;
}

static void check_has_the_statuses_of_fsck(void **state)
{
    struct cli_run done = run(0, ARGS("check", box));
    cJSON *root;

    (void)state;
    assert_non_null(strstr(done.out, "clean"));
    assert_string_equal(done.err, "");
    cli_run_free(&done);
    run_only(16, ARGS("check"));
    run_only(16, ARGS("check", box, "--nonsense"));
    run_only(8, ARGS("check", "/nonexistent/volume"));
    flip(100);
    done = run(4, ARGS("check", box));
    assert_non_null(strstr(done.out, "primary header"));
    assert_non_null(strstr(done.out, "repair: "));
    cli_run_free(&done);
    done = run(4, ARGS("check", box, "--json"));
    root = cJSON_Parse(done.out);
    assert_non_null(root);
    assert_true(cJSON_IsFalse(cJSON_GetObjectItem(root, "clean")));
    assert_int_equal(cJSON_GetArraySize(cJSON_GetObjectItem(root, "problems")), 1);
    cJSON_Delete(root);
    cli_run_free(&done);
    run_only(1, ARGS("check", box, "--repair"));
    run_only(0, ARGS("check", box, "--repair"));
    run_only(0, ARGS("check", box));
}

static void label_and_uuid(void **state)
{
    struct cli_run done = run(0, ARGS("label", box)), again;

    (void)state;
    assert_string_equal(done.out, "first\n");
    cli_run_free(&done);
    run_only(0, ARGS("label", box, "second"));
    done = run(0, ARGS("label", box));
    assert_string_equal(done.out, "second\n");
    cli_run_free(&done);
    run_only(1, ARGS("label", box,
                     "a label of many more than sixty-three bytes, which is what there is room for"));
    run_only(2, ARGS("label"));
    done = run(0, ARGS("uuid", box));
    assert_int_equal(strlen(done.out), 37);
    again = run(0, ARGS("uuid", box, "random"));
    assert_string_not_equal(done.out, again.out);
    cli_run_free(&again);
    again = run(0, ARGS("uuid", box, "6BA7B810-9dad-41d1-80b4-00c04fd430c8"));
    assert_string_equal(again.out, "6ba7b810-9dad-41d1-80b4-00c04fd430c8\n");
    cli_run_free(&again);
    cli_run_free(&done);
    run_only(2, ARGS("uuid", box, "6ba7b810"));
    run_only(2, ARGS("uuid", box, "6ba7b810-9dad-41d1-80b4-00c04fd430c8f"));
    done = run(0, ARGS("uuid", box));
    assert_string_equal(done.out, "6ba7b810-9dad-41d1-80b4-00c04fd430c8\n");
    cli_run_free(&done);
    run_only(0, ARGS("check", box));
}

static void dump_in_three_ways(void **state)
{
    struct cli_run done = run(0, ARGS("dump", box));
    cJSON *root, *row;

    (void)state;
    assert_non_null(strstr(done.out, "header"));
    assert_non_null(strstr(done.out, "name='letters'"));
    assert_non_null(strstr(done.out, "mode=040755"));
    assert_non_null(strstr(done.out, "CREATE TABLE extents"));
    cli_run_free(&done);
    done = run(0, ARGS("dump", box, "--table", "names"));
    assert_non_null(strstr(done.out, "name='letters'"));
    assert_null(strstr(done.out, "CREATE TABLE inodes"));
    cli_run_free(&done);
    done = run(0, ARGS("dump", box, "--sql"));
    assert_non_null(strstr(done.out, "INSERT INTO names VALUES(1,"));
    assert_non_null(strstr(done.out, "x'6c657474657273'"));
    assert_non_null(strstr(done.out, "COMMIT;"));
    cli_run_free(&done);
    done = run(0, ARGS("dump", box, "--json"));
    root = cJSON_Parse(done.out);
    assert_that(root != NULL, "not JSON: %s", done.out);
    row = cJSON_GetArrayItem(cJSON_GetObjectItem(root, "names"), 0);
    assert_string_equal(cJSON_GetStringValue(cJSON_GetObjectItem(row, "name")), "letters");
    cJSON_Delete(root);
    cli_run_free(&done);
    done = run(1, ARGS("dump", box, "--table", "nothing"));
    assert_non_null(strstr(done.err, "there is no table 'nothing'"));
    cli_run_free(&done);
}

static double number(const cJSON *object, const char *key)
{
    const cJSON *item = cJSON_GetObjectItemCaseSensitive(object, key);

    assert_that(cJSON_IsNumber(item), "%s is missing", key);
    return item->valuedouble;
}

static void info_says_what_the_header_does(void)
{
    struct cli_run done = run(0, ARGS("info", box, "--json"));
    cJSON *root = cJSON_Parse(done.out), *data;
    struct hf_header_info info;

    assert_that(root != NULL, "not JSON: %s", done.out);
    assert_ok(hf_header_read(box, &info));
    assert_true(cJSON_IsFalse(cJSON_GetObjectItem(root, "thin")));
    assert_true(cJSON_IsFalse(cJSON_GetObjectItem(root, "primary_header_damaged")));
    assert_true(number(root, "version") == info.version);
    assert_true(number(root, "generation") == (double)info.generation);
    assert_true(number(root, "created_ns") == (double)info.created_ns);
    assert_true(number(root, "volume_bytes") == 8 << 20);
    assert_true(number(root, "device_bytes") == 8 << 20);
    assert_true(number(cJSON_GetObjectItem(root, "features"), "incompat") == (double)info.incompat);
    assert_int_equal(cJSON_GetArraySize(cJSON_GetObjectItem(root, "metadata")), 2);
    data = cJSON_GetObjectItem(root, "data");
    assert_true(number(data, "offset") == (double)info.data_off);
    assert_true(number(data, "bytes") == (double)info.data_len);
    assert_true(number(root, "blocks_used") + number(root, "blocks_free") + number(root, "blocks_reserved") ==
                number(root, "blocks"));
    assert_true(number(cJSON_GetObjectItem(root, "quota_limits"), "user") == 0);
    cJSON_Delete(root);
    cli_run_free(&done);
}

static void grow_and_trim(void **state)
{
    struct cli_run done = run(0, ARGS("grow", box, "--size", "8M"));

    (void)state;
    assert_non_null(strstr(done.out, "from 4 MiB to 8 MiB"));
    cli_run_free(&done);
    done = run(0, ARGS("grow", box));
    assert_non_null(strstr(done.out, "nothing to do"));
    cli_run_free(&done);
    run_only(1, ARGS("grow", box, "--size", "4M"));
    run_only(2, ARGS("grow", box, "--size", "much"));
    done = run(0, ARGS("info", box));
    assert_non_null(strstr(done.out, "in 2 parts"));
    cli_run_free(&done);
    info_says_what_the_header_does();
    done = run(1, ARGS("trim", box));
    assert_non_null(strstr(done.err, "thick"));
    cli_run_free(&done);
    run_only(0, ARGS("mkfs", "--force", "--thin", "--size", "4M", box));
    done = run(0, ARGS("trim", box, "--minimum", "64K"));
    assert_non_null(strstr(done.out, "MiB are free"));
    cli_run_free(&done);
    run_only(2, ARGS("trim", box, "--minimum", "little"));
    done = run(1, ARGS("trim", "/dev"));
    assert_non_null(strstr(done.err, "no volume is mounted there"));
    cli_run_free(&done);
    run_only(0, ARGS("check", box));
}

int main(int argc, char **argv)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(check_has_the_statuses_of_fsck),
        cmocka_unit_test(label_and_uuid),
        cmocka_unit_test(dump_in_three_ways),
        cmocka_unit_test(grow_and_trim),
    };

    assert_true(argc == 2);
    cli_program(argv[1]);
    return cmocka_run_group_tests(tests, setup, teardown);
}
