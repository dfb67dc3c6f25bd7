/* SPDX-License-Identifier: MIT */
/*
 * run_check.c - can a library be preloaded into this program? Not into a static one, nor into one that runs
 * as somebody else than who starts it: the dynamic linker would ignore it, and stores would not be kept as
 * promised.
 */
#include "cli.h"
#ifdef HF_HAVE_FUSE
#include "run.h"
#include <elf.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/stat.h>
#include <sys/statvfs.h>
#include <sys/xattr.h>
#include <unistd.h>

#define SCRIPTS_MAX 5 /* as the kernel follows them */

static bool executable(const char *path)
{
    struct stat st;

    return stat(path, &st) == 0 && S_ISREG(st.st_mode) && access(path, X_OK) == 0;
}

/* Where execvp(3) would find it. */
static bool find_program(const char *name, char ret_path[PATH_MAX])
{
    const char *dirs = getenv("PATH");

    if (strchr(name, '/') != NULL) {
        snprintf(ret_path, PATH_MAX, "%s", name);
        return executable(ret_path);
    }
    for (const char *at = dirs != NULL ? dirs : "/usr/bin:/bin"; *at != '\0';) {
        size_t len = strcspn(at, ":");

        snprintf(ret_path, PATH_MAX, "%.*s/%s", (int)len, len > 0 ? at : ".", name);
        if (executable(ret_path))
            return true;
        at += len + (at[len] == ':');
    }
    return false;
}

/* 1: has a dynamic linker; 0: has none; -1: cannot be told. */
static int is_dynamic(int fd)
{
    Elf64_Ehdr ehdr;
    Elf64_Phdr phdr;

    if (pread(fd, &ehdr, sizeof(ehdr), 0) != (ssize_t)sizeof(ehdr) ||
        memcmp(ehdr.e_ident, ELFMAG, SELFMAG) != 0 || ehdr.e_ident[EI_CLASS] != ELFCLASS64 ||
        ehdr.e_phentsize != sizeof(phdr))
        return -1;
    for (unsigned i = 0; i < ehdr.e_phnum; i++) {
        if (pread(fd, &phdr, sizeof(phdr), (off_t)(ehdr.e_phoff + i * sizeof(phdr))) != (ssize_t)sizeof(phdr))
            return -1;
        if (phdr.p_type == PT_INTERP)
            return 1;
    }
    return 0;
}

/* The program that a script names in its first line; false: no script. */
static bool script_program(int fd, char ret_path[PATH_MAX])
{
    char line[256] = "";
    ssize_t n = pread(fd, line, sizeof(line) - 1, 0);
    char *at = line + 2;

    if (n < 3 || line[0] != '#' || line[1] != '!')
        return false;
    at += strspn(at, " \t");
    at[strcspn(at, " \t\n")] = '\0';
    snprintf(ret_path, PATH_MAX, "%s", at);
    return true;
}

/* What execve(2) would load: the file, or the program that its first line names, and so on. -1: not readable. */
static int open_program(const char *path)
{
    char next[PATH_MAX];
    int fd = open(path, O_RDONLY | O_CLOEXEC), other;

    for (int i = 0; i < SCRIPTS_MAX && fd >= 0 && script_program(fd, next); i++) {
        other = open(next, O_RDONLY | O_CLOEXEC);
        if (other < 0)
            break;
        close(fd);
        fd = other;
    }
    return fd;
}

/* Would the kernel give the program an identity or capabilities that we have not, so that its dynamic linker
 * preloads nothing? */
static bool gains_privilege(int fd)
{
    struct statvfs fs;
    struct stat st;

    if (fstat(fd, &st) < 0 || fstatvfs(fd, &fs) < 0 || (fs.f_flag & ST_NOSUID) ||
        prctl(PR_GET_NO_NEW_PRIVS, 0, 0, 0, 0) == 1)
        return false;
    return ((st.st_mode & S_ISUID) && st.st_uid != geteuid()) ||
           ((st.st_mode & S_ISGID) && (st.st_mode & S_IXGRP) && st.st_gid != getegid()) ||
           (getuid() != 0 && fgetxattr(fd, "security.capability", NULL, 0) > 0);
}

int hf_run_check(const char *name)
{
    char path[PATH_MAX];
    bool privilege;
    int fd, dynamic;

    if (!find_program(name, path)) {
        if (strchr(name, '/') != NULL) /* execve(2) knows why not */
            return HF_CLI_OK;
        hf_cli_fail(strerror(ENOENT), NULL, "cannot run %s", name);
        return HF_RUN_NOT_FOUND;
    }
    fd = open_program(path);
    if (fd < 0) /* may be run and not be read: what it stores says whether it worked (run_serve.c) */
        return HF_CLI_OK;
    dynamic = is_dynamic(fd);
    privilege = gains_privilege(fd);
    close(fd);
    if (dynamic == 0)
        return hf_cli_fail("it is statically linked, so nothing can be preloaded into it",
                           "use 'holdfast mount', whose promises need no preloading", "cannot run %s", name);
    if (privilege)
        return hf_cli_fail("it changes its user, group or capabilities, and the system preloads nothing into "
                           "such programs",
                           "use 'holdfast mount', whose promises need no preloading", "cannot run %s", name);
    return HF_CLI_OK;
}
#endif
