/* SPDX-License-Identifier: MIT */
/*
 * The devices of a board, in one visible order: host sides, then chips, then the Xen back
 * ends. They are reset in the same order and freed in reverse.
 */
#include "machine/machine_private.h"

#include "base/error.h"
#include "base/report.h"
#include "boot/acpi.h"
#include "hw/debug_exit.h"
#include "hw/debug_port.h"
#include "hw/no_pit.h"
#include "hw/pm_sleep.h"
#include "hw/uart16550.h"
#include "io/block_open.h"
#include "io/net_slirp.h"
#include "machine/console_split.h"
#include "pv/blkback.h"
#include "pv/console.h"
#include "pv/netback.h"

enum { UART_PORT = 0x3f8, UART_PORTS = 8, UART_GSI = 4, IOAPIC_WINDOW = 0x1000 };

/* The I/O APIC's registers on the memory bus. */
struct ioapic_window {
    struct device dev;
};

static uint64_t ioapic_window_read(struct device *dev, uint64_t offset, unsigned size)
{
    (void)size;
    return ioapic_read(machine_of(dev->board)->apic.ioapic, (uint32_t)offset);
}

static void ioapic_window_write(struct device *dev, uint64_t offset, unsigned size,
                                uint64_t value)
{
    (void)size;
    ioapic_write(machine_of(dev->board)->apic.ioapic, (uint32_t)offset, (uint32_t)value);
}

static const struct device_ops ioapic_window_ops = {
    .name = "ioapic",
    .size = sizeof(struct ioapic_window),
    .read = ioapic_window_read,
    .write = ioapic_window_write,
};

/* --- host sides --- */

static bool devices_open_net(struct machine *m, GError **err)
{
    g_autofree struct net_forward *forwards =
        g_new0(struct net_forward, m->config->forwards->len);
    struct net_slirp_options options = {
        .name = m->config->name,
        .forwards = forwards,
        .nr_forwards = m->config->forwards->len,
        .context = m->context,
        .lock = &m->board.lock,
        .sandbox = m->config->sandbox,
    };

    if (g_strcmp0(m->config->net, "none") == 0) {
        return true;
    }
    for (guint i = 0; i < m->config->forwards->len; i++) {
        if (!net_forward_parse(g_ptr_array_index(m->config->forwards, i), &forwards[i], err)) {
            return false;
        }
    }
    if (m->config->dry_run) {
        return true;
    }
    m->net = net_slirp_open(&options, err);
    for (guint i = 0; m->net != NULL && i < m->config->forwards->len; i++) {
        g_autofree char *text = net_forward_text(&forwards[i]);

        report_info("forwarding %s", text);
    }
    return m->net != NULL;
}

static bool devices_open_disks(struct machine *m, GError **err)
{
    m->io_pool = io_pool_new(0, NULL, NULL, err);
    if (m->io_pool == NULL) {
        return false;
    }
    m->disks = g_malloc0_n(MAX(m->config->disks->len, 1), sizeof(*m->disks));
    for (guint i = 0; i < m->config->disks->len; i++) {
        const struct config_disk *disk = g_ptr_array_index(m->config->disks, i);
        struct block_open_options options = {
            .path = disk->path,
            .format = disk->format,
            .read_only = disk->read_only,
            .snapshot = disk->snapshot || m->config->snapshot,
        };

        m->disks[i].block = block_open(&options, m->io_pool, err);
        if (m->disks[i].block == NULL) {
            return false;
        }
        m->nr_disks++;
    }
    return true;
}

bool devices_open(struct machine *m, GError **err)
{
    /* The network first: its processes are forked, and shall inherit neither threads nor disks.
     */
    return devices_open_net(m, err) && devices_open_disks(m, err);
}

/* --- chips and back ends --- */

static void output_tap(void *opaque, const uint8_t *buf, size_t len)
{
    struct machine *m = opaque;

    if (m->events.output != NULL) {
        m->events.output(m->events_opaque, buf, len);
    }
}

/* CONSOLEIO_write, port 0xe9. */
static void early_text(void *opaque, const char *buf, size_t len)
{
    struct machine *m = opaque;

    console_split_text(m->split, (const uint8_t *)buf, len);
    output_tap(m, (const uint8_t *)buf, len);
}

static struct device *add_ports(struct machine *m, const struct device_ops *ops, uint16_t port,
                                uint16_t count)
{
    struct device *dev = device_new(ops, &m->board, NULL);

    bus_add(m->pio, port, count, dev, 0);
    return dev;
}

