/* SPDX-License-Identifier: MIT */
/*
 * top_draw.c - a sample as people and programs read it.
 *
 * Colour is for trouble and for headings; what stands still is dim.
 */
#include "cli.h"
#include "draw.h"
#include "top.h"
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

#define CELL_WIDTH 26u

struct drawing {
    FILE *out;
    const struct hf_top_view *view;
    const struct hf_top_sample *before, *now;
    unsigned lines; /* printed */
};

static void print(struct drawing *d, const struct hf_line *line)
{
    hf_line_print(line, d->out);
    d->lines++;
}

static void heading(struct drawing *d, const char *text)
{
    struct hf_line line;

    hf_line_init(&line);
    hf_line_put(&line, HF_STYLE_BOLD, "%s", text);
    print(d, &line);
}

static bool rated(const struct drawing *d)
{
    return d->before->nr != 0;
}

/* ---------------------------------------------------------------- the volume */

static void draw_title(struct drawing *d)
{
    char *volume = hf_term_escape(d->now->volume), *directory = hf_term_escape(d->now->directory);
    struct hf_line line;

    hf_line_init(&line);
    hf_line_put(&line, HF_STYLE_BOLD, "%s", volume);
    hf_line_put(&line, HF_STYLE_PLAIN, " on %s, server %" PRIu64, directory, hf_top_value(d->now, "pid"));
    if (rated(d))
        hf_line_put(&line, HF_STYLE_DIM, ", last %.1f s", hf_top_seconds(d->before, d->now));
    print(d, &line);
    free(volume);
    free(directory);
}

static void draw_space(struct drawing *d)
{
    const struct hf_top_sample *s = d->now;
    struct hf_statfs fs = {.block_size = (uint32_t)hf_top_value(s, "block_size"),
                           .page_size = (uint32_t)hf_top_value(s, "page_size"),
                           .blocks = hf_top_value(s, "blocks"),
                           .blocks_free = hf_top_value(s, "blocks_free"),
                           .blocks_reserved = hf_top_value(s, "blocks_reserved")};
    char cached[HF_CLI_SIZE_LEN], dirty[HF_CLI_SIZE_LEN];
    struct hf_line line;

    if (fs.blocks) {
        hf_draw_space(d->out, &fs, 2);
        d->lines++;
    }
    hf_line_init(&line);
    hf_line_put(&line, HF_STYLE_PLAIN, "  cache %s, of it dirty %s",
                hf_cli_size_format(hf_top_value(s, "cached_pages") * fs.page_size, cached),
                hf_cli_size_format(hf_top_value(s, "dirty_pages") * fs.page_size, dirty));
    print(d, &line);
}

/* ---------------------------------------------------------------- faults */

static const char *const fault_texts[HF_FAULT_KINDS] = {"load", "read from device", "store, page was clean",
                                                        "store, page was dirty", "refused"};

/* Since the sample before; if there was nothing, since the beginning. */
static struct hf_latency latency_shown(const struct drawing *d, enum hf_fault_kind kind)
{
    struct hf_latency shown = d->now->latency[kind];

    if (d->before->has_latency[kind])
        hf_cli_latency_minus(&shown, &d->before->latency[kind]);
    return hf_latency_count(&shown) ? shown : d->now->latency[kind];
}

static void draw_fault(struct drawing *d, enum hf_fault_kind kind)
{
    uint64_t total = hf_latency_count(&d->now->latency[kind]),
             old = hf_latency_count(&d->before->latency[kind]);
    double rate = rated(d) && total >= old ? (double)(total - old) / hf_top_seconds(d->before, d->now) : 0;
    struct hf_latency shown = latency_shown(d, kind);
    enum hf_style style = !total                     ? HF_STYLE_DIM
                          : kind == HF_FAULT_REFUSED ? HF_STYLE_BAD
                          : rated(d) && rate <= 0    ? HF_STYLE_DIM
                                                     : HF_STYLE_PLAIN;
    char half[HF_CLI_TIME_LEN], nearly[HF_CLI_TIME_LEN], most[HF_CLI_TIME_LEN], rates[32] = "";
    struct hf_line line;

    if (rated(d))
        snprintf(rates, sizeof(rates), "%.0f/s", rate);
    hf_line_init(&line);
    hf_line_put(&line, style, "  %-22s %12" PRIu64 " %10s", fault_texts[kind], total, rates);
    if (total)
        hf_line_put(&line, style, " %10s %10s %10s",
                    hf_cli_time_format(hf_latency_quantile_ns(&shown, 0.5), half),
                    hf_cli_time_format(hf_latency_quantile_ns(&shown, 0.99), nearly),
                    hf_cli_time_format(hf_latency_quantile_ns(&shown, 1), most));
    print(d, &line);
}

