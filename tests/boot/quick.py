#!/usr/bin/env python3
# SPDX-License-Identifier: MIT
"""Stock Debian kernels from a small disk image: what every commit must still do.

Environment (tests/run.sh sets it): PVEMU the binary, PVEMU_CLOUD and PVEMU_GENERIC folders from images/kernel.sh,
PVEMU_BUSYBOX an image from images/busybox-root.sh with both kernels' modules, PVEMU_VMLINUX the unpacked cloud kernel.
"""
import hashlib
import os
import re
import shutil
import socket
import subprocess
import sys
import time

from harness import FileServer, Guest, LIMIT, TcpHost, TerminalGuest, balloon, main, sample, signal

PVEMU = os.environ["PVEMU"]
CLOUD = os.environ["PVEMU_CLOUD"] + "/vmlinuz"
GENERIC = os.environ["PVEMU_GENERIC"] + "/vmlinuz"
IMAGE = os.environ["PVEMU_BUSYBOX"]
VMLINUX = os.environ["PVEMU_VMLINUX"]
PROMPT = r"^(/|~) # "


def boot(folder, *args, kernel=CLOUD, disk=IMAGE + ",snapshot"):
    return Guest(PVEMU, ["-kernel", kernel, "-disk", disk, *args], folder)


def ready(guest):
    guest.wait("Welcome to pvemu")
    guest.wait(PROMPT)


def own_copy(folder):
    path = os.path.join(folder, "root.img")
    subprocess.run(["cp", "--sparse=always", IMAGE, path], check=True)
    return path


def test_session(folder):
    """ls, dmesg, an address, a download, a file that is there at the next boot, poweroff."""
    disk = own_copy(folder)
    server = FileServer(sample(1 << 20))
    try:
        with boot(folder, disk=disk) as guest:
            ready(guest)
            assert "lost+found" in guest.run("ls /")
            assert "Linux version" in guest.run("dmesg | head -3")
            assert "10.0.2.15" in guest.run("ip addr show eth0")
            guest.run(f"wget -q -O /root/file http://10.0.2.2:{server.port}/file")
            assert hashlib.md5(server.data).hexdigest() in guest.run("md5sum /root/file")
            guest.run("echo kept > /root/note; sync")
            guest.type("poweroff\n")
            guest.finish(0, r"PASS: the guest powered off")
    finally:
        server.close()
    subprocess.run(["/sbin/e2fsck", "-fn", disk], check=True, stdout=subprocess.DEVNULL)
    with boot(folder, disk=disk) as guest:
        ready(guest)
        assert "kept" in guest.run("cat /root/note")
        assert hashlib.md5(server.data).hexdigest() in guest.run("md5sum /root/file")
        guest.type("poweroff -f\n")
        guest.finish(0)


def test_interpreter(folder):
    """The reference engine by itself."""
    with boot(folder, "-accel", "interp") as guest:
        ready(guest)
        guest.run("md5sum /bin/busybox")
        guest.type("poweroff -f\n")
        guest.finish(0, "PASS: the guest powered off")


def test_mitigations(folder):
    """A processor of the translator's needs no mitigation that costs: no page-table isolation, retpolines or VERW."""
    with boot(folder, "-accel", "bt") as guest:
        ready(guest)
        told = guest.run("grep -H . /sys/devices/system/cpu/vulnerabilities/*")
        state = dict(re.findall(r"^/sys/devices/system/cpu/vulnerabilities/(\w+):(.*)$", told, re.M))
        assert len(state) > 10 and "meltdown" in state and "mds" in state, told
        assert re.match("Mitigation: usercopy/swapgs barriers", state.pop("spectre_v1")), told
        assert re.match("Mitigation: Enhanced / Automatic IBRS", state.pop("spectre_v2")), told
        assert set(state.values()) == {"Not affected"}, told
        guest.type("poweroff -f\n")
        guest.finish(0)


def test_generic(folder):
    with boot(folder, kernel=GENERIC) as guest:
        ready(guest)
        guest.type("poweroff -f\n")
        guest.finish(0)


def test_vmlinux(folder):
    with boot(folder, kernel=VMLINUX) as guest:
        ready(guest)
        guest.type("poweroff -f\n")
        guest.finish(0)


def test_serial(folder):
    """console=ttyS0 works with a shell, through the IOAPIC."""
    with boot(folder, "-append", "console=ttyS0") as guest:
        ready(guest)
        assert "ttyS0" in guest.run("cat /proc/consoles")
        guest.type("poweroff -f\n")
        guest.finish(0)


