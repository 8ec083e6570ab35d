// The kernels that generated code is made of: one image, channels last, every size a constant of the type `G` that
// emit.py writes for each operation. Not a library: nothing here checks its arguments, the planner has.
//
// Addresses. A value lies in a buffer, pixel after pixel, its channels side by side; `PIX` and `ROW` are the distances,
// in elements, of a pixel and of a row. Buffers may have a border of zeros, so a convolution never asks where the image
// ends.
#pragma once

#include <immintrin.h>

#include <algorithm>
#include <atomic>
#include <cmath>
#include <cstdint>
#include <cstring>
#include <limits>

#define DIRECT_INLINE inline __attribute__((always_inline))

namespace direct {

#ifdef __AVX512F__
constexpr int L = 16;  // floats in a register
#else
constexpr int L = 8;
#endif
typedef float vec __attribute__((vector_size(4 * L), aligned(4), may_alias));
typedef std::int32_t ivec __attribute__((vector_size(4 * L), aligned(4), may_alias));

struct bf16 {
  std::uint16_t bits;
};

DIRECT_INLINE vec all(float x) { return vec{} + x; }

// ---- loads and stores, `N` of the L lanes ----
template <int N = L>
DIRECT_INLINE vec load(const float* p) {
  vec x{};
  std::memcpy(&x, p, 4 * N);
  return x;
}
template <int N = L>
DIRECT_INLINE void store(float* p, vec x) {
  std::memcpy(p, &x, 4 * N);
}
#ifdef __AVX512BF16__
template <int N = L>
DIRECT_INLINE vec load(const bf16* p) {
  __m256i half{};
  std::memcpy(&half, p, 2 * N);
  return (vec)_mm512_slli_epi32(_mm512_cvtepu16_epi32(half), 16);
}
template <int N = L>
DIRECT_INLINE void store(bf16* p, vec x) {
  const __m256bh half = _mm512_cvtneps_pbh((__m512)x);
  std::memcpy(p, &half, 2 * N);
}
#endif

// ---- arithmetic on a register ----
DIRECT_INLINE vec lesser(vec a, vec b) { return a < b ? a : b; }
DIRECT_INLINE vec larger(vec a, vec b) { return a > b ? a : b; }

// e^x within 2 units of the last place: 2^n times a polynomial of degree 6 on [-ln 2 / 2, ln 2 / 2].
DIRECT_INLINE vec exponential(vec x) {
  x = larger(lesser(x, all(88.0F)), all(-87.0F));
  const vec magic = all(12582912.0F);  // 1.5 * 2^23: adding it rounds to whole numbers
  const vec shifted = x * all(1.44269504F) + magic;
  const vec n = shifted - magic;
  const vec r = (x - n * all(0.693359375F)) - n * all(-2.12194440e-4F);
  vec p = all(1.3981999e-3F);
  p = p * r + all(8.3334520e-3F);
  p = p * r + all(4.1665795e-2F);
  p = p * r + all(1.6666665e-1F);
  p = p * r + all(0.5F);
  p = p * r * r + r + all(1.0F);
  const ivec power = ((ivec)shifted) << 23;
  return (vec)((ivec)p + power);
}

// The error function within 2e-7 (Abramowitz and Stegun 7.1.26).
DIRECT_INLINE vec error_function(vec x) {
  const vec size = larger(x, -x);
  const vec t = all(1.0F) / (all(1.0F) + all(0.3275911F) * size);
  vec p = all(1.061405429F);
  p = p * t + all(-1.453152027F);
  p = p * t + all(1.421413741F);
  p = p * t + all(-0.284496736F);
  p = p * t + all(0.254829592F);
  const vec y = all(1.0F) - p * t * exponential(-size * size);
  return x < vec{} ? -y : y;
}

struct None {
  static DIRECT_INLINE vec of(vec x) { return x; }
};
struct Relu {
  static DIRECT_INLINE vec of(vec x) { return larger(x, vec{}); }
};
struct Hardswish {
  static DIRECT_INLINE vec of(vec x) { return x * lesser(larger(x * all(1.0F / 6) + all(0.5F), vec{}), all(1.0F)); }
};
struct Hardsigmoid {
  static DIRECT_INLINE vec of(vec x) { return lesser(larger(x * all(1.0F / 6) + all(0.5F), vec{}), all(1.0F)); }
};
struct Sigmoid {
  static DIRECT_INLINE vec of(vec x) { return all(1.0F) / (all(1.0F) + exponential(-x)); }
};
struct Silu {
  static DIRECT_INLINE vec of(vec x) { return x / (all(1.0F) + exponential(-x)); }
};
struct Gelu {
  static DIRECT_INLINE vec of(vec x) { return x * all(0.5F) * (all(1.0F) + error_function(x * all(0.70710678F))); }
};

// What follows a sum: First, then another value added or multiplied, then Second.
enum class Join { none, add, mul };
template <class First_, Join join_, class Second_>
struct After {
  using First = First_;
  using Second = Second_;
  static constexpr Join join = join_;
  template <int N, class T>
  static DIRECT_INLINE vec of(vec x, const T* other) {
    x = First::of(x);
    if constexpr (join == Join::add) x += load<N>(other);
    if constexpr (join == Join::mul) x *= load<N>(other);
    return Second::of(x);
  }
};

// ---- the team: threads that wait for each other between operations ----
class Barrier {
 public:
  // Spins, as the next operation is microseconds away; yields when the others are late: they may wait for this very
  // core, which without that they get at the scheduler's next tick, 4 ms later.
  void wait(int threads) {
    if (threads == 1) return;
    const unsigned turn = turn_.load(std::memory_order_relaxed);
    if (waiting_.fetch_add(1, std::memory_order_acq_rel) == threads - 1) {
      waiting_.store(0, std::memory_order_relaxed);
      turn_.store(turn + 1, std::memory_order_release);
      return;
    }
    for (int spins = 0; turn_.load(std::memory_order_acquire) == turn; ++spins) {
      spins < 500 ? _mm_pause() : yield();
    }
  }

