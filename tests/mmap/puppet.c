/* SPDX-License-Identifier: MIT */
/*
 * puppet.c - see puppet.h.
 */
#include "puppet.h"

#include "preload/remote.h"

#include <linux/userfaultfd.h>
#include <poll.h>
#include <pthread.h>
#include <setjmp.h>
#include <sys/ioctl.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <ucontext.h>

#define ANSWER_MS 60000

/* A forked puppet starts a helper thread of its own, which ThreadSanitizer allows only if told so. */
const char *__tsan_default_options(void);
const char *__tsan_default_options(void)
{
    return "die_after_fork=0";
}

/* ------------------------------------------------------------------ in the puppet */

static struct slot {
    uint8_t *map;
    size_t len;
} slots[PUPPET_SLOTS];

static sigjmp_buf refused;
static volatile sig_atomic_t armed;
static struct hf_fault fault;

static void on_fault(int sig, siginfo_t *info, void *context)
{
    int err = -EFAULT;
    bool write = true;

#ifdef __x86_64__
    write = (((ucontext_t *)context)->uc_mcontext.gregs[REG_ERR] & 2) != 0;
#else
    (void)context;
#endif
    fault = (struct hf_fault){.error = 0};
    if (sig == SIGBUS)
        err = hf_remote_sigbus(info->si_addr, write, &fault);
    if (err == 0)
        return;
    if (!armed)
        _exit(97);
    armed = 0;
    siglongjmp(refused, err == 1 ? EFAULT : -err);
}

static int64_t touch(const struct puppet_order *o)
{
    volatile uint8_t *at = slots[o->slot].map + o->at;

    switch (o->op) {
    case PUPPET_STORE:
        *at = (uint8_t)o->value;
        return 0;
    case PUPPET_FILL:
        for (size_t i = 0; i < o->len; i++)
            at[i] = (uint8_t)o->value;
        return 0;
    case PUPPET_LOAD:
        return *at;
    default:
        for (size_t i = 0; i < o->len; i++)
            if (at[i] != (uint8_t)o->value)
                return 0;
        return 1;
    }
}

static int64_t guarded_touch(const struct puppet_order *o)
{
    int err = sigsetjmp(refused, 1);
    int64_t result;

    if (err != 0)
        return -err;
    armed = 1;
    result = touch(o);
    armed = 0;
    return result;
}

static int64_t do_syscall(const struct puppet_order *o)
{
    int fds[2];
    int64_t n;

    if (pipe(fds) < 0)
        return -errno;
    n = write(fds[1], slots[o->slot].map + o->at, o->len);
    if (n < 0)
        n = -errno;
    close(fds[0]);
    close(fds[1]);
    return n;
}

static int64_t do_mapping(const struct puppet_order *o, struct slot *s)
{
    void *map = NULL;
    int64_t err;

    switch (o->op) {
    case PUPPET_MAP:
        err = hf_remote_map(&o->ticket, "puppet's file", NULL, o->len, o->prot, MAP_SHARED, o->off, &map);
        if (!err)
            *s = (struct slot){.map = map, .len = o->len};
        return err;
    case PUPPET_UNMAP:
        err = hf_remote_release(s->map, s->len);
        return err ? err : munmap(s->map, s->len) < 0 ? -errno : 0;
    case PUPPET_PROTECT:
        err = hf_remote_protect(s->map, s->len, o->prot);
        return err ? err : mprotect(s->map, s->len, o->prot) < 0 ? -errno : 0;
    case PUPPET_REMAP:
        err = hf_remote_remap(s->map, s->len, o->len, MREMAP_MAYMOVE, NULL, &map);
        if (!err)
            *s = (struct slot){.map = map, .len = o->len};
        return err;
    default:
        return hf_remote_sync(s->map, s->len);
    }
}

/* The parent, if it stays, only waits for its child. */
static int64_t do_fork(const struct puppet_order *o)
{
    pid_t pid = fork();
    int status;

    if (pid < 0)
        return -errno;
    if (pid == 0)
        return 0;
    if (o->value)
        _exit(0);
    while (waitpid(pid, &status, 0) < 0 && errno == EINTR)
        ;
    _exit(WIFEXITED(status) ? WEXITSTATUS(status) : 98);
}

static int64_t obey(const struct puppet_order *o)
{
    if (o->slot >= PUPPET_SLOTS)
        return -EINVAL;
    switch (o->op) {
    case PUPPET_STORE:
    case PUPPET_FILL:
    case PUPPET_LOAD:
    case PUPPET_EXPECT:
        return guarded_touch(o);
    case PUPPET_FORK:
        return do_fork(o);
    case PUPPET_SYSCALL:
        return do_syscall(o);
    case PUPPET_USER_ONLY:
        return hf_remote_user_only();
    case PUPPET_EXIT:
        return 0;
    default:
        return do_mapping(o, &slots[o->slot]);
    }
}

