/* SPDX-License-Identifier: MIT */
/*
 * check_damage.c - each kind of damage is named by the checker, repaired, and gone afterwards.
 *
 * A small volume with one of everything is damaged through SQL on its metadata, or by bytes; then
 *   - a check reads only, and names the damage,
 *   - a repair leaves nothing (or what the case says cannot be mended),
 *   - a second repair changes nothing, and the volume mounts.
 */
#include "blockfs_util.h"

#include <holdfast/maintain.h>

#include <dirent.h>
#include <sys/stat.h>

static struct hf_blockfs_header header;

/*
 * Inodes: 16 a (extents at 0 and 10), 18 l (symlink), 20 d (directory), 22 d/b (one extent), 24 d/e
 * (directory), 26 d/e/f (empty), 29 u (unlinked, still an orphan). a has a second name, h.
 */
static struct hf_device *volume_make(void)
{
    struct hf_device *dev = vol_format(2 << 20, 4096, false), *image;
    struct hf_inode *root, *a, *b, *d, *e, *u;
    char err[HF_BLOCKFS_ERR];
    struct vol vol;

    vol_mount(&vol, dev);
    root = root_get(&vol);
    a = file_create(&vol, root, "a");
    assert_ok(file_write(a, 0, 3, 'a'));
    assert_ok(file_write(a, 10, 3, 'a'));
    assert_ok(vol.ops->setxattr(a, "user.a", "x", 1, 0));
    inode_put(node_create(&vol, root, "l", S_IFLNK | 0777, "x"));
    d = node_create(&vol, root, "d", S_IFDIR | 0755, NULL);
    b = file_create(&vol, d, "b");
    assert_ok(file_write(b, 0, 4, 'b'));
    e = node_create(&vol, d, "e", S_IFDIR | 0755, NULL);
    inode_put(file_create(&vol, e, "f"));
    assert_ok(vol.ops->link(root, "h", a, ++vol.now_ns));
    u = file_create(&vol, root, "u");
    assert_ok(file_write(u, 0, 2, 'u'));
    assert_ok(vol.ops->unlink(root, "u", u, ++vol.now_ns));
    assert_ok(vol.ops->sync(&vol.sb));
    /* The unlinked file is still open: a copy of the device has it among its orphans. */
    image = image_copy(dev);
    inode_put(u);
    inode_put(a);
    inode_put(b);
    inode_put(d);
    inode_put(e);
    inode_put(root);
    vol_unmount(&vol);
    assert_ok(hf_blockfs_header_read(dev, false, &header, NULL, err));
    hf_dev_close(dev);
    return image;
}

static struct hf_device *made;

static struct hf_device *volume(void)
{
    if (!made)
        made = volume_make();
    return image_copy(made);
}

/* ---- what a check says */

struct told {
    char text[16384]; /* "kind: text\n" of each problem */
    unsigned nr, left, without_repair;
};

static void tell(void *arg, const struct hf_check_problem *problem)
{
    struct told *told = arg;
    size_t len = strlen(told->text);

    assert_non_null(problem->kind);
    assert_null(strchr(problem->text, '\n'));
    assert_true(strlen(problem->text) > 0);
    told->nr++;
    told->left += problem->left;
    told->without_repair += problem->repair == NULL;
    snprintf(told->text + len, sizeof(told->text) - len, "%s: %s\n", problem->kind, problem->text);
}

static struct hf_check_result check(struct hf_device *dev, uint32_t flags, struct told *told)
{
    struct hf_check_options opts = {.flags = flags, .report = tell, .arg = told};
    struct hf_check_result result;
    int rc;

    *told = (struct told){0};
    rc = hf_check_device(dev, &opts, &result);
    assert_that(rc == 0, "check: %s (%d)", hf_volume_error_text(), rc);
    assert_int_equal(result.left, flags & HF_CHECK_REPAIR ? told->left : told->nr);
    return result;
}

static void assert_clean(struct hf_device *dev)
{
    struct told told;
    struct hf_check_result result = check(dev, 0, &told);

    assert_that(result.problems == 0, "not clean: %s", told.text);
}

static void assert_told(const struct told *told, const char *kind, const char *words)
{
    char start[64];
    const char *at;

    snprintf(start, sizeof(start), "%s: ", kind);
    at = strstr(told->text, start);
    assert_that(at != NULL, "no \"%s\" in \"%s\"", kind, told->text);
    assert_that(strstr(told->text, words) != NULL, "no \"%s\" in \"%s\"", words, told->text);
}

