// The passes on a CUDA device: the contract of class_stats.hpp, with addresses of device memory, a workspace, and the
// caller's stream, on which everything is enqueued. Nothing here waits for the device.
#pragma once

#include <cuda_runtime_api.h>

#include <cstdint>

#include "class_stats.hpp"

namespace ncharness::cuda {

struct Workspace {
  void* data;
  int64_t bytes;
};

// How much a call needs, 256-byte aligned.
int64_t stats_bytes(int64_t n, int64_t d, int64_t n_classes);
int64_t scores_bytes(int64_t d, int64_t n_classes);

// As the functions of these names for the CPU. `first_bad` (1,) gets the index of the first label outside
// [0, n_classes), or n; rows with such labels are left out, so the caller who looks there decides what becomes of them.
void class_stats(const Matrix& x, const Labels& y, int64_t n_classes, const ClassStats& stats, int64_t* first_bad,
                 const Workspace& workspace, cudaStream_t stream);
void add_rows(const Matrix& x, const Labels& y, int64_t n_classes, const ClassStats& stats, int64_t* first_bad,
              const Workspace& workspace, cudaStream_t stream);

// Pass 2 without a Gram: nearest (n,) for means (C, d).
void nearest(const Matrix& x, const double* mean, int64_t n_classes, int64_t* nearest, const Workspace& workspace,
             cudaStream_t stream);

}  // namespace ncharness::cuda
