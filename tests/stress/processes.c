/* SPDX-License-Identifier: MIT */
/*
 * processes.c - the stress test of several processes: four of them, two mappings each, that store, grow,
 * truncate, fork and are killed on a nearly full volume, against a model.
 *
 * In turn (the default), each choice and each result follows from the seed: a failure prints the command that
 * repeats it to the letter. At once (--race), only the choices do.
 */
#include "processes.h"

#include <errno.h>
#include <fcntl.h>
#include <getopt.h>
#include <inttypes.h>
#include <poll.h>
#include <signal.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#define LOG_LINES 256u
#define LOG_WIDTH 160u

struct mp_options mp_options;
struct mp_shared *mp_shared;
struct mp_worker mp_workers[MP_WORKERS];
struct mp_counts mp_counts;

static int shared_fd;
static const char *program;
static struct timespec started;
static char log_lines[LOG_LINES][LOG_WIDTH];
static uint64_t log_nr, digest;

/* ------------------------------------------------------------------ log and report */

static double seconds_since_start(void)
{
    struct timespec now;

    clock_gettime(CLOCK_MONOTONIC, &now);
    return (double)(now.tv_sec - started.tv_sec) + (double)(now.tv_nsec - started.tv_nsec) / 1e9;
}

bool mp_time_is_up(void)
{
    return mp_options.seconds != 0 && seconds_since_start() >= mp_options.seconds;
}

void mp_log(const char *format, ...)
{
    char *line = log_lines[log_nr++ % LOG_LINES];
    va_list args;

    va_start(args, format);
    vsnprintf(line, LOG_WIDTH, format, args);
    va_end(args);
    for (const char *c = line; *c != '\0'; c++)
        digest = stress_mix(digest + (uint8_t)*c);
    if (mp_options.trace)
        puts(line);
}

static void print_replay(void)
{
    printf("replay: %s --seed %" PRIu64 " --ops %" PRIu64
           " --page-size %u --block-size %u --space %u --dir %s%s%s%s%s\n",
           program, mp_options.seed, mp_counts.ops, mp_options.page_size, mp_options.block_size,
           mp_options.space_percent, mp_options.dir, mp_options.race ? " --race" : "",
           mp_options.break_mkclean ? " --break mkclean" : "", mp_options.break_dead ? " --break dead" : "",
           mp_options.must_fail ? " --must-fail" : "");
}

void mp_fail(bool bytes, const char *format, ...)
{
    va_list args;

    for (unsigned i = 0; i < MP_WORKERS; i++)
        if (mp_workers[i].pid > 0)
            kill(mp_workers[i].pid, SIGKILL);
    if (mp_options.must_fail && bytes) {
        printf("negative control: noticed after %" PRIu64 " operations, %.1f s: ", mp_counts.ops,
               seconds_since_start());
    } else {
        for (uint64_t i = log_nr > LOG_LINES ? log_nr - LOG_LINES : 0; i < log_nr; i++)
            puts(log_lines[i % LOG_LINES]);
        printf("FAILED after %" PRIu64 " operations, %.1f s: ", mp_counts.ops, seconds_since_start());
    }
    va_start(args, format);
    vprintf(format, args);
    va_end(args);
    puts("");
    print_replay();
    if (!mp_options.keep)
        mp_back_remove();
    fflush(stdout);
    _exit(mp_options.must_fail && bytes ? 0 : 1);
}

/* ------------------------------------------------------------------ workers */

void mp_worker_start(unsigned who)
{
    struct mp_worker *w = &mp_workers[who];
    char sock[16], memory[16];
    int pair[2];

    if (socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, pair) < 0)
        mp_fail(false, "socketpair: %s", strerror(errno));
    snprintf(sock, sizeof(sock), "%d", pair[1]);
    snprintf(memory, sizeof(memory), "%d", shared_fd);
    w->pid = fork();
    if (w->pid == 0) {
        fcntl(pair[1], F_SETFD, 0);
        fcntl(shared_fd, F_SETFD, 0);
        prctl(PR_SET_PDEATHSIG, SIGKILL);
        execl("/proc/self/exe", program, "--worker", sock, memory, mp_options.dir, (char *)NULL);
        _exit(127);
    }
    close(pair[1]);
    if (w->pid < 0)
        mp_fail(false, "fork: %s", strerror(errno));
    w->sock = pair[0];
    memset(w->slots, 0, sizeof(w->slots));
    mp_worker_answer(who);
}

