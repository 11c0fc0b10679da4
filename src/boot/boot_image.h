/* SPDX-License-Identifier: MIT */
/*
 * A kernel file, unpacked and described: what it is, where its pieces go in guest memory and
 * how it can be entered. Content decides, never the file's name. The file is hostile.
 *
 * Every message names the image as the caller called it and says what was found instead.
 */
#ifndef PVEMU_BOOT_BOOT_IMAGE_H
#define PVEMU_BOOT_BOOT_IMAGE_H

#include <glib.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

enum {
    BOOT_MAX_SEGMENTS = 64,
    BOOT_MAX_L1_MFN_VALID = 4,
    BOOT_NOTES = 32, /* note numbers that `present` can tell */
};
#define BOOT_MAX_UNPACKED (1ull << 30) /* largest kernel, unpacked */

/* A piece of the kernel: file_size bytes, then zeros up to mem_size. */
struct boot_segment {
    uint64_t gpa;         /* p_paddr: where it goes */
    uint64_t gva;         /* p_vaddr: for symbols only; Linux's per-CPU segment has 0 here */
    const uint8_t *bytes; /* inside boot_image.elf, or boot_image.symbols; NULL when dropped */
    uint64_t file_size;
    uint64_t mem_size;
    uint32_t flags; /* PF_R, PF_W, PF_X */
};

/* Xen's ELF notes (or the older __xen_guest section). A number is meaningful when its bit is
 * set in `present`; strings are NULL when absent. */
struct boot_notes {
    uint32_t present;            /* bit n: note number n was there */
    bool legacy;                 /* read from __xen_guest */
    uint64_t entry;              /* 1: PV entry, virtual */
    uint64_t hypercall_page;     /* 2: virtual */
    uint64_t virt_base;          /* 3 */
    uint64_t paddr_offset;       /* 4 */
    char *xen_version;           /* 5 */
    char *guest_os;              /* 6 */
    char *guest_version;         /* 7 */
    char *loader;                /* 8 */
    char *pae_mode;              /* 9 */
    char *features;              /* 10 */
    uint32_t features_supported; /* 10 and 17: XENFEAT_* bits */
    uint32_t features_required;  /* "!name" in 10 */
    char *unknown_required;      /* a required feature that is not known: PV cannot load it */
    bool bsd_symtab;             /* 11 is "yes" */
    uint64_t hv_start_low;       /* 12 */
    struct {
        uint64_t mask, value;
    } l1_mfn_valid[BOOT_MAX_L1_MFN_VALID]; /* 13 */
    unsigned nr_l1_mfn_valid;
    bool suspend_cancel;                        /* 14 */
    uint64_t init_p2m;                          /* 15 */
    bool mod_start_pfn;                         /* 16 */
    uint32_t phys32_entry;                      /* 18: PVH entry, physical */
    uint32_t reloc_align, reloc_min, reloc_max; /* 19 */
};

struct boot_image {
    char *name;              /* as the caller called it */
    const char *format;      /* "bzImage", "ELF" */
    const char *compression; /* "xz", ...; NULL: not compressed */
    char *version;           /* "6.1.0-55-cloud-amd64 (builder) #1 SMP ..."; NULL: unknown */
    const char *boot_loader; /* "GRUB": it finds kernel and initrd on the disk; NULL: a kernel */
    unsigned elf_class;      /* 32 or 64 */
    bool has_pvh;            /* notes.phys32_entry is usable */
    bool has_pv;             /* a Xen PV guest by its notes */
    uint64_t elf_entry;      /* e_entry */
    struct boot_notes notes;
    struct boot_segment segments[BOOT_MAX_SEGMENTS + 1]; /* the last may be `symbols` */
    unsigned nr_segments;
    uint64_t phys_start; /* lowest gpa of all segments */
    uint64_t phys_end;   /* one after the highest */
    uint8_t *elf;        /* owned; the ELF file (its debug information may be cut off) */
    size_t elf_len;
    uint8_t *packed; /* owned; the file `elf` was unpacked from, or NULL */
    size_t packed_len;
    uint8_t *symbols;  /* owned; what BSD_SYMTAB asks for, a segment like the others; or NULL */
    bool elf_complete; /* nothing was cut off: section headers and symbols can be read */
};

struct boot_image *boot_image_open(const char *path, GError **err);
/* Copies `bytes`. */
struct boot_image *boot_image_from_memory(const char *name, const uint8_t *bytes, size_t len,
                                          GError **err);
void boot_image_free(struct boot_image *img);

/* While a guest runs its kernel is wanted only by a reset: drop frees what can be unpacked again
 * (`elf`, `symbols` and the segments' bytes, some 50 MiB of a distribution's kernel) and keeps the
 * description and the file as it was read; restore unpacks. Both do nothing where there is
 * nothing to be done. restore fails for want of memory only. */
void boot_image_drop_content(struct boot_image *img);
bool boot_image_restore_content(struct boot_image *img, GError **err);

/* "bzImage, xz" or "ELF" for the banner; the caller frees. */
char *boot_image_describe(const struct boot_image *img);
/* The first word of the version ("6.1.0-55-cloud-amd64"): the name of the modules' folder. NULL
 * when unknown; the caller frees. Contains no '/'. */
char *boot_image_release(const struct boot_image *img);
/* Whether it can be entered that way; *err names what is missing. */
bool boot_image_check_pvh(const struct boot_image *img, GError **err);
bool boot_image_check_pv(const struct boot_image *img, GError **err);
/* The error for an image that can be entered in no way. Always false. */
bool boot_image_check_any(const struct boot_image *img, GError **err);

#endif
