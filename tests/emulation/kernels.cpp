// The device code as a library that ctypes can call: addresses and sizes in, an error message or null out.
#include "../../csrc/cuda.hpp"

#include <exception>
#include <memory>
#include <string>

using namespace ncharness;

namespace {

std::string message;

template <class Work>
const char* guarded(const Work& work) {
  try {
    work();
    return nullptr;
  } catch (const std::exception& error) {
    message = error.what();
    return message.c_str();
  }
}

}  // namespace

extern "C" {

const char* add_rows(const void* data, int dtype, int64_t n, int64_t d, int64_t row_stride, const void* labels,
                     int label_type, int64_t n_classes, int fresh, int64_t* count, double* mean, double* scatter,
                     int64_t* first_bad) {
  return guarded([&] {
    const int64_t bytes = cuda::stats_bytes(n, d, n_classes);
    const std::unique_ptr<char[]> workspace(new char[static_cast<size_t>(bytes)]);
    std::memset(workspace.get(), 0xff, static_cast<size_t>(bytes));
    (fresh ? cuda::class_stats : cuda::add_rows)({data, static_cast<DType>(dtype), n, d, row_stride},
                                                 {labels, static_cast<LabelType>(label_type)}, n_classes,
                                                 {count, mean, scatter}, first_bad, {workspace.get(), bytes}, nullptr);
  });
}

const char* nearest(const void* data, int dtype, int64_t n, int64_t d, int64_t row_stride, const double* mean,
                    int64_t n_classes, int64_t* found) {
  return guarded([&] {
    const int64_t bytes = cuda::scores_bytes(d, n_classes);
    const std::unique_ptr<char[]> workspace(new char[static_cast<size_t>(bytes)]);
    std::memset(workspace.get(), 0xff, static_cast<size_t>(bytes));
    cuda::nearest({data, static_cast<DType>(dtype), n, d, row_stride}, mean, n_classes, found, {workspace.get(), bytes},
                  nullptr);
  });
}
}
