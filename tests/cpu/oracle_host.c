/* SPDX-License-Identifier: MIT */
/*
 * The native side of the oracle. host_enter() loads the whole state and jumps; the INT3 behind
 * the instruction, or whatever it raises, arrives as a signal on the alternate stack, whose
 * frame is the result.
 */
#include "oracle.h"

#include <asm/ldt.h>
#include <errno.h>
#include <glib.h>
#include <signal.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/time.h>
#include <sys/wait.h>
#include <ucontext.h>
#include <unistd.h>

enum { HOST_CODE32 = 0x23, HOST_DATA = 0x2b, HOST_CODE64 = 0x33 }; /* Linux's selectors */

/* The layout is known to the assembly below. */
struct host_context {
    uint64_t gpr[16];
    uint64_t rip, rflags;
    uint64_t saved_rsp;
    uint32_t far_offset;
    uint32_t far_selector;
    uint32_t fs, gs; /* 32-bit code: selectors; 0: as they are */
    uint64_t pad[3];
    uint8_t xsave[ORACLE_XSAVE];
};
_Alignas(64) struct host_context oracle_host_context;
void oracle_host_enter(void);
extern const char oracle_host_exit[];

__asm__(
    ".text\n"
    ".globl oracle_host_enter\n"
    ".type oracle_host_enter, @function\n"
    "oracle_host_enter:\n\t"
    "push %rbx\n\tpush %rbp\n\tpush %r12\n\tpush %r13\n\tpush %r14\n\tpush %r15\n\t"
    "lea oracle_host_context(%rip), %rbx\n\t"
    "mov %rsp, 144(%rbx)\n\t"
    "mov $7, %eax\n\txor %edx, %edx\n\t"
    "xrstor64 192(%rbx)\n\t"
    "pushq 136(%rbx)\n\tpopfq\n\t"
    "mov 0(%rbx), %rax\n\tmov 8(%rbx), %rcx\n\tmov 16(%rbx), %rdx\n\t"
    "mov 32(%rbx), %rsp\n\tmov 40(%rbx), %rbp\n\tmov 48(%rbx), %rsi\n\tmov 56(%rbx), %rdi\n\t"
    "mov 64(%rbx), %r8\n\tmov 72(%rbx), %r9\n\tmov 80(%rbx), %r10\n\tmov 88(%rbx), %r11\n\t"
    "mov 96(%rbx), %r12\n\tmov 104(%rbx), %r13\n\tmov 112(%rbx), %r14\n\tmov 120(%rbx), "
    "%r15\n\t"
    "mov 24(%rbx), %rbx\n\t"
    "jmp *oracle_host_context+128(%rip)\n"
    ".globl oracle_host_exit\n"
    "oracle_host_exit:\n\t"
    "cld\n\tfninit\n\tvzeroupper\n\t"
    "mov oracle_host_context+144(%rip), %rsp\n\t"
    "push $0x1f80\n\tldmxcsr (%rsp)\n\tpop %rax\n\t"
    "pop %r15\n\tpop %r14\n\tpop %r13\n\tpop %r12\n\tpop %rbp\n\tpop %rbx\n\t"
    "ret\n");

/* The same into 32-bit code: ctx.far (at 152) is a far pointer; DS and ES become flat first, and
 * FS and GS the program's (at 160 and 164). */
void oracle_host_enter32(void);

__asm__(".text\n"
        ".globl oracle_host_enter32\n"
        ".type oracle_host_enter32, @function\n"
        "oracle_host_enter32:\n\t"
        "push %rbx\n\tpush %rbp\n\tpush %r12\n\tpush %r13\n\tpush %r14\n\tpush %r15\n\t"
        "lea oracle_host_context(%rip), %rbx\n\t"
        "mov %rsp, 144(%rbx)\n\t"
        "mov $0x2b, %eax\n\tmov %eax, %ds\n\tmov %eax, %es\n\t"
        "mov 160(%rbx), %eax\n\ttest %eax, %eax\n\tjz 1f\n\t"
        "mov %eax, %fs\n\tmov 164(%rbx), %eax\n\tmov %eax, %gs\n1:\t"
        "mov $7, %eax\n\txor %edx, %edx\n\t"
        "xrstor64 192(%rbx)\n\t"
        "pushq 136(%rbx)\n\tpopfq\n\t"
        "mov 0(%rbx), %eax\n\tmov 8(%rbx), %ecx\n\tmov 16(%rbx), %edx\n\t"
        "mov 32(%rbx), %esp\n\tmov 40(%rbx), %ebp\n\tmov 48(%rbx), %esi\n\t"
        "mov 56(%rbx), %edi\n\tmov 24(%rbx), %ebx\n\t"
        "ljmpl *oracle_host_context+152(%rip)\n");

