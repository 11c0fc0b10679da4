/* SPDX-License-Identifier: MIT */
/*
 * The 0F opcode map without MMX and SSE: integer and system instructions (SDM vol. 2 table A-3
 and groups
 * 6 to 9, 15, 16). Features that are never shown to guests (SGX, TSX, user interrupts,
 WAITPKG ...) have
 * INSN_FEAT_OTHER; MPX and the CET hints lie in NOP space and are NOPs, as on parts without
 them.
 */
#define INSN_TABLE_NAMES
#include "cpu/x86/decode_tables.h"

/* clang-format off */

#define ROW8(o, desc) \
    [o + 0] = LIST(desc), [o + 1] = LIST(desc), [o + 2] = LIST(desc), [o + 3] = LIST(desc), \
    [o + 4] = LIST(desc), [o + 5] = LIST(desc), [o + 6] = LIST(desc), [o + 7] = LIST(desc)

#define NOP_EV ONE(NOP, 0, 0, AD(E0))

#define GROUP6 LIST( \
    I(SLDT, SUB(0), NOREAL, W(EvMw)), I(STR, SUB(1), NOREAL, W(EvMw)), \
    I(LLDT, SUB(2), NOREAL | PRIV, Ew), I(LTR, SUB(3), NOREAL | PRIV, Ew), \
    I(VERR, SUB(4), NOREAL | FW, Ew), I(VERW, SUB(5), NOREAL | FW, Ew))

/* 0F 01: SMSW and LMSW come first, the rest is one instruction per ModRM byte. */
#define GROUP7 LIST( \
    I(SMSW, SUB(4), 0, W(EvMw)), \
    I(LMSW, SUB(6), PRIV, Ew), \
    I(SGDT, MEM | SUB(0), 0, W(Ms)), I(SIDT, MEM | SUB(1), 0, W(Ms)), \
    I(LGDT, MEM | SUB(2), PRIV, Ms), I(LIDT, MEM | SUB(3), PRIV, Ms), \
    N(CET, MEM | SUB(5) | PF3, 0, RW(Mq)), /* RSTORSSP */ \
    I(INVLPG, MEM | SUB(7), PRIV, AD(M0)), \
    I(VMCALL, MRM(0xc1) | NP, BR, NO), \
    I(VMX, MRM(0xc2) | NP, 0, NO), I(VMX, MRM(0xc3) | NP, 0, NO), \
    I(VMX, MRM(0xc4) | NP, 0, NO), \
    I(VMX, MRM(0xd4) | NP, 0, NO), /* VMFUNC */ \
    F(MONITOR, MONITOR, MRM(0xc8) | NP, 0, NO), F(MWAIT, MONITOR, MRM(0xc9) | NP, 0, NO), \
    F(CLAC, SMAP, MRM(0xca) | NP, 0, NO), F(STAC, SMAP, MRM(0xcb) | NP, 0, NO), \
    F(XGETBV, XSAVE, MRM(0xd0) | NP, 0, NO), F(XSETBV, XSAVE, MRM(0xd1) | NP, PRIV, NO), \
    I(SVM, MRM(0xd8), 0, NO), I(VMMCALL, MRM(0xd9), BR, NO), I(SVM, MRM(0xda), 0, NO), \
    I(SVM, MRM(0xdb), 0, NO), I(SVM, MRM(0xdc), 0, NO), I(SVM, MRM(0xdd), 0, NO), \
    I(SVM, MRM(0xde), 0, NO), I(SVM, MRM(0xdf), 0, NO), \
    I(SWAPGS, MRM(0xf8) | M64, PRIV, NO), \
    F(RDTSCP, RDTSCP, MRM(0xf9), 0, NO), \
    /* ENCLV PCONFIG ENCLS ENCLU, TDX, XEND XTEST */ \
    N(OTHER, MRM(0xc0) | NP, 0, NO), N(OTHER, MRM(0xc5) | NP, 0, NO), \
    N(OTHER, MRM(0xcf) | NP, 0, NO), N(OTHER, MRM(0xd7) | NP, 0, NO), \
    N(OTHER, MRM(0xcc) | P66, 0, NO), N(OTHER, MRM(0xcd) | P66, 0, NO), \
    N(OTHER, MRM(0xce) | P66, 0, NO), N(OTHER, MRM(0xcf) | P66, 0, NO), \
    N(OTHER, MRM(0xd5) | NP, 0, NO), N(OTHER, MRM(0xd6) | NP, FW, NO), \
    N(OTHER, MRM(0xe8) | NP, 0, NO), /* SERIALIZE */ \
    /* SETSSBSY SAVEPREVSSP, XSUSLDTRK XRESLDTRK, UIRET TESTUI CLUI STUI */ \
    N(CET, MRM(0xe8) | PF3, 0, NO), N(CET, MRM(0xea) | PF3, 0, NO), \
    N(OTHER, MRM(0xe8) | PF2, 0, NO), N(OTHER, MRM(0xe9) | PF2, 0, NO), \
    N(OTHER, MRM(0xec) | PF3 | M64, 0, NO), N(OTHER, MRM(0xed) | PF3 | M64, FW, NO), \
    N(OTHER, MRM(0xee) | PF3 | M64, 0, NO), N(OTHER, MRM(0xef) | PF3 | M64, 0, NO), \
    N(PKU, MRM(0xee) | NP, 0, W(rAXd), W(rDXd), rCXd), \
    N(PKU, MRM(0xef) | NP, 0, rAXd, rDXd, rCXd), \
    /* MCOMMIT MONITORX MWAITX CLZERO RDPRU, SEV-SNP */ \
    N(OTHER, MRM(0xfa), 0, NO), N(OTHER, MRM(0xfb), 0, NO), N(OTHER, MRM(0xfc), 0, NO), \
    N(OTHER, MRM(0xfd), 0, NO), N(OTHER, MRM(0xfe), 0, NO), N(OTHER, MRM(0xff), 0, NO))

