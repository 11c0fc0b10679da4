#!/usr/bin/env python3
# SPDX-License-Identifier: MIT
"""pvemu on a (pseudo) terminal: keys, and the terminal afterwards: terminal.py PVEMU KERNEL_DIR [TEST...]."""
import os
import signal
import termios

from harness import Guest, boot_args, check, check_match, environment, main, run, test, wait_until

STAMP = rb"[0-9a-f]{16}\n"
CTRL_A = b"\1"
CURSOR_SHOWN = b"\033[?25h"


def start(folder, name, *args, **options):
    """A guest on a terminal that is raw by now."""
    guest = Guest(folder, *boot_args(name, *args), terminal=True, **options)
    wait_until(guest.is_raw, "raw mode")
    return guest


def start_clock(folder, **options):
    """The guest that answers every byte; up and listening."""
    guest = start(folder, "clock", **options)
    guest.expect(rb"help: Ctrl-A H\r\n.*\n")
    return guest


def answers(guest):
    """It is alive and has the keyboard."""
    guest.type(b"x")
    guest.expect(STAMP)


def check_restored(guest):
    """The settings are back, and what full-screen programs leave behind is undone."""
    wait_until(lambda: guest.settings() == guest.before, "the old settings of the terminal")
    while CURSOR_SHOWN not in guest.seen:
        assert guest.pump(5), guest.seen
    assert b"\033[2J" not in guest.seen and b"\033c" not in guest.seen, "the screen was erased"


@test
def raw(folder):
    """the guest has the terminal to itself"""
    guest = start_clock(folder)
    for byte in (b"\3", b"\x1a", b"\x1c", b"\x11", b"\x13", b"\4", b"\r"):
        guest.type(byte)
        got = guest.expect(STAMP)
        check(len(got.group(0)), 17)
    check(guest.seen, b"")  # no echo
    guest.type(b"q")
    check(guest.end(), 0)
    assert b"PASS" not in guest.seen, "a run that somebody watches needs no verdict"
    check_restored(guest)


@test
def quit_key(folder):
    """Ctrl-A X"""
    for keys in (b"\1x", b"\1X"):
        guest = start_clock(folder)
        guest.type(keys)
        check(guest.end(), 0)
        check_restored(guest)


@test
def quit_in_halves(folder):
    """Ctrl-A, and X later"""
    guest = start_clock(folder)
    guest.type(b"x" + CTRL_A)
    guest.expect(STAMP)
    guest.type(b"x")
    check(guest.end(), 0)
    check_restored(guest)


@test
def help_key(folder):
    """Ctrl-A H, and keys that are reserved"""
    guest = start_clock(folder)
    guest.type(CTRL_A + b"h")
    guest.expect(rb"pvemu: Ctrl-A then: X quit, H this help, Ctrl-A send a Ctrl-A\r\n")
    guest.type(CTRL_A + b"c")
    answers(guest)
    check(guest.seen, b"")


@test
def literal(folder):
    """Ctrl-A Ctrl-A is one Ctrl-A"""
    guest = start(folder, "echo_serial")
    guest.expect(b"type: ")
    guest.type(CTRL_A + CTRL_A)
    check(guest.end(), 1)
    check_restored(guest)
    check_match(r"pvemu: FAIL: the guest ended with code 1 after [0-9.]+ s \(status 1\)\r\n$", guest.seen)


@test
def ctrl_c(folder):
    """three times Ctrl-C gives a hint"""
    guest = start_clock(folder)
    guest.type(b"\3\3")
    guest.expect(STAMP * 2)
    guest.type(b"\3\3\3")
    guest.expect(rb"pvemu: hint: Ctrl-C goes to the guest; Ctrl-A X quits pvemu\r\n")
    answers(guest)


@test
def resize(folder):
    """a new size does no harm"""
    guest = start_clock(folder)
    for rows, columns in ((50, 132), (1, 1), (0, 0), (24, 80)):
        guest.set_size(rows, columns)
        answers(guest)


@test
def powered_off(folder):
    """the guest powers off"""
    guest = Guest(folder, *boot_args("poweroff"), terminal=True)
    check(guest.end(), 0)
    check_restored(guest)


@test
def terminated(folder):
    """SIGTERM twice"""
    guest = start_clock(folder)
    guest.child.send_signal(signal.SIGTERM)
    guest.expect(rb"pvemu: note: SIGTERM: asked the guest to power off; a second one ends it at once\r\n")
    answers(guest)
    assert guest.is_raw()
    guest.child.send_signal(signal.SIGTERM)
    check(guest.end(), 143)
    check_restored(guest)
    check_match(r"\npvemu: FAIL: ended by SIGTERM after [0-9.]+ s \(status 143\)\r\n$", guest.seen)


@test
def hung_up(folder):
    """SIGHUP"""
    guest = start_clock(folder)
    guest.child.send_signal(signal.SIGHUP)
    check(guest.end(), 129)
    check_restored(guest)


@test
def killed(folder):
    """SIGKILL and crashes of pvemu: the guardian restores"""
    for number in (signal.SIGKILL, signal.SIGABRT, signal.SIGQUIT):
        guest = start_clock(folder)
        os.kill(guest.child.pid, number)
        check(guest.end(), -number)
        check_restored(guest)


@test
def killed_with_group(folder):
    """SIGKILL of the whole process group"""
    guest = start_clock(folder)
    os.killpg(guest.child.pid, signal.SIGKILL)
    check(guest.end(), -signal.SIGKILL)
    check_restored(guest)


