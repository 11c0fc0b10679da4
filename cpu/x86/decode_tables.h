/* SPDX-License-Identifier: MIT */
/*
 * The decoder's tables: one list of descriptors per opcode and map, tried from first to last. A
 * descriptor says when it applies (a mask and a value over a key made of prefixes, mode and
 * ModRM), what the instruction is, and its operands in the letters of the SDM's appendix A.
 * Private to the decoder and to tests that walk the tables; the short names are only for the
 * table files.
 */
#ifndef PVEMU_CPU_X86_DECODE_TABLES_H
#define PVEMU_CPU_X86_DECODE_TABLES_H

#include "cpu/x86/decode.h"

struct insn_desc {
    uint64_t cond;  /* high half: mask, low half: value, against the key below */
    uint32_t flags; /* enum insn_flags and enum insn_attr */
    uint16_t id;
    uint8_t feature;
    uint16_t op[INSN_MAX_OPERANDS]; /* operand codes; 0 ends */
};

/* A list ends with a descriptor that matches everything and is INSN_INVALID. */
extern const struct insn_desc *const insn_map_1[256];
extern const struct insn_desc *const insn_map_0f[256];
extern const struct insn_desc *const insn_map_0f_sse[256];
extern const struct insn_desc *const insn_map_0f38[256];
extern const struct insn_desc *const insn_map_0f3a[256];
extern const struct insn_desc *const insn_vex_0f[256];
extern const struct insn_desc *const insn_vex_0f38[256];
extern const struct insn_desc *const insn_vex_0f3a[256];
extern const struct insn_desc *const insn_x87[8];

/* The key: ModRM in bits 0..7 and these. */
enum insn_key {
    INSN_KEY_66 = 1 << 8,
    INSN_KEY_F3 = 1 << 9,
    INSN_KEY_F2 = 1 << 10,
    INSN_KEY_W = 1 << 11,   /* REX.W or VEX.W */
    INSN_KEY_L = 1 << 12,   /* VEX.L */
    INSN_KEY_64 = 1 << 13,  /* 64-bit mode */
    INSN_KEY_REG = 1 << 14, /* ModRM.mod is 3 */
    INSN_KEY_W64 = 1 << 15, /* W in 64-bit mode */
    INSN_KEY_B = 1 << 16,   /* REX.B */
};

/* Attributes only the decoder needs; they share a word with enum insn_flags. */
enum insn_attr {
    INSN_A_DEF64 = 1 << 22,     /* 64-bit operand size by default in 64-bit mode; 66 makes 16 */
    INSN_A_FORCE64 = 1 << 23,   /* always 64 in 64-bit mode (near branches) */
    INSN_A_OPZ = 1 << 24,       /* operand size at most 4 (I/O) */
    INSN_A_BYTE = 1 << 25,      /* operand size 1 although the first operand does not say so */
    INSN_A_REGFORM = 1 << 26,   /* ModRM.mod is ignored: always registers (MOV CRn) */
    INSN_A_UNALIGNED = 1 << 27, /* legacy SSE without the alignment rule */
    INSN_A_INT256 = 1 << 28,    /* feature AVX, but AVX2 for 256 bits */
    INSN_A_MASK = (int)0xffc00000u,
};

/* Where an operand comes from. */
enum insn_src {
    X_NONE,
    X_E,
    X_R,
    X_M,
    X_G, /* ModRM: GPR or memory, GPR only, memory only; reg field */
    X_Z, /* low opcode bits */
    X_AX,
    X_CX,
    X_DX,
    X_BX,
    X_SI,
    X_DI, /* fixed GPR */
    X_B,  /* GPR in vvvv */
    X_IB,
    X_IBS,
    X_IW,
    X_ID,
    X_IZ,
    X_IV,
    X_I1,
    X_IB2, /* immediates */
    X_JB,
    X_JZ,
    X_O,
    X_AP, /* relative, moffs, far pointer */
    X_S,
    X_S0,
    X_S1,
    X_S2,
    X_S3,
    X_S4,
    X_S5,
    X_C,
    X_D, /* segment, control, debug */
    X_W,
    X_U,
    X_V,
    X_H,
    X_L,
    X_XMM0, /* vectors: rm or memory, rm, reg, vvvv, is4, XMM0 */
    X_MV,   /* memory with a vector index */
    X_Q,
    X_N,
    X_P, /* MMX: rm or memory, rm, reg */
    X_ST0,
    X_STI, /* x87 */
    X_KE,
    X_KR,
    X_KG,
    X_KH, /* mask: rm or memory, rm, reg, vvvv */
    X_SRC,
    X_DST, /* strings */
};

