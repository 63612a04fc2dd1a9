#pragma once

#include "cuda_runtime_api.h"

struct __half {
  _Float16 value;
  __half() = default;
  __half(float from) : value(static_cast<_Float16>(from)) {}
};
inline float __half2float(__half from) { return static_cast<float>(from.value); }
