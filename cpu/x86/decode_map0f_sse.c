/* SPDX-License-Identifier: MIT */
/*
 * The MMX and SSE part of the 0F opcode map (SDM vol. 2 table A-3). All of it is native: what
 * matters is the exact size of the memory operand and which general registers are touched.
 */
#define INSN_TABLE_NAMES
#include "cpu/x86/decode_tables.h"

/* clang-format off */

/* MMX and its SSE2 widening. */
#define MX(o) [o] = LIST(N(BASE, NP, MMX, RW(Pq), Qq), N(BASE, P66, SSE, RW(Vx), Wx))
#define MXLOW(o) [o] = LIST(N(BASE, NP, MMX, RW(Pq), Qd), N(BASE, P66, SSE, RW(Vx), Wx))
/* ps pd / ps pd ss sd */
#define FP2(o) [o] = LIST(N(BASE, NP, SSE, RW(Vx), Wx), N(BASE, P66, SSE, RW(Vx), Wx))
#define FP4(o) [o] = LIST(N(BASE, NP, SSE, RW(Vx), Wx), N(BASE, P66, SSE, RW(Vx), Wx), \
                          N(BASE, PF3, SSE, RW(Vx), Wd), N(BASE, PF2, SSE, RW(Vx), Wq))
#define SHIFT_IMM(n) N(BASE, REG | SUB(n) | NP, MMX, RW(Nq), Ib), \
    N(BASE, REG | SUB(n) | P66, SSE, RW(Ux), Ib)

