// AMX's tiles in software, for processors that have none: what the kernels' code for them computes is tested there too.
// Intel 64 and IA-32 Architectures Software Developer's Manual, volume 2, LDTILECFG and TDPBF16PS: sums are made in the
// same order, and what the hardware would not run ends the process. But subnormal numbers are kept, which the hardware
// takes for zero.
#pragma once

#include <immintrin.h>

#include <cstdint>
#include <cstdlib>
#include <cstring>

#include <sys/syscall.h>
#include <unistd.h>

namespace amx_model {

struct Tile {
    uint8_t rows[16][64];
    int count, bytes;  // of rows, of each; 0 where it is not configured
};
inline thread_local Tile tiles[8];

inline void demand(bool is_legal) {
    if (!is_legal) std::abort();
}

inline Tile& configured(int tile) {
    demand(tiles[tile].count > 0 && tiles[tile].bytes > 0);
    return tiles[tile];
}

inline void configure(const void* from) {
    const uint8_t* config = static_cast<const uint8_t*>(from);
    demand(config[0] == 1);
    for (int tile = 0; tile < 8; tile++) {
        tiles[tile] = {};
        tiles[tile].count = config[48 + tile];
        tiles[tile].bytes = config[16 + 2 * tile] | config[17 + 2 * tile] << 8;
        demand(tiles[tile].count <= 16 && tiles[tile].bytes <= 64);
    }
}

inline void release() {
    for (Tile& tile : tiles) tile = {};
}

inline void zero(int tile) { std::memset(configured(tile).rows, 0, sizeof tiles[tile].rows); }

inline void load(int tile, const void* from, size_t stride) {
    zero(tile);
    for (int row = 0; row < tiles[tile].count; row++)
        std::memcpy(tiles[tile].rows[row], static_cast<const uint8_t*>(from) + row * stride, tiles[tile].bytes);
}

inline void store(int tile, void* to, size_t stride) {
    for (int row = 0; row < configured(tile).count; row++)
        std::memcpy(static_cast<uint8_t*>(to) + row * stride, tiles[tile].rows[row], tiles[tile].bytes);
}

inline float bfloat16_at(const uint8_t* from) {
    const uint32_t bits = static_cast<uint32_t>(from[0] | from[1] << 8) << 16;
    float value;
    std::memcpy(&value, &bits, sizeof value);
    return value;
}

inline void add_products(int sums, int left, int right) {
    Tile &to = configured(sums), &rows = configured(left), &columns = configured(right);
    demand(to.count == rows.count && to.bytes == columns.bytes && rows.bytes / 4 == columns.count);
    for (int row = 0; row < to.count; row++) {
        float first[16] = {}, second[16] = {}, sum[16] = {};  // of pairs' products, by column
        for (int pair = 0; pair < columns.count; pair++) {
            const uint8_t* factors = rows.rows[row] + pair * 4;
            const float upper = bfloat16_at(factors), lower = bfloat16_at(factors + 2);
            for (int column = 0; column < 16; column++) {
                first[column] += upper * bfloat16_at(columns.rows[pair] + column * 4);
                second[column] += lower * bfloat16_at(columns.rows[pair] + column * 4 + 2);
            }
        }
        std::memcpy(sum, to.rows[row], to.bytes);
        for (int column = 0; column < 16; column++) sum[column] += first[column] + second[column];
        std::memcpy(to.rows[row], sum, to.bytes);
    }
}

}  // namespace amx_model

#undef _tile_loadconfig
#undef _tile_release
#undef _tile_zero
#undef _tile_loadd
#undef _tile_stored
#undef _tile_dpbf16ps
#define _tile_loadconfig amx_model::configure
#define _tile_release amx_model::release
#define _tile_zero amx_model::zero
#define _tile_loadd amx_model::load
#define _tile_stored amx_model::store
#define _tile_dpbf16ps amx_model::add_products

#define __AMX_BF16__ 1
#define syscall(...) 0L  // the permission that Linux gives for tiles
