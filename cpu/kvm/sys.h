/* SPDX-License-Identifier: MIT */
/*
 * The few system calls that reach KVM, as a table: unit tests give a fake /dev/kvm. All return a
 * value >= 0 or a negated errno.
 */
#ifndef PVEMU_CPU_KVM_SYS_H
#define PVEMU_CPU_KVM_SYS_H

#include <stddef.h>
#include <stdint.h>

#define KVM_DEVICE "/dev/kvm"

struct kvm_sys {
    int (*look)(const char *path); /* may it be opened? Without opening it, so it cannot hang */
    int (*open)(const char *path);
    int (*ioctl)(int fd, unsigned long request, uintptr_t arg);
    void *(*mmap)(int fd, size_t len); /* NULL: it failed */
    void (*munmap)(void *addr, size_t len);
    void (*close)(int fd);
};

extern const struct kvm_sys kvm_sys_host;

/* ioctl() with a pointer. */
static inline int kvm_ioctl(const struct kvm_sys *sys, int fd, unsigned long request, void *arg)
{
    return sys->ioctl(fd, request, (uintptr_t)arg);
}

#endif
