/* SPDX-License-Identifier: MIT */
/*
 * Stopping for a debugger (accel_ops.set_debug): with one attached every instruction goes through
 * run_slowly(), as under TF, and is looked at here before and after. For cpu/dbt as well, which
 * leaves everything to the interpreter then.
 */
#include "base/error.h"
#include "engine.h"

enum { DEBUG_INT3 = 0xcc };

static bool debug_point_valid(const struct vcpu_point *p)
{
    bool size = p->len == 1 || p->len == 2 || p->len == 4 || p->len == 8;

    return p->kind == VCPU_POINT_EXEC || (size && (p->gva & (p->len - 1u)) == 0);
}

bool interp_set_debug(struct vcpu *v, const struct vcpu_debug *debug, GError **err)
{
    struct interp *e = v->engine;

    e->debugging = false;
    if (debug == NULL) {
        return true;
    }
    if (debug->nr_points > VCPU_POINTS) {
        return error_set(err, PVEMU_ERROR_LIMIT, "there are only %u breakpoints", VCPU_POINTS);
    }
    for (unsigned i = 0; i < debug->nr_points; i++) {
        if (!debug_point_valid(&debug->points[i])) {
            return error_set(err, PVEMU_ERROR_USAGE,
                             "breakpoint %u: 1, 2, 4 or 8 bytes at a multiple of that", i);
        }
    }
    e->debug = *debug;
    e->debugging = debug->step || debug->int3 || debug->nr_points > 0;
    return true;
}

static bool debug_is_int3(const struct interp *e, uint64_t gva)
{
    const uint8_t *page;
    uint64_t gpa;

    if (!x86_probe(e->v, gva, &gpa)) {
        return false;
    }
    page = mem_page(e->v->mem, gpa >> MEM_PAGE_SHIFT);
    return page != NULL && page[gpa & (MEM_PAGE_SIZE - 1)] == DEBUG_INT3;
}

static bool debug_stop(struct exit *exit, unsigned stop)
{
    if (stop != 0) {
        exit->kind = EXIT_DEBUG;
        exit->stop = stop;
    }
    return stop != 0;
}

bool interp_debug_before(struct interp *e, struct exit *exit)
{
    const struct cpu_x86 *cpu = &e->v->cpu;
    uint64_t gva = cpu->rip + (interp_is64(e) ? 0 : cpu->seg[CPU_CS].base);
    unsigned stop = 0;

    interp_fpu_home(e); /* what is called here may use vector registers */
    e->debug_hit = 0;
    for (unsigned i = 0; i < e->debug.nr_points; i++) {
        const struct vcpu_point *p = &e->debug.points[i];

        if (p->kind == VCPU_POINT_EXEC && p->gva == gva) {
            stop |= VCPU_STOP_POINT << i;
        }
    }
    if (e->debug.int3 && debug_is_int3(e, gva)) {
        stop |= VCPU_STOP_INT3;
    }
    return debug_stop(exit, stop);
}

bool interp_debug_after(struct interp *e, struct exit *exit)
{
    bool step = e->debug.step && !e->v->cpu.halted; /* EXIT_HALT is a stop as well */

    return debug_stop(exit, e->debug_hit | (step ? VCPU_STOP_STEP : 0));
}

void interp_debug_access(struct interp *e, uint64_t va, unsigned len, unsigned access)
{
    for (unsigned i = 0; i < e->debug.nr_points; i++) {
        const struct vcpu_point *p = &e->debug.points[i];
        bool kind = p->kind == VCPU_POINT_ACCESS ||
                    (p->kind == VCPU_POINT_WRITE && (access & X86_WRITE) != 0);

        if (kind && va < p->gva + p->len && p->gva < va + len) {
            e->debug_hit |= VCPU_STOP_POINT << i;
        }
    }
}
