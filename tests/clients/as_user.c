/* SPDX-License-Identifier: MIT */
/*
 * as_user.c - as_user PROGRAM [ARGUMENT...]: runs a program that refuses to run as root. In a user namespace
 * where the caller is the user with the number 1, it owns the same files as before. Leaves with 77 if there
 * can be none.
 */
#include <fcntl.h>
#include <sched.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

static int put(const char *path, const char *text)
{
    int fd = open(path, O_WRONLY | O_CLOEXEC);
    ssize_t n = fd < 0 ? -1 : write(fd, text, strlen(text));

    if (fd >= 0)
        close(fd);
    return n < 0 ? -1 : 0;
}

int main(int argc, char **argv)
{
    char uids[32], gids[32];

    if (argc < 2)
        return 2;
    snprintf(uids, sizeof(uids), "1 %u 1", (unsigned)geteuid());
    snprintf(gids, sizeof(gids), "1 %u 1", (unsigned)getegid());
    if (unshare(CLONE_NEWUSER) < 0 || put("/proc/self/setgroups", "deny") < 0 ||
        put("/proc/self/uid_map", uids) < 0 || put("/proc/self/gid_map", gids) < 0) {
        perror("a user namespace");
        return 77;
    }
    execvp(argv[1], argv + 1);
    perror(argv[1]);
    return 127;
}
