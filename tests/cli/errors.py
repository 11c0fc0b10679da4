#!/usr/bin/env python3
# SPDX-License-Identifier: MIT
"""What the user got wrong, and what pvemu says, to the letter: errors.py PVEMU KERNEL_DIR [TEST...]."""
import gzip
import os
import socket

import images
from harness import Guest, Skip, boot_args, check, kernel, main, run, test


def check_error(folder, args, want):
    """want: the lines on stderr, without "pvemu: "."""
    result = run(folder, *args)
    lines = "".join("pvemu: " + line + "\n" for line in want.splitlines())
    check(result.stderr.decode(), lines)
    check((result.returncode, result.stdout), (125, b""))


USAGE = [
    ("-apend x", "error: unknown option '-apend'; did you mean '-append'?"),
    ("--snapshto", "error: unknown option '--snapshto'; did you mean '-snapshot'?"),
    ("--initd=x", "error: unknown option '--initd'; did you mean '-initrd'?"),
    ("-frobnicate", "error: unknown option '-frobnicate'\nhint: `pvemu -h` lists the options"),
    ("-m", "error: -m needs a value: -m SIZE[,max=SIZE]"),
    ("-n=1", "error: -n takes no value"),
    ("foo", "error: 'foo' is not an option\nhint: a disk image is given with -disk, a kernel with -kernel"),
    ("--", "error: '--' COMMAND for the guest is not supported yet\n"
           "hint: -append 'init=...' and -send can start something"),
    ("-m x", "error: -m: 'x' is not a size\nhint: write 512M, 2G, or a number of MiB"),
    ("-m 64M,128M", "error: -m: '64M,128M' is not SIZE or SIZE,max=SIZE"),
    ("-m 64M,max=", "error: -m: '' is not a size\nhint: write 512M, 2G, or a number of MiB"),
    ("-m 64M,max=32M", "error: -m: max= is less than the size before it"),
    ("-m 1K", "error: -m: 1K is outside 16M to 1024G"),
    ("-m 2T", "error: -m: 2T is outside 16M to 1024G"),
    ("-smp 0", "error: -smp: '0' is not a number of CPUs"),
    ("-machine q35", "error: -machine: 'q35' is not one of: auto pvh pv"),
    ("-accel x", "error: -accel: 'x' is not one of: auto kvm bt interp"),
    ("-accel kvm,irqchip=both", "error: -accel: 'kvm,irqchip=both': there is no such choice\n"
                                "hint: kvm,irqchip=user or kvm,irqchip=split"),
    ("-name -x", "error: -name: '-x' is not a name\n"
                 "hint: letters, digits, '-', '_' and '.', at most 64; no '-' or '.' first"),
    ("-name a/b", "error: -name: 'a/b' is not a name\n"
                  "hint: letters, digits, '-', '_' and '.', at most 64; no '-' or '.' first"),
    ("-net tap", "error: -net: 'tap' is not one of: user none"),
    ("-p 1:2", "error: -p 1:2: there is no network with -net none"),
    ("-timeout x", "error: -timeout: 'x' is not a time\nhint: write 90, 90s, 5m, 1h or 500ms"),
    ("-timeout 0", "error: -timeout: '0' is not a time\nhint: write 90, 90s, 5m, 1h or 500ms"),
    ("-expect (", "error: -expect: '(' is not a regular expression: missing terminating )"),
    ("-fail *x", "error: -fail: '*x' is not a regular expression: nothing to repeat"),
    ("-send (=>x", "error: -send: '(' is not a regular expression: missing terminating )"),
    ("-on x=y", "error: -on: 'x=y' is not panic, reboot or poweroff = exit, reset or pause, or suspend = exit "
               "or pause"),
    ("-sandbox x", "error: -sandbox: 'x' is not one of: on off log"),
    ("-d x", "error: -d: unknown word 'x'"),
    ("-disk a,format=qcow2", "error: -disk: format 'qcow2' is not supported; raw is"),
    ("-disk a,rw", "error: -disk: 'rw' is not one of: ro snapshot format=raw"),
    ("-disk ,ro", "error: -disk: the file name is missing in ',ro'"),
]


@test
def usage(folder):
    """options"""
    for args, want in USAGE:
        check_error(folder, [*boot_args("hello"), *args.split()], want)
    check_error(folder, ["-m", "32M"], "error: no kernel given\n"
                "hint: pvemu -kernel vmlinuz -disk root.img; `pvemu -h` shows more")


