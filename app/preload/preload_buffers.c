/* SPDX-License-Identifier: MIT */
/*
 * preload_buffers.c - calls that hand a mapping to the kernel, where it cannot fault our pages in (a
 * userfaultfd for user mode only). There pages are brought in before, and a call that answers EFAULT is made
 * again. What libc does inside itself is out of reach: of stdio, what may pass a buffer on is wrapped.
 */
#include "preload.h"

#include <errno.h>
#include <limits.h>
#include <stdio.h>
#include <sys/socket.h>
#include <sys/uio.h>
#include <unistd.h>

#undef fread_unlocked /* optimising headers make macros of them */
#undef fwrite_unlocked

/* How often pages may leave again before a call got hold of them. */
#define TRIES 16

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

/* What the kernel refuses as a vector is left to it. */
static bool is_vector(const struct iovec *iov, size_t count)
{
    return iov != NULL && count <= IOV_MAX;
}

static bool vec_brought_in(const struct iovec *iov, size_t count, bool write)
{
    bool some = false;

    if (!is_vector(iov, count))
        return false;
    for (size_t i = 0; i < count; i++)
        if (hf_remote_owns(iov[i].iov_base, iov[i].iov_len)) {
            errno = EFAULT;
            if (!brought_in(iov[i].iov_base, iov[i].iov_len, write))
                return false;
            some = true;
        }
    return some;
}

/* A datagram that cannot be copied is lost, and so may a part of other calls be: better there before. */
static void before(const void *buf, size_t len, bool write)
{
    int saved = errno;

    if (hf_remote_user_only() && hf_remote_owns(buf, len))
        hf_remote_fault_in(buf, len, write);
    errno = saved;
}

