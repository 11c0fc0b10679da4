/* SPDX-License-Identifier: MIT */
/*
 * Changes of privilege as translated code does them (cpu/dbt/transit_emit.c) against the C
 * functions they stand for: from random states, usual and unusual, both must leave the same state
 * of the guest and of the engine. What transit.c itself does is compared with cpu/x86 in
 * test_transit.c.
 */
#include "stubs_state.h"

/* The GDT again, and behind it what is not behind it in memory. */
enum { GDT_AGAIN = 0x30000, GDT_STRADDLES = GDT_AGAIN + 0xff4 };
enum { ROUNDS = 6000 };

static bool chance(struct test *t, unsigned one_in)
{
    return g_rand_int_range(t->rand, 0, (gint32)one_in) == 0;
}

static uint64_t random64(struct test *t)
{
    return (uint64_t)g_rand_int(t->rand) << 32 | g_rand_int(t->rand);
}

/* Mostly canonical, of the kernel's or the program's half. */
static uint64_t random_address(struct test *t)
{
    uint64_t val = random64(t) >> 17;

    if (chance(t, 12)) {
        return random64(t);
    }
    return chance(t, 2) ? val : ~val;
}

/* ---- random ones ---- */

static void random_segments(struct test *t, bool user)
{
    struct cpu_x86 *cpu = t->g->cpu;

    cpu->cpl = user ? 3 : 0;
    for (unsigned i = 0; i < CPU_NR_SEG; i++) {
        cpu->seg[i] = (struct cpu_segment){
            .selector = user ? 0x1b : G_SEL_DATA, .attr = user ? 0xc0f3 : 0xc093,
            .limit = UINT32_MAX, .base = i < CPU_FS ? 0 : random_address(t)};
        if (i != CPU_SS && i != CPU_CS && !chance(t, 40)) {
            cpu->seg[i] = (struct cpu_segment){.unusable = true, .base = cpu->seg[i].base};
        }
    }
    cpu->seg[CPU_CS].selector = user ? 0x23 : G_SEL_CODE;
    cpu->seg[CPU_CS].attr = user ? 0xa0fb : 0xa09b;
}

static void random_descriptors(struct test *t)
{
    struct guest *g = t->g;

    guest_write64(g, G_GDT + G_SEL_CODE, 0x00af9b000000ffff);
    guest_write64(g, G_GDT + G_SEL_DATA, 0x00cf93000000ffff);
    guest_write64(g, G_GDT + 0x18, 0x00cff3000000ffff);
    guest_write64(g, G_GDT + 0x20, 0x00affb000000ffff);
    guest_write64(g, G_GDT + (GDT_STRADDLES - GDT_AGAIN) + G_SEL_CODE, 0x00af9b000000ffff);
    if (chance(t, 6)) { /* not accessed, another DPL, 32-bit, not present, another base ... */
        unsigned bit = 16 + (unsigned)g_rand_int_range(t->rand, 0, 48);
        uint64_t at = G_GDT + 8 * (uint64_t)g_rand_int_range(t->rand, 1, 5);

        guest_write64(g, at, guest_read64(g, at) ^ 1ull << bit);
    }
}

/* The pages of the stack that are cached, or are not. */
static void random_stacks(struct test *t)
{
    const uint64_t addend = (uint64_t)(uintptr_t)t->g->ram;
    struct interp_stack *s = t->e->stacks;

    for (unsigned i = 0; i < TLB_NR; i++) {
        s[i] = (struct interp_stack){.base = STACK_NONE};
        if (!chance(t, 6)) {
            uint64_t page = PAGE_BASE(t->g->cpu->gpr[CPU_RSP] - (chance(t, 6) ? 4096 : 0));

            s[i] = (struct interp_stack){addend + (page & (G_RAM - 1)), addend, -addend};
        } else if (chance(t, 2)) {
            s[i].addend = random64(t);
            s[i].minus = -s[i].addend;
        }
    }
    t->e->stack = s[t->d->index];
    t->d->sp = t->d->sps[t->d->index];
}

