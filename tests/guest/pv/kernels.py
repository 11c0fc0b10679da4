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
    ("calls", 0, "powered off", b"checks passed"),
    ("tables", 0, "powered off", b"checks passed"),
    ("traps", 0, "powered off", b"checks passed"),
    ("user", 0, "powered off", b"checks passed"),
    ("cpu", 0, "powered off", b"checks passed"),
    ("failsafe", 0, "powered off", b"checks passed"),
    ("spaces", 0, "powered off", b"checks passed"),
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
OPS = [(f"{name}_{kind}_{way}", 0, "powered off", b"checks passed") for kind in ("pv", "pvh") for way in ("inline", "page")
       for name in ("events", "grants", "sched", "others") + (("hvm",) if kind == "pvh" else ())]


def run(kernel, engine, runtime, ops):
    env = dict(os.environ, XDG_RUNTIME_DIR=runtime, XDG_CACHE_HOME=runtime)
    kind = ["-machine", "pvh" if "_pvh_" in kernel else "pv", "-smp", "1,max=2" if ops or kernel == "failsafe" else "1"]
    command = [PVEMU, "-kernel", os.path.join(KERNELS, ("ops_" if ops else "pv_") + kernel + ".elf"), *kind, "-accel", engine,
               "-m", "32M", "-net", "none", "-timeout", "60"]
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
