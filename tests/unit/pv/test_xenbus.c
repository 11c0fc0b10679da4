/* SPDX-License-Identifier: MIT */
/* The back end's half of the xenbus handshake, played against a guest that writes states. */
#include <errno.h>
#include <string.h>

#include "base/error.h"
#include "core/state.h"
#include "pv/xenbus.h"
#include "pv/xenstore_priv.h"
#include "store_guest.h"

#define FRONT HOME "/device/toy/7"
#define BACK "/local/domain/0/backend/toy/1/7"

struct toy {
    struct xenbus_device dev; /* first */
    bool refuse;       /* connect fails */
    bool slow;         /* disconnect has requests in flight */
    unsigned published, connects, disconnects, unplugged;
    bool live;         /* between connect and the end of disconnect */
    uint32_t cookie;
};

static void toy_publish(struct xenbus_device *dev)
{
    ((struct toy *)dev)->published++;
    xenbus_front_write(dev, "handle", "%u", dev->id);
    xenbus_back_write(dev, "feature-toy", "1");
}

static bool toy_connect(struct xenbus_device *dev, GError **err)
{
    struct toy *t = (struct toy *)dev;
    uint64_t ref;

    g_assert_false(t->live); /* never twice */
    if (t->refuse || !xenbus_front_uint(dev, "ring-ref", 100, &ref)) {
        return error_set(err, PVEMU_ERROR_GUEST, "no ring");
    }
    t->connects++;
    t->live = true;
    return true;
}

static bool toy_disconnect(struct xenbus_device *dev)
{
    struct toy *t = (struct toy *)dev;

    g_assert_true(t->live);
    t->disconnects++;
    if (t->slow) {
        return false;
    }
    t->live = false;
    return true;
}

static void toy_finish(struct toy *t)
{
    g_assert_true(t->live);
    t->live = false;
    xenbus_disconnected(&t->dev);
}

static void toy_state(struct xenbus_device *dev, struct state *s)
{
    state_u32(s, "cookie", &((struct toy *)dev)->cookie);
    if (state_loading(s)) {
        ((struct toy *)dev)->live = dev->connected;
    }
}

static void toy_unplugged(struct xenbus_device *dev)
{
    ((struct toy *)dev)->unplugged++;
}

static const struct xenbus_type toy_type = {
    .name = "toy", .publish = toy_publish, .connect = toy_connect,
    .disconnect = toy_disconnect, .state = toy_state, .unplugged = toy_unplugged,
};

struct fixture {
    struct store_guest *g;
    struct toy toy;
};

static void set_up(struct fixture *f)
{
    memset(f, 0, sizeof(*f));
    f->g = store_guest_new();
    xenbus_device_init(&f->toy.dev, &toy_type, &f->g->d, 7);
    fake_board_run(f->g->fb);
}

static void tear_down(struct fixture *f)
{
    f->toy.slow = false;
    if (f->toy.dev.disconnecting) {
        toy_finish(&f->toy);
    }
    xenbus_device_fini(&f->toy.dev);
    g_assert_false(f->toy.live);
    g_assert_false(xs_exists(f->g->xs, FRONT));
    g_assert_false(xs_exists(f->g->xs, BACK));
    store_guest_free(f->g);
}

static void front(struct fixture *f, int state)
{
    char text[8];

    g_snprintf(text, sizeof(text), "%d", state);
    g_assert_cmpint(store_guest_write(f->g, "device/toy/7/state", text), ==, 0);
}

/* As the guest reads it. */
static void expect_back(struct fixture *f, const char *state)
{
    g_assert_cmpint(store_guest_call1(f->g, XS_READ, BACK "/state"), ==, 0);
    g_assert_cmpstr(f->g->payload, ==, state);
}

static void bring_up(struct fixture *f)
{
    store_guest_write(f->g, "device/toy/7/ring-ref", "8");
    front(f, 3);
    expect_back(f, "4");
    front(f, 4);
    expect_back(f, "4");
    g_assert_true(f->toy.live);
}

