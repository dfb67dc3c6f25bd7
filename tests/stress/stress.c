/* SPDX-License-Identifier: MIT */
/*
 * stress.c - threads do everything to one mapped file on a volume that is nearly full, against a shadow
 * model.
 *
 * The run is cut in epochs. In an epoch the threads run; between epochs nobody does, and every byte is
 * compared, after nothing, a sync, or a close and reopen of the volume. Epochs, choices and data come from
 * the seed alone: with one thread (and no timer behind the cache) a run repeats exactly; with more, what
 * repeats is every thread's list of choices.
 *
 * A negative control (--isize-sync none, --break mkclean) runs with --must-fail: it succeeds when a byte was
 * lost or invented, and fails when the test saw nothing, or anything else went wrong.
 */
#include "stress.h"

#include "cache/testing.h"

#include <errno.h>
#include <getopt.h>
#include <inttypes.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <time.h>
#include <unistd.h>

#define THREADS_MAX 64u
#define HANG_SECONDS 60u

static struct stress_world world;
static struct timespec started;

static double seconds_since_start(void)
{
    struct timespec now;

    clock_gettime(CLOCK_MONOTONIC, &now);
    return (double)(now.tv_sec - started.tv_sec) + (double)(now.tv_nsec - started.tv_nsec) / 1e9;
}

static bool time_is_up(void)
{
    return world.opt.seconds && seconds_since_start() >= world.opt.seconds;
}

/* ------------------------------------------------------------------ options */

static const char usage[] =
    "usage: stress [OPTION]...\n"
    "Threads store, write, grow, shrink, punch and sync one mapped file on a full volume, against a model.\n"
    "  --seed N              default: from the clock\n"
    "  --ops N               operations in all (default 20000; 0: until --seconds)\n"
    "  --seconds N           stop after so long (default 0: when --ops are done)\n"
    "  --threads N           default 4; 1 makes a run deterministic\n"
    "  --page-size P         default 4096\n"
    "  --block-size B        default 1024\n"
    "  --isize-sync WHICH    page-lock, hole-lock, none (negative control)\n"
    "  --break mkclean       negative control: pages are never write-protected again\n"
    "  --must-fail           succeed only if a byte is lost or invented\n"
    "  --engine NAME         inline, thread, mprotect (sets HF_ENGINE)\n"
    "  --racy                size changes and punches also race with stores to the bytes they remove\n"
    "  --inside              no stores beyond EOF, which can only show as garbage\n"
    "  --map-b KIND          plain (default), syscalls: the second mapping has HF_MAP_SYSCALLS\n"
    "  --driver NAME         blockfs (default), memfs\n"
    "  --file-pages N        the file's capacity (default by page size)\n"
    "  --space PERCENT       data space, percent of the capacity (default 60)\n"
    "  --volume-size BYTES   of the whole volume (default by capacity); a ballast file leaves --space\n"
    "  --cache-bytes N  --dirty-bytes N  --writeback-ms N   as of hf_volume_open()\n"
    "  --dir DIR             for the volume (default /dev/shm, else /tmp)\n"
    "  --keep                keep the volume\n"
    "  --trace               print every operation\n"
    "  --verbose  --help\n";

enum {
    ARG_SEED = 1,
    ARG_OPS,
    ARG_SECONDS,
    ARG_THREADS,
    ARG_PAGE,
    ARG_BLOCK,
    ARG_ISIZE,
    ARG_BREAK,
    ARG_MUST_FAIL,
    ARG_ENGINE,
    ARG_RACY,
    ARG_INSIDE,
    ARG_MAP_B,
    ARG_DRIVER,
    ARG_FILE_PAGES,
    ARG_SPACE,
    ARG_VOLUME,
    ARG_CACHE,
    ARG_DIRTY,
    ARG_WRITEBACK,
    ARG_DIR,
    ARG_KEEP,
    ARG_VERBOSE,
    ARG_TRACE,
    ARG_HELP,
};