#define GROUP8 LIST( \
    I(BT, SUB(4), FW, Ev, Ib), I(BTS, SUB(5), FW | LK, RW(Ev), Ib), \
    I(BTR, SUB(6), FW | LK, RW(Ev), Ib), I(BTC, SUB(7), FW | LK, RW(Ev), Ib))

#define GROUP9 LIST( \
    F(CMPXCHG16B, CX16, MEM | SUB(1) | W64, FW | LK, RW(Mdq)), \
    I(CMPXCHG8B, MEM | SUB(1), FW | LK, RW(Mq)), \
    F(XRSTORS, XSAVES, MEM | SUB(3) | NP, PRIV, M0), \
    F(XSAVEC, XSAVEC, MEM | SUB(4) | NP, 0, W(M0)), \
    F(XSAVES, XSAVES, MEM | SUB(5) | NP, PRIV, W(M0)), \
    I(VMX, MEM | SUB(6) | NP, 0, Mq), I(VMX, MEM | SUB(6) | P66, 0, Mq), \
    I(VMX, MEM | SUB(6) | PF3, 0, Mq), I(VMX, MEM | SUB(7) | NP, 0, W(Mq)), \
    N(RDRAND, REG | SUB(6) | NFX, FW, W(Rv)), \
    N(RDSEED, REG | SUB(7) | NFX, FW, W(Rv)), \
    F(RDPID, RDPID, REG | SUB(7) | PF3, 0, W(Rm)), \
    N(OTHER, REG | SUB(6) | PF3 | M64, 0, INSN_OPC(X_R, S_Q))) /* SENDUIPI */

