/* SPDX-License-Identifier: MIT */
/*
 * Names what a file is when it is not the kernel that was hoped for, from its first bytes (and
 * a few magic numbers further in). Only for messages: nothing is decided here.
 */
#include <elf.h>
#include <string.h>

#include "boot/image_parts.h"

static const char HINT_DISK[] = "a disk goes to -disk; -kernel wants a Linux kernel";
static const char HINT_INITRD[] = "an initramfs goes to -initrd; -kernel wants a Linux kernel";

static const struct {
    uint32_t offset;
    uint8_t len;
    const char *magic;
    const char *words;
    const char *hint;
} GUESSES[] = {
    {0, 4, "QFI\xfb", "a qcow2 disk image", HINT_DISK},
    {0, 4, "KDMV", "a VMDK disk image", HINT_DISK},
    {0, 8, "vhdxfile", "a VHDX disk image", HINT_DISK},
    {0, 8, "conectix", "a VHD disk image", HINT_DISK},
    {0x40, 4, "\x7f\x10\xda\xbe", "a VirtualBox disk image", HINT_DISK},
    {0x8001, 5, "CD001", "an ISO 9660 (CD-ROM) image", HINT_DISK},
    {0x438, 2, "\x53\xef", "an ext2/3/4 file system image", HINT_DISK},
    {0, 4, "XFSB", "an XFS file system image", HINT_DISK},
    {0, 4, "hsqs", "a squashfs image", HINT_DISK},
    {0x10040, 8, "_BHRfS_M", "a btrfs file system image", HINT_DISK},
    {0, 6, "LUKS\xba\xbe", "a LUKS encrypted disk image", HINT_DISK},
    {0, 6, "070701", "an initramfs (cpio archive)", HINT_INITRD},
    {0, 6, "070702", "an initramfs (cpio archive)", HINT_INITRD},
    {0, 6, "070707", "a cpio archive", HINT_INITRD},
    {0x38, 4, "ARM\x64", "a 64-bit ARM kernel; pvemu runs x86 guests", NULL},
    {0x30, 5, "RISCV", "a RISC-V kernel; pvemu runs x86 guests", NULL},
    {0x24, 4, "\x18\x28\x6f\x01", "a 32-bit ARM kernel; pvemu runs x86 guests", NULL},
    {0, 4, "\x27\x05\x19\x56", "a U-Boot image; pvemu runs x86 guests", NULL},
    {0, 8, "!<arch>\n", "an archive (.a or .deb)", "unpack it with `dpkg-deb -x`"},
    {0, 4, "\xed\xab\xee\xdb", "an RPM package", "unpack it with `rpm2cpio`"},
    {0, 4, "PK\3\4", "a zip archive", NULL},
    {0x101, 5, "ustar", "a tar archive", NULL},
    {0, 2, "MZ", "a Windows or EFI program", NULL},
    {0x1fe, 2, "\x55\xaa", "a disk image with a boot sector", HINT_DISK},
    {0, 2, "#!", "a script", NULL},
};

static bool guess_is_text(const uint8_t *bytes, size_t len)
{
    for (size_t i = 0; i < MIN(len, 512); i++) {
        if (bytes[i] != '\n' && bytes[i] != '\r' && bytes[i] != '\t' &&
            (bytes[i] < 0x20 || bytes[i] == 0x7f)) {
            return false;
        }
    }
    return true;
}

static bool guess_is_zero(const uint8_t *bytes, size_t len)
{
    for (size_t i = 0; i < MIN(len, 4096); i++) {
        if (bytes[i] != 0) {
            return false;
        }
    }
    return true;
}

const char *image_guess(const uint8_t *bytes, size_t len, const char **hint)
{
    *hint = NULL;
    if (len == 0) {
        return "an empty file";
    }
    for (size_t i = 0; i < G_N_ELEMENTS(GUESSES); i++) {
        if (len >= GUESSES[i].offset + (size_t)GUESSES[i].len &&
            memcmp(bytes + GUESSES[i].offset, GUESSES[i].magic, GUESSES[i].len) == 0) {
            *hint = GUESSES[i].hint;
            return GUESSES[i].words;
        }
    }
    if (guess_is_text(bytes, len)) {
        return "a text file";
    }
    return guess_is_zero(bytes, len) ? "a file of zeros" : "an unknown kind of file";
}

const char *image_machine(unsigned machine, bool is64)
{
    static const struct {
        unsigned machine;
        const char *words32, *words64;
    } machines[] = {
        {EM_AARCH64, "a 32-bit ARM (ILP32)", "a 64-bit ARM"},
        {EM_ARM, "a 32-bit ARM", "a 64-bit ARM"},
        {EM_RISCV, "a 32-bit RISC-V", "a 64-bit RISC-V"},
        {EM_PPC, "a 32-bit PowerPC", "a 64-bit PowerPC"},
        {EM_PPC64, "a 32-bit PowerPC", "a 64-bit PowerPC"},
        {EM_S390, "a 31-bit s390", "an s390x"},
        {EM_MIPS, "a 32-bit MIPS", "a 64-bit MIPS"},
        {258, "a 32-bit LoongArch", "a 64-bit LoongArch"},
        {EM_SPARC, "a 32-bit SPARC", "a 64-bit SPARC"},
        {EM_SPARCV9, "a 32-bit SPARC", "a 64-bit SPARC"},
        {EM_IA_64, "an Itanium", "an Itanium"},
        {EM_ALPHA, "an Alpha", "an Alpha"},
        {EM_PARISC, "a 32-bit PA-RISC", "a 64-bit PA-RISC"},
        {EM_68K, "an m68k", "an m68k"},
    };

    for (size_t i = 0; i < G_N_ELEMENTS(machines); i++) {
        if (machines[i].machine == machine) {
            return is64 ? machines[i].words64 : machines[i].words32;
        }
    }
    return NULL;
}
