// What the device code has in common: launches whose errors become exceptions, a workspace handed out in pieces, loads
// of every input type, sums over a warp.
#pragma once

#include <cuda_bf16.h>
#include <cuda_fp16.h>

#include <algorithm>
#include <stdexcept>
#include <string>

#include "cuda.hpp"

namespace ncharness::cuda {

constexpr int warp_lanes = 32;

inline void succeed(cudaError_t status, const char* what) {
  if (status == cudaSuccess) return;
  cudaGetLastError();  // is not left for an innocent call to find
  throw std::runtime_error(std::string("CUDA: ") + what + ": " + cudaGetErrorString(status));
}

// Of the current device.
inline int attribute(cudaDeviceAttr which) {
  int device = 0, value = 0;
  succeed(cudaGetDevice(&device), "cudaGetDevice");
  succeed(cudaDeviceGetAttribute(&value, which, device), "cudaDeviceGetAttribute");
  return value;
}

// More shared memory than a block gets unasked: all there is, so that calls from several threads do not take from each
// other what they need.
template <class Kernel>
void allow_shared(const char* name, Kernel kernel, size_t bytes) {
  if (bytes <= 48 << 10) return;
  const int most = attribute(cudaDevAttrMaxSharedMemoryPerBlockOptin);
  succeed(cudaFuncSetAttribute(kernel, cudaFuncAttributeMaxDynamicSharedMemorySize, most), name);
}

template <class... Parameters, class... Arguments>
void launch(const char* name, void (*kernel)(Parameters...), dim3 grid, int threads, size_t shared_bytes,
            cudaStream_t stream, Arguments... arguments) {
  if (grid.x == 0 || grid.y == 0) return;
  cudaLaunchConfig_t config = {};
  config.gridDim = grid;
  config.blockDim = dim3(static_cast<unsigned>(threads));
  config.dynamicSmemBytes = shared_bytes;
  config.stream = stream;
  allow_shared(name, kernel, shared_bytes);
  succeed(cudaLaunchKernelEx(&config, kernel, static_cast<Parameters>(arguments)...), name);
}

// Pieces of the workspace, or with a null one, their sizes.
class Pieces {
 public:
  explicit Pieces(const Workspace& workspace) : data_(static_cast<char*>(workspace.data)), left_(workspace.bytes) {}

  template <class T>
  T* take(int64_t size) {
    const int64_t bytes = (size * static_cast<int64_t>(sizeof(T)) + 255) / 256 * 256;
    T* piece = data_ ? reinterpret_cast<T*>(data_ + used_) : nullptr;
    used_ += bytes;
    if (data_ && used_ > left_) throw std::invalid_argument("workspace: too small");
    return piece;
  }

  int64_t used() const { return used_; }

 private:
  char* data_;
  int64_t left_;
  int64_t used_ = 0;
};

inline __device__ double wide(double value) { return value; }
inline __device__ double wide(float value) { return value; }
inline __device__ double wide(__half value) { return __half2float(value); }
inline __device__ double wide(__nv_bfloat16 value) { return __bfloat162float(value); }
inline __device__ double scored(double value) { return value; }
inline __device__ float scored(float value) { return value; }
inline __device__ float scored(__half value) { return __half2float(value); }
inline __device__ float scored(__nv_bfloat16 value) { return __bfloat162float(value); }

// Bytes of scratch beyond which rows are taken in several goes.
#ifdef NCHARNESS_EMULATION
constexpr int64_t scratch_at_a_time = 16 << 10;  // so that small tests see several
#else
constexpr int64_t scratch_at_a_time = 32 << 20;
#endif

#ifndef NCHARNESS_EMULATION
// What the launch asked for.
inline __device__ char* dynamic_shared() {
  extern __shared__ __align__(128) char bytes[];
  return bytes;
}
#endif

// As many elements as 16 bytes hold.
template <class T>
struct alignas(16) Vector {
  static constexpr int size = 16 / static_cast<int>(sizeof(T));
  T value[size];
};

// Columns [j, j + size) of a row, zeros beyond `d`; `whole` says that every row begins on 16 bytes.
template <class T>
__device__ Vector<T> load(const T* row, int64_t j, int64_t d, bool whole) {
  constexpr int size = Vector<T>::size;
  if (whole && j + size <= d) return *reinterpret_cast<const Vector<T>*>(row + j);
  Vector<T> some;
  for (int k = 0; k < size; ++k) some.value[k] = j + k < d ? row[j + k] : T(0.0f);
  return some;
}

// Whether every row begins where `size` elements can be loaded at once.
template <class T>
bool rows_are_whole(const Matrix& x, int size) {
  return reinterpret_cast<uintptr_t>(x.data) % (sizeof(T) * static_cast<size_t>(size)) == 0 && x.row_stride % size == 0;
}

inline unsigned blocks_of(int64_t n, int64_t per_block) {
  return static_cast<unsigned>((n + per_block - 1) / per_block);
}

// Calls work(T*) for the type of the features.
template <class Work>
void with_type(const Matrix& x, const Work& work) {
  if (x.dtype == DType::float32) work(static_cast<const float*>(x.data));
  if (x.dtype == DType::float64) work(static_cast<const double*>(x.data));
  if (x.dtype == DType::float16) work(static_cast<const __half*>(x.data));
  if (x.dtype == DType::bfloat16) work(static_cast<const __nv_bfloat16*>(x.data));
}

constexpr unsigned all_lanes = 0xffffffffu;

// The same in every lane, in an order that depends on nothing.
template <class T>
__device__ T warp_sum(T value) {
  for (int apart = warp_lanes / 2; apart > 0; apart /= 2) value += __shfl_xor_sync(all_lanes, value, apart);
  return value;
}

// Over a block of Threads; valid in thread 0. Every thread of the block must come here.
template <int Threads>
__device__ double block_sum(double value) {
  __shared__ double parts[Threads / warp_lanes];
  value = warp_sum(value);
  __syncthreads();  // the parts of a sum before this one have been read
  if (threadIdx.x % warp_lanes == 0) parts[threadIdx.x / warp_lanes] = value;
  __syncthreads();
  if (threadIdx.x == 0)
    for (int warp = 1; warp < Threads / warp_lanes; ++warp) value += parts[warp];
  return value;
}

}  // namespace ncharness::cuda