/* From a program that had FS for itself the C library's comes back first, and its own last where it goes
 * on: the selector of CS is in the frame, 184 bytes into the ucontext. */
void oracle_host_handler(int sig, siginfo_t *info, void *context);
void oracle_host_signal(int sig, siginfo_t *info, void *context);
uint64_t oracle_host_fs_base;

__asm__(".text\n"
        ".globl oracle_host_handler\n"
        ".type oracle_host_handler, @function\n"
        "oracle_host_handler:\n\t"
        "cmpw $0x23, 184(%rdx)\n\tjne 1f\n\t"
        "mov %fs, %eax\n\tmov %gs, %ecx\n\tpush %rax\n\tpush %rcx\n\tpush %rdx\n\t"
        "xor %eax, %eax\n\tmov %eax, %fs\n\tmov %eax, %gs\n\t"
        "mov oracle_host_fs_base(%rip), %rax\n\twrfsbase %rax\n\t"
        "call oracle_host_signal\n\t"
        "pop %rdx\n\tpop %rcx\n\tpop %rax\n\t"
        "cmpw $0x23, 184(%rdx)\n\tjne 3f\n\t"
        "test %eax, %eax\n\tjz 2f\n\tmov %eax, %fs\n"
        "2:\ttest %ecx, %ecx\n\tjz 3f\n\tmov %ecx, %gs\n"
        "3:\tret\n"
        "1:\tjmp oracle_host_signal\n");

static struct oracle_state *host_result;
static uint8_t *host_code, *host_data; /* writable aliases */

static const uint8_t host_greg[16] = {
    REG_RAX, REG_RCX, REG_RDX, REG_RBX, REG_RSP, REG_RBP, REG_RSI, REG_RDI,
    REG_R8,  REG_R9,  REG_R10, REG_R11, REG_R12, REG_R13, REG_R14, REG_R15,
};

static struct sigaction host_previous[65];

static void (*host_tick)(void);
static bool host_stopped;

void oracle_host_stop(void)
{
    host_stopped = true;
}

/* true: the program, whose end is wanted, is to end here; not on the way to it, or from it. */
static bool host_ticked(const struct oracle_state *end, uint64_t rip)
{
    host_stopped = false;
    host_tick();
    return host_stopped && end != NULL && rip - ORACLE_CODE < ORACLE_CODE_SIZE;
}

void oracle_host_signal(int sig, siginfo_t *info, void *context)
{
    ucontext_t *uc = context;
    greg_t *regs = uc->uc_mcontext.gregs;
    struct oracle_state *end = host_result;

    if (sig == SIGPROF && !host_ticked(end, (uint64_t)regs[REG_RIP])) {
        return;
    }
    if (end == NULL) {
        host_previous[sig].sa_sigaction(sig, info, context); /* the engine's own */
        return;
    }
    host_result = NULL;
    for (unsigned i = 0; i < 16; i++) {
        end->gpr[i] = (uint64_t)regs[host_greg[i]];
    }
    end->rip = (uint64_t)regs[REG_RIP];
    end->rflags = (uint64_t)regs[REG_EFL];
    end->vector = sig == SIGPROF ? ORACLE_STOPPED : (unsigned)regs[REG_TRAPNO];
    end->error = (uint64_t)regs[REG_ERR];
    end->cr2 = (uint64_t)regs[REG_CR2];
    memcpy(end->xsave, uc->uc_mcontext.fpregs, ORACLE_XSAVE);
    regs[REG_RIP] = (greg_t)(uintptr_t)oracle_host_exit;
    regs[REG_EFL] = 0x202;
    regs[REG_CSGSFS] = (greg_t)((uint64_t)HOST_DATA << 48 | HOST_CODE64); /* SS, FS, GS, CS */
}

