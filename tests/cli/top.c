/* SPDX-License-Identifier: MIT */
/*
 * top.c - holdfast top and holdfast stat show what a mount's server says. The server here is fake_server.c.
 */
#include "check.h"
#include "cli_run.h"
#include "fake_server.h"

#include <cjson/cJSON.h>

/* Each text stands in out, after the one before it. */
static void expect_in_order(const char *out, const char *const *texts)
{
    for (; *texts; texts++) {
        const char *at = strstr(out, *texts);

        assert_that(at, "no '%s' in %s", *texts, out);
        out = at + strlen(*texts);
    }
}

static void one_report(void **state)
{
    static const char *const args[] = {"top", FAKE_DIR, "--once", NULL};
    static const char *const texts[] = {"box\\x1b.hf on /mnt/box, server 4711\n",
                                        "cache 20 KiB, of it dirty 8 KiB\n",
                                        "  store, page was clean           100",
                                        "2.0 us     5.1 us  over 34 s\n",
                                        "requests of the kernel\n",
                                        "  write                  9",
                                        "41         4         0",
                                        "12 KiB      8 KiB      8 KiB     2  /a dir/busy\\x0aname\n",
                                        "9         0         3",
                                        "  inode 8\n",
                                        "  /idle\n",
                                        "50        49         3          2          3",
                                        "77  a db\n",
                                        "78  gone (closed its connection)\n",
                                        NULL};
    struct cli_run run = cli_run(NULL, args);

    (void)state;
    assert_that(run.status == 0, "status %d: %s", run.status, run.err);
    expect_in_order(run.out, texts);
    assert_null(strstr(run.out, "  open "));
    assert_null(strstr(run.out, "/s"));
    cli_run_free(&run);
}

static void sorted_and_cut(void **state)
{
    static const char *const dirty[] = {"top", FAKE_DIR, "--once", "--sort", "dirty", NULL};
    static const char *const refused[] = {"top", FAKE_DIR, "--once", "-s", "refused", "--lines", "1", NULL};
    static const char *const by_dirty[] = {"  /idle\n", "  /a dir/busy", "  inode 8\n", NULL};
    static const char *const by_refused[] = {"file, 1 of 3\n", "  inode 8\n", "process, 1 of 2\n", "a db\n",
                                             NULL};
    struct cli_run run = cli_run(NULL, dirty);

    (void)state;
    assert_count(run.status, 0);
    expect_in_order(run.out, by_dirty);
    cli_run_free(&run);
    run = cli_run(NULL, refused);
    assert_count(run.status, 0);
    expect_in_order(run.out, by_refused);
    assert_null(strstr(run.out, "/idle"));
    cli_run_free(&run);
}

/* What a server says that does not know files and processes. */
static void an_older_server(void **state)
{
    static const char *const args[] = {"top", FAKE_DIR, "--once", NULL};
    struct cli_run run = cli_run(NULL, args);

    (void)state;
    assert_that(run.status == 0, "status %d: %s", run.status, run.err);
    assert_non_null(strstr(run.out, "cache 20 KiB, of it dirty 8 KiB\n"));
    assert_null(strstr(run.out, "process"));
    cli_run_free(&run);
}

static const cJSON *at(const cJSON *object, const char *key)
{
    const cJSON *value = cJSON_GetObjectItemCaseSensitive(object, key);

    assert_that(value, "no %s", key);
    return value;
}

static void expect_items(const cJSON *root, int asked)
{
    const cJSON *file = cJSON_GetArrayItem(at(root, "files"), 0), *client = at(root, "clients")->child;

    assert_count(cJSON_GetArraySize(at(root, "files")), 3);
    assert_count(cJSON_GetArraySize(at(root, "clients")), 2);
    assert_string_equal(at(file, "path")->valuestring, "/a dir/busy\nname");
    assert_true(at(file, "faults_store")->valuedouble == 40 + 20 * asked);
    assert_string_equal(at(client, "command")->valuestring, "a db");
    assert_true(at(client, "pid")->valuedouble == 77);
    assert_true(at(at(at(root, "latency"), "store"), "p50_ns")->valuedouble == 2048);
    if (asked > 0)
        assert_true(at(at(file, "per_second"), "faults_store")->valuedouble > 0);
}

