/* SPDX-License-Identifier: MIT */
/*
 * engine_uffd.c - the inline engine, and what it shares with the thread engine: userfaultfd on memfd
 * mappings.
 *
 * Registered MISSING | MINOR | WP, a shared area meets us at every first touch (no page in the memfd:
 * MISSING; a page in the memfd but not in this page table: MINOR) and at every store to a write-protected
 * page (WP). A page enters write-protected unless page_mkwrite has run, in one step (UFFDIO_COPY and
 * UFFDIO_CONTINUE with MODE_WP), so there is no moment at which it could be stored to. The kernel's
 * mprotect(2) keeps that protection. A private area is registered MISSING | MINOR: what CONTINUE maps there
 * is copy-on-write by itself. Inline: UFFD_FEATURE_SIGBUS, so that a fault is a signal to whoever faulted,
 * and nobody ever waits in the kernel.
 */
#include "mm/engine.h"

#include <assert.h>
#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <unistd.h>

#define ZEROS_SIZE ((size_t)65536)
/* How often one page may turn out to be the other kind (hole or not) before the fault starts over. */
#define INSTALL_TRIES 8

static const char zeros[ZEROS_SIZE] __attribute__((aligned(4096)));
static int inline_fd = -1;

/* ioctl(2) without errno: 0 or -errno. */
static int uffd_ioctl(int fd, unsigned long request, void *arg)
{
    int saved = errno;
    int err = ioctl(fd, request, arg) < 0 ? -errno : 0;

    errno = saved;
    return err;
}

/* ------------------------------------------------------------------ opening */

static int uffd_create(bool user_only)
{
    int flags = O_CLOEXEC | O_NONBLOCK | (user_only ? UFFD_USER_MODE_ONLY : 0);
    int fd = (int)syscall(SYS_userfaultfd, flags);
    int dev, err;

    if (fd >= 0)
        return fd;
    err = -errno;
    /* The device's permissions decide where the sysctl says no. */
    dev = open("/dev/userfaultfd", O_RDWR | O_CLOEXEC);
    if (dev < 0)
        return err;
    fd = ioctl(dev, USERFAULTFD_IOC_NEW, O_CLOEXEC | O_NONBLOCK);
    if (fd < 0)
        fd = err;
    close(dev);
    return fd;
}

/* Linux 6.4 and later: a page of the memfd enters write-protected. No feature bit says so. */
static int check_continue_wp(int fd, char *page, size_t size)
{
    struct uffdio_register reg = {
        .range = {.start = (uintptr_t)page, .len = size},
        .mode = UFFDIO_REGISTER_MODE_MISSING | UFFDIO_REGISTER_MODE_MINOR | UFFDIO_REGISTER_MODE_WP,
    };
    struct uffdio_continue cont = {
        .range = {.start = (uintptr_t)page, .len = size},
        .mode = UFFDIO_CONTINUE_MODE_WP,
    };
    int err = uffd_ioctl(fd, UFFDIO_REGISTER, &reg);

    return err ? err : uffd_ioctl(fd, UFFDIO_CONTINUE, &cont);
}

static int uffd_check(int fd, const char **ret_why)
{
    size_t size = hf_hw_page_size();
    int memfd = memfd_create("holdfast-probe", MFD_CLOEXEC);
    void *page = MAP_FAILED;
    int err = -EOPNOTSUPP;

    *ret_why = "memfd_create is refused";
    if (memfd < 0)
        return -errno;
    *ret_why = "a page cannot enter write-protected (UFFDIO_CONTINUE_MODE_WP, Linux 6.4)";
    if (ftruncate(memfd, (off_t)size) == 0 && pwrite(memfd, "", 1, 0) == 1)
        page = mmap(NULL, size, PROT_READ | PROT_WRITE, MAP_SHARED, memfd, 0);
    if (page != MAP_FAILED) {
        err = check_continue_wp(fd, page, size);
        munmap(page, size);
    }
    close(memfd);
    return err ? -EOPNOTSUPP : 0;
}

