/* SPDX-License-Identifier: MIT */
/*
 * Descriptor tables of paravirtual guests (xen-abi 3.8): the guest's pages as GDT, Xen's own
 * flat segments behind them, an LDT by its linear address. Descriptors are checked when they
 * are written or their page is taken into use, and again when they are loaded, because only the
 * latter keeps the processor from ever seeing a gate or a privileged segment.
 */
#include <errno.h>

#include "pv/guest_access.h"
#include "pv/hypercall.h"
#include "pv/pv_guest.h"
#include "pv/xen_abi.h"

#define DESC_P         (1ull << 47)
#define DESC_S         (1ull << 44)
#define DESC_CODE      (1ull << 43)
#define DESC_RW        (1ull << 41) /* code: readable, data: writable */
#define DESC_CONFORM   (1ull << 42)
#define DESC_L         (1ull << 53)
#define DESC_DB        (1ull << 54)
#define DESC_DPL3      (3ull << 45)
#define DESC_FLAT_CS64 0x00affb000000ffffull
#define DESC_FLAT_CS32 0x00cffb000000ffffull
#define DESC_FLAT_DS   0x00cff3000000ffffull

enum { DESC_XEN_FIRST = 0xe000, SEL_LOCAL = 4, SEL_RPL = 3 };

bool pv_descriptor_check(uint64_t *raw)
{
    uint64_t desc = *raw;

    if ((desc & DESC_P) == 0) {
        return true; /* can never be loaded */
    }
    if ((desc & DESC_S) == 0) {
        return false; /* gates, TSS, LDT */
    }
    if ((desc & DESC_CODE) != 0 &&
        ((desc & DESC_CONFORM) != 0 || (desc & (DESC_L | DESC_DB)) == (DESC_L | DESC_DB))) {
        return false;
    }
    *raw = desc | DESC_DPL3;
    return true;
}

/* Xen's own segments. */
static bool desc_xen(uint16_t selector, uint64_t *raw)
{
    switch (selector & ~SEL_RPL) {
    case PV_SEL_CS32 & ~SEL_RPL:
        *raw = DESC_FLAT_CS32;
        return true;
    case PV_SEL_DS & ~SEL_RPL:
        *raw = DESC_FLAT_DS;
        return true;
    case PV_SEL_CS64 & ~SEL_RPL:
        *raw = DESC_FLAT_CS64;
        return true;
    default:
        return false;
    }
}

static bool desc_read_gdt(struct pv_domain *d, const struct pv_cpu *cpu, unsigned entry,
                          uint64_t *raw)
{
    if (entry >= cpu->gdt_entries) {
        return false;
    }
    return mem_read(d->mem,
                    (cpu->gdt_mfn[entry / 512] << MEM_PAGE_SHIFT) + entry % 512 * sizeof(*raw),
                    raw, sizeof(*raw));
}

/* --- The LDT ---------------------------------------------------------------------------- */

/* A page of the LDT is where its linear address leads in the kernel's tables when it is first
 * used. From then on it is one of descriptors, so the guest cannot have it to write to. */
static bool ldt_hold(struct pv_domain *d, struct vcpu *v, struct pv_cpu *cpu, unsigned page)
{
    uint64_t gpa;
    uint32_t frame;

    if ((cpu->ldt_held >> page & 1) != 0) {
        return true;
    }
    if (!pv_kernel_translate(d, v, cpu->ldt_gva + page * MEM_PAGE_SIZE, false, &gpa)) {
        return false;
    }
    frame = pv_page_own(d, gpa >> MEM_PAGE_SHIFT);
    if (frame == MEM_HOLE || pv_page_get(d, frame, PV_PAGE_SEGDESC) != 0) {
        return false;
    }
    cpu->ldt_frame[page] = frame;
    cpu->ldt_held |= 1u << page;
    return true;
}

void pv_ldt_drop(struct pv_domain *d, struct pv_cpu *cpu)
{
    for (unsigned page = 0; page < PV_LDT_PAGES && cpu->ldt_held != 0; page++) {
        const uint32_t frame = cpu->ldt_frame[page];

        if ((cpu->ldt_held >> page & 1) != 0 && d->guest->pages[frame].type == PV_PAGE_SEGDESC) {
            pv_page_put(d, frame);
        }
    }
    cpu->ldt_held = 0;
}

