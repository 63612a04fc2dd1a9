// Class means as the device code of pass 2 wants them, what it knows of rounding, and how it decides near ties.
#pragma once

#include <cuda_bf16.h>

#include <cfloat>

#include "launch.cuh"

namespace ncharness::cuda {

constexpr int64_t column_step = 128;   // tables have a multiple of it
constexpr int64_t class_block = 128;   // and of this many classes where they are for the tensor cores
constexpr int64_t most_products = 32;  // classes up to which plain products keep up with memory

// Scores are of type S: float32, or float64 for float64 features.
template <class S>
struct Tables {
  const double* mean;  // (C, d)
  int64_t n_classes, d, stride;
  int32_t* active;            // (C,) whether the mean is finite
  unsigned long long* reach;  // bits of a double: the largest distance of a mean to the base, or to the shift
  double* shift;              // (stride,) any point near the means; the mean of the means where there is a Gram
  S* base;                    // (stride,) the shift, rounded
  S* bias;                    // (C,) ||m_c - base||^2, infinite for a mean that is not finite
  S* packed;                  // (C, stride) -2 (m_c - shift), zeros beyond d; for plain products
  __nv_bfloat16 *high, *low;  // (classes, stride) the same in two parts, for the tensor cores
  S *own_base, *own_rest;     // (C, stride) with a Gram: m_c, rounded, and what that leaves
  S* centred;                 // (C, stride) with a Gram: m_c - g, zeros for a mean that is not finite
};

template <class S>
bool by_tensor_cores(int64_t n_classes) {
  return sizeof(S) == 4 && n_classes > most_products;
}

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

template <class S>
struct Limits;
template <>
struct Limits<float> {
  static constexpr double unit = FLT_EPSILON / 2, least = FLT_MIN, safe = 1e18;  // whose square is far from overflow
};
template <>
struct Limits<double> {
  static constexpr double unit = DBL_EPSILON / 2, least = DBL_MIN, safe = 1e150;
};

// By how much the key ||m_c - base||^2 - 2 v . (m_c - shift) of one class may seem less than that of another and be
// greater: offset + slope ||v||. A score is off by at most `error` times ||v|| ||m_c - shift||.
struct Margin {
  double offset, slope;

  template <class S>
  static __device__ Margin of(const Tables<S>& tables, double error) {
    const double reach = __longlong_as_double(static_cast<long long>(*tables.reach));
    const double unit = Limits<S>::unit, least = Limits<S>::least, columns = sqrt(static_cast<double>(tables.d));
    const double slope = 1.01 * 4 * (error + 6 * unit) * reach;  // and for v, m_c - shift, the key and the norm itself
    // A bias is rounded, and added up in float64: 256 sums of so many columns, 8 steps over them.
    const double bias = unit + DBL_EPSILON / 2 * (static_cast<double>(tables.d) / 256 + 13);
    const double offset = 1.01 * (4 * bias * reach * reach + slope * columns * sqrt(least) + columns * columns * least);
    return {reach < Limits<S>::safe ? offset : INFINITY, slope};
  }

  // Not so for a NaN, nor where anything may have overflowed: nothing is greater than the margin then.
  template <class S>
  __device__ bool clear(S best, S other, S norm_sq) const {
    const double norm = sqrt(static_cast<double>(norm_sq));
    if (!(norm < Limits<S>::safe)) return false;
    return static_cast<double>(other) - static_cast<double>(best) > offset + slope * norm;
  }
};

// The squared distance of a row to a class mean in float64, the same in every lane of a warp.
template <class S, class In>
__device__ double sq_distance(const In* row, const Tables<S>& tables, int64_t c) {
  double sum = 0;  // NaN or infinite for a mean that is not finite, which wins nothing
  for (int64_t j = threadIdx.x % warp_lanes; j < tables.d; j += warp_lanes) {
    const double difference = wide(row[j]) - tables.mean[c * tables.d + j];
    sum += difference * difference;
  }
  return warp_sum(sum);
}

// The nearest of the means by distances in float64, the lowest on ties; -1 where none is finite. A whole warp.
struct Settled {
  int64_t at = -1;
  double least = INFINITY;

  // Classes [from, to), after all lower ones that are to be considered.
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

// Whether a row has nothing but numbers, the same in every lane: others are not held against any class.
template <class In>
__device__ bool is_finite(const In* row, int64_t d) {
  double nothing = 0;  // a sum of zeros, or NaN
  for (int64_t j = threadIdx.x % warp_lanes; j < d; j += warp_lanes) nothing += wide(row[j]) - wide(row[j]);
  return warp_sum(nothing) == 0;
}

template <class S, class In>
__device__ int64_t settle(const In* row, const Tables<S>& tables) {
  Settled settled;
  if (is_finite(row, tables.d)) settled.consider(row, tables, 0, tables.n_classes);
  return settled.at;
}

// The same of two, `low` the lower.
template <class S, class In>
__device__ int64_t settle_two(const In* row, const Tables<S>& tables, int64_t low, int64_t high) {
  return sq_distance(row, tables, high) < sq_distance(row, tables, low) ? high : low;
}

// Pass 2 by plain products, by tensor cores, and for the Gram.
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
