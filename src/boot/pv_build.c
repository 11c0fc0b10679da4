/* SPDX-License-Identifier: MIT */
/* The domain builder. See pv_build.h; struct start_info is in xen/xen.h. */
#include "boot/pv_build.h"

#include <string.h>

#define __XEN_INTERFACE_VERSION__ 0x00040e00
#pragma GCC diagnostic push
#pragma GCC diagnostic ignored "-Wpedantic"
#include <xen/elfnote.h>
#include <xen/xen.h>
#pragma GCC diagnostic pop

#include "base/checked.h"
#include "base/error.h"

enum {
    PAGE = MEM_PAGE_SIZE,
    BUILD_SLACK = 512 << 10,
    BUILD_ALIGN = 4 << 20,
    PTE_P = 1,
    PTE_RW = 2,
    PTE_U = 4,
    PTE_A = 0x20,
    PTE_D = 0x40,
    TABLE_FLAGS = PTE_P | PTE_RW | PTE_U | PTE_A | PTE_D,
    PAGE_FLAGS = PTE_P | PTE_RW | PTE_A, /* the kernel's: without U */
};

/* A range of virtual addresses and the pages its tables lie in: L3s, L2s, L1s in this order. */
struct build_range {
    uint64_t start, end;
    uint64_t l3_pfn, l2_pfn, l1_pfn, end_pfn;
};

struct build {
    const struct boot_image *img;
    struct mem *mem;
    const struct pv_params *params;
    uint64_t nr_pages;
    uint64_t base;       /* VIRT_BASE: where pfn 0 is mapped */
    uint64_t kernel_end; /* first free pfn behind it */
    uint64_t initrd_pfn, p2m_pfn, p2m_pages;
    bool initrd_mapped, p2m_mapped;
    uint64_t start_pfn, store_pfn, console_pfn, l4_pfn, stack_pfn;
    struct build_range main, p2m;
};

static uint64_t build_pages(uint64_t bytes)
{
    return (bytes + PAGE - 1) / PAGE;
}

static uint64_t build_mfn(const struct build *b, uint64_t pfn)
{
    const uint64_t low = mem_low_bytes(b->mem) >> MEM_PAGE_SHIFT;

    return pfn < low ? pfn : pfn - low + (MEM_HIGH_START >> MEM_PAGE_SHIFT);
}

/* Copies to a pseudo-physical address. */
static bool build_write(struct build *b, uint64_t pa, const void *bytes, uint64_t len)
{
    const uint8_t *from = bytes;

    while (len > 0) {
        uint64_t chunk = MIN(len, PAGE - pa % PAGE);
        uint64_t gpa = (build_mfn(b, pa / PAGE) << MEM_PAGE_SHIFT) + pa % PAGE;

        if (pa / PAGE >= b->nr_pages || !mem_write(b->mem, gpa, from, chunk)) {
            return false;
        }
        from += chunk, pa += chunk, len -= chunk;
    }
    return true;
}

static bool build_write_entry(struct build *b, uint64_t table_pfn, uint64_t index,
                              uint64_t to_pfn, uint64_t flags)
{
    uint64_t entry = build_mfn(b, to_pfn) << MEM_PAGE_SHIFT | flags;

    return build_write(b, table_pfn * PAGE + (index & 511) * 8, &entry, sizeof(entry));
}

/* --- Where things go -------------------------------------------------------------------- */

/* How many tables whose entries span 1 << shift bytes each cover a range. */
static uint64_t range_tables(const struct build_range *r, unsigned shift)
{
    return ((r->end - 1) >> shift) - (r->start >> shift) + 1;
}

/* Lays out the tables of a range from pfn on. */
static void range_place(struct build_range *r, uint64_t pfn)
{
    r->l3_pfn = pfn;
    r->l2_pfn = r->l3_pfn + range_tables(r, 39);
    r->l1_pfn = r->l2_pfn + range_tables(r, 30);
    r->end_pfn = r->l1_pfn + range_tables(r, 21);
}

