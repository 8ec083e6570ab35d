// Convolutions of 3x3 windows, one pixel apart, by the algorithm F(2x2, 3x3) of Winograd (Lavin and Gray, "Fast
// Algorithms for Convolutional Neural Networks", 2015): 2 by 2 pixels of the output are sums of 16 products for each
// channel of the input, instead of 36. Sizes, addresses and `G` as in convolution.hpp; fp32 alone, as bf16 would round
// the sums of pixels that are multiplied.
#pragma once

#include "convolution.hpp"

namespace direct {

// Of each thread, for all operations of a network.
template <long N>
float* scratch() {
  alignas(64) static thread_local float memory[N];
  return memory;
}

// Each of the 16 products of matrices is a 1x1 convolution, its pixels the squares of a block.
template <class G, int NV>
struct Product {
  static constexpr int KH = 1, RUNS = 1, RUN = G::IC, MR = G::MR, STRIDE = 1;
  static constexpr int AHEAD =
      (NV + G::TILES - 1) / G::TILES;  // registers of weights of the next product, at each step
  static constexpr long COLUMNS = G::SQUARES, A_PIX = G::DEPTH, OUT_PIX = 0, OTHER_PIX = 0;
  static constexpr long IN_ROW = 0, OUT_ROW = 0, OTHER_ROW = 0, RUN_STEP = 0;
  static constexpr bool SCATTERED = false, WEIGHTS_STAY = true;
};

template <class G, int MR, int NV>
__attribute__((noinline)) void product(const float* a, const float* b, float* out, const float* ahead) {
  vec acc[MR][NV];
#pragma GCC unroll 32
  for (int r = 0; r < MR; ++r) {
#pragma GCC unroll 8
    for (int v = 0; v < NV; ++v) acc[r][v] = vec{};
  }
  sum<Product<G, NV>, MR, NV>(acc, a, b, Spots<Product<G, NV>>{}, ahead);
#pragma GCC unroll 32
  for (int r = 0; r < MR; ++r) {
#pragma GCC unroll 8
    for (int v = 0; v < NV; ++v) store(out + (r * NV + v) * L, acc[r][v]);
  }
}

// Sums of the pixels of a square of 4 by 4, for each of the 16 products; `N` channels at a time.
template <class G, int N>
DIRECT_INLINE void spread(const float* const (&rows)[4], const long (&columns)[4], long c, float* to) {
  vec half[4][4];
#pragma GCC unroll 4
  for (int x = 0; x < 4; ++x) {
    vec d[4];
#pragma GCC unroll 4
    for (int y = 0; y < 4; ++y) d[y] = load<N>(rows[y] + columns[x] + c);
    half[0][x] = d[0] - d[2];
    half[1][x] = d[1] + d[2];
    half[2][x] = d[2] - d[1];
    half[3][x] = d[1] - d[3];
  }
  constexpr long next = static_cast<long>(G::SQUARES) * G::DEPTH;
#pragma GCC unroll 4
  for (int y = 0; y < 4; ++y) {
    float* at = to + 4 * y * next + c;
    store(at, half[y][0] - half[y][2]);
    store(at + next, half[y][1] + half[y][2]);
    store(at + 2 * next, half[y][2] - half[y][1]);
    store(at + 3 * next, half[y][1] - half[y][3]);
  }
}

// Squares overlap by 2 pixels. Those at the right and lower edge may go beyond the border, where the last pixel is read
// again: only outputs that are not there come from it.
template <class G>
DIRECT_INLINE void spread_block(const float* in, long first, long count, float* to) {
  for (long s = 0; s < count; ++s, to += G::DEPTH) {
    const long y = (first + s) / G::ACROSS * 2, x = (first + s) % G::ACROSS * 2;
    const float* rows[4];
    long columns[4];
    for (int i = 0; i < 4; ++i) {
      rows[i] = in + std::min<long>(y + i, G::ROWS + 1) * G::IN_ROW;
      columns[i] = std::min<long>(x + i, G::COLUMNS + 1) * G::IN_PIX;
    }
    for (long c = 0; c + L <= G::IC; c += L) spread<G, L>(rows, columns, c, to);
    if constexpr (G::IC % L != 0) spread<G, G::IC % L>(rows, columns, G::IC / L * L, to);
  }
}

// 2 by 2 pixels from their 16 products.
template <class G, class E, int NV, int N>
DIRECT_INLINE void gather_square(const float* m, vec bias, float* out, const float* other, bool right, bool lower) {
  constexpr long next = static_cast<long>(G::SQUARES) * NV * L;
  vec half[2][4];
#pragma GCC unroll 4
  for (int x = 0; x < 4; ++x) {
    const vec a = load(m + x * next), b = load(m + (4 + x) * next), c = load(m + (8 + x) * next);
    half[0][x] = a + b + c;
    half[1][x] = b - c - load(m + (12 + x) * next);
  }
#pragma GCC unroll 2
  for (int y = 0; y < 2; ++y) {
    if (y == 1 && !lower) break;
    float* to = out + y * G::OUT_ROW;
    const float* with = other + y * G::OTHER_ROW;
    store<N>(to, E::template of<N>(bias + half[y][0] + half[y][1] + half[y][2], with));
    if (right) {
      const vec sum = bias + half[y][1] - half[y][2] - half[y][3];
      store<N>(to + G::OUT_PIX, E::template of<N>(sum, with + G::OTHER_PIX));
    }
  }
}

// The channels of a panel, of all squares of a block.
template <class G, class E, int NV, int TAIL>
DIRECT_INLINE void panel(const Inputs<float>& the, const float* spread, float* products, long first, long count,
                         long channel) {
  using P = Product<G, NV>;
  constexpr long wide = NV * L;
  const float* w = the.weights + channel * 16 * G::IC;
  for (int p = 0; p < 16; ++p) {
    for (int i = 0; i < G::TILES; ++i) {
      const bool longer = i < G::LONG;
      const long at = longer ? i * G::MR : G::LONG * G::MR + (i - G::LONG) * (G::MR - 1);
      const float* a = spread + (p * G::SQUARES + at) * G::DEPTH;
      const float* ahead = i * P::AHEAD < NV ? w + (wide + i * P::AHEAD * L) * G::IC : w;
      float* to = products + (p * G::SQUARES + at) * wide;
      longer ? product<G, G::MR, NV>(a, w, to, ahead) : product<G, std::max(1, G::MR - 1), NV>(a, w, to, ahead);
    }
    w += G::IC * wide;
  }
  for (long s = 0; s < count; ++s) {
    const long y = (first + s) / G::ACROSS * 2, x = (first + s) % G::ACROSS * 2;
    const bool right = x + 1 < G::COLUMNS, lower = y + 1 < G::ROWS;
    float* out = the.out + y * G::OUT_ROW + x * G::OUT_PIX + channel;
    const float* other = the.other + y * G::OTHER_ROW + x * G::OTHER_PIX + channel;
    const float* m = products + s * wide;
    const float* bias = the.bias + channel;
#pragma GCC unroll 8
    for (int v = 0; v + 1 < NV; ++v) {
      gather_square<G, E, NV, L>(m + v * L, load(bias + v * L), out + v * L, other + v * L, right, lower);
    }
    constexpr int last = (NV - 1) * L;
    gather_square<G, E, NV, TAIL>(m + last, load(bias + last), out + last, other + last, right, lower);
  }
}

// BLOCKS blocks of SQUARES squares, the last of which may have fewer: its products of others are not used.
template <class G, class E, class T>
void winograd(const Inputs<T>& the, float* scratch, int thread, int threads) {
  float* products = scratch + 16L * G::SQUARES * G::DEPTH;
  long spread = -1;
  const Share mine = share(static_cast<long>(G::BLOCKS) * G::PANELS, thread, threads);
  for (long q = mine.begin; q < mine.end; ++q) {
    const long block = q / G::PANELS, b = q % G::PANELS;
    const long first = block * G::SQUARES, count = std::min<long>(G::SQUARES, G::ALL - first);
    if (spread != block) spread_block<G>(the.in, first, count, scratch);
    spread = block;
    const long channel = b * G::NV * L;
    b + 1 < G::PANELS ? panel<G, E, G::NV, L>(the, scratch, products, first, count, channel)
                      : panel<G, E, G::LAST_NV, G::TAIL>(the, scratch, products, first, count, channel);
  }
}

}  // namespace direct
