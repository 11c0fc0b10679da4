/* SPDX-License-Identifier: MIT */
/*
 * KVM's split irqchip: local APICs in KVM, nothing else of an interrupt controller.
 *
 * KVM carries out HLT, INIT, start-up messages and IPIs itself, and the sleep of a hypercall is a
 * HLT there too. Between runs everything is KVM's; the board takes it out of all vCPUs when none
 * runs (settle, fetch) and puts it back (load). The state of a vCPU for the board (v->rest) is
 * KVM_GET_MP_STATE, which carries out an INIT that has come first.
 *
 * A vector that wants no EOI cannot go by the APIC: it is given as one that KVM has already taken
 * (KVM_SET_VCPU_EVENTS) when the vCPU can take it. KVM does not tell when that will be, so it is
 * tried at exits and when the board's clock says so.
 */
#include "engine.h"

#include <errno.h>
#include <string.h>

#include "base/error.h"
#include "cpu/x86/x86.h"

enum { CHIP_PINS = 24, CHIP_REG_BYTES = 16, CHIP_TPR = 8, MSI_LEVEL = 0x8000 };
#define MSR_TSC_DEADLINE 0x6e0u
#define KVM_NO_ROUTE "it takes no more interrupts of devices"

bool kvm_chip_make_split(struct kvm_vm *vm, GError **err)
{
    struct kvm_enable_cap cap = {.cap = KVM_CAP_SPLIT_IRQCHIP, .args = {CHIP_PINS}};
    int ret = kvm_ioctl(vm->sys, vm->fd, KVM_ENABLE_CAP, &cap);

    if (ret >= 0) {
        return true;
    }
    error_set(err, PVEMU_ERROR_HOST, "-accel kvm,irqchip=split: KVM has no local APICs for it: %s",
              g_strerror(-ret));
    error_hint(err, "leave irqchip=split away: pvemu then has its own");
    return false;
}

unsigned long kvm_chip_vcpu_id(const struct kvm_vm *vm, unsigned vcpu)
{
    return vm->chip == &kvm_chip_split ? 2ul * vcpu : vcpu; /* as CPUID and ACPI say */
}

/* --- what a vCPU does --- */

static int chip_get_mp(struct kvm_engine *k)
{
    struct kvm_mp_state mp;
    int ret = kvm_ioctl(k->vm->sys, k->fd, KVM_GET_MP_STATE, &mp);

    if (ret >= 0) {
        k->mp_state = mp.mp_state;
    }
    return ret;
}

int kvm_chip_set_mp(struct kvm_engine *k, uint32_t state)
{
    struct kvm_mp_state mp = {.mp_state = state};
    int ret = kvm_ioctl(k->vm->sys, k->fd, KVM_SET_MP_STATE, &mp);

    if (ret >= 0) {
        k->mp_state = state;
    }
    return ret;
}

/* HLT or a sleep; whether it is the one that the board told, and whether it can end. */
static int chip_look_halted(struct kvm_engine *k)
{
    struct vcpu *v = k->v;
    struct kvm_vcpu_events events;
    struct kvm_regs regs;
    int ret = kvm_ioctl(k->vm->sys, k->fd, KVM_GET_REGS, &regs);

    if (ret < 0) {
        return ret;
    }
    v->rest_same = v->rest != VCPU_RUNS && regs.rip == k->rest_rip;
    v->rest = VCPU_HALTS;
    if ((regs.rflags & CPU_IF) != 0) {
        return 0;
    }
    ret = kvm_ioctl(k->vm->sys, k->fd, KVM_GET_VCPU_EVENTS, &events);
    if (ret >= 0 && events.nmi.pending == 0 && !v->cpu.nmi_pending) {
        v->rest = VCPU_DEAD;
    }
    return ret;
}

static int chip_look(struct kvm_engine *k)
{
    int ret = chip_get_mp(k);

    if (ret < 0) {
        return ret;
    }
    switch (k->mp_state) {
    case KVM_MP_STATE_HALTED:
        return chip_look_halted(k);
    case KVM_MP_STATE_UNINITIALIZED:
        k->v->rest = VCPU_KEPT;
        return 0;
    case KVM_MP_STATE_INIT_RECEIVED:
    case KVM_MP_STATE_SIPI_RECEIVED:
        k->v->rest = VCPU_OFF;
        return 0;
    default:
        k->v->rest = VCPU_RUNS;
        return 0;
    }
}

