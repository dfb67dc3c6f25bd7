/* SPDX-License-Identifier: MIT */
/*
 * mount_options.c - each option of holdfast mount does what it says, mount(8) and fstab find the way to it, a
 * supervisor is told, and what was lost is an exit status.
 */
#include "mounted.h"
#include "target.h"

#include <poll.h>
#include <signal.h>
#include <sys/mount.h>
#include <sys/socket.h>
#include <sys/statvfs.h>
#include <sys/un.h>

#define PAGE 4096
#define NOBODY 65534
#define WAIT_MS (120 * 1000)

static const char *program, *helper;
static char said[4096];

static int setup(void **state)
{
    return mounted_setup(state, 2 << 20, 1024);
}

static int errno_of(int result)
{
    return result < 0 ? -errno : result;
}

/* A file with a line in it. */
static int new_file(const struct mounted *m, const char *name, mode_t mode)
{
    int fd = open(mounted_path(m, name), O_RDWR | O_CREAT | O_CLOEXEC, mode);

    assert_ok(errno_of(fd));
    assert_count(pwrite(fd, "#!/bin/sh\n", 10, 0), 10);
    return fd;
}

/* ------------------------------------------------------------------ what the kernel is told */

static void flags_are(struct mounted *m, const char *options, unsigned long set, unsigned long clear)
{
    struct statvfs fs;

    mounted_start(m, options);
    assert_ok(errno_of(statvfs(m->dir, &fs)));
    assert_that((fs.f_flag & set) == set && (fs.f_flag & clear) == 0, "%s: flags %lx", options, fs.f_flag);
    assert_count(mounted_stop(m), 0);
}

static void flags_of_the_mount(void **state)
{
    struct mounted *m = *state;

    flags_are(m, "rw", ST_NOSUID | ST_NODEV, ST_RDONLY | ST_NOEXEC | ST_SYNCHRONOUS);
    flags_are(m, "ro,noexec", ST_RDONLY | ST_NOEXEC, 0);
    flags_are(m, "sync", ST_SYNCHRONOUS, ST_RDONLY);
    if (geteuid() == 0)
        flags_are(m, "suid,dev,exec,async", 0, ST_NOSUID | ST_NODEV | ST_NOEXEC | ST_SYNCHRONOUS);
}

static bool mount_line_has(const struct mounted *m, const char *text)
{
    FILE *mounts = fopen("/proc/self/mounts", "re");
    char line[2048];
    bool has = false;

    while (mounts && fgets(line, sizeof(line), mounts))
        has |= strstr(line, m->dir) && strstr(line, text);
    if (mounts)
        fclose(mounts);
    return has;
}

static void programs_of_the_mount(void **state)
{
    struct mounted *m = *state;
    const char *const run[] = {mounted_path(m, "script"), NULL};

    mounted_start(m, "dirsync");
    assert_true(mount_line_has(m, "dirsync") && mount_line_has(m, "fuse.holdfast"));
    assert_ok(errno_of(close(new_file(m, "script", 0755))));
    assert_count(mounted_run(run, "/", 60), 0);
    assert_count(mounted_stop(m), 0);
    mounted_start(m, "noexec");
    assert_count(mounted_run(run, "/", 60), 127);
    assert_count(mounted_stop(m), 0);
}

/* ------------------------------------------------------------------ times */

/* The time of access after a read, when it had been this. */
static time_t atime_after_read(const struct mounted *m, time_t before)
{
    const struct timespec times[2] = {{.tv_sec = before}, {.tv_sec = time(NULL)}};
    int fd = new_file(m, "f", 0644);
    struct stat st;
    char byte;

    assert_ok(errno_of(futimens(fd, times)));
    assert_count(pread(fd, &byte, 1, 0), 1);
    assert_ok(errno_of(close(fd)));
    assert_ok(errno_of(stat(mounted_path(m, "f"), &st)));
    return st.st_atime;
}

