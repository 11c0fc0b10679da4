/* SPDX-License-Identifier: MIT */
/*
 * A disk's back end and page types: what the guest granted is read into only if it is plain
 * memory, and cannot become a table while it is mapped. A front end as small as can be; the
 * disk's bytes are in rows.py.
 */
#include "pv.h"

#include <xen/grant_table.h>
#include <xen/io/xs_wire.h>

#define FRONT "device/vbd/51712/"
enum { OP_READ = 0, OP_WRITE = 1, OKAY = 0, ERROR = -1, REF_RING = 20, REF_DATA = 21 };
enum { INIT_WAIT = 2, CONNECTED = 4, CLOSING = 5, CLOSED = 6 };

struct slot { /* a request of one segment, or the answer */
    uint8_t op, nr;
    uint16_t handle;
    uint32_t pad;
    uint64_t id, sector;
    uint32_t gref;
    uint8_t first, last;
    uint8_t unused[112 - 30];
} __attribute__((packed));

struct ring {
    volatile uint32_t req_prod, req_event, rsp_prod, rsp_event;
    uint8_t pad[48];
    volatile struct slot slot[32];
};

static uint8_t grants[4096] __attribute__((aligned(4096)));
static uint64_t *table, *gdt, *plain;
static struct ring *ring;
static uint32_t port;

/* --- xenstore --- */

static struct xenstore_domain_interface *store;

static void notify(uint32_t to)
{
    struct evtchn_send op = {.port = to};

    CHECK(HC2(event_channel_op, EVTCHNOP_send, &op), 0);
}

static void pause_a_while(void)
{
    HC2(sched_op, SCHEDOP_yield, 0);
}

static void store_put(const void *buf, unsigned len)
{
    uint32_t prod = store->req_prod;

    for (unsigned i = 0; i < len; i++) { /* there is room: one request at a time */
        store->req[prod++ & (XENSTORE_RING_SIZE - 1)] = ((const char *)buf)[i];
    }
    __atomic_store_n(&store->req_prod, prod, __ATOMIC_SEQ_CST);
}

static void store_get(void *buf, unsigned len)
{
    for (unsigned i = 0; i < len; i++) {
        while (__atomic_load_n(&store->rsp_prod, __ATOMIC_SEQ_CST) == store->rsp_cons) {
            notify(start_info->store_evtchn);
            pause_a_while();
        }
        ((char *)buf)[i] = store->rsp[store->rsp_cons & (XENSTORE_RING_SIZE - 1)];
        __atomic_store_n(&store->rsp_cons, store->rsp_cons + 1, __ATOMIC_SEQ_CST);
    }
}

static unsigned length(const char *text)
{
    unsigned n = 0;

    while (text[n] != '\0') {
        n++;
    }
    return n;
}

/* answer: of 64 bytes, ends with NUL. */
static void store_call(uint32_t type, const char *path, const char *value, char *answer)
{
    struct xsd_sockmsg m = {.type = type, .len = length(path) + 1 + length(value)};
    char byte;

    store_put(&m, sizeof(m));
    store_put(path, length(path) + 1);
    store_put(value, length(value));
    notify(start_info->store_evtchn);
    store_get(&m, sizeof(m));
    CHECK(m.type, type);
    for (unsigned i = 0; i < m.len; i++) {
        store_get(&byte, 1);
        answer[i < 63 ? i : 62] = byte;
    }
    answer[m.len < 63 ? m.len : 63] = '\0';
}

static void store_write(const char *path, const char *value)
{
    char answer[64];

    store_call(XS_WRITE, path, value, answer);
}

static void store_write_number(const char *path, unsigned value)
{
    char text[12];
    unsigned at = sizeof(text) - 1;

    text[at] = '\0';
    do {
        text[--at] = (char)('0' + value % 10);
        value /= 10;
    } while (value != 0);
    store_write(path, text + at);
}

static void wait_for_back(char state)
{
    char path[64], answer[64];
    unsigned n;

    store_call(XS_READ, FRONT "backend", "", path);
    n = length(path);
    for (unsigned i = 0; i < sizeof("/state"); i++) {
        path[n + i] = "/state"[i];
    }
    do {
        store_call(XS_READ, path, "", answer);
        pause_a_while();
    } while (answer[0] != '0' + state);
}

/* --- the front end --- */

static void grant(unsigned ref, const void *page, uint16_t flags)
{
    volatile grant_entry_v1_t *e = (grant_entry_v1_t *)grants + ref;

    e->domid = 0;
    e->frame = (uint32_t)va_mfn(page);
    e->flags = GTF_permit_access | flags;
}

static bool in_use(unsigned ref)
{
    volatile grant_entry_v1_t *e = (grant_entry_v1_t *)grants + ref;

    return (e->flags & (GTF_reading | GTF_writing)) != 0;
}

