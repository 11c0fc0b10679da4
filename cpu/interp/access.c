/* SPDX-License-Identifier: MIT */
/*
 * Memory operands: segmentation, translation, and the accesses themselves. An operand is opened
 * first (every check, on both pages when it crosses one), so that reading and writing it cannot
 * fail.
 */
#include "engine.h"

bool interp_fault(struct interp *e, uint8_t vector)
{
    e->fault = (struct x86_fault){.vector = vector};
    return false;
}

bool interp_fault_code(struct interp *e, uint8_t vector, uint32_t error)
{
    e->fault = (struct x86_fault){.vector = vector, .has_error = true, .error = error};
    return false;
}

static bool access_segment_flat(const struct cpu_segment *s)
{
    /* Present writable data or readable code, expand-up, 4 GiB. */
    unsigned want = CPU_SEG_S | CPU_SEG_P | 2;

    return s->base == 0 && s->limit == UINT32_MAX && !s->unusable && (s->attr & want) == want &&
           (s->attr & 0xc) == 0;
}

bool interp_linear(struct interp *e, enum cpu_segreg seg, uint64_t offset, unsigned len,
                   unsigned access, uint64_t *va)
{
    const struct cpu_segment *s = &e->v->cpu.seg[seg];

    if (interp_is64(e)) {
        if (seg == CPU_FS || seg == CPU_GS) {
            offset += s->base;
        }
        *va = offset;
        if (likely(interp_canonical(offset) && interp_canonical(offset + len - 1))) {
            return true;
        }
        return interp_fault_code(e, seg == CPU_SS ? CPU_STACK_FAULT : CPU_GP, 0);
    }
    if (access_segment_flat(s) && offset + len - 1 <= UINT32_MAX) {
        *va = offset;
        return true;
    }
    interp_fpu_home(e);
    return x86_linear(e->v, seg, offset, len, access, va, &e->fault);
}

uint64_t interp_offset(const struct interp *e, const struct insn *in)
{
    const struct cpu_x86 *cpu = &e->v->cpu;
    uint64_t off = (uint64_t)in->disp;

    if (in->base == INSN_REG_RIP) {
        off += cpu->rip + in->len;
    } else if (in->base != INSN_NO_REG) {
        off += cpu->gpr[in->base];
    }
    if (in->index != INSN_NO_REG && (in->flags & INSN_F_VSIB) == 0) {
        off += cpu->gpr[in->index] * in->scale;
    }
    return off & interp_mask(in->addrsize);
}

static bool access_debug_hit(struct interp *e, uint64_t va, unsigned len, unsigned access)
{
    static const uint8_t lengths[4] = {1, 2, 8, 4};
    const uint64_t *dr = e->v->cpu.dr;

    for (unsigned i = 0; i < 4; i++) {
        unsigned type = dr[7] >> (16 + 4 * i) & 3;
        unsigned size = lengths[dr[7] >> (18 + 4 * i) & 3];
        uint64_t start = dr[i] & ~(uint64_t)(size - 1);

        if ((dr[7] >> (2 * i) & 3) == 0 || type == 0 || type == 2) {
            continue;
        }
        if ((type == 3 || (access & X86_WRITE) != 0) && va < start + size && start < va + len) {
            e->dr6_hit |= 1u << i;
        }
    }
    return true;
}

/* A store that would have a write tag if there were no code in the frame; and there still is. */
static bool access_held(const struct interp *e, uint64_t va)
{
    unsigned slot = interp_tlb_slot(va);
    const struct tlb_entry *en = &e->tlb->entry[slot];

    return e->tlb->held[slot] && en->read == PAGE_BASE(va) && en->write != PAGE_BASE(va) &&
           (atomic_load(&mem_ram_info(e->v->mem, (void *)(uintptr_t)(va + en->addend))->flags) &
            MEM_CODE) != 0;
}

