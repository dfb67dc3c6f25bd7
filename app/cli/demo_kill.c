/* SPDX-License-Identifier: MIT */
/*
 * demo_kill.c - step 4 of the demo: a process that stores through a mapping is killed with SIGKILL.
 *
 * The writer is this program again, as the hidden command demo-writer: it is spawned while no volume is
 * open here, and reports each fsync on its stdout, a line of JSON at a time (a line is shorter than
 * PIPE_BUF, so it arrives whole or not at all). What it had reported when it died must be on disk.
 */
#include "cli.h"
#include "demo.h"
#include "draw.h"
#include <errno.h>
#include <fcntl.h>
#include <getopt.h>
#include <inttypes.h>
#include <poll.h>
#include <signal.h>
#include <spawn.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#define DIARY_NAME "/diary"
#define RECORD_BYTES ((hf_off_t)10000) /* no multiple of anything: EOF always straddles */
#define MAX_RECORDS 150
#define REPORTS_BEFORE_KILL 25
#define PATIENCE_MS 20000

extern char **environ;

/* ---------------------------------------------------------------- the writer */

struct writer {
    struct hf_file *file;
    char *map;
    hf_off_t synced; /* bytes */
    unsigned char record[RECORD_BYTES];
};

/* One line on stdout, in one write(). */
static int report(const struct writer *writer, hf_off_t accepted, const struct hf_demo_pages *pages)
{
    cJSON *root = hf_json_object();

    hf_json_u64(root, "synced", (uint64_t)writer->synced);
    hf_json_u64(root, "accepted", (uint64_t)accepted);
    if (pages)
        hf_json_add(root, "pages", hf_demo_pages_to_json(pages));
    hf_json_print(root, 0);
    return fflush(stdout) ? -EIO : 0;
}

/* The file grows by ftruncate() and by a write past EOF in turn; both leave a straddling page behind. */
static int grow(struct writer *writer, unsigned number, hf_off_t size)
{
    ssize_t put;

    if (number % 2 == 0)
        return hf_ftruncate(writer->file, size);
    put = hf_pwrite(writer->file, &writer->record[RECORD_BYTES - 1], 1, size - 1);
    return put == 1 ? 0 : put < 0 ? (int)put : -EIO;
}

static int write_record(struct writer *writer, unsigned number, uint32_t page_size)
{
    hf_off_t start = (hf_off_t)number * RECORD_BYTES, half = RECORD_BYTES / 2;
    struct hf_demo_pages pages;
    int error;

    for (hf_off_t i = 0; i < RECORD_BYTES; i++)
        writer->record[i] = hf_demo_byte(start + i);
    error = grow(writer, number, start + RECORD_BYTES);
    if (!error)
        error = hf_store(writer->map + start, writer->record, (size_t)half, NULL);
    if (!error)
        error = hf_demo_pages_take(writer->file, (uint64_t)start / page_size, &pages);
    if (!error)
        error = report(writer, start + half, &pages);
    if (!error)
        error = hf_store(writer->map + start + half, writer->record + half, (size_t)half, NULL);
    if (!error)
        error = hf_fsync(writer->file);
    if (error)
        return error;
    writer->synced = start + RECORD_BYTES;
    return report(writer, writer->synced, NULL);
}

static int write_until_killed(struct hf_volume *volume)
{
    static struct writer writer;
    struct hf_statfs fs;
    void *addr;
    int error = hf_volume_statfs(volume, &fs);

    if (!error)
        error = hf_open(volume, DIARY_NAME, O_RDWR | O_CREAT | O_TRUNC, 0644, &writer.file);
    if (!error)
        error = hf_mmap(writer.file, NULL, (size_t)(MAX_RECORDS * RECORD_BYTES), PROT_READ | PROT_WRITE,
                        MAP_SHARED, 0, &addr);
    if (error)
        return error;
    writer.map = addr;
    for (unsigned i = 0; !error && i < MAX_RECORDS; i++)
        error = write_record(&writer, i, fs.page_size);
    while (!error)
        pause();
    return error;
}

