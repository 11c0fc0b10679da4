#!/usr/bin/env python3
# SPDX-License-Identifier: MIT
"""Real programs in a Debian guest, with answers that are known: compiler, interpreters, a JIT, ciphers, a database.
The answers do not depend on a version. PVEMU, PVEMU_CLOUD as in quick.py; PVEMU_PROGRAMS is an image that run.sh
--slow makes (images/debian-root.sh with more packages); PVEMU_ACCEL chooses the engine."""
import os
import sys

from harness import LIMIT, Guest, main

PVEMU = os.environ["PVEMU"]
CLOUD = os.environ["PVEMU_CLOUD"] + "/vmlinuz"
PROGRAMS = os.environ["PVEMU_PROGRAMS"]
ACCEL = os.environ.get("PVEMU_ACCEL", "auto")
LONG = 6 * LIMIT

C_PROGRAM = r"""
#include <math.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
static int up(const void *a, const void *b)
{
    uint32_t x = *(const uint32_t *)a, y = *(const uint32_t *)b;
    return x < y ? -1 : x > y;
}
static unsigned long ack(unsigned long m, unsigned long n)
{
    return m == 0 ? n + 1 : n == 0 ? ack(m - 1, 1) : ack(m - 1, ack(m, n - 1));
}
int main(void)
{
    static uint32_t v[100000];
    static char sieve[1000001];
    uint64_t sum = 0, x = 88172645463325252ull;
    unsigned primes = 0;
    double pi = 0;
    long double e = 1, term = 1;
    for (int i = 0; i < 100000; i++) {
        x ^= x << 13, x ^= x >> 7, x ^= x << 17;
        v[i] = (uint32_t)x;
    }
    qsort(v, 100000, sizeof(v[0]), up);
    for (int i = 1; i < 100000; i++) {
        if (v[i - 1] > v[i]) return 1;
        sum = sum * 31 + v[i];
    }
    for (int i = 2; i <= 1000000; i++) {
        if (sieve[i]) continue;
        primes++;
        for (long j = (long)i * i; j <= 1000000; j += i) sieve[j] = 1;
    }
    for (int i = 0; i < 1000000; i++) pi += (i & 1 ? -4.0 : 4.0) / (2 * i + 1);
    for (int i = 1; i < 25; i++) term /= i, e += term;
    printf("%u %lu %.5f %.15Lf %.6f\n", primes, ack(2, 300), pi, e, sin(1.0) * exp(0.5));
    fprintf(stderr, "%016lx\n", sum);
    return 0;
}
"""


