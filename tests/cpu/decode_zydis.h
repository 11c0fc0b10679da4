/* SPDX-License-Identifier: MIT */
/*
 * One case of the comparison with Zydis.
 */
#ifndef PVEMU_TESTS_CPU_DECODE_ZYDIS_H
#define PVEMU_TESTS_CPU_DECODE_ZYDIS_H

#include <Zydis/Zydis.h>

#include "cpu/x86/decode.h"

struct zcase {
    enum insn_mode mode;
    uint8_t bytes[32];
    bool ok, zok; /* valid for us, for Zydis */
    struct insn in;
    ZydisDecodedInstruction z;
    ZydisDecodedOperand zop[ZYDIS_MAX_OPERAND_COUNT];
};

/* The first difference, as a constant text, or NULL. */
const char *zcompare(const struct zcase *c);
/* Features, LOCK, privilege, alignment ..., for zcompare. */
const char *zcompare_attributes(const struct zcase *c);
/* True when the difference is one we want. */
bool zallowed(const struct zcase *c, const char *what);
/* True for instructions of features that no guest is shown. */
bool zhidden(const struct insn *in);

#endif
