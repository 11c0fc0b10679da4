/* SPDX-License-Identifier: MIT */
/*
 * Collects modules. Names come from modules.dep, or from a walk when it is missing; what a
 * module needs is read from its own .modinfo section (depends= and softdep=), so both cases are
 * one. modules.builtin says what needs no module; modules.alias turns "crc32c" into a module's
 * name. The folder may come from a hostile disk: counts, sizes and depth are bounded.
 */
#include "boot/modules.h"

#include <string.h>

#include "boot/image_parts.h"
#include "boot/unpack.h"

enum {
    MODULE_MAX_BYTES = 64 << 20,
    MODULE_MAX_COUNT = 128,
    MODULE_MAX_DEPTH = 24,
    MODULE_MAX_FOLDERS = 4096,
    MODULE_MAX_PATHS = 100000,
    INDEX_MAX_BYTES = 16 << 20,
    WALK_MAX_DEPTH = 12,
};

struct collector {
    const struct module_tree *tree;
    const char *dir;
    GHashTable *paths;   /* name -> absolute path of its file */
    GHashTable *builtin; /* names */
    GHashTable *done;    /* names already taken or being taken */
    GBytes *aliases;     /* modules.alias or NULL */
    struct module_set *set;
    size_t bytes;
    unsigned folders;
};

static void module_free(void *opaque)
{
    struct module *m = opaque;

    g_free(m->name);
    g_bytes_unref(m->ko);
    g_free(m);
}

/* "kernel/fs/ext4/ext4.ko.xz" -> "ext4"; NULL when it is no module. */
static char *module_name(const char *path)
{
    const char *slash = strrchr(path, '/');
    const char *base = slash != NULL ? slash + 1 : path;
    const char *ko = strstr(base, ".ko");
    char *name;

    if (ko == NULL || ko == base || (ko[3] != '\0' && ko[3] != '.')) {
        return NULL;
    }
    name = g_strndup(base, (gsize)(ko - base));
    return g_strdelimit(name, "-", '_');
}

static void collector_add_path(struct collector *c, const char *path)
{
    char *name = g_hash_table_size(c->paths) < MODULE_MAX_PATHS ? module_name(path) : NULL;

    if (name != NULL) {
        g_hash_table_insert(c->paths, name,
                            path[0] == '/' ? g_strdup(path)
                                           : g_strdup_printf("%s/%s", c->dir, path));
    }
}

static GBytes *collector_read(struct collector *c, const char *name)
{
    g_autofree char *path = g_build_filename(c->dir, name, NULL);

    return c->tree->read(c->tree->opaque, path, INDEX_MAX_BYTES);
}

/* Calls fn for each line (without its newline). */
static void each_line(GBytes *bytes, void (*fn)(struct collector *c, char *line),
                      struct collector *c)
{
    size_t len;
    const char *at = g_bytes_get_data(bytes, &len);
    const char *end = at + len;

    while (at < end) {
        const char *newline = memchr(at, '\n', (size_t)(end - at));
        const char *stop = newline != NULL ? newline : end;
        g_autofree char *line = g_strndup(at, (gsize)(stop - at));

        fn(c, line);
        at = newline != NULL ? newline + 1 : end;
    }
}

static void take_dep_line(struct collector *c, char *line)
{
    char *colon = strchr(line, ':');

    if (colon != NULL) {
        *colon = '\0';
        collector_add_path(c, line);
    }
}

static void take_builtin_line(struct collector *c, char *line)
{
    char *name = module_name(line);

    if (name != NULL) {
        g_hash_table_add(c->builtin, name);
    }
}

struct walk {
    struct collector *c;
    const char *path;
    unsigned depth;
};

static void walk_folder(struct collector *c, const char *path, unsigned depth);

static void walk_entry(void *opaque, const char *name, bool is_dir)
{
    struct walk *walk = opaque;
    g_autofree char *path = g_build_filename(walk->path, name, NULL);

    if (is_dir) {
        walk_folder(walk->c, path, walk->depth + 1);
    } else {
        collector_add_path(walk->c, path);
    }
}

static void walk_folder(struct collector *c, const char *path, unsigned depth)
{
    struct walk walk = {c, path, depth};

    if (depth < WALK_MAX_DEPTH && c->folders++ < MODULE_MAX_FOLDERS &&
        g_hash_table_size(c->paths) < MODULE_MAX_PATHS) {
        c->tree->list(c->tree->opaque, path, walk_entry, &walk);
    }
}

