/* SPDX-License-Identifier: MIT */
/*
 * hostile_clients.c - what a lying client sends harms nobody else: garbage, truncated and oversized messages,
 * wrong descriptors, ranges that are none, ends at any moment. Meanwhile an honest client stores and
 * compares. Afterwards the server serves, and holds no descriptor, block or reservation more than before.
 *
 * The liar is this program, executed again. What it does follows from its seed, which is printed;
 * HF_TEST_SEED replays one, HF_TEST_ROUNDS makes more of them.
 */
#include "mmap_test.h"
#include "puppet.h"

#include <dirent.h>
#include <linux/capability.h>
#include <linux/userfaultfd.h>
#include <sched.h>
#include <sys/epoll.h>
#include <sys/ioctl.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <sys/un.h>
#include <sys/wait.h>

#define PAGES 4u
#define CONNECTIONS 24u
#define MESSAGES 16u
#define FDS_MOST 8u
#define NOBODY 65534
#define TOKENS 2u
#define WAIT_S 120

/* ------------------------------------------------------------------ chance */

static uint64_t rng;

static uint64_t chance(void)
{
    uint64_t z = rng += 0x9e3779b97f4a7c15u;

    z = (z ^ z >> 30) * 0xbf58476d1ce4e5b9u;
    z = (z ^ z >> 27) * 0x94d049bb133111ebu;
    return z ^ z >> 31;
}

static unsigned below(unsigned n)
{
    return (unsigned)(chance() % n);
}

static void noise(void *buf, size_t len)
{
    uint8_t *at = buf;

    for (size_t i = 0; i < len; i++)
        at[i] = (uint8_t)chance();
}

/* ------------------------------------------------------------------ in the liar */

static struct liar {
    struct sockaddr_un server;
    uint8_t tokens[TOKENS][HF_SERVE_TOKEN_LEN];
    size_t len; /* of the files */
    int sock, uffd, helper, memfd;
    uint8_t *map; /* of memfd, PROT_NONE; never touched */
} liar;

static int userfaultfd_new(void)
{
    return (int)syscall(SYS_userfaultfd, O_CLOEXEC | O_NONBLOCK | UFFD_USER_MODE_ONLY);
}

/* Something that is no userfaultfd, or none that serves. The caller closes it. */
static int wrong_fd(void)
{
    struct uffdio_api api = {.api = UFFD_API};
    int fds[2];

    switch (below(8)) {
    case 0:
        return open("/dev/null", O_RDWR | O_CLOEXEC);
    case 1:
        return open("/", O_PATH | O_CLOEXEC);
    case 2:
        return epoll_create1(EPOLL_CLOEXEC);
    case 3:
        return liar.memfd >= 0 ? dup(liar.memfd) : -1;
    case 4:
        return dup(liar.sock);
    case 5:
        fds[0] = userfaultfd_new();
        ioctl(fds[0], UFFDIO_API, &api); /* used up */
        return fds[0];
    case 6:
        return userfaultfd_new();
    default:
        if (pipe2(fds, O_CLOEXEC) < 0)
            return -1;
        close(fds[1]);
        return fds[0];
    }
}

static bool send_with(const void *buf, size_t len, const int *fds, unsigned nr)
{
    union {
        char room[CMSG_SPACE(FDS_MOST * sizeof(int))];
        struct cmsghdr align;
    } control;
    struct iovec iov = {.iov_base = (void *)(uintptr_t)buf, .iov_len = len};
    struct msghdr msg = {.msg_iov = &iov, .msg_iovlen = 1};

    if (nr > 0) {
        struct cmsghdr *m;

        memset(&control, 0, sizeof(control));
        msg.msg_control = control.room;
        msg.msg_controllen = CMSG_SPACE(nr * sizeof(int));
        m = CMSG_FIRSTHDR(&msg);
        m->cmsg_level = SOL_SOCKET;
        m->cmsg_type = SCM_RIGHTS;
        m->cmsg_len = CMSG_LEN(nr * sizeof(int));
        memcpy(CMSG_DATA(m), fds, nr * sizeof(int));
    }
    return sendmsg(liar.sock, &msg, MSG_NOSIGNAL) == (ssize_t)len;
}

