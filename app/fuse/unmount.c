/* SPDX-License-Identifier: MIT */
/*
 * unmount.c - taking the mount away, with privilege or through fusermount3.
 */
#include "server.h"

#include <errno.h>
#include <fcntl.h>
#include <spawn.h>
#include <sys/mount.h>
#include <sys/wait.h>
#include <unistd.h>

extern char **environ;

/* fusermount3 exits with 1 for every failure; what it is asked for here fails because the mount is in use. */
static int by_helper(const char *directory, bool lazy)
{
    const char *argv[] = {"fusermount3",           "-u", "-q", lazy ? "-z" : "--", lazy ? "--" : directory,
                          lazy ? directory : NULL, NULL};
    posix_spawn_file_actions_t actions;
    int status = 0, r;
    pid_t pid;

    posix_spawn_file_actions_init(&actions);
    posix_spawn_file_actions_addopen(&actions, STDERR_FILENO, "/dev/null", O_WRONLY, 0);
    r = posix_spawnp(&pid, argv[0], &actions, NULL, (char *const *)(uintptr_t)argv, environ);
    posix_spawn_file_actions_destroy(&actions);
    if (r != 0)
        return -r;
    while (waitpid(pid, &status, 0) < 0)
        if (errno != EINTR)
            return -errno;
    return WIFEXITED(status) && WEXITSTATUS(status) == 0 ? 0 : -EBUSY;
}

int hf_fuse_unmount(struct hf_fuse *fuse, bool lazy)
{
    if (umount2(fuse->directory, UMOUNT_NOFOLLOW | (lazy ? MNT_DETACH : 0)) == 0)
        return 0;
    if (errno != EPERM)
        return -errno;
    return by_helper(fuse->directory, lazy);
}
