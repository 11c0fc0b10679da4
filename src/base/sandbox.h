/* SPDX-License-Identifier: MIT */
/*
 * The second wall: what pvemu's threads and processes can still do once the guest runs
 * (docs/sandbox.md). Four layers: no_new_privs and no capabilities; Landlock for what is named
 * by a path; a seccomp filter for all threads of a process; a narrower one per class of thread.
 *
 * Order in the VMM process, all before the first guest instruction:
 *   1. everything is opened;
 *   2. sandbox_restrict(MAIN) on the main thread, sandbox_restrict(IO) on I/O threads; threads
 *      that start later inherit it;
 *   3. all threads have started: sandbox_filter_process(), which reaches every one of them;
 *   4. each thread narrows itself: sandbox_filter_thread().
 * Processes with one thread call sandbox_enter().
 *
 * A thread that needs one more system call gets it in sandbox_policy.c; a file that is needed
 * later has to be opened earlier.
 */
#ifndef PVEMU_BASE_SANDBOX_H
#define PVEMU_BASE_SANDBOX_H

#include <signal.h>
#include <stdbool.h>
#include <sys/types.h>

#include "base/config.h"

struct sock_fprog;

enum { SANDBOX_KICK_SIGNAL = SIGUSR1 }; /* brings a vCPU's thread out of a system call */

enum sandbox_class {
    SANDBOX_CLASS_MAIN,
    SANDBOX_CLASS_VCPU,
    SANDBOX_CLASS_IO,
    SANDBOX_CLASS_NET,            /* the process of the user network */
    SANDBOX_CLASS_NET_SUPERVISOR, /* and the one that starts it */
    SANDBOX_CLASS_GUARDIAN,       /* the process that restores the terminal */
    SANDBOX_NR_CLASSES,
    SANDBOX_PROCESS = SANDBOX_NR_CLASSES, /* main, vCPU and I/O together */
};

struct sandbox_options {
    enum config_sandbox mode;
    const char *unlink_dir; /* MAIN may remove files in this folder; borrowed, may be NULL */
    pid_t killable;         /* MAIN may send SIGKILL to this process; 0: none */
    bool kvm;               /* the engine is KVM: its ioctls, and the signal of its kicks */
    bool kvm_apics;         /* and has the local APICs: all threads send messages, main moves state */
};

struct sandbox;

/* Makes the filters of all classes. NULL when there is to be no sandbox: mode SANDBOX_OFF,
 * or a build with sanitizers (their run-time library needs calls of its own). All functions
 * here take NULL. */
struct sandbox *sandbox_new(const struct sandbox_options *options);
void sandbox_free(struct sandbox *s);

/* For the calling thread and what it starts: no new privileges, no capabilities, no files, no
 * TCP. Nothing in mode SANDBOX_LOG, which forbids nothing. */
void sandbox_restrict(struct sandbox *s, enum sandbox_class cls);
/* For all threads of the process, also those of libraries: the union of main, vCPU and I/O. */
void sandbox_filter_process(struct sandbox *s);
/* For the calling thread, on top of what it has. Not for a vCPU's with KVM: every exit would pay
 * for it (docs/sandbox.md). */
void sandbox_filter_thread(struct sandbox *s, enum sandbox_class cls);
/* sandbox_restrict() and sandbox_filter_thread(), for a process with one thread. */
void sandbox_enter(enum config_sandbox mode, enum sandbox_class cls);

/* What this kernel refused so far, for a person; NULL when all is in place. The caller
 * frees. */
char *sandbox_missing(const struct sandbox *s);
/* "main", "vcpu", ... */
const char *sandbox_class_name(enum sandbox_class cls);
/* The compiled filter of a class or of SANDBOX_PROCESS; borrowed; NULL when it could not be
 * made (tests). */
const struct sock_fprog *sandbox_program(const struct sandbox *s, enum sandbox_class cls);

#endif
