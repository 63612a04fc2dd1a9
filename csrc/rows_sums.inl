// Pass 1 over a range of rows in one thread. For x (rows, d) with labels y and an origin o_c (d,) of each class:
//   count (C,) += number of rows, sum (C, d) = sum (x - o_c), sum_sq (C,) = sum ||x - o_c||^2, all sums in float64.
// Scatter and mean follow from these: mean = o_c + sum / count, scatter = sum_sq - ||sum||^2 / count.
//
// Blocking: a counting sort orders a chunk of rows by class. The rows of a class are processed in groups of four, in
// tiles of 1024 columns. Origin and sum of a tile, 8 KiB each, stay in L1 from group to group. Later rows are
// prefetched into L2. If the sums of all classes fit L1, or there are more classes than rows, the rows are processed in
// their given order (class_stats_cpu.cpp decides).
// Threads: class_stats_cpu.cpp calls this for a range of rows or a range of columns per thread.
//
// Versions. The number is the run time divided by the time of one read of the matrix (n = 200k, d = 512, C = 10,
// float32, one thread, AVX-512, measured during development):
//   1.75  rows in their given order, sums of ten classes in L2
//   1.20  rows sorted by class in chunks, groups of four rows of a class, prefetch of the next four rows
//   1.17  float32 converted in whole vectors, where GCC 12 used two half vectors
//   1.10  prefetch into L2, further ahead
// For d = 25,600: from 1.68 to 1.12 with tiles of columns.
#pragma once

#include "rows_lanes.inl"

