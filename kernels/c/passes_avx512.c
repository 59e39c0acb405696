/* Passes with AVX-512 and its VNNI instructions.
 *
 * A weight is three signed bytes, `high * 65536 + middle * 256 + low`. One instruction multiplies 64 pixels by as many
 * of these bytes, and adds four neighbors. Sums are modulo 2^32, and the whole sum fits an int32, so nothing is lost. */
#include "internal.h"

#if TRUECOPY_HAS_AVX512
#include <immintrin.h>
#include <string.h>

#define AVX512 __attribute__((target("avx512f,avx512bw,avx512vl,avx512vnni")))
#define INLINE_AVX512 static inline __attribute__((always_inline, target("avx512f,avx512bw,avx512vl,avx512vnni")))

#define READ_BYTES 16
#define STRIP 64
#define PARTS 3
#define ROW_TAPS 4

/* Pixels of a row that are written at once. */
#define PIXELS 4

static inline int32_t group_taps(int channels) { return channels == 1 ? 16 : channels == 2 ? 8 : 4; }

/* A group's weights are three parts of as many bytes as it reads. */
static size_t vector_bytes(int32_t taps, int channels) {
    size_t groups = ((size_t)taps + (size_t)group_taps(channels) - 1) / (size_t)group_taps(channels);
    return groups * READ_BYTES * PARTS;
}

/* Write the low, the middle and the high byte of a weight into three parts that are `stride` bytes apart. */
static inline void split_weight(int32_t weight, uint8_t *part, size_t stride) {
    const int32_t low = (int8_t)(weight & 255), rest = (weight - low) >> 8;
    const int32_t middle = (int8_t)(rest & 255), high = (rest - middle) >> 8;
    part[0] = (uint8_t)low;
    part[stride] = (uint8_t)middle;
    part[2 * stride] = (uint8_t)high;
}

/* Which of a group's taps each byte of a register is for: four neighbors of one channel follow each other. */
static int32_t byte_tap(int byte, int channels) {
    const int word = byte / 4;
    return byte % 4 + (channels == 1 ? 4 * word : channels == 2 ? word / 2 * 4 : 0);
}

static void order_weights(axis_weights *axis, int channels, size_t row_bytes) {
    const int32_t per_group = group_taps(channels);
    uint8_t *vector = axis->vector;
    int32_t output, group;
    int byte;
    for (output = 0; output < axis->count; output++) {
        const int32_t *weights = axis->weights + (size_t)output * (size_t)axis->max_taps;
        const int32_t taps = axis->taps[output];
        axis->spans[output] = span_of(axis, output, per_group, channels, row_bytes, READ_BYTES);
        for (group = 0; group < axis->spans[output].groups; group++) {
            for (byte = 0; byte < READ_BYTES; byte++) {
                const int32_t tap = group * per_group + byte_tap(byte, channels);
                split_weight(tap < taps ? weights[tap] : 0, vector + byte, READ_BYTES);
            }
            vector += READ_BYTES * PARTS;
        }
    }
}

/* The order in which a group's bytes are multiplied, in each quarter of a register. */
INLINE_AVX512 __m512i byte_order(int channels) {
    const char z = -1;
    switch (channels) {
    case 1:
        return _mm512_broadcast_i32x4(_mm_setr_epi8(0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15));
    case 2:
        return _mm512_broadcast_i32x4(_mm_setr_epi8(0, 2, 4, 6, 1, 3, 5, 7, 8, 10, 12, 14, 9, 11, 13, 15));
    case 3:
        return _mm512_broadcast_i32x4(_mm_setr_epi8(0, 3, 6, 9, 1, 4, 7, 10, 2, 5, 8, 11, z, z, z, z));
    default:
        return _mm512_broadcast_i32x4(_mm_setr_epi8(0, 4, 8, 12, 1, 5, 9, 13, 2, 6, 10, 14, 3, 7, 11, 15));
    }
}

/* Sixteen bytes of each of four rows, one after the other. */
INLINE_AVX512 __m512i read_rows(const uint8_t *row0, const uint8_t *row1, const uint8_t *row2, const uint8_t *row3) {
    __m512i rows = _mm512_castsi128_si512(_mm_loadu_si128((const __m128i *)row0));
    rows = _mm512_inserti32x4(rows, _mm_loadu_si128((const __m128i *)row1), 1);
    rows = _mm512_inserti32x4(rows, _mm_loadu_si128((const __m128i *)row2), 2);
    return _mm512_inserti32x4(rows, _mm_loadu_si128((const __m128i *)row3), 3);
}

