/* SPDX-License-Identifier: MIT */
/*
 * mount.c - mounting through fusermount3 on purpose, and with its words when it refuses: libfuse asks it only
 * after mount(2), and leaves its words on the terminal.
 *
 * The helper mounts, sends the connection's descriptor over a socket and leaves, or, with auto_unmount, stays
 * until our end of the socket is closed.
 */
#include "server.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <spawn.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>

extern char **environ;

/* The descriptor that the helper sends, or -1: it sent none. */
static int receive_fd(int sock)
{
    union {
        char room[CMSG_SPACE(sizeof(int))];
        struct cmsghdr align;
    } control;
    char byte;
    struct iovec iov = {.iov_base = &byte, .iov_len = 1};
    struct msghdr msg = {.msg_iov = &iov,
                         .msg_iovlen = 1,
                         .msg_control = control.room,
                         .msg_controllen = sizeof(control.room)};
    struct cmsghdr *m;
    ssize_t n;
    int fd = -1;

    while ((n = recvmsg(sock, &msg, MSG_CMSG_CLOEXEC)) < 0 && errno == EINTR)
        ;
    m = n > 0 ? CMSG_FIRSTHDR(&msg) : NULL;
    if (m != NULL && m->cmsg_level == SOL_SOCKET && m->cmsg_type == SCM_RIGHTS)
        memcpy(&fd, CMSG_DATA(m), sizeof(fd));
    return fd;
}

/* The first line of what the helper says, without its name in front. */
static void read_said(int from, char *said, size_t size)
{
    size_t used = 0, name = strlen("fusermount3: ");
    ssize_t n;

    while (used + 1 < size &&
           ((n = read(from, said + used, size - 1 - used)) > 0 || (n < 0 && errno == EINTR)))
        used += n > 0 ? (size_t)n : 0;
    said[used] = '\0';
    said[strcspn(said, "\n")] = '\0';
    if (strncmp(said, "fusermount3: ", name) == 0)
        memmove(said, said + name, strlen(said + name) + 1);
}

/* The environment with one variable more; the caller frees the array. NULL: no memory. */
static char **environ_with(char *variable)
{
    size_t nr = 0;
    char **list;

    while (environ[nr] != NULL)
        nr++;
    list = calloc(nr + 2, sizeof(*list));
    if (list == NULL)
        return NULL;
    list[0] = variable;
    memcpy(list + 1, environ, nr * sizeof(*list));
    return list;
}

static int helper_start(const char *directory, const char *options, int sock, int say, pid_t *ret_pid)
{
    const char *argv[] = {"fusermount3", "-o", options, "--", directory, NULL};
    posix_spawn_file_actions_t actions;
    char variable[32], **envp;
    int r;

    snprintf(variable, sizeof(variable), "_FUSE_COMMFD=%d", sock);
    envp = environ_with(variable);
    if (envp == NULL)
        return -ENOMEM;
    posix_spawn_file_actions_init(&actions);
    posix_spawn_file_actions_adddup2(&actions, sock, sock); /* not closed by exec */
    posix_spawn_file_actions_adddup2(&actions, say, STDERR_FILENO);
    r = posix_spawnp(ret_pid, argv[0], &actions, NULL, (char *const *)(uintptr_t)argv, envp);
    posix_spawn_file_actions_destroy(&actions);
    free(envp);
    return -r;
}

int hf_fuse_mount_by_helper(struct hf_fuse *fuse, const char *options, char said[HF_FUSE_TEXT])
{
    bool stays = strstr(fuse->opts->kernel, ",auto_unmount") != NULL;
    int pair[2], say[2], fd, r;
    pid_t pid;

    if (socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, pair) < 0)
        return -errno;
    if (pipe2(say, O_CLOEXEC) < 0) {
        r = -errno;
        close(pair[0]);
        close(pair[1]);
        return r;
    }
    r = helper_start(fuse->directory, options, pair[1], say[1], &pid);
    close(pair[1]);
    close(say[1]);
    fd = r < 0 ? r : receive_fd(pair[0]);
    said[0] = '\0';
    if (r < 0)
        snprintf(said, HF_FUSE_TEXT, "fusermount3: %s", strerror(-r));
    else if (fd < 0)
        read_said(say[0], said, HF_FUSE_TEXT);
    close(say[0]);
    if (fd >= 0 && stays)
        fuse->helper = pair[0];
    else
        close(pair[0]);
    if (r == 0 && !(fd >= 0 && stays))
        while (waitpid(pid, NULL, 0) < 0 && errno == EINTR)
            ;
    return fd >= 0 || r < 0 ? fd : -EPERM;
}

bool hf_fuse_connected(int fd)
{
    struct pollfd end = {.fd = fd};

    return poll(&end, 1, 0) >= 0 && (end.revents & POLLERR) == 0;
}