namespace ncharness {
namespace {

// First row of class c in this call: clears its sums and, unless the class has earlier rows, makes the row its origin.
// Non-finite elements become 0 in the origin, so that x - origin stays finite for the finite elements of later rows.
template <class In>
void open_class(const In* row, int64_t d, int64_t c, const RowSums& out) {
  double* origin = out.origin + c * out.stride;
  if (out.sum) __builtin_memset(out.sum + c * out.stride, 0, static_cast<size_t>(d) * sizeof(double));
  __builtin_memset(out.sum_sq + c * LANES, 0, LANES * sizeof(double));
  if (out.before && out.before[c] > 0) return;
  int64_t j = 0;
  for (; j + LANES <= d; j += LANES) {
    const Wide first = to_wide(row + j);
    store(origin + j, first - first == 0 ? first : Wide{});
  }
  for (; j < d; ++j) {
    const double first = static_cast<double>(value(row + j));
    origin[j] = first - first == 0 ? first : 0;
  }
}

// mean (d,) += share * sum (d,). Returns the dot product sum . (share * sum).
double shift_mean(const double* sum, double share, int64_t d, double* mean) {
  Wide shift_sq[4] = {};
  const auto add = [&](int64_t j, int chain) {
    const Wide all = load_as<Wide>(sum + j), shift = all * share;
    store(mean + j, load_as<Wide>(mean + j) + shift);
    shift_sq[chain] += all * shift;
  };
  int64_t j = 0;
  for (; j + 4 * LANES <= d; j += 4 * LANES)
#pragma GCC unroll 4
    for (int chain = 0; chain < 4; ++chain) add(j + chain * LANES, chain);
  for (; j + LANES <= d; j += LANES) add(j, 0);
  double rest = 0;
  for (; j < d; ++j) {
    const double shift = sum[j] * share;
    mean[j] += shift;
    rest += sum[j] * shift;
  }
  return total((shift_sq[0] + shift_sq[1]) + (shift_sq[2] + shift_sq[3])) + rest;
}

constexpr int64_t bytes_ahead = 16384;  // prefetch distance (into L2), in bytes of the matrix

// Adds R rows of one class: sum (d,) += sum of x - origin, sum_sq (LANES,) += partial sums of ||x - origin||^2.
// `ahead`: R pointers to the data that is needed later; d elements of each are prefetched into L2.
template <int R, class In>
__attribute__((always_inline)) inline void sum_group(const In* const* rows, const In* const* ahead, int64_t d,
                                                     const double* origin, double* sum, double* sum_sq) {
  constexpr int columns = 64 / sizeof(In) > LANES ? 64 / sizeof(In) : LANES, vectors = columns / LANES;
  constexpr int chains = 4;  // independent accumulators, to hide the latency of the FMA
  Wide square[chains] = {};
  const auto add = [&](int64_t j, int v) {
    const Wide from = load_as<Wide>(origin + j);
    Wide all = load_as<Wide>(sum + j);
#pragma GCC unroll 4
    for (int r = 0; r < R; ++r) {
      const Wide difference = to_wide(rows[r] + j) - from;
      all += difference;
      square[(v + r) % chains] += difference * difference;
    }
    store(sum + j, all);
  };
  int64_t j = 0;
  for (; j + columns <= d; j += columns) {
    for (int r = 0; r < R; ++r) __builtin_prefetch(ahead[r] + j, 0, 2);
#pragma GCC unroll 4
    for (int v = 0; v < vectors; ++v) add(j + v * LANES, v);
  }
  for (; j + LANES <= d; j += LANES) add(j, 0);
  for (; j < d; ++j)
    for (int r = 0; r < R; ++r) {
      const double difference = static_cast<double>(value(rows[r] + j)) - origin[j];
      sum[j] += difference;
      square[0][0] += difference * difference;
    }
  store(sum_sq, load_as<Wide>(sum_sq) + ((square[0] + square[1]) + (square[2] + square[3])));
}

// Adds rows order[0], ... order[n - 1] of chunk x, all of class c. `last` points behind the last entry of the chunk's
// order. Works in tiles of columns, so that sum and origin of a tile stay in L1 from one group of rows to the next.
template <class In>
void sum_run(const In* x, int64_t row_stride, int64_t d, const int32_t* order, int64_t n, const int32_t* last,
             int64_t c, const RowSums& out) {
  constexpr int group = 4;
  constexpr int64_t tile = 1024;
  alignas(64) double passing[tile];
  double *origin = out.origin + c * out.stride, *sum_sq = out.sum_sq + c * LANES;
  if (out.count[c] == 0) open_class(x + order[0] * row_stride, d, c, out);
  out.count[c] += n;
  const double share = 1 / static_cast<double>(out.count[c] + (out.before ? out.before[c] : 0));
  for (int64_t from = 0; from < d; from += tile) {
    const int64_t width = d - from < tile ? d - from : tile;
    double* sum = out.sum ? out.sum + c * out.stride + from : passing;
    if (!out.sum) __builtin_memset(passing, 0, static_cast<size_t>(width) * sizeof(double));
    const int64_t distance = bytes_ahead / (group * width * static_cast<int64_t>(sizeof(In))) * group + group;
    const auto row = [=](int64_t i) { return x + order[i] * row_stride + from; };
    // Address to prefetch for row i. Behind the last row of the class it is the next column tile of the same rows;
    // behind the last tile it is the rows of the next class in the chunk.
    const auto later = [=](int64_t i) {
      if (i < n) return row(i);
      if (from + tile < d) return row(i - n < n ? i - n : 0) + tile;
      return x + (order + i < last ? order[i] : last[-1]) * row_stride;
    };
    int64_t i = 0;
    const auto add = [&](auto size) {
      const In *rows[group], *ahead[group];
      for (int r = 0; r < size; ++r) {
        rows[r] = row(i + r);
        ahead[r] = later(i + r + distance);
      }
      sum_group<size>(rows, ahead, width, origin + from, sum, sum_sq);
    };
    for (; i + group <= n; i += group) add(std::integral_constant<int, group>());
    if (n - i == 1) add(std::integral_constant<int, 1>());
    if (n - i == 2) add(std::integral_constant<int, 2>());
    if (n - i == 3) add(std::integral_constant<int, 3>());
    if (!out.sum) *sum_sq -= shift_mean(sum, share, width, origin + from);
  }
}

// Adds rows [begin, end) in their given order. Needs out.sum.
template <class In>
void sum_in_order(const In* x, int64_t row_stride, int64_t d, const Labels& y, int64_t begin, int64_t end,
                  const RowSums& out) {
  const int64_t distance = bytes_ahead / (d * static_cast<int64_t>(sizeof(In))) + 1;
  for (int64_t i = begin; i < end; ++i) {
    const int64_t c = label_at(y, i);
    const In *row = x + i * row_stride, *ahead = x + (i + distance < end ? i + distance : i) * row_stride;
    if (out.count[c]++ == 0) open_class(row, d, c, out);
    sum_group<1>(&row, &ahead, d, out.origin + c * out.stride, out.sum + c * out.stride, out.sum_sq + c * LANES);
  }
}

// Adds rows [begin, end), sorted by class within chunks of out.chunk_rows. For use if the sums of all classes do not
// fit L1: sorting loads the sums of each class once per chunk rather than once per row.
template <class In>
void sum_by_class(const In* x, int64_t row_stride, int64_t d, const Labels& y, int64_t n_classes, int64_t begin,
                  int64_t end, const RowSums& out) {
  for (int64_t from = begin; from < end; from += out.chunk_rows) {
    const int64_t rows = end - from < out.chunk_rows ? end - from : out.chunk_rows;
    for (int64_t c = 0; c <= n_classes; ++c) out.start[c] = 0;
    for (int64_t i = 0; i < rows; ++i) ++out.start[label_at(y, from + i) + 1];
    for (int64_t c = 0; c < n_classes; ++c) out.start[c + 1] += out.start[c];
    // After this loop, start[c] is the end of class c.
    for (int64_t i = 0; i < rows; ++i) out.order[out.start[label_at(y, from + i)]++] = static_cast<int32_t>(i);
    for (int64_t c = 0, first = 0; c < n_classes; first = out.start[c++])
      if (out.start[c] > first)
        sum_run(x + from * row_stride, row_stride, d, out.order + first, out.start[c] - first, out.order + rows, c,
                out);
  }
}

}  // namespace
}  // namespace ncharness
