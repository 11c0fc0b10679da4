/* SPDX-License-Identifier: MIT */
/*
 * A /dev/kvm made of a table: it answers the calls, plays a script of exits, and fails where a
 * test tells it to. One at a time.
 */
#ifndef PVEMU_TESTS_FAKE_KVM_H
#define PVEMU_TESTS_FAKE_KVM_H

#include <linux/kvm.h>
#include <stdbool.h>

#include "cpu/kvm/sys.h"

enum { FAKE_EXITS = 64, FAKE_CPUID = 256 };

/* One return of KVM_RUN. */
struct fake_exit {
    int ret;         /* of the call: 0 or a negated errno */
    uint32_t reason; /* KVM_EXIT_* */
    uint64_t rax, rbx, r15, rip;
    bool report;     /* reason KVM_EXIT_IO: OUT of a byte to port 0x7e */
    uint64_t burn_ns; /* how long it takes */
    bool hang;       /* it does not come back */
    void (*fill)(struct kvm_run *run); /* the rest of the exit; may be NULL */
};

struct fake_kvm {
    int look_error;              /* 0: its node may be opened */
    int open_error;              /* 0: it opens */
    bool open_hangs;
    int api_version;
    uint32_t fail_cap;           /* KVM_ENABLE_CAP of it fails; 0: none */
    int missing_cap;             /* a KVM_CAP_* that is not there; -1: none */
    unsigned long fail_request;  /* this call fails ... */
    int fail_error;              /* ... with this; negative: it returns -fail_error instead */
    unsigned long count_request; /* how often this call came: */
    unsigned count;
    bool no_mmap;                /* of the vCPU */
    bool die;                    /* KVM_RUN ends the process, */
    int die_signal;              /* by this; 0: it exits */
    uint32_t fail_slot;          /* this memory slot is refused; 0: none */
    bool poor_cpuid;             /* KVM_GET_SUPPORTED_CPUID offers nothing, else all */
    struct fake_exit exits[FAKE_EXITS];
    unsigned nr_exits, next_exit;
    bool probing;                /* they are of the probe's guest */
    unsigned open_fds;           /* opened and made, not yet closed */
    struct kvm_regs regs;
    struct kvm_run *run;         /* of the last vCPU mapped: the one that runs */
    uint8_t *memory;             /* of slot 0 */
    /* The rest of the vCPU, as the engine set it. */
    struct kvm_sregs sregs;
    struct kvm_xsave xsave;
    struct kvm_debugregs debugregs;
    struct kvm_vcpu_events events;
    uint64_t xcr0, msrs[16];
    uint32_t msr_index[16];
    unsigned nr_msrs;
    unsigned interrupt;          /* vector of the last KVM_INTERRUPT, 0: none */
    unsigned nmis;
    struct kvm_guest_debug debug;
    struct kvm_msr_filter filter;
    struct kvm_xen_hvm_config xen;
    struct kvm_cpuid_entry2 cpuid[FAKE_CPUID];
    unsigned nr_cpuid;
    bool log;                    /* slot 0 is logged */
    uint64_t dirty, dirty_high;  /* its first 64 pages, and slot 1's; KVM_GET_DIRTY_LOG takes them */
    uint32_t valid_regs;         /* kvm_valid_regs at the last KVM_RUN */
    unsigned slots;              /* that are set */
    bool immediate_exit;         /* as it was at the last KVM_RUN */
    bool window;                 /* request_interrupt_window, then */
    /* With local APICs in KVM. */
    uintptr_t vcpu_id;           /* of the last vCPU made */
    uint32_t mp_state;
    struct kvm_lapic_state lapic;
    struct kvm_msi msi;          /* the last message */
    int msi_answer;              /* to it: how many took it */
    uint32_t nr_routes;
    struct kvm_irq_routing_entry routes[24];
};

/* Works, with no exits yet. */
void fake_kvm_reset(void);
extern struct fake_kvm fake_kvm;
extern const struct kvm_sys fake_kvm_sys;
/* The exits of a faithful KVM's probe guest. */
void fake_kvm_play_probe(void);

#endif
