/* SPDX-License-Identifier: MIT */
/*
 * check_tree.c - names: each leads to an inode, directories make one tree, and links are counted right.
 *
 * Rules of repair
 *   - a name that leads nowhere, or stands in something that is no directory, is removed
 *   - of two names of a directory the one stays that its own row confirms, else the first
 *   - directories in a circle: the one with the lowest number leaves it
 *   - what has no name any more gets one in /lost+found: '#' and its number
 */
#include "fs/blockfs/blockfs.h"
#include "fs/blockfs/check.h"

#include <dirent.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>

/* ---- names */

struct name_row {
    int64_t dir, cookie, ino, type;
    const char *name;
    int len;
};

static const char *name_fault(const struct name_row *row)
{
    if (row->len == 0)
        return "is empty";
    if (row->len > HF_NAME_MAX)
        return "is longer than 255 bytes";
    if (memchr(row->name, 0, (size_t)row->len) != NULL)
        return "has a NUL in it";
    if (memchr(row->name, '/', (size_t)row->len) != NULL)
        return "has a slash in it";
    if ((row->len == 1 && row->name[0] == '.') || (row->len == 2 && memcmp(row->name, "..", 2) == 0))
        return "is reserved";
    return NULL;
}

static void name_text(const struct name_row *row, char *ret_text, size_t size)
{
    snprintf(ret_text, size, "%.*s", row->len > 80 ? 80 : row->len, row->len > 0 ? row->name : "");
}

static void fix_remove(struct hf_check *c, const struct name_row *row)
{
    hf_check_fix(c, "DELETE FROM names WHERE dir = %lld AND cookie = %lld", (long long)row->dir,
                 (long long)row->cookie);
}

/* True: the name may stay. */
static bool check_ends(struct hf_check *c, const struct name_row *row, const struct hf_check_node *dir,
                       const struct hf_check_node *node)
{
    char name[96];

    name_text(row, name, sizeof(name));
    if (!dir || dir->type != S_IFDIR || (dir->nlink == 0 && dir->orphan)) {
        hf_check_problem(c, "name-stray", row->dir, "the name is removed",
                         !dir                   ? "%s does not exist, but the name '%s' stands in it"
                         : dir->type != S_IFDIR ? "%s is not a directory, but the name '%s' stands in it"
                                                : "%s is a removed directory, but the name '%s' stands in it",
                         hf_check_who(c, row->dir), name);
        fix_remove(c, row);
        return false;
    }
    if (!node || row->ino == HF_BLOCKFS_ROOT_INO) {
        hf_check_problem(c, "name-dangling", row->ino, "the name is removed",
                         node ? "directory %s: the name '%s' leads to the root (inode %lld)"
                              : "directory %s: the name '%s' leads to inode %lld, which does not exist",
                         hf_check_who(c, row->dir), name, (long long)row->ino);
        fix_remove(c, row);
        return false;
    }
    if (node->type == S_IFDIR && node->names > 1 && (row->dir != node->dir || row->cookie != node->cookie)) {
        hf_check_problem(c, "directory-linked-twice", row->ino, "this name is removed, the other stays",
                         "directory %s has a second name, '%s' in inode %lld", hf_check_who(c, row->ino),
                         name, (long long)row->dir);
        fix_remove(c, row);
        return false;
    }
    return true;
}

static void check_name(struct hf_check *c, const struct name_row *row)
{
    const struct hf_check_node *dir = hf_check_node(c, row->dir), *node = hf_check_node(c, row->ino);
    const char *fault = name_fault(row);
    char name[96];

    if (!check_ends(c, row, dir, node))
        return;
    name_text(row, name, sizeof(name));
    if (fault) {
        hf_check_problem(c, "name-bad", row->ino, "it gets another name",
                         "directory %s: the name '%s' of inode %lld %s", hf_check_who(c, row->dir), name,
                         (long long)row->ino, fault);
        hf_check_fix(
            c, "UPDATE names SET name = CAST('renamed-%lld' AS BLOB) WHERE dir = %lld AND cookie = %lld",
            (long long)row->cookie, (long long)row->dir, (long long)row->cookie);
    }
    if (row->type != IFTODT(node->type)) {
        hf_check_problem(c, "name-type", row->ino, "it is set to what the inode is",
                         "%s is of type %o, but its name '%s' says %lld", hf_check_who(c, row->ino),
                         node->type, name, (long long)row->type);
        hf_check_fix(c, "UPDATE names SET type = %d WHERE dir = %lld AND cookie = %lld", IFTODT(node->type),
                     (long long)row->dir, (long long)row->cookie);
    }
    if (row->cookie < HF_BLOCKFS_FIRST_ID || row->cookie >= HF_CHECK_ID_MAX) {
        hf_check_problem(c, "name-cookie", row->ino, "it gets a new one",
                         "directory %s: the name '%s' has the impossible cookie %lld",
                         hf_check_who(c, row->dir), name, (long long)row->cookie);
        hf_check_fix(c,
                     "UPDATE names SET cookie = %lld WHERE dir = %lld AND cookie = %lld;"
                     "UPDATE meta SET next_id = %lld",
                     (long long)c->next_id, (long long)row->dir, (long long)row->cookie,
                     (long long)(c->next_id + 1));
        c->next_id++;
    }
}

void hf_check_names(struct hf_check *c)
{
    sqlite3_stmt *stmt =
        hf_check_query(c, "names", "SELECT dir, cookie, name, ino, type FROM names ORDER BY dir, cookie");
    uint64_t nr = 0;

    while (hf_check_row(c, "names", stmt)) {
        struct name_row row = {.dir = sqlite3_column_int64(stmt, 0),
                               .cookie = sqlite3_column_int64(stmt, 1),
                               .name = sqlite3_column_blob(stmt, 2),
                               .len = sqlite3_column_bytes(stmt, 2),
                               .ino = sqlite3_column_int64(stmt, 3),
                               .type = sqlite3_column_int64(stmt, 4)};

        hf_check_tick(c, "names", nr++, c->result.names);
        check_name(c, &row);
    }
}

