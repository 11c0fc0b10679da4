/* SPDX-License-Identifier: MIT */
/*
 * Types of frames (xen-abi 3.6). A frame has one type at a time, counted by who relies on it: a
 * mapping that can write, an entry that leads to a table, a pin, a page-table base, a loaded
 * descriptor table. A table's entries are checked when its first reference is made and let go
 * when the last one ends; in between they change only through pv_page_update().
 *
 * What pvemu itself writes to, because the guest registered or granted it, is writable too, as
 * long as pvemu may write: pv_frame_get(). Should an entry change behind our back all the same,
 * counts never go below nothing, and walks never leave guest memory.
 */
#include <errno.h>
#include <glib.h>
#include <string.h>

#include "base/log.h"
#include "pv/memory.h"
#include "pv/pv_guest.h"
#include "pv/xen_abi.h"

enum { PAGE_WORK_TABLE = 4 }; /* microseconds, about, for the entries of one table */

/* Bits that no present entry may have: cache attributes, and above L1 large pages and G. A guest
 * without devices has no use for other than write-back memory. */
#define PAGE_DISALLOW_L1 0x98ull
#define PAGE_DISALLOW    0x198ull

enum page_kind { PAGE_FOREIGN, PAGE_OWN, PAGE_SHARED };

/* What lies at mfn: the guest's RAM, a page of the hypervisor that it may map, or neither. */
static enum page_kind page_lookup(const struct pv_domain *d, uint64_t mfn, uint32_t *frame)
{
    const struct pv_guest *g = d->guest;
    uint64_t extra = mfn - g->window_mfn;

    *frame = mem_gfn_frame(d->mem, mfn);
    if (*frame == MEM_HOLE || *frame >= g->nr_frames) {
        return PAGE_FOREIGN;
    }
    if (*frame < d->ram_pages || mfn == g->store_mfn || mfn == g->console_mfn) {
        return PAGE_OWN;
    }
    return extra == PV_FRAME_SHARED_INFO ||
                   (extra >= PV_FRAME_GRANT0 && extra < PV_FRAME_GRANT0 + PV_MAX_GRANT_FRAMES)
               ? PAGE_SHARED
               : PAGE_FOREIGN;
}

uint32_t pv_page_own(const struct pv_domain *d, uint64_t mfn)
{
    uint32_t frame;

    return page_lookup(d, mfn, &frame) == PAGE_OWN ? frame : MEM_HOLE;
}

bool pv_page_is_table(const struct pv_domain *d, uint32_t frame)
{
    const struct pv_page *p = &d->guest->pages[frame];

    return frame < d->guest->nr_frames && p->count > 0 && p->type >= PV_PAGE_L1 &&
           p->type <= PV_PAGE_L4;
}

static uint64_t *page_table(const struct pv_domain *d, uint32_t frame)
{
    return mem_frame_hva(d->mem, frame);
}

static uint64_t page_entry(const struct pv_domain *d, uint32_t frame, unsigned index)
{
    return __atomic_load_n(&page_table(d, frame)[index], __ATOMIC_SEQ_CST);
}

static uint64_t page_entry_mfn(uint64_t entry)
{
    return (entry & PV_PTE_ADDR) >> MEM_PAGE_SHIFT;
}

static bool page_is_hv_slot(unsigned level, unsigned index)
{
    return level == PV_PAGE_L4 && index >= PV_L4_HV_FIRST && index <= PV_L4_HV_LAST;
}

/* An L4 entry that leads to its own table, read-only, makes tables readable: no reference. */
static bool page_is_self_map(unsigned level, uint32_t frame, uint32_t child, uint64_t entry)
{
    return level == PV_PAGE_L4 && child == frame && (entry & PV_PTE_RW) == 0;
}

/* --- Entries ---------------------------------------------------------------------------- */

/* Of memory that is not the guest's (any more) Xen says that it is in use, of what is no memory
 * that mapping it is not allowed. */
