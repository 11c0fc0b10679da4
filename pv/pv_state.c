/* SPDX-License-Identifier: MIT */
/*
 * What is saved of a paravirtual domain besides its memory: the context of each vCPU that is
 * not in struct cpu_x86, where its rings lie, and which tables are pinned. Types and their
 * counts are not: they follow from pins, base pointers, descriptor tables and the pages that
 * are registered, so loading checks every table again, as Xen does with a guest that comes from
 * elsewhere. A stream cannot claim what the memory does not show.
 */
#include <glib.h>
#include <string.h>

#include "base/error.h"
#include "core/state.h"
#include "pv/evtchn.h"
#include "pv/pv_guest.h"

/* --- a vCPU's context ------------------------------------------------------------------- */

static void state_callback(struct state *s, const char *tag, struct pv_callback *c)
{
    state_u64(s, tag, &c->address);
    state_bool(s, "mask-events", &c->mask_events);
    if (!pv_canonical(c->address)) {
        c->address = 0;
        state_fail(s, "PV guest: a callback is no address");
    }
}

static void state_gates(struct state *s, struct pv_cpu *pc)
{
    for (unsigned i = 0; i < G_N_ELEMENTS(pc->gate); i++) {
        struct pv_gate *gate = &pc->gate[i];

        state_u64(s, "gate", &gate->address);
        state_u16(s, "gate-selector", &gate->selector);
        state_u8(s, "gate-flags", &gate->flags);
        if (!pv_canonical(gate->address)) {
            gate->address = 0;
            state_fail(s, "PV guest: a gate is no address");
        }
    }
}

static void state_registers(struct state *s, struct pv_cpu *pc)
{
    uint32_t ldt = pc->ldt_entries, iopl = pc->iopl, ports = pc->io_bitmap_ports;

    state_u64(s, "kernel-sp", &pc->kernel_sp);
    state_u16(s, "kernel-ss", &pc->kernel_ss);
    state_u64(s, "ldt-gva", &pc->ldt_gva);
    state_u32(s, "ldt-entries", &ldt);
    state_u32(s, "iopl", &iopl);
    state_u64(s, "io-bitmap-gva", &pc->io_bitmap_gva);
    state_u32(s, "io-bitmap-ports", &ports);
    if (!pv_canonical(pc->ldt_gva) || (pc->ldt_gva & (MEM_PAGE_SIZE - 1)) != 0 ||
        ldt > PV_LDT_ENTRIES || iopl > 3 || ports > 65536) {
        state_fail(s, "PV guest: a register is out of range");
        return;
    }
    state_bool(s, "fresh", &pc->fresh);
    for (unsigned i = 0; i < G_N_ELEMENTS(pc->selector); i++) {
        state_u16(s, "selector", &pc->selector[i]);
    }
    pc->ldt_entries = ldt;
    pc->iopl = iopl;
    pc->io_bitmap_ports = ports;
}

/* Loading: takes the references that the roots and the descriptor table stand for. */
static void state_references(struct pv_domain *d, struct state *s, struct pv_cpu *pc)
{
    const uint64_t roots[] = {pc->kernel_root, pc->user_root};
    uint32_t entries = pc->gdt_entries;
    uint64_t gdt[PV_GDT_FRAMES], loaded[G_N_ELEMENTS(roots)];

    memcpy(gdt, pc->gdt_mfn, sizeof(gdt));
    memcpy(loaded, roots, sizeof(loaded));
    state_u64(s, "kernel-root", &loaded[0]);
    state_u64(s, "user-root", &loaded[1]);
    state_u32(s, "gdt-entries", &entries);
    for (unsigned i = 0; i < PV_GDT_FRAMES; i++) {
        state_u64(s, "gdt-frame", &gdt[i]);
    }
    if (!state_loading(s) || !state_ok(s)) {
        return;
    }
    for (unsigned i = 0; i < G_N_ELEMENTS(loaded); i++) {
        uint32_t frame = loaded[i] == PV_MFN_NONE ? MEM_HOLE : pv_page_own(d, loaded[i]);

        if (loaded[i] == PV_MFN_NONE) {
            continue;
        }
        if (frame == MEM_HOLE || pv_page_get(d, frame, PV_PAGE_L4) != 0) {
            state_fail(s, "PV guest: a page-table base leads to no valid table");
            return;
        }
        *(i == 0 ? &pc->kernel_root : &pc->user_root) = loaded[i];
        pv_page_show_m2p(d, loaded[i], i != 0);
    }
    if (entries > PV_GDT_ENTRIES || pv_set_gdt(d, pc, gdt, entries) != 0) {
        state_fail(s, "PV guest: a descriptor table is not valid");
    }
}

static void state_vcpu(struct pv_domain *d, struct state *s, struct pv_cpu *pc)
{
    state_gates(s, pc);
    state_callback(s, "event", &pc->event);
    state_callback(s, "failsafe", &pc->failsafe);
    state_callback(s, "syscall", &pc->syscall);
    state_callback(s, "syscall32", &pc->syscall32);
    state_callback(s, "sysenter", &pc->sysenter);
    state_registers(s, pc);
    state_references(d, s, pc);
}

/* --- pins ------------------------------------------------------------------------------- */

