/* What the kernel's own files share. */
#ifndef TRUECOPY_INTERNAL_H
#define TRUECOPY_INTERNAL_H

#include "truecopy_kernels.h"

#include <string.h>

#if defined(__x86_64__) || defined(_M_X64)
#define TRUECOPY_HAS_AVX2 1
#else
#define TRUECOPY_HAS_AVX2 0
#endif
/* Of the compilers that name instructions per function. */
#if TRUECOPY_HAS_AVX2 && defined(__GNUC__)
#define TRUECOPY_HAS_AVX512 1
#else
#define TRUECOPY_HAS_AVX512 0
#endif
#if defined(__aarch64__) || defined(_M_ARM64)
#define TRUECOPY_HAS_NEON 1
#else
#define TRUECOPY_HAS_NEON 0
#endif

/* Rows that a horizontal pass takes at once. */
#define BATCH_ROWS 4

/* Extra bytes behind each row of scratch memory, so that rows start on their own cache lines. */
#define ROW_ALIGNMENT 64

/* Which bytes of a row an output pixel takes, in groups of 16. */
typedef struct {
    uint32_t start;    /* the first */
    int32_t groups;    /* how many groups */
    int32_t unguarded; /* how many of the first groups lie in the row with all their bytes */
} vector_span;

/* One axis of a resize: `count` output pixels, each a weighted sum of up to `max_taps` input pixels. */
typedef struct {
    int32_t count;
    int32_t max_taps;
    int32_t bits;        /* weights are integers, in units of 2^-bits */
    int32_t is_narrow;   /* whether every weight fits the vector paths' 16-bit parts */
    int32_t is_split;    /* whether the vector paths need a second, lower part of each weight */
    int32_t *first;      /* [count] first input pixel */
    int32_t *taps;       /* [count] number of input pixels */
    int32_t *weights;    /* [count][max_taps], zeros behind an output's own taps */
    void *vector;        /* horizontal passes of vectors: weights in the order of their registers, output by output */
    vector_span *spans;  /* and which bytes they are for, [count] */
} axis_weights;

/* Horizontal: `rows` input rows (at most BATCH_ROWS) of `row_bytes` to `axis->count` output pixels each. */
typedef void (*horizontal_pass)(const uint8_t *const *input, uint8_t *const *output, int rows, size_t row_bytes,
                                const axis_weights *axis, int channels);

/* Room for the weights of a vertical pass in the order of its registers. */
#define ORDERED_WEIGHTS(taps) ((taps) + 4)

/* Vertical: one output row of `row_bytes` from `taps` input rows; `pairs` is room for ORDERED_WEIGHTS(taps). */
typedef void (*vertical_pass)(const uint8_t *const *input, uint8_t *output, size_t row_bytes, const int32_t *weights,
                              int32_t taps, const axis_weights *axis, int32_t *pairs);

/* `vector_bytes` is how many an output pixel takes of `axis->vector`, at most; `order_weights` fills that and the spans,
 * for rows of `row_bytes`. Both are NULL where horizontal passes take the weights as they are. */
typedef struct {
    horizontal_pass horizontal;
    vertical_pass vertical;
    size_t (*vector_bytes)(int32_t taps, int channels);
    void (*order_weights)(axis_weights *axis, int channels, size_t row_bytes);
} pass_functions;

extern const pass_functions portable_passes;
#if TRUECOPY_HAS_AVX2
extern const pass_functions avx2_passes;
#endif
#if TRUECOPY_HAS_AVX512
extern const pass_functions avx512_passes;
#endif
#if TRUECOPY_HAS_NEON
extern const pass_functions neon_passes;
#endif

/* weights.c: the most taps of an axis; the rest of an axis whose arrays are there. */
int64_t most_taps(int64_t size, int64_t resized, int filter);
void fill_weights(axis_weights *axis, int64_t size, int64_t resized, int64_t start, int filter, int arithmetic,
                  double *row);

/* scratch.c: this thread's memory, at least `bytes` of it, or NULL; `release` gives back what is too much to keep. */
void *scratch_acquire(size_t bytes);
void scratch_release(void);

/* Which bytes the groups of `per_group` taps of an output pixel read, `read_bytes` each. */
static inline vector_span span_of(const axis_weights *axis, int32_t output, int32_t per_group, int channels,
                                  size_t row_bytes, size_t read_bytes) {
    const size_t start = (size_t)axis->first[output] * (size_t)channels, room = row_bytes - start;
    vector_span span;
    span.start = (uint32_t)start;
    span.groups = (axis->taps[output] + per_group - 1) / per_group;
    span.unguarded =
        room < read_bytes ? 0 : (int32_t)((room - read_bytes) / (size_t)(per_group * channels) + 1);
    return span;
}

static inline void write_pixel(uint8_t *out, int32_t pixel, const int channels, int is_last) {
    if (channels == 4 || (channels == 3 && !is_last)) {
        memcpy(out, &pixel, 4); /* of three channels, the fourth byte is the next pixel's first, which follows */
    } else {
        memcpy(out, &pixel, (size_t)channels);
    }
}

static inline uint8_t clip_to_byte(int32_t value) {
    return (uint8_t)(value < 0 ? 0 : value > 255 ? 255 : value);
}

static inline int is_side(int64_t length) { return length >= 1 && length <= TRUECOPY_MAX_SIDE; }

/* Whether rows of `row_bytes` do not overlap, and the last one's address fits. */
static inline int is_stride(int64_t stride, int64_t rows, int64_t row_bytes) {
    int64_t limit = (int64_t)(PTRDIFF_MAX / 4);
    if (rows == 1) {
        return 1;
    }
    if (stride < -limit || stride > limit) {
        return 0;
    }
    stride = stride < 0 ? -stride : stride;
    return stride >= row_bytes && stride <= limit / rows;
}

static inline int is_window(int64_t start, int64_t length, int64_t resized) {
    return start >= 0 && length >= 1 && length <= resized && start <= resized - length;
}

#endif
