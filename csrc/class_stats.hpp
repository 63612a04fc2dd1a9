// The contract of the kernels: plain views in, plain arrays out, every size explicit.
//
// Two reads of a feature matrix give everything that neural collapse is measured by. Pass 1 sums the rows of
// each class. Pass 2, given the class means, scores every row against every mean. Accumulators are float64.
#pragma once

#include <cstdint>
#include <vector>

namespace ncharness {

// The codes that ops.py passes.
enum class DType : int { float32 = 0, float64 = 1 };

// Features (n, d): contiguous along d, any distance between rows.
struct Matrix {
  const void* data;
  DType dtype;
  int64_t n;
  int64_t d;
  int64_t row_stride;  // in elements
};

// Labels (n,) in [0, n_classes), or null where none are wanted.
using Labels = const int64_t*;

// count (C,) and sum (C, d).
struct ClassSums {
  int64_t* count;
  double* sum;
};

// nearest (n,): the class whose mean is closest, the lowest on ties, -1 for a row that is not finite; may be null.
// scatter (C,): sum of ||x - m_y||^2 over the rows of a class; null where there are no labels.
// gram (C, C): sum of t t^T over all rows, t_c = (x - m_y) . (m_c - g), g the mean of the class means; may be
// null. directional (C, C): entry (i, j) sums (t_j - t_i)^2 over the rows of class i; null with gram.
struct ClassScores {
  int64_t* nearest;
  double* scatter;
  double* gram;
  double* directional;
};

// The index of the first label outside [0, n_classes), or -1.
int64_t first_bad_label(Labels y, int64_t n, int64_t n_classes);

// The outputs are overwritten. The same input and thread count give the same bits.
void class_sums(const Matrix& x, Labels y, int64_t n_classes, int threads, const ClassSums& out);

// mean (C, d). A class whose mean is not finite (an empty one) wins no row and takes part in no sum.
void class_scores(const Matrix& x, Labels y, int64_t n_classes, const double* mean, int threads,
                  const ClassScores& out);

// Instruction sets compiled in that this processor has, best first, and the one in use. An unknown name is
// refused with std::invalid_argument; the choice is for tests and benchmarks.
std::vector<const char*> levels();
const char* level();
void set_level(const char* name);

}  // namespace ncharness
