/* SPDX-License-Identifier: MIT */
/* What only translated guests have: hvm_op, and memory_op by guest frames. */
#include "ops.h"

#define HOLE 0xf0000ull /* a frame behind the RAM */
#define UNUSED 0x1000ull /* RAM in the middle of nowhere */
#define RAM_PAGES ((32ull << 20) >> 12)

static uint64_t get_param(uint32_t index)
{
    struct xen_hvm_param op = {.domid = DOMID_SELF, .index = index};

    CHECK(HC2(hvm_op, HVMOP_get_param, &op), 0);
    return op.value;
}

static long try_param(unsigned cmd, uint16_t domid, uint32_t index, uint64_t value)
{
    struct xen_hvm_param op = {.domid = domid, .index = index, .value = value};

    return HC2(hvm_op, cmd, &op);
}

static void check_params(void)
{
    CHECK_TRUE(get_param(HVM_PARAM_STORE_PFN) != 0);
    CHECK_TRUE(get_param(HVM_PARAM_STORE_EVTCHN) != 0);
    CHECK_TRUE(get_param(HVM_PARAM_CONSOLE_PFN) != 0);
    CHECK(try_param(HVMOP_set_param, DOMID_SELF, HVM_PARAM_STORE_PFN, 1), -EPERM_);
    CHECK(try_param(HVMOP_get_param, DOMID_SELF, 20, 0), -EINVAL_); /* gone */
    CHECK(try_param(HVMOP_get_param, DOMID_SELF, HVM_NR_PARAMS + 20, 0), -EINVAL_);
    CHECK(try_param(HVMOP_get_param, 77, HVM_PARAM_STORE_PFN, 0), -ESRCH_);
    CHECK(try_param(HVMOP_get_param, 0, HVM_PARAM_STORE_PFN, 0), -EPERM_);
    CHECK(try_param(HVMOP_set_param, DOMID_SELF, HVM_PARAM_ALTP2M, 1), -17);
    CHECK(try_param(HVMOP_set_param, DOMID_SELF, HVM_PARAM_X87_FIP_WIDTH, 5), -EINVAL_);
    CHECK(try_param(HVMOP_set_param, DOMID_SELF, HVM_PARAM_ACPI_IOPORTS_LOCATION, 2), -EINVAL_);
    CHECK(try_param(HVMOP_set_param, DOMID_SELF, HVM_PARAM_X87_FIP_WIDTH, 8), 0);
    CHECK(get_param(HVM_PARAM_X87_FIP_WIDTH), 8);
    CHECK(HC2(hvm_op, HVMOP_get_param, BAD_POINTER), -EFAULT_);
    CHECK(HC2(hvm_op, HVMOP_set_param, BAD_POINTER), -EFAULT_);
}

