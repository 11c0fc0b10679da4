# SPDX-License-Identifier: MIT
"""Runs the bench program: natively, in a guest of pvemu, in a guest of QEMU. Every wait has a limit."""
import os
import re
import selectors
import signal
import subprocess
import tempfile
import time

RAM_MIB = 512
# The same for every guest; the self-tests of the kernel's ciphers are no part of what is compared.
CMDLINE = "quiet panic=-1 cryptomgr.notests"
PROBE_SECONDS = 30


class Failure(Exception):
    """A run that did not give what it should, with the end of its output."""


class Process:
    """A child in a session of its own, read line by line."""

    def __init__(self, argv, limit):
        self.argv = argv
        self.limit = limit
        self.folder = tempfile.TemporaryDirectory(prefix="pvemu-bench-")
        env = dict(os.environ, XDG_RUNTIME_DIR=self.folder.name, XDG_CACHE_HOME=self.folder.name, LC_ALL="C")
        self.errors = tempfile.TemporaryFile()
        self.started = time.monotonic()
        self.child = subprocess.Popen(argv, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=self.errors,
                                      env=env, start_new_session=True)
        os.set_blocking(self.child.stdout.fileno(), False)
        self.selector = selectors.DefaultSelector()
        self.selector.register(self.child.stdout, selectors.EVENT_READ)
        self.buffer = b""
        self.tail = []

    def __enter__(self):
        return self

    def __exit__(self, *exc):
        try:
            os.killpg(self.child.pid, signal.SIGKILL)
        except ProcessLookupError:
            pass
        self.child.wait()
        self.selector.close()
        self.child.stdin.close()
        self.child.stdout.close()
        self.errors.close()
        self.folder.cleanup()

    def error_text(self):
        self.errors.seek(0)
        return self.errors.read().decode(errors="replace")

    def fail(self, text):
        tail = "\n".join(self.tail[-15:])
        raise Failure(f"{text}\ncommand: {' '.join(self.argv)}\n{tail}\n{self.error_text()[-1500:]}")

    def line(self):
        """The next line; None at the end."""
        end = time.monotonic() + self.limit
        while b"\n" not in self.buffer:
            left = end - time.monotonic()
            if left <= 0:
                self.fail(f"nothing for {self.limit:.0f} s")
            if self.selector.select(left):
                data = os.read(self.child.stdout.fileno(), 65536)
                if not data:
                    return None
                self.buffer += data
                if len(self.buffer) > 1 << 20:
                    self.fail("a line of more than 1 MiB")
        line, self.buffer = self.buffer.split(b"\n", 1)
        text = line.decode(errors="replace").strip("\r")
        self.tail = self.tail[-50:] + [text]
        return text

    def end(self):
        """Lets the guest power off."""
        try:
            self.child.stdin.write(b"\n")
            self.child.stdin.flush()
        except BrokenPipeError:
            pass
        while self.line() is not None:
            pass
        try:
            self.child.wait(self.limit)
        except subprocess.TimeoutExpired:
            self.fail("does not end")

    def members(self):
        """Process ids of the session: the emulator and its helpers."""
        found = []
        for name in os.listdir("/proc"):
            if name.isdigit():
                try:
                    with open(f"/proc/{name}/stat", "rb") as file:
                        if int(file.read().rsplit(b")", 1)[1].split()[3]) == self.child.pid:
                            found.append(int(name))
                except (OSError, IndexError):
                    pass
        return found

    def memory_over_ram(self):
        """MiB resident in all processes of the emulator apart from guest RAM; None when not readable.

        The sum of Pss (a page that several share counts once) over every mapping of every process of the
        session, without the mappings that are guest RAM: pvemu's and QEMU's memory files by name, and
        QEMU's anonymous RAM as the one writable anonymous mapping of the guest's size.
        """
        total = 0
        for pid in self.members():
            try:
                with open(f"/proc/{pid}/smaps", encoding="ascii", errors="replace") as file:
                    lines = file.readlines()
            except OSError:
                return None
            is_ram = False
            for line in lines:
                head = re.match(r"([0-9a-f]+)-([0-9a-f]+) (\S+) \S+ \S+ \S+\s*(.*)", line)
                if head:
                    size = int(head.group(2), 16) - int(head.group(1), 16)
                    anonymous = head.group(4) == "" and head.group(3) == "rw-p"
                    is_ram = "memfd:pvemu-ram" in head.group(4) or (
                        anonymous and RAM_MIB << 20 <= size <= (RAM_MIB + 16) << 20)
                elif line.startswith("Pss:") and not is_ram:
                    total += int(line.split()[1])
        return total / 1024


class Result:
    """What one engine gave: the fastest time of each workload, and how it boots."""

    def __init__(self):
        self.ns = {}  # name -> ns per iteration
        self.checks = {}  # name -> set of (iterations, check value)
        self.skipped = set()
        self.groups = {}  # name -> group, in the order of the program
        self.boot = None
        self.memory_boot = None
        self.memory_end = None
        self.clock = None
        self.unstable = set()
        self.release = None

    def take(self, line):
        run = re.search(r"@run (\w+) (\w+) iters=(\d+) ns=(\d+) check=([0-9a-f]{16}) reps=\d+( unstable)?", line)
        skip = re.search(r"@skip (\w+) (\w+)", line)
        if run:
            name = run.group(1)
            self.groups[name] = run.group(2)
            ns = max(int(run.group(4)), 1) / int(run.group(3))
            self.ns[name] = min(ns, self.ns.get(name, ns))
            self.checks.setdefault(name, set()).add((run.group(3), run.group(5)))
            if run.group(6):
                self.unstable.add(name)
        elif skip:
            self.skipped.add(skip.group(1))
            self.groups[skip.group(1)] = skip.group(2)


