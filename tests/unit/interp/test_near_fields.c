/* SPDX-License-Identifier: MIT */
/*
 * Accesses by one register a little way off each other, which the translator checks together:
 * fields of a structure, arrays on the stack, an index that is known to be small. Loops over
 * pages that change are in test_near.c.
 */
#include "near_test.h"

/* Pages that do not follow each other in memory. */
static const struct near_case scattered = {G_DATA, 16, 5, true};

/* ---- fields ---- */

GUEST_CODE(fields, "mov (%rsi), %rax\n"
                   "lea 1(%rdi), %rdi\n"
                   "add -8(%rsi), %rax\n"
                   "mov 24(%rsi), %rbx\n"
                   "mov %rbx, 40(%rsi)\n"
                   "movl $7, 48(%rsi)\n"
                   "mov 16(%rsi), %rsi\n"
                   "mov 8(%rsi), %rcx\n"
                   "int3");

static void fields_set(struct guest *g, uint64_t gpa, uint64_t base)
{
    for (unsigned i = 0; i < 8; i++) {
        guest_write64(g, gpa - 8 + i * 8, base + i);
    }
}

/* In the kernel the TLB is asked, and no slot. */
static int fields_vector(struct guest *g, uint64_t at, bool user)
{
    g->cpu->gpr[CPU_RSI] = at;
    g->cpu->gpr[CPU_RDI] = 0;
    if (user) {
        return near_run(g, G_CODE);
    }
    g->cpu->gpr[CPU_RSP] = G_STACK - 0x800;
    g->cpu->rip = G_CODE;
    return guest_vector(g);
}

static void fields_run(struct guest *g, uint64_t at, bool user)
{
    g_assert_cmpint(fields_vector(g, at, user), ==, CPU_BP);
    g_assert_cmpuint(g->cpu->gpr[CPU_RDI], ==, 1);
}

/* At every distance from the end of a page, whose successor is elsewhere. */
static void near_fields(bool user)
{
    struct guest *g = guest_new();

    *guest_pte(g, G_DATA + PAGE) = (G_DATA + 9 * PAGE) | G_P | G_RW | G_US;
    *guest_pte(g, G_DATA + 2 * PAGE) = (G_DATA + 4 * PAGE) | G_P | G_RW | G_US;
    guest_flush(g);
    GUEST_LOAD(g, fields);
    for (uint64_t at = PAGE - 128; at < PAGE + 64; at += 8) {
        for (unsigned i = 0; i < 8; i++) {
            uint64_t va = at - 8 + i * 8;

            guest_write64(g, G_DATA + (va < PAGE ? va : va + 8 * PAGE),
                          i == 3 ? G_DATA + 2 * PAGE : i + at);
        }
        guest_write64(g, G_DATA + 4 * PAGE + 8, 99);
        fields_run(g, G_DATA + at, user);
        g_assert_cmpuint(g->cpu->gpr[CPU_RAX], ==, 2 * at + 1);
        g_assert_cmpuint(g->cpu->gpr[CPU_RBX], ==, at + 4);
        g_assert_cmpuint(g->cpu->gpr[CPU_RCX], ==, 99);
        g_assert_cmpuint(guest_read64(g, G_DATA + at + 40 + (at + 40 < PAGE ? 0 : 8 * PAGE)),
                         ==, at + 4);
    }
    guest_free(g);
}

static void test_fields(void)
{
    near_fields(true);
    near_fields(false);
}

GUEST_CODE(wide, "mov (%rsi), %rax\n"
                 "add 700(%rsi), %rax\n"
                 "mov %rax, 2500(%rsi)\n"
                 "addl $1, 5000(%rsi)\n"
                 "add 5000(%rsi), %eax\n"
                 "int3");

/* Fields far from each other, over pages that do not follow each other in memory, up to one that
 * may not be written, and to one that is not there. */
