/* SPDX-License-Identifier: MIT */
/*
 * Runs a fuzz target without libFuzzer: every file of the corpus as it is and, with -seconds N,
 * random mutations of them for that long.
 *
 *   fuzz_x [-seconds N] [-seed S] [-max BYTES] FILE|DIRECTORY...
 *
 * The seed is printed. The input being tried is kept in a file given with -crash FILE, so that
 * it is there after a crash.
 */
#include "tests/fuzz/fuzz.h"

#include <dirent.h>
#include <fcntl.h>
#include <inttypes.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

enum { MAX_FILES = 4096, MAX_FILE_SIZE = 1 << 20, DEFAULT_MAX = 4096 };

struct input {
    uint8_t *data;
    size_t len;
};

struct replay {
    struct input files[MAX_FILES];
    unsigned nr;
    uint64_t rng;
    double seconds;
    size_t max;
    uint8_t *crash; /* mapped file: 8 bytes of length, then the input */
};

static uint64_t replay_random(struct replay *r)
{
    uint64_t z = (r->rng += 0x9e3779b97f4a7c15u);

    z = (z ^ (z >> 30)) * 0xbf58476d1ce4e5b9u;
    z = (z ^ (z >> 27)) * 0x94d049bb133111ebu;
    return z ^ (z >> 31);
}

static size_t replay_below(struct replay *r, size_t n)
{
    return n ? (size_t)(replay_random(r) % n) : 0;
}

static void replay_die(const char *what, const char *name)
{
    fprintf(stderr, "replay: %s '%s'\n", what, name);
    exit(2);
}

static void replay_add_file(struct replay *r, const char *path)
{
    FILE *f = fopen(path, "rb");
    struct input *in = &r->files[r->nr];

    if (!f) {
        replay_die("cannot open", path);
    }
    if (r->nr == MAX_FILES - 1) {
        replay_die("too many files at", path);
    }
    in->data = malloc(MAX_FILE_SIZE);
    in->len = in->data ? fread(in->data, 1, MAX_FILE_SIZE, f) : 0;
    in->data = in->data ? realloc(in->data, in->len ? in->len : 1) : NULL;
    fclose(f);
    if (!in->data) {
        replay_die("no memory for", path);
    }
    r->nr++;
}

static void replay_add(struct replay *r, const char *path)
{
    char name[4096];
    struct dirent *e;
    struct stat st;
    DIR *dir;

    if (stat(path, &st) != 0) {
        replay_die("cannot find", path);
    }
    if (!S_ISDIR(st.st_mode)) {
        replay_add_file(r, path);
        return;
    }
    dir = opendir(path);
    while (dir && (e = readdir(dir)) != NULL) {
        if (e->d_name[0] != '.') {
            snprintf(name, sizeof(name), "%s/%s", path, e->d_name);
            replay_add_file(r, name);
        }
    }
    if (dir) {
        closedir(dir);
    }
}

/* The input in a block of exactly its size, so that ASan sees reads behind it. */
static void replay_run(struct replay *r, const uint8_t *data, size_t len)
{
    uint64_t n = len;
    uint8_t *copy = malloc(len ? len : 1);

    if (!copy) {
        replay_die("no memory for", "an input");
    }
    memcpy(copy, data, len);
    if (r->crash && len <= MAX_FILE_SIZE) {
        memcpy(r->crash, &n, sizeof(n));
        memcpy(r->crash + sizeof(n), data, len);
    }
    LLVMFuzzerTestOneInput(copy, len);
    free(copy);
}

/* One change: a bit, a byte, an interesting number, a run removed, doubled or taken from
 * another file. */
