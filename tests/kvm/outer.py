# SPDX-License-Identifier: MIT
"""A machine with a true /dev/kvm, made in software: QEMU emulates AMD-V and a stock Debian kernel with its own
kvm-amd module runs in it (docs/kvm.md). Everything the programs need goes into an initramfs.

One outer CPU and -icount: a run is deterministic, host load does not matter, and 2 ns of its clock are one instruction.
QEMU 7.2 does not let KVM see XSETBV, so that a guest that uses XSAVE would lose vector registers: guests get noxsave.
"""
import os
import pathlib
import re
import stat
import subprocess
import tempfile

FOLDER = stat.S_IFDIR | 0o755
MODULES = ("virt/lib/irqbypass.ko", "arch/x86/kvm/kvm.ko", "arch/x86/kvm/kvm-amd.ko")
PROCESSOR = "EPYC,+svm,+npt"
START, END = "OUTER-START", "OUTER-END"

INIT = """#!/bin/busybox sh
B=/bin/busybox
$B mount -t proc proc /proc; $B mount -t sysfs sys /sys; $B mount -t devtmpfs dev /dev; $B mount -t tmpfs tmp /tmp
$B mkdir -p /dev/pts /tmp/run; $B mount -t devpts pts /dev/pts; $B ip link set lo up
$B --install -s /bin
for m in irqbypass kvm kvm-amd; do insmod /m/$m.ko || echo "no module $m"; done
export PATH=/bin XDG_RUNTIME_DIR=/tmp/run XDG_CACHE_HOME=/tmp HOME=/tmp LANG=C
chmod 700 /tmp/run
echo %s
cd /t
sh /t/job.sh </dev/null 2>&1
echo "%s=$?"
poweroff -f
""" % (START, END)


class Failure(Exception):
    """What went wrong, with the evidence."""


def entry(number, name, mode, data=b"", device=(0, 0)):
    """One member of the "newc" form (the kernel's driver-api/early-userspace/buffer-format.rst)."""
    label = name.encode() + b"\0"
    fields = (number, mode, 0, 0, 1, 0, len(data), 0, 0, *device, len(label), 0)
    head = b"070701" + b"".join(b"%08x" % field for field in fields) + label
    return head + b"\0" * (-len(head) % 4) + data + b"\0" * (-len(data) % 4)


def libraries(program):
    """The shared libraries a program is started with, the loader among them."""
    text = subprocess.run(["ldd", program], capture_output=True, text=True).stdout
    return sorted(set(re.findall(r"(/\S+)", text)))


class Outer:
    """The initramfs of one run, and the run."""

    def __init__(self, kernel):
        """kernel: a folder made by images/kernel.sh."""
        self.vmlinuz = os.path.join(kernel, "vmlinuz")
        release = pathlib.Path(kernel, "release").read_text().strip()
        modules = pathlib.Path(kernel, "root/lib/modules", release, "kernel")
        self.members = {}
        for name in ("bin", "dev", "proc", "sys", "tmp", "m", "t", "lib", "lib64", "usr"):
            self.members[name] = (FOLDER, b"", (0, 0))
        self.members["dev/console"] = (stat.S_IFCHR | 0o600, b"", (5, 1))
        self.add("/bin/busybox", "/bin/busybox")
        self.text("/init", INIT, 0o755)
        for module in MODULES:
            self.add("/m/" + os.path.basename(module), str(modules / module))

    def parents(self, name):
        parts = name.split("/")[:-1]
        for i in range(1, len(parts) + 1):
            self.members.setdefault("/".join(parts[:i]), (FOLDER, b"", (0, 0)))

    def data(self, name, data, mode=0o755):
        name = name.lstrip("/")
        self.parents(name)
        self.members[name] = (stat.S_IFREG | mode, data, (0, 0))

    def text(self, name, text, mode=0o644):
        self.data(name, text.encode(), mode)

    def add(self, name, source):
        self.data(name, pathlib.Path(source).read_bytes())

    def program(self, name, source):
        """A program with the libraries it needs."""
        self.add(name, source)
        for library in libraries(source):
            self.add(library, os.path.realpath(library))

    def bytes(self):
        parts = [entry(number, name, mode, data, device)
                 for number, (name, (mode, data, device)) in enumerate(self.members.items(), 1)]
        return b"".join(parts) + entry(0, "TRAILER!!!", 0)

    def write(self, path):
        pathlib.Path(path).write_bytes(self.bytes())

    def once(self, limit, memory, cpu, extra):
        with tempfile.TemporaryDirectory() as folder:
            initrd, serial = os.path.join(folder, "rd"), os.path.join(folder, "serial")
            self.write(initrd)
            command = [
                "qemu-system-x86_64", "-accel", "tcg,thread=single", "-icount", "shift=1,sleep=off", "-cpu", cpu, "-smp", "1",
                "-m", str(memory), "-nodefaults", "-display", "none", "-serial", "file:" + serial, "-no-reboot", "-kernel",
                self.vmlinuz, "-initrd", initrd, "-append",
                "console=ttyS0 quiet panic=-1 no_timer_check mitigations=off rdinit=/init " + extra]
            try:
                subprocess.run(command, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, timeout=limit)
            except subprocess.TimeoutExpired:
                pass
            text = pathlib.Path(serial).read_bytes().decode(errors="replace") if os.path.exists(serial) else ""
            return re.sub(r"\r*\n", "\n", text)

    def run(self, job, limit=120, memory=1024, cpu=PROCESSOR, extra=""):
        """Runs the shell script `job` and returns what it said. Again only when the outer machine itself did not start."""
        self.text("/t/job.sh", job)
        text = ""
        for _ in range(2):
            text = self.once(limit, memory, cpu, extra)
            if START in text:
                break
        body = text.partition(START + "\n")[2]
        match = re.search(END + r"=(\d+)", body)
        if not match:
            raise Failure("the outer machine did not come to its end:\n" + text[-6000:])
        if match.group(1) != "0":
            raise Failure(f"status {match.group(1)}:\n" + body[-6000:])
        return body[:match.start()]
