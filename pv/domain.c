/* SPDX-License-Identifier: MIT */
/*
 * The domain: made, reset, saved. Order matters in reset: first the layout of memory, then the
 * pages in it, then the event channels that the pages name, then time.
 */
#include "base/bit_tree.h"
#include "pv/domain.h"

#include <string.h>

#include "base/error.h"
#include "pv/evtchn.h"
#include "pv/gnttab.h"
#include "pv/memory.h"
#include "pv/pv_guest.h"
#include "pv/sched.h"
#include "pv/time.h"
#include "pv/toolstack.h"
#include "pv/xen_abi.h"
#include "pv/xenstore.h"

G_STATIC_ASSERT(sizeof(struct vcpu_info) == 64);
G_STATIC_ASSERT(sizeof(struct shared_info) <= MEM_PAGE_SIZE);
G_STATIC_ASSERT(offsetof(struct shared_info, evtchn_pending) == 0x800);
G_STATIC_ASSERT(offsetof(struct shared_info, evtchn_mask) == 0xa00);
G_STATIC_ASSERT(offsetof(struct shared_info, wc_version) == 0xc00);
G_STATIC_ASSERT(sizeof(struct vcpu_runstate_info) == 48);
G_STATIC_ASSERT(sizeof(struct multicall_entry) == 64);
G_STATIC_ASSERT(sizeof(struct vcpu_hvm_context) == 128);
G_STATIC_ASSERT(PV_MAX_VCPUS == XEN_LEGACY_MAX_VCPUS);
G_STATIC_ASSERT(PV_HVM_PARAMS == HVM_NR_PARAMS);

/* --- Shared pages ----------------------------------------------------------------------- */

static void *domain_extra_page(struct pv_domain *d, unsigned extra)
{
    return mem_frame_hva(d->mem, mem_extra_frame(d->mem, extra));
}

struct shared_info *pv_shared_info(struct pv_domain *d)
{
    return domain_extra_page(d, PV_FRAME_SHARED_INFO);
}

static void *domain_vcpu_info(struct pv_domain *d, unsigned vcpu)
{
    const struct pv_vcpu *pv = &d->vcpu[vcpu];

    if (pv->vcpu_info_frame == MEM_HOLE) {
        return &pv_shared_info(d)->vcpu_info[vcpu];
    }
    return (uint8_t *)mem_frame_hva(d->mem, pv->vcpu_info_frame) + pv->vcpu_info_offset;
}

struct vcpu_info *pv_vcpu_info(struct pv_domain *d, unsigned vcpu)
{
    return domain_vcpu_info(d, vcpu);
}

struct vcpu_info_x86_32 *pv_vcpu_info_32(struct pv_domain *d, unsigned vcpu)
{
    return domain_vcpu_info(d, vcpu);
}

void pv_vcpu_info_drop(struct pv_domain *d, unsigned vcpu)
{
    struct pv_vcpu *pv = &d->vcpu[vcpu];

    pv_frame_put(d, pv->vcpu_info_frame, true);
    pv->vcpu_info_frame = MEM_HOLE;
    pv->vcpu_info_offset = 0;
}

void pv_vcpu_info_written(struct pv_domain *d, unsigned vcpu)
{
    if (d->vcpu[vcpu].vcpu_info_frame != MEM_HOLE) {
        mem_written(d->mem, d->vcpu[vcpu].vcpu_info_frame);
    }
    mem_written(d->mem, mem_extra_frame(d->mem, PV_FRAME_SHARED_INFO));
}

struct vcpu *pv_vcpu_cpu(struct pv_domain *d, unsigned vcpu)
{
    return d->board->ops->vcpu(d->board, vcpu);
}

void pv_request_all(struct pv_domain *d, uint32_t bits)
{
    const unsigned nr = d->board->ops->nr_vcpus(d->board);

    for (unsigned i = 0; i < nr; i++) {
        d->board->ops->vcpu_request(d->board, i, bits);
    }
}

/* --- vCPUs ------------------------------------------------------------------------------ */

void pv_vcpu_running(struct pv_domain *d, unsigned vcpu)
{
    if (d->vcpu[vcpu].held) {
        return; /* VCPUOP_down came between VCPUOP_up and its first run */
    }
    d->vcpu[vcpu].up = true;
    pv_time_runstate(d, vcpu, RUNSTATE_running);
}

void pv_vcpu_blocked(struct pv_domain *d, unsigned vcpu)
{
    pv_time_runstate(d, vcpu, d->vcpu[vcpu].up ? RUNSTATE_blocked : RUNSTATE_offline);
}

/* So Linux leaves the CPUs of a PVH guest that go off line, and Xen has them down. */
void pv_vcpu_dead(struct pv_domain *d, unsigned vcpu)
{
    d->vcpu[vcpu].up = false;
    d->vcpu[vcpu].initialised = true;
}

