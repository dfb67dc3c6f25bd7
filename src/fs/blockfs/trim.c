/* SPDX-License-Identifier: MIT */
/*
 * trim.c - which volumes may tell their device what is free, and telling it all of that at once (discard.c
 * does it).
 *
 * A thick volume in a file may not: its space would go back to the host (HOLD-10). The blocks of a thin one
 * are asked for anew before somebody gets them.
 */
#include "fs/blockfs/blockfs.h"

#include "dev/device_io.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>

static int trim_fail(int ret, char *err, const char *what)
{
    snprintf(err, HF_BLOCKFS_ERR, "%s", what);
    return ret;
}

int hf_blockfs_can_discard(const struct hf_blockfs *fs, char err[HF_BLOCKFS_ERR])
{
    if (fs->read_only)
        return trim_fail(-EROFS, err, "the volume is open read-only");
    if (!fs->dev->ops->discard)
        return trim_fail(-EOPNOTSUPP, err, "the device has no use for it");
    if (!fs->space.thin && fs->dev->ops->guarantee)
        return trim_fail(-EOPNOTSUPP, err, "the volume is thick: its space stays its own");
    return 0;
}

int hf_blockfs_trim(struct hf_super *sb, uint64_t min_bytes, uint64_t *ret_bytes, char err[HF_BLOCKFS_ERR])
{
    struct hf_blockfs *fs = hf_blockfs_of(sb);
    uint64_t nr;
    int ret = hf_blockfs_can_discard(fs, err);

    if (!ret) {
        ret = hf_blockfs_sync(sb); /* what was freed until now is free for good */
        if (!ret)
            ret = hf_space_trim(&fs->space, min_bytes / fs->block_size + (min_bytes % fs->block_size != 0),
                                &nr);
        if (ret)
            trim_fail(ret, err, strerror(-ret));
    }
    if (!ret)
        *ret_bytes = nr * fs->block_size;
    return ret;
}

int hf_blockfs_trim_device(struct hf_device *dev, uint64_t *ret_bytes, char err[HF_BLOCKFS_ERR])
{
    struct hf_super sb = {.driver = &hf_blockfs_driver, .dev = dev};
    uint64_t bytes;
    int ret, done;

    if (dev->read_only)
        return trim_fail(-EROFS, err, "the device is read-only");
    ret = hf_blockfs_driver.mount(&sb);
    if (ret)
        return trim_fail(ret, err, sb.error_text);
    ret = hf_blockfs_trim(&sb, 0, &bytes, err);
    done = hf_blockfs_driver.unmount(&sb);
    if (!ret && done)
        ret = trim_fail(done, err, strerror(-done));
    if (!ret)
        *ret_bytes = bytes;
    return ret;
}
