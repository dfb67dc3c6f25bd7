/* SPDX-License-Identifier: MIT */
/*
 * check.c - the frame of the checker: headers, the database and its schema, and rounds of passes; see
 * check.h.
 *
 * Read-only, one round is made of all passes. A repair makes rounds until one finds nothing: a round ends
 * with the first pass that has queued fixes. What the last round finds nevertheless is left.
 */
#include "fs/blockfs/check.h"

#include "dev/device_io.h"
#include "fs/blockfs/blockfs.h"

#include <errno.h>
#include <inttypes.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

#define ROUNDS_MAX 64
#define TICKS 262144u       /* rows between two calls of progress() */
#define PATH_DEPTH 256      /* deeper paths are not spelled out */
#define VERSION_MAX 1000000 /* no version of ours will ever be as high: that is damage */

/* ---- telling */

/* Names come from the volume: no byte of theirs may end the line or drive a terminal. */
static void make_plain(char *text)
{
    for (; *text; text++)
        if ((unsigned char)*text < 0x20 || *text == 0x7f)
            *text = '?';
}

void hf_check_problem(struct hf_check *c, const char *kind, int64_t ino, const char *repair,
                      const char *format, ...)
{
    char text[HF_CHECK_TEXT];
    struct hf_check_problem problem = {
        .kind = kind, .text = text, .repair = repair, .ino = ino > 0 ? (uint64_t)ino : 0, .left = c->final};
    va_list args;

    va_start(args, format);
    vsnprintf(text, sizeof(text), format, args);
    va_end(args);
    make_plain(text);
    c->found++;
    if (c->final || !c->repair)
        c->result.left++;
    if (!c->final)
        c->result.problems++;
    if (c->opts->report)
        c->opts->report(c->opts->arg, &problem);
}

void hf_check_tick(struct hf_check *c, const char *what, uint64_t done, uint64_t total)
{
    if (c->opts->progress && (++c->ticks % TICKS == 0 || done == 0))
        c->opts->progress(c->opts->arg, what, done, total);
}

struct hf_check_node *hf_check_node(struct hf_check *c, int64_t ino)
{
    size_t low = 0, high = c->nr_nodes;

    while (low < high) {
        size_t mid = low + (high - low) / 2;

        if (c->nodes[mid].ino < ino)
            low = mid + 1;
        else
            high = mid;
    }
    return low < c->nr_nodes && c->nodes[low].ino == ino ? &c->nodes[low] : NULL;
}

/* Puts "/name" before what is at *at of path. False: it does not fit, or cannot be read. */
static bool path_prepend(struct hf_check *c, const struct hf_check_node *node, size_t *at)
{
    int len;
    bool ok = false;

    if (!c->name_stmt && sqlite3_prepare_v2(c->sql, "SELECT name FROM names WHERE dir = ?1 AND cookie = ?2",
                                            -1, &c->name_stmt, NULL) != SQLITE_OK)
        return false;
    sqlite3_bind_int64(c->name_stmt, 1, node->dir);
    sqlite3_bind_int64(c->name_stmt, 2, node->cookie);
    if (sqlite3_step(c->name_stmt) == SQLITE_ROW) {
        len = sqlite3_column_bytes(c->name_stmt, 0);
        if (len > 0 && (size_t)len + 1 < *at) {
            *at -= (size_t)len + 1;
            c->path[*at] = '/';
            memcpy(c->path + *at + 1, sqlite3_column_blob(c->name_stmt, 0), (size_t)len);
            ok = true;
        }
    }
    sqlite3_reset(c->name_stmt);
    return ok;
}

/* The path by the names that count; "": not known. */
static const char *path_of(struct hf_check *c, const struct hf_check_node *node)
{
    size_t at = sizeof(c->path) - 1;

    c->path[at] = 0;
    if (node && node->ino == HF_BLOCKFS_ROOT_INO)
        return "/";
    for (int depth = 0; node && node->ino != HF_BLOCKFS_ROOT_INO; depth++) {
        if (node->dir == 0 || depth == PATH_DEPTH || !path_prepend(c, node, &at))
            return "";
        node = hf_check_node(c, node->dir);
    }
    return node ? c->path + at : "";
}

