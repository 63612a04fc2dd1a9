// Pass 2, direct kernel: dot products of rows with class centres for few classes (at most max_direct) and long rows:
//   dot (rows, K) = V (rows, width) A (K, width)^T, v = x - base, A = -2 (m_c - g), K even.
//
// Blocking: SIMD lanes are columns, so rows are used as they are loaded, without a transpose. A register block has
// direct_rows rows by K + 1 accumulator vectors (K dot products and the squared norm). A tile of direct_columns columns
// of all centres stays in L1. The K + 1 horizontal sums at the end of a tile cost little if rows are long.
// Threads: none here; each thread has its own rows (class_scores_cpu.cpp).
#pragma once

#include "rows_lanes.inl"

namespace ncharness {
namespace {

template <class T>
constexpr int64_t direct_columns = 32 * lanes<T>;  // column tile: this much of 12 centres fits L1
constexpr int direct_rows = LANES == 8 ? 2 : 1;    // register blocking: 13 accumulators for each of these rows fit

constexpr int rows_ahead = 6;  // prefetch distance (into L2), in rows

// Loads the last `left` columns of a row; the other lanes are 0.
template <class T, class In>
inline Vec<T> part_of(const In* row, int64_t left) {
  Vec<T> v = {};
  for (int64_t l = 0; l < left; ++l) v[l] = static_cast<T>(value(row + l));
  return v;
}

// Scores direct_rows rows over `width` columns. With v = row - base: sums[r][k] = v . centre k for k < K, and
// sums[r][K] = ||v||^2. Layouts: rows are `row_stride` elements apart; centres are [vector of columns][K][lanes]; bases
// are padded with zeros to whole vectors; sums[r] has room for whole vectors. OwnBase: each row has its own base, with
// its rounding error in `rest`.
template <class In, class T, bool OwnBase, int K>
void direct(const In* row, int64_t row_stride, const T* const* base, const T* const* rest, const T* centres,
            int64_t width, T* const* sums) {
  constexpr int n = lanes<T>, R = direct_rows, slots = (K + 1 + n - 1) / n;
  Vec<T> acc[R][K + 1] = {};
  const T *base0 = base[0], *rest0 = rest[0], *base1 = base[R - 1], *rest1 = rest[R - 1];
  const auto add = [&](const Vec<T>(&read)[R], int64_t j) {
    Vec<T> v[R];
    v[0] = read[0] - load_as<Vec<T>>(base0 + j);
    if constexpr (R == 2) v[1] = read[1] - load_as<Vec<T>>((OwnBase ? base1 : base0) + j);
    if constexpr (OwnBase && sizeof(T) < 8) {
      v[0] -= load_as<Vec<T>>(rest0 + j);
      if constexpr (R == 2) v[1] -= load_as<Vec<T>>(rest1 + j);
    }
#pragma GCC unroll 12
    for (int k = 0; k < K; ++k) {
      Vec<T> a = load_as<Vec<T>>(centres + j * K + k * n);
      in_register<T>(a);
#pragma GCC unroll 2
      for (int r = 0; r < R; ++r) acc[r][k] += v[r] * a;
    }
#pragma GCC unroll 2
    for (int r = 0; r < R; ++r) acc[r][K] += v[r] * v[r];
  };
  int64_t j = 0;
  // The first 1/R of the columns prefetches the first later row, and so on: one sequential stream of prefetches.
  for (int r = 0; r < R; ++r) {
    const In* ahead = row + (r + rows_ahead) * row_stride;
    const int64_t until = (r + 1) * (width / n) / R * n;
    for (; j < until; j += n) {
      Vec<T> read[R];
#pragma GCC unroll 2
      for (int i = 0; i < R; ++i) {
        __builtin_prefetch(ahead, 0, 2);
        ahead += n;
        read[i] = to_scored(row + i * row_stride + j);
      }
      add(read, j);
    }
  }
  if (j < width) {
    Vec<T> read[R];
    for (int r = 0; r < R; ++r) read[r] = part_of<T>(row + r * row_stride + j, width - j);
    add(read, j);
  }
#pragma GCC unroll 2
  for (int r = 0; r < R; ++r)
#pragma GCC unroll 8
    for (int s = 0; s < slots; ++s) {
      Vec<T> some[n];
#pragma GCC unroll 16
      for (int i = 0; i < n; ++i) some[i] = s * n + i <= K ? acc[r][s * n + i <= K ? s * n + i : 0] : Vec<T>{};
      store(sums[r] + s * n, totals<T>(some));
    }
}

template <class In, class T>
using Direct = void (*)(const In* row, int64_t row_stride, const T* const* base, const T* const* rest, const T* centres,
                        int64_t width, T* const* sums);

// The direct kernel for an even number of classes from 2 to 12.
template <class In, class T, bool OwnBase>
Direct<In, T> direct_of(int64_t n_classes) {
  constexpr Direct<In, T> of[] = {direct<In, T, OwnBase, 2>, direct<In, T, OwnBase, 4>,  direct<In, T, OwnBase, 6>,
                                  direct<In, T, OwnBase, 8>, direct<In, T, OwnBase, 10>, direct<In, T, OwnBase, 12>};
  return of[n_classes / 2 - 1];
}

}  // namespace
}  // namespace ncharness