static void vec_before(const struct iovec *iov, size_t count, bool write)
{
    if (!hf_remote_user_only() || !is_vector(iov, count))
        return;
    for (size_t i = 0; i < count; i++)
        before(iov[i].iov_base, iov[i].iov_len, write);
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

#define WITH_VECTOR(call, iov, count, write)                     \
    __extension__({                                              \
        ssize_t n;                                               \
        int tries = 0;                                           \
        vec_before(iov, (size_t)(count), write);                 \
        do                                                       \
            n = (call);                                          \
        while (n < 0 && errno == EFAULT && ++tries < TRIES &&    \
               vec_brought_in((iov), (size_t)(count), (write))); \
        n;                                                       \
    })

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

HF_EXPORT ssize_t preadv(int fd, const struct iovec *iov, int count, off_t off)
{
    return WITH_VECTOR(HF_NEXT(preadv)(fd, iov, count, off), iov, count, true);
}

HF_EXPORT ssize_t pwritev(int fd, const struct iovec *iov, int count, off_t off)
{
    return WITH_VECTOR(HF_NEXT(pwritev)(fd, iov, count, off), iov, count, false);
}

HF_EXPORT ssize_t preadv64(int fd, const struct iovec *iov, int count, off_t off);
HF_EXPORT ssize_t preadv64(int fd, const struct iovec *iov, int count, off_t off)
{
    return preadv(fd, iov, count, off);
}

HF_EXPORT ssize_t pwritev64(int fd, const struct iovec *iov, int count, off_t off);
HF_EXPORT ssize_t pwritev64(int fd, const struct iovec *iov, int count, off_t off)
{
    return pwritev(fd, iov, count, off);
}

HF_EXPORT ssize_t preadv2(int fd, const struct iovec *iov, int count, off_t off, int flags)
{
    return WITH_VECTOR(HF_NEXT(preadv2)(fd, iov, count, off, flags), iov, count, true);
}

HF_EXPORT ssize_t pwritev2(int fd, const struct iovec *iov, int count, off_t off, int flags)
{
    return WITH_VECTOR(HF_NEXT(pwritev2)(fd, iov, count, off, flags), iov, count, false);
}

HF_EXPORT ssize_t preadv64v2(int fd, const struct iovec *iov, int count, off_t off, int flags);
HF_EXPORT ssize_t preadv64v2(int fd, const struct iovec *iov, int count, off_t off, int flags)
{
    return preadv2(fd, iov, count, off, flags);
}

HF_EXPORT ssize_t pwritev64v2(int fd, const struct iovec *iov, int count, off_t off, int flags);
HF_EXPORT ssize_t pwritev64v2(int fd, const struct iovec *iov, int count, off_t off, int flags)
{
    return pwritev2(fd, iov, count, off, flags);
}

/* ------------------------------------------------------------------ sockets */

HF_EXPORT ssize_t send(int fd, const void *buf, size_t len, int flags)
{
    return WITH_BUFFER(HF_NEXT(send)(fd, buf, len, flags), buf, len, false);
}

HF_EXPORT ssize_t recv(int fd, void *buf, size_t len, int flags)
{
    return WITH_BUFFER(HF_NEXT(recv)(fd, buf, len, flags), buf, len, true);
}

HF_EXPORT ssize_t sendto(int fd, const void *buf, size_t len, int flags, __CONST_SOCKADDR_ARG to,
                         socklen_t to_len)
{
    return WITH_BUFFER(HF_NEXT(sendto)(fd, buf, len, flags, to, to_len), buf, len, false);
}

HF_EXPORT ssize_t recvfrom(int fd, void *restrict buf, size_t len, int flags, __SOCKADDR_ARG from,
                           socklen_t *restrict from_len)
{
    return WITH_BUFFER(HF_NEXT(recvfrom)(fd, buf, len, flags, from, from_len), buf, len, true);
}

HF_EXPORT ssize_t sendmsg(int fd, const struct msghdr *msg, int flags)
{
    if (msg == NULL)
        return HF_NEXT(sendmsg)(fd, msg, flags);
    return WITH_VECTOR(HF_NEXT(sendmsg)(fd, msg, flags), msg->msg_iov, msg->msg_iovlen, false);
}

HF_EXPORT ssize_t recvmsg(int fd, struct msghdr *msg, int flags)
{
    if (msg == NULL)
        return HF_NEXT(recvmsg)(fd, msg, flags);
    return WITH_VECTOR(HF_NEXT(recvmsg)(fd, msg, flags), msg->msg_iov, msg->msg_iovlen, true);
}

/* ------------------------------------------------------------------ stdio: what it does itself, no wrapper sees */

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

HF_EXPORT size_t fwrite_unlocked(const void *restrict buf, size_t size, size_t nr, FILE *restrict file)
{
    before(buf, size * nr, false);
    return HF_NEXT(fwrite_unlocked)(buf, size, nr, file);
}

HF_EXPORT size_t fread_unlocked(void *restrict buf, size_t size, size_t nr, FILE *restrict file)
{
    before(buf, size * nr, true);
    return HF_NEXT(fread_unlocked)(buf, size, nr, file);
}

/* ------------------------------------------------------------------ the same, as _FORTIFY_SOURCE calls them */

#ifdef __GLIBC__
HF_EXPORT ssize_t __read_chk(int fd, void *buf, size_t len, size_t room);
HF_EXPORT ssize_t __read_chk(int fd, void *buf, size_t len, size_t room)
{
    return WITH_BUFFER(HF_NEXT(__read_chk)(fd, buf, len, room), buf, len, true);
}

HF_EXPORT ssize_t __pread_chk(int fd, void *buf, size_t len, off_t off, size_t room);
HF_EXPORT ssize_t __pread_chk(int fd, void *buf, size_t len, off_t off, size_t room)
{
    return WITH_BUFFER(HF_NEXT(__pread_chk)(fd, buf, len, off, room), buf, len, true);
}

HF_EXPORT ssize_t __pread64_chk(int fd, void *buf, size_t len, off64_t off, size_t room);
HF_EXPORT ssize_t __pread64_chk(int fd, void *buf, size_t len, off64_t off, size_t room)
{
    return WITH_BUFFER(HF_NEXT(__pread64_chk)(fd, buf, len, off, room), buf, len, true);
}

HF_EXPORT ssize_t __recv_chk(int fd, void *buf, size_t len, size_t room, int flags);
HF_EXPORT ssize_t __recv_chk(int fd, void *buf, size_t len, size_t room, int flags)
{
    return WITH_BUFFER(HF_NEXT(__recv_chk)(fd, buf, len, room, flags), buf, len, true);
}

HF_EXPORT ssize_t __recvfrom_chk(int fd, void *restrict buf, size_t len, size_t room, int flags,
                                 __SOCKADDR_ARG from, socklen_t *restrict from_len);
HF_EXPORT ssize_t __recvfrom_chk(int fd, void *restrict buf, size_t len, size_t room, int flags,
                                 __SOCKADDR_ARG from, socklen_t *restrict from_len)
{
    return WITH_BUFFER(HF_NEXT(__recvfrom_chk)(fd, buf, len, room, flags, from, from_len), buf, len, true);
}

HF_EXPORT size_t __fread_chk(void *restrict buf, size_t room, size_t size, size_t nr, FILE *restrict file);
HF_EXPORT size_t __fread_chk(void *restrict buf, size_t room, size_t size, size_t nr, FILE *restrict file)
{
    before(buf, size * nr, true);
    return HF_NEXT(__fread_chk)(buf, room, size, nr, file);
}

HF_EXPORT size_t __fread_unlocked_chk(void *restrict buf, size_t room, size_t size, size_t nr,
                                      FILE *restrict file);
HF_EXPORT size_t __fread_unlocked_chk(void *restrict buf, size_t room, size_t size, size_t nr,
                                      FILE *restrict file)
{
    before(buf, size * nr, true);
    return HF_NEXT(__fread_unlocked_chk)(buf, room, size, nr, file);
}
#endif