/* What the kernel offers less than features, by name. */
static const char *feature_missing(int fd, uint64_t features)
{
    static const struct {
        uint64_t bit;
        const char *why;
    } names[] = {
        {UFFD_FEATURE_MISSING_SHMEM, "no UFFD_FEATURE_MISSING_SHMEM (Linux 4.11)"},
        {UFFD_FEATURE_SIGBUS, "no UFFD_FEATURE_SIGBUS (Linux 4.14)"},
        {UFFD_FEATURE_PAGEFAULT_FLAG_WP, "no UFFD_FEATURE_PAGEFAULT_FLAG_WP (Linux 5.7)"},
        {UFFD_FEATURE_MINOR_SHMEM, "no UFFD_FEATURE_MINOR_SHMEM (Linux 5.14)"},
        {UFFD_FEATURE_WP_HUGETLBFS_SHMEM, "no UFFD_FEATURE_WP_HUGETLBFS_SHMEM (Linux 5.19)"},
        {UFFD_FEATURE_POISON, "no UFFD_FEATURE_POISON (Linux 6.6)"},
    };
    struct uffdio_api api = {.api = UFFD_API};

    if (uffd_ioctl(fd, UFFDIO_API, &api) == 0)
        for (size_t i = 0; i < sizeof(names) / sizeof(names[0]); i++)
            if (features & names[i].bit & ~api.features)
                return names[i].why;
    return "userfaultfd does not speak this version of its interface";
}

int hf_uffd_open(uint64_t features, bool user_only, const char **ret_why)
{
    struct uffdio_api api = {.api = UFFD_API, .features = features | HF_UFFD_FEATURES};
    int fd = uffd_create(user_only);
    int err;

    if (fd < 0) {
        *ret_why = fd == -ENOSYS ? "this kernel has no userfaultfd"
                   : user_only   ? "userfaultfd is refused, as sandboxes do"
                                 : "userfaultfd for faults of system calls is refused to this user";
        return fd;
    }
    err = uffd_ioctl(fd, UFFDIO_API, &api);
    if (err) {
        *ret_why = feature_missing(fd, features | HF_UFFD_FEATURES);
        err = -EOPNOTSUPP;
    } else {
        err = uffd_check(fd, ret_why);
    }
    if (err) {
        close(fd);
        return err;
    }
    *ret_why = user_only ? "userfaultfd, in the storing thread" : "userfaultfd, served by a thread";
    return fd;
}

/* ------------------------------------------------------------------ areas */

int hf_uffd_watch(int fd, struct hf_vma *vma, uintptr_t start, uintptr_t end)
{
    struct uffdio_register reg = {
        .range = {.start = start, .len = end - start},
        .mode = UFFDIO_REGISTER_MODE_MISSING | UFFDIO_REGISTER_MODE_MINOR,
    };
    int err;

    if (vma->shared)
        reg.mode |= UFFDIO_REGISTER_MODE_WP;
    err = uffd_ioctl(fd, UFFDIO_REGISTER, &reg);
    if (err)
        return err;
    if (vma->prot != PROT_NONE && mprotect((void *)start, end - start, vma->prot) != 0)
        return -errno;
    return 0;
}

int hf_uffd_protect(struct hf_vma *vma, int prot)
{
    return mprotect((void *)vma->start, hf_vma_len(vma), prot) != 0 ? -errno : 0;
}

int hf_uffd_write_protect(int fd, uintptr_t start, uintptr_t end, uint64_t mode)
{
    struct uffdio_writeprotect wp = {.range = {.start = start, .len = end - start}, .mode = mode};
    int err;

    do
        err = uffd_ioctl(fd, UFFDIO_WRITEPROTECT, &wp);
    while (err == -EAGAIN);
    return err;
}

void hf_uffd_mkclean(int fd, uintptr_t start, uintptr_t end)
{
    int err = hf_uffd_write_protect(fd, start, end, UFFDIO_WRITEPROTECT_MODE_WP);

    if (err == 0)
        return;
    /* No memory for page tables, or cut behind our back: out of the page table altogether is protected as
     * well. */
    err = madvise((void *)start, end - start, MADV_DONTNEED) != 0 ? -errno : 0;
    assert((err == 0 || err == -ENOMEM) && "a page that cannot be write-protected");
    (void)err;
}

/* ------------------------------------------------------------------ installing */

struct installer {
    int fd;
    bool shared, writable, wake;
    struct hf_vma *vma;
};

/* Both return how many bytes from the start were done, or -errno for the first page. */
static int64_t install_zeros(const struct installer *in, uintptr_t at, size_t len)
{
    struct uffdio_copy copy = {
        .dst = at,
        .src = (uintptr_t)zeros,
        .len = len < ZEROS_SIZE ? len : ZEROS_SIZE,
        .mode = (in->writable ? 0 : UFFDIO_COPY_MODE_WP) | (in->wake ? 0 : UFFDIO_COPY_MODE_DONTWAKE),
    };
    int err = uffd_ioctl(in->fd, UFFDIO_COPY, &copy);

    return err && copy.copy <= 0 ? err : copy.copy;
}

