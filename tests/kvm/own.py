#!/usr/bin/env python3
# SPDX-License-Identifier: MIT
"""This machine's own /dev/kvm: own.py PVEMU GUEST_FOLDER. Skipped where there is none.

Whatever it is like, `pvemu doctor`, -accel kvm and -accel auto must agree: either it is usable and runs guests, or all
three say why not in the same words, and what was asked for by name does not fall back. Where the processor has neither
VT-x nor AMD-V a device that opens is software that only looks like KVM: the probe has to notice, by what the device does
and not by what this process may not. As a user who may not open it, that is the reason; the probe itself takes root, or the
device's group, and a container or mount that passes the device on.
"""
import os
import re
import subprocess
import sys

DEVICE = "/dev/kvm"
EXIT_CODE = 42  # of tests/guest/exit_code.S
NOTICED = r"not faithful|too slow|too old|another interface|did not answer|to its end|KVM_\w+ failed"


def run(*command):
    done = subprocess.run(command, stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=60)
    return done.returncode, done.stdout + done.stderr


def opens():
    try:
        os.close(os.open(DEVICE, os.O_RDWR))
        return True
    except OSError:
        return False


def main():
    pvemu, guests = sys.argv[1:3]
    if not os.path.exists(DEVICE):
        print(f"1..0 # SKIP there is no {DEVICE}")
        return 0
    guest = ["-m", "32M", "-net", "none", "-timeout", "20", "-kernel", os.path.join(guests, "exit_code.elf")]
    print("1..4")
    failed = 0

    def say(good, number, what, text):
        nonlocal failed
        print(("ok" if good else "not ok") + f" {number} - {what}", flush=True)
        if not good:
            failed += 1
            print("\n".join("# " + line for line in text.splitlines()), flush=True)

    _, text = run(pvemu, "doctor")
    match = re.search(r"^kvm +(usable|not usable: (.+))$", text, re.MULTILINE)
    reason = match.group(2) if match else None
    say(match is not None and (reason is None or "/dev/kvm" in reason), 1, "doctor says " + (match.group(0) if match else "nothing"), text)
    status, text = run(pvemu, "-accel", "kvm", *guest)
    if reason is None:
        say(status == EXIT_CODE and "by PVH, kvm," in text, 2, "-accel kvm runs a guest", text)
    else:
        say(status == 125 and f"error: {reason}" in text and "by PVH" not in text, 2, "-accel kvm refuses it in the same words", text)
    status, text = run(pvemu, *guest)
    wanted = "by PVH, kvm," if reason is None else f": {reason}"
    say(status == EXIT_CODE and wanted in text, 3, "auto " + ("takes it" if reason is None else "says so, and runs the guest"), text)
    flags = open("/proc/cpuinfo").read().partition("flags")[2].partition("\n")[0].split()
    if {"vmx", "svm"} & set(flags) or not opens():
        print("ok 4 - a device made in software # SKIP this processor has VT-x or AMD-V, or it does not open")
    else:
        say(reason is not None and re.search(NOTICED, reason), 4,
            "a device made in software is refused", str(reason))
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