static void test_nodes(void)
{
    struct fixture f;

    set_up(&f);
    expect_back(&f, "2");
    store_guest_call1(f.g, XS_READ, "device/toy/7/backend");
    g_assert_cmpstr(f.g->payload, ==, BACK);
    store_guest_call1(f.g, XS_READ, FRONT "/state");
    g_assert_cmpstr(f.g->payload, ==, "1");
    store_guest_call1(f.g, XS_READ, FRONT "/backend-id");
    g_assert_cmpstr(f.g->payload, ==, "0");
    store_guest_call1(f.g, XS_READ, BACK "/frontend");
    g_assert_cmpstr(f.g->payload, ==, FRONT);
    store_guest_call1(f.g, XS_READ, BACK "/feature-toy");
    g_assert_cmpstr(f.g->payload, ==, "1");
    g_assert_cmpint(store_guest_write(f.g, BACK "/state", "4"), ==, EACCES);
    g_assert_cmpint(store_guest_write(f.g, FRONT "/any", "4"), ==, 0);
    g_assert_cmpint(store_guest_write(f.g, HOME "/device/toy/8/state", "1"), ==, EACCES);
    tear_down(&f);
}

static void test_connect(void)
{
    struct fixture f;

    set_up(&f);
    bring_up(&f);
    g_assert_cmpuint(f.toy.connects, ==, 1);
    front(&f, 77); /* nonsense is ignored */
    g_assert_cmpint(store_guest_write(f.g, FRONT "/state", "-1 x"), ==, 0);
    expect_back(&f, "4");
    front(&f, 3); /* again: nothing happens */
    front(&f, 4);
    g_assert_cmpuint(f.toy.connects, ==, 1);
    front(&f, 5);
    expect_back(&f, "5");
    g_assert_false(f.toy.live);
    front(&f, 6);
    expect_back(&f, "6");
    front(&f, 3); /* not without starting over */
    expect_back(&f, "6");
    front(&f, 1);
    expect_back(&f, "2");
    bring_up(&f);
    front(&f, 6); /* driver unloaded */
    expect_back(&f, "6");
    g_assert_cmpuint(f.toy.disconnects, ==, 2);
    tear_down(&f);
}

/* vif and vkbd go to 4 at once; no 3 */
static void test_connect_at_4(void)
{
    struct fixture f;

    set_up(&f);
    store_guest_write(f.g, "device/toy/7/ring-ref", "8");
    front(&f, 4);
    expect_back(&f, "4");
    front(&f, 1); /* a new kernel that did not say goodbye */
    expect_back(&f, "2");
    g_assert_false(f.toy.live);
    tear_down(&f);
}

static void test_refused(void)
{
    struct fixture f;

    set_up(&f);
    front(&f, 3); /* no ring-ref */
    expect_back(&f, "5");
    g_assert_true(f.toy.dev.broken);
    store_guest_write(f.g, "device/toy/7/ring-ref", "8");
    front(&f, 3);
    expect_back(&f, "5");
    front(&f, 6);
    expect_back(&f, "6");
    front(&f, 1);
    expect_back(&f, "2");
    bring_up(&f);
    tear_down(&f);
}

static void test_break(void)
{
    struct fixture f;

    set_up(&f);
    bring_up(&f);
    xenbus_break(&f.toy.dev, "index %d", 99);
    expect_back(&f, "5");
    g_assert_false(f.toy.live);
    xenbus_break(&f.toy.dev, "again");
    front(&f, 3);
    expect_back(&f, "5");
    front(&f, 1);
    expect_back(&f, "2");
    bring_up(&f);
    tear_down(&f);
}

