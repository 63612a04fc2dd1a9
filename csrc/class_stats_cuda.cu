// Pass 1 on a CUDA device, without a floating-point atomic: labels are sorted, equal ones are summed run by run, and
// runs are merged class by class in their order. The same input gives the same bits.
#include <cub/device/device_radix_sort.cuh>

#include "launch.cuh"

namespace ncharness::cuda {
namespace {

constexpr int threads = 128;
constexpr int ahead = 4;             // rows that a thread has loads under way of
constexpr int64_t max_chunk = 1024;  // sorted rows that one block adds up
constexpr int64_t min_chunk = 32;
constexpr int64_t wanted_blocks = 4096;

// A run is what the sorted rows of one class have in common with one chunk. Chunk k and class c meet in run k + c, and
// in no other: both grow along the sorted rows.
struct Runs {
  int32_t* key;     // (n,) labels, sorted; n_classes for a label out of range
  int32_t* order;   // (n,) the rows they belong to
  int64_t* start;   // (C + 1,) where each class begins
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

int64_t merge_tiles(int64_t d) { return (d + threads - 1) / threads; }

int key_bits(int64_t n_classes) {
  int bits = 1;
  while (n_classes >> bits) ++bits;
  return bits;
}

template <class L>
__global__ void read_labels(const L* labels, int64_t n, int64_t n_classes, int32_t* key, int32_t* row,
                            unsigned long long* first_bad) {
  const int64_t i = static_cast<int64_t>(blockIdx.x) * blockDim.x + threadIdx.x;
  if (i >= n) return;
  const int64_t label = static_cast<int64_t>(labels[i]);
  const bool good = label >= 0 && label < n_classes;
  key[i] = static_cast<int32_t>(good ? label : n_classes);
  row[i] = static_cast<int32_t>(i);
  if (!good) atomicMin(first_bad, static_cast<unsigned long long>(i));
}

__global__ void set_value(int64_t* at, int64_t value) { *at = value; }

// start[c] is the first position whose key is at least c.
__global__ void find_starts(const int32_t* key, int64_t n, int64_t n_classes, int64_t* start) {
  const int64_t c = static_cast<int64_t>(blockIdx.x) * blockDim.x + threadIdx.x;
  if (c > n_classes) return;
  int64_t low = 0, high = n;
  while (low < high) {
    const int64_t middle = (low + high) / 2;
    if (key[middle] < c)
      low = middle + 1;
    else
      high = middle;
  }
  start[c] = low;
}

// One block adds up a chunk of sorted rows over a tile of columns, each thread a few columns for itself.
template <class T, bool Whole>
__global__ void __launch_bounds__(threads)
    sum_runs(const T* x, int64_t row_stride, int64_t d, int64_t n_classes, Runs runs) {
  constexpr int size = Vector<T>::size;
  __shared__ int32_t rows[max_chunk];
  const int64_t chunk = blockIdx.x / runs.tiles, tile = blockIdx.x % runs.tiles, begin = chunk * runs.chunk;
  const int64_t j = tile * tile_columns<T> + threadIdx.x * size;
  const int64_t end = min(begin + runs.chunk, runs.start[n_classes]);
  for (int64_t p = begin + threadIdx.x; p < end; p += threads) rows[p - begin] = runs.order[p];
  __syncthreads();
  for (int64_t first = begin; first < end;) {
    const int64_t c = runs.key[first], last = min(end, runs.start[c + 1]), run = chunk + c;
    double origin[size], sum[size] = {}, squares = 0;
    const Vector<T> from = load<Whole>(x + rows[first - begin] * row_stride, j, d);
    for (int k = 0; k < size; ++k) origin[k] = wide(from.value[k]);
    for (int64_t p = first; p < last; p += ahead) {
      Vector<T> some[ahead];
#pragma unroll
      for (int r = 0; r < ahead; ++r)
        if (p + r < last) some[r] = load<Whole>(x + rows[p + r - begin] * row_stride, j, d);
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

// One block merges the runs of a class over a tile of columns (Chan, Golub & LeVeque, STAN-CS-79-773).
template <class T>
__global__ void __launch_bounds__(threads)
    merge_runs(const T* x, int64_t row_stride, int64_t d, Runs runs, const int64_t* count, double* mean) {
  const int64_t tiles = (d + threads - 1) / threads, c = blockIdx.x / tiles, tile = blockIdx.x % tiles;
  const int64_t j = tile * threads + threadIdx.x;
  const int64_t begin = runs.start[c], end = runs.start[c + 1];
  double scatter = 0;
  if (j < d && begin < end) {
    double before = static_cast<double>(count[c]), own = before > 0 ? mean[c * d + j] : 0;
    for (int64_t p = begin; p < end; p = (p / runs.chunk + 1) * runs.chunk) {
      const double here = static_cast<double>(min(end, (p / runs.chunk + 1) * runs.chunk) - p);
      const double sum = runs.sum[(p / runs.chunk + c) * d + j];
      const double theirs = wide(x[runs.order[p] * row_stride + j]) + sum / here;
      const double delta = before > 0 ? theirs - own : 0;
      scatter += before * (here / (before + here)) * delta * delta - sum * (sum / here);
      own = before > 0 ? own + delta * (here / (before + here)) : theirs;
      before += here;
    }
    mean[c * d + j] = own;
  }
  scatter = block_sum<threads>(scatter);
  if (threadIdx.x == 0) runs.scatter[c * tiles + tile] = scatter;
}

// Adds what the tiles found to the statistics of a class; a class of no rows at all gets a mean of NaN.
__global__ void __launch_bounds__(threads) finish(int64_t d, int64_t n_merged, Runs runs, ClassStats stats) {
  const int64_t c = blockIdx.x, begin = runs.start[c], end = runs.start[c + 1];
  double scatter = 0;
  for (int64_t i = threadIdx.x; i < n_merged; i += threads) scatter += runs.scatter[c * n_merged + i];
  if (begin < end) {
    const int64_t first = begin / runs.chunk + c, last = (end - 1) / runs.chunk + c;
    for (int64_t i = first * runs.tiles + threadIdx.x; i < (last + 1) * runs.tiles; i += threads)
      scatter += runs.squares[i];
  }
  scatter = block_sum<threads>(scatter);
  const int64_t before = stats.count[c];
  __syncthreads();  // everyone has read the count
  if (threadIdx.x == 0 && begin < end) {
    stats.count[c] = before + end - begin;
    stats.scatter[c] += scatter < 0 ? 0 : scatter;  // NaN stays
  }
  if (before + end - begin == 0)
    for (int64_t j = threadIdx.x; j < d; j += threads) stats.mean[c * d + j] = nan("");
}

__global__ void clear(int64_t n_classes, ClassStats stats) {
  const int64_t c = static_cast<int64_t>(blockIdx.x) * blockDim.x + threadIdx.x;
  if (c >= n_classes) return;
  stats.count[c] = 0;
  stats.scatter[c] = 0;
}

unsigned blocks_of(int64_t n, int64_t per_block) { return static_cast<unsigned>((n + per_block - 1) / per_block); }

struct Sorting {
  int32_t *key, *row;
  void* scratch;
  size_t scratch_bytes;
};

// The pieces of a workspace; of none, how large it must be.
int64_t lay_out(const Workspace& workspace, int64_t n, int64_t d, int64_t n_classes, Runs& runs, Sorting& sorting) {
  Pieces pieces(workspace);
  runs.chunk = chunk_rows(n, d);
  runs.tiles = (d + 2 * threads - 1) / (2 * threads);  // of the widest type, whose tiles are narrowest
  const int64_t n_runs = (n + runs.chunk - 1) / runs.chunk + n_classes;
  runs.key = pieces.take<int32_t>(n);
  runs.order = pieces.take<int32_t>(n);
  runs.start = pieces.take<int64_t>(n_classes + 1);
  runs.sum = pieces.take<double>(n_runs * d);
  runs.squares = pieces.take<double>(n_runs * runs.tiles);
  runs.scatter = pieces.take<double>(n_classes * merge_tiles(d));
  sorting.key = pieces.take<int32_t>(n);
  sorting.row = pieces.take<int32_t>(n);
  sorting.scratch_bytes = 0;
  succeed(cub::DeviceRadixSort::SortPairs(nullptr, sorting.scratch_bytes, sorting.key, runs.key, sorting.row,
                                          runs.order, static_cast<int>(n), 0, key_bits(n_classes)),
          "sort");
  sorting.scratch = pieces.take<char>(static_cast<int64_t>(sorting.scratch_bytes));
  return pieces.used();
}

template <class T>
void add_typed(const Matrix& x, int64_t n_classes, const Runs& some_runs, const ClassStats& stats,
               cudaStream_t stream) {
  const T* data = static_cast<const T*>(x.data);
  Runs runs = some_runs;
  runs.tiles = (x.d + tile_columns<T> - 1) / tile_columns<T>;
  const dim3 chunks(static_cast<unsigned>(runs.tiles) * blocks_of(x.n, runs.chunk));
  if (rows_are_whole<T>(x))
    launch("sum_runs", sum_runs<T, true>, chunks, threads, 0, stream, data, x.row_stride, x.d, n_classes, runs);
  else
    launch("sum_runs", sum_runs<T, false>, chunks, threads, 0, stream, data, x.row_stride, x.d, n_classes, runs);
  const dim3 classes(static_cast<unsigned>(merge_tiles(x.d) * n_classes));
  launch("merge_runs", merge_runs<T>, classes, threads, 0, stream, data, x.row_stride, x.d, runs, stats.count,
         stats.mean);
  launch("finish", finish, dim3(static_cast<unsigned>(n_classes)), threads, 0, stream, x.d, merge_tiles(x.d), runs,
         stats);
}

}  // namespace

int64_t stats_bytes(int64_t n, int64_t d, int64_t n_classes) {
  Runs runs;
  Sorting sorting;
  return lay_out({nullptr, 0}, n, d, n_classes, runs, sorting);
}

void add_rows(const Matrix& x, const Labels& y, int64_t n_classes, const ClassStats& stats, int64_t* first_bad,
              const Workspace& workspace, cudaStream_t stream) {
  Runs runs;
  Sorting sorting;
  lay_out(workspace, x.n, x.d, n_classes, runs, sorting);
  launch("set_value", set_value, dim3(1), 1, 0, stream, first_bad, x.n);
  const dim3 blocks(blocks_of(x.n, threads));
  const auto read = [&](auto* labels, auto kernel) {
    launch("read_labels", kernel, blocks, threads, 0, stream, labels, x.n, n_classes, sorting.key, sorting.row,
           reinterpret_cast<unsigned long long*>(first_bad));
  };
  if (y.type == LabelType::int64) read(static_cast<const int64_t*>(y.data), read_labels<int64_t>);
  if (y.type == LabelType::int32) read(static_cast<const int32_t*>(y.data), read_labels<int32_t>);
  if (y.type == LabelType::uint8) read(static_cast<const uint8_t*>(y.data), read_labels<uint8_t>);
  if (x.n > 0)
    succeed(cub::DeviceRadixSort::SortPairs(sorting.scratch, sorting.scratch_bytes, sorting.key, runs.key, sorting.row,
                                            runs.order, static_cast<int>(x.n), 0, key_bits(n_classes), stream),
            "sort");
  launch("find_starts", find_starts, dim3(blocks_of(n_classes + 1, threads)), threads, 0, stream, runs.key, x.n,
         n_classes, runs.start);
  if (x.dtype == DType::float32) add_typed<float>(x, n_classes, runs, stats, stream);
  if (x.dtype == DType::float64) add_typed<double>(x, n_classes, runs, stats, stream);
  if (x.dtype == DType::float16) add_typed<__half>(x, n_classes, runs, stats, stream);
  if (x.dtype == DType::bfloat16) add_typed<__nv_bfloat16>(x, n_classes, runs, stats, stream);
}

void class_stats(const Matrix& x, const Labels& y, int64_t n_classes, const ClassStats& stats, int64_t* first_bad,
                 const Workspace& workspace, cudaStream_t stream) {
  launch("clear", clear, dim3(blocks_of(n_classes, threads)), threads, 0, stream, n_classes, stats);
  add_rows(x, y, n_classes, stats, first_bad, workspace, stream);
}

}  // namespace ncharness::cuda
