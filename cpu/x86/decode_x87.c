/* SPDX-License-Identifier: MIT */
/*
 * x87 opcodes D8..DF (SDM vol. 2 tables ), with the undocumented aliases that every
 part
 * executes (FCOM2, FXCH4, FFREEP,
 FSTP8 ...) and the 8087/287 no-operations. An engine keeps the whole x87 state, so
 * stack pops and status words are not operands; memory sizes, AX and EFLAGS are.
 */
#define INSN_TABLE_NAMES
#include "cpu/x86/decode_tables.h"

/* clang-format off */

#define FM(n, ...) N(BASE, MEM | SUB(n), X87, __VA_ARGS__)
#define FR_(n, ...) N(BASE, REG | SUB(n), X87, __VA_ARGS__)
#define F1(modrm) N(BASE, MRM(modrm), X87, NO)
#define FCMOV(n) N(BASE, REG | SUB(n), X87 | FR, RW(ST0), STi)

/* ADD MUL COM COMP SUB SUBR DIV DIVR from memory. */
#define ARITH_MEM(m) FM(0, RW(ST0), m), FM(1, RW(ST0), m), FM(2, ST0, m), FM(3, ST0, m), \
    FM(4, RW(ST0), m), FM(5, RW(ST0), m), FM(6, RW(ST0), m), FM(7, RW(ST0), m)

const struct insn_desc *const insn_x87[8] = {
    [0] = LIST(ARITH_MEM(Md),
               FR_(0, RW(ST0), STi), FR_(1, RW(ST0), STi), FR_(2, ST0, STi), FR_(3, ST0, STi),
               FR_(4, RW(ST0), STi), FR_(5, RW(ST0), STi), FR_(6, RW(ST0), STi),
               FR_(7, RW(ST0), STi)),
    [1] = LIST(FM(0, W(ST0), Md), FM(2, W(Md), ST0), FM(3, W(Md), ST0),
               FM(4, Menv), FM(5, Mw), FM(6, W(Menv)),
               FM(7, W(Mw)), /* FLDENV FLDCW FNSTENV FNSTCW */
               FR_(0, W(ST0), STi),    /* FLD */
               FR_(1, RW(ST0), RW(STi)), /* FXCH */
               F1(0xd0),               /* FNOP */
               FR_(3, W(STi), ST0),    /* FSTPNCE */
               F1(0xe0), F1(0xe1), F1(0xe4), F1(0xe5), /* FCHS FABS FTST FXAM */
               F1(0xe8), F1(0xe9), F1(0xea), F1(0xeb), F1(0xec), F1(0xed),
               F1(0xee), /* constants */
               FR_(6, NO), FR_(7, NO)),  /* F2XM1 .. FCOS, all sixteen */
    [2] = LIST(ARITH_MEM(Md), FCMOV(0), FCMOV(1), FCMOV(2), FCMOV(3),
               F1(0xe9)),              /* FUCOMPP */
    [3] = LIST(FM(0, W(ST0), Md),      /* FILD */
               N(SSE3, MEM | SUB(1), X87, W(Md), ST0), /* FISTTP */
               FM(2, W(Md), ST0), FM(3, W(Md), ST0), FM(5, W(ST0), Mt), FM(7, W(Mt), ST0),
               FCMOV(0), FCMOV(1), FCMOV(2), FCMOV(3),
               F1(0xe0), F1(0xe1), F1(0xe2), F1(0xe3),
               F1(0xe4), /* FNENI FNDISI FNCLEX FNINIT FNSETPM */
               N(BASE, REG | SUB(5), X87 | FW, ST0, STi),  /* FUCOMI */
               N(BASE, REG | SUB(6), X87 | FW, ST0, STi)), /* FCOMI */
    [4] = LIST(ARITH_MEM(Mq),
               FR_(0, RW(STi), ST0), FR_(1, RW(STi), ST0), FR_(2, ST0, STi), FR_(3, ST0, STi),
               FR_(4, RW(STi), ST0), FR_(5, RW(STi), ST0), FR_(6, RW(STi), ST0),
               FR_(7, RW(STi), ST0)),
    [5] = LIST(FM(0, W(ST0), Mq),
               N(SSE3, MEM | SUB(1), X87, W(Mq), ST0),
               FM(2, W(Mq), ST0), FM(3, W(Mq), ST0),
               FM(4, Mfsave), FM(6, W(Mfsave)), FM(7, W(Mw)), /* FRSTOR FNSAVE FNSTSW */
               FR_(0, STi),            /* FFREE */
               FR_(1, RW(ST0), RW(STi)), /* FXCH4 */
               FR_(2, W(STi), ST0), FR_(3, W(STi), ST0), FR_(4, ST0, STi), FR_(5, ST0, STi)),
    [6] = LIST(ARITH_MEM(Mw),
               FR_(0, RW(STi), ST0), FR_(1, RW(STi), ST0), FR_(2, ST0, STi),
               F1(0xd9),               /* FCOMPP */
               FR_(4, RW(STi), ST0), FR_(5, RW(STi), ST0), FR_(6, RW(STi), ST0),
               FR_(7, RW(STi), ST0)),
    [7] = LIST(FM(0, W(ST0), Mw),
               N(SSE3, MEM | SUB(1), X87, W(Mw), ST0),
               FM(2, W(Mw), ST0), FM(3, W(Mw), ST0),
               FM(4, W(ST0), Mt), FM(5, W(ST0), Mq), FM(6, W(Mt), ST0), FM(7, W(Mq),
               ST0), /* FBLD FILD FBSTP FISTP */
               FR_(0, STi),            /* FFREEP */
               FR_(1, RW(ST0), RW(STi)), FR_(2, W(STi), ST0), FR_(3, W(STi), ST0),
               N(BASE, MRM(0xe0), X87, W(rAXw)), /* FNSTSW AX */
               N(BASE, REG | SUB(5), X87 | FW, ST0, STi),
               N(BASE, REG | SUB(6), X87 | FW, ST0, STi)),
};
