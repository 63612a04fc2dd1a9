// Arrays that are aligned to a cache line (64 bytes). buffer() does not initialise them, so pages that are never
// written use no physical memory.
#pragma once

#include <algorithm>
#include <cstdint>
#include <memory>
#include <new>

namespace ncharness {

struct AlignedDelete {
  void operator()(void* p) const { ::operator delete(p, std::align_val_t{64}); }
};

template <class T>
using Buffer = std::unique_ptr<T[], AlignedDelete>;

template <class T>
Buffer<T> buffer(int64_t size) {
  return Buffer<T>(static_cast<T*>(::operator new(static_cast<size_t>(size) * sizeof(T), std::align_val_t{64})));
}

// A buffer whose elements are all 0.
template <class T>
Buffer<T> zeros(int64_t size) {
  Buffer<T> filled = buffer<T>(size);
  std::fill_n(filled.get(), size, T{0});
  return filled;
}

}  // namespace ncharness
