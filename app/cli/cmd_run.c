/* SPDX-License-Identifier: MIT */
/*
 * cmd_run.c - holdfast run: a program with a volume at a directory, whose mappings of it keep the promise of
 * the library.
 *
 * Three processes: one serves the volume (run_serve.c), one becomes the program, and this one waits for both,
 * and passes on to the program what is sent to it. It has one thread.
 */
#include "cli.h"
#include <errno.h>
#include <getopt.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mount.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#ifdef HF_HAVE_FUSE
#include "run.h"

#define LIBRARY "libholdfast-preload.so"

/* Also where the program is started in another directory. */
static bool whole_path(const char *path, char *ret_path, size_t size)
{
    char *whole = realpath(path, NULL);
    bool there = whole != NULL && strlen(whole) < size && access(whole, R_OK) == 0;

    if (there)
        strcpy(ret_path, whole);
    free(whole);
    return there;
}

/* Beside this program in the build tree, or where it is installed. */
static bool find_library(char *ret_path, size_t size)
{
    char self[1024], beside[1100];
    ssize_t n = readlink("/proc/self/exe", self, sizeof(self) - 1);
    const char *given = getenv("HOLDFAST_PRELOAD");

    if (given != NULL)
        return whole_path(given, ret_path, size);
    self[n > 0 ? n : 0] = '\0';
    if (strrchr(self, '/') != NULL)
        *strrchr(self, '/') = '\0';
    snprintf(beside, sizeof(beside), "%s/../preload/%s", self, LIBRARY);
    return whole_path(beside, ret_path, size) || whole_path(HF_LIBDIR "/" LIBRARY, ret_path, size);
}

/* ------------------------------------------------------------------ places */

static int places_make(struct hf_run *run)
{
    char *absolute;

    strcpy(run->temp, "/tmp/holdfast-run-XXXXXX");
    if (mkdtemp(run->temp) == NULL)
        return hf_cli_fail_host(errno, "cannot make a directory in /tmp");
    snprintf(run->socket, sizeof(run->socket), "%s/socket", run->temp);
    snprintf(run->volume_path, sizeof(run->volume_path), "%s/volume.hf", run->temp);
    snprintf(run->dir, sizeof(run->dir), "%s/mnt", run->temp);
    if (run->volume != NULL) {
        absolute = realpath(run->volume, NULL);
        if (absolute == NULL || strlen(absolute) >= sizeof(run->volume_path)) {
            free(absolute);
            return hf_cli_fail_host(errno, "%s", run->volume);
        }
        strcpy(run->volume_path, absolute);
        free(absolute);
    }
    if (run->at != NULL && realpath(run->at, run->dir) == NULL)
        return hf_cli_fail_host(errno, "%s", run->at);
    if (run->at == NULL && mkdir(run->dir, 0700) < 0)
        return hf_cli_fail_host(errno, "%s", run->dir);
    return HF_CLI_OK;
}

void hf_run_places_remove(const struct hf_run *run)
{
    if (run->temp[0] == '\0')
        return;
    if (run->at == NULL)
        rmdir(run->dir);
    if (run->volume == NULL)
        unlink(run->volume_path);
    unlink(run->socket);
    rmdir(run->temp);
}

/* ------------------------------------------------------------------ processes */

static void preload(const char *library)
{
    const char *others = getenv("LD_PRELOAD");
    char *list;

    if (others == NULL || others[0] == '\0')
        setenv("LD_PRELOAD", library, 1);
    else if (asprintf(&list, "%s:%s", library, others) >= 0)
        setenv("LD_PRELOAD", list, 1);
}

static volatile sig_atomic_t program; /* its process id; 0: it does not run */

/* What somebody sends to this process is meant for the program. A terminal sends to both by itself. */
static void pass_on(int signo, siginfo_t *info, void *context)
{
    int saved = errno;

    (void)context;
    if (info->si_code <= 0 && program > 0)
        kill((pid_t)program, signo);
    errno = saved;
}

/* But those that are ignored already (nohup). */
static void pass_on_signals(const int *signals)
{
    struct sigaction action = {.sa_sigaction = pass_on, .sa_flags = SA_SIGINFO | SA_RESTART}, was;

    for (; *signals != 0; signals++)
        if (sigaction(*signals, NULL, &was) == 0 && was.sa_handler != SIG_IGN)
            sigaction(*signals, &action, NULL);
}

