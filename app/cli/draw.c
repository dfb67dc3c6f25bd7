/* SPDX-License-Identifier: MIT */
/*
 * draw.c - a file's pages and blocks, drawn.
 *
 * Every cell has a character of its own, so that the drawing says the same without colour. Pages that look
 * alike are told once: a sparse file of a terabyte is a few lines, and a long hole is skipped with SEEK_DATA
 * instead of being read page by page.
 */
#include "draw.h"
#include "cli.h"
#include <ctype.h>
#include <errno.h>
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

#define BATCH_PAGES 64u
#define ROW_CELLS 32u           /* wider pages go on in the next row */
#define SURVEY_PAGES 65536u     /* a run of holes longer than this is skipped, not surveyed */
#define BUDGET_PAGES (1u << 20) /* of a larger file only so many are looked at: some seconds */

static const struct {
    enum hf_style style;
    const char *utf8, *ascii, *name;
} cells[] = {
    [HF_CELL_BEYOND] = {HF_STYLE_PLAIN, " ", " ", "beyond EOF"},
    [HF_CELL_HOLE] = {HF_STYLE_DIM, "·", ".", "hole"},
    [HF_CELL_RESERVED] = {HF_STYLE_CELL_RESERVED, "r", "r", "reserved"},
    [HF_CELL_DIRTY] = {HF_STYLE_CELL_DIRTY, "D", "D", "dirty"},
    [HF_CELL_WRITTEN] = {HF_STYLE_CELL_WRITTEN, "█", "#", "written"},
    [HF_CELL_UNWRITTEN] = {HF_STYLE_CELL_UNWRITTEN, "u", "u", "unwritten"},
    [HF_CELL_LOST] = {HF_STYLE_CELL_LOST, "!", "!", "lost"},
};
#define NR_CELLS (HF_CELL_LOST + 1)

enum hf_cell hf_cell_of(const struct hf_page_info *page, unsigned block)
{
    bool dirty = page->block_dirty[block];

    switch (page->block_state[block]) {
    case HF_BLOCK_RESERVED:
        return dirty ? HF_CELL_DIRTY : HF_CELL_RESERVED;
    case HF_BLOCK_WRITTEN:
        return dirty ? HF_CELL_DIRTY : HF_CELL_WRITTEN;
    case HF_BLOCK_UNWRITTEN:
        return dirty ? HF_CELL_DIRTY : HF_CELL_UNWRITTEN;
    case HF_BLOCK_BEYOND:
        return HF_CELL_BEYOND;
    default:
        return dirty || page->writable ? HF_CELL_LOST : HF_CELL_HOLE;
    }
}

const char *hf_cell_name(enum hf_cell cell)
{
    return cells[cell].name;
}

/* ---------------------------------------------------------------- runs of like pages */

int hf_map_iter_init(struct hf_map_iter *iter, const struct hf_map_source *source, uint64_t first)
{
    struct stat st;
    int error = hf_map_source_stat(source, &st);

    if (error)
        return error;
    *iter = (struct hf_map_iter){.source = source, .next = first, .budget = BUDGET_PAGES};
    iter->nr_pages = ((uint64_t)st.st_size + source->page_size - 1) / source->page_size;
    iter->batch = calloc(BATCH_PAGES, sizeof(*iter->batch));
    return iter->batch ? 0 : -ENOMEM;
}

void hf_map_iter_done(struct hf_map_iter *iter)
{
    free(iter->batch);
    iter->batch = NULL;
}

/* Returns 1 if batch[batch_pos] is the page iter->next, 0 at EOF. */
static int iter_fill(struct hf_map_iter *iter)
{
    int count;

    if (iter->next >= iter->nr_pages)
        return 0;
    if (iter->batch_pos < iter->batch_len)
        return 1;
    iter->early = iter->budget < BATCH_PAGES;
    if (iter->early)
        return 0;
    iter->budget -= BATCH_PAGES;
    count = hf_map_source_pages(iter->source, iter->next, BATCH_PAGES, iter->batch);
    if (count < 0)
        return count;
    iter->batch_len = (unsigned)count;
    iter->batch_pos = 0;
    if (count == 0)
        iter->nr_pages = iter->next; /* it shrank under us */
    return count > 0;
}

