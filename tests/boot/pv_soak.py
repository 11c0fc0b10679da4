#!/usr/bin/env python3
# SPDX-License-Identifier: MIT
"""Paravirtual guests under load, and boot after boot: both Debian kernels, PVH and PV, one CPU and four.

First a Debian system on each: login, a minute of compiling, forking, tar, dd and TCP both ways with checksums,
power-off. Then many boots over all of them, every fifth with Debian. No hang, and no kernel warning but those in
warnings.txt, where each has its reason.

Environment as in quick.py; PVEMU_PROGRAMS is an image from images/debian-root.sh with gcc, libc6-dev, linux-perf and
both kernels' modules. PVEMU_SOAK_SECONDS (60) of load, PVEMU_SOAK_BOOTS (200), PVEMU_ACCEL (bt)."""
import os
import re
import sys

from harness import Guest, LIMIT, TcpHost, main, sample

PVEMU = os.environ["PVEMU"]
KERNELS = {"cloud": os.environ["PVEMU_CLOUD"] + "/vmlinuz", "generic": os.environ["PVEMU_GENERIC"] + "/vmlinuz"}
BUSYBOX = os.environ["PVEMU_BUSYBOX"]
DEBIAN = os.environ["PVEMU_PROGRAMS"]
ACCEL = os.environ.get("PVEMU_ACCEL", "bt")
SECONDS = int(os.environ.get("PVEMU_SOAK_SECONDS", "60"))
BOOTS = int(os.environ.get("PVEMU_SOAK_BOOTS", "200"))
LONG = 4 * LIMIT
# systemd gives a device 90 seconds to appear, and a guest on a busy host then has no login.
PATIENT = "systemd.default_timeout_start_sec=900 systemd.default_device_timeout_sec=900"
COMBINATIONS = [(flavour, machine, cpus) for cpus in (1, 4) for machine in ("pvh", "pv") for flavour in ("cloud", "generic")]
TRACES = re.compile(rb"WARNING: CPU|BUG: |Call Trace|Oops|rcu: INFO|soft lockup|blocked for more than|Kernel panic")

# Processes that send each other short messages through socket pairs: every sender of a group to every receiver.
MESSAGES = r"""
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>
enum { PEERS = 8, ROUNDS = 50, SIZE = 100 };
static int receive(int fd)
{
    char text[SIZE];
    long sum = 0;
    for (int n = 0; n < PEERS * ROUNDS; n++) {
        for (size_t at = 0; at < SIZE;) {
            ssize_t got = read(fd, text + at, SIZE - at);
            if (got <= 0) return 1;
            at += got;
        }
        for (int i = 1; i < SIZE; i++) if (text[i] != (char)(text[0] + i)) return 2;
        sum += text[0];
    }
    return sum != ROUNDS * PEERS * (PEERS - 1) / 2;
}
static int transmit(int pair[][2], int me)
{
    char text[SIZE];
    for (int i = 0; i < SIZE; i++) text[i] = (char)(me + i);
    for (int n = 0; n < ROUNDS; n++)
        for (int i = 0; i < PEERS; i++) if (write(pair[i][1], text, SIZE) != SIZE) return 3;
    return 0;
}
int main(int argc, char **argv)
{
    int groups = atoi(argv[1]), status, bad = 0;
    for (int g = 0; g < groups; g++) {
        int pair[PEERS][2];
        for (int i = 0; i < PEERS; i++) if (socketpair(AF_UNIX, SOCK_STREAM, 0, pair[i])) return 4;
        for (int i = 0; i < PEERS; i++) {
            if (fork() == 0) _exit(receive(pair[i][0]));
            if (fork() == 0) _exit(transmit(pair, i));
        }
        for (int i = 0; i < PEERS; i++) close(pair[i][0]), close(pair[i][1]);
    }
    while (wait(&status) > 0) bad |= status;
    return bad != 0;
}
"""

LOAD = r"""
name=$1 end=$2 give=$3 take=$4 digest=$5 rounds=0
compile() { gcc -O2 -o made messages.c && ./made 1; }
messages() { ./messages 4 && perf bench sched messaging -g 2 -l 50 >perf.txt && grep -q 'Total time' perf.txt; }
archive() {
    tar -C /usr/lib/gcc -cf a.tar . && sync a.tar && echo 1 >/proc/sys/vm/drop_caches && tar -C /usr/lib/gcc -df a.tar
}
disk() {
    dd if=/dev/urandom bs=64k count=128 2>/dev/null | tee d | md5sum >d.sum && sync d &&
    dd if=d iflag=direct bs=64k 2>/dev/null | md5sum | cmp - d.sum
}
download() { nc -d 10.0.2.2 $give | md5sum | grep -q $digest; }
upload() { nc -N 10.0.2.2 $take <sent; }
while [ $rounds = 0 ] || [ $(date +%s) -lt $end ]; do
    $name || { echo "$name: FAILED after $rounds rounds"; exit 1; }
    rounds=$((rounds + 1))
done
echo "$name: $rounds rounds"
"""
WORK = ("compile", "messages", "archive", "disk", "download", "upload")