const char *hf_check_who(struct hf_check *c, int64_t ino)
{
    const char *path = path_of(c, hf_check_node(c, ino));

    snprintf(c->who, sizeof(c->who), *path ? "inode %lld (%s)" : "inode %lld", (long long)ino, path);
    return c->who;
}

/* ---- statements */

static void query_failed(struct hf_check *c, const char *table, int sqlite_rc)
{
    int rc = hf_metadb_errno(sqlite_rc);

    if (rc != -EUCLEAN) {
        if (c->rc == 0) {
            c->rc = rc;
            snprintf(c->err, HF_BLOCKFS_ERR, "table %s: %s", table, strerror(-rc));
        }
        return;
    }
    if (!c->unreadable)
        hf_check_problem(c, "table-unreadable", 0, NULL, "table %s cannot be read: %s", table,
                         sqlite3_errmsg(c->sql));
    c->unreadable = true;
}

sqlite3_stmt *hf_check_query(struct hf_check *c, const char *table, const char *text)
{
    sqlite3_stmt *stmt = NULL;
    int rc;

    if (c->rc != 0 || c->unreadable)
        return NULL;
    rc = sqlite3_prepare_v2(c->sql, text, -1, &stmt, NULL);
    if (rc != SQLITE_OK)
        query_failed(c, table, rc);
    return rc == SQLITE_OK ? stmt : NULL;
}

bool hf_check_row(struct hf_check *c, const char *table, sqlite3_stmt *stmt)
{
    int rc;

    if (!stmt)
        return false;
    rc = c->rc == 0 && !c->unreadable ? sqlite3_step(stmt) : SQLITE_DONE;
    if (rc == SQLITE_ROW)
        return true;
    if (rc != SQLITE_DONE)
        query_failed(c, table, rc);
    sqlite3_finalize(stmt);
    return false;
}

int64_t hf_check_number(struct hf_check *c, const char *table, const char *text, int64_t fallback)
{
    sqlite3_stmt *stmt = hf_check_query(c, table, text);
    int64_t number = fallback;
    bool first = true;

    while (hf_check_row(c, table, stmt)) {
        if (first)
            number = sqlite3_column_int64(stmt, 0);
        first = false;
    }
    return number;
}

/* ---- headers */

struct copy {
    const char *name;
    enum hf_blockfs_copy which;
    hf_off_t off;
    int rc;
    struct hf_blockfs_header header;
};

static void copy_read(struct hf_check *c, struct copy *copy)
{
    uint8_t bytes[HF_BLOCKFS_HEADER_BYTES];

    copy->rc = hf_dev_read(c->dev, bytes, sizeof(bytes), copy->off);
    if (copy->rc == 0)
        copy->rc = hf_blockfs_header_decode(bytes, &copy->header);
}

static bool header_same(const struct hf_blockfs_header *a, const struct hf_blockfs_header *b)
{
    uint8_t bytes_a[HF_BLOCKFS_HEADER_BYTES], bytes_b[HF_BLOCKFS_HEADER_BYTES];

    hf_blockfs_header_encode(a, bytes_a);
    hf_blockfs_header_encode(b, bytes_b);
    return memcmp(bytes_a, bytes_b, sizeof(bytes_a)) == 0;
}

