/* SPDX-License-Identifier: MIT */
/*
 * doctor.c - holdfast doctor says what is there and what is not, with what is not there made so.
 */
#include "check.h"
#include "cli_run.h"

#include <cjson/cJSON.h>
#include <holdfast/holdfast.h>
#include <sys/resource.h>
#include <sys/syscall.h>

static const char *const as_json[] = {"doctor", "--json", NULL};
static const char *const as_text[] = {"doctor", NULL};

struct report {
    int status;
    cJSON *root;
};

/* Runs it, and checks what holds in all surroundings. Skips if they cannot be made. */
static struct report report_of(int (*prepare)(void))
{
    static const struct {
        const char *name;
        int status;
    } states[] = {{"complete", 0}, {"usable", 1}, {"broken", 2}};
    struct cli_run run = cli_run(prepare, as_json);
    struct report report = {.status = run.status};
    const char *state, *verdict;
    const cJSON *finding;
    int worst = 0;

    if (run.status == CLI_CANNOT) {
        cli_run_free(&run);
        skip();
    }
    report.root = cJSON_Parse(run.out);
    assert_that(report.root, "not JSON: %s%s", run.out, run.err);
    assert_string_equal(run.err, "");
    cJSON_ArrayForEach (finding, cJSON_GetObjectItem(report.root, "findings")) {
        verdict = cJSON_GetStringValue(cJSON_GetObjectItem(finding, "verdict"));
        assert_non_null(verdict);
        if (strcmp(verdict, "missing") == 0 || strcmp(verdict, "broken") == 0)
            assert_that(cJSON_HasObjectItem(finding, "fix"), "no fix for %s",
                        cJSON_GetStringValue(cJSON_GetObjectItem(finding, "name")));
        if (strcmp(verdict, "missing") == 0 && worst < 1)
            worst = 1;
        if (strcmp(verdict, "broken") == 0)
            worst = 2;
    }
    state = cJSON_GetStringValue(cJSON_GetObjectItem(report.root, "status"));
    assert_count(run.status, worst);
    assert_count(states[worst].status, worst);
    assert_string_equal(state, states[worst].name);
    cli_run_free(&run);
    return report;
}

static const cJSON *finding_of(const struct report *report, const char *name)
{
    const cJSON *finding;

    cJSON_ArrayForEach (finding, cJSON_GetObjectItem(report->root, "findings"))
        if (strcmp(cJSON_GetStringValue(cJSON_GetObjectItem(finding, "name")), name) == 0)
            return finding;
    check_fail(__FILE__, __LINE__, "finding", "there is none on %s", name);
    return NULL;
}

static void expect(const struct report *report, const char *name, const char *verdict, const char *fix)
{
    const cJSON *finding = finding_of(report, name);
    const char *has = cJSON_GetStringValue(cJSON_GetObjectItem(finding, "verdict"));
    const char *fixed = cJSON_GetStringValue(cJSON_GetObjectItem(finding, "fix"));

    assert_that(strcmp(has, verdict) == 0, "%s: %s, not %s", name, has, verdict);
    assert_that(!fix || (fixed && strstr(fixed, fix)), "%s: '%s' says nothing of '%s'", name,
                fixed ? fixed : "", fix ? fix : "");
}

static bool verdict_is(const struct report *report, const char *name, const char *verdict)
{
    const char *has = cJSON_GetStringValue(cJSON_GetObjectItem(finding_of(report, name), "verdict"));

    return strcmp(has, verdict) == 0;
}

static bool feature(const struct report *report, const char *name)
{
    const cJSON *item = cJSON_GetObjectItem(cJSON_GetObjectItem(report->root, "features"), name);

    assert_that(cJSON_IsBool(item), "no feature %s", name);
    return cJSON_IsTrue(item);
}

static const char *engine(const struct report *report)
{
    return cJSON_GetStringValue(cJSON_GetObjectItem(report->root, "engine"));
}

static void done(struct report *report)
{
    cJSON_Delete(report->root);
}

/* ---------------------------------------------------------------- cases */

