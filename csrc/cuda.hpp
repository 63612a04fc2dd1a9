// Contract of the CUDA kernels. They compute the same quantities as class_stats.hpp, in device memory.
//
// Rules for every function below, unless its own comment says otherwise:
// - Memory: all data pointers are to memory of the current device. Arrays are contiguous, row-major and aligned to the
//   element size. Features (n, d) have unit stride along d and `row_stride` elements between rows.
// - Sizes: 0 <= n < 2^31, d >= 1, 1 <= n_classes < 2^31. Functions do not check sizes; bindings_cuda.cpp does.
// - Asynchrony: work is enqueued on `stream`. No function waits for the device or allocates device memory, so calls can
//   be captured in a CUDA graph. Inputs, outputs and workspace must stay valid until that work has run.
// - Determinism: there are no floating-point atomics and all sums have a fixed order. The same input on the same device
//   gives the same bits.
// - Host threads: any number may call at the same time, with workspaces and outputs that do not overlap.
// - Errors: std::runtime_error if a launch or another CUDA call fails, std::invalid_argument if the workspace is too
//   small. Errors during execution of a kernel appear at the caller's next synchronisation.
#pragma once

#include <cuda_runtime_api.h>

#include <cstdint>

#include "class_stats.hpp"

namespace ncharness::cuda {

// Device memory that the caller provides, aligned to 256 bytes. Each *_bytes function returns the size that the
// matching call needs, in bytes. Contents need not be kept between calls, except for Centres::memory.
struct Workspace {
  void* data;
  int64_t bytes;
};

// Workspace of class_stats and add_rows for a matrix of n rows.
int64_t stats_bytes(int64_t n, int64_t d, int64_t n_classes);
// Pass 1 of one matrix. x: (n, d), any dtype; y: (n,) int64, int32 or uint8. Overwrites stats: count (C,) int64, mean
// (C, d) and scatter (C,) float64. Sums are float64. The mean of a class without rows is NaN and its scatter is 0.
// Bad labels: the host does not wait for the device, so a label outside [0, C) cannot raise an exception. It marks the
// statistics as invalid instead: every count is -1 - i, with i the index of the first such row, and every mean and
// scatter is NaN.
void class_stats(const Matrix& x, const Labels& y, int64_t n_classes, const ClassStats& stats,
                 const Workspace& workspace, cudaStream_t stream);
// Pass 1, update: adds the rows to `stats` (in and out). The mean of a class with count 0 is not read. Unlike on the
// CPU, it becomes NaN if the class still has no rows. Bad labels are handled as in class_stats. Statistics that were
// marked as invalid by an earlier batch stay unchanged.
void add_rows(const Matrix& x, const Labels& y, int64_t n_classes, const ClassStats& stats, const Workspace& workspace,
              cudaStream_t stream);

// Class means and the tables that prepare() derives from them, for pass 2 of any number of batches. Not owning: the
// caller keeps `mean` and `memory` valid and unchanged for as long as class_scores uses them. A class whose mean is not
// finite is inactive, as on the CPU.
struct Centres {
  const double* mean;  // (C, d) float64
  int64_t n_classes, d;
  bool wide, gram;   // wide: the features are float64, and so are the scores; gram: tables for the Gram are included
  Workspace memory;  // centres_bytes() bytes
};
// Size of Centres::memory. `wide` and `gram` as in Centres.
int64_t centres_bytes(int64_t n_classes, int64_t d, bool wide, bool gram);
// Fills centres.memory from centres.mean. Must run before class_scores on the same stream, or be ordered before it.
void prepare(const Centres& centres, cudaStream_t stream);

// Workspace of class_scores for a matrix of n rows. `wide` and `gram` as in Centres.
int64_t scores_bytes(int64_t n, int64_t n_classes, int64_t d, bool wide, bool gram);
// Pass 2: overwrites the arrays of `out` (ClassScores in class_stats.hpp). x.d must be centres.d, and x must be float64
// exactly if centres.wide. out.nearest must not be null if n > 0. Set out.gram and out.directional exactly if
// centres.gram; labels y (n,) are read only then. A label outside [0, C) does not affect `nearest`; it makes every
// entry of gram and directional NaN.
void class_scores(const Matrix& x, const Labels& y, const Centres& centres, const ClassScores& out,
                  const Workspace& workspace, cudaStream_t stream);

// Workspace of cdnv.
int64_t cdnv_bytes(int64_t n_classes);
// Class-distance normalised variance, as defined in class_stats.hpp. Inputs: count (C,), mean (C, d), scatter (C,).
// Output: value (1,) float64. Statistics that are marked as invalid give NaN.
void cdnv(const int64_t* count, const double* mean, const double* scatter, int64_t n_classes, int64_t d, double* value,
          const Workspace& workspace, cudaStream_t stream);

}  // namespace ncharness::cuda
