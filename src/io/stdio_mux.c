/* SPDX-License-Identifier: MIT */
/*
 * The console on stdin and stdout.
 *
 * stdout is opened again through /proc so that O_NONBLOCK does not leak into the shell that
 * shares it; where that is refused (a socket), a poll before each write does. What stdout does not take stays in the
 * guest's ring: there is no buffer here that could grow. The log file is written with the same bytes.
 */
#include "io/stdio_mux.h"

#include <errno.h>
#include <fcntl.h>
#include <glib-unix.h>
#include <poll.h>
#include <string.h>
#include <unistd.h>

#include "base/error.h"
#include "base/report.h"
#include "io/terminal.h"

enum { MENU_KEY = 1 /* Ctrl-A */, CTRL_C = 3, INPUT_CHUNK = 512, WRITE_CHUNK = 4096 };
enum { CTRL_C_HINT_COUNT = 3 };

struct stdio_mux {
    struct chardev chr; /* first */
    GMainContext *context;
    GMutex *lock;
    const struct chardev_handlers *handlers;
    void *handlers_opaque;
    void (*command)(void *opaque, enum stdio_command command);
    void *opaque;
    bool menu, menu_pending;
    int out_fd, log_fd;
    bool out_dead, log_dead;
    GSource *in_source, *out_source, *winch_source;
    uint8_t input[INPUT_CHUNK];
    size_t input_len; /* read, not yet taken by the guest */
    gint64 ctrl_c_time;
    unsigned ctrl_c_count;
};

static struct stdio_mux *mux_of(struct chardev *chr)
{
    return (struct stdio_mux *)chr;
}

static void mux_lock(const struct stdio_mux *m)
{
    if (m->lock != NULL) {
        g_mutex_lock(m->lock);
    }
}

static void mux_unlock(const struct stdio_mux *m)
{
    if (m->lock != NULL) {
        g_mutex_unlock(m->lock);
    }
}

static GSource *mux_watch(struct stdio_mux *m, int fd, GIOCondition condition, GUnixFDSourceFunc fn)
{
    GSource *source = g_unix_fd_source_new(fd, condition);

    g_source_set_callback(source, G_SOURCE_FUNC(fn), m, NULL);
    g_source_attach(source, m->context);
    return source;
}

static void mux_unwatch(GSource **source)
{
    if (*source != NULL) {
        g_source_destroy(*source);
        g_source_unref(*source);
        *source = NULL;
    }
}

/* --- output --- */

static gboolean mux_out_ready(gint fd, GIOCondition condition, gpointer data)
{
    struct stdio_mux *m = data;

    (void)fd, (void)condition;
    mux_unwatch(&m->out_source);
    mux_lock(m);
    if (m->handlers != NULL && m->handlers->tx_ready != NULL) {
        m->handlers->tx_ready(m->handlers_opaque);
    }
    mux_unlock(m);
    return G_SOURCE_REMOVE;
}

static void mux_log(struct stdio_mux *m, const uint8_t *buf, size_t len)
{
    while (len > 0 && m->log_fd >= 0 && !m->log_dead) {
        ssize_t n = write(m->log_fd, buf, len);

        if (n < 0 && errno != EINTR) {
            m->log_dead = true;
            report_warn("the log is incomplete: %s", g_strerror(errno));
        } else if (n > 0) {
            buf += n;
            len -= (size_t)n;
        }
    }
}

/* Bytes taken; 0 when stdout would block. */
static size_t mux_write_once(struct stdio_mux *m, const uint8_t *buf, size_t len)
{
    struct pollfd pfd = {.fd = m->out_fd, .events = POLLOUT};
    ssize_t n;

    if (poll(&pfd, 1, 0) == 0) {
        return 0;
    }
    do {
        n = write(m->out_fd, buf, MIN(len, WRITE_CHUNK));
    } while (n < 0 && errno == EINTR);
    if (n < 0 && errno != EAGAIN) {
        m->out_dead = true; /* a closed pipe: the guest's text has nowhere to go, which is no reason to stop it */
        return len;
    }
    return n < 0 ? 0 : (size_t)n;
}

