# SPDX-License-Identifier: MIT
"""What the tests of the user's side share: a TAP runner, pvemu with pipes or on a pseudo terminal, its
control socket. Every wait has a limit and waits for a condition."""
import fcntl
import json
import os
import pty
import re
import select
import shutil
import signal
import socket
import struct
import subprocess
import sys
import tempfile
import termios
import time
import traceback

PVEMU = os.path.abspath(sys.argv[1])
KERNELS = os.path.abspath(sys.argv[2])
LIMIT = 30  # seconds for anything that is waited for
TESTS = []
for number in (signal.SIGHUP, signal.SIGINT, signal.SIGQUIT):  # nohup and a shell's & leave them ignored
    signal.signal(number, signal.default_int_handler if number == signal.SIGINT else signal.SIG_DFL)


def test(function):
    """Marks a test: a function of the folder it may write to. Its docstring is its name."""
    TESTS.append(function)
    return function


class Skip(Exception):
    """Raised by a test that cannot run here."""


def run_one(function):
    """None, or what went wrong, or a Skip."""
    folder = tempfile.mkdtemp(prefix="pvemu-cli-")
    signal.alarm(4 * LIMIT)  # the last resort
    try:
        function(folder)
        return None
    except Skip as skip:
        return skip
    except Exception:  # pylint: disable=broad-except
        return traceback.format_exc()
    finally:
        signal.alarm(0)
        Guest.end_all()
        shutil.rmtree(folder, ignore_errors=True)


def main():
    """Runs the tests, or those whose names are on the command line."""
    wanted = [t for t in TESTS if not sys.argv[3:] or t.__name__ in sys.argv[3:]]
    failed = 0
    print(f"1..{len(wanted)}", flush=True)
    for number, function in enumerate(wanted, 1):
        trouble = run_one(function)
        name = (function.__doc__ or function.__name__).strip().splitlines()[0].rstrip(".")
        if isinstance(trouble, Skip):
            print(f"ok {number} - {name} # SKIP {trouble}", flush=True)
            continue
        failed += trouble is not None
        print(f"{'ok' if trouble is None else 'not ok'} {number} - {name}", flush=True)
        for line in (trouble or "").splitlines():
            print("# " + line, flush=True)
    sys.exit(1 if failed else 0)


def kernel(name):
    return os.path.join(KERNELS, name + ".elf")


def environment(folder, **more):
    """Of its own, so that nobody's guests, caches or language get in the way."""
    runtime = os.path.join(folder, "run")
    os.makedirs(runtime, mode=0o700, exist_ok=True)
    env = {k: v for k, v in os.environ.items() if k in ("PATH", "ASAN_OPTIONS", "UBSAN_OPTIONS")}
    env.update(XDG_RUNTIME_DIR=runtime, XDG_CACHE_HOME=runtime, HOME=folder, TERM="xterm", LC_ALL="C")
    env.update(more)
    return env


def run(folder, *args, stdin=subprocess.DEVNULL, data=None, env=None, **options):
    """Runs pvemu to its end; the result has returncode, stdout and stderr as bytes."""
    if data is not None:
        options["input"] = data
    else:
        options["stdin"] = stdin
    options.setdefault("stdout", subprocess.PIPE)
    return subprocess.run([PVEMU, *args], stderr=subprocess.PIPE, cwd=folder, timeout=LIMIT, check=False,
                          env=env or environment(folder), **options)


def boot_args(name, *args):
    """Arguments of a small guest, on the engine that every host has."""
    return ["-kernel", kernel(name), "-m", "32M", "-net", "none", "-accel", "interp", *args]


def check(got, want):
    if got != want:
        raise AssertionError(f"\n  got  {got!r}\n  want {want!r}")


def check_match(pattern, text):
    if isinstance(text, bytes):
        text = text.decode(errors="replace")
    if not re.search(pattern, text):
        raise AssertionError(f"\n  pattern {pattern!r}\n  not in  {text!r}")


def check_golden(name, got):
    """Compares with golden/NAME; PVEMU_UPDATE_GOLDEN=1 writes it."""
    path = os.path.join(os.path.dirname(os.path.abspath(__file__)), "golden", name)
    if os.environ.get("PVEMU_UPDATE_GOLDEN"):
        with open(path, "wb") as f:
            f.write(got)
    with open(path, "rb") as f:
        check(got.decode(), f.read().decode())


def wait_until(condition, what):
    """Polls until condition() is true; returns what it returned."""
    end = time.monotonic() + LIMIT
    while time.monotonic() < end:
        value = condition()
        if value:
            return value
        time.sleep(0.01)
    raise AssertionError(f"waited {LIMIT} s for {what}")


