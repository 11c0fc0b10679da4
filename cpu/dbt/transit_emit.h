/* SPDX-License-Identifier: MIT */
/*
 * Changes of privilege in the making: parts that transit_emit.c puts together. The guest's
 * registers and flags are as there; what a part changes besides its result it says
 * (transit_parts.c).
 */
#ifndef PVEMU_CPU_DBT_TRANSIT_EMIT_H
#define PVEMU_CPU_DBT_TRANSIT_EMIT_H

#include "engine.h"

#include "emit.h"

#define GS(field)   offsetof(struct dbt, field)
#define VCPU(field) offsetof(struct vcpu, field)
#define SEG(which, field)                                                                      \
    (VCPU(cpu.seg) + (which) * sizeof(struct cpu_segment) + offsetof(struct cpu_segment, field))
enum { RAX, RCX, RDX, RSP = 4 };
enum { JB = 2, JE = 4, JNE = 5, JA = 7, JS = 8 };

/* One in the making. */
struct transit {
    struct dbt *d;
    struct emit *c;
    uint32_t refused[32]; /* jumps to where it is left to C */
    unsigned nr_refused;
};

struct emit_mem transit_at(unsigned base, size_t offset);
void transit_vcpu(struct transit *t, unsigned op, unsigned reg, size_t field);
void transit_vcpu_imm(struct transit *t, enum emit_imm op, unsigned size, size_t field,
                      uint32_t imm);
void transit_patch(struct transit *t, const uint32_t *at, unsigned n);
void transit_refuse_if(struct transit *t, unsigned cond);
void transit_canonical(struct transit *t, unsigned reg);
void transit_begin(struct transit *t, uint32_t wanted);
void transit_refused(struct transit *t, bool event);
void transit_host(struct transit *t, size_t tag);
void transit_table(struct transit *t, unsigned len);
size_t transit_role(enum interp_role role, size_t field);
void transit_descriptor(struct transit *t, enum interp_role role);
void transit_load(struct transit *t, unsigned which, enum interp_role role);
void transit_null(struct transit *t, unsigned which);
void transit_flags(struct transit *t);
void transit_set_rflags(struct transit *t);
void transit_set_flags(struct transit *t);
void transit_flat(struct transit *t, unsigned which, unsigned attr);
void transit_switch(struct transit *t, unsigned from, unsigned to);
void transit_go(struct transit *t, unsigned to);
void transit_count(struct transit *t, enum dbt_count which);

#endif
