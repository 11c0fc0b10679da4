/* SPDX-License-Identifier: MIT */
/* SCHEDOP_shutdown(crash) without a word. */
#include "guest.h"
main:
    SHUTDOWN 3
