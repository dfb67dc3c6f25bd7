/* SPDX-License-Identifier: MIT */
/*
 * cmd_top.c - holdfast top: a running mount, live: faults, pages, promises and requests, by the second.
 *
 * Everything comes from the "stat" request of the mount's server (app/fuse/control.h); what a line means is
 * known here by its name only, so that a newer server's lines are shown, too.
 */
#include "../fuse/control.h"
#include "cli.h"
#include "draw.h"
#include "json.h"
#include "term.h"
#include <errno.h>
#include <getopt.h>
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <time.h>

#define NAME_LEN 40
#define COUNTERS_MAX 128

struct counter {
    char name[NAME_LEN];
    uint64_t value;
};

/* One answer of the server. */
struct sample {
    struct timespec at;
    struct counter counters[COUNTERS_MAX];
    unsigned nr;
    char volume[256], directory[256];
};

struct top {
    const char *dir;
    dev_t device;
    double interval;
    uint64_t count; /* samples; 0: until interrupted */
    bool json, terminal;
};

static void take_line(struct sample *s, char *line)
{
    char *value = line + strcspn(line, " \n"), *end;
    uint64_t number;

    if (*value == ' ')
        *value++ = '\0';
    value[strcspn(value, "\n")] = '\0';
    if (!strcmp(line, "volume"))
        snprintf(s->volume, sizeof(s->volume), "%s", value);
    else if (!strcmp(line, "directory"))
        snprintf(s->directory, sizeof(s->directory), "%s", value);
    number = strtoull(value, &end, 10);
    if (!*value || *end || s->nr == COUNTERS_MAX)
        return;
    snprintf(s->counters[s->nr].name, NAME_LEN, "%s", line);
    s->counters[s->nr++].value = number;
}

/* Asks the server. Returns HF_CLI_OK or HF_CLI_FAILED, said. */
static int take_sample(const struct top *top, struct sample *s)
{
    int fd = hf_control_ask(top->device, "stat");
    size_t size = 0;
    char *line = NULL;
    FILE *in;

    memset(s, 0, sizeof(*s));
    if (fd == -ENOENT)
        return hf_cli_fail("no volume is mounted there by 'holdfast mount'", NULL, "%s", top->dir);
    if (fd < 0)
        return hf_cli_fail_host(fd, "asking the server of %s", top->dir);
    in = fdopen(fd, "r");
    while (in && getline(&line, &size, in) > 0)
        take_line(s, line);
    free(line);
    if (in)
        fclose(in);
    clock_gettime(CLOCK_MONOTONIC, &s->at);
    return s->nr ? HF_CLI_OK : hf_cli_fail("its server does not answer", NULL, "%s", top->dir);
}

static uint64_t value_of(const struct sample *s, const char *name)
{
    for (unsigned i = 0; i < s->nr; i++)
        if (!strcmp(s->counters[i].name, name))
            return s->counters[i].value;
    return 0;
}

static double seconds_between(const struct sample *from, const struct sample *to)
{
    return (double)(to->at.tv_sec - from->at.tv_sec) + (double)(to->at.tv_nsec - from->at.tv_nsec) / 1e9;
}

/* By the second since the sample before; 0 without one, or if the server is another one. */
static double rate_of(const struct sample *before, const struct sample *now, const char *name)
{
    uint64_t old = value_of(before, name), new = value_of(now, name);
    double seconds = seconds_between(before, now);

    return before->nr && new >= old &&seconds > 0 ? (double)(new - old) / seconds : 0;
}

/* ---------------------------------------------------------------- for people */

/* Counters in the order in which a page lives. */
static const struct {
    const char *name, *text;
} lines[] = {
    {"faults_load", "faults: load"},        {"faults_store", "faults: store"},
    {"faults_refused", "refused"},          {"mkwrites", "page_mkwrite"},
    {"mkcleans", "page_mkclean"},           {"pages_read", "pages read"},
    {"pages_written", "pages written"},     {"zero_blocks_released", "zero blocks returned"},
    {"pages_reclaimed", "pages reclaimed"}, {"writeback_errors", "writeback errors"},
};

static bool is_trouble(const char *name)
{
    return !strcmp(name, "faults_refused") || !strcmp(name, "writeback_errors");
}

static void print_line(const char *text, uint64_t total, double rate, bool rated, bool trouble)
{
    enum hf_style style = trouble && total ? HF_STYLE_BAD : rate > 0 ? HF_STYLE_GOOD : HF_STYLE_PLAIN;

    printf("  %-22s %14" PRIu64, text, total);
    if (rated)
        printf("  %s%12.0f/s%s", hf_term_style(style), rate, hf_term_reset());
    putchar('\n');
}

static void print_space(const struct sample *s)
{
    struct hf_statfs fs = {.block_size = (uint32_t)value_of(s, "block_size"),
                           .page_size = (uint32_t)value_of(s, "page_size"),
                           .blocks = value_of(s, "blocks"),
                           .blocks_free = value_of(s, "blocks_free"),
                           .blocks_reserved = value_of(s, "blocks_reserved")};
    char cached[HF_CLI_SIZE_LEN], dirty[HF_CLI_SIZE_LEN];

    if (fs.blocks)
        hf_draw_space(stdout, &fs, 2);
    printf("  cache %s, of it dirty %s\n\n",
           hf_cli_size_format(value_of(s, "cached_pages") * fs.page_size, cached),
           hf_cli_size_format(value_of(s, "dirty_pages") * fs.page_size, dirty));
}

