/* SPDX-License-Identifier: MIT */
/* What the files of src/machine share. */
#ifndef PVEMU_MACHINE_PRIVATE_H
#define PVEMU_MACHINE_PRIVATE_H

#include "core/block.h"
#include "core/bus.h"
#include "core/device.h"
#include "core/memory.h"
#include "core/net.h"
#include "core/vcpu.h"
#include "cpu/x86/x86.h"
#include "hw/apic.h"
#include "machine/machine.h"
#include "pv/domain.h"

struct blkback;
struct boot_image;
struct console_split;
struct dbt_options;
struct io_pool;
struct netback;
struct pv_console;
struct sandbox;

enum { ACCEL_ENGINES = 3 };

/* What an engine has for a vCPU while another one runs it. */
struct vcpu_engine {
    bool ready;
    void *engine;
    uint64_t words[4];
};

struct vcpu_thread {
    struct vcpu vcpu; /* first */
    struct vcpu_engine engines[ACCEL_ENGINES];
    struct machine *machine;
    GThread *thread;
    bool stopped;          /* parked in run.c, state at home (board lock) */
    _Atomic bool sleeping; /* in a futex wait on vcpu.request */
    _Atomic bool in_pv;    /* in pv.c: looks at `request` before it runs guest code */
    /* Board lock. What INIT, SIPI and vcpu_start left for the vCPU's thread to do. */
    bool off;   /* runs nothing until SIPI or vcpu_start; its state is the lock holder's */
    bool dead;  /* HLT with interrupts off */
    bool init;  /* INIT came */
    bool start; /* run the state that pv/ has filled in */
    int sipi;   /* vector of a start-up message, -1: none */
    uint64_t entries; /* apics.c: of the engine, when it was last looked at */
};

/* The board's clock: ns and guest TSC are the same counter, so they cannot drift apart. */
struct board_clock {
    uint64_t tsc_hz;
    _Atomic uint64_t tsc_base; /* host TSC at board time 0, moved on by every pause */
    _Atomic bool frozen;
    uint64_t frozen_tsc; /* host TSC when frozen */
};

struct machine {
    struct board board; /* first */
    const struct config *config;
    GMainContext *context;
    struct machine_events events;
    void *events_opaque;
    struct chardev *console;
    struct sandbox *sandbox; /* NULL: none, or not yet */

    struct bus *pio, *mmio;
    struct cpu_model *model;
    const struct accel_ops *accel, *started_on;
    char *accel_missing[ACCEL_ENGINES]; /* why vCPUs lack an engine; NULL: they do not */
    struct vcpu_thread **vcpus;
    unsigned nr_vcpus;
    struct apic_bus apic;
    struct {                   /* apics.c; board lock */
        bool away;             /* local APICs are the engine's */
        uint64_t again, later; /* vCPUs: a message was not taken; a vector could not be */
        uint64_t retry_ns, watch_ns;
        struct timer retry, watch;
    } apics;
    struct device *uart, *debug_exit, *debug_port, *pm, *no_pit, *ioapic_window;
    struct console_split *split;

    struct pv_domain *pv;
    struct pv_console *pv_console;
    struct io_pool *io_pool;
    struct {
        struct block *block;
        struct blkback *back;
    } * disks;
    unsigned nr_disks;
    struct net *net;
    struct netback *netback;

    enum pv_kind kind; /* how the guest is entered */
    struct boot_image *image;
    void *initrd;
    size_t initrd_len;
    char *cmdline, *initrd_note, *accel_note;
    struct pv_memory_range *map;
    unsigned map_len;

    /* Board services (board.c). */
    struct board_clock clock;
    GSource *source;
    int timer_fd, work_fd;
    struct timer *timers;      /* sorted; board lock */
    uint64_t timer_programmed; /* board ns the timerfd is set for, UINT64_MAX: off */
    GMutex work_lock;
    struct work *works, **works_tail;

    /* Life (lifecycle.c). */
    enum machine_run_state state;
    GCond parked; /* a vCPU thread has parked */
    GCond resume;
    bool hold; /* vCPUs stay parked; board lock */
    bool quit;
    _Atomic bool stop_posted;
    struct machine_end end;
    struct work stop_work;
};

static inline struct machine *machine_of(struct board *b)
{
    return (struct machine *)b;
}

/* board.c */
bool board_init(struct machine *m, GError **err);
void board_fini(struct machine *m);
void board_clock_start(struct machine *m);
void board_clock_freeze(struct machine *m);
/* Lets time go on from where it froze, but for a moment, which has passed; the TSC offsets of all vCPUs are
 * set anew. vCPUs parked. */
void board_clock_thaw(struct machine *m);
extern const struct vcpu_board_ops machine_vcpu_ops;

