/* SPDX-License-Identifier: MIT */
/*
 * One Xen guest: what the hypervisor and its toolstack keep about it. The machine makes it, hands
 * it hypercalls and asks for its state; back ends hang off it.
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

enum pv_kind { PV_KIND_PVH, PV_KIND_PV, PV_KIND_PVHVM };

/* Where the pages of the toolstack lie for PVH (Xen's own "special pages" place), above all RAM below 4 GiB
 * and reserved in the memory map. */
#define PV_STORE_GFN 0xfeffcull
#define PV_CONSOLE_GFN 0xfeffdull

enum {
    PV_DOMID = 1,
    PV_MAX_VCPUS = 32,       /* 2-level ABI without registered vcpu_info */
    PV_MAX_GRANT_FRAMES = 64,
    /* Extra frames of guest memory (mem_extra_frame): */
    PV_FRAME_SHARED_INFO = 0,
    PV_FRAME_STORE = 1,
    PV_FRAME_CONSOLE = 2,
    PV_FRAME_GRANT0 = 4,
    PV_EXTRA_FRAMES = PV_FRAME_GRANT0 + PV_MAX_GRANT_FRAMES,
};

struct pv_domain_config {
    enum pv_kind kind;
    const char *name;
    uint8_t uuid[16];
    unsigned nr_vcpus;      /* online at start */
    unsigned max_vcpus;
    uint64_t tsc_hz;        /* guest TSC frequency */
    /* RAM as the guest is told (XENMEM_memory_map): E820-like, borrowed for the call. */
    const struct pv_memory_range { uint64_t start, len; uint32_t type; } *map;
    unsigned map_len;
    bool has_console;
};

struct evtchn_table;
struct gnttab;
struct pv_time;
struct xenstore;


struct pv_domain {
    struct board *board;
    struct mem *mem;
    enum pv_kind kind;
    unsigned domid;
    char *name;
    uint8_t uuid[16];
    unsigned max_vcpus;
    uint64_t tsc_hz;
    uint64_t ram_pages;
    struct pv_memory_range *map;
    unsigned map_len;

    /* Modules; each is private to its file. */
    struct evtchn_table *evtchn;
    struct gnttab *gnttab;
    struct pv_time *time;
    struct xenstore *xenstore;

    uint32_t store_port, console_port; /* event channels made by the toolstack at start */
    uint64_t hvm_params[64];
    uint32_t vm_assist;
    uint64_t shared_info_gfn;          /* where the guest put it, or MEM_HOLE */
    /* Xen's per-vCPU part. */
    struct pv_vcpu {
        bool up;
        uint8_t upcall_vector;         /* HVMOP_set_evtchn_upcall_vector, 0 = none */
        uint64_t vcpu_info_gpa;        /* 0 = in shared_info */
        uint64_t runstate_gva, time_gva;
        struct timer singleshot, periodic;
        uint64_t periodic_ns;
        /* SCHEDOP_poll */
        bool polling;
        struct timer poll_timer;
    } vcpu[PV_MAX_VCPUS];
    int shutdown_code;                 /* enum stop_reason, or -1 */
    /* Early console: CONSOLEIO_write and port 0xe9. */
    void (*debug_out)(void *opaque, const char *buf, size_t len);
    void *debug_opaque;
};

/* Makes the domain: shared info, store and console pages, their event channels, xenstore with the
 * nodes of xen-abi 6.2 (docs/xen.md), time. board->mem must have PV_EXTRA_FRAMES extra frames. */
struct pv_domain *pv_domain_new(struct board *board, const struct pv_domain_config *config, GError **err);
void pv_domain_free(struct pv_domain *d);
/* Back to the state of a new boot (guest reboot with -on reboot=reset). Back ends are reset by their owners. */
void pv_domain_reset(struct pv_domain *d);
void pv_domain_state(struct pv_domain *d, struct state *s);

/* vcpu_board_ops.hypercall forwards here with the lock held. */
void pv_hypercall(struct pv_domain *d, struct vcpu *v);
/* MSR 0x40000000: writes the hypercall page at the gpa in value. false: #GP. */
bool pv_write_hypercall_msr(struct pv_domain *d, struct vcpu *v, uint64_t value);
/* Adds the Xen CPUID leaves for this domain kind to a profile. */
struct cpu_model;
unsigned pv_cpuid_leaves(const struct pv_domain_config *config, uint32_t (*leaves)[6], unsigned max); /* rows {leaf, subleaf, eax, ebx, ecx, edx} */

/* Called by the machine when a vCPU starts running or blocks, for runstate. */
void pv_vcpu_running(struct pv_domain *d, unsigned vcpu);
void pv_vcpu_blocked(struct pv_domain *d, unsigned vcpu);

/* Xenstore-borne requests of the toolstack: "poweroff", "reboot", "halt", "suspend". false when the guest cannot hear. */
bool pv_domain_request_shutdown(struct pv_domain *d, const char *word);

#endif