def resizes(folder, console):
    """The console has the terminal's size from the start, and who is in the foreground learns of a new one."""
    args = ["-kernel", CLOUD, "-disk", IMAGE + ",snapshot", "-net", "none", "-append", "console=" + console]
    with TerminalGuest(PVEMU, args, folder, (30, 100)) as guest:
        ready(guest)
        assert console in guest.run("cat /proc/consoles")
        assert "30 100" in guest.run("stty size")
        guest.type("sh -c 'trap \"stty size\" WINCH; echo WAIT\"\"ING; while :; do sleep 0.1; done'\n")
        guest.wait("WAITING")
        for rows, columns in ((3, 7), (50, 132)):
            guest.resize(rows, columns)
            guest.wait(f"^{rows} {columns}\r?$")
        guest.type("\3")
        guest.wait(PROMPT)
        assert "pvemu-console" in guest.run("ps")
        guest.run("umount -a -r 2>/dev/null; ! grep -q ' / ext4 rw' /proc/mounts")
        guest.type("poweroff -f\n")
        guest.finish(0)


def test_size_hvc(folder):
    resizes(folder, "hvc0")


def test_size_serial(folder):
    resizes(folder, "ttyS0")


def test_size_unknown(folder):
    """No terminal: nothing is left behind in the guest, and nothing said."""
    with boot(folder, "-net", "none") as guest:
        ready(guest)
        assert "pvemu" not in guest.run("ps | grep [p]vemu-console || true")
        assert "pvemu-init" not in guest.out.decode(errors="replace")
        guest.type("poweroff -f\n")
        guest.finish(0)


def test_forward(folder):
    """A host port leads into the guest, and data arrives whole."""
    with boot(folder, "-p", "0:8080") as guest:
        ready(guest)
        port = int(re.search(r"forwarding (?:127\.0\.0\.1:)?(\d+):8080", guest.err.decode()).group(1))
        guest.run("mkdir -p /run/www; dd if=/dev/urandom of=/run/www/f bs=64k count=16 2>/dev/null; httpd -p 8080 -h /run/www")
        digest = guest.run("md5sum /run/www/f").split()[0]
        with socket.create_connection(("127.0.0.1", port), timeout=LIMIT) as link:
            link.sendall(b"GET /f HTTP/1.0\r\n\r\n")
            data = b""
            while True:
                if select_readable(guest, link):
                    piece = link.recv(65536)
                    if not piece:
                        break
                    data += piece
        body = data.split(b"\r\n\r\n", 1)[1]
        assert hashlib.md5(body).hexdigest() == digest, "the file changed on its way"
        guest.type("poweroff -f\n")
        guest.finish(0)


def select_readable(guest, link):
    import select
    guest.pump(0)
    return bool(select.select([link], [], [], 1.0)[0])


def child_named(pid, name):
    """A child of a process by its comm."""
    with open(f"/proc/{pid}/task/{pid}/children", encoding="ascii") as file:
        for child in file.read().split():
            with open(f"/proc/{child}/comm", encoding="ascii") as comm:
                if comm.read().strip() == name:
                    return int(child)
    raise AssertionError(f"no process {name}")


def test_network_gone(folder):
    """A dead network process is replaced; without its supervisor the guest's card goes, and stays away."""
    with boot(folder, "-on", "reboot=reset") as guest:
        ready(guest)
        supervisor = child_named(guest.child.pid, "pvemu-net-sup")
        os.kill(child_named(supervisor, "pvemu-net"), signal.SIGKILL)
        guest.run("until ping -c 1 -W 1 10.0.2.2 >/dev/null; do sleep 0.2; done")
        os.kill(supervisor, signal.SIGKILL)
        guest.run("while [ -e /sys/class/net/eth0 ]; do sleep 0.1; done")
        assert b"card is taken away" in guest.err, guest.err
        guest.type("reboot -f\n")
        ready(guest)
        guest.run("! [ -e /sys/class/net/eth0 ]")
        guest.type("poweroff -f\n")
        guest.finish(0)


def test_panic(folder):
    with boot(folder, "-append", "init=/nonexistent", "-net", "none") as guest:
        guest.finish(112, r'FAIL: kernel panic after [0-9.]+ s: ".*(init|kill)')


def test_hang(folder):
    """A guest that never comes up ends by -timeout, and the verdict says so."""
    with boot(folder, "-append", "init=/bin/sleep -- 100000", "-timeout", "25s", "-net", "none") as guest:
        guest.finish(124, r"FAIL: -timeout reached after 2[56]\.")


