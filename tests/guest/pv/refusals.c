/* SPDX-License-Identifier: MIT */
/*
 * What the other kernels' plain cases leave of refusals: answers that cannot be written, since
 * their page is read-only, exchanges, owners of page tables, debug registers with CR4.DE, and
 * iret to segments that are none.
 */
#include "pv.h"

#include <xen/grant_table.h>

enum { LONG_TABLE = 3000, GP = 13 };

static uint8_t *answer; /* read-only */

/* A structure to read at `answer`. */
#define GIVE(value)                                                                            \
    do {                                                                                       \
        CHECK(make_rw(answer), 0);                                                             \
        __typeof__(value) copy_ = (value);                                                     \
        for (unsigned i = 0; i < sizeof(copy_); i++) {                                         \
            answer[i] = ((uint8_t *)&copy_)[i];                                                \
        }                                                                                      \
        CHECK(make_ro(answer), 0);                                                             \
    } while (0)

/* --- Answers that cannot be written --- */

static void check_version_and_memory(void)
{
    struct xen_memory_exchange none = {.in = {.domid = DOMID_SELF},
                                       .out = {.domid = DOMID_SELF}};
    const unsigned subs[] = {XENVER_extraversion, XENVER_compile_info, XENVER_capabilities,
                             XENVER_changeset, XENVER_platform_parameters, XENVER_get_features,
                             XENVER_guest_handle, XENVER_commandline};

    GIVE(0ull);
    for (unsigned i = 0; i < sizeof(subs) / sizeof(subs[0]); i++) {
        CHECK(HC2(xen_version, subs[i], answer), -EFAULT_);
    }
    CHECK(HC2(memory_op, XENMEM_machphys_mapping, answer), -EFAULT_);
    CHECK(HC2(memory_op, XENMEM_machphys_mfn_list, answer), -EFAULT_);
    CHECK(HC2(memory_op, XENMEM_machphys_compat_mfn_list, answer), -EFAULT_);
    CHECK(HC2(memory_op, XENMEM_memory_map, answer), -EFAULT_);
    CHECK(HC3(vcpu_op, VCPUOP_get_runstate_info, 0, answer), -EFAULT_);
    GIVE(none);
    CHECK(HC2(memory_op, XENMEM_exchange, answer), -EFAULT_);
}

static void check_events(void)
{
    struct evtchn_alloc_unbound alloc = {.dom = DOMID_SELF, .remote_dom = DOMID_SELF};
    struct evtchn_bind_interdomain pair = {.remote_dom = DOMID_SELF};
    struct evtchn_bind_virq virq = {.virq = VIRQ_DEBUG};
    struct evtchn_bind_ipi ipi = {.vcpu = 0};
    struct evtchn_status status = {.dom = DOMID_SELF};
    struct evtchn_init_control control = {.control_gfn = va_mfn(page_alloc())};

    CHECK(HC2(event_channel_op, EVTCHNOP_alloc_unbound, &alloc), 0);
    pair.remote_port = alloc.port;
    GIVE(alloc);
    CHECK(HC2(event_channel_op, EVTCHNOP_alloc_unbound, answer), -EFAULT_);
    GIVE(pair);
    CHECK(HC2(event_channel_op, EVTCHNOP_bind_interdomain, answer), -EFAULT_);
    GIVE(virq);
    CHECK(HC2(event_channel_op, EVTCHNOP_bind_virq, answer), -EFAULT_);
    GIVE(ipi);
    CHECK(HC2(event_channel_op, EVTCHNOP_bind_ipi, answer), -EFAULT_);
    GIVE(status);
    CHECK(HC2(event_channel_op, EVTCHNOP_status, answer), -EFAULT_);
    GIVE(control);
    CHECK(HC2(event_channel_op, EVTCHNOP_init_control, answer), -EFAULT_);
}

static void check_grants(void)
{
    struct gnttab_query_size query = {.dom = DOMID_SELF};
    struct gnttab_get_version version = {.dom = DOMID_SELF};
    const unsigned lists[] = {GNTTABOP_copy, GNTTABOP_map_grant_ref, GNTTABOP_unmap_grant_ref,
                              GNTTABOP_set_version};

    GIVE(query);
    CHECK(HC3(grant_table_op, GNTTABOP_query_size, answer, 1), -EFAULT_);
    CHECK(HC3(grant_table_op, GNTTABOP_setup_table, answer, 1), -EFAULT_);
    GIVE(version);
    CHECK(HC3(grant_table_op, GNTTABOP_get_version, answer, 1), -EFAULT_);
    for (unsigned i = 0; i < sizeof(lists) / sizeof(lists[0]); i++) {
        CHECK(HC3(grant_table_op, lists[i], answer, 1), -EFAULT_);
    }
}

static void check_multicall(void)
{
    struct multicall_entry entry = {.op = __HYPERVISOR_xen_version, .args = {XENVER_version}};
    struct {
        struct multicall_entry entry[1];
    } list = {{entry}};

    GIVE(list);
    CHECK(HC2(multicall, answer, 1), -EFAULT_);
}

/* --- Memory --- */

