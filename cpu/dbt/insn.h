/* SPDX-License-Identifier: MIT */
/* What the translator knows about instructions: flags.c and reencode.c. */
#ifndef PVEMU_CPU_DBT_INSN_H
#define PVEMU_CPU_DBT_INSN_H

#include <stdbool.h>

#include "cpu/x86/decode.h"

#include "emit.h"

enum { FLAG_C = 1, FLAG_P = 2, FLAG_A = 4, FLAG_Z = 8, FLAG_S = 16, FLAG_O = 32 };
enum { FLAG_ALL = 63 };

struct insn_status {
    uint8_t reads;  /* status flags looked at */
    uint8_t kills;  /* certainly overwritten, whatever they were */
    bool writes;    /* any may change */
};
/* Bytes of an address, of a near branch's target and of what PUSH and CALL push, if nothing is said by
 * prefixes. */
static inline unsigned insn_word(const struct insn *in)
{
    return in->mode == INSN_MODE_64 ? 8 : 4;
}

/* An instruction for general registers that does nothing but what its operands say. */
bool insn_plain(const struct insn *in);
/* Does it write to memory, the stack included? What insn_status_flags() knows nothing of may. */
bool insn_stores(const struct insn *in);
struct insn_status insn_status_flags(const struct insn *in);

/* What stands for what in a copy. */
struct copy_map {
    uint8_t gpr[16];     /* host register of each guest register as a data operand */
    struct emit_mem mem; /* instead of the memory operand */
};

/* Appends a copy of *in. false: it cannot be written that way (nothing is appended). */
bool insn_copy(struct emit *c, const struct insn *in, const struct copy_map *map);

#endif
