/* SPDX-License-Identifier: MIT */
/*
 * check_rows.c - rows that make no sense by themselves: meta, inodes, symlinks, xattrs, orphans, quotas.
 *
 * Rules of repair
 *   - an inode whose kind is not known any more becomes what its other rows show: a symlink, a directory,
 * else a regular file
 *   - a symlink without a target is removed: there is nothing left of it
 *   - an inode with a number that cannot be is removed
 */
#include "fs/blockfs/blockfs.h"
#include "fs/blockfs/check.h"

#include <sys/stat.h>

#define SYMLINK_MAX ((int64_t)HF_PATH_MAX - 1)

/* ---- meta */

static int64_t max_id(const struct hf_check *c)
{
    int64_t max = HF_BLOCKFS_FIRST_ID - 1;

    for (size_t i = c->nr_nodes; i-- > 0;) {
        if (c->nodes[i].ino >= HF_CHECK_ID_MAX)
            continue;
        max = c->nodes[i].ino > max ? c->nodes[i].ino : max;
        break;
    }
    return c->max_cookie > max ? c->max_cookie : max;
}

void hf_check_meta(struct hf_check *c)
{
    int64_t rows = hf_check_number(c, "meta", "SELECT count(*) FROM meta", 0);
    int64_t version = hf_check_number(c, "meta", "SELECT schema_version FROM meta", 0);
    int64_t next_id = hf_check_number(c, "meta", "SELECT next_id FROM meta", 0);
    int64_t max = max_id(c);

    c->next_id = next_id;
    if (c->rc != 0 || c->unreadable)
        return;
    if (rows != 1) {
        hf_check_problem(c, "meta", 0, "it is made anew", "table meta has %lld rows, not one",
                         (long long)rows);
        hf_check_fix(c, "DELETE FROM meta; INSERT INTO meta(schema_version, next_id) VALUES(%d, %lld)",
                     HF_BLOCKFS_SCHEMA, (long long)(max + 1));
        return;
    }
    if (version != HF_BLOCKFS_SCHEMA) {
        hf_check_problem(c, "meta-version", 0, "it is set to what the tables are",
                         "table meta: version %lld, but the tables are of version %d", (long long)version,
                         HF_BLOCKFS_SCHEMA);
        hf_check_fix(c, "UPDATE meta SET schema_version = %d", HF_BLOCKFS_SCHEMA);
    }
    if (next_id <= max || next_id >= HF_CHECK_ID_MAX) {
        hf_check_problem(c, "next-id", 0, "it is set above all numbers in use",
                         "table meta: next_id %lld, but number %lld is in use", (long long)next_id,
                         (long long)max);
        hf_check_fix(c, "UPDATE meta SET next_id = %lld", (long long)(max + 1));
    }
}

/* ---- inodes */

struct inode_row {
    int64_t ino, mode, uid, gid, nlink, rdev, size, project, flags;
    bool has_target;
    int64_t target_len; /* -1: there is a NUL in it */
};

static void row_get(sqlite3_stmt *stmt, struct inode_row *row)
{
    *row = (struct inode_row){.ino = sqlite3_column_int64(stmt, 0),
                              .mode = sqlite3_column_int64(stmt, 1),
                              .uid = sqlite3_column_int64(stmt, 2),
                              .gid = sqlite3_column_int64(stmt, 3),
                              .nlink = sqlite3_column_int64(stmt, 4),
                              .rdev = sqlite3_column_int64(stmt, 5),
                              .size = sqlite3_column_int64(stmt, 6),
                              .has_target = sqlite3_column_type(stmt, 7) != SQLITE_NULL,
                              .target_len = sqlite3_column_int64(stmt, 7)};
    if (sqlite3_column_int64(stmt, 8) != 0)
        row->target_len = -1;
    row->project = sqlite3_column_int64(stmt, 9);
    row->flags = sqlite3_column_int64(stmt, 10);
}

static bool type_known(int64_t mode)
{
    switch (mode & S_IFMT) {
    case S_IFREG:
    case S_IFDIR:
    case S_IFLNK:
    case S_IFCHR:
    case S_IFBLK:
    case S_IFIFO:
    case S_IFSOCK:
        return true;
    default:
        return false;
    }
}

