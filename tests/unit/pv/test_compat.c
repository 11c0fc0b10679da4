/* SPDX-License-Identifier: MIT */
/* Hypercalls and shared info of 32-bit guests: what is laid out otherwise than for 64-bit ones.
 * Structures are written out here as 32-bit code has them. */
#include <errno.h>
#include <string.h>

#include "pv/bits.h"
#include "pv/evtchn.h"
#include "pv/shared.h"
#include "pv/time.h"
#include "xen_guest.h"

enum {
    LIST = 0x20000,
    INFO = 0x30000,
    PENDING_32 = 0x800, /* offsets in shared info */
    MASK_32 = 0x880,
    CLOCK_32 = 0x900,
    CLOCK_HI_32 = 0x924,
    CLOCK_64 = 0xc00,
};

static struct xen_guest *guest_new_32(unsigned vcpus)
{
    struct xen_guest *g = xen_guest_new(PV_KIND_PVH, vcpus);

    for (unsigned i = 0; i < vcpus; i++) {
        xg_set_mode(g, i, true);
    }
    return g;
}

static uint32_t shared_word(struct xen_guest *g, unsigned offset)
{
    return *(uint32_t *)((uint8_t *)pv_shared_info(g->d) + offset);
}

static int64_t map_shared_info(struct xen_guest *g)
{
    struct {
        uint16_t domid, size;
        uint32_t space, idx, gpfn;
    } add = {.domid = DOMID_SELF, .space = XENMAPSPACE_shared_info, .gpfn = 0x77};

    return XG_OP(g, __HYPERVISOR_memory_op, XENMEM_add_to_physmap, &add);
}

static uint32_t alloc_port(struct xen_guest *g)
{
    struct evtchn_alloc_unbound op = {.dom = DOMID_SELF, .remote_dom = DOMID_SELF};

    g_assert_cmpint(XG_OP(g, __HYPERVISOR_event_channel_op, EVTCHNOP_alloc_unbound, &op), ==,
                    0);
    return op.port;
}

static void send_to(struct xen_guest *g, uint32_t port)
{
    struct evtchn_send op = {.port = port};

    g_assert_cmpint(XG_OP(g, __HYPERVISOR_event_channel_op, EVTCHNOP_send, &op), ==, 0);
}

/* --- Shared info ------------------------------------------------------------------------ */

static void test_registers(void)
{
    struct xen_guest *g = guest_new_32(1);

    /* Upper halves of registers do not count. */
    g_assert_cmpint(XG_CALL(g, __HYPERVISOR_xen_version, 0xdead00000000ull | XENVER_version),
                    ==, 0x40011);
    g_assert_cmpint(XG_CALL(g, 1000, 0), ==, -ENOSYS);
    g_assert_cmpint(XG_CALL(g, __HYPERVISOR_mmuext_op, LIST, 0, 0, DOMID_SELF), ==, 0);
    g_assert_cmpint(map_shared_info(g), ==, 0);
    g_assert_true(xg_at(g, 0x77000) == (void *)pv_shared_info(g->d));
    xen_guest_free(g);
}

