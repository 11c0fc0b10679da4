/* SPDX-License-Identifier: MIT */
/* Integer code: loops, bytes, hashes, a compressor, call-backs, and a mix of small kernels. */
#include "bench.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>
#include <zlib.h>

enum {
    SIEVE_SIZE = 1 << 16,
    SHA_SIZE = 4096,
    LZ_SIZE = 1 << 15,
    LZ_HASH_BITS = 12,
    TEXT_SIZE = 1 << 17,
    TEXT_WORDS = 1000,
    SORT_COUNT = 2048,
    MIX_NODES = 256,
    MIX_MATRIX = 24,
};

/* --- sieve --- */

static bool sieve_setup(struct bench *b)
{
    return bench_buffers(b, SIEVE_SIZE, false);
}

static uint64_t sieve_run(struct bench *b, uint64_t iters)
{
    uint64_t found = 0;

    for (uint64_t round = 0; round < iters; round++) {
        memset(b->a, 1, SIEVE_SIZE);
        for (size_t i = 2; i < SIEVE_SIZE; i++) {
            if (b->a[i] != 0) {
                found++;
                for (size_t k = i + i; k < SIEVE_SIZE; k += i) {
                    b->a[k] = 0;
                }
            }
        }
    }
    return found;
}

/* --- SHA-256, FIPS 180-4. The constants are the fractions of the cube roots of the first
 * primes, computed so that no table has to be trusted. --- */

struct sha256 {
    uint32_t k[64], state[8];
};

/* First 32 bits after the point of the root-th root of n, as exact as 64 bits of an x87 register are. */
static uint32_t root_fraction(unsigned n, unsigned root)
{
    long double r = root == 3 ? cbrtl(n) : sqrtl(n);

    return (uint32_t)((r - floorl(r)) * 0x1p32L);
}

static void sha256_init(struct sha256 *s)
{
    unsigned found = 0;

    for (unsigned n = 2; found < 64; n++) {
        bool prime = true;

        for (unsigned d = 2; d * d <= n; d++) {
            prime = prime && n % d != 0;
        }
        if (prime) {
            s->k[found] = root_fraction(n, 3);
            if (found < 8) {
                s->state[found] = root_fraction(n, 2);
            }
            found++;
        }
    }
}

static uint32_t rotate(uint32_t x, unsigned n)
{
    return x >> n | x << (32 - n);
}

static void sha256_block(struct sha256 *s, const uint8_t *p)
{
    uint32_t w[64], v[8];

    for (unsigned i = 0; i < 16; i++) {
        w[i] = (uint32_t)p[4 * i] << 24 | (uint32_t)p[4 * i + 1] << 16 |
               (uint32_t)p[4 * i + 2] << 8 | p[4 * i + 3];
    }
    for (unsigned i = 16; i < 64; i++) {
        uint32_t x = w[i - 15], y = w[i - 2];

        w[i] = w[i - 16] + (rotate(x, 7) ^ rotate(x, 18) ^ x >> 3) + w[i - 7] +
               (rotate(y, 17) ^ rotate(y, 19) ^ y >> 10);
    }
    memcpy(v, s->state, sizeof(v));
    for (unsigned i = 0; i < 64; i++) { /* the eight move by one: a is v[-i mod 8] */
        uint32_t *h = &v[(7 - i) & 7], *d = &v[(3 - i) & 7];
        uint32_t a = v[-i & 7], e = v[(4 - i) & 7];
        uint32_t t1 = *h + (rotate(e, 6) ^ rotate(e, 11) ^ rotate(e, 25)) +
                      ((e & v[(5 - i) & 7]) ^ (~e & v[(6 - i) & 7])) + s->k[i] + w[i];
        uint32_t b = v[(1 - i) & 7], c = v[(2 - i) & 7];

        *d += t1;
        *h =
            t1 + (rotate(a, 2) ^ rotate(a, 13) ^ rotate(a, 22)) + ((a & b) ^ (a & c) ^ (b & c));
    }
    for (unsigned i = 0; i < 8; i++) {
        s->state[i] += v[i];
    }
}

static bool sha_setup(struct bench *b)
{
    return bench_buffers(b, SHA_SIZE, false);
}