FORWARDS = [
    ("x", "error: -p x: expected [ADDR:]HOST:GUEST[/udp]\n"
          "hint: -p 2222:22 leads port 2222 of this machine to port 22 of the guest"),
    ("70000:1", "error: -p 70000:1: '70000' is not a port of this machine (0 to 65535, 0 picks one)"),
    ("1:0", "error: -p 1:0: '0' is not a port of the guest (1 to 65535)"),
    ("1:2/sctp", "error: -p 1:2/sctp: 'sctp' is neither tcp nor udp"),
]


@test
def forwards(folder):
    """port forwards"""
    for forward, want in FORWARDS:
        check_error(folder, ["-kernel", kernel("hello"), "-p", forward], want)
        check_error(folder, ["-kernel", kernel("hello"), "-n", "-p", forward], want)


VERBS = [
    ("lst", "error: unknown verb 'lst'; did you mean 'list'?"),
    ("frob", "error: unknown verb 'frob'\nhint: `pvemu -h` lists the verbs; a kernel is given with -kernel"),
    ("help x", "error: no help on 'x'; there is: all, exit-codes, man, bash, zsh, fish"),
    ("list x", "error: list: 'x' is too much; it takes nothing"),
    ("pause", "error: no guest is running"),
    ("shutdown -w", "error: no guest is running"),
    ("unpause x", "error: no running guest is called 'x'\nhint: `pvemu list` shows the running ones"),
    ("mem-set x", "error: mem-set: it takes a guest and a size like 512M"),
    ("vcpu-set", "error: vcpu-set: it takes a guest and a number of CPUs"),
    ("vcpu-set x y", "error: vcpu-set: it takes a guest and a number of CPUs"),
    ("destroy -f", "error: destroy: unknown option '-f'"),
    ("pause -w", "error: pause: unknown option '-w'"),
    ("pause a b", "error: pause: 'b' is too much; it takes one guest"),
]


@test
def verbs(folder):
    """verbs"""
    for args, want in VERBS:
        check_error(folder, args.split(), want)


HINT_TREE = "\nhint: this looks like a kernel tree that is not built; run `make -j16 bzImage`"
HINT_DISK = "\nhint: a disk goes to -disk; -kernel wants a Linux kernel"
KERNELS = [
    ("missing", None, "cannot open kernel 'missing': no such file"),
    ("empty", b"", "'empty' is not a kernel: it is an empty file"),
    ("text", b"hello\n", "'text' is not a kernel: it is a text file"),
    ("zeros", bytes(5000), "'zeros' is not a kernel: it is a file of zeros"),
    ("script", b"#!/bin/sh\n", "'script' is not a kernel: it is a script"),
    ("a.qcow2", b"QFI\xfb" + bytes(2000), "'a.qcow2' is not a kernel: it is a qcow2 disk image" + HINT_DISK),
    ("cpio", b"070701" + b"0" * 200, "'cpio' is not a kernel: it is an initramfs (cpio archive)\n"
     "hint: an initramfs goes to -initrd; -kernel wants a Linux kernel"),
    ("Image", bytes(0x38) + b"ARM\x64" + bytes(999), "'Image' is a 64-bit ARM kernel; pvemu runs x86 guests"),
    ("vmlinux", images.elf(images.EM_AARCH64), "'vmlinux' is a 64-bit ARM kernel; pvemu runs x86 guests"),
    ("bad.gz", images.gzip_damaged(images.elf()),
     "'bad.gz' holds a gzip payload that is damaged at offset {end} (checksum)"),
    ("bad.bz", images.bzimage(images.gzip_damaged(images.elf())),
     "'bad.bz' holds a gzip payload that is damaged at offset {bzend} (checksum)"),
    ("cut.bz", images.bzimage(gzip.compress(images.elf()))[:0x420],
     "'cut.bz' is cut short: the bzImage needs {bzwhole} bytes, the file has 1056\nhint: copy or download it again"),
    ("nopvh", images.elf(notes=False), "'nopvh' can be started neither by PVH (no ELF note PHYS32_ENTRY) "
     "nor by Xen PV (no ELF notes XEN_VERSION \"xen-3.0\" and LOADER \"generic\")\n"
     "hint: build the kernel with CONFIG_XEN_PVH=y or CONFIG_XEN_PV=y"),
    ("wild", images.elf(entry=0x5000000), "'wild' is damaged: its PVH entry 0x5000000 lies outside the kernel"),
    ("big", images.elf(memory=64 << 20), "'big' does not fit: kernel and initrd need 66 MiB, -m gives 32 MiB\n"
     "hint: -m 128M"),
]


