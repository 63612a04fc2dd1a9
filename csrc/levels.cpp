// Which instruction sets there are, and which is in use.
#include "levels.hpp"

#include <atomic>
#include <stdexcept>
#include <string>

#include "class_stats.hpp"

namespace ncharness {
namespace {

std::vector<const RowKernels*> available() {
  std::vector<const RowKernels*> found;
#ifdef NCHARNESS_X86_LEVELS
  // Every processor with AVX2 has FMA and F16C but for a few that lack FMA.
  if (__builtin_cpu_supports("avx512f")) found.push_back(&rows_avx512);
  if (__builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma")) found.push_back(&rows_avx2);
#endif
  found.push_back(&rows_portable);
  return found;
}

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
