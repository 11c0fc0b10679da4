/* SPDX-License-Identifier: MIT */
/*
 * The engine: runs blocks, looks at requests between them, delivers faults and interrupts, and
 * the handlers that every block may contain. When something asks for it (TF, RF, breakpoints,
 * #AC) blocks shrink to one instruction and every boundary is looked at.
 */
#include "engine.h"

#include <inttypes.h>

#include "base/arena.h"

#include "alu.h"
#include "interp.h"

#include "hot.h"

#define RIP_NONE (1ull << 63) /* not canonical */

void interp_flags_home(struct interp *e)
{
    uint64_t *rflags = &e->v->cpu.rflags;

    *rflags = (*rflags & ~(uint64_t)CPU_STATUS_FLAGS) | alu_unpack(e->fl) | 2;
}

void interp_flags_fetch(struct interp *e)
{
    e->fl = alu_pack(e->v->cpu.rflags) | 0x200;
}

static bool run_segment_flat(const struct cpu_segment *s)
{
    return s->base == 0 && s->limit == UINT32_MAX && !s->unusable;
}

static unsigned run_code_mode(const struct cpu_x86 *cpu)
{
    unsigned mode = x86_insn_mode(cpu);
    const struct cpu_segment *s = cpu->seg;

    if (mode == INSN_MODE_32 && run_segment_flat(&s[CPU_CS]) && run_segment_flat(&s[CPU_DS]) &&
        run_segment_flat(&s[CPU_ES]) && run_segment_flat(&s[CPU_SS]) &&
        (s[CPU_SS].attr & CPU_SEG_DB) != 0 && (s[CPU_DS].attr & s[CPU_ES].attr & 0xe) == 2) {
        mode |= MODE_FLAT;
    }
    return mode;
}

/* Classes of native instructions that fault now; the details are x86_native_allowed()'s. */
static uint32_t run_native_missing(const struct cpu_x86 *cpu)
{
    uint32_t missing = INSN_F_AVX512;

    if ((cpu->cr0 & (CPU_CR0_EM | CPU_CR0_TS)) != 0) {
        missing |= INSN_F_X87 | INSN_F_MMX | INSN_F_SSE | INSN_F_AVX;
    }
    if ((cpu->cr4 & CPU_CR4_OSFXSR) == 0) {
        missing |= INSN_F_SSE;
    }
    if ((cpu->cr4 & CPU_CR4_OSXSAVE) == 0 || (cpu->xcr0 & 6) != 6) {
        missing |= INSN_F_AVX;
    }
    return missing;
}

static void run_attention_set(struct interp *e, bool special)
{
    const struct cpu_x86 *cpu = &e->v->cpu;
    uint32_t now = atomic_load_explicit(&e->attention, memory_order_relaxed);
    uint32_t want = special ? ATTENTION_SPECIAL : 0;

    if (cpu->halted || cpu->irq_shadow || cpu->nmi_pending) {
        want |= ATTENTION_CPU;
    }
    if ((now & (ATTENTION_SPECIAL | ATTENTION_CPU)) != want) {
        interp_attend(e, ATTENTION_SPECIAL | ATTENTION_CPU, false);
        if (want != 0) {
            interp_attend(e, want, true);
        }
    }
}

/* To be called whenever control state may have changed: between instructions only. */
void interp_mode_changed(struct interp *e)
{
    struct cpu_x86 *cpu = &e->v->cpu;
    unsigned mode = run_code_mode(cpu);
    bool special;

    e->tlb = &e->tlbs[interp_tlb_index(cpu)];
    e->align_check =
        cpu->cpl == 3 && (cpu->cr0 & CPU_CR0_AM) != 0 && (cpu->rflags & CPU_AC) != 0;
    special = (cpu->rflags & (CPU_TF | CPU_RF)) != 0 || (cpu->dr[7] & 0xff) != 0 ||
              e->debugging;
    if (special || e->align_check) {
        mode |= MODE_SLOW;
    }
    run_attention_set(e, special);
    e->mode = (uint8_t)mode;
    interp_jump_keys(e);
    e->native_missing = run_native_missing(cpu);
    e->address_mask = (mode & MODE_CODE) == MODE_64 ? UINT64_MAX : UINT32_MAX;
    e->request_mask = VCPU_REQ_STOP | VCPU_REQ_NMI | VCPU_REQ_TLB_FLUSH | VCPU_REQ_PV_FLUSH |
                      ((cpu->rflags & CPU_IF) != 0 ? VCPU_REQ_IRQ : 0);
}