static int run_demo_writer(const struct hf_cli_command *cmd, int argc, char **argv)
{
    static const struct option options[] = {{"help", no_argument, NULL, 'h'}, {0}};
    struct hf_open_options opts = {.writeback_ms = HF_DEMO_WRITEBACK_MS};
    struct hf_volume *volume;
    int opt, status;

    while ((opt = getopt_long(argc, argv, ":h", options, NULL)) != -1)
        return hf_cli_option(cmd, opt, argv);
    status = hf_cli_operands(cmd, argc, argv, 1, 1);
    if (status)
        return status;
    prctl(PR_SET_PDEATHSIG, SIGKILL); /* not one second longer than the demo */
    if (hf_volume_open(argv[optind], &opts, &volume))
        return hf_cli_fail(hf_cli_volume_error(argv[optind]), NULL, "cannot open volume %s", argv[optind]);
    return hf_cli_fail_errno(write_until_killed(volume), "storing to %s", DIARY_NAME);
}

const struct hf_cli_command hf_cmd_demo_writer = {
    .name = "demo-writer",
    .synopsis = "VOLUME",
    .help = "A part of the demo for itself: stores records to the file " DIARY_NAME
            " of VOLUME through a mapping, and "
            "reports each fsync as a line of JSON, until it is killed.\n",
    .run = run_demo_writer,
};

/* ---------------------------------------------------------------- the parent */

struct watch {
    struct hf_demo *demo;
    pid_t pid;
    int fd; /* reports */
    char buf[8192];
    size_t len;
    int64_t synced, accepted; /* of the last whole report */
    unsigned reports;         /* of fsyncs */
    struct hf_demo_pages pages;
    int64_t pages_synced; /* when these pages were described */
};

static void take_report(struct watch *watch, const char *text)
{
    cJSON *root = cJSON_Parse(text);
    const cJSON *pages = cJSON_GetObjectItemCaseSensitive(root, "pages");

    watch->synced = hf_json_get_int(root, "synced", watch->synced);
    watch->accepted = hf_json_get_int(root, "accepted", watch->accepted);
    if (pages && hf_demo_pages_from_json(pages, &watch->pages) == 0)
        watch->pages_synced = watch->synced;
    else
        watch->reports++;
    cJSON_Delete(root);
}

/* Reads what is there. Returns 1, 0 at the end, -ETIMEDOUT, or -errno. */
static int read_reports(struct watch *watch)
{
    struct pollfd poll_fd = {.fd = watch->fd, .events = POLLIN};
    int ready = poll(&poll_fd, 1, PATIENCE_MS);
    char *line_end;
    ssize_t got;

    if (ready <= 0)
        return ready ? -errno : -ETIMEDOUT;
    got = read(watch->fd, watch->buf + watch->len, sizeof(watch->buf) - 1 - watch->len);
    if (got <= 0)
        return got ? -errno : 0;
    watch->len += (size_t)got;
    watch->buf[watch->len] = '\0';
    while ((line_end = strchr(watch->buf, '\n'))) {
        size_t used = (size_t)(line_end + 1 - watch->buf);

        *line_end = '\0';
        take_report(watch, watch->buf);
        watch->len -= used;
        memmove(watch->buf, watch->buf + used, watch->len + 1);
    }
    return watch->len < sizeof(watch->buf) - 1 ? 1 : -EPROTO;
}

static int spawn_writer(struct watch *watch)
{
    char *argv[] = {"holdfast", "--no-color", "demo-writer", watch->demo->volume, NULL};
    posix_spawn_file_actions_t actions;
    int pipe_fds[2], error;

    if (pipe2(pipe_fds, O_CLOEXEC) < 0)
        return -errno;
    posix_spawn_file_actions_init(&actions);
    posix_spawn_file_actions_adddup2(&actions, pipe_fds[1], STDOUT_FILENO);
    error = posix_spawn(&watch->pid, "/proc/self/exe", &actions, NULL, argv, environ);
    posix_spawn_file_actions_destroy(&actions);
    close(pipe_fds[1]);
    if (error)
        close(pipe_fds[0]);
    else
        watch->fd = pipe_fds[0];
    return -error;
}