void oracle_host_watch(void (*tick)(void))
{
    const struct timeval period = {.tv_usec = tick == NULL ? 0 : ORACLE_TICK_MS * 1000};
    struct sigaction sa = {.sa_sigaction = oracle_host_handler,
                           .sa_flags = SA_SIGINFO | SA_ONSTACK | SA_RESTART};

    if (tick != NULL) {
        host_tick = tick;
        g_assert(sigaction(SIGPROF, &sa, NULL) == 0);
    }
    g_assert(setitimer(ITIMER_PROF, &(struct itimerval){period, period}, NULL) == 0);
}

static uint8_t *host_map(uint64_t at, size_t size, int prot)
{
    int fd = memfd_create("oracle", MFD_CLOEXEC);
    uint8_t *rw;
    void *fixed;

    g_assert(fd >= 0 && ftruncate(fd, (off_t)size) == 0);
    rw = mmap(NULL, size, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_POPULATE, fd, 0);
    fixed = mmap((void *)(uintptr_t)at, size, prot, MAP_SHARED | MAP_FIXED | MAP_POPULATE, fd, 0);
    g_assert(rw != MAP_FAILED && fixed == (void *)(uintptr_t)at);
    close(fd);
    return rw;
}

static void host_reserve(uint64_t at, size_t size)
{
    g_assert(mmap((void *)(uintptr_t)at, size, PROT_NONE,
                  MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED_NOREPLACE, -1, 0) != MAP_FAILED);
}

void oracle_host_reserve(void)
{
    host_reserve(ORACLE_CODE, ORACLE_CODE_SIZE);
    host_reserve(ORACLE_DATA, ORACLE_DATA_SIZE);
}

void oracle_host_init(void)
{
    static const int signals[] = {SIGTRAP, SIGSEGV, SIGBUS, SIGILL, SIGFPE};
    stack_t alt = {.ss_size = 256 << 10};

    __asm__ volatile("rdfsbase %0" : "=r"(oracle_host_fs_base));
    alt.ss_sp = g_malloc0(alt.ss_size);
    g_assert(sigaltstack(&alt, NULL) == 0);
    for (unsigned i = 0; i < G_N_ELEMENTS(signals); i++) {
        struct sigaction sa = {.sa_sigaction = oracle_host_handler,
                               .sa_flags = SA_SIGINFO | SA_ONSTACK | SA_NODEFER};

        g_assert(sigaction(signals[i], &sa, &host_previous[signals[i]]) == 0);
    }
    host_code = host_map(ORACLE_CODE, ORACLE_CODE_SIZE, PROT_READ | PROT_EXEC);
    host_data = host_map(ORACLE_DATA, ORACLE_DATA_SIZE, PROT_READ | PROT_WRITE);
    g_assert(mprotect((void *)(uintptr_t)(ORACLE_DATA + ORACLE_RW_SIZE),
                      ORACLE_DATA_SIZE - ORACLE_RW_SIZE, PROT_READ) == 0);
    memset(host_code, 0xcc, ORACLE_CODE_SIZE);
    __asm__ volatile("wrgsbase %0" : : "r"(ORACLE_GS_BASE));
}

/* ---- FS and GS of 32-bit code ---- */

/* set_thread_area(), which only 32-bit system calls have. entry -1: Linux chooses, and fills in
 * which. */
static long host_set_thread_area(struct user_desc *d)
{
    long ret = 243;

    __asm__ volatile("int $0x80" : "+a"(ret) : "b"(d) : "memory", "r8", "r9", "r10", "r11");
    return ret;
}

