// What is done to pixels beside convolutions: pooling, element by element, over the channels of each, and to and from
// the caller's tensors. Sizes and addresses as in convolution.hpp.
#pragma once

#include "registers.hpp"

namespace direct {

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

// Pixels made of runs of RUN channels that lie anywhere: `from` has the place of each, below 0 where there are zeros.
// Times FACTOR, plus a constant.
template <class G, class T>
void gather(const T* in, T* out, const std::int32_t* from, const float* constant, int thread, int threads) {
  constexpr long runs = G::OC / G::RUN;
  const Share mine = share(static_cast<long>(G::ROWS) * G::COLUMNS, thread, threads);
  for (long q = mine.begin; q < mine.end; ++q) {
    for (long run = 0; run < runs; ++run) {
      const long place = from[q * runs + run];
      const T* source = in + std::max(place, 0L);
      T* to = out + q / G::COLUMNS * G::OUT_ROW + q % G::COLUMNS * G::OUT_PIX + run * G::RUN;
      const float* more = constant + q * G::OC + run * G::RUN;
      const auto lanes = [&]<int N>(long c) {
        vec x = place < 0 ? vec{} : load<N>(source + c) * all(G::FACTOR);
        if constexpr (G::CONSTANT) x += load<N>(more + c);
        store<N>(to + c, x);
      };
      for (long c = 0; c + L <= G::RUN; c += L) lanes.template operator()<L>(c);
      if constexpr (G::RUN % L != 0) lanes.template operator()<G::RUN % L>(G::RUN / L * L);
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
