/* SPDX-License-Identifier: MIT */
/*
 * Arithmetic by the host's own instructions, so that undefined flags are the host's too.
 *
 * Flags travel packed in 16 bits as lahf; seto %al leaves them: AH holds SF ZF AF PF CF at
 * their RFLAGS positions, AL is OF. add $0x7f,%al; sahf brings them back.
 */
#ifndef PVEMU_CPU_INTERP_ALU_H
#define PVEMU_CPU_INTERP_ALU_H

#include <stdbool.h>
#include <stdint.h>

#define ALU_LOAD "addb $0x7f, %%al\n\tsahf\n\t"
#define ALU_SAVE "\n\tlahf\n\tseto %%al"

static inline uint64_t alu_unpack(uint32_t fl)
{
    return ((fl >> 8) & 0xd5) | ((fl & 1) << 11);
}

static inline uint32_t alu_pack(uint64_t rflags)
{
    return (uint32_t)(((rflags & 0xd5) << 8) | ((rflags >> 11) & 1));
}

/* name##8/16/32/64: result = a insn b, flags out. */
#define ALU_DEF_OUT(name, insn)                                                                \
    ALU_OUT1(name##8, insn "b", uint8_t)                                                       \
    ALU_OUT1(name##16, insn "w", uint16_t)                                                     \
    ALU_OUT1(name##32, insn "l", uint32_t) ALU_OUT1(name##64, insn "q", uint64_t)
#define ALU_OUT1(fname, insn, type)                                                            \
    static inline type alu_##fname(uint32_t *fl, type a, type b)                               \
    {                                                                                          \
        uint32_t f;                                                                            \
        __asm__(insn " %2, %0" ALU_SAVE : "+&r"(a), "=&a"(f) : "r"(b) : "cc");                 \
        *fl = f;                                                                               \
        return a;                                                                              \
    }
/* The same with flags in as well (carry, or untouched ones). */
#define ALU_DEF_INOUT(name, insn)                                                              \
    ALU_INOUT1(name##8, insn "b", uint8_t)                                                     \
    ALU_INOUT1(name##16, insn "w", uint16_t)                                                   \
    ALU_INOUT1(name##32, insn "l", uint32_t) ALU_INOUT1(name##64, insn "q", uint64_t)
#define ALU_INOUT1(fname, insn, type)                                                          \
    static inline type alu_##fname(uint32_t *fl, type a, type b)                               \
    {                                                                                          \
        uint32_t f = *fl;                                                                      \
        __asm__(ALU_LOAD insn " %2, %0" ALU_SAVE : "+&r"(a), "+&a"(f) : "r"(b) : "cc");        \
        *fl = f;                                                                               \
        return a;                                                                              \
    }
#define ALU_DEF_ONE(name, insn)                                                                \
    ALU_ONE1(name##8, insn "b", uint8_t)                                                       \
    ALU_ONE1(name##16, insn "w", uint16_t)                                                     \
    ALU_ONE1(name##32, insn "l", uint32_t) ALU_ONE1(name##64, insn "q", uint64_t)
#define ALU_ONE1(fname, insn, type)                                                            \
    static inline type alu_##fname(uint32_t *fl, type a)                                       \
    {                                                                                          \
        uint32_t f = *fl;                                                                      \
        __asm__(ALU_LOAD insn " %0" ALU_SAVE : "+&r"(a), "+&a"(f) : : "cc");                   \
        *fl = f;                                                                               \
        return a;                                                                              \
    }
/* Shifts and rotates by CL: count 0 leaves the flags alone. */
#define ALU_DEF_SHIFT(name, insn)                                                              \
    ALU_SHIFT1(name##8, insn "b", uint8_t)                                                     \
    ALU_SHIFT1(name##16, insn "w", uint16_t)                                                   \
    ALU_SHIFT1(name##32, insn "l", uint32_t) ALU_SHIFT1(name##64, insn "q", uint64_t)
#define ALU_SHIFT1(fname, insn, type)                                                          \
    static inline type alu_##fname(uint32_t *fl, type a, uint8_t count)                        \
    {                                                                                          \
        uint32_t f = *fl;                                                                      \
        __asm__(ALU_LOAD insn " %%cl, %0" ALU_SAVE : "+&r"(a), "+&a"(f) : "c"(count) : "cc");  \
        *fl = f;                                                                               \
        return a;                                                                              \
    }

ALU_DEF_OUT(add, "add")
ALU_DEF_OUT(or, "or")
ALU_DEF_OUT(and, "and")
ALU_DEF_OUT(sub, "sub")
ALU_DEF_OUT(xor, "xor")
ALU_DEF_INOUT(adc, "adc")
ALU_DEF_INOUT(sbb, "sbb")
ALU_DEF_ONE(neg, "neg")
ALU_DEF_ONE(inc, "inc")
ALU_DEF_ONE(dec, "dec")
ALU_DEF_SHIFT(rol, "rol")
ALU_DEF_SHIFT(ror, "ror")
ALU_DEF_SHIFT(rcl, "rcl")
ALU_DEF_SHIFT(rcr, "rcr")
ALU_DEF_SHIFT(shl, "shl")
ALU_DEF_SHIFT(shr, "shr")
ALU_DEF_SHIFT(sar, "sar")

/* cmp and test: nothing but flags. */
#define ALU_DEF_FLAGS(name, insn)                                                              \
    ALU_FLAGS1(name##8, insn "b", uint8_t)                                                     \
    ALU_FLAGS1(name##16, insn "w", uint16_t)                                                   \
    ALU_FLAGS1(name##32, insn "l", uint32_t) ALU_FLAGS1(name##64, insn "q", uint64_t)
#define ALU_FLAGS1(fname, insn, type)                                                          \
    static inline void alu_##fname(uint32_t *fl, type a, type b)                               \
    {                                                                                          \
        uint32_t f;                                                                            \
        __asm__(insn " %2, %1" ALU_SAVE : "=&a"(f) : "r"(a), "r"(b) : "cc");                   \
        *fl = f;                                                                               \
    }
ALU_DEF_FLAGS(cmp, "cmp")
ALU_DEF_FLAGS(test, "test")

/* Whether a condition (opcode & 15) holds. */
static inline bool alu_cond(uint32_t fl, unsigned cond)
{
    uint32_t ah = fl >> 8;
    bool r;

    switch (cond >> 1) {
    case 0:
        r = (fl & 1) != 0;
        break;
    case 1:
        r = (ah & 1) != 0;
        break;
    case 2:
        r = (ah & 0x40) != 0;
        break;
    case 3:
        r = (ah & 0x41) != 0;
        break;
    case 4:
        r = (ah & 0x80) != 0;
        break;
    case 5:
        r = (ah & 4) != 0;
        break;
    case 6:
        r = ((ah >> 7) & 1) != (fl & 1);
        break;
    default:
        r = (ah & 0x40) != 0 || ((ah >> 7) & 1) != (fl & 1);
        break;
    }
    return r != (cond & 1);
}

#define ALU_BY_SIZE(name, size, ...)                                                           \
    ((size) == 1   ? (uint64_t)alu_##name##8(__VA_ARGS__)                                      \
     : (size) == 2 ? (uint64_t)alu_##name##16(__VA_ARGS__)                                     \
     : (size) == 4 ? (uint64_t)alu_##name##32(__VA_ARGS__)                                     \
                   : (uint64_t)alu_##name##64(__VA_ARGS__))

#endif
