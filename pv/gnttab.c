/* SPDX-License-Identifier: MIT */
/*
 * Grant tables, version 1 (xen/grant_table.h; xen-abi 5). Version 2, transitive grants,
 * transfer and swap are not offered: each has a history of races, and guests do without.
 *
 * An entry is guest memory. It is read once as one 32-bit word {flags, domid}; the bits that
 * pin it are set by compare-and-swap on that same word, so what was checked is what was pinned.
 * The frame number is read after that: the guest must not change it while the grant is in use,
 * and if it does, the page is still one of its own (gfn -> frame is checked every time).
 * Nothing is cached across calls.
 */
#include "pv/gnttab.h"

#include <errno.h>
#include <glib.h>
#include <string.h>

#include "pv/domain.h"
#include "pv/guest_access.h"
#include "pv/hypercall.h"
#include "pv/pv_guest.h"
#include "pv/memory.h"
#include "pv/xen_abi.h"

enum {
    GNTTAB_COMMANDS = 1 << 12, /* Xen keeps its place in the bits above */
    GNTTAB_PER_FRAME = MEM_PAGE_SIZE / sizeof(grant_entry_v1_t),
    GNTTAB_MAX_REFS = PV_MAX_GRANT_FRAMES * GNTTAB_PER_FRAME,
    GNTTAB_CAS_TRIES = 5, /* then the guest is playing games with the entry */
    GNTTAB_MAX_PINS = UINT16_MAX,
};

/* How often a reference is in use. */
struct gnttab_pin {
    uint16_t readers, writers;
};

struct gnttab {
    uint32_t nr_frames;
    unsigned mapped;
    uint32_t epoch; /* counts resets and loads: mappings from before are void */
    struct gnttab_pin pin[GNTTAB_MAX_REFS];
};

struct gnttab *gnttab_new(struct pv_domain *d)
{
    struct gnttab *g = g_new0(struct gnttab, 1);

    g->nr_frames = 1;
    return g;
}

void gnttab_free(struct gnttab *g)
{
    g_free(g);
}

static void *gnttab_table_page(struct pv_domain *d, uint32_t index)
{
    return mem_frame_hva(d->mem, mem_extra_frame(d->mem, PV_FRAME_GRANT0 + index));
}

static void gnttab_forget(struct gnttab *g, uint32_t nr_frames)
{
    g->nr_frames = nr_frames;
    g->mapped = 0;
    g->epoch++;
    memset(g->pin, 0, sizeof(g->pin));
}

void gnttab_reset(struct pv_domain *d)
{
    for (uint32_t i = 0; i < d->gnttab->nr_frames; i++) {
        memset(gnttab_table_page(d, i), 0, MEM_PAGE_SIZE);
        mem_written(d->mem, mem_extra_frame(d->mem, PV_FRAME_GRANT0 + i));
    }
    gnttab_forget(d->gnttab, 1);
}

static bool gnttab_grow(struct pv_domain *d, uint64_t nr_frames)
{
    if (nr_frames > PV_MAX_GRANT_FRAMES) {
        return false;
    }
    d->gnttab->nr_frames = MAX(d->gnttab->nr_frames, (uint32_t)nr_frames);
    return true;
}

uint32_t gnttab_frame(struct pv_domain *d, uint64_t idx)
{
    /* Bit 31 asks for status frames, which version 1 has not; it is beyond the limit anyway. */
    if (idx >= PV_MAX_GRANT_FRAMES || !gnttab_grow(d, idx + 1)) {
        return MEM_HOLE;
    }
    return mem_extra_frame(d->mem, PV_FRAME_GRANT0 + (uint32_t)idx);
}

/* The words of an entry: {flags, domid} and frame. NULL: no such reference. */
static uint32_t *gnttab_entry(struct pv_domain *d, uint32_t ref)
{
    if (ref >= d->gnttab->nr_frames * GNTTAB_PER_FRAME) {
        return NULL;
    }
    return (uint32_t *)gnttab_table_page(d, ref / GNTTAB_PER_FRAME) +
           (size_t)(ref % GNTTAB_PER_FRAME) * 2;
}

void gnttab_set_reserved(struct pv_domain *d, uint32_t ref, uint64_t gfn)
{
    uint32_t *entry = gnttab_entry(d, ref);

    g_assert(entry != NULL && gfn <= UINT32_MAX);
    __atomic_store_n(&entry[1], (uint32_t)gfn, __ATOMIC_SEQ_CST);
    __atomic_store_n(&entry[0], GTF_permit_access, __ATOMIC_SEQ_CST); /* domid 0 */
    mem_written(d->mem, mem_hva_frame(d->mem, entry));
}

