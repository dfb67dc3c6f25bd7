/* SPDX-License-Identifier: MIT */
/*
 * mounted.c - see mounted.h. Readiness comes over NOTIFY_SOCKET, as it would to a supervisor.
 */
#include "mounted.h"
#include "check.h"
#include "target.h"

#include <linux/userfaultfd.h>
#include <poll.h>
#include <sched.h>
#include <signal.h>
#include <stddef.h>
#include <sys/ioctl.h>
#include <sys/mount.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <sys/un.h>
#include <sys/wait.h>

#define PATIENCE_MS (120 * 1000)

static char program[4096];
static pid_t outer_pid; /* as the machine knows this program: in its own namespace every test has the same */

static int write_text(const char *path, const char *text)
{
    int fd = open(path, O_WRONLY | O_CLOEXEC);
    ssize_t n = fd < 0 ? -1 : write(fd, text, strlen(text));

    if (fd >= 0)
        close(fd);
    return n < 0 ? -1 : 0;
}

/* Root's own mount namespace, or one in a user namespace where this user is root. */
static int own_mounts(void)
{
    char uids[64], gids[64];

    snprintf(uids, sizeof(uids), "0 %u 1", (unsigned)geteuid());
    snprintf(gids, sizeof(gids), "0 %u 1", (unsigned)getegid());
    if (geteuid() == 0) {
        if (unshare(CLONE_NEWNS) < 0)
            return -1;
    } else if (unshare(CLONE_NEWUSER | CLONE_NEWNS) < 0 || write_text("/proc/self/setgroups", "deny") < 0 ||
               write_text("/proc/self/uid_map", uids) < 0 || write_text("/proc/self/gid_map", gids) < 0) {
        return -1;
    }
    return mount(NULL, "/", NULL, MS_REC | MS_PRIVATE, NULL);
}

static int exit_status(int status)
{
    return WIFEXITED(status) ? WEXITSTATUS(status) : 128 + WTERMSIG(status);
}

/* The first process of a PID namespace: reaps what it is left, and ends with the test. */
static void be_init(pid_t test)
{
    int status;
    pid_t pid;

    while ((pid = wait(&status)) != test)
        if (pid < 0 && errno != EINTR)
            _exit(1);
    _exit(exit_status(status));
}

/* This program goes on as the child of a namespace whose end is the end of all that it started, servers that
 * have left their terminal too. What was called waits outside. */
static int own_processes(void)
{
    int status;
    pid_t pid;

    if (unshare(CLONE_NEWPID) < 0)
        return -1;
    fflush(NULL);
    pid = fork();
    if (pid < 0)
        return -1;
    if (pid > 0) {
        while (waitpid(pid, &status, 0) < 0)
            if (errno != EINTR)
                _exit(1);
        _exit(exit_status(status));
    }
    prctl(PR_SET_PDEATHSIG, SIGKILL);
    /* a sanitizer looks its threads up there */
    if (mount("proc", "/proc", "proc", MS_NOSUID | MS_NODEV | MS_NOEXEC, NULL) < 0)
        return -1;
    pid = fork();
    if (pid < 0)
        return -1;
    if (pid > 0)
        be_init(pid);
    prctl(PR_SET_PDEATHSIG, SIGKILL);
    return 0;
}

/* Whether the kernel lets this process mount; the mount is never answered, and gone with its descriptor. */
static int try_mount(void)
{
    char dir[] = "/tmp/holdfast-test-XXXXXX", options[128];
    int fd = open("/dev/fuse", O_RDWR | O_CLOEXEC), r = -1;

    if (fd < 0 || mkdtemp(dir) == NULL)
        return -1;
    snprintf(options, sizeof(options), "fd=%d,rootmode=40000,user_id=%u,group_id=%u", fd, (unsigned)geteuid(),
             (unsigned)getegid());
    if (mount("none", dir, "fuse", MS_NOSUID | MS_NODEV, options) == 0)
        r = umount2(dir, MNT_DETACH);
    close(fd);
    rmdir(dir);
    return r;
}

