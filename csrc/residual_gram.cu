// Gram of residual scores on a CUDA device. For features x (n, d), labels y (n,), class means m_c, g = mean of the
// active means:
//   t (n, C) = (x - m_y) . (m_c - g), gram (C, C) = t^T t,
//   directional (C, C): entry (a, c) = sum over rows of class a of (t_c - t_a)^2.
// Scores t are computed in S (float32, or float64 for float64 features) and stored as float64. gram and directional are
// accumulated in float64, in a fixed order. Row indices are sorted by label (sorted_labels.cu) and processed in chunks
// whose scores take at most 32 MiB (or are of 64 rows).
//
// Launch shapes; blocks have 256 threads. Per chunk of rows, Classes = 16 if C <= 16, else 64:
//   score_residuals  grid (ceil(rows / 64), ceil(C / Classes)): one block computes 64 rows x Classes scores in steps of
//                    16 columns; a thread has 4 rows x Classes / 16 classes. Static shared memory:
//                    16 * (66 + Classes) * sizeof(S) bytes, so 16,640 bytes at most.
//   add_gram         grid (ceil(C / 32)^2, slices): one block adds a slice of the rows to a 32 x 32 tile of the Gram; a
//                    thread has 2 x 2 entries. Tiles below the diagonal are skipped. Static shared memory: 8,448 bytes.
//   sum_directional  grid (ceil(rows / 64), ceil(C / 256)): one block sums 64 rows, separately for each class a
//                    among these rows; a thread has one class c. Shared memory: none.
//   add_directional  grid (C, ceil(C / 256)): one block adds these sums to a row of `directional`. Shared memory: none.
// Once per call: clear and finish, grid ceil(C^2 / 256), one thread per entry, without shared memory.
// Speed: see the benchmarks, once they have been run on a GPU.
#include "centres.cuh"
#include "sorted_labels.cuh"