/* --- Pinning ---------------------------------------------------------------------------- */

/* Sets the in-use bits for domain `user` in the entry. 0 or GNTST_*. */
static int gnttab_set_bits(uint32_t *entry, bool write, uint16_t user)
{
    uint32_t seen = __atomic_load_n(&entry[0], __ATOMIC_SEQ_CST);

    for (unsigned tries = 0; tries < GNTTAB_CAS_TRIES; tries++) {
        uint16_t flags = (uint16_t)seen;
        uint32_t wanted = seen | GTF_reading | (write ? GTF_writing : 0);

        if ((flags & GTF_type_mask) != GTF_permit_access || (seen >> 16) != user) {
            return GNTST_bad_gntref;
        }
        if (write && (flags & GTF_readonly) != 0) {
            return GNTST_permission_denied;
        }
        if (wanted == seen || __atomic_compare_exchange_n(&entry[0], &seen, wanted, false,
                                                          __ATOMIC_SEQ_CST, __ATOMIC_SEQ_CST)) {
            return GNTST_okay;
        }
    }
    return GNTST_general_error;
}

/* Clears the bits that no use needs any more. The guest may free the entry from here on. */
static void gnttab_clear_bits(struct pv_domain *d, uint32_t ref)
{
    const struct gnttab_pin *pin = &d->gnttab->pin[ref];
    uint32_t *entry = gnttab_entry(d, ref);
    uint32_t clear = 0;

    if (pin->writers == 0) {
        clear |= GTF_writing;
        if (pin->readers == 0) {
            clear |= GTF_reading;
        }
    }
    if (clear != 0) {
        __atomic_fetch_and(&entry[0], ~clear, __ATOMIC_SEQ_CST);
        mem_written(d->mem, mem_hva_frame(d->mem, entry));
    }
}

/* 0 or GNTST_*: as pv_frame_get(). */
static int gnttab_frame_get(struct pv_domain *d, uint64_t gfn, bool write, uint32_t *frame)
{
    switch (pv_frame_get(d, gfn, write, frame)) {
    case 0:
        return GNTST_okay;
    case -EBUSY:
        return GNTST_general_error; /* a page table of the guest's, for example */
    default:
        return GNTST_bad_page;
    }
}

/* Pins ref for `user` and finds its page. All that uses grants comes by here: what is granted
 * may change its type as little as what the guest registers. The inverse is gnttab_unpin. */
static int gnttab_pin(struct pv_domain *d, uint32_t ref, bool write, uint16_t user,
                      uint32_t *frame)
{
    uint32_t *entry = gnttab_entry(d, ref);
    struct gnttab_pin *pin;
    int status;

    if (entry == NULL) {
        return GNTST_bad_gntref;
    }
    pin = &d->gnttab->pin[ref];
    if (pin->readers == GNTTAB_MAX_PINS || pin->writers == GNTTAB_MAX_PINS) {
        return GNTST_no_space;
    }
    status = gnttab_set_bits(entry, write, user);
    if (status != GNTST_okay) {
        return status;
    }
    mem_written(d->mem, mem_hva_frame(d->mem, entry));
    status = gnttab_frame_get(d, __atomic_load_n(&entry[1], __ATOMIC_SEQ_CST), write, frame);
    if (status != GNTST_okay) {
        gnttab_clear_bits(d, ref);
        return status;
    }
    if (write) {
        pin->writers++;
    } else {
        pin->readers++;
    }
    return GNTST_okay;
}

static void gnttab_unpin(struct pv_domain *d, uint32_t ref, bool write, uint32_t frame)
{
    struct gnttab_pin *pin = &d->gnttab->pin[ref];

    pv_frame_put(d, frame, write);
    if (write) {
        pin->writers--;
    } else {
        pin->readers--;
    }
    gnttab_clear_bits(d, ref);
}

int gnttab_map(struct pv_domain *d, uint32_t ref, bool write, struct gnttab_mapping *map)
{
    uint32_t frame;
    int status = gnttab_pin(d, ref, write, 0, &frame);

    if (status != GNTST_okay) {
        return status;
    }
    if (write) {
        mem_written(d->mem, frame);
    }
    map->hva = mem_frame_hva(d->mem, frame);
    map->ref = ref;
    map->write = write;
    map->epoch = d->gnttab->epoch;
    map->frame = frame;
    d->gnttab->mapped++;
    return GNTST_okay;
}

