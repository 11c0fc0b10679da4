/* SPDX-License-Identifier: MIT */
/*
 * Random programs: 5 to 40 instructions with loops, calls, returns, faults, strings, page
 * crossings, and stores into themselves. They end in their INT3 or in a fault, but for one in many
 * millions that returns to itself for ever.
 */
#ifndef PVEMU_TESTS_PROGRAM_H
#define PVEMU_TESTS_PROGRAM_H

#include "oracle.h"

enum { MAX_INSNS = 40, MAX_CODE = 2048, MAX_PATCHES = 4 };

/* What registers are for, as far as programs do not use them at random. */
struct program_roles {
    uint8_t pointers[5], data[7];
    uint8_t nr_pointers, nr_data;
    uint8_t index;   /* small, to begin with; INSN_NO_REG: none */
    uint8_t counter; /* of loops, the same */
};

struct program {
    enum insn_mode mode;
    const struct program_roles *roles;
    uint32_t rip, esp;        /* 32-bit code: where it is, and what it starts with */
    uint32_t bases[2];        /* of FS and GS */
    unsigned toggles[MAX_PATCHES]; /* opcodes of INC and DEC, which programs exchange */
    unsigned nr_toggles;
    uint8_t code[MAX_CODE + 64];
    unsigned len, nr;
    unsigned at[MAX_INSNS + 1];    /* where instructions (or small groups of them) start */
    unsigned to[MAX_INSNS];        /* branches: index of the target, 0: none */
    unsigned rel[MAX_INSNS];       /* and where its 32-bit displacement is */
    unsigned patches[MAX_PATCHES]; /* bytes of immediates that programs change */
    unsigned nr_patches;
};

/* program_gen.c */
/* A program of c->mode, and what it starts from. */
void program_make(struct oracle_rng *r, const struct cpu_model *model, struct program *p,
                  struct oracle_case *c);
/* What one of 64-bit code starts from. */
void program_state(struct oracle_rng *r, struct oracle_case *c);
void program_put(struct program *p, const uint8_t *bytes, unsigned len);
bool program_is_pointer(const struct program *p, unsigned reg);
/* A branch to instruction `to`, whose displacement of 32 bits comes here. */
void program_branch(struct program *p, unsigned to);
/* program_gen32.c: what is 32-bit code only. */
void program_roles32(struct oracle_rng *r, struct program *p, struct oracle_case *c);
/* Puts the memory operand of a random instruction somewhere useful. false: better another one. */
bool program_aim32(struct oracle_rng *r, const struct program *p, struct oracle_case *c);
void program_stack32(struct oracle_rng *r, struct program *p);
void program_string32(struct oracle_rng *r, struct program *p);
void program_indirect32(struct oracle_rng *r, struct program *p);
void program_self32(struct oracle_rng *r, struct program *p);
void program_other32(struct oracle_rng *r, struct program *p);
/* loop_gen.c: a loop instead, and what its registers hold, after program_state(). */
void program_loop(struct oracle_rng *r, struct program *p, struct oracle_case *c);

#endif