static void check_mode(struct hf_check *c, const struct inode_row *row)
{
    if (type_known(row->mode) && (row->mode & ~(int64_t)(S_IFMT | 07777)) == 0)
        return;
    hf_check_problem(c, "inode-mode", row->ino, "it becomes what its other rows show, with mode 0600",
                     "%s has the impossible mode %#llo", hf_check_who(c, row->ino), (long long)row->mode);
    hf_check_fix(c,
                 "UPDATE inodes SET mode = CASE"
                 " WHEN EXISTS(SELECT 1 FROM symlinks AS s WHERE s.ino = inodes.ino) THEN %d"
                 " WHEN EXISTS(SELECT 1 FROM names AS n WHERE n.dir = inodes.ino)"
                 "  OR EXISTS(SELECT 1 FROM names AS n WHERE n.ino = inodes.ino AND n.type = 4) THEN %d"
                 " ELSE %d END WHERE ino = %lld",
                 S_IFLNK | 0777, S_IFDIR | 0700, S_IFREG | 0600, (long long)row->ino);
}

static void check_numbers(struct hf_check *c, const struct inode_row *row)
{
    if (row->nlink < 0 || row->nlink > UINT32_MAX) {
        hf_check_problem(c, "inode-nlink", row->ino, "its names are counted", "%s has %lld links",
                         hf_check_who(c, row->ino), (long long)row->nlink);
        hf_check_fix(c, "UPDATE inodes SET nlink = 1 WHERE ino = %lld", (long long)row->ino);
    }
    if (row->uid < 0 || row->uid > UINT32_MAX || row->gid < 0 || row->gid > UINT32_MAX) {
        hf_check_problem(c, "inode-owner", row->ino, "it is given to root, and closed to others",
                         "%s belongs to user %lld, group %lld", hf_check_who(c, row->ino),
                         (long long)row->uid, (long long)row->gid);
        hf_check_fix(c, "UPDATE inodes SET uid = 0, gid = 0, mode = mode & ~%d WHERE ino = %lld", 06077,
                     (long long)row->ino);
    }
    if (row->project < 0 || row->project > UINT32_MAX || (row->flags & ~(int64_t)HF_BLOCKFS_INHERIT) != 0) {
        hf_check_problem(c, "inode-project", row->ino, "it belongs to no project",
                         "%s belongs to project %lld, with flags %#llo", hf_check_who(c, row->ino),
                         (long long)row->project, (long long)row->flags);
        hf_check_fix(c, "UPDATE inodes SET project = 0, flags = 0 WHERE ino = %lld", (long long)row->ino);
    }
    if (row->rdev != 0 && !S_ISCHR(row->mode) && !S_ISBLK(row->mode)) {
        hf_check_problem(c, "inode-rdev", row->ino, "the number goes",
                         "%s has device number %lld, and is no device", hf_check_who(c, row->ino),
                         (long long)row->rdev);
        hf_check_fix(c, "UPDATE inodes SET rdev = 0 WHERE ino = %lld", (long long)row->ino);
    }
}

/* What is beyond the last block that a file has is nothing but zeros. */
static void check_size(struct hf_check *c, const struct inode_row *row)
{
    if (row->size >= 0 && row->size <= HF_FILE_SIZE_MAX)
        return;
    hf_check_problem(c, "inode-size", row->ino, "it ends behind its last written block", "%s has size %lld",
                     hf_check_who(c, row->ino), (long long)row->size);
    hf_check_fix(
        c,
        "UPDATE inodes SET size = coalesce((SELECT max(min((lblk + len) * %d, %lld)) FROM extents AS e"
        " WHERE e.ino = inodes.ino AND unwritten = 0 AND len BETWEEN 1 AND 4294967295"
        " AND lblk BETWEEN 0 AND %lld), 0) WHERE ino = %lld",
        (int)c->header.block_size, (long long)HF_FILE_SIZE_MAX,
        (long long)HF_FILE_SIZE_MAX / c->header.block_size, (long long)row->ino);
}

