// Sixteen numbers at a time by AVX2: two registers, each in GCC's vector extensions. GCC has vectors of 64 bytes here
// as well, but keeps them in memory.
#pragma once

#include <immintrin.h>

#include <cstdint>

namespace sluicegate {

typedef float EightFloats __attribute__((vector_size(32)));
typedef int32_t EightInts __attribute__((vector_size(32)));
typedef uint32_t EightWords __attribute__((vector_size(32)));
typedef uint16_t EightHalves __attribute__((vector_size(16)));

typedef float LooseFloats __attribute__((vector_size(32), may_alias, aligned(4)));
typedef uint32_t LooseWords __attribute__((vector_size(32), may_alias, aligned(4)));
typedef uint16_t LooseHalves __attribute__((vector_size(16), may_alias, aligned(2)));

template <typename Number, typename Eight>
struct Two {
    Eight low, high;

    Two() = default;
    Two(Eight low, Eight high) : low(low), high(high) {}
    Two(Number value) : low(value - Eight{}), high(low) {}
    Number operator[](int lane) const { return lane < 8 ? low[lane] : high[lane - 8]; }

    friend Two operator+(Two a, Two b) { return {a.low + b.low, a.high + b.high}; }
    friend Two operator-(Two a, Two b) { return {a.low - b.low, a.high - b.high}; }
    friend Two operator*(Two a, Two b) { return {a.low * b.low, a.high * b.high}; }
    friend Two operator/(Two a, Two b) { return {a.low / b.low, a.high / b.high}; }
    friend Two operator&(Two a, Two b) { return {a.low & b.low, a.high & b.high}; }
    friend Two operator|(Two a, Two b) { return {a.low | b.low, a.high | b.high}; }
    friend Two operator<<(Two a, int bits) { return {a.low << bits, a.high << bits}; }
    friend Two operator>>(Two a, int bits) { return {a.low >> bits, a.high >> bits}; }
    Two& operator+=(Two other) { return *this = *this + other; }

    friend Two<int32_t, EightInts> operator==(Two a, Two b) { return {a.low == b.low, a.high == b.high}; }
    friend Two<int32_t, EightInts> operator!=(Two a, Two b) { return {a.low != b.low, a.high != b.high}; }
    friend Two<int32_t, EightInts> operator>(Two a, Two b) { return {a.low > b.low, a.high > b.high}; }
};
typedef Two<float, EightFloats> Floats;
typedef Two<int32_t, EightInts> Ints;
typedef Two<uint32_t, EightWords> Words;

inline Floats as_floats(Words bits) { return {(EightFloats)bits.low, (EightFloats)bits.high}; }
inline Floats as_floats(Ints bits) { return {(EightFloats)bits.low, (EightFloats)bits.high}; }
inline Words as_words(Floats values) { return {(EightWords)values.low, (EightWords)values.high}; }
inline Ints as_ints(Floats values) { return {(EightInts)values.low, (EightInts)values.high}; }

inline Floats all(float value) { return value; }
inline Words all(uint32_t value) { return value; }

inline Floats load(const float* from) {
    const LooseFloats* eights = reinterpret_cast<const LooseFloats*>(from);
    return {eights[0], eights[1]};
}
inline Words load_words(const void* from) {
    const LooseWords* eights = static_cast<const LooseWords*>(from);
    return {eights[0], eights[1]};
}
inline Words load_halves(const void* from) {
    const LooseHalves* eights = static_cast<const LooseHalves*>(from);
    return {__builtin_convertvector(eights[0], EightWords), __builtin_convertvector(eights[1], EightWords)};
}
inline void store(float* to, Floats values) {
    LooseFloats* eights = reinterpret_cast<LooseFloats*>(to);
    eights[0] = values.low, eights[1] = values.high;
}
inline void store_halves(void* to, Words values) {
    LooseHalves* eights = static_cast<LooseHalves*>(to);
    eights[0] = __builtin_convertvector(values.low, EightHalves);
    eights[1] = __builtin_convertvector(values.high, EightHalves);
}

// a * b + sum, rounded once.
inline Floats multiply_add(Floats a, Floats b, Floats sum) {
    return {_mm256_fmadd_ps(a.low, b.low, sum.low), _mm256_fmadd_ps(a.high, b.high, sum.high)};
}

template <typename Numbers>
inline Numbers choose(Ints mask, Numbers yes, Numbers no) {
    return {mask.low ? yes.low : no.low, mask.high ? yes.high : no.high};
}
// b if one of both is a NaN.
inline Floats larger(Floats a, Floats b) {
    return {_mm256_max_ps(a.low, b.low), _mm256_max_ps(a.high, b.high)};
}
inline Floats smaller(Floats a, Floats b) {
    return {_mm256_min_ps(a.low, b.low), _mm256_min_ps(a.high, b.high)};
}

// The halves, to be added or compared: lanes 0-7 and 8-15.
inline __m256 lower_half(Floats values) { return values.low; }
inline __m256 upper_half(Floats values) { return values.high; }

// 1 / x, for x from 1 on.
inline Floats reciprocal(Floats x) { return 1.0f / x; }

}  // namespace sluicegate
