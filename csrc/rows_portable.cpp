// The row loops, compiled for any processor.
#define KERNELS rows_portable
#define LEVEL "portable"
#define LANES 2
#define ROWS 2
#define CLASSES 2
#include "rows.inl"