static bool build_too_small(const struct build *b, uint64_t pages, GError **err)
{
    const uint64_t mib = (pages * PAGE + (1 << 20) - 1) >> 20;
    uint64_t enough = 64;

    error_set(err, PVEMU_ERROR_USAGE,
              "'%s' does not fit: kernel, initrd and their tables need %" G_GUINT64_FORMAT
              " MiB, -m gives %" G_GUINT64_FORMAT " MiB",
              b->img->name, mib, b->nr_pages * PAGE >> 20);
    while (enough < mib + mib / 2 && enough < 1ull << 20) {
        enough *= 2;
    }
    error_hint(err, "-m %" G_GUINT64_FORMAT "M", enough);
    return false;
}

/* The list of frames is mapped there, too, 8 bytes for each. */
static bool build_too_large(const struct build *b, GError **err)
{
    error_set(err, PVEMU_ERROR_USAGE,
              "'%s' has no room above its VIRT_BASE 0x%" G_GINT64_MODIFIER "x for the list of "
              "the frames of %" G_GUINT64_FORMAT " MiB",
              b->img->name, b->base, b->nr_pages * PAGE >> 20);
    error_hint(err, "-m %" G_GUINT64_FORMAT "M", (0 - b->base) / 2 / 8 * PAGE >> 20);
    return false;
}

static bool build_has_note(const struct build *b, unsigned note)
{
    return (b->img->notes.present >> note & 1) != 0;
}

static bool build_damaged(const struct build *b, const char *what, uint64_t value, GError **err)
{
    return error_set(err, PVEMU_ERROR_IMAGE, "'%s' is damaged: its %s is 0x%" G_GINT64_MODIFIER
                     "x", b->img->name, what, value);
}

/* The kernel's own pages, and what its notes say about addresses. */
static bool build_place_kernel(struct build *b, GError **err)
{
    const struct boot_notes *n = &b->img->notes;

    b->base = build_has_note(b, XEN_ELFNOTE_VIRT_BASE) ? n->virt_base : 0;
    if (b->base % PAGE != 0) {
        return build_damaged(b, "VIRT_BASE", b->base, err);
    }
    if (b->img->phys_start < n->paddr_offset) {
        return build_damaged(b, "PADDR_OFFSET", n->paddr_offset, err);
    }
    b->kernel_end = build_pages(b->img->phys_end - n->paddr_offset);
    return b->kernel_end < b->nr_pages || build_too_small(b, b->kernel_end, err);
}

/* Everything that is mapped at VIRT_BASE. */
static bool build_place_mapped(struct build *b, GError **err)
{
    uint64_t pfn = b->kernel_end;

    if (b->initrd_mapped) {
        b->initrd_pfn = pfn;
        pfn += build_pages(b->params->initrd_len);
    }
    if (b->p2m_mapped) {
        b->p2m_pfn = pfn;
        pfn += b->p2m_pages;
    }
    b->start_pfn = pfn++;
    b->store_pfn = pfn++;
    b->console_pfn = pfn++;
    b->l4_pfn = pfn++;
    b->main.start = b->base;
    b->main.end = b->base + (pfn + 1) * PAGE;
    for (;;) { /* tables take pages that have to be mapped by tables */
        uint64_t end;

        range_place(&b->main, pfn);
        b->stack_pfn = b->main.end_pfn;
        end = b->base + (b->stack_pfn + 1) * PAGE + BUILD_SLACK;
        end = (end + BUILD_ALIGN - 1) & ~(uint64_t)(BUILD_ALIGN - 1);
        if (b->main.end <= b->base || end <= b->base) {
            return build_too_large(b, err);
        }
        if (b->stack_pfn >= b->nr_pages) {
            return build_too_small(b, b->stack_pfn, err);
        }
        if (end <= b->main.end) {
            return true;
        }
        b->main.end = end;
    }
}

/* What lies behind. */
static bool build_place_rest(struct build *b, GError **err)
{
    uint64_t pfn = (b->main.end - b->base) / PAGE;

    if (!b->initrd_mapped && b->params->initrd_len > 0) {
        b->initrd_pfn = pfn;
        pfn += build_pages(b->params->initrd_len);
    }
    if (!b->p2m_mapped) {
        b->p2m_pfn = pfn;
        b->p2m.start = b->img->notes.init_p2m;
        b->p2m.end = b->p2m.start + b->p2m_pages * PAGE;
        range_place(&b->p2m, pfn + b->p2m_pages);
        pfn = b->p2m.end_pfn;
    }
    return pfn <= b->nr_pages || build_too_small(b, pfn, err);
}

