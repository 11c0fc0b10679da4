/* SPDX-License-Identifier: MIT */
/*
 * The toolstack's part: xenstore nodes of a new guest with the permissions libxl gives them
 * (docs/misc/ xenstore-paths; xen-abi 6.1, 6.2), CPUID leaves (xen/arch-x86/cpuid.h),
 * control/shutdown.
 */
#include "pv/toolstack.h"

#include <glib.h>
#include <string.h>

#include "pv/domain.h"
#include "pv/memory.h"
#include "pv/time.h"
#include "pv/xen_abi.h"
#include "pv/xenstore.h"

enum {
    TOOLSTACK_PATH_MAX = 128,
    TOOLSTACK_CPUID_TSC_SAFE = 1 << 1, /* leaf 3 EAX: the host's TSC is reliable */
};

/* /local/domain/<id>/<tail> into buf. */
static const char *toolstack_path(const struct pv_domain *d, const char *tail,
                                  char buf[TOOLSTACK_PATH_MAX])
{
    g_snprintf(buf, TOOLSTACK_PATH_MAX, "/local/domain/%u%s%s", d->domid,
               *tail != '\0' ? "/" : "", tail);
    return buf;
}

static void toolstack_write(struct pv_domain *d, const char *tail, const char *value)
{
    char path[TOOLSTACK_PATH_MAX];

    xs_write(d->xenstore, toolstack_path(d, tail, path), "%s", value);
}

static void toolstack_write_uint(struct pv_domain *d, const char *tail, uint64_t value)
{
    char path[TOOLSTACK_PATH_MAX];

    xs_write(d->xenstore, toolstack_path(d, tail, path), "%" G_GUINT64_FORMAT, value);
}

/* Owned by domain 0, readable by the guest. */
static void toolstack_perms_read(struct pv_domain *d, const char *path)
{
    char guest[16];
    const char *perms[2] = {"n0", guest};

    g_snprintf(guest, sizeof(guest), "r%u", d->domid);
    xs_set_perms(d->xenstore, path, perms, 2);
}

/* An empty node that the guest owns. */
static void toolstack_guest_node(struct pv_domain *d, const char *tail)
{
    char path[TOOLSTACK_PATH_MAX];
    char guest[16];
    const char *perms[1] = {guest};

    g_snprintf(guest, sizeof(guest), "n%u", d->domid);
    toolstack_path(d, tail, path);
    xs_write(d->xenstore, path, "%s", "");
    xs_set_perms(d->xenstore, path, perms, 1);
}

static char *toolstack_uuid(const struct pv_domain *d)
{
    const uint8_t *u = d->uuid;

    return g_strdup_printf(
        "%02x%02x%02x%02x-%02x%02x-%02x%02x-%02x%02x-%02x%02x%02x%02x%02x%02x", u[0], u[1],
        u[2], u[3], u[4], u[5], u[6], u[7], u[8], u[9], u[10], u[11], u[12], u[13], u[14],
        u[15]);
}

static void toolstack_publish_vm(struct pv_domain *d)
{
    g_autofree char *uuid = toolstack_uuid(d);
    g_autofree char *vm = g_strdup_printf("/vm/%s", uuid);
    g_autofree char *name = g_strdup_printf("%s/name", vm);
    g_autofree char *uuid_path = g_strdup_printf("%s/uuid", vm);
    g_autofree char *start = g_strdup_printf("%s/start_time", vm);

    xs_mkdir(d->xenstore, vm);
    toolstack_perms_read(d, vm);
    xs_write(d->xenstore, name, "%s", d->name);
    xs_write(d->xenstore, uuid_path, "%s", uuid);
    xs_write(d->xenstore, start, "%" G_GINT64_FORMAT ".00", g_get_real_time() / G_USEC_PER_SEC);
    toolstack_write(d, "vm", vm);
}

static void toolstack_publish_cpu(struct pv_domain *d, unsigned i)
{
    char tail[32];

    g_snprintf(tail, sizeof(tail), "cpu/%u/availability", i);
    toolstack_write(d, tail, i < d->nr_vcpus ? "online" : "offline");
}

