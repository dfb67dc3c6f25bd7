#!/bin/sh
# SPDX-License-Identifier: MIT
# deterministic.sh STRESS [OPTION]... - with one thread, a seed means the same choices and the same results.
set -u

first=$("$@") || {
    status=$?
    echo "$first"
    exit "$status"
}
second=$("$@") || {
    echo "$second"
    exit 1
}
first=$(echo "$first" | grep digest)
second=$(echo "$second" | grep digest)
echo "first: $first"
echo "second: $second"
[ -n "$first" ] && [ "$first" = "$second" ]