enum insn_size {
    S_0,
    S_B,
    S_W,
    S_D,
    S_Q,
    S_DQ,
    S_QQ,
    S_ZZ,
    S_T, /* 0 1 2 4 8 16 32 64 10 */
    S_VARIABLE,
    S_V = S_VARIABLE, /* operand size */
    S_Z,              /* operand size, at most 4 */
    S_Y,              /* 8 with W in 64-bit mode, else 4 */
    S_YM,             /* 8 in 64-bit mode, else 4 */
    S_X,
    S_XH,
    S_XQ,
    S_XE,  /* vector length and its fractions */
    S_P,   /* far pointer: operand size + 2 */
    S_A,   /* BOUND: twice the operand size */
    S_TBL, /* descriptor table: 2 + 4 or 8 */
    S_ENV,
    S_FSAVE, /* x87 environment and state, by operand size */
    S_VW,    /* register: operand size; memory: 2 */
    S_DB,
    S_DWM, /* register: 4; memory: 1, 2 */
};

#define INSN_OPC(src, size)    ((src) | (size) << 6 | OPA_READ << 12)
#define INSN_COND(mask, value) ((uint64_t)(mask) << 32 | (uint64_t)(value))

#ifdef INSN_TABLE_NAMES
/* clang-format off */
#define R(x) (x)
#define W(x) (((x) & 0xfff) | OPA_WRITE << 12)
#define RW(x) ((x) | OPA_RW << 12)
#define AD(x) ((x) & 0xfff) /* address only: not accessed */

#define NP INSN_COND(INSN_KEY_66 | INSN_KEY_F3 | INSN_KEY_F2, 0)
#define P66 INSN_COND(INSN_KEY_66 | INSN_KEY_F3 | INSN_KEY_F2, INSN_KEY_66)
#define PF3 INSN_COND(INSN_KEY_F3 | INSN_KEY_F2, INSN_KEY_F3)
#define PF2 INSN_COND(INSN_KEY_F3 | INSN_KEY_F2, INSN_KEY_F2)
#define NFX INSN_COND(INSN_KEY_F3 | INSN_KEY_F2, 0)
#define NF3 INSN_COND(INSN_KEY_F3, 0)
#define MEM INSN_COND(INSN_KEY_REG, 0)
#define REG INSN_COND(INSN_KEY_REG, INSN_KEY_REG)
#define SUB(n) INSN_COND(0x38, (n) << 3)  /* ModRM.reg */
#define MRM(n) INSN_COND(0xff, n)         /* the whole ModRM */
#define ROW(n) INSN_COND(0xf8, n)         /* mod and reg */
#define M64 INSN_COND(INSN_KEY_64, INSN_KEY_64)
#define N64 INSN_COND(INSN_KEY_64, 0)
#define W0 INSN_COND(INSN_KEY_W, 0)
#define W1 INSN_COND(INSN_KEY_W, INSN_KEY_W)
#define L0 INSN_COND(INSN_KEY_L, 0)
#define L1 INSN_COND(INSN_KEY_L, INSN_KEY_L)
#define NREXB INSN_COND(INSN_KEY_B, 0)
#define NW64 INSN_COND(INSN_KEY_W64, 0)
#define W64 INSN_COND(INSN_KEY_W64, INSN_KEY_W64)

