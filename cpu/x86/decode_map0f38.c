/* SPDX-License-Identifier: MIT */
/*
 * The legacy (not VEX) part of the 0F38 and 0F3A opcode maps (SDM vol. 2 tables ).
 */
#define INSN_TABLE_NAMES
#include "cpu/x86/decode_tables.h"

/* clang-format off */

#define SSSE3(o) [o] = LIST(N(SSSE3, NP, MMX, RW(Pq), Qq), N(SSSE3, P66, SSE, RW(Vx), Wx))
#define PABS(o) [o] = LIST(N(SSSE3, NP, MMX, W(Pq), Qq), N(SSSE3, P66, SSE, W(Vx), Wx))
#define SSE41(o, ...) [o] = LIST(N(SSE41, P66, SSE, __VA_ARGS__))
#define BIN41(o) SSE41(o, RW(Vx), Wx)
#define SHA(o, ...) [o] = LIST(N(SHA, NP, SSE, __VA_ARGS__))
/* With F3 these are Key Locker. */
#define AES(o) [o] = LIST(N(AES, P66, SSE, RW(Vx), Wx), \
                  N(OTHER, PF3 | MEM, SSE | FW, RW(Vx), M0))

const struct insn_desc *const insn_map_0f38[256] = {
    SSSE3(0x00), SSSE3(0x01), SSSE3(0x02), SSSE3(0x03), SSSE3(0x04), SSSE3(0x05),
    SSSE3(0x06), SSSE3(0x07), SSSE3(0x08), SSSE3(0x09), SSSE3(0x0a), SSSE3(0x0b),
    SSE41(0x10, RW(Vx), Wx, XMM0), SSE41(0x14, RW(Vx), Wx, XMM0), SSE41(0x15, RW(Vx), Wx, XMM0),
    [0x17] = LIST(N(SSE41, P66, SSE | FW, Vx, Wx)),
    PABS(0x1c), PABS(0x1d), PABS(0x1e),
    SSE41(0x20, W(Vx), Wq), SSE41(0x21, W(Vx), Wd), SSE41(0x22, W(Vx), Ww),
    SSE41(0x23, W(Vx), Wq), SSE41(0x24, W(Vx), Wd), SSE41(0x25, W(Vx), Wq),
    BIN41(0x28), BIN41(0x29), SSE41(0x2a, W(Vx), Mx), BIN41(0x2b),
    SSE41(0x30, W(Vx), Wq), SSE41(0x31, W(Vx), Wd), SSE41(0x32, W(Vx), Ww),
    SSE41(0x33, W(Vx), Wq), SSE41(0x34, W(Vx), Wd), SSE41(0x35, W(Vx), Wq),
    [0x37] = LIST(N(SSE42, P66, SSE, RW(Vx), Wx)),
    BIN41(0x38), BIN41(0x39), BIN41(0x3a), BIN41(0x3b), BIN41(0x3c), BIN41(0x3d),
    BIN41(0x3e), BIN41(0x3f), BIN41(0x40), SSE41(0x41, W(Vx), Wx),
    [0x80] = ONE(VMX, P66, FW, Gm, Mdq), /* INVEPT */
    [0x81] = ONE(VMX, P66, FW, Gm, Mdq), /* INVVPID */
    [0x82] = LIST(F(INVPCID, INVPCID, P66, PRIV, Gm, Mdq)),
    SHA(0xc8, RW(Vx), Wx), SHA(0xc9, RW(Vx), Wx), SHA(0xca, RW(Vx), Wx),
    SHA(0xcb, RW(Vx), Wx, XMM0), SHA(0xcc, RW(Vx), Wx), SHA(0xcd, RW(Vx), Wx),
    [0xcf] = LIST(N(GFNI, P66, SSE, RW(Vx), Wx)),
    [0xd8] = LIST(N(OTHER, PF3 | MEM, SSE | FW, M0)),
    [0xdb] = LIST(N(AES, P66, SSE, W(Vx), Wx)),
    AES(0xdd), AES(0xde), AES(0xdf),
    [0xdc] = LIST(N(AES, P66, SSE, RW(Vx), Wx),
                  N(OTHER, PF3, SSE | FW, RW(Vx), INSN_OPC(X_W, S_0))),
    [0xf0] = LIST(F(MOVBE, MOVBE, NFX | MEM, 0, W(Gv), Mv),
                  N(SSE42, PF2, 0, RW(Gy), Eb)), /* CRC32 */
    [0xf1] = LIST(F(MOVBE, MOVBE, NFX | MEM, 0, W(Mv), Gv), N(SSE42, PF2, 0, RW(Gy), Ev)),
    [0xf5] = LIST(N(CET, P66 | MEM, 0, W(My), Gy)), /* WRUSS */
    [0xf6] = LIST(N(CET, NP | MEM, 0, W(My), Gy),   /* WRSS */
                  N(ADX, P66, FRW, RW(Gy), Ey), N(ADX, PF3, FRW, RW(Gy), Ey)),
    [0xf8] = LIST(N(OTHER, P66 | MEM, 0, Gm, Mzz), N(OTHER, PF3 | MEM, FW, Gm, Mzz),
                  N(OTHER, PF2 | MEM, FW, Gm, Mzz)), /* MOVDIR64B ENQCMDS ENQCMD */
    [0xf9] = LIST(N(OTHER, NP | MEM, 0, W(My), Gy)), /* MOVDIRI */
    [0xfa] = LIST(N(OTHER, PF3 | REG, FW, W(Gd), Rd)),
    [0xfb] = LIST(N(OTHER, PF3 | REG, FW, W(Gd), Rd)),
};

