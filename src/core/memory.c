/* SPDX-License-Identifier: MIT */
/*
 * Guest memory: one memfd, mapped shared.
 *
 * gfn -> frame is a flat array for RAM (4 bytes a page) and a small hash for pages outside RAM
 * (shared info or grant frames in holes). Engines read it on TLB misses from any thread: array
 * entries are atomic, the hash is behind a reader-writer lock and its size is bounded.
 */
#include "core/memory.h"

#include <errno.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include "base/arena.h"
#include "base/checked.h"
#include "base/error.h"

enum { MEM_MAX_OUTSIDE = 4096 };   /* gfns outside RAM that may be backed at once */
#define MEM_GFN_LIMIT (1ull << 40) /* 52 physical address bits */

enum { MEM_MAX_WATCHES = 256 };

struct mem {
    struct mem_ram ram; /* first */
    int fd;
    size_t size; /* bytes mapped: RAM and extra frames */
    uint32_t extra_first, extra;
    uint64_t window_gfn; /* of window_pages extra frames, from window_frame on */
    uint64_t window_pages;
    uint32_t window_frame;
    GRWLock outside_lock;
    GHashTable *outside; /* gfn -> frame + 1 */
    _Atomic unsigned nr_outside;
    struct {
        mem_code_fn fn;
        void *_Atomic opaque; /* NULL: free */
    } watches[MEM_MAX_WATCHES];
    _Atomic unsigned nr_watches;
    mem_layout_fn listener; /* NULL: none */
    void *listener_opaque;
};

static bool mem_allocate(struct mem *mem, GError **err)
{
    mem->fd = memfd_create("pvemu-ram", MFD_CLOEXEC | MFD_ALLOW_SEALING);
    if (mem->fd < 0 || ftruncate(mem->fd, (off_t)mem->size) != 0) {
        return error_set(err, PVEMU_ERROR_HOST, "cannot make %zu MiB of guest memory: %s",
                         mem->size >> 20, g_strerror(errno));
    }
    mem->ram.base =
        mmap(NULL, mem->size, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_NORESERVE, mem->fd, 0);
    if (mem->ram.base == MAP_FAILED) {
        mem->ram.base = NULL;
        error_set(err, PVEMU_ERROR_HOST, "cannot map %zu MiB of guest memory: %s",
                  mem->size >> 20, g_strerror(errno));
        error_hint(err, "a smaller -m may do, or a higher `ulimit -v`");
        return false;
    }
    madvise(mem->ram.base, mem->size, MADV_DONTDUMP); /* what a guest knows is not for core files */
    return true;
}

struct mem *mem_new(uint64_t ram_bytes, uint32_t extra, GError **err)
{
    struct mem *mem = g_new0(struct mem, 1);
    uint64_t pages = ram_bytes >> MEM_PAGE_SHIFT;

    g_assert((ram_bytes & (MEM_PAGE_SIZE - 1)) == 0 && pages + extra < MEM_HOLE);
    mem->ram.low_pages = MIN(pages, MEM_LOW_END >> MEM_PAGE_SHIFT);
    mem->ram.high_pages = pages - mem->ram.low_pages;
    mem->extra_first = (uint32_t)pages;
    mem->extra = extra;
    mem->size = (pages + extra) << MEM_PAGE_SHIFT;
    g_rw_lock_init(&mem->outside_lock);
    mem->outside = g_hash_table_new(NULL, NULL);
    if (!mem_allocate(mem, err)) {
        mem_free(mem);
        return NULL;
    }
    mem->ram.frame = arena_map(NULL, sizeof(*mem->ram.frame) * pages);
    mem->ram.info = arena_map(NULL, sizeof(*mem->ram.info) * (pages + extra));
    if (mem->ram.frame == NULL || mem->ram.info == NULL) {
        error_set(err, PVEMU_ERROR_HOST, "no memory for the table of the guest's pages");
        mem_free(mem);
        return NULL;
    }
    for (uint64_t i = 0; i < pages; i++) {
        atomic_init(&mem->ram.frame[i], (uint32_t)i);
    }
    return mem;
}

