/* SPDX-License-Identifier: MIT */
/*
 * cmd_check.c - holdfast check: is the volume whole, and if not, what is wrong and what can be done.
 *
 * Exit statuses are those of fsck(8), not those of the other commands.
 */
#include "cli.h"
#include "json.h"
#include "term.h"
#include <errno.h>
#include <getopt.h>
#include <holdfast/maintain.h>
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

#define FSCK_REPAIRED 1
#define FSCK_LEFT 4
#define FSCK_FAILED 8
#define FSCK_USAGE 16

struct checking {
    const char *path;
    bool repair;
    cJSON *problems; /* NULL: lines on stdout */
    struct hf_progress progress;
    const char *phase;
};

static void report_line(const struct checking *ck, const struct hf_check_problem *problem)
{
    char *text = hf_term_escape(problem->text);

    printf("%s%s%s", problem->left ? "left: " : "", text, problem->repair && !ck->repair ? "; repair: " : "");
    if (problem->repair && !problem->left)
        printf("%s%s", ck->repair ? "; repaired: " : "", problem->repair);
    else if (!problem->left)
        printf("; cannot be repaired");
    printf("  [%s]\n", problem->kind);
    free(text);
}

static void report_json(const struct checking *ck, const struct hf_check_problem *problem)
{
    cJSON *object = hf_json_object();

    hf_json_text(object, "kind", problem->kind);
    hf_json_name(object, "text", problem->text);
    if (problem->ino)
        hf_json_u64(object, "inode", problem->ino);
    if (problem->repair)
        hf_json_text(object, "repair", problem->repair);
    hf_json_bool(object, "left", problem->left);
    hf_json_append(ck->problems, object);
}

static void report(void *arg, const struct hf_check_problem *problem)
{
    struct checking *ck = arg;

    if (ck->progress.shown)
        hf_progress_done(&ck->progress);
    if (ck->problems)
        report_json(ck, problem);
    else
        report_line(ck, problem);
}

static void progress(void *arg, const char *what, uint64_t done, uint64_t total)
{
    struct checking *ck = arg;

    if (!ck->phase || strcmp(ck->phase, what) != 0) {
        hf_progress_done(&ck->progress);
        hf_progress_init(&ck->progress, what, total);
        ck->phase = what;
    }
    hf_progress_update(&ck->progress, done);
}

static void print_summary(const char *path, const struct hf_check_result *result)
{
    hf_term_print_name(stdout, path);
    printf(": %" PRIu64 " inodes, %" PRIu64 " names, %" PRIu64 " extents, %" PRIu64 " of %" PRIu64
           " blocks used; ",
           result->inodes, result->names, result->extents, result->blocks_used, result->blocks);
    if (result->problems == 0)
        printf("clean");
    else if (result->left == 0)
        printf("%" PRIu64 " problem%s, all repaired", result->problems, result->problems == 1 ? "" : "s");
    else if (result->left >= result->problems)
        printf("%" PRIu64 " problem%s", result->left, result->left == 1 ? "" : "s");
    else
        printf("%" PRIu64 " problems, %" PRIu64 " left", result->problems, result->left);
    printf("%s%s\n", result->incomplete ? "; damage kept the check from comparing everything" : "",
           result->replayed && !result->problems ? " (not closed cleanly: its log was read as well)" : "");
}

static void print_json(const struct checking *ck, const struct hf_check_result *result)
{
    cJSON *root = hf_json_object();

    hf_json_name(root, "volume", ck->path);
    hf_json_bool(root, "clean", result->problems == 0);
    hf_json_u64(root, "problems_found", result->problems);
    hf_json_u64(root, "problems_left", result->left);
    hf_json_bool(root, "incomplete", result->incomplete);
    hf_json_bool(root, "log_replayed", result->replayed);
    hf_json_u64(root, "inodes", result->inodes);
    hf_json_u64(root, "names", result->names);
    hf_json_u64(root, "extents", result->extents);
    hf_json_u64(root, "blocks", result->blocks);
    hf_json_u64(root, "blocks_used", result->blocks_used);
    hf_json_add(root, "problems", ck->problems);
    hf_json_print(root, 1);
}

static int check(struct checking *ck)
{
    struct hf_check_options opts = {
        .flags = ck->repair ? HF_CHECK_REPAIR : 0, .report = report, .progress = progress, .arg = ck};
    struct hf_check_result result;
    int error;

    hf_progress_init(&ck->progress, "database", 0);
    error = hf_check(ck->path, &opts, &result);
    hf_progress_done(&ck->progress);
    if (error) {
        hf_cli_fail(hf_cli_volume_error(ck->path), error == -EMEDIUMTYPE ? "name a volume" : NULL,
                    "cannot check %s", ck->path);
        return FSCK_FAILED;
    }
    if (ck->problems)
        print_json(ck, &result);
    else
        print_summary(ck->path, &result);
    if (hf_cli_flush(HF_CLI_OK))
        return FSCK_FAILED;
    if (result.left != 0)
        return FSCK_LEFT;
    return result.problems != 0 ? FSCK_REPAIRED : 0;
}

static int run_check(const struct hf_cli_command *cmd, int argc, char **argv)
{
    static const struct option options[] = {{"repair", no_argument, NULL, 'r'},
                                            {"json", no_argument, NULL, 'j'},
                                            {"help", no_argument, NULL, 'h'},
                                            {0}};
    struct checking ck = {0};
    bool json = false;
    int opt, status;

    while ((opt = getopt_long(argc, argv, ":h", options, NULL)) != -1) {
        switch (opt) {
        case 'r':
            ck.repair = true;
            break;
        case 'j':
            json = true;
            break;
        default:
            status = hf_cli_option(cmd, opt, argv);
            return status == HF_CLI_USAGE ? FSCK_USAGE : status;
        }
    }
    if (hf_cli_operands(cmd, argc, argv, 1, 1))
        return FSCK_USAGE;
    ck.path = argv[optind];
    ck.problems = json ? hf_json_array() : NULL;
    return check(&ck);
}

const struct hf_cli_command hf_cmd_check = {
    .name = "check",
    .synopsis = "VOLUME [--repair] [--json]",
    .summary = "is the volume whole? finds damage, and mends it when asked to",
    .help =
        "Reads the whole of the volume's metadata: both headers, the database (with SQLite's own check), and "
        "what\n"
        "tables say of each other: that each block belongs to one file at most, each name leads to an inode, "
        "the\n"
        "directories are one tree, links are counted right. Contents of files are not read: there is nothing "
        "to\n"
        "compare them with.\n"
        "\n"
        "Without --repair nothing is written, not even the log of a volume that was not closed cleanly: it "
        "is "
        "read\n"
        "in place. Each problem is one line: what it is about, what is wrong, and what --repair would do. "
        "Files\n"
        "that have lost their name appear in /lost+found as '#' and their inode number.\n"
        "\n"
        "  --repair  mend it. Each repair happens as a whole or not at all, also when the power goes; run it "
        "again\n"
        "            then. A volume of value is better copied first.\n"
        "  --json    for programs\n"
        "\n"
        "Examples:\n"
        "  holdfast check box.hf\n"
        "  holdfast check box.hf --repair\n"
        "  holdfast check box.hf --json | jq '.problems[].text'\n",
    .status =
        "0 clean, 1 problems were found and all repaired, 4 problems are left, 8 the check could not be "
        "made,\n16 wrong usage (as fsck(8))",
    .run = run_check,
};
