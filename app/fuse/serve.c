/* SPDX-License-Identifier: MIT */
/*
 * serve.c - a mounted volume from the first answer to the last byte.
 *
 * The end has two beginnings. Somebody unmounts: the kernel has handed over everything, and the workers find
 * the connection gone. Or a signal arrives, or the control socket asks: what the kernel still holds is called
 * in (syncfs) while the workers serve, and the mount is taken away; if it is in use, lazily, and the workers
 * are stopped. In both, files that are still open are closed here, and the volume is closed, which writes
 * everything and looks for leaks.
 */
#include "control.h"
#include "server.h"

#include <errno.h>
#include <fcntl.h>
#include <holdfast/maintain.h>
#include <inttypes.h>
#include <limits.h>
#include <poll.h>
#include <signal.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <sys/prctl.h>
#include <sys/signalfd.h>
#include <sys/socket.h>
#include <unistd.h>

#define WAKE_SIGNAL SIGUSR1
#define ANSWER_SECONDS 30
#define CONTROL_SECONDS 20

static const struct fuse_lowlevel_ops operations = {
    .init = hf_fuse_op_init,
    .lookup = hf_fuse_op_lookup,
    .forget = hf_fuse_op_forget,
    .forget_multi = hf_fuse_op_forget_multi,
    .getattr = hf_fuse_op_getattr,
    .setattr = hf_fuse_op_setattr,
    .readlink = hf_fuse_op_readlink,
    .mknod = hf_fuse_op_mknod,
    .mkdir = hf_fuse_op_mkdir,
    .symlink = hf_fuse_op_symlink,
    .link = hf_fuse_op_link,
    .unlink = hf_fuse_op_unlink,
    .rmdir = hf_fuse_op_rmdir,
    .rename = hf_fuse_op_rename,
    .statfs = hf_fuse_op_statfs,
    .create = hf_fuse_op_create,
    .open = hf_fuse_op_open,
    .release = hf_fuse_op_release,
    .flush = hf_fuse_op_flush,
    .fsync = hf_fuse_op_fsync,
    .read = hf_fuse_op_read,
    .write = hf_fuse_op_write,
    .fallocate = hf_fuse_op_fallocate,
    .lseek = hf_fuse_op_lseek,
    .ioctl = hf_fuse_op_ioctl,
    .copy_file_range = hf_fuse_op_copy_file_range,
    .getxattr = hf_fuse_op_getxattr,
    .listxattr = hf_fuse_op_listxattr,
    .setxattr = hf_fuse_op_setxattr,
    .removexattr = hf_fuse_op_removexattr,
    .opendir = hf_fuse_op_opendir,
    .readdir = hf_fuse_op_readdir,
    .readdirplus = hf_fuse_op_readdirplus,
    .releasedir = hf_fuse_op_releasedir,
    .fsyncdir = hf_fuse_op_fsyncdir,
};

/* What libfuse has to say goes to the caller, not to a terminal. */
static char libfuse_said[256];

static void keep_log(enum fuse_log_level level, const char *format, va_list args)
{
    (void)level;
    vsnprintf(libfuse_said, sizeof(libfuse_said), format, args);
    libfuse_said[strcspn(libfuse_said, "\n")] = '\0';
}

__attribute__((format(printf, 3, 4))) static int fail(char *text, int error, const char *format, ...)
{
    va_list args;

    va_start(args, format);
    vsnprintf(text, HF_FUSE_TEXT, format, args);
    va_end(args);
    return error;
}

/* ---- workers */

static void wake(int signo)
{
    (void)signo; /* only to end a read() */
}

static void *worker(void *arg)
{
    struct hf_fuse *fuse = arg;
    struct fuse_buf buf = {0};

    prctl(PR_SET_NAME, "hf-fuse");
    while (!fuse_session_exited(fuse->session)) {
        int r = fuse_session_receive_buf(fuse->session, &buf);

        if (r == -EINTR || r == -EAGAIN)
            continue;
        if (r <= 0)
            break;
        fuse_session_process_buf(fuse->session, &buf);
    }
    free(buf.mem);
    atomic_fetch_sub(&fuse->workers_running, 1u);
    eventfd_write(fuse->worker_left, 1);
    return NULL;
}