/* The same, of the `left` bytes that lie in the rows. */
INLINE_AVX512 __m512i read_edges(const uint8_t *row0, const uint8_t *row1, const uint8_t *row2, const uint8_t *row3,
                                 size_t left) {
    uint8_t edges[BATCH_ROWS][READ_BYTES] = {{0}};
    left = left < READ_BYTES ? left : READ_BYTES;
    memcpy(edges[0], row0, left);
    memcpy(edges[1], row1, left);
    memcpy(edges[2], row2, left);
    memcpy(edges[3], row3, left);
    return _mm512_loadu_si512(edges);
}

INLINE_AVX512 __m512i add_products(__m512i sums, __m512i values, const uint8_t *weights) {
    return _mm512_dpbusd_epi32(sums, values,
                               _mm512_broadcast_i32x4(_mm_loadu_si128((const __m128i *)(const void *)weights)));
}

INLINE_AVX512 __m512i join_parts(__m512i low, __m512i middle, __m512i high, __m512i half, __m128i shift) {
    const __m512i sums = _mm512_add_epi32(_mm512_slli_epi32(high, 16), _mm512_slli_epi32(middle, 8));
    return _mm512_sra_epi32(_mm512_add_epi32(_mm512_add_epi32(sums, low), half), shift);
}

/* Four rows that are resized, and how. */
typedef struct {
    const uint8_t *row0, *row1, *row2, *row3;
    size_t row_bytes;
    const vector_span *spans;
    __m512i order;
    __m512i half;
    __m128i shift;
} four_rows;

/* One output pixel of four rows: its channels in the first words of a quarter each; `*vector` goes on behind its weights.
 * `channels` is a constant where these are inlined. */
INLINE_AVX512 __m512i resize_pixel(const four_rows *of, int32_t x, const uint8_t **vector, const int channels) {
    const size_t step = (size_t)(group_taps(channels) * channels);
    const vector_span span = of->spans[x];
    const uint8_t *weights = *vector;
    size_t offset = span.start;
    __m512i low = _mm512_setzero_si512(), middle = low, high = low;
    int32_t group;
    for (group = 0; group < span.groups; group++) {
        const __m512i bytes = group < span.unguarded
                                  ? read_rows(of->row0 + offset, of->row1 + offset, of->row2 + offset, of->row3 + offset)
                                  : read_edges(of->row0 + offset, of->row1 + offset, of->row2 + offset,
                                               of->row3 + offset, of->row_bytes - offset);
        const __m512i values = _mm512_shuffle_epi8(bytes, of->order);
        low = add_products(low, values, weights);
        middle = add_products(middle, values, weights + READ_BYTES);
        high = add_products(high, values, weights + 2 * READ_BYTES);
        weights += READ_BYTES * PARTS;
        offset += step;
    }
    *vector = weights;
    low = _mm512_add_epi32(_mm512_add_epi32(_mm512_slli_epi32(high, 16), _mm512_slli_epi32(middle, 8)), low);
    if (channels <= 2) { /* the taps of a channel lie in two words or in four */
        low = _mm512_add_epi32(low, _mm512_shuffle_epi32(low, _MM_PERM_BADC));
    }
    if (channels == 1) {
        low = _mm512_add_epi32(low, _mm512_shuffle_epi32(low, _MM_PERM_CDAB));
    }
    return _mm512_sra_epi32(_mm512_add_epi32(low, of->half), of->shift);
}

/* Which of four pixels' words are their channels, in each quarter. */
INLINE_AVX512 __m512i channel_order(int channels) {
    const char z = -1;
    switch (channels) {
    case 1:
        return _mm512_broadcast_i32x4(_mm_setr_epi8(0, 4, 8, 12, z, z, z, z, z, z, z, z, z, z, z, z));
    case 2:
        return _mm512_broadcast_i32x4(_mm_setr_epi8(0, 1, 4, 5, 8, 9, 12, 13, z, z, z, z, z, z, z, z));
    case 3:
        return _mm512_broadcast_i32x4(_mm_setr_epi8(0, 1, 2, 4, 5, 6, 8, 9, 10, 12, 13, 14, z, z, z, z));
    default:
        return _mm512_broadcast_i32x4(_mm_setr_epi8(0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15));
    }
}

