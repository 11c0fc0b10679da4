#!/usr/bin/env python3
# SPDX-License-Identifier: MIT
"""Runs test kernels on every engine that needs no hardware: kernels.py PVEMU KERNEL_DIR [ops]. The rows are in rows.py."""
import os
import re
import subprocess
import sys
import tempfile

import rows

PVEMU, KERNELS = sys.argv[1], sys.argv[2]
ENGINES = ["interp", "bt", "bt,hot=1"]  # translated when it has run often, and from the first time on
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
    chosen = rows.OPS if sys.argv[3:] == ["ops"] else rows.PV
    print(f"1..{len(chosen) * len(ENGINES)}")
    with tempfile.TemporaryDirectory() as runtime:
        os.chmod(runtime, 0o700)
        for row in chosen:
            for engine in ENGINES:
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
