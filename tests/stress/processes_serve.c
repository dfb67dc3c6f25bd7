/* SPDX-License-Identifier: MIT */
/*
 * processes_serve.c - the files lie in a volume that the master has open and serves; workers map by
 * app/preload/remote.h.
 */
#include "processes.h"

#include "cache/testing.h"
#include "preload/remote.h"

#include <holdfast/holdfast.h>
#include <holdfast/maintain.h>
#include <holdfast/quota.h>
#include <holdfast/serve.h>

#include <errno.h>
#include <fcntl.h>
#include <linux/falloc.h>
#include <linux/userfaultfd.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <unistd.h>

#define VOLUME_SIZE (16u << 20)
#define NEVER_MS 1000000000u
#define RACE_WRITEBACK_MS 20u
#define CHUNK 65536

static struct {
    char path[80];
    unsigned nr_servers;
    struct hf_volume *volume;
    struct hf_server *server;
    struct hf_file *files[MP_FILES], *filler;
} back;

/* A forked worker starts a helper thread of its own, which ThreadSanitizer allows only if told so. */
const char *__tsan_default_options(void);
const char *__tsan_default_options(void)
{
    return "die_after_fork=0";
}

static void must(int64_t rc, const char *call)
{
    if (rc < 0)
        mp_fail(false, "%s: %d (%s); %s", call, (int)rc, strerror((int)-rc), hf_volume_error_text());
}

/* ------------------------------------------------------------------ the volume */

static void open_all(void)
{
    struct hf_open_options oo = {.page_size = mp_options.page_size,
                                 .writeback_ms = mp_options.race ? RACE_WRITEBACK_MS : NEVER_MS};
    char name[16];

    must(hf_volume_open(back.path, &oo, &back.volume), "hf_volume_open");
    for (unsigned i = 0; i < MP_FILES; i++) {
        snprintf(name, sizeof(name), "/f%u", i);
        must(hf_open(back.volume, name, O_RDWR | O_CREAT, 0644, &back.files[i]), "hf_open");
    }
    must(hf_open(back.volume, "/filler", O_RDWR | O_CREAT, 0644, &back.filler), "hf_open filler");
}

static void check_quota(void)
{
    struct hf_quota_check check;
    int rc = hf_quota_check(back.volume, &check);

    must(rc, "hf_quota_check");
    if (rc > 0)
        mp_fail(false, "quotas: type %d id %u is charged for %llu blocks, a scan finds %llu", (int)check.type,
                check.id, (unsigned long long)check.blocks_kept, (unsigned long long)check.blocks_found);
}

static void close_all(void)
{
    int rc;

    for (unsigned i = 0; i < MP_FILES; i++)
        must(hf_close(back.files[i]), "hf_close");
    must(hf_close(back.filler), "hf_close filler");
    check_quota();
    rc = hf_volume_close(back.volume);
    if (rc == -ENOTRECOVERABLE)
        mp_fail(false, "hf_volume_close: a reservation leaked (HOLD-8)");
    must(rc, "hf_volume_close");
}

/* What the data space has beyond a part of the files' capacity. */
static void add_ballast(void)
{
    uint64_t wanted = MP_FILES * (uint64_t)mp_shared->cap * mp_options.space_percent / 100;
    struct hf_file *file;
    struct hf_statfs sf;

    must(hf_volume_statfs(back.volume, &sf), "hf_volume_statfs");
    must(hf_open(back.volume, "/ballast", O_RDWR | O_CREAT, 0644, &file), "hf_open ballast");
    if (sf.blocks_free * sf.block_size > wanted)
        must(hf_fallocate(file, 0, 0, (hf_off_t)(sf.blocks_free * sf.block_size - wanted)),
             "hf_fallocate ballast");
    must(hf_close(file), "hf_close ballast");
    must(hf_volume_sync(back.volume), "hf_volume_sync");
}

