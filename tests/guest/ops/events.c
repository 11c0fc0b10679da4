/* SPDX-License-Identifier: MIT */
/* event_channel_op: every sub-op and what each refuses, with two levels and with FIFO. COMPAT:
 * event_channel_op_compat, which ends with unmask. */
#include "ops.h"

#define CLOSED 4000u /* a port that nobody has */

static struct shared_info *si;

static bool pending(uint32_t port)
{
    const xen_ulong_t *word = &si->evtchn_pending[port / WORD_BITS];

    return (__atomic_load_n(word, __ATOMIC_SEQ_CST) >> port % WORD_BITS & 1) != 0;
}

static void clear(uint32_t port)
{
    xen_ulong_t *word = &si->evtchn_pending[port / WORD_BITS];

    __atomic_fetch_and(word, ~(1ul << port % WORD_BITS), __ATOMIC_SEQ_CST);
    si->vcpu_info[0].evtchn_pending_sel = 0;
    si->vcpu_info[0].evtchn_upcall_pending = 0;
}

static struct evtchn_status status_of(uint32_t port)
{
    struct evtchn_status op = {.dom = DOMID_SELF, .port = port};

    CHECK(EVTCHN(status, &op), 0);
    return op;
}

static long send(uint32_t port)
{
    struct evtchn_send op = {.port = port};

    return EVTCHN(send, &op);
}

static long close(uint32_t port)
{
    struct evtchn_close op = {.port = port};

    return EVTCHN(close, &op);
}

static long unmask(uint32_t port)
{
    struct evtchn_unmask op = {.port = port};

    return EVTCHN(unmask, &op);
}

static uint32_t check_pair(void)
{
    struct evtchn_alloc_unbound alloc = {.dom = DOMID_SELF, .remote_dom = DOMID_SELF};
    struct evtchn_alloc_unbound other = {.dom = 0};
    struct evtchn_bind_interdomain bind = {.remote_dom = DOMID_SELF};
    struct evtchn_status status = {.dom = 0};
    uint32_t a, b;

    CHECK(EVTCHN(alloc_unbound, &alloc), 0);
    a = alloc.port;
    CHECK_TRUE(a != 0);
    CHECK(EVTCHN(alloc_unbound, &other), -EPERM_);
    other.dom = 77;
    CHECK(EVTCHN(alloc_unbound, &other), -ESRCH_);
    CHECK(EVTCHN(alloc_unbound, BAD_POINTER), -EFAULT_);
    CHECK(status_of(a).status, EVTCHNSTAT_unbound);
    CHECK(status_of(a).u.unbound.dom, 1);
    CHECK(send(a), 0); /* nobody hears it */
    bind.remote_port = a;
    CHECK(EVTCHN(bind_interdomain, &bind), 0);
    b = bind.local_port;
    CHECK_TRUE(pending(b)); /* it is to have a look */
    CHECK(EVTCHN(bind_interdomain, &bind), -EINVAL_); /* taken */
    bind.remote_port = CLOSED;
    CHECK(EVTCHN(bind_interdomain, &bind), -EINVAL_);
    bind.remote_dom = 0;
    CHECK(EVTCHN(bind_interdomain, &bind), -EINVAL_);
    bind.remote_dom = 77;
    CHECK(EVTCHN(bind_interdomain, &bind), -ESRCH_);
    CHECK(EVTCHN(bind_interdomain, BAD_POINTER), -EFAULT_);
    CHECK(status_of(a).status, EVTCHNSTAT_interdomain);
    CHECK(status_of(a).u.interdomain.port, b);
    CHECK(status_of(b).u.interdomain.dom, 1);
    CHECK(EVTCHN(status, &status), -EPERM_);
    status.dom = DOMID_SELF;
    status.port = 1 << 20;
    CHECK(EVTCHN(status, &status), -EINVAL_);
    CHECK(EVTCHN(status, BAD_POINTER), -EFAULT_);
    clear(b);
    CHECK(send(a), 0);
    CHECK_TRUE(pending(b));
    clear(b);
    CHECK(send(CLOSED), -EINVAL_);
    CHECK(send(1 << 20), -EINVAL_);
    CHECK(EVTCHN(send, BAD_POINTER), -EFAULT_);
    CHECK(close(b), 0);
    CHECK(status_of(a).status, EVTCHNSTAT_unbound);
    CHECK(status_of(b).status, EVTCHNSTAT_closed);
    CHECK(close(b), -EINVAL_);
    CHECK(close(0), -EINVAL_);
    CHECK(EVTCHN(close, BAD_POINTER), -EFAULT_);
    return a;
}

