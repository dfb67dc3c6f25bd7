/* SPDX-License-Identifier: MIT */
/*
 * repair.c - the fixes that passes have queued, and carrying them out.
 *
 * A fix is SQL that mends one thing. Each runs in a savepoint: one that breaks a constraint is undone and
 * passed over, the next check tells what is left. All fixes of a pass are one transaction, unless the log has
 * no room for them: then there are several, cut between fixes, never inside one.
 */
#include "fs/blockfs/blockfs.h"
#include "fs/blockfs/check.h"

#include <dirent.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <time.h>

#define FIXES_MAX 65536u /* queued at once; the next round finds the rest */

void hf_check_fix(struct hf_check *c, const char *format, ...)
{
    va_list args;
    char *text;

    if (!c->repair || c->rc != 0 || c->nr_fixes == FIXES_MAX)
        return;
    if (c->nr_fixes == c->max_fixes) {
        size_t max = c->max_fixes != 0 ? 2 * c->max_fixes : 64;
        char **fixes = realloc(c->fixes, max * sizeof(*fixes));

        if (!fixes) {
            c->rc = -ENOMEM;
            return;
        }
        c->fixes = fixes;
        c->max_fixes = max;
    }
    va_start(args, format);
    text = sqlite3_vmprintf(format, args);
    va_end(args);
    if (!text)
        c->rc = -ENOMEM;
    else
        c->fixes[c->nr_fixes++] = text;
}

void hf_check_drop_fixes(struct hf_check *c)
{
    for (size_t i = 0; i < c->nr_fixes; i++)
        sqlite3_free(c->fixes[i]);
    c->nr_fixes = 0;
}

/* ---- lost+found */

static bool name_free(struct hf_check *c, int64_t dir, const char *name, int64_t *ret_ino)
{
    sqlite3_stmt *stmt =
        hf_check_query(c, "names", "SELECT ino FROM names WHERE dir = ?1 AND name = CAST(?2 AS BLOB)");
    bool free = true;

    if (!stmt)
        return false;
    sqlite3_bind_int64(stmt, 1, dir);
    sqlite3_bind_text(stmt, 2, name, -1, SQLITE_STATIC);
    while (hf_check_row(c, "names", stmt)) {
        *ret_ino = sqlite3_column_int64(stmt, 0);
        free = false;
    }
    return free;
}

static void lost_found_make(struct hf_check *c, const char *name)
{
    int64_t ino = c->next_id++, cookie = c->next_id++;
    struct timespec now;
    long long ns;

    clock_gettime(CLOCK_REALTIME, &now);
    ns = (long long)now.tv_sec * 1000000000 + now.tv_nsec;
    hf_check_fix(
        c,
        "INSERT INTO inodes(ino, mode, uid, gid, nlink, rdev, parent, size, atime, mtime, ctime, btime,"
        " project, flags) VALUES(%lld, %d, 0, 0, 2, 0, %u, 0, %lld, %lld, %lld, %lld, 0, 0);"
        "INSERT INTO names(dir, cookie, name, ino, type) VALUES(%u, %lld, CAST(%Q AS BLOB), %lld, %d);"
        "UPDATE inodes SET nlink = nlink + 1 WHERE ino = %u;"
        "UPDATE meta SET next_id = %lld",
        (long long)ino, S_IFDIR | 0700, HF_BLOCKFS_ROOT_INO, ns, ns, ns, ns, HF_BLOCKFS_ROOT_INO,
        (long long)cookie, name, (long long)ino, DT_DIR, HF_BLOCKFS_ROOT_INO, (long long)c->next_id);
    c->lost_found = ino;
}

/* Finds /lost+found, or has it made; under another name if a file has that one. */
static void lost_found_get(struct hf_check *c)
{
    char name[32] = "lost+found";
    int64_t ino = 0;

    for (int i = 1; !name_free(c, HF_BLOCKFS_ROOT_INO, name, &ino) && c->rc == 0 && !c->unreadable; i++) {
        const struct hf_check_node *node = hf_check_node(c, ino);

        if (node && node->type == S_IFDIR) {
            c->lost_found = ino;
            return;
        }
        snprintf(name, sizeof(name), "lost+found.%d", i);
    }
    if (c->rc == 0 && !c->unreadable)
        lost_found_make(c, name);
}

void hf_check_fix_lost(struct hf_check *c, const struct hf_check_node *node)
{
    int64_t cookie, ignored;
    char name[64];

    if (!c->repair)
        return;
    if (c->lost_found == 0)
        lost_found_get(c);
    if (c->lost_found == 0)
        return;
    cookie = c->next_id++;
    snprintf(name, sizeof(name), "#%lld", (long long)node->ino);
    if (!name_free(c, c->lost_found, name, &ignored))
        snprintf(name, sizeof(name), "#%lld.%lld", (long long)node->ino, (long long)cookie);
    hf_check_fix(
        c,
        "INSERT INTO names(dir, cookie, name, ino, type) VALUES(%lld, %lld, CAST(%Q AS BLOB), %lld, %d);"
        "UPDATE meta SET next_id = %lld",
        (long long)c->lost_found, (long long)cookie, name, (long long)node->ino, IFTODT(node->type),
        (long long)c->next_id);
    if (node->type == S_IFDIR)
        hf_check_fix(c,
                     "UPDATE inodes SET parent = %lld WHERE ino = %lld;"
                     "UPDATE inodes SET nlink = nlink + 1 WHERE ino = %lld",
                     (long long)c->lost_found, (long long)node->ino, (long long)c->lost_found);
    else
        hf_check_fix(c, "UPDATE inodes SET nlink = 1 WHERE ino = %lld", (long long)node->ino);
}

/* ---- carrying out */

static int run_sql(struct hf_check *c, const char *text)
{
    int rc = sqlite3_exec(c->sql, text, NULL, NULL, NULL);

    if (rc == SQLITE_OK || (rc & 0xff) == SQLITE_CONSTRAINT)
        return rc == SQLITE_OK ? 0 : -EEXIST;
    snprintf(c->err, HF_BLOCKFS_ERR, "repair: %s", sqlite3_errmsg(c->sql));
    return hf_metadb_errno(rc);
}

static int run_fix(struct hf_check *c, const char *text)
{
    int rc = run_sql(c, "SAVEPOINT fix");
    int err;

    if (rc == 0)
        rc = run_sql(c, text);
    if (rc == -EEXIST) {
        err = run_sql(c, "ROLLBACK TO fix");
        rc = err;
    }
    return rc == 0 ? run_sql(c, "RELEASE fix") : rc;
}

int hf_check_apply(struct hf_check *c)
{
    int rc = hf_metadb_begin(c->db);

    for (size_t i = 0; i < c->nr_fixes && rc == 0; i++) {
        if (hf_metadb_wal_room(c->db) < 4 * HF_METADB_ROW_PAGES) {
            rc = hf_metadb_commit(c->db);
            if (rc == 0)
                rc = hf_metadb_begin(c->db);
        }
        if (rc == 0)
            rc = run_fix(c, c->fixes[i]);
    }
    if (rc == 0)
        rc = hf_metadb_commit(c->db);
    if (rc != 0) {
        hf_metadb_rollback(c->db);
        if (c->err[0] == 0)
            snprintf(c->err, HF_BLOCKFS_ERR, "repair: %s", strerror(-rc));
    }
    hf_check_drop_fixes(c);
    return rc;
}
