/* SPDX-License-Identifier: MIT */
/*
 * target.c - makes one cmocka case of each body and target, and holds what most bodies need.
 *
 * Each case starts on a fresh target and ends with stop(), which on Holdfast is hf_volume_close(): its
 * leak check (HOLD-8) is therefore part of every case.
 */
#include "target.h"
#include "mounted.h"

#include <inttypes.h>
#include <pthread.h>
#include <signal.h>
#include <sys/random.h>
#include <sys/resource.h>
#include <sys/statvfs.h>
#include <sys/wait.h>

#define NO_ENGINE_STATUS 77
#define ROOM_FOR_VOLUMES ((uint64_t)1 << 30)

const struct target_spec target_posix_specs[] = {
    {.name = "host shm", .kind = TARGET_SHM},
    {.name = "host disk", .kind = TARGET_DISK},
    {.name = "memfs B=4K P=4K", .kind = TARGET_MEMFS, .block_size = 4096},
    {.name = "memfs B=512 P=16K", .kind = TARGET_MEMFS, .block_size = 512, .open = {.page_size = 16384}},
    {.name = "blockfs B=512 P=4K", .kind = TARGET_BLOCKFS, .block_size = 512},
    {.name = "blockfs B=4K P=4K", .kind = TARGET_BLOCKFS, .block_size = 4096},
    {.name = "blockfs B=1K P=64K", .kind = TARGET_BLOCKFS, .block_size = 1024, .open = {.page_size = 65536}},
    {.name = "blockfs B=64K P=64K", .kind = TARGET_BLOCKFS, .block_size = 65536},
};
const size_t target_nr_posix_specs = ARRAY_LEN(target_posix_specs);

/* HF_TEST_MOUNT names a holdfast command: the bodies run on what it mounts, and nowhere else. */
static const struct target_spec mount_spec = {.name = "mounted", .kind = TARGET_MOUNT};
struct mounted target_mount;

bool target_is_host(const struct target *t)
{
    return (ON(t->spec->kind) & ON_HOST) != 0;
}

/* ------------------------------------------------------------------ one case */

struct test_case {
    char name[160];
    const struct test_body *body;
    const struct target_spec *spec;
    struct target target;
    bool started;
};

static void run_case(void **state)
{
    struct test_case *test = *state;
    struct target *t = &test->target;

    catch_enter();
    memset(t, 0, sizeof(*t));
    t->spec = test->spec;
    t->ops = (ON(t->spec->kind) & ON_HOST) ? &target_host_ops : &target_holdfast_ops;
    test->started = true;
    assert_ok(t->ops->start(t));
    test->body->run(t);
    test->started = false;
    assert_ok(t->ops->stop(t));
}

/* After a failed body files may be open, so closing can fail too; what is left leaves with the process. */
static int clear_case(void **state)
{
    struct test_case *test = *state;

    if (test->started)
        (void)test->target.ops->stop(&test->target);
    return 0;
}

/* ------------------------------------------------------------------ the program */

/* Makes the library install its handlers over ours, and sees whether the engine works here. */
static int probe_engine(unsigned flags)
{
    const char *wanted = getenv("HF_ENGINE");
    struct hf_volume *volume = NULL;
    struct hf_file *file = NULL;
    void *map = NULL;
    int ret;

    catch_install();
    ret = hf_volume_open("mem:1M", NULL, &volume);
    if (ret == 0)
        ret = hf_open(volume, "probe", O_RDWR | O_CREAT, 0600, &file);
    if (ret == 0)
        ret = hf_ftruncate(file, KIB(64));
    if (ret == 0)
        ret = hf_mmap(file, NULL, KIB(64), PROT_READ | PROT_WRITE, MAP_SHARED, 0, &map);
    if (ret == 0) {
        *(volatile char *)map = 1;
        hf_munmap(map, KIB(64));
    }
    if (file)
        hf_close(file);
    if (volume)
        hf_volume_close(volume);
    catch_keep();
    if (!(flags & NEEDS_ENGINE))
        return 0;
    if (ret == -EOPNOTSUPP || (wanted && strcmp(wanted, hf_engine_name()) != 0)) {
        printf("skipped: engine %s does not work here (%s)\n", wanted ? wanted : "of the default",
               ret < 0 ? strerror(-ret) : hf_engine_name());
        return NO_ENGINE_STATUS;
    }
    if (ret < 0) {
        fprintf(stderr, "cannot map a file of a new volume: %s\n", strerror(-ret));
        return 1;
    }
    return 0;
}

static size_t collect_cases(const struct test_program *program, struct test_case *cases,
                            struct CMUnitTest *tests)
{
    size_t nr = 0;

    for (size_t b = 0; b < program->nr_bodies; b++) {
        for (size_t s = 0; s < program->nr_specs; s++) {
            struct test_case *test = &cases[nr];

            if (!(program->bodies[b].where & ON(program->specs[s].kind)))
                continue;
            test->body = &program->bodies[b];
            test->spec = &program->specs[s];
            snprintf(test->name, sizeof(test->name), "%s [%s]", test->body->name, test->spec->name);
            tests[nr++] = (struct CMUnitTest){
                .name = test->name,
                .test_func = run_case,
                .teardown_func = clear_case,
                .initial_state = test,
            };
        }
    }
    return nr;
}

