/* Fuzz target of truecopy_resize and truecopy_gray.
 *
 * Sources and targets are blocks of exactly the bytes that a request names, so that an address sanitizer sees every
 * byte too many. Each valid request runs on the portable path and on this processor's best one: the pixels must be equal,
 * and the bytes between a target's rows must stay as they were. With -DSTANDALONE it makes its own random requests for
 * a number of seconds. */
#include "truecopy_kernels.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define FILLED 0xA5

typedef struct {
    const uint8_t *bytes;
    size_t left;
    uint32_t state;
} stream;

/* The next of the input's bytes; behind their end, bytes that depend on all of them. */
static uint8_t next_byte(stream *from) {
    if (from->left > 0) {
        from->left--;
        from->state = (from->state ^ *from->bytes) * 16777619u;
        return *from->bytes++;
    }
    from->state = from->state * 1664525u + 1013904223u;
    return (uint8_t)(from->state >> 24);
}

static uint32_t next_number(stream *from) {
    uint32_t number = next_byte(from);
    number = number << 8 | next_byte(from);
    return number << 8 | next_byte(from);
}

static int64_t next_side(stream *from) {
    switch (next_byte(from) % 8) {
    case 0:
        return 1 + next_number(from) % 3000;
    case 1:
    case 2:
        return 1 + next_number(from) % 8;
    default:
        return 1 + next_number(from) % 100;
    }
}

/* Make one number of a valid request impossible; return whether it is now. */
static int spoil(truecopy_resize_request *request, stream *from) {
    static const int64_t not_sides[] = {0, -1, INT64_MIN, INT64_MAX, INT32_MIN, TRUECOPY_MAX_SIDE + 1, INT64_MAX / 2};
    const int64_t not_a_side = not_sides[next_byte(from) % (sizeof not_sides / sizeof not_sides[0])];
    const int64_t not_a_number = 6 + next_number(from);
    const int64_t row_bytes[] = {request->source_width * request->channels, request->width * request->channels};
    const int64_t rows[] = {request->source_height, request->height};
    int64_t *const strides[] = {&request->source_stride, &request->target_stride};
    int64_t *const sides[] = {&request->source_height, &request->source_width, &request->resized_height,
                              &request->resized_width, &request->channels,     &request->height,
                              &request->width};
    const int choice = next_byte(from) % 14;
    const int which = choice % 2;
    if (choice < 7) {
        *sides[choice] = not_a_side;
        return 1;
    }
    switch (choice) {
    case 7:
    case 8:
        if (rows[which] > 1) {
            const int64_t values[] = {0,         1 - row_bytes[which], row_bytes[which] - 1, INT64_MAX,
                                      INT64_MIN, INT64_MAX / 2};
            *strides[which] = values[next_byte(from) % (sizeof values / sizeof values[0])];
            return 1;
        }
        return 0;
    case 9:
        request->top = not_a_side == 0 ? request->resized_height : not_a_side;
        return 1;
    case 10:
        request->left = not_a_side == 0 ? request->resized_width : not_a_side;
        return 1;
    case 11:
        request->filter = (int32_t)not_a_number;
        return 1;
    case 12:
        request->arithmetic = (int32_t)not_a_number;
        return 1;
    default:
        request->path = (int32_t)not_a_number;
        return 1;
    }
}

static void fail(const char *problem, const truecopy_resize_request *request) {
    fprintf(stderr,
            "%s: %lld x %lld x %lld (stride %lld) to %lld x %lld, window %lld %lld %lld %lld, filter %d, arithmetic %d, "
            "rows first %d\n",
            problem, (long long)request->source_height, (long long)request->source_width, (long long)request->channels,
            (long long)request->source_stride, (long long)request->resized_height, (long long)request->resized_width,
            (long long)request->top, (long long)request->left, (long long)request->height, (long long)request->width,
            request->filter, request->arithmetic, request->rows_first);
    abort();
}

/* A block of `rows` rows, its last one without what follows it; returns where the first row of it is. */
static uint8_t *make_block(int64_t rows, int64_t row_bytes, int64_t stride, uint8_t **block, size_t *bytes) {
    int64_t distance = stride < 0 ? -stride : stride;
    *bytes = (size_t)((rows - 1) * distance + row_bytes);
    *block = malloc(*bytes);
    if (*block == NULL) {
        abort();
    }
    return stride < 0 ? *block + (rows - 1) * distance : *block;
}

/* Resize from a copy of a part of the source: the same pixels, or a refusal where the part is not all that is needed. */
static void check_part(const truecopy_resize_request *whole, const uint8_t *expected, size_t target_bytes,
                       stream *from) {
    truecopy_resize_request request = *whole;
    const int32_t bits = next_byte(from);
    const int64_t top = bits & 1 ? next_number(from) % whole->source_height : 0;
    const int64_t left = bits & 2 ? next_number(from) % whole->source_width : 0;
    const int64_t height = bits & 4 ? 1 + next_number(from) % (whole->source_height - top) : whole->source_height - top;
    const int64_t width = bits & 8 ? 1 + next_number(from) % (whole->source_width - left) : whole->source_width - left;
    const size_t row_bytes = (size_t)(width * whole->channels);
    uint8_t *part, *target;
    size_t part_bytes;
    int64_t row;
    int status;
    request.part_top = top;
    request.part_left = left;
    request.part_height = height;
    request.part_width = width;
    request.source_stride = (int64_t)row_bytes;
    request.source = make_block(height, request.source_stride, request.source_stride, &part, &part_bytes);
    for (row = 0; row < height; row++) {
        memcpy(part + (size_t)row * row_bytes,
               whole->source + (top + row) * whole->source_stride + left * whole->channels, row_bytes);
    }
    request.target = make_block(request.height, request.width * request.channels, request.target_stride, &target,
                                &target_bytes);
    memset(target, FILLED, target_bytes);
    status = truecopy_resize(&request);
    if (status != TRUECOPY_OK && status != TRUECOPY_BAD_ARGUMENT) {
        fail("refused a part", &request);
    }
    if (status == TRUECOPY_OK && memcmp(target, expected, target_bytes) != 0) {
        fail("other pixels from a part", &request);
    }
    free(part);
    free(target);
}

