/* SPDX-License-Identifier: MIT */
/*
 * Policy of the automatic initramfs: where the root is, which modules it takes, where they come
 * from, and what to say when something is missing. The archive is two cpio archives in a row
 * (Linux unpacks both): ours with init, then the modules, which is the part that is remembered.
 * It is not compressed: a few hundred kilobytes are unpacked faster than inflated by any
 * engine.
 */
#include "boot/initrd.h"

#include <glib/gstdio.h>
#include <string.h>

#include "base/error.h"
#include "boot/cpio.h"
#include "boot/ext_fs.h"
#include "boot/init_program.h"
#include "boot/modules.h"
#include "boot/root_check.h"

enum { CACHED_MAX = 64 << 20 };

const char *const initrd_xen_modules[] = {"xen_blkfront", "xen_netfront", NULL};

/* Modules that mounting a type of file system takes, where they are modules at all. */
static const struct {
    const char *type;
    const char *modules[6];
} FS_MODULES[] = {
    {"ext2", {"ext4"}},
    {"ext3", {"ext4"}},
    {"ext4", {"ext4"}},
    {"xfs", {"xfs", "?crc32c"}},
    {"btrfs", {"btrfs", "?crc32c"}},
    {"f2fs", {"f2fs", "?crc32"}},
    {"squashfs", {"squashfs"}},
    {"erofs", {"erofs"}},
    {"iso9660", {"isofs"}},
    {"vfat", {"vfat", "?nls_cp437", "?nls_iso8859_1", "?nls_ascii", "?nls_utf8"}},
};

static void initrd_warn(struct initrd *out, const char *fmt, ...) G_GNUC_PRINTF(2, 3);

static void initrd_warn(struct initrd *out, const char *fmt, ...)
{
    va_list ap;

    va_start(ap, fmt);
    g_ptr_array_add(out->warnings, g_strdup_vprintf(fmt, ap));
    va_end(ap);
}

/* --- the root file system ------------------------------------------------------------------
 */

/* How much a volume looks like a root: the highest wins, 0 is never chosen. */
static unsigned volume_score(const struct disk_reader *disk, const struct disk_volume *v)
{
    static const char *const signs[] = {"/sbin/init", "/etc/os-release", "/etc/fstab",
                                        "/bin/sh"};
    struct ext_fs *fs;
    unsigned score = 1;

    if (!disk_is_linux_fs(v)) {
        return 0;
    }
    score += v->root_type ? 100 : 0;
    fs = g_str_has_prefix(v->type, "ext") ? ext_fs_open(disk, v->offset, v->size, NULL) : NULL;
    for (size_t i = 0; fs != NULL && i < G_N_ELEMENTS(signs); i++) {
        score += ext_fs_exists(fs, signs[i]) ? 10 : 0;
    }
    ext_fs_close(fs);
    return score;
}

static const struct disk_volume *layout_root(const struct disk_reader *disk,
                                             const struct disk_layout *layout)
{
    const struct disk_volume *best = NULL;
    unsigned best_score = 0;

    for (unsigned i = 0; i < layout->count; i++) {
        const struct disk_volume *v = &layout->volumes[i];
        unsigned score = volume_score(disk, v);

        if (score > best_score ||
            (score == best_score && best != NULL && v->size > best->size)) {
            best = v;
            best_score = score;
        }
    }
    /* Only a /boot, and the root is in something that cannot be looked into. */
    return best_score == 1 && g_str_has_prefix(best->type, "ext") &&
                   root_check_wrapping(layout) != NULL
               ? NULL
               : best;
}

static void volume_name(struct initrd *out, const char *device, const struct disk_volume *v)
{
    char last = device[strlen(device) - 1];

    out->root = v->partition == 0
                    ? g_strdup_printf("/dev/%s", device)
                    : g_strdup_printf("/dev/%s%s%u", device, g_ascii_isdigit(last) ? "p" : "",
                                      v->partition);
    out->root_type = g_strdup(v->type);
}

/* --- modules -------------------------------------------------------------------------------
 */