/* ---- handlers that every block may contain ---- */

static struct block *run_leave(struct vcpu *v, const struct op *op, struct interp *e)
{
    (void)e;
    v->insn_count += op->number;
    return NULL;
}

static struct block *run_leave_fault(struct vcpu *v, const struct op *op, struct interp *e)
{
    e->fault_pending = true;
    v->insn_count += op->number - 1u;
    return NULL;
}

struct block *interp_op_generic(struct vcpu *v, struct op *op, struct interp *e)
{
    uint64_t next = v->engine_words[1] + op->ip + op->len;

    v->cpu.rip = v->engine_words[1] + op->ip;
    if (!interp_generic(e, op->in)) {
        return run_leave_fault(v, op, e);
    }
    if (e->break_block || v->cpu.rip != next) {
        return run_leave(v, op, e);
    }
    return op[1].fn(v, op + 1, e);
}

/* A hot handler met something it does not do: the generic way, from the block's own bytes. */
struct block *interp_op_bail(struct vcpu *v, struct op *op, struct interp *e)
{
    uint64_t next = v->engine_words[1] + op->ip + op->len;
    const struct block *b = e->current;
    struct insn in;

    interp_fpu_home(e);
    if (insn_decode(&in, (enum insn_mode)(e->mode & MODE_CODE),
                    b->source + (op->ip - b->offset), op->len) != INSN_OK) {
        g_assert_not_reached();
    }
    v->cpu.rip = v->engine_words[1] + op->ip;
    if (!interp_generic(e, &in)) {
        return run_leave_fault(v, op, e);
    }
    if (e->break_block || v->cpu.rip != next) {
        return run_leave(v, op, e);
    }
    return op[1].fn(v, op + 1, e);
}

struct block *interp_op_native(struct vcpu *v, struct op *op, struct interp *e)
{
    v->cpu.rip = v->engine_words[1] + op->ip;
    if (unlikely(!interp_native_op(e, op))) {
        return run_leave_fault(v, op, e);
    }
    if (unlikely(e->break_block)) {
        v->cpu.rip += op->len;
        return run_leave(v, op, e);
    }
    return op[1].fn(v, op + 1, e);
}

bool interp_system(struct interp *e, const struct insn *in)
{
    bool ok;

    if (likely(interp_fast_system(e, in))) {
        return true;
    }
    interp_fpu_home(e);
    interp_flags_home(e);
    interp_smp_pause(e);
    ok = x86_system_insn(e->v, in, &e->fault);
    interp_smp_resume(e);
    interp_flags_fetch(e);
    if (ok) {
        interp_mode_changed(e);
    }
    return ok;
}

struct block *interp_op_system(struct vcpu *v, struct op *op, struct interp *e)
{
    v->cpu.rip = v->engine_words[1] + op->ip;
    return interp_system(e, op->in) ? run_leave(v, op, e) : run_leave_fault(v, op, e);
}

/* The jump to rip leads nowhere: it is looked up again. */
static void run_forget(struct interp *e)
{
    interp_jump_at(e, e->v->cpu.rip)->tag = ~e->v->cpu.rip ^ e->jump_key;
}

/*
 * First in a block that reaches into a second page: that page is still the one, and its bytes
 * are still the ones decoded? Who leads here may have been told nothing about either: the block
 * was another one then.
 */
struct block *interp_op_check_second(struct vcpu *v, struct op *op, struct interp *e)
{
    struct block *b = e->current;

    if (unlikely(!interp_block_second_same(e, b)) ||
        (mem_frame_info(v->mem, b->frame2)->code_generation != b->generation2 &&
         !interp_block_renew(e, b))) {
        b->generation--; /* find it again, the long way */
        run_forget(e);
        return NULL;
    }
    return op[1].fn(v, op + 1, e);
}

struct block *interp_op_late(struct vcpu *v, struct op *op, struct interp *e)
{
    struct block *b = e->current;

    (void)op;
    interp_fpu_home(e);
    if (!interp_block_decode(e, b)) {
        return NULL; /* whatever is in the way is met again */
    }
    return b->ops[1].fn(v, &b->ops[1], e); /* behind e->entry */
}