static bool pages_alike(const struct hf_page_info *a, const struct hf_page_info *b)
{
    return a->nr_blocks == b->nr_blocks && a->straddling == b->straddling && a->writable == b->writable &&
           !strcmp(a->state, b->state) && !memcmp(a->block_state, b->block_state, a->nr_blocks) &&
           !memcmp(a->block_dirty, b->block_dirty, a->nr_blocks);
}

static bool page_is_hole(const struct hf_page_info *page)
{
    for (unsigned i = 0; i < page->nr_blocks; i++)
        if (hf_cell_of(page, i) != HF_CELL_HOLE)
            return false;
    return true;
}

/* The run has become a very long hole: go to the next
 * data, leaving the last page, which may straddle, alone. */
static void iter_skip_hole(struct hf_map_iter *iter, struct hf_map_run *run)
{
    uint32_t page_size = iter->source->page_size;
    hf_off_t data = hf_map_source_data(iter->source, (hf_off_t)(iter->next * page_size));
    uint64_t to = data >= 0 ? (uint64_t)data / page_size : iter->nr_pages - 1;

    if ((data < 0 && data != -ENXIO) || to <= iter->next || to >= iter->nr_pages)
        return;
    run->count += to - iter->next;
    run->surveyed = false;
    iter->next = to;
    iter->batch_len = iter->batch_pos = 0;
}

int hf_map_iter_next(struct hf_map_iter *iter, struct hf_map_run *ret_run)
{
    struct hf_map_run run = {.surveyed = true};
    bool hole = false, skipped = false;
    int more;

    while ((more = iter_fill(iter)) > 0) {
        const struct hf_page_info *page = &iter->batch[iter->batch_pos];

        if (run.count && !pages_alike(&run.page, page))
            break;
        if (!run.count) {
            run.page = *page;
            hole = page_is_hole(page);
        }
        run.count++;
        iter->next++;
        iter->batch_pos++;
        if (hole && !skipped && run.count >= SURVEY_PAGES) {
            skipped = true;
            iter_skip_hole(iter, &run);
        }
    }
    if (more < 0)
        return more;
    if (!run.count)
        return 0;
    *ret_run = run;
    return 1;
}

/* ---------------------------------------------------------------- one page */

static void draw_cell(struct hf_line *line, enum hf_cell cell)
{
    hf_line_glyph(line, cells[cell].style, cells[cell].utf8, cells[cell].ascii);
}

static void draw_edge(struct hf_line *line)
{
    hf_line_glyph(line, HF_STYLE_PLAIN, "│", "|");
}

void hf_draw_cells(struct hf_line *line, const struct hf_page_info *page, unsigned first, unsigned count)
{
    unsigned end = first + count < page->nr_blocks ? first + count : page->nr_blocks;

    draw_edge(line);
    for (unsigned i = first; i < end; i++)
        draw_cell(line, hf_cell_of(page, i));
    draw_edge(line);
}

const char *hf_page_state_text(const struct hf_page_info *page, char buf[HF_PAGE_STATE_LEN])
{
    size_t i;

    for (i = 0; page->state[i] && i < HF_PAGE_STATE_LEN - 1; i++)
        buf[i] = (char)tolower((unsigned char)page->state[i]);
    buf[i] = '\0';
    return buf;
}

/* The state's name, with what it does not say itself: that a mapping can store without asking. */
static void draw_state(struct hf_line *line, const struct hf_page_info *page)
{
    char buf[HF_PAGE_STATE_LEN];
    const char *state = hf_page_state_text(page, buf);
    bool told = strstr(state, "writable") != NULL;

    if (!strcmp(state, "absent"))
        hf_line_put(line, HF_STYLE_DIM, "not cached");
    else
        hf_line_put(line, HF_STYLE_PLAIN, "%s%s", state, page->writable && !told ? ", writable" : "");
}

