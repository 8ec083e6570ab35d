// Convolutions, the depthwise ones too: one image, channels last, every size a constant of the type `G` that emit.py
// writes for each operation. Not a library: nothing here checks its arguments, the planner has.
//
// Addresses. A value lies in a buffer, pixel after pixel, its channels side by side; `PIX` and `ROW` are the distances,
// in elements, of a pixel and of a row. Buffers may have a border of zeros, so a convolution never asks where the image
// ends.
#pragma once

#include "registers.hpp"

namespace direct {

// ---- convolution ----
// Where the pixels of a tile lie, from the first: by constants where tiles begin alike in rows of COLUMNS, or, in tiles
// that go on in the next row wherever they begin, where at() has put them.
template <class G>
class Spots {
 public:
  void at(long first) {
    if constexpr (G::SCATTERED) {
      for (int r = 0; r < G::MR; ++r) {
        const long row = (first + r) / G::COLUMNS, column = (first + r) % G::COLUMNS;
        in_[r] = row * G::STRIDE * G::IN_ROW + column * G::A_PIX;
        out_[r] = row * G::OUT_ROW + column * G::OUT_PIX;
        other_[r] = row * G::OTHER_ROW + column * G::OTHER_PIX;
      }
    }
  }
  [[nodiscard]] long in(int r) const { return G::SCATTERED ? in_[r] : place(r, G::STRIDE * G::IN_ROW, G::A_PIX); }
  [[nodiscard]] long out(int r) const { return G::SCATTERED ? out_[r] : place(r, G::OUT_ROW, G::OUT_PIX); }
  [[nodiscard]] long other(int r) const { return G::SCATTERED ? other_[r] : place(r, G::OTHER_ROW, G::OTHER_PIX); }