static GBytes *tree_ext_read(void *opaque, const char *path, size_t max)
{
    return ext_fs_read(opaque, path, max);
}

static void tree_ext_list(void *opaque, const char *path,
                          void (*fn)(void *fn_opaque, const char *name, bool is_dir),
                          void *fn_opaque)
{
    ext_fs_list(opaque, path, fn, fn_opaque);
}

/* What a type of file system takes first; NULL when it is not known here. */
static const char *fs_module(const char *type)
{
    for (size_t i = 0; type != NULL && i < G_N_ELEMENTS(FS_MODULES); i++) {
        if (strcmp(FS_MODULES[i].type, type) == 0) {
            return FS_MODULES[i].modules[0];
        }
    }
    return NULL;
}

/* All names to ask for; the caller frees the array only. */
static GPtrArray *wanted_modules(const struct initrd_request *req, const char *fs_type)
{
    GPtrArray *names = g_ptr_array_new();

    for (const char *const *m = req->modules; m != NULL && *m != NULL; m++) {
        g_ptr_array_add(names, (gpointer)(uintptr_t)*m);
    }
    for (size_t i = 0; fs_type != NULL && i < G_N_ELEMENTS(FS_MODULES); i++) {
        if (strcmp(FS_MODULES[i].type, fs_type) == 0) {
            for (unsigned k = 0; k < 6 && FS_MODULES[i].modules[k] != NULL; k++) {
                g_ptr_array_add(names, (gpointer)(uintptr_t)FS_MODULES[i].modules[k]);
            }
        }
    }
    g_ptr_array_add(names, NULL);
    return names;
}

static bool collect_from_disk(const struct initrd_request *req, const struct disk_volume *v,
                              const char *release, const char *const *names,
                              struct module_set *set)
{
    static const char *const folders[] = {"/lib/modules", "/usr/lib/modules"};
    struct ext_fs *fs;

    if (v == NULL || v->type == NULL || !g_str_has_prefix(v->type, "ext")) {
        return false;
    }
    fs = ext_fs_open(req->disk, v->offset, v->size, NULL);
    for (size_t i = 0; fs != NULL && !set->folder_found && i < G_N_ELEMENTS(folders); i++) {
        struct module_tree tree = {tree_ext_read, tree_ext_list, fs};
        g_autofree char *dir = g_build_filename(folders[i], release, NULL);

        if (ext_fs_exists(fs, dir)) {
            module_set_clear(set);
            modules_collect(&tree, dir, names, set);
        }
    }
    ext_fs_close(fs);
    return set->folder_found;
}

static GBytes *archive_modules(const struct module_set *set)
{
    GByteArray *out = g_byte_array_new();
    GString *list = g_string_new(NULL);

    if (set->modules->len == 0) {
        g_string_free(list, TRUE);
        return g_byte_array_free_to_bytes(out);
    }
    cpio_dir(out, "pvemu");
    for (guint i = 0; i < set->modules->len; i++) {
        const struct module *m = g_ptr_array_index(set->modules, i);
        g_autofree char *name = g_strdup_printf("pvemu/%s.ko", m->name);
        size_t len;
        const void *bytes = g_bytes_get_data(m->ko, &len);

        cpio_file(out, name, 0600, bytes, len);
        g_string_append_printf(list, "/%s\n", name);
    }
    cpio_file(out, "pvemu/modules", 0600, list->str, list->len);
    cpio_end(out);
    g_string_free(list, TRUE);
    return g_byte_array_free_to_bytes(out);
}

static char *module_names(const struct module_set *set)
{
    GString *s = g_string_new(NULL);

    for (guint i = 0; i < set->modules->len; i++) {
        const struct module *m = g_ptr_array_index(set->modules, i);

        g_string_append_printf(s, "%s%s", i > 0 ? " " : "", m->name);
    }
    return g_string_free(s, FALSE);
}

/* --- the remembered set --------------------------------------------------------------------
 */

