/* SPDX-License-Identifier: MIT */
/*
 * real_programs.c - programs that know nothing of Holdfast, on a mounted volume, also on one that gets full
 * in the middle: what they were told is done is there after the volume has been closed and opened again.
 *
 * A program that is not installed is skipped.
 */
#include "mounted.h"
#include "target.h"

#define SECONDS 300 /* far more than any of this takes */

struct fixture {
    struct mounted m;
    char log[300]; /* what a script confirmed, outside of the volume */
};

static int setup(void **state)
{
    *state = calloc(1, sizeof(struct fixture));
    return *state ? 0 : -1;
}

static int teardown(void **state)
{
    struct fixture *f = *state;

    mounted_clear(&f->m);
    unlink(f->log);
    free(f);
    return 0;
}

static void begin(struct fixture *f, const char *program, uint64_t size_bytes)
{
    const char *const have[] = {
        "sh", "-c", "command -v \"$1\" >/dev/null && \"$1\" --version >/dev/null 2>&1", "sh", program, NULL};

    if (mounted_run(have, "/", SECONDS) != 0) {
        print_message("skipped: %s is not installed\n", program);
        skip();
    }
    mounted_make(&f->m, size_bytes, 1024);
    snprintf(f->log, sizeof(f->log), "%s.log", f->m.volume);
    setenv("LOG", f->log, 1);
    mounted_start(&f->m, NULL);
}

/* Runs a shell script in the volume; it must succeed. */
static void script(struct fixture *f, const char *text)
{
    const char *const argv[] = {"sh", "-euc", text, NULL};
    int status = mounted_run(argv, f->m.dir, SECONDS);

    assert_that(status == 0, "the script left with %d", status);
}

static void reopen(struct fixture *f)
{
    assert_count(mounted_stop(&f->m), 0);
    mounted_start(&f->m, NULL);
}

static void end(struct fixture *f)
{
    assert_count(mounted_stop(&f->m), 0);
}

/* ------------------------------------------------------------------ SQLite */

static void sqlite_in_several_processes(void **state)
{
    struct fixture *f = *state;
    const char *check =
        "test \"$(sqlite3 db 'PRAGMA integrity_check; SELECT count(*), count(DISTINCT v) FROM t')\" = "
        "\"$(printf 'ok\\n150|150')\"";

    begin(f, "sqlite3", 16 << 20);
    script(f, "sqlite3 db 'PRAGMA journal_mode=WAL; CREATE TABLE t(v TEXT, pad BLOB)' >/dev/null\n"
              "for p in 1 2 3; do (\n"
              "    echo '.timeout 90000'; echo 'PRAGMA mmap_size=67108864;'\n"
              "    i=0; while [ $i -lt 50 ]; do i=$((i + 1))\n"
              "        echo \"INSERT INTO t VALUES('$p-$i', randomblob(2000));\"\n"
              "    done) | sqlite3 -bail db >/dev/null & pids=\"${pids-} $!\"\n"
              "done\n"
              "for pid in $pids; do wait $pid; done");
    script(f, check);
    reopen(f);
    script(f, check);
    end(f);
}

static void sqlite_on_a_full_volume(void **state)
{
    struct fixture *f = *state;

    begin(f, "sqlite3", 4 << 20);
    script(f, "sqlite3 db 'PRAGMA journal_mode=WAL; CREATE TABLE t(pad BLOB)' >/dev/null\n"
              "(echo 'PRAGMA mmap_size=67108864;'\n"
              " i=0; while [ $i -lt 400 ]; do i=$((i + 1))\n"
              "     echo 'INSERT INTO t VALUES(randomblob(20000)); SELECT max(rowid) FROM t;'\n"
              " done) | sqlite3 -bail db >\"$LOG\" 2>/dev/null && exit 9\n" /* it must be told */
              "test \"$(tail -n 1 \"$LOG\")\" -gt 10");
    reopen(f);
    script(f, "confirmed=$(tail -n 1 \"$LOG\")\n"
              "test \"$(sqlite3 db 'PRAGMA integrity_check')\" = ok\n"
              "test \"$(sqlite3 db 'SELECT count(*) FROM t WHERE length(pad) = 20000')\" -ge $confirmed");
    end(f);
}

/* ------------------------------------------------------------------ fio */

static void fio_verifies_a_mapping(void **state)
{
    struct fixture *f = *state;

#define FIO                                                                                     \
    "fio --name=job --filename=f --ioengine=mmap --rw=randwrite --bs=4k --size=3M --fsync=100 " \
    "--verify=crc32c --verify_fatal=1 --verify_state_save=0 --randseed=7 --thread --output=\"$LOG\" "

    begin(f, "fio", 8 << 20);
    script(f, FIO "--do_verify=1");
    reopen(f);
    script(f, FIO "--verify_only=1");
    end(f);
}

