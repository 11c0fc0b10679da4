/* SPDX-License-Identifier: MIT */
/*
 * What the user asked for: filled by the option table (options.c), read by main, machine and ctl. All
 * strings are owned by the struct.
 */
#ifndef PVEMU_BASE_CONFIG_H
#define PVEMU_BASE_CONFIG_H

#include <glib.h>
#include <stdbool.h>
#include <stdint.h>

enum config_action { ACTION_DEFAULT, ACTION_EXIT, ACTION_RESET, ACTION_PAUSE };
enum config_sandbox { SANDBOX_ON, SANDBOX_OFF, SANDBOX_LOG };

struct config_disk {
    char *path;
    char *format;     /* NULL: raw */
    bool read_only;
    bool snapshot;
};

struct config {
    /* Boot */
    char *kernel, *initrd, *append, *cmdline;
    char *machine;             /* auto | pvh | pv */
    /* Machine */
    char *name;                /* NULL: chosen from the kernel's name */
    char *accel;               /* auto | kvm | bt | interp */
    char *accel_words;         /* what follows bt, behind a comma; NULL: nothing */
    bool kvm_split;            /* what follows kvm: irqchip=split */
    uint64_t memory_bytes;     /* -m; default 512 MiB */
    uint64_t memory_max_bytes; /* -m ...,max=; at least memory_bytes */
    unsigned smp, smp_max;     /* -smp: CPUs at start, and that there may be */
    /* Disks */
    GPtrArray *disks;          /* struct config_disk * */
    bool snapshot;             /* -snapshot: all disks */
    /* Network */
    char *net;                 /* user | none */
    GPtrArray *forwards;       /* char *, the argument of each -p */
    /* Console and runs that nobody watches */
    char *log_path;            /* -log: copy of the console */
    uint64_t timeout_ns;       /* 0: none */
    char *expect, *fail;       /* regular expressions */
    GPtrArray *sends;          /* char *, the argument of each -send */
    enum config_action on_panic, on_reboot, on_poweroff, on_suspend;
    bool quiet;
    bool dry_run;              /* -n */
    bool paused;               /* -paused, -S */
    enum config_sandbox sandbox;
    char *debug;               /* -d rooms */
    char *debug_file;          /* -D: where they go; NULL: stderr */
    bool unattended;           /* derived: stdin is no terminal, or -timeout/-expect/-fail given */
};

struct config *config_new(void); /* the defaults */
void config_free(struct config *c);

#endif