static void random_flags(struct test *t)
{
    struct cpu_x86 *cpu = t->g->cpu;

    cpu->rflags = (random64(t) & (CPU_STATUS_FLAGS | CPU_IF | CPU_DF | CPU_ID)) | 2;
    if (chance(t, 4)) {
        cpu->rflags |= random64(t) & (CPU_IOPL | CPU_NT | CPU_AC);
    }
    cpu->rflags |= chance(t, 30) ? CPU_TF : 0;
    cpu->cr0 = (cpu->cr0 & ~(uint64_t)CPU_CR0_AM) | (random64(t) & CPU_CR0_AM);
    cpu->cr4 = (cpu->cr4 & ~(uint64_t)CPU_CR4_SMAP) | (chance(t, 2) ? CPU_CR4_SMAP : 0);
}

static void random_msrs(struct test *t)
{
    struct cpu_x86 *cpu = t->g->cpu;

    cpu->efer = (cpu->efer & ~(uint64_t)CPU_EFER_SCE) | !chance(t, 12);
    cpu->star = random64(t);
    cpu->lstar = random_address(t);
    cpu->fmask = g_rand_int(t->rand) | CPU_TF | (chance(t, 4) ? 0 : CPU_AC);
    cpu->kernel_gs_base = random_address(t);
    cpu->tr.limit = chance(t, 12) ? (chance(t, 2) ? 10 : 11) : 0x67;
    cpu->tr.unusable = chance(t, 40);
    cpu->gdtr.limit = chance(t, 12) ? (uint16_t)g_rand_int_range(t->rand, 0, 0x40) : 0x7f;
    cpu->idtr.limit = chance(t, 12) ? (uint16_t)g_rand_int_range(t->rand, 0, 0x200) : 0xfff;
    cpu->gdtr.base = chance(t, 30) ? GDT_STRADDLES : G_GDT;
    cpu->nmi_blocked = chance(t, 2);
    cpu->irq_shadow = chance(t, 40);
    cpu->halted = false;
}

/* One of the pages that are looked at is not in the TLB, but something else is in its place. */
static void random_tlb(struct test *t)
{
    static const uint32_t pages[] = {G_GDT, G_IDT, G_TSS, G_STACK - 4096, G_STACK};
    unsigned slot = interp_tlb_slot(pages[g_rand_int_range(t->rand, 0, G_N_ELEMENTS(pages))]);
    struct tlb_entry *en = &t->e->tlbs[TLB_SUPERVISOR].entry[slot];

    interp_tlb_clear(&t->e->tlbs[TLB_SUPERVISOR], slot);
    en->addend += MEM_PAGE_SIZE;
    if (chance(t, 2)) {
        en->read = en->write = (uint64_t)(slot + TLB_SIZE) << MEM_PAGE_SHIFT;
    }
}

/* In some rounds the kernel's stack has read tags only: no frame may be written without C. */
static bool random_read_only(struct test *t)
{
    bool chosen = chance(t, 12);

    for (uint64_t page = G_STACK - 2 * MEM_PAGE_SIZE; chosen && page <= G_STACK;
         page += MEM_PAGE_SIZE) {
        t->e->tlbs[TLB_SUPERVISOR].entry[interp_tlb_slot(page)].write = TLB_NONE;
    }
    return chosen;
}

/* What is in the TLBs, and in the table of jumps, is good, or is not. */
static void random_engine(struct test *t)
{
    struct dbt *d = t->d;

    interp_attend(t->e, ATTENTION_KICK | ATTENTION_CODE, chance(t, 40));
    t->g->v->request = chance(t, 20) ? 1u << g_rand_int_range(t->rand, 0, 3) : 0;
    if (chance(t, 40)) {
        guest_flush(t->g);
    }
    if (chance(t, 12)) {
        random_tlb(t);
    }
    for (unsigned i = 0; i < TLB_NR; i++) {
        uint64_t top = dbt_returns_top(d, i);

        dbt_jumps_check(d, i);
        d->sps[i] = top - 8 * (uint64_t)g_rand_int_range(t->rand, 0, 16);
        *(uint64_t *)(uintptr_t)top = i;
        if (chance(t, 10)) {
            d->jump_epoch[i]--;
        }
        if (chance(t, 20)) {
            d->jump_epoch_global[i]--;
        }
    }
}

