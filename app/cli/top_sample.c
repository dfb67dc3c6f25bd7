/* SPDX-License-Identifier: MIT */
/*
 * top_sample.c - a sample, from the lines of a server to numbers by name.
 */
#include "ask.h"
#include "cli.h"
#include "top.h"
#include <stdlib.h>
#include <string.h>

const char *const hf_top_sort_names[HF_TOP_SORTS] = {"faults", "mkwrites", "refused",
                                                     "cached", "dirty",    "reserved"};

static bool number_parse(const char *text, uint64_t *ret_number)
{
    char *end;
    uint64_t number = strtoull(text, &end, 10);

    if (!*text || *end)
        return false;
    *ret_number = number;
    return true;
}

static void put(struct hf_top_counter *counters, unsigned *nr, unsigned max, const char *name, uint64_t value)
{
    if (*nr == max)
        return;
    snprintf(counters[*nr].name, HF_TOP_NAME_LEN, "%s", name);
    counters[(*nr)++].value = value;
}

/* "\xNN" becomes a byte again, in place. */
static void unescape(char *text)
{
    char *out = text;

    while (*text) {
        unsigned byte;

        if (text[0] == '\\' && text[1] == 'x' && sscanf(text + 2, "%2x", &byte) == 1) {
            *out++ = (char)byte;
            text += 2 + (text[2] != '\0') + (text[2] != '\0' && text[3] != '\0');
        } else {
            *out++ = *text++;
        }
    }
    *out = '\0';
}

/* "KEY=VALUE KEY=VALUE ..."; path and command take the rest of the line. */
static void take_item(struct hf_top_sample *s, bool is_file, char *text)
{
    struct hf_top_item *items, *item;

    if (s->nr_items == HF_TOP_ITEMS)
        return;
    items = realloc(s->items, (s->nr_items + 1) * sizeof(*items));
    if (!items)
        return;
    s->items = items;
    item = &items[s->nr_items];
    *item = (struct hf_top_item){.is_file = is_file};
    while (text && *text) {
        char *key = text, *value = strchr(key, '=');
        uint64_t number;

        if (!value)
            break;
        *value++ = '\0';
        if (!strcmp(key, "path") || !strcmp(key, "command")) {
            unescape(value);
            free(item->name);
            item->name = strdup(value);
            break;
        }
        text = strchr(value, ' ');
        if (text)
            *text++ = '\0';
        if (!number_parse(value, &number))
            continue;
        if (!strcmp(key, is_file ? "ino" : "pid"))
            item->id = number;
        put(item->counters, &item->nr, HF_TOP_ITEM_COUNTERS, key, number);
    }
    s->nr_items++;
}

static void take_line(struct hf_top_sample *s, char *line)
{
    char *value = line + strcspn(line, " \n");
    struct hf_latency latency;
    enum hf_fault_kind kind;
    uint64_t number;

    if (*value == ' ')
        *value++ = '\0';
    value[strcspn(value, "\n")] = '\0';
    if (!strcmp(line, "volume")) {
        snprintf(s->volume, sizeof(s->volume), "%s", value);
    } else if (!strcmp(line, "directory")) {
        snprintf(s->directory, sizeof(s->directory), "%s", value);
    } else if (!strcmp(line, "file") || !strcmp(line, "client")) {
        take_item(s, line[0] == 'f', value);
    } else if (hf_cli_latency_parse(line, value, &kind, &latency)) {
        s->latency[kind] = latency;
        s->has_latency[kind] = true;
    } else if (number_parse(value, &number)) {
        put(s->counters, &s->nr, HF_TOP_COUNTERS, line, number);
    }
}

/* Returns HF_CLI_OK, also if there was no answer: then s->nr is 0. */
static int ask(dev_t device, const char *dir, const char *request, struct hf_top_sample *s)
{
    size_t size = 0;
    char *line = NULL;
    int fd, status = hf_cli_ask(device, dir, request, &fd);
    FILE *in;

    if (status)
        return status;
    in = fdopen(fd, "r");
    while (in && getline(&line, &size, in) > 0)
        take_line(s, line);
    free(line);
    if (in)
        fclose(in);
    return HF_CLI_OK;
}

