/* SPDX-License-Identifier: MIT */
/*
 * FXSAVE, FXRSTOR and the XSAVE family between v->cpu.xsave (standard format, 64-bit pointers)
 * and guest memory, in plain C (Intel SDM vol. 1 chapter 13). States: x87, SSE, AVX; with these
 * three the compacted format has the same layout as the standard one, and only the header rules
 * differ.
 *
 * Choices: FCS and FDS are saved as zero and ignored; FIP, FDP and FOP are always saved and
 * restored (AMD with XSaveErPtr); there is no "modified" optimisation; bytes 416..511 are not
 * written. A component whose bit in the home XSTATE_BV is clear is in its initial state,
 * whatever its bytes are; MXCSR is always valid.
 */
#include "cpu/x86/x86.h"

#include <string.h>

#include "cpu/x86/internal.h"

enum {
    X87 = 1, SSE = 2, AVX = 4,
    FXSAVE_SIZE = 512, XSAVE_MIN = 576, XSAVE_MAX = 832,
    AT_FOP = 6, AT_FIP = 8, AT_FDP = 16, AT_MXCSR = 24, AT_MXCSR_MASK = 28, AT_ST = 32,
    AT_XMM = 160, AT_XMM_END = 416, AT_XSTATE_BV = 512, AT_XCOMP_BV = 520, AT_HEADER_REST = 528,
    AT_AVX = 576, X87_INIT_FCW = 0x37f,
};
#define MXCSR_INIT 0x1f80u
#define XCOMP_COMPACTED (1ull << 63)

static uint64_t fpu_get64(const uint8_t *p)
{
    uint64_t value;

    memcpy(&value, p, 8);
    return value;
}

static void fpu_put64(uint8_t *p, uint64_t value)
{
    memcpy(p, &value, 8);
}

static uint32_t fpu_get32(const uint8_t *p)
{
    uint32_t value;

    memcpy(&value, p, 4);
    return value;
}

static void fpu_put32(uint8_t *p, uint32_t value)
{
    memcpy(p, &value, 4);
}

static uint64_t fpu_in_use(const struct cpu_x86 *cpu)
{
    return fpu_get64(cpu->xsave + AT_XSTATE_BV) & CPU_XCR0_MASK;
}

static void fpu_set_in_use(struct cpu_x86 *cpu, uint64_t bits)
{
    fpu_put64(cpu->xsave + AT_XSTATE_BV, bits);
}

/* Writes the initial values of components (not MXCSR) into an area. */
static void fpu_init_bytes(uint8_t *area, uint64_t components)
{
    if ((components & X87) != 0) {
        const uint16_t fcw = X87_INIT_FCW;

        memset(area, 0, AT_MXCSR);
        memcpy(area, &fcw, 2);
        memset(area + AT_ST, 0, AT_XMM - AT_ST);
    }
    if ((components & SSE) != 0) {
        memset(area + AT_XMM, 0, AT_XMM_END - AT_XMM);
    }
    if ((components & AVX) != 0) {
        memset(area + AT_AVX, 0, XSAVE_MAX - AT_AVX);
    }
}

/* What the registers hold, as a standard-format area in the pointer format of the
 * instruction. */
static void fpu_image(const struct vcpu *v, const struct insn *in, uint8_t area[XSAVE_MAX])
{
    const struct cpu_x86 *cpu = &v->cpu;

    memcpy(area, cpu->xsave, XSAVE_MAX);
    fpu_init_bytes(area, ~fpu_in_use(cpu));
    if (in->opsize != 8) {
        fpu_put32(area + AT_FIP + 4, 0);
        fpu_put32(area + AT_FDP + 4, 0);
    }
    fpu_put32(area + AT_MXCSR_MASK, cpu_model_of(v)->mxcsr_mask);
}

static size_t fpu_xmm_bytes(const struct insn *in)
{
    return in->mode == INSN_MODE_64 ? 256 : 128;
}

