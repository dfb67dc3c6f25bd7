/* SPDX-License-Identifier: MIT */
/*
 * crash_model.h - the notes of crash_util.c, and what crash_model.c concludes from them for one cut.
 */
#ifndef TESTS_CRASH_CRASH_MODEL_H
#define TESTS_CRASH_CRASH_MODEL_H

#include "crash_util.h"

enum crash_op_kind { OP_DIR, OP_WRITE, OP_TRUNCATE, OP_PUNCH, OP_SYNC_FILE, OP_SYNC_DIR, OP_SYNC };

struct crash_op {
    enum crash_op_kind kind;
    unsigned file;     /* all but DIR, SYNC_DIR, SYNC; and a DIR that creates */
    hf_off_t off, len; /* TRUNCATE: off is the new size */
    uint8_t value;     /* WRITE */
    bool confirms;     /* WRITE: is durable when it returns */
    bool creates;      /* DIR */
    size_t dir;        /* DIR: its number */
    /* Events of the device before it began, and when it returned. */
    uint64_t begin, end;
};

size_t crash_op_begin(struct crash *crash, struct crash_op op);
void crash_op_end(struct crash *crash, size_t nr);
struct hf_open_options crash_options(const struct crash *crash);

#define MODEL_SIZES 64

/* What a file may be after the cut. */
struct model_file {
    bool created;
    size_t created_dir; /* the directory's number then */
    hf_off_t size;      /* as the program saw it */
    struct {
        hf_off_t low, high;
    } sizes[MODEL_SIZES]; /* each may be found, both ends included */
    unsigned nr_sizes;
    uint8_t now[CRASH_FILE_MAX]; /* bit of the byte's value as the program saw it */
    uint8_t may[CRASH_FILE_MAX]; /* bits of all the values that may be found */
};

struct model {
    struct model_file files[CRASH_FILES];
    size_t dir_low, dir_high; /* numbers of the directories that may be found, both included */
};

/* For a cut after so many events. */
void model_make(struct model *model, const struct crash *crash, uint64_t events);
/* The bit of a value in a file; 0: the value is none of its. */
uint8_t model_bit(unsigned file, uint8_t value);
bool model_size_ok(const struct model_file *file, hf_off_t size);

#endif
