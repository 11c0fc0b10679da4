/* SPDX-License-Identifier: MIT */
/* The hvc0 ring: order, back-pressure, garbage, state. */
#include <stdint.h>
#include <string.h>

#include <xen/io/console.h>

#include "core/memory.h"
#include "core/state.h"
#include "fake_sink.h"
#include "pv/console.h"
#include "store_guest.h"

struct fixture {
    struct store_guest *g;
    struct fake_sink *sink;
    struct pv_console *c;
    struct xencons_interface *page;
    GString *tapped;
};

static void tap(void *opaque, const uint8_t *buf, size_t len)
{
    g_string_append_len(((struct fixture *)opaque)->tapped, (const char *)buf, (gssize)len);
}

static void set_up(struct fixture *f)
{
    memset(f, 0, sizeof(*f));
    f->g = store_guest_new();
    f->sink = fake_sink_new(SIZE_MAX);
    f->tapped = g_string_new(NULL);
    f->page = mem_frame_hva(f->g->d.mem, mem_extra_frame(f->g->d.mem, PV_FRAME_CONSOLE));
    f->c = pv_console_new(&f->g->d, &f->sink->chr);
    pv_console_set_tap(f->c, tap, f);
    pv_console_connect(f->c);
    fake_board_run(f->g->fb);
}

static void tear_down(struct fixture *f)
{
    fake_board_run(f->g->fb);
    pv_console_free(f->c);
    g_assert_null(f->sink->handlers);
    store_guest_free(f->g);
    fake_sink_free(f->sink);
    g_string_free(f->tapped, TRUE);
}

/* As much as there is room for. */
static size_t guest_print(struct fixture *f, const char *text, size_t len)
{
    size_t n = MIN(len, sizeof(f->page->out) - (f->page->out_prod - f->page->out_cons));

    for (size_t i = 0; i < n; i++) {
        f->page->out[MASK_XENCONS_IDX(f->page->out_prod + i, f->page->out)] = text[i];
    }
    f->page->out_prod += (uint32_t)n;
    return n;
}

static void test_output(void)
{
    struct fixture f;
    g_autoptr(GString) all = g_string_new(NULL);
    unsigned before;

    set_up(&f);
    for (int i = 0; i < 500; i++) { /* several times around */
        g_autofree char *line = g_strdup_printf("line %d of the guest\n", i);

        g_string_append(all, line);
        g_assert_cmpuint(guest_print(&f, line, strlen(line)), ==, strlen(line));
        before = f.g->notified[CONSOLE_PORT];
        store_guest_kick(f.g, CONSOLE_PORT);
        g_assert_cmpuint(f.g->notified[CONSOLE_PORT], ==, before + 1);
        g_assert_cmpuint(f.page->out_cons, ==, f.page->out_prod);
    }
    g_assert_cmpstr(f.sink->text->str, ==, all->str);
    g_assert_cmpstr(f.tapped->str, ==, all->str);
    tear_down(&f);
}

static void test_back_pressure(void)
{
    struct fixture f;

    set_up(&f);
    f.sink->room = 3;
    guest_print(&f, "abcdef", 6);
    store_guest_kick(f.g, CONSOLE_PORT);
    g_assert_cmpstr(f.sink->text->str, ==, "abc");
    g_assert_cmpuint(f.page->out_cons, ==, 3); /* the rest stays with the guest */
    f.sink->room = 100;
    f.sink->handlers->tx_ready(f.sink->opaque);
    fake_board_run(f.g->fb);
    g_assert_cmpstr(f.sink->text->str, ==, "abcdef");
    g_assert_cmpstr(f.tapped->str, ==, "abcdef"); /* each byte once */
    tear_down(&f);
}

static void test_flush(void)
{
    struct fixture f;

    set_up(&f);
    guest_print(&f, "reboot: Power down\n", 19);
    pv_console_flush(f.c); /* no event yet */
    g_assert_cmpstr(f.sink->text->str, ==, "reboot: Power down\n");
    tear_down(&f);
}

/* t_serial_flood: the guest prints without end, the terminal is slow. */
static void test_flood(void)
{
    struct fixture f;
    char text[2048];
    size_t printed = 0, taken = 0;
    uint32_t seed = 1;

    set_up(&f);
    for (int round = 0; round < 20000; round++) {
        for (size_t i = 0; i < sizeof(text); i++) {
            text[i] = (char)('a' + (printed + i) % 26);
        }
        printed += guest_print(&f, text, sizeof(text));
        seed = seed * 1103515245u + 12345;
        f.sink->room = seed >> 16 & 63;
        taken += f.sink->room;
        if (seed & 1) {
            store_guest_kick(f.g, CONSOLE_PORT);
        } else {
            f.sink->handlers->tx_ready(f.sink->opaque);
            fake_board_run(f.g->fb);
        }
        g_assert_cmpuint(printed, <=, taken + sizeof(f.page->out)); /* nothing is kept here */
        g_assert_cmpuint(f.sink->text->len, ==, f.tapped->len);
        for (size_t i = 0; i < f.sink->text->len; i++) {
            g_assert_cmpint(f.sink->text->str[i], ==,
                            'a' + (int)((f.page->out_cons - f.sink->text->len + i) % 26));
        }
        g_assert_cmpuint(f.sink->room, ==, 0); /* all that was offered was used */
        g_string_truncate(f.sink->text, 0);
        g_string_truncate(f.tapped, 0);
    }
    f.sink->room = SIZE_MAX; /* a fast sink: one run is bounded, and posts itself again */
    guest_print(&f, text, sizeof(text));
    store_guest_kick(f.g, CONSOLE_PORT);
    g_assert_cmpuint(f.page->out_cons, ==, f.page->out_prod);
    tear_down(&f);
}

