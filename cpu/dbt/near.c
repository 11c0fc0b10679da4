/* SPDX-License-Identifier: MIT */
/*
 * What accesses that look into interp.near first (tr_near.c) find there.
 *
 * A slot is a run of pages: [start, start + len) of the guest's addresses is at start + addend
 * on the host, and every page of it had a tag of the slot's kind in TLB_USER when the run was
 * made, or is of a large page with one and could have had its own (near_large()). So a slot
 * allows nothing that tags did not allow at that moment; A, D, MEM_DIRTY and a frame's `writer`
 * are as tlb_give_write() left them, page by page. That it is good now follows from where tags
 * go:
 *   - Another entry may push a tag out. Nothing has changed in the guest; the slot stays
 *     good, as the entry of a larger TLB would.
 *   - Whatever the architecture flushes (INVLPG, INVPCID, MOV to CR0, CR3 and CR4, a request of
 *     another vCPU after a change of the guest's layout, a new state) comes by
 *     interp_tlb_flush(), which empties all slots whatever the address is. So a split large
 *     page, a page made read-only, and another space need no thought.
 *   - A frame that becomes code (interp_code_mark()) takes its write tags: by
 *     interp_tlb_protect() here and interp_tlb_protect_all() in interp_smp_serve() elsewhere,
 *     which empty all slots; or, where this vCPU is the only one that may have a tag of it and
 *     has had one at most, by code_close(), which empties those for writing in whose range of
 *     host addresses the frame is. A slot writes to a frame by these addresses only, under
 *     whatever name the guest knows it.
 *   - TLBs put away for another space are put away in interp_tlb_flush(), too, and what is put
 *     back are tags, not slots.
 * A run may be one because the host was made to show its pages in that order (view.c); all of the
 * above holds for it page by page.
 *
 * Nothing of this happens while a translation is between a check and the access. Where a check
 * stands for accesses of later instructions (tr_group.c), C functions in between come back only
 * if no slot was emptied meanwhile (`forgotten`, dbt_resume()); those that fill the TLB take no
 * tag from a slot.
 *
 * One that hardly ever finds its page pays for two checks and a mispredicted branch; so misses
 * are counted by site, and one that has many in a short time is translated anew with the check
 * of the TLB only, or where the runs are long, as in large pages, with slots that the address
 * chooses. The same goes for one that stands for others, and does not find all of them
 * in one run.
 */
#include "engine.h"

/* Cycles of the TSC for each of so many misses, or they are too many: for a page, for a page of
 * a run, for a run, where finding another one may take some thousands itself. */
enum {
    NEAR_MISSES = 4096,
    NEAR_MISSES_AGAIN = 64,
    NEAR_MISSES_VIEW = 256, /* each may show one more page */
    NEAR_STRADDLE = 8, /* misses for one access that lies in two pages */
    NEAR_CYCLES = 600,
    NEAR_PAGE_CYCLES = 3000,
    NEAR_RUN_CYCLES = 20000
};
enum {
    NEAR_LOOK = 512,
    NEAR_LONG = 64
}; /* pages of what is looked at of a large one; of a run */
enum { NEAR_APART = 64, NEAR_APART_CYCLES = 20000, NEAR_NARROW = 128 };

static bool near_set(const uint64_t *set, unsigned bit)
{
    return (set[bit / 64] >> (bit % 64) & 1) != 0;
}

enum dbt_near_how dbt_near_how(const struct dbt *d, uint32_t frame, unsigned at)
{
    unsigned bit = dbt_site_bit(frame, at);

    G_STATIC_ASSERT(DBT_NEAR_BITS == 1 << 15);
    return near_set(d->near_never, bit) || d->options.lookups     ? NEAR_NEVER
           : near_set(d->near_larges, bit) || d->options.larges   ? NEAR_LARGE
           : near_set(d->near_views, bit) || d->options.views     ? NEAR_VIEW
           : near_set(d->near_runs, bit) || d->options.runs       ? NEAR_RUN
                                                                  : NEAR_PAGE;
}

unsigned dbt_near_whole(const struct dbt *d, uint32_t frame, unsigned at, unsigned most)
{
    unsigned bit = dbt_site_bit(frame, at);

    return near_set(d->near_apart, bit)    ? 0
           : near_set(d->near_narrow, bit) ? MIN(most, (unsigned)NEAR_NARROW)
                                           : most;
}

