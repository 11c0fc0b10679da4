/* SPDX-License-Identifier: MIT */
/*
 * The three VEX opcode maps (SDM vol. 2 appendix A and the pages of the single instructions for
 W and L).
 * Conditions on W and L are given only where another value is #UD. Scalars ignore L.
 * AVX-512 mask instructions, AMX,
 AVX-VNNI and AMD's FMA4 and VPERMIL2 are here for their lengths; guests never see them.
 */
#define INSN_TABLE_NAMES
#include "cpu/x86/decode_tables.h"

/* clang-format off */

#define P3(o) [o] = LIST(N(AVX, P66, AV2, W(Vx), Hx, Wx))   /* packed integer, three operands */
#define P2(o) [o] = LIST(N(AVX, P66, AV2, W(Vx), Wx))
#define PSH(o) [o] = LIST(N(AVX, P66, AV2, W(Vx), Hx, Wdq)) /* shift count in an XMM */
#define PI(o) [o] = LIST(N(AVX, P66, AV2, W(Vx), Hx, Wx, Ib))
#define FV2(o) [o] = LIST(N(AVX, NFX, AVX, W(Vx), Hx, Wx))
#define FV4(o) [o] = LIST(N(AVX, NFX, AVX, W(Vx), Hx, Wx), \
                          N(AVX, PF3, AVX, W(Vdq), Hdq, Wd), N(AVX, PF2, AVX, W(Vdq), Hdq, Wq))
#define SHI(n) N(AVX, P66 | REG | SUB(n), AV2, W(Hx), Ux, Ib)
#define KBIN(o) [o] = LIST(N(AVX512, NFX | L1, VNR, W(KG), KH, KR))