static void reports_with_rates(void **state)
{
    static const char *const args[] = {"top", FAKE_DIR, "--json", "--count", "3", "--interval", "0.05", NULL};
    struct cli_run run = cli_run(NULL, args);
    double before = 0;
    int lines = 0;

    (void)state;
    assert_that(run.status == 0, "status %d: %s", run.status, run.err);
    for (char *line = strtok(run.out, "\n"); line; line = strtok(NULL, "\n"), lines++) {
        cJSON *root = cJSON_Parse(line), *total, *rate;

        assert_that(root, "not JSON: %s", line);
        total = cJSON_GetObjectItem(cJSON_GetObjectItem(root, "total"), "faults_store");
        rate = cJSON_GetObjectItem(cJSON_GetObjectItem(root, "per_second"), "faults_store");
        if (lines > 0) {
            assert_true(total->valuedouble == before + 50);
            assert_that(rate->valuedouble > 0 && rate->valuedouble < 1001, "rate %f", rate->valuedouble);
        } else {
            assert_null(rate);
        }
        before = total->valuedouble;
        expect_items(root, lines);
        assert_non_null(strstr(line, "\"new_counter\":18446744073709551615"));
        cJSON_Delete(root);
    }
    assert_count(lines, 3);
    cli_run_free(&run);
}

static void drawn_anew_on_a_terminal(void **state)
{
    static const char *const args[] = {"top", FAKE_DIR, "-n", "2", "-i", "0.05", NULL};
    static const char *const texts[] = {"\033[H", "box\\x1b.hf", "\033[J", "\033[H", "/s", "\033[J", NULL};
    struct cli_run run;

    (void)state;
    setenv("TERM", "xterm", 1);
    run = cli_run_on_terminal(args);
    if (run.status == CLI_CANNOT || run.status < 0) {
        cli_run_free(&run);
        skip();
    }
    assert_count(run.status, 0);
    expect_in_order(run.out, texts); /* and a name cannot drive the terminal */
    cli_run_free(&run);
}

/* A screen of few rows is not overrun, and q ends it, long before the next report. */
static void a_small_screen_and_q(void **state)
{
    static const char *const args[] = {"top", FAKE_DIR, "-i", "3600", NULL};
    const char *end;
    unsigned rows = 0;
    struct cli_run run;

    (void)state;
    setenv("TERM", "xterm", 1);
    run = cli_run_with_keys(args, "dxq", 12);
    if (run.status == CLI_CANNOT || run.status < 0) {
        cli_run_free(&run);
        skip();
    }
    assert_count(run.status, 0);
    assert_non_null(strstr(run.out, "q quits"));
    end = strstr(run.out, "\033[J");
    assert_non_null(end);
    for (const char *c = strstr(run.out, "\033[H"); c < end; c++)
        rows += *c == '\n';
    assert_that(rows > 5 && rows < 12, "%u rows", rows);
    cli_run_free(&run);
}

static void stat_as_json(void **state)
{
    static const char *const args[] = {"stat", FAKE_DIR, "--json", NULL};
    struct cli_run run = cli_run(NULL, args);
    cJSON *root = cJSON_Parse(run.out);
    const cJSON *store;

    (void)state;
    assert_that(run.status == 0, "status %d: %s", run.status, run.err);
    assert_that(root, "not JSON: %s", run.out);
    store = at(at(root, "latency"), "store");
    assert_true(at(store, "count")->valuedouble == 100);
    assert_true(at(store, "sum_ns")->valuedouble == 200000);
    assert_true(at(store, "p50_ns")->valuedouble == 2048);
    assert_true(at(store, "p99_ns")->valuedouble == 5120);
    assert_count(cJSON_GetArraySize(at(store, "buckets")), 3);
    assert_true(at(at(at(root, "latency"), "load"), "count")->valuedouble == 0);
    assert_string_equal(at(root, "latency_new")->valuestring, "3 2:1"); /* of a newer server */
    cJSON_Delete(root);
    cli_run_free(&run);
}

static void stat_for_people(void **state)
{
    static const char *const args[] = {"stat", FAKE_DIR, NULL};
    struct cli_run run = cli_run(NULL, args);

    (void)state;
    assert_that(run.status == 0, "status %d: %s", run.status, run.err);
    assert_non_null(strstr(run.out,
                           "latency_store                100 faults: half within 2.0 us, 90% 2.0 us, "
                           "99% 5.1 us\n"));
    assert_non_null(strstr(run.out, "latency_load                 none\n"));
    cli_run_free(&run);
}

