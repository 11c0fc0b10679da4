/* SPDX-License-Identifier: MIT */
/* Page tables: types, pins, what an update may hold, and writes through read-only mappings. */
#include "pv.h"

static uint64_t mfn_of(const void *va)
{
    return va_mfn(va);
}

static uint64_t entry(const void *va, uint64_t flags)
{
    return mfn_of(va) << 12 | flags;
}

static void check_types(void)
{
    uint64_t *l1 = page_alloc(), *l2 = page_alloc(), *data = page_alloc();

    l1[0] = entry(data, P | RW);
    l1[1] = entry(data, P | RW | US);
    CHECK(mmuext1(MMUEXT_PIN_L1_TABLE, mfn_of(l1), 0), -EINVAL_); /* writable to us */
    CHECK(make_ro(l1), 0);
    CHECK(mmuext1(MMUEXT_PIN_L1_TABLE, mfn_of(l1), 0), 0);
    CHECK(l1[0], entry(data, P | RW | US) | KERNEL_ONLY);
    CHECK(l1[1], entry(data, P | RW | US | G));
    CHECK(mmuext1(MMUEXT_PIN_L1_TABLE, mfn_of(l1), 0), -EINVAL_); /* pinned already */
    CHECK(mmuext1(MMUEXT_PIN_L2_TABLE, mfn_of(l1), 0), -EINVAL_); /* another type */
    CHECK(make_rw(l1), -EBUSY_);
    l2[0] = entry(l1, P | RW);
    l2[1] = entry(data, P | RW); /* not a table, and writable to us */
    CHECK(make_ro(l2), 0);
    CHECK(mmuext1(MMUEXT_PIN_L2_TABLE, mfn_of(l2), 0), -EINVAL_);
    CHECK(make_rw(l2), 0);
    l2[1] = 0;
    CHECK(make_ro(l2), 0);
    CHECK(mmuext1(MMUEXT_PIN_L2_TABLE, mfn_of(l2), 0), 0);
    CHECK(l2[0], entry(l1, P | RW | US));
    CHECK(mmuext1(MMUEXT_UNPIN_TABLE, mfn_of(l1), 0), 0);
    CHECK(mmuext1(MMUEXT_UNPIN_TABLE, mfn_of(l1), 0), -EINVAL_);
    CHECK(make_rw(l1), -EBUSY_); /* the L2 still leads to it */
    CHECK(mmuext1(MMUEXT_UNPIN_TABLE, mfn_of(l2), 0), 0);
    CHECK(make_rw(l1), 0);
    CHECK(make_rw(l2), 0);
    CHECK(mmuext1(MMUEXT_PIN_L1_TABLE, 1ull << 40, 0), -EINVAL_);
    CHECK(mmuext1(MMUEXT_UNPIN_TABLE, mfn_of(data), 0), -EINVAL_);
    CHECK(mmuext1(MMUEXT_UNPIN_TABLE, 1ull << 40, 0), -EINVAL_);
    l2[0] = 0;
    CHECK(make_ro(l2), 0);
    CHECK(mmuext1(MMUEXT_PIN_L3_TABLE, mfn_of(l2), 0), 0); /* an empty one can be any */
    CHECK(mmuext1(MMUEXT_PIN_L4_TABLE, mfn_of(l2), 0), -EINVAL_);
    CHECK(mmuext1(MMUEXT_UNPIN_TABLE, mfn_of(l2), 0), 0);
    CHECK(make_rw(l2), 0);
}

