/* SPDX-License-Identifier: MIT */
/*
 * doctor_mount.c - for holdfast doctor: FUSE and namespaces, as this user can have them.
 */
#include "doctor.h"
#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <sched.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

/* The program's path by PATH, in buf. */
static bool find_program(const char *name, char *buf, size_t size)
{
    const char *path = getenv("PATH"), *end;

    for (path = path && *path ? path : "/usr/bin:/bin"; path; path = *end ? end + 1 : NULL) {
        end = strchrnul(path, ':');
        snprintf(buf, size, "%.*s/%s", (int)(end - path), path, name);
        if (access(buf, X_OK) == 0)
            return true;
    }
    return false;
}

static bool look_at_device(struct hf_doctor *d)
{
    int fd = open("/dev/fuse", O_RDWR | O_CLOEXEC);
    int error = fd < 0 ? errno : 0;
    struct hf_finding *f;

    if (fd >= 0) {
        close(fd);
        hf_doctor_add(d, "/dev/fuse", HF_VERDICT_OK, "can be opened");
        return true;
    }
    f = hf_doctor_add(d, "/dev/fuse", HF_VERDICT_MISSING, "%s", strerror(error));
    if (error == EACCES)
        hf_doctor_fix(f, "as root: chmod 0666 /dev/fuse");
    else if (error == EPERM)
        hf_doctor_fix(f, "let the sandbox have it: docker run --device /dev/fuse");
    else
        hf_doctor_fix(f, "as root: modprobe fuse; for a container: docker run --device /dev/fuse");
    return false;
}

static bool look_at_helper(struct hf_doctor *d)
{
    enum hf_verdict otherwise = geteuid() == 0 ? HF_VERDICT_NOTE : HF_VERDICT_MISSING;
    struct hf_finding *f;
    struct stat st;
    char path[4096];

    if (!find_program("fusermount3", path, sizeof(path)) || stat(path, &st) != 0) {
        f = hf_doctor_add(d, "fusermount3", otherwise, "is not there%s",
                          geteuid() == 0 ? "; root can do without" : "");
        hf_doctor_fix(f, "as root: apt-get install fuse3");
        return geteuid() == 0;
    }
    if (geteuid() != 0 && !(st.st_uid == 0 && (st.st_mode & S_ISUID))) {
        f = hf_doctor_add(d, "fusermount3", otherwise, "%.120s is not setuid root", path);
        hf_doctor_fix(f, "as root: chmod u+s %.120s", path);
        return false;
    }
    hf_doctor_add(d, "fusermount3", HF_VERDICT_OK, "%.120s", path);
    return true;
}

static bool conf_allows_other(void)
{
    FILE *conf = fopen("/etc/fuse.conf", "re");
    char line[256];
    bool found = false;

    while (conf && !found && fgets(line, sizeof(line), conf)) {
        size_t blanks = strspn(line, " \t"), len = strlen("user_allow_other");

        found = strncmp(line + blanks, "user_allow_other", len) == 0 && strchr(" \t\n", line[blanks + len]);
    }
    if (conf)
        fclose(conf);
    return found;
}

static void look_at_others(struct hf_doctor *d)
{
    bool allowed = conf_allows_other();
    struct hf_finding *f;

    if (geteuid() == 0 || allowed) {
        hf_doctor_add(d, "allow_other", HF_VERDICT_OK, allowed ? "every user may use it" : "root may use it");
        return;
    }
    f = hf_doctor_add(d, "allow_other", HF_VERDICT_NOTE, "a mount of this user is this user's only");
    hf_doctor_fix(f, "as root: echo user_allow_other >>/etc/fuse.conf");
}

static bool look_at_library(struct hf_doctor *d)
{
    static const char *const names[] = {"libfuse3.so.3", "libfuse3.so.4"};
    const char *(*version)(void);
    struct hf_finding *f;
    void *library = NULL, *symbol;

    for (unsigned i = 0; i < 2 && !library; i++)
        library = dlopen(names[i], RTLD_LAZY | RTLD_LOCAL);
    symbol = library ? dlsym(library, "fuse_pkgversion") : NULL;
    if (!symbol) {
        f = hf_doctor_add(d, "libfuse", HF_VERDICT_MISSING, "version 3 is not there");
        hf_doctor_fix(f, "as root: apt-get install libfuse3-dev, then build again");
        return false;
    }
    memcpy(&version, &symbol, sizeof(version));
    hf_doctor_add(d, "libfuse", HF_VERDICT_OK, "%.40s", version());
    dlclose(library);
    return true;
}

/* ---------------------------------------------------------------- namespaces */

/* Makes a user and a mount namespace in a child. Returns 0 or an errno. */
static int try_namespaces(void)
{
    int status;
    pid_t pid;

    fflush(stdout); /* the child must not print it again */
    pid = fork();
    if (pid == 0)
        _exit(unshare(CLONE_NEWUSER | CLONE_NEWNS) == 0 ? 0 : errno);
    if (pid < 0 || waitpid(pid, &status, 0) != pid)
        return errno;
    return WIFEXITED(status) ? WEXITSTATUS(status) : EPERM;
}

static void look_at_namespaces(struct hf_doctor *d)
{
    int error = try_namespaces();
    struct hf_finding *f;

    if (!error) {
        hf_doctor_add(d, "namespaces", HF_VERDICT_OK, "user and mount namespaces can be made");
        return;
    }
    f = hf_doctor_add(d, "namespaces", HF_VERDICT_NOTE, "user namespaces are refused: %s", strerror(error));
    if (hf_doctor_read_number("/proc/sys/kernel/unprivileged_userns_clone", 1) == 0)
        hf_doctor_fix(f, "as root: sysctl kernel.unprivileged_userns_clone=1");
    else if (hf_doctor_read_number("/proc/sys/kernel/apparmor_restrict_unprivileged_userns", 0) == 1)
        hf_doctor_fix(f, "as root: sysctl kernel.apparmor_restrict_unprivileged_userns=0");
    else if (hf_doctor_read_number("/proc/sys/user/max_user_namespaces", 1) == 0)
        hf_doctor_fix(f, "as root: sysctl user.max_user_namespaces=15000");
    else
        hf_doctor_fix(f, "allow unshare in the sandbox; not needed where fusermount3 works");
}

void hf_doctor_mount(struct hf_doctor *d)
{
    bool device, helper, library;

    d->section = "FUSE";
    device = look_at_device(d);
    helper = look_at_helper(d);
    library = look_at_library(d);
    look_at_others(d);
    d->features.mount = device && helper && library;
    look_at_namespaces(d);
}