@test
def kernels(folder):
    """kernels that are none, foreign, damaged or too large"""
    packed = len(images.gzip_damaged(images.elf()))
    sizes = {"end": packed - 4, "bzend": 0x400 + packed - 4, "bzwhole": 0x400 + packed}
    for name, data, want in KERNELS:
        if data is not None:
            images.write(folder, name, data)
        check_error(folder, ["-kernel", name, "-m", "32M", "-net", "none"], "error: " + want.format(**sizes))


HINT_PVH = "\nhint: it has a PVH entry: use -machine pvh"
HINT_PV = "\nhint: build the kernel with CONFIG_XEN_PV=y"
NO_PV = "'k' is not a Xen PV kernel ("
LOADER = (images.LOADER, b"generic")
VERSION = (images.XEN_VERSION, b"xen-3.0")
MACHINES = [  # a machine, whether there is a PVH entry, the other notes
    ("pv", False, (), NO_PV + 'no ELF notes XEN_VERSION "xen-3.0" and LOADER "generic")' + HINT_PV),
    ("pv", True, (), NO_PV + 'no ELF notes XEN_VERSION "xen-3.0" and LOADER "generic")' + HINT_PVH),
    ("pv", False, (LOADER,), NO_PV + 'no ELF note XEN_VERSION, which should say "xen-3.0")' + HINT_PV),
    ("pv", False, ((images.XEN_VERSION, b"xen-2.0"), LOADER),
     NO_PV + 'ELF note XEN_VERSION says "xen-2.0", not "xen-3.0")' + HINT_PV),
    ("pv", False, (VERSION,), NO_PV + 'no ELF note LOADER, which should say "generic")' + HINT_PV),
    ("pv", True, (VERSION, LOADER, (images.GUEST_OS, b"linux")),
     NO_PV + "no ELF note ENTRY: this Linux was built without CONFIG_XEN_PV)" + HINT_PVH),
    ("pv", True, (VERSION, LOADER, (images.FEATURES, b"!auto_translated_physmap")),
     "'k' requires the Xen feature 'auto_translated_physmap' (ELF note FEATURES), which a PV guest does not have" +
     HINT_PVH),
    ("pvh", False, (), "'k' has no PVH entry (the Xen ELF note PHYS32_ENTRY is missing)\n"
     "hint: build the kernel with CONFIG_PVH=y (and CONFIG_XEN_PVH=y)"),
    ("pvh", False, (VERSION, LOADER), "'k' has no PVH entry (the Xen ELF note PHYS32_ENTRY is missing)\n"
     "hint: it is a Xen PV kernel: use -machine pv"),
]


@test
def machines(folder):
    """kernels that the given machine cannot start, and the note or option they lack"""
    for machine, pvh, notes, want in MACHINES:
        images.write(folder, "k", images.elf(notes=pvh, more=notes))
        check_error(folder, ["-kernel", "k", "-machine", machine, "-m", "32M", "-net", "none"], "error: " + want)


@test
def kernel_folders(folder):
    """kernel trees"""
    os.makedirs(os.path.join(folder, "tree/arch/x86/boot"))
    os.mkdir(os.path.join(folder, "dir"))
    images.write(folder, "tree/arch/x86/boot/header.S", b"")
    check_error(folder, ["-kernel", "dir"],
                "error: 'dir' is a directory without a built kernel (arch/x86/boot/bzImage)")
    check_error(folder, ["-kernel", "tree"],
                "error: 'tree' is a directory without a built kernel (arch/x86/boot/bzImage)" + HINT_TREE)
    check_error(folder, ["-kernel", "tree/arch/x86/boot/bzImage"],
                "error: cannot open kernel 'tree/arch/x86/boot/bzImage': no such file" + HINT_TREE)
    check_error(folder, ["-kernel", "/dev/null"], "error: kernel '/dev/null' is not a regular file")


