/* SPDX-License-Identifier: MIT */
/*
 * run_victim.c - a program that knows nothing of Holdfast, and maps a file of $HOLDFAST_DIR: what
 * run_keeps_stores runs. Each of its ways leaves with 0, or with a number that says where it failed.
 */
#include <errno.h>
#include <fcntl.h>
#include <setjmp.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/uio.h>
#include <sys/un.h>
#include <sys/wait.h>
#include <unistd.h>

#define PAGE 4096
#define CHECK(cond)                    \
    do {                               \
        if (!(cond))                   \
            return __LINE__ % 100 + 1; \
    } while (0)

#ifdef __GLIBC__ /* what _FORTIFY_SOURCE makes of read and others */
ssize_t __read_chk(int fd, void *buf, size_t len, size_t room);
ssize_t __pread_chk(int fd, void *buf, size_t len, off_t off, size_t room);
size_t __fread_chk(void *restrict buf, size_t room, size_t size, size_t nr, FILE *restrict file);
#endif

static sigjmp_buf refused;

static void on_bus(int sig)
{
    (void)sig;
    siglongjmp(refused, 1);
}

static int open_file(const char *name)
{
    char path[512];

    snprintf(path, sizeof(path), "%s/%s", getenv("HOLDFAST_DIR"), name);
    return open(path, O_RDWR | O_CREAT, 0644);
}

