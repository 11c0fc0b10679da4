#!/usr/bin/env bash
# SPDX-License-Identifier: MIT
# A disk that a boot loader boots from: a partition table, one ext4 partition with a root file system made by
# images/busybox-root.sh, and in its /boot a kernel, an initramfs and grub/grub.cfg. For the GRUB images of the
# package grub-xen-host, which pvemu takes as -kernel.
#
#   images/grub-disk.sh OUT.img ROOT.img KERNEL_DIR [ARGUMENT...]
#
# KERNEL_DIR is a folder printed by images/kernel.sh, ARGUMENTs are added to the kernel's command line.
# PVEMU_LABEL=gpt makes a GPT instead of an MBR. GRUB as a PV guest unpacks the kernel itself and knows neither LZ4
# (Debian's cloud kernels) nor Zstandard: for those it finds vmlinux, the ELF kernel from inside.
. "$(dirname "$0")/lib.sh"

[ $# -ge 3 ] || die "usage: images/grub-disk.sh OUT.img ROOT.img KERNEL_DIR [ARGUMENT...]"
out=$1 root=$2 kernel=$3
shift 3
need cpio e2fsprogs fdisk
release=$(cat "$kernel/release")
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT

# The initramfs: the programs and modules of the root file system, and an init that mounts it.
mkdir -p "$work/tree"/{bin,sbin,dev,proc,mnt,lib}
debugfs -R "dump /bin/busybox $work/tree/bin/busybox" "$root" 2>/dev/null
debugfs -R "rdump /lib/modules $work/tree/lib" "$root" 2>/dev/null
[ -s "$work/tree/bin/busybox" ] && [ -d "$work/tree/lib/modules/$release" ] || die "$root has no busybox or no modules of $release"
find "$work/tree/lib/modules" -mindepth 1 -maxdepth 1 ! -name "$release" -exec rm -rf {} +
chmod 755 "$work/tree/bin/busybox"
ln -s busybox "$work/tree/bin/sh"
ln -s ../bin/busybox "$work/tree/sbin/modprobe" # the kernel calls it for what ext4 needs
cat >"$work/tree/init" <<'I'
#!/bin/sh
/bin/busybox mount -t devtmpfs dev /dev
/bin/busybox mount -t proc proc /proc
/bin/busybox modprobe -a xen-blkfront ext4 xen-netfront
until [ -b /dev/xvda1 ]; do /bin/busybox sleep 0.1; done
/bin/busybox mount -o ro /dev/xvda1 /mnt || exec /bin/sh
/bin/busybox umount /proc
/bin/busybox mount --move /dev /mnt/dev
exec /bin/busybox switch_root /mnt /init
I
chmod 755 "$work/tree/init"
(cd "$work/tree" && find . | LC_ALL=C sort | cpio -o -H newc -R 0:0 --quiet) | gzip -1 >"$work/initrd"
cat >"$work/grub.cfg" <<I
set timeout=0
set default=0
set kernel=/boot/vmlinuz
if [ "\$grub_platform" = xen -a -f /boot/vmlinux ]; then
    set kernel=/boot/vmlinux
fi
menuentry "Linux $release" {
    linux \$kernel root=/dev/xvda1 console=hvc0 $*
    initrd /boot/initrd
}
I

# Where the boot protocol says that the packed kernel is; its first bytes tell how.
files=(vmlinuz)
cp "$kernel/vmlinuz" "$work/vmlinuz"
at=$((($(od -An -tu1 -j 497 -N 1 "$kernel/vmlinuz") + 1) * 512 + $(od -An -tu4 -j 584 -N 4 "$kernel/vmlinuz")))
case $(od -An -tx1 -j "$at" -N 2 "$kernel/vmlinuz" | tr -d ' ') in
1f8b | fd37) ;; # gzip, xz
*)
    "$pvemu_top/images/vmlinux.sh" "$kernel/vmlinuz" "$work/vmlinux"
    files+=(vmlinux)
    ;;
esac

cp --sparse=always "$root" "$work/part"
debugfs -w -f /dev/stdin "$work/part" >/dev/null 2>"$work/log" <<I
mkdir boot
mkdir boot/grub
$(for each in "${files[@]}"; do echo "write $work/$each boot/$each"; done)
write $work/initrd boot/initrd
write $work/grub.cfg boot/grub/grub.cfg
I
debugfs -R "stat /boot/grub/grub.cfg" "$work/part" 2>/dev/null | grep -q "Type: regular" ||
    { cat "$work/log" >&2; die "cannot write to the file system"; }
rm -f "$out.tmp"
truncate -s $(($(stat -c %s "$work/part") + (2 << 20))) "$out.tmp"
printf 'label: %s\nstart=2048, size=%d, type=L\n' "${PVEMU_LABEL:-dos}" $(($(stat -c %s "$work/part") / 512)) |
    /sbin/sfdisk -q "$out.tmp" >&2
dd if="$work/part" of="$out.tmp" bs=1M seek=1 conv=notrunc,sparse status=none
mv "$out.tmp" "$out"
say "$out: $(du -h --apparent-size "$out" | cut -f1), $(du -h "$out" | cut -f1) used"
