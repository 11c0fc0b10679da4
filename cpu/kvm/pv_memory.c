/* SPDX-License-Identifier: MIT */
/*
 * The shim's pages: L3, L2 and the code for all vCPUs, then for each vCPU its L1 table and what
 * that leads to (pv.h). They are one memory slot outside guest memory; the guest's own window
 * (core/memory.h) is another.
 */
#include "pv.h"

#include <errno.h>
#include <string.h>
#include <sys/mman.h>

#include "cpu/kvm/kvm.h"

enum {
    SHIM_L3,
    SHIM_L2,
    SHIM_CODE,
    SHIM_FIRST_VCPU,
    /* of a vCPU */
    SHIM_L1 = 0,
    SHIM_XEN_GDT,
    SHIM_IDT,
    SHIM_TSS,
    SHIM_STACK,
    SHIM_STACK2,
    SHIM_DATA,
    SHIM_INFO,
    SHIM_VCPU_PAGES,
    SHIM_PAGES = SHIM_FIRST_VCPU + SHIM_VCPU_PAGES * KVM_PV_VCPUS,
};

#define PTE_TABLE 0x23ull /* P, RW, A */
#define PTE_DATA (0x63ull | 1ull << 63)
#define PTE_CODE 0x61ull
#define PTE_ADDRESS 0x000ffffffffff000ull

/* TSS: the interrupt stack table, and no I/O bitmap. */
enum { TSS_IST = 0x24, TSS_BITMAP = 0x66, TSS_BYTES = 0x68, GATE_INTERRUPT = 0x8e00 };

static uint64_t shim_gpa(unsigned page)
{
    return KVM_PV_SHIM_GPA + page * 4096ull;
}

static void *shim_page(const struct kvm_vm *vm, unsigned page)
{
    return vm->pv_shim + page * 4096ul;
}

