/* SPDX-License-Identifier: MIT */
/*
 * A hostile vbd front end of one to four queues: the input is a program for it, one byte per
 * operation (low bits) and queue (high bits) followed by what that needs. Beside it a second thread, another vCPU of the guest, keeps rewriting ring
 * slots, the pages of indirect requests and grant entries while the back end reads them.
 *
 * The fake disk checks that every request that reaches it lies on the disk and adds up. Nothing
 * may crash, loop, stay in flight, or stay mapped.
 */
#include <errno.h>
#include <string.h>

#include "fuzz.h"
#include "tests/unit/pv/blk_front.h"

enum { DISK_SIZE = 1 << 20, MAX_STEPS = 256, INDIRECT_GFN = FRONT_DATA_GFN + 20, REFS = 24 };

struct program {
    const uint8_t *data;
    size_t size;
};

struct target {
    struct blk_front f;
    GMutex lock;
    GCond cond;
    bool flip, flipping; /* wanted, and so */
};

/* The next n bytes of the program, zeros after its end. */
static void take(struct program *p, void *buf, size_t n)
{
    size_t got = MIN(n, p->size);

    memset(buf, 0, n);
    memcpy(buf, p->data, got);
    p->data += got;
    p->size -= got;
}

static uint8_t take8(struct program *p)
{
    uint8_t v;

    take(p, &v, sizeof(v));
    return v;
}

/* --- The flipper --- */

/* Races are its purpose; the stores are single bytes and words as a guest makes them. */
static void flip_once(struct blk_front *f, uint64_t random)
{
    /* The other thread goes from queue to queue, and while it connects there may be none. */
    uint8_t *ring = __atomic_load_n(&f->ring, __ATOMIC_RELAXED);
    uint8_t *indirect = front_page(f, INDIRECT_GFN) + (random >> 24) % 64;
    uint16_t *flags =
        &front_grant_entry(f, front_ref(FRONT_DATA_GFN) + (random >> 40) % REFS)->flags;

    if (ring == NULL) {
        return;
    }
    switch (random % 8) {
    case 0:
        __atomic_fetch_xor(flags, (uint16_t)(1u << (random >> 50) % 16), __ATOMIC_RELAXED);
        break;
    case 1:
    case 2:
        __atomic_store_n(indirect, (uint8_t)(random >> 56), __ATOMIC_RELAXED);
        break;
    default:
        __atomic_store_n(ring + 64 + (random >> 8) % (4096 - 64),
                         (uint8_t)((random >> 60) % 9), __ATOMIC_RELAXED);
        break;
    }
}

static gpointer flipper(gpointer data)
{
    struct target *t = data;
    uint64_t random = 1;

    for (;;) {
        g_mutex_lock(&t->lock);
        while (!t->flip) {
            t->flipping = false;
            g_cond_broadcast(&t->cond);
            g_cond_wait(&t->cond, &t->lock);
        }
        t->flipping = true;
        g_mutex_unlock(&t->lock);
        for (unsigned i = 0; i < 64; i++) {
            random = random * UINT64_C(6364136223846793005) + UINT64_C(1442695040888963407);
            flip_once(&t->f, random ^ random >> 29);
        }
    }
    return NULL;
}

static void set_flipper(struct target *t, bool on)
{
    g_mutex_lock(&t->lock);
    t->flip = on;
    g_cond_broadcast(&t->cond);
    while (!on && t->flipping) {
        g_cond_wait(&t->cond, &t->lock);
    }
    g_mutex_unlock(&t->lock);
}

/* --- The guest's operations --- */

static struct blk_segment take_segment(struct program *p)
{
    static const uint8_t lasts[] = {7, 7, 7, 0, 3, 6, 8, 255};
    uint8_t a = take8(p), b = take8(p);
    struct blk_segment seg = {front_ref(FRONT_DATA_GFN) + a % REFS, 0, lasts[b & 7], 0};

    seg.first = b >> 3 & 1 ? b >> 4 : 0;
    if (a == 255) {
        take(p, &seg.gref, sizeof(seg.gref));
    }
    return seg;
}

static uint64_t take_sector(struct program *p)
{
    uint8_t kind = take8(p);
    uint64_t sector = 0;

    if (kind == 255) {
        take(p, &sector, sizeof(sector));
        return sector;
    }
    return kind < 240 ? kind * 8u : DISK_SIZE / 512 - (kind - 240u);
}

/* A request that is mostly right. */
static void op_request(struct blk_front *f, struct program *p)
{
    struct front_request r = {.op = take8(p) % 8, .nr = take8(p) % 14};
    struct blk_segment *indirect = (struct blk_segment *)(void *)front_page(f, INDIRECT_GFN);

    r.id = f->req_prod;
    r.sector = take_sector(p);
    r.flag = take8(p) & 3;
    r.nr_sectors = take8(p);
    r.indirect_ref = front_ref(INDIRECT_GFN);
    for (unsigned i = 0; i < MIN(r.nr, 11u); i++) {
        r.seg[i] = take_segment(p);
        indirect[i] = r.seg[i];
    }
    if (r.op == BLKIF_OP_INDIRECT && r.nr == 13) {
        r.nr = 256;
    }
    front_queue(f, &r);
}

static void op_raw_slot(struct blk_front *f, struct program *p)
{
    take(p, front_slot(f, f->req_prod++), blk_slot_size(f->protocol));
}

static void op_index(struct blk_front *f, struct program *p)
{
    uint32_t word = take8(p) % 4, value;

    take(p, &value, sizeof(value));
    __atomic_store_n((uint32_t *)(void *)f->ring + word, value, __ATOMIC_SEQ_CST);
    g_mutex_lock(&f->fb->board.lock);
    blkback_post(f->b);
    g_mutex_unlock(&f->fb->board.lock);
    front_settle(f);
}

