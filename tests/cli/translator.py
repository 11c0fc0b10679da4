#!/usr/bin/env python3
# SPDX-License-Identifier: MIT
"""Looking into the translator, as docs/testing.md says: translator.py PVEMU KERNEL_DIR [TEST...]. The guest is loop64.S,
whose loop is found in its file by an operand that nothing else has."""
import os
import re
import stat
import struct

from harness import Control, Guest, Skip, boot_args, check, kernel, main, run, test, wait_until

MARK = bytes.fromhex("4881c278563412")  # add $0x12345678, %rdx: the loop's first instruction


def guest_args(folder, *more):
    no_bt = re.search(r"^bt +not usable: (.+)$", run(folder, "doctor").stdout.decode(), re.MULTILINE)
    if no_bt:
        raise Skip(no_bt.group(1))
    return boot_args("loop64", "-accel", "bt", *more)


def loop():
    """Where the loop is in the guest, and the guest's bytes from there on."""
    with open(kernel("loop64"), "rb") as file:
        data = file.read()
    check(data.count(MARK), 1)
    at = data.index(MARK)
    table, = struct.unpack_from("<Q", data, 32)
    size, count = struct.unpack_from("<HH", data, 54)
    for number in range(count):
        kind, _, offset, address, _, length = struct.unpack_from("<IIQQQQ", data, table + number * size)
        if kind == 1 and offset <= at < offset + length:
            return address + at - offset, data[at:offset + length]
    raise AssertionError("no segment has the loop")


def traced(folder, words):
    """The lines that -d WORDS prints until the guest has run its loop often."""
    path = os.path.join(folder, "trace")
    result = run(folder, *guest_args(folder, "-d", words, "-D", path, "-expect", "READY"))
    check(result.returncode, 0)
    with open(path, encoding="utf-8") as file:
        return file.read().splitlines()


def blocks(lines):
    """rip -> (number, instructions, guest bytes, host bytes, the lines about it); the first one of each rip."""
    found = {}
    lines_of = []
    for line in lines:
        head = re.fullmatch(r"block (\d+) at 0x([0-9a-f]+), frame 0x[0-9a-f]+, cpl 0: (\d+) instructions, (\d+) bytes to (\d+)", line)
        if head:
            number, rip, *sizes = head.groups()
            lines_of = []
            found.setdefault(int(rip, 16), (int(number), *map(int, sizes), lines_of))
        elif line.startswith("  "):
            lines_of.append(line)
        else:
            lines_of = []
    return found


def code(lines):
    """(address, bytes, text) of each line of disassembly; text is "" without libcapstone."""
    out = []
    for line in lines:
        address, data, text = re.fullmatch(r"  0x([0-9a-f]+)  ((?:[0-9a-f]{2} )*[0-9a-f]{2}) *(.*)", line).groups()
        out.append((int(address, 16), bytes.fromhex(data), text))
    return out


def check_in_a_row(listing, total):
    """Every byte is listed once."""
    for before, after in zip(listing, listing[1:]):
        check(after[0], before[0] + len(before[1]))
    check(sum(len(data) for _, data, _ in listing), total)


@test
def guest_code(folder):
    """-d in_asm: the guest's own bytes, in order"""
    rip, source = loop()
    _, instructions, size, _, lines = blocks(traced(folder, "in_asm"))[rip]
    listing = code(lines)
    check(listing[0][:2], (rip, MARK))
    check(b"".join(data for _, data, _ in listing), source[:size])
    check_in_a_row(listing, size)
    texts = [text for _, _, text in listing]
    if any(texts):
        check(len(listing), instructions)
        check(texts[0], "add rdx, 0x12345678")
        check(texts[1], "xor qword ptr [rsi], rdx")
        check(f"jne 0x{rip:x}" in texts, True)


@test
def host_code(folder):
    """-d in_asm,out_asm: the same block's host code"""
    rip, source = loop()
    _, _, size, host_size, lines = blocks(traced(folder, "in_asm,out_asm"))[rip]
    arrow = lines.index("  ->")
    check(b"".join(data for _, data, _ in code(lines[:arrow])), source[:size])
    listing = code(lines[arrow + 1:])
    check_in_a_row(listing, host_size)
    assert host_size > size
    check(MARK in b"".join(data for _, data, _ in listing), True)  # registers and operand are as they were
    alone = blocks(traced(folder, "out_asm"))[rip]
    check(alone[3:4] + (alone[4][0],), (host_size, "  ->"))