void dbt_near_init(struct dbt *d)
{
    for (unsigned i = 0; i < 2 * NEAR_SLOTS; i++) {
        d->interp.near.slot[i] = (struct interp_near){
            .start = NEAR_NONE,
            .host = NEAR_NONE,
            .len = MEM_PAGE_SIZE,
            .misses = -NEAR_MISSES,
        };
    }
    for (unsigned i = 0; i < G_N_ELEMENTS(d->near_count); i++) {
        d->near_count[i] = NEAR_MISSES;
    }
    d->other_misses = -NEAR_MISSES;
    d->interp.near.forgotten++; /* not 0, as in what was never written (stlb.c) */
}

void dbt_near_unlearn(struct dbt *d, uint32_t frame, unsigned at)
{
    unsigned bit = dbt_site_bit(frame, at);
    uint64_t mask = 1ull << (bit % 64);

    d->near_never[bit / 64] &= ~mask;
    d->near_larges[bit / 64] &= ~mask;
    d->near_views[bit / 64] &= ~mask;
    d->near_runs[bit / 64] &= ~mask;
    d->near_again[bit / 64] |= mask;
}

/* The counter at a place, and a number for it. */
static uint32_t *near_counter(struct dbt *d, uint32_t place, unsigned *number)
{
    size_t at = (place - offsetof(struct dbt, interp.near)) / sizeof(struct interp_near);

    *number = at < 2 * NEAR_SLOTS ? (unsigned)at + 1 : 0;
    return *number != 0 ? &d->interp.near.slot[at].misses : &d->other_misses;
}

/* The site of d->rec is to be translated in another way from now on. */
static void near_note(struct dbt *d, uint64_t *set)
{
    const struct rec *rec = &d->recs[d->rec];
    unsigned bit = dbt_site_bit(rec->tb->block->frame, rec->ip);

    set[bit / 64] |= 1ull << (bit % 64);
    dbt_tb_renew(d, rec->tb);
}

/* What the access of d->rec stands for does not lie in one page, or run, with it too often: it
 * is to stand for less, then for none. */
static void near_apart(struct dbt *d)
{
    const struct rec *rec = &d->recs[d->rec];
    bool narrow = near_set(d->near_narrow, dbt_site_bit(rec->tb->block->frame, rec->ip));

    near_note(d, narrow ? d->near_apart : d->near_narrow);
}

void dbt_near_apart(struct dbt *d)
{
    uint64_t now = __builtin_ia32_rdtsc(), since = d->apart_since;

    if (++d->aparts % NEAR_APART == 0) {
        d->apart_since = now;
        if (now - since < (uint64_t)NEAR_APART * NEAR_APART_CYCLES) {
            d->counts.n[COUNT_NEAR_APART]++;
            near_apart(d);
        }
    }
}

/* ---- runs ---- */

static const struct tlb_entry *near_entry(const struct dbt *d, uint64_t page)
{
    return &d->interp.tlbs[TLB_USER].entry[interp_tlb_slot(page)];
}

static bool near_tag(const struct dbt *d, uint64_t page, bool write)
{
    const struct tlb_entry *en = near_entry(d, page);

    return (write ? en->write : en->read) == page;
}

/* From where the page is in the guest to where on the host, which all pages of a run have in
 * common. False: it can be in no run of this kind. */
static bool near_addend(struct dbt *d, uint64_t page, unsigned kind, uint64_t *addend)
{
    *addend = near_entry(d, page)->addend;
    return (kind & NEAR_VIEW_RUN) == 0 ||
           dbt_view_show(d, page, (const void *)(uintptr_t)(page + *addend), addend);
}

/* Could it be in the run? */
static bool near_fits(struct dbt *d, const struct interp_run *run, uint64_t page, unsigned kind)
{
    uint64_t addend;

    return near_tag(d, page, (kind & NEAR_WRITE) != 0) && near_addend(d, page, kind, &addend) &&
           addend == run->addend;
}

static void near_grow(struct dbt *d, struct interp_run *run, unsigned kind)
{
    while (near_fits(d, run, run->start - MEM_PAGE_SIZE, kind)) {
        run->start -= MEM_PAGE_SIZE;
        run->len += MEM_PAGE_SIZE;
    }
    while (near_fits(d, run, run->start + run->len, kind)) {
        run->len += MEM_PAGE_SIZE;
    }
    run->host = run->start + run->addend;
}

