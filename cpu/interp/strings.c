/* SPDX-License-Identifier: MIT */
/*
 * MOVS STOS LODS SCAS CMPS (SDM vol. 2). A repeated instruction runs in pieces: as many
 * elements as lie in one page of each operand, or in pages that the TLB knows and that follow
 * each other in host memory too, go to the host's own string instruction; after each piece the
 * registers show what is done, so a fault or an interrupt finds a restartable state, and rip
 * stays until RCX is 0.
 */
#include "engine.h"

#include "alu.h"

struct string {
    const struct insn *in;
    unsigned size;
    uint64_t mask; /* of the address size */
    int64_t step;
    bool rep;
    bool uses_src, uses_dst;
    unsigned dst_access;
    uint64_t rsi, rdi, rcx;
};

enum { STRING_MAX_RUN = 65536 }; /* elements before interrupts are looked at again */

static bool string_open_src(struct interp *e, const struct string *s, struct mref *m)
{
    uint64_t va;

    return interp_linear(e, s->in->seg, s->rsi & s->mask, s->size, X86_READ, &va) &&
           interp_mref(e, va, s->size, X86_READ, m);
}

static bool string_open_dst(struct interp *e, const struct string *s, struct mref *m)
{
    uint64_t va;

    return interp_linear(e, CPU_ES, s->rdi & s->mask, s->size, s->dst_access, &va) &&
           interp_mref(e, va, s->size, s->dst_access, m);
}

static void string_compare(struct interp *e, const struct string *s, uint64_t a, uint64_t b)
{
    (void)ALU_BY_SIZE(sub, s->size, &e->fl, a, b);
}

/* One element the plain way: any mode, MMIO, page-crossing, either direction. */
static bool string_one(struct interp *e, struct string *s)
{
    struct mref src, dst;

    if (s->in->id == INSN_CMPS) { /* seen on Zen 4: the destination first */
        if (!string_open_dst(e, s, &dst) || !string_open_src(e, s, &src)) {
            return false;
        }
    } else if ((s->uses_src && !string_open_src(e, s, &src)) ||
               (s->uses_dst && !string_open_dst(e, s, &dst))) {
        return false;
    }
    switch (s->in->id) {
    case INSN_MOVS: {
        uint64_t val = interp_mref_load(e, &src);

        /* A device may have taken its time: the destination may have become code meanwhile. */
        if (src.part[0] == NULL && !string_open_dst(e, s, &dst)) {
            return false;
        }
        interp_mref_store(e, &dst, val);
        break;
    }
    case INSN_STOS:
        interp_mref_store(e, &dst, e->v->cpu.gpr[CPU_RAX]);
        break;
    case INSN_LODS:
        interp_set_gpr(e, CPU_RAX, s->size, interp_mref_load(e, &src));
        break;
    case INSN_SCAS:
        string_compare(e, s, e->v->cpu.gpr[CPU_RAX], interp_mref_load(e, &dst));
        break;
    default: {
        uint64_t a = interp_mref_load(e, &src);

        string_compare(e, s, a, interp_mref_load(e, &dst));
        break;
    }
    }
    if (s->uses_src) {
        s->rsi += (uint64_t)s->step;
    }
    if (s->uses_dst) {
        s->rdi += (uint64_t)s->step;
    }
    return true;
}

/* One operand of a run. */
struct span {
    uint8_t *hva; /* of the first element */
    bool code;    /* to be told: the frame holds code */
};

/* Bytes up to the end of what goes on in host memory behind (or before) va's page. */
static uint64_t string_extend(const struct interp *e, uint64_t va, unsigned access, bool down,
                              uint64_t room, uint64_t want)
{
    const struct tlb_entry *first = &e->tlb->entry[interp_tlb_slot(va)], *en;
    uint64_t page = PAGE_BASE(va);

    while (room < want) {
        page += down ? -(uint64_t)MEM_PAGE_SIZE : MEM_PAGE_SIZE;
        en = &e->tlb->entry[interp_tlb_slot(page)];
        if (((access & X86_WRITE) != 0 ? en->write : en->read) != page ||
            en->addend != first->addend) {
            break;
        }
        room += MEM_PAGE_SIZE;
    }
    return room;
}

