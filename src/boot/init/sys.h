/* SPDX-License-Identifier: MIT */
/*
 * The guest's init has no libc: this is what it uses instead. System calls return -errno; the
 * few string functions have their usual names because the compiler may call them by itself.
 */
#ifndef PVEMU_BOOT_INIT_SYS_H
#define PVEMU_BOOT_INIT_SYS_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/* start.S, start32.S */
long sys_call(long number, long a, long b, long c, long d, long e);

long sys_open(const char *path, int flags);
long sys_close(int fd);
long sys_read(int fd, void *buf, size_t len);
long sys_pread(int fd, void *buf, size_t len, uint64_t offset);
long sys_write(int fd, const void *buf, size_t len);
long sys_mount(const char *source, const char *target, const char *type, unsigned long flags,
               const char *data);
long sys_mkdir(const char *path);
long sys_unlink(const char *path);
long sys_exists(const char *path); /* 0 or -errno */
void sys_sleep_ms(unsigned ms);
uint64_t sys_now_ms(void); /* monotonic */
_Noreturn void sys_exit(int status);

void *memcpy(void *restrict to, const void *restrict from, size_t len);
void *memset(void *to, int byte, size_t len);
int memcmp(const void *a, const void *b, size_t len);
size_t strlen(const char *s);
int strcmp(const char *a, const char *b);

/* Whether s begins with prefix. */
bool str_starts(const char *s, const char *prefix);
/* Whether a and b are equal apart from the case of letters. */
bool str_same(const char *a, const char *b);
/* Appends to the string in buf, cutting it when it does not fit. */
void str_add(char *buf, size_t size, const char *s);
void str_add_number(char *buf, size_t size, unsigned long n);
unsigned long str_number(const char *s); /* decimal, stops at the first other character */

/* A whole (small) file into buf, NUL-terminated; its length or -errno. */
long file_read(const char *path, char *buf, size_t size);

/* "pvemu-init: " a b c d newline, on standard error; NULLs are skipped. */
void say(const char *a, const char *b, const char *c, const char *d);
const char *error_words(long negative_errno);

#endif
