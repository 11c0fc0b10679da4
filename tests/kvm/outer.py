# SPDX-License-Identifier: MIT
"""A machine with a true /dev/kvm, made in software: QEMU emulates AMD-V and a stock Debian kernel with its own
kvm-amd module runs in it (docs/kvm.md). Everything the programs need goes into an initramfs.

One outer CPU and -icount: a run is deterministic, host load does not matter, and 2 ns of its clock are one instruction.
PAUSE is dear there (QEMU leaves its loop for each: some 0.25 us), so whoever spins is to lose the processor soon: the
outer scheduler's slices are short, and what the outer kernel waits for at its start is left out.
QEMU 7.2 does not let KVM see XSETBV, so that a guest that uses XSAVE would lose vector registers: guests get noxsave.
"""
import lzma
import os
import pathlib
import re
import stat
import subprocess
import tempfile
import time

FOLDER = stat.S_IFDIR | 0o755
MODULES = ("virt/lib/irqbypass.ko", "arch/x86/kvm/kvm.ko")
APPEND = "console=ttyS0 quiet panic=-1 no_timer_check mitigations=off cryptomgr.notests rdinit=/init"
PROCESSOR = "EPYC,+svm,+npt,-erms"
START, END = "OUTER-START", "OUTER-END"

INIT = """#!/bin/busybox sh
B=/bin/busybox
$B mount -t proc proc /proc; $B mount -t sysfs sys /sys; $B mount -t devtmpfs dev /dev; $B mount -t tmpfs tmp /tmp
$B mkdir -p /dev/pts /tmp/run; $B mount -t devpts pts /dev/pts; $B ip link set lo up
$B --install -s /bin
for m in irqbypass kvm kvm-amd kvm-intel; do [ ! -e /m/$m.ko ] || insmod /m/$m.ko || echo "no module $m"; done
export PATH=/bin XDG_RUNTIME_DIR=/tmp/run XDG_CACHE_HOME=/tmp HOME=/tmp LANG=C
chmod 700 /tmp/run
mount -t debugfs debug /sys/kernel/debug; cd /sys/kernel/debug/sched
echo HRTICK > features; for f in latency min_granularity wakeup_granularity; do echo 100000 > ${f}_ns; done
echo force > /sys/kernel/mm/transparent_hugepage/shmem_enabled
echo %s
cd /t
sh /t/job.sh </dev/null 2>&1
echo "%s=$?"
sleep 0.5 # until the console has sent that
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
    """The initramfs of one run, and the run: QEMU with AMD-V."""

    MODULE = "arch/x86/kvm/kvm-amd.ko"
    NEEDS = ("qemu-system-x86_64",)
    APPEND = APPEND + " nolapic_timer"  # its calibration waits with PAUSE
    TICKS = 2  # of its TSC for an instruction
    SILENCE = 600  # seconds of the host that it may say nothing: longer than a case may take

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
        for module in MODULES + (self.MODULE,):
            self.module("/m/" + os.path.basename(module), modules / module)

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

    def module(self, name, source):
        """Debian packs them since 13."""
        packed = pathlib.Path(f"{source}.xz")
        self.data(name, lzma.decompress(packed.read_bytes()) if packed.exists() else pathlib.Path(source).read_bytes())

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

    def command(self, folder, serial, memory):
        """What runs it, with its output in the file `serial`."""
        initrd = os.path.join(folder, "rd")
        self.write(initrd)
        return ["qemu-system-x86_64", "-accel", "tcg,thread=single", "-icount", "shift=1,sleep=off", "-cpu", PROCESSOR,
                "-smp", "1", "-m", str(memory), "-M", "hpet=off", "-nodefaults", "-display", "none", "-serial", "file:" + serial,
                "-no-reboot", "-kernel", self.vmlinuz, "-initrd", initrd, "-append", self.APPEND]

    def once(self, limit, memory):
        with tempfile.TemporaryDirectory() as folder:
            serial = os.path.join(folder, "serial")
            child = subprocess.Popen(self.command(folder, serial, memory), stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL,
                                     stderr=subprocess.DEVNULL, cwd=folder)
            end, size, silent = time.monotonic() + limit, 0, time.monotonic() + self.SILENCE
            while child.poll() is None and time.monotonic() < min(end, silent):
                try:
                    child.wait(1)
                except subprocess.TimeoutExpired:
                    now = os.path.getsize(serial) if os.path.exists(serial) else 0
                    if now != size:
                        size, silent = now, time.monotonic() + self.SILENCE
            child.kill()
            child.wait()
            text = pathlib.Path(serial).read_bytes().decode(errors="replace") if os.path.exists(serial) else ""
            return re.sub(r"\r*\n", "\n", text)

    def run(self, job, limit=120, memory=1024):
        """Runs the shell script `job` and returns what it said. Again only when the outer machine itself did not start."""
        self.text("/t/job.sh", job)
        text = ""
        for _ in range(2):
            text = self.once(limit, memory)
            if START in text:
                break
        body = text.partition(START + "\n")[2]
        match = re.search(END + r"=(\d+)", body)
        if not match:
            raise Failure("the outer machine did not come to its end:\n" + text)
        if match.group(1) != "0":
            raise Failure(f"status {match.group(1)}:\n" + body)
        return body[:match.start()]


class OuterVtx(Outer):
    """The same with VT-x: Bochs, from a CD that GRUB starts. No XSAVE there, so no other engine; slower."""

    MODULE = "arch/x86/kvm/kvm-intel.ko"
    NEEDS = ("bochs-bin", "grub-mkrescue", "xorriso", "mformat")
    TICKS = 1
    SILENCE = 7200
    CONFIG = """cpu: model=corei7_skylake_x, count=1, ips=60000000
memory: guest={memory}, host={memory}
romimage: file=/usr/share/bochs/BIOS-bochs-latest
vgaromimage: file=/usr/share/bochs/VGABIOS-lgpl-latest
ata0-master: type=cdrom, path=disc.iso, status=inserted
boot: cdrom
com1: enabled=1, mode=file, dev={serial}
display_library: rfb, options="timeout=0"
clock: sync=none
sound: waveoutdrv=dummy, waveout=none, waveindrv=dummy, wavein=none, midioutdrv=dummy, midiout=none
log: bochs.log
panic: action=report
error: action=ignore
info: action=ignore
"""

    def command(self, folder, serial, memory):
        tree = pathlib.Path(folder, "iso/boot")
        (tree / "grub").mkdir(parents=True)
        self.write(tree / "rd")
        (tree / "vmlinuz").write_bytes(pathlib.Path(self.vmlinuz).read_bytes())
        (tree / "grub/grub.cfg").write_text(
            f"set timeout=0\nmenuentry x {{\n linux /boot/vmlinuz {APPEND}\n initrd /boot/rd\n}}\n")
        subprocess.run(["grub-mkrescue", "-o", "disc.iso", "iso"], check=True, capture_output=True, cwd=folder)
        pathlib.Path(folder, "rc").write_text(self.CONFIG.format(memory=memory, serial=serial))
        pathlib.Path(folder, "debugger").write_text("c\n")  # the package's Bochs starts in its debugger
        return ["bochs-bin", "-q", "-f", "rc", "-rc", "debugger"]