void pv_set_ldt(struct pv_domain *d, struct pv_cpu *cpu, uint64_t gva, unsigned entries)
{
    if (gva != cpu->ldt_gva || entries != cpu->ldt_entries) {
        pv_ldt_drop(d, cpu);
        cpu->ldt_gva = gva;
        cpu->ldt_entries = entries;
    }
}

static bool desc_read_ldt(struct pv_domain *d, struct vcpu *v, unsigned entry, uint64_t *raw)
{
    struct pv_cpu *cpu = pv_cpu_of(d, v);
    const uint64_t *table;

    if (entry >= cpu->ldt_entries || !ldt_hold(d, v, cpu, entry / PV_TABLE_ENTRIES)) {
        return false;
    }
    table = mem_frame_hva(d->mem, cpu->ldt_frame[entry / PV_TABLE_ENTRIES]);
    *raw = __atomic_load_n(&table[entry % PV_TABLE_ENTRIES], __ATOMIC_SEQ_CST);
    return true;
}

/* --- Looking one up --------------------------------------------------------------------- */

bool pv_descriptor(struct pv_domain *d, struct vcpu *v, uint16_t selector, uint64_t *raw)
{
    const struct pv_cpu *cpu = pv_cpu_of(d, v);
    bool found;

    if ((selector & SEL_LOCAL) != 0) {
        found = desc_read_ldt(d, v, selector >> 3, raw);
    } else if (selector >= DESC_XEN_FIRST) {
        found = desc_xen(selector, raw);
        return found;
    } else {
        found = desc_read_gdt(d, cpu, selector >> 3, raw);
    }
    return found && pv_descriptor_check(raw);
}

/* --- Loading CS and SS ------------------------------------------------------------------ */

static void desc_unpack(struct cpu_segment *seg, uint16_t selector, uint64_t raw)
{
    uint32_t limit = (uint32_t)((raw & 0xffff) | (raw >> 32 & 0xf0000));
    uint16_t attr = (uint16_t)(raw >> 40) & 0xf0ff;

    *seg = (struct cpu_segment){
        .selector = selector,
        .attr = attr | 1, /* accessed */
        .limit = (attr & CPU_SEG_G) != 0 ? limit << 12 | 0xfff : limit,
        .base = (raw >> 16 & 0xffffff) | (raw >> 32 & 0xff000000),
    };
}

void pv_load_flat(struct cpu_x86 *cpu)
{
    desc_unpack(&cpu->seg[CPU_CS], PV_SEL_CS64, DESC_FLAT_CS64);
    desc_unpack(&cpu->seg[CPU_SS], PV_SEL_DS, DESC_FLAT_DS);
}

static bool desc_load(struct pv_domain *d, struct vcpu *v, uint16_t selector, bool code,
                      struct cpu_segment *seg)
{
    uint64_t raw;

    if ((selector & ~SEL_RPL) == 0 || !pv_descriptor(d, v, selector, &raw) ||
        (raw & (DESC_P | DESC_S)) != (DESC_P | DESC_S) || (raw & DESC_DPL3) != DESC_DPL3 ||
        ((raw & DESC_CODE) != 0) != code || (!code && (raw & DESC_RW) == 0)) {
        return false;
    }
    desc_unpack(seg, selector, raw);
    return true;
}

bool pv_load_code(struct pv_domain *d, struct vcpu *v, uint16_t cs, uint16_t ss,
                  uint16_t *selector)
{
    struct cpu_segment code, stack;

    *selector = cs;
    if (!desc_load(d, v, cs | SEL_RPL, true, &code)) {
        return false;
    }
    *selector = ss;
    if (!desc_load(d, v, ss | SEL_RPL, false, &stack)) {
        return false;
    }
    v->cpu.seg[CPU_CS] = code;
    v->cpu.seg[CPU_SS] = stack;
    return true;
}

bool pv_load_data(struct pv_domain *d, struct vcpu *v, unsigned seg, uint16_t selector)
{
    const bool null = (selector & ~SEL_RPL) == 0;
    uint64_t raw;

    if (!null && pv_descriptor(d, v, selector, &raw) &&
        (raw & (DESC_P | DESC_S)) == (DESC_P | DESC_S) &&
        (raw & (DESC_CODE | DESC_RW)) != DESC_CODE) {
        desc_unpack(&v->cpu.seg[seg], selector, raw);
        return true;
    }
    v->cpu.seg[seg] = (struct cpu_segment){.unusable = true};
    return null;
}

