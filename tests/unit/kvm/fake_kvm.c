/* SPDX-License-Identifier: MIT */
#include "fake_kvm.h"

#include <errno.h>
#include <signal.h>
#include <glib.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

enum { FD_DEV = 1000, FD_VM, FD_VCPU, RUN_SIZE = 12288, REPORT_PORT = 0x7e, CODE = 0x8000 };

struct fake_kvm fake_kvm;

static int fake_look(const char *path)
{
    g_assert_cmpstr(path, ==, "/dev/kvm");
    return -fake_kvm.look_error;
}

static int fake_open(const char *path)
{
    g_assert_cmpstr(path, ==, "/dev/kvm");
    while (fake_kvm.open_hangs) {
        pause();
    }
    if (fake_kvm.open_error != 0) {
        return -fake_kvm.open_error;
    }
    fake_kvm.open_fds++;
    return FD_DEV;
}

static void fake_close(int fd)
{
    g_assert_cmpint(fd, >=, FD_DEV);
    g_assert_cmpuint(fake_kvm.open_fds, >, 0);
    fake_kvm.open_fds--;
}

static void *fake_mmap(int fd, size_t len)
{
    g_assert_cmpint(fd, ==, FD_VCPU);
    g_assert_cmpuint(len, ==, RUN_SIZE);
    if (fake_kvm.no_mmap) {
        return NULL;
    }
    fake_kvm.run = g_malloc0(len);
    return fake_kvm.run;
}

static void fake_munmap(void *addr, size_t len)
{
    (void)len;
    if (addr == fake_kvm.run) {
        fake_kvm.run = NULL;
    }
    g_free(addr);
}

static void fake_burn(uint64_t ns)
{
    struct timespec now, start;

    clock_gettime(CLOCK_MONOTONIC, &start);
    do {
        clock_gettime(CLOCK_MONOTONIC, &now);
    } while ((uint64_t)(now.tv_sec - start.tv_sec) * 1000000000u + (uint64_t)now.tv_nsec <
             (uint64_t)start.tv_nsec + ns);
}

static void fake_sync(struct kvm_run *run)
{
    if ((run->kvm_valid_regs & KVM_SYNC_X86_REGS) != 0) {
        run->s.regs.regs = fake_kvm.regs;
    }
    if ((run->kvm_valid_regs & KVM_SYNC_X86_SREGS) != 0) {
        run->s.regs.sregs = fake_kvm.sregs;
    }
}

static int fake_set_msrs(const struct kvm_msrs *list)
{
    for (unsigned i = 0; i < list->nmsrs; i++) {
        unsigned at = 0;

        while (at < fake_kvm.nr_msrs && fake_kvm.msr_index[at] != list->entries[i].index) {
            at++;
        }
        g_assert_cmpuint(at, <, G_N_ELEMENTS(fake_kvm.msrs));
        fake_kvm.msr_index[at] = list->entries[i].index;
        fake_kvm.msrs[at] = list->entries[i].data;
        fake_kvm.nr_msrs = MAX(fake_kvm.nr_msrs, at + 1);
    }
    return (int)list->nmsrs;
}

static int fake_get_msrs(struct kvm_msrs *list)
{
    for (unsigned i = 0; i < list->nmsrs; i++) {
        for (unsigned at = 0; at < fake_kvm.nr_msrs; at++) {
            if (fake_kvm.msr_index[at] == list->entries[i].index) {
                list->entries[i].data = fake_kvm.msrs[at];
            }
        }
    }
    return (int)list->nmsrs;
}

static int fake_run(void)
{
    const struct fake_exit *e = &fake_kvm.exits[fake_kvm.next_exit];
    struct kvm_run *run = fake_kvm.run;

    fake_kvm.immediate_exit = run->immediate_exit != 0;
    fake_kvm.valid_regs = run->kvm_valid_regs;
    fake_kvm.window = run->request_interrupt_window != 0;
    if (fake_kvm.die) {
        if (fake_kvm.die_signal != 0) {
            raise(fake_kvm.die_signal);
        }
        _exit(3);
    }
    if ((run->kvm_dirty_regs & KVM_SYNC_X86_REGS) != 0) {
        fake_kvm.regs = run->s.regs.regs;
    }
    if ((run->kvm_dirty_regs & KVM_SYNC_X86_SREGS) != 0) {
        fake_kvm.sregs = run->s.regs.sregs;
    }
    run->kvm_dirty_regs = 0;
    fake_sync(run);
    if (fake_kvm.immediate_exit) {
        return -EINTR; /* this exit is the next one's */
    }
    g_assert_cmpuint(fake_kvm.next_exit, <, fake_kvm.nr_exits);
    fake_kvm.next_exit++;
    if (e->hang) {
        for (;;) {
            pause();
        }
    }
    fake_burn(e->burn_ns);
    run->exit_reason = e->reason;
    if (fake_kvm.probing) {
        fake_kvm.regs.rax = e->rax;
        fake_kvm.regs.rbx = e->rbx;
        fake_kvm.regs.r15 = e->r15;
        fake_kvm.regs.rip = e->rip;
    }
    if (e->report) {
        run->exit_reason = KVM_EXIT_IO;
        run->io.direction = KVM_EXIT_IO_OUT;
        run->io.port = REPORT_PORT;
        run->io.size = 1;
        run->io.count = 1;
    }
    if (e->fill != NULL) {
        e->fill(run);
    }
    fake_sync(run);
    return e->ret;
}

