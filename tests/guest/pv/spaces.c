/* SPDX-License-Identifier: MIT */
/*
 * Address spaces that come back: what a page-table base was loaded for is seen, whatever was
 * changed meanwhile without a flush, and however user and kernel tables are paired.
 */
#include "pv.h"

#define VA 0x10000000ull /* what it maps differs by space */

struct tables {
    uint64_t *l4, *l3, *l2, *l1;
};

static uint64_t *data[3]; /* each begins with its number */
static uint64_t seen;

extern uint8_t user_code[], user_code_end[];
__asm__(".text\n"
        "user_code: movq 0x10000800, %rax; int $0x80; ud2\n"
        "user_code_end:\n");

static uint64_t entry(const void *va, uint64_t flags)
{
    return va_mfn(va) << 12 | flags;
}

static volatile uint64_t *at_va(void)
{
    return (volatile uint64_t *)VA;
}

static void write_va(uint64_t value)
{
    *at_va() = value;
}

static uint64_t l1_entry(const struct tables *t)
{
    return (va_mfn(t->l1) << 12) + (VA >> 12 & 511) * 8;
}

/* Tables that map VA to page; l4 may be filled already. */
static void tables_make(struct tables *t, const void *page)
{
    t->l3 = page_alloc();
    t->l2 = page_alloc();
    t->l1 = page_alloc();
    t->l1[VA >> 12 & 511] = entry(page, P | RW | US);
    t->l2[VA >> 21 & 511] = entry(t->l1, P | RW | US);
    t->l3[0] = entry(t->l2, P | RW | US);
    CHECK(make_ro(t->l1), 0);
    CHECK(make_ro(t->l2), 0);
    CHECK(make_ro(t->l3), 0);
}

static void tables_pin(struct tables *t)
{
    t->l4[0] = entry(t->l3, P | RW | US);
    CHECK(make_ro(t->l4), 0);
    CHECK(mmuext1(MMUEXT_PIN_L4_TABLE, va_mfn(t->l4), 0), 0);
}

static void kernel_base(const struct tables *t)
{
    CHECK(mmuext1(MMUEXT_NEW_BASEPTR, va_mfn(t->l4), 0), 0);
}

static void user_base(const struct tables *t)
{
    CHECK(mmuext1(MMUEXT_NEW_USER_BASEPTR, va_mfn(t->l4), 0), 0);
}

/* a is the space the kernel began in, b one like it; VA apart. */
static void make_kernels(struct tables *a, struct tables *b)
{
    a->l4 = (uint64_t *)start_info->pt_base;
    tables_make(a, data[0]);
    CHECK(mmu_update1(va_mfn(a->l4) << 12, entry(a->l3, P | RW | US)), 0);
    b->l4 = page_alloc();
    for (unsigned i = 1; i < 512; i++) {
        b->l4[i] = i < 256 || i > 271 ? a->l4[i] : 0;
    }
    tables_make(b, data[1]);
    tables_pin(b);
}

static void check_kernels(struct tables *a, struct tables *b)
{
    for (unsigned i = 0; i < 3; i++) {
        kernel_base(a);
        CHECK(*at_va(), 0);
        kernel_base(b);
        CHECK(*at_va(), 1);
    }
    kernel_base(a);
    CHECK(*at_va(), 0);
    CHECK(mmu_update1(l1_entry(b), entry(data[2], P | RW | US)), 0); /* another page */
    kernel_base(b);
    CHECK(*at_va(), 2);
    CHECK(try_call((void *)write_va, 2), 0);
    kernel_base(a);
    CHECK(mmu_update1(l1_entry(b), entry(data[2], P | US)), 0); /* not to be written */
    kernel_base(b);
    CHECK(*at_va(), 2);
    CHECK(try_call((void *)write_va, 5), 15);
    kernel_base(a);
    CHECK(mmu_update1(l1_entry(b), entry(data[2], P | RW | US)), 0);
    kernel_base(b);
    CHECK(try_call((void *)write_va, 2), 0);
    CHECK(b->l1[VA >> 12 & 511] & D, D);
    kernel_base(a);
    CHECK(mmu_update1(l1_entry(b), entry(data[2], P | RW | US | A)), 0); /* D is gone */
    kernel_base(b);
    CHECK(try_call((void *)write_va, 2), 0);
    CHECK(b->l1[VA >> 12 & 511] & D, D);
    kernel_base(a);
    CHECK(mmu_update1(l1_entry(b), 0), 0);
    kernel_base(b);
    CHECK(try_call((void *)write_va, 5), 15);
    kernel_base(a);
    CHECK(data[2][0], 2);
}

