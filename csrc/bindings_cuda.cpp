// Python bindings of the CUDA kernels (pybind11). Device addresses, workspaces and streams are passed as integers. Each
// function checks its arguments, releases the GIL and enqueues the work.
#include <pybind11/pybind11.h>

#include "addresses.hpp"
#include "cuda.hpp"

namespace py = pybind11;

namespace ncharness {
namespace {

using Memory = std::tuple<uintptr_t, int64_t>;  // address, bytes

cuda::Workspace workspace(const Memory& memory) {
  const auto [data, bytes] = memory;
  check(data % 256 == 0 && (data != 0 || bytes == 0), "workspace: the address is null or not aligned to 256 bytes");
  return {reinterpret_cast<void*>(data), bytes};
}

cudaStream_t stream_at(uintptr_t stream) { return reinterpret_cast<cudaStream_t>(stream); }

// Raises ValueError if the workspace is smaller than `bytes`.
void enough(const cuda::Workspace& memory, int64_t bytes) {
  check(memory.bytes >= bytes,
        "workspace: expected " + std::to_string(bytes) + " bytes, got " + std::to_string(memory.bytes));
}

// The device code stores row and class indices as int32, so n is limited here; check_sizes() limits n_classes.
Matrix device_matrix(const Features& features, int64_t n_classes) {
  const Matrix x = matrix(features);
  check(x.n <= INT32_MAX, "features: expected fewer than 2^31 rows, got " + std::to_string(x.n));
  check_sizes(n_classes, x.d, 1);
  return x;
}

template <void (*Pass)(const Matrix&, const Labels&, int64_t, const ClassStats&, const cuda::Workspace&, cudaStream_t)>
void py_stats(const Features& features, const Classes& classes, int64_t n_classes, uintptr_t count, uintptr_t mean,
              uintptr_t scatter, const Memory& memory, uintptr_t stream) {
  const Matrix x = device_matrix(features, n_classes);
  const Labels y = labels(classes, x.n);
  const ClassStats of = stats(count, mean, scatter);
  const cuda::Workspace scratch = workspace(memory);
  enough(scratch, cuda::stats_bytes(x.n, x.d, n_classes));
  py::gil_scoped_release release;
  Pass(x, y, n_classes, of, scratch, stream_at(stream));
}

// The result keeps the address of the means, so they must stay valid for as long as the centres are used. `wide`: the
// features are float64.
cuda::Centres centres(uintptr_t mean, int64_t n_classes, int64_t d, bool wide, bool gram, const Memory& memory) {
  check_sizes(n_classes, d, 1);
  check(mean != 0, "mean: the address is null");
  const cuda::Workspace prepared = workspace(memory);
  enough(prepared, cuda::centres_bytes(n_classes, d, wide, gram));
  return {at<double>(mean, "mean"), n_classes, d, wide, gram, prepared};
}

void py_prepare(uintptr_t mean, int64_t n_classes, int64_t d, bool wide, bool gram, const Memory& memory,
                uintptr_t stream) {
  const cuda::Centres of = centres(mean, n_classes, d, wide, gram, memory);
  py::gil_scoped_release release;
  cuda::prepare(of, stream_at(stream));
}

void py_scores(const Features& features, const Classes& classes, uintptr_t mean, int64_t n_classes, bool with_gram,
               const Memory& prepared, uintptr_t nearest, uintptr_t gram, uintptr_t directional, const Memory& memory,
               uintptr_t stream) {
  const Matrix x = device_matrix(features, n_classes);
  const bool wide = x.dtype == DType::float64;
  const cuda::Centres of = centres(mean, n_classes, x.d, wide, with_gram, prepared);
  check((gram != 0) == with_gram && (directional != 0) == with_gram, "gram: wanted and prepared for must agree");
  check(x.n == 0 || nearest != 0, "nearest: the address is null");
  const Labels y = with_gram ? labels(classes, x.n) : Labels{nullptr, LabelType::int64};
  const cuda::Workspace scratch = workspace(memory);
  enough(scratch, cuda::scores_bytes(x.n, n_classes, x.d, wide, with_gram));
  py::gil_scoped_release release;
  cuda::class_scores(
      x, y, of, {at<int64_t>(nearest, "nearest"), at<double>(gram, "gram"), at<double>(directional, "directional")},
      scratch, stream_at(stream));
}

void py_cdnv(uintptr_t count, uintptr_t mean, uintptr_t scatter, int64_t n_classes, int64_t d, uintptr_t value,
             const Memory& memory, uintptr_t stream) {
  check_sizes(n_classes, d, 1);
  const ClassStats of = stats(count, mean, scatter);
  check(value != 0, "value: the address is null");
  const cuda::Workspace scratch = workspace(memory);
  enough(scratch, cuda::cdnv_bytes(n_classes));
  py::gil_scoped_release release;
  cuda::cdnv(of.count, of.mean, of.scatter, n_classes, d, at<double>(value, "value"), scratch, stream_at(stream));
}

}  // namespace
}  // namespace ncharness

void bind_cuda(py::module_& m) {
  namespace cuda = ncharness::cuda;
  m.def("cuda_class_stats", &ncharness::py_stats<cuda::class_stats>);
  m.def("cuda_add_rows", &ncharness::py_stats<cuda::add_rows>);
  m.def("cuda_stats_bytes", &cuda::stats_bytes);  // arguments: n, d, C
  m.def("cuda_prepare", &ncharness::py_prepare);
  m.def("cuda_centres_bytes", &cuda::centres_bytes);  // arguments: C, d, wide, gram
  m.def("cuda_class_scores", &ncharness::py_scores);
  m.def("cuda_scores_bytes", &cuda::scores_bytes);  // arguments: n, C, d, wide, gram
  m.def("cuda_cdnv", &ncharness::py_cdnv);
  m.def("cuda_cdnv_bytes", &cuda::cdnv_bytes);  // argument: C
}
