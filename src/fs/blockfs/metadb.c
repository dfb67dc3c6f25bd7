/* SPDX-License-Identifier: MIT */
/*
 * metadb.c - opening, committing and checking the metadata database.
 *
 * Invariants
 *   - SQLite never checkpoints by itself: a commit's result is about the commit alone, and a checkpoint's
 * error is told to whoever needs the room.
 *   - max_page_count keeps the database inside its region, so a checkpoint always has a place for each page.
 *   - The device has guaranteed the first owned_pages of a thin volume's region, and the database has no more
 * pages than that: whoever makes it larger asks before (hf_metadb_own()).
 *   - A running transaction puts each page into the WAL at most once (SQLite rewrites its own frames in
 * place), and keeps at most cache_pages of them back; that is what hf_metadb_wal_room() counts on. Locks: the
 * driver's mutex around everything. Neighbours: metadb_vfs.c below, the driver above.
 */
#include "fs/blockfs/metadb_vfs.h"

#include "base/fault_mark.h"
#include "dev/device_io.h"

#include <assert.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#define CACHE_PAGES_MIN 16u
#define CACHE_PAGES_MAX 2048u
/* Frames that the count below does not see: pages pinned while the cache is full, and the padding of a
 * commit. */
#define WAL_SLACK 10u
/* The least an extent row can take on its page: so much of the region is certainly extents, not names. */
#define EXTENT_BYTES_MIN 10u
#define INODE_GROWTH 96u /* bytes of an inode, when its row gets as long as it can */
/* Thin volumes: pages that the device is asked for at once. */
#define OWN_PAGES 64u

enum metadb_stmt { STMT_BEGIN, STMT_COMMIT, STMT_ROLLBACK, STMT_PAGES, STMT_FREE_PAGES, NR_STMTS };

static const char *const stmt_text[NR_STMTS] = {
    [STMT_BEGIN] = "BEGIN IMMEDIATE",
    [STMT_COMMIT] = "COMMIT",
    [STMT_ROLLBACK] = "ROLLBACK",
    [STMT_PAGES] = "PRAGMA page_count",
    [STMT_FREE_PAGES] = "PRAGMA freelist_count",
};

struct hf_metadb {
    /* set at init */
    struct hf_metadb_vfs *vfs;
    sqlite3 *sql;
    sqlite3_stmt *stmts[NR_STMTS];
    bool read_only;
    uint32_t wal_frames;  /* the WAL region holds so many */
    uint32_t cache_pages; /* SQLite's page cache */
    uint32_t max_pages;   /* the metadata region holds so many */
    /* guarded by the driver's mutex */
    bool thin;
    uint32_t owned_pages; /* of a thin volume: so many the device has guaranteed, from the first on */
};

int hf_metadb_errno(int sqlite_rc)
{
    switch (sqlite_rc & 0xff) {
    case SQLITE_OK:
    case SQLITE_ROW:
    case SQLITE_DONE:
        return 0;
    case SQLITE_FULL:
        return -ENOSPC;
    case SQLITE_NOMEM:
        return -ENOMEM;
    case SQLITE_BUSY:
    case SQLITE_LOCKED:
        return -EBUSY;
    case SQLITE_READONLY:
        return -EROFS;
    case SQLITE_IOERR:
        return sqlite_rc == SQLITE_IOERR_NOMEM ? -ENOMEM : -EIO;
    case SQLITE_CORRUPT:
    case SQLITE_NOTADB:
    case SQLITE_CANTOPEN:   /* of the two files there are: the WAL claims a format SQLite does not know */
    case SQLITE_CONSTRAINT: /* the driver's statements keep the constraints; what is there does not */
    case SQLITE_ERROR:      /* likewise: a table or column is missing */
    case SQLITE_SCHEMA:
        return -EUCLEAN;
    default:
        return -EIO;
    }
}

/* One line about the last error of sql. */
static int sql_fail(sqlite3 *sql, int rc, char *err, const char *what)
{
    int error = hf_metadb_errno(rc);

    if (rc == SQLITE_OK || rc == SQLITE_ROW || rc == SQLITE_DONE)
        error = -EUCLEAN;
    snprintf(err, HF_BLOCKFS_ERR, "%s: %s", what, sql ? sqlite3_errmsg(sql) : sqlite3_errstr(rc));
    return error;
}

static int sql_exec(sqlite3 *sql, const char *text, char *err, const char *what)
{
    int rc = sqlite3_exec(sql, text, NULL, NULL, NULL);

    return rc == SQLITE_OK ? 0 : sql_fail(sql, rc, err, what);
}

