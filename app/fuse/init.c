/* SPDX-License-Identifier: MIT */
/*
 * init.c - what kernel and server agree on.
 *
 * FUSE_DIRECT_IO_ALLOW_MMAP (Linux 6.6) lets programs map files shared although their reads and writes come
 * here directly. libfuse knows it only from 3.16 on; before, its answer to INIT is completed on the way out:
 * libfuse lets a program do the session's reads and writes from 3.14 on. Without either, files are cached by
 * the kernel, and that is visible in `holdfast stat`.
 *
 * Where we serve shared mappings ourselves, the kernel is to make none: its pages would not see our stores,
 * and when it wrote them back, stale bytes would go over newer ones. It is not asked at a store to our pages,
 * nor are we at a store to its. So there files are never cached, and the flag stays off: mmap(2) of a program
 * that does not come to us is ENODEV. Private mappings it makes, and drops what it had cached before.
 */
#include "server.h"

#include <errno.h>
#include <string.h>
#include <sys/uio.h>
#include <unistd.h>

#define OPCODE_INIT 26u
#define OPCODE_CREATE 35u
#define OPCODE_TMPFILE 51u
#define INIT_EXT ((uint64_t)1 << 30)
#define DIRECT_IO_ALLOW_MMAP ((uint64_t)1 << 36)

/* As linux/fuse.h has them; that of the machine where this is compiled may be older. */
struct in_header {
    uint32_t len, opcode;
    uint64_t unique, nodeid;
    uint32_t uid, gid, pid, padding;
};
struct init_in {
    uint32_t major, minor, max_readahead, flags, flags2;
};
struct out_header {
    uint32_t len;
    int32_t error;
    uint64_t unique;
};
struct init_out {
    uint32_t major, minor, max_readahead, flags;
    uint16_t max_background, congestion_threshold;
    uint32_t max_write, time_gran;
    uint16_t max_pages, map_alignment;
    uint32_t flags2;
};

static void see_init(struct hf_fuse *fuse, const char *request, size_t len)
{
    struct in_header header;
    struct init_in in = {0};

    if (len < sizeof(header))
        return;
    memcpy(&header, request, sizeof(header));
    if (header.opcode != OPCODE_INIT)
        return;
    memcpy(&in, request + sizeof(header),
           len - sizeof(header) < sizeof(in) ? len - sizeof(header) : sizeof(in));
    fuse->init_unique = header.unique;
    fuse->agreed.offered = in.flags;
    if (in.flags & INIT_EXT)
        fuse->agreed.offered |= (uint64_t)in.flags2 << 32;
    atomic_store(&fuse->init_seen, true);
}

/* A file without a name (Linux 6.1) is asked for as CREATE of the name "/"; libfuse knows the opcode only
 * from 3.17 on. */
static void see_tmpfile(char *request, size_t len)
{
    struct in_header header;

    if (len < sizeof(header))
        return;
    memcpy(&header, request, sizeof(header));
    if (header.opcode != OPCODE_TMPFILE)
        return;
    header.opcode = OPCODE_CREATE;
    memcpy(request, &header, sizeof(header));
}

static void complete_answer(struct hf_fuse *fuse, struct init_out *out)
{
    struct hf_fuse_agreed *agreed = &fuse->agreed;

    if (fuse->serves_mappings) {
        out->flags2 &= ~(uint32_t)(DIRECT_IO_ALLOW_MMAP >> 32);
    } else if (fuse->opts->cache == HF_FUSE_CACHE_DIRECT && (agreed->offered & DIRECT_IO_ALLOW_MMAP)) {
        out->flags |= (uint32_t)INIT_EXT;
        out->flags2 |= (uint32_t)(DIRECT_IO_ALLOW_MMAP >> 32);
    }
    agreed->wanted = out->flags;
    if (out->flags & INIT_EXT)
        agreed->wanted |= (uint64_t)out->flags2 << 32;
    agreed->allow_mmap = agreed->wanted & DIRECT_IO_ALLOW_MMAP;
    agreed->direct = agreed->allow_mmap || fuse->serves_mappings;
}

static ssize_t session_read(int fd, void *buf, size_t len, void *userdata)
{
    struct hf_fuse *fuse = userdata;
    ssize_t n = read(fd, buf, len);

    if (n > 0 && !atomic_load_explicit(&fuse->init_seen, memory_order_acquire))
        see_init(fuse, buf, (size_t)n);
    if (n > 0)
        see_tmpfile(buf, (size_t)n);
    return n;
}

static ssize_t session_writev(int fd, struct iovec *iov, int count, void *userdata)
{
    struct hf_fuse *fuse = userdata;
    struct out_header header;

    if (atomic_load_explicit(&fuse->answered, memory_order_acquire) || count != 2 ||
        iov[0].iov_len != sizeof(header) || iov[1].iov_len < sizeof(struct init_out))
        return writev(fd, iov, count);
    memcpy(&header, iov[0].iov_base, sizeof(header));
    if (header.unique == fuse->init_unique && header.error == 0) {
        struct init_out out;

        memcpy(&out, iov[1].iov_base, sizeof(out));
        complete_answer(fuse, &out);
        memcpy(iov[1].iov_base, &out, sizeof(out));
        atomic_store_explicit(&fuse->answered, true, memory_order_release);
    }
    return writev(fd, iov, count);
}

int hf_fuse_io_install(struct hf_fuse *fuse)
{
#ifdef HF_FUSE_CUSTOM_IO
    const struct fuse_custom_io io = {.read = session_read, .writev = session_writev};

    return fuse_session_custom_io(fuse->session, &io, fuse_session_fd(fuse->session));
#else
    (void)session_read;
    (void)session_writev;
    (void)fuse;
    return 0;
#endif
}

void hf_fuse_op_init(void *userdata, struct fuse_conn_info *conn)
{
    struct hf_fuse *fuse = userdata;

    fuse->agreed.proto_major = conn->proto_major;
    fuse->agreed.proto_minor = conn->proto_minor;
    /* An error of the writeback cache comes when nobody
     * waits for it, and a size it has not told is not ours */
    conn->want &= ~(unsigned)(FUSE_CAP_WRITEBACK_CACHE | FUSE_CAP_SPLICE_READ | FUSE_CAP_SPLICE_WRITE);
    fuse->agreed.acl = !fuse->opts->no_acl && (conn->capable & FUSE_CAP_POSIX_ACL);
    if (fuse->agreed.acl) /* a default list takes the place of the umask, and only we know of it */
        conn->want |= FUSE_CAP_POSIX_ACL | FUSE_CAP_DONT_MASK;
    conn->max_write = HF_FUSE_MAX_WRITE;
    conn->time_gran = 1;
#ifndef HF_FUSE_CUSTOM_IO
    fuse->agreed.offered = conn->capable;
    fuse->agreed.wanted = conn->want;
    fuse->agreed.direct = fuse->serves_mappings;
    atomic_store_explicit(&fuse->answered, true, memory_order_release);
#endif
}
