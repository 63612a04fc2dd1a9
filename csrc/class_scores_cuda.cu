// Pass 2 on a CUDA device. A warp scores a few rows at a time against a block of classes whose centres lie in shared
// memory, lanes side by side along the columns. Scores are of the type that rows are scored in (float32, or float64 for
// float64 features); a row whose two best could be in the wrong order is decided by distances in float64.
#include <cfloat>

#include "launch.cuh"

namespace ncharness::cuda {
namespace {

constexpr int threads = 256;
constexpr int warps = threads / warp_lanes;
constexpr int64_t whole_centres =
    110 << 10;  // bytes of shared memory for all columns of a block of classes, two to an SM
constexpr int64_t some_centres = 48 << 10;  // for a tile of them
constexpr int shift_classes = 64;           // whose mean is the common shift: any point near the means will do

template <class S>
constexpr int lane_columns = 16 / static_cast<int>(sizeof(S));  // that a lane takes at a time
template <class S>
constexpr int step_columns = lane_columns<S> * warp_lanes;

// The class means as the kernels want them; `reach` is the largest distance of a mean to the base.
template <class S>
struct Centres {
  const double* mean;  // (C, d)
  int64_t n_classes, d, stride;
  S* base;                    // (stride,) the shift, rounded
  S* packed;                  // (C, stride) -2 (m_c - shift), zeros beyond d
  S* bias;                    // (C,) ||m_c - base||^2, infinite for a mean that is not finite
  int32_t* active;            // (C,)
  unsigned long long* reach;  // bits of a double
};

template <class S>
struct Limits;
template <>
struct Limits<float> {
  static constexpr double unit = FLT_EPSILON / 2, least = FLT_MIN;
};
template <>
struct Limits<double> {
  static constexpr double unit = DBL_EPSILON / 2, least = DBL_MIN;
};

template <class S>
__global__ void __launch_bounds__(threads) find_active(Centres<S> to) {
  const int64_t c = blockIdx.x;
  double nothing = 0;  // a sum of zeros, or NaN
  for (int64_t j = threadIdx.x; j < to.d; j += threads) nothing += to.mean[c * to.d + j] - to.mean[c * to.d + j];
  nothing = block_sum<threads>(nothing);
  if (threadIdx.x == 0) to.active[c] = nothing == 0;
  if (c == 0 && threadIdx.x == 0) *to.reach = 0;
}

template <class S>
__global__ void __launch_bounds__(threads) find_shift(Centres<S> to, double* shift) {
  const int64_t j = static_cast<int64_t>(blockIdx.x) * threads + threadIdx.x;
  if (j >= to.stride) return;
  double sum = 0;
  int found = 0;
  for (int64_t c = 0; j < to.d && c < to.n_classes && found < shift_classes; ++c) {
    if (!to.active[c]) continue;
    sum += to.mean[c * to.d + j];
    ++found;
  }
  shift[j] = found ? sum / found : 0;
  to.base[j] = static_cast<S>(shift[j]);
}

template <class S>
__global__ void __launch_bounds__(threads) pack_centres(Centres<S> to, const double* shift) {
  const int64_t c = blockIdx.x;
  const bool active = to.active[c];
  double bias = 0;
  for (int64_t j = threadIdx.x; j < to.stride; j += threads) {
    const bool there = active && j < to.d;
    const double mean = there ? to.mean[c * to.d + j] : 0;
    to.packed[c * to.stride + j] = there ? static_cast<S>(-2 * (mean - shift[j])) : S(0);
    const double offset = there ? mean - static_cast<double>(to.base[j]) : 0;
    bias += offset * offset;
  }
  bias = block_sum<threads>(bias);
  if (threadIdx.x != 0) return;
  to.bias[c] = active ? static_cast<S>(bias) : static_cast<S>(INFINITY);
  // Of doubles that are not negative the bits are in the same order.
  if (active) atomicMax(to.reach, static_cast<unsigned long long>(__double_as_longlong(sqrt(bias))));
}

template <class S>
struct alignas(16) Columns {
  S value[lane_columns<S>];
};

// Columns [j, j + lane_columns) of a row as S, zeros beyond d.
template <bool Whole, class S, class In>
__device__ Columns<S> load_columns(const In* row, int64_t j, int64_t d) {
  constexpr int size = lane_columns<S>;
  struct alignas(sizeof(In) * size) Packed {
    In value[size];
  };
  Columns<S> columns;
  if (Whole && j + size <= d) {
    const Packed some = *reinterpret_cast<const Packed*>(row + j);
    for (int k = 0; k < size; ++k) columns.value[k] = scored(some.value[k]);
  } else {
    for (int k = 0; k < size; ++k) columns.value[k] = j + k < d ? scored(row[j + k]) : S(0);
  }
  return columns;
}

// The nearest of all means by distances in float64, the lowest on ties; -1 where none is finite. A whole warp.
template <class S, class In>
__device__ int64_t settle(const In* row, const Centres<S>& centres) {
  int64_t at = -1;
  double least = INFINITY;
  for (int64_t c = 0; c < centres.n_classes; ++c) {
    double sum = 0;  // NaN or infinite for a mean that is not finite, which wins nothing
    for (int64_t j = threadIdx.x % warp_lanes; j < centres.d; j += warp_lanes) {
      const double difference = wide(row[j]) - centres.mean[c * centres.d + j];
      sum += difference * difference;
    }
    sum = warp_sum(sum);
    if (sum < least) {
      least = sum;
      at = c;
    }
  }
  return at;
}

template <class In, class S, int Classes, int Rows, bool Whole>
__global__ void __launch_bounds__(threads)
    find_nearest(const In* x, int64_t row_stride, int64_t n, Centres<S> centres, int64_t tile, int64_t* nearest) {
  S* const base = reinterpret_cast<S*>(dynamic_shared());  // (tile,), and centres (Classes, tile) behind it
  constexpr int size = lane_columns<S>;
  const int lane = threadIdx.x % warp_lanes, warp = threadIdx.x / warp_lanes;
  const int64_t d = centres.d;
  const double reach = __longlong_as_double(static_cast<long long>(*centres.reach));
  // As for the CPU (class_scores_cpu.cpp): keys are off by at most half of offset + slope ||v||.
  const double steps = static_cast<double>(size * ((d + step_columns<S> - 1) / step_columns<S>)+10);
  const double unit = Limits<S>::unit, least_normal = Limits<S>::least, columns = sqrt(static_cast<double>(d));
  const double slope = 1.01 * 4 * unit * steps * reach;
  const double offset =
      1.01 * (4 * unit * reach * reach + slope * columns * sqrt(least_normal) + columns * columns * least_normal);
  const bool one_tile = centres.stride <= tile, one_block = centres.n_classes <= Classes;
  bool loaded = false;

  for (int64_t group = blockIdx.x; group * warps * Rows < n; group += gridDim.x) {
    const int64_t first = (group * warps + warp) * Rows;
    const In* rows[Rows];
    S best[Rows], second[Rows], norm_sq[Rows];
    int64_t at[Rows];
#pragma unroll
    for (int r = 0; r < Rows; ++r) {
      rows[r] = x + min(first + r, n - 1) * row_stride;
      best[r] = second[r] = static_cast<S>(INFINITY);
      norm_sq[r] = 0;
      at[r] = -1;
    }
    for (int64_t from_class = 0; from_class < centres.n_classes; from_class += Classes) {
      S sum[Rows][Classes] = {};
      for (int64_t from = 0; from < centres.stride; from += tile) {
        const int64_t width = min(tile, centres.stride - from);
        if (!(loaded && one_tile && one_block)) {
          __syncthreads();
          for (int64_t k = threadIdx.x; k < width; k += threads) base[k] = centres.base[from + k];
          for (int c = 0; c < Classes; ++c) {
            const bool there = from_class + c < centres.n_classes;
            for (int64_t k = threadIdx.x; k < width; k += threads)
              base[(c + 1) * tile + k] = there ? centres.packed[(from_class + c) * centres.stride + from + k] : S(0);
          }
          __syncthreads();
          loaded = true;
        }
        for (int64_t j = lane * size; j < width; j += step_columns<S>) {
          Columns<S> v[Rows];
#pragma unroll
          for (int r = 0; r < Rows; ++r) v[r] = load_columns<Whole, S>(rows[r], from + j, d);
          const Columns<S> shift = *reinterpret_cast<const Columns<S>*>(base + j);
#pragma unroll
          for (int r = 0; r < Rows; ++r)
#pragma unroll
            for (int k = 0; k < size; ++k) {
              v[r].value[k] -= shift.value[k];
              if (from_class == 0) norm_sq[r] += v[r].value[k] * v[r].value[k];
            }
#pragma unroll
          for (int c = 0; c < Classes; ++c) {
            const Columns<S> a = *reinterpret_cast<const Columns<S>*>(base + (c + 1) * tile + j);
#pragma unroll
            for (int r = 0; r < Rows; ++r)
#pragma unroll
              for (int k = 0; k < size; ++k) sum[r][c] += v[r].value[k] * a.value[k];
          }
        }
      }
#pragma unroll
      for (int c = 0; c < Classes; ++c) {
        const S bias = from_class + c < centres.n_classes ? centres.bias[from_class + c] : static_cast<S>(INFINITY);
#pragma unroll
        for (int r = 0; r < Rows; ++r) {
          const S key = bias + warp_sum(sum[r][c]);
          second[r] = key < best[r] ? best[r] : key < second[r] ? key : second[r];
          at[r] = key < best[r] ? from_class + c : at[r];
          best[r] = key < best[r] ? key : best[r];
        }
      }
    }
#pragma unroll
    for (int r = 0; r < Rows; ++r) {
      if (first + r >= n) break;
      const double norm = sqrt(static_cast<double>(warp_sum(norm_sq[r])));
      const double margin = offset + slope * norm;
      // Not so for a NaN, nor where anything has overflowed: then nothing is greater than the margin.
      const bool clear = static_cast<double>(second[r]) - static_cast<double>(best[r]) > margin;
      const int64_t found = clear ? at[r] : settle(rows[r], centres);
      if (lane == 0) nearest[first + r] = found;
    }
  }
}

template <class S>
int64_t lay_out(const Workspace& workspace, int64_t d, int64_t n_classes, Centres<S>& centres, double*& shift) {
  Pieces pieces(workspace);
  centres.n_classes = n_classes;
  centres.d = d;
  centres.stride = (d + step_columns<S> - 1) / step_columns<S> * step_columns<S>;
  centres.base = pieces.take<S>(centres.stride);
  centres.packed = pieces.take<S>(n_classes * centres.stride);
  centres.bias = pieces.take<S>(n_classes);
  centres.active = pieces.take<int32_t>(n_classes);
  centres.reach = pieces.take<unsigned long long>(1);
  shift = pieces.take<double>(centres.stride);
  return pieces.used();
}

template <class In, class S, int Classes, int Rows>
void score(const Matrix& x, const Centres<S>& centres, int64_t* nearest, cudaStream_t stream) {
  const int64_t per_column = (Classes + 1) * static_cast<int64_t>(sizeof(S));
  int64_t tile = centres.stride;
  if (tile * per_column > whole_centres) tile = some_centres / per_column / step_columns<S> * step_columns<S>;
  const size_t bytes = static_cast<size_t>(tile * per_column);
  const In* data = static_cast<const In*>(x.data);
  const uintptr_t vector = sizeof(In) * lane_columns<S>;
  const bool whole = reinterpret_cast<uintptr_t>(data) % vector == 0 && x.row_stride % lane_columns<S> == 0;
  const auto kernel = whole ? find_nearest<In, S, Classes, Rows, true> : find_nearest<In, S, Classes, Rows, false>;
  int device = 0, processors = 0, resident = 0;
  succeed(cudaGetDevice(&device), "cudaGetDevice");
  succeed(cudaDeviceGetAttribute(&processors, cudaDevAttrMultiProcessorCount, device), "cudaDeviceGetAttribute");
  if (bytes > 48 << 10)
    succeed(cudaFuncSetAttribute(kernel, cudaFuncAttributeMaxDynamicSharedMemorySize, static_cast<int>(bytes)),
            "find_nearest");
  succeed(cudaOccupancyMaxActiveBlocksPerMultiprocessor(&resident, kernel, threads, bytes), "find_nearest");
  const int64_t groups = (x.n + warps * Rows - 1) / (warps * Rows);
  const int64_t blocks = std::min<int64_t>(groups, static_cast<int64_t>(processors) * std::max(resident, 1));
  launch("find_nearest", kernel, dim3(static_cast<unsigned>(blocks)), threads, bytes, stream, data, x.row_stride, x.n,
         centres, tile, nearest);
}

template <class In, class S>
void nearest_typed(const Matrix& x, const double* mean, int64_t n_classes, int64_t* nearest, const Workspace& workspace,
                   cudaStream_t stream) {
  Centres<S> centres;
  double* shift = nullptr;
  lay_out(workspace, x.d, n_classes, centres, shift);
  centres.mean = mean;
  const dim3 classes(static_cast<unsigned>(n_classes));
  launch("find_active", find_active<S>, classes, threads, 0, stream, centres);
  launch("find_shift", find_shift<S>, dim3(static_cast<unsigned>((centres.stride + threads - 1) / threads)), threads, 0,
         stream, centres, shift);
  launch("pack_centres", pack_centres<S>, classes, threads, 0, stream, centres, shift);
  // As many rows at a time as leave registers for a sum of each with every class.
  constexpr int rows = sizeof(S) == 4 ? 8 : 4;
  if (n_classes <= 4) return score<In, S, 4, rows>(x, centres, nearest, stream);
  if (n_classes <= 10) return score<In, S, 10, rows>(x, centres, nearest, stream);
  if (n_classes <= 16) return score<In, S, 16, rows / 2>(x, centres, nearest, stream);
  return score<In, S, 32, rows / 2>(x, centres, nearest, stream);
}

}  // namespace

int64_t scores_bytes(int64_t d, int64_t n_classes) {
  Centres<float> narrow;
  Centres<double> wide;
  double* shift = nullptr;
  const Workspace none = {nullptr, 0};
  return std::max(lay_out(none, d, n_classes, narrow, shift), lay_out(none, d, n_classes, wide, shift));
}

void nearest(const Matrix& x, const double* mean, int64_t n_classes, int64_t* nearest, const Workspace& workspace,
             cudaStream_t stream) {
  if (x.dtype == DType::float32) nearest_typed<float, float>(x, mean, n_classes, nearest, workspace, stream);
  if (x.dtype == DType::float64) nearest_typed<double, double>(x, mean, n_classes, nearest, workspace, stream);
  if (x.dtype == DType::float16) nearest_typed<__half, float>(x, mean, n_classes, nearest, workspace, stream);
  if (x.dtype == DType::bfloat16) nearest_typed<__nv_bfloat16, float>(x, mean, n_classes, nearest, workspace, stream);
}

}  // namespace ncharness::cuda
