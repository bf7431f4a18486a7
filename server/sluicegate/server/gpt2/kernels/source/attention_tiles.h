// Attention in bfloat16 by AMX's tiles: keys times queries, then weights times values, whole tiles of the cache at a
// time. One row alone goes through tiles of one column or row, and gets the same result to the bit as among sixteen.
#pragma once

#include "attention.h"
#include "linear.h"
#include "vectors.h"

#include <cmath>

namespace sluicegate {

constexpr int TILE_QUERIES = 16;

// Tiles 0-3 are scores of one query against 16 keys each; 4 keys, 6 the query.
inline void configure_scores() { configure_tiles({16, 16, 16, 16, 16, 16, 16, 16}, {4, 4, 4, 4, 64, 64, 4, 4}); }
// Tiles 0-3 are 16 numbers each of one row's output; 4 its weights, 6 values.
inline void configure_output() { configure_tiles({1, 1, 1, 1, 1, 1, 16, 16}, {64, 64, 64, 64, 64, 64, 64, 64}); }

// Scores of `count` keys, up to the next multiple of 16, against `columns` queries: [count, columns].
inline void score_tiles(const Bf16* keys, size_t count, size_t width, const Bf16* queries, size_t columns,
                        float* scores) {
    const size_t query_bytes = columns * 4, block = TILE_ROWS * width;
    const size_t blocks = (count + TILE_ROWS - 1) / TILE_ROWS;
    settle_memory();
    for (size_t first = 0; first < blocks; first += 4, keys += 4 * block, scores += 4 * TILE_ROWS * columns) {
        const size_t number = std::min<size_t>(4, blocks - first);
        _tile_zero(0);
        _tile_zero(1);
        _tile_zero(2);
        _tile_zero(3);
        for (size_t i = 0; i < width; i += TILE_K) {
            const Bf16* from = keys + i * TILE_ROWS;
            _tile_loadd(6, queries + i * columns, query_bytes);
            _tile_loadd(4, from, TILE_BYTES);
            _tile_dpbf16ps(0, 4, 6);
            if (number > 1) {
                _tile_loadd(5, from + block, TILE_BYTES);
                _tile_dpbf16ps(1, 5, 6);
            }
            if (number > 2) {
                _tile_loadd(4, from + 2 * block, TILE_BYTES);
                _tile_dpbf16ps(2, 4, 6);
            }
            if (number > 3) {
                _tile_loadd(5, from + 3 * block, TILE_BYTES);
                _tile_dpbf16ps(3, 5, 6);
            }
        }
        _tile_stored(0, scores, query_bytes);
        _tile_stored(1, scores + TILE_ROWS * columns, query_bytes);
        _tile_stored(2, scores + 2 * TILE_ROWS * columns, query_bytes);
        _tile_stored(3, scores + 3 * TILE_ROWS * columns, query_bytes);
    }
}

// Weighted sums of values over `count` positions, up to the next multiple of 32: as many rows as tiles have, 64 numbers
// of each from `i` on.
inline void weigh_tiles(const Bf16* values, size_t count, size_t width, size_t i, const Bf16* weights, size_t pitch,
                        float* output) {
    const Bf16* from = values + i * TILE_K;
    settle_memory();
    _tile_zero(0);
    _tile_zero(1);
    _tile_zero(2);
    _tile_zero(3);
    for (size_t position = 0; position < count; position += TILE_K, from += TILE_K * width) {
        _tile_loadd(4, weights + position, pitch * 2);
        _tile_loadd(6, from, TILE_BYTES);
        _tile_dpbf16ps(0, 4, 6);
        _tile_loadd(7, from + LANES * TILE_K, TILE_BYTES);
        _tile_dpbf16ps(1, 4, 7);
        if (i + 2 * LANES < width) {
            _tile_loadd(6, from + 2 * LANES * TILE_K, TILE_BYTES);
            _tile_dpbf16ps(2, 4, 6);
            _tile_loadd(7, from + 3 * LANES * TILE_K, TILE_BYTES);
            _tile_dpbf16ps(3, 4, 7);
        }
    }
    _tile_stored(0, output + i, width * 4);
    _tile_stored(1, output + i + LANES, width * 4);
    if (i + 2 * LANES < width) {
        _tile_stored(2, output + i + 2 * LANES, width * 4);
        _tile_stored(3, output + i + 3 * LANES, width * 4);
    }
}

// Ask for the beginning of what is read next. Reading stops at each border between keys, values and heads, until the
// hardware has seen that another stream begins; by then this is there.
inline void fetch_beginning(const Bf16* from) {
    for (size_t line = 0; line < 32; line++) __builtin_prefetch(from + line * 32, 0, 2);
}

inline Floats rounded(Floats values) {
    const Words bits = reinterpret_cast<Words>(values);
    return reinterpret_cast<Floats>((bits + 0x7FFFu + ((bits >> 16) & 1u)) & 0xFFFF0000u);
}

// Room that one thread needs.
struct TileRoom {
    float* scores;     // [positions, 16]
    Bf16* weights;     // [16, positions]
    size_t positions;  // a multiple of 64
};

// One query at position `first`. `queries`: [1, pitch] scaled; `output`: [1, width].
inline void attend_alone(const Bf16* keys, const Bf16* values, size_t first, const Bf16* queries, size_t width,
                         const TileRoom& room, float* output) {
    const size_t count = first + 1;
    const size_t end = (count + LANES - 1) / LANES * LANES, whole = (count + TILE_K - 1) / TILE_K * TILE_K;
    configure_scores();
    score_tiles(keys, count, width, queries, 1, room.scores);
    fetch_beginning(values);
    for (size_t key = count; key < end; key++) room.scores[key] = -INFINITY;
    Floats highest = load(room.scores);
    for (size_t key = LANES; key < end; key += LANES) highest = larger(highest, load(room.scores + key));
    const Floats top = all(largest(highest));
    Floats total = {};
    for (size_t key = 0; key < end; key += LANES) {
        const Floats score = load(room.scores + key);
        const Floats weight = rounded(score == -INFINITY ? Floats{} : exponential(score - top));
        total += weight;
        store(room.weights + key, weight);
    }
    if (end < whole) store(room.weights + end, Floats{});
    configure_output();
    for (size_t i = 0; i < width; i += 4 * LANES)
        weigh_tiles(values, count, width, i, room.weights, room.positions, output);
    fetch_beginning(keys + room.positions * width);  // of the next head
    const Floats factor = all(1.0f / sum(total));
    for (size_t i = 0; i < width; i += LANES) store(output + i, load(output + i) * factor);
}

// `number` (up to 16) rows at positions first.. . `from`: their queries [number, pitch], scaled; `output`: [16, width].
inline void attend_together(const Bf16* keys, const Bf16* values, size_t first, size_t number, const Bf16* from,
                            size_t pitch, size_t width, const TileRoom& room, float* output) {
    const size_t count = first + number, whole = (count + TILE_K - 1) / TILE_K * TILE_K;
    alignas(64) uint32_t queries[256 / 2][TILE_QUERIES] = {};
    for (size_t query = 0; query < number; query++)
        for (size_t pair = 0; pair < width / 2; pair++)
            std::memcpy(&queries[pair][query], from + query * pitch + pair * 2, 4);
    score_tiles(keys, count, width, reinterpret_cast<const Bf16*>(queries), TILE_QUERIES, room.scores);
    const Ints lanes = {0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15};
    const Ints seen = lanes + static_cast<int>(first);  // the last key of each query
    Floats top = all(-INFINITY);
    for (size_t key = 0; key < count; key++) {
        Floats score = load(room.scores + key * TILE_QUERIES);
        if (key > first) {
            score = seen < static_cast<int>(key) ? all(-INFINITY) : score;
            store(room.scores + key * TILE_QUERIES, score);
        }
        top = larger(top, score);
    }
    Floats totals[LANES] = {};
    const __m512i columns = (__m512i)(lanes * static_cast<int>(room.positions / 2));
    for (size_t key = 0; key < whole; key += 2) {
        Floats weights[2];
        for (size_t i = 0; i < 2; i++) {
            const Floats score = key + i < count ? load(room.scores + (key + i) * TILE_QUERIES) : all(-INFINITY);
            weights[i] = rounded(score == -INFINITY ? Floats{} : exponential(score - top));
            totals[(key + i) % LANES] += weights[i];
        }
        const Words pairs = reinterpret_cast<Words>(weights[0]) >> 16 | reinterpret_cast<Words>(weights[1]);
        _mm512_i32scatter_epi32(reinterpret_cast<int*>(room.weights + key), columns, (__m512i)pairs, 4);
    }
    for (int half = LANES / 2; half; half /= 2)
        for (int lane = 0; lane < half; lane++) totals[lane] += totals[lane + half];
    for (size_t i = 0; i < width; i += 4 * LANES)
        weigh_tiles(values, count, width, i, room.weights, room.positions, output);
    for (size_t query = 0; query < number; query++) {
        const Floats factor = all(1.0f / totals[0][query]);
        for (size_t i = 0; i < width; i += LANES)
            store(output + query * width + i, load(output + query * width + i) * factor);
    }
}

// Attention by tiles. The cache lies tile by tile, so that reading it is one stream: keys [position / 16][width /
// 32][16][32], values [position / 32][width / 16][16][16][2], pairs of positions side by side.
struct TileAttention {
    typedef Bf16 Query;
    static constexpr size_t QUERIES = TILE_QUERIES;

