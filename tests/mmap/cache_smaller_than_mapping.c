/* SPDX-License-Identifier: MIT */
/*
 * cache_smaller_than_mapping.c - a mapping of 64 MiB through a cache of a few MiB: pages are reclaimed under
 * it, mapped ones too, and every store is still there.
 */
#include "mmap_test.h"

#define FILE_BYTES MIB(64)
#define STRIDE 16384

static struct target_spec spec;

static uint32_t stamp_of(hf_off_t off)
{
    return (uint32_t)(off / STRIDE) * 2654435761u | 1;
}

static void store_stamp(uint8_t *map, hf_off_t off)
{
    uint32_t stamp = stamp_of(off);

    memcpy(map + off, &stamp, sizeof(stamp));
}

static void check_stamp(const uint8_t *map, hf_off_t off)
{
    uint32_t got;

    memcpy(&got, map + off, sizeof(got));
    assert_that(got == stamp_of(off), "at %lld: 0x%08x", (long long)off, got);
}

static void expect_small_cache(struct target *t)
{
    struct hf_volume_stats stats = target_stats(t);

    /* A reserve of pages in flight may stand above the limit for a moment. */
    assert_that(stats.cached_pages * t->page_size <= 2 * spec.open.cache_bytes, "%llu pages are cached",
                (unsigned long long)stats.cached_pages);
}

static void stores_survive_reclaim(struct target *t)
{
    struct target_file file = open_new(t, "f");
    uint8_t *map;

    assert_ok(t_ftruncate(&file, FILE_BYTES));
    map = map_shared(&file, 0, FILE_BYTES);
    for (hf_off_t off = 0; off < FILE_BYTES; off += STRIDE)
        store_stamp(map, off);
    expect_small_cache(t);
    assert_true(target_stats(t).pages_reclaimed > 0);
    for (hf_off_t off = 0; off < FILE_BYTES; off += STRIDE)
        check_stamp(map, off);
    expect_small_cache(t);
    /* Again, backwards, with stores between the loads. */
    for (hf_off_t off = FILE_BYTES - STRIDE; off >= 0; off -= STRIDE * 8) {
        check_stamp(map, off);
        map[off + 8] = 'x';
    }
    unmap_ok(t, map, FILE_BYTES);
    close_ok(&file);
    target_reopen(t);
    file = open_old(t, "f", O_RDONLY);
    map = map_with(&file, 0, FILE_BYTES, PROT_READ, MAP_SHARED);
    for (hf_off_t off = 0; off < FILE_BYTES; off += STRIDE)
        check_stamp(map, off);
    for (hf_off_t off = FILE_BYTES - STRIDE; off >= 0; off -= STRIDE * 8)
        assert_int_equal(byte_at(map + off + 8), 'x');
    expect_small_cache(t);
    unmap_ok(t, map, FILE_BYTES);
    close_ok(&file);
}

static void writes_survive_reclaim(struct target *t)
{
    struct target_file file = open_new(t, "f");

    for (hf_off_t off = 0; off < FILE_BYTES / 2; off += UNIT)
        fill_range(&file, off, UNIT, (uint8_t)(off / UNIT | 1));
    expect_small_cache(t);
    for (hf_off_t off = 0; off < FILE_BYTES / 2; off += UNIT)
        expect_range(&file, off, UNIT, (uint8_t)(off / UNIT | 1));
    expect_small_cache(t);
    close_ok(&file);
}

static void private_copies_survive_reclaim(struct target *t)
{
    struct target_file file = open_new(t, "f");
    hf_off_t bytes = MIB(8);
    uint8_t *priv, *map;

    assert_ok(t_ftruncate(&file, FILE_BYTES));
    priv = map_with(&file, 0, (size_t)bytes, PROT_READ | PROT_WRITE, MAP_PRIVATE);
    for (hf_off_t off = 0; off < bytes; off += UNIT)
        priv[off] = 'p';
    map = map_shared(&file, 0, FILE_BYTES);
    for (hf_off_t off = 0; off < FILE_BYTES; off += STRIDE)
        store_stamp(map, off + 16);
    for (hf_off_t off = 0; off < bytes; off += UNIT)
        assert_int_equal(byte_at(priv + off), 'p');
    unmap_ok(t, map, FILE_BYTES);
    unmap_ok(t, priv, (size_t)bytes);
    close_ok(&file);
}

static const struct test_body bodies[] = {
    BODY(stores_survive_reclaim, ON(TARGET_BLOCKFS)),
    BODY(writes_survive_reclaim, ON(TARGET_BLOCKFS)),
    BODY(private_copies_survive_reclaim, ON(TARGET_BLOCKFS)),
};

int main(int argc, char **argv)
{
    struct test_program program = {
        .name = "cache_smaller_than_mapping",
        .bodies = bodies,
        .nr_bodies = ARRAY_LEN(bodies),
        .specs = &spec,
        .nr_specs = 1,
        .flags = NEEDS_ENGINE,
    };

    spec = target_spec_from_env();
    spec.size_bytes = (uint64_t)MIB(128);
    spec.open.cache_bytes = (uint64_t)MIB(4);
    spec.open.writeback_ms = 0;
    return target_main(argc, argv, &program);
}
