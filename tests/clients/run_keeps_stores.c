/* SPDX-License-Identifier: MIT */
/*
 * run_keeps_stores.c - holdfast run: a program that knows nothing of it keeps every store it made, or gets
 * its error at the store. What runs is run_victim.c and run_children.c.
 */
#include "mounted.h"
#include "target.h"

#define SAID_MAX 4096

static const char *victim, *processes, *children,
    *statically; /* the last: "" if nothing can be linked so here */
static char said[SAID_MAX];

/* Its exit status; what it and its server said is in said. */
static int run(const char *option, const char *way)
{
    const char *args[] = {"run", "--size", "2M", "--block-size", "1K", option, "--", victim, way, NULL};

    return mounted_command(args, said, sizeof(said));
}

static void expect(const char *option, const char *way, int status)
{
    int got = run(option, way);

    assert_that(got == status, "%s under %s: status %d, not %d; it said: %s", way, option, got, status, said);
}

static void expect_said(const char *text)
{
    assert_that(strstr(said, text) != NULL, "'%s' is not in: %s", text, said);
}

static void the_seed(void **state)
{
    (void)state;
    expect("--stats", "seed", 0);
    expect_said("processes 2,");
    expect("--on-full=reserve", "seed", 0);
    assert_ok(setenv("HOLDFAST_USER_ONLY", "1", 1));
    expect("--stats", "seed", 0);
    assert_ok(unsetenv("HOLDFAST_USER_ONLY"));
}

static void refused_with_one_line(void **state)
{
    char *line;

    (void)state;
    expect("--on-full=sigbus", "full", 128 + SIGBUS);
    expect_said("store refused: ENOSPC: ");
    expect_said("/f at offset ");
    line = strstr(said, "refused");
    assert_null(strstr(line + 1, "refused"));
    expect("--on-full=sigbus", "recovers", 0);
}

static void waits_or_reserves(void **state)
{
    (void)state;
    expect("--on-full=wait", "waits", 0);
    expect("--on-full=reserve", "reserve", 0);
}

static void the_kernel_caches_nothing(void **state)
{
    (void)state;
    expect("--stats", "kernel-maps", 0);
}

static void mappings_as_buffers(void **state)
{
    (void)state;
    expect("--stats", "buffers", 0);
    assert_ok(setenv("HOLDFAST_USER_ONLY", "1", 1));
    expect("--stats", "buffers", 0);
    assert_ok(unsetenv("HOLDFAST_USER_ONLY"));
}

static void succeeds(const char *const *args)
{
    static char all[1 << 20]; /* a line for each refused store */
    int status = mounted_command(args, all, sizeof(all));
    size_t len = strlen(all);

    assert_that(status == 0, "status %d; in the end it said: %s", status,
                all + (len > 2000 ? len - 2000 : 0));
}

/* tests/stress/processes.h: four processes against a model, and what they have left is there afterwards. */
static void several_processes(void **state)
{
    const struct hf_mkfs_options mkfs = {.size_bytes = 16 << 20, .block_size = 1024};
    char volume[256], expected[256];
    const char *run[] = {"run", "--volume", volume, "--",       processes, "--seed",
                         "7",   "--ops",    "400",  "--expect", expected,  NULL};
    const char *again[] = {"run", "--volume", volume, "--", processes, "--verify", expected, NULL};
    const char *check[] = {"check", volume, NULL};

    (void)state;
    temp_path("processes", volume, sizeof(volume));
    temp_path("expected", expected, sizeof(expected));
    assert_ok(hf_mkfs(volume, &mkfs));
    succeeds(run);
    succeeds(again);
    succeeds(check);
    assert_ok(unlink(volume));
    assert_ok(unlink(expected));
}

static void injected(void **state)
{
    (void)state;
    expect("--inject=EIO@store:1:f", "full", 128 + SIGBUS);
    expect_said("store refused: EIO: ");
    expect_said("at offset 0,");
    expect("--inject=EIO@store:1:other", "seed", 0);
    expect("--inject=EDQUOT@write:2", "writes", 0);
    expect("--inject=EIO@nothing:1", "seed", 2);
}

static void injected_by_name(void **state)
{
    (void)state;
    expect("--inject=EDQUOT@write:2:*.db", "named-writes", 0);
    expect("--inject=EIO@fsync:2:*/d/*", "named-syncs", 0);
    expect("--inject=EIO@store:1:f07", "named-stores", 0);
    expect("--inject=EIO@fsync:1:*/f/*", "seed", 0);
}

static void server_dies(void **state)
{
    (void)state;
    expect("--stats", "orphan", 1);
    expect_said("the process that served the volume died");
}

static void write_script(const char *path, const char *interpreter)
{
    int fd = open(path, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0755);

    assert_true(fd >= 0);
    assert_true(dprintf(fd, "#! %s\nexit 0\n", interpreter) > 0);
    assert_ok(close(fd));
}

