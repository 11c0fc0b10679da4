/* SPDX-License-Identifier: MIT */
/*
 * Guest memory. RAM is one memfd, mapped shared; a `frame` is a page's index in it. Guest
 * physical frames (gfn) 0.. map to frames: RAM first (with the hole below 4 GiB left out), then
 * `extra` frames for pages the hypervisor owns (shared info, grant table, rings), which have no
 * gfn until one is given to them.
 *
 * mem_map() and friends are the only door for devices and pv/: they check bounds, mark pages
 * dirty and tell engines about written code. Engines use mem_page() for their TLBs.
 *
 * Code tracking: every frame has a generation. An engine that caches anything derived from a
 * frame's bytes sets MEM_CODE and the bits of their lines, notes the generation, sees that flag
 * and bits are still set and nobody is changing them, and then reads the bytes. Whoever has
 * written to such a line bumps the generation and clears all lines of the frame. Cached code is
 * good while its generation is the frame's.
 */
#ifndef PVEMU_CORE_MEMORY_H
#define PVEMU_CORE_MEMORY_H

#include <glib.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

enum { MEM_PAGE_SHIFT = 12, MEM_PAGE_SIZE = 1 << MEM_PAGE_SHIFT };
#define MEM_HOLE       UINT32_MAX    /* "no frame" */
#define MEM_LOW_END    0xc0000000ull /* RAM below 4 GiB ends here at the latest */
#define MEM_HIGH_START 0x100000000ull

enum mem_access { MEM_READ = 1, MEM_WRITE = 2 };
enum mem_frame_flags {
    MEM_CODE = 1 << 0,
    MEM_DIRTY = 1 << 1,
    MEM_SETTLING = 1 << 2, /* MEM_CODE was set, but somebody may still write unseen */
    MEM_CHANGING = 1 << 3, /* a lock: the generation moves on, then the lines are cleared */
};

struct mem_frame_info {
    _Atomic uint64_t code_lines; /* 64-byte lines that cached code was made from: mem_lines() */
    _Atomic uint32_t code_generation;
    _Atomic uint8_t flags; /* enum mem_frame_flags */
    /* Number of the only vCPU, plus 1, that may write to this frame unseen since MEM_CODE was
     * taken away; 0: any may. Good until MEM_CODE is set (cpu/interp/code.c). */
    _Atomic uint16_t writer;
};

/* The lines that bytes [at, at + len) of a page are in. len is not 0. */
static inline uint64_t mem_lines(unsigned at, unsigned len)
{
    unsigned first = at / 64, last = (at + len - 1) / 64;

    return UINT64_MAX >> (63 - (last - first)) << first;
}

struct mem;

/*
 * How every struct mem begins, for engines: their paths for TLB misses are compiled to use
 * general registers only, so what they need of this file is inline.
 */
struct mem_ram {
    uint8_t *base;
    uint64_t low_pages, high_pages;
    _Atomic uint32_t *frame; /* by RAM page index: low pages, then high pages */
    struct mem_frame_info *info;
};

/* The frame behind a gfn in RAM; MEM_HOLE also for a page that was put outside RAM. */
static inline uint32_t mem_ram_gfn_frame(const struct mem *mem, uint64_t gfn)
{
    const struct mem_ram *ram = (const struct mem_ram *)mem;
    const uint64_t high = MEM_HIGH_START >> MEM_PAGE_SHIFT;

    if (gfn < ram->low_pages) {
        return atomic_load_explicit(&ram->frame[gfn], memory_order_acquire);
    }
    if (gfn >= high && gfn - high < ram->high_pages) {
        return atomic_load_explicit(&ram->frame[ram->low_pages + (gfn - high)],
                                    memory_order_acquire);
    }
    return MEM_HOLE;
}

/* Its host address, or NULL. */
static inline uint8_t *mem_ram_page(const struct mem *mem, uint64_t gfn)
{
    uint32_t frame = mem_ram_gfn_frame(mem, gfn);

    return frame == MEM_HOLE
               ? NULL
               : ((const struct mem_ram *)mem)->base + ((uint64_t)frame << MEM_PAGE_SHIFT);
}

/* As mem_hva_frame() and mem_frame_info(). */
static inline struct mem_frame_info *mem_ram_info(const struct mem *mem, const void *hva)
{
    const struct mem_ram *ram = (const struct mem_ram *)mem;

    return &ram->info[(size_t)((const uint8_t *)hva - ram->base) >> MEM_PAGE_SHIFT];
}

/* ram_bytes is a multiple of 4 KiB; extra is a number of frames. Zeroed. */
struct mem *mem_new(uint64_t ram_bytes, uint32_t extra, GError **err);
void mem_free(struct mem *mem);

