// The row loops for any processor.
#define KERNELS rows_portable
#define LEVEL "portable"
#define LANES 2
#define CLASSES 4
#include "rows.inl"
