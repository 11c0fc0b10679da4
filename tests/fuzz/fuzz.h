/* SPDX-License-Identifier: MIT */
/*
 * The entry every fuzz target has. With clang and -Dfuzz=true libFuzzer calls it, else
 * replay_main.c.
 */
#ifndef PVEMU_TESTS_FUZZ_H
#define PVEMU_TESTS_FUZZ_H

#include <stddef.h>
#include <stdint.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

#endif
