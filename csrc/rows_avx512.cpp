// The row loops for processors with AVX-512.
#define KERNELS rows_avx512
#define LEVEL "avx512"
#define LANES 8
#define CLASSES 12
#include "rows.inl"
