/* SPDX-License-Identifier: MIT */
/*
 * remote_conn.c - connections to servers, and the helper thread of each.
 *
 * The helper sleeps in poll(2) on the socket, the helper socket and the userfaultfd. That holds all three
 * open even if the program closes their descriptors: so tracking cannot end silently, and a server that goes
 * is noticed.
 */
#include "remote_conn.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/userfaultfd.h>
#include <poll.h>
#include <pthread.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <sys/un.h>
#include <unistd.h>

#define FDS_SENT 2
/* Our descriptors lie where a program that counts on low numbers does not notice them. */
#define FD_FLOOR 1000

struct hf_remote_conn hf_remote_conns[HF_REMOTE_CONNS_MAX];
static pthread_mutex_t rpc_lock = PTHREAD_MUTEX_INITIALIZER, table_lock = PTHREAD_MUTEX_INITIALIZER;
static unsigned last_serial;
static bool user_only;
/* Whose all this is: a page that a child with memory of its own finds wiped. NULL: nothing was ever mapped. */
static _Atomic pid_t *owner;

/* ------------------------------------------------------------------ locks */

static void signals_block(sigset_t *ret_mask)
{
    static const int synchronous[] = {SIGBUS, SIGSEGV, SIGFPE, SIGILL, SIGTRAP, SIGABRT, SIGSYS};
    sigset_t most;

    sigfillset(&most);
    for (size_t i = 0; i < sizeof(synchronous) / sizeof(synchronous[0]); i++)
        sigdelset(&most, synchronous[i]);
    pthread_sigmask(SIG_BLOCK, &most, ret_mask);
}

