/* SPDX-License-Identifier: MIT */
/*
 * The interpreter's half of lockstep. Guest vector state may be in the host's registers here:
 * general registers only, and nothing of libc.
 */
#include "lockstep.h"

#include "cpu/interp/alu.h"
#include "insn.h"

static void run_copy_page(void *to, const void *from)
{
    size_t n = MEM_PAGE_SIZE / 8;

    __asm__ volatile("rep movsq" : "+D"(to), "+S"(from), "+c"(n) : : "memory");
}

static void run_none_written(struct lockstep_page *p)
{
    void *to = p->written;
    size_t n = sizeof(p->written) / 8;

    __asm__ volatile("rep stosq" : "+D"(to), "+c"(n) : "a"(0) : "memory");
}

static void run_note_write(const struct interp *e, struct lockstep_page *p, size_t offset,
                           unsigned access)
{
    if ((access & X86_WRITE) != 0) {
        for (size_t i = offset; i < MIN(offset + e->shadow_len, MEM_PAGE_SIZE); i++) {
            p->written[i / 64] |= 1ull << (i % 64);
        }
    }
}

void lockstep_rewind(struct lockstep *l)
{
    for (unsigned i = 0; i < l->nr_pages; i++) {
        run_copy_page(l->pages[i].now, l->pages[i].before);
        run_none_written(&l->pages[i]);
    }
}

static void run_note_read(struct lockstep *l, const uint8_t *at)
{
    if (l->nr_reads < LOCKSTEP_READS && ((uintptr_t)at & 4095) <= 4096 - 8) {
        l->reads[l->nr_reads++] =
            (struct lockstep_read){at, *(const volatile interp_uint64_t *)(const void *)at};
    }
}

/* Where an access goes. false: it cannot be done twice. */
static bool run_shadow(struct interp *e, unsigned access, uint8_t **hva)
{
    struct lockstep *l = dbt_of(e)->lockstep;
    uint8_t *real = (uint8_t *)((uintptr_t)*hva & ~(uintptr_t)4095);
    size_t offset = (uintptr_t)*hva & 4095;
    struct lockstep_page *p;

    if (*hva == NULL) {
        l->aborted = true;
        return interp_fault(e, CPU_GP);
    }
    for (unsigned i = 0; i < l->nr_pages; i++) {
        if (l->pages[i].real == real) {
            run_note_write(e, &l->pages[i], offset, access);
            *hva = l->pages[i].now + offset;
            return true;
        }
    }
    if ((access & X86_WRITE) == 0) {
        if ((access & X86_EXEC) == 0) {
            run_note_read(l, *hva);
        }
        return true;
    }
    if (l->nr_pages == LOCKSTEP_PAGES) {
        l->aborted = true;
        return interp_fault(e, CPU_GP);
    }
    p = &l->pages[l->nr_pages++];
    p->real = real;
    run_copy_page(p->before, real);
    run_copy_page(p->now, p->before);
    run_none_written(p);
    run_note_write(e, p, offset, access);
    *hva = p->now + offset;
    return true;
}

static bool run_equal(const uint8_t *a, const uint8_t *b, unsigned len)
{
    for (unsigned i = 0; i < len; i++) {
        if (a[i] != b[i]) {
            return false;
        }
    }
    return true;
}

bool dbt_lockstep_knows(const struct insn *in)
{
    return in->mode == INSN_MODE_64 && (in->id == INSN_CLI || in->id == INSN_SWAPGS ||
                                        (in->id == INSN_PUSHF && in->opsize == 8));
}

/* What these do at CPL 0, written once more. false: e->fault. */
static bool run_system(struct interp *e, const struct insn *in)
{
    struct cpu_x86 *cpu = &e->v->cpu;
    uint64_t base = cpu->seg[CPU_GS].base;

    if (in->id == INSN_PUSHF) {
        uint64_t flags = (cpu->rflags & ~(uint64_t)(CPU_STATUS_FLAGS | CPU_RF | CPU_VM)) |
                         alu_unpack(e->fl) | 2;

        if (!interp_push(e, flags, 8)) {
            return false;
        }
    } else if (in->id == INSN_CLI) {
        cpu->rflags &= ~(uint64_t)CPU_IF;
        e->request_mask &= ~(uint32_t)VCPU_REQ_IRQ;
    } else {
        cpu->seg[CPU_GS].base = cpu->kernel_gs_base;
        cpu->kernel_gs_base = base;
    }
    cpu->rip += in->len;
    return true;
}

