/* SPDX-License-Identifier: MIT */
/*
 * maintain.c - what maintain.h offers: volumes that nobody has open, by path or by device.
 */
#include "api/api.h"
#include "dev/device_io.h"
#include "fs/blockfs/check.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>

static const struct hf_check_options no_options;

static int check_options(const struct hf_check_options *opts)
{
    if (opts->flags & ~HF_CHECK_REPAIR)
        return hf_api_fail(-EINVAL, "check flags %#x are not known", opts->flags);
    return 0;
}

static int check_device(struct hf_device *dev, const struct hf_check_options *opts,
                        struct hf_check_result *ret_result)
{
    char err[HF_BLOCKFS_ERR] = "";
    struct hf_check_result result;
    int r = hf_blockfs_check(dev, opts, &result, err);

    if (r < 0)
        return hf_api_fail(r, "%s: %s", dev->name, err[0] != '\0' ? err : strerror(-r));
    if (ret_result != NULL)
        *ret_result = result;
    return 0;
}

int hf_check_device(struct hf_device *dev, const struct hf_check_options *opts,
                    struct hf_check_result *ret_result)
{
    int r = hf_api_init();

    opts = opts != NULL ? opts : &no_options;
    hf_api_fail(0, "%s", "");
    if (dev == NULL)
        return hf_api_fail(-EINVAL, "no device");
    if (r == 0)
        r = check_options(opts);
    return r < 0 ? r : HF_CALL(int, check_device(dev, opts, ret_result));
}

/* Opens the device of a volume for maintenance. */
static int open_device(const char *path, bool read_only, struct hf_device **ret_dev)
{
    int r = hf_device_file_open(path, read_only ? HF_DEV_READ_ONLY : HF_DEV_THIN, 0, ret_dev);

    if (r == -EBUSY)
        return hf_api_fail(r, "%s: open already, by this or another process: close it there first", path);
    return r < 0 ? hf_api_fail(r, "%s: %s", path, strerror(-r)) : 0;
}

static int check_path(const char *path, const struct hf_check_options *opts,
                      struct hf_check_result *ret_result)
{
    struct hf_device *dev;
    int r = open_device(path, (opts->flags & HF_CHECK_REPAIR) == 0, &dev);

    if (r < 0)
        return r;
    r = check_device(dev, opts, ret_result);
    hf_dev_close(dev);
    return r;
}

int hf_check(const char *path, const struct hf_check_options *opts, struct hf_check_result *ret_result)
{
    int r = hf_api_init();

    opts = opts != NULL ? opts : &no_options;
    hf_api_fail(0, "%s", "");
    if (path == NULL || path[0] == '\0')
        return hf_api_fail(-EINVAL, "no volume named");
    if (r == 0)
        r = check_options(opts);
    return r < 0 ? r : HF_CALL(int, check_path(path, opts, ret_result));
}
