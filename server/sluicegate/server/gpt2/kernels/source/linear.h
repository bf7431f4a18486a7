// Products of a step's rows with packed weights. A result depends on its own row and column only, never on how many
// rows there are: each is one chain of additions over k, in the same order whatever runs beside it.
#pragma once

#include "coming.h"
#include "vectors.h"

#include <algorithm>
#include <cstddef>

namespace sluicegate {

// Weights [columns, k] lie in panels of 32 columns, each read as a single stream, which the hardware foresees.
// float32: [panel][k][32]. bfloat16: [panel][k / 2][32][2], pairs of k side by side, as a dot product of pairs wants
// them; for AMX [panel][k / 32][2][16][16][2], the same tile by tile.
constexpr int PANEL = 2 * LANES;
constexpr int TILE_K = 32;
constexpr int TILE_ROWS = 16;

constexpr size_t panels(size_t columns) { return (columns + PANEL - 1) / PANEL; }

// `Operand` is what rows are stored as before a product.
#if defined(__AMX_BF16__) || defined(__AVX512BF16__)
struct Bfloat16 {
    typedef Bf16 Weight;
    typedef Bf16 Operand;
};
#else
struct Bfloat16 {
    typedef Bf16 Weight;
    typedef float Operand;
};
#endif
struct Float32 {
    typedef float Weight;
    typedef float Operand;
};

// Whether products of such operands go by AMX's tiles.
#if defined(__AMX_BF16__)
template <typename Operand>
constexpr bool BY_TILES = sizeof(Operand) == 2;
#else
template <typename Operand>
constexpr bool BY_TILES = false;
#endif

// Rows of operands [rows, k] as products read them, so that each reads one stream: in tiles of 16 rows and 32 numbers,
// [row / 16][k / 32][16][32], or row by row.
template <typename Operand>
struct Rows {
    Operand* at;
    size_t k;

    // Numbers i.. of a row, of which 16 lie together; i is a multiple of 16.
    Operand* of(size_t row, size_t i) const {
        if (!BY_TILES<Operand>) return at + row * pitch() + i;
        return at + (row / TILE_ROWS * k + i / TILE_K * TILE_K) * TILE_ROWS + row % TILE_ROWS * TILE_K + i % TILE_K;
    }

    // Between the starts of two rows that lie row by row: whole cache lines, and not a power of two of them.
    size_t pitch() const { return k + 64 / sizeof(Operand); }

