/* SPDX-License-Identifier: MIT */
/*
 * cmd_ls.c - holdfast ls: names in a directory, sorted by their bytes.
 */
#include "cli.h"
#include "json.h"
#include "term.h"
#include <dirent.h>
#include <errno.h>
#include <getopt.h>
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <time.h>

struct listing {
    struct hf_dirent *entries;
    size_t count, cap;
};

struct ls_args {
    const char *path;
    bool details, json;
};

static int listing_add(struct listing *list, const struct hf_dirent *entry)
{
    if (list->count == list->cap) {
        size_t cap = list->cap ? list->cap * 2 : 64;
        struct hf_dirent *grown = reallocarray(list->entries, cap, sizeof(*grown));

        if (!grown)
            return -ENOMEM;
        list->entries = grown;
        list->cap = cap;
    }
    list->entries[list->count++] = *entry;
    return 0;
}

static int compare_entries(const void *a, const void *b)
{
    return strcmp(((const struct hf_dirent *)a)->name, ((const struct hf_dirent *)b)->name);
}

static int listing_read(struct hf_volume *volume, const char *path, struct listing *list)
{
    struct hf_dirent entry;
    struct hf_dir *dir;
    int more = hf_opendir(volume, path, &dir);

    if (more)
        return more;
    while ((more = hf_readdir(dir, &entry)) > 0) {
        if (!strcmp(entry.name, ".") || !strcmp(entry.name, ".."))
            continue;
        more = listing_add(list, &entry);
        if (more)
            break;
    }
    hf_closedir(dir);
    if (!more && list->count)
        qsort(list->entries, list->count, sizeof(*list->entries), compare_entries);
    return more;
}

static const char *type_name(mode_t mode)
{
    return S_ISDIR(mode) ? "directory" : S_ISLNK(mode) ? "symlink" : S_ISREG(mode) ? "file" : "other";
}

static void format_mode(mode_t mode, char text[11])
{
    static const char bits[] = "rwxrwxrwx";

    text[0] = S_ISDIR(mode) ? 'd' : S_ISLNK(mode) ? 'l' : S_ISREG(mode) ? '-' : '?';
    for (int i = 0; i < 9; i++)
        text[1 + i] = (mode >> (8 - i)) & 1 ? bits[i] : '-';
    text[10] = '\0';
}

/* The target of a symbolic link on the heap, or NULL. */
static char *read_target(struct hf_volume *volume, const char *path)
{
    char *target = malloc(HF_PATH_MAX);
    ssize_t len = target ? hf_readlink(volume, path, target, HF_PATH_MAX - 1) : -1;

    if (len < 0 || len >= HF_PATH_MAX) {
        free(target);
        return NULL;
    }
    target[len] = '\0';
    return target;
}

static void print_details(const struct stat *st)
{
    char mode[11], when[32] = "?";
    struct tm tm;

    format_mode(st->st_mode, mode);
    if (localtime_r(&st->st_mtime, &tm))
        strftime(when, sizeof(when), "%Y-%m-%d %H:%M:%S", &tm);
    printf("%s %3ju %5u %5u %12" PRId64 " %10" PRId64 " %s ", mode, (uintmax_t)st->st_nlink, st->st_uid,
           st->st_gid, (int64_t)st->st_size, (int64_t)st->st_blocks * 512, when);
}

static void print_text(const char *name, const char *target, const struct stat *st, bool details)
{
    if (details)
        print_details(st);
    fputs(S_ISDIR(st->st_mode) ? hf_term_style(HF_STYLE_NOTE) : "", stdout);
    hf_term_print_name(stdout, name);
    fputs(S_ISDIR(st->st_mode) ? hf_term_reset() : "", stdout);
    if (details && target) {
        fputs(" -> ", stdout);
        hf_term_print_name(stdout, target);
    }
    putchar('\n');
}

static cJSON *to_json(const char *name, const char *target, const struct stat *st)
{
    cJSON *object = hf_json_object();
    char mode[8];

    snprintf(mode, sizeof(mode), "%04o", st->st_mode & 07777);
    hf_json_name(object, "name", name);
    hf_json_text(object, "type", type_name(st->st_mode));
    hf_json_u64(object, "ino", st->st_ino);
    hf_json_text(object, "mode", mode);
    hf_json_u64(object, "nlink", st->st_nlink);
    hf_json_u64(object, "uid", st->st_uid);
    hf_json_u64(object, "gid", st->st_gid);
    hf_json_u64(object, "size", (uint64_t)st->st_size);
    hf_json_u64(object, "allocated", (uint64_t)st->st_blocks * 512);
    hf_json_add(object, "mtime", cJSON_CreateNumber((double)st->st_mtim.tv_sec));
    hf_json_u64(object, "mtime_ns", (uint64_t)st->st_mtim.tv_nsec);
    if (target)
        hf_json_name(object, "target", target);
    return object;
}

