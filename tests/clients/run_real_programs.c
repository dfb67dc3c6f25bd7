/* SPDX-License-Identifier: MIT */
/*
 * run_real_programs.c - SQLite and Python under holdfast run, also on a volume that gets full in the
 * middle: what they were told is done is there when the volume is served again.
 *
 * A program that is not installed is skipped. On a full volume a program may be told by an error or by
 * SIGBUS, but it must be told.
 */
#include "mounted.h"
#include "target.h"

#define SAID_MAX 4096

static char volume[256], log_path[300], said[SAID_MAX];

static int teardown(void **state)
{
    (void)state;
    unlink(volume);
    unlink(log_path);
    return 0;
}

static void begin(const char *program, const char *size)
{
    const char *const have[] = {"sh", "-c", "command -v \"$1\" >/dev/null", "sh", program, NULL};
    const char *mkfs[] = {"mkfs", "--block-size", "1K", "--size", size, volume, NULL};

    if (mounted_run(have, "/", 60) != 0) {
        print_message("skipped: %s is not installed\n", program);
        skip();
    }
    assert_that(mounted_command(mkfs, said, sizeof(said)) == 0, "mkfs said: %s", said);
}

/* Serves the volume for a shell script in its directory, which must succeed. */
static void script(const char *option, const char *text)
{
    const char *args[] = {"run", "--volume", volume, option, "--", "sh", "-euc", text, NULL};
    int status = mounted_command(args, said, sizeof(said));

    assert_that(status == 0, "the script left with %d; it said: %s", status, said);
}

/* ------------------------------------------------------------------ SQLite */

#define IN_DIR "cd \"$HOLDFAST_DIR\"\n"
/* Opening a database makes stores, too: on a volume that got full there must be a place for them. */
#define SPARE "head -c 300000 /dev/urandom >spare\n"

static void sqlite_in_two_processes(void **state)
{
    const char *check =
        IN_DIR "test \"$(sqlite3 db 'PRAGMA integrity_check; SELECT count(*), count(DISTINCT v) FROM t')\" = "
               "\"$(printf 'ok\\n40|40')\"";

    (void)state;
    begin("sqlite3", "8M");
    script("--on-full=sigbus",
           IN_DIR "sqlite3 db 'PRAGMA journal_mode=WAL; CREATE TABLE t(v TEXT, pad BLOB)' >/dev/null\n"
                  "for p in 1 2; do (\n"
                  "    echo '.timeout 90000'; echo 'PRAGMA mmap_size=67108864;'\n"
                  "    i=0; while [ $i -lt 20 ]; do i=$((i + 1))\n"
                  "        echo \"INSERT INTO t VALUES('$p-$i', randomblob(2000));\"\n"
                  "    done) | sqlite3 -bail db >/dev/null & pids=\"${pids-} $!\"\n"
                  "done\n"
                  "for pid in $pids; do wait $pid; done");
    script("--on-full=sigbus", check);
}

/* With reserve it gets an error, and what it confirmed leaves its buffer; SIGBUS would take that along. */
static void sqlite_on_a_full_volume(void **state)
{
    (void)state;
    begin("sqlite3", "2M");
    script("--on-full=reserve",
           IN_DIR SPARE "sqlite3 db 'PRAGMA journal_mode=WAL; CREATE TABLE t(pad BLOB)' >/dev/null\n"
                        "(echo 'PRAGMA mmap_size=67108864;'\n"
                        " i=0; while [ $i -lt 200 ]; do i=$((i + 1))\n"
                        "     echo 'INSERT INTO t VALUES(randomblob(20000)); SELECT max(rowid) FROM t;'\n"
                        " done) | sqlite3 -bail db >\"$LOG\" 2>/dev/null && exit 9\n"
                        "test \"$(tail -n 1 \"$LOG\")\" -gt 5");
    script("--on-full=reserve",
           IN_DIR "rm spare\nconfirmed=$(tail -n 1 \"$LOG\")\n"
                  "test \"$(sqlite3 db 'PRAGMA integrity_check')\" = ok\n"
                  "test \"$(sqlite3 db 'SELECT count(*) FROM t WHERE length(pad) = 20000')\" -ge $confirmed");
}

/* ------------------------------------------------------------------ Python */

static void python_mmap(void **state)
{
    (void)state;
    begin("python3", "4M");
    script("--on-full=sigbus", IN_DIR "exec python3 -c '\n"
                                      "import mmap\n"
                                      "with open(\"f\", \"w+b\") as file:\n"
                                      "    file.truncate(1 << 20)\n"
                                      "    with mmap.mmap(file.fileno(), 0) as m:\n"
                                      "        for at in range(0, 1 << 20, 1000): m[at] = at % 251\n"
                                      "        file.seek(5000); assert file.read(1)[0] == 5000 % 251\n"
                                      "        file.seek(5001); file.write(b\"w\"); file.flush()\n"
                                      "        assert m[5001] == ord(\"w\")\n"
                                      "'");
    script("--on-full=sigbus", IN_DIR "exec python3 -c '\n"
                                      "data = open(\"f\", \"rb\").read()\n"
                                      "assert all(data[at] == at % 251 for at in range(0, 1 << 20, 1000))\n"
                                      "assert data[5001] == ord(\"w\") and len(data) == 1 << 20\n"
                                      "'");
}

#define CASE(fn) cmocka_unit_test_teardown(fn, teardown)

/* HOLDFAST */
int main(int argc, char **argv)
{
    const struct CMUnitTest tests[] = {
        CASE(sqlite_in_two_processes),
        CASE(sqlite_on_a_full_volume),
        CASE(python_mmap),
    };
    const char *refused;

    if (argc < 2)
        return 99;
    temp_path("run", volume, sizeof(volume)); /* before mounted_init(): process ids are not unique after it */
    snprintf(log_path, sizeof(log_path), "%s.log", volume);
    setenv("LOG", log_path, 1);
    refused = mounted_serves_mappings();
    if (refused == NULL)
        refused = mounted_init(argv[1]);
    if (refused) {
        printf("skipped: %s\n", refused);
        return 77;
    }
    return cmocka_run_group_tests_name("run_real_programs", tests, NULL, NULL);
}
