/* SPDX-License-Identifier: MIT */
/*
 * The first process of a guest that pvemu starts without an initramfs of its own: loads the few
 * modules the root disk needs, mounts it and starts the real init. It is built without libc and
 * is a few kilobytes. What it understands of the kernel command line: root=, rootfstype=,
 * rootflags=, rootdelay=, rootwait, ro, rw, init=. Everything else is left to the real init. One
 * small process stays (console_size.c).
 *
 * Any failure is told on the console in one line that begins "pvemu-init: "; the kernel's panic
 * about the end of init follows it.
 */
#include <asm/unistd.h>
#include <linux/errno.h>
#include <linux/fcntl.h>
#include <linux/mount.h>

#include "console_size.h"
#include "root.h"
#include "sys.h"

#define MODULE_LIST "/pvemu/modules"
#define NEW_ROOT    "/newroot"

enum { WAIT_MS = 10000, POLL_MS = 10, TEXT = 4096, UMOUNT_DETACH = 2 };

struct options {
    const char *root, *type, *flags, *init;
    bool read_write, wait_forever;
    unsigned delay_s;
};

/* Splits the command line in place: blanks end a word, double quotes protect them. */
static char *next_word(char **at)
{
    char *p = *at;
    char *word, *to;
    bool quoted = false;

    while (*p == ' ' || *p == '\n' || *p == '\t') {
        p++;
    }
    word = to = p;
    while (*p != '\0' && (quoted || (*p != ' ' && *p != '\n' && *p != '\t'))) {
        if (*p == '"') {
            quoted = !quoted;
        } else {
            *to++ = *p;
        }
        p++;
    }
    *at = *p != '\0' ? p + 1 : p;
    *to = '\0';
    return word != to ? word : NULL;
}

static void parse_options(char *text, struct options *o)
{
    char *word;

    while ((word = next_word(&text)) != NULL) {
        if (strcmp(word, "--") == 0) {
            break;
        } else if (str_starts(word, "root=")) {
            o->root = word + 5;
        } else if (str_starts(word, "rootfstype=")) {
            o->type = word + 11;
        } else if (str_starts(word, "rootflags=")) {
            o->flags = word + 10;
        } else if (str_starts(word, "rootdelay=")) {
            o->delay_s = (unsigned)str_number(word + 10);
        } else if (strcmp(word, "rootwait") == 0) {
            o->wait_forever = true;
        } else if (str_starts(word, "init=")) {
            o->init = word + 5;
        } else if (strcmp(word, "rw") == 0 || strcmp(word, "ro") == 0) {
            o->read_write = word[1] == 'w';
        }
    }
}

static void mount_basics(void)
{
    static const char *const mounts[][2] = {
        {"/dev", "devtmpfs"},
        {"/proc", "proc"},
        {"/sys", "sysfs"},
    };

    for (unsigned i = 0; i < 3; i++) {
        long ret;

        sys_mkdir(mounts[i][0]);
        ret = sys_mount(mounts[i][1], mounts[i][0], mounts[i][1], 0, NULL);
        if (ret < 0 && ret != -EBUSY) {
            say("cannot mount ", mounts[i][1], ": ", error_words(ret));
        }
    }
    sys_mkdir(NEW_ROOT);
}

static void open_console(void)
{
    long fd = sys_open("/dev/console", O_RDWR);

    for (int i = 0; fd >= 0 && i < 3; i++) {
        sys_call(__NR_dup2, fd, i, 0, 0, 0);
    }
}

static void load_module(const char *path)
{
    long fd = sys_open(path, O_RDONLY);
    long ret = fd;

    if (fd >= 0) {
        ret = sys_call(__NR_finit_module, fd, (long)"", 0, 0, 0);
        sys_close((int)fd);
    }
    if (ret < 0 && ret != -EEXIST) {
        const char *name = path;

        for (const char *p = path; *p != '\0'; p++) {
            name = *p == '/' ? p + 1 : name;
        }
        say("cannot load module ", name, ": ", error_words(ret));
    }
    sys_unlink(path);
}

static void load_modules(void)
{
    static char list[16 * 1024];
    char *at = list;
    char *path;

    if (file_read(MODULE_LIST, list, sizeof(list)) <= 0) {
        return;
    }
    while ((path = next_word(&at)) != NULL) {
        load_module(path);
    }
    sys_unlink(MODULE_LIST);
}

static _Noreturn void give_up(void)
{
    sys_exit(1);
}

static void wait_for_root(const struct options *o, char *path, size_t size)
{
    static char devices[512];
    char seconds[16] = "";
    uint64_t limit = sys_now_ms() + WAIT_MS + o->delay_s * 1000ull;

    while (!root_find(o->root, path, size)) {
        if (!o->wait_forever && sys_now_ms() > limit) {
            str_add_number(seconds, sizeof(seconds), WAIT_MS / 1000 + o->delay_s);
            str_add(seconds, sizeof(seconds), " s");
            root_list(devices, sizeof(devices));
            say("root device ", o->root, " did not appear in ", seconds);
            say("block devices: ", devices[0] != '\0' ? devices : "none", NULL, NULL);
            give_up();
        }
        sys_sleep_ms(POLL_MS);
    }
}

static long mount_type(const char *path, const char *type, const struct options *o)
{
    unsigned long flags = o->read_write ? 0 : MS_RDONLY;
    long ret = sys_mount(path, NEW_ROOT, type, flags, o->flags);

    if ((ret == -EROFS || ret == -EACCES) && flags == 0) {
        ret = sys_mount(path, NEW_ROOT, type, MS_RDONLY, o->flags);
        if (ret == 0) {
            say("root ", path, " is read-only", NULL);
        }
    }
    return ret;
}

