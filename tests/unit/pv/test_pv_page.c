/* SPDX-License-Identifier: MIT */
/*
 * Types of frames: counts always are what the tables say, whatever a guest asks for; and when
 * something writes to its tables behind our back, they are at least never below nothing.
 */
#include <errno.h>
#include <glib.h>
#include <string.h>

#include "pv/pv_guest.h"
#include "pv/time.h"
#include "xen_guest.h"

enum { FIRST = 64, FRAMES = 24, RAM_FRAMES = XG_RAM / MEM_PAGE_SIZE };

static uint64_t *table(struct xen_guest *g, uint32_t frame)
{
    return mem_frame_hva(g->d->mem, frame);
}

static uint64_t pte(uint32_t frame, uint64_t flags)
{
    return (uint64_t)frame << MEM_PAGE_SHIFT | flags;
}

/* Tables of one page: frame `page` at gva, through the frames from `first` on, an L4 table. */
static void map_page(struct xen_guest *g, uint32_t first, uint64_t gva, uint32_t page,
                     uint64_t flags)
{
    const uint64_t all = PV_PTE_P | PV_PTE_RW | PV_PTE_U;

    for (unsigned i = 0; i < 3; i++) {
        table(g, first + i)[gva >> (39 - 9 * i) & 511] = pte(first + i + 1, all);
    }
    table(g, first + 3)[gva >> 12 & 511] = pte(page, flags);
}

/* --- what the counts should be ----------------------------------------------------------- */

static void recount_entry(struct xen_guest *g, uint32_t *want, uint32_t frame, unsigned level,
                          uint64_t entry)
{
    uint32_t child = (uint32_t)((entry & PV_PTE_ADDR) >> MEM_PAGE_SHIFT);
    bool self = level == 4 && child == frame && (entry & PV_PTE_RW) == 0;

    if ((entry & PV_PTE_P) == 0 || self || (level == 1 && (entry & PV_PTE_RW) == 0)) {
        return;
    }
    if (pv_page_own(g->d, child) != MEM_HOLE) { /* a grant frame is not counted */
        want[child]++;
    }
}

/* Each entry of a live table holds a reference; pins and the counts in `held` are ours. */
static void check_counts(struct xen_guest *g, const uint32_t *held)
{
    g_autofree uint32_t *want = g_new0(uint32_t, RAM_FRAMES);

    for (uint32_t f = 0; f < RAM_FRAMES; f++) {
        const struct pv_page *p = &g->d->guest->pages[f];

        want[f] += p->pinned + held[f];
        for (unsigned i = 0; pv_page_is_table(g->d, f) && i < PV_TABLE_ENTRIES; i++) {
            if (p->type != PV_PAGE_L4 || i < PV_L4_HV_FIRST || i > PV_L4_HV_LAST) {
                recount_entry(g, want, f, p->type, table(g, f)[i]);
            }
        }
    }
    for (uint32_t f = 0; f < RAM_FRAMES; f++) {
        if (g->d->guest->pages[f].count != want[f]) {
            g_error("frame %u of type %u has count %u, not %u", f, g->d->guest->pages[f].type,
                    g->d->guest->pages[f].count, want[f]);
        }
    }
}

/* --- single rules ------------------------------------------------------------------------ */

static void test_types(void)
{
    struct xen_guest *g = xen_guest_new(PV_KIND_PV, 1);
    struct pv_domain *d = g->d;
    uint32_t none[RAM_FRAMES] = {0};

    table(g, 10)[0] = pte(20, PV_PTE_P | PV_PTE_RW);
    table(g, 10)[1] = pte(20, PV_PTE_P | PV_PTE_U);
    g_assert_cmpint(pv_page_pin(d, 10, PV_PAGE_L1), ==, 0);
    g_assert_cmphex(table(g, 10)[0], ==,
                    pte(20, PV_PTE_P | PV_PTE_RW | PV_PTE_U) | PV_PTE_KERNEL);
    g_assert_cmphex(table(g, 10)[1], ==, pte(20, PV_PTE_P | PV_PTE_U | PV_PTE_G));
    g_assert_cmpint(d->guest->pages[20].type, ==, PV_PAGE_WRITABLE);
    g_assert_cmpint(pv_page_pin(d, 10, PV_PAGE_L1), ==, -EINVAL);
    g_assert_cmpint(pv_page_pin(d, 20, PV_PAGE_L1), ==, -EINVAL); /* mapped writable */
    check_counts(g, none);
    g_assert_cmpint(pv_page_unpin(d, 10), ==, 0);
    g_assert_cmpint(pv_page_unpin(d, 10), ==, -EINVAL);
    g_assert_cmpuint(d->guest->pages[20].count, ==, 0);
    g_assert_cmpint(pv_page_pin(d, 20, PV_PAGE_L1), ==, 0);
    g_assert_true(d->guest->flush); /* it was writable */
    xen_guest_free(g);
}

