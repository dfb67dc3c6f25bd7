/* SPDX-License-Identifier: MIT */
/*
 * txn.c - the running transaction and its redo log; see txn.h.
 *
 * The log is a sequence of entries: statement (1 byte), number of arguments (1 byte), then each argument: its
 * number (8 bytes), whether bytes follow (1 byte), the bytes.
 */
#include "fs/blockfs/txn.h"

#include <assert.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#define MAX_ARGS 12
#define LOG_MIN 65536u /* kept between transactions */

static const struct {
    const char *text;
    int rows;
} stmts[HF_STMT_NR] = {
#define X(name, rows, text) [HF_STMT_##name] = {text, rows},
    HF_TXN_STMTS(X)
#undef X
};

_Static_assert(HF_STMT_NR < 256, "the log has a byte for the statement");

void hf_txn_init(struct hf_txn *txn, struct hf_metadb *db, bool read_only)
{
    *txn = (struct hf_txn){.db = db, .read_only = read_only, .id = 1};
}

void hf_txn_done(struct hf_txn *txn)
{
    for (int i = 0; i < HF_STMT_NR; i++)
        sqlite3_finalize(txn->stmts[i]);
    free(txn->log);
    *txn = (struct hf_txn){0};
}

/* ---- statements */

static int stmt_bind(struct hf_txn *txn, enum hf_txn_stmt id, const struct hf_txn_arg *args, size_t nr,
                     sqlite3_stmt **ret_stmt)
{
    sqlite3_stmt *stmt = txn->stmts[id];
    int rc = SQLITE_OK;

    if (stmt == NULL) {
        rc = sqlite3_prepare_v3(hf_metadb_handle(txn->db), stmts[id].text, -1, SQLITE_PREPARE_PERSISTENT,
                                &stmt, NULL);
        if (rc != SQLITE_OK)
            return (rc & 0xff) == SQLITE_ERROR ? -EUCLEAN : hf_metadb_errno(rc); /* a table is missing */
        txn->stmts[id] = stmt;
    }
    assert((int)nr == sqlite3_bind_parameter_count(stmt));
    for (size_t i = 0; i < nr && rc == SQLITE_OK; i++) {
        if (args[i].bytes != NULL)
            rc = sqlite3_bind_blob(stmt, (int)i + 1, args[i].bytes, (int)args[i].number, SQLITE_STATIC);
        else
            rc = sqlite3_bind_int64(stmt, (int)i + 1, args[i].number);
    }
    if (rc != SQLITE_OK)
        return hf_metadb_errno(rc);
    *ret_stmt = stmt;
    return 0;
}

int hf_txn_step(sqlite3_stmt *stmt)
{
    int rc = sqlite3_step(stmt);

    if (rc == SQLITE_ROW)
        return 1;
    if ((rc & 0xff) == SQLITE_CONSTRAINT)
        return -EEXIST;
    return hf_metadb_errno(rc);
}

static int stmt_run(struct hf_txn *txn, enum hf_txn_stmt id, const struct hf_txn_arg *args, size_t nr)
{
    sqlite3_stmt *stmt;
    int rc = stmt_bind(txn, id, args, nr, &stmt);

    if (rc != 0)
        return rc;
    rc = hf_txn_step(stmt);
    assert(rc <= 0 && "a change gives no rows");
    sqlite3_reset(stmt);
    sqlite3_clear_bindings(stmt);
    if (rc != 0)
        return rc;
    txn->changes = sqlite3_changes64(hf_metadb_handle(txn->db));
    txn->nr_extents += (uint64_t)(stmts[id].rows * txn->changes);
    return 0;
}

/* ---- the log */

static size_t entry_size(const struct hf_txn_arg *args, size_t nr)
{
    size_t size = 2;

    for (size_t i = 0; i < nr; i++)
        size += 9 + (args[i].bytes != NULL ? (size_t)args[i].number : 0);
    return size;
}

static int log_grow(struct hf_txn *txn, size_t size)
{
    size_t max = txn->log_max;
    unsigned char *log;

    if (txn->log_len + size <= max)
        return 0;
    while (txn->log_len + size > max)
        max = max < LOG_MIN ? LOG_MIN : max * 2;
    log = realloc(txn->log, max);
    if (log == NULL)
        return -ENOMEM;
    txn->log = log;
    txn->log_max = max;
    return 0;
}

int hf_txn_reserve(struct hf_txn *txn, unsigned nr)
{
    return log_grow(txn, nr * (2 + 9 * (size_t)MAX_ARGS));
}