/* Has the page a tag? If not, `ask` for one. */
static bool near_fill(struct dbt *d, uint64_t page, bool write, bool ask)
{
    return near_tag(d, page, write) || ((ask || !write) && dbt_ask(d, page, write));
}

/* May the frame that is `n` away from this one, in a large page, be in a run with it? */
static bool near_frame(const struct mem *mem, const struct x86_mapping *map, uint32_t frame,
                       int64_t n, bool write)
{
    struct mem_frame_info *info = &((const struct mem_ram *)mem)->info[frame + n];
    uint8_t flags;

    if (mem_ram_gfn_frame(mem, (uint64_t)((int64_t)(map->gpa >> MEM_PAGE_SHIFT) + n)) !=
        frame + n) {
        return false;
    }
    if (!write) {
        return true;
    }
    flags = atomic_load(&info->flags);
    if ((flags & MEM_CODE) != 0 || atomic_load(&info->writer) != 0) {
        return false;
    }
    if ((flags & MEM_DIRTY) == 0) {
        atomic_fetch_or_explicit(&info->flags, MEM_DIRTY, memory_order_relaxed);
    }
    return true;
}

/*
 * The run is a page with a tag. In a large page others may have the same without asking, as
 * long as they are RAM that follows in the host; for stores, as far as tlb_give_write() would
 * do no more for them than set MEM_DIRTY.
 */
static void near_large(struct dbt *d, struct interp_run *run, bool write)
{
    struct interp *e = &d->interp;
    const struct mem *mem = e->v->mem;
    int64_t at = (int64_t)(run->start >> MEM_PAGE_SHIFT & (NEAR_LOOK - 1)), low = 0, high = 1;
    struct x86_mapping map;
    uint32_t frame;

    if (!x86_walk(e->v, &e->walk, interp_walk_space(e), run->start, X86_READ | interp_user(e),
                  &map) ||
        map.page_size < NEAR_LOOK * MEM_PAGE_SIZE || (write && !(map.writable && map.dirty))) {
        return;
    }
    frame = mem_ram_gfn_frame(mem, map.gpa >> MEM_PAGE_SHIFT);
    if (frame == MEM_HOLE || (uint64_t)(uintptr_t)mem_ram_page(
                                 mem, map.gpa >> MEM_PAGE_SHIFT) != run->start + run->addend) {
        return; /* the guest has changed it, and not flushed it yet */
    }
    while (at + low > 0 && near_frame(mem, &map, frame, low - 1, write)) {
        low--;
    }
    while (at + high < NEAR_LOOK && near_frame(mem, &map, frame, high, write)) {
        high++;
    }
    /* Another vCPU may have opened one of them just now (mem_code_open() tells first): what
     * this one made of it must go before it stores there unseen. */
    if (write && (atomic_load(&e->attention) & ATTENTION_CODE) != 0) {
        return;
    }
    run->start -= (uint64_t)-low * MEM_PAGE_SIZE;
    run->len = (uint64_t)(high - low) * MEM_PAGE_SIZE;
}

/* The page just behind a run, or before it. */
static struct interp_run *near_adjacent(struct interp_run *runs, uint64_t page, uint64_t addend)
{
    for (unsigned i = 0; i < NEAR_RUNS; i++) {
        struct interp_run *run = &runs[i];

        if (run->len != 0 && run->addend == addend &&
            (run->start + run->len == page || run->start == page + MEM_PAGE_SIZE)) {
            run->start = MIN(run->start, page);
            run->len += MEM_PAGE_SIZE;
            return run;
        }
    }
    return NULL;
}

/* A page that is in no run, and has a tag. */
static struct interp_run *near_run_new(struct dbt *d, uint64_t page, unsigned kind)
{
    const struct tlb *t = &d->interp.tlbs[TLB_USER];
    struct interp_nears *near = &d->interp.near;
    unsigned slot = interp_tlb_slot(page);
    bool large = (kind & NEAR_VIEW_RUN) == 0 && t->shift[slot] > MEM_PAGE_SHIFT;
    struct interp_run *run;
    uint64_t addend;

    if (!near_addend(d, page, kind, &addend)) {
        d->near_alone = (struct interp_run){
            .start = page, .len = MEM_PAGE_SIZE, .addend = addend, .host = page + addend};
        return &d->near_alone;
    }
    run = large ? NULL : near_adjacent(near->run[kind], page, addend);
    if (run != NULL) {
        return run;
    }
    near->kept = true;
    run = &near->run[kind][near->next_run++ % NEAR_RUNS];
    *run = (struct interp_run){.start = page, .len = MEM_PAGE_SIZE, .addend = addend};
    if (large) {
        d->large_pages = true;
        near_large(d, run, (kind & NEAR_WRITE) != 0);
    }
    return run;
}

