/* SPDX-License-Identifier: MIT */
/*
 * demo_run.c - step 5 of the demo: a program that knows nothing of Holdfast, on a volume that gets full.
 *
 * Python maps a sparse file that is larger than the volume, and stores to one page after the other, saying
 * after each how many it has stored. `holdfast run` gives it the volume. What it had said when it was refused
 * must be on disk. Where the machine lacks what that needs, the step says what and is left out.
 */
#include "cli.h"
#include "demo.h"
#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <poll.h>
#include <sched.h>
#include <signal.h>
#include <spawn.h>
#include <stdlib.h>
#include <string.h>
#include <sys/utsname.h>
#include <sys/wait.h>
#include <unistd.h>

#define FILE_NAME "/grown"
#define FILE_BYTES ((hf_off_t)32 << 20) /* several times the volume */
#define PATIENCE_MS 60000
#define STORED '*'

extern char **environ;

static const char script[] = "import mmap, sys\n"
                             "page = int(sys.argv[1])\n"
                             "with open('grown', 'w+b') as f:\n"
                             "    f.truncate(32 << 20)\n"
                             "    m = mmap.mmap(f.fileno(), 0)\n"
                             "for i in range((32 << 20) // page):\n"
                             "    m[i * page:(i + 1) * page] = b'*' * page\n"
                             "    print(i + 1, flush=True)\n";

/* ---------------------------------------------------------------- can it be shown here? */

static bool in_path(const char *program)
{
    char *path = getenv("PATH") ? strdup(getenv("PATH")) : NULL, *rest = path, *dir;
    bool found = false;

    while (!found && rest && (dir = strsep(&rest, ":"))) {
        char file[PATH_MAX];

        snprintf(file, sizeof(file), "%s/%s", dir, program);
        found = access(file, X_OK) == 0;
    }
    free(path);
    return found;
}

/* May root mount anything here? Containers often say no. */
static bool root_may_mount(void)
{
    int status = 1;
    pid_t pid = fork();

    if (pid == 0)
        _exit(unshare(CLONE_NEWNS) != 0);
    return pid > 0 && waitpid(pid, &status, 0) == pid && status == 0;
}

/* Why the step cannot be shown on this machine, or NULL. */
static const char *missing(void)
{
    struct utsname kernel;
    int major = 0, minor = 0, fd = open("/dev/fuse", O_RDWR | O_CLOEXEC);

    if (fd < 0)
        return "/dev/fuse cannot be opened";
    close(fd);
#ifndef HF_HAVE_FUSE
    return "this holdfast was built without libfuse (Debian's libfuse3-dev)";
#endif
    if (geteuid() == 0 ? !root_may_mount() : !in_path("fusermount3"))
        return geteuid() == 0 ? "mounting is not allowed" : "fusermount3 is missing (Debian's fuse3)";
    if (hf_engine_probe("inline", NULL) < 0)
        return "userfaultfd is refused";
    if (uname(&kernel) == 0 && sscanf(kernel.release, "%d.%d", &major, &minor) == 2 &&
        major * 100 + minor < 606)
        return "mappings in other processes need Linux 6.6";
    return in_path("python3") ? NULL : "there is no python3";
}

/* ---------------------------------------------------------------- the program */

struct guest {
    struct hf_demo *demo;
    char errors[PATH_MAX + 16]; /* its standard error */
    pid_t pid;
    int fd;
    uint64_t stored; /* pages, as it said */
    int status;
};

static int spawn_guest(struct guest *guest)
{
    char page[16],
        *argv[] = {"holdfast",     "run", "--volume", guest->demo->volume, "--inside", "--", "python3", "-c",
                   (char *)script, page,  NULL};
    posix_spawn_file_actions_t actions;
    posix_spawnattr_t attr;
    int ends[2], error;

    snprintf(page, sizeof(page), "%u", guest->demo->page_size);
    if (pipe2(ends, O_CLOEXEC) < 0)
        return -errno;
    posix_spawn_file_actions_init(&actions);
    posix_spawn_file_actions_adddup2(&actions, ends[1], STDOUT_FILENO);
    posix_spawn_file_actions_addopen(&actions, STDERR_FILENO, guest->errors, O_WRONLY | O_CREAT | O_TRUNC,
                                     0600);
    posix_spawnattr_init(&attr);
    posix_spawnattr_setflags(&attr, POSIX_SPAWN_SETPGROUP); /* so that it can be ended as a whole */
    error = posix_spawn(&guest->pid, "/proc/self/exe", &actions, &attr, argv, environ);
    posix_spawnattr_destroy(&attr);
    posix_spawn_file_actions_destroy(&actions);
    close(ends[1]);
    if (error)
        close(ends[0]);
    else
        guest->fd = ends[0];
    return -error;
}