static long exchange(struct xen_memory_exchange *op)
{
    return HC2(memory_op, XENMEM_exchange, op);
}

static void check_exchange(void)
{
    uint64_t *page = page_alloc(), mfn = va_mfn(page), pfn = ((uint64_t)page - KV) >> 12;
    struct xen_memory_exchange good = {.in = {.nr_extents = 1, .domid = DOMID_SELF},
                                       .out = {.nr_extents = 1, .domid = DOMID_SELF}}, op;
    struct xen_memory_reservation back = {.nr_extents = 1, .domid = DOMID_SELF};
    uint64_t in = mfn, out = pfn;

    set_xen_guest_handle(good.in.extent_start, &in);
    set_xen_guest_handle(good.out.extent_start, &out);
    CHECK(update_va(page, 0, UVMF_INVLPG), 0);
    op = good, op.in.domid = 77;
    CHECK(exchange(&op), -ESRCH_);
    op.in.domid = 0;
    CHECK(exchange(&op), -EPERM_);
    op = good, op.out.domid = 77;
    CHECK(exchange(&op), -EINVAL_);
    op = good, op.nr_exchanged = 2;
    CHECK(exchange(&op), -EINVAL_);
    op = good, op.in.extent_order = 64;
    CHECK(exchange(&op), -EINVAL_);
    op = good, op.out.extent_order = 64;
    CHECK(exchange(&op), -EINVAL_);
    op = good, op.in.nr_extents = 1ull << 50;
    CHECK(exchange(&op), -EINVAL_);
    op = good, op.in.extent_order = 1;
    CHECK(exchange(&op), -EPERM_);
    op = good, op.out.nr_extents = 2;
    CHECK(exchange(&op), -EINVAL_);
    op = good, op.in.nr_extents = op.out.nr_extents = 0;
    CHECK(exchange(&op), 0);
    op = good;
    set_xen_guest_handle(op.in.extent_start, (uint64_t *)BAD_POINTER);
    CHECK(exchange(&op), -EFAULT_);
    op = good;
    set_xen_guest_handle(op.out.extent_start, (uint64_t *)BAD_POINTER);
    CHECK(exchange(&op), -EFAULT_);
    CHECK(op.nr_exchanged, 0);
    GIVE(pfn); /* read, but not told where the frame is */
    op = good;
    set_xen_guest_handle(op.out.extent_start, (uint64_t *)answer);
    CHECK(exchange(&op), -EFAULT_);
    CHECK(op.nr_exchanged, 1);
    CHECK(((uint64_t *)HV)[mfn], pfn); /* it is this one */
    set_xen_guest_handle(back.extent_start, &in);
    CHECK(HC2(memory_op, 5 << 6 | XENMEM_decrease_reservation, &back), 5); /* behind its end */
    CHECK(HC2(memory_op, XENMEM_decrease_reservation, &back), 1);
    in = pfn;
    CHECK(HC2(memory_op, XENMEM_populate_physmap, &back), 1);
    CHECK(update_va(page, in << 12 | P | RW | US, UVMF_INVLPG), 0);
}

/* Page tables: whose they are, and entries of the upper levels. */
static void check_tables(void)
{
    uint64_t *l2 = page_alloc(), m2 = va_mfn(l2) << 12;
    uint64_t *l1 = page_alloc(), m1 = va_mfn(l1) << 12;
    struct mmu_update req = {.ptr = m2, .val = 0};
    struct mmuext_op op = {.cmd = MMUEXT_TLB_FLUSH_LOCAL};
    const unsigned long stranger = DOMID_SELF | 78ul << 16, zero = DOMID_SELF | 1ul << 16;

    CHECK(make_ro(l1), 0);
    CHECK(make_ro(l2), 0);
    CHECK(mmuext1(MMUEXT_PIN_L2_TABLE, m2 >> 12, 0), 0);
    CHECK(HC4(mmu_update, &req, 1, 0, stranger), -ESRCH_);
    CHECK(HC4(mmu_update, &req, 1, 0, zero), -EPERM_);
    CHECK(HC4(mmu_update, &req, 1, 0, DOMID_SELF | 2ul << 16), 0); /* ourselves, as domain 1 */
    CHECK(HC4(mmuext_op, &op, 1, 0, stranger), -ESRCH_);
    CHECK(HC4(mmuext_op, &op, 1, 0, zero), -EPERM_);
    CHECK(mmu_update1(m2, m1 | P | PWT), -EINVAL_);
    CHECK(mmu_update1(m2, m1 | P | G), -EINVAL_);
    CHECK(mmu_update1(m2, 1ull << 50 | P), -EINVAL_); /* nobody's */
    CHECK(mmuext1(MMUEXT_UNPIN_TABLE, m2 >> 12, 0), 0);
    CHECK(make_rw(l2), 0);
    l2[5] = m1 | P | PWT;
    CHECK(make_ro(l2), 0);
    CHECK(mmuext1(MMUEXT_PIN_L2_TABLE, m2 >> 12, 0), -EINVAL_);
    CHECK(make_rw(l2), 0);
    l2[5] = 1ull << 50 | P;
    CHECK(make_ro(l2), 0);
    CHECK(mmuext1(MMUEXT_PIN_L2_TABLE, m2 >> 12, 0), -EINVAL_);
    CHECK(make_rw(l2), 0);
    l2[5] = m2 | P; /* itself */
    CHECK(make_ro(l2), 0);
    CHECK(mmuext1(MMUEXT_PIN_L2_TABLE, m2 >> 12, 0), -EINVAL_);
    CHECK(make_rw(l2), 0);
    l2[5] = m1 | P; /* this is one */
    CHECK(make_ro(l2), 0);
    CHECK(mmuext1(MMUEXT_PIN_L2_TABLE, m2 >> 12, 0), 0);
    CHECK(mmuext1(MMUEXT_UNPIN_TABLE, m2 >> 12, 0), 0);
    CHECK(make_rw(l2), 0);
    CHECK(make_rw(l1), 0);
}

