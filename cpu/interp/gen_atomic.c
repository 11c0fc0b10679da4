/* SPDX-License-Identifier: MIT */
/* Generic exchanges, and what makes LOCKed instructions atomic (SDM vol. 3 8.1). */
#include "engine.h"

#include "alu.h"
#include "gen.h"

__extension__ typedef unsigned __int128 u128;

/* Others may have made code of it since it was looked up, or have opened code. */
static void gen_find_code(struct interp *e, unsigned part)
{
    struct mem_frame_info *info = mem_ram_info(e->v->mem, e->m.part[part]);

    e->m.code[part] = (atomic_fetch_or(&info->flags, MEM_DIRTY) & MEM_CODE) != 0;
}

/*
 * LOCKed instructions use the host's lock prefix, but not across cache lines: a host with
 * split-lock detection punishes those, and guest pages may not follow each other in the host.
 * All other vCPUs stand still for them, which takes long, for a thing no sane guest does.
 */
bool gen_atomic(struct interp *e, bool locked)
{
    const struct mref *m = &e->m;

    if (m->part[0] == NULL || (m->len1 != m->len && m->part[1] == NULL)) {
        return false;
    }
    if ((m->va & 63) + m->len <= 64) {
        return true;
    }
    if (!locked) {
        return false;
    }
    e->alone = interp_smp_alone(e);
    if (e->alone && e->shadow == NULL) {
        e->break_block = true; /* what follows may be stale (tlb_opened()) */
        gen_find_code(e, 0);
        if (m->len1 != m->len) {
            gen_find_code(e, 1);
        }
    }
    return false;
}

bool gen_locked(struct interp *e, const struct insn *in)
{
    return (in->prefixes & INSN_P_LOCK) != 0 && gen_atomic(e, true);
}

void gen_locked_done(struct interp *e)
{
    if (unlikely(e->m.code[0])) {
        interp_code_written(e, e->m.part[0], e->m.len);
    }
}

