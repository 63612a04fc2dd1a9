// SIMD primitives of the row kernels: vector types, converting loads of every dtype, horizontal sums, transposes.
//
// A vector holds LANES doubles or 2 LANES floats. Vectors are a GCC and Clang extension; the compiler lowers them to
// the instructions of the target.
//
// No rows*.inl file may call an inline function of the standard library. The linker keeps a single copy of such a
// function, which may be compiled for an instruction set that the processor lacks.
#pragma once

#ifdef __F16C__
#include <immintrin.h>
#endif

#include <utility>

#include "rows.hpp"

namespace ncharness {
namespace {

constexpr int vector_bytes = LANES * 8;
// Elements of type T per vector.
template <class T>
constexpr int lanes = vector_bytes / static_cast<int>(sizeof(T));

// 16-bit elements: Half is float16, Brain is bfloat16.
struct Half {
  uint16_t bits;
};
struct Brain {
  uint16_t bits;
};
template <class T, int N>
struct VectorOf {
  typedef T type __attribute__((vector_size(N * sizeof(T))));
};
template <class T, int N = lanes<T>>
using Vec = typename VectorOf<T, N>::type;
using Wide = Vec<double>;  // `wide` in this file: a vector of doubles

// Unaligned load and store.
template <class V>
inline V load_as(const void* p) {
  V v;
  __builtin_memcpy(&v, p, sizeof(V));
  return v;
}
template <class T>
inline void store(T* p, Vec<T> v) {
  __builtin_memcpy(p, &v, sizeof(v));
}

// Load N elements and convert them to float32. The conversion is exact.
template <int N>
inline Vec<float, N> to_float(const float* p) {
  return load_as<Vec<float, N>>(p);
}
// Load N 16-bit elements and extend them to 32 bits.
template <int N>
inline Vec<uint32_t, N> bits_of(const void* p) {
  // Intrinsics, because GCC 12 splits the generic conversion into two half vectors.
#ifdef __AVX512F__
  if constexpr (N == 16) return (Vec<uint32_t, N>)_mm512_maskz_cvtepu16_epi32(0xffff, load_as<__m256i>(p));
#endif
#ifdef __AVX2__
  if constexpr (N == 8) return (Vec<uint32_t, N>)_mm256_cvtepu16_epi32(load_as<__m128i>(p));
#endif
  return __builtin_convertvector(load_as<Vec<uint16_t, N>>(p), Vec<uint32_t, N>);
}
template <int N>
inline Vec<float, N> to_float(const Brain* p) {
  return (Vec<float, N>)(bits_of<N>(p) << 16);
}
template <int N>
inline Vec<float, N> to_float(const Half* p) {
#ifdef __AVX512F__
  if constexpr (N == 16) return (Vec<float, N>)_mm512_maskz_cvtph_ps(0xffff, load_as<__m256i>(p));
#endif
#ifdef __F16C__
  if constexpr (N == 8) return (Vec<float, N>)_mm256_cvtph_ps(load_as<__m128i>(p));
  if constexpr (N == 4) return (Vec<float, N>)_mm_cvtph_ps(_mm_loadl_epi64(reinterpret_cast<const __m128i*>(p)));
#endif
  // Portable conversion. The shift moves exponent and mantissa to their float32 positions. The exponent biases differ
  // by 127 - 15 = 112, hence the factor 2^112. For infinities and NaNs the exponent is set to all ones.
  const auto bits = bits_of<N>(p);
  const auto magnitude = (bits & 0x7fffu) << 13;
  auto scaled = (Vec<uint32_t, N>)((Vec<float, N>)magnitude * 0x1p112f);
  scaled |= (Vec<uint32_t, N>)(magnitude >= (0x7c00u << 13)) & 0x7f800000u;
  return (Vec<float, N>)(scaled | ((bits & 0x8000u) << 16));
}
// Load LANES elements and convert them to float64. The conversion is exact.
template <class In>
inline Wide to_wide(const In* p) {
#ifdef __AVX512F__
  return (Wide)_mm512_maskz_cvtps_pd(0xff, (__m256)to_float<LANES>(p));  // GCC 12 would split it in two
#else
  return __builtin_convertvector(to_float<LANES>(p), Wide);
#endif
}
inline Wide to_wide(const double* p) { return load_as<Wide>(p); }

// Load one vector in the type of the scores: float32, or float64 for float64 features.
template <class In>
inline Vec<float> to_scored(const In* p) {
  return to_float<lanes<float>>(p);
}
inline Wide to_scored(const double* p) { return load_as<Wide>(p); }

// Forces v into a register. Without it, the compiler may repeat the load of v at each of its uses.
template <class T>
inline void in_register(Vec<T>& v) {
#ifdef __x86_64__
  __asm__("" : "+v"(v));
#else
  (void)v;
#endif
}

// Value of one element, as float64 or float32.
inline double value(const double* p) { return *p; }
inline float value(const float* p) { return *p; }
template <class In>
inline float value(const In* p) {
  alignas(8) In four[4] = {*p, *p, *p, *p};
  return to_float<4>(four)[0];
}

// Horizontal sum of a vector, lane by lane.
template <class V>
inline auto total(V v) {
  auto sum = v[0];
  for (unsigned i = 1; i < sizeof(V) / sizeof(sum); ++i) sum += v[i];
  return sum;
}

// Interleaves half vectors: a0 b0 a1 b1 ... First = 0: the lower halves; First = lanes / 2: the upper halves.
template <class T, int First, int... I>
inline Vec<T> interleave(Vec<T> a, Vec<T> b, std::integer_sequence<int, I...>) {
  constexpr int n = lanes<T>;
#ifdef __clang__
  return __builtin_shufflevector(a, b, (First + I / 2 + (I % 2) * n)...);
#else
  using Mask = decltype(a < b);
  return __builtin_shuffle(a, b, Mask{(First + I / 2 + (I % 2) * n)...});
#endif
}

// Horizontal sums of lanes<T> vectors: lane i of the result is the sum of vectors[i].
template <class T>
inline Vec<T> totals(const Vec<T>* vectors) {
  constexpr int n = lanes<T>;
  constexpr auto all = std::make_integer_sequence<int, n>();
  Vec<T> v[n];
#pragma GCC unroll 16
  for (int i = 0; i < n; ++i) v[i] = vectors[i];
#pragma GCC unroll 4
  for (int left = n / 2; left > 0; left /= 2)
#pragma GCC unroll 8
    for (int i = 0; i < left; ++i)
      v[i] = interleave<T, 0>(v[i], v[i + left], all) + interleave<T, n / 2>(v[i], v[i + left], all);
  return v[0];
}

// Transposes a square of lanes<T> x lanes<T> elements in registers, in log2(lanes<T>) rounds of perfect shuffles.
template <class T>
inline void transpose(Vec<T> (&square)[lanes<T>]) {
  constexpr int n = lanes<T>;
  constexpr auto all = std::make_integer_sequence<int, n>();
  for (int round = 1; round < n; round *= 2) {
    Vec<T> next[n];
#pragma GCC unroll 16
    for (int i = 0; i < n / 2; ++i) {
      next[2 * i] = interleave<T, 0>(square[i], square[i + n / 2], all);
      next[2 * i + 1] = interleave<T, n / 2>(square[i], square[i + n / 2], all);
    }
#pragma GCC unroll 16
    for (int i = 0; i < n; ++i) square[i] = next[i];
  }
}

}  // namespace
}  // namespace ncharness
