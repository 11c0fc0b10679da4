/* SPDX-License-Identifier: MIT */
/*
 * Xenstore against a model. The first byte of the input chooses between two programs:
 *
 * 1. Well-formed operations of the guest (plain and in transactions) and of domain 0 on a few
 *    paths; a flat map of paths is the oracle for every reply and for the tree as a whole.
 * 2. Raw bytes for the ring, its indices and reconnections: nothing may crash, hang or grow.
 */
#include <string.h>

#include "base/report.h"
#include "fuzz.h"
#include "pv/xenstore_priv.h"
#include "store_guest.h"

enum { MODEL_TXS = 3, MODEL_PATHS = 39, MODEL_STEPS = 400 };

struct program {
    const uint8_t *data;
    size_t size;
};

static uint8_t take8(struct program *p)
{
    if (p->size == 0) {
        return 0;
    }
    p->size--;
    return *p->data++;
}

/* ---- the model: one entry per path, in an order where parents come first ---- */

struct entry {
    bool exists;
    bool open;         /* the guest may read and write it */
    uint32_t changes;  /* of value, rights and set of children */
    char value[8];
};

struct map {
    struct entry entry[MODEL_PATHS + 1]; /* 0 is HOME "/data" itself */
};

enum op { OP_READ, OP_DIRECTORY, OP_WRITE, OP_MKDIR, OP_RM, OP_KINDS };

struct redo {
    enum op op;
    unsigned path;
};

struct model_tx {
    uint32_t id; /* 0: not in use */
    struct map base, map;
    bool touched[MODEL_PATHS + 1];
    struct redo redo[MODEL_STEPS];
    unsigned nr_redo;
};

struct model {
    struct store_guest *g;
    struct map map;
    struct model_tx tx[MODEL_TXS];
    uint32_t changes;
};

/* Path i: three names on each of three levels, heap order; parent of i is (i - 1) / 3. */
static unsigned model_parent(unsigned i)
{
    return (i - 1) / 3;
}

static void model_path(unsigned i, GString *path)
{
    if (i == 0) {
        g_string_assign(path, HOME "/data");
        return;
    }
    model_path(model_parent(i), path);
    g_string_append_c(path, '/');
    g_string_append_c(path, (char)('a' + (i - 1) % 3));
}

/* 0, ENOENT or EACCES: what the guest is told about the path. */
static int map_check(const struct map *m, unsigned i)
{
    bool missing = !m->entry[i].exists;

    while (!m->entry[i].exists) {
        if (i == 0) {
            return EACCES; /* the home directory is not the guest's */
        }
        i = model_parent(i);
    }
    return !m->entry[i].open ? EACCES : missing ? ENOENT : 0;
}

static void map_create(struct model *mo, struct map *m, unsigned i)
{
    if (i == 0 || m->entry[i].exists) {
        return;
    }
    map_create(mo, m, model_parent(i));
    m->entry[i] = (struct entry){ .exists = true, .open = m->entry[model_parent(i)].open,
                                  .changes = ++mo->changes };
    m->entry[model_parent(i)].changes = ++mo->changes;
}

static bool model_below(unsigned i, unsigned base)
{
    while (i > base) {
        i = model_parent(i);
    }
    return i == base;
}

static void map_remove(struct model *mo, struct map *m, unsigned i)
{
    for (unsigned k = i; k <= MODEL_PATHS; k++) {
        if (model_below(k, i)) {
            m->entry[k] = (struct entry){ .exists = false };
        }
    }
    m->entry[model_parent(i)].changes = ++mo->changes;
}

static void map_write(struct model *mo, struct map *m, unsigned i, const char *value)
{
    map_create(mo, m, i);
    g_strlcpy(m->entry[i].value, value, sizeof(m->entry[i].value));
    m->entry[i].changes = ++mo->changes;
}

/* One change; the errno that the guest gets. */
static int map_change(struct model *mo, struct map *m, enum op op, unsigned i,
                      const char *value)
{
    int err = map_check(m, i);

    if (op == OP_RM && err == ENOENT) {
        return m->entry[model_parent(i)].exists ? 0 : ENOENT;
    }
    if (err != 0 && err != ENOENT) {
        return err;
    }
    if (op == OP_RM) {
        map_remove(mo, m, i);
    } else if (op == OP_WRITE) {
        map_write(mo, m, i, value);
    } else {
        map_create(mo, m, i);
    }
    return 0;
}

