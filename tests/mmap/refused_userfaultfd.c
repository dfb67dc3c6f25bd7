/* SPDX-License-Identifier: MIT */
/*
 * refused_userfaultfd.c - a sandbox that refuses userfaultfd: the mprotect engine takes over, and keeps the
 * same promises.
 *
 * The child puts a seccomp filter on itself: EPERM for userfaultfd(2), and for the ioctl that
 * makes one from /dev/userfaultfd.
 */
#include "mmap_test.h"

#include <linux/audit.h>
#include <linux/filter.h>
#include <linux/seccomp.h>
#include <sys/prctl.h>
#include <sys/syscall.h>

#define USERFAULTFD_IOC_NEW_NR 0xAA00u

static int refuse_userfaultfd(void)
{
    struct sock_filter filter[] = {
        BPF_STMT(BPF_LD | BPF_W | BPF_ABS, offsetof(struct seccomp_data, nr)),
        BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, SYS_userfaultfd, 4, 0),
        BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, SYS_ioctl, 0, 2),
        BPF_STMT(BPF_LD | BPF_W | BPF_ABS, offsetof(struct seccomp_data, args[1])),
        BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, USERFAULTFD_IOC_NEW_NR, 1, 0),
        BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ALLOW),
        BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ERRNO | EPERM),
    };
    struct sock_fprog program = {.len = ARRAY_LEN(filter), .filter = filter};

    if (prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) < 0 ||
        prctl(PR_SET_SECCOMP, SECCOMP_MODE_FILTER, &program) < 0)
        return -errno;
    return 0;
}

/* The seed's case and a full volume, in short: 0, or the line that did not hold. */
static int child_lives_with_mprotect(int argc, char **argv)
{
    uint32_t page = (uint32_t)strtoul(argv[0], NULL, 10), block = (uint32_t)strtoul(argv[1], NULL, 10);
    struct hf_open_options opts = {.page_size = page};
    struct hf_volume *volume = NULL;
    struct hf_file *file = NULL, *ballast = NULL;
    struct hf_statfs sfs;
    char spec[64];
    void *at = NULL;
    uint8_t *map;
    uint8_t byte = 'c';

    (void)argc;
    CHILD_CHECK(unsetenv("HF_ENGINE") == 0);
    CHILD_CHECK(refuse_userfaultfd() == 0);
    CHILD_CHECK(syscall(SYS_userfaultfd, 0) == -1 && errno == EPERM);
    snprintf(spec, sizeof(spec), "mem:8M,%u", block);
    CHILD_CHECK(hf_volume_open(spec, &opts, &volume) == 0);
    CHILD_CHECK(strcmp(hf_engine_name(), "mprotect") == 0);
    CHILD_CHECK(hf_open(volume, "f", O_RDWR | O_CREAT, 0600, &file) == 0);
    CHILD_CHECK(hf_pwrite(file, "a", 1, 0) == 1);
    CHILD_CHECK(hf_mmap(file, NULL, 4 * page, PROT_READ | PROT_WRITE, MAP_SHARED, 0, &at) == 0);
    map = at;
    map[0] = 'b';
    CHILD_CHECK(hf_ftruncate(file, 4 * page) == 0);
    CHILD_CHECK(hf_volume_statfs(volume, &sfs) == 0);
    CHILD_CHECK(hf_open(volume, "ballast", O_RDWR | O_CREAT, 0600, &ballast) == 0);
    CHILD_CHECK(hf_fallocate(ballast, 0, 0, (hf_off_t)(sfs.blocks_free * sfs.block_size)) == 0);
    CHILD_CHECK(hf_store(map + page, &byte, 1, NULL) == -ENOSPC);
    CHILD_CHECK(page == block || hf_store(map + page - 1, &byte, 1, NULL) == -ENOSPC);
    CHILD_CHECK(hf_ftruncate(ballast, 0) == 0);
    CHILD_CHECK(hf_store(map + page - 1, &byte, 1, NULL) == 0);
    CHILD_CHECK(hf_store(map + page, &byte, 1, NULL) == 0);
    CHILD_CHECK(hf_fsync(file) == 0);
    map[page] = 'd';
    CHILD_CHECK(hf_pread(file, &byte, 1, page) == 1 && byte == 'd');
    CHILD_CHECK(hf_mmap(file, NULL, page, PROT_READ, MAP_SHARED | HF_MAP_SYSCALLS, 0, &at) == -EOPNOTSUPP);
    CHILD_CHECK(hf_munmap(map, 4 * page) == 0);
    CHILD_CHECK(hf_close(file) == 0 && hf_close(ballast) == 0);
    CHILD_CHECK(hf_volume_close(volume) == 0);
    return 0;
}

static const struct test_child children[] = {{"lives", child_lives_with_mprotect}};

static void mprotect_takes_over(struct target *t)
{
    char page[16], block[16];
    char *args[] = {page, block, NULL};

    snprintf(page, sizeof(page), "%u", t->page_size);
    snprintf(block, sizeof(block), "%u", t->block_size);
    expect_exit_0(exec_child("lives", args));
}

static const struct test_body bodies[] = {BODY(mprotect_takes_over, ON(TARGET_MEMFS))};

MMAP_TEST_MAIN_CHILDREN("refused_userfaultfd", bodies, children)
