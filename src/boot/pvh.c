/* SPDX-License-Identifier: MIT */
/*
 * Fills guest memory for a PVH start and describes it in hvm_start_info version 1
 * (docs of struct hvm_start_info in xen/arch-x86/hvm/start_info.h; Linux's reader is
 * arch/x86/platform/pvh/enlighten.c). Everything Linux reads before it maps all memory lies
 * below 1 GiB: right behind the kernel.
 */
#include "boot/pvh.h"

#include <string.h>
#include <xen/arch-x86/hvm/start_info.h>

#include "base/checked.h"
#include "base/error.h"

enum { PVH_ZERO_CHUNK = 64 << 10, PVH_TSS_LIMIT = 0x67 };

static const uint64_t LEGACY_HOLE = 0xa0000, LEGACY_HOLE_END = 0x100000;
static const uint64_t MIB = 1 << 20;

static bool e820_add(struct e820_map *map, uint64_t addr, uint64_t end, uint32_t type)
{
    if (end <= addr) {
        return true;
    }
    if (map->count == E820_MAX) {
        return false;
    }
    map->entries[map->count++] = (struct e820_entry){addr, end - addr, type};
    return true;
}

/* Cuts [addr, end) out of every RAM entry. */
static bool e820_cut(struct e820_map *map, uint64_t addr, uint64_t end)
{
    unsigned count = map->count;

    for (unsigned i = 0; i < count; i++) {
        struct e820_entry *e = &map->entries[i];
        uint64_t e_end = e->addr + e->size;

        if (e->type != E820_RAM || e_end <= addr || e->addr >= end) {
            continue;
        }
        if (!e820_add(map, MAX(end, e->addr), e_end, E820_RAM)) {
            return false;
        }
        e->size = addr > e->addr ? addr - e->addr : 0;
    }
    return true;
}

/* Sorts by address and drops entries that became empty. */
static void e820_tidy(struct e820_map *map)
{
    unsigned kept = 0;

    for (unsigned i = 0; i < map->count; i++) {
        struct e820_entry e = map->entries[i];
        unsigned at = kept;

        if (e.size == 0) {
            continue;
        }
        for (; at > 0 && map->entries[at - 1].addr > e.addr; at--) {
            map->entries[at] = map->entries[at - 1];
        }
        map->entries[at] = e;
        kept++;
    }
    map->count = kept;
}

bool e820_build(const struct mem *mem, const struct e820_entry *taken, unsigned nr_taken,
                struct e820_map *map)
{
    uint64_t low = mem_low_bytes(mem);
    bool ok;

    map->count = 0;
    ok = e820_add(map, 0, MIN(low, LEGACY_HOLE), E820_RAM) &&
         e820_add(map, LEGACY_HOLE, LEGACY_HOLE_END, E820_RESERVED) &&
         e820_add(map, LEGACY_HOLE_END, low, E820_RAM) &&
         e820_add(map, MEM_HIGH_START, MEM_HIGH_START + mem_high_bytes(mem), E820_RAM);
    for (unsigned i = 0; ok && i < nr_taken; i++) {
        uint64_t end = taken[i].addr + taken[i].size;

        ok = e820_cut(map, taken[i].addr, end) &&
             e820_add(map, taken[i].addr, end, taken[i].type);
    }
    e820_tidy(map);
    return ok;
}

static bool pvh_overlaps(uint64_t a, uint64_t a_end, uint64_t b, uint64_t b_end)
{
    return a < b_end && b < a_end;
}

static uint64_t page_up(uint64_t addr)
{
    return (addr + MEM_PAGE_SIZE - 1) & ~(uint64_t)(MEM_PAGE_SIZE - 1);
}

static bool pvh_too_small(const struct boot_image *img, const struct mem *mem, uint64_t needs,
                          GError **err)
{
    uint64_t enough = 64 * MIB;

    error_set(err, PVEMU_ERROR_USAGE,
              "'%s' does not fit: kernel and initrd need %" G_GUINT64_FORMAT
              " MiB, -m gives %" G_GUINT64_FORMAT " MiB",
              img->name, (needs + MIB - 1) / MIB, mem_ram_bytes(mem) / MIB);
    while (enough < needs + needs / 2 && enough < 1ull << 40) {
        enough *= 2;
    }
    error_hint(err, "-m %" G_GUINT64_FORMAT "M", enough / MIB);
    return false;
}

