#!/usr/bin/env python3
# SPDX-License-Identifier: MIT
"""The translator's developer modes (docs/testing.md): lockstep with the interpreter, and stress. Environment as in
quick.py. By default a kernel with busybox; with PVEMU_DEBIAN, which slow runs set, a Debian system to its login."""
import os
import subprocess
import sys

from harness import LIMIT, Guest, main, sequences, signal, told

PVEMU = os.environ["PVEMU"]
CLOUD = os.environ["PVEMU_CLOUD"] + "/vmlinuz"
BUSYBOX = os.environ["PVEMU_BUSYBOX"]
DEBIAN = os.environ.get("PVEMU_DEBIAN")
SEED = os.environ.get("PVEMU_SEED", "1")
LONG = (12 if DEBIAN else 2) * LIMIT

MODES = {
    **({"lockstep_all": "lockstep"} if DEBIAN else {}),
    "lockstep": "lockstep=" + ("50" if DEBIAN else "20"),
    "lockstep_stress": f"lockstep=1000,tlb=8,shake=5000,seed={SEED}",
    "hot": "hot=1",
    "nolink": "hot=1,nolink",
    "tlb": "hot=2,tlb=4",
    "cache": "hot=2,cache=" + ("2M" if DEBIAN else "512K"),
    "insns": "hot=2,insns=1",
    "shake": f"hot=2,shake=100,seed={SEED}",
    "relink": f"hot=2,relink=20,seed={SEED}",
    "runs": f"hot=2,runs,shake=500,seed={SEED}",
    "lookups": f"hot=2,lookups,shake=500,seed={SEED}",
    "views": f"hot=2,views,shake=500,seed={SEED}",
    "larges": f"hot=2,larges,shake=500,seed={SEED}",
    "loops": f"hot=2,loops,shake=500,seed={SEED}",
    "together": f"hot=1,tlb=6,cache=4M,shake=1000,relink=500,seed={SEED}",
    **({} if DEBIAN else {"smp_lockstep": "lockstep=20"}),
    "pv_lockstep": "lockstep=" + ("200" if DEBIAN else "50"),
    "pv_together": f"hot=1,tlb=6,cache=4M,shake=1000,seed={SEED}",
}


def patient(folder):
    """A copy of the system whose units may take as long as they like."""
    image = os.path.join(folder, "root.img")
    subprocess.run(["cp", "--sparse=always", DEBIAN, image], check=True)
    files = {"system.conf.d": "[Manager]\nDefaultTimeoutStartSec=infinity\nDefaultDeviceTimeoutSec=infinity\n",
             "system/service.d": "[Service]\nTimeoutSec=infinity\n"}
    for place, text in files.items():
        path = os.path.join(folder, "patient.conf")
        with open(path, "w", encoding="ascii") as file:
            file.write(text)
        for command in (f"mkdir /etc/systemd/{place}", f"write {path} /etc/systemd/{place}/patient.conf"):
            subprocess.run(["/sbin/debugfs", "-w", "-R", command, image], check=True, capture_output=True)
    return image


def check_all(folder):
    """Every run of every translation compared, up to Debian's login: 30 to 40 times slower, so that nothing may time out."""
    quiet = "quiet systemd.show_status=false systemd.service_watchdogs=false udev.event_timeout=7200 rcupdate.rcu_cpu_stall_suppress=1 nowatchdog"
    args = ["-kernel", CLOUD, "-disk", patient(folder) + ",snapshot", "-m", "1G", "-machine", "pvh", "-accel", "bt,lockstep"]
    with Guest(PVEMU, [*args, "-append", quiet], folder) as guest:
        guest.wait("login: $", 2 * LONG)
        guest.signal(signal.SIGTERM)
        for _ in range(int(LIMIT)):
            if b"asked the guest" in guest.err:
                break
            guest.pump(1.0)
        guest.signal(signal.SIGTERM)
        guest.finish(143)
        told(guest)


def check(name, folder):
    words = MODES[name]
    print(f"# -accel bt,{words}", flush=True)
    if name == "lockstep_all":
        check_all(folder)
        return
    image = (DEBIAN or BUSYBOX) + ",snapshot"
    machine = "pv" if name.startswith("pv_") else "pvh"
    cpus = "2" if name.startswith("smp_") else "1"
    args = ["-kernel", CLOUD, "-disk", image, "-m", "1G", "-machine", machine, "-smp", cpus, "-accel", "bt," + words]
    with Guest(PVEMU, args, folder) as guest:
        if DEBIAN:
            guest.wait("login: $", LONG)
            guest.type("root\n")
            guest.wait(r"root@pvemu-guest:~# ", LONG)
            failed = guest.run("systemctl --failed --plain --no-legend | cat", LONG)
            if failed.strip():
                guest.fail("failed units: " + failed)
            guest.type("systemctl poweroff\n")
        else:
            guest.wait("Welcome to pvemu", LONG)
            guest.wait(r"/ # ", LONG)
            sequences(guest, LONG)
            guest.type("poweroff -f\n")
        guest.finish(0)
        if "lockstep" in words:
            told(guest)


if __name__ == "__main__":
    sys.exit(main([(name, lambda folder, name=name: check(name, folder)) for name in MODES]))
