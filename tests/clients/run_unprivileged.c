/* SPDX-License-Identifier: MIT */
/*
 * run_unprivileged.c - holdfast run and holdfast mount by a user without any privilege: through fusermount3,
 * in namespaces of its own, and what is said when neither can be had.
 *
 * As root it becomes nobody for each command, in a mount namespace where /dev/fuse is everybody's, as it is
 * on most machines; as another user it stays that user. What nobody must read is copied to where nobody can.
 */
#include "../cli/cli_run.h"
#include "mounted.h"
#include "target.h"

#include <stddef.h>
#include <sys/mount.h>
#include <sys/socket.h>
#include <sys/statvfs.h>
#include <sys/syscall.h>
#include <sys/sysmacros.h>
#include <sys/un.h>
#include <sys/wait.h>
#include <sys/xattr.h>

#define NOBODY 65534
#define STRANGER 1234

static char place[64], victim[128], library[128], home[80], path_without[80];
static bool helper_works, namespace_works;
static struct cli_run last;

static int as_user(void)
{
    return cli_become_nobody();
}

static int without_helper(void)
{
    return setenv("PATH", path_without, 1) < 0 ? -errno : cli_become_nobody();
}

/* No namespaces; and no_new_privs, so that no helper becomes root. */
static int without_anything(void)
{
    int r = cli_become_nobody();

    return r < 0 ? r : cli_refuse_call(SYS_unshare);
}

static int copy(const char *from, const char *to)
{
    int in = open(from, O_RDONLY | O_CLOEXEC), out = open(to, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0755);
    char bytes[65536];
    ssize_t n = -1;

    while (in >= 0 && out >= 0 && (n = read(in, bytes, sizeof(bytes))) > 0)
        if (write(out, bytes, (size_t)n) != n)
            n = -1;
    if (in >= 0)
        close(in);
    if (out >= 0)
        close(out);
    return n == 0 ? chmod(to, 0755) : -1;
}

/* The command's exit status; what it said is in last. Skips where the surroundings cannot be had. */
static int command(int (*prepare)(void), const char *const *args)
{
    cli_run_free(&last);
    last = cli_run(prepare, args);
    if (last.status == CLI_CANNOT)
        skip();
    return last.status;
}

static void expect(int (*prepare)(void), const char *const *args, int status)
{
    int got = command(prepare, args);

    assert_that(got == status, "%s %s: status %d, not %d; it said: %s%s", args[0], args[1], got, status,
                last.out, last.err);
}

static void expect_said(const char *said, const char *text)
{
    assert_that(strstr(said, text) != NULL, "'%s' is not in: %s", text, said);
}

/* A way of the victim, under a way to mount. */
static void expect_victim(const char *with, const char *way, int status)
{
    const char *args[] = {"run",  "--size", "2M", "--block-size", "1K", with, "--stats", "--",
                          victim, way,      NULL};

    expect(as_user, args, status);
}

static void expect_script(int (*prepare)(void), const char *with, const char *script, int status)
{
    const char *args[] = {"run", "--size", "2M", with, "--", "sh", "-euc", script, "sh", victim, NULL};

    expect(prepare, args, status);
}

static void skip_unless(bool works)
{
    if (!works)
        skip();
}

/* ------------------------------------------------------------------ in either way */

static void programs_keep_stores(const char *with)
{
    char dir[128];

    expect_victim(with, "seed", 0);
    expect_said(last.err, "processes 2,");
    expect_victim(with, "full", 128 + SIGBUS);
    expect_said(last.err, "store refused: ENOSPC: ");
    expect_said(last.err, "/f at offset ");
    expect_victim(with, "recovers", 0);
    /* children, exec, the exit status; nothing is left */
    expect_script(as_user, with,
                  "test $(stat -c %u \"$HOLDFAST_DIR\") = $(id -u)\n"
                  "\"$1\" seed; sh -c 'exec \"$1\" seed' sh \"$1\"\n"
                  "printf %s \"$HOLDFAST_DIR\"; exit 7",
                  7);
    assert_that(sscanf(last.out, "%127s", dir) == 1 && strrchr(dir, '/') > dir + 5, "it says: %s", last.out);
    assert_err(access(dir, F_OK) < 0 ? -errno : 0, ENOENT);
    *strrchr(dir, '/') = '\0';
    assert_err(access(dir, F_OK) < 0 ? -errno : 0, ENOENT);
}