/* One TYPE a metric, its series below it, buckets that grow and end with all. */
static void stat_for_prometheus(void **state)
{
    static const char *const args[] = {"stat", FAKE_DIR, "--prometheus", NULL};
    struct cli_run run = cli_run(NULL, args);
    const char *type = "# TYPE holdfast_fault_latency_seconds histogram\n", *first = strstr(run.out, type);

    (void)state;
    assert_that(run.status == 0, "status %d: %s", run.status, run.err);
    assert_non_null(first);
    assert_null(strstr(first + 1, type));
    for (const char *const *line =
             (const char *const[]){"_bucket{kind=\"load\",le=\"+Inf\"} 0\n", "_count{kind=\"load\"} 0\n",
                                   "_bucket{kind=\"store\",le=\"1.024e-06\"} 0\n",
                                   "_bucket{kind=\"store\",le=\"2.048e-06\"} 90\n",
                                   "_bucket{kind=\"store\",le=\"8.192e-06\"} 99\n",
                                   "_bucket{kind=\"store\",le=\"34.3597384\"} 99\n",
                                   "_bucket{kind=\"store\",le=\"+Inf\"} 100\n",
                                   "_sum{kind=\"store\"} 0.000200000\n", "_count{kind=\"store\"} 100\n",
                                   NULL};
         *line; line++)
        assert_that(strstr(first, *line), "no %s in %s", *line, first);
    assert_non_null(strstr(run.out, "# TYPE holdfast_blocks_free gauge\nholdfast_blocks_free 600\n"));
    cli_run_free(&run);
}

static void wrong_and_nobody(void **state)
{
    static const char *const wrong[][6] = {{"top", NULL},
                                           {"top", FAKE_DIR, "-n", "0", NULL},
                                           {"top", FAKE_DIR, "-i", "nan", NULL},
                                           {"top", FAKE_DIR, "-s", "size", NULL},
                                           {"top", FAKE_DIR, "-l", "0", NULL},
                                           {"top", FAKE_DIR, "/x", NULL}};
    static const char *const nobody[] = {"top", "/dev/null", NULL};
    static const char *const nowhere[] = {"top", "/nonexistent", NULL};
    struct cli_run run;

    (void)state;
    for (size_t i = 0; i < sizeof(wrong) / sizeof(wrong[0]); i++) {
        run = cli_run(NULL, wrong[i]);
        assert_count(run.status, 2);
        cli_run_free(&run);
    }
    run = cli_run(NULL, nobody);
    assert_count(run.status, 1);
    assert_non_null(strstr(run.err, "no volume is mounted there"));
    cli_run_free(&run);
    run = cli_run(NULL, nowhere);
    assert_count(run.status, 1);
    assert_non_null(strstr(run.err, "No such file"));
    cli_run_free(&run);
}

/* Anybody may take the address of a server; root does not take its word, for umount above all. */
static void strangers_are_not_believed(void **state)
{
    static const char *const stat[] = {"stat", FAKE_DIR, NULL};
    struct cli_run run;

    if (getuid() != 0 || seteuid(65534) < 0)
        skip();
    assert_int_equal(seteuid(0), 0);
    assert_int_equal(fake_server_start_as(65534), 0);
    run = cli_run(NULL, stat);
    fake_server_stop(state);
    assert_count(run.status, 1);
    assert_non_null(strstr(run.err, "whose mount it is"));
    cli_run_free(&run);
}

int main(int argc, char **argv)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(one_report, fake_server_start, fake_server_stop),
        cmocka_unit_test_setup_teardown(sorted_and_cut, fake_server_start, fake_server_stop),
        cmocka_unit_test_setup_teardown(an_older_server, fake_server_start_old, fake_server_stop),
        cmocka_unit_test_setup_teardown(reports_with_rates, fake_server_start, fake_server_stop),
        cmocka_unit_test_setup_teardown(drawn_anew_on_a_terminal, fake_server_start, fake_server_stop),
        cmocka_unit_test_setup_teardown(a_small_screen_and_q, fake_server_start, fake_server_stop),
        cmocka_unit_test_setup_teardown(stat_as_json, fake_server_start, fake_server_stop),
        cmocka_unit_test_setup_teardown(stat_for_people, fake_server_start, fake_server_stop),
        cmocka_unit_test_setup_teardown(stat_for_prometheus, fake_server_start, fake_server_stop),
        cmocka_unit_test(wrong_and_nobody),
        cmocka_unit_test(strangers_are_not_believed),
    };

    if (argc != 2) {
        fprintf(stderr, "usage: top HOLDFAST-CONTROL\n");
        return 2;
    }
    cli_program(argv[1]);
    return cmocka_run_group_tests_name("top", tests, NULL, NULL);
}
