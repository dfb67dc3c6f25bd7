/* SPDX-License-Identifier: MIT */
/*
 * cmd_mkfs.c - holdfast mkfs: formats a file or a block device as a volume.
 *
 * The library refuses to overwrite a volume; this refuses to overwrite anything else that has bytes at its
 * beginning, too. --force overrules both.
 */
#include "cli.h"
#include "json.h"
#include "term.h"
#include <errno.h>
#include <fcntl.h>
#include <getopt.h>
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

struct mkfs_args {
    struct hf_mkfs_options opts;
    bool json;
};

static int parse_size(const struct hf_cli_command *cmd, const char *option, const char *text,
                      uint64_t *ret_bytes)
{
    int error = hf_cli_size_parse(text, ret_bytes);

    if (error == -ERANGE)
        return hf_cli_usage(cmd, "%s %s is more than 2^63 - 1 bytes", option, text);
    if (error || !*ret_bytes)
        return hf_cli_usage(cmd, "%s '%s' is not a size: give bytes, or a number with K, M, G or T", option,
                            text);
    return 0;
}

static int parse_block_size(const struct hf_cli_command *cmd, const char *text, uint32_t *ret_block_size)
{
    uint64_t bytes;
    int status = parse_size(cmd, "--block-size", text, &bytes);

    if (status)
        return status;
    if (bytes < HF_BLOCK_SIZE_MIN || bytes > HF_BLOCK_SIZE_MAX || (bytes & (bytes - 1)))
        return hf_cli_usage(cmd, "--block-size %s is not a power of two from 512 to 64K", text);
    *ret_block_size = (uint32_t)bytes;
    return 0;
}

/* Returns 0, or the exit status + 1 to leave with at once. */
static int parse_args(const struct hf_cli_command *cmd, int argc, char **argv, struct mkfs_args *args)
{
    static const struct option options[] = {
        {"size", required_argument, NULL, 's'},  {"block-size", required_argument, NULL, 'b'},
        {"label", required_argument, NULL, 'L'}, {"thin", no_argument, NULL, 't'},
        {"force", no_argument, NULL, 'f'},       {"json", no_argument, NULL, 'j'},
        {"help", no_argument, NULL, 'h'},        {0}};
    int opt, status = 0;

    while ((opt = getopt_long(argc, argv, ":s:b:L:fh", options, NULL)) != -1) {
        switch (opt) {
        case 's':
            status = parse_size(cmd, "--size", optarg, &args->opts.size_bytes);
            break;
        case 'b':
            status = parse_block_size(cmd, optarg, &args->opts.block_size);
            break;
        case 'L':
            if (strlen(optarg) >= sizeof(args->opts.label))
                status = hf_cli_usage(cmd, "--label has more than %zu bytes", sizeof(args->opts.label) - 1);
            else
                strcpy(args->opts.label, optarg);
            break;
        case 't':
            args->opts.thin = true;
            break;
        case 'f':
            args->opts.force = true;
            break;
        case 'j':
            args->json = true;
            break;
        default:
            return hf_cli_option(cmd, opt, argv) + 1;
        }
        if (status)
            return status + 1;
    }
    status = hf_cli_operands(cmd, argc, argv, 1, 1);
    return status ? status + 1 : 0;
}

static bool begins_with_data(int fd)
{
    static unsigned char buf[128 * 1024]; /* every common filesystem has its mark in there */
    ssize_t len = pread(fd, buf, sizeof(buf), 0);

    for (ssize_t i = 0; i < len; i++)
        if (buf[i])
            return true;
    return false;
}

/* What the library cannot know: that a size is missing, and that the file belongs to somebody else. */
static int look_before(const struct hf_cli_command *cmd, const char *path, const struct mkfs_args *args)
{
    struct stat st;
    int fd = open(path, O_RDONLY | O_CLOEXEC | O_NONBLOCK);
    int status = HF_CLI_OK;

    if (fd < 0 && errno == ENOENT && !args->opts.size_bytes)
        return hf_cli_usage(cmd, "%s does not exist yet: --size says how large to make it", path);
    if (fd < 0)
        return errno == ENOENT ? HF_CLI_OK : hf_cli_fail_host(errno, "cannot format %s", path);
    if (fstat(fd, &st) < 0)
        status = hf_cli_fail_host(errno, "cannot format %s", path);
    else if (!S_ISREG(st.st_mode) && !S_ISBLK(st.st_mode))
        status = hf_cli_fail("it is neither a file nor a block device", NULL, "cannot format %s", path);
    else if (S_ISREG(st.st_mode) && st.st_size == 0 && !args->opts.size_bytes)
        status = hf_cli_usage(cmd, "%s is empty: --size says how large to make it", path);
    else if (!args->opts.force && begins_with_data(fd))
        status = hf_cli_fail("it holds data already, perhaps a volume",
                             "--force overwrites it, and what is in it is gone", "cannot format %s", path);
    close(fd);
    return status;
}