/* A directory and a volume of the user's own, which stay. */
static void volumes_stay(const char *with)
{
    char volume[200], dir[200];
    const char *mkfs[] = {"mkfs", "--force", "--size", "2M", volume, NULL};
    const char *run[] = {"run",      with, "--volume", volume, "--at", dir,
                         "--inside", "--", victim,     "seed", NULL};
    const char *cat[] = {"cat", volume, "f", NULL};

    snprintf(volume, sizeof(volume), "%s/box.hf", home);
    snprintf(dir, sizeof(dir), "%s/mnt", home);
    expect(as_user, mkfs, 0);
    expect(as_user, run, 0);
    expect(as_user, cat, 0);
    assert_int_equal(last.out[0], 'a');
    assert_int_equal(last.out[1], 'e');
    assert_ok(rmdir(dir) < 0 ? -errno : 0); /* nothing is mounted there any more */
    assert_ok(mkdir(dir, 0755) < 0 ? -errno : 0);
    if (geteuid() == 0)
        assert_ok(chown(dir, NOBODY, NOBODY) < 0 ? -errno : 0);
    assert_ok(unlink(volume) < 0 ? -errno : 0);
}

static void through_fusermount(void **state)
{
    (void)state;
    skip_unless(helper_works);
    programs_keep_stores("--mount-with=fusermount");
    volumes_stay("--mount-with=fusermount");
}

static void in_a_namespace(void **state)
{
    (void)state;
    skip_unless(namespace_works);
    programs_keep_stores("--mount-with=namespace");
    volumes_stay("--mount-with=namespace");
}

/* ------------------------------------------------------------------ which way */

static void own_user_namespace(char *ret_name, size_t size)
{
    ssize_t n = readlink("/proc/self/ns/user", ret_name, size - 1);

    ret_name[n > 0 ? n : 0] = '\0';
}

/* The program has its own ids and groups there, and none of the capabilities that the namespace gives. */
static void a_namespace_gives_the_program_nothing(void **state)
{
    char ours[64], theirs[64] = "";

    (void)state;
    skip_unless(namespace_works);
    expect_script(
        as_user, "--mount-with=namespace",
        "readlink /proc/self/ns/user; grep -q '^CapEff:.0*$' /proc/self/status\n"
        "grep -q '^CapPrm:.0*$' /proc/self/status; grep -q '^CapBnd:.0*$' /proc/self/status\n"
        "touch \"$HOLDFAST_DIR/mine\"; test -O \"$HOLDFAST_DIR/mine\" -a -G \"$HOLDFAST_DIR/mine\"\n"
        "! umount \"$HOLDFAST_DIR\" 2>/dev/null; test -e \"$HOLDFAST_DIR/mine\"",
        0);
    own_user_namespace(ours, sizeof(ours));
    sscanf(last.out, "%63s", theirs);
    assert_true(theirs[0] != '\0' && strcmp(ours, theirs) != 0);
}

static void fusermount_first_then_a_namespace(void **state)
{
    char ours[64];

    (void)state;
    own_user_namespace(ours, sizeof(ours));
    if (helper_works) {
        expect_script(as_user, "--stats", "readlink /proc/self/ns/user", 0);
        expect_said(last.out, ours);
    }
    skip_unless(namespace_works);
    expect_script(without_helper, "--stats", "/bin/readlink /proc/self/ns/user", 0);
    assert_null(strstr(last.out, ours));
    assert_null(strstr(last.err, "cannot mount"));
}

static void a_volume_open_for_nobody_stays_so(void **state)
{
    char volume[200];
    const char *mkfs[] = {"mkfs", "--force", "--size", "2M", volume, NULL};
    const char *run[] = {"run", "--mount-with=namespace", "--volume", volume, "--", "true", NULL};

    (void)state;
    skip_unless(namespace_works);
    snprintf(volume, sizeof(volume), "%s/closed.hf", home);
    expect(as_user, mkfs, 0);
    assert_ok(chmod(volume, 0) < 0 ? -errno : 0);
    expect(as_user, run, 1); /* the namespace's capabilities would have opened it */
    expect_said(last.err, "Permission denied");
    assert_ok(unlink(volume) < 0 ? -errno : 0);
}