/* Every file can be read, every directory listed. */
static void walk(struct vol *vol, uint64_t ino, int depth)
{
    struct hf_inode *dir = inode_get(vol, ino);
    struct hf_dirent entry = {0};
    char buf[HF_PATH_MAX];

    assert_true(depth < 16);
    if (S_ISLNK(dir->mode))
        assert_true(vol->ops->readlink(dir, buf, sizeof(buf)) > 0);
    while (S_ISDIR(dir->mode) && vol->ops->readdir(dir, entry.cookie, &entry) == 1)
        walk(vol, entry.ino, depth + 1);
    inode_put(dir);
}

static void assert_mounts(struct hf_device *dev)
{
    struct vol vol;

    vol_mount(&vol, dev);
    walk(&vol, HF_BLOCKFS_ROOT_INO, 0);
    vol_unmount(&vol);
    assert_clean(dev);
}

/* ---- the cases */

struct damage {
    const char *kind, *words; /* what has to be told */
    const char *sql;          /* what is done */
    const char *after;        /* a condition that holds when it is repaired; NULL: none */
};

static const struct damage damages[] = {
    /* meta */
    {"meta", "has 0 rows", "DELETE FROM meta", "(SELECT next_id FROM meta) >= 30"},
    {"meta", "has 2 rows", "INSERT INTO meta SELECT * FROM meta", "(SELECT count(*) FROM meta) = 1"},
    {"meta-version", "version 0", "UPDATE meta SET schema_version = 0", NULL},
    {"next-id", "next_id 16", "UPDATE meta SET next_id = 16", "(SELECT next_id FROM meta) >= 30"},
    {"next-id", "next_id -3", "UPDATE meta SET next_id = -3", NULL},
    {"next-id", "next_id 9223372036854775807", "UPDATE meta SET next_id = 9223372036854775807", NULL},
    /* inodes */
    {"root", "missing", "DELETE FROM inodes WHERE ino = 1",
     "(SELECT mode FROM inodes WHERE ino = 1) = 16877"},
    {"root", "not a directory", "UPDATE inodes SET mode = 33188 WHERE ino = 1", NULL},
    {"inode-number", "7 is no number",
     "INSERT INTO inodes SELECT 7, mode, uid, gid, nlink, rdev, parent, size,"
     " atime, mtime, ctime, btime, project, flags FROM inodes WHERE ino = 16",
     "NOT EXISTS(SELECT 1 FROM inodes WHERE ino = 7)"},
    {"inode-number", "-5 is no number", "UPDATE inodes SET ino = -5 WHERE ino = 26", NULL},
    {"inode-mode", "inode 16 (/a) has the impossible mode 0644",
     "UPDATE inodes SET mode = 420 WHERE ino = 16", "(SELECT mode FROM inodes WHERE ino = 16) = 33152"},
    {"inode-mode", "inode 18 (/l)", "UPDATE inodes SET mode = 61440 WHERE ino = 18",
     "(SELECT mode FROM inodes WHERE ino = 18) = 41471"},
    {"inode-mode", "inode 20 (/d)", "UPDATE inodes SET mode = 493 WHERE ino = 20",
     "(SELECT mode FROM inodes WHERE ino = 20) = 16832 AND (SELECT count(*) FROM names WHERE dir = 20) = 2"},
    {"inode-mode", "inode 16", "UPDATE inodes SET mode = 33188 + (1 << 20) WHERE ino = 16", NULL},
    {"inode-nlink", "inode 16 (/a) has -1 links", "UPDATE inodes SET nlink = -1 WHERE ino = 16",
     "(SELECT nlink FROM inodes WHERE ino = 16) = 2"},
    {"inode-nlink", "links", "UPDATE inodes SET nlink = 1 << 40 WHERE ino = 22", NULL},
    {"inode-owner", "user -2", "UPDATE inodes SET uid = -2 WHERE ino = 16",
     "(SELECT uid FROM inodes WHERE ino = 16) = 0"},
    {"inode-owner", "group 4294967296", "UPDATE inodes SET gid = 1 << 32 WHERE ino = 20", NULL},
    {"inode-project", "project -3", "UPDATE inodes SET project = -3, flags = 1 WHERE ino = 20",
     "(SELECT project + flags FROM inodes WHERE ino = 20) = 0"},
    {"inode-project", "flags", "UPDATE inodes SET project = 5, flags = 2 WHERE ino = 20", NULL},
    {"inode-rdev", "device number 5", "UPDATE inodes SET rdev = 5 WHERE ino = 16", NULL},
    {"inode-size", "inode 16 (/a) has size -1", "UPDATE inodes SET size = -1 WHERE ino = 16",
     "(SELECT size FROM inodes WHERE ino = 16) = 13 * 4096"},
    {"inode-size", "size", "UPDATE inodes SET size = 9223372036854775807 WHERE ino = 26",
     "(SELECT size FROM inodes WHERE ino = 26) = 0"},
    /* symlinks */
    {"symlink-target", "inode 18 (/l) is a symlink without a target", "DELETE FROM symlinks",
     "NOT EXISTS(SELECT 1 FROM inodes WHERE ino = 18) AND NOT EXISTS(SELECT 1 FROM names WHERE ino = 18)"},
    {"symlink-target", "no path", "UPDATE symlinks SET target = zeroblob(3)", NULL},
    {"symlink-target", "no path", "UPDATE symlinks SET target = x''", NULL},
    {"symlink-target", "no path", "UPDATE symlinks SET target = randomblob(5000)", NULL},
    {"symlink-size", "its target 1 bytes", "UPDATE inodes SET size = 9 WHERE ino = 18",
     "(SELECT size FROM inodes WHERE ino = 18) = 1"},
    {"symlink-stray", "which does not exist", "INSERT INTO symlinks VALUES(999, x'61')",
     "(SELECT count(*) FROM symlinks) = 1"},
    {"symlink-stray", "inode 16 (/a), which is no symlink", "INSERT INTO symlinks VALUES(16, x'61')", NULL},
    /* extended attributes */
    {"xattr-stray", "inode 999, which does not exist", "INSERT INTO xattrs VALUES(999, x'61', x'61')",
     "(SELECT count(*) FROM xattrs) = 1"},
    {"xattr-bad", "inode 16 (/a)", "INSERT INTO xattrs VALUES(16, x'', x'61')",
     "(SELECT count(*) FROM xattrs) = 1"},
    {"xattr-bad", "inode 16 (/a)", "INSERT INTO xattrs VALUES(16, x'61620063', x'61')", NULL},
    {"xattr-bad", "inode 16 (/a)", "INSERT INTO xattrs VALUES(16, randomblob(256), x'61')", NULL},
    {"xattr-bad", "inode 16 (/a)", "INSERT INTO xattrs VALUES(16, x'6162', zeroblob(65537))", NULL},
    /* orphans */
    {"orphan-stray", "inode 999", "INSERT INTO orphans VALUES(999, 0)", "(SELECT count(*) FROM orphans) = 1"},
    {"orphan-size", "inode 16 (/a) at -7", "INSERT INTO orphans VALUES(16, -7)",
     "(SELECT size FROM orphans WHERE ino = 16) = 13 * 4096"},
    {"forgotten", "no name and no links", "DELETE FROM orphans", "(SELECT count(*) FROM orphans) = 1"},
    /* quotas */
    {"quota-limits", "type 7, id 1: there is no such type",
     "INSERT INTO quotas VALUES(7, 1, 1, 1, 0, 0, 0, 0, 0)", "NOT EXISTS(SELECT 1 FROM quotas)"},
    {"quota-limits", "a soft limit is above the hard one",
     "INSERT INTO quotas VALUES(0, 1, 0, 0, 5, 4, 0, 0, 0)", "NOT EXISTS(SELECT 1 FROM quotas)"},
    {"quota-time", "ends before the epoch", "INSERT INTO quotas VALUES(1, 2, 3, 4, 5, 6, 7, -8, 0)",
     "(SELECT blocks_hard FROM quotas WHERE type = 1 AND id = 2 AND grace = 0 AND blocks_end = 0) = 4"},
    /* extents */
    {"extent-stray", "inode 999", "INSERT INTO extents VALUES(999, 0, 300, 2, 0)",
     "(SELECT count(*) FROM extents WHERE ino = 999) = 0"},
    {"extent-stray", "inode 16", "DELETE FROM inodes WHERE ino = 16", NULL},
    {"extent-not-file", "inode 20 (/d) is not a regular file", "INSERT INTO extents VALUES(20, 0, 300, 2, 0)",
     NULL},
    {"extent-bounds", "inode 16 (/a): the extent at block 10, 3 blocks at 1000000",
     "UPDATE extents SET pblk = 1000000 WHERE ino = 16 AND lblk = 10",
     "(SELECT count(*) FROM extents WHERE ino = 16) = 1"},
    {"extent-bounds", "at -1", "UPDATE extents SET pblk = -1 WHERE ino = 16 AND lblk = 10", NULL},
    {"extent-bounds", "0 blocks", "UPDATE extents SET len = 0 WHERE ino = 16 AND lblk = 10", NULL},
    {"extent-bounds", "9223372036854775807 blocks",
     "UPDATE extents SET len = 9223372036854775807 WHERE ino = 16 AND lblk = 10", NULL},
    {"extent-bounds", "block -5", "UPDATE extents SET lblk = -5 WHERE ino = 16 AND lblk = 10", NULL},
    {"extent-bounds", "block 9007199254740992",
     "UPDATE extents SET lblk = 1 << 53 WHERE ino = 16 AND lblk = 10", NULL},
    {"extent-kind", "(7)", "UPDATE extents SET unwritten = 7 WHERE ino = 16 AND lblk = 10",
     "(SELECT unwritten FROM extents WHERE ino = 16 AND lblk = 10) = 1"},
    {"extent-doubled", "inode 16 (/a) has two extents at block 2",
     "UPDATE extents SET lblk = 2 WHERE ino = 16 AND lblk = 10",
     "(SELECT lblk * 10 + len FROM extents WHERE ino = 16 AND lblk > 0) = 32"},
    {"extent-doubled", "block 1", "UPDATE extents SET lblk = 1, len = 2 WHERE ino = 16 AND lblk = 10",
     "(SELECT count(*) FROM extents WHERE ino = 16) = 1"},
    {"extent-shared", "belongs to inode 16 (/a), too",
     "UPDATE extents SET pblk = (SELECT pblk + 2 FROM extents WHERE ino = 16 AND lblk = 0) WHERE ino = 22",
     "(SELECT sum(len) FROM extents WHERE ino = 22) < 4 AND (SELECT sum(len) FROM extents WHERE ino = 16) = "
     "6"},
    {"extent-shared", "inode 16 (/a): block",
     "UPDATE extents SET pblk = (SELECT pblk FROM extents WHERE ino = 16 AND lblk = 0) WHERE ino = 16 AND "
     "lblk = 10",
     NULL},
    {"extent-beyond-end", "inode 16 (/a) ends at block 2", "UPDATE inodes SET size = 5000 WHERE ino = 16",
     "(SELECT sum(len) FROM extents WHERE ino = 16) = 2"},
    {"extent-beyond-end", "ends at block 0", "UPDATE inodes SET size = 0 WHERE ino = 22",
     "(SELECT count(*) FROM extents WHERE ino = 22) = 0"},
    /* names */
    {"name-stray", "inode 999 does not exist, but the name 'zz'",
     "INSERT INTO names VALUES(999, 40, x'7a7a', 26, 8)", "NOT EXISTS(SELECT 1 FROM names WHERE dir = 999)"},
    {"name-stray", "inode 16 (/a) is not a directory, but the name 'b'",
     "UPDATE names SET dir = 16 WHERE ino = 22", NULL},
    {"name-stray", "removed directory",
     "UPDATE inodes SET mode = 16877 WHERE ino = 29; DELETE FROM extents WHERE ino = 29;"
     "INSERT INTO names VALUES(29, 41, x'71', 26, 8)",
     NULL},
    {"name-dangling", "inode 998, which does not exist", "UPDATE names SET ino = 998 WHERE ino = 26", NULL},
    {"name-dangling", "leads to the root", "UPDATE names SET ino = 1, type = 4 WHERE ino = 26", NULL},
    {"name-bad", "is empty", "UPDATE names SET name = x'' WHERE ino = 26", NULL},
    {"name-bad", "longer than 255", "UPDATE names SET name = randomblob(300) WHERE ino = 26", NULL},
    {"name-bad", "NUL", "UPDATE names SET name = x'610062' WHERE ino = 26", NULL},
    {"name-bad", "slash", "UPDATE names SET name = x'612f62' WHERE ino = 26", NULL},
    {"name-bad", "'..'", "UPDATE names SET name = x'2e2e' WHERE ino = 26",
     "(SELECT CAST(substr(name, 1, 8) AS TEXT) FROM names WHERE ino = 26) = 'renamed-'"},
    {"name-type", "inode 26 (/d/e/f)", "UPDATE names SET type = 4 WHERE ino = 26",
     "(SELECT type FROM names WHERE ino = 26) = 8"},
    {"name-cookie", "cookie 3", "UPDATE names SET cookie = 3 WHERE ino = 26", NULL},
    {"name-cookie", "cookie -1", "UPDATE names SET cookie = -1 WHERE ino = 26", NULL},
    {"directory-linked-twice", "inode 20 (/d) has a second name, 'd2' in inode 24",
     "INSERT INTO names VALUES(24, 42, x'6432', 20, 4)",
     "(SELECT count(*) FROM names WHERE ino = 20) = 1 AND (SELECT parent FROM inodes WHERE ino = 20) = 1"},
    {"directory-circle", "inode 20 lies inside itself, by way of inode 24",
     "UPDATE names SET dir = 24 WHERE ino = 20; UPDATE inodes SET parent = 24 WHERE ino = 20",
     "EXISTS(SELECT 1 FROM names WHERE ino = 20 AND dir > 29)"},
    {"directory-circle", "inode 20 lies inside itself, by way of inode 20",
     "UPDATE names SET dir = 20 WHERE ino = 20", NULL},
    {"directory-parent", "directory inode 24 (/d/e)", "UPDATE inodes SET parent = 1 WHERE ino = 24",
     "(SELECT parent FROM inodes WHERE ino = 24) = 20"},
    {"directory-parent", "inode 1 (/)", "UPDATE inodes SET parent = 20 WHERE ino = 1", NULL},
    {"unconnected", "directory inode 20 has no name", "DELETE FROM names WHERE ino = 20",
     "EXISTS(SELECT 1 FROM names WHERE name = CAST('#20' AS BLOB)) AND"
     " EXISTS(SELECT 1 FROM names WHERE name = CAST('lost+found' AS BLOB) AND dir = 1)"},
    {"unconnected", "inode 26 has 1 links, but no name", "DELETE FROM names WHERE ino = 26",
     "EXISTS(SELECT 1 FROM names WHERE name = CAST('#26' AS BLOB))"},
    {"unconnected", "inode 16", "DELETE FROM names", "(SELECT count(*) FROM names WHERE dir > 29) = 6"},
    {"unconnected", "inode 26",
     "DELETE FROM names WHERE ino = 26; UPDATE names SET name = CAST('lost+found' AS BLOB) WHERE ino = 18",
     "EXISTS(SELECT 1 FROM names WHERE name = CAST('lost+found.1' AS BLOB))"},
    {"link-count", "inode 16 (/a) has 2 links, but its row says 5",
     "UPDATE inodes SET nlink = 5 WHERE ino = 16", "(SELECT nlink FROM inodes WHERE ino = 16) = 2"},
    {"link-count", "inode 20 (/d) has 3 links", "UPDATE inodes SET nlink = 2 WHERE ino = 20", NULL},
    {"link-count", "inode 1 (/)", "UPDATE inodes SET nlink = 0 WHERE ino = 1", NULL},
    {"link-count", "inode 22 (/d/b)",
     "UPDATE inodes SET nlink = 0 WHERE ino = 22; INSERT INTO orphans VALUES(22, 0)",
     "(SELECT nlink FROM inodes WHERE ino = 22) = 1 AND NOT EXISTS(SELECT 1 FROM orphans WHERE ino = 22) AND"
     " (SELECT sum(len) FROM extents WHERE ino = 22) = 4"},
    /* tables */
    {"schema-missing", "index names_by_name is missing", "DROP INDEX names_by_name", NULL},
    {"schema-missing", "index names_by_name",
     "DROP INDEX names_by_name; UPDATE names SET name = x'61' WHERE dir = 1 AND ino = 18",
     "EXISTS(SELECT 1 FROM names WHERE CAST(name AS TEXT) LIKE 'duplicate-%')"},
    {"schema-missing", "table symlinks", "DROP TABLE symlinks", NULL},
    {"schema-missing", "table orphans", "DROP TABLE orphans", NULL},
    {"schema-missing", "table names", "DROP TABLE names", NULL},
    {"schema-missing", "table meta", "DROP TABLE meta", NULL},
    /* several at once */
    {"unconnected", "inode 20",
     "DELETE FROM names WHERE ino = 20; UPDATE inodes SET nlink = 9; UPDATE meta SET next_id = 2;"
     "UPDATE extents SET pblk = 5; DELETE FROM symlinks; DELETE FROM inodes WHERE ino = 1",
     NULL},
};

