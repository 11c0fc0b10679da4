/* SPDX-License-Identifier: MIT */
/* What ops.h promises and pv.h does not, for PV kernels. */
#include "ops.h"

static uint8_t grant_page[4096] __attribute__((aligned(4096)));

struct grant_entry_v1 *map_grants(uint64_t frame)
{
    CHECK(update_va(grant_page, frame << 12 | P | RW | US, UVMF_INVLPG), 0);
    return (struct grant_entry_v1 *)grant_page;
}

const char *command_line(void)
{
    return (const char *)start_info->cmd_line;
}

void second_context(context_type *context, void *code, void *stack_end)
{
    kernel_context(context, code, stack_end);
}
