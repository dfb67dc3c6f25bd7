/* SPDX-License-Identifier: MIT */
/*
 * cmd_mount.c - holdfast mount: a volume as a directory, served by this process or by one left behind.
 *
 * The process that serves is forked before anything of the library is called: volumes do not survive a fork.
 * It keeps the terminal until the kernel has been answered, so that a failure is said where it was asked for;
 * afterwards a daemon speaks to syslog.
 */
#include "cli.h"
#include <errno.h>
#include <fcntl.h>
#include <getopt.h>
#include <stddef.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <sys/wait.h>
#include <syslog.h>
#include <unistd.h>

#ifdef HF_HAVE_FUSE
#include "../fuse/fuse.h"

/* One datagram to whoever supervises this process, as sd_notify(3). */
static void notify(const char *state)
{
    const char *path = getenv("NOTIFY_SOCKET");
    struct sockaddr_un addr = {.sun_family = AF_UNIX};
    size_t len = path ? strlen(path) : 0;
    int fd;

    if (len == 0 || len >= sizeof(addr.sun_path) || (path[0] != '/' && path[0] != '@'))
        return;
    memcpy(addr.sun_path, path, len);
    if (path[0] == '@')
        addr.sun_path[0] = '\0';
    fd = socket(AF_UNIX, SOCK_DGRAM | SOCK_CLOEXEC, 0);
    if (fd < 0)
        return;
    (void)sendto(fd, state, strlen(state), MSG_NOSIGNAL, (struct sockaddr *)&addr,
                 (socklen_t)(offsetof(struct sockaddr_un, sun_path) + len));
    close(fd);
}

struct serving {
    bool daemon, ready;
    int parent; /* pipe: a byte says that it works */
};

static void leave_terminal(void)
{
    int null = open("/dev/null", O_RDWR);

    for (int fd = STDIN_FILENO; null >= 0 && fd <= STDERR_FILENO; fd++)
        dup2(null, fd);
    if (null > STDERR_FILENO)
        close(null);
    if (chdir("/") < 0)
        syslog(LOG_WARNING, "cannot leave the directory it was started in");
}

static void ready(void *arg)
{
    struct serving *s = arg;
    char state[64];

    s->ready = true;
    snprintf(state, sizeof(state), "READY=1\nMAINPID=%d", (int)getpid());
    notify(state);
    if (!s->daemon)
        return;
    leave_terminal();
    while (write(s->parent, "", 1) < 0 && errno == EINTR)
        ;
    close(s->parent);
}

static int serve(const struct hf_fuse_options *opts, const char *volume, const char *dir, struct serving *s)
{
    char error[HF_FUSE_TEXT] = "";
    int r = hf_fuse_serve(opts, volume, dir, ready, s, error);

    if (s->ready)
        notify("STOPPING=1");
    if (r == 0)
        return HF_CLI_OK;
    if (s->daemon && s->ready) {
        openlog("holdfast", LOG_PID, LOG_DAEMON);
        syslog(LOG_ERR, "mount of %s: %s", volume, error);
        return HF_CLI_FAILED;
    }
    return hf_cli_fail(error, NULL, s->ready ? "the mount of %s ended" : "cannot mount %s", volume);
}

/* What the child that serves has to say: its first byte, or its exit status. */
static int wait_for_child(pid_t child, int from)
{
    int status = 0;
    ssize_t n;
    char byte;

    while ((n = read(from, &byte, 1)) < 0 && errno == EINTR)
        ;
    close(from);
    if (n == 1)
        return HF_CLI_OK;
    while (waitpid(child, &status, 0) < 0)
        if (errno != EINTR)
            return hf_cli_fail_host(errno, "waiting for the server");
    return WIFEXITED(status) ? WEXITSTATUS(status) : HF_CLI_FAILED;
}

static int serve_behind(const struct hf_fuse_options *opts, const char *volume, const char *dir)
{
    struct serving s = {.daemon = true};
    int ends[2];
    pid_t child;

    if (pipe2(ends, O_CLOEXEC) < 0)
        return hf_cli_fail_host(errno, "starting the server");
    fflush(NULL);
    child = fork();
    if (child < 0) {
        close(ends[0]);
        close(ends[1]);
        return hf_cli_fail_host(errno, "starting the server");
    }
    if (child > 0) {
        close(ends[1]);
        return wait_for_child(child, ends[0]);
    }
    close(ends[0]);
    setsid();
    s.parent = ends[1];
    return serve(opts, volume, dir, &s);
}