void gnttab_unmap(struct pv_domain *d, struct gnttab_mapping *map)
{
    if (map->hva == NULL) {
        return;
    }
    if (map->write) {
        mem_written(d->mem, map->frame);
    }
    map->hva = NULL;
    if (map->epoch != d->gnttab->epoch) {
        return; /* the pin went with the old table */
    }
    d->gnttab->mapped--;
    gnttab_unpin(d, map->ref, map->write, map->frame);
}

unsigned gnttab_mapped(struct pv_domain *d)
{
    return d->gnttab->mapped;
}

static uint8_t *gnttab_page(struct pv_domain *d, uint32_t frame)
{
    return mem_frame_hva(d->mem, frame);
}

int gnttab_copy_from(struct pv_domain *d, uint32_t ref, unsigned offset, void *buf, size_t len)
{
    uint32_t frame;
    int status;

    if (offset > MEM_PAGE_SIZE || len > MEM_PAGE_SIZE - offset) {
        return GNTST_bad_copy_arg;
    }
    status = gnttab_pin(d, ref, false, 0, &frame);
    if (status == GNTST_okay) {
        memcpy(buf, gnttab_page(d, frame) + offset, len);
        gnttab_unpin(d, ref, false, frame);
    }
    return status;
}

int gnttab_copy_to(struct pv_domain *d, uint32_t ref, unsigned offset, const void *buf,
                   size_t len)
{
    uint32_t frame;
    int status;

    if (offset > MEM_PAGE_SIZE || len > MEM_PAGE_SIZE - offset) {
        return GNTST_bad_copy_arg;
    }
    status = gnttab_pin(d, ref, true, 0, &frame);
    if (status == GNTST_okay) {
        memcpy(gnttab_page(d, frame) + offset, buf, len);
        if (len > 0) {
            mem_written_at(d->mem, frame, offset, (unsigned)len);
        }
        gnttab_unpin(d, ref, true, frame);
    }
    return status;
}

/* --- Hypercalls ------------------------------------------------------------------------- */

/* GNTST_* for a domid field that must name the guest itself. */
static int16_t gnttab_domid_status(const struct pv_domain *d, uint16_t domid)
{
    int64_t error;

    if (hypercall_domid_self(d, domid, &error)) {
        return GNTST_okay;
    }
    return error == -EPERM ? GNTST_permission_denied : GNTST_bad_domain;
}

static int64_t gnttab_query_size(struct hypercall *h, uint64_t gva)
{
    struct gnttab_query_size op;

    if (!guest_read(h->v, gva, &op, sizeof(op))) {
        return -EFAULT;
    }
    op.status = gnttab_domid_status(h->d, op.dom);
    if (op.status == GNTST_okay) {
        op.nr_frames = h->d->gnttab->nr_frames;
        op.max_nr_frames = PV_MAX_GRANT_FRAMES;
    }
    return guest_write(h->v, gva, &op, sizeof(op)) ? 0 : -EFAULT;
}

/* The frame list is of no use to PVH, whose frames have a gfn only after add_to_physmap; it
 * shows those. */
static int64_t gnttab_setup_table(struct hypercall *h, uint64_t gva)
{
    struct pv_domain *d = h->d;
    struct gnttab_setup_table op;
    struct { /* the 32-bit layout, which is the same up to the list */
        uint16_t dom;
        uint32_t nr_frames;
        int16_t status;
        uint32_t frame_list;
    } op32;
    const size_t entry = h->compat ? sizeof(uint32_t) : sizeof(uint64_t);
    uint64_t list;

    if (h->compat) {
        if (!guest_read(h->v, gva, &op32, sizeof(op32))) {
            return -EFAULT;
        }
        op.dom = op32.dom;
        op.nr_frames = op32.nr_frames;
        list = op32.frame_list;
    } else {
        if (!guest_read(h->v, gva, &op, sizeof(op))) {
            return -EFAULT;
        }
        list = (uint64_t)(uintptr_t)op.frame_list.p;
    }
    op.status = gnttab_domid_status(d, op.dom);
    if (op.status == GNTST_okay && !gnttab_grow(d, op.nr_frames)) {
        op.status = GNTST_general_error;
    }
    for (uint32_t i = 0; op.status == GNTST_okay && i < op.nr_frames; i++) {
        uint64_t gfn = d->guest != NULL ? pv_extra_mfn(d, PV_FRAME_GRANT0 + i)
                                             : d->extra_gfn[PV_FRAME_GRANT0 + i];

        if (!guest_write(h->v, list + i * entry, &gfn, entry)) {
            op.status = GNTST_bad_virt_addr;
        }
    }
    return guest_write(h->v, gva + offsetof(struct gnttab_setup_table, status), &op.status,
                       sizeof(op.status))
               ? 0
               : -EFAULT;
}

