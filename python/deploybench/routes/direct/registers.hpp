// What kernels are made of: a register of floats, loads and stores of either element type, activations, and the team of
// threads.
#pragma once

#include <immintrin.h>

#include <algorithm>
#include <atomic>
#include <cmath>
#include <cstdint>
#include <cstring>
#include <limits>
#include <utility>

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

// Not as vec{} + x: for the sake of a negative zero that is an addition, and kernels took half as long again (AVX2).
#ifdef __AVX512F__
DIRECT_INLINE vec all(float x) { return (vec)_mm512_set1_ps(x); }
#else
DIRECT_INLINE vec all(float x) { return (vec)_mm256_set1_ps(x); }
#endif

// ---- loads and stores, `N` of the L lanes ----
// A whole register by a plain access: g++ 12 makes two halves of a memcpy of 32 bytes, through the stack, where the
// load of the whole waits for both; kernels took five times as long with AVX2.
template <int N = L>
DIRECT_INLINE vec load(const float* p) {
  if constexpr (N == L) {
    return *reinterpret_cast<const vec*>(p);
  }
  vec x{};
  std::memcpy(&x, p, 4 * N);
  return x;
}
template <int N = L>
DIRECT_INLINE void store(float* p, vec x) {
  if constexpr (N == L) {
    *reinterpret_cast<vec*>(p) = x;
  } else {
    std::memcpy(p, &x, 4 * N);
  }
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

// ---- lanes ----
// Each lane with the one `S` beside it, of a pair.
template <int S>
DIRECT_INLINE vec exchanged(vec x) {
  return [&]<int... I>(std::integer_sequence<int, I...>) {
    return __builtin_shufflevector(x, x, (I ^ S)...);
  }(std::make_integer_sequence<int, L>{});
}
DIRECT_INLINE float total(vec x) {
  if constexpr (L == 16) x += exchanged<8>(x);
  x += exchanged<4>(x);
  x += exchanged<2>(x);
  x += exchanged<1>(x);
  return x[0];
}
DIRECT_INLINE float largest(vec x) {
  if constexpr (L == 16) x = larger(x, exchanged<8>(x));
  x = larger(x, exchanged<4>(x));
  x = larger(x, exchanged<2>(x));
  x = larger(x, exchanged<1>(x));
  return x[0];
}

// Exchanges the off-diagonal blocks of S by S of each 2 S by 2 S.
template <int S>
DIRECT_INLINE void exchange_blocks(vec (&rows)[L]) {
  [&]<int... I>(std::integer_sequence<int, I...>) {
#pragma GCC unroll 16
    for (int r = 0; r < L; ++r) {
      if (r & S) continue;
      const vec a = rows[r], b = rows[r + S];
      rows[r] = __builtin_shufflevector(a, b, (I & S ? I - S + L : I)...);
      rows[r + S] = __builtin_shufflevector(a, b, (I & S ? I + L : I + S)...);
    }
  }(std::make_integer_sequence<int, L>{});
}
DIRECT_INLINE void transpose(vec (&rows)[L]) {
  if constexpr (L == 16) exchange_blocks<8>(rows);
  exchange_blocks<4>(rows);
  exchange_blocks<2>(rows);
  exchange_blocks<1>(rows);
}

// 1 / x for a finite x, within 2 units of the last place.
DIRECT_INLINE vec inverse(vec x) {
#ifdef __AVX512F__
  const vec guess = (vec)_mm512_rcp14_ps((__m512)x);  // a step of Newton's from 14 bits, a third of a division's time
  return guess * (all(2.0F) - x * guess);
#else
  return all(1.0F) / x;
#endif
}

// The first factor is that of the highest power.
template <int N>
DIRECT_INLINE vec polynomial(vec x, const float (&factors)[N]) {
  vec sum = all(factors[0]);
#pragma GCC unroll 8
  for (int i = 1; i < N; ++i) sum = sum * x + all(factors[i]);
  return sum;
}

// e^x within 2 units of the last place: 2^n times a polynomial of degree 6 on [-ln 2 / 2, ln 2 / 2].
DIRECT_INLINE vec exponential(vec x) {
  x = larger(lesser(x, all(88.0F)), all(-87.0F));
  const vec magic = all(12582912.0F);  // 1.5 * 2^23: adding it rounds to whole numbers
  const vec shifted = x * all(1.44269504F) + magic;
  const vec n = shifted - magic;
  const vec r = (x - n * all(0.693359375F)) - n * all(-2.12194440e-4F);
  const vec p =
      polynomial(r, {1.3981999e-3F, 8.3334520e-3F, 4.1665795e-2F, 1.6666665e-1F, 0.5F}) * r * r + r + all(1.0F);
  const ivec power = ((ivec)shifted) << 23;
  return (vec)((ivec)p + power);
}

// The error function within 3e-7, of which the quotient has 1e-8 on [-3.8, 3.8], least squares weighted until its
// largest error was least; beyond, erf is 1 to 8e-8.
DIRECT_INLINE vec error_function(vec x) {
  x = larger(lesser(x, all(3.8F)), all(-3.8F));
  const vec t = x * x;
  const vec p =
      polynomial(t, {2.13211199e-6F, 2.87997847e-4F, 3.69361163e-3F, 5.25473409e-2F, 1.88116337e-1F, 1.12837908F});
  const vec q = polynomial(t, {3.90975602e-5F, 1.15374155e-3F, 1.48229304e-2F, 1.13254942e-1F, 5.00046021e-1F, 1.0F});
  return x * p * inverse(q);
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
  static DIRECT_INLINE vec of(vec x) { return inverse(all(1.0F) + exponential(-x)); }
};
struct Silu {
  static DIRECT_INLINE vec of(vec x) { return x * inverse(all(1.0F) + exponential(-x)); }
};
struct Tanh {
  static DIRECT_INLINE vec of(vec x) { return all(1.0F) - all(2.0F) * inverse(all(1.0F) + exponential(x + x)); }
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

}  // namespace direct