/* Puts components from an area (checked) into the registers. */
static void fpu_load(struct cpu_x86 *cpu, const struct insn *in, const uint8_t *area,
                     uint64_t components)
{
    uint64_t used = fpu_in_use(cpu);

    fpu_init_bytes(cpu->xsave, components & ~used);
    if ((components & X87) != 0) {
        memcpy(cpu->xsave, area, AT_MXCSR);
        memcpy(cpu->xsave + AT_ST, area + AT_ST, AT_XMM - AT_ST);
        if (in->opsize != 8) {
            fpu_put32(cpu->xsave + AT_FIP + 4, 0);
            fpu_put32(cpu->xsave + AT_FDP + 4, 0);
        }
    }
    if ((components & SSE) != 0) {
        memcpy(cpu->xsave + AT_XMM, area + AT_XMM, fpu_xmm_bytes(in));
    }
    if ((components & AVX) != 0) {
        memcpy(cpu->xsave + AT_AVX, area + AT_AVX, fpu_xmm_bytes(in));
    }
    fpu_set_in_use(cpu, used | components);
}

/* Puts components into their initial state; in 32-bit modes only registers 0..7 are reached. */
static void fpu_load_init(struct cpu_x86 *cpu, const struct insn *in, uint64_t components)
{
    uint64_t used = fpu_in_use(cpu);

    if (in->mode == INSN_MODE_64) {
        fpu_init_bytes(cpu->xsave, components);
        fpu_set_in_use(cpu, used & ~components);
        return;
    }
    fpu_init_bytes(cpu->xsave, components & (~used | X87));
    if ((components & SSE) != 0) {
        memset(cpu->xsave + AT_XMM, 0, fpu_xmm_bytes(in));
    }
    if ((components & AVX) != 0) {
        memset(cpu->xsave + AT_AVX, 0, fpu_xmm_bytes(in));
    }
    fpu_set_in_use(cpu, used & ~(components & X87));
}

static bool fpu_mxcsr_ok(const struct vcpu *v, uint32_t mxcsr)
{
    return (mxcsr & ~cpu_model_of(v)->mxcsr_mask) == 0;
}

/* Linear address of the area, aligned as required. */
static bool fpu_area(struct x86_system *s, size_t size, unsigned align, unsigned access,
                     uint64_t *gva)
{
    if (s->in->modrm >= 0xc0) {
        return x86_fault_ud(s->fault);
    }
    if (!x86_insn_linear(s->v, s->in, 0, size, access, gva, s->fault)) {
        return false;
    }
    if ((*gva & (align - 1)) != 0) {
        return x86_fault_gp(s->fault, 0);
    }
    return true;
}

/* ---- FXSAVE, FXRSTOR ---- */

static bool fpu_fx_allowed(struct x86_system *s)
{
    if ((s->cpu->cr0 & (CPU_CR0_EM | CPU_CR0_TS)) != 0) {
        return x86_fault_plain(s->fault, CPU_NM);
    }
    return true;
}

bool x86_sys_fxsave(struct x86_system *s)
{
    uint8_t area[XSAVE_MAX];
    uint64_t gva;

    if (!fpu_fx_allowed(s) || !fpu_area(s, FXSAVE_SIZE, 16, X86_WRITE, &gva) ||
        !x86_check_linear(s->v, gva, FXSAVE_SIZE, X86_WRITE | x86_cpl_access(s->v), s->fault)) {
        return false;
    }
    fpu_image(s->v, s->in, area);
    return x86_write_linear(s->v, gva, area, AT_XMM + fpu_xmm_bytes(s->in),
                            X86_WRITE | x86_cpl_access(s->v), s->fault);
}

bool x86_sys_fxrstor(struct x86_system *s)
{
    uint8_t area[FXSAVE_SIZE];
    uint32_t mxcsr;
    uint64_t gva;

    if (!fpu_fx_allowed(s) || !fpu_area(s, FXSAVE_SIZE, 16, X86_READ, &gva) ||
        !x86_read_linear(s->v, gva, area, FXSAVE_SIZE, X86_READ | x86_cpl_access(s->v),
                         s->fault)) {
        return false;
    }
    mxcsr = fpu_get32(area + AT_MXCSR);
    if (!fpu_mxcsr_ok(s->v, mxcsr)) {
        return x86_fault_gp(s->fault, 0);
    }
    fpu_load(s->cpu, s->in, area, X87 | SSE);
    fpu_put32(s->cpu->xsave + AT_MXCSR, mxcsr);
    return true;
}

