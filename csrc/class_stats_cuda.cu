// Pass 1 on a CUDA device. For features x (n, d) with labels in [0, C), in float64:
//   count (C,) = number of rows, mean (C, d) = sum x / count, scatter (C,) = sum ||x - mean||^2,
// alone or added to earlier statistics. There are no floating-point atomics: row indices are sorted by label
// (sorted_labels.cu), runs of equal labels are summed, and the runs of each class are merged in a fixed order. The same
// input gives the same bits.
//
// Launch shapes:
//   sum_runs    grid ceil(n / chunk) * tiles, block 128: one block sums a chunk of 32 to 1024 sorted rows over a tile
//               of columns. A thread has 16 bytes of columns: a tile is 512 float32, 256 float64 or 1024 16-bit
//               columns. Static shared memory: 4 KiB of row indices and 32 bytes for block_sum.
//   merge_runs  grid C * ceil(d / 32), block 512 (16 warps): one block merges the runs of a class over 32 columns. A
//               lane has a column; each warp merges 1/16 of the runs. Static shared memory: 12 KiB.
//   finish      grid C, block 128: one block adds up the scatter of a class. Static shared memory: 32 bytes.
// Speed: see the benchmarks, once they have been run on a GPU.
#include "sorted_labels.cuh"

namespace ncharness::cuda {
namespace {

constexpr int threads = 128;
constexpr int ahead = 4;             // rows whose loads a thread issues before it uses them
constexpr int64_t max_chunk = 1024;  // limits of the number of sorted rows per block
constexpr int64_t min_chunk = 32;
constexpr int64_t wanted_blocks = 2048;    // chunks are halved until sum_runs has this many blocks
constexpr int merge_columns = warp_lanes;  // columns per block of merge_runs
constexpr int merge_shares = 16;           // warps per block of merge_runs; each has a share of the runs of a class

// A run is the set of sorted rows that belong to both one class and one chunk. The run of chunk k and class c has index
// k + c. This index is unique: from one run to the next in sorted order, k or c grows and neither shrinks.
struct Runs {
  SortedLabels rows;
  double* sum;      // (chunks + C, d) for each run, sum of x - origin; the origin is the first row of the run
  double* squares;  // (chunks + C, tiles) for each run, sum of (x - origin)^2 over a tile of columns
  double* scatter;  // (C, merge_tiles) corrections that merge_runs found, see there
  int64_t chunk;    // rows per chunk
  int64_t tiles;    // column tiles of sum_runs
};

// Columns per block of sum_runs.
template <class T>
constexpr int64_t tile_columns = threads * Vector<T>::size;

// Rows per chunk: max_chunk, or fewer if there would be too few blocks to fill the device.
int64_t chunk_rows(int64_t n, int64_t d) {
  const int64_t tiles = (d + 4 * threads - 1) / (4 * threads);
  int64_t chunk = max_chunk;
  while (chunk > min_chunk && (n + chunk - 1) / chunk * tiles < wanted_blocks) chunk /= 2;
  return chunk;
}

int64_t merge_tiles(int64_t d) { return (d + merge_columns - 1) / merge_columns; }

// One block sums the runs of one chunk over one tile of columns. Each thread has Vector<T>::size columns of its own.
template <class T>
__global__ void __launch_bounds__(threads)
    sum_runs(const T* x, int64_t row_stride, int64_t d, int64_t n_classes, bool whole, Runs runs) {
  constexpr int size = Vector<T>::size;
  __shared__ int32_t rows[max_chunk];
  const int64_t chunk = blockIdx.x / runs.tiles, tile = blockIdx.x % runs.tiles, begin = chunk * runs.chunk;
  const int64_t j = tile * tile_columns<T> + threadIdx.x * size;
  const int64_t end = min(begin + runs.chunk, runs.rows.start[n_classes]);
  for (int64_t p = begin + threadIdx.x; p < end; p += threads) rows[p - begin] = runs.rows.order[p];
  __syncthreads();
  for (int64_t first = begin; first < end;) {
    const int64_t c = runs.rows.key[first], last = min(end, runs.rows.start[c + 1]), run = chunk + c;
    double origin[size], sum[size] = {}, squares = 0;
    const Vector<T> from = load(x + rows[first - begin] * row_stride, j, d, whole);
    for (int k = 0; k < size; ++k) origin[k] = wide(from.value[k]);
    for (int64_t p = first; p < last; p += ahead) {
      Vector<T> some[ahead];
#pragma unroll
      for (int r = 0; r < ahead; ++r)
        if (p + r < last) some[r] = load(x + rows[p + r - begin] * row_stride, j, d, whole);
#pragma unroll
      for (int r = 0; r < ahead; ++r) {
        if (p + r >= last) break;
#pragma unroll
        for (int k = 0; k < size; ++k) {
          const double difference = wide(some[r].value[k]) - origin[k];
          sum[k] += difference;
          squares += difference * difference;
        }
      }
    }
    for (int k = 0; k < size; ++k)
      if (j + k < d) runs.sum[run * d + j + k] = sum[k];
    squares = block_sum<threads>(squares);
    if (threadIdx.x == 0) runs.squares[run * runs.tiles + tile] = squares;
    first = last;
  }
}

// Whether the statistics are invalid because of a label out of range, in this batch or an earlier one. `before` is the
// count of any class before this batch; it is negative if an earlier batch was bad.
__device__ bool spoilt(const Runs& runs, int64_t n, int64_t before) { return before < 0 || *runs.rows.first_bad < n; }

// Statistics of a set of rows in one column: number of rows, mean, and sum of squared differences from the mean.
struct Merged {
  double count, mean, scatter;

