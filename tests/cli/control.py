#!/usr/bin/env python3
# SPDX-License-Identifier: MIT
"""The control socket and the verbs over it: control.py PVEMU KERNEL_DIR [TEST...]."""
import json
import os
import re
import signal
import socket
import stat
import subprocess
import time

from harness import (PVEMU, Control, Guest, Skip, boot_args, check, check_match, environment, main, run, test,
                     wait_until)

COMMANDS = ["query-commands", "query-status", "query-name", "query-pvemu", "query-stats", "stop", "cont", "system_powerdown",
            "suspend", "system_wakeup", "quit", "vcpu-set", "balloon", "query-balloon", "accel-kvm", "accel-bt", "accel-interp"]


def start(folder, name="clock", *args):
    """A guest called x that is up."""
    guest = Guest(folder, *boot_args(name, "-name", "x", *args))
    guest.expect_error(b"by PVH")
    wait_until(lambda: os.path.exists(guest.socket_path()), "the control socket")
    if name == "clock":
        guest.expect(b"\n")
    return guest


def stamp(guest):
    """The guest's time stamp counter."""
    guest.type(b"x")
    return int(guest.expect(rb"([0-9a-f]{16})\n").group(1), 16)


def is_error(value, name="GenericError"):
    check(value["error"]["class"], name)
    assert value["error"]["desc"]


@test
def negotiation(folder):
    """greeting, and nothing before qmp_capabilities"""
    guest = start(folder)
    client = Control(guest.socket_path(), greet=False)
    greeting = client.receive()
    check(greeting["QMP"]["version"]["package"], "pvemu")
    check(greeting["QMP"]["capabilities"], [])
    is_error(client.command("query-status"), "CommandNotFound")
    check(client.command("qmp_capabilities", arguments={}, id=[1]), {"return": {}, "id": [1]})
    is_error(client.command("qmp_capabilities"), "CommandNotFound")
    check(client.ask("query-status"), {"running": True, "status": "running"})


@test
def commands(folder):
    """queries"""
    guest = start(folder)
    client = Control(guest.socket_path())
    check([c["name"] for c in client.ask("query-commands")], COMMANDS)
    check(client.ask("query-name"), {"name": "x"})
    info = client.ask("query-pvemu")
    check((info["name"], info["pid"], info["memory"], info["cpus"], info["accel"], info["status"]),
          ("x", guest.child.pid, 32 << 20, 1, "interp", "running"))
    is_error(client.command("frobnicate"), "CommandNotFound")
    value = client.command("frobnicate", id={"a": "b\n\"}"})
    check(value["id"], {"a": "b\n\"}"})


@test
def garbage(folder):
    """garbage is answered, and the guest does not mind"""
    guest = start(folder)
    client = Control(guest.socket_path())
    for line in (b"x", b"{", b"[]", b"7", b'{"execute":7}', b"\xff\xfe", b'{"execute":"stop"\0}', b"[" * 60000,
                 b'/*"*/' + b"[" * 60000):
        client.send(line + b"\n")
        is_error(client.answer())
    client.send(b"\n \r\n\t\n")
    check(client.ask("query-status")["running"], True)
    client.send(b'{"execute":"query-name"}\r\n{"execute":"query-status"}\n{"exe')
    check(client.answer()["return"], {"name": "x"})
    check(client.answer()["return"]["status"], "running")
    client.send(b'cute":"query-name"}\n')
    check(client.answer()["return"], {"name": "x"})
    stamp(guest)


@test
def long_line(folder):
    """a line without end closes the connection"""
    guest = start(folder)
    client = Control(guest.socket_path())
    try:
        for _ in range(40):
            client.send(b"x" * 4096)
    except (BrokenPipeError, ConnectionResetError):
        pass
    value = client.receive()
    if value is not None:
        is_error(value)
        check(client.receive(), None)
    check(Control(guest.socket_path()).ask("query-status")["running"], True)


@test
def many_clients(folder):
    """20 clients at once, a limit, and room again"""
    guest = start(folder)
    clients = [Control(guest.socket_path()) for _ in range(20)]
    clients[0].ask("stop")
    for client in clients:
        check(client.event()["event"], "STOP")
    extra = [Control(guest.socket_path(), greet=False) for _ in range(20)]
    greeted = [client.receive() is not None for client in extra]
    check(greeted, [True] * 12 + [False] * 8)
    for client in clients + extra:
        client.close()
    wait_until(lambda: Control(guest.socket_path(), greet=False).receive() is not None, "room for a client")