/* False: the server has closed. Keeps the descriptor that came along if there is a place for it. */
static bool take_reply(void)
{
    union {
        char room[CMSG_SPACE(sizeof(int))];
        struct cmsghdr align;
    } control;
    struct hf_serve_reply reply;
    struct iovec iov = {.iov_base = &reply, .iov_len = sizeof(reply)};
    struct msghdr msg = {.msg_iov = &iov,
                         .msg_iovlen = 1,
                         .msg_control = control.room,
                         .msg_controllen = sizeof(control.room)};
    struct cmsghdr *m;
    int fd = -1;

    if (recvmsg(liar.sock, &msg, MSG_CMSG_CLOEXEC) <= 0)
        return false;
    m = CMSG_FIRSTHDR(&msg);
    if (m != NULL && m->cmsg_type == SCM_RIGHTS)
        memcpy(&fd, CMSG_DATA(m), sizeof(fd));
    if (liar.memfd < 0)
        liar.memfd = fd;
    else if (fd >= 0)
        close(fd);
    return true;
}

static uint64_t odd_address(void)
{
    uint64_t hw = (uint64_t)sysconf(_SC_PAGESIZE), map = (uint64_t)(uintptr_t)liar.map;
    const uint64_t some[] = {map,
                             map,
                             map + hw,
                             map + 1,
                             map + liar.len,
                             map - hw,
                             0,
                             hw,
                             UINT64_MAX - hw + 1,
                             UINT64_MAX,
                             chance(),
                             chance() & ~(hw - 1),
                             (uint64_t)(uintptr_t)&hw & ~(hw - 1)};

    return some[below(ARRAY_LEN(some))];
}

static uint64_t odd_length(void)
{
    uint64_t hw = (uint64_t)sysconf(_SC_PAGESIZE);
    const uint64_t some[] = {liar.len, liar.len,   hw,        hw,       2 * liar.len, 1,
                             0,        UINT64_MAX, INT64_MAX, chance(), hw + 1,       UINT64_MAX & ~(hw - 1),
                             1u << 20, hw << 24,   1ull << 63};

    return some[below(ARRAY_LEN(some))];
}

static int64_t odd_offset(void)
{
    int64_t hw = sysconf(_SC_PAGESIZE);
    const int64_t some[] = {0,   0,  hw, (int64_t)liar.len, INT64_MAX, INT64_MAX & ~(hw - 1), INT64_MIN,
                            -hw, -1, 1,  (int64_t)chance(), 1ll << 40};

    return some[below(ARRAY_LEN(some))];
}

static struct hf_serve_request twisted(void)
{
    struct hf_serve_request r = {.op = 1 + below(10), .flags = HF_SERVE_VERSION};

    if (below(16) == 0)
        r.op = (uint32_t)chance();
    if (below(8) == 0)
        r.flags = (uint32_t)chance();
    r.addr = odd_address();
    r.len = odd_length();
    r.off = odd_offset();
    r.prot = below(4) == 0 ? (uint32_t)chance() : PROT_READ | PROT_WRITE;
    memcpy(r.token, liar.tokens[below(TOKENS)], sizeof(r.token));
    if (below(4) == 0)
        r.token[below(sizeof(r.token))] ^= (uint8_t)chance();
    if (below(2) == 0)
        noise(r.name, sizeof(r.name)); /* no end of it */
    return r;
}

/* A request with descriptors that do not belong to it, or cut, or too long, or empty. */
static bool say_nonsense(void)
{
    uint8_t buf[2 * sizeof(struct hf_serve_request)];
    struct hf_serve_request r = twisted();
    const size_t lengths[] = {0, 1, sizeof(r) - 1, sizeof(r), sizeof(r), sizeof(r) + 1, sizeof(buf)};
    size_t len = lengths[below(ARRAY_LEN(lengths))];
    unsigned nr = 0, want = below(3) == 0 ? 2 : below(FDS_MOST + 1);
    int fds[FDS_MOST];
    bool stays;

    noise(buf, sizeof(buf));
    if (below(4) != 0)
        memcpy(buf, &r, sizeof(r));
    while (nr < want && (fds[nr] = wrong_fd()) >= 0)
        nr++;
    stays = send_with(buf, len, fds, nr);
    while (nr > 0)
        close(fds[--nr]);
    return stays && take_reply();
}

