/* SPDX-License-Identifier: MIT */
/*
 * The VM: memory slots and what all vCPUs share.
 *
 * RAM is two slots over a mapping of its own (the view), in which each page shows the frame that
 * is at that gfn now; when another comes, the view is mapped anew there and KVM follows by itself.
 * So the number of slots does not grow with what a guest does to its RAM. A page given up stays,
 * empty. Pages outside RAM (shared info, grant frames) are a slot each.
 */
#include "engine.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>

#include "base/error.h"

enum { SLOTS_UNTOLD = 32, MSRS_OF_APIC = 2 };
#define VM_NO_LAYOUT "the guest's memory cannot be laid out"
#define VM_TSS_ADDRESS  0xfffbd000ull /* three pages that Intel's KVM wants for itself */
#define VM_IDENTITY_MAP 0xfffbc000ull
#define VM_PHYS_BITS    40
#define VM_HYPERCALL_MSR 0x40000000u /* Xen's */

/* --- memory --- */

int kvm_vm_set_slot(struct kvm_vm *vm, uint32_t slot, uint64_t gpa, uint64_t len, void *hva)
{
    struct kvm_userspace_memory_region region = {
        .slot = slot, .guest_phys_addr = gpa, .memory_size = len,
        .userspace_addr = (uintptr_t)hva,
        .flags = vm->log_frames != NULL && slot <= KVM_SLOT_HIGH ? KVM_MEM_LOG_DIRTY_PAGES : 0,
    };

    return kvm_ioctl(vm->sys, vm->fd, KVM_SET_USER_MEMORY_REGION, &region);
}

void kvm_vm_failed(struct kvm_vm *vm, const char *what, int error)
{
    int none = 0;

    if (atomic_load(&vm->failed) == 0) {
        atomic_store(&vm->failed_what, what);
        atomic_compare_exchange_strong(&vm->failed, &none, error);
    }
}

static bool vm_map_frame(struct kvm_vm *vm, uint64_t page, uint32_t frame)
{
    uint8_t *at = vm->view + (page << MEM_PAGE_SHIFT);

    if (frame == page && !vm->other[page]) {
        return true;
    }
    if (mmap(at, MEM_PAGE_SIZE, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_NORESERVE | MAP_FIXED,
             mem_fd(vm->mem), (off_t)frame << MEM_PAGE_SHIFT) == MAP_FAILED) {
        return false;
    }
    madvise(at, MEM_PAGE_SIZE, MADV_DONTDUMP); /* the host joins it only with what is alike */
    vm->other[page] = frame != page;
    return true;
}

/*
 * Frame `frame` at the page of the view, or holes at `count` pages; the same when it is there
 * already. A hole is the page's own frame: it is the guest's, it was emptied when it was given up, and it
 * will be when it is had again. So only frames outside RAM, of which there are few, cost the host a
 * mapping; a process can have 65,530 in all.
 */
static void vm_map_pages(struct kvm_vm *vm, uint64_t page, uint64_t count, uint32_t frame)
{
    for (uint64_t i = page; i < page + count; i++) {
        if (vm->log_frames != NULL) {
            kvm_dirty_moved(vm, i, frame);
        }
        if (!vm_map_frame(vm, i, frame == MEM_HOLE ? (uint32_t)i : frame)) {
            kvm_vm_failed(vm, VM_NO_LAYOUT, errno);
            return;
        }
    }
}

static bool vm_new_slot(struct kvm_vm *vm, uint32_t *slot)
{
    if (vm->free_slots->len > 0) {
        *slot = g_array_index(vm->free_slots, uint32_t, vm->free_slots->len - 1);
        g_array_set_size(vm->free_slots, vm->free_slots->len - 1);
        return true;
    }
    if (vm->next_slot >= vm->nr_slots) {
        return false;
    }
    *slot = vm->next_slot++;
    return true;
}

static void vm_drop_outside(struct kvm_vm *vm, uint64_t gfn)
{
    gpointer value;
    uint32_t slot;

    if (g_hash_table_lookup_extended(vm->outside, GSIZE_TO_POINTER(gfn), NULL, &value)) {
        slot = GPOINTER_TO_UINT(value);
        kvm_vm_set_slot(vm, slot, gfn << MEM_PAGE_SHIFT, 0, NULL);
        g_array_append_val(vm->free_slots, slot);
        g_hash_table_remove(vm->outside, GSIZE_TO_POINTER(gfn));
    }
}

