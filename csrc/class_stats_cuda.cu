// Pass 1 on a CUDA device, without a floating-point atomic: labels are sorted, equal ones are summed run by run, and
// runs are merged class by class in their order. The same input gives the same bits.
#include "sorted_labels.cuh"

namespace ncharness::cuda {
namespace {

constexpr int threads = 128;
constexpr int ahead = 4;             // rows that a thread has loads under way of
constexpr int64_t max_chunk = 1024;  // sorted rows that one block adds up
constexpr int64_t min_chunk = 32;
constexpr int64_t wanted_blocks = 2048;
constexpr int merge_columns = warp_lanes;  // of a block that merges runs
constexpr int merge_shares = 16;           // of the runs of a class, side by side

// A run is what the sorted rows of one class have in common with one chunk. Chunk k and class c meet in run k + c, and
// in no other: both grow along the sorted rows.
struct Runs {
  SortedLabels rows;
  double* sum;      // (chunks + C, d) of x - the first row of the run
  double* squares;  // (chunks + C, tiles) of the same, over a tile of columns
  double* scatter;  // (C, merge_tiles)
  int64_t chunk;
  int64_t tiles;
};

template <class T>
constexpr int64_t tile_columns = threads * Vector<T>::size;

int64_t chunk_rows(int64_t n, int64_t d) {
  const int64_t tiles = (d + 4 * threads - 1) / (4 * threads);
  int64_t chunk = max_chunk;
  while (chunk > min_chunk && (n + chunk - 1) / chunk * tiles < wanted_blocks) chunk /= 2;
  return chunk;
}

int64_t merge_tiles(int64_t d) { return (d + merge_columns - 1) / merge_columns; }

// One block adds up a chunk of sorted rows over a tile of columns, each thread a few columns for itself.
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

// Whether a label out of range, now or in an earlier batch, has spoilt everything. `before` is the count of any class.
__device__ bool spoilt(const Runs& runs, int64_t n, int64_t before) { return before < 0 || *runs.rows.first_bad < n; }

// Rows that were put together: how many, their mean in a column, the sum of squares around it.
struct Merged {
  double count, mean, scatter;

  // Chan, Golub & LeVeque, STAN-CS-79-773.
  __device__ void add(double here, double theirs, double squares) {
    if (here == 0) return;
    const double delta = theirs - mean, share = here / (count + here);
    scatter += squares + (count > 0 ? count * share * delta * delta : 0);
    mean = count > 0 ? mean + delta * share : theirs;
    count += here;
  }
};

// One block merges the runs of a class over a tile of columns: shares of the runs side by side, then the shares.
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
    // The squares around the run's first row were added up elsewhere; around its mean they are so much less.
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

// Adds what the tiles found to the count and scatter of a class.
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
    total[c] = before + (scatter < 0 ? 0 : scatter);  // NaN stays
  }
}

// The pieces of a workspace; of none, how large it must be.
int64_t lay_out(const Workspace& workspace, int64_t n, int64_t d, int64_t n_classes, Runs& runs) {
  Pieces pieces(workspace);
  runs.chunk = chunk_rows(n, d);
  runs.tiles = (d + 2 * threads - 1) / (2 * threads);  // of the widest type, whose tiles are narrowest
  const int64_t n_runs = (n + runs.chunk - 1) / runs.chunk + n_classes;
  runs.rows = take_sorted_labels(pieces, n, n_classes);
  runs.sum = pieces.take<double>(n_runs * d);
  runs.squares = pieces.take<double>(n_runs * runs.tiles);
  runs.scatter = pieces.take<double>(n_classes * merge_tiles(d));
  return pieces.used();
}

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
