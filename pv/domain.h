/* SPDX-License-Identifier: MIT */
/*
 * One Xen guest: what the hypervisor and its toolstack keep about it. The machine makes it,
 * hands it hypercalls and asks for its state; back ends hang off it.
 *
 * Locking: everything in pv/ runs with the board lock held unless a comment says otherwise.
 */
#ifndef PVEMU_PV_DOMAIN_H
#define PVEMU_PV_DOMAIN_H

#include <glib.h>
#include <stdbool.h>
#include <stdint.h>

#include "core/board.h"
#include "core/memory.h"
#include "core/state.h"
#include "core/vcpu.h"

enum pv_kind { PV_KIND_PVH, PV_KIND_PV /* 64-bit */, PV_KIND_PVHVM };

/* Where the pages of the toolstack lie for PVH (Xen's own "special pages" place), above all RAM
 * below 4 GiB and reserved in the memory map. */
#define PV_STORE_GFN   0xfeffcull
#define PV_CONSOLE_GFN 0xfeffdull

enum {
    PV_DOMID = 1,
    PV_MAX_VCPUS = 32, /* 2-level ABI without registered vcpu_info */
    PV_MAX_GRANT_FRAMES = 64,
    /* Extra frames of guest memory (mem_extra_frame): */
    PV_FRAME_SHARED_INFO = 0,
    PV_FRAME_STORE = 1,
    PV_FRAME_CONSOLE = 2,
    PV_FRAME_GRANT0 = 4,
    PV_EXTRA_FRAMES = PV_FRAME_GRANT0 + PV_MAX_GRANT_FRAMES,
    PV_HVM_PARAMS = 39, /* HVM_NR_PARAMS of 4.17 */
    PV_WATCHDOGS = 2,   /* SCHEDOP_watchdog */
};

/* What XENVER_version says, and CPUID leaf 0x40000001. */
enum { PV_XEN_MAJOR = 4, PV_XEN_MINOR = 17 };

struct pv_domain_config {
    enum pv_kind kind;
    const char *name;
    uint8_t uuid[16];
    unsigned nr_vcpus; /* online at start */
    unsigned max_vcpus;
    uint64_t memory_target; /* bytes the guest is to use; 0: all of its RAM */
    uint64_t tsc_hz; /* guest TSC frequency */
    /* RAM as the guest is told (XENMEM_memory_map): E820-like, borrowed for the call. */
    const struct pv_memory_range {
        uint64_t start, len;
        uint32_t type;
    } *map;
    unsigned map_len;
    bool has_console;
    bool amd;          /* the CPU model is AMD or Hygon: VMMCALL in the hypercall page */
    bool tsc_unstable; /* the host's TSC is not invariant: no XEN_PVCLOCK_TSC_STABLE_BIT */
    bool slow_eoi;     /* guests are not shown upcalls by the local APIC, which want an EOI each;
                          they take the vector of parameter 0, which wants none */
};

struct evtchn_table;
struct gnttab;
struct pv_domain;
struct pv_guest;
struct pv_time;
struct xenstore;

/* Why a vCPU does not run although it is not in HLT. */
enum pv_sleep {
    PV_SLEEP_NONE,
    PV_SLEEP_BLOCK,    /* SCHEDOP_block */
    PV_SLEEP_POLL,     /* SCHEDOP_poll */
    PV_SLEEP_DOWN,     /* VCPUOP_down on itself */
    PV_SLEEP_SHUTDOWN, /* the domain has shut down; ends with reset or pv_domain_resume */
};

struct pv_runstate {
    uint32_t state; /* RUNSTATE_* */
    uint64_t entry_ns, time_ns[4];
};

/* Xen's per-vCPU part. */
struct pv_vcpu {
    struct pv_domain *domain;
    unsigned id;
    bool up;                  /* VCPUOP_is_up */
    bool initialised;         /* VCPUOP_initialise was done */
    bool held;                /* VCPUOP_down by another vCPU: its thread runs nothing */
    uint8_t upcall_vector;    /* HVMOP_set_evtchn_upcall_vector, 0 = none */
    uint32_t vcpu_info_frame; /* VCPUOP_register_vcpu_info; MEM_HOLE: in shared info */
    uint16_t vcpu_info_offset;
    uint64_t runstate_gva, time_gva; /* 0: not registered */
    bool runstate_32bit;             /* by a 32-bit caller: fields at multiples of 4 */
    struct timer singleshot, periodic;
    uint64_t singleshot_ns; /* guest time; 0: not set */
    uint64_t periodic_ns;   /* period; 0: not set */
    uint64_t periodic_next_ns;
    /* Sleep in a hypercall. The vCPU's cpu.halted is set together with it. */
    enum pv_sleep sleep;
    bool sleep_over;    /* woken; pv_vcpu_sleeping() finishes it */
    bool yield;         /* SCHEDOP_yield: the board gives up the host CPU once and clears it */
    uint32_t poll_port; /* the only port polled, or 0: several */
    struct timer poll_timer;
    uint64_t poll_ns; /* guest time; 0: no timeout */
    struct pv_runstate runstate;
};