static uint64_t sha_run(struct bench *b, uint64_t iters)
{
    struct sha256 s;

    sha256_init(&s);
    for (uint64_t i = 0; i < iters; i++) {
        for (size_t at = 0; at < SHA_SIZE; at += 64) {
            sha256_block(&s, b->a + at);
        }
    }
    return (uint64_t)s.state[0] << 32 | s.state[7];
}

/* --- LZ: greedy matches by a hash of four bytes, and back --- */

static bool lz_setup(struct bench *b)
{
    static const char *const words[] = {"guest", "page ", "the ",  "ring",
                                        "of ",   "a",     "fault", "\n"};
    uint64_t state = 11;

    if (!bench_buffers(b, LZ_SIZE * 2, true)) {
        return false;
    }
    for (size_t at = 0; at < LZ_SIZE;) {
        const char *word = words[bench_random(&state) % 8];

        if (bench_random(&state) % 5 == 0) {
            b->a[at++] = (uint8_t)bench_random(&state);
            continue;
        }
        for (; *word != '\0' && at < LZ_SIZE; word++) {
            b->a[at++] = (uint8_t)*word;
        }
    }
    return true;
}

/* Tokens: 0..127 that many literals + 1; 128..255 a match of that many - 124 bytes, then the
 * distance in two bytes. */
static size_t lz_pack(const uint8_t *in, uint8_t *out)
{
    uint16_t last[1 << LZ_HASH_BITS] = {0};
    size_t to = 0, literals = 0;

    for (size_t at = 0; at < LZ_SIZE;) {
        size_t match = 0, length = 0;

        if (at + 4 <= LZ_SIZE) {
            uint32_t four;
            uint32_t slot;

            memcpy(&four, in + at, 4);
            slot = (four * 2654435761u) >> (32 - LZ_HASH_BITS);
            match = last[slot];
            last[slot] = (uint16_t)at;
            while (match < at && at + length < LZ_SIZE && length < 131 &&
                   in[match + length] == in[at + length]) {
                length++;
            }
        }
        if (length >= 4) {
            out[to++] = (uint8_t)(124 + length);
            out[to++] = (uint8_t)(at - match);
            out[to++] = (uint8_t)((at - match) >> 8);
            at += length;
            literals = 0;
            continue;
        }
        if (literals == 0 || out[literals - 1] == 127) {
            out[to++] = 0;
            literals = to;
        } else {
            out[literals - 1]++;
        }
        out[to++] = in[at++];
    }
    return to;
}

static size_t lz_unpack(const uint8_t *in, size_t size, uint8_t *out)
{
    size_t to = 0;

    for (size_t at = 0; at < size;) {
        unsigned token = in[at++];

        if (token < 128) {
            for (unsigned i = 0; i <= token; i++) {
                out[to++] = in[at++];
            }
        } else {
            size_t from = to - (in[at] | (size_t)in[at + 1] << 8);

            at += 2;
            for (unsigned i = 0; i < token - 124; i++) {
                out[to++] = out[from++];
            }
        }
    }
    return to;
}

static uint64_t lz_run(struct bench *b, uint64_t iters)
{
    uint8_t *plain = b->a, *back = b->a + LZ_SIZE;
    uint64_t check = 0;

    for (uint64_t i = 0; i < iters; i++) {
        size_t packed, unpacked;

        plain[i % LZ_SIZE] ^= (uint8_t)i;
        packed = lz_pack(plain, b->b);
        unpacked = lz_unpack(b->b, packed, back);
        check = bench_mix(check, packed);
        check = bench_mix(check, unpacked == LZ_SIZE && memcmp(plain, back, LZ_SIZE) == 0);
    }
    for (uint64_t i = 0; i < iters; i++) {
        plain[i % LZ_SIZE] ^= (uint8_t)i;
    }
    return check;
}

/* --- zlib as it is: text packed at its usual level, and unpacked --- */

/* Made-up words of two to nine letters; every seventh is one of the sixteen usual ones. It packs
 * to a third or so, as prose does. */
