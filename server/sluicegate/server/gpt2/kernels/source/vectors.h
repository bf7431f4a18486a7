// Sixteen numbers at a time, whatever the registers: one source for AVX2, AVX-512 and what comes.
#pragma once

#if defined(__AVX512F__)
#include "vectors_avx512.h"
#else
#include "vectors_avx2.h"
#endif

#include <cstdint>
#include <cstring>

namespace sluicegate {

constexpr int LANES = 16;

// A bfloat16 number: the upper half of a float.
struct Bf16 {
    uint16_t bits;
};

inline Floats load(const Bf16* from) { return as_floats(load_halves(from) << 16); }

// Rounds to the nearest, ties to even; a NaN stays one. AVX-512's own instruction takes what is under float's smallest
// normal number for zero.
#if defined(__AVX512BF16__)
inline void store(Bf16* to, Floats values) {
    *reinterpret_cast<LooseHalves*>(to) = (Halves)_mm512_cvtneps_pbh((__m512)values);
}
#else
inline void store(Bf16* to, Floats values) {
    const Words bits = as_words(values);
    const Words rounded = (bits + 0x7FFFu + ((bits >> 16) & 1u)) >> 16;
    store_halves(to, choose(values == values, rounded, (bits | 0x00400000u) >> 16));
}
#endif

inline float to_float(float value) { return value; }
inline float to_float(Bf16 value) {
    const uint32_t bits = static_cast<uint32_t>(value.bits) << 16;
    float result;
    std::memcpy(&result, &bits, sizeof result);
    return result;
}

// Of 16 pairs of bfloat16, the first or the second numbers.
inline Floats first_of_pairs(Words pairs) { return as_floats(pairs << 16); }
inline Floats second_of_pairs(Words pairs) { return as_floats(pairs & 0xFFFF0000u); }

// The sum and the largest of the lanes, always in the same order: halves, then theirs, and so on.
inline float sum(Floats values) {
    const __m256 eight = _mm256_add_ps(lower_half(values), upper_half(values));
    const __m128 four = _mm_add_ps(_mm256_castps256_ps128(eight), _mm256_extractf128_ps(eight, 1));
    const __m128 two = _mm_add_ps(four, _mm_movehl_ps(four, four));
    return _mm_cvtss_f32(_mm_add_ss(two, _mm_movehdup_ps(two)));
}
inline float largest(Floats values) {
    const __m256 eight = _mm256_max_ps(lower_half(values), upper_half(values));
    const __m128 four = _mm_max_ps(_mm256_castps256_ps128(eight), _mm256_extractf128_ps(eight, 1));
    const __m128 two = _mm_max_ps(four, _mm_movehl_ps(four, four));
    return _mm_cvtss_f32(_mm_max_ss(two, _mm_movehdup_ps(two)));
}

// e^x to 2 units in the last place: x = n ln 2 + r, |r| <= ln 2 / 2, a polynomial in r (Cephes' expf), times 2^n.
// x is held within [-87, 88], where the result is a normal number; a NaN stays one.
inline Floats exponential(Floats x) {
    x = smaller(all(88.0f), larger(all(-87.0f), x));
    const Floats shifted = x * 1.44269504088896341f + 12582912.0f;  // 1.5 * 2^23: rounds to a whole number
    const Floats n = shifted - 12582912.0f;
    Floats r = x - n * 0.693359375f;
    r = r - n * -2.12194440e-4f;
    Floats p = all(1.9875691500e-4f);
    p = p * r + 1.3981999507e-3f;
    p = p * r + 8.3334519073e-3f;
    p = p * r + 4.1665795894e-2f;
    p = p * r + 1.6666665459e-1f;
    p = p * r + 5.0000001201e-1f;
    p = p * r * r + r + 1.0f;
    return as_floats(as_ints(p) + (as_ints(shifted) << 23));
}

// GELU by tanh (Hendrycks and Gimpel 2016, section 2), as x * sigmoid(2 u).
inline Floats gelu(Floats x) {
    const Floats u = 0.7978845608028654f * (x + 0.044715f * x * x * x);
    return x * reciprocal(1.0f + exponential(-2.0f * u));
}

}  // namespace sluicegate
