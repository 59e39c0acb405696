/* Which instructions this processor, and its operating system, have. */
#include "internal.h"

#if TRUECOPY_HAS_AVX2 && defined(_MSC_VER) && !defined(__clang__)
#include <immintrin.h>
#include <intrin.h>

static int ask_processor(void) {
    int registers[4];
    __cpuid(registers, 0);
    if (registers[0] < 7) {
        return 0;
    }
    __cpuid(registers, 1);
    /* OSXSAVE and AVX, and an operating system that saves the wide registers. */
    if ((registers[2] & (1 << 27)) == 0 || (registers[2] & (1 << 28)) == 0 || (_xgetbv(0) & 6) != 6) {
        return 0;
    }
    __cpuidex(registers, 7, 0);
    return (registers[1] & (1 << 5)) != 0;
}

static int has_avx2(void) {
    static volatile long known = 0; /* 1: no, 2: yes; every thread writes the same */
    if (known == 0) {
        known = 1 + ask_processor();
    }
    return known == 2;
}
#elif TRUECOPY_HAS_AVX2
static int has_avx2(void) {
    __builtin_cpu_init();
    return __builtin_cpu_supports("avx2") != 0;
}
#endif

#if TRUECOPY_HAS_AVX512
static int has_avx512(void) {
    __builtin_cpu_init();
    return __builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512bw") &&
           __builtin_cpu_supports("avx512vl") && __builtin_cpu_supports("avx512vnni");
}
#endif

int truecopy_has_path(int path) {
    switch (path) {
    case TRUECOPY_PORTABLE:
        return 1;
#if TRUECOPY_HAS_AVX2
    case TRUECOPY_AVX2:
        return has_avx2();
#endif
#if TRUECOPY_HAS_AVX512
    case TRUECOPY_AVX512:
        return has_avx512();
#endif
#if TRUECOPY_HAS_NEON
    case TRUECOPY_NEON:
        return 1;
#endif
    default:
        return 0;
    }
}

int truecopy_best_path(void) {
    static const int best_first[] = {TRUECOPY_AVX512, TRUECOPY_AVX2, TRUECOPY_NEON};
    size_t index;
    for (index = 0; index < sizeof best_first / sizeof best_first[0]; index++) {
        if (truecopy_has_path(best_first[index])) {
            return best_first[index];
        }
    }
    return TRUECOPY_PORTABLE;
}