static void random_state(struct test *t, bool user)
{
    struct cpu_x86 *cpu = t->g->cpu;

    random_segments(t, user);
    for (unsigned i = 0; i < CPU_NR_GPR; i++) {
        cpu->gpr[i] = random_address(t);
    }
    cpu->gpr[CPU_RSP] = G_STACK - (uint64_t)g_rand_int_range(t->rand, -20, 520) * 8;
    if (chance(t, 12)) {
        cpu->gpr[CPU_R11] = g_rand_int(t->rand);
    } else {
        cpu->gpr[CPU_R11] &= ~(uint64_t)(CPU_TF | CPU_AC);
    }
    cpu->rip = G_CODE;
    random_flags(t);
    if (!user && (cpu->cr4 & CPU_CR4_SMAP) != 0) {
        cpu->rflags &= ~(uint64_t)CPU_AC; /* or other translations would run */
    }
    random_msrs(t);
    guest_write64(t->g, G_TSS + 4, G_STACK - (uint64_t)g_rand_int_range(t->rand, 0, 512) * 8);
    random_descriptors(t);
    t->g->v->model = chance(t, 2) ? t->model : NULL;
    t->e->amd = t->g->v->model != NULL && cpu_model_is_amd(t->model);
    interp_flags_fetch(t->e);
    interp_mode_changed(t->e);
    t->e->fault_pending = false;
    t->e->sti_rip = 0;
    random_engine(t);
    if (!user && t->e->tlb == &t->e->tlbs[TLB_SUPERVISOR]) {
        (void)dbt_fill(t->d, GDT_AGAIN, false);
    }
}

/* ---- both ways ---- */

/* A translation of the instruction for the TLB that is current. */
static struct tb *translate(struct test *t, const uint8_t *code, size_t len)
{
    struct dbt *d = t->d;
    struct block *b;
    struct tb *tb;

    guest_load(t->g, G_CODE, code, len);
    interp_mode_changed(t->e);
    b = interp_block_find(t->e);
    g_assert_nonnull(b);
    t->e->current = b;
    tb = &d->tbs[d->nr_tbs++];
    *tb = (struct tb){.edition = b->edition, .block = b, .generation = b->generation};
    g_assert_true(dbt_translate(d, tb, (unsigned)(t->e->tlb - t->e->tlbs)));
    return tb;
}

static void enter(struct test *t, uint32_t code)
{
    void (*fn)(struct dbt *, const void *) =
        (void (*)(struct dbt *, const void *))(uintptr_t)(t->d->rx + t->d->common_enter);
    uint64_t gs;

    t->d->page = PAGE_BASE(t->g->cpu->rip);
    t->d->seg_base[0] = t->g->cpu->seg[CPU_FS].base;
    t->d->seg_base[1] = t->g->cpu->seg[CPU_GS].base;
    t->d->stack_base = t->e->stack.base;
    __asm__ volatile("rdgsbase %0" : "=r"(gs));
    __asm__ volatile("wrgsbase %0" : : "r"(t->d));
    fn(t->d, t->d->rx + code);
    __asm__ volatile("wrgsbase %0" : : "r"(gs));
    t->on = t->d->link != 0;
    t->d->link = 0;
}

/* Some targets are in the table: their code leaves at once. */
static void plant(struct test *t, unsigned index, uint64_t rip)
{
    uint64_t tag = dbt_jump_tag(t->d, index, rip);
    struct dbt_jumps *jumps = &t->d->jumps[index];
    unsigned slot = dbt_jump_slot(tag);

    t->planted = chance(t, 2);
    jumps->tag[slot] = t->planted ? tag : dbt_jump_nowhere(slot);
    jumps->code[slot] = (uint64_t)(uintptr_t)(t->d->rx + t->d->common_exit);
}