static void mend(const struct damage *damage)
{
    struct hf_device *dev = volume(), *before;
    struct hf_metadb *db = metadb_open(dev, &header);
    struct hf_check_result result;
    struct told told;
    char text[512];

    sql(db, damage->sql);
    assert_ok(hf_metadb_close(db));
    before = image_copy(dev);
    result = check(dev, 0, &told);
    assert_true(result.problems > 0);
    assert_told(&told, damage->kind, damage->words);
    assert_int_equal(told.without_repair, 0);
    assert_true(image_same(dev, before));
    hf_dev_close(before);

    result = check(dev, HF_CHECK_REPAIR, &told);
    assert_told(&told, damage->kind, "");
    assert_that(result.left == 0 && result.problems > 0, "%s: left: %s", damage->sql, told.text);
    if (damage->after) {
        db = metadb_open(dev, &header);
        snprintf(text, sizeof(text), "SELECT %s", damage->after);
        assert_that(sql_number(db, text) == 1, "after the repair of \"%s\": not %s", damage->sql,
                    damage->after);
        assert_ok(hf_metadb_close(db));
    }
    before = image_copy(dev);
    result = check(dev, HF_CHECK_REPAIR, &told);
    assert_that(result.problems == 0, "%s: second repair: %s", damage->sql, told.text);
    assert_true(image_same(dev, before));
    hf_dev_close(before);
    assert_mounts(dev);
    hf_dev_close(dev);
}