/* Whether a server answers a user who is not its. */
static bool lets_in_a_stranger(unsigned long device)
{
    const struct timeval patience = {.tv_sec = 30};
    struct sockaddr_un addr = {.sun_family = AF_UNIX};
    int n = snprintf(addr.sun_path + 1, sizeof(addr.sun_path) - 1, "holdfast-mount-%u:%u", major(device),
                     minor(device));
    socklen_t len = (socklen_t)(offsetof(struct sockaddr_un, sun_path) + 1 + (size_t)n);
    int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
    char byte;

    if (setresgid(STRANGER, STRANGER, STRANGER) < 0 || setresuid(STRANGER, STRANGER, STRANGER) < 0)
        return false;
    setsockopt(fd, SOL_SOCKET, SO_RCVTIMEO, &patience, sizeof(patience));
    return connect(fd, (struct sockaddr *)&addr, len) == 0 && send(fd, "stat\n", 5, MSG_NOSIGNAL) == 5 &&
           recv(fd, &byte, 1, 0) > 0;
}

/* A pipe with a name in the user's home, open at both ends. */
static int pipe_named(const char *name, char ret_path[100])
{
    int fd;

    snprintf(ret_path, 100, "%s/%s", home, name);
    assert_ok(mkfifo(ret_path, 0600) < 0 ? -errno : 0);
    assert_ok(chown(ret_path, NOBODY, NOBODY) < 0 ? -errno : 0);
    fd = open(ret_path, O_RDWR | O_CLOEXEC);
    assert_true(fd >= 0);
    return fd;
}

/* To a namespace that knows one user, all others look like nobody; who runs it is nobody here. */
static void strangers_are_not_let_in(void **state)
{
    char device_path[100], answer_path[100], script[400], device[64] = "";
    int device_fd, answer_fd;
    pid_t stranger;

    (void)state;
    skip_unless(namespace_works && geteuid() == 0);
    device_fd = pipe_named("device", device_path);
    answer_fd = pipe_named("answer", answer_path);
    stranger = fork();
    if (stranger == 0) {
        if (read(device_fd, device, sizeof(device) - 1) > 0) {
            bool is_in = lets_in_a_stranger(strtoul(device, NULL, 10));

            (void)!write(answer_fd, is_in ? "9\n" : "0\n", 2);
        }
        _exit(0);
    }
    snprintf(script, sizeof(script), "stat -c %%d \"$HOLDFAST_DIR\" >%s; read -r answer <%s; exit $answer",
             device_path, answer_path);
    expect_script(as_user, "--mount-with=namespace", script, 0);
    assert_int_equal(waitpid(stranger, NULL, 0), stranger);
    assert_ok(close(device_fd));
    assert_ok(close(answer_fd));
    assert_ok(unlink(device_path) < 0 || unlink(answer_path) < 0 ? -errno : 0);
}

static void says_what_was_refused(void **state)
{
    const char *run[] = {"run", "--", victim, "seed", NULL};
    const char *direct[] = {"run", "--mount-with=direct", "--", victim, "seed", NULL};
    const char *wrong[] = {"run", "--mount-with=magic", "--", victim, "seed", NULL};

    (void)state;
    expect(without_anything, run, 1);
    expect_said(last.err, "cannot mount through fusermount3: ");
    expect_said(last.err, "cannot mount in a namespace: ");
    expect_said(last.err, "'holdfast doctor' says what would mend it");
    assert_null(strstr(last.err, "processes")); /* nothing was served */
    expect(as_user, direct, 1);
    expect_said(last.err, "cannot mount: ");
    expect(as_user, wrong, 2);
}

/* ------------------------------------------------------------------ programs that gain privilege */

