/* SPDX-License-Identifier: MIT */
/*
 * The probe's throw-away guest: one vCPU in long mode, 2 MiB of which it uses the first pages,
 * no interrupt controller. The program is probe_guest.S.
 */
#include <errno.h>
#include <linux/kvm.h>
#include <string.h>
#include <sys/mman.h>
#include <time.h>

#include "core/vcpu.h"
#include "probe.h"

enum {
    GUEST_SIZE = 0x10000,
    GUEST_PML4 = 0x1000,
    GUEST_PDPT = 0x2000,
    GUEST_PD = 0x3000,
    GUEST_GDT = 0x4000,
    GUEST_IDT = 0x5000,
    GUEST_TSS = 0x6000,
    GUEST_STACK = 0x8000, /* its end */
    GUEST_CODE = 0x8000,
    GUEST_USER_STACK = 0xc000,
    GUEST_CODE_SIZE = 0x1000,
    GUEST_CPUID_MAX = 256,
    GUEST_EXITS_MAX = 64,
    TSS_SIZE = 104,
    SPEED_REPORTS = 9,
    SPEED_INSTRUCTIONS = 1000,
    STUB_QUESTION = 0x1234,
    STUB_ANSWER = 0x5678,
    GUEST_FAILED = 0xdead,
};
#define SPEED_LIMIT_NS     400000ull
#define GUEST_TSS_ADDRESS  0xfffbd000ull /* three pages that Intel's KVM wants for itself */
#define GUEST_IDENTITY_MAP 0xfffbc000ull

extern const uint8_t kvm_probe_guest[], kvm_probe_guest_end[];
extern const uint8_t kvm_probe_guest_syscall[], kvm_probe_guest_int80[];
extern const uint8_t kvm_probe_guest_fault[];

struct guest {
    const struct kvm_sys *sys;
    struct kvm_probe *probe;
    int dev, vm, vcpu;
    uint8_t *memory;
    struct kvm_run *run;
    size_t run_size;
    struct kvm_regs regs;
    unsigned speed_reports;
};

/* --- errors: all return false --- */

static bool guest_failed(struct guest *g, unsigned long request, int error)
{
    g->probe->result = KVM_PROBE_FAILED;
    g->probe->detail = request;
    g->probe->error = error;
    return false;
}

static bool guest_unfaithful(struct guest *g, unsigned stage)
{
    g->probe->result = KVM_PROBE_UNFAITHFUL;
    g->probe->stage = stage <= KVM_STAGE_HALT ? (enum kvm_probe_stage)stage : KVM_STAGE_ENTRY;
    return false;
}

static bool guest_call(struct guest *g, int fd, unsigned long request, void *arg)
{
    int ret = kvm_ioctl(g->sys, fd, request, arg);

    return ret >= 0 || guest_failed(g, request, -ret);
}

/* --- its memory --- */

static void guest_put(struct guest *g, unsigned at, uint64_t value)
{
    memcpy(g->memory + at, &value, sizeof(value));
}

static uint64_t guest_address(const uint8_t *label)
{
    return GUEST_CODE + (uint64_t)(label - kvm_probe_guest);
}

static void guest_gate(struct guest *g, unsigned vector, const uint8_t *label, unsigned dpl)
{
    uint64_t to = guest_address(label);

    /* Code selector 8, present, 64-bit interrupt gate. */
    guest_put(g, GUEST_IDT + vector * 16,
              (to & 0xffff) | 8ull << 16 | (0x8e00ull | dpl << 13) << 32 | to >> 16 << 48);
    guest_put(g, GUEST_IDT + vector * 16 + 8, 0);
}

static void guest_fill(struct guest *g)
{
    enum { PRESENT_RW_USER = 7, LARGE = 0x80 };
    static const uint64_t gdt[] = {
        0,
        0x00af9b000000ffff, /* 08: code, CPL 0 */
        0x00cf93000000ffff, /* 10: data, CPL 0 */
        0x00cffb000000ffff, /* 18: 32-bit code, CPL 3 */
        0x00cff3000000ffff, /* 20: data, CPL 3 */
        0x00affb000000ffff, /* 28: code, CPL 3 */
        0x0000890000000000 | (uint64_t)GUEST_TSS << 16 | (TSS_SIZE - 1), /* 30: TSS */
        0,
    };

    guest_put(g, GUEST_PML4, GUEST_PDPT | PRESENT_RW_USER);
    guest_put(g, GUEST_PDPT, GUEST_PD | PRESENT_RW_USER);
    guest_put(g, GUEST_PD, PRESENT_RW_USER | LARGE);
    memcpy(g->memory + GUEST_GDT, gdt, sizeof(gdt));
    guest_put(g, GUEST_TSS + 4, GUEST_STACK); /* RSP0 */
    for (unsigned vector = 0; vector < 32; vector++) {
        guest_gate(g, vector, kvm_probe_guest_fault, 0);
    }
    guest_gate(g, 0x80, kvm_probe_guest_int80, 3);
    memcpy(g->memory + GUEST_CODE, kvm_probe_guest,
           (size_t)(kvm_probe_guest_end - kvm_probe_guest));
}

