/* SPDX-License-Identifier: MIT */
/*
 * main.c - holdfast(1): the table of commands and what stands before a command's name.
 *
 * holdfast-control is built from the same sources with HF_CONTROL_BUILD and the testing library; the one
 * difference is that its demo-seed takes --isize-sync none, which loses stores on purpose.
 */
#include "cli.h"
#include "term.h"
#include <fcntl.h>
#include <getopt.h>
#include <string.h>
#include <unistd.h>

/* clang-format off */
static const struct hf_cli_command *const commands[] = {
    &hf_cmd_mkfs,
    &hf_cmd_info,
    &hf_cmd_check,
    &hf_cmd_dump,
    &hf_cmd_grow,
    &hf_cmd_trim,
    &hf_cmd_label,
    &hf_cmd_uuid,
    &hf_cmd_ls,
    &hf_cmd_cat,
    &hf_cmd_put,
    &hf_cmd_get,
    &hf_cmd_rm,
    &hf_cmd_mkdir,
    &hf_cmd_map,
    &hf_cmd_mount,
    &hf_cmd_umount,
    &hf_cmd_run,
    &hf_cmd_stat,
    &hf_cmd_top,
    &hf_cmd_quota,
    &hf_cmd_doctor,
    &hf_cmd_demo,
    &hf_cmd_demo_seed,
    &hf_cmd_demo_writer,
};
/* clang-format on */
#define NR_COMMANDS (sizeof(commands) / sizeof(commands[0]))

static void print_help(void)
{
    printf("Usage: holdfast [--no-color] COMMAND ...\n"
           "Volumes of files whose mappings never lose a store: it has its space, or it is refused at once.\n"
           "\nCommands:\n");
    for (size_t i = 0; i < NR_COMMANDS; i++)
        if (commands[i]->summary)
            printf("  %s%-6s%s %s\n", hf_term_style(HF_STYLE_BOLD), commands[i]->name, hf_term_reset(),
                   commands[i]->summary);
    printf(
        "\nFirst steps:\n"
        "  holdfast demo                          see on a real volume what it is about\n"
        "  holdfast mkfs box.hf --size 10M        a volume is one file; this makes it\n"
        "  holdfast put box.hf letter.txt /letter\n"
        "  holdfast ls box.hf -l\n"
        "  holdfast map box.hf /letter            its pages and blocks, drawn\n"
        "\n'holdfast help COMMAND' or 'holdfast COMMAND --help' explains one of them, with examples.\n"
        "A volume is open in one program at a time; ls, cat, get, map and info open it read-only.\n"
        "\nOptions:\n"
        "  --help, -h     this text\n"
        "  --version, -V  the version\n"
        "  --no-color     no colour (so does NO_COLOR in the environment, and output that is no terminal)\n"
        "\nExit status: 0 done, 1 failed (one line on stderr says what, why and what to do), 2 wrong "
        "usage.\n");
}

static const struct hf_cli_command *find_command(const char *name)
{
    for (size_t i = 0; i < NR_COMMANDS; i++)
        if (!strcmp(commands[i]->name, name))
            return commands[i];
    return NULL;
}

static int run_help(int argc, char **argv)
{
    const struct hf_cli_command *cmd;

    if (argc < 2) {
        print_help();
        return hf_cli_flush(HF_CLI_OK);
    }
    cmd = find_command(argv[1]);
    if (!cmd)
        return hf_cli_usage(NULL, "no command '%s'", argv[1]);
    hf_cli_help(cmd, stdout);
    return hf_cli_flush(HF_CLI_OK);
}

static int run_command(int argc, char **argv)
{
    const struct hf_cli_command *cmd;

    if (!strcmp(argv[0], "help"))
        return run_help(argc, argv);
    cmd = find_command(argv[0]);
    if (!cmd)
        return hf_cli_usage(NULL, "no command '%s'", argv[0]);
    optind = 0; /* glibc: start over */
    opterr = 0;
    return cmd->run(cmd, argc, argv);
}

/*
 * A volume must never become descriptor 0, 1 or 2, where data and messages go. One that was closed is taken,
 * in the wrong direction, so that using it is still an error.
 */
static void take_standard_descriptors(void)
{
    for (int fd = STDIN_FILENO; fd <= STDERR_FILENO; fd++)
        if (fcntl(fd, F_GETFD) < 0 && open("/dev/null", fd == STDIN_FILENO ? O_WRONLY : O_RDONLY) < 0)
            _exit(HF_CLI_FAILED);
}

int main(int argc, char **argv)
{
    static const struct option options[] = {{"help", no_argument, NULL, 'h'},
                                            {"version", no_argument, NULL, 'V'},
                                            {"no-color", no_argument, NULL, 'n'},
                                            {0}};
    bool no_colour = false, help = false, version = false;
    int opt;

    take_standard_descriptors();
    opterr = 0;
    while ((opt = getopt_long(argc, argv, "+hV", options, NULL)) != -1) {
        switch (opt) {
        case 'h':
            help = true;
            break;
        case 'V':
            version = true;
            break;
        case 'n':
            no_colour = true;
            break;
        default:
            hf_term_init(true);
            return hf_cli_usage(NULL, "no option '%s'", argv[optind - 1]);
        }
    }
    hf_term_init(no_colour);
    if (version) {
        printf("holdfast %d.%d.%d\n", HF_VERSION_MAJOR, HF_VERSION_MINOR, HF_VERSION_PATCH);
        return hf_cli_flush(HF_CLI_OK);
    }
    if (help)
        return run_help(1, NULL);
    if (optind == argc)
        return hf_cli_usage(NULL, "a command is missing");
    return run_command(argc - optind, argv + optind);
}
