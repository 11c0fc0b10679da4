#!/usr/bin/env python3
# SPDX-License-Identifier: MIT
"""A whole Debian system, long transfers and many boots. Environment as in quick.py, and PVEMU_DEBIAN, an image from
images/debian-root.sh with the kernels' modules."""
import hashlib
import os
import re
import socket
import subprocess
import sys
import threading

from harness import Failure, Guest, LIMIT, TerminalGuest, balloon, main, sample, signal

PVEMU = os.environ["PVEMU"]
CLOUD = os.environ["PVEMU_CLOUD"] + "/vmlinuz"
GENERIC = os.environ["PVEMU_GENERIC"] + "/vmlinuz"
BUSYBOX = os.environ["PVEMU_BUSYBOX"]
DEBIAN = os.environ["PVEMU_DEBIAN"]
LONG = 4 * LIMIT
BOOTS = int(os.environ.get("PVEMU_BOOTS", "50"))


def own_copy(folder):
    path = os.path.join(folder, "root.img")
    subprocess.run(["cp", "--sparse=always", DEBIAN, path], check=True)
    return path


def debian(folder, *args, disk=DEBIAN + ",snapshot", kernel=CLOUD):
    return Guest(PVEMU, ["-kernel", kernel, "-disk", disk, "-m", "1G", *args], folder)


def login(guest):
    guest.wait("login: $", LONG)
    guest.type("root\n")
    guest.wait(r"root@pvemu-guest:~# ", LONG)


def fsck(disk):
    result = subprocess.run(["/sbin/e2fsck", "-fn", disk], stdout=subprocess.PIPE, stderr=subprocess.STDOUT, check=False)
    if result.returncode != 0:
        raise Failure(result.stdout.decode(errors="replace"))


def test_login(folder):
    """systemd to login:, every unit up, poweroff by systemctl, file system clean."""
    disk = own_copy(folder)
    with debian(folder, disk=disk) as guest:
        login(guest)
        failed = guest.run("systemctl --failed --plain --no-legend | cat")
        if failed.strip():
            guest.fail("failed units: " + failed)
        guest.run("dmesg > /root/dmesg")
        guest.type("systemctl poweroff\n")
        guest.finish(0, r"PASS: the guest powered off")
    fsck(disk)


def test_login_smp(folder):
    """The same on four CPUs, for both engines."""
    for accel in ("interp", "bt"):
        with debian(folder, "-smp", "4", "-accel", accel) as guest:
            login(guest)
            assert guest.run("nproc").split()[-1] == "4"
            assert not guest.run("systemctl --failed --plain --no-legend | cat").strip()
            assert not re.search(r"WARNING: CPU|BUG: |rcu: INFO|Call Trace", guest.run("dmesg"))
            guest.type("systemctl poweroff\n")
            guest.finish(0, r"PASS: the guest powered off")


def test_memory_that_comes(folder):
    """Ballooning, down and up twice."""
    for machine, kernel in (("pvh", CLOUD), ("pv", GENERIC)):
        with debian(folder, "-m", "384M,max=768M", "-machine", machine, "-name", "memory", kernel=kernel) as guest:
            login(guest)
            balloon(guest, PVEMU, folder, "memory", (384, 256, 768), 2)
            assert not re.search(r"WARNING: CPU|BUG: |rcu: INFO|Call Trace|Out of memory", guest.run("dmesg"))
            guest.type("systemctl poweroff\n")
            guest.finish(0, r"PASS: the guest powered off")


def test_cpus_that_come(folder):
    """udev's rule in the image has them used at once."""
    for machine in ("pvh", "pv"):
        with debian(folder, "-smp", "1,max=4", "-machine", machine, "-name", "cpus") as guest:
            login(guest)
            assert guest.run("nproc").split()[-1] == "1"
            for cpus in (4, 2, 3):
                subprocess.run([PVEMU, "vcpu-set", "cpus", str(cpus)], check=True, env=dict(os.environ, XDG_RUNTIME_DIR=folder))
                guest.run(f"for t in $(seq 300); do test $(nproc) = {cpus} && break; sleep 0.2; done; test $(nproc) = {cpus}")
            guest.type("systemctl poweroff\n")
            guest.finish(0, r"PASS: the guest powered off")


def test_login_generic(folder):
    with debian(folder, kernel=GENERIC) as guest:
        login(guest)
        guest.type("systemctl reboot\n")
        guest.finish(115, r"FAIL: the guest rebooted")


def test_login_serial(folder):
    with debian(folder, "-append", "console=ttyS0") as guest:
        login(guest)
        guest.signal(signal.SIGTERM)
        guest.finish(143, r"powered off on request")


