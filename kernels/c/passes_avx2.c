/* Passes with AVX2.
 *
 * A weight of 22 bits is two parts, `upper * 256 + lower`, with the lower one in 0 to 255: each part and each pixel
 * fits an int16, and one instruction multiplies sixteen of them and adds neighbors. Sums are modulo 2^32, and the
 * whole sum fits an int32, so nothing is lost. torch's weights are int16 as they are. */
#include "internal.h"

#if TRUECOPY_HAS_AVX2
#include <immintrin.h>
#include <string.h>

#if defined(_MSC_VER) && !defined(__clang__)
#define AVX2
#define INLINE_AVX2 static __forceinline
#else
#define AVX2 __attribute__((target("avx2")))
#define INLINE_AVX2 static inline __attribute__((always_inline, target("avx2")))
#endif

#define LANES 16
#define READ_BYTES 16

static inline int32_t group_taps(int channels) { return channels == 1 ? 16 : channels == 2 ? 8 : 4; }

/* Those of weights in two parts. */
static size_t vector_bytes(int32_t taps, int channels) {
    size_t groups = ((size_t)taps + (size_t)group_taps(channels) - 1) / (size_t)group_taps(channels);
    return groups * LANES * 2 * sizeof(int16_t);
}

/* Which of a group's taps each int16 of a register is for. */
static int32_t lane_tap(int lane, int channels) {
    if (channels == 1) {
        return lane;
    }
    if (channels == 2) {
        return lane / 4 * 2 + lane % 2;
    }
    return lane / 8 * 2 + lane % 2;
}

static void order_weights(axis_weights *axis, int channels, size_t row_bytes) {
    const int32_t per_group = group_taps(channels);
    int16_t *vector = axis->vector;
    int32_t taps_of_lanes[LANES], output, group, tap;
    int lane;
    for (lane = 0; lane < LANES; lane++) {
        taps_of_lanes[lane] = lane_tap(lane, channels);
    }
    for (output = 0; output < axis->count; output++) {
        const int32_t *weights = axis->weights + (size_t)output * (size_t)axis->max_taps;
        const int32_t taps = axis->taps[output];
        axis->spans[output] = span_of(axis, output, per_group, channels, row_bytes, READ_BYTES);
        for (group = 0; group < axis->spans[output].groups; group++) {
            for (lane = 0; lane < LANES; lane++) {
                int32_t weight;
                tap = group * per_group + taps_of_lanes[lane];
                weight = tap < taps ? weights[tap] : 0;
                if (axis->is_split) {
                    vector[lane] = (int16_t)(weight >> 8);
                    vector[LANES + lane] = (int16_t)(weight & 255);
                } else {
                    vector[lane] = (int16_t)weight;
                }
            }
            vector += axis->is_split ? 2 * LANES : LANES;
        }
    }
}

/* The order in which a group's bytes become int16: neighbors are two taps of one channel. */
INLINE_AVX2 __m256i byte_order(int channels) {
    const char z = -1;
    if (channels == 1) {
        return _mm256_setr_epi8(0, z, 1, z, 2, z, 3, z, 4, z, 5, z, 6, z, 7, z, 8, z, 9, z, 10, z, 11, z, 12, z, 13, z,
                                14, z, 15, z);
    }
    if (channels == 2) {
        return _mm256_setr_epi8(0, z, 2, z, 1, z, 3, z, 4, z, 6, z, 5, z, 7, z, 8, z, 10, z, 9, z, 11, z, 12, z, 14, z,
                                13, z, 15, z);
    }
    if (channels == 3) {
        return _mm256_setr_epi8(0, z, 3, z, 1, z, 4, z, 2, z, 5, z, z, z, z, z, 6, z, 9, z, 7, z, 10, z, 8, z, 11, z, z,
                                z, z, z);
    }
    return _mm256_setr_epi8(0, z, 4, z, 1, z, 5, z, 2, z, 6, z, 3, z, 7, z, 8, z, 12, z, 9, z, 13, z, 10, z, 14, z, 11,
                            z, 15, z);
}

/* Add the eight sums of each of two rows up to one per channel: the first row's low, the second's high. */
INLINE_AVX2 __m256i fold(__m256i first, __m256i second, int channels) {
    __m256i sums = _mm256_add_epi32(_mm256_permute2x128_si256(first, second, 0x20),
                                    _mm256_permute2x128_si256(first, second, 0x31));
    if (channels <= 2) {
        sums = _mm256_add_epi32(sums, _mm256_shuffle_epi32(sums, _MM_SHUFFLE(1, 0, 3, 2)));
    }
    if (channels == 1) {
        sums = _mm256_add_epi32(sums, _mm256_shuffle_epi32(sums, _MM_SHUFFLE(2, 3, 0, 1)));
    }
    return sums;
}

