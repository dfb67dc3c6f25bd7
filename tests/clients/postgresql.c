/* SPDX-License-Identifier: MIT */
/*
 * postgresql.c - a PostgreSQL server with its data directory on a volume, on the mount and under holdfast
 * run: what it confirmed is there after it was stopped, after the volume got full in the middle, and after it
 * or the volume's server was killed.
 *
 * Its cluster is made once, on the mount; each case begins with a copy of that volume. The server keeps its
 * shared memory for parallel queries in files of the data directory, so that under holdfast run several
 * processes share a mapping of ours. As it refuses to be root, it is run through as_user.c.
 */
#include "mounted.h"
#include "target.h"

#include <glob.h>
#include <sys/mount.h>

#define SECONDS 300 /* far more than any of this takes */
#define SAID_MAX 8192
#define SOCKET_DIR_MAX 80 /* the path of a socket in it has at most 107 */
#define VOLUME_BYTES (56u << 20)

struct fixture {
    struct mounted m;
    char side[256]; /* a directory beside the volume: sockets, logs, what was confirmed */
};

static char cluster[256], said[SAID_MAX]; /* cluster: a volume with a cluster in it, once it has been made */
static const char *run_refused;           /* NULL: holdfast run works */
static unsigned rounds = 1;               /* of killing: HF_TEST_ROUNDS */

static int remove_side(const char *side)
{
    const char *const argv[] = {"rm", "-rf", side, NULL};

    return mounted_run(argv, "/", SECONDS);
}

static int setup(void **state)
{
    struct fixture *f = calloc(1, sizeof(*f));
    char name[256];

    *state = f;
    if (!f)
        return -1;
    temp_path("pg", f->side, sizeof(f->side));
    if (strlen(f->side) > SOCKET_DIR_MAX) {
        snprintf(name, sizeof(name), "/tmp%s", strrchr(f->side, '/'));
        strcpy(f->side, name);
    }
    setenv("SIDE", f->side, 1);
    return mkdir(f->side, 0700);
}

static int teardown(void **state)
{
    struct fixture *f = *state;

    mounted_clear(&f->m);
    remove_side(f->side);
    free(f);
    return 0;
}

static int remove_cluster(void **state)
{
    (void)state;
    unlink(cluster);
    return 0;
}

/* ------------------------------------------------------------------ what scripts begin with */

/*
 * insert FROM TO N a commit a row of 32 * N bytes; $SIDE/confirmed gets each number when its commit was confirmed
 * verify [MIN]      so many are confirmed at least, all of them are there, and every row is what was put in
 * kill_all          SIGKILL to every process of the server, until all have been reaped: a new one takes a zombie with
 *                   the number in its lock file for another that runs. Nobody else's can be seen here
 */
#define PRELUDE                                                                                            \
    "export PGHOST=\"$SIDE\" PGUSER=postgres PGDATABASE=postgres TZ=UTC LC_ALL=C\n"                        \
    "touch \"$SIDE/confirmed\"\n"                                                                          \
    "up() { \"$AS_USER\" $PG/pg_ctl -D pg -l \"$SIDE/log\" -o \"-k $SIDE\" -w -t 250 start >\"$SIDE/up\" " \
    "|| "                                                                                                  \
    "    { cat \"$SIDE/log\"; exit 20; } }\n"                                                              \
    "down() { \"$AS_USER\" $PG/pg_ctl -D pg -m ${1-fast} -w -t 250 stop >\"$SIDE/down\"; }\n"              \
    "sql() { \"$AS_USER\" $PG/psql -XtqA -v ON_ERROR_STOP=1 \"$@\"; }\n"                                   \
    "insert() { seq $1 $2 |"                                                                               \
    "    sed \"s/.*/INSERT INTO t VALUES (&, $3, repeat(md5('&'), $3)) RETURNING i;/\" |"                  \
    "    sql >>\"$SIDE/confirmed\" 2>\"$SIDE/error\"; }\n"                                                 \
    "confirmed() { wc -l <\"$SIDE/confirmed\"; }\n"                                                        \
    "until_confirmed() { until test $(confirmed) -ge $1; do sleep 0.05; done; }\n"                         \
    "verify() { test $(confirmed) -ge ${1-1}\n"                                                            \
    "    test \"$(printf '%s\\n' 'CREATE TEMP TABLE c(i int);' \"\\copy c FROM '$SIDE/confirmed'\" "       \
    "\"SELECT count(*) FROM t FULL JOIN c USING (i) "                                                      \
    "WHERE pad IS NULL OR pad <> repeat(md5(i::text), n);\" | sql)\" = 0; }\n"                             \
    "kill_all() { while :; do n=0\n"                                                                       \
    "    for p in /proc/[0-9]*; do\n"                                                                      \
    "        read -r comm <$p/comm || continue\n"                                                          \
    "        test \"$comm\" != postgres || { n=1; kill -9 ${p#/proc/} || : ; }\n"                          \
    "    done 2>/dev/null; test $n = 1 || break; sleep 0.02; done; }\n"                                    \
    "checksums() { \"$AS_USER\" $PG/pg_checksums --check -D pg >/dev/null; }\n"

