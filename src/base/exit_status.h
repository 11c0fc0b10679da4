/* SPDX-License-Identifier: MIT */
/* What the exit status says. Fits `git bisect run`: 125 skips, above 127 aborts. */
#ifndef PVEMU_BASE_EXIT_STATUS_H
#define PVEMU_BASE_EXIT_STATUS_H

enum exit_status {
    EXIT_STATUS_OK = 0,
    EXIT_STATUS_GUEST_MAX = 111,   /* 1..111: the guest's own code */
    EXIT_STATUS_PANIC = 112,
    EXIT_STATUS_FAIL_SEEN = 113,
    EXIT_STATUS_NOT_EXPECTED = 114, /* ended before -expect was met */
    EXIT_STATUS_REBOOT = 115,
    EXIT_STATUS_SUSPEND = 116,
    EXIT_STATUS_TIMEOUT = 124,
    EXIT_STATUS_CANNOT_RUN = 125,
    EXIT_STATUS_BUG = 134,
    EXIT_STATUS_SIGNAL = 128,      /* + signal */
};

#endif