int puppet_main(int argc, char **argv)
{
    struct sigaction action = {.sa_sigaction = on_fault, .sa_flags = SA_SIGINFO | SA_NODEFER};
    int sock = argc > 0 ? atoi(argv[0]) : -1;
    struct puppet_order order;

    sigaction(SIGBUS, &action, NULL);
    sigaction(SIGSEGV, &action, NULL);
    pthread_atfork(hf_remote_fork_prepare, hf_remote_fork_parent, hf_remote_fork_child);
    while (recv(sock, &order, sizeof(order), 0) == (ssize_t)sizeof(order)) {
        struct puppet_answer answer = {.result = obey(&order), .fault = fault, .pid = getpid()};

        if (send(sock, &answer, sizeof(answer), MSG_NOSIGNAL) != (ssize_t)sizeof(answer))
            return 1;
        if (order.op == PUPPET_EXIT)
            return 0;
    }
    return 0; /* the test has ended */
}

/* ------------------------------------------------------------------ in the test */

struct puppet puppet_new(const char *env)
{
    int pair[2];
    char number[16], *args[] = {number, NULL};
    struct puppet p;

    assert_ok(socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, pair) < 0 ? -errno : 0);
    assert_ok(fcntl(pair[1], F_SETFD, 0) < 0 ? -errno : 0);
    snprintf(number, sizeof(number), "%d", pair[1]);
    if (env != NULL)
        assert_ok(putenv((char *)(uintptr_t)env));
    p.pid = exec_child("puppet", args);
    p.sock = pair[0];
    close(pair[1]);
    return p;
}

void puppet_send(struct puppet *p, const struct puppet_order *order)
{
    assert_count(send(p->sock, order, sizeof(*order), MSG_NOSIGNAL), sizeof(*order));
}

bool puppet_answered(struct puppet *p, int ms, struct puppet_answer *ret_answer)
{
    struct pollfd pfd = {.fd = p->sock, .events = POLLIN};
    int n;

    do
        n = poll(&pfd, 1, ms);
    while (n < 0 && errno == EINTR);
    if (n == 0)
        return false;
    assert_that(recv(p->sock, ret_answer, sizeof(*ret_answer), 0) == (ssize_t)sizeof(*ret_answer),
                "the other process is gone");
    return true;
}

struct puppet_answer puppet_do(struct puppet *p, const struct puppet_order *order)
{
    struct puppet_answer answer;

    puppet_send(p, order);
    assert_that(puppet_answered(p, ANSWER_MS, &answer), "the other process does not answer to order %d",
                (int)order->op);
    return answer;
}

void puppet_end(struct puppet *p)
{
    assert_ok(puppet_do(p, &(struct puppet_order){.op = PUPPET_EXIT}).result);
    close(p->sock);
    expect_exit_0(p->pid);
}

void puppet_kill(struct puppet *p)
{
    kill(p->pid, SIGKILL);
    expect_death_by(p->pid, SIGKILL);
    close(p->sock);
}

int64_t puppet_store(struct puppet *p, unsigned slot, size_t at, int value)
{
    return puppet_do(p, &(struct puppet_order){.op = PUPPET_STORE, .slot = slot, .at = at, .value = value})
        .result;
}

int64_t puppet_load(struct puppet *p, unsigned slot, size_t at)
{
    return puppet_do(p, &(struct puppet_order){.op = PUPPET_LOAD, .slot = slot, .at = at}).result;
}

int64_t puppet_map(struct puppet *p, unsigned slot, const struct hf_serve_ticket *ticket, size_t len,
                   int prot, int64_t off)
{
    struct puppet_order order = {
        .op = PUPPET_MAP, .slot = slot, .len = len, .prot = prot, .off = off, .ticket = *ticket};

    return puppet_do(p, &order).result;
}

bool puppets_work(void)
{
    struct uffdio_api api = {
        .api = UFFD_API, .features = UFFD_FEATURE_MINOR_SHMEM | UFFD_FEATURE_WP_HUGETLBFS_SHMEM | (1 << 14)};
    int fd = (int)syscall(SYS_userfaultfd, O_CLOEXEC | UFFD_USER_MODE_ONLY);
    bool works = fd >= 0 && ioctl(fd, UFFDIO_API, &api) == 0;

    if (!works)
        puts(
            "mappings of other processes are not tested: no userfaultfd with UFFDIO_POISON (Linux 6.6) here");
    if (fd >= 0)
        close(fd);
    return works;
}