/* On a host operand p and the register value a. */
#define GEN_EXCHANGE(insn, mod, type)                                                          \
    __asm__ volatile(insn " %" mod "0, %1"                                                     \
                     : "+r"(a), "+m"(*(interp_##type *)p)                                      \
                     :                                                                         \
                     : "cc", "memory")

bool gen_xadd(struct interp *e, const struct insn *in)
{
    unsigned size = in->op[0].size;
    uint64_t a, b, sum;

    if (!interp_operand(e, in, 0, X86_WRITE)) {
        return false;
    }
    b = interp_get(e, in, 1);
    if (in->op[0].kind == OPK_MEM && gen_locked(e, in)) {
        void *p = e->m.part[0];

        a = b;
        switch (size) {
        case 1:
            GEN_EXCHANGE("lock; xaddb", "b", uint8_t);
            break;
        case 2:
            GEN_EXCHANGE("lock; xaddw", "w", uint16_t);
            break;
        case 4:
            GEN_EXCHANGE("lock; xaddl", "k", uint32_t);
            break;
        default:
            GEN_EXCHANGE("lock; xaddq", "q", uint64_t);
            break;
        }
        (void)ALU_BY_SIZE(add, size, &e->fl, a, b);
        interp_set(e, in, 1, a);
        gen_locked_done(e);
        return true;
    }
    a = interp_get(e, in, 0);
    sum = ALU_BY_SIZE(add, size, &e->fl, a, b);
    interp_set(e, in, 1, a);
    interp_set(e, in, 0, sum);
    return true;
}

bool gen_xchg(struct interp *e, const struct insn *in)
{
    unsigned mem = in->op[1].kind == OPK_MEM ? 1 : 0, reg = 1 - mem;
    uint64_t a, b;

    if (!interp_operand(e, in, mem, X86_WRITE)) {
        return false;
    }
    b = interp_get(e, in, reg);
    if (in->op[mem].kind == OPK_MEM && gen_atomic(e, true)) {
        void *p = e->m.part[0];

        a = b;
        switch (in->op[mem].size) {
        case 1:
            GEN_EXCHANGE("xchgb", "b", uint8_t);
            break;
        case 2:
            GEN_EXCHANGE("xchgw", "w", uint16_t);
            break;
        case 4:
            GEN_EXCHANGE("xchgl", "k", uint32_t);
            break;
        default:
            GEN_EXCHANGE("xchgq", "q", uint64_t);
            break;
        }
        gen_locked_done(e);
    } else {
        a = interp_get(e, in, mem);
        interp_set(e, in, mem, b);
    }
    interp_set(e, in, reg, a);
    return true;
}

/* cmpxchg on a host word, by the host: rax comes back as it leaves it. */
#define GEN_CMPXCHG(insn, mod, dst)                                                            \
    __asm__ volatile(insn " %" mod "4, %" mod "2\n\tmovq %%rax, %0" ALU_SAVE                   \
                          "\n\tmovl %%eax, %1"                                                 \
                     : "=&r"(acc), "=&r"(f), dst, "+&a"(a)                                     \
                     : "r"(b)                                                                  \
                     : "cc", "memory")

static void gen_cmpxchg_mem(struct interp *e, unsigned size, void *p, uint64_t b)
{
    uint64_t a = e->v->cpu.gpr[CPU_RAX], acc;
    uint32_t f;

    switch (size) {
    case 1:
        GEN_CMPXCHG("lock; cmpxchgb", "b", "+m"(*(uint8_t *)p));
        break;
    case 2:
        GEN_CMPXCHG("lock; cmpxchgw", "w", "+m"(*(interp_uint16_t *)p));
        break;
    case 4:
        GEN_CMPXCHG("lock; cmpxchgl", "k", "+m"(*(interp_uint32_t *)p));
        break;
    default:
        GEN_CMPXCHG("lock; cmpxchgq", "q", "+m"(*(interp_uint64_t *)p));
        break;
    }
    e->v->cpu.gpr[CPU_RAX] = acc;
    e->fl = f;
}

static void gen_cmpxchg_reg(struct interp *e, const struct insn *in, uint64_t b)
{
    uint64_t a = e->v->cpu.gpr[CPU_RAX], acc, d;
    uint32_t f;

    if (in->op[0].size == 1) {
        uint8_t low = (uint8_t)interp_get(e, in, 0);

        GEN_CMPXCHG("cmpxchgb", "b", "+&r"(low));
        e->v->cpu.gpr[CPU_RAX] = acc;
        interp_set(e, in, 0, low);
        e->fl = f;
        return;
    }
    if (in->op[0].reg == CPU_RAX) {
        /* The accumulator is the destination: always equal, so it becomes the source. */
        (void)ALU_BY_SIZE(sub, in->op[0].size, &e->fl, a, a);
        interp_set(e, in, 0, b);
        return;
    }
    d = e->v->cpu.gpr[in->op[0].reg];
    switch (in->op[0].size) {
    case 2:
        GEN_CMPXCHG("cmpxchgw", "w", "+&r"(d));
        break;
    case 4:
        GEN_CMPXCHG("cmpxchgl", "k", "+&r"(d));
        break;
    default:
        GEN_CMPXCHG("cmpxchgq", "q", "+&r"(d));
        break;
    }
    e->v->cpu.gpr[CPU_RAX] = acc;
    e->v->cpu.gpr[in->op[0].reg] = d;
    e->fl = f;
}

bool gen_cmpxchg(struct interp *e, const struct insn *in)
{
    unsigned size = in->op[0].size;
    uint64_t a, b;

    if (!interp_operand(e, in, 0, X86_WRITE)) {
        return false;
    }
    b = interp_get(e, in, 1);
    if (in->op[0].kind != OPK_MEM) {
        gen_cmpxchg_reg(e, in, b);
    } else if (gen_atomic(e, (in->prefixes & INSN_P_LOCK) != 0)) {
        gen_cmpxchg_mem(e, size, e->m.part[0], b);
        gen_locked_done(e);
    } else {
        a = interp_get(e, in, 0);
        gen_cmpxchg_mem(e, size, &a, b);
        interp_set(e, in, 0, a);
    }
    return true;
}

bool gen_cmpxchg8b(struct interp *e, const struct insn *in)
{
    uint64_t *gpr = e->v->cpu.gpr;
    uint64_t want = (uint32_t)gpr[CPU_RAX] | gpr[CPU_RDX] << 32, old;
    uint64_t put = (uint32_t)gpr[CPU_RBX] | gpr[CPU_RCX] << 32;
    bool equal;

    if (!interp_operand(e, in, 0, X86_WRITE)) {
        return false;
    }
    old = want;
    if (gen_atomic(e, (in->prefixes & INSN_P_LOCK) != 0)) {
        __asm__ volatile("lock; cmpxchgq %3, %1"
                         : "=@ccz"(equal), "+m"(*(interp_uint64_t *)(void *)e->m.part[0]),
                           "+a"(old)
                         : "r"(put)
                         : "memory");
        gen_locked_done(e);
    } else {
        old = interp_get(e, in, 0);
        equal = old == want;
        interp_set(e, in, 0, equal ? put : old);
    }
    e->fl &= ~0x4000u;
    if (equal) {
        e->fl |= 0x4000;
    } else {
        gpr[CPU_RAX] = (uint32_t)old;
        gpr[CPU_RDX] = old >> 32;
    }
    return true;
}

bool gen_cmpxchg16b(struct interp *e, const struct insn *in)
{
    uint64_t *gpr = e->v->cpu.gpr;
    uint64_t a = gpr[CPU_RAX], d = gpr[CPU_RDX];
    uint64_t off = interp_offset(e, in), va;
    bool based = in->seg == CPU_FS || in->seg == CPU_GS, equal;

    if (((off + (based ? e->v->cpu.seg[in->seg].base : 0)) & 15) != 0) { /* before #SS */
        return interp_fault_code(e, CPU_GP, 0);
    }
    if (!interp_linear(e, in->seg, off, 16, X86_WRITE, &va) ||
        !interp_mref(e, va, 16, X86_WRITE, &e->m)) {
        return false;
    }
    if (e->m.part[0] != NULL) {
        __asm__ volatile("lock; cmpxchg16b %1"
                         : "=@ccz"(equal), "+m"(*(u128 *)(void *)e->m.part[0]), "+a"(a), "+d"(d)
                         : "b"(gpr[CPU_RBX]), "c"(gpr[CPU_RCX])
                         : "memory");
        gen_locked_done(e);
    } else {
        uint64_t old[2], put[2] = {gpr[CPU_RBX], gpr[CPU_RCX]};

        interp_mref_read(e, &e->m, old);
        equal = old[0] == a && old[1] == d;
        interp_mref_write(e, &e->m, equal ? put : old);
        a = old[0], d = old[1];
    }
    e->fl = (e->fl & ~0x4000u) | (equal ? 0x4000 : 0);
    if (!equal) {
        gpr[CPU_RAX] = a;
        gpr[CPU_RDX] = d;
    }
    return true;
}
