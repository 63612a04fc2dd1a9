// Row kernels (rows.inl) compiled for AVX-512: vectors of 8 doubles or 16 floats, 32 vector registers.
#define KERNELS rows_avx512
#define LEVEL "avx512"
#define LANES 8
#define CLASSES 12
#include "rows.inl"