/* A table that stops being one and is written to as any page. */
static void check_unpinned(struct tables *a, struct tables *b)
{
    CHECK(mmu_update1(l1_entry(b), entry(data[1], P | RW | US)), 0);
    kernel_base(b);
    CHECK(*at_va(), 1);
    kernel_base(a);
    CHECK(mmuext1(MMUEXT_UNPIN_TABLE, va_mfn(b->l4), 0), 0);
    CHECK(make_rw(b->l1), 0);
    b->l1[VA >> 12 & 511] = entry(data[2], P | RW | US);
    CHECK(make_ro(b->l1), 0);
    CHECK(mmuext1(MMUEXT_PIN_L4_TABLE, va_mfn(b->l4), 0), 0);
    kernel_base(b);
    CHECK(*at_va(), 2);
    kernel_base(a);
}

static bool come_back(struct frame *f)
{
    seen = f->rax;
    user_return(f);
    return true;
}

static void check_user(uint64_t want)
{
    hook = come_back;
    seen = 99;
    user_enter(VA, VA + 4096, 0x202);
    hook = NULL;
    CHECK(seen, want);
}

static void make_user(struct tables *t, uint64_t number)
{
    uint8_t *page = page_alloc();

    for (unsigned i = 0; i < (size_t)(user_code_end - user_code); i++) {
        page[i] = user_code[i];
    }
    ((uint64_t *)page)[0x800 / 8] = number;
    t->l4 = page_alloc();
    tables_make(t, page);
    tables_pin(t);
}

static void check_pairs(const struct tables *a, const struct tables *b)
{
    struct tables one, two;

    make_user(&one, 11);
    make_user(&two, 22);
    kernel_base(a);
    user_base(&one);
    check_user(11);
    user_base(&two);
    check_user(22);
    for (unsigned i = 0; i < 3; i++) {
        kernel_base(b);
        user_base(&one);
        check_user(11);
        kernel_base(a);
        user_base(&two);
        check_user(22);
    }
    kernel_base(b); /* without its own */
    check_user(22);
    kernel_base(a);
    user_base(&one);
    check_user(11);
    kernel_base(b);
    check_user(11);
    kernel_base(a);
}

/* More spaces than anybody keeps. */
static void check_many(const struct tables *a)
{
    struct tables many[9];

    for (unsigned i = 0; i < 9; i++) {
        many[i].l4 = page_alloc();
        for (unsigned k = 1; k < 512; k++) {
            many[i].l4[k] = k < 256 || k > 271 ? a->l4[k] : 0;
        }
        tables_make(&many[i], data[i % 3]);
        tables_pin(&many[i]);
    }
    for (unsigned i = 0; i < 36; i++) {
        kernel_base(&many[i * 5 % 9]);
        CHECK(*at_va(), i * 5 % 9 % 3);
    }
    kernel_base(a);
}

void test(void)
{
    struct tables a, b;

    traps_init();
    CHECK(HC2(stack_switch, 0xe02b, boot_stack - 1024), 0);
    for (unsigned i = 0; i < 3; i++) {
        data[i] = page_alloc();
        data[i][0] = i;
    }
    make_kernels(&a, &b);
    check_kernels(&a, &b);
    check_unpinned(&a, &b);
    check_pairs(&a, &b);
    check_many(&a);
}
