/* SPDX-License-Identifier: MIT */
/*
 * run_start.c - holdfast run finds a way to mount: with privilege the kernel; without it fusermount3, and
 * then namespaces of its own, in which this process, the server and the program are to live.
 *
 * Whether fusermount3 may do it is known only when it has been asked. So each way is one start of the
 * server, which says what it was refused; only that makes the next one worth a try.
 */
#ifdef HF_HAVE_FUSE
#include "namespace.h"
#include "run.h"
#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <unistd.h>

/* What stood in the way. */
struct refusal {
    char why[HF_FUSE_TEXT];
    char fix[HF_NAMESPACE_TEXT];
};

int hf_run_status_of(pid_t pid)
{
    int status = 0;

    while (waitpid(pid, &status, 0) < 0)
        if (errno != EINTR)
            return HF_CLI_FAILED;
    return WIFEXITED(status) ? WEXITSTATUS(status) : 128 + WTERMSIG(status);
}

/* The server: what a terminal sends is for the program, but if the parent dies, nobody else ends this. */
static _Noreturn void serve(struct hf_run *run, bool by_helper, int ready, pid_t parent)
{
    sigset_t term;
    int status;

    setpgid(0, 0);
    sigemptyset(&term);
    sigaddset(&term, SIGTERM);
    sigprocmask(SIG_BLOCK, &term, NULL); /* until it can end in order */
    prctl(PR_SET_PDEATHSIG, SIGTERM);
    if (getppid() != parent)
        raise(SIGTERM);
    status = hf_run_serve(run, by_helper, ready);
    if (getppid() != parent)
        hf_run_places_remove(run);
    exit(status);
}

/* The server's process id when it serves; 0: mounting was refused; -1: it failed and said why. */
static pid_t server_try(struct hf_run *run, bool by_helper, char ret_why[HF_FUSE_TEXT])
{
    ssize_t n = -1;
    pid_t pid, parent = getpid();
    int ends[2];

    if (pipe2(ends, O_CLOEXEC) < 0)
        return hf_cli_fail_host(errno, "starting the server"), -1;
    fflush(NULL);
    pid = fork();
    if (pid == 0) {
        close(ends[0]);
        serve(run, by_helper, ends[1], parent);
    }
    close(ends[1]);
    while (pid > 0 && (n = read(ends[0], ret_why, HF_FUSE_TEXT - 1)) < 0 && errno == EINTR)
        ;
    close(ends[0]);
    if (pid < 0)
        return hf_cli_fail_host(errno, "starting the server"), -1;
    if (n > 0 && ret_why[0] == '\0')
        return pid;
    hf_run_status_of(pid);
    ret_why[n > 0 ? n : 0] = '\0';
    return n > 0 ? 0 : -1;
}

static pid_t by_kernel(struct hf_run *run, struct refusal *refusal)
{
    bool forced = run->mount_with == HF_RUN_MOUNT_DIRECT;

    if (!hf_namespace_device(refusal->why, refusal->fix) ||
        (forced && hf_namespace_try_fuse(run->dir, refusal->why) < 0))
        return 0;
    return server_try(run, false, refusal->why);
}

static pid_t by_helper(struct hf_run *run, struct refusal *refusal)
{
    char path[4096];

    if (!hf_namespace_device(refusal->why, refusal->fix) ||
        !hf_namespace_helper(path, sizeof(path), refusal->why, refusal->fix))
        return 0;
    return server_try(run, true, refusal->why);
}

static pid_t in_namespace(struct hf_run *run, struct refusal *refusal)
{
    if (!hf_namespace_device(refusal->why, refusal->fix))
        return 0;
    snprintf(refusal->fix, sizeof(refusal->fix), "%s", hf_namespace_fix());
    if (hf_namespace_enter(refusal->why) < 0 || hf_namespace_try_fuse(run->dir, refusal->why) < 0)
        return 0;
    return server_try(run, false, refusal->why);
}

pid_t hf_run_server_start(struct hf_run *run)
{
    static const struct {
        enum hf_run_mount way;
        const char *name;
        pid_t (*start)(struct hf_run *run, struct refusal *refusal);
        bool privileged; /* whom it is for, if all may be tried */
    } ways[] = {
        {HF_RUN_MOUNT_DIRECT, "", by_kernel, true},
        {HF_RUN_MOUNT_FUSERMOUNT, " through fusermount3", by_helper, false},
        {HF_RUN_MOUNT_NAMESPACE, " in a namespace", in_namespace, false},
    };
    bool privileged = hf_namespace_privileged(), tried[3] = {false};
    struct refusal refusals[3] = {{.why = ""}};
    pid_t pid = 0;

    for (int i = 0; i < 3 && pid == 0; i++) {
        tried[i] = run->mount_with == HF_RUN_MOUNT_ANY ? ways[i].privileged == privileged
                                                       : run->mount_with == ways[i].way;
        if (tried[i])
            pid = ways[i].start(run, &refusals[i]);
    }
    if (pid != 0)
        return pid;
    for (int i = 0; i < 3; i++)
        if (tried[i])
            hf_cli_fail(refusals[i].why, refusals[i].fix[0] != '\0' ? refusals[i].fix : NULL,
                        "cannot mount%s", ways[i].name);
    hf_cli_fail("no way to mount is left", "'holdfast doctor' says what would mend it", "run");
    return -1;
}
#endif