static bool build_place(struct build *b, GError **err)
{
    const struct boot_notes *n = &b->img->notes;
    const uint64_t list = n->init_p2m;

    b->nr_pages = b->params->nr_pages;
    b->p2m_pages = build_pages(b->nr_pages * 8);
    b->initrd_mapped =
        b->params->initrd_len > 0 &&
        !(build_has_note(b, XEN_ELFNOTE_MOD_START_PFN) && n->mod_start_pfn);
    if (!build_place_kernel(b, err)) {
        return false;
    }
    b->p2m_mapped = !build_has_note(b, XEN_ELFNOTE_INIT_P2M);
    if (!b->p2m_mapped && (list % PAGE != 0 || list + b->p2m_pages * PAGE > b->base ||
                           list >> 39 == b->base >> 39 || list >= 1ull << 47)) {
        return build_damaged(b, "INIT_P2M", list, err);
    }
    return build_place_mapped(b, err) && build_place_rest(b, err);
}

/* --- Filling ---------------------------------------------------------------------------- */

static bool build_fill_kernel(struct build *b)
{
    bool ok = true;

    for (unsigned i = 0; ok && i < b->img->nr_segments; i++) {
        const struct boot_segment *seg = &b->img->segments[i];

        /* The rest of the segment is zero already: memory is fresh. */
        ok = build_write(b, seg->gpa - b->img->notes.paddr_offset, seg->bytes, seg->file_size);
    }
    return ok;
}

static bool build_fill_p2m(struct build *b)
{
    uint64_t list[PAGE / 8];
    bool ok = true;

    for (uint64_t pfn = 0; ok && pfn < b->nr_pages; pfn += G_N_ELEMENTS(list)) {
        uint64_t n = MIN(b->nr_pages - pfn, (uint64_t)G_N_ELEMENTS(list));

        for (uint64_t i = 0; i < n; i++) {
            list[i] = build_mfn(b, pfn + i);
        }
        ok = build_write(b, b->p2m_pfn * PAGE + pfn * 8, list, n * 8);
    }
    return ok;
}

/* Page tables must not be writable by the guest. */
static bool build_is_table(const struct build *b, uint64_t pfn)
{
    return (pfn >= b->l4_pfn && pfn < b->main.end_pfn) ||
           (!b->p2m_mapped && pfn >= b->p2m.l3_pfn && pfn < b->p2m.end_pfn);
}

/* Maps [r->start, r->end) to pages from first_pfn on, as far as there are any. */
static bool build_map(struct build *b, const struct build_range *r, uint64_t first_pfn)
{
    const uint64_t l3 = r->start >> 39, l2 = r->start >> 30, l1 = r->start >> 21;
    bool ok = true;

    for (uint64_t i = 0; ok && i < range_tables(r, 39); i++) {
        ok = build_write_entry(b, b->l4_pfn, l3 + i, r->l3_pfn + i, TABLE_FLAGS);
    }
    for (uint64_t i = 0; ok && i < range_tables(r, 30); i++) {
        ok = build_write_entry(b, r->l3_pfn + ((l2 + i) >> 9) - l3, l2 + i, r->l2_pfn + i,
                               TABLE_FLAGS);
    }
    for (uint64_t i = 0; ok && i < range_tables(r, 21); i++) {
        ok = build_write_entry(b, r->l2_pfn + ((l1 + i) >> 9) - l2, l1 + i, r->l1_pfn + i,
                               TABLE_FLAGS);
    }
    for (uint64_t va = r->start; ok && va < r->end; va += PAGE) {
        uint64_t pfn = first_pfn + (va - r->start) / PAGE;

        if (pfn >= b->nr_pages) {
            break;
        }
        ok = build_write_entry(b, r->l1_pfn + (va >> 21) - l1, va >> 12, pfn,
                               build_is_table(b, pfn) ? PAGE_FLAGS & ~PTE_RW : PAGE_FLAGS);
    }
    return ok;
}

static uint64_t build_gva(const struct build *b, uint64_t pfn)
{
    return b->base + pfn * PAGE;
}

