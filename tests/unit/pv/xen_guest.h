/* SPDX-License-Identifier: MIT */
/*
 * A Xen guest for unit tests: a fake board with a stepped TSC, a PVH domain, linear = physical
 * addresses, and hypercalls made through the registers as an engine makes them.
 */
#ifndef PVEMU_TESTS_XEN_GUEST_H
#define PVEMU_TESTS_XEN_GUEST_H

#include "fake_board.h"
#include "pv/domain.h"
#include "pv/xen_abi.h"

enum {
    XG_RAM = 16 << 20,
    XG_ARGS = 0x10000, /* gpa for hypercall structures */
    XG_CODE = 0x8000,  /* a VMCALL lies here */
};
#define XG_TSC_HZ 2500000000ull

struct xen_guest {
    struct fake_board *fb;
    uint64_t (*ops_tsc)(struct board *b); /* the TSC now */
    uint64_t tsc_ahead; /* ticks that the TSC ran while the board's clock stood still */
    struct pv_domain *d;
    uint64_t limit;                   /* gva below it are mapped */
    uint64_t read_only;               /* this page cannot be written */
    GString *debug;                   /* console_io */
    unsigned started[FAKE_MAX_VCPUS]; /* vcpu_start calls */
};

struct xen_guest *xen_guest_new(enum pv_kind kind, unsigned vcpus);
void xen_guest_free(struct xen_guest *g);

/* One execution of VMCALL on vCPU `vcpu`; the result in RAX. If the call asks to
 * be executed again that is done, and counted in *again (may be NULL). Takes the board lock. */
int64_t xg_call(struct xen_guest *g, unsigned vcpu, uint32_t nr, const uint64_t arg[6],
                unsigned *again);
#define XG_CALL(g, nr, ...) xg_call(g, 0, nr, (const uint64_t[6]){__VA_ARGS__}, NULL)
/* The same with a structure written to XG_ARGS before and read back after; its address is
 * arg[at]. */
int64_t xg_op(struct xen_guest *g, unsigned vcpu, uint32_t nr, uint64_t cmd, void *arg,
              size_t len);
#define XG_OP(g, nr, cmd, arg) xg_op(g, 0, nr, cmd, arg, sizeof(*(arg)))
int64_t xg_vcpu_op(struct xen_guest *g, unsigned vcpu, uint64_t cmd, unsigned target, void *arg,
                   size_t len);

/* Has a vCPU be in 32-bit protected mode, or in 64-bit mode again; xg_call and the others follow:
 * other registers, a result of 32 bits. */
void xg_set_mode(struct xen_guest *g, unsigned vcpu, bool is_32bit);

/* Guest memory by address, for tests. */
void *xg_at(struct xen_guest *g, uint64_t gpa);
/* Moves both clocks. */
void xg_advance(struct xen_guest *g, uint64_t ns);

#endif
