/* SPDX-License-Identifier: MIT */
/*
 * directory_churn.c - the power goes while names change in every way there is: files and directories are
 * made, linked, renamed over others, exchanged, moved between directories, removed and made again, and get
 * attributes.
 *
 * After each change the whole tree is written down as text. What a cut leaves must be, to the letter, the
 * tree after one of the changes that had begun, and not one before the last that an fsync confirmed: so a
 * rename over another file shows the old file or the new one, never neither and never both. An fsync of a
 * directory confirms the last change of its names, and all changes before that; one of a file confirms that
 * it was made, and its attributes. A file that was written and synced before it got its name (O_TMPFILE) is
 * never seen without its bytes.
 */
#include "crash_util.h"

#include <fcntl.h>

#define CHANGES 110
#define MAX_OPS 400
#define MAX_ENTRIES 64
#define MANY 28 /* entries: from here on more is removed than made */
#define PATH 64
#define DEEP 20 /* bytes of a path, below which nothing more is made */
#define MAX_INO 512
#define BYTES 700 /* of a file */

struct entry {
    char path[PATH]; /* "" for the root */
    char line[3 * PATH];
    struct stat st;
};

struct tree {
    struct entry entries[MAX_ENTRIES];
    unsigned nr;
};

struct op {
    uint64_t begin, end; /* events */
    unsigned confirms;   /* as many changes */
};

enum kind {
    CREATE,
    PUBLISH,
    MKDIR,
    SYMLINK,
    LINK,
    RENAME,
    EXCHANGE,
    UNLINK,
    RMDIR,
    SET_ATTR,
    DROP_ATTR,
    NR_KINDS
};

struct churn {
    struct crash crash;
    struct tree tree;          /* as it is now */
    char *trees[MAX_OPS + 1];  /* after so many changes */
    unsigned changed[MAX_INO]; /* the last change that an fsync of this inode confirms */
    struct op ops[MAX_OPS];
    unsigned nr_ops, nr_changes;
    uint64_t change_begin[MAX_OPS + 1]; /* events */
    unsigned done[NR_KINDS];
    struct hf_file *kept; /* open, perhaps without a name by now */
};

/* ---- the tree as text */

/* What a file holds follows from its number; it may not have been written yet. */
static void content_check(struct hf_volume *volume, const struct entry *entry, bool image)
{
    uint8_t buf[BYTES + 1], want = (uint8_t)(1 + entry->st.st_ino % 255);
    struct hf_file *file;

    assert_ok(hf_open(volume, entry->path, O_RDONLY, 0, &file));
    assert_count(hf_pread(file, buf, sizeof(buf), 0), entry->st.st_size);
    assert_ok(hf_close(file));
    for (hf_off_t i = 0; image && i < entry->st.st_size; i++)
        crash_that(buf[i] == want, "%s: %#x instead of %#x at %lld", entry->path, buf[i], want, (long long)i);
}

static void describe(struct hf_volume *volume, struct entry *entry)
{
    char value[PATH] = "";
    ssize_t len = 0;

    if (S_ISLNK(entry->st.st_mode))
        len = hf_readlink(volume, entry->path, value, sizeof(value) - 1);
    else
        len = hf_getxattr(volume, entry->path[0] ? entry->path : "/", "user.v", value, sizeof(value) - 1);
    if (len != -ENODATA)
        assert_ok(len);
    snprintf(entry->line, sizeof(entry->line), "%s: %o, inode %llu, links %llu, \"%s\"\n", entry->path,
             (unsigned)entry->st.st_mode, (unsigned long long)entry->st.st_ino,
             (unsigned long long)entry->st.st_nlink, value);
}

static void list(struct hf_volume *volume, struct tree *tree, const struct entry *parent)
{
    struct hf_dirent found;
    struct hf_dir *dir;

    assert_ok(hf_opendir(volume, parent->path[0] ? parent->path : "/", &dir));
    while (assert_ok(hf_readdir(dir, &found)) == 1) {
        struct entry *entry = &tree->entries[tree->nr];

        if (strcmp(found.name, ".") == 0 || strcmp(found.name, "..") == 0)
            continue;
        assert_true(tree->nr < MAX_ENTRIES);
        assert_true(snprintf(entry->path, PATH, "%s/%s", parent->path, found.name) < PATH);
        assert_ok(hf_lstat(volume, entry->path, &entry->st));
        tree->nr++;
    }
    assert_ok(hf_closedir(dir));
}