static void check_symlink(struct hf_check *c, const struct inode_row *row)
{
    if (!row->has_target || row->target_len <= 0 || row->target_len > SYMLINK_MAX) {
        hf_check_problem(c, "symlink-target", row->ino, "it is removed",
                         row->has_target ? "%s is a symlink to something that is no path"
                                         : "%s is a symlink without a target",
                         hf_check_who(c, row->ino));
        hf_check_fix(c,
                     "DELETE FROM names WHERE ino = %lld; DELETE FROM symlinks WHERE ino = %lld;"
                     "DELETE FROM orphans WHERE ino = %lld; DELETE FROM inodes WHERE ino = %lld",
                     (long long)row->ino, (long long)row->ino, (long long)row->ino, (long long)row->ino);
    } else if (row->size != row->target_len) {
        hf_check_problem(c, "symlink-size", row->ino, "it is set to the length of the target",
                         "%s has size %lld, its target %lld bytes", hf_check_who(c, row->ino),
                         (long long)row->size, (long long)row->target_len);
        hf_check_fix(c, "UPDATE inodes SET size = %lld WHERE ino = %lld", (long long)row->target_len,
                     (long long)row->ino);
    }
}

static void check_inode(struct hf_check *c, const struct inode_row *row)
{
    if (row->ino != HF_BLOCKFS_ROOT_INO && (row->ino < HF_BLOCKFS_FIRST_ID || row->ino >= HF_CHECK_ID_MAX)) {
        hf_check_problem(c, "inode-number", row->ino, "the row is removed",
                         "table inodes: %lld is no number for an inode", (long long)row->ino);
        hf_check_fix(c, "DELETE FROM inodes WHERE ino = %lld", (long long)row->ino);
        return;
    }
    check_mode(c, row);
    check_numbers(c, row);
    check_size(c, row);
    if (S_ISLNK(row->mode) && row->size >= 0 && row->size <= HF_FILE_SIZE_MAX)
        check_symlink(c, row);
}

static void check_root(struct hf_check *c)
{
    const struct hf_check_node *root = hf_check_node(c, HF_BLOCKFS_ROOT_INO);

    if (root && root->type == S_IFDIR)
        return;
    hf_check_problem(c, "root", HF_BLOCKFS_ROOT_INO, "it is made anew",
                     root ? "inode %u, the root, is not a directory"
                          : "inode %u, the root directory, is missing",
                     HF_BLOCKFS_ROOT_INO);
    if (root)
        hf_check_fix(c, "UPDATE inodes SET mode = %d, parent = %u WHERE ino = %u", S_IFDIR | 0755,
                     HF_BLOCKFS_ROOT_INO, HF_BLOCKFS_ROOT_INO);
    else
        hf_check_fix(
            c,
            "INSERT INTO inodes(ino, mode, uid, gid, nlink, rdev, parent, size, atime, mtime, ctime,"
            " btime, project, flags) VALUES(%u, %d, 0, 0, 2, 0, %u, 0, %lld, %lld, %lld, %lld, 0, 0)",
            HF_BLOCKFS_ROOT_INO, S_IFDIR | 0755, HF_BLOCKFS_ROOT_INO, (long long)c->header.created_ns,
            (long long)c->header.created_ns, (long long)c->header.created_ns,
            (long long)c->header.created_ns);
}

/* ---- rows about inodes */

static void check_stray_symlinks(struct hf_check *c)
{
    sqlite3_stmt *stmt = hf_check_query(c, "symlinks", "SELECT ino FROM symlinks ORDER BY ino");

    while (hf_check_row(c, "symlinks", stmt)) {
        int64_t ino = sqlite3_column_int64(stmt, 0);
        const struct hf_check_node *node = hf_check_node(c, ino);

        if (node && (node->type == S_IFLNK || !type_known(node->type)))
            continue;
        hf_check_problem(c, "symlink-stray", ino, "the row is removed",
                         node ? "table symlinks has a target for %s, which is no symlink"
                              : "table symlinks has a target for %s, which does not exist",
                         hf_check_who(c, ino));
        hf_check_fix(c, "DELETE FROM symlinks WHERE ino = %lld", (long long)ino);
    }
}

/* What no setxattr() has made. */
static void check_xattrs(struct hf_check *c)
{
    sqlite3_stmt *stmt = hf_check_query(
        c, "xattrs", "SELECT ino, hex(name), length(name), instr(name, x'00'), length(value) FROM xattrs");

    while (hf_check_row(c, "xattrs", stmt)) {
        int64_t ino = sqlite3_column_int64(stmt, 0), len = sqlite3_column_int64(stmt, 2);
        const char *hex = (const char *)sqlite3_column_text(stmt, 1);

        if (!hf_check_node(c, ino))
            hf_check_problem(c, "xattr-stray", ino, "the row is removed",
                             "table xattrs has an attribute of inode %lld, which does not exist",
                             (long long)ino);
        else if (len < 1 || len > HF_XATTR_NAME_MAX || sqlite3_column_int64(stmt, 3) != 0 ||
                 sqlite3_column_int64(stmt, 4) > HF_XATTR_SIZE_MAX)
            hf_check_problem(c, "xattr-bad", ino, "it is removed",
                             "%s has an attribute with a bad name or value", hf_check_who(c, ino));
        else
            continue;
        if (hex)
            hf_check_fix(c, "DELETE FROM xattrs WHERE ino = %lld AND name = x'%s'", (long long)ino, hex);
    }
}

