/* SPDX-License-Identifier: MIT */
/* What the interpreter needs of the host: LAHF in 64-bit mode, XSAVE switched on, executable
 * memory. */
#include "native.h"

#include <cpuid.h>
#include <sys/random.h>

bool interp_host_probe(GError **err)
{
    unsigned a, b, c, d;
    struct native *n;

    if (!__get_cpuid(1, &a, &b, &c, &d) || (c & bit_OSXSAVE) == 0 ||
        !__get_cpuid(0x80000001, &a, &b, &c, &d) || (c & bit_LAHF_LM) == 0) {
        g_set_error(err, G_FILE_ERROR, G_FILE_ERROR_NOSYS,
                    "this host's CPU or kernel has no XSAVE or no LAHF");
        return false;
    }
    n = thunk_cache_new(err);
    thunk_cache_free(n);
    return n != NULL;
}

uint32_t interp_host_mxcsr_mask(void)
{
    _Alignas(16) uint8_t area[512] = {0};
    uint32_t mask;

    __asm__ volatile("fxsave64 %0" : "=m"(area));
    mask = *(const uint32_t *)(const void *)(area + 28);
    return mask != 0 ? mask : 0xffbf;
}

uint32_t interp_host_xcr0(void)
{
    uint32_t low, high;

    __asm__ volatile("xgetbv" : "=a"(low), "=d"(high) : "c"(0));
    return low & CPU_XCR0_MASK;
}

uint64_t interp_host_secret(void)
{
    uint64_t secret = 0;

    if (getrandom(&secret, sizeof(secret), GRND_NONBLOCK) != sizeof(secret)) {
        secret = (uint64_t)g_get_monotonic_time() * 0x9e3779b97f4a7c15ull;
    }
    return secret;
}