static bool ask(const struct hf_serve_request *r)
{
    return send_with(r, sizeof(*r), NULL, 0) && (below(8) == 0 || take_reply());
}

static bool say_hello(void)
{
    struct hf_serve_request r = {.op = HF_SERVE_HELLO, .flags = HF_SERVE_VERSION};
    int pair[2] = {-1, -1}, fds[2];
    bool stays;

    liar.uffd = userfaultfd_new();
    if (liar.uffd < 0 || socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, pair) < 0)
        _exit(3);
    liar.helper = pair[0]; /* nobody answers there */
    fds[0] = liar.uffd;
    fds[1] = pair[1];
    stays = send_with(&r, sizeof(r), fds, 2) && take_reply();
    close(pair[1]);
    return stays;
}

/* As an honest client does it. */
static bool open_and_map(void)
{
    struct hf_serve_request r = {.op = HF_SERVE_OPEN};
    void *map;

    memcpy(r.token, liar.tokens[0], sizeof(r.token));
    if (!send_with(&r, sizeof(r), NULL, 0) || !take_reply())
        return false;
    map = mmap(NULL, liar.len, PROT_NONE, MAP_SHARED, liar.memfd, 0);
    if (map == MAP_FAILED)
        _exit(4);
    liar.map = map;
    r = (struct hf_serve_request){.op = HF_SERVE_MAP,
                                  .addr = (uint64_t)(uintptr_t)map,
                                  .len = liar.len,
                                  .prot = PROT_READ | PROT_WRITE};
    return send_with(&r, sizeof(r), NULL, 0) && take_reply();
}

static bool bring_in(void)
{
    struct hf_serve_request r = {.op = HF_SERVE_FAULT_IN, .prot = below(2) ? PROT_WRITE : 0};

    r.addr = (uint64_t)(uintptr_t)liar.map + below((unsigned)liar.len);
    r.len = 1 + below((unsigned)liar.len);
    return ask(&r);
}

static void close_if(int *fd)
{
    if (*fd >= 0)
        close(*fd);
    *fd = -1;
}

/* In any order; mappings are left, or taken away behind the server's back. */
static void hang_up(void)
{
    int *const fds[] = {&liar.sock, &liar.uffd, &liar.helper, &liar.memfd};
    unsigned first = below(ARRAY_LEN(fds));

    if (liar.map != NULL && below(2))
        munmap(liar.map, liar.len);
    liar.map = NULL;
    for (unsigned i = 0; i < ARRAY_LEN(fds); i++)
        close_if(fds[(first + i) % ARRAY_LEN(fds)]);
}

static void converse(void)
{
    unsigned depth = below(4), messages = below(MESSAGES);
    bool stays = true;

    liar.sock = socket(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0);
    liar.uffd = liar.helper = liar.memfd = -1;
    if (connect(liar.sock, (struct sockaddr *)&liar.server, sizeof(liar.server)) < 0)
        _exit(5);
    if (depth > 0)
        stays = say_hello();
    if (depth > 1)
        stays = stays && open_and_map();
    for (unsigned i = 0; stays && i < messages; i++) {
        struct hf_serve_request r = twisted();
        unsigned what = below(8);

        if (what == 0)
            stays = say_nonsense();
        else if (what < 3 && depth > 1)
            stays = bring_in();
        else if (what == 3 && depth > 1)
            munmap(liar.map + (below(2) ? (size_t)sysconf(_SC_PAGESIZE) : 0), (size_t)sysconf(_SC_PAGESIZE));
        else if (what == 4)
            close_if(&liar.helper);
        else if (what == 5)
            close_if(&liar.uffd);
        else
            stays = depth > 0 ? ask(&r) : say_nonsense();
    }
    hang_up();
}

static void token_read(const char *hex, uint8_t ret_token[HF_SERVE_TOKEN_LEN])
{
    for (unsigned i = 0; i < HF_SERVE_TOKEN_LEN; i++) {
        const char digits[3] = {hex[2 * i], hex[2 * i + 1], '\0'};
        ret_token[i] = (uint8_t)strtoul(digits, NULL, 16);
    }
}

