/* SPDX-License-Identifier: MIT */
/*
 * doctor_mount.c - for holdfast doctor: FUSE and namespaces, as this user can have them.
 */
#include "doctor.h"
#include "namespace.h"
#include <dlfcn.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

static bool look_at_device(struct hf_doctor *d)
{
    char why[HF_NAMESPACE_TEXT], fix[HF_NAMESPACE_TEXT];
    struct hf_finding *f;

    if (hf_namespace_device(why, fix)) {
        hf_doctor_add(d, "/dev/fuse", HF_VERDICT_OK, "can be opened");
        return true;
    }
    f = hf_doctor_add(d, "/dev/fuse", HF_VERDICT_MISSING, "%s", why + strlen("/dev/fuse: "));
    hf_doctor_fix(f, "%s", fix);
    return false;
}

static bool look_at_helper(struct hf_doctor *d)
{
    char path[4096], why[HF_NAMESPACE_TEXT], fix[HF_NAMESPACE_TEXT];
    bool privileged = hf_namespace_privileged();
    struct hf_finding *f;

    if (hf_namespace_helper(path, sizeof(path), why, fix)) {
        hf_doctor_add(d, "fusermount3", HF_VERDICT_OK, "%.120s", path);
        return true;
    }
    f = hf_doctor_add(d, "fusermount3", privileged ? HF_VERDICT_NOTE : HF_VERDICT_MISSING, "%s%s", why,
                      privileged ? "; root can do without" : "");
    hf_doctor_fix(f, "%s", fix);
    return privileged;
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

#ifdef HF_HAVE_FUSE
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
#else
static bool look_at_library(struct hf_doctor *d)
{
    struct hf_finding *f =
        hf_doctor_add(d, "libfuse", HF_VERDICT_MISSING, "this holdfast was built without it");

    hf_doctor_fix(f, "as root: apt-get install libfuse3-dev fuse3, then build again");
    return false;
}
#endif

/* ---------------------------------------------------------------- namespaces */

/* Mounts FUSE in namespaces, in a child. False: what was refused. */
static bool try_namespaces(bool device, char ret_why[HF_NAMESPACE_TEXT])
{
    int ends[2];
    ssize_t n;
    pid_t pid;

    fflush(stdout); /* the child must not print it again */
    snprintf(ret_why, HF_NAMESPACE_TEXT, "no process can be started");
    if (pipe(ends) < 0)
        return false;
    pid = fork();
    if (pid == 0) {
        ret_why[0] = '\0';
        if (hf_namespace_enter(ret_why) == 0 && device)
            hf_namespace_try_fuse("/", ret_why);
        _exit(write(ends[1], ret_why, strlen(ret_why) + 1) < 0);
    }
    close(ends[1]);
    n = pid < 0 ? -1 : read(ends[0], ret_why, HF_NAMESPACE_TEXT);
    close(ends[0]);
    if (pid > 0)
        waitpid(pid, NULL, 0);
    return n > 0 && ret_why[0] == '\0';
}

static bool look_at_namespaces(struct hf_doctor *d, bool device)
{
    char why[HF_NAMESPACE_TEXT];
    struct hf_finding *f;

    if (try_namespaces(device, why)) {
        hf_doctor_add(d, "namespaces", HF_VERDICT_OK, "user and mount namespaces can be made%s",
                      device ? ", and FUSE mounted there" : "");
        return true;
    }
    f = hf_doctor_add(d, "namespaces", HF_VERDICT_NOTE, "%s", why);
    hf_doctor_fix(f, "%s", hf_namespace_fix());
    return false;
}

void hf_doctor_mount(struct hf_doctor *d)
{
    bool device, helper, library, namespaces;

    d->section = "FUSE";
    device = look_at_device(d);
    helper = look_at_helper(d);
    library = look_at_library(d);
    look_at_others(d);
    namespaces = look_at_namespaces(d, device);
    d->features.mount = device && helper && library;
    d->features.run = device && (helper || namespaces) && library;
}
