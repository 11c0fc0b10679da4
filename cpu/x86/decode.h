/* SPDX-License-Identifier: MIT */
/*
 * The decoder: bytes to a compact record that every engine reads. It follows the Intel SDM vol.
 * 2 chapter 2 and appendix A, with AMD's choices where the vendors differ and cpuid says AMD.
 *
 * It knows lengths, prefixes, operands (what is read and written, how wide) and the class of an
 * instruction, not what it does. Integer instructions have an id of their own. Instructions
 * that touch only user-visible registers and one memory operand and have no system effect (x87,
 * MMX, SSE.., AVX.., BMI, ADX, POPCNT, CRC32, SHA, AES ...) share the id INSN_NATIVE: an engine
 * runs the very bytes on the host with the memory operand replaced. System instructions carry
 * INSN_F_SYSTEM: an engine hands them whole to x86_system_insn().
 */
#ifndef PVEMU_CPU_X86_DECODE_H
#define PVEMU_CPU_X86_DECODE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

enum { INSN_MAX_LEN = 15, INSN_MAX_OPERANDS = 6 };

enum insn_mode { INSN_MODE_16, INSN_MODE_32, INSN_MODE_64 }; /* CS.D / CS.L decide */

enum insn_id {
    INSN_INVALID, /* #UD */
    INSN_NATIVE,
    /* ALU */
    INSN_ADD,
    INSN_OR,
    INSN_ADC,
    INSN_SBB,
    INSN_AND,
    INSN_SUB,
    INSN_XOR,
    INSN_CMP,
    INSN_TEST,
    INSN_NOT,
    INSN_NEG,
    INSN_INC,
    INSN_DEC,
    INSN_MUL,
    INSN_IMUL1,
    INSN_IMUL2,
    INSN_IMUL3,
    INSN_DIV,
    INSN_IDIV,
    INSN_ROL,
    INSN_ROR,
    INSN_RCL,
    INSN_RCR,
    INSN_SHL,
    INSN_SHR,
    INSN_SAR,
    INSN_SHLD,
    INSN_SHRD,
    INSN_BT,
    INSN_BTS,
    INSN_BTR,
    INSN_BTC,
    INSN_BSF,
    INSN_BSR,
    INSN_BSWAP,
    INSN_XADD,
    INSN_CMPXCHG,
    INSN_CMPXCHG8B,
    INSN_CMPXCHG16B,
    INSN_XCHG,
    INSN_DAA,
    INSN_DAS,
    INSN_AAA,
    INSN_AAS,
    INSN_AAM,
    INSN_AAD,
    INSN_CBW,
    INSN_CWD, /* CBW/CWDE/CDQE and CWD/CDQ/CQO: by opsize */
    INSN_CLC,
    INSN_STC,
    INSN_CMC,
    INSN_CLD,
    INSN_STD,
    INSN_LAHF,
    INSN_SAHF,
    INSN_SALC,
    /* moves */
    INSN_MOV,
    INSN_MOVZX,
    INSN_MOVSX,
    INSN_MOVSXD,
    INSN_LEA,
    INSN_CMOVCC,
    INSN_SETCC,
    INSN_XLAT,
    INSN_MOVBE,
    INSN_MOVNTI,
    INSN_PUSH,
    INSN_POP,
    INSN_PUSHA,
    INSN_POPA,
    INSN_ENTER,
    INSN_LEAVE,
    /* control flow (near) */
    INSN_JMP,
    INSN_JCC,
    INSN_CALL,
    INSN_RET,
    INSN_LOOP,
    INSN_LOOPE,
    INSN_LOOPNE,
    INSN_JCXZ,
    INSN_BOUND,
    /* strings; prefix flags INSN_P_REP / INSN_P_REPNE */
    INSN_MOVS,
    INSN_CMPS,
    INSN_STOS,
    INSN_LODS,
    INSN_SCAS,
    /* no operation with respect to state: NOP (any length), PAUSE, prefetches, ENDBR, CLFLUSH*,
       CLWB, fences, WAIT is native */
    INSN_NOP,
    INSN_PAUSE,
    INSN_FENCE,
    INSN_CLFLUSH,
    INSN_UD, /* UD0 UD1 UD2: #UD for certain */