static void times_of_access(void **state)
{
    struct mounted *m = *state;
    time_t old = 1000, soon = time(NULL) + 3600;

    mounted_start(m, "noatime");
    assert_true(atime_after_read(m, old) == old);
    assert_count(mounted_stop(m), 0);
    mounted_start(m, "relatime");
    assert_true(atime_after_read(m, old) != old);
    assert_true(atime_after_read(m, soon) == soon);
    assert_count(mounted_stop(m), 0);
    mounted_start(m, "strictatime");
    assert_true(atime_after_read(m, soon) != soon);
    assert_count(mounted_stop(m), 0);
}

/* ------------------------------------------------------------------ other users */

struct look {
    char path[400];
    int flags, error;
};

static int look_as_nobody(void *arg)
{
    const struct look *look = arg;
    int fd;

    CHILD_CHECK(setresgid(NOBODY, NOBODY, NOBODY) == 0 && setresuid(NOBODY, NOBODY, NOBODY) == 0);
    fd = open(look->path, look->flags | O_CLOEXEC);
    CHILD_CHECK(fd >= 0 ? look->error == 0 : errno == look->error);
    return 0;
}

/* error: positive, or 0. */
static void nobody_opens(const struct mounted *m, const char *name, int flags, int error)
{
    struct look look = {.flags = flags, .error = error};

    snprintf(look.path, sizeof(look.path), "%s", mounted_path(m, name));
    expect_exit_0(fork_child(look_as_nobody, &look));
}

static void other_users(void **state)
{
    struct mounted *m = *state;
    const char *root_only[] = {"rw", "allow_root"};

    if (geteuid() != 0 || access("/dev/shm", X_OK) < 0)
        skip();
    for (int i = 0; i < 2; i++) {
        mounted_start(m, root_only[i]);
        assert_ok(errno_of(close(new_file(m, "open", 0644))));
        nobody_opens(m, "open", O_RDONLY, EACCES);
        assert_count(mounted_stop(m), 0);
    }
    mounted_start(m, "allow_other"); /* modes decide: default_permissions is always on */
    assert_ok(errno_of(chmod(m->dir, 0755)));
    assert_ok(errno_of(close(new_file(m, "closed", 0600))));
    nobody_opens(m, "open", O_RDONLY, 0);
    nobody_opens(m, "open", O_RDWR, EACCES);
    nobody_opens(m, "closed", O_RDONLY, EACCES);
    nobody_opens(m, "new", O_RDWR | O_CREAT, EACCES);
    assert_count(mounted_stop(m), 0);
}

/* ------------------------------------------------------------------ wrong ones, and those of others */

static void options_that_are_none(void **state)
{
    struct mounted *m = *state;
    const char *const wrong[] = {
        "magic", "mmap=never", "cache=", "page_size=x", "writeback_ms=-1", "isize_sync=none"};

    for (size_t i = 0; i < ARRAY_LEN(wrong); i++) {
        const char *args[] = {"mount", "-o", wrong[i], m->volume, m->dir, NULL};

        assert_count(mounted_command(args, said, sizeof(said)), 2);
        assert_that(strstr(said, wrong[i]) != NULL, "%s: it says: %s", wrong[i], said);
    }
    mounted_start(m, "defaults,nofail,_netdev,user,x-systemd.automount,comment=it,lazytime");
    assert_count(mounted_stop(m), 0);
}

/* ------------------------------------------------------------------ mount(8) and fstab */

static void unmount(struct mounted *m)
{
    const char *args[] = {"umount", m->dir, NULL};
    int status = mounted_command(args, said, sizeof(said));

    assert_that(status == 0, "umount: status %d: %s", status, said);
}

static void expect_mounted_read_only(const struct mounted *m)
{
    struct statvfs fs;

    assert_ok(errno_of(statvfs(m->dir, &fs)));
    assert_true((fs.f_flag & ST_RDONLY) && mount_line_has(m, "fuse.holdfast"));
}

/* The helper beside the command in a directory of /sbin's names, in this test's own mount namespace: mount(8)
 * looks nowhere else. */
