/* SPDX-License-Identifier: MIT */
/*
 * cli.c - failures in one line, options, opening and closing volumes.
 *
 * Whatever goes into a failure line is escaped: a path is the caller's, a name the volume's, and
 * neither may forge a second line or drive the terminal.
 */
#include "cli.h"
#include "term.h"
#include <errno.h>
#include <getopt.h>
#include <stdlib.h>
#include <string.h>

#ifdef HF_CONTROL_BUILD
#define PROGRAM "holdfast-control"
#else
#define PROGRAM "holdfast"
#endif

static char *format_safe(const char *fmt, va_list args)
{
    char *raw = NULL, *safe;

    if (vasprintf(&raw, fmt, args) < 0) {
        fputs(PROGRAM ": out of memory\n", stderr);
        exit(HF_CLI_FAILED);
    }
    safe = hf_term_escape(raw);
    free(raw);
    return safe;
}

static void print_failure(const char *what, const char *why, const char *todo)
{
    char *safe_why = hf_term_escape(why);

    fflush(stdout); /* the failure stands after what was printed before it */
    fprintf(stderr, PROGRAM ": %s: %s%s%s\n", what, safe_why, todo ? "; " : "", todo ? todo : "");
    free(safe_why);
}

int hf_cli_fail(const char *why, const char *todo, const char *what, ...)
{
    va_list args;
    char *safe;

    va_start(args, what);
    safe = format_safe(what, args);
    va_end(args);
    print_failure(safe, why, todo);
    free(safe);
    return HF_CLI_FAILED;
}

static const char *errno_todo(int error)
{
    switch (error) {
    case ENOENT:
        return "'" PROGRAM " ls' shows what is there";
    case ENOSPC:
        return "free some with '" PROGRAM " rm', or use a larger volume ('" PROGRAM
               " info' shows what is left)";
    case EDQUOT:
        return "free some of what that user, group or project has, or raise its limit ('" PROGRAM
               " quota' shows both)";
    case EROFS:
        return "the volume or its file cannot be written";
    case EIO:
        return "the device failed: see the kernel's log, and copy what is still readable";
    case ENOTEMPTY:
        return "empty it first, or use 'rm -r'";
    default:
        return NULL;
    }
}

int hf_cli_fail_errno(int error, const char *what, ...)
{
    va_list args;
    char *safe;

    error = error < 0 ? -error : error;
    va_start(args, what);
    safe = format_safe(what, args);
    va_end(args);
    print_failure(safe, strerror(error), errno_todo(error));
    free(safe);
    return HF_CLI_FAILED;
}

int hf_cli_fail_host(int error, const char *what, ...)
{
    va_list args;
    char *safe;

    va_start(args, what);
    safe = format_safe(what, args);
    va_end(args);
    print_failure(safe, strerror(error < 0 ? -error : error), NULL);
    free(safe);
    return HF_CLI_FAILED;
}

int hf_cli_usage(const struct hf_cli_command *cmd, const char *text, ...)
{
    va_list args;
    char *safe;

    va_start(args, text);
    safe = format_safe(text, args);
    va_end(args);
    fflush(stdout);
    if (cmd)
        fprintf(stderr, PROGRAM ": %s: %s; try '" PROGRAM " %s --help'\n", cmd->name, safe, cmd->name);
    else
        fprintf(stderr, PROGRAM ": %s; try '" PROGRAM " --help'\n", safe);
    free(safe);
    return HF_CLI_USAGE;
}

void hf_cli_help(const struct hf_cli_command *cmd, FILE *out)
{
    fprintf(out, "Usage: " PROGRAM " %s%s%s\n", cmd->name, *cmd->synopsis ? " " : "", cmd->synopsis);
    if (cmd->summary)
        fprintf(out, "%s%s%s: %s\n", hf_term_style(HF_STYLE_BOLD), cmd->name, hf_term_reset(), cmd->summary);
    fprintf(out, "\n%s", cmd->help);
    fprintf(out, "\nExit status: %s.\n",
            cmd->status
                ? cmd->status
                : "0 done, 1 failed (one line on stderr says what, why and what to do), 2 wrong usage");
}

int hf_cli_option(const struct hf_cli_command *cmd, int opt, char **argv)
{
    const char *given = optind > 0 ? argv[optind - 1] : "";

    if (opt == 'h') {
        hf_cli_help(cmd, stdout);
        return hf_cli_flush(HF_CLI_OK);
    }
    if (opt == ':')
        return hf_cli_usage(cmd, "'%s' needs a value", given);
    if (optopt > 0 && !strchr(given, '='))
        return hf_cli_usage(cmd, "there is no option '-%c'", optopt);
    return hf_cli_usage(cmd, "no option '%s', or not so", given);
}

int hf_cli_operands(const struct hf_cli_command *cmd, int argc, char **argv, int min, int max)
{
    int given = argc - optind;

    if (given < min)
        return hf_cli_usage(cmd, given ? "too few operands: %s" : "operands are missing: %s", cmd->synopsis);
    if (given > max)
        return hf_cli_usage(cmd, "one operand too many: '%s'", argv[optind + max]);
    for (int i = optind; i < argc; i++)
        if (!*argv[i])
            return hf_cli_usage(cmd, "operand %d is empty", i - optind + 1);
    return 0;
}

static const char *open_todo(int error)
{
    switch (-error) {
    case ENOENT:
        return "make one with '" PROGRAM " mkfs'";
    case EMEDIUMTYPE:
        return "name a volume, or make one there with '" PROGRAM " mkfs' (which overwrites what it holds)";
    case EPROTONOSUPPORT:
        return "use the version of holdfast that made it, or a newer one";
    case EUCLEAN:
        return "nothing was written to it; restore it from a copy";
    case EACCES:
    case EPERM:
        return "see the permissions of the file";
    default:
        return NULL;
    }
}

const char *hf_cli_volume_error(const char *path)
{
    const char *text = hf_volume_error_text();
    size_t len = strlen(path);

    return strncmp(text, path, len) == 0 && strncmp(text + len, ": ", 2) == 0 ? text + len + 2 : text;
}

int hf_cli_open(const char *path, uint32_t flags, uint32_t page_size, struct hf_volume **ret_volume)
{
    struct hf_open_options opts = {.flags = flags, .page_size = page_size};
    int error = hf_volume_open(path, &opts, ret_volume);

    if (!error)
        return HF_CLI_OK;
    return hf_cli_fail(hf_cli_volume_error(path), open_todo(error), "cannot open volume %s", path);
}

int hf_cli_close(struct hf_volume *volume, const char *path, int status)
{
    int error = hf_volume_close(volume);

    if (!error)
        return status;
    if (error == -ENOTRECOVERABLE)
        return hf_cli_fail("a reservation leaked", "this is a bug in Holdfast: please report it",
                           "closing volume %s", path);
    return hf_cli_fail_errno(error, "closing volume %s", path);
}

bool hf_cli_is_volume(const char *path, const struct stat *st)
{
    struct stat volume;

    return stat(path, &volume) == 0 && volume.st_dev == st->st_dev && volume.st_ino == st->st_ino;
}

int hf_cli_flush(int status)
{
    if (fflush(stdout) == 0 && !ferror(stdout))
        return status;
    return hf_cli_fail_host(errno ? errno : EIO, "writing the output");
}
