/* SPDX-License-Identifier: MIT */
/* BSD_SYMTAB: a kernel finds its own symbols behind itself, as NetBSD and FreeBSD look for them. */
#include "pv.h"

#include <elf.h>

extern uint8_t end[];

static bool equal(const char *a, const char *b)
{
    while (*a != '\0' && *a == *b) {
        a++, b++;
    }
    return *a == *b;
}

/* The value of a symbol, 0 when there is none. */
static uint64_t lookup(const uint8_t *elf, const Elf64_Shdr *s, const char *name)
{
    const Elf64_Sym *symbols = (const Elf64_Sym *)(elf + s[1].sh_offset);
    const char *strings = (const char *)elf + s[2].sh_offset;

    for (uint64_t i = 1; i < s[1].sh_size / sizeof(*symbols); i++) {
        if (equal(strings + symbols[i].st_name, name)) {
            return symbols[i].st_value;
        }
    }
    return 0;
}

void test(void)
{
    const uint8_t *at = (const uint8_t *)(((uint64_t)end + 7) & ~7ull);
    const uint8_t *elf = at + 4;
    const Elf64_Ehdr *h = (const Elf64_Ehdr *)elf;
    const Elf64_Shdr *s = (const Elf64_Shdr *)(elf + h->e_shoff);
    const uint32_t used = *(const uint32_t *)at;

    CHECK(*(const uint32_t *)h->e_ident, 0x464c457f);
    CHECK(h->e_ident[EI_CLASS], ELFCLASS64);
    CHECK(h->e_version, 1);
    CHECK(h->e_shnum, 3);
    CHECK(h->e_shentsize, sizeof(*s));
    CHECK(h->e_phnum, 0);
    CHECK(s[0].sh_type, SHT_NULL);
    CHECK(s[1].sh_type, SHT_SYMTAB);
    CHECK(s[1].sh_link, 2);
    CHECK(((uint64_t)elf + s[1].sh_offset) % 8, 0);
    CHECK(s[2].sh_type, SHT_STRTAB);
    CHECK(used, s[2].sh_offset + s[2].sh_size);
    CHECK(lookup(elf, s, "test"), test);
    CHECK(lookup(elf, s, "hypercall_page"), hypercall_page);
    CHECK(lookup(elf, s, "no such symbol"), 0);
    CHECK_TRUE((uint64_t)start_info >= (uint64_t)elf + used); /* nothing lies on top */
    CHECK_TRUE(start_info->mfn_list >= (uint64_t)elf + used);
}
