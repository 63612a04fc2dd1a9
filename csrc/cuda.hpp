// The passes on a CUDA device: the contract of class_stats.hpp, with addresses of device memory, a workspace, and the
// caller's stream, on which everything is enqueued. Nothing here waits for the device or allocates on it, so that calls
// can be captured in a graph.
#pragma once

#include <cuda_runtime_api.h>

#include <cstdint>

#include "class_stats.hpp"

namespace ncharness::cuda {

// Scratch memory of the caller's, 256-byte aligned; the functions named ..._bytes say how much a call needs.
struct Workspace {
  void* data;
  int64_t bytes;
};

// Pass 1, as the functions of these names for the CPU. Nobody waits to look at labels: one outside [0, n_classes)
// spoils the statistics. Then every count is -1 - i, i the first such row, every mean and scatter NaN, and so they
// stay.
int64_t stats_bytes(int64_t n, int64_t d, int64_t n_classes);
void class_stats(const Matrix& x, const Labels& y, int64_t n_classes, const ClassStats& stats,
                 const Workspace& workspace, cudaStream_t stream);
void add_rows(const Matrix& x, const Labels& y, int64_t n_classes, const ClassStats& stats, const Workspace& workspace,
              cudaStream_t stream);

// Class means (C, d) and what was made of them, in memory of the caller's, for pass 2 of any number of batches.
struct Centres {
  const double* mean;
  int64_t n_classes, d;
  bool wide, gram;  // for float64 features; for a Gram
  Workspace memory;
};
int64_t centres_bytes(int64_t n_classes, int64_t d, bool wide, bool gram);
void prepare(const Centres& centres, cudaStream_t stream);

// Pass 2. A label outside [0, n_classes) makes NaN of the Gram.
int64_t scores_bytes(int64_t n, int64_t n_classes, int64_t d, bool wide, bool gram);
void class_scores(const Matrix& x, const Labels& y, const Centres& centres, const ClassScores& out,
                  const Workspace& workspace, cudaStream_t stream);

// As for the CPU, into device memory.
int64_t cdnv_bytes(int64_t n_classes);
void cdnv(const int64_t* count, const double* mean, const double* scatter, int64_t n_classes, int64_t d, double* value,
          const Workspace& workspace, cudaStream_t stream);

}  // namespace ncharness::cuda
