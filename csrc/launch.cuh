// Helpers shared by all CUDA kernels. There are no kernels in this file.
//   launch()                  kernel launch with opt-in shared memory; errors become exceptions
//   Pieces                    divides a workspace into aligned pieces
//   load(), wide(), scored()  16-byte coalesced loads of a row, conversions of elements
//   warp_sum()                sum over the 32 lanes of a warp, by shuffles; uses no shared memory
//   block_sum<Threads>()      sum over a block; uses Threads / 32 doubles of static shared memory
#pragma once

#include <cuda_bf16.h>
#include <cuda_fp16.h>

#include <algorithm>
#include <stdexcept>
#include <string>

#include "cuda.hpp"

namespace ncharness::cuda {

constexpr int warp_lanes = 32;

// Throws std::runtime_error unless `status` is success. `what` names the failed call.
inline void succeed(cudaError_t status, const char* what) {
  if (status == cudaSuccess) return;
  cudaGetLastError();  // clears the error, so that later calls do not report it
  throw std::runtime_error(std::string("CUDA: ") + what + ": " + cudaGetErrorString(status));
}

// Attribute of the current device.
inline int attribute(cudaDeviceAttr which) {
  int device = 0, value = 0;
  succeed(cudaGetDevice(&device), "cudaGetDevice");
  succeed(cudaDeviceGetAttribute(&value, which, device), "cudaDeviceGetAttribute");
  return value;
}

// Allows a kernel more than 48 KiB of dynamic shared memory. The limit is a property of the kernel, shared by all host
// threads. It is therefore always set to the maximum of the device: a smaller limit, set by one thread, could make a
// launch of another thread fail.
template <class Kernel>
void allow_shared(const char* name, Kernel kernel, size_t bytes) {
  if (bytes <= 48 << 10) return;
  const int most = attribute(cudaDevAttrMaxSharedMemoryPerBlockOptin);
  succeed(cudaFuncSetAttribute(kernel, cudaFuncAttributeMaxDynamicSharedMemorySize, most), name);
}

// Launches a kernel with a one-dimensional block. An empty grid is not launched. `name` is for error messages.
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

// Divides a workspace into pieces aligned to 256 bytes. With a null workspace it only adds up the sizes.
class Pieces {
 public:
  explicit Pieces(const Workspace& workspace) : data_(static_cast<char*>(workspace.data)), left_(workspace.bytes) {}

  // The next piece, of `size` elements; null with a null workspace. Throws std::invalid_argument if it does not fit.
  template <class T>
  T* take(int64_t size) {
    const int64_t bytes = (size * static_cast<int64_t>(sizeof(T)) + 255) / 256 * 256;
    T* piece = data_ ? reinterpret_cast<T*>(data_ + used_) : nullptr;
    used_ += bytes;
    if (data_ && used_ > left_) throw std::invalid_argument("workspace: too small");
    return piece;
  }

  // Bytes of all pieces so far.
  int64_t used() const { return used_; }

 private:
  char* data_;
  int64_t left_;
  int64_t used_ = 0;
};

// wide(): an element converted to float64. (The flag `wide` elsewhere says that the features are float64.)
// scored(): an element in the type of the scores, float32, or float64 for float64 elements. Both conversions are exact.
inline __device__ double wide(double value) { return value; }
inline __device__ double wide(float value) { return value; }
inline __device__ double wide(__half value) { return __half2float(value); }
inline __device__ double wide(__nv_bfloat16 value) { return __bfloat162float(value); }
inline __device__ double scored(double value) { return value; }
inline __device__ float scored(float value) { return value; }
inline __device__ float scored(__half value) { return __half2float(value); }
inline __device__ float scored(__nv_bfloat16 value) { return __bfloat162float(value); }

// Limit in bytes of the scratch for per-row results. If more is needed, rows are processed in several chunks.
#ifdef NCHARNESS_EMULATION
constexpr int64_t scratch_at_a_time = 16 << 10;  // small, so that small tests have several chunks
#else
constexpr int64_t scratch_at_a_time = 32 << 20;
#endif

#ifndef NCHARNESS_EMULATION
// The dynamic shared memory of the block; its size is an argument of the launch.
inline __device__ char* dynamic_shared() {
  extern __shared__ __align__(128) char bytes[];
  return bytes;
}
#endif

// 16 bytes of elements, for one vector load.
template <class T>
struct alignas(16) Vector {
  static constexpr int size = 16 / static_cast<int>(sizeof(T));
  T value[size];
};

// Loads columns [j, j + size) of a row, with zeros for columns >= d. `whole`: every row is aligned to 16 bytes, so a
// vector load is allowed.
template <class T>
__device__ Vector<T> load(const T* row, int64_t j, int64_t d, bool whole) {
  constexpr int size = Vector<T>::size;
  if (whole && j + size <= d) return *reinterpret_cast<const Vector<T>*>(row + j);
  Vector<T> some;
  for (int k = 0; k < size; ++k) some.value[k] = j + k < d ? row[j + k] : T(0.0f);
  return some;
}

// Whether every row is aligned to `size` elements, so that they can be loaded at once.
template <class T>
bool rows_are_whole(const Matrix& x, int size) {
  return reinterpret_cast<uintptr_t>(x.data) % (sizeof(T) * static_cast<size_t>(size)) == 0 && x.row_stride % size == 0;
}

// Number of blocks for n items, `per_block` of them in each.
inline unsigned blocks_of(int64_t n, int64_t per_block) {
  return static_cast<unsigned>((n + per_block - 1) / per_block);
}

// Dispatch on dtype: calls work(const T*) with the data pointer of the features.
template <class Work>
void with_type(const Matrix& x, const Work& work) {
  if (x.dtype == DType::float32) work(static_cast<const float*>(x.data));
  if (x.dtype == DType::float64) work(static_cast<const double*>(x.data));
  if (x.dtype == DType::float16) work(static_cast<const __half*>(x.data));
  if (x.dtype == DType::bfloat16) work(static_cast<const __nv_bfloat16*>(x.data));
}

constexpr unsigned all_lanes = 0xffffffffu;

// Sum over the lanes of a warp, in a fixed order. Every lane gets the same result. All 32 lanes must call it.
template <class T>
__device__ T warp_sum(T value) {
  for (int apart = warp_lanes / 2; apart > 0; apart /= 2) value += __shfl_xor_sync(all_lanes, value, apart);
  return value;
}

// Sum over a block of `Threads` threads, in a fixed order. The result is valid in thread 0. All threads must call it.
template <int Threads>
__device__ double block_sum(double value) {
  __shared__ double parts[Threads / warp_lanes];
  value = warp_sum(value);
  __syncthreads();  // `parts` may still be read by a previous call
  if (threadIdx.x % warp_lanes == 0) parts[threadIdx.x / warp_lanes] = value;
  __syncthreads();
  if (threadIdx.x == 0)
    for (int warp = 1; warp < Threads / warp_lanes; ++warp) value += parts[warp];
  return value;
}

}  // namespace ncharness::cuda
