/* SPDX-License-Identifier: MIT */
/* Hypercalls as a PVH kernel makes them: conventions, privileges, and the boot sequence of
 * Linux. */
#include <errno.h>
#include <string.h>

#include "pv/evtchn.h"
#include "pv/hypercall.h"
#include "pv/time.h"
#include "pv/xenstore.h"
#include "xen_guest.h"

enum { LIST = 0x20000 };

/* The hypercalls of Linux 6.1 from its first to the first idle, in order (docs/xen.md). */
static void test_boot_linux(void)
{
    struct xen_guest *g = xen_guest_new(PV_KIND_PVH, 2);
    struct xen_feature_info features = {0};
    struct xen_add_to_physmap add = {
        .domid = DOMID_SELF, .space = XENMAPSPACE_shared_info, .gpfn = 1};
    struct xen_hvm_evtchn_upcall_vector vector = {.vcpu = 0, .vector = 0xf3};
    struct xen_hvm_param param = {
        .domid = DOMID_SELF, .index = HVM_PARAM_CALLBACK_IRQ, .value = 1};
    struct evtchn_init_control fifo = {.control_gfn = 0x202};
    struct evtchn_expand_array array = {.array_gfn = 0x203};
    struct evtchn_set_priority priority = {.priority = 0};
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
    g_assert_cmpint(XG_OP(g, __HYPERVISOR_hvm_op, HVMOP_set_evtchn_upcall_vector, &vector), ==,
                    0);
    g_assert_cmpint(XG_OP(g, __HYPERVISOR_hvm_op, HVMOP_set_param, &param), ==, 0);
    g_assert_cmpint(XG_OP(g, __HYPERVISOR_event_channel_op, EVTCHNOP_init_control, &fifo), ==,
                    0);
    g_assert_cmpuint(fifo.link_bits, ==, 17);
    g_assert_cmpint(xg_vcpu_op(g, 0, VCPUOP_register_runstate_memory_area, 0, &area, 8), ==, 0);
    g_assert_cmpint(xg_vcpu_op(g, 0, VCPUOP_stop_periodic_timer, 0, NULL, 0), ==, 0);
    g_assert_cmpint(XG_OP(g, __HYPERVISOR_event_channel_op, EVTCHNOP_bind_virq, &virq), ==, 0);
    g_assert_cmpuint(virq.port, >, 2);
    priority.port = virq.port;
    g_assert_cmpint(XG_OP(g, __HYPERVISOR_event_channel_op, EVTCHNOP_expand_array, &array), ==,
                    0);
    g_assert_cmpint(XG_OP(g, __HYPERVISOR_event_channel_op, EVTCHNOP_set_priority, &priority),
                    ==, 0);
    g_assert_cmpint(
        XG_CALL(g, __HYPERVISOR_vm_assist, VMASST_CMD_enable, VMASST_TYPE_runstate_update_flag),
        ==, 0);
    g_assert_cmpint(xg_vcpu_op(g, 0, VCPUOP_set_singleshot_timer, 0, &shot, sizeof(shot)), ==,
                    0);
    g_assert_cmpint(xg_vcpu_op(g, 0, VCPUOP_register_vcpu_info, 0, &info, sizeof(info)), ==, 0);
    g_assert_cmpint(XG_CALL(g, __HYPERVISOR_xen_version, XENVER_version, 0), ==, 0x40011);
    for (unsigned i = 0; i < 5; i++) {
        g_assert_cmpint(XG_OP(g, __HYPERVISOR_event_channel_op, EVTCHNOP_bind_ipi, &ipi), ==,
                        0);
    }
    g_assert_cmpint(XG_OP(g, __HYPERVISOR_grant_table_op, GNTTABOP_query_size, &size), ==, 0);
    g_assert_cmpint(size.status, ==, GNTST_okay);
    g_assert_cmpuint(size.max_nr_frames, ==, PV_MAX_GRANT_FRAMES);
    g_assert_cmpint(XG_OP(g, __HYPERVISOR_grant_table_op, GNTTABOP_set_version, &version), ==,
                    0);
    for (unsigned i = 4; i-- > 0;) {
        add = (struct xen_add_to_physmap){.domid = DOMID_SELF,
                                          .space = XENMAPSPACE_grant_table,
                                          .idx = i,
                                          .gpfn = 0x100000 + i};
        g_assert_cmpint(XG_OP(g, __HYPERVISOR_memory_op, XENMEM_add_to_physmap, &add), ==, 0);
    }
    for (unsigned i = 0; i < 4; i++) {
        static const unsigned index[] = {HVM_PARAM_STORE_EVTCHN, HVM_PARAM_STORE_PFN,
                                         HVM_PARAM_CONSOLE_EVTCHN, HVM_PARAM_CONSOLE_PFN};
        const uint64_t value[] = {g->d->store_port, PV_STORE_GFN, g->d->console_port,
                                  PV_CONSOLE_GFN};

        param.index = index[i];
        g_assert_cmpint(XG_OP(g, __HYPERVISOR_hvm_op, HVMOP_get_param, &param), ==, 0);
        g_assert_cmphex(param.value, ==, value[i]);
    }
    g_assert_nonnull(xg_at(g, PV_STORE_GFN << 12));
    memcpy(xg_at(g, XG_ARGS), text, sizeof(text));
    g_assert_cmpint(XG_CALL(g, __HYPERVISOR_console_io, CONSOLEIO_write, 5, XG_ARGS), ==, 0);
    g_assert_cmpstr(g->debug->str, ==, "hello");

    /* The timer fires: VIRQ pending in shared info, upcall marked in the registered place,
     * vector raised. */
    g->fb->apic_irqs[0] = 0;
    *(uint8_t *)xg_at(g, 0x200040) =
        0; /* the guest took the spurious upcall of the registration */
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
        static const uint8_t absent[] = {0,  1,  2,  3,  4,  5,  6,  8,  9,  10, 11, 14, 16, 19,
                                         22, 23, 25, 28, 30, 31, 37, 38, 43, 47, 48, 49, 99};
        if (memchr(absent, (int)nr, sizeof(absent)) != NULL) {
            g_assert_cmpint(XG_CALL(g, nr, 0), ==, -ENOSYS);
        }
    }
    g_assert_cmpint(XG_CALL(g, 0xffffffff, 0), ==, -ENOSYS);
    g_assert_cmpint(XG_CALL(g, __HYPERVISOR_domctl, 0), ==, -EPERM);
    g_assert_cmpint(XG_CALL(g, __HYPERVISOR_xenpmu_op, 0), ==, -ENOSYS);
    xen_guest_free(g);
}

