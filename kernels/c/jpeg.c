/* JPEG decoding of a window, by the libjpeg that somebody else loaded: Pillow's own gives Pillow's pixels.
 *
 * Its functions come as addresses, so that nothing of it is linked or shipped. What is known of its structures is what
 * every version of its interface (6.2, 7 and 8) has in common; the size of the rest it says itself. */
#include "internal.h"

#include <limits.h>
#include <setjmp.h>
#include <string.h>

/* J_COLOR_SPACE */
enum { GRAYSCALE = 1, RGB = 2 };

/* Rows that are asked for at once; libjpeg gives as many as it has. */
#define ROWS_AT_ONCE 16

/* More than the structure of any version takes. */
#define MOST_STATE_BYTES 1024

/* The start of jpeg_error_mgr. */
typedef struct {
    void (*error_exit)(void *);
    void (*emit_message)(void *, int);
    void (*output_message)(void *);
    void (*format_message)(void *, char *);
    void (*reset)(void *);
    int code;
    int numbers[8];
    char rest[256];
} libjpeg_errors;

/* The start of jpeg_decompress_struct, up to the row that is read next. */
typedef struct {
    libjpeg_errors *errors;
    void *memory;
    void *progress;
    void *client;
    int is_decompressor;
    int global_state;
    void *source;
    unsigned image_width;
    unsigned image_height;
    int num_components;
    int jpeg_color_space;
    int out_color_space;
    unsigned scale_num;
    unsigned scale_denom;
    double output_gamma;
    int flags[3]; /* buffered_image, raw_data_out, dct_method */
    int do_fancy_upsampling;
    int options[8]; /* do_block_smoothing, and seven of quantized colors */
    unsigned output_width;
    unsigned output_height;
    int out_color_components;
    int output_components;
    int rec_outbuf_height;
    int actual_number_of_colors;
    void *colormap;
    unsigned output_scanline;
} libjpeg_state;

typedef union {
    libjpeg_state known;
    uint8_t bytes[MOST_STATE_BYTES];
} libjpeg_decompress;

typedef struct {
    libjpeg_errors errors; /* first: libjpeg knows the rest by its address */
    jmp_buf failed;
} error_context;

static void fail(void *state) {
    error_context *context = (error_context *)(void *)((libjpeg_state *)state)->errors;
    longjmp(context->failed, 1);
}

/* Warnings, of a level below 0, are failures: what to make of damaged data is Pillow's to say. */
static void fail_if_warned(void *state, int level) {
    if (level < 0) {
        fail(state);
    }
}

static void say_nothing(void *state) { (void)state; }

static void prepare_errors(const truecopy_libjpeg *library, error_context *context) {
    memset(context, 0, sizeof *context);
    library->std_error(&context->errors);
    context->errors.error_exit = fail;
    context->errors.emit_message = fail_if_warned;
    context->errors.output_message = say_nothing;
}

static int is_complete(const truecopy_libjpeg *library) {
    return library != NULL && library->std_error != NULL && library->create != NULL && library->destroy != NULL &&
           library->mem_src != NULL && library->read_header != NULL && library->start != NULL &&
           library->crop != NULL && library->skip != NULL && library->read != NULL && library->finish != NULL;
}

int truecopy_jpeg_open(truecopy_libjpeg *library) {
    /* Named by a version that there is none of, libjpeg says its own; then, by a size of 0, that of its structure. */
    static const int no_version = 0;
    error_context context;
    libjpeg_decompress state;
    if (!is_complete(library)) {
        return TRUECOPY_BAD_ARGUMENT;
    }
    library->version = 0;
    library->state_bytes = 0;
    prepare_errors(library, &context);
    memset(&state, 0, sizeof state);
    state.known.errors = &context.errors;
    if (setjmp(context.failed) == 0) {
        library->create(&state, no_version, 0);
        return TRUECOPY_NO_PATH;
    }
    library->version = context.errors.numbers[0];
    if (library->version < 62 || library->version > 80) {
        return TRUECOPY_NO_PATH;
    }
    if (setjmp(context.failed) == 0) {
        library->create(&state, library->version, 0);
        return TRUECOPY_NO_PATH;
    }
    library->state_bytes = context.errors.numbers[0];
    return library->state_bytes > (int32_t)sizeof(libjpeg_state) && library->state_bytes <= MOST_STATE_BYTES
               ? TRUECOPY_OK
               : TRUECOPY_NO_PATH;
}

