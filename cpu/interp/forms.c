/* SPDX-License-Identifier: MIT */
/*
 * Decoding of 64-bit code for an engine: instructions of a form that it has met before are
 * copied, and only the values of displacement and immediate are read (cpu/x86/decode_form.c).
 */
#include "engine.h"

static struct form *forms_slot(struct interp *e, uint64_t head)
{
    return &e->forms[head * 0x9e3779b97f4a7c15ull >> (64 - FORM_BITS)];
}

enum insn_decode_result interp_decode(struct interp *e, struct insn *in, const uint8_t *bytes,
                                      unsigned avail)
{
    enum insn_decode_result r;
    struct form *f;
    uint64_t head;

    if (unlikely(avail < sizeof(head)) || (head = insn_form_head(bytes)) == 0) {
        return insn_decode(in, INSN_MODE_64, bytes, avail);
    }
    f = forms_slot(e, head);
    if (likely(f->head == head) && likely(f->form.insn.len <= avail)) {
        insn_form_fill(&f->form, in, bytes);
        return INSN_OK;
    }
    r = insn_decode(in, INSN_MODE_64, bytes, avail);
    if (r == INSN_OK && f->met != head) {
        f->met = head; /* the second time is soon enough */
    } else if (r == INSN_OK) {
        f->head = insn_form_make(&f->form, in) ? head : 0;
    }
    return r;
}