/* The copy that nobody reads is mended from the one that c->header came from. */
static void check_copies(struct hf_check *c, enum hf_blockfs_copy used)
{
    struct copy other = {.name = used == HF_BLOCKFS_COPY_PRIMARY ? "copy of the header" : "primary header",
                         .which = used == HF_BLOCKFS_COPY_PRIMARY ? HF_BLOCKFS_COPY_BACKUP
                                                                  : HF_BLOCKFS_COPY_PRIMARY};
    int rc;

    if (other.which == HF_BLOCKFS_COPY_BACKUP)
        other.off = (hf_off_t)(c->header.volume_bytes - HF_BLOCKFS_HEADER_BYTES);
    copy_read(c, &other);
    if (other.rc == -EIO)
        hf_check_problem(c, "header-copy", 0, "it is written anew from the one that is whole",
                         "the %s at %lld cannot be read: the device failed", other.name,
                         (long long)other.off);
    else if (other.rc != 0)
        hf_check_problem(c, "header-copy", 0, "it is written anew from the one that is whole",
                         "the %s at %lld is damaged: %s", other.name, (long long)other.off,
                         other.rc == -EMEDIUMTYPE ? "it has no magic" : "its checksum does not hold");
    else if (!header_same(&other.header, &c->header))
        hf_check_problem(c, "header-differs", 0, "it is written anew from the primary",
                         "the %s at %lld says something else (generation %" PRIu64 ", the primary %" PRIu64
                         "): writing it was interrupted",
                         other.name, (long long)other.off, other.header.generation, c->header.generation);
    else
        return;
    if (!c->repair)
        return;
    rc = hf_blockfs_header_write_copy(c->dev, &c->header, other.which);
    if (rc != 0 && c->rc == 0) {
        c->rc = rc;
        snprintf(c->err, HF_BLOCKFS_ERR, "the %s cannot be written: %s", other.name, strerror(-rc));
    }
}

/* 0: c->header is to be believed; 1: said, nothing more can be done; or an error. */
static int read_header(struct hf_check *c, enum hf_blockfs_copy *ret_used)
{
    int rc = hf_blockfs_header_read(c->dev, !c->repair, &c->header, ret_used, c->err);

    if (rc == -EUCLEAN) {
        hf_check_problem(c, "header", 0, NULL, "%s", c->err);
        c->result.incomplete = true;
        return 1;
    }
    if (rc == 0)
        c->result.blocks = c->header.data_blocks; /* the pass over extents subtracts holes */
    return rc;
}

/* ---- the database */

/* What SQLite says of an index can be mended from its table; the rest cannot. */
static bool is_about_index(const char *text)
{
    return strstr(text, "index names_by_name") != NULL;
}

/* The index is made anew; if it was not unique, the later of two equal names gets another. */
static void fix_index(struct hf_check *c)
{
    hf_check_fix(c, "DROP INDEX IF EXISTS names_by_name;"
                    "UPDATE names SET name = CAST('duplicate-' || cookie AS BLOB) WHERE (dir, cookie) IN"
                    " (SELECT dir, cookie FROM (SELECT dir, cookie, row_number() OVER"
                    "  (PARTITION BY dir, name ORDER BY cookie) AS nr FROM names) WHERE nr > 1);"
                    "CREATE UNIQUE INDEX names_by_name ON names(dir, name)");
}

static void check_integrity(struct hf_check *c)
{
    sqlite3_stmt *stmt;
    bool index = false, other = false;

    hf_check_tick(c, "database", 0, 0);
    stmt = hf_check_query(c, "sqlite_schema", "PRAGMA integrity_check(100)");
    while (hf_check_row(c, "sqlite_schema", stmt)) {
        const char *text = (const char *)sqlite3_column_text(stmt, 0);

        if (!text || strcmp(text, "ok") == 0)
            continue;
        if (is_about_index(text)) {
            if (!index)
                hf_check_problem(c, "index", 0, "the index is made anew from its table",
                                 "metadata database: %s", text);
            index = true;
        } else {
            hf_check_problem(
                c, "database", 0, NULL,
                "metadata database: %s (rows are lost: restore a copy, or see what 'holdfast dump' "
                "and 'get' can still read)",
                text);
            other = true;
        }
    }
    c->unreadable = c->unreadable || other;
    if (index && !c->unreadable)
        fix_index(c);
}