static int by_path(const void *a, const void *b)
{
    return strcmp(((const struct entry *)a)->path, ((const struct entry *)b)->path);
}

/* Returns the tree as text, to be freed. */
static char *walk(struct hf_volume *volume, struct tree *tree, bool image)
{
    size_t len = 0;
    char *text;

    memset(tree, 0, sizeof(*tree));
    tree->nr = 1;
    assert_ok(hf_stat(volume, "/", &tree->entries[0].st));
    for (unsigned i = 0; i < tree->nr; i++)
        if (S_ISDIR(tree->entries[i].st.st_mode))
            list(volume, tree, &tree->entries[i]);
    qsort(tree->entries, tree->nr, sizeof(tree->entries[0]), by_path);
    text = calloc(tree->nr, sizeof(tree->entries[0].line));
    assert_non_null(text);
    for (unsigned i = 0; i < tree->nr; i++) {
        struct entry *entry = &tree->entries[i];

        describe(volume, entry);
        if (S_ISREG(entry->st.st_mode))
            content_check(volume, entry, image);
        len += (size_t)sprintf(text + len, "%s", entry->line);
    }
    return text;
}

/* ---- what changes it */

static unsigned op_begin(struct churn *churn)
{
    assert_true(churn->nr_ops < MAX_OPS);
    churn->ops[churn->nr_ops] = (struct op){.begin = crash_events(&churn->crash), .end = UINT64_MAX};
    return churn->nr_ops++;
}

static void op_end(struct churn *churn, unsigned op, unsigned confirms)
{
    churn->ops[op].end = crash_events(&churn->crash);
    churn->ops[op].confirms = confirms;
}

static bool is_empty(const struct tree *tree, const struct entry *dir)
{
    size_t len = strlen(dir->path);

    for (unsigned i = 0; i < tree->nr; i++)
        if (strncmp(tree->entries[i].path, dir->path, len) == 0 && tree->entries[i].path[len] == '/')
            return false;
    return true;
}

/* One of that type, a directory that is empty if it is going to go; type 0: any but the root. */
static struct entry *pick(struct churn *churn, mode_t type, bool empty)
{
    struct tree *tree = &churn->tree;
    unsigned first = (unsigned)crash_random(&churn->crash, tree->nr);

    for (unsigned i = 0; i < tree->nr; i++) {
        struct entry *entry = &tree->entries[(first + i) % tree->nr];

        if (type == 0 ? entry->path[0] == 0 : (entry->st.st_mode & S_IFMT) != type)
            continue;
        if (!empty || is_empty(tree, entry))
            return entry;
    }
    return NULL;
}

/* A path that may be free, in some directory; of few names, so that they meet. */
static void pick_path(struct churn *churn, char path[PATH], uint64_t *ret_dir)
{
    const struct entry *dir = pick(churn, S_IFDIR, false);

    if (strlen(dir->path) > DEEP)
        dir = &churn->tree.entries[0];
    snprintf(path, PATH, "%.*s/%c", PATH - 3, dir->path, (char)('a' + crash_random(&churn->crash, 6)));
    *ret_dir = dir->st.st_ino;
}

static uint64_t parent_of(struct churn *churn, const char *path)
{
    size_t len = (size_t)(strrchr(path, '/') - path);

    for (unsigned i = 0; i < churn->tree.nr; i++)
        if (strlen(churn->tree.entries[i].path) == len && memcmp(churn->tree.entries[i].path, path, len) == 0)
            return churn->tree.entries[i].st.st_ino;
    fail();
    return 0;
}

static int fill(struct hf_file *file)
{
    uint8_t buf[BYTES];
    struct stat st;

    assert_ok(hf_fstat(file, &st));
    memset(buf, (int)(1 + st.st_ino % 255), sizeof(buf));
    assert_count(hf_pwrite(file, buf, sizeof(buf), 0), sizeof(buf));
    return (int)st.st_ino;
}

static int keep(struct churn *churn, struct hf_file *file)
{
    if (churn->kept)
        assert_ok(hf_close(churn->kept));
    churn->kept = file;
    return 0;
}

