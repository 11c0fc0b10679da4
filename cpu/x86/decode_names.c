/* SPDX-License-Identifier: MIT */
/*
 * Names of instruction ids, for messages and tests.
 */
#include "cpu/x86/decode.h"

static const char *const names[INSN_NR] = {
    [INSN_INVALID] = "invalid", [INSN_NATIVE] = "native", [INSN_ADD] = "add",
    [INSN_OR] = "or", [INSN_ADC] = "adc", [INSN_SBB] = "sbb", [INSN_AND] = "and",
    [INSN_SUB] = "sub", [INSN_XOR] = "xor", [INSN_CMP] = "cmp", [INSN_TEST] = "test",
    [INSN_NOT] = "not", [INSN_NEG] = "neg", [INSN_INC] = "inc", [INSN_DEC] = "dec",
    [INSN_MUL] = "mul", [INSN_IMUL1] = "imul1", [INSN_IMUL2] = "imul2",
    [INSN_IMUL3] = "imul3", [INSN_DIV] = "div", [INSN_IDIV] = "idiv", [INSN_ROL] = "rol",
    [INSN_ROR] = "ror", [INSN_RCL] = "rcl", [INSN_RCR] = "rcr", [INSN_SHL] = "shl",
    [INSN_SHR] = "shr", [INSN_SAR] = "sar", [INSN_SHLD] = "shld", [INSN_SHRD] = "shrd",
    [INSN_BT] = "bt", [INSN_BTS] = "bts", [INSN_BTR] = "btr", [INSN_BTC] = "btc",
    [INSN_BSF] = "bsf", [INSN_BSR] = "bsr", [INSN_BSWAP] = "bswap", [INSN_XADD] = "xadd",
    [INSN_CMPXCHG] = "cmpxchg", [INSN_CMPXCHG8B] = "cmpxchg8b",
    [INSN_CMPXCHG16B] = "cmpxchg16b", [INSN_XCHG] = "xchg", [INSN_DAA] = "daa",
    [INSN_DAS] = "das", [INSN_AAA] = "aaa", [INSN_AAS] = "aas", [INSN_AAM] = "aam",
    [INSN_AAD] = "aad", [INSN_CBW] = "cbw", [INSN_CWD] = "cwd", [INSN_CLC] = "clc",
    [INSN_STC] = "stc", [INSN_CMC] = "cmc", [INSN_CLD] = "cld", [INSN_STD] = "std",
    [INSN_LAHF] = "lahf", [INSN_SAHF] = "sahf", [INSN_SALC] = "salc", [INSN_MOV] = "mov",
    [INSN_MOVZX] = "movzx", [INSN_MOVSX] = "movsx", [INSN_MOVSXD] = "movsxd",
    [INSN_LEA] = "lea", [INSN_CMOVCC] = "cmovcc", [INSN_SETCC] = "setcc",
    [INSN_XLAT] = "xlat", [INSN_MOVBE] = "movbe", [INSN_MOVNTI] = "movnti",
    [INSN_PUSH] = "push", [INSN_POP] = "pop", [INSN_PUSHA] = "pusha", [INSN_POPA] = "popa",
    [INSN_ENTER] = "enter", [INSN_LEAVE] = "leave", [INSN_JMP] = "jmp", [INSN_JCC] = "jcc",
    [INSN_CALL] = "call", [INSN_RET] = "ret", [INSN_LOOP] = "loop", [INSN_LOOPE] = "loope",
    [INSN_LOOPNE] = "loopne", [INSN_JCXZ] = "jcxz", [INSN_BOUND] = "bound",
    [INSN_MOVS] = "movs", [INSN_CMPS] = "cmps", [INSN_STOS] = "stos", [INSN_LODS] = "lods",
    [INSN_SCAS] = "scas", [INSN_NOP] = "nop", [INSN_PAUSE] = "pause", [INSN_FENCE] = "fence",
    [INSN_CLFLUSH] = "clflush", [INSN_UD] = "ud", [INSN_MOV_FROM_CR] = "mov_from_cr",
    [INSN_MOV_TO_CR] = "mov_to_cr", [INSN_MOV_FROM_DR] = "mov_from_dr",
    [INSN_MOV_TO_DR] = "mov_to_dr", [INSN_MOV_FROM_SEG] = "mov_from_seg",
    [INSN_MOV_TO_SEG] = "mov_to_seg", [INSN_PUSH_SEG] = "push_seg",
    [INSN_POP_SEG] = "pop_seg", [INSN_LES] = "les", [INSN_LDS] = "lds", [INSN_LSS] = "lss",
    [INSN_LFS] = "lfs", [INSN_LGS] = "lgs", [INSN_PUSHF] = "pushf", [INSN_POPF] = "popf",
    [INSN_CLI] = "cli", [INSN_STI] = "sti", [INSN_INT] = "int", [INSN_INT3] = "int3",
    [INSN_INTO] = "into", [INSN_INT1] = "int1", [INSN_IRET] = "iret",
    [INSN_CALL_FAR] = "call_far", [INSN_JMP_FAR] = "jmp_far", [INSN_RET_FAR] = "ret_far",
    [INSN_SYSCALL] = "syscall", [INSN_SYSRET] = "sysret", [INSN_SYSENTER] = "sysenter",
    [INSN_SYSEXIT] = "sysexit", [INSN_SGDT] = "sgdt", [INSN_SIDT] = "sidt",
    [INSN_LGDT] = "lgdt", [INSN_LIDT] = "lidt", [INSN_SLDT] = "sldt", [INSN_STR] = "str",
    [INSN_LLDT] = "lldt", [INSN_LTR] = "ltr", [INSN_VERR] = "verr", [INSN_VERW] = "verw",
    [INSN_LAR] = "lar", [INSN_LSL] = "lsl", [INSN_ARPL] = "arpl", [INSN_SMSW] = "smsw",
    [INSN_LMSW] = "lmsw", [INSN_CLTS] = "clts", [INSN_INVLPG] = "invlpg",
    [INSN_INVPCID] = "invpcid", [INSN_INVD] = "invd", [INSN_WBINVD] = "wbinvd",
    [INSN_WBNOINVD] = "wbnoinvd", [INSN_HLT] = "hlt", [INSN_MONITOR] = "monitor",
    [INSN_MWAIT] = "mwait", [INSN_RDMSR] = "rdmsr", [INSN_WRMSR] = "wrmsr",
    [INSN_RDTSC] = "rdtsc", [INSN_RDTSCP] = "rdtscp", [INSN_RDPMC] = "rdpmc",
    [INSN_RDPID] = "rdpid", [INSN_CPUID] = "cpuid", [INSN_IN] = "in", [INSN_OUT] = "out",
    [INSN_INS] = "ins", [INSN_OUTS] = "outs", [INSN_SWAPGS] = "swapgs",
    [INSN_RDFSBASE] = "rdfsbase", [INSN_RDGSBASE] = "rdgsbase", [INSN_WRFSBASE] = "wrfsbase",
    [INSN_WRGSBASE] = "wrgsbase", [INSN_XGETBV] = "xgetbv", [INSN_XSETBV] = "xsetbv",
    [INSN_CLAC] = "clac", [INSN_STAC] = "stac", [INSN_VMCALL] = "vmcall",
    [INSN_VMMCALL] = "vmmcall", [INSN_FXSAVE] = "fxsave", [INSN_FXRSTOR] = "fxrstor",
    [INSN_XSAVE] = "xsave", [INSN_XRSTOR] = "xrstor", [INSN_XSAVEOPT] = "xsaveopt",
    [INSN_XSAVEC] = "xsavec", [INSN_XSAVES] = "xsaves", [INSN_XRSTORS] = "xrstors",
    [INSN_RSM] = "rsm", [INSN_GETSEC] = "getsec", [INSN_VMX] = "vmx", [INSN_SVM] = "svm",
};

const char *insn_name(enum insn_id id)
{
    return (unsigned)id < INSN_NR && names[id] ? names[id] : "unknown";
}
