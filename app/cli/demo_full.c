/* SPDX-License-Identifier: MIT */
/*
 * demo_full.c - step 3 of the demo: a volume gets full under a mapping.
 *
 * A file far larger than the volume is mapped and filled page by page until a store is refused; the program
 * goes on, removes another file, and the same store succeeds. Then everything accepted must be on disk.
 */
#include "cli.h"
#include "demo.h"
#include "draw.h"
#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#define BALLAST_BYTES ((size_t)256 * 1024)
#define BALLAST_NAME "/ballast"
#define BIG_NAME "/bigger-than-the-volume"

struct full {
    struct hf_demo *demo;
    struct hf_volume *volume;
    struct hf_file *file;
    char *map;
    hf_off_t size;
    uint64_t accepted; /* pages, from the first */
    unsigned char *page;
};

static void fill_page(struct full *full, uint64_t index)
{
    for (uint32_t i = 0; i < full->demo->page_size; i++)
        full->page[i] = hf_demo_byte((hf_off_t)(index * full->demo->page_size + i));
}

static int store_page(struct full *full, uint64_t index, size_t *ret_done)
{
    fill_page(full, index);
    return hf_store(full->map + index * full->demo->page_size, full->page, full->demo->page_size, ret_done);
}

/* Stores the next pages until one is refused; returns its errno, or 0 if the file ended first. */
static int store_until_refused(struct full *full, size_t *ret_done)
{
    int error = 0;

    while (!error && (hf_off_t)((full->accepted + 1) * full->demo->page_size) <= full->size) {
        error = store_page(full, full->accepted, ret_done);
        full->accepted += !error;
    }
    return error;
}

static void show(struct full *full)
{
    struct hf_statfs fs;

    if (hf_volume_statfs(full->volume, &fs) == 0)
        hf_draw_space(stdout, &fs, 4);
    if (full->file)
        hf_draw_file(stdout, full->file, full->demo->page_size, 2);
}

/* ---------------------------------------------------------------- the acts */

static int make_ballast(struct full *full)
{
    unsigned char *bytes = malloc(BALLAST_BYTES);
    struct hf_file *file;
    ssize_t put;
    int error = bytes ? hf_open(full->volume, BALLAST_NAME, O_RDWR | O_CREAT, 0644, &file) : -ENOMEM;
    int close_error;

    if (!error) {
        memset(bytes, 'B', BALLAST_BYTES);
        put = hf_pwrite(file, bytes, BALLAST_BYTES, 0);
        error = put < 0 ? (int)put : put != (ssize_t)BALLAST_BYTES ? -EIO : hf_fsync(file);
        close_error = hf_close(file);
        error = error ? error : close_error;
    }
    free(bytes);
    return error;
}

static int make_big(struct full *full)
{
    struct hf_statfs fs;
    void *addr;
    int error = hf_volume_statfs(full->volume, &fs);

    if (error)
        return error;
    full->size = (hf_off_t)(fs.blocks_free * fs.block_size * 2 / fs.page_size * fs.page_size);
    error = hf_open(full->volume, BIG_NAME, O_RDWR | O_CREAT, 0644, &full->file);
    if (!error)
        error = hf_ftruncate(full->file, full->size);
    if (!error)
        error = hf_mmap(full->file, NULL, (size_t)full->size, PROT_READ | PROT_WRITE, MAP_SHARED, 0, &addr);
    if (!error)
        full->map = addr;
    return error;
}

static bool act_prepare(struct full *full)
{
    char text[HF_CLI_SIZE_LEN];
    int error;

    hf_demo_step("a file of 256 KiB, and a sparse one of twice the free space: mmap that");
    error = make_ballast(full);
    if (!error)
        error = make_big(full);
    if (error)
        return hf_demo_check_error(full->demo, error, "preparing the two files");
    show(full);
    return hf_demo_check(full->demo, true, "a sparse file of %s is mapped; a hole costs nothing",
                         hf_cli_size_format((uint64_t)full->size, text));
}

static bool act_refusal(struct full *full)
{
    struct hf_fault fault;
    size_t done = 0;
    int error;

    hf_demo_step("store page after page through the mapping, until one is refused");
    error = store_until_refused(full, &done);
    hf_last_fault(&fault);
    show(full);
    if (!hf_demo_check(full->demo, error == -ENOSPC && done == 0,
                       "page %" PRIu64 " was refused: hf_store() returned -%s, %zu bytes of it copied",
                       full->accepted, hf_cli_errno_name(error), done))
        return false;
    return hf_demo_check(full->demo,
                         fault.error == ENOSPC && fault.write && fault.tid == gettid() &&
                             fault.offset / full->demo->page_size == (hf_off_t)full->accepted &&
                             fault.addr == full->map + fault.offset,
                         "hf_last_fault(): %s (%s), a %s at byte %" PRId64 " of inode %" PRIu64
                         ", address %p, thread %d",
                         hf_cli_errno_name(fault.error), strerror(fault.error),
                         fault.write ? "store" : "load", fault.offset, fault.ino, fault.addr, fault.tid);
}