/* A table that cannot be validated leaves no trace. */
static void test_failure_undone(void)
{
    struct xen_guest *g = xen_guest_new(PV_KIND_PV, 1);
    uint32_t none[RAM_FRAMES] = {0};

    table(g, 10)[0] = pte(20, PV_PTE_P | PV_PTE_RW);
    table(g, 10)[511] = pte(1u << 20, PV_PTE_P); /* nobody's */
    table(g, 11)[7] = pte(10, PV_PTE_P);
    g_assert_cmpint(pv_page_pin(g->d, 10, PV_PAGE_L1), ==, -EPERM);
    g_assert_cmpint(pv_page_pin(g->d, 11, PV_PAGE_L2), ==, -EPERM);
    g_assert_cmpuint(g->d->guest->pages[20].count, ==, 0);
    g_assert_cmpint(g->d->guest->pages[10].type, ==, PV_PAGE_NONE);
    check_counts(g, none);
    xen_guest_free(g);
}

static void test_expect(void)
{
    struct xen_guest *g = xen_guest_new(PV_KIND_PV, 1);
    uint64_t expect = 1 << 12;
    const uint64_t a = pte(20, PV_PTE_P | PV_PTE_A), d = pte(20, PV_PTE_P | PV_PTE_D);

    g_assert_cmpint(pv_page_pin(g->d, 10, PV_PAGE_L1), ==, 0);
    g_assert_cmpint(pv_page_update(g->d, 10, 3, 0x5000, false, &expect), ==, -EAGAIN);
    g_assert_cmphex(expect, ==, 0);
    g_assert_cmpint(pv_page_update(g->d, 10, 3, 0x5000, false, &expect), ==, 0);
    g_assert_cmphex(table(g, 10)[3], ==, 0x5000);
    g_assert_cmpint(pv_page_update(g->d, 10, 3, a, false, NULL), ==, 0);
    g_assert_cmpint(pv_page_update(g->d, 10, 3, d, true, NULL), ==, 0);
    g_assert_cmphex(table(g, 10)[3] & (PV_PTE_A | PV_PTE_D), ==, PV_PTE_A);
    xen_guest_free(g);
}

static void test_hypervisor_frames(void)
{
    struct xen_guest *g = xen_guest_new(PV_KIND_PV, 1);
    const uint64_t shared = pv_extra_mfn(g->d, PV_FRAME_SHARED_INFO);
    const uint64_t root = g->d->guest->m2p_root;

    g_assert_cmpint(pv_page_pin(g->d, 10, PV_PAGE_L1), ==, 0);
    g_assert_cmpint(pv_page_update(g->d, 10, 0, shared << 12 | 3, false, NULL), ==, 0);
    g_assert_cmpint(pv_page_update(g->d, 10, 1,
                                   pv_extra_mfn(g->d, PV_FRAME_GRANT0) << 12 | 3, false, NULL),
                    ==, 0);
    g_assert_cmpint(pv_page_update(g->d, 10, 2, root << 12 | 1, false, NULL), ==, -EPERM);
    g_assert_cmpuint(pv_page_own(g->d, shared), ==, MEM_HOLE);
    g_assert_cmphex(pv_m2p_get(g->d, shared), ==, UINT64_MAX);
    g_assert_cmphex(pv_m2p_get(g->d, 77), ==, 77);
    pv_m2p_set(g->d, 77, 5);
    g_assert_cmphex(pv_m2p_get(g->d, 77), ==, 5);
    pv_m2p_set(g->d, UINT64_MAX, 5); /* beyond the table: nothing */
    g_mutex_lock(&g->fb->board.lock);
    pv_domain_reset(g->d);
    g_mutex_unlock(&g->fb->board.lock);
    g_assert_cmphex(pv_m2p_get(g->d, 77), ==, 77);
    g_assert_cmpuint(g->d->guest->pages[10].count, ==, 0);
    g_assert_false(g->d->guest->pages[10].pinned);
    xen_guest_free(g);
}

