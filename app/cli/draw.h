/* SPDX-License-Identifier: MIT */
/*
 * draw.h - a file's pages and blocks, drawn.
 *
 * One page is a row of cells, one cell a block. The same functions draw a file at rest (holdfast map), a
 * live file between two steps, and a page that another process described (the demo).
 */
#ifndef HF_CLI_DRAW_H
#define HF_CLI_DRAW_H

#include "term.h"
#include <holdfast/holdfast.h>

enum hf_cell {
    HF_CELL_BEYOND,    /* past EOF */
    HF_CELL_HOLE,      /* no block; a store would have to ask */
    HF_CELL_RESERVED,  /* space promised, nothing in it yet */
    HF_CELL_DIRTY,     /* holds bytes that are newer than the disk's, and has space for them */
    HF_CELL_WRITTEN,   /* on disk */
    HF_CELL_UNWRITTEN, /* allocated, reads zero */
    HF_CELL_LOST,      /* a store gets in without asking, and has no space: HOLD-1 is broken */
};
enum hf_cell hf_cell_of(const struct hf_page_info *page, unsigned block);
const char *hf_cell_name(enum hf_cell cell);
#define HF_PAGE_STATE_LEN 24
/* The state's name in lower case. Returns buf. */
const char *hf_page_state_text(const struct hf_page_info *page, char buf[HF_PAGE_STATE_LEN]);

/* ---------------------------------------------------------------- runs of like pages */

struct hf_map_run {
    struct hf_page_info page; /* the first of them */
    uint64_t count;
    bool surveyed; /* false: only known to hold no data, not looked at page by page */
};

struct hf_map_iter {
    struct hf_file *file;
    uint32_t page_size;
    uint64_t nr_pages, next; /* of the file; not delivered yet */
    struct hf_page_info *batch;
    unsigned batch_len, batch_pos;
};
/* Returns 0 or what hf_fstat() or memory said. */
int hf_map_iter_init(struct hf_map_iter *iter, struct hf_file *file, uint32_t page_size);
/* Returns 1 and a run, 0 at EOF, or what hf_page_map() said. */
int hf_map_iter_next(struct hf_map_iter *iter, struct hf_map_run *ret_run);
void hf_map_iter_done(struct hf_map_iter *iter);

/* ---------------------------------------------------------------- drawing */

/* The cells of one page, from block first on, at most count of them. */
void hf_draw_cells(struct hf_line *line, const struct hf_page_info *page, unsigned first, unsigned count);
/* A page in few columns: index, cells, state. */
void hf_draw_page_short(struct hf_line *line, const struct hf_page_info *page);
/*
 * The whole file, like pages folded. indent: columns before each line. Returns 0 or an error; lines printed
 * before it stay.
 */
int hf_draw_file(FILE *out, struct hf_file *file, uint32_t page_size, unsigned indent, bool counts);
/* What the cells mean. */
void hf_draw_legend(FILE *out, unsigned indent, bool with_lost);
/* The volume's space as one bar. */
void hf_draw_space(FILE *out, const struct hf_statfs *statfs, unsigned indent);

#endif