static void test_fields_wide(void)
{
    const struct near_case *c = &scattered;
    const unsigned whole = c->pages - 2;
    struct guest *g = near_guest(c);

    GUEST_LOAD(g, wide);
    *guest_pte(g, c->at + whole * PAGE) &= ~(uint64_t)G_RW;
    *guest_pte(g, c->at + (whole + 1) * PAGE) = 0;
    guest_flush(g);
    for (unsigned turn = 0; turn < 3; turn++) {
        for (uint64_t at = c->at; at < c->at + (whole + 1) * PAGE - 64; at += 248) {
            const uint64_t off[] = {0, 700, 2500, 5000};
            uint64_t gpa[4], bad = 0, pages[4];

            for (unsigned i = 0; i < 4; i++) {
                uint64_t rel = at + off[i] - c->at;

                pages[i] = rel / PAGE;
                gpa[i] = near_place(c, (unsigned)(rel / PAGE)) + rel % PAGE;
                if (rel % PAGE <= PAGE - 8 && pages[i] <= whole) {
                    guest_write64(g, gpa[i], 1ull << (8 * i));
                }
                bad |= rel % PAGE > PAGE - 8;
            }
            g->cpu->gpr[CPU_RSI] = at;
            if (bad != 0) {
                continue; /* the bytes are in two places */
            }
            if (pages[1] > whole || pages[2] >= whole || pages[3] >= whole) {
                g_assert_cmpint(near_run(g, G_CODE), ==, CPU_PAGE_FAULT);
                g_assert_cmphex(g->cpu->cr2, ==,
                                at + (pages[1] > whole    ? off[1]
                                      : pages[2] >= whole ? off[2]
                                                          : off[3]));
                continue;
            }
            g_assert_cmpint(near_run(g, G_CODE), ==, CPU_BP);
            g_assert_cmphex(g->cpu->gpr[CPU_RAX], ==, 0x1000102);
            g_assert_cmphex(guest_read64(g, gpa[2]), ==, 0x101);
            g_assert_cmphex(guest_read64(g, gpa[3]), ==, 0x1000001);
        }
    }
    guest_free(g);
}

GUEST_CODE(two_apart, "mov (%rsi), %rax\n"
                      "add 5000(%rsi), %rax\n"
                      "int3");
GUEST_CODE(crowd, ".rept 300\n"
                  "mov (%rdi), %rcx\n"
                  "jmp 1f\n"
                  "1:\n"
                  ".endr\n"
                  "int3");

/* So many other blocks go to one page that one of them shares what is remembered with the first
 * one, which wants more than that page. */
static void test_crowd(void)
{
    const struct near_case *c = &scattered;
    const uint64_t crowd_at = G_CODE + 4 * PAGE;
    struct guest *g = near_guest(c);

    GUEST_LOAD(g, two_apart);
    guest_load(g, crowd_at, crowd, (size_t)(crowd_end - crowd));
    guest_write64(g, near_place(c, 0), 1);
    guest_write64(g, near_place(c, 1) + 5000 - PAGE, 2);
    for (unsigned turn = 0; turn < 5; turn++) {
        g->cpu->gpr[CPU_RSI] = c->at;
        g_assert_cmpint(near_run(g, G_CODE), ==, CPU_BP);
        g_assert_cmpuint(g->cpu->gpr[CPU_RAX], ==, 3);
        g->cpu->gpr[CPU_RDI] = c->at;
        g_assert_cmpint(near_run(g, crowd_at), ==, CPU_BP);
    }
    guest_free(g);
}

/* Later ones fault by themselves, when those before them are done, and A and D are only of
 * pages that were touched. */
static void fields_fault(bool user)
{
    struct guest *g = guest_new();

    fields_set(g, G_DATA + 64, 0);
    guest_write64(g, G_DATA + 64 + 16, G_DATA);
    GUEST_LOAD(g, fields);
    for (unsigned i = 0; i < 3; i++) {
        fields_run(g, G_DATA + 64, user);
    }
    *guest_pte(g, G_DATA + PAGE) = 0;
    guest_flush(g);
    for (unsigned i = 0; i < 3; i++) {
        g_assert_cmpint(fields_vector(g, G_DATA + PAGE - 16, user), ==, CPU_PAGE_FAULT);
        g_assert_cmphex(g->cpu->cr2, ==, G_DATA + PAGE + 8);
        g_assert_cmpuint(g->cpu->gpr[CPU_RDI], ==, 1);
        g_assert_cmphex(guest_frame(g, 1), ==, G_CODE + 11);
    }
    *guest_pte(g, G_DATA + PAGE) = (G_DATA + PAGE) | G_P | G_US;
    guest_flush(g);
    g_assert_cmpint(fields_vector(g, G_DATA + PAGE - 40, user), ==, CPU_PAGE_FAULT);
    g_assert_cmphex(g->cpu->cr2, ==, G_DATA + PAGE);
    g_assert_cmphex(*guest_pte(g, G_DATA + PAGE) & (G_A | G_D), ==, 0);
    guest_free(g);
}