/* --- what pvemu writes to ---------------------------------------------------------------- */

enum { INFO = 40, CONTROL = 41, ARRAY = 42 };

static void register_all(struct xen_guest *g)
{
    struct vcpu_register_vcpu_info info = {.mfn = INFO};
    struct evtchn_init_control control = {.control_gfn = CONTROL};
    struct evtchn_expand_array array = {.array_gfn = ARRAY};

    g_assert_cmpint(xg_vcpu_op(g, 0, VCPUOP_register_vcpu_info, 0, &info, sizeof(info)), ==, 0);
    g_assert_cmpint(XG_OP(g, __HYPERVISOR_event_channel_op, EVTCHNOP_init_control, &control),
                    ==, 0);
    g_assert_cmpint(XG_OP(g, __HYPERVISOR_event_channel_op, EVTCHNOP_expand_array, &array), ==,
                    0);
}

static void check_registered(struct xen_guest *g, unsigned count)
{
    for (uint32_t f = INFO; f <= ARRAY; f++) {
        g_assert_cmpuint(g->d->guest->pages[f].count, ==, count);
        memset(table(g, f), 0, MEM_PAGE_SIZE); /* fit for any type */
        g_assert_cmpint(pv_page_pin(g->d, f, PV_PAGE_L1), ==, count > 0 ? -EINVAL : 0);
    }
}

/* Held once, whatever is made anew; and free after a reset. */
static void test_registered(void)
{
    struct xen_guest *g = xen_guest_new(PV_KIND_PV, 1);
    g_autoptr(GError) err = NULL;

    register_all(g);
    check_registered(g, 1);
    g_assert_true(pv_guest_rebuild(g->d, NULL));
    check_registered(g, 1);
    g->d->vcpu[0].vcpu_info_frame = CONTROL; /* a second reference */
    g_assert_true(pv_guest_rebuild(g->d, NULL));
    g_assert_cmpuint(g->d->guest->pages[CONTROL].count, ==, 2);
    g_assert_cmpint(pv_page_pin(g->d, 50, PV_PAGE_L1), ==, 0);
    g->d->vcpu[0].vcpu_info_frame = 50;
    g_assert_false(pv_guest_rebuild(g->d, &err));
    g_assert_nonnull(strstr(err->message, "a page that it registered"));
    g_assert_cmpuint(g->d->guest->pages[CONTROL].count, ==, 2); /* as it was */
    g_mutex_lock(&g->fb->board.lock);
    pv_domain_reset(g->d);
    g_mutex_unlock(&g->fb->board.lock);
    check_registered(g, 0);
    xen_guest_free(g);
}

static void test_registered_reset(void)
{
    struct xen_guest *g = xen_guest_new(PV_KIND_PV, 1);
    struct evtchn_reset reset = {.dom = DOMID_SELF};

    register_all(g);
    /* A rebuild that fails at one of them leaves them held. */
    g->d->guest->pages[ARRAY].type = PV_PAGE_L1;
    g->d->guest->pages[ARRAY].pinned = true;
    memset(table(g, ARRAY), 0, MEM_PAGE_SIZE);
    g_assert_false(pv_guest_rebuild(g->d, NULL));
    g->d->guest->pages[ARRAY].type = PV_PAGE_WRITABLE;
    g->d->guest->pages[ARRAY].pinned = false;
    g_assert_cmpint(XG_OP(g, __HYPERVISOR_event_channel_op, EVTCHNOP_reset, &reset), ==, 0);
    g_assert_cmpuint(g->d->guest->pages[INFO].count, ==, 1); /* not an event's */
    g_assert_cmpuint(g->d->guest->pages[CONTROL].count, ==, 0);
    g_assert_cmpuint(g->d->guest->pages[ARRAY].count, ==, 0);
    xen_guest_free(g);
}

