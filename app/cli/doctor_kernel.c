/* SPDX-License-Identifier: MIT */
/*
 * doctor_kernel.c - for holdfast doctor: kernel, fault engines, memory, limits, SQLite.
 */
#include "doctor.h"
#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/resource.h>
#include <sys/utsname.h>
#include <unistd.h>

#define NOFILE_FEW 1024
#define MAP_COUNT_FEW 65530

/* Linux MAJOR.MINOR or later? */
static bool kernel_at_least(const char *release, int major, int minor)
{
    int have_major = 0, have_minor = 0;

    if (sscanf(release, "%d.%d", &have_major, &have_minor) != 2)
        return false;
    return have_major > major || (have_major == major && have_minor >= minor);
}

static void look_at_kernel(struct hf_doctor *d)
{
    struct utsname kernel;
    struct hf_finding *f;
    long page = sysconf(_SC_PAGESIZE);
    bool newest;

    uname(&kernel);
    newest = kernel_at_least(kernel.release, 6, 6);
    f = hf_doctor_add(d, "kernel", newest ? HF_VERDICT_OK : HF_VERDICT_NOTE, "%s %s, %s", kernel.sysname,
                      kernel.release, kernel.machine);
    if (!newest)
        hf_doctor_fix(f, "Linux 6.4 or later for the inline engine, 6.6 for the thread engine");
    if (page > (long)HF_PAGE_SIZE_MAX)
        hf_doctor_add(d, "hardware page", HF_VERDICT_BROKEN, "%ld bytes; 65536 at most", page);
    else
        hf_doctor_add(d, "hardware page", HF_VERDICT_OK, "%ld bytes", page);
}

/* ---------------------------------------------------------------- engines */

static void fix_inline(struct hf_finding *f, int error)
{
    if (error == -ENOSYS)
        hf_doctor_fix(f, "a kernel with CONFIG_USERFAULTFD");
    else if (error == -EOPNOTSUPP)
        hf_doctor_fix(f, "Linux 6.4 or later");
    else
        hf_doctor_fix(f,
                      "allow userfaultfd in the sandbox, as docker run --security-opt seccomp=PROFILE does");
}

static void fix_thread(struct hf_finding *f, int error)
{
    if (error == -ENOSYS)
        hf_doctor_fix(f, "a kernel with CONFIG_USERFAULTFD");
    else if (error == -EOPNOTSUPP)
        hf_doctor_fix(f, "Linux 6.6 or later");
    else
        hf_doctor_fix(f, "as root: sysctl vm.unprivileged_userfaultfd=1, or access to /dev/userfaultfd");
}

static void look_at_access(struct hf_doctor *d)
{
    long long sysctl = hf_doctor_read_number("/proc/sys/vm/unprivileged_userfaultfd", -1);
    int fd = open("/dev/userfaultfd", O_RDWR | O_CLOEXEC);
    int error = fd < 0 ? errno : 0;

    if (fd >= 0)
        close(fd);
    hf_doctor_add(d, "userfaultfd", HF_VERDICT_OK, "vm.unprivileged_userfaultfd=%s, /dev/userfaultfd %s",
                  sysctl < 0 ? "?"
                  : sysctl   ? "1"
                             : "0",
                  !error            ? "can be opened"
                  : error == ENOENT ? "is not there"
                                    : "cannot be opened");
}

