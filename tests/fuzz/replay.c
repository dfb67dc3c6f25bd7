/* SPDX-License-Identifier: MIT */
/*
 * replay.c - runs a fuzz target on inputs, without libFuzzer: `make check` does so with the corpus and with
 * every input that was a finding once.
 *
 * Arguments are files: *.hex has one input a line in hexadecimal, # begins a comment; any other file is one
 * input. A finding ends the process; the line before it says which input it was.
 */
#include "fuzz.h"

#include <ctype.h>
#include <errno.h>
#include <string.h>

#define INPUT_MAX 65536

static uint8_t bytes[INPUT_MAX];
static unsigned nr_inputs;

static void run_input(const char *path, unsigned line, size_t len)
{
    fprintf(stderr, "%s:%u\n", path, line);
    LLVMFuzzerTestOneInput(bytes, len);
    nr_inputs++;
}

/* The bytes of a line; how many. */
static size_t line_parse(const char *text)
{
    size_t len = 0;
    unsigned value;

    while (len < INPUT_MAX && isxdigit((unsigned char)text[0]) && sscanf(text, "%2x", &value) == 1) {
        bytes[len++] = (uint8_t)value;
        text += 2;
    }
    return len;
}

static void run_hex(const char *path, FILE *file)
{
    static char text[2 * INPUT_MAX + 2];

    for (unsigned line = 1; fgets(text, sizeof(text), file); line++) {
        size_t len = line_parse(text);

        if (len > 0)
            run_input(path, line, len);
    }
}

int main(int argc, char **argv)
{
    for (int i = 1; i < argc; i++) {
        size_t len = strlen(argv[i]);
        FILE *file = fopen(argv[i], "rb");

        if (!file) {
            fprintf(stderr, "%s: %s\n", argv[i], strerror(errno));
            return 1;
        }
        if (len > 4 && strcmp(argv[i] + len - 4, ".hex") == 0)
            run_hex(argv[i], file);
        else
            run_input(argv[i], 1, fread(bytes, 1, sizeof(bytes), file));
        fclose(file);
    }
    printf("%u inputs\n", nr_inputs);
    return nr_inputs == 0;
}
