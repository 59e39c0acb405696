/* Resize and crop of 8-bit pixels, equal to Pillow's and torch's to the last bit, and decoding of what a crop keeps.
 *
 * Every function may be called from many threads at once; none of them calls into Python. */
#ifndef TRUECOPY_KERNELS_H
#define TRUECOPY_KERNELS_H

#include <stddef.h>
#include <stdint.h>

#if defined(_WIN32)
#define TRUECOPY_API __declspec(dllexport)
#else
#define TRUECOPY_API __attribute__((visibility("default")))
#endif

/* Raised whenever a structure below or the meaning of a number changes. */
#define TRUECOPY_ABI 2

enum truecopy_filter {
    TRUECOPY_NEAREST = 0,
    TRUECOPY_BOX = 1,
    TRUECOPY_BILINEAR = 2,
    TRUECOPY_HAMMING = 3,
    TRUECOPY_BICUBIC = 4,
    TRUECOPY_LANCZOS = 5
};

/* Whose weights: Pillow's have 22 bits; torch's of uint8 tensors fit the largest weight into an int16. */
enum truecopy_arithmetic { TRUECOPY_PILLOW = 0, TRUECOPY_TORCH = 1 };

/* Which instructions: AUTO takes the best that the processor has. All give the same pixels. */
enum truecopy_path {
    TRUECOPY_AUTO = 0,
    TRUECOPY_PORTABLE = 1,
    TRUECOPY_AVX2 = 2,
    TRUECOPY_NEON = 3,
    TRUECOPY_AVX512 = 4 /* with VNNI */
};

enum truecopy_status {
    TRUECOPY_OK = 0,
    TRUECOPY_BAD_ARGUMENT = 1, /* an unknown number, a null pointer, or a window outside the resized image */
    TRUECOPY_BAD_SIZE = 2,     /* a size below 1 or above TRUECOPY_MAX_SIDE, or strides that overlap or overflow */
    TRUECOPY_NO_MEMORY = 3,
    TRUECOPY_NO_PATH = 4, /* this processor, or this libjpeg, does not have what was asked for */
    TRUECOPY_BAD_DATA = 5 /* a JPEG that libjpeg fails on or warns of, or not the one that the request describes */
};

/* Pillow keeps the sides of its source as float32, which is exact below this. */
#define TRUECOPY_MAX_SIDE ((1 << 24) - 1)

/* A resize of an image to `resized_height` x `resized_width`, of which only a window is computed.
 *
 * `source` is the first pixel of the part of the image that is there: all that the window is computed from. Pixels are
 * packed in their rows, `channels` bytes each (1 to 4); strides are in bytes and may be negative. `target` is the window's first pixel; it must not overlap the source. */
typedef struct {
    const uint8_t *source;
    int64_t source_stride;
    int64_t source_height; /* of the whole image */
    int64_t source_width;
    int64_t part_top; /* the part of it that is there */
    int64_t part_left;
    int64_t part_height;
    int64_t part_width;
    int64_t channels;
    uint8_t *target;
    int64_t target_stride;
    int64_t resized_height;
    int64_t resized_width;
    int64_t top; /* the window, in pixels of the resized image */
    int64_t left;
    int64_t height;
    int64_t width;
    int32_t filter;
    int32_t arithmetic;
    int32_t rows_first; /* whether the vertical pass comes first: pixels are rounded between the passes */
    int32_t path;
} truecopy_resize_request;

TRUECOPY_API int truecopy_resize(const truecopy_resize_request *request);

/* RGB to gray as Pillow's convert("L"): `channels` bytes per pixel (3 or 4) of which the first three count. */
TRUECOPY_API int truecopy_gray(const uint8_t *source, int64_t source_stride, int64_t height, int64_t width,
                               int64_t channels, uint8_t *target, int64_t target_stride);

/* What is called of a libjpeg: the addresses of its functions, of libjpeg-turbo 1.5 or later, by their names without
 * "jpeg_". */
typedef struct {
    void *(*std_error)(void *errors);
    void (*create)(void *state, int version, size_t bytes); /* jpeg_CreateDecompress */
    void (*destroy)(void *state);                           /* jpeg_destroy_decompress */
    void (*mem_src)(void *state, const uint8_t *data, unsigned long bytes);
    int (*read_header)(void *state, int require_image);
    int (*start)(void *state);                                       /* jpeg_start_decompress */
    void (*crop)(void *state, unsigned *left, unsigned *width);      /* jpeg_crop_scanline */
    unsigned (*skip)(void *state, unsigned rows);                    /* jpeg_skip_scanlines */
    unsigned (*read)(void *state, uint8_t *const *rows, unsigned most); /* jpeg_read_scanlines */
    int (*finish)(void *state);                                      /* jpeg_finish_decompress */
    int32_t version;     /* filled in by truecopy_jpeg_open: the version of its interface, 62 to 80 */
    int32_t state_bytes; /* and the size of its jpeg_decompress_struct */
} truecopy_libjpeg;

/* Ask a libjpeg for what its functions do not say. */
TRUECOPY_API int truecopy_jpeg_open(truecopy_libjpeg *library);

/* A window of a JPEG as gray or RGB.
 *
 * Its first column must be that of a block of samples: a multiple of 8 times the luma's horizontal factor. Its outermost
 * columns may be other pixels than those of the whole image: libjpeg takes nothing from beyond them for the chroma
 * between two samples. */
typedef struct {
    const uint8_t *data;
    int64_t data_bytes;
    int64_t image_height;
    int64_t image_width;
    int64_t channels; /* 1, of a gray JPEG, or 3 */
    uint8_t *target;  /* the window's first pixel */
    int64_t target_stride;
    int64_t top;
    int64_t left;
    int64_t height;
    int64_t width;
} truecopy_jpeg_request;

TRUECOPY_API int truecopy_jpeg_decode(const truecopy_libjpeg *library, const truecopy_jpeg_request *request);

/* The path that AUTO takes on this processor. */
TRUECOPY_API int truecopy_best_path(void);

/* Whether this library and this processor have a path. */
TRUECOPY_API int truecopy_has_path(int path);

TRUECOPY_API int truecopy_abi(void);

#endif
