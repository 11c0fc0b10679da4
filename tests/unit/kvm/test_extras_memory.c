/* SPDX-License-Identifier: MIT */
/*
 * The engine against a fake /dev/kvm: the slots that guest memory is in, the second view of RAM
 * and the pieces it consists of, the log of written pages.
 */
#include <errno.h>
#include <glib.h>
#include <string.h>
#include <sys/resource.h>

#include "vcpu_test.h"

enum { MANY_PAGES = 80 << 10 }; /* of which each other one is given back */

/* --- slots --- */

/* More pages outside RAM than KVM has slots. */
static void test_slots_end(void)
{
    kt_setup();
    ((struct kvm_engine *)v->engine)->vm->nr_slots = KVM_SLOT_FIRST_OUTSIDE + 1;
    g_assert_true(mem_set_gfn(v->mem, 0xfe700, mem_extra_frame(v->mem, 0)));
    g_assert_true(mem_set_gfn(v->mem, 0xfe701, mem_extra_frame(v->mem, 1)));
    kt_run_to_end(EXIT_ERROR, "No space left");
    kt_teardown();
}

static void test_slot_again(void)
{
    struct kvm_vm *vm;

    kt_setup();
    vm = ((struct kvm_engine *)v->engine)->vm;
    g_assert_true(mem_set_gfn(v->mem, 0xfe700, mem_extra_frame(v->mem, 0)));
    g_assert_true(mem_set_gfn(v->mem, 0xfe700, MEM_HOLE));
    g_assert_true(mem_set_gfn(v->mem, 0xfe701, mem_extra_frame(v->mem, 1)));
    g_assert_cmpuint(vm->next_slot, ==, KVM_SLOT_FIRST_OUTSIDE + 1);
    g_assert_cmpuint(fake_kvm.slots, ==, 2);
    kt_teardown();
}

/* --- the log --- */

static bool is_dirty(uint32_t frame)
{
    return (atomic_load(&mem_frame_info(v->mem, frame)->flags) & MEM_DIRTY) != 0;
}

static void clean(void)
{
    for (uint32_t i = 0; i < RAM / PAGE + 4; i++) {
        atomic_fetch_and(&mem_frame_info(v->mem, i)->flags, (uint8_t)~MEM_DIRTY);
    }
}

static void test_dirty(void)
{
    const uint32_t extra = RAM / PAGE;
    g_autoptr(GError) err = NULL, err2 = NULL;

    kt_setup();
    g_assert_false(kvm_accel_ops.dirty_log(v, VCPU_DIRTY_READ, &err)); /* not started */
    g_assert_true(mem_set_gfn(v->mem, 0xfe700, mem_extra_frame(v->mem, 1)));
    g_assert_true(kvm_accel_ops.dirty_log(v, VCPU_DIRTY_START, NULL));
    g_assert_true(fake_kvm.log);
    clean();
    fake_kvm.dirty = 1ull << 3 | 1ull << 63;
    g_assert_true(kvm_accel_ops.dirty_log(v, VCPU_DIRTY_READ, NULL));
    for (uint32_t i = 0; i < RAM / PAGE; i++) {
        g_assert_cmpint(is_dirty(i), ==, i == 3 || i == 63);
    }
    g_assert_true(is_dirty(mem_extra_frame(v->mem, 1))); /* outside RAM: always */
    clean();
    g_assert_true(mem_set_gfn(v->mem, 7, extra)); /* what goes and what comes */
    g_assert_true(is_dirty(7));
    g_assert_true(is_dirty(extra));
    clean();
    fake_kvm.dirty = 1ull << 7;
    g_assert_true(kvm_accel_ops.dirty_log(v, VCPU_DIRTY_READ, NULL));
    g_assert_true(is_dirty(extra));
    g_assert_false(is_dirty(7));
    mem_clear(v->mem);
    g_assert_true(is_dirty(9));
    fake_kvm.fail_request = KVM_GET_DIRTY_LOG;
    fake_kvm.fail_error = ENOENT;
    g_assert_false(kvm_accel_ops.dirty_log(v, VCPU_DIRTY_READ, &err2));
    g_assert_nonnull(strstr(err2->message, "does not log"));
    g_assert_true(kvm_accel_ops.dirty_log(v, VCPU_DIRTY_STOP, NULL));
    g_assert_false(fake_kvm.log);
    kt_teardown();
}

