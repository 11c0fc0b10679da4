/* SPDX-License-Identifier: MIT */
/* The guest's init (src/boot/init) as bytes, for 64-bit and for 32-bit kernels; written by
 * init/embed.py at build time. */
#ifndef PVEMU_BOOT_INIT_PROGRAM_H
#define PVEMU_BOOT_INIT_PROGRAM_H

#include <stddef.h>
#include <stdint.h>

extern const uint8_t init_program[];
extern const size_t init_program_size;
extern const uint8_t init_program32[];
extern const size_t init_program32_size;

#endif