static int workers_start(struct hf_fuse *fuse)
{
    struct sigaction action = {.sa_handler = wake};
    sigset_t open;

    sigaction(WAKE_SIGNAL, &action, NULL);
    sigemptyset(&open);
    sigaddset(&open, WAKE_SIGNAL);
    while (fuse->nr_workers < HF_FUSE_WORKERS) {
        int r;

        atomic_fetch_add(&fuse->workers_running, 1u);
        pthread_sigmask(SIG_UNBLOCK, &open, NULL); /* all others are the main thread's */
        r = pthread_create(&fuse->workers[fuse->nr_workers], NULL, worker, fuse);
        pthread_sigmask(SIG_BLOCK, &open, NULL);
        if (r != 0) {
            atomic_fetch_sub(&fuse->workers_running, 1u);
            return fuse->nr_workers > 0 ? 0 : -r;
        }
        fuse->nr_workers++;
    }
    return 0;
}

/* Ends those that the end of the connection has not ended. A wake-up may come just before the read() it was
 * meant to end: so it is repeated. */
static void workers_stop(struct hf_fuse *fuse)
{
    const struct timespec pause = {.tv_nsec = 5 * 1000 * 1000};

    fuse_session_exit(fuse->session);
    while (atomic_load(&fuse->workers_running) > 0) {
        for (unsigned i = 0; i < fuse->nr_workers; i++)
            pthread_kill(fuse->workers[i], WAKE_SIGNAL);
        nanosleep(&pause, NULL);
    }
    for (unsigned i = 0; i < fuse->nr_workers; i++)
        pthread_join(fuse->workers[i], NULL);
    fuse->nr_workers = 0;
}

/* ---- the main thread: signals, and the control socket */

struct ending {
    int client;  /* of the control socket, that waits for the end; or -1 */
    bool lazily; /* the mount was in use and is detached */
    int lost;    /* what the kernel could not hand over */
};

/* syncfs(2) makes the kernel write, but newer ones (Linux 6.18.y) do not wait for FUSE: so each file is called
 * in, too. Errors of before were told to programs, or are told when the file is closed. */
static void flush_kernel(struct hf_fuse *fuse, struct ending *end)
{
    int fd = open(fuse->directory, O_RDONLY | O_DIRECTORY | O_CLOEXEC), r;
    uint64_t lost = atomic_load(&fuse->nr_write_cached_lost);

    if (fd >= 0 && !fuse->read_only)
        (void)syncfs(fd);
    if (fd >= 0)
        close(fd);
    r = fuse->read_only ? 0 : hf_fuse_files_call_in(fuse);
    if (atomic_load(&fuse->nr_write_cached_lost) != lost)
        r = atomic_load(&fuse->lost_error);
    if (r < 0)
        end->lost = r;
}

/* The socket goes before the mount does: the next mount may get the device's number, and with it the name. */
static void control_close(struct hf_fuse *fuse)
{
    if (fuse->control >= 0)
        close(fuse->control);
    fuse->control = -1;
}

/* Somebody else's mount may be gone whose server does not know it yet: it will close its socket when it does.
 * Without a socket all works, but nobody can ask. */
static void control_open(struct hf_fuse *fuse)
{
    const struct timespec pause = {.tv_nsec = 5 * 1000 * 1000};
    struct stat st;

    if (stat(fuse->directory, &st) < 0)
        return;
    for (int i = 0; i < CONTROL_SECONDS * 200; i++) {
        fuse->control = hf_control_listen(st.st_dev);
        if (fuse->control != -EADDRINUSE)
            return;
        nanosleep(&pause, NULL);
    }
}

static void end_by_signal(struct hf_fuse *fuse, struct ending *end)
{
    flush_kernel(fuse, end);
    control_close(fuse);
    if (hf_fuse_unmount(fuse, false) == 0)
        return;
    end->lazily = hf_fuse_unmount(fuse, true) == 0;
}

/* Who stops reading is not waited for: hf_control_accept() has set how long a piece may take. */
static void send_all(int fd, const char *text, size_t len)
{
    while (len > 0) {
        ssize_t n = send(fd, text, len, MSG_NOSIGNAL);

        if (n < 0 && errno == EINTR)
            continue;
        if (n <= 0)
            return;
        text += n;
        len -= (size_t)n;
    }
}

