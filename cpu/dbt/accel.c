/* SPDX-License-Identifier: MIT */
/*
 * The translator as an engine: the interpreter's with a hook in its blocks. Host faults in
 * translated code (#DE, #MF, #XM, #GP of misaligned vectors) arrive as signals and make the
 * interpreter execute the instruction, which finds the fault again and raises it for the guest.
 */
#include "dbt.h"

#include <errno.h>
#include <signal.h>
#include <sys/auxv.h>
#include <ucontext.h>

#include "base/arena.h"
#include "base/log.h"
#include "cpu/interp/alu.h"
#include "cpu/interp/interp.h"
#include "disassemble.h"
#include "engine.h"

static _Thread_local struct dbt *accel_current;
static struct sigaction accel_previous[65];

/* Makes the faulting instruction go the slow way. false: not in translated code. */
static bool accel_fault(struct dbt *d, greg_t *regs, uint64_t address)
{
    bool poll = address - (uint64_t)(uintptr_t)d->trap < MEM_PAGE_SIZE;
    uint64_t offset = (uint64_t)regs[REG_RIP] - (uint64_t)(uintptr_t)d->rx;
    const struct rec *rec;

    if (offset < d->common_end || offset >= d->used) {
        return false;
    }
    if (dbt_returns_full(d, address)) {
        dbt_returns_reset(d, d->index);
        regs[REG_RSP] = (greg_t)d->sp;
        return true;
    }
    rec = dbt_cache_rec(d, (uint32_t)offset);
    if (rec == NULL || offset >= rec->end) {
        return false;
    }
    if (poll ? rec->poll_flags : rec->host_flags) {
        d->interp.fl = alu_pack((uint64_t)regs[REG_EFL]);
    }
    if (poll) { /* somebody wants something: leave before this instruction */
        regs[REG_R10] = (greg_t)(d->page + rec->ip);
        regs[REG_R11] = 0;
        regs[REG_RIP] = (greg_t)(uintptr_t)(d->rx + d->common_exit);
        return true;
    }
    regs[REG_R10] = rec - d->recs;
    regs[REG_RIP] = (greg_t)(uintptr_t)(d->rx + d->common_slow);
    return true;
}

static void accel_signal(int sig, siginfo_t *info, void *context)
{
    ucontext_t *uc = context;
    const struct sigaction *before = &accel_previous[sig];

    if (accel_current != NULL && accel_fault(accel_current, uc->uc_mcontext.gregs,
                    sig == SIGSEGV ? (uint64_t)(uintptr_t)info->si_addr : 0)) {
        return;
    }
    if ((before->sa_flags & SA_SIGINFO) != 0) {
        before->sa_sigaction(sig, info, context);
    } else {
        sigaction(sig, before, NULL);
    }
}

static void accel_install(void)
{
    static gsize once;
    static const int signals[] = {SIGFPE, SIGILL, SIGSEGV, SIGBUS};

    if (g_once_init_enter(&once)) {
        for (unsigned i = 0; i < G_N_ELEMENTS(signals); i++) {
            struct sigaction sa = {.sa_sigaction = accel_signal,
                                   .sa_flags = SA_SIGINFO | SA_ONSTACK | SA_NODEFER};

            sigemptyset(&sa.sa_mask);
            sigaction(signals[i], &sa, &accel_previous[signals[i]]);
        }
        g_once_init_leave(&once, 1);
    }
}

static bool accel_probe(GError **err)
{
    enum { HWCAP2_FSGSBASE_BIT = 2 };

    if ((getauxval(AT_HWCAP2) & HWCAP2_FSGSBASE_BIT) == 0) {
        g_set_error(err, G_FILE_ERROR, G_FILE_ERROR_NOSYS,
                    "this host's CPU or kernel has no FSGSBASE");
        return false;
    }
    return interp_accel_ops.probe(err);
}

static void accel_dropped(struct interp *e)
{
    dbt_cache_drop(dbt_of(e));
}

/*
 * Below 2 GiB if possible, so that translated code can do without GS (emit.h); anywhere there,
 * as is usual for data. Elsewhere if not. Zeroes.
 */
static struct dbt *accel_alloc(void)
{
    enum { LOW = 64 << 20, TRIES = 32 };
    const uint64_t room = (1ull << 31) - LOW - sizeof(struct dbt);
    struct dbt *d = NULL;

    for (unsigned i = 0; i < TRIES && d == NULL; i++) {
        uint64_t at = LOW + interp_host_secret() % room / MEM_PAGE_SIZE * MEM_PAGE_SIZE;

        d = arena_map((void *)(uintptr_t)at, sizeof(*d));
    }
    if (d == NULL) {
        d = arena_map(NULL, sizeof(*d));
    }
    if (d != NULL) {
        d->low = (uint64_t)(uintptr_t)d < 1ull << 31 ? (uint32_t)(uintptr_t)d : 0;
    }
    return d;
}

