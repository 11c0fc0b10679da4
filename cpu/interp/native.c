/* SPDX-License-Identifier: MIT */
/*
 * Instructions that run natively (x87, MMX, SSE, AVX, BMI ...): the guest's vector and x87
 * state is brought into the host's registers on first use and stays there until somebody else
 * may need them. Exceptions raised by the host inside a thunk (#MF, #XM, #UD, #GP) arrive as
 * signals and become the guest's.
 *
 * FIP, FDP and FOP are whatever the host records; a guest sees addresses inside a thunk there.
 *
 * The signal handlers are the process's: installed once, they pass everything that did not
 * happen in a thunk of this thread to whoever was installed before.
 */
#include "native.h"

#include <signal.h>
#include <sys/mman.h>
#include <ucontext.h>

enum { ALT_STACK = 64 << 10, XSAVE_HEADER = 512 };

static _Thread_local struct interp *native_current;

/* int native_call(code, gpr, mem, fl, saved_rsp): 0, or the vector of an exception. */
int native_call(const void *code, uint64_t *gpr, void *mem, uint32_t *fl, uint64_t *saved_rsp);
extern const char native_call_fault[];

__asm__(".text\n"
        ".globl native_call\n"
        ".hidden native_call\n"
        ".type native_call, @function\n"
        "native_call:\n\t"
        "push %rbx\n\tpush %rbp\n\tpush %r12\n\tpush %r13\n\tpush %r14\n\tpush %r15\n\t"
        "push %rcx\n\t"
        "mov %rsp, (%r8)\n\t"
        "mov %rdi, %r11\n\t"
        "mov (%rcx), %eax\n\t"
        "mov %rsi, %rdi\n\t"
        "mov %rdx, %rsi\n\t"
        "call *%r11\n\t"
        "pop %rcx\n\t"
        "mov %eax, (%rcx)\n\t"
        "xor %edi, %edi\n"
        "1:\n\t"
        "mov %edi, %eax\n\t"
        "pop %r15\n\tpop %r14\n\tpop %r13\n\tpop %r12\n\tpop %rbp\n\tpop %rbx\n\t"
        "ret\n"
        ".globl native_call_fault\n"
        ".hidden native_call_fault\n"
        "native_call_fault:\n\t"
        "pop %rcx\n\t"
        "jmp 1b\n"
        ".size native_call, . - native_call\n");

static struct sigaction native_previous[65];

static void native_signal(int sig, siginfo_t *info, void *context)
{
    ucontext_t *uc = context;
    greg_t *regs = uc->uc_mcontext.gregs;
    struct interp *e = native_current;

    (void)info;
    if (e == NULL || !thunk_owns(e->native, (uint64_t)regs[REG_RIP])) {
        /* Not ours: the instruction runs again under the previous handler. */
        sigaction(sig, &native_previous[sig], NULL);
        return;
    }
    if (thunk_is_simple(e->native, (uint64_t)regs[REG_RIP])) {
        /* As if it returned, with the vector instead of 0. */
        regs[REG_RAX] = regs[REG_TRAPNO];
        regs[REG_RIP] = *(const greg_t *)(uintptr_t)regs[REG_RSP];
        regs[REG_RSP] += 8;
        return;
    }
    regs[REG_RDI] = regs[REG_TRAPNO];
    regs[REG_RSP] = (greg_t)e->fpu_thread_rsp;
    regs[REG_RIP] = (greg_t)(uintptr_t)native_call_fault;
}

static void native_install(void)
{
    static gsize once;
    static const int signals[] = {SIGFPE, SIGILL, SIGSEGV, SIGBUS};

    if (g_once_init_enter(&once)) {
        for (unsigned i = 0; i < G_N_ELEMENTS(signals); i++) {
            struct sigaction sa = {.sa_sigaction = native_signal,
                                   .sa_flags = SA_SIGINFO | SA_ONSTACK | SA_NODEFER};

            sigemptyset(&sa.sa_mask);
            sigaction(signals[i], &sa, &native_previous[signals[i]]);
        }
        g_once_init_leave(&once, 1);
    }
}

bool interp_native_init(struct interp *e, GError **err)
{
    e->native = thunk_cache_new(err);
    if (e->native == NULL) {
        return false;
    }
    e->alt_stack = g_malloc0(ALT_STACK);
    native_install();
    return true;
}

