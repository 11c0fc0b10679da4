/* SPDX-License-Identifier: MIT */
/* Hypercalls that answer: every sub-op that is there and what each refuses. */
#include "pv.h"

static uint8_t gdt_page[4096] __attribute__((aligned(4096)));
static uint8_t raw_page[4096] __attribute__((aligned(4096)));

static void check_version(void)
{
    char text[1024];
    struct xen_feature_info features = {.submap_idx = 0};
    struct xen_platform_parameters platform;

    CHECK(HC2(xen_version, XENVER_extraversion, text), 0);
    CHECK(HC2(xen_version, XENVER_capabilities, text), 0);
    CHECK(HC2(xen_version, XENVER_get_features, &features), 0);
    CHECK(features.submap & (1 << XENFEAT_mmu_pt_update_preserve_ad), 32);
    CHECK(features.submap & (1 << XENFEAT_gnttab_map_avail_bits), 128);
    CHECK(features.submap & (1 << XENFEAT_writable_page_tables), 0);
    CHECK(features.submap & (1 << XENFEAT_auto_translated_physmap), 0);
    features.submap_idx = 1;
    CHECK(HC2(xen_version, XENVER_get_features, &features), -EINVAL_);
    CHECK(HC2(xen_version, XENVER_platform_parameters, &platform), 0);
    CHECK(platform.virt_start, HV);
    CHECK(HC2(xen_version, XENVER_pagesize, 0), 4096);
    CHECK(HC2(xen_version, XENVER_extraversion, BAD_POINTER), -EFAULT_);
    CHECK(HC2(xen_version, 99, 0), -ENOSYS_);
    CHECK(hypercall(63, 0, 0, 0, 0), -ENOSYS_);
    CHECK(hypercall_inline(1000, 0, 0, 0, 0), -ENOSYS_); /* the page ends at 128 */
}

static void check_traps_and_callbacks(void)
{
    struct trap_info bad[2] = {{.vector = 3, .address = 0x8000000000000000ull}};
    struct callback_register reg = {.type = CALLBACKTYPE_event, .address = 1ull << 60};
    struct callback_unregister un = {.type = CALLBACKTYPE_event};
    struct xennmi_callback nmi = {.handler_address = 1ull << 60};

    CHECK(HC1(set_trap_table, bad), -EINVAL_);
    CHECK(HC1(set_trap_table, BAD_POINTER), -EFAULT_);
    CHECK(HC1(set_trap_table, 0), 0);
    CHECK(HC2(callback_op, CALLBACKOP_register, &reg), -EINVAL_);
    reg.address = KV;
    reg.type = 99;
    CHECK(HC2(callback_op, CALLBACKOP_register, &reg), -ENOSYS_);
    CHECK(HC2(callback_op, CALLBACKOP_register, BAD_POINTER), -EFAULT_);
    CHECK(HC2(callback_op, CALLBACKOP_unregister, &un), -EINVAL_);
    CHECK(HC2(callback_op, CALLBACKOP_unregister, BAD_POINTER), -EFAULT_);
    for (un.type = CALLBACKTYPE_event; un.type <= CALLBACKTYPE_syscall32; un.type++) {
        if (un.type != CALLBACKTYPE_nmi && un.type != 6) { /* 6 never was one */
            CHECK(HC2(callback_op, CALLBACKOP_unregister, &un), -EINVAL_);
        }
    }
    un.type = CALLBACKTYPE_nmi;
    CHECK(HC2(callback_op, CALLBACKOP_unregister, &un), 0);
    un.type = 99;
    CHECK(HC2(callback_op, CALLBACKOP_unregister, &un), -ENOSYS_);
    CHECK(HC2(callback_op, 7, &un), -ENOSYS_);
    CHECK(HC3(set_callbacks, 1ull << 60, KV, KV), 0); /* as Xen has it: the others are set */
    CHECK(HC3(set_callbacks, KV, KV, KV), 0);
    CHECK(HC2(nmi_op, XENNMI_register_callback, &nmi), -EINVAL_);
    CHECK(HC2(nmi_op, XENNMI_register_callback, BAD_POINTER), -EFAULT_);
    nmi.handler_address = KV;
    CHECK(HC2(nmi_op, XENNMI_register_callback, &nmi), 0);
    CHECK(HC2(nmi_op, XENNMI_unregister_callback, 0), 0);
    CHECK(HC2(nmi_op, 9, 0), -ENOSYS_);
    CHECK(HC2(stack_switch, 0xe02b, boot_stack), 0);
    CHECK(HC1(fpu_taskswitch, 1), 0);
    CHECK(HC1(fpu_taskswitch, 0), 0);
}