static size_t mux_write(struct chardev *chr, const uint8_t *buf, size_t len)
{
    struct stdio_mux *m = mux_of(chr);
    size_t done = 0;

    while (done < len) {
        size_t n = m->out_dead ? len - done : mux_write_once(m, buf + done, len - done);

        if (n == 0) {
            if (m->out_source == NULL) {
                m->out_source = mux_watch(m, m->out_fd, G_IO_OUT | G_IO_ERR | G_IO_HUP, mux_out_ready);
            }
            break;
        }
        mux_log(m, buf + done, n);
        done += n;
    }
    return done;
}

/* --- input --- */

/* Looks for menu keys in what was read and takes them out. */
static void mux_menu(struct stdio_mux *m)
{
    size_t out = 0;

    for (size_t i = 0; i < m->input_len; i++) {
        uint8_t byte = m->input[i];

        if (!m->menu_pending && byte == MENU_KEY) {
            m->menu_pending = true;
            continue;
        }
        if (m->menu_pending) {
            m->menu_pending = false;
            if (byte == 'x' || byte == 'X') {
                m->command(m->opaque, STDIO_QUIT);
                continue;
            }
            if (byte == 'h' || byte == 'H' || byte == '?') {
                m->command(m->opaque, STDIO_HELP);
                continue;
            }
            if (byte != MENU_KEY) {
                continue; /* 'c' and the rest are reserved */
            }
        }
        m->input[out++] = byte;
    }
    m->input_len = out;
}

/* Somebody who hits Ctrl-C again and again wants out, and it goes to the guest. */
static void mux_ctrl_c(struct stdio_mux *m, const uint8_t *buf, size_t len)
{
    gint64 now = g_get_monotonic_time();

    for (size_t i = 0; i < len; i++) {
        if (buf[i] != CTRL_C) {
            m->ctrl_c_count = 0;
            continue;
        }
        if (now - m->ctrl_c_time > G_USEC_PER_SEC) {
            m->ctrl_c_count = 0;
            m->ctrl_c_time = now;
        }
        if (++m->ctrl_c_count == CTRL_C_HINT_COUNT) {
            report_hint("Ctrl-C goes to the guest; Ctrl-A X quits pvemu");
        }
    }
}

static gboolean mux_in_ready(gint fd, GIOCondition condition, gpointer data);

static void mux_watch_input(struct stdio_mux *m)
{
    if (m->in_source == NULL) {
        m->in_source = mux_watch(m, STDIN_FILENO, G_IO_IN | G_IO_HUP | G_IO_ERR, mux_in_ready);
    }
}

/* Gives the guest what was read; the lock is held. */
static void mux_feed(struct stdio_mux *m)
{
    size_t taken = 0;

    if (m->handlers != NULL && m->input_len > 0) {
        taken = m->handlers->rx(m->handlers_opaque, m->input, m->input_len);
    }
    memmove(m->input, m->input + taken, m->input_len - taken);
    m->input_len -= taken;
}

static gboolean mux_in_ready(gint fd, GIOCondition condition, gpointer data)
{
    struct stdio_mux *m = data;
    size_t old = m->input_len;
    ssize_t n;

    (void)condition;
    if (old == INPUT_CHUNK) {
        /* The guest takes nothing. Keys for the menu must still be seen, so drop the oldest input. */
        memmove(m->input, m->input + INPUT_CHUNK / 2, INPUT_CHUNK / 2);
        m->input_len = old = INPUT_CHUNK / 2;
    }
    n = read(fd, m->input + old, INPUT_CHUNK - old);
    if (n < 0 && (errno == EINTR || errno == EAGAIN)) {
        return G_SOURCE_CONTINUE;
    }
    if (n <= 0) {
        mux_unwatch(&m->in_source);
        return G_SOURCE_REMOVE;
    }
    if (m->menu) {
        uint8_t fresh[INPUT_CHUNK];

        mux_ctrl_c(m, m->input + old, (size_t)n);
        /* Only what is new may hold menu keys: an escaped Ctrl-A waits in the rest. */
        memcpy(fresh, m->input, old);
        memmove(m->input, m->input + old, (size_t)n);
        m->input_len = (size_t)n;
        mux_menu(m);
        memmove(m->input + old, m->input, m->input_len);
        memcpy(m->input, fresh, old);
        m->input_len += old;
    } else {
        m->input_len = old + (size_t)n;
    }
    mux_lock(m);
    mux_feed(m);
    mux_unlock(m);
    if (m->input_len == INPUT_CHUNK && !m->menu) {
        mux_unwatch(&m->in_source); /* a pipe waits until there is room: rx_ready goes on */
        return G_SOURCE_REMOVE;
    }
    return G_SOURCE_CONTINUE;
}