static void test_latch(void)
{
    struct xen_guest *g = xen_guest_new(PV_KIND_PVH, 1);
    struct xen_hvm_param via = {.domid = DOMID_SELF, .index = HVM_PARAM_CALLBACK_IRQ};
    const uint32_t sec = shared_word(g, CLOCK_64 + 4);

    /* The 64-bit layout at first; then what the vCPU's mode is at each of three moments. */
    g_assert_cmpuint(sec, !=, 0);
    g_assert_cmpuint(pv_shared_word_bits(g->d), ==, 64);
    xg_set_mode(g, 0, true);
    g_assert_cmpint(map_shared_info(g), ==, 0);
    g_assert_cmpuint(pv_shared_word_bits(g->d), ==, 32);
    g_assert_cmpuint(shared_word(g, CLOCK_32 + 4) - sec, <, 100);
    g_assert_cmpuint(shared_word(g, CLOCK_HI_32), ==, 0);
    xg_set_mode(g, 0, false);
    g_assert_cmpint(XG_OP(g, __HYPERVISOR_hvm_op, HVMOP_set_param, &via), ==, 0);
    g_assert_cmpuint(pv_shared_word_bits(g->d), ==, 64);
    /* The clock of the other layout is not taken for pending events. */
    for (unsigned at = MASK_32; at <= CLOCK_HI_32; at += 4) {
        g_assert_cmphex(shared_word(g, at), ==, 0);
    }
    xg_set_mode(g, 0, true);
    g_assert_true(pv_write_hypercall_msr(g->d, g->fb->vcpus[0], 0x9000));
    g_assert_cmpuint(pv_shared_word_bits(g->d), ==, 32);
    /* A page that is only written again is nobody's mode. */
    xg_set_mode(g, 0, false);
    g_assert_true(pv_write_hypercall_msr(g->d, NULL, 0x9000));
    g_assert_cmpuint(pv_shared_word_bits(g->d), ==, 32);
    pv_domain_reset(g->d);
    g_assert_cmpuint(pv_shared_word_bits(g->d), ==, 64);
    xen_guest_free(g);
}

/* The words of the bitmaps and of the selector. */
static void test_events(void)
{
    struct xen_guest *g = guest_new_32(2);
    struct evtchn_bind_ipi ipi = {.vcpu = 1};
    struct evtchn_unmask unmask;
    const struct vcpu_info *info = pv_vcpu_info(g->d, 1);
    const uint32_t *selector = (const uint32_t *)info + 1;
    uint32_t last = 0;

    g_assert_cmpint(map_shared_info(g), ==, 0);
    while (last < 77) {
        g_assert_cmpint(XG_OP(g, __HYPERVISOR_event_channel_op, EVTCHNOP_bind_ipi, &ipi), ==,
                        0);
        last = ipi.port;
    }
    send_to(g, 77);
    g_assert_cmphex(shared_word(g, PENDING_32 + 8), ==, 1u << 13);
    g_assert_cmphex(*selector, ==, 1u << 2);
    g_assert_cmphex(selector[1], ==, 0); /* CR2 */
    g_assert_cmpuint(info->evtchn_upcall_pending, ==, 1);
    /* Masked: pending only, until it is unmasked. */
    bits_test_and_set((uint32_t *)((uint8_t *)pv_shared_info(g->d) + MASK_32), 35);
    send_to(g, 35);
    g_assert_cmphex(shared_word(g, PENDING_32 + 4), ==, 1u << 3);
    g_assert_cmphex(*selector, ==, 1u << 2);
    unmask.port = 35;
    g_assert_cmpint(XG_OP(g, __HYPERVISOR_event_channel_op, EVTCHNOP_unmask, &unmask), ==, 0);
    g_assert_cmphex(shared_word(g, MASK_32 + 4), ==, 0);
    g_assert_cmphex(*selector, ==, 1u << 2 | 1u << 1);
    /* 1024 ports, of which 0 is none. */
    while (last < 1023) {
        last = alloc_port(g);
    }
    g_assert_cmpint(XG_OP(g, __HYPERVISOR_event_channel_op, EVTCHNOP_bind_ipi, &ipi), ==,
                    -ENOSPC);
    unmask.port = 1024;
    g_assert_cmpint(XG_OP(g, __HYPERVISOR_event_channel_op, EVTCHNOP_unmask, &unmask), ==,
                    -EINVAL);
    xen_guest_free(g);
}

