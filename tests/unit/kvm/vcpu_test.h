/* SPDX-License-Identifier: MIT */
/* A vCPU of the KVM engine on the fake /dev/kvm, with a board that notes what it is asked. */
#ifndef PVEMU_TESTS_KVM_VCPU_TEST_H
#define PVEMU_TESTS_KVM_VCPU_TEST_H

#include "base/error.h"
#include "cpu/kvm/engine.h"
#include "cpu/kvm/kvm.h"
#include "cpu/x86/x86.h"
#include "fake_board.h"
#include "fake_kvm.h"

enum { RAM = 1 << 20, PAGE = 4096, KT_CALLS = 16 };

struct kt_call {
    char what; /* o, i: port; w, r: memory; h: hypercall; W, R: MSR; 8: CR8; l: later; e: EOI */
    uint64_t at, value;
    unsigned size;
};

extern struct fake_board *fb;
extern struct vcpu *v; /* the first; there is a second without an engine */
extern struct cpu_model *model; /* from kt_begin() to kt_end() */
extern struct exit last;
extern uint64_t kt_ram; /* of the next board: RAM */
extern struct kt_call calls[KT_CALLS];
extern unsigned nr_calls;
extern int irq_vector;        /* the board's answer, once; -1: none */
extern bool hypercall_sleeps;
extern bool hypercall_again;  /* once: it goes back to the instruction, of 3 bytes */

/* What main() starts with, and its status, when all tests have run. */
void kt_begin(int *argc, char ***argv);
int kt_end(void);
/* The board alone; and with the vCPU's engine. */
void kt_setup_board(void);
void kt_setup(void);
void kt_setup_kind(bool split);
/* Nothing may be left open. */
void kt_teardown(void);
/* An exit for the script. */
struct fake_exit *kt_add(uint32_t reason, void (*fill)(struct kvm_run *run));
/* Runs until an exit; the script ends with HLT. */
void kt_run_to_halt(void);
/* Runs until an exit of this kind, which says so. */
void kt_run_to_end(enum exit_kind kind, const char *text);
void kt_assert_call(unsigned i, char what, uint64_t at, unsigned size, uint64_t value);
/* A port exit, and where its data are. */
uint8_t *kt_io_data(struct kvm_run *run, uint8_t direction, uint16_t port, uint8_t size,
                    uint32_t count);
/* Of an exit of kt_add(): VMCALL with hypercall 29, at 0x5000. */
void kt_fill_vmcall(struct kvm_run *run);

#endif
