/* SPDX-License-Identifier: MIT */
/* What the kernel is given beside itself: initrd and command line. */
#include "machine/machine_private.h"

#include "base/error.h"

static bool load_initrd(struct machine *m, GError **err)
{
    g_autoptr(GError) why = NULL;

    if (!g_file_get_contents(m->config->initrd, (char **)&m->initrd, &m->initrd_len, &why)) {
        return error_set(err, PVEMU_ERROR_IMAGE, "cannot read initrd: %s", why->message);
    }
    return true;
}

bool boot_files_prepare(struct machine *m, GError **err)
{
    if (m->config->initrd != NULL && !load_initrd(m, err)) {
        return false;
    }
    m->cmdline = g_strdup_printf("console=hvc0 %s", m->config->append != NULL ? m->config->append : "");
    return true;
}
