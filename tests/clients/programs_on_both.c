/* SPDX-License-Identifier: MIT */
/*
 * programs_on_both.c - a C compiler, LMDB, git, fio, Python and numpy, each on the mount and under holdfast run, also
 * on a volume that gets full in the middle: what they were told is done is there when the volume has been
 * closed and opened again.
 *
 * Each case is a list of shell scripts, between which the volume is closed. A program that is not installed
 * is skipped.
 */
#include "mounted.h"
#include "target.h"

#define SECONDS 300 /* far more than any of this takes */
#define SAID_MAX 4096
#define SCRIPTS_MAX 4

struct program_case {
    const char *name;
    const char *program; /* a shell's condition: it can be used */
    uint64_t size_bytes;
    const char *mount_option, *run_option; /* NULL: this case is not for that frontend */
    const char *scripts[SCRIPTS_MAX];
};

static char said[SAID_MAX];
static const char *run_refused; /* NULL: holdfast run works */

/*
 * LOG       what a script has confirmed
 * SIDE      a directory on the host, for what is compared
 * last      the last line of LOG
 */
#define PRELUDE                                       \
    "LOG=\"$SIDE/log\"; export LOG TZ=UTC LC_ALL=C\n" \
    "last() { tail -n 1 \"$LOG\"; }\n"

/* ------------------------------------------------------------------ C compiler */

/* Its temporary files, a precompiled header that it maps, an archive, and a program. */
#define BUILD                                                                                                \
    "mkdir tmp; export TMPDIR=$PWD/tmp\n"                                                                    \
    "printf '#include <stdio.h>\\n#include <stdlib.h>\\nint f(int);\\nint g(int);\\n' >all.h\n"              \
    "printf '#include \"all.h\"\\nint f(int x) { return g(x) * 2; }\\n' >f.c\n"                              \
    "printf '#include \"all.h\"\\nint g(int x) { return x + 1; }\\n' >g.c\n"                                 \
    "printf '#include \"all.h\"\\nint main(void) { return printf(\"%%d\\\\n\", f(20)) != 3; }\\n' >main.c\n" \
    "gcc -O1 -o all.h.gch all.h\n"                                                                           \
    "pids=; for name in f g main; do\n"                                                                      \
    "    gcc -O1 -c $name.c -o $name.o & pids=\"$pids $!\"\n"                                                \
    "done\n"                                                                                                 \
    "for pid in $pids; do wait $pid; done\n"                                                                 \
    "gcc -O1 -pipe -c main.c -o piped.o; cmp main.o piped.o\n"                                               \
    "ar rcsD lib.a f.o g.o\n"                                                                                \
    "gcc -Wl,--build-id=none main.o lib.a -o program\n"                                                      \
    "test \"$(./program)\" = 42\n"

static const struct program_case compiler = {
    .name = "compiler",
    .program = "command -v gcc && command -v ar",
    .size_bytes = 8 << 20,
    .mount_option = "rw",
    .run_option = "--on-full=sigbus",
    .scripts = {BUILD "mkdir \"$SIDE/b\"; cd \"$SIDE/b\"\n" BUILD
                      "for f in f.o g.o main.o lib.a program; do cmp $f \"$OLDPWD/$f\"; done",
                "test \"$(./program)\" = 42\n"
                "for f in f.o g.o main.o lib.a program; do cmp $f \"$SIDE/b/$f\"; done"},
};

