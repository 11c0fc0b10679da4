/* SPDX-License-Identifier: MIT */
/* The generic instruction functions of gen_*.c; see generic.c. */
#ifndef PVEMU_CPU_INTERP_GEN_H
#define PVEMU_CPU_INTERP_GEN_H

#include "engine.h"

/*
 * The memory operand e->m is RAM and within one cache line: the host's lock prefix does. If
 * not, and it is RAM and `locked`, the other vCPUs stand still from here to the end of the instruction.
 */
bool gen_atomic(struct interp *e, bool locked);
/* The same for an instruction with a LOCK prefix; false without one. */
bool gen_locked(struct interp *e, const struct insn *in);
/* To be called after a direct access to e->m.part[0]. */
void gen_locked_done(struct interp *e);

bool gen_alu(struct interp *e, const struct insn *in);
bool gen_cmp(struct interp *e, const struct insn *in);
bool gen_unary(struct interp *e, const struct insn *in);
bool gen_shift(struct interp *e, const struct insn *in);
bool gen_shxd(struct interp *e, const struct insn *in);
bool gen_bit(struct interp *e, const struct insn *in);
bool gen_bitscan(struct interp *e, const struct insn *in);
bool gen_bswap(struct interp *e, const struct insn *in);
bool gen_mul(struct interp *e, const struct insn *in);
bool gen_imul(struct interp *e, const struct insn *in);
bool gen_div(struct interp *e, const struct insn *in);
bool gen_xadd(struct interp *e, const struct insn *in);
bool gen_xchg(struct interp *e, const struct insn *in);
bool gen_cmpxchg(struct interp *e, const struct insn *in);
bool gen_cmpxchg8b(struct interp *e, const struct insn *in);
bool gen_cmpxchg16b(struct interp *e, const struct insn *in);
bool gen_bcd_packed(struct interp *e, const struct insn *in);
bool gen_bcd_ascii(struct interp *e, const struct insn *in);
bool gen_aam_aad(struct interp *e, const struct insn *in);

#endif
