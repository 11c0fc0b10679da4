/* SPDX-License-Identifier: MIT */
/* Which class of thread may make which system call: see sandbox_policy.c. Private to the
 * sandbox. */
#ifndef PVEMU_BASE_SANDBOX_POLICY_H
#define PVEMU_BASE_SANDBOX_POLICY_H

#include <stdbool.h>

#include "base/sandbox.h"

/* The filter of one class (or of SANDBOX_PROCESS) in a file of BPF instructions, for the
 * calling process. Returns the descriptor, or -1 and errno. */
int sandbox_policy_compile(const struct sandbox_options *options, enum sandbox_class cls,
                           bool may_unlink);

#endif