static int64_t gnttab_set_version(struct hypercall *h, uint64_t gva)
{
    struct gnttab_set_version op;
    int64_t rc = 0;

    if (!guest_read(h->v, gva, &op, sizeof(op))) {
        return -EFAULT;
    }
    if (op.version != 1) {
        rc = op.version == 2 ? -ENOSYS : -EINVAL; /* as Xen with gnttab=max-ver:1 */
    }
    op.version = 1; /* what is in force */
    return guest_write(h->v, gva, &op, sizeof(op)) ? rc : -EFAULT;
}

static int64_t gnttab_get_version(struct hypercall *h, uint64_t gva)
{
    struct gnttab_get_version op;
    int64_t error;

    if (!guest_read(h->v, gva, &op, sizeof(op))) {
        return -EFAULT;
    }
    if (!hypercall_domid_self(h->d, op.dom, &error)) {
        return error;
    }
    op.version = 1;
    return guest_write(h->v, gva, &op, sizeof(op)) ? 0 : -EFAULT;
}

/* One side of GNTTABOP_copy: a page of the guest by gfn, or by a grant it made to itself. */
struct gnttab_side {
    bool by_ref, write;
    uint32_t ref;
    uint32_t frame;
};

static int16_t gnttab_side_open(struct pv_domain *d, struct gnttab_side *side, bool by_ref,
                                const struct gnttab_copy_ptr *ptr)
{
    int16_t status = gnttab_domid_status(d, ptr->domid);

    side->by_ref = by_ref;
    side->ref = ptr->u.ref;
    if (status != GNTST_okay) {
        /* Domain 0 exists, but has granted nothing. */
        return by_ref && status == GNTST_permission_denied ? GNTST_bad_gntref : status;
    }
    if (by_ref) {
        return (int16_t)gnttab_pin(d, side->ref, side->write, (uint16_t)d->domid, &side->frame);
    }
    return (int16_t)gnttab_frame_get(d, ptr->u.gmfn, side->write, &side->frame);
}

static void gnttab_side_close(struct pv_domain *d, const struct gnttab_side *side)
{
    if (side->by_ref) {
        gnttab_unpin(d, side->ref, side->write, side->frame);
    } else {
        pv_frame_put(d, side->frame, side->write);
    }
}

/* struct gnttab_copy as 32-bit code has it. */
struct gnttab_copy_32 {
    struct {
        uint32_t page; /* a grant, or a gmfn */
        uint16_t domid, offset;
    } source, dest;
    uint16_t len, flags;
    int16_t status;
};

static int16_t gnttab_copy_one(struct pv_domain *d, const struct gnttab_copy *op)
{
    struct gnttab_side src = {.write = false};
    struct gnttab_side dst = {.write = true};
    int16_t status;

    if (op->len > MEM_PAGE_SIZE || op->source.offset > MEM_PAGE_SIZE - op->len ||
        op->dest.offset > MEM_PAGE_SIZE - op->len ||
        (op->flags & ~(GNTCOPY_source_gref | GNTCOPY_dest_gref)) != 0) {
        return GNTST_bad_copy_arg;
    }
    status = gnttab_side_open(d, &src, (op->flags & GNTCOPY_source_gref) != 0,
                              (const struct gnttab_copy_ptr *)&op->source);
    if (status != GNTST_okay) {
        return status;
    }
    status = gnttab_side_open(d, &dst, (op->flags & GNTCOPY_dest_gref) != 0,
                              (const struct gnttab_copy_ptr *)&op->dest);
    if (status == GNTST_okay) {
        memmove(gnttab_page(d, dst.frame) + op->dest.offset,
                gnttab_page(d, src.frame) + op->source.offset, op->len);
        if (op->len > 0) {
            mem_written_at(d->mem, dst.frame, op->dest.offset, op->len);
        }
        gnttab_side_close(d, &dst);
    }
    gnttab_side_close(d, &src);
    return status;
}

