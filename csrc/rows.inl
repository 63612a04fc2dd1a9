// The row kernels of one instruction set: pass 1 (rows_sums.inl), pass 2 (rows_scores.inl), distances
// (rows_distances.inl) and a plain read. Dispatches on the dtype of the features; formulas and shapes are in rows.hpp.
//
// Included once by each of rows_avx512.cpp, rows_avx2.cpp and rows_portable.cpp, which define
//   KERNELS  name of the RowKernels object,
//   LEVEL    name of the instruction set level,
//   LANES    doubles per vector,
//   CLASSES  largest panel: its accumulators for two vectors of rows, 2 x CLASSES vectors, fit the registers.
#include "rows_distances.inl"
#include "rows_scores.inl"
#include "rows_sums.inl"

namespace ncharness {
namespace {

// Pass 1 for elements of type In.
template <class In>
void sum_rows(const Matrix& x, const Labels& y, int64_t n_classes, int64_t begin, int64_t end, const RowSums& out) {
  const In* data = static_cast<const In*>(x.data);
  if (out.chunk_rows)
    sum_by_class(data, x.row_stride, x.d, y, n_classes, begin, end, out);
  else
    sum_in_order(data, x.row_stride, x.d, y, begin, end, out);
}

void sum(const Matrix& x, const Labels& y, int64_t n_classes, int64_t begin, int64_t end, const RowSums& out) {
  if (x.dtype == DType::float32) return sum_rows<float>(x, y, n_classes, begin, end, out);
  if (x.dtype == DType::float64) return sum_rows<double>(x, y, n_classes, begin, end, out);
  if (x.dtype == DType::float16) return sum_rows<Half>(x, y, n_classes, begin, end, out);
  return sum_rows<Brain>(x, y, n_classes, begin, end, out);
}

// Pass 2 in float32, for float32, float16 and bfloat16 features.
void score(const Matrix& x, const Labels& y, int64_t begin, int64_t end, const CentreView<float>& c, int64_t groups,
           double* scratch, const RowScores& out) {
  if (x.dtype == DType::float32) return score_rows<float, float>(x, y, begin, end, c, groups, scratch, out);
  if (x.dtype == DType::float16) return score_rows<Half, float>(x, y, begin, end, c, groups, scratch, out);
  return score_rows<Brain, float>(x, y, begin, end, c, groups, scratch, out);
}

// Adds up all 64-bit words with 8 vector accumulators; the last bytes are added one by one.
uint64_t read_bytes(const void* data, int64_t bytes) {
  using Words = Vec<uint64_t>;
  constexpr int unroll = 8;
  const char* at = static_cast<const char*>(data);
  Words sum[unroll] = {};
  int64_t i = 0;
  for (; i + unroll * vector_bytes <= bytes; i += unroll * vector_bytes)
    for (int k = 0; k < unroll; ++k) sum[k] += load_as<Words>(at + i + k * vector_bytes);
  uint64_t rest = 0;
  for (; i < bytes; ++i) rest += static_cast<unsigned char>(at[i]);
  for (int k = 1; k < unroll; ++k) sum[0] += sum[k];
  return total(sum[0]) + rest;
}

}  // namespace

const RowKernels KERNELS = {LEVEL, LANES,     CLASSES,   sum, shift_mean, score_rows<double, double>,
                            score, distances, read_bytes};

}  // namespace ncharness