static void test_fields_fault(void)
{
    fields_fault(true);
    fields_fault(false);
}

GUEST_CODE(maybe, "mov (%rsi), %rax\n"
                  "test %rdi, %rdi\n"
                  "jz 1f\n"
                  "mov %rax, 8(%rsi)\n"
                  "1: int3");
static int maybe_run(struct guest *g, uint64_t store, bool user)
{
    g->cpu->gpr[CPU_RDI] = store;
    g->cpu->gpr[CPU_RSI] = G_DATA;
    if (user) {
        return near_run(g, G_CODE);
    }
    g->cpu->gpr[CPU_RSP] = G_STACK - 0x800;
    g->cpu->rip = G_CODE;
    return guest_vector(g);
}

/* A store that is not done asks for nothing, and one that is gets what it needs. */
static void fields_maybe(bool user)
{
    struct guest *g = guest_new();
    uint64_t *pte = guest_pte(g, G_DATA);

    guest_write64(g, G_DATA, 5);
    GUEST_LOAD(g, maybe);
    for (unsigned i = 0; i < 200; i++) {
        g_assert_cmpint(maybe_run(g, 0, user), ==, CPU_BP);
        g_assert_cmphex(*pte & (G_A | G_D), ==, G_A);
    }
    g_assert_cmpint(maybe_run(g, 1, user), ==, CPU_BP);
    g_assert_cmphex(*pte & (G_A | G_D), ==, G_A | G_D);
    g_assert_cmpuint(guest_read64(g, G_DATA + 8), ==, 5);
    for (unsigned i = 0; i < 3; i++) {
        g_assert_cmpint(maybe_run(g, 1, user), ==, CPU_BP);
    }
    near_pte(g, G_DATA, *pte & ~(uint64_t)G_RW);
    g_assert_cmpint(maybe_run(g, 0, user), ==, CPU_BP);
    g_assert_cmpint(maybe_run(g, 1, user), ==, CPU_PAGE_FAULT);
    g_assert_cmphex(guest_frame(g, 1), ==, G_CODE + 8);
    guest_free(g);
}

static void test_fields_maybe(void)
{
    fields_maybe(true);
    fields_maybe(false);
}

/* ---- the stack, and an index ---- */

/* Over two pages of the stack; the place is 8 bytes further behind the PUSH. */
GUEST_CODE(stack_array, "xor %eax, %eax\n"
                        "1: mov -4096(%rsp,%rcx,8), %rdx\n"
                        "add %rdx, %rax\n"
                        "mov %rcx, -4096(%rsp,%rcx,8)\n"
                        "push %rcx\n"
                        "add %rcx, -4088(%rsp,%rcx,8)\n"
                        "pop %rcx\n"
                        "add -4096(%rsp,%rcx,8), %rax\n"
                        "dec %rcx\n"
                        "jns 1b\n"
                        "int3");

/* An array on the stack, which the code reads, writes and adds to. */
static void test_stack_array(void)
{
    enum { COUNT = 500 };
    struct guest *g = guest_new();

    GUEST_LOAD(g, stack_array);
    for (unsigned turn = 0; turn < 40; turn++) {
        uint64_t want = 0;

        for (uint64_t i = 0; i < COUNT; i++) {
            want += (turn != 0 ? 2 * i : 0) + 2 * i;
        }
        near_user(g, G_CODE);
        g->cpu->gpr[CPU_RCX] = COUNT - 1;
        g_assert_cmpint(guest_vector(g), ==, CPU_BP);
        g_assert_cmpuint(g->cpu->gpr[CPU_RAX], ==, want);
    }
    for (uint64_t i = 0; i < COUNT; i++) {
        g_assert_cmpuint(guest_read64(g, G_STACK - 0x800 - 4096 + i * 8), ==, 2 * i);
    }
    guest_free(g);
}

