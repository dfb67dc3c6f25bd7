/* SPDX-License-Identifier: MIT */
/* check.c - see check.h. */
#include "check.h"

#include <inttypes.h>

int64_t check_ok(int64_t result, const char *expr, const char *file, int line)
{
    if (result < 0) {
        print_error("%s\n    failed: %s (%" PRId64 ")\n", expr, strerror((int)-result), result);
        _fail(file, line);
    }
    return result;
}

void check_err(int64_t result, int err, const char *expr, const char *file, int line)
{
    if (result == -(int64_t)err)
        return;
    if (result < 0)
        print_error("%s\n    wanted: %s, got: %s (%" PRId64 ")\n", expr, strerror(err),
                    strerror((int)-result), result);
    else
        print_error("%s\n    wanted: %s, got success (%" PRId64 ")\n", expr, strerror(err), result);
    _fail(file, line);
}

void check_count(int64_t result, int64_t want, const char *expr, const char *file, int line)
{
    if (result == want)
        return;
    if (result < 0 && result > -4096)
        print_error("%s\n    wanted: %" PRId64 ", got: %s (%" PRId64 ")\n", expr, want,
                    strerror((int)-result), result);
    else
        print_error("%s\n    wanted: %" PRId64 ", got: %" PRId64 "\n", expr, want, result);
    _fail(file, line);
}

void check_bytes(const void *buf, int value, size_t len, const char *expr, const char *file, int line)
{
    const unsigned char *bytes = buf;

    for (size_t i = 0; i < len; i++) {
        if (bytes[i] == (unsigned char)value)
            continue;
        print_error("%s: byte %zu of %zu is 0x%02x, wanted 0x%02x\n", expr, i, len, bytes[i],
                    (unsigned char)value);
        _fail(file, line);
    }
}

void check_fail(const char *file, int line, const char *cond, const char *format, ...)
{
    char text[512];
    va_list args;

    va_start(args, format);
    vsnprintf(text, sizeof(text), format, args);
    va_end(args);
    print_error("%s does not hold: %s\n", cond, text);
    _fail(file, line);
}
