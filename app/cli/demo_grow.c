/* SPDX-License-Identifier: MIT */
/*
 * demo_grow.c - steps 1 and 2 of the demo: a file grows under a writable page, told in columns.
 *
 * Each column is one way to keep i_size and the straddling page together; the last is the control, another
 * program in which that is switched off, and which must lose what was stored.
 */
#include "cli.h"
#include "demo.h"
#include "draw.h"
#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <spawn.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#define MAX_COLUMNS 3u
#define COLUMN_WIDTH 25u

extern char **environ;

struct column {
    const char *title;
    bool control;
    struct hf_seed_story story;
};

static const struct {
    const char *title, *note;
} frames[HF_SEED_FRAMES] = {
    {"pwrite: 1 KiB at 0", "The file has one block; its page has three more, which lie beyond EOF."},
    {"mmap, and store 'a' at 0",
     "The page becomes writable. page_mkwrite could reserve space for block 0 only: "
     "the others lie beyond EOF, where nothing may be promised."},
    {NULL, "EOF moves, and now the page has three holes inside the file. Holdfast "
           "write-protects the page first; without that it stays writable, with nothing behind it."},
    {"store 'b', 'c', 'd' into the three later blocks of page 0",
     "Protected, the store faults, page_mkwrite asks again, and the blocks are "
     "reserved. Unprotected, the store just succeeds: nobody is asked, nobody told."},
    {"fsync", "What was reserved becomes blocks. fsync can write only what has space."},
    {"close the volume, open it again", "This is what is really on disk."},
};

/* ---------------------------------------------------------------- the control, in its own process */

/* Runs the program, returns what it printed (heap) and its wait status. */
static int run_and_read(char *const argv[], char **ret_text, int *ret_status)
{
    posix_spawn_file_actions_t actions;
    char *text = NULL;
    size_t size = 0;
    int pipe_fds[2], error;
    pid_t pid;
    FILE *in;

    if (pipe2(pipe_fds, O_CLOEXEC) < 0)
        return -errno;
    posix_spawn_file_actions_init(&actions);
    posix_spawn_file_actions_adddup2(&actions, pipe_fds[1], STDOUT_FILENO);
    error = posix_spawnp(&pid, argv[0], &actions, NULL, argv, environ);
    posix_spawn_file_actions_destroy(&actions);
    close(pipe_fds[1]);
    if (error) {
        close(pipe_fds[0]);
        return -error;
    }
    in = fdopen(pipe_fds[0], "r");
    if (in && getdelim(&text, &size, '\0', in) < 0 && text)
        text[0] = '\0';
    if (in)
        fclose(in);
    waitpid(pid, ret_status, 0);
    *ret_text = text;
    return 0;
}

static int tell_by_control(struct hf_demo *demo, enum hf_seed_grow grow, struct hf_seed_story *ret_story)
{
    char *argv[] = {
        (char *)demo->control, "demo-seed", "--isize-sync", "none", "--grow", (char *)hf_seed_grow_name(grow),
        demo->control_volume,  NULL};
    char *text = NULL;
    cJSON *root;
    int status = 0;
    int error = run_and_read(argv, &text, &status);

    if (error) {
        hf_demo_check(demo, false, "the control %s cannot be run: %s", demo->control, strerror(-error));
        return error;
    }
    root = cJSON_Parse(text);
    free(text);
    error = root ? hf_seed_story_from_json(root, ret_story) : -EPROTO;
    cJSON_Delete(root);
    if (WIFSIGNALED(status))
        hf_demo_check(demo, false, "the control was killed by signal %d", WTERMSIG(status));
    else if (error || WEXITSTATUS(status))
        hf_demo_check(demo, false, "the control did not come to its end (exit status %d)",
                      WEXITSTATUS(status));
    else
        return 0;
    return -EPROTO;
}

/* ---------------------------------------------------------------- columns */

static void print_titles(const struct column *columns, unsigned nr)
{
    struct hf_line line;

    hf_line_init(&line);
    for (unsigned i = 0; i < nr; i++) {
        hf_line_pad(&line, 4 + i * COLUMN_WIDTH);
        hf_line_put(&line, columns[i].control ? HF_STYLE_BAD : HF_STYLE_GOOD, "%s", columns[i].title);
    }
    hf_line_print(&line, stdout);
}

static void print_frame(const struct column *columns, unsigned nr, unsigned frame)
{
    unsigned rows = 0;

    for (unsigned i = 0; i < nr; i++)
        if (columns[i].story.frame[frame].nr > rows)
            rows = columns[i].story.frame[frame].nr;
    for (unsigned row = 0; row < rows; row++) {
        struct hf_line line;

        hf_line_init(&line);
        for (unsigned i = 0; i < nr; i++) {
            const struct hf_demo_pages *pages = &columns[i].story.frame[frame];

            hf_line_pad(&line, 4 + i * COLUMN_WIDTH);
            if (row < pages->nr)
                hf_draw_page_short(&line, &pages->info[row]);
        }
        hf_line_print(&line, stdout);
    }
}

static void put_byte(struct hf_line *line, unsigned char byte, bool as_stored)
{
    char text[16];

    snprintf(text, sizeof(text), byte >= 0x20 && byte < 0x7f ? "'%c'" : "0x%02x", byte);
    if (as_stored)
        hf_line_put(line, HF_STYLE_PLAIN, "%s", text);
    else
        hf_line_put(line, HF_STYLE_BAD, "%s  LOST", text);
}

