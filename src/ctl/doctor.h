/* SPDX-License-Identifier: MIT */
/* The verb that looks at the host. */
#ifndef PVEMU_CTL_DOCTOR_H
#define PVEMU_CTL_DOCTOR_H

/* Prints what it finds on stdout; returns the exit status. */
int doctor_run(int argc, char *const *argv);

#endif