static void check_updates(void)
{
    uint64_t *l1 = page_alloc(), *l2 = page_alloc(), *data = page_alloc();
    const uint64_t table = start_info->pt_base, m1 = mfn_of(l1) << 12, m2 = mfn_of(l2) << 12;
    uint32_t done = 99;

    CHECK(make_ro(l1), 0);
    CHECK(make_ro(l2), 0);
    CHECK(mmuext1(MMUEXT_PIN_L1_TABLE, mfn_of(l1), 0), 0);
    CHECK(mmuext1(MMUEXT_PIN_L2_TABLE, mfn_of(l2), 0), 0);
    CHECK(mmu_update1(m1 + 8, entry(data, P | RW)), 0);
    CHECK(l1[1], entry(data, P | RW | US) | KERNEL_ONLY);
    CHECK(mmu_update1(m1 + 8, entry((void *)table, P | RW)), -EBUSY_); /* a page table */
    CHECK(mmu_update1(m1 + 8, entry((void *)table, P)), 0);
    CHECK(mmu_update1(m1 + 8, 1ull << 50 | P), -EPERM_);      /* nobody's */
    CHECK(mmu_update1(m1 + 8, 0x000ffffffffff000ull | P), -EINVAL_);
    CHECK(mmu_update1(m1 + 8, entry(data, P | PWT)), -EINVAL_); /* all memory is write-back */
    CHECK(mmu_update1(m1 + 8, entry(data, P | PCD)), -EINVAL_);
    CHECK(mmu_update1(m1 + 8, entry(data, P | PAT)), -EINVAL_);
    CHECK(update_va(data, entry(data, P | PAT), 0), -EINVAL_);
    CHECK(mmu_update1(m1 + 8, entry(data, P | US | G)), 0);
    CHECK(mmu_update1(m1 + 8, PWT | PCD | PAT), 0);            /* not present */
    CHECK(mmu_update1(m1 + 8, 0xdeadbeef000ull), 0);           /* not present: anything */
    CHECK(l1[1], 0xdeadbeef000ull);
    CHECK(mmu_update1(m1 + 8, entry(data, P | RW | D | A)), 0);
    CHECK(mmu_update1((m1 + 8) | MMU_PT_UPDATE_PRESERVE_AD, entry(data, P | RW)), 0);
    CHECK(l1[1], entry(data, P | RW | US | A | D) | KERNEL_ONLY);
    CHECK(mmu_update1((m1 + 8) | MMU_PT_UPDATE_NO_TRANSLATE, entry(data, P | RW)), 0);
    CHECK(l1[1], entry(data, P | RW | US) | KERNEL_ONLY);
    CHECK(mmu_update1(m2, entry(l1, P | RW | PSE)), -EINVAL_);
    CHECK(mmu_update1(m2, entry(l1, P | RW)), 0);
    CHECK(mmu_update1(m2 + 8, entry(l2, P | RW)), -EINVAL_);   /* itself */
    CHECK(mmu_update1(m2, 0), 0);
    CHECK(mmu_update1(entry(data, 0), 42), 0);                 /* no table: a plain store */
    CHECK(data[0], 42);
    CHECK(mmu_update1(1ull << 50, 0), -EINVAL_);
    for (unsigned command = 4; command < 8; command++) {
        CHECK(mmu_update1(m1 + 8 + command, entry(data, P)), -ENOSYS_);
    }
    CHECK(HC4(mmu_update, BAD_POINTER, 1, 0, DOMID_SELF), -EFAULT_);
    CHECK(HC4(mmu_update, 0, 0, &done, 5), -3);                /* ESRCH: another domain */
    CHECK(done, 0);
    CHECK(HC4(mmu_update, 0, 0, 0, 1), -3);                    /* itself, but not by DOMID_SELF */
    CHECK(HC4(mmu_update, 0, 0, 0, 0), -EPERM_);
    CHECK(mmuext1(MMUEXT_UNPIN_TABLE, mfn_of(l1), 0), 0);
    CHECK(mmuext1(MMUEXT_UNPIN_TABLE, mfn_of(l2), 0), 0);
    CHECK(make_rw(l1), 0);
    CHECK(make_rw(l2), 0);
}

/* Lists: how many were done is told, the first failure ends them. */
static void check_lists(void)
{
    uint64_t *l1 = page_alloc();
    struct mmu_update list[3];
    static struct mmu_update many[3000];
    uint32_t done = 99;

    CHECK(make_ro(l1), 0);
    CHECK(mmuext1(MMUEXT_PIN_L1_TABLE, mfn_of(l1), 0), 0);
    for (unsigned i = 0; i < 3; i++) {
        list[i].ptr = (mfn_of(l1) << 12) + 8 * i;
        list[i].val = i == 1 ? 1ull << 50 | P : 0x1000;
    }
    CHECK(HC4(mmu_update, list, 3, &done, DOMID_SELF), -EPERM_);
    CHECK(done, 1);
    CHECK(l1[0], 0x1000);
    CHECK(l1[2], 0);
    for (unsigned i = 0; i < 3000; i++) { /* longer than the budget of one call */
        many[i].ptr = (mfn_of(l1) << 12) + 8 * (i % 512);
        many[i].val = i << 12;
    }
    CHECK(HC4(mmu_update, many, 3000, &done, DOMID_SELF), 0);
    CHECK(done, 3000);
    CHECK(l1[2999 % 512], 2999 << 12);
    CHECK(mmuext1(MMUEXT_UNPIN_TABLE, mfn_of(l1), 0), 0);
    CHECK(make_rw(l1), 0);
}

