/* SPDX-License-Identifier: MIT */
/*
 * The one-byte opcode map (SDM vol. 2 appendix A, table A-2) with its groups. x87
 * (D8..DF) stands in decode_x87.c; prefixes, VEX, EVEX and XOP are recognised by decode.c
 * before it looks here.
 */
#define INSN_TABLE_NAMES
#include "cpu/x86/decode_tables.h"

/* clang-format off */

/* The eight two-operand ALU instructions: four ModRM forms and two with the accumulator. */
#define ALU(o, id, ACC, fl, lock) \
    [o + 0] = ONE(id, 0, (fl) | (lock), ACC(Eb), Gb), \
    [o + 1] = ONE(id, 0, (fl) | (lock), ACC(Ev), Gv), \
    [o + 2] = ONE(id, 0, fl, ACC(Gb), Eb), \
    [o + 3] = ONE(id, 0, fl, ACC(Gv), Ev), \
    [o + 4] = ONE(id, 0, fl, ACC(rAL), Ib), \
    [o + 5] = ONE(id, 0, fl, ACC(rAX), Iz)

#define GRP1(cond, e, i) LIST( \
    I(ADD, SUB(0) | (cond), FW | LK, RW(e), i), I(OR, SUB(1) | (cond), FW | LK, RW(e), i), \
    I(ADC, SUB(2) | (cond), FRW | LK, RW(e), i), I(SBB, SUB(3) | (cond), FRW | LK, RW(e), i), \
    I(AND, SUB(4) | (cond), FW | LK, RW(e), i), I(SUB, SUB(5) | (cond), FW | LK, RW(e), i), \
    I(XOR, SUB(6) | (cond), FW | LK, RW(e), i), I(CMP, SUB(7) | (cond), FW, e, i))

#define GRP2(e, i) LIST( \
    I(ROL, SUB(0), FW, RW(e), i), I(ROR, SUB(1), FW, RW(e), i), \
    I(RCL, SUB(2), FRW, RW(e), i), I(RCR, SUB(3), FRW, RW(e), i), \
    I(SHL, SUB(4), FW, RW(e), i), I(SHR, SUB(5), FW, RW(e), i), \
    I(SHL, SUB(6), FW, RW(e), i), I(SAR, SUB(7), FW, RW(e), i))

#define GRP3(e, i) LIST( \
    I(TEST, SUB(0), FW, e, i), I(TEST, SUB(1), FW, e, i), \
    I(NOT, SUB(2), LK, RW(e)), I(NEG, SUB(3), FW | LK, RW(e)), \
    I(MUL, SUB(4), FW, e), I(IMUL1, SUB(5), FW, e), \
    I(DIV, SUB(6), FW, e), I(IDIV, SUB(7), FW, e))

#define ROW8(o, desc) \
    [o + 0] = LIST(desc), [o + 1] = LIST(desc), [o + 2] = LIST(desc), [o + 3] = LIST(desc), \
    [o + 4] = LIST(desc), [o + 5] = LIST(desc), [o + 6] = LIST(desc), [o + 7] = LIST(desc)

#define XCHG_ACC I(XCHG, 0, 0, RW(Zv), RW(rAX))