void mem_free(struct mem *mem)
{
    if (mem == NULL) {
        return;
    }
    if (mem->ram.base != NULL) {
        munmap(mem->ram.base, mem->size);
    }
    if (mem->fd >= 0) {
        close(mem->fd);
    }
    arena_unmap(mem->ram.frame, sizeof(*mem->ram.frame) * mem->extra_first);
    arena_unmap(mem->ram.info, sizeof(*mem->ram.info) * (mem->extra_first + mem->extra));
    g_hash_table_destroy(mem->outside);
    g_rw_lock_clear(&mem->outside_lock);
    g_free(mem);
}

uint64_t mem_ram_bytes(const struct mem *mem)
{
    return (mem->ram.low_pages + mem->ram.high_pages) << MEM_PAGE_SHIFT;
}

uint64_t mem_low_bytes(const struct mem *mem)
{
    return mem->ram.low_pages << MEM_PAGE_SHIFT;
}

uint64_t mem_high_bytes(const struct mem *mem)
{
    return mem->ram.high_pages << MEM_PAGE_SHIFT;
}

int mem_fd(const struct mem *mem)
{
    return mem->fd;
}

void *mem_frame_hva(const struct mem *mem, uint32_t frame)
{
    return mem->ram.base + ((uint64_t)frame << MEM_PAGE_SHIFT);
}

uint32_t mem_hva_frame(const struct mem *mem, const void *hva)
{
    return (uint32_t)((size_t)((const uint8_t *)hva - mem->ram.base) >> MEM_PAGE_SHIFT);
}

struct mem_frame_info *mem_frame_info(const struct mem *mem, uint32_t frame)
{
    return &mem->ram.info[frame];
}

uint32_t mem_extra_frame(const struct mem *mem, uint32_t index)
{
    g_assert(index < mem->extra);
    return mem->extra_first + index;
}

/* The slot of a gfn in ram_frame, or NULL when the gfn is outside RAM. */
static _Atomic uint32_t *mem_ram_slot(const struct mem *mem, uint64_t gfn)
{
    const uint64_t high = MEM_HIGH_START >> MEM_PAGE_SHIFT;

    if (gfn < mem->ram.low_pages) {
        return &mem->ram.frame[gfn];
    }
    if (gfn >= high && gfn - high < mem->ram.high_pages) {
        return &mem->ram.frame[mem->ram.low_pages + (gfn - high)];
    }
    return NULL;
}

uint32_t mem_gfn_frame(const struct mem *mem, uint64_t gfn)
{
    struct mem *m = (struct mem *)mem; /* the lock is not part of the value */
    _Atomic uint32_t *slot = mem_ram_slot(mem, gfn);
    uint32_t frame;

    if (slot != NULL) {
        return atomic_load_explicit(slot, memory_order_acquire);
    }
    if (gfn - m->window_gfn < m->window_pages) {
        return m->window_frame + (uint32_t)(gfn - m->window_gfn);
    }
    if (atomic_load_explicit(&m->nr_outside, memory_order_acquire) == 0) {
        return MEM_HOLE;
    }
    g_rw_lock_reader_lock(&m->outside_lock);
    frame = GPOINTER_TO_UINT(g_hash_table_lookup(m->outside, GSIZE_TO_POINTER(gfn))) - 1;
    g_rw_lock_reader_unlock(&m->outside_lock);
    return frame; /* absent: 0 - 1 == MEM_HOLE */
}

void *mem_page(const struct mem *mem, uint64_t gfn)
{
    uint32_t frame = mem_gfn_frame(mem, gfn);

    return frame == MEM_HOLE ? NULL : mem_frame_hva(mem, frame);
}

/* The change is made; whoever keeps a copy of the layout is told. */
static void mem_tell(struct mem *mem, uint64_t gfn, uint64_t count, uint32_t frame)
{
    if (mem->listener != NULL) {
        mem->listener(mem->listener_opaque, gfn, count, frame);
    }
}

