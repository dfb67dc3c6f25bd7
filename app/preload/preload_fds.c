/* SPDX-License-Identifier: MIT */
/*
 * preload_fds.c - descriptors: the program cannot close ours by chance.
 */
#include "preload.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <sys/syscall.h>
#include <unistd.h>

static int bad_fd(void)
{
    errno = EBADF;
    return -1;
}

HF_EXPORT int close(int fd)
{
    return hf_remote_is_own_fd(fd) ? bad_fd() : HF_NEXT(close)(fd);
}

HF_EXPORT int dup3(int old, int new, int flags)
{
    if (hf_remote_is_own_fd(old))
        return bad_fd();
    if (old != new &&hf_remote_is_own_fd(new) && hf_remote_make_way(new) < 0)
        return bad_fd();
    return (int)syscall(SYS_dup3, old, new, flags);
}

HF_EXPORT int dup2(int old, int new)
{
    if (old == new) {
        if (hf_remote_is_own_fd(old) || fcntl(old, F_GETFD) < 0)
            return bad_fd();
        return new;
    }
    return dup3(old, new, 0);
}

/* Above this there are none of ours, however low the program's limit was. */
#define OURS_BELOW 65536u

/* Around each of ours. */
static int close_but_ours(unsigned first, unsigned last, unsigned flags)
{
    unsigned end = first;
    int r = 0;

    if (first > last)
        return (int)syscall(SYS_close_range, first, last, flags);
    for (; end < OURS_BELOW && end <= last; end++) {
        if (!hf_remote_is_own_fd((int)end))
            continue;
        if (end > first && r == 0)
            r = (int)syscall(SYS_close_range, first, end - 1, flags);
        first = end + 1;
    }
    if (r == 0 && first <= last)
        r = (int)syscall(SYS_close_range, first, last, flags);
    return r;
}

HF_EXPORT int close_range(unsigned first, unsigned last, int flags)
{
    return close_but_ours(first, last, (unsigned)flags);
}

HF_EXPORT void closefrom(int low)
{
    int saved = errno;

    if (close_but_ours(low > 0 ? (unsigned)low : 0u, UINT_MAX, 0) != 0)
        for (int fd = low > 0 ? low : 0; fd < 65536; fd++)
            close(fd);
    errno = saved;
}
