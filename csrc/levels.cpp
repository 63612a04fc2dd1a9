// Run-time dispatch over instruction sets: which levels this processor supports and which one is in use.
#include "levels.hpp"

#include <atomic>
#include <stdexcept>
#include <string>

#include "class_stats.hpp"

namespace ncharness {
namespace {

// Supported kernels, best first. The portable ones are always last.
std::vector<const RowKernels*> available() {
  std::vector<const RowKernels*> found;
#ifdef NCHARNESS_X86_LEVELS
  // rows_avx2 needs AVX2, FMA and F16C. F16C comes with AVX2 on every processor; FMA is missing on a few.
  if (__builtin_cpu_supports("avx512f")) found.push_back(&rows_avx512);
  if (__builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma")) found.push_back(&rows_avx2);
#endif
  found.push_back(&rows_portable);
  return found;
}

// The kernels in use, shared by all threads.
std::atomic<const RowKernels*>& chosen() {
  static std::atomic<const RowKernels*> kernels{available().front()};
  return kernels;
}

}  // namespace

const RowKernels& kernels() { return *chosen().load(); }

std::vector<const char*> levels() {
  std::vector<const char*> names;
  for (const RowKernels* each : available()) names.push_back(each->name);
  return names;
}

const char* level() { return kernels().name; }

void set_level(const char* name) {
  for (const RowKernels* each : available())
    if (std::string(each->name) == name) {
      chosen() = each;
      return;
    }
  throw std::invalid_argument("level: this processor or this build has no '" + std::string(name) + "'");
}

}  // namespace ncharness