static void check_hvm_op(void)
{
    struct xen_hvm_evtchn_upcall_vector vector = {.vcpu = 0, .vector = 15};
    struct xen_hvm_get_mem_type type = {.domid = DOMID_SELF, .pfn = 0x100};
    struct xen_hvm_get_time time = {0}, later = {0};

    CHECK(HC2(hvm_op, HVMOP_get_time, &time), 0);
    CHECK(HC2(hvm_op, HVMOP_get_time, &later), 0);
    CHECK_TRUE(time.now > 0 && later.now >= time.now);
    CHECK(HC2(hvm_op, HVMOP_get_time, BAD_POINTER), -EFAULT_);
    CHECK(HC2(hvm_op, HVMOP_set_evtchn_upcall_vector, &vector), -EINVAL_);
    vector.vector = 0x30;
    vector.vcpu = 9;
    CHECK(HC2(hvm_op, HVMOP_set_evtchn_upcall_vector, &vector), -ENOENT_);
    vector.vcpu = 1;
    CHECK(HC2(hvm_op, HVMOP_set_evtchn_upcall_vector, &vector), 0);
    CHECK(HC2(hvm_op, HVMOP_set_evtchn_upcall_vector, BAD_POINTER), -EFAULT_);
    CHECK(HC2(hvm_op, HVMOP_flush_tlbs, 0), 0);
    CHECK(HC2(hvm_op, HVMOP_flush_tlbs, 1), -EINVAL_);
    CHECK(HC2(hvm_op, HVMOP_get_mem_type, &type), 0);
    CHECK(type.mem_type, HVMMEM_ram_rw);
    type.pfn = HOLE;
    CHECK(HC2(hvm_op, HVMOP_get_mem_type, &type), 0);
    CHECK(type.mem_type, HVMMEM_mmio_dm);
    type.domid = 77;
    CHECK(HC2(hvm_op, HVMOP_get_mem_type, &type), -ESRCH_);
    CHECK(HC2(hvm_op, HVMOP_get_mem_type, BAD_POINTER), -EFAULT_);
    CHECK(HC2(hvm_op, HVMOP_pagetable_dying, 0), -EINVAL_);
    CHECK(HC2(hvm_op, HVMOP_guest_request_vm_event, 0), 0);
    CHECK(HC2(hvm_op, HVMOP_guest_request_vm_event, 1), -EINVAL_);
    CHECK(HC2(hvm_op, 2, 0), -EPERM_);
    CHECK(HC2(hvm_op, 3, 0), -EPERM_);
    CHECK(HC2(hvm_op, 4, 0), -EPERM_);
    CHECK(HC2(hvm_op, HVMOP_altp2m, 0), -EOPNOTSUPP_);
    CHECK(HC2(hvm_op, 99, 0), -ENOSYS_);
}

static void check_physmap(void)
{
    xen_ulong_t idx = 0;
    xen_pfn_t gfn = HOLE;
    int error = 99;
    struct xen_add_to_physmap add = {.domid = DOMID_SELF, .space = XENMAPSPACE_shared_info,
                                     .idx = 1, .gpfn = HOLE};
    struct xen_add_to_physmap_batch batch = {.domid = DOMID_SELF, .size = 1,
                                             .space = XENMAPSPACE_grant_table};
    struct xen_remove_from_physmap remove = {.domid = DOMID_SELF, .gpfn = HOLE};

    CHECK(HC2(memory_op, XENMEM_add_to_physmap, &add), -EINVAL_);
    add.idx = 0;
    CHECK(HC2(memory_op, XENMEM_add_to_physmap, &add), 0);
    CHECK(HC2(memory_op, XENMEM_remove_from_physmap, &remove), 0);
    CHECK(HC2(memory_op, XENMEM_remove_from_physmap, &remove), -ENOENT_);
    CHECK(HC2(memory_op, XENMEM_remove_from_physmap, BAD_POINTER), -EFAULT_);
    add.space = XENMAPSPACE_gmfn;
    CHECK(HC2(memory_op, XENMEM_add_to_physmap, &add), -EOPNOTSUPP_);
    add.space = XENMAPSPACE_gmfn_range;
    CHECK(HC2(memory_op, XENMEM_add_to_physmap, &add), -EOPNOTSUPP_);
    add.space = XENMAPSPACE_gmfn_foreign;
    CHECK(HC2(memory_op, XENMEM_add_to_physmap, &add), -EPERM_);
    add.space = XENMAPSPACE_dev_mmio;
    CHECK(HC2(memory_op, XENMEM_add_to_physmap, &add), -EACCES_);
    add.space = 99;
    CHECK(HC2(memory_op, XENMEM_add_to_physmap, &add), -EINVAL_);
    add.domid = 77;
    CHECK(HC2(memory_op, XENMEM_add_to_physmap, &add), -ESRCH_);
    CHECK(HC2(memory_op, XENMEM_add_to_physmap, BAD_POINTER), -EFAULT_);
    set_xen_guest_handle(batch.idxs, &idx);
    set_xen_guest_handle(batch.gpfns, &gfn);
    set_xen_guest_handle(batch.errs, &error);
    CHECK(HC2(memory_op, XENMEM_add_to_physmap_batch, &batch), 0);
    CHECK(error, 0);
    idx = 1000;
    CHECK(HC2(memory_op, XENMEM_add_to_physmap_batch, &batch), 0);
    CHECK(error, -EINVAL_);
    CHECK(HC2(memory_op, XENMEM_add_to_physmap_batch, BAD_POINTER), -EFAULT_);
    CHECK(HC2(memory_op, XENMEM_remove_from_physmap, &remove), 0);
}

