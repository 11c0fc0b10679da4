/* SPDX-License-Identifier: MIT */
/* The configuration's defaults and its end. */
#include "base/config.h"

#define CONFIG_DEFAULT_MEMORY (512ull << 20)

static void config_disk_free(gpointer data)
{
    struct config_disk *disk = data;

    g_free(disk->path);
    g_free(disk->format);
    g_free(disk);
}

struct config *config_new(void)
{
    struct config *c = g_new0(struct config, 1);

    c->memory_bytes = c->memory_max_bytes = CONFIG_DEFAULT_MEMORY;
    c->smp = c->smp_max = 1;
    c->disks = g_ptr_array_new_with_free_func(config_disk_free);
    c->forwards = g_ptr_array_new_with_free_func(g_free);
    c->sends = g_ptr_array_new_with_free_func(g_free);
    c->sandbox = SANDBOX_ON;
    return c;
}

void config_free(struct config *c)
{
    if (c == NULL) {
        return;
    }
    g_free(c->kernel);
    g_free(c->initrd);
    g_free(c->append);
    g_free(c->cmdline);
    g_free(c->machine);
    g_free(c->name);
    g_free(c->accel);
    g_free(c->accel_words);
    g_free(c->net);
    g_free(c->log_path);
    g_free(c->expect);
    g_free(c->fail);
    g_free(c->debug);
    g_free(c->debug_file);
    g_ptr_array_unref(c->disks);
    g_ptr_array_unref(c->forwards);
    g_ptr_array_unref(c->sends);
    g_free(c);
}
