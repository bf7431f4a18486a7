// Sixteen floats at a time, in GCC's vector extensions: one source for AVX2, AVX-512 and what comes.
#pragma once

#include <cstdint>
#include <cstring>

#if defined(__AVX512F__)
#include <immintrin.h>
#endif

namespace sluicegate {

constexpr int LANES = 16;

typedef float Floats __attribute__((vector_size(64), may_alias));
typedef int32_t Ints __attribute__((vector_size(64), may_alias));
typedef uint32_t Words __attribute__((vector_size(64), may_alias));
typedef uint16_t Halves __attribute__((vector_size(32), may_alias));

typedef float LooseFloats __attribute__((vector_size(64), may_alias, aligned(4)));
typedef uint32_t LooseWords __attribute__((vector_size(64), may_alias, aligned(4)));
typedef uint16_t LooseHalves __attribute__((vector_size(32), may_alias, aligned(2)));

// A bfloat16 number: the upper half of a float.
struct Bf16 {
    uint16_t bits;
};

inline Floats all(float value) { return value - Floats{}; }

inline Floats load(const float* from) { return *reinterpret_cast<const LooseFloats*>(from); }
inline Floats load(const Bf16* from) {
    const Words wide = __builtin_convertvector(*reinterpret_cast<const LooseHalves*>(from), Words);
    return reinterpret_cast<Floats>(wide << 16);
}
inline Words load_words(const void* from) { return *static_cast<const LooseWords*>(from); }

inline void store(float* to, Floats values) { *reinterpret_cast<LooseFloats*>(to) = values; }

// Rounds to the nearest, ties to even; a NaN stays one. AVX-512's own instruction takes what is under float's smallest
// normal number for zero.
#if defined(__AVX512BF16__)
inline void store(Bf16* to, Floats values) {
    *reinterpret_cast<LooseHalves*>(to) = (Halves)_mm512_cvtneps_pbh((__m512)values);
}
#else
inline void store(Bf16* to, Floats values) {
    Words bits = reinterpret_cast<Words>(values);
    const Words nan = (bits | 0x00400000u) >> 16;
    const Words rounded = (bits + 0x7FFFu + ((bits >> 16) & 1u)) >> 16;
    bits = (values == values) ? rounded : nan;
    *reinterpret_cast<LooseHalves*>(to) = __builtin_convertvector(bits, Halves);
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
inline Floats first_of_pairs(Words pairs) { return reinterpret_cast<Floats>(pairs << 16); }
inline Floats second_of_pairs(Words pairs) { return reinterpret_cast<Floats>(pairs & 0xFFFF0000u); }

// b if one of both is a NaN.
#if defined(__AVX512F__)
inline Floats larger(Floats a, Floats b) { return (Floats)_mm512_max_ps((__m512)a, (__m512)b); }
inline Floats smaller(Floats a, Floats b) { return (Floats)_mm512_min_ps((__m512)a, (__m512)b); }
#else
inline Floats larger(Floats a, Floats b) { return a > b ? a : b; }
inline Floats smaller(Floats a, Floats b) { return a < b ? a : b; }
#endif

// 1 / x to 2 units in the last place, for x from 1 on.
inline Floats reciprocal(Floats x) {
#if defined(__AVX512F__)
    const Floats guess = (Floats)_mm512_rcp14_ps((__m512)x);  // to 14 bits; a step of Newton's doubles them
    return guess * (2.0f - x * guess);
#else
    return 1.0f / x;
#endif
}

// The sum and the largest of the lanes, always in the same order.
inline float sum(Floats values) {
    for (int half = LANES / 2; half; half /= 2)
        for (int lane = 0; lane < half; lane++) values[lane] += values[lane + half];
    return values[0];
}
inline float largest(Floats values) {
    float result = values[0];
    for (int lane = 1; lane < LANES; lane++) result = values[lane] > result ? values[lane] : result;
    return result;
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
    const Ints exponent = reinterpret_cast<Ints>(shifted) << 23;
    return reinterpret_cast<Floats>(reinterpret_cast<Ints>(p) + exponent);
}

// GELU by tanh (Hendrycks and Gimpel 2016, section 2), as x * sigmoid(2 u).
inline Floats gelu(Floats x) {
    const Floats u = 0.7978845608028654f * (x + 0.044715f * x * x * x);
    return x * reciprocal(1.0f + exponential(-2.0f * u));
}

}  // namespace sluicegate