static void connect(void)
{
    struct evtchn_alloc_unbound op = {.dom = DOMID_SELF, .remote_dom = 0};

    ring->req_prod = ring->rsp_prod = 0;
    ring->req_event = ring->rsp_event = 1;
    grant(REF_RING, ring, 0);
    CHECK(HC2(event_channel_op, EVTCHNOP_alloc_unbound, &op), 0);
    port = op.port;
    wait_for_back(INIT_WAIT);
    store_write_number(FRONT "ring-ref", REF_RING);
    store_write_number(FRONT "event-channel", port);
    store_write(FRONT "protocol", "x86_64-abi");
    store_write(FRONT "state", "3");
    wait_for_back(CONNECTED);
    store_write(FRONT "state", "4");
}

static void disconnect(void)
{
    struct evtchn_close op = {.port = port};

    store_write(FRONT "state", "6");
    wait_for_back(CLOSED);
    CHECK(HC2(event_channel_op, EVTCHNOP_close, &op), 0);
}

static int transfer(uint8_t op, uint64_t sector)
{
    const uint32_t n = ring->req_prod;
    volatile struct slot *s = &ring->slot[n % 32];

    s->op = op;
    s->nr = 1;
    s->handle = 0;
    s->id = 7 + n;
    s->sector = sector;
    s->gref = REF_DATA;
    s->first = s->last = 0;
    __atomic_store_n(&ring->req_prod, n + 1, __ATOMIC_SEQ_CST);
    notify(port);
    while (__atomic_load_n(&ring->rsp_prod, __ATOMIC_SEQ_CST) != n + 1) {
        pause_a_while();
    }
    CHECK(*(volatile uint64_t *)s, 7 + n);
    return ((volatile int16_t *)s)[5];
}

static int read_into(const void *page, uint64_t sector)
{
    int status;

    grant(REF_DATA, page, 0);
    status = transfer(OP_READ, sector);
    CHECK(in_use(REF_DATA), false);
    return status;
}

static void check_pin(const void *page, long want)
{
    CHECK(make_ro(page), 0);
    CHECK(mmuext1(MMUEXT_PIN_L1_TABLE, va_mfn(page), 0), want);
    if (want == 0) {
        CHECK(mmuext1(MMUEXT_UNPIN_TABLE, va_mfn(page), 0), 0);
    }
    CHECK(make_rw(page), 0);
}

static void clear(uint64_t *page)
{
    for (unsigned i = 0; i < 512; i++) {
        page[i] = 0;
    }
}

static void check_transfers(void)
{
    const uint64_t root = start_info->pt_base;
    const uint64_t before = *(volatile uint64_t *)root;

    CHECK(read_into(plain, 3), OKAY);
    CHECK(plain[1], 0x0a36393030303030); /* "0000096\n", of its first line */
    CHECK(read_into(table, 3), ERROR);
    CHECK(read_into(gdt, 3), ERROR);
    CHECK(read_into((void *)root, 3), ERROR);
    CHECK(table[0], 0);
    CHECK(gdt[0], 0);
    CHECK(*(volatile uint64_t *)root, before);
    grant(REF_DATA, table, GTF_readonly); /* a table may be written out */
    CHECK(transfer(OP_WRITE, 5), OKAY);
    CHECK(read_into(plain, 5), OKAY);
    CHECK(plain[0], 0);
    CHECK(read_into(plain, 6), OKAY);
    clear(plain);
    check_pin(plain, 0); /* it was mapped for the request alone */
}

/* A ring is not to be a table, as long as it is one. */
static void check_ring(void)
{
    check_pin(ring, -EINVAL_);
    disconnect();
    CHECK(in_use(REF_RING), false);
    clear((uint64_t *)ring);
    check_pin(ring, 0);
    store_write(FRONT "state", "1");
    grant(REF_RING, table, 0);
    wait_for_back(INIT_WAIT);
    store_write(FRONT "state", "3"); /* with its keys of before */
    wait_for_back(CLOSING);
    CHECK(in_use(REF_RING), false);
    CHECK(table[0], 0);
}

void test(void)
{
    const uint64_t *pfn = (const uint64_t *)HV;
    xen_pfn_t frame = 0;
    struct gnttab_setup_table op = {.dom = DOMID_SELF, .nr_frames = 1, .frame_list.p = &frame};
    uint64_t mfn;

    traps_init();
    store = (void *)(KV + (pfn[start_info->store_mfn] << 12));
    CHECK(HC3(grant_table_op, GNTTABOP_setup_table, &op, 1), 0);
    CHECK(update_va(grants, frame << 12 | P | RW, UVMF_INVLPG), 0);
    ring = page_alloc();
    plain = page_alloc();
    table = page_alloc();
    gdt = page_alloc();
    CHECK(make_ro(table), 0);
    CHECK(make_ro(gdt), 0);
    CHECK(mmuext1(MMUEXT_PIN_L1_TABLE, va_mfn(table), 0), 0);
    mfn = va_mfn(gdt);
    CHECK(HC2(set_gdt, &mfn, 512), 0);
    connect();
    check_transfers();
    check_ring();
}