static void agrees_with_the_library(void **state)
{
    struct report report = report_of(NULL);
    const char *why = NULL;

    (void)state;
    assert_string_equal(engine(&report), hf_engine_name());
    expect(&report, "inline", hf_engine_probe("inline", &why) == 0 ? "ok" : "missing", NULL);
    assert_non_null(why);
    expect(&report, "thread", hf_engine_probe("thread", NULL) == 0 ? "ok" : "missing", NULL);
    expect(&report, "mprotect", "ok", NULL);
    assert_err(hf_engine_probe("mmap", &why), EINVAL);
    assert_err(hf_engine_probe(NULL, NULL), EINVAL);
    assert_true(feature(&report, "volumes"));
    done(&report);
}

static void userfaultfd_refused(void **state)
{
    struct report report = report_of(cli_refuse_userfaultfd);

    (void)state;
    expect(&report, "inline", "missing", "sandbox");
    expect(&report, "thread", "missing", "sysctl");
    expect(&report, "default", "note", NULL);
    assert_string_equal(engine(&report), "mprotect");
    assert_true(feature(&report, "volumes"));
    assert_false(feature(&report, "inline"));
    assert_false(feature(&report, "syscalls"));
    assert_count(report.status, 1);
    done(&report);
}

static int refuse_memfd(void)
{
    return cli_refuse_call(SYS_memfd_create);
}

static void memfd_refused(void **state)
{
    struct report report = report_of(refuse_memfd);

    (void)state;
    expect(&report, "memfd", "broken", NULL);
    assert_false(feature(&report, "volumes"));
    assert_count(report.status, 2);
    done(&report);
}

/* A build without libfuse says so in all places, and looks for no library that it could not use. */
static void agrees_with_the_build(void **state)
{
    static const char *const mount[] = {"mount", "/dev/null", "/dev/null", NULL};
    static const char *const run[] = {"run", "true", NULL};
    struct cli_run said = cli_run(NULL, mount), ran;
    bool without = strstr(said.err, "this build has no libfuse") != NULL;
    struct report report = report_of(NULL);

    (void)state;
    assert_count(said.status, 1);
    if (without) {
        ran = cli_run(NULL, run);
        assert_count(ran.status, 1);
        assert_non_null(strstr(ran.err, "this build has no libfuse"));
        cli_run_free(&ran);
        expect(&report, "libfuse", "missing", "then build again");
        assert_false(feature(&report, "fuse"));
        assert_false(feature(&report, "run"));
    }
    cli_run_free(&said);
    done(&report);
}

static int refuse_unshare(void)
{
    return cli_refuse_call(SYS_unshare);
}

static void namespaces_refused(void **state)
{
    struct report report = report_of(refuse_unshare);

    (void)state;
    expect(&report, "namespaces", "note", NULL);
    done(&report);
}

static int refuse_mount(void)
{
    return cli_refuse_call(SYS_mount);
}

/* A namespace in which nothing can be mounted, as AppArmor makes it, is none for holdfast run. */
static void mounting_refused(void **state)
{
    struct report report = report_of(refuse_mount);

    (void)state;
    expect(&report, "namespaces", "note", NULL);
    done(&report);
}

static int nobody_without_path(void)
{
    int error = cli_become_nobody();

    return error ? error : -setenv("PATH", "/nonexistent", 1);
}

static void nobody_without_fusermount(void **state)
{
    struct report report;

    (void)state;
    report = report_of(nobody_without_path);
    expect(&report, "fusermount3", "missing", "apt-get install fuse3");
    assert_false(feature(&report, "fuse"));
    assert_true(feature(&report, "run") ==
                (verdict_is(&report, "/dev/fuse", "ok") && verdict_is(&report, "namespaces", "ok") &&
                 verdict_is(&report, "libfuse", "ok")));
    assert_true(feature(&report, "volumes"));
    assert_count(report.status, 1);
    done(&report);
}

static int hide_devices(void)
{
    return cli_hide("/dev");
}