bool interp_resolve(struct interp *e, uint64_t va, unsigned access, uint8_t **hva,
                    uint64_t *gpa)
{
    struct tlb_entry *en = &e->tlb->entry[interp_tlb_slot(va)];
    uint64_t page = PAGE_BASE(va);
    struct x86_mapping map;

    if ((access & X86_WRITE) != 0 && unlikely(access_held(e, va))) {
        *hva = (uint8_t *)(uintptr_t)(va + en->addend);
        if (unlikely(e->shadow != NULL)) {
            return e->shadow(e, access, hva);
        }
        if (interp_code_open(e, *hva)) {
            interp_tlb_allow(e, va);
        }
        return true;
    }
    if (((access & X86_WRITE) != 0  ? en->write
         : (access & X86_EXEC) != 0 ? en->exec
                                    : en->read) == page) {
        *hva = (uint8_t *)(uintptr_t)(va + en->addend);
        return likely(e->shadow == NULL) || e->shadow(e, access, hva);
    }
    if (likely(x86_walk(e->v, &e->walk, interp_walk_space(e), va, access | interp_user(e),
                        &map))) {
        *hva = mem_ram_page(e->v->mem, map.gpa >> MEM_PAGE_SHIFT);
    } else {
        *hva = NULL;
    }
    if (*hva == NULL) {
        interp_fpu_home(e);
        if (!x86_translate(e->v, va, access | interp_user(e), &map, &e->fault)) {
            return false;
        }
        *hva = mem_page(e->v->mem, map.gpa >> MEM_PAGE_SHIFT);
    }
    *gpa = map.gpa;
    if (likely(*hva != NULL)) {
        *hva += map.gpa & (MEM_PAGE_SIZE - 1);
    }
    if (unlikely(e->shadow != NULL)) {
        return e->shadow(e, access, hva);
    }
    if (*hva != NULL) {
        interp_tlb_fill(e, va, access, &map, *hva);
    }
    return true;
}

static bool access_part(struct interp *e, uint64_t va, unsigned access, struct mref *m,
                        unsigned i)
{
    const struct tlb_entry *en = &e->tlb->entry[interp_tlb_slot(va)];

    e->shadow_len = i == 0 ? m->len1 : m->len - m->len1;
    if (!interp_resolve(e, va, access, &m->part[i], &m->gpa[i])) {
        return false;
    }
    /* RAM, allowed, and still no write tag: the frame holds code. */
    m->code[i] = (access & X86_WRITE) != 0 && m->part[i] != NULL &&
                 en->write != PAGE_BASE(va) && e->shadow == NULL;
    return true;
}

static bool access_aligned(struct interp *e, uint64_t va, unsigned len)
{
    if ((len == 2 || len == 4 || len == 8) && (va & (len - 1)) != 0) {
        return interp_fault_code(e, CPU_ALIGN, 0);
    }
    return true;
}

bool interp_mref(struct interp *e, uint64_t va, unsigned len, unsigned access, struct mref *m)
{
    const struct tlb_entry *en = &e->tlb->entry[interp_tlb_slot(va)];
    uint64_t next;

    m->va = va;
    m->len = m->len1 = len;
    if (unlikely(interp_special(e) || e->align_check || e->shadow != NULL)) {
        if (e->align_check && !access_aligned(e, va, len)) {
            return false;
        }
    } else if (likely(((access & X86_WRITE) != 0 ? en->write : en->read) ==
                      PAGE_BASE(va + len - 1))) {
        m->part[0] = (uint8_t *)(uintptr_t)(va + en->addend);
        m->code[0] = false;
        return true;
    }
    next = PAGE_BASE(va) + MEM_PAGE_SIZE;
    if (len > next - va) {
        m->len1 = (unsigned)(next - va);
    }
    if (!access_part(e, va, access, m, 0)) {
        return false;
    }
    if (m->len1 != len) {
        if (!cpu_is_long_mode(&e->v->cpu)) {
            next &= UINT32_MAX;
        }
        if (!access_part(e, next, access, m, 1)) {
            return false;
        }
    }
    if ((e->v->cpu.dr[7] & 0xff) != 0) {
        access_debug_hit(e, va, len, access);
    }
    if (unlikely(e->debugging)) {
        interp_debug_access(e, va, len, access);
    }
    return true;
}