/* Saved, and loaded by another: held there; a stream that says otherwise is refused. */
static void test_registered_state(void)
{
    struct xen_guest *a = xen_guest_new(PV_KIND_PV, 1), *b = xen_guest_new(PV_KIND_PV, 1);
    struct state *save = state_new_save(), *load;
    const void *data;
    size_t len;

    register_all(a);
    pv_domain_state(a->d, save);
    data = state_data(save, &len);
    load = state_new_load(data, len);
    pv_domain_state(b->d, load);
    g_assert_cmpstr(state_error(load), ==, NULL);
    state_free(load);
    check_registered(b, 1);
    state_free(save);
    a->d->vcpu[0].vcpu_info_frame = mem_extra_frame(a->d->mem, PV_EXTRA_FRAMES); /* the M2P's */
    save = state_new_save();
    pv_domain_state(a->d, save);
    data = state_data(save, &len);
    load = state_new_load(data, len);
    pv_domain_state(b->d, load);
    g_assert_nonnull(state_error(load));
    state_free(load);
    state_free(save);
    a->d->vcpu[0].vcpu_info_frame = MEM_HOLE;
    xen_guest_free(a);
    xen_guest_free(b);
}

/* --- anything at all --------------------------------------------------------------------- */

/* Frames have a level that they are mostly used at, so that whole trees come about. */
static unsigned home_level(uint32_t frame)
{
    static const uint8_t levels[FRAMES] = {1, 1, 1, 1, 1, 1, 2, 2, 2, 2, 3, 3,
                                           3, 4, 4, 0, 0, 0, 0, 0, 0, 0, 0, 0};

    return levels[frame - FIRST];
}

static uint32_t random_frame(GRand *r)
{
    return FIRST + (uint32_t)g_rand_int_range(r, 0, FRAMES);
}

static uint64_t random_entry(GRand *r, unsigned level)
{
    uint32_t child = random_frame(r);
    uint64_t entry;

    for (unsigned i = 0; i < 100 && home_level(child) + 1 != level; i++) {
        child = random_frame(r);
    }
    entry = pte(g_rand_int_range(r, 0, 20) == 0 ? random_frame(r) : child, 0);
    entry |= g_rand_int(r) & (PV_PTE_P | PV_PTE_RW | PV_PTE_U | PV_PTE_A | PV_PTE_D);
    if (g_rand_int_range(r, 0, 50) == 0) {
        entry ^= 1ull << g_rand_int_range(r, 0, 64);
    }
    return entry;
}

static void random_write(struct xen_guest *g, GRand *r, uint32_t frame)
{
    unsigned index = (unsigned)g_rand_int_range(r, 0, 4) * 100;

    if (pv_page_is_table(g->d, frame)) {
        pv_page_update(g->d, frame, index, random_entry(r, home_level(frame)),
                       g_rand_boolean(r), NULL);
    } else if (g->d->guest->pages[frame].count == 0) {
        table(g, frame)[index] = random_entry(r, home_level(frame)); /* its own memory */
    }
}

static void random_step(struct xen_guest *g, GRand *r, uint32_t *held)
{
    uint32_t frame = random_frame(r);
    enum pv_page_type type =
        g_rand_int_range(r, 0, 8) != 0 && home_level(frame) != 0
            ? (enum pv_page_type)home_level(frame)
            : (enum pv_page_type)g_rand_int_range(r, PV_PAGE_L1, PV_PAGE_WRITABLE + 1);

    switch (g_rand_int_range(r, 0, 8)) {
    case 0:
        pv_page_pin(g->d, frame, type == PV_PAGE_WRITABLE ? PV_PAGE_L1 : type);
        break;
    case 1:
        pv_page_unpin(g->d, frame);
        break;
    case 2:
        if (held[frame] < 3 && pv_page_get(g->d, frame, type) == 0) {
            held[frame]++;
        }
        break;
    case 3:
    case 4:
        if (held[frame] > 0) {
            held[frame]--;
            pv_page_put(g->d, frame);
        }
        break;
    default:
        random_write(g, r, frame);
        break;
    }
}

/* Notes which levels have live tables with an entry that leads on. */
static void note_levels(struct xen_guest *g, bool *seen)
{
    for (uint32_t f = FIRST; f < FIRST + FRAMES; f++) {
        for (unsigned i = 0; pv_page_is_table(g->d, f) && i < 4; i++) {
            seen[g->d->guest->pages[f].type] |= (table(g, f)[i * 100] & PV_PTE_P) != 0;
        }
    }
}