const struct insn_desc *const insn_map_1[256] = {
    ALU(0x00, ADD, RW, FW, LK),
    [0x06] = ONE(PUSH_SEG, N64, 0, Sn(0)),
    [0x07] = ONE(POP_SEG, N64, 0, W(Sn(0))),
    ALU(0x08, OR, RW, FW, LK),
    [0x0e] = ONE(PUSH_SEG, N64, 0, Sn(1)),
    ALU(0x10, ADC, RW, FRW, LK),
    [0x16] = ONE(PUSH_SEG, N64, 0, Sn(2)),
    [0x17] = ONE(POP_SEG, N64, 0, W(Sn(2))),
    ALU(0x18, SBB, RW, FRW, LK),
    [0x1e] = ONE(PUSH_SEG, N64, 0, Sn(3)),
    [0x1f] = ONE(POP_SEG, N64, 0, W(Sn(3))),
    ALU(0x20, AND, RW, FW, LK),
    [0x27] = ONE(DAA, N64, FRW, NO),
    ALU(0x28, SUB, RW, FW, LK),
    [0x2f] = ONE(DAS, N64, FRW, NO),
    ALU(0x30, XOR, RW, FW, LK),
    [0x37] = ONE(AAA, N64, FRW, NO),
    ALU(0x38, CMP, R, FW, 0),
    [0x3f] = ONE(AAS, N64, FRW, NO),

    /* 40..4F are REX in 64-bit mode and never reach the table there. */
    ROW8(0x40, I(INC, N64, FW, RW(Zv))),
    ROW8(0x48, I(DEC, N64, FW, RW(Zv))),
    ROW8(0x50, I(PUSH, 0, D64, Zv)),
    ROW8(0x58, I(POP, 0, D64, W(Zv))),

    [0x60] = ONE(PUSHA, N64, 0, NO),
    [0x61] = ONE(POPA, N64, 0, NO),
    [0x62] = ONE(BOUND, N64 | MEM, 0, Gv, Ma),
    /* With 66 Intel reads 2 bytes, AMD 4. */
    [0x63] = LIST(I(MOVSXD, M64, 0, W(Gv), Ed), I(ARPL, N64, FW | NOREAL, RW(Ew), Gw)),
    [0x68] = ONE(PUSH, 0, D64, Iz),
    [0x69] = ONE(IMUL3, 0, FW, W(Gv), Ev, Iz),
    [0x6a] = ONE(PUSH, 0, D64, Ibs),
    [0x6b] = ONE(IMUL3, 0, FW, W(Gv), Ev, Ibs),
    [0x6c] = ONE(INS, 0, IOPL | INSN_A_BYTE, W(DstB), rDXw),
    [0x6d] = ONE(INS, 0, IOPL | OPZ, W(DstV), rDXw),
    [0x6e] = ONE(OUTS, 0, IOPL | INSN_A_BYTE, rDXw, SrcB),
    [0x6f] = ONE(OUTS, 0, IOPL | OPZ, rDXw, SrcV),

    ROW8(0x70, I(JCC, 0, FR | JC | F64, Jb)),
    ROW8(0x78, I(JCC, 0, FR | JC | F64, Jb)),

    [0x80] = GRP1(0, Eb, Ib),
    [0x81] = GRP1(0, Ev, Iz),
    [0x82] = GRP1(N64, Eb, Ib),
    [0x83] = GRP1(0, Ev, Ibs),
    [0x84] = ONE(TEST, 0, FW, Eb, Gb),
    [0x85] = ONE(TEST, 0, FW, Ev, Gv),
    [0x86] = ONE(XCHG, 0, LK, RW(Eb), RW(Gb)),
    [0x87] = ONE(XCHG, 0, LK, RW(Ev), RW(Gv)),
    [0x88] = ONE(MOV, 0, 0, W(Eb), Gb),
    [0x89] = ONE(MOV, 0, 0, W(Ev), Gv),
    [0x8a] = ONE(MOV, 0, 0, W(Gb), Eb),
    [0x8b] = ONE(MOV, 0, 0, W(Gv), Ev),
    [0x8c] = ONE(MOV_FROM_SEG, 0, 0, W(EvMw), Sw),
    [0x8d] = ONE(LEA, MEM, 0, W(Gv), AD(M0)),
    [0x8e] = ONE(MOV_TO_SEG, 0, 0, W(Sw), Ew),
    [0x8f] = ONE(POP, SUB(0), D64, W(Ev)),

    [0x90] = LIST(I(PAUSE, PF3 | NREXB, 0, NO), I(NOP, NREXB, 0, NO), XCHG_ACC),
    [0x91] = LIST(XCHG_ACC), [0x92] = LIST(XCHG_ACC), [0x93] = LIST(XCHG_ACC),
    [0x94] = LIST(XCHG_ACC), [0x95] = LIST(XCHG_ACC), [0x96] = LIST(XCHG_ACC),
    [0x97] = LIST(XCHG_ACC),
    [0x98] = ONE(CBW, 0, 0, NO),
    [0x99] = ONE(CWD, 0, 0, NO),
    [0x9a] = ONE(CALL_FAR, N64, BR, Ap),
    [0x9b] = LIST(N(BASE, 0, X87, NO)), /* FWAIT */
    [0x9c] = ONE(PUSHF, 0, FR | IOPL | D64, NO),
    [0x9d] = ONE(POPF, 0, FW | IOPL | D64, NO),
    [0x9e] = ONE(SAHF, 0, FW, NO),
    [0x9f] = ONE(LAHF, 0, FR, NO),

    [0xa0] = ONE(MOV, 0, 0, W(rAL), Ob),
    [0xa1] = ONE(MOV, 0, 0, W(rAX), Ov),
    [0xa2] = ONE(MOV, 0, 0, W(Ob), rAL),
    [0xa3] = ONE(MOV, 0, 0, W(Ov), rAX),
    [0xa4] = ONE(MOVS, 0, 0, W(DstB), SrcB),
    [0xa5] = ONE(MOVS, 0, 0, W(DstV), SrcV),
    [0xa6] = ONE(CMPS, 0, FW, SrcB, DstB),
    [0xa7] = ONE(CMPS, 0, FW, SrcV, DstV),
    [0xa8] = ONE(TEST, 0, FW, rAL, Ib),
    [0xa9] = ONE(TEST, 0, FW, rAX, Iz),
    [0xaa] = ONE(STOS, 0, 0, W(DstB), rAL),
    [0xab] = ONE(STOS, 0, 0, W(DstV), rAX),
    [0xac] = ONE(LODS, 0, 0, W(rAL), SrcB),
    [0xad] = ONE(LODS, 0, 0, W(rAX), SrcV),
    [0xae] = ONE(SCAS, 0, FW, rAL, DstB),
    [0xaf] = ONE(SCAS, 0, FW, rAX, DstV),

    ROW8(0xb0, I(MOV, 0, 0, W(Zb), Ib)),
    ROW8(0xb8, I(MOV, 0, 0, W(Zv), Iv)),

    [0xc0] = GRP2(Eb, Ib),
    [0xc1] = GRP2(Ev, Ib),
    [0xc2] = ONE(RET, 0, BR | F64, Iw),
    [0xc3] = ONE(RET, 0, BR | F64, NO),
    [0xc4] = ONE(LES, N64 | MEM, 0, W(Gv), Mp),
    [0xc5] = ONE(LDS, N64 | MEM, 0, W(Gv), Mp),
    [0xc6] = LIST(N(OTHER, MRM(0xf8), BR, Ib), /* XABORT */
                  I(MOV, SUB(0), 0, W(Eb), Ib)),
    [0xc7] = LIST(N(OTHER, MRM(0xf8), JC, Jz), /* XBEGIN */
                  I(MOV, SUB(0), 0, W(Ev), Iz)),
    [0xc8] = ONE(ENTER, 0, D64, Iw, Ib2),
    [0xc9] = ONE(LEAVE, 0, D64, NO),
    [0xca] = ONE(RET_FAR, 0, BR, Iw),
    [0xcb] = ONE(RET_FAR, 0, BR, NO),
    [0xcc] = ONE(INT3, 0, BR | FR, NO),
    [0xcd] = ONE(INT, 0, BR | FR | IOPL, Ib),
    [0xce] = ONE(INTO, N64, JC | FR, NO),
    [0xcf] = ONE(IRET, 0, BR | FW | IOPL, NO),

    [0xd0] = GRP2(Eb, I1),
    [0xd1] = GRP2(Ev, I1),
    [0xd2] = GRP2(Eb, rCL),
    [0xd3] = GRP2(Ev, rCL),
    [0xd4] = ONE(AAM, N64, FW, Ib),
    [0xd5] = ONE(AAD, N64, FW, Ib),
    [0xd6] = ONE(SALC, N64, FR, NO),
    [0xd7] = ONE(XLAT, 0, 0, RW(rAL)),

    [0xe0] = ONE(LOOPNE, 0, FR | JC | F64, Jb),
    [0xe1] = ONE(LOOPE, 0, FR | JC | F64, Jb),
    [0xe2] = ONE(LOOP, 0, JC | F64, Jb),
    [0xe3] = ONE(JCXZ, 0, JC | F64, Jb),
    [0xe4] = ONE(IN, 0, IOPL, W(rAL), Ib),
    [0xe5] = ONE(IN, 0, IOPL | OPZ, W(rAXz), Ib),
    [0xe6] = ONE(OUT, 0, IOPL | INSN_A_BYTE, Ib, rAL),
    [0xe7] = ONE(OUT, 0, IOPL | OPZ, Ib, rAXz),
    [0xe8] = ONE(CALL, 0, BR | F64, Jz),
    [0xe9] = ONE(JMP, 0, BR | F64, Jz),
    [0xea] = ONE(JMP_FAR, N64, BR, Ap),
    [0xeb] = ONE(JMP, 0, BR | F64, Jb),
    [0xec] = ONE(IN, 0, IOPL, W(rAL), rDXw),
    [0xed] = ONE(IN, 0, IOPL | OPZ, W(rAXz), rDXw),
    [0xee] = ONE(OUT, 0, IOPL | INSN_A_BYTE, rDXw, rAL),
    [0xef] = ONE(OUT, 0, IOPL | OPZ, rDXw, rAXz),

    [0xf1] = ONE(INT1, 0, BR | FR, NO),
    [0xf4] = ONE(HLT, 0, BR | PRIV, NO),
    [0xf5] = ONE(CMC, 0, FRW, NO),
    [0xf6] = GRP3(Eb, Ib),
    [0xf7] = GRP3(Ev, Iz),
    [0xf8] = ONE(CLC, 0, FW, NO),
    [0xf9] = ONE(STC, 0, FW, NO),
    [0xfa] = ONE(CLI, 0, IOPL, NO),
    [0xfb] = ONE(STI, 0, IOPL, NO),
    [0xfc] = ONE(CLD, 0, 0, NO),
    [0xfd] = ONE(STD, 0, 0, NO),
    [0xfe] = LIST(I(INC, SUB(0), FW | LK, RW(Eb)), I(DEC, SUB(1), FW | LK, RW(Eb))),
    [0xff] = LIST(I(INC, SUB(0), FW | LK, RW(Ev)), I(DEC, SUB(1), FW | LK, RW(Ev)),
                  I(CALL, SUB(2), BR | F64, Ev), I(CALL_FAR, SUB(3) | MEM, BR, Mp),
                  I(JMP, SUB(4), BR | F64, Ev), I(JMP_FAR, SUB(5) | MEM, BR, Mp),
                  I(PUSH, SUB(6), D64, Ev)),
};
