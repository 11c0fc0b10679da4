/* SPDX-License-Identifier: MIT */
/*
 * One terminal for two guest consoles (hvc0 and ttyS0): both print on it, input goes to the one
 * that printed last, and waits until one has. Early text (CONSOLEIO_write, port 0xe9) is printed
 * between theirs. Board lock held.
 */
#ifndef PVEMU_MACHINE_CONSOLE_SPLIT_H
#define PVEMU_MACHINE_CONSOLE_SPLIT_H

#include "core/chardev.h"

enum console_port { CONSOLE_HVC, CONSOLE_SERIAL, CONSOLE_NR_PORTS };

struct console_split;

/* chr is borrowed; NULL: output goes nowhere, input comes from console_split_input alone. */
struct console_split *console_split_new(struct chardev *chr);
void console_split_free(struct console_split *c);
/* The character device for one of the two; owned by the split. */
struct chardev *console_split_port(struct console_split *c, enum console_port port);
/* Early text: what the terminal does not take at once is kept, 64 KiB of it, and written when it
 * does, before anything a console prints later. */
void console_split_text(struct console_split *c, const uint8_t *buf, size_t len);
/* Types; returns how much was taken. */
size_t console_split_input(struct console_split *c, const uint8_t *buf, size_t len);

#endif
