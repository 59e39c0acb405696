/* Scratch memory: one block per thread, reused by its calls and freed when it ends. */
#include "internal.h"

#include <stdlib.h>

#if defined(_WIN32)
#include <windows.h>
#else
#include <pthread.h>
#endif

/* A block above this is freed after the call that needed it. */
#define KEPT_BYTES ((size_t)8 << 20)

typedef struct {
    void *memory;
    size_t bytes;
} scratch_block;

static void free_block(void *pointer) {
    scratch_block *block = pointer;
    if (block != NULL) {
        free(block->memory);
        free(block);
    }
}

#if defined(_WIN32)
static DWORD key = FLS_OUT_OF_INDEXES;
static INIT_ONCE once = INIT_ONCE_STATIC_INIT;
static void WINAPI end_of_thread(void *pointer) { free_block(pointer); }
static BOOL CALLBACK make_key(PINIT_ONCE control, PVOID parameter, PVOID *context) {
    (void)control;
    (void)parameter;
    (void)context;
    key = FlsAlloc(end_of_thread);
    return TRUE;
}
static int has_key(void) { return InitOnceExecuteOnce(&once, make_key, NULL, NULL) && key != FLS_OUT_OF_INDEXES; }
static void *get_block(void) { return FlsGetValue(key); }
static int set_block(void *block) { return FlsSetValue(key, block) != 0; }
#else
static pthread_key_t key;
static int key_error = -1;
static pthread_once_t once = PTHREAD_ONCE_INIT;
static void make_key(void) { key_error = pthread_key_create(&key, free_block); }
static int has_key(void) { return pthread_once(&once, make_key) == 0 && key_error == 0; }
static void *get_block(void) { return pthread_getspecific(key); }
static int set_block(void *block) { return pthread_setspecific(key, block) == 0; }
#endif

void *scratch_acquire(size_t bytes) {
    scratch_block *block;
    if (!has_key()) {
        return NULL;
    }
    block = get_block();
    if (block == NULL) {
        block = calloc(1, sizeof *block);
        if (block == NULL) {
            return NULL;
        }
        if (!set_block(block)) {
            free(block);
            return NULL;
        }
    }
    if (block->bytes < bytes) {
        free(block->memory);
        block->memory = malloc(bytes);
        block->bytes = block->memory == NULL ? 0 : bytes;
    }
    return block->memory;
}

void scratch_release(void) {
    scratch_block *block = get_block();
    if (block != NULL && block->bytes > KEPT_BYTES) {
        free(block->memory);
        block->memory = NULL;
        block->bytes = 0;
    }
}