static bool run_foreign(const struct interp *e, const struct insn *in)
{
    const struct cpu_model *model = e->v->model;

    return ((in->flags & INSN_F_SYSTEM) != 0 && !dbt_lockstep_knows(in)) || in->id == INSN_INVALID || in->id == INSN_UD ||
           !interp_mode_has(in) ||
           in->feature == INSN_FEAT_RDRAND || in->feature == INSN_FEAT_RDSEED ||
           (in->feature != INSN_FEAT_BASE && model != NULL &&
            !cpu_model_has(model, in->feature));
}

/* What is called here is compiled for any register. */
static bool run_decode(struct interp *e, struct lockstep_insn *c, unsigned len)
{
    interp_fpu_home(e);
    if (insn_decode(&c->in, (enum insn_mode)(e->mode & MODE_CODE), c->bytes, len) != INSN_OK) {
        return false;
    }
    c->foreign = run_foreign(e, &c->in);
    return true;
}

static const struct lockstep_insn *run_fetch_across(struct lockstep *l, struct interp *e,
                                                    const uint8_t *at, unsigned avail)
{
    uint64_t next = (PAGE_BASE(e->v->cpu.rip) + MEM_PAGE_SIZE) & e->address_mask, gpa;
    uint8_t *second;

    if (!interp_resolve(e, next, X86_EXEC, &second, &gpa)) {
        return NULL;
    }
    for (unsigned i = 0; i < INSN_MAX_LEN; i++) {
        l->across.bytes[i] = i < avail ? at[i] : second[i - avail];
    }
    return run_decode(e, &l->across, INSN_MAX_LEN) ? &l->across : NULL;
}

/* The instruction at rip; NULL: it cannot be read or decoded. */
static const struct lockstep_insn *run_fetch(struct lockstep *l, struct interp *e)
{
    uint64_t rip = e->v->cpu.rip, gpa;
    unsigned avail = (unsigned)MIN(MEM_PAGE_SIZE - (rip & 4095), INSN_MAX_LEN);
    struct lockstep_insn *c;
    uint8_t *at;

    if (!interp_resolve(e, rip, X86_EXEC, &at, &gpa)) {
        return NULL;
    }
    c = &l->cache[((uintptr_t)at ^ (uintptr_t)at >> 14) & (LOCKSTEP_CACHE - 1)];
    if (c->at == at && c->in.mode == (e->mode & MODE_CODE) && c->in.len <= avail &&
        run_equal(c->bytes, at, c->in.len)) {
        return c;
    }
    c->at = NULL;
    for (unsigned i = 0; i < avail; i++) {
        c->bytes[i] = at[i];
    }
    if (!run_decode(e, c, avail)) {
        return avail < INSN_MAX_LEN ? run_fetch_across(l, e, at, avail) : NULL;
    }
    c->at = at;
    return c;
}

/* Flags that the translation did not keep must be overwritten before they matter. */
static void run_flags(struct lockstep *l, struct interp *e, const struct insn *in)
{
    struct insn_status s;

    if (l->lost == 0 || (in->flags & (INSN_F_BRANCH | INSN_F_COND)) == INSN_F_BRANCH) {
        return;
    }
    interp_fpu_home(e);
    s = insn_status_flags(in);
    if ((l->lost & s.reads) != 0 && l->lost_used == 0) {
        l->lost_used = l->lost & s.reads;
        l->lost_at = e->v->cpu.rip;
    }
    l->lost &= ~(uint32_t)s.kills;
}

static bool run_there(const struct lockstep *l, const struct interp *e,
                      const struct lockstep_side *to)
{
    const struct cpu_x86 *cpu = &e->v->cpu;

    if (l->near) {
        return cpu->rip == to->rip && l->nr_insns != 0;
    }
    if (cpu->rip != to->rip || to->fault_pending) {
        return false;
    }
    for (unsigned i = 0; i < CPU_NR_GPR; i++) {
        if (cpu->gpr[i] != to->gpr[i]) {
            return false;
        }
    }
    return true;
}

static void run_restore(struct interp *e, const uint64_t *gpr, uint64_t rip, uint32_t fl)
{
    for (unsigned i = 0; i < CPU_NR_GPR; i++) {
        e->v->cpu.gpr[i] = gpr[i];
    }
    e->v->cpu.rip = rip;
    e->fl = fl;
}

/* A repeated string instruction, of which the translation did less than the interpreter would:
 * that part of it. */
static bool run_partly(struct interp *e, const struct insn *in, const struct lockstep_side *to)
{
    uint64_t *rcx = &e->v->cpu.gpr[CPU_RCX], before = *rcx, next = e->v->cpu.rip + in->len;

    if (to == NULL || (in->prefixes & (INSN_P_REP | INSN_P_REPNE)) == 0 ||
        in->id < INSN_MOVS || in->id > INSN_SCAS || in->addrsize != insn_word(in) ||
        to->rip != e->v->cpu.rip || to->gpr[CPU_RCX] >= before) {
        return false;
    }
    *rcx = before - to->gpr[CPU_RCX];
    while (e->v->cpu.rip != next) {
        if (!interp_generic(e, in)) {
            return false;
        }
    }
    *rcx = to->gpr[CPU_RCX];
    e->v->cpu.rip = to->rip;
    return true;
}

