/* SPDX-License-Identifier: MIT */
/* bench.c - see bench.h. */
#include "bench.h"

#include <errno.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

static bool on_cpu(void)
{
    const char *clock = getenv("BENCH_CLOCK");

    return clock && strcmp(clock, "cpu") == 0;
}

void bench_table_init(struct bench_table *table, const char *title, const char *unit)
{
    memset(table, 0, sizeof(*table));
    table->title = title;
    table->unit = unit;
    for (unsigned i = 0; i < BENCH_COLS_MAX; i++)
        table->ratio_base[i] = table->floor_col[i] = -1;
}

static unsigned find_col(struct bench_table *table, const char *name)
{
    unsigned i = 0;

    while (i < table->nr_cols && strcmp(table->col[i], name) != 0)
        i++;
    if (i == BENCH_COLS_MAX)
        abort();
    if (i == table->nr_cols)
        snprintf(table->col[table->nr_cols++], sizeof(table->col[0]), "%s", name);
    return i;
}

static unsigned find_row(struct bench_table *table, const char *name)
{
    unsigned i = 0;

    while (i < table->nr_rows && strcmp(table->row[i], name) != 0)
        i++;
    if (i == BENCH_ROWS_MAX)
        abort();
    if (i == table->nr_rows)
        snprintf(table->row[table->nr_rows++], sizeof(table->row[0]), "%s", name);
    return i;
}

void bench_put(struct bench_table *table, const char *row, const char *col, double value)
{
    struct bench_cell *cell = &table->cell[find_row(table, row)][find_col(table, col)];

    if (cell->nr == BENCH_SAMPLES_MAX)
        abort();
    cell->sample[cell->nr++] = value;
}

void bench_ratio(struct bench_table *table, const char *col, const char *base)
{
    table->ratio_base[find_col(table, col)] = (int)find_col(table, base);
}

void bench_floor(struct bench_table *table, const char *col, const char *floor_row, const char *floor_col)
{
    table->floor_row = (int)find_row(table, floor_row);
    table->floor_col[find_col(table, col)] = (int)find_col(table, floor_col);
}

static int by_value(const void *a, const void *b)
{
    double x = *(const double *)a, y = *(const double *)b;

    return (x > y) - (x < y);
}

double bench_median(const struct bench_cell *cell)
{
    double sorted[BENCH_SAMPLES_MAX];

    if (cell->nr == 0)
        return NAN;
    memcpy(sorted, cell->sample, cell->nr * sizeof(sorted[0]));
    qsort(sorted, cell->nr, sizeof(sorted[0]), by_value);
    return cell->nr % 2 ? sorted[cell->nr / 2] : (sorted[cell->nr / 2 - 1] + sorted[cell->nr / 2]) / 2;
}

static bool has_ratio(const struct bench_table *table, unsigned col)
{
    return table->ratio_base[col] >= 0 || table->floor_col[col] >= 0;
}

static void print_cell(const struct bench_table *table, unsigned row, unsigned col)
{
    double value = bench_median(&table->cell[row][col]);
    int base = table->ratio_base[col];

    if (isnan(value))
        printf(has_ratio(table, col) ? " %22s" : " %14s", "-");
    else if (base >= 0)
        printf(" %13.2f (%5.2fx)", value, value / bench_median(&table->cell[row][base]));
    else if (table->floor_col[col] >= 0)
        printf(" %13.2f (%5.2fx)", value,
               value / bench_median(&table->cell[table->floor_row][table->floor_col[col]]));
    else
        printf(" %14.2f", value);
}

static void print_text(const struct bench_table *table)
{
    printf("\n%s (%s, median%s)\n%-44s", table->title, table->unit, on_cpu() ? ", processor time" : "", "");
    for (unsigned c = 0; c < table->nr_cols; c++)
        printf(has_ratio(table, c) ? " %22s" : " %14s", table->col[c]);
    printf("\n");
    for (unsigned r = 0; r < table->nr_rows; r++) {
        printf("%-44s", table->row[r]);
        for (unsigned c = 0; c < table->nr_cols; c++)
            print_cell(table, r, c);
        printf("\n");
    }
}

/* Titles and names are ours: plain ASCII without quotes. */
static void print_json(const struct bench_table *table)
{
    printf("{\"title\": \"%s\", \"unit\": \"%s\", \"rows\": [", table->title, table->unit);
    for (unsigned r = 0; r < table->nr_rows; r++) {
        printf("%s{\"name\": \"%s\"", r ? ", " : "", table->row[r]);
        for (unsigned c = 0; c < table->nr_cols; c++)
            if (table->cell[r][c].nr)
                printf(", \"%s\": %.3f", table->col[c], bench_median(&table->cell[r][c]));
        printf("}");
    }
    printf("]}\n");
}

void bench_print(const struct bench_table *table, bool json)
{
    if (json)
        print_json(table);
    else
        print_text(table);
    fflush(stdout);
}

double bench_now_us(void)
{
    struct timespec now;

    clock_gettime(on_cpu() ? CLOCK_PROCESS_CPUTIME_ID : CLOCK_MONOTONIC, &now);
    return (double)now.tv_sec * 1e6 + (double)now.tv_nsec / 1e3;
}

unsigned long bench_number(const char *what, const char *text, unsigned long most)
{
    char *end;
    unsigned long n;

    errno = 0;
    n = strtoul(text, &end, 0);
    if (errno || end == text || *end || n > most) {
        fprintf(stderr, "bad %s: %s\n", what, text);
        exit(2);
    }
    return n;
}

void bench_shuffle(uint32_t *ret_order, uint32_t n)
{
    uint64_t state = 88172645463325252u;

    for (uint32_t i = 0; i < n; i++) {
        uint32_t j;

        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        j = (uint32_t)(state % (i + 1));
        ret_order[i] = ret_order[j];
        ret_order[j] = i;
    }
}

void bench_must(long rc, const char *what)
{
    if (rc >= 0)
        return;
    fprintf(stderr, "%s: %s\n", what, strerror((int)-rc));
    exit(1);
}

const char *bench_dir(void)
{
    const char *dir = getenv("BENCH_DIR");

    if (dir)
        return dir;
    return access("/dev/shm", W_OK) == 0 ? "/dev/shm" : "/tmp";
}
