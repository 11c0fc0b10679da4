/* SPDX-License-Identifier: MIT */
/* One line that both -expect and -fail can match. */
#include "guest.h"
main:
    SAY "RESULT: done, with ERROR 7"
1:  pause
    jmp 1b
