#!/usr/bin/env python3
# SPDX-License-Identifier: MIT
"""What goes where in a run that nobody watches: output.py PVEMU KERNEL_DIR [TEST...]."""
import array
import fcntl
import os
import resource
import signal
import socket
import struct
import subprocess
import termios
import time

import images
from harness import LIMIT, PVEMU, Guest, boot_args, check, check_match, environment, main, run, test, wait_until

F_SETPIPE_SZ = 1031
FLOOD = b"x" * 4097 + b"\n"
BANNER = b"pvemu: Linux of unknown version (ELF) by PVH, interp, 1 CPU, 32 MiB\n"


def verdict(text):
    return b"pvemu: " + text + b"\n"


@test
def streams(folder):
    """stdout is the guest's, stderr is pvemu's, the verdict is last"""
    result = run(folder, *boot_args("exit_zero"))
    check_match(r"^pvemu: PASS: the guest ended with code 0 after [0-9.]+ s \(status 0\)\n$",
                result.stderr[len(BANNER):])
    check(result.stderr[:len(BANNER)], BANNER)
    result = run(folder, *boot_args("hello", "-expect", "prompt: $"))
    check((result.returncode, result.stdout), (0, b"hello from the guest\nprompt: "))


@test
def engine(folder):
    """-accel auto says why it is not KVM, in one line; -accel kvm and doctor say the same"""
    result = run(folder, *boot_args("exit_zero", "-accel", "auto"))
    check(result.returncode, 0)
    first = result.stderr.splitlines()[0].decode()
    check_match(r"^pvemu: (-accel \w+: .*/dev/kvm.*|.* by PVH, kvm, 1 CPU, 32 MiB)$", first)
    result = run(folder, *boot_args("exit_zero", "-accel", "kvm"))
    if "-accel" in first:
        check(result.returncode, 125)
        reason = first.partition(": ")[2].partition(": ")[2].partition("; ")[0]
        said = result.stderr.decode().splitlines()
        check(said[0], "pvemu: error: " + reason)
        assert said[1:2] and said[1].startswith("pvemu: hint: "), said  # what to do, always
        if said[1].startswith("pvemu: hint: leave -accel kvm away"):  # no help with KVM itself
            del said[1:]
        check(first.partition("; ")[2], "".join(said[1:]).removeprefix("pvemu: hint: "))
        wanted = "\n".join(["kvm     not usable: " + reason] + [line.replace("pvemu: ", "        ") for line in said[1:]])
    else:
        check(result.returncode, 0)
        wanted = "kvm     usable"
    doctor = run(folder, "doctor")
    check((doctor.returncode, doctor.stderr), (0, b""))
    check(doctor.stdout.decode().partition("\n")[2].partition("\nbt ")[0], wanted)


@test
def quiet(folder):
    """-q leaves the verdict and errors"""
    result = run(folder, *boot_args("exit_code", "-q"))
    check(result.returncode, 42)
    check_match(r"^pvemu: FAIL: the guest ended with code 42 after [0-9.]+ s \(status 42\)\n$", result.stderr)
    result = run(folder, "-q", "-kernel", "missing")
    check(result.stderr, b"pvemu: error: cannot open kernel 'missing': no such file\n")


@test
def dry_run(folder):
    """-n shows the plan and changes nothing"""
    images.write(folder, "disk", bytes(1 << 20))
    images.write(folder, "log", b"old")
    result = run(folder, *boot_args("hello", "-n", "-append", "quiet a=1", "-log", "log"))
    check((result.returncode, result.stderr), (0, b""))
    check(result.stdout.decode(),
          "Linux of unknown version (ELF) by PVH, interp, 1 CPU, 32 MiB\n"
          "command line: console=hvc0 panic=-1 quiet a=1\n"
          "initrd: none\n")
    with open(os.path.join(folder, "log"), "rb") as f:
        check(f.read(), b"old")
    result = run(folder, *boot_args("hello", "-n", "-cmdline", "just this"))
    check(result.stdout.splitlines()[1], b"command line: just this")
    result = run(folder, *boot_args("hello", "-n", "-disk", "disk,ro", "-disk", "disk,snapshot"))
    check_match(r"32 MiB, disk disk \(read-only\), disk disk \(writes thrown away\)\n", result.stdout)
    check(os.listdir(os.path.join(folder, "run")), [])