/*
 * First column of the first row as text, "" if there is none. The statement is run to its end: some pragmas
 * commit there, and fail there.
 */
static int sql_text(sqlite3 *sql, const char *text, char *ret_text, size_t size, char *err, const char *what)
{
    const char *value = NULL;
    sqlite3_stmt *stmt;
    int rc = sqlite3_prepare_v2(sql, text, -1, &stmt, NULL);

    if (rc != SQLITE_OK)
        return sql_fail(sql, rc, err, what);
    rc = sqlite3_step(stmt);
    if (rc == SQLITE_ROW)
        value = (const char *)sqlite3_column_text(stmt, 0);
    snprintf(ret_text, size, "%s", value ? value : "");
    while (rc == SQLITE_ROW)
        rc = sqlite3_step(stmt);
    rc = sqlite3_finalize(stmt);
    return rc == SQLITE_OK ? 0 : sql_fail(sql, rc, err, what);
}

/* ---- opening */

static uint32_t clamp_u32(uint64_t value, uint32_t least, uint32_t most)
{
    if (value < least)
        return least;
    return value > most ? most : (uint32_t)value;
}

static struct hf_metadb *metadb_alloc(const struct hf_blockfs_header *header, bool read_only)
{
    struct hf_metadb *db = calloc(1, sizeof(*db));

    if (!db)
        return NULL;
    db->read_only = read_only;
    db->wal_frames =
        clamp_u32((header->wal_len - HF_METADB_WAL_HEADER) / (uint64_t)HF_METADB_WAL_FRAME, 1, 1u << 30);
    db->cache_pages = clamp_u32(db->wal_frames / 4, CACHE_PAGES_MIN, CACHE_PAGES_MAX);
    db->max_pages = clamp_u32(hf_blockfs_metadb_bytes(header) / HF_METADB_PAGE, 1, HF_BLOCKFS_METADB_PAGES);
    db->thin = header->flags & HF_BLOCKFS_THIN;
    return db;
}

static void metadb_free(struct hf_metadb *db)
{
    for (int i = 0; i < NR_STMTS; i++)
        sqlite3_finalize(db->stmts[i]);
    if (db->sql) {
        int rc = sqlite3_close(db->sql);

        assert(rc == SQLITE_OK && "a statement was not finalized");
        (void)rc;
    }
    hf_metadb_vfs_free(db->vfs);
    free(db);
}

#ifdef HF_TESTING
static int on_statement(unsigned event, void *arg, void *stmt, void *text)
{
    (void)event;
    (void)arg;
    (void)stmt;
    hf_fault_mark_forbid(text);
    return 0;
}

/* Every statement that begins to run on this connection, whoever runs it. */
static void metadb_watch(sqlite3 *sql)
{
    sqlite3_trace_v2(sql, SQLITE_TRACE_STMT, on_statement, NULL);
}
#else
static void metadb_watch(sqlite3 *sql)
{
    (void)sql;
}
#endif

/* Opens the connection; what is set here does not read the database yet. */
static int metadb_connect(struct hf_metadb *db, char *err)
{
    int flags = SQLITE_OPEN_NOMUTEX | SQLITE_OPEN_EXRESCODE;
    int rc;

    flags |= db->read_only ? SQLITE_OPEN_READONLY : SQLITE_OPEN_READWRITE | SQLITE_OPEN_CREATE;
    rc = sqlite3_open_v2(HF_METADB_FILE, &db->sql, flags, db->vfs->name);
    if (rc != SQLITE_OK)
        return sql_fail(db->sql, rc, err, "metadata database");
    metadb_watch(db->sql);
    sqlite3_db_config(db->sql, SQLITE_DBCONFIG_NO_CKPT_ON_CLOSE, 1, NULL);
    sqlite3_db_config(db->sql, SQLITE_DBCONFIG_TRUSTED_SCHEMA, 0, NULL);
    sqlite3_db_config(db->sql, SQLITE_DBCONFIG_DQS_DML, 0, NULL);
    sqlite3_db_config(db->sql, SQLITE_DBCONFIG_DQS_DDL, 0, NULL);
    return sql_exec(db->sql,
                    "PRAGMA locking_mode = EXCLUSIVE;"
                    "PRAGMA temp_store = MEMORY;"
                    "PRAGMA mmap_size = 0;"
                    "PRAGMA foreign_keys = OFF;"
                    "PRAGMA cell_size_check = ON",
                    err, "metadata database");
}