static void print_text(const char *path, const struct hf_statfs *fs)
{
    char total[HF_CLI_SIZE_LEN];

    printf("volume ");
    hf_term_print_name(stdout, path);
    printf(": %s for data in %" PRIu64 " blocks of %u bytes, %s\n",
           hf_cli_size_format(fs->blocks * fs->block_size, total), fs->blocks, fs->block_size,
           fs->thin ? "thin (space is asked of the host as it is reserved)"
                    : "thick (the host's space is allocated already)");
}

static void print_json(const char *path, const struct hf_statfs *fs)
{
    cJSON *root = hf_json_object();

    hf_json_name(root, "volume", path);
    hf_json_u64(root, "block_size", fs->block_size);
    hf_json_u64(root, "blocks", fs->blocks);
    hf_json_u64(root, "blocks_free", fs->blocks_free);
    hf_json_name(root, "label", fs->label);
    hf_json_bool(root, "thin", fs->thin);
    hf_json_print(root, 1);
}

static const char *mkfs_todo(int error)
{
    switch (-error) {
    case EEXIST:
        return "--force overwrites it, and all files in it are gone";
    case ENOSPC:
        return "choose another --size, or use --thin if it is the host that is full";
    case EFBIG:
        return "its filesystem has no files that large (ext4: up to 16 TiB less 4 KiB)";
    default:
        return NULL;
    }
}

static int run_mkfs(const struct hf_cli_command *cmd, int argc, char **argv)
{
    struct mkfs_args args = {0};
    struct hf_volume *volume;
    struct hf_statfs fs;
    const char *path;
    int status = parse_args(cmd, argc, argv, &args);
    int error;

    if (status)
        return status - 1;
    path = argv[optind];
    status = look_before(cmd, path, &args);
    if (status)
        return status;
    error = hf_mkfs(path, &args.opts);
    if (error)
        return hf_cli_fail(hf_cli_volume_error(path), mkfs_todo(error), "cannot format %s", path);
    status = hf_cli_open(path, HF_OPEN_READ_ONLY, 0, &volume); /* what was made is what gets reported */
    if (status)
        return status;
    error = hf_volume_statfs(volume, &fs);
    if (error)
        status = hf_cli_fail_errno(error, "reading the new volume %s", path);
    else if (args.json)
        print_json(path, &fs);
    else
        print_text(path, &fs);
    return hf_cli_flush(hf_cli_close(volume, path, status));
}

const struct hf_cli_command hf_cmd_mkfs = {
    .name = "mkfs",
    .synopsis = "VOLUME [--size 10M] [--block-size B] [--label L] [--thin] [--force] [--json]",
    .summary = "make a volume in a file or on a block device",
    .help =
        "VOLUME is made if it does not exist; then --size is needed. Without --size an existing file or\n"
        "device is used whole. By default the volume is thick: all its space is taken from the host now,\n"
        "so that the promise \"a store that was accepted has its space\" depends on nothing later.\n"
        "\n"
        "  --size, -s N        bytes, or a number with K, M, G or T (units of 1024)\n"
        "  --block-size, -b B  unit of allocation: a power of two from 512 to 64K (default 4K). Small "
        "blocks\n"
        "                      waste less space, large ones need fewer extents\n"
        "  --label, -L L       a name for people, up to 63 bytes\n"
        "  --thin              take space from the host only when it is reserved; a store can then be "
        "refused\n"
        "                      because the host is full\n"
        "  --force, -f         overwrite a volume, or a file with data in it\n"
        "  --json              print what was made as JSON\n"
        "\n"
        "Examples:\n"
        "  holdfast mkfs box.hf --size 10M\n"
        "  holdfast mkfs small.hf --size 4M --block-size 1K --label letters\n"
        "  holdfast mkfs /dev/sdx1 --force\n",
    .run = run_mkfs,
};
