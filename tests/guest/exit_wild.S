/* SPDX-License-Identifier: MIT */
/* A wild byte on the exit port is clamped: it cannot look like pvemu's own statuses. */
#include "guest.h"
main:
    EXIT 124
