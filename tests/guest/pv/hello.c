/* SPDX-License-Identifier: MIT */
/* What the builder promises: start info, frame list, tables, rings; and both ways to call. */
#include "pv.h"

#include <xen/io/console.h>

/* Text through the console ring, as a kernel with its console set up prints. */
static void ring_say(const char *text)
{
    struct xencons_interface *ring =
        (struct xencons_interface *)(KV + (((uint64_t *)HV)[start_info->console.domU.mfn]
                                           << 12));
    struct evtchn_send send = {.port = start_info->console.domU.evtchn};
    uint32_t prod = ring->out_prod;

    for (; *text != '\0'; text++) {
        ring->out[prod++ & (sizeof(ring->out) - 1)] = *text;
    }
    __atomic_store_n(&ring->out_prod, prod, __ATOMIC_SEQ_CST);
    CHECK(HC2(event_channel_op, EVTCHNOP_send, &send), 0);
}

static bool equal(const char *a, const char *b)
{
    while (*a != '\0' && *a == *b) {
        a++, b++;
    }
    return *a == *b;
}

static void check_start_info(void)
{
    uint64_t *list = (uint64_t *)start_info->mfn_list;
    const uint64_t *m2p = (const uint64_t *)HV;

    CHECK_TRUE(equal(start_info->magic, "xen-3.0-x86_64"));
    CHECK(start_info->nr_pages, 32 << 8);
    CHECK(start_info->flags, 0);
    CHECK(start_info->mod_len, 0);
    for (unsigned pfn = 0; pfn < start_info->nr_pages; pfn++) {
        if (m2p[list[pfn]] != pfn) {
            CHECK(m2p[list[pfn]], pfn);
        }
    }
    CHECK(m2p[FRAME(start_info->shared_info)], UINT64_MAX);
    CHECK_TRUE(start_info->store_evtchn != 0);
    CHECK_TRUE(start_info->store_mfn != start_info->console.domU.mfn);
#ifdef PV_INIT_P2M
    CHECK(start_info->mfn_list, 0x8000000000ull);
    CHECK_TRUE(start_info->first_p2m_pfn > 0);
    CHECK_TRUE(start_info->nr_p2m_frames > 16); /* the list and its tables */
#else
    CHECK_TRUE(start_info->mfn_list > KV);
#endif
}

/* Every table of the builder is mapped read-only, everything else writable. */
static void check_mappings(void)
{
    uint64_t first = start_info->pt_base, end = first + start_info->nr_pt_frames * 4096;

    for (uint64_t va = KV; va < boot_stack; va += 4096) {
        bool table = va >= first && va < end;

        if (((*l1e_of((void *)va) & RW) == 0) != table) {
            CHECK((*l1e_of((void *)va) & RW) == 0, table);
        }
        if ((*l1e_of((void *)va) & (P | US)) != (P | US)) {
            CHECK(*l1e_of((void *)va), 0);
        }
    }
    CHECK_TRUE(boot_stack > end);
    CHECK_TRUE((*l1e_of((void *)(boot_stack + (512 << 10) - 4096)) & P) != 0);
}

void test(void)
{
    uint64_t cs, ss, flags;
    struct shared_info *si;

    __asm__("mov %%cs, %0\n\tmov %%ss, %1\n\tpushfq\n\tpopq %2"
            : "=r"(cs), "=r"(ss), "=r"(flags));
    CHECK(cs & 0xffff, 0xe033);
    CHECK(ss & 0xffff, 0xe02b);
    CHECK(flags & 0x3200, 0x200);
    say("hello from ring 3\n");
    check_start_info();
    check_mappings();
    CHECK(HC2(xen_version, XENVER_version, 0), 4 << 16 | 17);
    CHECK(hypercall_by_page(__HYPERVISOR_xen_version, XENVER_version, 0, 0, 0), 4 << 16 | 17);
    CHECK(hypercall_page[32 * __HYPERVISOR_iret + 9], 0x0f);
    si = map_shared_info();
    for (unsigned i = 0; i < XEN_LEGACY_MAX_VCPUS; i++) {
        CHECK(si->vcpu_info[i].evtchn_upcall_mask, 1);
    }
    CHECK_TRUE(si->vcpu_info[0].time.tsc_to_system_mul != 0);
    CHECK_TRUE(si->wc_sec != 0);
    ring_say("hello by the ring\r\n");
}
