/* SPDX-License-Identifier: MIT */
/*
 * t_blk_matrix: every operation with every kind of bad field, on disks of each kind, from
 * 64-bit and 32-bit front ends. A model below says what the answer has to be; it was written
 * from the protocol, not from the back end. Whatever is asked, one answer comes, no grant stays
 * mapped, and nothing reaches the disk that should not.
 */
#include "blk_front.h"

enum {
    DISK_SECTORS = 4096,
    REF_READ_ONLY = 5000, /* grants made for the test, beyond the usual ones */
    REF_FOREIGN,
    REF_NO_PAGE,
    REF_FREE,
};

static const unsigned ops[] = {0, 1, 2, 3, 4, 5, 6, 7, 255};
static const unsigned counts[] = {0, 1, 2, 11, 12, 255};
static const uint8_t spans[][2] = {
    {0, 7}, {3, 3}, {7, 7}, {5, 2}, {0, 8}, {8, 8}, {1, 255}, {255, 255},
};
static const uint64_t sectors[] = {
    0,
    8,
    1,
    DISK_SECTORS - 8,
    DISK_SECTORS - 1,
    DISK_SECTORS,
    DISK_SECTORS + 8,
    UINT64_MAX,
    UINT64_MAX - 7,
    UINT64_MAX - 87,
    UINT64_C(1) << 63,
    UINT64_C(1) << 55,
};
static const uint32_t bad_refs[] = {
    0 /* the usual, good ones */,
    REF_READ_ONLY,
    REF_FOREIGN,
    REF_NO_PAGE,
    REF_FREE,
    511 * 64,
    UINT32_MAX,
};

static void make_grants(struct blk_front *f)
{
    grant_entry_v1_t *e = front_grant_entry(f, REF_READ_ONLY);

    *e = (grant_entry_v1_t){.flags = GTF_permit_access | GTF_readonly, .frame = FRONT_DATA_GFN};
    e = front_grant_entry(f, REF_FOREIGN);
    *e = (grant_entry_v1_t){.flags = GTF_permit_access, .domid = 7, .frame = FRONT_DATA_GFN};
    e = front_grant_entry(f, REF_NO_PAGE);
    *e = (grant_entry_v1_t){.flags = GTF_permit_access, .frame = 0xfee00};
    e = front_grant_entry(f, REF_FREE);
    *e = (grant_entry_v1_t){.frame = FRONT_DATA_GFN};
}

/* --- The model --- */

static bool model_ref_ok(uint32_t ref, bool device_writes)
{
    if (ref == REF_READ_ONLY) {
        return !device_writes;
    }
    return ref >= front_ref(FRONT_DATA_GFN) &&
           ref < front_ref(FRONT_DATA_GFN + FRONT_DATA_PAGES);
}

/* What a transfer of these segments must be answered. */
static int model_transfer(const struct block *blk, uint8_t op, uint64_t sector,
                          const struct blk_segment *seg, unsigned nr, unsigned max)
{
    bool may_be_empty = op == BLKIF_OP_WRITE_BARRIER || op == BLKIF_OP_FLUSH_DISKCACHE;
    unsigned unit = blk->sector_size / 512;
    uint64_t total = 0;

    if (nr == 0) {
        return may_be_empty ? BLKIF_RSP_OKAY : BLKIF_RSP_ERROR;
    }
    if (nr > max || (blk->read_only && op != BLKIF_OP_READ)) {
        return BLKIF_RSP_ERROR;
    }
    for (unsigned i = 0; i < nr; i++) {
        if (seg[i].last > 7 || seg[i].first > seg[i].last || seg[i].first % unit != 0 ||
            seg[i].last % unit != unit - 1 || !model_ref_ok(seg[i].gref, op == BLKIF_OP_READ)) {
            return BLKIF_RSP_ERROR;
        }
        total += seg[i].last - seg[i].first + 1u;
    }
    if (sector % unit != 0 || sector > DISK_SECTORS || total > DISK_SECTORS - sector) {
        return BLKIF_RSP_ERROR;
    }
    return BLKIF_RSP_OKAY;
}

static int model_discard(const struct block *blk, const struct front_request *r)
{
    unsigned unit = blk->sector_size / 512;

    if (blk->read_only) {
        return BLKIF_RSP_ERROR;
    }
    if (!blk->can_discard || (r->flag & 1) != 0) {
        return BLKIF_RSP_EOPNOTSUPP;
    }
    if (r->sector > DISK_SECTORS || r->nr_sectors > DISK_SECTORS - r->sector ||
        r->sector % unit != 0 || r->nr_sectors % unit != 0) {
        return BLKIF_RSP_ERROR;
    }
    return BLKIF_RSP_OKAY;
}

/* --- Running it --- */

struct disk_kind {
    const char *name;
    uint32_t sector_size;
    bool read_only, can_discard;
};

static const struct disk_kind kinds[] = {
    {"rw", 512, false, true},
    {"no-discard", 512, false, false},
    {"ro", 512, true, true},
    {"4k", 4096, false, true},
};

