/* SPDX-License-Identifier: MIT */
/*
 * The least an exit can cost: a guest that writes to a port 100 times, and a loop of KVM_RUN that
 * does nothing. Prints the TSC ticks for each, the best of 20 times; tests/guest/exit_cost.S prints
 * pvemu's.
 */
#include <fcntl.h>
#include <linux/kvm.h>
#include <stdio.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <x86intrin.h>

enum { ROUNDS = 100, TIMES = 20, SIZE = 0x10000, CODE = 0x1000 };

/* Real mode: OUT AL to 0x80, for ever. */
static const unsigned char program[] = {0xe6, 0x80, 0xeb, 0xfc};

static int failed(const char *what)
{
    perror(what);
    return 1;
}

int main(void)
{
    int dev = open("/dev/kvm", O_RDWR | O_CLOEXEC);
    int vm = dev < 0 ? -1 : ioctl(dev, KVM_CREATE_VM, 0);
    struct kvm_userspace_memory_region slot = {.memory_size = SIZE};
    struct kvm_regs regs = {.rip = CODE, .rflags = 2};
    struct kvm_sregs sregs;
    unsigned long long start, ticks, best = ~0ull;
    struct kvm_run *run;
    char *memory;
    int vcpu;

    if (vm < 0) {
        return failed("/dev/kvm");
    }
    memory = mmap(NULL, SIZE, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    slot.userspace_addr = (unsigned long)memory;
    vcpu = ioctl(vm, KVM_SET_USER_MEMORY_REGION, &slot) < 0 ? -1 : ioctl(vm, KVM_CREATE_VCPU, 0);
    if (vcpu < 0 || ioctl(vcpu, KVM_GET_SREGS, &sregs) < 0) {
        return failed("the virtual machine");
    }
    memcpy(memory + CODE, program, sizeof(program));
    sregs.cs.base = sregs.cs.selector = 0;
    run = mmap(NULL, (size_t)ioctl(dev, KVM_GET_VCPU_MMAP_SIZE, 0), PROT_READ | PROT_WRITE,
               MAP_SHARED, vcpu, 0);
    if (run == MAP_FAILED || ioctl(vcpu, KVM_SET_SREGS, &sregs) < 0 ||
        ioctl(vcpu, KVM_SET_REGS, &regs) < 0) {
        return failed("its CPU");
    }
    for (int time = 0; time < TIMES; time++) {
        start = __rdtsc();
        for (int i = 0; i < ROUNDS; i++) {
            if (ioctl(vcpu, KVM_RUN, 0) < 0 || run->exit_reason != KVM_EXIT_IO) {
                return failed("KVM_RUN");
            }
        }
        ticks = (__rdtsc() - start) / ROUNDS;
        best = ticks < best ? ticks : best;
    }
    printf("bare %llu\n", best);
    return 0;
}