void interp_native_fini(struct interp *e)
{
    thunk_cache_free(e->native);
    g_free(e->alt_stack);
}

void interp_native_enter_thread(struct interp *e)
{
    stack_t alt = {.ss_sp = e->alt_stack, .ss_size = ALT_STACK};

    sigaltstack(&alt, &e->previous_alt);
    native_current = e;
}

void interp_native_leave_thread(struct interp *e)
{
    native_current = NULL;
    sigaltstack(&e->previous_alt, NULL);
}

/* The header must be sane whoever wrote the state, or XRSTOR faults. */
void interp_fpu_load(struct interp *e)
{
    uint8_t *area = e->v->cpu.xsave;
    uint64_t *header = (uint64_t *)(void *)(area + XSAVE_HEADER);
    uint32_t *mxcsr = (uint32_t *)(void *)(area + 24);
    uint32_t host;

    header[0] &= e->host_xcr0;
    for (unsigned i = 1; i < 8; i++) {
        header[i] = 0;
    }
    *mxcsr &= e->mxcsr_mask;
    __asm__ volatile("stmxcsr %0" : "=m"(host));
    e->host_mxcsr = host;
    __asm__ volatile("xrstor64 (%0)" : : "r"(area), "a"(CPU_XCR0_MASK), "d"(0) : "memory");
    e->fpu_resident = true;
}

void interp_fpu_home(struct interp *e)
{
    static const uint16_t fcw = 0x37f;
    uint8_t *area = e->v->cpu.xsave;

    if (!e->fpu_resident) {
        return;
    }
    e->fpu_resident = false;
    __asm__ volatile("xsave64 (%0)" : : "r"(area), "a"(CPU_XCR0_MASK), "d"(0) : "memory");
    /* The host's own: round to nearest, all masked, an empty x87 stack. */
    if (area[4] != 0 || *(uint16_t *)(void *)area != fcw || (area[2] & 0x80) != 0) {
        __asm__ volatile("fninit\n\tfldcw %0" : : "m"(fcw));
    }
    __asm__ volatile("ldmxcsr %0" : : "m"(e->host_mxcsr));
    if ((e->host_xcr0 & 4) != 0) {
        __asm__ volatile("vzeroupper"); /* or SSE code of the host runs slowly */
    }
}

static int native_mem_index(const struct insn *in)
{
    for (unsigned i = 0; i < in->nr_operands; i++) {
        if (in->op[i].kind == OPK_MEM) {
            return (int)i;
        }
    }
    return -1;
}

/* The exception a thunk ended with becomes the guest's. Returns false. */
bool interp_native_fault(struct interp *e, int vector)
{
    if (vector == CPU_GP || vector == CPU_PAGE_FAULT) {
        return interp_fault_code(e, CPU_GP, 0);
    }
    if (vector == CPU_XM && (e->v->cpu.cr4 & CPU_CR4_OSXMMEXCPT) == 0) {
        vector = CPU_UD;
    }
    return interp_fault(e, (uint8_t)vector);
}

static bool native_run(struct interp *e, const struct insn *in, int32_t thunk, void *mem)
{
    const void *code = thunk_code(e->native, thunk);
    int vector;

    if ((in->flags & NATIVE_CLASSES) != 0 && !e->fpu_resident) {
        interp_fpu_load(e);
    }
    if (thunk_is_simple(e->native, (uint64_t)(uintptr_t)code)) {
        vector = interp_native_call(code, mem);
    } else {
        vector = native_call(code, e->v->cpu.gpr, mem, &e->fl, &e->fpu_thread_rsp);
    }
    return likely(vector == 0) || interp_native_fault(e, vector);
}

/* ---- vector registers in the saved image ---- */

/* x87 and MMX that do not look for pending exceptions: FNSTENV FNSTCW FNSAVE FNSTSW. */
static bool native_no_wait(const struct insn *in)
{
    unsigned reg = in->modrm >> 3 & 7;

    if (in->map == INSN_MAP_0F) {
        return in->opcode == 0x2a; /* CVTPI2PS with memory touches no MMX register */
    }
    return (in->opcode == 0xd9 || in->opcode == 0xdd) && reg >= 6;
}

static uint8_t *native_xmm(struct interp *e, unsigned reg)
{
    return e->v->cpu.xsave + 160 + 16 * reg;
}