void mp_worker_send(unsigned who, const struct mp_order *order)
{
    if (send(mp_workers[who].sock, order, sizeof(*order), MSG_NOSIGNAL) != (ssize_t)sizeof(*order))
        mp_fail(false, "worker %u takes no order %d: %s", who, (int)order->op, strerror(errno));
}

struct mp_answer mp_worker_answer(unsigned who)
{
    struct pollfd pfd = {.fd = mp_workers[who].sock, .events = POLLIN};
    struct mp_answer answer;
    int n;

    do
        n = poll(&pfd, 1, MP_ANSWER_MS);
    while (n < 0 && errno == EINTR);
    if (n == 0)
        mp_fail(false, "worker %u hangs", who);
    if (recv(pfd.fd, &answer, sizeof(answer), 0) != (ssize_t)sizeof(answer)) {
        int status = 0;
        waitpid(mp_workers[who].pid, &status, 0);
        mp_fail(false, "worker %u is gone, wait status %#x; %s", who, (unsigned)status, mp_shared->failure);
    }
    return answer;
}

struct mp_answer mp_worker_do(unsigned who, const struct mp_order *order)
{
    mp_worker_send(who, order);
    return mp_worker_answer(who);
}

static int reap(unsigned who)
{
    int status = -1;

    while (waitpid(mp_workers[who].pid, &status, 0) < 0 && errno == EINTR)
        ;
    close(mp_workers[who].sock);
    mp_workers[who].pid = 0;
    return status;
}

void mp_worker_kill(unsigned who)
{
    kill(mp_workers[who].pid, SIGKILL);
    reap(who);
    mp_counts.kills++;
}

void mp_worker_end(unsigned who)
{
    int status;

    mp_worker_do(who, &(struct mp_order){.op = MP_END});
    status = reap(who);
    if (status != 0)
        mp_fail(false, "worker %u leaves with wait status %#x", who, (unsigned)status);
}

/* ------------------------------------------------------------------ options */

static const char usage[] =
    "usage: processes [option]...\n"
    "  --seed N          repeats that run's choices\n"
    "  --ops N           so many operations (0: until the time is up)\n"
    "  --seconds N       stop after so long\n"
    "  --race            all processes at once\n"
    "  --page-size P  --block-size B  --space PERCENT of the files' capacity\n"
    "  --dir DIR         where the volume, or the files, are\n"
    "  --break WHAT      mkclean: page_mkclean changes no page table; dead: pages of a killed process are "
    "lost\n"
    "  --must-fail       a negative control: success is to see a byte lost or invented\n"
    "  --expect FILE     write there what the files hold at the end\n"
    "  --verify FILE     do nothing but compare with that\n"
    "  --trace  --keep\n";

enum {
    ARG_SEED = 1,
    ARG_OPS,
    ARG_SECONDS,
    ARG_RACE,
    ARG_PAGE,
    ARG_BLOCK,
    ARG_SPACE,
    ARG_DIR,
    ARG_BREAK,
    ARG_MUST_FAIL,
    ARG_EXPECT,
    ARG_VERIFY,
    ARG_TRACE,
    ARG_KEEP
};

static const struct option long_options[] = {
    {"seed", required_argument, NULL, ARG_SEED},
    {"ops", required_argument, NULL, ARG_OPS},
    {"seconds", required_argument, NULL, ARG_SECONDS},
    {"race", no_argument, NULL, ARG_RACE},
    {"page-size", required_argument, NULL, ARG_PAGE},
    {"block-size", required_argument, NULL, ARG_BLOCK},
    {"space", required_argument, NULL, ARG_SPACE},
    {"dir", required_argument, NULL, ARG_DIR},
    {"break", required_argument, NULL, ARG_BREAK},
    {"must-fail", no_argument, NULL, ARG_MUST_FAIL},
    {"trace", no_argument, NULL, ARG_TRACE},
    {"keep", no_argument, NULL, ARG_KEEP},
    {"expect", required_argument, NULL, ARG_EXPECT},
    {"verify", required_argument, NULL, ARG_VERIFY},
    {NULL, 0, NULL, 0},
};