static bool act_go_on(struct full *full)
{
    uint32_t page_size = full->demo->page_size;
    unsigned char *seen = malloc(page_size);
    size_t zero = 0;
    int again, load;

    hf_demo_step("the program goes on");
    if (!seen)
        return hf_demo_check_error(full->demo, -ENOMEM, "going on");
    again = store_page(full, 0, NULL);
    load = hf_load(seen, full->map + full->accepted * page_size, page_size, NULL);
    while (zero < page_size && !load && !seen[zero])
        zero++;
    free(seen);
    hf_demo_check(full->demo, !again, "a store to page 0, which has its space, succeeds on the full volume");
    return hf_demo_check(full->demo, !load && zero == page_size,
                         "the refused store changed nothing: page %" PRIu64 " is still %zu zeros",
                         full->accepted, zero);
}

static bool act_free_space(struct full *full)
{
    uint64_t before = full->accepted;
    size_t done = 0;
    int error, refused;

    hf_demo_step("remove the file of 256 KiB, and store the same page again");
    error = hf_unlink(full->volume, BALLAST_NAME);
    if (error)
        return hf_demo_check_error(full->demo, error, "removing a file on the full volume");
    error = store_page(full, full->accepted, &done);
    if (!hf_demo_check(full->demo, !error, "the same store, of page %" PRIu64 ": %s", full->accepted,
                       error ? hf_cli_errno_name(error) : "succeeds"))
        return false;
    full->accepted++;
    refused = store_until_refused(full, &done);
    show(full);
    return hf_demo_check(full->demo, refused == -ENOSPC,
                         "%" PRIu64 " pages more fit before the next -%s: the space of the removed file",
                         full->accepted - before, hf_cli_errno_name(refused));
}

static bool act_close(struct full *full)
{
    int error;

    hf_demo_step("fsync on the full volume, close, open again");
    error = hf_fsync(full->file);
    if (!hf_demo_check_error(full->demo, error, "fsync: writing back never needs to ask for space"))
        return false;
    error = hf_munmap(full->map, (size_t)full->size);
    full->map = NULL;
    if (!error)
        error = hf_close(full->file);
    full->file = NULL;
    if (!error) {
        error = hf_volume_close(full->volume);
        full->volume = error == -EBUSY ? full->volume : NULL;
    }
    return hf_demo_check_error(full->demo, error, "closed, and no reservation was left over");
}

static bool act_compare(struct full *full)
{
    uint32_t page_size = full->demo->page_size;
    uint64_t bytes = 0, wrong = 0, beyond = 0;
    unsigned char *found = calloc(1, page_size);
    int error = found ? hf_demo_open(full->demo, HF_OPEN_READ_ONLY, &full->volume) : -ENOMEM;

    if (!error)
        error = hf_open(full->volume, BIG_NAME, O_RDONLY, 0, &full->file);
    for (uint64_t i = 0; !error && (hf_off_t)(i * page_size) < full->size; i++) {
        ssize_t got = hf_pread(full->file, found, page_size, (hf_off_t)(i * page_size));

        error = got == page_size ? 0 : got < 0 ? (int)got : -EIO;
        if (i < full->accepted)
            fill_page(full, i);
        else
            memset(full->page, 0, page_size);
        for (uint32_t b = 0; !error && b < page_size; b++) {
            bytes += i < full->accepted;
            wrong += i < full->accepted && found[b] != full->page[b];
            beyond += i >= full->accepted && found[b] != full->page[b];
        }
    }
    free(found);
    if (error)
        return hf_demo_check_error(full->demo, error, "reading back");
    show(full);
    hf_demo_check(full->demo, wrong == 0, "%" PRIu64 " of %" PRIu64 " accepted bytes are on disk",
                  bytes - wrong, bytes);
    return hf_demo_check(full->demo, beyond == 0,
                         "%" PRIu64 " bytes of anything else where nothing was accepted", beyond);
}

/* ---------------------------------------------------------------- the step */

static void close_all(struct full *full)
{
    int error = 0;

    if (full->map)
        hf_munmap(full->map, (size_t)full->size);
    if (full->file)
        hf_close(full->file);
    if (full->volume)
        error = hf_volume_close(full->volume);
    if (error)
        hf_demo_check_error(full->demo, error, "closing the volume");
}

/* The next step needs room. */
static void remove_big(struct hf_demo *demo)
{
    struct hf_volume *volume;
    int error, close_error;

    if (hf_demo_open(demo, 0, &volume))
        return;
    error = hf_unlink(volume, BIG_NAME);
    close_error = hf_volume_close(volume);
    if (error || close_error)
        hf_demo_check_error(demo, error ? error : close_error, "removing the large file");
}

void hf_demo_full(struct hf_demo *demo, unsigned number)
{
    static bool (*const acts[])(struct full *) = {act_prepare,    act_refusal, act_go_on,
                                                  act_free_space, act_close,   act_compare};
    struct full full = {.demo = demo, .page = malloc(demo->page_size)};

    hf_demo_heading(number, "A volume gets full under a mapping");
    hf_demo_say("On most filesystems this ends the program, or loses what was stored. Here one "
                "store is refused, and says so.");
    if (!full.page || hf_demo_open(demo, 0, &full.volume)) {
        free(full.page);
        return;
    }
    for (size_t i = 0; i < sizeof(acts) / sizeof(acts[0]); i++)
        if (!acts[i](&full))
            break;
    close_all(&full);
    free(full.page);
    remove_big(demo);
}