static uint8_t *native_ymm_high(struct interp *e, unsigned reg)
{
    return e->v->cpu.xsave + 576 + 16 * reg;
}

static uint64_t native_element(struct interp *e, unsigned reg, unsigned i, unsigned size)
{
    unsigned byte = i * size;
    const uint8_t *p =
        byte < 16 ? native_xmm(e, reg) + byte : native_ymm_high(e, reg) + byte - 16;

    return size == 4 ? *(const uint32_t *)(const void *)p : *(const uint64_t *)(const void *)p;
}

static void native_set_element(struct interp *e, unsigned reg, unsigned i, unsigned size,
                               uint64_t val)
{
    unsigned byte = i * size;
    uint8_t *p = byte < 16 ? native_xmm(e, reg) + byte : native_ymm_high(e, reg) + byte - 16;

    if (size == 4) {
        *(uint32_t *)(void *)p = (uint32_t)val;
    } else {
        *(uint64_t *)(void *)p = val;
    }
}

/* The image is home and its components count as in use. */
static void native_image_open(struct interp *e)
{
    if (!e->fpu_resident) {
        interp_fpu_load(e); /* components in their initial state get their bytes */
    }
    interp_fpu_home(e);
    *(uint64_t *)(void *)(e->v->cpu.xsave + XSAVE_HEADER) |= 6;
}

bool interp_native_zero8(const struct insn *in)
{
    return in->mode != INSN_MODE_64 && in->encoding == INSN_ENC_VEX && in->map == INSN_MAP_0F &&
           in->opcode == 0x77;
}

static void native_zero8(struct interp *e, const struct insn *in)
{
    native_image_open(e);
    for (unsigned reg = 0; reg < 8; reg++) {
        for (unsigned i = in->vlen == 32 ? 0 : 2; i < 4; i++) {
            native_set_element(e, reg, i, 8, 0);
        }
    }
}

/* ---- masked loads and stores ---- */

static unsigned native_mask_size(const struct insn *in)
{
    switch (in->opcode) {
    case 0x2c:
    case 0x2e:
        return 4;
    case 0x2d:
    case 0x2f:
        return 8;
    default:
        return (in->rex & INSN_REX_W) != 0 ? 8 : 4;
    }
}

/* Element by element: those masked off are never touched. */
static bool native_masked(struct interp *e, const struct insn *in, int32_t thunk, int mem)
{
    unsigned size = native_mask_size(in), nr = in->op[mem].size / size;
    bool store = (in->op[mem].access & OPA_WRITE) != 0;
    uint64_t off = interp_offset(e, in), buffer[4] = {0};
    uint8_t *bytes = (uint8_t *)buffer;
    struct mref m[8];
    unsigned live = 0;

    native_image_open(e);
    for (unsigned i = 0; i < nr; i++) {
        uint64_t va, at = (off + i * size) & interp_mask(in->addrsize);

        if ((native_element(e, in->vvvv, i, size) >> (size * 8 - 1) & 1) == 0) {
            continue;
        }
        if (!interp_linear(e, in->seg, at, size, store ? X86_WRITE : X86_READ, &va) ||
            !interp_mref(e, va, size, store ? X86_WRITE : X86_READ, &m[i])) {
            return false;
        }
        live |= 1u << i;
        if (!store) {
            interp_mref_read(e, &m[i], bytes + i * size);
        }
    }
    if (!native_run(e, in, thunk, buffer)) {
        return false;
    }
    for (unsigned i = 0; store && i < nr; i++) {
        if ((live >> i & 1) != 0) {
            interp_mref_write(e, &m[i], bytes + i * size);
        }
    }
    return true;
}