static void check_between_rows(const truecopy_resize_request *request) {
    int64_t gap = (request->target_stride < 0 ? -request->target_stride : request->target_stride) -
                  request->width * request->channels;
    int64_t row, byte;
    for (row = 0; row + 1 < request->height; row++) {
        /* Where rows go backwards, the gap behind the upper of two rows is behind the later one. */
        const uint8_t *end = request->target + (row + (request->target_stride < 0)) * request->target_stride +
                             request->width * request->channels;
        for (byte = 0; byte < gap; byte++) {
            if (end[byte] != FILLED) {
                fail("wrote between rows", request);
            }
        }
    }
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
    stream from = {data, size, 2166136261u};
    truecopy_resize_request request;
    uint8_t *source, *first, *second;
    size_t source_bytes, target_bytes, index;
    int status;
    memset(&request, 0, sizeof request);
    request.channels = 1 + next_byte(&from) % 4;
    request.source_height = next_side(&from);
    request.source_width = next_side(&from);
    request.part_height = request.source_height;
    request.part_width = request.source_width;
    request.resized_height = next_byte(&from) % 8 == 0 ? request.source_height : next_side(&from);
    request.resized_width = next_byte(&from) % 8 == 0 ? request.source_width : next_side(&from);
    if (request.source_height * request.source_width > 300000 ||
        request.resized_height * request.resized_width > 300000) {
        return 0;
    }
    request.height = 1 + next_number(&from) % request.resized_height;
    request.width = 1 + next_number(&from) % request.resized_width;
    request.top = next_number(&from) % (request.resized_height - request.height + 1);
    request.left = next_number(&from) % (request.resized_width - request.width + 1);
    request.filter = next_byte(&from) % 6;
    request.arithmetic = next_byte(&from) % 2;
    request.rows_first = next_byte(&from) % 2;
    request.path = TRUECOPY_PORTABLE;
    request.source_stride = request.source_width * request.channels + next_byte(&from) % 3;
    request.target_stride = request.width * request.channels + next_byte(&from) % 3;
    request.source_stride = next_byte(&from) % 4 == 0 ? -request.source_stride : request.source_stride;
    request.target_stride = next_byte(&from) % 4 == 0 ? -request.target_stride : request.target_stride;
    if (request.arithmetic == TRUECOPY_TORCH) {
        request.filter = request.filter % 2 == 0 ? TRUECOPY_BILINEAR : TRUECOPY_BICUBIC;
    }
    request.source = make_block(request.source_height, request.source_width * request.channels, request.source_stride,
                                &source, &source_bytes);
    for (index = 0; index < source_bytes; index++) {
        source[index] = next_byte(&from);
    }
    request.target = make_block(request.height, request.width * request.channels, request.target_stride, &first,
                                &target_bytes);
    memset(first, FILLED, target_bytes);
    if (next_byte(&from) % 4 == 0) {
        truecopy_resize_request broken = request;
        if (spoil(&broken, &from) && truecopy_resize(&broken) == TRUECOPY_OK) {
            fail("accepted what is out of range", &broken);
        }
    }
    status = truecopy_resize(&request);
    if (status != TRUECOPY_OK) {
        fail("refused", &request);
    }
    check_between_rows(&request);
    {
        uint8_t *target = request.target;
        request.target = make_block(request.height, request.width * request.channels, request.target_stride, &second,
                                    &target_bytes);
        memset(second, FILLED, target_bytes);
        request.path = TRUECOPY_AUTO;
        status = truecopy_resize(&request);
        if (status != TRUECOPY_OK) {
            fail("refused on the best path", &request);
        }
        if (memcmp(first, second, target_bytes) != 0) {
            fail("other pixels on the best path", &request);
        }
        check_part(&request, first, target_bytes, &from);
        request.target = target;
    }
    if (request.channels >= 3) {
        uint8_t *gray = malloc((size_t)(request.source_height * request.source_width));
        if (gray == NULL || truecopy_gray(request.source, request.source_stride, request.source_height,
                                          request.source_width, request.channels, gray, request.source_width) != 0) {
            fail("no gray", &request);
        }
        free(gray);
    }
    free(source);
    free(first);
    free(second);
    return 0;
}

#ifdef STANDALONE
#include <time.h>

int main(int count, char **arguments) {
    double seconds = count > 1 ? atof(arguments[1]) : 10.0;
    uint64_t state = count > 2 ? strtoull(arguments[2], NULL, 10) : 1;
    time_t end = time(NULL) + (time_t)seconds;
    unsigned long requests = 0;
    while (time(NULL) < end) {
        int again;
        for (again = 0; again < 100; again++, requests++) {
            uint8_t data[64];
            size_t index;
            for (index = 0; index < sizeof data; index++) {
                state = state * 6364136223846793005u + 1442695040888963407u;
                data[index] = (uint8_t)(state >> 56);
            }
            LLVMFuzzerTestOneInput(data, sizeof data);
        }
    }
    printf("%lu requests on path %d, no fault\n", requests, truecopy_best_path());
    return 0;
}
#endif
