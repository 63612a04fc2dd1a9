// The row loops, written once on vectors of LANES doubles (a GCC and Clang extension, lowered to whatever the
// target has). Included by one small file per instruction set, which defines KERNELS, LEVEL, LANES and ROWS x
// CLASSES, the block of dot products that fits its registers. Nothing here may call an inline function of the
// standard library: the linker keeps one copy of those, and it must not be the one compiled for a processor
// that is not there.
//
// Arithmetic is float64 for float32 input too: the expanded distance ||a||^2 - 2 (x - g) . a is then exact
// enough to agree with a float64 reference on every row that is not a tie.

#include "rows.hpp"

namespace ncharness {
namespace {

typedef double Vec __attribute__((vector_size(LANES * sizeof(double)), aligned(sizeof(double))));

inline Vec load(const double* p) { return *reinterpret_cast<const Vec*>(p); }

inline Vec load(const float* p) {
  Vec v;
  for (int i = 0; i < LANES; ++i) v[i] = static_cast<double>(p[i]);
  return v;
}

inline void store(double* p, Vec v) { *reinterpret_cast<Vec*>(p) = v; }

inline double total(Vec v) {
  double sum = 0;
  for (int i = 0; i < LANES; ++i) sum += v[i];
  return sum;
}

template <class T>
void sum_rows(const T* x, int64_t row_stride, int64_t d, const int64_t* y, int64_t begin, int64_t end, int64_t* count,
              double* sum) {
  for (int64_t i = begin; i < end; ++i) {
    const T* row = x + i * row_stride;
    double* into = sum + y[i] * d;
    ++count[y[i]];
    int64_t j = 0;
    for (; j + LANES <= d; j += LANES) store(into + j, load(into + j) + load(row + j));
    for (; j < d; ++j) into[j] += static_cast<double>(row[j]);
  }
}

// ||row - mean||^2 over columns [from, to), added to *own; shifted[j] = row[j] - shift[j]; returns the norm's
// square.
template <class T>
double shift_row(const T* row, const double* mean, const double* shift, int64_t from, int64_t to, double* shifted,
                 double* own) {
  Vec norm = {}, residual = {};
  double norm_rest = 0, residual_rest = 0;
  int64_t j = from;
  for (; j + LANES <= to; j += LANES) {
    const Vec v = load(row + j);
    const Vec s = v - load(shift + j), r = v - load(mean + j);
    store(shifted + (j - from), s);
    norm += s * s;
    residual += r * r;
  }
  for (; j < to; ++j) {
    const double v = static_cast<double>(row[j]);
    const double s = v - shift[j], r = v - mean[j];
    shifted[j - from] = s;
    norm_rest += s * s;
    residual_rest += r * r;
  }
  *own += total(residual) + residual_rest;
  return total(norm) + norm_rest;
}

// dots[r][c] += shifted[r] . centred[c] for R rows and K classes over `width` columns.
template <int R, int K>
void block_dots(const double* shifted, const double* centred, int64_t centred_stride, int64_t width, double* dots,
                int64_t dots_stride) {
  Vec acc[R][K] = {};
  int64_t j = 0;
  for (; j + LANES <= width; j += LANES) {
    Vec a[K];
    for (int k = 0; k < K; ++k) a[k] = load(centred + k * centred_stride + j);
    for (int r = 0; r < R; ++r) {
      const Vec s = load(shifted + r * block_columns + j);
      for (int k = 0; k < K; ++k) acc[r][k] += s * a[k];
    }
  }
  for (int r = 0; r < R; ++r)
    for (int k = 0; k < K; ++k) {
      double rest = 0;
      for (int64_t l = j; l < width; ++l) rest += shifted[r * block_columns + l] * centred[k * centred_stride + l];
      dots[r * dots_stride + k] += total(acc[r][k]) + rest;
    }
}

template <int R>
void row_block_dots(const double* shifted, const Centres& c, int64_t from, int64_t width, double* dots) {
  int64_t k = 0;
  for (; k + CLASSES <= c.n_active; k += CLASSES)
    block_dots<R, CLASSES>(shifted, c.centred + k * c.d + from, c.d, width, dots + k, c.n_active);
  for (; k < c.n_active; ++k) block_dots<R, 1>(shifted, c.centred + k * c.d + from, c.d, width, dots + k, c.n_active);
}

inline int64_t nearest_centre(const double* dots, const Centres& c, double sq_norm) {
  if (!(sq_norm - sq_norm == 0.0)) return -1;  // not finite, or too large to square
  double best = 0;
  int64_t at = -1;
  for (int64_t k = 0; k < c.n_active; ++k) {
    const double key = c.sq_norm[k] - 2 * dots[k];
    if (at < 0 || key < best) {
      best = key;
      at = k;
    }
  }
  return at < 0 ? -1 : c.active[at];
}

// From the dots of the shifted row, (x - g) . a_c, to those of the residual, (x - m_y) . a_c, and their
// products.
inline void add_gram(double* dots, const Centres& c, int64_t own, const RowScores& out) {
  const int64_t m = c.n_active;
  for (int64_t k = 0; k < m; ++k) dots[k] -= c.cross[own * m + k];
  for (int64_t k = 0; k < m; ++k) {
    double* into = out.gram + k * m;
    const double t = dots[k];
    for (int64_t l = k; l < m; ++l) into[l] += t * dots[l];  // the upper triangle; the driver mirrors it
    const double between = t - dots[own];
    out.directional[own * m + k] += between * between;
  }
}

template <class T, int R>
void score_block(const T* x, int64_t row_stride, const int64_t* y, int64_t begin, const Centres& c, double* shifted,
                 double* dots, const RowScores& out) {
  double sq_norm[R] = {}, own[R] = {};
  for (int64_t k = 0; k < R * c.n_active; ++k) dots[k] = 0;
  for (int64_t from = 0; from < c.d; from += block_columns) {
    const int64_t to = from + block_columns < c.d ? from + block_columns : c.d;
    for (int r = 0; r < R; ++r) {
      const double* mean = y ? c.mean + y[begin + r] * c.d : c.shift;
      sq_norm[r] +=
          shift_row(x + (begin + r) * row_stride, mean, c.shift, from, to, shifted + r * block_columns, &own[r]);
    }
    if (out.nearest || out.gram) row_block_dots<R>(shifted, c, from, to - from, dots);
  }
  for (int r = 0; r < R; ++r) {
    double* row_dots = dots + r * c.n_active;
    if (out.nearest) out.nearest[begin + r] = nearest_centre(row_dots, c, sq_norm[r]);
    if (!y) continue;
    const int64_t label = y[begin + r], position = c.active_of[label];
    out.scatter[label] += own[r];  // NaN where the class mean is: a poisoned class stays poisoned
    if (out.gram && position >= 0) add_gram(row_dots, c, position, out);
  }
}

template <class T>
void score_rows(const T* x, int64_t row_stride, const int64_t* y, int64_t begin, int64_t end, const Centres& c,
                double* scratch, const RowScores& out) {
  double* shifted = scratch;
  double* dots = scratch + ROWS * block_columns;
  int64_t i = begin;
  for (; i + ROWS <= end; i += ROWS) score_block<T, ROWS>(x, row_stride, y, i, c, shifted, dots, out);
  for (; i < end; ++i) score_block<T, 1>(x, row_stride, y, i, c, shifted, dots, out);
}

static_assert(ROWS <= max_block_rows, "scratch_size() counts on it");

}  // namespace

const RowKernels KERNELS = {LEVEL, sum_rows<float>, sum_rows<double>, score_rows<float>, score_rows<double>};

}  // namespace ncharness
