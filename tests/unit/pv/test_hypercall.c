/* SPDX-License-Identifier: MIT */
/* Hypercalls as a PVH kernel makes them: conventions, privileges, and the boot sequence of Linux. */
#include <errno.h>
#include <string.h>

#include "pv/evtchn.h"
#include "pv/hypercall.h"
#include "pv/xenstore.h"
#include "xen_guest.h"

/* The hypercalls of Linux 6.1 from its first to the first idle, in order (docs/xen.md). */
static void test_boot_linux(void)
{
    struct xen_guest *g = xen_guest_new(PV_KIND_PVH, 2);
    struct xen_feature_info features = {0};
    struct xen_add_to_physmap add = {.domid = DOMID_SELF, .space = XENMAPSPACE_shared_info, .gpfn = 1};
    struct xen_hvm_evtchn_upcall_vector vector = {.vcpu = 0, .vector = 0xf3};
    struct xen_hvm_param param = {.domid = DOMID_SELF, .index = HVM_PARAM_CALLBACK_IRQ, .value = 1};
    struct evtchn_init_control fifo = {0};
    struct evtchn_bind_virq virq = {.virq = VIRQ_TIMER};
    struct evtchn_bind_ipi ipi = {0};
    struct vcpu_register_vcpu_info info = {.mfn = 0x200, .offset = 0x40};
    struct vcpu_set_singleshot_timer shot = {.timeout_abs_ns = 2000000};
    struct gnttab_query_size size = {.dom = DOMID_SELF};
    struct gnttab_set_version version = {.version = 1};
    uint64_t area = 0x201000;
    char text[] = "hello";

    g_assert_cmpint(XG_OP(g, __HYPERVISOR_xen_version, XENVER_get_features, &features), ==, 0);
    g_assert_cmphex(features.submap, ==, 0x10305);
    g_assert_cmpint(XG_OP(g, __HYPERVISOR_memory_op, XENMEM_add_to_physmap, &add), ==, 0);
    g_assert_true(xg_at(g, 0x1000) == (void *)pv_shared_info(g->d));
    g_assert_cmpint(XG_OP(g, __HYPERVISOR_hvm_op, HVMOP_set_evtchn_upcall_vector, &vector), ==, 0);
    g_assert_cmpint(XG_OP(g, __HYPERVISOR_hvm_op, HVMOP_set_param, &param), ==, 0);
    g_assert_cmpint(XG_OP(g, __HYPERVISOR_event_channel_op, EVTCHNOP_init_control, &fifo), ==, -ENOSYS);
    g_assert_cmpint(xg_vcpu_op(g, 0, VCPUOP_register_runstate_memory_area, 0, &area, 8), ==, 0);
    g_assert_cmpint(xg_vcpu_op(g, 0, VCPUOP_stop_periodic_timer, 0, NULL, 0), ==, 0);
    g_assert_cmpint(XG_OP(g, __HYPERVISOR_event_channel_op, EVTCHNOP_bind_virq, &virq), ==, 0);
    g_assert_cmpuint(virq.port, >, 2);
    g_assert_cmpint(XG_CALL(g, __HYPERVISOR_vm_assist, VMASST_CMD_enable,
                            VMASST_TYPE_runstate_update_flag), ==, 0);
    g_assert_cmpint(xg_vcpu_op(g, 0, VCPUOP_set_singleshot_timer, 0, &shot, sizeof(shot)), ==, 0);
    g_assert_cmpint(xg_vcpu_op(g, 0, VCPUOP_register_vcpu_info, 0, &info, sizeof(info)), ==, 0);
    g_assert_cmpint(XG_CALL(g, __HYPERVISOR_xen_version, XENVER_version, 0), ==, 0x40011);
    for (unsigned i = 0; i < 5; i++) {
        g_assert_cmpint(XG_OP(g, __HYPERVISOR_event_channel_op, EVTCHNOP_bind_ipi, &ipi), ==, 0);
    }
    g_assert_cmpint(XG_OP(g, __HYPERVISOR_grant_table_op, GNTTABOP_query_size, &size), ==, 0);
    g_assert_cmpint(size.status, ==, GNTST_okay);
    g_assert_cmpuint(size.max_nr_frames, ==, PV_MAX_GRANT_FRAMES);
    g_assert_cmpint(XG_OP(g, __HYPERVISOR_grant_table_op, GNTTABOP_set_version, &version), ==, 0);
    for (unsigned i = 4; i-- > 0;) {
        add = (struct xen_add_to_physmap){.domid = DOMID_SELF, .space = XENMAPSPACE_grant_table,
                                          .idx = i, .gpfn = 0x100000 + i};
        g_assert_cmpint(XG_OP(g, __HYPERVISOR_memory_op, XENMEM_add_to_physmap, &add), ==, 0);
    }
    for (unsigned i = 0; i < 4; i++) {
        static const unsigned index[] = {HVM_PARAM_STORE_EVTCHN, HVM_PARAM_STORE_PFN,
                                         HVM_PARAM_CONSOLE_EVTCHN, HVM_PARAM_CONSOLE_PFN};
        const uint64_t value[] = {g->d->store_port, PV_STORE_GFN, g->d->console_port, PV_CONSOLE_GFN};

        param.index = index[i];
        g_assert_cmpint(XG_OP(g, __HYPERVISOR_hvm_op, HVMOP_get_param, &param), ==, 0);
        g_assert_cmphex(param.value, ==, value[i]);
    }
    g_assert_nonnull(xg_at(g, PV_STORE_GFN << 12));
    memcpy(xg_at(g, XG_ARGS), text, sizeof(text));
    g_assert_cmpint(XG_CALL(g, __HYPERVISOR_console_io, CONSOLEIO_write, 5, XG_ARGS), ==, 0);
    g_assert_cmpstr(g->debug->str, ==, "hello");

    /* The timer fires: VIRQ pending in shared info, upcall marked in the registered place, vector raised. */
    g->fb->apic_irqs[0] = 0;
    *(uint8_t *)xg_at(g, 0x200040) = 0; /* the guest took the spurious upcall of the registration */
    memset(xg_at(g, 0x200048), 0, 8);
    xg_advance(g, 3000000);
    g_assert_true(evtchn_is_pending(g->d, virq.port));
    g_assert_cmpint(*(uint8_t *)xg_at(g, 0x200040), ==, 1);
    g_assert_cmpuint(g->fb->apic_irqs[0], ==, 1);
    g_assert_cmphex(g->fb->last_apic_vector[0], ==, 0xf3);
    xen_guest_free(g);
}

