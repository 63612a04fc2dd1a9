// The device code as a library that ctypes can call, with the arguments of csrc/bindings_cuda.cpp one by one. Functions
// that compute return an error message, or null.
#include "../../../csrc/cuda.hpp"

#include <exception>
#include <stdexcept>
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

#define FEATURES const void *data, int dtype, int64_t n, int64_t d, int64_t row_stride
#define LABELS const void *label_data, int label_type
#define MEMORY(name) void *name, int64_t name##_bytes
#define X \
  { data, static_cast<DType>(dtype), n, d, row_stride }
#define Y \
  { label_data, static_cast<LabelType>(label_type) }

extern "C" {

int64_t cuda_stats_bytes(int64_t n, int64_t d, int64_t n_classes) { return cuda::stats_bytes(n, d, n_classes); }
int64_t cuda_centres_bytes(int64_t n_classes, int64_t d, int wide, int gram) {
  return cuda::centres_bytes(n_classes, d, wide, gram);
}
int64_t cuda_scores_bytes(int64_t n, int64_t n_classes, int64_t d, int wide, int gram) {
  return cuda::scores_bytes(n, n_classes, d, wide, gram);
}
int64_t cuda_cdnv_bytes(int64_t n_classes) { return cuda::cdnv_bytes(n_classes); }

const char* cuda_class_stats(FEATURES, LABELS, int64_t n_classes, int64_t* count, double* mean, double* scatter,
                             MEMORY(scratch), cudaStream_t stream) {
  return guarded([&] { cuda::class_stats(X, Y, n_classes, {count, mean, scatter}, {scratch, scratch_bytes}, stream); });
}

const char* cuda_add_rows(FEATURES, LABELS, int64_t n_classes, int64_t* count, double* mean, double* scatter,
                          MEMORY(scratch), cudaStream_t stream) {
  return guarded([&] { cuda::add_rows(X, Y, n_classes, {count, mean, scatter}, {scratch, scratch_bytes}, stream); });
}

const char* cuda_prepare(const double* mean, int64_t n_classes, int64_t d, int wide, int gram, MEMORY(centres),
                         cudaStream_t stream) {
  return guarded([&] {
    cuda::prepare({mean, n_classes, d, wide != 0, gram != 0, {centres, centres_bytes}}, stream);
  });
}

const char* cuda_class_scores(FEATURES, LABELS, const double* mean, int64_t n_classes, int gram_wanted, MEMORY(centres),
                              int64_t* nearest, double* gram, double* directional, MEMORY(scratch),
                              cudaStream_t stream) {
  return guarded([&] {
    const bool wide = static_cast<DType>(dtype) == DType::float64;
    cuda::class_scores(X, Y, {mean, n_classes, d, wide, gram_wanted != 0, {centres, centres_bytes}},
                       {nearest, gram, directional}, {scratch, scratch_bytes}, stream);
  });
}

const char* cuda_cdnv(const int64_t* count, const double* mean, const double* scatter, int64_t n_classes, int64_t d,
                      double* value, MEMORY(scratch), cudaStream_t stream) {
  return guarded([&] { cuda::cdnv(count, mean, scatter, n_classes, d, value, {scratch, scratch_bytes}, stream); });
}
}