static void test_hvm_params(void)
{
    struct xen_guest *g = xen_guest_new(PV_KIND_PVH, 2);
    /* docs/xen.md: what the guest may read and write; the rest is the toolstack's or gone. */
    static const uint8_t readable[] = {0, 1, 2, 15, 17, 18, 19, 34, 35, 36, 37};
    static const uint8_t writable[] = {0, 2, 15, 18, 19, 34, 36, 37};
    static const uint8_t gone[] = {4, 13, 20, 21, 22, 23, 24, 25, 26, 30};
    struct xen_hvm_param op = {.domid = DOMID_SELF};
    struct xen_hvm_evtchn_upcall_vector vector = {.vcpu = 0, .vector = 15};
    struct xen_hvm_get_mem_type type = {.domid = DOMID_SELF, .pfn = 1};

    for (unsigned i = 0; i < PV_HVM_PARAMS + 3; i++) {
        int64_t get = memchr(readable, (int)i, sizeof(readable)) != NULL ? 0 : -EPERM;
        int64_t set = memchr(writable, (int)i, sizeof(writable)) != NULL ? 0 : -EPERM;

        if (memchr(gone, (int)i, sizeof(gone)) != NULL || i >= PV_HVM_PARAMS) {
            get = set = -EINVAL;
        }
        op.index = i;
        op.value = 0;
        g_assert_cmpint(XG_OP(g, __HYPERVISOR_hvm_op, HVMOP_get_param, &op), ==, get);
        op.value = 0;
        set = i == HVM_PARAM_ALTP2M ? -EEXIST : set;
        g_assert_cmpint(XG_OP(g, __HYPERVISOR_hvm_op, HVMOP_set_param, &op), ==, set);
    }
    op = (struct xen_hvm_param){.domid = 0, .index = 1};
    g_assert_cmpint(XG_OP(g, __HYPERVISOR_hvm_op, HVMOP_get_param, &op), ==, -EPERM);
    op.domid = 12;
    g_assert_cmpint(XG_OP(g, __HYPERVISOR_hvm_op, HVMOP_get_param, &op), ==, -ESRCH);
    op = (struct xen_hvm_param){.domid = DOMID_SELF, .index = 36, .value = 3};
    g_assert_cmpint(XG_OP(g, __HYPERVISOR_hvm_op, HVMOP_set_param, &op), ==, -EINVAL);
    g_assert_cmpint(XG_OP(g, __HYPERVISOR_hvm_op, HVMOP_set_evtchn_upcall_vector, &vector), ==,
                    -EINVAL);
    vector.vector = 16;
    vector.vcpu = 2;
    g_assert_cmpint(XG_OP(g, __HYPERVISOR_hvm_op, HVMOP_set_evtchn_upcall_vector, &vector), ==,
                    -ENOENT);
    g_assert_cmpint(XG_OP(g, __HYPERVISOR_hvm_op, HVMOP_get_mem_type, &type), ==, 0);
    g_assert_cmpuint(type.mem_type, ==, HVMMEM_ram_rw);
    g_assert_cmpint(XG_OP(g, __HYPERVISOR_hvm_op, HVMOP_pagetable_dying, &type), ==, -EINVAL);
    g_assert_cmpint(XG_CALL(g, __HYPERVISOR_hvm_op, HVMOP_flush_tlbs, 0), ==, 0);
    g_assert_cmpint(XG_CALL(g, __HYPERVISOR_hvm_op, 2, XG_ARGS), ==, -EPERM);
    g_assert_cmpint(XG_CALL(g, __HYPERVISOR_hvm_op, 60, XG_ARGS), ==, -ENOSYS);
    xen_guest_free(g);
}

