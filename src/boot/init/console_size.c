/* SPDX-License-Identifier: MIT */
/*
 * Passes the terminal's size on: /dev/xen/xenbus (docs/misc/xenstore.txt of Xen, xs_wire.h) to
 * TIOCSWINSZ, whereupon the kernel sends SIGWINCH to who is in the foreground.
 *
 * The process stays in the initramfs: it has its own nodes for the consoles there and nothing
 * of the real root, so it keeps no file system busy. It holds each console open, because a
 * terminal that nobody has open forgets its size; a getty's vhangup() makes what it holds
 * useless for ioctl, so each change opens the node again first. It has no session and reads
 * nothing from a console. Any failure ends it without a word.
 */
#include "console_size.h"

#include <asm/ioctls.h>
#include <asm/termios.h>
#include <asm/unistd.h>
#include <linux/fcntl.h>
#include <linux/prctl.h>
#include <linux/sched.h>
#include <linux/stat.h>
#include <stdint.h>
#include <xen/io/xs_wire.h>

#include "sys.h"

#define SIZE_NODE  "console/size"
#define NODE_DIR   "/pvemu/"
#define FIRST_NAME "hvc0"

enum {
    BUS_FD = 0,
    FIRST_CONSOLE_FD = 1,
    STANDARD_FDS = 3,
    MAX_CONSOLES = 4,
    NAME_SIZE = 16,
    PATH_SIZE = 64,
    BODY_SIZE = 64, /* what is longer is none of ours */
    SIGNAL_CHILD = 17,
    WATCH_ID = 1,
    READ_ID = 2,
};

struct message {
    struct xsd_sockmsg head;
    char body[BODY_SIZE];
};

static bool bus_send(int bus, uint32_t type, uint32_t id, const char *body, size_t len)
{
    struct message m = {.head = {.type = type, .req_id = id, .len = (uint32_t)len}};

    memcpy(m.body, body, len);
    return sys_write(bus, &m, sizeof(m.head) + len) == (long)(sizeof(m.head) + len);
}

static bool bus_ask_size(int bus)
{
    return bus_send(bus, XS_READ, READ_ID, SIZE_NODE, sizeof(SIZE_NODE));
}

static bool bus_read(int bus, char *buf, size_t len)
{
    while (len > 0) {
        long got = sys_read(bus, buf, len);

        if (got <= 0) {
            return false;
        }
        buf += got;
        len -= (size_t)got;
    }
    return true;
}

/* The next message; a longer body is cut. The body ends in a NUL. */
static bool bus_receive(int bus, struct message *m)
{
    uint32_t keep;
    char rest;

    if (!bus_read(bus, (char *)&m->head, sizeof(m->head))) {
        return false;
    }
    keep = m->head.len < BODY_SIZE ? m->head.len : BODY_SIZE - 1;
    m->body[keep] = '\0';
    if (!bus_read(bus, m->body, keep)) {
        return false;
    }
    for (uint32_t i = keep; i < m->head.len; i++) {
        if (!bus_read(bus, &rest, 1)) {
            return false;
        }
    }
    return true;
}

/* "ROWS COLUMNS"; zeros when nobody knows. */
static struct winsize parse_size(const char *text)
{
    const char *blank = text;

    while (*blank != '\0' && *blank != ' ') {
        blank++;
    }
    return (struct winsize){
        .ws_row = (unsigned short)str_number(text),
        .ws_col = *blank == ' ' ? (unsigned short)str_number(blank + 1) : 0,
    };
}

static void node_path(char path[PATH_SIZE], const char *name)
{
    path[0] = '\0';
    str_add(path, PATH_SIZE, NODE_DIR);
    str_add(path, PATH_SIZE, name);
}

/* Opens a console and tells it the size. Its descriptor, or -errno. */
static long console_open(const char *name, const struct winsize *size)
{
    char path[PATH_SIZE];
    long fd;

    node_path(path, name);
    fd = sys_open(path, O_RDWR | O_NOCTTY | O_NONBLOCK);
    if (fd >= 0 && size->ws_row != 0 && size->ws_col != 0) {
        sys_call(__NR_ioctl, fd, TIOCSWINSZ, (long)size, 0, 0);
    }
    return fd;
}

/* ---- the process ---- */

static void set_all(char **names, const struct winsize *size)
{
    for (int i = 0; names[i] != NULL; i++) {
        long fd = console_open(names[i], size);

        if (fd >= 0) {
            sys_call(__NR_dup2, fd, FIRST_CONSOLE_FD + i, 0, 0, 0);
            sys_close((int)fd);
        }
    }
}

