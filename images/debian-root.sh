#!/usr/bin/env bash
# SPDX-License-Identifier: MIT
# A Debian 12 root file system with systemd, by mmdebstrap, without root rights where user
# namespaces allow it. Takes minutes.
#
#   images/debian-root.sh OUT.img [KERNEL_DIR...]
#
# ext4, labelled pvemu-debian, root without password, DHCP on every Ethernet card. A unit prints
# "BOOTED RELEASE up SECONDS" when all is up, and powers off when the command line has pvemu.poweroff.
# PVEMU_EXTRA="pkg,pkg" adds packages, PVEMU_ROOT_SIZE changes the size (default 2G).
. "$(dirname "$0")/lib.sh"

[ $# -ge 1 ] || die "usage: images/debian-root.sh OUT.img [KERNEL_DIR...]"
out=$(realpath "$1")
shift
need mmdebstrap e2fsprogs kmod uidmap
include=systemd-sysv,udev,kmod,procps,iproute2,util-linux,login,e2fsprogs,iputils-ping,netcat-openbsd${PVEMU_EXTRA:+,$PVEMU_EXTRA}
hook=$(mktemp)
trap 'rm -f "$hook"' EXIT
cat >"$hook" <<'H'
#!/bin/sh
# mmdebstrap runs this inside its namespace, where files have their real owners.
set -eu
root=$1
chroot "$root" passwd -d root >/dev/null
echo pvemu-guest >"$root/etc/hostname"
: >"$root/etc/fstab"
# The name server of pvemu's user network, not the one of the machine that makes the image.
rm -f "$root/etc/resolv.conf"
echo 'nameserver 10.0.2.3' >"$root/etc/resolv.conf"
sed -i 's/^#\?Storage=.*/Storage=none/' "$root/etc/systemd/journald.conf"
mkdir -p "$root/etc/systemd/network" "$root/usr/local/sbin"
printf '[Match]\nType=ether\n[Network]\nDHCP=yes\n' >"$root/etc/systemd/network/ether.network"
ln -sf /lib/systemd/system/systemd-networkd.service \
    "$root/etc/systemd/system/multi-user.target.wants/systemd-networkd.service"
# CPUs that come while it runs (pvemu vcpu-set) are used at once.
echo 'SUBSYSTEM=="cpu", ACTION=="add", TEST=="online", ATTR{online}=="0", ATTR{online}="1"' \
    >"$root/etc/udev/rules.d/80-cpu-online.rules"
cat >"$root/etc/systemd/system/booted.service" <<'U'
[Unit]
Description=Say that the boot is complete
After=multi-user.target
[Service]
Type=oneshot
ExecStart=/usr/local/sbin/booted
[Install]
WantedBy=multi-user.target
U
ln -sf /etc/systemd/system/booted.service "$root/etc/systemd/system/multi-user.target.wants/booted.service"
cat >"$root/usr/local/sbin/booted" <<'U'
#!/bin/sh
echo "BOOTED $(uname -r) up $(cut -d' ' -f1 /proc/uptime)" >/dev/console
if grep -qw pvemu.poweroff /proc/cmdline; then systemctl poweroff; fi
U
cat >"$root/usr/local/sbin/fastinit" <<'U'
#!/bin/sh
# init=/usr/local/sbin/fastinit: the same marker without systemd.
mount -t proc proc /proc
echo "BOOTED $(uname -r) up $(cut -d' ' -f1 /proc/uptime)"
if grep -qw pvemu.poweroff /proc/cmdline; then echo o >/proc/sysrq-trigger; sleep 60; fi
exec sh
U
chmod 755 "$root/usr/local/sbin/booted" "$root/usr/local/sbin/fastinit"
if [ -n "$PVEMU_KERNELS" ]; then
    mkdir -p "$root/lib/modules"
    for kernel in $PVEMU_KERNELS; do
        cp -r --preserve=mode,links,timestamps "$kernel/root/lib/modules/." "$root/lib/modules/"
    done
fi
rm -rf "$root"/var/cache/apt/archives/*.deb "$root"/var/lib/apt/lists/*
truncate -s "$PVEMU_ROOT_SIZE" "$PVEMU_OUT"
# A plain bind leaves out what is mounted on it (proc, sys, dev).
bare=$(mktemp -d)
mount --bind "$root" "$bare"
PATH=$PATH:/sbin:/usr/sbin mke2fs -q -t ext4 -L pvemu-debian -d "$bare" "$PVEMU_OUT"
umount "$bare"
rmdir "$bare"
H
chmod 755 "$hook"
# The host's own package sources, whatever they are.
sources=()
for file in /etc/apt/sources.list /etc/apt/sources.list.d/*.list /etc/apt/sources.list.d/*.sources; do
    if [ -s "$file" ] && grep -q bookworm "$file"; then sources+=("$file"); fi
done
export PVEMU_OUT=$out.tmp PVEMU_KERNELS="$*" PVEMU_ROOT_SIZE=${PVEMU_ROOT_SIZE:-2G}
rm -f "$out.tmp"
: >"$out.tmp"
chmod 666 "$out.tmp"
step "installing a Debian system into an image"
mmdebstrap --quiet --variant=minbase --include="$include" --customize-hook="$hook" bookworm /dev/null \
    "${sources[@]}" >&2 || die "mmdebstrap failed"
chmod 644 "$out.tmp"
mv "$out.tmp" "$out"
say "$out: $(du -h --apparent-size "$out" | cut -f1), $(du -h "$out" | cut -f1) used"
