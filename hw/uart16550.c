/* SPDX-License-Identifier: MIT */
/*
 * NS16550A UART (National Semiconductor data sheet, 1995). The line rate is not modelled: a
 * byte leaves as soon as the host side takes it; while it does not, the transmit FIFO fills and
 * THRE stays clear, so a guest that polls is slowed down instead of losing text.
 */
#include "hw/uart16550.h"

#include <string.h>

enum { RBR_THR_DLL = 0, IER_DLM = 1, IIR_FCR = 2, LCR = 3, MCR = 4, LSR = 5, MSR = 6, SCR = 7 };
enum { IER_RDI = 1, IER_THRI = 2, IER_RLSI = 4, IER_MSI = 8 };
enum {
    IIR_NONE = 1,
    IIR_MSI = 0,
    IIR_THRI = 2,
    IIR_RDI = 4,
    IIR_RLSI = 6,
    IIR_TIMEOUT = 0xc,
    IIR_FIFO = 0xc0
};
enum { LCR_DLAB = 0x80, MCR_LOOP = 0x10, FCR_ENABLE = 1, FCR_CLEAR_RX = 2, FCR_CLEAR_TX = 4 };
enum { LSR_DR = 1, LSR_OE = 2, LSR_THRE = 0x20, LSR_TEMT = 0x40 };
enum { MSR_CTS = 0x10, MSR_DSR = 0x20, MSR_RI = 0x40, MSR_DCD = 0x80 };
enum { FIFO = 16 };

struct uart16550 {
    struct device dev;
    struct chardev *chr;
    unsigned gsi;
    uart16550_tap_fn tap;
    void *tap_opaque;
    uint8_t ier, lcr, mcr, scr, dll, dlm, fcr, lsr_errors;
    bool thr_interrupt; /* THRE interrupt is due until IIR is read or THR written */
    uint8_t rx[FIFO], tx[FIFO];
    uint8_t rx_len, tx_len;
};

static struct uart16550 *uart_of(struct device *dev)
{
    return (struct uart16550 *)dev;
}

static unsigned uart_depth(const struct uart16550 *u)
{
    return (u->fcr & FCR_ENABLE) != 0 ? FIFO : 1;
}

static uint8_t uart_iir(const struct uart16550 *u)
{
    uint8_t fifo = (u->fcr & FCR_ENABLE) != 0 ? IIR_FIFO : 0;

    if ((u->ier & IER_RLSI) != 0 && u->lsr_errors != 0) {
        return fifo | IIR_RLSI;
    }
    if ((u->ier & IER_RDI) != 0 && u->rx_len > 0) {
        return fifo | IIR_RDI;
    }
    if ((u->ier & IER_THRI) != 0 && u->thr_interrupt) {
        return fifo | IIR_THRI;
    }
    return fifo | IIR_NONE;
}

static void uart_update(struct uart16550 *u)
{
    u->dev.board->ops->set_irq(u->dev.board, u->gsi, (uart_iir(u) & IIR_NONE) == 0);
}

static void uart_flush(struct uart16550 *u)
{
    size_t taken = u->tx_len;

    if (u->tx_len == 0) {
        return;
    }
    if (u->chr != NULL) {
        taken = u->chr->ops->write(u->chr, u->tx, u->tx_len);
    }
    if (taken > 0 && u->tap != NULL) {
        u->tap(u->tap_opaque, u->tx, taken);
    }
    memmove(u->tx, u->tx + taken, u->tx_len - taken);
    u->tx_len = (uint8_t)(u->tx_len - taken);
    if (u->tx_len == 0) {
        u->thr_interrupt = true;
    }
}

static void uart_send(struct uart16550 *u, uint8_t byte)
{
    if ((u->mcr & MCR_LOOP) != 0) {
        (void)uart16550_receive(&u->dev, &byte, 1);
        u->thr_interrupt = true;
        return;
    }
    u->thr_interrupt = false;
    if (u->tx_len < uart_depth(u)) {
        u->tx[u->tx_len++] = byte; /* a write to a full FIFO is lost, as on the chip */
    }
    uart_flush(u);
}

size_t uart16550_receive(struct device *dev, const uint8_t *buf, size_t len)
{
    struct uart16550 *u = uart_of(dev);
    size_t taken = MIN(len, uart_depth(u) - MIN(u->rx_len, uart_depth(u)));

    memcpy(u->rx + u->rx_len, buf, taken);
    u->rx_len = (uint8_t)(u->rx_len + taken);
    uart_update(u);
    return taken;
}

static uint8_t uart_read_rbr(struct uart16550 *u)
{
    uint8_t byte;

    if (u->rx_len == 0) {
        return 0;
    }
    byte = u->rx[0];
    memmove(u->rx, u->rx + 1, --u->rx_len);
    if (u->rx_len == 0 && u->chr != NULL && u->chr->ops->rx_ready != NULL) {
        u->chr->ops->rx_ready(u->chr);
    }
    return byte;
}

static uint8_t uart_read_msr(const struct uart16550 *u)
{
    if ((u->mcr & MCR_LOOP) == 0) {
        return MSR_CTS | MSR_DSR | MSR_DCD;
    }
    return (uint8_t)(((u->mcr & 1) << 5) | ((u->mcr & 2) << 3) | ((u->mcr & 4) << 4) |
                     ((u->mcr & 8) << 4));
}