/* Batches answer per element; the call itself fails only for bad memory. */
static int64_t gnttab_batch(struct hypercall *h, size_t size, size_t status_at,
                            int16_t (*one)(struct pv_domain *d, const void *op))
{
    union {
        struct gnttab_copy copy;
        struct gnttab_copy_32 copy32;
        struct gnttab_map_grant_ref map;
        struct gnttab_unmap_grant_ref unmap;
    } op;
    uint64_t gva = h->arg[1];
    uint32_t count = (uint32_t)h->arg[2];

    while (count > 0) {
        int16_t status;

        if (!hypercall_spend(h, 2)) { /* two pages may be copied */
            h->arg[1] = gva;
            h->arg[2] = count;
            h->again = true;
            return 0;
        }
        if (!guest_read(h->v, gva, &op, size)) {
            return -EFAULT;
        }
        status = one(h->d, &op);
        if (!guest_write(h->v, gva + status_at, &status, sizeof(status))) {
            return -EFAULT;
        }
        gva += size;
        count--;
    }
    return 0;
}

static int16_t gnttab_batch_copy(struct pv_domain *d, const void *op)
{
    return gnttab_copy_one(d, op);
}

static int16_t gnttab_batch_copy_32(struct pv_domain *d, const void *op)
{
    const struct gnttab_copy_32 *op32 = op;
    struct gnttab_copy copy = {.len = op32->len, .flags = op32->flags};

    copy.source.domid = op32->source.domid;
    copy.source.offset = op32->source.offset;
    copy.source.u.gmfn = op32->source.page; /* the grant is its low half */
    copy.dest.domid = op32->dest.domid;
    copy.dest.offset = op32->dest.offset;
    copy.dest.u.gmfn = op32->dest.page;
    return gnttab_copy_one(d, &copy);
}

/* Domains that map each other's pages are not offered: there is only one, and its own pages it
 * has. */
static int16_t gnttab_batch_map(struct pv_domain *d, const void *op)
{
    const struct gnttab_map_grant_ref *map = op;
    int16_t status = gnttab_domid_status(d, map->dom);

    return status == GNTST_bad_domain ? GNTST_bad_domain : GNTST_general_error;
}

static int16_t gnttab_batch_unmap(struct pv_domain *d, const void *op)
{
    return GNTST_bad_handle;
}

int64_t gnttab_op(struct hypercall *h)
{
    uint32_t cmd = (uint32_t)h->arg[0];
    uint64_t gva = h->arg[1];
    uint32_t count = (uint32_t)h->arg[2];

    if ((int32_t)count < 0 || cmd >= GNTTAB_COMMANDS) {
        return -EINVAL;
    }
    switch (cmd) {
    case GNTTABOP_query_size:
        return count != 1 ? -EINVAL : gnttab_query_size(h, gva);
    case GNTTABOP_set_version:
        return gnttab_set_version(h, gva);
    case GNTTABOP_get_version:
        return gnttab_get_version(h, gva);
    case GNTTABOP_setup_table:
        return count != 1 ? -EINVAL : gnttab_setup_table(h, gva);
    case GNTTABOP_copy:
        if (h->compat) {
            return gnttab_batch(h, sizeof(struct gnttab_copy_32),
                                offsetof(struct gnttab_copy_32, status), gnttab_batch_copy_32);
        }
        return gnttab_batch(h, sizeof(struct gnttab_copy), offsetof(struct gnttab_copy, status),
                            gnttab_batch_copy);
    case GNTTABOP_map_grant_ref:
        return gnttab_batch(h, sizeof(struct gnttab_map_grant_ref),
                            offsetof(struct gnttab_map_grant_ref, status), gnttab_batch_map);
    case GNTTABOP_unmap_grant_ref:
        return gnttab_batch(h, sizeof(struct gnttab_unmap_grant_ref),
                            offsetof(struct gnttab_unmap_grant_ref, status),
                            gnttab_batch_unmap);
    default:
        return -ENOSYS; /* transfer, swap, status frames, cache_flush */
    }
}

void gnttab_state(struct pv_domain *d, struct state *s)
{
    uint32_t nr_frames = d->gnttab->nr_frames;

    state_u32(s, "grant-frames", &nr_frames);
    if (nr_frames == 0 || nr_frames > PV_MAX_GRANT_FRAMES) {
        state_fail(s, "grant table: too many frames");
        return;
    }
    if (state_loading(s)) {
        gnttab_forget(d->gnttab, nr_frames); /* pins are the back ends', who map again */
    }
}
