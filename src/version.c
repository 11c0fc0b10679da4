/* SPDX-License-Identifier: MIT */
/*
 * Versions as they are at run time: the libraries are shared, and a bug report needs the ones
 * that were loaded.
 */
#include "version.h"

#include <ext2fs/ext2fs.h>
#include <glib.h>
#include <seccomp.h>

#include "io/net_slirp.h"

char *version_text(void)
{
    const struct scmp_version *seccomp = seccomp_version();
    const char *ext2fs = NULL;

    ext2fs_get_library_version(&ext2fs, NULL);
    return g_strdup_printf("pvemu %s\nglib %u.%u.%u\nlibslirp %s\nlibext2fs %s\n"
                           "libseccomp %u.%u.%u\n",
                           PVEMU_VERSION, glib_major_version, glib_minor_version,
                           glib_micro_version, net_slirp_version(), ext2fs, seccomp->major,
                           seccomp->minor, seccomp->micro);
}
