/* Resize and crop: the border's checks, and the order of the passes. */
#include "internal.h"

#include <string.h>

/* What a request needs of scratch memory, laid out in one block. */
typedef struct {
    size_t bytes;
    int overflows;
} layout;

/* Reserve `count * size` bytes; return where they start. */
static size_t reserve(layout *plan, size_t count, size_t size) {
    size_t start = plan->bytes, bytes;
    if (plan->overflows || (size != 0 && count > (SIZE_MAX - ROW_ALIGNMENT) / size)) {
        plan->overflows = 1;
        return 0;
    }
    bytes = (count * size + ROW_ALIGNMENT - 1) / ROW_ALIGNMENT * ROW_ALIGNMENT;
    if (bytes > SIZE_MAX - ROW_ALIGNMENT - start) {
        plan->overflows = 1;
        return 0;
    }
    plan->bytes = start + bytes;
    return start;
}

typedef struct {
    int is_needed;
    size_t first, taps, weights, vector, spans;
    axis_weights weights_of;
} axis_plan;

static void plan_axis(axis_plan *axis, layout *plan, int64_t size, int64_t resized, int64_t count, int filter,
                      int channels, const pass_functions *passes, int is_horizontal) {
    memset(axis, 0, sizeof *axis);
    axis->is_needed = size != resized;
    if (!axis->is_needed) {
        return;
    }
    axis->weights_of.count = (int32_t)count;
    axis->weights_of.max_taps = (int32_t)most_taps(size, resized, filter);
    axis->first = reserve(plan, (size_t)count, sizeof(int32_t));
    axis->taps = reserve(plan, (size_t)count, sizeof(int32_t));
    if ((size_t)axis->weights_of.max_taps > SIZE_MAX / 64 / (size_t)count) {
        plan->overflows = 1;
        return;
    }
    axis->weights = reserve(plan, (size_t)count * (size_t)axis->weights_of.max_taps, sizeof(int32_t));
    if (is_horizontal && passes->vector_bytes != NULL) {
        axis->vector = reserve(plan, (size_t)count, passes->vector_bytes(axis->weights_of.max_taps, channels));
        axis->spans = reserve(plan, (size_t)count, sizeof(vector_span));
    }
}

static void make_axis(axis_plan *axis, uint8_t *memory, int64_t size, int64_t resized, int64_t start,
                      const truecopy_resize_request *request, double *row) {
    axis_weights *weights = &axis->weights_of;
    if (!axis->is_needed) {
        return;
    }
    weights->first = (int32_t *)(void *)(memory + axis->first);
    weights->taps = (int32_t *)(void *)(memory + axis->taps);
    weights->weights = (int32_t *)(void *)(memory + axis->weights);
    weights->vector = memory + axis->vector;
    weights->spans = (vector_span *)(void *)(memory + axis->spans);
    fill_weights(weights, size, resized, start, request->filter, request->arithmetic, row);
}

/* Make the columns' weights ready for horizontal passes over rows of `row_bytes`. */
static void order_columns(const pass_functions *passes, axis_weights *columns, int channels, size_t row_bytes) {
    if (passes->order_weights != NULL && columns->is_narrow) {
        passes->order_weights(columns, channels, row_bytes);
    }
}

/* Count the pixels that an axis takes from `start` on. */
static void count_from(axis_weights *axis, int64_t start) {
    int32_t output;
    for (output = 0; output < axis->count; output++) {
        axis->first[output] -= (int32_t)start;
    }
}

/* Whether `length` pixels from `start` on are all that an axis takes; without weights it takes its window. */
static int covers(const axis_plan *axis, int64_t window_start, int64_t window_length, int64_t start, int64_t length) {
    const axis_weights *weights = &axis->weights_of;
    int32_t output;
    if (!axis->is_needed) {
        return window_start >= start && window_start + window_length <= start + length;
    }
    for (output = 0; output < weights->count; output++) {
        if (weights->first[output] < start || weights->first[output] + weights->taps[output] > start + length) {
            return 0;
        }
    }
    return 1;
}

static const uint8_t *source_row(const truecopy_resize_request *request, int64_t row) {
    return request->source + (ptrdiff_t)((row - request->part_top) * request->source_stride);
}

static uint8_t *target_row(const truecopy_resize_request *request, int64_t row) {
    return request->target + (ptrdiff_t)(row * request->target_stride);
}

static void copy_window(const truecopy_resize_request *request) {
    int64_t row;
    for (row = 0; row < request->height; row++) {
        memcpy(target_row(request, row),
               source_row(request, request->top + row) +
                   (size_t)((request->left - request->part_left) * request->channels),
               (size_t)(request->width * request->channels));
    }
}

