/* What the kernel's own files share. */
#ifndef TRUECOPY_INTERNAL_H
#define TRUECOPY_INTERNAL_H

#include "truecopy_kernels.h"

#if defined(__x86_64__) || defined(_M_X64)
#define TRUECOPY_HAS_AVX2 1
#else
#define TRUECOPY_HAS_AVX2 0
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
} avx2_span;

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
    int16_t *vector;     /* horizontal passes of AVX2: weights in the order of its registers, output by output */
    avx2_span *spans;    /* and which bytes they are for, [count] */
    size_t vector_stride; /* the most int16 values of an output pixel */
} axis_weights;

/* Horizontal: `rows` input rows (at most BATCH_ROWS) of `row_bytes` to `axis->count` output pixels each. */
typedef void (*horizontal_pass)(const uint8_t *const *input, uint8_t *const *output, int rows, size_t row_bytes,
                                const axis_weights *axis, int channels);

/* Vertical: one output row of `row_bytes` from `taps` input rows; `pairs` is room for taps + 1 int32. */
typedef void (*vertical_pass)(const uint8_t *const *input, uint8_t *output, size_t row_bytes, const int32_t *weights,
                              int32_t taps, const axis_weights *axis, int32_t *pairs);

typedef struct {
    horizontal_pass horizontal;
    vertical_pass vertical;
} pass_functions;

extern const pass_functions portable_passes;
#if TRUECOPY_HAS_AVX2
extern const pass_functions avx2_passes;
size_t avx2_vector_stride(int32_t taps, int channels);
void avx2_order_weights(axis_weights *axis, int channels, size_t row_bytes);
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