/* The settings that read the database. */
static int metadb_configure(struct hf_metadb *db, char *err)
{
    char text[256];
    int ret;

    snprintf(text, sizeof(text),
             "PRAGMA synchronous = FULL; PRAGMA wal_autocheckpoint = 0;"
             "PRAGMA cache_size = %u; PRAGMA cache_spill = %u; PRAGMA max_page_count = %u",
             db->cache_pages, db->cache_pages, db->max_pages);
    ret = sql_exec(db->sql, text, err, "metadata database");
    if (!ret)
        sqlite3_db_config(db->sql, SQLITE_DBCONFIG_DEFENSIVE, 1, NULL);
    return ret;
}

static int metadb_prepare(struct hf_metadb *db, char *err)
{
    for (int i = 0; i < NR_STMTS; i++) {
        int rc =
            sqlite3_prepare_v3(db->sql, stmt_text[i], -1, SQLITE_PREPARE_PERSISTENT, &db->stmts[i], NULL);

        if (rc != SQLITE_OK)
            return sql_fail(db->sql, rc, err, "metadata database");
    }
    return 0;
}

/* What SQLite accepts but we did not make: another page size, another journal mode, and triggers and views,
 * which would have our statements do something else. */
static int metadb_check(struct hf_metadb *db, char *err)
{
    char text[32];
    int ret;

    ret =
        sql_text(db->sql, "SELECT count(*) FROM sqlite_schema", text, sizeof(text), err, "metadata database");
    if (!ret)
        ret = sql_text(db->sql, "PRAGMA page_size", text, sizeof(text), err, "metadata database");
    if (ret)
        return ret;
    if (strtoul(text, NULL, 10) != HF_METADB_PAGE) {
        snprintf(err, HF_BLOCKFS_ERR, "metadata database: damaged: its page size is %s", text);
        return -EUCLEAN;
    }
    ret = sql_text(db->sql, "PRAGMA journal_mode", text, sizeof(text), err, "metadata database");
    if (ret)
        return ret;
    if (strcmp(text, "wal") != 0) {
        snprintf(err, HF_BLOCKFS_ERR, "metadata database: damaged: its journal mode is %s, not wal", text);
        return -EUCLEAN;
    }
    ret = sql_text(db->sql,
                   "SELECT type || ' ' || name FROM sqlite_schema WHERE type NOT IN ('table', 'index')", text,
                   sizeof(text), err, "metadata database");
    if (!ret && text[0]) {
        snprintf(err, HF_BLOCKFS_ERR, "metadata database: damaged: it has the %s, which is none of ours",
                 text);
        return -EUCLEAN;
    }
    return ret;
}

int hf_metadb_open(struct hf_device *dev, const struct hf_blockfs_header *header, bool read_only,
                   char err[HF_BLOCKFS_ERR], struct hf_metadb **ret_db)
{
    struct hf_metadb *db = metadb_alloc(header, read_only || dev->read_only);
    int ret = db ? 0 : -ENOMEM;

    if (!ret)
        ret = hf_metadb_vfs_new(dev, header, db->read_only, false, &db->vfs);
    if (ret) {
        snprintf(err, HF_BLOCKFS_ERR, "metadata database: %s", strerror(-ret));
        free(db);
        return ret;
    }
    ret = metadb_connect(db, err);
    if (!ret)
        ret = metadb_check(db, err);
    if (!ret)
        ret = metadb_configure(db, err);
    if (!ret)
        ret = metadb_prepare(db, err);
    if (ret) {
        metadb_free(db);
        return ret;
    }
    *ret_db = db;
    return 0;
}

int hf_metadb_resize(struct hf_metadb *db, const struct hf_blockfs_header *header)
{
    uint32_t pages = clamp_u32(hf_blockfs_metadb_bytes(header) / HF_METADB_PAGE, 1, HF_BLOCKFS_METADB_PAGES);
    char text[64], got[16], err[HF_BLOCKFS_ERR];
    int ret;

    snprintf(text, sizeof(text), "PRAGMA max_page_count = %u", pages);
    ret = sql_text(db->sql, text, got, sizeof(got), err, "metadata database");
    if (ret)
        return ret;
    hf_metadb_vfs_regions(db->vfs, header);
    db->max_pages = pages;
    return 0;
}

int hf_metadb_close(struct hf_metadb *db)
{
    int ret = 0;

    if (!db)
        return 0;
    hf_metadb_rollback(db);
    if (!db->read_only)
        ret = hf_metadb_checkpoint(db);
    metadb_free(db);
    return ret;
}

