// Class-distance normalised variance on a CUDA device, in float64. For count (C,), mean (C, d), scatter (C,):
//   value = mean over pairs i < j of classes with rows of (V_i + V_j) / (2 ||m_i - m_j||^2), V = scatter / count.
// No C x C table is stored.
//
// Launch shapes; blocks have 256 threads (8 warps) and 64 bytes of static shared memory (block_sum):
//   sum_pairs  grid ceil(C / 4): one block sums the pairs of 4 classes with all later classes. Each warp takes every
//              eighth later class; its lanes read consecutive columns (coalesced loads).
//   average    grid 1: adds up the sums of all blocks, in a fixed order.
// Speed: see the benchmarks, once they have been run on a GPU.
#include "launch.cuh"

namespace ncharness::cuda {
namespace {

constexpr int threads = 256;
constexpr int own = 4;  // classes per block; each is paired with all later classes

// sum[b] = sum over the pairs (i, j), i < j, with i among the classes of block b.
__global__ void __launch_bounds__(threads) sum_pairs(const int64_t* count, const double* mean, const double* scatter,
                                                     int64_t n_classes, int64_t d, double* sum) {
  const int64_t first = static_cast<int64_t>(blockIdx.x) * own, lane = threadIdx.x % warp_lanes;
  double total = 0;
  for (int64_t j = first + 1 + threadIdx.x / warp_lanes; j < n_classes; j += threads / warp_lanes) {
    if (count[j] == 0) continue;
    double apart[own] = {};
    for (int64_t k = lane; k < d; k += warp_lanes) {
      const double theirs = mean[j * d + k];
#pragma unroll
      for (int r = 0; r < own; ++r) {
        const double difference = mean[min(first + r, n_classes - 1) * d + k] - theirs;
        apart[r] += difference * difference;
      }
    }
#pragma unroll
    for (int r = 0; r < own; ++r) {
      const double distance = warp_sum(apart[r]);
      const int64_t i = first + r;
      if (lane != 0 || i >= j || count[i] == 0) continue;
      const double variances = scatter[i] / static_cast<double>(count[i]) + scatter[j] / static_cast<double>(count[j]);
      total += distance == 0 ? static_cast<double>(INFINITY) : variances / (2 * distance);
    }
  }
  total = block_sum<threads>(total);
  if (threadIdx.x == 0) sum[blockIdx.x] = total;
}

// value = sum of all pairs / number of pairs.
__global__ void __launch_bounds__(threads)
    average(const int64_t* count, int64_t n_classes, int64_t blocks, const double* sum, double* value) {
  double total = 0, filled = 0;
  for (int64_t b = threadIdx.x; b < blocks; b += threads) total += sum[b];
  for (int64_t c = threadIdx.x; c < n_classes; c += threads) filled += count[c] != 0;
  total = block_sum<threads>(total);
  filled = block_sum<threads>(filled);
  if (threadIdx.x == 0) *value = total / (filled * (filled - 1) / 2);
}

// The workspace: one sum per block of sum_pairs.
double* take(Pieces& pieces, int64_t n_classes) { return pieces.take<double>(blocks_of(n_classes, own)); }

}  // namespace

int64_t cdnv_bytes(int64_t n_classes) {
  Pieces pieces({nullptr, 0});
  take(pieces, n_classes);
  return pieces.used();
}

void cdnv(const int64_t* count, const double* mean, const double* scatter, int64_t n_classes, int64_t d, double* value,
          const Workspace& workspace, cudaStream_t stream) {
  Pieces pieces(workspace);
  double* const sum = take(pieces, n_classes);
  const unsigned blocks = blocks_of(n_classes, own);
  launch("sum_pairs", sum_pairs, dim3(blocks), threads, 0, stream, count, mean, scatter, n_classes, d, sum);
  launch("average", average, dim3(1), threads, 0, stream, count, n_classes, static_cast<int64_t>(blocks), sum, value);
}

}  // namespace ncharness::cuda
