#!/bin/sh
# SPDX-License-Identifier: MIT
# soak.sh STRESS [OPS] - the stress test in many configurations, OPS operations in all (default 1000000), and the tests
# beside it (BUILD/tests) that have a longer variant.
# SEED=N repeats a soak's seeds (default: from the clock). Exit status 0 if every run held.
set -u
export LC_ALL=C

stress=${1:?usage: soak.sh STRESS [OPS]}
ops=${2:-1000000}
seed=${SEED:-$(date +%s)}
log=$(mktemp)
trap 'rm -f "$log"' EXIT
trap 'exit 130' INT TERM

# engine  P  B  isize_sync  more options
configurations() {
    cat <<'END'
inline 4096 1024 page-lock
inline 4096 1024 hole-lock --racy
inline 4096 512 page-lock --racy
inline 4096 512 hole-lock
inline 4096 4096 page-lock
inline 4096 2048 hole-lock --racy --threads 8
inline 16384 1024 page-lock --racy
inline 16384 4096 hole-lock
inline 65536 512 page-lock
inline 65536 65536 hole-lock --racy
inline 4096 1024 page-lock --file-pages 256 --cache-bytes 262144
inline 4096 512 hole-lock --file-pages 256 --cache-bytes 262144 --dirty-bytes 65536 --racy
inline 4096 1024 page-lock --map-b syscalls
inline 4096 1024 page-lock --space 15
inline 4096 1024 hole-lock --threads 1
inline 4096 1024 page-lock --driver memfs --racy
thread 4096 1024 page-lock
thread 16384 512 hole-lock --racy
mprotect 4096 1024 page-lock --racy
mprotect 65536 1024 hole-lock
END
}

# Several processes: options of BUILD/tests/stress/processes.
processes() {
    cat <<'END'
--ops 20000
--ops 20000 --block-size 512 --space 15
--ops 20000 --page-size 16384 --block-size 16384
--ops 20000 --page-size 65536 --block-size 512
--race --seconds 60
--race --seconds 60 --block-size 512 --space 15
--race --seconds 60 --page-size 65536 --block-size 512 --space 20
END
}

processes_under_run() {
    cat <<'END'
--ops 5000
--race --seconds 30 --space 20
END
}

# program below BUILD/tests, what makes it longer, and its arguments below BUILD
longer_tests() {
    cat <<'END'
unit/metadata_outlasts_data METADATA_MIB=32
mmap/quota_of_many_threads HF_TEST_ROUNDS=20000
mmap/stores_from_signal_handlers HF_TEST_RUN_MS=10000
posix/large_directories HF_TEST_ENTRIES=1000000
clients/postgresql HF_TEST_ROUNDS=20 app/cli/holdfast-control tests/clients/as_user
END
    for program in directory_churn editor_saves sizes_and_holes unlinked_while_open mapped_stores; do
        for more in 1 2 3; do
            echo "crash/crash_$program CRASH_SEED=$((seed % 1000000 + more))"
        done
    done
}

# Runs it, counts what comes of it, and says it in $result.
run_one() {
    "$@" >"$log" 2>&1
    case $? in
    0)
        passed=$((passed + 1))
        result=passed
        ;;
    77)
        skipped=$((skipped + 1))
        result=skipped
        ;;
    *)
        failed=$((failed + 1))
        result=FAILED
        cat "$log"
        ;;
    esac
}

# under_run OPTION...: the same processes on a real mount, where that can be had
under_run() (
    cd "${stress%/tests/stress/*}" || exit 77
    run="app/cli/holdfast-control run --size 16M --block-size 1K --"
    [ -x tests/stress/processes_posix ] && $run true || exit 77
    exec $run tests/stress/processes_posix "$@"
)

# in_build PROGRAM VARIABLE [ARGUMENT]...
in_build() (
    program=$1 variable=$2
    shift 2
    cd "${stress%/tests/stress/*}" && [ -x "tests/$program" ] || exit 77 # not in this build
    exec env "$variable" "tests/$program" "$@"
)

each=$((ops / $(configurations | wc -l)))
passed=0
failed=0
skipped=0
total=0
n=0
echo "soak: seed $seed, $each operations in each configuration"
while read -r engine page block sync more <&3; do
    n=$((n + 1))
    # shellcheck disable=SC2086 # a list of options
    set -- --seed "$((seed + n))" --ops "$each" --engine "$engine" --page-size "$page" --block-size "$block" \
        --isize-sync "$sync" $more
    "$stress" "$@" >"$log" 2>&1
    case $? in
    0)
        passed=$((passed + 1))
        total=$((total + each))
        result=$(sed -n 's/^ok: //p' "$log")
        ;;
    77)
        skipped=$((skipped + 1))
        result="skipped: $(sed -n 's/^SKIP: //p' "$log")"
        ;;
    *)
        failed=$((failed + 1))
        result=FAILED
        ;;
    esac
    printf '%-9s P %-6s B %-6s %-9s %-30s %s\n' "$engine" "$page" "$block" "$sync" "$more" "$result"
    [ "$result" != FAILED ] || cat "$log"
done 3<<END
$(configurations)
END
while read -r options <&3; do
    # shellcheck disable=SC2086 # a list of options
    set -- "${stress%/stress}/processes" --seed "$seed" $options
    run_one "$@"
    printf '%-67s %s\n' "processes $options" "$result"
done 3<<END
$(processes)
END
while read -r options <&3; do
    # shellcheck disable=SC2086 # a list of options
    run_one under_run --seed "$seed" $options
    printf '%-67s %s\n' "holdfast run processes $options" "$result"
done 3<<END
$(processes_under_run)
END
while read -r program variable arguments <&3; do
    # shellcheck disable=SC2086 # a list of paths
    run_one in_build "$program" "$variable" $arguments
    printf '%-67s %s\n' "$variable $program" "$result"
done 3<<END
$(longer_tests)
END
echo "soak: $total operations; $passed runs passed, $failed failed, $skipped skipped; seed $seed"
[ "$failed" -eq 0 ]
