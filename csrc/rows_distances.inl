// Squared distances between two sets of float64 rows:
//   out (n_a, n_b), out[i][k] = sum over columns j of (a[i][j] - b[k][j])^2.
// Differences are squared directly. The expansion ||a||^2 - 2 a . b + ||b||^2 (a GEMM) would lose small distances to
// cancellation if the norms are large.
//
// Blocking: tiles of 512 columns; four rows of a at a time against one row of b. A column tile of a stays in L1 while
// all rows of b are visited. Threads: none here; callers split the rows.
#pragma once

#include "rows_lanes.inl"

namespace ncharness {
namespace {

// out[r * out_stride] += ||a_r - b||^2 over `width` columns, for R rows of a that are `stride` elements apart.
template <int R>
void add_distances(const double* a, int64_t stride, const double* b, int64_t width, double* out, int64_t out_stride) {
  constexpr int chains = 4 / R;  // accumulators per row: 4 independent ones in all, to hide the latency of the FMA
  Wide acc[R][chains] = {};
  const auto add = [&](int64_t j, int chain) {
    const Wide to = load_as<Wide>(b + j);
#pragma GCC unroll 4
    for (int r = 0; r < R; ++r) {
      const Wide difference = load_as<Wide>(a + r * stride + j) - to;
      acc[r][chain] += difference * difference;
    }
  };
  int64_t j = 0;
  for (; j + chains * LANES <= width; j += chains * LANES)
#pragma GCC unroll 4
    for (int chain = 0; chain < chains; ++chain) add(j + chain * LANES, chain);
  for (; j + LANES <= width; j += LANES) add(j, 0);
  for (; j < width; ++j)
    for (int r = 0; r < R; ++r) {
      const double difference = a[r * stride + j] - b[j];
      acc[r][0][0] += difference * difference;
    }
  for (int r = 0; r < R; ++r) {
    for (int chain = 1; chain < chains; ++chain) acc[r][0] += acc[r][chain];
    out[r * out_stride] += total(acc[r][0]);
  }
}

// out (n_a, n_b) = squared distances of the rows of a (n_a, d) and b (n_b, d), both contiguous.
void distances(const double* a, int64_t n_a, const double* b, int64_t n_b, int64_t d, double* out) {
  constexpr int64_t tile = 512;
  for (int64_t i = 0; i < n_a * n_b; ++i) out[i] = 0;
  for (int64_t from = 0; from < d; from += tile) {
    const int64_t width = d - from < tile ? d - from : tile;
    for (int64_t k = 0; k < n_b; ++k) {
      int64_t i = 0;
      for (; i + 4 <= n_a; i += 4)
        add_distances<4>(a + i * d + from, d, b + k * d + from, width, out + i * n_b + k, n_b);
      for (; i < n_a; ++i) add_distances<1>(a + i * d + from, d, b + k * d + from, width, out + i * n_b + k, n_b);
    }
  }
}

}  // namespace
}  // namespace ncharness