/* One with this page. NULL: the page has no tag. */
static struct interp_run *near_run(struct dbt *d, uint64_t page, unsigned kind, bool ask)
{
    struct interp_run *run = d->interp.near.run[kind];
    unsigned i = 0;

    while (i < NEAR_RUNS && page - run[i].start >= run[i].len) {
        i++;
    }
    if (i < NEAR_RUNS) {
        run = &run[i];
    } else if (near_fill(d, page, (kind & NEAR_WRITE) != 0, ask)) {
        run = near_run_new(d, page, kind);
    } else {
        return NULL;
    }
    if (run != &d->near_alone) {
        near_grow(d, run, kind);
    }
    return run;
}

/* ---- slots ---- */

static size_t near_number(const struct dbt *d, const struct interp_near *slot)
{
    return (size_t)(slot - d->interp.near.slot) % NEAR_SLOTS;
}

static bool near_is_run(const struct dbt *d, const struct interp_near *slot)
{
    return near_number(d, slot) >= NEAR_PAGES;
}

static bool near_is_view(const struct dbt *d, const struct interp_near *slot)
{
    size_t number = near_number(d, slot);

    return number >= NEAR_VIEWS && number < NEAR_LARGES;
}

static bool near_is_large(const struct dbt *d, const struct interp_near *slot)
{
    return near_number(d, slot) >= NEAR_LARGES;
}

void dbt_near_given(struct dbt *d, uint32_t frame, unsigned at, unsigned slot)
{
    if (near_set(d->near_again, dbt_site_bit(frame, at))) {
        struct interp_near *s = &d->interp.near.slot[slot];
        uint16_t count = near_is_view(d, s) ? NEAR_MISSES_VIEW : NEAR_MISSES_AGAIN;

        d->near_since[slot + 1] = __builtin_ia32_rdtsc();
        d->near_count[slot + 1] = count;
        s->misses = -(uint32_t)count;
    }
}

static void near_used(struct dbt *d, struct interp_near *slot)
{
    struct interp_nears *near = &d->interp.near;

    near->kept = true;
    if (slot->used == 0) {
        slot->used = 1;
        near->used[near->nr_used++] = (uint32_t)((char *)slot - (char *)d);
    }
}

/* The bytes of the run that the code can address from its start: those of 32 bits go on at 0. All slots
 * are emptied between code of different modes (dbt_stack_mode()). */
static uint64_t near_len(const struct dbt *d, const struct interp_run *run)
{
    const uint64_t mask = d->interp.address_mask;

    return mask == UINT64_MAX ? run->len : MIN(run->len, mask + 1 - run->start);
}

static void near_take(struct dbt *d, struct interp_near *slot, const struct interp_run *run)
{
    const uint64_t len = near_len(d, run);

    slot->start = run->start;
    slot->addend = run->addend;
    slot->host = run->host;
    slot->len = len;
    for (unsigned i = 0; i < NEAR_SIZES; i++) {
        slot->limit[i] = len < near_size(i) ? 0 : len - near_size(i) + 1;
    }
    near_used(d, slot);
}

/* How else to look for what is in this slot. Where there are large pages the one that was met
 * last may be an odd one, beside them: they get their turn, and are judged by their own misses.
 */
static enum dbt_near_how near_better(struct dbt *d, const struct interp_near *slot,
                                     uint64_t cycles)
{
    bool write = slot >= &d->interp.near.slot[NEAR_SLOTS];
    bool is_long = slot->len >= NEAR_LONG * MEM_PAGE_SIZE;
    const struct interp_run *run;
    enum dbt_near_how other = d->large_pages ? NEAR_LARGE : NEAR_NEVER;

    if (near_is_large(d, slot)) {
        return cycles < (is_long ? NEAR_RUN_CYCLES : NEAR_CYCLES) ? NEAR_NEVER : NEAR_LARGE;
    }
    if (near_is_view(d, slot)) {
        return cycles >= NEAR_RUN_CYCLES ? NEAR_VIEW : other;
    }
    if (near_is_run(d, slot)) {
        return cycles >= NEAR_RUN_CYCLES ? NEAR_RUN : is_long ? NEAR_LARGE : NEAR_VIEW;
    }
    run = cycles < NEAR_PAGE_CYCLES && slot->start != NEAR_NONE
              ? near_run(d, slot->start, write, false)
              : NULL;
    return cycles >= NEAR_PAGE_CYCLES                ? NEAR_PAGE
           : run != NULL && run->len > MEM_PAGE_SIZE ? NEAR_RUN /* its page has a tag */
                                                     : NEAR_VIEW;
}

