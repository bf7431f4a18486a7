// AMX's tiles in software, for processors that have none: what the kernels' code for them computes is tested there too.
// Intel 64 and IA-32 Architectures Software Developer's Manual, volume 2, LDTILECFG and TDPBF16PS. Subnormal numbers are
// kept, where the hardware takes them for zero.
#pragma once

#include <immintrin.h>

#include <cstdint>
#include <cstring>

#include <sys/syscall.h>
#include <unistd.h>

namespace amx_model {

struct Tile {
    uint8_t rows[16][64];
    int count, bytes;  // of rows, of each
};
inline thread_local Tile tiles[8];

inline void configure(const void* from) {
    const uint8_t* config = static_cast<const uint8_t*>(from);
    for (int tile = 0; tile < 8; tile++) {
        tiles[tile] = {};
        tiles[tile].count = config[48 + tile];
        tiles[tile].bytes = config[16 + 2 * tile] | config[17 + 2 * tile] << 8;
    }
}

inline void zero(int tile) { std::memset(tiles[tile].rows, 0, sizeof tiles[tile].rows); }

inline void load(int tile, const void* from, size_t stride) {
    zero(tile);
    for (int row = 0; row < tiles[tile].count; row++)
        std::memcpy(tiles[tile].rows[row], static_cast<const uint8_t*>(from) + row * stride, tiles[tile].bytes);
}

inline void store(int tile, void* to, size_t stride) {
    for (int row = 0; row < tiles[tile].count; row++)
        std::memcpy(static_cast<uint8_t*>(to) + row * stride, tiles[tile].rows[row], tiles[tile].bytes);
}

inline float bfloat16_at(const uint8_t* from) {
    const uint32_t bits = static_cast<uint32_t>(from[0] | from[1] << 8) << 16;
    float value;
    std::memcpy(&value, &bits, sizeof value);
    return value;
}

inline void add_products(int sums, int left, int right) {
    for (int row = 0; row < tiles[sums].count; row++)
        for (int column = 0; column < tiles[sums].bytes / 4; column++) {
            float sum;
            std::memcpy(&sum, tiles[sums].rows[row] + column * 4, sizeof sum);
            for (int number = 0; number < tiles[left].bytes / 2; number++)
                sum += bfloat16_at(tiles[left].rows[row] + number * 2) *
                       bfloat16_at(tiles[right].rows[number / 2] + column * 4 + number % 2 * 2);
            std::memcpy(tiles[sums].rows[row] + column * 4, &sum, sizeof sum);
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
#define _tile_release() static_cast<void>(0)
#define _tile_zero amx_model::zero
#define _tile_loadd amx_model::load
#define _tile_stored amx_model::store
#define _tile_dpbf16ps amx_model::add_products

#define __AMX_BF16__ 1
#define syscall(...) 0L  // the permission that Linux gives for tiles
