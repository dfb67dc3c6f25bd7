/* SPDX-License-Identifier: MIT */
/*
 * demo_seed.c - the case of the letter, played on a volume: `holdfast demo` calls it, and the hidden command
 * demo-seed plays it for another process and tells the story as JSON.
 *
 * B = 1024, P = 4096: one KiB is written, the page is mapped and stored to, the file grows past the page, and
 * then each block that did not exist before is stored to, through a page that was writable already.
 */
#include "cli.h"
#include "demo.h"
#include <errno.h>
#include <fcntl.h>
#include <getopt.h>
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>

struct play {
    const char *path;
    enum hf_seed_grow grow;
    struct hf_open_options opts;
    struct hf_seed_story *story;
    char name[64];
    struct hf_volume *volume;
    struct hf_file *file;
    char *map;
    hf_off_t block, page, grown; /* B, P, and the size the file grows to: 10000 for P = 4096 */
    unsigned char *expected;     /* [grown] */
};

static const char *const sync_names[] = {
    [HF_ISIZE_DEFAULT] = "default",
    [HF_ISIZE_PAGE_LOCK] = "page-lock",
    [HF_ISIZE_HOLE_LOCK] = "hole-lock",
    [HF_ISIZE_NONE] = "none",
};

const char *hf_seed_sync_name(enum hf_isize_sync sync)
{
    return sync_names[sync];
}

const char *hf_seed_grow_name(enum hf_seed_grow grow)
{
    return grow == HF_SEED_FTRUNCATE ? "ftruncate" : "pwrite";
}

/* ---------------------------------------------------------------- the steps */

static int play_first_block(struct play *play)
{
    ssize_t put;
    int error = hf_open(play->volume, play->name, O_RDWR | O_CREAT | O_TRUNC, 0644, &play->file);

    if (error)
        return error;
    memset(play->expected, '.', (size_t)play->block);
    put = hf_pwrite(play->file, play->expected, (size_t)play->block, 0);
    return put == play->block ? 0 : put < 0 ? (int)put : -EIO;
}

static int play_store(struct play *play, unsigned number, hf_off_t offset)
{
    unsigned char byte = (unsigned char)('a' + number);
    int error = hf_store(play->map + offset, &byte, 1, NULL);

    if (error)
        return error;
    play->expected[offset] = byte;
    play->story->store[number].offset = offset;
    play->story->store[number].stored = byte;
    return 0;
}

static int play_first_store(struct play *play)
{
    void *addr;
    int error = hf_mmap(play->file, NULL, (size_t)play->grown, PROT_READ | PROT_WRITE, MAP_SHARED, 0, &addr);

    if (error)
        return error;
    play->map = addr;
    return play_store(play, 0, 0);
}

static int play_growth(struct play *play)
{
    ssize_t put;

    if (play->grow == HF_SEED_FTRUNCATE)
        return hf_ftruncate(play->file, play->grown);
    play->expected[play->grown - 1] = 'z';
    put = hf_pwrite(play->file, "z", 1, play->grown - 1);
    return put == 1 ? 0 : put < 0 ? (int)put : -EIO;
}

static int play_later_stores(struct play *play)
{
    int error = play_store(play, 1, play->block);

    if (!error)
        error = play_store(play, 2, 2 * play->block);
    if (!error)
        error = play_store(play, 3, play->page - 1);
    return error;
}

static int play_fsync(struct play *play)
{
    return hf_fsync(play->file);
}

/* Whatever is open, closed; the first error. */
static int play_close(struct play *play)
{
    int error = 0, next;

    if (play->map)
        error = hf_munmap(play->map, (size_t)play->grown);
    play->map = NULL;
    next = play->file ? hf_close(play->file) : 0;
    play->file = NULL;
    error = error ? error : next;
    next = play->volume ? hf_volume_close(play->volume) : 0;
    play->volume = NULL;
    return error ? error : next;
}

static int play_reopen(struct play *play)
{
    struct hf_open_options opts = play->opts;
    int error;

    play->story->close_error = play_close(play);
    opts.flags = HF_OPEN_READ_ONLY;
    error = hf_volume_open(play->path, &opts, &play->volume);
    if (!error)
        error = hf_open(play->volume, play->name, O_RDONLY, 0, &play->file);
    return error;
}

