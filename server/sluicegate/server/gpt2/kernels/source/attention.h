// Attention of a step's rows over their slots of the cache. Each row reads just as far as its own position, and its
// result depends on nothing else: not on the batch, nor on how its prompt was cut into chunks.
#pragma once

#include "coming.h"
#include "vectors.h"

#include <algorithm>
#include <cmath>
#include <cstddef>

namespace sluicegate {

// Sums of 16 numbers that registers have room for, beside what is added to them.
#if defined(__AVX512F__)
constexpr int SCORES_AT_ONCE = 8, OUTPUTS_AT_ONCE = 16;
#else
constexpr int SCORES_AT_ONCE = 4, OUTPUTS_AT_ONCE = 4;
#endif

inline void add_scores(Floats& scores, const float* keys, size_t i, const float* query) {
    scores = multiply_add(load(keys + i * LANES), all(query[i]), scores);
    scores = multiply_add(load(keys + (i + 1) * LANES), all(query[i + 1]), scores);
}
inline void add_scores(Floats& scores, const Bf16* keys, size_t i, const float* query) {
    const Words pairs = load_words(keys + i * LANES);
    scores = multiply_add(first_of_pairs(pairs), all(query[i]), scores);
    scores = multiply_add(second_of_pairs(pairs), all(query[i + 1]), scores);
}

// Scores of QUERIES rows of queries against BLOCKS blocks of keys.
template <int QUERIES, int BLOCKS, typename Number>
inline void score_blocks(const Number* keys, size_t block, const float* queries, size_t pitch, size_t width,
                         float* scores, size_t room) {
    Floats sums[QUERIES][BLOCKS] = {};
    const Number* from = keys + block * width * LANES;
    for (size_t i = 0; i < width; i += 2)
#pragma GCC unroll 8
        for (int q = 0; q < QUERIES; q++)
#pragma GCC unroll 8
            for (int b = 0; b < BLOCKS; b++) add_scores(sums[q][b], from + b * width * LANES, i, queries + q * pitch);
    for (int q = 0; q < QUERIES; q++)
        for (int b = 0; b < BLOCKS; b++) store(scores + q * room + (block + b) * LANES, sums[q][b]);
}

// Weights of the first `count` scores, of which at least one, and zeros up to the end of `length`; gives 1 / their sum.
inline float softmax(float* scores, size_t count, size_t length) {
    const size_t end = (count + LANES - 1) / LANES * LANES;
    for (size_t i = count; i < end; i++) scores[i] = -INFINITY;
    Floats highest = load(scores);
    for (size_t i = LANES; i < end; i += LANES) highest = larger(highest, load(scores + i));
    const Floats top = all(largest(highest));
    Floats total = {};
    for (size_t i = 0; i < end; i += LANES) {
        const Floats score = load(scores + i);
        const Floats weight = choose(score == -INFINITY, Floats{}, exponential(score - top));
        total += weight;
        store(scores + i, weight);
    }
    for (size_t i = end; i < length; i++) scores[i] = 0;
    return 1.0f / sum(total);
}

// Sums of values, weighted: CHUNKS vectors of 16 of each of QUERIES rows.
template <int QUERIES, int CHUNKS, typename Number>
inline void weigh(const Number* values, size_t count, const float* weights, size_t room, const float* factors,
                  size_t width, size_t chunk, Coming& coming, float* output) {
    Floats sums[QUERIES][CHUNKS] = {};
    const Number* from = values + chunk * LANES;
    for (size_t position = 0; position < count; position++, from += width) {
        coming.fetch();
        Floats parts[CHUNKS];
#pragma GCC unroll 4
        for (int c = 0; c < CHUNKS; c++) parts[c] = load(from + c * LANES);
#pragma GCC unroll 8
        for (int q = 0; q < QUERIES; q++) {
            const Floats weight = all(weights[q * room + position]);
#pragma GCC unroll 4
            for (int c = 0; c < CHUNKS; c++) sums[q][c] = multiply_add(weight, parts[c], sums[q][c]);
        }
    }
    for (int q = 0; q < QUERIES; q++)
        for (int c = 0; c < CHUNKS; c++) store(output + q * width + (chunk + c) * LANES, sums[q][c] * factors[q]);
}

template <int QUERIES, typename Number>
inline void attend_rows(const Number* keys, const Number* values, bool goes_on, size_t first, const float* queries,
                        size_t pitch, size_t width, float* scores, size_t room, float* output) {
    constexpr int SHARES = QUERIES == 3 ? 4 : QUERIES;
    // One query waits for the memory: keys are read as a single stream, and what comes after is on its way meanwhile.
    // In float32 eight streams, and none on its way, are as fast.
    constexpr bool WAITS = QUERIES == 1 && sizeof(Number) == 2;
    constexpr int BLOCKS = WAITS ? 1 : SCORES_AT_ONCE / SHARES, CHUNKS = std::min(4, OUTPUTS_AT_ONCE / SHARES);
    const size_t count = first + QUERIES;  // positions that the last row sees
    const size_t blocks = (count + LANES - 1) / LANES;
    const size_t bytes = WAITS ? count * width * sizeof(Number) : 0;
    Coming values_of_these(values, bytes, blocks), keys_of_next(keys + room * width, goes_on ? bytes : 0, count);
    size_t block = 0;
    for (; block + BLOCKS <= blocks; block += BLOCKS) {
        values_of_these.fetch();
        score_blocks<QUERIES, BLOCKS>(keys, block, queries, pitch, width, scores, room);
    }
    for (; block < blocks; block++) score_blocks<QUERIES, 1>(keys, block, queries, pitch, width, scores, room);
    float factors[QUERIES];
    for (int q = 0; q < QUERIES; q++) factors[q] = softmax(scores + q * room, first + q + 1, blocks * LANES);
    size_t chunk = 0;
    for (; chunk + CHUNKS <= width / LANES; chunk += CHUNKS)
        weigh<QUERIES, CHUNKS>(values, count, scores, room, factors, width, chunk, keys_of_next, output);
    for (; chunk < width / LANES; chunk++)
        weigh<QUERIES, 1>(values, count, scores, room, factors, width, chunk, keys_of_next, output);
}

// Attention by vectors, in float32 over a cache of `Number`s: keys lie in blocks of 16 positions, so that one vector
// holds as many positions: float32 [block][width][16], bfloat16 [block][width / 2][16][2]. Values lie position by
// position.
template <typename Number>
struct VectorAttention {
    typedef float Query;
    static constexpr size_t QUERIES = 4;