static void test_storm(void)
{
    bool seen[8] = {false};

    for (uint32_t seed = 1; seed <= 8; seed++) {
        struct xen_guest *g = xen_guest_new(PV_KIND_PV, 1);
        GRand *r = g_rand_new_with_seed(seed);
        uint32_t held[RAM_FRAMES] = {0};

        for (unsigned i = 0; i < 20000; i++) {
            random_step(g, r, held);
            if (i % 500 == 0) {
                check_counts(g, held);
                note_levels(g, seen);
            }
        }
        check_counts(g, held);
        g_rand_free(r);
        xen_guest_free(g);
    }
    g_assert_true(seen[PV_PAGE_L1] && seen[PV_PAGE_L2] && seen[PV_PAGE_L3] && seen[PV_PAGE_L4]);
}

/* Types and counts follow from what is pinned: loaded, they are what they were. */
static void test_rebuild(void)
{
    for (uint32_t seed = 1; seed <= 40; seed++) {
        struct xen_guest *g = xen_guest_new(PV_KIND_PV, 1);
        GRand *r = g_rand_new_with_seed(seed);
        uint32_t held[RAM_FRAMES] = {0};
        g_autofree struct pv_page *before = NULL;
        g_autoptr(GError) err = NULL;

        for (unsigned i = 0; i < 3000; i++) {
            random_step(g, r, held);
        }
        for (uint32_t f = 0; f < RAM_FRAMES; f++) {
            if (g->d->guest->pages[f].pinned && g->d->guest->pages[f].type == PV_PAGE_SEGDESC) {
                pv_page_unpin(g->d, f); /* no guest can pin that */
            }
            for (; held[f] > 0; held[f]--) {
                pv_page_put(g->d, f);
            }
        }
        before = g_memdup2(g->d->guest->pages, g->d->guest->nr_frames * sizeof(before[0]));
        g_assert_true(pv_guest_rebuild(g->d, &err));
        check_counts(g, held);
        for (uint32_t f = 0; f < g->d->guest->nr_frames; f++) {
            const struct pv_page *now = &g->d->guest->pages[f];

            g_assert_cmpuint(now->count, ==, before[f].count);
            g_assert_cmpint(now->pinned, ==, before[f].pinned);
            g_assert_true(now->count == 0 || now->type == before[f].type);
        }
        g_rand_free(r);
        xen_guest_free(g);
    }
}

/* What a device wrote into a table shows then; the guest keeps what it had. */
static void test_rebuild_fails(void)
{
    struct xen_guest *g = xen_guest_new(PV_KIND_PV, 1);
    uint32_t none[RAM_FRAMES] = {0};
    g_autoptr(GError) err = NULL;

    g->d->guest->cpu[0].kernel_sp = 0x1234;
    table(g, 10)[0] = pte(20, PV_PTE_P | PV_PTE_RW);
    g_assert_cmpint(pv_page_pin(g->d, 10, PV_PAGE_L1), ==, 0);
    table(g, 10)[1] = pte(10, PV_PTE_P | PV_PTE_RW); /* itself, writable */
    g_assert_false(pv_guest_rebuild(g->d, &err));
    g_assert_cmpstr(err->message, ==, "PV guest: a pinned table is not valid");
    g_assert_cmpuint(g->d->guest->pages[20].count, ==, 1);
    g_assert_cmphex(g->d->guest->cpu[0].kernel_sp, ==, 0x1234);
    table(g, 10)[1] = 0;
    g_assert_true(pv_guest_rebuild(g->d, NULL));
    g_assert_cmphex(g->d->guest->cpu[0].kernel_sp, ==, 0x1234);
    check_counts(g, none);
    xen_guest_free(g);
}

/* A back end writes into tables: the counts are wrong then, and stay harmless. */
static void test_scribbled(void)
{
    for (uint32_t seed = 1; seed <= 8; seed++) {
        struct xen_guest *g = xen_guest_new(PV_KIND_PV, 1);
        GRand *r = g_rand_new_with_seed(seed);
        uint32_t held[RAM_FRAMES] = {0};

        for (unsigned i = 0; i < 20000; i++) {
            random_step(g, r, held);
            if (i % 10 == 0) {
                uint32_t frame = random_frame(r);

                table(g, frame)[i / 10 % 4 * 100] = random_entry(r, home_level(frame));
            }
        }
        for (uint32_t f = 0; f < g->d->guest->nr_frames; f++) {
            g_assert_cmpuint(g->d->guest->pages[f].count, <, 1u << 24);
        }
        g_rand_free(r);
        xen_guest_free(g);
    }
}

