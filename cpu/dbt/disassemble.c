/* SPDX-License-Identifier: MIT */
/*
 * Disassembly for people who look for bugs. libcapstone is neither linked nor needed: what
 * pvemu itself does never depends on it, and it decodes some instructions wrongly.
 */
#include "disassemble.h"

#include <dlfcn.h>
#include <glib.h>
#include <inttypes.h>

#ifdef HAVE_CAPSTONE
#include <capstone/capstone.h>

static struct {
    csh handle[2]; /* for code of 64 bits, and of 32 */
    size_t (*disasm)(csh, const uint8_t *, size_t, uint64_t, size_t, cs_insn **);
    void (*free)(cs_insn *, size_t);
} capstone;

/* The major version is the header's: structs differ between them. */
static void capstone_load(void)
{
    g_autofree char *name = g_strdup_printf("libcapstone.so.%u", CS_API_MAJOR);
    void *lib = dlopen(name, RTLD_NOW | RTLD_LOCAL);
    cs_err (*open)(cs_arch, cs_mode, csh *);
    cs_insn *first = NULL;

    if (lib == NULL) {
        return;
    }
    *(void **)&open = dlsym(lib, "cs_open");
    *(void **)&capstone.free = dlsym(lib, "cs_free");
    *(void **)&capstone.disasm = dlsym(lib, "cs_disasm");
    if (open == NULL || capstone.free == NULL || capstone.disasm == NULL ||
        open(CS_ARCH_X86, CS_MODE_64, &capstone.handle[0]) != CS_ERR_OK ||
        open(CS_ARCH_X86, CS_MODE_32, &capstone.handle[1]) != CS_ERR_OK) {
        capstone.disasm = NULL;
        return;
    }
    /* Its first use builds tables, by system calls that vCPU threads may not make. */
    for (unsigned i = 0; i < 2; i++) {
        if (capstone.disasm(capstone.handle[i], (const uint8_t *)"\x90", 1, 0, 1, &first) == 1) {
            capstone.free(first, 1);
        }
    }
}

void dbt_disassemble_init(void)
{
    static gsize once;

    if (g_once_init_enter(&once)) {
        capstone_load();
        g_once_init_leave(&once, 1);
    }
}

static void text_line(GString *s, const uint8_t *code, size_t len, uint64_t rip,
                      const char *mnemonic, const char *operands)
{
    g_string_append_printf(s, "%s  0x%" PRIx64 " ", s->len != 0 ? "\n" : "", rip);
    for (size_t i = 0; i < len; i++) {
        g_string_append_printf(s, " %02x", code[i]);
    }
    g_string_append_printf(s, "%*s%s %s", len < 10 ? (int)(3 * (10 - len)) + 2 : 2, "", mnemonic,
                           operands);
}

char *dbt_disassemble(enum insn_mode mode, const uint8_t *code, size_t len, uint64_t rip,
                      unsigned max)
{
    GString *s = g_string_new(NULL);
    size_t at = 0;

    dbt_disassemble_init();
    for (unsigned n = 0; at < len && n < max; n++) {
        cs_insn *in = NULL;
        size_t size = MIN(len - at, 15);

        if (capstone.disasm == NULL ||
            capstone.disasm(capstone.handle[mode != INSN_MODE_64], code + at, size, rip + at, 1, &in) != 1) {
            text_line(s, code + at, size, rip + at, "?", "");
            at += size;
            continue;
        }
        text_line(s, code + at, in->size, rip + at, in->mnemonic, in->op_str);
        at += in->size;
        capstone.free(in, 1);
    }
    return g_string_free(s, FALSE);
}

#else

void dbt_disassemble_init(void)
{
}

char *dbt_disassemble(enum insn_mode mode, const uint8_t *code, size_t len, uint64_t rip,
                      unsigned max)
{
    GString *s = g_string_new(NULL);

    (void)max;
    (void)mode;
    g_string_append_printf(s, "  0x%" PRIx64 " ", rip);
    for (size_t i = 0; i < MIN(len, 64); i++) {
        g_string_append_printf(s, " %02x", code[i]);
    }
    return g_string_free(s, FALSE);
}

#endif