static int page_entry_get_l1(struct pv_domain *d, uint64_t entry)
{
    const uint64_t mfn = page_entry_mfn(entry);
    uint32_t child;
    enum page_kind kind = page_lookup(d, mfn, &child);

    if (kind == PAGE_FOREIGN && pv_memory_is_ram(d, mfn)) {
        return -EBUSY;
    }
    if (kind == PAGE_FOREIGN) {
        return (entry & PV_PTE_ADDR) == PV_PTE_ADDR ? -EINVAL : -EPERM;
    }
    if ((entry & PV_PTE_RW) != 0 && kind == PAGE_OWN &&
        pv_page_get(d, child, PV_PAGE_WRITABLE) != 0) {
        return -EBUSY;
    }
    return 0;
}

static bool page_entry_refused(unsigned level, uint64_t entry)
{
    return (entry & PV_PTE_P) != 0 &&
           (entry & (level == PV_PAGE_L1 ? PAGE_DISALLOW_L1 : PAGE_DISALLOW)) != 0;
}

/* Takes the references that a present entry of a table of this level stands for. */
static int page_entry_get(struct pv_domain *d, unsigned level, uint32_t frame, uint64_t entry)
{
    uint32_t child;

    if (page_entry_refused(level, entry)) {
        return -EINVAL;
    }
    if (level == PV_PAGE_L1) {
        return page_entry_get_l1(d, entry);
    }
    child = pv_page_own(d, page_entry_mfn(entry));
    if (child == MEM_HOLE) {
        return -EINVAL;
    }
    if (page_is_self_map(level, frame, child, entry)) {
        return 0;
    }
    return pv_page_get(d, child, (enum pv_page_type)(level - 1));
}

/* One read-only mapping less: if it was an LDT's, a vCPU that has not been told yet looks anew,
 * so that the page is not one of descriptors for ever. */
static void page_unmapped(struct pv_domain *d, uint32_t frame)
{
    const struct pv_page *p = &d->guest->pages[frame];

    if (p->type != PV_PAGE_SEGDESC || p->count == 0) {
        return;
    }
    for (unsigned i = 0; i < d->max_vcpus; i++) {
        pv_ldt_drop(d, &d->guest->cpu[i]);
    }
}

static void page_entry_put(struct pv_domain *d, unsigned level, uint32_t frame, uint64_t entry)
{
    uint32_t child = pv_page_own(d, page_entry_mfn(entry));
    unsigned want = level == PV_PAGE_L1 ? PV_PAGE_WRITABLE : level - 1;

    if ((entry & PV_PTE_P) == 0 || child == MEM_HOLE ||
        page_is_self_map(level, frame, child, entry)) {
        return;
    }
    if (level == PV_PAGE_L1 && (entry & PV_PTE_RW) == 0) {
        page_unmapped(d, child);
        return;
    }
    if (d->guest->pages[child].type == want) { /* else: changed behind our back */
        pv_page_put(d, child);
    }
}

/* An entry as it is kept: everything is reachable at CPL 3, where the kernel runs too. */
static uint64_t page_entry_adjust(unsigned level, uint64_t entry)
{
    if ((entry & PV_PTE_P) == 0) {
        return entry;
    }
    if (level != PV_PAGE_L1) {
        return (entry | PV_PTE_U) & ~PV_PTE_KERNEL;
    }
    if ((entry & PV_PTE_U) == 0) {
        return entry | PV_PTE_U | PV_PTE_KERNEL;
    }
    return (entry & PV_PTE_KERNEL) == 0 ? entry | PV_PTE_G : entry;
}

/* Of a present entry: may it have been cached as something that `now` is not? What only allows
 * more is found out by the fault that a cached one causes; A and D are the processor's to set. */
static bool page_entry_lessened(uint64_t old, uint64_t now)
{
    const uint64_t more = PV_PTE_RW | PV_PTE_A | PV_PTE_D, less = PV_PTE_NX;

    return (old & PV_PTE_P) != 0 && (((now & ~old) & ~more) | ((old & ~now) & ~less)) != 0;
}

/* The old entry of a table was replaced by one that allows less. */
static void page_entry_gone(struct pv_domain *d, uint32_t frame, uint64_t old, uint64_t now)
{
    const struct pv_page *p = &d->guest->pages[frame];
    const uint64_t less = PV_PTE_RW | PV_PTE_A | PV_PTE_D;

    d->guest->changes++;
    if (p->kernel) {
        pv_kernel_changed(d->guest, MEM_HOLE);
    } else if (p->type == PV_PAGE_L1 && (old & PV_PTE_KERNEL) != 0) {
        const bool data = (old & PV_PTE_NX) != 0 || ((old ^ now) & ~less) == 0;

        pv_kernel_changed(d->guest,
                          data ? mem_gfn_frame(d->mem, page_entry_mfn(old)) : MEM_HOLE);
    }
}