#define GROUP15 LIST( \
    I(FXSAVE, MEM | SUB(0) | NP, 0, W(M0)), I(FXRSTOR, MEM | SUB(1) | NP, 0, M0), \
    N(BASE, MEM | SUB(2) | NP, SSE, Md), N(BASE, MEM | SUB(3) | NP, SSE, W(Md)), \
    F(XSAVE, XSAVE, MEM | SUB(4) | NP, 0, RW(M0)), F(XRSTOR, XSAVE, MEM | SUB(5) | NP, 0, M0), \
    F(XSAVEOPT, XSAVEOPT, MEM | SUB(6) | NP, 0, RW(M0)), \
    I(CLFLUSH, MEM | SUB(7) | NP, 0, AD(M0)), \
    F(CLFLUSH, CLFLUSHOPT, MEM | SUB(7) | P66, 0, AD(M0)), \
    F(CLFLUSH, CLWB, MEM | SUB(6) | P66, 0, AD(M0)), \
    N(CET, MEM | SUB(6) | PF3, 0, RW(Mq)), /* CLRSSBSY */ \
    I(FENCE, REG | SUB(5) | NP, 0, NO), I(FENCE, REG | SUB(6) | NP, 0, NO), \
    I(FENCE, REG | SUB(7) | NP, 0, NO), \
    F(RDFSBASE, FSGSBASE, REG | SUB(0) | PF3 | M64, 0, W(Ry)), \
    F(RDGSBASE, FSGSBASE, REG | SUB(1) | PF3 | M64, 0, W(Ry)), \
    F(WRFSBASE, FSGSBASE, REG | SUB(2) | PF3 | M64, 0, Ry), \
    F(WRGSBASE, FSGSBASE, REG | SUB(3) | PF3 | M64, 0, Ry), \
    N(OTHER, SUB(4) | PF3, 0, Ey), /* PTWRITE */ \
    N(CET, REG | SUB(5) | PF3, 0, Ry), /* INCSSP */ \
    N(OTHER, REG | SUB(6) | P66, FW, Rd, rDXd, rAXd), /* TPAUSE */ \
    N(OTHER, REG | SUB(6) | PF3, 0, Rm), /* UMONITOR */ \
    N(OTHER, REG | SUB(6) | PF2, FW, Rd, rDXd, rAXd)) /* UMWAIT */

#define MOV_CR(id, ...) LIST( \
    I(id, SUB(0), PRIV | INSN_A_REGFORM, __VA_ARGS__), \
    I(id, SUB(2), PRIV | INSN_A_REGFORM, __VA_ARGS__), \
    I(id, SUB(3), PRIV | INSN_A_REGFORM, __VA_ARGS__), \
    I(id, SUB(4), PRIV | INSN_A_REGFORM, __VA_ARGS__))

