// Convolutions at bf16 on a CPU with AMX, whose unit multiplies tiles of 16 rows of 64 bytes. Sizes and addresses as in
// convolution.hpp.
#pragma once

#include <utility>

#include "convolution.hpp"

#ifdef __AMX_BF16__
namespace direct {

constexpr int tile_floats = 16 * 16;  // that the unit's tiles hold

// Tiles 0 to 3 hold sums, 4 and 5 pixels, 6 and 7 weights. None is kept between calls of sum().
template <int TILE>
DIRECT_INLINE void tile_load(const void* from, long bytes_apart) {
  asm volatile("tileloadd (%0,%1,1), %%tmm%c2" : : "r"(from), "r"(bytes_apart), "i"(TILE) : "memory");
}
template <int TILE>
DIRECT_INLINE void tile_store(float* to) {
  asm volatile("tilestored %%tmm%c2, (%0,%1,1)" : : "r"(to), "r"(64L), "i"(TILE) : "memory");
}
template <int TILE>
DIRECT_INLINE void tile_zero() {
  asm volatile("tilezero %%tmm%c0" : : "i"(TILE));
}
template <int SUM, int PIXELS, int WEIGHTS>
DIRECT_INLINE void tile_multiply() {
  asm volatile("tdpbf16ps %%tmm%c2, %%tmm%c1, %%tmm%c0" : : "i"(SUM), "i"(PIXELS), "i"(WEIGHTS));
}

// Calls `body` with the numbers below N, as constants.
template <int N, class Body>
DIRECT_INLINE void each(const Body& body) {
  [&]<int... I>(std::integer_sequence<int, I...>) {
    (body(std::integral_constant<int, I>{}), ...);
  }(std::make_integer_sequence<int, N>{});
}

// How the unit is set for an operation: pieces of PIECE pixels, steps of STEP channels.
template <class G>
class Unit {
 public:
  Unit() {
    struct {
      std::uint8_t palette = 1, start_row = 0, reserved[14] = {};
      std::uint16_t bytes[16] = {};
      std::uint8_t rows[16] = {};
    } set;
    for (int tile = 0; tile < 8; ++tile) {
      set.rows[tile] = tile < 6 ? G::PIECE : G::STEP / 2;
      set.bytes[tile] = tile < 4 || tile > 5 ? 64 : 2 * G::STEP;
    }
    asm volatile("ldtilecfg %0" : : "m"(set));
  }
  Unit(const Unit&) = delete;
  Unit& operator=(const Unit&) = delete;
  ~Unit() { asm volatile("tilerelease"); }  // or else each change of threads saves 8 KB
};

// The sums of `PIECES` pieces by NV tiles of channels. From each pixel of `a` on lie the steps of its sum.
template <class G, int PIECES, int NV>
DIRECT_INLINE void sum(const bf16* const (&a)[PIECES], const bf16* b, float* sums) {
  each<PIECES * NV>([](auto i) { tile_zero<i>(); });
  for (int y = 0; y < G::KH; ++y) {
    for (int x = 0; x < G::RUNS; ++x) {
      const long run = y * G::IN_ROW + x * G::RUN_STEP;
#pragma GCC unroll 1
      for (int step = 0; step < G::STEPS; ++step) {
        each<PIECES>([&](auto p) {
          tile_load<4 + p % 2>(a[p] + run + step * G::STEP, 2 * G::A_PIX);
          each<NV>([&](auto v) {
            if constexpr (p == 0) tile_load<6 + v % 2>(b + v * G::STEP * L, 64);
            tile_multiply<p * NV + v, 4 + p % 2, 6 + v % 2>();
          });
        });
        b += NV * G::STEP * L;
      }
    }
  }
  each<PIECES * NV>([&](auto i) { tile_store<i>(sums + i * tile_floats); });
}

// Where the pieces of a block begin.
template <class T>
struct Piece {
  const T* in;
  T* out;
  const T* other;
};

template <class G, class E, int NV, int TAIL, class T>
__attribute__((noinline)) void block(const Piece<T> (&pieces)[G::BLOCK], const T* b, const float* bias) {
  alignas(64) float sums[G::BLOCK * NV * tile_floats];
  const T* a[G::BLOCK];
  for (int p = 0; p < G::BLOCK; ++p) a[p] = pieces[p].in;
  sum<G, G::BLOCK, NV>(a, b, sums);
  for (int p = 0; p < G::BLOCK; ++p) {
#pragma GCC unroll 2
    for (int r = 0; r < G::PIECE; ++r) {
      T* to = pieces[p].out + r * G::OUT_PIX;
      const T* with = pieces[p].other + r * G::OTHER_PIX;
      const float* from = sums + p * NV * tile_floats + r * L;
#pragma GCC unroll 8
      for (int v = 0; v < NV; ++v) {
        const vec x = load(from + v * tile_floats) + load(bias + v * L);
        if (v + 1 < NV) {
          store(to + v * L, E::template of<L>(x, with + v * L));
        } else {
          store<TAIL>(to + v * L, E::template of<TAIL>(x, with + v * L));
        }
      }
    }
  }
}

// A row of COLUMNS pixels is cut into PIECES pieces of PIECE pixels, the last of which may begin inside of the one
// before; a block is BLOCK of all pieces, likewise.
template <class G, class E, class T>
void amx_convolution(const Inputs<T>& the, int thread, int threads) {
  constexpr long pieces = static_cast<long>(G::ROWS) * G::PIECES, blocks = (pieces + G::BLOCK - 1) / G::BLOCK;
  constexpr long panels = static_cast<long>(G::GROUPS) * G::PANELS;
  constexpr long depth = static_cast<long>(G::KH) * G::RUNS * G::STEPS * G::STEP;
  alignas(64) static thread_local T scratch[G::PREPARED ? G::BLOCK * G::PIECE * G::IC + 64 : 1];
  const Share mine = share(blocks * panels, thread, threads);
  if (mine.begin == mine.end) return;
  const Unit<G> unit;
  long placed = -1;
  Piece<T> first[G::BLOCK];
  for (long q = mine.begin; q < mine.end; ++q) {
    const long panel = G::WEIGHTS_STAY ? q / blocks : q % panels;
    const long at = G::WEIGHTS_STAY ? q % blocks : q / panels;
    const long group = panel / G::PANELS, b = panel % G::PANELS;
    if (placed != at) {
      for (int p = 0; p < G::BLOCK; ++p) {
        const long piece = std::min(at * G::BLOCK, pieces - G::BLOCK) + p;
        const long row = piece / G::PIECES, column = std::min(piece % G::PIECES * G::PIECE, G::COLUMNS - G::PIECE);
        const T* in = the.in + row * G::STRIDE * G::IN_ROW + column * G::STRIDE * G::IN_PIX;
        if constexpr (G::PREPARED) {
          T* here = scratch + p * G::PIECE * G::A_PIX;
          prepare<G>(in, G::PIECE, here, the.scale, the.shift, the.by);
          in = here;
        }
        first[p] = {in, the.out + row * G::OUT_ROW + column * G::OUT_PIX,
                    the.other + row * G::OTHER_ROW + column * G::OTHER_PIX};
      }
      placed = at;
    }
    const long channel = b * G::NV * L, filter = group * G::OC + channel;
    const T* w = the.weights + group * G::GROUP_WEIGHTS + channel * depth;
    const float* bias = the.bias + group * G::PANELS * G::NV * L + channel;
    Piece<T> here[G::BLOCK];
    for (int p = 0; p < G::BLOCK; ++p) {
      here[p] = {first[p].in + group * G::IC, first[p].out + filter, first[p].other + filter};
    }
    b + 1 < G::PANELS ? block<G, E, G::NV, L>(here, w, bias) : block<G, E, G::LAST_NV, G::TAIL>(here, w, bias);
  }
}

}  // namespace direct
#endif