/* One file per file system, kernel and set of names asked for. */
static char *cache_path(const struct initrd_request *req, const struct disk_volume *v,
                        const char *release, const char *const *wanted)
{
    g_autofree char *names = g_strjoinv(" ", (char **)(uintptr_t)wanted);
    g_autofree char *key = NULL;
    g_autofree char *file = NULL;

    if (req->cache_dir == NULL || release == NULL) {
        return NULL;
    }
    key = v != NULL && v->uuid[0] != '\0'
              ? g_strdup(v->uuid)
              : g_compute_checksum_for_string(G_CHECKSUM_SHA256, req->disk_name, -1);
    file = g_strdup_printf("%s-%s-%08x.cpio", key, release, g_str_hash(names));
    return g_build_filename(req->cache_dir, file, NULL);
}

static void cache_store(const char *path, GBytes *archive)
{
    g_autofree char *dir = path != NULL ? g_path_get_dirname(path) : NULL;
    size_t len;
    const char *bytes = g_bytes_get_data(archive, &len);

    /* Failing to remember is no reason to complain: the disk has it next time too. */
    if (path != NULL && len > 0 && len <= CACHED_MAX && g_mkdir_with_parents(dir, 0700) == 0) {
        g_file_set_contents(path, bytes, (gssize)len, NULL);
    }
}

static GBytes *cache_load(const char *path)
{
    return path != NULL ? module_tree_host.read(NULL, path, CACHED_MAX) : NULL;
}

/* --- joining it ----------------------------------------------------------------------------
 */

static void warn_missing(const struct module_set *set, const char *where, struct initrd *out)
{
    for (guint i = 0; i < set->missing->len; i++) {
        initrd_warn(out, "%s has no module %s; without it the guest may not find its root",
                    where, (const char *)g_ptr_array_index(set->missing, i));
    }
}

/* Where it says that modules are from when they are neither on the disk nor on the host. */
static const char REMEMBERED[] = "an earlier start";

/* Returns the module archive (never NULL) and fills out->about; *source says where the modules
 * are from, NULL: there are none. */
static GBytes *find_modules(const struct initrd_request *req, const struct disk_volume *v,
                            const char *release, const char *const *wanted,
                            struct module_set *set, const char **source, struct initrd *out)
{
    g_autofree char *cached = cache_path(req, v, release, wanted);
    GBytes *archive = NULL;

    *source = NULL;
    if (release != NULL && collect_from_disk(req, v, release, wanted, set)) {
        *source = req->disk_name;
        archive = archive_modules(set);
        cache_store(cached, archive);
    } else if ((archive = cache_load(cached)) != NULL) {
        *source = REMEMBERED;
        out->about =
            g_strdup_printf("modules for %s as remembered from an earlier start", release);
    } else if (release != NULL && req->host_modules != NULL) {
        g_autofree char *dir = g_build_filename(req->host_modules, release, NULL);

        module_set_clear(set);
        modules_collect(&module_tree_host, dir, wanted, set);
        *source = set->folder_found ? "this host" : NULL;
        archive = set->folder_found ? archive_modules(set) : NULL;
    }
    if (out->about == NULL) {
        g_autofree char *list = archive != NULL ? module_names(set) : g_strdup("");

        out->about = archive == NULL ? g_strdup("no modules")
                                     : g_strdup_printf("%s (from %s)",
                                                       list[0] != '\0' ? list
                                                                       : "no modules needed",
                                                       *source);
    }
    return archive != NULL ? archive : g_bytes_new(NULL, 0);
}

/* What makes the root impossible to mount is an error for a Linux that nobody helps. */
static bool judge(bool lenient, const char *release, GError *why, struct initrd *out,
                  GError **err)
{
    g_autofree char *text = NULL;
    g_autofree char *hint = NULL;

    if (!lenient && release != NULL) {
        g_propagate_error(err, why);
        return false;
    }
    text = error_split_hint(why, &hint);
    initrd_warn(out, "%s", text);
    g_error_free(why);
    return true;
}

static bool judge_layout(const struct initrd_request *req, const struct root_check *check,
                         struct initrd *out, GError **err)
{
    GError *why = NULL;