/* --- its processor --- */

static bool guest_set_cpuid(struct guest *g)
{
    struct {
        struct kvm_cpuid2 head;
        struct kvm_cpuid_entry2 entries[GUEST_CPUID_MAX];
    } cpuid;

    memset(&cpuid, 0, sizeof(cpuid));
    cpuid.head.nent = GUEST_CPUID_MAX;
    return guest_call(g, g->dev, KVM_GET_SUPPORTED_CPUID, &cpuid) &&
           guest_call(g, g->vcpu, KVM_SET_CPUID2, &cpuid);
}

static struct kvm_segment guest_segment(uint16_t selector, unsigned type, bool code)
{
    return (struct kvm_segment){.limit = 0xffffffff, .selector = selector, .type = (uint8_t)type,
                                .present = 1, .s = 1, .l = code, .db = !code, .g = 1};
}

static bool guest_set_sregs(struct guest *g)
{
    struct kvm_sregs s;
    struct kvm_segment data = guest_segment(0x10, 3, false);

    memset(&s, 0, sizeof(s));
    if (!guest_call(g, g->vcpu, KVM_GET_SREGS, &s)) {
        return false;
    }
    s.cs = guest_segment(8, 11, true);
    s.ds = s.es = s.fs = s.gs = s.ss = data;
    s.tr = (struct kvm_segment){.base = GUEST_TSS, .limit = TSS_SIZE - 1, .selector = 0x30,
                                .type = 11, .present = 1};
    s.ldt = (struct kvm_segment){.unusable = 1};
    s.gdt = (struct kvm_dtable){.base = GUEST_GDT, .limit = 63};
    s.idt = (struct kvm_dtable){.base = GUEST_IDT, .limit = 0xfff};
    s.cr0 = 0x80010033; /* PG WP NE ET MP PE */
    s.cr3 = GUEST_PML4;
    s.cr4 = 0x20;   /* PAE */
    s.efer = 0x501; /* LMA LME SCE */
    return guest_call(g, g->vcpu, KVM_SET_SREGS, &s);
}

static bool guest_set_msrs(struct guest *g)
{
    enum { NR = 3 };
    struct {
        struct kvm_msrs head;
        struct kvm_msr_entry entries[NR];
    } m = {
        .head = {.nmsrs = NR},
        .entries = {{.index = 0xc0000081, .data = 8ull << 32 | 0x1bull << 48},
                    {.index = 0xc0000082, .data = guest_address(kvm_probe_guest_syscall)},
                    {.index = 0xc0000084, .data = 0x47700}},
    };
    int ret = kvm_ioctl(g->sys, g->vcpu, KVM_SET_MSRS, &m);

    return ret == NR || guest_failed(g, KVM_SET_MSRS, ret < 0 ? -ret : EINVAL);
}

static bool guest_make(struct guest *g)
{
    struct kvm_userspace_memory_region slot = {.memory_size = GUEST_SIZE};
    uint64_t identity = GUEST_IDENTITY_MAP;
    int ret;

    ret = kvm_ioctl(g->sys, g->dev, KVM_CREATE_VM, NULL);
    if (ret < 0) {
        guest_failed(g, KVM_CREATE_VM, -ret);
        if (ret == -EBUSY) {
            g->probe->result = KVM_PROBE_BUSY;
        }
        return false;
    }
    g->vm = ret;
    g->memory = mmap(NULL, GUEST_SIZE, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1,
                     0);
    if (g->memory == MAP_FAILED) {
        g->memory = NULL;
        *g->probe = (struct kvm_probe){.result = KVM_PROBE_DIED, .error = errno};
        return false;
    }
    slot.userspace_addr = (uintptr_t)g->memory;
    ret = g->sys->ioctl(g->vm, KVM_SET_TSS_ADDR, GUEST_TSS_ADDRESS);
    if (ret < 0) {
        return guest_failed(g, KVM_SET_TSS_ADDR, -ret);
    }
    if (!guest_call(g, g->vm, KVM_SET_IDENTITY_MAP_ADDR, &identity) ||
        !guest_call(g, g->vm, KVM_SET_USER_MEMORY_REGION, &slot)) {
        return false;
    }
    ret = g->sys->ioctl(g->vm, KVM_CREATE_VCPU, 0);
    if (ret < 0) { /* Intel's KVM switches VMX on here, or finds that another has */
        guest_failed(g, KVM_CREATE_VCPU, -ret);
        if (ret == -EBUSY) {
            g->probe->result = KVM_PROBE_BUSY;
        }
        return false;
    }
    g->vcpu = ret;
    ret = g->sys->ioctl(g->dev, KVM_GET_VCPU_MMAP_SIZE, 0);
    if (ret < (int)sizeof(*g->run)) {
        return guest_failed(g, KVM_GET_VCPU_MMAP_SIZE, ret < 0 ? -ret : EINVAL);
    }
    g->run_size = (size_t)ret;
    g->run = g->sys->mmap(g->vcpu, g->run_size);
    return g->run != NULL || guest_failed(g, KVM_GET_VCPU_MMAP_SIZE, ENOMEM);
}

