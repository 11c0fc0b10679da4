/* SPDX-License-Identifier: MIT */
/*
 * What a TLB may know. Random changes of page tables, invalidations and accesses: what an access
 * meets must be something that the tables have said since the last invalidation that covers it
 * (SDM vol. 3 4.10). And what has to be kept: entries of a PCID that is come back to.
 */
#include "cpu/interp/engine.h"
#include "guest.h"

enum {
    ROOMS = 3,   /* address spaces, each with tables of its own */
    PCIDS = 12,  /* more than the engine keeps */
    REGIONS = 3, /* of 2 MiB; the last has its page tables in common */
    PAGES = 3,   /* looked at in each region */
    NR = REGIONS * PAGES,
    T_TABLES = 0x400000,
    T_FRAMES = 0x800000,
    T_LARGE = 0xa00000,
    KNOWN = 64,
};
#define HIGH 0xffffff8000000000ull /* a kernel's half, which the regions are in */
#define PTE_NX   (1ull << 63)
#define T_PTE_AD (uint64_t)(G_A | G_D)

/* A set of values; when it is full anything goes. */
struct known {
    unsigned nr;
    bool all;
    uint64_t value[KNOWN];
};

struct model {
    struct guest *g;
    struct interp *e;
    GRand *rand;
    unsigned room, pcid;
    /* What may be cached: page directories (as a set of rooms); entries that lead to page tables;
     * and translations, of one PCID or global. */
    unsigned rooms[PCIDS];
    unsigned in_regions; /* pages that were seen there */
    struct known pde[PCIDS][REGIONS], local[PCIDS][NR], global[NR];
};

static void known_add(struct known *k, uint64_t value)
{
    for (unsigned i = 0; i < k->nr; i++) {
        if (k->value[i] == value) {
            return;
        }
    }
    if (k->nr < KNOWN) {
        k->value[k->nr++] = value;
    } else {
        k->all = true;
    }
}

static void known_clear(struct known *k)
{
    k->nr = 0;
    k->all = false;
}

/* ---- the tables ---- */

static uint64_t table_pd(unsigned room)
{
    return T_TABLES + room * 0x10000;
}

static uint64_t table_pml4(unsigned room)
{
    return table_pd(room) + 0x1000;
}

static uint64_t table_pt(unsigned room, unsigned region, unsigned which)
{
    return table_pd(region == REGIONS - 1 ? 0 : room) + 0x3000 + (region * 2 + which) * 0x1000;
}

static uint64_t page_va(unsigned i)
{
    return HIGH | (uint64_t)(i / PAGES) << 21 | (uint64_t)(i % PAGES + 1) << 12;
}

static uint64_t random_rights(struct model *m)
{
    uint64_t r = g_rand_int(m->rand);

    return (r & (G_RW | G_US)) | ((r & 0x700) == 0 ? 0 : G_P) | ((r & 0x3000) == 0 ? PTE_NX : 0);
}

static uint64_t random_pte(struct model *m, unsigned region)
{
    uint64_t r = g_rand_int(m->rand);

    return random_rights(m) | (T_FRAMES + ((r >> 8 & 7) << 12)) | (r & (G_A | G_D)) |
           (r % 4 < (region == REGIONS - 1 ? 3 : 1) ? G_G : 0);
}

static uint64_t random_pde(struct model *m, unsigned room, unsigned region)
{
    uint64_t r = g_rand_int(m->rand);

    if (r % 4 == 0) {
        return random_rights(m) | G_PS | (T_LARGE + ((r >> 8 & 1) << 21)) |
               (r & (G_A | G_D | G_G));
    }
    return (random_rights(m) & ~PTE_NX) | table_pt(room, region, r >> 8 & 1) | (r & G_A);
}

static void write_pde(struct model *m, unsigned room, unsigned region)
{
    guest_write64(m->g, table_pd(room) + region * 8, random_pde(m, room, region));
}

static void write_pte(struct model *m, unsigned room, unsigned i, unsigned which)
{
    guest_write64(m->g, table_pt(room, i / PAGES, which) + (i % PAGES + 1) * 8,
                  random_pte(m, i / PAGES));
}

/* ---- what may be cached ---- */

