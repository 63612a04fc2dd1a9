// Contract of the CPU kernels. Inputs are plain views, outputs are plain arrays, and every size is an argument.
//
// Two passes over a feature matrix X (n, d) compute all statistics from which neural collapse is measured:
//   pass 1: count, mean and within-class scatter of each class (add_rows, class_stats);
//   pass 2: scores of every row against every class mean (Centres, class_scores).
//
// Rules for every function below, unless its own comment says otherwise:
// - Memory: all pointers are to host memory. Arrays are contiguous and row-major. Addresses are aligned to the element
//   size; no larger alignment is needed. The caller owns all arrays. Inputs are not modified.
// - Sizes: n >= 0, d >= 1, n_classes >= 1, threads >= 1. Functions do not check sizes; bindings.cpp does.
// - Threads: `threads` is an upper limit; small inputs use fewer. Any number of threads may call at the same time,
//   provided that their outputs do not overlap. Parts of the work run on a pool of kept threads (threads.hpp).
// - Determinism: the same input, `threads` and instruction set level (see level()) give the same bits.
// - Errors: std::bad_alloc if scratch memory cannot be allocated. Other errors are listed with each function.
#pragma once

#include <cstdint>
#include <memory>
#include <vector>

namespace ncharness {

// Type codes. The Python side (addresses.py) passes the same numbers.
enum class DType : int { float32 = 0, float64 = 1, float16 = 2, bfloat16 = 3 };
enum class LabelType : int { int64 = 0, int32 = 1, uint8 = 2 };

// View of a feature matrix (n, d). Elements of a row are contiguous; rows are `row_stride` elements apart.
struct Matrix {
  const void* data;
  DType dtype;
  int64_t n;
  int64_t d;
  int64_t row_stride;  // in elements, >= 0
};

// Size of one element in bytes.
static inline int64_t bytes_of(DType dtype) { return dtype == DType::float64 ? 8 : dtype == DType::float32 ? 4 : 2; }

// View of labels (n,), contiguous, values in [0, n_classes). `data` is null if the call needs no labels.
struct Labels {
  const void* data;
  LabelType type;
};

// Label of row i as int64.
static inline int64_t label_at(const Labels& y, int64_t i) {
  if (y.type == LabelType::int64) return static_cast<const int64_t*>(y.data)[i];
  if (y.type == LabelType::int32) return static_cast<const int32_t*>(y.data)[i];
  return static_cast<const uint8_t*>(y.data)[i];
}

// Returns the smallest index in [0, n) whose label is outside [0, n_classes), or -1 if there is none. The result does
// not depend on `threads`.
int64_t first_bad_label(const Labels& y, int64_t n, int64_t n_classes, int threads);

// Pass 1 statistics of C = n_classes classes, for rows x_i with label c:
//   count (C,) int64      number of rows;
//   mean (C, d) float64   sum x_i / count;
//   scatter (C,) float64  sum ||x_i - mean||^2.
// A class without rows has count 0 and scatter 0; class_stats() gives it a NaN mean. A NaN or infinite feature makes
// the mean and the scatter of its class non-finite.
struct ClassStats {
  int64_t* count;
  double* mean;
  double* scatter;
};

// Outputs of pass 2, for class means m_c with c in [0, C) and rows x_i with label y. Active classes are those with a
// finite mean; only they take part. Residual scores of a row are t_c = (x_i - m_y) . (m_c - g), where g is the mean of
// the active class means.
// - nearest (n,) int64: argmin over c of ||x_i - m_c||, the lowest index on ties, -1 for a row without a finite
//   distance. May be null.
// - gram (C, C) float64: sum over rows of t t^T. Rows and columns of inactive classes are 0.
// - directional (C, C) float64: entry (a, b) is the sum of (t_b - t_a)^2 over the rows of class a. Entries of inactive
//   classes are 0.
// Set gram and directional if the centres were prepared with gram = true. Set both to null if they were not.
struct ClassScores {
  int64_t* nearest;
  double* gram;
  double* directional;
};

// Pass 1, update: adds the rows of x (n, d; any dtype) with labels y (n,) to `stats`. Sums are float64.
// In and out: stats. The mean of a class with count 0 is not read; it is left unchanged while the class has no rows.
// Returns -1 on success. If a label is outside [0, n_classes), returns the index of the first one and leaves `stats`
// unchanged.
int64_t add_rows(const Matrix& x, const Labels& y, int64_t n_classes, int threads, const ClassStats& stats);

// Pass 1 of one matrix: like add_rows, but starts from empty statistics. The previous contents of `stats` are not read.
// The mean of a class without rows is NaN. Returns the same value as add_rows. If that is not -1, every count and
// scatter is 0 and every mean is NaN.
int64_t class_stats(const Matrix& x, const Labels& y, int64_t n_classes, int threads, const ClassStats& stats);

// Class means in the form that pass 2 needs. Prepare them once and use them for any number of batches. A class whose
// mean is not finite (such as an empty class) is inactive: it is nearest to no row and takes part in no sum.
// The object is immutable, so several threads may use it at the same time. It keeps the instruction set level that was
// in use when it was constructed.
class Centres {
 public:
  // mean (C, d) float64, contiguous; it is copied. `wide`: true if the features to be scored are float64 (scores are
  // float64); false for float32, float16 and bfloat16 features (scores are float32). `gram`: prepare for the Gram.
  Centres(const double* mean, int64_t n_classes, int64_t d, bool wide, bool gram, int threads);
  ~Centres();
  Centres(const Centres&) = delete;
  Centres& operator=(const Centres&) = delete;

  int64_t n_classes() const;
  int64_t d() const;
  bool wide() const;
  bool gram() const;

 private:
  friend int64_t class_scores(const Matrix&, const Labels&, const Centres&, int, const ClassScores&);
  struct Tables;
  std::unique_ptr<const Tables> tables_;
};

// Pass 2: scores the rows of x (n, d) against the centres and overwrites the arrays of `out`. x.d must be centres.d(),
// and x must be float64 exactly if centres.wide(). Labels y (n,) are required if centres.gram(); otherwise y.data may
// be null. Keys are computed in float32 (float64 if wide). Near ties are decided by distances in float64. The Gram and
// the directional sums are accumulated in float64.
// Returns -1 on success. If y.data is given and a label is outside [0, C), returns the index of the first one and
// writes no output.
int64_t class_scores(const Matrix& x, const Labels& y, const Centres& centres, int threads, const ClassScores& out);

// Class-distance normalised variance (CDNV): the mean of (V_i + V_j) / (2 ||m_i - m_j||^2) over all pairs i < j of
// classes with rows, V = scatter / count. Inputs: count (C,), mean (C, d), scatter (C,) as in ClassStats. Returns
// infinity if two means are equal, NaN if fewer than two classes have rows. The result does not depend on `threads`.
double cdnv(const int64_t* count, const double* mean, const double* scatter, int64_t n_classes, int64_t d, int threads);

// Reads the matrix once with vector loads: the memory roofline for the two passes. Returns a checksum, so that the
// loads are not optimised away. Its value depends on `threads` and on the instruction set level.
uint64_t read(const Matrix& x, int threads);

// Instruction set levels: names of those that are compiled in and supported by this processor, best first.
std::vector<const char*> levels();
// Name of the level in use; at the start, the best one.
const char* level();
// Chooses a level for the whole process; for tests and benchmarks. Takes effect on later calls. Throws
// std::invalid_argument for a name that levels() does not list. Safe to call from any thread.
void set_level(const char* name);

}  // namespace ncharness
