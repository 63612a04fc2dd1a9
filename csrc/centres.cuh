// Pass 2 on a CUDA device: tables of the class means, the error bound of the scores, and exact decisions of near ties.
//
// For class means m_c (d,), c in [0, C), and a row x (d,):
//   v = x - base, key[c] = bias[c] - 2 v . (m_c - shift), bias[c] = ||m_c - base||^2,
//   nearest = argmin over c of key[c].
// The type S of the tables and keys is float32, or float64 for float64 features. Any shift gives the right order of
// keys. If the two smallest keys differ by no more than a margin, ||x - m_c||^2 is computed in float64 and decides.
//
// There are no kernels in this file. class_scores_cuda.cu fills the tables. The device functions that decide near ties
// are called by whole warps, one row at a time; they use no shared memory.
#pragma once

#include <cuda_bf16.h>

#include <cfloat>

#include "launch.cuh"

namespace ncharness::cuda {

constexpr int64_t column_step = 128;   // the column count of the tables (stride) is a multiple of this
constexpr int64_t class_block = 128;   // the class count of the tensor core tables is a multiple of this
constexpr int64_t most_products = 32;  // tensor cores are used for more classes than this

// Tables of the class means, in device memory. S is the type of the scores.
template <class S>
struct Tables {
  const double* mean;  // (C, d)
  int64_t n_classes, d, stride;
  int32_t* active;            // (C,) 1 if the mean is finite (active class), else 0
  unsigned long long* reach;  // bits of a double: the largest of ||m_c - base|| and ||m_c - shift|| over the classes
  double* shift;              // (stride,) a point near the means; with the Gram it is g, the mean of the active means
  S* base;                    // (stride,) the shift rounded to S
  S* bias;                    // (C,) ||m_c - base||^2; infinite for an inactive class
  S* packed;                  // (C, stride) -2 (m_c - shift), zeros beyond d; null if tensor cores are used
  __nv_bfloat16 *high, *low;  // (C rounded up to class_block, stride) the same, as high + low; null otherwise
  S *own_base, *own_rest;     // (C, stride) with the Gram: m_c rounded to S, and m_c - own_base rounded to S
  S* centred;                 // (C, stride) with the Gram: m_c - g; zeros for an inactive class
};

// Whether keys are computed with tensor cores: scores in float32 and many classes.
template <class S>
bool by_tensor_cores(int64_t n_classes) {
  return sizeof(S) == 4 && n_classes > most_products;
}

// Places the tables in `pieces`.
template <class S>
Tables<S> take_tables(const Centres& centres, Pieces& pieces) {
  Tables<S> tables = {};
  const int64_t n_classes = centres.n_classes;
  const int64_t stride = (centres.d + column_step - 1) / column_step * column_step;
  tables.mean = centres.mean;
  tables.n_classes = n_classes;
  tables.d = centres.d;
  tables.stride = stride;
  tables.active = pieces.take<int32_t>(n_classes);
  tables.reach = pieces.take<unsigned long long>(1);
  tables.shift = pieces.take<double>(stride);
  tables.base = pieces.take<S>(stride);
  tables.bias = pieces.take<S>(n_classes);
  if (by_tensor_cores<S>(n_classes)) {
    const int64_t classes = (n_classes + class_block - 1) / class_block * class_block;
    tables.high = pieces.take<__nv_bfloat16>(classes * stride);
    tables.low = pieces.take<__nv_bfloat16>(classes * stride);
  } else {
    tables.packed = pieces.take<S>(n_classes * stride);
  }
  if (centres.gram) {
    tables.own_base = pieces.take<S>(n_classes * stride);
    tables.own_rest = pieces.take<S>(n_classes * stride);
    tables.centred = pieces.take<S>(n_classes * stride);
  }
  return tables;
}

// Constants of S: unit roundoff, smallest normal number, and a bound whose square is far from overflow.
template <class S>
struct Limits;
template <>
struct Limits<float> {
  static constexpr double unit = FLT_EPSILON / 2, least = FLT_MIN, safe = 1e18;
};
template <>
struct Limits<double> {
  static constexpr double unit = DBL_EPSILON / 2, least = DBL_MIN, safe = 1e150;
};

// Error bound for the difference of two keys of a row: offset + slope ||v||. If two computed keys differ by more than
// that, the exact keys have the same order. `error` is the error bound of a computed dot product v . (m_c - shift), in
// units of ||v|| ||m_c - shift||.
struct Margin {
  double offset, slope;