static uint64_t counted(const struct test *t)
{
    return t->d->counts.n[COUNT_SYSTEM] + t->d->counts.n[COUNT_FAULTS];
}

/* A fault that is left to C. */
typedef const void *(*c_fn)(struct dbt *d, uint32_t rec);
static c_fn event_refused;
static c_fn refused_of(const struct test *t)
{
    return (c_fn)(uintptr_t)t->d->event.refused;
}
static uint32_t events_asked;
static const void *event_asked(struct dbt *d, uint32_t rec)
{
    events_asked++;
    return event_refused(d, rec);
}

/* How often C was asked about the instruction, or the event. */
static uint32_t asked(const struct test *t)
{
    const struct dbt_site *site =
        &t->d->counts.sites[(G_CODE ^ G_CODE >> 10) & (DBT_SITES - 1)];

    return (site->rip == G_CODE ? site->n : 0) + events_asked;
}

/* Where C left off before the next block was entered, the emitted code has gone on. */
static void arrive(struct test *t)
{
    struct dbt *d = t->d;
    unsigned index = (unsigned)(t->e->tlb - t->e->tlbs);

    dbt_jumps_check(d, index);
    if (index != d->index) {
        dbt_stack_switch(d, index);
    }
}

/* From the state that is saved. */
static void both(struct test *t, uint32_t code, c_fn by_c, uint32_t rec)
{
    uint32_t before = asked(t);
    uint64_t counts = counted(t);
    const void *go;

    enter(t, code);
    counts = counted(t) - counts;
    t->refused += asked(t) != before;
    t->done += asked(t) == before;
    t->found += t->on;
    g_assert_true(!t->on || (t->planted && asked(t) == before));
    g_assert_true(!t->on || (t->g->v->request & t->e->request_mask) == 0);
    if (t->on) { /* nobody looks behind it: it has done all that dbt_jumps_check() does */
        g_assert_cmphex(t->d->stack_base, ==, t->e->stack.base);
    } else {
        arrive(t);
    }
    state_save(t, &t->emitted);
    state_restore(t, &t->before);
    counts += counted(t);
    go = by_c(t->d, rec);
    if (go == (const void *)(t->d->rx + t->d->common_deliver[t->d->index])) {
        (void)refused_of(t)(t->d, rec); /* it ended in a fault */
    }
    g_assert_cmpuint(counted(t), ==, counts);
    arrive(t);
    state_save(t, &t->c);
    state_compare(&t->c, &t->emitted);
}

static struct test *test_new(void)
{
    struct test *t = g_new0(struct test, 1);

    t->g = guest_new();
    for (unsigned page = 0; page < G_CODE; page += MEM_PAGE_SIZE) { /* SMAP comes and goes */
        *guest_pte(t->g, page) &= ~(uint64_t)G_US;
    }
    *guest_pte(t->g, GDT_AGAIN) = G_GDT | G_P | G_RW;
    guest_flush(t->g);
    t->e = t->g->v->engine;
    t->d = dbt_of(t->e);
    memset(t->d->mode, MODE_64, sizeof(t->d->mode)); /* as if all had run before */
    t->rand = g_rand_new_with_seed(1);
    t->model = cpu_model_new_host(NULL);
    g_assert_nonnull(t->model);
    interp_native_enter_thread(t->e);
    interp_smp_resume(t->e);
    return t;
}

static void test_free(struct test *t)
{
    interp_smp_pause(t->e);
    interp_native_leave_thread(t->e);
    g_test_message("%u done, %u refused, %u in the table", t->done, t->refused, t->found);
    g_assert_cmpuint(t->done, >, ROUNDS / 8); /* the usual case is among them, */
    g_assert_cmpuint(t->refused, >, ROUNDS / 50);
    g_assert_cmpuint(t->found, >, ROUNDS / 50);
    t->g->v->model = NULL;
    guest_free(t->g);
    cpu_model_free(t->model);
    g_rand_free(t->rand);
    g_free(t);
}