static void check_reservation(void)
{
    uint64_t *page = page_alloc();
    xen_pfn_t gfn = va_mfn(page);
    domid_t self = DOMID_SELF, stranger = 77;
    struct xen_memory_reservation op = {.nr_extents = 1, .domid = DOMID_SELF};
    long before = HC2(memory_op, XENMEM_current_reservation, &self);

    set_xen_guest_handle(op.extent_start, &gfn);
    *page = 1;
    CHECK_TRUE(before > 0);
    CHECK(HC2(memory_op, XENMEM_maximum_reservation, &self), RAM_PAGES);
    CHECK(HC2(memory_op, XENMEM_current_reservation, &stranger), -ESRCH_);
    CHECK(HC2(memory_op, XENMEM_current_reservation, BAD_POINTER), -EFAULT_);
    CHECK(HC2(memory_op, XENMEM_decrease_reservation, &op), 1);
    CHECK(HC2(memory_op, XENMEM_current_reservation, &self), before - 1);
    CHECK(HC2(memory_op, XENMEM_decrease_reservation, &op), 0); /* gone already */
    CHECK(HC2(memory_op, XENMEM_populate_physmap, &op), 1);
    CHECK(*page, 0);
    CHECK(HC2(memory_op, XENMEM_current_reservation, &self), before);
    op.extent_order = 10;
    CHECK(HC2(memory_op, XENMEM_populate_physmap, &op), 0);
    CHECK(HC2(memory_op, XENMEM_decrease_reservation, BAD_POINTER), 0);
    op.extent_order = 0;
    CHECK(HC2(memory_op, XENMEM_increase_reservation, &op), 0);
}

/* Extents of several pages: all of one goes and comes, or nothing of it. */
static void check_orders(void)
{
    const domid_t self = DOMID_SELF;
    const long before = HC2(memory_op, XENMEM_current_reservation, &self);
    xen_pfn_t gfn, hole;
    struct xen_memory_reservation op = {.nr_extents = 1, .domid = DOMID_SELF};
    struct xen_memory_reservation one = {.nr_extents = 1, .domid = DOMID_SELF};

    set_xen_guest_handle(op.extent_start, &gfn);
    set_xen_guest_handle(one.extent_start, &hole);
    for (unsigned order = 1; order <= 9; order++) {
        const uint64_t pages = 1ull << order;
        volatile uint64_t *end = (uint64_t *)(uintptr_t)(((UNUSED + pages) << 12) - 8);

        gfn = UNUSED;
        op.extent_order = order;
        *end = 1;
        CHECK(HC2(memory_op, XENMEM_populate_physmap, &op), 0); /* it is there */
        CHECK(HC2(memory_op, XENMEM_decrease_reservation, &op), 1);
        CHECK(HC2(memory_op, XENMEM_current_reservation, &self), before - pages);
        CHECK(HC2(memory_op, XENMEM_populate_physmap, &op), 1);
        CHECK(HC2(memory_op, XENMEM_current_reservation, &self), before);
        CHECK(*end, 0);
        hole = UNUSED + pages - 1;
        CHECK(HC2(memory_op, XENMEM_decrease_reservation, &one), 1);
        CHECK(HC2(memory_op, XENMEM_decrease_reservation, &op), 0);
        CHECK(HC2(memory_op, XENMEM_populate_physmap, &op), 0);
        CHECK(HC2(memory_op, XENMEM_current_reservation, &self), before - 1);
        CHECK(HC2(memory_op, XENMEM_populate_physmap, &one), 1);
    }
}