static bool create_back_ends(struct machine *m, GError **err)
{
    for (unsigned i = 0; i < m->nr_disks; i++) {
        m->disks[i].back = blkback_new(m->pv, m->disks[i].block, i, err);
        if (m->disks[i].back == NULL) {
            return false;
        }
    }
    if (m->net != NULL) {
        m->netback = netback_new(m->pv, m->net, 0, err);
        return m->netback != NULL;
    }
    return true;
}

/* What a PV guest finds none of. */
static void create_pc_chips(struct machine *m)
{
    m->uart = add_ports(m, &uart16550_ops, UART_PORT, UART_PORTS);
    uart16550_connect(m->uart, console_split_port(m->split, CONSOLE_SERIAL), UART_GSI);
    uart16550_set_tap(m->uart, output_tap, m);
    m->pm = add_ports(m, &pm_sleep_ops, ACPI_PORT_SLEEP_CONTROL, PM_SLEEP_PORTS);
    m->ioapic_window = device_new(&ioapic_window_ops, &m->board, NULL);
    bus_add(m->mmio, IOAPIC_GPA, IOAPIC_WINDOW, m->ioapic_window, 0);
}

bool devices_create(struct machine *m, GError **err)
{
    bool ok;

    m->split = console_split_new(m->console);
    m->debug_port = add_ports(m, &debug_port_ops, DEBUG_PORT, 1);
    debug_port_connect(m->debug_port, early_text, m);
    m->debug_exit = add_ports(m, &debug_exit_ops, DEBUG_EXIT_PORT, 1);
    m->no_pit = add_ports(m, &no_pit_ops, NO_PIT_PORT, NO_PIT_PORTS);
    if (m->kind != PV_KIND_PV) {
        create_pc_chips(m);
    }

    g_mutex_lock(&m->board.lock);
    m->pv->debug_out = early_text;
    m->pv->debug_opaque = m;
    m->pv_console = pv_console_new(m->pv, console_split_port(m->split, CONSOLE_HVC));
    pv_console_set_tap(m->pv_console, output_tap, m);
    pv_console_connect(m->pv_console);
    ok = create_back_ends(m, err);
    g_mutex_unlock(&m->board.lock);
    return ok;
}

void devices_drain(struct machine *m)
{
    for (unsigned i = 0; i < m->nr_disks; i++) {
        if (m->disks[i].back != NULL) {
            blkback_drain(m->disks[i].back);
        }
    }
}

void devices_reset_back_ends(struct machine *m)
{
    for (unsigned i = 0; i < m->nr_disks; i++) {
        blkback_reset(m->disks[i].back);
    }
    g_mutex_lock(&m->board.lock);
    pv_console_flush(m->pv_console);
    if (m->netback != NULL) {
        netback_reset(m->netback);
    }
    g_mutex_unlock(&m->board.lock);
}

void devices_reset_chips(struct machine *m)
{
    struct device *const chips[] = {m->uart, m->debug_port, m->debug_exit, m->pm};

    for (unsigned i = 0; i < m->apic.nr; i++) {
        lapic_reset(m->apic.lapic[i]);
    }
    if (m->apic.ioapic != NULL) {
        ioapic_reset(m->apic.ioapic);
    }
    for (size_t i = 0; i < G_N_ELEMENTS(chips); i++) {
        if (chips[i] != NULL && chips[i]->ops->reset != NULL) {
            chips[i]->ops->reset(chips[i]);
        }
    }
    pv_console_connect(m->pv_console);
}

void devices_free(struct machine *m)
{
    struct device *const chips[] = {m->uart, m->debug_port, m->debug_exit, m->pm,
                                    m->no_pit, m->ioapic_window};

    for (unsigned i = 0; i < m->nr_disks; i++) {
        blkback_free(m->disks[i].back);
    }
    g_mutex_lock(&m->board.lock);
    netback_free(m->netback);
    if (m->pv_console != NULL) {
        pv_console_flush(m->pv_console);
        pv_console_free(m->pv_console);
    }
    g_mutex_unlock(&m->board.lock);
    for (size_t i = 0; i < G_N_ELEMENTS(chips); i++) {
        device_free(chips[i]);
    }
    console_split_free(m->split);
    for (unsigned i = 0; i < m->nr_disks; i++) {
        block_close(m->disks[i].block);
    }
    g_free(m->disks);
    if (m->net != NULL) {
        m->net->ops->close(m->net);
    }
    if (m->io_pool != NULL) {
        io_pool_free(m->io_pool);
    }
}

size_t machine_input(struct machine *m, const uint8_t *buf, size_t len)
{
    size_t taken;

    g_mutex_lock(&m->board.lock);
    taken = console_split_input(m->split, buf, len);
    g_mutex_unlock(&m->board.lock);
    return taken;
}