static int fake_slot(const struct kvm_userspace_memory_region *region)
{
    if (region->slot == fake_kvm.fail_slot && region->slot != 0) {
        return -EEXIST;
    }
    if (region->slot != 0 || fake_kvm.memory == NULL) { /* slot 0: only its flags change */
        fake_kvm.slots += region->memory_size != 0 ? 1u : -1u;
    }
    if (region->slot == 0) {
        fake_kvm.log = (region->flags & KVM_MEM_LOG_DIRTY_PAGES) != 0;
        fake_kvm.memory = (uint8_t *)(uintptr_t)region->userspace_addr;
    }
    return 0;
}

static int fake_cpuid(struct kvm_cpuid2 *list)
{
    static const struct {
        uint32_t leaf, subleaf;
    } rows[] = {{1, 0}, {7, 0}, {0xd, 0}, {0xd, 1}, {0x80000001, 0}};
    const uint32_t all = fake_kvm.poor_cpuid ? 0 : UINT32_MAX;

    g_assert_cmpuint(list->nent, >=, G_N_ELEMENTS(rows));
    for (unsigned i = 0; i < G_N_ELEMENTS(rows); i++) {
        list->entries[i] = (struct kvm_cpuid_entry2){
            .function = rows[i].leaf, .index = rows[i].subleaf,
            .eax = all, .ebx = all, .ecx = all, .edx = all,
        };
    }
    list->nent = G_N_ELEMENTS(rows);
    return 0;
}

static int fake_set_cpuid(const struct kvm_cpuid2 *list)
{
    g_assert_cmpuint(list->nent, <=, FAKE_CPUID);
    fake_kvm.nr_cpuid = list->nent;
    memcpy(fake_kvm.cpuid, list->entries, list->nent * sizeof(list->entries[0]));
    return 0;
}

static int fake_dirty(const struct kvm_dirty_log *log)
{
    uint64_t *dirty = log->slot == 0 ? &fake_kvm.dirty : &fake_kvm.dirty_high;

    g_assert_cmpuint(log->slot, <=, 1);
    g_assert_true(fake_kvm.log);
    memcpy(log->dirty_bitmap, dirty, sizeof(*dirty));
    *dirty = 0;
    return 0;
}

static int fake_set_routing(const struct kvm_irq_routing *table)
{
    g_assert_cmpuint(table->nr, <=, G_N_ELEMENTS(fake_kvm.routes));
    fake_kvm.nr_routes = table->nr;
    memcpy(fake_kvm.routes, table->entries, table->nr * sizeof(table->entries[0]));
    return 0;
}

static int fake_apic_ioctl(unsigned long request, void *p)
{
    switch (request) {
    case KVM_ENABLE_CAP:
        return ((struct kvm_enable_cap *)p)->cap == fake_kvm.fail_cap ? -EINVAL : 0;
    case KVM_GET_MP_STATE:
        ((struct kvm_mp_state *)p)->mp_state = fake_kvm.mp_state;
        return 0;
    case KVM_SET_MP_STATE:
        fake_kvm.mp_state = ((struct kvm_mp_state *)p)->mp_state;
        return 0;
    case KVM_GET_LAPIC:
        *(struct kvm_lapic_state *)p = fake_kvm.lapic;
        return 0;
    case KVM_SET_LAPIC:
        fake_kvm.lapic = *(struct kvm_lapic_state *)p;
        return 0;
    case KVM_SIGNAL_MSI:
        fake_kvm.msi = *(struct kvm_msi *)p;
        return fake_kvm.msi_answer;
    case KVM_SET_GSI_ROUTING:
        return fake_set_routing(p);
    default:
        return 0;
    }
}