/* Ports that the other layout does not have lie idle. */
static void test_high_ports(void)
{
    struct xen_guest *g = xen_guest_new(PV_KIND_PVH, 1);
    struct evtchn_bind_ipi ipi = {0};
    struct evtchn_close close;
    uint32_t last = 0;

    while (last < 1024) {
        last = alloc_port(g);
    }
    g_assert_cmpint(XG_OP(g, __HYPERVISOR_event_channel_op, EVTCHNOP_bind_ipi, &ipi), ==, 0);
    xg_set_mode(g, 0, true);
    g_assert_cmpint(map_shared_info(g), ==, 0);
    send_to(g, ipi.port);
    g_assert_false(evtchn_is_pending(g->d, ipi.port));
    g_assert_cmphex(shared_word(g, PENDING_32 + ipi.port / 32 * 4), ==, 0);
    close.port = ipi.port;
    g_assert_cmpint(XG_OP(g, __HYPERVISOR_event_channel_op, EVTCHNOP_close, &close), ==, 0);
    xen_guest_free(g);
}

static void test_vcpu_info(void)
{
    struct xen_guest *g = guest_new_32(1);
    struct vcpu_register_vcpu_info op = {.mfn = INFO >> 12, .offset = 0x44};
    const uint32_t *at = xg_at(g, INFO + 0x44);
    const struct vcpu_time_info_x86_32 *time = (const void *)(at + 8);
    uint32_t version;

    /* The layout decides, not the caller's mode: it is the 64-bit one still. */
    g_assert_cmpint(xg_vcpu_op(g, 0, VCPUOP_register_vcpu_info, 0, &op, sizeof(op)), ==,
                    -EINVAL);
    g_assert_cmpint(map_shared_info(g), ==, 0);
    op.offset = 0x42;
    g_assert_cmpint(xg_vcpu_op(g, 0, VCPUOP_register_vcpu_info, 0, &op, sizeof(op)), ==,
                    -EINVAL);
    op.offset = 0x44; /* a multiple of 4 will do */
    g_assert_cmpint(xg_vcpu_op(g, 0, VCPUOP_register_vcpu_info, 0, &op, sizeof(op)), ==, 0);
    g_assert_cmphex(at[0] & 0xff, ==, 1);
    g_assert_cmphex(at[1], ==, UINT32_MAX); /* the selector: have it look everywhere */
    g_assert_cmphex(at[2], ==, 0);
    g_assert_cmphex(time->tsc_to_system_mul, !=, 0);
    g_assert_cmphex(time->version & 1, ==, 0);
    version = time->version;
    xg_advance(g, 1000000000);
    g_mutex_lock(&g->fb->board.lock);
    pv_time_update(g->d);
    g_mutex_unlock(&g->fb->board.lock);
    g_assert_cmpuint(time->system_time, >=, 999999000);
    g_assert_cmphex(time->version, ==, version + 2);
    xen_guest_free(g);
}

/* --- Structures ------------------------------------------------------------------------- */

struct runstate_32 {
    int32_t state;
    uint64_t entry, time[4];
} __attribute__((packed));

static void test_runstate(void)
{
    struct xen_guest *g = guest_new_32(2);
    struct runstate_32 info;
    const struct runstate_32 *area = xg_at(g, LIST);
    uint64_t address = 0xffffffff00000000ull | LIST; /* a pointer of four bytes */

    G_STATIC_ASSERT(sizeof(info) == 44);
    memset(xg_at(g, LIST), 0xee, 48);
    pv_vcpu_running(g->d, 0);
    xg_advance(g, 1000);
    g_assert_cmpint(xg_vcpu_op(g, 0, VCPUOP_register_runstate_memory_area, 0, &address, 8), ==,
                    0);
    g_assert_cmpint(area->state, ==, RUNSTATE_running);
    g_assert_cmphex(*(uint32_t *)xg_at(g, LIST + 44), ==, 0xeeeeeeee);
    pv_vcpu_blocked(g->d, 0);
    g_assert_cmpint(area->state, ==, RUNSTATE_blocked);
    g_assert_cmpuint(area->entry, ==, g->d->vcpu[0].runstate.entry_ns);
    g_assert_cmpuint(area->time[RUNSTATE_running], >=, 990); /* ticks of 0.4 ns */
    g_assert_cmpint(
        XG_CALL(g, __HYPERVISOR_vm_assist, VMASST_CMD_enable, VMASST_TYPE_runstate_update_flag),
        ==, 0);
    xg_advance(g, 500);
    pv_vcpu_running(g->d, 0);
    g_assert_cmpuint(area->entry, ==, g->d->vcpu[0].runstate.entry_ns);
    g_assert_cmpuint(area->time[RUNSTATE_blocked] - 490, <, 20);
    g_assert_cmphex(*(uint32_t *)xg_at(g, LIST + 44), ==, 0xeeeeeeee);
    memset(&info, 0xff, sizeof(info));
    g_assert_cmpint(xg_vcpu_op(g, 0, VCPUOP_get_runstate_info, 0, &info, sizeof(info)), ==, 0);
    g_assert_cmpmem(&info, sizeof(info), area, sizeof(info));
    xen_guest_free(g);
}