static void answer_status(struct hf_fuse *fuse, int fd, bool with_busy)
{
    char *text = NULL;
    size_t len = 0;
    FILE *out = open_memstream(&text, &len);

    if (out == NULL)
        return;
    hf_fuse_status_print(out, fuse);
    if (with_busy) {
        hf_fuse_files_print(out, fuse);
        hf_fuse_clients_print(out, fuse);
    }
    if (fclose(out) == 0)
        send_all(fd, text, len);
    free(text);
}

/* Sizes are those of the data region: the path that the volume was opened by may mean another file by now. */
static void answer_grow(struct hf_fuse *fuse, int fd, const char *size)
{
    struct hf_statfs before, after;
    char *end;
    uint64_t bytes = strtoull(size, &end, 10);
    int r = end == size || *end != '\0' ? -EINVAL : hf_volume_statfs(fuse->volume, &before);

    if (r < 0) {
        dprintf(fd, "failed %s\n", strerror(-r));
        return;
    }
    r = hf_volume_grow(fuse->volume, bytes);
    if (r < 0 && r != -EALREADY) {
        dprintf(fd, "failed %s\n", hf_volume_error_text());
        return;
    }
    if (hf_volume_statfs(fuse->volume, &after) < 0)
        after = before;
    dprintf(fd, "%s %" PRIu64 " %" PRIu64 "\n", r == 0 ? "grown" : "same", after.blocks - before.blocks,
            after.blocks * after.block_size);
}

/* Answers one request. True: it was to unmount, and that is done. */
static bool serve_client(struct hf_fuse *fuse, struct ending *end)
{
    int fd = hf_control_accept(fuse->control), r;
    char line[HF_CONTROL_LINE] = "";

    if (fd < 0)
        return false;
    if (hf_control_request(fd, line) < 0)
        line[0] = '\0';
    if (strcmp(line, "umount") == 0) {
        flush_kernel(fuse, end);
        control_close(fuse);
        r = hf_fuse_unmount(fuse, false);
        if (r == 0) {
            end->client = fd;
            return true;
        }
        control_open(fuse);
        dprintf(fd, "busy %s\n", strerror(-r));
    } else if (strcmp(line, "stat") == 0 || strcmp(line, "top") == 0) {
        answer_status(fuse, fd, line[0] == 't');
    } else if (strncmp(line, "grow ", 5) == 0) {
        answer_grow(fuse, fd, line + 5);
    }
    close(fd);
    return false;
}

/* Until the connection ends or is to end. */
static void wait_for_end(struct hf_fuse *fuse, int signals, struct ending *end)
{
    for (;;) {
        struct pollfd fds[] = {{.fd = signals, .events = POLLIN},
                               {.fd = fuse->worker_left, .events = POLLIN},
                               {.fd = fuse->control, .events = POLLIN}};

        if (poll(fds, 3, -1) < 0)
            continue;
        if (fds[1].revents != 0)
            return; /* unmounted by somebody */
        if (fds[0].revents != 0) {
            end_by_signal(fuse, end);
            return;
        }
        if (fds[2].revents != 0 && serve_client(fuse, end))
            return;
    }
}

/* The kernel has its answer, or not within half a minute. */
static int wait_for_answer(struct hf_fuse *fuse)
{
    const struct timespec pause = {.tv_nsec = 2 * 1000 * 1000};

    for (int i = 0; i < ANSWER_SECONDS * 500; i++) {
        if (atomic_load(&fuse->answered))
            return 0;
        if (atomic_load(&fuse->workers_running) == 0)
            return -ENODEV;
        nanosleep(&pause, NULL);
    }
    return -ETIMEDOUT;
}

/* ---- the session */

/* "fsname=" with what libfuse would take for the end of an option escaped. */
static void escape_name(const char *name, char *out, size_t size)
{
    size_t used = 0;

    for (; *name != '\0' && used + 3 < size; name++) {
        if (*name == ',' || *name == '\\')
            out[used++] = '\\';
        out[used++] = *name;
    }
    out[used] = '\0';
}

#define OPTIONS_MAX 4096

static void kernel_options(const struct hf_fuse *fuse, const char *more, char ret_options[OPTIONS_MAX])
{
    char name[2048];

    escape_name(fuse->volume_path, name, sizeof(name));
    snprintf(ret_options, OPTIONS_MAX, "default_permissions,subtype=holdfast,fsname=%s%s", name, more);
}