#define IMM41(o, ...) [o] = LIST(N(SSE41, P66, SSE, __VA_ARGS__))

const struct insn_desc *const insn_map_0f3a[256] = {
    IMM41(0x08, W(Vx), Wx, Ib), IMM41(0x09, W(Vx), Wx, Ib),
    IMM41(0x0a, RW(Vx), Wd, Ib), IMM41(0x0b, RW(Vx), Wq, Ib),
    IMM41(0x0c, RW(Vx), Wx, Ib), IMM41(0x0d, RW(Vx), Wx, Ib), IMM41(0x0e, RW(Vx), Wx, Ib),
    [0x0f] = LIST(N(SSSE3, NP, MMX, RW(Pq), Qq, Ib), N(SSSE3, P66, SSE, RW(Vx), Wx, Ib)),
    IMM41(0x14, W(EdMb), Vx, Ib), IMM41(0x15, W(EdMw), Vx, Ib), IMM41(0x16, W(Ey), Vx, Ib),
    IMM41(0x17, W(Ed), Vx, Ib),
    IMM41(0x20, RW(Vx), EdMb, Ib), IMM41(0x21, RW(Vx), Wd, Ib), IMM41(0x22, RW(Vx), Ey, Ib),
    IMM41(0x40, RW(Vx), Wx, Ib), IMM41(0x41, RW(Vx), Wx, Ib), IMM41(0x42, RW(Vx), Wx, Ib),
    [0x44] = LIST(N(PCLMUL, P66, SSE, RW(Vx), Wx, Ib)),
    /* PCMPESTRM PCMPESTRI PCMPISTRM PCMPISTRI: no alignment rule. */
    [0x60] = LIST(N(SSE42, P66, SSE | UNAL | FW, Vx, Wx, Ib, rAXy, rDXy, W(XMM0))),
    [0x61] = LIST(N(SSE42, P66, SSE | UNAL | FW, Vx, Wx, Ib, rAXy, rDXy, W(rCXd))),
    [0x62] = LIST(N(SSE42, P66, SSE | UNAL | FW, Vx, Wx, Ib, W(XMM0))),
    [0x63] = LIST(N(SSE42, P66, SSE | UNAL | FW, Vx, Wx, Ib, W(rCXd))),
    [0xcc] = LIST(N(SHA, NP, SSE, RW(Vx), Wx, Ib)),
    [0xce] = LIST(N(GFNI, P66, SSE, RW(Vx), Wx, Ib)),
    [0xcf] = LIST(N(GFNI, P66, SSE, RW(Vx), Wx, Ib)),
    [0xdf] = LIST(N(AES, P66, SSE, W(Vx), Wx, Ib)),
    [0xf0] = LIST(N(OTHER, PF3 | MRM(0xc0), 0, Ib)), /* HRESET */
};