uint64_t mem_ram_bytes(const struct mem *mem);
uint64_t mem_low_bytes(const struct mem *mem);  /* RAM below 4 GiB, from gpa 0 */
uint64_t mem_high_bytes(const struct mem *mem); /* RAM from MEM_HIGH_START */
int mem_fd(const struct mem *mem);              /* the memfd; borrowed */

/* Frame <-> host address. hva must lie inside guest memory. */
void *mem_frame_hva(const struct mem *mem, uint32_t frame);
uint32_t mem_hva_frame(const struct mem *mem, const void *hva);
struct mem_frame_info *mem_frame_info(const struct mem *mem, uint32_t frame);
uint32_t mem_extra_frame(const struct mem *mem, uint32_t index); /* the index-th extra frame */

/* The frame behind a gfn, MEM_HOLE when there is none. Any thread. */
uint32_t mem_gfn_frame(const struct mem *mem, uint64_t gfn);
/* Host address of the page at gfn, NULL when there is none (MMIO or nothing). Any thread. */
void *mem_page(const struct mem *mem, uint64_t gfn);

/* Puts `frame` (or MEM_HOLE) at gfn; the caller makes all vCPUs flush (VCPU_REQ_TLB_FLUSH).
 * false when gfn is outside the physical address space or too many gfns outside RAM are in use.
 * Board lock. */
bool mem_set_gfn(struct mem *mem, uint64_t gfn, uint32_t frame);

/* As mem_set_gfn() with MEM_HOLE, for `count` gfns of RAM from gfn on, all of them on one side of
 * 4 GiB. Board lock. */
void mem_set_holes(struct mem *mem, uint64_t gfn, uint64_t count);

/* Shows the extra frames from `index` on at gfn, gfn + 1, ... too, for good. Outside RAM; before
 * the guest starts. */
void mem_set_window(struct mem *mem, uint64_t gfn, uint32_t index, uint32_t count);
/* Where that is: its pages (0: there is none), *gfn and the first frame; the others follow. */
uint32_t mem_window(const struct mem *mem, uint64_t *gfn, uint32_t *frame);

/*
 * For an engine that gives the layout to the host's kernel: `frame` is now at gfn (count 1), or
 * MEM_HOLE at `count` gfns from there on, of RAM if they are several;
 * gfn MEM_ALL_GFNS: the layout is the initial one again. Called by whoever makes the change, with
 * the board lock. A new listener is told at once of everything that is not as at the start. NULL:
 * no listener.
 */
#define MEM_ALL_GFNS UINT64_MAX
typedef void (*mem_layout_fn)(void *opaque, uint64_t gfn, uint64_t count, uint32_t frame);
void mem_set_listener(struct mem *mem, mem_layout_fn fn, void *opaque);
/* What fn listens with; NULL: it does not. */
void *mem_listener(const struct mem *mem, mem_layout_fn fn);

/*
 * Maps [gpa, gpa+len) for the host. NULL unless all of it is backed and contiguous in the host
 * (always so within one page). With MEM_WRITE the pages are marked dirty and their code
 * generation bumped now and again at mem_unmap. The pointer is good until mem_unmap; a
 * concurrent guest may change the bytes at any time: read each field once.
 */
void *mem_map(struct mem *mem, uint64_t gpa, size_t len, enum mem_access access);
void mem_unmap(struct mem *mem, void *hva, size_t len, enum mem_access access);

/* Copies; may cross pages. false (and nothing is promised about *buf or the guest range beyond
 * the failing page) when part of the range is not backed. */
bool mem_read(struct mem *mem, uint64_t gpa, void *buf, size_t len);
bool mem_write(struct mem *mem, uint64_t gpa, const void *buf, size_t len);

/* Back to zeroed RAM and the initial layout (guest reset). vCPUs stopped, nothing mapped. */
void mem_clear(struct mem *mem);

/* To be called by whoever wrote to guest memory through mem_page()/mem_frame_hva(). */
void mem_written(struct mem *mem, uint32_t frame);
/* Only bytes [at, at + len) of the page were. */
void mem_written_at(struct mem *mem, uint32_t frame, unsigned at, unsigned len);

/*
 * For engines that do not look at the generation each time: fn is called on the writer's thread,
 * possibly with locks held, after the generation of a frame with MEM_CODE moved on. It may only
 * set flags. One watch for each `opaque`; mem_unwatch_code() when no writer can run.
 */
typedef void (*mem_code_fn)(void *opaque, uint32_t frame);
void mem_watch_code(struct mem *mem, mem_code_fn fn, void *opaque);
void mem_unwatch_code(struct mem *mem, const void *opaque);
/* The generation moves on; everybody but `self` is told. */
void mem_code_changed(struct mem *mem, uint32_t frame, const void *self);
/* The same, and the frame is plain data from then on, with this `writer`. false: not now; nothing
 * has happened. */
bool mem_code_open(struct mem *mem, uint32_t frame, uint16_t writer, const void *self);

#endif