/* Copies forward with the widest plain accesses; never touches vector registers. */
static void access_copy(void *to, const void *from, unsigned len)
{
    __asm__ volatile("rep movsb" : "+D"(to), "+S"(from), "+c"(len) : : "memory");
}

static void access_mmio_read(struct interp *e, uint64_t gpa, uint8_t *buf, unsigned len)
{
    interp_fpu_home(e);
    interp_flags_home(e);
    while (len > 0) {
        unsigned size = len >= 8 ? 8 : len >= 4 ? 4 : len >= 2 ? 2 : 1;
        uint64_t val;

        interp_smp_pause(e);
        val = e->v->board_ops->mmio_read(e->v, gpa, size);
        interp_smp_resume(e);
        access_copy(buf, &val, size);
        buf += size, gpa += size, len -= size;
    }
}

static void access_mmio_write(struct interp *e, uint64_t gpa, const uint8_t *buf, unsigned len)
{
    interp_fpu_home(e);
    interp_flags_home(e);
    while (len > 0) {
        unsigned size = len >= 8 ? 8 : len >= 4 ? 4 : len >= 2 ? 2 : 1;
        uint64_t val = 0;

        access_copy(&val, buf, size);
        interp_smp_pause(e);
        e->v->board_ops->mmio_write(e->v, gpa, size, val);
        interp_smp_resume(e);
        buf += size, gpa += size, len -= size;
    }
}

/* One host access where the size allows it: other threads look at the same memory. */
static void access_load(void *to, const void *from, unsigned len)
{
    switch (len) {
    case 1:
        *(uint8_t *)to = *(const volatile uint8_t *)from;
        break;
    case 2:
        *(interp_uint16_t *)to = *(const volatile interp_uint16_t *)from;
        break;
    case 4:
        *(interp_uint32_t *)to = *(const volatile interp_uint32_t *)from;
        break;
    case 8:
        *(interp_uint64_t *)to = *(const volatile interp_uint64_t *)from;
        break;
    default:
        access_copy(to, from, len);
        break;
    }
}

static void access_store(void *to, const void *from, unsigned len)
{
    switch (len) {
    case 1:
        *(volatile uint8_t *)to = *(const uint8_t *)from;
        break;
    case 2:
        *(volatile interp_uint16_t *)to = *(const interp_uint16_t *)from;
        break;
    case 4:
        *(volatile interp_uint32_t *)to = *(const interp_uint32_t *)from;
        break;
    case 8:
        *(volatile interp_uint64_t *)to = *(const interp_uint64_t *)from;
        break;
    default:
        access_copy(to, from, len);
        break;
    }
}

static void access_read_part(struct interp *e, const struct mref *m, unsigned i, uint8_t *buf,
                             unsigned len)
{
    if (likely(m->part[i] != NULL)) {
        access_load(buf, m->part[i], len);
    } else {
        access_mmio_read(e, m->gpa[i], buf, len);
    }
}

static void access_write_part(struct interp *e, const struct mref *m, unsigned i,
                              const uint8_t *buf, unsigned len)
{
    if (likely(m->part[i] != NULL)) {
        access_store(m->part[i], buf, len);
        if (unlikely(m->code[i])) {
            interp_code_written(e, m->part[i], len);
        }
    } else {
        access_mmio_write(e, m->gpa[i], buf, len);
    }
}

void interp_mref_read(struct interp *e, const struct mref *m, void *buf)
{
    access_read_part(e, m, 0, buf, m->len1);
    if (unlikely(m->len1 != m->len)) {
        access_read_part(e, m, 1, (uint8_t *)buf + m->len1, m->len - m->len1);
    }
}

void interp_mref_write(struct interp *e, const struct mref *m, const void *buf)
{
    access_write_part(e, m, 0, buf, m->len1);
    if (unlikely(m->len1 != m->len)) {
        access_write_part(e, m, 1, (const uint8_t *)buf + m->len1, m->len - m->len1);
    }
}

uint64_t interp_mref_load(struct interp *e, const struct mref *m)
{
    uint64_t val = 0;

    interp_mref_read(e, m, &val);
    return val;
}

void interp_mref_store(struct interp *e, const struct mref *m, uint64_t val)
{
    interp_mref_write(e, m, &val);
}
