// Converts array descriptions that come from Python to the views of class_stats.hpp. Invalid descriptions raise an
// exception that names the argument.
#pragma once

#include <cstdint>
#include <string>
#include <tuple>

#include "check.hpp"
#include "class_stats.hpp"

namespace ncharness {

// Descriptions that both numpy arrays and torch tensors can provide.
// Features: (address, dtype code, n, d, row stride in elements). Classes (labels): (address, type code).
using Features = std::tuple<uintptr_t, int, int64_t, int64_t, int64_t>;
using Classes = std::tuple<uintptr_t, int>;

// Address as a pointer to T, after a check of its alignment. Null is allowed.
template <class T>
T* at(uintptr_t address, const char* name) {
  check(address % alignof(T) == 0, std::string(name) + ": the address is not aligned");
  return reinterpret_cast<T*>(address);
}

inline Matrix matrix(const Features& features) {
  const auto [data, dtype, n, d, row_stride] = features;
  check(dtype >= 0 && dtype <= 3, "features: unknown dtype code " + std::to_string(dtype));
  check(n >= 0 && d >= 1 && row_stride >= 0,
        "features: expected n >= 0, d >= 1 and a row stride >= 0, got n = " + std::to_string(n) +
            ", d = " + std::to_string(d) + ", row stride = " + std::to_string(row_stride));
  check(n == 0 || data != 0, "features: the address is null");
  const int64_t size = dtype == 0 ? 4 : dtype == 1 ? 8 : 2;
  check(data % static_cast<uintptr_t>(size) == 0, "features: the address is not aligned");
  return {reinterpret_cast<const void*>(data), static_cast<DType>(dtype), n, d, row_stride};
}

inline Labels labels(const Classes& classes, int64_t n) {
  const auto [data, type] = classes;
  check(type >= 0 && type <= 2, "labels: unknown type code " + std::to_string(type));
  check(n == 0 || data != 0, "labels: the address is null");
  const uintptr_t size = type == 0 ? 8 : type == 1 ? 4 : 1;
  check(data % size == 0, "labels: the address is not aligned");
  return {reinterpret_cast<const void*>(data), static_cast<LabelType>(type)};
}

inline void check_sizes(int64_t n_classes, int64_t d, int threads) {
  check(n_classes >= 1 && n_classes <= INT32_MAX, "n_classes: expected at least 1, got " + std::to_string(n_classes));
  check(d >= 1 && d <= INT64_MAX / 64 / n_classes,
        "mean: expected d >= 1 and fewer than 2^57 elements, got d = " + std::to_string(d));
  check(threads >= 1, "threads: expected at least 1, got " + std::to_string(threads));
}

inline ClassStats stats(uintptr_t count, uintptr_t mean, uintptr_t scatter) {
  check(count != 0 && mean != 0 && scatter != 0, "stats: an address is null");
  return {at<int64_t>(count, "count"), at<double>(mean, "mean"), at<double>(scatter, "scatter")};
}

}  // namespace ncharness
