// Nearest class mean without tensor cores: for at most 32 classes, or for float64 features and any number of classes.
// For features x (n, d) and the tables of centres.cuh:
//   v = x - base, key (n, C) = bias + v packed^T, packed (C, d) = -2 (m_c - shift),
//   nearest (n,) = argmin over c of key.
// S, the type of the products, is float32, or float64 for float64 features. Near ties are decided in float64.
//
// Blocking: classes in blocks of `Classes` (4, 10, 16 or 32), whose centres lie in shared memory. A warp scores 4 rows
// (2 with float64) at a time; its lanes have consecutive columns (coalesced loads), and rows x Classes sums per lane
// stay in registers. If there are few long rows, the columns are split into up to 64 parts. Their scores are stored,
// and a second kernel adds them in order.
//
// Launch shapes; blocks have 256 threads (8 warps):
//   score_few   grid (min(row groups, blocks that are resident at once / parts), parts). A row group is 8 warps x rows
//               per warp. One block scores every gridDim.x-th row group over one part of the columns (grid-stride
//               loop). It loads the centres once if they fit.
//               Dynamic shared memory: (Classes + 1) * tile * sizeof(S) bytes, for `tile` columns of the base and of
//               the centres. The tile is the whole part if that takes at most 110 KiB; otherwise as many columns
//               as fit 48 KiB.
//   decide_few  grid ceil(n / 256), only if there are several parts: one thread decides one row. Shared memory: none.
// Speed: see the benchmarks, once they have been run on a GPU.
#include "centres.cuh"

namespace ncharness::cuda {
namespace {

constexpr int threads = 256;
constexpr int warps = threads / warp_lanes;
constexpr int64_t whole_centres = 110 << 10;  // shared memory to hold all columns; two such blocks fit an SM of 228 KiB
constexpr int64_t some_centres = 48 << 10;    // shared memory to hold a tile of the columns
constexpr int64_t most_parts = 64;            // limit of the number of column parts
constexpr int64_t wanted_blocks = 512;        // columns are split until there are this many blocks

template <class S>
constexpr int lane_columns = 16 / static_cast<int>(sizeof(S));  // columns per lane and step
template <class S>
constexpr int step_columns = lane_columns<S> * warp_lanes;

// Rows per warp.
template <class S>
constexpr int rows_at_a_time = sizeof(S) == 4 ? 4 : 2;
// Occupancy: with up to 40 float32 sums per lane (160 bytes), the registers of an SM suffice for two resident blocks.
template <class S>
constexpr int resident_blocks(int classes) {
  return rows_at_a_time<S> * classes * static_cast<int>(sizeof(S)) <= 160 ? 2 : 1;
}

template <class S>
struct alignas(16) Columns {
  S value[lane_columns<S>];
};

// Loads columns [j, j + lane_columns) of a row, converted to S, with zeros for columns >= d. `whole`: rows are aligned,
// so one vector load is allowed.
template <class S, class In>
__device__ Columns<S> load_columns(const In* row, int64_t j, int64_t d, bool whole) {
  constexpr int size = lane_columns<S>;
  struct alignas(sizeof(In) * size) Packed {
    In value[size];
  };
  Columns<S> columns;
  if (whole && j + size <= d) {
    const Packed some = *reinterpret_cast<const Packed*>(row + j);
    for (int k = 0; k < size; ++k) columns.value[k] = scored(some.value[k]);
  } else {
    for (int k = 0; k < size; ++k) columns.value[k] = j + k < d ? scored(row[j + k]) : S(0);
  }
  return columns;
}

// Split of the columns into parts, for blockIdx.y: number of parts, and columns per part (a multiple of column_step).
struct Division {
  int64_t parts, columns;
};

// Doubles the parts while there are fewer than wanted_blocks blocks and a part keeps at least 4 column steps.
template <class S>
Division divide(int64_t n, int64_t stride, int64_t n_classes, int classes) {
  constexpr int64_t step = column_step;
  const int64_t groups = (n + warps * rows_at_a_time<S> - 1) / (warps * rows_at_a_time<S>);
  int64_t parts = 1;
  // Only if all classes fit one block of classes: the stored scores of the parts have no room for more.
  while (n_classes <= classes && parts < most_parts && groups * parts < wanted_blocks &&
         stride / (2 * parts) >= 4 * step)
    parts *= 2;
  const int64_t columns = (stride / step + parts - 1) / parts * step;
  return {(stride + columns - 1) / columns, columns};
}

// Margin for sums in S: the chain of additions of a lane, then the sums over the lanes and over the parts.
template <class S>
__device__ Margin margin_of(const Tables<S>& tables) {
  const double chain = static_cast<double>(lane_columns<S> * ((tables.d + step_columns<S> - 1) / step_columns<S>)+4);
  return Margin::of(tables, Limits<S>::unit * (chain + 6));
}

// Smallest and second smallest key of a row so far, and the class of the smallest.
template <class S>
struct Nearest {
  S best = static_cast<S>(INFINITY), second = static_cast<S>(INFINITY);
  int64_t at = -1;