static void collector_index(struct collector *c)
{
    GBytes *dep = collector_read(c, "modules.dep");
    GBytes *builtin = collector_read(c, "modules.builtin");

    if (builtin != NULL) {
        each_line(builtin, take_builtin_line, c);
        c->set->builtin_known = g_hash_table_size(c->builtin) > 0;
        g_bytes_unref(builtin);
    }
    if (dep != NULL) {
        each_line(dep, take_dep_line, c);
        g_bytes_unref(dep);
    }
    if (g_hash_table_size(c->paths) == 0) {
        walk_folder(c, c->dir, 0);
    }
    c->aliases = collector_read(c, "modules.alias");
    c->set->folder_found = g_hash_table_size(c->paths) + g_hash_table_size(c->builtin) > 0;
}

/* The module that modules.alias gives for a plain word; a generic one is preferred, because the
 * others may need a CPU feature. NULL when there is none. */
static char *collector_alias(struct collector *c, const char *word)
{
    g_autofree char *mark = g_strdup_printf("alias %s ", word);
    size_t mark_len = strlen(mark), left;
    char *found = NULL;
    const char *at;

    if (c->aliases == NULL) {
        return NULL;
    }
    at = g_bytes_get_data(c->aliases, &left);
    while (left > 0) {
        const char *newline = memchr(at, '\n', left);
        size_t line = newline != NULL ? (size_t)(newline - at) : left;

        if (line > mark_len && memcmp(at, mark, mark_len) == 0) {
            g_autofree char *name = g_strndup(at + mark_len, line - mark_len);
            bool generic = strstr(name, "generic") != NULL;

            if (found == NULL || generic) {
                g_free(found);
                found = g_steal_pointer(&name);
            }
            if (generic) {
                break;
            }
        }
        line += newline != NULL ? 1 : 0;
        at += line;
        left -= line;
    }
    return found;
}

/* The module's bytes, unpacked; NULL when it cannot be read. */
static GBytes *collector_load(struct collector *c, const char *path)
{
    GBytes *raw = c->tree->read(c->tree->opaque, path, MODULE_MAX_BYTES);
    struct unpack u = {.max = MODULE_MAX_BYTES};
    enum unpack_format format;

    if (raw == NULL) {
        return NULL;
    }
    u.in = g_bytes_get_data(raw, &u.in_len);
    format = unpack_detect(u.in, u.in_len);
    if (format == UNPACK_NONE) {
        return raw;
    }
    if (unpack_run(format, &u) != UNPACK_OK) {
        g_bytes_unref(raw);
        return NULL;
    }
    g_bytes_unref(raw);
    return g_bytes_new_take(u.out, u.out_len);
}

struct modinfo {
    GPtrArray *needs; /* char *: hard; "?name": soft */
};

static void modinfo_words(struct modinfo *info, const char *text, const char *delimiters,
                          bool soft)
{
    g_auto(GStrv) words = g_strsplit_set(text, delimiters, 64);

    for (char **word = words; *word != NULL; word++) {
        if (soft && (strcmp(*word, "pre:") == 0)) {
            continue;
        }
        if (soft && strcmp(*word, "post:") == 0) {
            break;
        }
        if (**word != '\0') {
            g_ptr_array_add(info->needs, g_strconcat(soft ? "?" : "", *word, NULL));
        }
    }
}

static void modinfo_section(void *opaque, const char *name, uint32_t type,
                            struct image_span contents)
{
    struct modinfo *info = opaque;
    const uint8_t *at = contents.bytes;
    const uint8_t *end = at + contents.len;

    if (strcmp(name, ".modinfo") != 0) {
        return;
    }
    while (at < end) {
        const uint8_t *nul = memchr(at, 0, (size_t)(end - at));
        size_t len = (size_t)((nul != NULL ? nul : end) - at);
        g_autofree char *text = image_text(at, len, 4096);

        if (g_str_has_prefix(text, "depends=")) {
            modinfo_words(info, text + 8, ",", false);
        } else if (g_str_has_prefix(text, "softdep=")) {
            modinfo_words(info, text + 8, " ", true);
        }
        at += len + 1;
    }
}

static GPtrArray *module_needs(GBytes *ko)
{
    struct modinfo info = {g_ptr_array_new_with_free_func(g_free)};
    struct boot_image view = {0};

    view.elf = (uint8_t *)(uintptr_t)g_bytes_get_data(ko, &view.elf_len);
    elf_each_section(&view, modinfo_section, &info);
    return info.needs;
}

