/* SPDX-License-Identifier: MIT */
/* What a confined thread must not be able to do: the list of the escape drill. */
#ifndef PVEMU_TESTS_SANDBOX_ACTS_H
#define PVEMU_TESTS_SANDBOX_ACTS_H

#include <stdbool.h>
#include <stdint.h>
#include <sys/types.h>

/* Things the acts are aimed at, made before the sandbox. */
struct act_targets {
    char disk[64], other[64], run_file[64]; /* a disk, a free name, a file main may remove */
    char dir[64], run_dir[64];
    int disk_fd;    /* the disk, open for reading */
    int data_fd;    /* a file open for reading and writing */
    int memfd;      /* one page */
    int inet_fd;    /* an unconnected TCP socket */
    int pty_fd;
    pid_t victim;   /* a process of the same user */
    void *page;     /* readable and writable */
    uint8_t stack[64];
};

extern struct act_targets targets;

struct act {
    const char *name;
    long nr;              /* system call, or -1: run */
    long args[6];
    long (*run)(void);
    unsigned not_for;     /* classes (bits) that may do this */
    int also;             /* one more errno that means "denied" */
    bool control;         /* succeeds without a sandbox, without harm */
};

extern const struct act acts[];
extern const unsigned nr_acts;

#endif