    /* system: INSN_F_SYSTEM, executed by x86_system_insn() */
    INSN_SYSTEM_FIRST,
    INSN_MOV_FROM_CR = INSN_SYSTEM_FIRST,
    INSN_MOV_TO_CR,
    INSN_MOV_FROM_DR,
    INSN_MOV_TO_DR,
    INSN_MOV_FROM_SEG,
    INSN_MOV_TO_SEG,
    INSN_PUSH_SEG,
    INSN_POP_SEG,
    INSN_LES,
    INSN_LDS,
    INSN_LSS,
    INSN_LFS,
    INSN_LGS,
    INSN_PUSHF,
    INSN_POPF,
    INSN_CLI,
    INSN_STI,
    INSN_INT,
    INSN_INT3,
    INSN_INTO,
    INSN_INT1,
    INSN_IRET,
    INSN_CALL_FAR,
    INSN_JMP_FAR,
    INSN_RET_FAR,
    INSN_SYSCALL,
    INSN_SYSRET,
    INSN_SYSENTER,
    INSN_SYSEXIT,
    INSN_SGDT,
    INSN_SIDT,
    INSN_LGDT,
    INSN_LIDT,
    INSN_SLDT,
    INSN_STR,
    INSN_LLDT,
    INSN_LTR,
    INSN_VERR,
    INSN_VERW,
    INSN_LAR,
    INSN_LSL,
    INSN_ARPL,
    INSN_SMSW,
    INSN_LMSW,
    INSN_CLTS,
    INSN_INVLPG,
    INSN_INVPCID,
    INSN_INVD,
    INSN_WBINVD,
    INSN_WBNOINVD,
    INSN_HLT,
    INSN_MONITOR,
    INSN_MWAIT,
    INSN_RDMSR,
    INSN_WRMSR,
    INSN_RDTSC,
    INSN_RDTSCP,
    INSN_RDPMC,
    INSN_RDPID,
    INSN_CPUID,
    INSN_IN,
    INSN_OUT,
    INSN_INS,
    INSN_OUTS,
    INSN_SWAPGS,
    INSN_RDFSBASE,
    INSN_RDGSBASE,
    INSN_WRFSBASE,
    INSN_WRGSBASE,
    INSN_XGETBV,
    INSN_XSETBV,
    INSN_CLAC,
    INSN_STAC,
    INSN_VMCALL,
    INSN_VMMCALL,
    INSN_FXSAVE,
    INSN_FXRSTOR,
    INSN_XSAVE,
    INSN_XRSTOR,
    INSN_XSAVEOPT,
    INSN_XSAVEC,
    INSN_XSAVES,
    INSN_XRSTORS,
    INSN_RSM,
    INSN_GETSEC,
    INSN_VMX,
    INSN_SVM, /* the rest of both virtualisation extensions: #UD */
    INSN_NR
};

enum insn_operand_kind {
    OPK_NONE,
    OPK_GPR, /* reg 0..15, or INSN_HIGH_BYTE|n for AH CH DH BH (n = 0..3) */
    OPK_MEM, /* insn.base/index/scale/disp/seg; also moffs (no base) */
    OPK_IMM, /* insn.imm, sign- or zero-extended to 64 bits as the instruction has it */
    OPK_REL, /* insn.imm is the displacement of a near branch */
    OPK_FAR, /* ptr16:16/32: insn.imm offset, insn.imm2 selector */
    OPK_SEG,
    OPK_CR,
    OPK_DR,
    OPK_X87,
    OPK_MMX,
    OPK_VEC,  /* VEC: XMM, YMM or ZMM by size */
    OPK_MASK, /* AVX-512 k0..k7 */
    OPK_STR_SRC,
    OPK_STR_DST, /* seg:[rSI] and ES:[rDI] by addrsize */
    OPK_BND,
};
enum { INSN_HIGH_BYTE = 0x40 };
enum insn_operand_access { OPA_READ = 1, OPA_WRITE = 2, OPA_RW = 3 };

struct insn_operand {
    uint8_t kind; /* enum insn_operand_kind */
    uint8_t reg;
    uint8_t access; /* enum insn_operand_access */
    uint16_t size;  /* bytes; 0 where it is not fixed by the instruction (XSAVE area, NOP, LEA
                       source) */
};

enum insn_prefix {
    INSN_P_LOCK = 1 << 0,
    INSN_P_REP = 1 << 1 /* F3 */,
    INSN_P_REPNE = 1 << 2 /* F2 */,
    INSN_P_66 = 1 << 3,
    INSN_P_67 = 1 << 4,
    INSN_P_REX = 1 << 5,
    INSN_P_SEG = 1 << 6,
};
enum { INSN_REX_B = 1, INSN_REX_X = 2, INSN_REX_R = 4, INSN_REX_W = 8 };

