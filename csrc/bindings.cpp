// Python bindings of the CPU kernels (pybind11). Arguments are addresses and sizes. Each function checks them, releases
// the GIL and calls the kernel. The caller, ncharness.kernels.cpu, guarantees that the addresses point to valid memory.
#include <pybind11/pybind11.h>

#include "addresses.hpp"

namespace py = pybind11;

namespace ncharness {
namespace {

// Raises ValueError for the label at index `bad`; -1 means that all labels are valid.
void check_label(int64_t bad, const Labels& y, int64_t n_classes) {
  if (bad < 0) return;
  check(false, "labels: expected values in [0, " + std::to_string(n_classes) + "), got " +
                   std::to_string(label_at(y, bad)) + " at index " + std::to_string(bad));
}

// Pass is add_rows (update the statistics in place) or class_stats (start from empty statistics).
template <int64_t (*Pass)(const Matrix&, const Labels&, int64_t, int, const ClassStats&)>
void py_class_stats(const Features& features, const Classes& classes, int64_t n_classes, int threads, uintptr_t count,
                    uintptr_t mean, uintptr_t scatter) {
  const Matrix x = matrix(features);
  const Labels y = labels(classes, x.n);
  check_sizes(n_classes, x.d, threads);
  const ClassStats into = stats(count, mean, scatter);
  int64_t bad = 0;
  {
    py::gil_scoped_release release;
    bad = Pass(x, y, n_classes, threads, into);
  }
  check_label(bad, y, n_classes);
}

ClassScores scores(const Matrix& x, bool with_gram, uintptr_t nearest, uintptr_t gram, uintptr_t directional) {
  check((gram != 0) == with_gram && (directional != 0) == with_gram, "gram: wanted and prepared for must agree");
  check(x.n == 0 || nearest != 0, "nearest: the address is null");
  return {at<int64_t>(nearest, "nearest"), at<double>(gram, "gram"), at<double>(directional, "directional")};
}

// Both passes in one call. For a small batch, the overhead of several calls from Python would be noticeable.
void py_measure(const Features& features, const Classes& classes, int64_t n_classes, bool with_gram, int threads,
                uintptr_t count, uintptr_t mean, uintptr_t scatter, uintptr_t nearest, uintptr_t gram,
                uintptr_t directional) {
  const Matrix x = matrix(features);
  const Labels y = labels(classes, x.n);
  check_sizes(n_classes, x.d, threads);
  const ClassStats of = stats(count, mean, scatter);
  const ClassScores out = scores(x, with_gram, nearest, gram, directional);
  int64_t bad = 0;
  {
    py::gil_scoped_release release;
    bad = class_stats(x, y, n_classes, threads, of);
    if (bad < 0) {
      const Centres centres(of.mean, n_classes, x.d, x.dtype == DType::float64, with_gram, threads);
      class_scores(x, with_gram ? y : Labels{nullptr, LabelType::int64}, centres, threads, out);
    }
  }
  check_label(bad, y, n_classes);
}

// `wide`: the features to be scored are float64.
std::unique_ptr<Centres> py_centres(uintptr_t mean, int64_t n_classes, int64_t d, bool wide, bool gram, int threads) {
  check_sizes(n_classes, d, threads);
  check(mean != 0, "mean: the address is null");
  const double* means = at<double>(mean, "mean");
  py::gil_scoped_release release;
  return std::make_unique<Centres>(means, n_classes, d, wide, gram, threads);
}

void py_class_scores(const Features& features, const Classes& classes, const Centres& centres, int threads,
                     uintptr_t nearest, uintptr_t gram, uintptr_t directional) {
  const Matrix x = matrix(features);
  check_sizes(centres.n_classes(), x.d, threads);
  check(x.d == centres.d(), "features: expected " + std::to_string(centres.d()) + " columns as the centres have, got " +
                                std::to_string(x.d));
  check((x.dtype == DType::float64) == centres.wide(), "features: the centres were prepared for another dtype");
  const ClassScores out = scores(x, centres.gram(), nearest, gram, directional);
  const Labels y = centres.gram() ? labels(classes, x.n) : Labels{nullptr, LabelType::int64};
  int64_t bad = 0;
  {
    py::gil_scoped_release release;
    bad = class_scores(x, y, centres, threads, out);
  }
  check_label(bad, y, centres.n_classes());
}

double py_cdnv(uintptr_t count, uintptr_t mean, uintptr_t scatter, int64_t n_classes, int64_t d, int threads) {
  check_sizes(n_classes, d, threads);
  const ClassStats of = stats(count, mean, scatter);
  py::gil_scoped_release release;
  return cdnv(of.count, of.mean, of.scatter, n_classes, d, threads);
}

uint64_t py_read(const Features& features, int threads) {
  const Matrix x = matrix(features);
  check_sizes(1, x.d, threads);
  py::gil_scoped_release release;
  return read(x, threads);
}

}  // namespace
}  // namespace ncharness

#ifdef NCHARNESS_CUDA
void bind_cuda(py::module_& m);  // bindings_cuda.cpp
#endif

PYBIND11_MODULE(_core, m) {
  m.doc() = "Class statistics and class scores of feature matrices; ncharness.kernels.cpu is the way in.";
  // Outputs: count (C,), mean (C, d), scatter (C,).
  m.def("class_stats", &ncharness::py_class_stats<ncharness::class_stats>);
  m.def("add_rows", &ncharness::py_class_stats<ncharness::add_rows>);
  m.def("measure", &ncharness::py_measure);
  py::class_<ncharness::Centres>(m, "Centres").def(py::init(&ncharness::py_centres));
  m.def("class_scores", &ncharness::py_class_scores);  // outputs: nearest (n,); gram, directional (C, C)
  m.def("cdnv", &ncharness::py_cdnv);
  m.def("read", &ncharness::py_read);
#ifdef NCHARNESS_CUDA
  bind_cuda(m);
#endif
  m.def("levels", [] {
    py::list names;
    for (const char* name : ncharness::levels()) names.append(name);
    return names;
  });
  m.def("level", &ncharness::level);
  m.def("set_level", [](const std::string& name) { ncharness::set_level(name.c_str()); });
}
