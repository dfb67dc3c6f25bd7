/* SPDX-License-Identifier: MIT */
/*
 * size.c - sizes, errno names, UTF-8 and paths, to and from text.
 */
#include "cli.h"
#include <ctype.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>

/* The power of two of a unit, or -1. */
static int unit_shift(const char *unit)
{
    static const char letters[] = "KMGTPE";
    const char *letter;

    if (!*unit || !strcasecmp(unit, "B"))
        return 0;
    letter = strchr(letters, toupper((unsigned char)*unit));
    if (!letter)
        return -1;
    if (unit[1] && strcasecmp(unit + 1, "B") && strcasecmp(unit + 1, "iB"))
        return -1;
    return 10 * (int)(letter - letters + 1);
}

int hf_cli_size_parse(const char *text, uint64_t *ret_bytes)
{
    char *end;
    unsigned long long number;
    int shift;

    if (!isdigit((unsigned char)text[0]))
        return -EINVAL; /* strtoull() would take blanks and signs */
    errno = 0;
    number = strtoull(text, &end, 10);
    if (errno == ERANGE)
        return -ERANGE;
    shift = unit_shift(end);
    if (shift < 0)
        return -EINVAL;
    if (number > (uint64_t)INT64_MAX >> shift)
        return -ERANGE;
    *ret_bytes = (uint64_t)number << shift;
    return 0;
}

const char *hf_cli_size_format(uint64_t bytes, char buf[HF_CLI_SIZE_LEN])
{
    static const char *const units[] = {"B", "KiB", "MiB", "GiB", "TiB", "PiB", "EiB"};
    double value = (double)bytes;
    unsigned unit = 0;

    while (value >= 1024 && unit < 6) {
        value /= 1024;
        unit++;
    }
    if (unit == 0 || value >= 100 || value == (double)(uint64_t)value)
        snprintf(buf, HF_CLI_SIZE_LEN, "%.0f %s", value, units[unit]);
    else
        snprintf(buf, HF_CLI_SIZE_LEN, "%.1f %s", value, units[unit]);
    return buf;
}

const char *hf_cli_errno_name(int error)
{
    static char unknown[24];
    const char *name;

    if (error == 0)
        return "0";
    error = error < 0 ? -error : error;
    name = strerrorname_np(error);
    if (name)
        return name;
    snprintf(unknown, sizeof(unknown), "errno %d", error);
    return unknown;
}

size_t hf_cli_utf8_decode(const unsigned char *s, uint32_t *ret_code)
{
    static const uint32_t least[] = {0, 0, 0x80, 0x800, 0x10000};
    size_t len = s[0] < 0x80             ? 1
                 : (s[0] & 0xe0) == 0xc0 ? 2
                 : (s[0] & 0xf0) == 0xe0 ? 3
                 : (s[0] & 0xf8) == 0xf0 ? 4
                                         : 0;
    uint32_t code = len == 1 ? s[0] : len ? s[0] & (0x7fu >> len) : 0;

    if (!len)
        return 0;
    for (size_t i = 1; i < len; i++) {
        if ((s[i] & 0xc0) != 0x80)
            return 0;
        code = code << 6 | (s[i] & 0x3fu);
    }
    if (code < least[len] || code > 0x10ffff || (code >= 0xd800 && code <= 0xdfff))
        return 0;
    *ret_code = code;
    return len;
}

const char *hf_cli_basename(const char *path, size_t *ret_len)
{
    const char *slash = strrchr(path, '/');
    const char *name = slash ? slash + 1 : path;

    *ret_len = (size_t)(name - path);
    return name;
}

char *hf_cli_path_join(const char *dir, size_t dir_len, const char *name)
{
    size_t size = dir_len + strlen(name) + 2;
    char *path;

    if (size > HF_PATH_MAX)
        return NULL;
    path = malloc(size);
    if (!path)
        return NULL;
    snprintf(path, size, "%.*s%s%s", (int)dir_len, dir, dir_len && dir[dir_len - 1] != '/' ? "/" : "", name);
    return path;
}
