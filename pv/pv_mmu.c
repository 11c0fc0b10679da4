/* SPDX-License-Identifier: MIT */
/*
 * Page-table hypercalls (xen-abi 2.4, 3.6): mmu_update, update_va_mapping, mmuext_op, and the
 * emulated write to a page table. Lists are worked off within the budget of a hypercall; the
 * rest is done when the guest executes the call again.
 */
#include <errno.h>
#include <string.h>

#include "pv/guest_access.h"
#include "pv/hypercall.h"
#include "pv/pv_guest.h"
#include "pv/xen_abi.h"

#define MMU_PREEMPTED 0x80000000u
enum { MMU_DOM_MASK = 0xffff };

/* Charges the checks of page tables since the last call to the hypercall. */
static bool mmu_spend(struct hypercall *h)
{
    unsigned work = h->d->guest->work + 1;

    h->d->guest->work = 0;
    return hypercall_spend(h, work);
}

/* How many of a list are done in all, kept in the guest's counter across continuations. */
static uint32_t mmu_done_before(struct hypercall *h, uint64_t done_gva, uint32_t count)
{
    uint32_t done = 0;

    if ((count & MMU_PREEMPTED) == 0 || done_gva == 0 ||
        !guest_read(h->v, done_gva, &done, sizeof(done))) {
        return 0;
    }
    return done;
}

static void mmu_done(struct hypercall *h, uint64_t done_gva, uint32_t done)
{
    if (done_gva != 0) {
        guest_write(h->v, done_gva, &done, sizeof(done));
    }
}

/* Whose frames are meant: one's own only by DOMID_SELF. */
static bool mmu_foreign_ok(const struct pv_domain *d, uint16_t domid, int64_t *error)
{
    if (domid == d->domid) {
        *error = -ESRCH;
        return false;
    }
    return hypercall_domid_self(d, domid, error);
}

static bool mmu_domain_ok(struct hypercall *h, uint64_t domain, int64_t *error)
{
    const uint32_t owner = (uint32_t)domain >> 16;

    return mmu_foreign_ok(h->d, (uint16_t)(domain & MMU_DOM_MASK), error) &&
           (owner == 0 || hypercall_domid_self(h->d, (uint16_t)(owner - 1), error));
}

/* Works off a list of count requests of `size` bytes at arg[0], each by one(). */
static int64_t mmu_list(struct hypercall *h, size_t size,
                        int (*one)(struct hypercall *h, const void *req))
{
    uint32_t done = mmu_done_before(h, h->arg[2], (uint32_t)h->arg[1]);
    uint32_t left = (uint32_t)h->arg[1] & ~MMU_PREEMPTED;
    int64_t rc = 0;

    for (; left > 0; left--, done++) {
        union {
            struct mmu_update update;
            struct mmuext_op ext;
        } req;

        if (!mmu_spend(h)) {
            h->arg[1] = left | MMU_PREEMPTED;
            h->again = true;
            break;
        }
        if (!guest_read(h->v, h->arg[0], &req, size)) {
            rc = -EFAULT;
            break;
        }
        rc = one(h, &req);
        if (rc != 0) {
            break;
        }
        h->arg[0] += size;
    }
    mmu_done(h, h->arg[2], done);
    return rc;
}

/* --- mmu_update ------------------------------------------------------------------------- */

static int mmu_update_table(struct pv_domain *d, const struct mmu_update *req, bool keep_ad)
{
    const uint64_t gpa = req->ptr & ~7ull;
    uint32_t frame = pv_page_own(d, gpa >> MEM_PAGE_SHIFT);
    unsigned index = (unsigned)(gpa & 4095) / 8;
    int rc;

    if (frame == MEM_HOLE) {
        return -EINVAL;
    }
    if (pv_page_is_table(d, frame)) {
        return pv_page_update(d, frame, index, req->val, keep_ad, NULL);
    }
    rc = pv_page_get(d, frame, PV_PAGE_WRITABLE);
    if (rc != 0) {
        return rc;
    }
    __atomic_store_n((uint64_t *)mem_frame_hva(d->mem, frame) + index, req->val,
                     __ATOMIC_SEQ_CST);
    mem_written(d->mem, frame);
    pv_page_put(d, frame);
    return 0;
}

static int mmu_update_one(struct hypercall *h, const void *request)
{
    const struct mmu_update *req = request;
    struct pv_domain *d = h->d;

    switch (req->ptr & 7) {
    case MMU_PT_UPDATE_PRESERVE_AD:
        return mmu_update_table(d, req, true);
    case MMU_MACHPHYS_UPDATE:
        if (pv_page_own(d, req->ptr >> MEM_PAGE_SHIFT) == MEM_HOLE) {
            return -EINVAL;
        }
        pv_m2p_set(d, req->ptr >> MEM_PAGE_SHIFT, req->val);
        return 0;
    case MMU_NORMAL_PT_UPDATE:
    case MMU_PT_UPDATE_NO_TRANSLATE: /* nothing is translated */
        return mmu_update_table(d, req, false);
    default:
        return -ENOSYS;
    }
}