static int run_cases(const struct test_program *program)
{
    size_t most = program->nr_bodies * program->nr_specs;
    struct test_case *cases = calloc(most, sizeof(*cases));
    struct CMUnitTest *tests = calloc(most, sizeof(*tests));
    int failed = 1;

    if (cases && tests)
        failed =
            _cmocka_run_group_tests(program->name, tests, collect_cases(program, cases, tests), NULL, NULL);
    free(tests);
    free(cases);
    return failed ? 1 : 0;
}

static int run_mounted(struct test_program *program, const char *command)
{
    const char *refused = mounted_init(command);
    int failed, status;

    if (refused) {
        printf("skipped: nothing can be mounted: %s\n", refused);
        return NO_ENGINE_STATUS;
    }
    catch_install();
    catch_keep();
    program->specs = &mount_spec;
    program->nr_specs = 1;
    mounted_make(&target_mount, 64 << 20, 1024);
    mounted_start(&target_mount, NULL);
    failed = run_cases(program);
    status = mounted_stop(&target_mount);
    if (status != 0)
        fprintf(stderr, "the server left with %d\n", status);
    mounted_clear(&target_mount);
    return failed || status != 0;
}

static int run_child_mode(const struct test_program *program, int argc, char **argv)
{
    for (size_t i = 0; i < program->nr_children; i++) {
        if (strcmp(program->children[i].name, argv[2]) == 0) {
            int status = program->children[i].run(argc - 3, argv + 3);

            /* A child may leave with files and mappings open: no leak check. */
            fflush(NULL);
            _exit(status);
        }
    }
    fprintf(stderr, "no such child: %s\n", argv[2]);
    return 1;
}

int target_main(int argc, char **argv, const struct test_program *given)
{
    struct test_program program = *given;
    struct rlimit no_core = {0, 0};
    int status;

    setrlimit(RLIMIT_CORE, &no_core);
    if (argc >= 3 && strcmp(argv[1], "--child") == 0)
        return run_child_mode(&program, argc, argv);
    if (!program.specs) {
        program.specs = target_posix_specs;
        program.nr_specs = target_nr_posix_specs;
    }
    if (argc >= 2)
        cmocka_set_test_filter(argv[1]);
    if (getenv("HF_TEST_MOUNT"))
        return run_mounted(&program, getenv("HF_TEST_MOUNT"));
    status = probe_engine(program.flags);
    return status ? status : run_cases(&program);
}

static uint32_t env_number(const char *name, uint32_t otherwise)
{
    const char *text = getenv(name);

    return text && *text ? (uint32_t)strtoul(text, NULL, 10) : otherwise;
}

struct target_spec target_spec_from_env(void)
{
    static char name[64];
    const char *isize = getenv("HF_TEST_ISIZE");
    struct target_spec spec = {
        .name = name,
        .kind = TARGET_BLOCKFS,
        .block_size = env_number("HF_TEST_B", 1024),
        .open = {.page_size = env_number("HF_TEST_P", 4096), .writeback_ms = 3600 * 1000},
    };

    if (isize && strcmp(isize, "hole-lock") == 0)
        spec.open.isize_sync = HF_ISIZE_HOLE_LOCK;
    snprintf(name, sizeof(name), "%s P=%" PRIu32 " B=%" PRIu32, hf_engine_name(), spec.open.page_size,
             spec.block_size);
    return spec;
}

/* ------------------------------------------------------------------ whole volumes */

static bool dir_has_room(const char *dir)
{
    struct statvfs vfs;

    return access(dir, W_OK) == 0 && statvfs(dir, &vfs) == 0 &&
           (uint64_t)vfs.f_bavail * vfs.f_frsize > ROOM_FOR_VOLUMES;
}

void temp_path(const char *what, char *buf, size_t size)
{
    static unsigned serial;
    static _Atomic unsigned tag; /* a process id alone may be had twice, in PID namespaces side by side */
    unsigned drawn;
    const char *dir = getenv("TMPDIR");

    if (!dir || access(dir, W_OK) < 0)
        dir = dir_has_room("/dev/shm") ? "/dev/shm" : "/tmp";
    if (tag == 0)
        tag = getrandom(&drawn, sizeof(drawn), 0) == (ssize_t)sizeof(drawn) ? drawn : 1;
    snprintf(buf, size, "%s/holdfast-test-%s-%d-%x-%u", dir, what, (int)getpid(), tag,
             __atomic_fetch_add(&serial, 1, __ATOMIC_RELAXED));
}

struct hf_statfs target_statfs(struct target *t)
{
    struct hf_statfs sfs;

    assert_ok(hf_volume_statfs(t->volume, &sfs));
    return sfs;
}

struct hf_volume_stats target_stats(struct target *t)
{
    struct hf_volume_stats stats;

