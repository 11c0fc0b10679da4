/* SPDX-License-Identifier: MIT */
/*
 * A small compiler that puts one function after the other in the same few places and calls them:
 * random ones that work on registers, made anew, changed in a byte, or left alone. A guest and
 * this machine's processor run the same driver on the same cases and must agree on everything.
 * The guest has two addresses for each function, and EFLAGS.AC with SMAP, which picks a TLB.
 */
#include "guest.h"

#include <sys/mman.h>

enum { CASES = 4000, BATCHES = 6, CODE = 96, REGS = 12, SLOTS = 8, TAIL = 7 };
enum { R_AREA = G_CODE + 0x2000, R_DRIVER = G_CODE, R_HLT = G_CODE + 0x800 };
enum { R_ALIAS = 0x3e0000, STATUS = 0x8d5 };

/* What the driver knows by offset. */
struct round {
    uint8_t code[CODE];
    uint64_t at, write;                     /* 96, 104: offset in the area; whether to copy */
    uint64_t in[REGS], in_flags;            /* 112, 208 */
    uint64_t out[REGS], out_flags;          /* 216, 312 */
    uint64_t alias;                         /* 320: it is called so much further on */
};
G_STATIC_ASSERT(sizeof(struct round) == 328);

/* r12: cases, r13: how many, r14: the area. */
GUEST_CODE(driver, "1: mov 96(%r12), %rdi\n"
                   "add %r14, %rdi\n"
                   "cmpq $0, 104(%r12)\n"
                   "je 3f\n"
                   "xor %ecx, %ecx\n"
                   "2: mov (%r12,%rcx), %rax\n"
                   "mov %rax, (%rdi,%rcx)\n"
                   "add $8, %ecx\n"
                   "cmp $96, %ecx\n"
                   "jb 2b\n"
                   "3: add 320(%r12), %rdi\n"
                   "push %rdi\n"
                   "push 208(%r12)\n"
                   "popf\n"
                   "mov 112(%r12), %rax\n"
                   "mov 120(%r12), %rbx\n"
                   "mov 128(%r12), %rcx\n"
                   "mov 136(%r12), %rdx\n"
                   "mov 144(%r12), %rsi\n"
                   "mov 152(%r12), %rdi\n"
                   "mov 160(%r12), %rbp\n"
                   "mov 168(%r12), %r8\n"
                   "mov 176(%r12), %r9\n"
                   "mov 184(%r12), %r10\n"
                   "mov 192(%r12), %r11\n"
                   "mov 200(%r12), %r15\n"
                   "call *(%rsp)\n"
                   "pushf\n"
                   "mov %rax, 216(%r12)\n"
                   "mov %rbx, 224(%r12)\n"
                   "mov %rcx, 232(%r12)\n"
                   "mov %rdx, 240(%r12)\n"
                   "mov %rsi, 248(%r12)\n"
                   "mov %rdi, 256(%r12)\n"
                   "mov %rbp, 264(%r12)\n"
                   "mov %r8, 272(%r12)\n"
                   "mov %r9, 280(%r12)\n"
                   "mov %r10, 288(%r12)\n"
                   "mov %r11, 296(%r12)\n"
                   "mov %r15, 304(%r12)\n"
                   "popq 312(%r12)\n"
                   "pop %rax\n"
                   "add $328, %r12\n"
                   "dec %r13\n"
                   "jnz 1b\n"
                   "ret");
GUEST_CODE(halt, "hlt");

/* rdi: driver, rsi: cases, rdx: how many, rcx: the area. */
void rewrite_native(const void *code, struct round *rounds, uint64_t n, void *area);
__asm__(".pushsection .text\n"
        "rewrite_native:\n"
        "push %rbx\n push %rbp\n push %r12\n push %r13\n push %r14\n push %r15\n push %rax\n"
        "mov %rsi, %r12\n mov %rdx, %r13\n mov %rcx, %r14\n"
        "call *%rdi\n"
        "pop %rcx\n pop %r15\n pop %r14\n pop %r13\n pop %r12\n pop %rbp\n pop %rbx\n"
        "ret\n"
        ".popsection\n");