/* Behind the last instruction of a block that does not end in a branch. */
struct block *interp_op_end(struct vcpu *v, struct op *op, struct interp *e)
{
    v->cpu.rip = v->engine_words[1] + op->ip;
    if (!interp_is64(e)) {
        v->cpu.rip &= (e->mode & MODE_CODE) == MODE_32 ? UINT32_MAX : 0xffff;
    }
    return run_leave(v, op, e);
}

/* ---- events ---- */

static bool run_shutdown(struct interp *e, struct exit *exit, unsigned vector)
{
    exit->kind = EXIT_SHUTDOWN;
    g_snprintf(exit->message, sizeof(exit->message),
               "triple fault: vector %u at rip 0x%" PRIx64 " cs 0x%x rsp 0x%" PRIx64
               " cr2 0x%" PRIx64,
               vector, e->v->cpu.rip, e->v->cpu.seg[CPU_CS].selector, e->v->cpu.gpr[CPU_RSP],
               e->v->cpu.cr2);
    return false;
}

/* State home, an event delivered, state fetched. false: triple fault. */
static bool run_deliver(struct interp *e, struct exit *exit, int vector,
                        const struct x86_fault *fault)
{
    bool ok;

    if (fault != NULL ? interp_fast_fault(e, fault)
                      : interp_fast_interrupt(e, (uint8_t)vector)) {
        return true;
    }
    interp_fpu_home(e);
    interp_flags_home(e);
    interp_smp_pause(e); /* a paravirtual guest's hypervisor takes the board lock */
    if (fault != NULL) {
        ok = x86_raise(e->v, fault);
        vector = fault->vector;
    } else {
        ok = vector == CPU_NMI ? x86_nmi(e->v) : x86_interrupt(e->v, (uint8_t)vector);
    }
    interp_smp_resume(e);
    e->v->cpu.halted = e->v->cpu.halted && e->v->pv != NULL;
    e->v->cpu.irq_shadow = false;
    interp_flags_fetch(e);
    interp_mode_changed(e);
    return ok || run_shutdown(e, exit, (unsigned)vector);
}

/* A paravirtual guest's interrupts are event upcalls, which it masks in memory. */
static bool run_pv_event(struct interp *e)
{
    struct vcpu *v = e->v;

    atomic_fetch_and(&v->request, ~(uint32_t)VCPU_REQ_IRQ);
    interp_fpu_home(e);
    interp_flags_home(e);
    interp_smp_pause(e);
    v->pv->event(v);
    interp_smp_resume(e);
    interp_flags_fetch(e);
    interp_mode_changed(e);
    return true;
}

static bool run_interrupts(struct interp *e, struct exit *exit)
{
    struct vcpu *v = e->v;
    int vector;

    if (v->cpu.nmi_pending && !v->cpu.nmi_blocked) {
        v->cpu.nmi_pending = false;
        return run_deliver(e, exit, CPU_NMI, NULL);
    }
    if ((v->cpu.rflags & CPU_IF) == 0 || (atomic_load(&v->request) & VCPU_REQ_IRQ) == 0) {
        return true;
    }
    if (v->pv != NULL) {
        return run_pv_event(e);
    }
    atomic_fetch_and(&v->request, ~(uint32_t)VCPU_REQ_IRQ);
    interp_fpu_home(e);
    interp_flags_home(e);
    interp_smp_pause(e);
    vector = v->board_ops->irq_ack(v);
    interp_smp_resume(e);
    if (vector < 0) {
        return true;
    }
    /* There may be another one. */
    atomic_fetch_or(&v->request, VCPU_REQ_IRQ);
    if (e->take != NULL && e->take(e, (uint8_t)vector)) {
        e->taken = true;
        e->taken_vector = (uint8_t)vector;
        return true;
    }
    return run_deliver(e, exit, vector, NULL);
}

/* The last thing before guest code: who asks for a flush does not wait for a vCPU that is in the
 * hypervisor, so each stay there may leave one behind. false: leave run(). */