/* Becomes the program. It may lie on the volume, so it is looked at here. */
static _Noreturn void program_exec(const struct hf_run *run, const char *library, bool inside, char **argv)
{
    int status, error;

    if (inside && chdir(run->dir) < 0)
        _exit(hf_cli_fail_host(errno, "%s", run->dir));
    status = hf_run_check(argv[0]);
    if (status)
        _exit(status);
    setenv("HOLDFAST_DIR", run->dir, 1);
    preload(library);
    execvp(argv[0], argv);
    error = errno;
    hf_cli_fail_host(error, "cannot run %s", argv[0]);
    _exit(error == ENOENT ? HF_RUN_NOT_FOUND : HF_RUN_NOT_RUN);
}

static int program_run(const struct hf_run *run, const char *library, bool inside, char **argv)
{
    static const int signals[] = {SIGINT, SIGQUIT, SIGTERM, SIGHUP, 0};
    sigset_t set, old;
    siginfo_t info;
    pid_t pid;

    sigemptyset(&set);
    for (const int *s = signals; *s != 0; s++)
        sigaddset(&set, *s);
    sigprocmask(SIG_BLOCK, &set, &old);
    fflush(NULL);
    pid = fork();
    if (pid == 0) {
        sigprocmask(SIG_SETMASK, &old, NULL);
        program_exec(run, library, inside, argv);
    }
    program = pid > 0 ? pid : 0;
    pass_on_signals(signals);
    sigprocmask(SIG_SETMASK, &old, NULL);
    if (pid < 0)
        return hf_cli_fail_host(errno, "starting %s", argv[0]);
    while (waitid(P_PID, (id_t)pid, &info, WEXITED | WNOWAIT) < 0 && errno == EINTR)
        ;
    program = 0; /* before another process can get its id */
    return hf_run_status_of(pid);
}

/* Of a server that did not live to unmount. */
static void detach(const struct hf_run *run)
{
    pid_t pid;

    if (umount2(run->dir, MNT_DETACH) == 0 || errno != EPERM)
        return;
    pid = fork();
    if (pid == 0) {
        execlp("fusermount3", "fusermount3", "-u", "-z", "-q", run->dir, (char *)NULL);
        _exit(127);
    }
    if (pid > 0)
        hf_run_status_of(pid);
}

static int run_program(struct hf_run *run, bool inside, char **argv)
{
    char library[2048];
    int status, served;
    pid_t server;

    if (!find_library(library, sizeof(library)))
        return hf_cli_fail("it is not where this program was installed", "set HOLDFAST_PRELOAD to its path",
                           "%s", LIBRARY);
    if (strpbrk(library, " :") != NULL)
        return hf_cli_fail("the dynamic linker takes no path with a space or colon for preloading",
                           "copy it, and set HOLDFAST_PRELOAD to the copy", "%s", library);
    status = places_make(run);
    server = status ? -1 : hf_run_server_start(run);
    if (server < 0) {
        hf_run_places_remove(run);
        return HF_CLI_FAILED;
    }
    status = program_run(run, library, inside, argv);
    kill(server, SIGTERM);
    served = hf_run_status_of(server);
    if (served > 128) {
        hf_cli_fail(strsignal(served - 128), NULL, "the process that served the volume died");
        detach(run);
    }
    hf_run_places_remove(run);
    return status != 0 || served == 0 ? status : HF_CLI_FAILED;
}

/* ------------------------------------------------------------------ options */

static int take_option(const struct hf_cli_command *cmd, struct hf_run *run, int opt)
{
    static const char *const policies[] = {"sigbus", "wait", "reserve"};
    static const char *const ways[] = {"any", "direct", "fusermount", "namespace"};
    uint64_t n = 0;

    switch (opt) {
    case 'V':
        run->volume = optarg;
        return 0;
    case 'a':
        run->at = optarg;
        return 0;
    case 's':
        if (hf_cli_size_parse(optarg, &run->size_bytes) == 0 && run->size_bytes > 0)
            return 0;
        return hf_cli_usage(cmd, "no size: '%s'", optarg);
    case 'b':
        if (hf_cli_size_parse(optarg, &n) < 0 || n < HF_BLOCK_SIZE_MIN || n > HF_BLOCK_SIZE_MAX)
            return hf_cli_usage(cmd, "no block size: '%s'", optarg);
        run->block_size = (uint32_t)n;
        return 0;
    case 'f':
        for (int i = 0; i < 3; i++)
            if (strcmp(optarg, policies[i]) == 0) {
                run->on_full = (enum hf_on_full)i;
                return 0;
            }
        return hf_cli_usage(cmd, "--on-full is sigbus, wait or reserve, not '%s'", optarg);
    case 'm':
        for (int i = 0; i < 4; i++)
            if (strcmp(optarg, ways[i]) == 0) {
                run->mount_with = (enum hf_run_mount)i;
                return 0;
            }
        return hf_cli_usage(cmd, "--mount-with is any, direct, fusermount or namespace, not '%s'", optarg);
    default:
        if (hf_run_inject_parse(optarg, &run->inject))
            return 0;
        return hf_cli_usage(cmd, "--inject wants ENOSPC|EDQUOT|EIO@store|write|fsync:N[:GLOB]");
    }
}

