/* SPDX-License-Identifier: MIT */
/*
 * Tells ThreadSanitizer what glib's locks and threads order: they are futexes inside libglib,
 * which is not instrumented. To be preloaded into a build with -Db_sanitize=thread:
 *
 *     meson setup build-tsan -Db_sanitize=thread -Db_lundef=false && ninja -C build-tsan src/pvemu
 *     gcc -shared -fPIC -O1 -o locks.so tests/tsan/glib_locks.c $(pkg-config --cflags glib-2.0) -ltsan
 *     LD_PRELOAD="libtsan.so.2 ./locks.so" TSAN_OPTIONS=log_path=races build-tsan/src/pvemu -sandbox off ...
 *
 * What it reports then is guest memory, which vCPUs and back ends share by nature: the guest's
 * own loads and stores (hot_*.c, access.c, transit.c) against each other or against rings and
 * event words. Anything else is a bug.
 */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <glib.h>

enum { MAX_THREADS = 1024 };

void __tsan_acquire(void *at);
void __tsan_release(void *at);

/* `real` is libglib's function of this name. */
#define REAL(name)                                                                             \
    static __typeof__(&name) real;                                                             \
    if (real == NULL) {                                                                        \
        *(void **)&real = dlsym(RTLD_NEXT, #name);                                             \
    }

void g_mutex_lock(GMutex *m)
{
    REAL(g_mutex_lock)
    real(m);
    __tsan_acquire(m);
}

void g_mutex_unlock(GMutex *m)
{
    REAL(g_mutex_unlock)
    __tsan_release(m);
    real(m);
}

gboolean g_mutex_trylock(GMutex *m)
{
    gboolean taken;

    REAL(g_mutex_trylock)
    taken = real(m);
    if (taken) {
        __tsan_acquire(m);
    }
    return taken;
}

void g_cond_wait(GCond *c, GMutex *m)
{
    REAL(g_cond_wait)
    __tsan_release(m);
    real(c, m);
    __tsan_acquire(m);
}

gboolean g_cond_wait_until(GCond *c, GMutex *m, gint64 end)
{
    gboolean woken;

    REAL(g_cond_wait_until)
    __tsan_release(m);
    woken = real(c, m, end);
    __tsan_acquire(m);
    return woken;
}

/* Readers release another address than writers, so that they do not order each other. */
void g_rw_lock_reader_lock(GRWLock *l)
{
    REAL(g_rw_lock_reader_lock)
    real(l);
    __tsan_acquire(l);
}

void g_rw_lock_reader_unlock(GRWLock *l)
{
    REAL(g_rw_lock_reader_unlock)
    __tsan_release((char *)l + 1);
    real(l);
}

void g_rw_lock_writer_lock(GRWLock *l)
{
    REAL(g_rw_lock_writer_lock)
    real(l);
    __tsan_acquire(l);
    __tsan_acquire((char *)l + 1);
}

void g_rw_lock_writer_unlock(GRWLock *l)
{
    REAL(g_rw_lock_writer_unlock)
    __tsan_release(l);
    real(l);
}

struct start {
    GThreadFunc fn;
    gpointer data;
};

static struct {
    GThread *thread;
    struct start *start;
} threads[MAX_THREADS];
static int nr_threads;

static gpointer thread_main(gpointer opaque)
{
    struct start *start = opaque;
    gpointer result;

    __tsan_acquire(start);
    result = start->fn(start->data);
    __tsan_release(start);
    return result;
}

GThread *g_thread_try_new(const char *name, GThreadFunc fn, gpointer data, GError **err)
{
    struct start *start = g_new(struct start, 1);
    int at = __atomic_fetch_add(&nr_threads, 1, __ATOMIC_SEQ_CST) % MAX_THREADS;

    REAL(g_thread_try_new)
    *start = (struct start){fn, data};
    __tsan_release(start);
    threads[at].start = start;
    threads[at].thread = real(name, thread_main, start, err);
    return threads[at].thread;
}

gpointer g_thread_join(GThread *thread)
{
    gpointer result;

    REAL(g_thread_join)
    result = real(thread);
    for (int i = 0; i < MAX_THREADS; i++) {
        if (threads[i].thread == thread) {
            __tsan_acquire(threads[i].start);
        }
    }
    return result;
}
