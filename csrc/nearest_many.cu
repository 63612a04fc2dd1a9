// Nearest class mean with tensor cores, for more than 32 classes and float32, float16 or bfloat16 features. For
// features x (n, d) and the tables of centres.cuh:
//   v = x - base, key (n, C) = bias + v a^T, a (C, d) = -2 (m_c - shift), nearest (n,) = argmin over c of key.
// Split bfloat16 GEMM: v = v_high + v_low and a = a_high + a_low, all bfloat16. v a is computed as
// v_low a_high + v_high a_low + v_high a_high in float32; v_low a_low is left out. If the error bound leaves the order
// of keys open, distances in float64 decide: between two classes if no third key is near, otherwise among all classes
// of the class blocks that may hold the nearest.
//
// Blocking: 128 rows x 128 classes per block, 32 columns per step. Each of 8 warps (4 x 2) computes 32 rows x 64
// classes as 2 x 4 WMMA tiles of 16 x 16. The next step's data is loaded from global memory into registers during the
// products.
//
// Launch shapes; blocks have 256 threads. Rows are processed in chunks whose records (Found) take at most 32 MiB:
//   score_many   grid ceil(rows / 128) * ceil(C / 128): one block finds the three smallest keys of 128 rows among 128
//                classes. Dynamic shared memory: 67,584 bytes (the float32 keys; 40,960 bytes of bfloat16 tiles share
//                the space).
//   decide_many  grid ceil(rows / 256): one thread merges the records of one row; near ties are decided by the whole
//                warp. Shared memory: none.
// Speed: see the benchmarks, once they have been run on a GPU.
#include <mma.h>

#include "centres.cuh"

namespace ncharness::cuda {
namespace {

constexpr int threads = 256;
constexpr int row_block = 128;                                   // rows per block
constexpr int step = 32;                                         // columns per step
constexpr int tile_stride = step + 8;                            // row stride of the bfloat16 tiles, padded
constexpr int score_stride = static_cast<int>(class_block) + 4;  // row stride of the keys, padded
constexpr int sum_columns = 256;  // the tensor cores accumulate this many columns; these sums are added in registers
constexpr int own = step / 2;     // columns of a row and of a class that a thread loads per step

// The three smallest keys of a row among the classes of one or more blocks of classes.
struct Found {
  float best, second, third;
  int32_t at, next;  // classes of the smallest and the second smallest key; -1: none

  __device__ void consider(float key, int32_t c) {
    if (!(key < third)) return;
    third = key < second ? second : key;
    next = key < best ? at : key < second ? c : next;
    second = key < best ? best : key < second ? key : second;
    at = key < best ? c : at;
    best = key < best ? key : best;
  }

