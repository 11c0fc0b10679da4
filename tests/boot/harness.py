# SPDX-License-Identifier: MIT
"""Runs guests for the boot tests: start, wait for text, type, end. Every wait has a limit."""
import fcntl
import hashlib
import http.server
import os
import pty
import re
import selectors
import signal
import socket
import socketserver
import struct
import subprocess
import sys
import tempfile
import termios
import threading
import tty
import time

LIMIT = float(os.environ.get("PVEMU_TEST_LIMIT", "300"))  # seconds for any one wait


class Failure(Exception):
    """An expectation that was not met, with the evidence."""


class Guest:
    """A running pvemu. stdin is a pipe, so the run is unattended."""

    def __init__(self, pvemu, args, runtime):
        env = dict(os.environ, XDG_RUNTIME_DIR=runtime, XDG_CACHE_HOME=runtime)
        self.child = subprocess.Popen([pvemu, *args], stdin=subprocess.PIPE, stdout=subprocess.PIPE,
                                      stderr=subprocess.PIPE, env=env)
        self.collect(args)

    def collect(self, args):
        self.args = args
        self.out = b""
        self.err = b""
        self.seen = 0
        self.selector = selectors.DefaultSelector()
        for stream in (self.child.stdout, self.child.stderr):
            os.set_blocking(stream.fileno(), False)
            self.selector.register(stream, selectors.EVENT_READ)

    def __enter__(self):
        return self

    def __exit__(self, *exc):
        if self.child.poll() is None:
            self.child.kill()
        self.child.wait()
        for stream in (self.child.stdin, self.child.stdout, self.child.stderr):
            stream.close()
        self.selector.close()

    def fail(self, text):
        tail = (self.out[-3000:] + b"\n--- stderr ---\n" + self.err[-2000:]).decode(errors="replace")
        raise Failure(f"{text}\ncommand: {' '.join(self.args)}\n{tail}")

    def pump(self, seconds):
        """Reads what there is; False when both streams have ended."""
        if not self.selector.get_map():
            return False
        for key, _ in self.selector.select(seconds):
            try:
                data = os.read(key.fileobj.fileno(), 65536)
            except OSError:  # a terminal that nobody has open any more
                data = b""
            if not data:
                self.selector.unregister(key.fileobj)
            elif key.fileobj is self.child.stdout:
                self.out += data
            else:
                self.err += data
        return True

    def wait(self, pattern, limit=LIMIT):
        """Waits for a regular expression in the output after the last match; returns the match."""
        end = time.monotonic() + limit
        regex = re.compile(pattern.encode(), re.MULTILINE)
        while True:
            match = regex.search(self.out, self.seen)
            if match:
                self.seen = match.end()
                return match
            if time.monotonic() > end:
                self.fail(f"no {pattern!r} within {limit:.0f} s")
            if not self.pump(1.0):
                self.fail(f"the guest ended before {pattern!r}")

    def type(self, text):
        self.child.stdin.write(text.encode())
        self.child.stdin.flush()

    def run(self, command, limit=LIMIT):
        """Runs a command in the guest's shell and returns its output; fails on a non-zero status."""
        self.type(f"echo BEG''IN; {command}; echo END''=$?\n")
        self.wait("BEGIN\r?\n", limit)
        start = self.seen
        match = self.wait(r"END=(\d+)\r?\n", limit)
        text = self.out[start:match.start()].decode(errors="replace").replace("\r", "")
        if match.group(1) != b"0":
            self.fail(f"in the guest: {command!r} gave {match.group(1).decode()}")
        return text

    def finish(self, status, last=None, limit=LIMIT):
        """Waits for the end; checks the status and the last line on stderr."""
        end = time.monotonic() + limit
        while self.pump(1.0):
            if time.monotonic() > end:
                self.fail(f"still running after {limit:.0f} s")
        got = self.child.wait()
        lines = self.err.decode(errors="replace").splitlines()
        if got != status:
            self.fail(f"status {got}, wanted {status}")
        if last is not None and not (lines and re.search(last, lines[-1])):
            self.fail(f"the last line is {lines[-1] if lines else ''!r}, wanted {last!r}")

    def signal(self, number):
        self.child.send_signal(number)