@test
def deaf_client(folder):
    """a client that never reads is let go; others do not notice"""
    guest = start(folder)
    deaf = Control(guest.socket_path())
    deaf.socket.settimeout(0.5)
    request = b'{"execute":"query-commands"}\n' * 100
    try:
        for _ in range(1000):
            deaf.send(request)
    except (BrokenPipeError, ConnectionResetError):
        pass
    except TimeoutError:
        raise AssertionError("it was not let go") from None
    check(Control(guest.socket_path()).ask("query-status")["running"], True)
    stamp(guest)


@test
def pause_stops_time(folder):
    """stop and cont: events, and time stands still"""
    guest = start(folder)
    client, other = Control(guest.socket_path()), Control(guest.socket_path())
    client.ask("stop")
    check(client.event()["event"], "STOP")
    event = other.event()
    check(event["event"], "STOP")
    assert abs(event["timestamp"]["seconds"] - time.time()) < 60
    check(client.ask("query-status"), {"running": False, "status": "paused"})
    client.ask("stop")  # again: no event
    before = client.ask("query-pvemu")["uptime-ns"]
    guest.type(b"x")  # waits
    time.sleep(1.5)   # what is measured: time that must not be seen
    check(client.ask("query-pvemu")["uptime-ns"], before)
    check(guest.pump(0), False)
    client.ask("cont")
    check(client.event()["event"], "RESUME")
    after = client.ask("query-pvemu")["uptime-ns"]
    assert 0 < after - before < 1_000_000_000, f"{after - before} ns"
    guest.expect(rb"[0-9a-f]{16}\n")
    client.ask("cont")  # again: nothing
    check(client.events, [])


@test
def guest_clock_stops(folder):
    """the guest's own clock does not see a pause"""
    guest = start(folder)
    client = Control(guest.socket_path())

    def both():
        return client.ask("query-pvemu")["uptime-ns"], stamp(guest)
    ns0, tsc0 = both()
    time.sleep(0.5)  # a stretch of running time to learn the clock's rate from
    ns1, tsc1 = both()
    client.ask("stop")
    time.sleep(1.5)
    client.ask("cont")
    ns2, tsc2 = both()
    rate = (tsc1 - tsc0) / (ns1 - ns0)
    check(tsc0 < tsc1 < tsc2, True)
    assert abs((tsc2 - tsc1) / rate - (ns2 - ns1)) < 500_000_000, (tsc2 - tsc1, rate, ns2 - ns1)
    assert ns2 - ns1 < 1_000_000_000


@test
def paused_start(folder):
    """-paused waits for cont"""
    guest = start(folder, "poweroff", "-paused")
    client = Control(guest.socket_path())
    check(client.ask("query-status"), {"running": False, "status": "prelaunch"})
    check(client.ask("query-pvemu")["uptime-ns"], 0)
    is_error(client.command("system_powerdown"))
    client.ask("cont")
    check([client.event()["event"], client.event()["event"]], ["RESUME", "SHUTDOWN"])
    check(guest.end(), 0)


@test
def powerdown(folder):
    """system_powerdown"""
    guest = start(folder)
    client = Control(guest.socket_path())
    client.ask("system_powerdown")
    check(client.event()["event"], "POWERDOWN")
    stamp(guest)  # it does not listen
    client.ask("stop")
    is_error(client.command("system_powerdown"))


@test
def quit_command(folder):
    """quit"""
    guest = start(folder)
    client = Control(guest.socket_path())
    client.ask("quit")
    events = [client.event()["event"], client.event()["event"]]
    check(events, ["STOP", "SHUTDOWN"])
    check(client.receive(), None)
    check(guest.end(), 0)
    check(os.path.exists(guest.socket_path()), False)
    check_match(r"pvemu: PASS: ended by the user after", guest.errors)


