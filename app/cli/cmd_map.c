/* SPDX-License-Identifier: MIT */
/*
 * cmd_map.c - holdfast map: a file's pages and blocks, drawn or as JSON: of a volume at rest, or of a mount,
 * as its server's cache has them now.
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
#include <unistd.h>

#define RUNS_DEFAULT 1000u

struct map {
    bool json;
    uint32_t page_size; /* of a volume; 0: its own */
    uint64_t from_bytes, runs;
};

static int print_text(const char *path, const struct hf_map_source *source, const struct map *map,
                      const struct stat *st)
{
    const struct hf_draw_part part = {
        .first = map->from_bytes / source->page_size, .runs = map->runs, .counts = true};
    char text[HF_CLI_SIZE_LEN];
    uint64_t rest = 0;
    int error;

    hf_term_print_name(stdout, path);
    printf(": %" PRId64 " bytes (%s), pages of %u, blocks of %u%s\n\n", (int64_t)st->st_size,
           hf_cli_size_format((uint64_t)st->st_size, text), source->page_size, source->block_size,
           source->file ? "" : ", as the server has it now");
    error = hf_draw_map(stdout, source, &part, &rest);
    if (error)
        return error;
    if (rest)
        printf("not all of it: more with --from %" PRIu64 "\n", rest * source->page_size);
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
    hf_json_bool(object, "writable", run->page.writable);
    hf_json_bool(object, "straddling", run->page.straddling);
    hf_json_bool(object, "surveyed", run->surveyed);
    hf_json_add(object, "blocks", blocks);
    return object;
}

static int print_json(const char *path, const struct hf_map_source *source, const struct map *map,
                      const struct stat *st)
{
    cJSON *root = hf_json_object();
    cJSON *runs = hf_json_array();
    struct hf_map_iter iter;
    struct hf_map_run run;
    uint64_t nr = 0;
    int more = hf_map_iter_init(&iter, source, map->from_bytes / source->page_size);

    hf_json_name(root, "path", path);
    hf_json_bool(root, "live", source->file == NULL);
    hf_json_u64(root, "size", (uint64_t)st->st_size);
    hf_json_u64(root, "page_size", source->page_size);
    hf_json_u64(root, "block_size", source->block_size);
    hf_json_add(root, "runs", runs);
    if (!more) {
        while (nr++ < map->runs && (more = hf_map_iter_next(&iter, &run)) > 0)
            hf_json_append(runs, run_to_json(&run));
        hf_map_iter_done(&iter);
    }
    if (more < 0) {
        cJSON_Delete(root);
        return more;
    }
    if (iter.next < iter.nr_pages)
        hf_json_u64(root, "rest_from", iter.next * source->page_size);
    hf_json_print(root, 1);
    return 0;
}

static int print_source(const char *path, const struct hf_map_source *source, const struct map *map)
{
    struct stat st;
    int error = hf_map_source_stat(source, &st);

    if (!error)
        error = (map->json ? print_json : print_text)(path, source, map, &st);
    return error;
}

static int map_file(struct hf_volume *volume, const char *path, const struct map *map)
{
    struct hf_map_source source = {.fd = -1};
    struct hf_statfs fs;
    struct stat st;
    int error = hf_open(volume, path, O_RDONLY, 0, &source.file);

    if (error)
        return hf_cli_fail_errno(error, "cannot open %s", path);
    error = hf_fstat(source.file, &st);
    if (!error && !S_ISREG(st.st_mode))
        error = S_ISDIR(st.st_mode) ? -EISDIR : -EINVAL;
    if (!error)
        error = hf_volume_statfs(volume, &fs);
    if (!error) {
        source.page_size = fs.page_size;
        source.block_size = fs.block_size;
        error = print_source(path, &source, map);
    }
    hf_close(source.file); /* opened read-only: it has nothing to report */
    return error ? hf_cli_fail_errno(error, "cannot map %s", path) : HF_CLI_OK;
}

static int map_of_volume(const char *volume_path, const char *path, const struct map *map)
{
    struct hf_volume *volume;
    int status = hf_cli_open(volume_path, HF_OPEN_READ_ONLY, map->page_size, &volume);

    if (!status)
        status = hf_cli_close(volume, volume_path, map_file(volume, path, map));
    return status;
}

