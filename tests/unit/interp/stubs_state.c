/* SPDX-License-Identifier: MIT */
/* See stubs_state.h. */
#include "stubs_state.h"

void state_save(const struct test *t, struct state *s)
{
    const struct dbt *d = t->d;
    const struct interp *e = t->e;

    memset(s, 0, sizeof(*s));
    s->cpu = *t->g->cpu;
    s->fault = e->fault;
    s->stack = e->stack;
    memcpy(s->stacks, e->stacks, sizeof(s->stacks));
    s->tlb = e->tlb;
    s->sp = d->sp;
    s->top = *(const uint64_t *)(uintptr_t)d->sp;
    memcpy(s->sps, d->sps, sizeof(s->sps));
    s->jump_at = d->jump_at;
    s->stack_base = d->stack_base;
    memcpy(s->jump_epoch, d->jump_epoch, sizeof(s->jump_epoch));
    memcpy(s->jump_epoch_global, d->jump_epoch_global, sizeof(s->jump_epoch_global));
    s->jump_key = e->jump_key;
    s->jump_key_global = e->jump_key_global;
    memcpy(s->seg_base, d->seg_base, sizeof(s->seg_base));
    s->fl = e->fl;
    s->request_mask = e->request_mask;
    s->native_missing = e->native_missing;
    s->jump_salt = e->jump_salt;
    s->request = t->g->v->request;
    s->index = d->index;
    s->mode = e->mode;
    s->fault_pending = e->fault_pending;
    memcpy(s->tables, t->g->ram + KEPT_START, KEPT_BYTES);
    memcpy(s->stack_bytes, t->g->ram + G_STACK - STACK_BYTES / 2, STACK_BYTES);
}

void state_restore(struct test *t, const struct state *s)
{
    struct dbt *d = t->d;
    struct interp *e = t->e;

    *t->g->cpu = s->cpu;
    memcpy(t->g->ram + KEPT_START, s->tables, KEPT_BYTES);
    memcpy(t->g->ram + G_STACK - STACK_BYTES / 2, s->stack_bytes, STACK_BYTES);
    interp_mode_changed(e); /* attention */
    e->fault = s->fault;
    e->stack = s->stack;
    memcpy(e->stacks, s->stacks, sizeof(s->stacks));
    e->tlb = s->tlb;
    d->sp = s->sp;
    memcpy(d->sps, s->sps, sizeof(s->sps));
    d->jump_at = s->jump_at;
    d->stack_base = s->stack_base;
    memcpy(d->jump_epoch, s->jump_epoch, sizeof(s->jump_epoch));
    memcpy(d->jump_epoch_global, s->jump_epoch_global, sizeof(s->jump_epoch_global));
    e->jump_key = s->jump_key;
    e->jump_key_global = s->jump_key_global;
    e->fl = s->fl;
    e->request_mask = s->request_mask;
    e->jump_salt = s->jump_salt;
    t->g->v->request = s->request;
    d->index = s->index;
    e->mode = s->mode;
    e->fault_pending = s->fault_pending;
}

static void compare_cpu(const struct cpu_x86 *x, const struct cpu_x86 *y)
{
    for (unsigned i = 0; i < CPU_NR_GPR; i++) {
        g_assert_cmphex(x->gpr[i], ==, y->gpr[i]);
    }
    g_assert_cmphex(x->rip, ==, y->rip);
    g_assert_cmphex(x->rflags & ~(uint64_t)CPU_STATUS_FLAGS, ==,
                    y->rflags & ~(uint64_t)CPU_STATUS_FLAGS);
    guest_same_segments(x, y);
    g_assert_cmphex(x->cr2, ==, y->cr2);
    g_assert_cmphex(x->kernel_gs_base, ==, y->kernel_gs_base);
    g_assert_cmpint(x->cpl, ==, y->cpl);
    g_assert_true(x->irq_shadow == y->irq_shadow && x->nmi_blocked == y->nmi_blocked);
    g_assert_true(x->nmi_pending == y->nmi_pending && x->halted == y->halted);
}

static void compare_stack(const struct interp_stack *x, const struct interp_stack *y)
{
    g_assert_cmphex(x->base, ==, y->base);
    g_assert_cmphex(x->addend, ==, y->addend);
    g_assert_cmphex(x->minus, ==, y->minus);
}

void state_compare(const struct state *x, const struct state *y)
{
    compare_cpu(&x->cpu, &y->cpu);
    compare_stack(&x->stack, &y->stack);
    for (unsigned i = 0; i < TLB_NR; i++) {
        if (i != x->index) {
            compare_stack(&x->stacks[i], &y->stacks[i]);
            g_assert_cmphex(x->sps[i], ==, y->sps[i]);
        }
        g_assert_cmphex(x->jump_epoch[i], ==, y->jump_epoch[i]);
        g_assert_cmphex(x->jump_epoch_global[i], ==, y->jump_epoch_global[i]);
    }
    g_assert_true(x->tlb == y->tlb);
    g_assert_cmphex(x->sp, ==, y->sp);
    g_assert_cmphex(x->top, ==, y->top);
    g_assert_cmphex(x->jump_at, ==, y->jump_at);
    g_assert_cmphex(x->jump_key, ==, y->jump_key);
    g_assert_cmphex(x->jump_key_global, ==, y->jump_key_global);
    g_assert_cmphex(x->seg_base[0], ==, y->seg_base[0]);
    g_assert_cmphex(x->seg_base[1], ==, y->seg_base[1]);
    g_assert_cmphex(x->fl & 0xd501, ==, y->fl & 0xd501);
    g_assert_cmphex(x->request_mask, ==, y->request_mask);
    g_assert_cmphex(x->native_missing, ==, y->native_missing);
    g_assert_cmphex(x->jump_salt, ==, y->jump_salt);
    g_assert_cmphex(x->request, ==, y->request);
    g_assert_cmpuint(x->index, ==, y->index);
    g_assert_cmpuint(x->mode, ==, y->mode);
    g_assert_true(x->fault_pending == y->fault_pending);
    g_assert_cmpuint(x->fault_pending ? x->fault.vector : 0, ==,
                     y->fault_pending ? y->fault.vector : 0);
    g_assert_cmpmem(x->stack_bytes, STACK_BYTES, y->stack_bytes, STACK_BYTES);
    g_assert_cmpmem(x->tables, KEPT_BYTES, y->tables, KEPT_BYTES);
}
