/* SPDX-License-Identifier: MIT */
/*
 * draw.h - a file's pages and blocks, drawn.
 *
 * One page is a row of cells, one cell a block. The same functions draw a file at rest (holdfast map), a
 * live file between two steps, and a page that another process described (the demo).
 */
#ifndef HF_CLI_DRAW_H
#define HF_CLI_DRAW_H

#include "map_source.h"
#include "term.h"

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
    const struct hf_map_source *source;
    uint64_t nr_pages, next; /* of the file; not delivered yet */
    uint64_t budget;         /* pages that are looked at before it ends early */
    bool early;              /* it did: next is where to go on */
    struct hf_page_info *batch;
    unsigned batch_len, batch_pos;
};
/* From page first on. source must stay. Returns 0 or what hf_map_source_stat() or memory said. */
int hf_map_iter_init(struct hf_map_iter *iter, const struct hf_map_source *source, uint64_t first);
/* Returns 1 and a run, 0 at EOF or early, or what hf_map_source_pages() said. */
int hf_map_iter_next(struct hf_map_iter *iter, struct hf_map_run *ret_run);
void hf_map_iter_done(struct hf_map_iter *iter);

/* ---------------------------------------------------------------- drawing */

/* The cells of one page, from block first on, at most count of them. */
void hf_draw_cells(struct hf_line *line, const struct hf_page_info *page, unsigned first, unsigned count);
/* A page in few columns: index, cells, state. */
void hf_draw_page_short(struct hf_line *line, const struct hf_page_info *page);
struct hf_draw_part {
    uint64_t first, runs; /* page; runs of like pages at most, 0: any number */
    unsigned indent;      /* columns before each line */
    bool counts;          /* say how many blocks of each kind were drawn */
};
/*
 * The pages of a file, like ones folded. *ret_rest: the page from which on nothing is drawn; 0: all is.
 * Returns 0 or an error; lines printed before it stay.
 */
int hf_draw_map(FILE *out, const struct hf_map_source *source, const struct hf_draw_part *part,
                uint64_t *ret_rest);
/* The whole file, of this process. */
int hf_draw_file(FILE *out, struct hf_file *file, uint32_t page_size, unsigned indent);
/* What the cells mean. */
void hf_draw_legend(FILE *out, unsigned indent, bool with_lost);
/* The volume's space as one bar. */
void hf_draw_space(FILE *out, const struct hf_statfs *statfs, unsigned indent);

#endif
