/* SPDX-License-Identifier: MIT */
/*
 * ask.c - see ask.h.
 */
#include "ask.h"

#include "../fuse/control.h"
#include "cli.h"
#include <errno.h>
#include <stdbool.h>
#include <sys/stat.h>
#include <sys/vfs.h>

static int fail_gone(const char *path)
{
    return hf_cli_fail("its server is gone", "umount or 'fusermount3 -u' takes the mount away", "%s", path);
}

/* The kernel may still remember attributes, and answer stat() by itself; this it asks. */
static bool is_dead(const char *path)
{
    struct statfs st;

    return statfs(path, &st) < 0 && errno == ENOTCONN;
}

int hf_cli_ask_where(const char *path, dev_t *ret_device)
{
    struct stat st;

    if (stat(path, &st) < 0)
        return errno == ENOTCONN ? fail_gone(path) : hf_cli_fail_host(errno, "%s", path);
    *ret_device = st.st_dev;
    return HF_CLI_OK;
}

int hf_cli_ask(dev_t device, const char *path, const char *request, int *ret_fd)
{
    int fd = hf_control_ask(device, request);

    if (fd == -ENOENT)
        return is_dead(path)
                   ? fail_gone(path)
                   : hf_cli_fail("no volume is mounted there by 'holdfast mount'", NULL, "%s", path);
    if (fd == -EACCES)
        return hf_cli_fail("who answers for it is neither root nor the user whose mount it is", NULL, "%s",
                           path);
    if (fd < 0)
        return hf_cli_fail_host(fd, "asking the server of %s", path);
    *ret_fd = fd;
    return HF_CLI_OK;
}
