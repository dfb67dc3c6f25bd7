/* SPDX-License-Identifier: MIT */
/*
 * dump.c - what the tables of a volume hold, row by row, for whoever wants to read them.
 *
 * Read-only, through a connection of its own; tables are asked of the database, so those that a later version
 * adds are told as well. A damaged database is told as far as it can be read. No locks.
 */
#include "fs/blockfs/check.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static int sql_failed(sqlite3 *sql, const char *table, int rc, char *err)
{
    snprintf(err, HF_BLOCKFS_ERR, "table %s: %s", table, sqlite3_errmsg(sql));
    return hf_metadb_errno(rc);
}

static void value_get(sqlite3_stmt *stmt, int column, struct hf_dump_value *value)
{
    static const enum hf_dump_type types[] = {[SQLITE_INTEGER] = HF_DUMP_INTEGER,
                                              [SQLITE_FLOAT] = HF_DUMP_TEXT,
                                              [SQLITE_TEXT] = HF_DUMP_TEXT,
                                              [SQLITE_BLOB] = HF_DUMP_BYTES,
                                              [SQLITE_NULL] = HF_DUMP_NULL};

    *value = (struct hf_dump_value){.column = sqlite3_column_name(stmt, column),
                                    .type = types[sqlite3_column_type(stmt, column)]};
    if (value->type == HF_DUMP_INTEGER) {
        value->integer = sqlite3_column_int64(stmt, column);
    } else if (value->type != HF_DUMP_NULL) {
        value->bytes = sqlite3_column_blob(stmt, column);
        value->len = (size_t)sqlite3_column_bytes(stmt, column);
    }
}

static int dump_rows(sqlite3 *sql, const char *table, const struct hf_dump_ops *ops, void *arg, char *err)
{
    char *text = sqlite3_mprintf("SELECT * FROM \"%w\"", table);
    struct hf_dump_value *values = NULL;
    sqlite3_stmt *stmt = NULL;
    int rc = text ? sqlite3_prepare_v2(sql, text, -1, &stmt, NULL) : SQLITE_NOMEM, ret = 0, nr = 0;

    if (rc == SQLITE_OK) {
        nr = sqlite3_column_count(stmt);
        values = calloc((size_t)nr + 1, sizeof(*values));
        rc = values ? sqlite3_step(stmt) : SQLITE_NOMEM;
    }
    for (; rc == SQLITE_ROW && ret == 0; rc = ret == 0 ? sqlite3_step(stmt) : SQLITE_DONE) {
        for (int i = 0; i < nr; i++)
            value_get(stmt, i, &values[i]);
        ret = ops->row(arg, table, values, (unsigned)nr);
    }
    if (ret == 0 && rc != SQLITE_DONE)
        ret = sql_failed(sql, table, rc, err);
    sqlite3_finalize(stmt);
    sqlite3_free(text);
    free(values);
    return ret;
}

static int dump_object(sqlite3 *sql, sqlite3_stmt *stmt, const struct hf_dump_ops *ops, void *arg, char *err)
{
    const char *type = (const char *)sqlite3_column_text(stmt, 0);
    const char *name = (const char *)sqlite3_column_text(stmt, 1);
    const char *text = (const char *)sqlite3_column_text(stmt, 2);
    int ret = 0;

    if (!type || !name)
        return -ENOMEM;
    if (ops->object && text)
        ret = ops->object(arg, type, name, text);
    if (ret == 0 && ops->row && strcmp(type, "table") == 0)
        ret = dump_rows(sql, name, ops, arg, err);
    return ret;
}

static int dump_all(sqlite3 *sql, const char *table, const struct hf_dump_ops *ops, void *arg, char *err)
{
    static const char all[] = "SELECT type, name, sql FROM sqlite_schema WHERE sql NOT NULL AND"
                              " (?1 IS NULL OR name = ?1 AND type = 'table') ORDER BY rowid";
    sqlite3_stmt *stmt = NULL;
    int rc = sqlite3_prepare_v2(sql, all, -1, &stmt, NULL), ret = 0, found = 0;

    if (rc == SQLITE_OK && table)
        rc = sqlite3_bind_text(stmt, 1, table, -1, SQLITE_STATIC);
    if (rc == SQLITE_OK)
        rc = sqlite3_step(stmt);
    for (; rc == SQLITE_ROW && ret == 0; rc = ret == 0 ? sqlite3_step(stmt) : SQLITE_DONE) {
        found++;
        ret = dump_object(sql, stmt, ops, arg, err);
    }
    if (ret == 0 && rc != SQLITE_DONE)
        ret = sql_failed(sql, "sqlite_schema", rc, err);
    if (ret == 0 && found == 0 && table) {
        snprintf(err, HF_BLOCKFS_ERR, "there is no table '%.64s'", table);
        ret = -ENOENT;
    }
    sqlite3_finalize(stmt);
    return ret;
}

int hf_blockfs_dump(struct hf_device *dev, const char *table, const struct hf_dump_ops *ops, void *arg,
                    char err[HF_BLOCKFS_ERR])
{
    struct hf_blockfs_header header;
    struct hf_metadb *db;
    int ret = hf_blockfs_header_read(dev, true, &header, NULL, err);

    if (ret == 0)
        ret = hf_metadb_open(dev, &header, true, err, &db);
    if (ret != 0)
        return ret;
    err[0] = 0;
    ret = dump_all(hf_metadb_handle(db), table, ops, arg, err);
    hf_metadb_close(db);
    return ret;
}