static void each_kind_is_named_and_mended(void **state)
{
    (void)state;
    for (size_t i = 0; i < sizeof(damages) / sizeof(damages[0]); i++)
        mend(&damages[i]);
}

static void a_whole_volume_is_clean(void **state)
{
    struct hf_device *dev = volume(), *before = image_copy(dev);
    struct hf_check_result result;
    struct told told;

    (void)state;
    result = check(dev, 0, &told);
    assert_that(told.nr == 0, "%s", told.text);
    assert_true(result.replayed);
    assert_int_equal(result.inodes, 8);
    assert_int_equal(result.names, 7);
    assert_int_equal(result.extents, 4);
    assert_int_equal(result.blocks_used, 12);
    assert_true(image_same(dev, before));
    assert_ok(hf_check_device(dev, NULL, NULL));
    assert_mounts(dev);
    result = check(dev, 0, &told);
    assert_false(result.replayed);
    assert_int_equal(result.blocks_used, 10); /* the orphan is gone */
    hf_dev_close(before);
    hf_dev_close(dev);
}

/* ---- headers */

static void headers(void **state)
{
    static const struct {
        bool primary, backup;
        const char *kind, *words;
    } cases[] = {{true, false, "header-copy", "primary header at 0 is damaged: its checksum"},
                 {false, true, "header-copy", "copy of the header at"},
                 {true, true, "header", "neither copy"}};
    struct hf_check_result result;
    struct told told;

    (void)state;
    for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
        struct hf_device *dev = volume(), *whole = image_copy(dev);
        uint64_t backup = header.volume_bytes - HF_BLOCKFS_HEADER_BYTES;

        if (cases[i].primary)
            image_flip(dev, 100, 1);
        if (cases[i].backup)
            image_flip(dev, backup + 100, 1);
        check(dev, 0, &told);
        assert_told(&told, cases[i].kind, cases[i].words);
        result = check(dev, HF_CHECK_REPAIR, &told);
        if (cases[i].primary && cases[i].backup) {
            assert_int_equal(result.left, 1);
            assert_true(result.incomplete);
        } else {
            assert_int_equal(result.left, 0);
            assert_clean(dev);
            assert_mounts(dev);
        }
        hf_dev_close(whole);
        hf_dev_close(dev);
    }
}