/* Is a copy of the victim refused that has this owner, mode and file capabilities? Else it runs. */
static void expect_refused(uid_t owner, mode_t mode, bool capable, bool refused)
{
    /* struct vfs_cap_data of revision 2: CAP_NET_RAW permitted and effective */
    static const unsigned char caps[20] = {1, 0, 0, 2, 0, 0x20};
    const char *run[] = {"run", "--size", "2M", "--", NULL, "seed", NULL};
    char path[160];

    snprintf(path, sizeof(path), "%s.copy", victim);
    run[4] = path;
    assert_ok(copy(victim, path) < 0 ? -errno : 0);
    assert_ok(chown(path, owner, owner) < 0 ? -errno : 0);
    assert_ok(chmod(path, mode) < 0 ? -errno : 0);
    if (capable && setxattr(path, "security.capability", caps, sizeof(caps), 0) < 0)
        refused = false;
    expect(as_user, run, refused ? 1 : 0);
    if (refused)
        expect_said(last.err, "it changes its user, group or capabilities");
    assert_ok(unlink(path) < 0 ? -errno : 0);
}

static void programs_that_gain_privilege(void **state)
{
    struct statvfs fs;

    (void)state;
    if (geteuid() != 0 || statvfs(place, &fs) < 0 || (fs.f_flag & ST_NOSUID))
        skip();
    expect_refused(0, 04755, false, true);
    expect_refused(0, 02755, false, true);
    expect_refused(NOBODY, 06755, false, false); /* who runs it already is who it becomes */
    expect_refused(0, 0755, true, true);
    expect_refused(0, 0755, false, false);
}

/* ------------------------------------------------------------------ holdfast mount */

static bool conf_allows_other(void)
{
    FILE *conf = fopen("/etc/fuse.conf", "re");
    char line[256];
    bool allows = false;

    while (conf && fgets(line, sizeof(line), conf))
        allows |= strncmp(line, "user_allow_other", 16) == 0;
    if (conf)
        fclose(conf);
    return allows;
}

/* In this process's own mount namespace. */
static void allow_other(void)
{
    char conf[100];
    int fd;

    snprintf(conf, sizeof(conf), "%s/fuse.conf", place);
    fd = open(conf, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0644);
    assert_true(fd >= 0 && dprintf(fd, "user_allow_other\n") > 0);
    assert_ok(close(fd));
    assert_ok(mount(conf, "/etc/fuse.conf", NULL, MS_BIND, NULL) < 0 ? -errno : 0);
}

static void mount_and_umount(void **state)
{
    char volume[200], dir[200], file[256];
    const char *mkfs[] = {"mkfs", "--force", "--size", "2M", volume, NULL};
    const char *mount[] = {"mount", volume, dir, NULL}, *umount[] = {"umount", dir, NULL};
    const char *other[] = {"mount", "-o", "allow_other", volume, dir, NULL}, *stat[] = {"stat", dir, NULL};

    (void)state;
    skip_unless(helper_works);
    snprintf(volume, sizeof(volume), "%s/box.hf", home);
    snprintf(dir, sizeof(dir), "%s/mnt", home);
    snprintf(file, sizeof(file), "%s/f", dir);
    expect(as_user, mkfs, 0);
    expect(as_user, mount, 0);
    expect(as_user, stat, 0);
    expect(as_user, mount, 1);
    expect_said(last.err, "open already");
    if (geteuid() == 0)
        assert_err(open(file, O_WRONLY | O_CREAT | O_CLOEXEC, 0644) < 0 ? -errno : 0, EACCES);
    expect(as_user, umount, 0);
    expect(as_user, umount, 1);
    expect(as_user, other, conf_allows_other() ? 0 : 1); /* /etc/fuse.conf */
    if (conf_allows_other())
        expect(as_user, umount, 0);
    if (geteuid() == 0 && access("/etc/fuse.conf", F_OK) == 0) {
        allow_other();
        expect(as_user, other, 0);
        assert_ok(access(dir, R_OK) < 0 ? -errno : 0); /* we are another user */
        expect(as_user, umount, 0);
        assert_ok(umount2("/etc/fuse.conf", MNT_DETACH) < 0 ? -errno : 0);
    }
    assert_ok(unlink(volume) < 0 ? -errno : 0);
}

/* ------------------------------------------------------------------ surroundings */