enum insn_encoding { INSN_ENC_LEGACY, INSN_ENC_VEX, INSN_ENC_EVEX, INSN_ENC_XOP };
enum insn_map {
    INSN_MAP_1 /* one byte */,
    INSN_MAP_0F,
    INSN_MAP_0F38,
    INSN_MAP_0F3A,
    INSN_MAP_5,
    INSN_MAP_6,
    INSN_MAP_3DNOW,
    INSN_MAP_XOP
};

enum insn_flags {
    INSN_F_MODRM = 1 << 0,
    INSN_F_SYSTEM = 1 << 1,
    INSN_F_BRANCH =
        1 << 2,           /* ends a block: near or far transfer, INT, IRET, SYSCALL, HLT ... */
    INSN_F_COND = 1 << 3, /* the branch may fall through */
    INSN_F_LOCKABLE = 1 << 4,     /* LOCK was allowed (the decoder gives #UD when it was not) */
    INSN_F_READS_FLAGS = 1 << 5,  /* any status flag */
    INSN_F_WRITES_FLAGS = 1 << 6, /* any status flag, defined or not */
    INSN_F_X87 = 1 << 7,          /* native: needs CR0.EM=0, TS=0; may report a pending #MF */
    INSN_F_MMX = 1 << 8,          /* native: like X87 for CR0 */
    INSN_F_SSE = 1 << 9,          /* native: needs CR4.OSFXSR, EM=0, TS=0 */
    INSN_F_AVX = 1 << 10,         /* native: needs CR4.OSXSAVE and XCR0, TS=0 */
    INSN_F_AVX512 = 1 << 11,
    INSN_F_ALIGNED =
        1 << 12, /* memory operand must be naturally aligned (operand size) or #GP(0) */
    INSN_F_VSIB = 1 << 13, /* gather/scatter: index is a vector register */
    INSN_F_MEM_IMPLICIT =
        1
        << 14, /* native with memory not described by modrm: MASKMOVQ, MASKMOVDQU (seg:[rDI]) */
    INSN_F_PRIV0 = 1 << 15, /* #GP(0) unless CPL is 0 (checked from this flag, in one place) */
    INSN_F_IOPL = 1 << 16,  /* sensitive to IOPL: IN OUT INS OUTS CLI STI PUSHF POPF (V86) */
    INSN_F_NO_REAL = 1 << 17, /* #UD in real and V86 mode (LAR, LTR, SYSRET ..., and all VEX) */
    INSN_F_MASKED_MEM =
        1 << 18, /* VMASKMOV/VPMASKMOV/AVX-512 masking: elements masked off do not fault */
};

/* The CPUID feature an instruction needs beyond the 64-bit baseline; checked against the
 * profile. */
enum insn_feature {
    INSN_FEAT_BASE,
    INSN_FEAT_SSE3,
    INSN_FEAT_SSSE3,
    INSN_FEAT_SSE41,
    INSN_FEAT_SSE42,
    INSN_FEAT_SSE4A,
    INSN_FEAT_AES,
    INSN_FEAT_PCLMUL,
    INSN_FEAT_POPCNT,
    INSN_FEAT_LZCNT,
    INSN_FEAT_MOVBE,
    INSN_FEAT_BMI1,
    INSN_FEAT_BMI2,
    INSN_FEAT_ADX,
    INSN_FEAT_F16C,
    INSN_FEAT_FMA,
    INSN_FEAT_AVX,
    INSN_FEAT_AVX2,
    INSN_FEAT_SHA,
    INSN_FEAT_GFNI,
    INSN_FEAT_VAES,
    INSN_FEAT_VPCLMUL,
    INSN_FEAT_RDRAND,
    INSN_FEAT_RDSEED,
    INSN_FEAT_RDTSCP,
    INSN_FEAT_RDPID,
    INSN_FEAT_FSGSBASE,
    INSN_FEAT_INVPCID,
    INSN_FEAT_SMAP,
    INSN_FEAT_XSAVE,
    INSN_FEAT_XSAVEOPT,
    INSN_FEAT_XSAVEC,
    INSN_FEAT_XSAVES,
    INSN_FEAT_CX16,
    INSN_FEAT_3DNOW,
    INSN_FEAT_PREFETCHW,
    INSN_FEAT_CLFLUSHOPT,
    INSN_FEAT_CLWB,
    INSN_FEAT_MONITOR,
    INSN_FEAT_XOP,
    INSN_FEAT_FMA4,
    INSN_FEAT_TBM,
    INSN_FEAT_LWP,
    INSN_FEAT_AVX512,
    INSN_FEAT_AMX,
    INSN_FEAT_CET,
    INSN_FEAT_PKU,
    INSN_FEAT_MPX,
    INSN_FEAT_OTHER /* never shown */,
    INSN_FEAT_NR
};