/* A group's sixteen bytes, each as an int16, in both halves of a register. */
INLINE_AVX2 __m256i read_group(const uint8_t *bytes, __m256i order) {
    return _mm256_shuffle_epi8(_mm256_broadcastsi128_si256(_mm_loadu_si128((const __m128i *)bytes)), order);
}

/* The same, of the group's `left` bytes that lie in the row. */
INLINE_AVX2 __m256i read_edge(const uint8_t *bytes, size_t left, __m256i order) {
    uint8_t edge[READ_BYTES] = {0};
    memcpy(edge, bytes, left);
    return read_group(edge, order);
}

INLINE_AVX2 __m256i add_products(__m256i sums, __m256i values, __m256i weights) {
    return _mm256_add_epi32(sums, _mm256_madd_epi16(values, weights));
}

INLINE_AVX2 __m256i join_parts(__m256i upper, __m256i lower, const int is_split) {
    return is_split ? _mm256_add_epi32(_mm256_slli_epi32(upper, 8), lower) : upper;
}

/* `channels` and `is_split` are constants where these two are inlined. */
INLINE_AVX2 void horizontal_four_rows(const uint8_t *const *input, uint8_t *const *output, size_t row_bytes,
                                      const axis_weights *axis, const int channels, const int is_split) {
    const int32_t per_group = group_taps(channels);
    const size_t step = (size_t)(per_group * channels);
    const __m256i order = byte_order(channels), zero = _mm256_setzero_si256();
    const __m256i half = _mm256_set1_epi32(axis->bits > 0 ? 1 << (axis->bits - 1) : 0);
    const __m128i shift = _mm_cvtsi32_si128(axis->bits);
    const uint8_t *const row0 = input[0], *const row1 = input[1], *const row2 = input[2], *const row3 = input[3];
    uint8_t *out0 = output[0], *out1 = output[1], *out2 = output[2], *out3 = output[3];
    const int16_t *vector = axis->vector;
    int32_t x, group;
    for (x = 0; x < axis->count; x++) {
        const vector_span of = axis->spans[x];
        const int is_last = x + 1 == axis->count;
        size_t offset = of.start;
        __m256i upper0 = zero, upper1 = zero, upper2 = zero, upper3 = zero;
        __m256i lower0 = zero, lower1 = zero, lower2 = zero, lower3 = zero;
        __m256i near, far, pixels;
        __m128i low, high;
        for (group = 0; group < of.groups; group++) {
            const __m256i upper = _mm256_loadu_si256((const __m256i *)vector);
            __m256i values0, values1, values2, values3;
            if (group < of.unguarded) {
                values0 = read_group(row0 + offset, order);
                values1 = read_group(row1 + offset, order);
                values2 = read_group(row2 + offset, order);
                values3 = read_group(row3 + offset, order);
            } else {
                const size_t left = row_bytes - offset < READ_BYTES ? row_bytes - offset : READ_BYTES;
                values0 = read_edge(row0 + offset, left, order);
                values1 = read_edge(row1 + offset, left, order);
                values2 = read_edge(row2 + offset, left, order);
                values3 = read_edge(row3 + offset, left, order);
            }
            upper0 = add_products(upper0, values0, upper);
            upper1 = add_products(upper1, values1, upper);
            upper2 = add_products(upper2, values2, upper);
            upper3 = add_products(upper3, values3, upper);
            if (is_split) {
                const __m256i lower = _mm256_loadu_si256((const __m256i *)(vector + LANES));
                lower0 = add_products(lower0, values0, lower);
                lower1 = add_products(lower1, values1, lower);
                lower2 = add_products(lower2, values2, lower);
                lower3 = add_products(lower3, values3, lower);
            }
            vector += is_split ? 2 * LANES : LANES;
            offset += step;
        }
        near = fold(join_parts(upper0, lower0, is_split), join_parts(upper1, lower1, is_split), channels);
        far = fold(join_parts(upper2, lower2, is_split), join_parts(upper3, lower3, is_split), channels);
        near = _mm256_sra_epi32(_mm256_add_epi32(near, half), shift);
        far = _mm256_sra_epi32(_mm256_add_epi32(far, half), shift);
        pixels = _mm256_packus_epi16(_mm256_packs_epi32(near, far), zero);
        low = _mm256_castsi256_si128(pixels);
        high = _mm256_extracti128_si256(pixels, 1);
        write_pixel(out0, _mm_cvtsi128_si32(low), channels, is_last);
        write_pixel(out1, _mm_cvtsi128_si32(high), channels, is_last);
        write_pixel(out2, _mm_extract_epi32(low, 1), channels, is_last);
        write_pixel(out3, _mm_extract_epi32(high, 1), channels, is_last);
        out0 += channels;
        out1 += channels;
        out2 += channels;
        out3 += channels;
    }
}

