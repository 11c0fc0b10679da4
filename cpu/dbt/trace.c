/* SPDX-License-Identifier: MIT */
/*
 * What the translator tells those who tune it: -d in_asm,out_asm,exits,stats, `pvemu stats`,
 * and the map by which perf names translated code (-accel bt,perf).
 */
#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <string.h>
#include <unistd.h>

#include "base/log.h"

#include "disassemble.h"
#include "engine.h"

enum { TOP_SITES = 16 };

/* ---- translations ---- */

static void trace_lines(char *text)
{
    g_auto(GStrv) lines = g_strsplit(text, "\n", -1);

    for (size_t i = 0; lines[i] != NULL; i++) {
        log_write("%s", lines[i]);
    }
    g_free(text);
}

/* Code of a guest. */
static void trace_code(const struct tb *t, const uint8_t *code, size_t len, uint64_t rip, unsigned max)
{
    trace_lines(
        dbt_disassemble((enum insn_mode)(t->block->mode & MODE_CODE), code, len, rip, max));
}

/* Where its last jump led to (tr_follow.c). */
static void trace_follow(const struct dbt *d, const struct tb *t)
{
    const uint8_t *page = mem_frame_hva(d->interp.v->mem, t->block->frame);
    const struct peek *p = &d->peeks[t->peek];

    trace_code(t, page + p->at, p->len, d->interp.v->engine_words[1] + p->at, UINT32_MAX);
}

static void trace_perf(struct dbt *d, const struct block *b, uint32_t start)
{
    char line[96];
    int n = g_snprintf(line, sizeof(line), "%" PRIx64 " %x bt_0x%" PRIx64 "\n",
                       (uint64_t)(uintptr_t)(d->rx + start), d->used - start,
                       d->interp.v->engine_words[1] + b->offset);

    if (write(d->perf, line, (size_t)n) < 0) { /* a full disk does not matter here */
        close(d->perf);
        d->perf = -1;
    }
}

void dbt_trace_translation(struct dbt *d, const struct tb *t, uint32_t start, unsigned insns,
                           unsigned bytes)
{
    const struct block *b = t->block;
    uint64_t rip = d->interp.v->engine_words[1] + b->offset;

    d->counts.n[COUNT_BLOCKS]++;
    d->counts.n[COUNT_INSNS] += insns;
    d->counts.n[COUNT_GUEST_BYTES] += bytes;
    d->counts.n[COUNT_HOST_BYTES] += d->used - start;
    if (G_UNLIKELY(d->perf >= 0)) {
        trace_perf(d, b, start);
    }
    if (G_LIKELY((log_mask & (LOG_IN_ASM | LOG_OUT_ASM)) == 0)) {
        return;
    }
    log_write("block %u at 0x%" PRIx64 ", frame 0x%x, cpl %u: %u instructions, %u bytes to %u",
              (unsigned)(t - d->tbs), rip, b->frame, d->interp.v->cpu.cpl, insns, bytes,
              d->used - start);
    if ((log_mask & LOG_IN_ASM) != 0) {
        trace_code(t, b->source, bytes, rip, insns);
        if (t->follows) {
            trace_follow(d, t);
        }
    }
    if ((log_mask & LOG_OUT_ASM) != 0) {
        log_write("  ->");
        trace_lines(dbt_disassemble(INSN_MODE_64, d->rw + start, d->used - start,
                                    (uint64_t)(uintptr_t)(d->rx + start), UINT32_MAX));
    }
}

/* ---- exits ---- */

void dbt_trace_exit(struct dbt *d, const struct tb *t)
{
    const struct interp *e = &d->interp;
    const char *why = d->why;
    uint32_t attention = atomic_load(&e->attention);

    if (e->fault_pending) {
        why = "fault";
    } else if (why == NULL) {
        why = d->link != 0                ? "the target has no code yet"
              : attention != 0            ? "attention"
              : atomic_load(&e->v->request) != 0 ? "request"
                                          : "end of the translation";
    }
    log_write("exit: block %u to 0x%" PRIx64 ": %s (attention 0x%x)", (unsigned)(t - d->tbs),
              e->v->cpu.rip, why, attention);
}

/* ---- counters ---- */

