/* SPDX-License-Identifier: MIT */
/*
 * Lockstep: comparing. The guest goes on with what the translation did.
 *
 * Other vCPUs stand still for it (not those of PV guests); devices write guest memory meanwhile,
 * and so does C for other vCPUs. A difference that an input changed by them may explain counts as a
 * race, and is reported only when it comes again and again at the same place; so does one after a
 * LOCKed instruction or a store to a page that devices write to. Status flags may differ as long as
 * nobody looks at them (docs/translator.md).
 */
#include "lockstep.h"

#include <inttypes.h>
#include <string.h>

#include "base/arena.h"
#include "base/log.h"
#include "cpu/interp/alu.h"
#include "disassemble.h"
#include "insn.h"

static void *lockstep_map(size_t bytes)
{
    void *p = arena_map(NULL, bytes);

    g_assert(p != NULL);
    return p;
}

void dbt_lockstep_init(struct dbt *d)
{
    struct lockstep *l = lockstep_map(sizeof(*l));
    uint8_t *pages = lockstep_map(2ul * LOCKSTEP_PAGES * MEM_PAGE_SIZE);

    l->d = d;
    l->cache = lockstep_map(sizeof(*l->cache) * LOCKSTEP_CACHE);
    l->runs = lockstep_map(sizeof(*l->runs) * DBT_MAX_TBS);
    for (size_t i = 0; i < LOCKSTEP_PAGES; i++) {
        l->pages[i].now = pages + 2 * i * MEM_PAGE_SIZE;
        l->pages[i].before = l->pages[i].now + MEM_PAGE_SIZE;
    }
    d->lockstep = l;
}

void dbt_lockstep_fini(struct dbt *d)
{
    struct lockstep *l = d->lockstep;

    if (l == NULL) {
        return;
    }
    log_write("lockstep: %" PRIu64 " runs of translations and %" PRIu64
              " instructions compared, %" PRIu64 " differences",
              l->compared, l->insns, l->differences);
    log_write("lockstep: %" PRIu64 " runs not compared (devices), %" PRIu64
              " left at once, %" PRIu64 " races with devices, %" PRIu64 " not chosen",
              l->unchecked, l->idle, l->races, l->skipped);
    arena_unmap(l->pages[0].now, 2ul * LOCKSTEP_PAGES * MEM_PAGE_SIZE);
    arena_unmap(l->cache, sizeof(*l->cache) * LOCKSTEP_CACHE);
    arena_unmap(l->runs, sizeof(*l->runs) * DBT_MAX_TBS);
    arena_unmap(l, sizeof(*l));
    d->lockstep = NULL;
}

uint64_t dbt_lockstep_differences(const struct vcpu *v)
{
    const struct dbt *d = v->engine;

    return d->lockstep != NULL ? d->lockstep->differences : 0;
}

/* ---- states ---- */

static void side_save(struct lockstep_side *s, struct interp *e)
{
    const struct cpu_x86 *cpu = &e->v->cpu;

    interp_fpu_home(e);
    memcpy(s->gpr, cpu->gpr, sizeof(s->gpr));
    memcpy(s->xsave, cpu->xsave, LOCKSTEP_XSAVE);
    s->rip = cpu->rip;
    s->rflags = cpu->rflags;
    s->fl = e->fl;
    s->gs_base = cpu->seg[CPU_GS].base;
    s->kernel_gs_base = cpu->kernel_gs_base;
    s->request_mask = e->request_mask;
    s->fault_pending = e->fault_pending;
    s->fault = e->fault;
}

static void side_load(const struct lockstep_side *s, struct interp *e)
{
    struct cpu_x86 *cpu = &e->v->cpu;

    interp_fpu_home(e);
    memcpy(cpu->gpr, s->gpr, sizeof(s->gpr));
    memcpy(cpu->xsave, s->xsave, LOCKSTEP_XSAVE);
    cpu->rip = s->rip;
    cpu->rflags = s->rflags;
    e->fl = s->fl;
    cpu->seg[CPU_GS].base = s->gs_base;
    cpu->kernel_gs_base = s->kernel_gs_base;
    e->request_mask = s->request_mask;
    e->fault_pending = s->fault_pending;
    e->fault = s->fault;
    e->break_block = false;
}