static void test_time_area(void)
{
    struct xen_guest *g = guest_new_32(1);
    uint64_t address = LIST;
    const struct vcpu_time_info *t = xg_at(g, LIST);

    g_assert_cmpint(xg_vcpu_op(g, 0, VCPUOP_register_vcpu_time_memory_area, 0, &address, 8), ==,
                    0);
    g_assert_cmphex(t->tsc_to_system_mul, ==, pv_vcpu_info(g->d, 0)->time.tsc_to_system_mul);
    g_assert_cmpuint(t->version, ==, 2);
    xen_guest_free(g);
}

static void test_timer(void)
{
    struct xen_guest *g = guest_new_32(1);
    const uint64_t deadline = pv_time_now(g->d) + (5ull << 32);

    g_assert_cmpint(XG_CALL(g, __HYPERVISOR_set_timer_op, (uint32_t)deadline, deadline >> 32),
                    ==, 0);
    g_assert_cmpuint(g->d->vcpu[0].singleshot_ns, ==, deadline);
    g_assert_cmpint(XG_CALL(g, __HYPERVISOR_set_timer_op, 0, 0), ==, 0);
    g_assert_cmpuint(g->d->vcpu[0].singleshot_ns, ==, 0);
    xen_guest_free(g);
}

struct reservation_32 {
    uint32_t list, nr, order, flags;
    uint16_t domid;
};

static void test_reservation(void)
{
    struct xen_guest *g = guest_new_32(1);
    struct reservation_32 op = {.list = LIST, .nr = 3, .domid = DOMID_SELF};
    uint32_t *gfns = xg_at(g, LIST);

    gfns[0] = 0x200, gfns[1] = 0x201, gfns[2] = 0x400;
    *(uint8_t *)xg_at(g, 0x201000) = 0x5a;
    g_assert_cmpint(XG_OP(g, __HYPERVISOR_memory_op, XENMEM_decrease_reservation, &op), ==, 3);
    g_assert_null(mem_page(g->fb->board.mem, 0x201));
    g_assert_null(mem_page(g->fb->board.mem, 0x400));
    gfns[2] = 0x202; /* is there */
    g_assert_cmpint(XG_OP(g, __HYPERVISOR_memory_op, XENMEM_populate_physmap, &op), ==, 2);
    g_assert_cmphex(*(uint8_t *)xg_at(g, 0x201000), ==, 0);
    op.nr = 1u << 26; /* more than a continued call can count */
    g_assert_cmpint(XG_OP(g, __HYPERVISOR_memory_op, XENMEM_decrease_reservation, &op), ==, 0);
    /* A long list is continued by the register, also where nothing is left. */
    op = (struct reservation_32){.list = LIST, .nr = 4, .order = 9, .domid = DOMID_SELF};
    for (unsigned i = 0; i < 4; i++) {
        gfns[i] = 0x600 + i * 0x200;
    }
    g_assert_true(mem_write(g->fb->board.mem, XG_ARGS, &op, sizeof(op)));
    {
        const uint64_t args[6] = {XENMEM_decrease_reservation, XG_ARGS};
        unsigned again = 0;

        g_assert_cmpint(xg_call(g, 0, __HYPERVISOR_memory_op, args, &again), ==, 4);
        g_assert_cmpuint(again, >=, 1);
    }
    g_assert_null(mem_page(g->fb->board.mem, 0xdff));
    xen_guest_free(g);
}

