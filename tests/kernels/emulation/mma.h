// Matrices of 16 x 16 that the lanes of a warp hold together: of an operand each has all, of an accumulator eight
// elements. Products are exact and added in float32, which is more accurate than the cores are.
#pragma once

#include "cuda_bf16.h"

namespace nvcuda::wmma {

struct matrix_a {};
struct matrix_b {};
struct accumulator {};
struct row_major {};
struct col_major {};
enum layout_t { mem_row_major };

template <class Use, int M, int N, int K, class T, class Layout = void>
struct fragment {
  T value[16][16];  // [row or class][column]
};
template <class T>
struct fragment<accumulator, 16, 16, 16, T, void> {
  static constexpr int num_elements = 8;  // of the lane
  T x[num_elements];
};

inline int lane() { return emulation::block.current % 32; }

template <class T>
void fill_fragment(fragment<accumulator, 16, 16, 16, T>& to, T with) {
  for (T& value : to.x) value = with;
}

template <class Use, class T, class Layout>
void load_matrix_sync(fragment<Use, 16, 16, 16, T, Layout>& to, const T* from, unsigned stride) {
  if (reinterpret_cast<uintptr_t>(from) % 32 != 0 || stride % 8 != 0) std::abort();  // as the cores demand
  for (unsigned i = 0; i < 16; ++i)
    for (unsigned k = 0; k < 16; ++k) to.value[i][k] = from[i * stride + k];
}

template <class T, class Rows, class Classes>
void mma_sync(fragment<accumulator, 16, 16, 16, float>& to, const fragment<matrix_a, 16, 16, 16, T, Rows>& a,
              const fragment<matrix_b, 16, 16, 16, T, Classes>& b,
              const fragment<accumulator, 16, 16, 16, float>& plus) {
  for (int i = 0; i < 8; ++i) {
    const int row = lane() / 2, column = lane() % 2 * 8 + i;
    float sum = plus.x[i];
    for (int k = 0; k < 16; ++k) sum += __bfloat162float(a.value[row][k]) * __bfloat162float(b.value[column][k]);
    to.x[i] = sum;
  }
}

inline void store_matrix_sync(float* to, const fragment<accumulator, 16, 16, 16, float>& from, unsigned stride,
                              layout_t) {
  if (reinterpret_cast<uintptr_t>(to) % 32 != 0 || stride % 4 != 0) std::abort();
  for (unsigned i = 0; i < 8; ++i)
    to[static_cast<unsigned>(lane() / 2) * stride + static_cast<unsigned>(lane() % 2) * 8 + i] = from.x[i];
}

}  // namespace nvcuda::wmma
