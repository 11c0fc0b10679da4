#!/usr/bin/env python3
# SPDX-License-Identifier: MIT
"""A Linux that calls by the hypercall page (guest-kernel-patches/linux-6.1), by PV and PVH on both engines.

Environment: PVEMU the binary, PVEMU_BUSYBOX an image from images/busybox-root.sh, PVEMU_PAGE_KERNEL a folder from
images/guest-kernel.sh; without that everything is skipped. As built the page is full of INT3, and the kernel has no
other way to call: a boot shows that it was filled in.
"""
import hashlib
import os
import subprocess
import sys

from harness import FileServer, Guest, LIMIT, main, sample

PVEMU = os.environ["PVEMU"]
IMAGE = os.environ["PVEMU_BUSYBOX"]
KERNEL = os.environ.get("PVEMU_PAGE_KERNEL")
PROMPT = r"^(/|~) # "


def session(folder, machine, accel, *args):
    """Disk, network both ways, clock, processes; then poweroff."""
    disk = os.path.join(folder, "root.img")
    subprocess.run(["cp", "--sparse=always", IMAGE, disk], check=True)
    server = FileServer(sample(1 << 20))
    try:
        with Guest(PVEMU, ["-kernel", KERNEL + "/vmlinuz", "-disk", disk, "-machine", machine, "-accel", accel, *args],
                   folder) as guest:
            guest.wait("Welcome to pvemu: kernel .*-hypercall-page", 2 * LIMIT)
            guest.wait(PROMPT)
            booted = guest.run("dmesg")
            assert ("Booting kernel on Xen" + (" PVH\n" if machine == "pvh" else "\n")) in booted, booted
            assert "10.0.2.15" in guest.run("ip addr show eth0")
            guest.run(f"wget -q -O /root/file http://10.0.2.2:{server.port}/file")
            guest.run("! dmesg | grep -E 'WARNING|BUG:|Call Trace|unchecked MSR'")
            assert hashlib.md5(server.data).hexdigest() in guest.run("md5sum /root/file")
            guest.run("sync; echo 3 >/proc/sys/vm/drop_caches")
            assert hashlib.md5(server.data).hexdigest() in guest.run("md5sum /root/file")
            guest.run("a=$(date +%s); sleep 2; b=$(date +%s); [ $((b - a)) -ge 2 ]")
            guest.run("for i in 1 2 3 4 5 6 7 8; do seq 1 2000 | sort -r | md5sum & done; wait")
            guest.type("poweroff\n")
            guest.finish(0, r"PASS: the guest powered off")
    finally:
        server.close()
    subprocess.run(["/sbin/e2fsck", "-fn", disk], check=True, stdout=subprocess.DEVNULL)


ROWS = [("pvh", "bt", []), ("pvh", "interp", []), ("pv", "bt", []), ("pv", "interp", []), ("pvh", "bt", ["-smp", "2"]),
        ("pv", "bt", ["-smp", "2"])]

if __name__ == "__main__":
    if not KERNEL:
        print("1..0 # SKIP no kernel: images/guest-kernel.sh builds it, PVEMU_PAGE_KERNEL names its folder")
        sys.exit(0)
    sys.exit(main([(f"{machine}_{accel}{'_smp' if args else ''}",
                    lambda folder, row=(machine, accel, args): session(folder, row[0], row[1], *row[2]))
                   for machine, accel, args in ROWS]))
