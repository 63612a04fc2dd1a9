// A condition and the message of the exception that it raises; pybind11 turns std::invalid_argument into
// ValueError.
#pragma once

#include <stdexcept>
#include <string>

namespace ncharness {

inline void check(bool condition, const std::string& message) {
  if (!condition) throw std::invalid_argument(message);
}

}  // namespace ncharness