static void check_orphans(struct hf_check *c)
{
    sqlite3_stmt *stmt = hf_check_query(c, "orphans", "SELECT ino, size FROM orphans ORDER BY ino");

    while (hf_check_row(c, "orphans", stmt)) {
        int64_t ino = sqlite3_column_int64(stmt, 0), size = sqlite3_column_int64(stmt, 1);
        const struct hf_check_node *node = hf_check_node(c, ino);

        if (!node) {
            hf_check_problem(c, "orphan-stray", ino, "the row is removed",
                             "table orphans names inode %lld, which does not exist", (long long)ino);
            hf_check_fix(c, "DELETE FROM orphans WHERE ino = %lld", (long long)ino);
        } else if (size < 0 || size > HF_FILE_SIZE_MAX) {
            hf_check_problem(c, "orphan-size", ino, "it is cut where it ends",
                             "table orphans wants to cut %s at %lld", hf_check_who(c, ino), (long long)size);
            hf_check_fix(c,
                         "UPDATE orphans SET size = (SELECT max(0, min(i.size, %lld)) FROM inodes AS i"
                         " WHERE i.ino = orphans.ino) WHERE ino = %lld",
                         (long long)HF_FILE_SIZE_MAX, (long long)ino);
        }
    }
}

/* ---- quotas: what is used is not stored, so limits are all there is to check */

static void check_quotas(struct hf_check *c)
{
    sqlite3_stmt *stmt = hf_check_query(
        c, "quotas",
        "SELECT type, id, blocks_soft, blocks_hard, inodes_soft, inodes_hard, grace, blocks_end,"
        " inodes_end FROM quotas");

    while (hf_check_row(c, "quotas", stmt)) {
        struct hf_blockfs_quota_row row = hf_blockfs_quota_row_read(stmt), timeless = row;
        const char *fault = hf_blockfs_quota_row_fault(&row);

        if (fault == NULL)
            continue;
        timeless.grace = timeless.blocks_end = timeless.inodes_end = 0;
        if (hf_blockfs_quota_row_fault(&timeless) == NULL) {
            hf_check_problem(c, "quota-time", 0, "the times are set to 0: the limits stay",
                             "table quotas: type %lld, id %lld: %s", (long long)row.type, (long long)row.id,
                             fault);
            hf_check_fix(
                c,
                "UPDATE quotas SET grace = 0, blocks_end = 0, inodes_end = 0 WHERE type = %lld AND id ="
                " %lld",
                (long long)row.type, (long long)row.id);
        } else {
            hf_check_problem(c, "quota-limits", 0, "the row goes: that id has no limits then",
                             "table quotas: type %lld, id %lld: %s", (long long)row.type, (long long)row.id,
                             fault);
            hf_check_fix(c, "DELETE FROM quotas WHERE type = %lld AND id = %lld", (long long)row.type,
                         (long long)row.id);
        }
    }
}

void hf_check_inodes(struct hf_check *c)
{
    static const char text[] =
        "SELECT i.ino, i.mode, i.uid, i.gid, i.nlink, i.rdev, i.size, length(s.target),"
        " instr(s.target, x'00'), i.project, i.flags FROM inodes AS i LEFT JOIN symlinks AS s"
        " ON s.ino = i.ino ORDER BY i.ino";
    sqlite3_stmt *stmt = hf_check_query(c, "inodes", text);
    uint64_t nr = 0;

    while (hf_check_row(c, "inodes", stmt)) {
        struct inode_row row;

        hf_check_tick(c, "inodes", nr++, c->nr_nodes);
        row_get(stmt, &row);
        check_inode(c, &row);
    }
    check_root(c);
    check_stray_symlinks(c);
    check_xattrs(c);
    check_orphans(c);
    check_quotas(c);
}