/* ---- XSAVE ---- */

static bool fpu_xsave_allowed(struct x86_system *s)
{
    if ((s->cpu->cr4 & CPU_CR4_OSXSAVE) == 0) {
        return x86_fault_ud(s->fault);
    }
    if ((s->cpu->cr0 & CPU_CR0_TS) != 0) {
        return x86_fault_plain(s->fault, CPU_NM);
    }
    return true;
}

static uint64_t fpu_requested(const struct cpu_x86 *cpu)
{
    return cpu->xcr0 & (cpu->gpr[CPU_RDX] << 32 | (uint32_t)cpu->gpr[CPU_RAX]);
}

struct fpu_writer {
    struct x86_system *s;
    const uint8_t *area;
    uint64_t gva;
    bool ok;
};

static void fpu_write(struct fpu_writer *w, unsigned at, size_t len)
{
    if (w->ok) {
        w->ok = x86_write_linear(w->s->v, w->gva + at, w->area + at, len,
                                 X86_WRITE | x86_cpl_access(w->s->v), w->s->fault);
    }
}

static void fpu_write_components(struct fpu_writer *w, uint64_t components, bool mxcsr)
{
    if ((components & X87) != 0) {
        fpu_write(w, 0, AT_MXCSR);
        fpu_write(w, AT_ST, AT_XMM - AT_ST);
    }
    if (mxcsr) {
        fpu_write(w, AT_MXCSR, 8);
    }
    if ((components & SSE) != 0) {
        fpu_write(w, AT_XMM, fpu_xmm_bytes(w->s->in));
    }
    if ((components & AVX) != 0) {
        fpu_write(w, AT_AVX, fpu_xmm_bytes(w->s->in));
    }
}

static bool fpu_save_compacted(struct x86_system *s, uint64_t gva, uint64_t requested,
                               uint8_t *area)
{
    uint64_t used = fpu_in_use(s->cpu);
    struct fpu_writer w = {s, area, gva, true};

    if (fpu_get32(area + AT_MXCSR) != MXCSR_INIT) {
        used |= SSE;
    }
    used &= requested;
    fpu_write_components(&w, used, (used & SSE) != 0);
    fpu_put64(area + AT_XSTATE_BV, used);
    fpu_put64(area + AT_XCOMP_BV, requested | XCOMP_COMPACTED);
    fpu_write(&w, AT_XSTATE_BV, 16);
    return w.ok;
}

static bool fpu_save_standard(struct x86_system *s, uint64_t gva, uint64_t requested,
                              uint8_t *area)
{
    uint64_t used = fpu_in_use(s->cpu);
    struct fpu_writer w = {s, area, gva, true};
    uint64_t old;

    if (!x86_read_linear(s->v, gva + AT_XSTATE_BV, &old, 8, X86_READ | x86_cpl_access(s->v),
                         s->fault)) {
        return false;
    }
    fpu_write_components(&w, s->in->id == INSN_XSAVEOPT ? requested & used : requested,
                         (requested & (SSE | AVX)) != 0);
    fpu_put64(area + AT_XSTATE_BV, (old & ~requested) | (used & requested));
    fpu_write(&w, AT_XSTATE_BV, 8);
    return w.ok;
}

bool x86_sys_xsave(struct x86_system *s)
{
    bool compacted = s->in->id == INSN_XSAVEC || s->in->id == INSN_XSAVES;
    uint64_t requested = fpu_requested(s->cpu);
    size_t size = (requested & AVX) != 0 ? XSAVE_MAX : XSAVE_MIN;
    uint8_t area[XSAVE_MAX];
    uint64_t gva;

    if (!fpu_xsave_allowed(s) || !fpu_area(s, size, 64, X86_WRITE, &gva) ||
        !x86_check_linear(s->v, gva, size, X86_WRITE | x86_cpl_access(s->v), s->fault)) {
        return false;
    }
    fpu_image(s->v, s->in, area);
    return compacted ? fpu_save_compacted(s, gva, requested, area)
                     : fpu_save_standard(s, gva, requested, area);
}