static void mux_set_handlers(struct chardev *chr, const struct chardev_handlers *handlers, void *opaque)
{
    struct stdio_mux *m = mux_of(chr);

    m->handlers = handlers;
    m->handlers_opaque = opaque;
}

static void mux_rx_ready(struct chardev *chr)
{
    struct stdio_mux *m = mux_of(chr);
    bool was_full = m->input_len == INPUT_CHUNK;

    mux_feed(m);
    if (was_full && m->input_len < INPUT_CHUNK) {
        mux_watch_input(m);
    }
}

static gboolean mux_winch(gpointer data)
{
    struct stdio_mux *m = data;
    unsigned columns, rows;

    mux_lock(m);
    if (m->handlers != NULL && m->handlers->resize != NULL && terminal_size(&columns, &rows)) {
        m->handlers->resize(m->handlers_opaque, columns, rows);
    }
    mux_unlock(m);
    return G_SOURCE_CONTINUE;
}

static bool mux_get_size(struct chardev *chr, unsigned *columns, unsigned *rows)
{
    (void)chr;
    return terminal_size(columns, rows);
}

static void mux_close(struct chardev *chr)
{
    struct stdio_mux *m = mux_of(chr);

    mux_unwatch(&m->in_source);
    mux_unwatch(&m->out_source);
    mux_unwatch(&m->winch_source);
    if (m->out_fd >= 0) {
        close(m->out_fd);
    }
    if (m->log_fd >= 0) {
        close(m->log_fd);
    }
    g_free(m);
}

static const struct chardev_ops mux_ops = {
    .name = "stdio", .write = mux_write, .set_handlers = mux_set_handlers,
    .rx_ready = mux_rx_ready, .get_size = mux_get_size, .close = mux_close,
};

struct chardev *stdio_mux_new(const struct stdio_mux_options *options, GError **err)
{
    struct stdio_mux *m = g_new0(struct stdio_mux, 1);

    m->chr.ops = &mux_ops;
    m->context = options->context;
    m->lock = options->lock;
    m->menu = options->menu;
    m->command = options->command;
    m->opaque = options->opaque;
    m->log_fd = -1;
    m->out_fd = open("/proc/self/fd/1", O_WRONLY | O_NONBLOCK | O_NOCTTY | O_CLOEXEC | O_APPEND);
    if (m->out_fd < 0) {
        m->out_fd = fcntl(STDOUT_FILENO, F_DUPFD_CLOEXEC, 3);
    }
    if (options->log_path != NULL) {
        m->log_fd = open(options->log_path, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0666);
        if (m->log_fd < 0) {
            error_set(err, PVEMU_ERROR_HOST, "cannot write log '%s': %s", options->log_path, g_strerror(errno));
            mux_close(&m->chr);
            return NULL;
        }
    }
    return &m->chr;
}

void stdio_mux_set_lock(struct chardev *chr, GMutex *lock)
{
    mux_of(chr)->lock = lock;
}

void stdio_mux_start(struct chardev *chr)
{
    struct stdio_mux *m = mux_of(chr);

    mux_watch_input(m);
    m->winch_source = g_unix_signal_source_new(SIGWINCH);
    g_source_set_callback(m->winch_source, mux_winch, m, NULL);
    g_source_attach(m->winch_source, m->context);
}