/* log_grow() has made room. */
static void log_append(struct hf_txn *txn, enum hf_txn_stmt id, const struct hf_txn_arg *args, size_t nr)
{
    unsigned char *p = txn->log + txn->log_len;

    assert(nr <= MAX_ARGS);
    *p++ = (unsigned char)id;
    *p++ = (unsigned char)nr;
    for (size_t i = 0; i < nr; i++) {
        memcpy(p, &args[i].number, 8);
        p[8] = args[i].bytes != NULL;
        p += 9;
        if (args[i].bytes != NULL) {
            memcpy(p, args[i].bytes, (size_t)args[i].number);
            p += args[i].number;
        }
    }
    txn->log_len = (size_t)(p - txn->log);
}

/* Runs the entry at p; returns where the next one starts in *ret_next. */
static int log_run(struct hf_txn *txn, const unsigned char *p, const unsigned char **ret_next)
{
    struct hf_txn_arg args[MAX_ARGS];
    enum hf_txn_stmt id = *p++;
    size_t nr = *p++;

    for (size_t i = 0; i < nr; i++) {
        memcpy(&args[i].number, p, 8);
        args[i].bytes = p[8] ? p + 9 : NULL;
        p += 9 + (p[8] ? args[i].number : 0);
    }
    *ret_next = p;
    return stmt_run(txn, id, args, nr);
}

/* ---- the transaction */

static bool txn_usable(struct hf_txn *txn)
{
    return txn->applied && hf_metadb_in_transaction(txn->db);
}

static void txn_lose(struct hf_txn *txn)
{
    hf_metadb_rollback(txn->db);
    txn->applied = false;
    txn->nr_extents = txn->nr_extents_committed;
}

int hf_txn_start(struct hf_txn *txn)
{
    const unsigned char *p = txn->log;
    int rc;

    if (txn->read_only)
        return -EROFS;
    if (txn_usable(txn))
        return 0;
    txn_lose(txn);
    rc = hf_metadb_begin(txn->db);
    while (rc == 0 && txn->log_len > 0 && p < txn->log + txn->log_len)
        rc = log_run(txn, p, &p);
    if (rc != 0) {
        txn_lose(txn);
        return rc;
    }
    txn->applied = true;
    return 0;
}

int hf_txn_exec(struct hf_txn *txn, enum hf_txn_stmt id, const struct hf_txn_arg *args, size_t nr)
{
    int rc = hf_txn_start(txn);

    if (rc == 0)
        rc = log_grow(txn, entry_size(args, nr));
    if (rc == 0)
        rc = stmt_run(txn, id, args, nr);
    if (rc == 0)
        log_append(txn, id, args, nr);
    return rc;
}

int hf_txn_post(struct hf_txn *txn, enum hf_txn_stmt id, const struct hf_txn_arg *args, size_t nr)
{
    int rc = log_grow(txn, entry_size(args, nr));

    if (rc != 0)
        return rc;
    log_append(txn, id, args, nr);
    if (!txn_usable(txn))
        return hf_txn_start(txn);
    rc = stmt_run(txn, id, args, nr);
    if (rc != 0)
        txn_lose(txn);
    return rc;
}

void hf_txn_cancel(struct hf_txn *txn, size_t mark)
{
    assert(mark <= txn->log_len);
    if (mark == txn->log_len && txn_usable(txn))
        return;
    txn->log_len = mark;
    txn_lose(txn);
}

int hf_txn_commit(struct hf_txn *txn)
{
    int rc;

    if (txn->log_len == 0)
        return 0;
    rc = hf_txn_start(txn);
    if (rc != 0)
        return rc;
    rc = hf_metadb_commit(txn->db);
    if (rc != 0) {
        txn_lose(txn);
        return rc;
    }
    txn->applied = false;
    txn->log_len = 0;
    txn->nr_extents_committed = txn->nr_extents;
    txn->id++;
    return 0;
}

/* ---- reading */

int hf_txn_query(struct hf_txn *txn, enum hf_txn_stmt id, const struct hf_txn_arg *args, size_t nr,
                 sqlite3_stmt **ret_stmt)
{
    int rc = txn->log_len == 0 ? 0 : hf_txn_start(txn);

    return rc != 0 ? rc : stmt_bind(txn, id, args, nr, ret_stmt);
}

int hf_txn_number(struct hf_txn *txn, enum hf_txn_stmt id, const struct hf_txn_arg *args, size_t nr,
                  int64_t *ret_number)
{
    sqlite3_stmt *stmt;
    int rc = hf_txn_query(txn, id, args, nr, &stmt);

    if (rc != 0)
        return rc;
    rc = hf_txn_step(stmt);
    if (rc > 0)
        *ret_number = sqlite3_column_int64(stmt, 0);
    sqlite3_reset(stmt);
    if (rc < 0)
        return rc;
    return rc > 0 ? 0 : -ENOENT;
}