/* SOCKET LENGTH SEED TOKEN... */
static int liar_main(int argc, char **argv)
{
    if (argc != 3 + (int)TOKENS)
        return 2;
    liar.server.sun_family = AF_UNIX;
    snprintf(liar.server.sun_path, sizeof(liar.server.sun_path), "%s", argv[0]);
    liar.len = strtoul(argv[1], NULL, 10);
    rng = strtoull(argv[2], NULL, 10);
    for (unsigned i = 0; i < TOKENS; i++)
        token_read(argv[3 + i], liar.tokens[i]);
    for (unsigned i = 0; i < CONNECTIONS; i++)
        converse();
    _exit(0);
}

/* What the server answers. */
static int answer_to(const struct hf_serve_request *r, const int *fds, unsigned nr)
{
    struct hf_serve_reply reply;

    CHILD_CHECK(send_with(r, sizeof(*r), fds, nr));
    CHILD_CHECK(recv(liar.sock, &reply, sizeof(reply), 0) == (ssize_t)sizeof(reply));
    return reply.error;
}

static int answer_to_map(uint64_t addr, uint64_t len, int64_t off)
{
    struct hf_serve_request r = {.op = HF_SERVE_OPEN};

    memcpy(r.token, liar.tokens[0], sizeof(r.token));
    CHILD_CHECK(answer_to(&r, NULL, 0) == 0);
    r = (struct hf_serve_request){
        .op = HF_SERVE_MAP, .addr = addr, .len = len, .off = off, .prot = PROT_READ | PROT_WRITE};
    return answer_to(&r, NULL, 0);
}

static int answer_to_op(enum hf_serve_op op, uint64_t addr, uint64_t len)
{
    struct hf_serve_request r = {.op = op, .addr = addr, .len = len, .prot = PROT_READ | PROT_WRITE};

    return answer_to(&r, NULL, 0);
}

static void ask_for_wrong_ranges(void)
{
    uint64_t hw = (uint64_t)sysconf(_SC_PAGESIZE), map = (uint64_t)(uintptr_t)liar.map;
    void *other = mmap(NULL, hw, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);

    CHILD_CHECK(answer_to_op(HF_SERVE_UNMAP, map, liar.len) == 0);
    CHILD_CHECK(answer_to_op(HF_SERVE_MAP, map, liar.len) == -EBADF); /* nothing opened */
    CHILD_CHECK(answer_to_map(map + 1, hw, 0) == -EINVAL);
    CHILD_CHECK(answer_to_map(map, hw + 1, 0) == -EINVAL);
    CHILD_CHECK(answer_to_map(map, 0, 0) == -EINVAL);
    CHILD_CHECK(answer_to_map(0, hw, 0) == -EINVAL);
    CHILD_CHECK(answer_to_map(UINT64_MAX - hw + 1, 2 * hw, 0) == -EINVAL);
    CHILD_CHECK(answer_to_map(map, hw, 1) == -EINVAL);
    CHILD_CHECK(answer_to_map(map, hw, -(int64_t)hw) == -EINVAL);
    CHILD_CHECK(answer_to_map(map, 2 * hw, (int64_t)((uint64_t)INT64_MAX / hw * hw)) == -EINVAL);
    CHILD_CHECK(answer_to_map((uint64_t)(uintptr_t)other, hw, 0) < 0); /* not the file's memory */
    CHILD_CHECK(answer_to_map(map, liar.len, 0) == 0);
    CHILD_CHECK(answer_to_map(map, hw, 0) == -EEXIST);
    CHILD_CHECK(answer_to_op(HF_SERVE_PROTECT, map, 2 * liar.len) == -ENOMEM);
    CHILD_CHECK(answer_to_op(HF_SERVE_PROTECT, map + 1, hw) == -EINVAL);
    CHILD_CHECK(answer_to_op(HF_SERVE_UNMAP, map, UINT64_MAX) == -EINVAL);
    CHILD_CHECK(answer_to_op(HF_SERVE_SYNC, map, UINT64_MAX) == -EINVAL);
    CHILD_CHECK(answer_to_op(HF_SERVE_SYNC, map, 2 * liar.len) == -ENOMEM);
    CHILD_CHECK(answer_to_op(HF_SERVE_FAULT_IN, map, UINT64_MAX) == -EINVAL);
    CHILD_CHECK(answer_to_op(HF_SERVE_FAULT_IN, map - hw, 1) == -EFAULT);
    CHILD_CHECK(answer_to_op(HF_SERVE_OPEN_AT, map - hw, 0) == -ENOENT);
}

