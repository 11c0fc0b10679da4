/* SPDX-License-Identifier: MIT */
/* HYPERVISOR_xen_version (xen/version.h; xen-abi 2.4). Fixed strings are zero-padded to their
 * full size. */
#include <errno.h>
#include <glib.h>
#include <string.h>

#include "pv/domain.h"
#include "pv/guest_access.h"
#include "pv/hypercall.h"
#include "pv/xen_abi.h"

#define VERSION_FEATURE(f) (1u << XENFEAT_##f)

/* Bits of feature word 0. */
static uint32_t version_features(const struct pv_domain *d)
{
    const uint32_t extended = (d->vm_assist >> VMASST_TYPE_pae_extended_cr3 & 1) != 0
                                  ? VERSION_FEATURE(pae_pgdir_above_4gb)
                                  : 0;

    if (d->kind == PV_KIND_PV) {
        return extended | VERSION_FEATURE(mmu_pt_update_preserve_ad) | VERSION_FEATURE(highmem_assist) |
               VERSION_FEATURE(gnttab_map_avail_bits) |
               VERSION_FEATURE(memory_op_vnode_supported) | VERSION_FEATURE(direct_mapped);
    }
    return VERSION_FEATURE(writable_page_tables) | VERSION_FEATURE(auto_translated_physmap) |
           VERSION_FEATURE(hvm_callback_vector) | VERSION_FEATURE(hvm_safe_pvclock) |
           VERSION_FEATURE(not_direct_mapped);
}

static int64_t version_put(struct hypercall *h, const void *data, size_t len)
{
    return guest_write(h->v, h->arg[1], data, len) ? 0 : -EFAULT;
}

static int64_t version_compile_info(struct hypercall *h)
{
    struct xen_compile_info info = {
        .compiler = "cc", .compile_by = "pvemu", .compile_domain = "", .compile_date = ""};

    return version_put(h, &info, sizeof(info));
}

static int64_t version_capabilities(struct hypercall *h)
{
    xen_capabilities_info_t caps;

    memset(caps, 0, sizeof(caps));
    g_strlcpy(caps, "xen-3.0-x86_64 hvm-3.0-x86_32 hvm-3.0-x86_32p hvm-3.0-x86_64 ",
              sizeof(caps));
    return version_put(h, caps, sizeof(caps));
}

static int64_t version_platform(struct hypercall *h)
{
    uint64_t virt_start = h->d->kind == PV_KIND_PV ? 0xffff800000000000ull : 0;

    return version_put(h, &virt_start, h->compat ? sizeof(uint32_t) : sizeof(virt_start));
}

static int64_t version_get_features(struct hypercall *h)
{
    struct xen_feature_info info;

    if (!guest_read(h->v, h->arg[1], &info, sizeof(info))) {
        return -EFAULT;
    }
    if (info.submap_idx != 0) {
        return -EINVAL;
    }
    info.submap = version_features(h->d);
    return version_put(h, &info, sizeof(info));
}

int64_t version_op(struct hypercall *h)
{
    static const char extra[XEN_EXTRAVERSION_LEN] = ".0-pvemu";
    static const char changeset[XEN_CHANGESET_INFO_LEN] = "unavailable";
    static const char denied[] = "<denied>";

    switch ((uint32_t)h->arg[0]) {
    case XENVER_version:
        return PV_XEN_MAJOR << 16 | PV_XEN_MINOR;
    case XENVER_extraversion:
        return version_put(h, extra, sizeof(extra));
    case XENVER_compile_info:
        return version_compile_info(h);
    case XENVER_capabilities:
        return version_capabilities(h);
    case XENVER_changeset:
        return version_put(h, changeset, sizeof(changeset));
    case XENVER_platform_parameters:
        return version_platform(h);
    case XENVER_get_features:
        return version_get_features(h);
    case XENVER_pagesize:
        return h->arg[1] == 0 ? MEM_PAGE_SIZE : -EINVAL;
    case XENVER_guest_handle:
        return version_put(h, h->d->uuid, sizeof(h->d->uuid));
    case XENVER_commandline:
        return version_put(h, denied, sizeof(denied));
    case XENVER_build_id:
        return -EPERM; /* for privileged domains */
    default:
        return -ENOSYS;
    }
}
