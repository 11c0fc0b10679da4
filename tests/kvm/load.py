#!/usr/bin/env python3
# SPDX-License-Identifier: MIT
"""What a boot and a fixed load cost on a true KVM (outer.py): load.py PVEMU [CPUS [OPTION...]]. By hand.

For the boot, and for the load behind it (disk, network and processes at once), prints what `pvemu stats` counts, what
the outer kernel's KVM counts, and the processor time of pvemu's threads. The outer machine's clock counts
instructions, so that two runs of one pvemu agree to 0.2 %. The network's own processes are not in it.
"""
import os
import re
import subprocess
import sys

import outer
import suite

ROUNDS, PROCESSES = 24, 60
PHASES = ("boot", "load")
KVM = ("exits", "halt_exits", "signal_exits", "irq_window_exits", "irq_injections")  # in /sys/kernel/debug/kvm

WORK = f"""
insmod /xen-blkfront.ko; n=0; while [ ! -b /dev/xvda ] && [ $n -lt 50 ]; do sleep 0.1; n=$((n+1)); done
insmod /xen-netfront.ko; ip link set eth0 up; ip addr add 10.0.2.15/24 dev eth0; ip route add default via 10.0.2.2
wget -q -O - http://10.0.2.2:8099/piece > /dev/null; sleep 0.2
echo DONE-boot; sleep 2
disk() {{
    for r in $(seq {ROUNDS}); do
        dd if=/dev/xvda of=/dev/xvda bs=65536 count=4 seek=$((8 + r)) conv=fsync 2>/dev/null
        echo 3 > /proc/sys/vm/drop_caches; dd if=/dev/xvda bs=65536 count=4 skip=$((8 + r)) 2>/dev/null | sha256sum > /dev/null
    done
}}
net() {{ for r in $(seq {ROUNDS}); do wget -q -O - http://10.0.2.2:8099/piece | sha256sum > /dev/null; done; }}
disk & net &
for i in $(seq {PROCESSES}); do echo "scale=5; $i / 7" | cat > /dev/null; awk 'BEGIN {{ for (i = 1; i <= 300; i++) s += 1 / i }}'; done
wait
echo DONE-load; sleep 2
"""


def job(cpus, options):
    """What the outer machine does: lines "PHASE NAME COUNT", several of one name are to be added up."""
    return f"""httpd -p 127.0.0.1:8099 -h /t; : > /tmp/out
look() {{
    for t in /proc/$p/task/*; do echo "$1 $(sed 's/[0-9]*$//' $t/comm) $(cut -d' ' -f1 $t/schedstat)"; done
    for x in {' '.join(KVM)}; do echo "$1 kvm:$x $(cat /sys/kernel/debug/kvm/$x)"; done
    ./pvemu stats g | sed "s/^/$1 /"
}}
{suite.RUN} -disk disk,snapshot -name g -smp {cpus} {options} -kernel vmlinuz -initrd load.cpio -cmdline '{suite.CMDLINE}' -timeout 200 > /tmp/out 2>&1 &
p=$!
for phase in {' '.join(PHASES)}; do
    n=0; while ! grep -q "DONE-$phase" /tmp/out && [ $n -lt 900 ]; do sleep 0.1; n=$((n+1)); done; sleep 1; look $phase
done
wait $p; echo "status $?"; tail -n 3 /tmp/out
true
"""


def main():
    if len(sys.argv) < 2:
        print(__doc__)
        return 2
    pvemu, cpus = sys.argv[1], sys.argv[2] if len(sys.argv) > 2 else "1"
    kernel = os.environ.get("PVEMU_CLOUD") or subprocess.run(
        [suite.ROOT / "images/kernel.sh", "cloud"], check=True, capture_output=True, text=True).stdout.strip()
    machine = outer.Outer(kernel)
    machine.program("/t/pvemu", pvemu)
    machine.add("/t/vmlinuz", os.path.join(kernel, "vmlinuz"))
    machine.data("/t/load.cpio", suite.guest_image(kernel, WORK))
    machine.data("/t/disk", suite.sample())
    machine.data("/t/piece", suite.sample()[:suite.PIECE])
    text = machine.run(job(cpus, " ".join(sys.argv[3:])), limit=suite.LIMIT)
    if "status 0" not in text:
        print(text)
        return 1
    counts = {phase: {} for phase in PHASES}
    for phase, name, count in re.findall(r"^(boot|load) (\S+) (\d+)$", text, re.MULTILINE):
        if name != "vcpu":  # the heading of each one's
            counts[phase][name] = counts[phase].get(name, 0) + int(count)
    print(f"{'':24}{'boot':>14}{'load':>14}")
    for name, boot in counts["boot"].items():
        print(f"{name:24}{boot:14}{counts['load'][name] - boot:14}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
