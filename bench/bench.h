/* SPDX-License-Identifier: MIT */
/*
 * bench.h - what the benchmarks share: a clock, medians, and a table that prints for people or as JSON.
 *
 * Benchmarks measure and never judge: they exit 0 unless something could not be run at all.
 */
#ifndef BENCH_H
#define BENCH_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define BENCH_COLS_MAX 8
#define BENCH_ROWS_MAX 32
#define BENCH_SAMPLES_MAX 32

/* One cell: the samples of one figure. */
struct bench_cell {
    double sample[BENCH_SAMPLES_MAX];
    unsigned nr;
};

/* Columns and rows are named as they first appear. A ratio column shows col / base of each row's medians. */
struct bench_table {
    const char *title, *unit;
    char col[BENCH_COLS_MAX][32];
    char row[BENCH_ROWS_MAX][64];
    unsigned nr_cols, nr_rows;
    int ratio_base[BENCH_COLS_MAX]; /* >= 0: print this column's ratio to that one, too */
    int floor_col[BENCH_COLS_MAX];  /* >= 0: print its ratio to that column of floor_row, too */
    int floor_row;
    struct bench_cell cell[BENCH_ROWS_MAX][BENCH_COLS_MAX];
};

void bench_table_init(struct bench_table *table, const char *title, const char *unit);
/* Adds a sample. Rows or columns beyond the maximum are a bug of the benchmark: abort(). */
void bench_put(struct bench_table *table, const char *row, const char *col, double value);
/* Shows, beside column col, how it compares to column base. */
void bench_ratio(struct bench_table *table, const char *col, const char *base);
/* Shows in column col how each figure compares to the one in row floor_row, column floor_col. */
void bench_floor(struct bench_table *table, const char *col, const char *floor_row, const char *floor_col);
/* The median of the samples; NaN if there are none. */
double bench_median(const struct bench_cell *cell);
void bench_print(const struct bench_table *table, bool json);

/* Wall time; with BENCH_CLOCK=cpu in the environment the processor time of this process, which other work on
 * the machine does not lengthen (nor do kernel threads that work for it). */
double bench_now_us(void);
/* A number from the command line, or a message and exit(2). */
unsigned long bench_number(const char *what, const char *text, unsigned long most);
/* The n numbers 0 ... n-1 in an order that is the same in every run. */
void bench_shuffle(uint32_t *ret_order, uint32_t n);
/* Prints the message and exit(1) if rc is negative. */
void bench_must(long rc, const char *what);
/* A directory for scratch volumes: $BENCH_DIR, else /dev/shm, else /tmp. */
const char *bench_dir(void);

#endif