/* Reads the numbers that it says until its end, and waits for it. False: it hung. */
static bool watch(struct guest *guest)
{
    struct pollfd poll_fd = {.fd = guest->fd, .events = POLLIN};
    uint64_t number = 0;
    ssize_t got = -1;
    char said[512];

    while (poll(&poll_fd, 1, PATIENCE_MS) > 0 && (got = read(guest->fd, said, sizeof(said))) > 0) {
        for (ssize_t i = 0; i < got; i++) {
            if (said[i] >= '0' && said[i] <= '9') {
                number = number * 10 + (uint64_t)(said[i] - '0');
            } else {
                guest->stored = number;
                number = 0;
            }
        }
        got = -1;
    }
    close(guest->fd);
    if (got != 0)
        kill(-guest->pid, SIGKILL);
    waitpid(guest->pid, &guest->status, 0);
    return got == 0;
}

/* Shows what it had on standard error, and looks for the line about the refused store. */
static bool told(const struct guest *guest)
{
    FILE *errors = fopen(guest->errors, "r");
    bool found = false;
    char line[512];

    while (errors && fgets(line, sizeof(line), errors)) {
        printf("    %s%s", line, strchr(line, '\n') ? "" : "\n");
        found = found || strstr(line, "ENOSPC");
    }
    if (errors)
        fclose(errors);
    unlink(guest->errors);
    return found;
}

static bool play_guest(struct guest *guest)
{
    bool ended = watch(guest), line = told(guest);
    int died = WIFEXITED(guest->status) ? WEXITSTATUS(guest->status) : -1;
    uint64_t most = (uint64_t)FILE_BYTES / guest->demo->page_size;

    return hf_demo_check(guest->demo,
                         ended && died == 128 + SIGBUS && line && guest->stored > 0 && guest->stored < most,
                         "refused at the store, with one line that says why (exit status %d): %" PRIu64
                         " of %" PRIu64 " pages stored%s",
                         died, guest->stored, most, ended ? "" : "; then it hung");
}

/* ---------------------------------------------------------------- what is on disk */

static int compare(const struct guest *guest, struct hf_file *file)
{
    uint32_t size = guest->demo->page_size;
    uint64_t kept = 0, other = 0;
    char *page = malloc(size);
    ssize_t got = page ? (ssize_t)size : -ENOMEM;

    for (uint64_t i = 0; got == size && i < (uint64_t)FILE_BYTES / size; i++) {
        uint32_t right = 0;

        got = hf_pread(file, page, size, (hf_off_t)(i * size));
        for (uint32_t b = 0; got == size && b < size; b++)
            right += page[b] == (i < guest->stored ? STORED : '\0');
        kept += i < guest->stored && right == size;
        other += i >= guest->stored && right != size;
    }
    free(page);
    if (got != size)
        return got < 0 ? (int)got : -EIO;
    hf_demo_check(guest->demo, kept == guest->stored && other == 0,
                  "%" PRIu64 " of %" PRIu64 " pages that it stored are on disk, %" PRIu64 " others", kept,
                  guest->stored, other);
    return 0;
}

static void reopen_and_compare(const struct guest *guest)
{
    struct hf_volume *volume;
    struct hf_file *file;
    int error, close_error;

    hf_demo_step("open the volume, and compare");
    if (hf_demo_open(guest->demo, 0, &volume))
        return;
    error = hf_open(volume, FILE_NAME, O_RDONLY, 0, &file);
    if (!error) {
        error = compare(guest, file);
        close_error = hf_close(file);
        error = error ? error : close_error;
    }
    if (!error)
        error = hf_unlink(volume, FILE_NAME);
    close_error = hf_volume_close(volume);
    hf_demo_check_error(guest->demo, error ? error : close_error, "removed, and closed without a word");
}

void hf_demo_run(struct hf_demo *demo, unsigned number)
{
    struct guest guest = {.demo = demo};
    const char *lacks = missing();
    int error;

    hf_demo_heading(number, "Any program: Python, as it is");
    if (lacks) {
        hf_demo_say("Left out here: it needs FUSE, userfaultfd and Python. 'holdfast doctor' says more.");
        printf("    %s\n", lacks);
        return;
    }
    hf_demo_say("A program that knows nothing of Holdfast maps a sparse file larger than the volume, and "
                "stores until it cannot. It has not called msync when it dies.");
    hf_demo_step("holdfast run --volume %s --inside -- python3 -c ...", demo->volume);
    snprintf(guest.errors, sizeof(guest.errors), "%s/errors", demo->dir);
    error = spawn_guest(&guest);
    if (error)
        hf_demo_check_error(demo, error, "starting it");
    else if (play_guest(&guest))
        reopen_and_compare(&guest);
}
