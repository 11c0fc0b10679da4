#!/usr/bin/env python3
# SPDX-License-Identifier: MIT
"""Every row of the exit-status table, shown by one small guest each: statuses.py PVEMU KERNEL_DIR."""
import os
import re
import signal
import subprocess
import sys
import tempfile

PVEMU, KERNELS = sys.argv[1], sys.argv[2]
LIMIT = 60  # seconds: far above what any of these needs

# name, kernel, arguments, status, what the last line on stderr must match, input
ROWS = [
    ("poweroff by HLT", "poweroff", [], 0, r"PASS: the guest powered off", None),
    ("poweroff by ACPI", "acpi_off", [], 0, r"PASS: the guest powered off", None),
    ("poweroff by hypercall", "xen_poweroff", [], 0, r"PASS: the guest powered off", None),
    ("hypercalls by the page, bt", "xen_page", ["-accel", "bt"], 0, r"PASS: the guest powered off", None),
    ("hypercalls by the page, interp", "xen_page", ["-accel", "interp"], 0, r"PASS: the guest powered off", None),
    ("hypercalls of 32-bit code", "calls32", [], 0, r"PASS: the guest ended with code 0", None),
    ("the same on the interpreter", "calls32", ["-accel", "interp"], 0, r"PASS: the guest ended with code 0", None),
    ("hypercalls of a program, bt", "user_call", ["-accel", "bt"], 0, r"PASS: the guest ended with code 0", None),
    ("hypercalls of a program, interp", "user_call", ["-accel", "interp"], 0, r"PASS: the guest ended with code 0", None),
    ("exit code", "exit_code", [], 42, r"FAIL: the guest ended with code 42", None),
    ("exit code 0", "exit_zero", [], 0, r"PASS: the guest ended with code 0", None),
    ("exit code clamped", "exit_wild", [], 111, r"FAIL: the guest ended with code 111", None),
    ("crash notice", "crash", [], 112, r"FAIL: kernel panic", None),
    ("watchdog notice", "watchdog", [], 112, r"FAIL: the guest's watchdog fired after .* s \(status 112\)", None),
    ("panic with notice", "panic", [], 112, r'kernel panic after .* s: "test of the verdict"', None),
    ("panic by text alone", "panic_text", [], 112, r'kernel panic after .* s: "only text"', None),
    ("reboot", "reboot", [], 115, r"FAIL: the guest rebooted", None),
    ("triple fault", "triple", [], 115, r"FAIL: the guest triple-faulted", None),
    ("suspend", "suspend", [], 116, r"FAIL: the guest suspended itself", None),
    ("timeout", "hang", ["-timeout", "1s"], 124, r"FAIL: -timeout reached .*without a byte", None),
    ("timeout after text", "hello", ["-timeout", "2s"], 124, r"FAIL: -timeout reached after [0-9.]+ s \(", None),
    ("expect met", "hello", ["-expect", "hello from"], 0, r"PASS: -expect matched", None),
    ("expect met by a prompt", "hello", ["-expect", "prompt: $"], 0, r"PASS: -expect matched", None),
    ("expect not met", "exit_zero", ["-expect", "nothing says this", "-timeout", "20"], 0,
     r"PASS: the guest ended with code 0", None),
    ("powered off before expect", "poweroff", ["-expect", "nothing says this"], 114, r"before -expect was met", None),
    ("rebooted before expect", "reboot", ["-expect", "nothing says this"], 114, r"before -expect was met", None),
    ("panic before expect", "panic", ["-expect", "nothing says this"], 112, r"kernel panic", None),
    ("fail seen", "hello", ["-fail", "hello"], 113, r"FAIL: -fail matched", None),
    ("fail wins on one line", "fail_line", ["-expect", "done", "-fail", "ERROR"], 113, r"FAIL: -fail matched", None),
    ("reboot into reset", "reboot_once", ["-on", "reboot=reset", "-timeout", "3s"], 124, r"-timeout reached", None),
    ("panic into reset", "panic", ["-on", "panic=reset", "-timeout", "3s"], 124, r"-timeout reached", None),
    ("serial line both ways", "echo_serial", ["-send", "type: =>!\\n"], 33, r"ended with code 33", None),
    ("piped input", "echo_serial", [], 65, r"ended with code 65", b"A"),
    ("locked instructions on four CPUs", "smp_locks", ["-smp", "4"], 0, r"PASS: the guest ended with code 0", None),
    ("interrupts between CPUs", "smp_ipi", ["-smp", "4"], 0, r"PASS: the guest powered off", None),
    ("triple fault of one CPU", "smp_triple", ["-smp", "4"], 115, r"FAIL: the guest triple-faulted", None),
    ("CPUs started twice", "smp_off", ["-smp", "4"], 7, r"ended with code 7", None),
    ("CPUs that never start", "smp_off", ["-smp", "3", "-timeout", "2s"], 124, r"-timeout reached", None),
    ("no such kernel", "no-such-kernel", [], 125, r"cannot open kernel", None),
    ("unknown option", "hello", ["-apend", "x"], 125, r"did you mean '-append'", None),
    ("no room", "hello", ["-m", "1K"], 125, r"-m:", None),
]