/* An index that is small by what wrote it last, at every place about the end of a page: AND, a
 * byte, a shift, and one of which only the lowest byte was written. R8 is the value, R10 goes where
 * it is. */
GUEST_CODE(small_and, "mov %ecx, %edx\n"
                      "and $7, %edx\n"
                      "mov %r8, -72(%rsp,%rdx,8)\n"
                      "add -72(%rsp,%rdx,8), %r10\n"
                      "int3");
GUEST_CODE(small_byte, "movzbl %cl, %edx\n"
                       "movb $5, -80(%rsp)\n"
                       "mov %r8b, (%rsp,%rdx)\n"
                       "movzbl (%rsp,%rdx), %r11d\n"
                       "add %r11, %r10\n"
                       "int3");
GUEST_CODE(small_shift, "mov %ecx, %r9d\n"
                        "shl $24, %r9d\n"
                        "shr $24, %r9d\n"
                        "mov %r8d, -128(%rsp,%r9,4)\n"
                        "add -128(%rsp,%r9,4), %r10d\n"
                        "int3");
GUEST_CODE(small_spoilt, "mov %ecx, %edx\n"
                         "and $7, %edx\n"
                         "mov %cl, %dl\n"
                         "mov %r8, -72(%rsp,%rdx,8)\n"
                         "add -72(%rsp,%rdx,8), %r10\n"
                         "int3");

struct small {
    const uint8_t *code, *end;
    unsigned mask, scale, size;
    int disp;
};

static void small_index(const struct small *c)
{
    struct guest *g = guest_new();

    *guest_pte(g, G_DATA + 2 * PAGE) = (G_DATA + 9 * PAGE) | G_P | G_RW | G_US;
    guest_flush(g);
    guest_load(g, G_CODE, c->code, (size_t)(c->end - c->code));
    for (unsigned n = 0; n < 600; n++) {
        const uint64_t sp = G_DATA + 2 * PAGE - 300 + n % 75 * 8, index = n * 37 & c->mask;
        const uint64_t va = sp + (uint64_t)(int64_t)c->disp + index * c->scale;
        const uint64_t value = c->size == 1 ? n & 0xff : n + 1;

        near_user(g, G_CODE);
        g->cpu->gpr[CPU_RSP] = sp;
        g->cpu->gpr[CPU_RCX] = n * 37;
        g->cpu->gpr[CPU_R8] = value;
        g->cpu->gpr[CPU_R10] = 5;
        g_assert_cmpint(guest_vector(g), ==, CPU_BP);
        g_assert_cmpuint(g->cpu->gpr[CPU_R10], ==, value + 5);
        if ((va & (PAGE - 1)) <= PAGE - c->size) {
            uint64_t gpa = va < G_DATA + 2 * PAGE ? va : va + 7 * PAGE;
            uint64_t mask = UINT64_MAX >> (64 - 8 * c->size);

            g_assert_cmphex(guest_read64(g, gpa) & mask, ==, value);
        }
    }
    guest_free(g);
}

static void test_small_index(void)
{
    static const struct small cases[] = {
        {small_and, small_and_end, 7, 8, 8, -72},
        {small_byte, small_byte_end, 0xff, 1, 1, 0},
        {small_shift, small_shift_end, 0xff, 4, 4, -128},
        {small_spoilt, small_spoilt_end, 0xff, 8, 8, -72},
    };

    for (unsigned i = 0; i < G_N_ELEMENTS(cases); i++) {
        small_index(&cases[i]);
    }
}

GUEST_CODE(high_byte, "or %ah, 0x58(%rcx)\n"
                      "int3");

