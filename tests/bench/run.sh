#!/usr/bin/env bash
# SPDX-License-Identifier: MIT
# How fast a guest is: one table, native : pvemu : QEMU TCG, with the same program and the same kernel.
#
#   tests/bench/run.sh [options] [WORKLOAD... | smp | boot | rss]
#
#   -quick           a twentieth of the work, 2 repetitions, 1 boot: minutes, and less exact
#   -scale X         times the iterations (default 1; ratios need the same scale everywhere, and have it)
#   -reps N          repetitions of each workload; the fastest counts (default 3)
#   -limit SECONDS   do not repeat a workload that has taken this long (default 10)
#   -rounds N        go through all engines N times; the fastest counts (default 1)
#   -boots N         boots of each engine; the fastest counts (default 5)
#   -accel LIST      engines of pvemu, by comma (default auto)
#   -machine LIST    kinds of guest, by comma: pvh,pv puts both side by side (default auto)
#   -m32             programs of 32 bits on the 64-bit kernel, natively and in the guests
#   -smp N           CPUs of each guest (default 1); 2 measures the workloads for two CPUs, `smp`
#   -qemu-cpu LIST   CPUs of QEMU, by comma (default qemu64,max), or none
#   -timeout SECONDS how long any guest may say nothing (default 600)
#   -pvemu FILE      measure this program instead of building one
#   -o FILE          write the table there, too
#
# Installs what is missing (through sudo unless root), then runs as the user who called it. Ends with status 1
# when a check value differs, a result is missing, or a guest's clock is wrong.
. "$(dirname "$0")/../../images/lib.sh"

usage() {
    sed -n 's/^# \{0,1\}//; 3,23p' "$0"
    exit "$1"
}

pvemu=
m32=
arguments=()
while [ $# -gt 0 ]; do
    case $1 in
    -h | -help | --help) usage 0 ;;
    -pvemu) pvemu=${2:?-pvemu needs a file}; shift ;;
    -m32) m32=1 ;;
    *) arguments+=("$1") ;;
    esac
    shift
done

need_build
need qemu-system-x86 lz4 xz-utils zstd
if [ -z "$pvemu" ]; then
    step "building pvemu"
    pvemu=$(build_pvemu)
elif [ ! -f "$pvemu_top/build/build.ninja" ]; then
    as_user meson setup "$pvemu_top/build" "$pvemu_top" >&2
fi
step "building the benchmark program"
work=$PVEMU_CACHE/bench
as_user mkdir -p "$work"
if [ -z "$m32" ]; then
    as_user ninja -C "$pvemu_top/build" tests/bench/bench >&2
    bench=$pvemu_top/build/tests/bench/bench
else
    need gcc-multilib lib32z1-dev
    bench=$work/bench32
    as_user gcc -m32 -msse2 -std=c17 -O2 -D_GNU_SOURCE -D_FILE_OFFSET_BITS=64 -fno-math-errno -fno-stack-protector \
        -fno-pie -o "$bench" "$pvemu_top"/tests/bench/*.c -static -lz -lm -pthread
fi
cloud=$(as_user "$pvemu_top/images/kernel.sh" cloud)
vmlinux=$work/vmlinux-$(cat "$cloud/release")
[ -f "$vmlinux" ] || as_user "$pvemu_top/images/vmlinux.sh" "$cloud/vmlinuz" "$vmlinux"
step "measuring"
as_user python3 -B "$pvemu_top/tests/bench/report.py" \
    --bench "$bench" --pvemu "$pvemu" --vmlinuz "$cloud/vmlinuz" --vmlinux "$vmlinux" \
    --work "$work" "${arguments[@]}"
