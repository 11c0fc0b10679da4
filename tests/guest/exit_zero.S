/* SPDX-License-Identifier: MIT */
/* The exit port can say 0. */
#include "guest.h"
main:
    EXIT 0