const struct insn_desc *const insn_map_0f_sse[256] = {
    [0x10] = LIST(N(BASE, NP, SSE | UNAL, W(Vx), Wx), N(BASE, P66, SSE | UNAL, W(Vx), Wx),
                  N(BASE, PF3 | MEM, SSE, W(Vx), Md), N(BASE, PF3, SSE, RW(Vx), Ux),
                  N(BASE, PF2 | MEM, SSE, W(Vx), Mq), N(BASE, PF2, SSE, RW(Vx), Ux)),
    [0x11] = LIST(N(BASE, NP, SSE | UNAL, W(Wx), Vx), N(BASE, P66, SSE | UNAL, W(Wx), Vx),
                  N(BASE, PF3 | MEM, SSE, W(Md), Vx), N(BASE, PF3, SSE, RW(Ux), Vx),
                  N(BASE, PF2 | MEM, SSE, W(Mq), Vx), N(BASE, PF2, SSE, RW(Ux), Vx)),
    [0x12] = LIST(N(BASE, NP | MEM, SSE, RW(Vx), Mq), N(BASE, NP, SSE, RW(Vx), Ux),
                  N(BASE, P66 | MEM, SSE, RW(Vx), Mq),
                  N(SSE3, PF3, SSE, W(Vx), Wx), N(SSE3, PF2, SSE, W(Vx), Wq)),
    [0x13] = LIST(N(BASE, NFX | MEM, SSE, W(Mq), Vx)),
    FP2(0x14), FP2(0x15),
    [0x16] = LIST(N(BASE, NP | MEM, SSE, RW(Vx), Mq), N(BASE, NP, SSE, RW(Vx), Ux),
                  N(BASE, P66 | MEM, SSE, RW(Vx), Mq), N(SSE3, PF3, SSE, W(Vx), Wx)),
    [0x17] = LIST(N(BASE, NFX | MEM, SSE, W(Mq), Vx)),
    [0x28] = LIST(N(BASE, NFX, SSE, W(Vx), Wx)),
    [0x29] = LIST(N(BASE, NFX, SSE, W(Wx), Vx)),
    [0x2a] = LIST(N(BASE, NP, SSE | MMX, RW(Vx), Qq), N(BASE, P66, SSE | MMX, W(Vx), Qq),
                  N(BASE, PF3, SSE, RW(Vx), Ey), N(BASE, PF2, SSE, RW(Vx), Ey)),
    [0x2b] = LIST(N(BASE, NFX | MEM, SSE, W(Mx), Vx),
                  N(SSE4A, PF3 | MEM, SSE, W(Md), Vx), N(SSE4A, PF2 | MEM, SSE, W(Mq), Vx)),
    [0x2c] = LIST(N(BASE, NP, SSE | MMX, W(Pq), Wq), N(BASE, P66, SSE | MMX, W(Pq), Wx),
                  N(BASE, PF3, SSE, W(Gy), Wd), N(BASE, PF2, SSE, W(Gy), Wq)),
    [0x2d] = LIST(N(BASE, NP, SSE | MMX, W(Pq), Wq), N(BASE, P66, SSE | MMX, W(Pq), Wx),
                  N(BASE, PF3, SSE, W(Gy), Wd), N(BASE, PF2, SSE, W(Gy), Wq)),
    [0x2e] = LIST(N(BASE, NP, SSE | FW, Vx, Wd), N(BASE, P66, SSE | FW, Vx, Wq)),
    [0x2f] = LIST(N(BASE, NP, SSE | FW, Vx, Wd), N(BASE, P66, SSE | FW, Vx, Wq)),

    [0x50] = LIST(N(BASE, NFX | REG, SSE, W(Gy), Ux)),
    [0x51] = LIST(N(BASE, NFX, SSE, W(Vx), Wx),
                  N(BASE, PF3, SSE, RW(Vx), Wd), N(BASE, PF2, SSE, RW(Vx), Wq)),
    [0x52] = LIST(N(BASE, NP, SSE, W(Vx), Wx), N(BASE, PF3, SSE, RW(Vx), Wd)),
    [0x53] = LIST(N(BASE, NP, SSE, W(Vx), Wx), N(BASE, PF3, SSE, RW(Vx), Wd)),
    FP2(0x54), FP2(0x55), FP2(0x56), FP2(0x57),
    FP4(0x58), FP4(0x59),
    [0x5a] = LIST(N(BASE, NP, SSE, W(Vx), Wq), N(BASE, P66, SSE, W(Vx), Wx),
                  N(BASE, PF3, SSE, RW(Vx), Wd), N(BASE, PF2, SSE, RW(Vx), Wq)),
    [0x5b] = LIST(N(BASE, NFX, SSE, W(Vx), Wx), N(BASE, PF3, SSE, W(Vx), Wx)),
    FP4(0x5c), FP4(0x5d), FP4(0x5e), FP4(0x5f),

    MXLOW(0x60), MXLOW(0x61), MXLOW(0x62),
    MX(0x63), MX(0x64), MX(0x65), MX(0x66), MX(0x67), MX(0x68), MX(0x69), MX(0x6a), MX(0x6b),
    [0x6c] = LIST(N(BASE, P66, SSE, RW(Vx), Wx)),
    [0x6d] = LIST(N(BASE, P66, SSE, RW(Vx), Wx)),
    [0x6e] = LIST(N(BASE, NP, MMX, W(Pq), Ey), N(BASE, P66, SSE, W(Vx), Ey)),
    [0x6f] = LIST(N(BASE, NP, MMX, W(Pq), Qq), N(BASE, P66, SSE, W(Vx), Wx),
                  N(BASE, PF3, SSE | UNAL, W(Vx), Wx)),
    [0x70] = LIST(N(BASE, NP, MMX, W(Pq), Qq, Ib), N(BASE, P66, SSE, W(Vx), Wx, Ib),
                  N(BASE, PF3, SSE, W(Vx), Wx, Ib), N(BASE, PF2, SSE, W(Vx), Wx, Ib)),
    [0x71] = LIST(SHIFT_IMM(2), SHIFT_IMM(4), SHIFT_IMM(6)),
    [0x72] = LIST(SHIFT_IMM(2), SHIFT_IMM(4), SHIFT_IMM(6)),
    [0x73] = LIST(SHIFT_IMM(2), SHIFT_IMM(6), N(BASE, REG | SUB(3) | P66, SSE, RW(Ux), Ib),
                  N(BASE, REG | SUB(7) | P66, SSE, RW(Ux), Ib)),
    MX(0x74), MX(0x75), MX(0x76),
    [0x77] = LIST(N(BASE, NP, MMX, NO)), /* EMMS */
    [0x78] = LIST(I(VMX, NP, FW, W(INSN_OPC(X_E, S_YM)), Gm),
                  N(SSE4A, P66 | REG | SUB(0), SSE, RW(Ux), Ib, Ib2),
                  N(SSE4A, PF2 | REG, SSE, RW(Vx), Ux, Ib, Ib2)),
    [0x79] = LIST(I(VMX, NP, FW, Gm, INSN_OPC(X_E, S_YM)),
                  N(SSE4A, P66 | REG, SSE, RW(Vx), Ux), N(SSE4A, PF2 | REG, SSE, RW(Vx), Ux)),
    [0x7c] = LIST(N(SSE3, P66, SSE, RW(Vx), Wx), N(SSE3, PF2, SSE, RW(Vx), Wx)),
    [0x7d] = LIST(N(SSE3, P66, SSE, RW(Vx), Wx), N(SSE3, PF2, SSE, RW(Vx), Wx)),
    [0x7e] = LIST(N(BASE, NP, MMX, W(Ey), Pq), N(BASE, P66, SSE, W(Ey), Vx),
                  N(BASE, PF3, SSE, W(Vx), Wq)),
    [0x7f] = LIST(N(BASE, NP, MMX, W(Qq), Pq), N(BASE, P66, SSE, W(Wx), Vx),
                  N(BASE, PF3, SSE | UNAL, W(Wx), Vx)),

    [0xc2] = LIST(N(BASE, NFX, SSE, RW(Vx), Wx, Ib), N(BASE, PF3, SSE, RW(Vx), Wd, Ib),
                  N(BASE, PF2, SSE, RW(Vx), Wq, Ib)),
    [0xc4] = LIST(N(BASE, NP, MMX, RW(Pq), EdMw, Ib), N(BASE, P66, SSE, RW(Vx), EdMw, Ib)),
    [0xc5] = LIST(N(BASE, NP | REG, MMX, W(Gd), Nq, Ib),
                  N(BASE, P66 | REG, SSE, W(Gd), Ux, Ib)),
    [0xc6] = LIST(N(BASE, NFX, SSE, RW(Vx), Wx, Ib)),

    [0xd0] = LIST(N(SSE3, P66, SSE, RW(Vx), Wx), N(SSE3, PF2, SSE, RW(Vx), Wx)),
    MX(0xd1), MX(0xd2), MX(0xd3), MX(0xd4), MX(0xd5),
    [0xd6] = LIST(N(BASE, P66, SSE, W(Wq), Vx), N(BASE, PF3 | REG, SSE | MMX, W(Vx), Nq),
                  N(BASE, PF2 | REG, SSE | MMX, W(Pq), Ux)),
    [0xd7] = LIST(N(BASE, NP | REG, MMX, W(Gd), Nq), N(BASE, P66 | REG, SSE, W(Gd), Ux)),
    MX(0xd8), MX(0xd9), MX(0xda), MX(0xdb), MX(0xdc), MX(0xdd), MX(0xde), MX(0xdf),
    MX(0xe0), MX(0xe1), MX(0xe2), MX(0xe3), MX(0xe4), MX(0xe5),
    [0xe6] = LIST(N(BASE, P66, SSE, W(Vx), Wx), N(BASE, PF3, SSE, W(Vx), Wq),
                  N(BASE, PF2, SSE, W(Vx), Wx)),
    [0xe7] = LIST(N(BASE, NP | MEM, MMX, W(Mq), Pq), N(BASE, P66 | MEM, SSE, W(Mx), Vx)),
    MX(0xe8), MX(0xe9), MX(0xea), MX(0xeb), MX(0xec), MX(0xed), MX(0xee), MX(0xef),
    [0xf0] = LIST(N(SSE3, PF2 | MEM, SSE | UNAL, W(Vx), Mx)),
    MX(0xf1), MX(0xf2), MX(0xf3), MX(0xf4), MX(0xf5), MX(0xf6),
    [0xf7] = LIST(N(BASE, NP | REG, MMX | INSN_F_MEM_IMPLICIT, Pq, Nq, rDIm),
                  N(BASE, P66 | REG, SSE | INSN_F_MEM_IMPLICIT, Vx, Ux, rDIm)),
    MX(0xf8), MX(0xf9), MX(0xfa), MX(0xfb), MX(0xfc), MX(0xfd), MX(0xfe),
};
