/* SPDX-License-Identifier: MIT */
/*
 * top.c - holdfast top shows what a mount's server says. The server here is the test: its answers are known,
 * and no FUSE is needed.
 */
#include "check.h"
#include "cli_run.h"

#include <cjson/cJSON.h>
#include <errno.h>
#include <signal.h>
#include <stddef.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/sysmacros.h>
#include <sys/un.h>
#include <sys/wait.h>
#include <time.h>

#define DIR "/proc" /* on a device of its own, and nobody mounts a volume there */

static pid_t server;

/* The address that app/fuse/control.c gives a mount's server. Another build's test may be there: -1. */
static int listen_at(dev_t device)
{
    struct sockaddr_un addr = {.sun_family = AF_UNIX};
    int n = snprintf(addr.sun_path + 1, sizeof(addr.sun_path) - 1, "holdfast-mount-%u:%u", major(device),
                     minor(device));
    int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);

    if (bind(fd, (struct sockaddr *)&addr,
             (socklen_t)(offsetof(struct sockaddr_un, sun_path) + 1 + (size_t)n)) < 0 ||
        listen(fd, 16) < 0) {
        close(fd);
        return -1;
    }
    return fd;
}

static void serve(int listening)
{
    for (unsigned asked = 0;; asked++) {
        int fd = accept(listening, NULL, NULL);
        char request[64];
        ssize_t n = recv(fd, request, sizeof(request) - 1, 0);

        if (n > 0 && strncmp(request, "stat\n", 5) == 0)
            dprintf(
                fd,
                "pid 4711\nvolume box\x1b.hf\ndirectory /mnt/box\nblock_size 1024\npage_size 4096\nblocks "
                "1000\n"
                "blocks_free 600\nblocks_reserved 100\nfaults_store %u\nfaults_refused 3\ncached_pages 5\n"
                "dirty_pages 2\nrequests_write 9\nrequests_open 0\nnew_counter 18446744073709551615\n",
                100 + 50 * asked);
        close(fd);
    }
}

static int start_server(void **state)
{
    struct stat st;
    int fd = -1;

    (void)state;
    if (stat(DIR, &st) < 0)
        return -1;
    for (int i = 0; i < 600 && fd < 0; i++) {
        fd = listen_at(st.st_dev);
        if (fd < 0)
            nanosleep(&(struct timespec){.tv_nsec = 100000000}, NULL);
    }
    if (fd < 0)
        return -1;
    fflush(NULL);
    server = fork();
    if (server == 0) {
        serve(fd);
        _exit(0);
    }
    close(fd);
    return 0;
}

static int stop_server(void **state)
{
    (void)state;
    kill(server, SIGKILL);
    waitpid(server, NULL, 0);
    return 0;
}

static void one_report(void **state)
{
    static const char *const args[] = {"top", DIR, "--once", NULL};
    struct cli_run run = cli_run(NULL, args);

    (void)state;
    assert_that(run.status == 0, "status %d: %s", run.status, run.err);
    assert_non_null(strstr(run.out, " on /mnt/box, server 4711\n"));
    assert_non_null(strstr(run.out, "cache 20 KiB, of it dirty 8 KiB"));
    assert_non_null(strstr(run.out, "  refused                             3\n"));
    assert_non_null(strstr(run.out, "  write                               9\n"));
    assert_null(strstr(run.out, "  open "));
    assert_null(strstr(run.out, "/s"));
    cli_run_free(&run);
}

static void reports_with_rates(void **state)
{
    static const char *const args[] = {"top", DIR, "--json", "--count", "3", "--interval", "0.05", NULL};
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
        assert_non_null(strstr(line, "\"new_counter\":18446744073709551615"));
        cJSON_Delete(root);
    }
    assert_count(lines, 3);
    cli_run_free(&run);
}

static void drawn_anew_on_a_terminal(void **state)
{
    static const char *const args[] = {"top", DIR, "-n", "2", "-i", "0.05", NULL};
    struct cli_run run;

    (void)state;
    setenv("TERM", "xterm", 1);
    run = cli_run_on_terminal(args);
    if (run.status == CLI_CANNOT || run.status < 0) {
        cli_run_free(&run);
        skip();
    }
    assert_count(run.status, 0);
    assert_non_null(strstr(run.out, "\033[H\033[J"));
    assert_non_null(strstr(run.out, "/s"));
    assert_non_null(strstr(run.out, "box\\x1b.hf")); /* a name cannot drive the terminal */
    cli_run_free(&run);
}

static void wrong_and_nobody(void **state)
{
    static const char *const wrong[][6] = {{"top", NULL},
                                           {"top", DIR, "-n", "0", NULL},
                                           {"top", DIR, "-i", "nan", NULL},
                                           {"top", DIR, "/x", NULL}};
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

int main(int argc, char **argv)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(one_report, start_server, stop_server),
        cmocka_unit_test_setup_teardown(reports_with_rates, start_server, stop_server),
        cmocka_unit_test_setup_teardown(drawn_anew_on_a_terminal, start_server, stop_server),
        cmocka_unit_test(wrong_and_nobody),
    };

    if (argc != 2) {
        fprintf(stderr, "usage: top HOLDFAST-CONTROL\n");
        return 2;
    }
    cli_program(argv[1]);
    return cmocka_run_group_tests_name("top", tests, NULL, NULL);
}