  __device__ void consider(S key, int64_t c) {
    second = key < best ? best : key < second ? key : second;
    at = key < best ? c : at;
    best = key < best ? key : best;
  }
};

template <class S, int Classes>
using RowSums = S[rows_at_a_time<S>][Classes];

// Loads `width` columns from `from` on of the base and of the centres of a block of classes into shared memory.
template <int Classes, class S>
__device__ __forceinline__ void load_centres(const Tables<S>& tables, int64_t from_class, int64_t from, int64_t width,
                                             int64_t tile, S* base) {
  __syncthreads();
  for (int64_t k = threadIdx.x; k < width; k += threads) base[k] = tables.base[from + k];
  for (int c = 0; c < Classes; ++c) {
    const bool there = from_class + c < tables.n_classes;
    for (int64_t k = threadIdx.x; k < width; k += threads)
      base[(c + 1) * tile + k] = there ? tables.packed[(from_class + c) * tables.stride + from + k] : S(0);
  }
  __syncthreads();
}

// Adds the products of the rows with the centres in shared memory to `sum`, and the squares of the first block of
// classes to `norm_sq`.
template <int Classes, class In, class S>
__device__ __forceinline__ void add_products(const In* const (&rows)[rows_at_a_time<S>], int64_t from, int64_t width,
                                             int64_t tile, int64_t d, bool whole, bool first_block, const S* base,
                                             RowSums<S, Classes>& sum, S (&norm_sq)[rows_at_a_time<S>]) {
  constexpr int size = lane_columns<S>, rows_a_warp = rows_at_a_time<S>;
  for (int64_t j = threadIdx.x % warp_lanes * size; j < width; j += step_columns<S>) {
    Columns<S> v[rows_a_warp];
#pragma unroll
    for (int r = 0; r < rows_a_warp; ++r) v[r] = load_columns<S>(rows[r], from + j, d, whole);
    const Columns<S> shift = *reinterpret_cast<const Columns<S>*>(base + j);
#pragma unroll
    for (int r = 0; r < rows_a_warp; ++r)
#pragma unroll
      for (int k = 0; k < size; ++k) {
        v[r].value[k] -= shift.value[k];
        if (first_block) norm_sq[r] += v[r].value[k] * v[r].value[k];
      }
#pragma unroll
    for (int c = 0; c < Classes; ++c) {
      const Columns<S> a = *reinterpret_cast<const Columns<S>*>(base + (c + 1) * tile + j);
#pragma unroll
      for (int r = 0; r < rows_a_warp; ++r)
#pragma unroll
        for (int k = 0; k < size; ++k) sum[r][c] += v[r].value[k] * a.value[k];
    }
  }
}

// Adds up the lanes' sums. With one part of the columns the scores are keys to consider; otherwise lane 0 stores them.
template <int Classes, class S>
__device__ __forceinline__ void take_scores(const Tables<S>& tables, int64_t from_class, int64_t first, int64_t n,
                                            int64_t parts, const RowSums<S, Classes>& sum,
                                            Nearest<S> (&found)[rows_at_a_time<S>], S* sums) {
#pragma unroll
  for (int c = 0; c < Classes; ++c) {
    const bool there = from_class + c < tables.n_classes;
    const S bias = there ? tables.bias[from_class + c] : static_cast<S>(INFINITY);
#pragma unroll
    for (int r = 0; r < rows_at_a_time<S>; ++r) {
      const S score = warp_sum(sum[r][c]);
      if (parts == 1)
        found[r].consider(bias + score, from_class + c);
      else if (threadIdx.x % warp_lanes == 0 && first + r < n)
        sums[(blockIdx.y * n + first + r) * (Classes + 1) + c] = score;
    }
  }
}

// Decides the rows with one part of the columns, near ties in float64; otherwise lane 0 stores the squared norms.
template <int Classes, class In, class S>
__device__ __forceinline__ void finish_rows(const In* const (&rows)[rows_at_a_time<S>], const Tables<S>& tables,
                                            const Margin& margin, int64_t first, int64_t n, int64_t parts,
                                            const S (&norm_sq)[rows_at_a_time<S>],
                                            const Nearest<S> (&found)[rows_at_a_time<S>], S* sums, int64_t* nearest) {
  const int lane = threadIdx.x % warp_lanes;
#pragma unroll
  for (int r = 0; r < rows_at_a_time<S>; ++r) {
    if (first + r >= n) break;
    const S norm = warp_sum(norm_sq[r]);
    if (parts > 1) {
      if (lane == 0) sums[(blockIdx.y * n + first + r) * (Classes + 1) + Classes] = norm;
      continue;
    }
    const bool clear = margin.clear(found[r].best, found[r].second, norm);
    const int64_t at = clear ? found[r].at : settle(rows[r], tables);
    if (lane == 0) nearest[first + r] = at;
  }
}

// Scores rows, and decides them if there is one part. With several parts, writes sums (parts, n, Classes + 1): scores
// and, in the last entry, ||v||^2 over the columns of the part.
template <class In, class S, int Classes>
__global__ void __launch_bounds__(threads, resident_blocks<S>(Classes))
    score_few(const In* x, int64_t row_stride, int64_t n, bool whole, Tables<S> tables, Division of, int64_t tile,
              S* sums, int64_t* nearest) {
  S* const base = reinterpret_cast<S*>(dynamic_shared());  // base (tile,), followed by centres (Classes, tile)
  constexpr int rows_a_warp = rows_at_a_time<S>;
  const int warp = threadIdx.x / warp_lanes;
  const int64_t begin = blockIdx.y * of.columns, end = min(begin + of.columns, tables.stride);
  const Margin margin = margin_of(tables);
  const bool one_load = of.columns <= tile && tables.n_classes <= Classes;
  bool loaded = false;

  for (int64_t group = blockIdx.x; group * warps * rows_a_warp < n; group += gridDim.x) {
    const int64_t first = (group * warps + warp) * rows_a_warp;
    const In* rows[rows_a_warp];
    Nearest<S> found[rows_a_warp];
    S norm_sq[rows_a_warp];
#pragma unroll
    for (int r = 0; r < rows_a_warp; ++r) {
      rows[r] = x + min(first + r, n - 1) * row_stride;
      norm_sq[r] = 0;
    }
    for (int64_t from_class = 0; from_class < tables.n_classes; from_class += Classes) {
      RowSums<S, Classes> sum = {};
      for (int64_t from = begin; from < end; from += tile) {
        const int64_t width = min(tile, end - from);
        if (!(loaded && one_load)) load_centres<Classes>(tables, from_class, from, width, tile, base);
        loaded = true;
        add_products<Classes>(rows, from, width, tile, tables.d, whole, from_class == 0, base, sum, norm_sq);
      }
      take_scores<Classes>(tables, from_class, first, n, of.parts, sum, found, sums);
    }
    finish_rows<Classes>(rows, tables, margin, first, n, of.parts, norm_sq, found, sums, nearest);
  }
}

// One thread adds up the parts of one row, in order, and decides it. Near ties are then decided by the whole warp, row
// by row.
template <class In, class S, int Classes>
__global__ void __launch_bounds__(threads) decide_few(const In* x, int64_t row_stride, int64_t n, Tables<S> tables,
                                                      int64_t parts, const S* sums, int64_t* nearest) {
  const Margin margin = margin_of(tables);
  const int64_t row = static_cast<int64_t>(blockIdx.x) * threads + threadIdx.x;
  const int64_t first = row - threadIdx.x % warp_lanes;
  Nearest<S> found;
  bool clear = true;
  if (row < n) {
    for (int c = 0; c < Classes && c < tables.n_classes; ++c) {
      S score = 0;
      for (int64_t part = 0; part < parts; ++part) score += sums[(part * n + row) * (Classes + 1) + c];
      found.consider(tables.bias[c] + score, c);
    }
    S norm_sq = 0;
    for (int64_t part = 0; part < parts; ++part) norm_sq += sums[(part * n + row) * (Classes + 1) + Classes];
    clear = margin.clear(found.best, found.second, norm_sq);
    if (clear) nearest[row] = found.at;
  }
  unsigned unclear = __ballot_sync(all_lanes, !clear);
  for (int lane = 0; lane < warp_lanes; ++lane) {
    if (!(unclear >> lane & 1)) continue;
    const int64_t at = settle(x + (first + lane) * row_stride, tables);
    if (threadIdx.x % warp_lanes == 0) nearest[first + lane] = at;
  }
}

// Chooses tile and grid, and launches the kernels.
template <class S, int Classes, class In>
void nearest_in(const In* data, const Matrix& x, const Tables<S>& tables, int64_t* nearest, S* sums,
                cudaStream_t stream) {
  constexpr int rows = rows_at_a_time<S>;
  const Division of = divide<S>(x.n, tables.stride, tables.n_classes, Classes);
  const auto kernel = score_few<In, S, Classes>;
  const int processors = attribute(cudaDevAttrMultiProcessorCount);
  const int64_t whole = std::min<int64_t>(whole_centres, attribute(cudaDevAttrMaxSharedMemoryPerBlockOptin));
  constexpr int64_t per_column = (Classes + 1) * static_cast<int64_t>(sizeof(S));
  const int64_t tile =
      of.columns * per_column <= whole ? of.columns : some_centres / per_column / column_step * column_step;
  const size_t bytes = static_cast<size_t>(tile * per_column);
  int resident = 0;
  allow_shared("score_few", kernel, bytes);
  succeed(cudaOccupancyMaxActiveBlocksPerMultiprocessor(&resident, kernel, threads, bytes), "score_few");
  const int64_t groups = (x.n + warps * rows - 1) / (warps * rows);
  // No more blocks than can be resident: each loads its centres once and then loops over row groups.
  const int64_t at_once = std::max<int64_t>(1, static_cast<int64_t>(processors) * std::max(resident, 1) / of.parts);
  const dim3 grid(static_cast<unsigned>(std::min(groups, at_once)), static_cast<unsigned>(of.parts));
  launch("score_few", kernel, grid, threads, bytes, stream, data, x.row_stride, x.n,
         rows_are_whole<In>(x, lane_columns<S>), tables, of, tile, sums, nearest);
  if (of.parts > 1)
    launch("decide_few", decide_few<In, S, Classes>, dim3(blocks_of(x.n, threads)), threads, 0, stream, data,
           x.row_stride, x.n, tables, of.parts, sums, nearest);
}

// Class block size for which kernels are instantiated.
int classes_at_a_time(int64_t n_classes) {
  return n_classes <= 4 ? 4 : n_classes <= 10 ? 10 : n_classes <= 16 ? 16 : 32;
}

}  // namespace

template <class S>
int64_t nearest_few_bytes(int64_t n, const Tables<S>& tables) {
  const int classes = classes_at_a_time(tables.n_classes);
  const Division of = divide<S>(n, tables.stride, tables.n_classes, classes);
  Pieces pieces({nullptr, 0});
  pieces.take<S>(of.parts > 1 ? of.parts * n * (classes + 1) : 0);
  return pieces.used();
}

template <class S>
void nearest_few(const Matrix& x, const Tables<S>& tables, int64_t* nearest, const Workspace& workspace,
                 cudaStream_t stream) {
  const int classes = classes_at_a_time(tables.n_classes);
  if (workspace.bytes < nearest_few_bytes(x.n, tables)) throw std::invalid_argument("workspace: too small");
  S* const sums = static_cast<S*>(workspace.data);
  with_type(x, [&](auto* data) {
    using In = std::remove_const_t<std::remove_pointer_t<decltype(data)>>;
    if constexpr ((sizeof(In) == 8) == (sizeof(S) == 8)) {
      if (classes == 4) nearest_in<S, 4>(data, x, tables, nearest, sums, stream);
      if (classes == 10) nearest_in<S, 10>(data, x, tables, nearest, sums, stream);
      if (classes == 16) nearest_in<S, 16>(data, x, tables, nearest, sums, stream);
      if (classes == 32) nearest_in<S, 32>(data, x, tables, nearest, sums, stream);
    }
  });
}

template int64_t nearest_few_bytes(int64_t, const Tables<float>&);
template int64_t nearest_few_bytes(int64_t, const Tables<double>&);
template void nearest_few(const Matrix&, const Tables<float>&, int64_t*, const Workspace&, cudaStream_t);
template void nearest_few(const Matrix&, const Tables<double>&, int64_t*, const Workspace&, cudaStream_t);

}  // namespace ncharness::cuda
