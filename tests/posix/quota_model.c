/* SPDX-License-Identifier: MIT */
/*
 * quota_model.c - random operations on a few files, and a model that knows for each block who is charged for
 * it: after every one the use of every user, group and project is what the model says, and an operation is
 * refused (or cut short) exactly where the model's limits end. From time to time everything is counted again,
 * or the volume is closed and opened.
 */
#include "target.h"

#include <holdfast/quota.h>

#define FILES 4
#define BLOCKS 40 /* of a file */
#define IDS 3     /* of a type */
#define OPS 1200

struct model_file {
    struct target_file file;
    bool there;
    bool has[BLOCKS];
    uint64_t size;               /* in blocks */
    unsigned id[HF_QUOTA_TYPES]; /* index into ids */
};

struct model {
    struct target *t;
    uint64_t random;
    uint32_t ids[HF_QUOTA_TYPES][IDS];
    uint64_t base_inodes[HF_QUOTA_TYPES][IDS]; /* of what is not in files */
    uint64_t blocks_hard[HF_QUOTA_TYPES][IDS], inodes_hard[HF_QUOTA_TYPES][IDS];
    struct model_file files[FILES];
    uint64_t refused, cut_short;
};

static unsigned below(struct model *m, unsigned n)
{
    m->random ^= m->random << 13;
    m->random ^= m->random >> 7;
    m->random ^= m->random << 17;
    return (unsigned)((m->random >> 16) % n);
}

static const char *name_of(const struct model *m, const struct model_file *f)
{
    static const char *const names[FILES] = {"a", "b", "c", "d"};

    return names[f - m->files];
}

/* ---- what the model says */

static uint64_t blocks_of(const struct model_file *f)
{
    uint64_t nr = 0;

    for (unsigned b = 0; b < BLOCKS; b++)
        nr += f->has[b];
    return nr;
}

static void used(const struct model *m, int type, unsigned id, uint64_t *ret_blocks, uint64_t *ret_inodes)
{
    *ret_blocks = 0;
    *ret_inodes = m->base_inodes[type][id];
    for (unsigned i = 0; i < FILES; i++) {
        if (!m->files[i].there || m->files[i].id[type] != id)
            continue;
        *ret_blocks += blocks_of(&m->files[i]);
        *ret_inodes += 1;
    }
}

/* Whether the id may have so many more. */
static bool admits(const struct model *m, int type, unsigned id, uint64_t blocks, uint64_t inodes)
{
    uint64_t has_blocks, has_inodes;

    used(m, type, id, &has_blocks, &has_inodes);
    if (blocks != 0 && m->blocks_hard[type][id] != 0 && has_blocks + blocks > m->blocks_hard[type][id])
        return false;
    return inodes == 0 || m->inodes_hard[type][id] == 0 || has_inodes + inodes <= m->inodes_hard[type][id];
}

static bool admits_file(const struct model *m, const struct model_file *f, uint64_t blocks)
{
    for (int type = 0; type < HF_QUOTA_TYPES; type++)
        if (!admits(m, type, f->id[type], blocks, 0))
            return false;
    return true;
}

static void compare(struct model *m, const char *after)
{
    for (int type = 0; type < HF_QUOTA_TYPES; type++) {
        for (unsigned id = 0; id < IDS; id++) {
            struct hf_quota quota;
            uint64_t blocks, inodes;

            used(m, type, id, &blocks, &inodes);
            assert_ok(hf_quota_get(m->t->volume, (enum hf_quota_type)type, m->ids[type][id], &quota));
            assert_that(quota.blocks_used == blocks && quota.inodes_used == inodes,
                        "after %s: type %d id %u uses %llu blocks, %llu inodes; the model says %llu, %llu",
                        after, type, m->ids[type][id], (unsigned long long)quota.blocks_used,
                        (unsigned long long)quota.inodes_used, (unsigned long long)blocks,
                        (unsigned long long)inodes);
            assert_count(quota.limits.blocks_hard, m->blocks_hard[type][id]);
            assert_count(quota.limits.inodes_hard, m->inodes_hard[type][id]);
        }
    }
}

/* ---- operations */