static void test_version(void)
{
    struct xen_guest *g = xen_guest_new(PV_KIND_PVH, 1);
    struct xen_feature_info features = {.submap_idx = 1};
    struct xen_compile_info info;
    char text[1024];
    uint8_t uuid[16];

    memset(text, 'x', sizeof(text));
    g_assert_cmpint(XG_OP(g, __HYPERVISOR_xen_version, XENVER_capabilities, &text), ==, 0);
    g_assert_true(g_str_has_prefix(text, "xen-3.0-x86_64 hvm-3.0-x86_32 "));
    for (size_t i = strlen(text); i < sizeof(text); i++) {
        g_assert_cmpint(text[i], ==, 0); /* padded to the end: nothing of the host's shows */
    }
    memset(&info, 'x', sizeof(info));
    g_assert_cmpint(XG_OP(g, __HYPERVISOR_xen_version, XENVER_compile_info, &info), ==, 0);
    g_assert_cmpint(info.compile_date[31], ==, 0);
    g_assert_cmpint(XG_OP(g, __HYPERVISOR_xen_version, XENVER_get_features, &features), ==,
                    -EINVAL);
    g_assert_cmpint(XG_OP(g, __HYPERVISOR_xen_version, XENVER_guest_handle, &uuid), ==, 0);
    g_assert_cmpmem(uuid, 16, g->d->uuid, 16);
    g_assert_cmpint(XG_CALL(g, __HYPERVISOR_xen_version, XENVER_pagesize, 0), ==, 4096);
    g_assert_cmpint(XG_CALL(g, __HYPERVISOR_xen_version, XENVER_build_id, 0), ==, -EPERM);
    g_assert_cmpint(XG_OP(g, __HYPERVISOR_xen_version, XENVER_commandline, &text), ==, 0);
    g_assert_cmpstr(text, ==, "<denied>");
    g_assert_cmpint(XG_CALL(g, __HYPERVISOR_xen_version, 11, 0), ==, -ENOSYS);
    g_assert_cmpint(XG_CALL(g, __HYPERVISOR_xen_version, XENVER_extraversion, 1ull << 60), ==,
                    -EFAULT);
    xen_guest_free(g);
}