@test
def good_images(folder):
    """the images those are derived from are good"""
    images.write(folder, "elf", images.elf())
    images.write(folder, "bz", images.bzimage(gzip.compress(images.elf())))
    images.write(folder, "gz", gzip.compress(images.elf()))
    for name in ("elf", "bz", "gz"):
        check(run(folder, "-kernel", name, "-m", "32M", "-net", "none").returncode, 0)


@test
def other_files(folder):
    """disks, initrd, log"""
    images.write(folder, "empty", b"")
    images.write(folder, "a.qcow2", b"QFI\xfb" + bytes(2000))
    images.write(folder, "large", bytes(33 << 20))
    os.mkdir(os.path.join(folder, "dir"))
    rows = [
        ("-disk missing", "cannot open disk 'missing': no such file"),
        ("-disk dir", "disk 'dir' is a folder, not an image"),
        ("-disk /dev/null", "disk '/dev/null' is neither a file nor a block device"),
        ("-disk empty", "disk 'empty' is empty\nhint: give it a size first: truncate -s 1G empty"),
        ("-disk a.qcow2", "disk 'a.qcow2' is a qcow2 image; pvemu reads raw images\n"
         "hint: convert it: qemu-img convert -O raw a.qcow2 a.qcow2.raw; or add ,format=raw if it is meant as it is"),
        ("-initrd empty", "initrd 'empty' is empty"),
        ("-initrd missing", "cannot read initrd 'missing': no such file"),
        ("-initrd dir", "cannot read initrd 'dir': Is a directory"),
        ("-initrd large", "initrd 'large' does not fit into the guest's 32 MiB"),
        ("-initrd /dev/zero", "initrd '/dev/zero' does not fit into the guest's 32 MiB"),
        ("-log dir", "cannot write log 'dir': Is a directory"),
        ("-log missing/log", "cannot write log 'missing/log': No such file or directory"),
        ("-append " + "x" * 5000, "the kernel command line has 5022 characters; Linux takes at most 2047"),
    ]
    for args, want in rows:
        check_error(folder, [*boot_args("hello"), *args.split()], "error: " + want)


HINT_ROOT = ("\nhint: give an image of a root file system, an initramfs with -initrd, or -append root=... when the "
             "root is elsewhere")
HINT_MODULES = ("\nhint: install the kernel's package in the image, or give an initramfs with -initrd; with -cmdline it "
                "starts all the same")
NOWHERE = "no modules for Linux 6.1.0-99-fake in '{0}' or on this host"
ROOTS = [
    ("blank", images.disk(), "'{0}' is blank: no partition table, no file system, so no root to mount" + HINT_ROOT),
    ("swap", images.disk(4086, b"SWAPSPACE2"), "'{0}' has no Linux file system for a root (swap)" + HINT_ROOT),
    ("vfat", images.disk(0x52, b"FAT32   "), "'{0}' has no Linux file system for a root (vfat)" + HINT_ROOT),
    ("lvm", images.disk(512, b"LABELONE" + bytes(16) + b"LVM2 001"),
     "the root on '{0}' is inside an LVM volume group, which needs the guest's own initramfs\n"
     "hint: give it with -initrd (in the image: /boot/initrd.img-<version>)"),
    ("btrfs", images.disk(0x10040, b"_BHRfS_M"), NOWHERE.replace("' or", "' (they are not read from btrfs) or") +
     ", and xen_blkfront is not built in: the root /dev/xvda cannot be mounted" + HINT_MODULES),
    ("xfs", images.disk(0, b"XFSB"), NOWHERE.replace("' or", "' (they are not read from xfs) or") +
     ", and xen_blkfront is not built in: the root /dev/xvda cannot be mounted" + HINT_MODULES),
    ("ext4", images.disk(0x438, b"\x53\xef"), NOWHERE +
     ", and xen_blkfront is not built in: the root /dev/xvda cannot be mounted" + HINT_MODULES),
    ("other", images.disk(99, b"something"), NOWHERE +
     ", and xen_blkfront is not built in: the root /dev/xvda cannot be mounted" + HINT_MODULES),
]