static const char *find_sql(struct hf_check *c, sqlite3_stmt *stmt, const char *type, const char *name)
{
    (void)c;
    sqlite3_reset(stmt);
    sqlite3_bind_text(stmt, 1, type, -1, SQLITE_STATIC);
    sqlite3_bind_text(stmt, 2, name, -1, SQLITE_STATIC);
    return sqlite3_step(stmt) == SQLITE_ROW ? (const char *)sqlite3_column_text(stmt, 0) : NULL;
}

/* One table or index that ought to be there; found: as it is, or NULL. */
static void check_object(struct hf_check *c, const char *type, const char *name, const char *wanted,
                         const char *found)
{
    bool vital = strcmp(name, "inodes") == 0 || strcmp(name, "extents") == 0;

    if (found && strcmp(found, wanted) == 0)
        return;
    if (found || vital) {
        hf_check_problem(c, found ? "schema-differs" : "schema-missing", 0, NULL,
                         found ? "%s %s is not made as this version makes it" : "%s %s is missing", type,
                         name);
        c->unreadable = true;
        return;
    }
    hf_check_problem(c, "schema-missing", 0,
                     strcmp(type, "index") == 0 ? "it is made anew from its table" : "it is made anew, empty",
                     "%s %s is missing", type, name);
    if (strcmp(name, "names_by_name") == 0)
        fix_index(c);
    else
        hf_check_fix(c, "%s", wanted);
    /* Nothing can be compared with what is not there. */
    c->unreadable = c->unreadable || !c->repair;
}

/* Compares the tables with those that a new volume would get. */
static void check_schema(struct hf_check *c)
{
    static const char all[] = "SELECT type, name, sql FROM sqlite_schema WHERE sql NOT NULL";
    sqlite3_stmt *stmt =
        hf_check_query(c, "sqlite_schema", "SELECT sql FROM sqlite_schema WHERE type = ?1 AND name = ?2");
    sqlite3_stmt *wanted = NULL;
    sqlite3 *model = NULL;

    if (!stmt)
        return;
    if (sqlite3_open(":memory:", &model) == SQLITE_OK &&
        hf_blockfs_schema_populate(model, &c->header, 0) == 0)
        sqlite3_prepare_v2(model, all, -1, &wanted, NULL);
    if (!wanted && c->rc == 0)
        c->rc = -ENOMEM;
    while (wanted && sqlite3_step(wanted) == SQLITE_ROW) {
        const char *type = (const char *)sqlite3_column_text(wanted, 0);
        const char *name = (const char *)sqlite3_column_text(wanted, 1);

        check_object(c, type, name, (const char *)sqlite3_column_text(wanted, 2),
                     find_sql(c, stmt, type, name));
    }
    sqlite3_finalize(wanted);
    sqlite3_finalize(stmt);
    sqlite3_close(model);
}

/* ---- a round */

static void load_inodes(struct hf_check *c)
{
    static const char text[] = "SELECT i.ino, i.mode, i.nlink, i.parent, o.ino NOT NULL FROM inodes AS i"
                               " LEFT JOIN orphans AS o ON o.ino = i.ino ORDER BY i.ino";
    int64_t nr = hf_check_number(c, "inodes", "SELECT count(*) FROM inodes", 0);
    sqlite3_stmt *stmt = hf_check_query(c, "inodes", text);

    c->nodes = calloc((size_t)nr + 1, sizeof(*c->nodes));
    if (!c->nodes && c->rc == 0)
        c->rc = -ENOMEM;
    while (hf_check_row(c, "inodes", stmt)) {
        int64_t nlink = sqlite3_column_int64(stmt, 2);

        if (c->nr_nodes == (size_t)nr)
            continue; /* SQLite counted fewer: the database is damaged, and its check says so */
        hf_check_tick(c, "inodes", c->nr_nodes, (uint64_t)nr);
        c->nodes[c->nr_nodes++] = (struct hf_check_node){
            .ino = sqlite3_column_int64(stmt, 0),
            .type = (uint16_t)(sqlite3_column_int64(stmt, 1) & S_IFMT),
            .nlink = nlink < 0 || nlink > UINT32_MAX ? UINT32_MAX : (uint32_t)nlink,
            .parent = sqlite3_column_int64(stmt, 3),
            .orphan = sqlite3_column_int(stmt, 4) != 0,
        };
    }
}