def reviewed():
    """The patterns of warnings.txt; each paragraph begins with its reason."""
    patterns = []
    with open(os.path.join(os.path.dirname(os.path.abspath(__file__)), "warnings.txt"), encoding="ascii") as file:
        for paragraph in file.read().split("\n\n"):
            lines = paragraph.strip().splitlines()
            words = [line for line in lines if not line.startswith("#")]
            assert not words or lines[0].startswith("#"), f"no reason: {words}"
            patterns += [re.compile(word) for word in words]
    return patterns


REVIEWED = reviewed()


def check_log(guest, log):
    """`dmesg -r`: what the kernel itself said at level warning and above."""
    odd = [text for text in re.findall(r"^<[0-4]>\[ *[\d.]+\] (.*?)\s*$", log, re.MULTILINE)
           if not any(pattern.search(text) for pattern in REVIEWED)]
    if odd:
        guest.fail("the kernel warns:\n" + "\n".join(odd))


def check_console(guest):
    """Also for what comes after the last dmesg."""
    found = TRACES.search(guest.out)
    if found:
        guest.fail(f"on the console: {found.group(0)!r}")


def start(folder, flavour, machine, cpus, disk, *args):
    return Guest(PVEMU, ["-kernel", KERNELS[flavour], "-machine", machine, "-smp", str(cpus), "-accel", ACCEL,
                         "-disk", disk + ",snapshot", *args], folder)


def log_in(guest):
    guest.wait("pvemu-guest login: ", LONG)
    guest.type("root\n")
    guest.wait(r"root@pvemu-guest:~# ", LONG)
    guest.run("stty -echo; dmesg -n 1")


def session(folder, flavour, machine, cpus):
    data = sample(2 << 20)
    host = TcpHost(data)
    try:
        with start(folder, flavour, machine, cpus, DEBIAN, "-m", "1G", "-append", PATIENT) as guest:
            log_in(guest)
            guest.run("cd /root")
            assert guest.run("nproc").split()[-1] == str(cpus)
            failed = guest.run("systemctl --failed --plain --no-legend | cat", LONG)
            if failed.strip():
                guest.fail("failed units: " + failed)
            guest.run("for i in $(seq 300); do ip -4 addr | grep -q 10.0.2.15 && break; sleep 0.2; done; ip -4 addr | grep 10.0.2.15")
            for name, text in (("messages.c", MESSAGES), ("load", LOAD)):
                guest.type(f"cat >{name} <<'EOF'\n{text}EOF\n")
            guest.run("gcc -O2 -o messages messages.c", LONG)
            guest.run(f"nc -d 10.0.2.2 {host.give} >sent; md5sum sent | grep {host.digest}", LONG)
            report = guest.run(f"end=$(($(date +%s) + {SECONDS})); for name in {' '.join(WORK)}; do bash load $name $end "
                               f"{host.give} {host.take} {host.digest} & done; wait", LONG + SECONDS)
            done = dict(re.findall(r"^(\w+): (\d+) rounds", report, re.MULTILINE))
            if set(done) != set(WORK):
                guest.fail(f"the load: {report}")
            if host.taken != [host.digest] * int(done["upload"]):
                guest.fail(f"{done['upload']} uploads, of which {host.taken.count(host.digest)} of {len(host.taken)} arrived whole")
            print("# " + ", ".join(f"{name} {done[name]}" for name in WORK), flush=True)
            check_log(guest, guest.run("dmesg -r"))
            guest.type("systemctl poweroff\n")
            guest.finish(0, r"PASS: the guest powered off", LONG)
            check_console(guest)
    finally:
        host.close()


def boots(folder):
    """Boot after boot to user space and back; none hangs."""
    for number in range(BOOTS):
        debian = number % 5 == 4
        which = COMBINATIONS[(number // 5 if debian else number) % len(COMBINATIONS)]
        with start(folder, *which, *((DEBIAN, "-m", "1G", "-append", PATIENT) if debian else (BUSYBOX,))) as guest:
            if debian:
                log_in(guest)
            else:
                guest.wait("Welcome to pvemu")
                guest.wait(r"^(/|~) # ")
            check_log(guest, guest.run("dmesg -r", LONG))
            guest.type("systemctl poweroff\n" if debian else "poweroff -f\n")
            guest.finish(0, None, LONG)
            check_console(guest)
        print(f"# boot {number + 1} of {BOOTS}: {' '.join(map(str, which))}", flush=True)


if __name__ == "__main__":
    sys.exit(main([("session_" + "_".join(map(str, which)), lambda folder, which=which: session(folder, *which))
                   for which in COMBINATIONS] + [("boots", boots)]))