static int create(struct churn *churn, const char *path, unsigned *ret_ino)
{
    struct hf_file *file;
    int ret = hf_open(churn->crash.volume, path, O_RDWR | O_CREAT | O_EXCL, 0600, &file);

    if (ret < 0)
        return ret;
    *ret_ino = (unsigned)fill(file);
    return keep(churn, file);
}

/* Written and durable first, then it gets its name. */
static int publish(struct churn *churn, const char *path, unsigned *ret_ino)
{
    struct hf_file *file;
    int ret;

    assert_ok(hf_open(churn->crash.volume, "/", O_RDWR | O_TMPFILE, 0640, &file));
    *ret_ino = (unsigned)fill(file);
    assert_ok(hf_fsync(file));
    ret = hf_flink(file, path);
    keep(churn, file);
    return ret;
}

static int change_attr(struct churn *churn, const char *path, enum kind kind)
{
    char value[16];

    if (kind == DROP_ATTR)
        return hf_removexattr(churn->crash.volume, path, "user.v");
    snprintf(value, sizeof(value), "v%u", churn->nr_changes);
    return hf_setxattr(churn->crash.volume, path, "user.v", value, strlen(value), 0);
}

/* ret_inos: the inodes whose fsync confirms it. A refusal changes nothing. */
static int change(struct churn *churn, enum kind kind, uint64_t ret_inos[2])
{
    struct hf_volume *volume = churn->crash.volume;
    const struct entry *old = pick(churn,
                                   kind == RMDIR  ? S_IFDIR
                                   : kind > RMDIR ? S_IFREG
                                                  : 0,
                                   kind == RMDIR);
    unsigned ino = 0;
    char path[PATH];
    int ret;

    pick_path(churn, path, &ret_inos[0]);
    if (kind >= LINK && (old == NULL || !old->path[0]))
        return -ENOENT;
    if (kind >= RENAME && kind <= RMDIR)
        ret_inos[1] = parent_of(churn, old->path);
    if (kind == UNLINK || kind == RMDIR)
        ret_inos[0] = 0;
    switch (kind) {
    case CREATE:
    case PUBLISH:
        ret = kind == CREATE ? create(churn, path, &ino) : publish(churn, path, &ino);
        ret_inos[1] = ino;
        return ret;
    case MKDIR:
        return hf_mkdir(volume, path, 0700);
    case SYMLINK:
        return hf_symlink(volume, "somewhere", path);
    case LINK:
        return hf_link(volume, old->path, path);
    case RENAME:
    case EXCHANGE:
        return hf_rename(volume, old->path, path, kind == RENAME ? 0 : RENAME_EXCHANGE);
    case UNLINK:
        return hf_unlink(volume, old->path);
    case RMDIR:
        return hf_rmdir(volume, old->path);
    default:
        ret_inos[0] = old->st.st_ino;
        return change_attr(churn, old->path, kind);
    }
}

static bool is_refusal(int ret)
{
    static const int refusals[] = {EEXIST, ENOENT, ENOTEMPTY, EISDIR, ENOTDIR, EINVAL, EPERM, ENODATA};

    for (size_t i = 0; i < sizeof(refusals) / sizeof(refusals[0]); i++)
        if (ret == -refusals[i])
            return true;
    return false;
}

static void one_change(struct churn *churn)
{
    static const enum kind kinds[] = {CREATE, CREATE, PUBLISH,  MKDIR,  SYMLINK, LINK,  RENAME,   RENAME,
                                      RENAME, RENAME, EXCHANGE, UNLINK, RMDIR,   RMDIR, SET_ATTR, DROP_ATTR};
    uint64_t inos[2] = {0, 0}, begin = crash_events(&churn->crash);
    unsigned nr = churn->nr_changes + 1;
    enum kind kind = kinds[crash_random(&churn->crash, sizeof(kinds) / sizeof(kinds[0]))];
    int ret;

    if (churn->tree.nr > MANY)
        kind = crash_random(&churn->crash, 3) == 0 ? RMDIR : UNLINK;
    assert_true(nr <= MAX_OPS);
    /* From its first event on it may be found. */
    churn->change_begin[nr] = begin;
    ret = change(churn, kind, inos);
    if (ret < 0) {
        assert_that(is_refusal(ret), "change %u of kind %d: %d", nr, (int)kind, ret);
        return;
    }
    churn->trees[nr] = walk(churn->crash.volume, &churn->tree, false);
    if (strcmp(churn->trees[nr], churn->trees[nr - 1]) == 0) {
        free(churn->trees[nr]); /* renamed to another name of the same file: nothing to be confirmed */
        return;
    }
    churn->done[kind]++;
    churn->nr_changes = nr;
    for (int i = 0; i < 2; i++) {
        assert_true(inos[i] < MAX_INO);
        churn->changed[inos[i]] = nr;
    }
}