/* --- descriptors ------------------------------------------------------------------------- */

static void test_descriptors(void)
{
    static const struct {
        uint64_t raw, kept;
        bool ok;
    } rows[] = {
        {0, 0, true},
        {0x0000010000000000ull, 0x0000010000000000ull, true}, /* not present: anything */
        {0x00af9a000000ffffull, 0x00affa000000ffffull, true}, /* code64, DPL 0 */
        {0x00cf92000000ffffull, 0x00cff2000000ffffull, true}, /* data */
        {0x0000890000000067ull, 0, false},                    /* TSS */
        {0x0000820000000067ull, 0, false},                    /* LDT */
        {0x00008e0000000000ull, 0, false},                    /* interrupt gate */
        {0x0000ec0000000000ull, 0, false},                    /* call gate */
        {0x00af9e000000ffffull, 0, false},                    /* conforming */
        {0x00ef9a000000ffffull, 0, false},                    /* L and D */
    };

    for (size_t i = 0; i < G_N_ELEMENTS(rows); i++) {
        uint64_t raw = rows[i].raw;

        g_assert_cmpint(pv_descriptor_check(&raw), ==, rows[i].ok);
        g_assert_cmphex(raw, ==, rows[i].ok ? rows[i].kept : rows[i].raw);
    }
}

static void test_loading(void)
{
    struct xen_guest *g = xen_guest_new(PV_KIND_PV, 1);
    struct vcpu *v = g->fb->vcpus[0];
    struct pv_cpu *pc = pv_cpu_of(g->d, v);
    const uint64_t mfns[1] = {30};
    uint16_t bad;
    uint64_t raw;

    table(g, 30)[2] = 0x00af9a000000ffffull;
    table(g, 30)[3] = 0x00cf92000000ffffull;
    g_assert_cmpint(pv_set_gdt(g->d, pc, mfns, 4), ==, 0);
    g_assert_true(pv_load_code(g->d, v, 0x10, 0x18, &bad));
    g_assert_cmphex(v->cpu.seg[CPU_CS].selector, ==, 0x13);
    g_assert_true((v->cpu.seg[CPU_CS].attr & CPU_SEG_L) != 0);
    g_assert_false(pv_load_code(g->d, v, 0x18, 0x18, &bad)); /* data as code */
    g_assert_cmphex(bad, ==, 0x18);
    g_assert_false(pv_load_code(g->d, v, 0x10, 0x10, &bad)); /* code as stack */
    g_assert_false(pv_load_code(g->d, v, 0x10, 0, &bad));
    g_assert_false(pv_load_code(g->d, v, 0x20, 0x18, &bad)); /* beyond 4 entries */
    g_assert_true(pv_load_code(g->d, v, PV_SEL_CS32, PV_SEL_DS, &bad));
    table(g, 30)[2] = 0x0000ec0000000000ull; /* written past us: still never loaded */
    g_assert_false(pv_descriptor(g->d, v, 0x13, &raw));
    g_assert_false(pv_descriptor(g->d, v, 0xe008, &raw));
    g_assert_cmpint(pv_set_gdt(g->d, pc, mfns, 0), ==, 0);
    g_assert_cmpuint(g->d->guest->pages[30].count, ==, 0);
    xen_guest_free(g);
}