static uint32_t chip_mp_of(enum vcpu_rest rest)
{
    switch (rest) {
    case VCPU_HALTS:
    case VCPU_DEAD:
        return KVM_MP_STATE_HALTED;
    case VCPU_KEPT:
        return KVM_MP_STATE_UNINITIALIZED; /* only INIT is listened to, nothing is changed */
    case VCPU_OFF:
        return KVM_MP_STATE_INIT_RECEIVED;
    default:
        return KVM_MP_STATE_RUNNABLE;
    }
}

/* General registers to KVM at once: a vCPU that waits for its start must not have them pending. */
static int chip_flush_regs(struct kvm_engine *k)
{
    struct kvm_regs regs = kvm_regs_of(&k->v->cpu);

    k->regs_dirty = false;
    k->run->kvm_dirty_regs = 0;
    k->run->if_flag = (regs.rflags & CPU_IF) != 0;
    return kvm_ioctl(k->vm->sys, k->fd, KVM_SET_REGS, &regs);
}

static void chip_all_away(struct kvm_engine *k)
{
    k->run->kvm_valid_regs = 0;
    k->regs_away = k->sregs_away = k->deep_away = true;
}

/* --- kvm_chip --- */

static int chip_begin(struct kvm_engine *k)
{
    struct vcpu *v = k->v;
    const uint32_t mp = chip_mp_of(v->rest);
    int ret;

    k->cr8 = k->run->cr8;
    k->apic_base = k->run->apic_base;
    if (k->load_all) {
        k->unfinished = false;
        k->regs_away = false;
        ret = kvm_load_all(k);
    } else {
        ret = kvm_load_changed(k);
    }
    if (ret >= 0 && !k->regs_away) {
        k->rest_rip = v->cpu.rip;
        ret = chip_flush_regs(k);
        k->regs_away = true;
    }
    if (ret >= 0 && mp != k->mp_state) {
        ret = kvm_chip_set_mp(k, mp);
    }
    if (ret >= 0 && k->debug.control != 0) { /* it steps from where the vCPU is now */
        ret = kvm_ioctl(k->vm->sys, k->fd, KVM_SET_GUEST_DEBUG, &k->debug);
    }
    return ret;
}

/* Whether nothing is in the way of an interrupt; *e is what KVM is about to deliver. */
static bool chip_can_take(struct kvm_engine *k, struct kvm_vcpu_events *e, int *ret)
{
    const bool open = k->regs_away ? k->run->if_flag != 0 : (k->v->cpu.rflags & CPU_IF) != 0;

    if (!open) {
        return false;
    }
    *ret = kvm_ioctl(k->vm->sys, k->fd, KVM_GET_VCPU_EVENTS, e);
    if (*ret < 0 || e->exception.injected != 0 || e->exception.pending != 0 ||
        e->interrupt.injected != 0 || e->nmi.injected != 0 || e->interrupt.shadow != 0) {
        return false;
    }
    *ret = chip_get_mp(k);
    return *ret >= 0 &&
           (k->mp_state == KVM_MP_STATE_RUNNABLE || k->mp_state == KVM_MP_STATE_HALTED);
}

/* 1: given; 0: not now. */
static int chip_inject(struct kvm_engine *k, uint8_t vector)
{
    struct kvm_vcpu_events e;
    int ret = 0;

    if (!chip_can_take(k, &e, &ret)) {
        return ret;
    }
    e.interrupt.injected = 1;
    e.interrupt.soft = 0;
    e.interrupt.nr = vector;
    e.flags = 0;
    ret = kvm_ioctl(k->vm->sys, k->fd, KVM_SET_VCPU_EVENTS, &e);
    if (ret >= 0 && k->mp_state != KVM_MP_STATE_RUNNABLE) {
        ret = kvm_chip_set_mp(k, KVM_MP_STATE_RUNNABLE);
    }
    return ret < 0 ? ret : 1;
}

