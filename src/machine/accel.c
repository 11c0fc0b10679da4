/* SPDX-License-Identifier: MIT */
/*
 * Which engine runs the guest, and what an engine that cannot catch VMCALL needs of the guest's
 * kernel.
 */
#include "machine/machine_private.h"

#include <string.h>

#include "base/error.h"
#include "boot/boot_image.h"
#include "boot/call_sites.h"
#include "cpu/dbt/dbt.h"
#include "cpu/interp/interp.h"
#include "cpu/kvm/kvm.h"

enum { SITE_STEP = 4, SITE_INSN = 3 };

static const struct accel_ops *const accel_engines[] = {
    &kvm_accel_ops, &dbt_accel_ops, &interp_accel_ops,
};

/* What "auto" falls back to. */
static const struct accel_ops *accel_software(void)
{
    return dbt_accel_ops.probe(NULL) ? &dbt_accel_ops : &interp_accel_ops;
}

/* KVM where it is really usable; otherwise *note says why not. */
static const struct accel_ops *accel_auto(char **note)
{
    const struct accel_ops *software = accel_software();
    g_autoptr(GError) err = NULL;
    g_autofree char *why = NULL, *hint = NULL;

    if (kvm_accel_ops.probe(&err)) {
        return &kvm_accel_ops;
    }
    why = error_split_hint(err, &hint);
    *note = g_strdup_printf("-accel %s: %s%s%s", software->name, why,
                            hint != NULL ? "; " : "", hint != NULL ? hint : "");
    return software;
}

bool accel_is_kvm(const struct accel_ops *ops)
{
    return ops == &kvm_accel_ops || ops == &kvm_split_accel_ops;
}

const struct accel_ops *accel_choose(const struct config *config, char **note)
{
    const char *word = config->accel;

    *note = NULL;
    if (config->kvm_split) {
        return &kvm_split_accel_ops;
    }
    for (unsigned i = 0; i < G_N_ELEMENTS(accel_engines); i++) {
        if (g_strcmp0(word, accel_engines[i]->name) == 0) {
            return accel_engines[i];
        }
    }
    return accel_auto(note);
}

bool accel_usable(const struct machine *m, GError **err)
{
    const struct accel_ops *ops = m->accel;
    g_autofree char *bare = NULL, *hint = NULL;

    if (accel_is_kvm(ops) && g_strcmp0(m->config->accel, ops->name) != 0) {
        return true; /* accel_auto() has just tried it */
    }
    if (ops->probe(err)) {
        return true;
    }
    if (accel_is_kvm(ops) && err != NULL && *err != NULL) {
        bare = error_split_hint(*err, &hint);
        if (hint == NULL) {
            error_hint(err, "leave -accel kvm away: the other engines do without it");
        }
    }
    return false;
}

const char *machine_engine(unsigned index, bool *usable, GError **err)
{
    if (index >= G_N_ELEMENTS(accel_engines)) {
        return NULL;
    }
    *usable = accel_engines[index]->probe(err);
    return accel_engines[index]->name;
}

/* A kernel whose hypercalls nobody can make calls by the port, in words that the caller frees:
 * what a boot loader brings, or one that makes them in a new way. NULL: it is none. */
static char *accel_unpatchable(const struct boot_image *image)
{
    if (image->boot_loader != NULL) {
        return g_strdup_printf("the kernel that %s starts", image->boot_loader);
    }
    return call_sites_unknown(image) ? g_strdup("this kernel, whose way of calling is not known,")
                                     : NULL;
}

bool accel_for_image(struct machine *m, GError **err)
{
    g_autofree char *kernel = NULL;

    if (m->kind == PV_KIND_PV && m->accel == &kvm_split_accel_ops) {
        m->accel = &kvm_accel_ops;
        m->accel_note = g_strdup("-accel kvm,irqchip=split: a PV guest has no interrupt controller; "
                                 "it runs as with -accel kvm");
    }
    if (m->kind == PV_KIND_PV || !m->accel->needs_hypercall_port) {
        return true;
    }
    kernel = accel_unpatchable(m->image);
    if (kernel == NULL) {
        return true;
    }
    if (g_strcmp0(m->config->accel, m->accel->name) == 0) {
        m->accel_note = g_strdup_printf("-accel %s: hypercalls of %s come out only "
                                        "where the host's KVM has CONFIG_KVM_XEN",
                                        m->accel->name, kernel);
        return true;
    }
    m->accel = accel_software();
    m->accel_note = g_strdup_printf("-accel %s: on KVM %s could not make hypercalls",
                                    m->accel->name, kernel);
    return m->accel->probe(err);
}