def test_reboot(folder):
    with boot(folder, "-net", "none") as guest:
        ready(guest)
        guest.type("reboot -f\n")
        guest.finish(115, r"FAIL: the guest rebooted")


def test_reset(folder):
    """-on reboot=reset: the same pvemu boots the guest again; what was written stays."""
    disk = own_copy(folder)
    with boot(folder, "-on", "reboot=reset", disk=disk) as guest:
        ready(guest)
        guest.run("echo again > /root/note; sync")
        guest.type("reboot -f\n")
        ready(guest)
        assert "again" in guest.run("cat /root/note")
        assert "10.0.2.15" in guest.run("ip addr show eth0")
        guest.type("poweroff -f\n")
        guest.finish(0)


def test_triple_fault(folder):
    """A Debian kernel with two bytes of its first 64-bit code broken: no IDT yet, so a triple fault."""
    broken = os.path.join(folder, "vmlinux")
    shutil.copy(VMLINUX, broken)
    os.chmod(broken, 0o600)
    with open(broken, "r+b") as file:
        data = file.read()
        entry = int.from_bytes(data[24:32], "little")  # e_entry, physical: startup_64
        for offset in range(64, 64 + 56 * int.from_bytes(data[56:58], "little"), 56):
            kind = int.from_bytes(data[offset:offset + 4], "little")
            place, _, paddr, size = (int.from_bytes(data[offset + 8 + i * 8:offset + 16 + i * 8], "little")
                                     for i in range(4))
            if kind == 1 and paddr <= entry < paddr + size:
                file.seek(place + entry - paddr)
                file.write(b"\x0f\x0b")
                break
        else:
            raise AssertionError("no segment holds the entry")
    with boot(folder, kernel=broken) as guest:
        guest.finish(115, r"FAIL: the guest triple-faulted")


def test_sigterm(folder):
    """The first SIGTERM is a power button."""
    with boot(folder, "-net", "none") as guest:
        ready(guest)
        guest.signal(signal.SIGTERM)
        guest.finish(143, r"powered off on request")


def test_snapshot(folder):
    disk = own_copy(folder)
    before = hashlib.sha256(open(disk, "rb").read()).hexdigest()
    with boot(folder, "-net", "none", disk=disk + ",snapshot") as guest:
        ready(guest)
        guest.run("echo gone > /root/note; sync")
        guest.type("poweroff -f\n")
        guest.finish(0)
    assert hashlib.sha256(open(disk, "rb").read()).hexdigest() == before, "a snapshot wrote to the image"


def test_disks(folder):
    """A second disk read-only, a third one written with discard; sizes and flags as told."""
    second, third = os.path.join(folder, "b.img"), os.path.join(folder, "c.img")
    for path, data in ((second, sample(1 << 20)), (third, bytes(4 << 20))):
        with open(path, "wb") as file:
            file.write(data)
    with boot(folder, "-net", "none", "-disk", second + ",ro", "-disk", third) as guest:
        ready(guest)
        assert hashlib.md5(sample(1 << 20)).hexdigest() in guest.run("md5sum /dev/xvdb")
        assert guest.run("cat /sys/block/xvdb/ro /sys/block/xvdc/ro /sys/block/xvdc/size").split() == ["1", "0", "8192"]
        guest.run("! dd if=/dev/zero of=/dev/xvdb bs=512 count=1 conv=fsync 2>/dev/null")
        guest.run("dd if=/dev/urandom of=/dev/xvdc bs=64k count=64 conv=fsync 2>/dev/null")
        guest.run("blkdiscard /dev/xvdc; sync")
        guest.run("dd if=/dev/xvdb of=/dev/xvdc bs=64k seek=4 conv=fsync 2>/dev/null")
        guest.type("poweroff -f\n")
        guest.finish(0)
    assert open(second, "rb").read() == sample(1 << 20)
    assert os.stat(third).st_blocks * 512 < 2 << 20, "the discard gave nothing back"
    assert open(third, "rb").read()[256 << 10:(256 << 10) + (1 << 20)] == sample(1 << 20)


def test_unprivileged(folder):
    """Not root, no /dev/kvm needed: the whole suite already runs like this when run.sh could drop root."""
    assert os.getuid() != 0, "tests/run.sh runs these tests without root"
    assert not os.access("/dev/kvm", os.W_OK) or os.environ.get("PVEMU_ALLOW_KVM"), "/dev/kvm is writable here"