static bool zlib_setup(struct bench *b)
{
    static char words[TEXT_WORDS][10];
    uint64_t state = 23;

    if (!bench_buffers(b, TEXT_SIZE * 2, true)) {
        return false;
    }
    for (size_t i = 0; i < TEXT_WORDS; i++) {
        size_t length = 2 + bench_random(&state) % 8;

        for (size_t k = 0; k < length; k++) {
            words[i][k] =
                "etaoinshrdlucmfwypvbgkjqxz"[bench_random(&state) % (k % 2 == 0 ? 26 : 7)];
        }
    }
    for (size_t at = 0; at < TEXT_SIZE;) {
        uint32_t r = bench_random(&state);
        const char *word = words[r % 7 == 0 ? r / 7 % 16 : r / 7 % TEXT_WORDS];

        for (; *word != '\0' && at < TEXT_SIZE; word++) {
            b->a[at++] = (uint8_t)*word;
        }
        if (at < TEXT_SIZE) {
            b->a[at++] = r % 13 == 0 ? '\n' : ' ';
        }
    }
    return true;
}

static uint64_t zlib_run(struct bench *b, uint64_t iters)
{
    uint8_t *plain = b->a, *back = b->a + TEXT_SIZE;
    z_stream packing = {0}, unpacking = {0};
    uint64_t check = 0;

    if (deflateInit(&packing, Z_DEFAULT_COMPRESSION) != Z_OK ||
        inflateInit(&unpacking) != Z_OK) {
        return 0;
    }
    for (uint64_t i = 0; i < iters; i++) {
        plain[i % TEXT_SIZE] ^= 1;
        packing.next_in = plain;
        packing.avail_in = TEXT_SIZE;
        packing.next_out = b->b;
        packing.avail_out = TEXT_SIZE * 2;
        check = bench_mix(check,
                          deflate(&packing, Z_FINISH) == Z_STREAM_END ? packing.total_out : 0);
        unpacking.next_in = b->b;
        unpacking.avail_in = (uInt)packing.total_out;
        unpacking.next_out = back;
        unpacking.avail_out = TEXT_SIZE;
        check = bench_mix(check, inflate(&unpacking, Z_FINISH) == Z_STREAM_END &&
                                     memcmp(plain, back, TEXT_SIZE) == 0);
        deflateReset(&packing);
        inflateReset(&unpacking);
    }
    deflateEnd(&packing);
    inflateEnd(&unpacking);
    for (uint64_t i = 0; i < iters; i++) {
        plain[i % TEXT_SIZE] ^= 1;
    }
    return check;
}

/* --- qsort with a call-back --- */

static int sort_compare(const void *x, const void *y)
{
    uint64_t a, b;

    memcpy(&a, x, sizeof(a));
    memcpy(&b, y, sizeof(b));
    return a < b ? -1 : a > b;
}

static bool sort_setup(struct bench *b)
{
    return bench_buffers(b, SORT_COUNT * sizeof(uint64_t), true);
}

/* New numbers each time, as there are in real life. */
static uint64_t sort_run(struct bench *b, uint64_t iters)
{
    uint64_t *v = (uint64_t *)(void *)b->b;
    uint64_t check = 0, state = 29;

    for (uint64_t i = 0; i < iters; i++) {
        for (unsigned k = 0; k < SORT_COUNT; k++) {
            v[k] = bench_random(&state);
        }
        qsort(v, SORT_COUNT, sizeof(*v), sort_compare);
        check = bench_mix(check, v[i % SORT_COUNT] ^ v[SORT_COUNT / 2]);
    }
    return check;
}

/* The same numbers but one again and again: natively a processor that learns how thousands of
 * branches will go has hardly anything to wait for. */
static uint64_t sort_same_run(struct bench *b, uint64_t iters)
{
    uint64_t *v = (uint64_t *)(void *)b->b;
    uint64_t check = 0;

    for (uint64_t i = 0; i < iters; i++) {
        memcpy(v, b->a, SORT_COUNT * sizeof(*v));
        v[i % SORT_COUNT] = i;
        qsort(v, SORT_COUNT, sizeof(*v), sort_compare);
        check = bench_mix(check, v[i % SORT_COUNT] ^ v[SORT_COUNT / 2]);
    }
    return check;
}

/* --- a mix of the small kernels that embedded benchmarks are made of --- */

struct node {
    uint16_t next, value;
};