static void test_dirty_fails(void)
{
    g_autoptr(GError) err = NULL;

    kt_setup();
    fake_kvm.fail_request = KVM_SET_USER_MEMORY_REGION;
    fake_kvm.fail_error = ENOMEM;
    g_assert_false(kvm_accel_ops.dirty_log(v, VCPU_DIRTY_START, &err));
    g_assert_null(((struct kvm_engine *)v->engine)->vm->log_frames);
    fake_kvm.fail_request = 0;
    kt_teardown();
}

/* --- memory --- */

/* RAM above 4 GiB is a slot of its own: shown, given back, logged. */
static void test_high(void)
{
    const uint64_t gpa = MEM_HIGH_START + 5 * PAGE, low = MEM_LOW_END;
    const uint64_t value = 0x1234;
    g_autoptr(GError) err = NULL;
    const struct kvm_vm *vm;
    uint32_t frame;

    kt_ram = low + (64 << 20);
    kt_setup();
    vm = ((struct kvm_engine *)v->engine)->vm;
    g_assert_cmpuint(fake_kvm.slots, ==, 2);
    frame = mem_gfn_frame(v->mem, gpa / PAGE);
    fake_kvm.fail_slot = 1;
    g_assert_false(kvm_accel_ops.dirty_log(v, VCPU_DIRTY_START, &err));
    g_assert_nonnull(strstr(err->message, "does not log written pages"));
    g_assert_null(vm->log_frames);
    fake_kvm.fail_slot = 0;
    g_assert_true(kvm_accel_ops.dirty_log(v, VCPU_DIRTY_START, NULL));
    atomic_fetch_and(&mem_frame_info(v->mem, frame)->flags, (uint8_t)~MEM_DIRTY);
    fake_kvm.dirty_high = 1ull << 5;
    g_assert_true(kvm_accel_ops.dirty_log(v, VCPU_DIRTY_READ, NULL));
    g_assert_true(is_dirty(frame));
    g_assert_true(kvm_accel_ops.dirty_log(v, VCPU_DIRTY_STOP, NULL));
    g_assert_true(mem_write(v->mem, gpa, &value, sizeof(value)));
    g_assert_cmpmem(vm->view + low + 5 * PAGE, sizeof(value), &value, sizeof(value));
    mem_set_holes(v->mem, gpa / PAGE, 1);
    g_assert_true(mem_set_gfn(v->mem, gpa / PAGE, frame));
    g_assert_cmpmem(vm->view + low + 5 * PAGE, sizeof(value), &value, sizeof(value));
    kt_teardown();
    kt_ram = RAM;
}

/* A host that has not enough addresses left for a second view of RAM. */
static void test_no_view(void)
{
    g_autoptr(GError) err = NULL;
    struct rlimit old, few;
    g_autofree char *statm = NULL;
    bool made;

    kt_ram = 4ull << 30;
    kt_setup_board();
    g_assert_true(g_file_get_contents("/proc/self/statm", &statm, NULL, NULL));
    g_assert_cmpint(getrlimit(RLIMIT_AS, &old), ==, 0);
    few = old;
    few.rlim_cur = g_ascii_strtoull(statm, NULL, 10) * PAGE + (1ull << 30);
    g_assert_cmpint(setrlimit(RLIMIT_AS, &few), ==, 0);
    made = kvm_vcpu_init(v, &fake_kvm_sys, false, &err);
    g_assert_cmpint(setrlimit(RLIMIT_AS, &old), ==, 0);
    g_assert_false(made);
    g_assert_nonnull(strstr(err->message, "cannot make a virtual machine"));
    g_assert_nonnull(strstr(err->message, "Cannot allocate memory"));
    kt_teardown();
    kt_ram = RAM;
}

