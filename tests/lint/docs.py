#!/usr/bin/env python3
# SPDX-License-Identifier: MIT
"""Documents against the program: docs.py PVEMU.

Links and the paths named in documents lead somewhere; the documents that source files name exist; command-line.md
has the options, verbs and statuses that `pvemu help` knows, no more and no less; SUPPORT.md has the hypercalls of
pv/hypercall.c, with the word "supported" or "refused" exactly where a guest of that kind gets an answer, and each sub-op
that pv/ names in the row of its call, which names a test kernel that uses it; no line names anybody's machine.
"""
import pathlib
import re
import subprocess
import sys

ROOT = pathlib.Path(__file__).resolve().parents[2]
SKIP = re.compile(r"^(build[^/]*|cache|subprojects|\.git)/")
LINK = re.compile(r"\[[^\]]*\]\(([^)\s]+)\)")
# Paths of one machine, and the hosts that packages come from.
BANNED = re.compile(
    r"/work/|/home/\w|/Users/\w|/tmp/\w|/root/\w|file://"
    r"|\w\.debian\.org|packages\.\w+\.\w|pypi\.|pythonhosted|registry\.\w|crates\.io|proxy\.golang|mirrors?\.\w",
    re.IGNORECASE)
FENCE = re.compile(r"^```")
# What the names of sub-ops begin with, and the row that must have what follows.
FAMILIES = {
    "XENMEM": "memory_op", "XENMAPSPACE": "memory_op", "VCPUOP": "vcpu_op", "SCHEDOP": "sched_op",
    "EVTCHNOP": "event_channel_op", "GNTTABOP": "grant_table_op", "MMUEXT": "mmuext_op", "HVMOP": "hvm_op",
    "PHYSDEVOP": "physdev_op", "XENVER": "xen_version", "CALLBACKOP": "callback_op", "CALLBACKTYPE": "callback_op",
    "XENNMI": "nmi_op", "VMASST_TYPE": "vm_assist", "CONSOLEIO": "console_io", "SEGBASE": "set_segment_base",
}
TOP = ("src/", "cpu/", "hw/", "pv/", "ui/", "tests/", "images/", "docs/", "guest-kernel-patches/")


def documents():
    return [p for p in sorted(ROOT.rglob("*.md")) if not SKIP.match(str(p.relative_to(ROOT)))]


def anchors(path):
    """The anchors a renderer makes of the headings."""
    found = set()
    for line in path.read_text().splitlines():
        if line.startswith("#"):
            text = re.sub(r"[^\w\- ]", "", line.lstrip("#").strip().lower())
            found.add(text.replace(" ", "-"))
    return found


def check_links(path, number, line):
    for target in LINK.findall(line):
        name, _, anchor = target.partition("#")
        if re.match(r"[a-z]+:", target):
            yield f"{number}: links outside: {target}"
            continue
        goal = (path.parent / name).resolve() if name else path
        if not goal.exists():
            yield f"{number}: broken link {target}"
        elif anchor and goal.suffix == ".md" and anchor not in anchors(goal):
            yield f"{number}: no heading for {target}"


def check_paths(number, line):
    """`src/x.c`, `pv/netback*.c` in backquotes: there is at least one such file."""
    for word in re.findall(r"`([^`\s]+)`", line):
        name = word.rstrip("/")
        if name.startswith(TOP) and not re.search(r"[A-Z]{4}", name) and not any(
                any(ROOT.glob(name + end)) for end in ("", ".c")):  # a program by its name
            yield f"{number}: there is no {word}"


def check_document(path):
    fenced = False
    for number, line in enumerate(path.read_text().splitlines(), 1):
        fenced ^= bool(FENCE.match(line))
        if BANNED.search(line):
            yield f"{number}: names a machine's path or a package host: {line.strip()[:80]}"
        if not fenced:
            yield from check_links(path, number, line)
            yield from check_paths(number, line)