/* 0, or why fd is no file whose pages can be looked at. */
static int source_of(int fd, struct hf_map_source *ret_source)
{
    struct stat st;

    if (fstat(fd, &st) < 0)
        return -errno;
    if (!S_ISREG(st.st_mode))
        return S_ISDIR(st.st_mode) ? -EISDIR : -EINVAL;
    return hf_map_source_mounted(fd, ret_source);
}

static int map_of_mount(const char *path, const struct map *map)
{
    struct hf_map_source source;
    int fd = open(path, O_RDONLY | O_CLOEXEC | O_NONBLOCK | O_NOCTTY), error;

    if (fd < 0)
        return hf_cli_fail_host(errno, "cannot open %s", path);
    error = source_of(fd, &source);
    if (!error)
        error = print_source(path, &source, map);
    close(fd);
    if (error == -ENOTTY)
        return hf_cli_fail("it is no file of a mounted volume",
                           "of a volume at rest, name the volume and the path in it", "cannot map %s", path);
    return error ? hf_cli_fail_host(error, "cannot map %s", path) : HF_CLI_OK;
}

static int parse_page_size(const struct hf_cli_command *cmd, const char *text, uint32_t *ret_page_size)
{
    uint64_t bytes;

    if (hf_cli_size_parse(text, &bytes) || bytes < 4096 || bytes > HF_PAGE_SIZE_MAX || (bytes & (bytes - 1)))
        return hf_cli_usage(cmd, "--page-size '%s' is not a power of two from 4K to 64K", text);
    *ret_page_size = (uint32_t)bytes;
    return 0;
}

static int parse_option(const struct hf_cli_command *cmd, int opt, char **argv, struct map *map)
{
    switch (opt) {
    case 'j':
        map->json = true;
        return 0;
    case 'P':
        return parse_page_size(cmd, optarg, &map->page_size);
    case 'f':
        return hf_cli_size_parse(optarg, &map->from_bytes)
                   ? hf_cli_usage(cmd, "--from '%s' is no offset", optarg)
                   : 0;
    case 'r':
        return hf_cli_size_parse(optarg, &map->runs) || map->runs == 0
                   ? hf_cli_usage(cmd, "--runs '%s' is not a number from 1", optarg)
                   : 0;
    default:
        return hf_cli_option(cmd, opt, argv);
    }
}

static int run_map(const struct hf_cli_command *cmd, int argc, char **argv)
{
    static const struct option options[] = {
        {"json", no_argument, NULL, 'j'},       {"page-size", required_argument, NULL, 'P'},
        {"from", required_argument, NULL, 'f'}, {"runs", required_argument, NULL, 'r'},
        {"help", no_argument, NULL, 'h'},       {0}};
    struct map map = {.runs = RUNS_DEFAULT};
    int opt, status;

    while ((opt = getopt_long(argc, argv, ":h", options, NULL)) != -1) {
        if (opt == 'h')
            return hf_cli_option(cmd, opt, argv);
        status = parse_option(cmd, opt, argv, &map);
        if (status)
            return status;
    }
    status = hf_cli_operands(cmd, argc, argv, 1, 2);
    if (status)
        return status;
    if (argc - optind == 1 && map.page_size)
        return hf_cli_usage(cmd, "--page-size is for a volume at rest: a mount has its pages");
    status = argc - optind == 1 ? map_of_mount(argv[optind], &map)
                                : map_of_volume(argv[optind], argv[optind + 1], &map);
    return hf_cli_flush(status);
}

const struct hf_cli_command hf_cmd_map = {
    .name = "map",
    .synopsis = "VOLUME PATH | FILE [--from OFFSET] [--runs N] [--page-size P] [--json]",
    .summary = "draw a file's pages and blocks, also of a mount",
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
        "PATH in a VOLUME that nobody has open shows holes, written and unwritten blocks. FILE on a mount, "
        "or under\n"
        "'holdfast run', shows what its server's cache has at this moment: also what is promised and dirty, "
        "and\n"
        "where programs can store without asking (writable). Pages that look alike are told once.\n"
        "\n"
        "  --from OFFSET  from the page that holds this byte on (K, M, G, T)\n"
        "  --runs N       at most N runs of like pages (default 1000); what is left is said\n"
        "  --page-size P  see a file at rest in pages of P bytes, 4K to 64K (default: the larger of 4K and "
        "the block)\n"
        "  --json         runs of like pages, for programs\n"
        "\n"
        "Examples:\n"
        "  holdfast map box.hf /letter\n"
        "  holdfast map /mnt/box/letter\n"
        "  holdfast map box.hf /letter --page-size 16K --json\n",
    .run = run_map,
};