static bool run_pv_flushes(struct interp *e, struct exit *exit)
{
    struct vcpu *v = e->v;

    while ((atomic_load(&v->request) & VCPU_REQ_PV_FLUSH) != 0) {
        if ((atomic_load(&v->request) & VCPU_REQ_STOP) != 0) {
            exit->kind = EXIT_KICK; /* others may go on asking */
            return false;
        }
        atomic_fetch_and(&v->request, ~(uint32_t)VCPU_REQ_PV_FLUSH);
        interp_smp_pause(e);
        v->pv->flush(v);
        interp_smp_resume(e);
    }
    return true;
}

/* Requests from other threads. false: leave run(). */
static bool run_requests(struct interp *e, struct exit *exit)
{
    struct vcpu *v = e->v;
    uint32_t request = atomic_load(&v->request);

    if (v->cpu.rip == e->sti_rip) {
        v->cpu.irq_shadow = true;
    }
    e->sti_rip = RIP_NONE;
    if ((request & VCPU_REQ_TLB_FLUSH) != 0) {
        atomic_fetch_and(&v->request, ~(uint32_t)VCPU_REQ_TLB_FLUSH);
        interp_tlb_flush(e, VCPU_FLUSH_ALL, 0);
    }
    if ((request & VCPU_REQ_NMI) != 0) {
        atomic_fetch_and(&v->request, ~(uint32_t)VCPU_REQ_NMI);
        v->cpu.nmi_pending = true;
    }
    if ((request & VCPU_REQ_STOP) != 0) {
        exit->kind = EXIT_KICK;
        return false;
    }
    if (v->cpu.irq_shadow) {
        return true;
    }
    return run_interrupts(e, exit);
}

/* An instruction breakpoint at rip (SDM vol. 3 17.2.5)? */
static uint64_t run_code_breakpoint(const struct interp *e)
{
    const struct cpu_x86 *cpu = &e->v->cpu;
    uint64_t hit = 0;

    if ((cpu->rflags & CPU_RF) != 0) {
        return 0;
    }
    for (unsigned i = 0; i < 4; i++) {
        if ((cpu->dr[7] >> (2 * i) & 3) != 0 && (cpu->dr[7] >> (16 + 4 * i) & 15) == 0 &&
            cpu->dr[i] == cpu->rip + (interp_is64(e) ? 0 : cpu->seg[CPU_CS].base)) {
            hit |= 1u << i;
        }
    }
    return hit;
}

/* Something besides the next block? */
static inline bool run_wanted(const struct interp *e)
{
    return (atomic_load_explicit(&e->v->request, memory_order_relaxed) & e->request_mask) !=
               0 ||
           atomic_load_explicit(&e->attention, memory_order_relaxed) != 0;
}

static bool run_fault(struct interp *e, struct exit *exit)
{
    e->fault_pending = false;
    return run_deliver(e, exit, -1, &e->fault);
}

static struct block *run_find(struct interp *e)
{
    struct block *b = interp_jump(e, e->v->cpu.rip);

    return likely(b != NULL) ? b : interp_block_find(e);
}

/* Outside flat modes a block may reach over the limit of CS: then one instruction at a time. */
static bool run_beyond_limit(const struct interp *e, const struct block *b)
{
    return !interp_is64(e) && e->v->cpu.rip + b->bytes - 1 > e->v->cpu.seg[CPU_CS].limit;
}

/* Runs a block; the next one when it is known. */
static inline struct block *run_block(struct interp *e, struct block *b)
{
    if (unlikely(*b->generation_now != b->generation) && !interp_block_renew(e, b)) {
        run_forget(e);
        return NULL;
    }
    e->current = b;
    e->break_block = false;
    e->v->engine_words[1] = e->v->cpu.rip - b->offset;
    return b->ops->fn(e->v, b->ops, e);
}

/* Runs blocks as long as each knows the next and nobody wants anything. */
static void run_chain(struct interp *e, struct block *b)
{
    struct vcpu *v = e->v;

    do {
        b = run_block(e, b);
        if (b == NULL && likely(!e->fault_pending)) {
            if (unlikely(e->link_slot != NULL)) {
                return;
            }
            b = interp_jump(e, v->cpu.rip);
        }
    } while (b != NULL && likely(!run_wanted(e)));
}

/* A direct branch met its target for the first time: next time it goes there at once. */
static void run_link(struct interp *e, struct block *b)
{
    if (e->v->cpu.rip == e->link_rip && b->frame == e->current->frame &&
        b->mode == e->current->mode && !b->crosses) {
        e->link_slot->link = b;
    }
    e->link_slot = NULL;
}