@test
def log(folder):
    """-log has what stdout has"""
    result = run(folder, *boot_args("flood", "-log", "log"))
    check((result.returncode, result.stdout), (0, FLOOD))
    with open(os.path.join(folder, "log"), "rb") as f:
        check(f.read(), FLOOD)


@test
def stdout_limited(folder):
    """a limit on file sizes (SIGXFSZ) costs the text, not the guest"""
    limit = 40 << 20  # the guest's memory counts as a file
    with open(os.path.join(folder, "out"), "wb") as out:
        out.seek(limit)
        result = run(folder, *boot_args("hello", "-expect", "prompt"), stdout=out,
                     preexec_fn=lambda: resource.setrlimit(resource.RLIMIT_FSIZE, (limit, limit)))
    check(result.returncode, 0)
    assert b"pvemu: warning: the guest's output is incomplete: File too large\n" in result.stderr, result.stderr


@test
def log_full(folder):
    """a full disk costs the log, not the guest"""
    result = run(folder, *boot_args("flood", "-log", "/dev/full"))
    check((result.returncode, result.stdout), (0, FLOOD))
    check(result.stderr.count(b"pvemu: warning: the log is incomplete: No space left on device\n"), 1)


@test
def stdout_full(folder):
    """so does a full disk behind stdout"""
    with open("/dev/full", "wb") as full:
        result = run(folder, *boot_args("flood"), stdout=full)
    check(result.returncode, 0)
    check(result.stderr.count(b"pvemu: warning: the guest's output is incomplete: No space left on device\n"), 1)


@test
def stdout_file(folder):
    """a file on stdout is shared with who writes before and after"""
    command = 'exec >out; echo before; "$0" "$@" 2>err; echo "after $?"; ("$0" "$@" 2>err); echo end'
    subprocess.run(["sh", "-c", command, PVEMU, *boot_args("flood")], cwd=folder, env=environment(folder),
                   stdin=subprocess.DEVNULL, check=True, timeout=30)
    with open(os.path.join(folder, "out"), "rb") as f:
        check(f.read(), b"before\n" + FLOOD + b"after 0\n" + FLOOD + b"end\n")


@test
def stdout_socket(folder):
    """a socket on stdout"""
    ours, theirs = socket.socketpair()
    with ours, theirs:
        child = subprocess.Popen([PVEMU, *boot_args("flood", "-q")], stdin=subprocess.DEVNULL, stdout=theirs,
                                 stderr=subprocess.DEVNULL, env=environment(folder), cwd=folder)
        theirs.close()
        ours.settimeout(LIMIT)
        check(ours.makefile("rb").read(), FLOOD)
        check(child.wait(LIMIT), 0)


@test
def stdout_closed_early(folder):
    """a reader that goes away does not end the guest"""
    guest = Guest(folder, *boot_args("clock", "-log", "log"))
    guest.expect(b"\n")
    guest.child.stdout.close()
    guest.out = guest.child.stderr.fileno()
    guest.type(b"x")
    wait_until(lambda: os.path.getsize(os.path.join(folder, "log")) == 1 + 17, "the guest's answer in the log")
    guest.type(b"xq")
    check(guest.child.wait(30), 0)
    check(os.path.getsize(os.path.join(folder, "log")), 1 + 17 + 17)


@test
def no_streams(folder):
    """closed stdin, stdout and stderr are not mistaken for files opened later"""
    images.write(folder, "disk", bytes(1 << 20))
    command = '"$0" "$@" <&- >&- 2>&-'
    result = subprocess.run(["sh", "-c", command, PVEMU, *boot_args("flood", "-disk", "disk")], cwd=folder,
                            env=environment(folder), check=False, timeout=30)
    check(result.returncode, 0)
    with open(os.path.join(folder, "disk"), "rb") as f:
        check(f.read(), bytes(1 << 20))


@test
def last_words(folder):
    """a slow reader gets everything, and then the verdict comes"""
    guest = Guest(folder, *boot_args("flood", "-q"))
    fcntl.fcntl(guest.out, F_SETPIPE_SZ, 8192)

    def waiting():
        count = array.array("i", [0])
        fcntl.ioctl(guest.out, termios.FIONREAD, count)
        return count[0] >= 4097
    wait_until(waiting, "a full pipe")
    time.sleep(0.5)  # so that the guest comes to its end; too short would only make this test blind
    check(guest.child.poll(), None)
    check(guest.end(), 0)
    guest.pump(1)
    check(guest.seen, FLOOD)