/* --- several engines for one vCPU --- */

static unsigned accel_index(const struct accel_ops *ops)
{
    unsigned i = 0;

    while (strcmp(accel_engines[i]->name, ops->name) != 0) { /* both kinds of KVM are one */
        i++;
    }
    return i;
}

/* Puts v on an engine that it has; what the old one keeps in struct vcpu is kept for it. */
static void accel_put_on(struct vcpu_thread *vt, const struct accel_ops *ops)
{
    struct vcpu *v = &vt->vcpu;
    struct vcpu_engine *from = &vt->engines[accel_index(v->accel)];
    const struct vcpu_engine *to = &vt->engines[accel_index(ops)];

    memcpy(from->words, v->engine_words, sizeof(from->words));
    memcpy(v->engine_words, to->words, sizeof(to->words));
    v->engine = to->engine;
    v->accel = ops;
}

static bool accel_make(struct vcpu_thread *vt, const struct accel_ops *ops,
                       const struct dbt_options *options, GError **err)
{
    struct vcpu *v = &vt->vcpu;
    struct vcpu_engine *e = &vt->engines[accel_index(ops)];

    v->accel = ops;
    v->engine = NULL;
    memset(v->engine_words, 0, sizeof(v->engine_words));
    e->ready = ops->vcpu_init(v, err);
    if (e->ready && ops == &dbt_accel_ops) {
        dbt_configure(v, options);
    }
    if (!e->ready && v->engine != NULL) {
        ops->vcpu_fini(v);
    }
    e->engine = v->engine;
    memcpy(e->words, v->engine_words, sizeof(e->words));
    return e->ready;
}

/* One more, that the guest may change to; if it cannot be made m->accel_missing says why. */
static void accel_make_other(struct vcpu_thread *vt, unsigned i, const struct dbt_options *options)
{
    struct machine *m = vt->machine;
    const struct accel_ops *ops = accel_engines[i];
    g_autoptr(GError) why = NULL;
    g_autofree char *hint = NULL;

    if (m->accel_missing[i] != NULL) {
        return; /* another vCPU lacks it */
    }
    if ((vt->vcpu.id != 0 || ops->probe(&why)) && accel_make(vt, ops, options, &why)) {
        return;
    }
    m->accel_missing[i] = error_split_hint(why, &hint);
}

bool accel_make_engines(struct vcpu_thread *vt, const struct dbt_options *options, GError **err)
{
    struct machine *m = vt->machine;

    if (!accel_make(vt, m->accel, options, err)) {
        return false;
    }
    for (unsigned i = 0; i < G_N_ELEMENTS(accel_engines); i++) {
        if (i != accel_index(m->accel) && !accel_is_kvm(accel_engines[i])) {
            accel_make_other(vt, i, options);
        }
    }
    m->started_on = vt->vcpu.accel = m->accel;
    vt->vcpu.engine = vt->engines[accel_index(m->accel)].engine;
    memcpy(vt->vcpu.engine_words, vt->engines[accel_index(m->accel)].words,
           sizeof(vt->vcpu.engine_words));
    return true;
}

void accel_free_engines(struct vcpu_thread *vt)
{
    for (unsigned i = 0; i < G_N_ELEMENTS(accel_engines); i++) {
        if (vt->engines[i].engine != NULL) {
            vt->vcpu.accel = accel_engines[i];
            vt->vcpu.engine = vt->engines[i].engine;
            accel_engines[i]->vcpu_fini(&vt->vcpu); /* of both kinds of KVM the same */
            vt->engines[i].engine = NULL;
        }
    }
}

/* Whatever an engine remembers of guest memory may have changed under another. */
static void accel_memory_changed(struct machine *m)
{
    uint64_t frames = (mem_ram_bytes(m->board.mem) >> MEM_PAGE_SHIFT) + PV_EXTRA_FRAMES;

    for (uint64_t frame = 0; frame < frames; frame++) {
        mem_written(m->board.mem, (uint32_t)frame);
    }
}