/* Four pixels of four rows as bytes, each row's in a quarter. */
INLINE_AVX512 __m512i pack_pixels(const __m512i pixels[PIXELS], const int channels) {
    const __m512i bytes = _mm512_packus_epi16(_mm512_packs_epi32(pixels[0], pixels[1]),
                                              _mm512_packs_epi32(pixels[2], pixels[3]));
    return _mm512_shuffle_epi8(bytes, channel_order(channels));
}

INLINE_AVX512 void write_bytes(uint8_t *out, __m128i bytes, const int count) {
    switch (count) {
    case 4:
        _mm_storeu_si32(out, bytes);
        break;
    case 8:
        _mm_storel_epi64((__m128i *)(void *)out, bytes);
        break;
    case 12:
        _mm_storel_epi64((__m128i *)(void *)out, bytes);
        _mm_storeu_si32(out + 8, _mm_srli_si128(bytes, 8));
        break;
    default:
        _mm_storeu_si128((__m128i *)(void *)out, bytes);
    }
}

INLINE_AVX512 void horizontal_four_rows(const uint8_t *const *input, uint8_t *const *output, size_t row_bytes,
                                        const axis_weights *axis, const int channels) {
    const four_rows of = {input[0],
                          input[1],
                          input[2],
                          input[3],
                          row_bytes,
                          axis->spans,
                          byte_order(channels),
                          _mm512_set1_epi32(axis->bits > 0 ? 1 << (axis->bits - 1) : 0),
                          _mm_cvtsi32_si128(axis->bits)};
    uint8_t *out0 = output[0], *out1 = output[1], *out2 = output[2], *out3 = output[3];
    const uint8_t *vector = axis->vector;
    int32_t x = 0;
    for (; x + PIXELS <= axis->count; x += PIXELS) {
        __m512i pixels[PIXELS], bytes;
        pixels[0] = resize_pixel(&of, x, &vector, channels);
        pixels[1] = resize_pixel(&of, x + 1, &vector, channels);
        pixels[2] = resize_pixel(&of, x + 2, &vector, channels);
        pixels[3] = resize_pixel(&of, x + 3, &vector, channels);
        bytes = pack_pixels(pixels, channels);
        write_bytes(out0, _mm512_castsi512_si128(bytes), PIXELS * channels);
        write_bytes(out1, _mm512_extracti32x4_epi32(bytes, 1), PIXELS * channels);
        write_bytes(out2, _mm512_extracti32x4_epi32(bytes, 2), PIXELS * channels);
        write_bytes(out3, _mm512_extracti32x4_epi32(bytes, 3), PIXELS * channels);
        out0 += PIXELS * channels;
        out1 += PIXELS * channels;
        out2 += PIXELS * channels;
        out3 += PIXELS * channels;
    }
    for (; x < axis->count; x++) {
        const __m512i pixel = resize_pixel(&of, x, &vector, channels);
        const __m512i pixels[PIXELS] = {pixel, pixel, pixel, pixel}, bytes = pack_pixels(pixels, channels);
        const int is_last = x + 1 == axis->count;
        write_pixel(out0, _mm_cvtsi128_si32(_mm512_castsi512_si128(bytes)), channels, is_last);
        write_pixel(out1, _mm_cvtsi128_si32(_mm512_extracti32x4_epi32(bytes, 1)), channels, is_last);
        write_pixel(out2, _mm_cvtsi128_si32(_mm512_extracti32x4_epi32(bytes, 2)), channels, is_last);
        write_pixel(out3, _mm_cvtsi128_si32(_mm512_extracti32x4_epi32(bytes, 3)), channels, is_last);
        out0 += channels;
        out1 += channels;
        out2 += channels;
        out3 += channels;
    }
}

#define HORIZONTAL(name, channels)                                                                                     \
    AVX512 static void name(const uint8_t *const *input, uint8_t *const *output, size_t row_bytes,                     \
                            const axis_weights *axis) {                                                                \
        horizontal_four_rows(input, output, row_bytes, axis, channels);                                                \
    }

HORIZONTAL(horizontal_1, 1)
HORIZONTAL(horizontal_2, 2)
HORIZONTAL(horizontal_3, 3)
HORIZONTAL(horizontal_4, 4)

typedef void (*horizontal_of)(const uint8_t *const *, uint8_t *const *, size_t, const axis_weights *);

static const horizontal_of horizontals[4] = {horizontal_1, horizontal_2, horizontal_3, horizontal_4};