/* ------------------------------------------------------------------ git */

#define GIT_SETUP                                                                                   \
    "export HOME=/nonexistent GIT_CONFIG_NOSYSTEM=1 GIT_CONFIG_GLOBAL=/dev/null GIT_AUTHOR_NAME=a " \
    "GIT_AUTHOR_EMAIL=a@example.org GIT_COMMITTER_NAME=a GIT_COMMITTER_EMAIL=a@example.org\n"

static void git_clone_commit_gc_fsck(void **state)
{
    struct fixture *f = *state;
    const char *check =
        GIT_SETUP "for r in one two; do (cd $r; git fsck --full --strict 2>&1 | grep -E 'error|missing' && "
                  "exit 1; git status --porcelain | grep . && exit 1; test $(git rev-list --count HEAD) "
                  "= 6) || exit 1; done";

    begin(f, "git", 32 << 20);
    script(f, GIT_SETUP
           "git init -q one; cd one\n"
           "for c in 1 2 3 4 5; do\n"
           "    for i in 1 2 3 4 5 6 7 8; do mkdir -p d$i; head -c 3000 /dev/urandom >d$i/f$c; done\n"
           "    git add .; git commit -q -m $c\n"
           "done\n"
           "cd ..; git clone -q one two; cd two\n"
           "echo more >d1/f1; git commit -q -a -m 6; git gc -q\n"
           "cd ../one; git pull -q ../two HEAD; git gc -q --prune=now");
    script(f, check);
    reopen(f);
    script(f, check);
    end(f);
}

static void git_on_a_full_volume(void **state)
{
    struct fixture *f = *state;

    begin(f, "git", 4 << 20);
    script(f, GIT_SETUP
           "git init -q r; cd r\n"
           "i=0; while [ $i -lt 200 ]; do i=$((i + 1))\n"
           "    { head -c 100000 /dev/urandom >f$i && git add f$i && git commit -q -m $i; } 2>/dev/null || "
           "break\n"
           "    echo $i >>\"$LOG\"\n"
           "done\n"
           "test $i -gt 3; test $i -lt 200");
    reopen(f);
    script(f, GIT_SETUP "cd r; rm -f .git/index.lock\n"
                        "git fsck --full 2>&1 | grep -E 'error|missing|corrupt' && exit 1\n"
                        "test $(git rev-list --count HEAD) -ge $(tail -n 1 \"$LOG\")");
    end(f);
}

/* ------------------------------------------------------------------ Python */

static void python_mmap(void **state)
{
    struct fixture *f = *state;

    begin(f, "python3", 4 << 20);
    script(f, "exec python3 -c '\n"
              "import mmap, os\n"
              "with open(\"f\", \"w+b\") as file:\n"
              "    file.truncate(1 << 20)\n"
              "    with mmap.mmap(file.fileno(), 0) as m:\n"
              "        for at in range(0, 1 << 20, 1000): m[at] = at % 251\n"
              "        file.seek(5000); assert file.read(1)[0] == 5000 % 251\n"
              "        file.seek(5001); file.write(b\"w\"); file.flush(); assert m[5001] == ord(\"w\")\n"
              "try:\n"
              "    with open(\"big\", \"w+b\") as file: file.truncate(1 << 30)\n"
              "    raise SystemExit(1)\n"
              "except OSError as e:\n"
              "    assert e.errno == 28, e\n"
              "'");
    reopen(f);
    script(f, "exec python3 -c '\n"
              "data = open(\"f\", \"rb\").read()\n"
              "assert all(data[at] == at % 251 for at in range(0, 1 << 20, 1000))\n"
              "assert data[5001] == ord(\"w\") and len(data) == 1 << 20\n"
              "'");
    end(f);
}

#define CASE(fn) cmocka_unit_test_setup_teardown(fn, setup, teardown)

int main(int argc, char **argv)
{
    const struct CMUnitTest tests[] = {
        CASE(sqlite_in_several_processes), CASE(sqlite_on_a_full_volume), CASE(fio_verifies_a_mapping),
        CASE(git_clone_commit_gc_fsck),    CASE(git_on_a_full_volume),    CASE(python_mmap),
    };
    const char *refused = argc > 1 ? mounted_init(argv[1]) : "no holdfast command given";

    if (refused) {
        printf("skipped: nothing can be mounted: %s\n", refused);
        return 77;
    }
    if (argc > 2)
        cmocka_set_test_filter(argv[2]);
    return cmocka_run_group_tests_name("real_programs", tests, NULL, NULL);
}
