/* SPDX-License-Identifier: MIT */
/* The part that all PV test kernels have in common; see pv.h. */
#include "pv.h"

struct frame last;
unsigned nr_traps, nr_events;
bool (*hook)(struct frame *f);
static uint8_t pool[64][4096] __attribute__((aligned(4096)));
static unsigned pool_used;
static uint8_t shared_page[4096] __attribute__((aligned(4096)));

/* --- traps --- */

void user_return(struct frame *f)
{
    f->rip = (uint64_t)user_left;
    f->cs = 0xe030;
    f->ss = 0xe02b;
    f->rsp = boot_stack - 2048;
}

void trap_handler(struct frame *f);

void trap_handler(struct frame *f)
{
    if (f->vector == V_EVENT) {
        nr_events++;
    } else {
        nr_traps++;
    }
    last = *f;
    if (hook != NULL && hook(f)) {
        return;
    }
    if (f->vector == V_EVENT) {
        return;
    }
    if (try_landing != 0) {
        f->rax = f->vector + 1;
        f->rip = try_landing;
        f->rsp = try_stack;
        f->flags &= ~0x100ull;
        return;
    }
    say("unexpected trap ");
    say_hex(f->vector);
    say(" error ");
    say_hex(f->error);
    say(" at ");
    say_hex(f->rip);
    say("\n");
    check(false, "no unexpected trap", f->vector);
    finish();
}

static uint64_t stub(unsigned vector)
{
    return (uint64_t)trap_stubs + vector * 16;
}

void set_gate(uint8_t vector, uint8_t flags, uint64_t address)
{
    struct trap_info table[2] = {{.vector = vector, .flags = flags, .cs = 0xe033,
                                  .address = address}};

    CHECK(HC1(set_trap_table, table), 0);
}

static void set_callback(uint16_t type, unsigned vector)
{
    struct callback_register op = {.type = type, .address = stub(vector)};

    CHECK(HC2(callback_op, CALLBACKOP_register, &op), 0);
}

void traps_init(void)
{
    for (unsigned i = 0; i < 256; i++) {
        set_gate((uint8_t)i, i == 3 || i == 0x80 ? 3 : i == 0x81 ? 1 : 0, stub(i));
    }
    set_callback(CALLBACKTYPE_event, V_EVENT);
    set_callback(CALLBACKTYPE_failsafe, V_FAILSAFE);
    set_callback(CALLBACKTYPE_syscall, V_SYSCALL);
    set_callback(CALLBACKTYPE_sysenter, V_SYSENTER);
    set_callback(CALLBACKTYPE_syscall32, V_SYSCALL32);
}

/* --- memory --- */

void *page_alloc(void)
{
    return pool_used < 64 ? pool[pool_used++] : NULL;
}

uint64_t va_mfn(const void *va)
{
    return ((uint64_t *)start_info->mfn_list)[((uint64_t)va - KV) >> 12];
}

/* The builder's tables lie in a row; the machine-to-physical table finds them. */
static uint64_t *table_va(uint64_t entry)
{
    const uint64_t *m2p = (const uint64_t *)HV;

    return (uint64_t *)(KV + (m2p[FRAME(entry)] << 12));
}

uint64_t *l1e_of(const void *va)
{
    uint64_t a = (uint64_t)va;
    uint64_t *table = (uint64_t *)start_info->pt_base;

    for (unsigned shift = 39; shift > 12; shift -= 9) {
        table = table_va(table[a >> shift & 511]);
    }
    return &table[a >> 12 & 511];
}

struct shared_info *map_shared_info(void)
{
    CHECK(update_va(shared_page, start_info->shared_info | P | RW, UVMF_INVLPG), 0);
    return (struct shared_info *)shared_page;
}

long update_va(const void *va, uint64_t pte, uint64_t flags)
{
    return HC3(update_va_mapping, va, pte, flags);
}

long mmu_update1(uint64_t ptr, uint64_t val)
{
    struct mmu_update req = {.ptr = ptr, .val = val};

    return HC4(mmu_update, &req, 1, 0, DOMID_SELF);
}

long mmuext1(unsigned cmd, uint64_t arg1, uint64_t arg2)
{
    struct mmuext_op op = {.cmd = cmd, .arg1.mfn = arg1, .arg2.src_mfn = arg2};

    return HC4(mmuext_op, &op, 1, 0, DOMID_SELF);
}

long make_ro(const void *va)
{
    return update_va(va, va_mfn(va) << 12 | P | US | A, UVMF_INVLPG);
}

long make_rw(const void *va)
{
    return update_va(va, va_mfn(va) << 12 | P | RW | US | A, UVMF_INVLPG);
}

void kernel_context(struct vcpu_guest_context *context, void *code, void *stack_end)
{
    context->flags = VGCF_in_kernel;
    context->user_regs.rip = (uint64_t)code;
    context->user_regs.cs = 0xe033;
    context->user_regs.ss = context->user_regs.ds = context->user_regs.es = 0xe02b;
    context->user_regs.rsp = context->kernel_sp = (uint64_t)stack_end - 8;
    context->kernel_ss = 0xe02b;
    context->ctrlreg[3] = va_mfn((void *)start_info->pt_base) << 12;
}