/* The linear address of a run of n elements in one segment. */
static bool string_linear(struct interp *e, const struct string *s, enum cpu_segreg seg,
                          uint64_t off, unsigned access, uint64_t *va, uint64_t n)
{
    if (likely(interp_is64(e))) { /* where it is not canonical the TLB does not know it */
        *va = off + (seg == CPU_FS || seg == CPU_GS ? e->v->cpu.seg[seg].base : 0);
        return true;
    }
    return s->step > 0 && interp_linear(e, seg, off, s->size, access, va) &&
           interp_linear(e, seg, off,
                         (unsigned)MIN(n * s->size, MEM_PAGE_SIZE - (*va & 0xfff)), access, va);
}

/* Opens a run, and cuts *n to what lies in it. false: do one. */
static bool string_run_open(struct interp *e, enum cpu_segreg seg, uint64_t off,
                            const struct string *s, unsigned access, struct span *p,
                            uint64_t *n)
{
    const struct tlb_entry *en;
    uint64_t va, gpa, in_page, room;
    bool down = s->step < 0;

    off &= s->mask;
    if (s->mask - off < s->size - 1) {
        return false;
    }
    room = (down ? off : s->mask - off - (s->size - 1)) / s->size; /* behind the first one */
    *n = MIN(*n - 1, room) + 1;
    if (!string_linear(e, s, seg, off, access, &va, *n)) {
        return false;
    }
    in_page = va & (MEM_PAGE_SIZE - 1);
    if (in_page + s->size > MEM_PAGE_SIZE || !interp_canonical(va) ||
        !interp_resolve(e, va, access, &p->hva, &gpa) || p->hva == NULL) {
        return false;
    }
    room = down ? in_page + s->size : MEM_PAGE_SIZE - in_page;
    en = &e->tlb->entry[interp_tlb_slot(va)];
    p->code = (access & X86_WRITE) != 0 && en->write != PAGE_BASE(va) && e->shadow == NULL;
    if (*n * s->size > room && !p->code && interp_is64(e) && e->shadow == NULL) {
        room = string_extend(e, va, access, down, room, *n * s->size);
    }
    *n = MIN(*n, room / s->size);
    return true;
}

/* DF is the host's for this one instruction only: the ABI wants it clear. */
#define STRING_DF   "testb %b[down], %b[down]\n\tjz 1f\n\tstd\n1:\t"
#define STRING_HOST(insn)                                                                      \
    switch (s->size) {                                                                         \
    case 1:                                                                                    \
        STRING_HOST_ONE(insn "b\n\tcld");                                                      \
        break;                                                                                 \
    case 2:                                                                                    \
        STRING_HOST_ONE(insn "w\n\tcld");                                                      \
        break;                                                                                 \
    case 4:                                                                                    \
        STRING_HOST_ONE(insn "l\n\tcld");                                                      \
        break;                                                                                 \
    default:                                                                                   \
        STRING_HOST_ONE(insn "q\n\tcld");                                                      \
        break;                                                                                 \
    }

static void string_host_copy(const struct string *s, uint8_t *dst, uint8_t *src, uint64_t n)
{
#define STRING_HOST_ONE(x)                                                                     \
    __asm__ volatile(STRING_DF "rep " x                                                        \
                     : "+D"(dst), "+S"(src), "+c"(n)                                           \
                     : [down] "q"(s->step < 0)                                                 \
                     : "memory", "cc")
    STRING_HOST("movs")
#undef STRING_HOST_ONE
}

static void string_host_fill(const struct string *s, uint8_t *dst, uint64_t val, uint64_t n)
{
#define STRING_HOST_ONE(x)                                                                     \
    __asm__ volatile(STRING_DF "rep " x                                                        \
                     : "+D"(dst), "+c"(n)                                                      \
                     : "a"(val), [down] "q"(s->step < 0)                                       \
                     : "memory", "cc")
    STRING_HOST("stos")
#undef STRING_HOST_ONE
}