/* Every other page is given back, which no host could map one by one, and had again. */
static void test_many_holes(void)
{
    const uint64_t pages = MANY_PAGES;

    kt_ram = pages * PAGE;
    kt_setup();
    for (uint64_t gfn = 0; gfn < pages; gfn += 2) {
        mem_set_holes(v->mem, gfn, 1);
    }
    for (uint64_t gfn = 0; gfn < pages; gfn += 2) { /* had again */
        g_assert_true(mem_set_gfn(v->mem, gfn, (uint32_t)gfn));
    }
    for (uint64_t gfn = 0; gfn < pages; gfn += 512) {
        const struct kvm_vm *vm = ((struct kvm_engine *)v->engine)->vm;

        g_assert_true(mem_write(v->mem, gfn * PAGE, &gfn, sizeof(gfn)));
        g_assert_cmpmem(vm->view + gfn * PAGE, sizeof(gfn), &gfn, sizeof(gfn));
    }
    kt_run_to_halt();
    kt_teardown();
    kt_ram = RAM;
}

/* Mappings of the host that the view consists of. */
static unsigned view_pieces(void)
{
    const struct kvm_vm *vm = ((struct kvm_engine *)v->engine)->vm;
    const uintptr_t first = (uintptr_t)vm->view;
    g_autofree char *maps = NULL;
    unsigned count = 0;

    g_assert_true(g_file_get_contents("/proc/self/maps", &maps, NULL, NULL));
    for (const char *line = maps; line != NULL && *line != '\0'; line++) {
        const uintptr_t at = (uintptr_t)g_ascii_strtoull(line, NULL, 16);

        count += at >= first && at < first + vm->view_size;
        line = strchr(line, '\n');
        if (line == NULL) {
            break;
        }
    }
    return count;
}

/* However a guest moves its pages, gives them up and has them again, the host keeps few pieces. */
static void assert_few_pieces(void)
{
    const uint64_t pages = MANY_PAGES, end = 4096;
    const uint32_t extra = mem_extra_frame(v->mem, 0);

    g_assert_cmpuint(view_pieces(), <=, 2);
    for (uint64_t gfn = 0; gfn < end; gfn += 2) { /* a frame that goes from page to page */
        g_assert_true(mem_set_gfn(v->mem, gfn, extra));
        g_assert_true(mem_set_gfn(v->mem, gfn, (uint32_t)gfn));
    }
    g_assert_cmpuint(view_pieces(), <=, 2);
    for (uint64_t gfn = 0; gfn < end; gfn += 2) { /* what was there is given up */
        g_assert_true(mem_set_gfn(v->mem, gfn, extra));
        g_assert_true(mem_set_gfn(v->mem, gfn, MEM_HOLE));
    }
    g_assert_cmpuint(view_pieces(), <=, 2);
    mem_set_holes(v->mem, 0, pages); /* islands in a hole */
    for (uint64_t gfn = 0; gfn < end; gfn += 2) {
        g_assert_true(mem_set_gfn(v->mem, gfn, (uint32_t)gfn));
    }
    g_assert_cmpuint(view_pieces(), <=, 2);
    g_assert_true(mem_set_gfn(v->mem, 5, extra));
    g_assert_cmpuint(view_pieces(), <=, 4);
}

static void test_pieces(void)
{
    kt_ram = (uint64_t)MANY_PAGES * PAGE;
    kt_setup();
    assert_few_pieces();
    kt_run_to_halt();
    kt_teardown();
    kt_ram = RAM;
}

int main(int argc, char **argv)
{
    kt_begin(&argc, &argv);
    g_test_add_func("/kvm/extras/slots-end", test_slots_end);
    g_test_add_func("/kvm/extras/slot-again", test_slot_again);
    g_test_add_func("/kvm/extras/many-holes", test_many_holes);
    g_test_add_func("/kvm/extras/pieces", test_pieces);
    g_test_add_func("/kvm/extras/high", test_high);
    g_test_add_func("/kvm/extras/no-view", test_no_view);
    g_test_add_func("/kvm/extras/dirty", test_dirty);
    g_test_add_func("/kvm/extras/dirty-fails", test_dirty_fails);
    return kt_end();
}
