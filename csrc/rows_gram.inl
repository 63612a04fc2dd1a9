// Gram of residual scores over a block of rows, in float64: gram (C, C) += T^T T for scores T (rows, C). Only the upper
// triangle (and some entries below the diagonal) is computed. C counts the active classes.
//
// Blocking: register blocks of 8 classes (AVX-512) or 4 classes by two vectors of classes. Each block visits all rows.
// Threads: none here; each thread has its own Gram (class_scores_cpu.cpp).
#pragma once

#include "rows_lanes.inl"

namespace ncharness {
namespace {

// Register block: gram[i][j] += sum over rows of ti[row][i] tj[row][j], for R classes i and two vectors of classes j.
template <int R>
void gram_block(const double* ti, const double* tj, int64_t rows, int64_t stride, double* gram, int64_t gram_stride) {
  Wide acc[R][2];
  for (int r = 0; r < R; ++r)
    for (int k = 0; k < 2; ++k) acc[r][k] = load_as<Wide>(gram + r * gram_stride + k * LANES);
  for (int64_t i = 0; i < rows; ++i, ti += stride, tj += stride) {
    const Wide first = load_as<Wide>(tj), second = load_as<Wide>(tj + LANES);
    for (int r = 0; r < R; ++r) {
      acc[r][0] += first * ti[r];
      acc[r][1] += second * ti[r];
    }
  }
  for (int r = 0; r < R; ++r)
    for (int k = 0; k < 2; ++k) store(gram + r * gram_stride + k * LANES, acc[r][k]);
}

// gram (n_classes, stride) += t^T t, at least its upper triangle. t (rows, stride) is padded with zeros; stride is a
// multiple of 2 LANES.
inline void add_gram(const double* t, int64_t rows, int64_t n_classes, int64_t stride, double* gram) {
  constexpr int group = LANES == 8 ? 8 : 4;  // 2 x group accumulators fit the registers
  for (int64_t i = 0; i < n_classes; i += group)
    for (int64_t j = i / (2 * LANES) * (2 * LANES); j < stride; j += 2 * LANES)
      gram_block<group>(t + i, t + j, rows, stride, gram + i * stride + j, stride);
}

}  // namespace
}  // namespace ncharness
