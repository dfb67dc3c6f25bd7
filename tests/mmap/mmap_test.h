/* SPDX-License-Identifier: MIT */
/*
 * mmap_test.h - what the mapping tests share.
 *
 * Each program is registered once per engine (HF_ENGINE) and a few page and block sizes (HF_TEST_P,
 * HF_TEST_B), and leaves with 77 where that engine does not work. Its bodies run on the host where
 * they say ON_ALL, and on memfs and blockfs.
 */
#ifndef TESTS_MMAP_TEST_H
#define TESTS_MMAP_TEST_H

#include "target.h"

#define NR_MMAP_SPECS 4
/* Neither a page beyond what a body expects nor a timer may take part: writeback by age is off. */
#define NEVER_MS (3600u * 1000u)

static inline void mmap_specs(struct target_spec ret_specs[NR_MMAP_SPECS])
{
    static char memfs_name[80];

    ret_specs[0] = (struct target_spec){.name = "host shm", .kind = TARGET_SHM};
    ret_specs[1] = (struct target_spec){.name = "host disk", .kind = TARGET_DISK};
    ret_specs[2] = target_spec_from_env();
    ret_specs[3] = ret_specs[2];
    ret_specs[3].kind = TARGET_MEMFS;
    snprintf(memfs_name, sizeof(memfs_name), "memfs %s", ret_specs[2].name);
    ret_specs[3].name = memfs_name;
}

static inline int mmap_test_main(int argc, char **argv, struct test_program *program)
{
    struct target_spec specs[NR_MMAP_SPECS];

    /* In a child nothing of the library may have been called yet. */
    if (argc < 2 || strcmp(argv[1], "--child") != 0)
        mmap_specs(specs);
    program->specs = specs;
    program->nr_specs = NR_MMAP_SPECS;
    program->flags = NEEDS_ENGINE;
    return target_main(argc, argv, program);
}

#define MMAP_TEST_MAIN(program_name, bodies_array)   \
    int main(int argc, char **argv)                  \
    {                                                \
        struct test_program program = {              \
            .name = (program_name),                  \
            .bodies = (bodies_array),                \
            .nr_bodies = ARRAY_LEN(bodies_array),    \
        };                                           \
        return mmap_test_main(argc, argv, &program); \
    }

#define MMAP_TEST_MAIN_CHILDREN(program_name, bodies_array, children_array) \
    int main(int argc, char **argv)                                         \
    {                                                                       \
        struct test_program program = {                                     \
            .name = (program_name),                                         \
            .bodies = (bodies_array),                                       \
            .nr_bodies = ARRAY_LEN(bodies_array),                           \
            .children = (children_array),                                   \
            .nr_children = ARRAY_LEN(children_array),                       \
        };                                                                  \
        return mmap_test_main(argc, argv, &program);                        \
    }

/* A new file that is one hole of this many pages (of P), mapped shared and writable. */
static inline uint8_t *map_sparse(struct target *t, const char *path, size_t pages, struct target_file *ret)
{
    struct target_file file = open_new(t, path);

    assert_ok(t_ftruncate(&file, (hf_off_t)(pages * t->page_size)));
    *ret = file;
    return map_shared(&file, 0, pages * t->page_size);
}

static inline uint64_t blocks_per_page(const struct target *t)
{
    return t->page_size / t->block_size;
}

/* Blocks that a store into a hole needs at that moment: those of its
 * hardware page, all of which it makes storable. What it does not fill is
 * given back before another store is refused, so in the end it costs one. */
static inline uint64_t blocks_per_store(const struct target *t)
{
    uint64_t hw = (uint64_t)sysconf(_SC_PAGESIZE);

    return t->block_size < hw ? hw / t->block_size : 1;
}

/* EOF is kept to the hardware page, whatever P is: the end of the one that holds the last byte of `size`. */
static inline size_t eof_page_end(size_t size)
{
    size_t hw = (size_t)sysconf(_SC_PAGESIZE);

    return (size + hw - 1) / hw * hw;
}

/* One byte through hf_store(): 0 or the errno of the refusal. */
static inline int store_byte(uint8_t *at, uint8_t value)
{
    size_t done = 99;
    int ret = hf_store(at, &value, 1, &done);

    assert_count(done, ret == 0 ? 1 : 0);
    return ret;
}

/*
 * Aligned words in a mapping that several threads use. Not by <stdatomic.h>: an atomic operation of TSan's
 * holds a lock of its runtime while it touches memory, and the fault handler would need that lock.
 */
__attribute__((noinline, unused, no_sanitize("thread"))) static void word_set(volatile uint32_t *at,
                                                                              uint32_t value)
{
    *at = value;
}

__attribute__((noinline, unused, no_sanitize("thread"))) static uint32_t word_get(const volatile uint32_t *at)
{
    return *at;
}

static inline volatile uint32_t *word_at(uint8_t *at)
{
    return (volatile uint32_t *)(void *)at;
}

/* Opens the volume again with other options; the calls that follow use those. */
static inline void reopen_with(struct target *t, const struct hf_open_options *opts)
{
    assert_ok(hf_volume_close(t->volume));
    t->volume = NULL;
    assert_ok(hf_volume_open(t->path, opts, &t->volume));
}

/* The state of one page of a file, as the cache sees it. */
static inline struct hf_page_info page_info(struct target_file *file, uint64_t index)
{
    struct hf_page_info info;

    assert_true(hf_page_map(file->hf, index, 1, &info) >= 1);
    assert_int_equal(info.index, index);
    return info;
}

#endif
