/* SPDX-License-Identifier: MIT */
/* The host's own /dev/kvm. */
#include "sys.h"

#include <errno.h>
#include <fcntl.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <unistd.h>

static int sys_look(const char *path)
{
    return faccessat(AT_FDCWD, path, R_OK | W_OK, AT_EACCESS) == 0 ? 0 : -errno;
}

static int sys_open(const char *path)
{
    int fd = open(path, O_RDWR | O_CLOEXEC);

    return fd >= 0 ? fd : -errno;
}

/* Without the C library: it is the way of every exit, and errno is not wanted. */
static int sys_ioctl(int fd, unsigned long request, uintptr_t arg)
{
    long ret;

    __asm__ volatile("syscall"
                     : "=a"(ret)
                     : "0"((long)SYS_ioctl), "D"((long)fd), "S"(request), "d"(arg)
                     : "rcx", "r11", "memory");
    return (int)ret;
}

static void *sys_mmap(int fd, size_t len)
{
    void *p = mmap(NULL, len, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);

    return p != MAP_FAILED ? p : NULL;
}

static void sys_munmap(void *addr, size_t len)
{
    munmap(addr, len);
}

static void sys_close(int fd)
{
    close(fd);
}

const struct kvm_sys kvm_sys_host = {
    .look = sys_look, .open = sys_open, .ioctl = sys_ioctl, .mmap = sys_mmap,
    .munmap = sys_munmap, .close = sys_close,
};