namespace ncharness::cuda {
namespace {

constexpr int threads = 256;
constexpr int row_tile = 64;                            // rows per block of score_residuals and sum_directional
constexpr int step = 16;                                // columns per step of score_residuals
constexpr int gram_tile = 32;                           // a block of add_gram has a tile of gram_tile x gram_tile
constexpr int gram_rows = 16;                           // rows per step of add_gram
constexpr int64_t most_scores = scratch_at_a_time / 8;  // scores per chunk of rows
constexpr int64_t wanted_blocks = 256;                  // rows are sliced in add_gram to get about this many blocks
constexpr int most_slices = 64;                         // limit of the number of slices

// Workspace.
struct Sums {
  SortedLabels rows;
  double* score;          // (chunk, C): t of the rows of a chunk
  double* gram;           // (slices, C, C): the tiles on and above the diagonal
  double* directional;    // (chunk / row_tile + C, C): the sums of row tile s and class a are in row s + a - a_0, where
                          // a_0 is the class of the chunk's first row
  int64_t chunk, slices;  // rows per chunk; slices of the rows in add_gram
};

// Places the arrays in the workspace and returns the number of bytes used. A null workspace gives the size only.
int64_t lay_out(const Workspace& workspace, int64_t n, int64_t n_classes, Sums& sums) {
  Pieces pieces(workspace);
  const int64_t most = std::max<int64_t>(1, most_scores / n_classes / row_tile) * row_tile;
  sums.chunk = std::min((n + row_tile - 1) / row_tile * row_tile, most);
  const int64_t tiles = (n_classes + gram_tile - 1) / gram_tile;
  sums.slices = std::min<int64_t>(most_slices, std::max<int64_t>(1, wanted_blocks / (tiles * tiles)));
  sums.rows = take_sorted_labels(pieces, n, n_classes);
  sums.score = pieces.take<double>(sums.chunk * n_classes);
  sums.gram = pieces.take<double>(sums.slices * n_classes * n_classes);
  sums.directional = pieces.take<double>((sums.chunk / row_tile + n_classes) * n_classes);
  return pieces.used();
}

// Scores of the sorted rows [first, first + chunk). One block computes a tile of rows by a tile of classes. The scores
// of rows of an inactive class, and of rows with a label out of range, are 0.
template <class In, class S, int Classes>
__global__ void __launch_bounds__(threads)
    score_residuals(const In* x, int64_t row_stride, int64_t n, Tables<S> tables, Sums sums, int64_t first) {
  constexpr int per_thread = Classes / 16;
  __shared__ S v[step][row_tile + 1], a[step][Classes + 1];
  const int64_t last = min(first + sums.chunk, n), n_classes = tables.n_classes;
  const int64_t from_row = first + blockIdx.x * row_tile, from_class = blockIdx.y * Classes;
  // Each thread loads four columns of a row and of a class per step.
  const int mine = threadIdx.x / 4, column = threadIdx.x % 4 * 4;
  const int64_t p = from_row + mine, c = from_class + mine;
  const int64_t y = p < last ? sums.rows.key[p] : n_classes;
  const bool there = y < n_classes && tables.active[y];
  const In* const row = x + (there ? sums.rows.order[p] : 0) * row_stride;
  const S* const base = tables.own_base + (there ? y : 0) * tables.stride;
  const S* const rest = tables.own_rest + (there ? y : 0) * tables.stride;
  const int ty = threadIdx.x / 16 * 4, tx = threadIdx.x % 16;
  S sum[4][per_thread] = {};
  for (int64_t from = 0; from < tables.d; from += step) {
    for (int k = column; k < column + 4; ++k) {
      const int64_t j = from + k;
      v[k][mine] = there && j < tables.d ? (scored(row[j]) - base[j]) - rest[j] : S(0);
      if (mine < Classes) a[k][mine] = c < n_classes && j < tables.d ? tables.centred[c * tables.stride + j] : S(0);
    }
    __syncthreads();
#pragma unroll
    for (int k = 0; k < step; ++k)
#pragma unroll
      for (int r = 0; r < 4; ++r)
#pragma unroll
        for (int i = 0; i < per_thread; ++i) sum[r][i] += v[k][ty + r] * a[k][tx + 16 * i];
    __syncthreads();
  }
  for (int r = 0; r < 4; ++r)
    for (int i = 0; i < per_thread; ++i)
      if (from_row + ty + r < last && from_class + tx + 16 * i < n_classes)
        sums.score[(from_row - first + ty + r) * n_classes + from_class + tx + 16 * i] = static_cast<double>(sum[r][i]);
}

// Adds t^T t of the rows [0, n_rows) of a chunk. One block adds one slice of the rows to one tile of the Gram. `fresh`:
// first chunk, so the tile is overwritten.
__global__ void __launch_bounds__(threads) add_gram(int64_t n_rows, int64_t n_classes, bool fresh, Sums sums) {
  __shared__ double ti[gram_rows][gram_tile + 1], tj[gram_rows][gram_tile + 1];
  const int64_t tiles = (n_classes + gram_tile - 1) / gram_tile;
  const int64_t from_i = blockIdx.x / tiles * gram_tile, from_j = blockIdx.x % tiles * gram_tile, slice = blockIdx.y;
  if (from_i > from_j) return;
  const int64_t rows = (n_rows + sums.slices - 1) / sums.slices, end = min((slice + 1) * rows, n_rows);
  const int y = threadIdx.x / 16, x = threadIdx.x % 16;
  double sum[2][2] = {};
  for (int64_t from = slice * rows; from < end; from += gram_rows) {
    for (int k = threadIdx.x; k < gram_rows * gram_tile; k += threads) {
      const int64_t row = from + k / gram_tile, i = from_i + k % gram_tile, j = from_j + k % gram_tile;
      ti[k / gram_tile][k % gram_tile] = row < end && i < n_classes ? sums.score[row * n_classes + i] : 0;
      tj[k / gram_tile][k % gram_tile] = row < end && j < n_classes ? sums.score[row * n_classes + j] : 0;
    }
    __syncthreads();
#pragma unroll
    for (int k = 0; k < gram_rows; ++k)
      for (int r = 0; r < 2; ++r)
        for (int c = 0; c < 2; ++c) sum[r][c] += ti[k][y + 16 * r] * tj[k][x + 16 * c];
    __syncthreads();
  }
  for (int r = 0; r < 2; ++r)
    for (int c = 0; c < 2; ++c) {
      const int64_t i = from_i + y + 16 * r, j = from_j + x + 16 * c;
      if (i >= n_classes || j >= n_classes) continue;
      double& to = sums.gram[(slice * n_classes + i) * n_classes + j];
      to = fresh ? sum[r][c] : to + sum[r][c];
    }
}

// For each row tile and each class y in it: sum of (t_j - t_y)^2 over the rows of class y. One thread per class j.
__global__ void __launch_bounds__(threads)
    sum_directional(int64_t first, int64_t n_rows, int64_t n_classes, const int32_t* active, Sums sums) {
  const int64_t slice = blockIdx.x, j = static_cast<int64_t>(blockIdx.y) * threads + threadIdx.x;
  const int64_t end = min((slice + 1) * row_tile, n_rows), first_class = sums.rows.key[first];
  if (j >= n_classes) return;
  for (int64_t row = slice * row_tile; row < end;) {
    const int64_t y = sums.rows.key[first + row];
    if (y == n_classes) return;  // labels out of range are sorted last
    const int64_t last = min(end, sums.rows.start[y + 1] - first);
    double sum = 0;
    for (; row < last; ++row) {
      const double between = sums.score[row * n_classes + j] - sums.score[row * n_classes + y];
      sum += between * between;
    }
    sums.directional[(slice + y - first_class) * n_classes + j] = active[y] && active[j] ? sum : 0;
  }
}

// Adds the sums of a chunk's row tiles to directional (C, C), in order. One thread per entry.
__global__ void __launch_bounds__(threads)
    add_directional(int64_t first, int64_t n_rows, int64_t n_classes, Sums sums, double* directional) {
  const int64_t y = blockIdx.x, j = static_cast<int64_t>(blockIdx.y) * threads + threadIdx.x;
  const int64_t begin = max(sums.rows.start[y], first) - first;
  const int64_t end = min(sums.rows.start[y + 1], first + n_rows) - first, first_class = sums.rows.key[first];
  if (j >= n_classes || begin >= end) return;
  double sum = directional[y * n_classes + j];
  for (int64_t slice = begin / row_tile; slice <= (end - 1) / row_tile; ++slice)
    sum += sums.directional[(slice + y - first_class) * n_classes + j];
  directional[y * n_classes + j] = sum;
}

// Sets `size` elements to 0.
__global__ void __launch_bounds__(threads) clear(int64_t size, double* to) {
  const int64_t i = static_cast<int64_t>(blockIdx.x) * threads + threadIdx.x;
  if (i < size) to[i] = 0;
}

// gram = sum of the slices, in order, mirrored to the lower triangle. If a label is out of range, both outputs are
// filled with NaN.
__global__ void __launch_bounds__(threads)
    finish(int64_t n, int64_t n_classes, Sums sums, double* gram, double* directional) {
  const int64_t at = static_cast<int64_t>(blockIdx.x) * threads + threadIdx.x;
  if (at >= n_classes * n_classes) return;
  const int64_t i = at / n_classes, j = at % n_classes, low = min(i, j), high = max(i, j);
  double sum = 0;
  for (int64_t slice = 0; n > 0 && slice < sums.slices; ++slice)
    sum += sums.gram[(slice * n_classes + low) * n_classes + high];
  const bool bad = *sums.rows.first_bad < n;
  gram[at] = bad ? nan("") : sum;
  if (bad) directional[at] = nan("");
}

// Launches score_residuals for one chunk.
template <class S, int Classes, class In>
void score_chunk(const In* data, const Matrix& x, const Tables<S>& tables, const Sums& sums, int64_t first,
                 int64_t rows, cudaStream_t stream) {
  launch("score_residuals", score_residuals<In, S, Classes>,
         dim3(blocks_of(rows, row_tile), blocks_of(tables.n_classes, Classes)), threads, 0, stream, data, x.row_stride,
         x.n, tables, sums, first);
}

}  // namespace

int64_t gram_bytes(int64_t n, int64_t n_classes) {
  Sums sums;
  return lay_out({nullptr, 0}, n, n_classes, sums);
}

template <class S>
void residual_gram(const Matrix& x, const Labels& y, const Tables<S>& tables, double* gram, double* directional,
                   const Workspace& workspace, cudaStream_t stream) {
  const int64_t n_classes = tables.n_classes, square = n_classes * n_classes;
  Sums sums;
  lay_out(workspace, x.n, n_classes, sums);
  sort_labels(y, x.n, n_classes, sums.rows, stream);
  launch("clear", clear, dim3(blocks_of(square, threads)), threads, 0, stream, square, directional);
  const unsigned tiles = blocks_of(n_classes, gram_tile), columns = blocks_of(n_classes, threads);
  for (int64_t first = 0; first < x.n; first += sums.chunk) {
    const int64_t rows = std::min(sums.chunk, x.n - first);
    with_type(x, [&](auto* data) {
      using In = std::remove_const_t<std::remove_pointer_t<decltype(data)>>;
      if constexpr ((sizeof(In) == 8) == (sizeof(S) == 8)) {
        if (n_classes <= 16)
          score_chunk<S, 16>(data, x, tables, sums, first, rows, stream);
        else
          score_chunk<S, 64>(data, x, tables, sums, first, rows, stream);
      }
    });
    launch("add_gram", add_gram, dim3(tiles * tiles, static_cast<unsigned>(sums.slices)), threads, 0, stream, rows,
           n_classes, first == 0, sums);
    launch("sum_directional", sum_directional, dim3(blocks_of(rows, row_tile), columns), threads, 0, stream, first,
           rows, n_classes, tables.active, sums);
    launch("add_directional", add_directional, dim3(static_cast<unsigned>(n_classes), columns), threads, 0, stream,
           first, rows, n_classes, sums, directional);
  }
  launch("finish", finish, dim3(blocks_of(square, threads)), threads, 0, stream, x.n, n_classes, sums, gram,
         directional);
}

template void residual_gram(const Matrix&, const Labels&, const Tables<float>&, double*, double*, const Workspace&,
                            cudaStream_t);
template void residual_gram(const Matrix&, const Labels&, const Tables<double>&, double*, double*, const Workspace&,
                            cudaStream_t);

}  // namespace ncharness::cuda