int64_t pv_op_mmu_update(struct hypercall *h)
{
    int64_t error;

    if (!mmu_domain_ok(h, h->arg[3], &error)) {
        mmu_done(h, h->arg[2], mmu_done_before(h, h->arg[2], (uint32_t)h->arg[1]));
        return error;
    }
    return mmu_list(h, sizeof(struct mmu_update), mmu_update_one);
}

/* --- Flushing --------------------------------------------------------------------------- */

/* Other vCPUs drop everything, whatever was asked for. */
static void mmu_flush_others(struct hypercall *h, const uint64_t *vcpus)
{
    const unsigned nr = h->d->board->ops->nr_vcpus(h->d->board);

    for (unsigned i = 0; i < nr; i++) {
        if (i != h->v->id && (vcpus == NULL || (vcpus[0] >> i & 1) != 0)) {
            pv_guest_flush_other(h->d, i);
        }
    }
}

/* A bitmap of vCPUs: only as many bytes as there are vCPUs are read. */
static bool mmu_read_vcpus(struct hypercall *h, uint64_t gva, uint64_t *vcpus)
{
    *vcpus = 0;
    return guest_read(h->v, gva, vcpus, MIN((h->d->max_vcpus + 7) / 8, sizeof(*vcpus)));
}

static int mmu_flush_some(struct hypercall *h, enum vcpu_flush kind, uint64_t gva,
                          uint64_t bitmap_gva)
{
    uint64_t vcpus;

    if (!mmu_read_vcpus(h, bitmap_gva, &vcpus)) {
        return -EFAULT;
    }
    if ((vcpus >> h->v->id & 1) != 0) {
        pv_flush(h->d, h->v, kind, gva);
    }
    mmu_flush_others(h, &vcpus);
    return 0;
}

static void mmu_flush_all(struct hypercall *h, enum vcpu_flush kind, uint64_t gva)
{
    pv_flush(h->d, h->v, kind, gva);
    mmu_flush_others(h, NULL);
}

/* --- update_va_mapping ------------------------------------------------------------------ */

static int64_t mmu_flush_by_flags(struct hypercall *h, uint64_t gva, uint64_t flags)
{
    const uint64_t target = flags & ~(uint64_t)UVMF_FLUSHTYPE_MASK;
    enum vcpu_flush kind;

    switch (flags & UVMF_FLUSHTYPE_MASK) {
    case UVMF_TLB_FLUSH:
        kind = VCPU_FLUSH_ALL;
        break;
    case UVMF_INVLPG:
        kind = VCPU_FLUSH_PAGE;
        break;
    default:
        return 0;
    }
    if (target == UVMF_LOCAL) {
        pv_flush(h->d, h->v, kind, gva);
        return 0;
    }
    if (target == UVMF_ALL) {
        mmu_flush_all(h, kind, gva);
        return 0;
    }
    return mmu_flush_some(h, kind, gva, target);
}

int64_t pv_op_update_va_mapping(struct hypercall *h)
{
    const uint64_t gva = h->arg[0];
    uint32_t frame;
    unsigned index;
    int64_t rc;

    if (!pv_guest_address(gva)) {
        return -EINVAL;
    }
    frame = pv_page_l1(h->d, pv_cpu_of(h->d, h->v)->kernel_root, gva, &index);
    if (frame == MEM_HOLE) {
        return -EINVAL;
    }
    rc = pv_page_update(h->d, frame, index, h->arg[1], false, NULL);
    if (rc != 0) {
        return rc;
    }
    return mmu_flush_by_flags(h, gva, h->arg[2]);
}

int64_t pv_op_update_va_mapping_otherdomain(struct hypercall *h)
{
    int64_t error;

    if (!mmu_foreign_ok(h->d, (uint16_t)h->arg[3], &error)) {
        return error;
    }
    return pv_op_update_va_mapping(h);
}

/* --- mmuext_op -------------------------------------------------------------------------- */