static bool same_vectors(const struct lockstep_side *a, const struct lockstep_side *b)
{
    uint8_t xa[LOCKSTEP_XSAVE], xb[LOCKSTEP_XSAVE];

    if (memcmp(a->xsave, b->xsave, LOCKSTEP_XSAVE) == 0) {
        return true;
    }
    memcpy(xa, a->xsave, LOCKSTEP_XSAVE);
    memcpy(xb, b->xsave, LOCKSTEP_XSAVE);
    x86_xsave_normalise(xa);
    x86_xsave_normalise(xb);
    return memcmp(xa, xb, LOCKSTEP_XSAVE) == 0;
}

static bool same_fault(const struct lockstep_side *a, const struct lockstep_side *b)
{
    if (!a->fault_pending || !b->fault_pending) {
        return a->fault_pending == b->fault_pending;
    }
    return a->fault.vector == b->fault.vector && a->fault.has_error == b->fault.has_error &&
           (!a->fault.has_error || a->fault.error == b->fault.error) &&
           (a->fault.vector != CPU_PAGE_FAULT || a->fault.cr2 == b->fault.cr2);
}

/* The status flags are not among them. */
static bool same_registers(const struct lockstep_side *a, const struct lockstep_side *b)
{
    return memcmp(a->gpr, b->gpr, sizeof(a->gpr)) == 0 && a->rip == b->rip &&
           ((a->rflags ^ b->rflags) & ~(uint64_t)CPU_STATUS_FLAGS) == 0 &&
           a->gs_base == b->gs_base && a->kernel_gs_base == b->kernel_gs_base &&
           a->request_mask == b->request_mask && same_fault(a, b) &&
           same_vectors(a, b);
}

static bool same_memory(const struct lockstep *l)
{
    for (unsigned i = 0; i < l->nr_pages; i++) {
        if (memcmp(l->pages[i].now, l->pages[i].real, MEM_PAGE_SIZE) != 0) {
            return false;
        }
    }
    return true;
}

/* As FLAG_C... */
static uint32_t lost_flags(const struct lockstep *l)
{
    uint64_t diff = alu_unpack(l->ref.fl) ^ alu_unpack(l->bt.fl);

    return ((diff & CPU_CF) != 0 ? FLAG_C : 0u) | ((diff & CPU_PF) != 0 ? FLAG_P : 0u) |
           ((diff & CPU_AF) != 0 ? FLAG_A : 0u) | ((diff & CPU_ZF) != 0 ? FLAG_Z : 0u) |
           ((diff & CPU_SF) != 0 ? FLAG_S : 0u) | ((diff & CPU_OF) != 0 ? FLAG_O : 0u);
}

/* ---- reports ---- */

static void report_code(const struct lockstep *l, const struct block *b)
{
    const enum insn_mode mode = (enum insn_mode)(b->mode & MODE_CODE);
    unsigned n = MIN(l->nr_insns, (unsigned)LOCKSTEP_TRAIL);
    struct vcpu *v = l->d->interp.v;

    for (unsigned i = l->nr_insns - n; i < l->nr_insns; i++) {
        uint64_t rip = l->trail[i % LOCKSTEP_TRAIL], at = (rip & 4095) - b->offset, gpa;
        g_autofree char *text = NULL;

        if (PAGE_BASE(rip) == PAGE_BASE(l->start.rip) && at < b->bytes) {
            text = dbt_disassemble(mode, b->source + at, (size_t)(b->bytes - at), rip, 1);
        } else if (x86_probe(v, rip, &gpa) && mem_page(v->mem, gpa >> 12) != NULL) {
            const uint8_t *page = mem_page(v->mem, gpa >> 12);

            text = dbt_disassemble(mode, page + (gpa & 4095), MEM_PAGE_SIZE - (gpa & 4095), rip,
                                   1);
        }
        log_write("%s", text != NULL ? text : "  ?");
    }
}