/* Returns how many were compared; flags are those of the last one. */
static uint64_t string_host_scan(struct interp *e, const struct string *s, uint8_t *dst,
                                 uint64_t n, bool until_equal)
{
    uint64_t left = n, val = e->v->cpu.gpr[CPU_RAX];
    uint32_t f;

#define STRING_HOST_ASM(rep, x)                                                                \
    __asm__ volatile(STRING_DF rep x ALU_SAVE "\n\tmovl %%eax, %0"                             \
                     : "=&r"(f), "+&D"(dst), "+&c"(left), "+&a"(val)                           \
                     : [down] "q"(s->step < 0)                                                 \
                     : "cc", "memory")
#define STRING_HOST_ONE(x)                                                                     \
    if (until_equal) {                                                                         \
        STRING_HOST_ASM("repne ", x);                                                          \
    } else {                                                                                   \
        STRING_HOST_ASM("repe ", x);                                                           \
    }
    STRING_HOST("scas")
#undef STRING_HOST_ASM
    e->fl = f;
    return n - left;
}

static uint64_t string_host_compare(struct interp *e, const struct string *s, uint8_t *dst,
                                    uint8_t *src, uint64_t n, bool until_equal)
{
    uint64_t left = n;
    uint32_t f;

#define STRING_HOST_ASM(rep, x)                                                                \
    __asm__ volatile(STRING_DF rep x ALU_SAVE                                                  \
                     : "=&a"(f), "+&D"(dst), "+&S"(src), "+&c"(left)                           \
                     : [down] "q"(s->step < 0)                                                 \
                     : "cc", "memory")
    STRING_HOST("cmps")
#undef STRING_HOST_ASM
#undef STRING_HOST_ONE
    e->fl = f;
    return n - left;
}

/* LODS: only the last element shows. */
static void string_load_last(struct interp *e, const struct string *s, const uint8_t *src,
                             uint64_t n)
{
    const uint8_t *last = src + (int64_t)(n - 1) * s->step;
    uint64_t val;

    switch (s->size) {
    case 1:
        val = *(const volatile uint8_t *)last;
        break;
    case 2:
        val = *(const volatile interp_uint16_t *)(const void *)last;
        break;
    case 4:
        val = *(const volatile interp_uint32_t *)(const void *)last;
        break;
    default:
        val = *(const volatile interp_uint64_t *)(const void *)last;
        break;
    }
    interp_set_gpr(e, CPU_RAX, s->size, val);
}

/* n elements that lie ready; how many were done. */
static uint64_t string_host(struct interp *e, const struct string *s, const struct span *src,
                            const struct span *dst, uint64_t n)
{
    bool until_equal = (s->in->prefixes & INSN_P_REPNE) != 0;

    switch (s->in->id) {
    case INSN_MOVS:
        string_host_copy(s, dst->hva, src->hva, n);
        return n;
    case INSN_STOS:
        string_host_fill(s, dst->hva, e->v->cpu.gpr[CPU_RAX], n);
        return n;
    case INSN_SCAS:
        return string_host_scan(e, s, dst->hva, n, until_equal);
    case INSN_CMPS:
        return string_host_compare(e, s, dst->hva, src->hva, n, until_equal);
    default:
        string_load_last(e, s, src->hva, n);
        return n;
    }
}

/* A run of at most n elements. Returns how many were done; 0: use string_one(), which also
 * finds the fault if there is one. */
