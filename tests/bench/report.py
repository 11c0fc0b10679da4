#!/usr/bin/env python3
# SPDX-License-Identifier: MIT
"""Measures and prints the table of tests/bench/run.sh, which has made everything this needs."""
import argparse
import math
import os
import platform
import subprocess
import sys

import cpio
from guests import CMDLINE, RAM_MIB, Failure, Native, Pvemu, Qemu

EXTRA = ("boot", "rss")  # rows that are not workloads of the program
CLOCK_ERROR = 0.03


def arguments():
    parser = argparse.ArgumentParser(allow_abbrev=False)
    for name in ("bench", "pvemu", "vmlinuz", "vmlinux", "work"):
        parser.add_argument("--" + name, required=True)
    parser.add_argument("-scale", type=float)
    parser.add_argument("-reps", type=int)
    parser.add_argument("-limit", type=float, default=10)
    parser.add_argument("-rounds", type=int, default=1)
    parser.add_argument("-boots", type=int)
    parser.add_argument("-quick", action="store_true")
    parser.add_argument("-accel", default="auto")
    parser.add_argument("-machine", default="auto")
    parser.add_argument("-smp", type=int, default=1)
    parser.add_argument("-qemu-cpu", dest="qemu_cpu", default="qemu64,max")
    parser.add_argument("-qemu", default="qemu-system-x86_64")
    parser.add_argument("-timeout", type=float, default=600)
    parser.add_argument("-o", dest="output")
    parser.add_argument("names", nargs="*")
    options = parser.parse_args()
    options.scale = options.scale or (0.05 if options.quick else 1.0)
    options.reps = options.reps or (2 if options.quick else 3)
    options.boots = options.boots or (1 if options.quick else 5)
    known = subprocess.run([options.bench, "-list"], check=True, stdout=subprocess.PIPE, text=True).stdout
    known = [line.split()[0] for line in known.splitlines()] + ["all", "smp"]
    if options.smp > 1 and not options.names:
        options.names = ["smp"]
    for name in options.names:
        if name not in known and name not in EXTRA:
            parser.error(f"no workload '{name}'; there are: {' '.join(known)} {' '.join(EXTRA)}")
    return options


def progress(text):
    print(f"bench: {text}", file=sys.stderr, flush=True)


def geomean(values):
    return math.exp(sum(map(math.log, values)) / len(values)) if values else None


def times(value):
    """A ratio with three digits."""
    if value is None:
        return "-"
    digits = 2 if value < 10 else 1 if value < 100 else 0
    return f"{value:.{digits}f}x"


def nanoseconds(value):
    digits = 2 if value < 100 else 0
    return f"{value:.{digits}f}"


def version(argv):
    try:
        text = subprocess.run(argv, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True, check=False).stdout
        return text.splitlines()[0] if text else "?"
    except OSError:
        return "?"


def host_cpu():
    with open("/proc/cpuinfo", encoding="utf-8", errors="replace") as file:
        for line in file:
            if line.startswith("model name"):
                return line.split(":", 1)[1].strip()
    return "?"


class Table:
    """Rows of text; the first column is left-aligned."""

    def __init__(self):
        self.rows = []

    def add(self, *cells):
        self.rows.append(cells)

    def rule(self):
        self.rows.append(None)

    def text(self):
        count = max(len(row) for row in self.rows if row)
        widths = [max(len(row[i]) for row in self.rows if row and len(row) > i) for i in range(count)]
        lines = []
        for row in self.rows:
            if row is None:
                lines.append("-" * (sum(widths) + 2 * (count - 1)))
            else:
                cells = [cell.rjust(width) if i else cell.ljust(width)
                         for i, (cell, width) in enumerate(zip(row, widths))]
                lines.append("  ".join(cells).rstrip())
        return "\n".join(lines)


