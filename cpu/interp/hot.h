/* SPDX-License-Identifier: MIT */
/* Fast handlers for the common forms of instructions; everything else goes through interp_generic(). */
#ifndef PVEMU_CPU_INTERP_HOT_H
#define PVEMU_CPU_INTERP_HOT_H

#include "engine.h"

/* Fills *op for *in when there is a fast handler for it in e->mode (ip and len are set). */
bool hot_select(struct interp *e, struct op *op, const struct insn *in);

#endif
