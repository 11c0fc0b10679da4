/* SPDX-License-Identifier: MIT */
/*
 * Which status flags an instruction looks at and which it overwrites. Flags that the SDM leaves
 * undefined count as kept, because a CPU may keep them (AMD's do after MUL and IMUL), but for
 * logic and shifts by constants, where none does; where nothing is known everything is read and
 * nothing killed.
 */
#include <stdbool.h>

#include "insn.h"

static uint8_t flags_of_condition(unsigned cond)
{
    static const uint8_t reads[8] = {FLAG_O, FLAG_C, FLAG_Z,          FLAG_C | FLAG_Z,
                                     FLAG_S, FLAG_P, FLAG_S | FLAG_O, FLAG_S | FLAG_O | FLAG_Z};

    return reads[cond >> 1 & 7];
}

/* Shifts and rotates by a constant that is not 0. */
static bool flags_constant_count(const struct insn *in)
{
    const struct insn_operand *count = &in->op[in->nr_operands - 1];

    return in->nr_operands > 1 && count->kind == OPK_IMM &&
           (in->imm & (in->op[0].size == 8 ? 63 : 31)) != 0;
}

static struct insn_status flags_shift(const struct insn *in)
{
    bool constant = flags_constant_count(in);

    switch (in->id) {
    case INSN_ROL:
    case INSN_ROR:
        return (struct insn_status){0, constant && in->op[0].size >= 4 ? FLAG_C : 0, true};
    case INSN_RCL:
    case INSN_RCR:
        return (struct insn_status){FLAG_C, 0, true};
    default: /* SHL SHR SAR SHLD SHRD */
        if (!constant || in->op[0].size < 4) {
            return (struct insn_status){0, 0, true};
        }
        return (struct insn_status){0, FLAG_ALL, true}; /* OF, AF: as with AND */
    }
}

bool insn_plain(const struct insn *in)
{
    if (in->id >= INSN_ADD && in->id <= INSN_SHRD) {
        return true;
    }
    switch (in->id) {
    case INSN_BT:
    case INSN_BTS:
    case INSN_BTR:
    case INSN_BTC:
    case INSN_BSF:
    case INSN_BSR:
    case INSN_BSWAP:
    case INSN_XADD:
    case INSN_CMPXCHG:
    case INSN_XCHG:
    case INSN_CBW:
    case INSN_CWD:
    case INSN_CLC:
    case INSN_STC:
    case INSN_CMC:
    case INSN_LAHF:
    case INSN_SAHF:
    case INSN_MOV:
    case INSN_MOVZX:
    case INSN_MOVSX:
    case INSN_MOVSXD:
    case INSN_CMOVCC:
    case INSN_SETCC:
        return true;
    default:
        return false;
    }
}

bool insn_stores(const struct insn *in)
{
    const struct insn_operand *mem = insn_mem_operand(in);

    switch (in->id) {
    case INSN_LEA:
    case INSN_NOP:
        return false;
    case INSN_PUSH:
    case INSN_PUSHF:
    case INSN_CALL:
    case INSN_MOVS:
    case INSN_STOS:
        return true;
    default:
        return mem != NULL && (mem->access & OPA_WRITE) != 0;
    }
}

struct insn_status insn_status_flags(const struct insn *in)
{
    switch (in->id) {
    case INSN_ADC:
    case INSN_SBB:
        return (struct insn_status){FLAG_C, FLAG_ALL, true};
    case INSN_ADD:
    case INSN_SUB:
    case INSN_CMP:
    case INSN_NEG:
    case INSN_XADD:
    case INSN_CMPXCHG:
        return (struct insn_status){0, FLAG_ALL, true};
    case INSN_OR:
    case INSN_AND:
    case INSN_XOR:
    case INSN_TEST: /* AF: undefined, but no CPU keeps it */
        return (struct insn_status){0, FLAG_ALL, true};
    case INSN_INC:
    case INSN_DEC:
        return (struct insn_status){0, FLAG_ALL & ~FLAG_C, true};
    case INSN_MUL:
    case INSN_IMUL1:
    case INSN_IMUL2:
    case INSN_IMUL3:
        return (struct insn_status){0, FLAG_C | FLAG_O, true};
    case INSN_DIV:
    case INSN_IDIV:
        return (struct insn_status){0, 0, true};
    case INSN_ROL:
    case INSN_ROR:
    case INSN_RCL:
    case INSN_RCR:
    case INSN_SHL:
    case INSN_SHR:
    case INSN_SAR:
    case INSN_SHLD:
    case INSN_SHRD:
        return flags_shift(in);
    case INSN_BT:
    case INSN_BTS:
    case INSN_BTR:
    case INSN_BTC:
        return (struct insn_status){0, FLAG_C, true};
    case INSN_BSF:
    case INSN_BSR:
        return (struct insn_status){0, FLAG_Z, true};
    case INSN_CMPXCHG8B:
    case INSN_CMPXCHG16B:
        return (struct insn_status){0, FLAG_Z, true};
    case INSN_CLC:
    case INSN_STC:
        return (struct insn_status){0, FLAG_C, true};
    case INSN_CMC:
        return (struct insn_status){FLAG_C, 0, true};
    case INSN_SAHF:
        return (struct insn_status){0, FLAG_ALL & ~FLAG_O, true};
    case INSN_PUSHF:
        return (struct insn_status){FLAG_ALL, 0, false};
    case INSN_LAHF:
        return (struct insn_status){FLAG_ALL & ~FLAG_O, 0, false};
    case INSN_SETCC:
    case INSN_CMOVCC:
    case INSN_JCC:
        return (struct insn_status){flags_of_condition(in->cond), 0, false};
    case INSN_NOT:
    case INSN_BSWAP:
    case INSN_XCHG:
    case INSN_CBW:
    case INSN_CWD:
    case INSN_MOV:
    case INSN_MOVZX:
    case INSN_MOVSX:
    case INSN_MOVSXD:
    case INSN_LEA:
    case INSN_MOVBE:
    case INSN_MOVNTI:
    case INSN_PUSH:
    case INSN_POP:
    case INSN_LEAVE:
    case INSN_NOP:
    case INSN_PAUSE:
    case INSN_FENCE:
    case INSN_MOVS:
    case INSN_STOS:
    case INSN_LODS:
    case INSN_CLI:
    case INSN_STI:
    case INSN_SWAPGS:
        return (struct insn_status){0, 0, false};
    case INSN_NATIVE:
        if (in->map == INSN_MAP_0F && (in->opcode & 0xfe) == 0x2e) { /* COMISx, UCOMISx */
            return (struct insn_status){0, FLAG_ALL, true};
        }
        return (struct insn_status){(in->flags & INSN_F_READS_FLAGS) != 0 ? FLAG_ALL : 0, 0,
                                    (in->flags & INSN_F_WRITES_FLAGS) != 0};
    default:
        return (struct insn_status){FLAG_ALL, 0, true};
    }
}