static uint32_t mix_list(struct node *nodes, uint16_t wanted)
{
    uint16_t at = 0, before = 0, found = 0;

    for (unsigned i = 0; i < MIX_NODES; i++) { /* one ring of all nodes */
        nodes[i].next = (uint16_t)((i + 77) % MIX_NODES);
        nodes[i].value = (uint16_t)(i * 5 ^ wanted);
    }
    for (unsigned i = 0; i < MIX_NODES; i++) { /* turn it round */
        uint16_t next = nodes[at].next;

        nodes[at].next = before;
        before = at;
        at = next;
    }
    for (unsigned i = 0; i < MIX_NODES; i++) {
        found = (uint16_t)(found + (nodes[before].value < wanted ? nodes[before].value : 1));
        before = nodes[before].next;
    }
    return found;
}

static uint32_t mix_matrix(int16_t *m, int16_t seed)
{
    uint32_t sum = 0;

    for (int i = 0; i < MIX_MATRIX * MIX_MATRIX; i++) {
        m[i] = (int16_t)(i * 3 + seed);
    }
    for (int i = 0; i < MIX_MATRIX; i++) {
        for (int k = 0; k < MIX_MATRIX; k++) {
            int32_t cell = 0;

            for (int j = 0; j < MIX_MATRIX; j++) {
                cell += m[i * MIX_MATRIX + j] * m[j * MIX_MATRIX + k];
            }
            sum = sum * 31 + (uint32_t)(cell >> 4) % 8191;
        }
    }
    return sum;
}

/* What kind of number each word is, by a state machine over the characters. */
static uint32_t mix_states(const char *text)
{
    enum { START, DIGITS, POINT, EXPONENT, WRONG, NR_STATES };
    uint32_t count[NR_STATES] = {0};
    unsigned state = START;

    for (; *text != '\0'; text++) {
        bool digit = *text >= '0' && *text <= '9';

        if (*text == ' ') {
            count[state]++;
            state = START;
            continue;
        }
        switch (state) {
        case START:
            state = digit || *text == '-' ? DIGITS : *text == '.' ? POINT : WRONG;
            break;
        case DIGITS:
            state = digit ? DIGITS : *text == '.' ? POINT : *text == 'e' ? EXPONENT : WRONG;
            break;
        case POINT:
            state = digit ? POINT : *text == 'e' ? EXPONENT : WRONG;
            break;
        case EXPONENT:
            state = digit || *text == '-' ? EXPONENT : WRONG;
            break;
        default:
            break;
        }
    }
    return count[START] + count[DIGITS] * 3 + count[POINT] * 5 + count[EXPONENT] * 7 +
           count[WRONG] * 11;
}

static uint16_t mix_crc(uint16_t crc, uint32_t value)
{
    for (unsigned i = 0; i < 32; i++) {
        bool carry = ((crc ^ value) & 1) != 0;

        value >>= 1;
        crc = (uint16_t)(crc >> 1 ^ (carry ? 0xa001 : 0));
    }
    return crc;
}

static bool mix_setup(struct bench *b)
{
    return bench_buffers(b, 8192, false);
}

static uint64_t mix_run(struct bench *b, uint64_t iters)
{
    static const char text[] = "12 -7 3.25 .5e3 abc 1e-4 99x 0 -. 1.2.3 4e 777777 -1.5e10 end ";
    uint64_t check = 0;
    uint16_t crc = 0xffff;

    for (uint64_t i = 0; i < iters; i++) {
        const char *hidden = text + i % 12;

        BENCH_HIDE(hidden);
        crc = mix_crc(crc, mix_list((struct node *)(void *)b->a, (uint16_t)(i * 7 + 300)));
        crc = mix_crc(crc, mix_matrix((int16_t *)(void *)(b->a + 4096), (int16_t)i));
        crc = mix_crc(crc, mix_states(hidden));
        check += crc;
    }
    return check;
}

const struct workload bench_integer[] = {
    {"sieve", "integer", 300, sieve_setup, sieve_run, NULL, bench_free},
    {"sha256", "integer", 2000, sha_setup, sha_run, NULL, bench_free},
    {"lz", "integer", 250, lz_setup, lz_run, NULL, bench_free},
    {"zlib", "integer", 8, zlib_setup, zlib_run, NULL, bench_free},
    {"sort", "integer", 200, sort_setup, sort_run, NULL, bench_free},
    {"sort_same", "integer", 400, sort_setup, sort_same_run, NULL, bench_free},
    {"coremix", "integer", 4000, mix_setup, mix_run, NULL, bench_free},
    {0},
};
