/* SPDX-License-Identifier: MIT */
/*
 * Host code for instructions that run natively. A thunk loads the general registers the
 * instruction names, runs it with its memory operand replaced by a pointer, and stores what it
 * wrote:
 *
 *     in:  rdi = guest registers, rsi = memory operand, eax = packed status flags
 *     out: eax = packed status flags
 *
 * It may clobber every general register; the caller (native.c) saves them. An instruction that
 * names no general register and no status flag gets a simple thunk, which touches only eax:
 *
 *     in:  rcx = memory operand      out: eax = 0
 *
 * Code goes to a memfd that is mapped twice, writable here and executable there; simple thunks
 * lie in its lower half. Equal code is shared.
 */
#include "native.h"

#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include "base/arena.h"

enum {
    THUNK_SPACE = 4 << 20,
    THUNK_HALF = THUNK_SPACE / 2,
    THUNK_SLOTS = 1 << 16,
    THUNK_MAX = 256
};
enum { HOST_RCX = 1, HOST_RSP = 4, HOST_RBP = 5, HOST_RSI = 6, HOST_RDI = 7 };

struct native {
    uint8_t *rw, *rx;
    uint32_t used[2]; /* simple ones, others */
    uint32_t nr;
    struct thunk_slot {
        uint32_t hash, offset, len; /* len 0: free */
    } slot[THUNK_SLOTS];
};

struct native *thunk_cache_new(GError **err)
{
    struct native *n = arena_map(NULL, sizeof(*n));
    int fd;

