#!/usr/bin/env python3
# SPDX-License-Identifier: MIT
"""Compiles every header alone: headers.py CC [FLAGS...]."""
import pathlib
import subprocess
import sys

ROOT = pathlib.Path(__file__).resolve().parents[2]


def main():
    headers = [h for top in ("src", "cpu", "hw", "pv", "ui") for h in sorted((ROOT / top).rglob("*.h"))]
    flags = subprocess.run(["pkg-config", "--cflags", "glib-2.0", "gio-unix-2.0", "slirp", "json-glib-1.0"],
                           check=True, capture_output=True, text=True).stdout.split()
    bad = 0
    for header in headers:
        command = sys.argv[1:] + ["-std=c17", "-D_GNU_SOURCE", "-fsyntax-only", "-x", "c", "-I", str(ROOT / "src"), "-I",
                                  str(ROOT), *flags, str(header)]
        result = subprocess.run(command, capture_output=True, text=True)
        if result.returncode != 0:
            bad += 1
            print(f"{header.relative_to(ROOT)} does not compile alone:\n{result.stderr}")
    print(f"{len(headers)} headers, {bad} broken")
    return 1 if bad or not headers else 0


if __name__ == "__main__":
    sys.exit(main())