static void a_header_write_that_was_interrupted(void **state)
{
    struct hf_device *dev = volume();
    struct hf_blockfs_header newer = header;
    struct hf_check_result result;
    struct told told;

    (void)state;
    newer.generation++;
    snprintf(newer.label, sizeof(newer.label), "new");
    assert_ok(hf_blockfs_header_write_copy(dev, &newer, HF_BLOCKFS_COPY_BACKUP));
    check(dev, 0, &told);
    assert_told(&told, "header-differs", "generation 2, the primary 1");
    result = check(dev, HF_CHECK_REPAIR, &told);
    assert_int_equal(result.left, 0);
    assert_clean(dev);
    hf_dev_close(dev);
}

/* ---- what is not damage, and what cannot be mended */

static void refusals(void **state)
{
    struct hf_device *dev = volume();
    struct hf_metadb *db = metadb_open(dev, &header);
    struct hf_check_options opts = {.flags = 0x80};
    struct hf_check_result result;

    (void)state;
    assert_err(hf_check_device(dev, &opts, &result), EINVAL);
    assert_err(hf_check_device(NULL, NULL, &result), EINVAL);
    sql(db, "UPDATE meta SET schema_version = schema_version + 1");
    assert_ok(hf_metadb_close(db));
    assert_err(hf_check_device(dev, NULL, &result), EPROTONOSUPPORT);
    opts.flags = HF_CHECK_REPAIR;
    assert_err(hf_check_device(dev, &opts, &result), EPROTONOSUPPORT);
    dev->read_only = true;
    assert_err(hf_check_device(dev, &opts, &result), EROFS);
    hf_dev_close(dev);
    assert_ok(hf_device_mem_new(1 << 20, &dev));
    assert_err(hf_check_device(dev, NULL, &result), EMEDIUMTYPE);
    hf_dev_close(dev);
    assert_err(hf_check("", NULL, &result), EINVAL);
    assert_err(hf_check("/nonexistent/volume", NULL, &result), ENOENT);
}