static void test_input(void)
{
    struct fixture f;
    g_autofree char *text = g_strnfill(1500, 'k');

    set_up(&f);
    g_assert_cmpuint(f.sink->handlers->rx(f.sink->opaque, (const uint8_t *)"ls\r", 3), ==, 3);
    g_assert_cmpuint(f.page->in_prod, ==, 3);
    g_assert_cmpmem(f.page->in, 3, "ls\r", 3);
    g_assert_cmpuint(f.g->notified[CONSOLE_PORT], ==, 1);
    g_assert_cmpuint(f.sink->handlers->rx(f.sink->opaque, (uint8_t *)text, 1500), ==, 1021);
    g_assert_cmpuint(f.sink->handlers->rx(f.sink->opaque, (uint8_t *)text, 1), ==, 0);
    store_guest_kick(f.g, CONSOLE_PORT);
    g_assert_cmpuint(f.sink->rx_ready, ==, 0); /* still full */
    f.page->in_cons = 1000;
    store_guest_kick(f.g, CONSOLE_PORT);
    g_assert_cmpuint(f.sink->rx_ready, ==, 1);
    g_assert_cmpuint(f.sink->handlers->rx(f.sink->opaque, (uint8_t *)text, 1500), ==, 1000);
    tear_down(&f);
}

static void test_garbage(void)
{
    struct fixture f;
    uint32_t good;

    set_up(&f);
    good = f.page->out_prod;
    f.page->out_prod = 2049;
    f.page->in_cons = 7;
    store_guest_kick(f.g, CONSOLE_PORT);
    g_assert_cmpuint(f.sink->text->len, ==, 0);
    g_assert_cmpuint(f.sink->handlers->rx(f.sink->opaque, (const uint8_t *)"x", 1), ==, 0);
    f.page->out_prod = good;
    f.page->in_cons = 0;
    guest_print(&f, "fine", 4);
    f.page->out_cons = 0x1234; /* ours: what the guest writes there is not used */
    store_guest_kick(f.g, CONSOLE_PORT);
    g_assert_cmpstr(f.sink->text->str, ==, "fine");
    tear_down(&f);
}

static void test_reset(void)
{
    struct fixture f;

    set_up(&f);
    guest_print(&f, "first boot", 10);
    store_guest_kick(f.g, CONSOLE_PORT);
    pv_console_connect(f.c);
    g_assert_cmpuint(f.page->out_prod, ==, 0);
    guest_print(&f, ", second", 8);
    store_guest_kick(f.g, CONSOLE_PORT);
    g_assert_cmpstr(f.sink->text->str, ==, "first boot, second");
    tear_down(&f);
}

static void check_size(struct fixture *f, const char *want)
{
    g_autofree char *size = xs_read(f->g->xs, HOME "/console/size");

    g_assert_cmpstr(size, ==, want);
}

static void test_size(void)
{
    struct fixture f;

    set_up(&f);
    check_size(&f, NULL); /* no terminal, no size */
    f.sink->is_terminal = true;
    pv_console_connect(f.c);
    check_size(&f, "0 0"); /* a terminal that does not know */
    g_assert_cmpint(store_guest_call2(f.g, XS_WATCH, "console/size", "t"), ==, 0);
    store_guest_expect(f.g, "console/size t");
    f.sink->handlers->resize(f.sink->opaque, 132, 50);
    check_size(&f, "50 132");
    fake_board_run(f.g->fb);
    store_guest_expect(f.g, "console/size t");
    f.sink->columns = 80;
    f.sink->rows = 24;
    pv_console_connect(f.c); /* the guest rebooted */
    check_size(&f, "24 80");
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
    guest_print(&f, "before", 6);
    store_guest_kick(f.g, CONSOLE_PORT);
    f.sink->handlers->rx(f.sink->opaque, (const uint8_t *)"in", 2);
    guest_print(&f, "after", 5);
    pv_console_state(f.c, s);
    data = state_data(s, &len);
    memcpy(h.page, f.page, sizeof(*h.page));
    l = state_new_load(data, len);
    pv_console_state(h.c, l);
    g_assert_true(state_ok(l));
    fake_board_run(h.g->fb);
    g_assert_cmpstr(h.sink->text->str, ==, "after");
    g_assert_cmpuint(h.sink->handlers->rx(h.sink->opaque, (const uint8_t *)"!", 1), ==, 1);
    g_assert_cmpmem(h.page->in, 3, "in!", 3);
    state_free(l);
    state_free(s);
    tear_down(&f);
    tear_down(&h);
}

int main(int argc, char **argv)
{
    g_test_init(&argc, &argv, NULL);
    g_test_add_func("/pv/console/output", test_output);
    g_test_add_func("/pv/console/back-pressure", test_back_pressure);
    g_test_add_func("/pv/console/flush", test_flush);
    g_test_add_func("/pv/console/t-serial-flood", test_flood);
    g_test_add_func("/pv/console/input", test_input);
    g_test_add_func("/pv/console/garbage", test_garbage);
    g_test_add_func("/pv/console/reset", test_reset);
    g_test_add_func("/pv/console/size", test_size);
    g_test_add_func("/pv/console/state", test_state);
    return g_test_run();
}