    assert_ok(hf_volume_stats(t->volume, &stats));
    return stats;
}

void target_fill_but(struct target *t, const char *ballast, uint64_t blocks)
{
    struct hf_statfs sfs = target_statfs(t);
    struct target_file file;

    assert_that(sfs.blocks_free >= blocks, "only %" PRIu64 " blocks are free", sfs.blocks_free);
    file = open_new(t, ballast);
    if (sfs.blocks_free > blocks)
        assert_ok(t_fallocate(&file, 0, 0, (hf_off_t)((sfs.blocks_free - blocks) * sfs.block_size)));
    close_ok(&file);
    assert_count(target_statfs(t).blocks_free, blocks);
}

void target_reopen(struct target *t)
{
    assert_ok(t->ops->reopen(t));
}

/* ------------------------------------------------------------------ files */

struct target_file open_new(struct target *t, const char *path)
{
    struct target_file file;

    assert_ok(t_open(t, path, O_RDWR | O_CREAT | O_EXCL, 0644, &file));
    return file;
}

struct target_file open_old(struct target *t, const char *path, int flags)
{
    struct target_file file;

    assert_ok(t_open(t, path, flags, 0, &file));
    return file;
}

void close_ok(struct target_file *file)
{
    assert_ok(t_close(file));
}

void fill_range(struct target_file *file, hf_off_t off, size_t len, uint8_t fill)
{
    uint8_t *buf = malloc(len ? len : 1);

    assert_non_null(buf);
    memset(buf, fill, len);
    assert_count(t_pwrite(file, buf, len, off), len);
    free(buf);
}

void expect_range(struct target_file *file, hf_off_t off, size_t len, uint8_t fill)
{
    uint8_t *buf = malloc(len ? len : 1);

    assert_non_null(buf);
    memset(buf, (uint8_t)~fill, len);
    assert_count(t_pread(file, buf, len, off), len);
    assert_bytes(buf, fill, len);
    free(buf);
}

void make_file(struct target *t, const char *path, hf_off_t size, uint8_t fill)
{
    struct target_file file = open_new(t, path);

    if (size > 0)
        fill_range(&file, 0, (size_t)size, fill);
    close_ok(&file);
}

struct stat stat_of(struct target_file *file)
{
    struct stat st;

    assert_ok(t_fstat(file, &st));
    return st;
}

struct stat stat_at(struct target *t, const char *path)
{
    struct stat st;

    assert_ok(t_lstat(t, path, &st));
    return st;
}

uint8_t *map_with(struct target_file *file, hf_off_t off, size_t len, int prot, int flags)
{
    void *map = NULL;

    assert_ok(t_mmap(file, NULL, len, prot, flags, off, &map));
    return map;
}

uint8_t *map_shared(struct target_file *file, hf_off_t off, size_t len)
{
    return map_with(file, off, len, PROT_READ | PROT_WRITE, MAP_SHARED);
}

void unmap_ok(struct target *t, void *addr, size_t len)
{
    assert_ok(t_munmap(t, addr, len));
}

int64_t ns_of(struct timespec ts)
{
    return (int64_t)ts.tv_sec * 1000000000 + ts.tv_nsec;
}

void wait_for_clock(void)
{
    struct timespec pause = {.tv_nsec = 12 * 1000 * 1000};

    nanosleep(&pause, NULL);
}

/* ------------------------------------------------------------------ children */

pid_t exec_child(const char *name, char *const args[])
{
    char *argv[16] = {(char *)"holdfast-test", (char *)"--child", (char *)name};
    size_t nr = 3;
    pid_t pid;

    while (args && *args && nr < ARRAY_LEN(argv) - 1)
        argv[nr++] = *args++;
    fflush(NULL);
    pid = fork();
    assert_ok(pid < 0 ? -errno : pid);
    if (pid == 0) {
        execv("/proc/self/exe", argv);
        _exit(126);
    }
    return pid;
}

pid_t fork_child(int (*fn)(void *arg), void *arg)
{
    pid_t pid;

    fflush(NULL);
    pid = fork();
    assert_ok(pid < 0 ? -errno : pid);
    if (pid == 0)
        _exit(fn(arg));
    return pid;
}

int wait_child(pid_t pid)
{
    int status = 0;
    pid_t got;

    do {
        got = waitpid(pid, &status, 0);
    } while (got < 0 && errno == EINTR);
    assert_count(got, pid);
    return status;
}

void expect_exit_0(pid_t pid)
{
    int status = wait_child(pid);

    assert_that(!WIFSIGNALED(status), "the child died by %s", strsignal(WTERMSIG(status)));
    assert_that(WEXITSTATUS(status) == 0, "the child left with %d", WEXITSTATUS(status));
}

void expect_death_by(pid_t pid, int signo)
{
    int status = wait_child(pid);

    assert_that(WIFSIGNALED(status), "the child left with %d", WEXITSTATUS(status));
    assert_that(WTERMSIG(status) == signo, "the child died by %s", strsignal(WTERMSIG(status)));
}
