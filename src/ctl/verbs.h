/* SPDX-License-Identifier: MIT */
/* The verbs that talk to running guests: thin clients of their control sockets. */
#ifndef PVEMU_CTL_VERBS_H
#define PVEMU_CTL_VERBS_H

#include <stdbool.h>

/* Runs verb argv[1] if it is one of them; *status is the exit status. false: not a verb of these. */
bool verbs_run(int argc, char *const *argv, int *status);

#endif
