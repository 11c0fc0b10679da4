/* SPDX-License-Identifier: MIT */
/* What the kernel is given beside itself: initrd (the user's or one made here) and command line. */
#include "machine/machine_private.h"

#include <errno.h>
#include <fcntl.h>

#include "base/auto_fd.h"
#include "base/error.h"
#include "base/report.h"
#include "boot/cmdline.h"
#include "boot/initrd.h"

static bool load_initrd(struct machine *m, GError **err)
{
    g_autoptr(GError) why = NULL;

    if (!g_file_get_contents(m->config->initrd, (char **)&m->initrd, &m->initrd_len, &why)) {
        return error_set(err, PVEMU_ERROR_IMAGE, "cannot read initrd '%s': %s",
                         m->config->initrd, g_strerror(errno));
    }
    return true;
}

/* Makes an initramfs for the first disk; *made also says where the root is. */
static bool make_initrd(struct machine *m, struct initrd *made, GError **err)
{
    const struct config_disk *disk = g_ptr_array_index(m->config->disks, 0);
    g_autofree char *base = g_path_get_basename(disk->path);
    g_autofree char *cache = initrd_default_cache_dir();
    auto_fd fd = open(disk->path, O_RDONLY | O_CLOEXEC);
    struct disk_reader reader = disk_reader_fd(fd, m->disks[0].block->size);
    struct initrd_request request = {
        .image = m->image, .disk = &reader, .disk_name = base, .device = "xvda",
        .modules = initrd_xen_modules, .cache_dir = cache, .host_modules = "/lib/modules",
    };

    if (fd < 0) {
        return error_set(err, PVEMU_ERROR_HOST, "cannot read disk '%s': %s", disk->path,
                         g_strerror(errno));
    }
    if (!initrd_make(&request, made, err)) {
        return false;
    }
    if (made->bytes != NULL && m->config->initrd == NULL) {
        gsize len;

        m->initrd = g_memdup2(g_bytes_get_data(made->bytes, &len), g_bytes_get_size(made->bytes));
        m->initrd_len = len;
    }
    if (m->config->initrd == NULL) {
        m->initrd_note = g_strdup(made->about);
        for (guint i = 0; i < made->warnings->len; i++) {
            report_warn("%s", (const char *)g_ptr_array_index(made->warnings, i));
        }
    }
    return true;
}

bool boot_files_prepare(struct machine *m, GError **err)
{
    struct initrd made = {0};
    struct cmdline_request request = {
        .console = "hvc0", .unattended = m->config->unattended, .append = m->config->append,
        .replace = m->config->cmdline,
    };

    if (m->config->initrd != NULL && !load_initrd(m, err)) {
        return false;
    }
    /* With the user's own initrd the disk is still looked at: root= comes from there. */
    if (m->nr_disks > 0 && !make_initrd(m, &made, m->config->initrd == NULL ? err : NULL) &&
        m->config->initrd == NULL) {
        return false;
    }
    request.root = made.root;
    request.read_only = m->nr_disks > 0 && m->disks[0].block->read_only;
    m->cmdline = boot_cmdline(&request);
    initrd_clear(&made);
    return true;
}
