/* SPDX-License-Identifier: MIT */
/* What the kernel is given beside itself: initrd (the user's or one made here) and command line. */
#include "machine/machine_private.h"

#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <unistd.h>

#include "base/auto_fd.h"
#include "base/error.h"
#include "base/report.h"
#include "boot/cmdline.h"
#include "boot/initrd.h"

enum { INITRD_PIECE = 1 << 20, INITRD_MAX = 1 << 30 };

/* A file, or a pipe; never more than the guest has memory. */
static bool load_initrd(struct machine *m, GError **err)
{
    const char *path = m->config->initrd;
    g_autoptr(GByteArray) bytes = g_byte_array_new();
    g_autofree uint8_t *piece = g_malloc(INITRD_PIECE);
    auto_fd fd = open(path, O_RDONLY | O_CLOEXEC | O_NOCTTY);
    ssize_t n = fd < 0 ? -1 : 1;

    while (n > 0 || (n < 0 && fd >= 0 && errno == EINTR)) {
        n = read(fd, piece, INITRD_PIECE);
        if (n > 0) {
            g_byte_array_append(bytes, piece, (guint)n);
        }
        if (bytes->len > MIN(m->config->memory_bytes, INITRD_MAX)) {
            return error_set(err, PVEMU_ERROR_IMAGE,
                             "initrd '%s' does not fit into the guest's %" PRIu64 " MiB", path,
                             m->config->memory_bytes >> 20);
        }
    }
    if (n < 0) {
        return error_set(err, PVEMU_ERROR_HOST, "cannot read initrd '%s': %s", path,
                         errno == ENOENT ? "no such file" : g_strerror(errno));
    }
    if (bytes->len == 0) {
        return error_set(err, PVEMU_ERROR_IMAGE, "initrd '%s' is empty", path);
    }
    m->initrd_len = bytes->len;
    m->initrd = g_byte_array_free(g_steal_pointer(&bytes), FALSE);
    return true;
}

/* Makes an initramfs for the first disk; *made also says where the root is. */
static bool make_initrd(struct machine *m, struct initrd *made, GError **err)
{
    const struct config_disk *disk = g_ptr_array_index(m->config->disks, 0);
    g_autofree char *base = g_path_get_basename(disk->path);
    g_autofree char *cache = initrd_default_cache_dir();
    g_autofree char *root = boot_cmdline_value(m->config->append, "root=");
    auto_fd fd = open(disk->path, O_RDONLY | O_CLOEXEC);
    struct disk_reader reader = disk_reader_fd(fd, m->disks[0].block->size);
    struct initrd_request request = {
        .image = m->image, .disk = &reader, .disk_name = base, .device = "xvda",
        .modules = initrd_xen_modules, .cache_dir = cache, .host_modules = "/lib/modules",
        .root = root, .lenient = m->config->initrd != NULL || m->config->cmdline != NULL,
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
    if (m->image->boot_loader != NULL) { /* what its kernel gets is written on the disk */
        request.console = NULL;
        request.unattended = false;
        m->cmdline = boot_cmdline(&request);
        return true;
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