/* --- Tables ----------------------------------------------------------------------------- */

/* The table that an entry of this level leads to has come into the kernel's half, and what is
 * below it; of L1 tables entries tell. */
static void page_mark_kernel(struct pv_domain *d, unsigned level, uint64_t entry)
{
    const uint32_t frame = pv_page_own(d, page_entry_mfn(entry));
    struct pv_page *p = frame == MEM_HOLE ? NULL : &d->guest->pages[frame];

    if (p == NULL || p->kernel || p->type != level - 1 || p->type == PV_PAGE_L1) {
        return;
    }
    p->kernel = true;
    d->guest->work += PAGE_WORK_TABLE;
    for (unsigned i = 0; p->type == PV_PAGE_L3 && i < PV_TABLE_ENTRIES; i++) {
        uint64_t below = page_entry(d, frame, i);

        if ((below & PV_PTE_P) != 0) {
            page_mark_kernel(d, p->type, below);
        }
    }
}

/* After an entry was made: does it make what it leads to part of the kernel's half? */
static void page_entry_made(struct pv_domain *d, unsigned level, uint32_t frame, unsigned index,
                            uint64_t entry)
{
    if ((entry & PV_PTE_P) != 0 &&
        (level == PV_PAGE_L4 ? index > PV_L4_HV_LAST : d->guest->pages[frame].kernel)) {
        page_mark_kernel(d, level, entry);
    }
}

static void page_table_put(struct pv_domain *d, uint32_t frame, unsigned level, unsigned count)
{
    d->guest->work += PAGE_WORK_TABLE;
    for (unsigned i = 0; i < count; i++) {
        if (!page_is_hv_slot(level, i)) {
            page_entry_put(d, level, frame, page_entry(d, frame, i));
        }
    }
}

static bool page_m2p_strict(const struct pv_domain *d)
{
    return (d->vm_assist & 1ull << VMASST_TYPE_m2p_strict) != 0;
}

static uint64_t page_m2p_entry(const struct pv_domain *d)
{
    return d->guest->m2p_root << MEM_PAGE_SHIFT | PV_PTE_P | PV_PTE_U | PV_PTE_A;
}

/* The M2P is for kernels: a new table shows it only where the guest asked for that, and then
 * it goes when programs use the table (xen.h, VMASST_TYPE_m2p_strict). */
static void page_table_hv_slots(struct pv_domain *d, uint32_t frame)
{
    uint64_t *table = page_table(d, frame);

    for (unsigned i = PV_L4_HV_FIRST; i <= PV_L4_HV_LAST; i++) {
        uint64_t entry = i == PV_L4_HV_FIRST && page_m2p_strict(d) ? page_m2p_entry(d)
                         : i == PV_L4_HV_FIRST + 1                 ? d->guest->engine_entry
                                                                   : 0;

        __atomic_store_n(&table[i], entry, __ATOMIC_SEQ_CST);
    }
}

void pv_page_show_m2p(struct pv_domain *d, uint64_t mfn, bool user)
{
    const uint32_t frame = pv_page_own(d, mfn);
    uint64_t *slot = &page_table(d, frame)[PV_L4_HV_FIRST];
    const uint64_t entry = user ? 0 : page_m2p_entry(d);

    if (user != page_m2p_strict(d) || __atomic_load_n(slot, __ATOMIC_SEQ_CST) == entry) {
        return;
    }
    __atomic_store_n(slot, entry, __ATOMIC_SEQ_CST);
    mem_written(d->mem, frame);
    if (user) { /* it may have been a kernel's: nothing of that stays good */
        d->guest->changes++;
        d->guest->flush = true;
    }
}