static bool native_gather(struct interp *e, const struct insn *in)
{
    unsigned size = (in->rex & INSN_REX_W) != 0 ? 8 : 4;
    unsigned isize = (in->opcode & 1) != 0 ? 8 : 4;
    unsigned dst = (in->modrm >> 3 & 7) | ((in->rex & INSN_REX_R) != 0 ? 8 : 0);
    unsigned nr = in->vlen / MAX(size, isize), mask = in->vvvv, index = in->index;
    uint64_t base = interp_offset(e, in);

    if (dst == mask || dst == index || mask == index) {
        return interp_fault(e, CPU_UD);
    }
    native_image_open(e);
    for (unsigned i = 0; i < nr; i++) {
        uint64_t idx = native_element(e, index, i, isize), off, va;
        struct mref m;

        if ((native_element(e, mask, i, size) >> (size * 8 - 1) & 1) == 0) {
            native_set_element(e, mask, i, size, 0);
            continue;
        }
        if (isize == 4) {
            idx = (uint64_t)(int32_t)idx;
        }
        off = (base + idx * in->scale) & interp_mask(in->addrsize);
        if (!interp_linear(e, in->seg, off, size, X86_READ, &va) ||
            !interp_mref(e, va, size, X86_READ, &m)) {
            return false;
        }
        native_set_element(e, dst, i, size, interp_mref_load(e, &m));
        native_set_element(e, mask, i, size, 0);
    }
    for (unsigned byte = 0; byte < 32; byte += 4) {
        native_set_element(e, mask, byte / 4, 4, 0);
        if (byte >= nr * size) {
            native_set_element(e, dst, byte / 4, 4, 0);
        }
    }
    return true;
}

/* MASKMOVQ, MASKMOVDQU: run on two backgrounds; bytes that come out equal were stored. */
static bool native_maskmov(struct interp *e, const struct insn *in, int32_t thunk)
{
    unsigned nr = (in->flags & INSN_F_MMX) != 0 ? 8 : 16;
    uint64_t zeros[2] = {0, 0}, ones[2] = {UINT64_MAX, UINT64_MAX};
    const uint8_t *a = (const uint8_t *)zeros, *b = (const uint8_t *)ones;
    uint64_t off = e->v->cpu.gpr[CPU_RDI];
    struct mref m[16];

    if (!native_run(e, in, thunk, zeros) || !native_run(e, in, thunk, ones)) {
        return false;
    }
    for (unsigned i = 0; i < nr; i++) {
        uint64_t va;

        if (a[i] == b[i] && (!interp_linear(e, in->seg, (off + i) & interp_mask(in->addrsize),
                                            1, X86_WRITE, &va) ||
                             !interp_mref(e, va, 1, X86_WRITE, &m[i]))) {
            return false;
        }
    }
    for (unsigned i = 0; i < nr; i++) {
        if (a[i] == b[i]) {
            interp_mref_write(e, &m[i], &a[i]);
        }
    }
    return true;
}

/* Page-crossing, MMIO and code pages: through a buffer. */
static bool native_bounce(struct interp *e, const struct insn *in, int32_t thunk,
                          unsigned access)
{
    _Alignas(64) uint8_t area[256];
    uint8_t *buffer = area + (e->m.va & 63); /* as misaligned as the operand */
    struct mref m = e->m;

    g_assert(m.len <= sizeof(area) - 64);
    for (unsigned i = 0; i < m.len; i++) {
        buffer[i] = 0;
    }
    /* Read for writes too: an x87 store with an unmasked exception stores nothing. */
    if ((access & OPA_READ) != 0 ||
        (m.part[0] != NULL && (m.len1 == m.len || m.part[1] != NULL))) {
        interp_mref_read(e, &m, buffer);
    }
    if (!native_run(e, in, thunk, buffer)) {
        return false;
    }
    if ((access & OPA_WRITE) != 0) {
        interp_mref_write(e, &m, buffer);
    }
    return true;
}

/* An x87 exception from before is reported before anything about the memory operand. */
static bool native_pending_x87(struct interp *e, const struct insn *in)
{
    uint16_t fsw;

    if ((in->flags & (INSN_F_X87 | INSN_F_MMX)) == 0 || native_no_wait(in)) {
        return false;
    }
    if (e->fpu_resident) {
        __asm__ volatile("fnstsw %0" : "=m"(fsw));
    } else {
        fsw = *(const uint16_t *)(const void *)(e->v->cpu.xsave + 2);
        if ((e->v->cpu.xsave[XSAVE_HEADER] & 1) == 0) {
            fsw = 0;
        }
    }
    return (fsw & 0x80) != 0 && !interp_fault(e, CPU_MF);
}

/* MOVAPS MOVAPD MOVDQA MOVNTPS MOVNTPD MOVNTDQ MOVNTDQA, with VEX too. */
static bool native_aligned_move(const struct insn *in)
{
    const unsigned op = in->opcode;

    return in->map == INSN_MAP_0F ? op == 0x28 || op == 0x29 || op == 0x2b || op == 0x6f ||
                                        op == 0x7f || op == 0xe7
                                  : in->map == INSN_MAP_0F38 && op == 0x2a;
}