/* A name that leads somewhere counts; of a directory's the one that its own row confirms. */
static void load_name(struct hf_check *c, int64_t dir, int64_t cookie, int64_t ino)
{
    struct hf_check_node *parent = hf_check_node(c, dir), *node = hf_check_node(c, ino);

    if (!parent || !node || parent->type != S_IFDIR || ino == HF_BLOCKFS_ROOT_INO)
        return;
    node->names++;
    if (node->dir != 0 && (node->type != S_IFDIR || dir != node->parent || node->dir == node->parent))
        return;
    node->dir = dir;
    node->cookie = cookie;
}

static void load_names(struct hf_check *c)
{
    sqlite3_stmt *stmt =
        hf_check_query(c, "names", "SELECT dir, cookie, ino FROM names ORDER BY dir, cookie");

    c->result.names = 0;
    while (hf_check_row(c, "names", stmt)) {
        int64_t cookie = sqlite3_column_int64(stmt, 1);

        hf_check_tick(c, "names", c->result.names++, 0);
        if (cookie > c->max_cookie && cookie < HF_CHECK_ID_MAX)
            c->max_cookie = cookie;
        load_name(c, sqlite3_column_int64(stmt, 0), cookie, sqlite3_column_int64(stmt, 2));
    }
    for (size_t i = 0; i < c->nr_nodes; i++) {
        struct hf_check_node *dir = c->nodes[i].type == S_IFDIR ? hf_check_node(c, c->nodes[i].dir) : NULL;

        if (dir)
            dir->subdirs++;
    }
    c->result.inodes = c->nr_nodes;
}

static void check_integrity_and_schema(struct hf_check *c)
{
    check_integrity(c);
    if (!c->unreadable)
        check_schema(c);
    /* The index cannot be made from a table that has other columns than ours. */
    if (c->unreadable)
        hf_check_drop_fixes(c);
}

static void load(struct hf_check *c)
{
    load_inodes(c);
    load_names(c);
}

typedef void pass_fn(struct hf_check *c);
static pass_fn *const passes[] = {
    check_integrity_and_schema, load,           hf_check_meta, hf_check_inodes,
    hf_check_extents,           hf_check_names, hf_check_tree, hf_check_links,
};

static void round_done(struct hf_check *c)
{
    hf_check_drop_fixes(c);
    sqlite3_finalize(c->name_stmt);
    c->name_stmt = NULL;
    free(c->nodes);
    c->nodes = NULL;
    c->nr_nodes = 0;
    hf_freemap_done(&c->map);
    c->max_cookie = c->lost_found = 0;
    c->unreadable = false;
    c->owners_named = 0;
}

/* True: fixes were carried out, the check has to start anew. */
static bool run_passes(struct hf_check *c)
{
    for (size_t i = 0; i < sizeof(passes) / sizeof(passes[0]); i++) {
        passes[i](c);
        if (c->rc == 0 && c->nr_fixes != 0) {
            int rc = hf_check_apply(c);

            if (rc == 0)
                return true;
            c->rc = rc;
        }
        if (c->rc != 0 || c->unreadable)
            break;
    }
    return false;
}

/* The log that a crash left has frames; how many are good SQLite finds out. */
static bool log_in_use(struct hf_check *c)
{
    uint8_t magic[4] = {0};

    return hf_dev_read(c->dev, magic, sizeof(magic), (hf_off_t)c->header.wal_off) == 0 &&
           (magic[0] | magic[1] | magic[2] | magic[3]) != 0;
}

static int open_database(struct hf_check *c)
{
    int rc;

    c->result.replayed = c->result.replayed || log_in_use(c);
    rc = hf_metadb_open(c->dev, &c->header, !c->repair, c->err, &c->db);
    if (rc == -EUCLEAN) {
        hf_check_problem(c, "database", 0, NULL, "%s", c->err);
        c->result.incomplete = true;
        return 1;
    }
    if (rc == 0)
        c->sql = hf_metadb_handle(c->db);
    return rc;
}