/* ---- replies against the model ---- */

static void check_directory(struct model *mo, const struct map *m, unsigned i)
{
    char expect[8];
    unsigned len = 0;

    for (unsigned k = 3 * i + 1; k <= 3 * i + 3 && k <= MODEL_PATHS; k++) {
        if (m->entry[k].exists) {
            expect[len++] = (char)('a' + (k - 1) % 3);
            expect[len++] = '\0';
        }
    }
    g_assert_cmpmem(mo->g->payload, mo->g->header.len, expect, len);
}

static int guest_op(struct model *mo, enum op op, const char *path, const char *value)
{
    static const uint32_t types[OP_KINDS] = {
        XS_READ, XS_DIRECTORY, XS_WRITE, XS_MKDIR, XS_RM,
    };

    return op == OP_WRITE ? store_guest_write(mo->g, path, value)
                          : store_guest_call1(mo->g, types[op], path);
}

static void model_guest(struct model *mo, struct program *p)
{
    unsigned t = take8(p) % (MODEL_TXS + 1), i = take8(p) % (MODEL_PATHS + 1);
    enum op op = take8(p) % OP_KINDS;
    struct model_tx *tx = t < MODEL_TXS && mo->tx[t].id != 0 ? &mo->tx[t] : NULL;
    struct map *m = tx != NULL ? &tx->map : &mo->map;
    g_autoptr(GString) path = g_string_new(NULL);
    char value[4] = { (char)('0' + take8(p) % 10), '\0' };
    bool existed = m->entry[i].exists;
    int err, expect;

    if (i == 0 && op == OP_RM) {
        op = OP_READ; /* it could not come back */
    }
    model_path(i, path);
    mo->g->tx = tx != NULL ? tx->id : 0;
    err = guest_op(mo, op, path->str, value);
    mo->g->tx = 0;
    if (op == OP_READ || op == OP_DIRECTORY) {
        expect = map_check(m, i);
        g_assert_cmpint(err, ==, expect);
        if (err == 0 && op == OP_READ) {
            g_assert_cmpmem(mo->g->payload, mo->g->header.len, m->entry[i].value,
                            strlen(m->entry[i].value));
        } else if (err == 0) {
            check_directory(mo, m, i);
        }
    } else {
        expect = map_change(mo, m, op, i, value);
        g_assert_cmpint(err, ==, expect);
    }
    if (tx != NULL) {
        tx->touched[i] = true;
        if (err == 0 && (op == OP_WRITE || (op == OP_MKDIR && !existed) ||
                         (op == OP_RM && existed))) {
            tx->redo[tx->nr_redo++] = (struct redo){ op, i };
        }
    }
}

/* What a commit must say, and do. */
static int model_commit(struct model *mo, struct model_tx *tx)
{
    struct map next = mo->map;

    for (unsigned i = 0; i <= MODEL_PATHS; i++) {
        if (tx->touched[i] && (tx->base.entry[i].exists != mo->map.entry[i].exists ||
                               tx->base.entry[i].changes != mo->map.entry[i].changes)) {
            return EAGAIN;
        }
    }
    for (unsigned n = 0; n < tx->nr_redo; n++) {
        unsigned i = tx->redo[n].path;
        int err;

        if (tx->redo[n].op != OP_RM && !tx->map.entry[i].exists) {
            continue;
        }
        err = map_change(mo, &next, tx->redo[n].op, i, tx->map.entry[i].value);
        if (err != 0 && !(tx->redo[n].op == OP_RM && err == ENOENT)) {
            return EAGAIN;
        }
    }
    mo->map = next;
    return 0;
}

static void model_transaction(struct model *mo, struct program *p)
{
    struct model_tx *tx = &mo->tx[take8(p) % MODEL_TXS];
    bool commit = take8(p) % 4 != 0;

    if (tx->id == 0) {
        memset(tx, 0, sizeof(*tx));
        store_guest_start(mo->g);
        tx->id = mo->g->tx;
        mo->g->tx = 0;
        tx->base = tx->map = mo->map;
        return;
    }
    mo->g->tx = tx->id;
    g_assert_cmpint(store_guest_end(mo->g, commit), ==, commit ? model_commit(mo, tx) : 0);
    tx->id = 0;
}