INLINE_AVX2 void horizontal_one_row(const uint8_t *row, uint8_t *out, size_t row_bytes, const axis_weights *axis,
                                    const int channels, const int is_split) {
    const int32_t per_group = group_taps(channels);
    const size_t step = (size_t)(per_group * channels);
    const __m256i order = byte_order(channels), zero = _mm256_setzero_si256();
    const __m256i half = _mm256_set1_epi32(axis->bits > 0 ? 1 << (axis->bits - 1) : 0);
    const __m128i shift = _mm_cvtsi32_si128(axis->bits);
    const int16_t *vector = axis->vector;
    int32_t x, group;
    for (x = 0; x < axis->count; x++) {
        const vector_span of = axis->spans[x];
        size_t offset = of.start;
        __m256i upper = zero, lower = zero, sums;
        for (group = 0; group < of.groups; group++) {
            const size_t left = row_bytes - offset < READ_BYTES ? row_bytes - offset : READ_BYTES;
            const __m256i values =
                group < of.unguarded ? read_group(row + offset, order) : read_edge(row + offset, left, order);
            upper = add_products(upper, values, _mm256_loadu_si256((const __m256i *)vector));
            if (is_split) {
                lower = add_products(lower, values, _mm256_loadu_si256((const __m256i *)(vector + LANES)));
            }
            vector += is_split ? 2 * LANES : LANES;
            offset += step;
        }
        sums = join_parts(upper, lower, is_split);
        sums = _mm256_sra_epi32(_mm256_add_epi32(fold(sums, sums, channels), half), shift);
        sums = _mm256_packus_epi16(_mm256_packs_epi32(sums, sums), zero);
        write_pixel(out, _mm_cvtsi128_si32(_mm256_castsi256_si128(sums)), channels, x + 1 == axis->count);
        out += channels;
    }
}

#define HORIZONTAL(name, channels, is_split)                                                                           \
    AVX2 static void name(const uint8_t *const *input, uint8_t *const *output, int rows, size_t row_bytes,             \
                          const axis_weights *axis) {                                                                  \
        int row;                                                                                                       \
        if (rows == BATCH_ROWS) {                                                                                      \
            horizontal_four_rows(input, output, row_bytes, axis, channels, is_split);                                  \
            return;                                                                                                    \
        }                                                                                                              \
        for (row = 0; row < rows; row++) {                                                                             \
            horizontal_one_row(input[row], output[row], row_bytes, axis, channels, is_split);                          \
        }                                                                                                              \
    }

HORIZONTAL(horizontal_1, 1, 0)
HORIZONTAL(horizontal_2, 2, 0)
HORIZONTAL(horizontal_3, 3, 0)
HORIZONTAL(horizontal_4, 4, 0)
HORIZONTAL(horizontal_1_split, 1, 1)
HORIZONTAL(horizontal_2_split, 2, 1)
HORIZONTAL(horizontal_3_split, 3, 1)
HORIZONTAL(horizontal_4_split, 4, 1)

typedef void (*horizontal_of)(const uint8_t *const *, uint8_t *const *, int, size_t, const axis_weights *);

static const horizontal_of horizontals[2][4] = {
    {horizontal_1, horizontal_2, horizontal_3, horizontal_4},
    {horizontal_1_split, horizontal_2_split, horizontal_3_split, horizontal_4_split},
};

static void horizontal(const uint8_t *const *input, uint8_t *const *output, int rows, size_t row_bytes,
                       const axis_weights *axis, int channels) {
    if (!axis->is_narrow) {
        portable_passes.horizontal(input, output, rows, row_bytes, axis, channels);
        return;
    }
    horizontals[axis->is_split != 0][channels - 1](input, output, rows, row_bytes, axis);
}

#define STRIP 32