/* ---- what confirms */

static void confirm_one(struct churn *churn, mode_t type)
{
    const struct entry *entry = pick(churn, type, false);
    struct hf_file *file;
    unsigned op;

    if (entry == NULL)
        return;
    assert_ok(hf_open(churn->crash.volume, entry->path[0] ? entry->path : "/", O_RDONLY, 0, &file));
    op = op_begin(churn);
    assert_ok(hf_fsync(file));
    op_end(churn, op, churn->changed[entry->st.st_ino]);
    assert_ok(hf_close(file));
}

static void confirm_all(struct churn *churn)
{
    unsigned op = op_begin(churn);

    crash_sync(&churn->crash);
    op_end(churn, op, churn->nr_changes);
}

static void confirm_something(struct churn *churn)
{
    switch (crash_random(&churn->crash, 16)) {
    case 0:
        confirm_all(churn);
        break;
    case 1:
    case 2:
        confirm_one(churn, S_IFREG);
        break;
    case 3:
    case 4:
    case 5:
        confirm_one(churn, S_IFDIR);
        break;
    default:
        break;
    }
}

/* ---- what a cut leaves */

static uint64_t tree_check(struct crash *crash, struct hf_volume *volume, uint64_t events)
{
    const struct churn *churn = crash->arg;
    unsigned low = 0, high = 0;
    uint64_t sectors = 0;
    struct tree tree;
    bool match = false;
    char *text = walk(volume, &tree, true);

    for (unsigned i = 0; i < churn->nr_ops; i++)
        if (churn->ops[i].end <= events && churn->ops[i].confirms > low)
            low = churn->ops[i].confirms;
    for (unsigned i = 1; i <= churn->nr_changes; i++)
        if (churn->change_begin[i] <= events)
            high = i;
    for (unsigned i = low; i <= high && !match; i++)
        match = strcmp(text, churn->trees[i]) == 0;
    if (!match)
        print_error("found:\n%s\nafter change %u:\n%s\nafter change %u:\n%s\n", text, low, churn->trees[low],
                    high, churn->trees[high]);
    crash_that(match, "the tree is as it never was from change %u to %u", low, high);
    free(text);
    for (unsigned i = 0; i < tree.nr; i++) {
        const struct stat *st = &tree.entries[i].st;
        bool again = false;

        for (unsigned j = 0; j < i; j++)
            again = again || tree.entries[j].st.st_ino == st->st_ino;
        sectors += again ? 0 : (uint64_t)st->st_blocks;
        /* only published files have this mode */
        crash_that(st->st_mode != (S_IFREG | 0640) || st->st_size == BYTES,
                   "%s was published with %lld bytes", tree.entries[i].path, (long long)st->st_size);
    }
    return sectors;
}

static bool is_enough(const struct churn *churn)
{
    for (int kind = 0; kind < NR_KINDS; kind++)
        if (churn->done[kind] == 0)
            return false;
    return churn->nr_changes >= CHANGES;
}

static void churns(const struct crash_config *config, uint64_t seed)
{
    struct churn *churn = calloc(1, sizeof(*churn));
    unsigned op;

    assert_non_null(churn);
    crash_init(&churn->crash, config, seed + config->block_size); /* each its own churn */
    churn->crash.extra = tree_check;
    churn->crash.arg = churn;
    churn->trees[0] = walk(churn->crash.volume, &churn->tree, false);
    while (!is_enough(churn)) {
        one_change(churn);
        confirm_something(churn);
    }
    keep(churn, NULL);
    op = op_begin(churn);
    crash_close(&churn->crash);
    op_end(churn, op, churn->nr_changes);
    crash_check(&churn->crash, crash_points(24));
    crash_done(&churn->crash);
    for (unsigned i = 0; i <= churn->nr_changes; i++)
        free(churn->trees[i]);
    free(churn);
}

int main(void)
{
    return crash_main_usual(churns, 1);
}
