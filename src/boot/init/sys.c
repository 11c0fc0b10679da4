/* SPDX-License-Identifier: MIT */
/* System calls (sys_call() itself is in start.S) and the handful of functions a libc would have given. */
#include "sys.h"

#include <asm/unistd.h>
#include <linux/errno.h>
#include <linux/fcntl.h>
#include <linux/time.h>

long sys_open(const char *path, int flags)
{
    return sys_call(__NR_open, (long)path, flags | O_CLOEXEC, 0, 0, 0);
}

long sys_close(int fd)
{
    return sys_call(__NR_close, fd, 0, 0, 0, 0);
}

long sys_read(int fd, void *buf, size_t len)
{
    return sys_call(__NR_read, fd, (long)buf, (long)len, 0, 0);
}

long sys_pread(int fd, void *buf, size_t len, uint64_t offset)
{
    return sys_call(__NR_pread64, fd, (long)buf, (long)len, (long)offset,
                    (long)(offset >> 32)); /* a fifth argument on i386 only */
}

long sys_write(int fd, const void *buf, size_t len)
{
    return sys_call(__NR_write, fd, (long)buf, (long)len, 0, 0);
}

long sys_mount(const char *source, const char *target, const char *type, unsigned long flags,
               const char *data)
{
    return sys_call(__NR_mount, (long)source, (long)target, (long)type, (long)flags,
                    (long)data);
}

long sys_mkdir(const char *path)
{
    return sys_call(__NR_mkdir, (long)path, 0755, 0, 0, 0);
}

long sys_unlink(const char *path)
{
    return sys_call(__NR_unlink, (long)path, 0, 0, 0, 0);
}

long sys_exists(const char *path)
{
    return sys_call(__NR_access, (long)path, 0, 0, 0, 0);
}

void sys_sleep_ms(unsigned ms)
{
    struct {
        long sec, nsec;
    } t = {ms / 1000, (long)(ms % 1000) * 1000000};

    sys_call(__NR_nanosleep, (long)&t, 0, 0, 0, 0);
}

uint64_t sys_now_ms(void)
{
    struct {
        long sec, nsec;
    } t = {0, 0};

    sys_call(__NR_clock_gettime, CLOCK_MONOTONIC, (long)&t, 0, 0, 0);
    return (uint64_t)t.sec * 1000 + (uint64_t)(t.nsec / 1000000);
}

_Noreturn void sys_exit(int status)
{
    for (;;) {
        sys_call(__NR_exit_group, status, 0, 0, 0, 0);
    }
}

void *memcpy(void *restrict to, const void *restrict from, size_t len)
{
    void *d = to;

    __asm__ volatile("rep movsb" : "+D"(d), "+S"(from), "+c"(len) : : "memory");
    return to;
}

void *memset(void *to, int byte, size_t len)
{
    void *d = to;

    __asm__ volatile("rep stosb" : "+D"(d), "+c"(len) : "a"(byte) : "memory");
    return to;
}

int memcmp(const void *a, const void *b, size_t len)
{
    const uint8_t *x = a;
    const uint8_t *y = b;

    for (; len > 0; len--, x++, y++) {
        if (*x != *y) {
            return *x - *y;
        }
    }
    return 0;
}

size_t strlen(const char *s)
{
    size_t n = 0;

    while (s[n] != '\0') {
        n++;
        __asm__ volatile(""); /* keeps the compiler from making this a call of strlen */
    }
    return n;
}

int strcmp(const char *a, const char *b)
{
    while (*a != '\0' && *a == *b) {
        a++;
        b++;
    }
    return (unsigned char)*a - (unsigned char)*b;
}

bool str_starts(const char *s, const char *prefix)
{
    while (*prefix != '\0') {
        if (*s++ != *prefix++) {
            return false;
        }
    }
    return true;
}

static char lower(char c)
{
    return c >= 'A' && c <= 'Z' ? (char)(c + 'a' - 'A') : c;
}

bool str_same(const char *a, const char *b)
{
    while (*a != '\0' && lower(*a) == lower(*b)) {
        a++;
        b++;
    }
    return *a == *b;
}

void str_add(char *buf, size_t size, const char *s)
{
    size_t at = strlen(buf);

    while (at + 1 < size && *s != '\0') {
        buf[at++] = *s++;
    }
    buf[at] = '\0';
}

void str_add_number(char *buf, size_t size, unsigned long n)
{
    char digits[24];
    char *p = digits + sizeof(digits) - 1;

    *p = '\0';
    do {
        *--p = (char)('0' + n % 10);
        n /= 10;
    } while (n > 0);
    str_add(buf, size, p);
}

unsigned long str_number(const char *s)
{
    unsigned long n = 0;

    while (*s >= '0' && *s <= '9' && n < 100000000) {
        n = n * 10 + (unsigned long)(*s++ - '0');
    }
    return n;
}

long file_read(const char *path, char *buf, size_t size)
{
    long fd = sys_open(path, O_RDONLY);
    size_t len = 0;
    long got;

    buf[0] = '\0';
    if (fd < 0) {
        return fd;
    }
    do {
        got = sys_read((int)fd, buf + len, size - 1 - len);
        len += got > 0 ? (size_t)got : 0;
    } while (got > 0 && len < size - 1);
    buf[len] = '\0';
    sys_close((int)fd);
    return got < 0 ? got : (long)len;
}

void say(const char *a, const char *b, const char *c, const char *d)
{
    char line[512];

    line[0] = '\0';
    str_add(line, sizeof(line) - 1, "pvemu-init: ");
    str_add(line, sizeof(line) - 1, a);
    str_add(line, sizeof(line) - 1, b != NULL ? b : "");
    str_add(line, sizeof(line) - 1, c != NULL ? c : "");
    str_add(line, sizeof(line) - 1, d != NULL ? d : "");
    str_add(line, sizeof(line), "\n");
    sys_write(2, line, strlen(line));
}

const char *error_words(long negative_errno)
{
    static char other[32];

    switch (-negative_errno) {
    case EPERM:
        return "operation not permitted";
    case ENOENT:
        return "no such file";
    case EIO:
        return "input/output error";
    case ENXIO:
        return "no such device or address";
    case ENOEXEC:
        return "wrong format (made for another kernel?)";
    case ENOMEM:
        return "out of memory";
    case EACCES:
        return "permission denied";
    case EBUSY:
        return "busy";
    case ENODEV:
        return "not supported by this kernel";
    case EINVAL:
        return "invalid argument (wrong file system type, option or superblock)";
    case EROFS:
        return "the device is read-only";
    case ENOSYS:
        return "this kernel cannot load modules";
    case ELOOP:
        return "too many symbolic links";
    default:
        other[0] = '\0';
        str_add(other, sizeof(other), "error ");
        str_add_number(other, sizeof(other), (unsigned long)-negative_errno);
        return other;
    }
}