static void check_va(void)
{
    uint64_t *page = page_alloc(), *other = page_alloc();
    uint64_t vcpus = 1;

    other[0] = 7;
    CHECK(update_va((void *)BAD_POINTER, entry(page, P), 0), -EINVAL_); /* no L1 there */
    CHECK(update_va((void *)HV, entry(page, P), 0), -EINVAL_);
    CHECK(update_va((void *)(1ull << 60), entry(page, P), 0), -EINVAL_);
    CHECK(update_va(page, entry(other, P), UVMF_INVLPG | UVMF_ALL), 0);
    CHECK(page[0], 7);
    CHECK(update_va(page, entry(page, P | RW), UVMF_TLB_FLUSH | (uint64_t)&vcpus), 0);
    page[0] = 8;
    CHECK(other[0], 7);
    CHECK(update_va(page, entry(page, P | RW), UVMF_TLB_FLUSH | BAD_POINTER), -EFAULT_);
    CHECK(HC4(update_va_mapping_otherdomain, page, entry(page, P | RW), 0, DOMID_SELF), 0);
    CHECK(update_va(page, entry(page, P | RW), UVMF_INVLPG | (uint64_t)&vcpus), 0);
    CHECK(update_va(page, entry(page, P | RW), UVMF_TLB_FLUSH | UVMF_ALL), 0);
    CHECK(update_va(page, entry(page, P | RW), UVMF_TLB_FLUSH), 0);
    CHECK(update_va(page, entry((void *)start_info->pt_base, P | RW), 0), -EBUSY_);
    CHECK(update_va(page, 1ull << 50 | P, 0), -EPERM_);
    CHECK(update_va(page, 0x000ffffffffff000ull | P, 0), -EINVAL_);
    CHECK(HC4(update_va_mapping_otherdomain, page, 0, 0, 0), -EPERM_);
    CHECK(HC4(update_va_mapping_otherdomain, page, 0, 0, 1), -ESRCH_);
    CHECK(HC4(update_va_mapping_otherdomain, page, 0, 0, 77), -3); /* ESRCH */
    CHECK(HC4(update_va_mapping_otherdomain, BAD_POINTER, 0, 0, DOMID_SELF), -EINVAL_);
}

