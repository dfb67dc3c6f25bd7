/* SPDX-License-Identifier: MIT */
/*
 * term.c - colour, safe text, lines of known width, and a progress bar.
 *
 * Names in a volume are any bytes; what is printed on a terminal must not be able to drive it, so control
 * characters (C0, C1, DEL), stray bytes and bidirectional overrides are shown as \xNN.
 */
#include "term.h"
#include "cli.h"
#include <langinfo.h>
#include <locale.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <unistd.h>

static bool term_colour;
static bool term_utf8;

static const char *const style_codes[] = {
    [HF_STYLE_PLAIN] = "",
    [HF_STYLE_BOLD] = "\033[1m",
    [HF_STYLE_DIM] = "\033[2m",
    [HF_STYLE_GOOD] = "\033[32m",
    [HF_STYLE_BAD] = "\033[1;31m",
    [HF_STYLE_NOTE] = "\033[36m",
    [HF_STYLE_CELL_WRITTEN] = "\033[32m",
    [HF_STYLE_CELL_DIRTY] = "\033[30;43m",
    [HF_STYLE_CELL_RESERVED] = "\033[30;46m",
    [HF_STYLE_CELL_UNWRITTEN] = "\033[34m",
    [HF_STYLE_CELL_LOST] = "\033[1;37;41m",
};

void hf_term_init(bool no_colour)
{
    const char *unwanted = getenv("NO_COLOR");
    const char *term = getenv("TERM");

    setlocale(LC_CTYPE, "");
    term_utf8 = strcmp(nl_langinfo(CODESET), "UTF-8") == 0;
    term_colour =
        !no_colour && isatty(STDOUT_FILENO) && (!unwanted || !*unwanted) && term && strcmp(term, "dumb");
}

bool hf_term_utf8(void)
{
    return term_utf8;
}

bool hf_term_is_terminal(void)
{
    const char *term = getenv("TERM");

    return isatty(STDOUT_FILENO) && term && strcmp(term, "dumb") != 0;
}

unsigned hf_term_width(void)
{
    struct winsize size;

    if (ioctl(STDOUT_FILENO, TIOCGWINSZ, &size) == 0 && size.ws_col > 0)
        return size.ws_col;
    return 80;
}

const char *hf_term_style(enum hf_style style)
{
    return term_colour ? style_codes[style] : "";
}

const char *hf_term_reset(void)
{
    return term_colour ? "\033[0m" : "";
}

static bool code_is_safe(uint32_t code)
{
    if (code < 0x20 || (code >= 0x7f && code < 0xa0))
        return false;
    if (code > 0x7f && !term_utf8)
        return false;
    return code != 0x2028 && code != 0x2029 && code != 0x200e && code != 0x200f && code != 0x061c &&
           !(code >= 0x202a && code <= 0x202e) && !(code >= 0x2066 && code <= 0x2069);
}

char *hf_term_escape(const char *text)
{
    const unsigned char *s = (const unsigned char *)text;
    char *buf = malloc(strlen(text) * 4 + 1);
    char *out = buf;

    if (!buf) {
        fputs("holdfast: out of memory\n", stderr);
        exit(HF_CLI_FAILED);
    }
    while (*s) {
        uint32_t code = 0;
        size_t len = hf_cli_utf8_decode(s, &code);
        bool safe = len && code_is_safe(code);

        for (size_t n = len ? len : 1; n; n--, s++)
            out += sprintf(out, safe ? "%c" : "\\x%02x", *s);
    }
    *out = '\0';
    return buf;
}

void hf_term_print_name(FILE *out, const char *name)
{
    char *safe;

    if (!isatty(fileno(out))) {
        fputs(name, out);
        return;
    }
    safe = hf_term_escape(name);
    fputs(safe, out);
    free(safe);
}

/* ---------------------------------------------------------------- lines */

void hf_line_init(struct hf_line *line)
{
    line->text[0] = '\0';
    line->len = 0;
    line->width = 0;
}

