/* SPDX-License-Identifier: MIT */
/*
 * Differences from Zydis that were looked at and are wanted, each with its reason.
 */
#include "tests/cpu/decode_zydis.h"

#include <string.h>

struct allow {
    ZydisMnemonic first, last; /* a range of mnemonics, in Zydis's alphabetical order */
    const char *what;
};

static const struct allow list[] = {
    /* When the condition is false a 32-bit destination is still zero-extended: read and
       written. */
    {ZYDIS_MNEMONIC_CMOVB, ZYDIS_MNEMONIC_CMOVZ, "register access"},
    /* A zero source leaves the destination alone. */
    {ZYDIS_MNEMONIC_BSF, ZYDIS_MNEMONIC_BSR, "register access"},
    /* Parts without them run BSF and BSR instead. */
    {ZYDIS_MNEMONIC_TZCNT, ZYDIS_MNEMONIC_TZCNT, "register access"},
    {ZYDIS_MNEMONIC_LZCNT, ZYDIS_MNEMONIC_LZCNT, "register access"},
    /* An unusable selector leaves the destination alone. */
    {ZYDIS_MNEMONIC_LAR, ZYDIS_MNEMONIC_LAR, "register access"},
    {ZYDIS_MNEMONIC_LSL, ZYDIS_MNEMONIC_LSL, "register access"},
    /* Interrupts push the flags. */
    {ZYDIS_MNEMONIC_INT, ZYDIS_MNEMONIC_INTO, "flags not read"},
    /* R11 gets RFLAGS. */
    {ZYDIS_MNEMONIC_SYSCALL, ZYDIS_MNEMONIC_SYSCALL, "flags not read"},
    /* REP compares test the ZF they have themselves written. */
    {ZYDIS_MNEMONIC_CMPSB, ZYDIS_MNEMONIC_CMPSW, "flags read"},
    {ZYDIS_MNEMONIC_SCASB, ZYDIS_MNEMONIC_SCASW, "flags read"},
    /* A hypercall is not VMX to us; results come in registers only. */
    {ZYDIS_MNEMONIC_VMCALL, ZYDIS_MNEMONIC_VMCALL, "flags written"},
    /* Only the low 16 bits of the source matter. */
    {ZYDIS_MNEMONIC_LSL, ZYDIS_MNEMONIC_LSL, "register size"},
    /* Zydis lets VEX.W widen the implicit registers outside 64-bit mode. */
    {ZYDIS_MNEMONIC_VPCMPESTRI, ZYDIS_MNEMONIC_VPCMPESTRM, "hidden register size"},
    {ZYDIS_MNEMONIC_MOVSXD, ZYDIS_MNEMONIC_MOVSXD, "register size"},
    /* #UD, not #GP, outside ring 0: the instruction itself checks. */
    {ZYDIS_MNEMONIC_CLAC, ZYDIS_MNEMONIC_CLAC, "not privileged"},
    {ZYDIS_MNEMONIC_STAC, ZYDIS_MNEMONIC_STAC, "not privileged"},
    {ZYDIS_MNEMONIC_MONITOR, ZYDIS_MNEMONIC_MONITOR, "not privileged"},
    {ZYDIS_MNEMONIC_MWAIT, ZYDIS_MNEMONIC_MWAIT, "not privileged"},
    /* Privileged in both manuals; only Zydis's table forgot it. */
    {ZYDIS_MNEMONIC_LGDT, ZYDIS_MNEMONIC_LGDT, "privileged"},
    /* Exceptions to the alignment rule of their class. */
    {ZYDIS_MNEMONIC_LDDQU, ZYDIS_MNEMONIC_LDDQU, "alignment not required"},
    {ZYDIS_MNEMONIC_MOVDQU, ZYDIS_MNEMONIC_MOVDQU, "alignment not required"},
    {ZYDIS_MNEMONIC_MOVUPD, ZYDIS_MNEMONIC_MOVUPS, "alignment not required"},
    {ZYDIS_MNEMONIC_PCMPESTRI, ZYDIS_MNEMONIC_PCMPESTRM, "alignment not required"},
    {ZYDIS_MNEMONIC_PCMPISTRI, ZYDIS_MNEMONIC_PCMPISTRM, "alignment not required"},
    /* SDM vol. 3 table 23-4: aligned; they have no class. */
    {ZYDIS_MNEMONIC_CVTPD2PI, ZYDIS_MNEMONIC_CVTPD2PI, "alignment required"},
    {ZYDIS_MNEMONIC_CVTTPD2PI, ZYDIS_MNEMONIC_CVTTPD2PI, "alignment required"},
    /* The 128-bit form needs PCLMULQDQ and AVX; the unit flag carries AVX. */
    {ZYDIS_MNEMONIC_VPCLMULQDQ, ZYDIS_MNEMONIC_VPCLMULQDQ, "feature"},
    /* The size follows from the instruction, nothing depends on insn.opsize. */
    {ZYDIS_MNEMONIC_XLAT, ZYDIS_MNEMONIC_XLAT, "operand size"},
    {ZYDIS_MNEMONIC_CMPXCHG8B, ZYDIS_MNEMONIC_CMPXCHG8B, "operand size"},
    {ZYDIS_MNEMONIC_CLFLUSHOPT, ZYDIS_MNEMONIC_CLWB, "operand size"},
    /* Always #UD; the sizes of the operands do not matter. */
    {ZYDIS_MNEMONIC_UD0, ZYDIS_MNEMONIC_UD1, "register size"},
};

/* mod 0 and base 5 in a SIB means no base, R13 or not; Zydis 4.0.0 forgets R13D. */
static bool zallowed_r13d(const struct zcase *c)
{
    unsigned i;

    for (i = 0; i < c->z.operand_count; i++) {
        if (c->zop[i].type == ZYDIS_OPERAND_TYPE_MEMORY &&
            c->zop[i].mem.base == ZYDIS_REGISTER_R13D) {
            return true;
        }
    }
    return false;
}

bool zallowed(const struct zcase *c, const char *what)
{
    unsigned i;

    if (c->zok) {
        if (c->z.meta.isa_ext == ZYDIS_ISA_EXT_KNC || c->z.meta.isa_ext == ZYDIS_ISA_EXT_KNCE ||
            c->z.meta.isa_ext == ZYDIS_ISA_EXT_KNCV ||
            c->z.meta.isa_ext == ZYDIS_ISA_EXT_PADLOCK) {
            return !c->ok; /* Knights Corner, VIA: no such guests */
        }
        if (c->ok && c->in.id == INSN_NOP && strcmp(what, "length") != 0) {
            return true; /* hint space: Zydis gives registers that nothing reads */
        }
    }
    if (strcmp(what, "address registers") == 0 && c->in.addrsize == 4 &&
        c->in.base == INSN_NO_REG && zallowed_r13d(c)) {
        return true;
    }
    if (c->zok && !c->ok && c->z.mnemonic == ZYDIS_MNEMONIC_NOP &&
        c->z.opcode_map == ZYDIS_OPCODE_MAP_0F && c->z.opcode == 0x0d) {
        return true; /* prefetches with a register: #UD on AMD hardware, a NOP elsewhere */
    }
    for (i = 0; i < sizeof(list) / sizeof(list[0]); i++) {
        if (c->zok && c->z.mnemonic >= list[i].first && c->z.mnemonic <= list[i].last &&
            strcmp(list[i].what, what) == 0) {
            return true;
        }
    }
    return false;
}