@test
def exits(folder):
    """-d exits: where translated code was left to, and why"""
    rip, source = loop()
    lines = traced(folder, "in_asm,exits")
    number = blocks(lines)[rip][0]
    told = [re.fullmatch(r"exit: block (\d+) to 0x([0-9a-f]+): (.+) \(attention 0x([0-9a-f]+)\)", line)
            for line in lines if line.startswith("exit: ")]
    assert told and all(told), lines
    own = {(int(m.group(2), 16), m.group(3)) for m in told if int(m.group(1)) == number}
    assert own, "no exit from the loop"
    assert all(0x100000 <= to < rip + len(source) for to, _ in own), own
    assert (rip, "the target has no code yet") in own, own  # as long as its branch back is not linked
    known = [int(line.split()[1]) for line in lines if line.startswith("block ")]
    check({int(m.group(1)) for m in told} <= set(known), True)


def counters(lines):
    """name -> value, of lines `name value`; slow sites are left out."""
    values = {}
    for line in lines:
        match = re.fullmatch(r"([a-z0-9-]+) (\d+)(?: of (\d+))?", line)
        if match:
            assert match.group(1) not in values, line
            values[match.group(1)] = int(match.group(2))
            if match.group(3):
                assert int(match.group(2)) <= int(match.group(3)), line
    return values


def check_counters(values):
    """Plausible for a loop that was translated, with a port write after each 100 turns."""
    for name in ("cache-drops", "translations-invalidated", "translations-rewritten", "faults", "stores-to-code-pages",
                 "links-undone-by-stress", "returns-mispredicted", "flushes-pcid"):
        check((name, values[name]), (name, 0))
    assert 2 <= values["blocks-translated"] < 50, values
    assert values["instructions-translated"] >= 2 * values["blocks-translated"], values
    assert values["guest-bytes"] >= values["instructions-translated"], values
    assert values["cache-bytes"] > values["host-bytes"] > values["guest-bytes"], values
    assert values["links"] >= 1 and values["entered-from-c"] >= 10 and values["blocks-interpreted"] >= 10, values
    assert values["system-instructions"] >= 100, values
    assert 1 <= values["tlb-fills"] <= values["tlb-misses"], values
    assert 100 <= values["instructions-interpreted"] < 100000, values  # of at least 100,000 in all
    assert values["flushes-cr3"] + values["flushes-all"] >= 1, values


@test
def stats_at_the_end(folder):
    """-d stats: all counters"""
    lines = traced(folder, "stats")
    check("vCPU 0:" in lines, True)
    values = counters(lines)
    check_counters(values)
    sites = [re.fullmatch(r"slow-site 0x([0-9a-f]+) (\d+)", line) for line in lines if line.startswith("slow-site")]
    assert sites and all(sites), lines
    rip, source = loop()
    assert any(rip <= int(m.group(1), 16) < rip + len(source) for m in sites), lines


@test
def stats_meanwhile(folder):
    """query-stats and `pvemu stats`: the same counters, while they grow"""
    at_the_end = counters(traced(folder, "stats"))
    guest = Guest(folder, *guest_args(folder, "-name", "x"))
    guest.expect(b"READY")
    client = Control(guest.socket_path())
    before = counters(client.ask("query-stats")["text"].splitlines())
    check(sorted(before), sorted(at_the_end))
    check_counters(before)

    def verb():
        result = run(folder, "stats", "x")
        check((result.returncode, result.stderr), (0, b""))
        return counters(result.stdout.decode().splitlines())
    after = wait_until(lambda: (now := verb())["system-instructions"] > before["system-instructions"] and now, "counters to grow")
    check(sorted(after), sorted(before))
    assert all(after[name] >= before[name] for name in before), (before, after)
    client.ask("quit")
    check(guest.end(), 0)


@test
def perf_map(folder):
    """-accel bt,perf: a map of what perf meets, with the guest's addresses"""
    rip, _ = loop()
    guest = Guest(folder, *guest_args(folder, "-accel", "bt,perf"))
    path = f"/tmp/perf-{guest.child.pid}.map"
    try:
        guest.expect(b"READY")
        with open(path, encoding="ascii") as file:
            lines = file.read().splitlines()
        with open(f"/proc/{guest.child.pid}/maps", encoding="utf-8") as file:
            executable = [tuple(int(word, 16) for word in line.split()[0].split("-")) for line in file if line.split()[1][2] == "x"]
        check(stat.S_IMODE(os.stat(path).st_mode), 0o600)
    finally:
        if os.path.exists(path):
            os.unlink(path)
    told = [re.fullmatch(r"([0-9a-f]+) ([0-9a-f]+) bt_0x([0-9a-f]+)", line) for line in lines]
    assert told and all(told), lines
    places = [(int(m.group(1), 16), int(m.group(2), 16), int(m.group(3), 16)) for m in told]
    for before, after in zip(places, places[1:]):
        assert before[0] + before[1] <= after[0], lines
    inside = [(low, high) for low, high in executable if low <= places[0][0] < high]
    check(len(inside), 1)
    assert all(size > 0 and address + size <= inside[0][1] for address, size, _ in places), lines
    check([name for _, _, name in places].count(rip), 1)


if __name__ == "__main__":
    main()