/* An object is whole, or the compiler said so and left none. */
static const struct program_case compiler_on_a_full_volume = {
    .name = "compiler_on_a_full_volume",
    .program = "command -v gcc",
    .size_bytes = 2 << 20,
    .mount_option = "rw",
    .run_option = "--on-full=sigbus",
    .scripts = {"export TMPDIR=$PWD\n"
                "seq 30000 >blob; printf '__asm__(\".data; .incbin \\\\\"blob\\\\\"\");\\nint f;\\n' >f.c\n"
                "gcc -c f.c -o \"$SIDE/f.o\"\n"
                "i=1; while gcc $(test $((i % 2)) = 0 || echo -pipe) -c f.c -o f$i.o 2>\"$SIDE/error\"; do\n"
                "    cmp f$i.o \"$SIDE/f.o\"; sync f$i.o; echo $i >>\"$LOG\"; i=$((i + 1)); test $i -lt 99\n"
                "done\n"
                "grep -q 'No space left' \"$SIDE/error\"; test ! -e f$i.o\n"
                "test $(last) -gt 3; rm f1.o; gcc -c f.c -o f1.o",
                "for i in $(cat \"$LOG\"); do cmp f$i.o \"$SIDE/f.o\"; done"},
};

/* ------------------------------------------------------------------ LMDB */

static const struct program_case lmdb = {
    .name = "lmdb",
    .program = "test -x \"$LMDB\"",
    .size_bytes = 24 << 20,
    .mount_option = "rw",
    .run_option = "--on-full=sigbus",
    .scripts =
        {"mkdir e\n"
         "\"$LMDB\" put e 1 20 >/dev/null\n"
         "\"$LMDB\" put e 21 60 >/dev/null & pid=$!\n"
         "\"$LMDB\" put e 61 100 >/dev/null\n"
         "wait $pid\n"
         "\"$LMDB\" check e 100",
         "\"$LMDB\" check e 100\n"
         "command -v mdb_load >/dev/null || exit 0\n"
         "mdb_dump e >\"$SIDE/dump\"; mkdir copied loaded\n"
         "mdb_copy e copied; mdb_load -f \"$SIDE/dump\" loaded",
         "\"$LMDB\" check e 100\n"
         "command -v mdb_load >/dev/null || exit 0\n"
         "for e in copied loaded; do \"$LMDB\" check $e 100; mdb_dump $e | cmp - \"$SIDE/dump\"; done\n"
         "mdb_stat copied | grep -q 'Entries: 100'"},
};

/* Opening an environment makes stores, too: on a volume that got full there must be a place for them. */
#define SPARE "head -c 300000 /dev/urandom >spare\n"

/* On the mount it is msync of a commit that says so. */
static const struct program_case lmdb_on_a_full_volume = {
    .name = "lmdb_on_a_full_volume",
    .program = "test -x \"$LMDB\"",
    .size_bytes = 2 << 20,
    .mount_option = "mmap=late",
    .run_option = "--on-full=sigbus",
    .scripts = {SPARE "mkdir e\n"
                      "\"$LMDB\" put e 1 4000 >\"$LOG\" 2>/dev/null && exit 9\n"
                      "test $(last) -gt 20; rm spare\n"
                      "\"$LMDB\" check e $(last)",
                "\"$LMDB\" check e $(last)"},
};

/* The map is larger than the volume: where space is reserved it is refused before the first store. */
static const struct program_case lmdb_map_that_does_not_fit = {
    .name = "lmdb_map_that_does_not_fit",
    .program = "test -x \"$LMDB\"",
    .size_bytes = 2 << 20,
    .mount_option = "mmap=reserve",
    .run_option = "--on-full=reserve",
    .scripts = {"mkdir e; \"$LMDB\" put e 1 2 >\"$LOG\" 2>\"$SIDE/error\" && exit 9\n"
                "grep -q 'No space left' \"$SIDE/error\"; test ! -s \"$LOG\""},
};

/* ------------------------------------------------------------------ fio, git: the mount's are in
 * real_programs.c */

#define FIO                                                                                          \
    "fio --name=job --ioengine=mmap --rw=randwrite --bs=4k --fsync=100 "                             \
    "--fallocate=none --verify=crc32c --verify_fatal=1 --verify_state_save=0 --randseed=7 --thread " \
    "--output=\"$SIDE/fio\" "