/* What libfuse makes of allow_root: the kernel lets all in, and libfuse only root and this user. */
static void options_of_kernel(const struct hf_fuse *fuse, char ret_options[OPTIONS_MAX])
{
    const char *root = strstr(fuse->opts->kernel, ",allow_root");
    char more[sizeof(fuse->opts->kernel) + 8];

    snprintf(more, sizeof(more), "%.*s%s%s", root != NULL ? (int)(root - fuse->opts->kernel) : -1,
             fuse->opts->kernel, root != NULL ? ",allow_other" : "",
             root != NULL ? root + strlen(",allow_root") : "");
    kernel_options(fuse, more, ret_options);
}

static int session_new(struct hf_fuse *fuse, char *error)
{
    char options[OPTIONS_MAX];
    const char *argv[] = {"holdfast", "-o", options};
    struct fuse_args args = FUSE_ARGS_INIT(3, (char **)(uintptr_t)argv);

    kernel_options(fuse, fuse->opts->kernel, options);
    fuse->session = fuse_session_new(&args, &operations, sizeof(operations), fuse);
    fuse_opt_free_args(&args);
    if (fuse->session == NULL)
        return fail(error, -EINVAL, "libfuse refuses the options: %s", libfuse_said);
    return 0;
}

/* To libfuse a connection that is there already is a directory of this name. */
static int session_attach(struct hf_fuse *fuse, char *error)
{
    char options[OPTIONS_MAX], name[32], said[HF_FUSE_TEXT];
    int fd;

    options_of_kernel(fuse, options);
    fd = hf_fuse_mount_by_helper(fuse, options, said);
    if (fd < 0)
        return fail(error, fd, "%s", said);
    fuse->attached = true;
    snprintf(name, sizeof(name), "/dev/fd/%d", fd);
    if (fuse_session_mount(fuse->session, name) == 0)
        return 0;
    close(fd);
    return fail(error, -EPERM, "libfuse refuses the connection: %s", libfuse_said);
}

static int session_mount(struct hf_fuse *fuse, char *error)
{
    int r = 0;

    if (fuse->opts->by_helper)
        r = session_attach(fuse, error);
    else if (fuse_session_mount(fuse->session, fuse->directory) != 0)
        r = fail(error, -EPERM, "cannot mount on %s: %s", fuse->directory,
                 libfuse_said[0] != '\0' ? libfuse_said : "fusermount3 has said why");
    if (r < 0) {
        if (fuse->opts->ret_refused != NULL)
            *fuse->opts->ret_refused = true;
        return r;
    }
    r = hf_fuse_io_install(fuse);
    if (r < 0)
        return fail(error, r, "libfuse: %s", strerror(-r));
    return 0;
}

/* Of a mount that was in use the session is not destroyed: libfuse would unmount what lies there now. */
static struct fuse_session *abandoned;

static void session_end(struct hf_fuse *fuse, bool lazily)
{
    if (fuse->session == NULL)
        return;
    if (lazily) {
        close(fuse_session_fd(fuse->session));
        abandoned = fuse->session;
    } else {
        if (!fuse->attached)
            fuse_session_unmount(fuse->session);
        else if (hf_fuse_connected(fuse_session_fd(fuse->session)))
            hf_fuse_unmount(fuse, true);
        fuse_session_destroy(fuse->session);
    }
    fuse->session = NULL;
    if (fuse->helper >= 0)
        close(fuse->helper);
    (void)abandoned;
}

static int serve_mounted(struct hf_fuse *fuse, int signals, void (*ready)(void *arg), void *arg,
                         struct ending *end, char *error)
{
    int r = hf_fuse_seek_start(fuse);

    if (r < 0)
        return fail(error, r, "no thread: %s", strerror(-r));
    r = workers_start(fuse);
    if (r == 0)
        r = wait_for_answer(fuse);
    if (r < 0) {
        hf_fuse_seek_stop(fuse);
        workers_stop(fuse);
        return fail(error, r, "the kernel does not talk to the server: %s", strerror(-r));
    }
    control_open(fuse);
    ready(arg);
    wait_for_end(fuse, signals, end);
    control_close(fuse);
    hf_fuse_seek_stop(fuse);
    workers_stop(fuse);
    return 0;
}

