// The only file that knows Python: addresses and sizes in, numpy arrays out, the GIL released around the
// work.
#include <pybind11/numpy.h>
#include <pybind11/pybind11.h>

#include <algorithm>
#include <cstdint>
#include <string>
#include <tuple>

#include "check.hpp"
#include "class_stats.hpp"

namespace py = pybind11;

namespace ncharness {
namespace {

// (address, dtype code, n, d, row stride in elements): what numpy arrays and torch tensors both can say of
// themselves.
using Address = std::tuple<uintptr_t, int, int64_t, int64_t, int64_t>;

Matrix matrix(const Address& address) {
  const auto [data, dtype, n, d, row_stride] = address;
  check(dtype == 0 || dtype == 1, "features: unknown dtype code " + std::to_string(dtype));
  check(n >= 0 && d >= 1 && row_stride >= 0,
        "features: expected n >= 0, d >= 1 and a row stride >= 0, got n = " + std::to_string(n) +
            ", d = " + std::to_string(d) + ", row stride = " + std::to_string(row_stride));
  check(n == 0 || data != 0, "features: the address is null");
  return {reinterpret_cast<const void*>(data), static_cast<DType>(dtype), n, d, row_stride};
}

Labels checked_labels(uintptr_t address, int64_t n, int64_t n_classes) {
  check(n == 0 || address != 0, "labels: the address is null");
  const Labels y = reinterpret_cast<Labels>(address);
  const int64_t bad = first_bad_label(y, n, n_classes);
  check(bad < 0, "labels: expected values in [0, " + std::to_string(n_classes) + "), got " +
                     (bad < 0 ? "" : std::to_string(y[bad])) + " at index " + std::to_string(bad));
  return y;
}

void check_sizes(int64_t n_classes, int threads) {
  check(n_classes >= 1, "n_classes: expected at least 1, got " + std::to_string(n_classes));
  check(threads >= 1, "threads: expected at least 1, got " + std::to_string(threads));
}

py::tuple py_class_sums(const Address& features, uintptr_t labels, int64_t n_classes, int threads) {
  check_sizes(n_classes, threads);
  const Matrix x = matrix(features);
  py::array_t<int64_t> count(n_classes);
  py::array_t<double> sum({n_classes, x.d});
  const ClassSums out = {count.mutable_data(), sum.mutable_data()};
  {
    py::gil_scoped_release release;
    class_sums(x, checked_labels(labels, x.n, n_classes), n_classes, threads, out);
  }
  return py::make_tuple(count, sum);
}

py::tuple py_class_scores(const Address& features, uintptr_t labels,
                          const py::array_t<double, py::array::c_style>& mean, bool want_nearest, bool gram,
                          int threads) {
  check(mean.ndim() == 2, "mean: expected shape (n_classes, d), got " + std::to_string(mean.ndim()) + " dimensions");
  const int64_t n_classes = mean.shape(0);
  check_sizes(n_classes, threads);
  const Matrix x = matrix(features);
  check(mean.shape(1) == x.d,
        "mean: expected " + std::to_string(x.d) + " columns as in features, got " + std::to_string(mean.shape(1)));
  check(labels != 0 || x.n == 0 || !gram, "gram: needs labels");
  const int64_t side = gram ? n_classes : 0;
  py::array_t<int64_t> nearest(want_nearest ? x.n : 0);
  py::array_t<double> scatter(n_classes), gram_out({side, side}), directional({side, side});
  const ClassScores out = {want_nearest ? nearest.mutable_data() : nullptr, scatter.mutable_data(),
                           gram ? gram_out.mutable_data() : nullptr, gram ? directional.mutable_data() : nullptr};
  const double* means = mean.data();
  {
    py::gil_scoped_release release;
    const Labels y = labels == 0 ? nullptr : checked_labels(labels, x.n, n_classes);
    class_scores(x, y, n_classes, means, threads, out);
    if (!y) std::fill_n(out.scatter, n_classes, 0.0);
  }
  return py::make_tuple(nearest, scatter, gram_out, directional);
}

}  // namespace
}  // namespace ncharness

PYBIND11_MODULE(_core, m) {
  m.doc() = "Class sums and class scores of feature matrices; ncharness.ops is the way in.";
  m.def("class_sums", &ncharness::py_class_sums);  // -> count (C,), sum (C, d)
  m.def("class_scores",
        &ncharness::py_class_scores);  // -> nearest (n,), scatter (C,), gram, directional (C, C)
  m.def("levels", [] {
    py::list names;
    for (const char* name : ncharness::levels()) names.append(name);
    return names;
  });
  m.def("level", &ncharness::level);
  m.def("set_level", [](const std::string& name) { ncharness::set_level(name.c_str()); });
}