static void op_step(struct blk_front *f, struct program *p)
{
    static const int errors[] = {0, 0, 0, -EIO, -ENOSPC, -EOPNOTSUPP};
    uint8_t which = take8(p);

    if (f->disk->queued > 0) {
        f->disk->fail = errors[which % G_N_ELEMENTS(errors)];
        fake_disk_step(f->disk, which % f->disk->queued);
        f->disk->fail = 0;
    }
}

static void op_grant(struct blk_front *f, struct program *p)
{
    grant_entry_v1_t *e = front_grant_entry(f, front_ref(FRONT_DATA_GFN) + take8(p) % REFS);

    e->flags = take8(p);
    e->frame = take8(p) < 128 ? FRONT_DATA_GFN : 0xfffffff0u + take8(p) % 16;
}

static void op_key(struct blk_front *f, struct program *p)
{
    static const char *const keys[] = {
        "ring-ref",      "ring-ref0", "ring-ref1",          "ring-page-order",
        "event-channel", "protocol",  "feature-persistent", "state",
        "multi-queue-num-queues", "queue-0/ring-ref", "queue-1/ring-ref",
        "queue-1/event-channel", "queue-3/ring-ref1", "queue-2",
    };
    char value[12] = {0};
    unsigned key = take8(p) % G_N_ELEMENTS(keys);

    take(p, value, take8(p) % (sizeof(value) - 1));
    g_mutex_lock(&f->fb->board.lock);
    front_write_key(f, keys[key], value);
    g_mutex_unlock(&f->fb->board.lock);
    front_settle(f);
}

static void op_reconnect(struct blk_front *f, struct program *p)
{
    uint8_t how = take8(p);

    front_set_state(f, how & 1 ? XenbusStateClosed : XenbusStateClosing);
    fake_disk_run(f->disk);
    front_settle(f);
    front_set_state(f, XenbusStateClosed);
    front_set_state(f, XenbusStateInitialising);
    g_mutex_lock(&f->fb->board.lock);
    evtchn_reset(f->d);
    g_mutex_unlock(&f->fb->board.lock);
    front_prepare_queues(f, 1 + (how >> 3) % FRONT_VCPUS, how >> 1 & 1,
                         how >> 2 & 1 ? BLK_PROTOCOL_X86_32 : BLK_PROTOCOL_X86_64);
    front_set_state(f, XenbusStateInitialised);
}

static void step(struct blk_front *f, struct program *p)
{
    uint8_t op = take8(p);
    unsigned queue = op / 16 % FRONT_VCPUS;

    if (f->others[queue].ring != NULL) {
        front_use(f, queue);
    }
    switch (op % 16) {
    case 0:
    case 1:
    case 2:
    case 3:
    case 4:
    case 5:
        op_request(f, p);
        break;
    case 6:
    case 7:
    case 8:
        front_kick(f);
        break;
    case 9:
    case 10:
        op_step(f, p);
        break;
    case 11:
        op_raw_slot(f, p);
        break;
    case 12:
        op_index(f, p);
        break;
    case 13:
        op_grant(f, p);
        break;
    case 14:
        op_key(f, p);
        break;
    default:
        op_reconnect(f, p);
        break;
    }
}

/* --- One input --- */

static struct target *target_new(void)
{
    struct target *t = g_new0(struct target, 1);

    report_set_quiet(true);
    front_init(&t->f, fake_disk_new(DISK_SIZE, 512));
    g_mutex_lock(&t->f.fb->board.lock);
    blkback_offer_persistent(t->f.b);
    g_mutex_unlock(&t->f.fb->board.lock);
    g_thread_unref(g_thread_new("flipper", flipper, t));
    return t;
}

static void begin(struct target *t, uint8_t how)
{
    struct blk_front *f = &t->f;

    for (unsigned i = 0; i < REFS; i++) {
        front_grant(f, FRONT_DATA_GFN + i, false);
    }
    front_prepare_queues(f, 1 + (how >> 4) % FRONT_VCPUS, how & 1,
                         how & 2 ? BLK_PROTOCOL_X86_32 : BLK_PROTOCOL_X86_64);
    g_mutex_lock(&f->fb->board.lock);
    front_write_key(f, "feature-persistent", how & 4 ? "1" : "0");
    g_mutex_unlock(&f->fb->board.lock);
    front_set_state(f, XenbusStateInitialised);
    g_assert_true(f->b->running);
    /* The table is as large as it gets: the flipper, which has no lock, must not see it grow. */
    front_grant_entry(f, front_ref(FRONT_QUEUE_GFN + FRONT_VCPUS * 16));
    set_flipper(t, (how & 8) != 0);
}

static void end(struct target *t)
{
    struct blk_front *f = &t->f;
    g_autofree char *order = g_strconcat(f->b->xb.front_path, "/ring-page-order", NULL);

    set_flipper(t, false);
    fake_disk_run(f->disk);
    front_settle(f);
    g_assert_cmpuint(f->b->in_flight, ==, 0);
    blkback_reset(f->b);
    front_settle(f);
    g_assert_cmpuint(gnttab_mapped(f->d), ==, 0);
    g_mutex_lock(&f->fb->board.lock);
    gnttab_reset(f->d);
    evtchn_reset(f->d);
    xs_rm(f->d->xenstore, order);
    g_mutex_unlock(&f->fb->board.lock);
    g_string_truncate(f->disk->log, 0);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    static struct target *t;
    struct program p = {data, size};

    if (t == NULL) {
        t = target_new();
    }
    begin(t, take8(&p));
    for (unsigned steps = 0; p.size > 0 && steps < MAX_STEPS; steps++) {
        step(&t->f, &p);
    }
    end(t);
    return 0;
}
