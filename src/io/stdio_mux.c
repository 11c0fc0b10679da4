/* SPDX-License-Identifier: MIT */
/*
 * The console on stdin and stdout.
 *
 * A terminal or pipe on stdout is opened again through /proc so that O_NONBLOCK does not leak
 * into the shell that shares it; where that is refused, a poll before each write does. A
 * regular file is written through the descriptor we were given, because its position is shared
 * with whoever writes before and after us. What stdout does not take stays in the guest's ring:
 * there is no buffer here that could grow. The log file is written with the same bytes.
 */
#include "io/stdio_mux.h"

#include <errno.h>
#include <fcntl.h>
#include <glib-unix.h>
#include <poll.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/error.h"
#include "base/report.h"
#include "io/terminal.h"

enum { INPUT_CHUNK = 512, WRITE_CHUNK = 4096, LAST_WORDS_MS = 5000 };

struct stdio_mux {
    struct chardev chr; /* first */
    GMainContext *context;
    GMutex *lock;
    const struct chardev_handlers *handlers;
    void *handlers_opaque;
    struct console_menu menu;
    bool has_menu;
    int out_fd, log_fd;
    bool out_dead, log_dead;
    bool in_ended;  /* stdin is at its end */
    bool finishing; /* stdio_mux_finish() */
    bool mid_line;  /* the last byte written was no line end */
    GSource *in_source, *out_source, *winch_source;
    uint8_t input[INPUT_CHUNK];
    size_t input_len; /* read, not yet taken by the guest */
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

static GSource *mux_watch(struct stdio_mux *m, int fd, GIOCondition condition,
                          GUnixFDSourceFunc fn)
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
        g_clear_pointer(source, g_source_unref);
    }
}

/* --- output --- */

static void mux_tx_ready(struct stdio_mux *m)
{
    if (m->handlers != NULL && m->handlers->tx_ready != NULL) {
        m->handlers->tx_ready(m->handlers_opaque);
    }
}

static gboolean mux_out_ready(gint fd, GIOCondition condition, gpointer data)
{
    struct stdio_mux *m = data;

    (void)fd, (void)condition;
    mux_lock(m); /* vCPU threads write, and look at out_source */
    mux_unwatch(&m->out_source);
    mux_tx_ready(m);
    mux_unlock(m);
    return G_SOURCE_REMOVE;
}

static void mux_log(struct stdio_mux *m, const uint8_t *buf, size_t len)
{
    while (len > 0 && m->log_fd >= 0 && !m->log_dead) {
        ssize_t n = write(m->log_fd, buf, len);

        if (n > 0) {
            buf += n;
            len -= (size_t)n;
        } else if (n == 0 || errno != EINTR) {
            m->log_dead = true;
            report_warn("the log is incomplete: %s", g_strerror(n == 0 ? EIO : errno));
        }
    }
}

/* From now on the guest's text goes nowhere but the log, which is no reason to stop it. */
static size_t mux_give_up(struct stdio_mux *m, const char *why, size_t len)
{
    m->out_dead = true;
    if (why != NULL) {
        report_warn("the guest's output is incomplete: %s", why);
    }
    return len;
}

/* Bytes taken; 0 when stdout would block. */
static size_t mux_write_once(struct stdio_mux *m, const uint8_t *buf, size_t len)
{
    struct pollfd pfd = {.fd = m->out_fd, .events = POLLOUT};
    ssize_t n;

    if (poll(&pfd, 1, m->finishing ? LAST_WORDS_MS : 0) == 0) {
        return m->finishing ? mux_give_up(m, "nobody reads it", len) : 0;
    }
    do {
        n = write(m->out_fd, buf, MIN(len, WRITE_CHUNK)); /* a socket with POLLOUT has room */
    } while (n < 0 && errno == EINTR);
    if (n < 0 && errno != EAGAIN) {
        return mux_give_up(m, errno == EPIPE ? NULL : g_strerror(errno), len);
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
                m->out_source = mux_watch(m, m->out_fd, G_IO_OUT | G_IO_ERR | G_IO_HUP,
                                          mux_out_ready);
            }
            break;
        }
        mux_log(m, buf + done, n);
        done += n;
        m->mid_line = buf[done - 1] != '\n';
    }
    return done;
}

/* --- input --- */

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

