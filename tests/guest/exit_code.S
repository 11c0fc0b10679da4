/* SPDX-License-Identifier: MIT */
/* The exit port: the status is the byte. */
#include "guest.h"
main:
    SAY "exit code"
    EXIT 42