static int run_run(const struct hf_cli_command *cmd, int argc, char **argv)
{
    static const struct option options[] = {{"volume", required_argument, NULL, 'V'},
                                            {"size", required_argument, NULL, 's'},
                                            {"block-size", required_argument, NULL, 'b'},
                                            {"at", required_argument, NULL, 'a'},
                                            {"on-full", required_argument, NULL, 'f'},
                                            {"inject", required_argument, NULL, 'i'},
                                            {"mount-with", required_argument, NULL, 'm'},
                                            {"stats", no_argument, NULL, 'S'},
                                            {"inside", no_argument, NULL, 'I'},
                                            {"help", no_argument, NULL, 'h'},
                                            {0}};
    struct hf_run run = {.size_bytes = 64 << 20};
    bool inside = false, sized = false;
    int opt, status;

    while ((opt = getopt_long(argc, argv, "+:h", options, NULL)) != -1) {
        if (opt == 'h' || opt == '?' || opt == ':')
            return hf_cli_option(cmd, opt, argv);
        inside |= opt == 'I';
        run.stats |= opt == 'S';
        sized |= opt == 's' || opt == 'b';
        status = opt == 'I' || opt == 'S' ? 0 : take_option(cmd, &run, opt);
        if (status)
            return status;
    }
    status = hf_cli_operands(cmd, argc, argv, 1, argc);
    if (!status && run.volume != NULL && sized)
        status = hf_cli_usage(cmd, "--size and --block-size are for a temporary volume, not with --volume");
    return status ? status : run_program(&run, inside, argv + optind);
}
#else
static int run_run(const struct hf_cli_command *cmd, int argc, char **argv)
{
    (void)argc;
    (void)argv;
    return hf_cli_fail("this build has no libfuse", "install libfuse3-dev and fuse3, and build again", "%s",
                       cmd->name);
}
#endif

const struct hf_cli_command hf_cmd_run = {
    .name = "run",
    .synopsis = "[OPTION...] [--] PROGRAM [ARGUMENT...]",
    .summary = "a program whose mappings of a volume never lose a store",
    .help =
        "Mounts a volume, a temporary one if none is named, and runs PROGRAM, as it is, with it at "
        "$HOLDFAST_DIR.\n"
        "Shared mappings of its files are served page by page: a store has its blocks, or is refused there.\n"
        "Then unmounts, writes everything, and looks for leaks.\n"
        "\n"
        "  --volume VOLUME      this one, and keep it\n"
        "  --size SIZE          of a temporary volume (default 64M)\n"
        "  --block-size BYTES   of a temporary volume\n"
        "  --at DIR             where it is mounted (default: a temporary directory)\n"
        "  --inside             start PROGRAM in that directory\n"
        "  --on-full=POLICY     a store without space: sigbus (default) and one line on stderr; wait: the "
        "thread\n"
        "                       sleeps until there is some; reserve: mmap, open and ftruncate say ENOSPC\n"
        "  --inject ERROR@WHERE:N[:GLOB]  the Nth store, write or fsync fails with ENOSPC, EDQUOT or EIO;\n"
        "                       GLOB: only those of files with such a name or path count\n"
        "  --mount-with=WAY     direct, fusermount or namespace (default: any: without root, fusermount3, or "
        "if\n"
        "                       that does not work, user and mount namespaces, whose mounts nobody else "
        "sees)\n"
        "  --stats              say at the end what was served\n"
        "\n"
        "Not for statically linked programs, nor for those that change their user: nothing can be "
        "preloaded.\n"
        "\n"
        "Examples:\n"
        "  holdfast run --size 10M --inside -- sh\n"
        "  holdfast run --volume box.hf --on-full=wait -- mdb_load -f dump /path/to/db\n",
    .status =
        "that of PROGRAM (128 + n: it died by signal n); if it is 0, 1 if the volume could not be kept; "
        "127: no such program, 126: not executable",
    .run = run_run,
};
