/* SPDX-License-Identifier: MIT */
/*
 * The translator: 64-bit code, and flat 32-bit code, that runs often is copied, instruction by instruction, to host
 * code with its memory operands behind a TLB check. Everything else is the interpreter's, whose
 * engine this one is built on. See docs/translator.md.
 */
#ifndef PVEMU_CPU_DBT_DBT_H
#define PVEMU_CPU_DBT_DBT_H

#include "core/vcpu.h"

extern const struct accel_ops dbt_accel_ops;

/* For tests: after vcpu_init(). 0: as it is. */
struct dbt_options {
    unsigned hot;   /* runs before a block is translated */
    uint32_t cache; /* bytes of code before everything is dropped */
    bool perf;      /* a map for perf */
    bool no_jumps;  /* every block comes back to the interpreter's loop */
    unsigned insns; /* in a block, at most */
    unsigned tlb;   /* entries of the TLB */
    bool runs;      /* user code looks for runs of pages wherever it can (near.c) */
    bool lookups;   /* it always looks into the TLB there */
    bool views;     /* it looks into views there, of which there are few (view.c) */
    bool larges;    /* it takes all pages for large ones there */
    bool loops;     /* all that can be take their fast bodies (tr_loop.c) */
    unsigned shake; /* about one in N blocks that C enters comes after some random invalidation, */
    unsigned relink; /* or after all that leads to it or from it was undone, */
    uint64_t seed;  /* by this */
    unsigned lockstep; /* 1: compare every run of a block; N: its first 24, then one in N */
};
/* Words from the command line, with commas between them. */
bool dbt_options_parse(struct dbt_options *o, const char *text, GError **err);
void dbt_configure(struct vcpu *v, const struct dbt_options *options);
/* For tests: bytes of v->engine, whole pages, which lie where wild programs get to. */
size_t dbt_state_size(void);
/* How many differences lockstep has found. */
uint64_t dbt_lockstep_differences(const struct vcpu *v);

#endif