void hf_draw_page_short(struct hf_line *line, const struct hf_page_info *page)
{
    hf_line_put(line, HF_STYLE_DIM, "%" PRIu64 " ", page->index);
    hf_draw_cells(line, page, 0, page->nr_blocks);
    hf_line_put(line, HF_STYLE_PLAIN, " ");
    draw_state(line, page);
    if (page->straddling)
        hf_line_glyph(line, HF_STYLE_NOTE, " ◂EOF", " <EOF");
}

/* ---------------------------------------------------------------- a whole file */

struct drawing {
    FILE *out;
    unsigned indent;
    unsigned digits; /* of the largest offset */
    uint32_t page_size;
    hf_off_t size;
    uint64_t count[NR_CELLS]; /* blocks */
};

static void draw_page(struct drawing *d, const struct hf_page_info *page)
{
    uint64_t start = page->index * d->page_size;
    unsigned per_row = page->nr_blocks > ROW_CELLS ? ROW_CELLS : page->nr_blocks;
    struct hf_line line;
    unsigned column;

    hf_line_init(&line);
    hf_line_pad(&line, d->indent);
    hf_line_put(&line, HF_STYLE_PLAIN, "%6" PRIu64 "  ", page->index);
    hf_line_put(&line, HF_STYLE_DIM, "%*" PRIu64 " - %-*" PRIu64 "  ", d->digits, start, d->digits,
                start + d->page_size - 1);
    column = line.width;
    hf_draw_cells(&line, page, 0, per_row);
    hf_line_put(&line, HF_STYLE_PLAIN, "  ");
    draw_state(&line, page);
    if (page->straddling) {
        hf_line_glyph(&line, HF_STYLE_NOTE, "  ◂ EOF at ", "  < EOF at ");
        hf_line_put(&line, HF_STYLE_NOTE, "%" PRId64 " (straddles)", d->size);
    }
    hf_line_print(&line, d->out);
    for (unsigned first = per_row; first < page->nr_blocks; first += per_row) {
        hf_line_init(&line);
        hf_line_pad(&line, column);
        hf_draw_cells(&line, page, first, per_row);
        hf_line_print(&line, d->out);
    }
}

static void draw_fold(struct drawing *d, const struct hf_map_run *run)
{
    struct hf_line line;
    uint64_t more = run->count - 1;

    hf_line_init(&line);
    hf_line_pad(&line, d->indent + 6);
    hf_line_glyph(&line, HF_STYLE_DIM, "… ", "... ");
    if (run->surveyed)
        hf_line_put(&line, HF_STYLE_DIM, "%" PRIu64 " more pages like this", more);
    else
        hf_line_put(&line, HF_STYLE_DIM,
                    "%" PRIu64 " more pages without data (skipped, not looked at one by one)", more);
    hf_line_print(&line, d->out);
}

static void draw_run(struct drawing *d, const struct hf_map_run *run)
{
    struct hf_page_info page = run->page;

    for (unsigned i = 0; i < page.nr_blocks; i++)
        d->count[hf_cell_of(&page, i)] += run->count;
    draw_page(d, &page);
    if (run->count > 3) {
        draw_fold(d, run);
        return;
    }
    for (uint64_t i = 1; i < run->count; i++) {
        page.index++;
        draw_page(d, &page);
    }
}

static void draw_counts(const struct drawing *d)
{
    const char *separator = "";
    struct hf_line line;

    hf_line_init(&line);
    hf_line_pad(&line, d->indent);
    hf_line_put(&line, HF_STYLE_PLAIN, "blocks: ");
    for (enum hf_cell cell = HF_CELL_HOLE; cell <= HF_CELL_LOST; cell++) {
        if (!d->count[cell])
            continue;
        hf_line_put(&line, HF_STYLE_PLAIN, "%s%" PRIu64 " %s", separator, d->count[cell], cells[cell].name);
        separator = ", ";
    }
    if (!*separator)
        hf_line_put(&line, HF_STYLE_PLAIN, "none, the file is empty");
    hf_line_print(&line, d->out);
}

