#!/usr/bin/env python3
# SPDX-License-Identifier: MIT
"""Kernels that suspend themselves, resumed both ways: suspend.py PVEMU KERNEL_DIR."""
import json
import os
import socket
import subprocess
import sys
import tempfile
import time

PVEMU, KERNELS = sys.argv[1], sys.argv[2]
LIMIT = 120  # seconds for one kernel
BAD = "is not a page of its own"

# name, arguments, how it is resumed each time ("bad": not as in a new domain, and then as cancelled), last words
ROWS = [
    *((f"ops/ops_suspend_{kind}_{way}", ["-machine", "pvh"], ["cancel", "new", "cancel", "new"], b"checks passed")
      for kind in ("pvh", "pvh32") for way in ("inline", "page")),
    *((kernel, ["-machine", "pv", "-smp", "1,max=2"],
       ["cancel", "new", "cancel", "new", "bad", "bad", "cancel", "new", "new"], b"checks passed")
      for kernel in ("pv/pv_suspend", "pv/pv_suspend_page")),
]


class Control:
    """The guest's control socket."""

    def __init__(self, path, child, end):
        self.socket = socket.socket(socket.AF_UNIX)
        while True:
            try:
                self.socket.connect(path)
                break
            except OSError:
                if time.monotonic() > end or child.poll() is not None:
                    raise
                time.sleep(0.02)
        self.socket.settimeout(LIMIT)
        self.stream = self.socket.makefile("rw")
        self.stream.readline()
        self.ask("qmp_capabilities")

    def ask(self, command, **arguments):
        self.stream.write(json.dumps({"execute": command, "arguments": arguments}) + "\n")
        self.stream.flush()
        while True:
            answer = json.loads(self.stream.readline())
            if "event" not in answer:
                return answer

    def close(self):
        self.stream.close()
        self.socket.close()


def drive(control, turns, end):
    """What went wrong, or None."""
    for turn in turns:
        while control.ask("query-status")["return"]["status"] != "suspended":
            if time.monotonic() > end:
                return f"not suspended before {turn!r}"
            time.sleep(0.02)
        if "return" in control.ask("cont"):
            return "cont resumed a suspended guest"
        if turn == "bad":
            answer = control.ask("system_wakeup")
            if BAD not in answer.get("error", {}).get("desc", ""):
                return f"no start info: {answer}"
        answer = control.ask("system_wakeup", cancel=turn != "new")
        if "return" not in answer:
            return f"{turn}: {answer}"
    return None


def run(kernel, args, engine, turns, text, folder):
    end = time.monotonic() + LIMIT
    env = dict(os.environ, XDG_RUNTIME_DIR=folder, XDG_CACHE_HOME=folder)
    command = [PVEMU, "-kernel", os.path.join(KERNELS, kernel + ".elf"), "-accel", engine, "-m", "32M", "-net", "none",
               "-name", "x", "-on", "suspend=pause", "-timeout", str(LIMIT), *args]
    with subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.PIPE, env=env) as child:
        try:
            control = Control(os.path.join(folder, "pvemu", "x.sock"), child, end)
            try:
                trouble = drive(control, turns, end)
            finally:
                control.close()
        except (OSError, ValueError, KeyError) as why:
            trouble = repr(why)
        if trouble is not None:
            child.kill()
        try:
            out, err = child.communicate(timeout=LIMIT)
        except subprocess.TimeoutExpired:
            child.kill()
            out, err = child.communicate()
    if trouble is None and (child.returncode != 0 or text not in out):
        trouble = f"status {child.returncode}"
    return trouble, out + err


def main():
    failed = number = 0
    print(f"1..{2 * len(ROWS)}")
    for kernel, args, turns, text in ROWS:
        for engine in ("interp", "bt"):
            number += 1
            with tempfile.TemporaryDirectory() as folder:
                os.chmod(folder, 0o700)
                trouble, said = run(kernel, args, engine, turns, text, folder)
            failed += trouble is not None
            print(f"{'not ok' if trouble else 'ok'} {number} - {kernel} on {engine}", flush=True)
            if trouble:
                print("# " + trouble)
                for line in said.decode(errors="replace").splitlines():
                    print("#   " + line)
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