static void draw_faults(struct drawing *d)
{
    struct hf_line line;

    hf_line_init(&line);
    hf_line_put(&line, HF_STYLE_BOLD, "%-24s %12s %10s %10s %10s %10s", "faults", "total", "", "half in",
                "99% in", "all in");
    print(d, &line);
    for (int kind = 0; kind < HF_FAULT_KINDS; kind++)
        if (d->now->has_latency[kind])
            draw_fault(d, (enum hf_fault_kind)kind);
}

/* ---------------------------------------------------------------- counters, side by side */

struct cells {
    struct drawing *d;
    struct hf_line line;
    unsigned nr; /* in this line */
};

static void cell(struct cells *c, const char *text, const char *name, bool trouble)
{
    uint64_t total = hf_top_value(c->d->now, name);
    double rate = hf_top_rate(c->d->before, c->d->now, name);
    unsigned per_line = c->d->view->width / CELL_WIDTH;
    enum hf_style style = trouble && total                                   ? HF_STYLE_BAD
                          : !total || (rated(c->d) && rate <= 0 && !trouble) ? HF_STYLE_DIM
                                                                             : HF_STYLE_PLAIN;

    if (c->nr == 0)
        hf_line_init(&c->line);
    if (rated(c->d) && !trouble)
        hf_line_put(&c->line, style, "  %-14.14s %7.0f/s", text, rate);
    else
        hf_line_put(&c->line, style, "  %-14.14s %9" PRIu64, text, total);
    if (++c->nr < per_line)
        return;
    print(c->d, &c->line);
    c->nr = 0;
}

static void cells_end(struct cells *c)
{
    if (c->nr)
        print(c->d, &c->line);
}

static void draw_pages(struct drawing *d)
{
    static const struct {
        const char *name, *text;
        bool trouble;
    } shown[] = {
        {"mkwrites", "made writable", false},
        {"mkcleans", "protected", false},
        {"pages_read", "read", false},
        {"pages_written", "written", false},
        {"pages_reclaimed", "reclaimed", false},
        {"zero_blocks_released", "zero blocks", false},
        {"writeback_errors", "write errors", true},
    };
    struct cells c = {.d = d};

    heading(d, "pages");
    for (size_t i = 0; i < sizeof(shown) / sizeof(shown[0]); i++)
        cell(&c, shown[i].text, shown[i].name, shown[i].trouble);
    cells_end(&c);
}

static void draw_requests(struct drawing *d)
{
    const char *prefix = "requests_";
    struct cells c = {.d = d};

    heading(d, "requests of the kernel");
    for (unsigned i = 0; i < d->now->nr; i++) {
        const struct hf_top_counter *counter = &d->now->counters[i];

        if (!strncmp(counter->name, prefix, strlen(prefix)) && counter->value)
            cell(&c, counter->name + strlen(prefix), counter->name, strstr(counter->name, "_lost") != NULL);
    }
    cells_end(&c);
}

/* ---------------------------------------------------------------- files and processes */

