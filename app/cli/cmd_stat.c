/* SPDX-License-Identifier: MIT */
/*
 * cmd_stat.c - holdfast stat: what a running mount has agreed on with the kernel, counted, and has left.
 */
#include "ask.h"
#include "cli.h"
#include "json.h"
#include "latency.h"
#include "term.h"
#include <getopt.h>
#include <stdlib.h>
#include <string.h>

enum style { STYLE_TEXT, STYLE_JSON, STYLE_PROMETHEUS };

static bool is_number(const char *value)
{
    return *value && value[strspn(value, "0123456789")] == '\0';
}

/* Numbers that only grow. */
static bool is_counter(const char *name)
{
    static const char *const gauges[] = {"pid",          "block_size",      "page_size", "blocks",
                                         "blocks_free",  "blocks_reserved", "inodes",    "inodes_free",
                                         "cached_pages", "dirty_pages"};

    for (size_t i = 0; i < sizeof(gauges) / sizeof(gauges[0]); i++)
        if (!strcmp(name, gauges[i]))
            return false;
    return true;
}

static void print_prometheus(const char *name, const char *value)
{
    if (is_number(value))
        printf("# TYPE holdfast_%s %s\nholdfast_%s %s\n", name, is_counter(name) ? "counter" : "gauge", name,
               value);
}

static void print_one(enum style style, cJSON *root, const char *name, const char *value)
{
    if (style == STYLE_PROMETHEUS) {
        print_prometheus(name, value);
    } else if (style == STYLE_TEXT) {
        printf("%-28s ", name);
        hf_term_print_name(stdout, value);
        putchar('\n');
    } else if (is_number(value)) {
        hf_json_u64(root, name, strtoull(value, NULL, 10));
    } else if (!strcmp(value, "yes") || !strcmp(value, "no")) {
        hf_json_bool(root, name, value[0] == 'y');
    } else {
        hf_json_name(root, name, value);
    }
}

static void print_latency(enum style style, cJSON *root, enum hf_fault_kind kind,
                          const struct hf_latency *latency)
{
    static bool told; /* all series of one metric stand together, below one TYPE */
    char text[HF_CLI_LATENCY_LEN], name[HF_CLI_LATENCY_LEN];
    cJSON *object;

    if (style == STYLE_PROMETHEUS) {
        if (!told)
            puts("# TYPE holdfast_fault_latency_seconds histogram");
        told = true;
        hf_cli_latency_print_prometheus(kind, latency);
    } else if (style == STYLE_TEXT) {
        snprintf(name, sizeof(name), "latency_%s", hf_fault_kind_name(kind));
        printf("%-28s %s\n", name, hf_cli_latency_format(latency, text));
    } else {
        object = cJSON_GetObjectItemCaseSensitive(root, "latency");
        if (!object) {
            object = hf_json_object();
            hf_json_add(root, "latency", object);
        }
        hf_json_add(object, hf_fault_kind_name(kind), hf_cli_latency_to_json(latency));
    }
}

static int print_answer(int fd, enum style style, const char *dir)
{
    cJSON *root = style == STYLE_JSON ? hf_json_object() : NULL;
    FILE *in = fdopen(fd, "r");
    size_t size = 0, lines = 0;
    struct hf_latency latency;
    enum hf_fault_kind kind;
    char *line = NULL;

    while (in && getline(&line, &size, in) > 0) {
        char *value = line + strcspn(line, " \n");

        if (*value == ' ')
            *value++ = '\0';
        value[strcspn(value, "\n")] = '\0';
        if (hf_cli_latency_parse(line, value, &kind, &latency))
            print_latency(style, root, kind, &latency);
        else
            print_one(style, root, line, value);
        lines++;
    }
    free(line);
    if (in)
        fclose(in);
    if (root)
        hf_json_print(root, 1);
    return lines ? HF_CLI_OK : hf_cli_fail("its server does not answer", NULL, "%s", dir);
}

static int run_stat(const struct hf_cli_command *cmd, int argc, char **argv)
{
    static const struct option options[] = {{"json", no_argument, NULL, 'j'},
                                            {"prometheus", no_argument, NULL, 'p'},
                                            {"help", no_argument, NULL, 'h'},
                                            {0}};
    enum style style = STYLE_TEXT;
    const char *dir;
    dev_t device;
    int opt, status, fd;

    while ((opt = getopt_long(argc, argv, ":h", options, NULL)) != -1) {
        if (opt != 'j' && opt != 'p')
            return hf_cli_option(cmd, opt, argv);
        style = opt == 'j' ? STYLE_JSON : STYLE_PROMETHEUS;
    }
    opt = hf_cli_operands(cmd, argc, argv, 1, 1);
    if (opt)
        return opt;
    dir = argv[optind];
    status = hf_cli_ask_where(dir, &device);
    if (!status)
        status = hf_cli_ask(device, dir, "stat", &fd);
    return status ? status : hf_cli_flush(print_answer(fd, style, dir));
}

const struct hf_cli_command hf_cmd_stat = {
    .name = "stat",
    .synopsis = "DIR [--json | --prometheus]",
    .summary = "a running mount: what was agreed with the kernel, counters, space",
    .help =
        "Asks the server of the mount that DIR lies in. 'direct_io_allow_mmap' says whether this kernel lets "
        "files be\n"
        "mapped shared although reads and writes are not cached; if not, 'cache' is kernel. 'latency_...' "
        "says how long\n"
        "page faults of mappings took that the server decides ('holdfast run'), by what they were.\n"
        "\n"
        "  --json        for programs\n"
        "  --prometheus  for a metrics collector\n"
        "\n"
        "Examples:\n"
        "  holdfast stat /mnt/box\n"
        "  holdfast stat /mnt/box --json | jq .blocks_free\n",
    .run = run_stat,
};
