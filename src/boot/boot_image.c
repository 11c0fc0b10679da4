/* SPDX-License-Identifier: MIT */
/*
 * From a file to a boot_image: reads it, peels off what it is wrapped in (bzImage, compression)
 * and has the ELF inside described. A kernel built with debug information can be close to a
 * gigabyte, of which only the front is loaded; the rest is read only when it is needed.
 */
#include "boot/boot_image.h"

#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <sys/stat.h>

#include "base/auto_fd.h"
#include "base/error.h"
#include "boot/image_parts.h"
#include "boot/unpack.h"

static const uint64_t FILE_MAX = 4ull << 30;
enum { FILE_FIRST = 1 << 20 }; /* read before deciding how much is needed */

struct image_file {
    uint8_t *bytes;
    size_t len;     /* bytes read so far */
    uint64_t whole; /* size of the file */
};

static const char *image_errno_words(int error)
{
    switch (error) {
    case ENOENT:
        return "no such file";
    case EACCES:
        return "permission denied";
    default:
        return g_strerror(error);
    }
}

/* Reads until `want` bytes (or the whole file) are there. */
static bool image_read(struct image_file *f, int fd, uint64_t want, const char *name,
                       GError **err)
{
    want = MIN(want, f->whole);
    if (want > FILE_MAX) {
        return error_set(err, PVEMU_ERROR_LIMIT,
                         "'%s' is too large for a kernel (%" G_GUINT64_FORMAT " MiB)", name,
                         f->whole >> 20);
    }
    if (want > f->len) {
        uint8_t *grown = g_try_realloc(f->bytes, want);

        if (grown == NULL) {
            return error_set(err, PVEMU_ERROR_HOST, "no memory to read kernel '%s'", name);
        }
        f->bytes = grown;
    }
    while (f->len < want) {
        ssize_t got = pread(fd, f->bytes + f->len, want - f->len, (off_t)f->len);

        if (got < 0 && errno == EINTR) {
            continue;
        }
        if (got < 0) {
            return error_set(err, PVEMU_ERROR_HOST, "cannot read kernel '%s': %s", name,
                             image_errno_words(errno));
        }
        if (got == 0) { /* it shrank while it was read */
            f->whole = f->len;
            break;
        }
        f->len += (size_t)got;
    }
    return true;
}

static bool image_unpack_error(const struct boot_image *img, enum unpack_format format,
                               enum unpack_result result, const struct unpack *u, uint64_t at,
                               GError **err)
{
    const char *name = unpack_name(format);
    const char *article = name[0] == 'l' || name[0] == 'x' ? "an" : "a";

    switch (result) {
    case UNPACK_TRUNCATED:
        error_set(err, PVEMU_ERROR_IMAGE,
                  "'%s' holds %s %s payload that is cut short at offset %" G_GUINT64_FORMAT,
                  img->name, article, name, at);
        error_hint(err, "copy or download it again");
        return false;
    case UNPACK_TOO_BIG:
        return error_set(err, PVEMU_ERROR_LIMIT,
                         "'%s' holds %s %s payload that unpacks to more than %u MiB", img->name,
                         article, name, (unsigned)(u->max >> 20));
    case UNPACK_NOT_BUILT:
        error_set(err, PVEMU_ERROR_HOST,
                  "'%s' holds %s %s payload, and this pvemu was built without %s", img->name,
                  article, name, name);
        error_hint(err, "build pvemu with -D%s=enabled, or use a kernel packed otherwise",
                   name);
        return false;
    case UNPACK_NO_MEMORY:
        return error_set(err, PVEMU_ERROR_HOST,
                         "'%s' holds %s %s payload that cannot be "
                         "unpacked: %s",
                         img->name, article, name, u->why);
    case UNPACK_DAMAGED:
    case UNPACK_OK:
        break;
    }
    return error_set(err, PVEMU_ERROR_IMAGE,
                     "'%s' holds %s %s payload that is damaged at offset %" G_GUINT64_FORMAT
                     " (%s)",
                     img->name, article, name, at, u->why);
}

/* Unpacks `packed` into img->elf. `base` is its offset in the file; `size` is the size the
 * wrapper promises, 0 when it does not. */
static bool image_unpack(struct boot_image *img, struct image_span packed, uint64_t base,
                         uint32_t size, GError **err)
{
    enum unpack_format format = unpack_detect(packed.bytes, packed.len);
    struct unpack u = {
        .in = packed.bytes, .in_len = packed.len, .max = BOOT_MAX_UNPACKED, .size_hint = size};
    enum unpack_result result = unpack_run(format, &u);

    if (result != UNPACK_OK) {
        return image_unpack_error(img, format, result, &u, base + u.in_pos, err);
    }
    img->elf = u.out;
    img->elf_len = u.out_len;
    img->elf_complete = true;
    img->compression = unpack_name(format);
    if (size != 0 && size != u.out_len) {
        u.why = "wrong size";
        return image_unpack_error(img, format, UNPACK_DAMAGED, &u, base + u.in_pos, err);
    }
    return true;
}