/* Limit of the second descriptor of the LDT; 0: it is not to be had. */
static uint64_t local_limit(void)
{
    uint64_t limit = 0;

    __asm__ volatile("lsl %1, %0" : "+r"(limit) : "r"((uint64_t)(8 | 4)) : "cc");
    return limit;
}

static void check_descriptors(void)
{
    uint64_t frames[1] = {va_mfn(gdt_page)};
    uint64_t maddr = va_mfn(gdt_page) << 12;
    uint64_t *gdt = (uint64_t *)gdt_page;
    uint16_t limit = 0;

    CHECK(HC2(set_gdt, frames, 7169), -EINVAL_);
    CHECK(HC2(set_gdt, BAD_POINTER, 16), -EFAULT_);
    CHECK(HC2(set_gdt, frames, 16), -EINVAL_); /* mapped writable */
    gdt[2] = 0x00af9a000000ffffull; /* code, DPL 0 */
    gdt[3] = 0x0000890000000067ull; /* a TSS */
    CHECK(make_ro(gdt_page), 0);
    CHECK(HC2(set_gdt, frames, 16), -EINVAL_); /* the TSS */
    CHECK(HC2(update_descriptor, maddr + 24, 0), 0);
    CHECK(gdt[3], 0);
    CHECK(HC2(set_gdt, frames, 16), 0);
    CHECK(gdt[2], 0x00affa000000ffffull); /* DPL 3 now */
    CHECK(make_rw(gdt_page), -EBUSY_);
    CHECK(HC2(update_descriptor, maddr + 8, 0x00cf92000000ffffull), 0);
    CHECK(gdt[1], 0x00cff2000000ffffull);
    __asm__ volatile("lsl %1, %0" : "+r"(limit) : "r"((uint16_t)8));
    CHECK(limit, 0xffff);
    CHECK(HC2(update_descriptor, maddr + 4, 0), -EINVAL_);
    CHECK(HC2(update_descriptor, maddr + 8, 0x0000890000000067ull), -EINVAL_);  /* TSS */
    CHECK(HC2(update_descriptor, maddr + 8, 0x00008e0000000000ull), -EINVAL_);  /* gate */
    CHECK(HC2(update_descriptor, maddr + 8, 0x00af9e000000ffffull), -EINVAL_);  /* conforming */
    CHECK(HC2(update_descriptor, maddr + 8, 0x00ef9a000000ffffull), -EINVAL_);  /* L and D */
    CHECK(HC2(update_descriptor, 1ull << 50, 0), -EINVAL_);
    CHECK(HC2(update_descriptor, start_info->pt_base ? va_mfn((void *)start_info->pt_base) << 12
                                                     : 0, 0), -EINVAL_);
    CHECK(HC2(set_gdt, frames, 0), 0);
    CHECK(make_rw(gdt_page), 0);
    CHECK(mmuext1(MMUEXT_SET_LDT, (uint64_t)gdt_page + 8, 4), -EINVAL_);
    CHECK(mmuext1(MMUEXT_SET_LDT, (uint64_t)gdt_page, 8193), -EINVAL_);
    CHECK(mmuext1(MMUEXT_SET_LDT, HV, 4), -EINVAL_); /* the hypervisor's */
    CHECK(mmuext1(MMUEXT_SET_LDT, 1ull << 60, 4), -EINVAL_);
    CHECK(mmuext1(MMUEXT_SET_LDT, (uint64_t)gdt_page + 8, 0), 0); /* none, wherever */
    CHECK(mmuext1(MMUEXT_SET_LDT, (uint64_t)gdt_page, 16), 0);
    CHECK(local_limit(), 0); /* it may be written to */
    ((volatile uint64_t *)gdt_page)[3] = 0x00008e0000000000ull; /* a gate spoils the page */
    CHECK(make_ro(gdt_page), 0);
    CHECK(local_limit(), 0);
    CHECK(make_rw(gdt_page), 0);
    ((volatile uint64_t *)gdt_page)[3] = 0;
    CHECK(make_ro(gdt_page), 0);
    CHECK(local_limit(), 0xffffffff);
    CHECK(mmuext1(MMUEXT_SET_LDT, 0, 0), 0);
    CHECK(make_rw(gdt_page), 0);
}

