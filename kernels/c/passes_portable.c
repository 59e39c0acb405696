/* Passes in plain C: for every processor, and the pixels at the edges of the vector paths. */
#include "internal.h"

static void horizontal(const uint8_t *const *input, uint8_t *const *output, int rows, size_t row_bytes,
                       const axis_weights *axis, int channels) {
    int32_t half = axis->bits > 0 ? 1 << (axis->bits - 1) : 0;
    int row, channel;
    int32_t x, tap;
    (void)row_bytes;
    for (row = 0; row < rows; row++) {
        uint8_t *out = output[row];
        for (x = 0; x < axis->count; x++) {
            const uint8_t *pixel = input[row] + (size_t)axis->first[x] * (size_t)channels;
            const int32_t *weights = axis->weights + (size_t)x * (size_t)axis->max_taps;
            int32_t sums[4] = {half, half, half, half};
            for (tap = 0; tap < axis->taps[x]; tap++) {
                for (channel = 0; channel < channels; channel++) {
                    sums[channel] += weights[tap] * pixel[channel];
                }
                pixel += channels;
            }
            for (channel = 0; channel < channels; channel++) {
                out[channel] = clip_to_byte(sums[channel] >> axis->bits);
            }
            out += channels;
        }
    }
}

/* Enough bytes at once for a compiler's own vectors. */
#define STRIP 64

static void vertical(const uint8_t *const *input, uint8_t *output, size_t row_bytes, const int32_t *weights,
                     int32_t taps, const axis_weights *axis, int32_t *pairs) {
    int32_t half = axis->bits > 0 ? 1 << (axis->bits - 1) : 0;
    size_t start, x;
    int32_t tap;
    (void)pairs;
    for (start = 0; start < row_bytes; start += STRIP) {
        size_t length = row_bytes - start < STRIP ? row_bytes - start : STRIP;
        int32_t sums[STRIP];
        for (x = 0; x < length; x++) {
            sums[x] = half;
        }
        for (tap = 0; tap < taps; tap++) {
            const uint8_t *row = input[tap] + start;
            int32_t weight = weights[tap];
            for (x = 0; x < length; x++) {
                sums[x] += weight * row[x];
            }
        }
        for (x = 0; x < length; x++) {
            output[start + x] = clip_to_byte(sums[x] >> axis->bits);
        }
    }
}

const pass_functions portable_passes = {horizontal, vertical, NULL, NULL};