static bool install_helper(const char *dir)
{
    const char *const script[] = {
        "sh",
        "-euc",
        "sbin=$(readlink -f /sbin)\n"
        "mkdir -p \"$1\"; mount -t tmpfs none \"$1\"; mkdir \"$1/up\" \"$1/work\"\n"
        "cp \"$2\" \"$1/up/mount.fuse.holdfast\"; chmod 755 \"$1/up/mount.fuse.holdfast\"\n"
        "ln -s \"$3\" \"$1/up/holdfast\"\n"
        "mount -t overlay none -o \"lowerdir=$sbin,upperdir=$1/up,workdir=$1/work\" "
        "\"$sbin\" 2>/dev/null",
        "sh",
        dir,
        helper,
        program,
        NULL};

    return mounted_run(script, "/", 60) == 0;
}

static void mount_and_fstab(void **state)
{
    struct mounted *m = *state;
    char dir[300], fstab[340];
    const char *const by_hand[] = {fstab, m->volume, m->dir, "-n", "-o", "ro,nofail", NULL};
    const char *const none[] = {fstab, m->volume, NULL};
    const char *const look_only[] = {fstab, m->volume, m->dir, "-f", NULL};
    const char *const by_mount[] = {"mount",      "-t",      "fuse.holdfast", "-o",
                                    "ro,noatime", m->volume, m->dir,          NULL};
    const char *const by_fstab[] = {"mount", "-T", fstab, m->dir, NULL};
    int fd;

    snprintf(dir, sizeof(dir), "%s.sbin", m->volume);
    if (geteuid() != 0 || !install_helper(dir)) {
        umount2(dir, MNT_DETACH);
        rmdir(dir);
        skip();
    }
    snprintf(fstab, sizeof(fstab), "%s/up/mount.fuse.holdfast", dir);
    assert_count(mounted_run(by_hand, "/", 60), 0);
    expect_mounted_read_only(m);
    unmount(m);
    assert_count(mounted_run(none, "/", 60), 1);
    assert_count(mounted_run(look_only, "/", 60), 0);
    assert_false(mount_line_has(m, "fuse.holdfast"));
    assert_count(mounted_run(by_mount, "/", 60), 0);
    expect_mounted_read_only(m);
    unmount(m);
    snprintf(fstab, sizeof(fstab), "%s/fstab", dir);
    fd = open(fstab, O_WRONLY | O_CREAT | O_CLOEXEC, 0644);
    assert_true(dprintf(fd, "%s %s fuse.holdfast ro,noauto,nofail,x-any 0 0\n", m->volume, m->dir) > 0);
    assert_ok(errno_of(close(fd)));
    assert_count(mounted_run(by_fstab, "/", 60), 0);
    expect_mounted_read_only(m);
    unmount(m);
    assert_ok(errno_of(umount2("/sbin", MNT_DETACH)));
    assert_ok(errno_of(umount2(dir, MNT_DETACH)));
    assert_ok(errno_of(rmdir(dir)));
}

/* ------------------------------------------------------------------ supervisors, and the end */

/* The next datagram. */
static void expect_told(int sock, const char *start, char *ret_text, size_t size)
{
    struct pollfd told = {.fd = sock, .events = POLLIN};
    ssize_t n;

    assert_count(poll(&told, 1, WAIT_MS), 1);
    n = recv(sock, ret_text, size - 1, 0);
    assert_true(n > 0);
    ret_text[n] = '\0';
    assert_that(strncmp(ret_text, start, strlen(start)) == 0, "it is told: %s", ret_text);
}

