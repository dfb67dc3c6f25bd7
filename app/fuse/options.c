/* SPDX-License-Identifier: MIT */
/*
 * options.c - what stands after -o: ours, the kernel's, and those that only mount(8) and fstab understand.
 */
#include "fuse.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* Passed on to libfuse as they are. */
static const char *const kernel_options[] = {"allow_other",  "allow_root", "default_permissions",
                                             "auto_unmount", "suid",       "nosuid",
                                             "dev",          "nodev",      "exec",
                                             "noexec",       "sync",       "async",
                                             "rw",           "dirsync"};

/* Said in fstab to others than us. */
static const char *const ignored_options[] = {
    "defaults", "auto",  "noauto", "nofail",     "_netdev",       "user",     "nouser",
    "users",    "owner", "group",  "norelatime", "nostrictatime", "lazytime", "nolazytime"};

static bool listed(const char *const *list, size_t nr, const char *option)
{
    for (size_t i = 0; i < nr; i++)
        if (strcmp(list[i], option) == 0)
            return true;
    return false;
}
#define LISTED(list, option) listed(list, sizeof(list) / sizeof(list[0]), option)

static int pass_on(struct hf_fuse_options *opts, const char *option)
{
    size_t used = strlen(opts->kernel);

    if (used + strlen(option) + 2 > sizeof(opts->kernel))
        return -EINVAL;
    sprintf(opts->kernel + used, ",%s", option);
    return 0;
}

/* A number with an optional K, M or G. */
static int number(const char *text, uint64_t most, uint64_t *ret_number)
{
    char *end;
    unsigned long long n;
    unsigned shift = 0;

    errno = 0;
    n = strtoull(text, &end, 10);
    if (errno != 0 || end == text || *text == '-')
        return -EINVAL;
    if (*end != '\0' && strchr("KMG", *end) != NULL)
        shift = *end == 'K' ? 10 : *end == 'M' ? 20 : 30;
    if (end[shift != 0] != '\0' || n > most >> shift)
        return -EINVAL;
    *ret_number = (uint64_t)n << shift;
    return 0;
}

static int valued(struct hf_fuse_options *opts, const char *name, size_t len, const char *value)
{
    uint64_t n = 0;

#define IS(text) (len == sizeof(text) - 1 && memcmp(name, text, len) == 0)
    if (IS("mmap")) {
        if (strcmp(value, "reserve") != 0 && strcmp(value, "late") != 0)
            return -EINVAL;
        opts->mmap = value[0] == 'l' ? HF_FUSE_MMAP_LATE : HF_FUSE_MMAP_RESERVE;
        return 0;
    }
    if (IS("cache")) {
        if (strcmp(value, "direct") != 0 && strcmp(value, "kernel") != 0)
            return -EINVAL;
        opts->cache = value[0] == 'k' ? HF_FUSE_CACHE_KERNEL : HF_FUSE_CACHE_DIRECT;
        return 0;
    }
    if (IS("isize_sync")) {
        if (strcmp(value, "page-lock") != 0 && strcmp(value, "hole-lock") != 0)
            return -EINVAL;
        opts->open.isize_sync = value[0] == 'h' ? HF_ISIZE_HOLE_LOCK : HF_ISIZE_PAGE_LOCK;
        return 0;
    }
    if (IS("comment"))
        return 0;
    if (number(value, UINT64_MAX, &n) < 0)
        return -EINVAL;
    if (IS("cache_bytes"))
        opts->open.cache_bytes = n;
    else if (IS("dirty_bytes"))
        opts->open.dirty_bytes = n;
    else if (IS("page_size") && n <= HF_PAGE_SIZE_MAX)
        opts->open.page_size = (uint32_t)n;
    else if (IS("writeback_ms") && n <= 3600 * 1000)
        opts->open.writeback_ms = (uint32_t)n;
    else
        return -EINVAL;
    return 0;
#undef IS
}

int hf_fuse_option(struct hf_fuse_options *opts, const char *option)
{
    const char *equals = strchr(option, '=');

    if (strncmp(option, "x-", 2) == 0 || LISTED(ignored_options, option))
        return 0;
    if (strcmp(option, "ro") == 0) {
        opts->open.flags |= HF_OPEN_READ_ONLY;
        return pass_on(opts, option);
    }
    if (strcmp(option, "relatime") == 0 || strcmp(option, "noatime") == 0 ||
        strcmp(option, "strictatime") == 0) {
        opts->open.flags &= ~(HF_OPEN_NOATIME | HF_OPEN_STRICTATIME);
        opts->open.flags |= option[0] == 'n' ? HF_OPEN_NOATIME : option[0] == 's' ? HF_OPEN_STRICTATIME : 0;
        return 0; /* the volume's affair: the kernel moves no atime here */
    }
    if (strcmp(option, "acl") == 0 || strcmp(option, "noacl") == 0) {
        opts->no_acl = option[0] == 'n';
        return 0;
    }
    if (strcmp(option, "discard") == 0 || strcmp(option, "nodiscard") == 0) {
        opts->open.flags &= ~HF_OPEN_DISCARD;
        opts->open.flags |= option[0] == 'd' ? HF_OPEN_DISCARD : 0;
        return 0;
    }
    if (LISTED(kernel_options, option))
        return pass_on(opts, option);
    if (equals != NULL)
        return valued(opts, option, (size_t)(equals - option), equals + 1);
    return -EINVAL;
}