static uint32_t check_virq(void)
{
    struct evtchn_bind_virq op = {.virq = VIRQ_TIMER};
    uint32_t port;

    CHECK(EVTCHN(bind_virq, &op), 0);
    port = op.port;
    CHECK(EVTCHN(bind_virq, &op), -EEXIST_);
    op.vcpu = 9;
    CHECK(EVTCHN(bind_virq, &op), -ENOENT_);
    op.virq = NR_VIRQS;
    CHECK(EVTCHN(bind_virq, &op), -EINVAL_);
    op.virq = VIRQ_CONSOLE;
    CHECK(EVTCHN(bind_virq, &op), -EINVAL_); /* global, and not on CPU 0 */
    op.vcpu = 0;
    CHECK(EVTCHN(bind_virq, &op), -EBUSY_);
    CHECK(EVTCHN(bind_virq, BAD_POINTER), -EFAULT_);
    CHECK(status_of(port).status, EVTCHNSTAT_virq);
    CHECK(status_of(port).u.virq, VIRQ_TIMER);
    CHECK(send(port), -EINVAL_);
    return port;
}

static uint32_t check_ipi(void)
{
    struct evtchn_bind_ipi op = {.vcpu = 9};

    CHECK(EVTCHN(bind_ipi, &op), -ENOENT_);
    op.vcpu = 0;
    CHECK(EVTCHN(bind_ipi, &op), 0);
    CHECK(EVTCHN(bind_ipi, BAD_POINTER), -EFAULT_);
    CHECK(status_of(op.port).status, EVTCHNSTAT_ipi);
    CHECK(send(op.port), 0);
    CHECK_TRUE(pending(op.port));
    clear(op.port);
    return op.port;
}

static void check_bind_vcpu(uint32_t pair, uint32_t virq, uint32_t ipi)
{
    struct evtchn_bind_vcpu op = {.port = pair};

    CHECK(EVTCHN(bind_vcpu, &op), 0);
    op.vcpu = 9;
    CHECK(EVTCHN(bind_vcpu, &op), -ENOENT_);
    op = (struct evtchn_bind_vcpu){.port = virq};
    CHECK(EVTCHN(bind_vcpu, &op), -EINVAL_);
    op.port = ipi;
    CHECK(EVTCHN(bind_vcpu, &op), -EINVAL_);
    op.port = CLOSED;
    CHECK(EVTCHN(bind_vcpu, &op), -EINVAL_);
    CHECK(EVTCHN(bind_vcpu, BAD_POINTER), -EFAULT_);
}

static void check_mask(uint32_t ipi)
{
    CHECK(send(ipi), 0);
    CHECK_TRUE(pending(ipi));
    CHECK(si->vcpu_info[0].evtchn_upcall_pending, 0);
    CHECK(unmask(ipi), 0);
    CHECK(si->vcpu_info[0].evtchn_upcall_pending, 1);
    CHECK(si->vcpu_info[0].evtchn_pending_sel, 1ul << ipi / WORD_BITS);
    CHECK(si->evtchn_mask[ipi / WORD_BITS] >> ipi % WORD_BITS & 1, 0);
    clear(ipi);
    CHECK(unmask(0), -EINVAL_);
    CHECK(unmask(1 << 20), -EINVAL_);
    CHECK(EVTCHN(unmask, BAD_POINTER), -EFAULT_);
}

