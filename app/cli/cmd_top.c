/* SPDX-License-Identifier: MIT */
/*
 * cmd_top.c - holdfast top: a running mount, live: options, the clock, keys and the screen. What is shown is
 * top_draw.c's, where it comes from top_sample.c's.
 *
 * On a terminal a report is a screen, drawn over the one before. If keys can be read as well, they are, without
 * waiting for a line's end; the terminal is as it was when this ends, by whatever signal that can be caught.
 */
#include "ask.h"
#include "cli.h"
#include "term.h"
#include "top.h"
#include <errno.h>
#include <getopt.h>
#include <poll.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <termios.h>
#include <unistd.h>

#define LINES_DEFAULT 10u
#define LINES_MAX 1000000u

struct top {
    const char *dir;
    dev_t device;
    double interval;
    uint64_t count; /* samples; 0: until told to end */
    struct hf_top_view view;
    bool json, screen, keys;
    struct hf_top_sample before, now;
};

/* ---------------------------------------------------------------- the terminal */

static volatile sig_atomic_t ended, resumed;
static struct termios cooked; /* as it was */

static void on_signal(int sig)
{
    if (sig == SIGCONT)
        resumed = 1;
    else if (sig != SIGWINCH) /* which only has to end poll() */
        ended = 1;
}

static void keys_begin(void)
{
    struct termios raw = cooked;

    raw.c_lflag &= ~(tcflag_t)(ICANON | ECHO);
    raw.c_cc[VMIN] = 0;
    raw.c_cc[VTIME] = 0;
    tcsetattr(STDIN_FILENO, TCSADRAIN, &raw);
}

static void screen_begin(struct top *top)
{
    struct sigaction action = {.sa_handler = on_signal};

    for (const int *s = (const int[]){SIGINT, SIGTERM, SIGHUP, SIGCONT, SIGWINCH, 0}; *s; s++)
        sigaction(*s, &action, NULL);
    top->keys = isatty(STDIN_FILENO) && tcgetattr(STDIN_FILENO, &cooked) == 0;
    if (top->keys)
        keys_begin();
}

static void screen_end(const struct top *top)
{
    if (top->keys)
        tcsetattr(STDIN_FILENO, TCSADRAIN, &cooked);
}

static unsigned screen_rows(void)
{
    struct winsize size;

    return ioctl(STDOUT_FILENO, TIOCGWINSZ, &size) == 0 && size.ws_row > 0 ? size.ws_row : 24;
}

/* Over the screen before, line by line, without wrapping; the cursor stays on the last row. */
static void screen_print(const char *text, unsigned rows)
{
    fputs("\033[H\033[?7l", stdout);
    while (*text && rows > 1) {
        size_t len = strcspn(text, "\n");

        printf("%.*s\033[K\n", (int)len, text);
        text += len + (text[len] == '\n');
        rows--;
    }
    fputs("\033[J\033[?7h", stdout);
}

static void draw(struct top *top)
{
    char *text = NULL;
    size_t len = 0;
    FILE *out;

    top->view.width = hf_term_width();
    if (!top->screen) {
        hf_top_draw(stdout, &top->view, &top->before, &top->now);
        putchar('\n');
        return;
    }
    top->view.rows = screen_rows() - 1;
    top->view.keys = top->keys;
    out = open_memstream(&text, &len);
    if (!out)
        return;
    hf_top_draw(out, &top->view, &top->before, &top->now);
    if (fclose(out) == 0)
        screen_print(text, screen_rows());
    free(text);
}

/* ---------------------------------------------------------------- the loop */

/* True: it changes what is shown. */
static bool key(struct top *top, char c)
{
    static const char sorts[] = "fmxcdr";
    const char *at = c ? strchr(sorts, c) : NULL;

    if (c == 'q')
        ended = 1;
    if (!at)
        return false;
    top->view.sort = (enum hf_top_sort)(at - sorts);
    return true;
}

static bool read_keys(struct top *top)
{
    char keys[16];
    ssize_t n = read(STDIN_FILENO, keys, sizeof(keys));
    bool changed = false;

    if (n == 0 || (n < 0 && errno != EINTR && errno != EAGAIN))
        top->keys = false; /* the terminal is gone */
    for (ssize_t i = 0; i < n; i++)
        changed |= key(top, keys[i]);
    return changed;
}

static double now_seconds(void)
{
    struct timespec ts;

    clock_gettime(CLOCK_MONOTONIC, &ts);
    return (double)ts.tv_sec + (double)ts.tv_nsec / 1e9;
}

/* Until the next sample is due; meanwhile keys and a new size of the screen are followed. */
static void wait_for_next(struct top *top)
{
    double until = now_seconds() + top->interval, left;

    while (!ended && (left = until - now_seconds()) > 0) {
        struct pollfd fd = {.fd = top->keys ? STDIN_FILENO : -1, .events = POLLIN};
        int ms = left < 3600 ? (int)(left * 1000) + 1 : 3600 * 1000;
        int n = poll(&fd, 1, ms);
        bool redraw = n < 0 && top->screen;

        if (resumed && top->keys)
            keys_begin();
        resumed = 0;
        if (n > 0)
            redraw = read_keys(top);
        if (!redraw || ended)
            continue;
        hf_top_items_sort(&top->before, &top->now, top->view.sort);
        draw(top);
        fflush(stdout);
    }
}

static int show_one(struct top *top)
{
    struct hf_top_sample oldest = top->before;
    int status;

    top->before = top->now;
    top->now = oldest;
    status = hf_top_sample_take(top->device, top->dir, &top->now);
    if (status)
        return status;
    hf_top_items_sort(&top->before, &top->now, top->view.sort);
    if (top->json)
        hf_top_print_json(&top->before, &top->now);
    else
        draw(top);
    return hf_cli_flush(HF_CLI_OK);
}