/* The rec of the instruction itself: the one before is of the translation's entry. */
static uint32_t rec_of(const struct test *t)
{
    return t->d->nr_recs - 1;
}

static void test_syscall(void)
{
    static const uint8_t code[] = {0x0f, 0x05};
    struct test *t = test_new();
    struct tb *tb;

    random_segments(t, true);
    tb = translate(t, code, sizeof(code));
    for (unsigned i = 0; i < ROUNDS; i++) {
        random_state(t, true);
        t->d->index = TLB_USER;
        random_stacks(t);
        plant(t, TLB_SUPERVISOR, t->g->cpu->lstar);
        state_save(t, &t->before);
        both(t, tb->code[TLB_USER].mem[0], dbt_system, rec_of(t));
    }
    test_free(t);
}

static void test_sysret(void)
{
    static const uint8_t code[] = {0x48, 0x0f, 0x07};
    struct test *t = test_new();
    struct tb *tb = translate(t, code, sizeof(code));

    for (unsigned i = 0; i < ROUNDS; i++) {
        random_state(t, false);
        t->g->cpu->cpl = chance(t, 30) ? 1 : 0;
        t->d->index = TLB_SUPERVISOR;
        random_stacks(t);
        plant(t, TLB_USER, t->g->cpu->gpr[CPU_RCX]);
        state_save(t, &t->before);
        both(t, tb->code[TLB_SUPERVISOR].mem[0], dbt_system, rec_of(t));
    }
    test_free(t);
}

static void random_frame(struct test *t)
{
    static const uint16_t cs[] = {0x23, 0x23, 0x08, 0x08, 0x1b, 0x0b, 0, 0x33, 0xfffb, 0xffff};
    static const uint16_t ss[] = {0x1b, 0x1b, 0x10, 0, 0x13, 0x18, 3, 0x0c};
    uint64_t at = t->g->cpu->gpr[CPU_RSP], high = chance(t, 8) ? random64(t) << 16 : 0;
    bool usual = !chance(t, 5), user = chance(t, 2);

    guest_write64(t->g, at, random_address(t));
    guest_write64(t->g, at + 8,
                  high | (usual ? (user ? 0x23 : G_SEL_CODE)
                                : cs[g_rand_int_range(t->rand, 0, G_N_ELEMENTS(cs))]));
    guest_write64(t->g, at + 16,
                  random64(t) & (chance(t, 6) ? UINT64_MAX
                                              : CPU_STATUS_FLAGS | CPU_IF | CPU_DF | CPU_RF));
    guest_write64(t->g, at + 24, random_address(t));
    guest_write64(t->g, at + 32,
                  high | (usual ? (user ? 0x1b : chance(t, 2) ? G_SEL_DATA : 0)
                                : ss[g_rand_int_range(t->rand, 0, G_N_ELEMENTS(ss))]));
}

static void test_iret(void)
{
    static const uint8_t code[] = {0x48, 0xcf};
    struct test *t = test_new();
    struct tb *tb = translate(t, code, sizeof(code));

    for (unsigned i = 0; i < ROUNDS; i++) {
        random_state(t, false);
        t->g->cpu->cpl = chance(t, 30) ? 1 : 0;
        t->d->index = TLB_SUPERVISOR;
        random_stacks(t);
        random_frame(t);
        plant(t, chance(t, 2) ? TLB_USER : TLB_SUPERVISOR,
              guest_read64(t->g, t->g->cpu->gpr[CPU_RSP]));
        state_save(t, &t->before);
        both(t, tb->code[TLB_SUPERVISOR].mem[0], dbt_system, rec_of(t));
    }
    test_free(t);
}

/* No frame is read where no page of the stack is cached, whatever RSP is; nor over the end of
 * one. */