static void serve(void)
{
    struct hf_serve_ticket ticket = {.token = {0}};

    _Static_assert(sizeof(ticket) <= MP_TICKET_LEN, "a ticket has its place");
    snprintf(ticket.socket, sizeof(ticket.socket), "%s.%u", back.path, back.nr_servers++);
    must(hf_server_new(back.volume, ticket.socket, NULL, &back.server), "hf_server_new");
    for (unsigned i = 0; i < MP_FILES; i++) {
        must(hf_server_grant(back.server, back.files[i], ticket.token), "hf_server_grant");
        memcpy(mp_shared->tickets[i], &ticket, sizeof(ticket));
    }
}

static void serve_no_more(void)
{
    for (unsigned i = 0; i < MP_FILES; i++)
        hf_server_revoke(back.server, back.files[i]);
    hf_server_free(back.server);
    back.server = NULL;
}

static bool processes_can_be_served(void)
{
    struct uffdio_api api = {.api = UFFD_API, .features = UFFD_FEATURE_MINOR_SHMEM | (1 << 12) | (1 << 14)};
    int fd = (int)syscall(SYS_userfaultfd, O_CLOEXEC | UFFD_USER_MODE_ONLY);
    bool can = fd >= 0 && ioctl(fd, UFFDIO_API, &api) == 0;

    if (fd >= 0)
        close(fd);
    return can;
}

void mp_back_create(void)
{
    struct hf_mkfs_options mo = {
        .size_bytes = VOLUME_SIZE, .block_size = mp_options.block_size, .force = true};

    if (!processes_can_be_served()) {
        puts("SKIP: no userfaultfd with UFFDIO_POISON (Linux 6.6) here");
        exit(77);
    }
    hf_test_skip_mkclean = mp_options.break_mkclean;
    snprintf(back.path, sizeof(back.path), "%s/hf-processes.%d.%llu", mp_options.dir, (int)getpid(),
             (unsigned long long)mp_options.seed);
    must(hf_mkfs(back.path, &mo), "hf_mkfs");
    open_all();
    add_ballast();
    serve();
}

static uint64_t blocks_of(const char *path)
{
    struct stat st;

    must(hf_stat(back.volume, path, &st), "hf_stat");
    return (uint64_t)st.st_blocks * 512 / mp_options.block_size;
}

static void check_space(void)
{
    uint64_t used =
        blocks_of("/ballast") + blocks_of("/filler") + blocks_of("/f0") + blocks_of("/f1") + blocks_of("/f2");
    struct hf_statfs sf;

    _Static_assert(MP_FILES == 3, "all files are counted");
    must(hf_volume_statfs(back.volume, &sf), "hf_volume_statfs");
    if (sf.blocks_reserved != 0 || sf.blocks - sf.blocks_free != used)
        mp_fail(false, "just opened: %llu blocks reserved, %llu used, but the files have %llu",
                (unsigned long long)sf.blocks_reserved, (unsigned long long)(sf.blocks - sf.blocks_free),
                (unsigned long long)used);
}

static void on_problem(void *arg, const struct hf_check_problem *problem)
{
    (void)arg;
    printf("check: %s: %s\n", problem->kind, problem->text);
}

static void check_volume(void)
{
    struct hf_check_options co = {.report = on_problem};
    struct hf_check_result result;

    must(hf_check(back.path, &co, &result), "hf_check");
    if (result.problems != 0)
        mp_fail(false, "hf_check: %llu problems", (unsigned long long)result.problems);
}

void mp_back_reopen(void)
{
    serve_no_more();
    close_all();
    if (!mp_options.must_fail)
        check_volume();
    open_all();
    if (!mp_options.must_fail)
        check_space();
    serve();
}

void mp_back_destroy(void)
{
    serve_no_more();
    close_all();
    if (!mp_options.must_fail)
        check_volume();
    if (!mp_options.keep)
        unlink(back.path);
}

void mp_back_remove(void)
{
    char socket[300];

    snprintf(socket, sizeof(socket), "%s.%u", back.path, back.nr_servers - 1);
    unlink(socket);
    unlink(back.path);
}

bool mp_back_serve_no_more(void)
{
    serve_no_more();
    return true;
}

void mp_back_serve_again(void)
{
    serve();
}

/* ------------------------------------------------------------------ calls */

int64_t mp_back_pread(unsigned file, void *buf, size_t len, int64_t off)
{
    return hf_pread(back.files[file], buf, len, off);
}