static void near_change(struct dbt *d, enum dbt_near_how how)
{
    const struct {
        unsigned count;
        uint64_t *sites;
    } to[] = {
        [NEAR_NEVER] = {COUNT_NEAR_NEVER, d->near_never},
        [NEAR_RUN] = {COUNT_NEAR_RUNS, d->near_runs},
        [NEAR_VIEW] = {COUNT_NEAR_VIEWS, d->near_views},
        [NEAR_LARGE] = {COUNT_NEAR_LARGES, d->near_larges},
    };

    d->counts.n[to[how].count]++;
    if (how == NEAR_NEVER || how == NEAR_LARGE) {
        const struct rec *rec = &d->recs[d->rec];

        dbt_near_given_up(d, rec->tb->block, rec->ip);
    }
    near_note(d, to[how].sites);
}

bool dbt_near_often(struct dbt *d, uint64_t unused, uint32_t place)
{
    unsigned number;
    uint32_t *misses = near_counter(d, place, &number);
    uint64_t now = __builtin_ia32_rdtsc();
    uint64_t cycles = (now - d->near_since[number]) / d->near_count[number];
    enum dbt_near_how how, was;

    (void)unused;
    d->near_since[number] = now;
    d->near_count[number] = NEAR_MISSES;
    *misses = -NEAR_MISSES;
    if (number == 0) { /* beside the page of the stack */
        was = NEAR_PAGE;
        how = cycles >= NEAR_CYCLES ? was : d->index == TLB_USER ? NEAR_RUN : NEAR_NEVER;
    } else {
        const struct interp_near *slot = &d->interp.near.slot[number - 1];

        was = near_is_large(d, slot)  ? NEAR_LARGE
              : near_is_view(d, slot) ? NEAR_VIEW
              : near_is_run(d, slot)  ? NEAR_RUN
                                      : NEAR_PAGE;
        how = near_better(d, slot, cycles);
    }
    if (how != was) {
        near_change(d, how);
    }
    return true;
}

/* So many more misses. Always true. */
static bool near_miss(struct dbt *d, struct interp_near *slot, uint32_t nr)
{
    slot->misses += MIN(nr, -slot->misses);
    return slot->misses != 0 || dbt_near_often(d, 0, (uint32_t)((char *)slot - (char *)d));
}

bool dbt_near(struct dbt *d, uint64_t first, uint64_t what)
{
    struct dbt_near_what w = dbt_near_split(what);
    struct interp_near *slot = (struct interp_near *)(void *)((char *)d + w.place);
    bool write = slot >= &d->interp.near.slot[NEAR_SLOTS], ok;
    struct interp_run page = {.start = PAGE_BASE(first + w.at), .len = MEM_PAGE_SIZE};
    const struct interp_run *run = &page;

    d->counts.n[COUNT_NEAR_MISSES]++;
    if ((page.start & ~d->interp.address_mask) != 0) {
        return false;
    }
    if (near_is_large(d, slot)) {
        slot += page.start >> NEAR_LARGE_SHIFT & (NEAR_SLOTS - NEAR_LARGES - 1);
    }
    if (near_is_run(d, slot)) {
        unsigned view = near_is_view(d, slot) ? NEAR_VIEW_RUN : 0;

        if (view != 0) {
            dbt_view_miss(d);
        }
        run = near_run(d, page.start, view | (write ? NEAR_WRITE : 0), !w.load);
        ok = run != NULL;
    } else {
        ok = near_fill(d, page.start, write, !w.load);
        page.addend = near_entry(d, page.start)->addend;
        page.host = page.start + page.addend;
    }
    if (!ok || near_len(d, run) < w.size || first - run->start > near_len(d, run) - w.size) {
        if (ok && run == &page) { /* in two pages: the interpreter is slow */
            near_miss(d, slot, NEAR_STRADDLE);
        }
        return false;
    }
    near_take(d, slot, run);
    return near_miss(d, slot, 1);
}
