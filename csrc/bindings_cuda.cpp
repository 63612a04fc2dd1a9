// The device's passes for Python: addresses of device memory, a workspace and a stream, as integers.
#include <pybind11/pybind11.h>

#include "addresses.hpp"
#include "cuda.hpp"

namespace py = pybind11;

namespace ncharness {
namespace {

cuda::Workspace workspace(uintptr_t data, int64_t bytes) {
  check(data != 0 && data % 256 == 0, "workspace: the address is null or not aligned to 256 bytes");
  return {reinterpret_cast<void*>(data), bytes};
}

cudaStream_t stream_at(uintptr_t stream) { return reinterpret_cast<cudaStream_t>(stream); }

void check_rows(const Matrix& x) {
  check(x.n <= INT32_MAX, "features: expected fewer than 2^31 rows, got " + std::to_string(x.n));
}

template <void (*Pass)(const Matrix&, const Labels&, int64_t, const ClassStats&, int64_t*, const cuda::Workspace&,
                       cudaStream_t)>
void py_stats(const Features& features, const Classes& classes, int64_t n_classes, uintptr_t count, uintptr_t mean,
              uintptr_t scatter, uintptr_t first_bad, uintptr_t data, int64_t bytes, uintptr_t stream) {
  const Matrix x = matrix(features);
  check_rows(x);
  check_sizes(n_classes, x.d, 1);
  check(first_bad != 0, "first_bad: the address is null");
  Pass(x, labels(classes, x.n), n_classes, stats(count, mean, scatter), at<int64_t>(first_bad, "first_bad"),
       workspace(data, bytes), stream_at(stream));
}

void py_nearest(const Features& features, uintptr_t mean, int64_t n_classes, uintptr_t nearest, uintptr_t data,
                int64_t bytes, uintptr_t stream) {
  const Matrix x = matrix(features);
  check_sizes(n_classes, x.d, 1);
  check(mean != 0, "mean: the address is null");
  check(x.n == 0 || nearest != 0, "nearest: the address is null");
  cuda::nearest(x, at<double>(mean, "mean"), n_classes, at<int64_t>(nearest, "nearest"), workspace(data, bytes),
                stream_at(stream));
}

}  // namespace
}  // namespace ncharness

void bind_cuda(py::module_& m) {
  m.def("cuda_class_stats", &ncharness::py_stats<ncharness::cuda::class_stats>);
  m.def("cuda_add_rows", &ncharness::py_stats<ncharness::cuda::add_rows>);
  m.def("cuda_stats_bytes", &ncharness::cuda::stats_bytes);  // of n, d, C
  m.def("cuda_nearest", &ncharness::py_nearest);
  m.def("cuda_scores_bytes", &ncharness::cuda::scores_bytes);  // of d, C
}