class Guest:
    """A running pvemu. Its stdout (and with a terminal everything) is collected in `seen`."""

    running = []

    def __init__(self, folder, *args, terminal=False, stdin=None, env=None, shell_command=None, size=(24, 80),
                 **options):
        self.folder = folder
        self.seen = b""
        self.errors = b""
        self.slave = None
        env = env or environment(folder)
        command = [PVEMU, *args] if shell_command is None else ["sh", "-c", shell_command, PVEMU, *args]
        if terminal:
            self.out, self.slave = pty.openpty()
            self.set_size(*size)
            self.before = termios.tcgetattr(self.slave)
            self.child = subprocess.Popen(command, stdin=self.slave, stdout=options.pop("stdout", self.slave),
                                          stderr=self.slave, env=env, cwd=folder, start_new_session=True,
                                          preexec_fn=lambda: fcntl.ioctl(0, termios.TIOCSCTTY, 0), **options)
            self.err = None
        else:
            self.child = subprocess.Popen(command, stdin=stdin if stdin is not None else subprocess.PIPE,
                                          stdout=subprocess.PIPE, stderr=subprocess.PIPE, env=env, cwd=folder,
                                          bufsize=0, **options)
            self.out, self.err = self.child.stdout.fileno(), self.child.stderr.fileno()
        Guest.running.append(self)

    @classmethod
    def end_all(cls):
        for guest in cls.running:
            guest.close()
        cls.running = []

    def close(self):
        if self.child.poll() is None:
            self.child.kill()
        self.child.wait()
        if self.slave is not None:
            os.close(self.slave)
            os.close(self.out)
            self.slave = None
        for stream in (self.child.stdin, self.child.stdout, self.child.stderr):
            if stream is not None:
                stream.close()

    def set_size(self, rows, columns):
        fcntl.ioctl(self.out, termios.TIOCSWINSZ, struct.pack("HHHH", rows, columns, 0, 0))

    def settings(self):
        """The terminal's."""
        return termios.tcgetattr(self.slave)

    def is_raw(self):
        return not self.settings()[3] & (termios.ICANON | termios.ECHO | termios.ISIG)

    def type(self, data):
        os.write(self.out if self.slave is not None else self.child.stdin.fileno(), data)

    def pump(self, seconds):
        """Collects output; False when nothing came."""
        files = [f for f in (self.out, self.err) if f is not None]
        ready = select.select(files, [], [], seconds)[0]
        for f in ready:
            try:
                piece = os.read(f, 65536)
            except OSError:  # a terminal without users
                piece = b""
            if f == self.err:
                self.errors += piece
                self.err = self.err if piece else None
            else:
                self.seen += piece
        return bool(ready)

    def expect(self, pattern, where="seen"):
        """Waits for a pattern in what has come so far, and forgets everything up to its end."""
        end = time.monotonic() + LIMIT
        while True:
            text = getattr(self, where)
            match = re.search(pattern, text, re.DOTALL)
            if match:
                setattr(self, where, text[match.end():])
                return match
            if time.monotonic() > end or (self.child.poll() is not None and not self.pump(0.1)):
                raise AssertionError(f"no {pattern!r} in {text!r}; stderr {self.errors!r}; status {self.child.poll()}")
            self.pump(0.1)

    def expect_error(self, pattern):
        return self.expect(pattern, "errors")

    def end(self):
        """Waits for the end; returns the status, with all output collected."""
        end = time.monotonic() + LIMIT
        while self.child.poll() is None:
            if time.monotonic() > end:
                raise AssertionError(f"does not end; {self.seen!r} {self.errors!r}")
            self.pump(0.05)
        while self.err is not None or (self.slave is not None and select.select([self.out], [], [], 0)[0]):
            self.pump(1)
        return self.child.returncode

    def socket_path(self):
        return os.path.join(self.folder, "run", "pvemu", "x.sock")


class Control:
    """A client of a control socket."""

    def __init__(self, path, greet=True):
        self.socket = socket.socket(socket.AF_UNIX)
        self.socket.settimeout(LIMIT)
        self.socket.connect(path)
        self.pending = b""
        self.events = []
        if greet:
            self.greeting = self.receive()
            check(self.ask("qmp_capabilities"), {})

    def send(self, data):
        self.socket.sendall(data)

    def receive(self):
        """The next line as a value; None at the end."""
        while b"\n" not in self.pending:
            try:
                piece = self.socket.recv(65536)
            except ConnectionError:
                piece = b""
            if not piece:
                return None
            self.pending += piece
        line, self.pending = self.pending.split(b"\n", 1)
        return json.loads(line)

    def answer(self):
        """The next line that is no event; events are kept."""
        while True:
            value = self.receive()
            if value is None or "event" not in value:
                return value
            self.events.append(value)

    def command(self, name, **more):
        self.send(json.dumps({"execute": name, **more}).encode() + b"\n")
        return self.answer()

    def ask(self, name):
        """A command that must succeed."""
        value = self.command(name)
        if value is None or "return" not in value:
            raise AssertionError(f"{name}: {value}")
        return value["return"]

    def event(self):
        """The next event."""
        if self.events:
            return self.events.pop(0)
        value = self.receive()
        if value is None or "event" not in value:
            raise AssertionError(f"no event but {value}")
        return value

    def close(self):
        self.socket.close()
