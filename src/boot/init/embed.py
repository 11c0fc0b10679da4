# SPDX-License-Identifier: MIT
"""Writes a program as a C array: embed.py INPUT OUTPUT."""
import sys

data = open(sys.argv[1], "rb").read()
with open(sys.argv[2], "w", encoding="ascii") as out:
    out.write('#include "boot/init_program.h"\n\nconst uint8_t init_program[] = {\n')
    for at in range(0, len(data), 16):
        out.write("    " + " ".join(f"0x{b:02x}," for b in data[at:at + 16]) + "\n")
    out.write("};\nconst size_t init_program_size = sizeof(init_program);\n")