const struct insn_desc *const insn_vex_0f[256] = {
    [0x10] = LIST(N(AVX, NFX, AVX, W(Vx), Wx),
                  N(AVX, PF3 | MEM, AVX, W(Vdq), Md), N(AVX, PF3, AVX, W(Vdq), Hdq, Udq),
                  N(AVX, PF2 | MEM, AVX, W(Vdq), Mq), N(AVX, PF2, AVX, W(Vdq), Hdq, Udq)),
    [0x11] = LIST(N(AVX, NFX, AVX, W(Wx), Vx),
                  N(AVX, PF3 | MEM, AVX, W(Md), Vdq), N(AVX, PF3, AVX, W(Udq), Hdq, Vdq),
                  N(AVX, PF2 | MEM, AVX, W(Mq), Vdq), N(AVX, PF2, AVX, W(Udq), Hdq, Vdq)),
    [0x12] = LIST(N(AVX, NP | L0, AVX, W(Vx), Hx, Wq),
                  N(AVX, P66 | L0 | MEM, AVX, W(Vx), Hx, Mq),
                  N(AVX, PF3, AVX, W(Vx), Wx),
                  N(AVX, PF2 | L0, AVX, W(Vx), Wq), N(AVX, PF2, AVX, W(Vx), Wx)),
    [0x13] = LIST(N(AVX, NFX | L0 | MEM, AVX, W(Mq), Vx)),
    FV2(0x14), FV2(0x15),
    [0x16] = LIST(N(AVX, NP | L0, AVX, W(Vx), Hx, Wq),
                  N(AVX, P66 | L0 | MEM, AVX, W(Vx), Hx, Mq),
                  N(AVX, PF3, AVX, W(Vx), Wx)),
    [0x17] = LIST(N(AVX, NFX | L0 | MEM, AVX, W(Mq), Vx)),
    [0x28] = LIST(N(AVX, NFX, AVX | ALN, W(Vx), Wx)),
    [0x29] = LIST(N(AVX, NFX, AVX | ALN, W(Wx), Vx)),
    [0x2a] = LIST(N(AVX, PF3, AVX, W(Vdq), Hdq, Ey), N(AVX, PF2, AVX, W(Vdq), Hdq, Ey)),
    [0x2b] = LIST(N(AVX, NFX | MEM, AVX | ALN, W(Mx), Vx)),
    [0x2c] = LIST(N(AVX, PF3, AVX, W(Gy), Wd), N(AVX, PF2, AVX, W(Gy), Wq)),
    [0x2d] = LIST(N(AVX, PF3, AVX, W(Gy), Wd), N(AVX, PF2, AVX, W(Gy), Wq)),
    [0x2e] = LIST(N(AVX, NP, AVX | FW, Vdq, Wd), N(AVX, P66, AVX | FW, Vdq, Wq)),
    [0x2f] = LIST(N(AVX, NP, AVX | FW, Vdq, Wd), N(AVX, P66, AVX | FW, Vdq, Wq)),

    KBIN(0x41), KBIN(0x42),
    [0x44] = LIST(N(AVX512, NFX | L0 | REG, VNR, W(KG), KR)),
    KBIN(0x45), KBIN(0x46), KBIN(0x47), KBIN(0x4a), KBIN(0x4b),

    [0x50] = LIST(N(AVX, NFX | REG, AVX, W(Gd), Ux)),
    [0x51] = LIST(N(AVX, NFX, AVX, W(Vx), Wx),
                  N(AVX, PF3, AVX, W(Vdq), Hdq, Wd), N(AVX, PF2, AVX, W(Vdq), Hdq, Wq)),
    [0x52] = LIST(N(AVX, NP, AVX, W(Vx), Wx), N(AVX, PF3, AVX, W(Vdq), Hdq, Wd)),
    [0x53] = LIST(N(AVX, NP, AVX, W(Vx), Wx), N(AVX, PF3, AVX, W(Vdq), Hdq, Wd)),
    FV2(0x54), FV2(0x55), FV2(0x56), FV2(0x57),
    FV4(0x58), FV4(0x59),
    [0x5a] = LIST(N(AVX, NP, AVX, W(Vx), Wxh), N(AVX, P66, AVX, W(Vxh), Wx),
                  N(AVX, PF3, AVX, W(Vdq), Hdq, Wd), N(AVX, PF2, AVX, W(Vdq), Hdq, Wq)),
    [0x5b] = LIST(N(AVX, NFX, AVX, W(Vx), Wx), N(AVX, PF3, AVX, W(Vx), Wx)),
    FV4(0x5c), FV4(0x5d), FV4(0x5e), FV4(0x5f),

    P3(0x60), P3(0x61), P3(0x62), P3(0x63), P3(0x64), P3(0x65), P3(0x66), P3(0x67),
    P3(0x68), P3(0x69), P3(0x6a), P3(0x6b), P3(0x6c), P3(0x6d),
    [0x6e] = LIST(N(AVX, P66 | L0, AVX, W(Vx), Ey)),
    [0x6f] = LIST(N(AVX, P66, AVX | ALN, W(Vx), Wx), N(AVX, PF3, AVX, W(Vx), Wx)),
    [0x70] = LIST(N(AVX, P66, AV2, W(Vx), Wx, Ib), N(AVX, PF3, AV2, W(Vx), Wx, Ib),
                  N(AVX, PF2, AV2, W(Vx), Wx, Ib)),
    [0x71] = LIST(SHI(2), SHI(4), SHI(6)),
    [0x72] = LIST(SHI(2), SHI(4), SHI(6)),
    [0x73] = LIST(SHI(2), SHI(3), SHI(6), SHI(7)),
    P3(0x74), P3(0x75), P3(0x76),
    [0x77] = LIST(N(AVX, NP, AVX, NO)), /* VZEROUPPER VZEROALL */
    [0x7c] = LIST(N(AVX, P66, AVX, W(Vx), Hx, Wx), N(AVX, PF2, AVX, W(Vx), Hx, Wx)),
    [0x7d] = LIST(N(AVX, P66, AVX, W(Vx), Hx, Wx), N(AVX, PF2, AVX, W(Vx), Hx, Wx)),
    [0x7e] = LIST(N(AVX, P66 | L0, AVX, W(Ey), Vx), N(AVX, PF3 | L0, AVX, W(Vx), Wq)),
    [0x7f] = LIST(N(AVX, P66, AVX | ALN, W(Wx), Vx), N(AVX, PF3, AVX, W(Wx), Vx)),

    [0x90] = LIST(N(AVX512, NP | L0 | W0, VNR, W(KG), KE(S_W)),
                  N(AVX512, NP | L0 | W1, VNR, W(KG), KE(S_Q)),
                  N(AVX512, P66 | L0 | W0, VNR, W(KG), KE(S_B)),
                  N(AVX512, P66 | L0 | W1, VNR, W(KG), KE(S_D))),
    [0x91] = LIST(N(AVX512, NP | L0 | W0 | MEM, VNR, W(KE(S_W)), KG),
                  N(AVX512, NP | L0 | W1 | MEM, VNR, W(KE(S_Q)), KG),
                  N(AVX512, P66 | L0 | W0 | MEM, VNR, W(KE(S_B)), KG),
                  N(AVX512, P66 | L0 | W1 | MEM, VNR, W(KE(S_D)), KG)),
    [0x92] = LIST(N(AVX512, NFX | L0 | W0, VNR, W(KG), Rd),
                  N(AVX512, PF2 | L0, VNR, W(KG), Ry)),
    [0x93] = LIST(N(AVX512, NFX | L0 | W0, VNR, W(Gd), KR),
                  N(AVX512, PF2 | L0, VNR, W(Gy), KR)),
    [0x98] = LIST(N(AVX512, NFX | L0 | REG, VNR | FW, KG, KR)),
    [0x99] = LIST(N(AVX512, NFX | L0 | REG, VNR | FW, KG, KR)),

    [0xae] = LIST(N(AVX, NP | L0 | MEM | SUB(2), AVX, Md),
                  N(AVX, NP | L0 | MEM | SUB(3), AVX, W(Md))),
    [0xc2] = LIST(N(AVX, NFX, AVX, W(Vx), Hx, Wx, Ib), N(AVX, PF3, AVX, W(Vdq), Hdq, Wd, Ib),
                  N(AVX, PF2, AVX, W(Vdq), Hdq, Wq, Ib)),
    [0xc4] = LIST(N(AVX, P66 | L0, AVX, W(Vx), Hx, EdMw, Ib)),
    [0xc5] = LIST(N(AVX, P66 | L0 | REG, AVX, W(Gd), Ux, Ib)),
    [0xc6] = LIST(N(AVX, NFX, AVX, W(Vx), Hx, Wx, Ib)),
    [0xd0] = LIST(N(AVX, P66, AVX, W(Vx), Hx, Wx), N(AVX, PF2, AVX, W(Vx), Hx, Wx)),
    PSH(0xd1), PSH(0xd2), PSH(0xd3), P3(0xd4), P3(0xd5),
    [0xd6] = LIST(N(AVX, P66 | L0, AVX, W(Wq), Vx)),
    [0xd7] = LIST(N(AVX, P66 | REG, AV2, W(Gd), Ux)),
    P3(0xd8), P3(0xd9), P3(0xda), P3(0xdb), P3(0xdc), P3(0xdd), P3(0xde), P3(0xdf),
    P3(0xe0), PSH(0xe1), PSH(0xe2), P3(0xe3), P3(0xe4), P3(0xe5),
    [0xe6] = LIST(N(AVX, P66, AVX, W(Vxh), Wx), N(AVX, PF3, AVX, W(Vx), Wxh),
                  N(AVX, PF2, AVX, W(Vxh), Wx)),
    [0xe7] = LIST(N(AVX, P66 | MEM, AVX | ALN, W(Mx), Vx)),
    P3(0xe8), P3(0xe9), P3(0xea), P3(0xeb), P3(0xec), P3(0xed), P3(0xee), P3(0xef),
    [0xf0] = LIST(N(AVX, PF2 | MEM, AVX, W(Vx), Mx)),
    PSH(0xf1), PSH(0xf2), PSH(0xf3), P3(0xf4), P3(0xf5), P3(0xf6),
    [0xf7] = LIST(N(AVX, P66 | L0 | REG, AVX | INSN_F_MEM_IMPLICIT, Vx, Ux, rDIm)),
    P3(0xf8), P3(0xf9), P3(0xfa), P3(0xfb), P3(0xfc), P3(0xfd), P3(0xfe),
};