/* ---- the tree */

enum walk { WALK_UNSEEN, WALK_NOW, WALK_DONE };

/* Removed while somebody had it open: it has no place in the tree any more. */
static bool is_removed(const struct hf_check_node *node)
{
    return node->names == 0 && node->nlink == 0 && node->orphan;
}

/*
 * Walks from a directory up to something that is in the tree. Returns NULL, or the node that has to be given
 * a place: the top of a loose part, or the one with the lowest number in a circle.
 */
static struct hf_check_node *walk_up(struct hf_check *c, struct hf_check_node *from, bool *ret_circle)
{
    struct hf_check_node *node = from, *lowest;

    while (node->walk == WALK_UNSEEN) {
        struct hf_check_node *up;

        node->walk = WALK_NOW;
        if (node->ino == HF_BLOCKFS_ROOT_INO || is_removed(node))
            return NULL;
        up = node->dir != 0 ? hf_check_node(c, node->dir) : NULL;
        if (!up) {
            *ret_circle = false;
            return node;
        }
        node = up;
    }
    if (node->walk == WALK_DONE)
        return NULL;
    *ret_circle = true;
    lowest = node;
    for (struct hf_check_node *n = hf_check_node(c, node->dir); n && n != node; n = hf_check_node(c, n->dir))
        lowest = n->ino < lowest->ino ? n : lowest;
    return lowest;
}

static void walk_done(struct hf_check *c, struct hf_check_node *node)
{
    while (node && node->walk == WALK_NOW) {
        node->walk = WALK_DONE;
        node = node->dir != 0 ? hf_check_node(c, node->dir) : NULL;
    }
}

static void check_place(struct hf_check *c, struct hf_check_node *from)
{
    bool circle = false;
    struct hf_check_node *loose = walk_up(c, from, &circle);

    walk_done(c, from);
    if (!loose)
        return;
    if (circle) {
        hf_check_problem(c, "directory-circle", loose->ino, "this one moves to /lost+found",
                         "directory inode %lld lies inside itself, by way of inode %lld",
                         (long long)loose->ino, (long long)loose->dir);
        hf_check_fix(c, "DELETE FROM names WHERE dir = %lld AND cookie = %lld", (long long)loose->dir,
                     (long long)loose->cookie);
    } else {
        hf_check_problem(c, "unconnected", loose->ino, "it gets a name in /lost+found",
                         "directory inode %lld has no name", (long long)loose->ino);
    }
    hf_check_fix_lost(c, loose);
}

static void check_nameless(struct hf_check *c, const struct hf_check_node *node)
{
    if (node->names != 0 || is_removed(node))
        return;
    if (node->nlink == 0) {
        hf_check_problem(c, "forgotten", node->ino, "it is removed at the next mount",
                         "inode %lld has no name and no links, and is not among the orphans",
                         (long long)node->ino);
        hf_check_fix(c, "INSERT OR REPLACE INTO orphans(ino, size) VALUES(%lld, 0)", (long long)node->ino);
    } else {
        hf_check_problem(c, "unconnected", node->ino, "it gets a name in /lost+found",
                         "inode %lld has %u links, but no name", (long long)node->ino, node->nlink);
        hf_check_fix_lost(c, node);
    }
}

void hf_check_tree(struct hf_check *c)
{
    for (size_t i = 0; i < c->nr_nodes && c->rc == 0; i++) {
        hf_check_tick(c, "tree", i, c->nr_nodes);
        if (c->nodes[i].type == S_IFDIR)
            check_place(c, &c->nodes[i]);
        else
            check_nameless(c, &c->nodes[i]);
    }
}

/* ---- counts */

static void check_parent(struct hf_check *c, const struct hf_check_node *node)
{
    int64_t wanted = node->ino == HF_BLOCKFS_ROOT_INO ? HF_BLOCKFS_ROOT_INO : node->dir;

    if (node->type != S_IFDIR || wanted == 0 || node->parent == wanted)
        return;
    hf_check_problem(c, "directory-parent", node->ino, "it is set to where its name stands",
                     "directory %s has its name in inode %lld, but '..' is inode %lld",
                     hf_check_who(c, node->ino), (long long)wanted, (long long)node->parent);
    hf_check_fix(c, "UPDATE inodes SET parent = %lld WHERE ino = %lld", (long long)wanted,
                 (long long)node->ino);
}

/* A row in "orphans" of an inode with names is about a truncate; one that was put there for its removal
 * would cut the file. */
static void check_count(struct hf_check *c, const struct hf_check_node *node)
{
    uint32_t wanted = node->type == S_IFDIR ? 2 + node->subdirs : node->names;

    if (node->nlink == wanted || is_removed(node))
        return;
    hf_check_problem(c, "link-count", node->ino, "it is set to what was counted",
                     "%s has %u links, but its row says %u", hf_check_who(c, node->ino), wanted, node->nlink);
    hf_check_fix(c, "UPDATE inodes SET nlink = %u WHERE ino = %lld", wanted, (long long)node->ino);
    if (node->nlink == 0)
        hf_check_fix(c, "DELETE FROM orphans WHERE ino = %lld", (long long)node->ino);
}

void hf_check_links(struct hf_check *c)
{
    for (size_t i = 0; i < c->nr_nodes && c->rc == 0; i++) {
        check_parent(c, &c->nodes[i]);
        check_count(c, &c->nodes[i]);
    }
}
