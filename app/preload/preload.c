/* SPDX-License-Identifier: MIT */
/*
 * preload.c - mmap and its family, for files of a mount that serves its mappings.
 *
 * A shared mapping of such a file becomes a mapping of the server's memfd. A private one stays the kernel's:
 * what is stored there is nobody's business; what the kernel had cached of the file is dropped before, so
 * that it is read anew.
 */
#include "preload.h"

#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <sys/vfs.h>
#include <unistd.h>

#define FUSE_MAGIC 0x65735546
#define LABEL_MAX HF_SERVE_NAME_LEN

void *hf_preload_next(const char *name)
{
    return dlsym(RTLD_NEXT, name);
}

__attribute__((constructor)) static void start(void)
{
    pthread_atfork(hf_remote_fork_prepare, hf_remote_fork_parent, hf_remote_fork_child);
}

static int fail(int err)
{
    errno = -err;
    return -1;
}

/* ------------------------------------------------------------------ whose file is it */

static bool ticket_of(int fd, struct hf_serve_ticket *ret_ticket)
{
    struct statfs fs;
    int saved = errno;
    bool ours = fstatfs(fd, &fs) == 0 && fs.f_type == FUSE_MAGIC &&
                ioctl(fd, (unsigned long)HF_SERVE_IOC_TICKET, ret_ticket) == 0;

    errno = saved;
    if (ours)
        ret_ticket->socket[sizeof(ret_ticket->socket) - 1] = '\0';
    return ours;
}

/* Of a long path the end, which has the file's name; and nothing that a terminal would obey. */
static void label_of(int fd, char ret_label[LABEL_MAX])
{
    static const char dots[] = "...";
    char link[40], path[4096];
    const size_t room = LABEL_MAX - 1, skip = sizeof(dots) - 1;
    ssize_t n;
    size_t len;

    snprintf(link, sizeof(link), "/proc/self/fd/%d", fd);
    n = readlink(link, path, sizeof(path));
    len = n > 0 ? (size_t)n : 0;
    if (len <= room) {
        memcpy(ret_label, path, len);
    } else {
        memcpy(ret_label, dots, skip);
        memcpy(ret_label + skip, path + len - (room - skip), room - skip);
        len = room;
    }
    ret_label[len] = '\0';
    for (char *c = ret_label; *c != '\0'; c++)
        if ((unsigned char)*c < ' ' || *c == 0x7f)
            *c = '?';
}

/* Said once a process; the program goes on with what the mount itself offers. */
static void say_unsupported(void)
{
    static const char line[] = "holdfast: this machine refuses userfaultfd: mappings of the volume are the "
                               "kernel's own, and a full volume "
                               "shows only at msync, fsync or close\n";
    static int said;

    if (__atomic_exchange_n(&said, 1, __ATOMIC_RELAXED) == 0)
        (void)!write(STDERR_FILENO, line, sizeof(line) - 1);
}

/* ------------------------------------------------------------------ mmap */

static void *kernel_mmap(void *addr, size_t len, int prot, int flags, int fd, int64_t off)
{
    if ((flags & MAP_FIXED) && hf_remote_owns(addr, len)) {
        int err = hf_remote_release(addr, len);

        if (err) {
            errno = -err;
            return MAP_FAILED;
        }
    }
    return (void *)syscall(SYS_mmap, addr, len, prot, flags, fd, off);
}

static void *served_mmap(const struct hf_serve_ticket *ticket, void *addr, size_t len, int prot, int flags,
                         int fd, int64_t off)
{
    char label[LABEL_MAX];
    void *map;
    int saved = errno, err;

    label_of(fd, label);
    hf_preload_catch();
    err = hf_remote_map(ticket, label, addr, len, prot, flags & (MAP_FIXED | MAP_FIXED_NOREPLACE), off, &map);
    if (err == -EOPNOTSUPP) {
        map = kernel_mmap(addr, len, prot, flags, fd, off);
        if (map != MAP_FAILED) /* else the mount serves mappings: the program has its error */
            say_unsupported();
        return map;
    }
    if (err) {
        errno = -err;
        return MAP_FAILED;
    }
    if (flags & MAP_POPULATE)
        hf_remote_fault_in(map, len, false);
    errno = saved;
    return map;
}

