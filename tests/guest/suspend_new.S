/* SPDX-License-Identifier: MIT */
/* SCHEDOP_shutdown(suspend) by a kernel that does not know of its cancellation. */
#include "guest.h"
main:
    SHUTDOWN 2