static void owner_set(void)
{
    long p;

    if (owner == NULL) {
        p = hf_sys_mmap(0, sizeof(*owner), PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
        if (p < 0)
            return;
        if (hf_sys_madvise((uintptr_t)p, sizeof(*owner), MADV_WIPEONFORK) < 0) {
            hf_sys_munmap((uintptr_t)p, sizeof(*owner));
            return;
        }
        owner = (_Atomic pid_t *)p;
    }
    *owner = getpid();
}

/* The descriptors are left to exec: nobody knows whose table of them this is. */
void hf_remote_renew(void)
{
    if (owner == NULL || *owner != 0)
        return;
    for (int i = 0; i < HF_REMOTE_CONNS_MAX; i++) {
        struct hf_remote_conn *c = &hf_remote_conns[i];

        c->state = HF_REMOTE_FREE;
        c->sock = c->uffd = c->helper = c->child_sock = -1;
    }
    hf_remote_nr_ranges = 0;
    pthread_mutex_init(&rpc_lock, NULL);
    pthread_mutex_init(&table_lock, NULL);
    owner_set();
}

void hf_remote_lock(sigset_t *ret_mask)
{
    signals_block(ret_mask);
    hf_remote_renew();
    pthread_mutex_lock(&rpc_lock);
}

void hf_remote_unlock(const sigset_t *mask)
{
    pthread_mutex_unlock(&rpc_lock);
    pthread_sigmask(SIG_SETMASK, mask, NULL);
}

void hf_remote_table_lock(void)
{
    pthread_mutex_lock(&table_lock);
}

void hf_remote_table_unlock(void)
{
    pthread_mutex_unlock(&table_lock);
}

void hf_remote_lock_reset(void)
{
    owner_set();
    pthread_mutex_init(&rpc_lock, NULL);
    pthread_mutex_init(&table_lock, NULL);
    pthread_mutex_lock(&rpc_lock);
}

/* ------------------------------------------------------------------ descriptors */

int hf_remote_raise_fd(int fd)
{
    struct rlimit limit;
    int high = -1;

    if (fd < 0)
        return fd;
    if (getrlimit(RLIMIT_NOFILE, &limit) == 0 && limit.rlim_cur > FD_FLOOR + 64)
        high = fcntl(fd, F_DUPFD_CLOEXEC, FD_FLOOR);
    if (high < 0)
        return fd;
    syscall(SYS_close, fd);
    return high;
}

static void close_fd(_Atomic int *fd)
{
    int was = atomic_exchange(fd, -1);

    if (was >= 0)
        syscall(SYS_close, was);
}

static int userfaultfd_open(void)
{
    const char *forced = getenv("HOLDFAST_USER_ONLY");
    int fd = -1, dev;

    if (forced == NULL || forced[0] != '1') {
        fd = (int)syscall(SYS_userfaultfd, O_CLOEXEC | O_NONBLOCK);
        if (fd >= 0)
            return fd;
        dev = (int)syscall(SYS_openat, AT_FDCWD, "/dev/userfaultfd", O_RDWR | O_CLOEXEC);
        if (dev >= 0) {
            fd = ioctl(dev, USERFAULTFD_IOC_NEW, O_CLOEXEC | O_NONBLOCK);
            syscall(SYS_close, dev);
        }
        if (fd >= 0)
            return fd;
    }
    fd = (int)syscall(SYS_userfaultfd, O_CLOEXEC | O_NONBLOCK | UFFD_USER_MODE_ONLY);
    if (fd >= 0)
        user_only = true;
    return fd >= 0 ? fd : -EOPNOTSUPP;
}

bool hf_remote_user_only(void)
{
    return user_only;
}

bool hf_remote_is_own_fd(int fd)
{
    for (int i = 0; i < HF_REMOTE_CONNS_MAX; i++) {
        const struct hf_remote_conn *c = &hf_remote_conns[i];
        if (c->state == HF_REMOTE_LIVE && fd >= 0 && (fd == c->sock || fd == c->uffd || fd == c->helper))
            return true;
    }
    return false;
}

int hf_remote_make_way(int fd)
{
    sigset_t mask;
    int err = 0;

    /* After vfork the memory is our parent's, and the descriptors are not. */
    if (owner != NULL && *owner != 0 && *owner != getpid())
        return 0;
    hf_remote_lock(&mask);
    for (int i = 0; i < HF_REMOTE_CONNS_MAX && !err; i++) {
        struct hf_remote_conn *c = &hf_remote_conns[i];
        _Atomic int *own[] = {&c->sock, &c->uffd, &c->helper};

        for (int j = 0; j < 3 && c->state == HF_REMOTE_LIVE; j++)
            if (*own[j] == fd) {
                int other = fcntl(fd, F_DUPFD_CLOEXEC, fd + 1);
                if (other < 0)
                    err = -errno;
                else
                    *own[j] = other;
            }
    }
    hf_remote_unlock(&mask);
    return err;
}

/* ------------------------------------------------------------------ requests */

static bool send_request(int sock, const struct hf_serve_request *request, const int *fds)
{
    union {
        char room[CMSG_SPACE(FDS_SENT * sizeof(int))];
        struct cmsghdr align;
    } control;
    struct iovec iov = {.iov_base = (void *)(uintptr_t)request, .iov_len = sizeof(*request)};
    struct msghdr msg = {.msg_iov = &iov, .msg_iovlen = 1};
    ssize_t n;

    if (fds != NULL) {
        struct cmsghdr *m;

        memset(&control, 0, sizeof(control));
        msg.msg_control = control.room;
        msg.msg_controllen = sizeof(control.room);
        m = CMSG_FIRSTHDR(&msg);
        m->cmsg_level = SOL_SOCKET;
        m->cmsg_type = SCM_RIGHTS;
        m->cmsg_len = CMSG_LEN(FDS_SENT * sizeof(int));
        memcpy(CMSG_DATA(m), fds, FDS_SENT * sizeof(int));
    }
    do
        n = syscall(SYS_sendmsg, sock, &msg, MSG_NOSIGNAL);
    while (n < 0 && errno == EINTR);
    return n == (ssize_t)sizeof(*request);
}

static bool receive_reply(int sock, struct hf_serve_reply *ret_reply, int *ret_fd)
{
    union {
        char room[CMSG_SPACE(sizeof(int))];
        struct cmsghdr align;
    } control;
    struct iovec iov = {.iov_base = ret_reply, .iov_len = sizeof(*ret_reply)};
    struct msghdr msg = {.msg_iov = &iov,
                         .msg_iovlen = 1,
                         .msg_control = control.room,
                         .msg_controllen = sizeof(control.room)};
    struct cmsghdr *m;
    ssize_t n;
    int fd = -1;

    do
        n = syscall(SYS_recvmsg, sock, &msg, MSG_CMSG_CLOEXEC);
    while (n < 0 && errno == EINTR);
    if (n != (ssize_t)sizeof(*ret_reply))
        return false;
    m = CMSG_FIRSTHDR(&msg);
    if (m != NULL && m->cmsg_level == SOL_SOCKET && m->cmsg_type == SCM_RIGHTS)
        memcpy(&fd, CMSG_DATA(m), sizeof(fd));
    if (ret_fd != NULL)
        *ret_fd = fd;
    else if (fd >= 0)
        syscall(SYS_close, fd);
    return true;
}

static int call_with(struct hf_remote_conn *c, const struct hf_serve_request *request, const int *fds,
                     struct hf_serve_reply *ret_reply, int *ret_fd)
{
    if (ret_fd != NULL)
        *ret_fd = -1;
    if (c->state == HF_REMOTE_DEAD)
        return -EIO;
    if (!send_request(c->sock, request, fds) || !receive_reply(c->sock, ret_reply, ret_fd))
        return -EIO; /* the helper sees it, too, and takes the mappings away */
    return ret_reply->error;
}

int hf_remote_call(struct hf_remote_conn *c, const struct hf_serve_request *request,
                   struct hf_serve_reply *ret_reply, int *ret_fd)
{
    return call_with(c, request, NULL, ret_reply, ret_fd);
}

/* ------------------------------------------------------------------ the helper thread */

struct watched {
    int slot;
    unsigned serial;
};

/* The server wants this page out of the page table. Only if it is ours: the question may be an old one. */
static void drop_page(uintptr_t page)
{
    size_t i;

    hf_remote_table_lock();
    i = hf_remote_range_first(page);
    if (i < hf_remote_nr_ranges && hf_remote_ranges[i].start <= page)
        hf_sys_madvise(page, (size_t)sysconf(_SC_PAGESIZE), MADV_DONTNEED);
    hf_remote_table_unlock();
}

static bool answer_drop(int helper)
{
    struct hf_serve_drop drop;
    ssize_t n = syscall(SYS_recvfrom, helper, &drop, sizeof(drop), MSG_DONTWAIT, NULL, NULL);

    if (n < 0 && (errno == EAGAIN || errno == EINTR))
        return true;
    if (n != (ssize_t)sizeof(drop))
        return false;
    drop_page((uintptr_t)drop.addr);
    return syscall(SYS_sendto, helper, &drop, sizeof(drop), MSG_NOSIGNAL, NULL, 0) == (ssize_t)sizeof(drop);
}

static void server_gone(const struct watched *w)
{
    struct hf_remote_conn *c = &hf_remote_conns[w->slot];
    sigset_t mask;

    hf_remote_lock(&mask);
    if (c->serial == w->serial) {
        hf_remote_bury(w->slot);
        close_fd(&c->sock);
        close_fd(&c->helper);
        close_fd(&c->uffd);
    }
    hf_remote_unlock(&mask);
}

static void *helper_main(void *arg)
{
    struct watched w = *(struct watched *)arg;
    const struct hf_remote_conn *c = &hf_remote_conns[w.slot];

    free(arg);
    prctl(PR_SET_NAME, "hf-helper");
    for (;;) {
        /* The numbers may change while we sleep (hf_remote_make_way); what we sleep on does not. */
        struct pollfd fds[3] = {{.fd = c->helper, .events = POLLIN}, {.fd = c->sock}, {.fd = c->uffd}};
        int n = (int)syscall(SYS_ppoll, fds, 3, NULL, NULL, 0);

        if (n < 0 && errno != EINTR)
            break;
        if (n > 0 && (fds[1].revents != 0 || (fds[0].revents & ~POLLIN) != 0 || !answer_drop(c->helper)))
            break;
    }
    server_gone(&w);
    return NULL;
}

static int watched_new(int slot, struct watched **ret_watched)
{
    struct watched *w = malloc(sizeof(*w));

    if (w == NULL)
        return -ENOMEM;
    *w = (struct watched){.slot = slot, .serial = hf_remote_conns[slot].serial};
    *ret_watched = w;
    return 0;
}

int hf_remote_helper_start(int slot)
{
    struct watched *w;
    pthread_attr_t attr;
    pthread_t thread;
    sigset_t all, old;
    int err = watched_new(slot, &w);

    if (err)
        return err;
    pthread_attr_init(&attr);
    pthread_attr_setdetachstate(&attr, PTHREAD_CREATE_DETACHED);
    pthread_attr_setstacksize(&attr, 128 * 1024);
    sigfillset(&all);
    pthread_sigmask(SIG_SETMASK, &all, &old);
    err = -pthread_create(&thread, &attr, helper_main, w);
    pthread_sigmask(SIG_SETMASK, &old, NULL);
    pthread_attr_destroy(&attr);
    if (err)
        free(w);
    return err;
}

/* ------------------------------------------------------------------ coming and going */

int hf_remote_hello(struct hf_remote_conn *c)
{
    struct hf_serve_request hello = {.op = HF_SERVE_HELLO, .flags = HF_SERVE_VERSION};
    struct hf_serve_reply reply;
    int pair[2], fds[FDS_SENT], err;

    c->uffd = hf_remote_raise_fd(userfaultfd_open());
    if (c->uffd < 0)
        return -EOPNOTSUPP;
    if (socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, pair) < 0) {
        err = -errno;
    } else {
        c->helper = hf_remote_raise_fd(pair[0]);
        fds[0] = c->uffd;
        fds[1] = pair[1];
        c->serial = ++last_serial;
        c->state = HF_REMOTE_LIVE;
        err = call_with(c, &hello, fds, &reply, NULL);
        syscall(SYS_close, pair[1]);
    }
    if (err) {
        close_fd(&c->uffd);
        close_fd(&c->helper);
        c->state = HF_REMOTE_FREE;
    }
    return err;
}

