/* SPDX-License-Identifier: MIT */
/*
 * Putting a machine together and taking it apart.
 *
 * Lock order: board lock > back-end locks in src/io > the work list's lock. Nobody waits for a
 * vCPU thread or drains a disk with the board lock held (run_park releases it while it waits).
 */
#include "machine/machine_private.h"

#include <string.h>

#include "base/arena.h"
#include "base/error.h"
#include "base/sandbox.h"
#include "boot/boot_image.h"
#include "cpu/dbt/dbt.h"
#include "pv/pv_guest.h"

/* Hypercall arguments: supervisor rights whatever the CPL, and no fault for the guest. */
static bool machine_translate(struct vcpu *v, uint64_t gva, bool write, uint64_t *gpa)
{
    struct x86_mapping map;
    struct x86_fault fault;

    if (!x86_translate(v, gva, write ? X86_WRITE : X86_READ, &map, &fault)) {
        return false;
    }
    *gpa = map.gpa;
    return true;
}

static const struct vcpu_mmu_ops machine_mmu_ops = {.translate = machine_translate};

static bool machine_make_vcpus(struct machine *m, GError **err)
{
    struct dbt_options options = {0};

    if (m->config->accel_words != NULL &&
        !dbt_options_parse(&options, m->config->accel_words, err)) {
        return false;
    }
    m->nr_vcpus = m->config->smp_max;
    m->vcpus = g_new0(struct vcpu_thread *, m->nr_vcpus);
    for (unsigned i = 0; i < m->nr_vcpus; i++) {
        struct vcpu_thread *vt = arena_map(NULL, sizeof(*vt));

        if (vt == NULL) {
            return error_set(err, PVEMU_ERROR_HOST, "no memory for %u vCPUs", m->nr_vcpus);
        }
        m->vcpus[i] = vt;
        vt->machine = m;
        vt->vcpu.id = i;
        vt->vcpu.accel = m->accel;
        vt->vcpu.model = m->model;
        vt->vcpu.mem = m->board.mem;
        vt->vcpu.board_ops = &machine_vcpu_ops;
        vt->vcpu.mmu = &machine_mmu_ops;
        vt->vcpu.board = &m->board;
        cpu_reset(&vt->vcpu.cpu);
        if (!accel_make_engines(vt, &options, err)) {
            return false;
        }
    }
    return true;
}

/* How the kernel is entered: as -machine says, else PVH before PV. */
static bool machine_choose_kind(struct machine *m, GError **err)
{
    const char *word = m->config->machine != NULL ? m->config->machine : "auto";

    if (strcmp(word, "auto") == 0 && !m->image->has_pvh && !m->image->has_pv) {
        return boot_image_check_any(m->image, err);
    }
    if (strcmp(word, "pv") == 0 || (strcmp(word, "auto") == 0 && !m->image->has_pvh)) {
        m->kind = PV_KIND_PV;
        return boot_image_check_pv(m->image, err);
    }
    m->kind = PV_KIND_PVH;
    return boot_image_check_pvh(m->image, err);
}

static uint32_t machine_extra_frames(const struct machine *m)
{
    return PV_EXTRA_FRAMES +
           (m->kind == PV_KIND_PV ? pv_guest_extra_frames(m->config->memory_max_bytes) : 0);
}

static bool machine_create(struct machine *m, GError **err)
{
    return m->kind == PV_KIND_PV ? pv_create(m, err) : pvh_create(m, err);
}

bool machine_load(struct machine *m, GError **err)
{
    const bool ok = m->kind == PV_KIND_PV ? pv_load(m, err) : pvh_load(m, err);

    boot_image_drop_content(m->image);
    return ok;
}

static bool machine_build(struct machine *m, GError **err)
{
    m->model = cpu_model_new_host(err);
    if (m->model == NULL || !accel_usable(m, err)) {
        return false;
    }
    m->clock.tsc_hz = cpu_model_tsc_hz(m->model);
    m->image = boot_image_open(m->config->kernel, err);
    if (m->image == NULL || !machine_choose_kind(m, err) || !accel_for_image(m, err) ||
        (m->accel->limit_model != NULL && !m->accel->limit_model(m->model, err)) ||
        !devices_open(m, err)) {
        return false;
    }
    if (!boot_files_prepare(m, err)) {
        return false;
    }
    m->board.mem = mem_new(m->config->memory_max_bytes, machine_extra_frames(m), err);
    if (m->board.mem == NULL) {
        return false;
    }
    m->pio = bus_new(&m->board.lock);
    m->mmio = bus_new(&m->board.lock);
    return machine_make_vcpus(m, err) && machine_create(m, err) && devices_create(m, err) &&
           machine_load(m, err);
}