static void report_side(const char *name, const struct lockstep_side *s)
{
    log_write("  %-6s rip 0x%" PRIx64 " rflags 0x%" PRIx64 " status 0x%" PRIx64, name, s->rip,
              s->rflags & ~(uint64_t)CPU_STATUS_FLAGS, alu_unpack(s->fl));
    if (s->fault_pending) {
        log_write("         fault %u error 0x%x cr2 0x%" PRIx64, s->fault.vector, s->fault.error,
                  s->fault.cr2);
    }
}

static void report_registers(const struct lockstep *l)
{
    static const char *const names[] = {"rax", "rcx", "rdx", "rbx", "rsp", "rbp", "rsi", "rdi",
                                        "r8",  "r9",  "r10", "r11", "r12", "r13", "r14", "r15"};

    report_side("before", &l->start);
    report_side("interp", &l->ref);
    report_side("bt", &l->bt);
    for (unsigned i = 0; i < CPU_NR_GPR; i++) {
        bool same = l->ref.gpr[i] == l->bt.gpr[i];

        log_write("%s %-3s before 0x%016" PRIx64 " interp 0x%016" PRIx64 " bt 0x%016" PRIx64,
                  same ? " " : "!", names[i], l->start.gpr[i], l->ref.gpr[i], l->bt.gpr[i]);
    }
    for (unsigned i = 0, n = 0; i < LOCKSTEP_XSAVE && n < 16; i++) {
        if (l->ref.xsave[i] != l->bt.xsave[i]) {
            log_write("! xsave byte %u: interp %02x bt %02x", i, l->ref.xsave[i],
                      l->bt.xsave[i]);
            n++;
        }
    }
}

static void report_memory(const struct lockstep *l)
{
    unsigned n = 0;

    for (unsigned p = 0; p < l->nr_pages; p++) {
        const struct lockstep_page *page = &l->pages[p];
        uint32_t frame = mem_hva_frame(l->d->interp.v->mem, page->real);

        for (unsigned i = 0; i < MEM_PAGE_SIZE && n < 32; i++) {
            uint8_t real = page->real[i];

            if (page->now[i] != real) {
                log_write("! frame 0x%x byte 0x%03x: before %02x interp %02x bt %02x", frame, i,
                          page->before[i], page->now[i], real);
                n++;
            }
        }
    }
}

static void lockstep_report(struct lockstep *l, const struct block *b, const char *what)
{
    if (l->differences++ >= LOCKSTEP_REPORTS) {
        return;
    }
    log_write("lockstep: %s in the block at 0x%" PRIx64 " (%u bytes, cpl %u, %u instructions "
              "by the interpreter)", what, l->start.rip, b->bytes, l->d->interp.v->cpu.cpl,
              l->nr_insns);
    report_code(l, b);
    report_registers(l);
    report_memory(l);
}

/* ---- differences ---- */

static const uint8_t *lockstep_page_of(const uint8_t *at)
{
    return (const uint8_t *)((uintptr_t)at & ~(uintptr_t)(MEM_PAGE_SIZE - 1));
}

static bool lockstep_is_shared(const struct lockstep *l, const uint8_t *page)
{
    for (unsigned i = 0; i < l->nr_shared; i++) {
        if (l->shared[i] == page) {
            return true;
        }
    }
    return false;
}

static void lockstep_share(struct lockstep *l, const uint8_t *page)
{
    if (l->nr_shared < LOCKSTEP_SHARED && !lockstep_is_shared(l, page)) {
        l->shared[l->nr_shared++] = page;
    }
}

/* May a device have changed what was read? */
static bool lockstep_inputs_changed(struct lockstep *l)
{
    bool changed = false;

    for (unsigned i = 0; i < l->nr_reads; i++) {
        const uint8_t *at = l->reads[i].at;

        if (*(const volatile interp_uint64_t *)(const void *)at != l->reads[i].val) {
            lockstep_share(l, lockstep_page_of(at));
            changed = true;
        }
    }
    for (unsigned p = 0; p < l->nr_pages; p++) {
        const struct lockstep_page *page = &l->pages[p];

        for (unsigned i = 0; i < MEM_PAGE_SIZE; i++) {
            if (!lockstep_written(page, i) && page->real[i] != page->before[i]) {
                lockstep_share(l, page->real);
                changed = true;
                break;
            }
        }
    }
    return changed;
}