static bool guest_prepare(struct guest *g)
{
    struct kvm_regs regs = {
        .rip = GUEST_CODE, .rflags = 2, .rsp = GUEST_STACK,
        .rsi = GUEST_USER_STACK, .r14 = GUEST_CODE,
    };

    guest_fill(g);
    return guest_set_cpuid(g) && guest_set_sregs(g) && guest_set_msrs(g) &&
           guest_call(g, g->vcpu, KVM_SET_REGS, &regs);
}

/* --- running it --- */

static uint64_t guest_now_ns(void)
{
    struct timespec ts;

    clock_gettime(CLOCK_MONOTONIC, &ts);
    return (uint64_t)ts.tv_sec * 1000000000u + (uint64_t)ts.tv_nsec;
}

static bool guest_is_report(const struct kvm_run *run)
{
    return run->exit_reason == KVM_EXIT_IO && run->io.direction == KVM_EXIT_IO_OUT &&
           run->io.port == VCPU_HYPERCALL_PORT && run->io.size == 1 && run->io.count == 1;
}

/* The stub's exit: the argument in RAX, RIP behind the instruction, an answer in RAX. */
static bool guest_answer(struct guest *g)
{
    const uint8_t out_insn[2] = {0xe6, VCPU_HYPERCALL_PORT};

    if (g->regs.rax != STUB_QUESTION || g->regs.rip < GUEST_CODE + 2 ||
        g->regs.rip > GUEST_CODE + GUEST_CODE_SIZE ||
        memcmp(g->memory + g->regs.rip - 2, out_insn, 2) != 0) {
        return guest_unfaithful(g, KVM_STAGE_STUB);
    }
    g->regs.rax = STUB_ANSWER;
    return guest_call(g, g->vcpu, KVM_SET_REGS, &g->regs);
}

/* A report. `stage` counts what has been seen; reports must come in the program's order. */
static bool guest_report(struct guest *g, unsigned *stage, uint64_t ns)
{
    unsigned now = (unsigned)g->regs.r15;

    if ((uint32_t)g->regs.rbx == GUEST_FAILED || now < *stage || now > KVM_STAGE_SPEED) {
        return guest_unfaithful(g, (uint32_t)g->regs.rbx == GUEST_FAILED ? now : *stage);
    }
    *stage = now;
    if (now == KVM_STAGE_STUB) {
        return guest_answer(g);
    }
    if (now == KVM_STAGE_SPEED) {
        g->speed_reports++;
        if (g->speed_reports > 1 && (g->probe->ns == 0 || ns < g->probe->ns)) {
            g->probe->ns = ns;
        }
    }
    return true;
}

static bool guest_loop(struct guest *g)
{
    unsigned stage = KVM_STAGE_ENTRY;

    for (unsigned i = 0; i < GUEST_EXITS_MAX; i++) {
        uint64_t start = guest_now_ns();
        int ret = g->sys->ioctl(g->vcpu, KVM_RUN, 0);
        uint64_t ns = guest_now_ns() - start;

        if (ret == -EINTR || ret == -EAGAIN) {
            continue;
        }
        if (ret < 0) {
            return guest_failed(g, KVM_RUN, -ret);
        }
        if (!guest_call(g, g->vcpu, KVM_GET_REGS, &g->regs)) {
            return false;
        }
        if (g->run->exit_reason == KVM_EXIT_HLT) {
            return (g->regs.r15 == KVM_STAGE_HALT && g->speed_reports == SPEED_REPORTS) ||
                   guest_unfaithful(g, (unsigned)g->regs.r15);
        }
        if (!guest_is_report(g->run)) {
            return guest_unfaithful(g, (unsigned)g->regs.r15);
        }
        if (!guest_report(g, &stage, ns)) {
            return false;
        }
    }
    return guest_unfaithful(g, stage);
}

static void guest_free(struct guest *g)
{
    if (g->run != NULL) {
        g->sys->munmap(g->run, g->run_size);
    }
    if (g->vcpu >= 0) {
        g->sys->close(g->vcpu);
    }
    if (g->vm >= 0) {
        g->sys->close(g->vm);
    }
    if (g->memory != NULL) {
        munmap(g->memory, GUEST_SIZE);
    }
}

void kvm_probe_guest_run(const struct kvm_sys *sys, int dev, struct kvm_probe *probe)
{
    struct guest g = {.sys = sys, .probe = probe, .dev = dev, .vm = -1, .vcpu = -1};

    probe->ns = 0;
    if (guest_make(&g) && guest_prepare(&g) && guest_loop(&g)) {
        probe->result = probe->ns > SPEED_LIMIT_NS ? KVM_PROBE_SLOW : KVM_PROBE_OK;
    }
    guest_free(&g);
}