static void horizontal_only(const truecopy_resize_request *request, const pass_functions *passes,
                            axis_weights *columns) {
    const size_t source_bytes = (size_t)(request->part_width * request->channels);
    int64_t row;
    count_from(columns, request->part_left);
    order_columns(passes, columns, (int)request->channels, source_bytes);
    for (row = 0; row < request->height; row += BATCH_ROWS) {
        const uint8_t *input[BATCH_ROWS];
        uint8_t *output[BATCH_ROWS];
        int rows = request->height - row < BATCH_ROWS ? (int)(request->height - row) : BATCH_ROWS, index;
        for (index = 0; index < rows; index++) {
            input[index] = source_row(request, request->top + row + index);
            output[index] = target_row(request, row + index);
        }
        passes->horizontal(input, output, rows, source_bytes, columns, (int)request->channels);
    }
}

static void vertical_only(const truecopy_resize_request *request, const pass_functions *passes,
                          const axis_weights *rows, const uint8_t **input, int32_t *pairs) {
    const size_t offset = (size_t)((request->left - request->part_left) * request->channels);
    int32_t row, tap;
    for (row = 0; row < rows->count; row++) {
        for (tap = 0; tap < rows->taps[row]; tap++) {
            input[tap] = source_row(request, rows->first[row] + tap) + offset;
        }
        passes->vertical(input, target_row(request, row), (size_t)(request->width * request->channels),
                         rows->weights + (size_t)row * (size_t)rows->max_taps, rows->taps[row], rows, pairs);
    }
}

/* The horizontal pass fills a ring of rows, of which the vertical one takes what it needs. */
static void columns_then_rows(const truecopy_resize_request *request, const pass_functions *passes,
                              axis_weights *columns, const axis_weights *rows, uint8_t *ring, size_t ring_stride,
                              int32_t ring_rows, const uint8_t **input, int32_t *pairs) {
    const int channels = (int)request->channels;
    const size_t source_bytes = (size_t)(request->part_width * request->channels);
    const size_t row_bytes = (size_t)(request->width * request->channels);
    const int32_t last = rows->first[rows->count - 1] + rows->taps[rows->count - 1];
    int32_t done = rows->first[0], row, tap;
    count_from(columns, request->part_left);
    order_columns(passes, columns, channels, source_bytes);
    for (row = 0; row < rows->count; row++) {
        const int32_t first = rows->first[row], end = first + rows->taps[row];
        done = done < first ? first : done;
        while (done < end) {
            const uint8_t *from[BATCH_ROWS];
            uint8_t *to[BATCH_ROWS];
            int batch = last - done < BATCH_ROWS ? last - done : BATCH_ROWS, index;
            for (index = 0; index < batch; index++) {
                from[index] = source_row(request, done + index);
                to[index] = ring + (size_t)((done + index) % ring_rows) * ring_stride;
            }
            passes->horizontal(from, to, batch, source_bytes, columns, channels);
            done += batch;
        }
        for (tap = 0; tap < rows->taps[row]; tap++) {
            input[tap] = ring + (size_t)((first + tap) % ring_rows) * ring_stride;
        }
        passes->vertical(input, target_row(request, row), row_bytes,
                         rows->weights + (size_t)row * (size_t)rows->max_taps, rows->taps[row], rows, pairs);
    }
}

/* The vertical pass makes a few rows of the columns that the horizontal one needs. */
static void rows_then_columns(const truecopy_resize_request *request, const pass_functions *passes,
                              axis_weights *columns, const axis_weights *rows, uint8_t *ring, size_t ring_stride,
                              const uint8_t **input, int32_t *pairs) {
    const int channels = (int)request->channels;
    const int32_t left = columns->first[0], last = columns->count - 1;
    const size_t row_bytes = (size_t)(columns->first[last] + columns->taps[last] - left) * (size_t)channels;
    const size_t offset = (size_t)(left - request->part_left) * (size_t)channels;
    int32_t row, tap;
    count_from(columns, left);
    order_columns(passes, columns, channels, row_bytes);
    for (row = 0; row < rows->count; row += BATCH_ROWS) {
        const uint8_t *from[BATCH_ROWS];
        uint8_t *to[BATCH_ROWS];
        int batch = rows->count - row < BATCH_ROWS ? rows->count - row : BATCH_ROWS, index;
        for (index = 0; index < batch; index++) {
            const int32_t output = row + index;
            for (tap = 0; tap < rows->taps[output]; tap++) {
                input[tap] = source_row(request, rows->first[output] + tap) + offset;
            }
            passes->vertical(input, ring + (size_t)index * ring_stride, row_bytes,
                             rows->weights + (size_t)output * (size_t)rows->max_taps, rows->taps[output], rows, pairs);
            from[index] = ring + (size_t)index * ring_stride;
            to[index] = target_row(request, output);
        }
        passes->horizontal(from, to, batch, row_bytes, columns, channels);
    }
}