static void toolstack_publish_cpus(struct pv_domain *d)
{
    for (unsigned i = 0; i < d->max_vcpus; i++) {
        toolstack_publish_cpu(d, i);
    }
}

void pv_domain_set_vcpus(struct pv_domain *d, unsigned nr)
{
    const unsigned old = d->nr_vcpus;

    g_assert(nr >= 1 && nr <= d->max_vcpus);
    d->nr_vcpus = nr;
    for (unsigned i = MIN(nr, old); i < MAX(nr, old); i++) {
        toolstack_publish_cpu(d, i);
    }
}

void pv_domain_set_memory(struct pv_domain *d, uint64_t bytes)
{
    g_assert(bytes / MEM_PAGE_SIZE <= d->ram_pages);
    d->target_kib = bytes / 1024;
    toolstack_write_uint(d, "memory/target", d->target_kib);
}

uint64_t pv_domain_memory(const struct pv_domain *d)
{
    return pv_memory_pages(d) * MEM_PAGE_SIZE;
}

static void toolstack_publish_console(struct pv_domain *d)
{
    if (!d->has_console) {
        return;
    }
    toolstack_write_uint(d, "console/ring-ref", d->console_gfn);
    toolstack_write_uint(d, "console/port", d->console_port);
    toolstack_write(d, "console/type", "xenconsoled");
    toolstack_write(d, "console/output", "pty");
    toolstack_write(d, "console/tty", "");
    toolstack_write_uint(d, "console/limit", 1048576);
}

void toolstack_publish_rings(struct pv_domain *d)
{
    toolstack_write_uint(d, "store/ring-ref", d->store_gfn);
    if (d->has_console) {
        toolstack_write_uint(d, "console/ring-ref", d->console_gfn);
    }
}

void toolstack_publish(struct pv_domain *d)
{
    static const char *const directories[] = {
        "cpu",     "memory", "device",   "control", "hvmloader",
        "console", "store",  "platform", "image",
    };
    static const char *const guest_nodes[] = {
        "control/shutdown",
        "control/feature-poweroff",
        "control/feature-reboot",
        "control/feature-suspend",
        "control/sysrq",
        "device/suspend/event-channel",
        "data",
        "drivers",
        "feature",
        "attr",
        "error",
    };
    const uint64_t ram_kib = d->ram_pages * (MEM_PAGE_SIZE / 1024);
    char path[TOOLSTACK_PATH_MAX];

    xs_write(d->xenstore, "/local/domain/0/name", "Domain-0");
    xs_write(d->xenstore, "/local/domain/0/domid", "0");
    /* Children inherit the permissions, so the home directory comes first. */
    xs_mkdir(d->xenstore, toolstack_path(d, "", path));
    toolstack_perms_read(d, path);
    for (unsigned i = 0; i < G_N_ELEMENTS(directories); i++) {
        xs_mkdir(d->xenstore, toolstack_path(d, directories[i], path));
        toolstack_perms_read(d, path);
    }
    toolstack_publish_vm(d);
    toolstack_write(d, "name", d->name);
    toolstack_write_uint(d, "domid", d->domid);
    toolstack_write_uint(d, "memory/static-max", ram_kib);
    toolstack_write_uint(d, "memory/target", d->target_kib);
    toolstack_write_uint(d, "memory/videoram", 0);
    toolstack_publish_cpus(d);
    toolstack_write(d, "control/platform-feature-multiprocessor-suspend", "1");
    toolstack_write(d, "control/platform-feature-xs_reset_watches", "1");
    toolstack_write_uint(d, "store/ring-ref", d->store_gfn);
    toolstack_write_uint(d, "store/port", d->store_port);
    toolstack_publish_console(d);
    for (unsigned i = 0; i < G_N_ELEMENTS(guest_nodes); i++) {
        toolstack_guest_node(d, guest_nodes[i]);
    }
}

void toolstack_publish_resumed(struct pv_domain *d)
{
    toolstack_write_uint(d, "store/port", d->store_port);
    if (d->has_console) {
        toolstack_write_uint(d, "console/port", d->console_port);
    }
    toolstack_write(d, "control/shutdown", "");
}