struct pv_watchdog {
    struct pv_domain *domain;
    struct timer timer;
    bool used;
    uint64_t deadline_ns; /* guest time */
};

struct pv_domain {
    struct board *board;
    struct mem *mem;
    enum pv_kind kind;
    unsigned domid;
    char *name;
    uint8_t uuid[16];
    unsigned nr_vcpus; /* to be on line: at start, then by pv_domain_set_vcpus */
    unsigned max_vcpus;
    uint64_t tsc_hz;
    bool tsc_stable;
    uint64_t ram_pages;
    uint64_t target_kib; /* of these, what the guest is to use */
    struct pv_memory_range *map;
    unsigned map_len;
    bool has_console;
    /* The instruction in the hypercall page (always 3 bytes): VMCALL or VMMCALL. The machine
     * may replace it before the guest starts (an engine that needs another one). */
    uint8_t hypercall_insn[3];
    uint64_t hypercall_page; /* gpa of the last one the guest asked for; 0: none */

    /* Modules; each is private to its file. */
    struct evtchn_table *evtchn;
    struct gnttab *gnttab;
    struct pv_time *time;
    struct xenstore *xenstore;
    struct pv_guest *guest; /* a paravirtual guest's part, else NULL */

    uint64_t store_gfn, console_gfn;   /* where the rings lie */
    uint32_t store_port, console_port; /* event channels made by the toolstack at start */
    uint64_t hvm_params[64];
    uint64_t vm_assist;                  /* bit VMASST_TYPE_* */
    bool shared_32bit;                   /* shared info has the 32-bit layout (shared.h) */
    uint64_t extra_gfn[PV_EXTRA_FRAMES]; /* where each extra frame lies, or PV_NO_GFN */
    uint64_t ram_holes;                  /* RAM gfns without their own page */
    struct bit_tree *holes;              /* those without any, by their own frames */
    struct pv_vcpu vcpu[PV_MAX_VCPUS];
    struct pv_watchdog watchdog[PV_WATCHDOGS];
    int shutdown_code; /* SHUTDOWN_* of the guest, or -1 */
    int shutdown_hint; /* SCHEDOP_shutdown_code, or -1 */
    unsigned nr_awaited;  /* devices whose front ends have to connect again after a resume */
    uint64_t suspend_mfn; /* what came with SHUTDOWN_suspend: a PV guest's start info */
    /* Early console: CONSOLEIO_write and port 0xe9. */
    void (*debug_out)(void *opaque, const char *buf, size_t len);
    void *debug_opaque;
};

#define PV_NO_GFN UINT64_MAX

/* Makes the domain: shared info, store and console pages, their event channels, xenstore with
 * the nodes of xen-abi 6.2 (docs/xen.md), time. board->mem must have PV_EXTRA_FRAMES extra
 * frames; for a PV guest and as many as pv_guest_extra_frames() says behind them. */
struct pv_domain *pv_domain_new(struct board *board, const struct pv_domain_config *config,
                                GError **err);
void pv_domain_free(struct pv_domain *d);
/* Back to the state of a new boot (guest reboot with -on reboot=reset): the guest's physical
 * layout too. Back ends are reset by their owners, after this. All vCPUs are stopped. */
void pv_domain_reset(struct pv_domain *d);
void pv_domain_state(struct pv_domain *d, struct state *s);

/* vcpu_board_ops.hypercall forwards here with the lock held. Sleeps never: see
 * pv_vcpu_sleeping. */
void pv_hypercall(struct pv_domain *d, struct vcpu *v);
/* MSR 0x40000000: writes the hypercall page at the gpa in value. false: #GP. v is the vCPU whose
 * WRMSR it is; NULL: the page is only written again. */
bool pv_write_hypercall_msr(struct pv_domain *d, struct vcpu *v, uint64_t value);
/* Adds the Xen CPUID leaves for this domain kind to a profile: rows {leaf, subleaf, eax, ebx,
 * ecx, edx}. Returns how many (at most max). Leaf 4 EBX (the vCPU id) is filled in per vCPU by
 * cpu/x86. */
struct cpu_model;
unsigned pv_cpuid_leaves(const struct pv_domain_config *config, uint32_t (*leaves)[6],
                         unsigned max);

/* Called by the machine when a vCPU starts running or blocks, for runstate. On the vCPU's
 * thread. One that is held by then stays down. */
void pv_vcpu_running(struct pv_domain *d, unsigned vcpu);
void pv_vcpu_blocked(struct pv_domain *d, unsigned vcpu);
/* HLT with interrupts off: the vCPU is down until INIT, an NMI or VCPUOP_up. Board lock. */
void pv_vcpu_dead(struct pv_domain *d, unsigned vcpu);
/* INIT: the vCPU is down and forgets what it told by virtual address. Its thread or stopped. */
void pv_vcpu_init(struct pv_domain *d, unsigned vcpu);

