#!/usr/bin/env bash
# SPDX-License-Identifier: MIT
# Unpacks the ELF kernel inside a bzImage: images/vmlinux.sh VMLINUZ OUT
. "$(dirname "$0")/lib.sh"

[ $# = 2 ] || die "usage: images/vmlinux.sh VMLINUZ OUT"
need python3 lz4 xz-utils zstd gzip bzip2
python3 - "$1" "$2.tmp" <<'P'
import struct, subprocess, sys
data = open(sys.argv[1], "rb").read()
setup = (data[0x1f1] or 4) + 1
offset, length = struct.unpack_from("<II", data, 0x248)
payload = data[setup * 512 + offset:][:length]
tools = {b"\x1f\x8b": "gzip", b"\xfd7zXZ": "xz", b"\x02\x21\x4c\x18": "lz4", b"(\xb5/\xfd": "zstd", b"BZh": "bzip2"}
tool = next((t for magic, t in tools.items() if payload.startswith(magic)), None)
if tool is None:
    sys.exit(f"unknown payload {payload[:4]!r}")
# the last four bytes are the unpacked size, not part of the stream
result = subprocess.run([tool, "-dc"], input=payload[:-4], stdout=subprocess.PIPE, stderr=subprocess.DEVNULL)
if not result.stdout.startswith(b"\x7fELF"):
    sys.exit("the payload is not an ELF kernel")
open(sys.argv[2], "wb").write(result.stdout)
P
mv "$2.tmp" "$2"