static int show_one(struct hf_volume *volume, const char *path, const char *name, const struct ls_args *args,
                    cJSON *array)
{
    struct stat st;
    char *target = NULL;
    int error = hf_lstat(volume, path, &st);

    if (error)
        return hf_cli_fail_errno(error, "cannot read %s", path);
    if (S_ISLNK(st.st_mode))
        target = read_target(volume, path);
    if (args->json)
        hf_json_append(array, to_json(name, target, &st));
    else
        print_text(name, target, &st, args->details);
    free(target);
    return HF_CLI_OK;
}

static int show_directory(struct hf_volume *volume, const struct ls_args *args, cJSON *array)
{
    struct listing list = {0};
    int status = HF_CLI_OK;
    int error = listing_read(volume, args->path, &list);

    if (error)
        status = hf_cli_fail_errno(error, "cannot read directory %s", args->path);
    for (size_t i = 0; !error && i < list.count; i++) {
        const char *name = list.entries[i].name;
        char *path = hf_cli_path_join(args->path, strlen(args->path), name);
        int one = path ? show_one(volume, path, name, args, array)
                       : hf_cli_fail_errno(ENAMETOOLONG, "cannot read %s", name);

        free(path);
        if (one)
            status = one; /* the other names are still worth showing */
    }
    free(list.entries);
    return status;
}

static int list_path(struct hf_volume *volume, const struct ls_args *args)
{
    cJSON *array = args->json ? hf_json_array() : NULL;
    struct stat st;
    int status, error = hf_stat(volume, args->path, &st);

    if (error == -ENOENT || error == -ELOOP)
        error = hf_lstat(volume, args->path, &st); /* a link to nowhere is there all the same */
    if (error)
        status = hf_cli_fail_errno(error, "cannot list %s", args->path);
    else if (S_ISDIR(st.st_mode))
        status = show_directory(volume, args, array);
    else
        status = show_one(volume, args->path, args->path, args, array);
    if (args->json && !status)
        hf_json_print(array, 1);
    else
        cJSON_Delete(array);
    return status;
}

static int run_ls(const struct hf_cli_command *cmd, int argc, char **argv)
{
    static const struct option options[] = {
        {"json", no_argument, NULL, 'j'}, {"help", no_argument, NULL, 'h'}, {0}};
    struct ls_args args = {.path = "/"};
    struct hf_volume *volume;
    int opt, status;

    while ((opt = getopt_long(argc, argv, ":lh", options, NULL)) != -1) {
        if (opt == 'l')
            args.details = true;
        else if (opt == 'j')
            args.json = true;
        else
            return hf_cli_option(cmd, opt, argv);
    }
    status = hf_cli_operands(cmd, argc, argv, 1, 2);
    if (!status)
        status = hf_cli_open(argv[optind], HF_OPEN_READ_ONLY, 0, &volume);
    if (status)
        return status;
    if (argc - optind == 2)
        args.path = argv[optind + 1];
    status = list_path(volume, &args);
    return hf_cli_flush(hf_cli_close(volume, argv[optind], status));
}

const struct hf_cli_command hf_cmd_ls = {
    .name = "ls",
    .synopsis = "VOLUME [PATH] [-l] [--json]",
    .summary = "list a directory",
    .help =
        "Lists PATH, or the root. On a terminal, characters in names that could drive it are shown as "
        "\\xNN.\n"
        "\n"
        "  -l      mode, links, owner, group, size, bytes allocated, time of change, and where links point\n"
        "  --json  all of that for programs; a name that is not UTF-8 has its exact bytes in name_hex\n"
        "\n"
        "Examples:\n"
        "  holdfast ls box.hf\n"
        "  holdfast ls box.hf /letters -l\n"
        "  holdfast ls box.hf --json | jq -r '.[] | select(.size > 1e6) | .name'\n",
    .run = run_ls,
};