int64_t pv_new_root(struct pv_domain *d, struct vcpu *v, uint64_t mfn, bool user)
{
    struct pv_cpu *pc = pv_cpu_of(d, v);
    uint64_t *root = user ? &pc->user_root : &pc->kernel_root;
    const uint64_t old = *root;

    if (user && mfn == 0) {
        mfn = PV_MFN_NONE;
    } else if (mfn != old) {
        uint32_t frame = pv_page_own(d, mfn);
        int rc = frame == MEM_HOLE ? -EINVAL : pv_page_get(d, frame, PV_PAGE_L4);

        if (rc != 0) {
            return rc;
        }
    }
    *root = mfn;
    if (mfn != PV_MFN_NONE) {
        pv_page_show_m2p(d, mfn, user);
    }
    if (!user && mfn != old) {
        pv_ldt_drop(d, pc);
    }
    if (old != PV_MFN_NONE && old != mfn) {
        uint32_t frame = pv_page_own(d, old);

        if (frame != MEM_HOLE && d->guest->pages[frame].type == PV_PAGE_L4) {
            pv_page_put(d, frame);
        }
    }
    if (user != v->cpu.pv_kernel && mfn != PV_MFN_NONE) {
        v->cpu.cr3 = mfn << MEM_PAGE_SHIFT;
    }
    pv_space_enter(d, v);
    return 0;
}

static int mmuext_pin(struct pv_domain *d, uint64_t mfn, enum pv_page_type type)
{
    uint32_t frame = pv_page_own(d, mfn);

    if (frame == MEM_HOLE) {
        return -EINVAL;
    }
    return type == PV_PAGE_NONE ? pv_page_unpin(d, frame) : pv_page_pin(d, frame, type);
}

static int mmuext_fill(struct pv_domain *d, uint64_t mfn, uint64_t from)
{
    uint32_t frame = pv_page_own(d, mfn);
    uint32_t source = from == PV_MFN_NONE ? 0 : pv_page_own(d, from);

    if (frame == MEM_HOLE || source == MEM_HOLE ||
        pv_page_get(d, frame, PV_PAGE_WRITABLE) != 0) {
        return -EINVAL;
    }
    if (from == PV_MFN_NONE) {
        memset(mem_frame_hva(d->mem, frame), 0, MEM_PAGE_SIZE);
    } else {
        memmove(mem_frame_hva(d->mem, frame), mem_frame_hva(d->mem, source), MEM_PAGE_SIZE);
    }
    mem_written(d->mem, frame);
    pv_page_put(d, frame);
    return 0;
}

static int mmuext_set_ldt(struct hypercall *h, const struct mmuext_op *op)
{
    const uint64_t gva = op->arg2.nr_ents == 0 ? 0 : op->arg1.linear_addr;

    if ((gva & (MEM_PAGE_SIZE - 1)) != 0 || op->arg2.nr_ents > PV_LDT_ENTRIES ||
        !pv_guest_address(gva)) {
        return -EINVAL;
    }
    pv_set_ldt(h->d, pv_cpu_of(h->d, h->v), gva, op->arg2.nr_ents);
    return 0;
}

/* Unlike with update_va_mapping a bitmap that cannot be read is a wrong argument. */
static int mmuext_flush_some(struct hypercall *h, enum vcpu_flush kind, uint64_t gva,
                             uint64_t bitmap_gva)
{
    return mmu_flush_some(h, kind, gva, bitmap_gva) == 0 ? 0 : -EINVAL;
}

static int mmuext_flush(struct hypercall *h, const struct mmuext_op *op)
{
    const uint64_t gva = op->arg1.linear_addr;
    const uint64_t bitmap = (uint64_t)(uintptr_t)op->arg2.vcpumask.p;

    switch (op->cmd) {
    case MMUEXT_TLB_FLUSH_LOCAL:
        pv_flush(h->d, h->v, VCPU_FLUSH_ALL, 0);
        return 0;
    case MMUEXT_TLB_FLUSH_MULTI:
        return mmuext_flush_some(h, VCPU_FLUSH_ALL, 0, bitmap);
    case MMUEXT_TLB_FLUSH_ALL:
        mmu_flush_all(h, VCPU_FLUSH_ALL, 0);
        return 0;
    default:
        break;
    }
    if (!pv_canonical(gva)) {
        return 0;
    }
    if (op->cmd == MMUEXT_INVLPG_MULTI) {
        return mmuext_flush_some(h, VCPU_FLUSH_PAGE, gva, bitmap);
    }
    if (op->cmd == MMUEXT_INVLPG_ALL) {
        mmu_flush_all(h, VCPU_FLUSH_PAGE, gva);
    } else {
        pv_flush(h->d, h->v, VCPU_FLUSH_PAGE, gva);
    }
    return 0;
}