static uint64_t string_run(struct interp *e, struct string *s, uint64_t n)
{
    struct span src = {NULL, false}, dst = {NULL, false};

    if (interp_special(e) || e->align_check) {
        return 0;
    }
    if ((s->uses_src && !string_run_open(e, s->in->seg, s->rsi, s, X86_READ, &src, &n)) ||
        (s->uses_dst && !string_run_open(e, CPU_ES, s->rdi, s, s->dst_access, &dst, &n))) {
        return 0;
    }
    n = string_host(e, s, &src, &dst, n);
    if (unlikely(dst.code)) {
        interp_code_written(e, s->step < 0 ? dst.hva - (n - 1) * s->size : dst.hva,
                            (unsigned)(n * s->size));
    }
    if (s->uses_src) {
        s->rsi += n * (uint64_t)s->step;
    }
    if (s->uses_dst) {
        s->rdi += n * (uint64_t)s->step;
    }
    return n;
}

/* Registers move by the address size; 32-bit ones zero the upper half. */
static void string_commit(struct interp *e, const struct string *s)
{
    if (s->uses_src) {
        interp_set_gpr(e, CPU_RSI, s->in->addrsize, s->rsi);
    }
    if (s->uses_dst) {
        interp_set_gpr(e, CPU_RDI, s->in->addrsize, s->rdi);
    }
    if (s->rep) {
        interp_set_gpr(e, CPU_RCX, s->in->addrsize, s->rcx);
    }
}

static bool string_compares(const struct string *s)
{
    return s->in->id == INSN_SCAS || s->in->id == INSN_CMPS;
}

/* REPE stops when ZF is clear, REPNE when it is set. */
static bool string_stops(const struct interp *e, const struct string *s)
{
    return string_compares(s) &&
           ((e->fl & 0x4000) != 0) == ((s->in->prefixes & INSN_P_REPNE) != 0);
}

static bool string_repeat(struct interp *e, struct string *s, bool *done)
{
    const uint64_t start = s->rcx;
    unsigned budget = STRING_MAX_RUN;

    *done = false;
    while ((s->rcx & s->mask) != 0) {
        uint64_t n = string_run(e, s, MIN(s->rcx & s->mask, (uint64_t)STRING_MAX_RUN));

        if (n == 0) {
            if (!string_one(e, s)) {
                if (s->rcx != start) { /* untouched registers keep their upper halves */
                    string_commit(e, s);
                }
                return false;
            }
            n = 1;
        }
        s->rcx -= n;
        if (string_stops(e, s)) {
            break;
        }
        if (n >= budget || interp_special(e) || e->break_block || e->dr6_hit != 0 ||
            (atomic_load_explicit(&e->v->request, memory_order_relaxed) & e->request_mask) !=
                0) {
            if ((s->rcx & s->mask) == 0) {
                break;
            }
            string_commit(e, s);
            e->break_block = true;
            return true;
        }
        budget -= (unsigned)n;
    }
    *done = true;
    return true;
}

bool interp_string(struct interp *e, const struct insn *in)
{
    struct cpu_x86 *cpu = &e->v->cpu;
    struct string s = {
        .in = in,
        .size = in->opsize,
        .mask = interp_mask(in->addrsize),
        .step = (cpu->rflags & CPU_DF) != 0 ? -(int64_t)in->opsize : (int64_t)in->opsize,
        .rep = (in->prefixes & (INSN_P_REP | INSN_P_REPNE)) != 0,
        .uses_src = in->id == INSN_MOVS || in->id == INSN_LODS || in->id == INSN_CMPS,
        .uses_dst = in->id != INSN_LODS,
        .dst_access = in->id == INSN_MOVS || in->id == INSN_STOS ? X86_WRITE : X86_READ,
        .rsi = cpu->gpr[CPU_RSI],
        .rdi = cpu->gpr[CPU_RDI],
        .rcx = cpu->gpr[CPU_RCX],
    };
    bool done = true;

    if (!s.rep) {
        if (string_run(e, &s, 1) == 0 && !string_one(e, &s)) {
            return false;
        }
    } else if ((s.rcx & s.mask) == 0) {
        s.uses_src = s.uses_dst = false; /* nothing happens; not even to the upper halves */
        return true;
    } else if (!string_repeat(e, &s, &done)) {
        return false;
    }
    if (done) {
        string_commit(e, &s);
    } else {
        cpu->rip -= in->len; /* the caller moves on: come back to this instruction */
    }
    return true;
}