def smp_work(guest, cpus):
    """Data through pipes on all CPUs at once, each CPU used by somebody, and nothing odd in the log."""
    assert guest.run("nproc").split()[-1] == str(cpus)
    guest.run("for i in 1 2 3 4; do (for n in 1 2 3; do dd if=/dev/urandom bs=64k count=4 2>/dev/null | tee /run/f$i | "
              "md5sum >/run/a$i; md5sum </run/f$i | cmp - /run/a$i || touch /run/bad; done) & done; wait; test ! -e /run/bad")
    for cpu in range(cpus):
        assert guest.run(f"taskset -c {cpu} sh -c 'cut -d\" \" -f39 /proc/self/stat'").split()[-1] == str(cpu)
    assert "timer%d" % (cpus - 1) in guest.run("cat /proc/interrupts")
    odd = re.findall(r"WARNING: CPU|BUG: |rcu: INFO|soft lockup|Call Trace", guest.run("dmesg"))
    assert not odd, odd


def test_smp(folder):
    """Two CPUs, and four of them on the translator."""
    for accel, cpus in (("interp", 2), ("bt", 4)):
        with boot(folder, "-smp", str(cpus), "-accel", accel, "-net", "none") as guest:
            ready(guest)
            smp_work(guest, cpus)
            guest.type("poweroff\n")
            guest.finish(0)


def pv_session(folder, *args, kernel=CLOUD):
    """What a guest does most, as a paravirtual one: programs, disk, network, power-off."""
    server = FileServer(sample(1 << 20))
    try:
        with boot(folder, "-machine", "pv", *args, kernel=kernel) as guest:
            ready(guest)
            assert "xen-pv" in guest.run("dmesg | grep 'Booting kernel on Xen$' && echo xen-pv")
            guest.run(f"wget -q -O /tmp/file http://10.0.2.2:{server.port}/file")
            assert hashlib.md5(server.data).hexdigest() in guest.run("md5sum /tmp/file")
            sums = guest.run("seq 1 20000 | md5sum; seq 1 20000 | sort | gzip -c | gunzip -c | sort -n | md5sum")
            assert sums.count("e071f707df7bbeee2a6a1eb48011ddd0") == 2, sums
            assert "WARNING" not in guest.run("dmesg | grep -w WARNING: || true")
            guest.type("poweroff\n")
            guest.finish(0, r"PASS: the guest powered off")
    finally:
        server.close()


def test_pv(folder):
    pv_session(folder, "-accel", "interp")


def test_pv_generic(folder):
    pv_session(folder, "-accel", "bt", kernel=GENERIC)


def test_pv_smp(folder):
    pv_session(folder, "-accel", "bt", "-smp", "3")


def queues(folder, *args, kernel=CLOUD):
    """With four CPUs every device has four queues, each is used, and data goes through all at once unharmed."""
    data = sample(4 << 20)
    source, target = os.path.join(folder, "source.img"), os.path.join(folder, "target.img")
    with open(source, "wb") as file:
        file.write(data)
    with open(target, "wb") as file:
        file.truncate(len(data))
    host = TcpHost(data[:1 << 20])
    try:
        with boot(folder, "-smp", "4", "-accel", "bt", "-disk", source + ",ro", "-disk", target, *args, kernel=kernel) as guest:
            ready(guest)
            assert guest.run("ls /sys/block/xvda/mq").split() == ["0", "1", "2", "3"]
            for way in ("rx", "tx"):
                assert guest.run(f"ls -d /sys/class/net/eth0/queues/{way}-* | wc -l").split() == ["4"], way
            guest.run("for c in 0 1 2 3; do taskset -c $c dd if=/dev/xvdb of=/dev/xvdc bs=64k count=16 skip=$((16 * c)) "
                      "seek=$((16 * c)) iflag=direct oflag=direct conv=notrunc 2>/dev/null & done; wait; sync")
            assert hashlib.md5(data).hexdigest() in guest.run("md5sum /dev/xvdc")
            guest.run("for c in 0 1 2 3; do taskset -c $c dd if=/dev/xvda of=/dev/null bs=64k count=1 iflag=direct 2>/dev/null; done")
            used = [[int(word) for word in line.split()[1:5]] for line in guest.run("cat /proc/interrupts").splitlines()
                    if line.split()[-1:] == ["blkif"]]
            assert len(used) == 3 * 4 and all(sum(counts) > 0 for counts in used), used
            guest.run(f"for c in 0 1 2 3; do taskset -c $c nc 10.0.2.2 {host.give} </dev/null >/tmp/f$c & done; wait")
            assert guest.run("md5sum /tmp/f?").count(host.digest) == 4
            guest.run(f"for c in 0 1 2 3; do taskset -c $c nc 10.0.2.2 {host.take} </tmp/f$c & done; wait")
            assert host.taken == [host.digest] * 4, host.taken
            guest.type("poweroff -f\n")
            guest.finish(0)
    finally:
        host.close()
    with open(target, "rb") as file:
        assert file.read() == data, "the disk holds something else"


