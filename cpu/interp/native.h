/* SPDX-License-Identifier: MIT */
/* What native.c (execution) and thunk.c (host code) share. */
#ifndef PVEMU_CPU_INTERP_NATIVE_H
#define PVEMU_CPU_INTERP_NATIVE_H

#include "engine.h"

enum { THUNK_NONE = -1 };

/* thunk.c: the offset of host code for *in in e->native, made when needed; THUNK_NONE: cannot
 * be done. */
int32_t thunk_get(struct interp *e, const struct insn *in);
const void *thunk_code(const struct native *n, int32_t offset);
bool thunk_is_simple(const struct native *n, uint64_t rip);
bool thunk_owns(const struct native *n, uint64_t rip);
/* Forgets all thunks; blocks that refer to them must go too. */
void thunk_cache_reset(struct native *n);
struct native *thunk_cache_new(GError **err);
void thunk_cache_free(struct native *n);

#endif