/* Until the volume is full; somebody must say so. */
#define FILL                                                                                       \
    "up; head -c $((($(df -k --output=avail . | tail -n 1) - 6000) * 1024)) /dev/urandom >spare\n" \
    "insert 1 100000 1000 && exit 9\n"                                                             \
    "grep -Eqs 'No space left|wrote only' \"$SIDE/error\" \"$SIDE/log\" || "                       \
    "    { cat \"$SIDE/error\" \"$SIDE/log\"; exit 10; }\n"
/* The server may have gone down by itself. */
#define RECOVER                                                                                         \
    "rm spare; down immediate || kill_all; up; verify 10; insert 200001 200020 1000; verify 30; down; " \
    "checksums\n"

/* Each in the middle of commits, whose rows are small: the volume is not to be full before it comes to that. */
#define KILL_POSTGRES                                                      \
    "up; insert 1 100000 10 & inserts=$!\n"                                \
    "until_confirmed $((20 + AFTER)); kill_all; wait $inserts && exit 9\n" \
    "up; verify 20\n"
#define KILL_SERVER                                                                   \
    "n=$(confirmed); insert 200001 300000 10 & inserts=$!\n"                          \
    "until_confirmed $((n + 20 + AFTER)); kill -9 $SERVER; wait $inserts && exit 9\n" \
    "kill_all\n"
#define REOPEN "up; verify 40; sql -c 'TRUNCATE t'; rm \"$SIDE/confirmed\"; down; checksums"

/* Starts in the volume; must succeed. */
static void on_mount(struct fixture *f, const char *text)
{
    const char *const argv[] = {"sh", "-euc", text, NULL};
    int status = mounted_run(argv, f->m.dir, SECONDS);

    assert_that(status == 0, "the script left with %d", status);
}

static void under_run(struct fixture *f, const char *text, int want_status)
{
    const char *args[] = {"run", "--volume", f->m.volume, "--inside", "--stats", "--on-full=sigbus",
                          "--",  "sh",       "-euc",      text,       NULL};
    int status = mounted_command(args, said, sizeof(said));

    assert_that(status == want_status, "the script left with %d; it said: %s", status, said);
}

static void check(struct fixture *f)
{
    const char *args[] = {"check", f->m.volume, NULL};
    int status = mounted_command(args, said, sizeof(said));

    assert_that(status == 0, "check left with %d; it said: %s", status, said);
}

/* Kills come after $AFTER more commits than they have to. */
static void round_begins(unsigned round)
{
    char after[16];

    snprintf(after, sizeof(after), "%u", round * 7 % 50);
    setenv("AFTER", after, 1);
}

static void copy(const char *from, const char *to)
{
    const char *const argv[] = {"cp", "--sparse=never", from, to, NULL}; /* the volume stays a thick one */

    assert_count(mounted_run(argv, "/", SECONDS), 0);
}

static void make_cluster(struct fixture *f)
{
    char *name = cluster;

    mounted_start(&f->m, NULL);
    on_mount(f, PRELUDE
             "\"$AS_USER\" $PG/initdb -k -D pg -U postgres --wal-segsize=1 --locale=C -E UTF8 -A trust "
             ">\"$SIDE/initdb\" || { cat \"$SIDE/initdb\"; exit 20; }\n"
             "cat >>pg/postgresql.conf <<END\n"
             "listen_addresses = ''\n"
             "dynamic_shared_memory_type = mmap\n"
             "shared_buffers = 1MB\n"
             "max_connections = 5\n"
             "max_wal_senders = 0\n"
             "wal_level = minimal\n"
             "min_wal_size = 2MB\n"
             "max_wal_size = 4MB\n"
             "autovacuum = off\n"
             "END\n"
             "up\n"
             "sql -c 'CREATE TABLE t(i int PRIMARY KEY, n int NOT NULL, pad text NOT NULL);"
             "        ALTER TABLE t ALTER pad SET STORAGE EXTERNAL'\n"
             "down\n"
             "checksums");
    assert_count(mounted_stop(&f->m), 0);
    check(f);
    temp_path("pg-cluster", name, sizeof(cluster));
    copy(f->m.volume, cluster);
}

/* A volume with a cluster, not served. */
static void begin(struct fixture *f)
{
    mounted_make(&f->m, VOLUME_BYTES, 1024);
    if (cluster[0] == '\0')
        make_cluster(f);
    else
        copy(cluster, f->m.volume);
}

