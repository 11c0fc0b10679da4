/* SPDX-License-Identifier: MIT */
/* Bytes to text, by libcapstone where it is installed (it is loaded when first asked for). */
#ifndef PVEMU_CPU_DBT_DISASSEMBLE_H
#define PVEMU_CPU_DBT_DISASSEMBLE_H

#include <stddef.h>
#include <stdint.h>

#include "cpu/x86/decode.h"

/* Loads the library: before the sandbox closes, from then on it is there or not. */
void dbt_disassemble_init(void);
/* Up to `max` instructions, a line each ("  0xADDRESS  BYTES  TEXT"), without a newline at the
 * end. Without the library, or where it gives up, bytes. The caller frees it. Code of 16 bits is taken for code of 32. */
char *dbt_disassemble(enum insn_mode mode, const uint8_t *code, size_t len, uint64_t rip,
                      unsigned max);

#endif