static bool host_segment(unsigned selector, const struct oracle_segment *s)
{
    static struct user_desc *d; /* below 4 GiB, and not there while programs run */
    bool pages = s->limit > 0xfffff;
    long ret;

    if (d == NULL) {
        d = mmap((void *)0x28a51000, sizeof(*d), PROT_READ | PROT_WRITE,
                 MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED_NOREPLACE, -1, 0);
        g_assert(d != MAP_FAILED);
    }
    g_assert(mprotect(d, sizeof(*d), PROT_READ | PROT_WRITE) == 0);
    *d = (struct user_desc){
        .entry_number = selector >> 3,
        .base_addr = s->base,
        .limit = pages ? s->limit >> 12 : s->limit,
        .seg_32bit = 1,
        .read_exec_only = s->read_only,
        .limit_in_pages = pages,
        .useable = 1,
    };
    ret = host_set_thread_area(d);
    g_assert(mprotect(d, sizeof(*d), PROT_NONE) == 0);
    return ret == 0;
}

/* In a child: a kernel without 32-bit system calls ends it by a signal. */
bool oracle_host_compat(void)
{
    uint32_t rights = 0, code = HOST_CODE32;
    int status = -1;
    pid_t child;

    __asm__ volatile("lar %1, %0" : "+r"(rights) : "r"(code) : "cc");
    if ((rights & 0x60f800) != 0x40f800) { /* present 32-bit code of CPL 3 */
        return false;
    }
    child = fork();
    if (child == 0) {
        signal(SIGSEGV, SIG_DFL);
        _exit(!host_segment(ORACLE_SEL_FS, &(struct oracle_segment){.limit = UINT32_MAX}));
    }
    return child > 0 && waitpid(child, &status, 0) == child && status == 0;
}

uint8_t *oracle_host_data(void)
{
    return host_data;
}

static void host_prefault(void)
{
    volatile uint8_t *p = (volatile uint8_t *)(uintptr_t)ORACLE_DATA;

    for (unsigned i = 0; i < ORACLE_RW_SIZE; i += 4096) {
        p[i] = p[i];
    }
}

uint8_t *oracle_host_code(void)
{
    return host_code;
}

bool oracle_host_writable_code(void)
{
    return mprotect((void *)(uintptr_t)ORACLE_CODE, ORACLE_CODE_SIZE,
                    PROT_READ | PROT_WRITE | PROT_EXEC) == 0;
}

static void *host_hidden;
static size_t host_hidden_size;

void oracle_host_hide(void *at, size_t size)
{
    host_hidden = at;
    host_hidden_size = size;
}

static void host_hide(int prot)
{
    if (host_hidden != NULL && mprotect(host_hidden, host_hidden_size, prot) != 0) {
        g_error("mprotect: %s", g_strerror(errno));
    }
}

void oracle_host_program(const struct oracle_case *c, const uint8_t *code, unsigned len,
                         struct oracle_state *end)
{
    struct host_context *ctx = &oracle_host_context;
    static bool ready;

    if (!ready) {
        host_prefault();
        ready = true;
    }
    memcpy(ctx->gpr, c->start.gpr, sizeof(ctx->gpr));
    memcpy(ctx->xsave, c->start.xsave, ORACLE_XSAVE);
    ctx->rip = c->rip;
    ctx->rflags = c->start.rflags;
    memcpy(host_code + (c->rip - ORACLE_CODE), code, len);
    host_result = end;
    host_hide(PROT_NONE);
    if (c->mode == INSN_MODE_32) {
        ctx->far_offset = (uint32_t)c->rip;
        ctx->far_selector = HOST_CODE32;
        ctx->fs = ctx->gs = 0;
        if (c->segments) {
            g_assert(host_segment(ORACLE_SEL_FS, &c->fs) && host_segment(ORACLE_SEL_GS, &c->gs));
            ctx->fs = ORACLE_SEL_FS;
            ctx->gs = ORACLE_SEL_GS;
        }
        oracle_host_enter32();
    } else {
        oracle_host_enter();
    }
    host_hide(PROT_READ | PROT_WRITE);
}

void oracle_host_run(const struct oracle_case *c, struct oracle_state *end)
{
    oracle_host_program(c, c->bytes, c->len, end);
    memset(host_code + (c->rip - ORACLE_CODE), 0xcc, c->len);
}