static uint8_t uart_read_lsr(struct uart16550 *u)
{
    uint8_t lsr = u->lsr_errors;

    u->lsr_errors = 0;
    if (u->rx_len > 0) {
        lsr |= LSR_DR;
    }
    if (u->tx_len == 0) {
        lsr |= LSR_THRE | LSR_TEMT;
    }
    return lsr;
}

static uint64_t uart_read(struct device *dev, uint64_t offset, unsigned size)
{
    struct uart16550 *u = uart_of(dev);
    bool dlab = (u->lcr & LCR_DLAB) != 0;
    uint8_t value = 0;

    (void)size;
    switch (offset) {
    case RBR_THR_DLL:
        value = dlab ? u->dll : uart_read_rbr(u);
        break;
    case IER_DLM:
        value = dlab ? u->dlm : u->ier;
        break;
    case IIR_FCR:
        value = uart_iir(u);
        if ((value & 0xf) == IIR_THRI) {
            u->thr_interrupt = false;
        }
        break;
    case LCR:
        value = u->lcr;
        break;
    case MCR:
        value = u->mcr;
        break;
    case LSR:
        value = uart_read_lsr(u);
        break;
    case MSR:
        value = uart_read_msr(u);
        break;
    case SCR:
        value = u->scr;
        break;
    default:
        break;
    }
    uart_update(u);
    return value;
}

static void uart_write_fcr(struct uart16550 *u, uint8_t value)
{
    if (((value ^ u->fcr) & FCR_ENABLE) != 0 || (value & FCR_CLEAR_RX) != 0) {
        u->rx_len = 0;
    }
    if ((value & FCR_CLEAR_TX) != 0) {
        u->tx_len = 0;
        u->thr_interrupt = true;
    }
    u->fcr = value & 0xc9;
}

static void uart_write(struct device *dev, uint64_t offset, unsigned size, uint64_t wide)
{
    struct uart16550 *u = uart_of(dev);
    bool dlab = (u->lcr & LCR_DLAB) != 0;
    uint8_t value = (uint8_t)wide;

    (void)size;
    switch (offset) {
    case RBR_THR_DLL:
        if (dlab) {
            u->dll = value;
        } else {
            uart_send(u, value);
        }
        break;
    case IER_DLM:
        if (dlab) {
            u->dlm = value;
        } else {
            if ((value & IER_THRI) != 0 && (u->ier & IER_THRI) == 0 && u->tx_len == 0) {
                u->thr_interrupt = true; /* enabling it with an empty THR raises it at once */
            }
            u->ier = value & 0xf;
        }
        break;
    case IIR_FCR:
        uart_write_fcr(u, value);
        break;
    case LCR:
        u->lcr = value;
        break;
    case MCR:
        u->mcr = value & 0x1f;
        break;
    case SCR:
        u->scr = value;
        break;
    default:
        break;
    }
    uart_update(u);
}

static void uart_reset(struct device *dev)
{
    struct uart16550 *u = uart_of(dev);

    u->ier = u->lcr = u->mcr = u->scr = u->fcr = u->lsr_errors = 0;
    u->dll = 1;
    u->dlm = 0;
    u->thr_interrupt = false;
    u->rx_len = u->tx_len = 0;
}

static void uart_state(struct device *dev, struct state *s)
{
    struct uart16550 *u = uart_of(dev);

    state_u8(s, "uart.ier", &u->ier);
    state_u8(s, "uart.lcr", &u->lcr);
    state_u8(s, "uart.mcr", &u->mcr);
    state_u8(s, "uart.scr", &u->scr);
    state_u8(s, "uart.dll", &u->dll);
    state_u8(s, "uart.dlm", &u->dlm);
    state_u8(s, "uart.fcr", &u->fcr);
    state_bool(s, "uart.thr_interrupt", &u->thr_interrupt);
    state_bytes(s, "uart.rx", u->rx, sizeof(u->rx));
    state_u8(s, "uart.rx_len", &u->rx_len);
    state_bytes(s, "uart.tx", u->tx, sizeof(u->tx));
    state_u8(s, "uart.tx_len", &u->tx_len);
    if (u->rx_len > FIFO || u->tx_len > FIFO) {
        u->rx_len = u->tx_len = 0;
        state_fail(s, "uart: FIFO longer than 16");
    }
}

static size_t uart_chr_rx(void *opaque, const uint8_t *buf, size_t len)
{
    return uart16550_receive(opaque, buf, len);
}

static void uart_chr_tx_ready(void *opaque)
{
    uart_flush(opaque);
    uart_update(opaque);
}

static const struct chardev_handlers uart_handlers = {.rx = uart_chr_rx,
                                                      .tx_ready = uart_chr_tx_ready};

void uart16550_connect(struct device *dev, struct chardev *chr, unsigned gsi)
{
    struct uart16550 *u = uart_of(dev);

    u->chr = chr;
    u->gsi = gsi;
    if (chr != NULL) {
        chr->ops->set_handlers(chr, &uart_handlers, u);
    }
}

void uart16550_set_tap(struct device *dev, uart16550_tap_fn tap, void *opaque)
{
    uart_of(dev)->tap = tap;
    uart_of(dev)->tap_opaque = opaque;
}

const struct device_ops uart16550_ops = {
    .name = "uart16550",
    .size = sizeof(struct uart16550),
    .reset = uart_reset,
    .read = uart_read,
    .write = uart_write,
    .state = uart_state,
};