@test
def roots(folder):
    """a root that cannot be mounted is told beforehand; -cmdline and -initrd start it all the same"""
    images.write(folder, "vmlinux", images.linux())
    images.write(folder, "builtin", images.linux(b"\0xen_blkfront.max\0"))
    for name, data, want in ROOTS:
        images.write(folder, name, data)
        args = ["-m", "32M", "-net", "none", "-disk", name]
        want = "error: " + want.format(name)
        check_error(folder, ["-kernel", "vmlinux", *args], want)
        check_error(folder, ["-kernel", "vmlinux", "-n", *args], want)
        result = run(folder, "-kernel", "vmlinux", *args, "-cmdline", "console=hvc0")
        check(result.returncode, 0)
        assert b"pvemu: warning: " in result.stderr, result.stderr
        check(run(folder, "-kernel", "vmlinux", *args, "-initrd", "vmlinux").returncode, 0)
    check_error(folder, ["-kernel", "builtin", "-m", "32M", "-disk", "btrfs"], "error: the root /dev/xvda is btrfs: " +
                NOWHERE.replace("' or", "' (they are not read from btrfs) or").format("btrfs") +
                ", and btrfs is not built in" + HINT_MODULES)
    check(run(folder, "-kernel", "builtin", "-m", "32M", "-net", "none", "-disk", "other").returncode, 0)
    check(run(folder, *boot_args("poweroff", "-disk", "blank")).returncode, 0)  # no Linux: its own affair


@test
def unreadable(folder):
    """files without permission"""
    if os.getuid() == 0:
        raise Skip("root may read everything")
    images.write(folder, "secret", images.elf())
    os.chmod(os.path.join(folder, "secret"), 0)
    check_error(folder, ["-kernel", "secret"], "error: cannot open kernel 'secret': permission denied")
    check_error(folder, boot_args("hello", "-disk", "secret"),
                "error: cannot open disk 'secret' for writing: Permission denied")
    os.chmod(os.path.join(folder, "secret"), 0o400)
    check_error(folder, boot_args("hello", "-disk", "secret"),
                "error: cannot open disk 'secret' for writing: Permission denied\n"
                "hint: you may read it: add ,snapshot (writes are thrown away) or ,ro")


@test
def port_in_use(folder):
    """a port in use, and by whom"""
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]
        check_error(folder, ["-kernel", kernel("hello"), "-m", "32M", "-p", f"{port}:22"],
                    f"error: -p {port}:22: port {port} is in use by process {os.getpid()} (python3)\n"
                    "hint: -p 0:22 picks a free port")


@test
def name_in_use(folder):
    """a name in use"""
    guest = Guest(folder, *boot_args("hello", "-name", "x"))
    guest.expect(b"prompt")
    check_error(folder, boot_args("hello", "-name", "x"), "error: a guest named 'x' is running already\n"
                "hint: choose another -name; `pvemu list` shows the running guests")


@test
def disk_in_use(folder):
    """a disk in use: writers alone, readers share"""
    images.write(folder, "disk", bytes(1 << 20))
    guest = Guest(folder, *boot_args("hello", "-name", "x", "-disk", "disk"))
    guest.expect(b"prompt")
    owner = f"pvemu 'x' (pid {guest.child.pid})"
    check_error(folder, boot_args("hello", "-disk", "disk"),
                f"error: disk 'disk' is open for writing in {owner}\n"
                "hint: add ,snapshot or ,ro to both to use it at the same time")
    check_error(folder, boot_args("hello", "-disk", "disk,ro"),
                f"error: disk 'disk' is open for writing in {owner}\n"
                "hint: add ,snapshot or ,ro there too to use it at the same time")
    guest.close()
    guest = Guest(folder, *boot_args("hello", "-disk", "disk"))  # no -name: called after its kernel
    guest.expect(b"prompt")
    name = run(folder, "list").stdout.decode().splitlines()[1].split()[0]
    check_error(folder, boot_args("hello", "-disk", "disk"),
                f"error: disk 'disk' is open for writing in pvemu '{name}' (pid {guest.child.pid})\n"
                "hint: add ,snapshot or ,ro to both to use it at the same time")
    guest.close()
    guest = Guest(folder, *boot_args("hello", "-name", "x", "-disk", "disk,ro"))
    guest.expect(b"prompt")
    owner = f"pvemu 'x' (pid {guest.child.pid})"
    check_error(folder, boot_args("hello", "-disk", "disk"),
                f"error: disk 'disk' is open for reading in {owner}\n"
                "hint: add ,snapshot or ,ro to use it at the same time")
    check(run(folder, *boot_args("poweroff", "-disk", "disk,ro")).returncode, 0)
    check(run(folder, *boot_args("poweroff", "-disk", "disk,snapshot")).returncode, 0)


main()
