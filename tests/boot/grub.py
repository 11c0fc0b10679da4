#!/usr/bin/env python3
# SPDX-License-Identifier: MIT
"""GRUB as the guest's kernel: it finds Debian's kernel on the disk and starts it, as domains do that bring their own.

Environment: PVEMU the binary, PVEMU_BUSYBOX an image from images/busybox-root.sh, PVEMU_GRUB_GENERIC a disk from
images/grub-disk.sh with the generic kernel, which GRUB unpacks, PVEMU_GRUB_CLOUD one with the cloud kernel, which it
finds unpacked.
"""
import os
import subprocess
import sys

from harness import Guest, LIMIT, main

PVEMU = os.environ["PVEMU"]
GENERIC = os.environ["PVEMU_GRUB_GENERIC"]
BUSYBOX = os.environ["PVEMU_BUSYBOX"]
CLOUD = os.environ["PVEMU_GRUB_CLOUD"]
PV = "/usr/lib/grub-xen/grub-x86_64-xen.bin"
PROMPT = r"^(/|~) # "


def grub(folder, disk, *args, image=PV):
    return Guest(PVEMU, ["-kernel", image, "-disk", disk, *args], folder)


def own_copy(folder, image):
    path = os.path.join(folder, "disk.img")
    subprocess.run(["cp", "--sparse=always", image, path], check=True)
    return path


def ready(guest):
    guest.wait("Welcome to GRUB!", 2 * LIMIT)
    guest.wait("Linux version", 2 * LIMIT)
    guest.wait("Welcome to pvemu", 2 * LIMIT)
    guest.wait(PROMPT)


def check_session(guest):
    """What GRUB handed over works: command line, root, disk, network, console."""
    words = guest.run("cat /proc/cmdline").split()
    assert "root=/dev/xvda1" in words and "console=hvc0" in words, words
    assert "/dev/xvda1 / ext4 rw" in guest.run("cat /proc/mounts"), "another root"
    assert "10.0.2.15" in guest.run("ip addr show eth0")
    guest.run("dd if=/dev/urandom of=/root/data bs=64k count=64; sync; md5sum /root/data >/root/sum")
    guest.run("echo 3 >/proc/sys/vm/drop_caches; md5sum -c /root/sum")
    assert "Kernel panic" not in guest.run("dmesg")


def test_pv(folder):
    """Two boots of one disk: GRUB unpacks the stock kernel; what Linux wrote is there, and the file system is whole."""
    disk = own_copy(folder, GENERIC)
    for boot in range(2):
        with grub(folder, disk, "-machine", "auto" if boot else "pv", "-accel", "bt") as guest:
            ready(guest)
            if boot == 1:
                guest.run("md5sum -c /root/sum")
            check_session(guest)
            guest.type("poweroff\n")
            guest.finish(0, r"PASS: the guest powered off")
            if b"GRUB (ELF) by PV" not in guest.err:
                guest.fail("the banner does not say what was started")


def test_pv_smp(folder):
    with grub(folder, CLOUD + ",snapshot", "-machine", "pv", "-accel", "bt", "-smp", "2") as guest:
        ready(guest)
        assert guest.run("nproc") == "2\n"
        check_session(guest)
        guest.type("poweroff\n")
        guest.finish(0, r"PASS: the guest powered off")


def test_pv_interp(folder):
    with grub(folder, CLOUD + ",snapshot", "-machine", "pv", "-accel", "interp") as guest:
        ready(guest)
        check_session(guest)
        guest.type("poweroff\n")
        guest.finish(0, r"PASS: the guest powered off")


def test_pv_reset(folder):
    """A reboot comes back to GRUB."""
    with grub(folder, CLOUD + ",snapshot", "-machine", "pv", "-accel", "bt", "-on", "reboot=reset", "-net", "none") as guest:
        ready(guest)
        guest.type("reboot\n")
        ready(guest)
        guest.type("poweroff\n")
        guest.finish(0, r"PASS: the guest powered off")


def test_pv_prompt(folder):
    """Without a grub.cfg: GRUB's command line, two disks to look at, and its halt."""
    empty = os.path.join(folder, "empty.img")
    with open(empty, "wb") as file:
        file.truncate(1 << 20)
    with grub(folder, empty, "-disk", BUSYBOX + ",ro", "-accel", "bt") as guest:
        guest.wait("grub> ")
        guest.type("ls\r")
        guest.wait(r"\(xen/xvda\) .*\(xen/xvdb\)")
        guest.type("cat (xen/xvdb)/etc/inittab\r")
        guest.wait("::sysinit:/etc/rcS")
        guest.type("halt\r")
        guest.finish(0, r"PASS: the guest powered off")


if __name__ == "__main__":
    sys.exit(main([(name[5:], function) for name, function in list(globals().items()) if name.startswith("test_")]))
