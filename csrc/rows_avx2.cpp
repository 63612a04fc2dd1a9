// The row loops for processors with AVX2 and FMA.
#define KERNELS rows_avx2
#define LEVEL "avx2"
#define LANES 4
#define ROWS 4
#define CLASSES 2
#include "rows.inl"