/* Decode what is valid of a request; nonlocal jumps out of libjpeg end in the caller's setjmp. */
static int decode_window(const truecopy_libjpeg *library, const truecopy_jpeg_request *request, void *decompress) {
    libjpeg_state *state = decompress;
    unsigned left = (unsigned)request->left, width = (unsigned)request->width;
    int64_t row = 0;
    library->create(state, library->version, (size_t)library->state_bytes);
    library->mem_src(state, request->data, (unsigned long)request->data_bytes);
    library->read_header(state, 1);
    if (state->image_height != request->image_height || state->image_width != request->image_width ||
        (request->channels == 1 && state->num_components != 1)) {
        return TRUECOPY_BAD_DATA;
    }
    state->out_color_space = request->channels == 1 ? GRAYSCALE : RGB;
    if (!library->start(state) || state->output_components != request->channels) {
        return TRUECOPY_BAD_DATA;
    }
    if (request->width < request->image_width) {
        library->crop(state, &left, &width);
        if (left != request->left || width != request->width) {
            return TRUECOPY_BAD_ARGUMENT;
        }
    }
    if (request->top > 0 && library->skip(state, (unsigned)request->top) != request->top) {
        return TRUECOPY_BAD_DATA;
    }
    while (row < request->height) {
        uint8_t *rows[ROWS_AT_ONCE];
        int64_t count = request->height - row < ROWS_AT_ONCE ? request->height - row : ROWS_AT_ONCE, index;
        unsigned given;
        for (index = 0; index < count; index++) {
            rows[index] = request->target + (ptrdiff_t)((row + index) * request->target_stride);
        }
        given = library->read(state, rows, (unsigned)count);
        if (given == 0) {
            return TRUECOPY_BAD_DATA;
        }
        row += given;
    }
    /* The rest is read too: damage there is damage of the photo. A skip to the end would stop here; so the last row is
     * not skipped. */
    if (state->output_scanline < state->output_height) {
        uint8_t *last = scratch_acquire((size_t)(request->width * request->channels));
        unsigned between = state->output_height - 1 - state->output_scanline;
        if (last == NULL) {
            return TRUECOPY_NO_MEMORY;
        }
        if ((between > 0 && library->skip(state, between) != between) || library->read(state, &last, 1) != 1) {
            return TRUECOPY_BAD_DATA;
        }
    }
    return library->finish(state) ? TRUECOPY_OK : TRUECOPY_BAD_DATA;
}

int truecopy_jpeg_decode(const truecopy_libjpeg *library, const truecopy_jpeg_request *request) {
    error_context context;
    libjpeg_decompress decompress;
    volatile int status = TRUECOPY_BAD_DATA;
    if (!is_complete(library) || request == NULL || request->data == NULL || request->target == NULL ||
        (request->channels != 1 && request->channels != 3)) {
        return TRUECOPY_BAD_ARGUMENT;
    }
    if (library->state_bytes <= (int32_t)sizeof(libjpeg_state) || library->state_bytes > MOST_STATE_BYTES) {
        return TRUECOPY_NO_PATH;
    }
    if (request->data_bytes < 1 || request->data_bytes > LONG_MAX || !is_side(request->image_height) ||
        !is_side(request->image_width)) {
        return TRUECOPY_BAD_SIZE;
    }
    if (!is_window(request->top, request->height, request->image_height) ||
        !is_window(request->left, request->width, request->image_width)) {
        return TRUECOPY_BAD_ARGUMENT;
    }
    if (!is_stride(request->target_stride, request->height, request->width * request->channels)) {
        return TRUECOPY_BAD_SIZE;
    }
    prepare_errors(library, &context);
    memset(&decompress, 0, sizeof decompress);
    decompress.known.errors = &context.errors;
    if (setjmp(context.failed) == 0) {
        status = decode_window(library, request, &decompress);
    }
    /* Frees nothing where libjpeg failed before it had taken memory. */
    library->destroy(&decompress);
    return status;
}
