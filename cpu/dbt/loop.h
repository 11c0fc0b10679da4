/* SPDX-License-Identifier: MIT */
/*
 * What loop_scan.c finds out about the loop at the start of a block, for tr_loop.c, which makes
 * its fast body, and loop_head.c, which makes the head of that.
 */
#ifndef PVEMU_CPU_DBT_LOOP_H
#define PVEMU_CPU_DBT_LOOP_H

#include "translate.h"

enum {
    LOOP_INSNS = 40,
    LOOP_STEP = 4096,  /* of a register */
    LOOP_MOST = 1024,  /* bytes from one iteration to the next, where that is constant */
    LOOP_SPAN = 128,   /* of a group */
    LOOP_COEF = 16,
    LOOP_GUESSES = 8,
    LOOP_PINNED = 16, /* with a host register: it keeps its value */
    LOOP_FAILS = 4 * DBT_LOOP_GROUPS + 2 * (DBT_LOOP_LIMITS + LOOP_GUESSES),
};

/* A sum of registers as they are at the start of an iteration. */
struct loop_form {
    uint8_t coef[CPU_NR_GPR];
    bool rip, wild;
    int64_t disp;
};

/* How a register changes from one iteration to the next; GUESS: probably not. */
enum loop_class { LOOP_WILD, LOOP_SAME, LOOP_GUESS, LOOP_BY, LOOP_BY_REG };

struct loop_reg {
    enum loop_class class;
    int64_t by;
    uint8_t reg;   /* added to it */
    uint8_t nr;    /* writes */
    int8_t load;   /* the instruction that loads it; -1: none does */
    bool used;     /* in addresses */
};

/* Accesses by the same registers; low to high is what they use. */
struct loop_group {
    struct loop_form form;
    int64_t low, high;
    uint8_t base, index, scale; /* base may be RIP */
    uint8_t regs[2];            /* base and index as the ordinary translation has them */
    bool fold;                  /* base stays, and is part of what is added */
    bool write;
    uint8_t host;               /* the register of what is added */
    int8_t limit;               /* -1: it does not move */
    uint8_t shift;              /* the limit's register makes steps of so much less */
    size_t slot;                /* of the ordinary translation, in struct dbt; 0: it has none */
    bool run;                   /* that is for a run of pages */
};

struct loop_limit {
    uint8_t reg;
    bool down, set;
};

struct tr_loop {
    struct tr *t;
    unsigned nr; /* instructions */
    struct loop_form now[CPU_NR_GPR];
    struct loop_reg reg[CPU_NR_GPR];
    int8_t group[LOOP_INSNS]; /* of each instruction; -1: none */
    bool guess[LOOP_INSNS];   /* a load that is only compared */
    struct loop_group groups[DBT_LOOP_GROUPS];
    struct loop_limit limits[DBT_LOOP_LIMITS];
    unsigned nr_groups, nr_limits, nr_fails;
    bool guesses; /* some */
    uint32_t fails[LOOP_FAILS]; /* jumps to the ordinary translation */
    uint32_t turns[DBT_LOOP_LIMITS]; /* jumps from the limits */
};

/* t, nr and zeroes otherwise; false: it cannot have a fast body. */
bool loop_scan(struct tr_loop *l);
/*
 * loop_head.c. The head; true: it is a short one. _turn: at a limit, the pages of what moves
 * anew. Both run into what follows, and jump to the ordinary translation (`fails`) where they
 * cannot.
 */
bool loop_head(struct tr_loop *l);
void loop_head_turn(struct tr_loop *l);
/* One more such jump. */
void loop_fail(struct tr_loop *l, unsigned cond);
/* Where struct dbt has what is added to the addresses of a group. */
size_t loop_addend(unsigned group);

#endif
