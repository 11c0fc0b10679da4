/* SPDX-License-Identifier: MIT */
/*
 * The decoder on arbitrary bytes: it never reads outside them, gives a length of 1 to 15, gives
 * the same answer twice, and asks for more exactly when bytes are missing.
 */
#include "tests/fuzz/fuzz.h"

#include <stdlib.h>
#include <string.h>

#include "cpu/x86/decode.h"

static void fuzz_check(bool ok)
{
    if (!ok) {
        abort();
    }
}

static void fuzz_record(const struct insn *in, size_t avail)
{
    unsigned i;

    fuzz_check(in->len >= 1 && in->len <= INSN_MAX_LEN && in->len <= avail);
    fuzz_check(in->id < INSN_NR && in->nr_operands <= INSN_MAX_OPERANDS);
    fuzz_check(in->feature < INSN_FEAT_NR && in->scale >= 1 && in->scale <= 8);
    fuzz_check(in->disp_off + in->disp_len <= in->len && in->imm_off + in->imm_len <= in->len);
    fuzz_check(in->id != INSN_INVALID || in->nr_operands == 0);
    for (i = 0; i < in->nr_operands; i++) {
        fuzz_check(in->op[i].kind != OPK_NONE && in->op[i].size <= 108);
    }
}

/* Shorter and shorter buffers: MORE, until nothing of the instruction is missing. */
static void fuzz_prefixes(const struct insn *whole, enum insn_mode mode, const uint8_t *data)
{
    uint8_t *cut;
    struct insn in;
    unsigned n;

    for (n = 0; n <= whole->len; n++) {
        cut = malloc(n ? n : 1); /* a block of its own, so that ASan sees a read too far */
        fuzz_check(cut != NULL);
        memcpy(cut, data, n);
        if (insn_decode(&in, mode, cut, n) == INSN_OK) {
            fuzz_check(n == whole->len && memcmp(&in, whole, sizeof(in)) == 0);
        } else {
            fuzz_check(n < whole->len);
        }
        free(cut);
    }
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct insn in, again;
    enum insn_decode_result res;
    enum insn_mode mode;
    size_t pos = 1;

    if (size == 0) {
        return 0;
    }
    mode = (enum insn_mode)(data[0] % 3);
    while (pos < size) {
        res = insn_decode(&in, mode, data + pos, size - pos);
        fuzz_check(res == insn_decode(&again, mode, data + pos, size - pos));
        fuzz_check(memcmp(&in, &again, sizeof(in)) == 0);
        if (res != INSN_OK) {
            fuzz_check(res == INSN_TOO_LONG || size - pos < INSN_MAX_LEN);
            pos++;
            continue;
        }
        fuzz_record(&in, size - pos);
        fuzz_prefixes(&in, mode, data + pos);
        pos += in.len;
    }
    return 0;
}
