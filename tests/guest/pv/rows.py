# SPDX-License-Identifier: MIT
"""Test kernels of tests/guest/pv and tests/guest/ops: how each is run and what its end must be. kernels.py runs them on
the engines that need no hardware, tests/kvm/suite.py on KVM."""
from typing import NamedTuple


DISK = b"".join(b"%015d\n" % i for i in range(1 << 16))  # no two sectors are alike


class Row(NamedTuple):
    """One run of a kernel."""

    name: str
    kernel: str  # the file, without .elf
    status: int
    verdict: str  # what pvemu says, a pattern
    text: str  # what the guest must have printed
    cmdline: str = ""
    by_us: str = ""  # what it must have printed as well where pvemu's own code runs it
    disk: bool = False  # has one, whose bytes are DISK or begin like it

    def options(self):
        """pvemu's, but for the engine and limits of time."""
        cpus = "1"
        if "vcpus" in self.kernel:
            cpus = "1,max=3"
        elif self.kernel.startswith("litmus"):
            cpus = "1,max=4"
        elif self.kernel.startswith(("ops_", "pv_failsafe", "pv_flush", "pv_types", "pv_wild_no_failsafe")):
            cpus = "1,max=2"
        machine = "pvh" if "_pvh" in self.kernel else "pv"
        return ["-machine", machine, "-smp", cpus, "-m", "32M", "-net", "none", "-cmdline", self.cmdline]


def good(name, kernel, text="checks passed"):
    return Row(name, kernel, 0, "powered off", text)


def bad(name, verdict):
    return Row(name, "pv_" + name, 112, verdict, "")


WAYS = ("inline", "page")
PV = [
    good("hello", "pv_hello", "hello by the ring"),
    good("hello_p2m", "pv_hello_p2m", "hello by the ring"),
    good("symbols", "pv_symbols"),
    *(good(name + way, "pv_" + name + way) for way in ("", "_page")
      for name in ("calls", "tables", "traps", "user", "cpu", "failsafe", "spaces", "types", "refusals", "debug", "debug_hit")),
    good("user_hit", "pv_user_hit"),
    *(good("vbd" + way, "pv_vbd" + way)._replace(disk=True) for way in ("", "_page")),
    *(good("flush" + way, "pv_flush" + way)._replace(by_us=": all old\n") for way in ("", "_page")),
    bad("wild_no_handler", "no handler for vector 6"),
    bad("wild_no_stack", "no stack at 0x"),
    bad("wild_stack_in_hypervisor", "no stack at 0xffff8000"),
    bad("wild_no_user_tables", "iret to user mode without page tables"),
    bad("wild_no_user_tables_page", "iret to user mode without page tables"),
    bad("wild_iret_without_frame", "iret without a stack at 0x1000\\b"),
    bad("wild_iret_without_frame_page", "iret without a stack at 0xffffffff8[0-9a-f]*fe8\\b"),
    bad("wild_no_event_callback", "without an event callback"),
    bad("wild_no_failsafe", "a selector that cannot be loaded, without a failsafe"),
    bad("wild_storm", "kernel panic"),
    bad("wild_calls", "kernel panic"),
]

# Hypercalls of both kinds of guest, by either way of calling (tests/guest/ops).
KINDS = [(kind, way) for kind in ("pv", "pvh", "pvh32") for way in WAYS]
OPS = [good(f"{name}_{kind}_{way}", f"ops_{name}_{kind}_{way}") for kind, way in KINDS
       for name in ("events", "grants", "sched", "vcpus", "others", "limits", "clock") +
       (("hvm", "physmap") if kind != "pv" else ("events_compat",))]
# How they end by a hypercall: its reason, and by sched_op_compat too.
REASONS = [(0, 0, "powered off"), (1, 115, "guest rebooted"), (2, 116, "suspended itself"), (3, 112, "kernel panic"),
           (4, 112, "watchdog fired"), (5, 115, "guest rebooted")]


def shutdown(kind, way, line, status, verdict, text):
    kernel = f"shutdown_{kind}_{way}"
    return Row(f"{kernel}:{line}", "ops_" + kernel, status, verdict, text, line)


OPS += [shutdown(kind, way, f"s {reason}", status, verdict, "by sched_op\n")
        for kind, way in KINDS for reason, status, verdict in REASONS]
OPS += [shutdown("pv", way, f"c {reason}", status, verdict, "by sched_op_compat\n")
        for way in WAYS for reason, status, verdict in REASONS]
OPS += [shutdown(kind, way, "d", 0, "powered off", "by vcpu_op\n") for kind, way in KINDS]
OPS += [shutdown(kind, way, "w", 112, "watchdog fired", "by the watchdog\n") for kind, way in KINDS]

# Memory order on several CPUs (tests/guest/ops/litmus.c).
LITMUS = [good("litmus", "litmus_pvh")]