/* Questions that PV guests may ask; what both may is in others.c. */
static void check_questions(void)
{
    CHECK(HC2(memory_op, XENMEM_exchange, 0), -ENOSYS_);
    CHECK(HC2(memory_op, XENMEM_machphys_mapping, 0), -ENOSYS_);
    CHECK(HC2(memory_op, XENMEM_machphys_mfn_list, 0), -ENOSYS_);
    CHECK(HC2(memory_op, XENMEM_machphys_compat_mfn_list, 0), -ENOSYS_);
    CHECK(HC2(memory_op, XENMEM_machine_memory_map, 0), -ENOSYS_);
    CHECK(HC2(memory_op, 60, 0), -ENOSYS_);
}

#ifdef __x86_64__

/* Answers that cannot be written: the 2 MiB around UNUSED are read-only. */
static void check_unwritable(void)
{
    enum { WRITE_PROTECT = 1 << 16 };
    const uint64_t address = UNUSED << 12;
    struct xen_hvm_param *op = (void *)address;
    uint64_t cr0, *table, *entry;

    *op = (struct xen_hvm_param){.domid = DOMID_SELF, .index = HVM_PARAM_STORE_PFN};
    __asm__ volatile("movq %%cr3, %0" : "=r"(table));
    table = (uint64_t *)(table[0] & ~4095ull);
    table = (uint64_t *)(table[0] & ~4095ull);
    entry = &table[address >> 21];
    __asm__ volatile("movq %%cr0, %0" : "=r"(cr0));
    *entry &= ~(uint64_t)RW;
    __asm__ volatile("movq %0, %%cr0\n\tinvlpg (%1)"
                     : : "r"(cr0 | WRITE_PROTECT), "r"(op) : "memory");
    CHECK(HC2(hvm_op, HVMOP_get_param, op), -EFAULT_);
    CHECK(HC2(hvm_op, HVMOP_get_mem_type, op), -EFAULT_);
    CHECK(HC2(hvm_op, HVMOP_set_param, op), -EPERM_); /* which only reads */
    *entry |= RW;
    __asm__ volatile("movq %0, %%cr0\n\tinvlpg (%1)" : : "r"(cr0), "r"(op) : "memory");
    CHECK(HC2(hvm_op, HVMOP_get_param, op), 0);
    CHECK_TRUE(op->value != 0);
}

#else

static void check_unwritable(void)
{
}

#endif

static void check_pv_calls(void)
{
    CHECK(HC4(mmuext_op, 0, 0, 0, DOMID_SELF), 0);
    CHECK(HC4(mmuext_op, 0, 1, 0, DOMID_SELF), -EOPNOTSUPP_);
    CHECK(HC4(mmu_update, 0, 0, 0, DOMID_SELF), -ENOSYS_);
    CHECK(HC1(set_trap_table, 0), -ENOSYS_);
    CHECK(HC2(set_gdt, 0, 0), -ENOSYS_);
    CHECK(HC2(stack_switch, 0, 0), -ENOSYS_);
    CHECK(HC3(update_va_mapping, 0, 0, 0), -ENOSYS_);
    CHECK(HC2(callback_op, 0, 0), -ENOSYS_);
    CHECK(HC2(nmi_op, 0, 0), -ENOSYS_);
#ifndef BY_PAGE /* whose entry for it is a UD2 */
    CHECK(HC1(iret, 0), -ENOSYS_);
#endif
    CHECK(HC2(set_debugreg, 0, 0), -ENOSYS_);
    CHECK(HC1(kexec_op, 0), -ENOSYS_);
}

void test(void)
{
    check_params();
    check_hvm_op();
    check_physmap();
    check_reservation();
    check_orders();
    check_questions();
    check_unwritable();
    check_pv_calls();
}