@test
def panic_events(folder):
    """a panic that is held: event, status, and cont refuses"""
    guest = start(folder, "panic", "-on", "panic=pause", "-paused")
    client = Control(guest.socket_path())
    client.ask("cont")
    events = [client.event() for _ in range(3)]
    check([e["event"] for e in events], ["RESUME", "GUEST_PANICKED", "STOP"])
    check(events[1]["data"], {"action": "pause"})
    check(client.ask("query-status"), {"running": False, "status": "guest-panicked"})
    is_error(client.command("cont"))
    check(client.ask("query-status")["status"], "guest-panicked")
    result = run(folder, "unpause", "x")
    check((result.returncode, result.stderr),
          (125, b"pvemu: error: cannot unpause guest 'x': the guest has ended and is held as it is: it cannot go on\n"))
    client.ask("quit")
    check(guest.end(), 112)
    check_match(r'kernel panic after 0\.\d s: "test of the verdict" \(status 112\)\n$', guest.errors)


@test
def reset_events(folder):
    """a reboot"""
    guest = start(folder, "reboot_once", "-on", "reboot=reset", "-paused")
    client = Control(guest.socket_path())
    client.ask("cont")
    seen = []
    while seen.count("RESET") < 2:
        event = client.event()
        seen.append(event["event"])
        if event["event"] == "RESET":
            check(event["data"], {"guest": True, "reason": "guest-reset"})
    client.ask("quit")
    check(guest.end(), 0)


@test
def sigterm_while_paused(folder):
    """SIGTERM ends a paused guest at once"""
    guest = start(folder)
    Control(guest.socket_path()).ask("stop")
    guest.child.send_signal(signal.SIGTERM)
    check(guest.end(), 143)
    check_match(r"pvemu: FAIL: ended by SIGTERM", guest.errors)


@test
def protected(folder):
    """the socket is its owner's alone"""
    guest = start(folder)
    check(stat.S_IMODE(os.stat(guest.socket_path()).st_mode), 0o600)
    check(stat.S_IMODE(os.stat(os.path.dirname(guest.socket_path())).st_mode), 0o700)
    if os.getuid() != 0:
        raise Skip("only root can be somebody else")
    # Even when the folder and the socket were opened to everybody by mistake.
    for path, mode in ((folder, 0o755), (os.path.join(folder, "run"), 0o755),
                       (os.path.dirname(guest.socket_path()), 0o755), (guest.socket_path(), 0o666)):
        os.chmod(path, mode)
    script = ("import os, socket, sys; os.setgid(65534); os.setuid(65534); s = socket.socket(socket.AF_UNIX); "
              "s.settimeout(20); s.connect(sys.argv[1]); print(len(s.recv(100)))")
    result = subprocess.run(["python3", "-c", script, guest.socket_path()], capture_output=True, timeout=30,
                            check=False)
    if result.returncode != 0:
        raise Skip(result.stderr.decode().splitlines()[-1])
    check(result.stdout, b"0\n")
    stamp(guest)


@test
def foreign_folder(folder):
    """a runtime folder that others can enter is not used"""
    os.makedirs(os.path.join(folder, "run", "pvemu"), mode=0o755)
    os.chmod(os.path.join(folder, "run", "pvemu"), 0o755)
    os.chmod(os.path.join(folder, "run"), 0o700)
    result = run(folder, *boot_args("poweroff"))
    check(result.returncode, 0)
    check_match(r"^pvemu: note: no control socket: '.*/run/pvemu' is not a folder of yours alone\n", result.stderr)


@test
def no_folder(folder):
    """without a runtime folder the guest runs all the same"""
    for path in ("/nonexistent", "/" + "x" * 200):
        result = run(folder, *boot_args("poweroff"), env=environment(folder, XDG_RUNTIME_DIR=path))
        check(result.returncode, 0)
        check_match(r"^pvemu: note: no control socket: ", result.stderr)
    long = os.path.join(folder, "y" * 100)
    os.mkdir(long, mode=0o700)
    result = run(folder, *boot_args("poweroff"), env=environment(folder, XDG_RUNTIME_DIR=long))
    check(result.returncode, 0)
    check_match(r"^pvemu: note: no control socket: cannot make '.*': File name too long\n", result.stderr)


# --- verbs ---


def listed(folder):
    """The rows of pvemu list as lists of words."""
    result = run(folder, "list")
    check((result.returncode, result.stderr), (0, b""))
    rows = [line.split() for line in result.stdout.decode().splitlines()]
    check(rows[0], ["NAME", "PID", "STATE", "MEM", "CPUS", "UPTIME", "ACCEL", "KERNEL"])
    return rows[1:]


