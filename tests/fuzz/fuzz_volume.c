/* SPDX-License-Identifier: MIT */
/*
 * fuzz_volume.c - a volume whose bytes somebody else wrote: checked, repaired, opened, worked on and closed.
 *
 * The input chooses an image (clean, or as a power cut left it), damages it (header with a checksum that fits
 * or not, database and log, sectors from another time, rows changed by SQL), and then what is done with it.
 * Whatever the damage: no crash, no hang, nothing for a sanitizer; opened or checked read-only nothing is
 * written; and a refusal says in one line what is damaged. What a check calls clean opens, shows no damage to
 * anybody who walks it or works on it, and is clean afterwards. A repair leaves what it said it would leave.
 */
#define _GNU_SOURCE
#include "fuzz.h"
#include "fuzz_damage.h"

#include <holdfast/maintain.h>

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
    bool clean; /* a check has said so: then no call may meet damage */
    unsigned nodes;
};

static uint8_t buf[BUF];

/* ---- what is done with it. Results matter only where the volume is clean: then none of them is damage. */

#define sound(w, expr) sound_check((w), (int64_t)(expr), #expr, __LINE__)

static int64_t sound_check(const struct walk *w, int64_t ret, const char *expr, int line)
{
    if (w->clean && (ret == -EUCLEAN || ret == -EIO))
        fuzz_fail(__FILE__, line, expr, "%s, of a volume that was called clean", strerror((int)-ret));
    return ret;
}

static void file_read(struct walk *w, struct hf_file *file)
{
    static struct hf_page_info pages[4];
    hf_off_t size = sound(w, hf_lseek(file, 0, SEEK_END)), off;

    sound(w, hf_pread(file, buf, BUF, 0));
    if (size > BUF)
        sound(w, hf_pread(file, buf, BUF, size - BUF));
    off = sound(w, hf_lseek(file, 0, SEEK_DATA));
    if (off >= 0)
        sound(w, hf_lseek(file, off, SEEK_HOLE));
    sound(w, hf_page_map(file, (uint64_t)input_below(w->in, 16), 4, pages));
    if (input_u8(w->in) & 1)
        sound(w, hf_pread(file, buf, 100, input_number(w->in)));
}

static void file_store(struct walk *w, struct hf_file *file)
{
    const size_t len = 32768;
    size_t off = input_below(w->in, 32000);
    void *map;

    if (hf_mmap(file, NULL, len, PROT_READ | PROT_WRITE, MAP_SHARED, 0, &map) < 0)
        return;
    sound(w, hf_store((char *)map + off, "stored", 6, NULL));
    sound(w, hf_load(buf, (char *)map + off, 700, NULL));
    sound(w, hf_msync(map, len, MS_SYNC));
    hf_munmap(map, len);
}

static void file_write(struct walk *w, struct hf_file *file)
{
    memset(buf, 'w', 10000);
    switch (input_u8(w->in) & 7) {
    case 0:
        sound(w, hf_pwrite(file, buf, input_below(w->in, 10000), input_below(w->in, 40000)));
        break;
    case 1:
        sound(w, hf_ftruncate(file, input_number(w->in)));
        break;
    case 2:
        sound(w, hf_fallocate(file, FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE, input_below(w->in, 40000),
                              1 + input_below(w->in, 40000)));
        break;
    case 3:
        sound(w, hf_fallocate(file, input_u8(w->in) & 1 ? FALLOC_FL_KEEP_SIZE : 0, input_below(w->in, 40000),
                              1 + input_below(w->in, 40000)));
        break;
    case 4:
        sound(w, hf_ftruncate(file, input_below(w->in, 40000)));
        break;
    case 5:
        file_store(w, file);
        break;
    case 6:
        sound(w, hf_fallocate(file, FALLOC_FL_ZERO_RANGE, input_below(w->in, 40000),
                              1 + input_below(w->in, 40000)));
        break;
    default:
        sound(w, hf_fchmod(file, 0600));
        break;
    }
    if (input_u8(w->in) & 1)
        sound(w, hf_fsync(file));
}

