// Row kernels (rows.inl) compiled for AVX2, FMA and F16C: vectors of 4 doubles or 8 floats, 16 vector registers.
#define KERNELS rows_avx2
#define LEVEL "avx2"
#define LANES 4
#define CLASSES 6
#include "rows.inl"
