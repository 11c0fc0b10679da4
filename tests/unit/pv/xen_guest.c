/* SPDX-License-Identifier: MIT */
/* See xen_guest.h. */
#include "xen_guest.h"

#include <string.h>

#include "pv/pv_guest.h"

/* The guest is found through its board's table. */
struct xen_guest_board {
    struct board_ops ops; /* first: board->ops points here */
    struct xen_guest *guest;
};

static struct xen_guest *xg_of(struct board *b)
{
    return ((const struct xen_guest_board *)b->ops)->guest;
}

static uint64_t xg_host_tsc(struct board *b)
{
    uint64_t ns = ((struct fake_board *)b)->now_ns;

    return 1000000 + ns * 5 / 2 + xg_of(b)->tsc_ahead; /* XG_TSC_HZ */
}

static void xg_vcpu_start(struct board *b, unsigned vcpu)
{
    xg_of(b)->started[vcpu]++;
}

static bool xg_translate(struct vcpu *v, uint64_t gva, bool write, uint64_t *gpa)
{
    const struct xen_guest *g = xg_of(v->board);

    if (gva >= g->limit || (write && gva >> MEM_PAGE_SHIFT == g->read_only)) {
        return false;
    }
    *gpa = gva;
    return true;
}

static const struct vcpu_mmu_ops xg_mmu = {.translate = xg_translate};

static void xg_debug_out(void *opaque, const char *buf, size_t len)
{
    g_string_append_len(opaque, buf, (gssize)len);
}

static void xg_prepare_vcpu(struct vcpu *v)
{
    v->mmu = &xg_mmu;
    v->cpu.efer = CPU_EFER_LME | CPU_EFER_LMA;
    v->cpu.seg[CPU_CS].attr = CPU_SEG_P | CPU_SEG_S | CPU_SEG_L | 0xb;
    v->cpu.cpl = 0;
    v->cpu.rflags = 2 | CPU_IF;
}

struct xen_guest *xen_guest_new(enum pv_kind kind, unsigned vcpus)
{
    static const uint8_t vmcall[3] = {0x0f, 0x01, 0xc1};
    const struct pv_memory_range map[] = {{0, 0xa0000, 1}, {0x100000, XG_RAM - 0x100000, 1}};
    const struct pv_domain_config config = {
        .kind = kind,
        .name = "test",
        .uuid = {1, 2, 3},
        .nr_vcpus = vcpus,
        .max_vcpus = vcpus,
        .tsc_hz = XG_TSC_HZ,
        .map = map,
        .map_len = G_N_ELEMENTS(map),
        .has_console = true,
    };
    struct xen_guest *g = g_new0(struct xen_guest, 1);
    struct xen_guest_board *wrap = g_new0(struct xen_guest_board, 1);

    g->fb = fake_board_new(
        vcpus, XG_RAM,
        PV_EXTRA_FRAMES + (kind == PV_KIND_PV ? pv_guest_extra_frames(XG_RAM) : 0));
    wrap->ops = *g->fb->board.ops;
    wrap->ops.host_tsc = xg_host_tsc;
    wrap->ops.vcpu_start = xg_vcpu_start;
    wrap->guest = g;
    g->fb->board.ops = &wrap->ops;
    g->ops_tsc = xg_host_tsc;
    g->limit = 1ull << 40;
    g->debug = g_string_new(NULL);
    for (unsigned i = 0; i < vcpus; i++) {
        xg_prepare_vcpu(g->fb->vcpus[i]);
    }
    g->fb->now_ns = 5000;
    g_mutex_lock(&g->fb->board.lock);
    g->d = pv_domain_new(&g->fb->board, &config, NULL);
    g_mutex_unlock(&g->fb->board.lock);
    g_assert_nonnull(g->d);
    g->d->debug_out = xg_debug_out;
    g->d->debug_opaque = g->debug;
    g_assert_true(mem_write(g->fb->board.mem, XG_CODE, vmcall, sizeof(vmcall)));
    return g;
}