/* One open of the database: rounds until nothing is left to do. 1: said already, no more can be done. */
static int check_database(struct hf_check *c)
{
    uint64_t before = UINT64_MAX;
    bool again = true;
    int rc = open_database(c), err;

    if (rc != 0)
        return rc;
    for (int round = 0; again && round < ROUNDS_MAX; round++) {
        c->found = 0;
        again = run_passes(c);
        c->result.incomplete = c->unreadable;
        round_done(c);
        /* A fix that mends nothing must not go on for ever. */
        if (again && round > ROUNDS_MAX / 2 && c->found >= before)
            break;
        before = c->found;
    }
    err = hf_metadb_close(c->db);
    c->db = NULL;
    c->sql = NULL;
    if (c->rc == 0 && err != 0) {
        c->rc = err;
        snprintf(c->err, HF_BLOCKFS_ERR, "metadata database: %s", strerror(-err));
    }
    return c->rc;
}

/* The newest version of tables that meta claims; what cannot be read is for check_database() to say. */
static int64_t schema_version(struct hf_check *c)
{
    static const char text[] = "SELECT max(schema_version) FROM meta";
    int64_t version = HF_BLOCKFS_SCHEMA;
    sqlite3_stmt *stmt = NULL;

    if (sqlite3_prepare_v2(hf_metadb_handle(c->db), text, -1, &stmt, NULL) == SQLITE_OK &&
        sqlite3_step(stmt) == SQLITE_ROW && sqlite3_column_type(stmt, 0) == SQLITE_INTEGER)
        version = sqlite3_column_int64(stmt, 0);
    sqlite3_finalize(stmt);
    return version;
}

/* A newer volume is not a damaged one. Nothing has been written yet. */
static int check_version(struct hf_check *c)
{
    int64_t version;
    int rc = hf_metadb_open(c->dev, &c->header, true, c->err, &c->db);

    if (rc == -EUCLEAN)
        return 0;
    if (rc != 0)
        return rc;
    version = schema_version(c);
    hf_metadb_close(c->db);
    c->db = NULL;
    if (version <= HF_BLOCKFS_SCHEMA || version > VERSION_MAX)
        return 0;
    snprintf(c->err, HF_BLOCKFS_ERR,
             "the volume's tables have version %lld; this program knows %d: use a newer one",
             (long long)version, HF_BLOCKFS_SCHEMA);
    return -EPROTONOSUPPORT;
}

/* All of it, once: a repair does this a second time, reading only. */
static int check_all(struct hf_check *c)
{
    enum hf_blockfs_copy used;
    int rc = read_header(c, &used);

    if (rc == 0)
        rc = check_version(c);
    if (rc == 0) {
        check_copies(c, used);
        rc = c->rc;
    }
    return rc != 0 ? rc : check_database(c);
}

int hf_blockfs_check(struct hf_device *dev, const struct hf_check_options *opts,
                     struct hf_check_result *ret_result, char err[HF_BLOCKFS_ERR])
{
    struct hf_check *c = calloc(1, sizeof(*c));
    int rc;

    err[0] = 0;
    if (!c)
        return -ENOMEM;
    c->dev = dev;
    c->opts = opts;
    c->err = err;
    c->repair = (opts->flags & HF_CHECK_REPAIR) != 0;
    rc = c->repair && dev->read_only ? -EROFS : check_all(c);
    if (rc >= 0 && c->repair && c->result.problems != 0) {
        c->final = true;
        c->repair = false;
        rc = check_all(c);
    }
    rc = rc > 0 ? 0 : rc;
    if (rc == 0)
        *ret_result = c->result;
    else if (err[0] == 0)
        snprintf(err, HF_BLOCKFS_ERR, "%s", strerror(-rc));
    free(c->fixes);
    free(c);
    return rc;
}
