// Pass 2, panel kernel: dot products of rows with class centres for many classes. This is a GEMM micro-kernel:
//   dot (rows, K) = V (rows, width) A (width, K), v = x - base, A = -2 (m_c - g), for a panel of K <= CLASSES classes.
//
// Blocking: a group of 2 lanes<T> rows is transposed to v[column][row] (turn), so that each SIMD lane holds one row.
// The micro-kernel (dots) keeps 2 x K accumulator vectors in registers. Per column it loads two vectors of rows and
// broadcasts K centre elements. Tiles have tile_columns columns, so that the tile of a group fits L1.
// Threads: none here; each thread has its own rows (class_scores_cpu.cpp).
#pragma once

#include "rows_lanes.inl"

namespace ncharness {
namespace {

template <class T>
constexpr int group_rows = 2 * lanes<T>;  // rows in a group, transposed and multiplied together

// Data to prefetch into L2 while the current tile is multiplied, so that memory loads overlap with arithmetic.
struct Ahead {
  const char* row;  // first row; null: nothing to prefetch
  int64_t stride;   // bytes between rows
  int64_t lines;    // cache lines per row
  int64_t rows;
};

// Issues the prefetches of an Ahead, one cache line per call of next(), row by row.
class Fetch {
 public:
  explicit Fetch(const Ahead& ahead) : row_(ahead.row), stride_(ahead.stride), lines_(ahead.lines), rows_(ahead.rows) {}

  void next() {
    if (rows_ == 0) return;
    __builtin_prefetch(row_ + line_ * 64, 0, 2);
    if (++line_ < lines_) return;
    line_ = 0;
    row_ += stride_;
    --rows_;
  }

 private:
  const char* row_;
  int64_t stride_, lines_, rows_, line_ = 0;
};

// Transposes a column tile of lanes<T> rows and subtracts the base: v[j][lane] = row[lane][from + j] - base[from + j]
// for j in [0, width). norm_sq (lanes<T>,) += the squared norm of the tile. OwnBase: each row has its own base (with
// the Gram), given by bases[lane].
template <class In, class T, bool OwnBase>
void turn(const In* const* rows, const int32_t* bases, const CentreView<T>& c, int64_t from, int64_t width,
          Fetch& fetch, T* v, T* norm_sq) {
  constexpr int n = lanes<T>;
  Vec<T> norm[4] = {};
  int64_t j = 0;
  for (; j + n <= width; j += n) {
    for (int r = 0; r < n / 2; ++r) fetch.next();
    const int64_t at = from + j;
    Vec<T> square[n];
    if constexpr (OwnBase) {
      for (int r = 0; r < n; ++r) {
        const T* base = c.base + bases[r] * c.stride + at;
        square[r] = to_scored(rows[r] + at) - load_as<Vec<T>>(base);
        if constexpr (sizeof(T) < 8) square[r] -= load_as<Vec<T>>(c.base_rest + bases[r] * c.stride + at);
      }
    } else {
      const Vec<T> base = load_as<Vec<T>>(c.base + at);
      for (int r = 0; r < n; ++r) square[r] = to_scored(rows[r] + at) - base;
    }
    transpose<T>(square);
    for (int k = 0; k < n; ++k) {
      store(v + (j + k) * group_rows<T>, square[k]);
      norm[k % 4] += square[k] * square[k];
    }
  }
  for (; j < width; ++j) {
    const int64_t at = from + j;
    Vec<T> column = {};
    for (int r = 0; r < n; ++r) {
      T difference = static_cast<T>(value(rows[r] + at));
      if constexpr (OwnBase) {
        difference -= c.base[bases[r] * c.stride + at];
        if constexpr (sizeof(T) < 8) difference -= c.base_rest[bases[r] * c.stride + at];
      } else {
        difference -= c.base[at];
      }
      column[r] = difference;
    }
    store(v + j * group_rows<T>, column);
    norm[0] += column * column;
  }
  store(norm_sq, load_as<Vec<T>>(norm_sq) + ((norm[0] + norm[1]) + (norm[2] + norm[3])));
}

// Micro-kernel: keys[k][lane] = sum over columns j of v[j][lane] * panel[j][k] for a group of rows and a panel of K
// classes. `add`: adds to keys, for column tiles after the first.
template <class T, int K>
void dots(const T* v, const T* panel, int64_t width, bool add, const Ahead& ahead, T* keys) {
  constexpr int n = lanes<T>;
  Vec<T> acc[2][K] = {};
  Fetch fetch(ahead);
  for (int64_t j = 0; j < width; ++j, v += 2 * n, panel += K) {
    fetch.next();
    const Vec<T> first = load_as<Vec<T>>(v), second = load_as<Vec<T>>(v + n);
    for (int k = 0; k < K; ++k) {
      acc[0][k] += first * panel[k];
      acc[1][k] += second * panel[k];
    }
  }
  for (int k = 0; k < K; ++k, keys += 2 * n) {
    if (add) {
      acc[0][k] += load_as<Vec<T>>(keys);
      acc[1][k] += load_as<Vec<T>>(keys + n);
    }
    store(keys, acc[0][k]);
    store(keys + n, acc[1][k]);
  }
}

template <class T>
using Dots = void (*)(const T* v, const T* panel, int64_t width, bool add, const Ahead& ahead, T* keys);

// Micro-kernels by the number of classes in the panel.
template <class T>
struct DotsOf {
  Dots<T> of[CLASSES + 1];
};

template <class T, int... K>
constexpr DotsOf<T> dots_table(std::integer_sequence<int, K...>) {
  return {{nullptr, dots<T, K + 1>...}};
}

}  // namespace
}  // namespace ncharness
