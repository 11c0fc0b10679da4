/* SPDX-License-Identifier: MIT */
/* Which device an address belongs to, whatever the order in which devices came. */
#include <glib.h>

#include "core/bus.h"
#include "core/device.h"

struct test_device {
    struct device dev; /* first */
    uint64_t off, value;
    unsigned size, writes;
};

static uint64_t test_read(struct device *dev, uint64_t off, unsigned size)
{
    (void)size;
    return 0x1122334455667700 + off;
}

static void test_write(struct device *dev, uint64_t off, unsigned size, uint64_t value)
{
    struct test_device *t = (struct test_device *)dev;

    t->off = off;
    t->value = value;
    t->size = size;
    t->writes++;
}

static const struct device_ops test_ops = {
    .name = "test", .size = sizeof(struct test_device), .read = test_read, .write = test_write,
};
static const struct device_ops silent_ops = {.name = "silent"};

static void test_ranges(void)
{
    static const uint64_t bases[] = {0x60, 0x10, 0x30, 0x70, 0xfffffffffffffff0};
    struct test_device devices[G_N_ELEMENTS(bases)] = {{{NULL}}};
    struct device silent = {.ops = &silent_ops};
    GMutex lock;
    struct bus *bus;

    g_mutex_init(&lock);
    bus = bus_new(&lock);
    g_assert_cmphex(bus_read(bus, 0x10, 2), ==, 0xffff); /* nothing yet */
    for (unsigned i = 0; i < G_N_ELEMENTS(bases); i++) {
        devices[i].dev.ops = &test_ops;
        bus_add(bus, bases[i], i == 4 ? 8 : 16, &devices[i].dev, 0x100 * i);
    }
    bus_add(bus, 0x50, 1, &silent, 0);
    for (unsigned i = 0; i < G_N_ELEMENTS(bases); i++) {
        const unsigned last = i == 4 ? 7 : 15;

        bus_write(bus, bases[i], 1, 0x1ff);
        g_assert_cmphex(devices[i].off, ==, 0x100 * i);
        g_assert_cmphex(devices[i].value, ==, 0xff);
        bus_write(bus, bases[i] + last - 3, 4, 1);
        g_assert_cmphex(devices[i].off, ==, 0x100 * i + last - 3);
        g_assert_cmpuint(devices[i].size, ==, 4);
        bus_write(bus, bases[i] + last, 2, 1); /* out of it: nobody's */
        bus_write(bus, bases[i] - 1, 2, 1);
        g_assert_cmpuint(devices[i].writes, ==, 2);
        g_assert_cmphex(bus_read(bus, bases[i] + 2, 1), ==, 2);
    }
    g_assert_cmphex(bus_read(bus, 0x2f, 1), ==, 0xff);
    g_assert_cmphex(bus_read(bus, 0x50, 1), ==, 0xff);
    bus_write(bus, 0x50, 1, 0);
    g_assert_cmphex(bus_read(bus, 0, 8), ==, UINT64_MAX);
    bus_free(bus);
    g_mutex_clear(&lock);
}

int main(int argc, char **argv)
{
    g_test_init(&argc, &argv, NULL);
    g_test_add_func("/core/bus/ranges", test_ranges);
    return g_test_run();
}