/* Does it store to where devices do, too? A byte that both write looks like a difference. */
static bool lockstep_stores_shared(const struct lockstep *l)
{
    for (unsigned p = 0; p < l->nr_pages; p++) {
        if (lockstep_is_shared(l, l->pages[p].real)) {
            return true;
        }
    }
    return false;
}

/* What devices have written since next to what the guest wrote. */
static void lockstep_take_inputs(struct lockstep *l)
{
    for (unsigned p = 0; p < l->nr_pages; p++) {
        struct lockstep_page *page = &l->pages[p];

        for (unsigned i = 0; i < MEM_PAGE_SIZE; i++) {
            if (!lockstep_written(page, i)) {
                page->before[i] = page->real[i];
            }
        }
    }
}

/* Too often at one place for chance? A busy ring can be written by its device in every third run
 * or so; what is executed wrongly differs nearly each time. */
static bool lockstep_suspect(struct lockstep *l, uint64_t rip)
{
    unsigned at = (unsigned)(rip * 0x9e3779b97f4a7c15ull >> 54);
    enum { ENOUGH = 12, OF = 4, AT_LEAST = 3 };

    if (l->suspects[at].rip != rip) {
        l->suspects[at].rip = rip;
        l->suspects[at].hits = l->suspects[at].runs = 0;
    }
    l->suspects[at].hits++;
    return l->suspects[at].hits >= ENOUGH &&
           l->suspects[at].hits * OF > l->suspects[at].runs * AT_LEAST;
}

static void lockstep_count(struct lockstep *l, uint64_t rip)
{
    unsigned at = (unsigned)(rip * 0x9e3779b97f4a7c15ull >> 54);

    if (l->suspects[at].rip == rip) {
        l->suspects[at].runs++;
    }
}

static bool lockstep_same(const struct lockstep *l)
{
    return same_registers(&l->ref, &l->bt) && same_memory(l);
}

/* The interpreter again, up to where the translation is, or to the end of the block. */
static bool lockstep_again(struct lockstep *l, const struct block *b,
                           const struct lockstep_side *to)
{
    struct interp *e = &l->d->interp;

    lockstep_rewind(l);
    side_load(&l->start, e);
    l->stop = lockstep_run(l, b, to);
    side_save(&l->ref, e);
    return lockstep_same(l);
}

/* The interpreter met something that the translation may have executed. */
static bool lockstep_beyond(const struct lockstep *l, const struct block *b)
{
    return (l->stop == LOCKSTEP_ABORT || l->stop == LOCKSTEP_FOREIGN) &&
           (l->chain || lockstep_inside(l, b, l->ref.rip)) && l->ref.rip != l->bt.rip;
}

/* What was fetched, stored through and faulted on by tables the block itself has written. */
static bool lockstep_fault_gone(struct lockstep *l)
{
    struct interp *e = &l->d->interp;
    struct x86_mapping map;
    struct x86_fault fault;
    unsigned access = (l->ref.fault.error & CPU_PFEC_W) != 0 ? X86_WRITE : X86_READ;

    return l->ref.fault_pending && !l->bt.fault_pending && l->nr_pages != 0 &&
           l->ref.fault.vector == CPU_PAGE_FAULT &&
           x86_translate(e->v, l->ref.fault.cr2, access | interp_user(e), &map, &fault);
}

/* false: nothing was compared. */
static bool lockstep_differ(struct lockstep *l, const struct block *b)
{
    bool race = false, registers, same;

    /* Though nothing seems to have changed, too: what a device has written and taken back is a
     * difference that is gone. What the translation did wrong stays, but for bytes that only it
     * stored: those look like a device's. */
    for (unsigned i = 0; i < LOCKSTEP_TRIES; i++) {
        if (lockstep_again(l, b, &l->bt)) {
            l->compared++;
            l->races += i != 0;
            return true;
        }
        if (lockstep_beyond(l, b) || lockstep_fault_gone(l) || l->nr_pages > l->nr_guessed) {
            l->unchecked++;
            return false;
        }
        race |= lockstep_inputs_changed(l);
        lockstep_take_inputs(l);
    }
    l->near = l->chain;
    same = lockstep_again(l, b, l->chain ? &l->bt : NULL);
    l->near = false;
    if (same) {
        l->compared++;
        l->races++;
        return true;
    }
    registers = !same_registers(&l->ref, &l->bt);
    race |= l->locked || lockstep_stores_shared(l);
    l->compared++;
    if (race && !lockstep_suspect(l, l->start.rip)) {
        l->races++;
        return false;
    }
    lockstep_report(l, b, registers ? "difference in registers" : "difference in memory");
    return false;
}

