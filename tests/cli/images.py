# SPDX-License-Identifier: MIT
"""Files that are kernels, nearly kernels, or something else, made on the spot."""
import gzip
import os
import struct

EM_X86_64, EM_AARCH64 = 62, 183
PT_LOAD, PT_NOTE = 1, 4
XEN_VERSION, GUEST_OS, LOADER, FEATURES, PHYS32_ENTRY = 5, 6, 8, 10, 18
LOAD = 0x100000


def write(folder, name, data):
    with open(os.path.join(folder, name), "wb") as f:
        f.write(data)
    return name


def linux(strings=b""):
    """What passes for a Linux without its own drivers; halts."""
    return elf(code=b"\xfa\xf4" + b"Linux version 6.1.0-99-fake (a@b) #1\n\0" + strings)


def disk(at=0, magic=b"", size=1 << 20):
    """A disk with something at an offset, else blank."""
    data = bytearray(size)
    data[at:at + len(magic)] = magic
    return bytes(data)


def xen_note(number, value):
    """One of Xen's ELF notes."""
    return struct.pack("<III4s", 4, len(value), number, b"Xen\0") + value + bytes(-len(value) % 4)


def elf(machine=EM_X86_64, notes=True, memory=0x2000, entry=LOAD, code=b"\xfa\xf4", more=()):
    """An ELF kernel that only halts; `notes`: it has a PVH entry; `more`: other Xen notes, as number and text."""
    note = xen_note(PHYS32_ENTRY, struct.pack("<I", entry)) if notes else b""
    note += b"".join(xen_note(number, text + b"\0") for number, text in more)
    headers = 64 + 2 * 56
    header = struct.pack("<16sHHIQQQIHHHHHH", b"\x7fELF\2\1\1", 2, machine, 1, LOAD, 64, 0, 0, 64, 56, 2, 0, 0, 0)
    load = struct.pack("<IIQQQQQQ", PT_LOAD, 5, headers, LOAD, LOAD, len(code), memory, 4096)
    info = struct.pack("<IIQQQQQQ", PT_NOTE, 4, headers + len(code), 0, 0, len(note), len(note), 4)
    return header + load + info + code + note


def gzip_damaged(data):
    """Packed, with a wrong checksum."""
    packed = bytearray(gzip.compress(data, 9, mtime=0))
    packed[-8] ^= 0xff
    return bytes(packed)


def bzimage(payload):
    """A boot image around a payload."""
    image = bytearray(0x400)
    image[0x1f1] = 1  # one sector of setup
    struct.pack_into("<H", image, 0x1fe, 0xaa55)
    image[0x202:0x206] = b"HdrS"
    struct.pack_into("<H", image, 0x206, 0x20c)
    image[0x211] = 1  # loaded high
    struct.pack_into("<I", image, 0x1f4, (len(payload) + 15) // 16)
    struct.pack_into("<II", image, 0x248, 0, len(payload))
    return bytes(image) + payload + bytes(-len(payload) % 16)