static void op_write(struct model *m, struct model_file *f)
{
    static uint8_t buf[BLOCKS * 4096];
    uint32_t size = m->t->block_size;
    unsigned first = below(m, BLOCKS), nr = 1 + below(m, BLOCKS - first), fits = 0;
    uint64_t more = 0;

    while (fits < nr && (f->has[first + fits] || admits_file(m, f, more + 1))) {
        more += !f->has[first + fits];
        fits++;
    }
    memset(buf, 'a' + (int)below(m, 26), (size_t)nr * size);
    if (fits == 0) {
        assert_err(t_pwrite(&f->file, buf, (size_t)nr * size, (hf_off_t)first * size), EDQUOT);
        m->refused++;
        return;
    }
    m->cut_short += fits < nr;
    assert_count(t_pwrite(&f->file, buf, (size_t)nr * size, (hf_off_t)first * size), (int64_t)fits * size);
    for (unsigned b = first; b < first + fits; b++)
        f->has[b] = true;
    if (first + fits > f->size)
        f->size = first + fits;
}

static void op_truncate(struct model *m, struct model_file *f)
{
    uint64_t size = below(m, BLOCKS + 1);

    assert_ok(t_ftruncate(&f->file, (hf_off_t)(size * m->t->block_size)));
    for (uint64_t b = size; b < BLOCKS && size < f->size; b++)
        f->has[b] = false;
    f->size = size;
}

static void op_fallocate(struct model *m, struct model_file *f)
{
    hf_off_t size = m->t->block_size;
    unsigned first = below(m, BLOCKS), nr = 1 + below(m, BLOCKS - first);
    int mode = below(m, 2) ? FALLOC_FL_KEEP_SIZE : 0;
    uint64_t more = 0;

    for (unsigned b = first; b < first + nr; b++)
        more += !f->has[b];
    if (!admits_file(m, f, more)) {
        assert_err(t_fallocate(&f->file, mode, first * size, nr * size), EDQUOT);
        m->refused++;
        return;
    }
    assert_ok(t_fallocate(&f->file, mode, first * size, nr * size));
    for (unsigned b = first; b < first + nr; b++)
        f->has[b] = true;
    if (mode == 0 && first + nr > f->size)
        f->size = first + nr;
}

static void op_punch(struct model *m, struct model_file *f)
{
    hf_off_t size = m->t->block_size;
    unsigned first = below(m, BLOCKS), nr = 1 + below(m, BLOCKS - first);

    assert_ok(t_fallocate(&f->file, FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE, first * size, nr * size));
    for (unsigned b = first; b < first + nr; b++)
        f->has[b] = false;
}

static void op_sync(struct model *m, struct model_file *f)
{
    if (below(m, 2))
        assert_ok(t_fsync(&f->file));
    else
        assert_ok(hf_volume_sync(m->t->volume));
}

/* An owner, a group and a project, of which one, two or all change. */
static void op_owner(struct model *m, struct model_file *f)
{
    unsigned id[HF_QUOTA_TYPES], nr_types = below(m, 3) == 0 ? 1 : 2;
    bool project = below(m, 2), ok = true;

    memcpy(id, f->id, sizeof(id));
    if (project) {
        id[HF_QUOTA_PROJECT] = below(m, IDS);
    } else {
        for (unsigned i = 0; i < nr_types; i++)
            id[i] = below(m, IDS);
    }
    for (int type = 0; type < HF_QUOTA_TYPES; type++)
        ok = ok && (id[type] == f->id[type] || admits(m, type, id[type], blocks_of(f), 1));
    if (project)
        assert_count(hf_fset_project(f->file.hf, m->ids[HF_QUOTA_PROJECT][id[HF_QUOTA_PROJECT]], 0),
                     ok ? 0 : -EDQUOT);
    else
        assert_count(hf_fchown(f->file.hf, m->ids[HF_QUOTA_USER][id[HF_QUOTA_USER]],
                               m->ids[HF_QUOTA_GROUP][id[HF_QUOTA_GROUP]]),
                     ok ? 0 : -EDQUOT);
    if (ok)
        memcpy(f->id, id, sizeof(id));
    m->refused += !ok;
}

static void op_create(struct model *m, struct model_file *f)
{
    bool ok = admits(m, HF_QUOTA_USER, 0, 0, 1) && admits(m, HF_QUOTA_GROUP, 0, 0, 1) &&
              admits(m, HF_QUOTA_PROJECT, 0, 0, 1);
    int ret = t_open(m->t, name_of(m, f), O_RDWR | O_CREAT | O_EXCL, 0644, &f->file);

    assert_count(ret, ok ? 0 : -EDQUOT);
    f->there = ok;
    f->size = 0;
    memset(f->has, 0, sizeof(f->has));
    memset(f->id, 0, sizeof(f->id));
    m->refused += !ok;
}

