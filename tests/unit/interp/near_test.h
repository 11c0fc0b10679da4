/* SPDX-License-Identifier: MIT */
/* What the tests of accesses near each other share: programs, and pages of theirs that move. */
#ifndef PVEMU_TESTS_INTERP_NEAR_TEST_H
#define PVEMU_TESTS_INTERP_NEAR_TEST_H

#include "guest.h"

#define PAGE 0x1000ull

/* Some pages in a row, one of which a test may change. */
struct near_case {
    uint64_t at;
    unsigned pages, odd;
    bool scattered; /* they do not follow each other in memory */
};

/* Makes the guest a program that goes on at rip; it does not run yet. */
void near_user(struct guest *g, uint64_t rip);
/* From here on as a program, to the exception that ends it. */
int near_run(struct guest *g, uint64_t rip);
/* Of a case's pages, where in memory number i lies. */
uint64_t near_place(const struct near_case *c, unsigned i);
/* With these pages where they lie. */
struct guest *near_guest(const struct near_case *c);
/* Changes the page-table entry of an address, and tells of it. */
void near_pte(struct guest *g, uint64_t va, uint64_t pte);
/* MOV $value, %eax; INT3; INT3: code as a store of the loops has it. */
uint64_t near_code(uint8_t value);

#endif