static size_t replay_mutate(struct replay *r, uint8_t *buf, size_t len)
{
    static const uint64_t numbers[] = {0,          1,         0x7f,      0x80,       0xff,
                                       0x7fff,     0x8000,    0xffff,    0x7fffffff, 0x80000000,
                                       0xffffffff, INT64_MAX, UINT64_MAX};
    const struct input *other;
    size_t at = replay_below(r, len), n = 1 + replay_below(r, 16);
    uint64_t v;

    switch (replay_below(r, 7)) {
    case 0:
        buf[at] ^= (uint8_t)(1u << replay_below(r, 8));
        return len;
    case 1:
    case 2:
        buf[at] = (uint8_t)replay_random(r);
        return len;
    case 3:
        v = numbers[replay_below(r, sizeof(numbers) / sizeof(numbers[0]))];
        n = (size_t)1 << replay_below(r, 4);
        memcpy(buf + at, &v, n < len - at ? n : len - at);
        return len;
    case 4:
        n = n < len - at ? n : len - at;
        memmove(buf + at, buf + at + n, len - at - n);
        return len - n > 0 ? len - n : len;
    case 5:
        n = n < r->max - len ? n : r->max - len;
        memmove(buf + at + n, buf + at, len - at);
        return len + n;
    default:
        other = &r->files[replay_below(r, r->nr)];
        n = n < other->len ? n : other->len;
        n = n < len - at ? n : len - at;
        memcpy(buf + at, other->data + replay_below(r, other->len - n + 1), n);
        return len;
    }
}

static double replay_now(void)
{
    struct timespec ts;

    clock_gettime(CLOCK_MONOTONIC, &ts);
    return (double)ts.tv_sec + (double)ts.tv_nsec / 1e9;
}

static uint64_t replay_fuzz(struct replay *r)
{
    uint8_t *buf = malloc(r->max);
    double end = replay_now() + r->seconds;
    const struct input *in;
    uint64_t runs = 0;
    size_t len, k;

    if (!buf) {
        replay_die("no memory for", "a buffer");
    }
    while (replay_now() < end) {
        in = &r->files[replay_below(r, r->nr)];
        len = in->len < r->max ? in->len : r->max;
        memcpy(buf, in->data, len);
        if (len == 0) {
            buf[len++] = 0;
        }
        for (k = 1 + replay_below(r, 8); k > 0; k--) {
            len = replay_mutate(r, buf, len);
        }
        replay_run(r, buf, len);
        runs++;
    }
    free(buf);
    return runs;
}

static void replay_open_crash(struct replay *r, const char *path)
{
    int fd = open(path, O_RDWR | O_CREAT | O_TRUNC | O_CLOEXEC, 0600);
    size_t size = MAX_FILE_SIZE + sizeof(uint64_t);

    if (fd < 0 || ftruncate(fd, (off_t)size) != 0) {
        replay_die("cannot write", path);
    }
    r->crash = mmap(NULL, size, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
    close(fd);
    if (r->crash == MAP_FAILED) {
        replay_die("cannot map", path);
    }
}

int main(int argc, char **argv)
{
    struct replay r = {.rng = 1, .max = DEFAULT_MAX};
    uint64_t runs = 0;
    unsigned k;
    int i;

    for (i = 1; i < argc; i++) {
        if (i + 1 < argc && strcmp(argv[i], "-seconds") == 0) {
            r.seconds = atof(argv[++i]);
        } else if (i + 1 < argc && strcmp(argv[i], "-seed") == 0) {
            r.rng = strtoull(argv[++i], NULL, 0);
        } else if (i + 1 < argc && strcmp(argv[i], "-max") == 0) {
            r.max = strtoull(argv[++i], NULL, 0);
        } else if (i + 1 < argc && strcmp(argv[i], "-crash") == 0) {
            replay_open_crash(&r, argv[++i]);
        } else {
            replay_add(&r, argv[i]);
        }
    }
    if (r.max == 0 || r.max > MAX_FILE_SIZE) {
        replay_die("bad -max for", argv[0]);
    }
    if (r.nr == 0) { /* no corpus: start from one byte */
        r.files[0] = (struct input){calloc(1, 1), 1};
        r.nr = 1;
    }
    printf("# %u corpus files, seed %" PRIu64 "\n", r.nr, r.rng);
    fflush(stdout);
    for (k = 0; k < r.nr; k++) {
        replay_run(&r, r.files[k].data, r.files[k].len);
    }
    if (r.seconds > 0) {
        runs = replay_fuzz(&r);
    }
    printf("1..1\nok 1 - %u corpus files, %" PRIu64 " mutations\n", r.nr, runs);
    for (k = 0; k < r.nr; k++) {
        free(r.files[k].data);
    }
    return 0;
}