/* SOCKET LENGTH TOKEN: wrong requests, each with its exact answer. */
static int asker_main(int argc, char **argv)
{
    struct hf_serve_request r = {.op = HF_SERVE_HELLO, .flags = HF_SERVE_VERSION + 1};
    int fds[3];

    CHILD_CHECK(argc == 3);
    liar.server.sun_family = AF_UNIX;
    snprintf(liar.server.sun_path, sizeof(liar.server.sun_path), "%s", argv[0]);
    liar.len = strtoul(argv[1], NULL, 10);
    token_read(argv[2], liar.tokens[0]);
    liar.memfd = -1;
    liar.sock = socket(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0);
    CHILD_CHECK(connect(liar.sock, (struct sockaddr *)&liar.server, sizeof(liar.server)) == 0);
    fds[0] = fds[1] = fds[2] = open("/dev/null", O_RDWR | O_CLOEXEC);
    CHILD_CHECK(answer_to(&r, fds, 2) == -EPROTONOSUPPORT);
    r.flags = HF_SERVE_VERSION;
    CHILD_CHECK(answer_to(&r, NULL, 0) == -EPROTO);
    CHILD_CHECK(answer_to(&r, fds, 1) == -EPROTO);
    CHILD_CHECK(answer_to(&r, fds, 3) == -EPROTO);
    CHILD_CHECK(answer_to(&r, fds, 2) == -EINVAL); /* no userfaultfd */
    CHILD_CHECK(say_hello() && open_and_map());
    ask_for_wrong_ranges();
    CHILD_CHECK(send_with(&r, sizeof(r) - 1, NULL, 0));
    CHILD_CHECK(recv(liar.sock, &r, sizeof(r), 0) == 0); /* that was no request: the end */
    _exit(0);
}

/* ------------------------------------------------------------------ in the test */

static uint64_t open_descriptors(void)
{
    DIR *dir = opendir("/proc/self/fd");
    uint64_t nr = 0;

    assert_non_null(dir);
    while (readdir(dir) != NULL)
        nr++;
    closedir(dir);
    return nr;
}

static uint32_t clients(struct hf_server *server)
{
    struct hf_server_stats stats;

    hf_server_stats(server, &stats);
    return stats.clients;
}

struct honest {
    struct puppet a, b;
    struct target_file file;
    size_t len;
    unsigned turns;
};

static void store_and_compare(struct honest *h)
{
    struct puppet_order order = {.op = PUPPET_FILL, .len = h->len / PAGES};

    order.at = h->turns % PAGES * order.len;
    order.value = (int)(h->turns % 251 + 1);
    assert_ok(puppet_do(h->turns & 1 ? &h->a : &h->b, &order).result);
    order.op = PUPPET_EXPECT;
    assert_count(puppet_do(h->turns & 1 ? &h->b : &h->a, &order).result, 1);
    expect_range(&h->file, (hf_off_t)order.at, order.len, (uint8_t)order.value);
    if (h->turns % 8 == 7)
        assert_ok(t_fsync(&h->file));
    h->turns++;
}

static void token_write(const uint8_t token[HF_SERVE_TOKEN_LEN], char ret_hex[2 * HF_SERVE_TOKEN_LEN + 1])
{
    for (unsigned i = 0; i < HF_SERVE_TOKEN_LEN; i++)
        snprintf(ret_hex + 2 * i, 3, "%02x", token[i]);
}

