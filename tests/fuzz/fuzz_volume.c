/* SPDX-License-Identifier: MIT */
/*
 * fuzz_volume.c - a volume whose bytes somebody else wrote: it is opened, walked, worked on and closed.
 *
 * The input chooses an image (clean, or as a power cut left it), damages it (header with a checksum that fits
 * or not, database and log, sectors from another time, rows changed by SQL), and then what is done with it.
 * Whatever the damage: no crash, no hang, nothing for a sanitizer; opened read-only nothing is written; and a
 * refusal says in one line what is damaged.
 */
#define _GNU_SOURCE
#include "fuzz.h"
#include "fuzz_damage.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <linux/falloc.h>
#include <string.h>
#include <sys/mman.h>

#define MAX_DEPTH 4
#define MAX_ENTRIES 24 /* of a directory */
#define MAX_NODES 64   /* of a walk */
#define BUF 65536

struct walk {
    struct input *in;
    struct hf_volume *vol;
    bool writes;
    unsigned nodes;
};

static uint8_t buf[BUF];

/* ---- what is done with it. Results do not matter here: only that there is one. */

static void file_read(struct walk *w, struct hf_file *file)
{
    static struct hf_page_info pages[4];
    hf_off_t size = hf_lseek(file, 0, SEEK_END), off;

    hf_pread(file, buf, BUF, 0);
    if (size > BUF)
        hf_pread(file, buf, BUF, size - BUF);
    off = hf_lseek(file, 0, SEEK_DATA);
    if (off >= 0)
        hf_lseek(file, off, SEEK_HOLE);
    hf_page_map(file, (uint64_t)input_below(w->in, 16), 4, pages);
    if (input_u8(w->in) & 1)
        hf_pread(file, buf, 100, input_number(w->in));
}

static void file_store(struct walk *w, struct hf_file *file)
{
    const size_t len = 32768;
    size_t off = input_below(w->in, 32000);
    void *map;

    if (hf_mmap(file, NULL, len, PROT_READ | PROT_WRITE, MAP_SHARED, 0, &map) < 0)
        return;
    hf_store((char *)map + off, "stored", 6, NULL);
    hf_load(buf, (char *)map + off, 700, NULL);
    hf_msync(map, len, MS_SYNC);
    hf_munmap(map, len);
}

static void file_write(struct walk *w, struct hf_file *file)
{
    memset(buf, 'w', 10000);
    switch (input_u8(w->in) & 7) {
    case 0:
        hf_pwrite(file, buf, input_below(w->in, 10000), input_below(w->in, 40000));
        break;
    case 1:
        hf_ftruncate(file, input_number(w->in));
        break;
    case 2:
        hf_fallocate(file, FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE, input_below(w->in, 40000),
                     1 + input_below(w->in, 40000));
        break;
    case 3:
        hf_fallocate(file, input_u8(w->in) & 1 ? FALLOC_FL_KEEP_SIZE : 0, input_below(w->in, 40000),
                     1 + input_below(w->in, 40000));
        break;
    case 4:
        hf_ftruncate(file, input_below(w->in, 40000));
        break;
    case 5:
        file_store(w, file);
        break;
    case 6:
        hf_fallocate(file, FALLOC_FL_ZERO_RANGE, input_below(w->in, 40000), 1 + input_below(w->in, 40000));
        break;
    default:
        hf_fchmod(file, 0600);
        break;
    }
    if (input_u8(w->in) & 1)
        hf_fsync(file);
}

static void name_change(struct walk *w, const char *path)
{
    switch (input_u8(w->in) & 15) {
    case 0:
        hf_unlink(w->vol, path);
        break;
    case 1:
        hf_rename(w->vol, path, "/renamed", 0);
        break;
    case 2:
        hf_rename(w->vol, path, "/sub", RENAME_EXCHANGE);
        break;
    case 3:
        hf_link(w->vol, path, "/linked");
        break;
    case 4:
        hf_rmdir(w->vol, path);
        break;
    case 5:
        hf_truncate(w->vol, path, input_below(w->in, 30000));
        break;
    default: /* most stay */
        break;
    }
}

static void dir_walk(struct walk *w, const char *path, unsigned depth);

