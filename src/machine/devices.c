/* SPDX-License-Identifier: MIT */
/*
 * The devices of a PVH board, in one visible order: chips, then the Xen back ends. They are
 * reset in the same order and freed in reverse.
 */
#include "machine/machine_private.h"

#include "hw/debug_exit.h"
#include "hw/debug_port.h"
#include "hw/pm_sleep.h"
#include "hw/uart16550.h"
#include "io/block_file.h"
#include "io/io_pool.h"
#include "io/slirp_net.h"
#include "pv/blkback.h"
#include "pv/console.h"
#include "pv/netback.h"

enum { UART_PORT = 0x3f8, UART_GSI = 4, IO_THREADS = 2 };

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
    .name = "ioapic", .size = sizeof(struct ioapic_window),
    .read = ioapic_window_read, .write = ioapic_window_write,
};