def check_sources():
    """Documents that comments name."""
    for top in ("src", "cpu", "hw", "pv", "tests", "images"):
        for source in sorted((ROOT / top).rglob("*")):
            if source.suffix not in (".c", ".h", ".py", ".sh", ".S", ".build") or source == pathlib.Path(__file__):
                continue
            for name in re.findall(r"docs/[\w-]+\.md", source.read_text(errors="replace")):
                if not (ROOT / name).exists():
                    yield f"{source.relative_to(ROOT)}: names {name}, which is not there"


def options_of_program(pvemu):
    text = subprocess.run([pvemu, "help", "all"], check=True, capture_output=True, text=True).stdout
    head, _, tail = text.partition("\nVerbs")
    verbs = re.findall(r"^([a-z-]+)(?: |$)", tail.partition("\nExamples")[0], re.MULTILINE)
    return set(re.findall(r"^-([\w-]+)", head, re.MULTILINE)), set(v for v in verbs if v not in ("one",))


def section(text, heading):
    match = re.search(rf"^## {heading}\n(.*?)(?=^## |\Z)", text, re.MULTILINE | re.DOTALL)
    return match.group(1) if match else ""


def check_options(pvemu):
    options, verbs = options_of_program(pvemu)
    text = (ROOT / "docs/command-line.md").read_text()
    rows = re.findall(r"^\|(.*?)(?<!\\)\|", section(text, "Options"), re.MULTILINE)
    listed = set(re.findall(r"`-([\w-]+)", " ".join(rows)))
    named = set()
    for path in documents():
        # in backquotes, or at the start of a word on a line that runs pvemu
        for line in path.read_text().splitlines():
            if path.name == "command-line.md":
                named |= {(path.name, o) for o in re.findall(r"`--?([a-z]\w*)", line)}
            if re.match(r"^(\s*|git bisect run )\S*pvemu(\"|\s)", line):
                named |= {(path.name, o) for o in re.findall(r"\s--?([a-z]\w*)", line.split("  ")[0].split(";")[0])}
    yield from (f"command-line.md does not list -{o}" for o in sorted(options - listed))
    yield from (f"command-line.md lists -{o}, which pvemu does not know" for o in sorted(listed - options))
    yield from (f"{name} names -{o}, which pvemu does not know" for name, o in sorted(named) if o not in options | {"w", "cancel"})
    shown = " ".join(re.findall(r"^\|(.*?)\|", section(text, "Verbs"), re.MULTILINE))
    documented = set(re.findall(r"`([a-z][a-z-]*)", shown))
    yield from (f"command-line.md does not list the verb {v}" for v in sorted(verbs - documented))
    yield from (f"command-line.md lists the verb {v}, which pvemu does not know" for v in sorted(documented - verbs))
    if not options or not verbs:
        yield "`pvemu help all` could not be read"


def check_statuses(pvemu):
    text = subprocess.run([pvemu, "help", "exit-codes"], check=True, capture_output=True, text=True).stdout
    program = set(re.findall(r"^  ([\dn+-]+) ", text, re.MULTILINE))
    table = section((ROOT / "docs/command-line.md").read_text(), "Exit status").replace("\u2013", "-")
    listed = set(re.findall(r"^\| ([\dn+-]+) \|", table, re.MULTILINE)) - {"---"}
    yield from (f"command-line.md and `pvemu help exit-codes` differ in status {n}" for n in sorted(program ^ listed))
    if not program:
        yield "`pvemu help exit-codes` could not be read"


def hypercall_rows(text):
    """The state of each call in a table whose first column names one or more."""
    return {name: state for names, state in re.findall(r"^\| ((?:`\w+`[ †,]*)+)\| ([\w ]+?) \|", text, re.MULTILINE)
            for name in re.findall(r"`(\w+)`", names)}