static void known_translation(struct model *m, unsigned i, uint64_t rights, uint64_t leaf)
{
    uint64_t all = rights & leaf;
    uint64_t value = (leaf & 0xffffff000ull) | (all & (G_RW | G_US)) |
                     ((rights | leaf) & PTE_NX) | (leaf & G_PS);

    if ((all & G_P) == 0) {
        return; /* never cached */
    }
    if ((leaf & G_G) != 0 && (m->g->cpu->cr4 & CPU_CR4_PGE) != 0) {
        known_add(&m->global[i], value);
    } else {
        known_add(&m->local[m->pcid][i], value);
    }
}

static void known_region(struct model *m, unsigned room, unsigned region)
{
    struct known *k = &m->pde[m->pcid][region];
    uint64_t pde = guest_read64(m->g, table_pd(room) + region * 8) & ~T_PTE_AD;

    if ((pde & (G_P | G_PS)) == G_P) {
        known_add(k, pde);
    }
    for (unsigned page = 0; page < PAGES; page++) {
        unsigned i = region * PAGES + page;

        if ((pde & G_PS) != 0) {
            known_translation(m, i, pde, pde);
        }
        for (unsigned j = 0; j < k->nr; j++) {
            uint64_t pte = guest_read64(m->g, (k->value[j] & 0xfffff000) + (page + 1) * 8);

            known_translation(m, i, k->value[j], pte & ~T_PTE_AD);
        }
        m->local[m->pcid][i].all |= k->all;
        m->global[i].all |= k->all;
    }
}

/* The tables are as they are, and might be walked now. */
static void known_now(struct model *m)
{
    m->rooms[m->pcid] |= 1u << m->room;
    for (unsigned room = 0; room < ROOMS; room++) {
        for (unsigned region = 0; region < REGIONS; region++) {
            if ((m->rooms[m->pcid] >> room & 1) != 0) {
                known_region(m, room, region);
            }
        }
    }
}

static bool translation_allows(const struct model *m, uint64_t t, unsigned access)
{
    const struct cpu_x86 *cpu = m->g->cpu;
    bool write = (access & X86_WRITE) != 0;

    if ((access & X86_EXEC) != 0 && (t & PTE_NX) != 0) {
        return false;
    }
    if (cpu->cpl == 3) {
        return (t & G_US) != 0 && (!write || (t & G_RW) != 0);
    }
    if (write && (t & G_RW) == 0 && (cpu->cr0 & CPU_CR0_WP) != 0) {
        return false;
    }
    return (access & X86_EXEC) == 0 || (t & G_US) == 0 || (cpu->cr4 & CPU_CR4_SMEP) == 0;
}

static uint64_t translation_frame(uint64_t t, uint64_t va)
{
    return (t & G_PS) != 0 ? (t & 0xffe00000) | (va & 0x1ff000) : t & 0xfffff000;
}

/* May an access that leads to `frame` (0: faults) be explained by this set? */
static bool known_explains(const struct model *m, const struct known *k, uint64_t va,
                           unsigned access, uint64_t frame)
{
    for (unsigned i = 0; i < k->nr; i++) {
        bool good = translation_allows(m, k->value[i], access);

        if (frame == 0 ? !good : good && translation_frame(k->value[i], va) == frame) {
            return true;
        }
    }
    return k->all;
}

/* Not present: known_translation() keeps no count of it, because only the tables of now can say
 * so, through any page table that is still remembered. */
static bool known_absent(struct model *m, unsigned i)
{
    const struct known *k = &m->pde[m->pcid][i / PAGES];

    for (unsigned room = 0; room < ROOMS; room++) {
        if ((m->rooms[m->pcid] >> room & 1) != 0 &&
            (guest_read64(m->g, table_pd(room) + i / PAGES * 8) & G_P) == 0) {
            return true;
        }
    }
    for (unsigned j = 0; j < k->nr; j++) {
        if ((guest_read64(m->g, (k->value[j] & 0xfffff000) + (i % PAGES + 1) * 8) & G_P) == 0) {
            return true;
        }
    }
    return false;
}

