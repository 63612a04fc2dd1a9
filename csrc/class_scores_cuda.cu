// Pass 2 on a CUDA device: preparation of the class means m_c (d,), c in [0, C), and dispatch to the scoring kernels.
//   active[c] = m_c is finite; shift (d,) = mean of the first 64 active means, or of all of them with the Gram;
//   base = shift rounded to S, bias[c] = ||m_c - base||^2, packed (C, d) = -2 (m_c - shift); see Tables in centres.cuh.
//
// Launch shapes; all blocks have 256 threads:
//   find_active   grid C: one block checks one mean. Shared memory: 64 bytes (block_sum).
//   find_shift    grid ceil(stride / 256): one thread computes one column. Shared memory: none.
//   pack_centres  grid C, rounded up to a multiple of 128 for the tensor cores: one block fills one row of the tables.
//                 Shared memory: 64 bytes (block_sum).
// Scoring: nearest_few.cu, nearest_many.cu (float32 scores and more than 32 classes), residual_gram.cu.
// Speed: see the benchmarks, once they have been run on a GPU.
#include "centres.cuh"

namespace ncharness::cuda {
namespace {

constexpr int threads = 256;
constexpr int64_t shift_classes = 64;  // means in the shift without the Gram: any point near the means will do

// active[c], one block per class. Also clears `reach`.
template <class S>
__global__ void __launch_bounds__(threads) find_active(Tables<S> to) {
  const int64_t c = blockIdx.x;
  double nothing = 0;  // x - x is 0 for a finite x, else NaN
  for (int64_t j = threadIdx.x; j < to.d; j += threads) nothing += to.mean[c * to.d + j] - to.mean[c * to.d + j];
  nothing = block_sum<threads>(nothing);
  if (threadIdx.x == 0) to.active[c] = nothing == 0;
  if (c == 0 && threadIdx.x == 0) *to.reach = 0;
}

// shift and base, one thread per column: the mean of the first `of_classes` active means.
template <class S>
__global__ void __launch_bounds__(threads) find_shift(Tables<S> to, int64_t of_classes) {
  const int64_t j = static_cast<int64_t>(blockIdx.x) * threads + threadIdx.x;
  if (j >= to.stride) return;
  double sum = 0;
  int64_t found = 0;
  for (int64_t c = 0; j < to.d && c < to.n_classes && found < of_classes; ++c) {
    if (!to.active[c]) continue;
    sum += to.mean[c * to.d + j];
    ++found;
  }
  to.shift[j] = found ? sum / static_cast<double>(found) : 0;
  to.base[j] = static_cast<S>(to.shift[j]);
}

// All other tables, one block per class. Blocks beyond C fill the padding of the tensor core tables with zeros.
template <class S>
__global__ void __launch_bounds__(threads) pack_centres(Tables<S> to) {
  const int64_t c = blockIdx.x;
  const bool active = c < to.n_classes && to.active[c];
  double bias = 0, reach_sq = 0;
  for (int64_t j = threadIdx.x; j < to.stride; j += threads) {
    const bool there = active && j < to.d;
    const double mean = there ? to.mean[c * to.d + j] : 0, centred = there ? mean - to.shift[j] : 0;
    if (to.packed) to.packed[c * to.stride + j] = static_cast<S>(-2 * centred);
    if (to.high) {
      const __nv_bfloat16 high = static_cast<float>(-2 * centred);
      to.high[c * to.stride + j] = high;
      to.low[c * to.stride + j] = static_cast<float>(-2 * centred - wide(high));
    }
    if (to.own_base && c < to.n_classes) {
      const S base = static_cast<S>(mean);
      to.own_base[c * to.stride + j] = base;
      to.own_rest[c * to.stride + j] = static_cast<S>(mean - static_cast<double>(base));
      to.centred[c * to.stride + j] = static_cast<S>(centred);
    }
    const double offset = there ? mean - static_cast<double>(to.base[j]) : 0;
    bias += offset * offset;
    reach_sq += centred * centred;
  }
  bias = block_sum<threads>(bias);
  reach_sq = block_sum<threads>(reach_sq);
  if (threadIdx.x != 0 || c >= to.n_classes) return;
  to.bias[c] = active ? static_cast<S>(bias) : static_cast<S>(INFINITY);
  // Non-negative doubles have the same order as their bits, so an integer atomicMax finds the largest reach.
  const double reach = sqrt(bias > reach_sq ? bias : reach_sq);
  if (active) atomicMax(to.reach, static_cast<unsigned long long>(__double_as_longlong(reach)));
}

// prepare() with scores of type S.
template <class S>
void prepare_as(const Centres& centres, cudaStream_t stream) {
  Pieces pieces(centres.memory);
  const Tables<S> tables = take_tables<S>(centres, pieces);
  const int64_t classes =
      tables.high ? (tables.n_classes + class_block - 1) / class_block * class_block : tables.n_classes;
  launch("find_active", find_active<S>, dim3(static_cast<unsigned>(tables.n_classes)), threads, 0, stream, tables);
  launch("find_shift", find_shift<S>, dim3(blocks_of(tables.stride, threads)), threads, 0, stream, tables,
         centres.gram ? tables.n_classes : shift_classes);
  launch("pack_centres", pack_centres<S>, dim3(static_cast<unsigned>(classes)), threads, 0, stream, tables);
}

// class_scores() with scores of type S.
template <class S>
void score_as(const Matrix& x, const Labels& y, const Centres& centres, const ClassScores& out,
              const Workspace& workspace, cudaStream_t stream) {
  Pieces pieces(centres.memory);
  const Tables<S> tables = take_tables<S>(centres, pieces);
  if (x.n > 0) {
    if constexpr (sizeof(S) == 4) {
      if (tables.high) nearest_many(x, tables, out.nearest, workspace, stream);
    }
    if (!tables.high) nearest_few(x, tables, out.nearest, workspace, stream);
  }
  if (out.gram) residual_gram(x, y, tables, out.gram, out.directional, workspace, stream);
}

}  // namespace

int64_t centres_bytes(int64_t n_classes, int64_t d, bool wide, bool gram) {
  Pieces pieces({nullptr, 0});
  const Centres centres = {nullptr, n_classes, d, wide, gram, {nullptr, 0}};
  if (wide)
    take_tables<double>(centres, pieces);
  else
    take_tables<float>(centres, pieces);
  return pieces.used();
}

void prepare(const Centres& centres, cudaStream_t stream) {
  if (centres.wide)
    prepare_as<double>(centres, stream);
  else
    prepare_as<float>(centres, stream);
}

int64_t scores_bytes(int64_t n, int64_t n_classes, int64_t d, bool wide, bool gram) {
  Pieces pieces({nullptr, 0});
  const Centres centres = {nullptr, n_classes, d, wide, gram, {nullptr, 0}};
  int64_t nearest = 0;
  if (wide)
    nearest = nearest_few_bytes(n, take_tables<double>(centres, pieces));
  else if (by_tensor_cores<float>(n_classes))
    nearest = nearest_many_bytes(n, n_classes);
  else
    nearest = nearest_few_bytes(n, take_tables<float>(centres, pieces));
  return std::max(nearest, gram ? gram_bytes(n, n_classes) : 0);
}

void class_scores(const Matrix& x, const Labels& y, const Centres& centres, const ClassScores& out,
                  const Workspace& workspace, cudaStream_t stream) {
  if (centres.wide)
    score_as<double>(x, y, centres, out, workspace, stream);
  else
    score_as<float>(x, y, centres, out, workspace, stream);
}

}  // namespace ncharness::cuda