static const pass_functions *passes_of(int path) {
    if (!truecopy_has_path(path)) {
        return NULL;
    }
    switch (path) {
#if TRUECOPY_HAS_AVX2
    case TRUECOPY_AVX2:
        return &avx2_passes;
#endif
#if TRUECOPY_HAS_AVX512
    case TRUECOPY_AVX512:
        return &avx512_passes;
#endif
#if TRUECOPY_HAS_NEON
    case TRUECOPY_NEON:
        return &neon_passes;
#endif
    default:
        return &portable_passes;
    }
}

static int is_covered(const truecopy_resize_request *request, const axis_plan *columns, const axis_plan *rows) {
    return covers(columns, request->left, request->width, request->part_left, request->part_width) &&
           covers(rows, request->top, request->height, request->part_top, request->part_height);
}

static int resample(const truecopy_resize_request *request, const pass_functions *passes) {
    const int channels = (int)request->channels;
    axis_plan columns, rows;
    layout plan = {0, 0};
    size_t row, input, pairs, ring, ring_stride = 0, most = 1;
    int32_t ring_rows = 0;
    uint8_t *memory;
    plan_axis(&columns, &plan, request->source_width, request->resized_width, request->width, request->filter, channels,
              passes, 1);
    plan_axis(&rows, &plan, request->source_height, request->resized_height, request->height, request->filter, channels,
              passes, 0);
    if (!columns.is_needed && !rows.is_needed) {
        if (!is_covered(request, &columns, &rows)) {
            return TRUECOPY_BAD_ARGUMENT;
        }
        copy_window(request);
        return TRUECOPY_OK;
    }
    most = (size_t)columns.weights_of.max_taps > most ? (size_t)columns.weights_of.max_taps : most;
    most = (size_t)rows.weights_of.max_taps > most ? (size_t)rows.weights_of.max_taps : most;
    row = reserve(&plan, most, sizeof(double));
    input = reserve(&plan, most, sizeof(uint8_t *));
    pairs = reserve(&plan, ORDERED_WEIGHTS(most), sizeof(int32_t));
    if (columns.is_needed && rows.is_needed) {
        size_t bytes = (size_t)((request->rows_first ? request->source_width : request->width) * request->channels);
        ring_stride = (bytes + ROW_ALIGNMENT - 1) / ROW_ALIGNMENT * ROW_ALIGNMENT;
        ring_rows = request->rows_first ? BATCH_ROWS : rows.weights_of.max_taps + BATCH_ROWS;
    }
    ring = reserve(&plan, (size_t)ring_rows, ring_stride);
    if (plan.overflows || (memory = scratch_acquire(plan.bytes)) == NULL) {
        return TRUECOPY_NO_MEMORY;
    }
    make_axis(&columns, memory, request->source_width, request->resized_width, request->left, request,
              (double *)(void *)(memory + row));
    make_axis(&rows, memory, request->source_height, request->resized_height, request->top, request,
              (double *)(void *)(memory + row));
    if (!is_covered(request, &columns, &rows)) {
        scratch_release();
        return TRUECOPY_BAD_ARGUMENT;
    }
    {
        const uint8_t **pointers = (const uint8_t **)(void *)(memory + input);
        int32_t *pair = (int32_t *)(void *)(memory + pairs);
        if (!rows.is_needed) {
            horizontal_only(request, passes, &columns.weights_of);
        } else if (!columns.is_needed) {
            vertical_only(request, passes, &rows.weights_of, pointers, pair);
        } else if (request->rows_first) {
            rows_then_columns(request, passes, &columns.weights_of, &rows.weights_of, memory + ring, ring_stride,
                              pointers, pair);
        } else {
            columns_then_rows(request, passes, &columns.weights_of, &rows.weights_of, memory + ring, ring_stride,
                              ring_rows, pointers, pair);
        }
    }
    scratch_release();
    return TRUECOPY_OK;
}

static int is_between(int64_t position, int64_t start, int64_t length) {
    return position >= start && position < start + length;
}

