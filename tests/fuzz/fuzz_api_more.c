/* SPDX-License-Identifier: MIT */
/*
 * fuzz_api_more.c - see fuzz_api.h: owners, projects, quotas, attributes, special files, and upkeep of the
 * volume between two openings. What every id uses is counted here by the model, by the volume, and by the
 * volume's own scan; the three agree at every comparison, and no limit is ever exceeded.
 */
#define _GNU_SOURCE
#include "fuzz_api.h"

#include <holdfast/maintain.h>
#include <holdfast/node.h>

#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/xattr.h>
#include <unistd.h>

static uint8_t buf[HF_XATTR_SIZE_MAX];

static uint32_t id_take(void)
{
    return input_below(world.in, NR_IDS);
}

/* ---- files */

void more_begin(void)
{
    struct stat st;

    must(hf_stat(world.vol, "/d", &st));
    world.owner[0] = st.st_uid;
    world.owner[1] = st.st_gid;
    memset(world.specials, 0, sizeof(world.specials));
    memset(world.limits, 0, sizeof(world.limits));
    memset(world.blocks_used, 0, sizeof(world.blocks_used));
    memset(world.inodes_used, 0, sizeof(world.inodes_used));
    world.limited = world.d_inherits = false;
    world.d_project = 0;
    more_limits_hold(); /* there are none: it looks at what is used */
}

void more_file_made(struct file *f, bool below)
{
    f->mode = 0600;
    f->ids[HF_QUOTA_USER] = world.owner[0];
    f->ids[HF_QUOTA_GROUP] = world.owner[1];
    f->ids[HF_QUOTA_PROJECT] = below && world.d_inherits ? world.d_project : 0;
}

bool more_is_refused(const struct file *f, bool below)
{
    return below && world.d_inherits && f->ids[HF_QUOTA_PROJECT] != world.d_project;
}

static const char *const xattr_names[NR_XATTRS] = {"user.one", "trusted.two"};

static void xattrs_compare(const struct file *f)
{
    ssize_t listed = 0;

    for (unsigned i = 0; i < NR_XATTRS; i++) {
        ssize_t len = hf_fgetxattr(f->open, xattr_names[i], buf, sizeof(buf));

        fuzz_that(len == (f->xattrs[i].there ? f->xattrs[i].len : -ENODATA), "%s has %zd bytes",
                  xattr_names[i], len);
        for (ssize_t at = 0; at < len; at++)
            fuzz_that(buf[at] == f->xattrs[i].value, "%s differs at %zd", xattr_names[i], at);
        if (f->xattrs[i].there)
            listed += (ssize_t)strlen(xattr_names[i]) + 1;
    }
    fuzz_that(hf_flistxattr(f->open, NULL, 0) == listed, "the attributes' list is not of %zd bytes", listed);
}

void more_file_compare(struct file *f)
{
    uint32_t project;
    unsigned flags;
    struct stat st;

    must(hf_fstat(f->open, &st));
    fuzz_that(st.st_mode == (S_IFREG | f->mode), "the mode is %o, not %o", st.st_mode, f->mode);
    fuzz_that(st.st_uid == f->ids[HF_QUOTA_USER] && st.st_gid == f->ids[HF_QUOTA_GROUP], "owned by %u:%u",
              st.st_uid, st.st_gid);
    must(hf_fget_project(f->open, &project, &flags));
    fuzz_that(project == f->ids[HF_QUOTA_PROJECT] && flags == 0, "of project %u, flags %u", project, flags);
    xattrs_compare(f);
}

static void do_owner(struct file *f)
{
    uint32_t uid = input_below(world.in, NR_IDS + 1), gid = input_below(world.in, NR_IDS + 1);

    uid = uid == NR_IDS ? (uint32_t)-1 : uid;
    gid = gid == NR_IDS ? (uint32_t)-1 : gid;
    if (!or_full(hf_fchown(f->open, uid, gid)))
        return;
    if (uid != (uint32_t)-1)
        f->ids[HF_QUOTA_USER] = uid;
    if (gid != (uint32_t)-1)
        f->ids[HF_QUOTA_GROUP] = gid;
}

static void do_project(struct file *f)
{
    uint32_t project = id_take();

    if (or_full(hf_fset_project(f->open, project, 0)))
        f->ids[HF_QUOTA_PROJECT] = project;
}

