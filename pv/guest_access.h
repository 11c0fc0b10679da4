/* SPDX-License-Identifier: MIT */
/*
 * Hypercall arguments: copies between the guest's linear address space (current page tables of
 * the calling vCPU, supervisor rights) and private memory. Every pointer that a guest passes
 * goes through here; nothing but backed guest memory is ever touched. On the vCPU's thread or
 * with the vCPU stopped.
 */
#ifndef PVEMU_PV_GUEST_ACCESS_H
#define PVEMU_PV_GUEST_ACCESS_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct vcpu;

/* false: some byte is not mapped (callers answer -EFAULT); then part of it may have been
 * copied. */
bool guest_read(struct vcpu *v, uint64_t gva, void *buf, size_t len);
bool guest_write(struct vcpu *v, uint64_t gva, const void *buf, size_t len);

#endif