static void test_multicall(void)
{
    struct xen_guest *g = xen_guest_new(PV_KIND_PVH, 1);
    struct multicall_entry *list = xg_at(g, LIST);
    unsigned again;

    list[0] =
        (struct multicall_entry){.op = __HYPERVISOR_xen_version, .args = {XENVER_version}};
    list[1] = (struct multicall_entry){.op = 77};
    list[2] = (struct multicall_entry){.op = __HYPERVISOR_multicall, .args = {LIST, 3}};
    list[3] = (struct multicall_entry){.op = 1ull << 32 | __HYPERVISOR_xen_version};
    g_assert_cmpint(XG_CALL(g, __HYPERVISOR_multicall, LIST, 4), ==, 0);
    g_assert_cmphex(list[0].result, ==, 0x40011);
    g_assert_cmpint((int64_t)list[1].result, ==, -ENOSYS);
    g_assert_cmpint((int64_t)list[2].result, ==, -EINVAL);
    g_assert_cmpint((int64_t)list[3].result, ==, -ENOSYS);
    g_assert_cmpint(XG_CALL(g, __HYPERVISOR_multicall, 1ull << 60, 1), ==, -EFAULT);
    g_assert_cmpint(XG_CALL(g, __HYPERVISOR_multicall, 1ull << 60, 0), ==, 0);
    /* Long lists go on after a look at the world. */
    for (unsigned i = 0; i < 3000; i++) {
        list[i] =
            (struct multicall_entry){.op = __HYPERVISOR_xen_version, .args = {XENVER_version}};
    }
    g_assert_cmpint(
        xg_call(g, 0, __HYPERVISOR_multicall, (const uint64_t[6]){LIST, 3000}, &again), ==, 0);
    g_assert_cmpuint(again, ==, 2);
    g_assert_cmphex(list[2999].result, ==, 0x40011);
    /* Sleeping in the middle: the rest comes when it runs again. */
    list[0].op = __HYPERVISOR_sched_op;
    list[0].args[0] = SCHEDOP_block;
    list[1].result = 0;
    g->fb->vcpus[0]->cpu.rip = XG_CODE + 3;
    g->fb->vcpus[0]->cpu.gpr[CPU_RAX] = __HYPERVISOR_multicall;
    g->fb->vcpus[0]->cpu.gpr[CPU_RDI] = LIST;
    g->fb->vcpus[0]->cpu.gpr[CPU_RSI] = 2;
    pv_hypercall(g->d, g->fb->vcpus[0]);
    g_assert_true(g->fb->vcpus[0]->cpu.halted);
    g_assert_cmphex(g->fb->vcpus[0]->cpu.rip, ==, XG_CODE);
    g_assert_cmpuint(g->fb->vcpus[0]->cpu.gpr[CPU_RSI], ==, 1);
    g_assert_cmphex(list[1].result, ==, 0);
    xen_guest_free(g);
}

static void test_console(void)
{
    struct xen_guest *g = xen_guest_new(PV_KIND_PVH, 1);
    unsigned again;

    memset(xg_at(g, 0x100000), 'a', 200000);
    g_assert_cmpint(xg_call(g, 0, __HYPERVISOR_console_io,
                            (const uint64_t[6]){0, 200000, 0x100000}, &again),
                    ==, 0);
    g_assert_cmpuint(g->debug->len, ==, 200000);
    g_assert_cmpuint(again, >, 0);
    g_assert_cmpint(XG_CALL(g, __HYPERVISOR_console_io, CONSOLEIO_read, 10, 0x100000), ==, 0);
    g_assert_cmpint(XG_CALL(g, __HYPERVISOR_console_io, 2), ==, -ENOSYS);
    g_assert_cmpint(XG_CALL(g, __HYPERVISOR_console_io, CONSOLEIO_write, 10, 1ull << 50), ==,
                    -EFAULT);
    /* Where the instruction cannot be executed again it is done in one go, with a bound. */
    memset(xg_at(g, XG_CODE), 0x90, 3);
    g->d->debug_out = NULL;
    g_assert_cmpint(xg_call(g, 0, __HYPERVISOR_console_io,
                            (const uint64_t[6]){0, 200000, 0x100000}, &again),
                    ==, 0);
    g_assert_cmpuint(again, ==, 0);
    g_assert_cmpint(XG_CALL(g, __HYPERVISOR_console_io, CONSOLEIO_write, UINT32_MAX, 0), ==,
                    -EBUSY);
    xen_guest_free(g);
}