static void do_xattr(struct file *f)
{
    unsigned i = input_below(world.in, NR_XATTRS), how = input_u8(world.in);
    int flags = how & 1 ? XATTR_CREATE : how & 2 ? XATTR_REPLACE : 0, want = 0, ret;
    uint16_t len = (uint16_t)(how & 4 ? input_below(world.in, 20000) : input_below(world.in, 100));
    uint8_t value = input_u8(world.in);

    if (how & 8) {
        ret = hf_fremovexattr(f->open, xattr_names[i]);
        fuzz_that(ret == (f->xattrs[i].there ? 0 : -ENODATA), "removing %s gives %d", xattr_names[i], ret);
        f->xattrs[i].there = false;
        return;
    }
    memset(buf, value, len);
    ret = hf_fsetxattr(f->open, xattr_names[i], buf, len, flags);
    if (flags == XATTR_CREATE && f->xattrs[i].there)
        want = -EEXIST;
    if (flags == XATTR_REPLACE && !f->xattrs[i].there)
        want = -ENODATA;
    if (want == 0 && ret == -ENOSPC)
        return;
    fuzz_that(ret == want, "setting %s gives %d, not %d", xattr_names[i], ret, want);
    if (ret < 0)
        return;
    f->xattrs[i].there = true;
    f->xattrs[i].value = value;
    f->xattrs[i].len = len;
}

static void do_mode(struct file *f)
{
    struct timespec times[2] = {{.tv_sec = input_below(world.in, 65536)}, {.tv_nsec = UTIME_OMIT}};
    struct stat st;

    f->mode = input_below(world.in, 512);
    must(hf_fchmod(f->open, f->mode));
    must(hf_futimens(f->open, times));
    must(hf_fstat(f->open, &st));
    fuzz_that(st.st_atime == times[0].tv_sec, "atime is %lld", (long long)st.st_atime);
}

/* What the permission bits say; user 0 may execute what anybody may. */
static void do_access(struct file *f)
{
    struct hf_caller who = {.uid = id_take(), .gid = id_take()};
    int mask = (int)input_below(world.in, 8), allowed = (int)f->mode & 7, ret;

    if (f->ids[HF_QUOTA_USER] == who.uid)
        allowed = (int)f->mode >> 6 & 7;
    else if (f->ids[HF_QUOTA_GROUP] == who.gid)
        allowed = (int)f->mode >> 3 & 7;
    if (who.uid == 0)
        allowed = R_OK | W_OK | (f->mode & 0111 ? X_OK : 0);
    for (unsigned n = 0; n < NR_IN_ROOT; n++) {
        if (world.shown[n] != f)
            continue;
        ret = hf_access(world.vol, names[n], &who, mask);
        fuzz_that(ret == (mask & ~allowed ? -EACCES : 0), "mode %o of %u:%u, for %u:%u: %d gives %d", f->mode,
                  f->ids[0], f->ids[1], who.uid, who.gid, mask, ret);
    }
}

static void do_promise(struct file *f)
{
    if (or_full(hf_file_promise(f->open)))
        f->promised = true;
}

static void do_give_name(struct file *f)
{
    unsigned n = input_below(world.in, NR_NAMES);
    int want = 0, ret = hf_flink(f->open, names[n]);

    if (world.shown[n])
        want = -EEXIST;
    else if (f->nlink == 0 && !f->linkable)
        want = -ENOENT;
    else if (more_is_refused(f, n >= NR_IN_ROOT))
        want = -EXDEV;
    if (want == 0 && ret == -ENOSPC)
        return;
    fuzz_that(ret == want, "a name %s for a file with %u gives %d, not %d", names[n], f->nlink, ret, want);
    if (ret == 0) {
        name_set(n, f);
        f->linkable = false;
    }
}

/* What a private mapping is told stays there. */
static void do_private(struct file *f)
{
    size_t len = 8192, done = 0;
    void *map;

    must(hf_mmap(f->open, NULL, len, PROT_READ | PROT_WRITE, MAP_PRIVATE, 0, &map));
    if (f->size > 0 && hf_store(map, "private", 1, &done) == 0)
        fuzz_that(done == 1 && *(char *)map == 'p', "a private store is not seen");
    must(hf_munmap(map, len));
}

