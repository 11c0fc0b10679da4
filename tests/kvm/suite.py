#!/usr/bin/env python3
# SPDX-License-Identifier: MIT
"""The KVM engine on a true KVM: suite.py amd|vtx PVEMU PROGRAM_FOLDER GUEST_FOLDER [WORD...].

Outer machines (outer.py), as many as there are processors or $PVEMU_KVM_MACHINES but two at most, share the cases; what
each said is judged here. WORDs choose cases by a part of their name, but for those that one with a minus sign names;
"commit" and "nightly" are the cases of COMMIT and NIGHTLY. The kernel is in $PVEMU_CLOUD, or images/kernel.sh fetches it. With a 32-bit one in
$PVEMU_686 and a 32-bit busybox in $PVEMU_BUSYBOX_I386, and with Debian 13's in $PVEMU_TRIXIE, these are tried too. Skipped without QEMU (amd) or Bochs (vtx).
"""
import concurrent.futures
import copy
import hashlib
import os
import pathlib
import re
import resource
import shlex
import shutil
import subprocess
import sys
import time

import outer

ROOT = pathlib.Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT / "tests/guest/pv"))
import rows  # noqa: E402
NEEDS = ("busybox", "ldd")
LIMIT = float(os.environ.get("PVEMU_KVM_LIMIT", "1800" if sys.argv[1:2] != ["vtx"] else "36000"))  # seconds of the host for the whole run
OWN_PORT, OWN_CALL = 400, 1700  # instructions above the bare loop that an exit may cost (amd)
DISK_BYTES = 4 << 20
PART = 1 << 20  # of it, for the network
PIECE = 256 << 10  # for what is done over and over
PROGRAMS = ("bare", "irqchip", "debug", "debug_pv", "debug_split", "state")
RUN = "./pvemu -accel kvm -m 256M"
PV_MEMORY = "-m 128M"  # each page more is calls at the start of a PV guest: what it needs, and no more
AUTO = "./pvemu -m 32M -net none -timeout 20 -kernel"
CMDLINE = "console=hvc0 quiet panic=-1 cryptomgr.notests noxsave"
PV_CMDLINE = "console=hvc0 quiet panic=-1 cryptomgr.notests"  # XSETBV comes out to pvemu: XSAVE works
QUICK = " noreplace-smp"  # a kernel that takes its LOCK prefixes away makes 70,000 hypercalls for it as PV