static bool chip_offer(struct kvm_engine *k, struct exit *exit)
{
    struct vcpu *v = k->v;
    int vector, ret;

    if (k->unfinished) { /* KVM finishes the instruction and comes back */
        __atomic_store_n(&k->run->immediate_exit, 1, __ATOMIC_SEQ_CST);
        return true;
    }
    atomic_fetch_and(&v->request, ~(uint32_t)VCPU_REQ_IRQ);
    vector = v->board_ops->irq_ack(v);
    if (vector >= 0) {
        ret = chip_inject(k, (uint8_t)vector);
        if (ret < 0) {
            return kvm_run_failed(exit, "cannot give an interrupt", -ret);
        }
        if (ret == 0) {
            v->board_ops->irq_later(v);
        }
    }
    return v->rest == VCPU_RUNS; /* else the board looks whether the rest is over */
}

/* Everything to KVM, and what the vCPU does to the board, which may write to addresses by CR3. What
 * is off may have been filled in by another one: not touched. */
static int chip_leave(struct kvm_engine *k, const struct exit *exit)
{
    struct vcpu *v = k->v;
    int ret = 0;

    if (k->regs_dirty) {
        k->rest_rip = v->cpu.rip;
        ret = chip_flush_regs(k);
    }
    chip_all_away(k);
    if (exit->kind == EXIT_HALT) { /* it sleeps in a hypercall */
        v->cpu.irq_shadow = false;
        v->rest = VCPU_HALTS;
        v->rest_same = true;
        /* At once: it may be looked at before it is entered again. */
        return ret < 0 ? ret : kvm_chip_set_mp(k, KVM_MP_STATE_HALTED);
    }
    if (ret >= 0) {
        ret = chip_look(k);
    }
    if (ret >= 0 && v->rest != VCPU_OFF) {
        ret = kvm_fetch_for_call(k);
        chip_all_away(k);
    }
    return ret;
}

const struct kvm_chip kvm_chip_split = {
    .begin = chip_begin, .offer = chip_offer, .leave = chip_leave,
};

/* --- state of all vCPUs, none running --- */

static bool chip_not_given(struct exit *exit, int ret)
{
    return ret >= 0 || kvm_run_failed(exit, KVM_NOT_GIVEN, -ret);
}

struct chip_msr {
    struct kvm_msrs head;
    struct kvm_msr_entry entry;
};

static int chip_set_deadline(struct kvm_engine *k, uint64_t deadline)
{
    struct chip_msr msr = {.head = {.nmsrs = 1},
                           .entry = {.index = MSR_TSC_DEADLINE, .data = deadline}};
    int ret = kvm_ioctl(k->vm->sys, k->fd, KVM_SET_MSRS, &msr);

    return ret < 0 ? ret : ret == 1 ? 0 : -EINVAL;
}

static int chip_load_apic(struct kvm_engine *k, const struct vcpu_apic *apic)
{
    struct kvm_lapic_state page;
    int ret;

    memset(&page, 0, sizeof(page));
    for (unsigned i = 0; i < VCPU_APIC_REGS; i++) {
        memcpy(page.regs + (size_t)i * CHIP_REG_BYTES, &apic->reg[i], sizeof(apic->reg[i]));
    }
    ret = kvm_ioctl(k->vm->sys, k->fd, KVM_SET_LAPIC, &page);
    return ret < 0 || apic->deadline == 0 ? ret : chip_set_deadline(k, apic->deadline);
}

static bool chip_load(struct vcpu *v, const struct vcpu_apic *apic, struct exit *exit)
{
    struct kvm_engine *k = v->engine;
    int ret;

    if (!kvm_run_cpuid(k, exit)) { /* its timer's modes follow CPUID */
        return false;
    }
    k->cr8 = k->run->cr8 = apic->reg[CHIP_TPR] >> 4;
    k->apic_base = k->run->apic_base = apic->base;
    k->unfinished = k->xen_pending = false;
    ret = kvm_load_all(k);
    if (ret >= 0) {
        ret = chip_load_apic(k, apic);
    }
    if (ret >= 0) {
        k->rest_rip = v->cpu.rip;
        ret = chip_flush_regs(k);
    }
    if (ret >= 0) {
        ret = kvm_chip_set_mp(k, chip_mp_of(v->rest));
    }
    chip_all_away(k);
    return ret >= 0 || kvm_run_failed(exit, KVM_NOT_TAKEN, -ret);
}

