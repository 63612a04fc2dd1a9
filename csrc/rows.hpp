// The innermost loops, over a range of rows in one thread: what is compiled once per instruction set.
#pragma once

#include <cstdint>

namespace ncharness {

// The class means as pass 2 wants them, prepared once per call.
struct Centres {
  int64_t n_classes;
  int64_t d;
  const double* mean;        // (C, d)
  const double* shift;       // (d,) g, the mean of the finite class means
  int64_t n_active;          // classes with a finite mean
  const int64_t* active;     // (n_active,) their indices, ascending
  const double* centred;     // (n_active, d) a_c = m_c - g
  const double* sq_norm;     // (n_active,) ||a_c||^2
  const int64_t* active_of;  // (C,) position among the active, or -1
  const double* cross;       // (n_active, n_active) a_b . a_c, or null without the Gram
};

// Outputs of one thread; gram and directional are (n_active, n_active).
struct RowScores {
  int64_t* nearest;  // of the whole matrix, written at the rows of the range
  double* scatter;
  double* gram;
  double* directional;
};

// Rows are scored in blocks of a few, over this many columns at a time: the block stays in the first-level
// cache.
constexpr int64_t max_block_rows = 4;
constexpr int64_t block_columns = 512;

// Scratch of one thread, in doubles: the block's shifted rows and their dot products.
constexpr int64_t scratch_size(int64_t n_active) { return max_block_rows * (block_columns + n_active); }

struct RowKernels {
  const char* name;
  void (*sum_f32)(const float* x, int64_t row_stride, int64_t d, const int64_t* y, int64_t begin, int64_t end,
                  int64_t* count, double* sum);
  void (*sum_f64)(const double* x, int64_t row_stride, int64_t d, const int64_t* y, int64_t begin, int64_t end,
                  int64_t* count, double* sum);
  void (*score_f32)(const float* x, int64_t row_stride, const int64_t* y, int64_t begin, int64_t end, const Centres& c,
                    double* scratch, const RowScores& out);
  void (*score_f64)(const double* x, int64_t row_stride, const int64_t* y, int64_t begin, int64_t end, const Centres& c,
                    double* scratch, const RowScores& out);
};

extern const RowKernels rows_portable;
extern const RowKernels rows_avx2;
extern const RowKernels rows_avx512;

}  // namespace ncharness