/* AMD's MXCSR.MM (APM vol. 1 4.3.2): all others may then be misaligned. */
static bool native_misaligned(const struct interp *e, const struct insn *in)
{
    enum { MXCSR_MM = 1 << 17 };
    uint32_t mxcsr = *(const uint32_t *)(const void *)(e->v->cpu.xsave + 24);

    if (e->fpu_resident) {
        __asm__ volatile("stmxcsr %0" : "=m"(mxcsr));
    }
    return (mxcsr & e->mxcsr_mask & MXCSR_MM) != 0 && !native_aligned_move(in);
}

static bool native_with_memory(struct interp *e, const struct insn *in, int32_t thunk, int mem)
{
    unsigned access = in->op[mem].access, size = in->op[mem].size;
    unsigned want = (access & OPA_WRITE) != 0 ? X86_WRITE : X86_READ;
    bool masked = (in->flags & INSN_F_MASKED_MEM) != 0;
    uint64_t off = interp_offset(e, in) + e->v->cpu.seg[in->seg].base, va;

    /* AMD's SHA instructions do not mind; Intel's fault when they run. */
    if (unlikely((in->flags & INSN_F_ALIGNED) != 0 && (off & (size - 1)) != 0 &&
                 in->feature != INSN_FEAT_SHA && !native_misaligned(e, in))) {
        return !native_pending_x87(e, in) && interp_fault_code(e, CPU_GP, 0);
    }
    if (!interp_linear(e, in->seg, interp_offset(e, in), size, want, &va) ||
        !interp_mref(e, va, size, want, &e->m)) {
        return masked ? native_masked(e, in, thunk, mem) : native_pending_x87(e, in) && false;
    }
    if (likely(e->m.len1 == size && e->m.part[0] != NULL && !e->m.code[0])) {
        return native_run(e, in, thunk, e->m.part[0]);
    }
    return masked ? native_masked(e, in, thunk, mem) : native_bounce(e, in, thunk, access);
}

static bool native_execute(struct interp *e, const struct insn *in, int32_t thunk)
{
    int mem;

    if (unlikely((in->flags & e->native_missing) != 0)) {
        interp_fpu_home(e);
        if (!x86_native_allowed(e->v, in, &e->fault)) {
            return false;
        }
    }
    if (unlikely((in->flags & (INSN_F_VSIB | INSN_F_MEM_IMPLICIT)) != 0)) {
        return (in->flags & INSN_F_VSIB) != 0 ? native_gather(e, in)
                                              : native_maskmov(e, in, thunk);
    }
    if (unlikely(interp_native_zero8(in))) {
        native_zero8(e, in);
        return true;
    }
    mem = native_mem_index(in);
    return mem < 0 ? native_run(e, in, thunk, NULL) : native_with_memory(e, in, thunk, mem);
}

bool interp_native(struct interp *e, const struct insn *in)
{
    int32_t thunk = 0;

    interp_fpu_home(e);
    if ((in->flags & INSN_F_VSIB) == 0) {
        thunk = thunk_get(e, in);
        if (thunk == THUNK_NONE) {
            thunk_cache_reset(e->native);
            interp_attend(e, ATTENTION_DROP, true);
            e->break_block = true;
            thunk = thunk_get(e, in);
        }
    }
    return native_execute(e, in, thunk);
}

const void *interp_native_simple(struct interp *e, const struct insn *in)
{
    const void *code;
    int32_t thunk;

    if ((in->flags & (INSN_F_VSIB | INSN_F_MEM_IMPLICIT | INSN_F_MASKED_MEM)) != 0 ||
        interp_native_zero8(in)) {
        return NULL;
    }
    thunk = thunk_get(e, in);
    if (thunk == THUNK_NONE) {
        return NULL;
    }
    code = thunk_code(e->native, thunk);
    return thunk_is_simple(e->native, (uint64_t)(uintptr_t)code) ? code : NULL;
}

bool interp_native_prepare(struct interp *e, struct op *op)
{
    op->disp = 0;
    if ((op->in->flags & INSN_F_VSIB) == 0) {
        op->disp = thunk_get(e, op->in);
    }
    return op->disp != THUNK_NONE;
}

bool interp_native_op(struct interp *e, const struct op *op)
{
    return native_execute(e, op->in, op->disp);
}