void xen_guest_free(struct xen_guest *g)
{
    struct board_ops *wrap = (struct board_ops *)g->fb->board.ops;

    g_mutex_lock(&g->fb->board.lock);
    pv_domain_free(g->d);
    g_mutex_unlock(&g->fb->board.lock);
    g_assert_null(g->fb->timers); /* nothing of the domain stays armed */
    fake_board_free(g->fb);
    g_string_free(g->debug, TRUE);
    g_free(wrap);
    g_free(g);
}

int64_t xg_call(struct xen_guest *g, unsigned vcpu, uint32_t nr, const uint64_t arg[6],
                unsigned *again)
{
    static const uint8_t regs64[6] = {CPU_RDI, CPU_RSI, CPU_RDX, CPU_R10, CPU_R8, CPU_R9};
    static const uint8_t regs32[6] = {CPU_RBX, CPU_RCX, CPU_RDX, CPU_RSI, CPU_RDI, CPU_RBP};
    struct vcpu *v = g->fb->vcpus[vcpu];
    const bool is_32bit = !cpu_is_code64(&v->cpu);
    const uint8_t *regs = is_32bit ? regs32 : regs64;
    unsigned repeated = 0;

    for (unsigned i = 0; i < 6; i++) {
        v->cpu.gpr[regs[i]] = arg[i];
    }
    v->cpu.gpr[CPU_RAX] = nr;
    for (;;) {
        v->cpu.rip = XG_CODE + 3;
        g_mutex_lock(&g->fb->board.lock);
        pv_hypercall(g->d, v);
        g_mutex_unlock(&g->fb->board.lock);
        if (v->cpu.rip == XG_CODE + 3) {
            break;
        }
        g_assert_cmphex(v->cpu.rip, ==, XG_CODE);
        repeated++;
        g_assert_cmpuint(repeated, <, 100000);
    }
    if (again != NULL) {
        *again = repeated;
    }
    if (is_32bit) {
        g_assert_cmphex(v->cpu.gpr[CPU_RAX] >> 32, ==, 0);
        return (int32_t)v->cpu.gpr[CPU_RAX];
    }
    return (int64_t)v->cpu.gpr[CPU_RAX];
}

void xg_set_mode(struct xen_guest *g, unsigned vcpu, bool is_32bit)
{
    struct cpu_x86 *cpu = &g->fb->vcpus[vcpu]->cpu;

    cpu->efer = is_32bit ? 0 : CPU_EFER_LME | CPU_EFER_LMA;
    cpu->seg[CPU_CS].attr =
        CPU_SEG_P | CPU_SEG_S | (is_32bit ? CPU_SEG_DB : CPU_SEG_L) | 0xb;
    cpu->seg[CPU_CS].base = 0;
}

int64_t xg_op(struct xen_guest *g, unsigned vcpu, uint32_t nr, uint64_t cmd, void *arg,
              size_t len)
{
    const uint64_t args[6] = {cmd, XG_ARGS, 1};
    int64_t rc;

    g_assert_true(mem_write(g->fb->board.mem, XG_ARGS, arg, len));
    rc = xg_call(g, vcpu, nr, args, NULL);
    g_assert_true(mem_read(g->fb->board.mem, XG_ARGS, arg, len));
    return rc;
}

int64_t xg_vcpu_op(struct xen_guest *g, unsigned vcpu, uint64_t cmd, unsigned target, void *arg,
                   size_t len)
{
    const uint64_t args[6] = {cmd, target, XG_ARGS};
    int64_t rc;

    if (len > 0) {
        g_assert_true(mem_write(g->fb->board.mem, XG_ARGS, arg, len));
    }
    rc = xg_call(g, vcpu, __HYPERVISOR_vcpu_op, args, NULL);
    if (len > 0) {
        g_assert_true(mem_read(g->fb->board.mem, XG_ARGS, arg, len));
    }
    return rc;
}

void *xg_at(struct xen_guest *g, uint64_t gpa)
{
    uint8_t *page = mem_page(g->fb->board.mem, gpa >> MEM_PAGE_SHIFT);

    g_assert_nonnull(page);
    return page + (gpa & (MEM_PAGE_SIZE - 1));
}

void xg_advance(struct xen_guest *g, uint64_t ns)
{
    fake_board_advance(g->fb, ns);
}