static void check_mmuext(void)
{
    uint64_t *page = page_alloc(), *other = page_alloc();
    uint64_t vcpus = 1, root = va_mfn((void *)start_info->pt_base);
    struct mmuext_op list[3] = {{.cmd = MMUEXT_TLB_FLUSH_LOCAL}, {.cmd = 99}};
    uint32_t done = 99;
    uint64_t *l4 = page_alloc(), *l3 = page_alloc(), *l2 = page_alloc(), *l1 = page_alloc();
    void *const tables[] = {l4, l3, l2, l1};

    CHECK(HC4(mmuext_op, list, 3, &done, DOMID_SELF), -ENOSYS_);
    CHECK(done, 1);
    CHECK(HC4(mmuext_op, list, 1, BAD_POINTER, DOMID_SELF), 0); /* it is done all the same */
    CHECK(HC4(mmuext_op, BAD_POINTER, 1, 0, DOMID_SELF), -EFAULT_);
    CHECK(HC4(mmuext_op, list, 1, 0, 0), -EPERM_);
    CHECK(HC4(mmuext_op, list, 1, 0, 1), -ESRCH_);
    CHECK(HC4(mmuext_op, list, 1, 0, 77), -3); /* ESRCH */
    page[5] = 5;
    CHECK(mmuext1(MMUEXT_COPY_PAGE, mfn_of(other), mfn_of(page)), 0);
    CHECK(other[5], 5);
    CHECK(mmuext1(MMUEXT_CLEAR_PAGE, mfn_of(other), 0), 0);
    CHECK(other[5], 0);
    CHECK(mmuext1(MMUEXT_CLEAR_PAGE, root, 0), -EINVAL_);
    CHECK(mmuext1(MMUEXT_CLEAR_PAGE, 1ull << 40, 0), -EINVAL_);
    CHECK(mmuext1(MMUEXT_COPY_PAGE, root, mfn_of(page)), -EINVAL_);
    CHECK(mmuext1(MMUEXT_COPY_PAGE, mfn_of(other), 1ull << 40), -EINVAL_);
    CHECK(mmuext1(MMUEXT_TLB_FLUSH_LOCAL, 0, 0), 0);
    CHECK(mmuext1(MMUEXT_INVLPG_LOCAL, (uint64_t)page, 0), 0);
    CHECK(mmuext1(MMUEXT_INVLPG_LOCAL, 1ull << 60, 0), 0);
    CHECK(mmuext1(MMUEXT_TLB_FLUSH_MULTI, 0, (uint64_t)&vcpus), 0);
    CHECK(mmuext1(MMUEXT_TLB_FLUSH_MULTI, 0, BAD_POINTER), -EINVAL_);
    CHECK(mmuext1(MMUEXT_INVLPG_MULTI, (uint64_t)page, (uint64_t)&vcpus), 0);
    CHECK(mmuext1(MMUEXT_INVLPG_MULTI, (uint64_t)page, BAD_POINTER), -EINVAL_);
    CHECK(mmuext1(MMUEXT_TLB_FLUSH_ALL, 0, 0), 0);
    CHECK(mmuext1(MMUEXT_INVLPG_ALL, (uint64_t)page, 0), 0);
    CHECK(mmuext1(MMUEXT_FLUSH_CACHE, 0, 0), -EACCES_);
    CHECK(mmuext1(MMUEXT_FLUSH_CACHE_GLOBAL, 0, 0), -EINVAL_);
    CHECK(mmuext1(MMUEXT_MARK_SUPER, 0, 0), -EOPNOTSUPP_);
    CHECK(mmuext1(MMUEXT_UNMARK_SUPER, 0, 0), -EOPNOTSUPP_);
    CHECK(mmuext1(99, 0, 0), -ENOSYS_);
    CHECK(mmuext1(MMUEXT_NEW_BASEPTR, mfn_of(page), 0), -EINVAL_);
    CHECK(mmuext1(MMUEXT_NEW_USER_BASEPTR, mfn_of(page), 0), -EINVAL_);
    l4[0] = entry(l3, P | US);
    l3[0] = entry(l2, P | US);
    l2[0] = entry(l1, P | US);
    l1[0] = entry((void *)start_info->pt_base, P | RW); /* a table */
    for (unsigned i = 0; i < 4; i++) {
        CHECK(make_ro(tables[i]), 0);
    }
    CHECK(mmuext1(MMUEXT_PIN_L4_TABLE, mfn_of(l4), 0), -EBUSY_);
    CHECK(mmuext1(MMUEXT_NEW_BASEPTR, mfn_of(l4), 0), -EBUSY_);
    CHECK(mmuext1(MMUEXT_NEW_USER_BASEPTR, mfn_of(l4), 0), -EBUSY_);
    CHECK(mmuext1(MMUEXT_NEW_BASEPTR, root, 0), 0);
    CHECK(mmuext1(MMUEXT_NEW_USER_BASEPTR, root, 0), 0);
    CHECK(mmuext1(MMUEXT_NEW_USER_BASEPTR, 0, 0), 0);
}