/* Whether it clears TF where it goes, so that no step is told behind it: INT n and the like (SDM
 * vol. 3 17.3.1.4); SYSCALL, where IA32_FMASK says so, is one step with what it calls. */
static bool run_enters(const struct interp *e, const struct block *b)
{
    struct insn in;

    if (insn_decode(&in, x86_insn_mode(&e->v->cpu), b->source, b->bytes) != INSN_OK) {
        return false;
    }
    switch (in.id) {
    case INSN_INT:
    case INSN_INT3:
    case INSN_INTO:
    case INSN_INT1:
    case INSN_SYSCALL:
        return true;
    default:
        return false;
    }
}

/* One instruction with everything looked at. false: leave run(). */
static bool run_instruction(struct interp *e, struct exit *exit)
{
    struct cpu_x86 *cpu = &e->v->cpu;
    uint64_t hit = run_code_breakpoint(e), old_rip = cpu->rip;
    bool tf = (cpu->rflags & CPU_TF) != 0, rf = (cpu->rflags & CPU_RF) != 0;
    struct block *b;

    if (hit != 0) {
        struct x86_fault fault = {.vector = CPU_DB, .dr6 = hit};

        cpu->rflags |= CPU_RF; /* in the saved image: a fault, not a trap */
        return run_deliver(e, exit, -1, &fault);
    }
    e->dr6_hit = 0;
    e->mode |= MODE_SLOW;
    interp_jump_keys(e);
    b = run_find(e);
    if (b != NULL && run_beyond_limit(e, b)) {
        e->fault_pending = true;
        interp_fault_code(e, CPU_GP, 0);
    } else if (b != NULL) {
        const bool enters = tf && run_enters(e, b);

        if (rf) {
            cpu->rflags &= ~(uint64_t)CPU_RF; /* the instruction may set it again */
        }
        (void)run_block(e, b);
        e->link_slot = NULL;
        tf = tf && (!enters || (cpu->rflags & CPU_TF) != 0);
        if (rf && (e->fault_pending || cpu->rip == old_rip)) {
            cpu->rflags |= CPU_RF; /* not completed */
        }
    }
    interp_mode_changed(e);
    if (e->fault_pending) {
        return run_fault(e, exit);
    }
    if ((tf || e->dr6_hit != 0) && b != NULL && !cpu->irq_shadow) {
        struct x86_fault fault = {.vector = CPU_DB, .dr6 = e->dr6_hit | (tf ? 1u << 14 : 0)};

        return run_deliver(e, exit, -1, &fault);
    }
    return true;
}

static bool run_slowly(struct interp *e, struct exit *exit)
{
    if (likely(!e->debugging)) {
        return run_instruction(e, exit);
    }
    return !interp_debug_before(e, exit) && run_instruction(e, exit) &&
           !interp_debug_after(e, exit);
}

/* The interrupt that was taken; and what comes behind it until somebody wants something. */
static bool run_taken(struct interp *e, struct exit *exit)
{
    e->taken = false;
    e->link_slot = NULL;
    if (!e->deliver(e)) {
        return run_deliver(e, exit, e->taken_vector, NULL);
    }
    return likely(!e->fault_pending) || run_fault(e, exit);
}

static bool run_one(struct interp *e, struct exit *exit)
{
    struct block *b;

    if (unlikely(e->taken)) {
        return run_taken(e, exit);
    }
    if (unlikely(interp_special(e) || e->step_once)) {
        e->step_once = false;
        return run_slowly(e, exit);
    }
    b = run_find(e);
    if (unlikely(b == NULL)) {
        e->link_slot = NULL;
        return !e->fault_pending || run_fault(e, exit);
    }
    if (e->link_slot != NULL) {
        run_link(e, b);
    }
    if (!interp_flat(e)) {
        if (unlikely(run_beyond_limit(e, b))) {
            return run_slowly(e, exit);
        }
        (void)run_block(e, b);
    } else {
        run_chain(e, b);
    }
    return likely(!e->fault_pending) || run_fault(e, exit);
}