/* An ELF file that asks for no dynamic linker. */
static void static_programs(void **state)
{
    unsigned char elf[120] = {0x7f, 'E', 'L', 'F', 2, 1, 1};
    const char *args[] = {"run", "--", NULL, NULL};
    char path[256];
    int fd;

    (void)state;
    elf[54] = 56; /* e_phentsize; no program headers */
    temp_path("static", path, sizeof(path));
    fd = open(path, O_WRONLY | O_CREAT | O_CLOEXEC, 0755);
    assert_count(write(fd, elf, sizeof(elf)), sizeof(elf));
    close(fd);
    args[2] = path;
    assert_count(mounted_command(args, said, sizeof(said)), 1);
    expect_said("statically linked");
    assert_ok(unlink(path));
    args[2] = "/no/such/program";
    assert_count(mounted_command(args, said, sizeof(said)), 127);
    expect_said("No such file");
}

/* ------------------------------------------------------------------ descriptors, children, other programs */

#define BY_ITSELF "maps files of "

/* A way of run_children.c. All that is mapped is served. */
static void expect_child(const char *program, const char *way)
{
    const char *args[] = {"run", "--size", "2M", "--stats", "--", program, way, NULL};
    int got = mounted_command(args, said, sizeof(said));

    assert_that(got == 0, "%s: status %d; it said: %s", way, got, said);
    assert_that(strstr(said, BY_ITSELF) == NULL, "%s: it said: %s", way, said);
}

static void descriptors_are_kept(void **state)
{
    (void)state;
    expect_child(children, "closes");
    expect_child(children, "closes_with_few");
    expect_child(children, "daemonizes");
}

static void bad_vectors_are_refused(void **state)
{
    (void)state;
    expect_child(children, "bad_vectors");
    assert_ok(setenv("HOLDFAST_USER_ONLY", "1", 1));
    expect_child(children, "bad_vectors");
    assert_ok(unsetenv("HOLDFAST_USER_ONLY"));
}

static void children_of_all_kinds(void **state)
{
    (void)state;
    expect_child(children, "clones");
    expect_child(children, "spawns");
}

/* What cannot be preloaded into maps nothing. */
static void programs_without_the_library(void **state)
{
    const char *args[] = {"run", "--", "sh", "-c", "exec \"$1\" plain", "sh", statically, NULL};

    (void)state;
    expect_child(children, "emptied");
    if (statically[0] == '\0')
        skip();
    assert_count(mounted_command(args, said, sizeof(said)), 0);
    assert_null(strstr(said, BY_ITSELF));
}

static void a_script_of_a_static_program(void **state)
{
    const char *args[] = {"run", "--", NULL, "plain", NULL};
    char script[256], outer[256];

    (void)state;
    if (statically[0] == '\0')
        skip();
    args[2] = statically;
    assert_count(mounted_command(args, said, sizeof(said)), 1);
    expect_said("statically linked");
    temp_path("script", script, sizeof(script));
    temp_path("outer", outer, sizeof(outer));
    write_script(script, statically);
    write_script(outer, script);
    for (int i = 0; i < 2; i++) {
        args[2] = i ? outer : script;
        assert_count(mounted_command(args, said, sizeof(said)), 1);
        expect_said("statically linked");
    }
    assert_ok(unlink(script));
    assert_ok(unlink(outer));
}

static void an_existing_preload_is_kept(void **state)
{
    (void)state;
#ifdef UNDER_SANITIZER
    skip(); /* it wants to come first */
#else
    assert_ok(setenv("LD_PRELOAD", "librt.so.1", 1));
    expect_child(children, "preloaded");
    assert_ok(unsetenv("LD_PRELOAD"));
#endif
}

int main(int argc, char **argv)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(the_seed),
        cmocka_unit_test(refused_with_one_line),
        cmocka_unit_test(waits_or_reserves),
        cmocka_unit_test(injected),
        cmocka_unit_test(injected_by_name),
        cmocka_unit_test(server_dies),
        cmocka_unit_test(static_programs),
        cmocka_unit_test(descriptors_are_kept),
        cmocka_unit_test(bad_vectors_are_refused),
        cmocka_unit_test(children_of_all_kinds),
        cmocka_unit_test(programs_without_the_library),
        cmocka_unit_test(a_script_of_a_static_program),
        cmocka_unit_test(an_existing_preload_is_kept),
        cmocka_unit_test(the_kernel_caches_nothing),
        cmocka_unit_test(mappings_as_buffers),
        cmocka_unit_test(several_processes),
    };
    const char *refused;

    if (argc < 5)
        return 99;
    victim = argv[2];
    processes = argv[3];
    children = argv[4];
    statically = argc > 5 ? argv[5] : "";
    refused = mounted_serves_mappings();
    if (refused == NULL)
        refused = mounted_init(argv[1]);
    if (refused) {
        printf("skipped: %s\n", refused);
        return 77;
    }
    return cmocka_run_group_tests_name("run_keeps_stores", tests, NULL, NULL);
}
