/* SPDX-License-Identifier: MIT */
/*
 * demo.c - holdfast demo: sets the stage, plays the steps, counts, tidies up.
 *
 * The volume is a real file: a temporary one, or --volume, which is kept. The control's volume is always
 * temporary. A signal removes the temporary files, too.
 */
#include "demo.h"
#include "cli.h"
#include "draw.h"
#include <errno.h>
#include <fcntl.h>
#include <getopt.h>
#include <inttypes.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

/* For the signal handler; it removes what the demo made. */
static struct hf_demo stage;
static bool keep_volume;

static void tidy_up(void)
{
    if (!keep_volume)
        unlink(stage.volume);
    unlink(stage.control_volume);
    rmdir(stage.dir);
}

static void tidy_up_and_die(int signo)
{
    tidy_up();
    signal(signo, SIG_DFL);
    raise(signo);
}

static int set_paths(const char *volume)
{
    const char *tmp = getenv("TMPDIR");
    int dir_len, volume_len, control_len;

    dir_len = snprintf(stage.dir, sizeof(stage.dir), "%s/holdfast-demo-XXXXXX", tmp && *tmp ? tmp : "/tmp");
    if (dir_len >= (int)sizeof(stage.dir) || !mkdtemp(stage.dir))
        return hf_cli_fail_host(errno ? errno : ENAMETOOLONG, "cannot make a temporary directory %s",
                                stage.dir);
    volume_len = volume ? snprintf(stage.volume, sizeof(stage.volume), "%s", volume)
                        : snprintf(stage.volume, sizeof(stage.volume), "%s/volume.hf", stage.dir);
    control_len = snprintf(stage.control_volume, sizeof(stage.control_volume), "%s/control.hf", stage.dir);
    if (volume_len < (int)sizeof(stage.volume) && control_len < (int)sizeof(stage.control_volume))
        return HF_CLI_OK;
    rmdir(stage.dir);
    return hf_cli_fail_host(ENAMETOOLONG, "cannot make the volume");
}

/* The volume: 8 MiB with blocks of 1 KiB. */
static int make_volume(struct hf_statfs *ret_statfs)
{
    struct hf_mkfs_options how = {
        .size_bytes = HF_DEMO_VOLUME_BYTES, .block_size = HF_DEMO_BLOCK_SIZE, .label = "demo"};
    struct hf_volume *volume;
    int error, status;

    error = hf_mkfs(stage.volume, &how);
    if (error)
        return hf_cli_fail(hf_cli_volume_error(stage.volume), "give another place with --volume or TMPDIR",
                           "cannot make volume %s", stage.volume);
    status = hf_cli_open(stage.volume, HF_OPEN_READ_ONLY, 0, &volume);
    if (status)
        return status;
    error = hf_volume_statfs(volume, ret_statfs);
    if (error)
        status = hf_cli_fail_errno(error, "reading volume %s", stage.volume);
    return hf_cli_close(volume, stage.volume, status);
}

static const char *engine_text(void)
{
    const char *name = hf_engine_name();

    if (!strcmp(name, "inline"))
        return "inline: userfaultfd, handled in the storing thread";
    if (!strcmp(name, "mprotect"))
        return "mprotect: write protection and SIGSEGV";
    return name;
}

static void print_introduction(const struct hf_statfs *fs)
{
    char size[HF_CLI_SIZE_LEN];

    printf("%sHoldfast: a store to a mapping has its space, or is refused at once.%s\n\n",
           hf_term_style(HF_STYLE_BOLD), hf_term_reset());
    printf("On a real volume, with its pages and blocks drawn before and after each step:\n"
           "  1  a file grows under a page that is writable already (the letter's case)\n"
           "  2  the same, grown by a write past the end\n"
           "  3  a volume gets full under a mapping, and has room again\n"
           "  4  a process is killed with SIGKILL in the middle of storing\n"
           "  5  a program as it is, Python, meets a full volume\n\n");
    printf("volume   %s, %s for data\n", stage.volume, hf_cli_size_format(fs->blocks * fs->block_size, size));
    printf("sizes    block (unit of allocation) %u bytes, page (of protection) %u bytes\n", fs->block_size,
           fs->page_size);
    printf("engine   %s\n", engine_text());
    printf("control  %s\n",
           stage.control ? stage.control : "none given: the loss will not be shown (--control)");
    if (stage.control)
        printf("         (holdfast without its protection: it must lose what holdfast keeps)\n");
    printf("\nA row is a page, a cell in it a block:\n");
    hf_draw_legend(stdout, 2, stage.control != NULL);
    fflush(stdout);
}