static const struct program_case fio = {
    .name = "fio",
    .program = "fio --version",
    .size_bytes = 8 << 20,
    .run_option = "--on-full=sigbus",
    .scripts = {FIO "--filename=f --size=3M --do_verify=1", FIO "--filename=f --size=3M --verify_only=1"},
};

/* What was there before is as it was; the job that did not fit was told so. */
static const struct program_case fio_on_a_full_volume = {
    .name = "fio_on_a_full_volume",
    .program = "fio --version",
    .size_bytes = 2 << 20,
    .mount_option = "rw",
    .run_option = "--on-full=sigbus",
    .scripts = {FIO "--filename=f --size=512k --do_verify=1\n"
                    "! " FIO "--filename=g --size=3M --do_verify=1 >/dev/null 2>&1",
                FIO "--filename=f --size=512k --verify_only=1"},
};

#define GIT                                                                                         \
    "export HOME=/nonexistent GIT_CONFIG_NOSYSTEM=1 GIT_CONFIG_GLOBAL=/dev/null GIT_AUTHOR_NAME=a " \
    "GIT_AUTHOR_EMAIL=a@example.org GIT_COMMITTER_NAME=a GIT_COMMITTER_EMAIL=a@example.org\n"

static const struct program_case git = {
    .name = "git",
    .program = "git --version",
    .size_bytes = 16 << 20,
    .run_option = "--on-full=sigbus",
    .scripts = {GIT "git init -q one; cd one\n"
                    "for c in 1 2; do\n"
                    "    for i in 1 2 3 4; do head -c 3000 /dev/urandom >f$c-$i; done\n"
                    "    git add .; git commit -q -m $c\n"
                    "done\n"
                    "cd ..; git clone -q one two; cd two\n"
                    "echo more >f1-1; git commit -q -a -m 3; git gc -q",
                GIT "cd two; git fsck --full --strict 2>&1 | grep -E 'error|missing' && exit 1\n"
                    "test -z \"$(git status --porcelain)\"; test $(git rev-list --count HEAD) = 3"},
};

static const struct program_case git_on_a_full_volume = {
    .name = "git_on_a_full_volume",
    .program = "git --version",
    .size_bytes = 2 << 20,
    .run_option = "--on-full=sigbus",
    .scripts = {GIT "git init -q r; cd r\n"
                    "i=0; while [ $i -lt 200 ]; do i=$((i + 1))\n"
                    "    { head -c 100000 /dev/urandom >f$i && git add f$i && git commit -q -m $i; } "
                    "2>/dev/null || break\n"
                    "    echo $i >>\"$LOG\"\n"
                    "done\n"
                    "test $i -gt 3; test $i -lt 200",
                GIT "cd r; rm -f .git/index.lock\n"
                    "git fsck --full 2>&1 | grep -E 'error|missing|corrupt' && exit 1\n"
                    "test $(git rev-list --count HEAD) -ge $(last)"},
};

/* ------------------------------------------------------------------ Python, numpy */

/* On the mount it is flush() that says so. */
static const struct program_case python_on_a_full_volume = {
    .name = "python_on_a_full_volume",
    .program = "python3 --version",
    .size_bytes = 2 << 20,
    .mount_option = "mmap=late",
    .run_option = "--on-full=sigbus",
    .scripts = {"python3 -c '\n"
                "import mmap, os\n"
                "log = open(os.environ[\"LOG\"], \"w\")\n"
                "with open(\"f\", \"w+b\") as file:\n"
                "    file.truncate(8 << 20)\n"
                "    m = mmap.mmap(file.fileno(), 0)\n"
                "    for page in range(2048):\n"
                "        m[page * 4096:(page + 1) * 4096] = bytes([page % 251 + 1]) * 4096\n"
                "        if page % 16 == 15:\n"
                "            m.flush(); print(page, file=log, flush=True)\n"
                "' 2>/dev/null && exit 9\n"
                "test $(last) -gt 100; test $(last) -lt 512",
                "exec python3 -c '\n"
                "import os\n"
                "last = int(open(os.environ[\"LOG\"]).read().split()[-1])\n"
                "data = open(\"f\", \"rb\").read()\n"
                "for page in range(last + 1):\n"
                "    assert data[page * 4096:(page + 1) * 4096] == bytes([page % 251 + 1]) * 4096, page\n"
                "'"},
};