static void begin_run(struct fixture *f)
{
    if (run_refused) {
        print_message("skipped: %s\n", run_refused);
        skip();
    }
    begin(f);
}

/* ------------------------------------------------------------------ cases */

static void on_a_full_volume(void **state)
{
    struct fixture *f = *state;

    begin(f);
    mounted_start(&f->m, NULL);
    on_mount(f, PRELUDE FILL RECOVER);
    assert_count(mounted_stop(&f->m), 0);
    check(f);
    mounted_start(&f->m, NULL);
    on_mount(f, PRELUDE "up; verify 30; down");
    assert_count(mounted_stop(&f->m), 0);
}

/* First the server of the database, then that of the mount. */
static void killed(void **state)
{
    struct fixture *f = *state;
    char pid[16];

    begin(f);
    for (unsigned round = 0; round < rounds; round++) {
        mounted_start(&f->m, NULL);
        snprintf(pid, sizeof(pid), "%d", (int)f->m.server);
        setenv("SERVER", pid, 1);
        round_begins(round);
        on_mount(f, PRELUDE KILL_POSTGRES KILL_SERVER);
        assert_count(mounted_wait(&f->m), 128 + SIGKILL);
        assert_ok(umount2(f->m.dir, MNT_DETACH) < 0 ? -errno : 0);
        mounted_start(&f->m, NULL);
        on_mount(f, PRELUDE REOPEN);
        assert_count(mounted_stop(&f->m), 0);
        check(f);
    }
}

static void run_on_a_full_volume(void **state)
{
    struct fixture *f = *state;
    const char *grow[] = {"grow", f->m.volume, "--size", "64M", NULL};

    begin_run(f);
    under_run(f, PRELUDE FILL RECOVER, 0);
    assert_that(strstr(said, "mappings 0,") == NULL, "it maps nothing of ours: %s", said);
    check(f);
    assert_count(mounted_command(grow, said, sizeof(said)), 0);
    under_run(f, PRELUDE "up; verify 30; insert 300001 300100 1000; verify 130; down; checksums", 0);
    check(f);
}

static void run_killed(void **state)
{
    struct fixture *f = *state;

    begin_run(f);
    for (unsigned round = 0; round < rounds; round++) {
        round_begins(round);
        under_run(f,
                  PRELUDE KILL_POSTGRES "for p in /proc/[0-9]*; do\n" /* the other child of holdfast run */
                                        "    read -r pid name what parent rest <$p/stat || continue\n"
                                        "    test $parent != $PPID || test $pid = $$ || SERVER=$pid\n"
                                        "done 2>/dev/null\n" KILL_SERVER,
                  1);
        assert_that(strstr(said, "the process that served the volume died") != NULL, "it said: %s", said);
        under_run(f, PRELUDE REOPEN, 0);
        check(f);
    }
}

/* Debian keeps its programs out of PATH. NULL: there is one, and it can be run; $PG says where. */
static const char *find_postgresql(const char *as_user)
{
    const char *const runs[] = {"sh", "-c", "exec \"$0\" id -un >/dev/null", as_user, NULL};
    glob_t found;

    if (glob("/usr/lib/postgresql/*/bin", 0, NULL, &found) != 0)
        return "PostgreSQL is not installed";
    setenv("PG", found.gl_pathv[found.gl_pathc - 1], 1);
    globfree(&found);
    setenv("AS_USER", as_user, 1);
    if (mounted_run(runs, "/", SECONDS) != 0)
        return "no user namespaces, or nobody has a name in them: PostgreSQL refuses to be root";
    return NULL;
}

#define CASE(fn) cmocka_unit_test_setup_teardown(fn, setup, teardown)

/* HOLDFAST AS_USER */
int main(int argc, char **argv)
{
    const struct CMUnitTest tests[] = {
        CASE(on_a_full_volume),
        CASE(killed),
        CASE(run_on_a_full_volume),
        CASE(run_killed),
    };
    static char as_user[4096];
    const char *refused;

    if (argc < 3 || realpath(argv[2], as_user) == NULL)
        return 99;
    if (getenv("HF_TEST_ROUNDS"))
        rounds = (unsigned)strtoul(getenv("HF_TEST_ROUNDS"), NULL, 10);
    run_refused = mounted_serves_mappings();
    refused = mounted_init(argv[1]);
    if (refused == NULL)
        refused = find_postgresql(as_user);
    if (refused) {
        printf("skipped: %s\n", refused);
        return 77;
    }
    if (argc > 3)
        cmocka_set_test_filter(argv[3]);
    return cmocka_run_group_tests_name("postgresql", tests, NULL, remove_cluster);
}