static int make_place(const char *lib, const char *program)
{
    char dir[160], shell[100];
    uid_t user = geteuid() == 0 ? NOBODY : geteuid();

    strcpy(place, "/tmp/holdfast-test-XXXXXX");
    if (mkdtemp(place) == NULL || chmod(place, 0755) < 0)
        return -1;
    snprintf(library, sizeof(library), "%s/libholdfast-preload.so", place);
    snprintf(victim, sizeof(victim), "%s/victim", place);
    if (copy(lib, library) < 0 || copy(program, victim) < 0)
        return -1;
    snprintf(home, sizeof(home), "%s/home", place);
    snprintf(dir, sizeof(dir), "%s/mnt", home);
    snprintf(path_without, sizeof(path_without), "%s/bin", place);
    snprintf(shell, sizeof(shell), "%s/sh", path_without);
    if (mkdir(home, 0755) < 0 || mkdir(dir, 0755) < 0 || mkdir(path_without, 0755) < 0 ||
        symlink("/bin/sh", shell) < 0)
        return -1;
    if (geteuid() == 0 && (chown(home, user, user) < 0 || chown(dir, user, user) < 0))
        return -1;
    return setenv("HOLDFAST_PRELOAD", library, 1);
}

static void remove_place(void)
{
    const char *const rm[] = {"rm", "-rf", "--one-file-system", place, NULL};

    char dev[80];

    snprintf(dev, sizeof(dev), "%s/dev", place);
    umount2(dev, MNT_DETACH); /* it stays where it is bound */
    if (place[0] != '\0')
        mounted_run(rm, "/", 60);
}

/* In this process's own mount namespace. */
static const char *everybodys_device(void)
{
    static char why[200];
    char dir[80], node[100];

    snprintf(dir, sizeof(dir), "%s/dev", place);
    snprintf(node, sizeof(node), "%s/fuse", dir);
    if (mkdir(dir, 0755) < 0 || mount("none", dir, "tmpfs", MS_NOSUID | MS_NOEXEC, "mode=0755") < 0 ||
        mknod(node, S_IFCHR | 0666, makedev(10, 229)) < 0 || chmod(node, 0666) < 0 ||
        mount(node, "/dev/fuse", NULL, MS_BIND, NULL) < 0) {
        snprintf(why, sizeof(why), "/dev/fuse cannot be given to a user: %s", strerror(errno));
        return why;
    }
    return NULL;
}

static bool works(const char *with)
{
    const char *args[] = {"run", with, "--size", "2M", "--", "true", NULL};
    struct cli_run run = cli_run(as_user, args);
    bool can = run.status == 0;

    if (!can)
        printf("# %s: %s", with, run.err);
    cli_run_free(&run);
    return can;
}

static const char *prepare_all(char **argv)
{
    const char *refused;

    refused = mounted_serves_mappings();
    if (refused == NULL && geteuid() == 0)
        refused = mounted_init(argv[1]);
    if (refused != NULL)
        return refused;
    cli_program(argv[1]);
    if (make_place(argv[2], argv[3]) < 0)
        return "no directory in /tmp";
    if (geteuid() == 0 && (refused = everybodys_device()) != NULL)
        return refused;
    helper_works = works("--mount-with=fusermount");
    namespace_works = works("--mount-with=namespace");
    return helper_works || namespace_works ? NULL : "neither fusermount3 nor namespaces work for a user";
}

int main(int argc, char **argv)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(through_fusermount),
        cmocka_unit_test(in_a_namespace),
        cmocka_unit_test(a_namespace_gives_the_program_nothing),
        cmocka_unit_test(fusermount_first_then_a_namespace),
        cmocka_unit_test(a_volume_open_for_nobody_stays_so),
        cmocka_unit_test(strangers_are_not_let_in),
        cmocka_unit_test(says_what_was_refused),
        cmocka_unit_test(programs_that_gain_privilege),
        cmocka_unit_test(mount_and_umount),
    };
    const char *refused;
    int status = 77;

    if (argc < 4)
        return 99;
    refused = prepare_all(argv);
    if (refused)
        printf("skipped: %s\n", refused);
    else
        status = cmocka_run_group_tests_name("run_unprivileged", tests, NULL, NULL);
    cli_run_free(&last);
    remove_place();
    return status;
}