static void print_text(const struct top *top, const struct sample *before, const struct sample *now)
{
    const char *prefix = "requests_";

    if (top->terminal)
        fputs("\033[H\033[J", stdout);
    hf_term_print_name(stdout, now->volume);
    printf(" on ");
    hf_term_print_name(stdout, now->directory);
    printf(", server %" PRIu64 "\n\n", value_of(now, "pid"));
    print_space(now);
    for (size_t i = 0; i < sizeof(lines) / sizeof(lines[0]); i++)
        print_line(lines[i].text, value_of(now, lines[i].name), rate_of(before, now, lines[i].name),
                   before->nr, is_trouble(lines[i].name));
    printf("\n%srequests of the kernel%s\n", hf_term_style(HF_STYLE_BOLD), hf_term_reset());
    for (unsigned i = 0; i < now->nr; i++) {
        const struct counter *c = &now->counters[i];

        if (!strncmp(c->name, prefix, strlen(prefix)) && c->value)
            print_line(c->name + strlen(prefix), c->value, rate_of(before, now, c->name), before->nr, false);
    }
    if (!top->terminal)
        putchar('\n');
}

/* ---------------------------------------------------------------- for programs */

static void print_json(const struct sample *before, const struct sample *now)
{
    cJSON *root = hf_json_object(), *totals = hf_json_object(), *rates = hf_json_object();

    hf_json_name(root, "volume", now->volume);
    hf_json_name(root, "directory", now->directory);
    for (unsigned i = 0; i < now->nr; i++) {
        const char *name = now->counters[i].name;

        hf_json_u64(totals, name, now->counters[i].value);
        if (before->nr)
            hf_json_add(rates, name, cJSON_CreateNumber(rate_of(before, now, name)));
    }
    hf_json_add(root, "total", totals);
    hf_json_add(root, "per_second", rates);
    hf_json_print(root, 0);
}

static void wait_for(double seconds)
{
    struct timespec left = {.tv_sec = (time_t)seconds};

    left.tv_nsec = (long)((seconds - (double)left.tv_sec) * 1e9);
    while (nanosleep(&left, &left) < 0 && errno == EINTR)
        ;
}

static int show(const struct top *top)
{
    static struct sample before, now;

    for (uint64_t i = 0; top->count == 0 || i < top->count; i++) {
        int status;

        if (i > 0)
            wait_for(top->interval);
        before = now;
        status = take_sample(top, &now);
        if (status)
            return status;
        if (top->json)
            print_json(&before, &now);
        else
            print_text(top, &before, &now);
        status = hf_cli_flush(HF_CLI_OK);
        if (status)
            return status;
    }
    return HF_CLI_OK;
}

static int parse_interval(const struct hf_cli_command *cmd, const char *text, double *ret_seconds)
{
    char *end;
    double seconds = strtod(text, &end);

    if (end == text || *end || !(seconds >= 0.05 && seconds <= 86400))
        return hf_cli_usage(cmd, "--interval '%s' is not a number of seconds from 0.05 to 86400", text);
    *ret_seconds = seconds;
    return 0;
}

static int parse_count(const struct hf_cli_command *cmd, const char *text, uint64_t *ret_count)
{
    char *end;
    unsigned long long count = strtoull(text, &end, 10);

    if (end == text || *end || count == 0 || *text == '-')
        return hf_cli_usage(cmd, "--count '%s' is not a number from 1", text);
    *ret_count = count;
    return 0;
}

static int run_top(const struct hf_cli_command *cmd, int argc, char **argv)
{
    static const struct option options[] = {
        {"once", no_argument, NULL, 'o'},           {"count", required_argument, NULL, 'n'},
        {"interval", required_argument, NULL, 'i'}, {"json", no_argument, NULL, 'j'},
        {"help", no_argument, NULL, 'h'},           {0}};
    struct top top = {.interval = 1};
    struct stat st;
    int opt, status = 0;

    while (!status && (opt = getopt_long(argc, argv, ":n:i:h", options, NULL)) != -1) {
        if (opt == 'o')
            top.count = 1;
        else if (opt == 'n')
            status = parse_count(cmd, optarg, &top.count);
        else if (opt == 'i')
            status = parse_interval(cmd, optarg, &top.interval);
        else if (opt == 'j')
            top.json = true;
        else
            return hf_cli_option(cmd, opt, argv);
    }
    if (!status)
        status = hf_cli_operands(cmd, argc, argv, 1, 1);
    if (status)
        return status;
    top.dir = argv[optind];
    top.terminal = hf_term_is_terminal() && top.count != 1;
    if (stat(top.dir, &st) < 0)
        return hf_cli_fail_host(errno, "%s", top.dir);
    top.device = st.st_dev;
    return show(&top);
}

const struct hf_cli_command hf_cmd_top = {
    .name = "top",
    .synopsis = "DIR [--once | --count N] [--interval S] [--json]",
    .summary = "a running mount, live: faults, pages, promises, requests",
    .help = "Asks the server of the mount that DIR lies in again and again, and shows how full the volume "
            "and the\n"
            "cache are, and what happens: in all, and by the second since the last time. On a terminal the "
            "screen\n"
            "is drawn anew; elsewhere one report follows the other. Ctrl-C ends it.\n"
            "\n"
            "  --once            one report, without rates\n"
            "  --count N, -n N   N reports\n"
            "  --interval S, -i S  seconds between them (default 1)\n"
            "  --json            an object a line, for programs: total, per_second\n"
            "\n"
            "Examples:\n"
            "  holdfast top /mnt/box\n"
            "  holdfast top /mnt/box --json --count 2 | tail -n 1 | jq .per_second.faults_store\n",
    .run = run_top,
};
