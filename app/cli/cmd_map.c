/* SPDX-License-Identifier: MIT */
/*
 * cmd_map.c - holdfast map: a file's pages and blocks, drawn or as JSON.
 */
#include "cli.h"
#include "draw.h"
#include "json.h"
#include "term.h"
#include <errno.h>
#include <fcntl.h>
#include <getopt.h>
#include <inttypes.h>
#include <sys/stat.h>

static int print_text(const char *path, struct hf_file *file, const struct hf_statfs *fs,
                      const struct stat *st)
{
    char text[HF_CLI_SIZE_LEN];
    int error;

    hf_term_print_name(stdout, path);
    printf(": %" PRId64 " bytes (%s), pages of %u, blocks of %u\n\n", (int64_t)st->st_size,
           hf_cli_size_format((uint64_t)st->st_size, text), fs->page_size, fs->block_size);
    error = hf_draw_file(stdout, file, fs->page_size, 0, true);
    if (error)
        return error;
    putchar('\n');
    hf_draw_legend(stdout, 0, false);
    return 0;
}

static cJSON *run_to_json(const struct hf_map_run *run)
{
    cJSON *object = hf_json_object();
    cJSON *blocks = hf_json_array();
    char state[HF_PAGE_STATE_LEN];

    for (unsigned i = 0; i < run->page.nr_blocks; i++)
        hf_json_append(blocks, cJSON_CreateString(hf_cell_name(hf_cell_of(&run->page, i))));
    hf_json_u64(object, "page", run->page.index);
    hf_json_u64(object, "count", run->count);
    hf_json_text(object, "state", hf_page_state_text(&run->page, state));
    hf_json_bool(object, "straddling", run->page.straddling);
    hf_json_bool(object, "surveyed", run->surveyed);
    hf_json_add(object, "blocks", blocks);
    return object;
}

static int print_json(const char *path, struct hf_file *file, const struct hf_statfs *fs,
                      const struct stat *st)
{
    cJSON *root = hf_json_object();
    cJSON *runs = hf_json_array();
    struct hf_map_iter iter;
    struct hf_map_run run;
    int more = hf_map_iter_init(&iter, file, fs->page_size);

    hf_json_name(root, "path", path);
    hf_json_u64(root, "size", (uint64_t)st->st_size);
    hf_json_u64(root, "page_size", fs->page_size);
    hf_json_u64(root, "block_size", fs->block_size);
    hf_json_add(root, "runs", runs);
    if (!more) {
        while ((more = hf_map_iter_next(&iter, &run)) > 0)
            hf_json_append(runs, run_to_json(&run));
        hf_map_iter_done(&iter);
    }
    if (more) {
        cJSON_Delete(root);
        return more;
    }
    hf_json_print(root, 1);
    return 0;
}

static int map_file(struct hf_volume *volume, const char *path, bool json)
{
    struct hf_statfs fs;
    struct hf_file *file;
    struct stat st;
    int error = hf_open(volume, path, O_RDONLY, 0, &file);

    if (error)
        return hf_cli_fail_errno(error, "cannot open %s", path);
    error = hf_fstat(file, &st);
    if (!error && !S_ISREG(st.st_mode))
        error = S_ISDIR(st.st_mode) ? -EISDIR : -EINVAL;
    if (!error)
        error = hf_volume_statfs(volume, &fs);
    if (!error)
        error = json ? print_json(path, file, &fs, &st) : print_text(path, file, &fs, &st);
    hf_close(file); /* opened read-only: it has nothing to report */
    return error ? hf_cli_fail_errno(error, "cannot map %s", path) : HF_CLI_OK;
}

static int parse_page_size(const struct hf_cli_command *cmd, const char *text, uint32_t *ret_page_size)
{
    uint64_t bytes;

    if (hf_cli_size_parse(text, &bytes) || bytes < 4096 || bytes > HF_PAGE_SIZE_MAX || (bytes & (bytes - 1)))
        return hf_cli_usage(cmd, "--page-size '%s' is not a power of two from 4K to 64K", text);
    *ret_page_size = (uint32_t)bytes;
    return 0;
}

static int run_map(const struct hf_cli_command *cmd, int argc, char **argv)
{
    static const struct option options[] = {{"json", no_argument, NULL, 'j'},
                                            {"page-size", required_argument, NULL, 'P'},
                                            {"help", no_argument, NULL, 'h'},
                                            {0}};
    struct hf_volume *volume;
    uint32_t page_size = 0;
    bool json = false;
    int opt, status = 0;

    while (!status && (opt = getopt_long(argc, argv, ":h", options, NULL)) != -1) {
        if (opt == 'j')
            json = true;
        else if (opt == 'P')
            status = parse_page_size(cmd, optarg, &page_size);
        else
            return hf_cli_option(cmd, opt, argv);
    }
    if (!status)
        status = hf_cli_operands(cmd, argc, argv, 2, 2);
    if (!status)
        status = hf_cli_open(argv[optind], HF_OPEN_READ_ONLY, page_size, &volume);
    if (status)
        return status;
    status = map_file(volume, argv[optind + 1], json);
    return hf_cli_flush(hf_cli_close(volume, argv[optind], status));
}

const struct hf_cli_command hf_cmd_map = {
    .name = "map",
    .synopsis = "VOLUME PATH [--page-size P] [--json]",
    .summary = "draw a file's pages and blocks",
    .help =
        "One line is a page, the unit of the cache; one cell in it is a block, the unit of allocation:\n"
        "\n"
        "  .  hole: no block, reads zero. A store there has to ask for space first\n"
        "  r  reserved: space is promised, nothing stored yet\n"
        "  D  dirty: stored and not on disk yet; it has its space\n"
        "  #  written: on disk (a full block where the locale is UTF-8)\n"
        "  u  unwritten: allocated beforehand, reads zero\n"
        "     blank: beyond the end of the file\n"
        "\n"
        "A file at rest shows holes, written and unwritten blocks; 'holdfast demo' shows the others, on "
        "files\n"
        "that are being stored to. Pages that look alike are told once.\n"
        "\n"
        "  --page-size P  see it in pages of P bytes, 4K to 64K (default: the larger of 4K and the block)\n"
        "  --json         runs of like pages, for programs\n"
        "\n"
        "Examples:\n"
        "  holdfast map box.hf /letter\n"
        "  holdfast map box.hf /letter --page-size 16K --json\n",
    .run = run_map,
};
