/* SPDX-License-Identifier: MIT */
/*
 * preload_fds.c - descriptors: the program cannot close ours by chance; and calls that hand a mapping to the
 * kernel, where it cannot fault our pages in (a userfaultfd for user mode only). There a call that answers
 * EFAULT is made again, after the pages were brought in.
 */
#include "preload.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdio.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <sys/uio.h>
#include <unistd.h>

/* How often pages may leave again before a call got hold of them. */
#define TRIES 16

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

/* ------------------------------------------------------------------ mappings as buffers */

/* After an EFAULT: true if the buffer is ours and was brought in, so that the call may be made again. */
static bool brought_in(const void *buf, size_t len, bool write)
{
    if (errno != EFAULT || !hf_remote_owns(buf, len))
        return false;
    if (hf_remote_fault_in(buf, len, write) == 0)
        return true;
    errno = EFAULT;
    return false;
}

static bool vec_brought_in(const struct iovec *iov, int count, bool write)
{
    bool some = false;

    for (int i = 0; i < count; i++)
        if (hf_remote_owns(iov[i].iov_base, iov[i].iov_len)) {
            errno = EFAULT;
            if (!brought_in(iov[i].iov_base, iov[i].iov_len, write))
                return false;
            some = true;
        }
    return some;
}

/* The call; and again while it meets pages of ours that are not there. */
#define WITH_BUFFER(call, buf, len, write)                                     \
    __extension__({                                                            \
        ssize_t n;                                                             \
        int tries = 0;                                                         \
        before(buf, len, write);                                               \
        do                                                                     \
            n = (call);                                                        \
        while (n < 0 && ++tries < TRIES && brought_in((buf), (len), (write))); \
        n;                                                                     \
    })

#define WITH_VECTOR(call, iov, count, write)                                                            \
    __extension__({                                                                                     \
        ssize_t n;                                                                                      \
        int tries = 0;                                                                                  \
        do                                                                                              \
            n = (call);                                                                                 \
        while (n < 0 && errno == EFAULT && ++tries < TRIES && vec_brought_in((iov), (count), (write))); \
        n;                                                                                              \
    })

/* A datagram that cannot be copied is lost, and so may a part of other calls be: better there before. */
static void before(const void *buf, size_t len, bool write)
{
    int saved = errno;

    if (hf_remote_user_only() && hf_remote_owns(buf, len))
        hf_remote_fault_in(buf, len, write);
    errno = saved;
}

HF_EXPORT ssize_t read(int fd, void *buf, size_t len)
{
    return WITH_BUFFER(HF_NEXT(read)(fd, buf, len), buf, len, true);
}

HF_EXPORT ssize_t write(int fd, const void *buf, size_t len)
{
    return WITH_BUFFER(HF_NEXT(write)(fd, buf, len), buf, len, false);
}

HF_EXPORT ssize_t pread(int fd, void *buf, size_t len, off_t off)
{
    return WITH_BUFFER(HF_NEXT(pread)(fd, buf, len, off), buf, len, true);
}

HF_EXPORT ssize_t pwrite(int fd, const void *buf, size_t len, off_t off)
{
    return WITH_BUFFER(HF_NEXT(pwrite)(fd, buf, len, off), buf, len, false);
}

HF_EXPORT ssize_t pread64(int fd, void *buf, size_t len, off_t off);
HF_EXPORT ssize_t pread64(int fd, void *buf, size_t len, off_t off)
{
    return pread(fd, buf, len, off);
}

HF_EXPORT ssize_t pwrite64(int fd, const void *buf, size_t len, off_t off);
HF_EXPORT ssize_t pwrite64(int fd, const void *buf, size_t len, off_t off)
{
    return pwrite(fd, buf, len, off);
}

HF_EXPORT ssize_t readv(int fd, const struct iovec *iov, int count)
{
    return WITH_VECTOR(HF_NEXT(readv)(fd, iov, count), iov, count, true);
}

HF_EXPORT ssize_t writev(int fd, const struct iovec *iov, int count)
{
    return WITH_VECTOR(HF_NEXT(writev)(fd, iov, count), iov, count, false);
}

HF_EXPORT ssize_t send(int fd, const void *buf, size_t len, int flags)
{
    return WITH_BUFFER(HF_NEXT(send)(fd, buf, len, flags), buf, len, false);
}

HF_EXPORT ssize_t recv(int fd, void *buf, size_t len, int flags)
{
    return WITH_BUFFER(HF_NEXT(recv)(fd, buf, len, flags), buf, len, true);
}

HF_EXPORT size_t fwrite(const void *restrict buf, size_t size, size_t nr, FILE *restrict file)
{
    before(buf, size * nr, false);
    return HF_NEXT(fwrite)(buf, size, nr, file);
}

HF_EXPORT size_t fread(void *restrict buf, size_t size, size_t nr, FILE *restrict file)
{
    before(buf, size * nr, true);
    return HF_NEXT(fread)(buf, size, nr, file);
}