/* AH with memory, at addresses that are not canonical: nothing has changed when it faults. */
static void test_high_byte(void)
{
    struct guest *g = guest_new();

    GUEST_LOAD(g, high_byte);
    for (unsigned n = 0; n < 8; n++) {
        for (unsigned i = 0; i < 3; i++) {
            g->cpu->gpr[CPU_RAX] = 0x1234;
            g->cpu->gpr[CPU_RCX] = G_DATA + n;
            g_assert_cmpint(near_run(g, G_CODE), ==, CPU_BP);
            g_assert_cmphex(g->cpu->gpr[CPU_RAX], ==, 0x1234);
            g_assert_cmphex(guest_read64(g, G_DATA + 0x58 + n) & 0xff, ==, 0x12);
        }
        guest_flush(g);
        g->cpu->gpr[CPU_RCX] = (1ull << 63) - 0x58 + n * 512;
        g_assert_cmpint(near_run(g, G_CODE), ==, CPU_GP);
        g_assert_cmphex(g->cpu->gpr[CPU_RAX], ==, 0x1234);
    }
    guest_free(g);
}

/* ---- a device in between ---- */

/* Lines apart: the first store does not change the code. */
GUEST_CODE(device_far, "mov %rdx, -1024(%rsi)\n" /* too far for one check */
                       "mov (%rdi), %eax\n"
                       "mov %rdx, 72(%rsi)\n"
                       "int3");
GUEST_CODE(device_near, "mov %rdx, (%rsi)\n"
                        "mov (%rdi), %eax\n"
                        "mov %rdx, 72(%rsi)\n"
                        "int3");

struct device {
    struct vcpu_board_ops ops;
    struct guest *g;
    struct vcpu *other;
    uint64_t rax;
};

static void *device_thread(void *opaque)
{
    struct device *dev = opaque;
    struct exit exit;

    dev->other->cpu.rip = G_DATA + 0x848;
    dev->other->cpu.halted = false;
    interp_accel_ops.run(dev->other, &exit);
    dev->rax = dev->other->cpu.gpr[CPU_RAX];
    return NULL;
}

static struct device *device_now; /* board_ops have no pointer of their own */

/* While the device is read another vCPU runs code on the page of the two stores. */
static uint64_t device_read(struct vcpu *v, uint64_t gpa, unsigned size)
{
    (void)v, (void)gpa, (void)size;
    g_thread_join(g_thread_new("other", device_thread, device_now));
    return 0;
}

static void device_run(const uint8_t *code, size_t len, bool user)
{
    struct guest *g = guest_new();
    struct device dev = {.ops = *g->v->board_ops, .g = g};

    dev.ops.mmio_read = device_read;
    dev.other = guest_second(g);
    device_now = &dev;
    guest_load(g, G_CODE, code, len);
    for (uint8_t i = 1; i < 10; i++) {
        g->v->board_ops = &dev.ops;
        g->cpu->gpr[CPU_RSI] = G_DATA + 0x800;
        g->cpu->gpr[CPU_RDI] = G_MMIO;
        g->cpu->gpr[CPU_RDX] = near_code(i);
        if (i == 1) {
            guest_write64(g, G_DATA + 0x848, near_code(0));
        }
        g->cpu->gpr[CPU_RSP] = G_STACK - 0x800;
        g->cpu->rip = G_CODE;
        if (user) {
            near_user(g, G_CODE);
        }
        g_assert_cmpint(guest_vector(g), ==, CPU_BP);
        g_assert_cmphex(dev.rax, ==, i - 1u);
        (void)device_thread(&dev); /* sees the second store */
        g_assert_cmphex(dev.rax, ==, i);
    }
    guest_free(g);
}

/* What was checked before the device was read is not good behind it. */
static void test_fields_device(void)
{
    for (unsigned user = 0; user < 2; user++) {
        device_run(device_far, (size_t)(device_far_end - device_far), user != 0);
        device_run(device_near, (size_t)(device_near_end - device_near), user != 0);
    }
}

int main(int argc, char **argv)
{
    if (!guest_tests(&argc, &argv)) {
        return 0;
    }
    g_test_add_func("/interp/near/fields", test_fields);
    g_test_add_func("/interp/near/fields-wide", test_fields_wide);
    g_test_add_func("/interp/near/crowd", test_crowd);
    g_test_add_func("/interp/near/fields-fault", test_fields_fault);
    g_test_add_func("/interp/near/fields-maybe", test_fields_maybe);
    g_test_add_func("/interp/near/fields-device", test_fields_device);
    g_test_add_func("/interp/near/stack-array", test_stack_array);
    g_test_add_func("/interp/near/small-index", test_small_index);
    g_test_add_func("/interp/near/high-byte", test_high_byte);
    return g_test_run();
}