static void horizontal(const uint8_t *const *input, uint8_t *const *output, int rows, size_t row_bytes,
                       const axis_weights *axis, int channels) {
    const uint8_t *four_inputs[BATCH_ROWS];
    uint8_t *four_outputs[BATCH_ROWS];
    int row;
    if (!axis->is_narrow) {
        portable_passes.horizontal(input, output, rows, row_bytes, axis, channels);
        return;
    }
    for (row = 0; row < BATCH_ROWS; row++) { /* of fewer rows, the last one again */
        four_inputs[row] = input[row < rows ? row : rows - 1];
        four_outputs[row] = output[row < rows ? row : rows - 1];
    }
    horizontals[channels - 1](four_inputs, four_outputs, row_bytes, axis);
}

INLINE_AVX512 void vertical_strip(const uint8_t *const *input, size_t offset, uint8_t *output, int32_t taps,
                                  int32_t bits, const int32_t *words) {
    const __m512i zero = _mm512_setzero_si512();
    const __m512i half = _mm512_set1_epi32(bits > 0 ? 1 << (bits - 1) : 0);
    const __m128i shift = _mm_cvtsi32_si128(bits);
    __m512i sums[PARTS][4];
    __m512i joined[4];
    int32_t tap;
    int part, quarter;
    for (part = 0; part < PARTS; part++) {
        for (quarter = 0; quarter < 4; quarter++) {
            sums[part][quarter] = zero;
        }
    }
    for (tap = 0; tap < taps; tap += ROW_TAPS, words += PARTS) {
        __m512i rows[ROW_TAPS], near_low, near_high, far_low, far_high, values[4];
        int row;
        for (row = 0; row < ROW_TAPS; row++) { /* behind the last row that again, at weight 0 */
            rows[row] = _mm512_loadu_si512(input[tap + row < taps ? tap + row : taps - 1] + offset);
        }
        near_low = _mm512_unpacklo_epi8(rows[0], rows[1]);
        near_high = _mm512_unpackhi_epi8(rows[0], rows[1]);
        far_low = _mm512_unpacklo_epi8(rows[2], rows[3]);
        far_high = _mm512_unpackhi_epi8(rows[2], rows[3]);
        values[0] = _mm512_unpacklo_epi16(near_low, far_low);
        values[1] = _mm512_unpackhi_epi16(near_low, far_low);
        values[2] = _mm512_unpacklo_epi16(near_high, far_high);
        values[3] = _mm512_unpackhi_epi16(near_high, far_high);
        for (part = 0; part < PARTS; part++) {
            const __m512i weights = _mm512_set1_epi32(words[part]);
            for (quarter = 0; quarter < 4; quarter++) {
                sums[part][quarter] = _mm512_dpbusd_epi32(sums[part][quarter], values[quarter], weights);
            }
        }
    }
    for (quarter = 0; quarter < 4; quarter++) {
        joined[quarter] = join_parts(sums[0][quarter], sums[1][quarter], sums[2][quarter], half, shift);
    }
    _mm512_storeu_si512(output + offset, _mm512_packus_epi16(_mm512_packs_epi32(joined[0], joined[1]),
                                                             _mm512_packs_epi32(joined[2], joined[3])));
}

AVX512 static void vertical_row(const uint8_t *const *input, uint8_t *output, size_t row_bytes, int32_t taps,
                                int32_t bits, const int32_t *words) {
    size_t offset;
    for (offset = 0; offset + STRIP <= row_bytes; offset += STRIP) {
        vertical_strip(input, offset, output, taps, bits, words);
    }
    if (offset < row_bytes) {
        vertical_strip(input, row_bytes - STRIP, output, taps, bits, words); /* some bytes once more */
    }
}

static void vertical(const uint8_t *const *input, uint8_t *output, size_t row_bytes, const int32_t *weights,
                     int32_t taps, const axis_weights *axis, int32_t *words) {
    int32_t tap, group = 0;
    if (!axis->is_narrow || row_bytes < STRIP) {
        avx2_passes.vertical(input, output, row_bytes, weights, taps, axis, words);
        return;
    }
    for (tap = 0; tap < taps; tap += ROW_TAPS, group += PARTS) {
        uint8_t parts[PARTS][ROW_TAPS];
        int row;
        for (row = 0; row < ROW_TAPS; row++) {
            split_weight(tap + row < taps ? weights[tap + row] : 0, &parts[0][row], ROW_TAPS);
        }
        memcpy(words + group, parts, sizeof parts);
    }
    vertical_row(input, output, row_bytes, taps, axis->bits, words);
}

const pass_functions avx512_passes = {horizontal, vertical, vector_bytes, order_weights};

#else
typedef int no_avx512_here; /* a file of C is not empty */
#endif
