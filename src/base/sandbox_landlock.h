/* SPDX-License-Identifier: MIT */
/* Files and TCP by Landlock, Linux 5.13 and later. Private to the sandbox. */
#ifndef PVEMU_BASE_SANDBOX_LANDLOCK_H
#define PVEMU_BASE_SANDBOX_LANDLOCK_H

#include <stdbool.h>

#include "base/sandbox.h"

/* The version of the kernel's interface; 0: it has none. */
int sandbox_landlock_abi(void);
/* Confines the calling thread, which has no_new_privs. false and errno when the kernel
 * refused. */
bool sandbox_landlock_apply(int abi, enum sandbox_class cls,
                            const struct sandbox_options *options);

#endif