def environment(runtime):
    env = dict(os.environ)
    env["XDG_RUNTIME_DIR"] = runtime
    env["XDG_CACHE_HOME"] = runtime
    return env


def run(kernel, args, data, runtime):
    command = [PVEMU, "-kernel", os.path.join(KERNELS, kernel + ".elf"), "-m", "32M", "-net", "none", *args]
    stdin = subprocess.DEVNULL if data is None else subprocess.PIPE
    with subprocess.Popen(command, stdin=stdin, stdout=subprocess.PIPE, stderr=subprocess.PIPE,
                          env=environment(runtime)) as child:
        try:
            out, err = child.communicate(data, timeout=LIMIT)
        except subprocess.TimeoutExpired:
            child.kill()
            out, err = child.communicate()
            return "hung", out, err
    return child.returncode, out, err


def check_signals(runtime):
    """SIGTERM asks first; the second one ends at once, with 143."""
    command = [PVEMU, "-kernel", os.path.join(KERNELS, "hello.elf"), "-m", "32M", "-net", "none"]
    with subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.PIPE,
                          env=environment(runtime)) as child:
        try:
            seen = b""
            while b"prompt" not in seen:
                piece = os.read(child.stdout.fileno(), 100)
                if not piece:
                    return "ended early: " + child.stderr.read().decode()
                seen += piece
            child.send_signal(signal.SIGTERM)
            asked = b""
            while b"asked the guest" not in asked:
                piece = os.read(child.stderr.fileno(), 1000)
                if not piece:
                    return "did not ask: " + asked.decode()
                asked += piece
            child.send_signal(signal.SIGTERM)
            child.communicate(timeout=LIMIT)
        except subprocess.TimeoutExpired:
            child.kill()
            return "hung"
    return None if child.returncode == 143 else f"status {child.returncode}"


def main():
    failed = 0
    print(f"1..{len(ROWS) + 1}")
    with tempfile.TemporaryDirectory() as runtime:
        os.chmod(runtime, 0o700)
        for number, (name, kernel, args, status, pattern, data) in enumerate(ROWS, 1):
            got, out, err = run(kernel, args, data, runtime)
            text = err.decode(errors="replace")
            lines = [line for line in text.splitlines() if not line.startswith("pvemu: hint:")]
            last = lines[-1] if lines else ""
            good = got == status and re.search(pattern, last)
            failed += not good
            print(f"{'ok' if good else 'not ok'} {number} - {name}")
            if not good:
                print(f"# status {got}, wanted {status}; last line: {last}\n# wanted: {pattern}")
                for line in (out.decode(errors="replace") + text).splitlines():
                    print("#   " + line)
        trouble = check_signals(runtime)
        failed += trouble is not None
        print(f"{'not ok' if trouble else 'ok'} {len(ROWS) + 1} - SIGTERM twice" + (f"\n# {trouble}" if trouble else ""))
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
