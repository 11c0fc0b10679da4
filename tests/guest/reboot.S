/* SPDX-License-Identifier: MIT */
/* SCHEDOP_shutdown(reboot). */
#include "guest.h"
main:
    SHUTDOWN 1
