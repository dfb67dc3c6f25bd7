/* SPDX-License-Identifier: MIT */
/*
 * metadb_util.h - what the tests of headers and of the metadata database share: volumes in memory, copies of
 * them, a device that logs its writes so that a power cut can be made at any of them, and a table whose rows
 * must always agree.
 */
#ifndef TESTS_UNIT_METADB_UTIL_H
#define TESTS_UNIT_METADB_UTIL_H

#include "check.h"

#include "dev/device_io.h"
#include "fs/blockfs/metadb.h"

/* A formatted volume in memory. */
struct hf_device *volume_new(hf_off_t bytes, uint32_t block_size, struct hf_blockfs_header *ret_header);
/* A copy of everything on dev, in memory. */
struct hf_device *image_copy(struct hf_device *dev);
bool image_same(struct hf_device *a, struct hf_device *b);
/* XORs one byte. */
void image_flip(struct hf_device *dev, uint64_t off, uint8_t mask);

struct hf_metadb *metadb_open(struct hf_device *dev, const struct hf_blockfs_header *header);
/* Runs SQL that must work; -> the first column of the first row. */
void sql(struct hf_metadb *db, const char *text);
int64_t sql_number(struct hf_metadb *db, const char *text);
int sql_rc(struct hf_metadb *db, const char *text);

/*
 * Rows that bear one generation each; a transaction gives all of them the next. Then whatever is found later
 * is one generation, or a transaction was torn.
 */
void rows_create(struct hf_metadb *db, int nr_rows);
int rows_step(struct hf_metadb *db, int64_t generation); /* begin, update, commit; 0 or errno */
/* The generation of all rows; -1: they differ. */
int64_t rows_generation(struct hf_metadb *db);

/* A shim that logs what is written to the device below (which it owns) and when it is flushed. */
struct write_log;
struct hf_device *log_new(struct hf_device *lower, struct write_log **ret_log);
size_t log_count(const struct write_log *log);
enum log_cut {
    LOG_CUT_ALL,     /* every write that was issued is there */
    LOG_CUT_NONE,    /* those after the last flush are not */
    LOG_CUT_RANDOM,  /* of those after the last flush any sectors are, in no order */
    LOG_CUT_GARBAGE, /* likewise, and other sectors they touch are garbage from end to end */
};
/* What a power cut after the first nr entries leaves on the device that was `base` when the log began. */
struct hf_device *log_image(const struct write_log *log, struct hf_device *base, size_t nr, enum log_cut cut,
                            unsigned seed);

#endif