static void test_deferred(void)
{
    struct fixture f;

    set_up(&f);
    bring_up(&f);
    f.toy.slow = true;
    front(&f, 5);
    expect_back(&f, "5");
    front(&f, 6);
    expect_back(&f, "5"); /* requests are in flight */
    front(&f, 1);
    expect_back(&f, "5");
    toy_finish(&f.toy);
    expect_back(&f, "2"); /* what the front end says now */
    f.toy.slow = false;
    bring_up(&f);
    f.toy.slow = true;
    xenbus_break(&f.toy.dev, "while busy");
    front(&f, 6);
    expect_back(&f, "5");
    toy_finish(&f.toy);
    expect_back(&f, "6");
    tear_down(&f);
}

static void test_removed(void)
{
    struct fixture f;

    set_up(&f);
    bring_up(&f);
    g_assert_cmpint(store_guest_call1(f.g, XS_RM, FRONT), ==, 0); /* its own directory */
    expect_back(&f, "6");
    g_assert_false(f.toy.live);
    /* Gone for good: the directory above is not the guest's. */
    g_assert_cmpint(store_guest_write(f.g, FRONT "/state", "1"), ==, EACCES);
    tear_down(&f);
}

static void test_unplug(void)
{
    struct fixture f;

    set_up(&f);
    bring_up(&f);
    xenbus_device_unplug(&f.toy.dev);
    expect_back(&f, "5");
    g_assert_true(f.toy.live);
    front(&f, 5);
    front(&f, 6);
    expect_back(&f, "6");
    g_assert_cmpuint(f.toy.unplugged, ==, 1);
    front(&f, 1);
    expect_back(&f, "6");
    tear_down(&f);
}

static void test_reset(void)
{
    struct fixture f;

    set_up(&f);
    bring_up(&f);
    store_guest_write(f.g, FRONT "/junk", "1");
    xenstore_reset(f.g->xs);
    xenbus_device_reset(&f.toy.dev);
    g_assert_false(f.toy.live);
    xs_mkdir(f.g->xs, HOME "/data");
    xenstore_connect(f.g->xs);
    fake_board_run(f.g->fb);
    expect_back(&f, "2");
    g_assert_cmpint(store_guest_call1(f.g, XS_READ, FRONT "/junk"), ==, ENOENT);
    bring_up(&f);
    tear_down(&f);
}

/* Who used the device before has to connect again, or to let go of it. */
static void test_awaited(void)
{
    struct fixture f;

    set_up(&f);
    xenbus_device_reset(&f.toy.dev);
    g_assert_cmpuint(f.g->d.nr_awaited, ==, 0); /* nobody did */
    for (int last = 4; last <= 6; last++) {
        bring_up(&f);
        xenbus_device_reset(&f.toy.dev);
        fake_board_run(f.g->fb);
        g_assert_cmpuint(f.g->d.nr_awaited, ==, 1);
        store_guest_write(f.g, "device/toy/7/ring-ref", "8");
        front(&f, 3);
        g_assert_cmpuint(f.g->d.nr_awaited, ==, 1);
        front(&f, last);
        g_assert_cmpuint(f.g->d.nr_awaited, ==, 0);
        front(&f, 6);
        front(&f, 1);
    }
    bring_up(&f);
    xenbus_device_reset(&f.toy.dev);
    g_assert_cmpuint(f.g->d.nr_awaited, ==, 1);
    xenbus_device_reset(&f.toy.dev); /* a reboot: what boots may want it or not */
    g_assert_cmpuint(f.g->d.nr_awaited, ==, 0);
    tear_down(&f);
}

static void test_error_text(void)
{
    struct fixture f;
    static const char path[] = "error/device/toy/7/error";
    g_autofree char *long_text = g_strnfill(2000, '\x1b');

    set_up(&f);
    g_assert_cmpint(store_guest_write(f.g, path, "2 opening gref"), ==, 0);
    g_assert_cmpint(store_guest_write(f.g, path, long_text), ==, 0);
    expect_back(&f, "2");
    g_assert_cmpuint(f.toy.dev.gate.suppressed, >=, 1); /* shown once a minute */
    tear_down(&f);
}

