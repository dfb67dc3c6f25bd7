/* SPDX-License-Identifier: MIT */
/* crash_model.c - see crash_model.h. */
#include "crash_model.h"

#define ZERO_BIT 0x1u

uint8_t model_bit(unsigned file, uint8_t value)
{
    unsigned first = 1 + file * CRASH_VALUES;

    if (value == 0)
        return ZERO_BIT;
    return value >= first && value < first + CRASH_VALUES ? (uint8_t)(2u << (value - first)) : 0;
}

bool model_size_ok(const struct model_file *file, hf_off_t size)
{
    for (unsigned i = 0; i < file->nr_sizes; i++)
        if (size >= file->sizes[i].low && size <= file->sizes[i].high)
            return true;
    return false;
}

static void set_size(const struct crash *crash, struct model_file *file, hf_off_t size)
{
    hf_off_t low = size < file->size ? size : file->size, high = size < file->size ? file->size : size;

    if (size != file->size) {
        assert_true(file->nr_sizes < MODEL_SIZES);
        file->sizes[file->nr_sizes].low = crash->config.threads ? low : size;
        file->sizes[file->nr_sizes].high = crash->config.threads ? high : size;
        file->nr_sizes++;
    }
    file->size = size;
}

static void set_bytes(struct model_file *file, hf_off_t start, hf_off_t end, uint8_t bit)
{
    for (hf_off_t at = start; at < end; at++) {
        file->now[at] = bit;
        file->may[at] |= bit;
    }
}

static void confirm(struct model *model, struct model_file *file, hf_off_t start, hf_off_t end)
{
    if (!file->created)
        return;
    memcpy(file->may + start, file->now + start, (size_t)(end - start));
    file->sizes[0].low = file->sizes[0].high = file->size;
    file->nr_sizes = 1;
    if (model->dir_low < file->created_dir)
        model->dir_low = file->created_dir;
}

static void apply_sync(struct model *model, const struct crash_op *op)
{
    struct model_file *file = &model->files[op->file];

    if (op->kind == OP_SYNC_FILE || op->kind == OP_WRITE)
        confirm(model, file, op->off, op->off + op->len);
    else
        model->dir_low = model->dir_high;
    for (unsigned nr = 0; op->kind == OP_SYNC && nr < CRASH_FILES; nr++)
        confirm(model, &model->files[nr], 0, CRASH_FILE_MAX);
}

static void apply_create(struct model *model, const struct crash_op *op)
{
    struct model_file *file = &model->files[op->file];

    file->created = true;
    file->created_dir = op->dir;
    file->nr_sizes = 1;
    memset(file->now, ZERO_BIT, sizeof(file->now));
    memset(file->may, ZERO_BIT, sizeof(file->may));
}

/* What an operation that has begun may have changed. */
static void apply(struct model *model, const struct crash *crash, const struct crash_op *op)
{
    struct model_file *file = &model->files[op->file];

    switch (op->kind) {
    case OP_DIR:
        model->dir_high = op->dir;
        if (op->creates)
            apply_create(model, op);
        break;
    case OP_WRITE:
        set_bytes(file, op->off, op->off + op->len, model_bit(op->file, op->value));
        if (op->off + op->len > file->size)
            set_size(crash, file, op->off + op->len);
        break;
    case OP_TRUNCATE:
        if (op->off < file->size)
            set_bytes(file, op->off, file->size, ZERO_BIT);
        set_size(crash, file, op->off);
        break;
    case OP_PUNCH:
        set_bytes(file, op->off, op->off + op->len, ZERO_BIT);
        break;
    default:
        break;
    }
}

void model_make(struct model *model, const struct crash *crash, uint64_t events)
{
    memset(model, 0, sizeof(*model));
    for (size_t i = 0; i < crash->nr_ops; i++) {
        const struct crash_op *op = &crash->ops[i];
        bool confirms = op->kind >= OP_SYNC_FILE || op->confirms;

        if (op->begin > events)
            continue;
        apply(model, crash, op);
        if (confirms && op->end <= events)
            apply_sync(model, op);
    }
}
