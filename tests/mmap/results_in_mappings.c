/* SPDX-License-Identifier: MIT */
/*
 * results_in_mappings.c - what a call gives back may lie in a mapping, even of the file that the call is
 * about: it is stored without locks. And where that store is refused, nothing is lost with it: no handle, no
 * reference.
 */
#include "mmap_test.h"

#define PAGES 16

struct place {
    struct target_file file;
    uint8_t *map;
    size_t page, next;
};

static struct place place_new(struct target *t)
{
    struct place p = {.page = t->page_size};

    p.map = map_sparse(t, "results", PAGES, &p.file);
    return p;
}

/* Memory that nobody has touched: storing to it is a fault. */
static void *fresh(struct place *p)
{
    assert_true(p->next < PAGES);
    return p->map + p->next++ * p->page + 64;
}

static void place_end(struct target *t, struct place *p)
{
    unmap_ok(t, p->map, PAGES * p->page);
    close_ok(&p->file);
}

static void results_arrive(struct target *t)
{
    struct place p = place_new(t);
    struct stat *st = fresh(&p), *by_path = fresh(&p), *linked = fresh(&p);
    struct hf_dirent *entry = fresh(&p);
    struct hf_page_info *info = fresh(&p);
    struct hf_file **file = fresh(&p);
    struct hf_dir **dir = fresh(&p);
    char *link = fresh(&p), *target = fresh(&p);
    void **map = fresh(&p);
    int found = 0;

    strcpy(target, "results"); /* an argument, too */
    assert_ok(hf_symlink(t->volume, target, "/link"));
    assert_ok(hf_fstat(p.file.hf, st));
    assert_ok(hf_stat(t->volume, "/results", by_path));
    assert_ok(hf_lstat(t->volume, "/link", linked));
    assert_int_equal(st->st_size, PAGES * p.page);
    assert_int_equal(by_path->st_ino, st->st_ino);
    assert_true(S_ISLNK(linked->st_mode));
    assert_count(hf_readlink(t->volume, "/link", link, 100), 7);
    assert_memory_equal(link, "results", 7);
    assert_count(hf_page_map(p.file.hf, 0, 1, info), 1);
    assert_int_equal(info->index, 0);
    assert_ok(hf_open(t->volume, "/results", O_RDONLY, 0, file));
    assert_ok(hf_mmap(*file, NULL, p.page, PROT_READ, MAP_SHARED, 0, map));
    assert_ok(hf_munmap(*map, p.page));
    assert_ok(hf_close(*file));
    assert_ok(hf_opendir(t->volume, "/", dir));
    while (hf_readdir(*dir, entry) == 1) {
        found += strcmp(entry->name, "results") == 0;
        assert_ok(t_fsync(&p.file)); /* the next one faults again */
    }
    assert_int_equal(found, 1);
    assert_ok(hf_closedir(*dir));
    place_end(t, &p);
}

struct call {
    struct target *t;
    struct target_file *file;
    void *at;
    int ret;
};

static void do_stat(void *arg)
{
    struct call *c = arg;

    hf_stat(c->t->volume, "/seen", c->at);
}

static void do_readlink(void *arg)
{
    struct call *c = arg;

    hf_readlink(c->t->volume, "/link", c->at, 100);
}

static void do_page_map(void *arg)
{
    struct call *c = arg;

    hf_page_map(c->file->hf, 0, 1, c->at);
}

/* Handles: the error is the call's own. */
static void handles_are_not_lost(struct target *t, struct place *p)
{
    struct hf_file *file;
    void *map;

    assert_err(hf_open(t->volume, "/seen", O_RDWR, 0, fresh(p)), ENOSPC);
    assert_err(hf_opendir(t->volume, "/", fresh(p)), ENOSPC);
    assert_err(hf_mmap(p->file.hf, NULL, p->page, PROT_READ, MAP_SHARED, 0, fresh(p)), ENOSPC);
    assert_ok(hf_open(t->volume, "/seen", O_RDWR, 0, &file));
    assert_ok(hf_mmap(file, NULL, p->page, PROT_READ, MAP_SHARED, 0, &map));
    assert_err(hf_mremap(map, p->page, 2 * p->page, MREMAP_MAYMOVE, fresh(p)), ENOSPC);
    assert_ok(hf_munmap(map, p->page));
    assert_ok(hf_close(file));
}

static void a_refused_result_loses_nothing(struct target *t)
{
    struct target_file seen = open_new(t, "seen");
    struct place p = place_new(t);
    struct call call = {.t = t, .file = &p.file};
    uint64_t before;

    fill_range(&seen, 0, 3 * t->page_size, 's');
    assert_ok(t_fsync(&seen));
    close_ok(&seen);
    assert_ok(hf_symlink(t->volume, "seen", "/link"));
    target_fill_but(t, "ballast", 0);
    call.at = fresh(&p);
    assert_err(hf_guard(do_stat, &call, NULL), ENOSPC);
    call.at = fresh(&p);
    assert_err(hf_guard(do_readlink, &call, NULL), ENOSPC);
    call.at = fresh(&p);
    assert_err(hf_guard(do_page_map, &call, NULL), ENOSPC);
    handles_are_not_lost(t, &p);
    /* Nobody holds the file any more: its blocks come back at once. */
    before = target_statfs(t).blocks_free;
    assert_ok(t_unlink(t, "seen"));
    assert_count(target_statfs(t).blocks_free, before + 3 * blocks_per_page(t));
    place_end(t, &p);
    target_reopen(t); /* not -EBUSY */
}

static const struct test_body bodies[] = {
    BODY(results_arrive, ON_HOLDFAST),
    BODY(a_refused_result_loses_nothing, ON(TARGET_BLOCKFS)),
};

MMAP_TEST_MAIN("results_in_mappings", bodies)