/* The process that is left behind is the one to watch, and says when it begins to end. */
static void a_supervisor_is_told(void **state)
{
    struct mounted *m = *state;
    const char *args[] = {"mount", m->volume, m->dir, NULL};
    struct sockaddr_un addr = {.sun_family = AF_UNIX};
    int sock = socket(AF_UNIX, SOCK_DGRAM | SOCK_CLOEXEC, 0);
    char text[128], path[100];
    int pid = 0;

    temp_path("notify", path, sizeof(path));
    snprintf(addr.sun_path, sizeof(addr.sun_path), "%s", path);
    assert_ok(errno_of(bind(sock, (struct sockaddr *)&addr, sizeof(addr))));
    assert_ok(setenv("NOTIFY_SOCKET", path, 1));
    assert_count(mounted_command(args, said, sizeof(said)), 0);
    assert_ok(unsetenv("NOTIFY_SOCKET"));
    expect_told(sock, "READY=1\nMAINPID=", text, sizeof(text));
    assert_count(sscanf(text, "READY=1\nMAINPID=%d", &pid), 1);
    assert_ok(errno_of(close(new_file(m, "f", 0644))));
    assert_ok(errno_of(kill(pid, SIGTERM)));
    expect_told(sock, "STOPPING=1", text, sizeof(text));
    assert_ok(errno_of(close(sock)));
    assert_ok(errno_of(unlink(path)));
}

/* With mmap=late: the mapping's stores have no space, and nobody is left who could be told. */
static void store_without_space(struct mounted *m, bool unmapped)
{
    struct statvfs fs;
    int fd, ballast;
    char *map;

    mounted_start(m, "mmap=late");
    fd = new_file(m, "f", 0644);
    assert_ok(errno_of(ftruncate(fd, 64 * PAGE)));
    map = mmap(NULL, 64 * PAGE, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
    assert_true(map != MAP_FAILED);
    assert_ok(errno_of(close(fd)));
    ballast = new_file(m, "ballast", 0644);
    assert_ok(errno_of(fstatvfs(ballast, &fs)));
    assert_ok(-posix_fallocate(ballast, 1024, (off_t)(fs.f_bavail * fs.f_frsize)));
    assert_ok(errno_of(close(ballast)));
    for (size_t i = 1; i < 64; i++)
        map[i * PAGE] = 'l';
    if (unmapped)
        assert_ok(errno_of(munmap(map, 64 * PAGE)));
}

static void make_room(struct mounted *m)
{
    mounted_start(m, NULL);
    assert_ok(errno_of(unlink(mounted_path(m, "ballast"))));
    assert_ok(errno_of(unlink(mounted_path(m, "f"))));
    assert_count(mounted_stop(m), 0);
}

/* Every way to end says so. */
static void what_is_lost_is_an_exit_status(void **state)
{
    struct mounted *m = *state;
    const char *umount[] = {"umount", m->dir, NULL};

    store_without_space(m, false);
    assert_count(mounted_stop(m), 1);
    make_room(m);
    store_without_space(m, true);
    assert_count(mounted_stop(m), 1);
    make_room(m);
    store_without_space(m, true);
    assert_count(mounted_command(umount, said, sizeof(said)), 1);
    assert_that(strstr(said, "not everything could be written"), "it says: %s", said);
    assert_count(mounted_wait(m), 1);
    make_room(m);
    store_without_space(m, true);
    assert_ok(errno_of(umount2(m->dir, 0)));
    assert_count(mounted_wait(m), 1);
    make_room(m);
}

#define CASE(fn) cmocka_unit_test_setup_teardown(fn, setup, mounted_teardown)

int main(int argc, char **argv)
{
    const struct CMUnitTest tests[] = {
        CASE(flags_of_the_mount),   CASE(programs_of_the_mount),          CASE(times_of_access),
        CASE(other_users),          CASE(options_that_are_none),          CASE(mount_and_fstab),
        CASE(a_supervisor_is_told), CASE(what_is_lost_is_an_exit_status),
    };
    static char path[4096];
    const char *refused;

    if (argc < 3 || realpath(argv[1], path) == NULL)
        return 99;
    program = path;
    helper = argv[2];
    refused = mounted_init(argv[1]);
    if (refused) {
        printf("skipped: nothing can be mounted: %s\n", refused);
        return 77;
    }
    if (argc > 3)
        cmocka_set_test_filter(argv[3]);
    return cmocka_run_group_tests_name("mount_options", tests, NULL, NULL);
}
