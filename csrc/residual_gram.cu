// The Gram of residual scores on a CUDA device. Rows are taken class by class, a chunk of them at a time: their scores
// t_c = (x - m_y) . (m_c - g), then sums of products of scores, all added up in a fixed order, in float64.
#include "centres.cuh"
#include "sorted_labels.cuh"

namespace ncharness::cuda {
namespace {

constexpr int threads = 256;
constexpr int row_tile = 64;                            // of scores that a block makes; rows of a slice
constexpr int step = 16;                                // columns at a time
constexpr int gram_tile = 32;                           // classes, squared, of a block's share of the Gram
constexpr int gram_rows = 16;                           // at a time
constexpr int64_t most_scores = scratch_at_a_time / 8;  // of a chunk
constexpr int64_t wanted_blocks = 256;
constexpr int most_slices = 64;

struct Sums {
  SortedLabels rows;
  double* score;        // (chunk, C)
  double* gram;         // (slices, C, C), the upper triangle of tiles
  double* directional;  // (chunk / row_tile + C, C): slice s of a chunk and class c meet in s + c - (class of row 0)
  int64_t chunk, slices;
};

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

// Scores of the sorted rows [first, first + chunk): a tile of rows and a tile of classes a block. Rows of a class whose
// mean is not finite, or of none, get zeros.
template <class In, class S, int Classes>
__global__ void __launch_bounds__(threads)
    score_residuals(const In* x, int64_t row_stride, int64_t n, Tables<S> tables, Sums sums, int64_t first) {
  constexpr int per_thread = Classes / 16;
  __shared__ S v[step][row_tile + 1], a[step][Classes + 1];
  const int64_t last = min(first + sums.chunk, n), n_classes = tables.n_classes;
  const int64_t from_row = first + blockIdx.x * row_tile, from_class = blockIdx.y * Classes;
  // What it loads: four columns of a row, and of a class.
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

// Adds the products of the scores of rows [0, n_rows) of a chunk: a tile of the Gram and a slice of the rows a block.
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

// Sums of (t_j - t_y)^2 over what a slice and a class have in common, a class j a thread.
__global__ void __launch_bounds__(threads)
    sum_directional(int64_t first, int64_t n_rows, int64_t n_classes, const int32_t* active, Sums sums) {
  const int64_t slice = blockIdx.x, j = static_cast<int64_t>(blockIdx.y) * threads + threadIdx.x;
  const int64_t end = min((slice + 1) * row_tile, n_rows), first_class = sums.rows.key[first];
  if (j >= n_classes) return;
  for (int64_t row = slice * row_tile; row < end;) {
    const int64_t y = sums.rows.key[first + row];
    if (y == n_classes) return;  // labels out of range come last
    const int64_t last = min(end, sums.rows.start[y + 1] - first);
    double sum = 0;
    for (; row < last; ++row) {
      const double between = sums.score[row * n_classes + j] - sums.score[row * n_classes + y];
      sum += between * between;
    }
    sums.directional[(slice + y - first_class) * n_classes + j] = active[y] && active[j] ? sum : 0;
  }
}

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

__global__ void __launch_bounds__(threads) clear(int64_t size, double* to) {
  const int64_t i = static_cast<int64_t>(blockIdx.x) * threads + threadIdx.x;
  if (i < size) to[i] = 0;
}

// The slices of the Gram in their order, and NaN in place of both where a label was out of range.
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
