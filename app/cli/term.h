/* SPDX-License-Identifier: MIT */
/*
 * term.h - colour, safe text, lines of known width, and a progress bar.
 *
 * Colour only where stdout is a terminal and NO_COLOR is unset or empty; block graphics only where the
 * locale is UTF-8. Everything is legible without either.
 */
#ifndef HF_CLI_TERM_H
#define HF_CLI_TERM_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <time.h>

enum hf_style {
    HF_STYLE_PLAIN,
    HF_STYLE_BOLD,
    HF_STYLE_DIM,
    HF_STYLE_GOOD,
    HF_STYLE_BAD,
    HF_STYLE_NOTE,
    HF_STYLE_CELL_WRITTEN,
    HF_STYLE_CELL_DIRTY,
    HF_STYLE_CELL_RESERVED,
    HF_STYLE_CELL_UNWRITTEN,
    HF_STYLE_CELL_LOST,
};

/* Once, before anything is printed. */
void hf_term_init(bool no_colour);
bool hf_term_utf8(void);
/* Is stdout a terminal that can be drawn on? */
bool hf_term_is_terminal(void);
unsigned hf_term_width(void);
/* The escape sequence of a style on stdout, or "". */
const char *hf_term_style(enum hf_style style);
const char *hf_term_reset(void);

/*
 * text with control characters, bytes that are not UTF-8, and marks that turn the writing direction
 * replaced by \xNN. Returns a string on the heap; never NULL (exits when memory is gone).
 */
char *hf_term_escape(const char *text);
/* Prints a file's name: escaped if out is a terminal, its exact bytes otherwise. */
void hf_term_print_name(FILE *out, const char *name);

/* A line under construction whose width on the screen is known. */
struct hf_line {
    char text[2048];
    size_t len;     /* bytes; text[len] is NUL */
    unsigned width; /* columns */
};
void hf_line_init(struct hf_line *line);
void hf_line_put(struct hf_line *line, enum hf_style style, const char *fmt, ...)
    __attribute__((format(printf, 3, 4)));
/* One of two glyphs, by locale. */
void hf_line_glyph(struct hf_line *line, enum hf_style style, const char *utf8, const char *ascii);
void hf_line_pad(struct hf_line *line, unsigned width);
void hf_line_print(const struct hf_line *line, FILE *out);

/* A bar on stderr, if that is a terminal, once the work has taken half a second. */
struct hf_progress {
    const char *verb;
    uint64_t total; /* 0: not known */
    struct timespec start, last;
    bool terminal, shown;
};
void hf_progress_init(struct hf_progress *progress, const char *verb, uint64_t total);
void hf_progress_update(struct hf_progress *progress, uint64_t done);
void hf_progress_done(struct hf_progress *progress);

#endif