static void *any_mmap(void *addr, size_t len, int prot, int flags, int fd, int64_t off)
{
    struct hf_serve_ticket ticket;
    int type = flags & MAP_TYPE;

    if ((flags & MAP_ANONYMOUS) || fd < 0 || !ticket_of(fd, &ticket))
        return kernel_mmap(addr, len, prot, flags, fd, off);
    if (type == MAP_SHARED || type == MAP_SHARED_VALIDATE)
        return served_mmap(&ticket, addr, len, prot, flags, fd, off);
    posix_fadvise(fd, 0, 0, POSIX_FADV_DONTNEED);
    return kernel_mmap(addr, len, prot, flags, fd, off);
}

HF_EXPORT void *mmap(void *addr, size_t len, int prot, int flags, int fd, off_t off)
{
    return any_mmap(addr, len, prot, flags, fd, off);
}

HF_EXPORT void *mmap64(void *addr, size_t len, int prot, int flags, int fd, off_t off);
HF_EXPORT void *mmap64(void *addr, size_t len, int prot, int flags, int fd, off_t off)
{
    return any_mmap(addr, len, prot, flags, fd, off);
}

/* ------------------------------------------------------------------ and its family */

HF_EXPORT int munmap(void *addr, size_t len)
{
    int err = hf_remote_owns(addr, len) ? hf_remote_release(addr, len) : 0;

    return err ? fail(err) : (int)syscall(SYS_munmap, addr, len);
}

HF_EXPORT int mprotect(void *addr, size_t len, int prot)
{
    int err = hf_remote_owns(addr, len) ? hf_remote_protect(addr, len, prot) : 0;

    return err ? fail(err) : (int)syscall(SYS_mprotect, addr, len, prot);
}

HF_EXPORT void *mremap(void *old, size_t old_len, size_t new_len, int flags, ...)
{
    void *to = NULL, *moved;
    va_list args;
    int err;

    if (flags & MREMAP_FIXED) {
        va_start(args, flags);
        to = va_arg(args, void *);
        va_end(args);
    }
    if (hf_remote_owns(old, old_len > 0 ? old_len : 1)) {
        err = hf_remote_remap(old, old_len, new_len, flags, to, &moved);
    } else {
        err = (flags & MREMAP_FIXED) && hf_remote_owns(to, new_len) ? hf_remote_release(to, new_len) : 0;
        if (!err)
            return (void *)syscall(SYS_mremap, old, old_len, new_len, flags, to);
    }
    if (!err)
        return moved;
    errno = -err;
    return MAP_FAILED;
}

HF_EXPORT int msync(void *addr, size_t len, int flags)
{
    /* The kernel checks arguments and gaps; of a memfd it has nothing to write. */
    int r = (int)syscall(SYS_msync, addr, len, flags), err;

    if (r != 0 || !(flags & MS_SYNC) || !hf_remote_owns(addr, len))
        return r;
    err = hf_remote_sync(addr, len);
    return err ? fail(err) : 0;
}

/* Advice that would undo what tracking needs. */
HF_EXPORT int madvise(void *addr, size_t len, int advice)
{
    int err = 0;

    if (!hf_remote_owns(addr, len))
        return (int)syscall(SYS_madvise, addr, len, advice);
    switch (advice) {
    case MADV_DONTFORK:
    case MADV_DOFORK:
        hf_remote_inherit(addr, len, advice == MADV_DOFORK);
        return 0;
    case MADV_HUGEPAGE:
        return 0;
    case MADV_REMOVE: /* would punch the memfd and not the file */
        return fail(-EOPNOTSUPP);
#ifdef MADV_POPULATE_READ
    case MADV_POPULATE_READ:
    case MADV_POPULATE_WRITE:
        err = hf_remote_fault_in(addr, len, advice == MADV_POPULATE_WRITE);
        return err ? fail(-EFAULT) : 0;
#endif
    default:
        return (int)syscall(SYS_madvise, addr, len, advice);
    }
}
