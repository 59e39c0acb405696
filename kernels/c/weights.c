/* The weights of Pillow's and torch's filters, in the arithmetic of both libraries.
 *
 * Pillow: precompute_coeffs and normalize_coeffs_8bpc in its Resample.c. torch: compute_index_ranges_int16_weights in
 * its UpSampleKernel.cpp. All of it is float64; no multiplication may be fused with an addition (-ffp-contract=off). */
#include "internal.h"

#include <math.h>

#if defined(__clang__) || defined(_MSC_VER)
#pragma STDC FP_CONTRACT OFF
#endif

#define PI 3.14159265358979323846
#define PILLOW_BITS 22
#define TORCH_MAX_BITS 22
#define INT16_LIMIT (1 << 15)
/* Above it, a sum of the weights' lower bytes times 255 would not fit an int32. */
#define MAX_VECTOR_TAPS 32768

static double filter_support(int filter) {
    switch (filter) {
    case TRUECOPY_BOX:
        return 0.5;
    case TRUECOPY_BICUBIC:
        return 2.0;
    case TRUECOPY_LANCZOS:
        return 3.0;
    default:
        return 1.0;
    }
}

static double sinc(double x) {
    if (x == 0.0) {
        return 1.0;
    }
    x = x * PI;
    return sin(x) / x;
}

static double filter_value(int filter, double x) {
    switch (filter) {
    case TRUECOPY_BOX:
        return x > -0.5 && x <= 0.5 ? 1.0 : 0.0;
    case TRUECOPY_BILINEAR:
        x = fabs(x);
        return x < 1.0 ? 1.0 - x : 0.0;
    case TRUECOPY_HAMMING:
        x = fabs(x);
        if (x == 0.0) {
            return 1.0;
        }
        if (x >= 1.0) {
            return 0.0;
        }
        x = x * PI;
        /* Pillow writes these two constants as float32. */
        return sin(x) / x * (0.54f + 0.46f * cos(x));
    case TRUECOPY_BICUBIC:
        x = fabs(x);
        if (x < 1.0) {
            return (1.5 * x - 2.5) * x * x + 1;
        }
        return x < 2.0 ? (((x - 5) * x + 8) * x - 4) * -0.5 : 0.0;
    default:
        return -3.0 <= x && x < 3.0 ? sinc(x) * sinc(x / 3) : 0.0;
    }
}

typedef struct {
    double scale;
    double stretch;
    double support;
    int64_t size;
    int filter;
} axis_geometry;

static axis_geometry geometry_of(int64_t size, int64_t resized, int filter) {
    axis_geometry geometry;
    geometry.scale = (double)size / (double)resized;
    geometry.stretch = geometry.scale < 1.0 ? 1.0 : geometry.scale;
    geometry.support = filter_support(filter) * geometry.stretch;
    geometry.size = size;
    geometry.filter = filter;
    return geometry;
}

int64_t most_taps(int64_t size, int64_t resized, int filter) {
    axis_geometry geometry = geometry_of(size, resized, filter);
    int64_t taps = (int64_t)ceil(geometry.support) * 2 + 1;
    return taps < size ? taps : size;
}

/* Write the weights of output pixel `index` into `row`; return how many, and the first input pixel in `*first`. */
static int32_t compute_row(const axis_geometry *geometry, int64_t index, int64_t most, double *row, int32_t *first) {
    double center = ((double)index + 0.5) * geometry->scale;
    double inverse = 1.0 / geometry->stretch;
    double total = 0.0;
    int64_t start = (int64_t)(center - geometry->support + 0.5);
    int64_t end = (int64_t)(center + geometry->support + 0.5);
    int64_t taps, tap;
    start = start < 0 ? 0 : start;
    end = end > geometry->size ? geometry->size : end;
    taps = end - start;
    taps = taps < 0 ? 0 : taps > most ? most : taps;
    for (tap = 0; tap < taps; tap++) {
        double weight = filter_value(geometry->filter, ((double)(tap + start) - center + 0.5) * inverse);
        row[tap] = weight;
        total += weight;
    }
    if (total != 0.0) {
        for (tap = 0; tap < taps; tap++) {
            row[tap] /= total;
        }
    }
    *first = (int32_t)start;
    return (int32_t)taps;
}

/* In how many bits the largest weight of all output pixels, in the window or not, still fits an int16. */
static int32_t torch_bits(const axis_geometry *geometry, int64_t resized, int64_t most, double *row) {
    double largest = 0.0;
    int32_t bits = 0, first;
    int64_t index;
    for (index = 0; index < resized; index++) {
        int32_t taps = compute_row(geometry, index, most, row, &first), tap;
        for (tap = 0; tap < taps; tap++) {
            largest = row[tap] > largest ? row[tap] : largest;
        }
    }
    while (bits < TORCH_MAX_BITS && (int64_t)(0.5 + largest * (double)(1 << (bits + 1))) < INT16_LIMIT) {
        bits++;
    }
    return bits;
}

void fill_weights(axis_weights *axis, int64_t size, int64_t resized, int64_t start, int filter, int arithmetic,
                  double *row) {
    axis_geometry geometry = geometry_of(size, resized, filter);
    int32_t limit = INT16_LIMIT - 1, output, tap;
    double one;
    axis->is_split = arithmetic == TRUECOPY_PILLOW;
    axis->bits = axis->is_split ? PILLOW_BITS : torch_bits(&geometry, resized, axis->max_taps, row);
    one = (double)(1 << axis->bits);
    if (axis->is_split) {
        limit = INT8_MAX << 16; /* three signed bytes, or an int16 and a byte */
    }
    axis->is_narrow = axis->max_taps <= MAX_VECTOR_TAPS;
    for (output = 0; output < axis->count; output++) {
        int32_t *weights = axis->weights + (size_t)output * (size_t)axis->max_taps;
        int32_t taps = compute_row(&geometry, start + output, axis->max_taps, row, &axis->first[output]);
        for (tap = 0; tap < taps; tap++) {
            int32_t weight = (int32_t)((row[tap] < 0 ? -0.5 : 0.5) + row[tap] * one);
            weights[tap] = weight;
            if (weight > limit || weight < -limit) {
                axis->is_narrow = 0;
            }
        }
        for (; tap < axis->max_taps; tap++) {
            weights[tap] = 0;
        }
        axis->taps[output] = taps;
    }
}