static int play_compare(struct play *play)
{
    struct hf_seed_story *story = play->story;
    unsigned char *found = calloc(1, (size_t)play->grown);
    struct stat st;
    ssize_t got = found ? hf_pread(play->file, found, (size_t)play->grown, 0) : -ENOMEM;
    int error = got < 0 ? (int)got : hf_fstat(play->file, &st);

    if (!error) {
        story->size = st.st_size;
        story->differing = play->grown - got;
        for (ssize_t i = 0; i < got; i++)
            story->differing += found[i] != play->expected[i];
        for (unsigned i = 0; i < HF_SEED_STORES; i++)
            story->store[i].found = found[story->store[i].offset];
    }
    free(found);
    return error;
}

static int play_prepare(struct play *play)
{
    struct hf_statfs fs;
    int error = hf_volume_open(play->path, &play->opts, &play->volume);

    if (!error)
        error = hf_volume_statfs(play->volume, &fs);
    if (error)
        return error;
    play->block = fs.block_size;
    play->page = fs.page_size;
    play->grown = 2 * play->page + 1808;
    play->expected = calloc(1, (size_t)play->grown);
    return play->expected ? 0 : -ENOMEM;
}

int hf_seed_tell(const char *path, enum hf_isize_sync sync, enum hf_seed_grow grow,
                 struct hf_seed_story *ret_story)
{
    static int (*const steps[HF_SEED_FRAMES])(struct play *) = {
        play_first_block, play_first_store, play_growth, play_later_stores, play_fsync, play_reopen};
    struct play play = {.path = path, .grow = grow, .story = ret_story};
    int error, close_error;

    memset(ret_story, 0, sizeof(*ret_story));
    play.opts.isize_sync = sync;
    play.opts.writeback_ms = HF_DEMO_WRITEBACK_MS;
    snprintf(play.name, sizeof(play.name), "/grown-by-%s-%s", hf_seed_grow_name(grow),
             hf_seed_sync_name(sync));
    error = play_prepare(&play);
    for (unsigned i = 0; !error && i < HF_SEED_FRAMES; i++) {
        error = ret_story->error[i] = steps[i](&play);
        if (!error)
            error = hf_demo_pages_take(play.file, 0, &ret_story->frame[i]);
        ret_story->nr_frames = i + 1;
    }
    if (!error)
        error = play_compare(&play);
    close_error = play_close(&play);
    free(play.expected);
    return error ? error : close_error;
}

/* ---------------------------------------------------------------- the story as JSON */

cJSON *hf_seed_story_to_json(const struct hf_seed_story *story)
{
    cJSON *root = hf_json_object(), *frames = hf_json_array(), *stores = hf_json_array();

    for (unsigned i = 0; i < story->nr_frames; i++) {
        cJSON *frame = hf_json_object();

        hf_json_add(frame, "error", cJSON_CreateNumber(story->error[i]));
        hf_json_add(frame, "pages", hf_demo_pages_to_json(&story->frame[i]));
        hf_json_append(frames, frame);
    }
    for (unsigned i = 0; i < HF_SEED_STORES; i++) {
        cJSON *store = hf_json_object();

        hf_json_u64(store, "offset", (uint64_t)story->store[i].offset);
        hf_json_u64(store, "stored", story->store[i].stored);
        hf_json_u64(store, "found", story->store[i].found);
        hf_json_append(stores, store);
    }
    hf_json_add(root, "frames", frames);
    hf_json_add(root, "stores", stores);
    hf_json_u64(root, "size", (uint64_t)story->size);
    hf_json_u64(root, "differing", (uint64_t)story->differing);
    hf_json_add(root, "close_error", cJSON_CreateNumber(story->close_error));
    return root;
}

