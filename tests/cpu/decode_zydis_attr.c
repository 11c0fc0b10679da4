/* SPDX-License-Identifier: MIT */
/*
 * The second half of the comparison: features, LOCK, privilege, branches, alignment and widths.
 */
#include "tests/cpu/decode_zydis.h"

/* The feature an ISA set of Zydis means here; INSN_FEAT_NR where there is nothing to compare.
 */
static unsigned zfeature(const struct zcase *c)
{
    switch (c->z.meta.isa_set) {
    case ZYDIS_ISA_SET_ADOX_ADCX:
        return INSN_FEAT_ADX;
    case ZYDIS_ISA_SET_AES:
    case ZYDIS_ISA_SET_AVXAES:
        return INSN_FEAT_AES;
    case ZYDIS_ISA_SET_AVX:
        return INSN_FEAT_AVX;
    case ZYDIS_ISA_SET_AVX2:
    case ZYDIS_ISA_SET_AVX2GATHER:
        return INSN_FEAT_AVX2;
    case ZYDIS_ISA_SET_AVX_GFNI:
    case ZYDIS_ISA_SET_GFNI:
        return INSN_FEAT_GFNI;
    case ZYDIS_ISA_SET_BMI1:
        return INSN_FEAT_BMI1;
    case ZYDIS_ISA_SET_BMI2:
        return INSN_FEAT_BMI2;
    case ZYDIS_ISA_SET_CLFLUSHOPT:
        return INSN_FEAT_CLFLUSHOPT;
    case ZYDIS_ISA_SET_CLWB:
        return INSN_FEAT_CLWB;
    case ZYDIS_ISA_SET_CMPXCHG16B:
        return INSN_FEAT_CX16;
    case ZYDIS_ISA_SET_F16C:
        return INSN_FEAT_F16C;
    case ZYDIS_ISA_SET_FMA:
        return INSN_FEAT_FMA;
    case ZYDIS_ISA_SET_INVPCID:
        return INSN_FEAT_INVPCID;
    case ZYDIS_ISA_SET_MONITOR:
        return INSN_FEAT_MONITOR;
    case ZYDIS_ISA_SET_MOVBE:
        return INSN_FEAT_MOVBE;
    case ZYDIS_ISA_SET_PCLMULQDQ:
        return INSN_FEAT_PCLMUL;
    case ZYDIS_ISA_SET_POPCNT:
        return INSN_FEAT_POPCNT;
    case ZYDIS_ISA_SET_RDPID:
        return INSN_FEAT_RDPID;
    case ZYDIS_ISA_SET_RDRAND:
        return INSN_FEAT_RDRAND;
    case ZYDIS_ISA_SET_RDSEED:
        return INSN_FEAT_RDSEED;
    case ZYDIS_ISA_SET_RDTSCP:
        return INSN_FEAT_RDTSCP;
    case ZYDIS_ISA_SET_RDWRFSGS:
        return INSN_FEAT_FSGSBASE;
    case ZYDIS_ISA_SET_SHA:
        return INSN_FEAT_SHA;
    case ZYDIS_ISA_SET_SMAP:
        return INSN_FEAT_SMAP;
    case ZYDIS_ISA_SET_SSE3:
    case ZYDIS_ISA_SET_SSE3X87:
        return INSN_FEAT_SSE3;
    case ZYDIS_ISA_SET_SSE4:
        return INSN_FEAT_SSE41;
    case ZYDIS_ISA_SET_SSE42:
        return INSN_FEAT_SSE42;
    case ZYDIS_ISA_SET_SSE4A:
        return INSN_FEAT_SSE4A;
    case ZYDIS_ISA_SET_SSSE3:
    case ZYDIS_ISA_SET_SSSE3MMX:
        return INSN_FEAT_SSSE3;
    case ZYDIS_ISA_SET_VAES:
        return INSN_FEAT_VAES;
    case ZYDIS_ISA_SET_VPCLMULQDQ:
        return INSN_FEAT_VPCLMUL;
    case ZYDIS_ISA_SET_XSAVE:
        return INSN_FEAT_XSAVE;
    case ZYDIS_ISA_SET_XSAVEC:
        return INSN_FEAT_XSAVEC;
    case ZYDIS_ISA_SET_XSAVEOPT:
        return INSN_FEAT_XSAVEOPT;
    case ZYDIS_ISA_SET_XSAVES:
        return INSN_FEAT_XSAVES;
    default:
        return INSN_FEAT_BASE;
    }
}

