// Row kernels (rows.inl) compiled for the baseline of the target: vectors of 2 doubles or 4 floats.
#define KERNELS rows_portable
#define LEVEL "portable"
#define LANES 2
#define CLASSES 4
#include "rows.inl"