/* --- Hypercalls ------------------------------------------------------------------------- */

static void desc_drop_gdt(struct pv_domain *d, struct pv_cpu *cpu)
{
    const unsigned pages = (cpu->gdt_entries + 511) / 512;

    for (unsigned i = 0; i < pages; i++) {
        uint32_t frame = pv_page_own(d, cpu->gdt_mfn[i]);

        if (frame != MEM_HOLE && d->guest->pages[frame].type == PV_PAGE_SEGDESC) {
            pv_page_put(d, frame);
        }
    }
    cpu->gdt_entries = 0;
}

int pv_set_gdt(struct pv_domain *d, struct pv_cpu *cpu, const uint64_t *mfns, unsigned entries)
{
    const unsigned pages = (entries + 511) / 512;

    for (unsigned i = 0; i < pages; i++) {
        uint32_t frame = pv_page_own(d, mfns[i]);

        if (frame == MEM_HOLE || pv_page_get(d, frame, PV_PAGE_SEGDESC) != 0) {
            while (i-- > 0) {
                pv_page_put(d, pv_page_own(d, mfns[i]));
            }
            return -EINVAL;
        }
    }
    desc_drop_gdt(d, cpu);
    for (unsigned i = 0; i < pages; i++) {
        cpu->gdt_mfn[i] = mfns[i];
    }
    cpu->gdt_entries = entries;
    return 0;
}

int64_t pv_op_set_gdt(struct hypercall *h)
{
    uint64_t mfns[PV_GDT_FRAMES];
    const uint32_t entries = (uint32_t)h->arg[1];
    const unsigned pages = (entries + 511) / 512;

    if (entries > PV_GDT_ENTRIES) {
        return -EINVAL;
    }
    if (!guest_read(h->v, h->arg[0], mfns, pages * sizeof(mfns[0]))) {
        return -EFAULT;
    }
    return pv_set_gdt(h->d, pv_cpu_of(h->d, h->v), mfns, entries);
}

int64_t pv_op_update_descriptor(struct hypercall *h)
{
    const uint64_t gpa = h->arg[0];
    uint64_t raw = h->arg[1];
    uint32_t frame = pv_page_own(h->d, gpa >> MEM_PAGE_SHIFT);
    const struct pv_page *p;

    if ((gpa & 7) != 0 || frame == MEM_HOLE || !pv_descriptor_check(&raw)) {
        return -EINVAL;
    }
    p = &h->d->guest->pages[frame];
    if (p->count > 0 && p->type != PV_PAGE_SEGDESC && p->type != PV_PAGE_WRITABLE) {
        return -EINVAL;
    }
    __atomic_store_n((uint64_t *)mem_frame_hva(h->d->mem, frame) + (gpa & 4095) / 8, raw,
                     __ATOMIC_SEQ_CST);
    mem_written(h->d->mem, frame);
    return 0;
}

/* The selector of the user's GS: its base becomes that of the mode that does not run. */
static void desc_load_user_gs(struct pv_domain *d, struct vcpu *v, uint16_t selector)
{
    struct cpu_segment *gs = &v->cpu.seg[CPU_GS];
    uint64_t base = gs->base;

    pv_load_data(d, v, CPU_GS, selector); /* a bad one is a null one */
    v->cpu.kernel_gs_base = gs->base;
    gs->base = base;
}

int64_t pv_op_set_segment_base(struct hypercall *h)
{
    struct cpu_x86 *cpu = &h->v->cpu;
    const uint64_t base = h->arg[1];
    const uint32_t which = (uint32_t)h->arg[0];

    if (which == SEGBASE_GS_USER_SEL) {
        desc_load_user_gs(h->d, h->v, (uint16_t)base);
        return 0;
    }
    if (which > SEGBASE_GS_USER_SEL || !pv_canonical(base)) {
        return -EINVAL;
    }
    if (which == SEGBASE_FS) {
        cpu->seg[CPU_FS].base = base;
    } else if (which == SEGBASE_GS_USER) {
        cpu->kernel_gs_base = base;
    } else {
        cpu->seg[CPU_GS].base = base;
    }
    return 0;
}
