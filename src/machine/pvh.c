/* SPDX-License-Identifier: MIT */
/*
 * A PVH board: RAM from 0, local APICs, an I/O APIC for the UART, no other legacy chip; the
 * kernel entered in 32-bit mode with a start info (xen docs/misc/pvh.pandoc).
 */
#include "machine/machine_private.h"

#include "base/error.h"
#include "boot/boot_image.h"
#include "boot/pvh.h"

/* gfns that belong to the hypervisor inside what could be RAM: none below MEM_LOW_END. */

static void pvh_xen_leaves(struct machine *m, const struct pv_domain_config *config)
{
    uint32_t rows[16][6];
    unsigned n = pv_cpuid_leaves(config, rows, G_N_ELEMENTS(rows));

    for (unsigned i = 0; i < n; i++) {
        struct cpuid_leaf leaf = {rows[i][0], rows[i][1], rows[i][2],
                                  rows[i][3], rows[i][4], rows[i][5]};

        cpu_model_set(m->model, &leaf);
    }
}

/* The memory map that XENMEM_memory_map gives: the same as in the start info. */
static bool pvh_memory_map(struct machine *m, GError **err)
{
    struct e820_map map;

    if (!e820_build(m->board.mem, NULL, 0, &map)) {
        return error_set(err, PVEMU_ERROR_LIMIT, "the memory map has too many entries");
    }
    m->map_len = map.count;
    m->map = g_new0(struct pv_memory_range, map.count);
    for (unsigned i = 0; i < map.count; i++) {
        m->map[i].start = map.entries[i].addr;
        m->map[i].len = map.entries[i].size;
        m->map[i].type = map.entries[i].type;
    }
    return true;
}

bool machine_make_domain(struct machine *m, enum pv_kind kind, GError **err)
{
    struct pv_domain_config config = {
        .kind = kind,
        .name = m->config->name != NULL ? m->config->name : "guest",
        .nr_vcpus = m->config->smp,
        .memory_target = m->config->memory_bytes,
        .max_vcpus = m->nr_vcpus,
        .tsc_hz = m->clock.tsc_hz,
        .has_console = true,
        .amd = cpu_model_is_amd(m->model),
        .slow_eoi = m->accel->slow_eoi,
    };

    for (unsigned i = 0; i < sizeof(config.uuid); i++) {
        config.uuid[i] = (uint8_t)g_random_int();
    }
    config.uuid[6] = (config.uuid[6] & 0x0f) | 0x40; /* RFC 4122, version 4 */
    config.uuid[8] = (config.uuid[8] & 0x3f) | 0x80;
    config.map = m->map;
    config.map_len = m->map_len;
    pvh_xen_leaves(m, &config);
    g_mutex_lock(&m->board.lock);
    m->pv = pv_domain_new(&m->board, &config, err);
    g_mutex_unlock(&m->board.lock);
    return m->pv != NULL;
}

bool pvh_create(struct machine *m, GError **err)
{
    if (!pvh_memory_map(m, err) || !machine_make_domain(m, PV_KIND_PVH, err)) {
        return false;
    }
    for (unsigned i = 0; i < m->nr_vcpus; i++) {
        lapic_new(&m->apic, &m->board, i, acpi_apic_id(i), m->clock.tsc_hz);
    }
    ioapic_new(&m->apic);
    m->apic.init_sipi = run_init_sipi;
    m->apic.opaque = m;
    return true;
}

bool pvh_load(struct machine *m, GError **err)
{
    /* Those that start off line are enabled all the same: Linux cannot bring up a CPU later whose
     * entry said disabled. It turns them off itself when xenstore says so (docs/xen.md). */
    struct pvh_params params = {
        .cmdline = m->cmdline,
        .initrd = m->initrd,
        .initrd_len = m->initrd_len,
        .acpi = {.nr_vcpus = m->nr_vcpus,
                 .max_vcpus = m->nr_vcpus,
                 .ioapic = true,
                 .ioapic_id = 1,
                 .uart = true},
    };
    struct pvh_layout layout;

    if (!pvh_build(m->image, m->board.mem, &params, &layout, err)) {
        return false;
    }
    /* Here and never again: what looks like it later is the guest's own. Whichever engine it is on now,
     * it may come back to the one it was started with. */
    if (m->started_on->needs_hypercall_port) {
        accel_patch_hypercalls(m, layout.kernel_start, layout.kernel_end);
    }
    for (unsigned i = 0; i < m->nr_vcpus; i++) {
        struct vcpu *v = &m->vcpus[i]->vcpu;

        run_reset_vcpu(m->vcpus[i], i > 0);
        if (i == 0) {
            pvh_vcpu_init(&v->cpu, &layout);
        }
        if (v->accel->state_changed != NULL) {
            v->accel->state_changed(v);
        }
    }
    board_clock_start(m);
    return true;
}
