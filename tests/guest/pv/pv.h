/* SPDX-License-Identifier: MIT */
/*
 * What PV test kernels share: hypercalls, checks with a name, traps, page tables. A kernel
 * defines test(); each CHECK that fails is a line, and the run ends with SHUTDOWN_crash if any
 * did, else with SHUTDOWN_poweroff.
 */
#ifndef PVEMU_TESTS_GUEST_PV_H
#define PVEMU_TESTS_GUEST_PV_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define __XEN_INTERFACE_VERSION__ 0x00040e00
#include <xen/xen.h>
#include <xen/callback.h>
#include <xen/event_channel.h>
#include <xen/features.h>
#include <xen/memory.h>
#include <xen/nmi.h>
#include <xen/physdev.h>
#include <xen/sched.h>
#include <xen/vcpu.h>
#include <xen/version.h>

enum { EPERM_ = 1, ENOENT_ = 2, ESRCH_ = 3, EFAULT_ = 14, EBUSY_ = 16, EACCES_ = 13,
       EEXIST_ = 17, ENODEV_ = 19, EINVAL_ = 22, ENOSYS_ = 38, EOPNOTSUPP_ = 95 };
#ifdef __x86_64__
#define BAD_POINTER 0xffff888000000000ull /* a guest's address, mapped nowhere */
#else
#define BAD_POINTER 0x80000000ul
#endif

enum pte { P = 1, RW = 2, US = 4, PWT = 8, PCD = 0x10, A = 0x20, D = 0x40, PSE = 0x80, PAT = PSE,
           G = 0x100 };
#define NX     (1ull << 63)
#define KERNEL_ONLY (1ull << 52)
#define FRAME(pte) ((pte) >> 12 & 0xffffffffffull)
#define KV     0xffffffff80000000ull
#define HV     0xffff800000000000ull /* the hypervisor's addresses: the M2P */

struct frame {
    uint64_t r15, r14, r13, r12, r11, r10, r9, r8, rbp, rdi, rsi, rdx, rcx, rbx, rax;
    uint64_t vector, error, rip, cs, flags, rsp, ss;
};
enum { V_EVENT = 256, V_SYSCALL, V_SYSENTER, V_SYSCALL32, V_FAILSAFE, V_NR };

extern struct start_info *start_info;
extern uint8_t trap_stubs[], hypercall_page[], user_left[];
extern uint64_t try_stack, try_landing, try_result, iret_flags;
extern uint64_t boot_stack;

/* By the instruction, or through the page where a kernel is built BY_PAGE. */
long hypercall_inline(long nr, unsigned long a1, unsigned long a2, unsigned long a3,
                      unsigned long a4);
long hypercall_by_page(long nr, unsigned long a1, unsigned long a2, unsigned long a3,
                       unsigned long a4);
#ifdef BY_PAGE
#define hypercall hypercall_by_page
#else
#define hypercall hypercall_inline
#endif
#define HC0(nr) HC4(nr, 0, 0, 0, 0)
#define HC1(nr, a) HC4(nr, a, 0, 0, 0)
#define HC2(nr, a, b) HC4(nr, a, b, 0, 0)
#define HC3(nr, a, b, c) HC4(nr, a, b, c, 0)
#define HC4(nr, a, b, c, d)                                                                    \
    hypercall(__HYPERVISOR_##nr, (unsigned long)(a), (unsigned long)(b), (unsigned long)(c),   \
              (unsigned long)(d))

void test(void);
void say(const char *text);
void say_hex(uint64_t value);
void check(bool good, const char *what, uint64_t got);
/* The value must be what is wanted; the source says what it is. */
#define CHECK(expression, want)                                                                \
    do {                                                                                       \
        uint64_t got_ = (uint64_t)(expression);                                                \
        check(got_ == (uint64_t)(want), #expression " == " #want, got_);                       \
    } while (0)
#define CHECK_TRUE(expression) check((expression), #expression, 0)
void finish(void) __attribute__((noreturn));

/* Traps: installs the stubs for everything (DPL 0; 3 and 0x80 DPL 3; 0x81 DPL 1), and all
 * callbacks. The last trap is kept; `hook`, when set, sees it first and may deal with it. */
void traps_init(void);
extern struct frame last;
extern unsigned nr_traps, nr_events;
extern bool (*hook)(struct frame *f);
void set_gate(uint8_t vector, uint8_t flags, uint64_t address);
/* Calls code(argument): 0, or the vector + 1 of what it raised, which is in `last`. */
long try_call(void *code, uint64_t argument);
/* Goes to user mode and comes back when something sets f->rip to user_left in kernel mode. */
void user_enter(uint64_t rip, uint64_t rsp, uint64_t flags);
void user_return(struct frame *f);

/* Memory: pages of ours, and the tables at hand (everything at KV is mapped). */
void *page_alloc(void);          /* zeroed */
uint64_t va_mfn(const void *va); /* by the frame list */
uint64_t *l1e_of(const void *va);
struct shared_info *map_shared_info(void);
long update_va(const void *va, uint64_t pte, uint64_t flags);
long mmu_update1(uint64_t ptr, uint64_t val);
long mmuext1(unsigned cmd, uint64_t arg1, uint64_t arg2);
/* What a second vCPU needs to run code of the kernel's, on a stack that ends there. */
void kernel_context(struct vcpu_guest_context *context, void *code, void *stack_end);
/* Makes a page a plain table: read-only for us. */
long make_ro(const void *va);
long make_rw(const void *va);

#endif
