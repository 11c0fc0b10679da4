/* SPDX-License-Identifier: MIT */
/* See shared.h. */
#include "pv/shared.h"

#include <glib.h>
#include <string.h>

#include "pv/domain.h"
#include "pv/time.h"
#include "pv/xen_abi.h"

#define SAME_PLACE(field)                                                                      \
    G_STATIC_ASSERT(offsetof(struct vcpu_info, field) ==                                       \
                    offsetof(struct vcpu_info_x86_32, field))
SAME_PLACE(evtchn_upcall_pending);
SAME_PLACE(evtchn_upcall_mask);
SAME_PLACE(time);
G_STATIC_ASSERT(sizeof(struct vcpu_info) == sizeof(struct vcpu_info_x86_32));
G_STATIC_ASSERT(sizeof(struct vcpu_time_info) == sizeof(struct vcpu_time_info_x86_32));
G_STATIC_ASSERT(offsetof(struct shared_info, evtchn_pending) ==
                offsetof(struct shared_info_x86_32, evtchn_pending));
G_STATIC_ASSERT(offsetof(struct shared_info_x86_32, evtchn_mask) == 0x880);
G_STATIC_ASSERT(offsetof(struct shared_info_x86_32, wc_version) == 0x900);
G_STATIC_ASSERT(sizeof(struct shared_info_x86_32) == 0x928);

static struct shared_info_x86_32 *shared_info_32(struct pv_domain *d)
{
    return (struct shared_info_x86_32 *)pv_shared_info(d);
}

unsigned pv_shared_word_bits(const struct pv_domain *d)
{
    return d->shared_32bit ? 32 : 64;
}

uint32_t *pv_shared_pending(struct pv_domain *d)
{
    return (uint32_t *)pv_shared_info(d)->evtchn_pending; /* the same place */
}

uint32_t *pv_shared_mask(struct pv_domain *d)
{
    return d->shared_32bit ? shared_info_32(d)->evtchn_mask
                           : (uint32_t *)pv_shared_info(d)->evtchn_mask;
}

uint32_t *pv_shared_selector(struct pv_domain *d, unsigned vcpu)
{
    struct vcpu_info_x86_32 *info = pv_vcpu_info_32(d, vcpu);
    const size_t at = offsetof(struct vcpu_info, evtchn_pending_sel);

    return d->shared_32bit ? &info->evtchn_pending_sel
                           : (uint32_t *)(void *)((uint8_t *)info + at);
}

struct pv_wallclock pv_shared_wallclock(struct pv_domain *d)
{
    struct shared_info *si = pv_shared_info(d);
    struct shared_info_x86_32 *si32 = shared_info_32(d);

    if (d->shared_32bit) {
        return (struct pv_wallclock){&si32->wc_version, &si32->wc_sec, &si32->wc_nsec,
                                     &si32->arch.wc_sec_hi};
    }
    return (struct pv_wallclock){&si->wc_version, &si->wc_sec, &si->wc_nsec, &si->wc_sec_hi};
}

void pv_shared_latch(struct pv_domain *d, const struct vcpu *v)
{
    const bool is_32bit = !cpu_is_code64(&v->cpu);
    const size_t from = offsetof(struct shared_info_x86_32, evtchn_mask);

    if (d->kind == PV_KIND_PV) {
        return;
    }
    if (d->shared_32bit != is_32bit) {
        d->shared_32bit = is_32bit;
        /* The mask and the clock of the one are pending bits of high ports in the other. */
        memset((uint8_t *)pv_shared_info(d) + from, 0,
               sizeof(struct shared_info_x86_32) - from);
    }
    pv_time_write_wallclock(d);
    mem_written(d->mem, mem_extra_frame(d->mem, PV_FRAME_SHARED_INFO));
}