static int64_t install_cached(const struct installer *in, uintptr_t at, size_t len)
{
    struct uffdio_continue cont = {
        .range = {.start = at, .len = len},
        .mode = (in->writable || !in->shared ? 0 : UFFDIO_CONTINUE_MODE_WP) |
                (in->wake ? 0 : UFFDIO_CONTINUE_MODE_DONTWAKE),
    };
    int err = uffd_ioctl(in->fd, UFFDIO_CONTINUE, &cont);

    return err && cont.mapped <= 0 ? err : cont.mapped;
}

static int64_t make_hole_page(const struct installer *in, uintptr_t at, size_t len)
{
    int err;

    if (in->shared)
        return install_zeros(in, at, len);
    /* UFFDIO_COPY would make the copy of a private area at once, and cut it off from the file. */
    err = hf_mapping_instantiate(in->vma->region->mapping, hf_vma_offset(in->vma, at), (hf_off_t)len);
    return err ? err : install_cached(in, at, len);
}

/* One page that met an obstacle: 0 (done), 1 (try the other way), or -errno. */
static int install_obstacle(const struct installer *in, uintptr_t at, size_t page, int64_t err, bool hole)
{
    if (err == -EAGAIN)
        return 1;
    if (hole)
        return err == -EEXIST ? 1 : (int)err; /* not a hole after all */
    if (err == -EFAULT)
        return 1; /* a hole after all */
    if (err != -EEXIST)
        return (int)err;
    /* It is mapped; only a store to a shared area needs more than that. */
    if (in->shared && in->writable)
        return hf_uffd_write_protect(in->fd, at, at + page, in->wake ? 0 : UFFDIO_WRITEPROTECT_MODE_DONTWAKE);
    return 0;
}

int hf_uffd_install(int fd, struct hf_vma *vma, uintptr_t start, uintptr_t end, bool writable, bool hole,
                    bool present, bool wake)
{
    struct installer in = {
        .fd = fd,
        .shared = vma->shared,
        .writable = writable && vma->shared && (vma->prot & PROT_WRITE),
        .wake = wake,
        .vma = vma,
    };
    size_t page = hf_hw_page_size();
    bool as_hole = hole;
    int tries = 0;

    /* A store to a protected page: one call does it.
     * Neighbours that are not mapped yet fault when touched. */
    if (present && in.writable)
        return hf_uffd_write_protect(fd, start, end, wake ? 0 : UFFDIO_WRITEPROTECT_MODE_DONTWAKE);
    while (start < end) {
        int64_t done =
            as_hole ? make_hole_page(&in, start, end - start) : install_cached(&in, start, end - start);
        int r;

        if (done > 0) {
            start += (uintptr_t)done;
            as_hole = hole;
            tries = 0;
            continue;
        }
        r = install_obstacle(&in, start, page, done, as_hole);
        if (r < 0)
            return r;
        if (r == 0) {
            start += page;
            as_hole = hole;
            tries = 0;
            continue;
        }
        if (done != -EAGAIN)
            as_hole = !as_hole;
        if (++tries > INSTALL_TRIES)
            return -EAGAIN;
    }
    return 0;
}

/* ------------------------------------------------------------------ the inline engine */

static int inline_probe(const char **ret_why)
{
    int fd = hf_uffd_open(UFFD_FEATURE_SIGBUS, true, ret_why);

    if (fd < 0)
        return fd;
    inline_fd = fd;
    return 0;
}

static int inline_watch(struct hf_vma *vma, uintptr_t start, uintptr_t end)
{
    return hf_uffd_watch(inline_fd, vma, start, end);
}

static int inline_install(struct hf_vma *vma, uintptr_t start, uintptr_t end, bool writable, bool hole,
                          bool present)
{
    return hf_uffd_install(inline_fd, vma, start, end, writable, hole, present, false);
}

static void inline_mkclean(struct hf_vma *vma, uintptr_t start, uintptr_t end)
{
    (void)vma;
    hf_uffd_mkclean(inline_fd, start, end);
}

static void inline_forked(void)
{
    /* It names the parent's address space. */
    if (inline_fd >= 0)
        close(inline_fd);
    inline_fd = -1;
}

const struct hf_engine hf_engine_inline = {
    .name = "inline",
    .probe = inline_probe,
    .watch = inline_watch,
    .install = inline_install,
    .mkclean = inline_mkclean,
    .protect = hf_uffd_protect,
    .forked = inline_forked,
};