def test_queues(folder):
    queues(folder)


def test_queues_pv(folder):
    queues(folder, "-machine", "pv", kernel=GENERIC)


def test_pv_reset(folder):
    """A second boot of the same machine."""
    with boot(folder, "-machine", "pv", "-accel", "bt", "-smp", "2", "-net", "none", "-on", "reboot=reset") as guest:
        ready(guest)
        guest.type("reboot -f\n")
        ready(guest)
        guest.type("poweroff -f\n")
        guest.finish(0)


def wait_for_cpus(number):
    """A command for the guest. Linux leaves it to user space to use a CPU that has come."""
    return (f"for t in $(seq 100); do test $(nproc) = {number} && break; "
            "for c in /sys/devices/system/cpu/cpu[1-9]/online; do grep -q 0 $c && echo 1 >$c; done; sleep 0.2; done; "
            f"test $(nproc) = {number}")


def test_vcpu_set_pv(folder):
    test_vcpu_set(folder, "-machine", "pv", "-accel", "bt")


def test_vcpu_set(folder, *args):
    """CPUs come and go while the guest runs."""
    with boot(folder, "-smp", "1,max=3", "-net", "none", "-name", "cpus", *args) as guest:
        ready(guest)
        guest.run("dmesg -n 1")  # what the kernel says of each CPU would fall into the shell's answers
        for cpus in (1, 3, 2, 1, 2):
            subprocess.run([PVEMU, "vcpu-set", "cpus", str(cpus)], check=True, env=dict(os.environ, XDG_RUNTIME_DIR=folder))
            guest.run(wait_for_cpus(cpus))
        guest.type("poweroff -f\n")
        guest.finish(0)


def verb(folder, *words):
    return subprocess.run([PVEMU, *words], check=True, capture_output=True, env=dict(os.environ, XDG_RUNTIME_DIR=folder))


def accel_session(folder, *args):
    """Twelve changes of engine under a load, whose answers and whose clocks agree."""
    with boot(folder, "-name", "changes", "-net", "none", "-accel", "bt", *args) as guest:
        ready(guest)
        guest.type("(while test ! -e /run/stop; do seq 1 5000 | md5sum; done | sort | uniq -c >/run/sums) &\n")
        for number in range(12):
            word = ("interp", "bt")[number % 2]
            verb(folder, "accel", "changes", word)
            assert f" {word} ".encode() in verb(folder, "list").stdout
            time.sleep(0.25)
        sums = guest.run("touch /run/stop; wait; cat /run/sums")
        assert re.findall(r"[0-9a-f]{32}", sums) == [hashlib.md5(b"".join(b"%d\n" % i for i in range(1, 5001))).hexdigest()], sums
        odd = re.findall(r".*(?:clocksource: .*skew|WARNING: CPU|BUG: |rcu: INFO|soft lockup|Call Trace).*", guest.run("dmesg"))
        assert not odd, odd
        guest.type("poweroff -f\n")
        guest.finish(0)


def test_accel(folder):
    accel_session(folder, "-smp", "2")


def test_accel_pv(folder):
    accel_session(folder, "-machine", "pv")


