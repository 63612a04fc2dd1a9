// Vectors of LANES doubles, or as many bytes of floats (a GCC and Clang extension, lowered to whatever the target
// has): loading every input type, and turning rows into lanes.
//
// Nothing in these files may call an inline function of the standard library: the linker keeps one copy of those, and
// it must not be the one compiled for a processor that is not there.
#pragma once

#ifdef __F16C__
#include <immintrin.h>
#endif

#include <utility>

#include "rows.hpp"

namespace ncharness {
namespace {

constexpr int vector_bytes = LANES * 8;
template <class T>
constexpr int lanes = vector_bytes / static_cast<int>(sizeof(T));

// Elements of 16 bits: float16 and bfloat16.
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
using Wide = Vec<double>;

// At any address.
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

// N elements as float32 or float64, exactly.
template <int N>
inline Vec<float, N> to_float(const float* p) {
  return load_as<Vec<float, N>>(p);
}
template <int N>
inline Vec<uint32_t, N> bits_of(const void* p) {
  // GCC 12 would widen by halves.
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
  // The bits, moved into place, make a float with an exponent too small by 112; infinities and NaNs need 112 more.
  const auto bits = bits_of<N>(p);
  const auto magnitude = (bits & 0x7fffu) << 13;
  auto scaled = (Vec<uint32_t, N>)((Vec<float, N>)magnitude * 0x1p112f);
  scaled |= (Vec<uint32_t, N>)(magnitude >= (0x7c00u << 13)) & 0x7f800000u;
  return (Vec<float, N>)(scaled | ((bits & 0x8000u) << 16));
}
template <class In>
inline Wide to_wide(const In* p) {
#ifdef __AVX512F__
  return (Wide)_mm512_maskz_cvtps_pd(0xff, (__m256)to_float<LANES>(p));  // GCC 12 would convert by halves
#else
  return __builtin_convertvector(to_float<LANES>(p), Wide);
#endif
}
inline Wide to_wide(const double* p) { return load_as<Wide>(p); }

template <class In>
inline Vec<float> to_scored(const In* p) {
  return to_float<lanes<float>>(p);
}
inline Wide to_scored(const double* p) { return load_as<Wide>(p); }

// Keeps a vector that is used several times from being loaded as often.
template <class T>
inline void in_register(Vec<T>& v) {
#ifdef __x86_64__
  __asm__("" : "+v"(v));
#else
  (void)v;
#endif
}

// One element.
inline double value(const double* p) { return *p; }
inline float value(const float* p) { return *p; }
template <class In>
inline float value(const In* p) {
  alignas(8) In four[4] = {*p, *p, *p, *p};
  return to_float<4>(four)[0];
}

template <class V>
inline auto total(V v) {
  auto sum = v[0];
  for (unsigned i = 1; i < sizeof(V) / sizeof(sum); ++i) sum += v[i];
  return sum;
}

// a0 b0 a1 b1 ... of the first halves of a and b, or of the second.
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

// The totals of as many vectors as a vector has lanes, in order.
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

// Row r of the square becomes column r, by perfect shuffles.
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