static bool run_insn(struct lockstep *l, struct interp *e, const struct insn *in,
                     const struct lockstep_side *to)
{
    uint64_t gpr[CPU_NR_GPR], rip = e->v->cpu.rip;
    uint32_t fl = e->fl;

    for (unsigned i = 0; i < CPU_NR_GPR; i++) {
        gpr[i] = e->v->cpu.gpr[i];
    }
    if (run_partly(e, in, to)) {
        return true;
    }
    if (to != NULL) {
        run_restore(e, gpr, rip, fl);
    }
    e->break_block = false;
    if ((in->flags & INSN_F_SYSTEM) != 0 ? run_system(e, in) : interp_generic(e, in)) {
        return true;
    }
    if (l->aborted) {
        run_restore(e, gpr, rip, fl);
    }
    return false;
}

static bool run_followed(const struct lockstep *l, const struct block *b, uint64_t rip)
{
    const struct tb *t = b->translation;
    const struct peek *p = t != NULL && t->follows ? &l->d->peeks[t->peek] : NULL;

    return p != NULL && (rip & (MEM_PAGE_SIZE - 1)) - p->at < p->len;
}

bool lockstep_inside(const struct lockstep *l, const struct block *b, uint64_t rip)
{
    return (rip & (MEM_PAGE_SIZE - 1)) - b->offset < b->bytes || run_followed(l, b, rip);
}

/* Enough for a guess? The instruction at rip was executed. */
static bool run_guessed(struct lockstep *l, const struct block *b, uint64_t rip,
                        const struct insn *in, unsigned *turns)
{
    uint64_t now = l->d->interp.v->cpu.rip;

    if (now == rip + in->len) {
        return false;
    }
    if (!l->chain) {
        return in->id != INSN_JMP || !run_followed(l, b, now) || (*turns)++ != 0;
    }
    *turns += now <= rip || PAGE_BASE(now) != PAGE_BASE(rip);
    return *turns >= LOCKSTEP_TURNS;
}

static enum lockstep_stop run_all(struct lockstep *l, struct interp *e, const struct block *b,
                                  const struct lockstep_side *to)
{
    unsigned limit = to == NULL && l->chain ? LOCKSTEP_AHEAD : LOCKSTEP_INSNS, turns = 0;

    for (l->nr_insns = 0; l->nr_insns < limit; l->nr_insns++) {
        uint64_t rip = e->v->cpu.rip;
        const struct lockstep_insn *c;

        if (to != NULL && run_there(l, e, to)) {
            return LOCKSTEP_MATCH;
        }
        if (to == NULL && !l->chain && !lockstep_inside(l, b, rip)) {
            return LOCKSTEP_END;
        }
        c = run_fetch(l, e);
        if (c == NULL || c->foreign ||
            ((c->in.flags & INSN_F_SYSTEM) != 0 && (e->v->cpu.cpl != 0 || e->v->pv != NULL))) {
            return LOCKSTEP_FOREIGN;
        }
        if (to == NULL) {
            run_flags(l, e, &c->in);
        }
        l->locked |= (c->in.prefixes & INSN_P_LOCK) != 0 || c->in.id == INSN_XCHG;
        l->trail[l->nr_insns % LOCKSTEP_TRAIL] = rip;
        if (!run_insn(l, e, &c->in, to)) {
            return l->aborted ? LOCKSTEP_ABORT : LOCKSTEP_FAULT;
        }
        if (to == NULL && run_guessed(l, b, rip, &c->in, &turns)) {
            l->nr_insns++;
            return LOCKSTEP_END;
        }
    }
    return LOCKSTEP_FAR;
}

enum lockstep_stop lockstep_run(struct lockstep *l, const struct block *b,
                                const struct lockstep_side *to)
{
    struct interp *e = &l->d->interp;
    enum lockstep_stop stop;

    l->aborted = l->locked = false;
    l->nr_reads = 0;
    e->shadow = run_shadow;
    stop = run_all(l, e, b, to);
    e->shadow = NULL;
    if (stop == LOCKSTEP_FAULT) {
        e->fault_pending = true;
        l->nr_insns++;
        if (to != NULL && to->fault_pending && e->v->cpu.rip == to->rip) {
            stop = LOCKSTEP_MATCH;
        }
    }
    return stop;
}
