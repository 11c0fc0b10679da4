/* SPDX-License-Identifier: MIT */
/*
 * A hostile Xen kernel: the input is a program of hypercalls with chosen arguments and
 * structures, on two vCPUs in both modes, between steps of the clock, events from the host and
 * saved states. Nothing may crash, hang, leak, stay mapped, or touch what is not the guest's.
 */
#include <errno.h>
#include <string.h>

#include "fuzz.h"
#include "pv/evtchn.h"
#include "pv/gnttab.h"
#include "tests/unit/pv/xen_guest.h"

enum {
    MAX_STEPS = 128,
    MAX_AGAIN = 40, /* re-executions of one call that are followed */
    TABLE_GFN = 0x700,
};

struct program {
    const uint8_t *data;
    size_t size;
};

struct target {
    struct xen_guest *g;
    struct program p;
    unsigned vcpu;
    unsigned notified;
    struct evtchn_host host;
    struct gnttab_mapping map;
};

static uint64_t take(struct program *p, size_t n)
{
    uint64_t v = 0;

    n = MIN(n, p->size);
    memcpy(&v, p->data, n);
    p->data += n;
    p->size -= n;
    return v;
}

/* Arguments worth trying: small numbers, good pointers, pointers to the edge, anything. */
static uint64_t take_arg(struct program *p)
{
    uint64_t kind = take(p, 1);

    switch (kind % 8) {
    case 0:
    case 1:
        return kind / 8;
    case 2:
    case 3:
        return XG_ARGS + (kind / 8) * 64;
    case 4:
        return XG_ARGS + MEM_PAGE_SIZE * (1 + kind / 8) - 1 - take(p, 1);
    case 5:
        return take(p, 8);
    case 6:
        return (kind / 8) << MEM_PAGE_SHIFT;
    default:
        return take(p, 2);
    }
}

/* The call in the registers of the current mode, and what follows from it. */
static void call_registers(struct target *t, uint32_t nr, const uint64_t arg[3])
{
    static const uint8_t regs64[3] = {CPU_RDI, CPU_RSI, CPU_RDX};
    static const uint8_t regs32[3] = {CPU_RBX, CPU_RCX, CPU_RDX};
    struct vcpu *v = t->g->fb->vcpus[t->vcpu];

    v->cpu.gpr[CPU_RAX] = nr;
    for (unsigned i = 0; i < 3; i++) {
        v->cpu.gpr[cpu_is_code64(&v->cpu) ? regs64[i] : regs32[i]] = arg[i];
    }
    for (unsigned i = 0; i < MAX_AGAIN; i++) {
        v->cpu.rip = XG_CODE + 3;
        g_mutex_lock(&t->g->fb->board.lock);
        pv_hypercall(t->g->d, v);
        g_mutex_unlock(&t->g->fb->board.lock);
        if (v->cpu.rip == XG_CODE + 3) {
            break;
        }
        g_assert_cmphex(v->cpu.rip, ==, XG_CODE);
        v->cpu.halted = false;
    }
}

static void step_hypercall(struct target *t)
{
    static const uint8_t common[] = {12, 12, 13, 15, 17, 18, 20, 21, 24, 29, 32, 32, 33, 34};
    uint8_t nr = (uint8_t)take(&t->p, 1);
    uint64_t arg[3];

    for (unsigned i = 0; i < 3; i++) {
        arg[i] = take_arg(&t->p);
    }
    call_registers(t, nr < 224 ? common[nr % sizeof(common)] : nr - 200u, arg);
}

/* A structure where the pointers of take_arg() point; as much as the guest still has there. */
static void step_memory(struct target *t)
{
    uint64_t at = XG_ARGS + take(&t->p, 1) * 16;
    uint64_t len = take(&t->p, 1) % 80;

    for (uint64_t i = 0; i < len; i += 8) {
        uint64_t word = take_arg(&t->p);

        mem_write(t->g->fb->board.mem, at + i, &word, sizeof(word));
    }
}

/* --- Calls that would succeed, with one byte of their structure changed: the way deep inside
 */

#define LIST (XG_ARGS + 0x800ull)

union structure {
    struct gnttab_copy copy;
    struct gnttab_setup_table setup;
    struct gnttab_map_grant_ref map;
    struct xen_memory_reservation memory;
    struct vcpu_hvm_context context;
    struct sched_poll poll;
    struct multicall_entry multi[3];
    struct xen_add_to_physmap_batch batch;
    uint8_t bytes[256];
};

struct call {
    uint32_t nr;
    uint64_t arg[3];
};