  template <class S>
  static __device__ Margin of(const Tables<S>& tables, double error) {
    const double reach = __longlong_as_double(static_cast<long long>(*tables.reach));
    const double unit = Limits<S>::unit, least = Limits<S>::least, columns = sqrt(static_cast<double>(tables.d));
    const double slope = 1.01 * 4 * (error + 6 * unit) * reach;  // 6: v, m_c - shift, key and norm
    // Error of a bias: rounding to S, and float64 sums: d / 256 additions per thread, then 5 + 7 in block_sum.
    const double bias = unit + DBL_EPSILON / 2 * (static_cast<double>(tables.d) / 256 + 13);
    const double offset = 1.01 * (4 * bias * reach * reach + slope * columns * sqrt(least) + columns * columns * least);
    return {reach < Limits<S>::safe ? offset : INFINITY, slope};
  }

  // Whether the class with key `best` is certainly nearer than the class with key `other`: other - best > margin.
  // norm_sq is ||v||^2. Returns false if a key is NaN or if a value may have overflowed. In that case `norm` is not
  // below the limit `safe`, or `offset` is infinite because `reach` is not.
  template <class S>
  __device__ bool clear(S best, S other, S norm_sq) const {
    const double norm = sqrt(static_cast<double>(norm_sq));
    if (!(norm < Limits<S>::safe)) return false;
    return static_cast<double>(other) - static_cast<double>(best) > offset + slope * norm;
  }
};

// ||row - m_c||^2 in float64, computed by one warp with coalesced loads. Every lane gets the same result.
template <class S, class In>
__device__ double sq_distance(const In* row, const Tables<S>& tables, int64_t c) {
  double sum = 0;  // NaN or infinite for an inactive class, so it is never the nearest
  for (int64_t j = threadIdx.x % warp_lanes; j < tables.d; j += warp_lanes) {
    const double difference = wide(row[j]) - tables.mean[c * tables.d + j];
    sum += difference * difference;
  }
  return warp_sum(sum);
}

// Nearest class by float64 distances: the lowest index on ties, -1 if no distance is finite. All lanes of a warp call
// consider() together.
struct Settled {
  int64_t at = -1;
  double least = INFINITY;

  // Considers classes [from, to). Calls must be in ascending order of classes, so that the lowest index wins ties.
  template <class S, class In>
  __device__ void consider(const In* row, const Tables<S>& tables, int64_t from, int64_t to) {
    for (int64_t c = from; c < to; ++c) {
      const double here = sq_distance(row, tables, c);
      if (here < least) {
        least = here;
        at = c;
      }
    }
  }
};

// Whether all elements of a row are finite, computed by one warp. A row that is not finite has no nearest class (-1).
template <class In>
__device__ bool is_finite(const In* row, int64_t d) {
  double nothing = 0;  // x - x is 0 for a finite x, else NaN
  for (int64_t j = threadIdx.x % warp_lanes; j < d; j += warp_lanes) nothing += wide(row[j]) - wide(row[j]);
  return warp_sum(nothing) == 0;
}

// Nearest of all classes by float64 distances; -1 for a row that is not finite. One warp per row.
template <class S, class In>
__device__ int64_t settle(const In* row, const Tables<S>& tables) {
  Settled settled;
  if (is_finite(row, tables.d)) settled.consider(row, tables, 0, tables.n_classes);
  return settled.at;
}

// Nearer of two classes by float64 distances, low < high. The row must be finite. One warp per row.
template <class S, class In>
__device__ int64_t settle_two(const In* row, const Tables<S>& tables, int64_t low, int64_t high) {
  return sq_distance(row, tables, high) < sq_distance(row, tables, low) ? high : low;
}

// The parts of pass 2. Workspace sizes are in bytes. `nearest` is (n,), `gram` and `directional` are (C, C).
// nearest_few: products without tensor cores. nearest_many: tensor cores, C > most_products. residual_gram: the Gram.
template <class S>
int64_t nearest_few_bytes(int64_t n, const Tables<S>& tables);
template <class S>
void nearest_few(const Matrix& x, const Tables<S>& tables, int64_t* nearest, const Workspace& workspace,
                 cudaStream_t stream);
int64_t nearest_many_bytes(int64_t n, int64_t n_classes);
void nearest_many(const Matrix& x, const Tables<float>& tables, int64_t* nearest, const Workspace& workspace,
                  cudaStream_t stream);
int64_t gram_bytes(int64_t n, int64_t n_classes);
template <class S>
void residual_gram(const Matrix& x, const Labels& y, const Tables<S>& tables, double* gram, double* directional,
                   const Workspace& workspace, cudaStream_t stream);

}  // namespace ncharness::cuda