_Noreturn void console_size_run(char **names)
{
    static const char watch[] = SIZE_NODE "\0size";
    struct message m;
    struct winsize size;

    sys_call(__NR_prctl, PR_SET_NAME, (long)CONSOLE_SIZE_NAME, 0, 0, 0);
    sys_call(__NR_setsid, 0, 0, 0, 0, 0);
    if (bus_send(BUS_FD, XS_WATCH, WATCH_ID, watch, sizeof(watch))) {
        while (bus_receive(BUS_FD, &m) &&
               !(m.head.type == XS_ERROR && m.head.req_id == WATCH_ID)) {
            if (m.head.type == XS_WATCH_EVENT && !bus_ask_size(BUS_FD)) {
                break;
            }
            if (m.head.type == XS_READ) {
                size = parse_size(m.body);
                set_all(names, &size);
            }
        }
    }
    sys_exit(0);
}

/* ---- leaving it behind ---- */

/* A node of our own for a console, as the real root takes /dev along. */
static bool make_node(const char *name)
{
    char path[PATH_SIZE] = "/sys/class/tty/";
    char number[NAME_SIZE];
    const char *minor = number;
    unsigned long major_part, minor_part;

    str_add(path, sizeof(path), name);
    str_add(path, sizeof(path), "/dev");
    if (file_read(path, number, sizeof(number)) <= 0) {
        return false;
    }
    while (*minor != '\0' && *minor != ':') {
        minor++;
    }
    if (*minor == '\0') {
        return false;
    }
    major_part = str_number(number);
    minor_part = str_number(minor + 1);
    sys_mkdir("/pvemu");
    node_path(path, name);
    return sys_call(__NR_mknod, (long)path, S_IFCHR | 0600,
                    (long)((minor_part & 0xff) | major_part << 8 | (minor_part & ~0xfful) << 12),
                    0, 0) == 0;
}

/* Not one of the first: virtual terminals, which have a size of their own, and hvc0 again. */
static bool is_another(const char *name)
{
    return !(str_starts(name, "tty") && name[3] >= '0' && name[3] <= '9') &&
           strcmp(name, FIRST_NAME) != 0;
}

struct consoles {
    char *names[MAX_CONSOLES + 2]; /* from 1 on, ended by NULL: an argv */
    long fds[MAX_CONSOLES];
    int count;
};

static void add_console(struct consoles *c, char *name, const struct winsize *size)
{
    long fd;

    if (c->count < MAX_CONSOLES && strlen(name) < NAME_SIZE && make_node(name)) {
        fd = console_open(name, size);
        if (fd >= STANDARD_FDS) {
            c->fds[c->count++] = fd;
            c->names[c->count] = name;
        }
    }
}

/* Makes and opens hvc0, where systemd puts a getty in any case, and all consoles of the kernel.
 */
static void open_consoles(struct consoles *c, char *list, const struct winsize *size)
{
    static char first[] = FIRST_NAME;

    add_console(c, first, size);
    while (*list != '\0') {
        char *name = list;

        while (*list != '\0' && *list != ' ' && *list != '\n') {
            list++;
        }
        if (*list != '\0') {
            *list++ = '\0';
        }
        if (*name != '\0' && is_another(name)) {
            add_console(c, name, size);
        }
    }
}

/* In the new process: what it holds in its places, then a program without this one's memory. */
static _Noreturn void become(long bus, const struct consoles *c)
{
    static char *const no_environment[] = {NULL};

    sys_call(__NR_dup2, bus, BUS_FD, 0, 0, 0);
    for (int i = 0; i < c->count; i++) {
        sys_call(__NR_dup2, c->fds[i], FIRST_CONSOLE_FD + i, 0, 0, 0);
    }
    for (int fd = FIRST_CONSOLE_FD + c->count; fd < STANDARD_FDS; fd++) {
        sys_close(fd);
    }
    sys_call(__NR_execve, (long)"/init", (long)c->names, (long)no_environment, 0, 0);
    sys_exit(0);
}

static bool ask_size(int bus, struct winsize *size)
{
    struct message m;

    if (!bus_ask_size(bus) || !bus_receive(bus, &m) || m.head.type != XS_READ) {
        return false;
    }
    *size = parse_size(m.body);
    return true;
}

void console_size_start(void)
{
    char list[128];
    struct consoles c = {.names = {CONSOLE_SIZE_NAME}};
    struct winsize size;
    long bus = sys_open("/dev/xen/xenbus", O_RDWR);

    if (bus < 0) {
        return;
    }
    if (bus >= STANDARD_FDS && ask_size((int)bus, &size)) {
        file_read("/sys/class/tty/console/active", list, sizeof(list));
        open_consoles(&c, list, &size);
        /* It has run exec, or ended, when this returns: /init may go. */
        if (c.count > 0 && sys_call(__NR_clone, CLONE_VFORK | SIGNAL_CHILD, 0, 0, 0, 0) == 0) {
            become(bus, &c);
        }
        for (int i = 0; i < c.count; i++) {
            sys_close((int)c.fds[i]);
        }
    }
    sys_close((int)bus);
}