def check_answers(rows, answered, known, whose):
    yield from (f"SUPPORT.md: {n} is answered by pv/hypercall.c for {whose}" for n in sorted(answered)
                if rows.get(n) not in ("supported", "refused"))
    yield from (f"SUPPORT.md: {n} is not answered by pv/hypercall.c for {whose}" for n in sorted(known - answered)
                if rows.get(n) in ("supported", "refused"))


def check_hypercalls():
    source = (ROOT / "pv/hypercall.c").read_text()
    table = re.findall(r'\[__HYPERVISOR_\w+\]\s*=\s*\{"(\w+)",\s*(\w+),\s*([\w |\n]+?)\}', source)
    known = {name for name, _, _ in table}
    hvm = {name for name, fn, flags in table if fn != "NULL" and ("FOR_HVM" in flags or "FOR_ALL" in flags)}
    pv = {name for name, fn, flags in table if fn != "NULL" and ("FOR_PV" in flags or "FOR_ALL" in flags)}
    text, _, pv_text = section((ROOT / "SUPPORT.md").read_text(), "Hypercalls").partition("### PV guests")
    rows, more = hypercall_rows(text), hypercall_rows(pv_text)
    rest = set(re.findall(r"`(\w+)`", text[text.rfind("\n|"):].partition("\n\n")[2]))
    mentioned = set(rows) | set(more) | rest
    yield from (f"SUPPORT.md does not name the hypercall {n}" for n in sorted(known - mentioned))
    yield from (f"SUPPORT.md names {n}, which pv/hypercall.c does not" for n in sorted(mentioned - known))
    yield from check_answers(rows, hvm, known, "PVH guests")
    yield from check_answers({**rows, **more}, pv, known, "PV guests")
    if len(table) < 30 or len(rows) < 10 or len(more) < 10:
        yield "the hypercall tables could not be read"


def row_parts(text):
    """Of each call: what its rows say, and the names in their last columns."""
    parts = {}
    for names, said, tests in re.findall(r"^\| ((?:`\w+`[ ,]*)+)\|(.*)\|([^|]*)\|$", text, re.MULTILINE):
        for name in re.findall(r"`(\w+)`", names):
            parts.setdefault(name, []).append((set(re.findall(r"\w+", said)), set(re.findall(r"\w+", tests))))
    return parts


def check_sub_ops():
    parts = row_parts(section((ROOT / "SUPPORT.md").read_text(), "Hypercalls"))
    source = "".join(path.read_text() for path in (ROOT / "pv").glob("*.c"))
    named = set(re.findall(rf"\b({'|'.join(FAMILIES)})_([a-zA-Z0-9]\w*)", source))
    kernels = {path.stem: path.read_text() for folder in ("ops", "pv") for path in (ROOT / "tests/guest" / folder).glob("*.c")}
    kernels["traps"] += kernels["lib"]  # where its callbacks are told
    for family, name in sorted(named):
        rows = [tests for said, tests in parts.get(FAMILIES[family], []) if name in said]
        if not rows:
            yield f"SUPPORT.md: {FAMILIES[family]} does not name {name}"
        # Some kernels have a macro that puts the family in front.
        elif not any(re.search(rf"\b{family}_{name}\b|\({name},", kernels.get(kernel, "")) for kernel in set().union(*rows)):
            yield f"SUPPORT.md: no kernel that {FAMILIES[family]} names has {family}_{name}"
    if len(named) < 100:
        yield "the sub-ops of pv/ could not be read"


def main():
    bad = [f"{path.relative_to(ROOT)}:{line}" for path in documents() for line in check_document(path)]
    bad += list(check_sources()) + list(check_options(sys.argv[1]))
    bad += list(check_statuses(sys.argv[1])) + list(check_hypercalls()) + list(check_sub_ops())
    print("\n".join(bad + [f"{len(documents())} documents, {len(bad)} complaints"]))
    return 1 if bad else 0


if __name__ == "__main__":
    sys.exit(main())