@test
def list_verb(folder):
    """list"""
    check(listed(folder), [])
    guest = start(folder)
    row = listed(folder)[0]
    check(row[:5] + row[6:], ["x", str(guest.child.pid), "running", "32M", "1", "interp", boot_args("clock")[1]])
    assert re.fullmatch(r"\d+s", row[5]), row
    second = Guest(folder, *boot_args("clock"))
    second.expect(b"\n")
    third = Guest(folder, *boot_args("clock"))
    third.expect(b"\n")
    check([r[0] for r in listed(folder)], ["clock.elf-1", "clock.elf-2", "x"])


@test
def vcpu_set_verb(folder):
    """vcpu-set"""
    guest = start(folder, "clock", "-smp", "1,max=3")
    check(listed(folder)[0][4], "1")
    check(run(folder, "vcpu-set", "x", "3").returncode, 0)
    check(listed(folder)[0][4], "3")
    check(run(folder, "vcpu-set", "2").returncode, 0)
    check(Control(guest.socket_path()).ask("query-pvemu")["cpus-max"], 3)
    result = run(folder, "vcpu-set", "4")
    check((result.returncode, result.stderr),
          (125, b"pvemu: error: cannot change the CPUs of guest 'x': it was started with -smp for 1 to 3\n"))
    client = Control(guest.socket_path())
    for arguments in ({}, {"cpus": 0}, {"cpus": "2"}, {"cpus": 1 << 40}, {"cpus": -1}, {"cpus": [2]}):
        is_error(client.command("vcpu-set", arguments=arguments), "GenericError")
    check(listed(folder)[0][4], "2")


@test
def mem_set_verb(folder):
    """mem-set"""
    guest = start(folder, "clock", "-m", "32M,max=64M")
    client = Control(guest.socket_path())
    check(listed(folder)[0][3], "32M")
    check(run(folder, "mem-set", "x", "48M").returncode, 0)
    check(listed(folder)[0][3], "48M")
    info = client.ask("query-pvemu")
    check((info["memory"], info["memory-max"], info["memory-actual"]), (48 << 20, 64 << 20, 64 << 20))
    check(client.ask("query-balloon"), {"actual": 64 << 20})
    for size in ("15M", "65M", "8000000000G"):
        result = run(folder, "mem-set", size)
        check(result.returncode, 125)
        assert b"error: " in result.stderr, result.stderr
    for arguments in ({}, {"value": 0}, {"value": "48"}, {"value": -1}, {"value": 1 << 62}):
        is_error(client.command("balloon", arguments=arguments), "GenericError")
    check(listed(folder)[0][3], "48M")


@test
def pause_verbs(folder):
    """pause and unpause: names, beginnings of names, the only guest"""
    guest = start(folder)
    for words, state in ((["pause"], "paused"), (["unpause"], "running"), (["pause", "x"], "paused"),
                         (["unpause", "x"], "running")):
        result = run(folder, *words)
        check((result.returncode, result.stdout, result.stderr), (0, b"", b""))
        check(listed(folder)[0][2], state)
    other = Guest(folder, *boot_args("clock", "-name", "xy"))
    other.expect(b"\n")
    result = run(folder, "pause")
    check((result.returncode, result.stderr), (125, b"pvemu: error: which guest? x, xy\n"))
    check(run(folder, "pause", "x").returncode, 0)  # the whole name wins
    check([r[2] for r in listed(folder)], ["paused", "running"])
    third = Guest(folder, *boot_args("clock", "-name", "xyz"))
    third.expect(b"\n")
    fourth = Guest(folder, *boot_args("clock", "-name", "abc"))
    fourth.expect(b"\n")
    check(run(folder, "pause", "a").returncode, 0)
    check([r[2] for r in listed(folder)], ["paused", "paused", "running", "running"])
    guest.close()
    result = run(folder, "pause", "x")
    check((result.returncode, result.stderr), (125, b"pvemu: error: which guest? xy, xyz\n"))