  __device__ void merge(const Found& other) {
    consider(other.best, other.at);
    consider(other.second, other.next);
    if (other.third < third) third = other.third;
  }
};

__device__ Found nothing() {
  return {static_cast<float>(INFINITY), static_cast<float>(INFINITY), static_cast<float>(INFINITY), -1, -1};
}

struct alignas(16) Eight {
  __nv_bfloat16 value[8];
};

// Tiles of a step, [row or class][column].
struct Shared {
  __nv_bfloat16 row_high[row_block * tile_stride], row_low[row_block * tile_stride];
  __nv_bfloat16 class_high[class_block * tile_stride], class_low[class_block * tile_stride];
};
constexpr size_t shared_bytes = std::max(sizeof(Shared), sizeof(float) * row_block * score_stride);

using RowTile = nvcuda::wmma::fragment<nvcuda::wmma::matrix_a, 16, 16, 16, __nv_bfloat16, nvcuda::wmma::row_major>;
using ClassTile = nvcuda::wmma::fragment<nvcuda::wmma::matrix_b, 16, 16, 16, __nv_bfloat16, nvcuda::wmma::col_major>;
using Scores = nvcuda::wmma::fragment<nvcuda::wmma::accumulator, 16, 16, 16, float>;

// A thread's share of a step: columns of a row, and of a class in two bfloat16 parts.
template <class In>
struct Step {
  Vector<In> row[own / Vector<In>::size];
  Eight high[own / 8], low[own / 8];
};

// Splits v = x - base into two bfloat16 parts and stores the step in shared memory; adds v^2 to norm_sq.
template <class In>
__device__ __forceinline__ void store_step(const Step<In>& next, const float* base, int at, Shared& shared,
                                           float& norm_sq) {
  constexpr int vector = Vector<In>::size;
#pragma unroll
  for (int k = 0; k < own / 8; ++k) {
    Eight row_high, row_low;
#pragma unroll
    for (int i = 0; i < 8; ++i) {
      const int j = k * 8 + i;
      const float v = scored(next.row[j / vector].value[j % vector]) - base[j];
      norm_sq += v * v;
      row_high.value[i] = v;
      row_low.value[i] = v - scored(row_high.value[i]);
    }
    *reinterpret_cast<Eight*>(shared.row_high + at + k * 8) = row_high;
    *reinterpret_cast<Eight*>(shared.row_low + at + k * 8) = row_low;
    *reinterpret_cast<Eight*>(shared.class_high + at + k * 8) = next.high[k];
    *reinterpret_cast<Eight*>(shared.class_low + at + k * 8) = next.low[k];
  }
}

// Adds the products of a step to a warp's 2 x 4 tiles, in three products of bfloat16 parts.
__device__ __forceinline__ void multiply_step(const Shared& shared, int warp_row, int warp_class,
                                              Scores (&scores)[2][4]) {
  using namespace nvcuda;
#pragma unroll
  for (int k = 0; k < step; k += 16) {
    RowTile row_high[2], row_low[2];
#pragma unroll
    for (int r = 0; r < 2; ++r) {
      const int tile = (warp_row + r * 16) * tile_stride + k;
      wmma::load_matrix_sync(row_high[r], shared.row_high + tile, tile_stride);
      wmma::load_matrix_sync(row_low[r], shared.row_low + tile, tile_stride);
    }
#pragma unroll
    for (int c = 0; c < 4; ++c) {
      const int tile = (warp_class + c * 16) * tile_stride + k;
      ClassTile class_high, class_low;
      wmma::load_matrix_sync(class_high, shared.class_high + tile, tile_stride);
      wmma::load_matrix_sync(class_low, shared.class_low + tile, tile_stride);
#pragma unroll
      for (int r = 0; r < 2; ++r) {
        wmma::mma_sync(scores[r][c], row_low[r], class_high, scores[r][c]);
        wmma::mma_sync(scores[r][c], row_high[r], class_low, scores[r][c]);
        wmma::mma_sync(scores[r][c], row_high[r], class_high, scores[r][c]);
      }
    }
  }
}

// Adds the tensor cores' sums to those in registers and sets them to zero.
__device__ __forceinline__ void flush(Scores (&scores)[2][4], Scores (&sums)[2][4]) {
#pragma unroll
  for (int r = 0; r < 2; ++r)
#pragma unroll
    for (int c = 0; c < 4; ++c) {
#pragma unroll
      for (int i = 0; i < Scores::num_elements; ++i) sums[r][c].x[i] += scores[r][c].x[i];
      nvcuda::wmma::fill_fragment(scores[r][c], 0.0f);
    }
}

// Finds the three smallest keys of a row among the classes of the block, by two threads for each row.
__device__ __forceinline__ Found smallest(const Scores (&sums)[2][4], const Tables<float>& tables, int64_t first_class,
                                          int warp_row, int warp_class) {
  float* const score = reinterpret_cast<float*>(dynamic_shared());  // (row_block, score_stride)
#pragma unroll
  for (int r = 0; r < 2; ++r)
#pragma unroll
    for (int c = 0; c < 4; ++c)
      nvcuda::wmma::store_matrix_sync(score + (warp_row + r * 16) * score_stride + warp_class + c * 16, sums[r][c],
                                      score_stride, nvcuda::wmma::mem_row_major);
  __syncthreads();
  const int mine = threadIdx.x / 2;
  Found best = nothing();
  for (int k = threadIdx.x % 2; k < class_block; k += 2) {
    const int64_t c = first_class + k;
    if (c < tables.n_classes) best.consider(tables.bias[c] + score[mine * score_stride + k], static_cast<int32_t>(c));
  }
  Found other;
  other.best = __shfl_xor_sync(all_lanes, best.best, 1);
  other.second = __shfl_xor_sync(all_lanes, best.second, 1);
  other.third = __shfl_xor_sync(all_lanes, best.third, 1);
  other.at = __shfl_xor_sync(all_lanes, best.at, 1);
  other.next = __shfl_xor_sync(all_lanes, best.next, 1);
  best.merge(other);
  return best;
}

// found (class_blocks, n): the smallest keys of each row in each block of classes. norms_sq (n,): ||v||^2.
template <class In>
__global__ void __launch_bounds__(threads)
    score_many(const In* x, int64_t row_stride, int64_t n, bool whole, Tables<float> tables, int64_t class_blocks,
               Found* found, float* norms_sq) {
  constexpr int vector = Vector<In>::size;
  Shared& shared = *reinterpret_cast<Shared*>(dynamic_shared());
  const int warp = threadIdx.x / warp_lanes, warp_row = warp / 2 * 32, warp_class = warp % 2 * 64;
  const int64_t class_of_block = blockIdx.x % class_blocks, first_class = class_of_block * class_block;
  const int64_t first_row = blockIdx.x / class_blocks * row_block;
  const int mine = threadIdx.x / 2, column = threadIdx.x % 2 * own;  // two threads load a row and a class
  const In* const row = x + min(first_row + mine, n - 1) * row_stride;
  const __nv_bfloat16* const high = tables.high + (first_class + mine) * tables.stride;
  const __nv_bfloat16* const low = tables.low + (first_class + mine) * tables.stride;

  Step<In> next;
  // Loads the data of a step into registers.
  const auto fetch = [&](int64_t from) {
#pragma unroll
    for (int k = 0; k < own / vector; ++k) next.row[k] = load(row, from + column + k * vector, tables.d, whole);
#pragma unroll
    for (int k = 0; k < own / 8; ++k) {
      next.high[k] = *reinterpret_cast<const Eight*>(high + from + column + k * 8);
      next.low[k] = *reinterpret_cast<const Eight*>(low + from + column + k * 8);
    }
  };

  Scores scores[2][4], sums[2][4];
#pragma unroll
  for (int r = 0; r < 2; ++r)
#pragma unroll
    for (int c = 0; c < 4; ++c) {
      nvcuda::wmma::fill_fragment(scores[r][c], 0.0f);
      nvcuda::wmma::fill_fragment(sums[r][c], 0.0f);
    }
  float norm_sq = 0;

  fetch(0);
  for (int64_t from = 0; from < tables.stride; from += step) {
    const bool last = from + step >= tables.stride;
    store_step(next, tables.base + from + column, mine * tile_stride + column, shared, norm_sq);
    __syncthreads();
    if (!last) fetch(from + step);
    multiply_step(shared, warp_row, warp_class, scores);
    __syncthreads();
    if ((from + step) % sum_columns == 0 || last) flush(scores, sums);
  }

  const Found best = smallest(sums, tables, first_class, warp_row, warp_class);
  norm_sq += __shfl_xor_sync(all_lanes, norm_sq, 1);
  if (threadIdx.x % 2 != 0 || first_row + mine >= n) return;
  found[class_of_block * n + first_row + mine] = best;
  if (class_of_block == 0) norms_sq[first_row + mine] = norm_sq;
}

// The nearest class of each row from the records of all blocks of classes. One thread merges the records of one row;
// near ties are then decided by the whole warp, row by row.
template <class In>
__global__ void __launch_bounds__(threads)
    decide_many(const In* x, int64_t row_stride, int64_t n, Tables<float> tables, int64_t class_blocks,
                const Found* found, const float* norms_sq, int64_t* nearest) {
  // Error of a dot product, relative to ||v|| ||m_c - shift||:
  // - A split into two bfloat16 parts has an error of at most 2^-16. Three such errors: v, a, and the omitted product.
  // - sum_columns columns take 48 tensor core steps (16 blocks of 16 columns, 3 products). Each adds 17 terms, each
  //   truncated at 2^-24 of the largest: 48 x 17 x 2^-24 = 51 x 2^-20. The code allows for 61.
  // - Each float32 sum over sum_columns columns adds 2^-24.
  const double sums = static_cast<double>(tables.stride) / sum_columns + 1;
  const Margin margin = Margin::of(tables, 3.03 / (1 << 16) + 61.0 / (1 << 20) + sums / (1 << 24));
  const int64_t row = static_cast<int64_t>(blockIdx.x) * threads + threadIdx.x;
  const int lane = threadIdx.x % warp_lanes;
  enum { clear, of_two, of_all };
  int left = clear;
  Found best = nothing();
  if (row < n) {
    for (int64_t block = 0; block < class_blocks; ++block) best.merge(found[block * n + row]);
    if (!margin.clear(best.best, best.second, norms_sq[row]))
      left = margin.clear(best.best, best.third, norms_sq[row]) ? of_two : of_all;
    if (left == clear) nearest[row] = best.at;
  }
  const unsigned undecided = __ballot_sync(all_lanes, left != clear);
  for (int of = 0; of < warp_lanes; ++of) {
    if (!(undecided >> of & 1)) continue;
    const int how = __shfl_sync(all_lanes, left, of);
    const int32_t one = __shfl_sync(all_lanes, best.at, of), two = __shfl_sync(all_lanes, best.next, of);
    const In* const here = x + (row - lane + of) * row_stride;
    int64_t at = -1;
    if (how == of_two) {
      at = settle_two(here, tables, min(one, two), max(one, two));
    } else if (is_finite(here, tables.d)) {
      const float least = __shfl_sync(all_lanes, best.best, of), norm_sq = norms_sq[row - lane + of];
      Settled settled;
      for (int64_t block = 0; block < class_blocks; ++block)  // skip blocks that cannot hold the nearest
        if (!margin.clear(least, found[block * n + row - lane + of].best, norm_sq))
          settled.consider(here, tables, block * class_block, min((block + 1) * class_block, tables.n_classes));
      at = settled.at;
    }
    if (lane == 0) nearest[row + of] = at;
  }
}

int64_t blocks_of_classes(int64_t n_classes) { return (n_classes + class_block - 1) / class_block; }

// Rows per chunk.
int64_t rows_at_a_time(int64_t n, int64_t n_classes) {
  const int64_t bytes = blocks_of_classes(n_classes) * row_block * static_cast<int64_t>(sizeof(Found));
  const int64_t most = std::max<int64_t>(1, scratch_at_a_time / bytes) * row_block;
  return std::min(n, most);
}

// Places the records of a chunk in `pieces`.
void take(Pieces& pieces, int64_t rows, int64_t n_classes, Found*& found, float*& norms_sq) {
  found = pieces.take<Found>(blocks_of_classes(n_classes) * rows);
  norms_sq = pieces.take<float>(rows);
}

}  // namespace

int64_t nearest_many_bytes(int64_t n, int64_t n_classes) {
  Pieces pieces({nullptr, 0});
  Found* found = nullptr;
  float* norms_sq = nullptr;
  take(pieces, rows_at_a_time(n, n_classes), n_classes, found, norms_sq);
  return pieces.used();
}

void nearest_many(const Matrix& x, const Tables<float>& tables, int64_t* nearest, const Workspace& workspace,
                  cudaStream_t stream) {
  const int64_t at_a_time = rows_at_a_time(x.n, tables.n_classes), classes = blocks_of_classes(tables.n_classes);
  Pieces pieces(workspace);
  Found* found = nullptr;
  float* norms_sq = nullptr;
  take(pieces, at_a_time, tables.n_classes, found, norms_sq);
  with_type(x, [&](auto* data) {
    using In = std::remove_const_t<std::remove_pointer_t<decltype(data)>>;
    if constexpr (sizeof(In) < 8) {
      for (int64_t first = 0; first < x.n; first += at_a_time) {
        const int64_t rows = std::min(at_a_time, x.n - first);
        const auto* from = data + first * x.row_stride;
        launch("score_many", score_many<In>, dim3(blocks_of(rows, row_block) * static_cast<unsigned>(classes)), threads,
               shared_bytes, stream, from, x.row_stride, rows, rows_are_whole<In>(x, Vector<In>::size), tables, classes,
               found, norms_sq);
        launch("decide_many", decide_many<In>, dim3(blocks_of(rows, threads)), threads, 0, stream, from, x.row_stride,
               rows, tables, classes, found, norms_sq, nearest + first);
      }
    }
  });
}

}  // namespace ncharness::cuda