static void test_iret_nowhere(void)
{
    static const uint8_t code[] = {0x48, 0xcf};
    struct test *t = test_new();
    struct tb *tb = translate(t, code, sizeof(code));
    const uint64_t addend = (uint64_t)(uintptr_t)t->g->ram;

    for (unsigned i = 0; i < 600; i++) {
        random_state(t, false);
        t->d->index = TLB_SUPERVISOR;
        if (chance(t, 2)) {
            t->e->stack = (struct interp_stack){STACK_NONE, addend, -addend};
            t->g->cpu->gpr[CPU_RSP] =
                STACK_NONE - addend + (uint64_t)g_rand_int_range(t->rand, -64, 4200);
        } else {
            t->e->stack = (struct interp_stack){addend + G_STACK, addend, -addend};
            t->g->cpu->gpr[CPU_RSP] = G_STACK + (uint64_t)g_rand_int_range(t->rand, 4057, 4200) -
                                      (chance(t, 2) ? 4200 : 0);
        }
        t->planted = false;
        state_save(t, &t->before);
        both(t, tb->code[TLB_SUPERVISOR].mem[0], dbt_system, rec_of(t));
    }
    t->found = t->done = t->refused = ROUNDS; /* whatever that was */
    test_free(t);
}

/* Mostly it is what it was before. */
static void random_gate(struct test *t, unsigned vector)
{
    uint64_t offset = random_address(t);
    uint64_t access = chance(t, 2) ? 0x8e : 0xef, ist = chance(t, 12);
    uint64_t selector = chance(t, 12) ? 0x20 : G_SEL_CODE + (chance(t, 8) ? 3 : 0);

    if (!chance(t, 6)) {
        return;
    }
    if (chance(t, 12)) {
        access ^= 1u << g_rand_int_range(t->rand, 0, 8);
    }
    if (!chance(t, 3)) {
        guest_write64(t->g, G_IDT + vector * 16,
                      (offset & 0xffff) | selector << 16 | ist << 32 | access << 40 |
                          (offset >> 16 & 0xffff) << 48);
    }
    if (!chance(t, 3)) {
        guest_write64(t->g, G_IDT + vector * 16 + 8, offset >> 32);
    }
}

static uint64_t gate_offset(struct test *t, unsigned vector)
{
    uint64_t low = guest_read64(t->g, G_IDT + vector * 16);

    return (low & 0xffff) | (low >> 32 & 0xffff0000) |
           guest_read64(t->g, G_IDT + vector * 16 + 8) << 32;
}

static void random_fault(struct test *t, unsigned vector)
{
    t->e->fault = (struct x86_fault){.vector = (uint8_t)vector, .cr2 = random64(t)};
    if (vector == CPU_PAGE_FAULT || vector == CPU_GP) {
        t->e->fault.has_error = true;
        t->e->fault.error = g_rand_int(t->rand) & 0xffff;
    }
}

static void test_fault(const void *data)
{
    static const uint8_t vectors[] = {CPU_PAGE_FAULT, CPU_GP, CPU_UD, CPU_NM};
    bool user = GPOINTER_TO_UINT(data) == TLB_USER;
    struct test *t = test_new();

    for (unsigned i = 0; i < ROUNDS; i++) {
        unsigned vector = vectors[g_rand_int_range(t->rand, 0, G_N_ELEMENTS(vectors))];
        const uint8_t *code;
        unsigned refused;
        bool read_only;

        random_state(t, user);
        t->g->cpu->cpl = !user && chance(t, 30) ? 1 : t->g->cpu->cpl;
        t->d->index = GPOINTER_TO_UINT(data);
        random_stacks(t);
        random_gate(t, vector);
        random_fault(t, vector);
        plant(t, TLB_SUPERVISOR, gate_offset(t, vector));
        state_save(t, &t->before);
        code = dbt_fault(t->d);
        g_assert_true(code == t->d->rx + t->d->common_deliver[t->d->index]);
        event_refused = refused_of(t);
        t->d->event.refused = (const void *)(uintptr_t)event_asked;
        read_only = random_read_only(t);
        refused = t->refused;
        both(t, (uint32_t)(code - t->d->rx), event_refused, 0);
        g_assert_true(!read_only || t->refused > refused);
    }
    test_free(t);
}

static uint8_t interrupt_vector;
static const void *interrupt_by_c(struct dbt *d, uint32_t rec)
{
    (void)rec;
    (void)interp_fast_interrupt(&d->interp, interrupt_vector);
    return NULL;
}