static struct call make_copy(union structure *u, uint8_t what, struct program *p)
{
    u->copy.source.u.ref = what / 8;
    u->copy.dest.u.gmfn = 0x20 + what / 8;
    u->copy.source.domid = u->copy.dest.domid = DOMID_SELF;
    u->copy.len = 100;
    u->copy.flags = (what & 0x18) != 0 ? GNTCOPY_source_gref : 0;
    return (struct call){__HYPERVISOR_grant_table_op, {GNTTABOP_copy, XG_ARGS, 1}};
}

static struct call make_setup(union structure *u, uint8_t what, struct program *p)
{
    u->setup.dom = DOMID_SELF;
    u->setup.nr_frames = what / 8;
    u->setup.frame_list.p = (xen_pfn_t *)(uintptr_t)LIST;
    return (struct call){__HYPERVISOR_grant_table_op, {GNTTABOP_setup_table, XG_ARGS, 1}};
}

static struct call make_map(union structure *u, uint8_t what, struct program *p)
{
    uint64_t cmd = (what & 8) != 0 ? GNTTABOP_map_grant_ref : GNTTABOP_unmap_grant_ref;

    u->map.dom = DOMID_SELF;
    return (struct call){__HYPERVISOR_grant_table_op, {cmd, XG_ARGS, 1}};
}

static struct call make_memory(union structure *u, uint8_t what, struct program *p)
{
    uint64_t cmd = (what & 8) != 0 ? XENMEM_populate_physmap : XENMEM_decrease_reservation;

    u->memory.extent_start.p = (xen_pfn_t *)(uintptr_t)LIST;
    u->memory.nr_extents = (what & 0x80) != 0 ? 3000 : 5;
    u->memory.extent_order = what / 32 % 4 * 3;
    u->memory.domid = DOMID_SELF;
    return (struct call){__HYPERVISOR_memory_op, {cmd, XG_ARGS}};
}

static struct call make_vcpu(union structure *u, uint8_t what, struct program *p)
{
    uint64_t cmd = (what & 16) != 0 ? VCPUOP_down : VCPUOP_initialise;

    if ((what & 8) != 0) {
        struct vcpu_hvm_x86_32 *r = &u->context.cpu_regs.x86_32;

        r->cr0 = CPU_CR0_PE;
        r->cs_ar = 0xc9b;
        r->ds_ar = r->es_ar = r->ss_ar = 0xc93;
        r->tr_ar = 0x8b;
    } else {
        u->context.mode = VCPU_HVM_MODE_64B;
        u->context.cpu_regs.x86_64.cr0 = CPU_CR0_PE | CPU_CR0_PG;
        u->context.cpu_regs.x86_64.cr4 = CPU_CR4_PAE;
        u->context.cpu_regs.x86_64.efer = CPU_EFER_LME | CPU_EFER_LMA;
    }
    return (struct call){__HYPERVISOR_vcpu_op, {cmd, 1, XG_ARGS}};
}

static struct call make_poll(union structure *u, uint8_t what, struct program *p)
{
    u->poll.ports.p = (evtchn_port_t *)(uintptr_t)LIST;
    u->poll.nr_ports = what / 8;
    u->poll.timeout = (what & 8) != 0 ? take(p, 3) : 0;
    return (struct call){__HYPERVISOR_sched_op, {SCHEDOP_poll, XG_ARGS}};
}

static struct call make_multicall(union structure *u, uint8_t what, struct program *p)
{
    for (unsigned i = 0; i < 3; i++) {
        u->multi[i].op = take(p, 1) % 44;
        u->multi[i].args[0] = take(p, 1) % 16;
        u->multi[i].args[1] = LIST;
        u->multi[i].args[2] = what / 8;
    }
    return (struct call){__HYPERVISOR_multicall, {XG_ARGS, 3}};
}

static struct call make_batch(union structure *u, uint8_t what, struct program *p)
{
    u->batch.domid = DOMID_SELF;
    u->batch.space = XENMAPSPACE_grant_table;
    u->batch.size = (uint16_t)(what * 16);
    u->batch.idxs.p = u->batch.gpfns.p = (void *)(uintptr_t)LIST;
    u->batch.errs.p = (void *)(uintptr_t)(LIST + 0x4000);
    return (struct call){__HYPERVISOR_memory_op, {XENMEM_add_to_physmap_batch, XG_ARGS}};
}

static void step_template(struct target *t)
{
    static struct call (*const make[8])(union structure *, uint8_t, struct program *) = {
        make_copy, make_setup, make_map,       make_memory,
        make_vcpu, make_poll,  make_multicall, make_batch,
    };
    const uint8_t what = (uint8_t)take(&t->p, 1);
    union structure u;
    struct call call;
    uint8_t at;

    memset(&u, 0, sizeof(u));
    call = make[what % 8](&u, what, &t->p);
    at = (uint8_t)take(&t->p, 1);
    u.bytes[at] ^= (uint8_t)take(&t->p, 1);
    mem_write(t->g->fb->board.mem, XG_ARGS, &u, sizeof(u));
    call_registers(t, call.nr, call.arg);
}