static void name_change(struct walk *w, const char *path)
{
    switch (input_u8(w->in) & 15) {
    case 0:
        sound(w, hf_unlink(w->vol, path));
        break;
    case 1:
        sound(w, hf_rename(w->vol, path, "/renamed", 0));
        break;
    case 2:
        sound(w, hf_rename(w->vol, path, "/sub", RENAME_EXCHANGE));
        break;
    case 3:
        sound(w, hf_link(w->vol, path, "/linked"));
        break;
    case 4:
        sound(w, hf_rmdir(w->vol, path));
        break;
    case 5:
        sound(w, hf_truncate(w->vol, path, input_below(w->in, 30000)));
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

    if (sound(w, hf_lstat(w->vol, path, &st)) < 0)
        return;
    if (S_ISDIR(st.st_mode) && depth < MAX_DEPTH)
        dir_walk(w, path, depth + 1);
    if (S_ISLNK(st.st_mode))
        sound(w, hf_readlink(w->vol, path, (char *)buf, BUF));
    if (sound(w, hf_open(w->vol, path, (w->writes ? O_RDWR : O_RDONLY) | O_NOFOLLOW, 0, &file)) == 0) {
        file_read(w, file);
        if (w->writes)
            file_write(w, file);
        sound(w, hf_close(file));
    }
    if (w->writes)
        name_change(w, path);
}

static void dir_walk(struct walk *w, const char *path, unsigned depth)
{
    char below[HF_PATH_MAX];
    struct hf_dirent entry;
    struct hf_dir *dir;

    if (sound(w, hf_opendir(w->vol, path, &dir)) < 0)
        return;
    for (unsigned i = 0; i < MAX_ENTRIES && w->nodes < MAX_NODES && sound(w, hf_readdir(dir, &entry)) == 1;
         i++) {
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
    uint64_t trimmed;

    sound(w, hf_volume_trim(w->vol, 0, &trimmed));
    sound(w, hf_mkdir(w->vol, "/new-dir", 0700));
    sound(w, hf_symlink(w->vol, "target", "/new-dir/new-link"));
    if (sound(w, hf_open(w->vol, "/new-dir/new", O_RDWR | O_CREAT, 0600, &file)) == 0) {
        sound(w, hf_pwrite(file, buf, 5000, input_below(w->in, 60000)));
        sound(w, hf_close(file));
    }
    if (input_u8(w->in) & 1)
        sound(w, hf_volume_sync(w->vol));
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

/* clean: a check has just said so. Returns whether it was opened and closed without a word. */
static bool volume_use(struct input *in, bool read_only, bool clean)
{
    struct hf_open_options opts = {.flags = read_only ? HF_OPEN_READ_ONLY : HF_OPEN_DISCARD,
                                   .writeback_ms = 3600000};
    struct walk w = {.in = in, .writes = !read_only, .clean = clean};
    struct hf_statfs st;
    int error;

    fuzz_device_forbid_writes(read_only);
    error = hf_volume_open_device(fuzz_device_again(), &opts, &w.vol);
    if (error) {
        /* One of a newer version may be sound, and not for us to write. */
        fuzz_that(!clean || (error == -EPROTONOSUPPORT && !read_only), "a clean volume does not open: %d, %s",
                  error, hf_volume_error_text());
        refusal_check(error);
        return false;
    }
    sound(&w, hf_volume_statfs(w.vol, &st));
    dir_walk(&w, "/", 0);
    if (!read_only)
        volume_change(&w);
    error = (int)sound(&w, hf_volume_close(w.vol));
    fuzz_that(error != -EBUSY && error != -ENOTRECOVERABLE, "closing fails with %d", error);
    return error == 0;
}

/* ---- checking and repairing it */

struct told {
    uint64_t problems, left;
    char first[256];
};

static void tell(void *arg, const struct hf_check_problem *problem)
{
    struct told *told = arg;

    fuzz_that(problem->kind[0] && problem->text[0] && !strchr(problem->text, '\n'), "%s: %s", problem->kind,
              problem->text);
    if (told->problems == 0 || (problem->left && told->left == 0))
        snprintf(told->first, sizeof(told->first), "%s: %s", problem->kind, problem->text);
    told->problems++;
    told->left += problem->left;
}

/* False: there is no volume to check, or no room to repair it in. */
static bool volume_check(uint32_t flags, struct hf_check_result *ret_result, struct told *told)
{
    struct hf_check_options opts = {.flags = flags, .report = tell, .arg = told};
    struct hf_device *dev = fuzz_device_again();
    int error;

    *told = (struct told){0};
    fuzz_device_forbid_writes(!(flags & HF_CHECK_REPAIR));
    error = hf_check_device(dev, &opts, ret_result);
    dev->ops->close(dev);
    if (error) {
        refusal_check(error);
        return false;
    }
    fuzz_that(ret_result->problems > 0 || !ret_result->incomplete, "a check was incomplete and said nothing");
    if (flags & HF_CHECK_REPAIR)
        fuzz_that(ret_result->left == told->left, "%llu are left, %llu were told",
                  (unsigned long long)ret_result->left, (unsigned long long)told->left);
    return true;
}

static bool is_clean(void)
{
    struct hf_check_result result;
    struct told told;

    return volume_check(0, &result, &told) && result.problems == 0;
}

/* Between openings it is trimmed or grown. Returns whether it is clean still. */
static bool volume_tend(bool grow, bool clean)
{
    struct hf_device *dev = fuzz_device_again();
    uint64_t trimmed;
    int error;

    fuzz_device_forbid_writes(false);
    error = grow ? hf_grow_device(dev, FUZZ_BYTES_MAX) : hf_trim_device(dev, &trimmed);
    dev->ops->close(dev);
    if (error && error != -EALREADY) {
        fuzz_that(!clean || error == -EPROTONOSUPPORT || error == -ENOSPC || error == -EINVAL,
                  "upkeep of a clean volume gives %d: %s", error, hf_volume_error_text());
        refusal_check(error);
    }
    fuzz_that(!clean || is_clean(), "clean, then tended, and now damaged");
    return clean;
}

/* Returns whether it is clean now. */
static bool volume_repair(void)
{
    struct hf_check_result result, again;
    struct told told, found;

    if (!volume_check(HF_CHECK_REPAIR, &result, &told))
        return false;
    fuzz_that(volume_check(0, &again, &found), "once repaired it cannot be checked: %s",
              hf_volume_error_text());
    fuzz_that(again.problems == result.left, "%llu problems after a repair that left %llu: %s",
              (unsigned long long)again.problems, (unsigned long long)result.left, found.first);
    return again.problems == 0;
}

/* A volume that was clean and was used is clean. */
static bool use_and_check(struct input *in, bool read_only, bool clean)
{
    struct hf_check_result result;
    struct told told;
    bool used = volume_use(in, read_only, clean);

    if (!clean || !used)
        return false;
    fuzz_that(volume_check(0, &result, &told) && result.problems == 0,
              "clean, then used, and now damaged: %s%s", told.first, hf_volume_error_text());
    return true;
}

#define HOW_ORDER 3u         /* 0: read-only, then writing; 1: writing; else both ways */
#define HOW_READ_AT_END 4u   /* and once more read-only */
#define HOW_CHECK 8u         /* a check before */
#define HOW_REPAIR 16u       /* a repair before */
#define HOW_REPAIR_AFTER 32u /* and one in the end, and then it is used */
#define HOW_TEND 64u         /* before it is used, it is trimmed */
#define HOW_GROW 128u        /* or grown */

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct input in = {data, data + size};
    uint8_t how = input_u8(&in);
    struct hf_device *dev = fuzz_device_new((enum fuzz_image)(how % FUZZ_IMAGES));
    bool clean = false;

    dev->ops->close(dev);
    damage(&in);
    how = input_u8(&in);
    if (how & HOW_CHECK)
        clean = is_clean();
    if (how & HOW_REPAIR)
        clean = volume_repair();
    if (how & HOW_TEND)
        clean = volume_tend((how & HOW_GROW) != 0, clean);
    if ((how & HOW_ORDER) != 1)
        clean = use_and_check(&in, (how & HOW_ORDER) == 0, clean);
    if ((how & HOW_ORDER) != 0)
        clean = use_and_check(&in, false, clean);
    if (how & HOW_READ_AT_END)
        clean = use_and_check(&in, true, clean);
    if (how & HOW_REPAIR_AFTER) {
        clean = volume_repair();
        use_and_check(&in, false, clean);
    }
    return 0;
}
