/* Passes with NEON, which every 64-bit ARM processor has: four 32-bit products at once. */
#include "internal.h"

#if TRUECOPY_HAS_NEON
#include <arm_neon.h>
#include <string.h>

/* `channels` is a constant where this is inlined; a pixel's channels are the lanes of one register. */
static inline void horizontal_row(const uint8_t *row, uint8_t *out, size_t row_bytes, const axis_weights *axis,
                                  const int channels) {
    const int32x4_t half = vdupq_n_s32(axis->bits > 0 ? 1 << (axis->bits - 1) : 0);
    const int32x4_t shift = vdupq_n_s32(-axis->bits);
    int32_t x, tap;
    for (x = 0; x < axis->count; x++) {
        const size_t start = (size_t)axis->first[x] * (size_t)channels;
        const int32_t *weights = axis->weights + (size_t)x * (size_t)axis->max_taps;
        int32x4_t sums = half;
        uint8_t bytes[8];
        for (tap = 0; tap < axis->taps[x]; tap++) {
            const size_t offset = start + (size_t)tap * (size_t)channels;
            uint32_t pixel = 0;
            if (channels != 4 && offset + 4 <= row_bytes) {
                memcpy(&pixel, row + offset, 4);
            } else {
                memcpy(&pixel, row + offset, (size_t)channels);
            }
            {
                uint16x8_t wide = vmovl_u8(vcreate_u8(pixel));
                int32x4_t values = vreinterpretq_s32_u32(vmovl_u16(vget_low_u16(wide)));
                sums = vmlaq_n_s32(sums, values, weights[tap]);
            }
        }
        sums = vshlq_s32(sums, shift);
        {
            uint16x4_t narrow = vqmovun_s32(sums);
            vst1_u8(bytes, vqmovn_u16(vcombine_u16(narrow, narrow)));
        }
        memcpy(out, bytes, (size_t)channels);
        out += channels;
    }
}

/* One channel: eight taps at once. */
static void horizontal_gray(const uint8_t *row, uint8_t *out, const axis_weights *axis) {
    const int32_t half = axis->bits > 0 ? 1 << (axis->bits - 1) : 0;
    int32_t x, tap;
    for (x = 0; x < axis->count; x++) {
        const uint8_t *pixels = row + axis->first[x];
        const int32_t *weights = axis->weights + (size_t)x * (size_t)axis->max_taps;
        const int32_t taps = axis->taps[x];
        int32x4_t sums = vdupq_n_s32(0);
        int32_t sum;
        for (tap = 0; tap + 8 <= taps; tap += 8) {
            uint16x8_t wide = vmovl_u8(vld1_u8(pixels + tap));
            sums = vmlaq_s32(sums, vreinterpretq_s32_u32(vmovl_u16(vget_low_u16(wide))), vld1q_s32(weights + tap));
            sums = vmlaq_s32(sums, vreinterpretq_s32_u32(vmovl_u16(vget_high_u16(wide))), vld1q_s32(weights + tap + 4));
        }
        sum = half + vaddvq_s32(sums);
        for (; tap < taps; tap++) {
            sum += weights[tap] * pixels[tap];
        }
        out[x] = clip_to_byte(sum >> axis->bits);
    }
}

static void horizontal(const uint8_t *const *input, uint8_t *const *output, int rows, size_t row_bytes,
                       const axis_weights *axis, int channels) {
    int row;
    for (row = 0; row < rows; row++) {
        switch (channels) {
        case 1:
            horizontal_gray(input[row], output[row], axis);
            break;
        case 2:
            horizontal_row(input[row], output[row], row_bytes, axis, 2);
            break;
        case 3:
            horizontal_row(input[row], output[row], row_bytes, axis, 3);
            break;
        default:
            horizontal_row(input[row], output[row], row_bytes, axis, 4);
        }
    }
}

#define STRIP 16

static void vertical_strip(const uint8_t *const *input, size_t offset, uint8_t *output, const int32_t *weights,
                           int32_t taps, int32_t bits) {
    const int32x4_t half = vdupq_n_s32(bits > 0 ? 1 << (bits - 1) : 0);
    const int32x4_t shift = vdupq_n_s32(-bits);
    int32x4_t sums[4] = {half, half, half, half};
    int32_t tap;
    for (tap = 0; tap < taps; tap++) {
        const uint8x16_t bytes = vld1q_u8(input[tap] + offset);
        const uint16x8_t low = vmovl_u8(vget_low_u8(bytes)), high = vmovl_u8(vget_high_u8(bytes));
        sums[0] = vmlaq_n_s32(sums[0], vreinterpretq_s32_u32(vmovl_u16(vget_low_u16(low))), weights[tap]);
        sums[1] = vmlaq_n_s32(sums[1], vreinterpretq_s32_u32(vmovl_u16(vget_high_u16(low))), weights[tap]);
        sums[2] = vmlaq_n_s32(sums[2], vreinterpretq_s32_u32(vmovl_u16(vget_low_u16(high))), weights[tap]);
        sums[3] = vmlaq_n_s32(sums[3], vreinterpretq_s32_u32(vmovl_u16(vget_high_u16(high))), weights[tap]);
    }
    {
        uint16x8_t low = vcombine_u16(vqmovun_s32(vshlq_s32(sums[0], shift)), vqmovun_s32(vshlq_s32(sums[1], shift)));
        uint16x8_t high = vcombine_u16(vqmovun_s32(vshlq_s32(sums[2], shift)), vqmovun_s32(vshlq_s32(sums[3], shift)));
        vst1q_u8(output + offset, vcombine_u8(vqmovn_u16(low), vqmovn_u16(high)));
    }
}

static void vertical(const uint8_t *const *input, uint8_t *output, size_t row_bytes, const int32_t *weights,
                     int32_t taps, const axis_weights *axis, int32_t *pairs) {
    size_t offset;
    if (row_bytes < STRIP) {
        portable_passes.vertical(input, output, row_bytes, weights, taps, axis, pairs);
        return;
    }
    for (offset = 0; offset + STRIP <= row_bytes; offset += STRIP) {
        vertical_strip(input, offset, output, weights, taps, axis->bits);
    }
    if (offset < row_bytes) {
        vertical_strip(input, row_bytes - STRIP, output, weights, taps, axis->bits); /* some bytes once more */
    }
}

const pass_functions neon_passes = {horizontal, vertical, NULL, NULL};

#else
typedef int no_neon_here; /* a file of C is not empty */
#endif