/* What loads of a kernel may meet without a look: it is as global as a translation can be. */
static void model_regions(struct model *m)
{
    m->g->cpu->cpl = 0;
    for (unsigned i = 0; i < NR * INTERP_REGIONS; i++) {
        const struct interp_region *r = &m->e->region[i / NR];
        uint64_t va = page_va(i % NR);

        if (va - r->start < r->limit) {
            m->in_regions++;
            g_assert_true(known_explains(m, &m->global[i % NR], va, X86_READ,
                                         va + r->addend - (uint64_t)(uintptr_t)m->g->ram));
        }
    }
}

static void model_access(struct model *m)
{
    static const unsigned kinds[] = {X86_READ, X86_WRITE, X86_EXEC};
    unsigned i = g_rand_int_range(m->rand, 0, NR), access = kinds[g_rand_int(m->rand) % 3];
    uint64_t va = page_va(i), gpa, frame = 0;
    uint8_t *hva;

    m->g->cpu->cpl = g_rand_int(m->rand) % 2 == 0 ? 3 : 0;
    interp_mode_changed(m->e);
    if (interp_resolve(m->e, va, access, &hva, &gpa)) {
        g_assert_nonnull(hva);
        frame = (uint64_t)(hva - m->g->ram);
    }
    if (frame == 0 && known_absent(m, i)) {
        return;
    }
    if (!known_explains(m, &m->local[m->pcid][i], va, access, frame) &&
        !known_explains(m, &m->global[i], va, access, frame)) {
        g_error("page %u in PCID %u, access %u: frame %#" G_GINT64_MODIFIER "x", i, m->pcid,
                access, frame);
    }
}

/* ---- invalidations, by instructions ---- */

static void model_insn(struct model *m, const uint8_t *code, size_t len)
{
    struct x86_fault fault;
    struct insn in;

    m->g->cpu->cpl = 0;
    g_assert_cmpint(insn_decode(&in, INSN_MODE_64, code, len), ==, INSN_OK);
    g_assert_true(x86_system_insn(m->g->v, &in, &fault));
}

/* MOV to a control register, from RAX. */
static void model_mov_cr(struct model *m, unsigned cr, uint64_t value)
{
    const uint8_t code[] = {0x0f, 0x22, (uint8_t)(0xc0 | cr << 3)};

    m->g->cpu->gpr[CPU_RAX] = value;
    model_insn(m, code, sizeof(code));
}

static void forget_page(struct known *page, unsigned i)
{
    unsigned first = i - i % PAGES;

    known_clear(&page[i]);
    for (unsigned other = first; other < first + PAGES; other++) {
        struct known *k = &page[other];

        for (unsigned j = k->nr; j-- > 0;) {
            if ((k->value[j] & G_PS) != 0) { /* one translation for all of the region */
                k->value[j] = k->value[--k->nr];
            }
        }
    }
}

static void forget_pcid(struct model *m, unsigned pcid)
{
    m->rooms[pcid] = 0;
    for (unsigned i = 0; i < REGIONS; i++) {
        known_clear(&m->pde[pcid][i]);
    }
    for (unsigned i = 0; i < NR; i++) {
        known_clear(&m->local[pcid][i]);
    }
}

static void forget_all(struct model *m, bool global)
{
    for (unsigned i = 0; i < PCIDS; i++) {
        forget_pcid(m, i);
    }
    for (unsigned i = 0; global && i < NR; i++) {
        known_clear(&m->global[i]);
    }
}

static void model_switch(struct model *m)
{
    bool keep = g_rand_int(m->rand) % 4 != 0;

    m->room = g_rand_int_range(m->rand, 0, ROOMS);
    m->pcid = g_rand_int_range(m->rand, 0, PCIDS);
    if ((m->g->cpu->cr4 & CPU_CR4_PCIDE) == 0) {
        m->pcid = 0;
        keep = false;
    }
    model_mov_cr(m, 3, table_pml4(m->room) | m->pcid | (keep ? 1ull << 63 : 0));
    if (!keep) {
        forget_pcid(m, m->pcid);
    }
}

static void model_invlpg(struct model *m)
{
    unsigned i = g_rand_int_range(m->rand, 0, NR);

    m->g->cpu->gpr[CPU_RBX] = page_va(i) + 5;
    model_insn(m, (const uint8_t[]){0x0f, 0x01, 0x3b}, 3);
    forget_page(m->local[m->pcid], i);
    forget_page(m->global, i);
    m->rooms[m->pcid] = 0;
    for (unsigned k = 0; k < REGIONS; k++) {
        known_clear(&m->pde[m->pcid][k]);
    }
}

