#!/usr/bin/env bash
# SPDX-License-Identifier: MIT
# A small root file system from Debian's busybox, in seconds and without root rights.
#
#   images/busybox-root.sh OUT.img [KERNEL_DIR...]
#
# ext4, labelled pvemu-demo: busybox, a shell on the console, DHCP on eth0, and the Xen driver modules of
# the kernels given (folders printed by images/kernel.sh). With PVEMU_ARCH=i386 the programs are 32-bit ones.
. "$(dirname "$0")/lib.sh"

[ $# -ge 1 ] || die "usage: images/busybox-root.sh OUT.img [KERNEL_DIR...]"
out=$1
shift
need busybox-static e2fsprogs fakeroot kmod
tree=$(mktemp -d)
trap 'rm -rf "$tree"' EXIT
mkdir -p "$tree"/{bin,sbin,etc,proc,sys,dev,tmp,root,run,mnt,lib/modules,usr/bin,usr/sbin,usr/share/udhcpc,var}
busybox=/bin/busybox
if [ "${PVEMU_ARCH:-amd64}" = i386 ]; then
    busybox=$PVEMU_CACHE/busybox-i386/bin/busybox
    if [ ! -x "$busybox" ]; then
        step "fetching busybox for i386"
        apt_i386_update
        fetch_i386 busybox-static "$PVEMU_CACHE/busybox-i386"
    fi
fi
cp "$busybox" "$tree/bin/busybox"
for applet in $(/bin/busybox --list-full); do
    [ -e "$tree/$applet" ] || { mkdir -p "$tree/$(dirname "$applet")"; ln -s /bin/busybox "$tree/$applet"; }
done
ln -sf /bin/busybox "$tree/init"
cat >"$tree/etc/inittab" <<'I'
::sysinit:/etc/rcS
::respawn:-/bin/sh
::ctrlaltdel:/sbin/reboot
::shutdown:/bin/umount -a -r
I
cat >"$tree/etc/rcS" <<'I'
#!/bin/sh
mount -t proc proc /proc 2>/dev/null
mount -t sysfs sysfs /sys 2>/dev/null
mount -t devtmpfs dev /dev 2>/dev/null
mkdir -p /dev/pts /dev/shm
mount -t devpts devpts /dev/pts
mount -t tmpfs tmpfs /run
mount -o remount,rw /
hostname pvemu
ip link set lo up
if [ -e /sys/class/net/eth0 ]; then
    ip link set eth0 up
    udhcpc -q -n -i eth0 -s /usr/share/udhcpc/default.script >/dev/null 2>&1 || echo "no address by DHCP"
fi
echo "Welcome to pvemu: kernel $(uname -r), up $(cut -d' ' -f1 /proc/uptime) s. poweroff ends it."
I
cat >"$tree/usr/share/udhcpc/default.script" <<'I'
#!/bin/sh
[ "$1" = bound ] || [ "$1" = renew ] || exit 0
ip -4 addr flush dev "$interface"
ip addr add "$ip/${mask:-24}" dev "$interface"
[ -n "$router" ] && ip route add default via "${router%% *}" dev "$interface"
: >/etc/resolv.conf
for server in $dns; do echo "nameserver $server" >>/etc/resolv.conf; done
I
chmod 755 "$tree/etc/rcS" "$tree/usr/share/udhcpc/default.script"
echo 'root::0:0:root:/root:/bin/sh' >"$tree/etc/passwd"
echo 'root:x:0:' >"$tree/etc/group"
PATH=$PATH:/sbin:/usr/sbin
for kernel in "$@"; do
    release=$(cat "$kernel/release")
    to=$tree/lib/modules/$release
    mkdir -p "$to"
    cp "$kernel/root/lib/modules/$release"/modules.{order,builtin,builtin.modinfo} "$to/"
    # Only what a guest of pvemu can use; a built-in one has no file.
    wanted=$(modprobe -d "$kernel/root" -S "$release" -a --show-depends xen-blkfront xen-netfront ext4) ||
        die "the modules of $release are not complete in $kernel"
    printf '%s\n' "$wanted" | awk '$1 == "insmod" {print $2}' | sort -u | while read -r file; do
        mkdir -p "$to/$(dirname "${file#"$kernel/root/lib/modules/$release/"}")"
        cp "$file" "$to/${file#"$kernel/root/lib/modules/$release/"}"
    done
    depmod -b "$tree" "$release"
done
rm -f "$out.tmp"
truncate -s "${PVEMU_ROOT_SIZE:-512M}" "$out.tmp"
fakeroot sh -c 'chown -R 0:0 "$1" && PATH=$PATH:/sbin:/usr/sbin mke2fs -q -t ext4 -L pvemu-demo -d "$1" "$2"' sh "$tree" "$out.tmp"
mv "$out.tmp" "$out"
say "$out: $(du -h --apparent-size "$out" | cut -f1), $(du -h "$out" | cut -f1) used"