static void vm_set_outside(struct kvm_vm *vm, uint64_t gfn, uint32_t frame)
{
    uint32_t slot;
    int ret;

    vm_drop_outside(vm, gfn); /* a slot cannot get another address */
    if (frame == MEM_HOLE || gfn >> (VM_PHYS_BITS - MEM_PAGE_SHIFT) != 0) {
        return; /* no guest can reach above */
    }
    if (!vm_new_slot(vm, &slot)) {
        kvm_vm_failed(vm, VM_NO_LAYOUT, ENOSPC);
        return;
    }
    ret = kvm_vm_set_slot(vm, slot, gfn << MEM_PAGE_SHIFT, MEM_PAGE_SIZE,
                      mem_frame_hva(vm->mem, frame));
    if (ret < 0) {
        g_array_append_val(vm->free_slots, slot);
        kvm_vm_failed(vm, VM_NO_LAYOUT, -ret);
        return;
    }
    g_hash_table_insert(vm->outside, GSIZE_TO_POINTER(gfn), GUINT_TO_POINTER(slot));
}

/* As in a new machine: the view is RAM from its first frame on. */
static void vm_initial_layout(struct kvm_vm *vm)
{
    const uint64_t pages = vm->log_frames != NULL ? vm->view_size >> MEM_PAGE_SHIFT : 0;
    g_autoptr(GList) gfns = g_hash_table_get_keys(vm->outside);

    for (uint64_t page = 0; page < pages; page++) {
        kvm_dirty_moved(vm, page, (uint32_t)page);
    }
    for (const GList *l = gfns; l != NULL; l = l->next) {
        vm_drop_outside(vm, (uint64_t)(uintptr_t)l->data);
    }
    if (mmap(vm->view, vm->view_size, PROT_READ | PROT_WRITE,
             MAP_SHARED | MAP_NORESERVE | MAP_FIXED, mem_fd(vm->mem), 0) == MAP_FAILED) {
        kvm_vm_failed(vm, VM_NO_LAYOUT, errno);
    }
    madvise(vm->view, vm->view_size, MADV_DONTDUMP);
    memset(vm->other, false, (vm->view_size >> MEM_PAGE_SHIFT) * sizeof(*vm->other));
}

/* mem_layout_fn */
static void vm_layout(void *opaque, uint64_t gfn, uint64_t count, uint32_t frame)
{
    struct kvm_vm *vm = opaque;
    const uint64_t low = mem_low_bytes(vm->mem) >> MEM_PAGE_SHIFT;
    const uint64_t high = MEM_HIGH_START >> MEM_PAGE_SHIFT;

    if (gfn == MEM_ALL_GFNS) {
        vm_initial_layout(vm);
    } else if (gfn < low) {
        vm_map_pages(vm, gfn, count, frame);
    } else if (gfn >= high && gfn - high < mem_high_bytes(vm->mem) >> MEM_PAGE_SHIFT) {
        vm_map_pages(vm, low + (gfn - high), count, frame);
    } else {
        vm_set_outside(vm, gfn, frame);
    }
}

int kvm_vm_set_ram(struct kvm_vm *vm)
{
    uint64_t low = mem_low_bytes(vm->mem), high = mem_high_bytes(vm->mem);
    int ret = kvm_vm_set_slot(vm, KVM_SLOT_LOW, 0, low, vm->view);

    if (ret >= 0 && high > 0) {
        ret = kvm_vm_set_slot(vm, KVM_SLOT_HIGH, MEM_HIGH_START, high, vm->view + low);
    }
    return ret;
}

static int vm_make_memory(struct kvm_vm *vm)
{
    int ret;

    vm->view_size = mem_ram_bytes(vm->mem);
    vm->view = mmap(NULL, vm->view_size, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_NORESERVE,
                    mem_fd(vm->mem), 0);
    if (vm->view == MAP_FAILED) {
        vm->view = NULL;
        return -errno;
    }
    madvise(vm->view, vm->view_size, MADV_DONTDUMP);
    vm->other = g_new0(bool, vm->view_size >> MEM_PAGE_SHIFT);
    ret = kvm_vm_set_ram(vm);
    if (ret >= 0) {
        mem_set_listener(vm->mem, vm_layout, vm);
    }
    return ret;
}