def sample():
    """The disk's bytes: no two sectors are alike."""
    return b"".join(b"%015d\n" % i for i in range(DISK_BYTES // 16))


# What the guest does first, and how it ends.
GUEST_INIT = """#!/bin/busybox sh
B=/bin/busybox
$B mount -t proc proc /proc; $B mount -t sysfs sys /sys; $B mount -t devtmpfs dev /dev
$B --install -s /bin; export PATH=/bin
. /work.sh
echo "GUEST-END $?"
dmesg -r | grep -E '^<[0-4]>' | grep -v -e 'Grant table init' -e PCI -e 'spinlock event irq' -e ACPI: -e 'PMU not' -e 'APIC id mismatch' -e 'hrtimer: interrupt took' | sed 's/^/GUEST-WARNS /'
poweroff -f
"""

# Processes that switch, a checksum, floating point, a sleep.
WORK = """
echo "cpus $(grep -c ^processor /proc/cpuinfo)"
i=0; while [ $i -lt 40 ]; do echo "scale=5; $i / 7" | cat >/dev/null; i=$((i+1)); done
head -c 1048576 /dev/zero | sha256sum
awk 'BEGIN { for (i = 1; i <= 2000; i++) s += 1 / i; printf "sum %.10f\\n", s }'
a=$(cut -d. -f1 /proc/uptime); sleep 2; b=$(cut -d. -f1 /proc/uptime); echo "slept $((b - a))"
"""

DISK = """
insmod /xen-blkfront.ko; n=0; while [ ! -b /dev/xvda ] && [ $n -lt 50 ]; do sleep 0.1; n=$((n+1)); done
sha256sum < /dev/xvda
dd if=/dev/xvda of=/dev/xvda bs=65536 skip=16 count=16 seek=0 conv=fsync 2>/dev/null; sync
echo 3 > /proc/sys/vm/drop_caches; dd if=/dev/xvda bs=65536 count=16 2>/dev/null | sha256sum
"""

NET = """
insmod /xen-netfront.ko; ip link set eth0 up; ip addr add 10.0.2.15/24 dev eth0; ip route add default via 10.0.2.2
wget -q -O - http://10.0.2.2:8099/part | sha256sum
"""


# Until it finds the file `stop` by its network: checksums, floating point, processes, time that never goes back, and
# beside that a disk that is written and read, and a network. Nothing new in the kernel's log, but that an interrupt took
# long: two virtual CPUs share one processor.
SWITCH = """
insmod /xen-blkfront.ko; n=0; while [ ! -b /dev/xvda ] && [ $n -lt 50 ]; do sleep 0.1; n=$((n+1)); done
insmod /xen-netfront.ko; ip link set eth0 up; ip addr add 10.0.2.15/24 dev eth0; ip route add default via 10.0.2.2
want=@PIECE@
disk() {
    rounds=0; bad=0
    while [ ! -e /tmp/stop ]; do
        dd if=/dev/xvda of=/dev/xvda bs=65536 count=4 seek=$((8 + rounds % 32)) conv=fsync 2>/dev/null
        echo 3 > /proc/sys/vm/drop_caches
        got=$(dd if=/dev/xvda bs=65536 count=4 skip=$((8 + rounds % 32)) 2>/dev/null | sha256sum)
        [ "$got" = "$want  -" ] || bad=$((bad + 1)); rounds=$((rounds + 1))
    done
    echo "disk $rounds bad $bad" > /tmp/disk
}
net() {
    rounds=0; bad=0
    while [ ! -e /tmp/stop ]; do
        [ "$(wget -q -O - http://10.0.2.2:8099/piece | sha256sum)" = "$want  -" ] || bad=$((bad + 1)); rounds=$((rounds + 1))
        wget -q -O /tmp/stop.new http://10.0.2.2:8099/stop 2>/dev/null && mv /tmp/stop.new /tmp/stop
    done
    echo "net $rounds bad $bad" > /tmp/net
}
wget -q -O - http://10.0.2.2:8099/piece > /dev/null; sleep 0.2; echo 4 > /proc/sys/vm/drop_caches; dmesg | grep -v 'hrtimer: interrupt took' > /tmp/before
disk & net &
echo READY
start=$(cut -d. -f1 /proc/uptime); last=0; rounds=0; bad=0
zeros=$(head -c 65536 /dev/zero | sha256sum); sum=8.1783681036
while [ ! -e /tmp/stop ]; do
    now=$(tr -d . < /proc/uptime | cut -d' ' -f1)
    [ $now -lt $(( (start + 40) * 100 )) ] || { bad=$((bad + 1)); echo "nobody said stop"; touch /tmp/stop; }
    [ $now -ge $last ] || { bad=$((bad + 1)); echo "time went back: $last $now"; }; last=$now
    [ "$(head -c 65536 /dev/zero | sha256sum)" = "$zeros" ] || { bad=$((bad + 1)); echo "checksum"; }
    [ "$(awk 'BEGIN { for (i = 1; i <= 2000; i++) s += 1 / i; printf "%.10f", s }')" = $sum ] || { bad=$((bad + 1)); echo float; }
    rounds=$((rounds + 1))
done
wait
echo "rounds $rounds bad $bad"; cat /tmp/disk /tmp/net
dmesg | grep -v 'hrtimer: interrupt took' > /tmp/after; cmp -s /tmp/before /tmp/after && echo "no new message" || tail -n +$(($(wc -l < /tmp/before) + 1)) /tmp/after
""".replace("@PIECE@", hashlib.sha256(sample()[:PIECE]).hexdigest())


# The same while it is suspended and resumed: messages are of another kind then.
SLEEPER = SWITCH.partition("dmesg | grep -v 'hrtimer: interrupt took' > /tmp/after")[0] + """
dmesg | grep -E 'WARNING|BUG:|Call Trace|rcu: INFO|soft lockup|I/O error|disabled for further use' || echo "no odd message"
"""


# Gives memory back, has more than at first, and uses it: what it writes there is what it reads.
BALLOON = """
total() { awk '/MemTotal/ { print int($2 / 1024) }' /proc/meminfo; }
reach() { n=0; while [ $(total) $1 $2 ] && [ $n -lt 150 ]; do sleep 0.1; n=$((n+1)); done; echo "$3 $(($(total) - t))"; }
sleep 1; t=$(total); echo READY
reach -gt $((t - 30)) smaller
reach -lt $((t + 80)) larger
mount -t tmpfs -o size=90% none /tmp; head -c 4000000 /dev/urandom > /tmp/piece
pieces() { for i in 1 2 3 4 5 6 7 8 9 10 11 12 13 14 15 16; do cat /tmp/piece; done; }
pieces > /tmp/whole; pieces | cmp - /tmp/whole && echo "the same"
"""

# A CPU goes and comes, memory goes; it sees that.
CHANGES = """
n=0; changes=; last=; before=$(awk '/MemFree/ { print $2 }' /proc/meminfo)
echo READY
while [ $n -lt 200 ]; do
    echo 1 2>/dev/null > /sys/devices/system/cpu/cpu1/online # as udev would do
    now=$(cat /sys/devices/system/cpu/online); [ "$now" = "$last" ] || { echo "online $now"; last=$now; changes=$changes/$now; }
    less=$((before - $(awk '/MemFree/ { print $2 }' /proc/meminfo)))
    [ "$changes" = /0-1/0/0-1 ] && [ $less -gt 30000 ] && break
    sleep 0.1; n=$((n+1))
done
[ $less -gt 30000 ] && echo "memory went"; echo "changes $changes"
dmesg | grep -E 'WARNING|BUG:|Call Trace|rcu: INFO|soft lockup' || echo "no odd message"
"""

# Starts itself anew once; its disk's contents stay.
AGAIN = """
insmod /xen-blkfront.ko; n=0; while [ ! -b /dev/xvda ] && [ $n -lt 50 ]; do sleep 0.1; n=$((n+1)); done
[ "$(head -c 5 /dev/xvda)" = again ] || { printf again | dd of=/dev/xvda conv=fsync 2>/dev/null; sync; echo FIRST; reboot -f; sleep 60; }
echo SECOND; echo "cpus $(grep -c ^processor /proc/cpuinfo)"
"""


# Ends as the last word of the command line says.
ENDED = """
echo ENDS; eval "$(sed 's/.*"\\(.*\\)".*/\\1/' /proc/cmdline)"; sleep 60
"""


class Case:
    """One section of the outer machine's job: what it runs, and what its output must have."""

    def __init__(self, name, command, *wanted, status=0, unwanted=(), weight=1):
        self.name, self.command, self.wanted, self.status, self.unwanted = name, command, wanted, status, unwanted
        self.weight = weight  # about how long it takes, in small kernels
        self.seconds = 0.0  # by the outer machine's clock

    def script(self, number):
        return (f"echo '== {number}'; read a b < /proc/uptime\n{self.command}\n"
                f"echo \"== {number} status $? from $a to $(cut -d' ' -f1 /proc/uptime)\"\n")

    def judge(self, text):
        """Complaints about its part of the output."""
        status = re.search(r"^== \d+ status (\d+) from ([0-9.]+) to ([0-9.]+)$", text, re.MULTILINE)
        if not status:
            return ["it did not come to its end"]
        self.seconds = float(status.group(3)) - float(status.group(2))
        bad = [] if int(status.group(1)) == self.status else [f"status {status.group(1)}, not {self.status}"]
        bad += [f"no {w!r}" for w in self.wanted if not re.search(w, text, re.MULTILINE)]
        return bad + [f"there is {w!r}" for w in self.unwanted if re.search(w, text, re.MULTILINE)]


def small(name, status, *wanted, options="-timeout 5"):
    command = f"timeout 60 {RUN} -net none -kernel {name}.elf {options}"
    return Case(f"guest {name}", command, r"by PVH, kvm", *wanted, status=status)


class Cost(Case):
    """Instructions of an exit, against the least that KVM can do."""

    def __init__(self, ticks):
        self.ticks = ticks
        super().__init__("cost of an exit", f"./bare && {RUN} -net none -kernel exit_cost.elf -timeout 5",
                         r"^bare \d+", r"^port \d+", r"^hypercall \d+")

    def judge(self, text):
        bad = super().judge(text)
        if bad:
            return bad
        ticks = {name: int(re.search(rf"^{name} (\d+)", text, re.MULTILINE).group(1)) for name in ("bare", "port", "hypercall")}
        bare, port, call = (ticks[n] // self.ticks for n in ("bare", "port", "hypercall"))
        print(f"# instructions: bare loop {bare}, port write {port}, hypercall {call}", flush=True)
        for name, cost, own in (("port write", port, OWN_PORT), ("hypercall", call, OWN_CALL)):
            if cost - bare > own and self.ticks == outer.Outer.TICKS:
                bad.append(f"a {name} costs {cost - bare} instructions more than the bare loop, not {own} at most")
        return bad


class Controllers(Case):
    """What KVM's local APICs do not tell (docs/kvm.md): cpu/kvm/irqchip.c lives with each of it."""

    def __init__(self, ticks):
        self.ticks = ticks
        super().__init__("interrupt controllers", "./irqchip && ./irqchip restart", "^message to an APIC that is off: dropped$",
                         "^HLT with interrupts off: not told, state 3$", "^KVM_INTERRUPT with LVT0 masked: kept$",
                         "^INIT of another vCPU, x2APIC filtered: not told$", "^INIT and start of a vCPU: not told$")

    def judge(self, text):
        cost = {name: int(n) // self.ticks for name, n in re.findall(r"^(\S+) (-?\d+)$", text, re.MULTILINE)}
        print("# instructions of an event: " + ", ".join(f"{name} {n}" for name, n in cost.items()), flush=True)
        return super().judge(text) + [f"no figure for {n!r}" for n in ("interrupt", "interrupt-window", "interrupt-kick", "message", "message-closed")
                                      if cost.get(n, 0) <= 0]


def linux(name, work, *wanted, options="", before="", kind="PVH", cmdline=CMDLINE, kernel="vmlinuz", weight=25):
    """A Debian kernel to its init, the work, and power-off."""
    command = (f"{before} timeout 300 {RUN} {options} -kernel {kernel} -initrd {work}.cpio -cmdline '{cmdline}' "
               f"-timeout 120")
    return Case(name, command, rf"by {kind}, kvm", r"^GUEST-END 0", r"the guest powered off", *wanted,
                unwanted=(r"GUEST-WARNS", r"PVEMU-NOTE"), weight=weight)


# What is another way on KVM (docs/kvm.md): in these kernels this check and no other fails.
DIFFERS = {
    "calls": r"local_limit\(\) == 0xffffffff, got 0x0+$",  # LSL of a selector of the LDT
    "cpu": r"try_call\(\(void \*\)\(do_vmmcall\)",  # KVM's own hypercall
}


def test_kernel(row, group):
    """A row of tests/guest/pv/rows.py."""
    options = " ".join(shlex.quote(word) for word in row.options()) + (" -disk disk,snapshot" if row.disk else "")
    command = f"timeout 60 ./pvemu -accel kvm {options} -kernel {row.kernel}.elf -timeout 50"
    kind = "PVH" if "_pvh" in row.kernel else "PV"
    status, wanted, unwanted = row.status, (row.verdict, re.escape(row.text)), ()
    check = DIFFERS.get(row.name.removesuffix("_page")) if group == "PV guest" else None
    if check is not None:
        status, wanted = 112, ("kernel panic", rf"^FAILED: {check}")
        unwanted = (rf"^FAILED: (?!{check})", rf"FAILED: {check}[^$]*FAILED: {check}")
    return Case(f"{group} {row.name}", command, rf"by {kind}, kvm", *wanted, status=status, unwanted=unwanted,
                weight=25 if row.name.startswith("vcpus_pvh32") else 12 if row.name.startswith("vcpus_pvh") else 1)


def pv_linux(name, work, *wanted, options="", before="", cmdline=PV_CMDLINE):
    return linux("PV Debian, " + name, work, *wanted, options=f"-machine pv {PV_MEMORY} {options}", before=before, kind="PV",
                 cmdline=cmdline, weight=50)


ENGINES = "bt interp kvm interp bt kvm"  # each change that there is, once


def handover(name, options, cmdline=CMDLINE):
    """A guest at work changes its engine, there and back."""
    command = (f"rm -f /tmp/sw stop; httpd -p 127.0.0.1:8099 -h /t 2>/dev/null; "
               f"timeout 300 {RUN} -disk disk,snapshot -name sw {options} -kernel vmlinuz -initrd switch.cpio -cmdline '{cmdline}' "
               f"-timeout 120 > /tmp/sw 2>&1 & "
               f"n=0; while ! grep -q READY /tmp/sw && [ $n -lt 200 ]; do sleep 0.1; n=$((n+1)); done; "
               f"for e in {ENGINES}; do ./pvemu accel sw $e && ./pvemu list | sed -nE 's/^sw .* (kvm|bt|interp) .*/now \\1/p'; sleep 0.1; done; "
               f"touch stop; wait; cat /tmp/sw")
    return Case(name, command, r"^now " + r"\nnow ".join(ENGINES.split()) + "$", r"^rounds [1-9]\d* bad 0", r"^disk [1-9]\d* bad 0", r"^net [1-9]\d* bad 0",
                r"^no new message", r"^GUEST-END 0", r"the guest powered off",
                unwanted=(r"GUEST-WARNS", "error:"), weight=90 if "-machine pv" in options else 60)


def clock(name, kind, turns, cmdline, *wanted):
    """A kernel with two CPUs that looks at its clocks (tests/guest/ops/clock.c) until time has begun anew so often."""
    command = (f"rm -f /tmp/sw; timeout 60 ./pvemu -accel kvm -m 32M -net none -name sw -machine {kind} -smp 1,max=2 -cmdline '{cmdline}' "
               f"-kernel ops_clock_{kind}_inline.elf -timeout 50 > /tmp/sw 2>&1 & p=$!; {until('READY', '0.02')}; {turns}; wait $p; s=$?; cat /tmp/sw; (exit $s)")
    return Case(f"{name}, {kind.upper()}", command, rf"by {kind.upper()}, kvm\b.*, 2 CPUs", "checks passed",
                "^system time without a reading, at most 0x00000000",  # 4.3 s
                *wanted, unwanted=("FAILED", "error:"), weight=4)


def clock_changes(kind):
    """... each change of engine while it runs."""
    return clock("clock, changes", kind, f"for e in {ENGINES}; do ./pvemu accel sw $e; done", f"busy {len(ENGINES.split())}",
                 "^wall clock without a reading, at most 0x00000000")


def clock_pauses(kind, *parts):
    """... what it changes to while it is paused, and it goes on with the last. The host's clock does not wait."""
    turns = "; ".join(f"./pvemu pause sw; for e in {part}; do ./pvemu accel sw $e; ./pvemu list | sed -nE 's/^sw .* paused .* (kvm|bt|interp) .*/now \\1/p'; "
                      "done; sleep 5; ./pvemu unpause sw" for part in parts)
    return clock("clock, pauses", kind, turns, len(parts), "^now " + r"\nnow ".join(" ".join(parts).split()) + "$",
                 "^wall clock without a reading, at most 0x0000000[1-9a-f]")


def ended(name, how, status, text):
    """A Debian kernel with two CPUs that ends in this way; its init reads it from the command line."""
    command = (f"timeout 100 {RUN} -net none -smp 2 -kernel vmlinuz -initrd ended.cpio -cmdline '{CMDLINE} oops=panic -- \"{how}\"' -timeout 60")
    return Case(name, command, r"^ENDS", text, status=status, weight=25)


def until(what, often="0.1"):
    return f"n=0; while ! grep -q '{what}' /tmp/sw && [ $n -lt 200 ]; do sleep {often}; n=$((n+1)); done"


def changes(name, options):
    """CPUs, memory and a pause from outside."""
    command = (f"rm -f /tmp/sw; timeout 300 {RUN} -net none -name sw {options} -kernel vmlinuz -initrd changes.cpio "
               f"-cmdline '{CMDLINE}' -timeout 120 > /tmp/sw 2>&1 & p=$!; {until('online 0-1')}; ./pvemu vcpu-set sw 1; {until('online 0[^-]*$')}; "
               f"./pvemu pause sw; sleep 0.5; ./pvemu unpause sw; ./pvemu mem-set sw 200M; sleep 0.2; ./pvemu vcpu-set sw 2; "
               "wait $p; s=$?; cat /tmp/sw; (exit $s)")
    return Case(name, command, r"^memory went", r"^changes /0-1/0/0-1$", r"^no odd message", r"^GUEST-END 0", r"the guest powered off",
                unwanted=("error:",), weight=30)


RESUMES = ("-cancel ", "", "-cancel ", "")
REFUSED = "sl 2>&1 | grep 'is not a page of its own' && ./pvemu resume -cancel "  # not as a new domain: no start info


def suspends_itself(name, options, text, resumes=RESUMES, unwanted=(), end="(exit $s)"):
    """A kernel of tests/guest that suspends itself and looks what it finds when it is resumed, both ways."""
    turns = "; ".join("n=0; while ! ./pvemu list 2>/dev/null | grep -q suspended && [ $n -lt 200 ]; do sleep 0.1; n=$((n+1)); done; "
                      f"./pvemu resume {how}sl" for how in resumes)
    command = (f"rm -f /tmp/sl; timeout 60 ./pvemu -accel kvm -m 32M -net none -name sl -on suspend=pause {options} -kernel {name}.elf "
               f"-timeout 50 > /tmp/sl 2>&1 & p=$!; {turns}; wait $p; s=$?; cat /tmp/sl; {end}")
    return Case(f"guest {name}", command, r", kvm\b", text, unwanted=unwanted, weight=6)


def suspended(name, options, cmdline=CMDLINE):
    """A guest at work is suspended and resumed, both ways."""
    turns = "; ".join(f"./pvemu suspend sw && ./pvemu resume {how}sw && echo 'resumed {n}'; sleep 0.3" for n, how in enumerate(RESUMES, 1))
    command = (f"rm -f /tmp/sw stop; httpd -p 127.0.0.1:8099 -h /t 2>/dev/null; "
               f"timeout 300 {RUN} -disk disk,snapshot -name sw {options} -kernel vmlinuz -initrd sleeper.cpio -cmdline '{cmdline}' "
               f"-timeout 200 > /tmp/sw 2>&1 & p=$!; "
               f"n=0; while ! grep -q READY /tmp/sw && [ $n -lt 200 ]; do sleep 0.1; n=$((n+1)); done; {turns}; touch stop; wait $p; s=$?; cat /tmp/sw; (exit $s)")
    return Case(name, command, "resumed 1\nresumed 2\nresumed 3\nresumed 4\n", r"^rounds [1-9]\d* bad 0", r"^disk [1-9]\d* bad 0",
                r"^net [1-9]\d* bad 0", r"^no odd message", r"^GUEST-END 0", r"the guest powered off", unwanted=("error:",),
                weight=110 if "-machine pv" in options else 60)


def memory(name, options, cmdline=CMDLINE):
    """A guest with max= is asked for less, then for more."""
    command = (f"rm -f /tmp/sw; timeout 120 ./pvemu -accel kvm -m 112M,max=256M -net none -name sw {options} -kernel vmlinuz "
               f"-initrd balloon.cpio -cmdline '{cmdline}' -timeout 100 > /tmp/sw 2>&1 & p=$!; sleep 0.1; "
               "n=0; while ! grep -q READY /tmp/sw && [ $n -lt 200 ]; do sleep 0.1; n=$((n+1)); done; ./pvemu mem-set sw 80M; "
               "n=0; while ! grep -q smaller /tmp/sw && [ $n -lt 200 ]; do sleep 0.1; n=$((n+1)); done; ./pvemu mem-set sw 200M; "
               "wait $p; s=$?; cat /tmp/sw; (exit $s)")
    return Case(name, command, r"^smaller -3\d$", r"^larger 8\d$", r"^the same$", r"^GUEST-END 0",
                r"the guest powered off", unwanted=("GUEST-WARNS", "error:"), weight=60)


def split(case):
    """The same with KVM's local APICs."""
    again = copy.copy(case)
    again.name = "split, " + case.name
    again.command = case.command.replace("-accel kvm ", "-accel kvm,irqchip=split ")
    assert again.command != case.command, case.name
    return again


# It has no XSAVE: no other engine, no XSETBV. No interrupt leaves a guest with RFLAGS.IF clear: two CPUs of a PVH Linux, which
# share its one, wait for each other for ever; kernels of PV guests run with IF set.
NOT_IN_BOCHS = ("hand-over", "clock, ", "PV guest cpu", "Debian, 2 CPUs", "suspend, 2 CPUs", "memory, PVH", "Debian, 32-bit", "ops vcpus_pvh",
                "CPUs and", "reset, 2", "halt, 2", "panic, 2")
# QEMU 7.2 puts a guest's DR7 in place without its breakpoints: none ever hits. INT1 is #UD there.
NOT_IN_QEMU = ("PV guest debug_hit", "PV guest user_hit")


def cases(digest, machine):
    whole, second, first = digest
    vtx = machine is outer.OuterVtx
    chosen = [
        Case("doctor", "./pvemu doctor", r"^kvm +usable$"),
        *(Case(name, program, r"^ok 1 /debug/step$", r"^ok 2 /debug/step-system$",
             *(rf"^ok {n} /debug/{what}{'' if vtx else '.*SKIP.*does not stop a guest at'}"
               for n, what in ((5, "int3"), (6, "exec-point"), (7, "data-points"))), r"^ok 3 ", r"^ok 4 ", r"^ok 8 ")
          for name, program in (("debugger", "./debug"), ("debugger, split", "./debug_split"))),
        Case("debugger, PV", "./debug_pv", *(rf"^ok {n} /debug-pv/{name}$" for n, name in enumerate(("step", "step-program", "own-step", "int3"), 1)),
             r"^ok 5 /debug-pv/points" + ("$" if vtx else ".*SKIP.*does not stop a guest at"), r"^ok 6 /debug-pv/dirty$"),
        Case("AVX, written pages", "./state", r"^ok 1 /kvm/state/avx" + (".*SKIP" if vtx else "$"), r"^ok 2 /kvm/state/dirty$"),
        Case("auto", f"{AUTO} exit_code.elf; {AUTO} pv_hello.elf; {AUTO} loader.elf; {AUTO} loader.elf -accel kvm; true",
             r"by PVH, kvm, 1 CPU[^$]*by PV, kvm, 1 CPU[^$]*" +
             ("no XSAVE" if vtx else r"on KVM the kernel that GRUB starts[^$]*by PVH, (bt|interp), 1 CPU") +
             r"[^$]*hypercalls of the kernel that GRUB starts come out only[^$]*by PVH, kvm, 1 CPU"),
        small("exit_code", 42),
        small("poweroff", 0),
        small("xen_poweroff", 0),
        small("xen_page", 0),
        small("calls32", 0),
        small("user_call", 0),
        small("acpi_off", 0),
        small("triple", 115),
        small("crash", 112),
        small("reboot", 115),
        small("suspend", 116),
        small("hang", 124, options="-timeout 30ms"),  # its PAUSE is dear in QEMU, and Bochs gets out by nothing else
        Case("guest echo_serial", f"printf A | timeout 60 {RUN} -net none -kernel echo_serial.elf -timeout 5", status=65),
        small("smp_locks", 0, options="-smp 4 -timeout 5"),
        small("smp_ipi", 0, options="-smp 4 -timeout 5"),
        linux("Debian, 1 CPU", "work", r"^cpus 1", r"sum 8\.1783681036", r"^slept [23]$", options="-net none"),
        linux("Debian, disk and network", "devices", rf"^{whole}", rf"^{second}", rf"^{first}  -\s*^GUEST-END",
              options="-disk disk,snapshot", before="httpd -p 127.0.0.1:8099 -h /t;"),
        Cost(machine.TICKS),
        Controllers(machine.TICKS),
        handover("hand-over, 1 CPU", ""),
        handover("hand-over, 2 CPUs", "-smp 2"),
        clock_changes("pvh"),
        clock_changes("pv"),
        clock_pauses("pvh", "bt interp", "kvm"),
        clock_pauses("pv", "interp bt", "kvm"),
        *(test_kernel(row, "PV guest") for row in rows.PV),
        *(test_kernel(row, "ops") for row in rows.OPS),
        pv_linux("1 CPU", "work", r"^cpus 1", r"sum 8\.1783681036", r"^slept [23]$", options="-net none"),
        pv_linux("2 CPUs", "work", r"^cpus 2", r"^slept [23]$", options="-net none -smp 2"),
        pv_linux("disk and network", "devices", rf"^{whole}", rf"^{second}", rf"^{first}  -\s*^GUEST-END",
                 options="-disk disk,snapshot", before="httpd -p 127.0.0.1:8099 -h /t;", cmdline=PV_CMDLINE + QUICK),
        handover("hand-over, PV, 1 CPU", f"-machine pv {PV_MEMORY}", PV_CMDLINE),
        handover("hand-over, PV, 2 CPUs", f"-machine pv {PV_MEMORY} -smp 2", PV_CMDLINE + QUICK),
        *(suspends_itself(f"ops_suspend_{kind}_{way}", "-machine pvh", "all of .* checks passed")
          for kind in ("pvh", "pvh32") for way in rows.WAYS),
        # An INT3 whose #GP met a nested page fault: QEMU 7.2 and KVM make an INT of it that RIP is behind (docs/kvm.md).
        *(suspends_itself("pv_suspend" + way, "-machine pv -smp 1,max=2",
                          r"all of .* checks passed|^FAILED: try_call\(breakpoint, 0\) == 4, got 0x0+e$",
                          (*RESUMES, REFUSED, REFUSED, *RESUMES[:2], ""), (r"^FAILED: (?!try_call\(breakpoint)", r"FAILED[^$]*FAILED"), "true")
          for way in ("", "_page")),
        suspended("suspend, 2 CPUs", "-smp 2"),
        suspended("suspend, PV, 2 CPUs", f"-machine pv {PV_MEMORY} -smp 2", PV_CMDLINE),
        memory("memory, PVH", "-smp 2"),
        memory("memory, PV", "-machine pv -smp 2", PV_CMDLINE),
        linux("Debian, 2 CPUs", "work", r"^cpus 2", r"^slept [23]$", options="-net none -smp 2"),
    ]
    chosen += [split(case) for case in (
        changes("CPUs and memory", "-smp 2"),
        linux("reset, 2 CPUs", "again", r"^FIRST[^$]*^SECOND\s*^cpus 2", options="-net none -disk disk,snapshot -smp 2 -on reboot=reset"),
        ended("halt, 2 CPUs", "halt -f", 0, "the guest powered off"),
        ended("panic, 2 CPUs", "echo c > /proc/sysrq-trigger", 112, "kernel panic"),
    )]
    chosen += [split(c) for c in chosen if c.name.startswith(SPLIT) and not re.search(NOT_SPLIT, c.name)]
    if "PVEMU_TRIXIE" in os.environ: # another layout of the functions by which it makes its hypercalls
        chosen.append(linux("Debian 13, 1 CPU", "work13", r"^cpus 1", r"sum 8\.1783681036", r"^slept [23]$", options="-net none",
                            kernel="vmlinuz13"))
    if "PVEMU_686" in os.environ:
        # The last: QEMU 7.2's nested paging does not get a guest with PAE to its first page table.
        chosen.append(linux("Debian, 32-bit, 2 CPUs", "work686", r"^cpus 2", r"sum 8\.1783681036", r"^slept [23]$",
                            options="-net none -smp 2", kernel="vmlinuz686",
                            before="" if vtx else "rmmod kvm-amd; insmod /m/kvm-amd.ko npt=0;"))
    return [c for c in chosen if not c.name.removeprefix("split, ").startswith(NOT_IN_BOCHS if vtx else NOT_IN_QEMU)]


# What is run with KVM's local APICs too.
SPLIT = ("guest ", "ops ", "Debian, ", "hand-over, 1", "hand-over, 2", "suspend, 2", "clock, ")
NOT_SPLIT = r"[ _]pv_|, PV$|pvh_page|pvh32_inline"  # PV guests have no APIC; one way of calling will do


# What every commit must pass: each behaviour of the engine once. Of kernels whose calls are the same by page and inline,
# and of their kinds, one that has not had its way yet; of Debian both kinds, with one and two CPUs, disk and network.
COMMIT = (
    "doctor", "debugger", "debugger, PV", "debugger, split", "AVX, written pages", "auto", "cost of an exit",
    *("guest " + name for name in ("exit_code", "poweroff", "xen_poweroff", "xen_page", "calls32", "user_call", "acpi_off", "triple",
                                   "crash", "reboot", "suspend", "hang", "echo_serial", "smp_locks", "smp_ipi")),
    *("PV guest " + name for name in ("hello", "calls", "calls_page", "tables", "traps", "user_page", "cpu", "failsafe", "spaces",
                                      "types", "refusals", "debug", "vbd", "wild_no_stack", "wild_iret_without_frame")),
    *("ops " + name for name in ("vcpus_pv_inline", "events_pvh_inline", "sched_pvh_page", "vcpus_pvh_inline",
                                 "grants_pvh32_page", "physmap_pvh_inline", "hvm_pvh_page", "others_pvh32_inline",
                                 "limits_pv_page", "events_compat_pv_page")),
    *("ops shutdown_" + name for name in ("pv_page:s 3", "pv_inline:c 4", "pvh_page:d")), "split, guest smp_ipi",
    "guest ops_suspend_pvh_page", "guest pv_suspend", "Debian, disk and network", "PV Debian, disk and network",
    "hand-over, 2 CPUs", "hand-over, PV, 2 CPUs", "clock, changes, PVH", "clock, pauses, PVH", "clock, pauses, PV",
)
# What every night must pass on VT-x: the probe, what QEMU's AMD-V has not (breakpoints), a guest that ends, Debian to its init.
NIGHTLY = ("doctor", "debugger", "debugger, PV", "debugger, split", "PV guest debug_hit", "PV guest user_hit", "guest exit_code", "Debian, 1 CPU")
LISTS = {"commit": COMMIT, "nightly": NIGHTLY}


def guest_image(kernel, work, busybox="/bin/busybox"):
    """A guest's initramfs."""
    machine = outer.Outer(kernel)
    machine.add("/bin/busybox", busybox)
    for name in [n for n in machine.members if n.startswith(("m/", "t"))]:
        del machine.members[name]
    machine.members["tmp"] = (outer.FOLDER, b"", (0, 0))
    machine.text("/init", GUEST_INIT, 0o755)
    machine.text("/work.sh", work)
    release = pathlib.Path(kernel, "release").read_text().strip()
    modules = pathlib.Path(kernel, "root/lib/modules", release, "kernel/drivers")
    machine.module("/xen-blkfront.ko", modules / "block/xen-blkfront.ko")
    machine.module("/xen-netfront.ko", modules / "net/xen-netfront.ko")
    return machine.bytes()


def prepare(machine, job, pvemu, programs, guests, kernel):
    """Puts what the job names into the machine: its start takes the longer the more there is."""
    machine.program("/t/pvemu", pvemu)
    for name in PROGRAMS:
        if "./" + name in job:
            machine.program("/t/" + name, os.path.join(programs, "kvm_" + name))
    for path in [*pathlib.Path(guests).glob("*.elf"), *pathlib.Path(guests, "pv").glob("*.elf"),
                 *pathlib.Path(guests, "ops").glob("*.elf")]:
        if path.name in job:
            machine.add("/t/" + path.name, path)
    loader = pathlib.Path(guests, "exit_code.elf").read_bytes() + b"Welcome to GRUB!"  # by this pvemu knows GRUB
    machine.data("/t/loader.elf", loader)
    if "vmlinuz " in job:
        machine.add("/t/vmlinuz", os.path.join(kernel, "vmlinuz"))
    for name, work in (("work", WORK), ("switch", SWITCH), ("sleeper", SLEEPER), ("balloon", BALLOON), ("devices", DISK + NET),
                       ("changes", CHANGES), ("again", AGAIN), ("ended", ENDED)):
        if name + ".cpio" in job:
            machine.data(f"/t/{name}.cpio", guest_image(kernel, work))
    if "vmlinuz13 " in job:
        machine.add("/t/vmlinuz13", os.path.join(os.environ["PVEMU_TRIXIE"], "vmlinuz"))
        machine.data("/t/work13.cpio", guest_image(os.environ["PVEMU_TRIXIE"], WORK))
    if "vmlinuz686 " in job:
        machine.add("/t/vmlinuz686", os.path.join(os.environ["PVEMU_686"], "vmlinuz"))
        machine.data("/t/work686.cpio", guest_image(os.environ["PVEMU_686"], WORK, os.environ["PVEMU_BUSYBOX_I386"]))
    machine.data("/t/disk", sample())
    machine.data("/t/part", sample()[:PART])
    machine.data("/t/piece", sample()[:PIECE])


def shares(chosen, machines):
    """The cases, numbered, for each machine: what takes long first, each to who has least, then in their order."""
    parts = [[] for _ in range(machines)]
    for number, case in sorted(enumerate(chosen, 1), key=lambda pair: -pair[1].weight):
        min(parts, key=lambda part: sum(c.weight for _, c in part)).append((number, case))
    return [sorted(part, key=lambda pair: pair[0]) for part in parts if part]


def run_share(machine, part, *files):
    """Runs the cases of one machine; what it said about each, by its number."""
    job = "".join(case.script(number) for number, case in part)
    prepare(machine, job, *files)
    start = time.monotonic()
    try:
        text = machine.run(job + "true\n", limit=LIMIT)
    except outer.Failure as why:
        text = str(why)
    print(f"# an outer machine with {len(part)} of the cases: {time.monotonic() - start:.0f} s", flush=True)
    pieces = re.split(r"^== (\d+)\n", text, flags=re.MULTILINE)
    return dict(zip(map(int, pieces[1::2]), pieces[2::2]))


def choose(every, words):
    """The cases that the words name. An unknown one in a list is our mistake."""
    but = [w[1:] for w in words if w.startswith("-")]
    words = [w for w in words if not w.startswith("-")]
    names = [c.name for c in every]
    listed = {name for word, of in LISTS.items() if word in words for name in of}
    for name in listed:
        assert names.count(name) == 1, name
    return [c for c in every if not any(w in c.name for w in but) and
            (not words or any(w in c.name for w in words) or c.name in listed)]


def main():
    kind = {"amd": outer.Outer, "vtx": outer.OuterVtx}[sys.argv[1]]
    pvemu, programs, guests = sys.argv[2:5]
    missing = [n for n in NEEDS + kind.NEEDS if not shutil.which(n)]
    if missing:
        print("1..0 # SKIP there is no " + " ".join(missing))
        return 0
    kernel = os.environ.get("PVEMU_CLOUD") or subprocess.run(
        [ROOT / "images/kernel.sh", "cloud"], check=True, capture_output=True, text=True).stdout.strip()
    whole = sample()
    digest = [hashlib.sha256(part).hexdigest() for part in (whole, whole[1 << 20:2 << 20], whole[:PART])]
    every = cases(digest, kind)
    chosen = choose(every, [w for w in sys.argv[5:] if w])
    machines = int(os.environ.get("PVEMU_KVM_MACHINES", min(2, len(os.sched_getaffinity(0)))))
    failed = 0
    start = time.monotonic()
    said = {}
    print(f"1..{len(chosen)}", flush=True)
    with concurrent.futures.ThreadPoolExecutor() as pool:
        for answer in [pool.submit(run_share, kind(kernel), part, pvemu, programs, guests, kernel)
                       for part in shares(chosen, machines)]:
            said.update(answer.result())
    for number, case in enumerate(chosen, 1):
        part = said.get(number, "")
        bad = case.judge(part)
        print(("not ok" if bad else "ok") + f" {number} - {case.name} ({case.seconds:.2f} s of the outer machine)", flush=True)
        if bad:
            failed += 1
            print("\n".join("# " + line for line in bad + part[-4000:].splitlines()), flush=True)
    children = resource.getrusage(resource.RUSAGE_CHILDREN)
    print(f"# {time.monotonic() - start:.0f} s, {children.ru_utime + children.ru_stime:.0f} s of processor time", flush=True)
    print(f"# {len(chosen) - failed} of {len(chosen)} cases are good, of {len(every)} that there are", flush=True)
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