struct fixture {
    struct blk_front f;
    uint64_t asked, fine;
};

static void fixture_init(struct fixture *x, const struct disk_kind *kind,
                         enum blk_protocol protocol)
{
    struct fake_disk *disk = fake_disk_new(DISK_SECTORS * 512, kind->sector_size);

    disk->blk.read_only = kind->read_only;
    disk->blk.can_discard = kind->can_discard;
    memset(x, 0, sizeof(*x));
    front_init(&x->f, disk);
    make_grants(&x->f);
    front_connect(&x->f, 0, protocol);
}

static void check(struct fixture *x, const struct front_request *r, int wanted)
{
    struct blk_front *f = &x->f;
    unsigned mapped = gnttab_mapped(f->d);
    gsize before = f->disk->log->len;
    int got = front_do(f, *r);

    x->asked++;
    if (got != wanted) {
        g_error("op %u flag %u nr %u sector %" G_GUINT64_FORMAT " discard %" G_GUINT64_FORMAT
                " seg0 {%u %u %u}: status %d, not %d",
                r->op, r->flag, r->nr, r->sector, r->nr_sectors, r->seg[0].gref,
                r->seg[0].first, r->seg[0].last, got, wanted);
    }
    if (wanted == BLKIF_RSP_OKAY) {
        x->fine++;
    } else {
        g_assert_cmpuint(f->disk->log->len, ==, before); /* the disk never saw it */
    }
    g_assert_cmpuint(gnttab_mapped(f->d), ==, mapped);
    g_assert_cmpint(f->b->in_flight, ==, 0);
    g_string_truncate(f->disk->log, 0);
}

/* The bad segment is the last one that counts. */
static void direct_case(struct fixture *x, unsigned op, unsigned nr, const uint8_t *span,
                        uint64_t sector, uint32_t bad_ref)
{
    struct front_request r = front_request((uint8_t)op, sector, 11);
    unsigned last = MIN(MAX(nr, 1u), 11u) - 1;
    int wanted = BLKIF_RSP_EOPNOTSUPP;

    r.nr = nr;
    r.seg[last].first = span[0];
    r.seg[last].last = span[1];
    if (bad_ref != 0) {
        r.seg[last].gref = bad_ref;
    }
    if (op <= BLKIF_OP_FLUSH_DISKCACHE) {
        wanted = model_transfer(&x->f.disk->blk, (uint8_t)op, sector, r.seg, nr, 11);
    }
    check(x, &r, wanted);
}

static void run_direct(struct fixture *x)
{
    for (unsigned o = 0; o < G_N_ELEMENTS(ops); o++) {
        if (ops[o] == BLKIF_OP_DISCARD || ops[o] == BLKIF_OP_INDIRECT) {
            continue;
        }
        for (unsigned c = 0; c < G_N_ELEMENTS(counts); c++) {
            for (unsigned s = 0; s < G_N_ELEMENTS(sectors); s++) {
                for (unsigned p = 0; p < G_N_ELEMENTS(spans); p++) {
                    direct_case(x, ops[o], counts[c], spans[p], sectors[s], 0);
                }
                for (unsigned b = 1; b < G_N_ELEMENTS(bad_refs); b++) {
                    direct_case(x, ops[o], counts[c], spans[0], sectors[s], bad_refs[b]);
                }
            }
        }
    }
}

static void run_discard(struct fixture *x)
{
    static const uint64_t lengths[] = {
        0, 1, 8, 9, DISK_SECTORS, DISK_SECTORS + 1, UINT64_MAX, UINT64_C(1) << 55};
    static const uint8_t flags[] = {0, 1, 2, 255};

    for (unsigned s = 0; s < G_N_ELEMENTS(sectors); s++) {
        for (unsigned l = 0; l < G_N_ELEMENTS(lengths); l++) {
            for (unsigned i = 0; i < G_N_ELEMENTS(flags); i++) {
                struct front_request r = {.op = BLKIF_OP_DISCARD,
                                          .flag = flags[i],
                                          .sector = sectors[s],
                                          .nr_sectors = lengths[l]};

                check(x, &r, model_discard(&x->f.disk->blk, &r));
            }
        }
    }
}

/* Segments in a page of their own: the good ones are the data pages in turn, `bad` is at `at`.
 */
static void indirect_case(struct fixture *x, unsigned inner, unsigned nr, uint64_t sector,
                          unsigned at, struct blk_segment bad)
{
    uint64_t page_gfn = FRONT_DATA_GFN + FRONT_DATA_PAGES - 1;
    struct blk_segment *seg = (struct blk_segment *)(void *)front_page(&x->f, page_gfn);
    struct front_request r = {.op = BLKIF_OP_INDIRECT,
                              .flag = (uint8_t)inner,
                              .nr = nr,
                              .sector = sector,
                              .indirect_ref = front_ref(page_gfn)};
    int wanted = BLKIF_RSP_ERROR;

    for (unsigned i = 0; i < 512; i++) {
        seg[i] = (struct blk_segment){front_ref(FRONT_DATA_GFN + i % 500), 0, 7, 0};
    }
    if (at < 512) {
        seg[at] = bad;
    }
    if (inner <= BLKIF_OP_WRITE) {
        wanted = model_transfer(&x->f.disk->blk, (uint8_t)inner, sector, seg, nr, 256);
    }
    check(x, &r, wanted);
}

