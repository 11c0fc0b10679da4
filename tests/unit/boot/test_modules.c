/* SPDX-License-Identifier: MIT */
/* Collecting modules from a folder: order, soft dependencies, packed files, what is built in.
 */
#include <string.h>

#include "boot/modules.h"
#include "fake_kernel.h"
#include "fake_modules.h"

static char *names(const struct module_set *set)
{
    GString *s = g_string_new(NULL);

    for (guint i = 0; i < set->modules->len; i++) {
        const struct module *m = g_ptr_array_index(set->modules, i);

        g_string_append_printf(s, "%s%s", i > 0 ? " " : "", m->name);
    }
    for (guint i = 0; i < set->missing->len; i++) {
        g_string_append_printf(s, " -%s", (char *)g_ptr_array_index(set->missing, i));
    }
    return g_string_free(s, FALSE);
}

static void expect(const char *dir, const char *const *wanted, const char *want)
{
    struct module_set set = {0};
    g_autofree char *got = NULL;

    modules_collect(&module_tree_host, dir, wanted, &set);
    got = names(&set);
    g_assert_cmpstr(got, ==, want);
    module_set_clear(&set);
}

static GByteArray *packed(enum unpack_format format, GByteArray *module)
{
    GByteArray *a = fake_kernel_pack(format, module);

    g_byte_array_free(module, TRUE);
    return a;
}

static void make_tree(const char *dir, bool with_dep)
{
    fake_file(dir, "kernel/drivers/block/xen-blkfront.ko", fake_module(NULL, NULL));
    fake_file(dir, "kernel/fs/ext4/ext4.ko.xz",
              packed(UNPACK_XZ, fake_module("jbd2,mbcache", "pre: crc32c post: never")));
    fake_file(dir, "kernel/fs/jbd2/jbd2.ko.zst", packed(UNPACK_ZSTD, fake_module(NULL, NULL)));
    fake_file(dir, "kernel/fs/mbcache.ko.gz", packed(UNPACK_GZIP, fake_module("jbd2", NULL)));
    fake_file(dir, "kernel/lib/crc32c-intel.ko", fake_module(NULL, NULL));
    fake_file(dir, "kernel/lib/crc32c_generic.ko", fake_module(NULL, NULL));
    fake_file(dir, "kernel/a.ko", fake_module("b", NULL)); /* a ring: must end */
    fake_file(dir, "kernel/b.ko", fake_module("a", NULL));
    fake_text(dir, "modules.builtin", "kernel/fs/xfs/xfs.ko\n");
    fake_text(dir, "modules.alias",
              "# Aliases\nalias crc32c crc32c_intel\nalias crc32c crc32c_generic\n"
              "alias crc32cx other\n");
    if (with_dep) {
        fake_text(
            dir, "modules.dep",
            "kernel/drivers/block/xen-blkfront.ko:\n"
            "kernel/fs/ext4/ext4.ko.xz: kernel/fs/mbcache.ko.gz kernel/fs/jbd2/jbd2.ko.zst\n"
            "kernel/fs/jbd2/jbd2.ko.zst:\nkernel/fs/mbcache.ko.gz:\n"
            "kernel/lib/crc32c-intel.ko:\nkernel/lib/crc32c_generic.ko:\n"
            "kernel/a.ko: kernel/b.ko\nkernel/b.ko: kernel/a.ko");
    }
}

static void test_collect(gconstpointer with_dep)
{
    static const char *const usual[] = {"xen_blkfront", "ext4", "xfs", NULL};
    static const char *const absent[] = {"no-such", "?neither", "xen-blkfront", NULL};
    static const char *const ring[] = {"a", NULL};
    static const char *const builtin[] = {"xfs", NULL};
    g_autofree char *dir = g_dir_make_tmp("pvemu-modules-XXXXXX", NULL);

    make_tree(dir, GPOINTER_TO_INT(with_dep) != 0);
    expect(dir, usual, "xen_blkfront jbd2 mbcache crc32c_generic ext4");
    expect(dir, absent, "xen_blkfront -no-such");
    expect(dir, ring, "b a");
    expect(dir, builtin, "");
    fake_remove(dir);
}

static void test_unpacked(void)
{
    static const char *const wanted[] = {"jbd2", NULL};
    g_autofree char *dir = g_dir_make_tmp("pvemu-modules-XXXXXX", NULL);
    struct module_set set = {0};
    const struct module *m;

    make_tree(dir, true);
    modules_collect(&module_tree_host, dir, wanted, &set);
    g_assert_cmpuint(set.modules->len, ==, 1);
    m = g_ptr_array_index(set.modules, 0);
    g_assert_cmpint(memcmp(g_bytes_get_data(m->ko, NULL),
                           "\x7f"
                           "ELF",
                           4),
                    ==, 0);
    module_set_clear(&set);
    fake_remove(dir);
}

static void test_no_folder(void)
{
    static const char *const wanted[] = {"ext4", NULL};
    struct module_set set = {0};

    modules_collect(&module_tree_host, "/nonexistent/modules", wanted, &set);
    g_assert_false(set.folder_found);
    g_assert_cmpuint(set.modules->len, ==, 0);
    module_set_clear(&set);
}

static void test_damaged(void)
{
    static const char *const wanted[] = {"bad", "worse", NULL};
    g_autofree char *dir = g_dir_make_tmp("pvemu-modules-XXXXXX", NULL);
    GByteArray *xz = packed(UNPACK_XZ, fake_module(NULL, NULL));

    g_byte_array_set_size(xz, xz->len / 2);
    fake_file(dir, "bad.ko.xz", xz);
    fake_text(dir, "worse.ko",
              "\x7f"
              "ELF but no more"); /* loads nothing, depends on nothing */
    expect(dir, wanted, "worse -bad");
    fake_remove(dir);
}

int main(int argc, char **argv)
{
    g_test_init(&argc, &argv, NULL);
    g_test_add_data_func("/boot/modules/by-modules.dep", GINT_TO_POINTER(1), test_collect);
    g_test_add_data_func("/boot/modules/without-modules.dep", GINT_TO_POINTER(0), test_collect);
    g_test_add_func("/boot/modules/unpacked", test_unpacked);
    g_test_add_func("/boot/modules/no-folder", test_no_folder);
    g_test_add_func("/boot/modules/damaged-files", test_damaged);
    return g_test_run();
}