/* A page of an LDT is one of descriptors from its first use on. */
static void test_ldt(void)
{
    struct xen_guest *g = xen_guest_new(PV_KIND_PV, 1);
    struct vcpu *v = g->fb->vcpus[0];
    struct pv_cpu *pc = pv_cpu_of(g->d, v);
    const struct pv_page *page = &g->d->guest->pages[44];
    uint64_t raw;

    map_page(g, 40, 0x1000, 44, PV_PTE_P | PV_PTE_U);
    table(g, 44)[0] = 0x00cf92000000ffffull;
    g_assert_cmpint(pv_new_root(g->d, v, 40, false), ==, 0);
    pv_set_ldt(g->d, pc, 0x1000, 513);
    g_assert_cmpuint(page->count, ==, 0);
    g_assert_true(pv_descriptor(g->d, v, 4, &raw));
    g_assert_cmphex(raw, ==, 0x00cff2000000ffffull);
    g_assert_true(pv_descriptor(g->d, v, 8 | 4, &raw));
    g_assert_cmpuint(page->count, ==, 1);
    g_assert_cmpint(pv_page_get(g->d, 44, PV_PAGE_WRITABLE), <, 0);
    g_assert_false(pv_descriptor(g->d, v, 512 << 3 | 4, &raw)); /* not mapped */
    g_assert_false(pv_descriptor(g->d, v, 513 << 3 | 4, &raw));
    g_assert_true(pv_guest_rebuild(g->d, NULL)); /* as a suspend does: nothing is used yet */
    g_assert_cmpuint(g->d->guest->pages[44].count, ==, 0);
    g_assert_true(pv_descriptor(g->d, v, 4, &raw));
    g_assert_cmpuint(g->d->guest->pages[44].count, ==, 1);
    pv_set_ldt(g->d, pc, 0x1000, 513);
    g_assert_cmpuint(g->d->guest->pages[44].count, ==, 1);
    pv_guest_forget_vcpu(g->d, 0);
    g_assert_cmpuint(g->d->guest->pages[44].count, ==, 0);
    xen_guest_free(g);
}

/* What its kernel registered is written by the kernel's tables while a program runs on others;
 * what it asked of a vCPU that has not started is kept. */
static void test_registered_by_address(void)
{
    struct xen_guest *g = xen_guest_new(PV_KIND_PV, 2);
    struct vcpu *v = g->fb->vcpus[0];
    const struct vcpu_runstate_info *kernels = xg_at(g, 44 << 12), *programs = xg_at(g, 54 << 12);

    map_page(g, 40, 0x1000, 44, PV_PTE_P | PV_PTE_RW | PV_PTE_U);
    map_page(g, 50, 0x1000, 54, PV_PTE_P | PV_PTE_RW | PV_PTE_U);
    g_assert_cmpint(pv_new_root(g->d, v, 40, false), ==, 0);
    g_assert_cmpint(pv_new_root(g->d, v, 50, true), ==, 0);
    v->cpu.pv_kernel = false;
    v->cpu.cr3 = 50 << 12;
    g->d->vcpu[0].runstate_gva = 0x1000;
    g->d->vcpu[0].runstate.state = RUNSTATE_runnable;
    g->d->vcpu[0].runstate.entry_ns = 77;
    pv_time_write_runstate(g->d, 0);
    g_assert_cmpint(kernels->state, ==, RUNSTATE_runnable);
    g_assert_cmpuint(kernels->state_entry_time, ==, 77);
    g_assert_cmpint(programs->state, ==, 0);
    g_assert_cmpuint(programs->state_entry_time, ==, 0);

    g->d->guest->cpu[1].fresh = true;
    g->d->guest->cpu[1].selector[3] = 0x1b;
    g_assert_true(pv_guest_rebuild(g->d, NULL));
    g_assert_true(g->d->guest->cpu[1].fresh);
    g_assert_cmphex(g->d->guest->cpu[1].selector[3], ==, 0x1b);
    xen_guest_free(g);
}

int main(int argc, char **argv)
{
    g_test_init(&argc, &argv, NULL);
    g_test_add_func("/pv/page/types", test_types);
    g_test_add_func("/pv/page/failure-undone", test_failure_undone);
    g_test_add_func("/pv/page/expect", test_expect);
    g_test_add_func("/pv/page/hypervisor-frames", test_hypervisor_frames);
    g_test_add_func("/pv/page/registered", test_registered);
    g_test_add_func("/pv/page/registered-reset", test_registered_reset);
    g_test_add_func("/pv/page/registered-state", test_registered_state);
    g_test_add_func("/pv/page/storm", test_storm);
    g_test_add_func("/pv/page/scribbled", test_scribbled);
    g_test_add_func("/pv/page/rebuild", test_rebuild);
    g_test_add_func("/pv/page/rebuild-fails", test_rebuild_fails);
    g_test_add_func("/pv/desc/check", test_descriptors);
    g_test_add_func("/pv/desc/loading", test_loading);
    g_test_add_func("/pv/desc/ldt", test_ldt);
    g_test_add_func("/pv/page/registered-by-address", test_registered_by_address);
    return g_test_run();
}
