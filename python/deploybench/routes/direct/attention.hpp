// Attention: for each item, a head of a window of tokens, softmax(q k^T * factor + bias) v. Sizes and addresses as in
// convolution.hpp; tokens lie anywhere, the place of each is in a table.
#pragma once

#include "pixels.hpp"

namespace direct {

template <class T>
struct Tokens {
  const T *queries, *keys, *values;
  T* out;
  // The places of each window's tokens, [windows][QUERIES or KEYS], from the pointers above.
  const std::int32_t *query_at, *key_at, *value_at, *out_at;
  const std::int32_t* items;  // of each: its window, its first channel in the four, its bias
  const float* factors;       // of each
  const float* bias;  // [number][QUERIES][WIDTH], minus infinity behind the last key; [WIDTH] where there is none
};

// One item's rows as floats: queries side by side, times their factor; keys and values in the order in which they are
// used.
template <class G>
struct Packed {
  alignas(64) float queries[G::QUERIES * G::DEEP];
  alignas(64) float keys[G::DEPTH * G::WIDTH];  // panel after panel, each [DEPTH][NV * L]
  alignas(64) float values[G::KEYS * G::DEEP];  // panel after panel, each [KEYS][NV * L]
  alignas(64) float scores[G::MR * G::WIDTH];
};

// ROWS by NV registers of products, over `depth`.
template <int ROWS, int NV>
DIRECT_INLINE void product(vec (&acc)[ROWS][NV], const float* a, long a_row, const float* b, long depth) {
#pragma GCC unroll 32
  for (int r = 0; r < ROWS; ++r) {
#pragma GCC unroll 8
    for (int v = 0; v < NV; ++v) acc[r][v] = vec{};
  }
#pragma GCC unroll 1
  for (long k = 0; k < depth; ++k) {
    vec w[NV];
#pragma GCC unroll 8
    for (int v = 0; v < NV; ++v) w[v] = load(b + (k * NV + v) * L);
#pragma GCC unroll 32
    for (int r = 0; r < ROWS; ++r) {
      const vec x = all(a[r * a_row + k]);
#pragma GCC unroll 8
      for (int v = 0; v < NV; ++v) acc[r][v] += x * w[v];
    }
  }
}

template <class G, int ROWS, int NV>
__attribute__((noinline)) void score(const float* queries, const float* keys, float* scores) {
  vec acc[ROWS][NV];
  product<ROWS, NV>(acc, queries, G::DEEP, keys, G::DEPTH);
#pragma GCC unroll 32
  for (int r = 0; r < ROWS; ++r) {
#pragma GCC unroll 8
    for (int v = 0; v < NV; ++v) store(scores + r * G::WIDTH + v * L, acc[r][v]);
  }
}

template <class G, int ROWS, int NV, int TAIL, class T>
__attribute__((noinline)) void mix(const float* scores, const float* values, const float* inverse, T* out,
                                   const std::int32_t* at) {
  vec acc[ROWS][NV];
  product<ROWS, NV>(acc, scores, G::WIDTH, values, G::KEYS);
#pragma GCC unroll 32
  for (int r = 0; r < ROWS; ++r) {
    T* to = out + at[r];
#pragma GCC unroll 8
    for (int v = 0; v + 1 < NV; ++v) store(to + v * L, acc[r][v] * all(inverse[r]));
    store<TAIL>(to + (NV - 1) * L, acc[r][NV - 1] * all(inverse[r]));
  }
}

// e^x of a score below the largest by -x. Nothing below 2e-35: products with it would be too small to be normal, which
// costs an Intel CPU some hundred cycles each (Swin's masked windows took 2.5 times as long as the others).
DIRECT_INLINE vec weight(vec x) { return x > all(-80.0F) ? exponential(x) : vec{}; }

// In place, but for the division: the inverse of the sum.
template <class G>
DIRECT_INLINE float softmax(float* scores, const float* bias) {
  vec most = all(-std::numeric_limits<float>::infinity());
  for (int c = 0; c < G::WIDTH; c += L) {
    const vec x = load(scores + c) + load(bias + c);
    store(scores + c, x);
    most = larger(most, x);
  }
  const vec top = all(largest(most));
  vec sum{};
  for (int c = 0; c < G::WIDTH; c += L) {
    const vec x = weight(load(scores + c) - top);
    store(scores + c, x);
    sum += x;
  }
  return 1 / total(sum);
}

// A tile of rows of one item.
template <class G, int ROWS, class T>
void attend(Packed<G>& item, long first, const float* bias, T* out, const std::int32_t* at) {
  constexpr int wide = G::NV * L;
  for (int p = 0; p + 1 < G::KEY_PANELS; ++p) {
    score<G, ROWS, G::NV>(item.queries + first * G::DEEP, item.keys + p * G::DEPTH * wide, item.scores + p * wide);
  }
  constexpr int last = G::KEY_PANELS - 1;
  score<G, ROWS, G::LAST_KEYS>(item.queries + first * G::DEEP, item.keys + last * G::DEPTH * wide,
                               item.scores + last * wide);
  float inverse[ROWS];
  for (int r = 0; r < ROWS; ++r) {
    inverse[r] = softmax<G>(item.scores + r * G::WIDTH, bias + (G::BIASED ? (first + r) * G::WIDTH : 0));
  }
  for (int p = 0; p + 1 < G::PANELS; ++p) {
    mix<G, ROWS, G::NV, L>(item.scores, item.values + p * G::KEYS * wide, inverse, out + p * wide, at + first);
  }
  constexpr int rest = G::PANELS - 1;
  mix<G, ROWS, G::LAST_NV, G::TAIL>(item.scores, item.values + rest * G::KEYS * wide, inverse, out + rest * wide,
                                    at + first);
}

// DEPTH elements times a factor, as floats.
template <class G, class T, class To>
DIRECT_INLINE void copy_row(const T* from, To to, float factor) {
  for (int c = 0; c + L <= G::DEPTH; c += L) store(to(c), load(from + c) * all(factor));
  constexpr int c = G::DEPTH / L * L;
  if constexpr (G::DEPTH % L != 0) store(to(c), load<G::DEPTH % L>(from + c) * all(factor));
}

// What makes DEPTH elements a vector of length 1; a length below LEAST counts as that. Where that is 0, nothing.
template <class G, class T>
DIRECT_INLINE float to_unit(const T* from) {
  if (G::LEAST == 0) return 1;
  vec squares{};
  const auto add = [&]<int N>(int c) {
    const vec x = load<N>(from + c);
    squares += x * x;
  };
  for (int c = 0; c + L <= G::DEPTH; c += L) add.template operator()<L>(c);
  if constexpr (G::DEPTH % L != 0) add.template operator()<G::DEPTH % L>(G::DEPTH / L * L);
  return 1 / std::max(std::sqrt(total(squares)), static_cast<float>(G::LEAST));
}

// L keys from `first` on, at most up to the last, side by side: `to` has a row for each of DEPTH elements.
template <class G, class T>
DIRECT_INLINE void copy_keys(const T* keys, const std::int32_t* at, long first, float* to, long width) {
  const auto block = [&]<int N>(int c) {
    vec rows[L];
#pragma GCC unroll 16
    for (int r = 0; r < L; ++r) {
      const T* from = keys + at[std::min<long>(first + r, G::KEYS - 1)];  // what is beyond is masked
      rows[r] = load<N>(from + c) * all(to_unit<G>(from));
    }
    transpose(rows);
#pragma GCC unroll 16
    for (int r = 0; r < N; ++r) store(to + (c + r) * width, rows[r]);
  };
#pragma GCC unroll 1
  for (int c = 0; c + L <= G::DEPTH; c += L) block.template operator()<L>(c);
  if constexpr (G::DEPTH % L != 0) block.template operator()<G::DEPTH % L>(G::DEPTH / L * L);
}

template <class G, class T>
void attention(const Tokens<T>& the, int thread, int threads) {
  constexpr int wide = G::NV * L;
  static thread_local Packed<G> item;  // zeros behind the last key and the last channel stay
  const Share mine = share(G::ITEMS, thread, threads);
  for (long q = mine.begin; q < mine.end; ++q) {
    const std::int32_t* i = the.items + q * 6;
    const std::int32_t *query_at = the.query_at + i[0] * static_cast<long>(G::QUERIES),
                       *key_at = the.key_at + i[0] * static_cast<long>(G::KEYS),
                       *value_at = the.value_at + i[0] * static_cast<long>(G::KEYS),
                       *out_at = the.out_at + i[0] * static_cast<long>(G::QUERIES);
    for (long t = 0; t < G::QUERIES; ++t) {
      float* to = item.queries + t * G::DEEP;
      const T* from = the.queries + query_at[t] + i[1];
      copy_row<G>(from, [to](int c) { return to + c; }, the.factors[q] * to_unit<G>(from));
    }
    for (long t = 0; t < G::WIDTH; t += L) {
      const long panel = t / wide, width = panel + 1 < G::KEY_PANELS ? wide : G::LAST_KEYS * L;
      copy_keys<G>(the.keys + i[2], key_at, t, item.keys + panel * G::DEPTH * wide + t % wide, width);
    }
    for (long t = 0; t < G::KEYS; ++t) {
      const auto to = [t](int c) {
        const long panel = c / wide, width = panel + 1 < G::PANELS ? wide : G::LAST_NV * L;
        return item.values + panel * G::KEYS * wide + t * width + c % wide;
      };
      copy_row<G>(the.values + value_at[t] + i[3], to, 1);
    }
    const float* bias = the.bias + (G::BIASED ? i[5] * static_cast<long>(G::QUERIES) * G::WIDTH : 0);
    for (long tile = 0; tile < G::TILES; ++tile) {
      const long first = tile < G::LONG ? tile * G::MR : G::LONG * G::MR + (tile - G::LONG) * (G::MR - 1);
      tile < G::LONG ? attend<G, G::MR>(item, first, bias, the.out + i[4], out_at)
                     : attend<G, std::max(1, G::MR - 1)>(item, first, bias, the.out + i[4], out_at);
    }
  }
}

}  // namespace direct