enum { INSN_NO_REG = 0xff, INSN_REG_RIP = 0xfe };

struct insn {
    uint16_t id;      /* enum insn_id */
    uint8_t len;      /* whole instruction, 1..15 */
    uint8_t mode;     /* enum insn_mode */
    uint8_t opsize;   /* 1, 2, 4 or 8: effective operand size of integer instructions */
    uint8_t addrsize; /* 2, 4 or 8 */
    uint8_t encoding; /* enum insn_encoding */
    uint8_t map;      /* enum insn_map */
    uint8_t opcode;
    uint8_t prefixes; /* enum insn_prefix */
    uint8_t rex;      /* REX.WRXB, also taken from VEX/EVEX (not inverted) */
    uint8_t seg;  /* enum cpu_segreg of the memory operand: override or default (SS for rSP/rBP
                     bases) */
    uint8_t cond; /* JCC/SETCC/CMOVCC: opcode & 15 */
    uint8_t modrm;
    uint8_t base;        /* GPR, INSN_REG_RIP or INSN_NO_REG */
    uint8_t index;       /* GPR (or vector register with INSN_F_VSIB), or INSN_NO_REG */
    uint8_t scale;       /* 1, 2, 4, 8 */
    uint8_t vvvv;        /* VEX/EVEX second source, not inverted; 0 when unused */
    uint8_t vlen;        /* 16, 32 or 64 for VEX/EVEX, else 0 */
    uint8_t nr_operands; /* explicit and implicit ones that engines need */
    /* Where things stand in the bytes, for re-encoding: offsets from the start; 0 = absent. */
    uint8_t opcode_off, modrm_off, disp_off, disp_len, imm_off, imm_len;
    uint8_t feature; /* enum insn_feature */
    uint32_t flags;  /* enum insn_flags */
    int64_t disp; /* displacement or moffs; RIP-relative: without rip; EVEX: disp8 not scaled */
    uint64_t imm; /* IMM: extended to op.size, zero above; REL: sign-extended to 64 bits */
    uint64_t imm2; /* far selector; ENTER nesting level; EXTRQ/INSERTQ second byte */
    struct insn_operand op[INSN_MAX_OPERANDS]; /* Intel order: destination first */
    uint8_t bytes[INSN_MAX_LEN];
};

enum insn_decode_result {
    INSN_OK,       /* *in is filled; id may be INSN_INVALID or INSN_UD: raise #UD, len is a best
                      effort */
    INSN_MORE,     /* the bytes end inside the instruction: give more (up to 15) */
    INSN_TOO_LONG, /* more than 15 bytes: #GP(0) */
};

/*
 * XOP and EVEX get lengths, addressing and generic operands (memory size 0): no guest is shown
 * them. Decodes one instruction from the first `avail` bytes at `bytes`. Pure: no state, no
 * allocation. Handles LOCK rules (INSN_INVALID when not allowed).
 */
enum insn_decode_result insn_decode(struct insn *in, enum insn_mode mode, const uint8_t *bytes,
                                    size_t avail);

/*
 * A decoded instruction to be had again with other values of its displacement and immediate
 * (decode_form.c): 64-bit code, integer instructions.
 */
struct insn_form {
    struct insn insn;
    uint64_t mask; /* of a sign-extended immediate */
    bool sign;
};
/* The bytes that decide the form, and how many they are, as one number; 0: not known here.
 * Looks at 8 bytes. */
uint64_t insn_form_head(const uint8_t *bytes);
/* The form of an instruction that has a head. false: it has none after all. */
bool insn_form_make(struct insn_form *form, const struct insn *in);
/* As insn_decode() of bytes with the head of that form; form->insn.len of them are there. */
void insn_form_fill(const struct insn_form *form, struct insn *in, const uint8_t *bytes);

/* A short name for messages and tests ("add", "native", ...). */
const char *insn_name(enum insn_id id);

/* The memory operand, or NULL. Only one instruction operand can be OPK_MEM. */
const struct insn_operand *insn_mem_operand(const struct insn *in);

#endif