/* Lets it work for a while, and kills it at a moment nobody chose. */
static bool watch_and_kill(struct watch *watch)
{
    struct timespec moment = {0};
    int more = 1, status = 0;

    while (more > 0 && watch->reports < REPORTS_BEFORE_KILL)
        more = read_reports(watch);
    clock_gettime(CLOCK_MONOTONIC, &moment);
    moment = (struct timespec){.tv_nsec = moment.tv_nsec % 3000000};
    nanosleep(&moment, NULL);
    kill(watch->pid, SIGKILL);
    waitpid(watch->pid, &status, 0);
    while (more > 0)
        more = read_reports(watch); /* what it had said before it died */
    close(watch->fd);
    return hf_demo_check(watch->demo, more == 0 && WIFSIGNALED(status) && WTERMSIG(status) == SIGKILL,
                         "process %d was killed (%s) after %u fsyncs: %" PRId64
                         " bytes synced, storing went on%s",
                         watch->pid, WIFSIGNALED(status) ? strsignal(WTERMSIG(status)) : "it ended by itself",
                         watch->reports, watch->synced, more == -ETIMEDOUT ? "; then it hung" : "");
}

static void show_before(const struct watch *watch)
{
    printf("    its last look at itself, with %" PRId64 " bytes synced:\n", watch->pages_synced);
    for (unsigned i = 0; i < watch->pages.nr; i++) {
        struct hf_line line;

        hf_line_init(&line);
        hf_line_pad(&line, 6);
        hf_draw_page_short(&line, &watch->pages.info[i]);
        hf_line_print(&line, stdout);
    }
}

/* Every synced byte must be as it was stored; every later one so, or zero. */
static void compare(struct watch *watch, const unsigned char *found, int64_t size)
{
    int64_t wrong = watch->synced > size ? watch->synced - size : 0;
    int64_t later = 0, later_zero = 0, garbage = 0;

    for (int64_t i = 0; i < size; i++) {
        bool right = found[i] == hf_demo_byte(i);

        if (i < watch->synced) {
            wrong += !right;
            continue;
        }
        later += right;
        later_zero += !found[i];
        garbage += !right && found[i];
    }
    hf_demo_check(watch->demo, wrong == 0 && watch->synced > 0,
                  "%" PRId64 " of %" PRId64 " accepted and synced bytes are there", watch->synced - wrong,
                  watch->synced);
    hf_demo_check(watch->demo, garbage == 0,
                  "after them: %" PRId64 " bytes of later stores, %" PRId64 " zeros, %" PRId64
                  " bytes of anything else",
                  later, later_zero, garbage);
}

static int read_back(struct watch *watch, struct hf_file *file)
{
    unsigned char *found;
    struct stat st;
    ssize_t got;
    int error = hf_fstat(file, &st);

    if (error)
        return error;
    found = malloc((size_t)st.st_size + 1);
    if (!found)
        return -ENOMEM;
    got = hf_pread(file, found, (size_t)st.st_size, 0);
    if (got >= 0)
        compare(watch, found, got);
    free(found);
    return got < 0 ? (int)got : 0;
}

static void reopen_and_compare(struct watch *watch)
{
    struct hf_volume *volume;
    struct hf_file *file;
    int error, close_error;

    hf_demo_step("open the volume again, here in process %d", getpid());
    if (hf_demo_open(watch->demo, 0, &volume))
        return;
    error = hf_open(volume, DIARY_NAME, O_RDONLY, 0, &file);
    if (!error) {
        hf_draw_file(stdout, file, watch->demo->page_size, 2);
        error = read_back(watch, file);
        close_error = hf_close(file);
        error = error ? error : close_error;
    }
    close_error = hf_volume_close(volume);
    hf_demo_check_error(watch->demo, error ? error : close_error, "read, and closed without a word");
}

void hf_demo_kill(struct hf_demo *demo, unsigned number)
{
    static struct watch watch;
    int error;

    hf_demo_heading(number, "SIGKILL in the middle of storing");
    hf_demo_say("Another process grows a file, stores to it through a mapping, fsyncs, tells us "
                "how far it is synced, and goes on. It is killed at a moment nobody chose.");
    memset(&watch, 0, sizeof(watch));
    watch.demo = demo;
    error = spawn_writer(&watch);
    if (error) {
        hf_demo_check_error(demo, error, "starting the writer");
        return;
    }
    hf_demo_step("kill -KILL %d", watch.pid);
    if (watch_and_kill(&watch)) {
        show_before(&watch);
        reopen_and_compare(&watch);
    }
}
