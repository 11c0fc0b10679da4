#!/usr/bin/env python3
# SPDX-License-Identifier: MIT
"""32-bit guests: Debian's 686-pae kernel by PVH, and GRUB for PVH, which is 32-bit code whatever it boots; and programs of
32 bits on a 64-bit kernel.

Environment (tests/run.sh sets it): PVEMU the binary, PVEMU_686 a folder from images/kernel.sh 686-pae, PVEMU_BUSYBOX_686
an image from images/busybox-root.sh with PVEMU_ARCH=i386, PVEMU_GRUB_686 and PVEMU_GRUB_CLOUD disks from
images/grub-disk.sh, PVEMU_CLOUD and PVEMU_BUSYBOX as in quick.py. GRUB comes from the package grub-xen-host.
"""
import hashlib
import os
import subprocess
import sys

from harness import FileServer, Guest, main, sample, sequences, told

PVEMU = os.environ["PVEMU"]
KERNEL = os.environ["PVEMU_686"] + "/vmlinuz"
IMAGE = os.environ["PVEMU_BUSYBOX_686"]
GRUB = os.environ.get("PVEMU_GRUB", "/usr/lib/grub-xen/grub-i386-xen_pvh.bin")
PROMPT = r"^(/|~) # "
LONG = 300
TOGETHER = "hot=1,tlb=6,cache=4M,shake=1000,relink=500,seed=1"
ELF32 = hashlib.md5(b"\x7fELF\x01").hexdigest()


def ready(guest):
    guest.wait("Welcome to pvemu")
    guest.wait(PROMPT)


def check_session(guest, server, machine):
    """What a guest must do once there is a shell: disk, network, no warning, power-off."""
    guest.run("dmesg -n 1")
    assert machine in guest.run("uname -m").split()
    guest.run(f"wget -q -O /root/file http://10.0.2.2:{server.port}/file; sync; echo 3 >/proc/sys/vm/drop_caches")
    assert hashlib.md5(server.data).hexdigest() in guest.run("md5sum /root/file")
    assert "WARNING" not in guest.run("dmesg | grep -w WARNING: || true")
    guest.type("poweroff\n")
    guest.finish(0, r"PASS: the guest powered off")


def session(folder, *args, cpus=1):
    disk = os.path.join(folder, "root.img")
    subprocess.run(["cp", "--sparse=always", IMAGE, disk], check=True)
    server = FileServer(sample(1 << 20))
    try:
        with Guest(PVEMU, ["-kernel", KERNEL, "-disk", disk, "-smp", str(cpus), *args], folder) as guest:
            ready(guest)
            assert guest.run("nproc").split() == [str(cpus)]
            for cpu in range(cpus):
                guest.run(f"taskset -c {cpu} md5sum /bin/busybox")
            check_session(guest, server, "i686")
    finally:
        server.close()
    subprocess.run(["/sbin/e2fsck", "-fn", disk], check=True, stdout=subprocess.DEVNULL)


def test_686(folder):
    session(folder)


def test_686_smp(folder):
    session(folder, cpus=2)


def test_686_interpreter(folder):
    session(folder, "-accel", "interp")


def test_686_reset(folder):
    """A second boot of the same machine: shared info is laid out anew."""
    with Guest(PVEMU, ["-kernel", KERNEL, "-disk", IMAGE + ",snapshot", "-net", "none", "-on", "reboot=reset"], folder) as guest:
        ready(guest)
        guest.type("reboot -f\n")
        ready(guest)
        guest.type("poweroff -f\n")
        guest.finish(0)


def sums(guest, prefix=""):
    """Programs with known answers."""
    sequences(guest, LONG, prefix)
    words = f"{prefix}awk 'BEGIN {{ for (i = 0; i < 20000; i++) s = (s * 31 + i % 97) % 65521; print s, 22 / 7 }}'"
    if guest.run(words, LONG).split() != ["29171", "3.14286"]:
        guest.fail("awk is wrong")