/* One that lies with this seed, from its first to its last word. */
static void be_lied_to(struct honest *h, const struct hf_serve_ticket tickets[TOKENS], uint64_t seed)
{
    char len[24], number[24], hex[TOKENS][2 * HF_SERVE_TOKEN_LEN + 1];
    char *args[] = {(char *)(uintptr_t)tickets[0].socket, len, number, hex[0], hex[1], NULL};
    int status;
    pid_t pid;

    print_message("seed %llu\n", (unsigned long long)seed);
    snprintf(len, sizeof(len), "%zu", h->len);
    snprintf(number, sizeof(number), "%llu", (unsigned long long)seed);
    for (unsigned i = 0; i < TOKENS; i++)
        token_write(tickets[i].token, hex[i]);
    pid = exec_child("liar", args);
    do
        store_and_compare(h);
    while (waitpid(pid, &status, WNOHANG) == 0);
    assert_that(WIFEXITED(status) && WEXITSTATUS(status) == 0, "the liar ended with %#x", (unsigned)status);
}

/* What was there before the liars came. */
struct before {
    uint64_t descriptors;
    uint64_t blocks_free, blocks_reserved;
};

static struct before what_is_there(struct target *t)
{
    struct hf_statfs s = target_statfs(t);

    return (struct before){.descriptors = open_descriptors(),
                           .blocks_free = s.blocks_free,
                           .blocks_reserved = s.blocks_reserved};
}

/* Connections end when their threads get to it. */
static void expect_left(struct target *t, struct hf_server *server, const struct before *was)
{
    time_t until = time(NULL) + WAIT_S;
    struct before is;

    do {
        sched_yield();
        is = what_is_there(t);
    } while ((clients(server) != 2 || memcmp(&is, was, sizeof(is)) != 0) && time(NULL) < until);
    assert_count(clients(server), 2);
    assert_count(is.descriptors, was->descriptors);
    assert_count(is.blocks_reserved, was->blocks_reserved);
    assert_count(is.blocks_free, was->blocks_free);
}

static uint64_t env_number(const char *name, uint64_t otherwise)
{
    const char *text = getenv(name);

    return text != NULL ? strtoull(text, NULL, 10) : otherwise;
}

static void lied_to(struct target *t, enum hf_on_full on_full)
{
    struct hf_server_options options = {.on_full = on_full};
    uint64_t seed = env_number("HF_TEST_SEED", 1 + 100 * (uint64_t)on_full);
    struct hf_serve_ticket tickets[TOKENS] = {0};
    struct target_file prey = open_new(t, "prey"), reader;
    struct honest h = {.file = open_new(t, "honest"), .len = PAGES * t->page_size};
    struct hf_server *server;
    struct before was;

    assert_ok(t_ftruncate(&prey, (hf_off_t)h.len));
    fill_range(&h.file, 0, h.len, 'h');
    reader = open_old(t, "honest", O_RDONLY);
    temp_path("serve", tickets[0].socket, sizeof(tickets[0].socket));
    memcpy(tickets[1].socket, tickets[0].socket, sizeof(tickets[1].socket));
    assert_ok(hf_server_new(t->volume, tickets[0].socket, &options, &server));
    assert_ok(hf_server_grant(server, h.file.hf, tickets[0].token));
    h.a = puppet_new(NULL);
    h.b = puppet_new(NULL);
    assert_ok(puppet_map(&h.a, 0, &tickets[0], h.len, PROT_READ | PROT_WRITE, 0));
    assert_ok(puppet_map(&h.b, 0, &tickets[0], h.len, PROT_READ | PROT_WRITE, 0));
    assert_ok(hf_server_grant(server, prey.hf, tickets[0].token));
    assert_ok(hf_server_grant(server, reader.hf, tickets[1].token));
    for (unsigned i = 0; i < PAGES; i++)
        store_and_compare(&h);
    /* Both have a memfd by now. */
    fill_range(&prey, 0, 1, 'p');
    assert_ok(t_fsync(&prey));
    assert_ok(t_ftruncate(&prey, 0));
    assert_ok(t_ftruncate(&prey, (hf_off_t)h.len));
    assert_ok(t_fsync(&prey));
    assert_ok(t_fsync(&h.file));
    was = what_is_there(t);

    for (uint64_t n = env_number("HF_TEST_ROUNDS", 1); n > 0; n--)
        be_lied_to(&h, tickets, seed++);
    for (unsigned i = 0; i < PAGES; i++)
        store_and_compare(&h);
    assert_ok(t_ftruncate(&prey, 0)); /* what stores of the liars took */
    assert_ok(t_ftruncate(&prey, (hf_off_t)h.len));
    assert_ok(t_fsync(&prey));
    assert_ok(t_fsync(&h.file));
    expect_left(t, server, &was);
    hf_server_revoke(server, prey.hf);
    hf_server_revoke(server, reader.hf);
    hf_server_revoke(server, h.file.hf);
    puppet_end(&h.a);
    puppet_end(&h.b);
    hf_server_free(server);
    close_ok(&reader);
    close_ok(&prey);
    close_ok(&h.file);
}