static void set_option(struct mp_options *o, int arg)
{
    switch (arg) {
    case ARG_SEED:
        o->seed = strtoull(optarg, NULL, 0);
        break;
    case ARG_OPS:
        o->ops = strtoull(optarg, NULL, 0);
        break;
    case ARG_SECONDS:
        o->seconds = (unsigned)strtoul(optarg, NULL, 0);
        break;
    case ARG_RACE:
        o->race = true;
        break;
    case ARG_PAGE:
        o->page_size = (uint32_t)strtoul(optarg, NULL, 0);
        break;
    case ARG_BLOCK:
        o->block_size = (uint32_t)strtoul(optarg, NULL, 0);
        break;
    case ARG_SPACE:
        o->space_percent = (unsigned)strtoul(optarg, NULL, 0);
        break;
    case ARG_DIR:
        o->dir = optarg;
        break;
    case ARG_BREAK:
        o->break_mkclean = strcmp(optarg, "mkclean") == 0;
        o->break_dead = strcmp(optarg, "dead") == 0;
        break;
    case ARG_MUST_FAIL:
        o->must_fail = true;
        break;
    case ARG_VERIFY:
        o->verify = true;
        o->expect = optarg;
        break;
    case ARG_EXPECT:
        o->expect = optarg;
        break;
    case ARG_TRACE:
        o->trace = true;
        break;
    case ARG_KEEP:
        o->keep = true;
        break;
    default:
        fputs(usage, stderr);
        exit(2);
    }
}

static void parse_options(int argc, char **argv)
{
    struct mp_options *o = &mp_options;
    struct timespec now;
    int arg;

    clock_gettime(CLOCK_REALTIME, &now);
    *o = (struct mp_options){.seed = (uint64_t)now.tv_nsec ^ (uint64_t)now.tv_sec << 20,
                             .page_size = 4096,
                             .block_size = 1024,
                             .space_percent = 50,
                             .dir = getenv("HOLDFAST_DIR")};
    if (o->dir == NULL)
        o->dir = access("/dev/shm", W_OK) == 0 ? "/dev/shm" : "/tmp";
    while ((arg = getopt_long(argc, argv, "", long_options, NULL)) != -1)
        set_option(o, arg);
    if (o->ops == 0 && o->seconds == 0)
        o->ops = 3000;
    if (optind < argc)
        set_option(o, '?');
}

/* ------------------------------------------------------------------ main */

static void share_memory(void)
{
    int64_t p = mp_options.page_size;

    shared_fd = memfd_create("processes", MFD_CLOEXEC);
    if (shared_fd < 0 || ftruncate(shared_fd, (off_t)sizeof(*mp_shared)) < 0)
        mp_fail(false, "memfd: %s", strerror(errno));
    mp_shared = mmap(NULL, sizeof(*mp_shared), PROT_READ | PROT_WRITE, MAP_SHARED, shared_fd, 0);
    if (mp_shared == MAP_FAILED)
        mp_fail(false, "mmap: %s", strerror(errno));
    mp_shared->cap = p == 4096 ? 24 * p : p <= 16384 ? 8 * p : 4 * p;
    /* In no block's or page's beginning. */
    mp_shared->base = ((mp_shared->cap * 2 / 3) & -(int64_t)MP_CELL) + 3 * (int64_t)MP_CELL;
}

int main(int argc, char **argv)
{
    if (argc > 1 && strcmp(argv[1], "--worker") == 0)
        return mp_worker_main(argc, argv);
    setvbuf(stdout, NULL, _IOLBF, 0);
    clock_gettime(CLOCK_MONOTONIC, &started);
    program = argv[0];
    parse_options(argc, argv);
    share_memory();
    /* Who loses its parent is ours: nobody stays behind. */
    prctl(PR_SET_CHILD_SUBREAPER, 1);
    mp_back_create();
    if (mp_options.verify)
        mp_model_verify();
    else if (mp_options.race)
        mp_race_run();
    else
        mp_model_run();
    mp_back_destroy();
    if (mp_options.must_fail) {
        printf("negative control: nothing was noticed in %" PRIu64 " operations\n", mp_counts.ops);
        return 1;
    }
    printf("ok: seed %" PRIu64 ", %" PRIu64 " operations in %.1f s: %" PRIu64 " stores, %" PRIu64
           " refused, %" PRIu64 " kills, %" PRIu64 " forks, %" PRIu64 " reopens, %" PRIu64
           " servers, %" PRIu64 " looks\n",
           mp_options.seed, mp_counts.ops, seconds_since_start(), mp_counts.stores, mp_counts.refused,
           mp_counts.kills, mp_counts.forks, mp_counts.reopens, mp_counts.servers, mp_counts.checks);
    if (!mp_options.race)
        printf("    digest %016" PRIx64
               " (of every choice and result; the same in every run with this seed)\n",
               digest);
    return 0;
}
