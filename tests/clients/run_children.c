/* SPDX-License-Identifier: MIT */
/*
 * run_children.c - programs that treat their descriptors and children in the ways daemons and shells do, and
 * know nothing of Holdfast: what run_keeps_stores runs. Each way leaves with 0, or with a number that says
 * where it failed.
 */
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <signal.h>
#include <spawn.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/uio.h>
#include <sys/wait.h>
#include <unistd.h>

#define PAGE 4096
#define PAGES 64
#define CHECK(cond)                    \
    do {                               \
        if (!(cond))                   \
            return __LINE__ % 100 + 1; \
    } while (0)

extern char **environ;
static const char *self;

static int open_file(const char *name)
{
    char path[512];

    snprintf(path, sizeof(path), "%s/%s", getenv("HOLDFAST_DIR"), name);
    return open(path, O_RDWR | O_CREAT, 0644);
}

static char *map_file(const char *name)
{
    int fd = open_file(name);
    void *m = MAP_FAILED;

    if (fd >= 0 && ftruncate(fd, PAGES * PAGE) == 0)
        m = mmap(NULL, PAGES * PAGE, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
    if (fd >= 0)
        close(fd);
    return m == MAP_FAILED ? NULL : m;
}

/* Is the mapping one of the server's memory, and not the kernel's own of a file of the mount? */
static bool is_served(const char *m)
{
    FILE *maps = fopen("/proc/self/maps", "r");
    unsigned long start, end;
    char line[1024];
    bool served = false;

    while (maps && fgets(line, sizeof(line), maps))
        if (sscanf(line, "%lx-%lx", &start, &end) == 2 && (unsigned long)m >= start && (unsigned long)m < end)
            served = strstr(line, "memfd:") != NULL;
    if (maps)
        fclose(maps);
    return served;
}

/* Stores through an old mapping and through a new one, and in a forked child, all of which must be served. */
static int stores(char *m, size_t page, const char *name)
{
    char *n = map_file(name);
    int status;
    pid_t pid;

    CHECK(n != NULL && is_served(m) && is_served(n));
    m[page * PAGE] = 's';
    CHECK(n[page * PAGE] == 's');
    n[page * PAGE + 1] = 't';
    CHECK(msync(m, PAGES * PAGE, MS_SYNC) == 0);
    pid = fork();
    if (pid == 0) {
        m[page * PAGE + 2] = 'u';
        _exit(msync(n, PAGES * PAGE, MS_SYNC) != 0);
    }
    CHECK(waitpid(pid, &status, 0) == pid && status == 0);
    CHECK(n[page * PAGE + 2] == 'u' && munmap(n, PAGES * PAGE) == 0);
    return 0;
}

/* A descriptor that is there and cannot be closed: one of those that mappings need; closes all before it.
 * -1: none. */
static int hidden_fd(void)
{
    for (int fd = 3; fd < 1200; fd++)
        if (fcntl(fd, F_GETFD) >= 0 && close(fd) < 0)
            return fd;
    return -1;
}

/* ------------------------------------------------------------------ descriptors */

static void close_each(void)
{
    struct rlimit limit;

    getrlimit(RLIMIT_NOFILE, &limit);
    for (int fd = 3; fd < (int)limit.rlim_cur; fd++)
        close(fd);
}

static void close_listed(void)
{
    DIR *dir = opendir("/proc/self/fd");
    struct dirent *entry;

    while (dir && (entry = readdir(dir)) != NULL)
        if (atoi(entry->d_name) > 2 && atoi(entry->d_name) != dirfd(dir))
            close(atoi(entry->d_name));
    if (dir)
        closedir(dir);
}

static void close_by_range(void)
{
    close_range(3, ~0u, 0);
}

static void close_by_range_on_exec(void)
{
    close_range(3, ~0u, CLOSE_RANGE_CLOEXEC);
    close_range(3, ~0u, 0);
}

static void close_from(void)
{
    closefrom(3);
}

static void overwrite_each(void)
{
    struct rlimit limit;

    getrlimit(RLIMIT_NOFILE, &limit);
    for (int fd = 3; fd < 1100 && fd < (int)limit.rlim_cur; fd++)
        if (dup2(2, fd) != fd && errno != EBADF)
            return;
    closefrom(3);
}

/* A range that ends at one of ours is closed up to it. */
static int range_up_to_ours(void)
{
    int hidden = hidden_fd(), first = open("/dev/null", O_RDONLY);

    CHECK(first >= 0 && first < hidden);
    CHECK(close_range((unsigned)first, (unsigned)hidden, 0) == 0);
    CHECK(fcntl(first, F_GETFD) < 0 && fcntl(hidden, F_GETFD) >= 0);
    CHECK(close_range(5, 4, 0) < 0 && errno == EINVAL);
    return 0;
}

/* Everything is closed, in each of the usual ways. */
static int closes(void)
{
    static void (*const ways[])(void) = {close_each,     close_listed,           close_from,
                                         close_by_range, close_by_range_on_exec, overwrite_each};
    char *m = map_file("f");
    int r, other;

    CHECK(m != NULL && is_served(m) && hidden_fd() > 2);
    for (size_t i = 0; i < sizeof(ways) / sizeof(ways[0]); i++) {
        other = open("/dev/null", O_RDONLY);
        m[i * PAGE] = 'a';
        ways[i]();
        CHECK(fcntl(other, F_GETFD) < 0);
        r = stores(m, 10 + i, "f");
        if (r != 0)
            return r;
    }
    return range_up_to_ours();
}

/* Where the limit leaves no high numbers, ours lie among the program's. */
static int closes_with_few(void)
{
    struct rlimit few = {64, 64};

    CHECK(setrlimit(RLIMIT_NOFILE, &few) == 0);
    return closes();
}

/* ------------------------------------------------------------------ children */

static int as_daemon(char *m, int tell)
{
    int r;

    umask(022);
    if (chdir("/") < 0 || dup2(tell, 1) != 1)
        return 1;
    closefrom(2);
    r = stores(m, 1, "f");
    return write(1, &r, sizeof(r)) != sizeof(r);
}

static int daemonizes(void)
{
    char *m = map_file("f");
    int ends[2], r = -1, status;
    pid_t pid;

    CHECK(m != NULL && pipe(ends) == 0);
    m[0] = '1';
    close(0);
    pid = fork();
    if (pid == 0) {
        setsid();
        /* the lowest number is the program's to have */
        if (open("/dev/null", O_RDONLY) != 0)
            _exit(1);
        _exit(fork() != 0 ? 0 : as_daemon(m, ends[1]));
    }
    CHECK(waitpid(pid, &status, 0) == pid && status == 0 && close(ends[1]) == 0);
    CHECK(read(ends[0], &r, sizeof(r)) == sizeof(r));
    CHECK(r == 0 && m[PAGE] == 's' && m[0] == '1');
    return 0;
}

/* A child that no fork handler of a library sees. */
static int clones(void)
{
    char *m = map_file("f");
    int status;
    pid_t pid;

    CHECK(m != NULL);
    m[0] = 'p';
    pid = (pid_t)syscall(SYS_clone, SIGCHLD, 0, 0, 0, 0);
    if (pid == 0) {
        char *n = map_file("g");

        _exit(n != NULL ? stores(n, 1, "g") : 100);
    }
    for (int i = 0; i < 100; i++) {
        m[(i % PAGES) * PAGE] = 'q';
        CHECK(msync(m, PAGES * PAGE, MS_SYNC) == 0);
    }
    CHECK(waitpid(pid, &status, 0) == pid);
    return WIFEXITED(status) ? WEXITSTATUS(status) : 101;
}

static int ends_well(pid_t pid)
{
    int status;

    return waitpid(pid, &status, 0) == pid && status == 0;
}

static pid_t start_by_vfork(char *const *args, int hidden)
{
    pid_t pid = vfork();

    if (pid == 0) {
        dup2(2, hidden); /* in the child's table alone */
        execv(self, args);
        _exit(127);
    }
    return pid;
}

static int spawns(void)
{
    char *args[] = {(char *)(uintptr_t)self, (char *)(uintptr_t) "leaf", NULL};
    char *m = map_file("f"), command[600];
    int hidden = hidden_fd();
    pid_t pid;

    CHECK(m != NULL && hidden > 2);
    m[0] = 'a';
    CHECK(posix_spawn(&pid, self, NULL, NULL, args, environ) == 0 && ends_well(pid));
    CHECK(ends_well(start_by_vfork(args, hidden)));
    CHECK(stores(m, 2, "f") == 0);
    snprintf(command, sizeof(command), "'%s' leaf && exec '%s' leaf", self, self);
    CHECK(system(command) == 0);
    return stores(m, 3, "f");
}

/* A program that was started, to be served as its parent is. */
static int leaf(void)
{
    char *m = map_file("leaf");

    CHECK(m != NULL);
    return stores(m, 1, "leaf");
}

/* The environment is emptied: the program is not served, and the kernel makes no shared mapping. */
static int emptied(void)
{
    char *args[] = {(char *)(uintptr_t)self, (char *)(uintptr_t) "plain", NULL}, dir[512];
    char *env[] = {dir, NULL};

    snprintf(dir, sizeof(dir), "HOLDFAST_DIR=%s", getenv("HOLDFAST_DIR"));
    execve(self, args, env);
    return 127;
}

static int plain(void)
{
    char byte = 0;
    int fd = open_file("f");

    CHECK(map_file("f") == NULL && errno == ENODEV);
    CHECK(pwrite(fd, "k", 1, PAGE) == 1 && pread(fd, &byte, 1, PAGE) == 1 && byte == 'k');
    return 0;
}

/* Is a library of this name mapped, beside ours? */
static int preloaded(void)
{
    FILE *maps = fopen("/proc/self/maps", "r");
    const char *list = getenv("LD_PRELOAD");
    bool theirs = false, ours = false;
    char line[1024];

    CHECK(maps != NULL && list != NULL && strstr(list, "libholdfast-preload") && strstr(list, "librt.so.1"));
    while (fgets(line, sizeof(line), maps)) {
        theirs |= strstr(line, "/librt") != NULL;
        ours |= strstr(line, "/libholdfast-preload") != NULL;
    }
    fclose(maps);
    CHECK(theirs && ours);
    return leaf();
}

/* What the kernel refuses is refused, and nothing is looked at before. */
static int bad_vectors(void)
{
    struct iovec *volatile no_vector = NULL;
    struct msghdr *volatile no_message = NULL;
    struct iovec one = {.iov_base = map_file("f"), .iov_len = PAGE};
    volatile int less = -1, more = IOV_MAX + 1;
    int fd = open_file("g"), pair[2];

    CHECK(one.iov_base != NULL && fd >= 0 && socketpair(AF_UNIX, SOCK_STREAM, 0, pair) == 0);
    CHECK(writev(fd, &one, less) == -1 && errno == EINVAL);
    CHECK(readv(fd, &one, more) == -1 && errno == EINVAL);
    CHECK(preadv(fd, &one, less, 0) == -1 && errno == EINVAL);
    CHECK(pwritev(fd, no_vector, 1, 0) == -1 && errno == EFAULT);
    CHECK(sendmsg(pair[0], no_message, 0) == -1 && errno == EFAULT);
    CHECK(recvmsg(pair[0], no_message, 0) == -1 && errno == EFAULT);
    CHECK(writev(fd, &one, 1) == PAGE);
    return stores(one.iov_base, 1, "f");
}

int main(int argc, char **argv)
{
    static const struct {
        const char *name;
        int (*run)(void);
    } ways[] = {{"closes", closes},       {"closes_with_few", closes_with_few},
                {"clones", clones},       {"daemonizes", daemonizes},
                {"spawns", spawns},       {"leaf", leaf},
                {"plain", plain},         {"emptied", emptied},
                {"preloaded", preloaded}, {"bad_vectors", bad_vectors}};

    self = argv[0];
    for (size_t i = 0; argc == 2 && i < sizeof(ways) / sizeof(ways[0]); i++)
        if (strcmp(argv[1], ways[i].name) == 0)
            return ways[i].run();
    return 99;
}