const struct insn_desc *const insn_map_0f[256] = {
    [0x00] = GROUP6,
    [0x01] = GROUP7,
    [0x02] = ONE(LAR, 0, FW | NOREAL, RW(Gv), EvMw),
    [0x03] = ONE(LSL, 0, FW | NOREAL, RW(Gv), EvMw),
    [0x05] = ONE(SYSCALL, 0, BR | FRW, NO),
    [0x06] = ONE(CLTS, 0, PRIV, NO),
    [0x07] = ONE(SYSRET, 0, BR | FW | PRIV, NO),
    [0x08] = ONE(INVD, 0, PRIV, NO),
    [0x09] = LIST(I(WBNOINVD, PF3, PRIV, NO), I(WBINVD, 0, PRIV, NO)),
    [0x0b] = ONE(UD, 0, BR, NO),
    [0x0d] = ONE(NOP, MEM, 0, AD(E0)), /* PREFETCHW and the 3DNow! prefetches */
    [0x0e] = LIST(N(3DNOW, 0, MMX, NO)), /* FEMMS */
    [0x0f] = LIST(N(3DNOW, 0, MMX, RW(Pq), Qq, Ib)), /* the "immediate" is the opcode */

    /* Hint space. F3 0F 1E (RDSSP, ENDBR) does nothing while CET is off. */
    ROW8(0x18, I(NOP, 0, 0, AD(E0))),
    [0x20] = MOV_CR(MOV_FROM_CR, W(Rm), Cm),
    [0x21] = ONE(MOV_FROM_DR, 0, PRIV | INSN_A_REGFORM, W(Rm), Dm),
    [0x22] = MOV_CR(MOV_TO_CR, W(Cm), Rm),
    [0x23] = ONE(MOV_TO_DR, 0, PRIV | INSN_A_REGFORM, W(Dm), Rm),
    [0x30] = ONE(WRMSR, 0, PRIV, NO),
    [0x31] = ONE(RDTSC, 0, 0, NO),
    [0x32] = ONE(RDMSR, 0, PRIV, NO),
    [0x33] = ONE(RDPMC, 0, 0, NO),
    [0x34] = ONE(SYSENTER, 0, BR, NO),
    [0x35] = ONE(SYSEXIT, 0, BR | PRIV, NO),
    [0x37] = ONE(GETSEC, NP, 0, NO),
    ROW8(0x40, I(CMOVCC, 0, FR, RW(Gv), Ev)),
    ROW8(0x48, I(CMOVCC, 0, FR, RW(Gv), Ev)),
    /* VMREAD and VMWRITE share their opcodes with SSE4A, in decode_map0f_sse.c. */
    ROW8(0x80, I(JCC, 0, FR | JC | F64, Jz)),
    ROW8(0x88, I(JCC, 0, FR | JC | F64, Jz)),
    ROW8(0x90, I(SETCC, 0, FR, W(Eb))),
    ROW8(0x98, I(SETCC, 0, FR, W(Eb))),
    [0xa0] = ONE(PUSH_SEG, 0, D64, Sn(4)),
    [0xa1] = ONE(POP_SEG, 0, D64, W(Sn(4))),
    [0xa2] = ONE(CPUID, 0, 0, NO),
    [0xa3] = ONE(BT, 0, FW, Ev, Gv),
    [0xa4] = ONE(SHLD, 0, FW, RW(Ev), Gv, Ib),
    [0xa5] = ONE(SHLD, 0, FW, RW(Ev), Gv, rCL),
    [0xa8] = ONE(PUSH_SEG, 0, D64, Sn(5)),
    [0xa9] = ONE(POP_SEG, 0, D64, W(Sn(5))),
    [0xaa] = ONE(RSM, 0, BR | FW, NO),
    [0xab] = ONE(BTS, 0, FW | LK, RW(Ev), Gv),
    [0xac] = ONE(SHRD, 0, FW, RW(Ev), Gv, Ib),
    [0xad] = ONE(SHRD, 0, FW, RW(Ev), Gv, rCL),
    [0xae] = GROUP15,
    [0xaf] = ONE(IMUL2, 0, FW, RW(Gv), Ev),
    [0xb0] = ONE(CMPXCHG, 0, FW | LK, RW(Eb), Gb),
    [0xb1] = ONE(CMPXCHG, 0, FW | LK, RW(Ev), Gv),
    [0xb2] = ONE(LSS, MEM, 0, W(Gv), Mp),
    [0xb3] = ONE(BTR, 0, FW | LK, RW(Ev), Gv),
    [0xb4] = ONE(LFS, MEM, 0, W(Gv), Mp),
    [0xb5] = ONE(LGS, MEM, 0, W(Gv), Mp),
    [0xb6] = ONE(MOVZX, 0, 0, W(Gv), Eb),
    [0xb7] = ONE(MOVZX, 0, 0, W(Gv), Ew),
    [0xb8] = LIST(N(POPCNT, PF3, FW, W(Gv), Ev)),
    [0xb9] = ONE(UD, 0, BR, Gv, Ev),
    [0xba] = GROUP8,
    [0xbb] = ONE(BTC, 0, FW | LK, RW(Ev), Gv),
    /* On parts without them TZCNT and LZCNT are BSF and BSR, which may keep the destination:
     * hence no feature, and a destination that is also read. */
    [0xbc] = LIST(N(BASE, PF3, FW, RW(Gv), Ev), I(BSF, 0, FW, RW(Gv), Ev)),
    [0xbd] = LIST(N(BASE, PF3, FW, RW(Gv), Ev), I(BSR, 0, FW, RW(Gv), Ev)),
    [0xbe] = ONE(MOVSX, 0, 0, W(Gv), Eb),
    [0xbf] = ONE(MOVSX, 0, 0, W(Gv), Ew),
    [0xc0] = ONE(XADD, 0, FW | LK, RW(Eb), RW(Gb)),
    [0xc1] = ONE(XADD, 0, FW | LK, RW(Ev), RW(Gv)),
    [0xc3] = ONE(MOVNTI, MEM | NP, 0, W(My), Gy),
    [0xc7] = GROUP9,
    ROW8(0xc8, I(BSWAP, 0, 0, RW(Zv))),
    [0xff] = ONE(UD, 0, BR, Gv, Ev),
};