  // Adds a set of `here` rows with mean `theirs` and scatter `squares` (Chan, Golub & LeVeque, STAN-CS-79-773).
  __device__ void add(double here, double theirs, double squares) {
    if (here == 0) return;
    const double delta = theirs - mean, share = here / (count + here);
    scatter += squares + (count > 0 ? count * share * delta * delta : 0);
    mean = count > 0 ? mean + delta * share : theirs;
    count += here;
  }
};

// One block merges the runs of one class over 32 columns. Each warp merges its share of the runs in order; then warp 0
// merges the shares in order, together with the earlier statistics unless `fresh`. Writes mean, and runs.scatter
// without the terms of runs.squares, which `finish` adds.
template <class T>
__global__ void __launch_bounds__(merge_columns* merge_shares)
    merge_runs(const T* x, int64_t row_stride, int64_t n, int64_t d, bool fresh, Runs runs, const int64_t* count,
               double* mean) {
  __shared__ Merged shares[merge_shares][merge_columns];
  const int64_t tiles = (d + merge_columns - 1) / merge_columns, c = blockIdx.x / tiles, tile = blockIdx.x % tiles;
  const int column = threadIdx.x % merge_columns, share = threadIdx.x / merge_columns;
  const int64_t j = tile * merge_columns + column;
  const int64_t begin = runs.rows.start[c], end = runs.rows.start[c + 1], had = fresh ? 0 : count[c];
  const int64_t first = begin / runs.chunk, chunks = begin < end ? (end - 1) / runs.chunk - first + 1 : 0;
  const int64_t each = (chunks + merge_shares - 1) / merge_shares;
  Merged merged = {0, 0, 0};
  for (int64_t k = first + share * each; j < d && k < first + min((share + 1) * each, chunks); ++k) {
    const int64_t from = max(begin, k * runs.chunk);
    const double here = static_cast<double>(min(end, (k + 1) * runs.chunk) - from), sum = runs.sum[(k + c) * d + j];
    // The scatter of a run is sum (x - origin)^2 - sum * sum / count. `finish` adds the first term, from runs.squares.
    // The second term is added here.
    merged.add(here, wide(x[runs.rows.order[from] * row_stride + j]) + sum / here, -sum * (sum / here));
  }
  shares[share][column] = merged;
  __syncthreads();
  if (share != 0) return;
  const bool nothing = had + end - begin == 0 || spoilt(runs, n, had);
  merged = {0, 0, 0};
  if (j < d && !nothing) {
    if (had > 0) merged.add(static_cast<double>(had), mean[c * d + j], 0);
    for (int s = 0; s < merge_shares; ++s)
      merged.add(shares[s][column].count, shares[s][column].mean, shares[s][column].scatter);
  }
  if (j < d) mean[c * d + j] = nothing ? nan("") : merged.mean;
  const double scatter = warp_sum(merged.scatter);
  if (column == 0) runs.scatter[c * tiles + tile] = scatter;
}

// One block adds up the scatter of one class, from runs.scatter and runs.squares, and writes its count and scatter.
// Marks invalid statistics: count = -1 - first bad row, scatter = NaN.
__global__ void __launch_bounds__(threads)
    finish(int64_t n, int64_t n_merged, bool fresh, Runs runs, int64_t* count, double* total) {
  const int64_t c = blockIdx.x, begin = runs.rows.start[c], end = runs.rows.start[c + 1];
  double scatter = 0;
  for (int64_t i = threadIdx.x; i < n_merged; i += threads) scatter += runs.scatter[c * n_merged + i];
  if (begin < end) {
    const int64_t first = begin / runs.chunk + c, last = (end - 1) / runs.chunk + c;
    for (int64_t i = first * runs.tiles + threadIdx.x; i < (last + 1) * runs.tiles; i += threads)
      scatter += runs.squares[i];
  }
  scatter = block_sum<threads>(scatter);
  if (threadIdx.x != 0) return;
  const int64_t had = fresh ? 0 : count[c];
  const double before = fresh ? 0 : total[c];
  if (spoilt(runs, n, had)) {
    count[c] = had < 0 ? had : -1 - static_cast<int64_t>(*runs.rows.first_bad);
    total[c] = nan("");
  } else {
    count[c] = had + end - begin;
    total[c] = before + (scatter < 0 ? 0 : scatter);  // rounding may give less than 0; NaN stays
  }
}

// Places the arrays of `runs` in the workspace and returns the bytes used. A null workspace gives the size only.
int64_t lay_out(const Workspace& workspace, int64_t n, int64_t d, int64_t n_classes, Runs& runs) {
  Pieces pieces(workspace);
  runs.chunk = chunk_rows(n, d);
  runs.tiles = (d + 2 * threads - 1) / (2 * threads);  // an upper limit: float64 has the narrowest tiles
  const int64_t n_runs = (n + runs.chunk - 1) / runs.chunk + n_classes;
  runs.rows = take_sorted_labels(pieces, n, n_classes);
  runs.sum = pieces.take<double>(n_runs * d);
  runs.squares = pieces.take<double>(n_runs * runs.tiles);
  runs.scatter = pieces.take<double>(n_classes * merge_tiles(d));
  return pieces.used();
}

// Pass 1. `fresh`: starts from empty statistics.
void add(const Matrix& x, const Labels& y, int64_t n_classes, bool fresh, const ClassStats& stats,
         const Workspace& workspace, cudaStream_t stream) {
  Runs runs;
  lay_out(workspace, x.n, x.d, n_classes, runs);
  sort_labels(y, x.n, n_classes, runs.rows, stream);
  with_type(x, [&](auto* data) {
    using T = std::remove_const_t<std::remove_pointer_t<decltype(data)>>;
    runs.tiles = (x.d + tile_columns<T> - 1) / tile_columns<T>;
    const dim3 chunks(static_cast<unsigned>(runs.tiles) * blocks_of(x.n, runs.chunk));
    launch("sum_runs", sum_runs<T>, chunks, threads, 0, stream, data, x.row_stride, x.d, n_classes,
           rows_are_whole<T>(x, Vector<T>::size), runs);
    launch("merge_runs", merge_runs<T>, dim3(static_cast<unsigned>(merge_tiles(x.d) * n_classes)),
           merge_columns * merge_shares, 0, stream, data, x.row_stride, x.n, x.d, fresh, runs, stats.count, stats.mean);
  });
  launch("finish", finish, dim3(static_cast<unsigned>(n_classes)), threads, 0, stream, x.n, merge_tiles(x.d), fresh,
         runs, stats.count, stats.scatter);
}

}  // namespace

int64_t stats_bytes(int64_t n, int64_t d, int64_t n_classes) {
  Runs runs;
  return lay_out({nullptr, 0}, n, d, n_classes, runs);
}

void add_rows(const Matrix& x, const Labels& y, int64_t n_classes, const ClassStats& stats, const Workspace& workspace,
              cudaStream_t stream) {
  add(x, y, n_classes, false, stats, workspace, stream);
}

void class_stats(const Matrix& x, const Labels& y, int64_t n_classes, const ClassStats& stats,
                 const Workspace& workspace, cudaStream_t stream) {
  add(x, y, n_classes, true, stats, workspace, stream);
}

}  // namespace ncharness::cuda