static int page_table_get(struct pv_domain *d, uint32_t frame, unsigned level)
{
    uint64_t *table = page_table(d, frame);

    d->guest->work += PAGE_WORK_TABLE;
    for (unsigned i = 0; i < PV_TABLE_ENTRIES; i++) {
        uint64_t entry = page_entry(d, frame, i);
        uint64_t adjusted = page_entry_adjust(level, entry);
        int rc;

        if ((entry & PV_PTE_P) == 0 || page_is_hv_slot(level, i)) {
            continue;
        }
        rc = page_entry_get(d, level, frame, entry);
        if (rc == 0 && adjusted != entry &&
            !__atomic_compare_exchange_n(&table[i], &entry, adjusted, false, __ATOMIC_SEQ_CST,
                                         __ATOMIC_SEQ_CST)) {
            page_entry_put(d, level, frame, adjusted);
            rc = -EINVAL; /* somebody else writes to it */
        }
        if (rc == 0) {
            page_entry_made(d, level, frame, i, entry);
        }
        if (rc != 0) {
            log_debug(LOG_PV, "frame 0x%x as L%u: entry %u is 0x%" G_GINT64_MODIFIER "x: %d",
                      frame, level, i, entry, rc);
            page_table_put(d, frame, level, i);
            return rc;
        }
    }
    if (level == PV_PAGE_L4) {
        page_table_hv_slots(d, frame);
    }
    mem_written(d->mem, frame);
    return 0;
}

static int page_descriptors_get(struct pv_domain *d, uint32_t frame)
{
    uint64_t *table = page_table(d, frame);

    d->guest->work += PAGE_WORK_TABLE;
    for (unsigned i = 0; i < PV_TABLE_ENTRIES; i++) {
        uint64_t raw = page_entry(d, frame, i);
        uint64_t kept = raw;

        if (!pv_descriptor_check(&kept)) {
            return -EINVAL;
        }
        if (kept != raw) {
            __atomic_store_n(&table[i], kept, __ATOMIC_SEQ_CST);
            mem_written(d->mem, frame);
        }
    }
    return 0;
}

/* --- References ------------------------------------------------------------------------- */

static int page_become(struct pv_domain *d, uint32_t frame, enum pv_page_type type)
{
    struct pv_guest *g = d->guest;
    struct pv_page *p = &g->pages[frame];
    int rc = 0;

    if (p->type == PV_PAGE_WRITABLE && type != PV_PAGE_WRITABLE && p->stamp == g->flush_clock) {
        g->flush = true; /* a processor may still hold a translation that can write */
    }
    p->type = (uint8_t)type;
    p->kernel = false;
    p->validating = true;
    if (type >= PV_PAGE_L1 && type <= PV_PAGE_L4) {
        rc = page_table_get(d, frame, type);
    } else if (type == PV_PAGE_SEGDESC) {
        rc = page_descriptors_get(d, frame);
    }
    p->validating = false;
    if (rc != 0) {
        p->type = PV_PAGE_NONE;
    }
    return rc;
}

int pv_page_get(struct pv_domain *d, uint32_t frame, enum pv_page_type type)
{
    struct pv_page *p = &d->guest->pages[frame];

    if (p->validating) {
        return -EINVAL; /* a table that leads to itself */
    }
    if (p->count > 0) {
        if (p->type != type || p->count == UINT32_MAX) {
            return -EINVAL;
        }
    } else {
        int rc = page_become(d, frame, type);

        if (rc != 0) {
            return rc;
        }
    }
    p->count++;
    return 0;
}

void pv_page_put(struct pv_domain *d, uint32_t frame)
{
    struct pv_page *p = &d->guest->pages[frame];

    if (p->count == 0 || --p->count > 0) {
        return;
    }
    if (p->type == PV_PAGE_WRITABLE) {
        p->stamp = d->guest->flush_clock;
    } else if (p->type >= PV_PAGE_L1 && p->type <= PV_PAGE_L4 && !p->validating) {
        p->validating = true;
        page_table_put(d, frame, p->type, PV_TABLE_ENTRIES);
        p->validating = false;
        d->guest->changes++; /* whatever is written there from now on goes unseen */
    }
}

int pv_page_pin(struct pv_domain *d, uint32_t frame, enum pv_page_type type)
{
    int rc;

    rc = pv_page_get(d, frame, type);
    if (rc == 0 && d->guest->pages[frame].pinned) {
        pv_page_put(d, frame);
        return -EINVAL;
    }
    d->guest->pages[frame].pinned |= rc == 0;
    return rc;
}