int hf_top_sample_take(dev_t device, const char *dir, struct hf_top_sample *s)
{
    int status;

    hf_top_sample_done(s);
    status = ask(device, dir, "top", s);
    if (!status && !s->nr)
        status = ask(device, dir, "stat", s); /* a server that is older than files and processes */
    clock_gettime(CLOCK_MONOTONIC, &s->at);
    if (status)
        return status;
    return s->nr ? HF_CLI_OK : hf_cli_fail("its server does not answer", NULL, "%s", dir);
}

void hf_top_sample_done(struct hf_top_sample *s)
{
    for (size_t i = 0; i < s->nr_items; i++)
        free(s->items[i].name);
    free(s->items);
    memset(s, 0, sizeof(*s));
}

static uint64_t value_in(const struct hf_top_counter *counters, unsigned nr, const char *name)
{
    for (unsigned i = 0; i < nr; i++)
        if (!strcmp(counters[i].name, name))
            return counters[i].value;
    return 0;
}

uint64_t hf_top_value(const struct hf_top_sample *s, const char *name)
{
    return value_in(s->counters, s->nr, name);
}

uint64_t hf_top_item_value(const struct hf_top_item *item, const char *name)
{
    return value_in(item->counters, item->nr, name);
}

double hf_top_seconds(const struct hf_top_sample *before, const struct hf_top_sample *now)
{
    return (double)(now->at.tv_sec - before->at.tv_sec) +
           (double)(now->at.tv_nsec - before->at.tv_nsec) / 1e9;
}

double hf_top_rate(const struct hf_top_sample *before, const struct hf_top_sample *now, const char *name)
{
    uint64_t old = hf_top_value(before, name), new = hf_top_value(now, name);
    double seconds = hf_top_seconds(before, now);

    return before->nr && new >= old &&seconds > 0 ? (double)(new - old) / seconds : 0;
}

const struct hf_top_item *hf_top_item_before(const struct hf_top_sample *before,
                                             const struct hf_top_item *item)
{
    for (size_t i = 0; i < before->nr_items; i++)
        if (before->items[i].is_file == item->is_file && before->items[i].id == item->id)
            return &before->items[i];
    return NULL;
}

/* ---- what is busiest */

struct ranked {
    struct hf_top_item item;
    uint64_t recent, total;
};

static uint64_t amount(const struct hf_top_item *item, enum hf_top_sort sort)
{
    static const char *const keys[HF_TOP_SORTS] = {NULL,           "mkwrites",    "faults_refused",
                                                   "cached_pages", "dirty_pages", "blocks_reserved"};

    if (sort == HF_TOP_FAULTS || (!item->is_file && sort != HF_TOP_REFUSED))
        return hf_top_item_value(item, "faults_load") + hf_top_item_value(item, "faults_store");
    return hf_top_item_value(item, keys[sort]);
}

static int by_rank(const void *a, const void *b)
{
    const struct ranked *x = a, *y = b;

    if (x->recent != y->recent)
        return x->recent < y->recent ? 1 : -1;
    if (x->total != y->total)
        return x->total < y->total ? 1 : -1;
    return x->item.id < y->item.id ? -1 : x->item.id > y->item.id;
}

void hf_top_items_sort(const struct hf_top_sample *before, struct hf_top_sample *now, enum hf_top_sort sort)
{
    struct ranked *ranks = calloc(now->nr_items ? now->nr_items : 1, sizeof(*ranks));

    if (!ranks)
        return; /* in the server's order */
    for (size_t i = 0; i < now->nr_items; i++) {
        struct hf_top_item *item = &now->items[i];
        const struct hf_top_item *old = sort <= HF_TOP_REFUSED ? hf_top_item_before(before, item) : NULL;

        ranks[i].item = *item;
        ranks[i].total = amount(item, sort);
        ranks[i].recent = old && amount(old, sort) <= ranks[i].total ? ranks[i].total - amount(old, sort)
                          : before->nr && sort <= HF_TOP_REFUSED     ? ranks[i].total
                                                                     : 0;
    }
    qsort(ranks, now->nr_items, sizeof(*ranks), by_rank);
    for (size_t i = 0; i < now->nr_items; i++)
        now->items[i] = ranks[i].item;
    free(ranks);
}
