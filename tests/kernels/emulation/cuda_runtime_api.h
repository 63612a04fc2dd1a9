// As much of CUDA as csrc/*.cu use, on the CPU: the threads of a block are fibres of one thread, which change places
// where they meet, and blocks run one after the other. It finds wrong indices, missing barriers' deadlocks and wrong
// answers, not races, and says nothing of speed.
#pragma once

#include <setjmp.h>
#include <ucontext.h>

#include <cmath>
#include <cstdint>
#include <cstdlib>
#include <cstring>
#include <functional>
#include <memory>
#include <vector>

#define NCHARNESS_EMULATION
#define __global__
#define __device__
#define __host__
#define __shared__ static
#define __launch_bounds__(...)
#define __forceinline__ inline

struct dim3 {
  unsigned x = 1, y = 1, z = 1;
  dim3(unsigned x_ = 1, unsigned y_ = 1, unsigned z_ = 1) : x(x_), y(y_), z(z_) {}
};

namespace emulation {

struct Fibre {
  ucontext_t context;  // to begin with
  jmp_buf place;       // to go on from: changing places so takes no system call
  std::unique_ptr<char[]> stack;
  bool begun = false, done = false;
};

struct Meeting {
  int arrived = 0, generation = 0;
};

struct Block {
  std::vector<Fibre> fibres;
  std::vector<Meeting> warps;
  Meeting all;
  std::vector<uint64_t> slots;  // [fibre]
  jmp_buf scheduler;
  std::function<void()> body;
  int current = 0, n_done = 0;
  dim3 index, size, grid;
  alignas(128) char shared[256 << 10];
};

inline Block block;

inline void yield() {
  if (!_setjmp(block.fibres[static_cast<size_t>(block.current)].place)) _longjmp(block.scheduler, 1);
}

inline void resume(Fibre& fibre) {
  if (_setjmp(block.scheduler)) return;
  if (fibre.begun) _longjmp(fibre.place, 1);
  fibre.begun = true;
  setcontext(&fibre.context);
}

inline void meet(Meeting& meeting, int expected) {
  const int generation = meeting.generation;
  if (++meeting.arrived == expected) {
    meeting.arrived = 0;
    ++meeting.generation;
    return;
  }
  while (meeting.generation == generation) yield();
}

inline void enter() {
  block.body();
  block.fibres[static_cast<size_t>(block.current)].done = true;
  ++block.n_done;
  yield();
}

inline void run(dim3 grid, int threads, const std::function<void()>& body) {
  block.body = body;
  block.size = dim3(static_cast<unsigned>(threads));
  block.grid = grid;
  block.fibres.resize(static_cast<size_t>(threads));
  for (unsigned b = 0; b < grid.x * grid.y; ++b) {
    block.index = dim3(b % grid.x, b / grid.x, 0);
    block.warps.assign(static_cast<size_t>(threads + 31) / 32, Meeting());
    block.all = Meeting();
    block.slots.assign(static_cast<size_t>(threads), 0);
    block.n_done = 0;
    std::memset(block.shared, 0xff, sizeof(block.shared));  // NaN: nothing may count on what was there
    for (Fibre& fibre : block.fibres) {
      constexpr size_t bytes = 64 << 10;
      if (!fibre.stack) fibre.stack.reset(new char[bytes]);
      fibre.begun = fibre.done = false;
      getcontext(&fibre.context);
      fibre.context.uc_stack.ss_sp = fibre.stack.get();
      fibre.context.uc_stack.ss_size = bytes;
      fibre.context.uc_link = nullptr;
      makecontext(&fibre.context, enter, 0);
    }
    while (block.n_done < threads)
      for (int i = 0; i < threads; ++i) {
        // From the last to the first in every other block: an order nobody may count on.
        block.current = b % 2 ? threads - 1 - i : i;
        Fibre& fibre = block.fibres[static_cast<size_t>(block.current)];
        if (!fibre.done) resume(fibre);
      }
  }
}

struct ThreadIndex {
  struct X {
    operator unsigned() const { return static_cast<unsigned>(block.current); }
  } x;
};

}  // namespace emulation