/* ---- functions ---- */

struct maker {
    GRand *r;
    uint8_t *p;
    unsigned at;
};

static unsigned below(struct maker *m, unsigned n)
{
    return (unsigned)g_rand_int_range(m->r, 0, (gint32)n);
}

static void put(struct maker *m, const void *bytes, unsigned len)
{
    memcpy(m->p + m->at, bytes, len);
    m->at += len;
}

/* Not RSP, RCX, R12, R13, R14; seldom one that the translator keeps elsewhere. */
static unsigned reg(struct maker *m)
{
    static const uint8_t usual[] = {0, 3, 2, 6, 7, 5, 8, 15, 0, 3};

    return below(m, 40) == 0 ? 9 + below(m, 3) : usual[below(m, sizeof(usual))];
}

static void put_rex(struct maker *m, unsigned r, unsigned rm, bool bytes)
{
    unsigned rex = (below(m, 3) == 0 ? 8u : 0u) | (r >= 8 ? 4u : 0u) | (rm >= 8 ? 1u : 0u);

    if (rex != 0 || (bytes && (r >= 4 || rm >= 4))) {
        put(m, &(uint8_t){(uint8_t)(0x40 | rex)}, 1);
    }
}

/* An instruction with ModRM for two registers. */
static void put_two(struct maker *m, const uint8_t *opcode, unsigned len, bool bytes)
{
    unsigned r = reg(m), rm = reg(m);

    put_rex(m, r, rm, bytes);
    put(m, opcode, len);
    put(m, &(uint8_t){(uint8_t)(0xc0 | (r & 7) << 3 | (rm & 7))}, 1);
}

/* The same with a number for the register, and an immediate. */
static void put_group(struct maker *m, uint8_t opcode, unsigned number, unsigned imm)
{
    uint32_t value = g_rand_int(m->r);
    unsigned rm = reg(m);

    put_rex(m, 0, rm, false);
    put(m, &opcode, 1);
    put(m, &(uint8_t){(uint8_t)(0xc0 | number << 3 | (rm & 7))}, 1);
    put(m, &value, imm);
}

static void put_insn(struct maker *m)
{
    static const uint8_t alu[] = {0x01, 0x09, 0x11, 0x19, 0x21, 0x29, 0x31, 0x39,
                                  0x85, 0x89, 0x8b, 0x03, 0x33, 0x87, 0x63};
    static const uint8_t shifts[] = {0, 1, 4, 5, 7};
    static const uint8_t wide[] = {0xaf, 0xb6, 0xb7, 0xbe, 0xbf, 0xa3, 0xc1};
    uint32_t value = g_rand_int(m->r);
    unsigned rm;

    switch (below(m, 12)) {
    case 0:
        put(m, &(uint8_t){(uint8_t)(below(m, 8) << 3 | 5)}, 1); /* OP imm32, %eax */
        put(m, &value, 4);
        break;
    case 1:
        put_group(m, 0x81, below(m, 8), 4);
        break;
    case 2:
        put_group(m, 0x83, below(m, 8), 1);
        break;
    case 3:
        put_group(m, 0xc1, shifts[below(m, 5)], 1);
        break;
    case 4:
        put_group(m, 0xf7, 2 + below(m, 2), 0); /* not, neg */
        break;
    case 5:
        put_group(m, 0xff, below(m, 2), 0); /* inc, dec */
        break;
    case 6:
        put_two(m, (const uint8_t[]){0x0f, wide[below(m, sizeof(wide))]}, 2, true);
        break;
    case 7: /* setcc, cmovcc */
        if (below(m, 2) == 0) {
            rm = reg(m);
            put_rex(m, 0, rm, true);
            put(m, (const uint8_t[]){0x0f, (uint8_t)(0x90 | below(m, 16)),
                                     (uint8_t)(0xc0 | (rm & 7))}, 3);
        } else {
            put_two(m, (const uint8_t[]){0x0f, (uint8_t)(0x40 | below(m, 16))}, 2, false);
        }
        break;
    case 8:
        put(m, &(uint8_t){(uint8_t)(0xb8 | "\x00\x02\x03\x05\x06\x07"[below(m, 6)])}, 1);
        put(m, &value, 4);
        break;
    default:
        put_two(m, &alu[below(m, sizeof(alu))], 1, false);
        break;
    }
}