/* A counter of an item: by the second if there was a sample before, else in all. */
static void put_amount(struct drawing *d, struct hf_line *line, const struct hf_top_item *item, const char *a,
                       const char *b, bool trouble)
{
    const struct hf_top_item *old = hf_top_item_before(d->before, item);
    uint64_t now = hf_top_item_value(item, a) + (b ? hf_top_item_value(item, b) : 0), was = 0;
    enum hf_style style = trouble && now ? HF_STYLE_BAD : now ? HF_STYLE_PLAIN : HF_STYLE_DIM;

    if (!rated(d) || trouble) {
        hf_line_put(line, style, "%10" PRIu64, now);
        return;
    }
    if (old)
        was = hf_top_item_value(old, a) + (b ? hf_top_item_value(old, b) : 0);
    hf_line_put(line, now > was ? HF_STYLE_PLAIN : HF_STYLE_DIM, "%8.0f/s",
                now > was ? (double)(now - was) / hf_top_seconds(d->before, d->now) : 0.0);
}

static void put_name(struct hf_line *line, const char *name, const char *otherwise)
{
    char *safe = hf_term_escape(name && *name ? name : otherwise);

    hf_line_put(line, name && *name ? HF_STYLE_PLAIN : HF_STYLE_DIM, "  %s", safe);
    free(safe);
}

static void draw_file(struct drawing *d, const struct hf_top_item *item)
{
    uint64_t page = hf_top_value(d->now, "page_size"), block = hf_top_value(d->now, "block_size");
    char cached[HF_CLI_SIZE_LEN], dirty[HF_CLI_SIZE_LEN], reserved[HF_CLI_SIZE_LEN], otherwise[48];
    struct hf_line line;

    hf_line_init(&line);
    put_amount(d, &line, item, "faults_load", "faults_store", false);
    put_amount(d, &line, item, "mkwrites", NULL, false);
    put_amount(d, &line, item, "faults_refused", NULL, true);
    hf_line_put(&line, HF_STYLE_PLAIN, " %10s %10s %10s %5" PRIu64,
                hf_cli_size_format(hf_top_item_value(item, "cached_pages") * page, cached),
                hf_cli_size_format(hf_top_item_value(item, "dirty_pages") * page, dirty),
                hf_cli_size_format(hf_top_item_value(item, "blocks_reserved") * block, reserved),
                hf_top_item_value(item, "mappings"));
    snprintf(otherwise, sizeof(otherwise), "inode %" PRIu64, item->id);
    put_name(&line, item->name, otherwise);
    print(d, &line);
}

static void draw_client(struct drawing *d, const struct hf_top_item *item)
{
    struct hf_line line;

    hf_line_init(&line);
    put_amount(d, &line, item, "faults_load", "faults_store", false);
    put_amount(d, &line, item, "faults_store", NULL, false);
    put_amount(d, &line, item, "faults_refused", NULL, true);
    hf_line_put(&line, HF_STYLE_PLAIN, " %10" PRIu64 " %10" PRIu64 " %16" PRIu64,
                hf_top_item_value(item, "waits"), hf_top_item_value(item, "areas"), item->id);
    put_name(&line, item->name, "gone");
    if (!hf_top_item_value(item, "connected"))
        hf_line_put(&line, HF_STYLE_DIM, " (closed its connection)");
    print(d, &line);
}

static size_t count_items(const struct hf_top_sample *s, bool files)
{
    size_t nr = 0;

    for (size_t i = 0; i < s->nr_items; i++)
        nr += s->items[i].is_file == files;
    return nr;
}

static void draw_items(struct drawing *d, bool files, size_t most)
{
    size_t all = count_items(d->now, files), left = most;
    struct hf_line line;

    hf_line_init(&line);
    if (files)
        hf_line_put(&line, HF_STYLE_BOLD, "%10s%10s%10s %10s %10s %10s %5s  file", "faults", "mkwrites",
                    "refused", "cached", "dirty", "reserved", "maps");
    else
        hf_line_put(&line, HF_STYLE_BOLD, "%10s%10s%10s %10s %10s %16s  process", "faults", "stores",
                    "refused", "waited", "areas", "pid");
    if (all > most)
        hf_line_put(&line, HF_STYLE_DIM, ", %zu of %zu", most, all);
    print(d, &line);
    for (size_t i = 0; i < d->now->nr_items && left; i++) {
        const struct hf_top_item *item = &d->now->items[i];

        if (item->is_file != files)
            continue;
        left--;
        if (files)
            draw_file(d, item);
        else
            draw_client(d, item);
    }
}

