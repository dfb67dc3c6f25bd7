/* SPDX-License-Identifier: MIT */
/*
 * bare.c - see bare.h. No bookkeeping, no locks, one page a fault.
 *
 * The handler knows what happened from the page-fault error code (x86-64): not present -> the page is
 * missing, or only unmapped (then UFFDIO_COPY says EEXIST and UFFDIO_CONTINUE does it, as every handler on a
 * memfd has to); present and a write -> write-protected. Elsewhere the ioctls are tried in turn.
 */
#include "bare.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/userfaultfd.h>
#include <signal.h>
#include <stdbool.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <ucontext.h>
#include <unistd.h>

#ifndef USERFAULTFD_IOC_NEW
#define USERFAULTFD_IOC_NEW _IO(0xAA, 0x00)
#endif
#define CONTINUE_MODE_WP ((__u64)1 << 1) /* Linux 6.4; not in older headers */
#define PAGE 4096u

static uint8_t zero_page[PAGE] __attribute__((aligned(PAGE)));
static const struct bare *the_bare;

static int copy_zero(uint64_t page, bool write)
{
    struct uffdio_copy copy = {.dst = page, .src = (uintptr_t)zero_page, .len = PAGE};

    copy.mode = write ? 0 : UFFDIO_COPY_MODE_WP;
    return ioctl(the_bare->uffd, UFFDIO_COPY, &copy) ? -errno : 0;
}

static int map_present(uint64_t page, bool write)
{
    struct uffdio_continue cont = {.range = {.start = page, .len = PAGE}};

    cont.mode = write ? 0 : CONTINUE_MODE_WP;
    return ioctl(the_bare->uffd, UFFDIO_CONTINUE, &cont) ? -errno : 0;
}

static int protect(uint64_t start, uint64_t len, bool on)
{
    struct uffdio_writeprotect wp = {.range = {.start = start, .len = len}};

    wp.mode = on ? UFFDIO_WRITEPROTECT_MODE_WP : 0;
    return ioctl(the_bare->uffd, UFFDIO_WRITEPROTECT, &wp) ? -errno : 0;
}

static void on_fault(int signo, siginfo_t *info, void *context)
{
    uint64_t page = (uintptr_t)info->si_addr & ~(uint64_t)(PAGE - 1);
    bool present = false, write = true;
    int saved = errno, rc;

    (void)signo;
#if defined(__x86_64__)
    present = (((ucontext_t *)context)->uc_mcontext.gregs[REG_ERR] & 1) != 0;
    write = (((ucontext_t *)context)->uc_mcontext.gregs[REG_ERR] & 2) != 0;
#else
    (void)context;
#endif
    /* A missing page of the first mapping is a hole; the second is only used over pages that are there. */
    if (present)
        rc = protect(page, PAGE, false);
    else if (page >= (uintptr_t)the_bare->map[1] && page < (uintptr_t)the_bare->map[1] + the_bare->len)
        rc = map_present(page, write);
    else
        rc = copy_zero(page, write);
    if (rc == -EEXIST)
        rc = protect(page, PAGE, false);
    if (rc && rc != -EAGAIN)
        _exit(3);
    errno = saved;
}

static int open_uffd(void)
{
    int dev = open("/dev/userfaultfd", O_RDWR | O_CLOEXEC), fd;

    if (dev >= 0) {
        fd = ioctl(dev, USERFAULTFD_IOC_NEW, O_CLOEXEC);
        close(dev);
        if (fd >= 0)
            return fd;
    }
    fd = (int)syscall(SYS_userfaultfd, O_CLOEXEC | UFFD_USER_MODE_ONLY);
    return fd < 0 ? -errno : fd;
}

int bare_init(struct bare *bare)
{
    struct uffdio_api api = {.api = UFFD_API,
                             .features = UFFD_FEATURE_SIGBUS | UFFD_FEATURE_PAGEFAULT_FLAG_WP |
                                         UFFD_FEATURE_MINOR_SHMEM | UFFD_FEATURE_WP_HUGETLBFS_SHMEM};
    struct sigaction sa = {.sa_sigaction = on_fault, .sa_flags = SA_SIGINFO | SA_NODEFER};

    memset(bare, 0, sizeof(*bare));
    bare->uffd = open_uffd();
    if (bare->uffd < 0)
        return bare->uffd;
    if (ioctl(bare->uffd, UFFDIO_API, &api))
        return -errno;
    the_bare = bare;
    return sigaction(SIGBUS, &sa, NULL) ? -errno : 0;
}

int bare_map(struct bare *bare, size_t len)
{
    bare->len = len;
    bare->memfd = memfd_create("bare", MFD_CLOEXEC);
    if (bare->memfd < 0 || ftruncate(bare->memfd, (off_t)len))
        return -errno;
    for (unsigned i = 0; i < 2; i++) {
        struct uffdio_register reg = {.range = {.len = len}};

        bare->map[i] = mmap(NULL, len, PROT_READ | PROT_WRITE, MAP_SHARED, bare->memfd, 0);
        if (bare->map[i] == MAP_FAILED)
            return -errno;
        reg.range.start = (uintptr_t)bare->map[i];
        reg.mode = UFFDIO_REGISTER_MODE_MISSING | UFFDIO_REGISTER_MODE_WP | UFFDIO_REGISTER_MODE_MINOR;
        if (ioctl(bare->uffd, UFFDIO_REGISTER, &reg))
            return -errno;
    }
    return 0;
}

void bare_unmap(struct bare *bare)
{
    munmap(bare->map[0], bare->len);
    munmap(bare->map[1], bare->len);
    close(bare->memfd);
}

int bare_clean(struct bare *bare)
{
    return protect((uintptr_t)bare->map[0], bare->len, true);
}

void bare_done(struct bare *bare)
{
    close(bare->uffd);
}