static int shim_make(struct kvm_vm *vm)
{
    const size_t code = (size_t)(kvm_pv_shim_end - kvm_pv_shim);
    uint64_t gfn;
    uint32_t frame, pages = mem_window(vm->mem, &gfn, &frame);
    void *shim = mmap(NULL, SHIM_PAGES * 4096ul, PROT_READ | PROT_WRITE,
                      MAP_SHARED | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
    int ret;

    G_STATIC_ASSERT((KVM_PV_L4_ENTRY & PTE_ADDRESS) == KVM_PV_SHIM_GPA);
    g_assert(code <= 4096);
    if (shim == MAP_FAILED) {
        return -errno;
    }
    vm->pv_shim = shim;
    memcpy(shim_page(vm, SHIM_CODE), kvm_pv_shim, code);
    *(uint64_t *)shim_page(vm, SHIM_L3) = shim_gpa(SHIM_L2) | PTE_TABLE;
    ret = kvm_vm_set_slot(vm, KVM_SLOT_SHIM, KVM_PV_SHIM_GPA, SHIM_PAGES * 4096ull, shim);
    if (ret >= 0 && pages > 0) {
        ret = kvm_vm_set_slot(vm, KVM_SLOT_WINDOW, gfn << MEM_PAGE_SHIFT,
                              (uint64_t)pages << MEM_PAGE_SHIFT, mem_frame_hva(vm->mem, frame));
    }
    return ret;
}

void kvm_pv_memory_free(struct kvm_vm *vm)
{
    if (vm->pv_shim != NULL) {
        munmap(vm->pv_shim, SHIM_PAGES * 4096ul);
    }
    g_mutex_clear(&vm->pv_lock);
}

/* --- a vCPU's pages --- */

static void shim_fill_gdt(uint64_t *page)
{
    page[(KVM_PV_CS0 & 0xfff) / 8] = 0x00af9b000000ffffull;
    page[(KVM_PV_SS0 & 0xfff) / 8] = 0x00cf93000000ffffull;
    page[(KVM_PV_CS32 & 0xfff) / 8] = 0x00cffb000000ffffull;
    page[(KVM_PV_DS & 0xfff) / 8] = 0x00cff3000000ffffull;
    page[(KVM_PV_CS64 & 0xfff) / 8] = 0x00affb000000ffffull;
}

static unsigned shim_stack_of(unsigned vector)
{
    switch (vector) {
    case CPU_DB:
        return 2;
    case CPU_NMI:
    case CPU_DOUBLE_FAULT:
    case CPU_MC:
        return 3;
    default:
        return 1;
    }
}

/* All are for CPL 0 only: INT n comes as #GP, whatever n is. */
static void shim_fill_idt(const struct kvm_pv_cpu *pv, uint64_t *page)
{
    for (unsigned i = 0; i < KVM_PV_VECTORS; i++) {
        uint64_t at = kvm_pv_code(pv, kvm_pv_shim + i * KVM_PV_VECTOR_BYTES);

        page[2 * i] = (at & 0xffff) | (uint64_t)KVM_PV_CS0 << 16 |
                      (uint64_t)(GATE_INTERRUPT | shim_stack_of(i)) << 32 |
                      (at >> 16 & 0xffff) << 48;
        page[2 * i + 1] = at >> 32;
    }
}

static void shim_fill_tss(const struct kvm_pv_cpu *pv, uint8_t *page)
{
    const uint64_t ist[] = {
        pv->linear + (KVM_PV_PAGE_STACK + 1) * 4096ull,
        pv->linear + KVM_PV_PAGE_STACK2 * 4096ull + 2048,
        pv->linear + (KVM_PV_PAGE_STACK2 + 1) * 4096ull,
    };
    const uint16_t bitmap = TSS_BYTES;

    memcpy(page + TSS_IST, ist, sizeof(ist));
    memcpy(page + TSS_BITMAP, &bitmap, sizeof(bitmap));
}

static void shim_fill_vcpu(struct kvm_vm *vm, struct kvm_pv_cpu *pv, unsigned id)
{
    static const struct {
        uint8_t index, page;
    } data[] = {
        {KVM_PV_PAGE_XEN_GDT, SHIM_XEN_GDT}, {KVM_PV_PAGE_IDT, SHIM_IDT},
        {KVM_PV_PAGE_TSS, SHIM_TSS},         {KVM_PV_PAGE_STACK, SHIM_STACK},
        {KVM_PV_PAGE_STACK2, SHIM_STACK2},   {KVM_PV_PAGE_DATA, SHIM_DATA},
        {KVM_PV_PAGE_INFO, SHIM_INFO},
    };
    const unsigned first = SHIM_FIRST_VCPU + id * SHIM_VCPU_PAGES;

    pv->linear = KVM_PV_BASE + (uint64_t)id * KVM_PV_STRIDE;
    pv->l1 = shim_page(vm, first + SHIM_L1);
    pv->stack = shim_page(vm, first + SHIM_STACK);
    pv->stack2 = shim_page(vm, first + SHIM_STACK2);
    pv->data = shim_page(vm, first + SHIM_DATA);
    pv->info = shim_page(vm, first + SHIM_INFO);
    pv->info_frame = MEM_HOLE;
    for (unsigned i = 0; i < G_N_ELEMENTS(data); i++) {
        pv->l1[data[i].index] = shim_gpa(first + data[i].page) | PTE_DATA;
    }
    pv->l1[KVM_PV_PAGE_CODE] = shim_gpa(SHIM_CODE) | PTE_CODE;
    shim_fill_gdt(shim_page(vm, first + SHIM_XEN_GDT));
    shim_fill_idt(pv, shim_page(vm, first + SHIM_IDT));
    shim_fill_tss(pv, shim_page(vm, first + SHIM_TSS));
    ((uint64_t *)shim_page(vm, SHIM_L2))[id] = shim_gpa(first + SHIM_L1) | PTE_TABLE;
}

int kvm_pv_prepare(struct kvm_engine *k)
{
    struct kvm_vm *vm = k->vm;
    int ret = 0;

    if (k->v->id >= KVM_PV_VCPUS) {
        return -E2BIG;
    }
    g_mutex_lock(&vm->pv_lock);
    if (vm->pv_shim == NULL) {
        ret = shim_make(vm);
    }
    g_mutex_unlock(&vm->pv_lock);
    if (ret >= 0) {
        k->pv = g_new0(struct kvm_pv_cpu, 1);
        shim_fill_vcpu(vm, k->pv, k->v->id);
    }
    return ret;
}

void kvm_pv_map_gdt(struct kvm_engine *k)
{
    struct kvm_pv_cpu *pv = k->pv;
    uint64_t mfns[VCPU_PV_GDT_FRAMES];

    k->v->pv->gdt(k->v, mfns);
    for (unsigned i = 0; i < VCPU_PV_GDT_FRAMES; i++) {
        if (mfns[i] != pv->gdt[i]) {
            pv->gdt[i] = mfns[i];
            pv->l1[i] = mfns[i] == 0 ? 0 : (mfns[i] << 12 & PTE_ADDRESS) | PTE_DATA;
            pv->flush = true;
        }
    }
}
