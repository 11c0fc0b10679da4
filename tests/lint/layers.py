#!/usr/bin/env python3
# SPDX-License-Identifier: MIT
"""Checks that includes point only up the list of rooms (docs/architecture.md)."""
import pathlib
import re
import sys

ROOT = pathlib.Path(__file__).resolve().parents[2]

# room -> rooms whose headers it may include
SEES = {
    "src/base": set(),
    "src/core": {"src/base"},
    "src/io": {"src/base", "src/core"},
    "src/boot": {"src/base", "src/core"},
    "cpu": {"src/base", "src/core"},
    "hw": {"src/base", "src/core"},
    "pv": {"src/base", "src/core"},
    "ui": {"src/base", "src/core"},
}
FLOOR = {"src/io", "src/boot", "cpu", "hw", "pv", "ui"}
SEES["src/machine"] = {"src/base", "src/core"} | FLOOR
SEES["src/ctl"] = {"src/base", "src/core", "src/machine"}
SEES["src"] = {"src/base", "src/core", "src/machine", "src/ctl", "src/io"}
# within cpu/: engines see the architecture, never each other
CPU_SEES = {"cpu/x86": set(), "cpu/interp": {"cpu/x86"}, "cpu/dbt": {"cpu/x86", "cpu/interp"}, "cpu/kvm": {"cpu/x86"}}
INCLUDE = re.compile(r'^\s*#\s*include\s+"([^"]+)"')


def room_of(path):
    """The room of a file below ROOT, or None outside all rooms."""
    parts = path.parts
    for room in sorted(SEES, key=len, reverse=True):
        if parts[: room.count("/") + 1] == tuple(room.split("/")):
            return room
    return None


def target_of(name, source):
    """The file an include names, relative to ROOT, or None for a header of somebody else."""
    for base in (pathlib.Path("src"), pathlib.Path("."), source.parent):
        if (ROOT / base / name).is_file():
            return base / name
    return None


def cpu_room(path):
    return "/".join(path.parts[:2])


def check(source):
    room = room_of(source)
    bad = []
    for number, line in enumerate((ROOT / source).read_text().splitlines(), 1):
        match = INCLUDE.match(line)
        target = target_of(match.group(1), source) if match else None
        if target is None:
            continue
        other = room_of(target)
        allowed = other == room or other in SEES[room]
        if allowed and room == "cpu" and other == "cpu":
            mine, theirs = cpu_room(source), cpu_room(target)
            allowed = mine == theirs or theirs in CPU_SEES.get(mine, set())
            room_name, other_name = mine, theirs
        else:
            room_name, other_name = room, other
        if not allowed:
            bad.append(f"{source}:{number}: {room_name}/ may not include {other_name}/ ({match.group(1)})")
    return bad


def main():
    sources = [
        p.relative_to(ROOT)
        for top in ("src", "cpu", "hw", "pv", "ui")
        for p in sorted((ROOT / top).rglob("*.[ch]"))
    ]
    bad = [line for s in sources if room_of(s) for line in check(s)]
    print("\n".join(bad + [f"{len(sources)} files, {len(bad)} breaks"]))
    return 1 if bad or not sources else 0


if __name__ == "__main__":
    sys.exit(main())
