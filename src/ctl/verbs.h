/* SPDX-License-Identifier: MIT */
/* The verbs that talk to running guests: thin clients of their control sockets. */
#ifndef PVEMU_CTL_VERBS_H
#define PVEMU_CTL_VERBS_H

#include <stdbool.h>

/* Runs verb argv[1] and sets the exit status. false: it is not one of these. */
bool verbs_run(int argc, char *const *argv, int *status);

#endif
