/* SPDX-License-Identifier: MIT */
/*
 * cli_run.c - see cli_run.h. What the program prints goes to memfds, so it never waits for a reader.
 */
#include "cli_run.h"

#include <errno.h>
#include <fcntl.h>
#include <grp.h>
#include <linux/audit.h>
#include <linux/filter.h>
#include <linux/seccomp.h>
#include <sched.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/mount.h>
#include <sys/prctl.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#define ARGS_MAX 32
#define NOBODY 65534
#define USERFAULTFD_IOC_NEW_NR 0xAA00u

static int program_fd = -1;

void cli_program(const char *path)
{
    program_fd = open(path, O_PATH);
    if (program_fd < 0) {
        perror(path);
        exit(1);
    }
}

static void child(int (*prepare)(void), const char *const *args, int in, int out, int err)
{
    char *argv[ARGS_MAX] = {"holdfast"};

    for (int i = 0; args[i] && i + 2 < ARGS_MAX; i++)
        argv[i + 1] = strdup(args[i]);
    if (prepare && prepare() != 0)
        _exit(CLI_CANNOT);
    if (dup2(in, STDIN_FILENO) < 0 || dup2(out, STDOUT_FILENO) < 0 || dup2(err, STDERR_FILENO) < 0)
        _exit(CLI_CANNOT);
    fexecve(program_fd, argv, environ);
    _exit(CLI_CANNOT);
}

static int wait_for(pid_t pid)
{
    int status;

    while (waitpid(pid, &status, 0) < 0)
        if (errno != EINTR)
            abort();
    return WIFEXITED(status) ? WEXITSTATUS(status) : 128 + WTERMSIG(status);
}

static char *contents(int fd)
{
    struct stat st;
    char *text = NULL;

    if (fstat(fd, &st) == 0)
        text = calloc(1, (size_t)st.st_size + 1);
    if (!text || pread(fd, text, (size_t)st.st_size, 0) != st.st_size)
        abort();
    close(fd);
    return text;
}

struct cli_run cli_run(int (*prepare)(void), const char *const *args)
{
    int out = memfd_create("out", MFD_CLOEXEC), err = memfd_create("err", MFD_CLOEXEC);
    struct cli_run run;
    pid_t pid;

    if (out < 0 || err < 0)
        abort();
    fflush(NULL);
    pid = fork();
    if (pid == 0)
        child(prepare, args, STDIN_FILENO, out, err);
    run.status = wait_for(pid);
    run.out = contents(out);
    run.err = contents(err);
    return run;
}

void cli_run_free(struct cli_run *run)
{
    free(run->out);
    free(run->err);
}

static struct cli_run run_on_terminal(const char *const *args, const char *keys, unsigned short rows)
{
    const struct winsize size = {.ws_row = rows, .ws_col = 100};
    struct cli_run run = {.status = -1, .out = calloc(1, 65536), .err = NULL};
    int master = posix_openpt(O_RDWR | O_NOCTTY | O_CLOEXEC), terminal = -1;
    size_t len = 0;
    ssize_t n;
    pid_t pid;

    if (master >= 0 && grantpt(master) == 0 && unlockpt(master) == 0)
        terminal = open(ptsname(master), O_RDWR | O_NOCTTY | O_CLOEXEC);
    if (terminal < 0 || !run.out)
        goto out;
    if (rows)
        ioctl(master, TIOCSWINSZ, &size);
    fflush(NULL);
    pid = fork();
    if (pid == 0)
        child(NULL, args, keys ? terminal : STDIN_FILENO, terminal, STDERR_FILENO);
    close(terminal);
    while (len < 65535 && (n = read(master, run.out + len, 65535 - len)) > 0) {
        len += (size_t)n; /* EIO when the last writer has gone */
        if (keys && write(master, keys, strlen(keys)) == (ssize_t)strlen(keys))
            keys = NULL;
    }
    run.status = wait_for(pid);
out:
    if (master >= 0)
        close(master);
    return run;
}

struct cli_run cli_run_on_terminal(const char *const *args)
{
    return run_on_terminal(args, NULL, 0);
}

struct cli_run cli_run_with_keys(const char *const *args, const char *keys, unsigned short rows)
{
    return run_on_terminal(args, keys, rows);
}

/* ---------------------------------------------------------------- surroundings */

static int install(struct sock_filter *filter, size_t nr)
{
    struct sock_fprog program = {.len = (unsigned short)nr, .filter = filter};

    if (prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) < 0 ||
        prctl(PR_SET_SECCOMP, SECCOMP_MODE_FILTER, &program) < 0)
        return -errno;
    return 0;
}

int cli_refuse_call(long nr)
{
    struct sock_filter filter[] = {
        BPF_STMT(BPF_LD | BPF_W | BPF_ABS, offsetof(struct seccomp_data, nr)),
        BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, (unsigned)nr, 1, 0),
        BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ALLOW),
        BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ERRNO | EPERM),
    };

    return install(filter, sizeof(filter) / sizeof(filter[0]));
}

int cli_refuse_userfaultfd(void)
{
    struct sock_filter filter[] = {
        BPF_STMT(BPF_LD | BPF_W | BPF_ABS, offsetof(struct seccomp_data, nr)),
        BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, SYS_userfaultfd, 4, 0),
        BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, SYS_ioctl, 0, 2),
        BPF_STMT(BPF_LD | BPF_W | BPF_ABS, offsetof(struct seccomp_data, args[1])),
        BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, USERFAULTFD_IOC_NEW_NR, 1, 0),
        BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ALLOW),
        BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ERRNO | EPERM),
    };

    return install(filter, sizeof(filter) / sizeof(filter[0]));
}

int cli_become_nobody(void)
{
    if (geteuid() != 0)
        return 0;
    if (setgroups(0, NULL) < 0 || setresgid(NOBODY, NOBODY, NOBODY) < 0 ||
        setresuid(NOBODY, NOBODY, NOBODY) < 0)
        return -errno;
    return 0;
}

static int write_text(const char *path, const char *text)
{
    int fd = open(path, O_WRONLY | O_CLOEXEC), error = 0;

    if (fd < 0)
        return -errno;
    if (write(fd, text, strlen(text)) < 0)
        error = -errno;
    close(fd);
    return error;
}

/* A mount namespace: root's own, or with a user namespace in which this user is root. */
static int own_mounts(void)
{
    char uids[64], gids[64];
    int error;

    snprintf(uids, sizeof(uids), "0 %u 1", (unsigned)geteuid());
    snprintf(gids, sizeof(gids), "0 %u 1", (unsigned)getegid());
    if (geteuid() == 0)
        return unshare(CLONE_NEWNS) < 0 ? -errno : 0;
    if (unshare(CLONE_NEWUSER | CLONE_NEWNS) < 0)
        return -errno;
    error = write_text("/proc/self/setgroups", "deny");
    error = error ? error : write_text("/proc/self/uid_map", uids);
    return error ? error : write_text("/proc/self/gid_map", gids);
}

int cli_hide(const char *dir)
{
    int error = own_mounts();

    if (error)
        return error;
    if (mount(NULL, "/", NULL, MS_REC | MS_PRIVATE, NULL) < 0 || mount("hidden", dir, "tmpfs", 0, NULL) < 0)
        return -errno;
    return 0;
}