/* --- The processor --- */

static void set_cr4(uint64_t bits, bool set)
{
    uint64_t cr4;

    __asm__ volatile("movq %%cr4, %0" : "=r"(cr4));
    cr4 = set ? cr4 | bits : cr4 & ~bits;
    __asm__ volatile("movq %0, %%cr4" : : "r"(cr4));
}

static void check_debug_registers(void)
{
    CHECK(HC2(set_debugreg, 4, 0), 0); /* DR6 by its other name */
    CHECK(HC1(get_debugreg, 4), HC1(get_debugreg, 6));
    CHECK(HC2(set_debugreg, 2, 1ull << 60), -EPERM_);
    set_cr4(8, true); /* DE */
    CHECK(HC2(set_debugreg, 4, 0), -ENODEV_);
    CHECK(HC2(set_debugreg, 5, 0), -ENODEV_);
    CHECK(HC1(get_debugreg, 5), -ENODEV_);
    CHECK(HC2(set_debugreg, 7, 1 | 2 << 16), 0); /* I/O */
    CHECK(HC2(set_debugreg, 7, 0), 0);
    set_cr4(8, false);
}

/* A callback's old name, and more gates than one call may set. */
static void check_traps(void)
{
    struct callback_register old = {.type = CALLBACKTYPE_sysenter_deprecated, .address = KV};
    struct callback_unregister un = {.type = CALLBACKTYPE_sysenter_deprecated};

    static struct trap_info table[LONG_TABLE + 1];

    CHECK(HC2(callback_op, CALLBACKOP_register, &old), 0);
    CHECK(HC2(callback_op, CALLBACKOP_unregister, &un), -EINVAL_);
    for (unsigned i = 0; i < LONG_TABLE; i++) {
        table[i] = (struct trap_info){.vector = 200, .cs = 0xe033, .address = KV + i};
    }
    CHECK(HC1(set_trap_table, table), 0);
    table[LONG_TABLE] = (struct trap_info){.vector = 200, .address = 1ull << 60};
    CHECK(HC1(set_trap_table, table), -EINVAL_);
}

/* By hand: iret(cs, ss), with events masked as they were. */
void bad_iret(uint64_t cs, uint64_t ss);
__asm__(".text\nbad_iret:\n\t"
        "movq %rsp, %rax\n\tpushq %rsi\n\tpushq %rax\n\tpushq $2\n\tpushq %rdi\n\t"
        "pushq $1f\n\tpushq $0\n\t"
#ifdef BY_PAGE
        "jmp hypercall_page + 23 * 32\n"
#else
        "pushq %rcx\n\tpushq %r11\n\tpushq %rax\n\tmovl $23, %eax\n\tsyscall\n"
#endif
        "1:\tmovb $1, iret_reached(%rip)\n\tret\n");
volatile bool iret_reached;
static uint64_t bad_ss;

static long try_iret(uint64_t cs)
{
    bad_iret(cs, bad_ss);
    return 0;
}

/* try_call() comes back in the kernel, whatever the segments were. */
static bool repair(struct frame *f)
{
    f->cs = 0xe033 & ~3;
    f->ss = 0xe02b;
    return false;
}

static void check_iret(void)
{
    hook = repair;
    bad_ss = 0xe02b;
    CHECK(try_call(try_iret, 0x1230), GP + 1);
    CHECK(last.error, 0x1230);
    CHECK(try_call(try_iret, 0xe02b & ~3), GP + 1); /* no code */
    CHECK(last.error, 0xe02b & ~3);
    CHECK(try_call(try_iret, 0), GP + 1);
    CHECK(last.error, 0);
    bad_ss = 0x1238;
    CHECK(try_call(try_iret, 0xe033 & ~3), GP + 1);
    CHECK(last.error, 0x1238);
    CHECK_TRUE(!iret_reached);
    bad_ss = 0xe02b;
    CHECK(try_call(try_iret, 0xe033 & ~3), 0);
    CHECK_TRUE(iret_reached);
}

void test(void)
{
    answer = page_alloc();
    traps_init();
    check_version_and_memory();
    check_events();
    check_grants();
    check_multicall();
    check_exchange();
    check_tables();
    check_debug_registers();
    check_traps();
    check_iret();
}