static void test_hypercall_page(void)
{
    struct xen_guest *g = xen_guest_new(PV_KIND_PVH, 1);
    const uint8_t *page = xg_at(g, 0x400000);
    static const uint8_t stub[] = {0xb8, 34, 0, 0, 0, 0x0f, 0x01, 0xc1, 0xc3};

    g_assert_false(pv_write_hypercall_msr(g->d, g->fb->vcpus[0], 0x400001));
    g_assert_false(pv_write_hypercall_msr(g->d, g->fb->vcpus[0], 0x80000000));
    g_assert_false(pv_write_hypercall_msr(g->d, g->fb->vcpus[0], ~0ull << 12));
    g_assert_true(pv_write_hypercall_msr(g->d, g->fb->vcpus[0], 0x400000));
    g_assert_cmpmem(page + 34 * 32, sizeof(stub), stub, sizeof(stub));
    g_assert_cmphex(page[23 * 32], ==, 0x0f);
    g_assert_cmphex(page[23 * 32 + 1], ==, 0x0b);
    xen_guest_free(g);
}

/* Work per execution is bounded, whatever the guest asks for; counted, not timed. */
static void test_latency(void)
{
    struct xen_guest *g = xen_guest_new(PV_KIND_PVH, 1);
    struct xen_memory_reservation *r = xg_at(g, XG_ARGS);
    uint64_t *gfns = xg_at(g, 0x200000);
    struct multicall_entry *calls = xg_at(g, 0x300000);
    struct hypercall list[] = {
        {.nr = __HYPERVISOR_memory_op, .arg = {XENMEM_decrease_reservation, XG_ARGS}},
        {.nr = __HYPERVISOR_memory_op, .arg = {XENMEM_populate_physmap, XG_ARGS}},
        {.nr = __HYPERVISOR_grant_table_op, .arg = {GNTTABOP_copy, 0x100000, INT32_MAX}},
        {.nr = __HYPERVISOR_grant_table_op,
         .arg = {GNTTABOP_map_grant_ref, 0x100000, INT32_MAX}},
        {.nr = __HYPERVISOR_multicall, .arg = {0x300000, UINT32_MAX}},
        {.nr = __HYPERVISOR_console_io, .arg = {CONSOLEIO_write, UINT32_MAX, 0x100000}},
    };

    r->nr_extents = 2048;
    r->extent_order = 0;
    r->domid = DOMID_SELF;
    r->extent_start.p = (xen_pfn_t *)(uintptr_t)0x200000;
    for (unsigned i = 0; i < 2048; i++) {
        gfns[i] = 0x800 + i;
    }
    for (unsigned i = 0; i < 4096; i++) {
        calls[i].op = __HYPERVISOR_grant_table_op; /* each has its own long list */
        calls[i].args[0] = GNTTABOP_unmap_grant_ref;
        calls[i].args[1] = 0x100000;
        calls[i].args[2] = 1000;
    }
    for (unsigned i = 0; i < G_N_ELEMENTS(list); i++) {
        struct hypercall *h = &list[i];

        h->d = g->d;
        h->v = g->fb->vcpus[0];
        hypercall_dispatch(h);
        g_assert_true(h->again);
        g_assert_cmpuint(h->work, >, HYPERCALL_BUDGET / 2);
        g_assert_cmpuint(h->work, <=, HYPERCALL_BUDGET);
        while (i == 0 && h->again) { /* all of them are given back, for the next one */
            h->again = false;
            h->work = 0;
            g_assert_cmpint(hypercall_dispatch(h), >, 0);
        }
    }
    xen_guest_free(g);
}

static void test_cpuid(void)
{
    struct pv_domain_config config = {.kind = PV_KIND_PVH, .tsc_hz = 2000000000};
    uint32_t rows[16][6];
    unsigned n = pv_cpuid_leaves(&config, rows, 16);

    g_assert_cmpuint(n, ==, 7);
    g_assert_cmphex(rows[0][2], ==, 0x40000004);
    g_assert_cmpmem(&rows[0][3], 12, "XenVMMXenVMM", 12);
    g_assert_cmphex(rows[1][2], ==, 0x40011);
    g_assert_cmphex(rows[6][2], ==, 0x58);
    g_assert_cmpuint(rows[6][4], ==, PV_DOMID);
    g_assert_cmpuint(pv_cpuid_leaves(&config, rows, 3), ==, 3);
    config.slow_eoi = true;
    pv_cpuid_leaves(&config, rows, 16);
    g_assert_cmphex(rows[6][2], ==, 0x18);
}