/* Takes a module after all it needs. false: it is nowhere. */
static bool collector_take(struct collector *c, const char *wanted, unsigned depth)
{
    g_autofree char *name = g_strdelimit(g_strdup(wanted), "-", '_');
    const char *path = g_hash_table_lookup(c->paths, name);
    struct module *module;
    GPtrArray *needs;
    GBytes *ko;

    if (g_hash_table_contains(c->done, name) || g_hash_table_contains(c->builtin, name)) {
        return true;
    }
    if (path == NULL) {
        g_autofree char *other = collector_alias(c, wanted);

        return other != NULL && strcmp(other, name) != 0 && depth < MODULE_MAX_DEPTH &&
               collector_take(c, other, depth + 1);
    }
    if (depth >= MODULE_MAX_DEPTH || c->set->modules->len >= MODULE_MAX_COUNT ||
        (ko = collector_load(c, path)) == NULL) {
        return false;
    }
    c->bytes += g_bytes_get_size(ko);
    if (c->bytes > MODULE_MAX_BYTES) {
        g_bytes_unref(ko);
        return false;
    }
    g_hash_table_add(c->done, g_strdup(name));
    needs = module_needs(ko);
    for (guint i = 0; i < needs->len; i++) {
        const char *need = g_ptr_array_index(needs, i);

        collector_take(c, need[0] == '?' ? need + 1 : need, depth + 1);
    }
    g_ptr_array_free(needs, TRUE);
    module = g_new0(struct module, 1);
    module->name = g_steal_pointer(&name);
    module->ko = ko;
    g_ptr_array_add(c->set->modules, module);
    return true;
}

void modules_collect(const struct module_tree *tree, const char *dir, const char *const *wanted,
                     struct module_set *set)
{
    struct collector c = {
        .tree = tree,
        .dir = dir,
        .paths = g_hash_table_new_full(g_str_hash, g_str_equal, g_free, g_free),
        .builtin = g_hash_table_new_full(g_str_hash, g_str_equal, g_free, NULL),
        .done = g_hash_table_new_full(g_str_hash, g_str_equal, g_free, NULL),
        .set = set,
    };

    set->modules = g_ptr_array_new_with_free_func(module_free);
    set->missing = g_ptr_array_new_with_free_func(g_free);
    set->folder_found = set->builtin_known = false;
    collector_index(&c);
    for (; *wanted != NULL; wanted++) {
        bool optional = (*wanted)[0] == '?';

        if (!collector_take(&c, *wanted + (optional ? 1 : 0), 0) && !optional) {
            g_ptr_array_add(set->missing, g_strdup(*wanted));
        }
    }
    g_hash_table_unref(c.paths);
    g_hash_table_unref(c.builtin);
    g_hash_table_unref(c.done);
    if (c.aliases != NULL) {
        g_bytes_unref(c.aliases);
    }
}

void module_set_clear(struct module_set *set)
{
    if (set->modules != NULL) {
        g_ptr_array_free(set->modules, TRUE);
        g_ptr_array_free(set->missing, TRUE);
    }
    memset(set, 0, sizeof(*set));
}

static GBytes *host_read(void *opaque, const char *path, size_t max)
{
    char *bytes = NULL;
    gsize len = 0;

    if (!g_file_test(path, G_FILE_TEST_IS_REGULAR) ||
        !g_file_get_contents(path, &bytes, &len, NULL)) {
        return NULL;
    }
    if (len > max) {
        g_free(bytes);
        return NULL;
    }
    return g_bytes_new_take(bytes, len);
}

static void host_list(void *opaque, const char *path,
                      void (*fn)(void *fn_opaque, const char *name, bool is_dir),
                      void *fn_opaque)
{
    GDir *dir = g_dir_open(path, 0, NULL);
    const char *name;

    while (dir != NULL && (name = g_dir_read_name(dir)) != NULL) {
        g_autofree char *full = g_build_filename(path, name, NULL);
        bool is_link = g_file_test(full, G_FILE_TEST_IS_SYMLINK);

        fn(fn_opaque, name, !is_link && g_file_test(full, G_FILE_TEST_IS_DIR));
    }
    if (dir != NULL) {
        g_dir_close(dir);
    }
}

const struct module_tree module_tree_host = {host_read, host_list, NULL};