enum {
    FR = INSN_F_READS_FLAGS, FW = INSN_F_WRITES_FLAGS, FRW = FR | FW,
    LK = INSN_F_LOCKABLE, BR = INSN_F_BRANCH, JC = INSN_F_BRANCH | INSN_F_COND,
    D64 = INSN_A_DEF64, F64 = INSN_A_FORCE64, OPZ = INSN_A_OPZ,
    PRIV = INSN_F_PRIV0, IOPL = INSN_F_IOPL,
    NOREAL = INSN_F_NO_REAL, X87 = INSN_F_X87, MMX = INSN_F_MMX, SSE = INSN_F_SSE,
    AVX = INSN_F_AVX | INSN_F_NO_REAL, AV2 = AVX | INSN_A_INT256, VNR = INSN_F_NO_REAL,
    UNAL = INSN_A_UNALIGNED, ALN = INSN_F_ALIGNED,
};

/* Operands. */
#define NO 0
#define Eb INSN_OPC(X_E, S_B)
#define Ew INSN_OPC(X_E, S_W)
#define Ed INSN_OPC(X_E, S_D)
#define Ez INSN_OPC(X_E, S_Z)
#define Ev INSN_OPC(X_E, S_V)
#define Ey INSN_OPC(X_E, S_Y)
#define E0 INSN_OPC(X_E, S_0)
#define EvMw INSN_OPC(X_E, S_VW)
#define EdMb INSN_OPC(X_E, S_DB)
#define EdMw INSN_OPC(X_E, S_DWM)
#define Rv INSN_OPC(X_R, S_V)
#define Rd INSN_OPC(X_R, S_D)
#define Ry INSN_OPC(X_R, S_Y)
#define Rm INSN_OPC(X_R, S_YM)
#define M0 INSN_OPC(X_M, S_0)
#define Mb INSN_OPC(X_M, S_B)
#define Mw INSN_OPC(X_M, S_W)
#define Md INSN_OPC(X_M, S_D)
#define Mq INSN_OPC(X_M, S_Q)
#define Mdq INSN_OPC(X_M, S_DQ)
#define Mzz INSN_OPC(X_M, S_ZZ)
#define Mt INSN_OPC(X_M, S_T)
#define Mv INSN_OPC(X_M, S_V)
#define My INSN_OPC(X_M, S_Y)
#define Mx INSN_OPC(X_M, S_X)
#define Mp INSN_OPC(X_M, S_P)
#define Ma INSN_OPC(X_M, S_A)
#define Ms INSN_OPC(X_M, S_TBL)
#define Menv INSN_OPC(X_M, S_ENV)
#define Mfsave INSN_OPC(X_M, S_FSAVE)
#define Gb INSN_OPC(X_G, S_B)
#define Gw INSN_OPC(X_G, S_W)
#define Gd INSN_OPC(X_G, S_D)
#define Gz INSN_OPC(X_G, S_Z)
#define Gv INSN_OPC(X_G, S_V)
#define Gy INSN_OPC(X_G, S_Y)
#define Gm INSN_OPC(X_G, S_YM)
#define By INSN_OPC(X_B, S_Y)
#define Zb INSN_OPC(X_Z, S_B)
#define Zv INSN_OPC(X_Z, S_V)
#define rAL INSN_OPC(X_AX, S_B)
#define rAX INSN_OPC(X_AX, S_V)
#define rAXw INSN_OPC(X_AX, S_W)
#define rAXd INSN_OPC(X_AX, S_D)
#define rAXy INSN_OPC(X_AX, S_Y)
#define rAXz INSN_OPC(X_AX, S_Z)
#define rCL INSN_OPC(X_CX, S_B)
#define rCXd INSN_OPC(X_CX, S_D)
#define rDXw INSN_OPC(X_DX, S_W)
#define rDXd INSN_OPC(X_DX, S_D)
#define rDXy INSN_OPC(X_DX, S_Y)
#define rDIm INSN_OPC(X_DI, S_YM)
#define Ib INSN_OPC(X_IB, S_B)
#define Ib2 INSN_OPC(X_IB2, S_B)
#define Ibs INSN_OPC(X_IBS, S_V)
#define Iw INSN_OPC(X_IW, S_W)
#define Id INSN_OPC(X_ID, S_D)
#define Iz INSN_OPC(X_IZ, S_V)
#define Iv INSN_OPC(X_IV, S_V)
#define I1 INSN_OPC(X_I1, S_B)
#define Jb INSN_OPC(X_JB, S_V)
#define Jz INSN_OPC(X_JZ, S_V)
#define Ob INSN_OPC(X_O, S_B)
#define Ov INSN_OPC(X_O, S_V)
#define Ap INSN_OPC(X_AP, S_P)
#define Sw INSN_OPC(X_S, S_W)
#define Sn(n) INSN_OPC(X_S0 + (n), S_W)
#define Cm INSN_OPC(X_C, S_YM)
#define Dm INSN_OPC(X_D, S_YM)
#define Wb INSN_OPC(X_W, S_B)
#define Ww INSN_OPC(X_W, S_W)
#define Wd INSN_OPC(X_W, S_D)
#define Wq INSN_OPC(X_W, S_Q)
#define Wdq INSN_OPC(X_W, S_DQ)
#define Wx INSN_OPC(X_W, S_X)
#define Wxh INSN_OPC(X_W, S_XH)
#define Wxq INSN_OPC(X_W, S_XQ)
#define Wxe INSN_OPC(X_W, S_XE)
#define Ux INSN_OPC(X_U, S_X)
#define Udq INSN_OPC(X_U, S_DQ)
#define Vx INSN_OPC(X_V, S_X)
#define Vxh INSN_OPC(X_V, S_XH)
#define Vdq INSN_OPC(X_V, S_DQ)
#define Hx INSN_OPC(X_H, S_X)
#define Hxh INSN_OPC(X_H, S_XH)
#define Hdq INSN_OPC(X_H, S_DQ)
#define Lx INSN_OPC(X_L, S_X)
#define Ldq INSN_OPC(X_L, S_DQ)
#define XMM0 INSN_OPC(X_XMM0, S_DQ)
#define MVd INSN_OPC(X_MV, S_D)
#define MVq INSN_OPC(X_MV, S_Q)
#define Qd INSN_OPC(X_Q, S_D)
#define Qq INSN_OPC(X_Q, S_Q)
#define Nq INSN_OPC(X_N, S_Q)
#define Pq INSN_OPC(X_P, S_Q)
#define ST0 INSN_OPC(X_ST0, S_T)
#define STi INSN_OPC(X_STI, S_T)
#define KE(s) INSN_OPC(X_KE, s)
#define KR INSN_OPC(X_KR, S_Q)
#define KG INSN_OPC(X_KG, S_Q)
#define KH INSN_OPC(X_KH, S_Q)
#define SrcB INSN_OPC(X_SRC, S_B)
#define SrcV INSN_OPC(X_SRC, S_V)
#define DstB INSN_OPC(X_DST, S_B)
#define DstV INSN_OPC(X_DST, S_V)

/* Descriptors: an id; an id with a feature; a native one. */
#define I(id, cond, flags, ...) \
    { cond, (uint32_t)(flags), INSN_##id, INSN_FEAT_BASE, { __VA_ARGS__ } }
#define F(id, feat, cond, flags, ...) \
    { cond, (uint32_t)(flags), INSN_##id, INSN_FEAT_##feat, { __VA_ARGS__ } }
#define N(feat, cond, flags, ...) \
    { cond, (uint32_t)(flags), INSN_NATIVE, INSN_FEAT_##feat, { __VA_ARGS__ } }
#define LIST(...) (const struct insn_desc[]) { __VA_ARGS__, { 0 } }
#define ONE(...) LIST(I(__VA_ARGS__))
/* clang-format on */
#endif

#endif
