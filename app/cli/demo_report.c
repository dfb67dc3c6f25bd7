/* SPDX-License-Identifier: MIT */
/*
 * demo_report.c - how the demo speaks, and how it describes pages to another process.
 */
#include "cli.h"
#include "demo.h"
#include <errno.h>
#include <inttypes.h>
#include <stdarg.h>
#include <string.h>

#define INDENT 4u
#define WRAP 78u

void hf_demo_heading(unsigned number, const char *title)
{
    struct hf_line line;

    hf_line_init(&line);
    hf_line_put(&line, HF_STYLE_BOLD, "%u  %s ", number, title);
    while (line.width < 78)
        hf_line_glyph(&line, HF_STYLE_DIM, "─", "-");
    putchar('\n');
    hf_line_print(&line, stdout);
}

/* Prints words from column on, with lines no longer than WRAP; the first line has begun already. */
static void print_wrapped(const char *text, unsigned column)
{
    unsigned width = column;

    while (*text) {
        size_t len = strcspn(text, " \n");

        if (width > column && width + len + 1 > WRAP) {
            printf("\n%*s", (int)column, "");
            width = column;
        }
        printf("%s%.*s", width > column ? " " : "", (int)len, text);
        width += (unsigned)len + (width > column);
        text += len;
        text += strspn(text, " \n");
    }
    putchar('\n');
    fflush(stdout);
}

void hf_demo_say(const char *text)
{
    printf("%*s", (int)INDENT, "");
    print_wrapped(text, INDENT);
}

void hf_demo_step(const char *fmt, ...)
{
    va_list args;

    printf("\n%*s%s", (int)INDENT, "", hf_term_style(HF_STYLE_BOLD));
    va_start(args, fmt);
    vprintf(fmt, args);
    va_end(args);
    printf("%s\n", hf_term_reset());
    fflush(stdout);
}

bool hf_demo_check(struct hf_demo *demo, bool ok, const char *fmt, ...)
{
    char text[512];
    va_list args;

    if (ok)
        demo->held++;
    else
        demo->failed++;
    va_start(args, fmt);
    vsnprintf(text, sizeof(text), fmt, args);
    va_end(args);
    printf("  %s%s%s  ", hf_term_style(ok ? HF_STYLE_GOOD : HF_STYLE_BAD), ok ? "ok" : "FAILED",
           hf_term_reset());
    print_wrapped(text, ok ? 6 : 10);
    return ok;
}

bool hf_demo_check_error(struct hf_demo *demo, int error, const char *what)
{
    if (!error)
        return hf_demo_check(demo, true, "%s", what);
    return hf_demo_check(demo, false, "%s: %s (%s)", what, hf_cli_errno_name(error), strerror(-error));
}

int hf_demo_open(struct hf_demo *demo, uint32_t flags, struct hf_volume **ret_volume)
{
    struct hf_open_options opts = {.flags = flags, .writeback_ms = HF_DEMO_WRITEBACK_MS};
    int error = hf_volume_open(demo->volume, &opts, ret_volume);

    if (error)
        hf_demo_check(demo, false, "opening the volume: %s", hf_volume_error_text());
    return error;
}

unsigned char hf_demo_byte(hf_off_t off)
{
    return (unsigned char)((uint64_t)off * 131 + ((uint64_t)off >> 8) * 17 + ((uint64_t)off >> 16)) | 1;
}

/* ---------------------------------------------------------------- pages */

int hf_demo_pages_take(struct hf_file *file, uint64_t first, struct hf_demo_pages *ret_pages)
{
    struct hf_demo_pages pages = {0};
    int count = hf_page_map(file, first, HF_DEMO_PAGES, pages.info);

    if (count < 0)
        return count;
    pages.nr = (unsigned)count;
    *ret_pages = pages;
    return 0;
}

cJSON *hf_demo_pages_to_json(const struct hf_demo_pages *pages)
{
    cJSON *array = hf_json_array();

    for (unsigned i = 0; i < pages->nr; i++) {
        const struct hf_page_info *info = &pages->info[i];
        char blocks[HF_BLOCKS_PER_PAGE_MAX + 1] = "", dirty[HF_BLOCKS_PER_PAGE_MAX + 1] = "";
        cJSON *object = hf_json_object();

        for (unsigned b = 0; b < info->nr_blocks; b++) {
            blocks[b] = (char)('0' + info->block_state[b]);
            dirty[b] = info->block_dirty[b] ? '1' : '0';
        }
        hf_json_u64(object, "index", info->index);
        hf_json_text(object, "state", info->state);
        hf_json_bool(object, "straddling", info->straddling);
        hf_json_bool(object, "writable", info->writable);
        hf_json_text(object, "blocks", blocks);
        hf_json_text(object, "dirty", dirty);
        hf_json_append(array, object);
    }
    return array;
}

static int page_from_json(const cJSON *object, struct hf_page_info *info, char state[HF_PAGE_STATE_LEN])
{
    const char *blocks = hf_json_get_text(object, "blocks", "");
    const char *dirty = hf_json_get_text(object, "dirty", "");
    size_t nr = strlen(blocks);

    if (!nr || nr > HF_BLOCKS_PER_PAGE_MAX || strlen(dirty) != nr || strspn(blocks, "01234") != nr)
        return -EPROTO;
    snprintf(state, HF_PAGE_STATE_LEN, "%s", hf_json_get_text(object, "state", "?"));
    info->index = (uint64_t)hf_json_get_int(object, "index", 0);
    info->state = NULL; /* the caller points it into its own, last */
    info->nr_blocks = (uint16_t)nr;
    info->straddling = cJSON_IsTrue(cJSON_GetObjectItemCaseSensitive(object, "straddling"));
    info->writable = cJSON_IsTrue(cJSON_GetObjectItemCaseSensitive(object, "writable"));
    for (size_t b = 0; b < nr; b++) {
        info->block_state[b] = (uint8_t)(blocks[b] - '0');
        info->block_dirty[b] = dirty[b] == '1';
    }
    return 0;
}

int hf_demo_pages_from_json(const cJSON *array, struct hf_demo_pages *ret_pages)
{
    const cJSON *object;

    memset(ret_pages, 0, sizeof(*ret_pages));
    if (!cJSON_IsArray(array) || cJSON_GetArraySize(array) > (int)HF_DEMO_PAGES)
        return -EPROTO;
    cJSON_ArrayForEach (object, array) {
        unsigned i = ret_pages->nr++;
        int error = page_from_json(object, &ret_pages->info[i], ret_pages->state[i]);

        if (error)
            return error;
        ret_pages->info[i].state = ret_pages->state[i];
    }
    return 0;
}