def modes(folder, words):
    with Guest(PVEMU, ["-kernel", KERNEL, "-disk", IMAGE + ",snapshot", "-net", "none", "-accel", "bt," + words], folder) as guest:
        guest.wait("Welcome to pvemu", LONG)
        guest.wait(PROMPT)
        sums(guest)
        guest.type("poweroff -f\n")
        guest.finish(0)
        if "lockstep" in words:
            told(guest)


def test_686_lockstep(folder):
    modes(folder, "lockstep=20")


def test_686_together(folder):
    modes(folder, TOGETHER)


def both(guest, cpus):
    """Programs of 64 and of 32 bits side by side on every CPU: all have the same sum."""
    kinds = ("", "chroot /tmp/32 ")
    jobs = [f"for i in 1 2 3 4 5 6 7 8; do taskset -c {cpu} {kind}md5sum </bin/busybox; done &" for cpu in range(cpus) for kind in kinds]
    found = guest.run("{ " + " ".join(jobs) + " wait; } | sort | uniq -c", LONG).split()
    if len(found) != 3 or found[0] != str(8 * cpus * len(kinds)):
        guest.fail(f"not the same sums: {found}")


def programs(folder, words, *more, cpus=1):
    """The 32-bit busybox on the 64-bit kernel."""
    args = ["-kernel", os.environ["PVEMU_CLOUD"] + "/vmlinuz", "-disk", os.environ["PVEMU_BUSYBOX"] + ",snapshot",
            "-disk", IMAGE + ",snapshot", "-net", "none", "-accel", "bt," + words,
            "-smp", str(cpus), *more]
    with Guest(PVEMU, args, folder) as guest:
        guest.wait("Welcome to pvemu", LONG)
        guest.wait(PROMPT)
        guest.run("mkdir -p /tmp/32; mount -o ro /dev/xvdb /tmp/32; mount -o bind /dev /tmp/32/dev")
        if guest.run("head -c 5 /tmp/32/bin/busybox | md5sum").split()[0] != ELF32:
            guest.fail("the other busybox is not of 32 bits")
        sums(guest, "chroot /tmp/32 ")
        if cpus > 1:
            both(guest, cpus)
        guest.type("poweroff -f\n")
        guest.finish(0)
        if "lockstep" in words:
            told(guest)


def test_programs(folder):
    programs(folder, "hot=1")


def test_programs_lockstep(folder):
    programs(folder, "lockstep=20")


def test_programs_together(folder):
    programs(folder, TOGETHER)


def test_programs_smp(folder):
    programs(folder, "hot=1", cpus=2)


def test_programs_pv(folder):
    programs(folder, "hot=1", "-machine", "pv", cpus=2)


def test_programs_pv_together(folder):
    programs(folder, TOGETHER, "-machine", "pv")


def grub(folder, image, machine, *args):
    """GRUB finds its disk, reads partition, file system and menu, and what it boots reaches user space."""
    server = FileServer(sample(1 << 20))
    try:
        with Guest(PVEMU, ["-kernel", GRUB, "-disk", image + ",snapshot", *args], folder) as guest:
            guest.wait("Welcome to GRUB")
            ready(guest)
            assert "BOOT_IMAGE=/boot/vmlinuz" in guest.run("cat /proc/cmdline")
            check_session(guest, server, machine)
    finally:
        server.close()


def test_grub_686(folder):
    grub(folder, os.environ["PVEMU_GRUB_686"], "i686")


def test_grub_cloud(folder):
    grub(folder, os.environ["PVEMU_GRUB_CLOUD"], "x86_64")


def test_grub_cloud_smp(folder):
    grub(folder, os.environ["PVEMU_GRUB_CLOUD"], "x86_64", "-smp", "2")


if __name__ == "__main__":
    sys.exit(main([(name[5:], function) for name, function in list(globals().items()) if name.startswith("test_")]))