static void test_privilege(void)
{
    struct xen_guest *g = xen_guest_new(PV_KIND_PVH, 1);

    g->fb->vcpus[0]->cpu.cpl = 3;
    g_assert_cmpint(XG_CALL(g, __HYPERVISOR_xen_version, XENVER_version, 0), ==, -EPERM);
    g->fb->vcpus[0]->cpu.cpl = 0;
    for (uint32_t nr = 0; nr < 100; nr++) {
        /* What only PV kernels have, and holes. */
        static const uint8_t absent[] = {0, 1, 2, 3, 4, 5, 6, 8, 9, 10, 11, 14, 16, 19, 22, 23, 25, 28,
                                         30, 31, 37, 38, 43, 47, 48, 49, 99};
        if (memchr(absent, (int)nr, sizeof(absent)) != NULL) {
            g_assert_cmpint(XG_CALL(g, nr, 0), ==, -ENOSYS);
        }
    }
    g_assert_cmpint(XG_CALL(g, 0xffffffff, 0), ==, -ENOSYS);
    g_assert_cmpint(XG_CALL(g, __HYPERVISOR_domctl, 0), ==, -EPERM);
    g_assert_cmpint(XG_CALL(g, __HYPERVISOR_xenpmu_op, 0), ==, -ENOSYS);
    xen_guest_free(g);
}

int main(int argc, char **argv)
{
    g_test_init(&argc, &argv, NULL);
    g_test_add_func("/pv/hypercall/boot-linux-pvh", test_boot_linux);
    g_test_add_func("/pv/hypercall/privilege", test_privilege);
    return g_test_run();
}
