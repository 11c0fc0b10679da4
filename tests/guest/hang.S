/* SPDX-License-Identifier: MIT */
/* Spins for ever without a word; and without PAUSE, with which QEMU's translator, as the host, is slow. */
#include "guest.h"
main:
1:  jmp 1b