@test
def suspend_verbs(folder):
    """suspend says why nobody hears; a suspended guest is resumed or destroyed, and nothing else"""
    def fails(words, text):
        result = run(folder, *words)
        check((result.returncode, result.stderr), (125, f"pvemu: error: {text}\n".encode()))

    guest = start(folder)
    fails(["suspend"], "cannot suspend guest 'x': it does not watch control/shutdown in xenstore: its kernel has not "
                       "come so far yet, or has no such driver")
    fails(["resume", "-cancel", "x"], "cannot resume guest 'x': it is not suspended")
    check(run(folder, "pause").returncode, 0)
    fails(["suspend", "x"], "cannot suspend guest 'x': it does not run")
    fails(["suspend", "-now"], "suspend: unknown option '-now'")
    fails(["suspend", "-cancel"], "suspend: unknown option '-cancel'")
    fails(["resume", "x", "y"], "resume: 'y' is too much; it takes one guest")
    guest.close()
    for words in ([], ["-cancel"]):
        guest = start(folder, "suspend", "-on", "suspend=pause")
        wait_until(lambda: listed(folder)[0][2] == "suspended", "the guest to suspend itself")
        fails(["suspend"], "cannot suspend guest 'x': it is suspended already")
        fails(["unpause"], "cannot unpause guest 'x': the guest is suspended: `pvemu resume` lets it go on")
        fails(["shutdown"], "cannot shutdown guest 'x': the guest does not run: it cannot hear")
        client = Control(guest.socket_path())
        check(run(folder, "pause").returncode, 0)
        check(run(folder, "resume", *words).returncode, 0)
        check([client.event()["event"], client.event()["event"]], ["RESUME", "WAKEUP"])
        check(listed(folder)[0][2], "running")
        fails(["resume"], "cannot resume guest 'x': it is not suspended")
        guest.close()
    guest = start(folder, "suspend_new", "-on", "suspend=pause")
    wait_until(lambda: listed(folder)[0][2] == "suspended", "the guest to suspend itself")
    fails(["resume", "-cancel"], "cannot resume guest 'x': its kernel does not know a suspend that is cancelled (no ELF "
                                 "note SUSPEND_CANCEL); it can go on as in a new domain")
    check(listed(folder)[0][2], "suspended")
    check(run(folder, "resume").returncode, 0)
    guest.close()
    guest = start(folder, "suspend", "-on", "suspend=pause")
    wait_until(lambda: listed(folder)[0][2] == "suspended", "the guest to suspend itself")
    check(run(folder, "destroy").returncode, 0)
    check(guest.end(), 0)


@test
def accel_verb(folder):
    """accel changes between bt and interp where this host runs both; else, and for kvm, it says why not and what to do"""
    guest = start(folder)
    before = stamp(guest)
    no_bt = re.search(r"^bt +not usable: (.+)$", run(folder, "doctor").stdout.decode(), re.MULTILINE)
    for word in ("bt", "interp", "interp", "bt"):
        result = run(folder, "accel", word)
        if no_bt and word == "bt":
            check((result.returncode, result.stderr.decode()), (125, "pvemu: error: cannot change the engine of guest 'x': it could "
                  f"not be given the engine bt: {no_bt.group(1)}\npvemu: hint: it stays on interp; `pvemu doctor` says what this host "
                  "can run\n"))
        else:
            check((result.returncode, result.stderr), (0, b""))
            check((listed(folder)[0][2], listed(folder)[0][6]), ("running", word))
        after = stamp(guest)
        assert after > before, (before, after)
        before = after
    result = run(folder, "accel", "x", "kvm")
    check((result.returncode, result.stderr), (125, b"pvemu: error: cannot change the engine of guest 'x': it was not started with KVM\n"
                                               b"pvemu: hint: start it with -accel kvm; `pvemu doctor` says whether this host can\n"))
    result = run(folder, "accel", "qemu")
    check((result.returncode, result.stderr.splitlines()[1][:13]), (125, b"pvemu: hint: "))
    check(listed(folder)[0][2], "running")
    client = Control(guest.socket_path())
    is_error(client.command("accel-kvm"))
    guest.close()