class Report:
    def __init__(self, options, native, guests):
        self.native = native
        self.guests = guests
        self.pvemu = [g for g in guests if isinstance(g, Pvemu)]
        self.qemu = [g for g in guests if isinstance(g, Qemu)]
        self.options = options
        self.bad = []

    def check(self, name):
        """Whether every engine that ran a workload did the same work with the same result, each time."""
        engines = [self.native, *self.guests]
        values = set()
        for engine in engines:
            if name in engine.result.skipped:
                continue
            found = engine.result.checks.get(name)
            if not found:
                self.bad.append(f"{name}: no result from {engine.title}")
                return "missing"
            values |= found
            if name in engine.result.unstable:
                self.bad.append(f"{name}: {engine.title} gives another value each time")
                return "DIFFERS"
        if len(values) > 1:
            for engine in engines:
                found = ", ".join(sorted(c for _, c in engine.result.checks.get(name, ())))
                self.bad.append(f"{name}: {engine.title} has {found or '-'}")
            return "DIFFERS"
        return "ok"

    def ratio(self, engine, name):
        ours, theirs = self.native.result.ns.get(name), engine.result.ns.get(name)
        return theirs / ours if ours and theirs else None

    def advantage(self, name):
        """How many times faster than the better QEMU the first pvemu is."""
        qemu = [q.result.ns[name] for q in self.qemu if name in q.result.ns]
        if not qemu or not self.pvemu or name not in self.pvemu[0].result.ns:
            return None
        return min(qemu) / self.pvemu[0].result.ns[name]

    @staticmethod
    def scaling(engine):
        """How many CPUs two loops that have nothing to do with each other get, by what one of them needs alone."""
        one, two = engine.result.ns.get("compute1"), engine.result.ns.get("compute2")
        return 2 * one / two if one and two else None

    def means(self, table, label, names):
        common = [n for n in names if all(n in e.result.ns for e in (self.native, *self.guests))]
        if not common:
            return
        row = [times(geomean([self.ratio(e, n) for n in common])) for e in self.guests]
        gains = [self.advantage(n) for n in common]
        gain = geomean(gains) if gains and None not in gains else None
        table.add(label, "1", *row, times(gain), "")

    def workloads(self, table):
        groups = self.native.result.groups
        table.add("workload", "native ns", *[g.title for g in self.guests], "QEMU/pvemu", "check")
        table.rule()
        for name in groups:
            ns = self.native.result.ns.get(name)
            table.add(name, nanoseconds(ns) if ns else "-", *[times(self.ratio(g, name)) for g in self.guests],
                      times(self.advantage(name)), self.check(name))
        table.rule()
        for group in dict.fromkeys(groups.values()):
            self.means(table, f"mean {group}", [n for n in groups if groups[n] == group])
        self.means(table, "geometric mean", list(groups))
        scaling = [self.scaling(engine) for engine in (self.native, *self.guests)]
        if any(scaling):
            table.add("CPUs two loops get", *["-" if s is None else f"{s:.2f}" for s in scaling], "", "")

    def extra_row(self, table, label, attribute, form):
        values = [getattr(g.result, attribute) for g in self.guests]
        if not any(v is not None for v in values):
            return
        gain = None
        if attribute == "boot" and self.pvemu and self.pvemu[0].result.boot:
            peers = [q.result.boot for q in self.qemu if q.result.boot]
            gain = min(peers) / self.pvemu[0].result.boot if peers else None
        table.add(label, "-", *["-" if v is None else form % v for v in values], times(gain), "")

    def header(self):
        o = self.options
        lines = [f"host    {host_cpu()}, {os.cpu_count()} CPUs, Linux {platform.release()}, "
                 f"load {os.getloadavg()[0]:.1f}"]
        releases = {g.result.release for g in self.guests if g.result.release}
        lines.append(f"guest   Linux {', '.join(sorted(releases)) or '?'}, {o.smp} CPU{'s' * (o.smp > 1)}, {RAM_MIB} MiB, \"{CMDLINE}\"")
        for guest in self.guests:
            program = [guest.program, "-version"] if isinstance(guest, Pvemu) else [guest.program, "--version"]
            lines.append(f"{guest.title}: {version(program)}; {guest.note or '?'}")
        lines.append(f"scale {o.scale:g}, the fastest of {o.rounds} x {o.reps}; boots: the fastest of {o.boots}; "
                     f"native twice in each round, {self.noise()}")
        return "\n".join(lines)

    def noise(self):
        """How far the passes over the native program are apart: the quietest measure of the host."""
        passes = self.native.rounds
        spread = [max(p[n] for p in passes if n in p) / min(p[n] for p in passes if n in p)
                  for n in self.native.result.ns] if len(passes) > 1 else []
        return f"{(geomean(spread) - 1) * 100:.0f} % apart" if spread else "nothing to compare"

    def text(self):
        table = Table()
        if self.native.result.groups:
            self.workloads(table)
            table.rule()
        else:
            table.add("", "native", *[g.title for g in self.guests], "QEMU/pvemu", "")
        self.extra_row(table, "boot to init, s", "boot", "%.2f")
        self.extra_row(table, "MiB over RAM: boot", "memory_boot", "%.1f")
        self.extra_row(table, "MiB over RAM: end", "memory_end", "%.1f")
        self.extra_row(table, "guest / host clock", "clock", "%.3f")
        for guest in self.guests:
            if guest.result.clock and abs(guest.result.clock - 1) > CLOCK_ERROR:
                self.bad.append(f"{guest.title}: the guest's clock runs at {guest.result.clock:.3f} of the host's")
        lines = [self.header(), "", table.text(), "",
                 "native ns: one iteration. pvemu and QEMU: how many times as long as natively. QEMU/pvemu: how",
                 "many times as long as pvemu the faster QEMU needs. Means are geometric, over what all ran.",
                 "MiB over RAM: resident in all the emulator's processes, less guest RAM."]
        return "\n".join(lines + [f"bad: {b}" for b in self.bad])


