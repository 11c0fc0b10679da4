/* SPDX-License-Identifier: MIT */
/*
 * A machine: a guest with its board, vCPUs, devices and back ends. machine_new() puts
 * everything together, machine_start() lets it run, the main loop of `context` drives its
 * timers and back ends. Functions are called on the main loop's thread, board lock not held.
 *
 * Lock order: board lock, then anything in src/io. Nobody waits for a vCPU thread with the
 * board lock held.
 */
#ifndef PVEMU_MACHINE_MACHINE_H
#define PVEMU_MACHINE_MACHINE_H

#include <glib.h>
#include <stdbool.h>
#include <stdint.h>

#include "base/config.h"
#include "core/board.h"
#include "core/chardev.h"

struct machine;

enum machine_run_state { MACHINE_CREATED, MACHINE_RUNNING, MACHINE_PAUSED, MACHINE_ENDED };

/* Why the guest's run ended, for the verdict. */
struct machine_end {
    enum stop_reason reason;
    int code;          /* STOP_EXIT_CODE */
    char message[200]; /* evidence: triple fault at ..., engine error, crime of a PV guest */
};

struct machine_events {
    /* The guest ended or wants a reset. Returns what to do with it (EXIT, RESET, PAUSE).
     * Main loop, lock not held. */
    enum config_action (*stopped)(void *opaque, const struct machine_end *end);
    /* Every byte of console output (hvc0, ttyS0 and the early console), once and in order.
     * Lock held: be quick. */
    void (*output)(void *opaque, const uint8_t *buf, size_t len);
    /* The guest said it crashed (Xen crash notice), before `stopped`. */
    void (*state_changed)(void *opaque, enum machine_run_state state);
};

/* Opens everything the configuration names, loads the kernel. console is borrowed and may be
 * NULL. */
struct machine *machine_new(const struct config *config, GMainContext *context,
                            struct chardev *console, const struct machine_events *events,
                            void *opaque, GError **err);
/* Stops the vCPUs, drains and closes the disks, frees. */
void machine_free(struct machine *m);

/* Starts the vCPU threads (paused when the configuration says so). */
bool machine_start(struct machine *m, GError **err);
void machine_pause(struct machine *m);
void machine_resume(struct machine *m);
enum machine_run_state machine_state(const struct machine *m);
/* Passes on what the guest has printed and the console has not taken yet, as far as it does. */
void machine_flush_console(struct machine *m);
/* Asks the guest through xenstore: "poweroff" or "reboot". false when it cannot hear. */
bool machine_request_shutdown(struct machine *m, const char *word);
/* Asks the guest to suspend: its run stops with STOP_SUSPEND when it has. NULL, or why it cannot
 * hear (a constant). */
const char *machine_suspend(struct machine *m);
/* Takes that back. false: the guest has heard it. */
bool machine_withdraw_suspend(struct machine *m);
/* Lets a guest go on that stopped with STOP_SUSPEND and was paused by `stopped`. cancelled: as if
 * nothing had been; else as in a new domain, its devices connecting again. An error leaves it
 * suspended. */
bool machine_resume_suspended(struct machine *m, bool cancelled, GError **err);
/* Back to a fresh boot of the same kernel. */
bool machine_reset(struct machine *m, GError **err);
/* Keyboard input for the guest; returns how much was taken. */
size_t machine_input(struct machine *m, const uint8_t *buf, size_t len);

/* One line for the person: "Linux 6.1.0 (bzImage, xz) by PVH, interpreter, 1 CPU, 512 MiB,
 * ...". Caller frees. */
char *machine_describe(const struct machine *m);
/* The final kernel command line; borrowed. */
const char *machine_cmdline(const struct machine *m);
/* What was done about the initramfs, one line or NULL; borrowed. */
const char *machine_initrd_note(const struct machine *m);
/* The word of -accel for what runs it; borrowed. */
const char *machine_accel_name(const struct machine *m);
/* The engine's counters, a line "name value" each; NULL: it has none. */
char *machine_stats(const struct machine *m);
/* Changes the engine of a running or paused guest. On the main loop. */
bool machine_set_accel(struct machine *m, const char *word, GError **err);
/* The index-th engine's word, and whether this host can run it (*err: why not); NULL: there is none.
 * Borrowed. */
const char *machine_engine(unsigned index, bool *usable, GError **err);
/* Why that is not KVM, for a person; NULL when there is nothing to say. Borrowed. */
const char *machine_accel_note(const struct machine *m);
/* How many CPUs the guest is to have now, and changes that through xenstore. NULL, or why it
 * cannot be (a constant). */
unsigned machine_vcpus(struct machine *m);
const char *machine_set_vcpus(struct machine *m, unsigned nr);
/* What memory the guest is to use, what it has not given back, and changes the former. */
void machine_memory(struct machine *m, uint64_t *target, uint64_t *actual);
const char *machine_set_memory(struct machine *m, uint64_t bytes);
/* The board lock; borrowed. */
GMutex *machine_lock(struct machine *m);
/* ns the guest has run. */
uint64_t machine_uptime_ns(struct machine *m);
/* Puts this process into the sandbox that the configuration asks for, for good: nothing can
 * be opened any more. Only the program calls it, between machine_new() and machine_start(),
 * before its first GLib signal source (whose thread inherits it). It may go on removing
 * files in unlink_dir (NULL: nowhere). */
void machine_confine(struct machine *m, const char *unlink_dir);

#endif