/* Room for what will be read. */
static size_t mux_make_room(struct stdio_mux *m)
{
    size_t room;

    mux_lock(m);
    if (m->input_len == INPUT_CHUNK) {
        /* The guest takes nothing. Menu keys must still be seen, so drop the oldest input. */
        memmove(m->input, m->input + INPUT_CHUNK / 2, INPUT_CHUNK / 2);
        m->input_len = INPUT_CHUNK / 2;
    }
    room = INPUT_CHUNK - m->input_len; /* the guest may take some meanwhile: then it is more */
    mux_unlock(m);
    return room;
}

/* Adds to what the guest has not taken, and offers all of it. */
static void mux_add_input(struct stdio_mux *m, const uint8_t *buf, size_t len)
{
    mux_lock(m);
    memcpy(m->input + m->input_len, buf, len);
    m->input_len += len;
    mux_feed(m);
    if (m->input_len == INPUT_CHUNK && !m->has_menu) {
        mux_unwatch(&m->in_source); /* a pipe can wait: mux_rx_ready() goes on */
    }
    mux_unlock(m);
}

static gboolean mux_in_ready(gint fd, GIOCondition condition, gpointer data)
{
    struct stdio_mux *m = data;
    uint8_t fresh[INPUT_CHUNK];
    ssize_t n = read(fd, fresh, mux_make_room(m));
    size_t len = n > 0 ? (size_t)n : 0;

    (void)condition;
    if (n < 0 && (errno == EINTR || errno == EAGAIN)) {
        return G_SOURCE_CONTINUE;
    }
    if (n <= 0) {
        mux_lock(m);
        m->in_ended = true;
        mux_unwatch(&m->in_source);
        mux_unlock(m);
        return G_SOURCE_REMOVE;
    }
    if (m->has_menu) {
        len = console_menu_filter(&m->menu, fresh, len, g_get_monotonic_time());
    }
    mux_add_input(m, fresh, len);
    return G_SOURCE_CONTINUE;
}

static void mux_set_handlers(struct chardev *chr, const struct chardev_handlers *handlers,
                             void *opaque)
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
    if (was_full && m->input_len < INPUT_CHUNK && !m->in_ended) {
        mux_watch_input(m);
    }
}

void stdio_mux_check_size(struct chardev *chr)
{
    struct stdio_mux *m = mux_of(chr);
    unsigned columns, rows;

    mux_lock(m);
    if (m->handlers != NULL && m->handlers->resize != NULL && terminal_size(&columns, &rows)) {
        m->handlers->resize(m->handlers_opaque, columns, rows);
    }
    mux_unlock(m);
}

static gboolean mux_winch(gpointer data)
{
    stdio_mux_check_size(data);
    return G_SOURCE_CONTINUE;
}

static bool mux_get_size(struct chardev *chr, unsigned *columns, unsigned *rows)
{
    (void)chr;
    return terminal_size(columns, rows);
}

/* --- life --- */

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

/* Our own open file for stdout where O_NONBLOCK is wanted, else the one we were given. */
static void mux_open_output(struct stdio_mux *m)
{
    struct stat st = {0};

    fstat(STDOUT_FILENO, &st);
    m->out_fd = -1;
    if (S_ISFIFO(st.st_mode) || S_ISCHR(st.st_mode)) {
        m->out_fd = open("/proc/self/fd/1", O_WRONLY | O_NONBLOCK | O_NOCTTY | O_CLOEXEC);
    }
    if (m->out_fd < 0) {
        m->out_fd = fcntl(STDOUT_FILENO, F_DUPFD_CLOEXEC, 3);
    }
}

struct chardev *stdio_mux_new(const struct stdio_mux_options *options, GError **err)
{
    struct stdio_mux *m = g_new0(struct stdio_mux, 1);

    m->chr.ops = &mux_ops;
    m->context = options->context;
    m->has_menu = options->menu;
    m->menu.key = options->key;
    m->menu.opaque = options->opaque;
    m->log_fd = -1;
    mux_open_output(m);
    if (options->log_path != NULL) {
        m->log_fd = open(options->log_path, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0666);
        if (m->log_fd < 0) {
            error_set(err, PVEMU_ERROR_HOST, "cannot write log '%s': %s", options->log_path,
                      g_strerror(errno));
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

void stdio_mux_finish(struct chardev *chr)
{
    struct stdio_mux *m = mux_of(chr);

    mux_lock(m);
    m->finishing = true;
    mux_tx_ready(m);
    mux_unlock(m);
}

bool stdio_mux_mid_line(struct chardev *chr)
{
    struct stat out, err;

    return mux_of(chr)->mid_line && fstat(STDOUT_FILENO, &out) == 0 &&
           fstat(STDERR_FILENO, &err) == 0 && out.st_dev == err.st_dev &&
           out.st_ino == err.st_ino;
}
