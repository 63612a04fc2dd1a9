// The contract of the kernels: plain views in, plain arrays out, every size explicit.
//
// Two reads of a feature matrix give everything that neural collapse is measured by. Pass 1 adds its rows to the
// count, mean and scatter of each class. Pass 2, given the class means, scores every row against every mean.
#pragma once

#include <cstdint>
#include <memory>
#include <vector>

namespace ncharness {

// The codes that native.py passes.
enum class DType : int { float32 = 0, float64 = 1, float16 = 2, bfloat16 = 3 };
enum class LabelType : int { int64 = 0, int32 = 1, uint8 = 2 };

// Features (n, d): contiguous along d, any distance between rows.
struct Matrix {
  const void* data;
  DType dtype;
  int64_t n;
  int64_t d;
  int64_t row_stride;  // in elements
};

static inline int64_t bytes_of(DType dtype) { return dtype == DType::float64 ? 8 : dtype == DType::float32 ? 4 : 2; }

// Labels (n,) in [0, n_classes); data is null where none are wanted.
struct Labels {
  const void* data;
  LabelType type;
};

static inline int64_t label_at(const Labels& y, int64_t i) {
  if (y.type == LabelType::int64) return static_cast<const int64_t*>(y.data)[i];
  if (y.type == LabelType::int32) return static_cast<const int32_t*>(y.data)[i];
  return static_cast<const uint8_t*>(y.data)[i];
}

// The index of the first label outside [0, n_classes), or -1.
int64_t first_bad_label(const Labels& y, int64_t n, int64_t n_classes, int threads);

// count (C,), mean (C, d), scatter (C,): sum of ||x - mean||^2 over the rows of a class. The mean of an empty class
// is NaN, its scatter 0.
struct ClassStats {
  int64_t* count;
  double* mean;
  double* scatter;
};

// nearest (n,): the class whose mean is closest, the lowest on ties, -1 for a row whose distances are not finite; may
// be null. gram (C, C): sum of t t^T over all rows, t_c = (x - m_y) . (m_c - g), g the mean of the class means;
// null unless the centres were prepared for it. directional (C, C): entry (i, j) sums (t_j - t_i)^2 over the rows of
// class i; null with gram.
struct ClassScores {
  int64_t* nearest;
  double* gram;
  double* directional;
};

// Pass 1: adds the rows to the statistics, in float64. Returns -1, or the index of the first label outside
// [0, n_classes), and then nothing has changed. The same input and thread count give the same bits.
int64_t add_rows(const Matrix& x, const Labels& y, int64_t n_classes, int threads, const ClassStats& stats);

// Pass 1 of a matrix by itself: what was in `stats` is overwritten. Returns as add_rows does.
int64_t class_stats(const Matrix& x, const Labels& y, int64_t n_classes, int threads, const ClassStats& stats);

// Class means (C, d) made ready for pass 2, once for any number of batches. A mean that is not finite (an empty class)
// wins no row and takes part in no sum. `wide` for float64 features; others are scored in float32.
class Centres {
 public:
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

// Pass 2. Labels are needed for the Gram alone. Returns as add_rows does; the outputs are overwritten.
int64_t class_scores(const Matrix& x, const Labels& y, const Centres& centres, int threads, const ClassScores& out);

// Class-distance normalised variance: the mean over pairs of classes with rows of (V_i + V_j) / (2 ||m_i - m_j||^2),
// V = scatter / count. Infinite where two means are equal, NaN with fewer than two classes.
double cdnv(const int64_t* count, const double* mean, const double* scatter, int64_t n_classes, int64_t d, int threads);

// One vectorised read of the matrix, the floor that the passes are measured against. Returns a checksum.
uint64_t read(const Matrix& x, int threads);

// Instruction sets compiled in that this processor has, best first, and the one in use. An unknown name is
// refused with std::invalid_argument; the choice is for tests and benchmarks.
std::vector<const char*> levels();
const char* level();
void set_level(const char* name);

}  // namespace ncharness