/* Between blocks, when run_wanted(). false: leave run(). */
static bool run_attention(struct interp *e, struct exit *exit)
{
    struct cpu_x86 *cpu = &e->v->cpu;
    uint32_t attention = atomic_load(&e->attention);

    if ((attention & ATTENTION_PROTECT) != 0) {
        interp_smp_serve(e);
    }
    if ((attention & ATTENTION_KICK) != 0) {
        interp_attend(e, ATTENTION_KICK, false);
    }
    if ((attention & ATTENTION_DROP) != 0) {
        interp_attend(e, ATTENTION_DROP, false);
        interp_fpu_home(e);
        interp_blocks_drop(e);
    }
    if ((attention & ATTENTION_CODE) != 0) {
        interp_attend(e, ATTENTION_CODE, false);
        e->code_changed(e);
    }
    if (cpu->halted) {
        cpu->irq_shadow = false;
        exit->kind = EXIT_HALT; /* whether it has to sleep is the board's to see */
        return false;
    }
    if (!run_requests(e, exit) || !run_pv_flushes(e, exit)) {
        return false;
    }
    if (cpu->irq_shadow) { /* it covers one instruction */
        cpu->irq_shadow = false;
        e->step_once = (atomic_load(&e->v->request) & VCPU_REQ_IRQ) != 0 || cpu->nmi_pending;
    }
    run_attention_set(e, (atomic_load(&e->attention) & ATTENTION_SPECIAL) != 0);
    return true;
}

static void interp_run(struct vcpu *v, struct exit *exit)
{
    struct interp *e = v->engine;

    exit->kind = EXIT_KICK;
    exit->message[0] = '\0';
    interp_native_enter_thread(e);
    interp_smp_resume(e);
    interp_flags_fetch(e);
    interp_mode_changed(e);
    e->fault_pending = false;
    e->link_slot = NULL;
    e->current = NULL;
    e->sti_rip = RIP_NONE;
    for (;;) {
        if (unlikely(run_wanted(e)) && !run_attention(e, exit)) {
            break;
        }
        if (!run_one(e, exit)) {
            break;
        }
    }
    interp_fpu_home(e);
    interp_flags_home(e);
    interp_smp_pause(e);
    interp_native_leave_thread(e);
}

/* ---- the contract ---- */

bool interp_engine_init(struct interp *e, struct vcpu *v, GError **err)
{
    v->engine = e;
    e->v = v;
    e->mxcsr_mask = interp_host_mxcsr_mask();
    e->host_xcr0 = interp_host_xcr0();
    e->jump_secret = interp_host_secret();
    interp_tlb_init(e);
    interp_known_init(e);
    e->amd = v->model != NULL && cpu_model_is_amd(v->model);
    e->v = v;
    if (!interp_blocks_init(e, err) || !interp_native_init(e, err)) {
        return false;
    }
    interp_mode_changed(e);
    return true;
}

static bool interp_vcpu_init(struct vcpu *v, GError **err)
{
    struct interp *e = arena_map(NULL, sizeof(*e));

    if (e == NULL) {
        g_set_error(err, G_FILE_ERROR, G_FILE_ERROR_NOMEM,
                    "no memory for the interpreter's state");
        return false;
    }
    return interp_engine_init(e, v, err);
}

static void interp_vcpu_fini(struct vcpu *v)
{
    struct interp *e = v->engine;

    if (e != NULL) {
        interp_native_fini(e);
        interp_blocks_fini(e);
        v->engine = NULL;
        if (e->free != NULL) {
            e->free(e);
        } else {
            arena_unmap(e, sizeof(*e));
        }
    }
}

static void interp_state_changed(struct vcpu *v)
{
    struct interp *e = v->engine;

    e->pv_space = 0; /* another engine may have been in other spaces meanwhile */
    interp_tlb_flush(e, VCPU_FLUSH_ALL, 0);
}

void interp_accel_flush(struct vcpu *v, enum vcpu_flush kind, uint64_t gva)
{
    interp_tlb_flush(v->engine, kind, gva);
}

const struct accel_ops interp_accel_ops = {
    .name = "interp",
    .probe = interp_host_probe,
    .vcpu_init = interp_vcpu_init,
    .vcpu_fini = interp_vcpu_fini,
    .run = interp_run,
    .state_changed = interp_state_changed,
    .tlb_flush = interp_accel_flush,
    .set_debug = interp_set_debug,
};