static void model_dom0(struct model *mo, struct program *p)
{
    unsigned i = 1 + take8(p) % MODEL_PATHS, kind = take8(p) % 4;
    g_autoptr(GString) path = g_string_new(NULL);
    struct map *m = &mo->map;
    bool open;

    model_path(i, path);
    switch (kind) {
    case 0:
        xs_write(mo->g->xs, path->str, "z");
        map_write(mo, m, i, "z");
        break;
    case 1:
        xs_rm(mo->g->xs, path->str);
        if (m->entry[i].exists) {
            map_remove(mo, m, i);
        }
        break;
    case 2:
        xs_mkdir(mo->g->xs, path->str);
        map_create(mo, m, i);
        break;
    default:
        open = take8(p) & 1;
        xs_set_perms(mo->g->xs, path->str, (const char *const[]){ open ? "n1" : "n0" }, 1);
        if (m->entry[i].exists) {
            m->entry[i].open = open;
            m->entry[i].changes = ++mo->changes;
        }
        break;
    }
}

static void model_compare(struct model *mo)
{
    g_autoptr(GString) path = g_string_new(NULL);
    unsigned guest_nodes = 0;

    for (unsigned i = 0; i <= MODEL_PATHS; i++) {
        const struct entry *e = &mo->map.entry[i];
        g_autofree char *value = NULL;

        model_path(i, path);
        value = xs_read(mo->g->xs, path->str);
        g_assert_cmpstr(value, ==, e->exists ? e->value : NULL);
        guest_nodes += e->exists && e->open;
    }
    /* "error" is the guest's too */
    g_assert_cmpuint(mo->g->xs->tree.guest_nodes, ==, guest_nodes + 1);
}

static void fuzz_model(struct store_guest *g, struct program *p)
{
    struct model *mo = g_new0(struct model, 1);
    unsigned steps = 0;
    char *event;

    mo->g = g;
    mo->map.entry[0] = (struct entry){ .exists = true, .open = true };
    store_guest_call2(g, XS_WATCH, "data", "T");
    while (p->size > 0 && steps++ < MODEL_STEPS) {
        uint8_t op = take8(p);

        if (op % 8 < 5) {
            model_guest(mo, p);
        } else if (op % 8 == 5) {
            model_dom0(mo, p);
        } else {
            model_transaction(mo, p);
        }
        while ((event = store_guest_event(g)) != NULL) {
            g_assert_true(g_str_has_prefix(event, "data"));
            g_assert_true(g_str_has_suffix(event, " T"));
            g_free(event);
        }
    }
    model_compare(mo);
    g_free(mo);
}

/* ---- raw bytes ---- */

static void fuzz_raw(struct store_guest *g, struct program *p)
{
    char junk[256];

    while (p->size > 0) {
        uint8_t op = take8(p);
        size_t n;

        switch (op & 7) {
        case 0:
            n = take8(p);
            if (g->page->rsp_prod - g->page->rsp_cons <= XENSTORE_RING_SIZE) {
                store_guest_get(g, junk, MIN(n, sizeof(junk)));
            }
            break;
        case 1:
            if ((op & 0xf8) == 0xf8) {
                ((uint8_t *)g->page)[0x800 + take8(p) % 28] = take8(p);
            }
            break;
        case 2:
            g->page->connection = XENSTORE_RECONNECT;
            break;
        default:
            n = MIN(p->size, (size_t)(op >> 3) * 2 + 1);
            if (g->page->req_prod - g->page->req_cons <= XENSTORE_RING_SIZE) {
                store_guest_put(g, p->data, n);
            }
            p->data += n;
            p->size -= n;
            break;
        }
        store_guest_kick(g, STORE_PORT);
        g_assert_cmpuint(xenstore_bytes(g->xs), <, XS_MAX_LIVE_BYTES + 256 * 1024);
    }
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct program p = { data, size };
    struct store_guest *g;

    report_set_quiet(true);
    g = store_guest_new();
    if (take8(&p) % 4 != 0) {
        fuzz_model(g, &p);
    } else {
        fuzz_raw(g, &p);
    }
    store_guest_free(g);
    return 0;
}
