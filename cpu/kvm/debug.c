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
 * KVM moves RIP behind an OUT to the hypercall port before it comes out; when it steps it would come
 * out with that step and lose the call. So that instruction is carried out here.
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
    TEST_INT3 = 2,        /* then OUT to the hypercall port, behind which KVM keeps nothing */
    TEST_HANDLER = 0x10,
    TEST_GDT = 0x100,
    TEST_IDT = 0x200,
    TEST_STACK = 0x1000,
    TEST_TRIES = 64, /* runs that a signal ends */
    DR7_LEN_8 = 2,
    OUT_IMM8 = 0xe6,
};
#define DR6_BS 0x4000ull
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

/* Whether KVM comes out with exception `vector` at `at`. */
static bool debug_test_run(struct kvm_engine *k, uint32_t control, unsigned at, unsigned vector)
{
    struct kvm_guest_debug d = {.control = KVM_GUESTDBG_ENABLE | control};
    struct kvm_run *run = k->run;
    int ret;

    d.arch.debugreg[0] = TEST_GPA + TEST_POINT;
    d.arch.debugreg[7] = DR7_ON | 2;
    if (debug_test_state(k, at) < 0 ||
        kvm_ioctl(k->vm->sys, k->fd, KVM_SET_GUEST_DEBUG, &d) < 0) {
        return false;
    }
    run->kvm_valid_regs = 0;
    run->kvm_dirty_regs = 0;
    run->request_interrupt_window = 0;
    for (unsigned i = 0; i < TEST_TRIES; i++) {
        __atomic_store_n(&run->immediate_exit, 0, __ATOMIC_SEQ_CST);
        ret = k->vm->sys->ioctl(k->fd, KVM_RUN, 0);
        if (ret != -EINTR && ret != -EAGAIN) {
            return ret >= 0 && run->exit_reason == KVM_EXIT_DEBUG &&
                   run->debug.arch.exception == vector;
        }
    }
    return false;
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
        vm->debug_points = debug_test_run(k, KVM_GUESTDBG_USE_HW_BP, 0, CPU_DB);
        vm->debug_int3 = debug_test_run(k, KVM_GUESTDBG_USE_SW_BP, TEST_INT3, CPU_BP);
        vm->debug_tried = true;
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

bool kvm_debug_exit(struct kvm_engine *k, struct exit *exit)
{
    const struct kvm_debug_exit_arch *d = &k->run->debug.arch;

    exit->kind = EXIT_DEBUG;
    exit->stop = d->exception == CPU_BP ? VCPU_STOP_INT3
                                        : (unsigned)(d->dr6 & 15) * VCPU_STOP_POINT;
    if (d->exception == CPU_DB && ((d->dr6 & DR6_BS) != 0 || exit->stop == 0)) {
        exit->stop |= VCPU_STOP_STEP;
    }
    return false;
}

/* A byte of the instruction at rip; -1: there is no memory. */
static int debug_byte(struct vcpu *v, unsigned at)
{
    const struct cpu_x86 *cpu = &v->cpu;
    uint64_t gva = cpu->rip + at + (cpu_is_code64(cpu) ? 0 : cpu->seg[CPU_CS].base), gpa;
    uint8_t byte;

    return x86_probe(v, gva, &gpa) && mem_read(v->mem, gpa, &byte, 1) ? byte : -1;
}

/* With KVM's local APICs: whether it delivers something before the instruction. */
static bool debug_event_first(struct kvm_engine *k)
{
    struct kvm_vcpu_events e;

    return k->vm->chip == &kvm_chip_split &&
           (kvm_ioctl(k->vm->sys, k->fd, KVM_GET_VCPU_EVENTS, &e) < 0 ||
            e.exception.injected != 0 || e.exception.pending != 0 || e.nmi.injected != 0 ||
            e.interrupt.injected != 0);
}

bool kvm_debug_hypercall(struct kvm_engine *k)
{
    struct vcpu *v = k->v;
    struct cpu_x86 *cpu = &v->cpu;

    if ((k->debug.control & KVM_GUESTDBG_SINGLESTEP) == 0 || v->rest != VCPU_RUNS ||
        kvm_fetch_for_call(k) < 0 || cpu->cpl != 0 || debug_byte(v, 0) != OUT_IMM8 ||
        debug_byte(v, 1) != VCPU_HYPERCALL_PORT || debug_event_first(k)) {
        return false;
    }
    cpu->rip += 2;
    cpu->irq_shadow = false;
    k->regs_dirty = true;
    v->board_ops->hypercall(v);
    return true;
}