def test_programs(folder):
    with Guest(PVEMU, ["-kernel", CLOUD, "-disk", PROGRAMS + ",snapshot", "-m", "1G", "-net", "none", "-accel", ACCEL],
               folder) as guest:
        guest.wait("login: $", LONG)
        guest.type("root\n")
        guest.wait(r"root@pvemu-guest:~# ", LONG)
        guest.run("stty -echo; cd /tmp")

        def expect(name, command, *wanted):
            text = guest.run(command, LONG)
            for each in wanted:
                if each not in text:
                    guest.fail(f"{name}: {each!r} is not in {text!r}")
            print(f"# {name}: as expected", flush=True)

        guest.type("cat > p.c <<'EOC'\n" + C_PROGRAM + "EOC\n")
        sums = set()
        for flags in ("-O0", "-O2", "-O3 -march=native", "-O2 -m64 -mfpmath=387"):
            expect(f"gcc {flags}", f"gcc {flags} -o p p.c -lm && ./p 2>s && cat s",
                   "78498 603 3.14159 2.718281828459045 1.387351")
            sums.add(guest.run("cat s"))
        if len(sums) != 1:
            guest.fail(f"gcc: the sums differ: {sums}")
        expect("python: arithmetic", "python3 -c 'import hashlib,zlib,math;"
               "print(pow(3, 10**5, 10**9+7), math.factorial(500) % (10**9+9), zlib.crc32(bytes(range(256))*4096),"
               " hashlib.sha256(b\"abc\").hexdigest())'",
               f"{pow(3, 10**5, 10**9 + 7)}", "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad")
        expect("python: its own tests", "python3 -m test test_int test_float test_math test_struct test_hashlib test_zlib"
               " test_json test_re test_bytes test_dict test_list test_set test_sort test_decimal test_array test_complex"
               " 2>&1 | tail -n 3", "SUCCESS")
        expect("openssl: digests", "printf abc | openssl dgst -sha512",
               "ddaf35a193617abacc417349ae20413112e6fa4e89a97ea20a9eeee64b55d39a"
               "2192992a274fc1a836ba3c23a3feebbd454d4423643ce80e2a9ac94fa54ca49f")
        expect("openssl: AES-GCM and ChaCha by hand", "head -c 3000000 /dev/zero > z;"
               "for c in aes-256-cbc aes-128-ctr chacha20 camellia-256-cbc; do"
               " openssl enc -$c -pbkdf2 -pass pass:x -in z -out y && openssl enc -d -$c -pbkdf2 -pass pass:x -in y | cmp - z"
               " && echo $c good; done", "aes-256-cbc good", "aes-128-ctr good", "chacha20 good", "camellia-256-cbc good")
        expect("openssl: RSA and EC", "openssl genrsa -out k 2048 2>/dev/null && openssl rsa -in k -pubout -out kp 2>/dev/null"
               " && openssl dgst -sha256 -sign k -out sig z && openssl dgst -sha256 -verify kp -signature sig z;"
               "openssl ecparam -name prime256v1 -genkey -noout -out e && openssl ec -in e -pubout -out ep 2>/dev/null"
               " && openssl dgst -sha256 -sign e -out sig z && openssl dgst -sha256 -verify ep -signature sig z",
               "Verified OK\nVerified OK")
        expect("sqlite", "sqlite3 t.db \"create table t(a integer primary key, b text);"
               "with recursive n(i) as (select 1 union all select i+1 from n where i<100000)"
               " insert into t select i, hex(i*i%9973) from n;"
               "create index ti on t(b); select count(*), sum(a), count(distinct b) from t; pragma integrity_check;\"",
               "100000|5000050000|", "\nok\n")
        expect("perl", "perl -MDigest::MD5=md5_hex -e '$s=0; $s=($s*31+$_)%1000003 for 1..300000;"
               " %h=map{$_=>1}map{$_*$_%10007}1..20000; print \"$s \", scalar(keys %h), \" \", md5_hex(\"a\"x1000000), \"\\n\"'",
               f"{perl_sum()} {len({i * i % 10007 for i in range(1, 20001)})} 7707d6ae4e027c70eea2a935c2296f21")
        expect("node", "node -e '"
               "function fib(n){return n<2?n:fib(n-1)+fib(n-2)};"
               "const s=new Uint8Array(1000001);let p=0;for(let i=2;i<=1000000;i++){if(s[i])continue;p++;"
               "for(let j=i*i;j<=1000000;j+=i)s[j]=1}"
               "const m=new Map();for(let i=0;i<200000;i++)m.set(\"k\"+i%5003,(m.get(\"k\"+i%5003)||0)+i);"
               "let h=0;for(const [k,v] of m)h=(h*31+v)%1000003;"
               "const a=Array.from({length:100000},(_,i)=>(i*7919)%100003).sort((x,y)=>x-y);"
               "let x=0;for(let i=0;i<3e6;i++)x=Math.sin(x+i)*0.5;"
               "console.log(fib(27),p,h,a[0]+a[99999],JSON.stringify([..."
               "\"abcabc\".matchAll(/b(c)/g)].map(r=>r.index)),x.toFixed(6),2n**200n%1000000007n)'",
               f"196418 78498 {node_sum()} ", "[1,4]", f"{2**200 % 1000000007}n")
        expect("xz, bzip2, gzip, bc", "cat /bin/bash /usr/bin/perl > b; for c in 'xz -1' 'bzip2 -1' 'gzip -6'; do"
               " $c < b | ${c%% *} -dc | cmp - b && echo $c good; done;"
               "echo 'scale=60; 4*a(1)' | bc -l",
               "xz -1 good", "bzip2 -1 good", "gzip -6 good",
               "3.14159265358979323846264338327950288419716939937510582097494")
        expect("the kernel's cipher self-tests", "modprobe -a aesni-intel sha256-ssse3 sha512-ssse3 crct10dif-pclmul"
               " chacha-x86_64 poly1305-x86_64 ghash-clmulni-intel camellia-aesni-avx2 serpent-avx2 twofish-avx-x86_64"
               " 2>/dev/null; ! grep -B9 -A9 'selftest *: *[^p ]' /proc/crypto && echo alg failures $(dmesg | grep -ci 'alg: .*fail');"
               " test $(grep -c 'selftest *: passed' /proc/crypto) -gt 20 && echo many passed", "alg failures 0\n", "many passed\n")
        expect("no complaint of the kernel's", "echo complaints $(dmesg | grep -cE 'BUG|Oops|WARNING|segfault|traps:|general protection')",
               "complaints 0\n")
        guest.type("systemctl poweroff\n")
        guest.finish(0)


def perl_sum():
    total = 0
    for i in range(1, 300001):
        total = (total * 31 + i) % 1000003
    return total


def node_sum():
    table = {}
    for i in range(200000):
        table[i % 5003] = table.get(i % 5003, 0) + i
    total = 0
    for value in table.values():
        total = (total * 31 + value) % 1000003
    return total


if __name__ == "__main__":
    sys.exit(main([(name[5:], function) for name, function in list(globals().items()) if name.startswith("test_")]))