static void node_visit(struct walk *w, const char *path, unsigned depth)
{
    struct hf_file *file;
    struct stat st;

    if (hf_lstat(w->vol, path, &st) < 0)
        return;
    if (S_ISDIR(st.st_mode) && depth < MAX_DEPTH)
        dir_walk(w, path, depth + 1);
    if (S_ISLNK(st.st_mode))
        hf_readlink(w->vol, path, (char *)buf, BUF);
    if (hf_open(w->vol, path, (w->writes ? O_RDWR : O_RDONLY) | O_NOFOLLOW, 0, &file) == 0) {
        file_read(w, file);
        if (w->writes)
            file_write(w, file);
        hf_close(file);
    }
    if (w->writes)
        name_change(w, path);
}

static void dir_walk(struct walk *w, const char *path, unsigned depth)
{
    char below[HF_PATH_MAX];
    struct hf_dirent entry;
    struct hf_dir *dir;

    if (hf_opendir(w->vol, path, &dir) < 0)
        return;
    for (unsigned i = 0; i < MAX_ENTRIES && w->nodes < MAX_NODES && hf_readdir(dir, &entry) == 1; i++) {
        size_t len = strnlen(entry.name, sizeof(entry.name));

        fuzz_that(len > 0 && len <= HF_NAME_MAX, "a name of %zu bytes", len);
        if (strcmp(entry.name, ".") == 0 || strcmp(entry.name, "..") == 0) {
            fuzz_that(i < 2, "an entry of the name %s", entry.name);
            continue;
        }
        fuzz_that(!strchr(entry.name, '/'), "a name with a slash: %s", entry.name);
        w->nodes++;
        if (snprintf(below, sizeof(below), "%s/%s", depth ? path : "", entry.name) < (int)sizeof(below))
            node_visit(w, below, depth);
    }
    hf_closedir(dir);
}

static void volume_change(struct walk *w)
{
    struct hf_file *file;

    hf_mkdir(w->vol, "/new-dir", 0700);
    hf_symlink(w->vol, "target", "/new-dir/new-link");
    if (hf_open(w->vol, "/new-dir/new", O_RDWR | O_CREAT, 0600, &file) == 0) {
        hf_pwrite(file, buf, 5000, input_below(w->in, 60000));
        hf_close(file);
    }
    if (input_u8(w->in) & 1)
        hf_volume_sync(w->vol);
}

/* ---- opening it */

/* What a refusal may be: the device never fails, so it is never -EIO. */
static void refusal_check(int error)
{
    const char *text = hf_volume_error_text();

    fuzz_that(error == -EUCLEAN || error == -EMEDIUMTYPE || error == -EPROTONOSUPPORT || error == -EINVAL ||
                  error == -ENOSPC || error == -ENOMEM,
              "opening fails with %d: %s", error, text);
    fuzz_that(text[0] && !strchr(text, '\n'), "refused with %d, and the text is: %s", error, text);
    if (error == -EUCLEAN)
        fuzz_that(strstr(text, "header") || strstr(text, "table") || strstr(text, "database") ||
                      strstr(text, "volume") || strstr(text, "truncated"),
                  "this does not name what is damaged: %s", text);
}

static void volume_use(struct input *in, bool read_only)
{
    struct hf_open_options opts = {.flags = read_only ? HF_OPEN_READ_ONLY : 0, .writeback_ms = 3600000};
    struct walk w = {.in = in, .writes = !read_only};
    struct hf_statfs st;
    int error;

    fuzz_device_forbid_writes(read_only);
    error = hf_volume_open_device(fuzz_device_again(), &opts, &w.vol);
    if (error) {
        refusal_check(error);
        return;
    }
    hf_volume_statfs(w.vol, &st);
    dir_walk(&w, "/", 0);
    if (!read_only)
        volume_change(&w);
    error = hf_volume_close(w.vol);
    fuzz_that(error != -EBUSY && error != -ENOTRECOVERABLE, "closing fails with %d", error);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct input in = {data, data + size};
    uint8_t how = input_u8(&in);
    struct hf_device *dev = fuzz_device_new((enum fuzz_image)(how % FUZZ_IMAGES));

    dev->ops->close(dev);
    damage(&in);
    how = input_u8(&in);
    if ((how & 3) != 1)
        volume_use(&in, (how & 3) == 0);
    if ((how & 3) != 0)
        volume_use(&in, false);
    if (how & 4)
        volume_use(&in, true);
    return 0;
}
