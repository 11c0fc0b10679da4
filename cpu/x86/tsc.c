/* SPDX-License-Identifier: MIT */
/*
 * The host TSC's rate, by the best source that needs no privilege:
 *  1. what the host's hypervisor says (leaf 0x40000010), kHz;
 *  2. the kernel's own conversion factors in a perf event's page (cap_user_time), as exact as
 *     the host's clock;
 *  3. CPUID 0x15 when it names the crystal;
 *  4. a measurement against CLOCK_MONOTONIC_RAW: the tightest of several readings at both
 *     ends of 17 ms, good to a few ppm.
 * A told rate is believed only when a short measurement agrees within 0.5 %.
 */
#include "cpu/x86/x86.h"

#include <cpuid.h>
#include <linux/perf_event.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>
#include <x86intrin.h>

#include "base/auto_fd.h"
#include "cpu/x86/internal.h"

enum { TSC_READINGS = 20, TSC_SHORT_NS = 2000000, TSC_LONG_NS = 15000000 };
#define NS_PER_S 1000000000ull

struct tsc_point {
    uint64_t tsc, ns;
};

static uint64_t tsc_raw_ns(void)
{
    struct timespec ts;

    clock_gettime(CLOCK_MONOTONIC_RAW, &ts);
    return (uint64_t)ts.tv_sec * NS_PER_S + (uint64_t)ts.tv_nsec;
}

/* Both clocks at one moment: the reading with the shortest gap around the clock. */
static struct tsc_point tsc_take_point(void)
{
    struct tsc_point best = {0, 0};
    uint64_t best_gap = UINT64_MAX;

    for (unsigned i = 0; i < TSC_READINGS; i++) {
        uint64_t before = __rdtsc();
        uint64_t ns = tsc_raw_ns();
        uint64_t gap = __rdtsc() - before;

        if (gap < best_gap) {
            best_gap = gap;
            best = (struct tsc_point){before + gap / 2, ns};
        }
    }
    return best;
}

/* Sleeps, then gives the rate since `start`. */
static uint64_t tsc_measure(struct tsc_point start, uint64_t duration_ns)
{
    struct timespec wait = {.tv_nsec = (long)duration_ns};
    struct tsc_point end;

    nanosleep(&wait, NULL);
    end = tsc_take_point();
    return (uint64_t)((long double)(end.tsc - start.tsc) * NS_PER_S /
                      (long double)MAX(end.ns - start.ns, 1));
}

static uint64_t tsc_from_hypervisor(void)
{
    uint32_t eax, ebx, ecx, edx;

    __cpuid(1, eax, ebx, ecx, edx);
    if ((ecx & (1u << 31)) == 0) {
        return 0;
    }
    __cpuid(0x40000000, eax, ebx, ecx, edx);
    if (eax < 0x40000010 || eax > 0x400000ff) {
        return 0;
    }
    __cpuid(0x40000010, eax, ebx, ecx, edx);
    return (uint64_t)eax * 1000;
}

static uint64_t tsc_from_crystal(void)
{
    uint32_t eax, ebx, ecx, edx;

    if (__get_cpuid_max(0, NULL) < 0x15) {
        return 0;
    }
    __cpuid(0x15, eax, ebx, ecx, edx);
    return eax != 0 && ebx != 0 && ecx != 0 ? (uint64_t)ecx * ebx / eax : 0;
}

static uint64_t tsc_from_perf(void)
{
    struct perf_event_attr attr = {
        .type = PERF_TYPE_SOFTWARE, .size = sizeof(attr), .config = PERF_COUNT_SW_DUMMY,
        .exclude_kernel = 1, .exclude_hv = 1,
    };
    auto_fd fd = (int)syscall(SYS_perf_event_open, &attr, 0, -1, -1, PERF_FLAG_FD_CLOEXEC);
    size_t size = (size_t)sysconf(_SC_PAGESIZE);
    struct perf_event_mmap_page *page;
    uint64_t hz = 0;

    if (fd < 0) {
        return 0;
    }
    page = mmap(NULL, size, PROT_READ, MAP_SHARED, fd, 0);
    if (page == MAP_FAILED) {
        return 0;
    }
    if (page->cap_user_time && page->time_mult != 0 && page->time_shift < 64) {
        /* ns = tsc * mult >> shift */
        hz = (uint64_t)((long double)NS_PER_S * (long double)(1ull << page->time_shift) /
                        page->time_mult);
        hz = (hz + 500) / 1000 * 1000; /* the kernel knows it in kHz; the factors round */
    }
    munmap(page, size);
    return hz;
}

uint64_t x86_measure_tsc_hz(void)
{
    struct tsc_point start = tsc_take_point();
    uint64_t rough = tsc_measure(start, TSC_SHORT_NS);
    uint64_t told[3];

    told[0] = tsc_from_hypervisor();
    told[1] = tsc_from_perf();
    told[2] = tsc_from_crystal();
    for (unsigned i = 0; i < G_N_ELEMENTS(told); i++) {
        uint64_t off = told[i] > rough ? told[i] - rough : rough - told[i];

        if (told[i] != 0 && off < rough / 200) {
            return told[i];
        }
    }
    return tsc_measure(start, TSC_LONG_NS);
}

uint64_t x86_tsc(const struct vcpu *v)
{
    return __rdtsc() + (uint64_t)v->cpu.tsc_offset;
}