/* Before init_control() there is no FIFO; after it there are no two levels. */
static void check_fifo(uint32_t ipi)
{
    uint32_t *control = page_alloc(), *array = page_alloc(), *word = &array[ipi];
    struct evtchn_set_priority priority = {.port = ipi, .priority = 3};
    struct evtchn_expand_array expand = {.array_gfn = va_mfn(array)};
    struct evtchn_init_control init = {.control_gfn = va_mfn(control), .vcpu = 9};

    CHECK(EVTCHN(set_priority, &priority), -ENOSYS_);
    CHECK(EVTCHN(expand_array, &expand), -EOPNOTSUPP_);
    CHECK(EVTCHN(init_control, &init), -ENOENT_);
    init.vcpu = 0;
    init.offset = 4;
    CHECK(EVTCHN(init_control, &init), -EINVAL_);
    init.offset = 0;
    init.control_gfn = 1ull << 50;
    CHECK(EVTCHN(init_control, &init), -EINVAL_);
    CHECK(EVTCHN(init_control, BAD_POINTER), -EFAULT_);
    init.control_gfn = va_mfn(control);
    CHECK(EVTCHN(init_control, &init), 0);
    CHECK(init.link_bits, 17);
    CHECK(EVTCHN(init_control, &init), -EINVAL_); /* once */
    expand.array_gfn = 1ull << 50;
    CHECK(EVTCHN(expand_array, &expand), -EINVAL_);
    CHECK(EVTCHN(expand_array, BAD_POINTER), -EFAULT_);
    expand.array_gfn = va_mfn(array);
    CHECK(EVTCHN(expand_array, &expand), 0);
    CHECK(EVTCHN(set_priority, &priority), 0);
    priority.priority = EVTCHN_FIFO_PRIORITY_MIN + 1;
    CHECK(EVTCHN(set_priority, &priority), -EINVAL_);
    priority.port = CLOSED;
    CHECK(EVTCHN(set_priority, &priority), -EINVAL_);
    CHECK(EVTCHN(set_priority, BAD_POINTER), -EFAULT_);
    CHECK(send(ipi), 0);
    CHECK_TRUE((*word >> EVTCHN_FIFO_PENDING & 1) != 0);
    CHECK_TRUE((*word >> EVTCHN_FIFO_LINKED & 1) != 0);
    CHECK(control[0] >> 3 & 1, 1);      /* its priority is ready */
    CHECK(control[2 + 3], ipi);         /* and it heads the queue */
}

static void check_reset(uint32_t virq, uint32_t ipi)
{
    struct evtchn_reset op = {.dom = 0};
    struct evtchn_bind_virq again = {.virq = VIRQ_TIMER};

    CHECK(EVTCHN(reset, &op), -EPERM_);
    op.dom = 77;
    CHECK(EVTCHN(reset, &op), -ESRCH_);
    CHECK(EVTCHN(reset, BAD_POINTER), -EFAULT_);
    op.dom = DOMID_SELF;
    CHECK(EVTCHN(reset, &op), 0);
    CHECK(status_of(virq).status, EVTCHNSTAT_closed);
    CHECK(status_of(ipi).status, EVTCHNSTAT_closed);
    CHECK(EVTCHN(bind_virq, &again), 0);
}

#ifdef COMPAT
/* What the first interface does not have, and a structure without its end. */
static void check_compat(void)
{
    static const uint32_t later[] = {EVTCHNOP_reset, EVTCHNOP_init_control,
                                     EVTCHNOP_expand_array, EVTCHNOP_set_priority};
    struct evtchn_op op = {.u.status.dom = DOMID_SELF};
    uint8_t *page = page_alloc(), *nowhere = page_alloc();
    uint32_t *cut = (uint32_t *)(nowhere - 8); /* up to the end of close's structure */

    for (unsigned i = 0; i < sizeof(later) / sizeof(later[0]); i++) {
        op.cmd = later[i];
        CHECK(HC1(event_channel_op_compat, &op), -ENOSYS_);
    }
    CHECK(nowhere - page, 4096);
    cut[0] = EVTCHNOP_close;
    cut[1] = CLOSED;
    CHECK(HC1(event_channel_op_compat, cut), -EINVAL_);
    CHECK(update_va(nowhere, 0, UVMF_INVLPG), 0);
    CHECK(HC1(event_channel_op_compat, cut), -EFAULT_);
}
#endif

void test(void)
{
    struct evtchn_bind_pirq pirq = {.pirq = 1};
    uint32_t pair, virq, ipi;

    si = map_shared_info();
    mask_all(si); /* the store's and the console's come when they like */
    clear(0);
    pair = check_pair();
    virq = check_virq();
    ipi = check_ipi();
    check_bind_vcpu(pair, virq, ipi);
    check_mask(ipi);
    CHECK(EVTCHN(bind_pirq, &pirq), -EPERM_);
    CHECK(EVTCHN_OP(99, &pirq, sizeof(pirq)), -ENOSYS_);
#ifdef COMPAT
    check_compat();
#else
    check_fifo(ipi);
    check_reset(virq, ipi);
#endif
}