static void check_registers(void)
{
    uint64_t base;

    CHECK(HC2(set_segment_base, SEGBASE_FS, 1ull << 60), -EINVAL_);
    CHECK(HC2(set_segment_base, SEGBASE_GS_KERNEL, 1ull << 60), -EINVAL_);
    CHECK(HC2(set_segment_base, 9, 0), -EINVAL_);
    CHECK(HC2(set_segment_base, SEGBASE_GS_USER_SEL, 0x1238), 0); /* a bad one is none */
    CHECK(HC2(set_segment_base, SEGBASE_FS, (uint64_t)raw_page), 0);
    *(uint64_t *)raw_page = 0x1234;
    __asm__("movq %%fs:0, %0" : "=r"(base));
    CHECK(base, 0x1234);
    CHECK(HC2(set_segment_base, SEGBASE_GS_KERNEL, (uint64_t)raw_page), 0);
    __asm__("movq %%gs:0, %0" : "=r"(base));
    CHECK(base, 0x1234);
    CHECK(HC2(set_debugreg, 0, KV), 0);
    CHECK(HC1(get_debugreg, 0), KV);
    CHECK(HC2(set_debugreg, 1, HV), -EPERM_);
    CHECK(HC2(set_debugreg, 7, 1 << 13), -EPERM_);        /* GD */
    CHECK(HC2(set_debugreg, 7, 1 | 2 << 16), -EPERM_);    /* I/O without CR4.DE */
    CHECK(HC2(set_debugreg, 7, 1 | 2 << 28), -EPERM_);    /* nor in one that is not enabled */
    CHECK(HC2(set_debugreg, 7, 1ull << 32), -EINVAL_);
    CHECK(HC2(set_debugreg, 6, 1ull << 63), -EINVAL_);
    CHECK(HC2(set_debugreg, 7, 2 << 28), 0); /* where none is enabled */
    CHECK(HC1(get_debugreg, 7), 2 << 28 | 0x400);
    CHECK(HC2(set_debugreg, 7, 0), 0);
    CHECK(HC1(get_debugreg, 7), 0x400);
    CHECK(HC2(set_debugreg, 8, 0), -ENODEV_);
    CHECK(HC1(get_debugreg, 99), -ENODEV_);
}

