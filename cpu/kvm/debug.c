/* SPDX-License-Identifier: MIT */
/*
 * Stopping for a debugger (accel_ops.set_debug), by KVM_SET_GUEST_DEBUG.
 *
 * Single-stepping works with every KVM. Whether breakpoints come out is the processor's doing (an
 * emulated AMD-V lacks both kinds), so it is tried when one is first wanted: the vCPU runs a few
 * bytes of pvemu's own, at an address that no guest has memory at, and is loaded anew afterwards.
 *
 * PV guests are stopped by the shim (pv_debug.c); only breakpoints are tried for them, too.
 *
 * KVM steps by the guest's TF, and forgets what the guest's own was. So, while all state is at home
 * between runs (not with KVM's local APICs), instructions that move the flags are carried out here, and
 * interrupts are delivered here; and the guest's own TF, breakpoints and #DB are put back behind a
 * step. An exception that the processor delivers remains one step with what it leads to, and its frame
 * has TF.
 *
 * KVM moves RIP behind an OUT to the hypercall port before it comes out; when it steps it would come
 * out with that step and lose the call. So that instruction is carried out here, always.
 */
#include "engine.h"

#include <errno.h>
#include <string.h>
#include <sys/mman.h>

#include "base/error.h"
#include "cpu/x86/x86.h"

#define TEST_GPA 0xfffbb000ull /* a page below those that Intel's KVM has */
enum {
    TEST_POINT = 1, /* offsets in the page: NOP, NOP, INT3 */
    TEST_INT3 = 2,  /* then OUT to the hypercall port, behind which KVM keeps nothing */
    TEST_HANDLER = 0x10,
    TEST_GDT = 0x100,
    TEST_IDT = 0x200,
    TEST_STACK = 0x1000,
    TEST_TRIES = 64, /* runs that a signal ends */
    DR7_LEN_8 = 2,
    OUT_IMM8 = 0xe6,
};
#define DR7_ON 0x400ull

/* --- does the host deliver? --- */

static void debug_test_page(uint8_t *page)
{
    static const uint8_t code[] = {0x90, 0x90, 0xcc, OUT_IMM8, VCPU_HYPERCALL_PORT};
    const uint64_t handler = TEST_GPA + TEST_HANDLER;
    const uint64_t gdt[] = {0, 0x00cf9b000000ffff, 0x00cf93000000ffff};
    const uint64_t gate =
        (handler & 0xffff) | 8ull << 16 | 0x8eull << 40 | (handler >> 16) << 48;

    memcpy(page, code, sizeof(code));
    memcpy(page + TEST_HANDLER, code + TEST_INT3 + 1, 2);
    memcpy(page + TEST_GDT, gdt, sizeof(gdt));
    for (unsigned i = 0; i < 32; i++) {
        memcpy(page + TEST_IDT + i * sizeof(gate), &gate, sizeof(gate));
    }
}

static int debug_test_state(struct kvm_engine *k, unsigned at)
{
    const struct kvm_sys *sys = k->vm->sys;
    struct kvm_segment data = {.limit = 0xffffffff, .selector = 0x10, .type = 3, .present = 1,
                               .s = 1, .db = 1, .g = 1};
    struct kvm_segment code = data;
    struct kvm_regs regs = {.rip = TEST_GPA + at, .rsp = TEST_GPA + TEST_STACK, .rflags = 2};
    struct kvm_debugregs none = {.dr6 = 0xffff0ff0, .dr7 = DR7_ON};
    struct kvm_vcpu_events events = {.flags = KVM_VCPUEVENT_VALID_NMI_PENDING |
                                              KVM_VCPUEVENT_VALID_SHADOW};
    struct kvm_sregs s;
    int ret;

    kvm_sregs_of(k, &s);
    code.selector = 8;
    code.type = 11;
    s.cs = code;
    s.ds = s.es = s.fs = s.gs = s.ss = data;
    s.ldt = (struct kvm_segment){.unusable = 1};
    s.gdt = (struct kvm_dtable){.base = TEST_GPA + TEST_GDT, .limit = 0x17};
    s.idt = (struct kvm_dtable){.base = TEST_GPA + TEST_IDT, .limit = 0xff};
    s.cr0 = CPU_CR0_PE | CPU_CR0_ET | CPU_CR0_NE;
    s.cr3 = s.cr4 = s.efer = 0;
    ret = kvm_ioctl(sys, k->fd, KVM_SET_SREGS, &s);
    ret = ret < 0 ? ret : kvm_ioctl(sys, k->fd, KVM_SET_DEBUGREGS, &none);
    ret = ret < 0 ? ret : kvm_ioctl(sys, k->fd, KVM_SET_VCPU_EVENTS, &events);
    return ret < 0 ? ret : kvm_ioctl(sys, k->fd, KVM_SET_REGS, &regs);
}

