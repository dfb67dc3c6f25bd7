/* SPDX-License-Identifier: MIT */
/*
 * busy.c - what a server says of its files and of the processes that map them: a line each, KEY=VALUE after
 * KEY=VALUE, the name last, with \xNN for control characters and backslashes.
 *
 * Of very many files those with the most faults are told; of equal ones, those with the most pages.
 */
#include "server.h"

#include <holdfast/stats.h>
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#define FILES_MAX 1024u

static void print_escaped(FILE *out, const char *text)
{
    for (; *text != '\0'; text++) {
        unsigned char c = (unsigned char)*text;

        if (c < 0x20 || c == 0x7f || c == '\\')
            fprintf(out, "\\x%02x", c);
        else
            fputc(c, out);
    }
    fputc('\n', out);
}

/* ---- files */

/* A heap: the least busy is on top. */
struct busiest {
    struct hf_file_stats *files;
    size_t nr;
};

static bool less_busy(const struct hf_file_stats *a, const struct hf_file_stats *b)
{
    uint64_t fa = a->faults_load + a->faults_store, fb = b->faults_load + b->faults_store;

    return fa != fb ? fa < fb : a->cached_pages < b->cached_pages;
}

static void swap(struct hf_file_stats *a, struct hf_file_stats *b)
{
    struct hf_file_stats c = *a;

    *a = *b;
    *b = c;
}

static void sift_up(struct busiest *b, size_t at)
{
    for (; at > 0 && less_busy(&b->files[at], &b->files[(at - 1) / 2]); at = (at - 1) / 2)
        swap(&b->files[at], &b->files[(at - 1) / 2]);
}

static void sift_down(struct busiest *b)
{
    for (size_t at = 0, least;; at = least) {
        least = at;
        for (size_t child = 2 * at + 1; child <= 2 * at + 2 && child < b->nr; child++)
            if (less_busy(&b->files[child], &b->files[least]))
                least = child;
        if (least == at)
            return;
        swap(&b->files[at], &b->files[least]);
    }
}

static int take_file(const struct hf_file_stats *file, void *arg)
{
    struct busiest *b = arg;

    if (b->nr < FILES_MAX) {
        b->files[b->nr] = *file;
        sift_up(b, b->nr++);
    } else if (less_busy(&b->files[0], file)) {
        b->files[0] = *file;
        sift_down(b);
    }
    return 0;
}

void hf_fuse_files_print(FILE *out, struct hf_fuse *fuse)
{
    struct busiest b = {.files = calloc(FILES_MAX, sizeof(*b.files))};

    if (b.files == NULL || hf_volume_each_file(fuse->volume, take_file, &b) < 0)
        b.nr = 0;
    for (size_t i = 0; i < b.nr; i++) {
        const struct hf_file_stats *f = &b.files[i];

        fprintf(out, "file ino=%" PRIu64 " size=%" PRId64 " cached_pages=%" PRIu64 " dirty_pages=%" PRIu64,
                f->ino, f->size, f->cached_pages, f->dirty_pages);
        fprintf(out, " blocks_reserved=%" PRIu64 " mappings=%" PRIu32 " opens=%" PRIu32, f->blocks_reserved,
                f->mappings, f->opens);
        fprintf(out, " faults_load=%" PRIu64 " faults_store=%" PRIu64 " faults_refused=%" PRIu64,
                f->faults_load, f->faults_store, f->faults_refused);
        fprintf(out, " mkwrites=%" PRIu64 " path=", f->mkwrites);
        print_escaped(out, f->path);
    }
    free(b.files);
}

/* ---- processes */

/* The name of a process; "" if it is gone. */
static void command_of(pid_t pid, char *ret_name, size_t size)
{
    char path[64];
    FILE *in;

    ret_name[0] = '\0';
    snprintf(path, sizeof(path), "/proc/%d/comm", (int)pid);
    in = fopen(path, "re");
    if (in == NULL)
        return;
    if (fgets(ret_name, (int)size, in) == NULL)
        ret_name[0] = '\0';
    ret_name[strcspn(ret_name, "\n")] = '\0';
    fclose(in);
}

void hf_fuse_clients_print(FILE *out, struct hf_fuse *fuse)
{
    struct hf_client_stats *clients = calloc(HF_SERVE_CLIENTS_MAX, sizeof(*clients));
    int nr = clients != NULL && fuse->server != NULL
                 ? hf_server_clients(fuse->server, HF_SERVE_CLIENTS_MAX, clients)
                 : 0;
    char command[64];

    for (int i = 0; i < nr; i++) {
        const struct hf_client_stats *c = &clients[i];

        fprintf(out, "client pid=%d connected=%d areas=%" PRIu32 " mappings=%" PRIu64, (int)c->pid,
                c->connected, c->areas, c->mappings);
        fprintf(out,
                " faults_load=%" PRIu64 " faults_store=%" PRIu64 " faults_refused=%" PRIu64 " waits=%" PRIu64,
                c->faults_load, c->faults_store, c->refused, c->waits);
        command_of(c->pid, command, sizeof(command));
        fputs(" command=", out);
        print_escaped(out, command);
    }
    free(clients);
}
