/* SPDX-License-Identifier: MIT */
/* What is small: xen_version, console_io, multicall, vm_assist, calls that are refused. */
#include "ops.h"

static void check_version(void)
{
    char text[1024];
    struct xen_feature_info features = {.submap_idx = 0};
    xen_platform_parameters_t platform;

    CHECK(HC2(xen_version, XENVER_version, 0), 4 << 16 | 17);
    CHECK(HC2(xen_version, XENVER_extraversion, text), 0);
    CHECK(HC2(xen_version, XENVER_compile_info, text), 0);
    CHECK(HC2(xen_version, XENVER_capabilities, text), 0);
    CHECK(text[0] == 'x' && text[4] == '3', 1);
    CHECK(HC2(xen_version, XENVER_changeset, text), 0);
    CHECK(HC2(xen_version, XENVER_platform_parameters, &platform), 0);
    CHECK(platform.virt_start, IS_PVH ? 0 : 0xffff800000000000ull);
    CHECK(HC2(xen_version, XENVER_get_features, &features), 0);
    CHECK(features.submap >> XENFEAT_auto_translated_physmap & 1, IS_PVH);
    CHECK(features.submap >> XENFEAT_hvm_callback_vector & 1, IS_PVH);
    features.submap_idx = 1;
    CHECK(HC2(xen_version, XENVER_get_features, &features), -EINVAL_);
    CHECK(HC2(xen_version, XENVER_pagesize, 0), 4096);
    CHECK(HC2(xen_version, XENVER_pagesize, text), -EINVAL_);
    CHECK(HC2(xen_version, XENVER_guest_handle, text), 0);
    CHECK(HC2(xen_version, XENVER_commandline, text), 0);
    CHECK(text[0], '<');
    CHECK(HC2(xen_version, XENVER_build_id, text), -EPERM_);
    for (unsigned cmd = XENVER_extraversion; cmd <= XENVER_commandline; cmd++) {
        if (cmd != XENVER_pagesize) {
            CHECK(HC2(xen_version, cmd, BAD_POINTER), -EFAULT_);
        }
    }
    CHECK(HC2(xen_version, 99, 0), -ENOSYS_);
}

static void check_console(void)
{
    char text[8];

    CHECK(HC3(console_io, CONSOLEIO_write, 0, text), 0);
    CHECK(HC3(console_io, CONSOLEIO_read, 8, text), 0);
    CHECK(HC3(console_io, CONSOLEIO_write, 5, BAD_POINTER), -EFAULT_);
    CHECK(HC3(console_io, 9, 0, 0), -ENOSYS_);
}

static void check_multicall(void)
{
    struct multicall_entry calls[] = {
        {.op = __HYPERVISOR_xen_version, .args = {XENVER_pagesize}},
        {.op = 1000},
        {.op = __HYPERVISOR_multicall},
        {.op = __HYPERVISOR_xen_version, .args = {XENVER_build_id}},
    };

    CHECK(HC2(multicall, calls, 4), 0);
    CHECK((long)calls[0].result, 4096);
    CHECK((long)calls[1].result, -ENOSYS_);
    CHECK((long)calls[2].result, -EINVAL_); /* none in another */
    CHECK((long)calls[3].result, -EPERM_);
    CHECK(HC2(multicall, calls, 0), 0);
    CHECK(HC2(multicall, BAD_POINTER, 1), -EFAULT_);
}