/* ---- XRSTOR ---- */

static bool fpu_bytes_zero(const uint8_t *p, size_t len)
{
    for (size_t i = 0; i < len; i++) {
        if (p[i] != 0) {
            return false;
        }
    }
    return true;
}

static bool fpu_header_ok(const struct x86_system *s, const uint8_t *area)
{
    uint64_t bv = fpu_get64(area + AT_XSTATE_BV);
    uint64_t comp = fpu_get64(area + AT_XCOMP_BV);

    if ((comp & XCOMP_COMPACTED) == 0) {
        return s->in->id != INSN_XRSTORS && comp == 0 && (bv & ~s->cpu->xcr0) == 0 &&
               fpu_get64(area + AT_HEADER_REST) == 0;
    }
    return cpu_model_has(s->v->model, INSN_FEAT_XSAVEC) &&
           (comp & ~XCOMP_COMPACTED & ~s->cpu->xcr0) == 0 && (bv & ~comp) == 0 &&
           (bv & XCOMP_COMPACTED) == 0 &&
           fpu_bytes_zero(area + AT_HEADER_REST, AT_AVX - AT_HEADER_REST);
}

/* Which MXCSR the instruction loads; false: none. */
static bool fpu_restored_mxcsr(const uint8_t *area, uint64_t requested, uint32_t *mxcsr)
{
    *mxcsr = fpu_get32(area + AT_MXCSR);
    if ((fpu_get64(area + AT_XCOMP_BV) & XCOMP_COMPACTED) == 0) {
        return (requested & (SSE | AVX)) != 0;
    }
    if ((fpu_get64(area + AT_XSTATE_BV) & SSE) == 0) {
        *mxcsr = MXCSR_INIT;
    }
    return (requested & SSE) != 0;
}

bool x86_sys_xrstor(struct x86_system *s)
{
    uint64_t requested = fpu_requested(s->cpu);
    unsigned access = X86_READ | x86_cpl_access(s->v);
    uint8_t area[XSAVE_MAX];
    uint64_t gva, avx, bv;
    uint32_t mxcsr;
    bool set_mxcsr;

    if (!fpu_xsave_allowed(s) || !fpu_area(s, XSAVE_MIN, 64, X86_READ, &gva) ||
        !x86_read_linear(s->v, gva, area, XSAVE_MIN, access, s->fault)) {
        return false;
    }
    if (!fpu_header_ok(s, area)) {
        return x86_fault_gp(s->fault, 0);
    }
    bv = fpu_get64(area + AT_XSTATE_BV);
    if ((requested & bv & AVX) != 0 &&
        (!x86_insn_linear(s->v, s->in, AT_AVX, XSAVE_MAX - AT_AVX, X86_READ, &avx, s->fault) ||
         !x86_read_linear(s->v, avx, area + AT_AVX, XSAVE_MAX - AT_AVX, access, s->fault))) {
        return false;
    }
    set_mxcsr = fpu_restored_mxcsr(area, requested, &mxcsr);
    if (set_mxcsr && !fpu_mxcsr_ok(s->v, mxcsr)) {
        return x86_fault_gp(s->fault, 0);
    }
    fpu_load(s->cpu, s->in, area, requested & bv);
    fpu_load_init(s->cpu, s->in, requested & ~bv);
    if (set_mxcsr) {
        fpu_put32(s->cpu->xsave + AT_MXCSR, mxcsr);
    }
    return true;
}

void x86_xsave_normalise(uint8_t *image)
{
    fpu_init_bytes(image, ~fpu_get64(image + AT_XSTATE_BV));
    memset(image + AT_FOP, 0, AT_MXCSR - AT_FOP);
    memset(image + AT_MXCSR_MASK, 0, AT_ST - AT_MXCSR_MASK);
    memset(image + AT_XMM_END, 0, AT_AVX - AT_XMM_END);
    for (unsigned i = 0; i < 8; i++) {
        memset(image + AT_ST + 16 * i + 10, 0, 6);
    }
}
