/* SPDX-License-Identifier: MIT */
/*
 * Memory access by linear address: RAM or MMIO, within a page or across two. Both pages of a
 * crossing access are translated before a byte moves, so a fault leaves everything as it was.
 * Sizes 1, 2, 4 and 8 inside a page are single host accesses, which makes naturally aligned
 * ones atomic for the guest's other processors. Canonical checks are the caller's.
 */
#include "cpu/x86/x86.h"

#include <string.h>

#include "core/memory.h"
#include "cpu/x86/internal.h"

/* At most two pages: no architectural access is longer than a page. */
struct span {
    uint64_t gpa[2];
    size_t len[2];
    unsigned count;
};

static bool linear_span(struct vcpu *v, uint64_t gva, size_t len, unsigned access,
                        struct span *span, struct x86_fault *fault)
{
    const struct cpu_x86 *cpu = &v->cpu;
    size_t first = MEM_PAGE_SIZE - (gva & (MEM_PAGE_SIZE - 1));
    struct x86_mapping map;

    g_assert(len <= MEM_PAGE_SIZE);
    if (!x86_translate(v, gva, access, &map, fault)) {
        return false;
    }
    span->gpa[0] = map.gpa;
    span->len[0] = len;
    span->count = 1;
    if (len > first) {
        uint64_t second = gva + first;

        /* Linear addresses wrap at 4 GiB outside 64-bit mode; tables in long mode do not. */
        if (!cpu_is_long_mode(cpu) ||
            (!cpu_is_code64(cpu) && gva <= UINT32_MAX && (access & X86_IMPLICIT) == 0)) {
            second = (uint32_t)second;
        }
        if (!x86_translate(v, second, access, &map, fault)) {
            return false;
        }
        span->len[0] = first;
        span->gpa[1] = map.gpa;
        span->len[1] = len - first;
        span->count = 2;
    }
    return true;
}

static void linear_copy(void *dst, const void *src, size_t len)
{
    switch (len) {
    case 1:
        memcpy(dst, src, 1);
        break;
    case 2:
        memcpy(dst, src, 2);
        break;
    case 4:
        memcpy(dst, src, 4);
        break;
    case 8:
        memcpy(dst, src, 8);
        break;
    default:
        memcpy(dst, src, len);
        break;
    }
}

static unsigned linear_mmio_size(size_t len)
{
    return len >= 8 ? 8 : len >= 4 ? 4 : len >= 2 ? 2 : 1;
}

static void linear_mmio_read(struct vcpu *v, uint64_t gpa, uint8_t *buf, size_t len)
{
    while (len > 0) {
        unsigned n = linear_mmio_size(len);
        uint64_t value = ~0ull;

        if (v->board_ops != NULL) {
            value = v->board_ops->mmio_read(v, gpa, n);
        }
        memcpy(buf, &value, n);
        gpa += n;
        buf += n;
        len -= n;
    }
}

static void linear_mmio_write(struct vcpu *v, uint64_t gpa, const uint8_t *buf, size_t len)
{
    while (len > 0) {
        unsigned n = linear_mmio_size(len);
        uint64_t value = 0;

        memcpy(&value, buf, n);
        if (v->board_ops != NULL) {
            v->board_ops->mmio_write(v, gpa, n, value);
        }
        gpa += n;
        buf += n;
        len -= n;
    }
}

static void linear_write_page(struct vcpu *v, uint64_t gpa, const uint8_t *buf, size_t len)
{
    uint32_t frame = mem_gfn_frame(v->mem, gpa >> MEM_PAGE_SHIFT);
    struct mem_frame_info *info;
    uint8_t *page;

    if (frame == MEM_HOLE) {
        linear_mmio_write(v, gpa, buf, len);
        return;
    }
    page = mem_frame_hva(v->mem, frame);
    linear_copy(page + (gpa & (MEM_PAGE_SIZE - 1)), buf, len);
    info = mem_frame_info(v->mem, frame);
    /* The bytes first: another vCPU may be making the frame one with code (mem_written()). */
    atomic_thread_fence(memory_order_seq_cst);
    if (atomic_load_explicit(&info->flags, memory_order_relaxed) != MEM_DIRTY) {
        mem_written_at(v->mem, frame, (unsigned)(gpa & (MEM_PAGE_SIZE - 1)), (unsigned)len);
    }
}

bool x86_read_linear(struct vcpu *v, uint64_t gva, void *buf, size_t len, unsigned access,
                     struct x86_fault *fault)
{
    uint8_t *out = buf;
    struct span span;

    if (!linear_span(v, gva, len, access, &span, fault)) {
        return false;
    }
    for (unsigned i = 0; i < span.count; i++) {
        const uint8_t *page = mem_page(v->mem, span.gpa[i] >> MEM_PAGE_SHIFT);

        if (page != NULL) {
            linear_copy(out, page + (span.gpa[i] & (MEM_PAGE_SIZE - 1)), span.len[i]);
        } else {
            linear_mmio_read(v, span.gpa[i], out, span.len[i]);
        }
        out += span.len[i];
    }
    return true;
}

bool x86_write_linear(struct vcpu *v, uint64_t gva, const void *buf, size_t len,
                      unsigned access, struct x86_fault *fault)
{
    const uint8_t *in = buf;
    struct span span;

    if (!linear_span(v, gva, len, access | X86_WRITE, &span, fault)) {
        return false;
    }
    for (unsigned i = 0; i < span.count; i++) {
        linear_write_page(v, span.gpa[i], in, span.len[i]);
        in += span.len[i];
    }
    return true;
}

bool x86_check_linear(struct vcpu *v, uint64_t gva, size_t len, unsigned access,
                      struct x86_fault *fault)
{
    struct span span;

    return linear_span(v, gva, len, access, &span, fault);
}

unsigned x86_cpl_access(const struct vcpu *v)
{
    return v->cpu.cpl == 3 ? X86_USER : 0;
}