    // Numbers that take `rows` rows, and what is read beyond them.
    static size_t size(size_t rows, size_t k) {
        constexpr size_t WHOLE = BY_TILES<Operand> ? 2 * TILE_ROWS : 1;
        return (rows + WHOLE - 1) / WHOLE * WHOLE * Rows{nullptr, k}.pitch();
    }
};

// Index of a weight in its packed panels.
template <typename Format>
inline size_t packed_index(size_t column, size_t k, size_t depth) {
    const size_t panel = column / PANEL, within = column % PANEL;
    if (sizeof(typename Format::Weight) == 4) return (panel * depth + k) * PANEL + within;
    if (!BY_TILES<typename Format::Operand>) return (panel * depth + k / 2 * 2) * PANEL + within * 2 + k % 2;
    const size_t tile = (panel * (depth / TILE_K) + k / TILE_K) * 2 + within / LANES;
    return (tile * (TILE_K / 2) + k % TILE_K / 2) * PANEL + within % LANES * 2 + k % 2;
}

#if defined(__AMX_BF16__)

constexpr int TILE_BYTES = 64;               // of a tile's row
constexpr size_t TILE = TILE_ROWS * TILE_K;  // numbers of a tile

// GCC's intrinsics do not say that tiles are loaded from memory: what was stored there before must not stay in
// registers.
inline void settle_memory() { asm volatile("" ::: "memory"); }

struct TileShape {
    uint8_t of[8];
};
inline void configure_tiles(TileShape rows, TileShape bytes) {
    alignas(64) struct {
        uint8_t palette, start_row, reserved[14];
        uint16_t bytes[16];
        uint8_t rows[16];
    } config = {};
    config.palette = 1;
    for (int tile = 0; tile < 8; tile++) config.rows[tile] = rows.of[tile], config.bytes[tile] = bytes.of[tile];
    settle_memory();
    _tile_loadconfig(&config);
}

// Tiles 0-3 are sums, 4-5 rows, 6-7 weights; all of the full 16 rows of 64 bytes.
inline void configure_tiles() { configure_tiles({16, 16, 16, 16, 16, 16, 16, 16}, {64, 64, 64, 64, 64, 64, 64, 64}); }
inline void release_tiles() { _tile_release(); }

// Weights come from memory when a step uses them first. Where rows need two tiles, loads of tiles wait for one another,
// and the hardware's own prefetching is too late.
inline void fetch_ahead(const Bf16* weights) {
    constexpr int DISTANCE = 8192;
    const char* from = reinterpret_cast<const char*>(weights) + DISTANCE;
    for (int line = 0; line < PANEL * TILE_K * 2; line += 64) __builtin_prefetch(from + line, 0, 2);
}

#else
inline void configure_tiles() {}
inline void release_tiles() {}
#endif

// Of a panel and of a row, what is multiplied at once: 16 columns' numbers i + odd, or their pairs at i.
inline Floats weights_at(const float* panel, size_t i, size_t odd, int vector) {
    return load(panel + (i + odd) * PANEL + vector * LANES);
}
inline Floats factor_of(const float* numbers) { return all(*numbers); }
inline void add_products(Floats& sum, Floats weights, Floats factor) { sum = multiply_add(weights, factor, sum); }

inline Words pairs_at(const Bf16* panel, size_t i, int vector) {
    return load_words(panel + i * PANEL + vector * 2 * LANES);
}
#if defined(__AVX512BF16__)
inline Words weights_at(const Bf16* panel, size_t i, size_t, int vector) { return pairs_at(panel, i, vector); }
inline Words factor_of(const Bf16* numbers) {
    uint32_t pair;
    std::memcpy(&pair, numbers, sizeof pair);
    return all(pair);
}
inline void add_products(Floats& sum, Words weights, Words factor) {
    sum = (Floats)_mm512_dpbf16_ps((__m512)sum, (__m512bh)weights, (__m512bh)factor);
}
#else
inline Floats weights_at(const Bf16* panel, size_t i, size_t odd, int vector) {
    return odd ? second_of_pairs(pairs_at(panel, i, vector)) : first_of_pairs(pairs_at(panel, i, vector));
}
#endif

// Columns 16 * vector.. of a panel, VECTORS times 16, times COUNT rows; `finish(row, column, Floats)` gets each row's
// 16 sums at columns column.. . `coming` is told of each TILE_K numbers of k. Loops over sums are unrolled so that they
// stay in registers: GCC keeps an array in memory that a variable ever counts through.
template <int COUNT, int VECTORS, typename Weight, typename Operand, typename Finish>
inline void panel_rows(const Weight* weights, const Operand* rows, size_t pitch, size_t k, size_t first, size_t column,
                       int vector, Coming& coming, const Finish& finish) {
    constexpr size_t STEP = sizeof(Operand) == 4 ? 1 : 2;
    Floats sums[COUNT][VECTORS] = {};
    for (size_t i = 0; i < k; i += 2) {
        if (i % TILE_K == 0) coming.fetch();
#pragma GCC unroll 2
        for (size_t odd = 0; odd < 2; odd += STEP) {
            decltype(weights_at(weights, i, odd, 0)) loaded[VECTORS];
#pragma GCC unroll 2
            for (int v = 0; v < VECTORS; v++) loaded[v] = weights_at(weights, i, odd, vector + v);
#pragma GCC unroll 16
            for (int row = 0; row < COUNT; row++) {
                const auto factor = factor_of(rows + row * pitch + i + odd);
#pragma GCC unroll 2
                for (int v = 0; v < VECTORS; v++) add_products(sums[row][v], loaded[v], factor);
            }
        }
    }
    Floats results[COUNT][VECTORS];
#pragma GCC unroll 16
    for (int row = 0; row < COUNT; row++)
#pragma GCC unroll 2
        for (int v = 0; v < VECTORS; v++) results[row][v] = sums[row][v];
    for (int row = 0; row < COUNT; row++)
        for (int v = 0; v < VECTORS; v++) finish(first + row, column + (vector + v) * LANES, results[row][v]);
}

// Rows that go at once, by halves of the panel or by all of it: as many as registers have room for.
#if defined(__AVX512F__)
template <typename Weight>
constexpr int ROWS_AT_ONCE = 12;  // of 32 registers, 24 are sums, 2 weights and one a factor
template <typename Weight>
constexpr int ROWS_OF_PANELS = ROWS_AT_ONCE<Weight>;
#else
template <typename Weight>
constexpr int ROWS_AT_ONCE = sizeof(Weight) == 4 ? 6 : 4;  // of 16, 12 or 8 are sums; pairs need more beside them
template <typename Weight>
constexpr int ROWS_OF_PANELS = sizeof(Weight) == 4 ? 3 : 1;
#endif

// COUNT rows, up to ROWS_AT_ONCE.
template <int COUNT, typename Weight, typename Operand, typename Finish>
inline void panel_group(const Weight* weights, const Operand* rows, size_t pitch, size_t k, size_t first, size_t column,
                        Coming& coming, const Finish& finish) {
    if constexpr (COUNT <= ROWS_OF_PANELS<Weight>)
        panel_rows<COUNT, 2>(weights, rows, pitch, k, first, column, 0, coming, finish);
    else
        for (int vector = 0; vector < 2; vector++)
            panel_rows<COUNT, 1>(weights, rows, pitch, k, first, column, vector, coming, finish);
}

template <int COUNT, typename Weight, typename Operand, typename Finish>
inline void panel_rest(const Weight* weights, const Operand* rows, size_t pitch, size_t k, size_t first, size_t count,
                       size_t column, Coming& coming, const Finish& finish) {
    if constexpr (COUNT > 0) {
        if (count == COUNT)
            panel_group<COUNT>(weights, rows, pitch, k, first, column, coming, finish);
        else
            panel_rest<COUNT - 1>(weights, rows, pitch, k, first, count, column, coming, finish);
    }
}

#if defined(__AMX_BF16__)
// The same as panel_product by tiles, 32 rows at a time. What is done with sums is done while the next rows' products are
// made: the processor works on both at once.
template <typename Ahead, typename Finish>
inline void panel_tiles(const Bf16* weights, const Rows<Bf16>& rows, size_t first, size_t last, size_t column,
                        const Ahead& ahead, const Finish& finish) {
    constexpr size_t GROUP = 2 * TILE_ROWS;
    alignas(64) float sums[2][4][TILE_ROWS][LANES];  // of two groups in turns; upper left, upper right, lower left, ...
    const size_t steps = rows.k / TILE_K, meanwhile = (GROUP + steps - 1) / steps;
    size_t finished = first;
    const auto finish_until = [&](size_t end) {
        for (; finished < end; finished++) {
            const size_t within = (finished - first) % GROUP;
            const auto& tiles = sums[(finished - first) / GROUP % 2];
            finish(finished, column, load(tiles[within / TILE_ROWS * 2][within % TILE_ROWS]));
            finish(finished, column + LANES, load(tiles[within / TILE_ROWS * 2 + 1][within % TILE_ROWS]));
        }
    };
    for (size_t group = first; group < last; group += GROUP) {
        const bool both = last - group > TILE_ROWS;
        const Bf16 *upper = rows.of(group, 0), *lower = rows.of(group + TILE_ROWS, 0), *from = weights;
        auto& tiles = sums[(group - first) / GROUP % 2];
        for (size_t row = group; row < std::min(last, group + GROUP); row++) ahead(row, column);
        settle_memory();
        _tile_zero(0);
        _tile_zero(1);
        if (both) {
            _tile_zero(2);
            _tile_zero(3);
            for (size_t step = 0; step < steps; step++, from += PANEL * TILE_K, upper += TILE, lower += TILE) {
                if (group == first) fetch_ahead(from);
                _tile_loadd(6, from, TILE_BYTES);
                _tile_loadd(4, upper, TILE_BYTES);
                _tile_dpbf16ps(0, 4, 6);
                _tile_loadd(7, from + TILE, TILE_BYTES);
                _tile_dpbf16ps(1, 4, 7);
                _tile_loadd(5, lower, TILE_BYTES);
                _tile_dpbf16ps(2, 5, 6);
                _tile_dpbf16ps(3, 5, 7);
                finish_until(std::min(group, finished + meanwhile));
            }
            _tile_stored(2, tiles[2], TILE_BYTES);
            _tile_stored(3, tiles[3], TILE_BYTES);
        } else {
            for (size_t step = 0; step < steps; step++, from += PANEL * TILE_K, upper += TILE) {
                _tile_loadd(4, upper, TILE_BYTES);
                _tile_loadd(6, from, TILE_BYTES);
                _tile_dpbf16ps(0, 4, 6);
                _tile_loadd(7, from + TILE, TILE_BYTES);
                _tile_dpbf16ps(1, 4, 7);
                finish_until(std::min(group, finished + meanwhile));
            }
        }
        _tile_stored(0, tiles[0], TILE_BYTES);
        _tile_stored(1, tiles[1], TILE_BYTES);
        settle_memory();
    }
    finish_until(last);
}
#endif

// One panel of weights [32, k] times rows first..last-1; k is a multiple of 32. `next` are the weights of the panel that this
// thread probably takes next. `ahead(row, column)` comes some time before a row's sums, to fetch what they go to.
template <typename Weight, typename Operand, typename Ahead, typename Finish>
inline void panel_product(const Weight* weights, const Weight* next, const Rows<Operand>& rows, size_t first, size_t last,
                          size_t column, const Ahead& ahead, const Finish& finish) {
    if constexpr (BY_TILES<Operand>) {
        panel_tiles(weights, rows, first, last, column, ahead, finish);
    } else {
        constexpr size_t FEW = 3;  // rows, with which the memory never waits
        constexpr size_t AT_ONCE = ROWS_AT_ONCE<Weight>;
        const auto passes = [](size_t count) { return count > ROWS_OF_PANELS<Weight> ? 2 : count > 0 ? 1 : 0; };
        const size_t all = (last - first) / AT_ONCE * passes(AT_ONCE) + passes((last - first) % AT_ONCE);
        Coming coming(next, last - first > FEW ? PANEL * rows.k * sizeof(Weight) : 0, all * (rows.k / TILE_K));
        for (size_t row = first; row < last; row++) ahead(row, column);
        for (; last - first >= AT_ONCE; first += AT_ONCE)
            panel_group<AT_ONCE>(weights, rows.of(first, 0), rows.pitch(), rows.k, first, column, coming, finish);
        panel_rest<AT_ONCE - 1>(weights, rows.of(first, 0), rows.pitch(), rows.k, first, last - first, column, coming,
                                finish);
    }
}

}  // namespace sluicegate
