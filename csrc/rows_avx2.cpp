// The row loops for processors with AVX2, FMA and F16C.
#define KERNELS rows_avx2
#define LEVEL "avx2"
#define LANES 4
#define CLASSES 6
#include "rows.inl"