/* --- State ------------------------------------------------------------------------------ */

static void guest_exercise(struct xen_guest *g)
{
    struct xen_add_to_physmap add = {
        .domid = DOMID_SELF, .space = XENMAPSPACE_shared_info, .gpfn = 1};
    struct vcpu_register_vcpu_info info = {.mfn = 0x200, .offset = 0x40};
    struct vcpu_set_singleshot_timer shot = {.timeout_abs_ns = 900000000};
    struct evtchn_bind_virq virq = {.virq = VIRQ_TIMER, .vcpu = 1};
    struct evtchn_alloc_unbound unbound = {.dom = DOMID_SELF, .remote_dom = DOMID_SELF};
    struct evtchn_bind_interdomain local = {.remote_dom = DOMID_SELF};
    struct xen_remove_from_physmap hole = {.domid = DOMID_SELF, .gpfn = 0x333};
    struct sched_watchdog dog = {.timeout = 100};

    g_assert_cmpint(XG_OP(g, __HYPERVISOR_memory_op, XENMEM_add_to_physmap, &add), ==, 0);
    add = (struct xen_add_to_physmap){
        .domid = DOMID_SELF, .space = XENMAPSPACE_grant_table, .idx = 2, .gpfn = 0x100000};
    g_assert_cmpint(XG_OP(g, __HYPERVISOR_memory_op, XENMEM_add_to_physmap, &add), ==, 0);
    g_assert_cmpint(XG_OP(g, __HYPERVISOR_memory_op, XENMEM_remove_from_physmap, &hole), ==, 0);
    g_assert_cmpint(xg_vcpu_op(g, 0, VCPUOP_register_vcpu_info, 1, &info, sizeof(info)), ==, 0);
    g_assert_cmpint(xg_vcpu_op(g, 0, VCPUOP_set_singleshot_timer, 0, &shot, sizeof(shot)), ==,
                    0);
    g_assert_cmpint(XG_OP(g, __HYPERVISOR_event_channel_op, EVTCHNOP_bind_virq, &virq), ==, 0);
    g_assert_cmpint(XG_OP(g, __HYPERVISOR_event_channel_op, EVTCHNOP_alloc_unbound, &unbound),
                    ==, 0);
    local.remote_port = unbound.port;
    g_assert_cmpint(XG_OP(g, __HYPERVISOR_event_channel_op, EVTCHNOP_bind_interdomain, &local),
                    ==, 0);
    g_assert_cmpint(XG_OP(g, __HYPERVISOR_sched_op, SCHEDOP_watchdog, &dog), ==, 1);
    g_assert_cmpint(
        XG_CALL(g, __HYPERVISOR_vm_assist, VMASST_CMD_enable, VMASST_TYPE_runstate_update_flag),
        ==, 0);
}

static void save(struct xen_guest *g, GByteArray *out)
{
    struct state *s = state_new_save();
    const void *data;
    size_t len;

    pv_domain_state(g->d, s);
    g_assert_true(state_ok(s));
    data = state_data(s, &len);
    g_byte_array_append(out, data, (guint)len);
    state_free(s);
}

