/* SPDX-License-Identifier: MIT */
/*
 * cli.h - what the commands of holdfast(1) share.
 *
 * A command is one file with one struct hf_cli_command. It prints results on stdout and failures as one
 * line on stderr ("holdfast: what: why; what to do"), and returns an exit status. The library never
 * prints; every word a person reads is written here.
 */
#ifndef HF_CLI_H
#define HF_CLI_H

#include <holdfast/holdfast.h>
#include <stdarg.h>
#include <stdio.h>

#define HF_CLI_OK 0
#define HF_CLI_FAILED 1
#define HF_CLI_USAGE 2

#define HF_PRINTF(fmt, args) __attribute__((format(printf, fmt, args)))

struct hf_cli_command {
    const char *name;
    const char *synopsis; /* after "holdfast NAME " */
    const char *summary;  /* one line, in lower case, no full stop; NULL: not listed */
    const char *help;     /* the rest of --help */
    const char *status;   /* what the exit status says; NULL: 0 done, 1 failed, 2 wrong usage */
    int (*run)(const struct hf_cli_command *cmd, int argc, char **argv);
};

extern const struct hf_cli_command hf_cmd_mkfs, hf_cmd_info, hf_cmd_check, hf_cmd_dump, hf_cmd_label,
    hf_cmd_uuid, hf_cmd_ls, hf_cmd_cat, hf_cmd_put, hf_cmd_get, hf_cmd_rm, hf_cmd_mount, hf_cmd_umount,
    hf_cmd_run, hf_cmd_stat, hf_cmd_mkdir, hf_cmd_map, hf_cmd_quota, hf_cmd_doctor, hf_cmd_top, hf_cmd_demo,
    hf_cmd_demo_seed, hf_cmd_demo_writer;

/* ---------------------------------------------------------------- failures: cli.c */

/* "holdfast: what: why; todo" on stderr; todo may be NULL. Returns HF_CLI_FAILED. */
int hf_cli_fail(const char *why, const char *todo, const char *what, ...) HF_PRINTF(3, 4);
/* The same with the text of an errno (of either sign), and what to do about it where that is clear. */
int hf_cli_fail_errno(int error, const char *what, ...) HF_PRINTF(2, 3);
/* The same for the host's files: what helps inside a volume would mislead. */
int hf_cli_fail_host(int error, const char *what, ...) HF_PRINTF(2, 3);
/* "holdfast CMD: text; try 'holdfast CMD --help'" on stderr. Returns HF_CLI_USAGE. */
int hf_cli_usage(const struct hf_cli_command *cmd, const char *text, ...) HF_PRINTF(2, 3);

/*
 * Follows getopt_long() when it returned opt, which no case of the command knew: '?', ':' or 'h'.
 * Returns the exit status the command shall return.
 */
int hf_cli_option(const struct hf_cli_command *cmd, int opt, char **argv);
/* min <= number of operands <= max, none of them empty. Returns 0 or HF_CLI_USAGE, said. */
int hf_cli_operands(const struct hf_cli_command *cmd, int argc, char **argv, int min, int max);
void hf_cli_help(const struct hf_cli_command *cmd, FILE *out);

/* hf_volume_error_text() without the volume's name in front, which the failure's "what" has already. */
const char *hf_cli_volume_error(const char *path);
/* Opens a volume, or says why not. Returns HF_CLI_OK or HF_CLI_FAILED. */
int hf_cli_open(const char *path, uint32_t flags, uint32_t page_size, struct hf_volume **ret_volume);
/* Closes it; returns status, or HF_CLI_FAILED if closing failed, said. */
int hf_cli_close(struct hf_volume *volume, const char *path, int status);
/* Is st that of the file which holds the volume at path? */
bool hf_cli_is_volume(const char *path, const struct stat *st);
/* Flushes stdout; returns status, or HF_CLI_FAILED if something printed did not arrive, said. */
int hf_cli_flush(int status);

/* ---------------------------------------------------------------- numbers: size.c */

/* "4096", "4K", "10M", "1GiB", "2T"; units are of 1024. Returns 0, -EINVAL, or -ERANGE above 2^63 - 1. */
int hf_cli_size_parse(const char *text, uint64_t *ret_bytes);
#define HF_CLI_SIZE_LEN 24
/* "612 B", "4.0 KiB", "10 MiB". Returns buf. */
const char *hf_cli_size_format(uint64_t bytes, char buf[HF_CLI_SIZE_LEN]);
/* "ENOSPC" for either sign; "errno 999" for the rest. */
const char *hf_cli_errno_name(int error);

/* Bytes of the well-formed UTF-8 sequence at s and its code point; 0 if there is none. */
size_t hf_cli_utf8_decode(const unsigned char *s, uint32_t *ret_code);

/* The path's last component ("" for the root), and the rest in ret_len: bytes of what stands before it. */
const char *hf_cli_basename(const char *path, size_t *ret_len);
/* dir + "/" + name on the heap. Returns NULL when memory or HF_PATH_MAX is exceeded. */
char *hf_cli_path_join(const char *dir, size_t dir_len, const char *name);

extern const struct hf_cli_command hf_cmd_grow, hf_cmd_trim;

#endif
