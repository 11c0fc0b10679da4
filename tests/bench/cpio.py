# SPDX-License-Identifier: MIT
"""Writes the initramfs of the benchmarks: the program as /init, and the console it speaks on."""
import os
import stat

FOLDER = stat.S_IFDIR | 0o755
CONSOLE = stat.S_IFCHR | 0o600  # /dev/console is 5,1; made by hand, so no root is needed


def entry(number, name, mode, data=b"", device=(0, 0)):
    """One member of the "newc" form (the kernel's driver-api/early-userspace/buffer-format.rst)."""
    label = name.encode() + b"\0"
    fields = (number, mode, 0, 0, 1, 0, len(data), 0, 0, *device, len(label), 0)
    head = b"070701" + b"".join(b"%08x" % field for field in fields) + label
    return head + b"\0" * (-len(head) % 4) + data + b"\0" * (-len(data) % 4)


def write(path, program):
    with open(program, "rb") as file:
        init = file.read()
    members = [("dev", FOLDER), ("dev/console", CONSOLE, b"", (5, 1)), ("proc", FOLDER), ("sys", FOLDER),
               ("tmp", FOLDER), ("init", stat.S_IFREG | 0o755, init)]
    image = b"".join(entry(number, *member) for number, member in enumerate(members, 1))
    image += entry(0, "TRAILER!!!", 0)
    with open(path + ".tmp", "wb") as file:
        file.write(image)
    os.replace(path + ".tmp", path)
