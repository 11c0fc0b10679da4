/* SPDX-License-Identifier: MIT */
/* Memory for the state of engines, which processes that are forked have in common. */
#ifndef PVEMU_BASE_ARENA_H
#define PVEMU_BASE_ARENA_H

#include <stddef.h>

/*
 * Zeroes on page boundaries, for what vCPUs, their translations and tables consist of. The host
 * gives a page when it is touched. Shared: where several processes are to run one guest, what one
 * writes after a fork is there for all, which private memory and malloc()'s are not. What belongs to one
 * process or thread, as the stack that signals are taken on, does not belong here.
 * at: where it is to be, if nothing is there; NULL: anywhere. Returns NULL and errno.
 */
void *arena_map(void *at, size_t bytes);
/* Gives it back; p may be NULL. */
void arena_unmap(void *p, size_t bytes);

#endif