static void model_invpcid(struct model *m)
{
    unsigned i = g_rand_int_range(m->rand, 0, NR), type = g_rand_int_range(m->rand, 0, 4);
    unsigned pcid = g_rand_int_range(m->rand, 0, PCIDS);

    if ((m->g->cpu->cr4 & CPU_CR4_PCIDE) == 0) {
        pcid = 0;
    }
    m->g->cpu->gpr[CPU_RAX] = type;
    m->g->cpu->gpr[CPU_RBX] = 0x600000; /* mapped by its frame everywhere */
    guest_write64(m->g, 0x600000, pcid);
    guest_write64(m->g, 0x600008, page_va(i) + 7);
    model_insn(m, (const uint8_t[]){0x66, 0x0f, 0x38, 0x82, 0x03}, 5);
    if (type == 0) {
        forget_page(m->local[pcid], i);
        known_clear(&m->pde[pcid][i / PAGES]);
        m->rooms[pcid] = 0;
    } else if (type == 1) {
        forget_pcid(m, pcid);
    } else {
        forget_all(m, type == 2);
    }
}

static void model_control(struct model *m)
{
    struct cpu_x86 *cpu = m->g->cpu;

    switch (g_rand_int(m->rand) % 4) {
    case 0:
        model_mov_cr(m, 0, cpu->cr0 ^ CPU_CR0_WP);
        return; /* rights are looked at anew: nothing must go */
    case 1:
        model_mov_cr(m, 4, cpu->cr4 ^ CPU_CR4_SMEP);
        return;
    case 2:
        model_mov_cr(m, 4, cpu->cr4 ^ CPU_CR4_PGE);
        break;
    default:
        if ((cpu->cr4 & CPU_CR4_PCIDE) == 0 && m->pcid != 0) {
            return;
        }
        model_mov_cr(m, 3, table_pml4(m->room)); /* PCID 0, or the switch faults */
        m->pcid = 0;
        forget_pcid(m, 0);
        if ((cpu->cr4 & CPU_CR4_PCIDE) == 0) {
            model_mov_cr(m, 4, cpu->cr4 | CPU_CR4_PCIDE);
            return; /* nothing has to go */
        }
        model_mov_cr(m, 4, cpu->cr4 & ~(uint64_t)CPU_CR4_PCIDE);
        break;
    }
    forget_all(m, true);
}

static void model_step(struct model *m)
{
    unsigned r = g_rand_int_range(m->rand, 0, 100);

    if (r < 60) {
        model_access(m);
        return;
    } else if (r < 76) {
        write_pte(m, g_rand_int_range(m->rand, 0, ROOMS), g_rand_int_range(m->rand, 0, NR),
                  g_rand_int_range(m->rand, 0, 2));
    } else if (r < 80) {
        write_pde(m, g_rand_int_range(m->rand, 0, ROOMS),
                  g_rand_int_range(m->rand, 0, REGIONS));
    } else if (r < 90) {
        model_switch(m);
    } else if (r < 95) {
        model_invlpg(m);
    } else if (r < 98) {
        model_invpcid(m);
    } else if (r < 99) {
        model_control(m);
    }
    known_now(m);
}

static void model_start(struct model *m, unsigned seed)
{
    m->g = guest_new();
    m->e = m->g->v->engine;
    m->rand = g_rand_new_with_seed(seed);
    for (unsigned room = 0; room < ROOMS; room++) {
        guest_write64(m->g, table_pml4(room) + 511 * 8,
                      (table_pml4(room) + 0x1000) | G_P | G_RW | G_US);
        guest_write64(m->g, table_pml4(room), (table_pml4(room) + 0x1000) | G_P | G_RW | G_US);
        guest_write64(m->g, table_pml4(room) + 0x1000, table_pd(room) | G_P | G_RW | G_US);
        guest_write64(m->g, table_pd(room) + 3 * 8, 0x600000 | G_P | G_PS | G_RW | G_A | G_D);
        for (unsigned i = 0; i < NR; i++) {
            write_pte(m, room, i, 0);
            write_pte(m, room, i, 1);
            write_pde(m, room, i / PAGES);
        }
    }
    model_mov_cr(m, 3, table_pml4(0));
    model_mov_cr(m, 4, m->g->cpu->cr4 | CPU_CR4_PCIDE);
    known_now(m);
}