static bool image_not_kernel(const struct boot_image *img, struct image_span what,
                             const char *wrapped, GError **err)
{
    const char *hint;
    const char *words = image_guess(what.bytes, what.len, &hint);

    if (wrapped != NULL) {
        error_set(err, PVEMU_ERROR_IMAGE, "'%s' is not a kernel: it is %s, packed with %s",
                  img->name, words, wrapped);
    } else if (strstr(words, "pvemu runs") != NULL) {
        error_set(err, PVEMU_ERROR_IMAGE, "'%s' is %s", img->name, words);
    } else {
        error_set(err, PVEMU_ERROR_IMAGE, "'%s' is not a kernel: it is %s", img->name, words);
    }
    if (hint != NULL) {
        error_hint(err, "%s", hint);
    }
    return false;
}

static bool image_load_bzimage(struct boot_image *img, const struct image_file *f, GError **err)
{
    struct image_span payload, packed;
    uint64_t base;

    img->format = "bzImage";
    if (!bzimage_payload(img, f->bytes, f->len, &payload, err)) {
        return false;
    }
    base = (uint64_t)(payload.bytes - f->bytes);
    if (elf_is(payload.bytes, payload.len)) {
        img->elf = g_memdup2(payload.bytes, payload.len);
        img->elf_len = payload.len;
        img->elf_complete = true;
        return true;
    }
    if (unpack_detect(payload.bytes, payload.len) == UNPACK_NONE) {
        return error_set(err, PVEMU_ERROR_IMAGE,
                         "'%s' is a bzImage whose payload is packed in an unknown way",
                         img->name);
    }
    packed = payload;
    if (unpack_detect(payload.bytes, payload.len) != UNPACK_GZIP) {
        packed.len -=
            4; /* the size word is gzip's own trailer, and an addition to the others */
    }
    return image_unpack(img, packed, base, image_le32(payload.bytes + payload.len - 4), err);
}

static bool image_load_packed(struct boot_image *img, const struct image_file *f, GError **err)
{
    img->format = "ELF";
    if (!image_unpack(img, (struct image_span){f->bytes, f->len}, 0, 0, err)) {
        return false;
    }
    if (!elf_is(img->elf, img->elf_len)) {
        const char *ignored;
        struct image_span inner = {img->elf, img->elf_len};
        bool foreign =
            strstr(image_guess(inner.bytes, inner.len, &ignored), "pvemu runs") != NULL;

        return image_not_kernel(img, inner, foreign ? NULL : img->compression, err);
    }
    return true;
}

/* Takes f->bytes when it becomes img->elf. */
static bool image_load(struct boot_image *img, struct image_file *f, GError **err)
{
    if (bzimage_is(f->bytes, f->len)) {
        return image_load_bzimage(img, f, err);
    }
    if (elf_is(f->bytes, f->len)) {
        img->format = "ELF";
        img->elf = g_steal_pointer(&f->bytes);
        img->elf_len = f->len;
        img->elf_complete = f->len == f->whole;
        return true;
    }
    if (unpack_detect(f->bytes, f->len) != UNPACK_NONE) {
        return image_load_packed(img, f, err);
    }
    return image_not_kernel(img, (struct image_span){f->bytes, f->len}, NULL, err);
}

/* Whether the tail of the file that was not read matters after all. */
static bool image_wants_rest(const struct boot_image *img)
{
    return !img->elf_complete && (img->notes.present == 0 || img->notes.bsd_symtab);
}

/* How much of the file to read, from its front: nothing more of what is no kernel. */
static uint64_t image_wanted(const struct image_file *f)
{
    if (elf_is(f->bytes, f->len)) {
        return elf_load_bytes(f->bytes, f->len);
    }
    if (bzimage_is(f->bytes, f->len) || unpack_detect(f->bytes, f->len) != UNPACK_NONE) {
        return f->whole;
    }
    return f->len;
}

static bool image_from_fd(struct boot_image *img, int fd, uint64_t size, GError **err)
{
    struct image_file f = {.whole = size};
    bool ok = image_read(&f, fd, FILE_FIRST, img->name, err);

    ok = ok && image_read(&f, fd, image_wanted(&f), img->name, err);
    ok = ok && image_load(img, &f, err) && elf_describe(img, f.whole, err);
    if (ok && image_wants_rest(img)) {
        f.bytes = g_steal_pointer(&img->elf);
        ok = image_read(&f, fd, f.whole, img->name, err);
        img->elf = g_steal_pointer(&f.bytes);
        img->elf_len = f.len;
        img->elf_complete = true;
        ok = ok && elf_describe(img, f.whole, err);
    }
    img->packed = f.bytes;
    img->packed_len = f.len;
    return ok;
}

