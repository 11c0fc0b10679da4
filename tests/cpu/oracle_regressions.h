/* SPDX-License-Identifier: MIT */
/* Instructions that once differed from hardware; each runs on many random states before the random ones. */
#ifndef PVEMU_TESTS_ORACLE_REGRESSIONS_H
#define PVEMU_TESTS_ORACLE_REGRESSIONS_H

#include "oracle.h"

static const struct oracle_regression {
    enum insn_mode mode;
    unsigned len;
    uint8_t bytes[15];
} oracle_regressions[] = {
    {INSN_MODE_64, 3, {0xf3, 0x47, 0x90}},                   /* XCHG, not PAUSE */
    {INSN_MODE_64, 3, {0x0f, 0x0d, 0xd1}},                   /* no PREFETCH with a register */
    {INSN_MODE_64, 4, {0xc8, 0x10, 0x00, 0x03}},             /* ENTER: pushes before a fault */
    {INSN_MODE_64, 2, {0xff, 0x10}},                         /* CALL: stack before target */
    {INSN_MODE_64, 2, {0xff, 0xd4}},                         /* CALL RSP */
    {INSN_MODE_64, 3, {0xf3, 0xe0, 0x10}},                   /* LOOPNE with REP */
    {INSN_MODE_64, 3, {0xf2, 0xe1, 0x10}},                   /* LOOPE with REPNE */
    {INSN_MODE_64, 5, {0xf2, 0x0f, 0x38, 0xf0, 0xe4}},       /* CRC32 ESP, AH */
    {INSN_MODE_64, 3, {0x0f, 0x5f, 0xf4}},                   /* register 4 that is not RSP */
    {INSN_MODE_64, 5, {0x66, 0x48, 0x0f, 0x6e, 0xe4}},       /* MOVQ XMM4, RSP */
    {INSN_MODE_64, 5, {0x66, 0x48, 0x0f, 0x7e, 0xe4}},       /* MOVQ RSP, XMM4 */
    {INSN_MODE_64, 7, {0xc4, 0x82, 0xcd, 0x92, 0x4c, 0x2f, 0x07}}, /* VGATHERDPD: partial mask */
    {INSN_MODE_64, 1, {0xa7}},                               /* CMPS: order of accesses */
    {INSN_MODE_64, 2, {0xf3, 0xa6}},
    {INSN_MODE_64, 3, {0x67, 0xf3, 0xa4}},                   /* REP with 32-bit registers */
    {INSN_MODE_64, 4, {0x0f, 0x38, 0xc9, 0x0b}},             /* SHA1MSG1: unaligned */
    {INSN_MODE_64, 2, {0xdb, 0x1f}},                         /* FISTP over a page, unmasked */
    {INSN_MODE_64, 3, {0x0f, 0x61, 0x11}},                   /* #MF before #PF */
    {INSN_MODE_64, 3, {0x0f, 0x2a, 0x11}},                   /* CVTPI2PS: no #MF */
    {INSN_MODE_64, 4, {0x66, 0x0f, 0x2d, 0x07}},             /* #MF before misalignment */
    {INSN_MODE_64, 6, {0x66, 0x0f, 0x38, 0xde, 0x75, 0x0c}}, /* #GP before #SS */
    {INSN_MODE_64, 5, {0x48, 0x0f, 0xc7, 0x4d, 0x2a}},
    {INSN_MODE_32, 1, {0x60}},                               /* PUSHA: pushes before a fault */
    {INSN_MODE_32, 2, {0x66, 0x60}},
    {INSN_MODE_32, 1, {0x61}},                               /* POPA: so do its pops */
    {INSN_MODE_32, 2, {0x66, 0x61}},
    {INSN_MODE_32, 1, {0x27}},                               /* DAA and its family */
    {INSN_MODE_32, 1, {0x2f}},
    {INSN_MODE_32, 1, {0x37}},
    {INSN_MODE_32, 1, {0x3f}},
    {INSN_MODE_32, 2, {0xd5, 0x26}},
    {INSN_MODE_32, 2, {0xd4, 0x26}},
    {INSN_MODE_32, 3, {0x2e, 0x21, 0x10}},                   /* a store through CS */
    {INSN_MODE_32, 2, {0x62, 0x37}},                         /* BOUND: two accesses */
    {INSN_MODE_32, 5, {0xc4, 0xc1, 0xf7, 0x2a, 0x39}},       /* VEX.W does not count */
    {INSN_MODE_32, 3, {0xc5, 0xfc, 0x77}},                   /* VZEROALL: eight registers */
    {INSN_MODE_32, 3, {0xc5, 0xf8, 0x77}},
    {INSN_MODE_32, 6, {0xc4, 0xc3, 0x49, 0x4c, 0xec, 0xef}}, /* is4 has three bits */
    {INSN_MODE_32, 6, {0xc4, 0xe3, 0xd9, 0x22, 0x31, 0x1d}}, /* VPINSRQ: 64-bit mode only */
};

#endif
