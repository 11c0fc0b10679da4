#!/usr/bin/env bash
# SPDX-License-Identifier: MIT
# From a fresh checkout to a shell in a guest: installs what is missing, builds pvemu, fetches a
# stock Debian kernel, makes a small root image and boots it.
#
#   images/demo.sh [PVEMU OPTIONS...]
#
# Works as a user with sudo, or as root; files belong to the invoking user. The image is
# cache/demo.img and keeps what the guest writes; delete it to start over.
. "$(dirname "$0")/lib.sh"

say "pvemu demo: everything goes to $PVEMU_CACHE and $pvemu_top/build"
need_build
need busybox-static e2fsprogs fakeroot kmod # here, as whoever may install
step "building"
pvemu=$(build_pvemu)
step "fetching a kernel"
kernel=$(as_user "$pvemu_top/images/kernel.sh" cloud)
image=$PVEMU_CACHE/demo.img
if [ ! -f "$image" ]; then
    step "making a root image"
    as_user "$pvemu_top/images/busybox-root.sh" "$image" "$kernel"
fi
step "booting; Ctrl-A X quits, poweroff ends the guest"
as_user "$pvemu" -kernel "$kernel/vmlinuz" -disk "$image" "$@"