/* CR0, CR4 and XCR0 conditions: which register files an instruction uses. */
static const char *zcompare_units(const struct zcase *c)
{
    const struct insn *in = &c->in;
    uint32_t want = 0;
    unsigned i;

    if (in->id != INSN_NATIVE) {
        return in->flags & (INSN_F_X87 | INSN_F_MMX | INSN_F_SSE | INSN_F_AVX) ? "units" : NULL;
    }
    for (i = 0; i < c->z.operand_count_visible; i++) {
        if (c->zop[i].type != ZYDIS_OPERAND_TYPE_REGISTER) {
            continue;
        }
        switch (ZydisRegisterGetClass(c->zop[i].reg.value)) {
        case ZYDIS_REGCLASS_MMX:
            want |= INSN_F_MMX;
            break;
        case ZYDIS_REGCLASS_XMM:
        case ZYDIS_REGCLASS_YMM:
            want |= in->encoding == INSN_ENC_VEX ? INSN_F_AVX : INSN_F_SSE;
            break;
        default:
            break;
        }
    }
    return (in->flags & want) == want ? NULL : "units";
}

static const char *zcompare_aligned(const struct zcase *c)
{
    const struct insn_operand *mem = insn_mem_operand(&c->in);
    bool want = false, aligned = (c->in.flags & INSN_F_ALIGNED) != 0;

    if (!mem) {
        return aligned ? "aligned without memory" : NULL;
    }
    switch (c->z.meta.exception_class) {
    case ZYDIS_EXCEPTION_CLASS_SSE1:
    case ZYDIS_EXCEPTION_CLASS_SSE2:
    case ZYDIS_EXCEPTION_CLASS_SSE4:
        want = mem->size == 16;
        break;
    case ZYDIS_EXCEPTION_CLASS_AVX1:
        want = true;
        break;
    default:
        break;
    }
    return want == aligned ? NULL : want ? "alignment not required" : "alignment required";
}

static const char *zcompare_widths(const struct zcase *c)
{
    const struct insn *in = &c->in;

    if (in->addrsize != c->z.address_width / 8) {
        return "address size";
    }
    if (in->id != INSN_NATIVE && in->id < INSN_SYSTEM_FIRST &&
        in->opsize != c->z.operand_width / 8) {
        return "operand size";
    }
    if ((in->flags & INSN_F_AVX) && in->vlen * 8 != (int)c->z.avx.vector_length) {
        return "vector length";
    }
    return NULL;
}

const char *zcompare_attributes(const struct zcase *c)
{
    const struct insn *in = &c->in;
    bool branch = c->z.meta.branch_type != ZYDIS_BRANCH_TYPE_NONE;
    const char *what;

    if (in->feature != zfeature(c)) {
        return "feature";
    }
    if (((in->flags & INSN_F_LOCKABLE) != 0) !=
        ((c->z.attributes & ZYDIS_ATTRIB_ACCEPTS_LOCK) != 0)) {
        return "lockable";
    }
    if (((in->flags & INSN_F_PRIV0) != 0) !=
        ((c->z.attributes & ZYDIS_ATTRIB_IS_PRIVILEGED) != 0)) {
        return in->flags & INSN_F_PRIV0 ? "privileged" : "not privileged";
    }
    if (branch && !(in->flags & INSN_F_BRANCH)) {
        return "branch";
    }
    what = zcompare_units(c);
    what = what ? what : zcompare_aligned(c);
    return what ? what : zcompare_widths(c);
}