static void accel_free(struct interp *e)
{
    arena_unmap(e, sizeof(struct dbt));
}

static bool accel_vcpu_init(struct vcpu *v, GError **err)
{
    struct dbt *d = accel_alloc();

    if (d == NULL) {
        g_set_error(err, G_FILE_ERROR, g_file_error_from_errno(errno),
                    "the translator has no memory for its state: %s", g_strerror(errno));
        return false;
    }
    d->interp.free = accel_free;

    d->self = d;
    dbt_trace_init(d);
    if ((log_mask & (LOG_IN_ASM | LOG_OUT_ASM)) != 0) {
        dbt_disassemble_init();
    }
    d->interp.entry = dbt_entry;
    d->options = (struct dbt_options){.hot = DBT_HOT, .cache = DBT_CACHE};
    if (!interp_engine_init(&d->interp, v, err) || !dbt_cache_init(d, err)) {
        return false;
    }
    d->interp.dropped = accel_dropped;
    d->interp.code_written = dbt_code_written;
    d->interp.code_changed = dbt_code_changed;
    d->interp.code_live = dbt_code_live;
    d->interp.rewrite = dbt_rewrite;
    d->interp.take = dbt_take;
    d->interp.deliver = dbt_deliver;
    dbt_forms_init(d);
    interp_stack_forget(&d->interp);
    dbt_near_init(d);
    d->interp.poll_go = &d->go;
    d->interp.poll_stop = d->trap;
    interp_attend(&d->interp, ATTENTION_KICK, true);
    mem_watch_code(v->mem, dbt_code_watch, d);
    accel_install();
    return true;
}

static void accel_vcpu_fini(struct vcpu *v)
{
    if (v->engine != NULL) {
        dbt_trace_fini(dbt_of(v->engine));
        dbt_lockstep_fini(dbt_of(v->engine));
        mem_unwatch_code(v->mem, v->engine);
        dbt_cache_fini(dbt_of(v->engine));
        dbt_view_fini(dbt_of(v->engine));
    }
    interp_accel_ops.vcpu_fini(v);
}

static void accel_run(struct vcpu *v, struct exit *exit)
{
    struct dbt *d = v->engine;
    uint64_t gs;

    __asm__ volatile("rdgsbase %0" : "=r"(gs));
    __asm__ volatile("wrgsbase %0" : : "r"(d));
    accel_current = d;
    interp_accel_ops.run(v, exit);
    accel_current = NULL;
    __asm__ volatile("wrgsbase %0" : : "r"(gs));
}

static void accel_kick(struct vcpu *v)
{
    if (v->engine != NULL) {
        interp_attend(v->engine, ATTENTION_KICK, true);
    }
}

static void accel_state_changed(struct vcpu *v)
{
    interp_accel_ops.state_changed(v);
}

size_t dbt_state_size(void)
{
    return sizeof(struct dbt);
}

void dbt_configure(struct vcpu *v, const struct dbt_options *options)
{
    struct dbt *d = v->engine;

    if (options->hot != 0) {
        d->options.hot = options->hot;
    }
    if (options->cache != 0) {
        d->options.cache = MIN(MAX(options->cache, d->common_end + DBT_ROOM + 1), DBT_CACHE);
    }
    d->interp.stress.block_insns = options->insns;
    d->interp.stress.tlb_entries = MIN(options->tlb, (unsigned)STRESS_TLB_MAX);
    d->options.runs = options->runs;
    d->options.larges = options->larges;
    d->options.lookups = options->lookups;
    d->options.views = options->views;
    d->options.loops = options->loops;
    d->options.shake = options->shake;
    d->options.relink = options->relink;
    d->shake_state = options->seed;
    d->options.no_jumps = options->no_jumps || options->lockstep == 1;
    if (options->perf && d->perf < 0) {
        dbt_trace_perf(d);
    }
    if (options->lockstep != 0 && d->lockstep == NULL) {
        dbt_disassemble_init();
        d->options.lockstep = options->lockstep;
        dbt_lockstep_init(d);
    }
}

const struct accel_ops dbt_accel_ops = {
    .name = "bt",
    .probe = accel_probe,
    .vcpu_init = accel_vcpu_init,
    .vcpu_fini = accel_vcpu_fini,
    .run = accel_run,
    .kick = accel_kick,
    .state_changed = accel_state_changed,
    .tlb_flush = interp_accel_flush,
    .set_debug = interp_set_debug,
    .stats = dbt_stats,
};