static void what_cannot_be_mended_is_left(void **state)
{
    static const char *const texts[] = {"DROP TABLE inodes", "DROP TABLE extents",
                                        "ALTER TABLE extents ADD COLUMN more INTEGER"};
    struct hf_check_result result;
    struct told told;

    (void)state;
    for (size_t i = 0; i < sizeof(texts) / sizeof(texts[0]); i++) {
        struct hf_device *dev = volume();
        struct hf_metadb *db = metadb_open(dev, &header);

        sql(db, texts[i]);
        assert_ok(hf_metadb_close(db));
        result = check(dev, 0, &told);
        assert_true(result.left > 0 && result.incomplete);
        result = check(dev, HF_CHECK_REPAIR, &told);
        assert_true(result.left > 0 && result.incomplete);
        hf_dev_close(dev);
    }
}

/* A page of the database is overwritten: SQLite's own check finds it, and nothing else is believed. */
static void damaged_pages(void **state)
{
    char page[HF_METADB_PAGE];

    (void)state;
    for (unsigned nr = 0; nr < 8; nr++) {
        struct hf_device *dev = volume();
        struct hf_metadb *db = metadb_open(dev, &header);
        struct hf_check_result result;
        struct told told;

        assert_ok(hf_metadb_close(db)); /* the log is empty now */
        memset(page, 0xa5, sizeof(page));
        assert_ok(hf_dev_write(dev, page, sizeof(page), (hf_off_t)(header.metadb_off + nr * sizeof(page))));
        result = check(dev, 0, &told);
        assert_that(result.left > 0, "page %u", nr);
        check(dev, HF_CHECK_REPAIR, &told);
        hf_dev_close(dev);
    }
}

static void a_flipped_byte_anywhere_never_crashes(void **state)
{
    struct hf_device *dev = volume();
    uint64_t seed = 7;

    (void)state;
    for (int i = 0; i < 200; i++) {
        struct hf_device *image = image_copy(dev);
        struct hf_check_result result;
        struct told told = {0};
        struct hf_check_options opts = {.flags = i & 1 ? HF_CHECK_REPAIR : 0, .report = tell, .arg = &told};

        image_flip(image, random_below(&seed, header.wal_off + 65536),
                   (uint8_t)(1u << random_below(&seed, 8)));
        hf_check_device(image, &opts, &result);
        hf_dev_close(image);
    }
    hf_dev_close(dev);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_whole_volume_is_clean),
        cmocka_unit_test(each_kind_is_named_and_mended),
        cmocka_unit_test(headers),
        cmocka_unit_test(a_header_write_that_was_interrupted),
        cmocka_unit_test(refusals),
        cmocka_unit_test(what_cannot_be_mended_is_left),
        cmocka_unit_test(damaged_pages),
        cmocka_unit_test(a_flipped_byte_anywhere_never_crashes),
    };

    int failed = cmocka_run_group_tests(tests, NULL, NULL);

    hf_dev_close(made);
    return failed;
}