static void op_remove(struct model *m, struct model_file *f)
{
    assert_ok(t_unlink(m->t, name_of(m, f)));
    compare(m, "unlink while open"); /* it has all that it had */
    close_ok(&f->file);
    f->there = false;
}

static void op_limits(struct model *m)
{
    struct hf_quota_limits limits = {.type = (enum hf_quota_type)below(m, HF_QUOTA_TYPES)};
    unsigned id = below(m, IDS);
    uint64_t blocks, inodes;

    used(m, (int)limits.type, id, &blocks, &inodes);
    limits.id = m->ids[limits.type][id];
    limits.blocks_hard = below(m, 3) == 0 ? 0 : blocks + below(m, 12);
    limits.inodes_hard = below(m, 3) != 0 ? 0 : inodes + below(m, 2);
    assert_ok(hf_quota_set(m->t->volume, &limits));
    m->blocks_hard[limits.type][id] = limits.blocks_hard;
    m->inodes_hard[limits.type][id] = limits.inodes_hard;
}

static void op_reopen(struct model *m)
{
    for (unsigned i = 0; i < FILES; i++)
        if (m->files[i].there)
            close_ok(&m->files[i].file);
    compare(m, "close");
    target_reopen(m->t);
    compare(m, "reopen");
    for (unsigned i = 0; i < FILES; i++)
        if (m->files[i].there)
            m->files[i].file = open_old(m->t, name_of(m, &m->files[i]), O_RDWR);
}

static void operation(struct model *m)
{
    static void (*const ops[])(struct model * m, struct model_file * f) = {
        op_write, op_write, op_write, op_truncate, op_fallocate, op_punch, op_sync, op_owner, op_owner};
    static const char *const names[] = {"write",
                                        "write",
                                        "write",
                                        "truncate",
                                        "fallocate",
                                        "punch",
                                        "sync",
                                        "a change of owner",
                                        "a change of owner"};
    struct model_file *f = &m->files[below(m, FILES)];
    unsigned which = below(m, 12);

    if (which >= 9 || !f->there) {
        if (!f->there)
            op_create(m, f);
        else if (which == 9)
            op_remove(m, f);
        else
            op_limits(m);
        compare(m, "create, unlink or limits");
        return;
    }
    ops[which](m, f);
    compare(m, names[which]);
}

static void model_init(struct model *m, struct target *t)
{
    *m = (struct model){.t = t, .random = 88172645463325252u + t->block_size};
    for (int type = 0; type < HF_QUOTA_TYPES; type++) {
        m->ids[type][0] = type == HF_QUOTA_USER ? geteuid() : type == HF_QUOTA_GROUP ? getegid() : 0;
        for (unsigned id = 1; id < IDS; id++)
            m->ids[type][id] = 5000 + (unsigned)type * 100 + id;
        for (unsigned id = 0; id < IDS; id++) {
            struct hf_quota quota;

            assert_ok(hf_quota_get(t->volume, (enum hf_quota_type)type, m->ids[type][id], &quota));
            m->base_inodes[type][id] = quota.inodes_used;
        }
    }
}

static void the_model_agrees(struct target *t)
{
    struct hf_quota_check check;
    struct model m;

    model_init(&m, t);
    for (unsigned i = 1; i <= OPS; i++) {
        operation(&m);
        if (i % 16 == 0)
            assert_count(hf_quota_check(t->volume, &check), 0);
        if (i % 200 == 0)
            op_reopen(&m);
    }
    assert_that(m.refused > OPS / 50 && m.cut_short > OPS / 100, "only %llu were refused, %llu cut short",
                (unsigned long long)m.refused, (unsigned long long)m.cut_short);
    for (unsigned i = 0; i < FILES; i++)
        if (m.files[i].there)
            op_remove(&m, &m.files[i]);
    compare(&m, "the end");
}

/* ---- projects of directory trees */