static void do_mapping(struct file *f)
{
    hf_off_t off, len;
    size_t done;

    if (!f->map || !f->size)
        return;
    range_take(world.in, f->size, &off, &len);
    switch (input_below(world.in, 4)) {
    case 0:
        or_full(hf_fault_in(f->map + off, (size_t)len, input_u8(world.in) & 1));
        break;
    case 1:
        must(hf_mprotect(f->map, FILE_MAX, PROT_READ));
        must(hf_load(buf, f->map + off, 1, &done));
        fuzz_that(buf[0] == f->bytes[off], "read-only, the mapping differs");
        must(hf_mprotect(f->map, FILE_MAX, PROT_READ | PROT_WRITE));
        break;
    case 2:
        must(hf_mprotect(f->map, FILE_MAX, PROT_NONE));
        must(hf_mprotect(f->map, FILE_MAX, PROT_READ | PROT_WRITE));
        break;
    default: /* its first half comes and goes */
        must(hf_munmap(f->map, FILE_MAX / 2));
        must(hf_munmap(f->map + FILE_MAX / 2, FILE_MAX / 2));
        f->map = NULL;
        break;
    }
}

/* The file position. */
static void do_position(struct file *f)
{
    hf_off_t at = input_below(world.in, FILE_MAX);
    size_t want = at < f->size ? (size_t)(f->size - at) : 0;
    ssize_t ret;

    want = want < 100 ? want : 100;
    fuzz_that(hf_lseek(f->open, at, SEEK_SET) == at, "the position is not %lld", (long long)at);
    ret = must(hf_read(f->open, buf, 100));
    fuzz_that((size_t)ret == want, "%zd bytes read at %lld of %lld", ret, (long long)at, (long long)f->size);
    fuzz_that(memcmp(buf, f->bytes + (want ? at : 0), want) == 0, "read() differs at %lld", (long long)at);
    fuzz_that(hf_lseek(f->open, 0, SEEK_CUR) == at + ret, "the position did not move by %zd", ret);
}

static void do_pages(struct file *f)
{
    static struct hf_page_info pages[FILE_MAX / 4096];
    int nr = hf_page_map(f->open, 0, FILE_MAX / 4096, pages);

    must(nr);
    for (int i = 0; i < nr; i++)
        for (unsigned b = 0; b < pages[i].nr_blocks; b++)
            fuzz_that(!pages[i].block_dirty[b] || pages[i].block_state[b] != HF_BLOCK_HOLE,
                      "block %u of page %d is dirty, and has no space", b, i);
}

static void do_node(struct file *f)
{
    struct hf_node *root, *node;
    struct stat st, by_node;

    must(hf_node_root(world.vol, &root));
    for (unsigned n = 0; n < NR_IN_ROOT; n++) {
        if (world.shown[n] != f)
            continue;
        must(hf_node_lookup(root, names[n] + 1, &node));
        must(hf_fstat(f->open, &st));
        must(hf_node_stat(node, &by_node));
        fuzz_that(st.st_ino == by_node.st_ino && st.st_size == by_node.st_size, "a node is another file");
        hf_node_put(node, 1);
    }
    hf_node_put(root, 1);
}

/* ---- without a file */

static void do_nameless(void)
{
    struct file *f = &world.files[world.nr_files];
    bool below = input_u8(world.in) & 1;

    if (world.nr_files == MAX_FILES ||
        !or_full(hf_open(world.vol, below ? "/d" : "/", O_RDWR | O_TMPFILE, 0600, &f->open)))
        return;
    world.nr_files++;
    f->linkable = true;
    more_file_made(f, below);
}

static const char *const special_names[NR_SPECIALS] = {"/s", "/t", "/d/s"};

static int special_make(const char *name, mode_t type)
{
    return type == S_IFLNK ? hf_symlink(world.vol, "target", name)
                           : hf_mknod(world.vol, name, type | 0600, type == S_IFCHR ? 5 : 0);
}

static void special_made(unsigned n, mode_t type)
{
    world.specials[n] = type;
    world.special_projects[n] = special_names[n][1] == 'd' && world.d_inherits ? world.d_project : 0;
}

static void special_compare(unsigned n)
{
    struct stat st;
    int ret = hf_lstat(world.vol, special_names[n], &st);

    fuzz_that(ret == (world.specials[n] ? 0 : -ENOENT), "lstat %s gives %d", special_names[n], ret);
    if (!world.specials[n])
        return;
    fuzz_that((st.st_mode & S_IFMT) == world.specials[n], "%s is of mode %o", special_names[n], st.st_mode);
    fuzz_that(world.specials[n] != S_IFCHR || st.st_rdev == 5, "%s is another device", special_names[n]);
    if (world.specials[n] == S_IFLNK) {
        ret = (int)hf_readlink(world.vol, special_names[n], (char *)buf, 7);
        fuzz_that(ret == 6 && memcmp(buf, "target", 6) == 0, "readlink gives %d", ret);
    }
}