def resizes(folder, console):
    """systemd, agetty and login in between: each has the console opened anew."""
    args = ["-kernel", CLOUD, "-disk", DEBIAN + ",snapshot", "-m", "1G", "-net", "none", "-append", "console=" + console]
    with TerminalGuest(PVEMU, args, folder, (30, 100)) as guest:
        login(guest)
        assert "30 100" in guest.run("stty size"), "the size at the start"
        guest.type("dash -c 'trap \"stty size\" WINCH; echo WAIT\"\"ING; while :; do sleep 0.1; done'\n")
        guest.wait("WAITING")
        for rows, columns in ((3, 70), (50, 132)):
            guest.resize(rows, columns)
            guest.wait(f"^{rows} {columns}\r?$")
        guest.type("\3")
        guest.wait(r"root@pvemu-guest:~# ")
        guest.type("exit\n")
        login(guest)
        assert "50 132" in guest.run("stty size"), "the size at the next login"
        guest.resize(40, 90)
        for name in {"hvc0", console}:
            guest.run(f"while [ \"$(stty size < /dev/{name})\" != '40 90' ]; do sleep 0.1; done")
        guest.run("pgrep -x pvemu-console")
        guest.type("systemctl poweroff\n")
        guest.finish(0)
        for word in ("Failed unmounting", "Failed to finalize", "Could not unmount", "SIGKILL to PID"):
            assert word not in guest.out.decode(errors="replace"), word


def test_size_hvc(folder):
    resizes(folder, "hvc0")


def test_size_serial(folder):
    resizes(folder, "ttyS0")


def test_sysrq_panic(folder):
    with debian(folder) as guest:
        login(guest)
        guest.type("echo c > /proc/sysrq-trigger\n")
        guest.finish(112, r'kernel panic after [0-9.]+ s: "sysrq triggered crash"')


def test_disk_500mb(folder):
    """500 MB written, read back from the disk, and the same again on the host; fsck clean."""
    disk = own_copy(folder)
    with debian(folder, disk=disk) as guest:
        login(guest)
        text = guest.run("head -c 500M /dev/urandom | tee /root/big | md5sum; sync", LONG)
        digest = re.search(r"[0-9a-f]{32}", text).group(0)
        guest.run("echo 3 > /proc/sys/vm/drop_caches")
        again = guest.run("md5sum /root/big", LONG)
        if digest not in again:
            guest.fail(f"written {digest}, read {again}")
        guest.type("systemctl poweroff\n")
        guest.finish(0)
    fsck(disk)
    host = hashlib.md5()
    with subprocess.Popen(["/sbin/debugfs", "-R", "cat /root/big", disk], stdout=subprocess.PIPE,
                          stderr=subprocess.DEVNULL) as child:
        for piece in iter(lambda: child.stdout.read(1 << 20), b""):
            host.update(piece)
    if host.hexdigest() != digest:
        raise Failure(f"the guest wrote {digest}, the image holds {host.hexdigest()}")


def test_transfer(folder):
    """Bulk TCP both ways with checksums."""
    data = sample(32 << 20)
    got = bytearray()

    def serve(listener):
        link, _ = listener.accept()
        link.sendall(data)
        link.close()
        link, _ = listener.accept()
        while piece := link.recv(1 << 16):
            got.extend(piece)
        link.close()

    with socket.create_server(("127.0.0.1", 0)) as listener, debian(folder) as guest:
        thread = threading.Thread(target=serve, args=(listener,), daemon=True)
        thread.start()
        port = listener.getsockname()[1]
        login(guest)
        guest.run("for i in $(seq 300); do ip -4 addr | grep -q 10.0.2.15 && break; sleep 0.2; done; ip -4 addr | grep 10.0.2.15")
        guest.run("grep -x 'nameserver 10.0.2.3' /etc/resolv.conf")
        down = guest.run(f"nc -d 10.0.2.2 {port} > /tmp/f; md5sum /tmp/f", LONG)
        if hashlib.md5(data).hexdigest() not in down:
            guest.fail("the download is not what was sent: " + down)
        guest.run(f"nc -N 10.0.2.2 {port} < /tmp/f", LONG)
        thread.join(LIMIT)
        if hashlib.md5(got).digest() != hashlib.md5(data).digest():
            guest.fail(f"the upload is not what was sent: {len(got)} bytes")
        guest.type("systemctl poweroff\n")
        guest.finish(0)


def test_boots(folder):
    """Boot after boot to user space and back; none hangs."""
    for number in range(BOOTS):
        kernel = GENERIC if number % 10 == 9 else CLOUD
        with Guest(PVEMU, ["-kernel", kernel, "-disk", BUSYBOX + ",snapshot"], folder) as guest:
            guest.wait("Welcome to pvemu", LIMIT)
            guest.type("poweroff -f\n")
            guest.finish(0)
        print(f"# boot {number + 1} of {BOOTS}", flush=True)


if __name__ == "__main__":
    sys.exit(main([(name[5:], function) for name, function in list(globals().items()) if name.startswith("test_")]))