int hf_draw_map(FILE *out, const struct hf_map_source *source, const struct hf_draw_part *part,
                uint64_t *ret_rest)
{
    struct drawing d = {.out = out, .indent = part->indent, .page_size = source->page_size};
    struct hf_map_iter iter;
    struct hf_map_run run;
    uint64_t runs = 0;
    struct stat st;
    int more = hf_map_source_stat(source, &st);

    if (!more)
        more = hf_map_iter_init(&iter, source, part->first);
    if (more)
        return more;
    d.size = st.st_size;
    d.digits = (unsigned)snprintf(NULL, 0, "%" PRIu64, iter.nr_pages * source->page_size);
    while ((part->runs == 0 || runs < part->runs) && (more = hf_map_iter_next(&iter, &run)) > 0) {
        draw_run(&d, &run);
        runs++;
    }
    hf_map_iter_done(&iter);
    if (more < 0)
        return more;
    if (part->counts)
        draw_counts(&d);
    *ret_rest = iter.next < iter.nr_pages ? iter.next : 0;
    return 0;
}

int hf_draw_file(FILE *out, struct hf_file *file, uint32_t page_size, unsigned indent)
{
    const struct hf_map_source source = {.file = file, .page_size = page_size};
    const struct hf_draw_part part = {.indent = indent};
    uint64_t rest;

    return hf_draw_map(out, &source, &part, &rest);
}

void hf_draw_legend(FILE *out, unsigned indent, bool with_lost)
{
    struct hf_line line;

    hf_line_init(&line);
    hf_line_pad(&line, indent);
    for (enum hf_cell cell = HF_CELL_HOLE; cell < HF_CELL_LOST; cell++) {
        draw_cell(&line, cell);
        hf_line_put(&line, HF_STYLE_PLAIN, " %s   ", cells[cell].name);
    }
    hf_line_put(&line, HF_STYLE_PLAIN, "blank: beyond EOF");
    hf_line_print(&line, out);
    if (!with_lost)
        return;
    hf_line_init(&line);
    hf_line_pad(&line, indent);
    draw_cell(&line, HF_CELL_LOST);
    hf_line_put(&line, HF_STYLE_PLAIN, " writable, and no space behind it: what is stored there is lost");
    hf_line_print(&line, out);
}

void hf_draw_space(FILE *out, const struct hf_statfs *statfs, unsigned indent)
{
    char used_text[HF_CLI_SIZE_LEN], reserved_text[HF_CLI_SIZE_LEN], free_text[HF_CLI_SIZE_LEN];
    uint64_t used = statfs->blocks - statfs->blocks_free - statfs->blocks_reserved;
    uint64_t total = statfs->blocks ? statfs->blocks : 1;
    struct hf_line line;
    unsigned width = 28, used_cells, reserved_cells;

    used_cells = (unsigned)((double)used / (double)total * width + 0.5);
    reserved_cells =
        (unsigned)((double)(used + statfs->blocks_reserved) / (double)total * width + 0.5) - used_cells;
    hf_line_init(&line);
    hf_line_pad(&line, indent);
    draw_edge(&line);
    for (unsigned i = 0; i < width; i++)
        draw_cell(&line, i < used_cells                    ? HF_CELL_WRITTEN
                         : i < used_cells + reserved_cells ? HF_CELL_RESERVED
                                                           : HF_CELL_HOLE);
    draw_edge(&line);
    hf_line_put(&line, HF_STYLE_PLAIN, " %s used, %s reserved, %s free",
                hf_cli_size_format(used * statfs->block_size, used_text),
                hf_cli_size_format(statfs->blocks_reserved * statfs->block_size, reserved_text),
                hf_cli_size_format(statfs->blocks_free * statfs->block_size, free_text));
    hf_line_print(&line, out);
}