static bool pvh_check_kernel(const struct boot_image *img, const struct mem *mem,
                             const struct pvh_params *params, GError **err)
{
    uint64_t low = mem_low_bytes(mem);

    if (img->phys_end > MEM_LOW_END) {
        return error_set(err, PVEMU_ERROR_IMAGE,
                         "'%s' wants to be loaded above 3 GiB (up to 0x%" G_GINT64_MODIFIER
                         "x)",
                         img->name, img->phys_end);
    }
    if (page_up(img->phys_end) + MEM_PAGE_SIZE + params->initrd_len > low) {
        return pvh_too_small(img, mem,
                             page_up(img->phys_end) + MEM_PAGE_SIZE + params->initrd_len, err);
    }
    for (unsigned i = 0; i < img->nr_segments; i++) {
        const struct boot_segment *seg = &img->segments[i];
        uint64_t end = seg->gpa + seg->mem_size;

        if (pvh_overlaps(seg->gpa, end, LEGACY_HOLE, LEGACY_HOLE_END)) {
            return error_set(err, PVEMU_ERROR_IMAGE,
                             "'%s' wants to be loaded at 0x%" G_GINT64_MODIFIER
                             "x, where a PC has no memory",
                             img->name, seg->gpa);
        }
    }
    return true;
}

/* Whether [addr, end) hits a taken range; *start is that range's start. */
static bool pvh_hits_taken(const struct pvh_params *params, uint64_t addr, uint64_t end,
                           uint64_t *start)
{
    for (unsigned i = 0; i < params->nr_taken; i++) {
        const struct e820_entry *t = &params->taken[i];

        if (pvh_overlaps(addr, end, t->addr, t->addr + t->size)) {
            *start = t->addr;
            return true;
        }
    }
    return false;
}

/* As high as possible below 4 GiB. */
static bool pvh_place_initrd(const struct pvh_params *params, const struct mem *mem,
                             struct pvh_layout *out)
{
    uint64_t len = page_up(params->initrd_len);
    uint64_t end = mem_low_bytes(mem);
    uint64_t hit;

    out->initrd = 0;
    out->initrd_len = params->initrd_len;
    if (params->initrd == NULL || params->initrd_len == 0) {
        out->initrd_len = 0;
        return true;
    }
    while (end >= len && end - len >= out->tables_end) {
        uint64_t addr = (end - len) & ~(uint64_t)(MEM_PAGE_SIZE - 1);

        if (addr < out->tables_end) {
            break;
        }
        if (!pvh_hits_taken(params, addr, addr + len, &hit)) {
            out->initrd = addr;
            return true;
        }
        end = hit;
    }
    return false;
}

static bool pvh_zero(struct mem *mem, uint64_t gpa, uint64_t len)
{
    static const uint8_t zeros[PVH_ZERO_CHUNK];

    for (uint64_t at = 0; at < len; at += PVH_ZERO_CHUNK) {
        if (!mem_write(mem, gpa + at, zeros, (size_t)MIN(len - at, PVH_ZERO_CHUNK))) {
            return false;
        }
    }
    return true;
}

static bool pvh_write_kernel(const struct boot_image *img, struct mem *mem)
{
    bool ok = true;

    for (unsigned i = 0; ok && i < img->nr_segments; i++) {
        const struct boot_segment *seg = &img->segments[i];

        ok = mem_write(mem, seg->gpa, seg->bytes, (size_t)seg->file_size) &&
             pvh_zero(mem, seg->gpa + seg->file_size, seg->mem_size - seg->file_size);
    }
    return ok;
}

/* Appends, 8-byte aligned; the address it will have. */
static uint64_t pvh_append(GByteArray *tables, uint64_t base, const void *bytes, size_t len)
{
    static const uint8_t zeros[8];
    uint64_t addr;

    g_byte_array_append(tables, zeros, -tables->len & 7);
    addr = base + tables->len;
    g_byte_array_append(tables, bytes, (guint)len);
    return addr;
}

/* Command line, module list, memory map and start info, to be placed at `base`. */
static void pvh_tables(const struct pvh_params *params, uint64_t base, struct pvh_layout *out,
                       GByteArray *tables)
{
    struct hvm_memmap_table_entry memmap[E820_MAX] = {0};
    struct hvm_modlist_entry module = {.paddr = out->initrd, .size = out->initrd_len};
    struct hvm_start_info info = {
        .magic = XEN_HVM_START_MAGIC_VALUE,
        .version = 1,
        .flags = params->flags,
        .nr_modules = out->initrd_len > 0 ? 1 : 0,
        .rsdp_paddr = out->rsdp,
        .memmap_entries = out->e820.count,
    };

    for (unsigned i = 0; i < out->e820.count; i++) {
        memmap[i].addr = out->e820.entries[i].addr;
        memmap[i].size = out->e820.entries[i].size;
        memmap[i].type = out->e820.entries[i].type;
    }
    if (params->cmdline != NULL) {
        info.cmdline_paddr =
            pvh_append(tables, base, params->cmdline, strlen(params->cmdline) + 1);
    }
    if (out->initrd_len > 0) {
        info.modlist_paddr = pvh_append(tables, base, &module, sizeof(module));
    }
    info.memmap_paddr = pvh_append(tables, base, memmap, out->e820.count * sizeof(memmap[0]));
    out->start_info = (uint32_t)pvh_append(tables, base, &info, sizeof(info));
}