static void do_special(void)
{
    static const mode_t types[] = {S_IFLNK, S_IFIFO, S_IFSOCK, S_IFCHR, S_IFBLK};
    unsigned n = input_below(world.in, NR_SPECIALS);
    mode_t type = types[input_below(world.in, sizeof(types) / sizeof(types[0]))];
    int ret;

    if (input_u8(world.in) & 1) {
        ret = hf_unlink(world.vol, special_names[n]);
        fuzz_that(ret == (world.specials[n] ? 0 : -ENOENT), "unlink %s gives %d", special_names[n], ret);
        world.specials[n] = 0;
        return;
    }
    ret = special_make(special_names[n], type);
    if (world.specials[n])
        fuzz_that(ret == -EEXIST, "%s is made a second time: %d", special_names[n], ret);
    else if (or_full(ret))
        special_made(n, type);
    special_compare(n);
}

static void do_d_project(void)
{
    uint32_t project = id_take();
    bool inherits = input_u8(world.in) & 1;

    if (!or_full(hf_set_project(world.vol, "/d", project, inherits ? HF_PROJECT_INHERIT : 0)))
        return;
    world.d_project = project;
    world.d_inherits = inherits;
}

static void do_limits(void)
{
    struct hf_quota_limits limits = {.type = (enum hf_quota_type)input_below(world.in, HF_QUOTA_TYPES),
                                     .id = id_take()};
    unsigned how = input_u8(world.in);

    if (how & 1)
        limits.blocks_hard = 1 + input_below(world.in, 200);
    if (how & 2)
        limits.inodes_hard = 1 + input_below(world.in, 12);
    if (how & 4) { /* nobody meets these: grace times are days */
        limits.blocks_soft = (limits.blocks_hard + 1) / 2;
        limits.inodes_soft = (limits.inodes_hard + 1) / 2;
    }
    if (!or_full(hf_quota_set(world.vol, &limits)))
        return;
    world.limits[limits.type][limits.id] = limits;
    world.limited = false;
    for (int type = 0; type < HF_QUOTA_TYPES; type++)
        for (unsigned id = 0; id < NR_IDS; id++)
            world.limited = world.limited || world.limits[type][id].blocks_hard != 0 ||
                            world.limits[type][id].inodes_hard != 0;
}

/* ---- upkeep: of a volume that nobody has open */

static void tell(void *arg, const struct hf_check_problem *problem)
{
    (void)arg;
    fuzz_that(false, "the volume is damaged: %s: %s", problem->kind, problem->text);
}

static void check_and_tend(unsigned how)
{
    struct hf_check_options opts = {.flags = how & 4 ? HF_CHECK_REPAIR : 0, .report = tell};
    struct hf_device *dev = fuzz_device_again();
    struct hf_check_result result;
    uint64_t trimmed;
    int ret;

    if (how & 1)
        must(hf_header_set_device(dev, "another", how & 8 ? (const uint8_t *)"sixteen bytes it" : NULL));
    if (how & 2)
        must(hf_trim_device(dev, &trimmed));
    if (how & 16) {
        ret = hf_grow_device(dev, FUZZ_BYTES + 4096ull * input_below(world.in, 300));
        fuzz_that(ret == 0 || ret == -EALREADY || ret == -EINVAL || ret == -ENOSPC, "growing gives %d: %s",
                  ret, hf_volume_error_text());
    }
    fuzz_device_forbid_writes(!(how & 4));
    ret = hf_check_device(dev, &opts, &result);
    fuzz_that(ret == 0 && !result.incomplete && !result.replayed, "a check gives %d: %s", ret,
              hf_volume_error_text());
    fuzz_device_forbid_writes(false);
    dev->ops->close(dev);
}

static void do_upkeep(void)
{
    volume_close();
    check_and_tend(input_u8(world.in));
    volume_open();
}

static void do_grow(void)
{
    int ret = hf_volume_grow(world.vol, FUZZ_BYTES + 4096ull * input_below(world.in, 300));

    fuzz_that(ret == 0 || ret == -EALREADY || ret == -EINVAL || ret == -ENOSPC, "growing gives %d: %s", ret,
              hf_volume_error_text());
}

static void do_trim(void)
{
    uint64_t trimmed;

    must(hf_volume_trim(world.vol, 512ull * input_below(world.in, 64), &trimmed));
    fuzz_that(trimmed <= FUZZ_BYTES_MAX, "%llu bytes are trimmed", (unsigned long long)trimmed);
}

/* ---- which */