static void projects_by_directory(struct target *t)
{
    uint32_t project = 1;
    unsigned flags = 7;
    struct hf_quota quota;
    struct target_file f;

    assert_ok(t->ops->mkdir(t, "d", 0755));
    assert_ok(hf_set_project(t->volume, "d", 9, HF_PROJECT_INHERIT));
    assert_ok(t->ops->mkdir(t, "d/sub", 0755));
    make_file(t, "d/sub/f", 3 * (hf_off_t)t->block_size, 'f');
    make_file(t, "out", 1, 'o');
    assert_ok(hf_get_project(t->volume, "d/sub", &project, &flags));
    assert_true(project == 9 && flags == HF_PROJECT_INHERIT);
    assert_ok(hf_get_project(t->volume, "d/sub/f", &project, &flags));
    assert_true(project == 9 && flags == 0);
    assert_ok(hf_quota_get(t->volume, HF_QUOTA_PROJECT, 9, &quota));
    assert_count(quota.blocks_used, 3);
    assert_count(quota.inodes_used, 3);
    /* Into it only what is of the same project; out of it what likes. */
    assert_err(t->ops->rename(t, "out", "d/in", 0), EXDEV);
    assert_err(t->ops->link(t, "out", "d/in"), EXDEV);
    assert_err(t->ops->rename(t, "out", "d/sub/f", RENAME_EXCHANGE), EXDEV);
    assert_err(t->ops->rename(t, "d/sub/f", "out", RENAME_EXCHANGE), EXDEV);
    assert_ok(t->ops->link(t, "d/sub/f", "d/g"));
    assert_ok(t->ops->rename(t, "d/sub/f", "moved", 0));
    assert_ok(hf_quota_get(t->volume, HF_QUOTA_PROJECT, 9, &quota));
    assert_count(quota.blocks_used, 3); /* it took its project along */
    target_reopen(t);
    assert_ok(hf_get_project(t->volume, "d", &project, &flags));
    assert_true(project == 9 && flags == HF_PROJECT_INHERIT);
    f = open_old(t, "moved", O_RDWR);
    assert_err(hf_fset_project(f.hf, 3, HF_PROJECT_INHERIT), ENOTDIR);
    assert_err(hf_fset_project(f.hf, 3, 4), EINVAL);
    assert_ok(hf_fset_project(f.hf, 0, 0));
    assert_ok(hf_fget_project(f.hf, &project, NULL));
    assert_count(project, 0);
    close_ok(&f);
    assert_ok(hf_quota_get(t->volume, HF_QUOTA_PROJECT, 9, &quota));
    assert_count(quota.blocks_used, 0);
    assert_count(quota.inodes_used, 2);
}

/* The grace time is real time: when it has passed, and not before it can have, stores are refused. */
static void a_grace_time_ends(struct target *t)
{
    struct hf_quota_limits limits = {
        .type = HF_QUOTA_USER, .id = geteuid(), .blocks_soft = 2, .blocks_hard = 1000, .grace_seconds = 1};
    struct target_file f = open_new(t, "f");
    struct hf_quota quota;
    struct timespec now;
    int tries = 0;

    assert_ok(hf_quota_set(t->volume, &limits));
    fill_range(&f, 0, 3 * (size_t)t->block_size, 'g');
    assert_ok(hf_quota_get(t->volume, HF_QUOTA_USER, geteuid(), &quota));
    assert_true(quota.blocks_grace_end_ns > 0);
    do {
        assert_true(++tries < 60000);
        usleep(5000);
        clock_gettime(CLOCK_REALTIME, &now);
    } while ((int64_t)now.tv_sec * 1000000000 + now.tv_nsec <= quota.blocks_grace_end_ns);
    assert_err(t_pwrite(&f, "x", 1, 10 * (hf_off_t)t->block_size), EDQUOT);
    assert_ok(t_ftruncate(&f, 2 * (hf_off_t)t->block_size));
    assert_count(t_pwrite(&f, "x", 1, 10 * (hf_off_t)t->block_size), 1);
    close_ok(&f);
}

static const struct test_body bodies[] = {
    BODY(the_model_agrees, ON(TARGET_BLOCKFS)),
    BODY(projects_by_directory, ON(TARGET_BLOCKFS)),
    BODY(a_grace_time_ends, ON(TARGET_BLOCKFS)),
};

static const struct target_spec specs[] = {
    {.name = "blockfs B=1024 P=4096", .kind = TARGET_BLOCKFS, .block_size = 1024},
    {.name = "blockfs B=4096 P=4096", .kind = TARGET_BLOCKFS, .block_size = 4096},
    {.name = "blockfs B=512 P=64K", .kind = TARGET_BLOCKFS, .block_size = 512, .open = {.page_size = 65536}},
};

int main(int argc, char **argv)
{
    struct test_program program = {.name = "quota_model",
                                   .bodies = bodies,
                                   .nr_bodies = ARRAY_LEN(bodies),
                                   .specs = specs,
                                   .nr_specs = ARRAY_LEN(specs)};

    return target_main(argc, argv, &program);
}