static char *map(int fd, size_t len)
{
    return mmap(NULL, len, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
}

/* The letter's case, with a store by a forked child, and reads through the descriptor. */
static int seed(void)
{
    char block[1024], bytes[PAGE];
    int fd = open_file("f"), status;
    char *m = map(fd, 4 * PAGE);
    pid_t pid;

    memset(block, 'k', sizeof(block));
    CHECK(write(fd, block, sizeof(block)) == (ssize_t)sizeof(block) && m != MAP_FAILED);
    m[0] = 'a';
    CHECK(ftruncate(fd, 10000) == 0);
    m[1024] = 'b';
    m[PAGE - 1] = 'd';
    pid = fork();
    if (pid == 0) {
        m[2048] = 'c';
        _exit(m[0] != 'a');
    }
    CHECK(waitpid(pid, &status, 0) == pid && status == 0);
    CHECK(pread(fd, bytes, PAGE, 0) == PAGE);
    CHECK(bytes[0] == 'a' && bytes[1024] == 'b' && bytes[2048] == 'c' && bytes[PAGE - 1] == 'd');
    CHECK(fsync(fd) == 0);
    m[1] = 'e';
    CHECK(msync(m, PAGE, MS_SYNC) == 0);
    CHECK(pwrite(fd, m + 1, 1, 2 * PAGE) == 1 && m[2 * PAGE] == 'e'); /* a mapping as a buffer */
    CHECK(pread(fd, m + PAGE, 1, 1) == 1 && m[PAGE] == 'e');
    m = mremap(m, 4 * PAGE, 40 * PAGE, MREMAP_MAYMOVE);
    CHECK(m != MAP_FAILED && m[PAGE - 1] == 'd');
    CHECK(mprotect(m, PAGE, PROT_READ) == 0 && m[1] == 'e' && munmap(m, 40 * PAGE) == 0);
    return 0;
}

/* Stores until it is refused; nothing else ends this. */
static int full(void)
{
    size_t len = 64u << 20;
    int fd = open_file("f");
    char *m;

    CHECK(ftruncate(fd, (off_t)len) == 0);
    m = map(fd, len);
    CHECK(m != MAP_FAILED);
    for (size_t at = 0; at < len; at += PAGE)
        m[at] = 'x';
    return 1;
}

/* Its own handler makes room, and the same store succeeds; all that was accepted is there. */
static int recovers(void)
{
    size_t len = 64u << 20;
    volatile size_t at = 0;
    int fd = open_file("f"), ballast = open_file("ballast");
    volatile int room = 0;
    char *m, byte;

    CHECK(ftruncate(fd, (off_t)len) == 0 && posix_fallocate(ballast, 0, 128 * 1024) == 0);
    m = map(fd, len);
    CHECK(m != MAP_FAILED && signal(SIGBUS, on_bus) == SIG_DFL);
    if (sigsetjmp(refused, 1) != 0) {
        if (room == 2)
            goto done;
        CHECK(ftruncate(ballast, 0) == 0);
        room++;
    }
    for (; at < len; at += PAGE)
        m[at] = 'x';
    return 1;
done:
    CHECK(fsync(fd) == 0);
    for (size_t i = 0; i < at; i += PAGE)
        CHECK(pread(fd, &byte, 1, (off_t)i) == 1 && byte == 'x');
    return 0;
}

/* With --on-full=wait: the child's store sleeps until its parent has made room. */
static int waits(void)
{
    int fd = open_file("f"), ballast = open_file("ballast"), status;
    off_t taken = 0;
    pid_t pid;
    char *m;

    CHECK(ftruncate(fd, 64 * PAGE) == 0);
    m = map(fd, 64 * PAGE);
    CHECK(m != MAP_FAILED);
    while (posix_fallocate(ballast, taken, 4096) == 0)
        taken += 4096;
    pid = fork();
    if (pid == 0) {
        for (size_t i = 0; i < 64; i++)
            m[i * PAGE] = 'w';
        _exit(0);
    }
    CHECK(ftruncate(ballast, 0) == 0);
    CHECK(waitpid(pid, &status, 0) == pid && status == 0 && m[63 * PAGE] == 'w');
    return fsync(fd) == 0 ? 0 : 1;
}

static int reserve(void)
{
    int fd = open_file("f");

    CHECK(ftruncate(fd, 64 << 20) < 0 && errno == ENOSPC);
    CHECK(ftruncate(fd, 8 * PAGE) == 0);
    CHECK(map(fd, 8 * PAGE) != MAP_FAILED);
    return 0;
}

static int writes(void)
{
    int fd = open_file("f");

    CHECK(write(fd, "a", 1) == 1);
    CHECK(write(fd, "b", 1) < 0 && errno == EDQUOT);
    CHECK(write(fd, "b", 1) == 1);
    return 0;
}

static int make_dir(const char *name)
{
    char path[512];

    snprintf(path, sizeof(path), "%s/%s", getenv("HOLDFAST_DIR"), name);
    return mkdir(path, 0755);
}

static int rename_to(const char *from, const char *to)
{
    char paths[2][512];

    snprintf(paths[0], sizeof(paths[0]), "%s/%s", getenv("HOLDFAST_DIR"), from);
    snprintf(paths[1], sizeof(paths[1]), "%s/%s", getenv("HOLDFAST_DIR"), to);
    return rename(paths[0], paths[1]);
}

/* The second write to a *.db, whatever is written elsewhere; a file is what it is called now. */
static int named_writes(void)
{
    int db = open_file("a.db"), log = open_file("x.log");

    for (int i = 0; i < 5; i++)
        CHECK(write(log, "l", 1) == 1);
    CHECK(write(db, "a", 1) == 1);
    CHECK(write(log, "l", 1) == 1 && rename_to("x.log", "x.db") == 0);
    CHECK(write(log, "l", 1) < 0 && errno == EDQUOT);
    CHECK(write(log, "l", 1) == 1 && write(db, "a", 1) == 1);
    CHECK(lseek(log, 0, SEEK_END) == 7);
    return 0;
}

/* The second sync of something below a directory d, which has got that name later; msync is one. */
static int named_syncs(void)
{
    int made = make_dir("e"), inside = open_file("e/f"), outside = open_file("d.f");
    char *m = map(inside, PAGE);

    CHECK(made == 0 && m != MAP_FAILED && ftruncate(inside, PAGE) == 0 && write(outside, "o", 1) == 1);
    CHECK(fsync(inside) == 0 && rename_to("e", "d") == 0);
    m[0] = 'i';
    CHECK(fsync(outside) == 0 && fsync(inside) == 0 && fdatasync(outside) == 0);
    m[1] = 'i';
    CHECK(msync(m, PAGE, MS_SYNC) < 0 && errno == EIO);
    CHECK(msync(m, PAGE, MS_SYNC) == 0 && fsync(inside) == 0);
    return 0;
}

/* A store to one of many mapped files. */
static int named_stores(void)
{
    char name[16];
    char *maps[64];

    for (int i = 0; i < 64; i++) {
        int fd;

        snprintf(name, sizeof(name), "f%02d", i);
        fd = open_file(name);
        CHECK(ftruncate(fd, PAGE) == 0);
        maps[i] = map(fd, PAGE);
        CHECK(maps[i] != MAP_FAILED && close(fd) == 0);
    }
    CHECK(signal(SIGBUS, on_bus) == SIG_DFL);
    if (sigsetjmp(refused, 1) != 0) {
        maps[7][0] = 's'; /* only the first */
        return 0;
    }
    for (int i = 63; i > 7; i--)
        maps[i][0] = 's';
    maps[7][0] = 's';
    return 1;
}

/* A mapping that the kernel makes, as for a program that the library is not in. */
static char *kernel_map(int fd, int flags)
{
    return (char *)syscall(SYS_mmap, NULL, PAGE, PROT_READ | PROT_WRITE, flags, fd, 0);
}

/* The status that a program leaves with; it lies in the volume. */
static int status_of(const char *path)
{
    int status = -1;
    pid_t pid = fork();

    if (pid == 0) {
        execl(path, path, (char *)NULL);
        _exit(127);
    }
    return waitpid(pid, &status, 0) == pid && WIFEXITED(status) ? WEXITSTATUS(status) : -1;
}

/* What the kernel makes of a file is never older than a store: it maps nothing shared, what it maps privately
 * is as new as the call, and it executes what was stored. */
static int kernel_maps(void)
{
    static const char script[] = "#!/bin/sh\nexit 0\n";
    int fd = open_file("f"), script_fd = open_file("script");
    char *m = map(fd, PAGE), *s, path[512], byte;

    CHECK(m != MAP_FAILED && ftruncate(fd, PAGE) == 0);
    for (char c = '1'; c <= '9'; c++) {
        char *private;

        m[0] = c;
        CHECK(kernel_map(fd, MAP_SHARED) == MAP_FAILED && errno == ENODEV);
        private = kernel_map(fd, MAP_PRIVATE);
        CHECK(private != MAP_FAILED && private[0] == c);
        m[0] = (char)(c + 1);
        CHECK(syscall(SYS_pread64, fd, &byte, 1, (off_t)0) == 1 && byte == c + 1);
        CHECK(kernel_map(fd, MAP_PRIVATE)[0] == c + 1);
    }
    s = map(script_fd, PAGE);
    CHECK(s != MAP_FAILED && ftruncate(script_fd, sizeof(script) - 1) == 0 && fchmod(script_fd, 0755) == 0);
    CHECK(close(script_fd) == 0);
    memcpy(s, script, sizeof(script) - 1);
    snprintf(path, sizeof(path), "%s/script", getenv("HOLDFAST_DIR"));
    for (int i = 1; i <= 5; i++) {
        s[sizeof(script) - 3] = (char)('0' + i);
        CHECK(status_of(path) == i);
    }
    return 0;
}

/* The next page of the file in a mapping of its own: no other access has brought it in. */
static char *fresh(int fd)
{
    static off_t off;

    off += PAGE;
    return mmap(NULL, PAGE, PROT_READ | PROT_WRITE, MAP_SHARED, fd, off);
}

/* Pages that nobody has touched, as buffers of one call each. */
static int buffers(void)
{
    struct iovec iov = {.iov_len = 10};
    struct msghdr msg = {.msg_iov = &iov, .msg_iovlen = 1};
    int fd = open_file("f"), data = open_file("data"), pair[2];
    char *at = NULL;
    FILE *file = fdopen(open_file("data"), "r+");

#define FRESH (at = fresh(fd))
#define FRESH_VECTOR (iov.iov_base = FRESH, &iov)
#define GOT(call) CHECK((call) == 10 && at[9] == 'd')
#define PUT(call) CHECK((call) == 10)
    CHECK(ftruncate(fd, 64 * PAGE) == 0 && file != NULL);
    CHECK(pwrite(data, "dddddddddddddddd", 16, 0) == 16);
    GOT(read(data, FRESH, 10));
    GOT(pread(data, FRESH, 10, 0));
    GOT(preadv(data, FRESH_VECTOR, 1, 0));
    GOT(preadv2(data, FRESH_VECTOR, 1, 0, 0));
    PUT(pwrite(data, FRESH, 10, 100));
    PUT(pwritev(data, FRESH_VECTOR, 1, 100));
    PUT(pwritev2(data, FRESH_VECTOR, 1, 100, 0));
    CHECK(socketpair(AF_UNIX, SOCK_DGRAM, 0, pair) == 0);
    for (int i = 0; i < 3; i++)
        CHECK(send(pair[0], "dddddddddd", 10, 0) == 10);
    GOT(recv(pair[1], FRESH, 10, 0)); /* once: a datagram that cannot be copied is gone */
    GOT(recvfrom(pair[1], FRESH, 10, 0, NULL, NULL));
    iov.iov_base = FRESH;
    GOT(recvmsg(pair[1], &msg, 0));
    PUT(send(pair[0], FRESH, 10, 0));
    PUT(sendto(pair[0], FRESH, 10, 0, NULL, 0));
    iov.iov_base = FRESH;
    PUT(sendmsg(pair[0], &msg, 0));
    setvbuf(file, NULL, _IONBF, 0);
    GOT(fread(FRESH, 1, 10, file));
    rewind(file);
    GOT((fread_unlocked)(FRESH, 1, 10, file));
    PUT(fwrite(FRESH, 1, 10, file));
    PUT((fwrite_unlocked)(FRESH, 1, 10, file));
#ifdef __GLIBC__
    GOT(__pread_chk(data, FRESH, 10, 0, PAGE));
    CHECK(lseek(data, 0, SEEK_SET) == 0);
    GOT(__read_chk(data, FRESH, 10, PAGE));
    CHECK(pwrite(data, "dddddddddddddddd", 16, 0) == 16);
    rewind(file);
    GOT(__fread_chk(FRESH, PAGE, 1, 10, file));
#endif
    return 0;
}

/* Who listens on the socket beside the mount. */
static pid_t server_of(void)
{
    struct sockaddr_un addr = {.sun_family = AF_UNIX};
    struct ucred cred = {.pid = -1};
    socklen_t len = sizeof(cred);
    int fd = socket(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0);

    snprintf(addr.sun_path, sizeof(addr.sun_path), "%.90s/../socket", getenv("HOLDFAST_DIR"));
    if (connect(fd, (struct sockaddr *)&addr, sizeof(addr)) == 0)
        getsockopt(fd, SOL_SOCKET, SO_PEERCRED, &cred, &len);
    close(fd);
    return cred.pid;
}

/* The server dies: no touch hangs, none reads zeros; the end is SIGBUS. */
static int orphan(void)
{
    int fd = open_file("f");
    pid_t server = server_of();
    char *m;

    CHECK(ftruncate(fd, 64 * PAGE) == 0);
    m = map(fd, 64 * PAGE);
    CHECK(m != MAP_FAILED && server > 0);
    for (size_t i = 0; i < 32; i++)
        m[i * PAGE] = 'o';
    CHECK(signal(SIGBUS, on_bus) == SIG_DFL);
    CHECK(kill(server, SIGKILL) == 0);
    alarm(60);
    if (sigsetjmp(refused, 1) != 0)
        return 0;
    for (;;) {
        CHECK(*(volatile char *)m == 'o');
        *(volatile char *)(m + 40 * PAGE) = 'p';
    }
}

int main(int argc, char **argv)
{
    static const struct {
        const char *name;
        int (*run)(void);
    } ways[] = {{"seed", seed},
                {"full", full},
                {"recovers", recovers},
                {"waits", waits},
                {"reserve", reserve},
                {"writes", writes},
                {"orphan", orphan},
                {"named-writes", named_writes},
                {"named-syncs", named_syncs},
                {"named-stores", named_stores},
                {"kernel-maps", kernel_maps},
                {"buffers", buffers}};

    for (size_t i = 0; argc == 2 && i < sizeof(ways) / sizeof(ways[0]); i++)
        if (strcmp(argv[1], ways[i].name) == 0)
            return ways[i].run();
    return 99;
}