static void check_physdev(void)
{
    struct physdev_set_iopl iopl = {.iopl = 4};
    struct physdev_set_iobitmap bitmap = {.nr_ports = 65537};
    struct physdev_irq_status_query query = {.irq = 1};

    CHECK(HC2(physdev_op, PHYSDEVOP_set_iopl, &iopl), -EINVAL_);
    CHECK(HC2(physdev_op, PHYSDEVOP_set_iopl, BAD_POINTER), -EFAULT_);
    iopl.iopl = 0;
    CHECK(HC2(physdev_op, PHYSDEVOP_set_iopl, &iopl), 0);
    CHECK(HC2(physdev_op, PHYSDEVOP_set_iobitmap, &bitmap), -EINVAL_);
    bitmap.nr_ports = 0;
    CHECK(HC2(physdev_op, PHYSDEVOP_set_iobitmap, &bitmap), 0);
    CHECK(HC2(physdev_op, PHYSDEVOP_set_iobitmap, BAD_POINTER), -EFAULT_);
    *(uint64_t *)&bitmap.bitmap = 1ull << 60;
    CHECK(HC2(physdev_op, PHYSDEVOP_set_iobitmap, &bitmap), -EINVAL_);
    CHECK(HC2(physdev_op, PHYSDEVOP_apic_read, 0), -EPERM_);
    CHECK(HC2(physdev_op, PHYSDEVOP_apic_write, 0), -EPERM_);
    CHECK(HC2(physdev_op, PHYSDEVOP_unmap_pirq, 0), -EINVAL_);
    CHECK(HC2(physdev_op, PHYSDEVOP_irq_status_query, &query), -EINVAL_);
    CHECK(HC2(physdev_op, PHYSDEVOP_map_pirq, 0), -EPERM_);
    CHECK(HC2(physdev_op, PHYSDEVOP_eoi, 0), -EINVAL_);
    CHECK(HC2(physdev_op, 28, 0), -ENOSYS_);
}

/* The same by the first interface; that it does something is for cpu.c to see. */
static void check_physdev_compat(void)
{
    static const struct {
        uint32_t cmd;
        long want;
    } refused[] = {
        {PHYSDEVOP_apic_read, -EPERM_}, {PHYSDEVOP_apic_write, -EPERM_},
        {PHYSDEVOP_map_pirq, -EPERM_}, {PHYSDEVOP_unmap_pirq, -EINVAL_},
        {PHYSDEVOP_irq_status_query, -EINVAL_}, {PHYSDEVOP_eoi, -EINVAL_},
        {28, -ENOSYS_}, {99, -ENOSYS_},
    };
    struct physdev_op op = {.cmd = PHYSDEVOP_set_iopl, .u.set_iopl.iopl = 4};
    uint8_t *page = page_alloc(), *nowhere = page_alloc();
    uint32_t *cut = (uint32_t *)(nowhere - 12); /* up to the end of set_iopl's structure */

    CHECK(HC1(physdev_op_compat, &op), -EINVAL_);
    op.u.set_iopl.iopl = 0;
    CHECK(HC1(physdev_op_compat, &op), 0);
    op.cmd = PHYSDEVOP_set_iobitmap;
    op.u.set_iobitmap.nr_ports = 65537;
    CHECK(HC1(physdev_op_compat, &op), -EINVAL_);
    op.u.set_iobitmap.nr_ports = 0;
    CHECK(HC1(physdev_op_compat, &op), 0);
    for (unsigned i = 0; i < sizeof(refused) / sizeof(refused[0]); i++) {
        op.cmd = refused[i].cmd;
        CHECK(HC1(physdev_op_compat, &op), refused[i].want);
    }
    CHECK(HC1(physdev_op_compat, BAD_POINTER), -EFAULT_);
    CHECK(nowhere - page, 4096);
    cut[0] = PHYSDEVOP_set_iopl;
    CHECK(HC1(physdev_op_compat, cut), 0);
    CHECK(update_va(nowhere, 0, UVMF_INVLPG), 0);
    CHECK(HC1(physdev_op_compat, cut), -EFAULT_); /* the whole union has to be there */
}