/* run.c */
bool run_start(struct machine *m, GError **err);
/* Parks every vCPU, with its state and APIC at home; returns when they are. Board lock held (released
 * while waiting). */
void run_park(struct machine *m);
void run_unpark(struct machine *m);
/* The same, but what an engine with local APICs has stays there. */
void run_stop(struct machine *m);
void run_release(struct machine *m);
/* No vCPU runs or can be brought back by another one. Lock held. */
bool run_all_dead(const struct machine *m);
void run_join(struct machine *m);
void run_wake(struct vcpu_thread *vt);
/* A parked vCPU as after power-on; off: it waits for SIPI or vcpu_start. Lock held. */
void run_reset_vcpu(struct vcpu_thread *vt, bool off);
/* Parked vCPUs whose registers are not the guest's any more wait for a start. Lock held. */
void run_forget_down(struct machine *m);
/* struct apic_bus and struct board_ops. */
void run_init_sipi(void *opaque, unsigned vcpu, bool sipi, uint8_t vector);
void run_vcpu_start(struct board *b, unsigned vcpu);

/* apics.c: local APICs of an engine. Board lock held. */
/* vCPUs parked: the APICs go to the engine, if it has any, with all state; and back (the lock is given
 * up for a while). */
void apics_give(struct machine *m);
void apics_take(struct machine *m);
/* On the vCPU's thread: v->rest before run(), and what follows from it behind run(). */
void apics_tell(struct vcpu_thread *vt);
void apics_hear(struct vcpu_thread *vt);
/* v->rest is another, but it makes a hypercall: it woke or was started. */
void apics_runs(struct vcpu_thread *vt);
/* board_ops.vcpu_look */
void apics_ask(struct machine *m, unsigned vcpu);
/* An upcall's vector. false: the APICs are the board's. */
bool apics_irq(struct machine *m, unsigned vcpu, uint8_t vector);
/* VCPU_REQ_IRQ was seen: what was not taken is sent again. */
void apics_again(struct machine *m, struct vcpu *v);
/* vcpu_board_ops.irq_later */
void apics_later(struct machine *m, struct vcpu *v);

/* devices.c */
/* Host sides: network, disks. Before guest memory and threads exist. */
bool devices_open(struct machine *m, GError **err);
/* Back ends let go of the guest and make their xenstore nodes anew. vCPUs parked, board lock
 * NOT held. */
void devices_reset_back_ends(struct machine *m);
bool devices_create(struct machine *m, GError **err);
void devices_reset_chips(struct machine *m); /* and the consoles; board lock held */
void devices_free(struct machine *m);
void devices_drain(struct machine *m); /* waits for disk requests; board lock NOT held */

/* boot_files.c: initrd and command line. */
bool boot_files_prepare(struct machine *m, GError **err);

/* accel.c */
/* The engine that -accel asks for; it may still fail its probe, but for "auto". *note: why it is
 * not the best one (caller frees), or NULL. */
const struct accel_ops *accel_choose(const struct config *config, char **note);
bool accel_is_kvm(const struct accel_ops *ops);
/* The probe of m->accel, if accel_choose() has not made it; there is a hint if it is KVM's. */
bool accel_usable(const struct machine *m, GError **err);
/* Once the image and the kind of guest are known: "auto" takes an engine that can run it. */
bool accel_for_image(struct machine *m, GError **err);
/* The engine of a vCPU, and those that it may change to, before the sandbox closes: KVM only if the guest
 * starts on it. */
bool accel_make_engines(struct vcpu_thread *vt, const struct dbt_options *options, GError **err);
void accel_free_engines(struct vcpu_thread *vt);
/* Makes the kernel in [start, end) and the hypercall page call by the port. Before it runs. */
void accel_patch_hypercalls(struct machine *m, uint64_t start, uint64_t end);

/* pvh.c */
/* The Xen domain, for a board of either kind: m->map is what it is told. */
bool machine_make_domain(struct machine *m, enum pv_kind kind, GError **err);
bool pvh_create(struct machine *m, GError **err);
bool pvh_load(struct machine *m, GError **err);
/* pv.c */
bool pv_create(struct machine *m, GError **err);
bool pv_load(struct machine *m, GError **err);
/* machine.c: fills memory and vCPUs for a boot of m->kind; the image's content is there before, and not after. */
bool machine_load(struct machine *m, GError **err);

/* confine.c */
/* The filters, once all threads have started and before the first instruction. */
void confine_filter(struct machine *m);
/* On a vCPU's thread, before its first instruction. */
void confine_vcpu(struct machine *m);

/* lifecycle.c */
void lifecycle_init(struct machine *m);
void lifecycle_stop(struct board *b, enum stop_reason reason, int code);
void lifecycle_stop_message(struct machine *m, enum stop_reason reason, int code,
                            const char *message);

#endif
