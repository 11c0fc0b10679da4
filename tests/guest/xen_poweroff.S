/* SPDX-License-Identifier: MIT */
/* SCHEDOP_shutdown(poweroff). */
#include "guest.h"
main:
    SHUTDOWN 0
