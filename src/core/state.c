/* SPDX-License-Identifier: MIT */
/*
 * The state stream. Each record is: tag length (u8), tag, value length (u32 LE), value. Loading
 * insists on the same tags in the same order; a device that grows a field handles the old
 * version by a version field of its own.
 */
#include "core/state.h"

#include <string.h>

struct state {
    GByteArray *out; /* saving */
    uint8_t *in;     /* loading */
    size_t in_len, pos;
    bool loading;
    char *error;
};

struct state *state_new_save(void)
{
    struct state *s = g_new0(struct state, 1);

    s->out = g_byte_array_new();
    return s;
}

struct state *state_new_load(const void *data, size_t len)
{
    struct state *s = g_new0(struct state, 1);

    s->loading = true;
    s->in = g_memdup2(data, len);
    s->in_len = len;
    return s;
}

void state_free(struct state *s)
{
    if (s == NULL) {
        return;
    }
    if (s->out != NULL) {
        g_byte_array_unref(s->out);
    }
    g_free(s->in);
    g_free(s->error);
    g_free(s);
}

bool state_loading(const struct state *s)
{
    return s->loading;
}

bool state_ok(const struct state *s)
{
    return s->error == NULL;
}

const char *state_error(const struct state *s)
{
    return s->error;
}

void state_fail(struct state *s, const char *why)
{
    if (s->error == NULL) {
        s->error = g_strdup(why);
    }
}

const void *state_data(const struct state *s, size_t *len)
{
    if (s->loading) {
        *len = s->in_len;
        return s->in;
    }
    *len = s->out->len;
    return s->out->data;
}

static void state_put(struct state *s, const char *tag, const void *buf, size_t len)
{
    uint8_t tag_len = (uint8_t)strlen(tag);
    uint32_t le = GUINT32_TO_LE((uint32_t)len);

    g_assert(strlen(tag) < 256 && len <= UINT32_MAX);
    g_byte_array_append(s->out, &tag_len, 1);
    g_byte_array_append(s->out, (const guint8 *)tag, tag_len);
    g_byte_array_append(s->out, (const guint8 *)&le, 4);
    if (len > 0) {
        g_byte_array_append(s->out, buf, (guint)len);
    }
}

/* The value of the next record, which must have this tag; NULL and a failed stream otherwise.
 */
static const uint8_t *state_get(struct state *s, const char *tag, size_t *len)
{
    size_t tag_len = strlen(tag);
    uint32_t value_len;
    const uint8_t *value;

    if (s->error != NULL) {
        return NULL;
    }
    if (s->in_len - s->pos < 1 + tag_len + 4 || s->in[s->pos] != tag_len ||
        memcmp(s->in + s->pos + 1, tag, tag_len) != 0) {
        g_autofree char *why = g_strdup_printf("'%s' expected at byte %zu", tag, s->pos);

        state_fail(s, why);
        return NULL;
    }
    memcpy(&value_len, s->in + s->pos + 1 + tag_len, 4);
    value_len = GUINT32_FROM_LE(value_len);
    value = s->in + s->pos + 1 + tag_len + 4;
    if (value_len > s->in_len - (size_t)(value - s->in)) {
        g_autofree char *why = g_strdup_printf("'%s' is cut off", tag);

        state_fail(s, why);
        return NULL;
    }
    s->pos = (size_t)(value - s->in) + value_len;
    *len = value_len;
    return value;
}

void state_bytes(struct state *s, const char *tag, void *buf, size_t len)
{
    const uint8_t *value;
    size_t got;

    if (!s->loading) {
        state_put(s, tag, buf, len);
        return;
    }
    value = state_get(s, tag, &got);
    if (value == NULL) {
        return;
    }
    if (got != len) {
        g_autofree char *why = g_strdup_printf("'%s' has %zu bytes, not %zu", tag, got, len);

        state_fail(s, why);
        return;
    }
    memcpy(buf, value, len);
}

void state_blob(struct state *s, const char *tag, void **buf, size_t *len, size_t max)
{
    const uint8_t *value;
    size_t got;

    if (!s->loading) {
        g_assert(*len <= max);
        state_put(s, tag, *buf, *len);
        return;
    }
    value = state_get(s, tag, &got);
    if (value == NULL) {
        return;
    }
    if (got > max) {
        g_autofree char *why = g_strdup_printf("'%s' is too long", tag);

        state_fail(s, why);
        return;
    }
    *buf = g_memdup2(value, got);
    *len = got;
}

void state_u8(struct state *s, const char *tag, uint8_t *v)
{
    state_bytes(s, tag, v, 1);
}

void state_bool(struct state *s, const char *tag, bool *v)
{
    uint8_t byte = *v;

    state_u8(s, tag, &byte);
    if (byte > 1) {
        state_fail(s, "a flag is neither 0 nor 1");
        return;
    }
    *v = byte != 0;
}

void state_u16(struct state *s, const char *tag, uint16_t *v)
{
    uint16_t le = GUINT16_TO_LE(*v);

    state_bytes(s, tag, &le, sizeof(le));
    *v = GUINT16_FROM_LE(le);
}

void state_u32(struct state *s, const char *tag, uint32_t *v)
{
    uint32_t le = GUINT32_TO_LE(*v);

    state_bytes(s, tag, &le, sizeof(le));
    *v = GUINT32_FROM_LE(le);
}

void state_u64(struct state *s, const char *tag, uint64_t *v)
{
    uint64_t le = GUINT64_TO_LE(*v);

    state_bytes(s, tag, &le, sizeof(le));
    *v = GUINT64_FROM_LE(le);
}
