/* SPDX-License-Identifier: MIT */
/*
 * Inside of the hypercall table: what a handler gets. Handlers return the value for RAX: >= 0,
 * or a negative Xen errno (the same numbers as Linux).
 *
 * Long calls: a handler counts work units (one page, one extent, one grant, one call of a
 * multicall) with hypercall_spend(). When that says no, it changes `arg` so that a call with
 * them goes on where it stopped, sets `again` and returns; the table has the guest execute the
 * instruction again, with the lock free in between.
 */
#ifndef PVEMU_PV_HYPERCALL_H
#define PVEMU_PV_HYPERCALL_H

#include <stdbool.h>
#include <stdint.h>

struct pv_domain;
struct vcpu;

/* Work units (about a microsecond each) until the guest executes the call again. */
enum { HYPERCALL_BUDGET = 1024 };

struct hypercall {
    struct pv_domain *d;
    struct vcpu *v;
    uint32_t nr;
    uint64_t arg[6];
    bool compat;   /* called from 32-bit code: 32-bit arguments and structures */
    bool again;    /* not finished: arg was changed to go on */
    bool nested;   /* from a multicall */
    bool no_result; /* the registers are as the handler left them */
    unsigned work; /* units spent in this execution */
};

/* Spends a unit; false when the budget is used up (and at least one unit was spent before). */
static inline bool hypercall_spend(struct hypercall *h, unsigned units)
{
    if (h->work > 0 && h->work + units > HYPERCALL_BUDGET) {
        return false;
    }
    h->work += units;
    return true;
}

typedef int64_t (*hypercall_fn)(struct hypercall *h);

/* Executes h->nr with h->arg: the table without registers. Tests and the fuzzer use it too. */
int64_t hypercall_dispatch(struct hypercall *h);

/* Whether a domid argument means the guest itself; if not *error is -ESRCH or -EPERM. */
bool hypercall_domid_self(const struct pv_domain *d, uint16_t domid, int64_t *error);

/* One file per family. */
int64_t memory_op(struct hypercall *h);    /* memory.c */
int64_t sched_op(struct hypercall *h);     /* sched.c */
int64_t vcpu_op(struct hypercall *h);      /* vcpu_op.c */
int64_t set_timer_op(struct hypercall *h); /* time.c */
int64_t hvm_op(struct hypercall *h);       /* hvm_op.c */
int64_t version_op(struct hypercall *h);   /* version.c */

#endif