@test
def shutdown_verb(folder):
    """shutdown asks, -w waits"""
    guest = start(folder)
    client = Control(guest.socket_path())
    check(run(folder, "shutdown", "x").returncode, 0)
    check(client.event()["event"], "POWERDOWN")
    waiting = subprocess.Popen([PVEMU, "shutdown", "-w"], env=environment(folder))
    check(client.event()["event"], "POWERDOWN")
    stamp(guest)  # it does not listen, so that it is ended otherwise
    check(waiting.poll(), None)
    guest.type(b"q")
    check(guest.end(), 0)
    check(waiting.wait(30), 0)


@test
def shutdown_paused(folder):
    """shutdown of a paused guest says why not"""
    start(folder)
    check(run(folder, "pause").returncode, 0)
    result = run(folder, "shutdown")
    check((result.returncode, result.stderr),
          (125, b"pvemu: error: cannot shutdown guest 'x': the guest does not run: it cannot hear\n"))


@test
def destroy_verb(folder):
    """destroy waits until the name is free"""
    for _ in range(3):
        guest = start(folder, "hang")
        check(run(folder, "destroy", "x").returncode, 0)
        check(listed(folder), [])
        check(guest.end(), 0)


@test
def destroy_expecting(folder):
    """destroy before -expect was met is no success"""
    guest = start(folder, "hang", "-expect", "never")
    check(run(folder, "destroy", "x").returncode, 0)
    check(guest.end(), 114)
    check_match(r"FAIL: ended by the user after [0-9.]+ s, before -expect was met \(status 114\)\n$", guest.errors)


@test
def stuck_guest(folder):
    """a guest that does not answer"""
    guest = start(folder)
    guest.child.send_signal(signal.SIGSTOP)
    result = run(folder, "pause", "x")
    check((result.returncode, result.stderr), (125, b"pvemu: error: cannot pause guest 'x': it does not answer\n"))
    guest.child.send_signal(signal.SIGCONT)


@test
def dead_sockets(folder):
    """sockets of dead guests are removed, and their names are free"""
    guest = start(folder)
    guest.child.kill()
    guest.end()
    check(os.path.exists(guest.socket_path()), True)
    check(listed(folder), [])
    check(os.path.exists(guest.socket_path()), False)
    guest = start(folder)
    guest.child.kill()
    guest.end()
    guest = start(folder)  # takes the name over
    check(listed(folder)[0][1], str(guest.child.pid))


@test
def same_name_race(folder):
    """of many that start with one name, one wins"""
    guest = start(folder)
    guest.child.kill()
    guest.end()
    guests = [Guest(folder, *boot_args("clock", "-name", "x")) for _ in range(6)]
    looking = [subprocess.Popen([PVEMU, "list"], env=environment(folder), stdout=subprocess.DEVNULL)
               for _ in range(6)]
    wait_until(lambda: sum(g.child.poll() is not None for g in guests) == 5, "five to give up")
    for process in looking:
        check(process.wait(30), 0)
    check(sorted(g.child.poll() or 0 for g in guests), [0] + [125] * 5)
    winner = next(g for g in guests if g.child.poll() is None)
    check([row[:2] for row in listed(folder)], [["x", str(winner.child.pid)]])


@test
def liars(folder):
    """a socket that answers nonsense"""
    os.makedirs(os.path.join(folder, "run"), mode=0o700, exist_ok=True)
    os.makedirs(os.path.join(folder, "run", "pvemu"), mode=0o700)
    path = os.path.join(folder, "run", "pvemu", "liar.sock")
    for answer in (b"", b"x\n", b'{"QMP":{}}\n{"return":7}\n', b'{"QMP":{}}\n{"return":{}}\n{"return":{"pid":"x"}}\n',
                   b'{"QMP":{}}\n{"return":{}}\n{"error":{"desc":7}}\n', b"[" * 1000 + b"\n"):
        with socket.socket(socket.AF_UNIX) as server:
            server.bind(path)
            server.listen(5)
            child = subprocess.Popen([PVEMU, "list"], env=environment(folder), stdout=subprocess.PIPE,
                                     stderr=subprocess.PIPE)
            for _ in range(2):  # one connection to see who is there, one to ask
                server.settimeout(30)
                connection = server.accept()[0]
                try:
                    connection.sendall(answer)
                    connection.shutdown(socket.SHUT_WR)
                except OSError:
                    pass
            output, errors = child.communicate(timeout=30)
            check((child.returncode, errors), (0, b""))
            json.dumps(output.decode())
        os.unlink(path)


main()