static void print_table(const struct column *columns, unsigned nr)
{
    struct hf_line line;

    hf_line_init(&line);
    hf_line_put(&line, HF_STYLE_BOLD, "      byte  stored");
    for (unsigned i = 0; i < nr; i++) {
        hf_line_pad(&line, 24 + i * 18);
        hf_line_put(&line, columns[i].control ? HF_STYLE_BAD : HF_STYLE_GOOD, "%s", columns[i].title);
    }
    hf_line_print(&line, stdout);
    for (unsigned s = 0; s < HF_SEED_STORES; s++) {
        hf_line_init(&line);
        hf_line_put(&line, HF_STYLE_PLAIN, "%10" PRId64 "  ", columns[0].story.store[s].offset);
        put_byte(&line, columns[0].story.store[s].stored, true);
        for (unsigned i = 0; i < nr; i++) {
            hf_line_pad(&line, 24 + i * 18);
            put_byte(&line, columns[i].story.store[s].found,
                     columns[i].story.store[s].found == columns[i].story.store[s].stored);
        }
        hf_line_print(&line, stdout);
    }
}

static unsigned stores_kept(const struct hf_seed_story *story)
{
    unsigned kept = 0;

    for (unsigned i = 0; i < HF_SEED_STORES; i++)
        kept += story->store[i].found == story->store[i].stored;
    return kept;
}

static void check_column(struct hf_demo *demo, const struct column *column)
{
    const struct hf_seed_story *story = &column->story;
    unsigned kept = stores_kept(story);

    if (column->control)
        hf_demo_check(demo, kept < HF_SEED_STORES,
                      "%s: %u of %u accepted stores are gone, and fsync returned %s%s", column->title,
                      HF_SEED_STORES - kept, HF_SEED_STORES, hf_cli_errno_name(story->error[4]),
                      kept < HF_SEED_STORES ? "" : ": the control shows nothing");
    else
        hf_demo_check(demo, kept == HF_SEED_STORES && !story->differing && !story->close_error,
                      "%s: %u of %u accepted stores are there, %" PRId64 " of %" PRId64 " bytes differ%s%s",
                      column->title, kept, HF_SEED_STORES, story->differing, story->size,
                      story->close_error ? ", closing said " : "",
                      story->close_error ? hf_cli_errno_name(story->close_error) : "");
}

/* Fills a column with holdfast's own story. */
static bool add_own(struct hf_demo *demo, struct column *column, enum hf_isize_sync sync,
                    enum hf_seed_grow grow)
{
    int error;

    column->title = hf_seed_sync_name(sync);
    error = hf_seed_tell(demo->volume, sync, grow, &column->story);
    if (!error)
        return true;
    return hf_demo_check(demo, false, "%s: step %u of %u: %s (%s)", column->title, column->story.nr_frames,
                         HF_SEED_FRAMES, hf_cli_errno_name(error), strerror(-error));
}

static bool has_lost_cell(const struct column *columns, unsigned nr, unsigned frame)
{
    for (unsigned i = 0; i < nr; i++)
        for (unsigned p = 0; p < columns[i].story.frame[frame].nr; p++)
            for (unsigned b = 0; b < columns[i].story.frame[frame].info[p].nr_blocks; b++)
                if (hf_cell_of(&columns[i].story.frame[frame].info[p], b) == HF_CELL_LOST)
                    return true;
    return false;
}

void hf_demo_grow(struct hf_demo *demo, unsigned number, enum hf_seed_grow grow)
{
    struct column columns[MAX_COLUMNS] = {0};
    unsigned nr = 0;

    if (grow == HF_SEED_FTRUNCATE)
        hf_demo_heading(number, "The letter's case: a file grows under a writable page");
    else
        hf_demo_heading(number, "The same, grown by a write past the end");
    if (grow == HF_SEED_PWRITE)
        hf_demo_say("A write past the end moves EOF as well, and so goes the same way as ftruncate.");
    else if (demo->control)
        hf_demo_say(
            "A file of 1 KiB is mapped, grows, and is stored to where it grew. Two protocols keep EOF and "
            "the "
            "page together: page-lock, the default, and hole-lock. In the last column, another program, "
            "that is switched off.");
    else
        hf_demo_say("A file of 1 KiB is mapped, grows, and is stored to where it grew. Two protocols keep "
                    "EOF and the "
                    "page together: page-lock, the default, and hole-lock.");
    nr += add_own(demo, &columns[nr], HF_ISIZE_PAGE_LOCK, grow);
    nr += add_own(demo, &columns[nr], HF_ISIZE_HOLE_LOCK, grow);
    if (demo->control) {
        columns[nr].title = "NO PROTOCOL";
        columns[nr].control = true;
        nr += tell_by_control(demo, grow, &columns[nr].story) == 0;
    } else {
        hf_demo_say("(No --control program was given: the column that shows the loss is left out.)");
    }
    for (unsigned frame = 0; nr && frame < HF_SEED_FRAMES; frame++) {
        if (frames[frame].title)
            hf_demo_step("%s", frames[frame].title);
        else if (grow == HF_SEED_FTRUNCATE)
            hf_demo_step("ftruncate to %" PRId64, columns[0].story.size);
        else
            hf_demo_step("pwrite: one byte 'z' at %" PRId64, columns[0].story.size - 1);
        hf_demo_say(frames[frame].note);
        print_titles(columns, nr);
        print_frame(columns, nr, frame);
        if (frame == 2 && has_lost_cell(columns, nr, frame))
            hf_demo_say("! = writable, and no space behind it");
    }
    if (nr) {
        hf_demo_step("compare every byte with what was stored");
        print_table(columns, nr);
    }
    for (unsigned i = 0; i < nr; i++)
        check_column(demo, &columns[i]);
}