static void check_memory(void)
{
    struct xen_machphys_mapping map;
    struct xen_add_to_physmap add = {.domid = DOMID_SELF};
    domid_t self = DOMID_SELF;
    uint64_t page = (uint64_t)page_alloc(), mfn = va_mfn((void *)page), list = mfn, out;
    uint64_t pfn = (page - KV) >> 12;
    struct xen_memory_reservation op = {.nr_extents = 1, .domid = DOMID_SELF};
    struct xen_memory_exchange ex = {.in = {.nr_extents = 1, .domid = DOMID_SELF},
                                     .out = {.nr_extents = 1, .domid = DOMID_SELF}};
    const uint64_t *m2p = (const uint64_t *)HV, *told;

    set_xen_guest_handle(op.extent_start, &list);
    CHECK(HC2(memory_op, XENMEM_machphys_mapping, &map), 0);
    CHECK_TRUE(map.v_start >= HV && map.v_start < map.v_end);
    told = (const uint64_t *)map.v_start;
    CHECK(told[mfn], m2p[mfn]);
    CHECK(told[FRAME(start_info->shared_info)], UINT64_MAX);
    CHECK(map.max_mfn, (1ull << 35) - 1);
    CHECK(HC2(memory_op, XENMEM_machphys_mapping, BAD_POINTER), -EFAULT_);
    CHECK(HC2(memory_op, XENMEM_maximum_reservation, &self), 32 << 8);
    CHECK(HC2(memory_op, XENMEM_machine_memory_map, 0), -EPERM_);
    CHECK(HC2(memory_op, XENMEM_add_to_physmap, &add), -EACCES_);
    CHECK(HC2(memory_op, XENMEM_decrease_reservation, &op), 0); /* still mapped writable */
    CHECK(update_va((void *)page, 0, UVMF_INVLPG), 0);
    CHECK(HC2(memory_op, XENMEM_decrease_reservation, &op), 1);
    CHECK(m2p[mfn], UINT64_MAX);
    CHECK(HC2(memory_op, XENMEM_decrease_reservation, &op), 0); /* not ours any more */
    CHECK(update_va((void *)page, mfn << 12 | P | RW, UVMF_INVLPG), -EBUSY_);
    CHECK(update_va((void *)page, mfn << 12 | P, UVMF_INVLPG), -EBUSY_);
    list = pfn;
    CHECK(HC2(memory_op, XENMEM_populate_physmap, &op), 1);
    CHECK(list, mfn);
    CHECK(m2p[mfn], pfn);
    CHECK(update_va((void *)page, mfn << 12 | P | RW, UVMF_INVLPG), 0);
    CHECK(*(uint64_t *)page, 0);
    CHECK(mmu_update1(mfn << 12 | MMU_MACHPHYS_UPDATE, 77), 0);
    CHECK(m2p[mfn], 77);
    CHECK(mmu_update1(mfn << 12 | MMU_MACHPHYS_UPDATE, pfn), 0);
    CHECK(mmu_update1(1ull << 50 | MMU_MACHPHYS_UPDATE, 0), -EINVAL_);
    list = mfn;
    out = pfn;
    set_xen_guest_handle(ex.in.extent_start, &list);
    set_xen_guest_handle(ex.out.extent_start, &out);
    CHECK(HC2(memory_op, XENMEM_exchange, &ex), -EINVAL_); /* mapped writable */
    CHECK(update_va((void *)page, 0, UVMF_INVLPG), 0);
    CHECK(HC2(memory_op, XENMEM_exchange, &ex), 0);
    CHECK(ex.nr_exchanged, 1);
    CHECK(m2p[out], pfn);
    ex.nr_exchanged = 0;
    ex.out.extent_order = 9;
    CHECK(HC2(memory_op, XENMEM_exchange, &ex), -EPERM_);
    CHECK(HC2(memory_op, XENMEM_exchange, BAD_POINTER), -EFAULT_);
    CHECK(HC2(memory_op, 60, 0), -ENOSYS_);
}