static const struct option long_options[] = {
    {"seed", required_argument, NULL, ARG_SEED},
    {"ops", required_argument, NULL, ARG_OPS},
    {"seconds", required_argument, NULL, ARG_SECONDS},
    {"threads", required_argument, NULL, ARG_THREADS},
    {"page-size", required_argument, NULL, ARG_PAGE},
    {"block-size", required_argument, NULL, ARG_BLOCK},
    {"isize-sync", required_argument, NULL, ARG_ISIZE},
    {"break", required_argument, NULL, ARG_BREAK},
    {"must-fail", no_argument, NULL, ARG_MUST_FAIL},
    {"engine", required_argument, NULL, ARG_ENGINE},
    {"racy", no_argument, NULL, ARG_RACY},
    {"inside", no_argument, NULL, ARG_INSIDE},
    {"map-b", required_argument, NULL, ARG_MAP_B},
    {"driver", required_argument, NULL, ARG_DRIVER},
    {"file-pages", required_argument, NULL, ARG_FILE_PAGES},
    {"space", required_argument, NULL, ARG_SPACE},
    {"volume-size", required_argument, NULL, ARG_VOLUME},
    {"cache-bytes", required_argument, NULL, ARG_CACHE},
    {"dirty-bytes", required_argument, NULL, ARG_DIRTY},
    {"writeback-ms", required_argument, NULL, ARG_WRITEBACK},
    {"dir", required_argument, NULL, ARG_DIR},
    {"keep", no_argument, NULL, ARG_KEEP},
    {"verbose", no_argument, NULL, ARG_VERBOSE},
    {"trace", no_argument, NULL, ARG_TRACE},
    {"help", no_argument, NULL, ARG_HELP},
    {NULL, 0, NULL, 0},
};

static _Noreturn void bad_usage(const char *what)
{
    fprintf(stderr, "stress: bad %s\n%s", what, usage);
    exit(2);
}

static uint64_t number(const char *what, uint64_t most)
{
    char *end;
    uint64_t n;

    errno = 0;
    n = strtoull(optarg, &end, 0);
    if (errno || end == optarg || *end || n > most)
        bad_usage(what);
    return n;
}

static void set_word_option(struct stress_options *o, int arg)
{
    if (arg == ARG_ISIZE && !strcmp(optarg, "page-lock"))
        o->isize_sync = HF_ISIZE_PAGE_LOCK;
    else if (arg == ARG_ISIZE && !strcmp(optarg, "hole-lock"))
        o->isize_sync = HF_ISIZE_HOLE_LOCK;
    else if (arg == ARG_ISIZE && !strcmp(optarg, "none"))
        o->isize_sync = HF_ISIZE_NONE;
    else if (arg == ARG_BREAK && !strcmp(optarg, "mkclean"))
        o->break_what = BREAK_MKCLEAN;
    else if (arg == ARG_MAP_B && (!strcmp(optarg, "plain") || !strcmp(optarg, "syscalls")))
        o->syscall_b = optarg[0] == 's';
    else if (arg == ARG_DRIVER && (!strcmp(optarg, "blockfs") || !strcmp(optarg, "memfs")))
        o->memfs = optarg[0] == 'm';
    else if (arg == ARG_ENGINE)
        o->engine = optarg;
    else if (arg == ARG_DIR)
        o->dir = optarg;
    else
        bad_usage("value of an option");
}

