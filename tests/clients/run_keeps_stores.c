/* SPDX-License-Identifier: MIT */
/*
 * run_keeps_stores.c - holdfast run: a program that knows nothing of it keeps every store it made, or gets
 * its error at the store. What runs is run_victim.c.
 */
#include "mounted.h"
#include "target.h"

#define SAID_MAX 4096

static const char *victim;
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
    assert_count(mounted_command(args, said, sizeof(said)), 1);
    expect_said("No such file");
}

int main(int argc, char **argv)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(the_seed),          cmocka_unit_test(refused_with_one_line),
        cmocka_unit_test(waits_or_reserves), cmocka_unit_test(injected),
        cmocka_unit_test(injected_by_name),  cmocka_unit_test(server_dies),
        cmocka_unit_test(static_programs),
    };
    const char *refused;

    if (argc < 3)
        return 99;
    victim = argv[2];
    refused = mounted_serves_mappings();
    if (refused == NULL)
        refused = mounted_init(argv[1]);
    if (refused) {
        printf("skipped: %s\n", refused);
        return 77;
    }
    return cmocka_run_group_tests_name("run_keeps_stores", tests, NULL, NULL);
}
