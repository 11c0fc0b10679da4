/* SPDX-License-Identifier: MIT */
/*
 * Views: pages of a program mapped on the host once more, in the order that they have in the
 * guest. Linux gives a program its pages as they come free, so an array is scattered over
 * guest memory, and accesses that go through it at random find each page by the TLB, which is
 * slow, because the address has to wait for it. In a view they follow each other: a run like
 * others (near.c).
 *
 * A view shows a region of an address space. What is mapped at each of its pages is recorded
 * and nothing else, so views are only a cache: whoever puts a page into a run asks whether
 * the view shows the frame that its tag in the TLB leads to, and that says nothing of what the
 * page allows. No page of a view that may be in a run shows another frame later: for that all
 * runs and slots have to be forgotten first (interp.near.emptied), which whatever changes pages
 * of the guest does.
 *
 * A mapping takes the host some microseconds. It is paid for by misses (VIEW_PRICE of them), so
 * it takes no more time than those; a vCPU has VIEW_MOST_EACH at most, and all together VIEW_MOST,
 * because a process can have 65,530 only. Where the host refuses one there are no views any more.
 */
#include "engine.h"

#include <sys/mman.h>

enum {
    VIEW_PRICE = 16,
    VIEW_CREDIT = 1024 * VIEW_PRICE,
    VIEW_AGAIN = 72, /* for a site that is looked at anew */
    VIEW_MOST = 16384,
    VIEW_MOST_EACH = 4096,
    VIEW_MOST_STRESS = 40
};

static _Atomic unsigned view_pages; /* mapped by all */

static size_t view_bytes(void)
{
    return (size_t)DBT_VIEWS << DBT_VIEW_SHIFT;
}

static uint8_t *view_at(const struct dbt *d, const struct dbt_view *w)
{
    return d->views.base + ((size_t)(w - d->views.view) << DBT_VIEW_SHIFT);
}

/* Addresses for all of them, where nothing is. */
static bool view_reserve(struct dbt *d)
{
    void *p;

    if (d->views.base != NULL || d->views.refused) {
        return !d->views.refused;
    }
    p = mmap(NULL, view_bytes(), PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
    if (p == MAP_FAILED) {
        d->views.refused = true;
        return false;
    }
    d->views.base = p;
    d->interp.near.views = (uint64_t)(uintptr_t)p;
    d->interp.near.views_len = view_bytes();
    return true;
}

void dbt_view_fini(struct dbt *d)
{
    if (d->views.base != NULL) {
        if (!d->views.refused) { /* or others may have mapped something there */
            munmap(d->views.base, view_bytes());
        }
        for (unsigned i = 0; i < DBT_VIEWS; i++) {
            atomic_fetch_sub(&view_pages, d->views.view[i].mapped);
        }
    }
}

/* No run shows a page of it. */
static bool view_idle(const struct dbt *d, const struct dbt_view *w)
{
    return w->emptied != d->interp.near.emptied;
}

/* Takes all pages out of it. False: the host refused. */
static bool view_clear(struct dbt *d, struct dbt_view *w)
{
    size_t size = (size_t)1 << DBT_VIEW_SHIFT;

    if (mmap(view_at(d, w), size, PROT_NONE,
             MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE | MAP_FIXED, -1, 0) == MAP_FAILED) {
        d->views.refused = true;
        return false;
    }
    atomic_fetch_sub(&view_pages, w->mapped);
    /* Not by memset(), which may use the registers that the guest's vector state is in. */
    for (unsigned i = 0; w->mapped != 0; i++) {
        w->mapped -= w->frame[i] != 0;
        w->frame[i] = 0;
    }
    return true;
}

/* Room for one more mapping: by clearing what was not used for the longest time. */
static bool view_room(struct dbt *d)
{
    const unsigned each = d->options.views ? VIEW_MOST_STRESS : VIEW_MOST_EACH;
    struct dbt_view *oldest = NULL;
    unsigned own = 0;

    for (unsigned i = 0; i < DBT_VIEWS; i++) {
        struct dbt_view *w = &d->views.view[i];

        own += w->mapped;
        if (w->mapped != 0 && view_idle(d, w) && (oldest == NULL || w->used < oldest->used)) {
            oldest = w;
        }
    }
    return (own < each && atomic_load(&view_pages) < VIEW_MOST) ||
           (oldest != NULL && view_clear(d, oldest));
}

static bool view_map(struct dbt *d, struct dbt_view *w, unsigned page, uint32_t frame)
{
    uint8_t *at = view_at(d, w) + ((size_t)page << MEM_PAGE_SHIFT);

    if (d->views.credit < VIEW_PRICE || !view_room(d)) {
        return false;
    }
    d->views.credit -= VIEW_PRICE;
    if (mmap(at, MEM_PAGE_SIZE, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_FIXED | MAP_POPULATE,
             mem_fd(d->interp.v->mem), (off_t)frame << MEM_PAGE_SHIFT) == MAP_FAILED) {
        d->views.refused = true;
        return false;
    }
    madvise(at, MEM_PAGE_SIZE, MADV_DONTDUMP); /* as guest memory itself */
    if (w->frame[page] == 0) {
        w->mapped++;
        atomic_fetch_add(&view_pages, 1);
    }
    w->frame[page] = frame + 1;
    d->counts.n[COUNT_VIEW_PAGES]++;
    return true;
}

/* Of this region of the current space; one that nobody uses becomes it. NULL: all are used. */
static struct dbt_view *view_find(struct dbt *d, uint64_t region)
{
    uint64_t space = d->interp.key64[TLB_USER];
    struct dbt_view *oldest = NULL;

    for (unsigned i = 0; i < DBT_VIEWS; i++) {
        struct dbt_view *w = &d->views.view[i];

        if (w->space == space && w->region == region && w->used != 0) {
            w->used = ++d->views.clock;
            return w;
        }
        if ((w->used == 0 || view_idle(d, w)) && (oldest == NULL || w->used < oldest->used)) {
            oldest = w;
        }
    }
    if (oldest != NULL) {
        oldest->space = space;
        oldest->region = region;
        oldest->used = ++d->views.clock;
    }
    return oldest;
}

void dbt_view_miss(struct dbt *d)
{
    uint32_t credit = d->options.views ? VIEW_CREDIT : d->views.credit + 1;

    d->views.credit = MIN(credit, (uint32_t)VIEW_CREDIT);
}

void dbt_view_credit(struct dbt *d)
{
    d->views.credit = MAX(d->views.credit, (uint32_t)VIEW_AGAIN * VIEW_PRICE);
}

bool dbt_view_show(struct dbt *d, uint64_t gva, const void *hva, uint64_t *addend)
{
    uint32_t frame = mem_hva_frame(d->interp.v->mem, hva);
    unsigned page = gva >> MEM_PAGE_SHIFT & (DBT_VIEW_PAGES - 1);
    struct dbt_view *w = view_reserve(d) ? view_find(d, gva >> DBT_VIEW_SHIFT) : NULL;

    if (w == NULL || (w->frame[page] != frame + 1 &&
                      ((w->frame[page] != 0 && !view_idle(d, w)) || !view_map(d, w, page, frame)))) {
        return false;
    }
    w->emptied = d->interp.near.emptied;
    *addend = (uint64_t)(uintptr_t)view_at(d, w) - (gva >> DBT_VIEW_SHIFT << DBT_VIEW_SHIFT);
    return true;
}