static void set_option(struct stress_options *o, int arg)
{
    switch (arg) {
    case ARG_SEED:
        o->seed = number("seed", UINT64_MAX);
        break;
    case ARG_OPS:
        o->ops = number("ops", UINT64_MAX);
        break;
    case ARG_SECONDS:
        o->seconds = (unsigned)number("seconds", 1000000);
        break;
    case ARG_THREADS:
        o->threads = (unsigned)number("threads", THREADS_MAX);
        break;
    case ARG_PAGE:
        o->page_size = (uint32_t)number("page size", HF_PAGE_SIZE_MAX);
        break;
    case ARG_BLOCK:
        o->block_size = (uint32_t)number("block size", HF_BLOCK_SIZE_MAX);
        break;
    case ARG_FILE_PAGES:
        o->file_pages = (unsigned)number("file pages", 65536);
        break;
    case ARG_SPACE:
        o->space_percent = (unsigned)number("space", 1000);
        break;
    case ARG_VOLUME:
        o->volume_size = number("volume size", UINT64_MAX);
        break;
    case ARG_CACHE:
        o->cache_bytes = number("cache bytes", UINT64_MAX);
        break;
    case ARG_DIRTY:
        o->dirty_bytes = number("dirty bytes", UINT64_MAX);
        break;
    case ARG_WRITEBACK:
        o->writeback_ms = (uint32_t)number("writeback ms", UINT32_MAX);
        break;
    case ARG_MUST_FAIL:
        o->must_fail = true;
        break;
    case ARG_RACY:
        o->racy = true;
        break;
    case ARG_INSIDE:
        o->inside = true;
        break;
    case ARG_KEEP:
        o->keep = true;
        break;
    case ARG_TRACE:
        o->trace = true;
        break;
    case ARG_VERBOSE:
        o->verbose = true;
        break;
    default:
        set_word_option(o, arg);
        break;
    }
}

/* Everything that depends on something else gets its value here, so that a replay names all of it. */
static void fill_in_options(struct stress_options *o)
{
    uint64_t capacity;

    if (!o->page_size || !o->block_size || o->block_size > o->page_size || !o->threads)
        bad_usage("sizes or threads");
    if (!o->ops && !o->seconds)
        o->ops = 20000;
    if (!o->file_pages)
        o->file_pages = o->page_size <= 4096 ? 48 : o->page_size <= 16384 ? 24 : 12;
    capacity = (uint64_t)o->file_pages * o->page_size;
    if (!o->volume_size)
        o->volume_size = 8 * 1024 * 1024 + 2 * capacity;
    if (!o->writeback_ms)
        o->writeback_ms = o->threads == 1 ? 3600 * 1000 : 20;
    if (!o->dir)
        o->dir = access("/dev/shm", W_OK) == 0 ? "/dev/shm" : "/tmp";
}

static void parse_options(struct stress_options *o, int argc, char **argv)
{
    struct timespec now;
    int arg;

    clock_gettime(CLOCK_REALTIME, &now);
    *o = (struct stress_options){.seed = (uint64_t)now.tv_nsec ^ (uint64_t)now.tv_sec << 20,
                                 .threads = 4,
                                 .page_size = 4096,
                                 .block_size = 1024,
                                 .isize_sync = HF_ISIZE_PAGE_LOCK,
                                 .space_percent = 60};
    while ((arg = getopt_long(argc, argv, "", long_options, NULL)) != -1) {
        if (arg == '?')
            exit(2);
        if (arg == ARG_HELP) {
            fputs(usage, stdout);
            exit(0);
        }
        set_option(o, arg);
    }
    if (optind < argc)
        bad_usage("argument");
    fill_in_options(o);
}

/* ------------------------------------------------------------------ epochs */

static void *run_thread(void *arg)
{
    struct stress_thread *t = arg;

    for (uint64_t i = 0; i < t->ops; i++) {
        stress_thread_step(t);
        if (i % 16 == 0 && time_is_up())
            break;
    }
    return NULL;
}

static void report_hang(struct stress_thread *threads)
{
    for (unsigned i = 0; i < world.opt.threads; i++)
        printf("thread %u: %s after %" PRIu64 " operations\n", i,
               stress_op_name((unsigned)threads[i].current), (uint64_t)threads[i].progress);
    stress_fail(FAIL_HANG, -1, "no thread got anything done in %u s", HANG_SECONDS);
}