/* --- MSRs --- */

/* What the guest may read and write in KVM without pvemu's seeing it; all else comes out, so
 * that MSRs mean the same on every engine. The first ones only where the APIC is KVM's. */
static int vm_filter_msrs(struct kvm_vm *vm)
{
    static uint8_t all[] = {0xff, 0xff};
    static const struct {
        uint32_t base, nr;
    } direct[] = {
        {0x1b, 1},       /* APIC_BASE */
        {0x6e0, 1},      /* TSC_DEADLINE */
        {0x48, 2},       /* SPEC_CTRL, PRED_CMD */
        {0x10b, 1},      /* FLUSH_CMD */
        {0x174, 3},      /* SYSENTER */
        {0x277, 1},      /* PAT */
        {0xc0000080, 5}, /* EFER, STAR, LSTAR, CSTAR, FMASK */
        {0xc0000100, 4}, /* FS, GS and kernel GS base, TSC_AUX */
    };
    const unsigned first = vm->chip == &kvm_chip_split ? 0 : MSRS_OF_APIC;
    struct kvm_msr_filter filter = {.flags = KVM_MSR_FILTER_DEFAULT_DENY};
    struct kvm_enable_cap cap = {
        .cap = KVM_CAP_X86_USER_SPACE_MSR,
        .args = {KVM_MSR_EXIT_REASON_INVAL | KVM_MSR_EXIT_REASON_UNKNOWN |
                 KVM_MSR_EXIT_REASON_FILTER},
    };
    int ret;

    G_STATIC_ASSERT(G_N_ELEMENTS(direct) <= KVM_MSR_FILTER_MAX_RANGES);
    for (unsigned i = first; i < G_N_ELEMENTS(direct); i++) {
        filter.ranges[i - first] = (struct kvm_msr_filter_range){
            .flags = KVM_MSR_FILTER_READ | KVM_MSR_FILTER_WRITE,
            .base = direct[i].base, .nmsrs = direct[i].nr, .bitmap = all,
        };
    }
    ret = kvm_ioctl(vm->sys, vm->fd, KVM_ENABLE_CAP, &cap);
    return ret < 0 ? ret : kvm_ioctl(vm->sys, vm->fd, KVM_X86_SET_MSR_FILTER, &filter);
}

/* --- the VM --- */

static int vm_check(const struct kvm_vm *vm, unsigned long cap)
{
    return vm->sys->ioctl(vm->fd, KVM_CHECK_EXTENSION, cap);
}

/* KVM replaces the other vendor's hypercall instruction in the guest's text; not here. */
static void vm_leave_text_alone(struct kvm_vm *vm)
{
    struct kvm_enable_cap cap = {
        .cap = KVM_CAP_DISABLE_QUIRKS2, .args = {KVM_X86_QUIRK_FIX_HYPERCALL_INSN},
    };
    int quirks = vm_check(vm, KVM_CAP_DISABLE_QUIRKS2);

    if (quirks > 0 && (quirks & KVM_X86_QUIRK_FIX_HYPERCALL_INSN) != 0) {
        kvm_ioctl(vm->sys, vm->fd, KVM_ENABLE_CAP, &cap);
    }
}

/*
 * Hosts with CONFIG_KVM_XEN can hand out the processor's own of VMCALL and VMMCALL. Kernels are patched to use the port
 * all the same; this catches what is not found in them, or comes later by kexec. Linux looks at
 * the flag only where there is an MSR for its own hypercall page, too; writes to that one come
 * out first, by the filter.
 */
static void vm_catch_calls(struct kvm_vm *vm)
{
    struct kvm_xen_hvm_config config = {.flags = KVM_XEN_HVM_CONFIG_INTERCEPT_HCALL,
                                        .msr = VM_HYPERCALL_MSR};
    int flags = vm_check(vm, KVM_CAP_XEN_HVM);

    if (flags > 0 && (flags & KVM_XEN_HVM_CONFIG_INTERCEPT_HCALL) != 0) {
        vm->xen_calls = kvm_ioctl(vm->sys, vm->fd, KVM_XEN_HVM_CONFIG, &config) >= 0;
    }
}

