/* SPDX-License-Identifier: MIT */
/*
 * status.c - what a server says of itself: NAME VALUE a line.
 */
#include "server.h"

#include <holdfast/stats.h>
#include <inttypes.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

static void print_space(FILE *out, struct hf_fuse *fuse)
{
    struct hf_statfs st;

    if (hf_volume_statfs(fuse->volume, &st) < 0)
        return;
    fprintf(out, "block_size %" PRIu32 "\npage_size %" PRIu32 "\n", st.block_size, st.page_size);
    fprintf(out, "blocks %" PRIu64 "\nblocks_free %" PRIu64 "\nblocks_reserved %" PRIu64 "\n", st.blocks,
            st.blocks_free, st.blocks_reserved);
    fprintf(out, "inodes %" PRIu64 "\ninodes_free %" PRIu64 "\n", st.inodes, st.inodes_free);
}

static void print_cache(FILE *out, struct hf_fuse *fuse)
{
    struct hf_volume_stats st;

    if (hf_volume_stats(fuse->volume, &st) < 0)
        return;
#define PRINT(name) fprintf(out, #name " %" PRIu64 "\n", st.name);
    PRINT(faults_load)
    PRINT(faults_store)
    PRINT(faults_refused)
    PRINT(faults_slow)
    PRINT(mkwrites)
    PRINT(mkcleans)
    PRINT(pages_read)
    PRINT(pages_written)
    PRINT(zero_blocks_released)
    PRINT(pages_reclaimed)
    PRINT(cached_pages)
    PRINT(dirty_pages)
    PRINT(writeback_errors)
#undef PRINT
}

/* latency_KIND: the sum, ns; then the end of each bucket that is not empty, ns, and what it counts. */
static void print_latency(FILE *out, struct hf_fuse *fuse, enum hf_fault_kind kind)
{
    struct hf_latency latency;

    if (hf_volume_latency(fuse->volume, kind, &latency) < 0)
        return;
    fprintf(out, "latency_%s %" PRIu64, hf_fault_kind_name(kind), latency.sum_ns);
    for (unsigned i = 0; i < HF_LATENCY_BUCKETS; i++)
        if (latency.count[i] != 0)
            fprintf(out, " %" PRIu64 ":%" PRIu64, hf_latency_bound_ns(i), latency.count[i]);
    fputc('\n', out);
}

/* A line whatever the path: control characters and backslashes as \\ooo, as the kernel's mount tables write them. */
static void print_path(FILE *out, const char *name, const char *path)
{
    fprintf(out, "%s ", name);
    for (; *path != '\0'; path++)
        if ((unsigned char)*path < ' ' || *path == 0x7f || *path == '\\')
            fprintf(out, "\\%03o", (unsigned)(unsigned char)*path);
        else
            fputc(*path, out);
    fputc('\n', out);
}

void hf_fuse_status_print(FILE *out, struct hf_fuse *fuse)
{
    const struct hf_fuse_agreed *a = &fuse->agreed;

    fprintf(out, "pid %d\n", (int)getpid());
    print_path(out, "volume", fuse->volume_path);
    print_path(out, "directory", fuse->directory);
    fprintf(out, "protocol %" PRIu32 ".%" PRIu32 "\n", a->proto_major, a->proto_minor);
    fprintf(out, "kernel_offers 0x%" PRIx64 "\nagreed 0x%" PRIx64 "\n", a->offered, a->wanted);
    fprintf(out, "direct_io_allow_mmap %s\n", a->allow_mmap ? "yes" : "no");
    fprintf(out, "cache %s\n", a->direct ? "direct" : "kernel");
    fprintf(out, "acl %s\n", a->acl ? "yes" : "no");
    fprintf(out, "mmap %s\n", fuse->opts->mmap == HF_FUSE_MMAP_LATE ? "late" : "reserve");
    fprintf(out, "read_only %s\n", fuse->read_only ? "yes" : "no");
    print_space(out, fuse);
    print_cache(out, fuse);
    for (int kind = 0; kind < HF_FAULT_KINDS; kind++)
        print_latency(out, fuse, (enum hf_fault_kind)kind);
#define X(name) fprintf(out, "requests_" #name " %" PRIu64 "\n", atomic_load(&fuse->nr_##name));
    HF_FUSE_COUNTERS(X)
#undef X
}