static void test_state(void)
{
    struct xen_guest *a = xen_guest_new(PV_KIND_PVH, 2);
    struct xen_guest *b = xen_guest_new(PV_KIND_PVH, 2);
    GByteArray *first = g_byte_array_new();
    GByteArray *second = g_byte_array_new();
    struct state *s;
    uint64_t saved_at;

    xg_advance(a, 12345678);
    guest_exercise(a);
    saved_at = pv_time_now(a->d);
    save(a, first);
    s = state_new_load(first->data, first->len);
    pv_domain_state(b->d, s);
    g_assert_cmpstr(state_error(s), ==, NULL);
    state_free(s);
    save(b, second);
    g_assert_cmpmem(first->data, first->len, second->data, second->len);
    g_assert_null(mem_page(b->fb->board.mem, 0x333));
    g_assert_true(xg_at(b, 0x1000) == (void *)pv_shared_info(b->d));
    g_assert_true(pv_vcpu_info(b->d, 1) == xg_at(b, 0x200040));
    /* Time goes on from where it was, and so do the timers. */
    pv_time_update(b->d);
    g_assert_cmpuint(pv_time_now(b->d), >=, saved_at);
    g_assert_cmpuint(pv_time_now(b->d), <=, saved_at + 10);
    g_assert_cmpuint(b->d->vcpu[0].singleshot_ns, ==, 900000000);
    g_assert_true(b->d->vcpu[0].singleshot.armed);
    g_assert_true(b->d->watchdog[0].timer.armed);
    g_byte_array_free(first, TRUE);
    g_byte_array_free(second, TRUE);
    xen_guest_free(a);
    xen_guest_free(b);
}

/* A stream with any byte changed is refused or taken, and the domain still works. */
static void test_state_hostile(void)
{
    struct xen_guest *a = xen_guest_new(PV_KIND_PVH, 2);
    GByteArray *good = g_byte_array_new();
    GRand *rand = g_rand_new_with_seed(1);

    guest_exercise(a);
    save(a, good);
    for (unsigned i = 0; i < 2000; i++) {
        guint at = (guint)g_rand_int_range(rand, 0, (gint32)good->len);
        uint8_t was = good->data[at];
        struct state *s;

        good->data[at] = (uint8_t)g_rand_int(rand);
        s = state_new_load(good->data, i % 10 == 0 ? at : good->len);
        pv_domain_state(a->d, s);
        state_free(s);
        pv_time_update(a->d);
        g_assert_cmpint(XG_CALL(a, __HYPERVISOR_xen_version, XENVER_version, 0), ==, 0x40011);
        evtchn_virq(a->d, 1, VIRQ_TIMER);
        a->fb->vcpus[0]->cpu.halted = false;
        good->data[at] = was;
    }
    g_rand_free(rand);
    g_byte_array_free(good, TRUE);
    xen_guest_free(a);
}

static void test_reset(void)
{
    struct xen_guest *g = xen_guest_new(PV_KIND_PVH, 2);
    char *word;

    guest_exercise(g);
    g_assert_false(pv_domain_request_shutdown(g->d, "poweroff")); /* no guest listens yet */
    word = xs_read(g->d->xenstore, "/local/domain/1/control/shutdown");
    g_assert_cmpstr(word, ==, "poweroff");
    g_free(word);
    xs_write(g->d->xenstore, "/local/domain/1/control/feature-poweroff", "1");
    g_assert_true(pv_domain_request_shutdown(g->d, "halt"));
    pv_domain_reset(g->d);
    g_assert_null(g->fb->timers);
    g_assert_true(pv_vcpu_info(g->d, 1) == &pv_shared_info(g->d)->vcpu_info[1]);
    word = xs_read(g->d->xenstore, "/local/domain/1/control/shutdown");
    g_assert_cmpstr(word, ==, "");
    g_free(word);
    guest_exercise(g); /* everything can be set up anew */
    xen_guest_free(g);
}

int main(int argc, char **argv)
{
    g_test_init(&argc, &argv, NULL);
    g_test_add_func("/pv/hypercall/boot-linux-pvh", test_boot_linux);
    g_test_add_func("/pv/hypercall/privilege", test_privilege);
    g_test_add_func("/pv/hypercall/hvm-params", test_hvm_params);
    g_test_add_func("/pv/hypercall/version", test_version);
    g_test_add_func("/pv/hypercall/multicall", test_multicall);
    g_test_add_func("/pv/hypercall/console", test_console);
    g_test_add_func("/pv/hypercall/page", test_hypercall_page);
    g_test_add_func("/pv/hypercall/latency", test_latency);
    g_test_add_func("/pv/hypercall/cpuid", test_cpuid);
    g_test_add_func("/pv/hypercall/state", test_state);
    g_test_add_func("/pv/hypercall/state-hostile", test_state_hostile);
    g_test_add_func("/pv/hypercall/reset", test_reset);
    return g_test_run();
}