static void run_indirect(struct fixture *x)
{
    static const unsigned nrs[] = {0, 1, 11, 12, 255, 256, 257, 512, 65535};
    struct blk_segment good = {front_ref(FRONT_DATA_GFN), 0, 7, 0};

    for (unsigned o = 0; o < G_N_ELEMENTS(ops); o++) {
        for (unsigned n = 0; n < G_N_ELEMENTS(nrs); n++) {
            unsigned last = MIN(MAX(nrs[n], 1u), 256u) - 1;

            for (unsigned s = 0; s < G_N_ELEMENTS(sectors); s++) {
                indirect_case(x, ops[o], nrs[n], sectors[s], 512, good);
            }
            for (unsigned p = 0; p < G_N_ELEMENTS(spans); p++) {
                struct blk_segment bad = {good.gref, spans[p][0], spans[p][1], 0};

                indirect_case(x, ops[o], nrs[n], 0, last, bad);
            }
            for (unsigned b = 1; b < G_N_ELEMENTS(bad_refs); b++) {
                struct blk_segment bad = {bad_refs[b], 0, 7, 0};

                indirect_case(x, ops[o], nrs[n], 0, last, bad);
            }
        }
    }
}

/* The grant of the indirect page itself. */
static void run_indirect_page(struct fixture *x)
{
    uint8_t *page = front_page(&x->f, FRONT_DATA_GFN);
    struct blk_segment seg = {front_ref(FRONT_DATA_GFN + 1), 0, 7, 0};

    memcpy(page, &seg, sizeof(seg)); /* REF_READ_ONLY and REF_FREE name this page too */
    for (unsigned b = 1; b < G_N_ELEMENTS(bad_refs); b++) {
        struct front_request r = {.op = BLKIF_OP_INDIRECT,
                                  .flag = BLKIF_OP_READ,
                                  .nr = 1,
                                  .indirect_ref = bad_refs[b]};

        check(x, &r, bad_refs[b] == REF_READ_ONLY ? BLKIF_RSP_OKAY : BLKIF_RSP_ERROR);
    }
}

static void run_all(const struct disk_kind *kind, enum blk_protocol protocol)
{
    struct fixture x;

    fixture_init(&x, kind, protocol);
    run_direct(&x);
    run_discard(&x);
    run_indirect(&x);
    run_indirect_page(&x);
    g_test_message("%s: %" G_GUINT64_FORMAT " requests, %" G_GUINT64_FORMAT " of them good",
                   kind->name, x.asked, x.fine);
    g_assert_cmpuint(x.fine, >, 50);
    front_fini(&x.f);
}

static void test_x86_64(gconstpointer kind)
{
    run_all(kind, BLK_PROTOCOL_X86_64);
}

static void test_x86_32(gconstpointer kind)
{
    run_all(kind, BLK_PROTOCOL_X86_32);
}

/* Sums that only a huge disk, or several segments together, would let pass. */
static void test_sums(void)
{
    struct block blk = {.size = UINT64_C(1) << 50, .sector_size = 512};
    struct blk_request r = {.op = BLKIF_OP_READ, .nr_segments = 2};

    r.seg[0] = (struct blk_segment){1, 5, 2, 0};
    r.seg[1] = (struct blk_segment){1, 0, 7, 0};
    g_assert_cmpint(blk_request_check_range(&r, &blk), ==, BLKIF_RSP_ERROR);
    r.seg[0] = (struct blk_segment){1, 4, 7, 0};
    r.seg[1] = (struct blk_segment){1, 4, 7, 0};
    g_assert_cmpint(blk_request_check_range(&r, &blk), ==, BLKIF_RSP_OKAY);
    g_assert_cmpuint(r.nr_sectors, ==, 8);
    blk.sector_size = 4096;
    g_assert_cmpint(blk_request_check_range(&r, &blk), ==, BLKIF_RSP_ERROR);
}

int main(int argc, char **argv)
{
    g_test_init(&argc, &argv, NULL);
    report_set_quiet(true); /* the warnings about nonsense are expected */
    for (unsigned i = 0; i < G_N_ELEMENTS(kinds); i++) {
        g_autofree char *path64 = g_strdup_printf("/pv/blk-matrix/x86_64/%s", kinds[i].name);
        g_autofree char *path32 = g_strdup_printf("/pv/blk-matrix/x86_32/%s", kinds[i].name);

        g_test_add_data_func(path64, &kinds[i], test_x86_64);
        g_test_add_data_func(path32, &kinds[i], test_x86_32);
    }
    g_test_add_func("/pv/blk-matrix/sums", test_sums);
    return g_test_run();
}