const char *mounted_init(const char *path)
{
    const char *help[] = {"mount", "/dev/null", "/dev/null", NULL};
    static char why[256];
    char said[256] = "";
    int fd = open("/dev/fuse", O_RDWR | O_CLOEXEC);

    if (fd < 0) {
        snprintf(why, sizeof(why), "/dev/fuse: %s", strerror(errno));
        return why;
    }
    close(fd);
    if (realpath(path, program) == NULL || access(program, X_OK) < 0)
        return "no holdfast command";
    outer_pid = getpid();
    if (own_mounts() < 0 || own_processes() < 0) {
        snprintf(why, sizeof(why), "no namespaces of one's own: %s", strerror(errno));
        return why;
    }
    if (try_mount() < 0) {
        snprintf(why, sizeof(why), "mounting is refused: %s", strerror(errno));
        return why;
    }
    mounted_command(help, said, sizeof(said));
    if (strstr(said, "no libfuse"))
        return "built without libfuse";
    return NULL;
}

const char *mounted_serves_mappings(void)
{
    struct uffdio_api api = {
        .api = UFFD_API, .features = UFFD_FEATURE_MINOR_SHMEM | UFFD_FEATURE_WP_HUGETLBFS_SHMEM | (1 << 14)};
    int fd = (int)syscall(SYS_userfaultfd, O_CLOEXEC | UFFD_USER_MODE_ONLY);
    bool can = fd >= 0 && ioctl(fd, UFFDIO_API, &api) == 0;

    if (fd >= 0)
        close(fd);
    return can ? NULL : "no userfaultfd with UFFDIO_POISON (Linux 6.6)";
}

/* Waits for the end of a child, at most so long; then it is killed. */
static int wait_bounded(pid_t pid, int milliseconds)
{
    int pidfd = (int)syscall(SYS_pidfd_open, pid, 0), status = 0;
    struct pollfd end = {.fd = pidfd, .events = POLLIN};
    bool late = false;
    int n;

    do {
        n = pidfd < 0 ? 1 : poll(&end, 1, milliseconds);
    } while (n < 0 && errno == EINTR);
    if (n == 0) {
        late = true;
        kill(pid, SIGKILL);
    }
    if (pidfd >= 0)
        close(pidfd);
    while (waitpid(pid, &status, 0) < 0)
        if (errno != EINTR)
            return -1;
    if (late)
        return -1;
    return exit_status(status);
}

static pid_t spawn(const char *const *argv, const char *in_dir, int out)
{
    pid_t pid;

    fflush(NULL);
    pid = fork();
    if (pid != 0)
        return pid;
    prctl(PR_SET_PDEATHSIG, SIGKILL);
    if (in_dir && chdir(in_dir) < 0)
        _exit(127);
    if (out >= 0) {
        dup2(out, STDOUT_FILENO);
        dup2(out, STDERR_FILENO);
    }
    execvp(argv[0], (char *const *)(uintptr_t)argv);
    _exit(127);
}

int mounted_run(const char *const *argv, const char *in_dir, unsigned seconds)
{
    pid_t pid = spawn(argv, in_dir, -1);

    return pid < 0 ? -1 : wait_bounded(pid, (int)seconds * 1000);
}

int mounted_command(const char *const *args, char *out, size_t out_size)
{
    int said = memfd_create("said", MFD_CLOEXEC), status;
    const char *argv[16] = {program};
    ssize_t n;

    for (int i = 0; args[i] && i + 2 < 16; i++)
        argv[i + 1] = args[i];
    status = wait_bounded(spawn(argv, NULL, said), PATIENCE_MS);
    if (out) {
        n = pread(said, out, out_size - 1, 0);
        out[n > 0 ? n : 0] = '\0';
    }
    close(said);
    return status;
}

void mounted_make(struct mounted *m, uint64_t size_bytes, uint32_t block_size)
{
    mounted_make_named(m, "mounted", size_bytes, block_size);
}