 private:
  static constexpr long place(long r, long row, long pixel) { return r / G::COLUMNS * row + r % G::COLUMNS * pixel; }
  static constexpr int size = G::SCATTERED ? G::MR : 1;
  long in_[size], out_[size], other_[size];
};

// One tile: MR pixels by NV registers of channels, the last with TAIL lanes, kept in registers over the whole sum. The
// weights of a tile lie in the order of use. Measured on two Zen 5 cores: 515 GFLOP/s of the 525 that their fused
// multiply-adds allow. `ahead`: weights of the next panel, of which each tile of this one brings a part into the
// second-level cache, so that the first tile of the next does not wait for all of them: 4 % of ResNet-50 on a Xeon.
template <class G, int MR, int NV>
DIRECT_INLINE void sum(vec (&acc)[MR][NV], const float* a, const float* b, const Spots<G>& spots, const float* ahead) {
  for (int y = 0; y < G::KH; ++y) {
    for (int x = 0; x < G::RUNS; ++x) {
      const float* run = a + y * G::IN_ROW + x * G::RUN_STEP;
      const float* from[MR];
      for (int r = 0; r < MR; ++r) from[r] = run + spots.in(r);
#pragma GCC unroll 1
      for (int k = 0; k < G::RUN; ++k) {
        vec w[NV];
#pragma GCC unroll 8
        for (int v = 0; v < NV; ++v) w[v] = load(b + v * L);
#pragma GCC unroll 32
        for (int r = 0; r < MR; ++r) {
          const vec pixel = all(from[r][k]);
#pragma GCC unroll 8
          for (int v = 0; v < NV; ++v) acc[r][v] += pixel * w[v];
        }
        if constexpr (G::WEIGHTS_STAY) {  // from the second-level cache into the first: 1.6 % of ResNet-50
#pragma GCC unroll 8
          for (int v = 0; v < NV; ++v) __builtin_prefetch(b + 24 * NV * L + v * L);
        }
#pragma GCC unroll 8
        for (int v = 0; v < G::AHEAD; ++v) __builtin_prefetch(ahead + v * L, 0, 2);
        ahead += G::AHEAD * L;
        b += NV * L;
      }
    }
  }
}
#ifdef __AVX512BF16__
template <class G, int MR, int NV>
DIRECT_INLINE void sum(vec (&acc)[MR][NV], const bf16* a, const bf16* b, const Spots<G>& spots, const bf16*) {
  for (int y = 0; y < G::KH; ++y) {
    for (int x = 0; x < G::RUNS; ++x) {
      const bf16* run = a + y * G::IN_ROW + x * G::RUN_STEP;
#pragma GCC unroll 1
      for (int k = 0; k < G::RUN; k += 2) {
        __m512bh w[NV];
#pragma GCC unroll 8
        for (int v = 0; v < NV; ++v) w[v] = (__m512bh)_mm512_loadu_si512(b + 2 * v * L);
#pragma GCC unroll 32
        for (int r = 0; r < MR; ++r) {
          int pair;
          std::memcpy(&pair, run + spots.in(r) + k, 4);
          const __m512bh pixel = (__m512bh)_mm512_set1_epi32(pair);
#pragma GCC unroll 8
          for (int v = 0; v < NV; ++v) acc[r][v] = (vec)_mm512_dpbf16_ps((__m512)acc[r][v], pixel, w[v]);
        }
        b += 2 * NV * L;
      }
    }
  }
}
#endif

template <class G, class E, int MR, int NV, int TAIL, class T>
__attribute__((noinline)) void tile(const T* a, const T* b, const float* bias, T* out, const T* other,
                                    const Spots<G>& spots, const T* ahead) {
  vec acc[MR][NV];
#pragma GCC unroll 32
  for (int r = 0; r < MR; ++r) {
#pragma GCC unroll 8
    for (int v = 0; v < NV; ++v) acc[r][v] = load(bias + v * L);
  }
  sum<G, MR, NV>(acc, a, b, spots, ahead);
#pragma GCC unroll 32
  for (int r = 0; r < MR; ++r) {
    T* to = out + spots.out(r);
    const T* with = other + spots.other(r);
#pragma GCC unroll 8
    for (int v = 0; v + 1 < NV; ++v) store(to + v * L, E::template of<L>(acc[r][v], with + v * L));
    constexpr int last = (NV - 1) * L;
    store<TAIL>(to + last, E::template of<TAIL>(acc[r][NV - 1], with + last));
  }
}

// A transformation of the input of a 1x1 convolution, a tile of pixels at a time: x * scale + shift, then an
// activation.
template <class G, class T>
DIRECT_INLINE void prepare(const T* in, int pixels, T* scratch, const float* scale, const float* shift, const T* by) {
  for (int r = 0; r < pixels; ++r) {
    const T* from = in + r * G::IN_PIX;
    T* to = scratch + r * G::A_PIX;
    for (int c = 0; c + L <= G::IC; c += L) {
      vec x = load(from + c);
      if constexpr (G::SCALED) x = x * load(scale + c) + load(shift + c);
      if constexpr (G::GATED) x *= load(by + c);
      store(to + c, G::Before::of(x));
    }
    if constexpr (G::IC % L != 0) {
      constexpr int c = G::IC / L * L, n = G::IC % L;
      vec x = load<n>(from + c);
      if constexpr (G::SCALED) x = x * load<n>(scale + c) + load<n>(shift + c);
      if constexpr (G::GATED) x *= load<n>(by + c);
      store<n>(to + c, G::Before::of(x));
    }
  }
}

template <class T>
struct Inputs {
  const T* in;
  const T* weights;  // panel after panel, each [KH][KW][IC][NV * L], for bf16 in pairs of IC
  const float* bias;
  T* out;
  const T* other;      // the value that is joined, or the same pointer as `in`
  const float* scale;  // of prepare()
  const float* shift;
  const T* by;
};

// A row of P pixels, or all of them as one where tiles are SCATTERED, is cut into TILES tiles of MR or MR - 1 pixels;
// the first LONG of them are longer.
template <class G, class E, class T>
void convolution(const Inputs<T>& the, int thread, int threads) {
  constexpr long tiles = static_cast<long>(G::ROWS) * G::TILES;
  constexpr long panels = static_cast<long>(G::GROUPS) * G::PANELS;
  constexpr long depth = static_cast<long>(G::KH) * G::RUNS * G::RUN;
  alignas(64) static thread_local T scratch[G::PREPARED ? G::MR * G::IC + 64 : 1];
  Spots<G> spots;
  long placed = -1;
  const Share mine = share(tiles * panels, thread, threads);
  for (long q = mine.begin; q < mine.end; ++q) {
    const long panel = G::WEIGHTS_STAY ? q / tiles : q % panels;
    const long at = G::WEIGHTS_STAY ? q % tiles : q / panels;
    const long group = panel / G::PANELS, b = panel % G::PANELS;
    const long row = at / G::TILES, i = at % G::TILES;
    const bool longer = i < G::LONG;
    const long first = longer ? i * G::MR : G::LONG * G::MR + (i - G::LONG) * G::SHORT;
    const long line = G::SCATTERED ? 0 : row + first / G::COLUMNS, column = G::SCATTERED ? 0 : first % G::COLUMNS;
    const T* a = the.in + group * G::IC + line * G::STRIDE * G::IN_ROW + column * G::STRIDE * G::IN_PIX;
    if (placed != at) spots.at(first);
    if constexpr (G::PREPARED) {
      if (placed != at) prepare<G>(a, longer ? G::MR : G::SHORT, scratch, the.scale, the.shift, the.by);
      a = scratch;
    }
    placed = at;
    const long channel = b * G::NV * L, filter = group * G::OC + channel;
    const T* w = the.weights + group * G::GROUP_WEIGHTS + channel * depth;
    const float* bias = the.bias + group * G::PANELS * G::NV * L + channel;
    T* out = the.out + line * G::OUT_ROW + column * G::OUT_PIX + filter;
    const T* other = the.other + line * G::OTHER_ROW + column * G::OTHER_PIX + filter;
    const T* ahead = at * G::AHEAD < G::NV ? w + (G::NV + at * G::AHEAD) * depth * L : w;
    if (b + 1 < G::PANELS) {
      longer ? tile<G, E, G::MR, G::NV, L>(a, w, bias, out, other, spots, ahead)
             : tile<G, E, std::max(1, G::SHORT), G::NV, L>(a, w, bias, out, other, spots, ahead);
    } else {
      longer ? tile<G, E, G::MR, G::LAST_NV, G::TAIL>(a, w, bias, out, other, spots, ahead)
             : tile<G, E, std::max(1, G::SHORT), G::LAST_NV, G::TAIL>(a, w, bias, out, other, spots, ahead);
    }
  }
}

// ---- depthwise convolution: each channel with its own filter ----
template <class G, class E, int MR, int TAIL, class T>
DIRECT_INLINE void depthwise_tile(const T* a, const float* w, const float* bias, T* out, const T* other) {
  vec acc[MR];
#pragma GCC unroll 32
  for (int r = 0; r < MR; ++r) acc[r] = load(bias);
#pragma GCC unroll 1
  for (int y = 0; y < G::KH; ++y) {
#pragma GCC unroll 8
    for (int x = 0; x < G::KW; ++x) {
      const vec filter = load(w + (y * G::KW + x) * G::W_STEP);
#pragma GCC unroll 32
      for (int r = 0; r < MR; ++r) acc[r] += filter * load(a + y * G::IN_ROW + (r * G::STRIDE + x) * G::IN_PIX);
    }
  }
#pragma GCC unroll 32
  for (int r = 0; r < MR; ++r) {
    store<TAIL>(out + r * G::OUT_PIX, E::template of<TAIL>(acc[r], other + r * G::OTHER_PIX));
  }
}

template <class G, class E, int TAIL, class T>
__attribute__((noinline)) void depthwise_row(const T* a, const float* w, const float* bias, T* out, const T* other) {
  for (int i = 0; i < G::TILES; ++i) {
    const bool longer = i < G::LONG;
    const long column = longer ? i * G::MR : G::LONG * G::MR + (i - G::LONG) * (G::MR - 1);
    const T* from = a + column * G::STRIDE * G::IN_PIX;
    T* to = out + column * G::OUT_PIX;
    const T* with = other + column * G::OTHER_PIX;
    longer ? depthwise_tile<G, E, G::MR, TAIL>(from, w, bias, to, with)
           : depthwise_tile<G, E, std::max(1, G::MR - 1), TAIL>(from, w, bias, to, with);
  }
}

template <class G, class E, class T>
void depthwise(const T* in, const float* weights, const float* bias, T* out, const T* other, int thread, int threads) {
  constexpr long blocks = (G::OC + L - 1) / L;
  const Share mine = share(G::ROWS * blocks, thread, threads);
  for (long q = mine.begin; q < mine.end; ++q) {
    const long row = q / blocks, c = q % blocks * L;
    const T* a = in + row * G::STRIDE * G::IN_ROW + c;
    T* to = out + row * G::OUT_ROW + c;
    const T* with = other + row * G::OTHER_ROW + c;
    if (G::OC % L == 0 || c + L <= G::OC) {
      depthwise_row<G, E, L>(a, weights + c, bias + c, to, with);
    } else {
      depthwise_row<G, E, G::OC % L == 0 ? L : G::OC % L>(a, weights + c, bias + c, to, with);
    }
  }
}

}  // namespace direct