void pv_vcpu_init(struct pv_domain *d, unsigned vcpu)
{
    struct pv_vcpu *pv = &d->vcpu[vcpu];

    pv->up = false;
    pv->initialised = false;
    pv->held = false;
    pv->runstate_gva = pv->time_gva = 0; /* paging is off: they would be physical addresses */
    pv_sched_init_vcpu(d, vcpu);
    pv_time_runstate(d, vcpu, RUNSTATE_offline);
}

static void domain_reset_vcpu(struct pv_domain *d, unsigned i)
{
    struct pv_vcpu *pv = &d->vcpu[i];

    pv->domain = d;
    pv->id = i;
    pv->up = i == 0;
    pv->initialised = i == 0;
    pv->held = false;
    pv->upcall_vector = 0;
    pv->vcpu_info_frame = MEM_HOLE;
    pv->vcpu_info_offset = 0;
    pv->runstate_gva = 0;
    pv->time_gva = 0;
}

/* --- Life ------------------------------------------------------------------------------- */

static void domain_clear_pages(struct pv_domain *d)
{
    static const unsigned pages[] = {PV_FRAME_SHARED_INFO, PV_FRAME_STORE, PV_FRAME_CONSOLE};

    for (unsigned i = 0; i < G_N_ELEMENTS(pages); i++) {
        memset(domain_extra_page(d, pages[i]), 0, MEM_PAGE_SIZE);
        mem_written(d->mem, mem_extra_frame(d->mem, pages[i]));
    }
    for (unsigned i = 0; d->kind == PV_KIND_PV && i < PV_MAX_VCPUS; i++) {
        pv_shared_info(d)->vcpu_info[i].evtchn_upcall_mask = 1;
    }
}

/* What the toolstack prepares: pages, ports, parameters, reserved grants. */
static void domain_prepare(struct pv_domain *d)
{
    d->store_gfn = PV_STORE_GFN;
    d->console_gfn = PV_CONSOLE_GFN;
    d->store_port = evtchn_alloc_for_host(d);
    d->console_port = d->has_console ? evtchn_alloc_for_host(d) : 0;
    memset(d->hvm_params, 0, sizeof(d->hvm_params));
    d->hvm_params[HVM_PARAM_STORE_PFN] = PV_STORE_GFN;
    d->hvm_params[HVM_PARAM_STORE_EVTCHN] = d->store_port;
    gnttab_set_reserved(d, GNTTAB_RESERVED_XENSTORE, PV_STORE_GFN);
    if (d->kind != PV_KIND_PV) {
        pv_memory_place(d, PV_FRAME_STORE, PV_STORE_GFN);
    }
    if (d->has_console) {
        d->hvm_params[HVM_PARAM_CONSOLE_PFN] = PV_CONSOLE_GFN;
        d->hvm_params[HVM_PARAM_CONSOLE_EVTCHN] = d->console_port;
        gnttab_set_reserved(d, GNTTAB_RESERVED_CONSOLE, PV_CONSOLE_GFN);
        if (d->kind != PV_KIND_PV) {
            pv_memory_place(d, PV_FRAME_CONSOLE, PV_CONSOLE_GFN);
        }
    }
}

static void domain_start_over(struct pv_domain *d)
{
    for (unsigned i = 0; i < PV_MAX_VCPUS; i++) {
        domain_reset_vcpu(d, i);
    }
    pv_sched_reset(d);
    d->hypercall_page = 0;
    d->vm_assist = 0;
    d->shared_32bit = false;
    domain_clear_pages(d);
    if (d->guest != NULL) {
        pv_guest_reset(d);
    }
    domain_prepare(d);
    pv_time_reset(d);
}

static void domain_fill(struct pv_domain *d, const struct pv_domain_config *config)
{
    d->kind = config->kind;
    d->domid = PV_DOMID;
    d->name = g_strdup(config->name != NULL ? config->name : "guest");
    memcpy(d->uuid, config->uuid, sizeof(d->uuid));
    d->max_vcpus = config->max_vcpus;
    d->nr_vcpus = MIN(config->nr_vcpus, config->max_vcpus);
    d->tsc_hz = config->tsc_hz;
    d->tsc_stable = !config->tsc_unstable;
    d->ram_pages = mem_ram_bytes(d->mem) >> MEM_PAGE_SHIFT;
    d->target_kib = config->memory_target != 0 ? config->memory_target / 1024
                                               : d->ram_pages * (MEM_PAGE_SIZE / 1024);
    d->map = g_memdup2(config->map, config->map_len * sizeof(config->map[0]));
    d->map_len = config->map_len;
    d->has_console = config->has_console;
    d->hypercall_insn[0] = 0x0f;
    d->hypercall_insn[1] = 0x01;
    d->hypercall_insn[2] = config->amd ? 0xd9 : 0xc1; /* VMMCALL : VMCALL */
    for (unsigned i = 0; i < PV_EXTRA_FRAMES; i++) {
        d->extra_gfn[i] = PV_NO_GFN;
    }
}

