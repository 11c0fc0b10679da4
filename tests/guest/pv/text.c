/* SPDX-License-Identifier: MIT */
/* What test kernels of all kinds say, and how they end; see pv.h. */
#include "pv.h"

static unsigned failed, checked;

void *memset(void *to, int value, size_t len);
void *memcpy(void *to, const void *from, size_t len);

void *memset(void *to, int value, size_t len)
{
    uint8_t *p = to;

    while (len-- > 0) {
        *p++ = (uint8_t)value;
    }
    return to;
}

void *memcpy(void *to, const void *from, size_t len)
{
    uint8_t *t = to;
    const uint8_t *f = from;

    while (len-- > 0) {
        *t++ = *f++;
    }
    return to;
}

void say(const char *text)
{
    size_t len = 0;

    while (text[len] != '\0') {
        len++;
    }
    HC3(console_io, 0, len, text);
}

void say_hex(uint64_t value)
{
    char text[19] = "0x0000000000000000";

    for (unsigned i = 0; i < 16; i++) {
        text[17 - i] = "0123456789abcdef"[value >> (4 * i) & 15];
    }
    say(text);
}

void check(bool good, const char *what, uint64_t got)
{
    checked++;
    if (good) {
        return;
    }
    failed++;
    say("FAILED: ");
    say(what);
    say(", got ");
    say_hex(got);
    say("\n");
}

void finish(void)
{
    struct sched_shutdown op = {.reason = failed > 0 ? SHUTDOWN_crash : SHUTDOWN_poweroff};

    say(failed > 0 ? "some of " : "all of ");
    say_hex(checked);
    say(failed > 0 ? " checks failed\n" : " checks passed\n");
    HC2(sched_op, SCHEDOP_shutdown, &op);
    for (;;) {
    }
}