void mem_set_listener(struct mem *mem, mem_layout_fn fn, void *opaque)
{
    const uint64_t high = MEM_HIGH_START >> MEM_PAGE_SHIFT;
    GHashTableIter iter;
    gpointer gfn, frame;

    mem->listener = fn;
    mem->listener_opaque = opaque;
    if (fn == NULL) {
        return;
    }
    for (uint64_t i = 0; i < mem->ram.low_pages + mem->ram.high_pages; i++) {
        uint32_t now = atomic_load_explicit(&mem->ram.frame[i], memory_order_acquire);

        if (now != i) {
            mem_tell(mem, i < mem->ram.low_pages ? i : high + (i - mem->ram.low_pages), 1, now);
        }
    }
    g_hash_table_iter_init(&iter, mem->outside); /* the board lock keeps writers away */
    while (g_hash_table_iter_next(&iter, &gfn, &frame)) {
        mem_tell(mem, (uint64_t)(uintptr_t)gfn, 1, GPOINTER_TO_UINT(frame) - 1);
    }
}

void *mem_listener(const struct mem *mem, mem_layout_fn fn)
{
    return mem->listener == fn ? mem->listener_opaque : NULL;
}

bool mem_set_gfn(struct mem *mem, uint64_t gfn, uint32_t frame)
{
    _Atomic uint32_t *slot = mem_ram_slot(mem, gfn);
    bool ok = true;

    if (gfn >= MEM_GFN_LIMIT) {
        return false;
    }
    if (slot != NULL) {
        atomic_store_explicit(slot, frame, memory_order_release);
        mem_tell(mem, gfn, 1, frame);
        return true;
    }
    g_rw_lock_writer_lock(&mem->outside_lock);
    if (frame == MEM_HOLE) {
        g_hash_table_remove(mem->outside, GSIZE_TO_POINTER(gfn));
    } else if (g_hash_table_size(mem->outside) < MEM_MAX_OUTSIDE ||
               g_hash_table_contains(mem->outside, GSIZE_TO_POINTER(gfn))) {
        g_hash_table_insert(mem->outside, GSIZE_TO_POINTER(gfn), GUINT_TO_POINTER(frame + 1));
    } else {
        ok = false;
    }
    atomic_store_explicit(&mem->nr_outside, g_hash_table_size(mem->outside),
                          memory_order_release);
    g_rw_lock_writer_unlock(&mem->outside_lock);
    if (ok) {
        mem_tell(mem, gfn, 1, frame);
    }
    return ok;
}

void mem_set_holes(struct mem *mem, uint64_t gfn, uint64_t count)
{
    if (count == 0) {
        return;
    }
    g_assert(mem_ram_slot(mem, gfn) != NULL && mem_ram_slot(mem, gfn + count - 1) ==
                                                   mem_ram_slot(mem, gfn) + (count - 1));
    for (uint64_t i = 0; i < count; i++) {
        atomic_store_explicit(mem_ram_slot(mem, gfn + i), MEM_HOLE, memory_order_release);
    }
    mem_tell(mem, gfn, count, MEM_HOLE);
}

void mem_set_window(struct mem *mem, uint64_t gfn, uint32_t index, uint32_t count)
{
    g_assert(index + count <= mem->extra && mem_ram_slot(mem, gfn) == NULL);
    mem->window_gfn = gfn;
    mem->window_pages = count;
    mem->window_frame = mem->extra_first + index;
}

uint32_t mem_window(const struct mem *mem, uint64_t *gfn, uint32_t *frame)
{
    *gfn = mem->window_gfn;
    *frame = mem->window_frame;
    return (uint32_t)mem->window_pages;
}