static bool build_fill_start_info(struct build *b)
{
    const struct pv_params *p = b->params;
    struct start_info si = {
        .nr_pages = b->nr_pages,
        .shared_info = p->shared_info,
        .store_mfn = build_mfn(b, b->store_pfn),
        .store_evtchn = p->store_port,
        .pt_base = build_gva(b, b->l4_pfn),
        .nr_pt_frames = b->main.end_pfn - b->l4_pfn,
        .mfn_list = b->p2m_mapped ? build_gva(b, b->p2m_pfn) : b->p2m.start,
        .mod_len = p->initrd_len,
    };

    g_strlcpy(si.magic, "xen-3.0-x86_64", sizeof(si.magic));
    si.console.domU.mfn = build_mfn(b, b->console_pfn);
    si.console.domU.evtchn = p->console_port;
    if (p->initrd_len > 0) {
        si.mod_start = b->initrd_mapped ? build_gva(b, b->initrd_pfn) : b->initrd_pfn;
        si.flags |= b->initrd_mapped ? 0 : SIF_MOD_START_PFN;
    }
    if (p->cmdline != NULL) {
        g_strlcpy((char *)si.cmd_line, p->cmdline, sizeof(si.cmd_line));
    }
    si.first_p2m_pfn = b->p2m_pfn;
    si.nr_p2m_frames = b->p2m_mapped ? b->p2m_pages : b->p2m.end_pfn - b->p2m_pfn;
    return build_write(b, b->start_pfn * PAGE, &si, sizeof(si));
}

static bool build_fill(struct build *b)
{
    return build_fill_kernel(b) &&
           build_write(b, b->initrd_pfn * PAGE, b->params->initrd, b->params->initrd_len) &&
           build_fill_p2m(b) && build_map(b, &b->main, 0) &&
           (b->p2m_mapped || build_map(b, &b->p2m, b->p2m_pfn)) && build_fill_start_info(b);
}

/* --- Together --------------------------------------------------------------------------- */

static bool build_check(const struct build *b, GError **err)
{
    const size_t len = b->params->cmdline != NULL ? strlen(b->params->cmdline) : 0;

    if (!boot_image_check_pv(b->img, err)) {
        return false;
    }
    if (len > PV_CMDLINE_MAX) {
        return error_set(err, PVEMU_ERROR_USAGE,
                         "the kernel command line has %zu characters; a PV guest takes %d", len,
                         PV_CMDLINE_MAX);
    }
    return true;
}

/* A virtual address inside the kernel: which pseudo-physical one. */
static bool build_kernel_pa(const struct build *b, uint64_t gva, uint64_t *pa)
{
    *pa = gva - b->base;
    return gva >= b->base && *pa / PAGE < b->kernel_end;
}

static bool build_describe(const struct build *b, struct pv_layout *out, GError **err)
{
    const struct boot_notes *n = &b->img->notes;
    uint64_t pa;

    out->entry = build_has_note(b, XEN_ELFNOTE_ENTRY) ? n->entry : b->img->elf_entry;
    out->stack = build_gva(b, b->stack_pfn + 1);
    out->start_info = build_gva(b, b->start_pfn);
    out->root_mfn = build_mfn(b, b->l4_pfn);
    out->store_mfn = build_mfn(b, b->store_pfn);
    out->console_mfn = build_mfn(b, b->console_pfn);
    out->has_hypercall_page = build_has_note(b, XEN_ELFNOTE_HYPERCALL_PAGE);
    if (!build_kernel_pa(b, out->entry, &pa)) {
        return build_damaged(b, "PV entry", out->entry, err);
    }
    if (out->has_hypercall_page) {
        if (!build_kernel_pa(b, n->hypercall_page, &pa) || pa % PAGE != 0) {
            return build_damaged(b, "hypercall page", n->hypercall_page, err);
        }
        out->hypercall_page = build_mfn(b, pa / PAGE) << MEM_PAGE_SHIFT;
    }
    return true;
}

bool pv_build(const struct boot_image *img, struct mem *mem, const struct pv_params *params,
              struct pv_layout *out, GError **err)
{
    struct build b = {.img = img, .mem = mem, .params = params};

    memset(out, 0, sizeof(*out));
    if (!build_check(&b, err) || !build_place(&b, err) || !build_describe(&b, out, err)) {
        return false;
    }
    return build_fill(&b) || build_too_small(&b, b.nr_pages + 1, err);
}