def attempt(report_bad, what, action):
    """One engine's failure is a line in the report; the others still run."""
    try:
        action()
        return True
    except Failure as failure:
        progress(f"{what}: {failure}")
        report_bad.append(f"{what}: {str(failure).splitlines()[0]}")
        return False


def measure(options, native, guests, bad):
    names = [n for n in options.names if n not in EXTRA]
    boots = not options.names or any(n in EXTRA for n in options.names)
    words = ["-scale", f"{options.scale:g}", "-reps", str(options.reps), "-limit", f"{options.limit:g}",
             *(names or ["all"])]
    for guest in [g for g in guests if isinstance(g, Qemu)]:
        progress(f"{guest.title}: looking for a machine that boots")
        if not attempt(bad, guest.title, guest.probe):
            guests.remove(guest)
    for number in range(options.boots if boots else 0):
        for guest in list(guests):
            progress(f"boot {number + 1} of {options.boots}: {guest.title}")
            attempt(bad, guest.title, guest.boot)
    for number in range(options.rounds if names or not options.names else 0):
        for engine in [native, *guests, native]:
            progress(f"round {number + 1} of {options.rounds}: {engine.title}")
            attempt(bad, engine.title, lambda engine=engine: engine.run(words))


def main():
    options = arguments()
    initrd = os.path.join(options.work, "bench.cpio")
    cpio.write(initrd, options.bench)
    native = Native(options.bench, options.timeout)
    guests = [Pvemu(options.pvemu, accel, machine, options.smp, options.vmlinuz, initrd, options.timeout)
              for accel in options.accel.split(",") for machine in options.machine.split(",")]
    kernels = {"vmlinux": options.vmlinux, "vmlinuz": options.vmlinuz}
    tsc_khz = int(subprocess.run([options.bench, "-tsc"], check=True, stdout=subprocess.PIPE).stdout)
    guests += [Qemu(options.qemu, cpu, options.smp, kernels, initrd, tsc_khz, options.timeout)
               for cpu in options.qemu_cpu.split(",") if cpu != "none"]
    bad = []
    measure(options, native, guests, bad)
    report = Report(options, native, guests)
    report.bad += bad
    text = report.text()
    print(text)
    if options.output:
        with open(options.output, "w", encoding="utf-8") as file:
            file.write(text + "\n")
    return 1 if report.bad else 0


if __name__ == "__main__":
    sys.exit(main())