static void lied_to_sigbus(struct target *t)
{
    lied_to(t, HF_ON_FULL_SIGBUS);
}

static void lied_to_wait(struct target *t)
{
    lied_to(t, HF_ON_FULL_WAIT);
}

static void lied_to_reserve(struct target *t)
{
    lied_to(t, HF_ON_FULL_RESERVE);
}

static void wrong_requests(struct target *t)
{
    struct target_file file = open_new(t, "f");
    struct hf_serve_ticket ticket = {0};
    struct hf_server_stats stats;
    struct hf_server *server;
    char len[24], hex[2 * HF_SERVE_TOKEN_LEN + 1];
    char *args[] = {ticket.socket, len, hex, NULL};

    assert_ok(t_ftruncate(&file, (hf_off_t)(PAGES * t->page_size)));
    temp_path("serve", ticket.socket, sizeof(ticket.socket));
    assert_ok(hf_server_new(t->volume, ticket.socket, NULL, &server));
    assert_ok(hf_server_grant(server, file.hf, ticket.token));
    snprintf(len, sizeof(len), "%zu", PAGES * (size_t)t->page_size);
    token_write(ticket.token, hex);
    expect_exit_0(exec_child("asker", args));
    for (time_t until = time(NULL) + WAIT_S; clients(server) != 0 && time(NULL) < until;)
        sched_yield();
    hf_server_stats(server, &stats);
    assert_count(stats.clients, 0);
    assert_count(stats.areas, 0);
    assert_count(stats.protocol_errors, 1);
    hf_server_revoke(server, file.hf);
    hf_server_free(server);
    close_ok(&file);
}

/* More than are let in: they are turned away, who is in stays in, and there is room again when they go. */
static void too_many_connections(struct target *t)
{
    struct hf_server_options options = {.max_clients = 4};
    struct target_file file = open_new(t, "f");
    struct hf_serve_ticket ticket = {0};
    struct sockaddr_un addr = {.sun_family = AF_UNIX};
    struct hf_server *server;
    struct puppet a, b;
    int socks[40];
    uint64_t before;

    assert_ok(t_ftruncate(&file, (hf_off_t)t->page_size));
    temp_path("serve", ticket.socket, sizeof(ticket.socket));
    snprintf(addr.sun_path, sizeof(addr.sun_path), "%s", ticket.socket);
    assert_ok(hf_server_new(t->volume, ticket.socket, &options, &server));
    assert_ok(hf_server_grant(server, file.hf, ticket.token));
    a = puppet_new(NULL);
    b = puppet_new(NULL);
    assert_ok(puppet_map(&a, 0, &ticket, t->page_size, PROT_READ | PROT_WRITE, 0));
    before = open_descriptors();
    for (size_t i = 0; i < ARRAY_LEN(socks); i++) {
        socks[i] = socket(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0);
        assert_ok(connect(socks[i], (struct sockaddr *)&addr, sizeof(addr)) < 0 ? -errno : 0);
    }
    assert_ok(puppet_store(&a, 0, 0, 'a'));
    for (size_t i = 3; i < ARRAY_LEN(socks); i++) { /* the first three have come in */
        char byte;
        assert_count(recv(socks[i], &byte, 1, 0), 0);
    }
    assert_count(clients(server), 4);
    for (size_t i = 0; i < ARRAY_LEN(socks); i++)
        close(socks[i]);
    for (time_t until = time(NULL) + WAIT_S; clients(server) != 1 && time(NULL) < until;)
        sched_yield();
    assert_count(clients(server), 1);
    for (time_t until = time(NULL) + WAIT_S; open_descriptors() != before && time(NULL) < until;)
        sched_yield();
    assert_count(open_descriptors(), before);
    assert_ok(puppet_map(&b, 0, &ticket, t->page_size, PROT_READ | PROT_WRITE, 0));
    assert_count(puppet_load(&b, 0, 0), 'a');
    puppet_end(&a);
    puppet_end(&b);
    hf_server_revoke(server, file.hf);
    hf_server_free(server);
    close_ok(&file);
}