/* --- Requests --------------------------------------------------------------------------- */

static bool toolstack_offered(struct pv_domain *d, const char *word)
{
    char feature[64];
    char path[TOOLSTACK_PATH_MAX];
    uint64_t has = 0;

    /* Linux offers "halt" without naming it: it means the same as poweroff to it. */
    g_snprintf(feature, sizeof(feature), "control/feature-%s",
               strcmp(word, "halt") == 0 ? "poweroff" : word);
    return xs_read_uint(d->xenstore, toolstack_path(d, feature, path), 1, &has) && has == 1;
}

bool pv_domain_request_shutdown(struct pv_domain *d, const char *word)
{
    toolstack_write(d, "control/shutdown", word);
    return toolstack_offered(d, word);
}

const char *pv_domain_deaf(struct pv_domain *d, const char *word)
{
    char path[TOOLSTACK_PATH_MAX];

    if (!xs_guest_watches(d->xenstore, toolstack_path(d, "control/shutdown", path))) {
        return "it does not watch control/shutdown in xenstore: its kernel has not come so far "
               "yet, or has no such driver";
    }
    if (!toolstack_offered(d, word)) {
        return "its kernel does not offer it: there is no control/feature- node for it in "
               "xenstore that says 1";
    }
    /* Linux's block driver is broken by a second resume while it is in the first. */
    if (d->nr_awaited > 0 && strcmp(word, "suspend") == 0) {
        return "its drivers have not connected all disks and cards again since it was resumed";
    }
    return NULL;
}

bool pv_domain_withdraw_shutdown(struct pv_domain *d, const char *word)
{
    char path[TOOLSTACK_PATH_MAX];
    g_autofree char *now = xs_read(d->xenstore, toolstack_path(d, "control/shutdown", path));

    if (g_strcmp0(now, word) != 0) {
        return false;
    }
    toolstack_write(d, "control/shutdown", "");
    return true;
}

/* --- CPUID ------------------------------------------------------------------------------ */

unsigned pv_cpuid_leaves(const struct pv_domain_config *config, uint32_t (*leaves)[6],
                         unsigned max)
{
    const uint32_t base = XEN_CPUID_FIRST_LEAF;
    const bool pv = config->kind == PV_KIND_PV;
    const struct pv_time_scale scale = pv_time_scale_of(config->tsc_hz);
    const uint32_t khz = (uint32_t)(config->tsc_hz / 1000);
    const uint32_t rows[][6] = {
        {base, 0, base + (pv ? 5 : 4), XEN_CPUID_SIGNATURE_EBX, XEN_CPUID_SIGNATURE_ECX,
         XEN_CPUID_SIGNATURE_EDX},
        {base + 1, 0, PV_XEN_MAJOR << 16 | PV_XEN_MINOR, 0, 0, 0},
        /* One hypercall page, through this MSR. */
        {base + 2, 0, 1, 0x40000000, pv ? XEN_CPUID_FEAT1_MMU_PT_UPDATE_PRESERVE_AD : 0, 0},
        /* Not emulated; safe when the host says so. */
        {base + 3, 0, config->tsc_unstable ? 0 : TOOLSTACK_CPUID_TSC_SAFE, 0, khz, 0},
        {base + 3, 1, 0, 0, scale.mul, (uint32_t)(int32_t)scale.shift},
        {base + 3, 2, khz, 0, 0, 0},
        {base + 4, 0,
         pv ? 0
            : XEN_HVM_CPUID_VCPU_ID_PRESENT | XEN_HVM_CPUID_DOMID_PRESENT |
                  (config->slow_eoi ? 0 : XEN_HVM_CPUID_UPCALL_VECTOR),
         0, pv ? 0 : PV_DOMID, 0},
        {base + 5, 0, 0, 36, 0, 0}, /* machine addresses of 36 bits: grant table version 1 */
    };
    const unsigned count = MIN(max, (unsigned)G_N_ELEMENTS(rows) - (pv ? 0 : 1));

    memcpy(leaves, rows, count * sizeof(rows[0]));
    return count;
}