int64_t mp_back_pwrite(unsigned file, const void *buf, size_t len, int64_t off)
{
    return hf_pwrite(back.files[file], buf, len, off);
}

int mp_back_truncate(unsigned file, int64_t size)
{
    return hf_ftruncate(back.files[file], size);
}

int mp_back_punch(unsigned file, int64_t off, int64_t len)
{
    return hf_fallocate(back.files[file], FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE, off, len);
}

int mp_back_allocate(unsigned file, int64_t off, int64_t len)
{
    return hf_fallocate(back.files[file], 0, off, len);
}

int mp_back_fsync(unsigned file)
{
    return hf_fsync(back.files[file]);
}

int mp_back_sync(void)
{
    return hf_volume_sync(back.volume);
}

int64_t mp_back_size(unsigned file)
{
    struct stat st;

    must(hf_fstat(back.files[file], &st), "hf_fstat");
    return st.st_size;
}

void mp_back_fill(int64_t size)
{
    static const uint8_t chunk[CHUNK];
    int64_t off = 0, n = 1;

    must(hf_ftruncate(back.filler, 0), "hf_ftruncate filler");
    for (; off < size && n > 0; off += n) {
        n = hf_pwrite(back.filler, chunk, (size_t)(size - off < CHUNK ? size - off : CHUNK), off);
        if (n == -ENOSPC)
            return;
        must(n, "hf_pwrite filler");
    }
}

bool mp_back_space(struct mp_space *ret_space)
{
    struct hf_statfs sf;

    must(hf_volume_statfs(back.volume, &sf), "hf_volume_statfs");
    *ret_space = (struct mp_space){.free = sf.blocks_free, .reserved = sf.blocks_reserved};
    return true;
}

uint64_t mp_back_need(unsigned file, int64_t off, int64_t end, bool pages)
{
    int64_t hw = sysconf(_SC_PAGESIZE), p = mp_options.page_size, b = mp_options.block_size, size;
    uint64_t need = 0;

    size = mp_back_size(file);
    if (pages) {
        off &= -hw;
        end = (end + hw - 1) & -hw;
        if (end > size)
            end = size;
    }
    for (int64_t at = off & -b; at < end; at += b) {
        struct hf_page_info info;
        int n = at < size ? hf_page_map(back.files[file], (uint64_t)(at / p), 1, &info) : 0;
        unsigned state = n > 0 ? info.block_state[at % p / b] : (unsigned)HF_BLOCK_HOLE;

        must(n, "hf_page_map");
        need += state == HF_BLOCK_HOLE || state == HF_BLOCK_BEYOND;
    }
    return need;
}

/* ------------------------------------------------------------------ in a worker */

void mp_map_init(const char *dir)
{
    (void)dir;
    pthread_atfork(hf_remote_fork_prepare, hf_remote_fork_parent, hf_remote_fork_child);
}

int mp_map(unsigned file, int64_t off, size_t len, int prot, void **ret_addr)
{
    struct hf_serve_ticket ticket;

    memcpy(&ticket, mp_shared->tickets[file], sizeof(ticket));
    return hf_remote_map(&ticket, "a file", NULL, len, prot, MAP_SHARED, off, ret_addr);
}

int mp_unmap(void *addr, size_t len)
{
    int err = hf_remote_release(addr, len);

    return err ? err : munmap(addr, len) < 0 ? -errno : 0;
}

int mp_remap(void *addr, size_t old_len, size_t new_len, void **ret_addr)
{
    return hf_remote_remap(addr, old_len, new_len, MREMAP_MAYMOVE, NULL, ret_addr);
}

int mp_protect(void *addr, size_t len, int prot)
{
    int err = hf_remote_protect(addr, len, prot);

    return err ? err : mprotect(addr, len, prot) < 0 ? -errno : 0;
}

int mp_msync(void *addr, size_t len)
{
    return hf_remote_sync(addr, len);
}

int mp_map_fault(void *addr, bool write)
{
    struct hf_fault fault = {.error = 0};
    int err = hf_remote_sigbus(addr, write, &fault);

    return err == 1 ? -EFAULT : err;
}