/* 1,000 cycles, and the store is as large as before; some of them rough. */
static void test_storm(void)
{
    struct fixture f;
    size_t bytes = 0;
    uint32_t seed = 7;

    set_up(&f);
    for (int i = 0; i < 1000; i++) {
        seed = seed * 1103515245u + 12345;
        bring_up(&f);
        f.toy.slow = (seed >> 16 & 3) == 0;
        switch (seed >> 20 & 3) {
        case 0:
            front(&f, 5);
            front(&f, 6);
            break;
        case 1:
            front(&f, 6);
            break;
        case 2:
            xenbus_break(&f.toy.dev, "storm");
            front(&f, 6);
            break;
        default:
            break; /* a kernel that died */
        }
        for (int n = 0; n < 20; n++) { /* states as fast as they can be written */
            seed = seed * 1103515245u + 12345;
            front(&f, (int)(seed >> 16) % 9);
            if (f.toy.dev.disconnecting && (seed & 1)) {
                toy_finish(&f.toy);
            }
        }
        if (f.toy.dev.disconnecting) {
            toy_finish(&f.toy);
        }
        f.toy.slow = false;
        front(&f, 6);
        expect_back(&f, "6");
        front(&f, 1);
        expect_back(&f, "2");
        g_assert_false(f.toy.live);
        if (i == 0) {
            bytes = xenstore_bytes(f.g->xs);
        }
    }
    g_assert_cmpuint(xenstore_bytes(f.g->xs), <=, bytes + 64);
    g_assert_cmpuint(f.toy.connects, >=, 1000);
    g_assert_cmpuint(f.toy.connects, ==, f.toy.disconnects);
    tear_down(&f);
}

static void test_state(void)
{
    struct fixture f, h;
    struct state *s = state_new_save(), *l;
    const void *data;
    size_t len;

    set_up(&f);
    set_up(&h);
    bring_up(&f);
    f.toy.cookie = 0x1234;
    xenstore_state(f.g->xs, s);
    xenbus_device_state(&f.toy.dev, s);
    data = state_data(s, &len);
    memcpy(h.g->page, f.g->page, 4096);
    l = state_new_load(data, len);
    xenstore_state(h.g->xs, l);
    xenbus_device_state(&h.toy.dev, l);
    g_assert_true(state_ok(l));
    fake_board_run(h.g->fb);
    h.g->next_req = f.g->next_req;
    g_assert_cmpuint(h.toy.cookie, ==, 0x1234);
    g_assert_true(h.toy.live);
    g_assert_cmpuint(h.toy.connects, ==, 0);
    expect_back(&h, "4");
    front(&h, 5);
    expect_back(&h, "5");
    g_assert_false(h.toy.live);
    state_free(l);
    state_free(s);
    tear_down(&f);
    tear_down(&h);
}

int main(int argc, char **argv)
{
    g_test_init(&argc, &argv, NULL);
    g_test_add_func("/pv/xenbus/nodes", test_nodes);
    g_test_add_func("/pv/xenbus/connect", test_connect);
    g_test_add_func("/pv/xenbus/connect-at-4", test_connect_at_4);
    g_test_add_func("/pv/xenbus/refused", test_refused);
    g_test_add_func("/pv/xenbus/break", test_break);
    g_test_add_func("/pv/xenbus/deferred", test_deferred);
    g_test_add_func("/pv/xenbus/removed", test_removed);
    g_test_add_func("/pv/xenbus/unplug", test_unplug);
    g_test_add_func("/pv/xenbus/reset", test_reset);
    g_test_add_func("/pv/xenbus/awaited", test_awaited);
    g_test_add_func("/pv/xenbus/error-text", test_error_text);
    g_test_add_func("/pv/xenbus/t-reconnect-storm", test_storm);
    g_test_add_func("/pv/xenbus/state", test_state);
    return g_test_run();
}