    if (check->root != NULL) {
        volume_name(out, req->device, check->root);
        return true;
    }
    if (!root_check_layout(check, &why)) {
        return judge(req->lenient || req->root != NULL, check->release, why, out, err);
    }
    initrd_warn(out,
                "'%s' has no partition table and no file system that is known; the guest will "
                "look for its root on /dev/%s",
                req->disk_name, req->device);
    out->root = g_strdup_printf("/dev/%s", req->device);
    return true;
}

static bool judge_modules(const struct initrd_request *req, const struct root_check *check,
                          struct initrd *out, GError **err)
{
    GError *why = NULL;

    if (check->release == NULL) {
        initrd_warn(out, "the kernel does not tell its version, so no modules were looked for");
    } else if (check->source == REMEMBERED) {
        return true;
    } else if (check->root_path != NULL && !root_check_modules(check, &why)) {
        return judge(req->lenient || (req->root != NULL && !root_check_on_disk(req->root)),
                     check->release, why, out, err);
    } else if (check->source != NULL) {
        warn_missing(check->set, check->source, out);
    }
    return true;
}

static GBytes *join_archives(const struct boot_image *image, GBytes *modules)
{
    GByteArray *out = g_byte_array_new();
    size_t len;
    const void *bytes = g_bytes_get_data(modules, &len);

    cpio_dir(out, "dev");
    cpio_char_device(out, "dev/console", 5, 1);
    if (image->elf_class == 32) {
        cpio_file(out, "init", 0755, init_program32, init_program32_size);
    } else {
        cpio_file(out, "init", 0755, init_program, init_program_size);
    }
    cpio_end(out);
    g_byte_array_append(out, bytes, (guint)len);
    return g_byte_array_free_to_bytes(out);
}

bool initrd_make(const struct initrd_request *req, struct initrd *out, GError **err)
{
    g_autofree char *release = boot_image_release(req->image);
    g_autofree struct disk_layout *layout = g_new0(struct disk_layout, 1);
    struct module_set set = {0};
    struct root_check check = {
        .image = req->image, .release = release, .disk = req->disk,
        .disk_name = req->disk_name, .layout = layout, .set = &set,
    };
    GPtrArray *wanted;
    GBytes *modules;
    bool ok;

    memset(out, 0, sizeof(*out));
    out->warnings = g_ptr_array_new_with_free_func(g_free);
    if (req->disk != NULL) {
        disk_probe(req->disk, layout);
        check.root = layout_root(req->disk, layout);
        if (!judge_layout(req, &check, out, err)) {
            initrd_clear(out);
            return false;
        }
    }
    wanted = wanted_modules(req, out->root_type);
    check.root_path = req->root != NULL ? req->root : out->root;
    check.other_root = g_strcmp0(check.root_path, out->root) != 0;
    check.fs_module = fs_module(out->root_type);
    modules = find_modules(req, check.root, release, (const char *const *)wanted->pdata, &set,
                           &check.source, out);
    g_ptr_array_free(wanted, TRUE);
    ok = judge_modules(req, &check, out, err);
    /* Not needed when the kernel's own list says that all is built in. */
    if (ok && !(set.folder_found && set.modules->len == 0 && set.missing->len == 0)) {
        out->bytes = join_archives(req->image, modules);
    }
    g_bytes_unref(modules);
    module_set_clear(&set);
    if (!ok) {
        initrd_clear(out);
    }
    return ok;
}

void initrd_clear(struct initrd *initrd)
{
    if (initrd->bytes != NULL) {
        g_bytes_unref(initrd->bytes);
    }
    if (initrd->warnings != NULL) {
        g_ptr_array_free(initrd->warnings, TRUE);
    }
    g_free(initrd->root);
    g_free(initrd->root_type);
    g_free(initrd->about);
    memset(initrd, 0, sizeof(*initrd));
}

char *initrd_default_cache_dir(void)
{
    return g_build_filename(g_get_user_cache_dir(), "pvemu", "modules", NULL);
}
