#!/usr/bin/env python3
# SPDX-License-Identifier: MIT
"""A running pvemu seen from outside: every thread of every process of it is confined, no page
is writable and executable, and kernels that lack a layer are told about.

sandbox_live.py PVEMU DRILL SOURCE_ROOT. TAP. Needs a bootable kernel in cache/kernel/ or in
PVEMU_TEST_KERNEL, and skips without one: a guest has to run, but it need not get far.
"""
import glob
import os
import pathlib
import signal
import subprocess
import sys
import tempfile
import time

PVEMU, DRILL, ROOT = sys.argv[1:4]
BOOTED = b"Linux version"
CAP_NET_BIND_SERVICE = 1 << 10
count = failures = 0


def check(ok, what):
    global count, failures
    count += 1
    failures += not ok
    print(f"{'ok' if ok else 'not ok'} {count} {what}", flush=True)


def find_kernel():
    if os.environ.get("PVEMU_TEST_KERNEL"):
        return os.environ["PVEMU_TEST_KERNEL"]
    return next(iter(sorted(glob.glob(f"{ROOT}/cache/kernel/linux-image-*-amd64_*/vmlinuz"))), None)


def status_of(task):
    pairs = (line.split(":", 1) for line in (task / "status").read_text().splitlines())
    return {key: value.strip() for key, value in pairs}


def family(pid):
    """The process and its descendants."""
    children = {}
    for entry in pathlib.Path("/proc").glob("[0-9]*"):
        try:
            children.setdefault(int(status_of(entry)["PPid"]), []).append(int(entry.name))
        except (OSError, KeyError):
            pass
    found = [pid]
    for one in found:
        found += children.get(one, [])
    return found


class Guest:
    def __init__(self, kernel, *args, wrapper=()):
        self.dir = tempfile.TemporaryDirectory(prefix="pvemu-live-")
        self.environment = dict(os.environ, XDG_RUNTIME_DIR=self.dir.name, HOME=self.dir.name)
        command = [*wrapper, PVEMU, "-kernel", kernel, "-append", "earlyprintk=xen"]
        self.process = subprocess.Popen(
            [*command, "-name", "live", *args], env=self.environment,
            stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.PIPE)

    def wait_for(self, text, seconds=60):
        """Reads the console until text; os.read because a pipe's reader would wait for more."""
        seen, end = b"", time.monotonic() + seconds
        while text not in seen and time.monotonic() < end:
            data = os.read(self.process.stdout.fileno(), 4096)
            if not data:
                break
            seen += data
        return text in seen

    def seccomp(self):
        return status_of(pathlib.Path(f"/proc/{self.process.pid}"))["Seccomp"]

    def verb(self, *words):
        return subprocess.run([PVEMU, *words], env=self.environment, capture_output=True,
                              timeout=30)

    def end(self):
        """Ends it at once: a second SIGTERM does not wait for the guest."""
        for _ in range(2):
            self.process.send_signal(signal.SIGTERM)
            time.sleep(0.2)
        _, errors = self.process.communicate(timeout=60)
        self.dir.cleanup()
        return errors.decode()


def test_confined(kernel):
    guest = Guest(kernel, "-p", "0:80", "-fail", "never (seen|heard)", "-log", os.devnull)
    check(guest.wait_for(BOOTED), "the guest runs")
    processes = family(guest.process.pid)
    check(len(processes) == 3, f"pvemu, supervisor and network process: {len(processes)}")
    for pid in processes:
        proc = pathlib.Path(f"/proc/{pid}")
        for task in (proc / "task").iterdir():
            s = status_of(task)
            name = s["Name"]
            check(s["Seccomp"] == "2", f"{name}: a seccomp filter")
            check(s["NoNewPrivs"] == "1", f"{name}: no new privileges")
            left = int(s["CapEff"], 16) | int(s["CapPrm"], 16) | int(s["CapAmb"], 16)
            if name == "pvemu-net-sup":
                left &= ~CAP_NET_BIND_SERVICE
            check(left == 0, f"{name}: no capabilities")
        maps = [line.split()[1] for line in (proc / "maps").read_text().splitlines()]
        check(not any("w" in m and "x" in m for m in maps), f"{s['Name']}: no writable code")
    test_verbs(guest)
    errors = guest.end()
    check("sandbox:" not in errors, "nothing is missing on this kernel, or it was told")
    check(guest.process.returncode == 128 + signal.SIGTERM,
          f"ends by request, not by SIGSYS: status {guest.process.returncode}")


def test_verbs(guest):
    check(b"live" in guest.verb("list").stdout, "list")
    check(guest.verb("pause", "live").returncode == 0, "pause")
    check(b"paused" in guest.verb("list").stdout, "paused")
    check(guest.verb("unpause", "live").returncode == 0, "unpause")


def test_degraded(kernel, calls, word):
    guest = Guest(kernel, "-net", "none", wrapper=(DRILL, "without", calls, "--"))
    check(guest.wait_for(BOOTED), f"runs without {calls}")
    errors = guest.end()
    check(word in errors, f"says that there is no {word}")
    check(guest.process.returncode == 128 + signal.SIGTERM, f"ends well without {calls}")


def test_off(kernel):
    guest = Guest(kernel, "-sandbox", "off")
    check(guest.wait_for(BOOTED), "runs with -sandbox off")
    check(guest.seccomp() == "0", "no filter")
    check(guest.end().count("-sandbox off") == 1, "-sandbox off warns once")


def test_log(kernel):
    guest = Guest(kernel, "-sandbox", "log", "-net", "none")
    check(guest.wait_for(BOOTED), "runs with -sandbox log")
    check(guest.seccomp() == "2", "logs by seccomp")
    guest.end()


def main():
    kernel = find_kernel()
    if kernel is None:
        print("1..0 # SKIP no kernel in cache/kernel/ (set PVEMU_TEST_KERNEL)")
        return 0
    test_confined(kernel)
    test_degraded(kernel, "landlock_create_ruleset", "Landlock")
    test_degraded(kernel, "seccomp", "seccomp")
    test_off(kernel)
    test_log(kernel)
    print(f"1..{count}")
    return 1 if failures else 0


if __name__ == "__main__":
    sys.exit(main())