/* Tries each type of a list separated by blanks or commas. The last error that is not "no such
 * type", for the message. */
static long mount_types(const char *path, char *types, const struct options *o)
{
    long best = -ENODEV;
    char *type = types;

    while (*type != '\0') {
        char *end = type;
        bool last;
        long ret;

        while (*end != '\0' && *end != ' ' && *end != ',') {
            end++;
        }
        last = *end == '\0';
        *end = '\0';
        ret = *type != '\0' ? mount_type(path, type, o) : -ENODEV;
        if (!last) {
            *end = ' ';
        }
        if (ret == 0) {
            return 0;
        }
        best = ret != -ENODEV ? ret : best;
        type = last ? end : end + 1;
    }
    return best;
}

/* The types of /proc/filesystems that live on devices, with `first` in front. */
static void list_types(char *types, size_t size, const char *first)
{
    static char text[TEXT];
    char *line = text;

    types[0] = '\0';
    if (first != NULL) {
        str_add(types, size, first);
    }
    file_read("/proc/filesystems", text, sizeof(text));
    while (*line != '\0') {
        char *end = line;

        while (*end != '\0' && *end != '\n') {
            end++;
        }
        if (*end == '\n') {
            *end++ = '\0';
        }
        if (line[0] == '\t' && (first == NULL || strcmp(line + 1, first) != 0)) {
            str_add(types, size, types[0] != '\0' ? " " : "");
            str_add(types, size, line + 1);
        }
        line = end;
    }
}

static void mount_root(const struct options *o, const char *path)
{
    static char types[1024];
    const char *probed = root_probe(path);
    long ret;

    if (o->type != NULL) {
        types[0] = '\0';
        str_add(types, sizeof(types), o->type);
    } else {
        list_types(types, sizeof(types), probed);
    }
    ret = mount_types(path, types, o);
    if (ret == 0) {
        return;
    }
    say("cannot mount root ", path, ": ", error_words(ret));
    if (probed != NULL) {
        say("it holds ", probed, NULL, NULL);
    }
    list_types(types, sizeof(types), NULL);
    say("known file systems: ", types, NULL, NULL);
    give_up();
}

/* Takes the mounts along and makes the new root the root. */
static void switch_root(void)
{
    static const char *const moved[] = {"/dev", "/proc", "/sys"};

    for (unsigned i = 0; i < 3; i++) {
        char target[32] = NEW_ROOT;

        str_add(target, sizeof(target), moved[i]);
        if (sys_mount(moved[i], target, NULL, MS_MOVE, NULL) < 0) {
            sys_call(__NR_umount2, (long)moved[i], UMOUNT_DETACH, 0, 0, 0);
        }
    }
    sys_unlink("/init");
    sys_call(__NR_chdir, (long)NEW_ROOT, 0, 0, 0, 0);
    if (sys_mount(".", "/", NULL, MS_MOVE, NULL) < 0 ||
        sys_call(__NR_chroot, (long)".", 0, 0, 0, 0) < 0) {
        say("cannot switch to the new root", NULL, NULL, NULL);
        give_up();
    }
    sys_call(__NR_chdir, (long)"/", 0, 0, 0, 0);
}

static void start_init(const struct options *o, const char *root, char **argv, char **envp)
{
    static const char *const usual[] = {"/sbin/init", "/etc/init", "/bin/init", "/bin/sh"};
    long ret;

    if (o->init != NULL) {
        argv[0] = (char *)(uintptr_t)o->init;
        ret = sys_call(__NR_execve, (long)o->init, (long)argv, (long)envp, 0, 0);
        say("cannot run init=", o->init, ": ", error_words(ret));
        give_up();
    }
    for (unsigned i = 0; i < 4; i++) {
        argv[0] = (char *)(uintptr_t)usual[i];
        ret = sys_call(__NR_execve, (long)usual[i], (long)argv, (long)envp, 0, 0);
        if (ret != -ENOENT) {
            say("cannot run ", usual[i], ": ", error_words(ret));
        }
    }
    say("no init on ", root, " (looked for /sbin/init /etc/init /bin/init /bin/sh)", NULL);
    give_up();
}

/* Called by the few instructions in start.S with the stack the kernel made. */
_Noreturn void init_main(uintptr_t *stack);

_Noreturn void init_main(uintptr_t *stack)
{
    static char cmdline[TEXT];
    static char path[128];
    char **argv = (char **)(stack + 1);
    char **envp = (char **)(stack + 1 + stack[0] + 1);
    struct options o = {0};

    if (sys_call(__NR_getpid, 0, 0, 0, 0, 0) != 1) {
        console_size_run(argv + 1);
    }
    mount_basics();
    open_console();
    file_read("/proc/cmdline", cmdline, sizeof(cmdline));
    parse_options(cmdline, &o);
    load_modules();
    if (o.root == NULL) {
        say("no root= on the kernel command line", NULL, NULL, NULL);
        give_up();
    }
    if (o.type != NULL && (strcmp(o.type, "9p") == 0 || strcmp(o.type, "virtiofs") == 0)) {
        str_add(path, sizeof(path), o.root); /* a tag, not a device */
    } else {
        wait_for_root(&o, path, sizeof(path));
    }
    mount_root(&o, path);
    console_size_start();
    switch_root();
    start_init(&o, path, argv, envp);
    sys_exit(1);
}