/* ---- everything */

static int open_all(struct hf_fuse *fuse, const char *directory, char *error)
{
    struct hf_open_options open = fuse->opts->open;
    struct stat st;
    int r;

    if (realpath(directory, fuse->directory) == NULL)
        return fail(error, -errno, "%s: %s", directory, strerror(errno));
    if (stat(fuse->directory, &st) == 0 && !S_ISDIR(st.st_mode)) /* the kernel would take it */
        return fail(error, -ENOTDIR, "%s: %s", directory, strerror(ENOTDIR));
    open.flags |= HF_OPEN_KEEP_SUID; /* the kernel asks for what its writer's privileges want */
    r = hf_volume_open(fuse->volume_path, &open, &fuse->volume);
    if (r < 0)
        return fail(error, r, "%s", hf_volume_error_text());
    r = hf_node_root(fuse->volume, &fuse->root);
    if (r == 0)
        r = hf_fuse_mappings_start(fuse);
    return r < 0 ? fail(error, r, "%s: %s", fuse->volume_path, strerror(-r)) : 0;
}

/* Returns the first error of what could not be kept. */
static int close_all(struct hf_fuse *fuse)
{
    int r = 0, r2;

    if (fuse->volume == NULL)
        return 0;
    hf_fuse_mappings_stop(fuse);
    r = hf_fuse_files_close(fuse);
    hf_node_put_all(fuse->volume);
    r2 = hf_volume_close(fuse->volume);
    return r2 < 0 ? r2 : r;
}

static void tell_end(const struct ending *end, int r, const char *error)
{
    if (end->client < 0)
        return;
    if (r < 0)
        dprintf(end->client, "failed %s\n", error);
    else
        dprintf(end->client, "done\n");
    close(end->client);
}

int hf_fuse_serve(const struct hf_fuse_options *opts, const char *path, const char *directory,
                  void (*ready)(void *arg), void *arg, char error[HF_FUSE_TEXT])
{
    struct hf_fuse *fuse = calloc(1, sizeof(*fuse));
    struct ending end = {.client = -1};
    int signals, r, r2;
    sigset_t set;

    if (fuse == NULL)
        return fail(error, -ENOMEM, "out of memory");
    fuse->opts = opts;
    fuse->volume_path = path;
    fuse->control = fuse->helper = -1;
    fuse->read_only = opts->open.flags & HF_OPEN_READ_ONLY;
    pthread_mutex_init(&fuse->files_lock, NULL);
    fuse_set_log_func(keep_log);
    signal(SIGPIPE, SIG_IGN);
    sigemptyset(&set);
    for (const int *s = (const int[]){SIGTERM, SIGINT, SIGHUP, 0}; *s != 0; s++)
        sigaddset(&set, *s);
    pthread_sigmask(SIG_BLOCK, &set, NULL);
    signals = signalfd(-1, &set, SFD_CLOEXEC);
    fuse->worker_left = eventfd(0, EFD_CLOEXEC);
    r = signals < 0 || fuse->worker_left < 0 ? fail(error, -errno, "%s", strerror(errno)) : 0;
    if (r == 0 && hf_fuse_names_new(fuse) < 0)
        r = fail(error, -ENOMEM, "%s", strerror(ENOMEM));
    if (r == 0)
        r = open_all(fuse, directory, error);
    if (r == 0)
        r = session_new(fuse, error);
    if (r == 0)
        r = session_mount(fuse, error);
    if (r == 0)
        r = serve_mounted(fuse, signals, ready, arg, &end, error);
    session_end(fuse, end.lazily);
    r2 = close_all(fuse);
    if (r == 0 && r2 < 0)
        r = fail(error, r2, "closing volume %s: %s", path, strerror(-r2));
    if (end.lost == 0)
        end.lost = atomic_load(&fuse->untold);
    if (r == 0 && end.lost < 0)
        r = fail(error, end.lost, "the kernel could not hand over what mappings stored: %s",
                 strerror(-end.lost));
    tell_end(&end, r, error);
    close(signals);
    close(fuse->worker_left);
    pthread_mutex_destroy(&fuse->files_lock);
    hf_fuse_names_free(fuse);
    free(fuse);
    return r;
}