static void put_jump(struct maker *m, uint8_t opcode, unsigned to)
{
    int8_t rel = (int8_t)((int)to - (int)(m->at + 2));

    put(m, (const uint8_t[]){opcode, (uint8_t)rel}, 2);
}

/* To a place in the area, with a condition or without. */
static void put_far(struct maker *m, unsigned at, unsigned to)
{
    int32_t rel;

    if (below(m, 2) == 0) {
        put(m, (const uint8_t[]){0x0f, (uint8_t)(0x80 | below(m, 16))}, 2);
    } else {
        put(m, (const uint8_t[]){0xe9}, 1);
    }
    rel = (int32_t)(to - (at + m->at + 4));
    put(m, &rel, 4);
}

static unsigned slot_at(unsigned slot)
{
    return slot == 0 ? MEM_PAGE_SIZE - CODE : 64 + slot * CODE; /* one ends with the page */
}

static void make_function(struct maker *m, uint8_t *p, unsigned slot)
{
    unsigned n = 1 + below(m, 6), loop = 0, skip = 0, turns = below(m, 3) == 0 ? 1 + below(m, 4) : 0;

    m->p = p;
    m->at = 0;
    memset(p, 0xcc, CODE);
    if (turns != 0) {
        put(m, (const uint8_t[]){0xb9, (uint8_t)turns, 0, 0, 0}, 5); /* mov $turns, %ecx */
    }
    loop = m->at;
    for (unsigned i = 0; i < n; i++) {
        if (i + 2 == n && below(m, 3) == 0) {
            put_jump(m, (uint8_t)(0x70 | below(m, 16)), m->at + 2);
            skip = m->at;
        }
        put_insn(m);
        if (skip != 0) { /* over that one */
            p[skip - 1] = (uint8_t)(m->at - skip);
            skip = 0;
        }
    }
    if (turns != 0) {
        put(m, (const uint8_t[]){0xff, 0xc9}, 2); /* dec %ecx */
        put_jump(m, 0x75, loop);
    }
    if (slot != TAIL && below(m, 5) == 0) {
        put_far(m, slot_at(slot), slot_at(TAIL));
    }
    put(m, (const uint8_t[]){0xc3}, 1);
}

/* An immediate byte, most likely: some byte that does not begin an instruction could be anything,
 * so only functions of the one form are changed like that. */
static void make_patched(struct maker *m, uint8_t *p)
{
    uint32_t value = g_rand_int(m->r);

    m->p = p;
    m->at = 0;
    memset(p, 0xcc, CODE);
    put(m, (const uint8_t[]){0xb8}, 1);
    put(m, &value, 4);
    put(m, (const uint8_t[]){0x01, 0xf8, 0xc3}, 3);
}

static void make_rounds(GRand *r, struct round *rounds)
{
    struct maker m = {.r = r};

    for (unsigned i = 0; i < CASES; i++) {
        struct round *c = &rounds[i];
        unsigned slot = i < SLOTS ? TAIL - i : below(&m, 4) == 0 ? below(&m, SLOTS) : i / 64 % SLOTS;

        c->at = slot_at(slot);
        c->alias = 0;
        c->write = i < SLOTS || below(&m, 4) != 0;
        if (below(&m, 6) == 0) {
            make_patched(&m, c->code);
        } else {
            make_function(&m, c->code, slot);
        }
        for (unsigned k = 0; k < REGS; k++) {
            c->in[k] = (uint64_t)g_rand_int(r) << (below(&m, 2) * 32) | g_rand_int(r);
        }
        c->in_flags = (g_rand_int(r) & STATUS) | 2;
    }
}