void mounted_make_named(struct mounted *m, const char *name, uint64_t size_bytes, uint32_t block_size)
{
    struct hf_mkfs_options opts = {.size_bytes = size_bytes, .block_size = block_size, .force = true};
    char what[64];

    memset(m, 0, sizeof(*m));
    snprintf(what, sizeof(what), "%.40s-%d", name, (int)outer_pid);
    temp_path(what, m->volume, sizeof(m->volume));
    snprintf(m->dir, sizeof(m->dir), "%s.d", m->volume);
    assert_ok(hf_mkfs(m->volume, &opts));
    assert_ok(mkdir(m->dir, 0755) < 0 ? -errno : 0);
}

/* An abstract socket for one server to say READY=1 on; its name goes into the environment. */
static int notify_socket(void)
{
    struct sockaddr_un addr = {.sun_family = AF_UNIX};
    static unsigned serial;
    int fd = socket(AF_UNIX, SOCK_DGRAM | SOCK_CLOEXEC, 0);
    char name[64];
    int n = snprintf(name, sizeof(name), "@holdfast-test-%d-%u", (int)outer_pid, serial++);

    assert_true(fd >= 0);
    memcpy(addr.sun_path + 1, name + 1, (size_t)n - 1);
    assert_ok(
        bind(fd, (struct sockaddr *)&addr, (socklen_t)(offsetof(struct sockaddr_un, sun_path) + (size_t)n)));
    setenv("NOTIFY_SOCKET", name, 1);
    return fd;
}

void mounted_start(struct mounted *m, const char *options)
{
    const char *argv[] = {program, "mount", "-f", "-o", options ? options : "rw", m->volume, m->dir, NULL};
    int notify = notify_socket(), pidfd, n;
    char state[64] = "";

    m->server = spawn(argv, NULL, -1);
    assert_true(m->server > 0);
    pidfd = (int)syscall(SYS_pidfd_open, m->server, 0);
    do {
        struct pollfd fds[] = {{.fd = notify, .events = POLLIN}, {.fd = pidfd, .events = POLLIN}};

        n = poll(fds, pidfd < 0 ? 1 : 2, PATIENCE_MS);
        if (n > 0 && fds[0].revents)
            (void)!recv(notify, state, sizeof(state) - 1, 0);
    } while (n < 0 && errno == EINTR);
    unsetenv("NOTIFY_SOCKET");
    close(notify);
    if (pidfd >= 0)
        close(pidfd);
    assert_that(strncmp(state, "READY=1", 7) == 0, "the server is not ready: '%s'", state);
}

int mounted_wait(struct mounted *m)
{
    int status = wait_bounded(m->server, PATIENCE_MS);

    m->server = 0;
    return status;
}

int mounted_stop(struct mounted *m)
{
    kill(m->server, SIGTERM);
    return mounted_wait(m);
}

void mounted_clear(struct mounted *m)
{
    if (m->server > 0) {
        umount2(m->dir, MNT_DETACH);
        kill(m->server, SIGKILL);
        mounted_wait(m);
    }
    while (m->dir[0] && umount2(m->dir, MNT_DETACH) == 0)
        ;
    if (m->dir[0]) {
        rmdir(m->dir);
        unlink(m->volume);
    }
    m->dir[0] = '\0';
}

int mounted_setup(void **state, uint64_t size_bytes, uint32_t block_size)
{
    struct mounted *m = calloc(1, sizeof(*m));

    *state = m;
    if (!m)
        return -1;
    mounted_make(m, size_bytes, block_size);
    return 0;
}

int mounted_teardown(void **state)
{
    mounted_clear(*state);
    free(*state);
    return 0;
}

const char *mounted_path(const struct mounted *m, const char *name)
{
    static char paths[4][sizeof(m->dir) + 100];
    static unsigned next;
    char *path = paths[next++ % 4];

    snprintf(path, sizeof(paths[0]), "%s/%s", m->dir, name);
    return path;
}
