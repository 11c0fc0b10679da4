/* SPDX-License-Identifier: MIT */
/* The state of a CPU after power-on (SDM vol. 3 table 9-1). */
#include "core/cpu.h"

#include <string.h>

enum {
    ATTR_CODE16 = 0x9b, /* present, S, code read accessed */
    ATTR_DATA16 = 0x93, /* present, S, data write accessed */
    ATTR_LDT = 0x82,
    ATTR_TSS_BUSY = 0x8b,
};
#define CPU_MISC_ENABLE_RESET 1ull /* fast strings */
#define CPU_PAT_RESET         0x0007040600070406ull

void cpu_reset(struct cpu_x86 *cpu)
{
    memset(cpu, 0, sizeof(*cpu));
    cpu->rip = 0xfff0;
    cpu->rflags = 2;
    cpu->gpr[CPU_RDX] = 0x600;
    for (int i = 0; i < CPU_NR_SEG; i++) {
        cpu->seg[i] = (struct cpu_segment){.attr = ATTR_DATA16, .limit = 0xffff};
    }
    cpu->seg[CPU_CS] = (struct cpu_segment){
        .selector = 0xf000, .attr = ATTR_CODE16, .limit = 0xffff, .base = 0xffff0000};
    cpu->ldtr = (struct cpu_segment){.attr = ATTR_LDT, .limit = 0xffff};
    cpu->tr = (struct cpu_segment){.attr = ATTR_TSS_BUSY, .limit = 0xffff};
    cpu->gdtr.limit = 0xffff;
    cpu->idtr.limit = 0xffff;
    cpu->cr0 = CPU_CR0_ET | CPU_CR0_CD | CPU_CR0_NW;
    cpu->dr[6] = 0xffff0ff0;
    cpu->dr[7] = 0x400;
    cpu->xcr0 = 1;
    cpu->pat = CPU_PAT_RESET;
    cpu->misc_enable = CPU_MISC_ENABLE_RESET;
    cpu->apic_base = 0xfee00000 | (1 << 11);
    /* FXSAVE image: FCW and MXCSR. */
    cpu->xsave[0] = 0x40;
    cpu->xsave[1] = 0x00;
    cpu->xsave[24] = 0x80;
    cpu->xsave[25] = 0x1f;
}