/* vCPUs parked, board lock held. */
static void accel_switch(struct machine *m, const struct accel_ops *to)
{
    accel_memory_changed(m);
    m->accel = to;
    for (unsigned i = 0; i < m->nr_vcpus; i++) {
        struct vcpu_thread *vt = m->vcpus[i];

        accel_put_on(vt, to);
        atomic_fetch_or(&vt->vcpu.request, VCPU_REQ_IRQ); /* what the old one had noticed */
        if (to->state_changed != NULL) {
            to->state_changed(&vt->vcpu);
        }
    }
}

/* Why the guest has not the engine that it is to change to; false. */
static bool accel_not_there(const struct machine *m, const struct accel_ops *to, GError **err)
{
    const char *why = m->accel_missing[accel_index(to)];

    if (accel_is_kvm(to)) {
        error_set(err, PVEMU_ERROR_HOST, "it was not started with KVM");
        error_hint(err, "start it with -accel kvm; `pvemu doctor` says whether this host can");
    } else {
        error_set(err, PVEMU_ERROR_HOST, "it could not be given the engine %s: %s", to->name,
                  why != NULL ? why : "unknown");
        error_hint(err, "it stays on %s; `pvemu doctor` says what this host can run",
                   m->accel->name);
    }
    return false;
}

bool machine_set_accel(struct machine *m, const char *word, GError **err)
{
    const struct accel_ops *to = NULL;
    bool was_running = m->state == MACHINE_RUNNING;

    for (unsigned i = 0; i < G_N_ELEMENTS(accel_engines); i++) {
        if (strcmp(accel_engines[i]->name, word) == 0) {
            to = accel_engines[i];
        }
    }
    if (to == &kvm_accel_ops && m->started_on == &kvm_split_accel_ops) {
        to = &kvm_split_accel_ops;
    }
    if (to == NULL) {
        error_set(err, PVEMU_ERROR_USAGE, "there is no engine '%s'", word);
        error_hint(err, "it is one of kvm, bt and interp");
        return false;
    }
    for (unsigned i = 0; i < m->nr_vcpus; i++) {
        if (!m->vcpus[i]->engines[accel_index(to)].ready) {
            return accel_not_there(m, to, err);
        }
    }
    if (m->state != MACHINE_RUNNING && m->state != MACHINE_PAUSED) {
        error_set(err, PVEMU_ERROR_HOST, "it has ended");
        error_hint(err, "`pvemu destroy` lets go of it; start it again with another -accel");
        return false;
    }
    if (to == m->accel) {
        return true;
    }
    if (was_running) {
        machine_pause(m);
    }
    g_mutex_lock(&m->board.lock);
    accel_switch(m, to);
    g_mutex_unlock(&m->board.lock);
    if (was_running) {
        machine_resume(m);
    }
    return true;
}

/* --- hypercalls by port --- */

static void site_patch(struct machine *m, uint64_t gpa, const uint8_t *port)
{
    uint8_t window[CALL_SITE_WINDOW];
    unsigned apart;

    if (gpa < CALL_SITE_BEFORE ||
        !mem_read(m->board.mem, gpa - CALL_SITE_BEFORE, window, sizeof(window))) {
        return;
    }
    apart = call_site_apart(window, gpa);
    if (apart != 0) {
        mem_write(m->board.mem, gpa, port, SITE_INSN);
        mem_write(m->board.mem, gpa + apart, port, SITE_INSN);
    }
}

void accel_patch_hypercalls(struct machine *m, uint64_t start, uint64_t end)
{
    const uint8_t port[SITE_INSN] = {0xe6, VCPU_HYPERCALL_PORT, 0x90}; /* OUT imm8, AL; NOP */
    const uint8_t *page = NULL;

    memcpy(m->pv->hypercall_insn, port, sizeof(port));
    start &= ~(uint64_t)(MEM_PAGE_SIZE - 1);
    for (uint64_t gpa = start; gpa < end; gpa += SITE_STEP) {
        const uint64_t offset = gpa & (MEM_PAGE_SIZE - 1);

        page = offset == 0 ? mem_page(m->board.mem, gpa >> MEM_PAGE_SHIFT) : page;
        if (page != NULL && page[offset] == 0x0f && page[offset + 1] == 0x01) {
            site_patch(m, gpa, port);
        }
    }
}
