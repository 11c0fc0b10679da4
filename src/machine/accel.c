/* SPDX-License-Identifier: MIT */
/*
 * Which engine runs the guest, and what an engine that cannot catch VMCALL needs of the guest's
 * kernel.
 */
#include "machine/machine_private.h"

#include <string.h>

#include "base/error.h"
#include "cpu/dbt/dbt.h"
#include "cpu/interp/interp.h"
#include "cpu/kvm/kvm.h"

enum { SITE_ALIGN = 16, SITE_INSN = 3, SITE_BYTES = SITE_ALIGN + SITE_INSN + 1 };

/* What "auto" falls back to: the interpreter until the translator has earned it (SUPPORT.md). */
static const struct accel_ops *const accel_fallback = &interp_accel_ops;

static const struct accel_ops *const accel_engines[] = {
    &kvm_accel_ops, &dbt_accel_ops, &interp_accel_ops,
};

/* KVM where it is really usable; otherwise *note says why not. */
static const struct accel_ops *accel_auto(char **note)
{
    g_autoptr(GError) err = NULL;
    g_autofree char *why = NULL, *hint = NULL;

    if (kvm_accel_ops.probe(&err)) {
        return &kvm_accel_ops;
    }
    why = error_split_hint(err, &hint);
    *note = g_strdup_printf("-accel %s: %s%s%s", accel_fallback->name, why,
                            hint != NULL ? "; " : "", hint != NULL ? hint : "");
    return accel_fallback;
}

const struct accel_ops *accel_choose(const char *word, char **note)
{
    *note = NULL;
    for (unsigned i = 0; i < G_N_ELEMENTS(accel_engines); i++) {
        if (g_strcmp0(word, accel_engines[i]->name) == 0) {
            return accel_engines[i];
        }
    }
    return accel_auto(note);
}

const char *machine_engine(unsigned index, bool *usable, GError **err)
{
    if (index >= G_N_ELEMENTS(accel_engines)) {
        return NULL;
    }
    *usable = accel_engines[index]->probe(err);
    return accel_engines[index]->name;
}

/* --- hypercalls by port --- */

/* A whole function: the instruction, then a jump or RET. */
static bool site_is(const uint8_t *at, uint8_t last)
{
    return at[0] == 0x0f && at[1] == 0x01 && at[2] == last &&
           (at[3] == 0xe9 || at[3] == 0xeb || at[3] == 0xc3 || at[3] == 0xcc);
}

/*
 * Linux has VMMCALL and VMCALL in two functions next to each other, 16 bytes apart, and no other
 * place looks like that. Kernels with a hypercall page have none: that page is pvemu's own text.
 */
static bool site_is_pair(const uint8_t *at)
{
    return (site_is(at, 0xd9) && site_is(at + SITE_ALIGN, 0xc1)) ||
           (site_is(at, 0xc1) && site_is(at + SITE_ALIGN, 0xd9));
}

void accel_patch_hypercalls(struct machine *m, uint64_t start, uint64_t end)
{
    const uint8_t port[SITE_INSN] = {0xe6, VCPU_HYPERCALL_PORT, 0x90}; /* OUT imm8, AL; NOP */
    uint8_t window[SITE_BYTES];

    memcpy(m->pv->hypercall_insn, port, sizeof(port));
    for (uint64_t gpa = start & ~(uint64_t)(SITE_ALIGN - 1); gpa < end; gpa += SITE_ALIGN) {
        const uint8_t *page = mem_page(m->board.mem, gpa >> MEM_PAGE_SHIFT);

        if (page == NULL || page[gpa & (MEM_PAGE_SIZE - 1)] != 0x0f ||
            !mem_read(m->board.mem, gpa, window, sizeof(window)) || !site_is_pair(window)) {
            continue;
        }
        mem_write(m->board.mem, gpa, port, sizeof(port));
        mem_write(m->board.mem, gpa + SITE_ALIGN, port, sizeof(port));
    }
}
