/* SPDX-License-Identifier: MIT */
/*
 * The way back from SCHEDOP_shutdown(suspend) (docs/xen.md 7; public/sched.h). A guest that is
 * told 1 goes on where it was. One that is told 0 finds itself in a new domain with its own
 * memory and registers, as after a migration: what it had asked of the old one it asks for
 * again, and its drivers connect again.
 *
 * Here the new domain is the old one, of which everything is thrown away that a saved guest
 * does not bring along. It keeps the layout of its RAM, page tables with their types, all of a
 * PV vCPU's context, local APICs, vm_assist, time, and the nodes of xenstore.
 */
#include <string.h>

#include "base/error.h"
#include "pv/domain.h"
#include "pv/evtchn.h"
#include "pv/gnttab.h"
#include "pv/memory.h"
#include "pv/pv_guest.h"
#include "pv/sched.h"
#include "pv/time.h"
#include "pv/toolstack.h"
#include "pv/xen_abi.h"
#include "pv/xenstore.h"

/* --- start info of a PV guest ----------------------------------------------------------- */

/* It has to be the guest's own page, and no table, whose entries are not ours to change. */
static bool suspend_start_info_ok(struct pv_domain *d)
{
    uint32_t frame;

    if (pv_page_own(d, d->suspend_mfn) == MEM_HOLE ||
        pv_frame_get(d, d->suspend_mfn, true, &frame) != 0) {
        return false;
    }
    pv_frame_put(d, frame, true);
    return true;
}

static void suspend_put(struct pv_domain *d, size_t offset, const void *value, size_t len)
{
    mem_write(d->mem, (d->suspend_mfn << MEM_PAGE_SHIFT) + offset, value, len);
}

/* The domain's part of it; the rest is the builder's and stays. */
static void suspend_write_start_info(struct pv_domain *d)
{
    const struct start_info si = {
        .nr_pages = d->ram_pages,
        .shared_info = pv_extra_mfn(d, PV_FRAME_SHARED_INFO) << MEM_PAGE_SHIFT,
        .store_mfn = d->guest->store_mfn,
        .store_evtchn = d->store_port,
        .console.domU = {.mfn = d->guest->console_mfn, .evtchn = d->console_port},
    };

    suspend_put(d, offsetof(struct start_info, nr_pages), &si.nr_pages, sizeof(si.nr_pages));
    suspend_put(d, offsetof(struct start_info, shared_info), &si.shared_info,
                sizeof(si.shared_info));
    suspend_put(d, offsetof(struct start_info, store_mfn), &si.store_mfn, sizeof(si.store_mfn));
    suspend_put(d, offsetof(struct start_info, store_evtchn), &si.store_evtchn,
                sizeof(si.store_evtchn));
    if (d->has_console) {
        suspend_put(d, offsetof(struct start_info, console.domU), &si.console.domU,
                    sizeof(si.console.domU));
    }
}

/* --- the new domain --------------------------------------------------------------------- */

static void suspend_renew_vcpu(struct pv_domain *d, unsigned i)
{
    struct pv_vcpu *pv = &d->vcpu[i];

    pv->upcall_vector = 0;
    pv_vcpu_info_drop(d, i);
    pv->runstate_gva = pv->time_gva = 0;
    pv_vcpu_wake(d, i); /* from block and poll, which may end for no reason */
    if (!pv->up) {      /* its registers are not saved: to be initialised again */
        pv->initialised = pv->held = false;
        if (d->guest != NULL) {
            pv_guest_forget_vcpu(d, i);
        }
        pv_sched_init_vcpu(d, i);
    }
}

/* Nothing of the hypervisor's is mapped anywhere, but for the rings of xenstore and console. */
static void suspend_renew_pages(struct pv_domain *d)
{
    struct shared_info *si = pv_shared_info(d);

    gnttab_reset(d);
    for (unsigned i = 0; i < PV_MAX_GRANT_FRAMES; i++) {
        pv_memory_place(d, PV_FRAME_GRANT0 + i, PV_NO_GFN);
    }
    pv_memory_place(d, PV_FRAME_SHARED_INFO, PV_NO_GFN);
    memset(si, 0, MEM_PAGE_SIZE);
    d->shared_32bit = false; /* until the guest sets itself up again */
    if (d->kind == PV_KIND_PV) { /* as Xen's tools leave it */
        memset(si->evtchn_mask, 0xff, sizeof(si->evtchn_mask));
        for (unsigned i = 0; i < PV_MAX_VCPUS; i++) {
            si->vcpu_info[i].evtchn_upcall_mask = 1;
        }
    }
    mem_written(d->mem, mem_extra_frame(d->mem, PV_FRAME_SHARED_INFO));
    gnttab_set_reserved(d, GNTTAB_RESERVED_XENSTORE, d->store_gfn);
    if (d->has_console) {
        gnttab_set_reserved(d, GNTTAB_RESERVED_CONSOLE, d->console_gfn);
    }
}

static void suspend_renew_ports(struct pv_domain *d)
{
    evtchn_reset(d);
    d->store_port = evtchn_alloc_for_host(d);
    d->console_port = d->has_console ? evtchn_alloc_for_host(d) : 0;
    d->hvm_params[HVM_PARAM_CALLBACK_IRQ] = 0;
    d->hvm_params[HVM_PARAM_STORE_EVTCHN] = d->store_port;
    d->hvm_params[HVM_PARAM_CONSOLE_EVTCHN] = d->console_port;
}

static void suspend_renew(struct pv_domain *d)
{
    suspend_renew_ports(d); /* while its words and bits are still there */
    for (unsigned i = 0; i < d->max_vcpus; i++) {
        suspend_renew_vcpu(d, i);
    }
    suspend_renew_pages(d);
    pv_sched_stop_watchdogs(d);
    d->shutdown_hint = -1;
    pv_time_renew(d);
    toolstack_publish_resumed(d);
    xenstore_connect(d->xenstore);
    if (d->guest != NULL) {
        suspend_write_start_info(d);
    }
}

bool pv_domain_resume(struct pv_domain *d, bool cancelled, GError **err)
{
    if (d->shutdown_code != SHUTDOWN_suspend) {
        return error_set(err, PVEMU_ERROR_GUEST, "the guest is not suspended");
    }
    if (!cancelled && d->guest != NULL && !suspend_start_info_ok(d)) {
        return error_set(err, PVEMU_ERROR_GUEST,
                         "frame 0x%" G_GINT64_MODIFIER "x, which the guest gave as its start "
                         "info, is not a page of its own, or is one of its tables",
                         d->suspend_mfn);
    }
    if (!cancelled && d->guest != NULL && !pv_guest_rebuild(d, err)) {
        return false;
    }
    if (!cancelled) {
        suspend_renew(d);
    }
    pv_sched_resume(d, cancelled);
    return true;
}
