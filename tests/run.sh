#!/usr/bin/env bash
# SPDX-License-Identifier: MIT
# Installs what is missing, builds and runs the tests.
#
#   tests/run.sh            what every commit must pass
#   tests/run.sh --slow     a Debian system with systemd, long transfers, 250 boots, real programs, mixed load by PVH and PV
#                           with 1 and 4 CPUs, 12 million oracle cases, programs of 100 million instructions, and one
#                           Debian boot with every translation compared
#   tests/run.sh --nightly  the same as --slow: for cron
#   tests/run.sh --quick    only the compiled tests, no booting of distribution kernels
#
# Called as root it installs by package name and then runs the tests as an unprivileged user; otherwise it
# uses sudo to install. Everything made goes to build*/ and cache/.
. "$(dirname "$0")/../images/lib.sh"

mode=${1:-normal}
if [ "$mode" = --nightly ]; then mode=--slow; fi
nobody=(setpriv --reuid=65534 --regid=65534 --clear-groups)
if [ "$(id -u)" = 0 ] && ! "${nobody[@]}" test -r "$pvemu_top/tests/run.sh"; then
    # A checkout that only root can read: the tests, which run without root, need one that they can read.
    copy=$(mktemp -d /var/tmp/pvemu-tests.XXXXXX)
    chmod 755 "$copy"
    (cd "$pvemu_top" && tar -c --exclude='./build*' --exclude=./cache --exclude=./.git .) | tar -x --no-same-owner -C "$copy"
    chmod -R a+rX "$copy"
    say "the checkout is not readable without root: testing a copy of it"
    status=0
    "$copy/tests/run.sh" "$@" || status=$?
    rm -rf "$copy"
    exit "$status"
fi
jobs=$(nproc)
passed=0
failed=0
summary=()

# suite NAME COMMAND...: runs it, counts it.
suite() {
    local name=$1
    shift
    step "$name"
    if "$@" >"$logs/${name// /-}.log" 2>&1; then
        passed=$((passed + 1))
    else
        failed=$((failed + 1))
        summary+=("$name")
        say "--- $name failed; the end of its log:"
        tail -n 150 "$logs/${name// /-}.log" >&2
    fi
}

# plain COMMAND...: without root, in an environment of its own.
plain() {
    local env=(env -i PATH=/usr/bin:/bin:/usr/sbin:/sbin HOME="$home" LANG=C.UTF-8 TMPDIR="$home/tmp" XDG_RUNTIME_DIR="$home/run"
        XDG_CACHE_HOME="$home/cache" CI="${CI:-}" PVEMU_TEST_KERNEL="$cloud/vmlinuz")
    while [[ $1 == *=* ]]; do
        env+=("$1")
        shift
    done
    if [ "$(id -u)" = 0 ]; then
        "${nobody[@]}" "${env[@]}" "$@"
    else
        "${env[@]}" "$@"
    fi
}

build() { # DIR [MESON ARGUMENT...]
    local dir=$1
    shift
    if [ ! -f "$dir/build.ninja" ]; then
        meson setup "$dir" "$pvemu_top" "$@" || return 1
    fi
    ninja -C "$dir" -j "$jobs"
}

compiled_tests() { # DIR SUITE...
    local dir=$1 suites=() each
    shift
    for each in "$@"; do suites+=(--suite "$each"); done
    plain meson test -C "$dir" --no-rebuild --print-errorlogs --timeout-multiplier 3 --num-processes "$jobs" \
        --logbase "plain" "${suites[@]}"
}

need_build
need clang libclang-rt-14-dev libzydis-dev libcapstone-dev acpica-tools e2fsprogs busybox-static cpio kmod fakeroot \
    lz4 xz-utils zstd lzop util-linux man-db
logs=$pvemu_top/build-logs
mkdir -p "$logs"
home=$(mktemp -d)
trap 'rm -rf "$home"' EXIT
mkdir -m 700 "$home/run" "$home/cache" "$home/tmp"
if [ "$(id -u)" = 0 ]; then chown -R 65534:65534 "$home"; fi