 private:
  static void yield();
  alignas(64) std::atomic<int> waiting_{0};
  alignas(64) std::atomic<unsigned> turn_{0};
};

struct Share {
  long begin, end;
};
// What thread `t` of `n` has of `count` equal pieces.
DIRECT_INLINE Share share(long count, int t, int n) { return {count * t / n, count * (t + 1) / n}; }

// ---- convolution ----
// One tile: MR pixels by NV registers of channels, the last with TAIL lanes, kept in registers over the whole sum. The
// weights of a tile lie in the order of use. Measured on two Zen 5 cores: 515 GFLOP/s of the 525 that their fused
// multiply-adds allow.
template <class G, int MR, int NV>
DIRECT_INLINE void sum(vec (&acc)[MR][NV], const float* a, const float* b) {
  for (int y = 0; y < G::KH; ++y) {
    for (int x = 0; x < G::RUNS; ++x) {
      const float* run = a + y * G::IN_ROW + x * G::RUN_STEP;
#pragma GCC unroll 1
      for (int k = 0; k < G::RUN; ++k) {
        vec w[NV];
#pragma GCC unroll 8
        for (int v = 0; v < NV; ++v) w[v] = load(b + v * L);
#pragma GCC unroll 32
        for (int r = 0; r < MR; ++r) {
          const vec pixel = all(run[r * G::A_PIX + k]);
#pragma GCC unroll 8
          for (int v = 0; v < NV; ++v) acc[r][v] += pixel * w[v];
        }
        if constexpr (G::WEIGHTS_STAY) {  // the next panel comes from the third-level cache: 1.6 % of ResNet-50
#pragma GCC unroll 8
          for (int v = 0; v < NV; ++v) __builtin_prefetch(b + 24 * NV * L + v * L);
        }
        b += NV * L;
      }
    }
  }
}
#ifdef __AVX512BF16__
template <class G, int MR, int NV>
DIRECT_INLINE void sum(vec (&acc)[MR][NV], const bf16* a, const bf16* b) {
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
          std::memcpy(&pair, run + r * G::A_PIX + k, 4);
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
__attribute__((noinline)) void tile(const T* a, const T* b, const float* bias, T* out, const T* other) {
  vec acc[MR][NV];
#pragma GCC unroll 32
  for (int r = 0; r < MR; ++r) {
#pragma GCC unroll 8
    for (int v = 0; v < NV; ++v) acc[r][v] = load(bias + v * L);
  }
  sum<G, MR, NV>(acc, a, b);
#pragma GCC unroll 32
  for (int r = 0; r < MR; ++r) {
    T* to = out + r * G::OUT_PIX;
    const T* with = other + r * G::OTHER_PIX;
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

// A row of P pixels is cut into TILES tiles of MR or MR - 1 pixels; the first LONG of them are longer.
template <class G, class E, class T>
void convolution(const Inputs<T>& the, int thread, int threads) {
  constexpr long tiles = static_cast<long>(G::ROWS) * G::TILES;
  constexpr long panels = static_cast<long>(G::GROUPS) * G::PANELS;
  constexpr long depth = static_cast<long>(G::KH) * G::RUNS * G::RUN;
  alignas(64) static thread_local T scratch[G::PREPARED ? G::MR * G::IC + 64 : 1];
  long prepared = -1;
  const Share mine = share(tiles * panels, thread, threads);
  for (long q = mine.begin; q < mine.end; ++q) {
    const long panel = G::WEIGHTS_STAY ? q / tiles : q % panels;
    const long at = G::WEIGHTS_STAY ? q % tiles : q / panels;
    const long group = panel / G::PANELS, b = panel % G::PANELS;
    const long row = at / G::TILES, i = at % G::TILES;
    const bool longer = i < G::LONG;
    const long column = longer ? i * G::MR : G::LONG * G::MR + (i - G::LONG) * (G::MR - 1);
    const T* a = the.in + group * G::IC + row * G::STRIDE * G::IN_ROW + column * G::STRIDE * G::IN_PIX;
    if constexpr (G::PREPARED) {
      if (prepared != at) prepare<G>(a, longer ? G::MR : G::MR - 1, scratch, the.scale, the.shift, the.by);
      prepared = at;
      a = scratch;
    }
    const long channel = b * G::NV * L, first = group * G::OC + channel;
    const T* w = the.weights + group * G::GROUP_WEIGHTS + channel * depth;
    const float* bias = the.bias + group * G::PANELS * G::NV * L + channel;
    T* out = the.out + row * G::OUT_ROW + column * G::OUT_PIX + first;
    const T* other = the.other + row * G::OTHER_ROW + column * G::OTHER_PIX + first;
    if (b + 1 < G::PANELS) {
      longer ? tile<G, E, G::MR, G::NV, L>(a, w, bias, out, other)
             : tile<G, E, std::max(1, G::MR - 1), G::NV, L>(a, w, bias, out, other);
    } else {
      longer ? tile<G, E, G::MR, G::LAST_NV, G::TAIL>(a, w, bias, out, other)
             : tile<G, E, std::max(1, G::MR - 1), G::LAST_NV, G::TAIL>(a, w, bias, out, other);
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

// ---- pooling: the window is cut at the image's edge; a mean divides by `DIVIDE` elements, or by those inside where it
// is 0 ----
template <class G, int N, class T>
DIRECT_INLINE void pool_pixel(const T* in, T* out, long row, long column) {
  const long y0 = std::max(0L, row * G::STRIDE_Y - G::PAD_Y),
             y1 = std::min<long>(G::H, row * G::STRIDE_Y - G::PAD_Y + G::KH);
  const long x0 = std::max(0L, column * G::STRIDE_X - G::PAD_X),
             x1 = std::min<long>(G::W, column * G::STRIDE_X - G::PAD_X + G::KW);
  vec acc = all(G::MAX ? -std::numeric_limits<float>::infinity() : 0.0F);
  for (long y = y0; y < y1; ++y) {
    for (long x = x0; x < x1; ++x) {
      const vec pixel = load<N>(in + y * G::IN_ROW + x * G::IN_PIX);
      acc = G::MAX ? larger(acc, pixel) : acc + pixel;
    }
  }
  if (!G::MAX) acc *= all(1.0F / static_cast<float>(G::DIVIDE ? G::DIVIDE : (y1 - y0) * (x1 - x0)));
  store<N>(out, acc);
}

template <class G, class T>
void pool(const T* in, T* out, int thread, int threads) {
  constexpr long blocks = (G::OC + L - 1) / L;
  const Share mine = share(static_cast<long>(G::ROWS) * G::COLUMNS * blocks, thread, threads);
  for (long q = mine.begin; q < mine.end; ++q) {
    const long c = q % blocks * L, row = q / blocks / G::COLUMNS, column = q / blocks % G::COLUMNS;
    T* to = out + row * G::OUT_ROW + column * G::OUT_PIX + c;
    if (G::OC % L == 0 || c + L <= G::OC) {
      pool_pixel<G, L>(in + c, to, row, column);
    } else {
      pool_pixel<G, G::OC % L == 0 ? L : G::OC % L>(in + c, to, row, column);
    }
  }
}

// ---- element by element ----
template <class G, class E, int N, class T>
DIRECT_INLINE void element(const T* in, T* out, const T* other, const float* scale, const float* shift, long c) {
  vec x = load<N>(in + c);
  if constexpr (G::SCALED) x = x * load<N>(scale + c) + load<N>(shift + c);
  store<N>(out + c, E::template of<N>(x, other + c));
}

template <class G, class E, class T>
void elementwise(const T* in, T* out, const T* other, const float* scale, const float* shift, int thread, int threads) {
  const Share mine = share(static_cast<long>(G::ROWS) * G::COLUMNS, thread, threads);
  for (long q = mine.begin; q < mine.end; ++q) {
    const long row = q / G::COLUMNS, column = q % G::COLUMNS;
    const T* from = in + row * G::IN_ROW + column * G::IN_PIX;
    T* to = out + row * G::OUT_ROW + column * G::OUT_PIX;
    const T* with = other + row * G::OTHER_ROW + column * G::OTHER_PIX;
    for (long c = 0; c + L <= G::OC; c += L) element<G, E, L>(from, to, with, scale, shift, c);
    if constexpr (G::OC % L != 0) element<G, E, G::OC % L>(from, to, with, scale, shift, G::OC / L * L);
  }
}

// Channels of two halves in turns: out[2 i] = in[BEGIN + i], out[2 i + 1] = in[HALF + BEGIN + i].
template <class G, class T>
void interleave(const T* in, T* out, int thread, int threads) {
  const Share mine = share(static_cast<long>(G::ROWS) * G::COLUMNS, thread, threads);
  for (long q = mine.begin; q < mine.end; ++q) {
    const long row = q / G::COLUMNS, column = q % G::COLUMNS;
    const T* from = in + row * G::IN_ROW + column * G::IN_PIX + G::BEGIN;
    T* to = out + row * G::OUT_ROW + column * G::OUT_PIX;
    for (long c = 0; c < G::OC / 2; ++c) {
      to[2 * c] = from[c];
      to[2 * c + 1] = from[G::HALF + c];
    }
  }
}

// Over the channels of each pixel.
template <class G, class T>
void layer_norm(const T* in, T* out, const float* scale, const float* shift, int thread, int threads) {
  const Share mine = share(static_cast<long>(G::ROWS) * G::COLUMNS, thread, threads);
  for (long q = mine.begin; q < mine.end; ++q) {
    const long row = q / G::COLUMNS, column = q % G::COLUMNS;
    const T* from = in + row * G::IN_ROW + column * G::IN_PIX;
    T* to = out + row * G::OUT_ROW + column * G::OUT_PIX;
    constexpr int whole = G::OC / L * L, rest = G::OC % L;
    const auto total = [](vec x) {
      float s = 0;
      for (int i = 0; i < L; ++i) s += x[i];
      return s;
    };
    vec s{};
    for (int c = 0; c < whole; c += L) s += load(from + c);
    if constexpr (rest != 0) s += load<rest>(from + whole);
    const float mean = total(s) / G::OC;
    vec d{};
    for (int c = 0; c < whole; c += L) {
      const vec x = load(from + c) - all(mean);
      d += x * x;
    }
    float squares = total(d);
    if constexpr (rest != 0) {
      const vec x = load<rest>(from + whole) - all(mean);
      for (int i = 0; i < rest; ++i) squares += x[i] * x[i];
    }
    const float factor = 1.0F / std::sqrt(squares / G::OC + static_cast<float>(G::EPSILON));
    for (int c = 0; c < whole; c += L) {
      store(to + c, (load(from + c) - all(mean)) * all(factor) * load(scale + c) + load(shift + c));
    }
    if constexpr (rest != 0) {
      const vec x = (load<rest>(from + whole) - all(mean)) * all(factor);
      store<rest>(to + whole, x * load<rest>(scale + whole) + load<rest>(shift + whole));
    }
  }
}

// ---- the border: the caller's float32, planes of one channel each, to channels last and back ----
DIRECT_INLINE void put(float* p, float x) { *p = x; }
DIRECT_INLINE float get(const float* p) { return *p; }
#ifdef __AVX512BF16__
DIRECT_INLINE void put(bf16* p, float x) { store<1>(p, all(x)); }
DIRECT_INLINE float get(const bf16* p) { return load<1>(p)[0]; }
#endif

template <class G, class T>
void take(const float* in, T* out, int thread, int threads) {
  const Share mine = share(G::ROWS, thread, threads);
  for (long row = mine.begin; row < mine.end; ++row) {
    const float* from = in + row * G::COLUMNS;
    T* to = out + row * G::OUT_ROW;
    for (long x = 0; x < G::COLUMNS; ++x) {
      for (int c = 0; c < G::OC; ++c)
        put(to + x * G::OUT_PIX + c, from[x + c * static_cast<long>(G::ROWS) * G::COLUMNS]);
    }
  }
}

template <class G, class T>
void give(const T* in, float* out, int thread, int threads) {
  const Share mine = share(G::OC, thread, threads);
  for (long c = mine.begin; c < mine.end; ++c) out[c] = get(in + c);
}

}  // namespace direct