void mem_clear(struct mem *mem)
{
    uint64_t pages = mem->ram.low_pages + mem->ram.high_pages;

    if (madvise(mem->ram.base, mem->size, MADV_REMOVE) != 0) {
        memset(mem->ram.base, 0, mem->size);
    }
    g_rw_lock_writer_lock(&mem->outside_lock);
    g_hash_table_remove_all(mem->outside);
    atomic_store(&mem->nr_outside, 0);
    g_rw_lock_writer_unlock(&mem->outside_lock);
    for (uint64_t i = 0; i < pages; i++) {
        atomic_store_explicit(&mem->ram.frame[i], (uint32_t)i, memory_order_relaxed);
    }
    for (uint64_t i = 0; i < pages + mem->extra; i++) {
        mem_written(mem, (uint32_t)i);
    }
    mem_tell(mem, MEM_ALL_GFNS, 1, MEM_HOLE);
}

void mem_written(struct mem *mem, uint32_t frame)
{
    mem_written_at(mem, frame, 0, MEM_PAGE_SIZE);
}

void mem_written_at(struct mem *mem, uint32_t frame, unsigned at, unsigned len)
{
    struct mem_frame_info *info = &mem->ram.info[frame];
    uint8_t flags;

    /* The bytes first: an engine sets MEM_CODE and then reads them, so one of the two sees the
     * other. */
    atomic_thread_fence(memory_order_seq_cst);
    flags = atomic_load_explicit(&info->flags, memory_order_acquire);

    if ((flags & MEM_DIRTY) == 0) {
        atomic_fetch_or_explicit(&info->flags, MEM_DIRTY, memory_order_relaxed);
    }
    if ((flags & MEM_CODE) != 0 &&
        (atomic_load_explicit(&info->code_lines, memory_order_acquire) & mem_lines(at, len)) != 0) {
        mem_code_changed(mem, frame, NULL);
    }
}

/*
 * With MEM_CHANGING held. In this order: a store that finds its line gone comes after the
 * generation and the watches; and marks that are made in between are not complete before the lock
 * is gone.
 */
static void mem_code_change(struct mem *mem, uint32_t frame, const void *self)
{
    unsigned nr = atomic_load_explicit(&mem->nr_watches, memory_order_acquire);

    atomic_fetch_add(&mem->ram.info[frame].code_generation, 1);
    for (unsigned i = 0; i < nr; i++) {
        void *opaque = atomic_load_explicit(&mem->watches[i].opaque, memory_order_acquire);

        if (opaque != NULL && opaque != self) {
            mem->watches[i].fn(opaque, frame);
        }
    }
    atomic_store(&mem->ram.info[frame].code_lines, 0);
}

void mem_code_changed(struct mem *mem, uint32_t frame, const void *self)
{
    struct mem_frame_info *info = &mem->ram.info[frame];

    while ((atomic_fetch_or(&info->flags, MEM_CHANGING) & MEM_CHANGING) != 0) {
        g_thread_yield();
    }
    mem_code_change(mem, frame, self);
    atomic_fetch_and(&info->flags, (uint8_t)~MEM_CHANGING);
}

bool mem_code_open(struct mem *mem, uint32_t frame, uint16_t writer, const void *self)
{
    const uint8_t code = MEM_CODE;
    struct mem_frame_info *info = &mem->ram.info[frame];
    uint8_t flags = atomic_load(&info->flags);

    if ((flags & (MEM_CODE | MEM_SETTLING | MEM_CHANGING)) != code ||
        !atomic_compare_exchange_strong(&info->flags, &flags, flags | MEM_CHANGING)) {
        return false;
    }
    /* Nobody has a write tag, and nobody gets one before MEM_CODE is gone. */
    atomic_store(&info->writer, writer);
    mem_code_change(mem, frame, self);
    atomic_fetch_and(&info->flags, (uint8_t)~(MEM_CODE | MEM_CHANGING));
    return true;
}