    if (n == NULL) {
        g_set_error(err, G_FILE_ERROR, G_FILE_ERROR_NOMEM, "no memory for native instructions");
        return NULL;
    }
    fd = memfd_create("pvemu-thunks", MFD_CLOEXEC);
    n->rw = n->rx = MAP_FAILED;
    if (fd >= 0 && ftruncate(fd, THUNK_SPACE) == 0) {
        n->rw = mmap(NULL, THUNK_SPACE, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
        n->rx = mmap(NULL, THUNK_SPACE, PROT_READ | PROT_EXEC, MAP_SHARED, fd, 0);
    }
    if (fd >= 0) {
        close(fd);
    }
    if (n->rw == MAP_FAILED || n->rx == MAP_FAILED) {
        g_set_error(err, G_FILE_ERROR, G_FILE_ERROR_ACCES,
                    "this host refuses executable memory (memfd, PROT_EXEC)");
        thunk_cache_free(n);
        return NULL;
    }
    return n;
}

void thunk_cache_free(struct native *n)
{
    if (n == NULL) {
        return;
    }
    if (n->rw != MAP_FAILED) {
        munmap(n->rw, THUNK_SPACE);
    }
    if (n->rx != MAP_FAILED) {
        munmap(n->rx, THUNK_SPACE);
    }
    arena_unmap(n, sizeof(*n));
}

const void *thunk_code(const struct native *n, int32_t offset)
{
    return n->rx + offset;
}

void thunk_cache_reset(struct native *n)
{
    memset(n->slot, 0, sizeof(n->slot));
    n->used[0] = n->used[1] = n->nr = 0;
}

bool thunk_is_simple(const struct native *n, uint64_t rip)
{
    return rip - (uint64_t)(uintptr_t)n->rx < THUNK_HALF;
}

bool thunk_owns(const struct native *n, uint64_t rip)
{
    return rip - (uint64_t)(uintptr_t)n->rx < THUNK_SPACE;
}

struct emit {
    uint8_t buf[THUNK_MAX];
    unsigned len;
};

static void emit_byte(struct emit *em, unsigned byte)
{
    em->buf[em->len++] = (uint8_t)byte;
}

static void emit_bytes(struct emit *em, const uint8_t *p, unsigned len)
{
    for (unsigned i = 0; i < len; i++) {
        emit_byte(em, p[i]);
    }
}

/* mov between a host register and guest register slot [ctx + 8 * guest]. */
static void emit_slot(struct emit *em, bool store, unsigned host, unsigned ctx, unsigned guest)
{
    emit_byte(em, 0x48 | (host >= 8 ? 4 : 0) | (ctx >= 8 ? 1 : 0));
    emit_byte(em, store ? 0x89 : 0x8b);
    emit_byte(em, 0x40 | (host & 7) << 3 | (ctx & 7));
    if ((ctx & 7) == HOST_RSP) {
        emit_byte(em, 0x24);
    }
    emit_byte(em, guest * 8);
}

static void emit_mov(struct emit *em, unsigned to, unsigned from)
{
    if (to != from) {
        emit_byte(em, 0x48 | (from >= 8 ? 4 : 0) | (to >= 8 ? 1 : 0));
        emit_byte(em, 0x89);
        emit_byte(em, 0xc0 | (from & 7) << 3 | (to & 7));
    }
}

/* Which host registers play which part. */
struct plan {
    uint32_t reads, writes; /* guest registers named by the instruction */
    unsigned ctx, mem;      /* host registers for the two pointers */
    unsigned rsp;           /* host register that stands for guest RSP */
    bool has_mem, flags, simple;
};

static unsigned plan_pick(uint32_t *taken, const uint8_t *from, unsigned nr)
{
    for (unsigned i = 0; i < nr; i++) {
        if ((*taken >> from[i] & 1) == 0) {
            *taken |= 1u << from[i];
            return from[i];
        }
    }
    g_assert_not_reached();
}

static void plan_make(struct plan *p, const struct insn *in)
{
    static const uint8_t low[] = {6, 7, 3, 1, 2, 0}; /* need no REX as a base or operand */
    static const uint8_t any[] = {7, 6, 3, 1, 2, 12, 13, 14, 15, 8, 9, 10, 11};
    uint32_t taken = 1u << HOST_RSP | 1u << 0;

    *p = (struct plan){.flags = (in->flags & (INSN_F_READS_FLAGS | INSN_F_WRITES_FLAGS)) != 0};
    for (unsigned i = 0; i < in->nr_operands; i++) {
        const struct insn_operand *op = &in->op[i];

        if (op->kind == OPK_MEM) {
            p->has_mem = true;
        } else if (op->kind == OPK_GPR) {
            unsigned reg = (op->reg & INSN_HIGH_BYTE) != 0 ? op->reg & 3 : op->reg;

            /* Partial writes keep the rest: read them all. */
            p->reads |= 1u << reg;
            if ((op->access & OPA_WRITE) != 0) {
                p->writes |= 1u << reg;
            }
        }
    }
    taken |= p->reads | p->writes;
    p->simple = !p->flags && taken == (1u << HOST_RSP | 1u) && p->reads == 0 &&
                (in->flags & INSN_F_MEM_IMPLICIT) == 0;
    if (p->simple) {
        p->mem = HOST_RCX;
        return;
    }
    if ((in->flags & INSN_F_MEM_IMPLICIT) != 0) {
        p->has_mem = true;
        p->mem = HOST_RDI;
        p->reads &= ~(1u << CPU_RDI);
        p->writes &= ~(1u << CPU_RDI);
        taken |= 1u << HOST_RDI;
    } else if (p->has_mem) {
        p->mem = plan_pick(&taken, low, sizeof(low));
    }
    p->rsp =
        ((p->reads | p->writes) >> CPU_RSP & 1) != 0 ? plan_pick(&taken, low, sizeof(low)) : 0;
    p->ctx = plan_pick(&taken, any, sizeof(any));
    p->flags |= ((p->reads | p->writes) & 1) != 0;
}

static bool byte_is_segment_or_addrsize(uint8_t b)
{
    return b == 0x26 || b == 0x2e || b == 0x36 || b == 0x3e || b == 0x64 || b == 0x65 ||
           b == 0x67 || b == 0xf0;
}

/* The operand size prefix chooses the size here, so it depends on the mode, not on the bytes.
 */
static bool insn_sized_by_66(const struct insn *in)
{
    if (in->encoding != INSN_ENC_LEGACY) {
        return false;
    }
    if (in->map == INSN_MAP_1) {
        unsigned reg = in->modrm >> 3 & 7;

        return in->modrm < 0xc0 && ((in->opcode == 0xd9 && (reg == 4 || reg == 6)) ||
                                    (in->opcode == 0xdd && (reg == 4 || reg == 6)));
    }
    if (in->map == INSN_MAP_0F) {
        return in->opcode == 0xb8 || in->opcode == 0xbc || in->opcode == 0xbd ||
               in->opcode == 0xc7;
    }
    return in->map == INSN_MAP_0F38 && in->opcode == 0xf1 && (in->prefixes & INSN_P_REPNE) != 0;
}

/* Legacy prefixes and REX. Returns where the opcode (with its escapes) starts in in->bytes. */
static unsigned emit_prefixes(struct emit *em, const struct insn *in)
{
    bool sized = insn_sized_by_66(in);
    unsigned at = 0, rex = 0;

    if (sized && in->opsize == 2) {
        emit_byte(em, 0x66);
    }
    for (; at < in->opcode_off; at++) {
        uint8_t b = in->bytes[at];

        if (byte_is_segment_or_addrsize(b)) {
            continue;
        }
        if (b == 0x66 || b == 0xf2 || b == 0xf3) {
            if (b != 0x66 || !sized) {
                emit_byte(em, b);
            }
        } else if (in->mode == INSN_MODE_64 && (b & 0xf0) == 0x40) {
            rex = b;
        } else {
            break;
        }
    }
    if (rex != 0 && in->encoding == INSN_ENC_LEGACY && (in->prefixes & INSN_P_REX) != 0) {
        if (insn_mem_operand(in) != NULL) {
            rex &= ~(unsigned)(INSN_REX_B | INSN_REX_X);
        }
        emit_byte(em, rex);
    }
    return at;
}

static unsigned plan_reg(const struct plan *p, unsigned reg, bool is_gpr)
{
    return is_gpr && reg == CPU_RSP ? p->rsp : reg;
}

/* Only BMI forms have a general register in VEX.vvvv, and no vector ones then. */
static bool insn_vvvv_is_rsp(const struct insn *in)
{
    for (unsigned i = 0; i < in->nr_operands; i++) {
        if (in->op[i].kind == OPK_VEC) {
            return false;
        }
    }
    return in->vvvv == CPU_RSP;
}

static bool insn_names_gpr(const struct insn *in)
{
    for (unsigned i = 0; i < in->nr_operands; i++) {
        if (in->op[i].kind == OPK_GPR) {
            return true;
        }
    }
    return false;
}

/* Whether the operand encoded in this register number is a general register. */
static bool insn_field_is_gpr(const struct insn *in, unsigned reg)
{
    for (unsigned i = 0; i < in->nr_operands; i++) {
        if (in->op[i].kind == OPK_GPR && in->op[i].reg == reg) {
            return true;
        }
    }
    return false;
}

/* VEX.W says how wide a general or memory operand is: outside 64-bit mode it counts as 0. */
static bool insn_w_is_size(const struct insn *in)
{
    if (in->map == INSN_MAP_0F) {
        return in->opcode == 0x2a || in->opcode == 0x2c || in->opcode == 0x2d ||
               in->opcode == 0x6e || in->opcode == 0x7e;
    }
    return in->map == INSN_MAP_0F3A && (in->opcode == 0x16 || in->opcode == 0x22);
}

/* VEX (C4, C5) and XOP (8F) as three bytes. */
static bool emit_vex(struct emit *em, const struct insn *in, unsigned at, const struct plan *p)
{
    const uint8_t *b = in->bytes + at;
    uint8_t b0 = b[0], b1, b2;

    if (b0 == 0xc5) {
        b0 = 0xc4;
        b1 = (b[1] & 0x80) | 0x61;
        b2 = b[1] & 0x7f;
    } else {
        b1 = b[1];
        b2 = b[2];
    }
    if (in->mode != INSN_MODE_64) {
        b1 |= 0xe0;
        b2 |= 0x40;
        if (insn_names_gpr(in) || insn_w_is_size(in)) {
            b2 &= 0x7f;
        }
    }
    if (insn_mem_operand(in) != NULL) {
        b1 |= 0x60;
    }
    if (insn_vvvv_is_rsp(in)) {
        b2 = (uint8_t)((b2 & ~0x78) | (~p->rsp & 15) << 3);
    }
    emit_byte(em, b0);
    emit_byte(em, b1);
    emit_byte(em, b2);
    emit_byte(em, in->opcode);
    return true;
}

/* Is modrm.reg (or .rm) a general register here? Vector and x87 numbers must not be remapped.
 */
static bool insn_modrm_gpr(const struct insn *in, bool rm)
{
    unsigned number = rm ? (in->modrm & 7) | (in->rex & INSN_REX_B ? 8 : 0)
                         : (in->modrm >> 3 & 7) | (in->rex & INSN_REX_R ? 8 : 0);

    if (number != CPU_RSP || !insn_field_is_gpr(in, CPU_RSP)) {
        return false;
    }
    for (unsigned i = 0; i < in->nr_operands; i++) {
        const struct insn_operand *op = &in->op[i];

        if (rm && op->kind == OPK_GPR && (op->reg & INSN_HIGH_BYTE) != 0) {
            return false; /* CRC32 ESP, AH */
        }
        if ((op->kind == OPK_VEC || op->kind == OPK_MMX) && op->reg == number) {
            /* Both kinds with number 4: the two sides differ in kind; decide by position. */
            bool vec_first = in->op[0].kind == OPK_VEC || in->op[0].kind == OPK_MMX;
            bool store =
                in->encoding == INSN_ENC_LEGACY || in->encoding == INSN_ENC_VEX
                    ? in->map == INSN_MAP_0F3A || (in->map == INSN_MAP_0F && in->opcode == 0x7e)
                    : false;

            if (vec_first) {
                return rm; /* vec <- gpr: rm is the gpr */
            }
            return store ? rm : !rm; /* gpr <- vec */
        }
    }
    return true;
}

/* VBLENDVPS, VBLENDVPD, VPBLENDVB: a register in the immediate. */
static bool insn_is4(const struct insn *in)
{
    return in->encoding == INSN_ENC_VEX && in->map == INSN_MAP_0F3A && in->opcode >= 0x4a &&
           in->opcode <= 0x4c;
}

static void emit_insn(struct emit *em, const struct insn *in, const struct plan *p)
{
    unsigned at = emit_prefixes(em, in);
    unsigned modrm = in->modrm;

    if (in->encoding == INSN_ENC_LEGACY) {
        emit_bytes(em, in->bytes + at, in->opcode_off + 1 - at);
    } else {
        emit_vex(em, in, at, p);
    }
    if ((in->flags & INSN_F_MODRM) != 0) {
        if (insn_modrm_gpr(in, false)) {
            modrm = (modrm & ~0x38u) | plan_reg(p, CPU_RSP, true) << 3;
        }
        if (insn_mem_operand(in) != NULL) {
            modrm = (modrm & 0x38) | p->mem;
        } else if (insn_modrm_gpr(in, true)) {
            modrm = (modrm & ~7u) | plan_reg(p, CPU_RSP, true);
        }
        emit_byte(em, modrm);
    }
    if (in->imm_len > 0) {
        emit_bytes(em, in->bytes + in->imm_off, in->len - in->imm_off);
        if (in->mode != INSN_MODE_64 && insn_is4(in)) {
            em->buf[em->len - 1] &= 0x7f; /* the register's fourth bit does not count */
        }
    }
}

/* Returns whether it is a simple one. */
static bool emit_thunk(struct emit *em, const struct insn *in)
{
    struct plan p;

    plan_make(&p, in);
    if (p.simple) {
        emit_insn(em, in, &p);
        emit_bytes(em, (const uint8_t[]){0x31, 0xc0, 0xc3}, 3); /* xor %eax,%eax; ret */
        return true;
    }
    if (p.flags) {
        emit_bytes(em, (const uint8_t[]){0x04, 0x7f, 0x9e}, 3); /* add $0x7f,%al; sahf */
    }
    /* The two pointers to their places; rsi may be wanted for the other. */
    if (p.ctx == HOST_RSI && p.has_mem) {
        emit_mov(em, 11, HOST_RSI);
        emit_mov(em, p.ctx, HOST_RDI);
        emit_mov(em, p.mem, 11);
    } else {
        emit_mov(em, p.ctx, HOST_RDI);
        if (p.has_mem) {
            emit_mov(em, p.mem, HOST_RSI);
        }
    }
    for (unsigned reg = 0; reg < 16; reg++) {
        if ((p.reads >> reg & 1) != 0) {
            emit_slot(em, false, plan_reg(&p, reg, true), p.ctx, reg);
        }
    }
    emit_insn(em, in, &p);
    for (unsigned reg = 0; reg < 16; reg++) {
        if ((p.writes >> reg & 1) != 0) {
            emit_slot(em, true, plan_reg(&p, reg, true), p.ctx, reg);
        }
    }
    if (p.flags) {
        emit_bytes(em, (const uint8_t[]){0x9f, 0x0f, 0x90, 0xc0}, 4); /* lahf; seto %al */
    }
    emit_byte(em, 0xc3);
    return false;
}

static uint32_t thunk_hash(const struct emit *em)
{
    uint32_t h = 2166136261u;

    for (unsigned i = 0; i < em->len; i++) {
        h = (h ^ em->buf[i]) * 16777619u;
    }
    return h;
}

int32_t thunk_get(struct interp *e, const struct insn *in)
{
    struct native *n = e->native;
    struct emit em = {.len = 0};
    bool simple = emit_thunk(&em, in);
    uint32_t h = thunk_hash(&em), offset = n->used[!simple] + (simple ? 0 : THUNK_HALF);
    for (unsigned i = 0; i < THUNK_SLOTS; i++) {
        struct thunk_slot *s = &n->slot[(h + i) % THUNK_SLOTS];

        if (s->len == 0) {
            if (n->used[!simple] + THUNK_MAX > THUNK_HALF || n->nr >= THUNK_SLOTS / 2) {
                return THUNK_NONE;
            }
            *s = (struct thunk_slot){.hash = h, .offset = offset, .len = em.len};
            memcpy(n->rw + offset, em.buf, em.len);
            n->used[!simple] += (em.len + 15) & ~15u;
            n->nr++;
            return (int32_t)s->offset;
        }
        if (s->hash == h && s->len == em.len &&
            memcmp(n->rw + s->offset, em.buf, em.len) == 0) {
            return (int32_t)s->offset;
        }
    }
    return THUNK_NONE;
}