static const struct program_case numpy = {
    .name = "numpy",
    .program = "test -n \"$PYTHON\"",
    .size_bytes = 4 << 20,
    .mount_option = "rw",
    .run_option = "--on-full=sigbus",
    .scripts = {"exec \"$PYTHON\" -c '\n"
                "import numpy\n"
                "m = numpy.memmap(\"f\", dtype=\"<u4\", mode=\"w+\", shape=(500, 300))\n"
                "m[:] = numpy.arange(150000).reshape(500, 300)\n"
                "m[::7, 5] += 1\n"
                "again = numpy.memmap(\"f\", dtype=\"<u4\", mode=\"r+\", shape=(500, 300))\n"
                "assert again[14, 5] == 14 * 300 + 6\n"
                "again[499, 299] = 1; assert m[499, 299] == 1\n"
                "m.flush()\n"
                "'",
                "exec \"$PYTHON\" -c '\n"
                "import numpy\n"
                "m = numpy.memmap(\"f\", dtype=\"<u4\", mode=\"r\", shape=(500, 300))\n"
                "want = numpy.arange(150000).reshape(500, 300)\n"
                "want[::7, 5] += 1; want[499, 299] = 1\n"
                "assert (m == want).all()\n"
                "'"},
};

/* The mount says ENOSPC when the file grows, a store under run is SIGBUS. */
static const struct program_case numpy_on_a_full_volume = {
    .name = "numpy_on_a_full_volume",
    .program = "test -n \"$PYTHON\"",
    .size_bytes = 2 << 20,
    .mount_option = "rw",
    .run_option = "--on-full=sigbus",
    .scripts = {"\"$PYTHON\" -c '\n"
                "import numpy, os\n"
                "log = open(os.environ[\"LOG\"], \"w\")\n"
                "for k in range(100):\n"
                "    m = numpy.memmap(\"f%d\" % k, dtype=\"u1\", mode=\"w+\", shape=100000)\n"
                "    m[:] = k + 1\n"
                "    m.flush()\n"
                "    print(k, file=log, flush=True)\n"
                "' 2>/dev/null && exit 9\n"
                "test $(last) -gt 5; test $(last) -lt 99",
                "exec \"$PYTHON\" -c '\n"
                "import numpy, os\n"
                "for k in map(int, open(os.environ[\"LOG\"]).read().split()):\n"
                "    m = numpy.memmap(\"f%d\" % k, dtype=\"u1\", mode=\"r\", shape=100000)\n"
                "    assert (m == k + 1).all(), k\n"
                "'"},
};

/* ------------------------------------------------------------------ running */

/* A case on one frontend: the state of a test. */
struct on_frontend {
    const struct program_case *c;
    bool run;
    char name[64];
};

static struct mounted m;
static char side[256]; /* a directory beside the volume */

static int setup(void **state)
{
    (void)state;
    temp_path("both", side, sizeof(side));
    setenv("SIDE", side, 1);
    return mkdir(side, 0700);
}

static int teardown(void **state)
{
    const char *const argv[] = {"rm", "-rf", side, NULL};

    (void)state;
    mounted_clear(&m);
    return mounted_run(argv, "/", SECONDS);
}

/* Mounts, runs the script in the volume, unmounts. */
static void on_mount(const struct program_case *c, const char *text)
{
    const char *const argv[] = {"sh", "-euc", text, NULL};
    int status;

    mounted_start(&m, c->mount_option);
    status = mounted_run(argv, m.dir, SECONDS);
    assert_that(status == 0, "the script left with %d", status);
    status = mounted_stop(&m);
    /* What a program's end wrote back without space nobody could be told of: then the mount's end tells it. */
    if (strcmp(c->mount_option, "mmap=late") != 0 || status != 1)
        assert_count(status, 0);
}