static void test_physmap(void)
{
    struct xen_guest *g = guest_new_32(1);
    struct {
        uint16_t domid, space, size, foreign;
        uint32_t idxs, gfns, errs;
    } batch = {DOMID_SELF, XENMAPSPACE_grant_table, 2, 0, LIST, LIST + 0x100, LIST + 0x200};
    struct {
        uint16_t domid;
        uint32_t gpfn;
    } out = {DOMID_SELF, 0x301};
    uint32_t *idxs = xg_at(g, LIST), *gfns = xg_at(g, LIST + 0x100);
    const int32_t *errs = xg_at(g, LIST + 0x200);

    idxs[0] = 1, idxs[1] = PV_MAX_GRANT_FRAMES;
    gfns[0] = 0x301, gfns[1] = 0x302;
    g_assert_cmpint(XG_OP(g, __HYPERVISOR_memory_op, XENMEM_add_to_physmap_batch, &batch), ==,
                    0);
    g_assert_cmpint(errs[0], ==, 0);
    g_assert_cmpint(errs[1], ==, -EINVAL);
    g_assert_cmphex(g->d->extra_gfn[PV_FRAME_GRANT0 + 1], ==, 0x301);
    g_assert_cmpint(XG_OP(g, __HYPERVISOR_memory_op, XENMEM_remove_from_physmap, &out), ==, 0);
    g_assert_null(mem_page(g->fb->board.mem, 0x301));
    g_assert_cmpint(XG_OP(g, __HYPERVISOR_memory_op, XENMEM_remove_from_physmap, &out), ==,
                    -ENOENT);
    xen_guest_free(g);
}

static void test_memory_map(void)
{
    struct xen_guest *g = guest_new_32(1);
    uint32_t op[2] = {10, LIST};
    const uint32_t *map = xg_at(g, LIST);

    g_assert_cmpint(XG_OP(g, __HYPERVISOR_memory_op, XENMEM_memory_map, &op), ==, 0);
    g_assert_cmpuint(op[0], ==, 2);
    g_assert_cmphex(map[5], ==, 0x100000); /* the second one; entries are 20 bytes */
    xen_guest_free(g);
}

static void test_grants(void)
{
    struct xen_guest *g = guest_new_32(1);
    struct {
        uint16_t domid;
        uint32_t nr;
        int16_t status;
        uint32_t list;
    } setup = {DOMID_SELF, 2, 99, LIST};
    struct {
        uint32_t src;
        uint16_t src_dom, src_at;
        uint32_t dst;
        uint16_t dst_dom, dst_at, len, flags;
        int16_t status;
    } copy[2] = {{0x300, DOMID_SELF, 4, 0x301, DOMID_SELF, 8, 6, 0, 99},
                 {0x300, DOMID_SELF, 4, 50, DOMID_SELF, 8, 6, GNTCOPY_dest_gref, 99}};
    const uint64_t args[6] = {GNTTABOP_copy, LIST + 0x800, 2};
    uint32_t *list = xg_at(g, LIST);

    G_STATIC_ASSERT(sizeof(copy[0]) == 24);
    list[0] = list[1] = list[2] = 0xeeeeeeee;
    g_assert_cmpint(XG_OP(g, __HYPERVISOR_grant_table_op, GNTTABOP_setup_table, &setup), ==, 0);
    g_assert_cmpint(setup.status, ==, GNTST_okay);
    g_assert_cmphex(setup.list, ==, LIST);
    g_assert_cmphex(list[1], ==, UINT32_MAX); /* lies nowhere yet */
    g_assert_cmphex(list[2], ==, 0xeeeeeeee);
    memcpy(xg_at(g, 0x300004), "grants", 6);
    memcpy(xg_at(g, LIST + 0x800), copy, sizeof(copy));
    g_assert_cmpint(xg_call(g, 0, __HYPERVISOR_grant_table_op, args, NULL), ==, 0);
    memcpy(copy, xg_at(g, LIST + 0x800), sizeof(copy));
    g_assert_cmpint(copy[0].status, ==, GNTST_okay);
    g_assert_cmpint(copy[1].status, ==, GNTST_bad_gntref);
    g_assert_cmpmem(xg_at(g, 0x301008), 6, "grants", 6);
    xen_guest_free(g);
}