static size_t at_most(size_t a, size_t b)
{
    return a < b ? a : b;
}

/* Shares what is left of the screen: a third for processes, what they do not need for files. */
static void draw_busiest(struct drawing *d)
{
    size_t files = at_most(count_items(d->now, true), d->view->lines);
    size_t clients = at_most(count_items(d->now, false), d->view->lines);
    size_t room = d->view->rows > d->lines ? d->view->rows - d->lines : 0;

    if (d->view->rows) {
        size_t for_clients = clients ? room / 3 : 0;

        clients = for_clients > 1 ? at_most(clients, for_clients - 1) : 0;
        room -= clients ? clients + 1 : 0;
        files = room > 1 ? at_most(files, room - 1) : 0;
    }
    if (files)
        draw_items(d, true, files);
    if (clients)
        draw_items(d, false, clients);
}

void hf_top_draw(FILE *out, const struct hf_top_view *view, const struct hf_top_sample *before,
                 const struct hf_top_sample *now)
{
    struct drawing d = {.out = out, .view = view, .before = before, .now = now};
    struct hf_line line;

    draw_title(&d);
    draw_space(&d);
    if (view->keys) {
        hf_line_init(&line);
        hf_line_put(
            &line, HF_STYLE_DIM,
            "  q quits; most of first: f faults, m mkwrites, x refused, c cached, d dirty, r reserved");
        print(&d, &line);
    }
    draw_faults(&d);
    draw_pages(&d);
    if (!view->rows || view->rows >= 40)
        draw_requests(&d);
    draw_busiest(&d);
}

/* ---------------------------------------------------------------- for programs */

static cJSON *item_to_json(const struct hf_top_sample *before, const struct hf_top_sample *now,
                           const struct hf_top_item *item)
{
    static const char *const rates[] = {"faults_load", "faults_store", "faults_refused", "mkwrites"};
    const struct hf_top_item *old = hf_top_item_before(before, item);
    double seconds = hf_top_seconds(before, now);
    cJSON *object = hf_json_object(), *per_second = hf_json_object();

    hf_json_name(object, item->is_file ? "path" : "command", item->name ? item->name : "");
    for (unsigned i = 0; i < item->nr; i++)
        hf_json_u64(object, item->counters[i].name, item->counters[i].value);
    for (size_t i = 0; i < sizeof(rates) / sizeof(rates[0]) && old && seconds > 0; i++) {
        uint64_t is = hf_top_item_value(item, rates[i]), was = hf_top_item_value(old, rates[i]);

        hf_json_add(per_second, rates[i], cJSON_CreateNumber(is > was ? (double)(is - was) / seconds : 0));
    }
    hf_json_add(object, "per_second", per_second);
    return object;
}

void hf_top_print_json(const struct hf_top_sample *before, const struct hf_top_sample *now)
{
    cJSON *root = hf_json_object(), *totals = hf_json_object(), *rates = hf_json_object();
    cJSON *latency = hf_json_object(), *files = hf_json_array(), *clients = hf_json_array();

    hf_json_name(root, "volume", now->volume);
    hf_json_name(root, "directory", now->directory);
    for (unsigned i = 0; i < now->nr; i++) {
        const char *name = now->counters[i].name;

        hf_json_u64(totals, name, now->counters[i].value);
        if (before->nr)
            hf_json_add(rates, name, cJSON_CreateNumber(hf_top_rate(before, now, name)));
    }
    for (int kind = 0; kind < HF_FAULT_KINDS; kind++)
        if (now->has_latency[kind])
            hf_json_add(latency, hf_fault_kind_name((enum hf_fault_kind)kind),
                        hf_cli_latency_to_json(&now->latency[kind]));
    for (size_t i = 0; i < now->nr_items; i++)
        hf_json_append(now->items[i].is_file ? files : clients, item_to_json(before, now, &now->items[i]));
    hf_json_add(root, "total", totals);
    hf_json_add(root, "per_second", rates);
    hf_json_add(root, "latency", latency);
    hf_json_add(root, "files", files);
    hf_json_add(root, "clients", clients);
    hf_json_print(root, 0);
}