@test
def nobody_reads(folder):
    """a reader that stopped does not hold up the end"""
    guest = Guest(folder, *boot_args("flood", "-timeout", "1s"))
    fcntl.fcntl(guest.out, F_SETPIPE_SZ, 4096)
    check(guest.child.wait(30), 124)


@test
def stdin_ends(folder):
    """the end of stdin leaves the guest running"""
    guest = Guest(folder, *boot_args("clock"))
    guest.expect(b"\n")
    guest.type(b"x")
    guest.expect(rb"[0-9a-f]{16}\n")
    guest.child.stdin.close()
    guest.child.stdin = None
    guest.child.send_signal(signal.SIGTERM)
    guest.expect_error(b"asked the guest to power off")
    check(guest.child.poll(), None)


@test
def stdin_long(folder):
    """piped input arrives whole and in order, however slow the guest is"""
    text = b"x" * 3000 + b"q"
    result = run(folder, *boot_args("clock"), data=text)
    check(result.returncode, 0)
    check(len(result.stdout), 1 + 3000 * 17)


def last_line(folder, *args, **more):
    result = run(folder, *args, **more)
    return result.returncode, result.stderr.decode().splitlines()[-1]


@test
def signals_ignored(folder):
    """signals that were ignored at the start stay ignored (nohup)"""
    def ignore():
        signal.signal(signal.SIGHUP, signal.SIG_IGN)
        signal.signal(signal.SIGINT, signal.SIG_IGN)
    guest = Guest(folder, *boot_args("clock"), preexec_fn=ignore)
    guest.expect(b"\n")
    guest.child.send_signal(signal.SIGHUP)
    guest.child.send_signal(signal.SIGINT)
    guest.type(b"x")
    guest.expect(rb"[0-9a-f]{16}\n")
    guest.type(b"q")
    check(guest.end(), 0)


@test
def signals(folder):
    """SIGINT and SIGHUP end the run"""
    for number, name in ((signal.SIGINT, "SIGINT"), (signal.SIGHUP, "SIGHUP")):
        guest = Guest(folder, *boot_args("hello"))
        guest.expect(b"prompt")
        guest.child.send_signal(number)
        check(guest.end(), 128 + number)
        check_match(rf"pvemu: FAIL: ended by {name} after [0-9.]+ s \(status {128 + number}\)\n$", guest.errors)


@test
def panic_pause(folder):
    """-on panic=pause holds the guest; -timeout then tells of the panic"""
    status, line = last_line(folder, *boot_args("panic", "-on", "panic=pause", "-timeout", "1s"))
    check(status, 112)
    check_match(r'^pvemu: FAIL: kernel panic after 0\.\d s: "test of the verdict" \(status 112\)$', line)
    status, line = last_line(folder, *boot_args("panic_text", "-on", "panic=pause", "-timeout", "3s"))
    check(status, 112)
    check_match(r'"only text"', line)


@test
def panic_reset(folder):
    """-on panic=reset boots again after a panic that is only text"""
    result = run(folder, *boot_args("panic_text", "-on", "panic=reset", "-timeout", "3s"))
    check(result.stdout.count(b"Kernel panic - not syncing: only text\n"), 2)
    check_match("pvemu: kernel panic: booting it again\n", result.stderr)


@test
def expect_and_end(folder):
    """-expect that matched wins over an end within the wait for -fail"""
    status, line = last_line(folder, *boot_args("panic", "-expect", "CPU: 0", "-fail", "nothing"))
    check(status, 112)  # the panic came first
    status, line = last_line(folder, *boot_args("flood", "-expect", "xx", "-fail", "nothing"))
    check(status, 0)
    check_match("PASS: -expect matched", line)


@test
def tty_stays_as_it_is(folder):
    """a terminal on stdout alone is not touched"""
    ours, theirs = os.openpty()
    before = termios.tcgetattr(theirs)
    fcntl.ioctl(ours, termios.TIOCSWINSZ, struct.pack("HHHH", 24, 80, 0, 0))
    check(run(folder, *boot_args("hello", "-expect", "prompt"), stdout=theirs).returncode, 0)
    check(termios.tcgetattr(theirs), before)
    check(os.read(ours, 1000)[:28], b"hello from the guest\r\nprompt")
    os.close(ours)
    os.close(theirs)


main()
