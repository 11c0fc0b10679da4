/* SPDX-License-Identifier: MIT */
/* SCHEDOP_shutdown(watchdog): a guest that notices itself that it hangs. */
#include "guest.h"
main:
    SHUTDOWN 4
