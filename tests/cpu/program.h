/* SPDX-License-Identifier: MIT */
/*
 * Random programs: 5 to 40 instructions with loops, calls, returns, faults, strings, page
 * crossings, and stores into themselves. Every one ends: in its INT3, or in a fault.
 */
#ifndef PVEMU_TESTS_PROGRAM_H
#define PVEMU_TESTS_PROGRAM_H

#include "oracle.h"

enum { MAX_INSNS = 40, MAX_CODE = 2048, MAX_PATCHES = 4 };

struct program {
    uint8_t code[MAX_CODE + 64];
    unsigned len, nr;
    unsigned at[MAX_INSNS + 1];    /* where instructions (or small groups of them) start */
    unsigned to[MAX_INSNS];        /* branches: index of the target, 0: none */
    unsigned rel[MAX_INSNS];       /* and where its 32-bit displacement is */
    unsigned patches[MAX_PATCHES]; /* bytes of immediates that programs change */
    unsigned nr_patches;
};

/* program_gen.c */
void program_build(struct oracle_rng *r, const struct cpu_model *model, struct program *p);
/* What it starts from. */
void program_state(struct oracle_rng *r, struct oracle_case *c);
/* loop_gen.c: a loop instead, and what its registers hold, after program_state(). */
void program_loop(struct oracle_rng *r, struct program *p, struct oracle_case *c);

#endif