static bool chip_settle(struct vcpu *v, struct exit *exit)
{
    struct kvm_engine *k = v->engine;
    int ret;

    if (k->load_all) { /* v->cpu is what counts */
        return true;
    }
    ret = chip_look(k);
    if (ret >= 0) {
        chip_all_away(k);
        ret = kvm_fetch_all(k);
        k->apic_base = k->run->s.regs.sregs.apic_base;
    }
    k->load_all = true;
    return chip_not_given(exit, ret) && (!k->triple || kvm_run_triple(exit));
}

static bool chip_fetch(struct vcpu *v, struct vcpu_apic *apic, struct exit *exit)
{
    struct kvm_engine *k = v->engine;
    struct chip_msr msr = {.head = {.nmsrs = 1}, .entry = {.index = MSR_TSC_DEADLINE}};
    struct kvm_lapic_state page;
    int ret = kvm_ioctl(k->vm->sys, k->fd, KVM_GET_LAPIC, &page);

    if (ret >= 0) {
        ret = kvm_ioctl(k->vm->sys, k->fd, KVM_GET_MSRS, &msr);
    }
    if (ret < 0) {
        return chip_not_given(exit, ret);
    }
    apic->base = k->apic_base;
    apic->deadline = msr.entry.data;
    for (unsigned i = 0; i < VCPU_APIC_REGS; i++) {
        memcpy(&apic->reg[i], page.regs + (size_t)i * CHIP_REG_BYTES, sizeof(apic->reg[i]));
    }
    return true;
}

static void chip_look_now(struct vcpu *v)
{
    if (chip_look(v->engine) < 0) {
        v->rest = VCPU_RUNS; /* its next run says what is wrong */
    }
}

/* --- messages --- */

/* KVM tells the end of a level-triggered message only when it is one of its routes. */
static void chip_add_route(struct kvm_vm *vm, uint32_t address, uint32_t data)
{
    struct {
        struct kvm_irq_routing head;
        struct kvm_irq_routing_entry entries[KVM_ROUTES];
    } table;
    int ret;

    for (unsigned i = 0; i < vm->nr_routes; i++) {
        if (vm->route[i].address == address && vm->route[i].data == data) {
            return;
        }
    }
    vm->route[vm->next_route].address = address;
    vm->route[vm->next_route].data = data;
    vm->next_route = (vm->next_route + 1) % KVM_ROUTES;
    vm->nr_routes = MIN(vm->nr_routes + 1, KVM_ROUTES);
    memset(&table, 0, sizeof(table));
    table.head.nr = vm->nr_routes;
    for (unsigned i = 0; i < vm->nr_routes; i++) {
        table.entries[i].gsi = i;
        table.entries[i].type = KVM_IRQ_ROUTING_MSI;
        table.entries[i].u.msi.address_lo = vm->route[i].address;
        table.entries[i].u.msi.data = vm->route[i].data;
    }
    ret = kvm_ioctl(vm->sys, vm->fd, KVM_SET_GSI_ROUTING, &table);
    if (ret < 0) { /* its interrupt would never end */
        kvm_vm_failed(vm, KVM_NO_ROUTE, -ret);
    }
}

static bool chip_message(struct vcpu *v, uint32_t address, uint32_t data)
{
    struct kvm_engine *k = v->engine;
    struct kvm_vm *vm = k->vm;
    struct kvm_msi msi = {.address_lo = address, .data = data};
    bool taken;

    if ((data & MSI_LEVEL) != 0) {
        chip_add_route(vm, address, data);
    }
    taken = kvm_ioctl(vm->sys, vm->fd, KVM_SIGNAL_MSI, &msi) > 0;
    vm->messages++;
    vm->dropped += !taken;
    return taken;
}

static uint64_t chip_entries(struct vcpu *v)
{
    const struct kvm_engine *k = v->engine;

    return __atomic_load_n(&k->entries, __ATOMIC_RELAXED);
}

const struct accel_apic_ops kvm_apic_ops = {
    .load = chip_load,
    .settle = chip_settle,
    .fetch = chip_fetch,
    .look = chip_look_now,
    .message = chip_message,
    .entries = chip_entries,
};
