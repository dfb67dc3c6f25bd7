/* SPDX-License-Identifier: MIT */
/*
 * fake_server.c - see fake_server.h.
 */
#include "fake_server.h"

#include <signal.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/sysmacros.h>
#include <sys/un.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

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

static void answer_stat(int fd, unsigned asked)
{
    dprintf(fd, "pid 4711\nvolume box\x1b.hf\ndirectory /mnt/box\nblock_size 1024\npage_size 4096\n"
                "blocks 1000\nblocks_free 600\nblocks_reserved 100\n");
    dprintf(fd, "faults_store %u\nfaults_refused 3\ncached_pages 5\ndirty_pages 2\n", 100 + 50 * asked);
    dprintf(fd,
            "latency_load 0\nlatency_store %u 2048:%u 5120:%u 18446744073709551615:1\nlatency_new 3 2:1\n",
            200000 + 50000 * asked, 90 + 45 * asked, 9 + 5 * asked);
    dprintf(fd, "requests_write 9\nrequests_open 0\nnew_counter 18446744073709551615\n");
}

static void answer_busy(int fd, unsigned asked)
{
    dprintf(
        fd,
        "file ino=7 cached_pages=3 dirty_pages=2 faults_load=1 faults_store=%u faults_refused=0 mkwrites=4 "
        "blocks_reserved=8 mappings=2 path=/a dir/busy\\x0aname\n",
        40 + 20 * asked);
    dprintf(
        fd,
        "file ino=8 cached_pages=2 dirty_pages=1 faults_load=0 faults_store=9 faults_refused=3 mkwrites=0 "
        "blocks_reserved=0 mappings=1 new_key=5 path=\n");
    dprintf(fd, "file ino=9 cached_pages=1 dirty_pages=5 faults_load=0 faults_store=0 path=/idle\n");
    dprintf(fd,
            "client pid=77 connected=1 areas=3 faults_load=1 faults_store=%u faults_refused=3 waits=2 "
            "command=a db\n",
            49 + 20 * asked);
    dprintf(fd, "client pid=78 connected=0 areas=1 faults_load=0 faults_store=0 command=\n");
}

static void serve(int listening, bool knows_top)
{
    signal(SIGPIPE, SIG_IGN); /* who asked may leave */
    for (unsigned asked = 0;;) {
        int fd = accept(listening, NULL, NULL);
        char request[64] = "";
        ssize_t n = recv(fd, request, sizeof(request) - 1, 0);

        bool top = n > 0 && strncmp(request, "top\n", 4) == 0 && knows_top;

        if (top || (n > 0 && strncmp(request, "stat\n", 5) == 0))
            answer_stat(fd, asked++);
        if (top)
            answer_busy(fd, asked - 1);
        close(fd);
    }
}

static int start(bool knows_top, uid_t user)
{
    struct stat st;
    int fd = -1;

    if (stat(FAKE_DIR, &st) < 0)
        return -1;
    for (int i = 0; i < 600 && fd < 0; i++) {
        if (seteuid(user) < 0)
            return -1;
        fd = listen_at(st.st_dev); /* who listens is who is seen */
        if (seteuid(getuid()) < 0)
            return -1;
        if (fd < 0)
            nanosleep(&(struct timespec){.tv_nsec = 100000000}, NULL);
    }
    if (fd < 0)
        return -1;
    fflush(NULL);
    server = fork();
    if (server == 0) {
        serve(fd, knows_top);
        _exit(0);
    }
    close(fd);
    return 0;
}

int fake_server_start(void **state)
{
    (void)state;
    return start(true, geteuid());
}

int fake_server_start_old(void **state)
{
    (void)state;
    return start(false, geteuid());
}

int fake_server_start_as(uid_t user)
{
    return start(true, user);
}

int fake_server_stop(void **state)
{
    (void)state;
    kill(server, SIGKILL);
    waitpid(server, NULL, 0);
    return 0;
}