/* 1: KVM comes out with exception `vector` at `at`. 0: it does not. Or a negated errno. */
static int debug_test_run(struct kvm_engine *k, uint32_t control, unsigned at, unsigned vector)
{
    struct kvm_guest_debug d = {.control = KVM_GUESTDBG_ENABLE | control};
    struct kvm_run *run = k->run;
    int ret;

    d.arch.debugreg[0] = TEST_GPA + TEST_POINT;
    d.arch.debugreg[7] = DR7_ON | 2;
    ret = debug_test_state(k, at);
    ret = ret < 0 ? ret : kvm_ioctl(k->vm->sys, k->fd, KVM_SET_GUEST_DEBUG, &d);
    if (ret < 0) {
        return ret;
    }
    run->kvm_valid_regs = 0;
    run->kvm_dirty_regs = 0;
    run->request_interrupt_window = 0;
    for (unsigned i = 0; i < TEST_TRIES; i++) {
        __atomic_store_n(&run->immediate_exit, 0, __ATOMIC_SEQ_CST);
        ret = k->vm->sys->ioctl(k->fd, KVM_RUN, 0);
        if (ret != -EINTR && ret != -EAGAIN) {
            return ret < 0 ? ret
                           : run->exit_reason == KVM_EXIT_DEBUG &&
                                 run->debug.arch.exception == vector;
        }
    }
    return -EINTR;
}