class TerminalGuest(Guest):
    """A running pvemu whose stdin and stdout are a terminal, so that somebody watches."""

    def __init__(self, pvemu, args, runtime, size):
        env = dict(os.environ, XDG_RUNTIME_DIR=runtime, XDG_CACHE_HOME=runtime, TERM="xterm")
        master, slave = pty.openpty()
        tty.setraw(slave)
        self.terminal = os.fdopen(master, "r+b", buffering=0)
        self.resize(*size)
        self.child = subprocess.Popen([pvemu, *args], stdin=slave, stdout=slave, stderr=subprocess.PIPE, env=env,
                                      start_new_session=True, preexec_fn=lambda: fcntl.ioctl(0, termios.TIOCSCTTY, 0))
        os.close(slave)
        self.child.stdin = self.child.stdout = self.terminal
        self.collect(args)

    def resize(self, rows, columns):
        """The kernel tells pvemu, which is in the terminal's foreground."""
        fcntl.ioctl(self.terminal, termios.TIOCSWINSZ, struct.pack("HHHH", rows, columns, 0, 0))


class FileServer:
    """A web server on the host's loopback: GET serves `data`, PUT keeps what it gets."""

    def __init__(self, data):
        outer = self
        self.data = data
        self.received = b""

        class Handler(http.server.BaseHTTPRequestHandler):
            def do_GET(self):
                self.send_response(200)
                self.send_header("Content-Length", str(len(outer.data)))
                self.end_headers()
                self.wfile.write(outer.data)

            def do_PUT(self):
                outer.received = self.rfile.read(int(self.headers["Content-Length"]))
                self.send_response(200)
                self.send_header("Content-Length", "0")
                self.end_headers()

            def log_message(self, *args):
                pass

        self.server = socketserver.ThreadingTCPServer(("127.0.0.1", 0), Handler)
        self.server.daemon_threads = True
        self.port = self.server.server_address[1]
        threading.Thread(target=self.server.serve_forever, daemon=True).start()

    def close(self):
        self.server.shutdown()
        self.server.server_close()


class TcpHost:
    """Two ports on the host's loopback: who connects to `give` gets `data`; from who connects to `take` as many bytes
    are read, and their digest is kept in `taken`."""

    def __init__(self, data):
        self.data = data
        self.digest = hashlib.md5(data).hexdigest()
        self.taken = []
        self.listeners = []
        self.give = self.listen(lambda link: link.sendall(data))
        self.take = self.listen(self.receive)

    def listen(self, serve):
        listener = socket.create_server(("127.0.0.1", 0), backlog=64)

        def one(link):
            with link:
                try:
                    serve(link)
                except OSError:
                    pass  # the guest went away

        def accept():
            while True:
                try:
                    link, _ = listener.accept()
                except OSError:
                    return
                threading.Thread(target=one, args=(link,), daemon=True).start()

        thread = threading.Thread(target=accept, daemon=True)
        self.listeners.append((listener, thread))
        thread.start()
        return listener.getsockname()[1]

    def receive(self, link):
        digest, left = hashlib.md5(), len(self.data)
        while left > 0 and (piece := link.recv(min(left, 1 << 16))):
            digest.update(piece)
            left -= len(piece)
        self.taken.append(digest.hexdigest())

    def close(self):
        """Nobody may be left in accept(): its call can be taken up again with the descriptor's next owner."""
        for listener, thread in self.listeners:
            listener.shutdown(socket.SHUT_RDWR)
            thread.join()
            listener.close()


def sample(size, seed=b"pvemu"):
    """`size` bytes that compress badly and are the same every time."""
    out = bytearray()
    block = hashlib.sha512(seed).digest()
    while len(out) < size:
        block = hashlib.sha512(block).digest()
        out += block * 16
    return bytes(out[:size])