static int fake_ioctl(int fd, unsigned long request, uintptr_t arg)
{
    void *p = (void *)arg;

    fake_kvm.count += request == fake_kvm.count_request;
    if (request == fake_kvm.fail_request) {
        return -fake_kvm.fail_error;
    }
    switch (request) {
    case KVM_GET_SUPPORTED_CPUID:
        return fake_cpuid(p);
    case KVM_GET_API_VERSION:
        return fake_kvm.api_version;
    case KVM_CHECK_EXTENSION:
        return arg == (uintptr_t)fake_kvm.missing_cap ? 0 : 0xff;
    case KVM_CREATE_VM:
        fake_kvm.open_fds++;
        return FD_VM;
    case KVM_CREATE_VCPU:
        g_assert_cmpint(fd, ==, FD_VM);
        fake_kvm.vcpu_id = arg;
        fake_kvm.open_fds++;
        return FD_VCPU;
    case KVM_GET_VCPU_MMAP_SIZE:
        return RUN_SIZE;
    case KVM_SET_USER_MEMORY_REGION:
        return fake_slot(p);
    case KVM_SET_MSRS:
        return fake_set_msrs(p);
    case KVM_GET_MSRS:
        return fake_get_msrs(p);
    case KVM_GET_SREGS:
        *(struct kvm_sregs *)p = fake_kvm.sregs;
        return 0;
    case KVM_SET_SREGS:
        fake_kvm.sregs = *(struct kvm_sregs *)p;
        return 0;
    case KVM_SET_XSAVE:
        fake_kvm.xsave = *(struct kvm_xsave *)p;
        return 0;
    case KVM_GET_XSAVE:
        *(struct kvm_xsave *)p = fake_kvm.xsave;
        return 0;
    case KVM_SET_XCRS:
        fake_kvm.xcr0 = ((struct kvm_xcrs *)p)->xcrs[0].value;
        return 0;
    case KVM_GET_XCRS:
        ((struct kvm_xcrs *)p)->nr_xcrs = 1;
        ((struct kvm_xcrs *)p)->xcrs[0].value = fake_kvm.xcr0;
        return 0;
    case KVM_SET_DEBUGREGS:
        fake_kvm.debugregs = *(struct kvm_debugregs *)p;
        return 0;
    case KVM_GET_DEBUGREGS:
        *(struct kvm_debugregs *)p = fake_kvm.debugregs;
        return 0;
    case KVM_SET_VCPU_EVENTS:
        fake_kvm.events = *(struct kvm_vcpu_events *)p;
        return 0;
    case KVM_GET_VCPU_EVENTS:
        *(struct kvm_vcpu_events *)p = fake_kvm.events;
        return 0;
    case KVM_INTERRUPT:
        fake_kvm.interrupt = ((struct kvm_interrupt *)p)->irq;
        return 0;
    case KVM_NMI:
        fake_kvm.nmis++;
        return 0;
    case KVM_SET_GUEST_DEBUG:
        fake_kvm.debug = *(struct kvm_guest_debug *)p;
        return 0;
    case KVM_X86_SET_MSR_FILTER:
        fake_kvm.filter = *(struct kvm_msr_filter *)p;
        return 0;
    case KVM_XEN_HVM_CONFIG:
        fake_kvm.xen = *(struct kvm_xen_hvm_config *)p;
        return 0;
    case KVM_GET_DIRTY_LOG:
        return fake_dirty(p);
    case KVM_SET_CPUID2:
        return fake_set_cpuid(p);
    case KVM_GET_REGS:
        *(struct kvm_regs *)p = fake_kvm.regs;
        return 0;
    case KVM_SET_REGS:
        fake_kvm.regs = *(struct kvm_regs *)p;
        return 0;
    case KVM_RUN:
        g_assert_cmpint(fd, ==, FD_VCPU);
        return fake_run();
    default:
        return fake_apic_ioctl(request, p);
    }
}

const struct kvm_sys fake_kvm_sys = {
    .look = fake_look, .open = fake_open, .ioctl = fake_ioctl, .mmap = fake_mmap, .munmap = fake_munmap,
    .close = fake_close,
};

void fake_kvm_reset(void)
{
    memset(&fake_kvm, 0, sizeof(fake_kvm));
    fake_kvm.api_version = KVM_API_VERSION;
    fake_kvm.missing_cap = -1;
}

/* The address behind the n-th OUT of AL to port 0x7e of the guest's program. */
static uint64_t fake_after_out(void)
{
    extern const uint8_t kvm_probe_guest[], kvm_probe_guest_end[];

    for (const uint8_t *p = kvm_probe_guest; p + 2 < kvm_probe_guest_end; p++) {
        if (p[0] == 0xe6 && p[1] == REPORT_PORT) {
            return CODE + (uint64_t)(p - kvm_probe_guest) + 2;
        }
    }
    g_assert_not_reached();
}

static struct fake_exit *fake_add(uint64_t stage)
{
    struct fake_exit *e = &fake_kvm.exits[fake_kvm.nr_exits++];

    *e = (struct fake_exit){.r15 = stage, .report = true, .rip = CODE};
    return e;
}

void fake_kvm_play_probe(void)
{
    struct fake_exit *stub = fake_add(1);

    fake_kvm.probing = true;
    stub->rax = 0x1234;
    stub->rip = fake_after_out();
    fake_add(3);
    fake_add(5);
    for (unsigned i = 0; i < 9; i++) {
        fake_add(8);
    }
    *fake_add(9) = (struct fake_exit){.reason = KVM_EXIT_HLT, .r15 = 9};
}