void mem_watch_code(struct mem *mem, mem_code_fn fn, void *opaque)
{
    unsigned i = 0, nr = atomic_load(&mem->nr_watches);

    while (i < nr && atomic_load(&mem->watches[i].opaque) != NULL) {
        i++;
    }
    g_assert(i < MEM_MAX_WATCHES);
    mem->watches[i].fn = fn;
    atomic_store_explicit(&mem->watches[i].opaque, opaque, memory_order_release);
    if (i == nr) {
        atomic_store_explicit(&mem->nr_watches, nr + 1, memory_order_release);
    }
}

void mem_unwatch_code(struct mem *mem, const void *opaque)
{
    for (unsigned i = 0; i < atomic_load(&mem->nr_watches); i++) {
        if (atomic_load(&mem->watches[i].opaque) == opaque) {
            atomic_store(&mem->watches[i].opaque, NULL);
        }
    }
}

static void mem_range_written(struct mem *mem, const void *hva, size_t len)
{
    const uint8_t *p = hva;

    while (len > 0) {
        unsigned at = (unsigned)((size_t)(p - mem->ram.base) & (MEM_PAGE_SIZE - 1));
        size_t chunk = MIN(len, (size_t)MEM_PAGE_SIZE - at);

        mem_written_at(mem, mem_hva_frame(mem, p), at, (unsigned)chunk);
        p += chunk, len -= chunk;
    }
}

void *mem_map(struct mem *mem, uint64_t gpa, size_t len, enum mem_access access)
{
    uint64_t gfn = gpa >> MEM_PAGE_SHIFT;
    uint64_t last, end;
    uint32_t first;
    uint8_t *hva;

    if (len == 0 || !checked_add(gpa, len - 1, &end)) {
        return NULL;
    }
    last = end >> MEM_PAGE_SHIFT;
    first = mem_gfn_frame(mem, gfn);
    if (first == MEM_HOLE || last - gfn >= mem->size >> MEM_PAGE_SHIFT) {
        return NULL;
    }
    for (uint64_t i = 1; i <= last - gfn; i++) {
        if (mem_gfn_frame(mem, gfn + i) != first + i) {
            return NULL;
        }
    }
    hva = (uint8_t *)mem_frame_hva(mem, first) + (gpa & (MEM_PAGE_SIZE - 1));
    if ((access & MEM_WRITE) != 0) {
        mem_range_written(mem, hva, len);
    }
    return hva;
}

void mem_unmap(struct mem *mem, void *hva, size_t len, enum mem_access access)
{
    if (hva != NULL && len > 0 && (access & MEM_WRITE) != 0) {
        mem_range_written(mem, hva, len);
    }
}

/* Bytes of [gpa, gpa+len) that lie in the first page. */
static size_t mem_chunk(uint64_t gpa, size_t len)
{
    return MIN(len, (size_t)(MEM_PAGE_SIZE - (gpa & (MEM_PAGE_SIZE - 1))));
}

bool mem_read(struct mem *mem, uint64_t gpa, void *buf, size_t len)
{
    uint8_t *out = buf;

    while (len > 0) {
        size_t chunk = mem_chunk(gpa, len);
        const uint8_t *page = mem_page(mem, gpa >> MEM_PAGE_SHIFT);

        if (page == NULL) {
            return false;
        }
        memcpy(out, page + (gpa & (MEM_PAGE_SIZE - 1)), chunk);
        out += chunk, gpa += chunk, len -= chunk;
    }
    return true;
}

bool mem_write(struct mem *mem, uint64_t gpa, const void *buf, size_t len)
{
    const uint8_t *in = buf;

    while (len > 0) {
        size_t chunk = mem_chunk(gpa, len);
        uint8_t *page = mem_page(mem, gpa >> MEM_PAGE_SHIFT);

        if (page == NULL) {
            return false;
        }
        memcpy(page + (gpa & (MEM_PAGE_SIZE - 1)), in, chunk);
        mem_written_at(mem, mem_hva_frame(mem, page), (unsigned)(gpa & (MEM_PAGE_SIZE - 1)),
                       (unsigned)chunk);
        in += chunk, gpa += chunk, len -= chunk;
    }
    return true;
}