    static void fetch_key(Number*, size_t, size_t, size_t) {}
    static void fetch_value(Number*, size_t, size_t, size_t) {}

    // Numbers i.. of the key or value at a position.
    static void store_key(Number* keys, size_t position, size_t i, size_t width, Floats numbers) {
        Number* block = keys + position / LANES * width * LANES;
        Number rounded[LANES];
        store(rounded, numbers);
        for (size_t lane = 0; lane < LANES; lane++) block[key_index(position % LANES, i + lane)] = rounded[lane];
    }
    static void store_value(Number* values, size_t position, size_t i, size_t width, Floats numbers) {
        store(values + position * width + i, numbers);
    }
    static size_t room(size_t positions) { return QUERIES * positions; }

    // Attend `number` rows (up to QUERIES) at positions first.. over one head of one slot. `queries`: [number, pitch],
    // scaled; `room`: as many floats as `room` says; `output`: [QUERIES, width]; `goes_on`: the next head comes next.
    static void attend(const Number* keys, const Number* values, bool goes_on, size_t first, size_t number,
                       const Query* queries, size_t pitch, size_t width, float* room, size_t positions, float* output) {
        switch (number) {
            case 1:
                return attend_rows<1>(keys, values, goes_on, first, queries, pitch, width, room, positions, output);
            case 2:
                return attend_rows<2>(keys, values, goes_on, first, queries, pitch, width, room, positions, output);
            case 3:
                return attend_rows<3>(keys, values, goes_on, first, queries, pitch, width, room, positions, output);
            default:
                return attend_rows<4>(keys, values, goes_on, first, queries, pitch, width, room, positions, output);
        }
    }

private:
    static size_t key_index(size_t lane, size_t i) {
        if (sizeof(Number) == 4) return i * LANES + lane;
        return i / 2 * 2 * LANES + lane * 2 + i % 2;
    }
};

}  // namespace sluicegate