static int socket_to(const char *path)
{
    struct sockaddr_un addr = {.sun_family = AF_UNIX};
    int fd, err;

    if (strlen(path) >= sizeof(addr.sun_path))
        return -ENAMETOOLONG;
    strcpy(addr.sun_path, path);
    fd = socket(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0);
    if (fd < 0)
        return -errno;
    if (connect(fd, (struct sockaddr *)&addr, sizeof(addr)) < 0) {
        err = -errno;
        syscall(SYS_close, fd);
        return err;
    }
    return hf_remote_raise_fd(fd);
}

static int slot_of(const char *path)
{
    int free_slot = -EMFILE;

    for (int i = 0; i < HF_REMOTE_CONNS_MAX; i++) {
        if (hf_remote_conns[i].state == HF_REMOTE_LIVE && strcmp(hf_remote_conns[i].path, path) == 0)
            return i;
        if (hf_remote_conns[i].state != HF_REMOTE_LIVE && free_slot < 0)
            free_slot = i;
    }
    return free_slot;
}

int hf_remote_connect(const char *path)
{
    int slot = slot_of(path);
    struct hf_remote_conn *c;
    int err;

    if (slot < 0)
        return slot;
    c = &hf_remote_conns[slot];
    if (c->state == HF_REMOTE_LIVE)
        return slot;
    c->sock = socket_to(path);
    if (c->sock < 0)
        return c->sock;
    owner_set();
    strcpy(c->path, path);
    c->helper = c->uffd = c->child_sock = -1;
    err = hf_remote_hello(c);
    if (!err)
        err = hf_remote_helper_start(slot);
    if (err) {
        c->state = HF_REMOTE_FREE;
        close_fd(&c->sock);
        close_fd(&c->uffd);
        close_fd(&c->helper);
        return err;
    }
    return slot;
}

