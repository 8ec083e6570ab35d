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

// In place, but for the division: the inverse of the sum.
template <class G>
DIRECT_INLINE float softmax(float* scores, const float* bias) {
  vec most = all(-std::numeric_limits<float>::infinity());
  for (int c = 0; c < G::WIDTH; c += L) {
    const vec x = load(scores + c) + load(bias + c);
    store(scores + c, x);
    most = larger(most, x);
  }
  float largest = most[0];
  for (int i = 1; i < L; ++i) largest = std::max(largest, most[i]);
  vec sum{};
  for (int c = 0; c < G::WIDTH; c += L) {
    const vec x = exponential(load(scores + c) - all(largest));
    store(scores + c, x);
    sum += x;
  }
  float total = 0;
  for (int i = 0; i < L; ++i) total += sum[i];
  return 1 / total;
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
  float squares = 0;
  for (int c = 0; c < G::DEPTH; ++c) squares += get(from + c) * get(from + c);
  return 1 / std::max(std::sqrt(squares), static_cast<float>(G::LEAST));
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
    for (long t = 0; t < G::KEYS; ++t) {
      const long panel = t / wide, width = panel + 1 < G::KEY_PANELS ? wide : G::LAST_KEYS * L;
      const T* from = the.keys + key_at[t] + i[2];
      float* to = item.keys + panel * G::DEPTH * wide + t % wide;
      const float factor = to_unit<G>(from);
      for (long c = 0; c < G::DEPTH; ++c) to[c * width] = get(from + c) * factor;
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