static uint64_t total_progress(struct stress_thread *threads)
{
    uint64_t sum = 0;

    for (unsigned i = 0; i < world.opt.threads; i++)
        sum += threads[i].progress;
    return sum;
}

/* Joins all; a run in which nothing moves any more is a deadlock. */
static void join_threads(struct stress_thread *threads)
{
    uint64_t last = UINT64_MAX;
    unsigned still = 0;

    for (unsigned i = 0; i < world.opt.threads;) {
        struct timespec until;

        clock_gettime(CLOCK_REALTIME, &until);
        until.tv_sec += 1;
        if (pthread_timedjoin_np(threads[i].pthread, NULL, &until) == 0) {
            i++;
            continue;
        }
        still = total_progress(threads) == last ? still + 1 : 0;
        last = total_progress(threads);
        if (still >= HANG_SECONDS)
            report_hang(threads);
    }
}

static uint64_t run_epoch(struct stress_thread *threads, uint64_t epoch, uint64_t ops)
{
    uint64_t before = total_progress(threads);

    for (unsigned i = 0; i < world.opt.threads; i++) {
        struct stress_thread *t = &threads[i];
        struct stress_rng rng = {world.opt.seed ^ epoch << 32 ^ (uint64_t)i << 56};

        t->rng.state = stress_rng_next(&rng);
        t->ops = ops / world.opt.threads + (i < ops % world.opt.threads);
        t->current = OP_NR;
        if (pthread_create(&t->pthread, NULL, run_thread, t))
            stress_fail(FAIL_CALL, -1, "pthread_create");
    }
    join_threads(threads);
    return total_progress(threads) - before;
}

static struct stress_thread *new_threads(void)
{
    size_t len = (size_t)STRESS_LEN_PAGES * world.opt.page_size;
    struct stress_thread *threads = calloc(world.opt.threads, sizeof(*threads));

    for (unsigned i = 0; threads && i < world.opt.threads; i++) {
        struct stress_thread *t = &threads[i];

        t->world = &world;
        t->index = i;
        t->data = malloc(len);
        t->got = malloc(len);
        t->val = malloc(len);
        t->flags = malloc(len);
        if (!t->data || !t->got || !t->val || !t->flags)
            abort();
    }
    return threads;
}

static void free_threads(struct stress_thread *threads)
{
    for (unsigned i = 0; i < world.opt.threads; i++) {
        free(threads[i].data);
        free(threads[i].got);
        free(threads[i].val);
        free(threads[i].flags);
    }
    free(threads);
}

static void between_epochs(struct stress_rng *rng)
{
    switch (stress_rng_below(rng, 6)) {
    case 0:
        stress_world_check(&world, "after an epoch");
        break;
    case 1:
        if (hf_fsync(world.file))
            stress_fail(FAIL_CALL, -1, "hf_fsync after an epoch");
        stress_world_check(&world, "after fsync");
        break;
    default: /* half of the time the next epoch begins with nothing cached */
        stress_world_reopen(&world, rng, stress_rng_below(rng, 2));
        break;
    }
}

static uint64_t run(void)
{
    struct stress_rng rng = {world.opt.seed};
    struct stress_thread *threads = new_threads();
    uint64_t done = 0, epoch = 0;

    while ((!world.opt.ops || done < world.opt.ops) && !time_is_up()) {
        uint64_t ops = 200 + stress_rng_below(&rng, 3000);

        if (world.opt.ops && ops > world.opt.ops - done)
            ops = world.opt.ops - done;
        done += run_epoch(threads, epoch++, ops);
        between_epochs(&rng);
        if (world.opt.verbose)
            printf("epoch %" PRIu64 ": %" PRIu64 " operations, size %" PRId64 ", %.1f s\n", epoch, done,
                   (hf_off_t)world.model.size, seconds_since_start());
    }
    free_threads(threads);
    return done;
}

/* ------------------------------------------------------------------ frame */