class Native:
    title = "native"

    def __init__(self, bench, limit):
        self.bench = bench
        self.limit = limit
        self.result = Result()
        self.note = None
        self.rounds = []  # one dictionary of times for each pass, to see the noise

    def run(self, arguments):
        before = self.result.ns
        self.result.ns = {}
        with Process([self.bench, *arguments], self.limit) as process:
            while (line := process.line()) is not None:
                self.result.take(line)
        self.rounds.append(dict(self.result.ns))
        for name, ns in before.items():
            self.result.ns[name] = min(ns, self.result.ns.get(name, ns))


class Guest:
    """What pvemu and QEMU have in common; command() is theirs."""

    def __init__(self, title, limit):
        self.title = title
        self.limit = limit
        self.result = Result()
        self.note = None

    def command(self, arguments):
        raise NotImplementedError

    def wait_for(self, process, word):
        while (line := process.line()) is not None:
            self.result.take(line)
            if word in line:
                return line
        process.fail(f"ended before {word}")
        return None

    def up(self, process):
        """Waits for process 1; the seconds it took."""
        line = self.wait_for(process, "@init")
        seconds = time.monotonic() - process.started
        self.result.release = line.split()[-1]
        return seconds

    def boot(self):
        """One boot without workloads."""
        with Process(self.command([]), self.limit) as process:
            seconds = self.up(process)
            self.wait_for(process, "@done")
            memory = process.memory_over_ram()
            self.describe(process)
            process.end()
        self.result.boot = min(seconds, self.result.boot or seconds)
        self.result.memory_boot = memory

    def run(self, arguments):
        with Process(self.command(arguments), self.limit) as process:
            self.up(process)
            self.wait_for(process, "@start")
            start = time.monotonic()
            line = self.wait_for(process, "@done")
            host = time.monotonic() - start
            guest = int(re.search(r"ns=(\d+)", line).group(1)) / 1e9
            self.result.memory_end = process.memory_over_ram()
            self.describe(process)
            process.end()
        if host > 1:
            self.result.clock = guest / host

    def describe(self, process):
        pass


class Pvemu(Guest):
    def __init__(self, program, accel, machine, cpus, kernel, initrd, limit):
        words = [word for word in (accel, machine) if word != "auto"]
        super().__init__(" ".join(["pvemu", *words]), limit)
        self.program = program
        self.accel = accel
        self.machine = machine
        self.cpus = cpus
        self.kernel = kernel
        self.initrd = initrd

    def command(self, arguments):
        return [self.program, "-kernel", self.kernel, "-initrd", self.initrd, "-m", f"{RAM_MIB}M", "-net", "none",
                "-accel", self.accel, "-machine", self.machine, "-smp", str(self.cpus), "-cmdline", " ".join(["console=hvc0", CMDLINE, "--", *arguments])]

    def describe(self, process):
        for line in process.error_text().splitlines():
            if " by " in line and "CPU" in line:
                self.note = line.removeprefix("pvemu: ")
                return


class Qemu(Guest):
    # From the one that boots fastest.
    WAYS = (("microvm,isa-serial=on,x-option-roms=off", "vmlinux"), ("microvm,isa-serial=on", "vmlinuz"),
            ("pc", "vmlinuz"))

    def __init__(self, program, cpu, cpus, kernels, initrd, tsc_khz, limit):
        super().__init__(f"QEMU {cpu}", limit)
        self.program = program
        self.cpus = cpus
        self.cpu = cpu
        self.kernels = kernels  # "vmlinux" and "vmlinuz" -> path
        self.initrd = initrd
        # On a busy host Linux fails to measure the TSC against the PIT, and microvm has nothing else: it hangs.
        self.cmdline = f"console=ttyS0 reboot=t tsc_early_khz={tsc_khz} tsc=reliable {CMDLINE}"
        self.way = None

    def command(self, arguments):
        machine, kernel = self.way
        return [self.program, "-M", machine, "-accel", "tcg,thread=multi" if self.cpus > 1 else "tcg",
                "-cpu", self.cpu, "-m", str(RAM_MIB), "-smp", str(self.cpus),
                "-nodefaults", "-no-user-config", "-display", "none", "-no-reboot", "-serial", "stdio",
                "-kernel", self.kernels[kernel], "-initrd", self.initrd,
                "-append", " ".join([self.cmdline, "--", *arguments])]

    def probe(self):
        """Finds the first way that boots."""
        limit = self.limit
        self.limit = min(limit, PROBE_SECONDS)
        last = None
        for self.way in self.WAYS:
            try:
                self.boot()
                self.result.boot = self.result.memory_boot = None  # as many boots count as pvemu has
                self.note = f"-M {self.way[0]} -cpu {self.cpu}, {self.way[1]}"
                self.limit = limit
                return
            except Failure as failure:
                last = failure
        self.limit = limit
        raise last