/* Pillow's nearest neighbor (ImagingScaleAffine in its Geometry.c) adds the scale up, pixel by pixel. */
static int nearest(const truecopy_resize_request *request) {
    const size_t channels = (size_t)request->channels;
    const double column_scale = (double)request->source_width / (double)request->resized_width;
    const double row_scale = (double)request->source_height / (double)request->resized_height;
    layout plan = {0, 0};
    size_t start = reserve(&plan, (size_t)request->width, sizeof(int32_t));
    double position = column_scale * 0.5;
    int64_t row, column, source;
    int32_t *columns;
    uint8_t *memory;
    if (plan.overflows || (memory = scratch_acquire(plan.bytes)) == NULL) {
        return TRUECOPY_NO_MEMORY;
    }
    columns = (int32_t *)(void *)(memory + start);
    for (column = 0; column < request->left + request->width; column++, position += column_scale) {
        if (column >= request->left) {
            source = (int64_t)position;
            columns[column - request->left] = (int32_t)(source < request->source_width ? source - request->part_left : -1);
            if (source < request->source_width && !is_between(source, request->part_left, request->part_width)) {
                scratch_release();
                return TRUECOPY_BAD_ARGUMENT;
            }
        }
    }
    position = row_scale * 0.5;
    for (row = 0; row < request->top + request->height; row++, position += row_scale) {
        uint8_t *out;
        const uint8_t *line;
        if (row < request->top) {
            continue;
        }
        out = target_row(request, row - request->top);
        source = (int64_t)position;
        if (source >= request->source_height) { /* Pillow leaves zeros beyond the image */
            memset(out, 0, (size_t)request->width * channels);
            continue;
        }
        if (!is_between(source, request->part_top, request->part_height)) {
            scratch_release();
            return TRUECOPY_BAD_ARGUMENT;
        }
        line = source_row(request, source);
        for (column = 0; column < request->width; column++, out += channels) {
            if (columns[column] < 0) {
                memset(out, 0, channels);
            } else {
                const uint8_t *pixel = line + (size_t)columns[column] * channels;
                size_t channel;
                for (channel = 0; channel < channels; channel++) {
                    out[channel] = pixel[channel];
                }
            }
        }
    }
    scratch_release();
    return TRUECOPY_OK;
}

int truecopy_resize(const truecopy_resize_request *request) {
    const pass_functions *passes;
    int path;
    if (request == NULL || request->source == NULL || request->target == NULL || request->channels < 1 ||
        request->channels > 4 || request->filter < TRUECOPY_NEAREST || request->filter > TRUECOPY_LANCZOS ||
        request->arithmetic < TRUECOPY_PILLOW || request->arithmetic > TRUECOPY_TORCH) {
        return TRUECOPY_BAD_ARGUMENT;
    }
    if (request->arithmetic == TRUECOPY_TORCH && request->filter != TRUECOPY_BILINEAR &&
        request->filter != TRUECOPY_BICUBIC) {
        return TRUECOPY_BAD_ARGUMENT;
    }
    if (!is_side(request->source_height) || !is_side(request->source_width) || !is_side(request->resized_height) ||
        !is_side(request->resized_width)) {
        return TRUECOPY_BAD_SIZE;
    }
    if (!is_window(request->top, request->height, request->resized_height) ||
        !is_window(request->left, request->width, request->resized_width) ||
        !is_window(request->part_top, request->part_height, request->source_height) ||
        !is_window(request->part_left, request->part_width, request->source_width)) {
        return TRUECOPY_BAD_ARGUMENT;
    }
    if (!is_stride(request->source_stride, request->part_height, request->part_width * request->channels) ||
        !is_stride(request->target_stride, request->height, request->width * request->channels)) {
        return TRUECOPY_BAD_SIZE;
    }
    path = request->path == TRUECOPY_AUTO ? truecopy_best_path() : request->path;
    passes = passes_of(path);
    if (passes == NULL) {
        return TRUECOPY_NO_PATH;
    }
    if (request->filter == TRUECOPY_NEAREST) {
        return nearest(request);
    }
    return resample(request, passes);
}

int truecopy_gray(const uint8_t *source, int64_t source_stride, int64_t height, int64_t width, int64_t channels,
                  uint8_t *target, int64_t target_stride) {
    int64_t row, column;
    if (source == NULL || target == NULL || channels < 3 || channels > 4) {
        return TRUECOPY_BAD_ARGUMENT;
    }
    if (!is_side(height) || !is_side(width) || !is_stride(source_stride, height, width * channels) ||
        !is_stride(target_stride, height, width)) {
        return TRUECOPY_BAD_SIZE;
    }
    for (row = 0; row < height; row++) {
        const uint8_t *pixel = source + (ptrdiff_t)(row * source_stride);
        uint8_t *out = target + (ptrdiff_t)(row * target_stride);
        for (column = 0; column < width; column++, pixel += channels) {
            /* L24 in Pillow's Convert.c: ITU-R 601-2 in 16 bits, rounded. */
            out[column] = (uint8_t)((pixel[0] * 19595u + pixel[1] * 38470u + pixel[2] * 7471u + 0x8000u) >> 16);
        }
    }
    return TRUECOPY_OK;
}

int truecopy_abi(void) { return TRUECOPY_ABI; }
