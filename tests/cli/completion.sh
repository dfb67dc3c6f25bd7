#!/bin/bash
# SPDX-License-Identifier: MIT
# completion.sh HOLDFAST COMPLETION - what bash would offer, for a few lines under way.
set -u
# shellcheck disable=SC1090
. "$2" || exit 1
program=$(realpath "$1")
failed=0

offers() { # offers WANTED WORD...: the last word is being typed
    local wanted=$1
    shift
    COMP_WORDS=("$@")
    COMP_CWORD=$(($# - 1))
    _holdfast
    case " ${COMPREPLY[*]} " in
    *" $wanted "*) ;;
    *)
        echo "for '${*:2}': no $wanted in: ${COMPREPLY[*]}"
        failed=1
        ;;
    esac
}

cd "$(mktemp -d)" || exit 1
touch box.hf
offers mkfs "$program" mk
offers doctor "$program" ''
offers --version "$program" --
offers --block-size "$program" mkfs --bl
offers --json "$program" --no-color map box.hf --
offers box.hf "$program" map bo
offers map "$program" help m
rm -r "$PWD"
exit $failed