/* --- The rest of the world */

static void step_grant(struct target *t)
{
    uint64_t entry = take(&t->p, 8);
    uint32_t ref = (uint32_t)take(&t->p, 1);

    mem_write(t->g->fb->board.mem, ((uint64_t)TABLE_GFN << MEM_PAGE_SHIFT) + ref * 8ull, &entry,
              sizeof(entry));
    gnttab_unmap(t->g->d, &t->map);
    if (gnttab_map(t->g->d, ref, (entry & 1) != 0, &t->map) == GNTST_okay && t->map.write) {
        memset(t->map.hva, 0x5a, 64);
    }
}

static void step_host(struct target *t)
{
    uint64_t what = take(&t->p, 1);

    evtchn_host_bind(t->g->d, &t->host, (uint32_t)(what / 4));
    evtchn_host_notify(&t->host);
    evtchn_virq(t->g->d, what % 2, VIRQ_TIMER);
    if (what % 4 == 3) {
        evtchn_host_unbind(&t->host);
    }
}

static void step_mode(struct target *t)
{
    uint64_t what = take(&t->p, 1);
    struct cpu_x86 *cpu = &t->g->fb->vcpus[t->vcpu]->cpu;

    t->vcpu = what & 1;
    cpu->cpl = what % 16 == 3 ? 3 : 0;
    cpu->rflags = 2 | ((what & 4) != 0 ? CPU_IF : 0);
    cpu->efer = (what & 0x18) == 0x18 ? 0 : CPU_EFER_LME | CPU_EFER_LMA;
    if ((what & 0x20) != 0) {
        pv_write_hypercall_msr(t->g->d, t->g->fb->vcpus[0], take_arg(&t->p));
    }
    if ((what & 0x40) != 0) {
        t->g->limit = (what & 0x80) != 0 ? XG_ARGS + 0x1800 : 1ull << 40;
    }
}

static void step_state(struct target *t)
{
    struct state *save = state_new_save();
    struct state *load;
    const void *data;
    size_t len;

    pv_domain_state(t->g->d, save);
    data = state_data(save, &len);
    load = state_new_load(data, len);
    pv_domain_state(t->g->d, load);
    g_assert_cmpstr(state_error(load), ==, NULL);
    pv_time_update(t->g->d);
    state_free(save);
    state_free(load);
}

static void step_life(struct target *t)
{
    uint64_t what = take(&t->p, 1);

    if (what % 4 == 0) {
        step_state(t);
    } else if (what % 16 == 1) {
        pv_domain_reset(t->g->d);
    } else {
        pv_domain_resume(t->g->d, (what & 32) != 0, NULL);
        pv_vcpu_blocked(t->g->d, what & 1);
        pv_vcpu_running(t->g->d, what & 1);
    }
}

static void step(struct target *t)
{
    uint64_t op = take(&t->p, 1);

    switch (op % 16) {
    case 0:
        step_grant(t);
        break;
    case 1:
        step_host(t);
        break;
    case 2:
        step_mode(t);
        break;
    case 3:
        step_life(t);
        break;
    case 4:
        xg_advance(t->g, take(&t->p, 3)); /* 16 ms at most: no watchdog is far away */
        fake_board_run(t->g->fb);
        break;
    case 5:
    case 6:
    case 7:
    case 8:
        step_memory(t);
        break;
    case 9:
    case 10:
    case 11:
        step_template(t);
        break;
    default:
        step_hypercall(t);
        break;
    }
    for (unsigned i = 0; i < 2; i++) {
        pv_vcpu_sleeping(t->g->d, t->g->fb->vcpus[i]);
        t->g->fb->vcpus[i]->cpu.halted = false;
    }
}

static void host_notified(void *opaque)
{
    (*(unsigned *)opaque)++;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct target t = {.p = {data, size}};
    struct xen_add_to_physmap table = {
        .domid = DOMID_SELF, .space = XENMAPSPACE_grant_table, .gpfn = TABLE_GFN};

    t.g = xen_guest_new(PV_KIND_PVH, 2);
    t.host = (struct evtchn_host){.notified = host_notified, .opaque = &t.notified};
    XG_OP(t.g, __HYPERVISOR_memory_op, XENMEM_add_to_physmap, &table);
    for (unsigned i = 0; i < MAX_STEPS && t.p.size > 0; i++) {
        step(&t);
    }
    gnttab_unmap(t.g->d, &t.map);
    g_assert_cmpuint(gnttab_mapped(t.g->d), ==, 0);
    evtchn_host_unbind(&t.host);
    xen_guest_free(t.g);
    return 0;
}
