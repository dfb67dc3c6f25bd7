/* SPDX-License-Identifier: MIT */
/*
 * control.c - both ends of the control socket (control.h). Without libfuse: it is in every build.
 */
#include "control.h"

#include <errno.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/sysmacros.h>
#include <sys/time.h>
#include <sys/un.h>
#include <unistd.h>

static socklen_t address(dev_t device, struct sockaddr_un *ret_address)
{
    int n;

    *ret_address = (struct sockaddr_un){.sun_family = AF_UNIX};
    n = snprintf(ret_address->sun_path + 1, sizeof(ret_address->sun_path) - 1, "holdfast-mount-%u:%u",
                 major(device), minor(device));
    return (socklen_t)(offsetof(struct sockaddr_un, sun_path) + 1 + (size_t)n);
}

static int close_with(int fd, int error)
{
    close(fd);
    return -error;
}

int hf_control_listen(dev_t device)
{
    struct sockaddr_un addr;
    socklen_t len = address(device, &addr);
    int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);

    if (fd < 0)
        return -errno;
    if (bind(fd, (struct sockaddr *)&addr, len) < 0 || listen(fd, 16) < 0)
        return close_with(fd, errno);
    return fd;
}

static int peer_of(int fd, struct ucred *ret_peer)
{
    socklen_t len = sizeof(*ret_peer);

    return getsockopt(fd, SOL_SOCKET, SO_PEERCRED, ret_peer, &len) < 0 ? -errno : 0;
}

/* 0: the peer is this user, or root, or this is root. */
static int peer_check(int fd)
{
    struct ucred peer;
    int r = peer_of(fd, &peer);

    if (r < 0)
        return r;
    return peer.uid == 0 || peer.uid == geteuid() || geteuid() == 0 ? 0 : -EACCES;
}

/* Whose mount a device number is, as the kernel has it. */
static bool is_mount_of(dev_t device, uid_t user)
{
    FILE *in = fopen("/proc/self/mountinfo", "re");
    char *line = NULL;
    size_t size = 0;
    bool found = false;

    while (in != NULL && !found && getline(&line, &size, in) > 0) {
        const char *owner = strstr(line, ",user_id=");
        unsigned first, second, uid;

        found = owner != NULL && sscanf(line, "%*d %*d %u:%u", &first, &second) == 2 &&
                makedev(first, second) == device && sscanf(owner, ",user_id=%u", &uid) == 1 && uid == user;
    }
    free(line);
    if (in != NULL)
        fclose(in);
    return found;
}

/* 0: who answers is root, or whose mount it is. Anybody may take the address of a server that is not there. */
static int server_check(int fd, dev_t device)
{
    struct ucred peer;
    int r = peer_of(fd, &peer);

    if (r < 0)
        return r;
    return peer.uid == 0 || (peer_check(fd) == 0 && (peer.uid == geteuid() || is_mount_of(device, peer.uid)))
               ? 0
               : -EACCES;
}

/* Whether users that this user namespace does not know look like this one: all of them look like one. */
static bool is_like_strangers(void)
{
    unsigned strangers = 65534, first = 1, outside = 1, count = 0;
    FILE *in = fopen("/proc/sys/kernel/overflowuid", "re");

    if (in != NULL) {
        (void)!fscanf(in, "%u", &strangers);
        fclose(in);
    }
    if (geteuid() != strangers)
        return false;
    in = fopen("/proc/self/uid_map", "re");
    if (in != NULL) {
        (void)!fscanf(in, "%u %u %u", &first, &outside, &count);
        fclose(in);
    }
    return first != 0 || count != UINT32_MAX; /* else there are no strangers */
}

/* 0: the process lives in our user namespace, so its user is who it seems to be. */
static int neighbour_check(int fd)
{
    struct stat ours, theirs;
    struct ucred peer;
    char path[64];
    int r = peer_of(fd, &peer);

    if (r < 0)
        return r;
    snprintf(path, sizeof(path), "/proc/%d/ns/user", (int)peer.pid);
    if (stat("/proc/self/ns/user", &ours) < 0 || stat(path, &theirs) < 0)
        return -EACCES;
    return ours.st_ino == theirs.st_ino && ours.st_dev == theirs.st_dev ? 0 : -EACCES;
}

int hf_control_ask(dev_t device, const char *request)
{
    struct sockaddr_un addr;
    socklen_t len = address(device, &addr);
    int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0), n, r;
    char line[HF_CONTROL_LINE];

    if (fd < 0)
        return -errno;
    if (connect(fd, (struct sockaddr *)&addr, len) < 0)
        return close_with(fd, errno == ECONNREFUSED ? ENOENT : errno);
    r = server_check(fd, device);
    if (r < 0)
        return close_with(fd, -r);
    n = snprintf(line, sizeof(line), "%s\n", request);
    if (send(fd, line, (size_t)n, MSG_NOSIGNAL) != n)
        return close_with(fd, EPIPE);
    return fd;
}

int hf_control_request(int fd, char line[HF_CONTROL_LINE])
{
    size_t used = 0;

    while (used + 1 < HF_CONTROL_LINE) {
        ssize_t n = recv(fd, line + used, HF_CONTROL_LINE - 1 - used, 0);

        if (n < 0 && errno == EINTR)
            continue;
        if (n <= 0)
            return -EPROTO;
        used += (size_t)n;
        line[used] = '\0';
        if (strchr(line, '\n') != NULL) {
            line[strcspn(line, "\n")] = '\0';
            return 0;
        }
    }
    return -EPROTO;
}

int hf_control_accept(int listening)
{
    /* a peer that says nothing, or does not listen, is not waited for long */
    const struct timeval patience = {.tv_sec = 2};
    int fd = accept4(listening, NULL, NULL, SOCK_CLOEXEC), r;

    if (fd < 0)
        return -errno;
    setsockopt(fd, SOL_SOCKET, SO_RCVTIMEO, &patience, sizeof(patience));
    setsockopt(fd, SOL_SOCKET, SO_SNDTIMEO, &patience, sizeof(patience));
    r = peer_check(fd);
    if (r == 0 && is_like_strangers())
        r = neighbour_check(fd);
    return r < 0 ? close_with(fd, -r) : fd;
}
