// Products of a step's rows with packed weights. A result depends on its own row and column only, never on how many
// rows there are: each is one chain of additions over k, in the same order whatever runs beside it.
#pragma once

#include "vectors.h"

#include <algorithm>
#include <cstddef>

namespace sluicegate {

// Weights [columns, k] lie in panels of 32 columns. float32: [panel][k][32]. bfloat16: [panel][k / 32][2][16][16][2],
// pairs of k side by side in blocks of 32 k and 16 columns: a tile of AMX, and what a dot product of pairs wants.
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

// Brings the weights that are read next into the core's cache while products are made of those that are there: where a
// panel passes by several groups of rows, or many, the memory would wait for the processor else.
class Coming {
public:
    Coming(const void* from, size_t bytes, size_t steps)
        : from_(static_cast<const char*>(from)), lines_(bytes / 64), a_step_((lines_ + steps - 1) / steps) {}

    // Once before each of the steps that were told.
    void fetch() {
        for (size_t end = std::min(lines_, next_ + a_step_); next_ < end; next_++)
            __builtin_prefetch(from_ + next_ * 64, 0, 2);
    }

private:
    const char* from_;
    size_t lines_, a_step_, next_ = 0;
};

// One panel times `COUNT` rows; `finish(row, column, Floats)` gets each row's 16 sums at columns column.. . `coming` is told
// of each TILE_K numbers of k.
template <int COUNT, typename Finish>
inline void panel_rows(const float* weights, const float* rows, size_t pitch, size_t k, size_t first, size_t column,
                       Coming& coming, const Finish& finish) {
    Floats sums[COUNT][2] = {};
    for (size_t i = 0; i < k; i++) {
        if (i % TILE_K == 0) coming.fetch();
        const Floats left = load(weights + i * PANEL), right = load(weights + i * PANEL + LANES);
#pragma GCC unroll 16
        for (int row = 0; row < COUNT; row++) {
            const Floats factor = all(rows[row * pitch + i]);
            sums[row][0] += left * factor;
            sums[row][1] += right * factor;
        }
    }
    for (int row = 0; row < COUNT; row++) {
        finish(first + row, column, sums[row][0]);
        finish(first + row, column + LANES, sums[row][1]);
    }
}

#if defined(__AVX512BF16__)
template <int COUNT, typename Finish>
inline void panel_rows(const Bf16* weights, const Bf16* rows, size_t pitch, size_t k, size_t first, size_t column,
                       Coming& coming, const Finish& finish) {
    __m512 sums[COUNT][2];
    for (int row = 0; row < COUNT; row++) sums[row][0] = sums[row][1] = _mm512_setzero_ps();
    for (size_t tile = 0; tile < k; tile += TILE_K, weights += PANEL * TILE_K) {
        coming.fetch();
        for (int pair = 0; pair < TILE_K / 2; pair++) {
            const __m512bh left = (__m512bh)load_words(weights + pair * PANEL);
            const __m512bh right = (__m512bh)load_words(weights + (TILE_K / 2 + pair) * PANEL);
#pragma GCC unroll 16
            for (int row = 0; row < COUNT; row++) {
                int32_t both;
                std::memcpy(&both, rows + row * pitch + tile + pair * 2, sizeof both);
                const __m512bh factor = (__m512bh)_mm512_set1_epi32(both);
                sums[row][0] = _mm512_dpbf16_ps(sums[row][0], left, factor);
                sums[row][1] = _mm512_dpbf16_ps(sums[row][1], right, factor);
            }
        }
    }
    for (int row = 0; row < COUNT; row++) {
        finish(first + row, column, (Floats)sums[row][0]);
        finish(first + row, column + LANES, (Floats)sums[row][1]);
    }
}
#else
template <int COUNT, typename Finish>
inline void panel_rows(const Bf16* weights, const float* rows, size_t pitch, size_t k, size_t first, size_t column,
                       Coming& coming, const Finish& finish) {
    Floats sums[COUNT][2] = {};
    for (size_t tile = 0; tile < k; tile += TILE_K, weights += PANEL * TILE_K) {
        coming.fetch();
        for (int pair = 0; pair < TILE_K / 2; pair++) {
            const Words left = load_words(weights + pair * PANEL);
            const Words right = load_words(weights + (TILE_K / 2 + pair) * PANEL);
#pragma GCC unroll 16
            for (int row = 0; row < COUNT; row++) {
                const float* factors = rows + row * pitch + tile + pair * 2;
                sums[row][0] += first_of_pairs(left) * all(factors[0]);
                sums[row][0] += second_of_pairs(left) * all(factors[1]);
                sums[row][1] += first_of_pairs(right) * all(factors[0]);
                sums[row][1] += second_of_pairs(right) * all(factors[1]);
            }
        }
    }
    for (int row = 0; row < COUNT; row++) {
        finish(first + row, column, sums[row][0]);
        finish(first + row, column + LANES, sums[row][1]);
    }
}
#endif

#if defined(__AVX512F__)
constexpr int ROWS_AT_ONCE = 12;  // 24 sums, 2 weights and a factor of 32 registers
#else
constexpr int ROWS_AT_ONCE = 3;  // each vector is two registers of 16: 12 sums
#endif

template <int COUNT, typename Weight, typename Operand, typename Finish>
inline void panel_rest(const Weight* weights, const Operand* rows, size_t pitch, size_t k, size_t first, size_t count,
                       size_t column, Coming& coming, const Finish& finish) {
    if constexpr (COUNT > 0) {
        if (count == COUNT)
            panel_rows<COUNT>(weights, rows, pitch, k, first, column, coming, finish);
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
#else
template <typename... Arguments>
inline void panel_tiles(const Arguments&...) {}
#endif

// One panel of weights [32, k] times rows first..last-1; k is a multiple of 32. `next` are the weights of the panel that this
// thread probably takes next. `ahead(row, column)` comes some time before a row's sums, to fetch what they go to.
template <typename Weight, typename Operand, typename Ahead, typename Finish>
inline void panel_product(const Weight* weights, const Weight* next, const Rows<Operand>& rows, size_t first, size_t last,
                          size_t column, const Ahead& ahead, const Finish& finish) {
    if constexpr (BY_TILES<Operand>) return panel_tiles(weights, rows, first, last, column, ahead, finish);
    constexpr size_t FEW = 3;  // rows, with which the memory never waits
    const size_t groups = (last - first + ROWS_AT_ONCE - 1) / ROWS_AT_ONCE;
    Coming coming(next, last - first > FEW ? PANEL * rows.k * sizeof(Weight) : 0, groups * (rows.k / TILE_K));
    for (size_t row = first; row < last; row++) ahead(row, column);
    for (; last - first >= ROWS_AT_ONCE; first += ROWS_AT_ONCE)
        panel_rows<ROWS_AT_ONCE>(weights, rows.of(first, 0), rows.pitch(), rows.k, first, column, coming, finish);
    panel_rest<ROWS_AT_ONCE - 1>(weights, rows.of(first, 0), rows.pitch(), rows.k, first, last - first, column, coming,
                                 finish);
}

}  // namespace sluicegate