void hf_remote_map_bus(uintptr_t start, uintptr_t end)
{
    /* A file without a byte: every touch is beyond its end. */
    int fd = (int)syscall(SYS_memfd_create, "holdfast-gone", MFD_CLOEXEC);
    long p = -EBADF;

    if (fd >= 0)
        p = hf_sys_mmap(start, end - start, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_FIXED, fd, 0);
    if (fd >= 0)
        syscall(SYS_close, fd);
    if (p < 0) /* SIGSEGV, then: never bytes that are not the file's */
        hf_sys_mmap(start, end - start, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED | MAP_NORESERVE,
                    -1, 0);
}

void hf_remote_bury(int slot)
{
    struct hf_remote_conn *c = &hf_remote_conns[slot];
    size_t i = 0;

    if (c->state != HF_REMOTE_LIVE)
        return;
    c->state = HF_REMOTE_DEAD;
    hf_remote_table_lock();
    while (i < hf_remote_nr_ranges) {
        struct hf_remote_range *r = &hf_remote_ranges[i];
        struct uffdio_range wake = {.start = r->start, .len = r->end - r->start};

        if (r->conn != slot) {
            i++;
            continue;
        }
        hf_remote_map_bus(r->start, r->end);
        ioctl(c->uffd, UFFDIO_WAKE, &wake);
        hf_remote_range_remove(i);
    }
    hf_remote_table_unlock();
}