static bool pvh_write_acpi(const struct pvh_params *params, struct mem *mem,
                           struct pvh_layout *out)
{
    GByteArray *acpi = g_byte_array_new();
    bool ok;

    acpi_build(&params->acpi, ACPI_TABLES_GPA, acpi);
    out->rsdp = ACPI_TABLES_GPA;
    ok = acpi->len <= ACPI_TABLES_MAX && mem_write(mem, ACPI_TABLES_GPA, acpi->data, acpi->len);
    g_byte_array_free(acpi, TRUE);
    return ok;
}

/* A first page after the kernel that is not taken. */
static uint64_t pvh_tables_base(const struct boot_image *img, const struct pvh_params *params)
{
    uint64_t base = page_up(img->phys_end);
    uint64_t hit;

    while (pvh_hits_taken(params, base, base + 2 * MEM_PAGE_SIZE, &hit)) {
        base = page_up(hit + 1);
    }
    return base;
}

static bool pvh_check_params(const struct pvh_params *params, GError **err)
{
    unsigned vcpus = MAX(params->acpi.nr_vcpus, params->acpi.max_vcpus);
    size_t len = params->cmdline != NULL ? strlen(params->cmdline) : 0;

    if (len > PVH_CMDLINE_MAX) {
        return error_set(err, PVEMU_ERROR_USAGE,
                         "the kernel command line has %zu characters; Linux takes at most %d",
                         len, PVH_CMDLINE_MAX);
    }
    if (params->acpi.nr_vcpus == 0 || vcpus > ACPI_MAX_VCPUS) {
        return error_set(err, PVEMU_ERROR_USAGE, "-smp %u: a PVH guest has 1 to %d CPUs", vcpus,
                         ACPI_MAX_VCPUS);
    }
    return true;
}

bool pvh_build(const struct boot_image *img, struct mem *mem, const struct pvh_params *params,
               struct pvh_layout *out, GError **err)
{
    GByteArray *tables;
    uint64_t base;
    bool ok;

    memset(out, 0, sizeof(*out));
    if (!boot_image_check_pvh(img, err) || !pvh_check_params(params, err) ||
        !pvh_check_kernel(img, mem, params, err)) {
        return false;
    }
    if (!e820_build(mem, params->taken, params->nr_taken, &out->e820)) {
        return error_set(err, PVEMU_ERROR_LIMIT, "the memory map has too many ranges");
    }
    out->entry = img->notes.phys32_entry;
    out->kernel_start = img->phys_start;
    out->kernel_end = img->phys_end;
    base = pvh_tables_base(img, params);
    out->tables_end = base + 2 * MEM_PAGE_SIZE;
    if (!pvh_place_initrd(params, mem, out)) {
        return pvh_too_small(img, mem, out->tables_end + params->initrd_len, err);
    }
    ok = pvh_write_kernel(img, mem) && pvh_write_acpi(params, mem, out);
    tables = g_byte_array_new();
    pvh_tables(params, base, out, tables);
    g_assert(tables->len <= 2 * MEM_PAGE_SIZE);
    ok = ok && mem_write(mem, base, tables->data, tables->len) &&
         (out->initrd_len == 0 ||
          mem_write(mem, out->initrd, params->initrd, params->initrd_len));
    g_byte_array_free(tables, TRUE);
    return ok || error_set(err, PVEMU_ERROR_IMAGE, "'%s' does not fit into the guest's memory",
                           img->name);
}

static struct cpu_segment pvh_segment(uint16_t selector, uint16_t type, uint32_t limit)
{
    return (struct cpu_segment){
        .selector = selector,
        .attr = (uint16_t)(CPU_SEG_P | type | (limit > 0xffff ? CPU_SEG_G | CPU_SEG_DB : 0)),
        .limit = limit,
    };
}

void pvh_vcpu_init(struct cpu_x86 *cpu, const struct pvh_layout *layout)
{
    enum { CODE = CPU_SEG_S | 0xb, DATA = CPU_SEG_S | 0x3, BUSY_TSS32 = 0xb };

    memset(cpu->gpr, 0, sizeof(cpu->gpr));
    cpu->gpr[CPU_RBX] = layout->start_info;
    cpu->rip = layout->entry;
    cpu->rflags = 2;
    cpu->cr0 = CPU_CR0_PE | CPU_CR0_ET;
    cpu->cr2 = cpu->cr3 = cpu->cr4 = 0;
    cpu->efer = 0;
    cpu->cpl = 0;
    cpu->halted = false;
    for (unsigned i = 0; i < CPU_NR_SEG; i++) {
        cpu->seg[i] = pvh_segment(i == CPU_CS ? 8 : 16, i == CPU_CS ? CODE : DATA, UINT32_MAX);
    }
    cpu->tr = pvh_segment(24, BUSY_TSS32, PVH_TSS_LIMIT);
    cpu->ldtr = (struct cpu_segment){.unusable = true};
    cpu->gdtr = (struct cpu_table){0, 0};
    cpu->idtr = (struct cpu_table){0, 0};
}