/* 0 or a negated errno. v->cpu is whole, and is loaded again by the next run. */
static int debug_try(struct kvm_engine *k)
{
    struct kvm_guest_debug off = {0};
    struct kvm_vm *vm = k->vm;
    uint8_t *page;
    int ret = k->v->pv != NULL ? kvm_pv_sync(k) : kvm_fetch_all(k);

    if (ret >= 0 && vm->chip == &kvm_chip_split) {
        ret = kvm_chip_set_mp(k, KVM_MP_STATE_RUNNABLE);
    }
    if (ret < 0) {
        return ret;
    }
    page = mmap(NULL, MEM_PAGE_SIZE, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    if (page == MAP_FAILED) {
        return -errno;
    }
    debug_test_page(page);
    ret = kvm_vm_set_slot(vm, KVM_SLOT_TEST, TEST_GPA, MEM_PAGE_SIZE, page);
    if (ret >= 0) {
        k->load_all = true;
        ret = debug_test_run(k, KVM_GUESTDBG_USE_HW_BP, 0, CPU_DB);
        vm->debug_points = ret > 0;
        ret = ret < 0 ? ret : debug_test_run(k, KVM_GUESTDBG_USE_SW_BP, TEST_INT3, CPU_BP);
        vm->debug_int3 = ret > 0;
        vm->debug_tried = ret >= 0;
        kvm_ioctl(vm->sys, k->fd, KVM_SET_GUEST_DEBUG, &off);
        kvm_vm_set_slot(vm, KVM_SLOT_TEST, TEST_GPA, 0, NULL);
    }
    munmap(page, MEM_PAGE_SIZE);
    return ret;
}

/* --- the contract --- */

static bool debug_may(struct kvm_engine *k, const struct vcpu_debug *debug, GError **err)
{
    const bool points = debug->nr_points > 0;
    const bool int3 = debug->int3 && k->v->pv == NULL; /* PV: #GP, everywhere */
    int ret = 0;

    if (!k->cpuid_set) { /* KVM takes none after the first run */
        k->cpuid_set = kvm_set_cpuid(k, err);
        if (!k->cpuid_set) {
            return false;
        }
    }
    if ((points || int3) && !k->vm->debug_tried) {
        ret = debug_try(k);
    }
    if (ret < 0) {
        return error_set(err, PVEMU_ERROR_HOST, "KVM's breakpoints cannot be tried: %s",
                         g_strerror(-ret));
    }
    if ((points && !k->vm->debug_points) || (int3 && !k->vm->debug_int3)) {
        error_set(err, PVEMU_ERROR_HOST,
                  "this host's KVM does not stop a guest at %s",
                  points && !k->vm->debug_points ? "breakpoints in debug registers"
                                                 : "INT3 instructions");
        error_hint(err, "single steps work; so does everything with the other engines");
        return false;
    }
    return true;
}

static bool debug_add_point(struct kvm_guest_debug *d, unsigned i, const struct vcpu_point *p)
{
    static const uint8_t kinds[] = {
        [VCPU_POINT_EXEC] = 0, [VCPU_POINT_WRITE] = 1, [VCPU_POINT_ACCESS] = 3,
    };
    unsigned len = p->kind == VCPU_POINT_EXEC ? 1 : p->len;

    if ((len != 1 && len != 2 && len != 4 && len != 8) || (p->gva & (len - 1)) != 0) {
        return false;
    }
    d->arch.debugreg[i] = p->gva;
    d->arch.debugreg[7] |= 2ull << (2 * i) | (uint64_t)kinds[p->kind] << (16 + 4 * i) |
                           (uint64_t)(len == 8 ? DR7_LEN_8 : len - 1) << (18 + 4 * i);
    return true;
}

bool kvm_set_debug(struct vcpu *v, const struct vcpu_debug *debug, GError **err)
{
    static const struct vcpu_debug nothing;
    struct kvm_engine *k = v->engine;
    struct kvm_guest_debug d = {0};
    int ret;

    debug = debug != NULL ? debug : &nothing;
    if (debug->nr_points > VCPU_POINTS) {
        return error_set(err, PVEMU_ERROR_LIMIT, "there are only %u breakpoints", VCPU_POINTS);
    }
    d.arch.debugreg[7] = DR7_ON;
    for (unsigned i = 0; i < debug->nr_points; i++) {
        if (!debug_add_point(&d, i, &debug->points[i])) {
            return error_set(err, PVEMU_ERROR_USAGE,
                             "breakpoint %u: 1, 2, 4 or 8 bytes at a multiple of that", i);
        }
    }
    d.control = (debug->step ? KVM_GUESTDBG_SINGLESTEP : 0) |
                (debug->int3 ? KVM_GUESTDBG_USE_SW_BP : 0) |
                (debug->nr_points > 0 ? KVM_GUESTDBG_USE_HW_BP : 0);
    d.control |= d.control != 0 ? KVM_GUESTDBG_ENABLE : 0;
    if (d.control != 0 && !debug_may(k, debug, err)) {
        return false;
    }
    ret = v->pv != NULL ? 0 : kvm_ioctl(k->vm->sys, k->fd, KVM_SET_GUEST_DEBUG, &d);
    if (ret < 0) {
        return error_set(err, PVEMU_ERROR_HOST, "KVM cannot debug guests: %s",
                         g_strerror(-ret));
    }
    k->debug = d;
    return true;
}

/* --- running --- */

bool kvm_debug_stepped(struct kvm_engine *k, struct exit *exit)
{
    if ((k->debug.control & KVM_GUESTDBG_SINGLESTEP) == 0) {
        return false;
    }
    exit->kind = EXIT_DEBUG;
    exit->stop = VCPU_STOP_STEP;
    k->debug_dr6 = KVM_DR6_BS;
    return true;
}

int kvm_debug_enter(struct kvm_engine *k)
{
    int ret;

    if (k->debug.control == 0) {
        return 0;
    }
    kvm_put_regs(k);
    k->run->kvm_dirty_regs = 0;
    ret = kvm_ioctl(k->vm->sys, k->fd, KVM_SET_REGS, &k->run->s.regs.regs);
    /* KVM steps from the instruction that RIP is at now, and from no other. */
    return ret < 0 ? ret : kvm_ioctl(k->vm->sys, k->fd, KVM_SET_GUEST_DEBUG, &k->debug);
}

uint64_t kvm_debug_enabled(uint64_t dr7)
{
    uint64_t points = 0;

    for (unsigned i = 0; i < VCPU_POINTS; i++) {
        points |= (dr7 >> (2 * i) & 3) != 0 ? 1u << i : 0;
    }
    return points;
}

bool kvm_debug_exit(struct kvm_engine *k, struct exit *exit)
{
    const struct kvm_debug_exit_arch *d = &k->run->debug.arch;
    const bool points = (k->debug.control & KVM_GUESTDBG_USE_HW_BP) != 0;

    exit->kind = EXIT_DEBUG;
    if (d->exception == CPU_BP) {
        exit->stop = VCPU_STOP_INT3;
        return false;
    }
    k->debug_dr6 = d->dr6;
    exit->stop = points ? (unsigned)(d->dr6 & kvm_debug_enabled(k->debug.arch.debugreg[7])) *
                              VCPU_STOP_POINT
                        : 0;
    if ((d->dr6 & KVM_DR6_BS) != 0 || exit->stop == 0) {
        exit->stop |= VCPU_STOP_STEP;
    }
    return false;
}

/* --- steps, with all state at home --- */

int kvm_debug_byte(struct vcpu *v, unsigned at)
{
    const struct cpu_x86 *cpu = &v->cpu;
    const uint64_t rip = cpu->rip + at;
    uint64_t gpa;
    uint8_t byte;

    return x86_probe(v, cpu_is_code64(cpu) ? rip : (uint32_t)(rip + cpu->seg[CPU_CS].base), &gpa) && mem_read(v->mem, gpa, &byte, 1) ? byte : -1;
}

bool kvm_debug_decode(struct vcpu *v, struct insn *in)
{
    uint8_t bytes[INSN_MAX_LEN];
    size_t len = 0;
    int byte;

    while (len < sizeof(bytes) && (byte = kvm_debug_byte(v, (unsigned)len)) >= 0) {
        bytes[len++] = (uint8_t)byte;
    }
    return insn_decode(in, x86_insn_mode(&v->cpu), bytes, len) == INSN_OK;
}

/* KVM would come out with the step and lose the call. */
static bool debug_is_hypercall(struct vcpu *v)
{
    return v->cpu.cpl == 0 && kvm_debug_byte(v, 0) == OUT_IMM8 &&
           kvm_debug_byte(v, 1) == VCPU_HYPERCALL_PORT;
}

static void debug_hypercall(struct kvm_engine *k)
{
    struct cpu_x86 *cpu = &k->v->cpu;

    cpu->rip += 2;
    cpu->irq_shadow = false;
    k->regs_dirty = true;
    k->hypercalls++;
    k->v->board_ops->hypercall(k->v);
}

/* The step's instruction was carried out here. true. */
static bool debug_carried_out(struct kvm_engine *k, struct exit *exit)
{
    if (k->v->cpu.halted) {
        exit->kind = EXIT_HALT;
        return true;
    }
    return kvm_debug_stepped(k, exit);
}

/* What shows TF to the guest, takes it from it, or clears it on the way to somewhere else. */
static bool debug_moves_flags(const struct insn *in)
{
    switch (in->id) {
    case INSN_PUSHF:
    case INSN_POPF:
    case INSN_INT:
    case INSN_INT3:
    case INSN_INTO:
    case INSN_INT1:
    case INSN_IRET:
    case INSN_SYSCALL:
    case INSN_SYSRET:
    case INSN_SYSENTER:
    case INSN_SYSEXIT:
        return true;
    default:
        return false;
    }
}

/* Whether KVM is to stop before the instruction. */
static bool debug_stops_before(const struct kvm_engine *k, const struct insn *in)
{
    const uint64_t dr7 = k->debug.arch.debugreg[7];
    const struct cpu_x86 *cpu = &k->v->cpu;
    const uint64_t at = cpu->rip + (cpu_is_code64(cpu) ? 0 : cpu->seg[CPU_CS].base);

    if ((k->debug.control & KVM_GUESTDBG_USE_SW_BP) != 0 && in->id == INSN_INT3) {
        return true;
    }
    for (unsigned i = 0; i < VCPU_POINTS; i++) {
        if ((dr7 >> (2 * i) & 3) != 0 && (dr7 >> (16 + 4 * i) & 3) == 0 &&
            k->debug.arch.debugreg[i] == at) {
            return true;
        }
    }
    return false;
}

/* false: a triple fault. */
static bool debug_raise(struct vcpu *v, uint64_t dr6, struct exit *exit)
{
    return x86_raise(v, &(struct x86_fault){.vector = CPU_DB, .dr6 = dr6}) ||
           kvm_run_triple(exit);
}

static bool debug_carry_out(struct vcpu *v, const struct insn *in, struct exit *exit)
{
    struct cpu_x86 *cpu = &v->cpu;
    const bool step = (cpu->rflags & CPU_TF) != 0;
    struct x86_fault fault;

    cpu->rflags &= ~(uint64_t)CPU_RF;
    cpu->irq_shadow = false;
    if (!x86_system_insn(v, in, &fault)) {
        return x86_raise(v, &fault) || kvm_run_triple(exit);
    }
    /* SDM vol. 3 17.3.1.4: none behind what has cleared it on its way. */
    if (step && ((cpu->rflags & CPU_TF) != 0 || in->id == INSN_POPF || in->id == INSN_IRET)) {
        return debug_raise(v, KVM_DR6_BS, exit);
    }
    return true;
}

/* Interrupts are delivered here: a frame that the processor pushes would show the step's TF. */
static bool debug_events(struct vcpu *v, struct exit *exit)
{
    struct cpu_x86 *cpu = &v->cpu;
    int vector;

    if ((atomic_load(&v->request) & VCPU_REQ_NMI) != 0) {
        atomic_fetch_and(&v->request, ~(uint32_t)VCPU_REQ_NMI);
        cpu->nmi_pending = true;
    }
    if (cpu->irq_shadow) {
        return true;
    }
    if (cpu->nmi_pending && !cpu->nmi_blocked) {
        cpu->nmi_pending = false;
        return x86_nmi(v) || kvm_run_triple(exit);
    }
    if ((atomic_load(&v->request) & VCPU_REQ_IRQ) == 0 || (cpu->rflags & CPU_IF) == 0) {
        return true;
    }
    atomic_fetch_and(&v->request, ~(uint32_t)VCPU_REQ_IRQ);
    vector = v->board_ops->irq_ack(v);
    return vector < 0 || x86_interrupt(v, (uint8_t)vector) || kvm_run_triple(exit);
}

bool kvm_debug_home(struct kvm_engine *k, struct exit *exit)
{
    struct vcpu *v = k->v;
    struct insn in;
    int ret;

    if (!kvm_debug_holds(k)) {
        return false;
    }
    ret = k->load_all ? 0 : kvm_fetch_all(k);
    if (ret < 0) {
        kvm_run_failed(exit, KVM_NOT_GIVEN, -ret);
        return true;
    }
    if (k->triple) {
        kvm_run_triple(exit);
        return true;
    }
    if ((atomic_load(&v->request) & VCPU_REQ_STOP) != 0) {
        return true; /* exit->kind is EXIT_KICK */
    }
    k->load_all = true;
    if (!debug_events(v, exit)) {
        return true;
    }
    k->debug_rip = v->cpu.rip;
    k->debug_dr6 = 0;
    k->debug_trap_flag = (v->cpu.rflags & CPU_TF) != 0;
    if (!kvm_debug_decode(v, &in) || debug_stops_before(k, &in)) {
        return false;
    }
    if (debug_is_hypercall(v)) {
        debug_hypercall(k);
    } else if (!debug_moves_flags(&in)) {
        return false;
    } else if (!debug_carry_out(v, &in, exit)) {
        return true;
    }
    return debug_carried_out(k, exit);
}

void kvm_debug_left(struct kvm_engine *k, struct exit *exit)
{
    struct cpu_x86 *cpu = &k->v->cpu;
    const bool db = exit->kind == EXIT_DEBUG && (exit->stop & VCPU_STOP_INT3) == 0;
    const bool stepped = db && (k->debug_dr6 & KVM_DR6_BS) != 0;
    uint64_t dr6 = 0;

    if (exit->kind == EXIT_HALT) { /* by one that was stepped, most likely: HLT is a byte */
        cpu->rflags |= k->debug_trap_flag && cpu->rip == k->debug_rip + 1 ? CPU_TF : 0;
        return;
    }
    if (!stepped && cpu->rip != k->debug_rip) {
        return; /* in what an exception has led to: TF is clear there */
    }
    cpu->rflags |= k->debug_trap_flag ? CPU_TF : 0;
    k->load_all = true;
    if (db && (k->debug.control & KVM_GUESTDBG_USE_HW_BP) == 0) {
        dr6 = k->debug_dr6 & kvm_debug_enabled(cpu->dr[7]);
    }
    if (stepped && k->debug_trap_flag) {
        dr6 |= KVM_DR6_BS;
    }
    if (dr6 != 0) {
        if (!stepped) { /* before the instruction */
            cpu->rflags |= CPU_RF;
        }
        debug_raise(k->v, dr6, exit);
    }
}

/* --- steps, where the state is KVM's --- */

/* Whether KVM delivers something before the instruction. */
static bool debug_event_first(struct kvm_engine *k)
{
    struct kvm_vcpu_events e;

    return kvm_ioctl(k->vm->sys, k->fd, KVM_GET_VCPU_EVENTS, &e) < 0 ||
           e.exception.injected != 0 || e.exception.pending != 0 || e.nmi.injected != 0 ||
           e.interrupt.injected != 0;
}

bool kvm_debug_hypercall(struct kvm_engine *k, struct exit *exit)
{
    struct vcpu *v = k->v;

    if ((k->debug.control & KVM_GUESTDBG_SINGLESTEP) == 0 || k->vm->chip != &kvm_chip_split ||
        v->rest != VCPU_RUNS || kvm_fetch_for_call(k) < 0 || !debug_is_hypercall(v) ||
        debug_event_first(k)) {
        return false;
    }
    debug_hypercall(k);
    return debug_carried_out(k, exit);
}