/*
 * The sleep of SCHEDOP_block, SCHEDOP_poll and VCPUOP_down. The hypercall sets cpu.halted and
 * returns its result; the engine returns EXIT_HALT. The board's halt loop, on the vCPU's thread
 * with the lock:
 *
 *     while (v->cpu.halted) {
 *         if (!pv_vcpu_sleeping(d, v)) {
 *             if (!v->cpu.halted) {
 *                 break;               -- a sleep in a hypercall is over: run
 *             }
 *             -- HLT: the usual rules
 *         } else if (RFLAGS.IF and an interrupt waits) {
 *             pv_vcpu_wake(d, v->id);  -- then ask again
 *             continue;
 *         }
 *         wait for a request on this vCPU
 *     }
 *
 * Whoever ends a sleep calls board_ops.vcpu_request(VCPU_REQ_IRQ); its end does not depend on
 * RFLAGS.IF. true: sleeps in a hypercall and must not run. false: it does not; cpu.halted was
 * cleared if the sleep has just ended, and is as it was for HLT.
 */
bool pv_vcpu_sleeping(struct pv_domain *d, struct vcpu *v);
/* Ends block and poll; no effect otherwise. */
void pv_vcpu_wake(struct pv_domain *d, unsigned vcpu);

/*
 * The event upcall of PVH by HVM_PARAM_CALLBACK_IRQ type 2: the vector to deliver now, or -1.
 * To be asked by irq_ack() before the local APIC; it is like ExtINT (no EOI) and level: while
 * the guest leaves evtchn_upcall_pending set it is returned again, so irq_ack() sets
 * VCPU_REQ_IRQ again after using it.
 */
int pv_pending_vector(struct pv_domain *d, unsigned vcpu);

/* After a pause, a load, or a change of a vCPU's tsc_offset: the vCPUs concerned are stopped.
 */
void pv_time_update(struct pv_domain *d);

/*
 * The end of SCHEDOP_shutdown(suspend), all vCPUs stopped; pv_time_update() has to follow.
 * cancelled: the call returns 1, and everything is as before. Else it returns 0 in what a guest
 * must take for a new domain (docs/xen.md 7): RAM, registers and xenstore's nodes are the old
 * ones; event channels, grants, registered areas, watches and timers are gone. Then the owners of
 * the back ends have reset them just before, and serve the console again just after
 * (pv_console_rebind). false: it is not suspended, or its start info is none; nothing has
 * changed.
 */
bool pv_domain_resume(struct pv_domain *d, bool cancelled, GError **err);

/* Xenstore-borne requests of the toolstack: "poweroff", "reboot", "halt", "suspend". The word
 * is written in any case; false when the guest never said that it listens for it. */
bool pv_domain_request_shutdown(struct pv_domain *d, const char *word);
/* Why the guest will not notice such a request, or not survive it, or NULL. May change soon. */
const char *pv_domain_deaf(struct pv_domain *d, const char *word);
/* Takes a request back. false: the guest has taken it already. */
bool pv_domain_withdraw_shutdown(struct pv_domain *d, const char *word);

/* The toolstack wants vCPUs 0 to nr - 1 on line and no others (cpu/N/availability). Stays so over
 * a reset. */
void pv_domain_set_vcpus(struct pv_domain *d, unsigned nr);
/* The same for memory (memory/target); bytes at most all of RAM. What the guest has given back of
 * it so far is in pv_domain_memory(). */
void pv_domain_set_memory(struct pv_domain *d, uint64_t bytes);
uint64_t pv_domain_memory(const struct pv_domain *d);

/* Shared pages, for the rooms of pv/ only. Written by the guest at any time: atomics, and read
 * once. */
struct shared_info;
struct vcpu_info;
struct shared_info *pv_shared_info(struct pv_domain *d);
struct vcpu_info *pv_vcpu_info(struct pv_domain *d, unsigned vcpu);
/* The same for a guest of any layout: evtchn_upcall_pending, evtchn_upcall_mask and time are
 * at one place in both, but a 32-bit guest may put it at a multiple of 4. */
struct vcpu_info_x86_32;
struct vcpu_info_x86_32 *pv_vcpu_info_32(struct pv_domain *d, unsigned vcpu);
/* The guest was written to through pv_shared_info/pv_vcpu_info. */
void pv_vcpu_info_written(struct pv_domain *d, unsigned vcpu);
/* Back to its place in shared info, which is not written. */
void pv_vcpu_info_drop(struct pv_domain *d, unsigned vcpu);
struct vcpu *pv_vcpu_cpu(struct pv_domain *d, unsigned vcpu);
/*
 * The page at gfn, for pvemu to use as the guest asked, until pv_frame_put(). Of a PV guest it
 * is its own or one that it may map, and with `write` no page table or descriptor table, nor
 * can it become one meanwhile (pv_page.c); other guests have no types. 0 and *frame; -EINVAL:
 * no such page; -EBUSY: the guest uses it as something else. Board lock, as for all types.
 */
int pv_frame_get(struct pv_domain *d, uint64_t gfn, bool write, uint32_t *frame);
/* frame MEM_HOLE: nothing happens. */
void pv_frame_put(struct pv_domain *d, uint32_t frame, bool write);
/* Request bits for every vCPU. */
void pv_request_all(struct pv_domain *d, uint32_t bits);

#endif