static void line_append(struct hf_line *line, const char *text)
{
    size_t len = strlen(text);

    if (line->len + len >= sizeof(line->text))
        return; /* a line wider than any terminal: the rest is not shown */
    memcpy(line->text + line->len, text, len + 1);
    line->len += len;
}

void hf_line_put(struct hf_line *line, enum hf_style style, const char *fmt, ...)
{
    char text[512];
    va_list args;

    va_start(args, fmt);
    vsnprintf(text, sizeof(text), fmt, args);
    va_end(args);
    if (style != HF_STYLE_PLAIN)
        line_append(line, hf_term_style(style));
    line_append(line, text);
    if (style != HF_STYLE_PLAIN)
        line_append(line, hf_term_reset());
    for (const char *c = text; *c; c++)
        line->width += (*c & 0xc0) != 0x80; /* every glyph used here is one column wide */
}

void hf_line_glyph(struct hf_line *line, enum hf_style style, const char *utf8, const char *ascii)
{
    hf_line_put(line, style, "%s", term_utf8 ? utf8 : ascii);
}

void hf_line_pad(struct hf_line *line, unsigned width)
{
    while (line->width < width)
        hf_line_put(line, HF_STYLE_PLAIN, " ");
}

void hf_line_print(const struct hf_line *line, FILE *out)
{
    size_t len = line->len;

    while (len && line->text[len - 1] == ' ')
        len--;
    fprintf(out, "%.*s\n", (int)len, line->text);
}

/* ---------------------------------------------------------------- progress */

static double seconds_between(const struct timespec *from, const struct timespec *to)
{
    return (double)(to->tv_sec - from->tv_sec) + (double)(to->tv_nsec - from->tv_nsec) / 1e9;
}

void hf_progress_init(struct hf_progress *progress, const char *verb, uint64_t total)
{
    *progress = (struct hf_progress){.verb = verb, .total = total, .terminal = isatty(STDERR_FILENO)};
    clock_gettime(CLOCK_MONOTONIC, &progress->start);
    progress->last = progress->start;
}

static void progress_print(const struct hf_progress *progress, uint64_t done, double elapsed)
{
    char done_text[HF_CLI_SIZE_LEN], total_text[HF_CLI_SIZE_LEN], rate_text[HF_CLI_SIZE_LEN];
    uint64_t shown = progress->total && done > progress->total ? progress->total : done;
    unsigned cells = 24;
    unsigned full = progress->total ? (unsigned)((double)shown / (double)progress->total * cells) : 0;

    hf_cli_size_format(shown, done_text);
    hf_cli_size_format((uint64_t)((double)done / elapsed), rate_text);
    if (!progress->total) {
        fprintf(stderr, "\r\033[K%s  %s, %s/s", progress->verb, done_text, rate_text);
        return;
    }
    hf_cli_size_format(progress->total, total_text);
    fprintf(stderr, "\r\033[K%s  [", progress->verb);
    for (unsigned i = 0; i < cells; i++)
        fputs(i < full ? (term_utf8 ? "█" : "#") : (term_utf8 ? "·" : "."), stderr);
    fprintf(stderr, "] %3u%%  %s of %s, %s/s", (unsigned)((double)shown / (double)progress->total * 100),
            done_text, total_text, rate_text);
}

void hf_progress_update(struct hf_progress *progress, uint64_t done)
{
    struct timespec now;
    double elapsed;

    if (!progress->terminal)
        return;
    clock_gettime(CLOCK_MONOTONIC, &now);
    elapsed = seconds_between(&progress->start, &now);
    if (elapsed < 0.5 || seconds_between(&progress->last, &now) < 0.1)
        return;
    progress->last = now;
    progress->shown = true;
    progress_print(progress, done, elapsed);
}

void hf_progress_done(struct hf_progress *progress)
{
    if (progress->shown)
        fputs("\r\033[K", stderr);
    progress->shown = false;
}