/* "ro,mmap=late": each to hf_fuse_option(). Returns 0 or HF_CLI_USAGE, said. */
static int take_options(const struct hf_cli_command *cmd, struct hf_fuse_options *opts, char *list)
{
    char *save = NULL;

    for (char *o = strtok_r(list, ",", &save); o; o = strtok_r(NULL, ",", &save))
        if (hf_fuse_option(opts, o) < 0)
            return hf_cli_usage(cmd, "no mount option '%s', or not with this value", o);
    return 0;
}

static int run_mount(const struct hf_cli_command *cmd, int argc, char **argv)
{
    static const struct option options[] = {
        {"foreground", no_argument, NULL, 'f'}, {"help", no_argument, NULL, 'h'}, {0}};
    struct hf_fuse_options opts = {0};
    struct serving here = {0};
    bool foreground = false;
    int opt, status;

    while ((opt = getopt_long(argc, argv, ":fo:h", options, NULL)) != -1) {
        if (opt != 'f' && opt != 'o')
            return hf_cli_option(cmd, opt, argv);
        foreground |= opt == 'f';
        status = opt == 'o' ? take_options(cmd, &opts, optarg) : 0;
        if (status)
            return status;
    }
    status = hf_cli_operands(cmd, argc, argv, 2, 2);
    if (status)
        return status;
    if (!foreground)
        return serve_behind(&opts, argv[optind], argv[optind + 1]);
    return serve(&opts, argv[optind], argv[optind + 1], &here);
}
#else
static int run_mount(const struct hf_cli_command *cmd, int argc, char **argv)
{
    (void)argc;
    (void)argv;
    return hf_cli_fail("this build has no libfuse", "install libfuse3-dev and fuse3, and build again", "%s",
                       cmd->name);
}
#endif

const struct hf_cli_command hf_cmd_mount = {
    .name = "mount",
    .synopsis = "[-f] [-o OPTION,...] VOLUME DIR",
    .summary = "a volume as a directory that every program can use",
    .help =
        "Serves the volume to the kernel through FUSE, from a process that is left behind, until DIR is "
        "unmounted\n"
        "('holdfast umount', umount, fusermount3 -u) or that process is sent SIGTERM. Then everything is "
        "written.\n"
        "Needs /dev/fuse, and without root the program fusermount3 ('holdfast doctor' looks).\n"
        "\n"
        "  -f, --foreground  serve from this process; it exits with 0 if everything could be written\n"
        "  -o OPTION,...     how:\n"
        "    mmap=reserve    files open for reading and writing have space for all their holes, or cannot "
        "be\n"
        "                    opened, grown or written: what a mapping stores cannot be lost (default)\n"
        "    mmap=late       no space is kept; what mappings stored and has no place is an error of msync,\n"
        "                    fsync and close\n"
        "    cache=direct    reads and writes come here, and see every mapping at once (default)\n"
        "    cache=kernel    the kernel keeps pages: faster reads\n"
        "    relatime (default), noatime, strictatime: when reading moves the time of access\n"
        "    acl (default), noacl: whether POSIX access control lists are kept and asked\n"
        "    ro, nosuid, nodev, noexec, sync, allow_other, allow_root, auto_unmount, ...: as mount(8)\n"
        "    discard         space that files give back goes to the host or the device at once ('holdfast "
        "trim')\n"
        "    page_size=N, cache_bytes=N, dirty_bytes=N, writeback_ms=N, isize_sync=page-lock|hole-lock\n"
        "\n"
        "In /etc/fstab:  /srv/box.hf  /mnt/box  fuse.holdfast  allow_other,nofail  0  0\n"
        "\n"
        "Examples:\n"
        "  holdfast mount box.hf /mnt/box\n"
        "  holdfast mount -f -o ro box.hf /mnt/box\n",
    .run = run_mount,
};