/* Instructions that write to a pinned L1 through its read-only mapping. */
static void check_emulated(void)
{
    volatile uint64_t *l1 = page_alloc();
    void *data = page_alloc();
    uint64_t value, expected;
    uint8_t zf;

    CHECK(make_ro((void *)l1), 0);
    CHECK(mmuext1(MMUEXT_PIN_L1_TABLE, mfn_of((void *)l1), 0), 0);
    CHECK(HC2(vm_assist, VMASST_CMD_enable, VMASST_TYPE_writable_pagetables), 0);
    l1[1] = entry(data, P | RW | A);
    CHECK(l1[1], entry(data, P | RW | US | A) | KERNEL_ONLY);
    value = 0x5000;
    __asm__ volatile("xchgq %0, %1" : "+r"(value), "+m"(l1[1]));
    CHECK(value, entry(data, P | RW | US | A) | KERNEL_ONLY);
    CHECK(l1[1], 0x5000);
    expected = 0x5000;
    __asm__ volatile("lock cmpxchgq %3, %1\n\tsetz %2"
                     : "+a"(expected), "+m"(l1[1]), "=q"(zf) : "r"(0x6000ul));
    CHECK(zf, 1);
    CHECK(l1[1], 0x6000);
    expected = 0x5000;
    __asm__ volatile("lock cmpxchgq %3, %1\n\tsetz %2"
                     : "+a"(expected), "+m"(l1[1]), "=q"(zf) : "r"(0x7000ul));
    CHECK(zf, 0);
    CHECK(expected, 0x6000);
    __asm__ volatile("lock btrq %1, %0" : "+m"(l1[1]) : "r"(14ul));
    CHECK(l1[1], 0x2000);
    __asm__ volatile("lock btsq %1, %0" : "+m"(l1[1]) : "i"(15));
    CHECK(l1[1], 0xa000);
    __asm__ volatile("orq %1, %0" : "+m"(l1[1]) : "i"(0x10));
    value = 0x5000;
    __asm__ volatile("lock andq %1, %0" : "+m"(l1[1]) : "r"(value));
    CHECK(l1[1], 0);
    __asm__ volatile("addq $48, (%0)\n\tsubq $16, (%0)\n\tincb 7(%0)\n\tdecb 7(%0)\n\t"
                     "notw 2(%0)" : : "r"(&l1[1]) : "memory", "cc");
    CHECK(l1[1], 0xffff0020);
    __asm__ volatile("lock xaddq %0, %1" : "+r"(value), "+m"(l1[1]));
    CHECK(value, 0xffff0020);
    CHECK(l1[1], 0xffff5020);
    *(volatile uint32_t *)&l1[2] = 0x1000;
    *((volatile uint8_t *)&l1[2] + 7) = 0x40;
    CHECK(l1[2], 0x4000000000001000ull);
    l1[1] = 0;
    CHECK(l1[1], 0);
}

static uint64_t *victim;

static void write_bad(uint64_t value)
{
    *(volatile uint64_t *)victim = value;
}

static void write_wide(uint64_t value)
{
    uint64_t unaligned = (uint64_t)victim + 4;

    *(volatile uint64_t *)unaligned = value;
}

/* Writes that are not carried out fault in the kernel. */
static void check_refused(void)
{
    uint64_t *l1 = page_alloc(), *plain = page_alloc();
    const uint64_t root = start_info->pt_base;

    CHECK(make_ro(l1), 0);
    CHECK(make_ro(plain), 0);
    CHECK(mmuext1(MMUEXT_PIN_L1_TABLE, mfn_of(l1), 0), 0);
    victim = l1;
    CHECK(try_call((void *)write_bad, entry((void *)root, P | RW)), 15); /* a table, writable */
    CHECK(last.error, 3);
    CHECK(try_call((void *)write_wide, 0), 15);
    victim = plain;
    CHECK(try_call((void *)write_bad, 0), 15); /* just read-only */
    CHECK(last.error, 3);
    victim = (uint64_t *)root;
    CHECK(try_call((void *)write_bad, 0), 15); /* an L4: by hypercall only */
    victim = l1;
    CHECK(HC2(vm_assist, VMASST_CMD_disable, VMASST_TYPE_writable_pagetables), 0);
    CHECK(try_call((void *)write_bad, 0), 15);
    victim = (uint64_t *)HV;
    CHECK(try_call((void *)write_bad, 0), 15); /* the machine-to-physical table */
}

/* L4 tables: the hypervisor's slots, and a table that leads to itself. */
static void check_l4(void)
{
    uint64_t *l4 = page_alloc();
    uint64_t self;

    l4[300] = entry(l4, P | US);
    l4[260] = 0x1234; /* is overwritten */
    self = mfn_of(l4);
    CHECK(make_ro(l4), 0);
    CHECK(mmuext1(MMUEXT_PIN_L4_TABLE, self, 0), 0);
    CHECK(l4[260], 0);
    CHECK(l4[256], 0);
    CHECK(mmu_update1((self << 12) + 260 * 8, 0), -EINVAL_);
    CHECK(mmu_update1((self << 12) + 301 * 8, self << 12 | P | RW), -EINVAL_);
    CHECK(mmu_update1((self << 12) + 301 * 8, self << 12 | P), 0);
    CHECK(mmuext1(MMUEXT_UNPIN_TABLE, self, 0), 0);
    CHECK(make_rw(l4), 0);
}

void test(void)
{
    traps_init();
    check_types();
    check_updates();
    check_lists();
    check_va();
    check_mmuext();
    check_emulated();
    check_refused();
    check_l4();
}