static struct boot_image *image_new(const char *name)
{
    struct boot_image *img = g_new0(struct boot_image, 1);

    img->name = g_strdup(name);
    return img;
}

/* The built kernel of a source tree, for `-kernel DIR`; NULL (and *err) when there is none. */
static char *image_in_tree(const char *dir, GError **err)
{
    g_autofree char *built = g_build_filename(dir, "arch/x86/boot/bzImage", NULL);
    g_autofree char *source = g_build_filename(dir, "arch/x86/boot/header.S", NULL);

    if (g_file_test(built, G_FILE_TEST_IS_REGULAR)) {
        return g_steal_pointer(&built);
    }
    error_set(err, PVEMU_ERROR_IMAGE,
              "'%s' is a directory without a built kernel "
              "(arch/x86/boot/bzImage)",
              dir);
    if (g_file_test(source, G_FILE_TEST_EXISTS)) {
        error_hint(err,
                   "this looks like a kernel tree that is not built; run `make -j16 bzImage`");
    }
    return NULL;
}

static void image_hint_missing(const char *path, GError **err)
{
    g_autofree char *dir = g_path_get_dirname(path);
    g_autofree char *source = g_build_filename(dir, "header.S", NULL);

    if (g_str_has_suffix(path, "bzImage") && g_file_test(source, G_FILE_TEST_EXISTS)) {
        error_hint(err,
                   "this looks like a kernel tree that is not built; run `make -j16 bzImage`");
    }
}

static bool image_open_path(struct boot_image *img, const char *path, GError **err)
{
    auto_fd fd = open(path, O_RDONLY | O_CLOEXEC | O_NONBLOCK | O_NOCTTY);
    struct stat st;

    if (fd < 0 || fstat(fd, &st) != 0) {
        int error = errno;

        error_set(err, PVEMU_ERROR_HOST, "cannot open kernel '%s': %s", path,
                  image_errno_words(error));
        if (error == ENOENT) {
            image_hint_missing(path, err);
        }
        return false;
    }
    if (S_ISDIR(st.st_mode)) {
        g_autofree char *inside = image_in_tree(path, err);

        return inside != NULL && image_open_path(img, inside, err);
    }
    if (!S_ISREG(st.st_mode)) {
        return error_set(err, PVEMU_ERROR_HOST, "kernel '%s' is not a regular file", path);
    }
    return image_from_fd(img, fd, (uint64_t)st.st_size, err);
}

static struct boot_image *image_done(struct boot_image *img, bool ok)
{
    if (!ok) {
        boot_image_free(img);
        return NULL;
    }
    boot_image_judge(img);
    return img;
}

struct boot_image *boot_image_open(const char *path, GError **err)
{
    struct boot_image *img = image_new(path);

    return image_done(img, image_open_path(img, path, err));
}

struct boot_image *boot_image_from_memory(const char *name, const uint8_t *bytes, size_t len,
                                          GError **err)
{
    struct boot_image *img = image_new(name);
    struct image_file f = {.bytes = g_memdup2(bytes, len), .len = len, .whole = len};
    bool ok = image_load(img, &f, err) && elf_describe(img, f.whole, err);

    img->packed = f.bytes;
    img->packed_len = f.len;
    return image_done(img, ok);
}

void boot_image_drop_content(struct boot_image *img)
{
    if (img->packed == NULL) {
        return;
    }
    g_clear_pointer(&img->elf, g_free);
    g_clear_pointer(&img->symbols, g_free);
    for (unsigned i = 0; i < img->nr_segments; i++) {
        img->segments[i].bytes = NULL;
    }
}

bool boot_image_restore_content(struct boot_image *img, GError **err)
{
    struct image_file f = {
        .bytes = img->packed, .len = img->packed_len, .whole = img->packed_len};

    return img->elf != NULL || (image_load(img, &f, err) && elf_describe(img, f.whole, err));
}

void boot_image_free(struct boot_image *img)
{
    if (img == NULL) {
        return;
    }
    notes_clear(&img->notes);
    g_free(img->name);
    g_free(img->version);
    g_free(img->elf);
    g_free(img->packed);
    g_free(img->symbols);
    g_free(img);
}

char *boot_image_describe(const struct boot_image *img)
{
    return img->compression != NULL ? g_strdup_printf("%s, %s", img->format, img->compression)
                                    : g_strdup(img->format);
}

char *boot_image_release(const struct boot_image *img)
{
    size_t len;

    if (img->version == NULL) {
        return NULL;
    }
    len = strcspn(img->version, " ");
    if (len == 0 || len > 64 || memchr(img->version, '/', len) != NULL ||
        !g_ascii_isdigit(img->version[0])) {
        return NULL;
    }
    return g_strndup(img->version, len);
}
