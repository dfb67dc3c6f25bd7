/* SPDX-License-Identifier: MIT */
/* dev_tmpfs.c - see dev_tmpfs.h. */
#define _GNU_SOURCE
#include "dev_tmpfs.h"

#include "check.h"

#include <fcntl.h>
#include <sched.h>
#include <sys/mount.h>
#include <sys/wait.h>

static void write_file(const char *path, const char *text)
{
    int fd = open(path, O_WRONLY | O_CLOEXEC);

    if (fd < 0 || write(fd, text, strlen(text)) < 0)
        _exit(TMPFS_REFUSED);
    close(fd);
}

/* Without a mapping our own files would belong to nobody, and could not be made. */
static void map_ids(uid_t uid, gid_t gid)
{
    char text[64];

    snprintf(text, sizeof(text), "0 %u 1", uid);
    write_file("/proc/self/uid_map", text);
    write_file("/proc/self/setgroups", "deny");
    snprintf(text, sizeof(text), "0 %u 1", gid);
    write_file("/proc/self/gid_map", text);
}

void tmpfs_mount(const char *size)
{
    uid_t uid = getuid();
    gid_t gid = getgid();
    char options[64];

    if (unshare(CLONE_NEWNS) < 0) {
        if (unshare(CLONE_NEWUSER | CLONE_NEWNS) < 0)
            _exit(TMPFS_REFUSED);
        map_ids(uid, gid);
    }
    snprintf(options, sizeof(options), "size=%s", size);
    if (mount("none", "/", NULL, MS_REC | MS_PRIVATE, NULL) < 0 ||
        mount("tmpfs", TMPFS_DIR, "tmpfs", 0, options) < 0)
        _exit(TMPFS_REFUSED);
}

void tmpfs_run(void (*fn)(void))
{
    int status = 0;
    pid_t pid = fork();

    if (pid == 0) {
        fn();
        _exit(0);
    }
    assert_true(pid > 0);
    assert_ok(waitpid(pid, &status, 0));
    assert_true(WIFEXITED(status));
    if (WEXITSTATUS(status) == TMPFS_REFUSED)
        skip();
    assert_int_equal(WEXITSTATUS(status), 0);
}