static int vm_setup(struct kvm_vm *vm)
{
    uint64_t identity = VM_IDENTITY_MAP;
    int ret = vm->sys->ioctl(vm->fd, KVM_SET_TSS_ADDR, VM_TSS_ADDRESS);

    if (ret >= 0) {
        ret = kvm_ioctl(vm->sys, vm->fd, KVM_SET_IDENTITY_MAP_ADDR, &identity);
    }
    if (ret >= 0) {
        ret = vm_filter_msrs(vm);
    }
    if (ret < 0) {
        return ret;
    }
    vm_leave_text_alone(vm);
    vm_catch_calls(vm);
    vm->has_xcrs = vm_check(vm, KVM_CAP_XCRS) > 0;
    vm->nr_slots = (unsigned)MAX(vm_check(vm, KVM_CAP_NR_MEMSLOTS), SLOTS_UNTOLD);
    vm->next_slot = KVM_SLOT_FIRST_OUTSIDE;
    ret = vm->sys->ioctl(vm->dev, KVM_GET_VCPU_MMAP_SIZE, 0);
    if (ret < (int)sizeof(struct kvm_run)) {
        return ret < 0 ? ret : -EINVAL;
    }
    vm->run_size = (size_t)ret;
    return vm_make_memory(vm);
}

static struct kvm_vm *vm_new(struct mem *mem, const struct kvm_sys *sys, bool split, GError **err)
{
    struct kvm_vm *vm = g_new0(struct kvm_vm, 1);
    int ret;

    vm->chip = split ? &kvm_chip_split : &kvm_chip_user;
    vm->sys = sys;
    vm->mem = mem;
    vm->users = 1;
    vm->fd = -1;
    vm->outside = g_hash_table_new(NULL, NULL);
    vm->free_slots = g_array_new(FALSE, FALSE, sizeof(uint32_t));
    for (unsigned i = 0; i < KVM_PV_VCPUS; i++) {
        vm->pv_info[i] = MEM_HOLE;
    }
    vm->dev = ret = sys->open(KVM_DEVICE);
    if (ret >= 0) {
        vm->fd = ret = kvm_ioctl(sys, vm->dev, KVM_CREATE_VM, NULL);
    }
    if (ret >= 0) {
        ret = vm_setup(vm);
    }
    if (ret < 0) {
        error_set(err, PVEMU_ERROR_HOST, "cannot make a virtual machine with %s: %s",
                  KVM_DEVICE, g_strerror(-ret));
        kvm_vm_put(vm);
        return NULL;
    }
    if (split && !kvm_chip_make_split(vm, err)) {
        kvm_vm_put(vm);
        return NULL;
    }
    return vm;
}

struct kvm_vm *kvm_vm_get(struct vcpu *v, const struct kvm_sys *sys, bool split, GError **err)
{
    struct kvm_vm *vm = mem_listener(v->mem, vm_layout);

    if (vm != NULL) {
        vm->users++;
        return vm;
    }
    vm = vm_new(v->mem, sys, split, err);
    if (vm != NULL && !kvm_check_model(vm, v->model, err)) {
        kvm_vm_put(vm);
        return NULL;
    }
    return vm;
}

void kvm_vm_put(struct kvm_vm *vm)
{
    if (vm == NULL || --vm->users > 0) {
        return;
    }
    if (vm->view != NULL) {
        mem_set_listener(vm->mem, NULL, NULL);
    }
    if (vm->fd >= 0) {
        vm->sys->close(vm->fd);
    }
    if (vm->dev >= 0) {
        vm->sys->close(vm->dev);
    }
    if (vm->view != NULL) {
        munmap(vm->view, vm->view_size);
    }
    g_free(vm->other);
    g_free(vm->log_frames);
    kvm_pv_memory_free(vm);
    g_hash_table_destroy(vm->outside);
    g_array_unref(vm->free_slots);
    g_free(vm);
}