static int mmuext_one(struct hypercall *h, const void *request)
{
    const struct mmuext_op *op = request;

    switch (op->cmd) {
    case MMUEXT_PIN_L1_TABLE:
    case MMUEXT_PIN_L2_TABLE:
    case MMUEXT_PIN_L3_TABLE:
    case MMUEXT_PIN_L4_TABLE:
        return mmuext_pin(h->d, op->arg1.mfn,
                          (enum pv_page_type)(PV_PAGE_L1 + (op->cmd - MMUEXT_PIN_L1_TABLE)));
    case MMUEXT_UNPIN_TABLE:
        return mmuext_pin(h->d, op->arg1.mfn, PV_PAGE_NONE);
    case MMUEXT_NEW_BASEPTR:
        return (int)pv_new_root(h->d, h->v, op->arg1.mfn, false);
    case MMUEXT_NEW_USER_BASEPTR:
        return (int)pv_new_root(h->d, h->v, op->arg1.mfn, true);
    case MMUEXT_TLB_FLUSH_LOCAL:
    case MMUEXT_INVLPG_LOCAL:
    case MMUEXT_TLB_FLUSH_MULTI:
    case MMUEXT_INVLPG_MULTI:
    case MMUEXT_TLB_FLUSH_ALL:
    case MMUEXT_INVLPG_ALL:
        return mmuext_flush(h, op);
    case MMUEXT_FLUSH_CACHE:
        return -EACCES; /* no device is passed through */
    case MMUEXT_FLUSH_CACHE_GLOBAL:
        return -EINVAL; /* the same, in the words of this one */
    case MMUEXT_SET_LDT:
        return mmuext_set_ldt(h, op);
    case MMUEXT_CLEAR_PAGE:
        return mmuext_fill(h->d, op->arg1.mfn, PV_MFN_NONE);
    case MMUEXT_COPY_PAGE:
        return mmuext_fill(h->d, op->arg1.mfn, op->arg2.src_mfn);
    case MMUEXT_MARK_SUPER:
    case MMUEXT_UNMARK_SUPER:
        return -EOPNOTSUPP;
    default:
        return -ENOSYS;
    }
}

int64_t pv_op_mmuext(struct hypercall *h)
{
    int64_t error;

    return mmu_domain_ok(h, h->arg[3], &error)
               ? mmu_list(h, sizeof(struct mmuext_op), mmuext_one)
               : error;
}

/* --- Writes to page tables -------------------------------------------------------------- */

bool pv_table_page(struct pv_domain *d, struct vcpu *v, uint64_t gva, uint64_t *gpa)
{
    unsigned index;
    uint32_t l1, frame;
    uint64_t entry;

    if ((d->vm_assist & 1u << VMASST_TYPE_writable_pagetables) == 0 ||
        pv_hv_address(gva)) {
        return false;
    }
    l1 = pv_page_l1(d, pv_cpu_of(d, v)->kernel_root, gva, &index);
    if (l1 == MEM_HOLE) {
        return false;
    }
    entry = __atomic_load_n((uint64_t *)mem_frame_hva(d->mem, l1) + index, __ATOMIC_SEQ_CST);
    if ((entry & (PV_PTE_P | PV_PTE_RW)) != PV_PTE_P) {
        return false;
    }
    frame = pv_page_own(d, (entry & PV_PTE_ADDR) >> MEM_PAGE_SHIFT);
    *gpa = (entry & PV_PTE_ADDR) | (gva & (MEM_PAGE_SIZE - 1));
    return frame != MEM_HOLE && pv_page_is_table(d, frame) &&
           d->guest->pages[frame].type == PV_PAGE_L1;
}

enum vcpu_pv_write pv_table_write(struct pv_domain *d, struct vcpu *v, uint64_t gpa,
                                  unsigned size, uint64_t *old, uint64_t value)
{
    uint32_t frame = pv_page_own(d, gpa >> MEM_PAGE_SHIFT);
    const unsigned shift = (gpa & 7) * 8;
    const uint64_t mask = size >= 8 ? UINT64_MAX : ((1ull << size * 8) - 1) << shift;
    uint64_t whole, expect;
    unsigned index = (unsigned)(gpa & (MEM_PAGE_SIZE - 1)) / 8;
    int rc;

    if (frame == MEM_HOLE || !pv_page_is_table(d, frame) ||
        d->guest->pages[frame].type != PV_PAGE_L1 || (gpa & 7) + size > 8) {
        return VCPU_PV_WRITE_REFUSED;
    }
    whole = __atomic_load_n((uint64_t *)mem_frame_hva(d->mem, frame) + index, __ATOMIC_SEQ_CST);
    expect = (whole & ~mask) | (*old << shift & mask);
    rc = pv_page_update(d, frame, index, (whole & ~mask) | (value << shift & mask), false,
                        &expect);
    pv_guest_return_flush(d, v);
    if (rc == 0) {
        return VCPU_PV_WRITE_DONE;
    }
    if (rc != -EAGAIN) {
        return VCPU_PV_WRITE_REFUSED;
    }
    *old = (expect & mask) >> shift;
    return VCPU_PV_WRITE_CHANGED;
}