static void check_refused(void)
{
    CHECK(HC2(vm_assist, VMASST_CMD_enable, VMASST_TYPE_runstate_update_flag), 0);
    CHECK(HC2(vm_assist, VMASST_CMD_disable, VMASST_TYPE_runstate_update_flag), 0);
    CHECK(HC2(vm_assist, VMASST_CMD_enable, 31), -EINVAL_);
    CHECK(HC2(vm_assist, VMASST_CMD_enable, 99), -EINVAL_);
    CHECK(HC2(vm_assist, VMASST_CMD_enable, VMASST_TYPE_writable_pagetables),
          IS_PVH ? -EINVAL_ : 0);
    CHECK(HC2(vm_assist, 9, VMASST_TYPE_runstate_update_flag), -ENOSYS_);
    CHECK(HC1(platform_op, 0), -EPERM_);
    CHECK(HC1(domctl, 0), -EPERM_);
    CHECK(HC1(sysctl, 0), -EPERM_);
    CHECK(HC3(dm_op, DOMID_SELF, 0, 0), -EPERM_);
    CHECK(HC1(hypfs_op, 0), -EPERM_);
    CHECK(HC1(argo_op, 0), -EOPNOTSUPP_);
    CHECK(HC1(xenpmu_op, 0), -ENOSYS_);
    CHECK(HC1(xsm_op, 0), -ENOSYS_);
    CHECK(HC1(xenoprof_op, 0), -ENOSYS_);
    CHECK(HC1(tmem_op, 0), -ENOSYS_);
    CHECK(HC1(arch_0, 0), -ENOSYS_);
    CHECK(hypercall(63, 0, 0, 0, 0), -ENOSYS_);
    CHECK(HC2(physdev_op, PHYSDEVOP_map_pirq, 0), IS_PVH ? -ENOSYS_ : -EPERM_);
    CHECK(HC2(physdev_op, PHYSDEVOP_unmap_pirq, 0), IS_PVH ? -ENOSYS_ : -EINVAL_);
    CHECK(HC2(physdev_op, 99, 0), -ENOSYS_);
}

/* What a guest may ask about its memory, and what is the toolstack's. */
static void check_memory(void)
{
    static const unsigned privileged[] = {XENMEM_set_memory_map, XENMEM_acquire_resource, 20, 21, 22, 24};
    static const unsigned unknown[] = {16, 17, 18, 19, 27, 60};
    uint8_t map[20 * 32];
    struct xen_memory_map op = {.nr_entries = 32};
    domid_t self = DOMID_SELF, stranger = 77;

    set_xen_guest_handle(op.buffer, (void *)map);
    CHECK(HC2(memory_op, XENMEM_memory_map, &op), 0);
    CHECK_TRUE(op.nr_entries > 0 && op.nr_entries < 32);
    CHECK(*(uint64_t *)map, 0);
    CHECK(HC2(memory_op, XENMEM_memory_map, BAD_POINTER), -EFAULT_);
    CHECK_TRUE(HC2(memory_op, XENMEM_current_reservation, &self) > 0);
    CHECK_TRUE(HC2(memory_op, XENMEM_current_reservation, &self) <=
               HC2(memory_op, XENMEM_maximum_reservation, &self));
    CHECK(HC2(memory_op, XENMEM_current_reservation, &stranger), -ESRCH_);
    CHECK(HC2(memory_op, XENMEM_maximum_reservation, &stranger), -ESRCH_);
    CHECK(HC2(memory_op, XENMEM_current_reservation, BAD_POINTER), -EFAULT_);
    CHECK(HC2(memory_op, XENMEM_maximum_reservation, BAD_POINTER), -EFAULT_);
    CHECK_TRUE(HC2(memory_op, XENMEM_maximum_ram_page, 0) >= (32 << 8) - 1);
    CHECK_TRUE(HC2(memory_op, XENMEM_maximum_gpfn, &self) >= (32 << 8) - 1);
    for (unsigned i = 0; i < sizeof(privileged) / sizeof(privileged[0]); i++) {
        CHECK(HC2(memory_op, privileged[i], 0), -EPERM_);
    }
    for (unsigned i = 0; i < sizeof(unknown) / sizeof(unknown[0]); i++) {
        CHECK(HC2(memory_op, unknown[i], 0), -ENOSYS_);
    }
    CHECK(HC2(memory_op, XENMEM_get_vnumainfo, 0), -EOPNOTSUPP_);
}

void test(void)
{
    check_memory();
    check_version();
    check_console();
    check_multicall();
    check_refused();
}