    // Numbers i.. of the key or value at a position; i is a multiple of 16. The other position of a value's pair may be
    // stored by another thread at the same time.
    static void store_key(Bf16* keys, size_t position, size_t i, size_t width, Floats numbers) {
        Bf16* tile = keys + position / TILE_ROWS * TILE_ROWS * width + i / TILE_K * TILE_K * TILE_ROWS;
        store(tile + position % TILE_ROWS * TILE_K + i % TILE_K, numbers);
    }
    static void fetch_key(Bf16* keys, size_t position, size_t i, size_t width) {
        Bf16* tile = keys + position / TILE_ROWS * TILE_ROWS * width + i / TILE_K * TILE_K * TILE_ROWS;
        __builtin_prefetch(tile + position % TILE_ROWS * TILE_K, 1);
    }
    static void fetch_value(Bf16* values, size_t position, size_t i, size_t width) {
        Bf16* tile = values + position / TILE_K * TILE_K * width + i * TILE_K + position % TILE_K / 2 * TILE_K;
        __builtin_prefetch(tile, 1);
        __builtin_prefetch(tile + LANES * TILE_K, 1);
    }
    static void store_value(Bf16* values, size_t position, size_t i, size_t width, Floats numbers) {
        Bf16* tile = values + position / TILE_K * TILE_K * width + i * TILE_K;
        const Words upper = reinterpret_cast<Words>(rounded(numbers));
        const bool odd = position % 2;
        _mm512_mask_storeu_epi16(tile + position % TILE_K / 2 * TILE_K, odd ? 0xAAAAAAAA : 0x55555555,
                                 (__m512i)(odd ? upper : upper >> 16));
    }
    static size_t room(size_t positions) { return positions * (TILE_QUERIES + TILE_QUERIES / 2); }

    static void attend(const Bf16* keys, const Bf16* values, bool, size_t first, size_t number, const Query* queries,
                       size_t pitch, size_t width, float* room, size_t positions, float* output) {
        const TileRoom parts = {room, reinterpret_cast<Bf16*>(room + positions * TILE_QUERIES), positions};
        if (number == 1)
            attend_alone(keys, values, first, queries, width, parts, output);
        else {
            configure_tiles();
            attend_together(keys, values, first, number, queries, pitch, width, parts, output);
        }
    }
};

}  // namespace sluicegate