#define FMAP(o) [o] = LIST(N(FMA, P66, AVX, RW(Vx), Hx, Wx))
#define FMAS(o) [o] = LIST(N(FMA, P66 | W0, AVX, RW(Vdq), Hdq, Wd), \
                  N(FMA, P66, AVX, RW(Vdq), Hdq, Wq))
#define FMA12(o) FMAP(o + 0), FMAP(o + 1), FMAP(o + 2), FMAS(o + 3), FMAP(o + 4), FMAS(o + 5), \
    FMAP(o + 6), FMAS(o + 7), FMAP(o + 8), FMAS(o + 9)
#define GAT (AVX | INSN_F_VSIB | INSN_F_MASKED_MEM)
#define MASKED (AVX | INSN_F_MASKED_MEM)
#define VNNI(o) [o] = LIST(N(OTHER, P66 | W0, AVX, RW(Vx), Hx, Wx))
#define GPR3(feat, pp, fl, ...) N(feat, pp | L0, VNR | (fl), __VA_ARGS__)

const struct insn_desc *const insn_vex_0f38[256] = {
    P3(0x00), P3(0x01), P3(0x02), P3(0x03), P3(0x04), P3(0x05), P3(0x06), P3(0x07),
    P3(0x08), P3(0x09), P3(0x0a), P3(0x0b),
    [0x0c] = LIST(N(AVX, P66 | W0, AVX, W(Vx), Hx, Wx)),
    [0x0d] = LIST(N(AVX, P66 | W0, AVX, W(Vx), Hx, Wx)),
    [0x0e] = LIST(N(AVX, P66 | W0, AVX | FW, Vx, Wx)),
    [0x0f] = LIST(N(AVX, P66 | W0, AVX | FW, Vx, Wx)),
    [0x13] = LIST(N(F16C, P66 | W0, AVX, W(Vx), Wxh)),
    [0x16] = LIST(N(AVX2, P66 | W0 | L1, AVX, W(Vx), Hx, Wx)),
    [0x17] = LIST(N(AVX, P66, AVX | FW, Vx, Wx)),
    [0x18] = LIST(N(AVX, P66 | W0 | MEM, AVX, W(Vx), Md), N(AVX2, P66 | W0, AVX, W(Vx), Udq)),
    [0x19] = LIST(N(AVX, P66 | W0 | L1 | MEM, AVX, W(Vx), Mq),
                  N(AVX2, P66 | W0 | L1, AVX, W(Vx), Udq)),
    [0x1a] = LIST(N(AVX, P66 | W0 | L1 | MEM, AVX, W(Vx), Mdq)),
    P2(0x1c), P2(0x1d), P2(0x1e),
    [0x20] = LIST(N(AVX, P66, AV2, W(Vx), Wxh)),
    [0x21] = LIST(N(AVX, P66, AV2, W(Vx), Wxq)),
    [0x22] = LIST(N(AVX, P66, AV2, W(Vx), Wxe)),
    [0x23] = LIST(N(AVX, P66, AV2, W(Vx), Wxh)),
    [0x24] = LIST(N(AVX, P66, AV2, W(Vx), Wxq)),
    [0x25] = LIST(N(AVX, P66, AV2, W(Vx), Wxh)),
    P3(0x28), P3(0x29),
    [0x2a] = LIST(N(AVX, P66 | MEM, AV2 | ALN, W(Vx), Mx)),
    P3(0x2b),
    [0x2c] = LIST(N(AVX, P66 | W0 | MEM, MASKED, W(Vx), Hx, Mx)),
    [0x2d] = LIST(N(AVX, P66 | W0 | MEM, MASKED, W(Vx), Hx, Mx)),
    [0x2e] = LIST(N(AVX, P66 | W0 | MEM, MASKED, W(Mx), Hx, Vx)),
    [0x2f] = LIST(N(AVX, P66 | W0 | MEM, MASKED, W(Mx), Hx, Vx)),
    [0x30] = LIST(N(AVX, P66, AV2, W(Vx), Wxh)),
    [0x31] = LIST(N(AVX, P66, AV2, W(Vx), Wxq)),
    [0x32] = LIST(N(AVX, P66, AV2, W(Vx), Wxe)),
    [0x33] = LIST(N(AVX, P66, AV2, W(Vx), Wxh)),
    [0x34] = LIST(N(AVX, P66, AV2, W(Vx), Wxq)),
    [0x35] = LIST(N(AVX, P66, AV2, W(Vx), Wxh)),
    [0x36] = LIST(N(AVX2, P66 | W0 | L1, AVX, W(Vx), Hx, Wx)),
    P3(0x37), P3(0x38), P3(0x39), P3(0x3a), P3(0x3b), P3(0x3c), P3(0x3d), P3(0x3e), P3(0x3f),
    P3(0x40),
    [0x41] = LIST(N(AVX, P66 | L0, AVX, W(Vx), Wx)),
    [0x45] = LIST(N(AVX2, P66, AVX, W(Vx), Hx, Wx)),
    [0x46] = LIST(N(AVX2, P66 | W0, AVX, W(Vx), Hx, Wx)),
    [0x47] = LIST(N(AVX2, P66, AVX, W(Vx), Hx, Wx)),
    /* AMX: lengths only. */
    [0x49] = LIST(N(AMX, NP | L0 | W0 | MEM | SUB(0), VNR, Mzz),
                  N(AMX, P66 | L0 | W0 | MEM | SUB(0), VNR, W(Mzz)),
                  N(AMX, NP | L0 | W0 | MRM(0xc0), VNR, NO),
                  N(AMX, PF2 | L0 | W0 | REG, VNR, NO)),
    [0x4b] = LIST(N(AMX, L0 | W0 | MEM, VNR, M0)),
    VNNI(0x50), VNNI(0x51), VNNI(0x52), VNNI(0x53),
    [0x58] = LIST(N(AVX2, P66 | W0, AVX, W(Vx), Wd)),
    [0x59] = LIST(N(AVX2, P66 | W0, AVX, W(Vx), Wq)),
    [0x5a] = LIST(N(AVX2, P66 | W0 | L1 | MEM, AVX, W(Vx), Mdq)),
    [0x5c] = LIST(N(AMX, L0 | W0 | REG, VNR, Hx)),
    [0x5e] = LIST(N(AMX, L0 | W0 | REG, VNR, Hx)),
    [0x78] = LIST(N(AVX2, P66 | W0, AVX, W(Vx), Wb)),
    [0x79] = LIST(N(AVX2, P66 | W0, AVX, W(Vx), Ww)),
    [0x8c] = LIST(N(AVX2, P66 | MEM, MASKED, W(Vx), Hx, Mx)),
    [0x8e] = LIST(N(AVX2, P66 | MEM, MASKED, W(Mx), Hx, Vx)),
    /* Gathers: dword index 90 92, qword index 91 93 (dword data then fills half a register). */
    [0x90] = LIST(N(AVX2, P66 | W0, GAT, RW(Vx), MVd, RW(Hx)),
                  N(AVX2, P66, GAT, RW(Vx), MVq, RW(Hx))),
    [0x91] = LIST(N(AVX2, P66 | W0, GAT, RW(Vxh), MVd, RW(Hxh)),
                  N(AVX2, P66, GAT, RW(Vx), MVq, RW(Hx))),
    [0x92] = LIST(N(AVX2, P66 | W0, GAT, RW(Vx), MVd, RW(Hx)),
                  N(AVX2, P66, GAT, RW(Vx), MVq, RW(Hx))),
    [0x93] = LIST(N(AVX2, P66 | W0, GAT, RW(Vxh), MVd, RW(Hxh)),
                  N(AVX2, P66, GAT, RW(Vx), MVq, RW(Hx))),
    FMA12(0x96), FMA12(0xa6), FMA12(0xb6),
    [0xcf] = LIST(N(GFNI, P66 | W0, AVX, W(Vx), Hx, Wx)),
    [0xdb] = LIST(N(AES, P66 | L0, AVX, W(Vx), Wx)),
    [0xdc] = LIST(N(AES, P66 | L0, AVX, W(Vx), Hx, Wx), N(VAES, P66, AVX, W(Vx), Hx, Wx)),
    [0xdd] = LIST(N(AES, P66 | L0, AVX, W(Vx), Hx, Wx), N(VAES, P66, AVX, W(Vx), Hx, Wx)),
    [0xde] = LIST(N(AES, P66 | L0, AVX, W(Vx), Hx, Wx), N(VAES, P66, AVX, W(Vx), Hx, Wx)),
    [0xdf] = LIST(N(AES, P66 | L0, AVX, W(Vx), Hx, Wx), N(VAES, P66, AVX, W(Vx), Hx, Wx)),
    [0xf2] = LIST(GPR3(BMI1, NP, FW, W(Gy), By, Ey)),                /* ANDN */
    [0xf3] = LIST(GPR3(BMI1, NP | SUB(1), FW, W(By), Ey),
                  GPR3(BMI1, NP | SUB(2), FW, W(By), Ey),
                  GPR3(BMI1, NP | SUB(3), FW, W(By), Ey)),           /* BLSR BLSMSK BLSI */
    [0xf5] = LIST(GPR3(BMI2, NP, FW, W(Gy), Ey, By),                 /* BZHI */
                  GPR3(BMI2, PF3, 0, W(Gy), By, Ey),
                  GPR3(BMI2, PF2, 0, W(Gy), By, Ey)), /* PEXT PDEP */
    [0xf6] = LIST(GPR3(BMI2, PF2, 0, W(Gy), W(By), Ey, rDXy)),       /* MULX */
    [0xf7] = LIST(GPR3(BMI1, NP, FW, W(Gy), Ey, By),
                  GPR3(BMI2, P66, 0, W(Gy), Ey, By), /* BEXTR SHLX */
                  GPR3(BMI2, PF3, 0, W(Gy), Ey, By),
                  GPR3(BMI2, PF2, 0, W(Gy), Ey, By)), /* SARX SHRX */
};

