#!/bin/sh
# SPDX-License-Identifier: MIT
# run.sh BUILDDIR [--json] - runs all benchmarks. Measures, never judges.
#
# With root and loop devices the kernel's ext4 and xfs (1 KiB blocks, images on tmpfs, read-ahead 0) stand
# beside Holdfast; without, they are left out with a line that says so.
set -eu
export LC_ALL=C

build=${1:?usage: run.sh BUILDDIR [--json]}
json=${2:-}
bin=$build/bench
work=
hosts=

say() {
    [ -n "$json" ] || echo "$@"
}

clean_up() {
    [ -n "$work" ] || return 0
    for fs in ext4 xfs; do
        if mountpoint -q "$work/$fs" 2>/dev/null; then
            umount "$work/$fs"
        fi
    done
    rm -rf "$work"
}
trap clean_up EXIT
trap 'exit 130' INT TERM

# make_host FS MKFS_COMMAND...: a loop image in tmpfs, formatted and mounted, or a line why not.
make_host() {
    fs=$1
    shift
    if [ "$(id -u)" -ne 0 ]; then
        say "$fs: left out (needs root)"
        return 0
    fi
    if ! command -v "$1" >/dev/null 2>&1; then
        say "$fs: left out (no $1)"
        return 0
    fi
    mkdir -p "$work/$fs"
    truncate -s 512M "$work/$fs.img"
    if ! "$@" "$work/$fs.img" >"$work/$fs.log" 2>&1 ||
        ! mount -o loop,noatime "$work/$fs.img" "$work/$fs" 2>>"$work/$fs.log"; then
        say "$fs: left out ($(tail -n 1 "$work/$fs.log"))"
        return 0
    fi
    dev=$(findmnt -no SOURCE "$work/$fs")
    blockdev --setra 0 "$dev" 2>/dev/null || say "$fs: read-ahead left as it is"
    hosts="$hosts --host $fs,_1_KiB_blocks,_loop_on_tmpfs=$work/$fs"
}

base=/dev/shm
[ -w "$base" ] || base=/tmp
work=$(mktemp -d -p "$base")

say "$(date +%Y-%m-%d), kernel $(uname -r), $(nproc) CPUs, load $(cut -d' ' -f1 /proc/loadavg); volumes in ${BENCH_DIR:-$base}"
say "loop devices with read-ahead 0, images on tmpfs"
make_host ext4 mkfs.ext4 -q -F -b 1024 -E lazy_itable_init=0,lazy_journal_init=0
make_host xfs mkfs.xfs -q -f -b size=1024

"$bin/fault" ${json:+"$json"}
# shellcheck disable=SC2086 # a list of arguments
"$bin/pages" $hosts ${json:+"$json"}
"$bin/growth" ${json:+"$json"}
