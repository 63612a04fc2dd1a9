#pragma once

#include "cuda_runtime_api.h"

struct __nv_bfloat16 {
  uint16_t bits;
  __nv_bfloat16() = default;
  __nv_bfloat16(float from) {
    uint32_t whole = 0;
    std::memcpy(&whole, &from, sizeof(whole));
    if (from == from) whole += 0x7fff + (whole >> 16 & 1);  // to the nearest, ties to even
    bits = static_cast<uint16_t>(whole >> 16 | (from == from ? 0 : 0x40));
  }
};
inline float __bfloat162float(__nv_bfloat16 from) {
  const uint32_t whole = static_cast<uint32_t>(from.bits) << 16;
  float value = 0;
  std::memcpy(&value, &whole, sizeof(value));
  return value;
}
