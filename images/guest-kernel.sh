#!/usr/bin/env bash
# SPDX-License-Identifier: MIT
# Builds a small Linux with the patches of guest-kernel-patches/: what older guests do, on a kernel of today.
#
#   images/guest-kernel.sh [linux-6.1]     prints the folder that holds vmlinuz and release
#
# Source and compiler are Debian's, by package name. The result is made once per version of the source, the
# patches and the configuration; some 10 minutes of one CPU, at the lowest priority (PVEMU_NICE=0 for the usual).
. "$(dirname "$0")/lib.sh"

name=${1:-linux-6.1}
patches=$pvemu_top/guest-kernel-patches/$name
[ -f "$patches/series" ] || die "usage: images/guest-kernel.sh [linux-6.1]"
package=linux-source-${name#linux-}
need "$package" bc bison cpio flex gcc libc6-dev libelf-dev make patch xz-utils
version=$(dpkg-query -W -f '${Version}' "$package")
read -ra series <<<"$(tr '\n' ' ' <"$patches/series")"
sum=$(cd "$patches" && cat config series "${series[@]}" | sha256sum | cut -c1-12)
dir=$PVEMU_CACHE/kernel/$name-patched_${version}_$sum
if [ ! -f "$dir/release" ]; then
    step "unpacking $package $version"
    mkdir -p "$dir"
    work=$(mktemp -d "$dir/build.XXXXXX")
    trap 'rm -rf "$work"' EXIT
    tar -xf "/usr/src/$package.tar.xz" -C "$work"
    source=$work/$package
    for each in "${series[@]}"; do
        patch -d "$source" -p1 --no-backup-if-mismatch <"$patches/$each" >&2 || die "$each does not apply to $package $version"
    done
    cpu() { nice -n "${PVEMU_NICE:-19}" make -C "$source" O="$work/out" "$@" >"$work/log" 2>&1 || { tail -n 40 "$work/log" >&2; die "make $* failed"; }; }
    cpu KCONFIG_ALLCONFIG="$patches/config" allnoconfig
    while read -r line; do
        case $line in
        CONFIG_*) grep -qxF -- "$line" "$work/out/.config" || die "the configuration lost $line" ;;
        esac
    done <"$patches/config"
    step "building (minutes)"
    cpu -j "${PVEMU_JOBS:-$(nproc)}" bzImage
    ! grep -E "warning:|objtool:" "$work/log" >&2 || die "the build warns"
    cp "$work/out/arch/x86/boot/bzImage" "$dir/vmlinuz"
    cp "$work/out/include/config/kernel.release" "$dir/release"
fi
echo "$dir"
