/* SPDX-License-Identifier: MIT */
/* SCHEDOP_shutdown(suspend). */
#define SUSPEND_CANCEL
#include "guest.h"
main:
    SHUTDOWN 2
