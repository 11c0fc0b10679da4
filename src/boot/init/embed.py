# SPDX-License-Identifier: MIT
"""Writes a program as a C array: embed.py INPUT OUTPUT NAME."""
import sys

data = open(sys.argv[1], "rb").read()
name = sys.argv[3]
with open(sys.argv[2], "w", encoding="ascii") as out:
    out.write(f'#include "boot/init_program.h"\n\nconst uint8_t {name}[] = {{\n')
    for at in range(0, len(data), 16):
        out.write("    " + " ".join(f"0x{b:02x}," for b in data[at:at + 16]) + "\n")
    out.write(f"}};\nconst size_t {name}_size = sizeof({name});\n")