int pv_page_unpin(struct pv_domain *d, uint32_t frame)
{
    if (!d->guest->pages[frame].pinned) {
        return -EINVAL;
    }
    d->guest->pages[frame].pinned = false;
    pv_page_put(d, frame);
    return 0;
}

/* --- Pages that pvemu writes to --------------------------------------------------------- */

int pv_frame_get(struct pv_domain *d, uint64_t gfn, bool write, uint32_t *frame)
{
    enum page_kind kind = PAGE_SHARED; /* without types */

    *frame = MEM_HOLE;
    if (gfn > UINT64_MAX >> MEM_PAGE_SHIFT) {
        return -EINVAL;
    }
    if (d->guest == NULL) {
        *frame = mem_gfn_frame(d->mem, gfn);
    } else {
        kind = page_lookup(d, gfn, frame);
    }
    if (*frame == MEM_HOLE || kind == PAGE_FOREIGN) {
        *frame = MEM_HOLE;
        return -EINVAL;
    }
    if (write && kind == PAGE_OWN && pv_page_get(d, *frame, PV_PAGE_WRITABLE) != 0) {
        *frame = MEM_HOLE;
        return -EBUSY;
    }
    return 0;
}

/* What page_lookup() says of a frame, wherever it lies. */
static enum page_kind page_kind_of(const struct pv_domain *d, uint32_t frame)
{
    const uint64_t extra = frame - d->ram_pages;

    if (frame < d->ram_pages || extra == PV_FRAME_STORE || extra == PV_FRAME_CONSOLE) {
        return PAGE_OWN;
    }
    return extra == PV_FRAME_SHARED_INFO ||
                   (extra >= PV_FRAME_GRANT0 && extra < PV_FRAME_GRANT0 + PV_MAX_GRANT_FRAMES)
               ? PAGE_SHARED
               : PAGE_FOREIGN;
}

void pv_frame_put(struct pv_domain *d, uint32_t frame, bool write)
{
    if (write && d->guest != NULL && frame != MEM_HOLE && page_kind_of(d, frame) == PAGE_OWN &&
        d->guest->pages[frame].type == PV_PAGE_WRITABLE) {
        pv_page_put(d, frame);
    }
}

bool pv_frame_hold(struct pv_domain *d, uint32_t frame)
{
    const enum page_kind kind = page_kind_of(d, frame);

    if (frame < d->ram_pages && pv_page_own(d, pv_pfn_to_mfn(d, frame)) != frame) {
        return false; /* it was given back */
    }
    return kind == PAGE_SHARED ||
           (kind == PAGE_OWN && pv_page_get(d, frame, PV_PAGE_WRITABLE) == 0);
}

/* --- Updates ---------------------------------------------------------------------------- */

/* Writes entry if what is there is `old`, A and D taken over when asked. */
static bool page_entry_store(struct pv_domain *d, uint32_t frame, unsigned index, uint64_t *old,
                             uint64_t entry, bool keep_ad)
{
    const uint64_t ad = PV_PTE_A | PV_PTE_D;
    uint64_t *slot = &page_table(d, frame)[index];

    for (unsigned tries = 0; tries < 1000; tries++) {
        uint64_t now = keep_ad ? (entry & ~ad) | (*old & ad) : entry;
        uint64_t seen = *old;

        if (__atomic_compare_exchange_n(slot, &seen, now, false, __ATOMIC_SEQ_CST,
                                        __ATOMIC_SEQ_CST)) {
            mem_written(d->mem, frame);
            return true;
        }
        if (((seen ^ *old) & ~ad) != 0) {
            return false;
        }
        *old = seen; /* a processor walked through it: only A or D changed */
    }
    return false;
}

