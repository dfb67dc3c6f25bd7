/* SPDX-License-Identifier: MIT */
/*
 * namespace.c - FUSE without privileges (namespace.h), and what stands in its way.
 *
 * The kernel lets the first user of a user namespace mount FUSE there (Linux 4.18), with a connection opened
 * there, too. Ids are mapped to themselves, one user and one group: more needs privilege. Nothing outside of
 * the namespace sees the mount.
 */
#include "namespace.h"
#include "cli.h"
#include "doctor.h"
#include <errno.h>
#include <fcntl.h>
#include <linux/capability.h>
#include <sched.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mount.h>
#include <sys/prctl.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>

HF_PRINTF(3, 4) static int refused(char *ret_why, int error, const char *format, ...)
{
    char what[HF_NAMESPACE_TEXT / 2];
    va_list args;

    va_start(args, format);
    vsnprintf(what, sizeof(what), format, args);
    va_end(args);
    snprintf(ret_why, HF_NAMESPACE_TEXT, "%s: %s", what, strerror(error));
    return -error;
}

/* ------------------------------------------------------------------ entering */

static int write_proc(const char *path, const char *text, char *ret_why)
{
    int fd = open(path, O_WRONLY | O_CLOEXEC), error = 0;

    if (fd < 0)
        return refused(ret_why, errno, "%s", path);
    if (write(fd, text, strlen(text)) < 0)
        error = refused(ret_why, errno, "%s", path);
    close(fd);
    return error;
}

/* Of what a new namespace gives, mounting is all that is wanted: files shall be opened, or not, as outside.
 * And exec shall give nothing, not even to the user 0 of the namespace. */
static int keep_mounting(void)
{
    struct __user_cap_header_struct header = {.version = _LINUX_CAPABILITY_VERSION_3};
    const uint32_t low = 1u << CAP_SYS_ADMIN;
    const struct __user_cap_data_struct data[2] = {{.effective = low, .permitted = low}};

    for (unsigned long capability = 0; prctl(PR_CAPBSET_DROP, capability, 0, 0, 0) == 0;)
        capability++; /* until the kernel knows no more of them */
    return syscall(SYS_capset, &header, data) < 0 ? -errno : 0;
}

int hf_namespace_enter(char ret_why[HF_NAMESPACE_TEXT])
{
    char users[64], groups[64];
    int r;

    snprintf(users, sizeof(users), "%u %u 1", (unsigned)geteuid(), (unsigned)geteuid());
    snprintf(groups, sizeof(groups), "%u %u 1", (unsigned)getegid(), (unsigned)getegid());
    if (unshare(CLONE_NEWUSER | CLONE_NEWNS) < 0)
        return refused(ret_why, errno, "a user namespace");
    r = write_proc("/proc/self/setgroups", "deny", ret_why);
    if (r == 0)
        r = write_proc("/proc/self/uid_map", users, ret_why);
    if (r == 0)
        r = write_proc("/proc/self/gid_map", groups, ret_why);
    /* what is mounted here stays here; what goes outside, goes here, too */
    if (r == 0 && mount(NULL, "/", NULL, MS_REC | MS_SLAVE, NULL) < 0)
        r = refused(ret_why, errno, "mounting in a user namespace");
    if (r == 0 && keep_mounting() < 0)
        r = refused(ret_why, errno, "giving up capabilities");
    return r;
}

bool hf_namespace_privileged(void)
{
    struct __user_cap_header_struct header = {.version = _LINUX_CAPABILITY_VERSION_3};
    struct __user_cap_data_struct data[2] = {{0}};

    return syscall(SYS_capget, &header, data) == 0 && (data[0].effective & (1u << CAP_SYS_ADMIN)) != 0;
}

bool hf_namespace_device(char ret_why[HF_NAMESPACE_TEXT], char ret_fix[HF_NAMESPACE_TEXT])
{
    int fd = open("/dev/fuse", O_RDWR | O_CLOEXEC);
    const char *fix = "as root: modprobe fuse; for a container: docker run --device /dev/fuse";

    ret_why[0] = ret_fix[0] = '\0';
    if (fd >= 0) {
        close(fd);
        return true;
    }
    if (errno == EACCES)
        fix = "as root: chmod 0666 /dev/fuse";
    else if (errno == EPERM)
        fix = "let the sandbox have it: docker run --device /dev/fuse";
    refused(ret_why, errno, "/dev/fuse");
    snprintf(ret_fix, HF_NAMESPACE_TEXT, "%s", fix);
    return false;
}

int hf_namespace_try_fuse(const char *directory, char ret_why[HF_NAMESPACE_TEXT])
{
    int fd = open("/dev/fuse", O_RDWR | O_CLOEXEC), r = 0;
    char options[128];

    if (fd < 0)
        return refused(ret_why, errno, "/dev/fuse");
    snprintf(options, sizeof(options), "fd=%d,rootmode=40000,user_id=%u,group_id=%u", fd, (unsigned)getuid(),
             (unsigned)getgid());
    if (mount("holdfast", directory, "fuse", MS_NOSUID | MS_NODEV, options) < 0)
        r = refused(ret_why, errno, "mounting FUSE on %.60s", directory);
    else
        umount2(directory, MNT_DETACH);
    close(fd);
    return r;
}

const char *hf_namespace_fix(void)
{
    if (hf_doctor_read_number("/proc/sys/kernel/unprivileged_userns_clone", 1) == 0)
        return "as root: sysctl kernel.unprivileged_userns_clone=1";
    if (hf_doctor_read_number("/proc/sys/kernel/apparmor_restrict_unprivileged_userns", 0) != 0)
        return "as root: sysctl kernel.apparmor_restrict_unprivileged_userns=0";
    if (hf_doctor_read_number("/proc/sys/user/max_user_namespaces", 1) == 0)
        return "as root: sysctl user.max_user_namespaces=15000";
    return "allow unshare and mount in the sandbox; not needed where fusermount3 works";
}

/* ------------------------------------------------------------------ fusermount3 */

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
    buf[0] = '\0';
    return false;
}

bool hf_namespace_helper(char *ret_path, size_t size, char ret_why[HF_NAMESPACE_TEXT],
                         char ret_fix[HF_NAMESPACE_TEXT])
{
    struct stat st;

    ret_why[0] = ret_fix[0] = '\0';
    if (!find_program("fusermount3", ret_path, size) || stat(ret_path, &st) != 0) {
        snprintf(ret_why, HF_NAMESPACE_TEXT, "is not there");
        snprintf(ret_fix, HF_NAMESPACE_TEXT, "as root: apt-get install fuse3");
        return false;
    }
    if (hf_namespace_privileged())
        return true;
    if (st.st_uid != 0 || !(st.st_mode & S_ISUID)) {
        snprintf(ret_why, HF_NAMESPACE_TEXT, "%.120s is not setuid root", ret_path);
        snprintf(ret_fix, HF_NAMESPACE_TEXT, "as root: chmod u+s %.120s", ret_path);
        return false;
    }
    if (prctl(PR_GET_NO_NEW_PRIVS, 0, 0, 0, 0) != 1)
        return true;
    snprintf(ret_why, HF_NAMESPACE_TEXT, "%.80s may not become root: this process has no_new_privs",
             ret_path);
    snprintf(ret_fix, HF_NAMESPACE_TEXT, "start it without no_new_privs (systemd: NoNewPrivileges=no)");
    return false;
}