static const char *const count_names[COUNT_NR] = {
    [COUNT_BLOCKS] = "blocks-translated",
    [COUNT_INSNS] = "instructions-translated",
    [COUNT_GUEST_BYTES] = "guest-bytes",
    [COUNT_HOST_BYTES] = "host-bytes",
    [COUNT_LINKS] = "links",
    [COUNT_RELINKS] = "links-undone-by-stress",
    [COUNT_FOLLOWED] = "jumps-followed",
    [COUNT_GUESS_NEVER] = "sites-of-many-targets",
    [COUNT_KILLS] = "translations-invalidated",
    [COUNT_REVIVALS] = "translations-revived",
    [COUNT_REWRITES] = "translations-rewritten",
    [COUNT_DROPS] = "cache-drops",
    [COUNT_ENTERED] = "entered-from-c",
    [COUNT_INTERPRETED] = "blocks-interpreted",
    [COUNT_JUMP_MISSES] = "jump-table-misses",
    [COUNT_JUMP_NOWHERE] = "jumps-without-code",
    [COUNT_TLB_MISSES] = "tlb-misses",
    [COUNT_TLB_FILLS] = "tlb-fills",
    [COUNT_STLB_HITS] = "tlb-second-level-hits",
    [COUNT_SLOW] = "slow-instructions",
    [COUNT_SYSTEM] = "system-instructions",
    [COUNT_FAULTS] = "faults",
    [COUNT_STACK] = "stack-page-changes",
    [COUNT_RETURNS] = "returns-mispredicted",
    [COUNT_STORES_TO_CODE] = "stores-to-code-pages",
    [COUNT_NEAR_NEVER] = "sites-of-many-pages",
    [COUNT_NEAR_RUNS] = "sites-of-runs",
    [COUNT_NEAR_VIEWS] = "sites-of-views",
    [COUNT_VIEW_PAGES] = "pages-put-into-views",
    [COUNT_NEAR_LARGES] = "sites-of-large-pages",
    [COUNT_NEAR_AGAIN] = "sites-looked-at-again",
    [COUNT_NEAR_APART] = "sites-checked-apart",
    [COUNT_NEAR_MISSES] = "near-misses",
    [COUNT_REGION_MISSES] = "region-misses",
    [COUNT_LOOPS] = "loops-with-a-head",
};

static const char *const flush_names[] = {
    [VCPU_FLUSH_ALL] = "flushes-all",
    [VCPU_FLUSH_NONGLOBAL] = "flushes-cr3",
    [VCPU_FLUSH_NOTHING] = "switches-without-flush",
    [VCPU_FLUSH_PAGE] = "flushes-page",
    [VCPU_FLUSH_PCID_PAGE] = "flushes-pcid-page",
    [VCPU_FLUSH_PCID] = "flushes-pcid",
    [VCPU_FLUSH_PCIDS] = "flushes-pcids",
    [VCPU_FLUSH_FRAME] = "flushes-frame",
    [VCPU_FLUSH_SPACE] = "switches-pv",
};

/* The most frequent ones first. (qsort() makes a system call that a vCPU thread may not.) */
static void stats_sites(GString *out, const struct dbt *d)
{
    bool told[DBT_SITES] = {false};

    for (unsigned n = 0; n < TOP_SITES; n++) {
        const struct dbt_site *best = NULL;

        for (unsigned i = 0; i < DBT_SITES; i++) {
            if (!told[i] && (best == NULL || d->counts.sites[i].n > best->n)) {
                best = &d->counts.sites[i];
            }
        }
        if (best == NULL || best->n < 2) {
            return;
        }
        told[best - d->counts.sites] = true;
        g_string_append_printf(out, "slow-site 0x%" PRIx64 " %u\n", best->rip, best->n);
    }
}

char *dbt_stats(struct vcpu *v)
{
    struct dbt *d = v->engine;
    GString *out = g_string_new(NULL);

    for (unsigned i = 0; i < COUNT_NR; i++) {
        g_string_append_printf(out, "%s %" PRIu64 "\n", count_names[i], d->counts.n[i]);
    }
    for (unsigned i = 0; i < G_N_ELEMENTS(flush_names); i++) {
        g_string_append_printf(out, "%s %" PRIu64 "\n", flush_names[i], d->interp.flushes[i]);
    }
    g_string_append_printf(out, "instructions-interpreted %" PRIu64 "\n", v->insn_count);
    g_string_append_printf(out, "cache-bytes %u of %u\n", d->used, d->options.cache);
    stats_sites(out, d);
    return g_string_free(out, FALSE);
}

void dbt_trace_init(struct dbt *d)
{
    d->perf = -1;
}

void dbt_trace_perf(struct dbt *d)
{
    g_autofree char *name = g_strdup_printf("/tmp/perf-%d.map", (int)getpid());

    d->perf = open(name, O_WRONLY | O_CREAT | O_APPEND | O_NOFOLLOW | O_CLOEXEC, 0600);
    if (d->perf < 0) {
        log_write("cannot create '%s': %s", name, g_strerror(errno));
    }
}

void dbt_trace_fini(struct dbt *d)
{
    if ((log_mask & LOG_STATS) != 0) {
        log_write("vCPU %u:", d->interp.v->id);
        trace_lines(g_strchomp(dbt_stats(d->interp.v)));
    }
    if (d->perf >= 0) {
        close(d->perf);
    }
}