def balloon(guest, pvemu, folder, name, sizes, cycles=1):
    """The guest gives memory back to the host, all that it says it gave, and takes more than it had. sizes in MiB: it has
    them at its start, after giving, and at most."""
    start, small, most = sizes

    def resident():
        """KiB of the guest's RAM that the host has given to it."""
        text = open(f"/proc/{guest.child.pid}/smaps").read()
        return sum(int(n) for n in re.findall(r"memfd:pvemu-ram.*\n(?:\w+: .*\n)*?Rss: +(\d+) kB", text))

    def total():
        return int(guest.run("grep MemTotal /proc/meminfo").split()[-2])

    def target(mib):
        subprocess.run([pvemu, "mem-set", name, f"{mib}M"], check=True, env=dict(os.environ, XDG_RUNTIME_DIR=folder))
        guest.run(f"for t in $(seq 150); do test $(awk '/MemTotal/ {{ print int(($2 - {first}) / 1024 + {start}.5) }}' "
                  f"/proc/meminfo) = {mib} && break; sleep 0.2; done; test $t != 150")

    def fill(mib):
        """The page cache takes all that is free."""
        guest.run(f"echo 3 > /proc/sys/vm/drop_caches; dd if=/dev/xvda of=/dev/null bs=1M count={mib} 2>/dev/null")
        return resident()

    first = total()
    assert (start - 92) << 10 < first < start << 10, first
    full = fill(start)
    assert full > start * 7 // 8 << 10, full
    for _ in range(cycles):
        target(small)
        assert resident() < (small + 4) << 10, resident()  # some of it the hypervisor's
        target(most)
        full = fill(most * 2 // 3)
        assert full > start << 10, full


def sequences(guest, limit, prefix=""):
    """Programs of busybox with known answers; prefix: a command that runs its arguments."""
    sums = guest.run(f"{prefix}sh -c 'seq 1 20000 | md5sum; seq 1 20000 | sort | gzip -c | gunzip -c | sort -n | md5sum'", limit)
    if sums.count("e071f707df7bbeee2a6a1eb48011ddd0") != 2:
        guest.fail("wrong sums: " + sums)


def told(guest):
    """What lockstep says at the end, of each vCPU."""
    found = re.findall(rb"lockstep: (\d+) runs of translations and (\d+) instructions compared, (\d+) diff", guest.err)
    insns = sum(int(vcpu[1]) for vcpu in found)
    differences = sum(int(vcpu[2]) for vcpu in found)
    if insns < 1000000 or differences != 0:
        guest.fail("lockstep found differences, or did not run")
    print(f"# lockstep: {insns} instructions of {len(found)} CPUs compared, {differences} differences", flush=True)


def main(tests):
    """Runs (name, function) pairs; TAP on stdout. Words on the command line choose by name."""
    wanted = [word for word in sys.argv[1:] if not word.startswith("-")]
    chosen = [t for t in tests if not wanted or any(w in t[0] for w in wanted)]
    failed = 0
    print(f"1..{len(chosen)}", flush=True)
    for number, (name, function) in enumerate(chosen, 1):
        begin = time.monotonic()
        with tempfile.TemporaryDirectory() as folder:
            os.chmod(folder, 0o700)
            try:
                function(folder)
                verdict = "ok"
            except (Failure, AssertionError, AttributeError, OSError, subprocess.SubprocessError) as why:
                verdict = "not ok"
                failed += 1
                for line in str(why).splitlines():
                    print("# " + line)
        print(f"{verdict} {number} - {name} ({time.monotonic() - begin:.1f} s)", flush=True)
    print(f"{len(chosen) - failed} passed, {failed} failed", flush=True)
    return 1 if failed or not chosen else 0


__all__ = ["Failure", "FileServer", "Guest", "LIMIT", "TcpHost", "TerminalGuest", "main", "sample", "signal"]