struct pv_domain *pv_domain_new(struct board *board, const struct pv_domain_config *config,
                                GError **err)
{
    struct pv_domain *d;

    if (config->max_vcpus == 0 || config->max_vcpus > PV_MAX_VCPUS) {
        error_set(err, PVEMU_ERROR_LIMIT, "a Xen guest has 1 to %d vCPUs, not %u", PV_MAX_VCPUS,
                  config->max_vcpus);
        return NULL;
    }
    if (config->tsc_hz == 0) {
        error_set(err, PVEMU_ERROR_HOST, "the frequency of the host's TSC is not known");
        return NULL;
    }
    d = g_new0(struct pv_domain, 1);
    d->board = board;
    d->mem = board->mem;
    domain_fill(d, config);
    d->holes = bit_tree_new(d->ram_pages);
    d->evtchn = evtchn_new(d);
    d->gnttab = gnttab_new(d);
    d->time = pv_time_new(d);
    d->guest = d->kind == PV_KIND_PV ? pv_guest_new(d) : NULL;
    pv_sched_init(d);
    domain_start_over(d);
    d->xenstore = xenstore_new(d);
    toolstack_publish(d);
    xenstore_connect(d->xenstore);
    return d;
}

void pv_domain_free(struct pv_domain *d)
{
    if (d == NULL) {
        return;
    }
    xenstore_free(d->xenstore);
    for (unsigned i = 0; i < PV_MAX_VCPUS; i++) {
        pv_time_set_singleshot(d, i, 0);
        pv_time_set_periodic(d, i, 0);
    }
    pv_sched_reset(d);
    pv_time_free(d->time);
    gnttab_free(d->gnttab);
    evtchn_free(d->evtchn);
    pv_guest_free(d->guest);
    bit_tree_free(d->holes);
    g_free(d->map);
    g_free(d->name);
    g_free(d);
}

void pv_domain_reset(struct pv_domain *d)
{
    xenstore_reset(d->xenstore);
    evtchn_reset(d);
    gnttab_reset(d);
    pv_memory_reset(d);
    domain_start_over(d);
    toolstack_publish(d);
    xenstore_connect(d->xenstore);
}

static void domain_state_vcpu(struct pv_domain *d, unsigned i, struct state *s)
{
    struct pv_vcpu *pv = &d->vcpu[i];

    state_bool(s, "up", &pv->up);
    state_bool(s, "initialised", &pv->initialised);
    state_bool(s, "held", &pv->held);
    state_u8(s, "upcall-vector", &pv->upcall_vector);
    state_u32(s, "vcpu-info-frame", &pv->vcpu_info_frame);
    state_u16(s, "vcpu-info-offset", &pv->vcpu_info_offset);
    state_u64(s, "runstate-gva", &pv->runstate_gva);
    state_bool(s, "runstate-32bit", &pv->runstate_32bit);
    state_u64(s, "time-gva", &pv->time_gva);
    if (pv->vcpu_info_frame != MEM_HOLE &&
        (pv->vcpu_info_frame >= d->ram_pages + PV_EXTRA_FRAMES ||
         pv->vcpu_info_offset > MEM_PAGE_SIZE - sizeof(struct vcpu_info) ||
         pv->vcpu_info_offset % _Alignof(struct vcpu_info_x86_32) != 0)) {
        pv->vcpu_info_frame = MEM_HOLE;
        state_fail(s, "vcpu_info lies outside of memory");
    }
}

void pv_domain_state(struct pv_domain *d, struct state *s)
{
    uint32_t kind = d->kind;
    uint32_t max_vcpus = d->max_vcpus;

    state_u32(s, "domain-kind", &kind);
    state_u32(s, "max-vcpus", &max_vcpus);
    if (kind != (uint32_t)d->kind || max_vcpus != d->max_vcpus) {
        state_fail(s, "the saved guest is of another kind or has other vCPUs");
        return;
    }
    pv_memory_state(d, s);
    state_u32(s, "store-port", &d->store_port);
    state_u32(s, "console-port", &d->console_port);
    for (unsigned i = 0; i < PV_HVM_PARAMS; i++) {
        state_u64(s, "hvm-param", &d->hvm_params[i]);
    }
    state_u64(s, "vm-assist", &d->vm_assist);
    state_bool(s, "shared-info-32bit", &d->shared_32bit);
    for (unsigned i = 0; i < d->max_vcpus; i++) {
        domain_state_vcpu(d, i, s);
    }
    pv_sched_state(d, s);
    evtchn_state(d, s);
    gnttab_state(d, s);
    pv_time_state(d, s);
    if (d->guest != NULL) {
        pv_guest_state(d, s);
    }
    xenstore_state(d->xenstore, s);
}