step "kernels"
cloud=$("$pvemu_top/images/kernel.sh" cloud)
suite "build with gcc" build "$pvemu_top/build-gcc" -Dwerror=true
# meson writes its logs next to the build, as whoever runs the tests
if [ "$(id -u)" = 0 ]; then chown -R 65534:65534 "$pvemu_top"/build-gcc/meson-logs; fi
suite "tests" compiled_tests "$pvemu_top/build-gcc" unit cpu lint fuzz guest cli
build_clang() { CC=clang build "$pvemu_top/build-clang" -Dwerror=true; }
suite "build with clang" build_clang
suite "build with sanitizers" build "$pvemu_top/build-asan" -Db_sanitize=address,undefined -Dwerror=true
if [ "$(id -u)" = 0 ]; then chown -R 65534:65534 "$pvemu_top"/build-asan/meson-logs; fi
suite "tests with sanitizers" compiled_tests "$pvemu_top/build-asan" unit fuzz

if [ "$mode" != --quick ]; then
    need mmdebstrap uidmap
    step "images"
    generic=$("$pvemu_top/images/kernel.sh" generic)
    "$pvemu_top/images/busybox-root.sh" "$PVEMU_CACHE/busybox.img" "$cloud" "$generic"
    "$pvemu_top/images/vmlinux.sh" "$cloud/vmlinuz" "$PVEMU_CACHE/vmlinux"
    env=(PVEMU="$pvemu_top/build-gcc/src/pvemu" PVEMU_CLOUD="$cloud" PVEMU_GENERIC="$generic"
        PVEMU_BUSYBOX="$PVEMU_CACHE/busybox.img" PVEMU_VMLINUX="$PVEMU_CACHE/vmlinux" PYTHONDONTWRITEBYTECODE=1)
    suite "boots" plain "${env[@]}" python3 "$pvemu_top/tests/boot/quick.py"
    need grub-xen-host
    PVEMU_LABEL=gpt "$pvemu_top/images/grub-disk.sh" "$PVEMU_CACHE/grub-generic.img" "$PVEMU_CACHE/busybox.img" "$generic"
    "$pvemu_top/images/grub-disk.sh" "$PVEMU_CACHE/grub-cloud.img" "$PVEMU_CACHE/busybox.img" "$cloud"
    grub=(PVEMU_GRUB_GENERIC="$PVEMU_CACHE/grub-generic.img" PVEMU_GRUB_CLOUD="$PVEMU_CACHE/grub-cloud.img")
    suite "boots by GRUB" plain "${env[@]}" "${grub[@]}" python3 "$pvemu_top/tests/boot/grub.py"
    pae=$("$pvemu_top/images/kernel.sh" 686-pae)
    PVEMU_ARCH=i386 "$pvemu_top/images/busybox-root.sh" "$PVEMU_CACHE/busybox-686.img" "$pae"
    need qemu-system-x86
    env686=(PVEMU_686="$pae" PVEMU_BUSYBOX_I386="$PVEMU_CACHE/busybox-i386/bin/busybox")
    kvm=(python3 "$pvemu_top/tests/kvm/suite.py" amd "$pvemu_top/build-gcc/src/pvemu" "$pvemu_top/build-gcc/tests/kvm"
        "$pvemu_top/build-gcc/tests/guest")
    own=(python3 "$pvemu_top/tests/kvm/own.py" "$pvemu_top/build-gcc/src/pvemu" "$pvemu_top/build-gcc/tests/guest")
    suite "this machine's KVM" plain "${own[@]}"
    # Only root may open it on most machines.
    if [ "$(id -u)" = 0 ]; then suite "this machine's KVM, as root" "${own[@]}"; fi
    if [ "$mode" = --slow ]; then
        trixie=$("$pvemu_top/images/kernel.sh" cloud-trixie)
        suite "KVM on emulated AMD-V" plain "${env[@]}" "${env686[@]}" PVEMU_TRIXIE="$trixie" "${kvm[@]}"
        need bochs bochsbios vgabios grub-pc-bin grub-common xorriso mtools
        kvm[2]=vtx
        suite "KVM on emulated VT-x" plain "${env[@]}" "${kvm[@]}" nightly
    else
        suite "KVM on emulated AMD-V" plain "${env[@]}" "${kvm[@]}" commit
    fi
    "$pvemu_top/images/grub-disk.sh" "$PVEMU_CACHE/grub-686.img" "$PVEMU_CACHE/busybox-686.img" "$pae"
    i386=("${env[@]}" "${grub[@]}" PVEMU_686="$pae" PVEMU_BUSYBOX_686="$PVEMU_CACHE/busybox-686.img"
        PVEMU_GRUB_686="$PVEMU_CACHE/grub-686.img"
        python3 "$pvemu_top/tests/boot/i386.py")
    if [ "$mode" = --slow ]; then
        suite "32-bit guests and GRUB" plain "${i386[@]}"
    else
        suite "32-bit guests and GRUB" plain "${i386[@]}" 686_smp grub_cloud 686_lockstep programs
    fi
    suite "modes of the translator" plain "${env[@]}" python3 "$pvemu_top/tests/boot/modes.py"
    if [ "$mode" = --slow ]; then
        [ -f "$PVEMU_CACHE/debian.img" ] || "$pvemu_top/images/debian-root.sh" "$PVEMU_CACHE/debian.img" "$cloud" "$generic"
        suite "long boots" plain "${env[@]}" PVEMU_DEBIAN="$PVEMU_CACHE/debian.img" python3 "$pvemu_top/tests/boot/slow.py"
        suite "modes of the translator, Debian" plain "${env[@]}" PVEMU_DEBIAN="$PVEMU_CACHE/debian.img" \
            python3 "$pvemu_top/tests/boot/modes.py"
        if [ ! -f "$PVEMU_CACHE/programs-perf.img" ]; then
            PVEMU_EXTRA=gcc,libc6-dev,make,python3,libpython3.11-testsuite,openssl,sqlite3,perl,nodejs,xz-utils,bzip2,bc,linux-perf \
                PVEMU_ROOT_SIZE=3G "$pvemu_top/images/debian-root.sh" "$PVEMU_CACHE/programs-perf.img" "$cloud" "$generic"
        fi
        for accel in bt interp; do
            suite "programs in a guest, $accel" plain "${env[@]}" PVEMU_PROGRAMS="$PVEMU_CACHE/programs-perf.img" \
                PVEMU_ACCEL=$accel python3 "$pvemu_top/tests/boot/programs.py"
        done
        suite "load and boots, PVH and PV" plain "${env[@]}" PVEMU_PROGRAMS="$PVEMU_CACHE/programs-perf.img" \
            python3 "$pvemu_top/tests/boot/pv_soak.py"
        page=$("$pvemu_top/images/guest-kernel.sh" linux-6.1)
        suite "hypercall page" plain "${env[@]}" PVEMU_PAGE_KERNEL="$page" python3 "$pvemu_top/tests/boot/hypercall_page.py"
        suite "ten million oracle cases" plain "$pvemu_top/build-gcc/tests/cpu/oracle_insn" -n 10000000
        suite "two million on the translator" plain "$pvemu_top/build-gcc/tests/cpu/oracle_insn" -bt -n 2000000 -seed 9
        # A hundred million instructions of programs, on the interpreter, the translator and the processor.
        program=("$pvemu_top/build-gcc/tests/cpu/oracle_program")
        suite "programs" plain "${program[@]}" -insns 40000000 -seed 5
        suite "programs, loops" plain "${program[@]}" -loops -insns 20000000 -seed 5
        suite "programs, runs" plain "${program[@]}" -runs -insns 20000000 -seed 6
        suite "programs, views" plain "${program[@]}" -views -insns 20000000 -seed 7
        suite "programs, 32 bits" plain "${program[@]}" -32 -insns 20000000 -seed 8
        suite "programs of the day" plain "${program[@]}" -insns 40000000 -seed "$(date +%Y%m%d)"
    fi
fi

for name in "${summary[@]}"; do say "failed: $name"; done
say "logs are in $logs; $SECONDS s"
echo "$passed passed, $failed failed"
[ "$failed" = 0 ]