struct machine *machine_new(const struct config *config, GMainContext *context,
                            struct chardev *console, const struct machine_events *events,
                            void *opaque, GError **err)
{
    struct machine *m = arena_map(NULL, sizeof(*m)); /* vCPUs agree on things in its board */

    if (m == NULL) {
        error_set(err, PVEMU_ERROR_HOST, "no memory for a machine");
        return NULL;
    }
    m->config = config;
    m->context = context;
    m->console = console;
    m->events = *events;
    m->events_opaque = opaque;
    m->accel = accel_choose(config, &m->accel_note);
    lifecycle_init(m);
    if (!board_init(m, err) || !machine_build(m, err)) {
        machine_free(m);
        return NULL;
    }
    return m;
}

void machine_free(struct machine *m)
{
    if (m == NULL) {
        return;
    }
    if (m->vcpus != NULL) {
        run_join(m);
    }
    devices_free(m);
    for (unsigned i = 0; i < m->apic.nr; i++) {
        lapic_free(m->apic.lapic[i]);
    }
    ioapic_free(m->apic.ioapic);
    pv_domain_free(m->pv);
    for (unsigned i = 0; m->vcpus != NULL && i < m->nr_vcpus; i++) {
        if (m->vcpus[i] != NULL) {
            accel_free_engines(m->vcpus[i]);
            arena_unmap(m->vcpus[i], sizeof(*m->vcpus[i]));
        }
    }
    g_free(m->vcpus);
    bus_free(m->pio);
    bus_free(m->mmio);
    mem_free(m->board.mem);
    boot_image_free(m->image);
    cpu_model_free(m->model);
    g_free(m->initrd);
    g_free(m->cmdline);
    g_free(m->initrd_note);
    g_free(m->accel_note);
    for (unsigned i = 0; i < ACCEL_ENGINES; i++) {
        g_free(m->accel_missing[i]);
    }
    g_free(m->map);
    board_fini(m);
    sandbox_free(m->sandbox);
    arena_unmap(m, sizeof(*m));
}

char *machine_stats(const struct machine *m)
{
    GString *out = g_string_new(NULL);

    if (m->accel->stats == NULL) {
        g_string_free(out, TRUE);
        return NULL;
    }
    for (unsigned i = 0; i < m->nr_vcpus; i++) {
        g_autofree char *text = m->accel->stats(&m->vcpus[i]->vcpu);

        if (m->nr_vcpus > 1) {
            g_string_append_printf(out, "vcpu %u\n", i);
        }
        g_string_append(out, text);
    }
    return g_string_free(out, FALSE);
}

const char *machine_accel_name(const struct machine *m)
{
    return m->accel->name;
}

const char *machine_accel_note(const struct machine *m)
{
    return m->accel_note;
}

GMutex *machine_lock(struct machine *m)
{
    return &m->board.lock;
}

const char *machine_cmdline(const struct machine *m)
{
    return m->cmdline;
}

const char *machine_initrd_note(const struct machine *m)
{
    return m->initrd_note;
}

char *machine_describe(const struct machine *m)
{
    g_autofree char *format = boot_image_describe(m->image);
    g_autofree char *release = boot_image_release(m->image);
    g_autoptr(GString) s = g_string_new(NULL);

    if (m->image->boot_loader != NULL) {
        g_string_append(s, m->image->boot_loader);
    } else {
        g_string_append_printf(s, "Linux %s", release != NULL ? release : "of unknown version");
    }
    g_string_append_printf(s, " (%s) by %s, %s%s, %u CPU%s, %" G_GUINT64_FORMAT " MiB", format,
                           m->kind == PV_KIND_PV ? "PV" : "PVH", m->accel->name,
                           m->accel->apic != NULL ? " with irqchip=split" : "", m->nr_vcpus, m->nr_vcpus > 1 ? "s" : "",
                           m->config->memory_bytes >> 20);
    for (unsigned i = 0; i < m->nr_disks; i++) {
        const struct config_disk *d = g_ptr_array_index(m->config->disks, i);

        g_string_append_printf(s, ", disk %s (%s)", d->path,
                               d->read_only                         ? "read-only"
                               : d->snapshot || m->config->snapshot ? "writes thrown away"
                                                                    : "writes kept");
    }
    return g_string_free(g_steal_pointer(&s), FALSE);
}