static void state_pin(struct pv_domain *d, struct state *s, uint64_t mfn, uint8_t type)
{
    uint32_t frame;

    state_u64(s, "pin", &mfn);
    state_u8(s, "pin-type", &type);
    if (!state_loading(s) || !state_ok(s)) {
        return;
    }
    frame = pv_page_own(d, mfn);
    if (frame == MEM_HOLE || type < PV_PAGE_L1 || type > PV_PAGE_L4 ||
        pv_page_pin(d, frame, (enum pv_page_type)type) != 0) {
        state_fail(s, "PV guest: a pinned table is not valid");
    }
}

/* The type of the pinned table at the pfn-th frame of RAM, and where that is; 0: none. */
static uint8_t state_pinned(struct pv_domain *d, uint64_t pfn, uint64_t *mfn)
{
    uint32_t frame;

    *mfn = pv_pfn_to_mfn(d, pfn);
    frame = pv_page_own(d, *mfn);
    return frame != MEM_HOLE && d->guest->pages[frame].pinned ? d->guest->pages[frame].type : 0;
}

static void state_pins(struct pv_domain *d, struct state *s)
{
    uint64_t count = 0, mfn;

    for (uint64_t pfn = 0; !state_loading(s) && pfn < d->ram_pages; pfn++) {
        count += state_pinned(d, pfn, &mfn) != 0;
    }
    state_u64(s, "pins", &count);
    for (uint64_t i = 0; state_loading(s) && i < count && state_ok(s); i++) {
        state_pin(d, s, 0, 0);
    }
    for (uint64_t pfn = 0; !state_loading(s) && pfn < d->ram_pages; pfn++) {
        const uint8_t type = state_pinned(d, pfn, &mfn);

        if (type != 0) {
            state_pin(d, s, mfn, type);
        }
    }
}

/* --- pages that were registered --------------------------------------------------------- */

/* What pvemu writes to. Grants are the back ends', who map them again. */
static void state_hold(struct pv_domain *d, struct state *s)
{
    bool ok = evtchn_fifo_hold(d);

    for (unsigned i = 0; i < d->max_vcpus; i++) {
        const uint32_t frame = d->vcpu[i].vcpu_info_frame;

        ok = ok && (frame == MEM_HOLE || pv_frame_hold(d, frame));
    }
    if (!ok) {
        state_fail(s, "PV guest: a page that it registered is not writable");
    }
}

/* --- together --------------------------------------------------------------------------- */

/* A ring lies where the layout of memory has its page, or, before the guest boots, nowhere. */
static void state_ring(struct pv_domain *d, struct state *s, unsigned extra, uint64_t *mfn,
                       uint64_t *gfn)
{
    uint64_t loaded = *mfn;

    state_u64(s, "ring-mfn", &loaded);
    if (!state_loading(s) || !state_ok(s)) {
        return;
    }
    if (loaded != PV_MFN_NONE && (loaded > UINT32_MAX || d->extra_gfn[extra] != loaded)) {
        state_fail(s, "PV guest: a ring is not where its page is");
        return;
    }
    *mfn = loaded;
    if (loaded != PV_MFN_NONE) {
        *gfn = loaded;
        pv_frame_hold(d, mem_extra_frame(d->mem, extra)); /* the first reference of all */
    }
}

void pv_guest_state(struct pv_domain *d, struct state *s)
{
    struct pv_guest *g = d->guest;

    if (state_loading(s)) {
        memset(g->pages, 0, g->nr_frames * sizeof(g->pages[0]));
        for (unsigned i = 0; i < PV_MAX_VCPUS; i++) {
            pv_cpu_clear(&g->cpu[i]);
        }
        pv_m2p_tables(d);
    }
    state_ring(d, s, PV_FRAME_STORE, &g->store_mfn, &d->store_gfn);
    state_ring(d, s, PV_FRAME_CONSOLE, &g->console_mfn, &d->console_gfn);
    state_pins(d, s);
    for (unsigned i = 0; i < d->max_vcpus; i++) {
        state_vcpu(d, s, &g->cpu[i]);
    }
    if (state_loading(s)) {
        if (state_ok(s)) {
            state_hold(d, s);
        }
        g->flush = false;
        g->changes++;
        pv_kernel_changed(g, MEM_HOLE);
        pv_request_all(d, VCPU_REQ_TLB_FLUSH);
    }
}

bool pv_guest_rebuild(struct pv_domain *d, GError **err)
{
    struct pv_guest *g = d->guest;
    g_autofree struct pv_cpu *cpus = g_memdup2(g->cpu, sizeof(g->cpu));
    struct pv_page *pages = g->pages;
    struct state *save = state_new_save(), *load;
    const void *data;
    size_t len;
    bool ok;

    pv_guest_state(d, save);
    data = state_data(save, &len);
    load = state_new_load(data, len);
    g->pages = g_try_new0(struct pv_page, g->nr_frames);
    if (g->pages != NULL) {
        pv_guest_state(d, load);
    } else {
        state_fail(load, "no memory for the types of its pages");
    }
    ok = state_ok(load);
    if (!ok) { /* a device wrote into a table, for example */
        g_free(g->pages);
        g->pages = pages;
        memcpy(g->cpu, cpus, sizeof(g->cpu));
        error_set(err, PVEMU_ERROR_GUEST, "%s", state_error(load));
    } else {
        g_free(pages);
    }
    state_free(save);
    state_free(load);
    return ok;
}