int hf_seed_story_from_json(const cJSON *root, struct hf_seed_story *ret_story)
{
    const cJSON *frames = cJSON_GetObjectItemCaseSensitive(root, "frames");
    const cJSON *stores = cJSON_GetObjectItemCaseSensitive(root, "stores");
    const cJSON *item;
    unsigned i = 0;

    memset(ret_story, 0, sizeof(*ret_story));
    if (cJSON_GetArraySize(frames) > HF_SEED_FRAMES || cJSON_GetArraySize(stores) != HF_SEED_STORES)
        return -EPROTO;
    cJSON_ArrayForEach (item, frames) {
        const cJSON *pages = cJSON_GetObjectItemCaseSensitive(item, "pages");
        unsigned n = ret_story->nr_frames++;
        int error = hf_demo_pages_from_json(pages, &ret_story->frame[n]);

        if (error)
            return error;
        ret_story->error[n] = (int)hf_json_get_int(item, "error", -EPROTO);
    }
    cJSON_ArrayForEach (item, stores) {
        ret_story->store[i].offset = hf_json_get_int(item, "offset", 0);
        ret_story->store[i].stored = (unsigned char)hf_json_get_int(item, "stored", 0);
        ret_story->store[i++].found = (unsigned char)hf_json_get_int(item, "found", 0);
    }
    ret_story->size = hf_json_get_int(root, "size", 0);
    ret_story->differing = hf_json_get_int(root, "differing", -1);
    ret_story->close_error = (int)hf_json_get_int(root, "close_error", 0);
    return 0;
}

/* ---------------------------------------------------------------- the hidden command */

static int parse_sync(const char *text, enum hf_isize_sync *ret_sync)
{
#ifdef HF_CONTROL_BUILD
    const enum hf_isize_sync last = HF_ISIZE_NONE;
#else
    const enum hf_isize_sync last = HF_ISIZE_HOLE_LOCK;
#endif

    for (enum hf_isize_sync sync = HF_ISIZE_PAGE_LOCK; sync <= last; sync++) {
        if (!strcmp(text, sync_names[sync])) {
            *ret_sync = sync;
            return 0;
        }
    }
    return -EINVAL;
}

/* Formats the volume, which is only for this, plays, prints. */
static int tell_on_new_volume(const char *path, enum hf_isize_sync sync, enum hf_seed_grow grow)
{
    struct hf_mkfs_options how = {
        .size_bytes = HF_DEMO_VOLUME_BYTES, .block_size = HF_DEMO_BLOCK_SIZE, .force = true};
    struct hf_seed_story story;
    int error = hf_mkfs(path, &how);

    if (error)
        return hf_cli_fail(hf_cli_volume_error(path), NULL, "cannot format %s", path);
    error = hf_seed_tell(path, sync, grow, &story);
    hf_json_print(hf_seed_story_to_json(&story), 0);
    if (error)
        return hf_cli_fail_errno(error, "demo-seed on %s, step %u", path, story.nr_frames);
    return hf_cli_flush(HF_CLI_OK);
}

static int run_demo_seed(const struct hf_cli_command *cmd, int argc, char **argv)
{
    static const struct option options[] = {{"isize-sync", required_argument, NULL, 'i'},
                                            {"grow", required_argument, NULL, 'g'},
                                            {"help", no_argument, NULL, 'h'},
                                            {0}};
    enum hf_isize_sync sync = HF_ISIZE_PAGE_LOCK;
    enum hf_seed_grow grow = HF_SEED_FTRUNCATE;
    int opt, status;

    while ((opt = getopt_long(argc, argv, ":h", options, NULL)) != -1) {
        if (opt == 'g')
            grow = strcmp(optarg, "pwrite") ? HF_SEED_FTRUNCATE : HF_SEED_PWRITE;
        else if (opt != 'i')
            return hf_cli_option(cmd, opt, argv);
        else if (parse_sync(optarg, &sync))
            return hf_cli_usage(cmd, "--isize-sync %s is not known here", optarg);
    }
    status = hf_cli_operands(cmd, argc, argv, 1, 1);
    return status ? status : tell_on_new_volume(argv[optind], sync, grow);
}

const struct hf_cli_command hf_cmd_demo_seed = {
    .name = "demo-seed",
    .synopsis = "VOLUME [--isize-sync page-lock|hole-lock] [--grow ftruncate|pwrite]",
    .help = "A part of the demo for itself: FORMATS VOLUME, plays the case of the letter, and prints JSON.\n"
            "In the program holdfast-control --isize-sync none switches the protection off.\n",
    .run = run_demo_seed,
};