static void look_at_engines(struct hf_doctor *d)
{
    const char *why = "", *chosen = hf_engine_name();
    struct hf_finding *f;
    int error = hf_engine_probe("inline", &why);

    d->section = "Engines";
    look_at_access(d);
    d->features.inline_ = error == 0 && strcmp(chosen, "mprotect") != 0;
    f = hf_doctor_add(d, "inline", error ? HF_VERDICT_MISSING : HF_VERDICT_OK, "%s", why);
    if (error)
        fix_inline(f, error);
    error = hf_engine_probe("thread", &why);
    d->features.syscalls = error == 0 && strcmp(chosen, "mprotect") != 0;
    f = hf_doctor_add(d, "thread", error ? HF_VERDICT_MISSING : HF_VERDICT_OK, "%s", why);
    if (error)
        fix_thread(f, error);
    hf_engine_probe("mprotect", &why);
    hf_doctor_add(d, "mprotect", HF_VERDICT_OK, "%s", why);
    f = hf_doctor_add(d, "default", strcmp(chosen, "inline") != 0 ? HF_VERDICT_NOTE : HF_VERDICT_OK, "%s",
                      chosen);
    if (getenv("HF_ENGINE") && strcmp(chosen, getenv("HF_ENGINE")) == 0)
        hf_doctor_fix(f, "HF_ENGINE=%s says so: unset HF_ENGINE", chosen);
}

/* ---------------------------------------------------------------- memory */

/* The least memory.max from this process's cgroup (version 2) to the root; 0: no limit, or not known. */
static uint64_t cgroup_limit(void)
{
    char path[1024] = "/sys/fs/cgroup", text[512], *slash;
    uint64_t least = 0;

    if (!hf_doctor_read("/proc/self/cgroup", text, sizeof(text)) || strncmp(text, "0::", 3) != 0)
        return 0;
    strncat(path, text + 3, sizeof(path) - strlen(path) - 1);
    do {
        char file[1100];
        long long max;

        snprintf(file, sizeof(file), "%s/memory.max", path);
        max = hf_doctor_read_number(file, 0); /* "max" is no number */
        if (max > 0 && (least == 0 || (uint64_t)max < least))
            least = (uint64_t)max;
        slash = strrchr(path, '/');
        *slash = '\0';
    } while (strlen(path) >= strlen("/sys/fs/cgroup"));
    return least;
}

static void look_at_memfd(struct hf_doctor *d)
{
    int fd = memfd_create("holdfast-doctor", MFD_CLOEXEC);
    struct hf_finding *f;

    d->features.volumes = fd >= 0;
    if (fd >= 0) {
        hf_doctor_add(d, "memfd", HF_VERDICT_OK, "can be made");
        close(fd);
        return;
    }
    f = hf_doctor_add(d, "memfd", HF_VERDICT_BROKEN, "refused: %s", strerror(errno));
    if (hf_doctor_read_number("/proc/sys/vm/memfd_noexec", 0) >= 2)
        hf_doctor_fix(f, "as root: sysctl vm.memfd_noexec=1");
    else
        hf_doctor_fix(f, "allow memfd_create in the sandbox");
}

static void look_at_cache(struct hf_doctor *d)
{
    uint64_t ram = (uint64_t)sysconf(_SC_PHYS_PAGES) * (uint64_t)sysconf(_SC_PAGESIZE);
    uint64_t limit = cgroup_limit();
    char ram_text[HF_CLI_SIZE_LEN], limit_text[HF_CLI_SIZE_LEN];
    struct hf_finding *f;

    hf_cli_size_format(ram, ram_text);
    if (!limit || limit >= ram) {
        hf_doctor_add(d, "memory", HF_VERDICT_OK, "%s, of which a volume caches an eighth", ram_text);
        return;
    }
    hf_cli_size_format(limit, limit_text);
    f = hf_doctor_add(d, "memory", limit < ram / 4 ? HF_VERDICT_NOTE : HF_VERDICT_OK,
                      "%s, this process's cgroup %s", ram_text, limit_text);
    if (limit < ram / 4)
        hf_doctor_fix(f, "hf_open_options.cache_bytes below half of the cgroup's limit");
}