def suspend_session(folder, cpus, *args):
    """Suspended and resumed both ways, three times each, while it writes: disk, network, clock and console go on."""
    server = FileServer(sample(256 << 10))
    odd = "dmesg | grep -vE 'IKCONFIG|command line|Command line' | grep -cE " \
        "'WARNING|BUG:|Call Trace|rcu: INFO|soft lockup|I/O error|not quiescent|disabled for further use' || true"
    try:
        with boot(folder, "-name", "sleeper", "-smp", str(cpus), *args) as guest:
            ready(guest)
            guest.run("dmesg -n 1; mkdir /root/w; dd if=/dev/urandom of=/root/file bs=64k count=32 2>/dev/null; "
                      "md5sum /root/file >/root/sum; sync")
            guest.type("(i=0; while test ! -e /run/stop; do i=$((i+1)); dd if=/dev/urandom bs=64k count=4 2>/dev/null | "
                       "tee /root/w/$((i%8)) | md5sum >/run/w$((i%8)); sync; done; echo $i >/run/writes) >/dev/null &\n")
            begin = float(guest.run("cut -d ' ' -f1 /proc/uptime"))
            for number in range(6):
                verb(folder, "suspend", "sleeper")
                assert b" suspended " in verb(folder, "list").stdout
                verb(folder, "resume", *(["-cancel"] if number % 2 == 0 else []), "sleeper")
                guest.run("echo 3 >/proc/sys/vm/drop_caches; md5sum -c /root/sum >/dev/null")
                guest.run(f"wget -q -O /run/file http://10.0.2.2:{server.port}/file")
                assert hashlib.md5(server.data).hexdigest() in guest.run("md5sum /run/file")
                now, date = (float(word) for word in guest.run("cut -d ' ' -f1 /proc/uptime; date +%s").split())
                assert begin <= now < begin + 600, (begin, now)
                assert abs(date - time.time()) < 60, (date, time.time())
                begin = now
                assert guest.run(odd).split() == ["0"], guest.run("dmesg | tail -60")
            guest.run("touch /run/stop; wait; echo 3 >/proc/sys/vm/drop_caches; test $(cat /run/writes) -gt 8; "
                      "for i in 0 1 2 3 4 5 6 7; do md5sum </root/w/$i | cmp - /run/w$i || exit 1; done")
            assert guest.run("nproc").split()[-1] == str(cpus)
            guest.type("poweroff\n")
            guest.finish(0, r"PASS: the guest powered off")
    finally:
        server.close()


def suspend_in_a_row(folder, *args):
    """Suspended again as soon as it was resumed, three times: its watches are not there yet, and it is waited for. A CPU
    that was off line all the time comes after that."""
    with boot(folder, "-name", "sleeper", "-smp", "2,max=3", "-net", "none", *args) as guest:
        ready(guest)
        for _ in range(3):
            verb(folder, "suspend", "sleeper")
            assert b" suspended " in verb(folder, "list").stdout
            refused = subprocess.run([PVEMU, "vcpu-set", "sleeper", "3"], capture_output=True,
                                     env=dict(os.environ, XDG_RUNTIME_DIR=folder))
            assert refused.returncode != 0 and b"it is suspended" in refused.stderr, refused
            verb(folder, "resume", "sleeper")
        assert guest.run("nproc").split()[-1] == "2"
        guest.run("dmesg -n 1")
        verb(folder, "vcpu-set", "sleeper", "3")
        guest.run(wait_for_cpus(3))
        guest.type("poweroff\n")
        guest.finish(0, r"PASS: the guest powered off")


def test_suspend_row_pvh(folder):
    suspend_in_a_row(folder)


def test_suspend_row_pv(folder):
    suspend_in_a_row(folder, "-machine", "pv")


def test_suspend_pvh(folder):
    suspend_session(folder, 2)


def test_suspend_pv(folder):
    suspend_session(folder, 2, "-machine", "pv")


def memory_session(folder, start, small, most, *args):
    with boot(folder, "-m", f"{start}M,max={most}M", "-net", "none", "-name", "memory", *args) as guest:
        ready(guest)
        if "pv" in args:  # from its first instruction
            assert start // 2 < int(guest.run("dmesg | sed -n 's/.*Memory: \\([0-9]*\\)K.*/\\1/p'").split()[-1]) >> 10 < start
        balloon(guest, PVEMU, folder, "memory", (start, small, most))
        guest.type("poweroff -f\n")
        guest.finish(0)


def test_mem_set(folder):
    memory_session(folder, 192, 112, 384)


def test_mem_set_pv(folder):
    memory_session(folder, 256, 128, 512, "-machine", "pv")


def test_idle(folder):
    """An idle guest takes next to no host CPU: its own ticks only."""
    with boot(folder) as guest:
        ready(guest)
        guest.run("sleep 1")

        def cpu():
            fields = open(f"/proc/{guest.child.pid}/stat").read().rsplit(")", 1)[1].split()
            return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")

        before, begin = cpu(), time.monotonic()
        guest.run("sleep 4")
        used = (cpu() - before) / (time.monotonic() - begin)
        assert used < 0.25, f"{used:.0%} of a CPU while idle"
        guest.type("poweroff -f\n")
        guest.finish(0)


if __name__ == "__main__":
    sys.exit(main([(name[5:], function) for name, function in list(globals().items()) if name.startswith("test_")]))
