#!/usr/bin/env bash
# SPDX-License-Identifier: MIT
# Fetches a stock Debian kernel, unchanged, and unpacks it without installing it.
#
#   images/kernel.sh [cloud|generic|686-pae|cloud-trixie]     prints the folder that holds vmlinuz, release and modules/
#
# 686-pae is the 32-bit kernel, cloud-trixie that of Debian 13; they are fetched without adding anything to the system.
# The version is whatever the package index says today; a later run with a newer index makes a new folder.
. "$(dirname "$0")/lib.sh"

flavour=${1:-cloud}
other= # whose packages: apt_other()
case $flavour in
cloud) meta=linux-image-cloud-amd64 ;;
generic) meta=linux-image-amd64 ;;
686-pae) meta=linux-image-686-pae other=i386 ;;
cloud-trixie) meta=linux-image-cloud-amd64 other=trixie ;;
*) die "usage: images/kernel.sh [cloud|generic|686-pae|cloud-trixie]" ;;
esac

update() { if [ -n "$other" ]; then apt_other_update "$other"; else apt_update_once; fi; }
apt() { if [ -n "$other" ]; then apt_other "$other" "$@"; else "$@"; fi; }
resolve() { apt apt-cache depends "$meta" 2>/dev/null | awk '/Depends: linux-image/ {print $2; exit}'; }

package=$(resolve)
if [ -z "$package" ]; then
    update
    package=$(resolve)
fi
need kmod # depmod
[ -n "$package" ] || die "the package index knows no $meta"
version=$(apt apt-cache show --no-all-versions "$package" | awk '/^Version:/ {print $2; exit}')
dir=$PVEMU_CACHE/kernel/${package}_$version
if [ ! -f "$dir/release" ]; then
    step "fetching $package $version"
    mkdir -p "$dir.tmp"
    (cd "$dir.tmp" && { apt apt-get download -qq "$package" || { update && apt apt-get download -qq "$package"; }; }) >&2 ||
        die "cannot fetch $package"
    dpkg-deb -x "$dir.tmp"/*.deb "$dir.tmp/x"
    release=$(basename "$dir.tmp"/x/boot/vmlinuz-*)
    release=${release#vmlinuz-}
    mkdir -p "$dir"
    cp "$dir.tmp/x/boot/vmlinuz-$release" "$dir/vmlinuz"
    rm -rf "$dir/root"
    mkdir -p "$dir/root/lib"
    mv "$dir.tmp"/x/{,usr/}lib/modules "$dir/root/lib/" 2>/dev/null || [ -d "$dir/root/lib/modules" ]
    rm -rf "$dir.tmp"
    depmod -b "$dir/root" "$release"
    echo "$release" >"$dir/release"
fi
release=$(cat "$dir/release")
if [ ! -f "$dir/root/lib/modules/$release/modules.dep" ]; then # made without depmod
    depmod -b "$dir/root" "$release"
fi
echo "$dir"