/* What is not for a guest that sees machine frames, and lists that stop at once. */
static void check_memory_refusals(void)
{
    uint64_t list = 0;
    struct xen_memory_reservation op = {.nr_extents = 1, .domid = DOMID_SELF};
    struct xen_machphys_mfn_list pieces = {.max_extents = 1};
    struct xen_add_to_physmap_batch batch = {.domid = DOMID_SELF};
    struct xen_remove_from_physmap remove = {.domid = DOMID_SELF};

    set_xen_guest_handle(op.extent_start, &list);
    set_xen_guest_handle(pieces.extent_start, &list);
    CHECK(HC2(memory_op, XENMEM_machphys_mfn_list, &pieces), 0);
    CHECK(pieces.nr_extents, 0);
    CHECK(HC2(memory_op, XENMEM_machphys_mfn_list, BAD_POINTER), -EFAULT_);
    pieces.nr_extents = 99;
    CHECK(HC2(memory_op, XENMEM_machphys_compat_mfn_list, &pieces), 0);
    CHECK(pieces.nr_extents, 0);
    CHECK(HC2(memory_op, XENMEM_machphys_compat_mfn_list, BAD_POINTER), -EFAULT_);
    CHECK(HC2(memory_op, XENMEM_add_to_physmap, BAD_POINTER), -EFAULT_);
    CHECK(HC2(memory_op, XENMEM_add_to_physmap_batch, BAD_POINTER), -EFAULT_);
    CHECK(HC2(memory_op, XENMEM_remove_from_physmap, BAD_POINTER), -EFAULT_);
    CHECK(HC2(memory_op, XENMEM_add_to_physmap_batch, &batch), -EACCES_);
    CHECK(HC2(memory_op, XENMEM_remove_from_physmap, &remove), -EACCES_);
    remove.domid = 77;
    CHECK(HC2(memory_op, XENMEM_remove_from_physmap, &remove), -ESRCH_);
    CHECK(HC2(memory_op, XENMEM_increase_reservation, &op), 0); /* it has all it may have */
    CHECK(HC2(memory_op, XENMEM_populate_physmap, &op), 0);
    CHECK(HC2(memory_op, XENMEM_increase_reservation, BAD_POINTER), 0);
    CHECK(HC2(memory_op, XENMEM_populate_physmap, BAD_POINTER), 0);
    CHECK(HC2(memory_op, XENMEM_decrease_reservation, BAD_POINTER), 0);
}

static void check_increase(void)
{
    uint64_t *page = page_alloc(), mfn = va_mfn(page), list = mfn;
    struct xen_memory_reservation op = {.nr_extents = 1, .domid = DOMID_SELF};
    const uint64_t *m2p = (const uint64_t *)HV;

    set_xen_guest_handle(op.extent_start, &list);
    page[0] = 1;
    CHECK(update_va(page, 0, UVMF_INVLPG), 0);
    op.extent_order = 1;
    CHECK(HC2(memory_op, XENMEM_decrease_reservation, &op), 0); /* single frames only */
    op.extent_order = 0;
    op.domid = 77;
    CHECK(HC2(memory_op, XENMEM_decrease_reservation, &op), 0);
    op.domid = DOMID_SELF;
    CHECK(HC2(memory_op, XENMEM_decrease_reservation, &op), 1);
    list = 0;
    op.domid = 77;
    CHECK(HC2(memory_op, XENMEM_increase_reservation, &op), 0);
    op.domid = DOMID_SELF;
    op.extent_order = 1;
    CHECK(HC2(memory_op, XENMEM_increase_reservation, &op), 0);
    op.extent_order = 0;
    CHECK(HC2(memory_op, XENMEM_increase_reservation, &op), 1);
    CHECK(list, mfn);
    CHECK(HC2(memory_op, XENMEM_decrease_reservation, &op), 1);
    set_xen_guest_handle(op.extent_start, 0);
    CHECK(HC2(memory_op, XENMEM_increase_reservation, &op), 1); /* it does not want to know which */
    CHECK(HC2(memory_op, XENMEM_increase_reservation, &op), 0);
    set_xen_guest_handle(op.extent_start, &list);
    CHECK(m2p[mfn], UINT64_MAX); /* where it lies is for the guest to say */
    CHECK(mmu_update1(mfn << 12 | MMU_MACHPHYS_UPDATE, ((uint64_t)page - KV) >> 12), 0);
    CHECK(update_va(page, mfn << 12 | P | RW | US, UVMF_INVLPG), 0);
    CHECK(page[0], 0);
}

