/* SPDX-License-Identifier: MIT */
/*
 * Which frames the guest has written to (accel_ops.dirty_log). KVM logs pages of the view; what
 * frame is there is kept here, since the layout may change between two readings: then the frame
 * that goes and the one that comes both count as written to. So do pages outside RAM, always, and
 * those that the shim of a PV guest may write to.
 */
#include <errno.h>

#include "base/error.h"
#include "pv.h"

static void dirty_mark(struct kvm_vm *vm, uint32_t frame)
{
    if (frame != MEM_HOLE) {
        atomic_fetch_or(&mem_frame_info(vm->mem, frame)->flags, MEM_DIRTY);
    }
}

void kvm_dirty_info(struct kvm_vm *vm, unsigned vcpu, uint32_t frame)
{
    dirty_mark(vm, atomic_exchange(&vm->pv_info[vcpu], frame));
}

void kvm_dirty_moved(struct kvm_vm *vm, uint64_t page, uint32_t frame)
{
    dirty_mark(vm, vm->log_frames[page]);
    dirty_mark(vm, frame);
    vm->log_frames[page] = frame;
}

static uint64_t dirty_pages(const struct kvm_vm *vm, uint32_t slot)
{
    return (slot == KVM_SLOT_LOW ? mem_low_bytes(vm->mem) : mem_high_bytes(vm->mem)) >>
           MEM_PAGE_SHIFT;
}

/* One slot's log, which starts anew. 0 or a negated errno. */
static int dirty_read(struct kvm_vm *vm, uint32_t slot)
{
    const uint64_t pages = dirty_pages(vm, slot);
    const uint32_t *frames =
        vm->log_frames + (slot == KVM_SLOT_LOW ? 0 : dirty_pages(vm, KVM_SLOT_LOW));
    g_autofree uint64_t *map = g_new0(uint64_t, pages / 64 + 1);
    struct kvm_dirty_log log = {.slot = slot, .dirty_bitmap = map};
    int ret = pages > 0 ? kvm_ioctl(vm->sys, vm->fd, KVM_GET_DIRTY_LOG, &log) : 0;

    for (uint64_t word = 0; ret >= 0 && word <= pages / 64; word++) {
        for (uint64_t bits = map[word]; bits != 0; bits &= bits - 1) {
            dirty_mark(vm, frames[word * 64 + (unsigned)__builtin_ctzll(bits)]);
        }
    }
    return ret;
}

static void dirty_read_outside(struct kvm_vm *vm)
{
    GHashTableIter iter;
    gpointer gfn;

    g_hash_table_iter_init(&iter, vm->outside);
    while (g_hash_table_iter_next(&iter, &gfn, NULL)) {
        dirty_mark(vm, mem_gfn_frame(vm->mem, (uint64_t)(uintptr_t)gfn));
    }
}

/* The shim writes to struct vcpu_info by a slot of its own. */
static void dirty_read_info(struct kvm_vm *vm)
{
    for (unsigned i = 0; i < KVM_PV_VCPUS; i++) {
        dirty_mark(vm, atomic_load(&vm->pv_info[i]));
    }
}

/* A PV guest's window: shared info, grant frames. */
static void dirty_read_window(struct kvm_vm *vm)
{
    uint64_t gfn;
    uint32_t frame, pages = mem_window(vm->mem, &gfn, &frame);

    for (uint32_t i = 0; i < pages; i++) {
        dirty_mark(vm, frame + i);
    }
}

static int dirty_start(struct kvm_vm *vm)
{
    const uint64_t low = dirty_pages(vm, KVM_SLOT_LOW);
    const uint64_t pages = low + dirty_pages(vm, KVM_SLOT_HIGH);
    int ret;

    vm->log_frames = g_new(uint32_t, pages);
    for (uint64_t i = 0; i < pages; i++) {
        vm->log_frames[i] = mem_ram_gfn_frame(
            vm->mem, i < low ? i : (MEM_HIGH_START >> MEM_PAGE_SHIFT) + i - low);
    }
    ret = kvm_vm_set_ram(vm);
    if (ret < 0) {
        g_clear_pointer(&vm->log_frames, g_free);
        kvm_vm_set_ram(vm);
    }
    return ret;
}

static int dirty_stop(struct kvm_vm *vm)
{
    g_autofree uint32_t *frames = g_steal_pointer(&vm->log_frames);
    int ret = kvm_vm_set_ram(vm);

    if (ret < 0) { /* it goes on */
        vm->log_frames = g_steal_pointer(&frames);
    }
    return ret;
}

bool kvm_dirty_log(struct vcpu *v, enum vcpu_dirty what, GError **err)
{
    struct kvm_vm *vm = ((struct kvm_engine *)v->engine)->vm;
    bool on = vm->log_frames != NULL;
    int ret = 0;

    if (what == VCPU_DIRTY_START && !on) {
        ret = dirty_start(vm);
    } else if (what == VCPU_DIRTY_STOP && on) {
        ret = dirty_stop(vm);
    } else if (what == VCPU_DIRTY_READ) {
        ret = on ? dirty_read(vm, KVM_SLOT_LOW) : -EINVAL;
        ret = ret >= 0 ? dirty_read(vm, KVM_SLOT_HIGH) : ret;
        if (ret >= 0) {
            dirty_read_outside(vm);
            dirty_read_window(vm);
            dirty_read_info(vm);
        }
    }
    return ret >= 0 || error_set(err, PVEMU_ERROR_HOST, "KVM does not log written pages: %s",
                                 g_strerror(-ret));
}