static int play(void)
{
    struct timespec start, end;
    struct hf_statfs fs;
    int status = make_volume(&fs);

    if (status)
        return status;
    clock_gettime(CLOCK_MONOTONIC, &start);
    stage.page_size = fs.page_size;
    print_introduction(&fs);
    hf_demo_grow(&stage, 1, HF_SEED_FTRUNCATE);
    hf_demo_grow(&stage, 2, HF_SEED_PWRITE);
    hf_demo_full(&stage, 3);
    hf_demo_kill(&stage, 4);
    hf_demo_run(&stage, 5);
    clock_gettime(CLOCK_MONOTONIC, &end);
    printf("\n%s%u of %u checks held%s, in %.1f s",
           hf_term_style(stage.failed ? HF_STYLE_BAD : HF_STYLE_GOOD), stage.held, stage.held + stage.failed,
           hf_term_reset(),
           (double)(end.tv_sec - start.tv_sec) + (double)(end.tv_nsec - start.tv_nsec) / 1e9);
    if (stage.failed)
        printf(": %u FAILED", stage.failed);
    putchar('\n');
    if (keep_volume)
        printf("The volume is kept: try 'holdfast ls %s -l' and 'holdfast map %s /diary'.\n", stage.volume,
               stage.volume);
    return stage.failed ? HF_CLI_FAILED : HF_CLI_OK;
}

static int run_demo(const struct hf_cli_command *cmd, int argc, char **argv)
{
    static const struct option options[] = {{"volume", required_argument, NULL, 'v'},
                                            {"control", required_argument, NULL, 'c'},
                                            {"no-color", no_argument, NULL, 'n'},
                                            {"help", no_argument, NULL, 'h'},
                                            {0}};
    const char *volume = NULL;
    int opt, status;

    while ((opt = getopt_long(argc, argv, ":h", options, NULL)) != -1) {
        if (opt == 'v')
            volume = optarg;
        else if (opt == 'c')
            stage.control = optarg;
        else if (opt == 'n')
            hf_term_init(true);
        else
            return hf_cli_option(cmd, opt, argv);
    }
    status = hf_cli_operands(cmd, argc, argv, 0, 0);
    if (status)
        return status;
    if ((volume && !*volume) || (stage.control && !*stage.control))
        return hf_cli_usage(cmd, "the name after %s is empty", volume && !*volume ? "--volume" : "--control");
    if (volume && access(volume, F_OK) == 0)
        return hf_cli_fail("it exists, and the demo would overwrite it", "give a name that is free",
                           "cannot make volume %s", volume);
    status = set_paths(volume);
    if (status)
        return status;
    keep_volume = volume != NULL;
    signal(SIGINT, tidy_up_and_die);
    signal(SIGTERM, tidy_up_and_die);
    signal(SIGHUP, tidy_up_and_die);
    status = play();
    tidy_up();
    return hf_cli_flush(status);
}

const struct hf_cli_command hf_cmd_demo = {
    .name = "demo",
    .synopsis = "[--volume FILE] [--control PROGRAM] [--no-color]",
    .summary = "show on a real volume what Holdfast keeps and how",
    .help =
        "Plays five scenes on a real volume of 8 MiB, in a few seconds, and draws the pages before and "
        "after\n"
        "each step: (1) a file grows by ftruncate under a page that is writable already, (2) by a write "
        "past\n"
        "the end, (3) the volume gets full, a store is refused, space is freed and the same store succeeds,\n"
        "(4) a process is killed with SIGKILL while it stores, (5) Python, which knows nothing of Holdfast, "
        "fills\n"
        "the volume through a mapping (left out where FUSE or userfaultfd cannot be had). After each scene "
        "the\n"
        "volume is opened again and every byte compared. Needs no privilege.\n"
        "\n"
        "  --volume FILE      make the volume here and keep it (default: a temporary file, removed at the "
        "end)\n"
        "  --control PROGRAM  holdfast-control of the same build: holdfast without its protection, to show\n"
        "                     side by side what would be lost. It must lose something, or the demo fails.\n"
        "                     Without this option that column is left out\n"
        "  --no-color         no colour\n"
        "\n"
        "Exit status 0 only if every check held, with those of the control if one was given.\n"
        "\n"
        "Examples:\n"
        "  holdfast demo\n"
        "  holdfast demo --volume demo.hf && holdfast map demo.hf /diary\n"
        "  HF_ENGINE=mprotect holdfast demo       as where userfaultfd is refused\n",
    .run = run_demo,
};