static void look_at_huge_pages(struct hf_doctor *d)
{
    char text[128];
    struct hf_finding *f;
    bool forced;

    if (!hf_doctor_read("/sys/kernel/mm/transparent_hugepage/shmem_enabled", text, sizeof(text))) {
        hf_doctor_add(d, "huge pages", HF_VERDICT_OK, "none for shared memory");
        return;
    }
    forced = strstr(text, "[always]") || strstr(text, "[force]") || strstr(text, "[within_size]");
    f = hf_doctor_add(d, "huge pages", forced ? HF_VERDICT_NOTE : HF_VERDICT_OK, "for shared memory: %s",
                      text);
    if (forced)
        hf_doctor_fix(f, "as root: echo never >/sys/kernel/mm/transparent_hugepage/shmem_enabled");
}

/* ---------------------------------------------------------------- limits */

static void limit_text(rlim_t limit, char *buf, size_t size)
{
    if (limit == RLIM_INFINITY)
        snprintf(buf, size, "unlimited");
    else
        snprintf(buf, size, "%" PRIu64, (uint64_t)limit);
}

static void look_at_limits(struct hf_doctor *d)
{
    struct rlimit limit = {0};
    struct hf_finding *f;
    char soft[32], hard[32];
    long long maps = hf_doctor_read_number("/proc/sys/vm/max_map_count", 0);
    bool by_mprotect = strcmp(hf_engine_name(), "mprotect") == 0;

    d->section = "Limits";
    getrlimit(RLIMIT_NOFILE, &limit);
    limit_text(limit.rlim_cur, soft, sizeof(soft));
    limit_text(limit.rlim_max, hard, sizeof(hard));
    f = hf_doctor_add(d, "open files", limit.rlim_cur < NOFILE_FEW ? HF_VERDICT_NOTE : HF_VERDICT_OK,
                      "%s (hard: %s); a file whose pages are cached takes one", soft, hard);
    if (limit.rlim_cur < NOFILE_FEW)
        hf_doctor_fix(f, "ulimit -n %s", limit.rlim_max > NOFILE_FEW ? hard : "65536, as root");
    getrlimit(RLIMIT_FSIZE, &limit);
    limit_text(limit.rlim_cur, soft, sizeof(soft));
    f = hf_doctor_add(d, "file size", limit.rlim_cur != RLIM_INFINITY ? HF_VERDICT_NOTE : HF_VERDICT_OK,
                      "%s%s", soft,
                      limit.rlim_cur != RLIM_INFINITY ? " bytes, for volumes and for files in them" : "");
    if (limit.rlim_cur != RLIM_INFINITY)
        hf_doctor_fix(f, "ulimit -f unlimited");
    getrlimit(RLIMIT_MEMLOCK, &limit);
    limit_text(limit.rlim_cur, soft, sizeof(soft));
    hf_doctor_add(d, "locked memory", HF_VERDICT_OK, "%s bytes; Holdfast locks none", soft);
    f = hf_doctor_add(d, "mappings", maps < MAP_COUNT_FEW && by_mprotect ? HF_VERDICT_NOTE : HF_VERDICT_OK,
                      "vm.max_map_count=%lld%s", maps,
                      by_mprotect ? "; the mprotect engine takes one for each run of stored pages" : "");
    if (f->verdict == HF_VERDICT_NOTE)
        hf_doctor_fix(f, "as root: sysctl vm.max_map_count=262144");
}

/* The library is linked with it; a frontend is not, so it asks the running program. */
static void look_at_sqlite(struct hf_doctor *d)
{
    const char *(*version)(void) = NULL;
    void *symbol = dlsym(RTLD_DEFAULT, "sqlite3_libversion");

    memcpy(&version, &symbol, sizeof(version));
    d->section = "Libraries";
    hf_doctor_add(d, "SQLite", HF_VERDICT_OK, "%s", version ? version() : "built in");
}

void hf_doctor_kernel(struct hf_doctor *d)
{
    d->section = "Kernel";
    look_at_kernel(d);
    look_at_engines(d);
    d->section = "Memory";
    look_at_memfd(d);
    look_at_cache(d);
    look_at_huge_pages(d);
    look_at_limits(d);
    look_at_sqlite(d);
}