static void test_multicall(void)
{
    struct xen_guest *g = guest_new_32(1);
    struct {
        uint32_t op, result, args[6];
    } list[3] = {
        {.op = __HYPERVISOR_xen_version, .args = {XENVER_version}},
        {.op = __HYPERVISOR_console_io, .args = {CONSOLEIO_write, 2, LIST + 0x800}},
        {.op = __HYPERVISOR_memory_op, .args = {XENMEM_decrease_reservation, LIST + 0x900}},
    };
    const struct reservation_32 op = {.list = LIST + 0xa00, .nr = 1, .domid = DOMID_SELF};
    const uint32_t gfn = 0x210;

    memcpy(xg_at(g, LIST), list, sizeof(list));
    memcpy(xg_at(g, LIST + 0x800), "ok", 2);
    memcpy(xg_at(g, LIST + 0x900), &op, sizeof(op));
    memcpy(xg_at(g, LIST + 0xa00), &gfn, sizeof(gfn));
    g_assert_cmpint(XG_CALL(g, __HYPERVISOR_multicall, LIST, 3), ==, 0);
    memcpy(list, xg_at(g, LIST), sizeof(list));
    g_assert_cmphex(list[0].result, ==, 0x40011);
    g_assert_cmphex(list[1].result, ==, 0);
    g_assert_cmpuint(list[2].result, ==, 1);
    g_assert_cmpstr(g->debug->str, ==, "ok");
    g_assert_null(mem_page(g->fb->board.mem, gfn));
    xen_guest_free(g);
}

/* The layouts in force are part of what is saved. */
static void test_state(void)
{
    struct xen_guest *a = guest_new_32(1);
    struct xen_guest *b = xen_guest_new(PV_KIND_PVH, 1);
    uint64_t address = LIST;
    struct state *save = state_new_save();
    struct state *load;
    const void *data;
    size_t len;

    g_assert_cmpint(map_shared_info(a), ==, 0);
    g_assert_cmpint(xg_vcpu_op(a, 0, VCPUOP_register_runstate_memory_area, 0, &address, 8), ==,
                    0);
    pv_domain_state(a->d, save);
    data = state_data(save, &len);
    load = state_new_load(data, len);
    pv_domain_state(b->d, load);
    g_assert_cmpstr(state_error(load), ==, NULL);
    g_assert_cmpuint(pv_shared_word_bits(b->d), ==, 32);
    g_assert_true(b->d->vcpu[0].runstate_32bit);
    state_free(save);
    state_free(load);
    xen_guest_free(a);
    xen_guest_free(b);
}

int main(int argc, char **argv)
{
    g_test_init(&argc, &argv, NULL);
    g_test_add_func("/pv/compat/registers", test_registers);
    g_test_add_func("/pv/compat/latch", test_latch);
    g_test_add_func("/pv/compat/events", test_events);
    g_test_add_func("/pv/compat/high-ports", test_high_ports);
    g_test_add_func("/pv/compat/vcpu-info", test_vcpu_info);
    g_test_add_func("/pv/compat/runstate", test_runstate);
    g_test_add_func("/pv/compat/time-area", test_time_area);
    g_test_add_func("/pv/compat/timer", test_timer);
    g_test_add_func("/pv/compat/reservation", test_reservation);
    g_test_add_func("/pv/compat/physmap", test_physmap);
    g_test_add_func("/pv/compat/memory-map", test_memory_map);
    g_test_add_func("/pv/compat/grants", test_grants);
    g_test_add_func("/pv/compat/multicall", test_multicall);
    g_test_add_func("/pv/compat/state", test_state);
    return g_test_run();
}