inline emulation::ThreadIndex threadIdx;
inline dim3& blockIdx = emulation::block.index;
inline dim3& blockDim = emulation::block.size;
inline dim3& gridDim = emulation::block.grid;

inline char* dynamic_shared() { return emulation::block.shared; }

inline void __syncthreads() { emulation::meet(emulation::block.all, static_cast<int>(blockDim.x)); }

namespace emulation {
// Every lane of a warp offers a value, then `look` may read those of others by thread.
template <class T, class Look>
auto exchange(T value, const Look& look) {
  const int own = block.current;
  Meeting& warp = block.warps[static_cast<size_t>(own / 32)];
  std::memcpy(&block.slots[static_cast<size_t>(own)], &value, sizeof(T));
  meet(warp, 32);
  const auto found = look(own, [](int thread) {
    T theirs;
    std::memcpy(&theirs, &block.slots[static_cast<size_t>(thread)], sizeof(T));
    return theirs;
  });
  meet(warp, 32);
  return found;
}
}  // namespace emulation

template <class T>
T __shfl_xor_sync(unsigned, T value, int apart) {
  return emulation::exchange(value, [=](int own, auto of) { return of(own ^ apart); });
}
template <class T>
T __shfl_sync(unsigned, T value, int lane) {
  return emulation::exchange(value, [=](int own, auto of) { return of(own / 32 * 32 + lane); });
}
inline unsigned __ballot_sync(unsigned, int value) {
  return emulation::exchange(value, [](int own, auto of) {
    unsigned found = 0;
    for (int lane = 0; lane < 32; ++lane) found |= static_cast<unsigned>(of(own / 32 * 32 + lane) != 0) << lane;
    return found;
  });
}

template <class T>
T atomicMin(T* at, T value) {
  const T before = *at;
  if (value < before) *at = value;
  return before;
}
template <class T>
T atomicMax(T* at, T value) {
  const T before = *at;
  if (value > before) *at = value;
  return before;
}
inline long long __double_as_longlong(double value) {
  long long bits = 0;
  std::memcpy(&bits, &value, sizeof(bits));
  return bits;
}
inline double __longlong_as_double(long long bits) {
  double value = 0;
  std::memcpy(&value, &bits, sizeof(value));
  return value;
}
inline int64_t min(int64_t a, int64_t b) { return a < b ? a : b; }
inline int64_t max(int64_t a, int64_t b) { return a > b ? a : b; }
using std::isfinite;
using std::nan;
using std::sqrt;

// --- the runtime ---

using cudaError_t = int;
using cudaStream_t = void*;
enum { cudaSuccess = 0, cudaErrorInvalidValue = 1 };
enum { cudaFuncAttributeMaxDynamicSharedMemorySize };
enum cudaDeviceAttr { cudaDevAttrMultiProcessorCount, cudaDevAttrMaxSharedMemoryPerBlockOptin };
struct cudaLaunchConfig_t {
  dim3 gridDim, blockDim;
  size_t dynamicSmemBytes = 0;
  cudaStream_t stream = nullptr;
};
inline cudaError_t cudaGetLastError() { return cudaSuccess; }
inline const char* cudaGetErrorString(cudaError_t) { return "invalid value"; }
template <class Kernel>
cudaError_t cudaFuncSetAttribute(Kernel, int, int bytes) {
  return bytes <= 227 << 10 ? cudaSuccess : cudaErrorInvalidValue;
}
inline cudaError_t cudaGetDevice(int* device) { return *device = 0, cudaSuccess; }
inline cudaError_t cudaDeviceGetAttribute(int* value, cudaDeviceAttr which, int) {
  return *value = which == cudaDevAttrMultiProcessorCount ? 2 : 227 << 10, cudaSuccess;
}
template <class Kernel>
cudaError_t cudaOccupancyMaxActiveBlocksPerMultiprocessor(int* blocks, Kernel, int, size_t) {
  return *blocks = 1, cudaSuccess;
}
template <class... Parameters>
cudaError_t cudaLaunchKernelEx(const cudaLaunchConfig_t* config, void (*kernel)(Parameters...), Parameters... arguments) {
  emulation::run(config->gridDim, static_cast<int>(config->blockDim.x), [=] { kernel(arguments...); });
  return cudaSuccess;
}