sqlite3 *hf_metadb_handle(struct hf_metadb *db)
{
    hf_fault_mark_forbid("the database is asked for");
    return db->sql;
}

/* ---- formatting */

/* What an earlier volume left there must not be taken for ours. */
static int format_erase(struct hf_device *dev, const struct hf_blockfs_header *header)
{
    static const char zeros[HF_METADB_PAGE];
    int ret = hf_dev_write(dev, zeros, sizeof(zeros), (hf_off_t)header->metadb_off);

    if (!ret)
        ret = hf_dev_write(dev, zeros, sizeof(zeros), (hf_off_t)header->wal_off);
    return ret ? ret : hf_dev_flush(dev);
}

static int format_populate(struct hf_metadb *db, const struct hf_blockfs_header *header, char *err)
{
    struct timespec now;
    char mode[16];
    int ret;

    /* The change to WAL mode is itself a transaction in the mode before; OFF needs no journal file. */
    ret = sql_exec(db->sql, "PRAGMA page_size = 4096; PRAGMA journal_mode = OFF", err, "metadata database");
    if (!ret)
        ret = sql_text(db->sql, "PRAGMA journal_mode = WAL", mode, sizeof(mode), err, "metadata database");
    if (!ret)
        ret = metadb_check(db, err);
    if (!ret)
        ret = metadb_configure(db, err);
    if (!ret)
        ret = sql_exec(db->sql, "BEGIN IMMEDIATE", err, "metadata database");
    if (ret)
        return ret;
    clock_gettime(CLOCK_REALTIME, &now);
    ret = hf_blockfs_schema_populate(db->sql, header, (int64_t)now.tv_sec * 1000000000 + now.tv_nsec);
    if (ret) {
        snprintf(err, HF_BLOCKFS_ERR, "metadata database: %s (%s)", sqlite3_errmsg(db->sql), strerror(-ret));
        return ret;
    }
    return sql_exec(db->sql, "COMMIT", err, "metadata database");
}

int hf_metadb_format(struct hf_device *dev, const struct hf_blockfs_header *header, char err[HF_BLOCKFS_ERR])
{
    struct hf_metadb *db = metadb_alloc(header, false);
    int ret = db ? format_erase(dev, header) : -ENOMEM;

    if (!ret)
        ret = hf_metadb_vfs_new(dev, header, false, true, &db->vfs);
    if (ret) {
        snprintf(err, HF_BLOCKFS_ERR, "metadata database: %s", strerror(-ret));
        free(db);
        return ret;
    }
    ret = metadb_connect(db, err);
    if (!ret)
        ret = format_populate(db, header, err);
    if (!ret) {
        int rc = sqlite3_wal_checkpoint_v2(db->sql, NULL, SQLITE_CHECKPOINT_TRUNCATE, NULL, NULL);

        ret = rc == SQLITE_OK ? 0 : sql_fail(db->sql, rc, err, "metadata database");
    }
    metadb_free(db);
    if (!ret && hf_dev_flush(dev)) {
        snprintf(err, HF_BLOCKFS_ERR, "metadata database: the device did not flush");
        ret = -EIO;
    }
    return ret;
}

/* ---- transactions */

static int stmt_run(struct hf_metadb *db, enum metadb_stmt which)
{
    sqlite3_step(db->stmts[which]);
    return hf_metadb_errno(sqlite3_reset(db->stmts[which]));
}

static int stmt_number(struct hf_metadb *db, enum metadb_stmt which, uint32_t *ret_number)
{
    uint32_t number = 0;
    int rc = sqlite3_step(db->stmts[which]);

    if (rc == SQLITE_ROW)
        number = (uint32_t)sqlite3_column_int64(db->stmts[which], 0);
    rc = sqlite3_reset(db->stmts[which]);
    if (rc != SQLITE_OK)
        return hf_metadb_errno(rc);
    *ret_number = number;
    return 0;
}

bool hf_metadb_in_transaction(struct hf_metadb *db)
{
    return !sqlite3_get_autocommit(db->sql);
}

static uint32_t wal_frames_used(const struct hf_metadb *db)
{
    int64_t bytes = db->vfs->wal_end - HF_METADB_WAL_HEADER;

    return bytes <= 0 ? 0 : (uint32_t)((bytes + HF_METADB_WAL_FRAME - 1) / HF_METADB_WAL_FRAME);
}

