// Throws std::invalid_argument with `message` unless `condition` holds. pybind11 converts the exception to ValueError.
#pragma once

#include <stdexcept>
#include <string>

namespace ncharness {

inline void check(bool condition, const std::string& message) {
  if (!condition) throw std::invalid_argument(message);
}

}  // namespace ncharness