/* Becomes somebody else, whom neither directories nor modes keep from the socket. */
static bool become_somebody_else(void)
{
    struct __user_cap_header_struct header = {.version = _LINUX_CAPABILITY_VERSION_3};
    const uint32_t any = 1u << CAP_DAC_OVERRIDE;
    const struct __user_cap_data_struct data[2] = {{.effective = any, .permitted = any}};

    return prctl(PR_SET_KEEPCAPS, 1, 0, 0, 0) == 0 && setresuid(NOBODY, NOBODY, NOBODY) == 0 &&
           syscall(SYS_capset, &header, data) == 0;
}

static int somebody_else(void *arg)
{
    const struct sockaddr_un *addr = arg;
    int sock = socket(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0);
    const struct timeval patience = {.tv_sec = WAIT_S};
    char byte;

    CHILD_CHECK(sock >= 0 && become_somebody_else());
    CHILD_CHECK(setsockopt(sock, SOL_SOCKET, SO_RCVTIMEO, &patience, sizeof(patience)) == 0);
    CHILD_CHECK(connect(sock, (const struct sockaddr *)addr, sizeof(*addr)) == 0);
    CHILD_CHECK(recv(sock, &byte, 1, 0) == 0); /* closed, and that at once */
    return 0;
}

/* The socket lets in the user of the server, whatever its mode says. */
static void another_user(struct target *t)
{
    struct target_file file = open_new(t, "f");
    struct hf_serve_ticket ticket = {0};
    struct sockaddr_un addr = {.sun_family = AF_UNIX};
    struct hf_server_stats stats;
    struct hf_server *server;
    struct stat st;
    struct puppet a;

    if (geteuid() != 0)
        skip();
    assert_ok(t_ftruncate(&file, (hf_off_t)t->page_size));
    temp_path("serve", ticket.socket, sizeof(ticket.socket));
    snprintf(addr.sun_path, sizeof(addr.sun_path), "%s", ticket.socket);
    assert_ok(hf_server_new(t->volume, ticket.socket, NULL, &server));
    assert_ok(hf_server_grant(server, file.hf, ticket.token));
    assert_ok(stat(addr.sun_path, &st));
    assert_count(st.st_mode & 0777, 0600);
    assert_ok(chmod(addr.sun_path, 0666));
    expect_exit_0(fork_child(somebody_else, &addr));
    hf_server_stats(server, &stats);
    assert_count(stats.clients_seen, 0);
    a = puppet_new(NULL);
    assert_ok(puppet_map(&a, 0, &ticket, t->page_size, PROT_READ | PROT_WRITE, 0));
    assert_ok(puppet_store(&a, 0, 0, 'a'));
    puppet_end(&a);
    hf_server_revoke(server, file.hf);
    hf_server_free(server);
    close_ok(&file);
}

static const struct test_body bodies[] = {
    BODY(lied_to_sigbus, ON_HOLDFAST),       BODY(lied_to_wait, ON_HOLDFAST),
    BODY(lied_to_reserve, ON_HOLDFAST),      BODY(wrong_requests, ON_HOLDFAST),
    BODY(too_many_connections, ON_HOLDFAST), BODY(another_user, ON_HOLDFAST),
};

static const struct test_child children[] = {
    {"puppet", puppet_main}, {"liar", liar_main}, {"asker", asker_main}};

int main(int argc, char **argv)
{
    struct target_spec specs[NR_MMAP_SPECS];
    struct test_program program = {
        .name = "hostile_clients",
        .bodies = bodies,
        .nr_bodies = ARRAY_LEN(bodies),
        .children = children,
        .nr_children = ARRAY_LEN(children),
        .specs = specs,
        .nr_specs = NR_MMAP_SPECS,
    };
    bool child = argc >= 2 && strcmp(argv[1], "--child") == 0;

    if (!child && !puppets_work())
        return 77;
    if (!child)
        mmap_specs(specs);
    return target_main(argc, argv, &program);
}