int hf_metadb_begin(struct hf_metadb *db)
{
    if (db->read_only)
        return -EROFS;
    if (wal_frames_used(db) > db->wal_frames / 4) {
        int ret = hf_metadb_checkpoint(db);

        /* Let the next one try, as long as this one has room. */
        if (ret && hf_metadb_wal_room(db) < db->wal_frames / 4)
            return ret;
    }
    return stmt_run(db, STMT_BEGIN);
}

int hf_metadb_commit(struct hf_metadb *db)
{
    int ret = stmt_run(db, STMT_COMMIT);

    if (ret)
        hf_metadb_rollback(db);
    return ret;
}

void hf_metadb_rollback(struct hf_metadb *db)
{
    if (hf_metadb_in_transaction(db))
        stmt_run(db, STMT_ROLLBACK);
}

int hf_metadb_checkpoint(struct hf_metadb *db)
{
    if (hf_metadb_in_transaction(db))
        return -EBUSY;
    return hf_metadb_errno(sqlite3_wal_checkpoint_v2(db->sql, NULL, SQLITE_CHECKPOINT_TRUNCATE, NULL, NULL));
}

/* ---- room */

uint32_t hf_metadb_wal_room(struct hf_metadb *db)
{
    uint64_t taken = (uint64_t)wal_frames_used(db) + db->cache_pages + WAL_SLACK;

    return taken < db->wal_frames ? (uint32_t)(db->wal_frames - taken) : 0;
}

int hf_metadb_room(struct hf_metadb *db, struct hf_metadb_room *ret_room)
{
    uint32_t pages = 0, free_pages = 0;
    int ret;

    ret = stmt_number(db, STMT_PAGES, &pages);
    if (!ret)
        ret = stmt_number(db, STMT_FREE_PAGES, &free_pages);
    if (ret)
        return ret;
    ret_room->wal_pages = hf_metadb_wal_room(db);
    ret_room->db_pages = (pages < db->max_pages ? db->max_pages - pages : 0) + free_pages;
    ret_room->db_owned = ret_room->db_pages;
    if (db->thin)
        ret_room->db_owned = (pages < db->owned_pages ? db->owned_pages - pages : 0) + free_pages;
    return 0;
}

/* [from, to) of the pages, which are not in use. */
static int own_range(struct hf_metadb *db, uint32_t from, uint32_t to)
{
    int ret = hf_metadb_vfs_guarantee(db->vfs, (int64_t)from * HF_METADB_PAGE, (int64_t)to * HF_METADB_PAGE);

    if (!ret)
        db->owned_pages = to;
    return ret;
}

int hf_metadb_own(struct hf_metadb *db, uint64_t pages)
{
    uint32_t used = 0, free_pages = 0, from, need;
    int ret;

    if (!db->thin)
        return 0;
    ret = stmt_number(db, STMT_PAGES, &used);
    if (!ret)
        ret = stmt_number(db, STMT_FREE_PAGES, &free_pages);
    if (ret)
        return ret;
    need = clamp_u32(used + (pages > free_pages ? pages - free_pages : 0), 0, db->max_pages);
    if (need <= db->owned_pages)
        return 0;
    from = db->owned_pages > used ? db->owned_pages : used;
    ret = from < need ? own_range(db, from, clamp_u32((uint64_t)need + OWN_PAGES, 0, db->max_pages)) : 0;
    return ret == -ENOSPC ? own_range(db, from, need) : ret;
}

uint32_t hf_metadb_extent_pages(uint64_t nr_blocks, uint64_t nr_extents)
{
    uint64_t bytes = nr_blocks * HF_BLOCKFS_EXTENT_BYTES;
    uint64_t certain = nr_extents * EXTENT_BYTES_MIN;

    return clamp_u32(((bytes > certain ? bytes - certain : 0) + HF_METADB_PAGE - 1) / HF_METADB_PAGE, 0,
                     UINT32_MAX);
}

uint32_t hf_metadb_growth_pages(uint64_t nr_inodes)
{
    return clamp_u32(nr_inodes * INODE_GROWTH / HF_METADB_PAGE + 1, 0, UINT32_MAX);
}

/* ---- checking */

int hf_metadb_quick_check(struct hf_metadb *db, char err[HF_BLOCKFS_ERR])
{
    char text[160];
    int ret;

    ret = sql_text(db->sql, "PRAGMA quick_check(1)", text, sizeof(text), err, "metadata database");
    if (ret || strcmp(text, "ok") == 0)
        return ret;
    for (char *c = text; *c; c++) {
        if (*c == '\n')
            *c = ' ';
    }
    snprintf(err, HF_BLOCKFS_ERR, "metadata database: damaged: %s", text);
    return -EUCLEAN;
}