static int show(struct top *top)
{
    int status = HF_CLI_OK;

    if (top->screen)
        screen_begin(top);
    for (uint64_t i = 0; !status && !ended && (top->count == 0 || i < top->count); i++) {
        if (i > 0)
            wait_for_next(top);
        if (!ended)
            status = show_one(top);
    }
    if (top->screen)
        screen_end(top);
    hf_top_sample_done(&top->before);
    hf_top_sample_done(&top->now);
    return status;
}

/* ---------------------------------------------------------------- options */

static int parse_interval(const struct hf_cli_command *cmd, const char *text, double *ret_seconds)
{
    char *end;
    double seconds = strtod(text, &end);

    if (end == text || *end || !(seconds >= 0.05 && seconds <= 86400))
        return hf_cli_usage(cmd, "--interval '%s' is not a number of seconds from 0.05 to 86400", text);
    *ret_seconds = seconds;
    return 0;
}

static int parse_number(const struct hf_cli_command *cmd, const char *what, const char *text, uint64_t max,
                        uint64_t *ret_number)
{
    char *end;
    unsigned long long number;

    errno = 0;
    number = strtoull(text, &end, 10);
    if (end == text || *end || number == 0 || number > max || errno || *text == '-')
        return hf_cli_usage(cmd, "%s '%s' is not a number from 1", what, text);
    *ret_number = number;
    return 0;
}

static int parse_sort(const struct hf_cli_command *cmd, const char *text, enum hf_top_sort *ret_sort)
{
    for (int i = 0; i < HF_TOP_SORTS; i++)
        if (!strcmp(text, hf_top_sort_names[i])) {
            *ret_sort = (enum hf_top_sort)i;
            return 0;
        }
    return hf_cli_usage(cmd, "--sort '%s' is not one of faults, mkwrites, refused, cached, dirty, reserved",
                        text);
}

static int parse_option(const struct hf_cli_command *cmd, int opt, char **argv, struct top *top)
{
    uint64_t lines = LINES_DEFAULT;
    int status = 0;

    if (opt == 'o')
        top->count = 1;
    else if (opt == 'n')
        status = parse_number(cmd, "--count", optarg, UINT64_MAX, &top->count);
    else if (opt == 'i')
        status = parse_interval(cmd, optarg, &top->interval);
    else if (opt == 's')
        status = parse_sort(cmd, optarg, &top->view.sort);
    else if (opt == 'l')
        status = parse_number(cmd, "--lines", optarg, LINES_MAX, &lines);
    else if (opt == 'j')
        top->json = true;
    else
        status = hf_cli_option(cmd, opt, argv);
    if (opt == 'l' && !status)
        top->view.lines = (unsigned)lines;
    return status;
}

static int run_top(const struct hf_cli_command *cmd, int argc, char **argv)
{
    static const struct option options[] = {
        {"once", no_argument, NULL, 'o'},           {"count", required_argument, NULL, 'n'},
        {"interval", required_argument, NULL, 'i'}, {"sort", required_argument, NULL, 's'},
        {"lines", required_argument, NULL, 'l'},    {"json", no_argument, NULL, 'j'},
        {"help", no_argument, NULL, 'h'},           {0}};
    static struct top top = {.interval = 1};
    int opt, status;

    while ((opt = getopt_long(argc, argv, ":n:i:s:l:h", options, NULL)) != -1) {
        if (opt == 'h')
            return hf_cli_option(cmd, opt, argv);
        status = parse_option(cmd, opt, argv, &top);
        if (status)
            return status;
    }
    status = hf_cli_operands(cmd, argc, argv, 1, 1);
    if (status)
        return status;
    top.dir = argv[optind];
    top.screen = !top.json && hf_term_is_terminal() && top.count != 1;
    if (!top.view.lines)
        top.view.lines = top.screen ? LINES_MAX : LINES_DEFAULT;
    status = hf_cli_ask_where(top.dir, &top.device);
    return status ? status : show(&top);
}

const struct hf_cli_command hf_cmd_top = {
    .name = "top",
    .synopsis = "DIR [--once | --count N] [--interval S] [--sort KEY] [--lines N] [--json]",
    .summary = "a running mount, live: faults, pages, promises, files, processes",
    .help =
        "Asks the server of the mount that DIR lies in again and again, and shows how full the volume and "
        "the\n"
        "cache are, what happens by the second, how long page faults of mappings take, and which files, and\n"
        "which processes under 'holdfast run', are busiest. On a terminal the screen is drawn anew; "
        "elsewhere\n"
        "one report follows the other. The key q or Ctrl-C ends it; other keys sort, as the screen says.\n"
        "\n"
        "  --once              one report, of all since the mount\n"
        "  --count N, -n N     N reports\n"
        "  --interval S, -i S  seconds between them (default 1)\n"
        "  --sort KEY, -s KEY  most of KEY first: faults (default), mkwrites, refused, cached, dirty, "
        "reserved\n"
        "  --lines N, -l N     so many files, and processes, at most (default 10, or what fits the screen)\n"
        "  --json              an object a line, for programs: total, per_second, latency, files, clients\n"
        "\n"
        "Examples:\n"
        "  holdfast top /mnt/box\n"
        "  holdfast top /mnt/box --once --sort dirty\n"
        "  holdfast top /mnt/box --json --count 2 | tail -n 1 | jq .per_second.faults_store\n",
    .run = run_top,
};