/* ---- both sides ---- */

static void run_guest(struct guest *g, struct round *rounds, GRand *r)
{
    for (unsigned i = 0; i < CASES; i++) {
        rounds[i].alias = g_rand_int_range(r, 0, 4) == 0 ? R_ALIAS - R_AREA : 0;
        rounds[i].in_flags |= g_rand_int_range(r, 0, 8) == 0 ? CPU_AC : 0;
    }
    *guest_pte(g, R_ALIAS) = R_AREA | G_P | G_RW | G_A | G_D;
    for (uint64_t va = 0; va < 4 << 20; va += MEM_PAGE_SIZE) {
        *guest_pte(g, va) &= ~(uint64_t)G_US;
    }
    g->cpu->cr4 |= CPU_CR4_SMAP;
    guest_flush(g);
    guest_load(g, R_HLT, halt, (size_t)(halt_end - halt));
    GUEST_LOAD(g, driver);
    guest_write64(g, G_STACK - 8, R_HLT);
    g->cpu->gpr[CPU_RSP] = G_STACK - 8;
    g->cpu->gpr[CPU_R12] = G_DATA;
    g->cpu->gpr[CPU_R13] = CASES;
    g->cpu->gpr[CPU_R14] = R_AREA;
    g_assert_true(mem_write(g->fb->board.mem, G_DATA, rounds, CASES * sizeof(*rounds)));
    guest_run(g, EXIT_HALT);
    g_assert_cmpuint(g->cpu->gpr[CPU_R13], ==, 0);
    memcpy(rounds, g->ram + G_DATA, CASES * sizeof(*rounds));
}

static char *text_of(const struct round *c)
{
    GString *s = g_string_new(NULL);

    for (unsigned i = 0; i < CODE; i++) {
        g_string_append_printf(s, "%02x ", c->code[i]);
    }
    return g_string_free(s, FALSE);
}

static void compare(const struct round *a, const struct round *b, unsigned batch)
{
    for (unsigned i = 0; i < CASES; i++) {
        bool same = memcmp(a[i].out, b[i].out, sizeof(a[i].out)) == 0 &&
                    ((a[i].out_flags ^ b[i].out_flags) & STATUS) == 0;

        if (!same) {
            g_autofree char *text = text_of(&a[i]);

            g_test_message("batch %u, case %u at 0x%x, written %u: %s", batch, i,
                           (unsigned)a[i].at, (unsigned)a[i].write, text);
        }
        for (unsigned k = 0; k < REGS; k++) {
            g_assert_cmphex(a[i].out[k], ==, b[i].out[k]);
        }
        g_assert_cmphex(a[i].out_flags & STATUS, ==, b[i].out_flags & STATUS);
    }
}

static void test_functions(void)
{
    struct guest *g = guest_new();
    struct round *guest = g_new0(struct round, CASES), *host = g_new0(struct round, CASES);
    uint8_t *area = mmap(NULL, 2 * MEM_PAGE_SIZE, PROT_READ | PROT_WRITE | PROT_EXEC,
                         MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);

    if (area == MAP_FAILED) {
        g_test_skip("this host forbids writable code");
    }
    for (unsigned batch = 0; batch < BATCHES && area != MAP_FAILED; batch++) {
        GRand *r = g_rand_new_with_seed(batch);

        make_rounds(r, guest);
        memcpy(host, guest, CASES * sizeof(*host));
        memcpy(area + MEM_PAGE_SIZE, driver, (size_t)(driver_end - driver));
        rewrite_native(area + MEM_PAGE_SIZE, host, CASES, area);
        run_guest(g, guest, r);
        compare(guest, host, batch);
        g_rand_free(r);
    }
    if (area != MAP_FAILED) {
        munmap(area, 2 * MEM_PAGE_SIZE);
    }
    g_free(guest);
    g_free(host);
    guest_free(g);
}

int main(int argc, char **argv)
{
    g_test_init(&argc, &argv, NULL);
    g_test_add_func("/rewrite/functions", test_functions);
    return g_test_run();
}