/* FMA4: W exchanges the two last sources. */
#define F4P(o) [o] = LIST(N(FMA4, P66 | W0, AVX, W(Vx), Hx, Wx, Lx), \
                  N(FMA4, P66, AVX, W(Vx), Hx, Lx, Wx))
#define F4S(o, w) [o] = LIST(N(FMA4, P66 | W0, AVX, W(Vdq), Hdq, w, Ldq), \
                  N(FMA4, P66, AVX, W(Vdq), Hdq, Ldq, w))
#define KSHIFT(o) [o] = LIST(N(AVX512, P66 | L0 | REG, VNR, W(KG), KR, Ib))
#define L0I(o, ...) [o] = LIST(N(AVX, P66 | L0, AVX, __VA_ARGS__))

const struct insn_desc *const insn_vex_0f3a[256] = {
    [0x00] = LIST(N(AVX2, P66 | W1 | L1, AVX, W(Vx), Wx, Ib)),
    [0x01] = LIST(N(AVX2, P66 | W1 | L1, AVX, W(Vx), Wx, Ib)),
    [0x02] = LIST(N(AVX2, P66 | W0, AVX, W(Vx), Hx, Wx, Ib)),
    [0x04] = LIST(N(AVX, P66 | W0, AVX, W(Vx), Wx, Ib)),
    [0x05] = LIST(N(AVX, P66 | W0, AVX, W(Vx), Wx, Ib)),
    [0x06] = LIST(N(AVX, P66 | W0 | L1, AVX, W(Vx), Hx, Wx, Ib)),
    [0x08] = LIST(N(AVX, P66, AVX, W(Vx), Wx, Ib)),
    [0x09] = LIST(N(AVX, P66, AVX, W(Vx), Wx, Ib)),
    [0x0a] = LIST(N(AVX, P66, AVX, W(Vdq), Hdq, Wd, Ib)),
    [0x0b] = LIST(N(AVX, P66, AVX, W(Vdq), Hdq, Wq, Ib)),
    [0x0c] = LIST(N(AVX, P66, AVX, W(Vx), Hx, Wx, Ib)),
    [0x0d] = LIST(N(AVX, P66, AVX, W(Vx), Hx, Wx, Ib)),
    PI(0x0e), PI(0x0f),
    L0I(0x14, W(EdMb), Vx, Ib), L0I(0x15, W(EdMw), Vx, Ib), L0I(0x16, W(Ey), Vx, Ib),
    L0I(0x17, W(Ed), Vx, Ib),
    [0x18] = LIST(N(AVX, P66 | W0 | L1, AVX, W(Vx), Hx, Wdq, Ib)),
    [0x19] = LIST(N(AVX, P66 | W0 | L1, AVX, W(Wdq), Vx, Ib)),
    [0x1d] = LIST(N(F16C, P66 | W0, AVX, W(Wxh), Vx, Ib)),
    L0I(0x20, W(Vx), Hx, EdMb, Ib), L0I(0x21, W(Vx), Hx, Wd, Ib), L0I(0x22, W(Vx), Hx, Ey, Ib),
    KSHIFT(0x30), KSHIFT(0x31), KSHIFT(0x32), KSHIFT(0x33),
    [0x38] = LIST(N(AVX2, P66 | W0 | L1, AVX, W(Vx), Hx, Wdq, Ib)),
    [0x39] = LIST(N(AVX2, P66 | W0 | L1, AVX, W(Wdq), Vx, Ib)),
    [0x40] = LIST(N(AVX, P66, AVX, W(Vx), Hx, Wx, Ib)),
    L0I(0x41, W(Vx), Hx, Wx, Ib),
    PI(0x42),
    [0x44] = LIST(N(PCLMUL, P66 | L0, AVX, W(Vx), Hx, Wx, Ib),
                  N(VPCLMUL, P66, AVX, W(Vx), Hx, Wx, Ib)),
    [0x46] = LIST(N(AVX2, P66 | W0 | L1, AVX, W(Vx), Hx, Wx, Ib)),
    [0x48] = LIST(N(XOP, P66 | W0, AVX, W(Vx), Hx, Wx, Lx),
                  N(XOP, P66, AVX, W(Vx), Hx, Lx, Wx)),
    [0x49] = LIST(N(XOP, P66 | W0, AVX, W(Vx), Hx, Wx, Lx),
                  N(XOP, P66, AVX, W(Vx), Hx, Lx, Wx)),
    [0x4a] = LIST(N(AVX, P66 | W0, AVX, W(Vx), Hx, Wx, Lx)),
    [0x4b] = LIST(N(AVX, P66 | W0, AVX, W(Vx), Hx, Wx, Lx)),
    [0x4c] = LIST(N(AVX, P66 | W0, AV2, W(Vx), Hx, Wx, Lx)),
    F4P(0x5c), F4P(0x5d), F4P(0x5e), F4P(0x5f),
    [0x60] = LIST(N(AVX, P66 | L0, AVX | FW, Vx, Wx, Ib, rAXy, rDXy, W(XMM0))),
    [0x61] = LIST(N(AVX, P66 | L0, AVX | FW, Vx, Wx, Ib, rAXy, rDXy, W(rCXd))),
    [0x62] = LIST(N(AVX, P66 | L0, AVX | FW, Vx, Wx, Ib, W(XMM0))),
    [0x63] = LIST(N(AVX, P66 | L0, AVX | FW, Vx, Wx, Ib, W(rCXd))),
    F4P(0x68), F4P(0x69), F4S(0x6a, Wd), F4S(0x6b, Wq), F4P(0x6c), F4P(0x6d), F4S(0x6e, Wd),
    F4S(0x6f, Wq),
    F4P(0x78), F4P(0x79), F4S(0x7a, Wd), F4S(0x7b, Wq), F4P(0x7c), F4P(0x7d), F4S(0x7e, Wd),
    F4S(0x7f, Wq),
    [0xce] = LIST(N(GFNI, P66 | W1, AVX, W(Vx), Hx, Wx, Ib)),
    [0xcf] = LIST(N(GFNI, P66 | W1, AVX, W(Vx), Hx, Wx, Ib)),
    [0xdf] = LIST(N(AES, P66 | L0, AVX, W(Vx), Wx, Ib)),
    [0xf0] = LIST(GPR3(BMI2, PF2, 0, W(Gy), Ey, Ib)), /* RORX */
};