/* ---- around a run of a translation ---- */

bool dbt_lockstep_free(const struct dbt *d, const struct tb *t)
{
    const struct lockstep_runs *runs = &d->lockstep->runs[t - d->tbs];

    return runs->block == t->block && runs->edition == t->edition && runs->n > LOCKSTEP_ALWAYS;
}

static bool lockstep_choose(struct lockstep *l, const struct tb *t, uint64_t rip)
{
    struct lockstep_runs *runs = &l->runs[t - l->d->tbs];
    unsigned one_in = l->d->options.lockstep;

    if (runs->block != t->block || runs->edition != t->edition) {
        *runs = (struct lockstep_runs){.block = t->block, .edition = t->edition};
    }
    runs->n++;
    l->chain = one_in != 1;
    if (l->chain && rip == l->idle_rip) {
        return false; /* it starts with a poll, at which it left the last time */
    }
    return runs->n <= LOCKSTEP_ALWAYS || runs->n % one_in == 0;
}

void dbt_lockstep_choose(struct dbt *d, const struct tb *t)
{
    struct lockstep *l = d->lockstep;
    struct interp *e = &d->interp;

    interp_fpu_home(e);
    d->comparing = lockstep_choose(l, t, e->v->cpu.rip);
    l->idle_rip = 0;
    if (!d->comparing) {
        l->skipped++;
        l->lost = 0;
        return;
    }
    /* A hypercall of a PV guest may wait for other vCPUs. */
    l->alone = e->v->pv == NULL && interp_smp_alone(e);
}

void dbt_lockstep_leave(struct dbt *d)
{
    struct lockstep *l = d->lockstep;

    d->comparing = false;
    if (l->alone) {
        l->alone = false;
        interp_smp_together(&d->interp);
    }
}

void dbt_lockstep_before(struct dbt *d, const struct tb *t)
{
    struct lockstep *l = d->lockstep;
    struct interp *e = &d->interp;

    if (!d->comparing) {
        return;
    }
    side_save(&l->start, e);
    if (l->lost_rip != l->start.rip || l->lost_count != e->v->insn_count) {
        l->lost = 0;
    }
    l->lost_used = 0;
    l->nr_pages = 0;
    l->stop = lockstep_run(l, t->block, NULL);
    l->nr_guessed = l->nr_pages;
    side_save(&l->ref, e);
    side_load(&l->start, e);
    lockstep_count(l, l->start.rip);
    if (l->chain) {
        atomic_store(&e->poll, e->poll_stop);
    }
}

void dbt_lockstep_after(struct dbt *d, const struct tb *t)
{
    struct lockstep *l = d->lockstep;
    struct interp *e = &d->interp;
    bool compared = true;

    if (!d->comparing) {
        return;
    }
    if (l->chain) {
        interp_poll_arm(e);
    }
    side_save(&l->bt, e);
    if (l->lost_used != 0) {
        l->bt = l->start;
        lockstep_report(l, t->block, "status flags that an earlier block did not keep are used");
        side_save(&l->bt, e);
    }
    if (l->stop <= LOCKSTEP_FOREIGN && lockstep_same(l)) {
        l->compared++;
    } else if (same_registers(&l->start, &l->bt)) {
        compared = false; /* it left at its entry, or goes round in circles */
        l->idle++;
        l->idle_rip = l->start.rip;
    } else {
        compared = lockstep_differ(l, t->block);
        side_load(&l->bt, e);
    }
    l->insns += compared ? l->nr_insns : 0;
    l->lost = compared ? l->lost | lost_flags(l) : 0;
    l->lost_rip = l->bt.rip;
    l->lost_count = e->v->insn_count;
    dbt_lockstep_leave(d);
}