static void test_random(void)
{
    unsigned in_regions = 0;

    for (unsigned seed = 1; seed <= 20; seed++) {
        struct model *m = g_new0(struct model, 1);

        model_start(m, seed);
        for (unsigned i = 0; i < 8000; i++) {
            model_step(m);
            model_regions(m);
        }
        in_regions += m->in_regions;
        g_rand_free(m->rand);
        guest_free(m->g);
        g_free(m);
    }
    g_assert_cmpuint(in_regions, >, 10000);
}

/* ---- what is kept ---- */

static void put_page(struct model *m, uint64_t pte)
{
    guest_write64(m->g, table_pd(0), table_pt(0, 0, 0) | G_P | G_RW | G_US | G_A);
    guest_write64(m->g, table_pt(0, 0, 0) + 8, pte | G_P | G_RW | G_US | G_A | G_D);
}

static uint64_t frame_of(struct model *m, unsigned access)
{
    uint64_t gpa;
    uint8_t *hva;

    interp_mode_changed(m->e);
    g_assert_true(interp_resolve(m->e, page_va(0), access, &hva, &gpa));
    return (uint64_t)(hva - m->g->ram);
}

static bool has_write_tag(struct model *m)
{
    return m->e->tlb->entry[interp_tlb_slot(page_va(0))].write == page_va(0);
}

static void test_kept(void)
{
    struct model *m = g_new0(struct model, 1);
    uint64_t cr3 = table_pml4(0);

    model_start(m, 1);
    put_page(m, T_FRAMES);
    model_mov_cr(m, 3, cr3 | 1);
    g_assert_cmphex(frame_of(m, X86_READ), ==, T_FRAMES);
    g_assert_true(has_write_tag(m));
    put_page(m, T_FRAMES + 0x1000);
    model_mov_cr(m, 3, cr3 | 2 | 1ull << 63);
    g_assert_false(has_write_tag(m));
    g_assert_cmphex(frame_of(m, X86_READ), ==, T_FRAMES + 0x1000); /* by itself */
    model_mov_cr(m, 3, cr3 | 1 | 1ull << 63);
    g_assert_cmphex(frame_of(m, X86_READ), ==, T_FRAMES); /* as it was */
    g_assert_true(has_write_tag(m));
    model_mov_cr(m, 3, cr3 | 2 | 1ull << 63);
    model_mov_cr(m, 3, cr3 | 1);
    g_assert_cmphex(frame_of(m, X86_READ), ==, T_FRAMES + 0x1000);
    g_rand_free(m->rand);
    guest_free(m->g);
    g_free(m);
}

/* A page that becomes code while its entry is put away must not come back writable. */
static void test_kept_becomes_code(void)
{
    struct model *m = g_new0(struct model, 1);
    uint64_t cr3 = table_pml4(0);
    struct mem_frame_info *info;

    model_start(m, 1);
    put_page(m, T_FRAMES);
    info = mem_frame_info(m->g->v->mem, T_FRAMES >> 12);
    model_mov_cr(m, 3, cr3 | 1);
    frame_of(m, X86_READ);
    g_assert_true(has_write_tag(m));
    model_mov_cr(m, 3, cr3 | 2 | 1ull << 63);
    atomic_fetch_or(&info->flags, MEM_CODE);
    interp_tlb_protect(m->e, T_FRAMES >> 12);
    model_mov_cr(m, 3, cr3 | 1 | 1ull << 63);
    g_assert_false(has_write_tag(m));
    g_assert_cmphex(m->e->tlb->entry[interp_tlb_slot(page_va(0))].read, ==, page_va(0));
    g_rand_free(m->rand);
    guest_free(m->g);
    g_free(m);
}

int main(int argc, char **argv)
{
    g_test_init(&argc, &argv, NULL);
    g_test_add_func("/interp/tlb/random", test_random);
    g_test_add_func("/interp/tlb/kept", test_kept);
    g_test_add_func("/interp/tlb/kept-becomes-code", test_kept_becomes_code);
    return g_test_run();
}