/* The two rows of a pair are one after the other in `input`; an odd last row is paired with itself, at weight 0. */
INLINE_AVX2 void vertical_strip(const uint8_t *const *input, size_t offset, uint8_t *output, int32_t taps, int32_t bits,
                                const int32_t *pairs, const int is_split) {
    const __m256i zero = _mm256_setzero_si256();
    const __m256i half = _mm256_set1_epi32(bits > 0 ? 1 << (bits - 1) : 0);
    const __m128i shift = _mm_cvtsi32_si128(bits);
    __m256i upper[4] = {zero, zero, zero, zero}, lower[4] = {zero, zero, zero, zero};
    int32_t tap;
    int part;
    for (tap = 0; tap < taps; tap += 2) {
        const __m256i upper_weights = _mm256_set1_epi32(pairs[tap]);
        const __m256i near = _mm256_loadu_si256((const __m256i *)(input[tap] + offset));
        const __m256i far = _mm256_loadu_si256((const __m256i *)(input[tap + 1 < taps ? tap + 1 : tap] + offset));
        const __m256i low = _mm256_unpacklo_epi8(near, far), high = _mm256_unpackhi_epi8(near, far);
        const __m256i values[4] = {_mm256_unpacklo_epi8(low, zero), _mm256_unpackhi_epi8(low, zero),
                                   _mm256_unpacklo_epi8(high, zero), _mm256_unpackhi_epi8(high, zero)};
        for (part = 0; part < 4; part++) {
            upper[part] = _mm256_add_epi32(upper[part], _mm256_madd_epi16(values[part], upper_weights));
        }
        if (is_split) {
            const __m256i lower_weights = _mm256_set1_epi32(pairs[tap + 1]);
            for (part = 0; part < 4; part++) {
                lower[part] = _mm256_add_epi32(lower[part], _mm256_madd_epi16(values[part], lower_weights));
            }
        }
    }
    for (part = 0; part < 4; part++) {
        if (is_split) {
            upper[part] = _mm256_add_epi32(_mm256_slli_epi32(upper[part], 8), lower[part]);
        }
        upper[part] = _mm256_sra_epi32(_mm256_add_epi32(upper[part], half), shift);
    }
    _mm256_storeu_si256((__m256i *)(output + offset), _mm256_packus_epi16(_mm256_packs_epi32(upper[0], upper[1]),
                                                               _mm256_packs_epi32(upper[2], upper[3])));
}

INLINE_AVX2 void vertical_row(const uint8_t *const *input, uint8_t *output, size_t row_bytes, int32_t taps,
                              int32_t bits, const int32_t *pairs, const int is_split) {
    size_t offset;
    for (offset = 0; offset + STRIP <= row_bytes; offset += STRIP) {
        vertical_strip(input, offset, output, taps, bits, pairs, is_split);
    }
    if (offset < row_bytes) {
        vertical_strip(input, row_bytes - STRIP, output, taps, bits, pairs, is_split); /* some bytes once more */
    }
}

AVX2 static void vertical_whole(const uint8_t *const *input, uint8_t *output, size_t row_bytes, int32_t taps,
                                int32_t bits, const int32_t *pairs) {
    vertical_row(input, output, row_bytes, taps, bits, pairs, 0);
}

AVX2 static void vertical_split(const uint8_t *const *input, uint8_t *output, size_t row_bytes, int32_t taps,
                                int32_t bits, const int32_t *pairs) {
    vertical_row(input, output, row_bytes, taps, bits, pairs, 1);
}

static int32_t pair(int32_t near, int32_t far) { return (int32_t)(((uint32_t)far << 16) | ((uint32_t)near & 0xffff)); }

static void vertical(const uint8_t *const *input, uint8_t *output, size_t row_bytes, const int32_t *weights,
                     int32_t taps, const axis_weights *axis, int32_t *pairs) {
    int32_t tap;
    if (!axis->is_narrow || row_bytes < STRIP) {
        portable_passes.vertical(input, output, row_bytes, weights, taps, axis, pairs);
        return;
    }
    for (tap = 0; tap < taps; tap += 2) {
        int32_t near = weights[tap], far = tap + 1 < taps ? weights[tap + 1] : 0;
        pairs[tap] = axis->is_split ? pair(near >> 8, far >> 8) : pair(near, far);
        pairs[tap + 1] = axis->is_split ? pair(near & 255, far & 255) : 0;
    }
    (axis->is_split ? vertical_split : vertical_whole)(input, output, row_bytes, taps, axis->bits, pairs);
}

const pass_functions avx2_passes = {horizontal, vertical, vector_bytes, order_weights};

#else
typedef int no_avx2_here; /* a file of C is not empty */
#endif