static void under_run(const struct program_case *c, const char *text)
{
    const char *args[] = {"run", "--volume", m.volume, "--inside", c->run_option,
                          "--",  "sh",       "-euc",   text,       NULL};
    int status = mounted_command(args, said, sizeof(said));

    assert_that(status == 0, "the script left with %d; it said: %s", status, said);
}

static bool usable(const char *condition)
{
    char text[256];
    const char *const argv[] = {"sh", "-c", text, NULL};

    snprintf(text, sizeof(text), "{ %s; } >/dev/null 2>&1", condition);
    return mounted_run(argv, "/", SECONDS) == 0;
}

/* The first python3 may be one that does not see the system's packages. */
static void find_python(void)
{
    static const char *const names[] = {"python3", "/usr/bin/python3"};
    char condition[64];

    setenv("PYTHON", "", 1);
    for (size_t i = 0; i < 2; i++) {
        snprintf(condition, sizeof(condition), "%s -c 'import numpy'", names[i]);
        if (usable(condition)) {
            setenv("PYTHON", names[i], 1);
            return;
        }
    }
}

static void run_case(void **state)
{
    const struct on_frontend *on = *state;
    const struct program_case *c = on->c;
    const char *why = on->run ? run_refused : NULL;
    char *text;

    if (why == NULL && !usable(c->program))
        why = "its program is not installed";
    if (why) {
        print_message("skipped: %s: %s\n", on->name, why);
        skip();
    }
    mounted_make(&m, c->size_bytes, 1024);
    for (unsigned i = 0; i < SCRIPTS_MAX && c->scripts[i]; i++) {
        assert_true(asprintf(&text, "%s%s", PRELUDE, c->scripts[i]) > 0);
        if (on->run)
            under_run(c, text);
        else
            on_mount(c, text);
        free(text);
    }
}

static const struct program_case *const cases[] = {
    &compiler, &compiler_on_a_full_volume, &lmdb, &lmdb_on_a_full_volume, &lmdb_map_that_does_not_fit,
    &fio,      &fio_on_a_full_volume,      &git,  &git_on_a_full_volume,  &python_on_a_full_volume,
    &numpy,    &numpy_on_a_full_volume,
};

#define NR_CASES (sizeof(cases) / sizeof(cases[0]))

/* HOLDFAST [LMDB_CLIENT [PATTERN]] */
int main(int argc, char **argv)
{
    static struct on_frontend on[2 * NR_CASES];
    static struct CMUnitTest tests[2 * NR_CASES];
    size_t nr_tests = 0;
    const char *refused;
    char *client;

    if (argc < 2)
        return 99;
    for (size_t i = 0; i < 2 * NR_CASES; i++) {
        const struct program_case *c = cases[i / 2];

        on[i].c = c;
        on[i].run = i % 2 == 1;
        snprintf(on[i].name, sizeof(on[i].name), "%s, %s", c->name, on[i].run ? "run" : "mount");
        if (on[i].run ? c->run_option : c->mount_option)
            tests[nr_tests++] = (struct CMUnitTest){on[i].name, run_case, setup, teardown, &on[i]};
    }
    run_refused = mounted_serves_mappings();
    refused = mounted_init(argv[1]);
    if (refused) {
        printf("skipped: %s\n", refused);
        return 77;
    }
    client = argc > 2 ? realpath(argv[2], NULL) : NULL; /* scripts run elsewhere */
    setenv("LMDB", client ? client : "", 1);
    free(client);
    find_python();
    if (argc > 3)
        cmocka_set_test_filter(argv[3]);
    return _cmocka_run_group_tests("programs_on_both", tests, nr_tests, NULL, NULL);
}
