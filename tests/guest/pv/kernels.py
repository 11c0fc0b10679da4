#!/usr/bin/env python3
# SPDX-License-Identifier: MIT
"""Runs test kernels on every engine that needs no hardware: kernels.py PVEMU KERNEL_DIR [ops | litmus]. The rows are in rows.py."""
import os
import re
import subprocess
import sys
import tempfile

import rows

PVEMU, KERNELS = sys.argv[1], sys.argv[2]
ENGINES = ["interp", "bt", "bt,hot=1"]  # translated when it has run often, and from the first time on
# With several CPUs: also with all loops that can be in their fast bodies, with links that come and go, and with a small TLB.
LITMUS_ENGINES = ["interp", "bt", "bt,hot=1,loops", "bt,hot=1,relink=50,shake=500,tlb=8,seed=1"]
LIMIT = 120


def run(row, engine, runtime):
    env = dict(os.environ, XDG_RUNTIME_DIR=runtime, XDG_CACHE_HOME=runtime)
    command = [PVEMU, "-kernel", os.path.join(KERNELS, row.kernel + ".elf"), "-accel", engine, "-timeout", "60", *row.options()]
    if row.disk:
        disk = os.path.join(runtime, "disk.img")
        with open(disk, "wb") as image:
            image.write(rows.DISK)
        command += ["-disk", disk]
    try:
        return subprocess.run(command, stdin=subprocess.DEVNULL, capture_output=True, timeout=LIMIT, env=env, check=False)
    except subprocess.TimeoutExpired:
        return None


def main():
    failed = number = 0
    chosen, engines = {"": (rows.PV, ENGINES), "ops": (rows.OPS, ENGINES), "litmus": (rows.LITMUS, LITMUS_ENGINES)}["".join(sys.argv[3:])]
    print(f"1..{len(chosen) * len(engines)}")
    with tempfile.TemporaryDirectory() as runtime:
        os.chmod(runtime, 0o700)
        for row in chosen:
            for engine in engines:
                number += 1
                done = run(row, engine, runtime)
                said = "" if done is None else done.stderr.decode(errors="replace")
                good = (done is not None and done.returncode == row.status and re.search(row.verdict, said)
                        and all(text.encode() in done.stdout for text in (row.text, row.by_us)))
                failed += not good
                print(f"{'ok' if good else 'not ok'} {number} - {row.name} on {engine}", flush=True)
                if not good:
                    out = "hung\n" if done is None else done.stdout.decode(errors="replace") + said
                    for line in out.splitlines():
                        print("#   " + line)
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
