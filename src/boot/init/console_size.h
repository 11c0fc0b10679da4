/* SPDX-License-Identifier: MIT */
/*
 * The size of the terminal that shows the guest's console. Neither hvc0 nor a UART can carry
 * it, so pvemu keeps it in xenstore ("console/size": ROWS COLUMNS) and a small process, left
 * behind when the real init starts, sets it on the console whenever it changes.
 */
#ifndef PVEMU_BOOT_INIT_CONSOLE_SIZE_H
#define PVEMU_BOOT_INIT_CONSOLE_SIZE_H

/* The first argument of that process (argv[0] in ps). */
#define CONSOLE_SIZE_NAME "pvemu-console"

/* Sets the size on all consoles and leaves the process behind; quietly nothing where there is
 * no xenbus or nobody told a size. /dev and /sys are still those of the initramfs. */
void console_size_start(void);
/* The process's life; names are the consoles, ended by NULL, already open in this order. */
_Noreturn void console_size_run(char **names);

#endif