@test
def killed_with_network(folder):
    """SIGKILL, when the network's processes hold what they inherited"""
    guest = Guest(folder, "-kernel", boot_args("clock")[1], "-m", "32M", terminal=True)
    guest.expect(rb"help: Ctrl-A H\r\n.*\n")
    assert guest.is_raw()
    guest.child.kill()
    check(guest.end(), -signal.SIGKILL)
    check_restored(guest)


@test
def stopped_and_continued(folder):
    """SIGTSTP puts the terminal back, SIGCONT makes it raw again"""
    again = 'echo "status $?"; read answer; fg >/dev/null; '
    guest = Guest(folder, terminal=True, shell_command='set -m; "$0" "$@"; ' + again + again + 'echo "then $?"',
                  *boot_args("clock"))
    guest.expect(rb"help: Ctrl-A H\r\n.*\n")
    with open(f"/proc/{guest.child.pid}/task/{guest.child.pid}/children", encoding="ascii") as f:
        pid = int(f.read().split()[0])
    answers(guest)
    os.kill(pid, signal.SIGTSTP)
    guest.expect(rb"status 148\r\n")
    check(guest.settings(), guest.before)
    guest.type(b"go on\n")
    wait_until(guest.is_raw, "raw mode again")
    answers(guest)
    os.kill(pid, signal.SIGCONT)  # what is not stopped goes on
    answers(guest)
    os.kill(pid, signal.SIGSTOP)  # nobody is asked
    guest.expect(rb"status 147\n")
    termios.tcsetattr(guest.slave, termios.TCSANOW, guest.before)  # what many shells do then
    guest.type(b"go on\n")
    wait_until(guest.is_raw, "raw mode again")
    answers(guest)
    guest.type(CTRL_A + b"x")
    guest.expect(rb"then 0\r\n")
    check(guest.end(), 0)
    check(guest.settings(), guest.before)


@test
def killed_below_a_shell(folder):
    """SIGKILL of a shell's job"""
    guest = Guest(folder, terminal=True, shell_command='"$0" "$@"; echo "status $?"; read answer; echo "got $answer"',
                  *boot_args("clock"))
    guest.expect(rb"help: Ctrl-A H\r\n.*\n")
    with open(f"/proc/{guest.child.pid}/task/{guest.child.pid}/children", encoding="ascii") as f:
        os.kill(int(f.read().split()[0]), signal.SIGKILL)
    guest.expect(rb"status 137\r?\n")  # the guardian and the shell hear of it at the same time
    wait_until(lambda: guest.settings() == guest.before, "the old settings of the terminal")
    guest.type(b"hello\n")
    guest.expect(rb"got hello\r\n")
    check(guest.end(), 0)


@test
def guardian_leaves(folder):
    """no process stays behind"""
    guest = start_clock(folder)
    with open(f"/proc/{guest.child.pid}/task/{guest.child.pid}/children", encoding="ascii") as f:
        children = [int(pid) for pid in f.read().split()]
    assert children, "no guardian"
    guest.child.kill()
    guest.end()
    check_restored(guest)
    wait_until(lambda: not any(os.path.exists(f"/proc/{pid}/exe") and os.access(f"/proc/{pid}/fd", os.R_OK)
                               for pid in children), "the guardian's end")


@test
def panic_is_held(folder):
    """a panic is held for inspection; the verdict is known at the end"""
    guest = start(folder, "panic")
    guest.expect(rb"pvemu: kernel panic: the guest is held as it is \(end it with Ctrl-A X or `pvemu destroy`\)\r\n")
    assert guest.is_raw()
    guest.type(CTRL_A + b"x")
    check(guest.end(), 112)
    check_restored(guest)
    check_match(r'pvemu: FAIL: kernel panic after [0-9.]+ s: "test of the verdict" \(status 112\)\r\n$', guest.seen)


@test
def panic_text_is_paused(folder):
    """a panic by its text alone pauses; unpause takes it for a mistake"""
    for unpause, status in ((False, 112), (True, 0)):
        guest = start(folder, "panic_text")
        guest.expect(rb"pvemu: kernel panic, by its text: the guest is paused \(`pvemu unpause` lets it go on, "
                     rb"Ctrl-A X quits\)\r\n")
        if unpause:
            check(run(folder, "unpause").returncode, 0)
        guest.type(CTRL_A + b"x")
        check(guest.end(), status)
        check_restored(guest)


@test
def reboots(folder):
    """a reboot boots again"""
    guest = start(folder, "reboot_once")
    for _ in range(3):
        guest.expect(rb"boot\n.*pvemu: the guest rebooted: booting it again\r\n")
    guest.type(CTRL_A + b"x")
    check(guest.end(), 0)
    check_restored(guest)


@test
def attended_on_request(folder):
    """-timeout makes a run on a terminal an unattended one"""
    guest = Guest(folder, *boot_args("reboot", "-timeout", "30s"), terminal=True)
    check(guest.end(), 115)
    check_restored(guest)
    check_match(r"pvemu: FAIL: the guest rebooted", guest.seen)


@test
def redirected(folder):
    """a file on stdout has the guest's text and nothing else"""
    path = os.path.join(folder, "out")
    with open(path, "wb") as out:
        guest = start(folder, "echo_serial", stdout=out)
    wait_until(lambda: os.path.getsize(path) == 6, "the prompt")
    guest.type(b"\1\1")
    check(guest.end(), 1)
    wait_until(lambda: guest.settings() == guest.before, "the old settings of the terminal")
    with open(path, "rb") as f:
        check(f.read(), b"type: ")


@test
def dumb(folder):
    """no escape sequences for a dumb terminal"""
    guest = start_clock(folder, env=environment(folder, TERM="dumb"))
    guest.type(b"q")
    check(guest.end(), 0)
    wait_until(lambda: guest.settings() == guest.before, "the old settings of the terminal")
    assert b"\033" not in guest.seen, guest.seen


main()