static uint64_t feature(unsigned bit)
{
    struct xen_feature_info features = {.submap_idx = 0};

    CHECK(HC2(xen_version, XENVER_get_features, &features), 0);
    return features.submap >> bit & 1;
}

static void check_assists(void)
{
    const unsigned assists[] = {VMASST_TYPE_4gb_segments, VMASST_TYPE_4gb_segments_notify,
                                VMASST_TYPE_pae_extended_cr3, VMASST_TYPE_architectural_iopl,
                                VMASST_TYPE_runstate_update_flag, VMASST_TYPE_m2p_strict};
    const unsigned none[] = {31, 33, 64, 64 + VMASST_TYPE_m2p_strict};

    CHECK(HC2(vm_assist, VMASST_CMD_enable, VMASST_TYPE_writable_pagetables), 0);
    for (unsigned i = 0; i < sizeof(assists) / sizeof(assists[0]); i++) {
        CHECK(HC2(vm_assist, VMASST_CMD_enable, assists[i]), 0);
        CHECK(HC2(vm_assist, VMASST_CMD_disable, assists[i]), 0);
        CHECK(HC2(vm_assist, 9, assists[i]), -ENOSYS_);
    }
    CHECK(feature(XENFEAT_pae_pgdir_above_4gb), 0);
    CHECK(HC2(vm_assist, VMASST_CMD_enable, VMASST_TYPE_pae_extended_cr3), 0);
    CHECK(feature(XENFEAT_pae_pgdir_above_4gb), 1);
    CHECK(HC2(vm_assist, VMASST_CMD_disable, VMASST_TYPE_pae_extended_cr3), 0);
    for (unsigned i = 0; i < sizeof(none) / sizeof(none[0]); i++) {
        CHECK(HC2(vm_assist, VMASST_CMD_enable, none[i]), -EINVAL_);
    }
}

static void check_others(void)
{
    struct multicall_entry calls[3] = {{.op = __HYPERVISOR_xen_version},
                                       {.op = 1000},
                                       {.op = __HYPERVISOR_multicall}};
    struct sched_shutdown bad = {.reason = 99};

    CHECK(HC2(multicall, calls, 3), 0);
    CHECK(calls[0].result, 4 << 16 | 17);
    CHECK(calls[1].result, -ENOSYS_);
    CHECK(calls[2].result, -EINVAL_);
    CHECK(HC2(multicall, BAD_POINTER, 1), -EFAULT_);
    CHECK(HC2(sched_op_compat, SCHEDOP_yield, 0), 0);
    CHECK(HC2(sched_op_compat, SCHEDOP_shutdown, 99), -EINVAL_);
    CHECK(HC2(sched_op_compat, 9, 0), -ENOSYS_);
    CHECK(HC2(sched_op, SCHEDOP_shutdown, &bad), -EINVAL_);
    CHECK(HC1(platform_op, 0), -EPERM_);
    CHECK(HC1(domctl, 0), -EPERM_);
    CHECK(HC1(sysctl, 0), -EPERM_);
    CHECK(HC2(hvm_op, 0, 0), -ENOSYS_);
    CHECK(HC2(kexec_op, 0, 0), -EPERM_);
    CHECK(HC1(event_channel_op_compat, BAD_POINTER), -EFAULT_);
    CHECK(HC3(vcpu_op, VCPUOP_is_up, 0, 0), 1);
    CHECK(HC3(vcpu_op, VCPUOP_is_up, 1, 0), -ENOENT_);
    CHECK(HC3(vcpu_op, VCPUOP_initialise, 0, 0), -EEXIST_);
}

void test(void)
{
    check_version();
    check_traps_and_callbacks();
    check_descriptors();
    check_registers();
    check_physdev();
    check_physdev_compat();
    check_memory_refusals();
    check_memory();
    check_increase();
    check_assists();
    check_others();
}
