/* SPDX-License-Identifier: MIT */
/* mm_vma_tree.c - cutting, joining and finding areas agrees with one entry a page, and keeps every area's
 * offset. */
#include "check.h"

#include "mm/vma.h"

#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>

#define PAGE 4096u
#define PAGES 200u
#define BASE ((uintptr_t)0x10000000)
#define REGIONS 5
#define STEPS 20000

/* What one page of the address space is, the naive way. */
struct model_page {
    int region; /* 0: nothing */
    hf_off_t off;
    int prot;
};

static struct hf_vma_tree tree;
static struct hf_list i_mmap;
static struct hf_vm_region *regions[REGIONS + 1];
static struct model_page model[PAGES];
static unsigned seed;

static unsigned draw(unsigned below)
{
    return (unsigned)rand_r(&seed) % below;
}

static uintptr_t addr_of(unsigned page)
{
    return BASE + (uintptr_t)page * PAGE;
}

static void bury(struct hf_vma *vma)
{
    hf_list_del(&vma->i_mmap);
    hf_vm_region_put(vma->region);
    hf_vma_free(vma);
}

static void cut(unsigned page)
{
    struct hf_vma *vma = hf_vma_find(&tree, addr_of(page));

    if (vma != NULL && vma->start != addr_of(page))
        assert_ok(hf_vma_split(&tree, vma, addr_of(page)));
}

static void unmap_pages(unsigned first, unsigned end)
{
    struct hf_vma *vma;

    cut(first);
    cut(end);
    while ((vma = hf_vma_in(&tree, addr_of(first), addr_of(end))) != NULL) {
        hf_vma_tree_remove(&tree, vma);
        bury(vma);
    }
    memset(&model[first], 0, (end - first) * sizeof(model[0]));
}

static void map_pages(unsigned first, unsigned end)
{
    int region = 1 + (int)draw(REGIONS);
    hf_off_t off = (hf_off_t)draw(1000) * PAGE;
    struct hf_vma *vma;

    unmap_pages(first, end);
    assert_ok(hf_vma_tree_reserve(&tree, 1));
    vma = hf_vma_new(regions[region]);
    assert_non_null(vma);
    hf_vm_region_get(regions[region]);
    vma->start = addr_of(first);
    vma->end = addr_of(end);
    vma->off = off;
    vma->prot = PROT_READ;
    hf_vma_tree_insert(&tree, vma);
    hf_list_add_tail(&i_mmap, &vma->i_mmap);
    for (unsigned i = first; i < end; i++)
        model[i] = (struct model_page){
            .region = region, .off = off + (hf_off_t)(i - first) * PAGE, .prot = PROT_READ};
}

/* Areas are cut at the borders, changed, and joined again where they are alike. */
static void protect_pages(unsigned first, unsigned end)
{
    int prot = (int)draw(4);
    struct hf_vma *vma, *upper;

    cut(first);
    cut(end);
    for (unsigned i = first; i < end; i++)
        if (model[i].region != 0)
            model[i].prot = prot;
    for (vma = hf_vma_in(&tree, addr_of(first), addr_of(end)); vma != NULL;
         vma = hf_vma_in(&tree, vma->end, addr_of(end)))
        vma->prot = prot;
    for (vma = hf_vma_in(&tree, addr_of(0), addr_of(PAGES)); vma != NULL;
         vma = hf_vma_in(&tree, vma->end, addr_of(PAGES)))
        while ((upper = hf_vma_merge(&tree, vma)) != NULL)
            bury(upper);
}

static bool same_run(unsigned page)
{
    const struct model_page *a = &model[page - 1], *b = &model[page];

    return a->region == b->region && a->prot == b->prot && a->off + PAGE == b->off;
}

static void compare(bool joined)
{
    size_t areas = 0, listed = 0;
    struct hf_list *pos;

    assert_true(hf_vma_tree_sane(&tree));
    for (unsigned i = 0; i < PAGES; i++) {
        struct hf_vma *vma = hf_vma_find(&tree, addr_of(i) + draw(PAGE));

        assert_true((vma != NULL) == (model[i].region != 0));
        if (vma == NULL)
            continue;
        assert_ptr_equal(vma->region, regions[model[i].region]);
        assert_true(hf_vma_offset(vma, addr_of(i)) == model[i].off);
        assert_int_equal(vma->prot, model[i].prot);
        areas += vma->start == addr_of(i);
        /* Two maps of one region side by side may look like one run: joining them is right. */
        if (joined && i > 0 && same_run(i))
            assert_true(vma->start < addr_of(i));
    }
    hf_list_for_each (pos, &i_mmap)
        listed++;
    assert_int_equal(areas, tree.nr);
    assert_int_equal(listed, tree.nr);
}

static void areas_agree_with_a_page_table(void **state)
{
    (void)state;
    seed = 20240607;
    for (int step = 0; step < STEPS; step++) {
        unsigned first = draw(PAGES), end = first + 1 + draw(PAGES - first), kind = draw(4);

        if (kind == 0)
            map_pages(first, end < first + 40 ? end : first + 40);
        else if (kind == 1)
            unmap_pages(first, end < first + 10 ? end : first + 10);
        else
            protect_pages(first, end);
        compare(kind >= 2);
    }
    unmap_pages(0, PAGES);
    assert_int_equal(tree.nr, 0);
    assert_true(hf_list_empty(&i_mmap));
}

/* Every piece held a reference of what hf_mmap() made, and none holds one any more. */
static void every_piece_gave_its_reference_back(void **state)
{
    (void)state;
    for (int i = 1; i <= REGIONS; i++)
        assert_int_equal(atomic_load(&regions[i]->refs), 1);
}

static void overlapping_areas_are_not_sane(void **state)
{
    struct hf_vma *vma;

    (void)state;
    map_pages(0, 4);
    map_pages(4, 8);
    assert_true(hf_vma_tree_sane(&tree));
    vma = hf_vma_find(&tree, addr_of(0));
    vma->end += PAGE;
    assert_false(hf_vma_tree_sane(&tree));
    vma->end = vma->start;
    assert_false(hf_vma_tree_sane(&tree));
    vma->end = addr_of(4);
    unmap_pages(0, PAGES);
}

static void windows_grow_with_a_stream_and_end_with_it(void **state)
{
    struct hf_vma_stream stream;

    (void)state;
    atomic_init(&stream.next, -1);
    atomic_init(&stream.window, 0);
    assert_int_equal(hf_vma_stream_window(&stream, 0), 0);
    hf_vma_stream_expect(&stream, PAGE);
    for (unsigned want = 2; want < 64; want *= 2) {
        assert_int_equal(hf_vma_stream_window(&stream, PAGE), want < HF_WINDOW_MAX ? want : HF_WINDOW_MAX);
        hf_vma_stream_expect(&stream, PAGE);
    }
    assert_int_equal(hf_vma_stream_window(&stream, 7 * PAGE), 0);
    hf_vma_stream_expect(&stream, 8 * PAGE);
    assert_int_equal(hf_vma_stream_window(&stream, 8 * PAGE), 2);
}

int main(void)
{
    static struct hf_vm_file file; /* areas never look inside */
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(areas_agree_with_a_page_table),
        cmocka_unit_test(every_piece_gave_its_reference_back),
        cmocka_unit_test(overlapping_areas_are_not_sane),
        cmocka_unit_test(windows_grow_with_a_stream_and_end_with_it),
    };

    hf_vma_init();
    hf_list_init(&i_mmap);
    for (int i = 1; i <= REGIONS; i++)
        regions[i] = hf_vm_region_new(&file);
    return cmocka_run_group_tests(tests, NULL, NULL);
}
