/* SPDX-License-Identifier: MIT */
/*
 * The machine-to-physical table: 8 bytes for each machine frame, shown read-only to the guest's
 * kernel at PV_HV_START through tables of ours that its L4 tables lead to (xen-abi 3.8). What the guest writes into it (MMU_MACHPHYS_UPDATE) is for the guest only:
 * nothing here relies on it. It is shown once more at PV_M2P_START, where the guest is told that
 * it lies: Linux looks things up there and in its own p2m by turns, which begins on a border of
 * many GiB as well, and both should not want the same slots of a soft TLB.
 */
#include <string.h>

#include "pv/pv_guest.h"

enum { M2P_PER_PAGE = MEM_PAGE_SIZE / 8, M2P_ROOTS = 2 /* L3, and the L2 of the second place */ };

static uint64_t m2p_round(uint64_t value, uint64_t unit)
{
    return (value + unit - 1) / unit * unit;
}

/* One after the highest frame of RAM. */
static uint64_t m2p_ram_end(uint64_t ram_bytes)
{
    uint64_t low = MIN(ram_bytes, MEM_LOW_END);
    uint64_t end = ram_bytes > low ? MEM_HIGH_START + (ram_bytes - low) : low;

    return end >> MEM_PAGE_SHIFT;
}

uint64_t pv_m2p_window(uint64_t ram_bytes)
{
    return m2p_round(m2p_ram_end(ram_bytes), M2P_PER_PAGE);
}

/* The window begins with the pages that guests map: their entries exist and say "nobody's". */
uint64_t pv_m2p_entries(uint64_t ram_bytes)
{
    return m2p_round(pv_m2p_window(ram_bytes) + PV_EXTRA_FRAMES, M2P_PER_PAGE);
}

static uint64_t m2p_leaf_tables(uint64_t entries)
{
    return m2p_round(entries, M2P_PER_PAGE * PV_TABLE_ENTRIES) /
           (M2P_PER_PAGE * PV_TABLE_ENTRIES);
}

static uint64_t m2p_middle_tables(uint64_t entries)
{
    return m2p_round(m2p_leaf_tables(entries), PV_TABLE_ENTRIES) / PV_TABLE_ENTRIES;
}

uint32_t pv_guest_extra_frames(uint64_t ram_bytes)
{
    const uint64_t entries = pv_m2p_entries(ram_bytes);

    return (uint32_t)(M2P_ROOTS + m2p_middle_tables(entries) + m2p_leaf_tables(entries) +
                      entries / M2P_PER_PAGE);
}

static uint64_t *m2p_page(const struct pv_domain *d, uint32_t extra)
{
    return mem_frame_hva(d->mem, mem_extra_frame(d->mem, extra));
}

void pv_m2p_tables(struct pv_domain *d)
{
    const uint64_t flags = PV_PTE_P | PV_PTE_U | PV_PTE_A;
    const uint64_t entries = d->guest->m2p_mfns;
    const uint32_t nr_l2 = (uint32_t)m2p_middle_tables(entries);
    const uint32_t nr_l1 = (uint32_t)m2p_leaf_tables(entries);
    const uint32_t l3 = PV_EXTRA_FRAMES, again = l3 + 1, l2 = again + 1, l1 = l2 + nr_l2;
    const uint32_t first = PV_M2P_START >> 21 & (PV_TABLE_ENTRIES - 1);

    for (uint32_t i = 0; i < nr_l2; i++) {
        m2p_page(d, l3)[i] = pv_extra_mfn(d, l2 + i) << MEM_PAGE_SHIFT | flags;
    }
    for (uint32_t i = 0; i < nr_l1; i++) {
        m2p_page(d, l2 + i / PV_TABLE_ENTRIES)[i % PV_TABLE_ENTRIES] =
            pv_extra_mfn(d, l1 + i) << MEM_PAGE_SHIFT | flags;
    }
    if (pv_m2p_start(d) == PV_M2P_START) {
        m2p_page(d, l3)[PV_M2P_START >> 30 & (PV_TABLE_ENTRIES - 1)] =
            pv_extra_mfn(d, again) << MEM_PAGE_SHIFT | flags;
        memcpy(&m2p_page(d, again)[first], m2p_page(d, l2), nr_l1 * sizeof(uint64_t));
    }
    for (uint32_t i = 0; i < entries / M2P_PER_PAGE; i++) {
        m2p_page(d, l1 + i / PV_TABLE_ENTRIES)[i % PV_TABLE_ENTRIES] =
            pv_extra_mfn(d, l1 + nr_l1 + i) << MEM_PAGE_SHIFT | flags;
    }
    d->guest->m2p_root = pv_extra_mfn(d, l3);
    d->guest->m2p_frame = mem_extra_frame(d->mem, l1 + nr_l1);
}

static uint64_t *m2p_slot(const struct pv_domain *d, uint64_t mfn)
{
    const uint64_t page = mfn / M2P_PER_PAGE;

    return (uint64_t *)mem_frame_hva(d->mem, d->guest->m2p_frame + (uint32_t)page) +
           mfn % M2P_PER_PAGE;
}

void pv_m2p_set(struct pv_domain *d, uint64_t mfn, uint64_t pfn)
{
    if (mfn < d->guest->m2p_mfns) {
        __atomic_store_n(m2p_slot(d, mfn), pfn, __ATOMIC_RELAXED);
        mem_written(d->mem, d->guest->m2p_frame + (uint32_t)(mfn / M2P_PER_PAGE));
    }
}

uint64_t pv_m2p_get(const struct pv_domain *d, uint64_t mfn)
{
    return mfn < d->guest->m2p_mfns ? __atomic_load_n(m2p_slot(d, mfn), __ATOMIC_RELAXED)
                                    : UINT64_MAX;
}

uint64_t pv_m2p_start(const struct pv_domain *d)
{
    const uint64_t room = PV_TABLE_ENTRIES - (PV_M2P_START >> 21 & (PV_TABLE_ENTRIES - 1));

    return m2p_leaf_tables(d->guest->m2p_mfns) <= room ? PV_M2P_START : PV_HV_START;
}

uint64_t pv_pfn_to_mfn(const struct pv_domain *d, uint64_t pfn)
{
    const uint64_t low = mem_low_bytes(d->mem) >> MEM_PAGE_SHIFT;

    return pfn < low ? pfn : pfn - low + (MEM_HIGH_START >> MEM_PAGE_SHIFT);
}

uint64_t pv_extra_mfn(const struct pv_domain *d, unsigned extra)
{
    return d->guest->window_mfn + extra;
}

void pv_m2p_init(struct pv_domain *d)
{
    pv_m2p_tables(d);
    for (uint64_t i = 0; i < d->guest->m2p_mfns / M2P_PER_PAGE; i++) {
        memset(m2p_slot(d, i * M2P_PER_PAGE), 0xff, MEM_PAGE_SIZE);
    }
    for (uint64_t pfn = 0; pfn < d->ram_pages; pfn++) {
        *m2p_slot(d, pv_pfn_to_mfn(d, pfn)) = pfn;
    }
}