static void print_summary(uint64_t done)
{
    uint64_t refused = 0;

    for (unsigned i = 0; i < OP_NR; i++)
        refused += world.nr_refused[i];
    printf("ok: %" PRIu64 " operations in %.1f s, %" PRIu64 " refused for space, %" PRIu64
           " stores raced, %" PRIu64 " full checks, %" PRIu64 " reopens\n",
           done, seconds_since_start(), refused, (uint64_t)world.nr_raced, world.nr_checks, world.nr_reopens);
    printf("    faults: %" PRIu64 " load, %" PRIu64 " store, %" PRIu64 " refused, %" PRIu64
           " slow; mkwrite %" PRIu64 ", mkclean %" PRIu64 "; pages written %" PRIu64 ", read %" PRIu64
           ", reclaimed %" PRIu64 "; zero blocks released %" PRIu64 "\n",
           world.stats.faults_load, world.stats.faults_store, world.stats.faults_refused,
           world.stats.faults_slow, world.stats.mkwrites, world.stats.mkcleans, world.stats.pages_written,
           world.stats.pages_read, world.stats.pages_reclaimed, world.stats.zero_blocks_released);
    if (world.opt.threads == 1)
        printf("    digest %016" PRIx64
               " (of every choice and result; the same in every run with this seed)\n",
               stress_log_digest());
    if (!world.opt.verbose)
        return;
    for (unsigned i = 0; i < OP_NR; i++)
        printf("    %-16s %8" PRIu64 ", refused %" PRIu64 "\n", stress_op_name(i), (uint64_t)world.nr_op[i],
               (uint64_t)world.nr_refused[i]);
}

/* A fault outside every guard: the library let an access fail that it must not, or our own bug. */
static void on_stray_fault(int signo, siginfo_t *info, void *context)
{
    hf_off_t off = -1;

    (void)context;
    for (unsigned i = 0; i < 2; i++)
        if (world.map[i] && (uint8_t *)info->si_addr >= world.map[i] &&
            (uint8_t *)info->si_addr < world.map[i] + world.model.capacity)
            off = (uint8_t *)info->si_addr - world.map[i];
    stress_fail(FAIL_CALL, off, "signal %d (code %d) at %p, outside every guard", signo, info->si_code,
                info->si_addr);
}

static void catch_stray_faults(void)
{
    struct sigaction sa = {.sa_sigaction = on_stray_fault, .sa_flags = SA_SIGINFO};

    sigaction(SIGBUS, &sa, NULL);
    sigaction(SIGSEGV, &sa, NULL);
}

int main(int argc, char **argv)
{
    uint64_t done;

    setvbuf(stdout, NULL, _IOLBF, 0);
    clock_gettime(CLOCK_MONOTONIC, &started);
    parse_options(&world.opt, argc, argv);
    stress_report_init(&world, argv[0]);
    if (world.opt.engine)
        setenv("HF_ENGINE", world.opt.engine, 1);
    hf_test_skip_mkclean = world.opt.break_what == BREAK_MKCLEAN;
    printf("seed %" PRIu64 "\n", world.opt.seed);
    stress_print_replay();
    if (stress_model_init(&world.model, (hf_off_t)world.opt.file_pages * world.opt.page_size))
        abort();
    catch_stray_faults();
    stress_world_create(&world);
    if (world.opt.engine && strcmp(world.opt.engine, hf_engine_name()) != 0)
        stress_skip("this machine has another engine");
    printf("engine %s, %" PRIu64 " blocks for a file of up to %" PRId64 " bytes\n", hf_engine_name(),
           world.free_blocks_at_start, world.model.capacity);
    done = run();
    stress_world_reopen(&world, &(struct stress_rng){world.opt.seed}, true);
    stress_world_regrow(&world);
    stress_world_reopen(&world, &(struct stress_rng){world.opt.seed + 1}, true);
    stress_world_destroy(&world);
    if (world.opt.must_fail) {
        printf("negative control: nothing was noticed in %" PRIu64 " operations\n", done);
        return 1;
    }
    print_summary(done);
    return 0;
}