int pv_page_update(struct pv_domain *d, uint32_t frame, unsigned index, uint64_t entry,
                   bool keep_ad, uint64_t *expect)
{
    const unsigned level = d->guest->pages[frame].type;
    const uint64_t same = PV_PTE_ADDR | PV_PTE_P | (level == PV_PAGE_L1 ? PV_PTE_RW : 0);
    uint64_t old = page_entry(d, frame, index);
    bool again;
    int rc = 0;

    if (page_is_hv_slot(level, index)) {
        return -EINVAL;
    }
    if (expect != NULL && old != *expect) {
        *expect = old;
        return -EAGAIN;
    }
    if (page_entry_refused(level, entry)) {
        return -EINVAL;
    }
    entry = page_entry_adjust(level, entry);
    again = ((old ^ entry) & same) == 0; /* the same references */
    if (!again && (entry & PV_PTE_P) != 0) {
        rc = page_entry_get(d, level, frame, entry);
        if (rc != 0) {
            return rc;
        }
    }
    if (expect != NULL) {
        uint64_t seen = old;

        if (!__atomic_compare_exchange_n(&page_table(d, frame)[index], &seen, entry, false,
                                         __ATOMIC_SEQ_CST, __ATOMIC_SEQ_CST)) {
            *expect = seen;
            rc = -EAGAIN;
        } else {
            mem_written(d->mem, frame);
        }
    } else if (!page_entry_store(d, frame, index, &old, entry, keep_ad)) {
        rc = -EBUSY;
    }
    if (rc == 0) {
        if (page_entry_lessened(keep_ad ? old & ~(uint64_t)(PV_PTE_A | PV_PTE_D) : old, entry)) {
            page_entry_gone(d, frame, old, entry);
        }
        page_entry_made(d, level, frame, index, entry);
        if (level == PV_PAGE_L4 && index > PV_L4_HV_LAST) {
            pv_kernel_half_changed(d->guest);
        }
    }
    if (!again) {
        page_entry_put(d, level, frame, rc == 0 ? old : entry);
    }
    return rc;
}

/* The L1 table for gva, and whether the tables above it allow writing. */
static uint32_t page_walk(const struct pv_domain *d, uint64_t root_mfn, uint64_t gva,
                          bool *writable)
{
    uint32_t frame = pv_page_own(d, root_mfn);

    *writable = true;
    for (unsigned level = 4; frame != MEM_HOLE && level > 1; level--) {
        uint64_t entry = page_entry(d, frame, gva >> (12 + (level - 1) * 9) & 511);

        *writable = *writable && (entry & PV_PTE_RW) != 0;
        frame = (entry & PV_PTE_P) == 0 ? MEM_HOLE : pv_page_own(d, page_entry_mfn(entry));
    }
    return frame == MEM_HOLE || !pv_page_is_table(d, frame) ||
                   d->guest->pages[frame].type != PV_PAGE_L1
               ? MEM_HOLE
               : frame;
}

uint32_t pv_page_l1(const struct pv_domain *d, uint64_t root_mfn, uint64_t gva, unsigned *index)
{
    bool writable;

    *index = gva >> 12 & 511;
    return page_walk(d, root_mfn, gva, &writable);
}

bool pv_kernel_translate(struct pv_domain *d, struct vcpu *v, uint64_t gva, bool write,
                        uint64_t *gpa)
{
    bool writable;
    uint32_t l1 = pv_canonical(gva) ? page_walk(d, pv_cpu_of(d, v)->kernel_root, gva, &writable)
                                    : MEM_HOLE;
    uint64_t entry = l1 == MEM_HOLE ? 0 : page_entry(d, l1, gva >> 12 & 511);

    *gpa = page_entry_mfn(entry) << MEM_PAGE_SHIFT | (gva & (MEM_PAGE_SIZE - 1));
    return (entry & PV_PTE_P) != 0 && (!write || (writable && (entry & PV_PTE_RW) != 0));
}

bool pv_kernel_copy(struct pv_domain *d, struct vcpu *v, uint64_t gva, void *buf, size_t len,
                    bool write)
{
    uint8_t *p = buf;

    while (len > 0) {
        size_t chunk = MIN(len, (size_t)(MEM_PAGE_SIZE - (gva & (MEM_PAGE_SIZE - 1))));
        uint64_t gpa;

        if (!pv_kernel_translate(d, v, gva, write, &gpa) ||
            !(write ? mem_write(d->mem, gpa, p, chunk) : mem_read(d->mem, gpa, p, chunk))) {
            return false;
        }
        p += chunk, gva += chunk, len -= chunk;
    }
    return true;
}
