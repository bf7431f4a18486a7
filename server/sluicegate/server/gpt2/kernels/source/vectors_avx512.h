// Sixteen numbers at a time by AVX-512, whose registers hold as many, in GCC's vector extensions.
#pragma once

#include <immintrin.h>

#include <cstdint>

namespace sluicegate {

typedef float Floats __attribute__((vector_size(64), may_alias));
typedef int32_t Ints __attribute__((vector_size(64), may_alias));
typedef uint32_t Words __attribute__((vector_size(64), may_alias));
typedef uint16_t Halves __attribute__((vector_size(32), may_alias));

typedef float LooseFloats __attribute__((vector_size(64), may_alias, aligned(4)));
typedef uint32_t LooseWords __attribute__((vector_size(64), may_alias, aligned(4)));
typedef uint16_t LooseHalves __attribute__((vector_size(32), may_alias, aligned(2)));

inline Floats as_floats(Words bits) { return reinterpret_cast<Floats>(bits); }
inline Floats as_floats(Ints bits) { return reinterpret_cast<Floats>(bits); }
inline Words as_words(Floats values) { return reinterpret_cast<Words>(values); }
inline Ints as_ints(Floats values) { return reinterpret_cast<Ints>(values); }

inline Floats all(float value) { return value - Floats{}; }
inline Words all(uint32_t value) { return value - Words{}; }

inline Floats load(const float* from) { return *reinterpret_cast<const LooseFloats*>(from); }
inline Words load_words(const void* from) { return *static_cast<const LooseWords*>(from); }
inline Words load_halves(const void* from) {
    return __builtin_convertvector(*static_cast<const LooseHalves*>(from), Words);
}
inline void store(float* to, Floats values) { *reinterpret_cast<LooseFloats*>(to) = values; }
inline void store_halves(void* to, Words values) {
    *static_cast<LooseHalves*>(to) = __builtin_convertvector(values, Halves);
}

// a * b + sum, rounded once.
inline Floats multiply_add(Floats a, Floats b, Floats sum) {
    return (Floats)_mm512_fmadd_ps((__m512)a, (__m512)b, (__m512)sum);
}

template <typename Numbers>
inline Numbers choose(Ints mask, Numbers yes, Numbers no) {
    return mask ? yes : no;
}
// b if one of both is a NaN.
inline Floats larger(Floats a, Floats b) { return (Floats)_mm512_max_ps((__m512)a, (__m512)b); }
inline Floats smaller(Floats a, Floats b) { return (Floats)_mm512_min_ps((__m512)a, (__m512)b); }

// The halves, to be added or compared: lanes 0-7 and 8-15.
inline __m256 lower_half(Floats values) { return _mm512_castps512_ps256((__m512)values); }
inline __m256 upper_half(Floats values) { return _mm512_extractf32x8_ps((__m512)values, 1); }

// 1 / x to 2 units in the last place, for x from 1 on.
inline Floats reciprocal(Floats x) {
    const Floats guess = (Floats)_mm512_rcp14_ps((__m512)x);  // to 14 bits; a step of Newton's doubles them
    return guess * (2.0f - x * guess);
}

}  // namespace sluicegate