static void devices_hidden(void **state)
{
    struct report report = report_of(hide_devices);

    (void)state;
    expect(&report, "/dev/fuse", "missing", "modprobe fuse");
    assert_non_null(
        strstr(cJSON_GetStringValue(cJSON_GetObjectItem(finding_of(&report, "userfaultfd"), "found")),
               "is not there"));
    assert_false(feature(&report, "fuse"));
    assert_false(feature(&report, "run"));
    assert_count(report.status, 1);
    done(&report);
}

static int low_limits(void)
{
    struct rlimit files = {64, 64}, size = {1 << 20, 1 << 20};

    return setrlimit(RLIMIT_NOFILE, &files) || setrlimit(RLIMIT_FSIZE, &size) ? -errno : 0;
}

static void limits_are_noted(void **state)
{
    struct report plain = report_of(NULL), low = report_of(low_limits);

    (void)state;
    expect(&low, "open files", "note", "ulimit -n");
    expect(&low, "file size", "note", "ulimit -f");
    assert_count(low.status, plain.status);
    done(&plain);
    done(&low);
}

static int force_mprotect(void)
{
    return setenv("HF_ENGINE", "mprotect", 1) ? -errno : 0;
}

static void a_forced_engine_is_noted(void **state)
{
    struct report report = report_of(force_mprotect);

    (void)state;
    expect(&report, "default", "note", "unset HF_ENGINE");
    assert_false(feature(&report, "syscalls"));
    done(&report);
}

static void text_says_the_same(void **state)
{
    struct cli_run run = cli_run(cli_refuse_userfaultfd, as_text);

    (void)state;
    if (run.status == CLI_CANNOT) {
        cli_run_free(&run);
        skip();
    }
    assert_count(run.status, 1);
    assert_non_null(strstr(run.out, "  NO   inline"));
    assert_non_null(strstr(run.out, "  ok   mprotect"));
    assert_non_null(strstr(run.out, "-> as root: sysctl vm.unprivileged_userfaultfd=1"));
    assert_null(strchr(run.out, '\033'));
    cli_run_free(&run);
}

static void colour_on_a_terminal(void **state)
{
    struct cli_run run;

    (void)state;
    setenv("TERM", "xterm", 1);
    unsetenv("NO_COLOR");
    run = cli_run_on_terminal(as_text);
    if (run.status == CLI_CANNOT || run.status < 0) {
        cli_run_free(&run);
        skip();
    }
    assert_non_null(strstr(run.out, "\033[32mok"));
    cli_run_free(&run);
}

static void wrong_usage(void **state)
{
    static const char *const extra[] = {"doctor", "me", NULL};
    static const char *const help[] = {"doctor", "--help", NULL};
    struct cli_run run = cli_run(NULL, extra);

    (void)state;
    assert_count(run.status, 2);
    assert_non_null(strstr(run.err, "one operand too many"));
    assert_string_equal(run.out, "");
    cli_run_free(&run);
    run = cli_run(NULL, help);
    assert_count(run.status, 0);
    assert_non_null(strstr(run.out, "Exit status: 0 everything works"));
    cli_run_free(&run);
}

int main(int argc, char **argv)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(agrees_with_the_library),
        cmocka_unit_test(agrees_with_the_build),
        cmocka_unit_test(userfaultfd_refused),
        cmocka_unit_test(memfd_refused),
        cmocka_unit_test(namespaces_refused),
        cmocka_unit_test(mounting_refused),
        cmocka_unit_test(nobody_without_fusermount),
        cmocka_unit_test(devices_hidden),
        cmocka_unit_test(limits_are_noted),
        cmocka_unit_test(a_forced_engine_is_noted),
        cmocka_unit_test(text_says_the_same),
        cmocka_unit_test(colour_on_a_terminal),
        cmocka_unit_test(wrong_usage),
    };

    if (argc != 2) {
        fprintf(stderr, "usage: doctor HOLDFAST-CONTROL\n");
        return 2;
    }
    cli_program(argv[1]);
    return cmocka_run_group_tests_name("doctor", tests, NULL, NULL);
}