void more_do(void)
{
    static void (*const of_files[])(struct file *) = {
        do_owner,     do_project, do_xattr,   do_xattr, do_mode,     do_access, do_promise,
        do_give_name, do_private, do_mapping, do_pages, do_position, do_node,
    };
    static void (*const others[])(void) = {do_nameless, do_special, do_d_project, do_limits,
                                           do_trim,     do_upkeep,  do_grow};
    unsigned which = input_below(world.in, 40);
    struct file *f;

    if (which < 14) {
        others[which % (sizeof(others) / sizeof(others[0]))]();
        return;
    }
    f = any_file();
    if (f)
        of_files[(which - 14) % (sizeof(of_files) / sizeof(of_files[0]))](f);
}

/* ---- what is used */

static void inode_count(uint64_t counts[HF_QUOTA_TYPES][NR_IDS + 1], uint32_t uid, uint32_t gid,
                        uint32_t project)
{
    counts[HF_QUOTA_USER][uid < NR_IDS ? uid : NR_IDS]++;
    counts[HF_QUOTA_GROUP][gid < NR_IDS ? gid : NR_IDS]++;
    counts[HF_QUOTA_PROJECT][project]++;
}

/* Ids of the model; the last one is all others. */
static void inodes_count(uint64_t counts[HF_QUOTA_TYPES][NR_IDS + 1])
{
    struct stat st;

    must(hf_stat(world.vol, "/", &st));
    inode_count(counts, st.st_uid, st.st_gid, 0);
    inode_count(counts, world.owner[0], world.owner[1], world.d_project);
    for (unsigned n = 0; n < NR_SPECIALS; n++)
        if (world.specials[n])
            inode_count(counts, world.owner[0], world.owner[1], world.special_projects[n]);
    for (unsigned i = 0; i < world.nr_files; i++) {
        const struct file *f = &world.files[i];

        if (f->nlink > 0 || f->open || f->map)
            inode_count(counts, f->ids[0], f->ids[1], f->ids[2]);
    }
}

void more_compare(void)
{
    uint64_t counts[HF_QUOTA_TYPES][NR_IDS + 1] = {{0}};
    struct hf_quota_check check;
    struct hf_quota quota;
    struct hf_statfs st;
    int ret;

    for (unsigned n = 0; n < NR_SPECIALS; n++)
        special_compare(n);
    ret = (int)must(hf_quota_check(world.vol, &check));
    fuzz_that(ret == 0 && check.differences == 0,
              "type %d id %u: %llu blocks kept, %llu found; reserved %llu, %llu", check.type, check.id,
              (unsigned long long)check.blocks_kept, (unsigned long long)check.blocks_found,
              (unsigned long long)check.reserved_kept, (unsigned long long)check.reserved_found);
    inodes_count(counts);
    for (int type = 0; type < HF_QUOTA_TYPES; type++)
        for (unsigned id = 0; id < NR_IDS; id++) {
            must(hf_quota_get(world.vol, (enum hf_quota_type)type, id, &quota));
            fuzz_that(quota.inodes_used == counts[type][id], "type %d id %u has %llu inodes, not %llu", type,
                      id, (unsigned long long)quota.inodes_used, (unsigned long long)counts[type][id]);
            fuzz_that(quota.limits.blocks_hard == world.limits[type][id].blocks_hard &&
                          quota.limits.inodes_hard == world.limits[type][id].inodes_hard &&
                          quota.limits.blocks_soft == world.limits[type][id].blocks_soft,
                      "type %d id %u has other limits", type, id);
        }
    must(hf_volume_statfs(world.vol, &st));
    fuzz_that(st.blocks_free + st.blocks_reserved <= st.blocks, "%llu blocks free, %llu reserved, of %llu",
              (unsigned long long)st.blocks_free, (unsigned long long)st.blocks_reserved,
              (unsigned long long)st.blocks);
}

static void limit_hold(uint64_t limit, uint64_t used, uint64_t *before, const char *what)
{
    fuzz_that(limit == 0 || used <= limit || used <= *before, "%s: %llu used, %llu before, %llu allowed",
              what, (unsigned long long)used, (unsigned long long)*before, (unsigned long long)limit);
    *before = used;
}

void more_limits_hold(void)
{
    struct hf_quota quota;

    for (int type = 0; type < HF_QUOTA_TYPES; type++)
        for (unsigned id = 0; id < NR_IDS; id++) {
            must(hf_quota_get(world.vol, (enum hf_quota_type)type, id, &quota));
            limit_hold(world.limits[type][id].blocks_hard, quota.blocks_used, &world.blocks_used[type][id],
                       "blocks");
            limit_hold(world.limits[type][id].inodes_hard, quota.inodes_used, &world.inodes_used[type][id],
                       "inodes");
        }
}
