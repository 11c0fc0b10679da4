#!/usr/bin/env python3
# SPDX-License-Identifier: MIT
"""Runs test kernels on every engine that can: kernels.py PVEMU KERNEL_DIR [ops]."""
import os
import re
import subprocess
import sys
import tempfile

PVEMU, KERNELS = sys.argv[1], sys.argv[2]
ENGINES = ["interp", "bt"]
LIMIT = 120

# name, status, what the verdict says, what the guest must have printed
ROWS = [
    ("hello", 0, "powered off", b"hello by the ring"),
    ("hello_p2m", 0, "powered off", b"hello by the ring"),
    ("symbols", 0, "powered off", b"checks passed"),
    *((name + way, 0, "powered off", b"checks passed") for way in ("", "_page")
      for name in ("calls", "tables", "traps", "user", "cpu", "failsafe", "spaces")),
    ("wild_no_handler", 112, "no handler for vector 6", b""),
    ("wild_no_stack", 112, "no stack at 0x", b""),
    ("wild_stack_in_hypervisor", 112, "no stack at 0xffff8000", b""),
    ("wild_no_user_tables", 112, "iret to user mode without page tables", b""),
    ("wild_iret_without_frame", 112, "iret without a stack", b""),
    ("wild_no_event_callback", 112, "without an event callback", b""),
    ("wild_storm", 112, "kernel panic", b""),
    ("wild_calls", 112, "kernel panic", b""),
]
# Hypercalls of both kinds of guest, by either way of calling (tests/guest/ops).
KINDS = [(kind, way) for kind in ("pv", "pvh", "pvh32") for way in ("inline", "page")]
OPS = [(f"{name}_{kind}_{way}", 0, "powered off", b"checks passed") for kind, way in KINDS
       for name in ("events", "grants", "sched", "vcpus", "others") + (("hvm",) if kind != "pv" else ())]
# How they end by a hypercall: its reason, and by sched_op_compat too.
REASONS = [(0, 0, "powered off"), (1, 115, "guest rebooted"), (2, 116, "suspended itself"), (3, 112, "kernel panic"),
           (4, 112, "watchdog fired"), (5, 115, "guest rebooted")]
OPS += [(f"shutdown_{kind}_{way}:s {reason}", status, verdict, b"by sched_op\n")
        for kind, way in KINDS for reason, status, verdict in REASONS]
OPS += [(f"shutdown_pv_{way}:c {reason}", status, verdict, b"by sched_op_compat\n")
        for way in ("inline", "page") for reason, status, verdict in REASONS]
OPS += [(f"shutdown_{kind}_{way}:w", 112, "watchdog fired", b"by the watchdog\n") for kind, way in KINDS]


def run(row, engine, runtime, ops):
    kernel, _, cmdline = row.partition(":")
    env = dict(os.environ, XDG_RUNTIME_DIR=runtime, XDG_CACHE_HOME=runtime)
    cpus = "1,max=3" if kernel.startswith("vcpus") else "1,max=2" if ops or kernel.startswith("failsafe") else "1"
    kind = ["-machine", "pvh" if "_pvh" in kernel else "pv", "-smp", cpus]
    command = [PVEMU, "-kernel", os.path.join(KERNELS, ("ops_" if ops else "pv_") + kernel + ".elf"), *kind, "-accel", engine,
               "-m", "32M", "-net", "none", "-timeout", "60", "-cmdline", cmdline]
    try:
        return subprocess.run(command, stdin=subprocess.DEVNULL, capture_output=True, timeout=LIMIT, env=env, check=False)
    except subprocess.TimeoutExpired:
        return None


def main():
    failed = number = 0
    ops = sys.argv[3:] == ["ops"]
    rows = OPS if ops else ROWS
    print(f"1..{len(rows) * len(ENGINES)}")
    with tempfile.TemporaryDirectory() as runtime:
        os.chmod(runtime, 0o700)
        for kernel, status, verdict, text in rows:
            for engine in ENGINES:
                number += 1
                done = run(kernel, engine, runtime, ops)
                said = "" if done is None else done.stderr.decode(errors="replace")
                good = done is not None and done.returncode == status and re.search(verdict, said) and text in done.stdout
                failed += not good
                print(f"{'ok' if good else 'not ok'} {number} - {kernel} on {engine}", flush=True)
                if not good:
                    out = "hung\n" if done is None else done.stdout.decode(errors="replace") + said
                    for line in out.splitlines():
                        print("#   " + line)
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