static void test_interrupt(const void *data)
{
    static const uint8_t vectors[] = {0x20, 0x41, 0xec, 0xff};
    bool user = GPOINTER_TO_UINT(data) == TLB_USER;
    struct test *t = test_new();

    for (unsigned i = 0; i < ROUNDS; i++) {
        unsigned refused;
        bool read_only;

        interrupt_vector = vectors[g_rand_int_range(t->rand, 0, G_N_ELEMENTS(vectors))];
        random_state(t, user);
        t->d->index = GPOINTER_TO_UINT(data);
        random_stacks(t);
        random_gate(t, interrupt_vector);
        plant(t, TLB_SUPERVISOR, gate_offset(t, interrupt_vector));
        state_save(t, &t->before);
        t->e->fault_pending = false;
        if (!dbt_take(t->e, interrupt_vector)) {
            g_assert_true(t->e->mode != MODE_64);
            continue;
        }
        event_refused = interrupt_by_c;
        t->d->event.refused = (const void *)(uintptr_t)event_asked;
        read_only = random_read_only(t);
        refused = t->refused;
        both(t, t->d->common_deliver[t->d->index], interrupt_by_c, 0);
        g_assert_true(!read_only || t->refused > refused);
    }
    test_free(t);
}

/* Instructions that are written out where they are; the UD2 behind them is the interpreter's. */
static const struct {
    const char *name;
    uint8_t len, code[8];
    bool user;
} registers[] = {
    {"rdtsc", 2, {0x0f, 0x31}, false},
    {"rdtsc-user", 2, {0x0f, 0x31}, true},
    {"clac", 3, {0x0f, 0x01, 0xca}, false},
    {"mov-cr2", 3, {0x0f, 0x20, 0xd3}, false},
    {"mov-cr2-r10", 4, {0x41, 0x0f, 0x20, 0xd2}, false},
    {"mov-cr2-rsp", 3, {0x0f, 0x20, 0xd4}, false},
    {"rdfsbase", 5, {0xf3, 0x48, 0x0f, 0xae, 0xc7}, false},
    {"rdgsbase-r11", 5, {0xf3, 0x49, 0x0f, 0xae, 0xcb}, true},
    {"wrfsbase", 5, {0xf3, 0x48, 0x0f, 0xae, 0xd6}, true},
    {"wrgsbase-r9", 5, {0xf3, 0x49, 0x0f, 0xae, 0xd9}, false},
    {"wrfsbase-rsp", 5, {0xf3, 0x48, 0x0f, 0xae, 0xd4}, false},
    {"wrgsbase-32", 4, {0xf3, 0x0f, 0xae, 0xda}, false},
};

static bool registers_tsc;

/* Who goes on from C does that. */
static void registers_refresh(struct dbt *d)
{
    d->seg_base[0] = d->interp.v->cpu.seg[CPU_FS].base;
    d->seg_base[1] = d->interp.v->cpu.seg[CPU_GS].base;
}

static const void *registers_by_c(struct dbt *d, uint32_t rec)
{
    const void *go = dbt_system(d, rec);

    registers_refresh(d);
    if (registers_tsc && d->interp.v->cpu.rip == G_CODE + 2) {
        d->interp.v->cpu.gpr[CPU_RAX] = d->interp.v->cpu.gpr[CPU_RDX] = 0;
    }
    return go;
}

/* By both ways. The time is another one. */
static void registers_both(struct test *t, struct tb *tb, unsigned index)
{
    uint64_t offset, tsc = __builtin_ia32_rdtsc();
    uint32_t before = asked(t);

    state_save(t, &t->before);
    offset = (uint64_t)t->g->cpu->tsc_offset;
    enter(t, tb->code[index].mem[0]);
    if (registers_tsc && t->g->cpu->rip == G_CODE + 2) {
        uint64_t *gpr = t->g->cpu->gpr, now = gpr[CPU_RDX] << 32 | gpr[CPU_RAX];

        g_assert_cmphex(gpr[CPU_RAX] >> 32, ==, 0);
        g_assert_cmphex(gpr[CPU_RDX] >> 32, ==, 0);
        g_assert_cmpuint(now - offset - tsc, <=, __builtin_ia32_rdtsc() - tsc);
        gpr[CPU_RAX] = gpr[CPU_RDX] = 0;
    }
    if (asked(t) != before) {
        registers_refresh(t->d);
    }
    arrive(t);
    state_save(t, &t->emitted);
    state_restore(t, &t->before);
    if (registers_by_c(t->d, t->first) ==
        (const void *)(t->d->rx + t->d->common_deliver[t->d->index])) {
        (void)refused_of(t)(t->d, 0);
    }
    arrive(t);
    state_save(t, &t->c);
    state_compare(&t->c, &t->emitted);
}

static void test_register(const void *data)
{
    unsigned n = GPOINTER_TO_UINT(data), index = registers[n].user ? TLB_USER : TLB_SUPERVISOR;
    struct test *t = test_new();
    uint8_t code[10] = {0};
    uint32_t slow, before;
    struct tb *tb;

    memcpy(code, registers[n].code, registers[n].len);
    code[registers[n].len] = 0x0f;
    code[registers[n].len + 1] = 0x0b;
    registers_tsc = code[0] == 0x0f && code[1] == 0x31;
    random_segments(t, registers[n].user);
    tb = translate(t, code, registers[n].len + 2u);
    t->first = rec_of(t);
    before = asked(t);
    for (unsigned i = 0; i < 1500; i++) {
        random_state(t, registers[n].user);
        t->g->cpu->cpl = !registers[n].user && chance(t, 30) ? 1 : t->g->cpu->cpl;
        t->g->cpu->cr4 &= ~(uint64_t)(CPU_CR4_TSD | CPU_CR4_FSGSBASE);
        t->g->cpu->cr4 |= (chance(t, 8) ? CPU_CR4_TSD : 0) |
                          (chance(t, 8) ? 0 : CPU_CR4_FSGSBASE);
        t->g->v->model = NULL; /* as when it was translated */
        t->g->cpu->cr2 = random64(t);
        t->g->cpu->irq_shadow = false; /* no translation runs then, */
        t->g->cpu->rflags &= ~(uint64_t)CPU_TF; /* nor with that */
        interp_mode_changed(t->e);
        t->g->cpu->tsc_offset = (int64_t)random64(t) >> 8;
        t->d->index = index;
        random_stacks(t);
        registers_both(t, tb, index);
    }
    slow = asked(t) - before;
    g_test_message("%u by C", slow - 1500);
    t->found = t->done = t->refused = ROUNDS; /* nothing of that */
    test_free(t);
}

int main(int argc, char **argv)
{
    if (!guest_tests(&argc, &argv)) {
        return 0;
    }
    g_test_add_func("/interp/stubs/syscall", test_syscall);
    g_test_add_func("/interp/stubs/sysret", test_sysret);
    g_test_add_func("/interp/stubs/iret", test_iret);
    g_test_add_func("/interp/stubs/iret-nowhere", test_iret_nowhere);
    g_test_add_data_func("/interp/stubs/fault-user", GUINT_TO_POINTER(TLB_USER), test_fault);
    g_test_add_data_func("/interp/stubs/fault-kernel", GUINT_TO_POINTER(TLB_SUPERVISOR),
                         test_fault);
    g_test_add_data_func("/interp/stubs/interrupt-user", GUINT_TO_POINTER(TLB_USER),
                         test_interrupt);
    g_test_add_data_func("/interp/stubs/interrupt-kernel", GUINT_TO_POINTER(TLB_SUPERVISOR),
                         test_interrupt);
    for (unsigned i = 0; i < G_N_ELEMENTS(registers); i++) {
        g_autofree char *path = g_strdup_printf("/interp/stubs/%s", registers[i].name);

        g_test_add_data_func(path, GUINT_TO_POINTER(i), test_register);
    }
    return g_test_run();
}
